/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whose an exit of a plane is, and how the VMM, which knows VTL0's kvm_run only, sees VTL1's. */

#include "util/util.h"
#include "vmm/run.h"
#include "vtl/hvpage.h"

#define IO_DATA_MAX 4096u

/* ---- Exits made in VTL1 that are the VMM's: it knows only VTL0's kvm_run ---- */

static size_t io_bytes(const struct kvm_run *run) {
        return MIN((size_t) run->io.size * run->io.count, (size_t) IO_DATA_MAX);
}

void vtlvmm_exit_show(struct vtlvmm_vcpu *c) {
        struct kvm_run *to = c->vp->plane[0].run, *from = c->vp->plane[1].run;

        to->exit_reason = from->exit_reason;
        memcpy(to->padding, from->padding, sizeof(to->padding));
        if (from->exit_reason == KVM_EXIT_IO) {
                to->io.data_offset = 0;
                /* The data page lies at the same place in both kvm_run areas. */
                to->io.data_offset = from->io.data_offset;
                memcpy((uint8_t *) to + to->io.data_offset, (uint8_t *) from + from->io.data_offset,
                       io_bytes(from));
        }
        c->shown = true;
}

void vtlvmm_exit_take_answer(struct vtlvmm_vcpu *c) {
        struct kvm_run *from = c->vp->plane[0].run, *to = c->vp->plane[1].run;

        c->shown = false;
        switch (to->exit_reason) {
        case KVM_EXIT_IO:
                if (to->io.direction == KVM_EXIT_IO_IN)
                        memcpy((uint8_t *) to + to->io.data_offset,
                               (uint8_t *) from + to->io.data_offset, io_bytes(to));
                break;
        case KVM_EXIT_MMIO:
                if (!to->mmio.is_write)
                        memcpy(to->mmio.data, from->mmio.data, sizeof(to->mmio.data));
                break;
        case KVM_EXIT_X86_RDMSR:
        case KVM_EXIT_X86_WRMSR:
                to->msr.error = from->msr.error;
                to->msr.data = from->msr.data;
                break;
        default:
                break;
        }
}

/* ---- Whose exit is it? ---- */

/* Whether VTL1 intercepts VTL0's access to a port, or to one of those beside it that it covers. */
static bool port_is_intercepted(const struct vtlvmm_vcpu *c, const struct kvm_run *run) {
        const struct plane_port_filter *f = atomic_load(&c->vtlvmm->planes.port_filter);
        const uint8_t *bitmap;

        if (!f)
                return false;
        bitmap = run->io.direction == KVM_EXIT_IO_IN ? f->in : f->out;
        for (unsigned i = 0; i < run->io.size; i++)
                if (run->io.port + i <= UINT16_MAX && plane_bit(bitmap, run->io.port + i))
                        return true;
        return false;
}

static enum vtlvmm_exit_owner classify_io(struct vtlvmm_vcpu *c, struct kvm_run *run,
                                          struct vtl_exit *e) {
        if (e->plane == 0 && port_is_intercepted(c, run)) {
                e->kind = VTL_EXIT_PORT;
                e->port = run->io.port;
                e->len = run->io.size;
                e->data = run->io.count;
                e->is_write = run->io.direction == KVM_EXIT_IO_OUT;
                return VTLVMM_EXIT_OF_ENGINE;
        }
        if (run->io.direction != KVM_EXIT_IO_OUT || run->io.size != 1 || run->io.count != 1 ||
            !hvpage_is_port(run->io.port) ||
            hvpage_out_offset(run->io.port, run->s.regs.regs.rip) < 0)
                return VTLVMM_EXIT_OF_VMM;
        e->kind = VTL_EXIT_HYPERCALL;
        e->port = run->io.port;
        return VTLVMM_EXIT_OF_ENGINE;
}

static enum vtlvmm_exit_owner classify_mmio(struct vtlvmm_vcpu *c, struct kvm_run *run,
                                            struct vtl_exit *e) {
        uint64_t gpa = run->mmio.phys_addr;

        /* RAM that KVM emulates an access to, or VTL1's APIC: never the VMM's (design section 6).
         */
        if (!plane_stock_ram(&c->vtlvmm->planes, gpa) &&
            !(e->plane == 1 &&
              gpa >> HV_PAGE_SHIFT == run->s.regs.sregs.apic_base >> HV_PAGE_SHIFT))
                return VTLVMM_EXIT_OF_VMM;
        e->kind = VTL_EXIT_MMIO;
        e->gpa = gpa;
        e->len = MIN(run->mmio.len, (uint32_t) sizeof(run->mmio.data));
        e->is_write = run->mmio.is_write != 0;
        if (e->is_write)
                memcpy(&e->data, run->mmio.data, e->len);
        return VTLVMM_EXIT_OF_ENGINE;
}

static bool msr_is_intercepted(const struct vtlvmm_vcpu *c, uint32_t msr, bool is_write) {
        const struct plane_msr_filter *f = &c->vtlvmm->planes.msr_filter;
        int bit = plane_msr_bit(msr);

        return bit >= 0 && plane_bit(is_write ? f->write[0] : f->read[0], (unsigned) bit);
}

static enum vtlvmm_exit_owner classify_msr(struct vtlvmm_vcpu *c, struct kvm_run *run,
                                           struct vtl_exit *e) {
        bool is_write = run->exit_reason == KVM_EXIT_X86_WRMSR;

        if (e->plane == 0 && (run->msr.index < HV_MSR_FIRST || run->msr.index > HV_MSR_LAST) &&
            !msr_is_intercepted(c, run->msr.index, is_write))
                return VTLVMM_EXIT_OF_VMM;
        e->kind = is_write ? VTL_EXIT_WRMSR : VTL_EXIT_RDMSR;
        e->msr = run->msr.index;
        e->data = run->msr.data;
        return VTLVMM_EXIT_OF_ENGINE;
}

enum vtlvmm_exit_owner vtlvmm_exit_owner(struct vtlvmm_vcpu *c, int r, struct vtl_exit *e) {
        struct stock_vp *vp = c->vp;
        struct kvm_run *run = vp->plane[vp->active].run;

        *e = (struct vtl_exit){ .plane = vp->active,
                                .if_flag = run->if_flag,
                                .ready_for_injection = run->ready_for_interrupt_injection,
                                .cr8 = (uint8_t) run->cr8 };
        if (r == -EFAULT) {
                e->kind = VTL_EXIT_FAULT;
                return VTLVMM_EXIT_OF_ENGINE;
        }
        if (r < 0)
                return VTLVMM_EXIT_OF_VMM;
        switch (run->exit_reason) {
        case KVM_EXIT_IO:
                return classify_io(c, run, e);
        case KVM_EXIT_MMIO:
                return classify_mmio(c, run, e);
        case KVM_EXIT_X86_RDMSR:
        case KVM_EXIT_X86_WRMSR:
                return classify_msr(c, run, e);
        case KVM_EXIT_HLT:
                e->kind = VTL_EXIT_HALT;
                break;
        case KVM_EXIT_SET_TPR:
                if (vp->active == 1 && vp->ctl->lapic_idle)
                        return VTLVMM_EXIT_OF_NOBODY; /* nothing waits for the lower priority */
                e->kind = VTL_EXIT_TPR;
                break;
        case KVM_EXIT_DEBUG:
                if (vp->active != 1 || !c->stepping)
                        return VTLVMM_EXIT_OF_VMM;
                if (!e->if_flag || !e->ready_for_injection)
                        return VTLVMM_EXIT_OF_NOBODY;
                e->kind = VTL_EXIT_IRQ_WINDOW;
                break;
        case KVM_EXIT_IRQ_WINDOW_OPEN:
                e->kind = VTL_EXIT_IRQ_WINDOW;
                break;
        default:
                return VTLVMM_EXIT_OF_VMM;
        }
        return vp->active == 1 ? VTLVMM_EXIT_OF_ENGINE : VTLVMM_EXIT_OF_VMM;
}
