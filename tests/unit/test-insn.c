/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which memory an instruction touches, class by class and mode by mode. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "util/util.h"
#include "vtl/insn-far.h"
#include "vtl/insn.h"

#include "tiny-guest.h"

/* What was visited, as text: r read, w write, R and W with supervisor rights; address+size. */
struct record {
        struct tiny_guest *guest;
        char text[4096];
};

static int record_access(void *userdata, const struct insn_access *a) {
        struct record *rec = userdata;
        size_t at = strlen(rec->text);
        const char *names = a->implicit ? "RW" : "rw";

        snprintf(rec->text + at, sizeof(rec->text) - at, "%s%c%llx+%u", at ? " " : "",
                 names[a->type == INSN_WRITE], (unsigned long long) a->gva, a->size);
        return 0;
}

static int record_read(void *userdata, uint64_t gva, void *buf, uint32_t len, bool implicit) {
        struct record *rec = userdata;

        return tiny_read(rec->guest, gva, buf, len) ? INSN_STOP : 0;
}

static size_t from_hex(const char *hex, uint8_t bytes[INSN_MAX_LENGTH]) {
        size_t n = 0;

        for (; hex[n * 2]; n++) {
                char byte[3] = { hex[n * 2], hex[n * 2 + 1], 0 };

                bytes[n] = strtoul(byte, NULL, 16);
        }
        return n;
}

static int visit(struct tiny_guest *g, const char *hex, struct record *rec) {
        struct insn_cpu cpu = {
                .regs = &g->regs,
                .sregs = &g->sregs,
                .vectors = g->have_vectors ? &g->vectors : NULL,
        };
        struct insn_env env = { record_access, record_read, rec };
        uint8_t bytes[INSN_MAX_LENGTH] = { 0 };
        size_t n = from_hex(hex, bytes);

        *rec = (struct record){ .guest = g };
        if (insn_length(&cpu, bytes, n) != (int) n)
                fail_msg("%s: length %d", hex, insn_length(&cpu, bytes, n));
        for (size_t i = 0; i < n; i++)
                if (insn_length(&cpu, bytes, i) != 0)
                        fail_msg("%s: complete after %zu bytes", hex, i);
        return insn_visit(&cpu, bytes, n, &env);
}

static void expect_result(struct tiny_guest *g, const char *hex, int result, const char *want) {
        struct record rec;
        int r;

        r = visit(g, hex, &rec);
        if (r != result || strcmp(rec.text, want))
                fail_msg("%s: got %d \"%s\", want %d \"%s\"", hex, r, rec.text, result, want);
}

static void expect(struct tiny_guest *g, const char *hex, const char *want) {
        expect_result(g, hex, 0, want);
}

/* The guest of a test; too large for the stack. */
static int setup(void **state) {
        *state = malloc(sizeof(struct tiny_guest));
        return *state ? 0 : -1;
}

static int teardown(void **state) {
        free(*state);
        return 0;
}

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

static void test_fpu_and_state(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = 0x100000;
        expect(g, "d900", "r100000+4");  /* fld dword */
        expect(g, "dd18", "w100000+8");  /* fstp qword */
        expect(g, "db28", "r100000+10"); /* fld tbyte */
        expect(g, "df30", "w100000+10"); /* fbstp */
        expect(g, "d930", "w100000+28"); /* fnstenv */
        expect(g, "d920", "r100000+28"); /* fldenv */
        expect(g, "66d930", "w100000+14");
        expect(g, "dd30", "w100000+108");   /* fnsave */
        expect(g, "dd20", "r100000+108");   /* frstor */
        expect(g, "d928", "r100000+2");     /* fldcw */
        expect(g, "0fae00", "w100000+512"); /* fxsave */
        expect(g, "0fae08", "r100000+512"); /* fxrstor */
        expect(g, "0fae18", "w100000+4");   /* stmxcsr */
        g->regs.rax = 0x100000;
        g->regs.rdx = 0;
        /* EAX is both the address and the mask of components: x87 and SSE, then AVX, then more. */
        g->regs.rbx = 0x200000;
        g->regs.rax = 3;
        expect(g, "0fae23", "w200000+576"); /* xsave [rbx] */
        g->regs.rax = 7;
        expect(g, "0fae23", "w200000+576 w200240+256");
        expect(g, "0fae2b", "r200000+576 r200240+256"); /* xrstor */
        g->regs.rax = 0xe7;
        expect(g, "0fae23", "w200000+576 w200240+2120");
        expect(g, "0fc723", "w200000+576 w200240+2120"); /* xsavec */
        g->regs.rax = 3;
        g->regs.rdx = 0x200;
        expect(g, "0fae23", "w200000+576 w200240+2120"); /* a high component */
}

static void test_sse_and_avx(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = 0x100000;
        g->regs.rdi = 0x200000;
        expect(g, "0f1000", "r100000+16");   /* movups xmm0, [rax] */
        expect(g, "f20f1100", "w100000+8");  /* movsd [rax], xmm0 */
        expect(g, "f30f1000", "r100000+4");  /* movss */
        expect(g, "660fe700", "w100000+16"); /* movntdq */
        expect(g, "c5fe6f00", "r100000+32"); /* vmovdqu ymm0, [rax] */
        expect(g, "c5fd1100", "w100000+32");
        expect(g, "62f17c481100", "w100000+64"); /* vmovups [rax], zmm0 */
        expect(g, "0f6f00", "r100000+8");        /* movq mm0, [rax] */
        expect(g, "0ff7c1", "w200000+8");        /* maskmovq mm0, mm1 */
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

static void set_dword(struct tiny_guest *g, unsigned reg, unsigned i, uint32_t v) {
        memcpy(&g->vectors.reg[reg][i * 4], &v, sizeof(v));
}

static void set_qword(struct tiny_guest *g, unsigned reg, unsigned i, uint64_t v) {
        memcpy(&g->vectors.reg[reg][i * 8], &v, sizeof(v));
}

static void test_vectors(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = 0x100000;
        g->regs.rdi = 0x200000;
        expect_result(g, "c4e269900488", -ENODATA, "");

        g->have_vectors = true;
        for (unsigned i = 0; i < 4; i++) {
                set_dword(g, 1, i, i * 0x100 - 0x100);
                set_dword(g, 2, i, i == 2 ? 0 : 0x80000000);
                set_dword(g, 2, i + 4, 0x80000000); /* beyond the register that is used */
        }
        /* vpgatherdd xmm0, [rax+xmm1*4], xmm2 */
        /* vpgatherdq xmm0, [rax+xmm1*4], xmm2: two elements, selected by bits 63 and 127 */
        expect(g, "c4e269900488", "rffc00+4 r100000+4 r100800+4");
        expect(g, "c4e2e9900488", "rffc00+8 r100000+8");
        /* vgatherdps, vgatherdpd: the same */
        expect(g, "c4e269920488", "rffc00+4 r100000+4 r100800+4");
        expect(g, "c4e2e9920488", "rffc00+8 r100000+8");
        set_qword(g, 1, 0, 0x10);
        set_qword(g, 1, 1, -0x10ll);
        /* vpgatherqq xmm0, [rax+xmm1*8], xmm2 */
        expect(g, "c4e2e99104c8", "r100080+8 rfff80+8"); /* vpgatherqd xmm0, [rax+xmm1*8], xmm2 */
        expect(g, "c4e2699104c8", "r100080+4 rfff80+4");
        /* vgatherqpd, vgatherqps */
        expect(g, "c4e2e99304c8", "r100080+8 rfff80+8");
        expect(g, "c4e2699304c8", "r100080+4 rfff80+4");

        g->vectors.k[1] = 0x8001;
        for (unsigned i = 0; i < 16; i++)
                set_dword(g, 1, i, i);
        /* vpgatherdd zmm0{k1}, [rax+zmm1*8], vpscatterdd */
        expect(g, "62f27d499004c8", "r100000+4 r100078+4");
        expect(g, "62f27d49a004c8", "w100000+4 w100078+4"); /* vmovups [rax]{k1}, zmm0 and back */
        expect(g, "62f17c491100", "w100000+4 w10003c+4");
        /* vpcompressd [rax]{k1}, zmm0: as many elements as bits, in a row */
        expect(g, "62f17c491000", "r100000+4 r10003c+4");
        expect(g, "62f27d498b00", "w100000+8");           /* vpmovzxbd zmm0{k1}, [rax] */
        expect(g, "62f27d493100", "r100000+1 r10000f+1"); /* vaddps zmm0{k1}, zmm0, [rax]{1to16} */
        expect(g, "62f17c595800", "r100000+4");
        g->vectors.k[1] = 0;
        expect(g, "62f17c595800", "");
        /* vmaskmovps xmm0, xmm2, [rax] and back; maskmovdqu xmm0, xmm2 */
        expect(g, "62f17c491100", "");
        set_dword(g, 2, 2, 0);
        set_dword(g, 2, 3, 0);
        expect(g, "c4e2692c00", "r100000+4 r100004+4");
        expect(g, "c4e2692e00", "w100000+4 w100004+4");
        expect(g, "660ff7c2", "w200003+1 w200007+1");
}

static void test_xsave_image(void **state) {
        const uint32_t offsets[3] = { 832, 896, 1408 };
        struct insn_vectors v;
        uint8_t image[2432] = { 0 };

        for (unsigned i = 0; i < 16; i++) {
                memset(image + 160 + i * 16, 0x10 + i, 16);
                memset(image + 576 + i * 16, 0x20 + i, 16);
                memset(image + 896 + i * 32, 0x30 + i, 32);
                memset(image + 1408 + i * 64, 0x40 + i, 64);
        }
        for (unsigned i = 0; i < 8; i++)
                memset(image + 832 + i * 8, i, 8);
        image[512] = 0xe7;
        insn_vectors_from_xsave(&v, image, sizeof(image), offsets);
        assert_int_equal(v.reg[0][0], 0x10);
        assert_int_equal(v.reg[15][15], 0x1f);
        assert_int_equal(v.reg[1][16], 0x21);
        assert_int_equal(v.reg[15][31], 0x2f);
        assert_int_equal(v.reg[2][32], 0x32);
        assert_int_equal(v.reg[2][63], 0x32);
        assert_int_equal(v.reg[16][0], 0x40);
        assert_int_equal(v.reg[31][63], 0x4f);
        assert_int_equal(v.k[7], 0x0707070707070707);

        /* Without AVX-512, and with AVX in its initial state */
        image[512] = 3;
        insn_vectors_from_xsave(&v, image, 832, (uint32_t[3]){ 0 });
        assert_int_equal(v.reg[1][15], 0x11);
        assert_int_equal(v.reg[1][16], 0);
        assert_int_equal(v.reg[16][0], 0);
        assert_int_equal(v.k[7], 0);
        insn_vectors_from_xsave(&v, image, 576, offsets);
        assert_int_equal(v.reg[15][15], 0x1f);
        insn_vectors_from_xsave(&v, image, 100, offsets);
        assert_int_equal(v.reg[0][0], 0);
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
                cmocka_unit_test(test_fpu_and_state),
                cmocka_unit_test(test_sse_and_avx),
                cmocka_unit_test(test_tables),
                cmocka_unit_test(test_segment_loads),
                cmocka_unit_test(test_far_transfers),
                cmocka_unit_test(test_interrupts),
                cmocka_unit_test(test_inner_stacks),
                cmocka_unit_test(test_ports),
                cmocka_unit_test(test_vectors),
                cmocka_unit_test(test_xsave_image),
                cmocka_unit_test(test_callback_stops),
                cmocka_unit_test(test_undecodable),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("insn", tests, setup, teardown);
}
