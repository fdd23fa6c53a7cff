/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Synthetic registers, CPUID leaves as registers, and the registers of VSM (vsm.md 4.3-4.16). */

#include "util/util.h"
#include "vtl/cpuid.h"
#include "vtl/hvpage.h"
#include "vtl/intercept.h"
#include "vtl/registers-internal.h"
#include "vtl/switch.h"
#include "vtl/tlb.h"

/* Synthetic registers that are synthetic MSRs */
static uint32_t synthetic_msr(uint32_t name) {
        static const struct {
                uint32_t name, msr;
        } table[] = {
                { HV_REGISTER_HYPERCALL, HV_MSR_HYPERCALL },
                { HV_REGISTER_GUEST_OS_ID, HV_MSR_GUEST_OS_ID },
                { HV_REGISTER_VP_INDEX, HV_MSR_VP_INDEX },
                { HV_REGISTER_TIME_REF_COUNT, HV_MSR_TIME_REF_COUNT },
                { HV_REGISTER_VP_ASSIST_PAGE, HV_MSR_VP_ASSIST_PAGE },
                { HV_REGISTER_REFERENCE_TSC, HV_MSR_REFERENCE_TSC },
                { HV_REGISTER_SCONTROL, HV_MSR_SCONTROL },
                { HV_REGISTER_SVERSION, HV_MSR_SVERSION },
                { HV_REGISTER_SIFP, HV_MSR_SIEFP },
                { HV_REGISTER_SIPP, HV_MSR_SIMP },
                { HV_REGISTER_EOM, HV_MSR_EOM },
                { HV_REGISTER_SIRBP, HV_MSR_SIRBP },
        };

        if (name >= HV_REGISTER_SINT0 && name <= HV_REGISTER_SINT15)
                return HV_MSR_SINT0 + (name - HV_REGISTER_SINT0);
        if (name >= HV_REGISTER_GUEST_CRASH_P0 && name <= HV_REGISTER_GUEST_CRASH_CTL)
                return HV_MSR_CRASH_P0 + (name - HV_REGISTER_GUEST_CRASH_P0);
        if (name >= HV_REGISTER_STIMER0_CONFIG && name <= HV_REGISTER_STIMER3_COUNT)
                return HV_MSR_STIMER0_CONFIG + (name - HV_REGISTER_STIMER0_CONFIG);
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                if (table[i].name == name)
                        return table[i].msr;
        return 0;
}

int register_get_synthetic(const struct register_access *a, union hv_register_value *ret) {
        int r = vtl_msr_read(a->vp, a->vtl, synthetic_msr(a->name), &ret->reg64);

        return r > 0 ? HV_STATUS_INVALID_PARAMETER : r;
}

int register_set_synthetic(const struct register_access *a, const union hv_register_value *v) {
        int r = vtl_msr_write(a->vp, a->vtl, synthetic_msr(a->name), v->reg64);

        return r > 0 ? HV_STATUS_INVALID_REGISTER_VALUE : r;
}

/* CPUID leaves as 128-bit registers */
int register_get_leaf(const struct register_access *a, union hv_register_value *ret) {
        struct vtl_partition *p = a->vp->partition;
        uint32_t leaf =
                a->name == HV_REGISTER_HYPERVISOR_VERSION
                        ? HV_CPUID_VERSION
                        : HV_CPUID_FEATURES + (a->name - HV_REGISTER_PRIVILEGES_AND_FEATURES_INFO);
        uint32_t regs[4];

        vtl_cpuid_leaf(leaf, p->n_vps, p->phys_bits, regs);
        memcpy(ret->bytes, regs, sizeof(regs));
        return 0;
}

int register_get_code_page_offsets(const struct register_access *a, union hv_register_value *ret) {
        ret->reg64 = hvpage_code_page_offsets(vtl_long_mode(&a->caller->ctl->sregs));
        return 0;
}

int register_get_vp_status(const struct register_access *a, union hv_register_value *ret) {
        ret->reg64 = (a->vp->ctl->active_vtl & 0xfu) | (uint64_t) a->vp->enabled_vtls << 16;
        return 0;
}

int register_get_partition_status(const struct register_access *a, union hv_register_value *ret) {
        const struct vtl_partition *p = a->vp->partition;

        /* MaximumVtl is 0 for a partition that may not have VTL1 (vsm.md 4.5). */
        ret->reg64 =
                p->enabled_vtls | (p->config.allow_vtl1 ? 1u << 16 : 0) | (p->mbec ? 3u << 20 : 0);
        return 0;
}

/* No shadow stacks, no HVPT. MBEC and the denial of VTL0's startup cannot be enforced on stock KVM
 * (kvm-findings 7): they are only there where that has been accepted. */
int register_get_capabilities(const struct register_access *a, union hv_register_value *ret) {
        const struct vtl_options *o = &a->vp->partition->config.options;

        ret->reg64 = (o->accept_mbec ? HV_VSM_CAPABILITY_MBEC_VTL0 : 0) |
                     (o->accept_startup_denial ? HV_VSM_CAPABILITY_DENY_LOWER_VTL_STARTUP : 0);
        return 0;
}

int register_get_vina(const struct register_access *a, union hv_register_value *ret) {
        ret->reg64 = a->vp->vina;
        return 0;
}

int register_set_vina(const struct register_access *a, const union hv_register_value *v) {
        if (v->reg64 & HV_VINA_RESERVED)
                return HV_STATUS_INVALID_PARAMETER;
        a->vp->vina = v->reg64;
        a->vp->ctl->vina = v->reg64;
        return 0;
}

int register_get_partition_config(const struct register_access *a, union hv_register_value *ret) {
        ret->reg64 = a->vp->partition->partition_config;
        return 0;
}

/* Rights of everything that has no explicit mask follow the default: one pass over RAM, minus the
 * overlays. */
struct apply {
        struct vtl_partition *p;
        int r;
};

static int apply_run(void *userdata, uint64_t gpn, uint64_t count, unsigned rw) {
        struct apply *ap = userdata;

        while (count > 0) {
                struct plane_range range = { .gpn = gpn, .count = count, .access = rw };

                for (size_t i = 0; i < ap->p->n_overlays[0]; i++) {
                        uint64_t at = ap->p->overlays[0][i].gpn;

                        if (at >= range.gpn && at - range.gpn < range.count)
                                range.count = at - range.gpn;
                }
                if (range.count > 0) {
                        ap->r = vtl_op(ap->p, protect, 0, &range, 1);
                        if (ap->r < 0)
                                return 1;
                } else
                        range.count = 1; /* an overlay: what is beneath gets its rights when it
                                            comes back */
                gpn += range.count;
                count -= range.count;
        }
        return 0;
}

static int apply_covered(void *userdata, uint64_t gpn, uint64_t count, unsigned mask) {
        return mask == 0 ? apply_run(userdata, gpn, count, 0) : 0;
}

int vtl_protect_apply(struct vtl_partition *p) {
        struct apply ap = { .p = p };

        for (size_t i = 0; i < p->n_regions && ap.r == 0; i++)
                (void) protect_runs(p->protect, p->regions[i].gpa >> HV_PAGE_SHIFT,
                                    p->regions[i].size >> HV_PAGE_SHIFT,
                                    HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE, apply_run, &ap);
        if (ap.r == 0 && p->strict)
                (void) protect_explicit_runs(p->strict, apply_covered, &ap);
        return ap.r;
}

int register_set_partition_config(const struct register_access *a,
                                  const union hv_register_value *v) {
        struct vtl_partition *p = a->vp->partition;
        uint64_t old = p->partition_config, value = v->reg64;
        uint64_t possible = HV_VSM_ENABLE_VTL_PROTECTION |
                            (uint64_t) HV_MAP_GPA_ALL << HV_VSM_DEFAULT_MASK_SHIFT |
                            HV_VSM_ZERO_MEMORY_ON_RESET;
        unsigned mask = (unsigned) (value >> HV_VSM_DEFAULT_MASK_SHIFT & HV_MAP_GPA_ALL);
        unsigned old_mask = (unsigned) (old >> HV_VSM_DEFAULT_MASK_SHIFT & HV_MAP_GPA_ALL);
        bool enable = value & HV_VSM_ENABLE_VTL_PROTECTION,
             enabled = old & HV_VSM_ENABLE_VTL_PROTECTION;
        int r;

        if (!(p->enabled_vtls & 2u))
                return HV_STATUS_INVALID_VTL_STATE;
        /* vsm.md 4.8. That of denying startup is known where its capability is there. */
        if (p->config.options.accept_startup_denial)
                possible |= HV_VSM_DENY_LOWER_VTL_STARTUP;
        if (value & ~possible)
                return HV_STATUS_INVALID_REGISTER_VALUE;
        if ((enabled && (!enable || mask != old_mask)) ||
            (enable && (protect_mask_status(mask, p->mbec) != HV_STATUS_SUCCESS ||
                        (~mask & (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)))))
                return HV_STATUS_INVALID_REGISTER_VALUE;
        if (enable && !enabled) {
                protect_set_default(p->protect, mask);
                protect_enable(p->protect, true);
                r = vtl_protect_apply(p);
                if (r < 0)
                        return r;
                p->header->protection_enabled = 1;
                p->header->protected_pages = protect_restricted(p->protect);
                vtl_event(p->current, VTL_EVENT_PROTECTION_ENABLED, 0, value);
        }
        if (value & HV_VSM_DENY_LOWER_VTL_STARTUP)
                p->header->unenforced |= VTL_UNENFORCED_STARTUP_DENIAL;
        if (value != p->partition_config)
                vtl_event(p->current, VTL_EVENT_CONFIG, 0, value);
        p->partition_config = value;
        p->header->partition_config = value;
        return 0;
}

int register_get_secure_config(const struct register_access *a, union hv_register_value *ret) {
        if (a->caller->active_vtl == 0)
                return HV_STATUS_ACCESS_DENIED;
        ret->reg64 = a->vp->secure_config | (a->vp->tlb_locked ? HV_SECURE_CONFIG_TLB_LOCKED : 0);
        return 0;
}

int register_set_secure_config(const struct register_access *a, const union hv_register_value *v) {
        if (a->caller->active_vtl == 0)
                return HV_STATUS_ACCESS_DENIED;
        if (!(a->vp->enabled_vtls & 2u))
                return HV_STATUS_INVALID_VTL_STATE;
        /* MBEC must be as the partition has it; the rest is not offered. */
        if ((v->reg64 & ~(HV_SECURE_CONFIG_MBEC | HV_SECURE_CONFIG_TLB_LOCKED)) ||
            ((v->reg64 & HV_SECURE_CONFIG_MBEC) && !a->vp->partition->mbec))
                return HV_STATUS_INVALID_REGISTER_VALUE;
        a->vp->secure_config = v->reg64 & HV_SECURE_CONFIG_MBEC;
        if (v->reg64 & HV_SECURE_CONFIG_TLB_LOCKED)
                return vtl_tlb_lock(a->vp);
        vtl_tlb_unlock(a->vp);
        return 0;
}

int register_get_cr_intercept(const struct register_access *a, union hv_register_value *ret) {
        ret->reg64 = a->vp->vtl[1].cr_intercept[a->name - HV_REGISTER_CR_INTERCEPT_CONTROL];
        return 0;
}

int register_set_cr_intercept(const struct register_access *a, const union hv_register_value *v) {
        if (!(a->vp->enabled_vtls & 2u))
                return HV_STATUS_INVALID_VTL_STATE;
        if (a->name == HV_REGISTER_CR_INTERCEPT_CONTROL)
                return vtl_intercept_set_cr(a->vp, v->reg64);
        a->vp->vtl[1].cr_intercept[a->name - HV_REGISTER_CR_INTERCEPT_CONTROL] = v->reg64;
        return 0;
}
