/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/hold.h"

/* How long a hypercall waits for another VP before its own goes back to the guest, where it can be
 * interrupted: a VP whose thread is busy in the VMM may take any time. */
#define WORK_WAIT_NS 2000000
#define GUEST_WAIT_NS 10000000

void vtl_hold_init(struct vtl_partition *p) {
        pthread_condattr_t attr;

        (void) pthread_condattr_init(&attr);
        (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void) pthread_cond_init(&p->work_done, &attr);
        (void) pthread_condattr_destroy(&attr);
}

void vtl_hold_done(struct vtl_partition *p) {
        (void) pthread_cond_destroy(&p->work_done);
}

/* ---- The gate ---- */

static void close_gate(struct vtl_vp *vp) {
        struct vtl_partition *p = vp->partition;

        atomic_store(&vp->ctl->hold, 1);
        if (atomic_load(&vp->ctl->in_guest) == VTL_GATE_IN_GUEST)
                (void) p->config.ops->kick(p->config.ops_ctx, vp->index);
}

/* A kick ends every stay in the guest, so this ends; a VMM that lies delays its own guest. */
static void wait_outside(struct vtl_vp *vp) {
        static const struct timespec timeout = { .tv_nsec = GUEST_WAIT_NS };

        while (atomic_load(&vp->ctl->in_guest) == VTL_GATE_IN_GUEST)
                (void) syscall(SYS_futex, &vp->ctl->in_guest, FUTEX_WAIT, VTL_GATE_IN_GUEST,
                               &timeout, NULL, 0);
}

static void open_gate(struct vtl_vp *vp) {
        struct vtl_partition *p = vp->partition;

        atomic_store(&vp->ctl->hold, 0);
        if (atomic_load(&vp->ctl->in_guest) == VTL_GATE_WAITS)
                (void) p->config.ops->kick(p->config.ops_ctx, vp->index);
}

int vtl_hold(struct vtl_vp *self) {
        struct vtl_partition *p = self->partition;

        if (p->holder)
                return p->holder == self ? 0 : HV_STATUS_TIMEOUT;
        p->holder = self;
        for (unsigned i = 0; i < p->n_vps; i++)
                if (&p->vps[i] != self)
                        close_gate(&p->vps[i]);
        for (unsigned i = 0; i < p->n_vps; i++)
                if (&p->vps[i] != self)
                        wait_outside(&p->vps[i]);
        return 0;
}

void vtl_release(struct vtl_vp *self) {
        struct vtl_partition *p = self->partition;

        if (p->holder != self)
                return;
        p->holder = NULL;
        for (unsigned i = 0; i < p->n_vps; i++)
                if (&p->vps[i] != self)
                        open_gate(&p->vps[i]);
}

void vtl_stop(struct vtl_vp *target) {
        struct vtl_partition *p = target->partition;

        if (!p->holder || p->holder == target) {
                close_gate(target);
                wait_outside(target);
                open_gate(target);
        }
        /* One that was outside already may be on its way in, past the engine: on the hot path, or
         * with an exit of the VMM's. */
        (void) p->config.ops->kick(p->config.ops_ctx, target->index);
}

/* ---- Work for another VP's thread ---- */

static int borrow(struct vtl_vp *target, vtl_work_fn *fn, void *arg) {
        struct vtl_partition *p = target->partition;
        struct vtl_vp *before = p->current;
        int r;

        p->current = target;
        p->config.ops->borrow(p->config.ops_ctx, target->index);
        r = fn(target, arg);
        p->config.ops->give_back(p->config.ops_ctx, target->index);
        p->current = before;
        return r;
}

int vtl_run_on(struct vtl_vp *self, struct vtl_vp *target, vtl_work_fn *fn, void *arg) {
        struct vtl_partition *p = self->partition;
        struct vtl_work work = { .fn = fn, .arg = arg };
        struct timespec until;
        int r;

        if (target == self)
                return fn(self, arg);
        if (p->config.ops->borrow)
                return borrow(target, fn, arg);
        /* Who is waited for does not wait: two VPs that want something of each other. */
        if (target->work || self->work)
                return HV_STATUS_TIMEOUT;
        target->work = &work;
        r = p->config.ops->kick(p->config.ops_ctx, target->index);
        (void) clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WORK_WAIT_NS;
        if (until.tv_nsec >= 1000000000) {
                until.tv_nsec -= 1000000000;
                until.tv_sec++;
        }
        while (r == 0 && !work.done && !self->work)
                if (pthread_cond_timedwait(&p->work_done, &p->lock, &until) == ETIMEDOUT)
                        break;
        p->current = self;
        if (work.done)
                return work.result;
        target->work = NULL;
        return r < 0 ? r : HV_STATUS_TIMEOUT;
}

int vtl_work_post(struct vtl_vp *target, struct vtl_work *work) {
        struct vtl_partition *p = target->partition;
        int r;

        work->done = false;
        if (p->config.ops->borrow) {
                work->result = borrow(target, work->fn, work->arg);
                work->done = true;
                return 0;
        }
        if (target->work)
                return -EBUSY;
        target->work = work;
        r = p->config.ops->kick(p->config.ops_ctx, target->index);
        if (r < 0)
                target->work = NULL;
        return r < 0 ? r : 0;
}

void vtl_work_cancel(struct vtl_vp *target, struct vtl_work *work) {
        if (target->work == work)
                target->work = NULL;
}

void vtl_do_work(struct vtl_vp *vp) {
        struct vtl_work *work = TAKE_PTR(vp->work);

        if (!work)
                return;
        work->result = work->fn(vp, work->arg);
        work->done = true;
        (void) pthread_cond_broadcast(&vp->partition->work_done);
}
