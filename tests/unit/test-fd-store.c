/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Descriptors of the service manager's store: their names, sorting them, and what it is told. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/fd-store.h"
#include "util/seqpacket.h"
#include "util/util.h"

#define ONE "01234567-89ab-4def-8123-456789abcdef"
#define TWO "f1234567-89ab-4def-8123-456789abcdef"

static int a_file(void) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static bool is_open(int fd) {
        return fcntl(fd, F_GETFD) >= 0;
}

/* ---- Names ---- */

static void test_names(void **state) {
        uint8_t uuid[16], expected[16];

        assert_int_equal(uuid_parse(ONE, expected), 0);
        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++) {
                enum fd_store_part part = _FD_STORE_PART_MAX;
                char name[FD_STORE_NAME_SIZE];

                fd_store_name(ONE, (enum fd_store_part) i, name);
                assert_true(strlen(name) < sizeof(name) - 1);
                /* systemd takes no control characters and no colon, which is between names. */
                assert_null(strchr(name, ':'));
                memset(uuid, 0, sizeof(uuid));
                assert_int_equal(fd_store_parse_name(name, uuid, &part), 0);
                assert_int_equal(part, i);
                assert_memory_equal(uuid, expected, sizeof(uuid));
        }
}

static void test_other_names(void **state) {
        static const char *const names[] = {
                "",
                "vm",
                "vm-",
                "attach",
                "stored",
                "vm-" ONE,
                "vm-" ONE "-",
                "vm-" ONE "-recor",
                "vm-" ONE "-records",
                "vm-" ONE "-Record",
                "vm-" ONE "_record",
                "vm-" ONE "--record",
                "Vm-" ONE "-record",
                "vm--" ONE "-record",
                "vm-01234567-89AB-4def-8123-456789abcdef-record",
                "vm-0123456789ab4def8123456789abcdef-record",
                "vm-0123456789ab4def8123456789abcdef0000-record",
                "vm-00000000-0000-0000-0000-000000000000-record",
                "vm-" ONE "-worker-pid-",
        };
        enum fd_store_part part = _FD_STORE_PART_MAX;
        struct fd_store store = { 0 };
        uint8_t uuid[16];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                int fd = a_file();

                assert_int_equal(fd_store_parse_name(names[i], uuid, &part), -EINVAL);
                assert_int_equal(fd_store_take(&store, names[i], fd), -EINVAL);
                assert_true(is_open(fd));
                (void) close(fd);
        }
        assert_int_equal(part, _FD_STORE_PART_MAX);
        assert_int_equal(store.n, 0);
        fd_store_done(&store);
}

/* ---- Sorting ---- */

static int take(struct fd_store *s, const char *uuid, enum fd_store_part part) {
        char name[FD_STORE_NAME_SIZE];
        int fd = a_file();

        fd_store_name(uuid, part, name);
        assert_int_equal(fd_store_take(s, name, fd), 0);
        return fd;
}

static void test_two_vms_in_any_order(void **state) {
        int one[_FD_STORE_PART_MAX], two[_FD_STORE_PART_MAX];
        struct fd_store s = { 0 };

        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++) {
                one[i] = take(&s, ONE, (enum fd_store_part) i);
                two[_FD_STORE_PART_MAX - 1 - i] =
                        take(&s, TWO, (enum fd_store_part)(_FD_STORE_PART_MAX - 1 - i));
        }
        assert_int_equal(s.n, 2);
        assert_string_equal(s.vms[0].uuid_text, ONE);
        assert_string_equal(s.vms[1].uuid_text, TWO);
        assert_false(s.vms[0].twice || s.vms[1].twice);
        assert_memory_equal(s.vms[0].fds, one, sizeof(one));
        assert_memory_equal(s.vms[1].fds, two, sizeof(two));
        fd_store_done(&s);
        assert_int_equal(s.n, 0);
        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++)
                assert_false(is_open(one[i]) || is_open(two[i]));
}

static void test_what_is_missing_and_what_is_twice(void **state) {
        struct fd_store s = { 0 };
        int first, second;

        first = take(&s, ONE, FD_STORE_CONTROL);
        assert_false(s.vms[0].twice);
        second = take(&s, ONE, FD_STORE_CONTROL);
        assert_true(s.vms[0].twice);
        assert_int_equal(s.vms[0].fds[FD_STORE_CONTROL], first);
        assert_true(is_open(first));
        assert_false(is_open(second));
        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++)
                if (i != FD_STORE_CONTROL)
                        assert_int_equal(s.vms[0].fds[i], -1);
        fd_store_vm_close(&s.vms[0]);
        assert_false(is_open(first));
        fd_store_done(&s);
}

/* ---- What the service manager is told ---- */

static int manager = -1;

static int begin(void **state) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        char path[sizeof(sa.sun_path)];

        (void) snprintf(path, sizeof(path), "@vtld-test-%d", (int) getpid());
        memcpy(sa.sun_path + 1, path + 1, strlen(path) - 1);
        manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (manager < 0 ||
            bind(manager, (const struct sockaddr *) &sa,
                 (socklen_t) (offsetof(struct sockaddr_un, sun_path) + strlen(path))) < 0)
                return -1;
        return setenv("NOTIFY_SOCKET", path, 1);
}

static int end(void **state) {
        manager = safe_close(manager);
        return unsetenv("NOTIFY_SOCKET");
}

/* One message; -1: it came without a descriptor */
static int hear(char *text, size_t size) {
        int fds[4] = { -1, -1, -1, -1 };
        size_t n_fds = ARRAY_SIZE(fds);
        ssize_t n = seqpacket_recv(manager, text, size - 1, fds, &n_fds, MSG_DONTWAIT);

        assert_true(n > 0 && n_fds <= 1);
        text[n] = '\0';
        return fds[0];
}

static void test_put_and_remove(void **state) {
        char text[256], expected[256], name[FD_STORE_NAME_SIZE];
        int fds[_FD_STORE_PART_MAX];

        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++)
                fds[i] = a_file();
        assert_int_equal(fd_store_put(ONE, fds), 1);
        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++) {
                int fd = hear(text, sizeof(text));

                fd_store_name(ONE, (enum fd_store_part) i, name);
                (void) snprintf(expected, sizeof(expected), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
                assert_string_equal(text, expected);
                assert_true(fd >= 0 && is_open(fds[i]));
                (void) close(fd);
        }
        fd_store_remove(ONE);
        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++) {
                fd_store_name(ONE, (enum fd_store_part) i, name);
                assert_int_equal(hear(text, sizeof(text)), -1);
                (void) snprintf(expected, sizeof(expected), "FDSTOREREMOVE=1\nFDNAME=%s", name);
                assert_string_equal(text, expected);
        }
        /* One that cannot be given: what has been is taken back. */
        fds[2] = safe_close(fds[2]);
        assert_int_equal(fd_store_put(ONE, fds), -EBADF);
        for (unsigned i = 0; i < 2; i++)
                (void) close(hear(text, sizeof(text)));
        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++) {
                assert_int_equal(hear(text, sizeof(text)), -1);
                assert_memory_equal(text, "FDSTOREREMOVE=1\n", 16);
        }
        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++)
                (void) safe_close(fds[i]);
}

static void test_without_a_service_manager(void **state) {
        int fds[_FD_STORE_PART_MAX];

        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++)
                fds[i] = STDERR_FILENO;
        (void) unsetenv("NOTIFY_SOCKET");
        assert_int_equal(fd_store_put(ONE, fds), 0);
        fd_store_remove(ONE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_other_names),
                cmocka_unit_test(test_two_vms_in_any_order),
                cmocka_unit_test(test_what_is_missing_and_what_is_twice),
                cmocka_unit_test_setup_teardown(test_put_and_remove, begin, end),
                cmocka_unit_test(test_without_a_service_manager),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
