/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The probe of the stock backend: what it asks of KVM and what it leaves behind. KVM is played:
 * what comes for VTL0's vCPU meanwhile comes before any of the probe's ioctls.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "util/util.h"
#include "vtl/plane-stock.h"

int __wrap_ioctl(int fd, unsigned long request, void *arg);

enum what {
        NOTHING,
        INTERRUPT,
        TIMER,
        INIT,
        INIT_AND_SIPI,
        KICK,
        FAILS
};

#define CALLS_MAX 16
#define SIGNAL SIGRTMIN

static struct kvm {
        struct vtl_control_vp ctl;
        struct plane_stock s;
        uint32_t state;
        enum what what; /* comes before call number @at, 1 is the first one */
        unsigned at, calls, runs;
        bool interrupt, expired; /* pending; a timer is, that the next KVM_RUN looks at */
        bool init, sipi;
} kvm;

/* As kvm_apic_accept_events(): of an AP */
static void accept_events(void) {
        if (kvm.init) {
                kvm.init = false;
                kvm.state = KVM_MP_STATE_INIT_RECEIVED;
        }
        if (kvm.sipi && kvm.state == KVM_MP_STATE_INIT_RECEIVED)
                kvm.state = KVM_MP_STATE_RUNNABLE;
        kvm.sipi = false;
}

static void happen(enum what what) {
        kvm.interrupt = kvm.interrupt || what == INTERRUPT;
        kvm.expired = kvm.expired || what == TIMER;
        kvm.init = kvm.init || what == INIT || what == INIT_AND_SIPI;
        kvm.sipi = kvm.sipi || what == INIT_AND_SIPI;
        if (what == KICK)
                atomic_store(&kvm.ctl.kicked, 1);
}

static bool is_pending(void) {
        sigset_t set;

        assert_int_equal(sigpending(&set), 0);
        return sigismember(&set, SIGNAL);
}

static int answer(int error) {
        errno = error;
        return error ? -1 : 0;
}

static int run(void) {
        kvm.runs++;
        assert_true(is_pending()); /* or the guest would be entered */
        assert_int_equal(kvm.state, KVM_MP_STATE_HALTED);
        accept_events();
        if (kvm.state == KVM_MP_STATE_HALTED && kvm.interrupt)
                kvm.state = KVM_MP_STATE_RUNNABLE;
        kvm.interrupt = kvm.interrupt || kvm.expired;
        return answer(EINTR);
}

int __wrap_ioctl(int fd, unsigned long request, void *arg) {
        struct kvm_mp_state *state = arg;

        assert_int_equal(fd, 100);
        if (++kvm.calls == kvm.at) {
                if (kvm.what == FAILS)
                        return answer(ENOMEM);
                happen(kvm.what);
        }
        switch (request) {
        case KVM_GET_MP_STATE:
                accept_events();
                state->mp_state = kvm.state;
                return answer(0);
        case KVM_SET_MP_STATE:
                kvm.state = state->mp_state;
                return answer(0);
        case KVM_RUN:
                return run();
        default:
                fail_msg("ioctl 0x%lx", request);
                return answer(ENOTTY);
        }
}

static int probe(uint32_t state, enum what what, unsigned at) {
        struct stock_vp *vp = &kvm.s.vps[0];
        static const struct timespec now;
        static struct kvm_run page;
        sigset_t set;
        int r;

        kvm = (struct kvm){ .state = state, .what = what, .at = at };
        kvm.s.n_vps = 1;
        vp->ctl = &kvm.ctl;
        vp->active = 1;
        vp->signal = SIGNAL;
        for (unsigned plane = 0; plane < PLANE_MAX; plane++)
                vp->plane[plane] = (struct stock_vcpu){ .fd = 100 + (int) plane, .run = &page };
        r = plane_stock_ops.probe(&kvm.s, 0);
        /* Nothing of its own signal is left; that of a kick is. */
        assert_int_equal(is_pending(), atomic_load(&kvm.ctl.kicked));
        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGNAL);
        (void) sigtimedwait(&set, NULL, &now);
        return r;
}

static int block_signal(void **state) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGNAL);
        return sigprocmask(SIG_BLOCK, &set, NULL);
}

static void test_nothing(void **state) {
        assert_int_equal(probe(KVM_MP_STATE_RUNNABLE, NOTHING, 0), 0);
        assert_int_equal(kvm.state, KVM_MP_STATE_RUNNABLE);
        assert_int_equal(kvm.calls, 7);
        assert_int_equal(probe(KVM_MP_STATE_HALTED, NOTHING, 0), 0);
        assert_int_equal(kvm.state, KVM_MP_STATE_HALTED);
        assert_int_equal(kvm.calls, 5);
}

static void test_interrupt(void **state) {
        static const enum what kinds[] = { INTERRUPT, TIMER };
        static const uint32_t states[] = { KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_HALTED };

        for (size_t i = 0; i < ARRAY_SIZE(states); i++)
                for (size_t j = 0; j < ARRAY_SIZE(kinds); j++) {
                        assert_int_equal(probe(states[i], kinds[j], 1), 1);
                        assert_int_equal(kvm.runs, kinds[j] == TIMER ? 2 : 1);
                        assert_int_equal(kvm.state, KVM_MP_STATE_RUNNABLE);
                }
}

/* Nothing is looked at that waits to be started, and it goes on waiting. */
static void test_not_started(void **state) {
        static const uint32_t states[] = { KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED,
                                           KVM_MP_STATE_SIPI_RECEIVED };

        for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
                assert_int_equal(probe(states[i], INTERRUPT, 1), 0);
                assert_int_equal(kvm.state, states[i]);
                assert_int_equal(kvm.calls, 1);
        }
}

/*
 * What VTL0's vCPU was before was written back at the end: an INIT that KVM had taken in between
 * was lost, and the processor went on, from its reset vector and without a SIPI.
 */
static void test_init_meanwhile(void **state) {
        static const uint32_t states[] = { KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_HALTED };

        for (size_t i = 0; i < ARRAY_SIZE(states); i++)
                for (unsigned at = 1; at < CALLS_MAX; at++) {
                        (void) probe(states[i], INIT, at);
                        if (at > kvm.calls)
                                break;
                        accept_events(); /* when VTL0 runs next */
                        assert_int_equal(kvm.state, KVM_MP_STATE_INIT_RECEIVED);

                        (void) probe(states[i], INIT_AND_SIPI, at);
                        accept_events();
                        assert_int_equal(kvm.state, KVM_MP_STATE_RUNNABLE);
                }
}

static void test_kick_meanwhile(void **state) {
        for (unsigned at = 1; at < CALLS_MAX; at++) {
                assert_int_equal(probe(KVM_MP_STATE_RUNNABLE, KICK, at), 0);
                if (at > kvm.calls)
                        break;
                assert_int_equal(atomic_load(&kvm.ctl.kicked), 1);
        }
}

static void test_failures(void **state) {
        for (unsigned at = 1; at < CALLS_MAX; at++) {
                int r = probe(KVM_MP_STATE_RUNNABLE, FAILS, at);

                if (at > kvm.calls) {
                        assert_int_equal(r, 0);
                        return;
                }
                assert_int_equal(r, -ENOMEM);
                if (at < kvm.calls) /* it was the last one that failed, else */
                        assert_int_equal(kvm.state, KVM_MP_STATE_RUNNABLE);
        }
        fail();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing),        cmocka_unit_test(test_interrupt),
                cmocka_unit_test(test_not_started),    cmocka_unit_test(test_init_meanwhile),
                cmocka_unit_test(test_kick_meanwhile), cmocka_unit_test(test_failures),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("plane-stock", tests, block_signal, NULL);
}
