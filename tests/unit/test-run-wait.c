/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A VP that waits for a kick: what the engine is told when it comes. The engine here is a list of
 * answers, and there is no KVM: every KVM_RUN would fail.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/util.h"
#include "vmm/internal.h"

struct answer {
        unsigned plane; /* active afterwards */
        enum vtl_action_kind kind;
        bool kick; /* somebody kicks at once */
};

static struct fake {
        struct vtlvmm v;
        struct kvm_run run[PLANE_MAX];
        struct vtl_control_vp ctl;
        int pipe[2];
        const struct answer *answers;
        struct vtl_exit exits[4]; /* as the engine was told */
        unsigned served;
} fake;

static int serve(struct vtlvmm_vcpu *c) {
        const struct answer *a = &fake.answers[fake.served];

        assert_true(fake.served < ARRAY_SIZE(fake.exits));
        fake.exits[fake.served++] = fake.ctl.exit;
        c->vp->active = a->plane;
        fake.ctl.action = (struct vtl_action){ .kind = a->kind };
        if (a->kick)
                atomic_store(&fake.ctl.kicked, 1);
        return 0;
}

static int set_up(void **state) {
        struct vtlvmm_vcpu *c = &fake.v.vcpus[0];
        struct stock_vp *vp = &fake.v.planes.vps[0];

        memset(&fake, 0, sizeof(fake));
        if (pipe2(fake.pipe, O_CLOEXEC | O_NONBLOCK) < 0)
                return -1;
        fake.v.started = true;
        fake.v.signal = SIGRTMIN;
        fake.v.serve = serve;
        c->vtlvmm = &fake.v;
        c->vp = vp;
        c->kick_read = fake.pipe[0];
        c->started = true;
        c->waiting = true; /* the VMM comes back from a signal of its own */
        vp->ctl = &fake.ctl;
        for (unsigned i = 0; i < PLANE_MAX; i++)
                vp->plane[i] = (struct stock_vcpu){ .fd = -1, .run = &fake.run[i] };
        fake.run[0].if_flag = 1;
        fake.run[1].cr8 = 5;
        return 0;
}

static int tear_down(void **state) {
        (void) close(fake.pipe[0]);
        (void) close(fake.pipe[1]);
        return 0;
}

/*
 * VTL1 returned to a VTL0 that had to wait, for a TLB lock. The engine was told of the kick as one
 * of VTL1's, took VTL1 for the active level, and VTL0 went on although the lock was still held.
 */
static void test_woken_in_the_other_plane(void **state) {
        static const struct answer answers[] = { { 0, VTL_ACTION_WAIT, true },
                                                 { 0, VTL_ACTION_STOP, false } };

        fake.answers = answers;
        fake.v.planes.vps[0].active = 1;
        assert_int_equal(vtlvmm_run(&fake.v.vcpus[0]), -1);
        assert_int_equal(errno, EIO);
        assert_int_equal(fake.served, 2);
        assert_int_equal(fake.exits[0].kind, VTL_EXIT_KICK);
        assert_int_equal(fake.exits[0].plane, 1);
        assert_int_equal(fake.exits[0].cr8, 5);
        assert_int_equal(fake.exits[1].kind, VTL_EXIT_KICK);
        assert_int_equal(fake.exits[1].plane, 0);
        assert_int_equal(fake.exits[1].if_flag, 1);
        assert_int_equal(fake.exits[1].cr8, 0);
}

/* A shutdown that ends the wait is the VMM's exit, as any other shutdown is. */
static void test_shutdown_while_waiting(void **state) {
        static const struct answer answers[] = { { 1, VTL_ACTION_SHUTDOWN, false } };

        fake.answers = answers;
        fake.run[0].exit_reason = KVM_EXIT_UNKNOWN;
        assert_int_equal(vtlvmm_run(&fake.v.vcpus[0]), 0);
        assert_int_equal(fake.run[0].exit_reason, KVM_EXIT_SHUTDOWN);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_woken_in_the_other_plane, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_shutdown_while_waiting, set_up, tear_down),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("run-wait", tests, NULL, NULL);
}
