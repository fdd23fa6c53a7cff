/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Descriptors, gates, other levels' stacks: what far transfers, interrupts and segment loads touch.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/insn-side.h"
#include "util/util.h"

static void test_segment_loads(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = TINY_SS;
        expect(g, "8ed8", "R8018+8"); /* mov ds, ax: the accessed bit is set already */
        g->regs.rax = TINY_FRESH;
        expect(g, "8ed8", "R8058+8 W805d+1"); /* mov ds, ax: it is clear */
        g->regs.rax = TINY_FRESH | 3;
        expect(g, "8ee8", "R8058+8 W805d+1"); /* mov gs, ax */
        g->regs.rax = TINY_LDT_DATA;
        expect(g, "8ed8", "Rb008+8 Wb00d+1"); /* in the LDT */
        g->regs.rax = 0;
        expect(g, "8ed8", ""); /* a null selector */
        g->regs.rax = 3;
        expect(g, "8ed8", "");
        g->regs.rax = 0x100000;
        tiny_put64(g, 0x100000, TINY_FRESH);
        tiny_put64(g, 0x100008, TINY_FRESH);
        expect(g, "8e18", "r100000+2 R8058+8 W805d+1"); /* mov ds, [rax] */
        expect(g, "0fb408", "r100000+6"); /* lfs ecx, [rax]: offset first, a null selector */
        tiny_put64(g, 0x100002, TINY_FRESH);
        expect(g, "660fb408", "r100000+4 R8058+8 W805d+1"); /* lfs cx, [rax] */
        tiny_put64(g, TINY_STACK, TINY_FRESH);
        expect(g, "0fa1", "r20000+8 R8058+8 W805d+1"); /* pop fs */
        g->regs.rax = TINY_LDTR;
        expect(g, "0f00d0", "R8048+8 R8050+8"); /* lldt ax: 16 bytes in long mode */
        g->regs.rax = TINY_TR;
        expect(g, "0f00d8", "R8038+8 R8040+8 W803d+1"); /* ltr ax */
        g->regs.rax = TINY_FRESH;
        expect(g, "0f00e0", "R8058+8"); /* verr ax: the accessed bit stays */
        expect(g, "0f02c8", "R8058+8"); /* lar ecx, eax */
        expect(g, "0f03c8", "R8058+8"); /* lsl ecx, eax */
        g->regs.rax = 0x2000;
        expect(g, "0f00e0", ""); /* beyond the table */
        expect_result(g, "8ed8", INSN_STOP, "");

        /* The table ends behind the descriptor, and within it. */
        g->regs.rax = TINY_FRESH;
        g->sregs.gdt.limit = TINY_FRESH + 7;
        expect(g, "8ed8", "R8058+8 W805d+1");
        g->sregs.gdt.limit = TINY_FRESH + 6;
        expect_result(g, "8ed8", INSN_STOP, "");
        g->sregs.gdt.limit = 0x7f;
        g->regs.rax = TINY_LDT_DATA;
        g->sregs.ldt.unusable = 1;
        expect_result(g, "8ed8", INSN_STOP, "");

        /* Descriptors that are of the wrong kind or not present */
        g->regs.rax = TINY_SS;
        expect_result(g, "0f00d0", INSN_STOP, "R8018+8");
        g->regs.rax = TINY_TR;
        expect_result(g, "8ed8", INSN_STOP, "R8038+8");
        g->ram[TINY_GDT + TINY_TR + 5] &= 0x7f;
        expect_result(g, "0f00d8", INSN_STOP, "R8038+8");
        g->regs.rax = TINY_FRESH;
        g->ram[TINY_GDT + TINY_FRESH + 5] &= 0x7f;
        expect_result(g, "8ed8", INSN_STOP, "R8058+8");

        tiny_flat32(g);
        g->regs.rax = 0x100000;
        tiny_put64(g, 0x100004, TINY_FRESH);
        expect(g, "c508", "r100000+6 R8058+8 W805d+1"); /* lds ecx, [eax] */
        g->regs.rax = TINY_TR;
        expect(g, "0f00d8", "R8038+8 W803d+1");

        tiny_real(g);
        g->regs.rax = TINY_FRESH;
        expect(g, "8ed8", ""); /* real mode has no descriptors */
}

static void test_far_transfers(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = 0x100000;
        tiny_put64(g, 0x100000, (uint64_t) TINY_CS64 << 32 | 0x4000);
        expect(g, "ff28", "r100000+6 R8008+8");                   /* jmp far [rax] */
        expect(g, "ff18", "r100000+6 R8008+8 w1fffc+4 w1fff8+4"); /* call far [rax] */
        tiny_put64(g, 0x100008, TINY_CS64);
        expect(g, "48ff18", "r100000+10 R8008+8 w1fff8+8 w1fff0+8"); /* with a 64-bit offset */
        tiny_put64(g, 0x100000, (uint64_t) TINY_GATE << 32);
        /* through a call gate */
        expect(g, "ff18", "r100000+6 R8060+8 R8068+8 R8008+8 w1fff8+8 w1fff0+8");
        expect(g, "ff28", "r100000+6 R8060+8 R8068+8 R8008+8"); /* jmp pushes nothing */
        tiny_put64(g, TINY_STACK + 8, TINY_CS64);
        expect(g, "48cb", "r20000+8 r20008+8 R8008+8"); /* retfq */
        tiny_put64(g, TINY_STACK + 8, TINY_USER_CS64);
        tiny_put64(g, TINY_STACK + 24, TINY_USER_SS);
        expect(g, "48cb", "r20000+8 r20008+8 R8028+8 r20010+8 r20018+8 R8020+8"); /* to user mode */
        tiny_put64(g, TINY_STACK + 40, TINY_USER_SS);
        expect(g, "48ca1000", "r20000+8 r20008+8 R8028+8 r20020+8 r20028+8 R8020+8"); /* retfq 16 */
        tiny_put64(g, TINY_STACK + 8, TINY_CS64);
        tiny_put64(g, TINY_STACK + 32, TINY_SS);
        /* iretq */
        expect(g, "48cf", "r20000+8 r20008+8 r20010+8 r20018+8 r20020+8 R8008+8 R8018+8");
        tiny_put64(g, TINY_STACK + 32, 0);
        /* iretq with a null SS */
        expect(g, "48cf", "r20000+8 r20008+8 r20010+8 r20018+8 r20020+8 R8008+8");

        tiny_user(g);
        g->regs.rax = 0x100000;
        tiny_put64(g, 0x100000, (uint64_t) TINY_GATE << 32);
        /* to an inner level */
        expect(g, "ff18",
               "r100000+6 R8060+8 R8068+8 R8008+8 Ra004+8 w27ff8+8 w27ff0+8 w27fe8+8 w27fe0+8");

        tiny_flat32(g);
        expect(g, "9a004000001000", "R8010+8 w1fffc+4 w1fff8+4"); /* call 0x10:0x4000 */
        expect(g, "ea004000001000", "R8010+8");                   /* jmp 0x10:0x4000 */
        tiny_put64(g, TINY_STACK, (uint64_t) TINY_CS32 << 32);
        expect(g, "cb", "r20000+4 r20004+4 R8010+8");          /* retf */
        expect(g, "cf", "r20000+4 r20004+4 r20008+4 R8010+8"); /* iretd */
        tiny_put64(g, TINY_STACK, (uint64_t) TINY_USER_CS32 << 32);
        tiny_put64(g, TINY_STACK + 16, TINY_USER_SS);
        /* to user mode */
        expect(g, "cf", "r20000+4 r20004+4 r20008+4 R8030+8 r2000c+4 r20010+4 R8020+8");
        tiny_put64(g, TINY_STACK + 8, 1 << 17);
        /* to virtual-8086 mode */
        expect(g, "cf",
               "r20000+4 r20004+4 r20008+4 r2000c+4 r20010+4 r20014+4 r20018+4 r2001c+4 r20020+4");

        tiny_user32(g);
        /* two parameters are copied */
        expect(g, "9a000000006000",
               "R8060+8 R8010+8 Ra004+4 Ra008+2 R8018+8 r20000+4 r20004+4 w27ffc+4 w27ff8+4 "
               "w27ff4+4 w27ff0+4 w27fec+4 w27fe8+4");

        tiny_real(g);
        expect(g, "cf", "r18000+2 r18002+2 r18004+2"); /* iret */
        expect(g, "9a00400010", "w17ffe+2 w17ffc+2");  /* call far */
        expect(g, "cb", "r18000+2 r18002+2");
}

static void test_interrupts(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        /* int 0x80 */
        expect(g, "cd80", "R9800+16 R8008+8 w1fff8+8 w1fff0+8 w1ffe8+8 w1ffe0+8 w1ffd8+8");
        expect(g, "cc", "R9030+16 R8008+8 w1fff8+8 w1fff0+8 w1ffe8+8 w1ffe0+8 w1ffd8+8"); /* int3 */
        expect(g, "f1", "R9010+16 R8008+8 w1fff8+8 w1fff0+8 w1ffe8+8 w1ffe0+8 w1ffd8+8"); /* int1 */
        /* on an interrupt stack */
        expect(g, "cd11", "R9110+16 R8008+8 Ra024+8 w2bff8+8 w2bff0+8 w2bfe8+8 w2bfe0+8 w2bfd8+8");
        g->regs.rsp = 0x1fffc;
        /* the stack is aligned */
        expect(g, "cc", "R9030+16 R8008+8 w1ffe8+8 w1ffe0+8 w1ffd8+8 w1ffd0+8 w1ffc8+8");
        tiny_put64(g, TINY_GDT + TINY_CS64, 0x00af9a000000ffffull);
        /* accessed bit of CS */
        expect(g, "cc", "R9030+16 R8008+8 W800d+1 w1ffe8+8 w1ffe0+8 w1ffd8+8 w1ffd0+8 w1ffc8+8");
        tiny_put64(g, TINY_IDT + 0x30, 0);
        expect_result(g, "cc", INSN_STOP, "R9030+16");
        g->sregs.idt.limit = 0x2f;
        expect_result(g, "cc", INSN_STOP, "");

        tiny_user(g);
        /* to the inner stack */
        expect(g, "cd80", "R9800+16 R8008+8 Ra004+8 w27ff8+8 w27ff0+8 w27fe8+8 w27fe0+8 w27fd8+8");

        tiny_flat32(g);
        expect(g, "cd80", "R9400+8 R8010+8 w1fffc+4 w1fff8+4 w1fff4+4");
        expect(g, "ce", ""); /* into without OF */
        g->regs.rflags |= 1 << 11;
        expect(g, "ce", "R9020+8 R8010+8 w1fffc+4 w1fff8+4 w1fff4+4"); /* into with OF */
        g->regs.rax = 0x100000;
        expect(g, "6208", "r100000+8"); /* bound reads its two limits */

        tiny_user32(g);
        expect(g, "cd80",
               "R9400+8 R8010+8 Ra004+4 Ra008+2 R8018+8 w27ffc+4 w27ff8+4 w27ff4+4 w27ff0+4 "
               "w27fec+4");

        tiny_real(g);
        expect(g, "cd10", "R40+4 w17ffe+2 w17ffc+2 w17ffa+2");

        tiny_user32(g);
        g->sregs.cs.db = 0;
        g->sregs.ss.db = 0;
        g->sregs.cs.base = TINY_CODE;
        g->regs.rip = 0;
        g->regs.rsp = 0x8000;
        g->sregs.ss.base = TINY_CODE;
        g->regs.rflags |= 1 << 17;
        /* from virtual-8086 mode */
        expect(g, "cd80",
               "R9400+8 R8010+8 Ra004+4 Ra008+2 R8018+8 w27ffc+4 w27ff8+4 w27ff4+4 w27ff0+4 "
               "w27fec+4 w27fe8+4 w27fe4+4 w27fe0+4 w27fdc+4");
        g->sregs.cr4 |= 1;
        g->sregs.tr.limit = 0x3ff;
        g->ram[TINY_TSS + 102] = 0x88;
        expect(g, "cd80", "Ra066+2 Ra078+1 R200+4 w17ffe+2 w17ffc+2 w17ffa+2"); /* redirected */
        g->ram[TINY_TSS + 0x78] = 1;
        /* not redirected */
        expect(g, "cd80",
               "Ra066+2 Ra078+1 R9400+8 R8010+8 Ra004+4 Ra008+2 R8018+8 w27ffc+4 w27ff8+4 "
               "w27ff4+4 w27ff0+4 w27fec+4 w27fe8+4 w27fe4+4 w27fe0+4 w27fdc+4");
}

static void test_inner_stacks(void **state) {
        struct tiny_guest *g = *state;

        /* A handler at CPL 1 takes RSP1. */
        tiny_user(g);
        tiny_put64(g, TINY_GDT + TINY_CS64, 0x00afbb000000ffffull);
        tiny_put64(g, TINY_TSS + 12, TINY_RSP0);
        expect(g, "cc", "R9030+16 R8008+8 Ra00c+8 w27ff8+8 w27ff0+8 w27fe8+8 w27fe0+8 w27fd8+8");
        g->sregs.tr.limit = 18;
        expect_result(g, "cc", INSN_STOP, "R9030+16 R8008+8");

        /* 32-bit and 16-bit TSS: SS:ESP1 and SS:SP1, and where they end */
        tiny_user32(g);
        tiny_put64(g, TINY_GDT + TINY_CS32, 0x00cfbb000000ffffull);
        tiny_put64(g, TINY_TSS + 12, (uint64_t) TINY_SS << 32 | TINY_RSP0);
        g->sregs.tr.limit = 17;
        expect(g, "cc",
               "R9018+8 R8010+8 Ra00c+4 Ra010+2 R8018+8 w27ffc+4 w27ff8+4 w27ff4+4 w27ff0+4 "
               "w27fec+4");
        g->sregs.tr.limit = 16;
        expect_result(g, "cc", INSN_STOP, "R9018+8 R8010+8");
        g->sregs.tr.type = 3;
        g->sregs.tr.limit = 9;
        tiny_put64(g, TINY_TSS + 6, (uint64_t) TINY_SS << 16 | 0x8000);
        tiny_put64(g, TINY_IDT + 3 * 8, 0x0000e60000000000ull | TINY_CS32 << 16);
        expect(g, "cc",
               "R9018+8 R8010+8 Ra006+2 Ra008+2 R8018+8 w7ffe+2 w7ffc+2 w7ffa+2 w7ff8+2 w7ff6+2");
        /* A call gate of 16 bits pushes 16 bits. */
        tiny_flat32(g);
        tiny_put64(g, TINY_GDT + TINY_GATE, 0x0000e40000000000ull | TINY_CS32 << 16);
        expect(g, "9a000000006000", "R8060+8 R8010+8 w1fffe+2 w1fffc+2");

        /* The last gate that the IDT has */
        tiny_flat32(g);
        g->sregs.idt.limit = 0x1f;
        expect(g, "cc", "R9018+8 R8010+8 w1fffc+4 w1fff8+4 w1fff4+4");
        g->sregs.idt.limit = 0x1e;
        expect_result(g, "cc", INSN_STOP, "");
        tiny_long(g);
        g->sregs.idt.limit = 0x3f;
        expect(g, "cc", "R9030+16 R8008+8 w1fff8+8 w1fff0+8 w1ffe8+8 w1ffe0+8 w1ffd8+8");
        g->sregs.idt.limit = 0x3e;
        expect_result(g, "cc", INSN_STOP, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_segment_loads),
                cmocka_unit_test(test_far_transfers),
                cmocka_unit_test(test_interrupts),
                cmocka_unit_test(test_inner_stacks),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("insn-far", tests, insn_side_setup, insn_side_teardown);
}
