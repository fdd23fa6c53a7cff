/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/plane-model-internal.h"

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
                        r->view[plane][i] = (struct model_page){ .overlay = MODEL_NO_OVERLAY,
                                                                 .access = PLANE_MODEL_RW };
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

struct model_page *plane_model_page(const struct plane_model *m, unsigned plane, uint64_t gpn) {
        const struct model_region *r = find_region(m, gpn);

        return r ? &r->view[plane][gpn - (r->gpa >> HV_PAGE_SHIFT)] : NULL;
}

unsigned plane_model_rights(const struct plane_model *m, unsigned plane, uint64_t gpn) {
        const struct model_page *page = plane_model_page(m, plane, gpn);

        return page ? page->access : 0;
}

static uint8_t *memory_at(const struct plane_model *m, unsigned plane, uint64_t gpa) {
        const struct model_page *page = plane_model_page(m, plane, gpa >> HV_PAGE_SHIFT);
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

void plane_model_publish(struct model_vp *vp) {
        vp->ctl->regs = vp->plane[vp->active].regs;
        vp->ctl->sregs = vp->plane[vp->active].sregs;
        vp->ctl->regs_dirty = 0;
}

/* As the stock backend: of SREGS only CR2 goes this way. */
void plane_model_flush(struct model_vp *vp) {
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
        plane_model_publish(vp);
        vp->ctl->exit = c->exit;
}

/* KVM skips the instruction when RIP is still where it was: whoever moved RIP has dealt with it. */
void plane_model_finish(struct model_vcpu *c) {
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

        plane_model_flush(vp);
        if (c->pending && (c->exit.kind == VTL_EXIT_RDMSR || c->exit.kind == VTL_EXIT_WRMSR))
                msr_error = a->msr_error;
        if (msr_error) {
                c->pending = false; /* #GP: RIP stays */
        } else if (c->pending && c->exit.kind == VTL_EXIT_RDMSR) {
                c->regs.rax = (uint32_t) a->data;
                c->regs.rdx = a->data >> 32;
        }
        plane_model_finish(c);
        c->cr8 = (uint8_t) (vp->active == 1 ? a->cr8 : c->cr8);
        c->sregs.cr8 = c->cr8;
        c->events.exception.injected = 0;
        c->events.interrupt.injected = 0;
        c->events.nmi.pending = 0;
}
