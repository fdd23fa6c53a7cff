/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The file that libvirt keeps about a domain's process. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/libvirt-pid.h"
#include "util/util.h"

static char runtime[] = "/tmp/vtld-test-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f) {
        return remove(path);
}

static int setup(void **state) {
        static const char *const directories[] = { "libvirt", "libvirt/qemu", "libvirt/qemu/run" };

        if (!mkdtemp(runtime) || setenv("XDG_RUNTIME_DIR", runtime, 1) < 0 || chdir(runtime) < 0)
                return -1;
        for (size_t i = 0; i < ARRAY_SIZE(directories); i++)
                if (mkdir(directories[i], 0700) < 0)
                        return -1;
        return chdir("libvirt/qemu/run");
}

static int teardown(void **state) {
        return nftw(runtime, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void write_file(const char *name, const char *text) {
        FILE *f = fopen(name, "w");

        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static uint32_t pid_of(const char *uri, const char *domain) {
        struct pid_finder *f = pid_finder_new(uri);
        uint32_t pid;

        assert_non_null(f);
        pid = pid_finder_pid(f, domain);
        assert_null(pid_finder_free(f));
        return pid;
}

static void test_contents(void **state) {
        static const struct {
                const char *text;
                uint32_t pid;
        } rows[] = {
                { "1234", 1234 },
                { "1234\n", 1234 },
                { "2147483647", 2147483647 },
                { "2147483648", 0 },
                { "", 0 },
                { "-1", 0 },
                { "+5", 0 },
                { " 5", 0 },
                { "5x", 0 },
                { "0x10", 0 },
                { "x", 0 },
                { "99999999999999999999999999", 0 },
                { "99999999999999999999999999999999999999999999999999", 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                write_file("d.pid", rows[i].text);
                assert_int_equal(pid_of("qemu:///session", "d"), rows[i].pid);
        }
}

static void test_files(void **state) {
        write_file("d.pid", "77");
        assert_int_equal(pid_of("qemu:///session", "none"), 0);
        assert_int_equal(symlink("d.pid", "link.pid"), 0);
        assert_int_equal(pid_of("qemu:///session", "link"), 0);
        assert_int_equal(mkfifo("fifo.pid", 0600), 0);
        assert_int_equal(pid_of("qemu:///session", "fifo"), 0);
        assert_int_equal(mkdir("dir.pid", 0700), 0);
        assert_int_equal(pid_of("qemu:///session", "dir"), 0);
        assert_int_equal(pid_of("qemu:///session", "../run/d"), 0);
}

static void test_uris(void **state) {
        static const char *const none[] = { "test:///default",         "qemu:///",
                                            "qemu:///sessions",        "qemu://host/session",
                                            "qemu+ssh://host/session", "xqemu:///session",
                                            "lxc:///session",          "" };

        write_file("d.pid", "78");
        assert_int_equal(pid_of("qemu:///session", "d"), 78);
        assert_int_equal(pid_of("qemu:///session?socket=/run/x", "d"), 78);
        assert_int_equal(pid_of("qemu+unix:///session", "d"), 78);
        for (size_t i = 0; i < ARRAY_SIZE(none); i++)
                assert_int_equal(pid_of(none[i], "d"), 0);
        assert_int_equal(pid_of("qemu:///system", "no-such-domain-of-the-system"), 0);
        assert_int_equal(unsetenv("XDG_RUNTIME_DIR"), 0);
        assert_int_equal(pid_of("qemu:///session", "d"), 0);
        assert_null(pid_finder_free(NULL));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_contents),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_uris),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
