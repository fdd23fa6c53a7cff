/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What crosses from plane to plane at a switch (vsm.md 6.4). */

#include "util/util.h"
#include "vtl/plane-stock-internal.h"

/* x87, SSE, AVX and the rest of XSAVE's user state: set only when it changed since the target last
 * held it. */
static int move_fpu(struct stock_vp *vp, unsigned from, unsigned to) {
        struct kvm_xsave *held;
        int r;

        r = stock_vcpu_ioctl(vp, from, KVM_GET_XSAVE, vp->fpu_now);
        if (r < 0)
                return r;
        if (vp->fpu_known && memcmp(vp->fpu_now, vp->fpu, sizeof(*vp->fpu)) == 0)
                return 0;
        r = stock_vcpu_ioctl(vp, to, KVM_SET_XSAVE, vp->fpu_now);
        if (r < 0)
                return r;
        held = vp->fpu;
        vp->fpu = vp->fpu_now;
        vp->fpu_now = held;
        vp->fpu_known = true;
        return 0;
}

static uint64_t xcr0_of(const struct kvm_xcrs *x) {
        for (uint32_t i = 0; i < MIN(x->nr_xcrs, (uint32_t) ARRAY_SIZE(x->xcrs)); i++)
                if (x->xcrs[i].xcr == 0)
                        return x->xcrs[i].value;
        return 0;
}

/*
 * DR0-3 and XCR0: nothing reveals a change of them, so they are looked at on every switch that is
 * not the hot path's. Only what @from changed since it was last looked at crosses: what it merely
 * still holds may be older than what the other plane has written since, when the hot path brought
 * the VP here.
 */
static int move_debug_registers(struct stock_vp *vp, unsigned from, unsigned to) {
        struct kvm_debugregs a, b;
        int r;

        r = stock_vcpu_ioctl(vp, from, KVM_GET_DEBUGREGS, &a);
        if (r < 0 || memcmp(a.db, vp->seen_dr[from], sizeof(a.db)) == 0)
                return r;
        r = stock_vcpu_ioctl(vp, to, KVM_GET_DEBUGREGS, &b);
        if (r < 0)
                return r;
        memcpy(b.db, a.db, sizeof(b.db));
        r = stock_vcpu_ioctl(vp, to, KVM_SET_DEBUGREGS, &b);
        if (r < 0)
                return r;
        memcpy(vp->seen_dr[from], a.db, sizeof(a.db));
        memcpy(vp->seen_dr[to], a.db, sizeof(a.db));
        return 0;
}

static int move_xcr0(struct stock_vp *vp, unsigned from, unsigned to) {
        struct kvm_xcrs x;
        uint64_t value;
        int r;

        r = stock_vcpu_ioctl(vp, from, KVM_GET_XCRS, &x);
        if (r < 0)
                return r;
        value = xcr0_of(&x);
        if (value == 0 || value == vp->seen_xcr0[from])
                return 0;
        r = stock_vcpu_ioctl(vp, to, KVM_SET_XCRS, &x);
        if (r < 0)
                return r;
        vp->seen_xcr0[from] = vp->seen_xcr0[to] = value;
        return 0;
}

static int move_exact(struct plane_stock *s, struct stock_vp *vp, unsigned from, unsigned to) {
        int r = 0;

        if (s->has_debugregs)
                r = move_debug_registers(vp, from, to);
        if (r == 0 && s->has_xcrs)
                r = move_xcr0(vp, from, to);
        return r;
}

static int copy_tsc(struct stock_vp *vp) {
        uint64_t offset = 0;
        struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
                                        .attr = KVM_VCPU_TSC_OFFSET,
                                        .addr = (uintptr_t) &offset };

        vp->tsc_copied = true;
        if (stock_vcpu_ioctl(vp, 0, KVM_HAS_DEVICE_ATTR, &attr) < 0)
                return 0; /* the planes' counters then differ by the time between their creations */
        if (stock_vcpu_ioctl(vp, 0, KVM_GET_DEVICE_ATTR, &attr) < 0)
                return 0;
        return stock_vcpu_ioctl(vp, 1, KVM_SET_DEVICE_ATTR, &attr);
}

/* General registers and CR2; RIP, RSP and RFLAGS are the target's own. */
static void move_registers(struct stock_vp *vp, unsigned from, unsigned to) {
        const struct kvm_regs *a = stock_regs(vp, from);
        struct kvm_regs *b = stock_regs(vp, to);
        uint64_t rip = b->rip, rsp = b->rsp, rflags = b->rflags;

        *b = *a;
        b->rip = rip;
        b->rsp = rsp;
        b->rflags = rflags;
        vp->plane[to].run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
        if (stock_sregs(vp, from)->cr2 != stock_sregs(vp, to)->cr2) {
                stock_sregs(vp, to)->cr2 = stock_sregs(vp, from)->cr2;
                vp->plane[to].run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
        }
}

int plane_stock_switch_fast(struct plane_stock *s, struct stock_vp *vp, unsigned to) {
        unsigned from = vp->active;
        int r;

        r = move_fpu(vp, from, to);
        if (r < 0)
                return r;
        move_registers(vp, from, to);
        vp->active = to;
        vp->ctl->active_vtl = to;
        return 0;
}

int stock_switch_to(void *ctx, unsigned vp_index, unsigned to, unsigned flags) {
        struct plane_stock *s = ctx;
        struct stock_vp *vp = &s->vps[vp_index];
        unsigned from = vp->active;
        int r;

        if (to >= PLANE_MAX || to == from)
                return -EINVAL;
        plane_stock_flush(vp);
        if (!vp->tsc_copied) {
                r = copy_tsc(vp);
                if (r < 0)
                        return r;
        }
        /* XCR0 first: it says which parts of the FPU image count. */
        if (flags & PLANE_SWITCH_EXACT) {
                r = move_exact(s, vp, from, to);
                if (r < 0)
                        return r;
        }
        if (from == 1)
                vp->ctl->vtl1_cr8 = vp->plane[1].run->cr8 & 0xf;
        r = plane_stock_switch_fast(s, vp, to);
        if (r < 0)
                return r;
        plane_stock_publish(vp);
        return 0;
}
