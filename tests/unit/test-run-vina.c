/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * When a VP's thread looks at VTL0 while VTL1 runs. There is no KVM here: an ioctl of a look fails
 * with EBADF, which says that it was made.
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
#include "vmm/run.h"
#include "vtl/hvpage.h"

#define POLL_NS (250 * 1000u)
#define MS UINT64_C(1000000)

static struct fake {
        struct vtlvmm v;
        struct kvm_run run[PLANE_MAX];
        struct vtl_control_vp ctl;
        uint8_t overlay[4096 * 16] __attribute__((aligned(4096)));
        struct vtlvmm_vcpu *c;
        struct hv_vp_assist_page *assist;
} fake;

static int set_up(void **state) {
        struct sigevent e = { .sigev_notify = SIGEV_NONE };
        struct stock_vp *vp = &fake.v.planes.vps[0];

        memset(&fake, 0, sizeof(fake));
        fake.v.vina_poll_us = POLL_NS / 1000;
        fake.v.overlay = fake.overlay;
        fake.c = &fake.v.vcpus[0];
        fake.assist = (void *) (fake.overlay +
                                (size_t) vtl_overlay_page(VTL_OVERLAY_ASSIST, 0, 1) * 4096);
        *fake.c = (struct vtlvmm_vcpu){ .vtlvmm = &fake.v, .vp = vp };
        vp->ctl = &fake.ctl;
        for (unsigned i = 0; i < PLANE_MAX; i++)
                vp->plane[i] = (struct stock_vcpu){ .fd = -1, .run = &fake.run[i] };
        vp->active = 1;
        fake.ctl.vina = HV_VINA_ENABLED | 0x71;
        return timer_create(CLOCK_MONOTONIC, &e, &fake.c->tick);
}

static int tear_down(void **state) {
        return timer_delete(fake.c->tick);
}

static uint64_t armed_for(void) {
        struct itimerspec left;

        assert_int_equal(timer_gettime(fake.c->tick, &left), 0);
        return (uint64_t) left.it_value.tv_sec * 1000 * MS + (uint64_t) left.it_value.tv_nsec;
}

static void test_wanted(void **state) {
        assert_true(vtlvmm_vina_wanted(fake.c));
        fake.v.planes.vps[0].active = 0;
        assert_false(vtlvmm_vina_wanted(fake.c));
        fake.v.planes.vps[0].active = 1;
        fake.ctl.vina = 0x71;
        assert_false(vtlvmm_vina_wanted(fake.c));
}

/*
 * Every exit that the engine served put the next look off: a VTL1 that made one at least every
 * vina-poll-us was never told.
 */
static void test_exits_do_not_put_it_off(void **state) {
        uint64_t before = monotonic_ns(), at;

        assert_int_equal(vtlvmm_vina_arm(fake.c), 0);
        at = fake.c->look_at;
        assert_in_range(at, before + POLL_NS, monotonic_ns() + POLL_NS);
        assert_true(fake.c->ticking);
        fake.c->ticking = false;
        assert_int_equal(vtlvmm_vina_arm(fake.c), 0);
        assert_true(fake.c->ticking);
        assert_true(fake.c->look_at == at);
        /* A new entry of VTL1 does. */
        fake.c->ticking = false;
        vtlvmm_vina_begin(fake.c);
        before = monotonic_ns();
        assert_int_equal(vtlvmm_vina_arm(fake.c), 0);
        assert_in_range(fake.c->look_at, before + POLL_NS, monotonic_ns() + POLL_NS);
}

/* VTL1 has four times what the last look took, but at most 20 ms. */
static void test_interval(void **state) {
        static const struct {
                uint64_t took, wanted;
        } rows[] = {
                { 0, POLL_NS },         { POLL_NS / 4, POLL_NS }, { POLL_NS, 4 * POLL_NS },
                { MS, 4 * MS },         { 5 * MS, 20 * MS },      { 6 * MS, 20 * MS },
                { 1000 * MS, 20 * MS },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                uint64_t before = monotonic_ns();

                fake.c->ticking = false;
                fake.c->look_ns = rows[i].took;
                vtlvmm_vina_begin(fake.c);
                assert_int_equal(vtlvmm_vina_arm(fake.c), 0);
                assert_in_range(fake.c->look_at, before + rows[i].wanted,
                                monotonic_ns() + rows[i].wanted);
                assert_true(armed_for() <= rows[i].wanted);
        }
        /* What the administrator asks for is not cut. */
        fake.v.vina_poll_us = 1000000;
        fake.c->ticking = false;
        vtlvmm_vina_begin(fake.c);
        assert_int_equal(vtlvmm_vina_arm(fake.c), 0);
        assert_true(armed_for() > 900 * MS);
}

static void test_look(void **state) {
        uint64_t before = monotonic_ns();

        fake.c->ticking = true;
        fake.c->look_at = 1;
        assert_int_equal(vtlvmm_vina_look(fake.c), -EBADF);
        assert_true(fake.c->look_at >= before + POLL_NS);
        assert_true(fake.c->look_ns > 0);
        assert_false(fake.c->ticking);
        assert_int_equal(atomic_load(&fake.ctl.in_guest), VTL_GATE_OUTSIDE);
        assert_string_equal(vtlvmm_error(&fake.v),
                            "whether VTL0 has an interrupt is unknown: Bad file descriptor");
}

/* Told once, until VTL1 has cleared it: KVM is not even asked. */
static void test_asserted(void **state) {
        uint64_t before = monotonic_ns();

        fake.assist->vtl_control.vina_status = 1;
        fake.c->look_ns = 3 * POLL_NS;
        assert_int_equal(vtlvmm_vina_look(fake.c), VTL_LOOK_NOTHING);
        assert_true(fake.c->look_at >= before + 12 * POLL_NS);
        assert_true(fake.c->look_ns == 3 * POLL_NS); /* this was none */
        fake.assist->vtl_control.vina_status = 0xfe; /* reserved bits */
        assert_int_equal(vtlvmm_vina_look(fake.c), -EBADF);
}

/* Who holds the VP has its vCPUs to itself. */
static void test_held(void **state) {
        fake.c->look_ns = MS;
        atomic_store(&fake.ctl.hold, 1);
        assert_int_equal(vtlvmm_vina_look(fake.c), VTL_LOOK_NOT_TAKEN);
        assert_true(fake.c->look_ns == MS); /* this was none */
        assert_int_equal(atomic_load(&fake.ctl.in_guest), VTL_GATE_OUTSIDE);
        atomic_store(&fake.ctl.hold, 0);
        assert_int_equal(vtlvmm_vina_look(fake.c), -EBADF);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_wanted, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_exits_do_not_put_it_off, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_interval, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_look, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_asserted, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_held, set_up, tear_down),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("run-vina", tests, NULL, NULL);
}
