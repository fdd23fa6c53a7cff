/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A guest of 4 MiB in a byte array, for tests of what reads guest memory: page tables of every
 * paging mode, a GDT, an IDT and a TSS, registers, and the rights of every page.
 */

#include <errno.h>
#include <string.h>

#include <linux/kvm.h>

#include "vtl/fault.h"
#include "vtl/hvdef.h"
#include "vtl/walk.h"

#define TINY_SIZE (4u << 20)
#define TINY_PAGES (TINY_SIZE / HV_PAGE_SIZE)

/* Where things lie: linear is physical, except that TINY_HIGH maps the data pages once more. */
enum tiny_layout {
        TINY_PML5 = 0x1000,
        TINY_PML4 = 0x2000,
        TINY_PDPT = 0x3000,
        TINY_PD = 0x4000,
        TINY_PT = 0x5000,  /* 0 - 2 MiB, 4 KiB pages */
        TINY_PT2 = 0x6000, /* 2 - 4 MiB */
        TINY_GDT = 0x8000,
        TINY_IDT = 0x9000,
        TINY_TSS = 0xa000,
        TINY_LDT = 0xb000,
        TINY_LANDING = 0xc000, /* handlers, and where gates lead */
        TINY_CODE = 0x10000,
        TINY_STACK = 0x20000,  /* the top of the current stack */
        TINY_RSP0 = 0x28000,   /* of the TSS */
        TINY_IST1 = 0x2c000,   /* likewise */
        TINY_DATA = 0x100000,  /* pages to be used at will */
        TINY_DATA2 = 0x200000, /* behind the second page table */
};

enum tiny_selector {
        TINY_CS64 = 0x08,
        TINY_CS32 = 0x10,
        TINY_SS = 0x18,
        TINY_USER_SS = 0x23,
        TINY_USER_CS64 = 0x2b,
        TINY_USER_CS32 = 0x33,
        TINY_TR = 0x38, /* 16 bytes */
        TINY_LDTR = 0x48,
        TINY_FRESH = 0x58, /* a data segment whose accessed bit is clear */
        TINY_GATE = 0x60,  /* a call gate to TINY_CS64 or TINY_CS32 */
        TINY_CS16 = 0x70,
        TINY_LDT_DATA = 0x0c,
};

struct tiny_guest {
        uint8_t ram[TINY_SIZE];
        uint8_t rights[TINY_PAGES];
        unsigned reads;
        int read_error; /* returned by the next read when not 0 */
        struct kvm_regs regs;
        struct kvm_sregs sregs;
        struct kvm_vcpu_events events;
        struct insn_vectors vectors;
        bool have_vectors;
};

static inline int tiny_read(void *userdata, uint64_t gpa, void *buf, uint32_t len) {
        struct tiny_guest *g = userdata;

        g->reads++;
        if (g->read_error)
                return g->read_error;
        if (gpa > TINY_SIZE || len > TINY_SIZE - gpa)
                return -EFAULT;
        memcpy(buf, g->ram + gpa, len);
        return 0;
}

static inline unsigned tiny_rights(void *userdata, uint64_t gpn) {
        struct tiny_guest *g = userdata;

        return gpn < TINY_PAGES ? g->rights[gpn] : HV_MAP_GPA_ALL;
}

static inline struct walk_space tiny_space(struct tiny_guest *g) {
        return (struct walk_space){ .read = tiny_read, .rights = tiny_rights, .userdata = g };
}

static inline void tiny_protect(struct tiny_guest *g, uint64_t gpa, unsigned mask) {
        g->rights[gpa / HV_PAGE_SIZE] = mask;
}

static inline void tiny_put(struct tiny_guest *g, uint64_t gpa, const void *bytes, size_t n) {
        memcpy(g->ram + gpa, bytes, n);
}

static inline void tiny_put64(struct tiny_guest *g, uint64_t gpa, uint64_t v) {
        tiny_put(g, gpa, &v, sizeof(v));
}

static inline uint64_t tiny_get64(struct tiny_guest *g, uint64_t gpa) {
        uint64_t v;

        memcpy(&v, g->ram + gpa, sizeof(v));
        return v;
}

static inline struct kvm_segment tiny_segment(uint16_t selector, unsigned type, bool l, bool db,
                                              unsigned dpl) {
        return (struct kvm_segment){
                .limit = 0xffffffff,
                .selector = selector,
                .type = type,
                .present = 1,
                .dpl = dpl,
                .db = db,
                .s = 1,
                .l = l,
                .g = 1,
        };
}

/* Present, writable, user, accessed, dirty */
#define TINY_PTE 0x67ull
#define TINY_TABLE 0x27ull

static inline void tiny_tables64(struct tiny_guest *g) {
        tiny_put64(g, TINY_PML5, TINY_PML4 | TINY_TABLE);
        tiny_put64(g, TINY_PML4, TINY_PDPT | TINY_TABLE);
        tiny_put64(g, TINY_PDPT, TINY_PD | TINY_TABLE);
        tiny_put64(g, TINY_PD, TINY_PT | TINY_TABLE);
        tiny_put64(g, TINY_PD + 8, TINY_PT2 | TINY_TABLE);
        for (unsigned i = 0; i < TINY_PAGES; i++)
                tiny_put64(g, TINY_PT + i * 8, (uint64_t) i << 12 | TINY_PTE);
}

static inline void tiny_tss_descriptor(struct tiny_guest *g, unsigned type) {
        tiny_put64(g, TINY_GDT + TINY_TR,
                   0x0000800000000067ull | (uint64_t) TINY_TSS << 16 | (uint64_t) type << 40);
        tiny_put64(g, TINY_GDT + TINY_TR + 8, 0);
        tiny_put64(g, TINY_GDT + TINY_LDTR, 0x0000820000000fffull | (uint64_t) TINY_LDT << 16);
        tiny_put64(g, TINY_GDT + TINY_LDTR + 8, 0);
}

static inline void tiny_common(struct tiny_guest *g) {
        static const struct {
                uint16_t selector;
                uint64_t descriptor;
        } gdt[] = {
                { TINY_CS64, 0x00af9b000000ffffull },
                { TINY_CS32, 0x00cf9b000000ffffull },
                { TINY_SS, 0x00cf93000000ffffull },
                { TINY_USER_SS & ~3, 0x00cff3000000ffffull },
                { TINY_USER_CS64 & ~3, 0x00affb000000ffffull },
                { TINY_USER_CS32 & ~3, 0x00cffb000000ffffull },
                { TINY_FRESH, 0x00cf92000000ffffull },
                { TINY_CS16, 0x00009b000000ffffull },
        };

        memset(g, 0, sizeof(*g));
        memset(g->rights, HV_MAP_GPA_ALL, sizeof(g->rights));
        for (size_t i = 0; i < sizeof(gdt) / sizeof(gdt[0]); i++)
                tiny_put64(g, TINY_GDT + gdt[i].selector, gdt[i].descriptor);
        tiny_put64(g, TINY_LDT + (TINY_LDT_DATA & ~7), 0x00cf92000000ffffull);

        g->sregs.gdt = (struct kvm_dtable){ .base = TINY_GDT, .limit = 0x7f };
        g->sregs.idt = (struct kvm_dtable){ .base = TINY_IDT, .limit = 0xfff };
        g->sregs.tr = (struct kvm_segment){
                .base = TINY_TSS, .limit = 0x67, .selector = TINY_TR, .type = 0xb, .present = 1
        };
        g->sregs.ldt = (struct kvm_segment){
                .base = TINY_LDT, .limit = 0xfff, .selector = TINY_LDTR, .type = 2, .present = 1
        };
        g->sregs.ds = g->sregs.es = g->sregs.fs = g->sregs.gs = g->sregs.ss =
                tiny_segment(TINY_SS, 3, false, true, 0);
        g->regs.rip = TINY_CODE;
        g->regs.rsp = TINY_STACK;
        g->regs.rflags = 2;
}

/* 64-bit, CPL 0, 4-level paging; handlers of all vectors in TINY_CS64, vector 0x11 on IST 1 */
static inline void tiny_long(struct tiny_guest *g) {
        tiny_common(g);
        tiny_tables64(g);
        tiny_tss_descriptor(g, 9);
        for (unsigned v = 0; v < 256; v++) {
                tiny_put64(g, TINY_IDT + v * 16,
                           0x0000ee0000000000ull | TINY_CS64 << 16 | (v == 0x11 ? 1ull << 32 : 0) |
                                   TINY_LANDING);
                tiny_put64(g, TINY_IDT + v * 16 + 8, 0);
        }
        tiny_put64(g, TINY_TSS + 4, TINY_RSP0);
        tiny_put64(g, TINY_TSS + 36, TINY_IST1);
        tiny_put64(g, TINY_GDT + TINY_GATE, 0x0000ec0000000000ull | TINY_CS64 << 16 | TINY_LANDING);
        g->sregs.cs = tiny_segment(TINY_CS64, 0xb, true, false, 0);
        g->sregs.cr0 = 0x80050033;
        g->sregs.cr3 = TINY_PML4;
        g->sregs.cr4 = 0x620;
        g->sregs.efer = 0xd01; /* SCE, LME, LMA, NXE */
}

/* The same at CPL 3 */
static inline void tiny_user(struct tiny_guest *g) {
        tiny_long(g);
        g->sregs.cs = tiny_segment(TINY_USER_CS64, 0xb, true, false, 3);
        g->sregs.ss = tiny_segment(TINY_USER_SS, 3, false, true, 3);
}

/* 32-bit, no paging, handlers in TINY_CS32 */
static inline void tiny_flat32(struct tiny_guest *g) {
        uint32_t esp0 = TINY_RSP0;
        uint16_t ss0 = TINY_SS;

        tiny_common(g);
        tiny_tss_descriptor(g, 9);
        for (unsigned v = 0; v < 256; v++)
                tiny_put64(g, TINY_IDT + v * 8,
                           0x0000ee0000000000ull | TINY_CS32 << 16 | TINY_LANDING);
        tiny_put(g, TINY_TSS + 4, &esp0, 4);
        tiny_put(g, TINY_TSS + 8, &ss0, 2);
        tiny_put64(g, TINY_GDT + TINY_GATE, 0x0000ec0200000000ull | TINY_CS32 << 16 | TINY_LANDING);
        g->sregs.cs = tiny_segment(TINY_CS32, 0xb, false, true, 0);
        g->sregs.cr0 = 0x00050033;
}

static inline void tiny_user32(struct tiny_guest *g) {
        tiny_flat32(g);
        g->sregs.cs = tiny_segment(TINY_USER_CS32, 0xb, false, true, 3);
        g->sregs.ss = tiny_segment(TINY_USER_SS, 3, false, true, 3);
}

/* 16-bit real mode; the interrupt table at 0 */
static inline void tiny_real(struct tiny_guest *g) {
        tiny_common(g);
        g->sregs.cr0 = 0x10;
        g->sregs.cs = tiny_segment(TINY_CODE >> 4, 0xb, false, false, 0);
        g->sregs.cs.base = TINY_CODE;
        g->sregs.ss = g->sregs.ds = g->sregs.es = g->sregs.fs = g->sregs.gs =
                tiny_segment(0x1000, 3, false, false, 0);
        g->sregs.ss.base = TINY_CODE;
        g->sregs.ds.base = g->sregs.es.base = TINY_STACK;
        g->sregs.idt = (struct kvm_dtable){ .base = 0, .limit = 0x3ff };
        g->regs.rip = 0;
        g->regs.rsp = 0x8000;
}
