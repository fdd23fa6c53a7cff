/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Virtual registers (vsm.md section 4): one table of ranges, each with how it is read, how it is
 * written and who may.
 */

#include "util/util.h"
#include "vtl/hold.h"
#include "vtl/registers-internal.h"

/* Who may touch a class of registers, vsm.md 4.2. The target VTL is never above the caller's. */
enum rule {
        RULE_ARCH,       /* read: target <= caller; write: target < caller */
        RULE_SYNTHETIC,  /* both: target <= caller */
        RULE_VTL1_ONLY,  /* target must be VTL1: else INVALID_PARAMETER */
        RULE_VTL1_OWNED, /* target must be VTL1: else ACCESS_DENIED */
        RULE_LOWER,      /* write only: target < caller, else INVALID_PARAMETER */
        RULE_SHARED,     /* one value for all VTLs */
};

struct row {
        uint32_t first, last;
        enum rule rule;
        bool in_vcpu; /* read and written on the thread of the VP that it is of */
        register_getter *get;
        register_setter *set;
};

/* Sorted by name. */
static const struct row rows[] = {
        { HV_REGISTER_INTERNAL_ACTIVITY_STATE, HV_REGISTER_INTERNAL_ACTIVITY_STATE, RULE_ARCH, true,
          register_get_activity, register_set_activity },
        { HV_REGISTER_HYPERVISOR_VERSION, HV_REGISTER_HYPERVISOR_VERSION, RULE_SHARED, false,
          register_get_leaf, NULL },
        { HV_REGISTER_PRIVILEGES_AND_FEATURES_INFO, HV_REGISTER_HARDWARE_FEATURES_INFO, RULE_SHARED,
          false, register_get_leaf, NULL },
        { HV_REGISTER_GUEST_CRASH_P0, HV_REGISTER_GUEST_CRASH_CTL, RULE_SYNTHETIC, false,
          register_get_synthetic, register_set_synthetic },
        { HV_REGISTER_PENDING_INTERRUPTION, HV_REGISTER_PENDING_INTERRUPTION, RULE_ARCH, true,
          register_get_pending_interruption, register_set_pending_interruption },
        { HV_REGISTER_INTERRUPT_STATE, HV_REGISTER_INTERRUPT_STATE, RULE_ARCH, true,
          register_get_interrupt_state, register_set_interrupt_state },
        { HV_REGISTER_PENDING_EVENT0, HV_REGISTER_PENDING_EVENT0, RULE_LOWER, false,
          register_get_pending_event, register_set_pending_event },
        { HV_X64_REGISTER_RAX, HV_X64_REGISTER_R15, RULE_ARCH, true, register_get_gpr,
          register_set_gpr },
        { HV_X64_REGISTER_RIP, HV_X64_REGISTER_RFLAGS, RULE_ARCH, true, register_get_rip,
          register_set_rip },
        { HV_X64_REGISTER_XMM0, HV_X64_REGISTER_XMM15, RULE_ARCH, true, register_get_xmm,
          register_set_xmm },
        { HV_X64_REGISTER_FP_MMX0, HV_X64_REGISTER_XMM_CONTROL_STATUS, RULE_ARCH, true,
          register_get_fp, register_set_fp },
        { HV_X64_REGISTER_CR0, HV_X64_REGISTER_CR8, RULE_ARCH, true, register_get_cr,
          register_set_cr },
        { HV_X64_REGISTER_XFEM, HV_X64_REGISTER_XFEM, RULE_ARCH, true, register_get_xfem, NULL },
        { HV_X64_REGISTER_DR0, HV_X64_REGISTER_DR7, RULE_ARCH, true, register_get_dr,
          register_set_dr },
        { HV_X64_REGISTER_ES, HV_X64_REGISTER_TR, RULE_ARCH, true, register_get_segment,
          register_set_segment },
        { HV_X64_REGISTER_IDTR, HV_X64_REGISTER_GDTR, RULE_ARCH, true, register_get_table,
          register_set_table },
        { HV_X64_REGISTER_TSC, HV_X64_REGISTER_TSC, RULE_ARCH, true, register_get_msr,
          register_set_msr },
        { HV_X64_REGISTER_EFER, HV_X64_REGISTER_EFER, RULE_ARCH, true, register_get_efer,
          register_set_efer },
        { HV_X64_REGISTER_KERNEL_GS_BASE, HV_X64_REGISTER_KERNEL_GS_BASE, RULE_ARCH, true,
          register_get_msr, register_set_msr },
        { HV_X64_REGISTER_APIC_BASE, HV_X64_REGISTER_APIC_BASE, RULE_SYNTHETIC, true,
          register_get_apic_base, register_set_apic_base },
        { HV_X64_REGISTER_PAT, HV_X64_REGISTER_SFMASK, RULE_ARCH, true, register_get_msr,
          register_set_msr },
        { HV_X64_REGISTER_INITIAL_APIC_ID, HV_X64_REGISTER_INITIAL_APIC_ID, RULE_SHARED, false,
          register_get_apic_id, NULL },
        { HV_X64_REGISTER_TSC_AUX, HV_X64_REGISTER_TSC_AUX, RULE_ARCH, true, register_get_msr,
          register_set_msr },
        { HV_X64_REGISTER_XSS, HV_X64_REGISTER_XSS, RULE_ARCH, true, register_get_msr,
          register_set_msr },
        { HV_X64_REGISTER_IA32_MISC_ENABLE, HV_X64_REGISTER_IA32_MISC_ENABLE, RULE_ARCH, true,
          register_get_msr, register_set_msr },
        { HV_REGISTER_HYPERCALL, HV_REGISTER_TIME_REF_COUNT, RULE_SYNTHETIC, false,
          register_get_synthetic, NULL },
        { HV_REGISTER_VP_ASSIST_PAGE, HV_REGISTER_VP_ASSIST_PAGE, RULE_SYNTHETIC, false,
          register_get_synthetic, register_set_synthetic },
        { HV_REGISTER_REFERENCE_TSC, HV_REGISTER_REFERENCE_TSC, RULE_SYNTHETIC, false,
          register_get_synthetic, NULL },
        { HV_REGISTER_SINT0, HV_REGISTER_SINT15, RULE_SYNTHETIC, true, register_get_synthetic,
          register_set_synthetic },
        { HV_REGISTER_SCONTROL, HV_REGISTER_SCONTROL, RULE_SYNTHETIC, false, register_get_synthetic,
          register_set_synthetic },
        { HV_REGISTER_SVERSION, HV_REGISTER_SVERSION, RULE_SYNTHETIC, false, register_get_synthetic,
          NULL },
        { HV_REGISTER_SIFP, HV_REGISTER_SIRBP, RULE_SYNTHETIC, false, register_get_synthetic,
          register_set_synthetic },
        { HV_REGISTER_STIMER0_CONFIG, HV_REGISTER_STIMER3_COUNT, RULE_SYNTHETIC, false,
          register_get_synthetic, register_set_synthetic },
        { HV_REGISTER_VSM_CODE_PAGE_OFFSETS, HV_REGISTER_VSM_CODE_PAGE_OFFSETS, RULE_SHARED, false,
          register_get_code_page_offsets, NULL },
        { HV_REGISTER_VSM_VP_STATUS, HV_REGISTER_VSM_VP_STATUS, RULE_SHARED, false,
          register_get_vp_status, NULL },
        { HV_REGISTER_VSM_PARTITION_STATUS, HV_REGISTER_VSM_PARTITION_STATUS, RULE_SHARED, false,
          register_get_partition_status, NULL },
        { HV_REGISTER_VSM_VINA, HV_REGISTER_VSM_VINA, RULE_VTL1_ONLY, false, register_get_vina,
          register_set_vina },
        { HV_REGISTER_VSM_CAPABILITIES, HV_REGISTER_VSM_CAPABILITIES, RULE_SHARED, false,
          register_get_capabilities, NULL },
        { HV_REGISTER_VSM_PARTITION_CONFIG, HV_REGISTER_VSM_PARTITION_CONFIG, RULE_VTL1_ONLY, false,
          register_get_partition_config, register_set_partition_config },
        { HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, RULE_SHARED,
          false, register_get_secure_config, register_set_secure_config },
        { HV_REGISTER_CR_INTERCEPT_CONTROL, HV_REGISTER_CR_INTERCEPT_MISC_ENABLE_MASK,
          RULE_VTL1_OWNED, false, register_get_cr_intercept, register_set_cr_intercept },
};

static const struct row *find_row(uint32_t name) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (name >= rows[i].first && name <= rows[i].last)
                        return &rows[i];
        return NULL;
}

static int check(const struct row *row, const struct register_access *a, bool write) {
        unsigned caller_vtl = a->caller->active_vtl;

        if (!row || (write ? !row->set : !row->get))
                return HV_STATUS_INVALID_PARAMETER;
        if (a->vtl > caller_vtl)
                return HV_STATUS_ACCESS_DENIED;
        if (a->vp != a->caller && caller_vtl == 0)
                return HV_STATUS_ACCESS_DENIED;
        if (row->in_vcpu && !(a->vp->enabled_vtls & 1u << a->vtl))
                return HV_STATUS_INVALID_VTL_STATE;
        switch (row->rule) {
        case RULE_ARCH:
                return write && a->vtl >= caller_vtl ? HV_STATUS_ACCESS_DENIED : 0;
        case RULE_VTL1_ONLY:
                return a->vtl != 1 ? HV_STATUS_INVALID_PARAMETER : 0;
        case RULE_VTL1_OWNED:
                return a->vtl != 1 ? HV_STATUS_ACCESS_DENIED : 0;
        case RULE_LOWER:
                return a->vtl >= caller_vtl ? HV_STATUS_INVALID_PARAMETER : 0;
        case RULE_SYNTHETIC:
        case RULE_SHARED:
                return 0;
        }
        return HV_STATUS_INVALID_PARAMETER;
}

/* One access on its way to the VP that it is about */
struct access_call {
        const struct register_access *a;
        const struct row *row;
        union hv_register_value *ret; /* get */
        const union hv_register_value *value;
};

static int get_there(struct vtl_vp *vp, void *arg) {
        const struct access_call *c = arg;
        /* What EnableVpVtl said becomes VTL1's registers when it is first entered, or looked at. */
        int r = c->a->vtl == 1 && vp->context_pending ? vtl_apply_context(vp) : 0;

        return r < 0 ? r : c->row->get(c->a, c->ret);
}

static int set_there(struct vtl_vp *vp, void *arg) {
        const struct access_call *c = arg;

        return c->row->set(c->a, c->value);
}

int vtl_register_get(struct vtl_vp *caller, struct vtl_vp *target, unsigned vtl, uint32_t name,
                     union hv_register_value *ret) {
        struct register_access a = { .caller = caller, .vp = target, .vtl = vtl, .name = name };
        struct access_call c = { .a = &a, .row = find_row(name), .ret = ret };
        int r = check(c.row, &a, false);

        if (r != 0)
                return r;
        return c.row->in_vcpu ? vtl_run_on(caller, target, get_there, &c) : c.row->get(&a, ret);
}

int vtl_register_look(struct vtl_vp *vp, unsigned vtl, uint32_t name,
                      union hv_register_value *ret) {
        struct register_access a = { .caller = vp, .vp = vp, .vtl = vtl, .name = name };
        struct access_call c = { .a = &a, .row = find_row(name), .ret = ret };

        if (!c.row || !c.row->get)
                return HV_STATUS_INVALID_PARAMETER;
        if (!(vp->enabled_vtls & 1u << vtl))
                return HV_STATUS_INVALID_VTL_STATE;
        return get_there(vp, &c);
}

int vtl_register_set(struct vtl_vp *caller, struct vtl_vp *target, unsigned vtl, uint32_t name,
                     const union hv_register_value *value) {
        struct register_access a = { .caller = caller, .vp = target, .vtl = vtl, .name = name };
        struct access_call c = { .a = &a, .row = find_row(name), .value = value };
        int r = check(c.row, &a, true);

        if (r != 0)
                return r;
        return c.row->in_vcpu ? vtl_run_on(caller, target, set_there, &c) : c.row->set(&a, value);
}
