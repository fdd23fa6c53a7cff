/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* UUIDs and their text form. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/util.h"
#include "util/uuid.h"

static const uint8_t example[16] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x46, 0x77,
                                     0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };

static void test_both_ways(void **state) {
        char text[UUID_TEXT_SIZE];
        uint8_t uuid[16];

        uuid_format(example, text);
        assert_string_equal(text, "00112233-4455-4677-8899-aabbccddeeff");
        assert_int_equal(uuid_parse(text, uuid), 0);
        assert_memory_equal(uuid, example, sizeof(uuid));
        assert_int_equal(uuid_parse("00112233-4455-4677-8899-AABBccddEEFF", uuid), 0);
        assert_memory_equal(uuid, example, sizeof(uuid));
}

static void test_what_is_no_uuid(void **state) {
        static const char *const bad[] = {
                "",
                "0",
                "00112233-4455-4677-8899-aabbccddeef",
                "00112233-4455-4677-8899-aabbccddeeff0",
                "00112233-4455-4677-8899-aabbccddeefg",
                "001122334-455-4677-8899-aabbccddeeff",
                "00112233445546778899aabbccddeeff",
                "{00112233-4455-4677-8899-aabbccddeeff}",
                " 00112233-4455-4677-8899-aabbccddeeff",
                "00112233-4455-4677-8899-aabbccddeeff\n",
                "00112233_4455_4677_8899_aabbccddeeff",
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                uint8_t uuid[16] = { 7 };

                assert_int_equal(uuid_parse(bad[i], uuid), -EINVAL);
                assert_int_equal(uuid[0], 7);
        }
}

static void test_nil(void **state) {
        static const uint8_t nil[16];
        uint8_t last[16] = { [15] = 1 };

        assert_true(uuid_is_nil(nil));
        assert_false(uuid_is_nil(last));
        assert_false(uuid_is_nil(example));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_both_ways),
                cmocka_unit_test(test_what_is_no_uuid),
                cmocka_unit_test(test_nil),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
