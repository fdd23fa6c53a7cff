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
#include "vtl/plane-stock-internal.h"

#define MSI_NMI 0x400u
#define STATE_MAX ((size_t) 128 << 20) /* more than any engine saves */
#define UNWIND_MAX 64                  /* exits that one emulated instruction may still make */

void plane_stock_publish(struct stock_vp *vp) {
        vp->ctl->regs = *stock_regs(vp, vp->active);
        vp->ctl->sregs = *stock_sregs(vp, vp->active);
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
        r = stock_vcpu_ioctl(vp, vp->active, KVM_RUN, NULL);
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
                r = stock_vcpu_ioctl(vp, plane, KVM_RUN, NULL);
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

static int mp_state(struct stock_vp *vp, uint32_t *ret) {
        struct kvm_mp_state state;
        int r = stock_vcpu_ioctl(vp, 0, KVM_GET_MP_STATE, &state);

        if (r == 0)
                *ret = state.mp_state;
        return r;
}

static int set_mp_state(struct stock_vp *vp, uint32_t value) {
        struct kvm_mp_state state = { .mp_state = value };

        return stock_vcpu_ioctl(vp, 0, KVM_SET_MP_STATE, &state);
}

/*
 * A halted vCPU with a signal pending comes back from KVM_RUN before it enters the guest, and by
 * then KVM has made it runnable if an interrupt or NMI could be delivered. Twice: the first run
 * lets an APIC timer that has expired reach the IRR. The signal stays pending, since only KVM_RUN
 * lets it in. Return: 0 with the new state in @state, or a negative errno.
 */
static int look(struct stock_vp *vp, uint32_t *state) {
        int r = 0;

        if (syscall(SYS_tgkill, getpid(), (pid_t) syscall(SYS_gettid), vp->signal) < 0)
                return -errno;
        for (unsigned i = 0; i < 2 && r == 0 && *state == KVM_MP_STATE_HALTED; i++) {
                r = stock_vcpu_ioctl(vp, 0, KVM_RUN, NULL);
                r = r == -EINTR ? mp_state(vp, state) : r == 0 ? -EIO : r;
        }
        return r;
}

static void take_signal(const struct stock_vp *vp) {
        static const struct timespec now;
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, vp->signal);
        while (sigtimedwait(&set, NULL, &now) > 0)
                ;
        /* A kick that came meanwhile may have lost its signal in this. */
        if (atomic_load(&vp->ctl->kicked))
                (void) syscall(SYS_tgkill, getpid(), (pid_t) syscall(SYS_gettid), vp->signal);
}

static int op_probe(void *ctx, unsigned vp_index) {
        struct plane_stock *s = ctx;
        struct stock_vp *vp = &s->vps[vp_index];
        uint32_t state = KVM_MP_STATE_UNINITIALIZED;
        bool halt;
        int r, e = 0;

        if (vp->active == 0)
                return -EINVAL;
        r = complete(vp, 0);
        if (r == 0)
                r = mp_state(vp, &state);
        if (r < 0)
                return r;
        if (state != KVM_MP_STATE_RUNNABLE && state != KVM_MP_STATE_HALTED)
                return 0; /* waits for INIT or SIPI */
        halt = state == KVM_MP_STATE_RUNNABLE;
        if (halt) {
                state = KVM_MP_STATE_HALTED;
                r = set_mp_state(vp, state);
        }
        if (r == 0)
                r = look(vp, &state);
        /* What it has become meanwhile, be it by an INIT, is KVM's doing and stays. */
        if (halt && state == KVM_MP_STATE_HALTED)
                e = set_mp_state(vp, KVM_MP_STATE_RUNNABLE);
        take_signal(vp);
        if (r < 0 || e < 0)
                return r < 0 ? r : e;
        return state == KVM_MP_STATE_RUNNABLE;
}

/* What the instruction would have raised in the end, a page fault of its second operand: it has not
 * been executed. */
static int forget_exception(struct stock_vp *vp, unsigned plane) {
        struct kvm_vcpu_events e;
        int r = stock_vcpu_ioctl(vp, plane, KVM_GET_VCPU_EVENTS, &e);

        if (r < 0 || (!e.exception.injected && !e.exception.pending))
                return r;
        e.flags = 0; /* no NMI that came meanwhile is written over */
        e.exception.injected = e.exception.pending = 0;
        return stock_vcpu_ioctl(vp, plane, KVM_SET_VCPU_EVENTS, &e);
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
        r = stock_vcpu_ioctl(vp, plane, KVM_GET_XSAVE, fpu);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < UNWIND_MAX && c->pending; i++) {
                if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
                        memset(run->mmio.data, 0, sizeof(run->mmio.data));
                else if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
                        memset((uint8_t *) run + run->io.data_offset, 0,
                               (size_t) run->io.size * run->io.count);
                else if (run->exit_reason == KVM_EXIT_X86_RDMSR ||
                         run->exit_reason == KVM_EXIT_X86_WRMSR)
                        run->msr.error = 0; /* KVM does nothing more about it */
                run->immediate_exit = 1;
                r = stock_vcpu_ioctl(vp, plane, KVM_RUN, NULL);
                run->immediate_exit = 0;
                c->pending = exit_pends(run, r);
        }
        if (c->pending)
                return -EIO;
        if (r < 0 && r != -EINTR)
                return r;
        r = forget_exception(vp, plane);
        if (r == 0)
                r = stock_vcpu_ioctl(vp, plane, KVM_SET_XSAVE, fpu);
        if (r < 0)
                return r;
        r = stock_vcpu_ioctl(vp, plane, KVM_SET_SREGS, &sregs);
        if (r < 0)
                return r;
        run->s.regs.sregs = sregs;
        run->s.regs.regs = regs;
        run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
        if (plane == vp->active)
                plane_stock_publish(vp);
        return 0;
}

/* KVM's SINTs exist once its SynIC does. */
static int turn_synic_on(struct stock_vp *vp, const struct plane_msr *m, size_t n) {
        struct kvm_enable_cap cap = { .cap = KVM_CAP_HYPERV_SYNIC2 };
        int r;

        for (size_t i = 0; i < n && !vp->synic_on; i++) {
                if (m[i].index < HV_MSR_SINT0 || m[i].index > HV_MSR_SINT15)
                        continue;
                r = stock_vcpu_ioctl(vp, 0, KVM_ENABLE_CAP, &cap);
                if (r < 0)
                        return r;
                vp->synic_on = true;
        }
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
        r = plane == 0 ? turn_synic_on(vp, m, n) : 0;
        if (r < 0)
                return r;
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
                memcpy(buf, plane == vp->active ? &vp->ctl->regs : stock_regs(vp, plane), len);
                return 0;
        case PLANE_SREGS:
                memcpy(buf, plane == vp->active ? &vp->ctl->sregs : stock_sregs(vp, plane), len);
                return 0;
        case PLANE_MSRS:
                return msrs(vp, plane, KVM_GET_MSRS, buf, len / sizeof(struct plane_msr));
        default:
                return stock_vcpu_ioctl(vp, plane, requests[cls], buf);
        }
}

static int set_regs(struct stock_vp *vp, unsigned plane, const void *buf) {
        if (plane == vp->active) {
                memcpy(&vp->ctl->regs, buf, sizeof(vp->ctl->regs));
                vp->ctl->regs_dirty |= KVM_SYNC_X86_REGS;
        } else {
                memcpy(stock_regs(vp, plane), buf, sizeof(struct kvm_regs));
                vp->plane[plane].run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
        }
        return 0;
}

/* By ioctl, so that values no CPU would hold are refused here and not by the next KVM_RUN. */
static int set_sregs(struct stock_vp *vp, unsigned plane, const void *buf) {
        struct kvm_sregs sregs;
        int r;

        memcpy(&sregs, buf, sizeof(sregs));
        r = stock_vcpu_ioctl(vp, plane, KVM_SET_SREGS, &sregs);
        if (r < 0)
                return r;
        if (plane == vp->active)
                vp->ctl->sregs = sregs;
        *stock_sregs(vp, plane) = sregs;
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
                return stock_vcpu_ioctl(vp, plane, requests[cls], (void *) buf);
        }
}

static int inject_exception(struct stock_vp *vp, unsigned plane,
                            const struct plane_injection *inj) {
        struct kvm_vcpu_events e;
        int r;

        r = stock_vcpu_ioctl(vp, plane, KVM_GET_VCPU_EVENTS, &e);
        if (r < 0)
                return r;
        /* No VALID flags: an NMI that came meanwhile must not be written over (kvm-findings B). */
        e.flags = 0;
        e.exception.injected = 1;
        e.exception.pending = 0;
        e.exception.nr = (uint8_t) inj->vector;
        e.exception.has_error_code = inj->has_error_code != 0;
        e.exception.error_code = inj->error_code;
        return stock_vcpu_ioctl(vp, plane, KVM_SET_VCPU_EVENTS, &e);
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
                return stock_vcpu_ioctl(vp, plane, KVM_INTERRUPT, &irq);
        case PLANE_INJECT_NMI:
                return stock_vcpu_ioctl(vp, plane, KVM_NMI, NULL);
        case PLANE_INJECT_EXCEPTION:
                return inject_exception(vp, plane, inj);
        case PLANE_INJECT_MSI:
                return ioctl(s->vm_fd[0], KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
        default:
                return -EINVAL;
        }
}

static int op_filter_msrs(void *ctx, unsigned vp, const struct plane_msr_filter *f) {
        struct plane_stock *s = ctx;

        s->msr_filter = *f;
        return plane_stock_filter_msrs(s, 0);
}

static int op_filter_ports(void *ctx, unsigned vp, const struct plane_port_filter *f) {
        struct plane_stock *s = ctx;
        struct plane_port_filter *at = atomic_load(&s->port_filter);

        if (!at) {
                at = malloc(sizeof(*at));
                if (!at)
                        return -ENOMEM;
        }
        *at = *f;
        atomic_store(&s->port_filter, at);
        return 0;
}

static int op_state_put(void *ctx, unsigned vp, const void *buf, size_t len) {
        struct plane_stock *s = ctx;

        if (!s->saved || len > STATE_MAX - MIN(s->saved->size, STATE_MAX))
                return -EMSGSIZE;
        blob_put(s->saved, buf, len);
        return s->saved->error;
}

static int op_state_get(void *ctx, unsigned vp, void *buf, size_t len) {
        struct plane_stock *s = ctx;

        if (!s->loading || len > s->loading_left)
                return -EMSGSIZE;
        memcpy(buf, s->loading, len);
        s->loading += len;
        s->loading_left -= len;
        return 0;
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
        .switch_to = stock_switch_to,
        .inject = op_inject,
        .protect = stock_protect,
        .overlay = stock_overlay,
        .flush = stock_flush,
        .filter_msrs = op_filter_msrs,
        .filter_ports = op_filter_ports,
        .state_put = op_state_put,
        .state_get = op_state_get,
        .kick = op_kick,
};
