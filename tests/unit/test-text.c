/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Texts that others have written. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/text.h"
#include "util/util.h"

struct row {
        const char *text;
        size_t len;
        enum text_fault expected;
};

#define ROW(text, expected) \
        { text, sizeof(text) - 1, expected }

static void check(const struct row *rows, size_t n) {
        for (size_t i = 0; i < n; i++) {
                /* Without a NUL behind it, so that a sanitizer sees a look beyond the end */
                _cleanup_free_ char *exact = malloc(rows[i].len ? rows[i].len : 1);

                memcpy(exact, rows[i].text, rows[i].len);
                assert_int_equal(text_check(exact, rows[i].len), rows[i].expected);
        }
}

static void test_texts(void **state) {
        static const struct row rows[] = {
                ROW("", TEXT_FINE),
                ROW(" ~", TEXT_FINE),
                ROW("gr\xc3\xb6\xc3\x9f"
                    "e",
                    TEXT_FINE),
                ROW("\xe2\x82\xac", TEXT_FINE),
                ROW("\xed\x9f\xbf\xee\x80\x80", TEXT_FINE),
                ROW("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", TEXT_FINE),
                ROW("\xc2\xa0", TEXT_FINE),
        };

        check(rows, ARRAY_SIZE(rows));
}

static void test_control_characters(void **state) {
        static const struct row rows[] = {
                ROW("a\nb", TEXT_CONTROL),     ROW("\x1f", TEXT_CONTROL),
                ROW("\x7f", TEXT_CONTROL),     ROW("a\0b", TEXT_CONTROL),
                ROW("\xc2\x80", TEXT_CONTROL), ROW("\xc2\x9f", TEXT_CONTROL),
        };

        check(rows, ARRAY_SIZE(rows));
}

static void test_what_is_no_utf8(void **state) {
        static const struct row rows[] = {
                ROW("\x80", TEXT_NOT_UTF8),
                ROW("\xff", TEXT_NOT_UTF8),
                ROW("\xc0\x80", TEXT_NOT_UTF8),
                ROW("\xc1\xbf", TEXT_NOT_UTF8),
                ROW("\xc2", TEXT_NOT_UTF8),
                ROW("\xe2\x82", TEXT_NOT_UTF8),
                ROW("\xe0\x9f\xbf", TEXT_NOT_UTF8),
                ROW("\xed\xa0\x80", TEXT_NOT_UTF8),
                ROW("\xf0\x8f\xbf\xbf", TEXT_NOT_UTF8),
                ROW("\xf4\x90\x80\x80", TEXT_NOT_UTF8),
                ROW("\xf5\x80\x80\x80", TEXT_NOT_UTF8),
                ROW("ok\xc3(", TEXT_NOT_UTF8),
        };

        check(rows, ARRAY_SIZE(rows));
}

static void test_the_first_fault_counts(void **state) {
        static const struct row rows[] = {
                ROW("\n\xff", TEXT_CONTROL),
                ROW("\xff\n", TEXT_NOT_UTF8),
        };

        check(rows, ARRAY_SIZE(rows));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_texts),
                cmocka_unit_test(test_control_characters),
                cmocka_unit_test(test_what_is_no_utf8),
                cmocka_unit_test(test_the_first_fault_counts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
