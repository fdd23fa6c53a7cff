/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The worker's questions and the broker's answers, and what happens when there are none. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "daemon/measurement.h"
#include "daemon/worker-measure.h"
#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/seqpacket.h"
#include "util/util.h"

struct pair {
        struct fx fx;
        struct worker_measure worker;
        int broker_fd, worker_fd;
        /* The broker */
        struct measure *measure;
        struct measurement state;
        struct policy_decision decision;
        pthread_t thread;
};

static struct pair pair;

static int on_measure(void *userdata, struct vtl_vp *vp, bool entry) {
        return worker_measure(&pair.worker, vp, entry);
}

/* Both ends: answers, until the worker's end is closed. */
static void *broker(void *userdata) {
        for (;;) {
                struct worker_record r;
                size_t n_fds = 0;

                if (seqpacket_recv(pair.broker_fd, &r, sizeof(r), NULL, &n_fds, 0) != sizeof(r))
                        return NULL;
                if (r.type == WORKER_RECORD)
                        measurement_record(&pair.state, pair.measure, &r);
                else
                        worker_measure_answer(
                                &pair.worker, r.sequence,
                                measurement_decide(&pair.state, pair.measure, &pair.decision, &r));
        }
}

static void begin(bool required, uint64_t limit) {
        char error[CONF_ERROR_SIZE];
        int fds[2];

        memset(&pair, 0, sizeof(pair));
        assert_int_equal(seqpacket_pair(fds), 0);
        pair.broker_fd = fds[0];
        pair.worker_fd = fds[1];
        assert_int_equal(worker_measure_init(&pair.worker, pair.worker_fd, limit, required), 0);
        assert_int_equal(measure_new(&pair.measure, error), 0);
        pair.state.limit = limit;
        pair.decision.allow_vtl1 = true;
        fx_init(&pair.fx, &(struct fx_options){ .vps = 1 });
        pair.fx.p->config.measure = on_measure;
        pair.fx.p->config.measure_required = required;
        assert_int_equal(fx_enable_partition(&pair.fx, 0), HV_STATUS_SUCCESS);
}

static void with_broker(void) {
        assert_int_equal(pthread_create(&pair.thread, NULL, broker, NULL), 0);
}

static void end(void) {
        pair.worker_fd = safe_close(pair.worker_fd);
        if (pair.thread)
                assert_int_equal(pthread_join(pair.thread, NULL), 0);
        pair.broker_fd = safe_close(pair.broker_fd);
        (void) measure_free(pair.worker.measure);
        (void) measure_free(pair.measure);
        fx_deinit(&pair.fx);
}

/* What the guest's VTL1 is measured to, by the encoding alone */
static void expected(uint8_t ret[MEASURE_DIGEST_SIZE]) {
        struct hv_initial_vp_context c = fx_context(0);

        assert_int_equal(measure_begin(pair.measure, (const uint8_t *) &c), 0);
        for (uint64_t i = 0; i < TINY_PAGES; i++)
                assert_int_equal(
                        measure_page(pair.measure, i << 12, 3, pair.fx.ram + i * HV_PAGE_SIZE), 0);
        assert_int_equal(measure_end(pair.measure, ret), 0);
}

static void test_measured(void **state) {
        uint8_t digest[MEASURE_DIGEST_SIZE];

        begin(false, TINY_SIZE);
        with_broker();
        assert_int_equal(fx_enable_vp(&pair.fx, 0, 0), HV_STATUS_SUCCESS);
        /* The hypercall's own input is in memory that VTL1 can execute: nothing changes it now. */
        assert_int_equal(fx_vtl_call(&pair.fx, 0), 0);
        assert_int_equal(fx_active(&pair.fx, 0), 1);
        worker_measure_event(&pair.worker, pair.fx.p, VTL_EVENT_CONFIG, 0, 0x21);
        end();
        assert_int_equal(pair.state.state, QUOTE_MEASURED);
        assert_int_equal(pair.state.log.n, 2);
        assert_int_equal(pair.state.log.lost, 0);
        assert_int_equal(pair.state.log.records[0].event, MEASURE_MEASURED);
        assert_int_equal(pair.state.log.records[0].data[0], TINY_SIZE);
        assert_int_equal(pair.state.log.records[1].data[0], 0x21);

        begin(false, TINY_SIZE);
        assert_int_equal(fx_enable_vp(&pair.fx, 0, 0), HV_STATUS_SUCCESS);
        expected(digest);
        with_broker();
        assert_int_equal(fx_vtl_call(&pair.fx, 0), 0);
        end();
        assert_memory_equal(pair.state.digest, digest, sizeof(digest));
}

static void test_required(void **state) {
        begin(true, TINY_SIZE);
        pair.decision.n_measurements = 1;
        with_broker();
        assert_int_equal(fx_enable_vp(&pair.fx, 0, 0), HV_STATUS_ACCESS_DENIED);
        end();
        assert_int_equal(pair.state.state, QUOTE_REFUSED);
        assert_int_equal(pair.state.log.records[pair.state.log.n - 1].event, MEASURE_REFUSED);
}

static void test_unbounded(void **state) {
        begin(false, TINY_SIZE - HV_PAGE_SIZE);
        with_broker();
        assert_int_equal(fx_enable_vp(&pair.fx, 0, 0), HV_STATUS_SUCCESS);
        assert_int_equal(fx_vtl_call(&pair.fx, 0), 0);
        end();
        assert_int_equal(pair.state.state, QUOTE_UNBOUNDED);

        begin(true, TINY_SIZE - HV_PAGE_SIZE);
        pair.decision.n_measurements = 1; /* of zeroes, which is no digest */
        with_broker();
        assert_int_equal(fx_enable_vp(&pair.fx, 0, 0), HV_STATUS_ACCESS_DENIED);
        end();
        assert_int_equal(pair.state.state, QUOTE_REFUSED);
}

/* The broker is gone, noticed before the question or by it, or while its answer is waited for. */
static void test_without_a_broker(void **state) {
        for (unsigned required = 0; required < 2; required++)
                for (unsigned noticed = 0; noticed < 2; noticed++) {
                        begin(required, TINY_SIZE);
                        pair.broker_fd = safe_close(pair.broker_fd);
                        if (noticed)
                                worker_measure_broker_lost(&pair.worker);
                        assert_int_equal(fx_enable_vp(&pair.fx, 0, 0),
                                         required ? HV_STATUS_ACCESS_DENIED : HV_STATUS_SUCCESS);
                        assert_int_equal(fx_vtl_call(&pair.fx, 0), required ? FX_UD : 0);
                        assert_int_equal(fx_active(&pair.fx, 0), !required);
                        end();
                }
}

static void *lose(void *userdata) {
        struct worker_record r;
        size_t n_fds = 0;

        do
                assert_int_equal(seqpacket_recv(pair.broker_fd, &r, sizeof(r), NULL, &n_fds, 0),
                                 sizeof(r));
        while (r.type != WORKER_MEASURED);
        worker_measure_broker_lost(&pair.worker);
        return NULL;
}

static void test_the_broker_ends_meanwhile(void **state) {
        begin(true, TINY_SIZE);
        assert_int_equal(pthread_create(&pair.thread, NULL, lose, NULL), 0);
        assert_int_equal(fx_enable_vp(&pair.fx, 0, 0), HV_STATUS_ACCESS_DENIED);
        assert_int_equal(fx_vtl_call(&pair.fx, 0), FX_UD);
        end();
}

/* ---- A new broker ---- */

/* Anything that is left to be read: how much */
static unsigned left(void) {
        struct worker_record r;
        size_t n_fds = 0;
        unsigned n = 0;

        while (seqpacket_recv(pair.broker_fd, &r, sizeof(r), NULL, &n_fds, MSG_DONTWAIT) ==
               sizeof(r))
                n++;
        return n;
}

static void next_question(struct worker_record *ret) {
        size_t n_fds = 0;

        do
                assert_int_equal(seqpacket_recv(pair.broker_fd, ret, sizeof(*ret), NULL, &n_fds, 0),
                                 sizeof(*ret));
        while (ret->type != WORKER_MEASURED);
}

/* One that decides and is killed before it can say so, and the one after it */
static void *killed(void *userdata) {
        struct worker_record asked, again;
        bool allowed;
        unsigned n;

        next_question(&asked);
        allowed = measurement_decide(&pair.state, pair.measure, &pair.decision, &asked);
        assert_true(allowed);
        n = pair.state.log.n;
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(worker_measure_ask_again(&pair.worker), 0);
                next_question(&again);
                assert_memory_equal(&asked, &again, sizeof(asked));
                /* Another policy by then makes no difference: it is in the log already. */
                pair.decision.allow_vtl1 = false;
                allowed = measurement_decide(&pair.state, pair.measure, &pair.decision, &again);
                assert_true(allowed);
                assert_int_equal(pair.state.log.n, n);
        }
        worker_measure_answer(&pair.worker, again.sequence, allowed);
        worker_measure_answer(&pair.worker, again.sequence, allowed);
        worker_measure_answer(&pair.worker, again.sequence - 1, !allowed);
        return NULL;
}

static void test_asked_again(void **state) {
        begin(false, TINY_SIZE);
        assert_int_equal(worker_measure_ask_again(&pair.worker), 0);
        assert_int_equal(left(), 0);
        assert_int_equal(fx_enable_vp(&pair.fx, 0, 0), HV_STATUS_SUCCESS);
        assert_int_equal(pthread_create(&pair.thread, NULL, killed, NULL), 0);
        assert_int_equal(fx_vtl_call(&pair.fx, 0), 0);
        assert_int_equal(fx_active(&pair.fx, 0), 1);
        assert_int_equal(pthread_join(pair.thread, NULL), 0);
        pair.thread = 0;
        /* It has its answer. */
        assert_int_equal(worker_measure_ask_again(&pair.worker), 0);
        assert_int_equal(left(), 0);
        end();
        assert_int_equal(pair.state.state, QUOTE_MEASURED);
}

static unsigned fill(void) {
        const struct worker_record r = { .type = WORKER_RECORD, .event = MEASURE_MEASURED };
        unsigned n = 0;

        while (seqpacket_send(pair.worker_fd, &r, sizeof(r), NULL, 0, MSG_DONTWAIT) == 0)
                n++;
        return n;
}

static void *slow_broker(void *userdata) {
        (void) usleep(100 * 1000);
        return broker(userdata);
}

/* Without a broker nobody reads: events are lost, which the next one can tell, and nothing waits
 * but a question. */
static void test_no_room(void **state) {
        unsigned n;

        begin(false, TINY_SIZE);
        assert_int_equal(fx_enable_vp(&pair.fx, 0, 0), HV_STATUS_SUCCESS);
        n = fill();
        assert_true(n >= 100);
        for (unsigned i = 0; i < 5; i++)
                worker_measure_event(&pair.worker, pair.fx.p, VTL_EVENT_CONFIG, 0, i);
        assert_int_equal(pthread_create(&pair.thread, NULL, slow_broker, NULL), 0);
        assert_int_equal(fx_vtl_call(&pair.fx, 0), 0);
        assert_int_equal(fx_active(&pair.fx, 0), 1);
        end();
        assert_int_equal(pair.state.state, QUOTE_MEASURED);
        assert_int_equal(pair.state.log.n, 1);
        assert_int_equal(pair.state.log.lost, 5);
}

/* ---- The broker does not believe everything ---- */

static void test_a_worker_that_lies(void **state) {
        struct worker_record r = { .type = WORKER_MEASURED,
                                   .flags = WORKER_MEASURED_ENTRY,
                                   .sequence = 1,
                                   .digest = { 1 } };
        struct measurement *s = &pair.state;

        begin(false, TINY_SIZE);
        assert_true(measurement_decide(s, pair.measure, &pair.decision, &r));
        /* It can say again what it said before VTL1 ran, as it does after a reset. */
        r.sequence = 2;
        assert_true(measurement_decide(s, pair.measure, &pair.decision, &r));
        assert_int_equal(s->state, QUOTE_MEASURED);
        /* Anything else vouches for nothing, and nothing better comes after it. */
        for (unsigned i = 0; i < 2; i++) {
                r.sequence++;
                r.digest[0] = i == 0 ? 2 : 1;
                assert_true(measurement_decide(s, pair.measure, &pair.decision, &r));
                assert_int_equal(s->state, QUOTE_UNBOUNDED);
                assert_int_equal(s->digest[0], 0);
        }
        pair.decision.n_measurements = 1;
        pair.decision.measurements[0][0] = 1;
        r.sequence++;
        assert_false(measurement_decide(s, pair.measure, &pair.decision, &r));
        assert_int_equal(s->state, QUOTE_REFUSED);
        r.sequence++;
        assert_false(measurement_decide(s, pair.measure, &pair.decision, &r));
        assert_int_equal(s->log.n, 6);
        /* Nor is what was saved anywhere measured here. */
        measurement_loaded(s, pair.measure);
        assert_int_equal(s->state, QUOTE_UNBOUNDED);
        s->log.n = 1;
        /* Events that only the broker makes */
        r.type = WORKER_RECORD;
        for (uint32_t event = MEASURE_MEASURED; event < _MEASURE_EVENT_MAX + 2; event++) {
                r.event = event;
                r.sequence++;
                measurement_record(s, pair.measure, &r);
        }
        assert_int_equal(s->log.n, 1);
        assert_int_equal(s->log.lost, 0);
        /* Numbers that are missing, and that come again */
        r.event = MEASURE_CONFIG;
        r.sequence += 4;
        measurement_record(s, pair.measure, &r);
        assert_int_equal(s->log.lost, 3);
        r.sequence = 1;
        measurement_record(s, pair.measure, &r);
        assert_int_equal(s->log.lost, 3);
        assert_int_equal(s->log.n, 3);
        end();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_measured),
                cmocka_unit_test(test_required),
                cmocka_unit_test(test_unbounded),
                cmocka_unit_test(test_without_a_broker),
                cmocka_unit_test(test_the_broker_ends_meanwhile),
                cmocka_unit_test(test_asked_again),
                cmocka_unit_test(test_no_room),
                cmocka_unit_test(test_a_worker_that_lies),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
