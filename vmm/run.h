/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The parts of vtlvmm_run() */

#include "vmm/internal.h"
#include "vtl/hvdef.h"

/* ---- run-thread.c ---- */

/* Makes the calling thread the one that runs the vCPU, once. 0 or a negative errno, with a text. */
int vtlvmm_thread_set_up(struct vtlvmm_vcpu *c);
/* Takes what has come to get the thread out of the guest. */
void vtlvmm_thread_drain_kicks(struct vtlvmm_vcpu *c);

/* ---- run-gate.c ---- */

/* Until a kick, a signal of the VMM's, or @ns later. 0, or -EINTR for the VMM's signal. */
int vtlvmm_gate_poll(struct vtlvmm_vcpu *c, long ns);
/* Before KVM_RUN: 1 when the guest may be entered; 0 when the VP was kicked while it must not be,
 * and may only finish its pending instruction; or a negative errno. Afterwards vtlvmm_gate_leave().
 */
int vtlvmm_gate_enter(struct vtlvmm_vcpu *c);
/* The same without waiting: whether there is an entry at all. */
bool vtlvmm_gate_try(struct vtlvmm_vcpu *c);
void vtlvmm_gate_leave(struct vtlvmm_vcpu *c);

/* ---- run-vina.c ---- */

/* VTL1 runs, and is to be told of interrupts for VTL0. */
static inline bool vtlvmm_vina_wanted(const struct vtlvmm_vcpu *c) {
        return c->vp->active == 1 && (c->vp->ctl->vina & HV_VINA_ENABLED);
}
/* Makes the next KVM_RUN return when it is time to look; 0 or a negative errno. */
int vtlvmm_vina_arm(struct vtlvmm_vcpu *c);
/* The next entry of VTL1 is a new one, at which the engine looks itself or VTL0 has just taken what
 * was there. */
void vtlvmm_vina_begin(struct vtlvmm_vcpu *c);
/* At an instruction boundary of VTL1: an enum vtl_look, or a negative errno with a text. */
int vtlvmm_vina_look(struct vtlvmm_vcpu *c);

/* ---- run-exit.c ---- */

enum vtlvmm_exit_owner {
        VTLVMM_EXIT_OF_VMM,
        VTLVMM_EXIT_OF_ENGINE,
        VTLVMM_EXIT_OF_NOBODY
};

/**
 * vtlvmm_exit_owner() - whose exit it is
 * @r: what KVM_RUN has answered, 0 or a negative errno
 * @e: for the engine, filled in where it is the engine's
 */
enum vtlvmm_exit_owner vtlvmm_exit_owner(struct vtlvmm_vcpu *c, int r, struct vtl_exit *e);
/* An exit made in VTL1 is the VMM's: shows it in VTL0's kvm_run; and takes from there what the VMM
 * has answered. */
void vtlvmm_exit_show(struct vtlvmm_vcpu *c);
void vtlvmm_exit_take_answer(struct vtlvmm_vcpu *c);
