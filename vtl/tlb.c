/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/hold.h"
#include "vtl/hvpage.h"
#include "vtl/memory.h"
#include "vtl/tlb.h"
#include "vtl/walk.h"

#define CR4_PGE (1ull << 7)

/* The page that the caller's instruction is in, or none. */
static bool code_page(struct vtl_vp *vp, uint64_t *ret_gpn) {
        struct vtl_memory_view view = { .partition = vp->partition, .vtl = vp->active_vtl };
        struct walk_space space = vtl_memory_space(&view);
        const struct kvm_sregs *s = &vp->ctl->sregs;
        struct walk_result w;

        if (walk(&space, s, s->cs.base + vp->ctl->regs.rip, 0, &w) < 0 || w.fault != WALK_OK)
                return false;
        *ret_gpn = w.gpa >> HV_PAGE_SHIFT;
        return true;
}

/* Every VP looks at its own before it enters the guest again. */
static void leave_to_vps(struct vtl_vp *vp, unsigned vtl, uint64_t mask) {
        struct vtl_partition *p = vp->partition;

        for (unsigned i = 0; i < p->n_vps; i++) {
                struct vtl_vp *target = &p->vps[i];

                if (!(mask >> i & 1) || !(target->enabled_vtls & 1u << vtl))
                        continue;
                target->flush_vtls |= 1u << vtl;
                if (target != vp)
                        vtl_stop(target);
        }
}

int vtl_tlb_flush(struct vtl_vp *vp, unsigned vtl, uint64_t mask) {
        struct vtl_partition *p = vp->partition;
        uint64_t gpn;
        int r = -EOPNOTSUPP;

        if (vtl == vp->active_vtl && code_page(vp, &gpn) && vtl_memory_is_ram(p, gpn))
                r = vtl_op(p, flush, vtl, gpn);
        if (r != -EOPNOTSUPP)
                return r;
        leave_to_vps(vp, vtl, mask);
        return 0;
}

/* As a guest flushes everything itself: CR4.PGE goes and comes back (SDM volume 3A, 4.10.4.1). */
static int flush_plane(struct vtl_vp *vp, unsigned plane) {
        struct vtl_partition *p = vp->partition;
        struct kvm_sregs s, toggled;
        int r;

        r = vtl_op(p, get, plane, PLANE_SREGS, &s, sizeof(s));
        if (r < 0)
                return r;
        toggled = s;
        toggled.cr4 ^= CR4_PGE;
        r = vtl_op(p, set, plane, PLANE_SREGS, &toggled, sizeof(toggled));
        return r < 0 ? r : vtl_op(p, set, plane, PLANE_SREGS, &s, sizeof(s));
}

int vtl_tlb_flush_pending(struct vtl_vp *vp) {
        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++) {
                int r = vp->flush_vtls >> vtl & 1 ? flush_plane(vp, vtl) : 0;

                if (r < 0)
                        return r;
                vp->flush_vtls &= ~(1u << vtl);
        }
        return 0;
}

/* ---- The lock ---- */

void vtl_tlb_wait(struct vtl_vp *vp) {
        struct vtl_partition *p = vp->partition;

        for (unsigned i = 0; i < p->n_vps; i++)
                if (&p->vps[i] != vp && p->vps[i].tlb_locked)
                        vp->flush_waits |= UINT64_C(1) << i;
}

static bool any_locked(const struct vtl_partition *p) {
        for (unsigned i = 0; i < p->n_vps; i++)
                if (p->vps[i].tlb_locked)
                        return true;
        return false;
}

static uint8_t *hypercall_page(struct vtl_partition *p, unsigned vtl) {
        return vtl_overlay_data(p, vtl_overlay_page(VTL_OVERLAY_HYPERCALL, 0, vtl));
}

static enum hvpage_kind page_kind(const struct vtl_partition *p, unsigned vtl) {
        return vtl == 0 && p->config.kernel_hypercalls ? hvpage_kernel_kind() : HVPAGE_PLAIN;
}

void vtl_tlb_fill_page(struct vtl_partition *p, unsigned vtl) {
        enum hvpage_kind kind = page_kind(p, vtl);

        hvpage_fill(hypercall_page(p, vtl), kind);
        if (vtl == 0)
                hvpage_trap_all(hypercall_page(p, 0), kind, p->kernel_stopped);
}

/* A VP in the middle of VTL0's page, past the decision where its call goes, is to find the right
 * instruction when it comes back: so nobody may be in the guest while it is changed. */
static int stop_kernel(struct vtl_partition *p, bool on) {
        struct vtl_vp *self = p->current;
        bool held = p->holder == self;
        int r;

        if (page_kind(p, 0) == HVPAGE_PLAIN || p->kernel_stopped == on)
                return 0;
        r = vtl_hold(self);
        if (r != 0)
                return r;
        hvpage_trap_all(hypercall_page(p, 0), page_kind(p, 0), on);
        p->kernel_stopped = on;
        if (!held)
                vtl_release(self);
        return 0;
}

int vtl_tlb_lock(struct vtl_vp *vp) {
        int r = stop_kernel(vp->partition, true);

        if (r != 0)
                return r;
        vp->tlb_locked = true;
        vp->ctl->switchable = 0; /* the return from VTL1, which releases it, is the engine's */
        return 0;
}

void vtl_tlb_unlock(struct vtl_vp *vp) {
        struct vtl_partition *p = vp->partition;

        if (!vp->tlb_locked)
                return;
        vp->tlb_locked = false;
        /* While the others cannot be stopped all goes on trapping, until the next lock is gone. */
        if (!any_locked(p))
                (void) stop_kernel(p, false);
        for (unsigned i = 0; i < p->n_vps; i++) {
                struct vtl_vp *t = &p->vps[i];

                if (!(t->flush_waits >> vp->index & 1))
                        continue;
                t->flush_waits &= ~(UINT64_C(1) << vp->index);
                if (t->flush_waits == 0 && t != p->current)
                        (void) p->config.ops->kick(p->config.ops_ctx, i);
        }
}
