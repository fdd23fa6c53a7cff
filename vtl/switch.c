/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/switch.h"

#define CR0_PE 1u
#define RFLAGS_VM (1u << 17)

bool vtl_switch_input_legal(bool is_return, uint64_t input) {
        return is_return ? (input & ~VTL_RETURN_FAST) == 0 : input == 0;
}

bool vtl_switch_legal(const struct kvm_regs *regs, const struct kvm_sregs *sregs, bool is_return,
                      uint64_t *ret_input) {
        uint64_t code = is_return ? HVCALL_VTL_RETURN : HVCALL_VTL_CALL, control, input;

        if (vtl_cpl(sregs) != 0 || !(sregs->cr0 & CR0_PE) || (regs->rflags & RFLAGS_VM))
                return false;
        if (vtl_long_mode(sregs)) {
                control = regs->rcx;
                input = regs->rax;
        } else {
                control = (regs->rdx & 0xffffffffu) << 32 | (regs->rax & 0xffffffffu);
                input = regs->rcx & 0xffffffffu;
        }
        if (control != code || !vtl_switch_input_legal(is_return, input))
                return false;
        *ret_input = input;
        return true;
}

void vtl_assist_enter(struct hv_vp_assist_page *assist, enum hv_vtl_entry_reason reason,
                      const struct kvm_regs *regs, uint64_t vina) {
        struct hv_vp_vtl_control *c = &assist->vtl_control;

        if (vina & HV_VINA_AUTO_RESET)
                c->vina_status &= (uint8_t) ~1u;
        c->entry_reason = reason;
        if (reason == HV_VTL_ENTRY_INTERRUPT) {
                c->vtl_return_x64_rax = regs->rax;
                c->vtl_return_x64_rcx = regs->rcx;
        }
}

void vtl_assist_leave(struct hv_vp_assist_page *assist, bool fast, bool long_mode,
                      struct kvm_regs *regs, uint64_t vina) {
        struct hv_vp_vtl_control *c = &assist->vtl_control;

        if (vina & HV_VINA_AUTO_RESET)
                c->vina_status &= (uint8_t) ~1u;
        if (fast)
                return;
        if (long_mode) {
                regs->rax = c->vtl_return_x64_rax;
                regs->rcx = c->vtl_return_x64_rcx;
        } else {
                /* vsm.md 6.5: EAX and ECX lie in the first field, EDX in the second. */
                regs->rax = (uint32_t) c->vtl_return_x64_rax;
                regs->rcx = (uint32_t) (c->vtl_return_x64_rax >> 32);
                regs->rdx = (uint32_t) c->vtl_return_x64_rcx;
        }
}
