/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The element in a domain's metadata: hostile text. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "daemon/libvirt-metadata.h"
#include "util/util.h"

#define NS METADATA_URI
#define LONGEST "12345678901234567890123456789012"

static int parse(const char *xml, size_t len, char policy[LIBVIRT_POLICY_SIZE], const char **why) {
        /* Exactly as long as it says, for the sanitizer */
        _cleanup_free_ char *copy = malloc(len ? len : 1);

        memcpy(copy, xml, len);
        return metadata_parse(copy, len, policy, why);
}

static void test_elements(void **state) {
        static const struct {
                const char *xml;
                const char *policy;
        } rows[] = {
                { "<policy>NAME</policy>", "NAME" },
                { "<policy>\n  a.b-c_d9 \t</policy>\n", "a.b-c_d9" },
                { "<policy>" LONGEST "</policy>", LONGEST },
                /* Without the namespace, as libvirt makes it; and with one, if another does not */
                { "<policy xmlns:vtld=\"" NS "\">x</policy>", "x" },
                { "<vtld:policy xmlns:vtld='" NS "'>x</vtld:policy>", "x" },
                { "<policy xmlns='" NS "'>x</policy>", "x" },
                { "<?xml version='1.0'?><policy>x</policy>", "x" },
                { "<policy>&#120;</policy>", "x" },
                { "<policy><![CDATA[x]]></policy>", "x" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                char policy[LIBVIRT_POLICY_SIZE] = "";
                const char *why = NULL;

                if (parse(rows[i].xml, strlen(rows[i].xml), policy, &why) < 0)
                        fail_msg("%s: %s", rows[i].xml, why);
                assert_string_equal(policy, rows[i].policy);
        }
}

static void test_what_is_refused(void **state) {
        static const struct {
                const char *xml;
                const char *why;
        } rows[] = {
                { "", "not well-formed" },
                { "x", "not well-formed" },
                { "<policy>x", "not well-formed" },
                { "<policy>x</policy><policy>y</policy>", "not well-formed" },
                { "<policy>\xff</policy>", "not well-formed" },
                { "<policy>&x;</policy>", "not well-formed" },
                { "<other>x</other>", "not called policy" },
                { "<Policy>x</Policy>", "not called policy" },
                { "<policy kind='y'>x</policy>", "attribute" },
                { "<policy><b/></policy>", "more than a text" },
                { "<policy>x<b/></policy>", "more than a text" },
                { "<policy>x<!-- y --></policy>", "more than a text" },
                { "<policy><?p?></policy>", "more than a text" },
                { "<policy/>", "at least one" },
                { "<policy>  </policy>", "at least one" },
                { "<policy>a b</policy>", "letters" },
                { "<policy>*</policy>", "letters" },
                { "<policy>\xc3\xa4</policy>", "letters" },
                { "<policy>" LONGEST "3</policy>", "too long" },
                { "<!DOCTYPE policy><policy>x</policy>", "document type" },
                { "<!DOCTYPE policy [<!ENTITY e 'x'>]><policy>&e;</policy>", "document type" },
                { "<!DOCTYPE p SYSTEM 'file:///etc/passwd'><policy>x</policy>", "document type" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                char policy[LIBVIRT_POLICY_SIZE] = "as it was";
                const char *why = NULL;

                if (parse(rows[i].xml, strlen(rows[i].xml), policy, &why) != -EBADMSG)
                        fail_msg("taken: %s", rows[i].xml);
                if (!strstr(why, rows[i].why))
                        fail_msg("%s: %s, not %s", rows[i].xml, why, rows[i].why);
                assert_string_equal(policy, "as it was");
        }
}

static void test_size(void **state) {
        char xml[METADATA_MAX + 64], policy[LIBVIRT_POLICY_SIZE];
        const char *why = NULL;
        int n;

        n = snprintf(xml, sizeof(xml), "<policy>x%*s</policy>", (int) (METADATA_MAX - 18), "");
        assert_int_equal(n, METADATA_MAX);
        assert_int_equal(parse(xml, (size_t) n, policy, &why), 0);
        assert_string_equal(policy, "x");
        n = snprintf(xml, sizeof(xml), "<policy>x%*s</policy>", (int) (METADATA_MAX - 17), "");
        assert_int_equal(parse(xml, (size_t) n, policy, &why), -EBADMSG);
        assert_non_null(strstr(why, "too large"));
}

/* Nesting and entities are what parsers of XML have died of. */
static void test_bombs(void **state) {
        static const char laughs[] =
                "<!DOCTYPE p [<!ENTITY a 'xxxxxxxxxx'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>"
                "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;&c;'>]>"
                "<policy>&d;&d;&d;</policy>";
        char deep[METADATA_MAX], policy[LIBVIRT_POLICY_SIZE];
        const char *why = NULL;

        assert_int_equal(parse(laughs, strlen(laughs), policy, &why), -EBADMSG);
        for (size_t i = 0; i + 3 <= sizeof(deep); i += 3)
                memcpy(deep + i, "<a>", 3);
        assert_int_equal(parse(deep, sizeof(deep) - 1, policy, &why), -EBADMSG);
}

static void test_both_ways(void **state) {
        char element[METADATA_ELEMENT_SIZE], policy[LIBVIRT_POLICY_SIZE];
        const char *why = NULL;

        metadata_format(LONGEST, element);
        assert_string_equal(element, "<policy>" LONGEST "</policy>");
        assert_int_equal(parse(element, strlen(element), policy, &why), 0);
        assert_string_equal(policy, LONGEST);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_elements),  cmocka_unit_test(test_what_is_refused),
                cmocka_unit_test(test_size),      cmocka_unit_test(test_bombs),
                cmocka_unit_test(test_both_ways),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
