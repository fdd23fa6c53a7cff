/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is made of machined's answers. machined is played over a bus connection of two ends. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <systemd/sd-id128.h>

#include "daemon/machine.h"
#include "util/util.h"

#define PATH "/org/freedesktop/machine1/machine/qemu_2d1_2dt1"
#define PID 4711
#define TIMEOUT_USEC (20u * 1000 * 1000)

static const uint8_t uuid[16] = { 0x7d, 0x1f, 0x0a, 0x0e, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };

enum answer {
        ANSWER_RIGHT,
        ANSWER_NOTHING, /* it takes too long */
        ANSWER_NO_MACHINE,
        ANSWER_ERROR,
        ANSWER_WRONG_TYPE,
        ANSWER_HANG_UP,
};

struct side {
        sd_event *event;
        sd_bus *machined;
        sd_bus *bus;
        enum answer machine;
        enum answer properties;
        int (*append_properties)(sd_bus_message *m);
        unsigned calls;
        bool answered;
        struct machine result;
        struct machine_query *query;
};

/* ---- machined ---- */

static int property(sd_bus_message *m, const char *name, const char *value) {
        return sd_bus_message_append(m, "{sv}", name, "s", value);
}

static int property_id(sd_bus_message *m, const uint8_t *id, size_t n) {
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "Id");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', id, n);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* As machined 252 has them for a domain of libvirt, in its order */
static int append_domain(sd_bus_message *m) {
        int r;

        r = property(m, "Name", "qemu-1-t1");
        if (r >= 0)
                r = property_id(m, uuid, sizeof(uuid));
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "Timestamp", "t", UINT64_C(1));
        if (r >= 0)
                r = property(m, "Service", "libvirt-qemu");
        if (r >= 0)
                r = property(m, "Unit", "machine-qemu\\x2d1\\x2dt1.scope");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "Leader", "u", (uint32_t) PID);
        if (r >= 0)
                r = property(m, "Class", "vm");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "NetworkInterfaces", "ai", 1, 2);
        return r < 0 ? r : property(m, "State", "running");
}

static int append_container(sd_bus_message *m) {
        int r;

        r = property_id(m, uuid, sizeof(uuid));
        if (r >= 0)
                r = property(m, "Service", "systemd-nspawn");
        return r < 0 ? r : property(m, "Class", "container");
}

static int append_lxc(sd_bus_message *m) {
        int r;

        r = property_id(m, uuid, sizeof(uuid));
        if (r >= 0)
                r = property(m, "Service", "libvirt-lxc");
        return r < 0 ? r : property(m, "Class", "container");
}

static int append_other_vm(sd_bus_message *m) {
        int r;

        r = property_id(m, uuid, sizeof(uuid));
        if (r >= 0)
                r = property(m, "Service", "systemd-vmspawn");
        return r < 0 ? r : property(m, "Class", "vm");
}

static int append_nothing(sd_bus_message *m) {
        return 0;
}

static int append_no_id(sd_bus_message *m) {
        int r;

        r = property(m, "Service", "libvirt-qemu");
        return r < 0 ? r : property(m, "Class", "vm");
}

static int append_short_id(sd_bus_message *m) {
        int r = property_id(m, uuid, 15);

        return r < 0 ? r : append_no_id(m);
}

static int append_long_id(sd_bus_message *m) {
        static const uint8_t id[17] = { 1 };
        int r = property_id(m, id, sizeof(id));

        return r < 0 ? r : append_no_id(m);
}

static int append_nil_id(sd_bus_message *m) {
        static const uint8_t id[16];
        int r = property_id(m, id, sizeof(id));

        return r < 0 ? r : append_no_id(m);
}

static int append_id_of_wrong_type(sd_bus_message *m) {
        int r = property(m, "Id", "7d1f0a0e-0102-0304-0506-0708090a0b0c");

        return r < 0 ? r : append_no_id(m);
}

static int append_service_of_wrong_type(sd_bus_message *m) {
        int r = property_id(m, uuid, sizeof(uuid));

        return r < 0 ? r : sd_bus_message_append(m, "{sv}", "Service", "u", UINT32_C(1));
}

static int answer_properties(struct side *s, sd_bus_message *m) {
        sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r >= 0)
                r = s->append_properties(reply);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        (void) sd_bus_message_unref(reply);
        assert_true(r >= 0);
        return 1;
}

static int answer_wrongly(struct side *s, sd_bus_message *m, enum answer how) {
        switch (how) {
        case ANSWER_NO_MACHINE:
                return sd_bus_reply_method_errorf(m, "org.freedesktop.machine1.NoMachineForPID",
                                                  "PID %d does not belong to any known machine",
                                                  PID);
        case ANSWER_ERROR:
                return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_SERVICE_UNKNOWN, "no machined");
        case ANSWER_WRONG_TYPE:
                return sd_bus_reply_method_return(m, "u", UINT32_C(1));
        case ANSWER_HANG_UP:
                sd_bus_close(s->machined);
                return 1;
        default:
                return 1;
        }
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct side *s = userdata;
        uint32_t pid;

        if (sd_bus_message_is_method_call(m, "org.freedesktop.machine1.Manager",
                                          "GetMachineByPID")) {
                s->calls++;
                assert_string_equal(sd_bus_message_get_path(m), "/org/freedesktop/machine1");
                assert_true(sd_bus_message_read(m, "u", &pid) > 0);
                assert_int_equal(pid, PID);
                return s->machine == ANSWER_RIGHT ? sd_bus_reply_method_return(m, "o", PATH)
                                                  : answer_wrongly(s, m, s->machine);
        }
        if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "GetAll")) {
                s->calls++;
                assert_string_equal(sd_bus_message_get_path(m), PATH);
                return s->properties == ANSWER_RIGHT ? answer_properties(s, m)
                                                     : answer_wrongly(s, m, s->properties);
        }
        return 0;
}

/* ---- The two ends ---- */

static void connect_side(struct side *s) {
        sd_id128_t id;
        int fds[2];

        assert_true(sd_event_new(&s->event) >= 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
                         0);
        assert_true(sd_id128_randomize(&id) >= 0);
        assert_true(sd_bus_new(&s->machined) >= 0);
        assert_true(sd_bus_set_fd(s->machined, fds[0], fds[0]) >= 0);
        assert_true(sd_bus_set_server(s->machined, 1, id) >= 0);
        assert_true(sd_bus_start(s->machined) >= 0);
        assert_true(sd_bus_add_filter(s->machined, NULL, on_message, s) >= 0);
        assert_true(sd_bus_new(&s->bus) >= 0);
        assert_true(sd_bus_set_fd(s->bus, fds[1], fds[1]) >= 0);
        assert_true(sd_bus_start(s->bus) >= 0);
        assert_true(sd_bus_attach_event(s->machined, s->event, 0) >= 0);
        assert_true(sd_bus_attach_event(s->bus, s->event, 0) >= 0);
}

static void disconnect_side(struct side *s) {
        (void) machine_query_free(s->query);
        (void) sd_bus_close_unref(s->bus);
        (void) sd_bus_close_unref(s->machined);
        (void) sd_event_unref(s->event);
}

static void on_answer(void *userdata, const struct machine *m) {
        struct side *s = userdata;

        assert_false(s->answered);
        s->answered = true;
        s->result = *m;
        s->query = machine_query_free(s->query);
}

static void ask(struct side *s, uint64_t usec) {
        assert_int_equal(machine_query_new(s->bus, PID, usec, on_answer, s, &s->query), 0);
        assert_false(s->answered);
        while (!s->answered)
                assert_true(sd_event_run(s->event, TIMEOUT_USEC) > 0);
}

struct row {
        const char *name;
        enum answer machine;
        enum answer properties;
        int (*append_properties)(sd_bus_message *m);
        uint64_t usec;
        unsigned calls;
        enum machine_kind expected;
};

static void test_answers(void **state) {
        const uint64_t soon = 500 * 1000, late = TIMEOUT_USEC;
        const struct row rows[] = {
                { "domain", 0, 0, append_domain, late, 2, MACHINE_LIBVIRT },
                { "container", 0, 0, append_container, late, 2, MACHINE_NONE },
                { "lxc", 0, 0, append_lxc, late, 2, MACHINE_NONE },
                { "other vm", 0, 0, append_other_vm, late, 2, MACHINE_NONE },
                { "no machine", ANSWER_NO_MACHINE, 0, NULL, late, 1, MACHINE_NONE },
                { "no machined", ANSWER_ERROR, 0, NULL, late, 1, MACHINE_UNKNOWN },
                { "slow", ANSWER_NOTHING, 0, NULL, soon, 1, MACHINE_UNKNOWN },
                { "wrong type", ANSWER_WRONG_TYPE, 0, NULL, late, 1, MACHINE_UNKNOWN },
                { "hangs up", ANSWER_HANG_UP, 0, NULL, late, 1, MACHINE_UNKNOWN },
                { "machine is gone", 0, ANSWER_ERROR, NULL, late, 2, MACHINE_UNKNOWN },
                { "slow in the middle", 0, ANSWER_NOTHING, NULL, soon, 2, MACHINE_UNKNOWN },
                { "no properties", 0, ANSWER_WRONG_TYPE, NULL, late, 2, MACHINE_UNKNOWN },
                { "empty", 0, 0, append_nothing, late, 2, MACHINE_NONE },
                { "no id", 0, 0, append_no_id, late, 2, MACHINE_UNKNOWN },
                { "short id", 0, 0, append_short_id, late, 2, MACHINE_UNKNOWN },
                { "long id", 0, 0, append_long_id, late, 2, MACHINE_UNKNOWN },
                { "nil id", 0, 0, append_nil_id, late, 2, MACHINE_UNKNOWN },
                { "id is text", 0, 0, append_id_of_wrong_type, late, 2, MACHINE_UNKNOWN },
                { "service is none", 0, 0, append_service_of_wrong_type, late, 2, MACHINE_UNKNOWN },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct side s = { .machine = rows[i].machine,
                                  .properties = rows[i].properties,
                                  .append_properties = rows[i].append_properties };

                print_message("# %s\n", rows[i].name);
                connect_side(&s);
                ask(&s, rows[i].usec);
                assert_int_equal(s.result.kind, rows[i].expected);
                if (s.result.kind == MACHINE_LIBVIRT)
                        assert_memory_equal(s.result.uuid, uuid, sizeof(uuid));
                /* A machine under load may be late with the question as well. */
                assert_true(s.calls == rows[i].calls || rows[i].usec == soon);
                disconnect_side(&s);
        }
}

/* Nothing comes after the query has been freed, and nothing of it is left. */
static void test_freed_before_the_answer(void **state) {
        struct side s = { .append_properties = append_domain };

        connect_side(&s);
        assert_int_equal(machine_query_new(s.bus, PID, TIMEOUT_USEC, on_answer, &s, &s.query), 0);
        while (s.calls == 0)
                assert_true(sd_event_run(s.event, TIMEOUT_USEC) > 0);
        s.query = machine_query_free(s.query);
        for (unsigned i = 0; i < 10; i++)
                assert_true(sd_event_run(s.event, 1000) >= 0);
        assert_false(s.answered);
        assert_null(machine_query_free(NULL));
        disconnect_side(&s);
}

static void test_a_bus_that_is_closed(void **state) {
        struct side s = { 0 };

        connect_side(&s);
        sd_bus_close(s.bus);
        assert_true(machine_query_new(s.bus, PID, TIMEOUT_USEC, on_answer, &s, &s.query) < 0);
        assert_null(s.query);
        disconnect_side(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_answers),
                cmocka_unit_test(test_freed_before_the_answer),
                cmocka_unit_test(test_a_bus_that_is_closed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
