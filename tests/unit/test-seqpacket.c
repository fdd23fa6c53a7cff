/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Messages with descriptors: none is lost, none is cut. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "util/seqpacket.h"
#include "util/util.h"

static int open_fds(void) {
        DIR *d = opendir("/proc/self/fd");
        int n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        assert_int_equal(closedir(d), 0);
        return n;
}

static int null_fd(void) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static void close_pair(int pair[2]) {
        assert_int_equal(close(pair[0]), 0);
        assert_int_equal(close(pair[1]), 0);
}

static void test_message(void **state) {
        int pair[2], fds[4];
        size_t n_fds = ARRAY_SIZE(fds);
        char buf[16];

        assert_int_equal(seqpacket_pair(pair), 0);
        assert_int_equal(fcntl(pair[0], F_GETFD), FD_CLOEXEC);
        assert_int_equal(seqpacket_send(pair[0], "hello", 5, NULL, 0, 0), 0);
        assert_int_equal(seqpacket_send(pair[0], "you", 3, NULL, 0, 0), 0);
        assert_int_equal(seqpacket_recv(pair[1], buf, sizeof(buf), fds, &n_fds, 0), 5);
        assert_int_equal(n_fds, 0);
        assert_memory_equal(buf, "hello", 5);
        n_fds = ARRAY_SIZE(fds);
        assert_int_equal(seqpacket_recv(pair[1], buf, sizeof(buf), fds, &n_fds, 0), 3);
        assert_memory_equal(buf, "you", 3);
        n_fds = ARRAY_SIZE(fds);
        assert_int_equal(seqpacket_recv(pair[1], buf, sizeof(buf), fds, &n_fds, MSG_DONTWAIT), -EAGAIN);
        close_pair(pair);
}

static void test_descriptors(void **state) {
        int pair[2], sent[3], fds[3], before = open_fds();
        size_t n_fds = ARRAY_SIZE(fds);
        struct stat a, b;
        char byte;

        assert_int_equal(seqpacket_pair(pair), 0);
        for (size_t i = 0; i < ARRAY_SIZE(sent); i++)
                sent[i] = i == 1 ? pair[0] : null_fd();
        assert_int_equal(seqpacket_send(pair[0], "x", 1, sent, ARRAY_SIZE(sent), 0), 0);
        assert_int_equal(seqpacket_recv(pair[1], &byte, 1, fds, &n_fds, 0), 1);
        assert_int_equal(n_fds, 3);
        for (size_t i = 0; i < ARRAY_SIZE(sent); i++) {
                assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
                assert_int_equal(fstat(sent[i], &a), 0);
                assert_int_equal(fstat(fds[i], &b), 0);
                assert_int_equal(a.st_ino, b.st_ino);
                assert_int_equal(close(fds[i]), 0);
                if (i != 1)
                        assert_int_equal(close(sent[i]), 0);
        }
        close_pair(pair);
        assert_int_equal(open_fds(), before);
}

static void test_too_long(void **state) {
        int pair[2], fds[4], one = null_fd(), before;
        size_t n_fds = ARRAY_SIZE(fds);
        char buf[4];

        assert_int_equal(seqpacket_pair(pair), 0);
        before = open_fds();
        assert_int_equal(seqpacket_send(pair[0], "hello", 5, &one, 1, 0), 0);
        assert_int_equal(seqpacket_recv(pair[1], buf, sizeof(buf), fds, &n_fds, 0), -EMSGSIZE);
        assert_int_equal(n_fds, 0);
        assert_int_equal(open_fds(), before);
        close_pair(pair);
        assert_int_equal(close(one), 0);
}

static void test_more_descriptors_than_room(void **state) {
        int pair[2], sent[SEQPACKET_FDS_MAX], fds[2], before;
        char byte;

        assert_int_equal(seqpacket_pair(pair), 0);
        for (size_t i = 0; i < ARRAY_SIZE(sent); i++)
                sent[i] = pair[0];
        before = open_fds();
        for (size_t room = 0; room <= ARRAY_SIZE(fds); room++) {
                size_t n_fds = room;

                assert_int_equal(seqpacket_send(pair[0], "x", 1, sent, room + 1, 0), 0);
                assert_int_equal(seqpacket_recv(pair[1], &byte, 1, fds, &n_fds, 0), -EBADF);
                assert_int_equal(n_fds, 0);
                assert_int_equal(open_fds(), before);
        }
        for (size_t i = 0; i < 3; i++) {
                size_t n_fds = 1;

                assert_int_equal(seqpacket_send(pair[0], "x", 1, sent, ARRAY_SIZE(sent), 0), 0);
                assert_int_equal(seqpacket_recv(pair[1], &byte, 1, fds, &n_fds, 0), -EBADF);
                assert_int_equal(open_fds(), before);
        }
        assert_int_equal(seqpacket_send(pair[0], "x", 1, sent, ARRAY_SIZE(sent) + 1, 0), -EINVAL);
        close_pair(pair);
}

/* The kernel cuts the list of descriptors when the process may not have as many. */
static void test_no_room_in_the_process(void **state) {
        int pair[2], sent[8], fds[8], before;
        size_t n_fds = ARRAY_SIZE(fds);
        struct rlimit old, few;
        char byte;

        assert_int_equal(seqpacket_pair(pair), 0);
        for (size_t i = 0; i < ARRAY_SIZE(sent); i++)
                sent[i] = pair[0];
        before = open_fds();
        assert_int_equal(seqpacket_send(pair[0], "x", 1, sent, ARRAY_SIZE(sent), 0), 0);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        few = (struct rlimit){ .rlim_cur = (rlim_t) pair[1] + 4, .rlim_max = old.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        assert_int_equal(seqpacket_recv(pair[1], &byte, 1, fds, &n_fds, 0), -EBADF);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(n_fds, 0);
        assert_int_equal(open_fds(), before);
        close_pair(pair);
}

static void test_end(void **state) {
        int pair[2], fd;
        size_t n_fds = 1;
        char byte;

        assert_int_equal(seqpacket_pair(pair), 0);
        assert_int_equal(seqpacket_wait(pair[0], 0), -ETIMEDOUT);
        assert_int_equal(seqpacket_wait(pair[0], 20), -ETIMEDOUT);
        assert_int_equal(close(pair[1]), 0);
        assert_int_equal(seqpacket_wait(pair[0], 1000), 0);
        assert_int_equal(seqpacket_recv(pair[0], &byte, 1, &fd, &n_fds, 0), 0);
        /* And no SIGPIPE. */
        assert_int_equal(seqpacket_send(pair[0], "x", 1, NULL, 0, 0), -EPIPE);
        assert_int_equal(close(pair[0]), 0);
}

static void test_full(void **state) {
        int pair[2], r;

        assert_int_equal(seqpacket_pair(pair), 0);
        do
                r = seqpacket_send(pair[0], "x", 1, NULL, 0, MSG_DONTWAIT);
        while (r == 0);
        assert_int_equal(r, -EAGAIN);
        close_pair(pair);
}

static void test_listen(void **state) {
        char directory[] = "/tmp/test-seqpacket.XXXXXX", path[64], file[64], longer[200];
        int server, client;

        assert_non_null(mkdtemp(directory));
        (void) snprintf(path, sizeof(path), "%s/socket", directory);
        (void) snprintf(file, sizeof(file), "%s/file", directory);
        (void) snprintf(longer, sizeof(longer), "%s/%0150d", directory, 1);

        assert_int_equal(seqpacket_connect(path), -ENOENT);
        server = seqpacket_listen(path);
        assert_true(server >= 0);
        assert_int_equal(fcntl(server, F_GETFD), FD_CLOEXEC);
        client = seqpacket_connect(path);
        assert_true(client >= 0);
        assert_int_equal(seqpacket_listen(path), -EADDRINUSE);
        assert_int_equal(close(client), 0);
        assert_int_equal(close(server), 0);

        /* What a daemon that was killed leaves behind is replaced. */
        assert_int_equal(seqpacket_connect(path), -ECONNREFUSED);
        server = seqpacket_listen(path);
        assert_true(server >= 0);
        assert_int_equal(close(server), 0);
        assert_int_equal(unlink(path), 0);

        assert_int_equal(close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
        assert_int_equal(seqpacket_listen(file), -EADDRINUSE);
        assert_int_equal(unlink(file), 0);
        assert_int_equal(seqpacket_listen(longer), -ENAMETOOLONG);
        assert_int_equal(seqpacket_connect(longer), -ENAMETOOLONG);
        assert_int_equal(seqpacket_listen(""), -EINVAL);
        assert_int_equal(rmdir(directory), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_message),
                cmocka_unit_test(test_descriptors),
                cmocka_unit_test(test_too_long),
                cmocka_unit_test(test_more_descriptors_than_room),
                cmocka_unit_test(test_no_room_in_the_process),
                cmocka_unit_test(test_end),
                cmocka_unit_test(test_full),
                cmocka_unit_test(test_listen),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
