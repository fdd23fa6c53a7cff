/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The parts of vtlvmm_run() */

#include "vmm/internal.h"

/* ---- run-thread.c ---- */

/* Makes the calling thread the one that runs the vCPU, once. 0 or a negative errno, with a text. */
int vtlvmm_thread_set_up(struct vtlvmm_vcpu *c);
/* Has the engine look, in a while, whether VTL0 could take an interrupt. 0 or a negative errno. */
int vtlvmm_thread_arm_tick(struct vtlvmm_vcpu *c);
/* Takes what has come to get the thread out of the guest. */
void vtlvmm_thread_drain_kicks(struct vtlvmm_vcpu *c);

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
