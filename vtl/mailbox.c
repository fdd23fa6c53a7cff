/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

#include "util/util.h"
#include "vtl/mailbox.h"
#include "vtl/partition.h"

#define SPIN_MIN 50u
#define SPIN_MAX 20000u
#define SLEEP_NS 100000000 /* then look whether the other side still lives */

static long futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout) {
        return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

/* Spinning needs a second CPU for the one that is waited for. */
static _Atomic bool may_spin;

void mailbox_prepare(void) {
        cpu_set_t set;

        atomic_store(&may_spin,
                     sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 1);
}

/* Waits for the word to leave @old. Return: its new value, or @old when @dead became true or on a
 * spurious wake. */
static uint32_t wait_change(struct vtl_control_vp *ctl, uint32_t old, _Atomic uint32_t *sleeps,
                            struct mailbox_spin *spin, const atomic_bool *dead) {
        static const struct timespec timeout = { .tv_nsec = SLEEP_NS };
        uint32_t now;

        if (spin->limit == 0)
                spin->limit = may_spin ? SPIN_MAX / 4 : 1;
        for (unsigned i = 0; i < spin->limit; i++) {
                now = atomic_load_explicit(&ctl->mailbox, memory_order_acquire);
                if (now != old) {
                        /* The answer came while spinning: it is worth it. */
                        if (may_spin)
                                spin->limit = MIN(spin->limit * 2, SPIN_MAX);
                        return now;
                }
                __builtin_ia32_pause();
        }
        spin->limit = may_spin ? MAX(spin->limit / 2, SPIN_MIN) : 1;
        atomic_store(sleeps, 1);
        now = atomic_load(&ctl->mailbox);
        if (now == old && !(dead && atomic_load(dead)))
                (void) futex(&ctl->mailbox, FUTEX_WAIT, old, &timeout);
        atomic_store(sleeps, 0);
        return atomic_load(&ctl->mailbox);
}

static void hand_over(struct vtl_control_vp *ctl, uint32_t state, _Atomic uint32_t *other_sleeps) {
        atomic_store(&ctl->mailbox, state);
        if (atomic_load(other_sleeps))
                (void) futex(&ctl->mailbox, FUTEX_WAKE, INT32_MAX, NULL);
}

void mailbox_wake(struct vtl_control_vp *ctl) {
        (void) futex(&ctl->mailbox, FUTEX_WAKE, INT32_MAX, NULL);
}

/* Return: 0 or a negative errno. */
static int serve_posted(struct vtl_control_vp *ctl, mailbox_op_fn *serve_op, void *userdata) {
        if (!ctl->op.posted)
                return 0;
        ctl->op.posted = 0;
        return MIN(serve_op(userdata, &ctl->op), 0);
}

int mailbox_call(struct vtl_control_vp *ctl, struct mailbox_spin *spin, const atomic_bool *dead,
                 mailbox_op_fn *serve_op, void *userdata) {
        uint32_t state = VTL_MAILBOX_EXIT;

        hand_over(ctl, state, &ctl->engine_sleeps);
        for (;;) {
                uint32_t now = wait_change(ctl, state, &ctl->library_sleeps, spin, dead);

                if (atomic_load(dead))
                        return -EOWNERDEAD;
                if (now == state)
                        continue;
                if (now == VTL_MAILBOX_ACTION) {
                        atomic_store(&ctl->mailbox, VTL_MAILBOX_IDLE);
                        return serve_posted(ctl, serve_op, userdata);
                }
                if (now != VTL_MAILBOX_OP)
                        return -EPROTO;
                ctl->op.result = serve_op(userdata, &ctl->op);
                state = VTL_MAILBOX_OP_DONE;
                hand_over(ctl, state, &ctl->engine_sleeps);
        }
}

int mailbox_op(struct vtl_control_vp *ctl, struct mailbox_spin *spin) {
        uint32_t state = VTL_MAILBOX_OP;

        hand_over(ctl, state, &ctl->library_sleeps);
        do
                state = wait_change(ctl, VTL_MAILBOX_OP, &ctl->engine_sleeps, spin, NULL);
        while (state == VTL_MAILBOX_OP);
        return state == VTL_MAILBOX_OP_DONE ? ctl->op.result : -EPROTO;
}

int vtl_worker_vp_loop(struct vtl_vp *vp) {
        struct vtl_control_vp *ctl = vp->ctl;
        struct mailbox_spin spin = { 0 };

        for (;;) {
                uint32_t state = atomic_load(&ctl->mailbox);

                switch (state) {
                case VTL_MAILBOX_EXIT:
                        /* A failure is in the action: the library stops the guest. */
                        (void) vtl_engine_exit(vp);
                        hand_over(ctl, VTL_MAILBOX_ACTION, &ctl->library_sleeps);
                        break;
                case VTL_MAILBOX_IDLE:
                case VTL_MAILBOX_ACTION:
                        (void) wait_change(ctl, state, &ctl->engine_sleeps, &spin, NULL);
                        break;
                default:
                        return -EPROTO;
                }
        }
}
