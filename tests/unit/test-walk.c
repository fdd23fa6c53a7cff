/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The guest page-table walker: every paging mode, page size and permission. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "util/util.h"
#include "vtl/walk.h"

#include "tiny-guest.h"

#define CR0_WP (1ull << 16)
#define CR0_PG (1ull << 31)
#define CR4_PSE (1ull << 4)
#define CR4_PAE (1ull << 5)
#define CR4_LA57 (1ull << 12)
#define CR4_SMEP (1ull << 20)
#define CR4_SMAP (1ull << 21)
#define EFER_NXE (1ull << 11)
#define NX (1ull << 63)
#define PTE_PT (TINY_PT + 0x100 * 8) /* the entry of TINY_DATA */

static int setup(void **state) {
        *state = malloc(sizeof(struct tiny_guest));
        return *state ? 0 : -1;
}

static int teardown(void **state) {
        free(*state);
        return 0;
}

static struct walk_result walk_ok(struct tiny_guest *g, uint64_t gva, unsigned flags) {
        static uint8_t before[TINY_SIZE];
        struct walk_space space = tiny_space(g);
        struct walk_result w;

        memcpy(before, g->ram, sizeof(before));
        memset(&w, 0xa5, sizeof(w));
        assert_int_equal(walk(&space, &g->sregs, gva, flags, &w), 0);
        assert_memory_equal(before, g->ram, sizeof(before));
        return w;
}

static void put32(struct tiny_guest *g, uint64_t gpa, uint32_t v) {
        tiny_put(g, gpa, &v, sizeof(v));
}

static void expect_entries(const struct walk_result *w, unsigned size, const uint64_t *gpas,
                           unsigned n) {
        assert_int_equal(w->n_entries, n);
        for (unsigned i = 0; i < n; i++) {
                assert_int_equal(w->entries[i].gpa, gpas[i]);
                assert_int_equal(w->entries[i].size, size);
        }
}

#define entries(w, size, ...)                                      \
        expect_entries(w, size, (const uint64_t[]){ __VA_ARGS__ }, \
                       sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t))

static void test_no_paging(void **state) {
        struct tiny_guest *g = *state;
        struct walk_result w;

        tiny_flat32(g);
        w = walk_ok(g, 0xffffffff12345678, WALK_WRITE | WALK_USER);
        assert_int_equal(w.fault, WALK_OK);
        assert_int_equal(w.gpa, 0x12345678);
        assert_int_equal(w.page_size, 4096);
        assert_int_equal(w.n_entries, 0);
        assert_true(w.accessed && w.dirty);
        assert_int_equal(g->reads, 0);
}

static void test_4level(void **state) {
        struct tiny_guest *g = *state;
        struct walk_result w;

        tiny_long(g);
        w = walk_ok(g, TINY_DATA + 0x123, 0);
        assert_int_equal(w.fault, WALK_OK);
        assert_int_equal(w.gpa, TINY_DATA + 0x123);
        assert_int_equal(w.page_size, 4096);
        assert_true(w.accessed && w.dirty);
        entries(&w, 8, TINY_PML4, TINY_PDPT, TINY_PD, PTE_PT);
        assert_int_equal(w.entries[3].value, TINY_DATA | TINY_PTE);

        /* Every level has its own nine bits; the upper half is reached through entry 256 and up. */
        tiny_put64(g, TINY_PML4 + 511 * 8, TINY_PDPT | TINY_TABLE);
        tiny_put64(g, TINY_PDPT + 510 * 8, TINY_PD | TINY_TABLE);
        w = walk_ok(g, 0xffffffff80200042, 0);
        assert_int_equal(w.fault, WALK_OK);
        assert_int_equal(w.gpa, 0x200042);
        entries(&w, 8, TINY_PML4 + 511 * 8, TINY_PDPT + 510 * 8, TINY_PD + 8, TINY_PT2);

        /* Bits of CR3 that are no address, and of entries that software owns */
        g->sregs.cr3 |= 0xfff;
        tiny_put64(g, PTE_PT, 0x7ff0000000000e00ull | TINY_DATA | TINY_PTE);
        assert_int_equal(walk_ok(g, TINY_DATA, 0).gpa, TINY_DATA);
}

static void test_canonical(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        assert_int_equal(walk_ok(g, 0x0000800000000000, 0).fault, WALK_NOT_CANONICAL);
        assert_int_equal(walk_ok(g, 0xffff7fffffffffff, 0).fault, WALK_NOT_CANONICAL);
        assert_int_equal(g->reads, 0);
        assert_int_equal(walk_ok(g, 0x00007fffffffffff, 0).fault, WALK_NOT_PRESENT);
        assert_int_equal(walk_ok(g, 0xffff800000000000, 0).fault, WALK_NOT_PRESENT);
}

static void test_5level(void **state) {
        struct tiny_guest *g = *state;
        struct walk_result w;

        tiny_long(g);
        g->sregs.cr4 |= CR4_LA57;
        g->sregs.cr3 = TINY_PML5;
        w = walk_ok(g, TINY_DATA, 0);
        assert_int_equal(w.fault, WALK_OK);
        entries(&w, 8, TINY_PML5, TINY_PML4, TINY_PDPT, TINY_PD, PTE_PT);
        tiny_put64(g, TINY_PML5 + 256 * 8, TINY_PML4 | TINY_TABLE);
        w = walk_ok(g, 0xff00000000100000, 0);
        assert_int_equal(w.fault, WALK_OK);
        assert_int_equal(w.gpa, TINY_DATA);
        assert_int_equal(walk_ok(g, 0x0000800000000000, 0).fault, WALK_NOT_PRESENT);
        assert_int_equal(walk_ok(g, 0x0100000000000000, 0).fault, WALK_NOT_CANONICAL);
}

static void test_large_pages(void **state) {
        struct tiny_guest *g = *state;
        struct walk_result w;

        tiny_long(g);
        tiny_put64(g, TINY_PD + 8, 0x200000 | 0x10e7 /* PAT, PS */);
        w = walk_ok(g, 0x212345, 0);
        assert_int_equal(w.fault, WALK_OK);
        assert_int_equal(w.gpa, 0x212345);
        assert_int_equal(w.page_size, 0x200000);
        entries(&w, 8, TINY_PML4, TINY_PDPT, TINY_PD + 8);
        tiny_put64(g, TINY_PD + 8, 0x201000 | 0xe7);
        assert_int_equal(walk_ok(g, 0x212345, 0).fault, WALK_OK); /* bit 12 is PAT */
        tiny_put64(g, TINY_PD + 8, 0x202000 | 0xe7);
        assert_int_equal(walk_ok(g, 0x212345, 0).fault, WALK_RESERVED);

        tiny_put64(g, TINY_PDPT + 8, 0x40000000 | 0xe7);
        w = walk_ok(g, 0x52345678, 0);
        assert_int_equal(w.gpa, 0x52345678);
        assert_int_equal(w.page_size, 0x40000000);
        tiny_put64(g, TINY_PDPT + 8, 0x40200000 | 0xe7);
        assert_int_equal(walk_ok(g, 0x52345678, 0).fault, WALK_RESERVED);

        tiny_put64(g, TINY_PML4, TINY_PDPT | TINY_TABLE | 0x80);
        assert_int_equal(walk_ok(g, TINY_DATA, 0).fault, WALK_RESERVED);
}

static void test_32bit(void **state) {
        struct tiny_guest *g = *state;
        struct walk_result w;

        tiny_flat32(g);
        g->sregs.cr0 |= CR0_PG;
        g->sregs.cr3 = TINY_PD;
        put32(g, TINY_PD, TINY_PT | TINY_TABLE);
        put32(g, TINY_PT + 0x100 * 4, TINY_DATA | TINY_PTE);
        w = walk_ok(g, 0xabcd000000100fff, WALK_WRITE);
        assert_int_equal(w.fault, WALK_OK);
        assert_int_equal(w.gpa, 0x100fff);
        entries(&w, 4, TINY_PD, TINY_PT + 0x100 * 4);

        /* Without CR4.PSE the bit of a large page means nothing. */
        put32(g, TINY_PD, TINY_PT | TINY_TABLE | 0x80);
        assert_int_equal(walk_ok(g, TINY_DATA, 0).page_size, 4096);
        put32(g, TINY_PD + 4, 0x00c00000 | (0x5u << 13) | 0xe7);
        g->sregs.cr4 = CR4_PSE;
        w = walk_ok(g, 0x00412345, 0);
        assert_int_equal(w.gpa, 0x500c12345);
        assert_int_equal(w.page_size, 0x400000);
        put32(g, TINY_PD + 4, 0x00e00000 | 0xe7);
        assert_int_equal(walk_ok(g, 0x00412345, 0).fault, WALK_RESERVED);
}

static void test_pae(void **state) {
        struct tiny_guest *g = *state;
        struct walk_result w;

        tiny_flat32(g);
        tiny_tables64(g);
        g->sregs.cr0 |= CR0_PG;
        g->sregs.cr4 = CR4_PAE;
        g->sregs.cr3 = TINY_PDPT + 0x20;
        tiny_put64(g, TINY_PDPT + 0x20, TINY_PD | 1);
        tiny_put64(g, TINY_PDPT + 0x38, TINY_PD | 1);
        w = walk_ok(g, TINY_DATA, WALK_WRITE | WALK_USER);
        assert_int_equal(w.fault, WALK_OK); /* PDPTEs carry no rights */
        entries(&w, 8, TINY_PDPT + 0x20, TINY_PD, PTE_PT);
        assert_int_equal(w.entries[0].sets, 0);
        w = walk_ok(g, 0xc0200000, 0);
        assert_int_equal(w.gpa, 0x200000);
        entries(&w, 8, TINY_PDPT + 0x38, TINY_PD + 8, TINY_PT2);
        tiny_put64(g, TINY_PDPT + 0x20, TINY_PD | 3);
        assert_int_equal(walk_ok(g, TINY_DATA, 0).fault, WALK_RESERVED);
        tiny_put64(g, TINY_PDPT + 0x20, 0);
        w = walk_ok(g, TINY_DATA, 0);
        assert_int_equal(w.fault, WALK_NOT_PRESENT);
        assert_int_equal(w.n_entries, 1);
        tiny_put64(g, TINY_PD + 8, 0x200000 | 0xe7);
        assert_int_equal(walk_ok(g, 0xc0212345, 0).page_size, 0x200000);
}

static void test_accessed_and_dirty(void **state) {
        struct tiny_guest *g = *state;
        struct walk_result w;

        tiny_long(g);
        tiny_put64(g, TINY_PML4, TINY_PDPT | 7);
        tiny_put64(g, PTE_PT, TINY_DATA | 7);
        w = walk_ok(g, TINY_DATA, 0);
        assert_false(w.accessed);
        assert_false(w.dirty);
        assert_int_equal(w.entries[0].sets, WALK_SETS_ACCESSED);
        assert_int_equal(w.entries[1].sets, 0);
        assert_int_equal(w.entries[3].sets, WALK_SETS_ACCESSED);
        w = walk_ok(g, TINY_DATA, WALK_WRITE);
        assert_int_equal(w.entries[0].sets, WALK_SETS_ACCESSED);
        assert_int_equal(w.entries[3].sets, WALK_SETS_ACCESSED | WALK_SETS_DIRTY);
        tiny_put64(g, PTE_PT, TINY_DATA | 0x27);
        w = walk_ok(g, TINY_DATA, WALK_WRITE);
        assert_int_equal(w.entries[3].sets, WALK_SETS_DIRTY);
}

/* Who may do what: the rights of the walk, CR0.WP, SMEP, SMAP and AC. */
static void test_permissions(void **state) {
        static const struct {
                uint64_t pte; /* U, W and NX of the leaf */
                unsigned flags;
                uint64_t cr0, cr4;
                bool ok;
        } rows[] = {
                /* pte, flags, cr0, cr4, ok */
                { 6, WALK_USER, 0, 0, true },
                { 6, WALK_USER | WALK_WRITE, 0, 0, true },
                { 4, WALK_USER, 0, 0, true },
                { 4, WALK_USER | WALK_WRITE, 0, 0, false },
                { 2, WALK_USER, 0, 0, false },
                { 2, WALK_USER | WALK_EXEC, 0, 0, false },
                { 2, WALK_USER | WALK_IMPLICIT, 0, 0, true },
                { 2, 0, CR0_WP, 0, true },
                { 0, 0, CR0_WP, 0, true },
                { 0, WALK_WRITE, CR0_WP, 0, false },
                { 0, WALK_WRITE, 0, 0, true },
                { 4, WALK_WRITE, 0, 0, true },
                { 4, WALK_USER | WALK_WRITE | WALK_IMPLICIT, 0, 0, true },
                { 6 | NX, 0, 0, 0, true },
                { 6 | NX, WALK_EXEC, 0, 0, false },
                { 6 | NX, WALK_EXEC | WALK_USER, 0, 0, false },
                { 6, WALK_EXEC | WALK_USER, 0, CR4_SMEP, true },
                { 6, WALK_EXEC, 0, 0, true },
                { 6, WALK_EXEC, 0, CR4_SMEP, false },
                { 2, WALK_EXEC, 0, CR4_SMEP, true },
                { 6, WALK_EXEC, 0, CR4_SMAP, true },
                { 6, 0, 0, CR4_SMAP, false },
                { 6, WALK_WRITE, 0, CR4_SMAP, false },
                { 6, WALK_AC, 0, CR4_SMAP, true },
                { 6, WALK_USER, 0, CR4_SMAP, true },
                { 6, WALK_IMPLICIT | WALK_AC, 0, CR4_SMAP, false },
                { 2, WALK_IMPLICIT, 0, CR4_SMAP, true },
        };
        struct tiny_guest *g = *state;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct walk_result w;

                tiny_long(g);
                g->sregs.cr0 = (g->sregs.cr0 & ~CR0_WP) | rows[i].cr0;
                g->sregs.cr4 |= rows[i].cr4;
                tiny_put64(g, PTE_PT, TINY_DATA | 0x61 | rows[i].pte);
                w = walk_ok(g, TINY_DATA, rows[i].flags);
                if (w.fault != (rows[i].ok ? WALK_OK : WALK_PERMISSION))
                        fail_msg("row %zu: %d", i, w.fault);
                /* The same rights in an upper entry */
                if (rows[i].pte & NX)
                        continue;
                tiny_put64(g, PTE_PT, TINY_DATA | 0x67);
                tiny_put64(g, TINY_PDPT, TINY_PD | 0x21 | rows[i].pte);
                w = walk_ok(g, TINY_DATA, rows[i].flags);
                if (w.fault != (rows[i].ok ? WALK_OK : WALK_PERMISSION))
                        fail_msg("row %zu, upper entry: %d", i, w.fault);
        }

        /* NX needs EFER.NXE. */
        tiny_long(g);
        g->sregs.efer &= ~EFER_NXE;
        tiny_put64(g, PTE_PT, TINY_DATA | 0x67 | NX);
        assert_int_equal(walk_ok(g, TINY_DATA, 0).fault, WALK_RESERVED);
}

static void test_failures(void **state) {
        struct tiny_guest *g = *state;
        struct walk_space space = tiny_space(g);
        struct walk_result w;

        tiny_long(g);
        tiny_put64(g, TINY_PD, 0xfee00000 | TINY_TABLE);
        w = walk_ok(g, TINY_DATA, 0);
        assert_int_equal(w.fault, WALK_NOT_RAM);
        entries(&w, 8, TINY_PML4, TINY_PDPT, TINY_PD, 0xfee00800);
        tiny_put64(g, TINY_PD, 0);
        w = walk_ok(g, TINY_DATA, 0);
        assert_int_equal(w.fault, WALK_NOT_PRESENT);
        assert_int_equal(w.n_entries, 3);
        g->read_error = -ENOMEM;
        assert_int_equal(walk(&space, &g->sregs, TINY_DATA, 0, &w), -ENOMEM);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_no_paging),   cmocka_unit_test(test_4level),
                cmocka_unit_test(test_canonical),   cmocka_unit_test(test_5level),
                cmocka_unit_test(test_large_pages), cmocka_unit_test(test_32bit),
                cmocka_unit_test(test_pae),         cmocka_unit_test(test_accessed_and_dirty),
                cmocka_unit_test(test_permissions), cmocka_unit_test(test_failures),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("walk", tests, setup, teardown);
}
