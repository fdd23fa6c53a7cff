/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The worker's answers about registers, also when the VP's thread does not come, and when somebody
 * keeps the partition's lock; and what the broker takes for one. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "daemon/worker-registers.h"
#include "tests/unit/engine-fixture.h"
#include "util/seqpacket.h"
#include "util/util.h"

static struct {
        struct fx fx;
        struct plane_ops ops;
        struct worker_registers_task task;
        int broker_fd;
} w;

static int set_up(void **state) {
        int fds[2];

        memset(&w, 0, sizeof(w));
        fx_init(&w.fx, &(struct fx_options){ .vps = 2 });
        w.ops = plane_model_ops;
        w.ops.borrow = NULL; /* as on KVM */
        w.fx.p->config.ops = &w.ops;
        assert_int_equal(seqpacket_pair(fds), 0);
        w.broker_fd = fds[0];
        w.task.partition = w.fx.p;
        w.task.broker_fd = fds[1];
        return 0;
}

static int tear_down(void **state) {
        w.fx.p->config.ops = &plane_model_ops;
        fx_deinit(&w.fx);
        (void) close(w.broker_fd);
        (void) close(w.task.broker_fd);
        return 0;
}

static void ask(uint64_t token, uint32_t vp, uint32_t vtl) {
        const struct worker_notice n = {
                .type = WORKER_GET_REGISTERS, .vp = vp, .what = vtl, .data = token
        };

        worker_registers_ask(&w.task, &n);
}

static void receive(uint64_t token, int error, struct worker_registers *ret) {
        size_t n_fds = 0;

        assert_int_equal(seqpacket_recv(w.broker_fd, ret, sizeof(*ret), NULL, &n_fds, MSG_DONTWAIT),
                         sizeof(*ret));
        assert_int_equal(ret->type, WORKER_REGISTERS);
        assert_int_equal(ret->token, token);
        assert_int_equal(ret->error, error);
        assert_true(worker_registers_valid(ret));
}

static uint64_t value(const struct worker_registers *r, uint32_t name) {
        for (unsigned i = 0; i < vtl_inspect_count; i++)
                if (vtl_inspect_names[i].name == name)
                        return r->values[i].reg64;
        fail();
        return 0;
}

static void test_answer(void **state) {
        struct worker_registers r;

        assert_int_equal(worker_registers_work(&w.task), -1);
        fx_cpu(&w.fx, 1)->regs.rip = 0x1234;
        ask(7, 1, 0);
        assert_true(worker_registers_work(&w.task) > 0);
        assert_true(worker_registers_work(&w.task) > 0);
        assert_int_equal(fx_kick(&w.fx, 1), 0);
        assert_int_equal(worker_registers_work(&w.task), -1);
        receive(7, 0, &r);
        assert_int_equal(value(&r, HV_X64_REGISTER_RIP), 0x1234);
        assert_int_equal(worker_registers_work(&w.task), -1);
}

static void test_nothing_to_see(void **state) {
        struct worker_registers r;

        ask(1, 2, 0);
        assert_int_equal(worker_registers_work(&w.task), -1);
        receive(1, -ENXIO, &r);
        ask(2, 0, 1);
        assert_int_equal(worker_registers_work(&w.task), -1);
        receive(2, -ENODATA, &r);
        ask(3, UINT32_MAX, UINT32_MAX);
        assert_int_equal(worker_registers_work(&w.task), -1);
        receive(3, -ENXIO, &r);
}

/* The VP's thread does not come: nobody writes into the task afterwards. */
static void test_late(void **state) {
        struct worker_registers r;

        ask(1, 0, 0);
        assert_true(worker_registers_work(&w.task) > 0);
        assert_non_null(fx_vp(&w.fx, 0)->work);
        w.task.deadline = 0;
        assert_int_equal(worker_registers_work(&w.task), -1);
        receive(1, -EBUSY, &r);
        assert_null(fx_vp(&w.fx, 0)->work);
}

static void test_asked_again(void **state) {
        struct worker_registers r;

        ask(1, 0, 0);
        assert_true(worker_registers_work(&w.task) > 0);
        ask(2, 1, 0);
        assert_null(fx_vp(&w.fx, 0)->work);
        assert_true(worker_registers_work(&w.task) > 0);
        assert_int_equal(fx_kick(&w.fx, 1), 0);
        assert_int_equal(worker_registers_work(&w.task), -1);
        receive(2, 0, &r);
}

static void test_lock_is_kept(void **state) {
        struct worker_registers r;

        (void) pthread_mutex_lock(&w.fx.p->lock);
        ask(1, 0, 0);
        assert_true(worker_registers_work(&w.task) > 0);
        assert_null(fx_vp(&w.fx, 0)->work);
        /* The question is answered once the lock is free. */
        w.task.deadline = 0;
        assert_true(worker_registers_work(&w.task) > 0);
        (void) pthread_mutex_unlock(&w.fx.p->lock);
        assert_int_equal(worker_registers_work(&w.task), -1);
        receive(1, -EBUSY, &r);
}

static void test_validity(void **state) {
        struct worker_registers r = { .n = vtl_inspect_count };

        assert_true(worker_registers_valid(&r));
        r.n--;
        assert_false(worker_registers_valid(&r));
        r.n = VTL_INSPECT_MAX + 1;
        assert_false(worker_registers_valid(&r));
        r.error = -EBUSY;
        assert_false(worker_registers_valid(&r));
        r.n = 0;
        assert_true(worker_registers_valid(&r));
        r.error = 1;
        assert_false(worker_registers_valid(&r));
        r.error = INT32_MIN;
        assert_false(worker_registers_valid(&r));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_answer, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_nothing_to_see, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_late, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_asked_again, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_lock_is_kept, set_up, tear_down),
                cmocka_unit_test(test_validity),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
