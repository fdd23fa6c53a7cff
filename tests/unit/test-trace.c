/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The ring of a VP's trace, against a writer that is quick, wrong or hostile; and what the engine
 * writes there. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "hvcall/hvcall.h"
#include "tests/unit/engine-fixture.h"
#include "util/util.h"
#include "vtl/probes.h"
#include "vtl/trace.h"

#define VECTOR 0x60
#define SECRET 0x120ull /* page */

static struct vtl_trace_ring ring;
static struct vtl_trace_event events[VTL_TRACE_RECORDS + 1];

static int clear(void **state) {
        memset(&ring, 0, sizeof(ring));
        return 0;
}

static void write_switch(uint64_t rip) {
        vtl_trace_write(&ring, (struct vtl_trace_event){ .kind = VTL_TRACE_SWITCH,
                                                         .to = 1,
                                                         .detail = VTL_SWITCH_CALL | VTL_TRACE_HOT,
                                                         .data = rip,
                                                         .extra = ~rip });
}

static struct vtl_trace_result read_from(uint64_t position, size_t max) {
        return vtl_trace_read(&ring, position, events, max);
}

static void test_as_written(void **state) {
        struct vtl_trace_result r = read_from(0, 10);
        uint64_t before = monotonic_ns();

        assert_int_equal(r.n, 0);
        assert_int_equal(r.next, 0);
        write_switch(0x1234);
        vtl_trace_write(&ring,
                        (struct vtl_trace_event){
                                .kind = VTL_TRACE_INTERRUPT, .from = 1, .to = 1, .detail = 0xff });
        r = read_from(0, 10);
        assert_int_equal(r.n, 2);
        assert_int_equal(r.next, 2);
        assert_int_equal(r.lost + r.rejected, 0);
        assert_int_equal(events[0].kind, VTL_TRACE_SWITCH);
        assert_int_equal(events[0].from, 0);
        assert_int_equal(events[0].to, 1);
        assert_int_equal(events[0].detail, VTL_SWITCH_CALL | VTL_TRACE_HOT);
        assert_int_equal(events[0].data, 0x1234);
        assert_int_equal(events[0].extra, ~0x1234ull);
        assert_true(events[0].time >= before && events[0].time <= events[1].time);
        assert_int_equal(events[1].detail, 0xff);
        /* Where it was left, also when there was no room for all */
        r = read_from(0, 1);
        assert_int_equal(r.n, 1);
        assert_int_equal(r.next, 1);
        r = read_from(r.next, 1);
        assert_int_equal(events[0].kind, VTL_TRACE_INTERRUPT);
        assert_int_equal(read_from(r.next, 1).n, 0);
        /* A position that is not there yet */
        r = read_from(77, 10);
        assert_int_equal(r.n, 0);
        assert_int_equal(r.next, 2);
        assert_int_equal(read_from(UINT64_MAX, 10).next, 2);
}

static void test_overwritten(void **state) {
        struct vtl_trace_result r;

        for (uint64_t i = 0; i < VTL_TRACE_RECORDS + 100; i++)
                write_switch(i);
        r = read_from(0, ARRAY_SIZE(events));
        assert_int_equal(r.lost, 100);
        assert_int_equal(r.n, VTL_TRACE_RECORDS);
        assert_int_equal(r.next, VTL_TRACE_RECORDS + 100);
        for (size_t i = 0; i < r.n; i++)
                assert_int_equal(events[i].data, 100 + i);
        /* One that was being overwritten */
        atomic_store(&ring.records[(VTL_TRACE_RECORDS + 50) % VTL_TRACE_RECORDS].word[0], 0);
        r = read_from(VTL_TRACE_RECORDS, ARRAY_SIZE(events));
        assert_int_equal(r.lost, 1);
        assert_int_equal(r.n, 99);
}

/* Records that no writer of ours makes */
static void test_impossible(void **state) {
        static const struct vtl_trace_event wrong[] = {
                { .kind = VTL_TRACE_NONE },
                { .kind = _VTL_TRACE_KIND_MAX },
                { .kind = 255 },
                { .kind = VTL_TRACE_SWITCH, .to = 1, .detail = VTL_SWITCH_NONE },
                { .kind = VTL_TRACE_SWITCH, .to = 1, .detail = _VTL_SWITCH_REASON_MAX },
                { .kind = VTL_TRACE_SWITCH, .to = 1, .detail = VTL_SWITCH_RETURN },
                { .kind = VTL_TRACE_SWITCH, .to = 1, .detail = VTL_SWITCH_CALL | 0x200 },
                { .kind = VTL_TRACE_SWITCH, .from = 1, .detail = VTL_SWITCH_INTERRUPT },
                { .kind = VTL_TRACE_SWITCH, .from = 1, .to = 1, .detail = VTL_SWITCH_RETURN },
                { .kind = VTL_TRACE_SWITCH, .from = 2, .to = 0, .detail = VTL_SWITCH_RETURN },
                { .kind = VTL_TRACE_HYPERCALL, .to = 1 },
                { .kind = VTL_TRACE_HYPERCALL, .from = 2, .to = 2 },
                { .kind = VTL_TRACE_HYPERCALL, .detail = HV_DISPATCH_SWITCHED },
                { .kind = VTL_TRACE_INTERCEPT, .to = 1, .detail = _VTL_TRACE_INTERCEPT_MAX },
                { .kind = VTL_TRACE_INTERCEPT, .to = 1, .detail = 0x300 },
                { .kind = VTL_TRACE_INTERCEPT, .from = 1, .to = 1 },
                { .kind = VTL_TRACE_INTERRUPT, .from = 1, .to = 1, .detail = 256 },
                { .kind = VTL_TRACE_INTERRUPT, .detail = 32 },
                { .kind = VTL_TRACE_VINA, .to = 1, .detail = 256 },
                { .kind = VTL_TRACE_VINA, .from = 1, .detail = 32 },
        };
        struct vtl_trace_result r;

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
                vtl_trace_write(&ring, wrong[i]);
        r = read_from(0, ARRAY_SIZE(events));
        assert_int_equal(r.n, 0);
        assert_int_equal(r.rejected, ARRAY_SIZE(wrong));
        assert_int_equal(r.lost, 0);
        assert_int_equal(r.next, ARRAY_SIZE(wrong));
}

static void test_impossible_times(void **state) {
        struct vtl_trace_result r;
        uint64_t now;

        for (unsigned i = 0; i < 4; i++)
                write_switch(i);
        now = monotonic_ns();
        atomic_store(&ring.records[0].word[1], 0);
        atomic_store(&ring.records[1].word[1], now + 3600000000000);
        atomic_store(&ring.records[2].word[1], now);
        /* The last one is before the one before it. */
        r = read_from(0, ARRAY_SIZE(events));
        assert_int_equal(r.n, 1);
        assert_int_equal(r.rejected, 3);
        assert_int_equal(events[0].data, 2);
}

/* Whatever the position says: bounded work, and what was there is not shown twice. */
static void test_wild_positions(void **state) {
        static const uint64_t wild[] = { UINT64_MAX, UINT64_MAX - 1, 1ull << 32, (1ull << 32) - 1,
                                         VTL_TRACE_RECORDS * 3 };

        for (unsigned i = 0; i < 10; i++)
                write_switch(i);
        for (size_t i = 0; i < ARRAY_SIZE(wild); i++) {
                struct vtl_trace_result r;

                atomic_store(&ring.next, wild[i]);
                r = read_from(0, ARRAY_SIZE(events));
                assert_true(r.n <= 10);
                assert_int_equal(r.next, wild[i]);
                assert_int_equal(r.n + r.lost + r.rejected, wild[i]);
        }
}

static void test_positions_go_on_past_32_bits(void **state) {
        struct vtl_trace_result r;
        const uint64_t first = (1ull << 32) - 3;

        atomic_store(&ring.next, first);
        for (unsigned i = 0; i < 6; i++)
                write_switch(i);
        /* The record whose half of the position is 0 looks as if it was being written. */
        r = read_from(first, ARRAY_SIZE(events));
        assert_int_equal(r.n, 5);
        assert_int_equal(r.lost, 1);
        assert_int_equal(r.next, first + 6);
}

#define WRITES 2000000u

static void *writer(void *arg) {
        for (uint64_t i = 0; i < WRITES; i++)
                write_switch(i);
        return NULL;
}

/* Nothing torn, nothing out of order, nothing twice, and every record accounted for */
static void test_while_it_is_written(void **state) {
        uint64_t position = 0, seen = 0, missed = 0, last = UINT64_MAX;
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, writer, NULL), 0);
        while (position < WRITES) {
                struct vtl_trace_result r = read_from(position, ARRAY_SIZE(events));

                assert_int_equal(r.rejected, 0);
                assert_int_equal(r.next - position, r.n + r.lost);
                for (size_t i = 0; i < r.n; i++) {
                        assert_int_equal(events[i].extra, ~events[i].data);
                        assert_true(last == UINT64_MAX || events[i].data > last);
                        last = events[i].data;
                }
                seen += r.n;
                missed += r.lost;
                position = r.next;
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(seen + missed, WRITES);
        assert_true(seen > 0);
}

/* ---- What the engine writes ---- */

static struct vtl_trace_ring *ring_of(struct fx *f) {
        return &fx_ctl(f, 0)->trace;
}

static void assert_events(struct fx *f, const struct vtl_trace_event *expected, size_t n) {
        struct vtl_trace_result r = vtl_trace_read(ring_of(f), 0, events, ARRAY_SIZE(events));

        assert_int_equal(r.lost + r.rejected, 0);
        assert_int_equal(r.n, n);
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(events[i].kind, expected[i].kind);
                assert_int_equal(events[i].from, expected[i].from);
                assert_int_equal(events[i].to, expected[i].to);
                assert_int_equal(events[i].detail, expected[i].detail);
                if (expected[i].data)
                        assert_int_equal(events[i].data, expected[i].data);
                if (expected[i].extra)
                        assert_int_equal(events[i].extra, expected[i].extra);
        }
}

static void trace(struct fx *f, bool on) {
        memset(ring_of(f), 0, sizeof(*ring_of(f)));
        atomic_store(&f->p->header->tracing, on);
}

static void test_nothing_when_nobody_reads(void **state) {
        struct fx f;

        fx_init(&f, &(struct fx_options){ .vps = 1 });
        fx_start_vtl1(&f);
        assert_int_equal(fx_vtl_return(&f, 0, true), 0);
        assert_int_equal(atomic_load(&ring_of(&f)->next), 0);
        fx_deinit(&f);
}

static void test_switches_and_hypercalls(void **state) {
        const uint64_t control = FX_CONTROL(HVCALL_MODIFY_VTL_PROTECTION_MASK, 1);
        const struct vtl_trace_event expected[] = {
                { .kind = VTL_TRACE_HYPERCALL,
                  .from = 1,
                  .to = 1,
                  .detail = HV_DISPATCH_DONE,
                  .data = control,
                  .extra = FX_RESULT(HV_STATUS_SUCCESS, 1) },
                { .kind = VTL_TRACE_HYPERCALL,
                  .from = 1,
                  .to = 1,
                  .data = 0x7777,
                  .extra = HV_STATUS_INVALID_HYPERCALL_CODE },
                { .kind = VTL_TRACE_SWITCH, .from = 1, .to = 0, .detail = VTL_SWITCH_FAST_RETURN },
                { .kind = VTL_TRACE_SWITCH, .from = 0, .to = 1, .detail = VTL_SWITCH_CALL },
                { .kind = VTL_TRACE_SWITCH, .from = 1, .to = 0, .detail = VTL_SWITCH_RETURN },
        };
        struct fx f;

        fx_init(&f, &(struct fx_options){ .vps = 1 });
        fx_start_vtl1(&f);
        fx_enable_protection(&f, 0);
        trace(&f, true);
        assert_int_equal(fx_protect_page(&f, 0, HV_MAP_GPA_READABLE, SECRET),
                         FX_RESULT(HV_STATUS_SUCCESS, 1));
        assert_int_equal(fx_hypercall(&f, 0, 0x7777, 0, 0), HV_STATUS_INVALID_HYPERCALL_CODE);
        assert_int_equal(fx_vtl_return(&f, 0, true), 0);
        assert_int_equal(fx_vtl_call(&f, 0), 0);
        assert_int_equal(fx_vtl_return(&f, 0, false), 0);
        assert_events(&f, expected, ARRAY_SIZE(expected));
        fx_deinit(&f);
}

/* A forbidden access: VTL1 is told, has an interrupt, is entered for it, and gets it. */
static void test_an_intercept(void **state) {
        const struct vtl_trace_event expected[] = {
                { .kind = VTL_TRACE_INTERCEPT,
                  .to = 1,
                  .detail = VTL_TRACE_INTERCEPT_MEMORY | HV_INTERCEPT_ACCESS_READ << 8,
                  .data = SECRET << HV_PAGE_SHIFT },
                { .kind = VTL_TRACE_SWITCH, .to = 1, .detail = VTL_SWITCH_INTERRUPT },
                { .kind = VTL_TRACE_INTERRUPT, .from = 1, .to = 1, .detail = VECTOR },
        };
        uint64_t value;
        struct fx f;

        fx_init(&f, &(struct fx_options){ .vps = 1 });
        fx_start_vtl1(&f);
        fx_enable_protection(&f, 0);
        fx_enable_intercepts(&f, 0, VECTOR);
        assert_int_equal(fx_protect_page(&f, 0, 0, SECRET), FX_RESULT(HV_STATUS_SUCCESS, 1));
        assert_int_equal(fx_vtl_return(&f, 0, true), 0);
        trace(&f, true);
        assert_int_equal(fx_load(&f, 0, SECRET << HV_PAGE_SHIFT, 4, &value), 0);
        assert_int_equal(fx_active(&f, 0), 1);
        fx_cpu(&f, 0)->regs.rflags |= 0x200;
        assert_int_equal(fx_irq_window(&f, 0), 0);
        assert_events(&f, expected, ARRAY_SIZE(expected));
        fx_deinit(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_as_written, clear),
                cmocka_unit_test_setup(test_overwritten, clear),
                cmocka_unit_test_setup(test_impossible, clear),
                cmocka_unit_test_setup(test_impossible_times, clear),
                cmocka_unit_test_setup(test_wild_positions, clear),
                cmocka_unit_test_setup(test_positions_go_on_past_32_bits, clear),
                cmocka_unit_test_setup(test_while_it_is_written, clear),
                cmocka_unit_test(test_nothing_when_nobody_reads),
                cmocka_unit_test(test_switches_and_hypercalls),
                cmocka_unit_test(test_an_intercept),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
