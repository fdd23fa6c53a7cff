/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Virtual registers that are the vCPU's own (vsm.md 4.2, class "architectural"). */

#include "util/util.h"
#include "vtl/registers-internal.h"
#include "vtl/segment.h"
#include "vtl/xmm.h"

/* REGS or SREGS of the target: the active plane's are in the control page, others are asked for. */
static int load_regs(const struct register_access *a, struct kvm_regs *ret) {
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

static int load_sregs(const struct register_access *a, struct kvm_sregs *ret) {
        struct vtl_partition *p = a->vp->partition;

        if (a->vtl == a->vp->active_vtl) {
                *ret = a->vp->ctl->sregs;
                return 0;
        }
        return vtl_op(p, get, a->vtl, PLANE_SREGS, ret, sizeof(*ret));
}

/* The plane layer refuses what no CPU would hold: the guest's mistake. */
static int store_sregs(const struct register_access *a, const struct kvm_sregs *s) {
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

int register_get_gpr(const struct register_access *a, union hv_register_value *ret) {
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

int register_set_gpr(const struct register_access *a, const union hv_register_value *v) {
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

int register_get_rip(const struct register_access *a, union hv_register_value *ret) {
        struct kvm_regs regs;
        int r = load_regs(a, &regs);

        if (r == 0)
                ret->reg64 = a->name == HV_X64_REGISTER_RIP ? regs.rip : regs.rflags;
        return r;
}

int register_set_rip(const struct register_access *a, const union hv_register_value *v) {
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

int register_get_cr(const struct register_access *a, union hv_register_value *ret) {
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

int register_set_cr(const struct register_access *a, const union hv_register_value *v) {
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

int register_get_xfem(const struct register_access *a, union hv_register_value *ret) {
        struct kvm_xcrs x = { 0 };
        int r = vtl_op(a->vp->partition, get, a->vp->active_vtl, PLANE_XCRS, &x, sizeof(x));

        for (uint32_t i = 0; r == 0 && i < MIN(x.nr_xcrs, ARRAY_SIZE(x.xcrs)); i++)
                if (x.xcrs[i].xcr == 0)
                        ret->reg64 = x.xcrs[i].value;
        return r;
}

int register_get_dr(const struct register_access *a, union hv_register_value *ret) {
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

int register_set_dr(const struct register_access *a, const union hv_register_value *v) {
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

int register_get_segment(const struct register_access *a, union hv_register_value *ret) {
        struct kvm_sregs s;
        int r = load_sregs(a, &s);

        if (r < 0)
                return r;
        ret->segment = vtl_segment_from_kvm(segment(&s, a->name));
        return 0;
}

int register_set_segment(const struct register_access *a, const union hv_register_value *v) {
        struct kvm_sregs s;
        int r = load_sregs(a, &s);

        if (r < 0)
                return r;
        *segment(&s, a->name) = vtl_segment_to_kvm(&v->segment);
        return store_sregs(a, &s);
}

int register_get_table(const struct register_access *a, union hv_register_value *ret) {
        const struct kvm_dtable *t;
        struct kvm_sregs s;
        int r = load_sregs(a, &s);

        if (r < 0)
                return r;
        t = a->name == HV_X64_REGISTER_IDTR ? &s.idt : &s.gdt;
        ret->table = (struct hv_x64_table_register){ .base = t->base, .limit = t->limit };
        return 0;
}

int register_set_table(const struct register_access *a, const union hv_register_value *v) {
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
        { HV_X64_REGISTER_XSS, 0xda0, false },
        { HV_X64_REGISTER_IA32_MISC_ENABLE, 0x1a0, false },
};

static size_t msr_index(uint32_t name) {
        size_t i = 0;

        while (i < ARRAY_SIZE(msr_table) && msr_table[i].name != name)
                i++;
        return i;
}

uint32_t register_of_msr(uint32_t msr) {
        for (size_t i = 0; i < ARRAY_SIZE(msr_table); i++)
                if (msr_table[i].msr == msr)
                        return msr_table[i].name;
        return 0;
}

int register_get_msr(const struct register_access *a, union hv_register_value *ret) {
        size_t i = msr_index(a->name);
        struct plane_msr m;
        int r;

        if (i == ARRAY_SIZE(msr_table))
                return HV_STATUS_INVALID_PARAMETER;
        m = (struct plane_msr){ .index = msr_table[i].msr };
        r = vtl_op(a->vp->partition, get, a->vtl, PLANE_MSRS, &m, sizeof(m));
        ret->reg64 = m.value;
        /* One that this CPU does not have, XSS */
        return r == -EINVAL ? HV_STATUS_INVALID_PARAMETER : r;
}

static bool pat_valid(uint64_t v) {
        for (unsigned i = 0; i < 8; i++, v >>= 8)
                if ((v & 0xff) > 7 || (v & 0xff) == 2 || (v & 0xff) == 3)
                        return false;
        return true;
}

int register_set_msr(const struct register_access *a, const union hv_register_value *v) {
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

int register_get_efer(const struct register_access *a, union hv_register_value *ret) {
        struct kvm_sregs s;
        int r = load_sregs(a, &s);

        ret->reg64 = s.efer;
        return r;
}

int register_set_efer(const struct register_access *a, const union hv_register_value *v) {
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

int register_get_apic_base(const struct register_access *a, union hv_register_value *ret) {
        struct kvm_sregs s;
        int r;

        if (a->vtl == 1) {
                ret->reg64 = a->vp->lapic.base_msr;
                return 0;
        }
        r = load_sregs(a, &s);
        ret->reg64 = s.apic_base;
        return r;
}

int register_set_apic_base(const struct register_access *a, const union hv_register_value *v) {
        union hv_register_value now = { 0 };
        int r = register_get_apic_base(a, &now);

        if (r != 0)
                return r;
        return now.reg64 == v->reg64 ? 0 : HV_STATUS_INVALID_PARAMETER;
}

int register_get_apic_id(const struct register_access *a, union hv_register_value *ret) {
        ret->reg64 = a->vp->apic_id;
        return 0;
}

int register_get_fp(const struct register_access *a, union hv_register_value *ret) {
        return vtl_fp_get(a->vp, a->name, ret);
}

int register_set_fp(const struct register_access *a, const union hv_register_value *v) {
        return vtl_fp_set(a->vp, a->name, v);
}

int register_get_xmm(const struct register_access *a, union hv_register_value *ret) {
        return vtl_xmm_get(a->vp, a->name - HV_X64_REGISTER_XMM0, 1, &ret->bytes);
}

int register_set_xmm(const struct register_access *a, const union hv_register_value *v) {
        return vtl_xmm_set(a->vp, a->name - HV_X64_REGISTER_XMM0, 1, &v->bytes);
}
