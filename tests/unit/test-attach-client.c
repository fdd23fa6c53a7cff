/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The VMM's end of the attach protocol, when vtld takes long: it may be a new one by then. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "util/seqpacket.h"
#include "util/util.h"
#include "vmm/attach.h"
#include "vmm/protocol.h"
#include "vtl/control.h"

/* Answers are there before the question, or never: for how many it is waited. */
static unsigned patience;
#define PATIENT 1000u

int __wrap_seqpacket_wait(int fd, int timeout_ms);
int __wrap_seqpacket_wait(int fd, int timeout_ms) {
        if (patience == 0)
                return -ETIMEDOUT;
        patience--;
        return 0;
}

struct side {
        struct attach_client *client;
        int vtld;
};

static void answer(struct side *s, uint16_t id, uint16_t command, const void *payload, size_t len,
                   int fd) {
        struct {
                struct vtl_message header;
                uint8_t payload[64];
        } m = { .header = { .id = id,
                            .command = command,
                            .size = (uint32_t) (sizeof(m.header) + len),
                            .flags = VTL_MESSAGE_REPLY } };

        if (len > 0)
                memcpy(m.payload, payload, len);
        assert_int_equal(
                seqpacket_send(s->vtld, &m, sizeof(m.header) + len, &fd, fd >= 0 ? 1 : 0, 0), 0);
}

static int setup(void **state) {
        const struct vtl_message_version v = { .major = VTL_PROTOCOL_MAJOR,
                                               .control_version = VTL_CONTROL_VERSION };
        struct side *s = calloc(1, sizeof(*s));
        int fds[2];

        if (!s || seqpacket_pair(fds) < 0)
                return -1;
        s->vtld = fds[0];
        patience = PATIENT;
        answer(s, 1, VTL_COMMAND_VERSION, &v, sizeof(v), -1);
        if (attach_client_new(fds[1], &s->client) < 0)
                return -1;
        *state = s;
        return 0;
}

static int teardown(void **state) {
        struct side *s = *state;

        s->client = attach_client_free(s->client);
        (void) close(s->vtld);
        free(s);
        return 0;
}

static void give_up(struct side *s) {
        patience = 0;
        assert_int_equal(attach_client_pause(s->client), -ETIMEDOUT);
        assert_string_equal(attach_client_error(s->client), "vtld does not answer");
        patience = PATIENT;
}

static void test_an_answer_that_comes_late(void **state) {
        struct side *s = *state;

        give_up(s);
        answer(s, 2, VTL_COMMAND_PAUSE, NULL, 0, -1);
        answer(s, 3, VTL_COMMAND_CONTINUE, NULL, 0, -1);
        assert_int_equal(attach_client_continue(s->client), 0);
        give_up(s);
        give_up(s);
        answer(s, 4, VTL_COMMAND_PAUSE, NULL, 0, -1);
        answer(s, 5, VTL_COMMAND_PAUSE, NULL, 0, -1);
        answer(s, 6, VTL_COMMAND_CONTINUE, NULL, 0, -1);
        assert_int_equal(attach_client_continue(s->client), 0);
}

static void test_an_answer_that_never_comes(void **state) {
        struct side *s = *state;

        give_up(s);
        answer(s, 3, VTL_COMMAND_CONTINUE, NULL, 0, -1);
        assert_int_equal(attach_client_continue(s->client), 0);
}

/* Answers to nothing are wrong as ever. */
static void test_other_answers(void **state) {
        static const uint16_t ids[] = { 0, 1, 3, 99, 0xffff };
        struct side *s = *state;

        answer(s, 3, VTL_COMMAND_PAUSE, NULL, 0, -1);
        assert_int_equal(attach_client_pause(s->client), -EPROTO); /* number 2 */
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
                answer(s, ids[i] == 3 ? 2 : ids[i], VTL_COMMAND_PAUSE, NULL, 0, -1);
                assert_int_equal(attach_client_pause(s->client), -EPROTO);
        }
        give_up(s); /* number 8 */
        answer(s, 7, VTL_COMMAND_PAUSE, NULL, 0, -1);
        assert_int_equal(attach_client_pause(s->client), -EPROTO);
}

static void test_descriptors_of_late_answers(void **state) {
        struct side *s = *state;
        int before = open("/dev/null", O_RDONLY | O_CLOEXEC), after;

        give_up(s);
        for (unsigned i = 0; i < 3; i++)
                answer(s, 2, VTL_COMMAND_PAUSE, NULL, 0, before);
        answer(s, 3, VTL_COMMAND_CONTINUE, NULL, 0, -1);
        assert_int_equal(attach_client_continue(s->client), 0);
        after = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_int_equal(after, before + 1);
        (void) close(after);

        /* One of them, and then nothing */
        give_up(s);
        answer(s, 4, VTL_COMMAND_PAUSE, NULL, 0, before);
        patience = 1;
        assert_int_equal(attach_client_continue(s->client), -ETIMEDOUT);
        after = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_int_equal(after, before + 1);
        (void) close(after);
        (void) close(before);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_an_answer_that_comes_late, setup, teardown),
                cmocka_unit_test_setup_teardown(test_an_answer_that_never_comes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_other_answers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_descriptors_of_late_answers, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
