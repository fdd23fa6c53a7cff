/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A partition and its domain: what policy is told, and when the domain's end is the partition's. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <sys/mman.h>

#include "daemon/broker.h"
#include "daemon/partition.h"
#include "daemon/protocol-vm.h"
#include "util/util.h"

#define EVENT_USEC (20u * 1000 * 1000)

static const uint8_t uuid[16] = { 7 };

/* ---- Policy, connection and libvirt are the test's ---- */

struct side {
        struct broker broker;
        struct protocol_vm vm;
        struct partition *partition;
        struct domain domain;
        bool domain_known;
        char subject_domain[LIBVIRT_NAME_SIZE]; /* "NULL": none */
        char subject_policy[LIBVIRT_POLICY_SIZE];
        unsigned decisions;
        unsigned detached;
};

static struct side *side;

void __wrap_policy_decide(const struct policy *p, const struct policy_subject *s,
                          struct policy_decision *ret);
void __wrap_connection_detach(struct connection *c, const char *why);
const struct domain *__wrap_libvirt_handle_find(const struct libvirt_handle *h,
                                                const uint8_t id[16]);

void __wrap_policy_decide(const struct policy *p, const struct policy_subject *s,
                          struct policy_decision *ret) {
        side->decisions++;
        (void) snprintf(side->subject_domain, sizeof(side->subject_domain), "%s",
                        s->libvirt_domain ? s->libvirt_domain : "NULL");
        (void) snprintf(side->subject_policy, sizeof(side->subject_policy), "%s",
                        s->libvirt_policy ? s->libvirt_policy : "NULL");
        (void) snprintf(ret->name, sizeof(ret->name), "test");
        ret->allow_vtl1 = true;
}

void __wrap_connection_detach(struct connection *c, const char *why) {
        side->detached++;
        assert_true(*why);
        side->partition = partition_free(side->partition);
}

const struct domain *__wrap_libvirt_handle_find(const struct libvirt_handle *h,
                                                const uint8_t id[16]) {
        assert_memory_equal(id, uuid, 16);
        return side->domain_known ? &side->domain : NULL;
}

static int setup(void **state) {
        struct side *s = calloc(1, sizeof(*s));

        if (!s || sd_event_new(&s->broker.event) < 0)
                return -1;
        s->broker.max_vms = 1;
        protocol_vm_init(&s->vm);
        memcpy(s->vm.uuid, uuid, sizeof(uuid));
        uuid_format(uuid, s->vm.uuid_text);
        (void) snprintf(s->vm.name, sizeof(s->vm.name), "vm");
        s->vm.vps = 1;
        s->vm.control_fd = memfd_create("control", MFD_CLOEXEC);
        if (ftruncate(s->vm.control_fd, (off_t) vtl_control_size(1)) < 0)
                return -1;
        memcpy(s->domain.uuid, uuid, sizeof(uuid));
        (void) snprintf(s->domain.name, sizeof(s->domain.name), "one");
        (void) snprintf(s->domain.policy, sizeof(s->domain.policy), "hardened");
        s->domain.state = DOMAIN_RUNNING;
        s->domain.run = 3;
        s->domain_known = true;
        *state = side = s;
        return 0;
}

static int teardown(void **state) {
        struct side *s = *state;

        (void) partition_free(s->partition);
        protocol_vm_done(&s->vm);
        (void) sd_event_unref(s->broker.event);
        free(s);
        return 0;
}

static void attach(struct side *s, enum identity_kind kind, bool told) {
        struct identity i = { .kind = kind, .told = told };
        const char *why = NULL;

        memcpy(i.uuid, uuid, sizeof(uuid));
        assert_int_equal(partition_new(&s->broker, NULL, &s->vm, 1, 0, &i, &s->partition, &why), 0);
}

static void expect(const struct side *s, const char *domain, const char *policy) {
        assert_string_equal(s->subject_domain, domain);
        assert_string_equal(s->subject_policy, policy);
}

static void tell(struct side *s, enum domain_state state, uint32_t run) {
        s->domain.state = state;
        s->domain.run = run;
        partition_domain_changed(s->partition, &s->domain);
}

/* Whatever waits for some seconds, the end of which is not waited for */
static bool waits(struct side *s) {
        return s->partition->libvirt.grace != NULL;
}

/* ---- Policy ---- */

static void test_policy_is_told(void **state) {
        struct side *s = *state;

        attach(s, IDENTITY_LIBVIRT, true);
        expect(s, "one", "hardened");
        assert_int_equal(s->decisions, 1);
        assert_string_equal(s->partition->decision.name, "test");
}

static void test_a_domain_without_policy(void **state) {
        struct side *s = *state;

        s->domain.policy[0] = '\0';
        attach(s, IDENTITY_LIBVIRT, true);
        expect(s, "one", "NULL");
}

static void test_a_domain_that_is_not_known(void **state) {
        struct side *s = *state;

        s->domain_known = false;
        attach(s, IDENTITY_LIBVIRT, false);
        expect(s, "NULL", "NULL");
        /* It becomes known before the VM is started. */
        tell(s, DOMAIN_PAUSED, 3);
        expect(s, "one", "hardened");
        assert_int_equal(s->decisions, 2);
}

/* The UUID is that of a domain, the process is not. */
static void test_nobody_is_taken_for_a_domain(void **state) {
        static const enum identity_kind kinds[] = { IDENTITY_NONE, IDENTITY_UNKNOWN };
        struct side *s = *state;

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                attach(s, kinds[i], true);
                expect(s, "NULL", "NULL");
                tell(s, DOMAIN_RUNNING, 3);
                tell(s, DOMAIN_INACTIVE, 0);
                tell(s, DOMAIN_RUNNING, 4);
                partition_domain_changed(s->partition, NULL);
                assert_string_equal(s->partition->libvirt.domain, "");
                assert_string_equal(s->partition->libvirt.policy, "");
                assert_int_equal(s->detached, 0);
                assert_false(waits(s));
                s->partition = partition_free(s->partition);
        }
        assert_int_equal(s->decisions, 2);
}

static void test_policy_counts_until_the_start(void **state) {
        struct side *s = *state;

        attach(s, IDENTITY_LIBVIRT, true);
        (void) snprintf(s->domain.policy, sizeof(s->domain.policy), "other");
        tell(s, DOMAIN_RUNNING, 3);
        expect(s, "one", "other");
        assert_int_equal(s->decisions, 2);

        s->partition->state = PARTITION_RUNNING;
        s->domain.policy[0] = '\0';
        tell(s, DOMAIN_RUNNING, 3);
        assert_int_equal(s->decisions, 2);
        assert_string_equal(s->partition->libvirt.policy, "");
}

/* ---- The end ---- */

static void test_it_stops(void **state) {
        static const enum domain_state ends[] = { DOMAIN_INACTIVE, DOMAIN_CRASHED };
        struct side *s = *state;

        for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
                s->domain.state = DOMAIN_RUNNING;
                s->domain.run = 3;
                attach(s, IDENTITY_LIBVIRT, true);
                tell(s, ends[i], ends[i] == DOMAIN_CRASHED ? 3 : 0);
                assert_true(waits(s));
                tell(s, ends[i], ends[i] == DOMAIN_CRASHED ? 3 : 0);
                partition_domain_changed(s->partition, NULL);
                assert_int_equal(s->detached, 0);
                s->partition = partition_free(s->partition);
        }
}

static void test_it_is_gone(void **state) {
        struct side *s = *state;

        attach(s, IDENTITY_LIBVIRT, true);
        partition_domain_changed(s->partition, NULL);
        assert_true(waits(s));
        while (s->detached == 0)
                assert_true(sd_event_run(s->broker.event, EVENT_USEC) > 0);
        assert_null(s->partition);
}

static void test_it_goes_on(void **state) {
        struct side *s = *state;

        attach(s, IDENTITY_LIBVIRT, true);
        tell(s, DOMAIN_CRASHED, 3);
        assert_true(waits(s));
        tell(s, DOMAIN_PAUSED, 3);
        assert_false(waits(s));
        assert_int_equal(s->detached, 0);
}

static void test_it_runs_again(void **state) {
        struct side *s = *state;

        attach(s, IDENTITY_LIBVIRT, true);
        tell(s, DOMAIN_INACTIVE, 0);
        tell(s, DOMAIN_RUNNING, 4);
        assert_int_equal(s->detached, 1);
        assert_null(s->partition);
}

/* Inactive is also what a domain is until it has been started. */
static void test_it_starts(void **state) {
        struct side *s = *state;

        s->domain.state = DOMAIN_INACTIVE;
        s->domain.run = 0;
        attach(s, IDENTITY_LIBVIRT, true);
        tell(s, DOMAIN_INACTIVE, 0);
        assert_false(waits(s));
        tell(s, DOMAIN_PAUSED, 9);
        tell(s, DOMAIN_RUNNING, 9);
        assert_int_equal(s->detached, 0);
        tell(s, DOMAIN_INACTIVE, 0);
        assert_true(waits(s));
}

/* What was known of its run when it was attached was old. */
static void test_an_old_run_is_not_its_own(void **state) {
        struct side *s = *state;

        attach(s, IDENTITY_LIBVIRT, false);
        expect(s, "one", "hardened");
        tell(s, DOMAIN_RUNNING, 4);
        assert_int_equal(s->detached, 0);
        tell(s, DOMAIN_RUNNING, 5);
        assert_int_equal(s->detached, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_policy_is_told),
                TEST(test_a_domain_without_policy),
                TEST(test_a_domain_that_is_not_known),
                TEST(test_nobody_is_taken_for_a_domain),
                TEST(test_policy_counts_until_the_start),
                TEST(test_it_stops),
                TEST(test_it_is_gone),
                TEST(test_it_goes_on),
                TEST(test_it_runs_again),
                TEST(test_it_starts),
                TEST(test_an_old_run_is_not_its_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
