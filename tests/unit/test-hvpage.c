/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The hypercall page (vsm.md 2.9): what its entries do, decoded, and which `out` is one of them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/hvpage.h"
#include "vtl/insn.h"

/*
 * Runs the few instructions that entries consist of, from @at to the `out`.
 * Return: the offset of the `out`.
 */
static unsigned run_to_out(const uint8_t *page, unsigned at, bool long_mode, struct kvm_regs *r,
                           unsigned *ret_port) {
        static const uint8_t endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa },
                             endbr32[] = { 0xf3, 0x0f, 0x1e, 0xfb };

        assert_memory_equal(page + at, long_mode ? endbr64 : endbr32, 4);
        for (at += 4;;) {
                const uint8_t *p = page + at;
                int32_t imm;

                if (p[0] == 0x8b && p[1] == 0xc8) { /* mov %eax, %ecx */
                        assert_false(long_mode);
                        r->rcx = (uint32_t) r->rax;
                        at += 2;
                } else if (p[0] == 0xb8) { /* mov $imm, %eax */
                        assert_false(long_mode);
                        memcpy(&imm, p + 1, 4);
                        r->rax = (uint32_t) imm;
                        at += 5;
                } else if (p[0] == 0x48 && p[1] == 0x8b && p[2] == 0xc1) { /* mov %rcx, %rax */
                        assert_true(long_mode);
                        r->rax = r->rcx;
                        at += 3;
                } else if (p[0] == 0x48 && p[1] == 0xc7 && p[2] == 0xc1) { /* mov $imm, %rcx */
                        assert_true(long_mode);
                        memcpy(&imm, p + 3, 4);
                        r->rcx = (uint64_t) (int64_t) imm;
                        at += 7;
                } else {
                        assert_int_equal(p[0], 0xe6); /* out %al, $imm */
                        assert_int_equal(p[2], 0xc3); /* ret */
                        *ret_port = p[1];
                        return at;
                }
        }
}

static void test_entries(void **state) {
        uint8_t page[HV_PAGE_SIZE];
        unsigned port = 0, at;
        struct kvm_regs r;

        hvpage_fill(page);
        /* The plain call serves both modes: what is not the mode's ENDBR is a NOP there. */
        r = (struct kvm_regs){ .rax = 1, .rcx = 2 };
        at = run_to_out(page, 0, true, &r, &port);
        assert_int_equal(port, HVPAGE_PORT_HYPERCALL);
        assert_int_equal(r.rax, 1);
        assert_int_equal(r.rcx, 2);
        assert_int_equal(hvpage_out_offset(port, at), at);

        for (unsigned is_return = 0; is_return < 2; is_return++)
                for (unsigned long_mode = 0; long_mode < 2; long_mode++) {
                        uint64_t offsets = hvpage_code_page_offsets(long_mode);
                        unsigned entry = (unsigned) (is_return ? offsets >> 12 : offsets) & 0xfff;

                        assert_int_equal(offsets >> 24, 0);
                        r = (struct kvm_regs){ .rax = 0x55, .rcx = 0x66, .rdx = 0x77 };
                        at = run_to_out(page, entry, long_mode, &r, &port);
                        assert_int_equal(port,
                                         is_return ? HVPAGE_PORT_VTL_RETURN : HVPAGE_PORT_VTL_CALL);
                        assert_int_equal(hvpage_out_offset(port, 0x12345000 + at), at);
                        /* vsm.md 2.1, 6.1: the control in RCX or EDX:EAX; what the caller passed
                         * in RCX or EAX is the input, in RAX or ECX */
                        assert_int_equal(long_mode ? r.rcx : r.rax, is_return ? 0x12 : 0x11);
                        assert_int_equal(long_mode ? r.rax : r.rcx, long_mode ? 0x66 : 0x55);
                        assert_int_equal(r.rdx, 0x77);
                }
}

/* RIP at the `out` or behind it, of the right port: anything else is not from the page. */
static void test_out_offset(void **state) {
        uint8_t page[HV_PAGE_SIZE];
        unsigned n = 0;

        hvpage_fill(page);
        for (unsigned port = 0; port < 0x10000; port += port < 0x200 ? 1 : 0x101)
                for (unsigned at = 0; at < HV_PAGE_SIZE; at++) {
                        bool ours = hvpage_is_port(port);
                        bool is_out =
                                ours && page[at] == 0xe6 && page[(at + 1) % HV_PAGE_SIZE] == port;
                        bool behind =
                                ours && at >= 2 && page[at - 2] == 0xe6 && page[at - 1] == port;
                        int expected = is_out ? (int) at
                                     : behind ? (int) at - HVPAGE_OUT_LENGTH
                                              : -1;

                        if (hvpage_out_offset(port, 0xfffff80000000000 | at) != expected)
                                fail_msg("port %#x, offset %#x", port, at);
                        n += expected >= 0;
                }
        assert_int_equal(n, 10); /* five entries */
        assert_true(hvpage_is_port(HVPAGE_PORT_HYPERCALL) &&
                    hvpage_is_port(HVPAGE_PORT_VTL_RETURN));
        assert_false(hvpage_is_port(HVPAGE_PORT_HYPERCALL - 1) ||
                     hvpage_is_port(HVPAGE_PORT_VTL_RETURN + 1));
}

/* Whoever jumps elsewhere into the page traps; nothing of the last use is left in it. */
static void test_rest(void **state) {
        uint8_t page[HV_PAGE_SIZE], again[HV_PAGE_SIZE];

        memset(page, 0x90, sizeof(page));
        memset(again, 0, sizeof(again));
        hvpage_fill(page);
        hvpage_fill(again);
        assert_memory_equal(page, again, sizeof(page));
        for (unsigned at = 0x60; at < HV_PAGE_SIZE; at++)
                assert_int_equal(page[at], 0xcc);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_entries),
                cmocka_unit_test(test_out_offset),
                cmocka_unit_test(test_rest),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("hvpage", tests, NULL, NULL);
}
