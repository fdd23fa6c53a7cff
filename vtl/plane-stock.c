/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/plane-stock.h"

#define MSI_NMI 0x400u
#define UNWIND_MAX 64 /* exits that one emulated instruction may still make */

static int vcpu_ioctl(struct stock_vp *vp, unsigned plane, unsigned long request, void *arg) {
        vp->ctl->stats.vcpu_ioctls++;
        return ioctl(vp->plane[plane].fd, request, arg) < 0 ? -errno : 0;
}

static struct kvm_regs *sync_regs(struct stock_vp *vp, unsigned plane) {
        return &vp->plane[plane].run->s.regs.regs;
}
static struct kvm_sregs *sync_sregs(struct stock_vp *vp, unsigned plane) {
        return &vp->plane[plane].run->s.regs.sregs;
}

void plane_stock_publish(struct stock_vp *vp) {
        vp->ctl->regs = *sync_regs(vp, vp->active);
        vp->ctl->sregs = *sync_sregs(vp, vp->active);
        vp->ctl->regs_dirty = 0;
}

void plane_stock_flush(struct stock_vp *vp) {
        struct kvm_run *run = vp->plane[vp->active].run;
        uint32_t dirty = vp->ctl->regs_dirty;

        if (dirty & KVM_SYNC_X86_REGS) {
                run->s.regs.regs = vp->ctl->regs;
                run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
        }
        /* The engine changes only CR2 this way; everything else of SREGS goes through set(). */
        if (dirty & KVM_SYNC_X86_SREGS) {
                run->s.regs.sregs.cr2 = vp->ctl->sregs.cr2;
                run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
        }
        vp->ctl->regs_dirty = 0;
}

/* Whether the next KVM_RUN finishes something of this exit. */
static bool exit_pends(const struct kvm_run *run, int r) {
        if (r < 0)
                return false;
        switch (run->exit_reason) {
        case KVM_EXIT_IO:
        case KVM_EXIT_MMIO:
        case KVM_EXIT_X86_RDMSR:
        case KVM_EXIT_X86_WRMSR:
        case KVM_EXIT_HYPERCALL:
        case KVM_EXIT_HYPERV:
                return true;
        default:
                return false;
        }
}

int plane_stock_enter(struct plane_stock *s, struct stock_vp *vp, bool immediate) {
        struct stock_vcpu *c = &vp->plane[vp->active];
        struct kvm_run *run = c->run;
        uint8_t before = run->immediate_exit;
        int r;

        if (immediate)
                run->immediate_exit = 1;
        r = vcpu_ioctl(vp, vp->active, KVM_RUN, NULL);
        if (immediate)
                run->immediate_exit = before;
        c->pending = exit_pends(run, r);
        return r;
}

static int complete(struct stock_vp *vp, unsigned plane) {
        struct stock_vcpu *c = &vp->plane[plane];
        uint8_t before = c->run->immediate_exit;
        int r;

        if (plane == vp->active)
                plane_stock_flush(vp);
        if (c->pending) {
                c->run->immediate_exit = 1;
                r = vcpu_ioctl(vp, plane, KVM_RUN, NULL);
                c->run->immediate_exit = before;
                /* What is left pending here is an `out` of the hypercall page: it makes no further
                 * exit. */
                if (r != -EINTR)
                        return r < 0 ? r : -EIO;
                c->pending = false;
        }
        if (plane == vp->active)
                plane_stock_publish(vp);
        return 0;
}

static int op_complete(void *ctx, unsigned vp, unsigned plane) {
        struct plane_stock *s = ctx;

        return complete(&s->vps[vp], plane);
}

/*
 * One look: a halted vCPU with a signal pending comes back from KVM_RUN before it enters the guest,
 * and by then KVM has made it runnable if an interrupt or NMI could be delivered.
 */
static int look(struct stock_vp *vp) {
        struct kvm_mp_state state = { .mp_state = KVM_MP_STATE_HALTED };
        int r;

        r = vcpu_ioctl(vp, 0, KVM_SET_MP_STATE, &state);
        if (r < 0)
                return r;
        if (syscall(SYS_tgkill, getpid(), (pid_t) syscall(SYS_gettid), vp->signal) < 0)
                return -errno;
        r = vcpu_ioctl(vp, 0, KVM_RUN, NULL);
        if (r != -EINTR)
                return r < 0 ? r : -EIO;
        r = vcpu_ioctl(vp, 0, KVM_GET_MP_STATE, &state);
        return r < 0 ? r : state.mp_state == KVM_MP_STATE_RUNNABLE;
}

static int op_probe(void *ctx, unsigned vp_index) {
        static const struct timespec now;
        struct plane_stock *s = ctx;
        struct stock_vp *vp = &s->vps[vp_index];
        struct kvm_mp_state before;
        sigset_t set;
        int r, e;

        if (vp->active == 0)
                return -EINVAL;
        r = complete(vp, 0);
        if (r == 0)
                r = vcpu_ioctl(vp, 0, KVM_GET_MP_STATE, &before);
        if (r < 0)
                return r;
        if (before.mp_state != KVM_MP_STATE_RUNNABLE && before.mp_state != KVM_MP_STATE_HALTED)
                return 0; /* waits for INIT or SIPI */
        /* Twice: the first run lets an APIC timer that has expired reach the IRR. */
        r = look(vp);
        if (r == 0)
                r = look(vp);
        e = vcpu_ioctl(vp, 0, KVM_SET_MP_STATE, &before);
        (void) sigemptyset(&set);
        (void) sigaddset(&set, vp->signal);
        while (sigtimedwait(&set, NULL, &now) > 0)
                ;
        /* A kick that came meanwhile may have lost its signal in this. */
        if (atomic_load(&vp->ctl->kicked))
                (void) syscall(SYS_tgkill, getpid(), (pid_t) syscall(SYS_gettid), vp->signal);
        return e < 0 ? e : r;
}

static int op_unwind(void *ctx, unsigned vp_index, unsigned plane) {
        struct plane_stock *s = ctx;
        struct stock_vp *vp = &s->vps[vp_index];
        struct stock_vcpu *c = &vp->plane[plane];
        struct kvm_run *run = c->run;
        struct kvm_regs regs = run->s.regs.regs;
        struct kvm_sregs sregs = run->s.regs.sregs;
        _cleanup_free_ struct kvm_xsave *fpu = malloc(sizeof(*fpu));
        int r = 0;

        if (!fpu)
                return -ENOMEM;
        r = vcpu_ioctl(vp, plane, KVM_GET_XSAVE, fpu);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < UNWIND_MAX && c->pending; i++) {
                if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
                        memset(run->mmio.data, 0, sizeof(run->mmio.data));
                else if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
                        memset((uint8_t *) run + run->io.data_offset, 0,
                               (size_t) run->io.size * run->io.count);
                run->immediate_exit = 1;
                r = vcpu_ioctl(vp, plane, KVM_RUN, NULL);
                run->immediate_exit = 0;
                c->pending = exit_pends(run, r);
        }
        if (c->pending)
                return -EIO;
        if (r < 0 && r != -EINTR)
                return r;
        r = vcpu_ioctl(vp, plane, KVM_SET_XSAVE, fpu);
        if (r < 0)
                return r;
        r = vcpu_ioctl(vp, plane, KVM_SET_SREGS, &sregs);
        if (r < 0)
                return r;
        run->s.regs.sregs = sregs;
        run->s.regs.regs = regs;
        run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
        if (plane == vp->active)
                plane_stock_publish(vp);
        return 0;
}

static int msrs(struct stock_vp *vp, unsigned plane, unsigned long request, struct plane_msr *m,
                size_t n) {
        struct {
                struct kvm_msrs h;
                struct kvm_msr_entry e[16];
        } k = { .h.nmsrs = (uint32_t) n };
        int r;

        if (n > ARRAY_SIZE(k.e))
                return -E2BIG;
        for (size_t i = 0; i < n; i++)
                k.e[i] = (struct kvm_msr_entry){ .index = (uint32_t) m[i].index,
                                                 .data = m[i].value };
        vp->ctl->stats.vcpu_ioctls++;
        r = ioctl(vp->plane[plane].fd, request, &k);
        if (r < 0)
                return -errno;
        if ((size_t) r != n)
                return -EINVAL;
        for (size_t i = 0; i < n; i++)
                m[i].value = k.e[i].data;
        return 0;
}

/* Sizes of the classes, so that neither side of a mailbox can make the other copy past an end. */
static const size_t class_size[_PLANE_CLASS_MAX] = {
        [PLANE_REGS] = sizeof(struct kvm_regs),           [PLANE_SREGS] = sizeof(struct kvm_sregs),
        [PLANE_EVENTS] = sizeof(struct kvm_vcpu_events),  [PLANE_XSAVE] = sizeof(struct kvm_xsave),
        [PLANE_DEBUGREGS] = sizeof(struct kvm_debugregs), [PLANE_XCRS] = sizeof(struct kvm_xcrs),
        [PLANE_MP_STATE] = sizeof(struct kvm_mp_state),
};

static bool class_fits(unsigned plane, enum plane_class cls, size_t len) {
        if (plane >= PLANE_MAX || (unsigned) cls >= _PLANE_CLASS_MAX)
                return false;
        return cls == PLANE_MSRS ? len > 0 && len % sizeof(struct plane_msr) == 0
                                 : len == class_size[cls];
}

static int op_get(void *ctx, unsigned vp_index, unsigned plane, enum plane_class cls, void *buf,
                  size_t len) {
        static const unsigned long requests[_PLANE_CLASS_MAX] = {
                [PLANE_EVENTS] = KVM_GET_VCPU_EVENTS,  [PLANE_XSAVE] = KVM_GET_XSAVE,
                [PLANE_DEBUGREGS] = KVM_GET_DEBUGREGS, [PLANE_XCRS] = KVM_GET_XCRS,
                [PLANE_MP_STATE] = KVM_GET_MP_STATE,
        };
        struct plane_stock *s = ctx;
        struct stock_vp *vp = &s->vps[vp_index];

        if (!class_fits(plane, cls, len))
                return -EINVAL;
        switch (cls) {
        case PLANE_REGS:
                memcpy(buf, plane == vp->active ? &vp->ctl->regs : sync_regs(vp, plane), len);
                return 0;
        case PLANE_SREGS:
                memcpy(buf, plane == vp->active ? &vp->ctl->sregs : sync_sregs(vp, plane), len);
                return 0;
        case PLANE_MSRS:
                return msrs(vp, plane, KVM_GET_MSRS, buf, len / sizeof(struct plane_msr));
        default:
                return vcpu_ioctl(vp, plane, requests[cls], buf);
        }
}

static int set_regs(struct stock_vp *vp, unsigned plane, const void *buf) {
        if (plane == vp->active) {
                memcpy(&vp->ctl->regs, buf, sizeof(vp->ctl->regs));
                vp->ctl->regs_dirty |= KVM_SYNC_X86_REGS;
        } else {
                memcpy(sync_regs(vp, plane), buf, sizeof(struct kvm_regs));
                vp->plane[plane].run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
        }
        return 0;
}

/* By ioctl, so that values no CPU would hold are refused here and not by the next KVM_RUN. */
static int set_sregs(struct stock_vp *vp, unsigned plane, const void *buf) {
        struct kvm_sregs sregs;
        int r;

        memcpy(&sregs, buf, sizeof(sregs));
        r = vcpu_ioctl(vp, plane, KVM_SET_SREGS, &sregs);
        if (r < 0)
                return r;
        if (plane == vp->active)
                vp->ctl->sregs = sregs;
        *sync_sregs(vp, plane) = sregs;
        if (plane > 0)
                vp->plane[plane].run->cr8 = sregs.cr8;
        return 0;
}

static int op_set(void *ctx, unsigned vp_index, unsigned plane, enum plane_class cls,
                  const void *buf, size_t len) {
        static const unsigned long requests[_PLANE_CLASS_MAX] = {
                [PLANE_EVENTS] = KVM_SET_VCPU_EVENTS,  [PLANE_XSAVE] = KVM_SET_XSAVE,
                [PLANE_DEBUGREGS] = KVM_SET_DEBUGREGS, [PLANE_XCRS] = KVM_SET_XCRS,
                [PLANE_MP_STATE] = KVM_SET_MP_STATE,
        };
        struct plane_stock *s = ctx;
        struct stock_vp *vp = &s->vps[vp_index];
        struct plane_msr m[16];

        if (!class_fits(plane, cls, len))
                return -EINVAL;
        switch (cls) {
        case PLANE_REGS:
                return set_regs(vp, plane, buf);
        case PLANE_SREGS:
                return set_sregs(vp, plane, buf);
        case PLANE_MSRS:
                if (len > sizeof(m))
                        return -E2BIG;
                memcpy(m, buf, len);
                return msrs(vp, plane, KVM_SET_MSRS, m, len / sizeof(m[0]));
        case PLANE_XSAVE:
                if (plane != vp->active)
                        vp->fpu_known = false;
                __attribute__((fallthrough));
        default:
                return vcpu_ioctl(vp, plane, requests[cls], (void *) buf);
        }
}

/* x87, SSE, AVX and the rest of XSAVE's user state: set only when it changed since the target last
 * held it. */
static int move_fpu(struct stock_vp *vp, unsigned from, unsigned to) {
        struct kvm_xsave *held;
        int r;

        r = vcpu_ioctl(vp, from, KVM_GET_XSAVE, vp->fpu_now);
        if (r < 0)
                return r;
        if (vp->fpu_known && memcmp(vp->fpu_now, vp->fpu, sizeof(*vp->fpu)) == 0)
                return 0;
        r = vcpu_ioctl(vp, to, KVM_SET_XSAVE, vp->fpu_now);
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

        r = vcpu_ioctl(vp, from, KVM_GET_DEBUGREGS, &a);
        if (r < 0 || memcmp(a.db, vp->seen_dr[from], sizeof(a.db)) == 0)
                return r;
        r = vcpu_ioctl(vp, to, KVM_GET_DEBUGREGS, &b);
        if (r < 0)
                return r;
        memcpy(b.db, a.db, sizeof(b.db));
        r = vcpu_ioctl(vp, to, KVM_SET_DEBUGREGS, &b);
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

        r = vcpu_ioctl(vp, from, KVM_GET_XCRS, &x);
        if (r < 0)
                return r;
        value = xcr0_of(&x);
        if (value == 0 || value == vp->seen_xcr0[from])
                return 0;
        r = vcpu_ioctl(vp, to, KVM_SET_XCRS, &x);
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
        if (vcpu_ioctl(vp, 0, KVM_HAS_DEVICE_ATTR, &attr) < 0)
                return 0; /* the planes' counters then differ by the time between their creations */
        if (vcpu_ioctl(vp, 0, KVM_GET_DEVICE_ATTR, &attr) < 0)
                return 0;
        return vcpu_ioctl(vp, 1, KVM_SET_DEVICE_ATTR, &attr);
}

/* General registers and CR2; RIP, RSP and RFLAGS are the target's own. */
static void move_registers(struct stock_vp *vp, unsigned from, unsigned to) {
        const struct kvm_regs *a = sync_regs(vp, from);
        struct kvm_regs *b = sync_regs(vp, to);
        uint64_t rip = b->rip, rsp = b->rsp, rflags = b->rflags;

        *b = *a;
        b->rip = rip;
        b->rsp = rsp;
        b->rflags = rflags;
        vp->plane[to].run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
        if (sync_sregs(vp, from)->cr2 != sync_sregs(vp, to)->cr2) {
                sync_sregs(vp, to)->cr2 = sync_sregs(vp, from)->cr2;
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

static int op_switch_to(void *ctx, unsigned vp_index, unsigned to, unsigned flags) {
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

static int inject_exception(struct stock_vp *vp, unsigned plane,
                            const struct plane_injection *inj) {
        struct kvm_vcpu_events e;
        int r;

        r = vcpu_ioctl(vp, plane, KVM_GET_VCPU_EVENTS, &e);
        if (r < 0)
                return r;
        /* No VALID flags: an NMI that came meanwhile must not be written over (kvm-findings B). */
        e.flags = 0;
        e.exception.injected = 1;
        e.exception.pending = 0;
        e.exception.nr = (uint8_t) inj->vector;
        e.exception.has_error_code = inj->has_error_code != 0;
        e.exception.error_code = inj->error_code;
        return vcpu_ioctl(vp, plane, KVM_SET_VCPU_EVENTS, &e);
}

static int op_inject(void *ctx, unsigned vp_index, unsigned plane,
                     const struct plane_injection *inj) {
        struct plane_stock *s = ctx;
        struct stock_vp *vp = &s->vps[vp_index];
        struct kvm_interrupt irq = { .irq = inj->vector };
        struct kvm_msi msi = { .address_lo = (uint32_t) (STOCK_APIC_PAGE |
                                                         (uint64_t) inj->destination << 12),
                               .data = inj->nmi ? MSI_NMI : inj->vector };

        if (plane >= PLANE_MAX || inj->vector > 255 || inj->destination > 255)
                return -EINVAL;
        switch (inj->kind) {
        case PLANE_INJECT_INTERRUPT:
                return vcpu_ioctl(vp, plane, KVM_INTERRUPT, &irq);
        case PLANE_INJECT_NMI:
                return vcpu_ioctl(vp, plane, KVM_NMI, NULL);
        case PLANE_INJECT_EXCEPTION:
                return inject_exception(vp, plane, inj);
        case PLANE_INJECT_MSI:
                return ioctl(s->vm_fd[0], KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
        default:
                return -EINVAL;
        }
}

static int protection_of(uint32_t access) {
        return (access & HV_MAP_GPA_READABLE ? PROT_READ : PROT_NONE) |
               ((access & HV_MAP_GPA_READABLE) && (access & HV_MAP_GPA_WRITABLE) ? PROT_WRITE : 0);
}

const struct stock_region *plane_stock_ram(const struct plane_stock *s, uint64_t gpa) {
        for (size_t i = 0; i < s->n_regions; i++) {
                const struct stock_region *r = &s->regions[i];

                if (r->fd >= 0 && gpa >= r->gpa && gpa - r->gpa < r->size)
                        return r;
        }
        return NULL;
}

static int protect_range(struct plane_stock *s, unsigned plane, const struct plane_range *range) {
        uint64_t gpn = range->gpn, left = range->count;

        while (left > 0) {
                const struct stock_region *r = gpn > UINT64_MAX >> HV_PAGE_SHIFT
                                                     ? NULL
                                                     : plane_stock_ram(s, gpn << HV_PAGE_SHIFT);
                uint64_t offset, n;

                if (!r)
                        return -EINVAL;
                offset = (gpn << HV_PAGE_SHIFT) - r->gpa;
                n = MIN(left, (r->size - offset) >> HV_PAGE_SHIFT);
                if (mprotect(r->view[plane] + offset, n << HV_PAGE_SHIFT,
                             protection_of(range->access)) < 0)
                        return -errno;
                gpn += n;
                left -= n;
        }
        return 0;
}

static int op_protect(void *ctx, unsigned vp, unsigned plane, const struct plane_range *ranges,
                      size_t n) {
        struct plane_stock *s = ctx;

        if (plane >= PLANE_MAX)
                return -EINVAL;
        for (size_t i = 0; i < n; i++) {
                int r = protect_range(s, plane, &ranges[i]);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int op_overlay(void *ctx, unsigned vp, unsigned plane, uint64_t gpn, uint32_t page,
                      uint32_t access) {
        struct plane_stock *s = ctx;
        const struct stock_region *r =
                gpn > UINT64_MAX >> HV_PAGE_SHIFT ? NULL : plane_stock_ram(s, gpn << HV_PAGE_SHIFT);
        uint64_t at;
        void *m;

        if (plane >= PLANE_MAX || !r ||
            (page != PLANE_OVERLAY_NONE && page >= vtl_overlay_pages(s->n_vps)))
                return -EINVAL;
        at = (gpn << HV_PAGE_SHIFT) - r->gpa;
        m = mmap(r->view[plane] + at, HV_PAGE_SIZE, protection_of(access), MAP_SHARED | MAP_FIXED,
                 page == PLANE_OVERLAY_NONE ? r->fd : s->overlay_fd,
                 (off_t) (page == PLANE_OVERLAY_NONE ? r->fd_offset + at
                                                     : (uint64_t) page << HV_PAGE_SHIFT));
        return m == MAP_FAILED ? -errno : 0;
}

static int op_kick(void *ctx, unsigned target) {
        struct plane_stock *s = ctx;
        ssize_t n;

        if (target >= s->n_vps)
                return -EINVAL;
        if (atomic_exchange(&s->vps[target].ctl->kicked, 1))
                return 0; /* it has been asked for and not yet taken */
        n = write(s->vps[target].kick_fd, "", 1);
        return n < 0 && errno != EAGAIN ? -errno : 0;
}

const struct plane_ops plane_stock_ops = {
        .get = op_get,
        .set = op_set,
        .complete = op_complete,
        .unwind = op_unwind,
        .probe = op_probe,
        .switch_to = op_switch_to,
        .inject = op_inject,
        .protect = op_protect,
        .overlay = op_overlay,
        .kick = op_kick,
};
