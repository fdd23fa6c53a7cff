/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Plane operations from another process: only the VMM's own address space may use its KVM fds, so
 * the worker asks the VP's thread in the VMM, which waits for the worker at that moment. Kicks go
 * through the VP's pipe.
 */

#include "vtl/mailbox.h"
#include "vtl/plane.h"

struct plane_remote {
        void *control;
        const int *kick_fds; /* by VP: write ends */
        unsigned vps;
        struct mailbox_spin spin[VTL_MAX_VPS];
        int failed[VTL_MAX_VPS]; /* by VP: what was posted before the operation that is due */
        /* By VP: as it was last read */
        struct kvm_xsave fpu[VTL_MAX_VPS];
        bool fpu_known[VTL_MAX_VPS];
};

extern const struct plane_ops plane_remote_ops; /* ctx is a struct plane_remote */

/**
 * plane_remote_serve() - the other end: carry out an operation with a local backend
 * @ops: the backend
 * @ctx: its context
 * @vp: the VP whose mailbox this is
 * @op: in shared memory, written by the other process
 *
 * Return: the operation's result; -EINVAL for a request that is out of range.
 */
int plane_remote_serve(const struct plane_ops *ops, void *ctx, unsigned vp, struct vtl_op *op);

/**
 * plane_remote_give() - the other end, before an exit is handed over: what the engine will ask for
 * @plane: the active one
 * @ctl: with the exit and the registers
 *
 * The FPU, where a hypercall seems to have parameters in XMM registers. What is not given, or given
 * in vain, costs time only.
 */
void plane_remote_give(const struct plane_ops *ops, void *ctx, unsigned vp, unsigned plane,
                       struct vtl_control_vp *ctl);
