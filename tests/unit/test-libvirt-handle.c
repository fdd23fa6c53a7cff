/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * vtld-libvirt as the broker holds it. This program plays vtld-libvirt as well: started with the
 * helper's options it does what the URI says.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "daemon/libvirt-handle.h"
#include "util/log.h"
#include "util/seqpacket.h"
#include "util/util.h"

#define EVENT_USEC (20u * 1000 * 1000)

static const uint8_t uuid[16] = { 1 }, asked[16] = { 2 };

/* ---- The helper ---- */

static void say(int fd, const void *msg, size_t len) {
        if (seqpacket_send(fd, msg, len, NULL, 0, 0) < 0)
                _exit(9);
}

static void say_state(int fd, enum libvirt_state state) {
        const struct libvirt_message m = { .type = LIBVIRT_STATE, .state = state };

        say(fd, &m, sizeof(m));
}

static void say_domain(int fd, const char *name) {
        struct libvirt_message m = { .type = LIBVIRT_DOMAIN,
                                     .state = DOMAIN_RUNNING,
                                     .run = 1,
                                     .pid = (uint32_t) getpid(),
                                     .uuid = { 1 } };

        (void) snprintf(m.text, sizeof(m.text), "%s", name);
        say(fd, &m, sizeof(m));
}

static void connect_and_tell(int fd) {
        say_state(fd, LIBVIRT_CONNECTING);
        say_domain(fd, getenv("NOTIFY_SOCKET") || !getenv("PATH") ? "wrong environment" : "one");
        say_state(fd, LIBVIRT_CONNECTED);
}

static void answer_queries(int fd) {
        struct libvirt_message m;
        size_t n_fds = 0;

        while (seqpacket_recv(fd, &m, sizeof(m), NULL, &n_fds, 0) == sizeof(m)) {
                if (m.type != LIBVIRT_QUERY)
                        _exit(8);
                m.type = LIBVIRT_GONE;
                say(fd, &m, sizeof(m));
                n_fds = 0;
        }
}

static void play_well(int fd) {
        connect_and_tell(fd);
        answer_queries(fd);
}

static void play_death(int fd) {
        connect_and_tell(fd);
        (void) raise(SIGKILL);
}

static void play_exit(int fd) {
        _exit(3);
}

static void play_failure(int fd) {
        struct libvirt_message m = { .type = LIBVIRT_STATE,
                                     .state = LIBVIRT_FAILED,
                                     .text = "no libvirtd" };

        say_state(fd, LIBVIRT_CONNECTING);
        say(fd, &m, sizeof(m));
        answer_queries(fd);
}

static void play_garbage(int fd) {
        static const uint8_t bytes[sizeof(struct libvirt_message)] = { [0 ... 99] = 0xff };

        connect_and_tell(fd);
        say(fd, bytes, sizeof(bytes));
        (void) pause();
}

static void play_short(int fd) {
        connect_and_tell(fd);
        say(fd, "x", 1);
        (void) pause();
}

static void play_long(int fd) {
        static const uint8_t bytes[65536];

        connect_and_tell(fd);
        say(fd, bytes, sizeof(bytes));
        (void) pause();
}

static void play_descriptors(int fd) {
        const struct libvirt_message m = { .type = LIBVIRT_GONE, .uuid = { 3 } };

        connect_and_tell(fd);
        (void) seqpacket_send(fd, &m, sizeof(m), &fd, 1, 0);
        (void) pause();
}

/* It closes its socket, and stays. */
static void play_silence(int fd) {
        connect_and_tell(fd);
        (void) close(fd);
        (void) pause();
}

static const struct {
        const char *uri;
        void (*play)(int fd);
} plays[] = {
        { "play:well", play_well },       { "play:death", play_death },
        { "play:exit", play_exit },       { "play:failure", play_failure },
        { "play:garbage", play_garbage }, { "play:short", play_short },
        { "play:long", play_long },       { "play:descriptors", play_descriptors },
        { "play:silence", play_silence },
};

static int helper(int fd, const char *uri) {
        for (size_t i = 0; i < ARRAY_SIZE(plays); i++)
                if (strcmp(plays[i].uri, uri) == 0)
                        plays[i].play(fd);
        return 0;
}

/* ---- The broker ---- */

struct side {
        sd_event *event;
        struct libvirt_handle *libvirt;
        unsigned connected;
        unsigned failed;
        unsigned gone;
        pid_t pid; /* of the helper, as it says */
        char name[LIBVIRT_NAME_SIZE];
        uint8_t last_gone[16];
};

static void on_state(void *userdata) {
        struct side *s = userdata;

        s->connected += libvirt_handle_state(s->libvirt) == LIBVIRT_CONNECTED;
        s->failed += libvirt_handle_state(s->libvirt) == LIBVIRT_FAILED;
}

static void on_domain(void *userdata, const uint8_t id[16], const struct domain *d) {
        struct side *s = userdata;

        if (!d) {
                s->gone++;
                memcpy(s->last_gone, id, sizeof(s->last_gone));
                return;
        }
        s->pid = d->pid;
        (void) snprintf(s->name, sizeof(s->name), "%s", d->name);
}

static const struct libvirt_callbacks callbacks = { .state = on_state, .domain = on_domain };

static int setup(void **state) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        (void) setenv("NOTIFY_SOCKET", "/nowhere", 1);
        *state = calloc(1, sizeof(struct side));
        return *state && sd_event_new(&((struct side *) *state)->event) >= 0 ? 0 : -1;
}

static int teardown(void **state) {
        struct side *s = *state;

        (void) libvirt_handle_free(s->libvirt);
        (void) sd_event_unref(s->event);
        free(s);
        /* Whatever it was told to play, it ends: nothing of it stays. */
        while (waitpid(-1, NULL, 0) > 0)
                ;
        return 0;
}

static void start(struct side *s, const char *program, const char *uri) {
        assert_int_equal(libvirt_handle_new(s->event, program, uri, &callbacks, s, &s->libvirt), 0);
        assert_int_equal(libvirt_handle_state(s->libvirt), LIBVIRT_CONNECTING);
}

static void run_until(struct side *s, const unsigned *what, unsigned n) {
        while (*what < n)
                assert_true(sd_event_run(s->event, EVENT_USEC) > 0);
}

static void test_it_tells(void **state) {
        struct side *s = *state;

        start(s, "/proc/self/exe", "play:well");
        assert_null(libvirt_handle_find(s->libvirt, uuid));
        assert_int_equal(libvirt_handle_query(s->libvirt, asked), -ENOTCONN);
        run_until(s, &s->connected, 1);
        assert_string_equal(s->name, "one");
        assert_non_null(libvirt_handle_find(s->libvirt, uuid));
        assert_non_null(libvirt_handle_find_pid(s->libvirt, s->pid));
        assert_null(libvirt_handle_find_pid(s->libvirt, getpid()));
        assert_int_equal(libvirt_handle_query(s->libvirt, asked), 0);
        run_until(s, &s->gone, 1);
        assert_memory_equal(s->last_gone, asked, sizeof(asked));
        assert_int_equal(s->failed, 0);
}

static void test_libvirt_is_not_there(void **state) {
        struct side *s = *state;

        start(s, "/proc/self/exe", "play:failure");
        run_until(s, &s->failed, 1);
        assert_int_equal(libvirt_handle_query(s->libvirt, asked), -ENOTCONN);
}

/* What was known is not, and is known again. */
static void restarts(struct side *s, const char *uri) {
        start(s, "/proc/self/exe", uri);
        run_until(s, &s->connected, 1);
        assert_non_null(libvirt_handle_find(s->libvirt, uuid));
        run_until(s, &s->failed, 1);
        assert_int_equal(libvirt_handle_state(s->libvirt), LIBVIRT_FAILED);
        assert_null(libvirt_handle_find(s->libvirt, uuid));
        assert_null(libvirt_handle_find_pid(s->libvirt, s->pid));
        assert_int_equal(libvirt_handle_query(s->libvirt, asked), -ENOTCONN);
        run_until(s, &s->connected, 2);
        assert_non_null(libvirt_handle_find(s->libvirt, uuid));
        assert_int_equal(s->gone, 0);
}

static void test_it_is_started_again(void **state) {
        restarts(*state, "play:death");
}

static void test_bytes_of_the_right_number(void **state) {
        restarts(*state, "play:garbage");
}

static void test_a_short_message(void **state) {
        restarts(*state, "play:short");
}

static void test_a_long_message(void **state) {
        restarts(*state, "play:long");
}

static void test_a_message_with_a_descriptor(void **state) {
        restarts(*state, "play:descriptors");
}

static void test_it_hangs_up(void **state) {
        restarts(*state, "play:silence");
}

static uint64_t now_ms(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}

/* 0.5 s, then 1 s: three starts take more than that, however quick it ends. */
static void fails_slowly(struct side *s, const char *program, const char *uri) {
        uint64_t begin = now_ms();

        start(s, program, uri);
        run_until(s, &s->failed, 3);
        assert_true(now_ms() - begin >= 1500);
        assert_int_equal(s->connected, 0);
}

static void test_it_ends_at_once(void **state) {
        fails_slowly(*state, "/proc/self/exe", "play:exit");
}

static void test_it_is_not_installed(void **state) {
        fails_slowly(*state, "/nowhere/vtld-libvirt", "play:well");
}

static void test_it_cannot_be_executed(void **state) {
        fails_slowly(*state, "/dev/null", "play:well");
}

static void test_libvirt_is_off(void **state) {
        assert_int_equal(libvirt_handle_state(NULL), LIBVIRT_OFF);
        assert_null(libvirt_handle_find(NULL, uuid));
        assert_null(libvirt_handle_find_pid(NULL, 1));
        assert_int_equal(libvirt_handle_query(NULL, uuid), -ENOTCONN);
        assert_null(libvirt_handle_free(NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                TEST(test_it_tells),
                TEST(test_libvirt_is_not_there),
                TEST(test_it_is_started_again),
                TEST(test_bytes_of_the_right_number),
                TEST(test_a_short_message),
                TEST(test_a_long_message),
                TEST(test_a_message_with_a_descriptor),
                TEST(test_it_hangs_up),
                TEST(test_it_ends_at_once),
                TEST(test_it_is_not_installed),
                TEST(test_it_cannot_be_executed),
                cmocka_unit_test(test_libvirt_is_off),
        };

        if (argc == 4 && strncmp(argv[1], "--fd=", 5) == 0)
                return helper(atoi(argv[1] + 5), argv[3]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
