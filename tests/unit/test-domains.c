/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The broker's table of domains: what it takes from vtld-libvirt, and what it does not. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/domains.h"
#include "util/util.h"

struct side {
        struct domains domains;
        unsigned n_states;
        unsigned n_domains;
        unsigned n_gone;
        uint8_t last[16];
};

static void on_state(void *userdata) {
        struct side *s = userdata;

        s->n_states++;
}

static void on_domain(void *userdata, const uint8_t uuid[16], const struct domain *d) {
        struct side *s = userdata;

        if (d) {
                assert_memory_equal(d->uuid, uuid, 16);
                assert_ptr_equal(d, domains_find(&s->domains, uuid));
                s->n_domains++;
        } else {
                assert_null(domains_find(&s->domains, uuid));
                s->n_gone++;
        }
        memcpy(s->last, uuid, 16);
}

static const struct domains_ops ops = { .state = on_state, .domain = on_domain };

static int send(struct side *s, const struct libvirt_message *m) {
        return domains_message(&s->domains, m, sizeof(*m), &ops, s);
}

static int send_state(struct side *s, enum libvirt_state state) {
        const struct libvirt_message m = { .type = LIBVIRT_STATE,
                                           .state = state,
                                           .text = "no \x1b[1mreason" };

        return send(s, &m);
}

static struct libvirt_message a_domain(uint8_t number) {
        return (struct libvirt_message){ .type = LIBVIRT_DOMAIN,
                                         .state = DOMAIN_RUNNING,
                                         .pid = 1000u + number,
                                         .run = number,
                                         .uuid = { number },
                                         .policy = "hardened",
                                         .text = "one" };
}

static int send_gone(struct side *s, uint8_t number) {
        const struct libvirt_message m = { .type = LIBVIRT_GONE, .uuid = { number } };

        return send(s, &m);
}

static void connect_side(struct side *s) {
        assert_int_equal(send_state(s, LIBVIRT_CONNECTING), 0);
        assert_int_equal(send_state(s, LIBVIRT_CONNECTED), 0);
}

static void test_a_domain(void **state) {
        struct side s = { 0 };
        struct libvirt_message m = a_domain(1);
        const struct domain *d;

        connect_side(&s);
        assert_int_equal(s.n_states, 2);
        assert_int_equal(send(&s, &m), 0);
        d = domains_find(&s.domains, m.uuid);
        assert_non_null(d);
        assert_string_equal(d->name, "one");
        assert_string_equal(d->policy, "hardened");
        assert_int_equal(d->state, DOMAIN_RUNNING);
        assert_int_equal(d->run, 1);
        assert_ptr_equal(domains_find_pid(&s.domains, 1001), d);
        assert_null(domains_find_pid(&s.domains, 1002));
        assert_null(domains_find_pid(&s.domains, 0));

        /* Changed: renamed, stopped, without policy */
        m.state = DOMAIN_INACTIVE;
        m.run = m.pid = 0;
        m.policy[0] = '\0';
        memcpy(m.text, "other", sizeof("other"));
        assert_int_equal(send(&s, &m), 0);
        assert_string_equal(d->name, "other");
        assert_string_equal(d->policy, "");
        assert_int_equal(s.n_domains, 2);
        assert_null(domains_find_pid(&s.domains, 1001));
        assert_null(domains_find_pid(&s.domains, 0));

        assert_int_equal(send_gone(&s, 1), 0);
        assert_null(domains_find(&s.domains, m.uuid));
        /* The answer to a question about a domain that there is not */
        assert_int_equal(send_gone(&s, 7), 0);
        assert_int_equal(s.n_gone, 2);
        assert_int_equal(s.last[0], 7);
        domains_done(&s.domains);
}

static void test_a_new_connection_tells_all(void **state) {
        struct side s = { 0 };
        struct libvirt_message one = a_domain(1), two = a_domain(2), three = a_domain(3);

        assert_int_equal(send_state(&s, LIBVIRT_CONNECTING), 0);
        assert_int_equal(send(&s, &one), 0);
        assert_int_equal(send(&s, &two), 0);
        assert_int_equal(send_state(&s, LIBVIRT_CONNECTED), 0);

        domains_lost(&s.domains, "killed \n");
        assert_int_equal(s.domains.state, LIBVIRT_FAILED);
        assert_string_equal(s.domains.reason, "killed \\x0a");
        assert_non_null(domains_find(&s.domains, one.uuid));

        assert_int_equal(send_state(&s, LIBVIRT_CONNECTING), 0);
        assert_int_equal(send(&s, &two), 0);
        assert_int_equal(send(&s, &three), 0);
        /* An attempt that failed has told nothing that counts as the end of the others. */
        assert_int_equal(send_state(&s, LIBVIRT_FAILED), 0);
        assert_string_equal(s.domains.reason, "no \\x1b[1mreason");
        assert_int_equal(s.n_gone, 0);
        assert_int_equal(send_state(&s, LIBVIRT_CONNECTING), 0);
        assert_int_equal(send(&s, &three), 0);
        assert_int_equal(send_state(&s, LIBVIRT_CONNECTED), 0);
        assert_string_equal(s.domains.reason, "");
        assert_int_equal(s.n_gone, 2);
        assert_null(domains_find(&s.domains, one.uuid));
        assert_null(domains_find(&s.domains, two.uuid));
        assert_non_null(domains_find(&s.domains, three.uuid));

        /* The same within one process of the helper */
        assert_int_equal(send_state(&s, LIBVIRT_CONNECTING), 0);
        assert_int_equal(send_state(&s, LIBVIRT_CONNECTED), 0);
        assert_null(domains_find(&s.domains, three.uuid));
        domains_done(&s.domains);
}

static void test_sizes(void **state) {
        struct side s = { 0 };
        struct libvirt_message m[2] = { a_domain(1), a_domain(2) };

        connect_side(&s);
        for (size_t len = 0; len < sizeof(m); len++) {
                /* Exactly as long as it says, for the sanitizer */
                _cleanup_free_ uint8_t *copy = malloc(len ? len : 1);

                memcpy(copy, m, len);
                assert_int_equal(domains_message(&s.domains, copy, len, &ops, &s),
                                 len == sizeof(m[0]) ? 0 : -EBADMSG);
        }
        assert_int_equal(s.n_domains, 1);
        domains_done(&s.domains);
}

static void fill(char *text, size_t n) {
        memset(text, 'x', n);
}

static void break_type(struct libvirt_message *m) {
        m->type = LIBVIRT_QUERY; /* the broker's */
}
static void break_type_none(struct libvirt_message *m) {
        m->type = 0;
}
static void break_type_large(struct libvirt_message *m) {
        m->type = UINT32_MAX;
}
static void break_state(struct libvirt_message *m) {
        m->state = _DOMAIN_STATE_MAX;
}
static void break_uuid(struct libvirt_message *m) {
        memset(m->uuid, 0, sizeof(m->uuid));
}
static void break_run(struct libvirt_message *m) {
        m->run = 0;
}
static void break_run_inactive(struct libvirt_message *m) {
        m->state = DOMAIN_INACTIVE;
        m->pid = 0;
}
static void break_pid(struct libvirt_message *m) {
        m->pid = UINT32_C(1) << 31;
}
static void break_pid_inactive(struct libvirt_message *m) {
        m->state = DOMAIN_INACTIVE;
        m->run = 0;
}
static void break_name_empty(struct libvirt_message *m) {
        m->text[0] = '\0';
}
static void break_name_control(struct libvirt_message *m) {
        m->text[0] = '\n';
}
static void break_name_utf8(struct libvirt_message *m) {
        m->text[0] = '\xff';
}
static void break_name_end(struct libvirt_message *m) {
        fill(m->text, sizeof(m->text));
}
static void break_policy_end(struct libvirt_message *m) {
        fill(m->policy, sizeof(m->policy));
}
static void break_policy_long(struct libvirt_message *m) {
        fill(m->policy, sizeof(m->policy) - 1);
}
static void break_policy_33(struct libvirt_message *m) {
        fill(m->policy, LIBVIRT_POLICY_SIZE);
}
static void break_policy_space(struct libvirt_message *m) {
        m->policy[2] = ' ';
}
static void break_policy_star(struct libvirt_message *m) {
        m->policy[0] = '*';
}

static void test_what_is_not_taken(void **state) {
        static void (*const faults[])(struct libvirt_message * m) = {
                break_type,         break_type_none,   break_type_large,   break_state,
                break_uuid,         break_run,         break_run_inactive, break_pid,
                break_pid_inactive, break_name_empty,  break_name_control, break_name_utf8,
                break_name_end,     break_policy_end,  break_policy_long,  break_policy_33,
                break_policy_space, break_policy_star,
        };
        struct side s = { 0 };
        struct libvirt_message m = a_domain(1);

        connect_side(&s);
        for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
                m = a_domain(1);
                faults[i](&m);
                assert_int_equal(send(&s, &m), -EBADMSG);
        }
        assert_int_equal(s.n_domains + s.n_gone, 0);
        assert_int_equal(s.n_states, 2);
        assert_int_equal(HASH_COUNT(s.domains.table), 0);

        m = a_domain(1);
        assert_int_equal(send(&s, &m), 0);
        domains_done(&s.domains);
}

static void test_longest_texts(void **state) {
        struct side s = { 0 };
        struct libvirt_message m = a_domain(1);
        const struct domain *d;

        connect_side(&s);
        fill(m.text, sizeof(m.text) - 1);
        fill(m.policy, LIBVIRT_POLICY_SIZE - 1);
        assert_int_equal(send(&s, &m), 0);
        d = domains_find(&s.domains, m.uuid);
        assert_string_equal(d->name, m.text);
        assert_string_equal(d->policy, m.policy);
        domains_done(&s.domains);
}

static void test_order_of_states(void **state) {
        struct side s = { 0 };
        struct libvirt_message m = a_domain(1);

        /* Nothing is known of domains before there is a connection. */
        assert_int_equal(send(&s, &m), -EBADMSG);
        assert_int_equal(send_gone(&s, 1), -EBADMSG);
        assert_int_equal(send_state(&s, LIBVIRT_CONNECTED), -EBADMSG);
        assert_int_equal(send_state(&s, LIBVIRT_OFF), -EBADMSG);
        assert_int_equal(send_state(&s, _LIBVIRT_STATE_MAX), -EBADMSG);
        connect_side(&s);
        assert_int_equal(send_state(&s, LIBVIRT_CONNECTED), -EBADMSG);
        assert_int_equal(send_state(&s, LIBVIRT_FAILED), 0);
        assert_int_equal(send(&s, &m), -EBADMSG);
        assert_int_equal(send_state(&s, LIBVIRT_CONNECTED), -EBADMSG);
        domains_done(&s.domains);
}

static void test_too_many(void **state) {
        struct side s = { 0 };
        struct libvirt_message m = a_domain(1);

        connect_side(&s);
        for (unsigned i = 0; i < DOMAINS_MAX; i++) {
                m.uuid[1] = (uint8_t) i;
                m.uuid[2] = (uint8_t) (i >> 8);
                assert_int_equal(send(&s, &m), 0);
        }
        m.uuid[3] = 1;
        assert_int_equal(send(&s, &m), -ENOSPC);
        m.uuid[3] = 0;
        assert_int_equal(send(&s, &m), 0); /* one that is there may change */
        assert_int_equal(HASH_COUNT(s.domains.table), DOMAINS_MAX);
        domains_done(&s.domains);
        assert_int_equal(HASH_COUNT(s.domains.table), 0);
}

static void test_policy_values(void **state) {
        static const char *const good[] = { "a", "default", "A-Z_0.9",
                                            "12345678901234567890123456789012" };
        static const char *const bad[] = { "",         " ",   "a b",
                                           "a\n",      "*",   "a/b",
                                           "\xc3\xa4", "a;b", "123456789012345678901234567890123" };

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(libvirt_policy_valid(good[i]));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(libvirt_policy_valid(bad[i]));
}

static void test_state_names(void **state) {
        for (unsigned i = 0; i < _LIBVIRT_STATE_MAX; i++)
                assert_non_null(libvirt_state_to_string((enum libvirt_state) i));
        assert_string_equal(libvirt_state_to_string(LIBVIRT_OFF), "off");
        assert_string_equal(libvirt_state_to_string(LIBVIRT_FAILED), "failed");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_domain),
                cmocka_unit_test(test_a_new_connection_tells_all),
                cmocka_unit_test(test_sizes),
                cmocka_unit_test(test_what_is_not_taken),
                cmocka_unit_test(test_longest_texts),
                cmocka_unit_test(test_order_of_states),
                cmocka_unit_test(test_too_many),
                cmocka_unit_test(test_policy_values),
                cmocka_unit_test(test_state_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
