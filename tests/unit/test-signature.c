/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Signature files: one way to write each, and what is signed. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "policy/signature.h"
#include "util/util.h"

#define KEY "key 0123456789abcdef\n"
#define ZEROS_64 "00000000000000000000000000000000"
#define VALUE_64 "value " ZEROS_64 ZEROS_64 ZEROS_64 ZEROS_64 "\n"
#define SOUND "vtld signature 1\nalgorithm ed25519\n" KEY VALUE_64

static void test_both_ways(void **state) {
        for (unsigned a = 0; a < _SIGNATURE_ALGORITHM_MAX; a++) {
                struct signature s = { .algorithm = (enum signature_algorithm) a }, back;
                char text[SIGNATURE_FILE_MAX], error[CONF_ERROR_SIZE];
                size_t n;

                s.value_size = a == SIGNATURE_ED25519 ? SIGNATURE_ED25519_SIZE : SIGNATURE_P384_MAX;
                for (size_t i = 0; i < s.value_size; i++)
                        s.value[i] = (uint8_t) (i * 7 + a);
                for (size_t i = 0; i < sizeof(s.key_id); i++)
                        s.key_id[i] = (uint8_t) (0xf0 + i);
                n = signature_format(&s, text);
                assert_true(n < sizeof(text));
                assert_int_equal(n, strlen(text));
                assert_int_equal(signature_parse(text, n, "file", &back, error), 0);
                assert_int_equal(back.algorithm, s.algorithm);
                assert_memory_equal(back.key_id, s.key_id, sizeof(s.key_id));
                assert_int_equal(back.value_size, s.value_size);
                assert_memory_equal(back.value, s.value, s.value_size);
        }
}

static void test_what_is_none(void **state) {
        static const struct {
                const char *text, *error;
        } bad[] = {
                { "", "file: line 1: not the line \"vtld signature 1\"" },
                { "vtld signature 1", "file: line 1:" },
                { "vtld signature 2\nalgorithm ed25519\n" KEY VALUE_64, "file: line 1:" },
                { "vtld signature 1 \nalgorithm ed25519\n" KEY VALUE_64, "file: line 1:" },
                { "vtld signature 1\r\nalgorithm ed25519\n" KEY VALUE_64, "file: line 1:" },
                { "\nvtld signature 1\nalgorithm ed25519\n" KEY VALUE_64, "file: line 1:" },
                { "vtld signature 1\n", "file: line 2: not a line \"algorithm" },
                { "vtld signature 1\nalgorithm none\n" KEY VALUE_64, "file: line 2:" },
                { "vtld signature 1\nalgorithm ED25519\n" KEY VALUE_64, "file: line 2:" },
                { "vtld signature 1\nalgorithm  ed25519\n" KEY VALUE_64, "file: line 2:" },
                { "vtld signature 1\n" KEY "algorithm ed25519\n" VALUE_64, "file: line 2:" },
                { "vtld signature 1\nalgorithm ed25519-with-a-name-that-is-too-long\n",
                  "file: line 2:" },
                { "vtld signature 1\nalgorithm ed25519\nkey 0123456789abcde\n" VALUE_64,
                  "file: line 3: not a line \"key ID\"" },
                { "vtld signature 1\nalgorithm ed25519\nkey 0123456789abcdef0\n" VALUE_64,
                  "file: line 3:" },
                { "vtld signature 1\nalgorithm ed25519\nkey 0123456789abcdef01\n" VALUE_64,
                  "file: line 3:" },
                { "vtld signature 1\nalgorithm ed25519\nkey 0123456789ABCDEF\n" VALUE_64,
                  "file: line 3:" },
                { "vtld signature 1\nalgorithm ed25519\nkey 0123456789abcdeg\n" VALUE_64,
                  "file: line 3:" },
                { "vtld signature 1\nalgorithm ed25519\n" KEY "value 00\n",
                  "file: line 4: not a line \"value" },
                { "vtld signature 1\nalgorithm ed25519\n" KEY "value " ZEROS_64 ZEROS_64 ZEROS_64
                  "00\n",
                  "file: line 4:" },
                { "vtld signature 1\nalgorithm ed25519\n" KEY
                  "value " ZEROS_64 ZEROS_64 ZEROS_64 ZEROS_64,
                  "file: line 4:" },
                { "vtld signature 1\nalgorithm ed25519\n" KEY
                  "value " ZEROS_64 ZEROS_64 ZEROS_64 ZEROS_64 "00\n",
                  "file: line 4:" },
                { "vtld signature 1\nalgorithm ecdsa-p384-sha384\n" KEY "value 00000000000000\n",
                  "file: line 4:" },
                { "vtld signature 1\nalgorithm ecdsa-p384-sha384\n" KEY
                  "value " ZEROS_64 ZEROS_64 ZEROS_64 ZEROS_64 ZEROS_64 ZEROS_64
                  "000000000000000000\n",
                  "file: line 4:" },
                { SOUND "\n", "file: line 5: something follows" },
                { SOUND "x", "file: line 5: something follows" },
                { SOUND SOUND, "file: line 5: something follows" },
        };
        struct signature s, untouched;

        memset(&s, 0x5a, sizeof(s));
        untouched = s;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                char error[CONF_ERROR_SIZE] = "";

                assert_int_equal(
                        signature_parse(bad[i].text, strlen(bad[i].text), "file", &s, error),
                        -EBADMSG);
                if (strncmp(error, bad[i].error, strlen(bad[i].error)) != 0)
                        fail_msg("%s\n-> \"%s\", expected \"%s\"", bad[i].text, error,
                                 bad[i].error);
                assert_memory_equal(&s, &untouched, sizeof(s));
        }
}

static void test_every_cut(void **state) {
        char error[CONF_ERROR_SIZE];
        struct signature s;

        assert_int_equal(signature_parse(SOUND, strlen(SOUND), "file", &s, error), 0);
        for (size_t n = 0; n < strlen(SOUND); n++) {
                /* In memory of its own, so that sanitizers see a read behind the end */
                _cleanup_free_ char *cut = malloc(n + 1);

                assert_non_null(cut);
                memcpy(cut, SOUND, n);
                cut[n] = 'x';
                assert_int_equal(signature_parse(cut, n, "file", &s, error), -EBADMSG);
        }
        assert_int_equal(
                signature_parse("vtld signature 1\nalgorithm ed\00025519\n", 35, "file", &s, error),
                -EBADMSG);
}

static void test_what_is_signed(void **state) {
        static const char expected[] = "vtld policy v1\0a.conf\0003\0xyz";
        uint8_t *m;
        size_t n;

        for (unsigned i = 0; i < 3; i++) {
                static const char *const paths[] = { "a.conf", "/etc/vtld/a.conf", "./a.conf" };

                assert_int_equal(signature_message(paths[i], "xyz", 3, &m, &n), 0);
                assert_int_equal(n, sizeof(expected) - 1);
                assert_memory_equal(m, expected, n);
                free(m);
        }
        assert_int_equal(signature_message("a", NULL, 0, &m, &n), 0);
        assert_int_equal(n, 19);
        assert_memory_equal(m, "vtld policy v1\0a\0000", 19);
        free(m);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_both_ways),
                cmocka_unit_test(test_what_is_none),
                cmocka_unit_test(test_every_cut),
                cmocka_unit_test(test_what_is_signed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
