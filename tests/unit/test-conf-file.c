/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Configuration files: what is taken, and everything that is not. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "util/conf-file.h"
#include "util/util.h"

/* What the callbacks were told, as one text */
struct told {
        char text[2048];
        size_t n;
        int fail_at_end;
};

static void tell(struct told *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct told *t, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        t->n += (size_t) vsnprintf(t->text + t->n, sizeof(t->text) - t->n, fmt, ap);
        va_end(ap);
        assert_true(t->n < sizeof(t->text));
}

static int on_section(struct conf *c, const char *name, size_t len, void *userdata) {
        assert_int_equal(strlen(name), len);
        tell(userdata, "%u[%s]", conf_line(c), name);
        if (strcmp(name, "full") == 0)
                return -ENOSPC;
        return strcmp(name, "bad") == 0 ? conf_complain(c, conf_line(c), "bad %s", name) : 0;
}

static int on_key(struct conf *c, const char *key, const char *value, void *userdata) {
        tell(userdata, "%u(%s=%s)", conf_line(c), key, value);
        return strcmp(key, "bad") == 0 ? conf_complain(c, conf_line(c), "bad: %s", value) : 0;
}

static int on_end(struct conf *c, void *userdata) {
        struct told *t = userdata;

        tell(t, "end");
        return t->fail_at_end;
}

static const struct conf_callbacks callbacks = { on_section, on_key, on_end };

static int parse(const char *text, size_t len, struct told *t, char *error) {
        *t = (struct told){ .fail_at_end = t->fail_at_end };
        return conf_parse(text, len, "file", &callbacks, t, error);
}

static void test_what_is_taken(void **state) {
        static const struct {
                const char *text;
                const char *told;
        } files[] = {
                { "", "end" },
                { "# nothing\n\n  ; or nearly\n\t# nothing\n", "end" },
                { "[a]\nk=v\n", "1[a]2(k=v)end" },
                { "[a]\nk=v", "1[a]2(k=v)end" },
                { "[a]\r\nk = v w \r\n", "1[a]2(k=v w)end" },
                { "[a b]  # c\nk=\nl==x\n", "1[a b]2(k=)3(l==x)end" },
                { "[a];c\nk=v ; comment\nl=v;w\nm=v # w\n", "1[a]2(k=v)3(l=v;w)4(m=v # w)end" },
                { "[a]\nk=gr\xc3\xb6\xc3\x9f"
                  "e:x\n",
                  "1[a]2(k=gr\xc3\xb6\xc3\x9f"
                  "e:x)end" },
                { "[a]\n[]\n[a]\nk=[v]\n", "1[a]2[]3[a]4(k=[v])end" },
        };
        char error[CONF_ERROR_SIZE];
        struct told t = { .n = 0 };

        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                assert_int_equal(parse(files[i].text, strlen(files[i].text), &t, error), 0);
                assert_string_equal(t.text, files[i].told);
                assert_string_equal(error, "");
        }
}

static void test_what_is_not(void **state) {
        static const struct {
                const char *text;
                const char *error;
        } files[] = {
                { "k=v\n", "file:1: a key before the first section" },
                { "[a\n", "file:1: the section has no ']'" },
                { "[a] b\n", "file:1: something follows the ']'" },
                { " [a]\n", "file:1: the line is indented" },
                { "[a]\nk=v\n w\n", "file:3: the line is indented" },
                { "[a]\n\tk=v\n", "file:2: the line is indented" },
                { "[a]\nk\n", "file:2: neither a section nor key=value" },
                { "[a]\nk:v\n", "file:2: neither a section nor key=value" },
                { "[a]\nk:v=w\n", "file:2: neither a section nor key=value" },
                { "[a]\nk ;=v\n", "file:2: neither a section nor key=value" },
                { "\xef\xbb\xbf[a]\n", "file:1: neither a section nor key=value" },
                { "[a]\nk=\x01\n", "file:2: there is a control character" },
                { "[a]\nk=v\rw\n", "file:2: there is a control character" },
                { "# \x1b[2J\n", "file:1: there is a control character" },
                { "[a]\nk=\xe4\n",
                  "file:2: there is a control character in the line, or it is not UTF-8" },
                { "[bad]\nk\n", "file:1: bad bad" },
                { "[a]\nbad=\xc3\xb6\nk\n", "file:2: bad: \\xc3\\xb6" },
        };
        char error[CONF_ERROR_SIZE];
        struct told t = { .n = 0 };

        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                assert_int_equal(parse(files[i].text, strlen(files[i].text), &t, error), -EBADMSG);
                if (strncmp(error, files[i].error, strlen(files[i].error)) != 0)
                        fail_msg("%s\n-> \"%s\", expected \"%s\"", files[i].text, error,
                                 files[i].error);
                assert_null(strstr(t.text, "end"));
        }
}

static void test_bytes_that_end_a_text(void **state) {
        char error[CONF_ERROR_SIZE];
        struct told t = { .n = 0 };

        assert_int_equal(parse("[a]\nk=v\0w\n", 10, &t, error), -EBADMSG);
        assert_string_equal(error, "file:2: there is a NUL byte in the line");
        assert_string_equal(t.text, "1[a]");
        /* Only @len counts. */
        assert_int_equal(parse("[a]\nk=vwx", 7, &t, error), 0);
        assert_string_equal(t.text, "1[a]2(k=v)end");
}

static void test_long_lines(void **state) {
        char text[1024], error[CONF_ERROR_SIZE];
        struct told t = { .n = 0 };
        int n;

        n = snprintf(text, sizeof(text), "[a]\nk=%0180d\n", 1);
        assert_int_equal(parse(text, (size_t) n, &t, error), 0);
        assert_non_null(strstr(t.text, "0001)end"));
        for (unsigned at = 0; at < 3; at++) {
                static const char *const forms[] = { "[%0400d]\n", "[a]\nk=%0400d\n",
                                                     "[a]\n#%0400d\n" };

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                n = snprintf(text, sizeof(text), forms[at], 1);
#pragma GCC diagnostic pop
                assert_int_equal(parse(text, (size_t) n, &t, error), -EBADMSG);
                assert_non_null(strstr(error, ": the line is longer than"));
        }
}

static void test_other_failures(void **state) {
        char error[CONF_ERROR_SIZE];
        struct told t = { .n = 0 };

        assert_int_equal(parse("[full]\nk=v\n", 11, &t, error), -ENOSPC);
        assert_string_equal(error, "file: No space left on device");
        assert_string_equal(t.text, "1[full]");
        t.fail_at_end = -ENOSPC;
        assert_int_equal(parse("[a]\n", 4, &t, error), -ENOSPC);
        assert_string_equal(error, "file: No space left on device");
}

static void test_errors_are_one_printable_line(void **state) {
        char error[CONF_ERROR_SIZE], path[600];

        assert_int_equal(conf_error(error, -EIO, "a\nb\x1b", "%s", "c\nd\xff"), -EIO);
        assert_string_equal(error, "a\\x0ab\\x1b: c\\x0ad\\xff");
        memset(path, '\n', sizeof(path) - 1);
        path[sizeof(path) - 1] = '\0';
        (void) conf_error(error, -EIO, path, "%s", path);
        assert_true(strlen(error) < sizeof(error));
        for (const char *s = error; *s; s++)
                assert_in_range(*s, 0x20, 0x7e);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_is_taken),
                cmocka_unit_test(test_what_is_not),
                cmocka_unit_test(test_bytes_that_end_a_text),
                cmocka_unit_test(test_long_lines),
                cmocka_unit_test(test_other_failures),
                cmocka_unit_test(test_errors_are_one_printable_line),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
