/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * VTL call and VTL return: what both the engine and the library's hot path must agree on. Pure
 * functions of registers and of VTL1's assist page.
 */

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "vtl/hvdef.h"

#define VTL_RETURN_FAST 1ull

/* CPL of a vCPU: SS.DPL, which is CPL in every mode. */
static inline unsigned vtl_cpl(const struct kvm_sregs *s) {
        return s->ss.dpl;
}
/* The 64-bit convention holds (vsm.md 2.1). */
static inline bool vtl_long_mode(const struct kvm_sregs *s) {
        return (s->efer & (1u << 10)) && s->cs.l;
}

/**
 * vtl_switch_legal() - whether a VTL call or return may take place (vsm.md 6.1), except for the
 * state of the VTLs
 * @is_return: VTL return
 * @ret_input: the control input: RAX, or ECX for 32-bit code
 *
 * Return: true; false means #UD with nothing changed.
 */
bool vtl_switch_legal(const struct kvm_regs *regs, const struct kvm_sregs *sregs, bool is_return,
                      uint64_t *ret_input);

/* Whether the control input is one that VTL call or return takes (vsm.md 6.1). */
bool vtl_switch_input_legal(bool is_return, uint64_t input);

/* VTL1's assist page on entry. @regs: the shared registers, saved for the guest on an interrupt
 * (vsm.md 11.13). */
void vtl_assist_enter(struct hv_vp_assist_page *assist, enum hv_vtl_entry_reason reason,
                      const struct kvm_regs *regs, uint64_t vina);

/* VTL1's assist page on return: VINA auto reset; RAX and RCX (32-bit: EAX, ECX, EDX) of VTL0 when
 * not fast. */
void vtl_assist_leave(struct hv_vp_assist_page *assist, bool fast, bool long_mode,
                      struct kvm_regs *regs, uint64_t vina);
