/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which memory an instruction touches, class by class and mode by mode. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/insn-side.h"
#include "util/util.h"

static void test_operands(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = 0x100000;
        g->regs.rcx = 0x10;
        g->regs.r12 = 0x200000;
        expect(g, "89042500002000", "w200000+4");       /* mov [0x200000], eax */
        expect(g, "8b042500002000", "r200000+4");       /* mov eax, [0x200000] */
        expect(g, "488b04c8", "r100080+8");             /* mov rax, [rax+rcx*8] */
        expect(g, "4d8b642408", "r200008+8");           /* mov r12, [r12+8] */
        expect(g, "8808", "w100000+1");                 /* mov [rax], cl */
        expect(g, "668908", "w100000+2");               /* mov [rax], cx */
        expect(g, "8b0510000000", "r10016+4");          /* mov eax, [rip+0x10] */
        expect(g, "678b0510000000", "r10017+4");        /* mov eax, [eip+0x10] */
        expect(g, "a11032547600000000", "r76543210+4"); /* mov eax, [moffs] */
        expect(g, "ff00", "w100000+4");                 /* inc dword [rax]: one access, a write */
        expect(g, "f00fc108", "w100000+4");             /* lock xadd */
        expect(g, "f00fb108", "w100000+4");             /* lock cmpxchg */
        expect(g, "0fc708", "w100000+8");               /* cmpxchg8b */
        expect(g, "480fc708", "w100000+16");            /* cmpxchg16b */
        expect(g, "3b08", "r100000+4");                 /* cmp ecx, [rax] */
        expect(g, "8708", "w100000+4");                 /* xchg */
        expect(g, "0fb608", "r100000+1");               /* movzx ecx, byte [rax] */
        expect(g, "0f4408", "r100000+4");               /* cmove reads whatever the flags are */
        expect(g, "0f9400", "w100000+1");               /* sete */
        expect(g, "0fc308", "w100000+4");               /* movnti */
        expect(g, "8c00", "w100000+2");                 /* mov [rax], es */
        expect(g, "ff20", "r100000+8");                 /* jmp [rax] */
        expect(g, "8d00", "");                          /* lea */
        expect(g, "90", "");
        expect(g, "0f1f00", "");               /* nop [rax] */
        expect(g, "0f1808", "");               /* prefetcht0 */
        expect(g, "0f0d08", "");               /* prefetchw */
        expect(g, "0fae38", "");               /* clflush */
        expect(g, "660fae38", "");             /* clflushopt */
        expect(g, "0f0138", "");               /* invlpg */
        expect(g, "660f388200", "r100000+16"); /* invpcid */
        g->regs.rbx = 0x300000;
        g->regs.rax = 0xffff42;
        expect(g, "d7", "r300042+1"); /* xlat adds AL alone */
        g->regs.rax = 0x10007f;
        expect(g, "0f01fc", "w100040+64"); /* clzero aligns down */
        g->regs.rdx = 0x300000;
        g->regs.rax = 0x10007f;
        expect(g, "660f38f802", "r300000+64 w100040+64"); /* movdir64b rax, [rdx] */
        expect(g, "0f01c8", "r10007f+1");                 /* monitor */
}

static void test_bit_strings(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = 0x100000;
        g->regs.rcx = 100;
        expect(g, "0fa308", "r10000c+4");   /* bt [rax], ecx */
        expect(g, "480fa308", "r100008+8"); /* bt [rax], rcx */
        expect(g, "660fab08", "w10000c+2"); /* bts [rax], cx */
        expect(g, "0fba282a", "w100000+4"); /* bts dword [rax], 42: within the operand */
        g->regs.rcx = -1;
        expect(g, "0fb308", "wffffc+4");   /* btr with a negative index */
        expect(g, "480fbb08", "wffff8+8"); /* btc */
        g->regs.rcx = 0x8000;
        expect(g, "660fa308", "rff000+2"); /* a 16-bit index is signed too */
}

/* Segment bases and the widths of addresses in the three sizes of code. */
static void test_segments_and_widths(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->sregs.gs.base = 0xffff800000000000;
        g->sregs.ds.base = 0x5000; /* means nothing in 64-bit mode */
        g->regs.rax = 0x1000;
        expect(g, "658b00", "rffff800000001000+4");
        expect(g, "8b00", "r1000+4");
        g->regs.rax = 0xffffffff00001000;
        expect(g, "678b00", "r1000+4"); /* 32-bit address */
        expect(g, "67658b00", "rffff800000001000+4");

        tiny_flat32(g);
        g->sregs.ds.base = 0xfffff000;
        g->sregs.ss.base = 0x100;
        g->regs.rax = 0x2000;
        g->regs.rbp = 0x40;
        expect(g, "8b00", "r1000+4");   /* wraps at 4 GiB */
        expect(g, "8b4500", "r140+4");  /* [ebp] is in SS */
        expect(g, "2e8b00", "r2000+4"); /* cs: */
        g->regs.rbx = 0xffff;
        g->regs.rsi = 0x1003;
        expect(g, "678b00", "r2+4"); /* [bx+si] wraps at 64 KiB */

        tiny_real(g);
        g->regs.rsi = 0x10005;
        expect(g, "8a04", "r20005+1"); /* [si] in DS */
        expect(g, "268a04", "r20005+1");
        expect(g, "678a06", "r30005+1");   /* [esi] */
        expect(g, "3e8a4600", "r20000+1"); /* ds:[bp] */
        expect(g, "8a4600", "r10000+1");   /* [bp] in SS */
}

static void test_strings(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rsi = 0x100000;
        g->regs.rdi = 0x200000;
        expect(g, "a4", "r100000+1 w200000+1");   /* movsb */
        expect(g, "48a5", "r100000+8 w200000+8"); /* movsq */
        expect(g, "a7", "r100000+4 r200000+4");   /* cmpsd */
        expect(g, "ab", "w200000+4");             /* stosd */
        expect(g, "ad", "r100000+4");             /* lodsd */
        expect(g, "ae", "r200000+1");             /* scasb */
        expect(g, "6c", "w200000+1");             /* insb */
        expect(g, "6d", "w200000+4");             /* insd */
        expect(g, "6e", "r100000+1");             /* outsb */
        expect(g, "f3a4", "");                    /* rep with RCX 0 */
        expect(g, "f2ae", "");                    /* repne scasb */
        g->regs.rcx = 5;
        expect(g, "f348a5", "r100000+8 w200000+8"); /* one element of rep movsq */
        g->regs.rflags |= 1 << 10;
        /* DF changes where the next element is, not this one */
        expect(g, "f3a4", "r100000+1 w200000+1");
        g->sregs.fs.base = 0x1000;
        expect(g, "64a4", "r101000+1 w200000+1"); /* only the source can be overridden */
        g->regs.rcx = 0x100000000;
        expect(g, "67f3a4", ""); /* ECX is 0 */

        tiny_flat32(g);
        g->sregs.es.base = 0x1000;
        g->regs.rsi = 0x10100;
        g->regs.rdi = 0x10200;
        expect(g, "a4", "r10100+1 w11200+1");
        expect(g, "67a4", "r100+1 w1200+1"); /* SI and DI */
}

static void test_stack(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = 0x100000;
        g->regs.rbp = 0x30000;
        expect(g, "50", "w1fff8+8");                /* push rax */
        expect(g, "6650", "w1fffe+2");              /* push ax */
        expect(g, "ff30", "r100000+8 w1fff8+8");    /* push [rax] */
        expect(g, "6a01", "w1fff8+8");              /* push 1 */
        expect(g, "0fa0", "w1fff8+8");              /* push fs */
        expect(g, "58", "r20000+8");                /* pop rax */
        expect(g, "8f00", "r20000+8 w100000+8");    /* pop [rax] */
        expect(g, "8f0424", "r20000+8 w20008+8");   /* pop [rsp]: RSP after the pop */
        expect(g, "ff3424", "r20000+8 w1fff8+8");   /* push [rsp]: RSP before the push */
        expect(g, "9c", "w1fff8+8");                /* pushfq */
        expect(g, "9d", "r20000+8");                /* popfq */
        expect(g, "e800000000", "w1fff8+8");        /* call */
        expect(g, "ff10", "r100000+8 w1fff8+8");    /* call [rax] */
        expect(g, "c3", "r20000+8");                /* ret */
        expect(g, "c21000", "r20000+8");            /* ret 16 */
        expect(g, "c9", "r30000+8");                /* leave */
        expect(g, "c8100000", "w1fff8+8 w1ffe8+8"); /* enter 16, 0 */
        /* enter 16, 3 */
        expect(g, "c8100003", "w1fff8+8 r2fff8+8 w1fff0+8 r2fff0+8 w1ffe8+8 w1ffe0+8 w1ffd0+8");

        tiny_flat32(g);
        g->sregs.ss.base = 0x1000;
        expect(g, "50", "w20ffc+4");
        /* pushad  */
        expect(g, "60", "w20ffc+4 w20ff8+4 w20ff4+4 w20ff0+4 w20fec+4 w20fe8+4 w20fe4+4 w20fe0+4");
        /* popad  */
        expect(g, "61", "r21000+4 r21004+4 r21008+4 r2100c+4 r21010+4 r21014+4 r21018+4 r2101c+4");
        /* pusha  */
        expect(g, "6660",
               "w20ffe+2 w20ffc+2 w20ffa+2 w20ff8+2 w20ff6+2 w20ff4+2 w20ff2+2 w20ff0+2");
        expect(g, "1e", "w20ffc+4"); /* push ds */
        g->sregs.ss.db = 0;
        g->regs.rsp = 0x12340002;
        expect(g, "50", "w10ffe+4"); /* a 16-bit stack wraps */

        tiny_real(g);
        expect(g, "50", "w17ffe+2");
        expect(g, "6650", "w17ffc+4");
        expect(g, "60", "w17ffe+2 w17ffc+2 w17ffa+2 w17ff8+2 w17ff6+2 w17ff4+2 w17ff2+2 w17ff0+2");
        expect(g, "c3", "r18000+2");
}

static void test_tables(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = 0x100000;
        expect(g, "0f0110", "r100000+10"); /* lgdt */
        expect(g, "0f0118", "r100000+10"); /* lidt */
        expect(g, "0f0100", "w100000+10"); /* sgdt */
        expect(g, "0f0108", "w100000+10"); /* sidt */
        expect(g, "0f0000", "w100000+2");  /* sldt */
        expect(g, "0f0120", "w100000+2");  /* smsw */

        tiny_flat32(g);
        g->regs.rax = 0x100000;
        expect(g, "0f0110", "r100000+6");
        g->sregs.es.base = 0x1000; /* movdir64b eax, [edx] writes to ES */
        g->regs.rdx = 0x300000;
        expect(g, "660f38f802", "r300000+64 w101000+64");
        expect(g, "0f0108", "w100000+6");
}

static void test_ports(void **state) {
        struct tiny_guest *g = *state;

        tiny_user(g);
        g->regs.rdi = 0x100000;
        g->regs.rdx = 0x3f8;
        g->sregs.tr.limit = 0x2000;
        g->ram[TINY_TSS + 102] = 0x68;
        expect(g, "6c", "Ra066+2 Ra0e7+2 w100000+1"); /* insb asks the bitmap */
        expect(g, "e460", "Ra066+2 Ra074+2");         /* in al, 0x60 */
        expect(g, "ee", "Ra066+2 Ra0e7+2");           /* out dx, al */
        g->regs.rflags |= 3 << 12;
        expect(g, "6c", "w100000+1"); /* IOPL allows */
        g->regs.rflags &= ~(3ull << 12);
        g->sregs.tr.limit = 0x67;
        expect_result(g, "6c", INSN_STOP, "Ra066+2");
}

/* An answer of the callback ends the visit. */
static int stop_at_write(void *userdata, const struct insn_access *a) {
        ++*(unsigned *) userdata;
        return a->type == INSN_WRITE ? 42 : 0;
}

static void test_callback_stops(void **state) {
        struct tiny_guest *g = *state;
        unsigned n = 0;
        struct insn_cpu cpu = { .regs = &g->regs, .sregs = &g->sregs };
        struct insn_env env = { .access = stop_at_write, .userdata = &n };
        const uint8_t bytes[] = { 0xc8, 0x10, 0, 3 };

        tiny_long(g);
        assert_int_equal(insn_visit(&cpu, bytes, sizeof(bytes), &env), 42);
        assert_int_equal(n, 1);
}

static void expect_step(struct tiny_guest *g, const char *hex, enum insn_kind kind,
                        uint64_t flags_gva) {
        struct insn_cpu cpu = { .regs = &g->regs, .sregs = &g->sregs };
        uint8_t bytes[INSN_MAX_LENGTH] = { 0 };
        struct insn_step s = insn_step(&cpu, bytes, from_hex(hex, bytes));

        if (s.kind != kind || s.flags_gva != flags_gva)
                fail_msg("%s: kind %d, flags at %llx", hex, s.kind,
                         (unsigned long long) s.flags_gva);
}

static void test_step(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        expect_step(g, "50", INSN_KIND_PLAIN, 0);
        expect_step(g, "9c", INSN_KIND_STORES_FLAGS, 0x1fff8);
        expect_step(g, "669c", INSN_KIND_STORES_FLAGS, 0x1fffe);
        expect_step(g, "9d", INSN_KIND_LOADS_FLAGS, 0x20000);
        expect_step(g, "cf", INSN_KIND_LOADS_FLAGS, 0x20008);
        expect_step(g, "48cf", INSN_KIND_LOADS_FLAGS, 0x20010);
        expect_step(g, "4acf", INSN_KIND_LOADS_FLAGS, 0x20010);
        expect_step(g, "66cf", INSN_KIND_LOADS_FLAGS, 0x20004);
        expect_step(g, "2e66cf", INSN_KIND_LOADS_FLAGS, 0x20004);
        expect_step(g, "8e10", INSN_KIND_UNTRAPPED, 0); /* mov ss, [rax] */
        expect_step(g, "0f05", INSN_KIND_UNTRAPPED, 0); /* syscall */
        expect_step(g, "cc", INSN_KIND_INTERRUPT, 0);
        expect_step(g, "60", INSN_KIND_UNKNOWN, 0);
        expect_step(g, "", INSN_KIND_UNKNOWN, 0);

        tiny_flat32(g);
        g->sregs.ss.base = 0x1000;
        expect_step(g, "9c", INSN_KIND_STORES_FLAGS, 0x20ffc);
        expect_step(g, "cf", INSN_KIND_LOADS_FLAGS, 0x21008);
        g->sregs.ss.db = 0;
        g->regs.rsp = 0x12340002;
        expect_step(g, "9c", INSN_KIND_STORES_FLAGS, 0x10ffe); /* a 16-bit stack wraps */
        g->regs.rsp = 0xfffc;
        expect_step(g, "cf", INSN_KIND_LOADS_FLAGS, 0x1004);

        tiny_real(g);
        expect_step(g, "9c", INSN_KIND_STORES_FLAGS, 0x17ffe);
        expect_step(g, "669d", INSN_KIND_LOADS_FLAGS, 0x18000);
        expect_step(g, "cf", INSN_KIND_LOADS_FLAGS, 0x18004);
}

static void test_undecodable(void **state) {
        struct tiny_guest *g = *state;
        struct insn_cpu cpu = { .regs = &g->regs, .sregs = &g->sregs };
        struct insn_env env = { 0 };
        uint8_t bytes[INSN_MAX_LENGTH] = { 0 };

        tiny_long(g);
        memset(bytes, 0x66, sizeof(bytes));
        assert_int_equal(insn_length(&cpu, bytes, 14), 0);
        assert_int_equal(insn_length(&cpu, bytes, 15), -EBADMSG);
        assert_int_equal(insn_visit(&cpu, bytes, 15, &env), -EBADMSG);
        bytes[0] = 0x60; /* pushad is no instruction in 64-bit mode */
        assert_int_equal(insn_length(&cpu, bytes, 15), -EBADMSG);
        assert_int_equal(insn_length(&cpu, bytes, 0), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_operands),
                cmocka_unit_test(test_bit_strings),
                cmocka_unit_test(test_segments_and_widths),
                cmocka_unit_test(test_strings),
                cmocka_unit_test(test_stack),
                cmocka_unit_test(test_tables),
                cmocka_unit_test(test_ports),
                cmocka_unit_test(test_callback_stops),
                cmocka_unit_test(test_step),
                cmocka_unit_test(test_undecodable),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("insn", tests, insn_side_setup, insn_side_teardown);
}
