/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The policy file: what it says, and every way in which it can be wrong. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>

#include "policy/policy.h"
#include "util/util.h"

#define UUID_1 "11111111-2222-4333-8444-555555555555"
#define UUID_2 "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"

static struct policy *parse(const char *text) {
        char error[POLICY_ERROR_SIZE];
        struct policy *p = NULL;
        int r = policy_parse(text, strlen(text), "file", &p, error);

        if (r < 0)
                print_error("%s\n", error);
        assert_int_equal(r, 0);
        return p;
}

static void decided(const struct policy *p, const char *name, const char *uuid, uint32_t uid, const char *rule,
                    bool allowed) {
        const struct policy_subject s = { .name = name, .uuid = uuid, .uid = uid };
        struct policy_decision d;

        policy_decide(p, &s, &d);
        assert_string_equal(d.name, rule);
        assert_int_equal(d.allow_vtl1, allowed);
}

static void test_no_policy(void **state) {
        decided(NULL, "any", UUID_1, 0, POLICY_NAME_NONE, true);
}

static void test_empty_policy_refuses(void **state) {
        struct policy *p = parse("");

        assert_int_equal(policy_rules(p), 0);
        decided(p, "any", UUID_1, 0, POLICY_NAME_UNMATCHED, false);
        p = policy_free(p);

        p = parse("# nothing\n\n; here\n   \n\t# indented comment\n");
        assert_int_equal(policy_rules(p), 0);
        p = policy_free(p);
        assert_null(p);
}

static void test_first_match_wins(void **state) {
        struct policy *p = parse("[match a]\nname=win-*\nallow-vtl1=yes\n"
                                 "[match b]\nname=win-x\nallow-vtl1=no\n"
                                 "[match c]\nname=lin*\nallow-vtl1=no\n");

        assert_int_equal(policy_rules(p), 3);
        decided(p, "win-x", UUID_1, 0, "a", true);
        decided(p, "linux", UUID_1, 0, "c", false);
        decided(p, "WIN-x", UUID_1, 0, POLICY_NAME_UNMATCHED, false);
        decided(p, "", UUID_1, 0, POLICY_NAME_UNMATCHED, false);
        (void) policy_free(p);
}

static void test_all_patterns_of_a_rule_match(void **state) {
        struct policy *p = parse("[match a]\nname=vm\nuuid=11111111-*\nuid=100?\nallow-vtl1=yes\n"
                                 "[match rest]\nname=*\nallow-vtl1=no\n");

        decided(p, "vm", UUID_1, 1000, "a", true);
        decided(p, "vm", UUID_1, 1009, "a", true);
        decided(p, "vm", UUID_1, 100, "rest", false);
        decided(p, "vm", UUID_1, 10000, "rest", false);
        decided(p, "vm", UUID_2, 1000, "rest", false);
        decided(p, "vn", UUID_1, 1000, "rest", false);
        (void) policy_free(p);
}

static void test_uuids_have_no_case(void **state) {
        struct policy *p = parse("[match a]\nuuid=AAAAaaaa-bbbb-4CCC-8ddd-EEEEEEEEEEEE\nallow-vtl1=yes\n");

        decided(p, "vm", UUID_2, 0, "a", true);
        decided(p, "vm", UUID_1, 0, POLICY_NAME_UNMATCHED, false);
        (void) policy_free(p);
}

static void test_forms_of_writing(void **state) {
        struct policy *p = parse("[match a] ; why\r\nname = with space \r\nallow-vtl1 = yes ; now\r\n"
                                 "[match b]\t# why not\nuid=[0-9]\nallow-vtl1=yes");

        assert_int_equal(policy_rules(p), 2);
        decided(p, "with space", UUID_1, 12, "a", true);
        decided(p, "other", UUID_1, 7, "b", true);
        decided(p, "other", UUID_1, 12, POLICY_NAME_UNMATCHED, false);
        (void) policy_free(p);
}

static const struct {
        const char *text;
        const char *error;
} bad_files[] = {
        { "name=*\n", "file:1: a key before the first section" },
        { "[match a]\n", "file:1: [match a] has none of" },
        { "[match a]\nallow-vtl1=yes\n", "file:1: [match a] has none of" },
        { "[match a]\nname=*\n", "file:1: [match a] has no allow-vtl1=" },
        { "\n[match a]\nname=*\n[match b]\nname=*\nallow-vtl1=no\n", "file:2: [match a] has no allow-vtl1=" },
        { "[match a]\nname=*\nallow-vtl1=no\n[match b]\n", "file:4: [match b] has none of" },
        { "[match a]\nname=*\nname=x\nallow-vtl1=no\n", "file:3: name= is there twice in [match a]" },
        { "[match a]\nname=*\nallow-vtl1=no\nallow-vtl1=no\n", "file:4: allow-vtl1= is there twice" },
        { "[match a]\nname=*\nallow-vtl1=maybe\n", "file:3: allow-vtl1= is yes or no" },
        { "[match a]\nname=*\nallow-vtl1=Yes\n", "file:3: allow-vtl1= is yes or no" },
        { "[match a]\nname=*\nallow-vtl1=\n", "file:3: allow-vtl1= is yes or no" },
        { "[match a]\nname=\nallow-vtl1=no\n", "file:2: name= is empty" },
        { "[match a]\nuuid= ; none\nallow-vtl1=no\n", "file:2: uuid= is empty" },
        { "[match a]\nNAME=*\nallow-vtl1=no\n", "file:2: unknown key" },
        { "[match a]\nname=*\nallow-vtl2=no\n", "file:3: unknown key" },
        { "[match a]\nname\n", "file:2: neither a section nor key=value" },
        { "[match a]\nname=*\nallow-vtl1=no\ngarbage\n", "file:4: neither a section nor key=value" },
        { "[match a]\nname=*\n  continued\nallow-vtl1=no\n", "file:3: the line is indented" },
        { "[match a]\n name=*\nallow-vtl1=no\n", "file:2: the line is indented" },
        { "[match a]\nname=*\nallow-vtl1=no\n [match b]\n", "file:4: the line is indented" },
        { "[match a]\nname:x\nallow-vtl1=no\n", "file:2: neither a section nor key=value" },
        { "[match a]\n=x\nallow-vtl1=no\n", "file:2: unknown key" },
        { "[match a\nname=*\nallow-vtl1=no\n", "file:1: the section has no ']'" },
        { "[match a] x\nname=*\nallow-vtl1=no\n", "file:1: something follows the ']'" },
        { "[match]\nname=*\nallow-vtl1=no\n", "file:1: unknown section" },
        { "[]\n", "file:1: unknown section" },
        { "[other a]\nname=*\nallow-vtl1=no\n", "file:1: unknown section" },
        { "[Match a]\nname=*\nallow-vtl1=no\n", "file:1: unknown section" },
        { "[match ]\nname=*\nallow-vtl1=no\n", "file:1: [match NAME]: the name is missing" },
        { "[match a b]\nname=*\nallow-vtl1=no\n", "file:1: [match NAME]: a name has letters" },
        { "[match none]\nname=*\nallow-vtl1=no\n", "file:1: [match none]: this name has a meaning" },
        { "[match unmatched]\nname=*\nallow-vtl1=no\n", "file:1: [match unmatched]: this name has a meaning" },
        { "[match a123456789b123456789c123456789d123]\n", "file:1: [match NAME]: the name is longer than 32" },
        { "[match a]\nname=*\nallow-vtl1=no\n[match a]\n", "file:4: [match a] is there already, in line 1" },
};

static void test_bad_files(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(bad_files); i++) {
                char error[POLICY_ERROR_SIZE] = "";
                struct policy *p = NULL;
                int r = policy_parse(bad_files[i].text, strlen(bad_files[i].text), "file", &p, error);

                if (r != -EBADMSG || strncmp(error, bad_files[i].error, strlen(bad_files[i].error)) != 0)
                        fail_msg("%s\n-> %d \"%s\", expected \"%s\"", bad_files[i].text, r, error,
                                 bad_files[i].error);
                assert_null(p);
                assert_null(strchr(error, '\n'));
        }
}

static void refused(const char *text, size_t len, int error_number, const char *expected) {
        char error[POLICY_ERROR_SIZE] = "";
        struct policy *p = NULL;

        assert_int_equal(policy_parse(text, len, "file", &p, error), error_number);
        assert_null(p);
        if (!strstr(error, expected))
                fail_msg("\"%s\", expected \"%s\"", error, expected);
}

static void test_nul_bytes(void **state) {
        static const char text[] = "[match a]\nname=x\0y\nallow-vtl1=no\n";

        refused(text, sizeof(text) - 1, -EBADMSG, "file:2: there is a NUL byte");
}

static void test_long_lines(void **state) {
        char text[1024];
        int n;

        n = snprintf(text, sizeof(text), "[match a]\nname=%0300d\nallow-vtl1=no\n", 1);
        refused(text, (size_t) n, -EBADMSG, "file:2: the line is longer than");
        n = snprintf(text, sizeof(text), "[match a]\n#%0300d\nname=*\nallow-vtl1=no\n", 1);
        refused(text, (size_t) n, -EBADMSG, "file:2: the line is longer than");
        n = snprintf(text, sizeof(text), "[match a]\nname=%0128d\nallow-vtl1=no\n", 1);
        refused(text, (size_t) n, -EBADMSG, "file:2: name= is longer than 127 bytes");
}

static void test_limits(void **state) {
        _cleanup_free_ char *text = malloc(POLICY_FILE_MAX + 1);
        size_t o = 0;

        assert_non_null(text);
        memset(text, '\n', POLICY_FILE_MAX + 1);
        refused(text, POLICY_FILE_MAX + 1, -EFBIG, "file: larger than 65536 bytes");
        for (unsigned i = 0; i <= POLICY_RULES_MAX; i++)
                o += (size_t) snprintf(text + o, POLICY_FILE_MAX - o, "[match r%u]\nname=%u\nallow-vtl1=no\n", i, i);
        refused(text, o, -EBADMSG, "more than 256 sections");
}

static void test_load(void **state) {
        static const char text[] = "[match a]\nname=*\nallow-vtl1=no\n";
        char path[] = "/tmp/test-policy.XXXXXX", error[POLICY_ERROR_SIZE];
        struct policy *p = NULL;
        int fd = mkstemp(path);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
        assert_int_equal(policy_load(path, &p, error), 0);
        decided(p, "x", UUID_1, 0, "a", false);
        p = policy_free(p);

        assert_int_equal(ftruncate(fd, POLICY_FILE_MAX + 1), 0);
        assert_int_equal(policy_load(path, &p, error), -EFBIG);
        assert_int_equal(close(fd), 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(policy_load(path, &p, error), -ENOENT);
        assert_non_null(strstr(error, path));
        assert_int_equal(policy_load("/", &p, error), -EBADMSG);
        assert_string_equal(error, "/: not a regular file");
        assert_int_equal(policy_load("/dev/null", &p, error), -EBADMSG);
        assert_null(p);
}

static void test_free_of_nothing(void **state) {
        assert_null(policy_free(NULL));
        assert_int_equal(policy_rules(NULL), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_no_policy),
                cmocka_unit_test(test_empty_policy_refuses),
                cmocka_unit_test(test_first_match_wins),
                cmocka_unit_test(test_all_patterns_of_a_rule_match),
                cmocka_unit_test(test_uuids_have_no_case),
                cmocka_unit_test(test_forms_of_writing),
                cmocka_unit_test(test_bad_files),
                cmocka_unit_test(test_nul_bytes),
                cmocka_unit_test(test_long_lines),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_load),
                cmocka_unit_test(test_free_of_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
