/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Virtual registers (vsm.md section 4): one table of ranges, each with how it is read, how it is
 * written and who may.
 */

#include "util/util.h"
#include "vtl/cpuid.h"
#include "vtl/engine.h"
#include "vtl/hvpage.h"
#include "vtl/switch.h"

#define XSAVE_XMM_OFFSET 160
#define XSAVE_BV_OFFSET 512
#define XSTATE_SSE 2ull

/* Who may touch a class of registers, vsm.md 4.2. The target VTL is never above the caller's. */
enum rule {
        RULE_ARCH,       /* read: target <= caller; write: target < caller */
        RULE_SYNTHETIC,  /* both: target <= caller */
        RULE_VTL1_ONLY,  /* target must be VTL1: else INVALID_PARAMETER */
        RULE_VTL1_OWNED, /* target must be VTL1: else ACCESS_DENIED */
        RULE_LOWER,      /* write only: target < caller, else INVALID_PARAMETER */
        RULE_SHARED,     /* one value for all VTLs */
};

struct access {
        struct vtl_vp *caller, *vp;
        unsigned vtl;
        uint32_t name;
};

typedef int (*getter)(const struct access *a, union hv_register_value *ret);
typedef int (*setter)(const struct access *a, const union hv_register_value *v);

struct row {
        uint32_t first, last;
        enum rule rule;
        bool own_vp; /* lives in the vCPU: only of the VP that makes the call */
        getter get;
        setter set;
};

/* REGS or SREGS of the target: the active plane's are in the control page, others are asked for. */
static int load_regs(const struct access *a, struct kvm_regs *ret) {
        struct vtl_partition *p = a->vp->partition;
        int r;

        if (a->vtl == a->vp->active_vtl) {
                *ret = a->vp->ctl->regs;
                return 0;
        }
        /* RIP is "after the instruction" only once KVM has finished it (kvm-findings 4). */
        r = vtl_op(p, complete, a->vtl);
        return r < 0 ? r : vtl_op(p, get, a->vtl, PLANE_REGS, ret, sizeof(*ret));
}

static int load_sregs(const struct access *a, struct kvm_sregs *ret) {
        struct vtl_partition *p = a->vp->partition;

        if (a->vtl == a->vp->active_vtl) {
                *ret = a->vp->ctl->sregs;
                return 0;
        }
        return vtl_op(p, get, a->vtl, PLANE_SREGS, ret, sizeof(*ret));
}

/* The plane layer refuses what no CPU would hold: the guest's mistake. */
static int store_sregs(const struct access *a, const struct kvm_sregs *s) {
        int r = vtl_op(a->vp->partition, set, a->vtl, PLANE_SREGS, s, sizeof(*s));

        return r == -EINVAL ? HV_STATUS_INVALID_REGISTER_VALUE : r;
}

static bool canonical(uint64_t v) {
        return (uint64_t) ((int64_t) (v << 16) >> 16) == v;
}

/* General registers. All but RSP are shared: the active plane holds the only copy. */
static __u64 *gpr(struct kvm_regs *regs, uint32_t name) {
        __u64 *const table[16] = { &regs->rax, &regs->rcx, &regs->rdx, &regs->rbx,
                                   &regs->rsp, &regs->rbp, &regs->rsi, &regs->rdi,
                                   &regs->r8,  &regs->r9,  &regs->r10, &regs->r11,
                                   &regs->r12, &regs->r13, &regs->r14, &regs->r15 };

        return table[name - HV_X64_REGISTER_RAX];
}

static int get_gpr(const struct access *a, union hv_register_value *ret) {
        struct kvm_regs regs;
        int r;

        if (a->name != HV_X64_REGISTER_RSP) {
                ret->reg64 = *gpr(&a->vp->ctl->regs, a->name);
                return 0;
        }
        r = load_regs(a, &regs);
        ret->reg64 = regs.rsp;
        return r;
}

static int set_gpr(const struct access *a, const union hv_register_value *v) {
        struct kvm_regs regs;
        int r;

        if (a->name != HV_X64_REGISTER_RSP) {
                *gpr(&a->vp->ctl->regs, a->name) = v->reg64;
                a->vp->ctl->regs_dirty |= KVM_SYNC_X86_REGS;
                return 0;
        }
        r = load_regs(a, &regs);
        if (r < 0)
                return r;
        regs.rsp = v->reg64;
        return vtl_op(a->vp->partition, set, a->vtl, PLANE_REGS, &regs, sizeof(regs));
}

static int get_rip(const struct access *a, union hv_register_value *ret) {
        struct kvm_regs regs;
        int r = load_regs(a, &regs);

        if (r == 0)
                ret->reg64 = a->name == HV_X64_REGISTER_RIP ? regs.rip : regs.rflags;
        return r;
}

static int set_rip(const struct access *a, const union hv_register_value *v) {
        struct kvm_regs regs;
        int r = load_regs(a, &regs);

        if (r < 0)
                return r;
        if (a->name == HV_X64_REGISTER_RIP)
                regs.rip = v->reg64;
        else
                regs.rflags = (v->reg64 & 0x3f7fd7ull) | 2;
        return vtl_op(a->vp->partition, set, a->vtl, PLANE_REGS, &regs, sizeof(regs));
}

static int get_cr(const struct access *a, union hv_register_value *ret) {
        struct kvm_sregs s;
        int r = load_sregs(a, &s);

        if (r < 0)
                return r;
        switch (a->name) {
        case HV_X64_REGISTER_CR0:
                ret->reg64 = s.cr0;
                break;
        case HV_X64_REGISTER_CR2: /* shared */
                ret->reg64 = a->vp->ctl->sregs.cr2;
                break;
        case HV_X64_REGISTER_CR3:
                ret->reg64 = s.cr3;
                break;
        case HV_X64_REGISTER_CR4:
                ret->reg64 = s.cr4;
                break;
        default:
                ret->reg64 = a->vtl == 1 ? lapic_cr8(&a->vp->lapic) : s.cr8;
                break;
        }
        return 0;
}

static int set_cr(const struct access *a, const union hv_register_value *v) {
        uint64_t value = v->reg64;
        struct kvm_sregs s;
        int r = load_sregs(a, &s);

        if (r < 0)
                return r;
        switch (a->name) {
        case HV_X64_REGISTER_CR0:
                if (value >> 32 || ((value & 1u << 31) && !(value & 1)) ||
                    ((value & 1u << 29) && !(value & 1u << 30)))
                        return HV_STATUS_INVALID_REGISTER_VALUE;
                s.cr0 = (value & 0xe005003full) | 0x10;
                break;
        case HV_X64_REGISTER_CR2:
                a->vp->ctl->sregs.cr2 = value;
                a->vp->ctl->regs_dirty |= KVM_SYNC_X86_SREGS;
                return 0;
        case HV_X64_REGISTER_CR3:
                s.cr3 = value;
                break;
        case HV_X64_REGISTER_CR4:
                s.cr4 = value;
                break;
        default:
                if (value > 15)
                        return HV_STATUS_INVALID_REGISTER_VALUE;
                s.cr8 = value;
                break;
        }
        return store_sregs(a, &s);
}

static int get_xfem(const struct access *a, union hv_register_value *ret) {
        struct kvm_xcrs x = { 0 };
        int r = vtl_op(a->vp->partition, get, a->vp->active_vtl, PLANE_XCRS, &x, sizeof(x));

        for (uint32_t i = 0; r == 0 && i < MIN(x.nr_xcrs, ARRAY_SIZE(x.xcrs)); i++)
                if (x.xcrs[i].xcr == 0)
                        ret->reg64 = x.xcrs[i].value;
        return r;
}

static int get_dr(const struct access *a, union hv_register_value *ret) {
        unsigned n = a->name - HV_X64_REGISTER_DR0;
        struct kvm_debugregs d;
        int r;

        /* DR0-3 are shared, DR6 and DR7 private (VsmCapabilities.Dr6Shared is 0). */
        r = vtl_op(a->vp->partition, get, n < 4 ? a->vp->active_vtl : a->vtl, PLANE_DEBUGREGS, &d,
                   sizeof(d));
        if (r == 0)
                ret->reg64 = n < 4 ? d.db[n] : n == 4 ? d.dr6 : d.dr7;
        return r;
}

static int set_dr(const struct access *a, const union hv_register_value *v) {
        unsigned n = a->name - HV_X64_REGISTER_DR0, plane = n < 4 ? a->vp->active_vtl : a->vtl;
        struct kvm_debugregs d;
        int r;

        if (n >= 4 && v->reg64 >> 32)
                return HV_STATUS_INVALID_REGISTER_VALUE;
        r = vtl_op(a->vp->partition, get, plane, PLANE_DEBUGREGS, &d, sizeof(d));
        if (r < 0)
                return r;
        if (n < 4)
                d.db[n] = v->reg64;
        else if (n == 4)
                d.dr6 = v->reg64;
        else
                d.dr7 = v->reg64;
        r = vtl_op(a->vp->partition, set, plane, PLANE_DEBUGREGS, &d, sizeof(d));
        return r == -EINVAL ? HV_STATUS_INVALID_REGISTER_VALUE : r;
}

static struct kvm_segment *segment(struct kvm_sregs *s, uint32_t name) {
        struct kvm_segment *const table[8] = { &s->es, &s->cs, &s->ss,  &s->ds,
                                               &s->fs, &s->gs, &s->ldt, &s->tr };

        return table[name - HV_X64_REGISTER_ES];
}

static int get_segment(const struct access *a, union hv_register_value *ret) {
        const struct kvm_segment *g;
        struct kvm_sregs s;
        int r = load_sregs(a, &s);

        if (r < 0)
                return r;
        g = segment(&s, a->name);
        ret->segment = (struct hv_x64_segment_register){
                .base = g->base,
                .limit = g->limit,
                .selector = g->selector,
                .attributes = (uint16_t) (g->type | g->s << 4 | g->dpl << 5 |
                                          (g->present && !g->unusable) << 7 | g->avl << 12 |
                                          g->l << 13 | g->db << 14 | g->g << 15),
        };
        return 0;
}

static int set_segment(const struct access *a, const union hv_register_value *v) {
        uint16_t at = v->segment.attributes;
        struct kvm_sregs s;
        int r = load_sregs(a, &s);

        if (r < 0)
                return r;
        *segment(&s, a->name) = (struct kvm_segment){
                .base = v->segment.base,
                .limit = v->segment.limit,
                .selector = v->segment.selector,
                .type = at & 0xf,
                .s = at >> 4 & 1,
                .dpl = at >> 5 & 3,
                .present = at >> 7 & 1,
                .avl = at >> 12 & 1,
                .l = at >> 13 & 1,
                .db = at >> 14 & 1,
                .g = at >> 15 & 1,
                .unusable = !(at >> 7 & 1),
        };
        return store_sregs(a, &s);
}

static int get_table(const struct access *a, union hv_register_value *ret) {
        const struct kvm_dtable *t;
        struct kvm_sregs s;
        int r = load_sregs(a, &s);

        if (r < 0)
                return r;
        t = a->name == HV_X64_REGISTER_IDTR ? &s.idt : &s.gdt;
        ret->table = (struct hv_x64_table_register){ .base = t->base, .limit = t->limit };
        return 0;
}

static int set_table(const struct access *a, const union hv_register_value *v) {
        struct kvm_sregs s;
        int r = load_sregs(a, &s);

        if (r < 0)
                return r;
        *(a->name == HV_X64_REGISTER_IDTR ? &s.idt : &s.gdt) =
                (struct kvm_dtable){ .base = v->table.base, .limit = v->table.limit };
        return store_sregs(a, &s);
}

/* Registers that are MSRs of the vCPU */
static const struct {
        uint32_t name, msr;
        bool must_be_canonical;
} msr_table[] = {
        { HV_X64_REGISTER_TSC, 0x10, false },
        { HV_X64_REGISTER_KERNEL_GS_BASE, 0xc0000102, true },
        { HV_X64_REGISTER_PAT, 0x277, false },
        { HV_X64_REGISTER_SYSENTER_CS, 0x174, false },
        { HV_X64_REGISTER_SYSENTER_EIP, 0x176, true },
        { HV_X64_REGISTER_SYSENTER_ESP, 0x175, true },
        { HV_X64_REGISTER_STAR, 0xc0000081, false },
        { HV_X64_REGISTER_LSTAR, 0xc0000082, true },
        { HV_X64_REGISTER_CSTAR, 0xc0000083, true },
        { HV_X64_REGISTER_SFMASK, 0xc0000084, false },
        { HV_X64_REGISTER_TSC_AUX, 0xc0000103, false },
};

static size_t msr_index(uint32_t name) {
        size_t i = 0;

        while (i < ARRAY_SIZE(msr_table) && msr_table[i].name != name)
                i++;
        return i;
}

static int get_msr(const struct access *a, union hv_register_value *ret) {
        size_t i = msr_index(a->name);
        struct plane_msr m;
        int r;

        if (i == ARRAY_SIZE(msr_table))
                return HV_STATUS_INVALID_PARAMETER;
        m = (struct plane_msr){ .index = msr_table[i].msr };
        r = vtl_op(a->vp->partition, get, a->vtl, PLANE_MSRS, &m, sizeof(m));
        ret->reg64 = m.value;
        return r;
}

static bool pat_valid(uint64_t v) {
        for (unsigned i = 0; i < 8; i++, v >>= 8)
                if ((v & 0xff) > 7 || (v & 0xff) == 2 || (v & 0xff) == 3)
                        return false;
        return true;
}

static int set_msr(const struct access *a, const union hv_register_value *v) {
        size_t i = msr_index(a->name);
        struct plane_msr m;
        int r;

        if (i == ARRAY_SIZE(msr_table) || a->name == HV_X64_REGISTER_TSC)
                return HV_STATUS_INVALID_PARAMETER;
        if ((msr_table[i].must_be_canonical && !canonical(v->reg64)) ||
            (a->name == HV_X64_REGISTER_PAT && !pat_valid(v->reg64)) ||
            ((a->name == HV_X64_REGISTER_SFMASK || a->name == HV_X64_REGISTER_TSC_AUX) &&
             v->reg64 >> 32))
                return HV_STATUS_INVALID_REGISTER_VALUE;
        m = (struct plane_msr){ .index = msr_table[i].msr, .value = v->reg64 };
        r = vtl_op(a->vp->partition, set, a->vtl, PLANE_MSRS, &m, sizeof(m));
        return r == -EINVAL ? HV_STATUS_INVALID_REGISTER_VALUE : r;
}

static int get_efer(const struct access *a, union hv_register_value *ret) {
        struct kvm_sregs s;
        int r = load_sregs(a, &s);

        ret->reg64 = s.efer;
        return r;
}

static int set_efer(const struct access *a, const union hv_register_value *v) {
        struct kvm_sregs s;
        int r;

        if (v->reg64 & ~0xd01ull) /* SCE, LME, LMA, NXE */
                return HV_STATUS_INVALID_REGISTER_VALUE;
        r = load_sregs(a, &s);
        if (r < 0)
                return r;
        s.efer = v->reg64;
        return store_sregs(a, &s);
}

static int get_apic_base(const struct access *a, union hv_register_value *ret) {
        struct kvm_sregs s;
        int r;

        if (a->vtl == 1) {
                ret->reg64 = a->vp->lapic.base_msr;
                return 0;
        }
        if (a->vp != a->caller)
                return HV_STATUS_ACCESS_DENIED;
        r = load_sregs(a, &s);
        ret->reg64 = s.apic_base;
        return r;
}

static int set_apic_base(const struct access *a, const union hv_register_value *v) {
        union hv_register_value now = { 0 };
        int r = get_apic_base(a, &now);

        if (r != 0)
                return r;
        return now.reg64 == v->reg64 ? 0 : HV_STATUS_INVALID_PARAMETER;
}

static int get_apic_id(const struct access *a, union hv_register_value *ret) {
        ret->reg64 = a->vp->apic_id;
        return 0;
}

static int get_xmm(const struct access *a, union hv_register_value *ret) {
        struct kvm_xsave x;
        int r = vtl_op(a->vp->partition, get, a->vp->active_vtl, PLANE_XSAVE, &x, sizeof(x));

        memcpy(ret->bytes,
               (uint8_t *) &x + XSAVE_XMM_OFFSET + 16 * (a->name - HV_X64_REGISTER_XMM0), 16);
        return r;
}

static int set_xmm(const struct access *a, const union hv_register_value *v) {
        struct vtl_partition *p = a->vp->partition;
        struct kvm_xsave x;
        uint64_t bv;
        int r;

        r = vtl_op(p, get, a->vp->active_vtl, PLANE_XSAVE, &x, sizeof(x));
        if (r < 0)
                return r;
        memcpy((uint8_t *) &x + XSAVE_XMM_OFFSET + 16 * (a->name - HV_X64_REGISTER_XMM0), v->bytes,
               16);
        memcpy(&bv, (uint8_t *) &x + XSAVE_BV_OFFSET, sizeof(bv));
        bv |= XSTATE_SSE;
        memcpy((uint8_t *) &x + XSAVE_BV_OFFSET, &bv, sizeof(bv));
        return vtl_op(p, set, a->vp->active_vtl, PLANE_XSAVE, &x, sizeof(x));
}

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
        };

        if (name >= HV_REGISTER_SINT0 && name <= HV_REGISTER_SINT15)
                return HV_MSR_SINT0 + (name - HV_REGISTER_SINT0);
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                if (table[i].name == name)
                        return table[i].msr;
        return 0;
}

static int get_synthetic(const struct access *a, union hv_register_value *ret) {
        int r = vtl_msr_read(a->vp, a->vtl, synthetic_msr(a->name), &ret->reg64);

        return r > 0 ? HV_STATUS_INVALID_PARAMETER : r;
}

static int set_synthetic(const struct access *a, const union hv_register_value *v) {
        int r = vtl_msr_write(a->vp, a->vtl, synthetic_msr(a->name), v->reg64);

        return r > 0 ? HV_STATUS_INVALID_REGISTER_VALUE : r;
}

/* CPUID leaves as 128-bit registers */
static int get_leaf(const struct access *a, union hv_register_value *ret) {
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

static int get_code_page_offsets(const struct access *a, union hv_register_value *ret) {
        ret->reg64 = hvpage_code_page_offsets(vtl_long_mode(&a->caller->ctl->sregs));
        return 0;
}

static int get_vp_status(const struct access *a, union hv_register_value *ret) {
        ret->reg64 = (a->vp->ctl->active_vtl & 0xfu) | (uint64_t) a->vp->enabled_vtls << 16;
        return 0;
}

static int get_partition_status(const struct access *a, union hv_register_value *ret) {
        const struct vtl_partition *p = a->vp->partition;

        /* MaximumVtl is 0 for a partition that may not have VTL1 (vsm.md 4.5). */
        ret->reg64 = p->enabled_vtls | (p->config.allow_vtl1 ? 1u << 16 : 0);
        return 0;
}

/* No MBEC, no shadow stacks, no HVPT; startup of the lower VTL cannot be denied on stock KVM
 * (kvm-findings 7). */
static int get_capabilities(const struct access *a, union hv_register_value *ret) {
        ret->reg64 = 0;
        return 0;
}

static int get_vina(const struct access *a, union hv_register_value *ret) {
        ret->reg64 = a->vp->vina;
        return 0;
}

static int set_vina(const struct access *a, const union hv_register_value *v) {
        if (v->reg64 & HV_VINA_RESERVED)
                return HV_STATUS_INVALID_PARAMETER;
        a->vp->vina = v->reg64;
        a->vp->ctl->vina = v->reg64;
        return 0;
}

static int get_partition_config(const struct access *a, union hv_register_value *ret) {
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

static int apply_all(struct vtl_partition *p) {
        struct apply ap = { .p = p };

        for (size_t i = 0; i < p->n_regions && ap.r == 0; i++)
                (void) protect_runs(p->protect, p->regions[i].gpa >> HV_PAGE_SHIFT,
                                    p->regions[i].size >> HV_PAGE_SHIFT, apply_run, &ap);
        return ap.r;
}

static int set_partition_config(const struct access *a, const union hv_register_value *v) {
        struct vtl_partition *p = a->vp->partition;
        uint64_t old = p->partition_config, value = v->reg64;
        unsigned mask = (unsigned) (value >> HV_VSM_DEFAULT_MASK_SHIFT & HV_MAP_GPA_ALL);
        unsigned old_mask = (unsigned) (old >> HV_VSM_DEFAULT_MASK_SHIFT & HV_MAP_GPA_ALL);
        bool enable = value & HV_VSM_ENABLE_VTL_PROTECTION,
             enabled = old & HV_VSM_ENABLE_VTL_PROTECTION;
        int r;

        if (!(p->enabled_vtls & 2u))
                return HV_STATUS_INVALID_VTL_STATE;
        /* vsm.md 4.8. Denying startup has no means here, and its capability says so. */
        if (value &
            ~(HV_VSM_ENABLE_VTL_PROTECTION |
              (uint64_t) HV_MAP_GPA_ALL << HV_VSM_DEFAULT_MASK_SHIFT | HV_VSM_ZERO_MEMORY_ON_RESET))
                return HV_STATUS_INVALID_REGISTER_VALUE;
        if ((enabled && (!enable || mask != old_mask)) ||
            (enable && (protect_mask_status(mask, false) != HV_STATUS_SUCCESS ||
                        (~mask & (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)))))
                return HV_STATUS_INVALID_REGISTER_VALUE;
        if (enable && !enabled) {
                protect_set_default(p->protect, mask);
                protect_enable(p->protect, true);
                r = apply_all(p);
                if (r < 0)
                        return r;
                p->header->protection_enabled = 1;
                p->header->protected_pages = protect_restricted(p->protect);
                vtl_event(p->current, VTL_EVENT_PROTECTION_ENABLED, 0, value);
        }
        p->partition_config = value;
        p->header->partition_config = value;
        return 0;
}

static int get_secure_config(const struct access *a, union hv_register_value *ret) {
        if (a->caller->active_vtl == 0)
                return HV_STATUS_ACCESS_DENIED;
        ret->reg64 = a->vp->secure_config | (a->vp->tlb_locked ? 2u : 0);
        return 0;
}

static int set_secure_config(const struct access *a, const union hv_register_value *v) {
        if (a->caller->active_vtl == 0)
                return HV_STATUS_ACCESS_DENIED;
        if (!(a->vp->enabled_vtls & 2u))
                return HV_STATUS_INVALID_VTL_STATE;
        /* MBEC must be as the partition has it, which is off; only the TLB lock is left. */
        if (v->reg64 & ~2ull)
                return HV_STATUS_INVALID_REGISTER_VALUE;
        a->vp->tlb_locked = v->reg64 & 2;
        return 0;
}

static int set_pending_event(const struct access *a, const union hv_register_value *v) {
        /* DE DB BP OF BR UD NM DF TS NP SS GP PF MF AC MC XM CP; with error code: DF TS NP SS GP PF
         * AC CP */
        static const uint32_t vectors = 0x002f7dfbu;
        static const uint32_t with_code = 1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 |
                                          1u << 14 | 1u << 17 | 1u << 21;
        uint64_t e = v->low64;
        unsigned vector = (unsigned) (e >> 16 & 0xffff);
        bool has_code = e >> 8 & 1;

        if (e & 1) {
                if ((e >> 1 & 7) != 0 || (e >> 4 & 0xf) || (e >> 9 & 0x7f) || vector > 31 ||
                    !(vectors >> vector & 1) || (has_code && !(with_code >> vector & 1)) ||
                    (!has_code && e >> 32))
                        return HV_STATUS_INVALID_REGISTER_VALUE;
        }
        a->vp->pending_event0[0] = e & 1 ? e : 0;
        a->vp->pending_event0[1] = v->high64;
        return 0;
}

static int get_cr_intercept(const struct access *a, union hv_register_value *ret) {
        ret->reg64 = a->vp->vtl[1].cr_intercept[a->name - HV_REGISTER_CR_INTERCEPT_CONTROL];
        return 0;
}

/* Stock KVM has no exit for any of them: asking for one is refused, the masks are kept
 * (kvm-findings C). */
static int set_cr_intercept(const struct access *a, const union hv_register_value *v) {
        if (!(a->vp->enabled_vtls & 2u))
                return HV_STATUS_INVALID_VTL_STATE;
        if (a->name == HV_REGISTER_CR_INTERCEPT_CONTROL && v->reg64 != 0)
                return HV_STATUS_INVALID_REGISTER_VALUE;
        a->vp->vtl[1].cr_intercept[a->name - HV_REGISTER_CR_INTERCEPT_CONTROL] = v->reg64;
        return 0;
}

/* Sorted by name. */
static const struct row rows[] = {
        { HV_REGISTER_HYPERVISOR_VERSION, HV_REGISTER_HYPERVISOR_VERSION, RULE_SHARED, false,
          get_leaf, NULL },
        { HV_REGISTER_PRIVILEGES_AND_FEATURES_INFO, HV_REGISTER_HARDWARE_FEATURES_INFO, RULE_SHARED,
          false, get_leaf, NULL },
        { HV_REGISTER_PENDING_EVENT0, HV_REGISTER_PENDING_EVENT0, RULE_LOWER, false, NULL,
          set_pending_event },
        { HV_X64_REGISTER_RAX, HV_X64_REGISTER_R15, RULE_ARCH, true, get_gpr, set_gpr },
        { HV_X64_REGISTER_RIP, HV_X64_REGISTER_RFLAGS, RULE_ARCH, true, get_rip, set_rip },
        { HV_X64_REGISTER_XMM0, HV_X64_REGISTER_XMM15, RULE_ARCH, true, get_xmm, set_xmm },
        { HV_X64_REGISTER_CR0, HV_X64_REGISTER_CR8, RULE_ARCH, true, get_cr, set_cr },
        { HV_X64_REGISTER_XFEM, HV_X64_REGISTER_XFEM, RULE_ARCH, true, get_xfem, NULL },
        { HV_X64_REGISTER_DR0, HV_X64_REGISTER_DR7, RULE_ARCH, true, get_dr, set_dr },
        { HV_X64_REGISTER_ES, HV_X64_REGISTER_TR, RULE_ARCH, true, get_segment, set_segment },
        { HV_X64_REGISTER_IDTR, HV_X64_REGISTER_GDTR, RULE_ARCH, true, get_table, set_table },
        { HV_X64_REGISTER_TSC, HV_X64_REGISTER_TSC, RULE_ARCH, true, get_msr, set_msr },
        { HV_X64_REGISTER_EFER, HV_X64_REGISTER_EFER, RULE_ARCH, true, get_efer, set_efer },
        { HV_X64_REGISTER_KERNEL_GS_BASE, HV_X64_REGISTER_KERNEL_GS_BASE, RULE_ARCH, true, get_msr,
          set_msr },
        { HV_X64_REGISTER_APIC_BASE, HV_X64_REGISTER_APIC_BASE, RULE_SYNTHETIC, false,
          get_apic_base, set_apic_base },
        { HV_X64_REGISTER_PAT, HV_X64_REGISTER_SFMASK, RULE_ARCH, true, get_msr, set_msr },
        { HV_X64_REGISTER_INITIAL_APIC_ID, HV_X64_REGISTER_INITIAL_APIC_ID, RULE_SHARED, false,
          get_apic_id, NULL },
        { HV_X64_REGISTER_TSC_AUX, HV_X64_REGISTER_TSC_AUX, RULE_ARCH, true, get_msr, set_msr },
        { HV_REGISTER_HYPERCALL, HV_REGISTER_TIME_REF_COUNT, RULE_SYNTHETIC, false, get_synthetic,
          NULL },
        { HV_REGISTER_VP_ASSIST_PAGE, HV_REGISTER_VP_ASSIST_PAGE, RULE_SYNTHETIC, false,
          get_synthetic, set_synthetic },
        { HV_REGISTER_REFERENCE_TSC, HV_REGISTER_REFERENCE_TSC, RULE_SYNTHETIC, false,
          get_synthetic, NULL },
        { HV_REGISTER_SINT0, HV_REGISTER_SCONTROL, RULE_SYNTHETIC, false, get_synthetic,
          set_synthetic },
        { HV_REGISTER_SVERSION, HV_REGISTER_SVERSION, RULE_SYNTHETIC, false, get_synthetic, NULL },
        { HV_REGISTER_SIFP, HV_REGISTER_EOM, RULE_SYNTHETIC, false, get_synthetic, set_synthetic },
        { HV_REGISTER_VSM_CODE_PAGE_OFFSETS, HV_REGISTER_VSM_CODE_PAGE_OFFSETS, RULE_SHARED, false,
          get_code_page_offsets, NULL },
        { HV_REGISTER_VSM_VP_STATUS, HV_REGISTER_VSM_VP_STATUS, RULE_SHARED, false, get_vp_status,
          NULL },
        { HV_REGISTER_VSM_PARTITION_STATUS, HV_REGISTER_VSM_PARTITION_STATUS, RULE_SHARED, false,
          get_partition_status, NULL },
        { HV_REGISTER_VSM_VINA, HV_REGISTER_VSM_VINA, RULE_VTL1_ONLY, false, get_vina, set_vina },
        { HV_REGISTER_VSM_CAPABILITIES, HV_REGISTER_VSM_CAPABILITIES, RULE_SHARED, false,
          get_capabilities, NULL },
        { HV_REGISTER_VSM_PARTITION_CONFIG, HV_REGISTER_VSM_PARTITION_CONFIG, RULE_VTL1_ONLY, false,
          get_partition_config, set_partition_config },
        { HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, RULE_SHARED,
          false, get_secure_config, set_secure_config },
        { HV_REGISTER_CR_INTERCEPT_CONTROL, HV_REGISTER_CR_INTERCEPT_MISC_ENABLE_MASK,
          RULE_VTL1_OWNED, false, get_cr_intercept, set_cr_intercept },
};

static const struct row *find_row(uint32_t name) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (name >= rows[i].first && name <= rows[i].last)
                        return &rows[i];
        return NULL;
}

static int check(const struct row *row, const struct access *a, bool write) {
        unsigned caller_vtl = a->caller->active_vtl;

        if (!row || (write ? !row->set : !row->get))
                return HV_STATUS_INVALID_PARAMETER;
        if (a->vtl > caller_vtl)
                return HV_STATUS_ACCESS_DENIED;
        if (a->vp != a->caller && (row->own_vp || caller_vtl == 0))
                return HV_STATUS_ACCESS_DENIED;
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

int vtl_register_get(struct vtl_vp *caller, struct vtl_vp *target, unsigned vtl, uint32_t name,
                     union hv_register_value *ret) {
        struct access a = { .caller = caller, .vp = target, .vtl = vtl, .name = name };
        const struct row *row = find_row(name);
        int r = check(row, &a, false);

        return r != 0 ? r : row->get(&a, ret);
}

int vtl_register_set(struct vtl_vp *caller, struct vtl_vp *target, unsigned vtl, uint32_t name,
                     const union hv_register_value *value) {
        struct access a = { .caller = caller, .vp = target, .vtl = vtl, .name = name };
        const struct row *row = find_row(name);
        int r = check(row, &a, true);

        return r != 0 ? r : row->set(&a, value);
}
