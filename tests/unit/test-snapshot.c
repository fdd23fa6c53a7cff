/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE

/* Several files as of one moment, and drop-in directories. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#include "util/snapshot.h"
#include "util/util.h"

static char root[] = "/tmp/test-snapshot.XXXXXX";

static const char *at(const char *name) {
        static char paths[64][256];
        static unsigned next;
        char *path = paths[next++ % ARRAY_SIZE(paths)];

        (void) snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
        return path;
}

static void write_file(const char *name, const char *text) {
        int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
        assert_int_equal(close(fd), 0);
}

/* Until a change would be seen by its time */
static void settle(void) {
        assert_int_equal(usleep(SNAPSHOT_RETRY_USEC), 0);
}

static int setup(void **state) {
        return mkdtemp(root) && mkdir(at("high"), 0700) == 0 && mkdir(at("low"), 0700) == 0 ? 0
                                                                                            : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static int teardown(void **state) {
        return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void test_reading(void **state) {
        struct snapshot *s = snapshot_new();
        _cleanup_free_ char *text = NULL;
        size_t len;

        write_file("a", "12345");
        assert_int_equal(snapshot_read(s, at("a"), 5, &text, &len), 0);
        assert_int_equal(len, 5);
        assert_string_equal(text, "12345");
        text = (free(text), NULL);
        assert_int_equal(snapshot_read(s, at("a"), 4, &text, &len), -EFBIG);
        assert_int_equal(snapshot_read(s, at("none"), 4, &text, &len), -ENOENT);
        assert_int_equal(snapshot_read(s, root, 4, &text, &len), -EBADF);
        assert_int_equal(mkfifo(at("fifo"), 0600), 0);
        assert_int_equal(snapshot_read(s, at("fifo"), 4, &text, &len), -EBADF);
        assert_int_equal(snapshot_read(s, "/dev/zero", 4, &text, &len), -EBADF);
        assert_null(text);
        assert_int_equal(snapshot_read(s, "/dev/null", 4, &text, &len), SNAPSHOT_NULL_DEVICE);
        assert_int_equal(len, 0);
        assert_string_equal(text, "");
        assert_null(snapshot_free(s));
        assert_null(snapshot_free(NULL));
}

/* Each way in which what was read can become something else */
static void change_contents(void) {
        write_file("a", "54321");
}
static void change_size(void) {
        write_file("a", "5432");
}
static void remove_it(void) {
        assert_int_equal(unlink(at("a")), 0);
}
static void replace_it(void) {
        write_file("b", "12345");
        assert_int_equal(rename(at("b"), at("a")), 0);
}
static void keep_times(void) {
        struct stat st;

        assert_int_equal(stat(at("a"), &st), 0);
        write_file("a", "54321");
        assert_int_equal(utimensat(AT_FDCWD, at("a"),
                                   (const struct timespec[]){ st.st_atim, st.st_mtim }, 0),
                         0);
}
static void add_file(void) {
        write_file("high/new.conf", "x");
        assert_int_equal(unlink(at("high/new.conf")), 0);
}
static void appear(void) {
        write_file("none", "x");
}
static void appear_directory(void) {
        assert_int_equal(mkdir(at("nodir"), 0700), 0);
}
static void change_nothing(void) {
}

static void test_changes_are_seen(void **state) {
        static const struct {
                void (*change)(void);
                bool current;
        } ways[] = {
                { change_nothing, true }, { change_contents, false }, { change_size, false },
                { remove_it, false },     { replace_it, false },      { keep_times, false },
                { add_file, false },      { appear, false },          { appear_directory, false },
        };
        const char *where;

        for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
                const char *const directories[] = { at("high"), at("nodir"), NULL };
                struct snapshot *s = snapshot_new();
                _cleanup_free_ char *text = NULL;
                struct dropin *d;
                size_t n;

                write_file("a", "12345");
                (void) unlink(at("none"));
                settle();
                assert_int_equal(snapshot_read(s, at("a"), 5, &text, &n), 0);
                text = (free(text), NULL);
                assert_int_equal(snapshot_read(s, at("none"), 5, &text, &n), -ENOENT);
                assert_int_equal(snapshot_dropins(s, directories, ".conf", 9, &d, &n, &where), 0);
                dropins_free(d, n);
                ways[i].change();
                if (snapshot_is_current(s) != ways[i].current)
                        fail_msg("change %zu", i);
                (void) snapshot_free(s);
        }
}

/* Regression of the tick: a file that was written in the tick in which it is read may be written
 * again in it, and no time would tell. */
static void test_fresh_files_are_not_trusted(void **state) {
        bool seen = false;

        for (unsigned i = 0; i < 1000 && !seen; i++) {
                struct snapshot *s = snapshot_new();
                _cleanup_free_ char *text = NULL;
                size_t n;

                write_file("a", "12345");
                assert_int_equal(snapshot_read(s, at("a"), 5, &text, &n), 0);
                seen = !snapshot_is_current(s);
                (void) snapshot_free(s);
        }
        assert_true(seen);
}

static void test_dropins(void **state) {
        const char *const directories[] = { at("high"), at("none-such"), at("low"), NULL };
        static const char *const files[] = { "low/50-b.conf",     "low/10-a.conf",
                                             "high/30-c.conf",    "high/50-b.conf",
                                             "high/.hidden.conf", "high/.conf",
                                             "low/README",        "low/60-d.conf~",
                                             "low/conf" };
        static const char *const expected[] = { "low/10-a.conf", "high/30-c.conf",
                                                "high/50-b.conf" };
        struct snapshot *s = snapshot_new();
        const char *where = NULL;
        struct dropin *d;
        size_t n;

        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                write_file(files[i], "x");
        assert_int_equal(snapshot_dropins(s, directories, ".conf", 3, &d, &n, &where), 0);
        assert_int_equal(n, ARRAY_SIZE(expected));
        for (size_t i = 0; i < n; i++) {
                assert_string_equal(d[i].path, at(expected[i]));
                assert_string_equal(d[i].name, strrchr(expected[i], '/') + 1);
        }
        dropins_free(d, n);

        assert_int_equal(snapshot_dropins(s, directories, ".conf", 2, &d, &n, &where), -E2BIG);
        assert_string_equal(where, at("low"));
        write_file("file", "x");
        assert_int_equal(snapshot_dropins(s, (const char *const[]){ at("file"), NULL }, ".conf", 2,
                                          &d, &n, &where),
                         -ENOTDIR);
        assert_int_equal(
                snapshot_dropins(s, (const char *const[]){ NULL }, ".conf", 2, &d, &n, &where), 0);
        assert_int_equal(n, 0);
        dropins_free(d, n);
        (void) snapshot_free(s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reading),
                cmocka_unit_test(test_changes_are_seen),
                cmocka_unit_test(test_fresh_files_are_not_trusted),
                cmocka_unit_test(test_dropins),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
