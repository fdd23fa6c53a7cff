/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The table of what stock KVM cannot enforce: complete, no doubles, with keys of policy. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/policy-rules.h"
#include "util/util.h"
#include "vtl/control.h"
#include "vtl/unenforced.h"

static void test_rows(void **state) {
        const struct unenforced *u, *other;
        uint64_t flags = 0, cr = 0;

        for (size_t i = 0; (u = unenforced_get(i)); i++) {
                assert_true(i < UNENFORCED_MAX);
                assert_true(strlen(u->name) > 0 && strlen(u->what) > 0);
                assert_true(!u->key || policy_key_find(u->key) >= 0);
                /* What nobody can have accepted is never recorded. */
                assert_int_equal(!u->key, !u->cr && !u->flag);
                assert_false((flags & u->flag) || (cr & u->cr));
                flags |= u->flag;
                cr |= u->cr;
                for (size_t k = 0; k < i; k++) {
                        other = unenforced_get(k);
                        assert_string_not_equal(u->name, other->name);
                }
        }
        assert_true(flags == VTL_UNENFORCED_ALL);
        assert_true(cr == 0x78007 && cr == unenforced_cr_bits());
        assert_null(unenforced_get(SIZE_MAX));
}

static void test_names(void **state) {
        const char *names[UNENFORCED_MAX];

        assert_int_equal(unenforced_names(0, 0, names), 0);
        assert_int_equal(unenforced_names(4, VTL_UNENFORCED_MBEC, names), 2);
        assert_string_equal(names[0], "xcr0-write");
        assert_string_equal(names[1], "mbec");
        /* Somebody else's word: what it does not mean is no name, and everything has room. */
        assert_int_equal(unenforced_names(~0x78007ull, ~VTL_UNENFORCED_ALL, names), 0);
        assert_int_equal(unenforced_names(UINT64_MAX, UINT64_MAX, names), 12);
}

static void test_ranges(void **state) {
        static const uint16_t ports[] = { 0x20, 0x21, 0x40, 0x41,  0x42, 0x43,
                                          0x61, 0xa0, 0xa1, 0x4d0, 0x4d1 };
        unsigned n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(ports); i++)
                assert_true(unenforced_port(ports[i]));
        for (uint32_t port = 0; port <= 0x10000; port++)
                n += unenforced_port(port);
        assert_int_equal(n, ARRAY_SIZE(ports));
        assert_false(unenforced_msr(0) || unenforced_msr(0x7ff) || unenforced_msr(0x900));
        assert_true(unenforced_msr(0x800) && unenforced_msr(0x8ff));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rows),
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_ranges),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("unenforced", tests, NULL, NULL);
}
