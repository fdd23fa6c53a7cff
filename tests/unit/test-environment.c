/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/environment.h"
#include "util/util.h"

static const char *const prefixes[] = { "A=", "LC_" };

static void expect(bool keep, const char *const *names, size_t n) {
        _cleanup_free_ char **env = environment_filter(prefixes, ARRAY_SIZE(prefixes), keep);

        assert_non_null(env);
        for (size_t i = 0; i < n; i++)
                assert_string_equal(env[i], names[i]);
        assert_null(env[n]);
}

static void test_filter(void **state) {
        static const char *const kept[] = { "A=1", "LC_ALL=C" };
        static const char *const others[] = { "AB=2", "XLC_ALL=C" };
        const char *all[] = { kept[0], others[0], kept[1], others[1], NULL };
        const char *none[] = { NULL };
        char **before = environ;

        /* cmocka's own settings are there, too: they come back. */
        environ = (char **) none;
        expect(true, NULL, 0);
        expect(false, NULL, 0);
        environ = (char **) all;
        expect(true, kept, ARRAY_SIZE(kept));
        expect(false, others, ARRAY_SIZE(others));
        environ = before;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_filter),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
