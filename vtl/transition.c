/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Moving a VP between its levels, as the engine does it: first entry from the latched context,
 * entry reasons, return, and what is delivered on the way.
 */

#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/hvpage.h"
#include "vtl/measure.h"
#include "vtl/memory.h"
#include "vtl/probes.h"
#include "vtl/segment.h"
#include "vtl/switch.h"
#include "vtl/tlb.h"

#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define CR0_PG (1ull << 31)
#define PAT_RESET 0x0007040600070406ull

static struct hv_vp_assist_page *assist_page(struct vtl_vp *vp) {
        return (struct hv_vp_assist_page *) (void *) vtl_overlay_data(
                vp->partition, vtl_overlay_page(VTL_OVERLAY_ASSIST, vp->index, 1));
}

/* VTL1's registers from the context of EnableVpVtl; the rest of its private state is at reset
 * (vsm.md 5.2). */
static int apply_context(struct vtl_vp *vp, unsigned vtl, const struct hv_initial_vp_context *c) {
        struct vtl_partition *p = vp->partition;
        struct plane_msr pat = { .index = 0x277,
                                 .value = c->msr_cr_pat ? c->msr_cr_pat : PAT_RESET };
        struct kvm_sregs s;
        struct kvm_regs regs;
        int r;

        r = vtl_op(p, get, vtl, PLANE_SREGS, &s, sizeof(s));
        if (r < 0)
                return r;
        s.cs = vtl_segment_to_kvm(&c->cs);
        s.ds = vtl_segment_to_kvm(&c->ds);
        s.es = vtl_segment_to_kvm(&c->es);
        s.fs = vtl_segment_to_kvm(&c->fs);
        s.gs = vtl_segment_to_kvm(&c->gs);
        s.ss = vtl_segment_to_kvm(&c->ss);
        s.tr = vtl_segment_to_kvm(&c->tr);
        s.ldt = vtl_segment_to_kvm(&c->ldtr);
        if (!s.tr.present)
                s.tr = (struct kvm_segment){ .limit = 0xffff, .type = 0xb, .present = 1 };
        s.tr.type |= 2; /* a CPU runs on a busy TSS only */
        s.tr.s = 0;
        s.tr.unusable = 0;
        s.idt = (struct kvm_dtable){ .base = c->idtr.base, .limit = c->idtr.limit };
        s.gdt = (struct kvm_dtable){ .base = c->gdtr.base, .limit = c->gdtr.limit };
        s.cr0 = c->cr0 | 0x10; /* ET is fixed to 1 */
        s.cr3 = c->cr3;
        s.cr4 = c->cr4;
        s.cr8 = 0;
        s.efer = c->efer;
        if ((s.cr0 & CR0_PG) && (s.efer & EFER_LME))
                s.efer |= EFER_LMA;
        memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
        r = vtl_op(p, set, vtl, PLANE_SREGS, &s, sizeof(s));
        if (r < 0)
                return r;
        r = vtl_op(p, set, vtl, PLANE_MSRS, &pat, sizeof(pat));
        if (r < 0)
                return r;
        regs = vp->ctl->regs; /* general registers are shared: whatever VTL0 had */
        regs.rip = c->rip;
        regs.rsp = c->rsp;
        regs.rflags = c->rflags | 2;
        return vtl_op(p, set, vtl, PLANE_REGS, &regs, sizeof(regs));
}

int vtl_apply_context(struct vtl_vp *vp) {
        return apply_context(vp, 1, &vp->context);
}

/*
 * StartVirtualProcessor, on the thread of the VP that starts. The highest level runs first, as if
 * VTL0's first instruction were a VTL call.
 */
int vtl_start(struct vtl_vp *vp) {
        const struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
        struct vtl_partition *p = vp->partition;
        int r = 0;

        if (!vp->start_pending)
                return 0;
        vp->start_pending = false;
        if (vp->start_vtl0) {
                r = vtl_op(p, set, 0, PLANE_MP_STATE, &runnable, sizeof(runnable));
                if (r == 0)
                        r = apply_context(vp, 0, &vp->start_context);
        }
        if (r == 0 && (vp->enabled_vtls & 2u))
                r = vtl_enter_vtl1(vp, HV_VTL_ENTRY_VTL_CALL);
        if (r == VTL_ENTRY_AGAIN) {
                /* Not in VTL0 meanwhile: it comes back before its first instruction. */
                vp->start_pending = true;
                return p->config.ops->kick(p->config.ops_ctx, vp->index);
        }
        if (r == VTL_ENTRY_REFUSED)
                r = 0; /* there is VTL0 only */
        if (r == -EINVAL) {
                vp->ctl->action.kind = VTL_ACTION_SHUTDOWN; /* no CPU runs on such a context */
                return 0;
        }
        return r;
}

int vtl_enter_vtl1(struct vtl_vp *vp, enum hv_vtl_entry_reason reason) {
        struct vtl_partition *p = vp->partition;
        uint64_t left = vp->ctl->regs.rip;
        enum vtl_switch_reason why;
        int r;

        if (vp->context_pending) {
                r = vtl_measure_entry(vp);
                if (r != 0)
                        return r;
                r = vtl_apply_context(vp);
                if (r == -EINVAL) {
                        /* No CPU runs on such a context: what a triple fault would be (vsm.md 7.4).
                         */
                        vp->ctl->action.kind = VTL_ACTION_SHUTDOWN;
                        return 0;
                }
                if (r < 0)
                        return r;
                vp->context_pending = false;
        }
        r = vtl_op(p, switch_to, 1, PLANE_SWITCH_EXACT);
        if (r < 0)
                return r;
        vp->active_vtl = 1;
        vp->exact_entry = true;
        vp->halted = false;
        why = reason == HV_VTL_ENTRY_VTL_CALL ? VTL_SWITCH_CALL : VTL_SWITCH_INTERRUPT;
        VTL_PROBE_SWITCH(vp->index, 0, 1, why, 0);
        VTL_TRACE(p->header, vp->ctl, .kind = VTL_TRACE_SWITCH, .to = 1, .detail = (uint16_t) why,
                  .data = left, .extra = vp->ctl->regs.rip);
        vtl_assist_enter(assist_page(vp), reason, &vp->ctl->regs, vp->vina);
        if (reason == HV_VTL_ENTRY_VTL_CALL)
                vp->ctl->stats.vtl_calls++;
        else {
                vp->ctl->stats.interrupt_entries++;
                vp->ctl->suspended_vtls |= 1u;
        }
        return 0;
}

enum exception_class {
        CLASS_BENIGN,
        CLASS_CONTRIBUTORY,
        CLASS_PAGE_FAULT,
        CLASS_DOUBLE_FAULT,
};

static enum exception_class class_of(unsigned vector) {
        switch (vector) {
        case 0: /* DE TS NP SS GP */
        case 10 ... 13:
                return CLASS_CONTRIBUTORY;
        case 14:
                return CLASS_PAGE_FAULT;
        case X86_DF:
                return CLASS_DOUBLE_FAULT;
        default:
                return CLASS_BENIGN;
        }
}

/* An exception while another one waits to be delivered (SDM volume 3A, table 6-5). Return: whether
 * the CPU would shut down. */
static bool merge_exceptions(unsigned first, struct plane_injection *second) {
        enum exception_class a = class_of(first), b = class_of(second->vector);

        if (b == CLASS_BENIGN || a == CLASS_BENIGN)
                return false;
        if (a == CLASS_DOUBLE_FAULT)
                return true;
        if (a == CLASS_CONTRIBUTORY && b == CLASS_PAGE_FAULT)
                return false; /* one after the other */
        second->vector = X86_DF;
        second->has_error_code = 1;
        second->error_code = 0;
        return false;
}

/* A halted VP wakes for it (vsm.md 7.5). */
static int wake_vtl0(struct vtl_vp *vp) {
        const struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
        struct vtl_partition *p = vp->partition;
        struct kvm_mp_state now;
        int r;

        r = vtl_op(p, get, 0, PLANE_MP_STATE, &now, sizeof(now));
        if (r < 0 || now.mp_state != KVM_MP_STATE_HALTED)
                return r;
        return vtl_op(p, set, 0, PLANE_MP_STATE, &runnable, sizeof(runnable));
}

int vtl_deliver_event(struct vtl_vp *vp) {
        struct vtl_partition *p = vp->partition;
        uint64_t event = vp->pending_event0[0];
        struct plane_injection inj = {
                .kind = PLANE_INJECT_EXCEPTION,
                .vector = (uint32_t) (event >> 16 & 0xffff),
                .has_error_code = event >> 8 & 1,
                .error_code = (uint32_t) (event >> 32),
        };
        struct kvm_vcpu_events now;
        int r;

        vp->pending_event0[0] = 0;
        r = vtl_op(p, complete, 0);
        if (r == 0)
                r = wake_vtl0(vp);
        if (r == 0)
                r = vtl_op(p, get, 0, PLANE_EVENTS, &now, sizeof(now));
        if (r < 0)
                return r;
        if ((now.exception.injected || now.exception.pending) &&
            merge_exceptions(now.exception.nr, &inj)) {
                vp->ctl->action.kind = VTL_ACTION_SHUTDOWN;
                return 0;
        }
        if (inj.vector == X86_PF) {
                vp->ctl->sregs.cr2 = vp->pending_event0[1];
                vp->ctl->regs_dirty |= KVM_SYNC_X86_SREGS;
        }
        return vtl_op(p, inject, 0, &inj);
}

int vtl_leave_vtl1(struct vtl_vp *vp, bool fast) {
        struct vtl_partition *p = vp->partition;
        struct kvm_sregs *from = &vp->ctl->sregs;
        enum vtl_switch_reason why = fast ? VTL_SWITCH_FAST_RETURN : VTL_SWITCH_RETURN;
        bool long_mode = vtl_long_mode(from);
        uint64_t left = vp->ctl->regs.rip;
        int r;

        vtl_tlb_unlock(vp);
        r = vtl_op(p, switch_to, 0, PLANE_SWITCH_EXACT);
        if (r < 0)
                return r;
        vp->active_vtl = 0;
        vp->exact_entry = false;
        vp->ctl->suspended_vtls &= ~1u;
        vp->ctl->stats.vtl_returns++;
        VTL_PROBE_SWITCH(vp->index, 1, 0, why, 0);
        VTL_TRACE(p->header, vp->ctl, .kind = VTL_TRACE_SWITCH, .from = 1, .detail = (uint16_t) why,
                  .data = left, .extra = vp->ctl->regs.rip);
        vtl_assist_leave(assist_page(vp), fast, long_mode, &vp->ctl->regs, vp->vina);
        vp->ctl->regs_dirty |= KVM_SYNC_X86_REGS;
        vtl_commit_stores(vp);
        return 0;
}

int vtl_guest_switch(struct vtl_vp *vp, bool is_return, uint64_t input) {
        if (!vtl_switch_input_legal(is_return, input))
                return 1;
        if (is_return)
                return vp->active_vtl == 1 ? vtl_leave_vtl1(vp, input & VTL_RETURN_FAST) : 1;
        if (vp->active_vtl != 0 || !(vp->enabled_vtls & 2u))
                return 1;
        return vtl_enter_vtl1(vp, HV_VTL_ENTRY_VTL_CALL);
}

int vtl_rewind_out(struct vtl_vp *vp, unsigned offset) {
        struct kvm_regs *regs = &vp->ctl->regs;
        int r;

        r = vtl_op(vp->partition, complete, vp->active_vtl);
        if (r < 0)
                return r;
        regs->rip = (regs->rip & ~0xfffull) | offset;
        vp->ctl->regs_dirty |= KVM_SYNC_X86_REGS;
        return 0;
}

int vtl_inject_ud(struct vtl_vp *vp, unsigned offset) {
        struct plane_injection inj = { .kind = PLANE_INJECT_EXCEPTION, .vector = X86_UD };
        int r;

        r = vtl_rewind_out(vp, offset);
        if (r < 0)
                return r;
        return vtl_op(vp->partition, inject, vp->active_vtl, &inj);
}

int vtl_inject_gp(struct vtl_vp *vp) {
        struct plane_injection inj = { .kind = PLANE_INJECT_EXCEPTION,
                                       .vector = X86_GP,
                                       .has_error_code = 1 };

        return vtl_op(vp->partition, inject, vp->active_vtl, &inj);
}
