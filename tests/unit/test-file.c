/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A file is written as a whole, or there is an error. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/file.h"
#include "util/util.h"

#define SIZE (1u << 20)

static uint8_t written[SIZE], came[SIZE];

static void nothing(int signal) {
}

/* Takes a few bytes at a time, and interrupts the writer. */
static void *take(void *arg) {
        const int *fd = arg;
        size_t n = 0;

        while (n < SIZE) {
                ssize_t r = read(*fd, came + n, MIN(SIZE - n, 5000u));

                if (r <= 0)
                        break;
                n += (size_t) r;
                (void) kill(getpid(), SIGUSR1);
        }
        return NULL;
}

static void test_short_writes(void **state) {
        const struct sigaction action = { .sa_handler = nothing }; /* without SA_RESTART */
        sigset_t set;
        pthread_t reader;
        int fds[2];

        assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
        for (size_t i = 0; i < SIZE; i++)
                written[i] = (uint8_t) (i * 7 + i / 4096);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGUSR1);
        (void) pthread_sigmask(SIG_BLOCK, &set, NULL);
        assert_int_equal(pthread_create(&reader, NULL, take, &fds[0]), 0);
        (void) pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        assert_int_equal(write_all(fds[1], written, SIZE), 0);
        assert_int_equal(pthread_join(reader, NULL), 0);
        assert_memory_equal(written, came, SIZE);
        (void) safe_close(fds[0]);
        (void) safe_close(fds[1]);
}

static void test_errors(void **state) {
        int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

        assert_int_equal(write_all(-1, written, 1), -EBADF);
        assert_int_equal(write_all(-1, NULL, 0), 0);
        if (fd < 0)
                skip();
        assert_int_equal(write_all(fd, written, 1), -ENOSPC);
        (void) safe_close(fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_short_writes),
                cmocka_unit_test(test_errors),
        };

        return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
