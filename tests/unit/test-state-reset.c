/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A partition paused and reset. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/state-pair.h"
#include "util/util.h"
#include "vtl/reference-time.h"

static void test_pause(void **state) {
        struct state_pair *b = *state;
        struct fx *f = &b->to;
        uint64_t then, now;

        then = vtl_reference_time(f->p);
        (void) usleep(2000);
        assert_int_equal(vtl_reference_time(f->p), then);
        assert_int_equal(state_guest_ask(f, VTL_STATE_PAUSE, 0), 0); /* once more: nothing */
        assert_int_equal(vtl_reference_time(f->p), then);
        assert_int_equal(state_guest_ask(f, VTL_STATE_CONTINUE, 0), 0);
        now = vtl_reference_time(f->p);
        assert_true(now >= then);
        (void) usleep(2000);
        assert_true(vtl_reference_time(f->p) > now);
}

/* A timer that is due rings after the pause, and not in it. */
static void test_pause_timer(void **state) {
        struct state_pair *b = *state;
        struct fx *f = &b->to;

        assert_int_equal(state_guest_ask(f, VTL_STATE_CONTINUE, 0), 0);
        fx_vp(f, 0)->vtl[0].synic.stimer[0].due = vtl_reference_time(f->p) + 20000;
        assert_int_equal(state_guest_ask(f, VTL_STATE_PAUSE, 0), 0);
        f->model->vps[0].kicks = 0;
        (void) usleep(20000);
        assert_int_equal(f->model->vps[0].kicks, 0);
        assert_int_equal(state_guest_ask(f, VTL_STATE_CONTINUE, 0), 0);
        for (unsigned i = 0; i < 2000 && f->model->vps[0].kicks == 0; i++)
                (void) usleep(5000);
        assert_true(f->model->vps[0].kicks > 0);
}

static void test_reset(void **state) {
        struct state_pair *b = *state;
        struct fx *f = &b->from;

        memcpy(f->ram + STATE_CLOSED, "secret", 6);
        assert_int_equal(state_guest_ask(f, VTL_STATE_RESET, 0), 0);
        assert_true(state_guest_is_open(f));
        assert_memory_equal(f->ram + STATE_CLOSED, "secret", 6); /* VTL1 did not want that zeroed */
        for (size_t i = 0; i < vtl_overlay_pages(STATE_VPS) * (size_t) HV_PAGE_SIZE; i++)
                assert_int_equal(f->overlay[i], 0);
        for (unsigned i = 0; i < sizeof(f->model->msr_filter); i++)
                assert_int_equal(((const uint8_t *) &f->model->msr_filter)[i], 0);
        for (unsigned i = 0; i < sizeof(f->model->port_filter); i++)
                assert_int_equal(((const uint8_t *) &f->model->port_filter)[i], 0);
        assert_int_equal(f->p->header->protected_pages, 0);
        assert_int_equal(f->p->header->enabled_vtls, 1);
        assert_int_equal(f->model->protected_overlays, 0);
        assert_true(vtl_reference_time(f->p) < 10);
        /* As one in which nothing has happened, but for the time */
        f->p->epoch_100ns = b->to.p->epoch_100ns = f->p->paused_100ns = b->to.p->paused_100ns;
        f->p->header->crashes = 0;
        {
                _cleanup_(blob_free) struct blob fresh = BLOB_EMPTY;

                assert_int_equal(state_guest_save(&b->to, &fresh), 0);
                state_pair_saves(f, fresh.data, fresh.size);
        }
        /* And it can be used again. */
        f->model->vps[0].active = 0;
        assert_int_equal(state_guest_ask(f, VTL_STATE_CONTINUE, 0), 0);
        fx_start_vtl1(f);
        assert_int_equal(f->error, 0);
}

static void test_reset_zeroes(void **state) {
        struct state_pair *b = *state;
        struct fx *f = &b->from;

        f->p->partition_config |= HV_VSM_ZERO_MEMORY_ON_RESET;
        memcpy(f->ram + STATE_CLOSED, "secret", 6);
        memcpy(f->ram2, "secret", 6);
        assert_int_equal(state_guest_ask(f, VTL_STATE_RESET, 0), 0);
        assert_memory_equal(f->ram + STATE_CLOSED, "\0\0\0\0\0\0", 6);
        assert_memory_equal(f->ram2, "\0\0\0\0\0\0", 6);
}

/* A reset that fails leaves a guest that must not run: the engine stops it. */
static void test_reset_fails(void **state) {
        struct state_pair *b = *state;
        struct fx *f = &b->from;

        f->model->fail_at = 3;
        f->model->fail_with = -EIO;
        assert_int_equal(state_guest_ask(f, VTL_STATE_RESET, 0), -EIO);
        assert_int_equal(f->action.kind, VTL_ACTION_STOP);
        assert_int_equal(f->p->header->stopped, EIO);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, state_pair_set_up, state_pair_tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_pause),        TEST(test_pause_timer), TEST(test_reset),
                TEST(test_reset_zeroes), TEST(test_reset_fails),
        };

        return cmocka_run_group_tests_name("state-reset", tests, NULL, NULL);
}
