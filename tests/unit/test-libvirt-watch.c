/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * vtld-libvirt watches libvirt's test driver, which is in this process: what one connection does is
 * seen by another one.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdio.h>

#include "daemon/domains.h"
#include "daemon/libvirt-domain.h"
#include "daemon/libvirt-metadata.h"
#include "daemon/libvirt-watch.h"
#include "util/util.h"
#include "util/uuid.h"

#define URI "test:///default"
#define TEST_UUID "6695eb01-f6a4-8304-79aa-97f2502e193f" /* of its domain "test" */
#define MESSAGES_MAX 4096u
#define DEADLINE_MS 20000

struct side {
        virConnectPtr writer;
        struct watch *watch;
        struct libvirt_message messages[MESSAGES_MAX];
        unsigned n;
        struct domains domains; /* as the broker has them */
        int deadline;
        bool late;
};

static void on_state(void *userdata) {
}

static void on_domain(void *userdata, const uint8_t uuid[16], const struct domain *d) {
}

/* Whatever is told, the broker takes. */
static void on_message(void *userdata, const struct libvirt_message *m) {
        static const struct domains_ops ops = { .state = on_state, .domain = on_domain };
        struct side *s = userdata;

        assert_true(s->n < MESSAGES_MAX);
        s->messages[s->n++] = *m;
        assert_int_equal(domains_message(&s->domains, m, sizeof(*m), &ops, s), 0);
}

static void on_deadline(int timer, void *userdata) {
        struct side *s = userdata;

        s->late = true;
}

static void run_until_messages(struct side *s, unsigned n) {
        while (s->n < n) {
                assert_int_equal(virEventRunDefaultImpl(), 0);
                assert_false(s->late);
        }
}

static void run_until_state(struct side *s, enum libvirt_state state) {
        do {
                assert_int_equal(virEventRunDefaultImpl(), 0);
                assert_false(s->late);
        } while (s->domains.state != state);
}

static const struct libvirt_message *last(const struct side *s) {
        assert_true(s->n > 0);
        return &s->messages[s->n - 1];
}

static const struct libvirt_message *next(struct side *s) {
        run_until_messages(s, s->n + 1);
        return last(s);
}

static int setup(void **state) {
        struct side *s = calloc(1, sizeof(*s));

        *state = s;
        if (!s)
                return -1;
        s->deadline = virEventAddTimeout(DEADLINE_MS, on_deadline, s, NULL);
        s->writer = virConnectOpen(URI);
        return s->writer ? 0 : -1;
}

static int teardown(void **state) {
        struct side *s = *state;

        (void) watch_free(s->watch);
        (void) virConnectClose(s->writer);
        (void) virEventRemoveTimeout(s->deadline);
        domains_done(&s->domains);
        free(s);
        return 0;
}

static void start(struct side *s, const char *uri) {
        assert_int_equal(watch_new(uri, on_message, s, &s->watch), 0);
}

static void start_connected(struct side *s) {
        start(s, URI);
        run_until_state(s, LIBVIRT_CONNECTED);
}

static virDomainPtr the_domain(struct side *s) {
        virDomainPtr d = virDomainLookupByName(s->writer, "test");

        assert_non_null(d);
        return d;
}

static void set_metadata(virDomainPtr d, const char *xml, const char *uri) {
        assert_int_equal(virDomainSetMetadata(d, VIR_DOMAIN_METADATA_ELEMENT, xml, "x", uri,
                                              VIR_DOMAIN_AFFECT_LIVE),
                         0);
}

static void is_test(const struct libvirt_message *m, enum domain_state state, uint32_t run) {
        char uuid[UUID_TEXT_SIZE];

        uuid_format(m->uuid, uuid);
        assert_int_equal(m->type, LIBVIRT_DOMAIN);
        assert_string_equal(uuid, TEST_UUID);
        assert_string_equal(m->text, "test");
        assert_int_equal(m->state, state);
        assert_int_equal(m->run, run);
        assert_int_equal(m->pid, 0);
}

/* ---- Tests ---- */

static void test_the_first_round(void **state) {
        struct side *s = *state;

        start(s, URI);
        run_until_messages(s, 3);
        assert_int_equal(s->messages[0].type, LIBVIRT_STATE);
        assert_int_equal(s->messages[0].state, LIBVIRT_CONNECTING);
        is_test(&s->messages[1], DOMAIN_RUNNING, 1);
        assert_string_equal(s->messages[1].policy, "");
        assert_int_equal(s->messages[2].type, LIBVIRT_STATE);
        assert_int_equal(s->messages[2].state, LIBVIRT_CONNECTED);
        assert_int_equal(s->n, 3);
}

static void test_metadata_that_is_there(void **state) {
        struct side *s = *state;
        _cleanup_domain_ virDomainPtr d = the_domain(s);

        set_metadata(d, "<policy>there</policy>", METADATA_URI);
        start(s, URI);
        run_until_messages(s, 3);
        assert_string_equal(s->messages[1].policy, "there");
}

static void test_metadata_that_change(void **state) {
        struct side *s = *state;
        _cleanup_domain_ virDomainPtr d = the_domain(s);

        start_connected(s);
        set_metadata(d, "<policy>one</policy>", METADATA_URI);
        assert_string_equal(next(s)->policy, "one");
        is_test(last(s), DOMAIN_RUNNING, 1);
        set_metadata(d, "<policy> two\n</policy>", METADATA_URI);
        assert_string_equal(next(s)->policy, "two");
        set_metadata(d, NULL, METADATA_URI);
        assert_string_equal(next(s)->policy, "");

        /* Malformed: as if there were none */
        set_metadata(d, "<policy>three</policy>", METADATA_URI);
        assert_string_equal(next(s)->policy, "three");
        set_metadata(d, "<policy><b>four</b></policy>", METADATA_URI);
        assert_string_equal(next(s)->policy, "");
}

/* What belongs to others is not looked at. */
static void test_metadata_of_others(void **state) {
        struct side *s = *state;
        _cleanup_domain_ virDomainPtr d = the_domain(s);
        unsigned n;

        start_connected(s);
        n = s->n;
        set_metadata(d, "<policy>theirs</policy>", METADATA_URI "/1");
        assert_int_equal(virDomainSetMetadata(d, VIR_DOMAIN_METADATA_TITLE, "title", NULL, NULL,
                                              VIR_DOMAIN_AFFECT_LIVE),
                         0);
        set_metadata(d, "<policy>ours</policy>", METADATA_URI);
        assert_string_equal(next(s)->policy, "ours");
        assert_int_equal(s->n, n + 1);
}

static void test_life_of_a_domain(void **state) {
        struct side *s = *state;
        _cleanup_domain_ virDomainPtr d = the_domain(s);

        start_connected(s);
        assert_int_equal(virDomainSuspend(d), 0);
        is_test(next(s), DOMAIN_PAUSED, 1);
        assert_int_equal(virDomainResume(d), 0);
        is_test(next(s), DOMAIN_RUNNING, 1);
        assert_int_equal(virDomainDestroy(d), 0);
        is_test(next(s), DOMAIN_INACTIVE, 0);
        assert_int_equal(virDomainCreate(d), 0);
        is_test(next(s), DOMAIN_RUNNING, 2);
        /* Stopped and started before anybody has looked: another run */
        assert_int_equal(virDomainDestroy(d), 0);
        assert_int_equal(virDomainCreate(d), 0);
        is_test(next(s), DOMAIN_RUNNING, 3);
        assert_int_equal(virDomainUndefine(d), 0);
        is_test(next(s), DOMAIN_RUNNING, 3);
        assert_int_equal(virDomainDestroy(d), 0);
        assert_int_equal(next(s)->type, LIBVIRT_GONE);
        assert_int_equal(HASH_COUNT(s->domains.table), 0);
}

static void define(struct side *s, const char *name, unsigned number) {
        char xml[1024];
        virDomainPtr d;

        (void) snprintf(xml, sizeof(xml),
                        "<domain type='test'><name>%s</name>"
                        "<uuid>00000001-0000-4000-8000-%012x</uuid><memory>1024</memory>"
                        "<os><type>hvm</type></os></domain>",
                        name, number);
        d = virDomainDefineXML(s->writer, xml);
        assert_non_null(d);
        (void) virDomainFree(d);
}

static void test_a_domain_is_defined(void **state) {
        struct side *s = *state;

        start_connected(s);
        define(s, "gr\xc3\xb6\xc3\x9f\x65", 1);
        assert_int_equal(next(s)->type, LIBVIRT_DOMAIN);
        assert_string_equal(last(s)->text, "gr\xc3\xb6\xc3\x9f\x65");
        assert_int_equal(last(s)->state, DOMAIN_INACTIVE);
}

static void test_names_that_are_not_understood(void **state) {
        struct side *s = *state;
        char name[301];

        start_connected(s);
        memset(name, 'n', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        define(s, name, 1);
        assert_int_equal(next(s)->type, LIBVIRT_GONE);
        define(s, "a\tb", 2);
        assert_int_equal(next(s)->type, LIBVIRT_GONE);
        name[LIBVIRT_NAME_SIZE - 1] = '\0';
        define(s, name, 3);
        assert_int_equal(next(s)->type, LIBVIRT_DOMAIN);
        assert_string_equal(last(s)->text, name);
}

/* More changes than are kept: everything is told, and what is no more is not. */
static void test_many_changes_at_once(void **state) {
        struct side *s = *state;
        _cleanup_domain_ virDomainPtr d = the_domain(s);
        char name[32];

        start_connected(s);
        assert_int_equal(virDomainDestroy(d), 0);
        assert_int_equal(virDomainUndefine(d), 0);
        for (unsigned i = 0; i < 300; i++) {
                (void) snprintf(name, sizeof(name), "many-%u", i);
                define(s, name, i);
        }
        run_until_state(s, LIBVIRT_CONNECTED);
        while (HASH_COUNT(s->domains.table) != 300) {
                assert_int_equal(virEventRunDefaultImpl(), 0);
                assert_false(s->late);
        }
        assert_int_equal(s->domains.state, LIBVIRT_CONNECTED);
}

static void test_queries(void **state) {
        struct side *s = *state;
        uint8_t uuid[16];
        unsigned n;

        start(s, URI);
        assert_int_equal(uuid_parse(TEST_UUID, uuid), 0);
        watch_query(s->watch, uuid); /* not connected yet */
        assert_int_equal(s->n, 0);
        run_until_state(s, LIBVIRT_CONNECTED);
        n = s->n;
        watch_query(s->watch, uuid);
        assert_int_equal(s->n, n + 1);
        is_test(last(s), DOMAIN_RUNNING, 1);
        uuid[0]++;
        watch_query(s->watch, uuid);
        assert_int_equal(last(s)->type, LIBVIRT_GONE);
        assert_memory_equal(last(s)->uuid, uuid, sizeof(uuid));
}

static void test_it_is_tried_again(void **state) {
        struct side *s = *state;

        start(s, "test:///nowhere/at-all.xml");
        run_until_messages(s, 4);
        for (unsigned i = 0; i < 4; i += 2) {
                assert_int_equal(s->messages[i].type, LIBVIRT_STATE);
                assert_int_equal(s->messages[i].state, LIBVIRT_CONNECTING);
                assert_int_equal(s->messages[i + 1].state, LIBVIRT_FAILED);
                assert_non_null(strstr(s->messages[i + 1].text, "at-all.xml"));
        }
}

static void test_a_uri_that_libvirt_cannot_open(void **state) {
        struct side *s = *state;

        start(s, "test:///nowhere/node.xml");
        run_until_messages(s, 2);
        assert_int_equal(s->messages[1].state, LIBVIRT_FAILED);
        assert_non_null(strstr(s->messages[1].text, "/nowhere/node.xml"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_the_first_round),
                TEST(test_metadata_that_is_there),
                TEST(test_metadata_that_change),
                TEST(test_metadata_of_others),
                TEST(test_life_of_a_domain),
                TEST(test_a_domain_is_defined),
                TEST(test_names_that_are_not_understood),
                TEST(test_many_changes_at_once),
                TEST(test_queries),
                TEST(test_it_is_tried_again),
                TEST(test_a_uri_that_libvirt_cannot_open),
        };

        if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
                return EXIT_FAILURE;
        libvirt_be_quiet();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
