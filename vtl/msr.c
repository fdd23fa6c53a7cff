/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/hvpage.h"
#include "vtl/reference-time.h"
#include "vtl/stimer.h"
#include "vtl/synic.h"
#include "vtl/tlb.h"

#define MSR_APIC_BASE 0x1b
#define MSR_MCG_STATUS 0x17a
#define MSR_MTRR_VARIABLE_FIRST 0x200
#define MSR_MTRR_VARIABLE_LAST 0x20f
#define MSR_MTRR_FIXED_FIRST 0x250
#define MSR_MTRR_FIXED_LAST 0x26f
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC_FIRST 0x800
#define MSR_X2APIC_LAST 0x8ff
#define RFLAGS_IF (1ull << 9)
#define APIC_FREQUENCY 1000000000ull /* KVM's APIC bus */

/* Handlers: 0, 1 for #GP, or a negative errno. */
struct msr_row {
        uint32_t first, last;
        int (*read)(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret);
        int (*write)(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value);
};

static bool gpn_in_range(const struct vtl_partition *p, uint64_t gpn) {
        return gpn >> (p->phys_bits - HV_PAGE_SHIFT) == 0;
}

static int read_os_id(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = vp->partition->guest_os_id[vtl];
        return 0;
}

/* An MSR that KVM has, too, and that VTL0 does not reach there */
static int tell_kernel(struct vtl_vp *vp, uint32_t msr, uint64_t value) {
        const struct plane_msr m = { .index = msr, .value = value };

        return vtl_op(vp->partition, set, 0, PLANE_MSRS, &m, sizeof(m));
}

static int write_os_id(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        struct vtl_partition *p = vp->partition;
        int r;

        if (value == 0 && (p->hypercall_msr[vtl] & HV_MSR_PAGE_ENABLE)) {
                r = vtl_overlay_set(vp, vtl, VTL_OVERLAY_HYPERCALL, false, 0);
                if (r != 0)
                        return r;
                p->hypercall_msr[vtl] &= ~HV_MSR_PAGE_ENABLE;
        }
        /* KVM serves no hypercall of a guest that has not said who it is. VTL1's vCPUs are not
         * told: KVM knows nothing of their APIC. */
        if (vtl == 0 && p->config.kernel_hypercalls) {
                r = tell_kernel(vp, HV_MSR_GUEST_OS_ID, value);
                if (r < 0)
                        return r;
        }
        p->guest_os_id[vtl] = value;
        p->header->guest_os_id[vtl] = value;
        return 0;
}

static int read_hypercall(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = vp->partition->hypercall_msr[vtl];
        return 0;
}

static int write_hypercall(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        struct vtl_partition *p = vp->partition;
        int r;

        if ((p->hypercall_msr[vtl] & HV_MSR_HYPERCALL_LOCKED) ||
            (value & HV_MSR_HYPERCALL_RESERVED) || !gpn_in_range(p, HV_MSR_PAGE_GPN(value)))
                return 1;
        /* While the guest has not said who it is, the page cannot be enabled. */
        if (p->guest_os_id[vtl] == 0)
                value &= ~HV_MSR_PAGE_ENABLE;
        /* One that is in use is not written again. */
        if (!(p->hypercall_msr[vtl] & HV_MSR_PAGE_ENABLE))
                vtl_tlb_fill_page(p, vtl);
        r = vtl_overlay_set(vp, vtl, VTL_OVERLAY_HYPERCALL, value & HV_MSR_PAGE_ENABLE,
                            HV_MSR_PAGE_GPN(value));
        if (r == 0)
                p->hypercall_msr[vtl] = value;
        return r;
}

static int read_vp_index(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = vp->index;
        return 0;
}

static int read_time_ref(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = vtl_reference_time(vp->partition);
        return 0;
}

/*
 * One scale and offset for the whole partition, taken when the page is first enabled, so that both
 * VTLs see the same (vsm.md 1.7): reference time = (tsc * scale >> 64) + offset. From then on the
 * counter MSR is computed from the TSC too: two clocks of the host would drift apart.
 */
static int learn_tsc(struct vtl_vp *vp) {
        struct vtl_partition *p = vp->partition;
        int r;

        if (p->tsc_known || p->config.tsc_khz == 0)
                return 0; /* without a stable TSC the sequence stays 0: the guest uses the MSR */
        r = vtl_tsc_learn(p, p->current->active_vtl);
        if (r < 0)
                return r;
        p->tsc_scale = (uint64_t) (((unsigned __int128) 10000 << 64) / p->config.tsc_khz);
        p->tsc_offset = (int64_t) (vtl_reference_time(p) - vtl_tsc_time(p, vtl_tsc_now(p)));
        p->tsc_known = true;
        return 0;
}

static int read_reference_tsc(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = vp->partition->tsc_msr[vtl];
        return 0;
}

static int write_reference_tsc(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        struct vtl_partition *p = vp->partition;
        struct hv_reference_tsc_page *page;
        int r;

        if ((value & HV_MSR_PAGE_RESERVED) || !gpn_in_range(p, HV_MSR_PAGE_GPN(value)))
                return 1;
        if (value & HV_MSR_PAGE_ENABLE) {
                r = learn_tsc(vp);
                if (r < 0)
                        return r;
                page = (struct hv_reference_tsc_page *) (void *) vtl_overlay_data(
                        p, vtl_overlay_page(VTL_OVERLAY_TSC, 0, vtl));
                memset(page, 0, sizeof(*page));
                page->tsc_scale = p->tsc_scale;
                page->tsc_offset = p->tsc_offset;
                page->tsc_sequence = p->tsc_scale ? ++p->tsc_sequence : 0;
        }
        r = vtl_overlay_set(vp, vtl, VTL_OVERLAY_TSC, value & HV_MSR_PAGE_ENABLE,
                            HV_MSR_PAGE_GPN(value));
        if (r == 0)
                p->tsc_msr[vtl] = value;
        return r;
}

static int read_frequency(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = msr == HV_MSR_TSC_FREQUENCY ? vp->partition->config.tsc_khz * 1000 : APIC_FREQUENCY;
        return 0;
}

/* EOI, ICR and TPR of VTL1. VTL0's are KVM's own where it has them, and do not come here then. */
static int read_apic(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        if (vtl == 0 || msr == HV_MSR_EOI)
                return 1;
        *ret = msr == HV_MSR_TPR ? vp->lapic.tpr : vp->lapic.icr;
        return 0;
}

static int write_apic(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        struct lapic_ipi ipi = { 0 };

        if (vtl == 0)
                return 1;
        if (msr == HV_MSR_EOI)
                lapic_eoi(&vp->lapic);
        else if (msr == HV_MSR_TPR) {
                if (value > 0xff)
                        return 1;
                vp->lapic.tpr = (uint32_t) value;
        } else {
                if (!lapic_icr_write(&vp->lapic, value, &ipi))
                        return 1;
                vtl_send_ipi(vp, &ipi);
        }
        return 0;
}

/* VP assist, SIMP and SIEFP: an overlay page each */
static uint64_t *page_msr(struct vtl_vp *vp, unsigned vtl, uint32_t msr,
                          enum vtl_overlay_kind *ret_kind) {
        switch (msr) {
        case HV_MSR_VP_ASSIST_PAGE:
                *ret_kind = VTL_OVERLAY_ASSIST;
                return &vp->vtl[vtl].assist_msr;
        case HV_MSR_SIMP:
                *ret_kind = VTL_OVERLAY_SIMP;
                return &vp->vtl[vtl].synic.simp;
        default:
                *ret_kind = VTL_OVERLAY_SIEFP;
                return &vp->vtl[vtl].synic.siefp;
        }
}

static int read_page(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        enum vtl_overlay_kind kind;

        *ret = *page_msr(vp, vtl, msr, &kind);
        return 0;
}

static int write_page(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        enum vtl_overlay_kind kind;
        uint64_t *at = page_msr(vp, vtl, msr, &kind);
        int r;

        /* Bits 11:1 are reserved in the assist MSR, kept in the other two (vsm.md 1.6). */
        if ((kind == VTL_OVERLAY_ASSIST && (value & HV_MSR_PAGE_RESERVED)) ||
            !gpn_in_range(vp->partition, HV_MSR_PAGE_GPN(value)))
                return 1;
        r = vtl_overlay_set(vp, vtl, kind, value & HV_MSR_PAGE_ENABLE, HV_MSR_PAGE_GPN(value));
        if (r == 0)
                *at = value;
        return r;
}

static int read_synic(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = msr == HV_MSR_SCONTROL ? vp->vtl[vtl].synic.scontrol
             : msr == HV_MSR_SVERSION ? 1
                                      : 0;
        return 0;
}

static int write_scontrol(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        vp->vtl[vtl].synic.scontrol = value;
        return 0;
}

/* What found its slot busy is looked at again at the end of every exit, so of this one. */
static int write_eom(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        return 0;
}

static int read_sirbp(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = vp->vtl[vtl].synic.sirbp;
        return 0;
}

/* Kept, as any monitor may: nothing is ever put there. */
static int write_sirbp(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        vp->vtl[vtl].synic.sirbp = value;
        return 0;
}

static int read_sint(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = vp->vtl[vtl].synic.sint[msr - HV_MSR_SINT0];
        return 0;
}

/* AutoEOI of VTL0: KVM's APIC leaves out the vectors of its own SynIC's SINTs that have it, so it
 * is told of those. */
static int write_sint(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        struct vtl_synic *s = &vp->vtl[vtl].synic;
        uint64_t old = s->sint[msr - HV_MSR_SINT0];

        if (!vtl_synic_set_sint(s, msr - HV_MSR_SINT0, value))
                return 1;
        if (vtl > 0 || !vp->partition->config.kernel_synic || !((old | value) & HV_SINT_AUTO_EOI))
                return 0;
        return tell_kernel(vp, msr,
                           value & HV_SINT_AUTO_EOI ? value & ~HV_SINT_MASKED : HV_SINT_RESET);
}

static int read_stimer(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = vtl_stimer_read(vp, vtl, msr);
        return 0;
}

static int write_stimer(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        return vtl_stimer_write(vp, vtl, msr, value) ? 0 : 1;
}

/* IA32_TSC_DEADLINE of VTL1's APIC */
static int read_tsc_deadline(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        if (vtl == 0)
                return 1;
        *ret = vp->lapic.tsc_deadline;
        return 0;
}

static int write_tsc_deadline(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        struct vtl_partition *p = vp->partition;
        int r = vtl == 0 ? 1 : learn_tsc(vp);

        if (r != 0)
                return r;
        if (!p->tsc_known)
                return 1;
        lapic_set_tsc_deadline(&vp->lapic, value, vtl_reference_time_of(p, value));
        return 0;
}

static int read_lapic(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        return vtl > 0 && lapic_msr_read(&vp->lapic, msr, ret) ? 0 : 1;
}

static int write_lapic(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        struct lapic_ipi ipi = { 0 };

        if (vtl == 0 || !lapic_msr_write(&vp->lapic, msr, value, &ipi))
                return 1;
        vtl_send_ipi(vp, &ipi);
        return 0;
}

/* What both levels share, for VTL1: VTL0's vCPU has the only copy (vsm.md 6.4). */
static int read_shared(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        struct plane_msr m = { .index = msr };
        int r = vtl == 0 ? -EINVAL : vtl_op(vp->partition, get, 0, PLANE_MSRS, &m, sizeof(m));

        *ret = m.value;
        return r == -EINVAL ? 1 : r;
}

static int write_shared(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        struct plane_msr m = { .index = msr, .value = value };
        int r = vtl == 0 ? -EINVAL : vtl_op(vp->partition, set, 0, PLANE_MSRS, &m, sizeof(m));

        return r == -EINVAL ? 1 : r;
}

static int read_reset(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = 0;
        return 0;
}

static int write_reset(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        if (value & 1)
                vp->ctl->action.kind = VTL_ACTION_RESET;
        return 0;
}

/* Idle until an interrupt. With RFLAGS.IF clear KVM would not end VTL0's halt: back at once, as the
 * guest has to expect anyway (vsm.md 1.6). */
static int read_guest_idle(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        const struct kvm_mp_state halted = { .mp_state = KVM_MP_STATE_HALTED };

        *ret = 0;
        if (vtl == 1) {
                vp->halted = vp->idle = true;
                return 0;
        }
        if (!(vp->ctl->regs.rflags & RFLAGS_IF))
                return 0;
        return vtl_op(vp->partition, set, 0, PLANE_MP_STATE, &halted, sizeof(halted));
}

static int read_crash(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        *ret = msr == HV_MSR_CRASH_CTL ? HV_CRASH_CTL_SUPPORTED : vp->crash[msr - HV_MSR_CRASH_P0];
        return 0;
}

static int write_crash(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        struct vtl_control_header *h = vp->partition->header;

        if (msr != HV_MSR_CRASH_CTL) {
                vp->crash[msr - HV_MSR_CRASH_P0] = value;
                return 0;
        }
        if (!(value & HV_CRASH_CTL_NOTIFY))
                return 0;
        memcpy(h->crash, vp->crash, sizeof(h->crash));
        h->crash_vtl = vtl;
        h->crashes++;
        vtl_event(vp, VTL_EVENT_CRASH, vp->crash[0], vtl);
        return 0;
}

/* Sorted by number. No handler: #GP. */
static const struct msr_row rows[] = {
        { MSR_APIC_BASE, MSR_APIC_BASE, read_lapic, write_lapic },
        { MSR_MCG_STATUS, MSR_MCG_STATUS, read_shared, write_shared },
        { MSR_MTRR_VARIABLE_FIRST, MSR_MTRR_VARIABLE_LAST, read_shared, write_shared },
        { MSR_MTRR_FIXED_FIRST, MSR_MTRR_FIXED_LAST, read_shared, write_shared },
        { MSR_MTRR_DEF_TYPE, MSR_MTRR_DEF_TYPE, read_shared, write_shared },
        { MSR_TSC_DEADLINE, MSR_TSC_DEADLINE, read_tsc_deadline, write_tsc_deadline },
        { MSR_X2APIC_FIRST, MSR_X2APIC_LAST, read_lapic, write_lapic },
        { HV_MSR_GUEST_OS_ID, HV_MSR_GUEST_OS_ID, read_os_id, write_os_id },
        { HV_MSR_HYPERCALL, HV_MSR_HYPERCALL, read_hypercall, write_hypercall },
        { HV_MSR_VP_INDEX, HV_MSR_VP_INDEX, read_vp_index, NULL },
        { HV_MSR_RESET, HV_MSR_RESET, read_reset, write_reset },
        { HV_MSR_TIME_REF_COUNT, HV_MSR_TIME_REF_COUNT, read_time_ref, NULL },
        { HV_MSR_REFERENCE_TSC, HV_MSR_REFERENCE_TSC, read_reference_tsc, write_reference_tsc },
        { HV_MSR_TSC_FREQUENCY, HV_MSR_APIC_FREQUENCY, read_frequency, NULL },
        { HV_MSR_EOI, HV_MSR_TPR, read_apic, write_apic },
        { HV_MSR_VP_ASSIST_PAGE, HV_MSR_VP_ASSIST_PAGE, read_page, write_page },
        { HV_MSR_SCONTROL, HV_MSR_SCONTROL, read_synic, write_scontrol },
        { HV_MSR_SVERSION, HV_MSR_SVERSION, read_synic, NULL },
        { HV_MSR_SIEFP, HV_MSR_SIMP, read_page, write_page },
        { HV_MSR_EOM, HV_MSR_EOM, read_synic, write_eom },
        { HV_MSR_SIRBP, HV_MSR_SIRBP, read_sirbp, write_sirbp },
        { HV_MSR_SINT0, HV_MSR_SINT15, read_sint, write_sint },
        { HV_MSR_STIMER0_CONFIG, HV_MSR_STIMER3_COUNT, read_stimer, write_stimer },
        { HV_MSR_GUEST_IDLE, HV_MSR_GUEST_IDLE, read_guest_idle, NULL },
        { HV_MSR_CRASH_P0, HV_MSR_CRASH_CTL, read_crash, write_crash },
};

static const struct msr_row *find_row(uint32_t msr) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (msr >= rows[i].first && msr <= rows[i].last)
                        return &rows[i];
        return NULL;
}

int vtl_msr_read(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret) {
        const struct msr_row *row = find_row(msr);

        return row && row->read ? row->read(vp, vtl, msr, ret) : 1;
}

int vtl_msr_write(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        const struct msr_row *row = find_row(msr);

        return row && row->write ? row->write(vp, vtl, msr, value) : 1;
}

static bool ipi_reaches(const struct lapic_ipi *ipi, const struct vtl_vp *from,
                        const struct vtl_vp *to) {
        switch (ipi->shorthand) {
        case LAPIC_SHORTHAND_SELF:
                return to == from;
        case LAPIC_SHORTHAND_ALL:
                return true;
        case LAPIC_SHORTHAND_OTHERS:
                return to != from;
        default:
                return lapic_matches(&to->lapic, ipi);
        }
}

/* INIT and SIPI of VTL1 are ignored (vsm.md 7.4). Of several destinations lowest priority means
 * the first one: which it is, is the implementation's to choose. */
void vtl_send_ipi(struct vtl_vp *vp, const struct lapic_ipi *ipi) {
        struct vtl_partition *p = vp->partition;

        if (!ipi->valid)
                return;
        for (unsigned i = 0; i < p->n_vps; i++) {
                struct vtl_vp *t = &p->vps[i];

                if (!(t->enabled_vtls & 2u) || !ipi_reaches(ipi, vp, t))
                        continue;
                switch (ipi->delivery_mode) {
                case LAPIC_DELIVERY_NMI:
                        (void) vtl_assert_nmi(t, 1); /* to VTL1: always 0 */
                        break;
                case LAPIC_DELIVERY_FIXED:
                case LAPIC_DELIVERY_LOWEST:
                        vtl_request_vtl1_interrupt(t, vp, ipi->vector, false);
                        break;
                default:
                        return;
                }
                if (ipi->delivery_mode == LAPIC_DELIVERY_LOWEST)
                        return;
        }
}
