/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whose VM it is, from what machined and vtld-libvirt say, or do not say. Both are played here. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/identity.h"
#include "util/util.h"

#define PID 4711
#define EVENT_USEC (20u * 1000 * 1000)

static const uint8_t claimed[16] = { 1 }, other[16] = { 2 };

/* ---- machined and libvirt ---- */

static struct {
        bool machined; /* there is a bus with it */
        machine_fn answer;
        void *userdata;
        bool machine_open;
        enum libvirt_state state;
        struct domain domains[2];
        unsigned n_domains;
        int query_result;
        unsigned queries;
        uint8_t queried[16];
} world;

struct machine_query {
        int unused;
};
static struct machine_query the_query;

int __wrap_machine_query_new(sd_bus *bus, pid_t pid, uint64_t usec, machine_fn answer,
                             void *userdata, struct machine_query **ret);
struct machine_query *__wrap_machine_query_free(struct machine_query *q);
enum libvirt_state __wrap_libvirt_handle_state(const struct libvirt_handle *h);
const struct domain *__wrap_libvirt_handle_find(const struct libvirt_handle *h,
                                                const uint8_t uuid[16]);
const struct domain *__wrap_libvirt_handle_find_pid(const struct libvirt_handle *h, pid_t pid);
int __wrap_libvirt_handle_query(struct libvirt_handle *h, const uint8_t uuid[16]);

int __wrap_machine_query_new(sd_bus *bus, pid_t pid, uint64_t usec, machine_fn answer,
                             void *userdata, struct machine_query **ret) {
        assert_int_equal(pid, PID);
        assert_true(usec <= IDENTITY_USEC);
        if (!world.machined)
                return -ENOTCONN;
        world.answer = answer;
        world.userdata = userdata;
        world.machine_open = true;
        *ret = &the_query;
        return 0;
}

struct machine_query *__wrap_machine_query_free(struct machine_query *q) {
        if (q)
                world.machine_open = false;
        return NULL;
}

enum libvirt_state __wrap_libvirt_handle_state(const struct libvirt_handle *h) {
        return world.state;
}

const struct domain *__wrap_libvirt_handle_find(const struct libvirt_handle *h,
                                                const uint8_t uuid[16]) {
        for (unsigned i = 0; world.state == LIBVIRT_CONNECTED && i < world.n_domains; i++)
                if (memcmp(world.domains[i].uuid, uuid, 16) == 0)
                        return &world.domains[i];
        return NULL;
}

const struct domain *__wrap_libvirt_handle_find_pid(const struct libvirt_handle *h, pid_t pid) {
        for (unsigned i = 0; world.state == LIBVIRT_CONNECTED && i < world.n_domains; i++)
                if (world.domains[i].pid == pid)
                        return &world.domains[i];
        return NULL;
}

int __wrap_libvirt_handle_query(struct libvirt_handle *h, const uint8_t uuid[16]) {
        world.queries++;
        memcpy(world.queried, uuid, 16);
        return world.query_result;
}

static void machined_says(enum machine_kind kind, const uint8_t uuid[16]) {
        struct machine m = { .kind = kind };

        assert_true(world.machine_open);
        memcpy(m.uuid, uuid, sizeof(m.uuid));
        world.answer(world.userdata, &m);
}

static void there_is_a_domain(const uint8_t uuid[16], pid_t pid) {
        struct domain *d = &world.domains[world.n_domains++];

        memcpy(d->uuid, uuid, sizeof(d->uuid));
        d->pid = pid;
}

/* ---- The one who asks ---- */

struct side {
        sd_event *event;
        struct identity_query *query;
        unsigned answers;
        struct identity identity;
};

static void on_answer(void *userdata, const struct identity *i) {
        struct side *s = userdata;

        s->answers++;
        s->identity = *i;
        s->query = identity_query_free(s->query);
}

static int setup(void **state) {
        struct side *s = calloc(1, sizeof(*s));

        memset(&world, 0, sizeof(world));
        world.machined = true;
        *state = s;
        return s && sd_event_new(&s->event) >= 0 ? 0 : -1;
}

static int teardown(void **state) {
        struct side *s = *state;

        (void) identity_query_free(s->query);
        (void) sd_event_unref(s->event);
        free(s);
        return 0;
}

static void ask(struct side *s) {
        /* No call is made on this bus. */
        sd_bus *bus = NULL;

        assert_true(sd_bus_new(&bus) >= 0);
        assert_int_equal(
                identity_query_new(s->event, bus, NULL, PID, claimed, on_answer, s, &s->query), 0);
        assert_int_equal(s->answers, 0);
        (void) sd_bus_unref(bus);
}

static void run(struct side *s) {
        while (s->answers == 0)
                assert_true(sd_event_run(s->event, EVENT_USEC) > 0);
}

static void expect(struct side *s, enum identity_kind kind, const uint8_t uuid[16]) {
        assert_int_equal(s->answers, 1);
        assert_int_equal(s->identity.kind, kind);
        if (kind == IDENTITY_LIBVIRT)
                assert_memory_equal(s->identity.uuid, uuid, 16);
        assert_false(world.machine_open);
        assert_null(s->query);
}

/* ---- Tests ---- */

static void test_without_libvirt(void **state) {
        struct side *s = *state;

        ask(s);
        machined_says(MACHINE_NONE, claimed);
        expect(s, IDENTITY_NONE, NULL);
}

static void test_a_domain_without_libvirt(void **state) {
        struct side *s = *state;

        ask(s);
        machined_says(MACHINE_LIBVIRT, other);
        expect(s, IDENTITY_LIBVIRT, other);
        assert_int_equal(world.queries, 0);
}

static void test_without_machined(void **state) {
        struct side *s = *state;

        world.machined = false;
        ask(s);
        run(s);
        expect(s, IDENTITY_UNKNOWN, NULL);
}

static void test_machined_is_slow(void **state) {
        struct side *s = *state;

        ask(s);
        run(s);
        expect(s, IDENTITY_UNKNOWN, NULL);
}

/* What is known of it may be of its last run. */
static void test_a_known_domain_is_asked_for(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_CONNECTED;
        there_is_a_domain(claimed, 0);
        ask(s);
        machined_says(MACHINE_LIBVIRT, claimed);
        assert_int_equal(s->answers, 0);
        assert_int_equal(world.queries, 1);
        identity_query_told(s->query, claimed);
        expect(s, IDENTITY_LIBVIRT, claimed);
        assert_true(s->identity.told);
}

static void test_libvirt_is_slow(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_CONNECTED;
        there_is_a_domain(claimed, 0);
        ask(s);
        machined_says(MACHINE_LIBVIRT, claimed);
        run(s);
        expect(s, IDENTITY_LIBVIRT, claimed);
        assert_false(s->identity.told);
}

/* It has just been created, and no event has told of it. */
static void test_a_new_domain_is_asked_for(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_CONNECTED;
        ask(s);
        machined_says(MACHINE_LIBVIRT, claimed);
        assert_int_equal(s->answers, 0);
        assert_int_equal(world.queries, 1);
        assert_memory_equal(world.queried, claimed, 16);
        identity_query_told(s->query, other);
        assert_int_equal(s->answers, 0);
        there_is_a_domain(claimed, 0);
        identity_query_told(s->query, claimed);
        expect(s, IDENTITY_LIBVIRT, claimed);
        assert_int_equal(world.queries, 1);
}

/* Of another libvirt, for example: then its UUID counts all the same. */
static void test_a_domain_that_libvirt_does_not_know(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_CONNECTED;
        ask(s);
        machined_says(MACHINE_LIBVIRT, other);
        identity_query_told(s->query, other);
        expect(s, IDENTITY_LIBVIRT, other);
        assert_true(s->identity.told);
        assert_int_equal(world.queries, 1);
}

static void test_libvirt_cannot_be_asked(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_CONNECTED;
        world.query_result = -EAGAIN;
        ask(s);
        machined_says(MACHINE_LIBVIRT, claimed);
        expect(s, IDENTITY_LIBVIRT, claimed);
        assert_false(s->identity.told);
}

/* libvirtd, or vtld-libvirt, has been started again. */
static void test_a_connection_is_waited_for(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_FAILED;
        ask(s);
        machined_says(MACHINE_LIBVIRT, claimed);
        assert_int_equal(s->answers, 0);
        world.state = LIBVIRT_CONNECTING;
        identity_query_told(s->query, NULL);
        identity_query_told(s->query, other);
        assert_int_equal(s->answers, 0);
        there_is_a_domain(claimed, 0);
        world.state = LIBVIRT_CONNECTED;
        identity_query_told(s->query, NULL);
        assert_int_equal(world.queries, 1);
        identity_query_told(s->query, claimed);
        expect(s, IDENTITY_LIBVIRT, claimed);
        assert_int_equal(world.queries, 1);
}

static void test_a_question_is_asked_again_after_a_loss(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_CONNECTED;
        ask(s);
        machined_says(MACHINE_LIBVIRT, claimed);
        world.state = LIBVIRT_FAILED;
        identity_query_told(s->query, NULL);
        world.state = LIBVIRT_CONNECTED;
        identity_query_told(s->query, NULL);
        assert_int_equal(world.queries, 2);
        assert_int_equal(s->answers, 0);
        identity_query_told(s->query, claimed);
        expect(s, IDENTITY_LIBVIRT, claimed);
}

static void test_a_connection_that_does_not_come(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_FAILED;
        ask(s);
        machined_says(MACHINE_LIBVIRT, claimed);
        run(s);
        expect(s, IDENTITY_LIBVIRT, claimed);
}

/* Only a process of a domain waits. */
static void test_nobody_else_waits_for_a_connection(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_FAILED;
        ask(s);
        machined_says(MACHINE_NONE, claimed);
        expect(s, IDENTITY_NONE, NULL);
}

static void test_what_libvirt_says_while_machined_does_not(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_CONNECTED;
        ask(s);
        identity_query_told(s->query, claimed);
        identity_query_told(s->query, NULL);
        assert_int_equal(s->answers, 0);
        machined_says(MACHINE_NONE, claimed);
        expect(s, IDENTITY_NONE, NULL);
        identity_query_told(NULL, claimed);
}

static void test_libvirt_knows_the_process(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_CONNECTED;
        there_is_a_domain(other, PID);
        ask(s);
        machined_says(MACHINE_NONE, claimed);
        expect(s, IDENTITY_LIBVIRT, other);
        assert_true(s->identity.told);
        assert_int_equal(world.queries, 0);
}

static void test_machined_counts_for_more(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_CONNECTED;
        there_is_a_domain(other, PID);
        there_is_a_domain(claimed, 0);
        ask(s);
        machined_says(MACHINE_LIBVIRT, claimed);
        identity_query_told(s->query, claimed);
        expect(s, IDENTITY_LIBVIRT, claimed);
}

static void test_libvirt_knows_the_process_when_asked(void **state) {
        struct side *s = *state;

        world.machined = false;
        world.state = LIBVIRT_CONNECTED;
        there_is_a_domain(claimed, 0);
        ask(s);
        assert_int_equal(sd_event_run(s->event, EVENT_USEC) > 0, true);
        assert_int_equal(s->answers, 0);
        assert_int_equal(world.queries, 1);
        world.domains[0].pid = PID;
        identity_query_told(s->query, claimed);
        expect(s, IDENTITY_LIBVIRT, claimed);
}

/* It claims to be a domain, and is not. */
static void test_another_process_is_the_domain(void **state) {
        struct side *s = *state;

        world.state = LIBVIRT_CONNECTED;
        there_is_a_domain(claimed, PID + 1);
        ask(s);
        machined_says(MACHINE_NONE, claimed);
        expect(s, IDENTITY_NONE, NULL);
        assert_int_equal(world.queries, 0);
}

static void test_freed_before_the_answer(void **state) {
        struct side *s = *state;

        ask(s);
        s->query = identity_query_free(s->query);
        assert_false(world.machine_open);
        assert_int_equal(sd_event_run(s->event, 0), 0);
        assert_int_equal(s->answers, 0);
        assert_null(identity_query_free(NULL));
}

static void test_check(void **state) {
        struct identity i = { .kind = IDENTITY_LIBVIRT };
        const char *why = NULL;

        memcpy(i.uuid, claimed, 16);
        assert_int_equal(identity_check(&i, claimed, &why), 0);
        assert_null(why);
        assert_int_equal(identity_check(&i, other, &why), -EPERM);
        assert_non_null(why);
        i.kind = IDENTITY_NONE;
        assert_int_equal(identity_check(&i, other, &why), 0);
        i.kind = IDENTITY_UNKNOWN;
        assert_int_equal(identity_check(&i, other, &why), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_without_libvirt),
                TEST(test_a_domain_without_libvirt),
                TEST(test_without_machined),
                TEST(test_machined_is_slow),
                TEST(test_a_known_domain_is_asked_for),
                TEST(test_libvirt_is_slow),
                TEST(test_a_new_domain_is_asked_for),
                TEST(test_a_domain_that_libvirt_does_not_know),
                TEST(test_libvirt_cannot_be_asked),
                TEST(test_a_connection_is_waited_for),
                TEST(test_a_question_is_asked_again_after_a_loss),
                TEST(test_a_connection_that_does_not_come),
                TEST(test_nobody_else_waits_for_a_connection),
                TEST(test_what_libvirt_says_while_machined_does_not),
                TEST(test_libvirt_knows_the_process),
                TEST(test_machined_counts_for_more),
                TEST(test_libvirt_knows_the_process_when_asked),
                TEST(test_another_process_is_the_domain),
                TEST(test_freed_before_the_answer),
                cmocka_unit_test(test_check),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
