/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What `vtlctl top` makes of two readings. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/vtlctl-rates.h"
#include "daemon/vtlctl.h"
#include "util/util.h"

static struct json_object *read_vms(const char *text) {
        struct json_object *o = json_tokener_parse(text);

        assert_non_null(o);
        return o;
}

static struct json_object *computed(const char *before, const char *after, double seconds) {
        struct json_object *a = read_vms(before), *b = read_vms(after),
                           *rows = rates_compute(a, b, seconds);

        assert_true(json_object_is_type(rows, json_type_array));
        (void) json_object_put(a);
        (void) json_object_put(b);
        return rows;
}

static void assert_rate(struct json_object *rows, size_t i, const char *name, double expected) {
        struct json_object *row = json_object_array_get_idx(rows, i), *v = NULL;
        double d;

        assert_non_null(row);
        assert_true(json_object_object_get_ex(row, name, &v));
        d = json_object_get_double(v) - expected;
        assert_true(d > -0.001 && d < 0.001);
}

#define VM(attached, vps)                                                                         \
        "[{\"Uuid\":\"u\",\"Name\":\"n\",\"AttachedAt\":" attached ",\"VirtualProcessors\":[" vps \
        "]}]"
#define VP(index, calls, returns, entries)                                                    \
        "{\"Index\":" index ",\"ActiveVtl\":1,\"VtlCalls\":" calls ",\"VtlReturns\":" returns \
        ",\"InterruptEntries\":" entries "}"

static void test_rates(void **state) {
        struct json_object *rows =
                computed(VM("1", VP("0", "10", "10", "0")), VM("1", VP("0", "30", "32", "2")), 2.0);

        assert_int_equal(json_object_array_length(rows), 1);
        assert_rate(rows, 0, "Switches", 22.0);
        assert_rate(rows, 0, "InterruptEntries", 1.0);
        assert_rate(rows, 0, "Hypercalls", 0.0);
        assert_string_equal(json_text(json_object_array_get_idx(rows, 0), "Name"), "n");
        assert_int_equal(json_number(json_object_array_get_idx(rows, 0), "ActiveVtl"), 1);
        (void) json_object_put(rows);
}

static void test_the_busiest_first(void **state) {
        struct json_object *rows =
                computed(VM("1", VP("0", "0", "0", "0") "," VP("1", "0", "0", "0") "," VP(
                                         "2", "0", "0", "0") "," VP("10", "0", "0", "0")),
                         VM("1", VP("0", "1", "0", "0") "," VP("1", "9", "0", "0") "," VP(
                                         "2", "1", "0", "0") "," VP("10", "1", "0", "0")),
                         1.0);
        static const uint64_t order[] = { 1, 0, 2, 10 };

        assert_int_equal(json_object_array_length(rows), ARRAY_SIZE(order));
        for (size_t i = 0; i < ARRAY_SIZE(order); i++)
                assert_int_equal(json_number(json_object_array_get_idx(rows, i), "Vp"), order[i]);
        (void) json_object_put(rows);
}

/* A VM that was attached anew begins at 0, and so does a VP that was not there. */
static void test_what_was_not_there(void **state) {
        struct json_object *rows =
                computed(VM("1", VP("0", "10", "0", "0")), VM("2", VP("0", "20", "0", "0")), 1.0);

        assert_int_equal(json_object_array_length(rows), 0);
        (void) json_object_put(rows);
        rows = computed(VM("1", VP("0", "1", "0", "0")), VM("1", VP("1", "1", "0", "0")), 1.0);
        assert_int_equal(json_object_array_length(rows), 0);
        (void) json_object_put(rows);
        rows = computed("[]", VM("1", VP("0", "1", "0", "0")), 1.0);
        assert_int_equal(json_object_array_length(rows), 0);
        (void) json_object_put(rows);
}

/* Counters are the word of the worker and the VMM. */
static void test_counters_that_lie(void **state) {
        struct json_object *rows =
                computed(VM("1", VP("0", "10", "18446744073709551615", "0")),
                         VM("1", VP("0", "5", "0", "18446744073709551615")), 1.0);

        assert_int_equal(json_object_array_length(rows), 1);
        assert_rate(rows, 0, "InterruptEntries", 18446744073709551615.0);
        assert_rate(rows, 0, "Switches", 18446744073709551615.0);
        (void) json_object_put(rows);
        rows = computed(VM("1", VP("0", "1", "0", "0")), VM("1", VP("0", "2", "0", "0")), 0);
        assert_rate(rows, 0, "Switches", 0);
        (void) json_object_put(rows);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rates),
                cmocka_unit_test(test_the_busiest_first),
                cmocka_unit_test(test_what_was_not_there),
                cmocka_unit_test(test_counters_that_lie),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
