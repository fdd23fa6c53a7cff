/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The table of the calls that are offered. Its sizes come from sizeof(); here they are compared
 * with the numbers of vsm.md 3.0, which were read out of the real hypervisor's table.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/hvcall-side.h"
#include "util/util.h"

static void test_sound(void **state) {
        assert_true(hv_table_sound(hv_calls, hv_calls_n));
        for (size_t i = 0; i < hv_calls_n; i++)
                assert_ptr_equal(hv_call_find(hv_calls, hv_calls_n, hv_calls[i].code),
                                 &hv_calls[i]);
        assert_null(hv_call_find(hv_calls, hv_calls_n, 0));
        assert_null(hv_call_find(hv_calls, hv_calls_n, 0xffff));
}

static void test_sizes(void **state) {
        static const struct {
                uint16_t code;
                enum hv_call_kind kind;
                uint16_t input, output, rep_in, rep_out;
                uint64_t privilege;
                bool variable;
        } rows[] = {
                { 0x0002, HV_CALL_SIMPLE, 0x18, 0, 0, 0, 0, false },
                { 0x0003, HV_CALL_REP, 0x18, 0, 8, 0, 0, false },
                { 0x0013, HV_CALL_SIMPLE, 0x20, 0, 0, 0, 0, true },
                { 0x0014, HV_CALL_REP, 0x20, 0, 8, 0, 0, true },
                { 0x000c, HV_CALL_REP, 0x10, 0, 8, 0, HV_PRIV_VSM, false },
                { 0x000d, HV_CALL_SIMPLE, 0x10, 0, 0, 0, HV_PRIV_VSM, false },
                { 0x000f, HV_CALL_SIMPLE, 0xf0, 0, 0, 0, HV_PRIV_VSM, false },
                { 0x0011, HV_CALL_VTL, 0, 0, 0, 0, HV_PRIV_VSM, false },
                { 0x0012, HV_CALL_VTL, 0, 0, 0, 0, HV_PRIV_VSM, false },
                { 0x004d, HV_CALL_SIMPLE, 0x18, 0, 0, 0, HV_PRIV_VSM, false },
                { 0x0050, HV_CALL_REP, 0x10, 0, 4, 0x10, HV_PRIV_VP_REGISTERS, false },
                { 0x0051, HV_CALL_REP, 0x10, 0, 0x20, 0, HV_PRIV_VP_REGISTERS, false },
                { 0x009a, HV_CALL_REP, 0x10, 0, 4, 4, 0, false },
                { 0x00c0, HV_CALL_SIMPLE, 0x10, 8, 0, 0, HV_PRIV_SIGNAL_EVENTS, false },
                { 0x00c1, HV_CALL_SIMPLE, 0x118, 0, 0, 0, HV_PRIV_POST_MESSAGES, false },
                { 0x00d4, HV_CALL_REP, 0x10, 0, 8, 8, HV_PRIV_VSM, false },
                { 0x8001, HV_CALL_SIMPLE, 0, 8, 0, 0, HV_PRIV_EXTENDED_HYPERCALLS, false },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                const struct hv_call *c = hv_call_find(hv_calls, hv_calls_n, rows[i].code);

                assert_non_null(c);
                assert_int_equal(c->kind, rows[i].kind);
                assert_int_equal(c->input, rows[i].input);
                assert_int_equal(c->output, rows[i].output);
                assert_int_equal(c->rep_in, rows[i].rep_in);
                assert_int_equal(c->rep_out, rows[i].rep_out);
                assert_int_equal(c->variable, rows[i].variable);
                assert_int_equal(c->privilege, rows[i].privilege);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_sound),
                cmocka_unit_test(test_sizes),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
