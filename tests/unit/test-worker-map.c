/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The worker's answers about protections, also when somebody keeps the partition's lock and when
 * nobody reads them; what the broker takes for one; and how long traces are written. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "daemon/worker-map.h"
#include "daemon/worker-trace.h"
#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/seqpacket.h"
#include "util/util.h"
#include "vtl/protect.h"

#define R HV_MAP_GPA_READABLE
#define ALL HV_MAP_GPA_ALL

static struct {
        struct vtl_partition partition;
        struct worker_map_task task;
        int broker_fd;
        struct worker_map answer;
        ssize_t len;
        unsigned calls; /* of worker_map_work() for the answer */
} w;

static void begin(const struct protect_region *regions, size_t n) {
        int fds[2];

        memset(&w, 0, sizeof(w));
        assert_int_equal(seqpacket_pair(fds), 0);
        w.broker_fd = fds[0];
        (void) pthread_mutex_init(&w.partition.lock, NULL);
        assert_int_equal(protect_map_new(&w.partition.protect, regions, n), 0);
        protect_enable(w.partition.protect, true);
        w.task.partition = &w.partition;
        w.task.broker_fd = fds[1];
        assert_int_equal(worker_map_work(&w.task), -1);
}

static void end(void) {
        (void) protect_map_free(w.partition.protect);
        (void) pthread_mutex_destroy(&w.partition.lock);
        (void) close(w.broker_fd);
        (void) close(w.task.broker_fd);
}

static void ask(uint64_t token, uint64_t gpn) {
        const struct worker_notice n = { .type = WORKER_GET_MAP, .gpa = gpn, .data = token };

        worker_map_ask(&w.task, &n);
}

static void receive(void) {
        size_t n_fds = 0;

        w.len = seqpacket_recv(w.broker_fd, &w.answer, sizeof(w.answer), NULL, &n_fds,
                               MSG_DONTWAIT);
}

static void get(uint64_t gpn) {
        ask(gpn + 7, gpn);
        for (w.calls = 1; worker_map_work(&w.task) >= 0; w.calls++)
                assert_true(w.calls < 1000);
        receive();
        assert_true(w.len > 0);
        assert_true(worker_map_valid(&w.answer, (size_t) w.len, gpn));
        assert_int_equal(w.answer.token, gpn + 7);
        assert_int_equal(w.answer.error, 0);
}

static void assert_run(unsigned i, uint64_t gpn, uint64_t count, unsigned mask) {
        assert_true(i < w.answer.n);
        assert_int_equal(w.answer.runs[i].gpn, gpn);
        assert_int_equal(w.answer.runs[i].count, count);
        assert_int_equal(w.answer.runs[i].mask, mask);
}

static void test_runs(void **state) {
        static const struct protect_region ram[] = { { 0, 0x1000 }, { 0x100000, 0x200 } };

        begin(ram, ARRAY_SIZE(ram));
        assert_int_equal(protect_set_range(w.partition.protect, 0x10, 0x20, R), 0);
        assert_int_equal(protect_set_range(w.partition.protect, 0x30, 1, 0), 0);
        get(0);
        assert_int_equal(w.answer.n, 5);
        assert_run(0, 0, 0x10, ALL);
        assert_run(1, 0x10, 0x20, R);
        assert_run(2, 0x30, 1, 0);
        assert_run(3, 0x31, 0xfcf, ALL);
        assert_run(4, 0x100000, 0x200, ALL);
        assert_int_equal(w.answer.next, UINT64_MAX);
        get(0x18);
        assert_run(0, 0x18, 0x18, R);
        get(0x1000);
        assert_run(0, 0x100000, 0x200, ALL);
        assert_int_equal(w.answer.n, 1);
        get(0x100200);
        assert_int_equal(w.answer.n, 0);
        assert_int_equal(w.answer.next, UINT64_MAX);
        end();
}

/* As many runs as there is room for, then the others */
static void test_more_than_one_answer(void **state) {
        static const struct protect_region ram[] = { { 0x1000, 0x2000 } };
        uint64_t next = 0, expected = 0x1000;
        unsigned answers = 0;

        begin(ram, ARRAY_SIZE(ram));
        for (uint64_t i = 0; i < 2 * WORKER_MAP_RUNS_MAX + 100; i += 2)
                assert_int_equal(protect_set(w.partition.protect, 0x1000 + i, R, NULL), 0);
        for (; next != UINT64_MAX; answers++) {
                get(next);
                for (unsigned i = 0; i < w.answer.n; i++) {
                        assert_int_equal(w.answer.runs[i].gpn, expected);
                        expected += w.answer.runs[i].count;
                }
                next = w.answer.next;
        }
        assert_int_equal(expected, 0x3000);
        assert_int_equal(answers, 3);
        end();
}

/* 1 TiB: one run, but no more than a piece of it under the lock at once */
static void test_a_large_guest(void **state) {
        static const struct protect_region ram[] = { { 0, 1ull << 28 } };
        uint64_t next = 0, pages = 0;
        unsigned calls = 0;

        begin(ram, ARRAY_SIZE(ram));
        while (next != UINT64_MAX) {
                get(next);
                assert_int_equal(w.answer.n, 1);
                assert_int_equal(w.answer.runs[0].gpn, pages);
                pages += w.answer.runs[0].count;
                calls += w.calls;
                next = w.answer.next;
        }
        assert_int_equal(pages, 1ull << 28);
        assert_int_equal(calls, 512);
        end();
}

static void test_while_the_lock_is_held(void **state) {
        static const struct protect_region ram[] = { { 0, 0x1000 } };

        begin(ram, ARRAY_SIZE(ram));
        (void) pthread_mutex_lock(&w.partition.lock);
        ask(1, 0);
        assert_true(worker_map_work(&w.task) > 0);
        assert_true(worker_map_work(&w.task) > 0);
        receive();
        assert_int_equal(w.len, -EAGAIN);
        (void) pthread_mutex_unlock(&w.partition.lock);
        assert_int_equal(worker_map_work(&w.task), -1);
        receive();
        assert_true(worker_map_valid(&w.answer, (size_t) w.len, 0));
        assert_int_equal(w.answer.n, 1);

        /* For too long */
        (void) pthread_mutex_lock(&w.partition.lock);
        ask(2, 0);
        assert_true(worker_map_work(&w.task) > 0);
        w.task.deadline = 1;
        assert_int_equal(worker_map_work(&w.task), -1);
        (void) pthread_mutex_unlock(&w.partition.lock);
        receive();
        assert_true(worker_map_valid(&w.answer, (size_t) w.len, 0));
        assert_int_equal(w.answer.error, -EBUSY);
        assert_int_equal(w.answer.token, 2);
        end();
}

static void test_a_broker_that_does_not_read(void **state) {
        static const struct protect_region ram[] = { { 0, 0x1000 } };
        static const struct worker_notice filler = { .type = WORKER_EVENT };

        begin(ram, ARRAY_SIZE(ram));
        while (seqpacket_send(w.task.broker_fd, &filler, sizeof(filler), NULL, 0, MSG_DONTWAIT) ==
               0)
                ;
        ask(1, 0);
        assert_true(worker_map_work(&w.task) > 0);
        while (w.len != -EAGAIN)
                receive();
        assert_int_equal(worker_map_work(&w.task), -1);
        receive();
        assert_true(worker_map_valid(&w.answer, (size_t) w.len, 0));

        while (seqpacket_send(w.task.broker_fd, &filler, sizeof(filler), NULL, 0, MSG_DONTWAIT) ==
               0)
                ;
        ask(2, 0);
        assert_true(worker_map_work(&w.task) > 0);
        w.task.deadline = 1;
        assert_int_equal(worker_map_work(&w.task), -1); /* it was its last chance */
        end();
}

static size_t size_of(unsigned n) {
        return offsetof(struct worker_map, runs) + n * sizeof(struct worker_map_run);
}

static struct worker_map sound(void) {
        return (struct worker_map){ .type = WORKER_MAP,
                                    .n = 2,
                                    .next = 0x40,
                                    .runs = { { 0x10, 0x10, ALL, 0 }, { 0x30, 1, 0, 0 } } };
}

/* One thing is wrong: what @size bytes at @offset are */
struct wrong {
        size_t offset, size;
        uint64_t value;
};
#define WRONG(field, v) \
        { offsetof(struct worker_map, field), sizeof(((struct worker_map *) NULL)->field), (v) }

static const struct wrong wrong[] = {
        WRONG(n, 1),
        WRONG(n, 3),
        WRONG(n, UINT32_MAX),
        WRONG(error, (uint32_t) -EBUSY), /* and runs */
        WRONG(runs[0].gpn, 0xf),
        WRONG(runs[0].count, 0),
        WRONG(runs[0].count, 0x21),
        WRONG(runs[0].count, UINT64_MAX),
        WRONG(runs[0].mask, 0x10),
        WRONG(runs[1].gpn, 1ull << 40),
        WRONG(runs[1].gpn, 0x1f),
        WRONG(runs[1].count, 1ull << 40),
        WRONG(next, 0x30),
        WRONG(next, 0),
        WRONG(next, 1ull << 40),
};

static void test_answers_that_cannot_be(void **state) {
        struct worker_map m = sound();

        assert_true(worker_map_valid(&m, size_of(2), 0x10));
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                m = sound();
                memcpy((uint8_t *) &m + wrong[i].offset, &wrong[i].value, wrong[i].size);
                assert_false(worker_map_valid(&m, size_of(2), 0x10));
        }
        m = sound();
        assert_false(worker_map_valid(&m, size_of(0) - 1, 0x10));
        assert_false(worker_map_valid(&m, size_of(2) + 1, 0x10));
        m.n = 0;
        m.next = 0x10; /* no progress */
        assert_false(worker_map_valid(&m, size_of(0), 0x10));
        m.next = 0x11;
        assert_true(worker_map_valid(&m, size_of(0), 0x10));
        m.error = 1;
        assert_false(worker_map_valid(&m, size_of(0), 0x10));
        m.error = INT32_MIN;
        assert_false(worker_map_valid(&m, size_of(0), 0x10));
}

static void test_traces_end(void **state) {
        static struct vtl_control_header header;
        struct worker_trace t = { .header = &header };
        int ms;

        assert_int_equal(worker_trace_work(&t), -1);
        worker_trace_renew(&t);
        assert_int_equal(atomic_load(&header.tracing), 1);
        ms = worker_trace_work(&t);
        assert_true(ms > 1000 && ms <= 5001);
        assert_int_equal(atomic_load(&header.tracing), 1);
        t.until = 1;
        assert_int_equal(worker_trace_work(&t), -1);
        assert_int_equal(atomic_load(&header.tracing), 0);
        assert_int_equal(worker_trace_work(&t), -1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_runs),
                cmocka_unit_test(test_more_than_one_answer),
                cmocka_unit_test(test_a_large_guest),
                cmocka_unit_test(test_while_the_lock_is_held),
                cmocka_unit_test(test_a_broker_that_does_not_read),
                cmocka_unit_test(test_answers_that_cannot_be),
                cmocka_unit_test(test_traces_end),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("worker-map", tests, NULL, NULL);
}
