/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a VM gets here: what policy allows, as far as what it requires can be enforced. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "daemon/decide.h"
#include "util/util.h"

static const struct policy_subject any_vm = { .name = "vm", .uuid = "u" };
static char why[DECIDE_TEXT_SIZE];

static struct policy_decision decided(const char *keys) {
        char text[1024], error[POLICY_ERROR_SIZE];
        struct policy *p = NULL;
        struct policy_decision d;

        (void) snprintf(text, sizeof(text), "[match a]\nname=*\n%s", keys);
        if (policy_parse(text, strlen(text), "file", &p, error) < 0)
                fail_msg("%s", error);
        decide(p, &any_vm, &d, why);
        assert_string_equal(d.name, "a");
        (void) policy_free(p);
        return d;
}

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_requirements(void **state) {
        static const struct {
                const char *keys;
                bool allowed;
                const char *why;
        } cases[] = {
                { "allow-vtl1=yes\n", true, "" },
                { "allow-vtl1=no\n", false, "" },
                { "allow-vtl1=yes\nexecute-enforcement=any\ndma-enforcement=any\n", true, "" },
                { "allow-vtl1=yes\nexecute-enforcement=bounded\n", false,
                  "it requires execute-enforcement = bounded, and here it is none" },
                { "allow-vtl1=yes\nexecute-enforcement=bounded\nstrict-execute-pages=0\n", false,
                  "it requires execute-enforcement = bounded, and here it is none" },
                { "allow-vtl1=yes\nexecute-enforcement=bounded\nstrict-execute-pages=1\n", true,
                  "" },
                { "allow-vtl1=yes\nexecute-enforcement=full\nstrict-execute-pages=65536\n", false,
                  "it requires execute-enforcement = full, and here it is bounded" },
                { "allow-vtl1=yes\nexecute-enforcement=full\n", false,
                  "it requires execute-enforcement = full, and here it is none" },
                { "allow-vtl1=yes\ndma-enforcement=full\n", false,
                  "it requires dma-enforcement = full, and here it is none" },
                { "allow-vtl1=yes\nmeasurement=" DIGEST DIGEST "\n", true, "" },
                /* What is refused anyway needs no other reason. */
                { "allow-vtl1=no\nexecute-enforcement=full\ndma-enforcement=full\n", false, "" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(decided(cases[i].keys).allow_vtl1, cases[i].allowed);
                assert_string_equal(why, cases[i].why);
        }
}

static void test_options_arrive(void **state) {
        struct policy_decision d = decided(
                "allow-vtl1=yes\nmbec=accept-unenforced\nstrict-execute-pages=7\nmax-vps=3\n");

        assert_true(d.options.accept_mbec);
        assert_int_equal(d.options.strict_execute_pages, 7);
        assert_int_equal(d.reserve_mappings, POLICY_RESERVE_MAPPINGS_DEFAULT);
        assert_int_equal(d.max_vps, 3);
}

static void test_without_a_policy(void **state) {
        struct policy_decision d;
        struct policy *p = policy_new_unusable();

        decide(NULL, &any_vm, &d, why);
        assert_true(d.allow_vtl1);
        assert_string_equal(d.name, POLICY_NAME_NONE);
        assert_string_equal(why, "");
        assert_true(decide_vps(&d, 64, why));
        decide(p, &any_vm, &d, why);
        assert_false(d.allow_vtl1);
        assert_string_equal(d.name, POLICY_NAME_UNUSABLE);
        assert_string_equal(why, "");
        (void) policy_free(p);
}

static void test_vps(void **state) {
        struct policy_decision d = decided("allow-vtl1=no\nmax-vps=4\n");

        assert_true(decide_vps(&d, 1, why));
        assert_true(decide_vps(&d, 4, why));
        assert_false(decide_vps(&d, 5, why));
        assert_string_equal(why, "policy \"a\" allows this VM at most 4 VPs, and it has 5");
        d = decided("allow-vtl1=no\n");
        assert_true(decide_vps(&d, 64, why));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_requirements),
                cmocka_unit_test(test_options_arrive),
                cmocka_unit_test(test_without_a_policy),
                cmocka_unit_test(test_vps),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
