/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Does the search of forbidden accesses see what the CPU does?  On real KVM with precise faults,
 * each instruction runs in a guest all of whose pages are closed; what fault_find() reports is
 * opened, and nothing else, until the instruction is done.  So no access can be missed.  Then each
 * page that was reported is closed alone: KVM must fault, and the report must be the same.  So no
 * access can be made up.
 */

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/fault.h"

#define PORT 0x78
#define STEPS_MAX 96
#define DONE 1

enum case_event {
        NO_EVENT,
        INTERRUPT, /* vector 0x40 */
        NMI,
};

struct poke {
        uint64_t gpa, value;
};

struct fault_case {
        const char *name;
        void (*make)(struct tiny_guest *g);
        const char *code;
        uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp;
        uint64_t rip; /* added to TINY_CODE */
        struct poke pokes[4];
        uint64_t rflags;
        enum case_event event;
        unsigned needs; /* NEEDS_* */
};

#define NEEDS_XSAVE 1u
#define NEEDS_AVX2 2u

#define DATA TINY_DATA
#define DATA2 TINY_DATA2
#define NEXT 0x1000 /* one page on */

/* The accessed bit clear, and the dirty bit clear */
#define PTE_DATA (TINY_PT + 0x100 * 8)
#define FRESH_PTE (TINY_DATA | 0x07)
#define CLEAN_PTE (TINY_DATA | 0x27)

static void make_pae(struct tiny_guest *g) {
        tiny_flat32(g);
        tiny_tables64(g);
        tiny_put64(g, TINY_PDPT, TINY_PD | 1);
        g->sregs.cr0 |= 1ull << 31;
        g->sregs.cr3 = TINY_PDPT;
        g->sregs.cr4 = 0x20;
}

static void make_paging32(struct tiny_guest *g) {
        uint32_t pde = TINY_PT | 0x27;

        tiny_flat32(g);
        tiny_put(g, TINY_PD, &pde, sizeof(pde));
        for (uint32_t i = 0; i < TINY_PAGES; i++) {
                uint32_t pte = i << 12 | 0x67;

                tiny_put(g, TINY_PT + i * 4, &pte, sizeof(pte));
        }
        g->sregs.cr0 |= 1ull << 31;
        g->sregs.cr3 = TINY_PD;
}

static void make_large(struct tiny_guest *g) {
        tiny_long(g);
        tiny_put64(g, TINY_PD + 8, 0x200000 | 0xe7);
}

/* A fresh code segment for handlers */
static void make_fresh_cs(struct tiny_guest *g) {
        tiny_long(g);
        tiny_put64(g, TINY_GDT + TINY_CS64, 0x00af9a000000ffffull);
}

static void make_xsave(struct tiny_guest *g) {
        tiny_long(g);
        g->sregs.cr4 |= 0x40000;
}

static const struct fault_case cases[] = {
        { "mov load", tiny_long, "8b08", .rax = DATA },
        { "mov store", tiny_long, "8908", .rax = DATA },
        { "store sets A and D", tiny_long, "8908", .rax = DATA, .pokes = { { PTE_DATA, FRESH_PTE } } },
        { "store sets D", tiny_long, "8908", .rax = DATA, .pokes = { { PTE_DATA, CLEAN_PTE } } },
        { "load sets A", tiny_long, "8b08", .rax = DATA, .pokes = { { PTE_DATA, FRESH_PTE } } },
        { "large page", make_large, "8908", .rax = DATA2 },
        { "lock inc", tiny_long, "f0ff00", .rax = DATA },
        { "cmpxchg16b", tiny_long, "480fc708", .rax = DATA },
        { "straddling load", tiny_long, "488b08", .rax = DATA + 0xffc },
        { "straddling store", tiny_long, "488908", .rax = DATA + 0xffc },
        { "straddling inc", tiny_long, "48ff00", .rax = DATA + 0xffc },
        { "straddling fetch", tiny_long, "48b81111111111111111", .rip = 0xffa },
        { "movs", tiny_long, "48a5", .rsi = DATA, .rdi = DATA2 },
        { "rep movs over pages", tiny_long, "f348a5", .rsi = DATA + 0xff0, .rdi = DATA2 + 0xff8, .rcx = 4 },
        { "rep stos downwards", tiny_long, "fdf3aa", .rdi = DATA2 + 2, .rcx = 6 },
        { "cmps", tiny_long, "a7", .rsi = DATA, .rdi = DATA2 },
        { "scas", tiny_long, "ae", .rdi = DATA2 },
        { "lods", tiny_long, "ac", .rsi = DATA },
        { "xlat", tiny_long, "d7", .rbx = DATA + 0xff0, .rax = 0x20 },
        { "bts beyond the operand", tiny_long, "0fab08", .rax = DATA, .rcx = 0x8000 },
        { "bt with a negative index", tiny_long, "480fa308", .rax = DATA, .rcx = -1 },
        { "push", tiny_long, "50" },
        { "push memory", tiny_long, "ff30", .rax = DATA },
        { "pop memory", tiny_long, "8f00", .rax = DATA },
        { "pop [rsp]", tiny_long, "8f8424f80f0000" },
        { "pushf, popf", tiny_long, "9c9d" },
        { "call", tiny_long, "e800000000" },
        { "call memory", tiny_long, "ff10", .rax = DATA, .pokes = { { DATA, TINY_LANDING } } },
        { "jmp memory", tiny_long, "ff20", .rax = DATA, .pokes = { { DATA, TINY_LANDING } } },
        { "ret", tiny_long, "c3", .pokes = { { TINY_STACK, TINY_LANDING } } },
        { "leave", tiny_long, "c9", .rbp = DATA },
        { "enter", tiny_long, "c8100003", .rbp = DATA },
        { "pushad", tiny_flat32, "60" },
        { "popad", tiny_flat32, "61" },
        { "les", tiny_flat32, "c400", .rax = DATA, .pokes = { { DATA, (uint64_t) TINY_FRESH << 32 } } },
        { "mov ds", tiny_long, "8ed8", .rax = TINY_SS },
        { "mov ds sets accessed", tiny_long, "8ed8", .rax = TINY_FRESH },
        { "mov ds from memory", tiny_long, "8e18", .rax = DATA, .pokes = { { DATA, TINY_FRESH } } },
        { "mov ds in the LDT", tiny_long, "8ed8", .rax = TINY_LDT_DATA },
        { "pop fs", tiny_long, "0fa1", .pokes = { { TINY_STACK, TINY_FRESH } } },
        { "lldt", tiny_long, "0f00d0", .rax = TINY_LDTR },
        { "ltr", tiny_long, "0f00d8", .rax = TINY_TR },
        { "ltr 32-bit", tiny_flat32, "0f00d8", .rax = TINY_TR },
        { "verr", tiny_long, "0f00e0", .rax = TINY_FRESH },
        { "lar", tiny_long, "0f02c8", .rax = TINY_FRESH },
        { "lsl", tiny_long, "0f03c8", .rax = TINY_FRESH },
        { "sgdt", tiny_long, "0f0100", .rax = DATA + 0xff8 },
        { "sidt", tiny_long, "0f0108", .rax = DATA },
        { "lgdt", tiny_long, "0f0110", .rax = DATA, .pokes = { { DATA, (uint64_t) TINY_GDT << 16 | 0x7f } } },
        { "fxsave", tiny_long, "0fae00", .rax = DATA + 0xf00 },
        { "fxrstor", tiny_long, "0fae08", .rax = DATA },
        { "fnstenv", tiny_long, "d930", .rax = DATA },
        { "fld, fstp tbyte", tiny_long, "db28db38", .rax = DATA },
        { "movups", tiny_long, "0f1000", .rax = DATA + 0xff8 },
        { "movntdq", tiny_long, "660fe700", .rax = DATA },
        { "maskmovdqu", tiny_long, "660f76c0660ff7c0", .rdi = DATA + 0xff8 },
        { "xsave", make_xsave, "0fae23", .rax = 3, .rbx = DATA + 0xdc0, .needs = NEEDS_XSAVE },
        { "xsave with AVX", make_xsave, "0fae23", .rax = 7, .rbx = DATA + 0xdc0, .needs = NEEDS_AVX2 },
        /* vpcmpeqd xmm2, xmm2, xmm2; movd xmm1, ecx; vpgatherdd xmm0, [rax+xmm1], xmm2 */
        { "gather", make_xsave, "c5e976d2660f6ec9c4e269900408", .rax = DATA + 0x1000, .rcx = -0x1000,
          .needs = NEEDS_AVX2 },
        /* vpcmpeqd ymm2, ymm2, ymm2; vmaskmovps [rax], ymm2, ymm0 */
        { "vmaskmovps", make_xsave, "c5ed76d2c4e26d2e00", .rax = DATA + 0xff0, .needs = NEEDS_AVX2 },
        { "jmp far", tiny_long, "ff28", .rax = DATA,
          .pokes = { { DATA, (uint64_t) TINY_CS64 << 32 | TINY_LANDING } } },
        { "call far", tiny_long, "ff18", .rax = DATA,
          .pokes = { { DATA, (uint64_t) TINY_CS64 << 32 | TINY_LANDING } } },
        { "call gate", tiny_long, "ff18", .rax = DATA, .pokes = { { DATA, (uint64_t) TINY_GATE << 32 } } },
        { "call gate inwards", tiny_user, "ff18", .rax = DATA,
          .pokes = { { DATA, (uint64_t) TINY_GATE << 32 } } },
        { "call gate inwards, 32-bit", tiny_user32, "9a000000006000" },
        { "retf", tiny_long, "48cb", .pokes = { { TINY_STACK, TINY_LANDING }, { TINY_STACK + 8, TINY_CS64 } } },
        { "retf outwards", tiny_long, "48cb",
          .pokes = { { TINY_STACK, TINY_LANDING }, { TINY_STACK + 8, TINY_USER_CS64 },
                     { TINY_STACK + 16, TINY_STACK }, { TINY_STACK + 24, TINY_USER_SS } },
          .rflags = 0x3000 },
        { "iretq", make_fresh_cs, "48cf",
          .pokes = { { TINY_STACK, TINY_LANDING }, { TINY_STACK + 8, TINY_CS64 }, { TINY_STACK + 16, 2 },
                     { TINY_STACK + 24, TINY_STACK } } },
        { "iretd", tiny_flat32, "cf",
          .pokes = { { TINY_STACK, (uint64_t) TINY_CS32 << 32 | TINY_LANDING }, { TINY_STACK + 8, 2 } } },
        { "iretd outwards", tiny_flat32, "cf",
          .pokes = { { TINY_STACK, (uint64_t) TINY_USER_CS32 << 32 | TINY_LANDING },
                     { TINY_STACK + 8, (uint64_t) TINY_STACK << 32 | 0x3002 },
                     { TINY_STACK + 16, TINY_USER_SS } } },
        { "int n", tiny_long, "cd80" },
        { "int3", make_fresh_cs, "cc" },
        { "int n from user mode", tiny_user, "cd80" },
        { "int n on an interrupt stack", tiny_long, "cd11" },
        { "int n, 32-bit", tiny_flat32, "cd80" },
        { "int n from user mode, 32-bit", tiny_user32, "cd80" },
        { "int n in real mode", tiny_real, "cd10", .pokes = { { 0x40, 0x00000c00000000ull >> 8 } } },
        { "push in real mode", tiny_real, "5058" },
        { "bound", tiny_flat32, "6208", .rax = DATA, .rcx = 1, .pokes = { { DATA, 0xffull << 32 } } },
        { "undefined opcode", tiny_long, "0f0b" },
        { "undefined opcode in user mode", tiny_user, "0f0b" },
        { "page fault", tiny_long, "8b08", .rax = 0x40000000 },
        { "page fault in user mode", tiny_user, "8b08", .rax = 0x40000000 },
        { "page fault, entry not present", tiny_long, "8b08", .rax = DATA, .pokes = { { PTE_DATA, 0 } } },
        { "general protection", tiny_flat32, "8ed8", .rax = 0x1000 },
        { "interrupt", make_fresh_cs, "90", .event = INTERRUPT, .rflags = 0x200 },
        { "interrupt in user mode", tiny_user, "90", .event = INTERRUPT, .rflags = 0x200 },
        { "interrupt, 32-bit", tiny_user32, "90", .event = INTERRUPT, .rflags = 0x200 },
        { "NMI", tiny_long, "90", .event = NMI },
        { "PAE", make_pae, "8908", .rax = DATA },
        { "32-bit paging", make_paging32, "8908", .rax = DATA },
        { "32-bit paging, int n", make_paging32, "cd80" },
};
