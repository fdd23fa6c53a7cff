/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is UTF-8, and what is text. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/utf8.h"
#include "util/util.h"

static void test_lengths(void **state) {
        static const struct {
                const char *text;
                size_t length;
        } sequences[] = {
                { "a", 1 },
                { "\x7f", 1 },
                { "\xc2\x80", 2 },
                { "\xdf\xbf", 2 },
                { "\xe0\xa0\x80", 3 },
                { "\xed\x9f\xbf", 3 },
                { "\xee\x80\x80", 3 },
                { "\xf0\x90\x80\x80", 4 },
                { "\xf4\x8f\xbf\xbf", 4 },
                /* Alone, cut off, too long a form, a surrogate, past the last one */
                { "\x80", 0 },
                { "\xc3", 0 },
                { "\xc3z", 0 },
                { "\xe2\x82", 0 },
                { "\xc0\x80", 0 },
                { "\xc1\xbf", 0 },
                { "\xe0\x9f\xbf", 0 },
                { "\xf0\x8f\xbf\xbf", 0 },
                { "\xed\xa0\x80", 0 },
                { "\xf4\x90\x80\x80", 0 },
                { "\xf8\x88\x80\x80\x80", 0 },
                { "\xff", 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(sequences); i++)
                assert_int_equal(utf8_sequence((const uint8_t *) sequences[i].text,
                                               strlen(sequences[i].text)),
                                 sequences[i].length);
}

static void test_text(void **state) {
        assert_true(utf8_is_text("", ""));
        assert_true(utf8_is_text("gr\xc3\xb6\xc3\x9f"
                                 "e \xe2\x82\xac",
                                 ""));
        assert_true(utf8_is_text("\xc2\xa0", ""));
        assert_true(utf8_is_text("a\tb", "\t"));
        assert_false(utf8_is_text("a\tb", ""));
        assert_false(utf8_is_text("a\nb", "\t"));
        assert_false(utf8_is_text("\x1b[31m", "\t"));
        assert_false(utf8_is_text("\x7f", ""));
        assert_false(utf8_is_text("\xc2\x9b", ""));
        assert_false(utf8_is_text("a\xff", ""));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lengths),
                cmocka_unit_test(test_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
