/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The operations of the model: what KVM refuses is refused here. */

#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/plane-model-internal.h"

#define CR0_PE (1ull << 0)
#define CR0_PG (1ull << 31)
#define CR0_NW (1ull << 29)
#define CR0_CD (1ull << 30)
#define CR4_PAE (1ull << 5)
#define CR4_KNOWN 0x377fffull
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define EFER_KNOWN 0xd01ull

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
                plane_model_flush(vp);
        plane_model_finish(&vp->plane[plane]);
        if (plane == vp->active)
                plane_model_publish(vp);
        return 0;
}

static int op_probe(void *ctx, unsigned vp_index) {
        struct plane_model *m = ctx;
        struct model_vp *vp = get_vp(m, vp_index);

        if (fails(m, MODEL_PROBE))
                return m->fail_with;
        return vp && vp->active > 0 ? vp->can_interrupt : -EINVAL;
}

/* Registers have not moved since the exit: to forget the instruction is all there is to do. */
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
                plane_model_publish(vp);
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
        plane_model_flush(vp);
        if (vp->active == 1)
                vp->ctl->vtl1_cr8 = vp->plane[1].cr8;
        move_shared(&vp->plane[vp->active], &vp->plane[plane], flags);
        vp->active = plane;
        vp->ctl->active_vtl = plane;
        plane_model_publish(vp);
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
        return access & HV_MAP_GPA_READABLE ? (uint8_t) (access & PLANE_MODEL_RW) : 0;
}

static int protect_range(struct plane_model *m, unsigned plane, const struct plane_range *range) {
        for (uint64_t i = 0; i < range->count; i++)
                if (!plane_model_page(m, plane, range->gpn + i))
                        return -EINVAL;
        for (uint64_t i = 0; i < range->count; i++) {
                struct model_page *page = plane_model_page(m, plane, range->gpn + i);

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
                        plane_model_page(m, plane, ranges[i].gpn + k)->access = old[--at];
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
        at = plane_model_page(m, plane, gpn);
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
        return plane < PLANE_MAX && plane_model_page(m, plane, gpn) ? 0 : -EINVAL;
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
                plane_model_publish(&m->vps[vp]);
}

static void op_give_back(void *ctx, unsigned vp) {
        struct plane_model *m = ctx;

        plane_model_flush(&m->vps[vp]);
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
