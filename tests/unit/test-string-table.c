/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Enums and their texts. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/string-table.h"

static const char *const three_names[] = { "one", "two", "three" };
static const struct string_table three = STRING_TABLE(three_names);
static const struct string_table two = { three_names, 2 };
static const struct string_table one = { three_names, 1 };

static void test_both_ways(void **state) {
        assert_int_equal(three.n, 3);
        for (unsigned i = 0; i < three.n; i++)
                assert_int_equal(string_table_value(&three, string_table_name(&three, i)), i);
        assert_null(string_table_name(&three, 3));
        assert_null(string_table_name(&three, (unsigned) -1));
        assert_int_equal(string_table_value(&three, "four"), -EINVAL);
        assert_int_equal(string_table_value(&three, ""), -EINVAL);
        assert_int_equal(string_table_value(&three, "One"), -EINVAL);
}

static void test_lists(void **state) {
        char buf[64], small[8];

        assert_string_equal(string_table_list(&three, buf, sizeof(buf)), "one, two or three");
        assert_string_equal(string_table_list(&two, buf, sizeof(buf)), "one or two");
        assert_string_equal(string_table_list(&one, buf, sizeof(buf)), "one");
        assert_string_equal(string_table_list(&three, small, sizeof(small)), "one, tw");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_both_ways),
                cmocka_unit_test(test_lists),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
