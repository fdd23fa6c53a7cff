/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One policy file: what it says, and every way in which it can be wrong. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "policy/policy-rules.h"
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

static void decided(const struct policy *p, const char *name, const char *uuid, uint32_t uid,
                    const char *rule, bool allowed) {
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
        struct policy *p =
                parse("[match a]\nuuid=AAAAaaaa-bbbb-4CCC-8ddd-EEEEEEEEEEEE\nallow-vtl1=yes\n");

        decided(p, "vm", UUID_2, 0, "a", true);
        decided(p, "vm", UUID_1, 0, POLICY_NAME_UNMATCHED, false);
        (void) policy_free(p);
}

static void test_forms_of_writing(void **state) {
        struct policy *p =
                parse("[match a] ; why\r\nname = with space \r\nallow-vtl1 = yes ; now\r\n"
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
        { "\n[match a]\nname=*\n[match b]\nname=*\nallow-vtl1=no\n",
          "file:2: [match a] has no allow-vtl1=" },
        { "[match a]\nname=*\nallow-vtl1=no\n[match b]\n", "file:4: [match b] has none of" },
        { "[match a]\nname=*\nname=x\nallow-vtl1=no\n",
          "file:3: name= is there twice in [match a]" },
        { "[match a]\nname=*\nallow-vtl1=no\nallow-vtl1=no\n",
          "file:4: allow-vtl1= is there twice" },
        { "[match a]\nname=*\nallow-vtl1=maybe\n", "file:3: allow-vtl1= is yes or no" },
        { "[match a]\nname=*\nallow-vtl1=Yes\n", "file:3: allow-vtl1= is yes or no" },
        { "[match a]\nname=*\nallow-vtl1=\n", "file:3: allow-vtl1= is yes or no" },
        { "[match a]\nname=\nallow-vtl1=no\n", "file:2: name= is empty" },
        { "[match a]\nuuid= ; none\nallow-vtl1=no\n", "file:2: uuid= is empty" },
        { "[match a]\nlibvirt-domain=\nallow-vtl1=no\n", "file:2: libvirt-domain= is empty" },
        { "[match a]\nname=*\nlibvirt-policy=\nallow-vtl1=no\n",
          "file:3: libvirt-policy= is empty" },
        { "[match a]\nmax-vps=4\nallow-vtl1=yes\n", "file:1: [match a] has none of" },
        { "[match a]\nname=*\nmax-vps=4\n", "file:1: [match a] has no allow-vtl1=" },
        { "[match a]\nname=*\nallow-vtl1=no\nmbec=refuse\nmbec=refuse\n",
          "file:5: mbec= is there twice in [match a]" },
        { "[match a]\nNAME=*\nallow-vtl1=no\n", "file:2: unknown key" },
        { "[match a]\nname=*\nallow-vtl2=no\n", "file:3: unknown key" },
        { "[match a]\nname\n", "file:2: neither a section nor key=value" },
        { "[match a]\nname=*\nallow-vtl1=no\ngarbage\n",
          "file:4: neither a section nor key=value" },
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
        { "[match none]\nname=*\nallow-vtl1=no\n",
          "file:1: [match none]: this name has a meaning" },
        { "[match unmatched]\nname=*\nallow-vtl1=no\n",
          "file:1: [match unmatched]: this name has a meaning" },
        { "[match unusable]\nname=*\nallow-vtl1=no\n",
          "file:1: [match unusable]: this name has a meaning" },
        { "[match a123456789b123456789c123456789d123]\n",
          "file:1: [match NAME]: the name is longer than 32" },
        { "[match a]\nname=*\nallow-vtl1=no\n[match a]\n",
          "file:4: [match a] is there already, in line 1" },
};

static void test_bad_files(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(bad_files); i++) {
                char error[POLICY_ERROR_SIZE] = "";
                struct policy *p = NULL;
                int r = policy_parse(bad_files[i].text, strlen(bad_files[i].text), "file", &p,
                                     error);

                if (r != -EBADMSG ||
                    strncmp(error, bad_files[i].error, strlen(bad_files[i].error)) != 0)
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
                o += (size_t) snprintf(text + o, POLICY_FILE_MAX - o,
                                       "[match r%u]\nname=%u\nallow-vtl1=no\n", i, i);
        refused(text, o, -EBADMSG, "more than 1024 sections");
}

static void test_what_libvirt_says(void **state) {
        struct policy *p = parse("[match a]\nlibvirt-domain=win-*\nallow-vtl1=yes\n"
                                 "[match b]\nlibvirt-policy=secure\nname=*\nallow-vtl1=yes\n"
                                 "[match c]\nlibvirt-policy=*\nallow-vtl1=yes\n"
                                 "[match d]\nlibvirt-domain=*\nallow-vtl1=no\n"
                                 "[match e]\nname=*\nallow-vtl1=no\n");
        static const struct {
                const char *domain, *policy, *rule;
        } cases[] = {
                { "win-1", NULL, "a" },  { "win-1", "secure", "a" }, { "lin", "secure", "b" },
                { NULL, "secure", "b" }, { "lin", "secure2", "d" },  { "lin", NULL, "d" },
                { NULL, "Secure", "e" }, { NULL, NULL, "e" },        { NULL, "", "e" },
                { "", NULL, "d" },   /* a pattern matches nothing of what is known to be nothing */
                { "lin", "*", "c" }, /* a value is no pattern */
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const struct policy_subject s = { .name = "vm",
                                                  .uuid = UUID_1,
                                                  .libvirt_domain = cases[i].domain,
                                                  .libvirt_policy = cases[i].policy };
                struct policy_decision d;

                policy_decide(p, &s, &d);
                assert_string_equal(d.name, cases[i].rule);
        }
        (void) policy_free(p);
}

/* ---- What a rule gives ---- */

static const struct policy_subject any_vm = { .name = "vm", .uuid = UUID_1 };

static struct policy_decision given(const char *keys) {
        char text[4096];
        struct policy_decision d;
        struct policy *p;
        int n;

        n = snprintf(text, sizeof(text), "[match a]\nname=*\nallow-vtl1=yes\n%s", keys);
        assert_in_range(n, 1, sizeof(text) - 1);
        p = parse(text);
        policy_decide(p, &any_vm, &d);
        assert_string_equal(d.name, "a");
        (void) policy_free(p);
        return d;
}

static void check_defaults(const struct policy_decision *d) {
        assert_false(d->allow_register_read);
        assert_int_equal(d->max_vps, 0);
        assert_int_equal(d->execute_enforcement, POLICY_ENFORCEMENT_NONE);
        assert_int_equal(d->dma_enforcement, POLICY_DMA_ANY);
        assert_int_equal(d->n_measurements, 0);
        assert_memory_equal(&d->options, &(struct vtl_options){ 0 }, sizeof(d->options));
        assert_int_equal(d->reserve_mappings, 4096);
}

static void test_defaults(void **state) {
        struct policy_decision d = given("");
        struct policy *p;

        check_defaults(&d);
        policy_decide(NULL, &any_vm, &d);
        check_defaults(&d);
        p = parse("");
        policy_decide(p, &any_vm, &d);
        check_defaults(&d);
        (void) policy_free(p);
}

/* Everything that a key can say arrives, and nothing else changes. */
#define FIELD(f) offsetof(struct policy_decision, f), sizeof(((struct policy_decision *) NULL)->f)

static const struct {
        const char *line;
        size_t offset, size;
        uint32_t value;
} values[] = {
        { "allow-register-read=yes", FIELD(allow_register_read), true },
        { "allow-register-read=no", FIELD(allow_register_read), false },
        { "max-vps=1", FIELD(max_vps), 1 },
        { "max-vps=64", FIELD(max_vps), 64 },
        { "max-vps=007", FIELD(max_vps), 7 },
        { "execute-enforcement=any", FIELD(execute_enforcement), POLICY_ENFORCEMENT_NONE },
        { "execute-enforcement=bounded", FIELD(execute_enforcement), POLICY_ENFORCEMENT_BOUNDED },
        { "execute-enforcement=full", FIELD(execute_enforcement), POLICY_ENFORCEMENT_FULL },
        { "dma-enforcement=any", FIELD(dma_enforcement), POLICY_DMA_ANY },
        { "dma-enforcement=full", FIELD(dma_enforcement), POLICY_DMA_FULL },
        { "mbec=refuse", FIELD(options.accept_mbec), false },
        { "mbec=accept-unenforced", FIELD(options.accept_mbec), true },
        { "vtl1-apic=off", FIELD(options.apic_enabled), false },
        { "vtl1-apic=software-enabled", FIELD(options.apic_enabled), true },
        { "lower-vtl-ipi=deliver", FIELD(options.refuse_lower_ipi), false },
        { "lower-vtl-ipi=refuse", FIELD(options.refuse_lower_ipi), true },
        { "deny-startup=refuse", FIELD(options.accept_startup_denial), false },
        { "deny-startup=accept-unenforced", FIELD(options.accept_startup_denial), true },
        { "cr-intercepts=refuse", FIELD(options.accept_cr_intercepts), false },
        { "cr-intercepts=accept-unenforced", FIELD(options.accept_cr_intercepts), true },
        { "debug-registers=lazy", FIELD(options.exact_debug_registers), false },
        { "debug-registers=exact", FIELD(options.exact_debug_registers), true },
        { "kernel-hypercalls=yes", FIELD(options.no_kernel_hypercalls), false },
        { "kernel-hypercalls=no", FIELD(options.no_kernel_hypercalls), true },
        { "strict-execute-pages=0", FIELD(options.strict_execute_pages), 0 },
        { "strict-execute-pages=65536", FIELD(options.strict_execute_pages), 65536 },
        { "reserve-mappings=0", FIELD(reserve_mappings), 0 },
        { "reserve-mappings=1048576", FIELD(reserve_mappings), 1048576 },
};

static void test_every_value(void **state) {
        struct policy_decision expected;

        for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
                struct policy_decision d = given(values[i].line);

                expected = given("");
                /* A flag is one byte, and this machine is little-endian. */
                memcpy((uint8_t *) &expected + values[i].offset, &values[i].value, values[i].size);
                assert_memory_equal(&d, &expected, sizeof(d));
        }
}

static void test_bad_values(void **state) {
        static const struct {
                const char *line, *error;
        } bad[] = {
                { "allow-register-read=perhaps", "allow-register-read= is yes or no" },
                { "max-vps=0", "max-vps= is a number from 1 to 64" },
                { "max-vps=65", "max-vps= is a number from 1 to 64" },
                { "max-vps=", "max-vps= is a number from 1 to 64" },
                { "max-vps=-1", "max-vps= is a number from 1 to 64" },
                { "max-vps=+1", "max-vps= is a number from 1 to 64" },
                { "max-vps=0x4", "max-vps= is a number from 1 to 64" },
                { "max-vps=4 VPs", "max-vps= is a number from 1 to 64" },
                { "max-vps=4294967297", "max-vps= is a number from 1 to 64" },
                { "max-vps=18446744073709551617", "max-vps= is a number from 1 to 64" },
                { "strict-execute-pages=65537",
                  "strict-execute-pages= is a number from 0 to 65536" },
                { "reserve-mappings=1048577", "reserve-mappings= is a number from 0 to 1048576" },
                { "execute-enforcement=none", "execute-enforcement= is any, bounded or full" },
                { "execute-enforcement=", "execute-enforcement= is any, bounded or full" },
                { "dma-enforcement=bounded", "dma-enforcement= is any or full" },
                { "mbec=accept", "mbec= is refuse or accept-unenforced" },
                { "mbec=Refuse", "mbec= is refuse or accept-unenforced" },
                { "vtl1-apic=on", "vtl1-apic= is off or software-enabled" },
                { "lower-vtl-ipi=no", "lower-vtl-ipi= is deliver or refuse" },
                { "deny-startup=yes", "deny-startup= is refuse or accept-unenforced" },
                { "cr-intercepts=yes", "cr-intercepts= is refuse or accept-unenforced" },
                { "debug-registers=strict", "debug-registers= is lazy or exact" },
                { "measurement=", "measurement= is empty" },
                { "measurement=00", "measurement= is SHA-384 digests" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                char text[256], error[256];

                (void) snprintf(text, sizeof(text), "[match a]\nname=*\n%s\nallow-vtl1=yes\n",
                                bad[i].line);
                (void) snprintf(error, sizeof(error), "file:3: %s", bad[i].error);
                refused(text, strlen(text), -EBADMSG, error);
        }
}

/* A digest of 96 equal digits */
static const char *digest(char c) {
        static char texts[4][2 * POLICY_MEASUREMENT_SIZE + 1];
        static unsigned next;
        char *text = texts[next++ % ARRAY_SIZE(texts)];

        memset(text, c, 2 * POLICY_MEASUREMENT_SIZE);
        return text;
}

static void test_measurements(void **state) {
        char text[4096];
        struct policy_decision d;
        size_t n = 0;

        (void) snprintf(text, sizeof(text), "measurement=%s\nmbec=refuse\nmeasurement = %s\n",
                        digest('1'), digest('F'));
        d = given(text);
        assert_int_equal(d.n_measurements, 2);
        for (size_t i = 0; i < POLICY_MEASUREMENT_SIZE; i++) {
                assert_int_equal(d.measurements[0][i], 0x11);
                assert_int_equal(d.measurements[1][i], 0xff);
        }

        (void) snprintf(text, sizeof(text), "[match a]\nname=*\nallow-vtl1=no\nmeasurement=%s0\n",
                        digest('1'));
        refused(text, strlen(text), -EBADMSG, "file:4: measurement= is SHA-384 digests");
        (void) snprintf(text, sizeof(text),
                        "[match a]\nname=*\nallow-vtl1=no\nmeasurement=%.95sg\n", digest('1'));
        refused(text, strlen(text), -EBADMSG, "file:4: measurement= is SHA-384 digests");
        (void) snprintf(text, sizeof(text), "[match a]\nname=*\nallow-vtl1=no\nmeasurement=%s 22\n",
                        digest('1'));
        refused(text, strlen(text), -EBADMSG, "file:4: measurement= is SHA-384 digests");

        n = (size_t) snprintf(text, sizeof(text), "[match a]\nname=*\nallow-vtl1=no\n");
        for (unsigned i = 0; i < POLICY_MEASUREMENTS_MAX; i++)
                n += (size_t) snprintf(text + n, sizeof(text) - n, "measurement=%s\n", digest('0'));
        (void) policy_free(parse(text));
        (void) snprintf(text + n, sizeof(text) - n, "measurement=%s\n", digest('0'));
        refused(text, strlen(text), -EBADMSG, "file:20: measurement= has more than 16 digests");
}

/* ---- Tables ---- */

static void test_tables(void **state) {
        static const struct {
                const struct string_table *table;
                unsigned n;
        } tables[] = {
                { &policy_execute_table, _POLICY_ENFORCEMENT_MAX },
                { &policy_enforcement_table, _POLICY_ENFORCEMENT_MAX },
                { &policy_dma_table, _POLICY_DMA_MAX },
                { &policy_signatures_table, _POLICY_SIGNATURES_MAX },
                { &policy_file_state_table, _POLICY_FILE_STATE_MAX },
                { &signature_algorithm_table, _SIGNATURE_ALGORITHM_MAX },
        };

        for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
                assert_int_equal(tables[i].table->n, tables[i].n);
                for (unsigned v = 0; v < tables[i].n; v++) {
                        const char *name = string_table_name(tables[i].table, v);

                        assert_non_null(name);
                        assert_int_equal(string_table_value(tables[i].table, name), v);
                }
                assert_null(string_table_name(tables[i].table, tables[i].n));
                assert_int_equal(string_table_value(tables[i].table, "nonsense"), -EINVAL);
        }
}

static void test_names_of_keys(void **state) {
        unsigned enums = 0, options = 0;

        for (unsigned i = 0; i < _POLICY_KEY_MAX; i++) {
                assert_non_null(policy_keys[i].name);
                assert_int_equal(policy_key_find(policy_keys[i].name), i);
                assert_true((i < _POLICY_MATCH_MAX) == (policy_keys[i].kind <= POLICY_KIND_EXACT));
                assert_true((policy_keys[i].kind == POLICY_KIND_CHOICE) ==
                            (policy_keys[i].choices != NULL));
                enums += policy_keys[i].kind == POLICY_KIND_CHOICE;
                options += policy_keys[i].kind == POLICY_KIND_OPTION;
                if (policy_keys[i].kind == POLICY_KIND_OPTION)
                        assert_true(vtl_option_find(policy_keys[i].name) >= 0);
        }
        assert_null(vtl_option_key(options)); /* all of them are keys of policy */
        assert_non_null(vtl_option_key(options - 1));
        assert_int_equal(enums, 2);
        assert_int_equal(policy_key_find("Name"), -EINVAL);
        assert_int_equal(policy_key_find(""), -EINVAL);
}

static void test_unusable(void **state) {
        struct policy *p = policy_new_unusable();

        assert_non_null(p);
        decided(p, "vm", UUID_1, 0, POLICY_NAME_UNUSABLE, false);
        assert_int_equal(policy_rules(p), 0);
        (void) policy_free(p);
}

static void test_free_of_nothing(void **state) {
        assert_null(policy_free(NULL));
        assert_int_equal(policy_rules(NULL), 0);
        assert_int_equal(policy_files(NULL), 0);
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
                cmocka_unit_test(test_what_libvirt_says),
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_every_value),
                cmocka_unit_test(test_bad_values),
                cmocka_unit_test(test_measurements),
                cmocka_unit_test(test_tables),
                cmocka_unit_test(test_names_of_keys),
                cmocka_unit_test(test_unusable),
                cmocka_unit_test(test_free_of_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
