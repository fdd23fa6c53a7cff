/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The hypercall page (vsm.md 2.9): what its entries do, decoded, and which `out` is one of them. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmocka.h>

#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/hvpage.h"
#include "vtl/insn.h"

/* Where a page that sends calls to KVM leaves */
#define AT_CALL 0xb4u
#define AT_OUT 0xcbu

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

        hvpage_fill(page, HVPAGE_PLAIN);
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

        /* With all the `out`s that there can be in either kind of page; one that has a prefix is in
         * test_dispatch() */
        hvpage_fill(page, HVPAGE_VMMCALL);
        page[4] = 0xe6;
        page[5] = HVPAGE_PORT_HYPERCALL;
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

                        if (at != AT_CALL && at != AT_CALL + 3 &&
                            hvpage_out_offset(port, 0xfffff80000000000 | at) != expected)
                                fail_msg("port %#x, offset %#x", port, at);
                        n += expected >= 0;
                }
        assert_int_equal(n, 12); /* five entries, one of which is there twice */
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
        hvpage_fill(page, HVPAGE_PLAIN);
        hvpage_fill(again, HVPAGE_PLAIN);
        assert_memory_equal(page, again, sizeof(page));
        for (unsigned at = 0x60; at < HV_PAGE_SIZE; at++)
                assert_int_equal(page[at], 0xcc);
}

/* ---- Which calls go to KVM: the page is run, as far as a process may ---- */

#define AT_CALL 0xb4u
#define AT_OUT 0xcbu

static uint8_t *dispatch_page;
static ucontext_t stopped;

/* OUT is #GP and UD2 is #UD here: back to the caller, with what the registers were there. */
static void on_stop(int sig, siginfo_t *info, void *context) {
        ucontext_t *u = context;
        uint64_t *rsp = (uint64_t *) u->uc_mcontext.gregs[REG_RSP];

        stopped = *u;
        u->uc_mcontext.gregs[REG_RIP] = (greg_t) *rsp;
        u->uc_mcontext.gregs[REG_RSP] += 8;
}

/* Where a call of the page ends up. RAX and RFLAGS must be there as they were. */
static unsigned where(uint64_t rcx, uint64_t rdx, uint64_t r8) {
        const uint64_t rax = 0x1122334455667788, flags = 0x8d7 /* CF PF AF ZF SF OF */;
        uint64_t *rsp;

        __asm__ volatile("mov %[r8], %%r8\n"
                         "lea -128(%%rsp), %%rsp\n"
                         "pushq %[flags]\n"
                         "popfq\n"
                         "call *%[page]\n"
                         "lea 128(%%rsp), %%rsp\n"
                         :
                         : "c"(rcx), "d"(rdx),
                           "a"(rax), [r8] "r"(r8), [flags] "r"(flags), [page] "r"(dispatch_page)
                         : "r8", "memory", "cc");
        assert_int_equal(stopped.uc_mcontext.gregs[REG_RAX], rax);
        assert_int_equal(stopped.uc_mcontext.gregs[REG_RCX], rcx);
        assert_int_equal(stopped.uc_mcontext.gregs[REG_RDX], rdx);
        assert_int_equal(stopped.uc_mcontext.gregs[REG_R8], r8);
        assert_int_equal(stopped.uc_mcontext.gregs[REG_EFL] & 0x8d5, flags & 0x8d5);
        rsp = (uint64_t *) stopped.uc_mcontext.gregs[REG_RSP];
        assert_in_range(*rsp, (uint64_t) where, (uint64_t) where + 4096); /* the return address */
        return (unsigned) stopped.uc_mcontext.gregs[REG_RIP] & 0xfff;
}

static void test_dispatch(void **state) {
        static const struct {
                uint64_t rcx, rdx, r8;
                bool kernel;
        } cases[] = {
                { 0x0002, 0x1000, 0x2000, true }, /* memory forms */
                { 0x300000003, 0x1000, 0, true },
                { 0x20013, 0x1000, 0, true },
                { 0x1000020014, 0x1000, 0, true },
                { 0x10002, 0x1000, 3, true }, /* fast */
                { 0x10013, 0x1000, 7, true },
                { 0x10002, 0x1000, 0x10, false }, /* with a target */
                { 0x10002, 0x1000, 0x110, false },
                { 0x10003, 0x1000, 0x200, false },
                { 0x10014, 0x1000, 0x300, false },
                { 0x1000b, 0x41, 3, true }, /* IPIs */
                { 0x1000b, 0x1100000041, 3, false },
                { 0x1000b, 0x100000000000041, 3, false },
                { 0x000b, 0x1000, 0, false },
                { 0x2000b, 0x41, 0, false },
                { 0x0015, 0x1000, 0, false },
                { 0x0000, 0, 0, false },
                { 0x0001, 0, 0, false },
                { 0x0004, 0, 0, false },
                { 0x000c, 0, 0, false },
                { 0x0011, 0, 0, false },
                { 0x0012, 0, 0, false },
                { 0x001f, 0, 0, false },
                { 0x0022, 0, 0, false }, /* 2 + 32 */
                { 0x0050, 0, 0, false },
                { 0x8001, 0, 0, false },
                { 0x8002, 0, 0, false },
                { 0xffff, 0, 0, false },
        };
        struct sigaction stop = { .sa_sigaction = on_stop, .sa_flags = SA_SIGINFO }, old[2];

        dispatch_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(dispatch_page, MAP_FAILED);
        hvpage_fill(dispatch_page, HVPAGE_VMMCALL);
        assert_memory_equal(dispatch_page + AT_CALL, "\x0f\x01\xd9\xc3", 4);
        hvpage_fill(dispatch_page, HVPAGE_VMCALL);
        assert_memory_equal(dispatch_page + AT_CALL, "\x0f\x01\xc1\xc3", 4);
        memcpy(dispatch_page + AT_CALL, "\x0f\x0b", 2); /* UD2: VMCALL may do anything here */
        (void) sigaction(SIGILL, &stop, &old[0]);
        (void) sigaction(SIGSEGV, &stop, &old[1]);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                unsigned at = where(cases[i].rcx, cases[i].rdx, cases[i].r8);

                if (at != (cases[i].kernel ? AT_CALL : AT_OUT))
                        fail_msg("case %zu ended at %#x", i, at);
        }
        /* With a lock: the same way, and an OUT at its end */
        hvpage_trap_all(dispatch_page, HVPAGE_VMCALL, true);
        assert_int_equal(where(2, 0, 0), AT_CALL);
        assert_int_equal(dispatch_page[AT_CALL + 1], 0xe6);
        assert_int_equal(dispatch_page[AT_CALL + 2], HVPAGE_PORT_HYPERCALL);
        assert_int_equal(dispatch_page[AT_CALL + 3], 0xc3);
        (void) sigaction(SIGILL, &old[0], NULL);
        (void) sigaction(SIGSEGV, &old[1], NULL);
        hvpage_trap_all(dispatch_page, HVPAGE_VMCALL, false);
        assert_memory_equal(dispatch_page + AT_CALL, "\x0f\x01\xc1\xc3", 4);
        for (unsigned past = 0; past <= 4; past++) {
                bool call = past == 0 || past == 3, out = past == 0 || past == 2;

                assert_int_equal(hvpage_out_offset(HVPAGE_PORT_HYPERCALL, AT_CALL + past),
                                 call ? (int) AT_CALL : -1);
                assert_int_equal(hvpage_out_offset(HVPAGE_PORT_HYPERCALL, AT_OUT + past),
                                 out ? (int) AT_OUT : -1);
                assert_int_equal(hvpage_out_offset(HVPAGE_PORT_VTL_CALL, AT_OUT + past), -1);
        }
        (void) munmap(dispatch_page, 4096);
}

/* The other entries are where they always are. */
static void test_dispatch_entries(void **state) {
        uint8_t plain[HV_PAGE_SIZE], kernel[HV_PAGE_SIZE];

        hvpage_fill(plain, HVPAGE_PLAIN);
        hvpage_fill(kernel, HVPAGE_VMMCALL);
        assert_memory_equal(plain + 0x10, kernel + 0x10, 0x70);
        hvpage_trap_all(plain, HVPAGE_PLAIN, true);
        hvpage_fill(kernel, HVPAGE_PLAIN);
        assert_memory_equal(plain, kernel, sizeof(plain));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_dispatch), cmocka_unit_test(test_dispatch_entries),
                cmocka_unit_test(test_entries),  cmocka_unit_test(test_out_offset),
                cmocka_unit_test(test_rest),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("hvpage", tests, NULL, NULL);
}
