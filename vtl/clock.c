/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "util/util.h"
#include "vtl/clock.h"
#include "vtl/reference-time.h"

/* A guest must not keep this thread busy with a timer of a few ns. */
#define MIN_DELAY_NS 20000ull

struct vtl_clock {
        struct vtl_partition *partition;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        pthread_t thread;
        bool running, quit;
        uint64_t due[VTL_MAX_VPS]; /* CLOCK_MONOTONIC, ns */
        atomic_bool rung[VTL_MAX_VPS];
};

static uint64_t earliest(const struct vtl_clock *c) {
        uint64_t due = VTL_CLOCK_NEVER;

        for (unsigned i = 0; i < c->partition->n_vps; i++)
                due = MIN(due, c->due[i]);
        return due;
}

static void kick_due(struct vtl_clock *c, uint64_t now) {
        const struct vtl_config *config = &c->partition->config;

        for (unsigned i = 0; i < c->partition->n_vps; i++) {
                if (c->due[i] > now)
                        continue;
                c->due[i] = VTL_CLOCK_NEVER;
                atomic_store(&c->rung[i], true);
                (void) config->ops->kick(config->ops_ctx, i);
        }
}

static void *clock_main(void *arg) {
        struct vtl_clock *c = arg;

        (void) pthread_mutex_lock(&c->lock);
        c->running = true;
        (void) pthread_cond_broadcast(&c->changed);
        while (!c->quit) {
                uint64_t due = earliest(c);
                struct timespec until = { .tv_sec = (time_t) (due / 1000000000),
                                          .tv_nsec = (long) (due % 1000000000) };

                if (due == VTL_CLOCK_NEVER)
                        (void) pthread_cond_wait(&c->changed, &c->lock);
                else if (due > monotonic_ns())
                        (void) pthread_cond_timedwait(&c->changed, &c->lock, &until);
                kick_due(c, monotonic_ns());
        }
        (void) pthread_mutex_unlock(&c->lock);
        return NULL;
}

int vtl_clock_start(struct vtl_partition *p) {
        struct vtl_clock *c = calloc(1, sizeof(*c));
        pthread_condattr_t attr;
        sigset_t all, old;
        int r;

        if (!c)
                return -ENOMEM;
        c->partition = p;
        for (unsigned i = 0; i < VTL_MAX_VPS; i++)
                c->due[i] = VTL_CLOCK_NEVER;
        (void) pthread_mutex_init(&c->lock, NULL);
        (void) pthread_condattr_init(&attr);
        (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void) pthread_cond_init(&c->changed, &attr);
        (void) pthread_condattr_destroy(&attr);
        /* In a VMM's process this thread takes none of its signals. */
        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(&c->thread, NULL, clock_main, c);
        (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (r != 0) {
                free(c);
                return -r;
        }
        /* A thread's first system calls are the C library's, which a sandbox need not allow. */
        (void) pthread_mutex_lock(&c->lock);
        while (!c->running)
                (void) pthread_cond_wait(&c->changed, &c->lock);
        (void) pthread_mutex_unlock(&c->lock);
        p->clock = c;
        return 0;
}

void vtl_clock_stop(struct vtl_partition *p) {
        struct vtl_clock *c = TAKE_PTR(p->clock);

        if (!c)
                return;
        (void) pthread_mutex_lock(&c->lock);
        c->quit = true;
        (void) pthread_cond_signal(&c->changed);
        (void) pthread_mutex_unlock(&c->lock);
        (void) pthread_join(c->thread, NULL);
        (void) pthread_cond_destroy(&c->changed);
        (void) pthread_mutex_destroy(&c->lock);
        free(c);
}

void vtl_clock_set(struct vtl_vp *vp, uint64_t when) {
        struct vtl_clock *c = vp->partition->clock;
        uint64_t now, due = VTL_CLOCK_NEVER;

        /* The same time after the alarm: it rang too early, for the guest has another clock. */
        if (!c || (!atomic_exchange(&c->rung[vp->index], false) && when == vp->clock_set))
                return;
        vp->clock_set = when;
        if (when != VTL_CLOCK_NEVER) {
                now = vtl_reference_time(vp->partition);
                /* Far enough for any guest: a year. */
                due = monotonic_ns() +
                      MAX(when > now ? MIN(when - now, 315360000000000ull) * 100 : 0, MIN_DELAY_NS);
        }
        (void) pthread_mutex_lock(&c->lock);
        c->due[vp->index] = due;
        (void) pthread_cond_signal(&c->changed);
        (void) pthread_mutex_unlock(&c->lock);
}
