/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "util/log.h"
#include "util/util.h"

static struct {
        bool takes;
        unsigned calls;
        int level;
        const char *message_id;
        struct log_fields fields;
        char line[LOG_LINE_MAX];
} sunk;

static bool sink(int level, const char *message_id, const struct log_fields *fields,
                 const char *line) {
        sunk.calls++;
        sunk.level = level;
        sunk.message_id = message_id;
        sunk.fields = fields ? *fields : (struct log_fields){ 0 };
        (void) snprintf(sunk.line, sizeof(sunk.line), "%s", line);
        errno = EBADMSG;
        return sunk.takes;
}

static int set_up(void **state) {
        memset(&sunk, 0, sizeof(sunk));
        sunk.takes = true;
        log_set_max_level(LOG_INFO);
        log_set_sink(sink);
        return 0;
}

static int tear_down(void **state) {
        log_set_sink(NULL);
        log_set_max_level(LOG_INFO);
        return 0;
}

static void test_line(void **state) {
        errno = ENOENT;
        log_warning("%s: %m", "file");
        assert_int_equal(errno, ENOENT);
        assert_int_equal(sunk.calls, 1);
        assert_int_equal(sunk.level, LOG_WARNING);
        assert_null(sunk.message_id);
        assert_int_equal(sunk.fields.n, 0);
        assert_string_equal(sunk.line, "file: No such file or directory");
}

static void test_level(void **state) {
        log_debug("no");
        log_event(LOG_DEBUG, "id", NULL, "no");
        assert_int_equal(sunk.calls, 0);
        log_set_max_level(LOG_DEBUG);
        log_debug("yes");
        log_event(LOG_DEBUG, "id", NULL, "yes");
        assert_int_equal(sunk.calls, 2);
}

static void test_event(void **state) {
        struct log_fields f = { 0 };

        log_field(&f, "VTLD_VP", "%u", 7u);
        log_field(&f, "VTLD_NAME", "%s", "a=b");
        log_event(LOG_NOTICE, "0123", &f, "VP %u", 7u);
        assert_string_equal(sunk.message_id, "0123");
        assert_int_equal(sunk.fields.n, 2);
        assert_string_equal(sunk.fields.text[0], "VTLD_VP=7");
        assert_string_equal(sunk.fields.text[1], "VTLD_NAME=a=b");
        assert_string_equal(sunk.line, "VP 7");
}

static void test_fields_are_bounded(void **state) {
        char text[2 * LOG_FIELD_SIZE], name[2 * LOG_FIELD_SIZE];
        struct log_fields f = { 0 };

        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        memset(name, 'N', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';

        log_field(&f, "LONG", "%s", text);
        assert_int_equal(f.n, 1);
        assert_int_equal(strlen(f.text[0]), LOG_FIELD_SIZE - 1);
        /* A name that does not fit would be another name. */
        log_field(&f, name, "%d", 1);
        assert_int_equal(f.n, 1);
        for (unsigned i = 0; i < 2 * LOG_FIELDS_MAX; i++)
                log_field(&f, "F", "%u", i);
        assert_int_equal(f.n, LOG_FIELDS_MAX);
        assert_string_equal(f.text[LOG_FIELDS_MAX - 1], "F=6");
}

static void test_long_line(void **state) {
        char text[2 * LOG_LINE_MAX];

        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        log_info("%s", text);
        assert_int_equal(strlen(sunk.line), LOG_LINE_MAX - 1);
}

/* What the sink cannot take goes to stderr: to a pipe in its place. */
static void test_sink_that_fails(void **state) {
        char text[64] = "";
        int pipe_fds[2], saved;

        assert_int_equal(pipe(pipe_fds), 0);
        saved = dup(STDERR_FILENO);
        assert_true(saved >= 0);
        assert_true(dup2(pipe_fds[1], STDERR_FILENO) >= 0);
        sunk.takes = false;
        log_event(LOG_ERR, "id", NULL, "lost\n");
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        (void) close(saved);
        (void) close(pipe_fds[1]);
        assert_int_equal(read(pipe_fds[0], text, sizeof(text) - 1), strlen("<3>lost\n\n"));
        (void) close(pipe_fds[0]);
        assert_string_equal(text, "<3>lost\n\n");
}

static void test_level_names(void **state) {
        static const char *const names[] = { "err", "warning", "notice", "info", "debug" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                assert_int_equal(log_level_from_string(names[i]), LOG_ERR + (int) i);
                assert_string_equal(log_level_to_string(LOG_ERR + (int) i), names[i]);
        }
        assert_int_equal(log_level_from_string(""), -EINVAL);
        assert_int_equal(log_level_from_string("INFO"), -EINVAL);
        assert_null(log_level_to_string(LOG_CRIT));
        assert_null(log_level_to_string(8));
}

static void test_escape(void **state) {
        char buf[16];

        assert_string_equal(log_escape(buf, sizeof(buf), "a b"), "a b");
        assert_string_equal(log_escape(buf, sizeof(buf), "\n\\\x7f"), "\\x0a\\x5c\\x7f");
        assert_string_equal(log_escape(buf, 8, "abcdefgh"), "abc");
}

static void test_ratelimit(void **state) {
        struct log_ratelimit r = { 0 };
        unsigned passed = 0;

        for (unsigned i = 0; i < 100; i++)
                passed += log_ratelimit(&r, 3600 * 1000, 5);
        assert_int_equal(passed, 5);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_line, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_level, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_event, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_fields_are_bounded, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_long_line, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_sink_that_fails, set_up, tear_down),
                cmocka_unit_test(test_level_names),
                cmocka_unit_test(test_escape),
                cmocka_unit_test(test_ratelimit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
