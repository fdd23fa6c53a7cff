/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target for the search of forbidden accesses: a small guest in any mode with arbitrary
 * registers, code, page tables, descriptors and rights. Whatever is reported must be forbidden by
 * the rights and be where the page tables put it, opening the reported page must make progress, and
 * it must all end soon.
 *
 * Input: struct seed, what is missing is 0, then struct op after struct op.
 * tests/fuzz/make-corpus-fault.py writes the first corpus.
 */

#include <stdlib.h>
#include <string.h>

#include "tests/must.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/fault.h"

struct seed {
        uint8_t mode;   /* enum mode */
        uint8_t event;  /* EVENT_* */
        uint8_t vector; /* of the event */
        uint8_t width;  /* WIDTH_*, changes of the segments */
        uint32_t rflags;
        uint64_t cr0, cr4, efer; /* bits to change */
        uint64_t rip;
        uint64_t gpr[16]; /* in the order of struct kvm_regs */
        uint64_t base[5]; /* CS DS ES FS SS */
        uint8_t code[16]; /* at TINY_CODE */
} __attribute__((packed));
_Static_assert(sizeof(struct seed) == 224, "the corpus is made of these");

enum mode {
        MODE_LONG,
        MODE_USER,
        MODE_FLAT32,
        MODE_USER32,
        MODE_REAL,
        MODE_PAE,
        MODE_LEGACY,
        MODE_LA57,
        _MODE_MAX,
};

#define EVENT_EXCEPTION 0x01u
#define EVENT_ERROR_CODE 0x02u
#define EVENT_NMI 0x04u
#define EVENT_INTERRUPT 0x08u
#define EVENT_SOFT 0x10u
#define EVENT_NO_VECTORS 0x20u

#define WIDTH_CS_DB 0x01u
#define WIDTH_CS_L 0x02u
#define WIDTH_SS_DB 0x04u
#define WIDTH_TSS16 0x08u
#define WIDTH_CPL3 0x10u
#define WIDTH_BIG_TSS 0x20u

struct op {
        uint8_t kind; /* enum op_kind */
        uint8_t arg;
        uint16_t where;
        uint64_t value;
} __attribute__((packed));

enum op_kind {
        OP_RIGHTS, /* of page @where */
        OP_TABLE,  /* page-table entry @where of table @arg */
        OP_SYSTEM, /* eight bytes of GDT, IDT, TSS or LDT */
        OP_MEMORY, /* eight bytes of one of the first 4096 KiB */
        OP_VECTOR, /* an eighth of vector register @arg */
        _OP_MAX,
};

#define OPS_MAX 64
#define READS_MAX 5000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make_pae(struct tiny_guest *g) {
        tiny_flat32(g);
        tiny_tables64(g);
        tiny_put64(g, TINY_PDPT, TINY_PD | 1);
        g->sregs.cr0 |= 1ull << 31;
        g->sregs.cr3 = TINY_PDPT;
        g->sregs.cr4 = 0x20;
}

static void make_legacy(struct tiny_guest *g) {
        uint32_t pde = TINY_PT | 0x27;

        tiny_flat32(g);
        tiny_put(g, TINY_PD, &pde, sizeof(pde));
        for (uint32_t i = 0; i < TINY_PAGES; i++) {
                uint32_t pte = i << 12 | 0x67;

                tiny_put(g, TINY_PT + i * 4, &pte, sizeof(pte));
        }
        g->sregs.cr0 |= 1ull << 31;
        g->sregs.cr3 = TINY_PD;
        g->sregs.cr4 = 0x10;
}

static void make_la57(struct tiny_guest *g) {
        tiny_long(g);
        g->sregs.cr4 |= 1ull << 12;
        g->sregs.cr3 = TINY_PML5;
}

static void (*const makers[_MODE_MAX])(struct tiny_guest *) = {
        [MODE_LONG] = tiny_long,     [MODE_USER] = tiny_user, [MODE_FLAT32] = tiny_flat32,
        [MODE_USER32] = tiny_user32, [MODE_REAL] = tiny_real, [MODE_PAE] = make_pae,
        [MODE_LEGACY] = make_legacy, [MODE_LA57] = make_la57,
};

/* What inputs write into the memory of a guest, so that it need not be made anew for each. */
struct undo {
        uint64_t gpa[OPS_MAX + 2];
        uint64_t was[OPS_MAX + 2];
        unsigned n;
};

static void poke(struct tiny_guest *g, struct undo *undo, uint64_t gpa, uint64_t v) {
        gpa &= TINY_SIZE - 8;
        undo->gpa[undo->n] = gpa;
        undo->was[undo->n++] = tiny_get64(g, gpa);
        tiny_put64(g, gpa, v);
}

static void apply_op(struct tiny_guest *g, struct undo *undo, const struct op *op) {
        uint64_t offset = (uint64_t) op->where % 512 * 8;

        switch (op->kind % _OP_MAX) {
        case OP_RIGHTS:
                g->rights[op->where % TINY_PAGES] = op->value & HV_MAP_GPA_ALL;
                break;
        case OP_TABLE:
                poke(g, undo, TINY_PML5 + op->arg % 6 * HV_PAGE_SIZE + offset, op->value);
                break;
        case OP_SYSTEM:
                poke(g, undo, TINY_GDT + op->arg % 4 * HV_PAGE_SIZE + offset, op->value);
                break;
        case OP_MEMORY:
                poke(g, undo, ((uint64_t) op->arg << 16 | op->where) * 8, op->value);
                break;
        case OP_VECTOR:
                memcpy(&g->vectors.reg[op->arg % 32][op->where % 8 * 8], &op->value, 8);
                g->vectors.k[op->arg % 8] ^= op->value;
                break;
        }
}

static void apply_seed(struct tiny_guest *g, const struct seed *s) {
        struct kvm_segment *segments[] = { &g->sregs.cs, &g->sregs.ds, &g->sregs.es, &g->sregs.fs,
                                           &g->sregs.ss };

        g->sregs.cr0 ^= s->cr0;
        g->sregs.cr4 ^= s->cr4;
        g->sregs.efer ^= s->efer;
        g->regs.rip += s->rip;
        g->regs.rflags = s->rflags;
        for (unsigned i = 0; i < 16; i++)
                if (s->gpr[i])
                        ((__u64 *) &g->regs)[i] = s->gpr[i];
        for (unsigned i = 0; i < ARRAY_SIZE(segments); i++)
                segments[i]->base += s->base[i];
        g->sregs.cs.db ^= !!(s->width & WIDTH_CS_DB);
        g->sregs.cs.l ^= !!(s->width & WIDTH_CS_L);
        g->sregs.ss.db ^= !!(s->width & WIDTH_SS_DB);
        if (s->width & WIDTH_TSS16)
                g->sregs.tr.type = 3;
        if (s->width & WIDTH_CPL3)
                g->sregs.ss.dpl = 3;
        if (s->width & WIDTH_BIG_TSS)
                g->sregs.tr.limit = 0x2000;

        g->events.exception.injected = !!(s->event & EVENT_EXCEPTION);
        g->events.exception.nr = s->vector;
        g->events.exception.has_error_code = !!(s->event & EVENT_ERROR_CODE);
        g->events.nmi.injected = !!(s->event & EVENT_NMI);
        g->events.interrupt.injected = !!(s->event & EVENT_INTERRUPT);
        g->events.interrupt.nr = s->vector;
        g->events.interrupt.soft = !!(s->event & EVENT_SOFT);
        g->have_vectors = !(s->event & EVENT_NO_VECTORS);
}

static int find(struct tiny_guest *g, struct fault_access *ret) {
        struct walk_space space = tiny_space(g);
        struct fault_cpu cpu = {
                .regs = &g->regs,
                .sregs = &g->sregs,
                .events = &g->events,
                .vectors = g->have_vectors ? &g->vectors : NULL,
        };
        int r;

        g->reads = 0;
        r = fault_find(&cpu, &space, ret);
        MUST(r == 0 || r == 1 || (r == -ENODATA && !g->have_vectors));
        MUST(g->reads <= READS_MAX);
        return r;
}

static void check_access(struct tiny_guest *g, const struct fault_access *a) {
        static const unsigned needed[] = {
                [HV_INTERCEPT_ACCESS_READ] = HV_MAP_GPA_READABLE,
                [HV_INTERCEPT_ACCESS_WRITE] = HV_MAP_GPA_WRITABLE,
                [HV_INTERCEPT_ACCESS_EXECUTE] = HV_MAP_GPA_READABLE,
        };
        bool event = g->events.exception.injected || g->events.nmi.injected ||
                     g->events.interrupt.injected;
        struct walk_space space = tiny_space(g);
        struct walk_result w;
        bool entry = false;

        MUST((unsigned) a->access < ARRAY_SIZE(needed));
        MUST(a->gpa < TINY_SIZE);
        MUST(!(g->rights[a->gpa / HV_PAGE_SIZE] & needed[a->access]));
        MUST(a->gva_valid);

        MUST(a->insn_len <= INSN_MAX_LENGTH && a->insn_byte_count == a->insn_len);
        MUST((a->cause == FAULT_EVENT_DELIVERY) <= event);
        MUST(!event || a->insn_len == 0);
        MUST((a->cause == FAULT_INSTRUCTION) <= (a->insn_len > 0));
        MUST((a->cause == FAULT_FETCH) == (a->access == HV_INTERCEPT_ACCESS_EXECUTE));
        MUST(a->cause != FAULT_FETCH || a->insn_len == 0);
        MUST(!a->nested_walk ||
             (a->cause == FAULT_PAGE_WALK && a->access == HV_INTERCEPT_ACCESS_WRITE));

        /* The address leads to the page, or through the entry. */
        MUST(walk(&space, &g->sregs, a->gva, 0, &w) == 0);
        for (unsigned i = 0; i < w.n_entries; i++)
                entry = entry || w.entries[i].gpa == a->gpa;
        if (a->cause == FAULT_PAGE_WALK)
                MUST(entry);
        else
                MUST(w.gpa == a->gpa);
}

/* One guest per mode, made once: memory is put back after each input, the rest is a copy. */
static struct tiny_guest *guest_of_mode(unsigned mode) {
        static struct tiny_guest *guests[_MODE_MAX];

        if (!guests[mode]) {
                guests[mode] = malloc(sizeof(*guests[mode]));
                MUST(guests[mode]);
                makers[mode](guests[mode]);
        }
        return guests[mode];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct kvm_vcpu_events events;
        struct kvm_sregs sregs;
        struct kvm_regs regs;
        struct fault_access a;
        struct undo undo = { 0 };
        struct tiny_guest *g;
        struct seed s = { 0 };
        uint64_t code[2];

        memcpy(&s, data, MIN(size, sizeof(s)));
        g = guest_of_mode(s.mode % _MODE_MAX);
        events = g->events;
        sregs = g->sregs;
        regs = g->regs;

        apply_seed(g, &s);
        memcpy(code, s.code, sizeof(code));
        poke(g, &undo, TINY_CODE, code[0]);
        poke(g, &undo, TINY_CODE + 8, code[1]);
        for (size_t at = sizeof(s); at + sizeof(struct op) <= size && undo.n < OPS_MAX;
             at += sizeof(struct op)) {
                struct op op;

                memcpy(&op, data + at, sizeof(op));
                apply_op(g, &undo, &op);
        }

        /* A monitor that opens what is reported comes to an end, never told the same page twice. */
        for (unsigned turns = 0; find(g, &a) > 0; turns++) {
                MUST(turns < TINY_PAGES);
                check_access(g, &a);
                g->rights[a.gpa / HV_PAGE_SIZE] = HV_MAP_GPA_ALL;
        }
        memset(g->rights, HV_MAP_GPA_ALL, sizeof(g->rights));
        MUST(find(g, &a) <= 0);

        while (undo.n--)
                tiny_put64(g, undo.gpa[undo.n], undo.was[undo.n]);
        memset(&g->vectors, 0, sizeof(g->vectors));
        g->events = events;
        g->sregs = sregs;
        g->regs = regs;
        return 0;
}
