/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/plane-model.h"

#define CR0_PE (1ull << 0)
#define CR0_PG (1ull << 31)
#define CR0_NW (1ull << 29)
#define CR0_CD (1ull << 30)
#define CR4_PAE (1ull << 5)
#define CR4_KNOWN 0x377fffull
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define EFER_KNOWN 0xd01ull
#define RW (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)

static const struct plane_msr reset_msrs[MODEL_MSRS] = {
        { 0x10, 0x1000 },              /* TSC */
        { 0x174, 0 },                  /* SYSENTER_CS */
        { 0x175, 0 },                  /* SYSENTER_ESP */
        { 0x176, 0 },                  /* SYSENTER_EIP */
        { 0x17a, 0 },                  /* MCG_STATUS */
        { 0x200, 0 },                  /* MTRR_PHYS_BASE0 */
        { 0x2ff, 0xc06 },              /* MTRR_DEF_TYPE */
        { 0x277, 0x0007040600070406 }, /* PAT */
        { 0xc0000081, 0 },             /* STAR */
        { 0xc0000082, 0 },             /* LSTAR */
        { 0xc0000083, 0 },             /* CSTAR */
        { 0xc0000084, 0 },             /* SFMASK */
        { 0xc0000102, 0 },             /* KERNEL_GS_BASE */
        { 0xc0000103, 0 },             /* TSC_AUX */
        { 0x1a0, 1 },                  /* MISC_ENABLE */
        { HV_MSR_GUEST_OS_ID, 0 },     /* KVM's own: */
        { HV_MSR_SINT0 + 2, HV_SINT_RESET },
};

/* ---- Making one ---- */

static void reset_vcpu(struct model_vcpu *c, unsigned vp, unsigned plane) {
        static const struct kvm_segment data = { .limit = 0xffff, .type = 3, .present = 1, .s = 1 };

        c->regs = (struct kvm_regs){ .rip = 0xfff0, .rflags = 2 };
        c->sregs = (struct kvm_sregs){
                .cs = { .base = 0xffff0000,
                        .limit = 0xffff,
                        .selector = 0xf000,
                        .type = 0xb,
                        .present = 1,
                        .s = 1 },
                .ds = data,
                .es = data,
                .fs = data,
                .gs = data,
                .ss = data,
                .tr = { .limit = 0xffff, .type = 0xb, .present = 1 },
                .ldt = { .limit = 0xffff, .type = 2, .present = 1 },
                .gdt = { .limit = 0xffff },
                .idt = { .limit = 0xffff },
                .cr0 = 0x60000010,
                .apic_base = 0xfee00800 | (vp == 0 ? 0x100 : 0),
        };
        c->debugregs = (struct kvm_debugregs){ .dr6 = 0xffff0ff0, .dr7 = 0x400 };
        c->xcrs = (struct kvm_xcrs){ .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = 1 } } };
        c->xsave.region[0] = 0x37f;  /* FCW */
        c->xsave.region[6] = 0x1f80; /* MXCSR */
        memcpy(c->msrs, reset_msrs, sizeof(c->msrs));
        c->mp_state.mp_state =
                plane == 0 && vp > 0 ? KVM_MP_STATE_UNINITIALIZED : KVM_MP_STATE_RUNNABLE;
}

static int make_region(struct model_region *r, const struct model_ram *ram) {
        uint64_t pages = ram->size >> HV_PAGE_SHIFT;

        if (!ram->base || ram->size == 0 || !is_aligned(ram->gpa | ram->size, HV_PAGE_SIZE))
                return -EINVAL;
        *r = (struct model_region){ .gpa = ram->gpa, .size = ram->size, .base = ram->base };
        for (unsigned plane = 0; plane < PLANE_MAX; plane++) {
                r->view[plane] = calloc(pages, sizeof(*r->view[plane]));
                if (!r->view[plane])
                        return -ENOMEM;
                for (uint64_t i = 0; i < pages; i++)
                        r->view[plane][i] =
                                (struct model_page){ .overlay = MODEL_NO_OVERLAY, .access = RW };
        }
        return 0;
}

int plane_model_new(struct plane_model **ret, unsigned vps, const struct model_ram *ram, size_t n,
                    void *control, uint8_t *overlay) {
        struct plane_model *m;
        int r;

        if (vps == 0 || vps > VTL_MAX_VPS || n == 0 || n > MODEL_REGIONS_MAX)
                return -EINVAL;
        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        m->vps = calloc(vps, sizeof(*m->vps));
        if (!m->vps) {
                plane_model_free(m);
                return -ENOMEM;
        }
        m->n_vps = vps;
        m->overlay = overlay;
        m->phys_bits = 40;
        for (unsigned vp = 0; vp < vps; vp++) {
                m->vps[vp].ctl = vtl_control_vp(control, vp);
                for (unsigned plane = 0; plane < PLANE_MAX; plane++)
                        reset_vcpu(&m->vps[vp].plane[plane], vp, plane);
        }
        for (size_t i = 0; i < n; i++) {
                r = make_region(&m->regions[m->n_regions++], &ram[i]);
                if (r < 0) {
                        plane_model_free(m);
                        return r;
                }
        }
        *ret = m;
        return 0;
}

struct plane_model *plane_model_free(struct plane_model *m) {
        if (!m)
                return NULL;
        for (size_t i = 0; i < m->n_regions; i++)
                for (unsigned plane = 0; plane < PLANE_MAX; plane++)
                        free(m->regions[i].view[plane]);
        free(m->vps);
        free(m);
        return NULL;
}

/* ---- Memory as the guest sees it ---- */

static const struct model_region *find_region(const struct plane_model *m, uint64_t gpn) {
        for (size_t i = 0; i < m->n_regions; i++) {
                const struct model_region *r = &m->regions[i];

                if (gpn >= r->gpa >> HV_PAGE_SHIFT &&
                    gpn - (r->gpa >> HV_PAGE_SHIFT) < r->size >> HV_PAGE_SHIFT)
                        return r;
        }
        return NULL;
}

static struct model_page *find_page(const struct plane_model *m, unsigned plane, uint64_t gpn) {
        const struct model_region *r = find_region(m, gpn);

        return r ? &r->view[plane][gpn - (r->gpa >> HV_PAGE_SHIFT)] : NULL;
}

unsigned plane_model_rights(const struct plane_model *m, unsigned plane, uint64_t gpn) {
        const struct model_page *page = find_page(m, plane, gpn);

        return page ? page->access : 0;
}

static uint8_t *memory_at(const struct plane_model *m, unsigned plane, uint64_t gpa) {
        const struct model_page *page = find_page(m, plane, gpa >> HV_PAGE_SHIFT);
        const struct model_region *r = find_region(m, gpa >> HV_PAGE_SHIFT);

        if (page->overlay != MODEL_NO_OVERLAY)
                return m->overlay + ((size_t) page->overlay << HV_PAGE_SHIFT) +
                       (gpa & (HV_PAGE_SIZE - 1));
        return r->base + (gpa - r->gpa);
}

static int copy(const struct plane_model *m, unsigned plane, uint64_t gpa, uint8_t *out,
                const uint8_t *in, size_t len) {
        unsigned need = in ? HV_MAP_GPA_WRITABLE : HV_MAP_GPA_READABLE;

        for (size_t done = 0; done < len;
             done += HV_PAGE_SIZE - ((gpa + done) & (HV_PAGE_SIZE - 1)))
                if (!(plane_model_rights(m, plane, (gpa + done) >> HV_PAGE_SHIFT) & need))
                        return -EFAULT;
        for (size_t i = 0; i < len; i++)
                if (in)
                        *memory_at(m, plane, gpa + i) = in[i];
                else
                        out[i] = *memory_at(m, plane, gpa + i);
        return 0;
}

int plane_model_read(const struct plane_model *m, unsigned plane, uint64_t gpa, void *buf,
                     size_t len) {
        return copy(m, plane, gpa, buf, NULL, len);
}

int plane_model_write(const struct plane_model *m, unsigned plane, uint64_t gpa, const void *buf,
                      size_t len) {
        return copy(m, plane, gpa, NULL, buf, len);
}

/* Whether page @i of a view continues the mapping of the page before it. */
static bool same_mapping(const struct model_page *view, uint64_t i) {
        const struct model_page *a = &view[i - 1], *b = &view[i];

        if (a->access != b->access)
                return false;
        if (a->overlay == MODEL_NO_OVERLAY || b->overlay == MODEL_NO_OVERLAY)
                return a->overlay == b->overlay;
        return b->overlay == a->overlay + 1;
}

size_t plane_model_mappings(const struct plane_model *m, unsigned plane) {
        size_t n = 0;

        for (size_t r = 0; r < m->n_regions; r++)
                for (uint64_t i = 0; i < m->regions[r].size >> HV_PAGE_SHIFT; i++)
                        n += i == 0 || !same_mapping(m->regions[r].view[plane], i);
        return n;
}

/* ---- The guest comes and goes ---- */

static void publish(struct model_vp *vp) {
        vp->ctl->regs = vp->plane[vp->active].regs;
        vp->ctl->sregs = vp->plane[vp->active].sregs;
        vp->ctl->regs_dirty = 0;
}

/* As the stock backend: of SREGS only CR2 goes this way. */
static void flush(struct model_vp *vp) {
        struct model_vcpu *c = &vp->plane[vp->active];

        if (vp->ctl->regs_dirty & KVM_SYNC_X86_REGS)
                c->regs = vp->ctl->regs;
        if (vp->ctl->regs_dirty & KVM_SYNC_X86_SREGS)
                c->sregs.cr2 = vp->ctl->sregs.cr2;
        vp->ctl->regs_dirty = 0;
}

static bool exit_pends(uint32_t kind) {
        return kind == VTL_EXIT_HYPERCALL || kind == VTL_EXIT_RDMSR || kind == VTL_EXIT_WRMSR ||
               kind == VTL_EXIT_MMIO || kind == VTL_EXIT_PORT;
}

void plane_model_exit(struct plane_model *m, unsigned vp_index, const struct vtl_exit *e,
                      unsigned length) {
        struct model_vp *vp = &m->vps[vp_index];
        struct model_vcpu *c = &vp->plane[vp->active];

        c->exit = *e;
        c->exit.plane = vp->active;
        c->exit.cr8 = c->cr8;
        c->exit_rip = c->regs.rip;
        c->exit_length = length;
        c->pending = exit_pends(e->kind);
        publish(vp);
        vp->ctl->exit = c->exit;
}

/* KVM skips the instruction when RIP is still where it was: whoever moved RIP has dealt with it. */
static void finish(struct model_vcpu *c) {
        if (c->pending && c->regs.rip == c->exit_rip)
                c->regs.rip += c->exit_length;
        c->pending = false;
        c->exits_left = 0;
}

void plane_model_enter(struct plane_model *m, unsigned vp_index) {
        struct model_vp *vp = &m->vps[vp_index];
        struct model_vcpu *c = &vp->plane[vp->active];
        const struct vtl_action *a = &vp->ctl->action;
        bool msr_error = false;

        flush(vp);
        if (c->pending && (c->exit.kind == VTL_EXIT_RDMSR || c->exit.kind == VTL_EXIT_WRMSR))
                msr_error = a->msr_error;
        if (msr_error) {
                c->pending = false; /* #GP: RIP stays */
        } else if (c->pending && c->exit.kind == VTL_EXIT_RDMSR) {
                c->regs.rax = (uint32_t) a->data;
                c->regs.rdx = a->data >> 32;
        }
        finish(c);
        c->cr8 = (uint8_t) (vp->active == 1 ? a->cr8 : c->cr8);
        c->sregs.cr8 = c->cr8;
        c->events.exception.injected = 0;
        c->events.interrupt.injected = 0;
        c->events.nmi.pending = 0;
}

/* ---- The operations ---- */

/* Whether the operation is the one that is to fail. */
static bool fails(struct plane_model *m, enum model_op op) {
        m->ops[op]++;
        if (m->fail_at == 0 || --m->fail_at > 0)
                return false;
        m->failed = true;
        return true;
}

static struct model_vp *get_vp(struct plane_model *m, unsigned vp) {
        return vp < m->n_vps ? &m->vps[vp] : NULL;
}

struct plane_msr *plane_model_msr(struct model_vcpu *c, uint64_t index) {
        for (size_t i = 0; i < ARRAY_SIZE(c->msrs); i++)
                if (c->msrs[i].index == index)
                        return &c->msrs[i];
        return NULL;
}

static bool canonical(uint64_t v) {
        return (uint64_t) ((int64_t) (v << 16) >> 16) == v;
}

static bool msr_legal(const struct plane_msr *m) {
        switch (m->index) {
        case 0x175:
        case 0x176:
        case 0xc0000082:
        case 0xc0000083:
        case 0xc0000102:
                return canonical(m->value);
        case 0xc0000080:
                return !(m->value & ~EFER_KNOWN);
        default:
                return true;
        }
}

/* Two of them are among the system registers, too. As with KVM's kvm_run, whoever has a copy of
 * those does not see the change. */
static __u64 *msr_value(struct model_vcpu *c, uint64_t index) {
        struct plane_msr *at = plane_model_msr(c, index);

        if (index == 0xc0000080)
                return &c->sregs.efer;
        if (index == 0x1b)
                return &c->sregs.apic_base;
        return at ? (__u64 *) &at->value : NULL;
}

static int move_msrs(struct model_vcpu *c, struct plane_msr *list, size_t n, bool set) {
        for (size_t i = 0; i < n; i++) {
                __u64 *at = msr_value(c, list[i].index);

                if (!at || (set && !msr_legal(&list[i])))
                        return -EINVAL;
                if (set)
                        *at = list[i].value;
                else
                        list[i].value = *at;
        }
        return 0;
}

/* What KVM_SET_SREGS refuses. */
static bool sregs_legal(const struct plane_model *m, const struct kvm_sregs *s) {
        if (s->cr0 >> 32 || (s->cr0 & CR0_PG && !(s->cr0 & CR0_PE)) ||
            (s->cr0 & CR0_NW && !(s->cr0 & CR0_CD)))
                return false;
        if ((s->cr4 & ~CR4_KNOWN) || (s->efer & ~EFER_KNOWN) || s->cr8 > 15)
                return false;
        if ((s->efer & EFER_LME) && (s->cr0 & CR0_PG))
                return (s->cr4 & CR4_PAE) && (s->efer & EFER_LMA) && s->cr3 >> m->phys_bits == 0;
        return !(s->efer & EFER_LMA) && !s->cs.l;
}

static void *state_of(struct model_vp *vp, unsigned plane, enum plane_class cls, size_t *ret_len) {
        struct model_vcpu *c = &vp->plane[plane];
        bool active = plane == vp->active;
        const struct {
                void *at;
                size_t len;
        } table[_PLANE_CLASS_MAX] = {
                [PLANE_REGS] = { active ? &vp->ctl->regs : &c->regs, sizeof(c->regs) },
                [PLANE_SREGS] = { active ? &vp->ctl->sregs : &c->sregs, sizeof(c->sregs) },
                [PLANE_EVENTS] = { &c->events, sizeof(c->events) },
                [PLANE_XSAVE] = { &c->xsave, sizeof(c->xsave) },
                [PLANE_DEBUGREGS] = { &c->debugregs, sizeof(c->debugregs) },
                [PLANE_XCRS] = { &c->xcrs, sizeof(c->xcrs) },
                [PLANE_MP_STATE] = { &c->mp_state, sizeof(c->mp_state) },
        };

        *ret_len = table[cls].len;
        return table[cls].at;
}

static int op_get(void *ctx, unsigned vp_index, unsigned plane, enum plane_class cls, void *buf,
                  size_t len) {
        struct plane_model *m = ctx;
        struct model_vp *vp = get_vp(m, vp_index);
        size_t expected;
        void *at;

        if (fails(m, MODEL_GET))
                return m->fail_with;
        if (!vp || plane >= PLANE_MAX || (unsigned) cls >= _PLANE_CLASS_MAX)
                return -EINVAL;
        if (cls == PLANE_MSRS)
                return len == 0 || len % sizeof(struct plane_msr)
                             ? -EINVAL
                             : move_msrs(&vp->plane[plane], buf, len / sizeof(struct plane_msr),
                                         false);
        at = state_of(vp, plane, cls, &expected);
        if (len != expected)
                return -EINVAL;
        memcpy(buf, at, len);
        return 0;
}

static int set_legal(const struct plane_model *m, enum plane_class cls, const void *buf) {
        const struct kvm_debugregs *d = buf;
        const struct kvm_xcrs *x = buf;

        switch (cls) {
        case PLANE_SREGS:
                return sregs_legal(m, buf) ? 0 : -EINVAL;
        case PLANE_DEBUGREGS:
                return d->dr6 >> 32 || d->dr7 >> 32 ? -EINVAL : 0;
        case PLANE_XCRS:
                return x->nr_xcrs != 1 || x->xcrs[0].xcr != 0 || !(x->xcrs[0].value & 1) ? -EINVAL
                                                                                         : 0;
        default:
                return 0;
        }
}

static int op_set(void *ctx, unsigned vp_index, unsigned plane, enum plane_class cls,
                  const void *buf, size_t len) {
        struct plane_model *m = ctx;
        struct model_vp *vp = get_vp(m, vp_index);
        struct plane_msr list[MODEL_MSRS];
        size_t expected;
        void *at;
        int r;

        if (fails(m, MODEL_SET))
                return m->fail_with;
        if (!vp || plane >= PLANE_MAX || (unsigned) cls >= _PLANE_CLASS_MAX)
                return -EINVAL;
        if (cls == PLANE_MSRS) {
                if (len == 0 || len % sizeof(list[0]) || len > sizeof(list))
                        return -EINVAL;
                memcpy(list, buf, len);
                return move_msrs(&vp->plane[plane], list, len / sizeof(list[0]), true);
        }
        at = state_of(vp, plane, cls, &expected);
        if (len != expected)
                return -EINVAL;
        r = set_legal(m, cls, buf);
        if (r < 0)
                return r;
        memcpy(at, buf, len);
        if (cls == PLANE_REGS && plane == vp->active)
                vp->ctl->regs_dirty |= KVM_SYNC_X86_REGS;
        if (cls == PLANE_SREGS) {
                memcpy(&vp->plane[plane].sregs, buf, len);
                vp->plane[plane].cr8 = (uint8_t) vp->plane[plane].sregs.cr8;
        }
        return 0;
}

static int op_complete(void *ctx, unsigned vp_index, unsigned plane) {
        struct plane_model *m = ctx;
        struct model_vp *vp = get_vp(m, vp_index);

        if (fails(m, MODEL_COMPLETE))
                return m->fail_with;
        if (!vp || plane >= PLANE_MAX)
                return -EINVAL;
        if (vp->plane[plane].exits_left > 0)
                return -EIO;
        if (plane == vp->active)
                flush(vp);
        finish(&vp->plane[plane]);
        if (plane == vp->active)
                publish(vp);
        return 0;
}

/* Registers have not moved since the exit: to forget the instruction is all there is to do. */
static int op_probe(void *ctx, unsigned vp_index) {
        struct plane_model *m = ctx;
        struct model_vp *vp = get_vp(m, vp_index);

        if (fails(m, MODEL_PROBE))
                return m->fail_with;
        return vp && vp->active > 0 ? vp->can_interrupt : -EINVAL;
}

static int op_unwind(void *ctx, unsigned vp_index, unsigned plane) {
        struct plane_model *m = ctx;
        struct model_vp *vp = get_vp(m, vp_index);

        if (fails(m, MODEL_UNWIND))
                return m->fail_with;
        if (!vp || plane >= PLANE_MAX)
                return -EINVAL;
        vp->plane[plane].pending = false;
        vp->plane[plane].exits_left = 0;
        if (plane == vp->active)
                publish(vp);
        return 0;
}

static void move_shared(struct model_vcpu *from, struct model_vcpu *to, unsigned flags) {
        struct kvm_regs own = to->regs;

        to->regs = from->regs;
        to->regs.rip = own.rip;
        to->regs.rsp = own.rsp;
        to->regs.rflags = own.rflags;
        to->sregs.cr2 = from->sregs.cr2;
        to->xsave = from->xsave;
        if (flags & PLANE_SWITCH_EXACT) {
                memcpy(to->debugregs.db, from->debugregs.db, sizeof(to->debugregs.db));
                to->xcrs = from->xcrs;
        }
}

static int op_switch_to(void *ctx, unsigned vp_index, unsigned plane, unsigned flags) {
        struct plane_model *m = ctx;
        struct model_vp *vp = get_vp(m, vp_index);

        if (fails(m, MODEL_SWITCH))
                return m->fail_with;
        if (!vp || plane >= PLANE_MAX || plane == vp->active)
                return -EINVAL;
        flush(vp);
        if (vp->active == 1)
                vp->ctl->vtl1_cr8 = vp->plane[1].cr8;
        move_shared(&vp->plane[vp->active], &vp->plane[plane], flags);
        vp->active = plane;
        vp->ctl->active_vtl = plane;
        publish(vp);
        return 0;
}

static int op_inject(void *ctx, unsigned vp_index, unsigned plane,
                     const struct plane_injection *inj) {
        struct plane_model *m = ctx;
        struct model_vp *vp = get_vp(m, vp_index);
        struct kvm_vcpu_events *e;

        if (fails(m, MODEL_INJECT))
                return m->fail_with;
        if (!vp || plane >= PLANE_MAX || inj->vector > 255 || inj->kind > PLANE_INJECT_MSI)
                return -EINVAL;
        e = &vp->plane[plane].events;
        if (inj->kind == PLANE_INJECT_INTERRUPT) {
                e->interrupt.injected = 1;
                e->interrupt.nr = (uint8_t) inj->vector;
        } else if (inj->kind == PLANE_INJECT_NMI)
                e->nmi.pending = 1;
        else if (inj->kind == PLANE_INJECT_EXCEPTION) {
                e->exception.injected = 1;
                e->exception.nr = (uint8_t) inj->vector;
                e->exception.has_error_code = inj->has_error_code != 0;
                e->exception.error_code = inj->error_code;
        }
        if (vp->n_injections < MODEL_INJECTIONS) {
                vp->injections[vp->n_injections].plane = plane;
                vp->injections[vp->n_injections].what = *inj;
        }
        vp->n_injections++;
        return 0;
}

/* mprotect() knows nothing that can be written and not read. */
static uint8_t view_access(uint32_t access) {
        return access & HV_MAP_GPA_READABLE ? (uint8_t) (access & RW) : 0;
}

static int protect_range(struct plane_model *m, unsigned plane, const struct plane_range *range) {
        for (uint64_t i = 0; i < range->count; i++)
                if (!find_page(m, plane, range->gpn + i))
                        return -EINVAL;
        for (uint64_t i = 0; i < range->count; i++) {
                struct model_page *page = find_page(m, plane, range->gpn + i);

                m->protected_overlays += page->overlay != MODEL_NO_OVERLAY;
                page->access = view_access(range->access);
        }
        m->protected_ranges++;
        return 0;
}

/* All of them or none, as the contract has it. */
static int protect_within(struct plane_model *m, unsigned plane, const struct plane_range *ranges,
                          size_t n) {
        _cleanup_free_ uint8_t *old = NULL;
        uint64_t pages = 0, at = 0;
        int r = 0;

        for (size_t i = 0; i < n; i++)
                pages += ranges[i].count;
        old = calloc(MAX(pages, (uint64_t) 1), 1);
        if (!old)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                for (uint64_t k = 0; k < ranges[i].count; k++)
                        old[at++] = (uint8_t) plane_model_rights(m, plane, ranges[i].gpn + k);
        for (size_t i = 0; i < n && r == 0; i++)
                r = protect_range(m, plane, &ranges[i]);
        if (r < 0 || plane_model_mappings(m, plane) <= m->mappings_max)
                return r;
        for (size_t i = n; i-- > 0;)
                for (uint64_t k = ranges[i].count; k-- > 0;)
                        find_page(m, plane, ranges[i].gpn + k)->access = old[--at];
        return -ENOMEM;
}

static int op_protect(void *ctx, unsigned vp, unsigned plane, const struct plane_range *ranges,
                      size_t n) {
        struct plane_model *m = ctx;
        int r = 0;

        if (fails(m, MODEL_PROTECT))
                return m->fail_with;
        if (plane >= PLANE_MAX)
                return -EINVAL;
        if (m->mappings_max > 0)
                return protect_within(m, plane, ranges, n);
        for (size_t i = 0; i < n && r == 0; i++)
                r = protect_range(m, plane, &ranges[i]);
        return r;
}

static int op_overlay(void *ctx, unsigned vp, unsigned plane, uint64_t gpn, uint32_t page,
                      uint32_t access) {
        struct plane_model *m = ctx;
        struct model_page *at;

        if (fails(m, MODEL_OVERLAY))
                return m->fail_with;
        if (plane >= PLANE_MAX || (page != MODEL_NO_OVERLAY && page >= vtl_overlay_pages(m->n_vps)))
                return -EINVAL;
        at = find_page(m, plane, gpn);
        if (!at)
                return -EINVAL;
        *at = (struct model_page){ .overlay = page, .access = view_access(access) };
        return 0;
}

/* What a vCPU may still remember of page tables is nothing the model knows. */
static int op_flush(void *ctx, unsigned vp, unsigned plane, uint64_t gpn) {
        struct plane_model *m = ctx;

        if (fails(m, MODEL_FLUSH))
                return m->fail_with;
        if (m->no_flush)
                return -EOPNOTSUPP;
        return plane < PLANE_MAX && find_page(m, plane, gpn) ? 0 : -EINVAL;
}

static int op_kick(void *ctx, unsigned target) {
        struct plane_model *m = ctx;
        struct model_vp *vp = get_vp(m, target);

        if (fails(m, MODEL_KICK))
                return m->fail_with;
        if (!vp)
                return -EINVAL;
        atomic_fetch_add(&vp->kicks, 1);
        atomic_store(&vp->ctl->kicked, 1);
        return 0;
}

static int op_filter_msrs(void *ctx, unsigned vp, const struct plane_msr_filter *f) {
        struct plane_model *m = ctx;

        if (fails(m, MODEL_FILTER))
                return m->fail_with;
        m->msr_filter = *f;
        return 0;
}

static int op_filter_ports(void *ctx, unsigned vp, const struct plane_port_filter *f) {
        struct plane_model *m = ctx;

        if (fails(m, MODEL_FILTER))
                return m->fail_with;
        m->port_filter = *f;
        return 0;
}

static int op_state_put(void *ctx, unsigned vp, const void *buf, size_t len) {
        struct plane_model *m = ctx;

        if (fails(m, MODEL_STATE))
                return m->fail_with;
        if (!m->saved || len > PLANE_STATE_PIECE)
                return -EMSGSIZE;
        blob_put(m->saved, buf, len);
        return m->saved->error;
}

static int op_state_get(void *ctx, unsigned vp, void *buf, size_t len) {
        struct plane_model *m = ctx;

        if (fails(m, MODEL_STATE))
                return m->fail_with;
        if (!m->loading || len > m->loading_left || len > PLANE_STATE_PIECE)
                return -EMSGSIZE;
        memcpy(buf, m->loading, len);
        m->loading += len;
        m->loading_left -= len;
        return 0;
}

/* The other VP's registers to and from its control page, where get() and set() look for them. */
static void op_borrow(void *ctx, unsigned vp) {
        struct plane_model *m = ctx;

        if (!m->vps[vp].plane[m->vps[vp].active].pending)
                publish(&m->vps[vp]);
}

static void op_give_back(void *ctx, unsigned vp) {
        struct plane_model *m = ctx;

        flush(&m->vps[vp]);
}

const struct plane_ops plane_model_ops = {
        .get = op_get,
        .set = op_set,
        .complete = op_complete,
        .unwind = op_unwind,
        .probe = op_probe,
        .switch_to = op_switch_to,
        .inject = op_inject,
        .protect = op_protect,
        .overlay = op_overlay,
        .flush = op_flush,
        .filter_msrs = op_filter_msrs,
        .filter_ports = op_filter_ports,
        .state_put = op_state_put,
        .state_get = op_state_get,
        .borrow = op_borrow,
        .give_back = op_give_back,
        .kick = op_kick,
};
