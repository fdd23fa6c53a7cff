/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Hexadecimal digits, both ways. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/hex.h"
#include "util/util.h"

static void test_both_ways(void **state) {
        static const uint8_t bytes[] = { 0x00, 0x09, 0x0a, 0xff, 0x7e };
        uint8_t back[sizeof(bytes)];
        char text[2 * sizeof(bytes) + 1];

        hex_encode(bytes, sizeof(bytes), text);
        assert_string_equal(text, "00090aff7e");
        assert_int_equal(hex_decode(text, sizeof(back), back), 0);
        assert_memory_equal(back, bytes, sizeof(bytes));
        assert_int_equal(hex_decode("00090AfF7E", sizeof(back), back), 0);
        assert_memory_equal(back, bytes, sizeof(bytes));
}

static void test_nothing(void **state) {
        char text[1] = "x";

        hex_encode(NULL, 0, text);
        assert_string_equal(text, "");
        assert_int_equal(hex_decode("", 0, NULL), 0);
}

static void test_no_digits(void **state) {
        static const char *const bad[] = { "0",  "",   "g0", "0g", " 0", "0 ",
                                           "-1", "0x", "/0", ":0", "@0", "`0" };
        uint8_t byte;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(hex_decode(bad[i], 1, &byte), -EINVAL);
        /* What follows is not looked at. */
        assert_int_equal(hex_decode("a0zz", 1, &byte), 0);
        assert_int_equal(byte, 0xa0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_both_ways),
                cmocka_unit_test(test_nothing),
                cmocka_unit_test(test_no_digits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
