/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What VTL1 could execute by its initial context, and the moments when it is asked whether it
 * may. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/measure.h"

#define NX (1ull << 63)
#define PS (1ull << 7)
#define PAGES_MAX 1100u

/* ---- Pages ---- */

struct seen {
        unsigned n;
        struct {
                uint64_t gva;
                uint32_t flags;
                uint8_t first; /* byte */
        } pages[PAGES_MAX];
        unsigned stop_at; /* 0: never */
};

static struct seen seen;

static int on_page(void *userdata, uint64_t gva, uint32_t flags, const uint8_t page[HV_PAGE_SIZE]) {
        struct seen *s = userdata;

        assert_true(s->n < PAGES_MAX);
        s->pages[s->n].gva = gva;
        s->pages[s->n].flags = flags;
        s->pages[s->n].first = page[0];
        s->n++;
        return s->stop_at && s->n == s->stop_at ? 77 : 0;
}

static int find(struct fx *f, const struct hv_initial_vp_context *c, uint64_t limit) {
        unsigned stop_at = seen.stop_at;

        memset(&seen, 0, sizeof(seen));
        seen.stop_at = stop_at;
        return vtl_measure_pages(f->p, c, limit, on_page, &seen);
}

static void put64(struct fx *f, uint64_t gpa, uint64_t v) {
        memcpy(f->ram + gpa, &v, sizeof(v));
}

/* Of the 4 MiB that the tiny guest maps only what a test opens again can be executed. */
static void close_all(struct fx *f) {
        for (unsigned i = 0; i < TINY_PAGES; i++)
                put64(f, TINY_PT + i * 8, (uint64_t) i << 12 | TINY_PTE | NX);
}

static void test_an_identity_map(void **state) {
        const struct hv_initial_vp_context c = fx_context(0);
        struct fx f;

        fx_init(&f, &(struct fx_options){ .vps = 1 });
        assert_int_equal(find(&f, &c, TINY_SIZE), 0);
        assert_int_equal(seen.n, TINY_PAGES);
        for (unsigned i = 0; i < TINY_PAGES; i++) {
                assert_int_equal(seen.pages[i].gva, i * 0x1000ull);
                assert_int_equal(seen.pages[i].flags, VTL_MEASURE_WRITABLE | VTL_MEASURE_USER);
                assert_int_equal(seen.pages[i].first, f.ram[i * 0x1000]);
        }
        /* Nothing is read when it is too much. */
        assert_int_equal(find(&f, &c, TINY_SIZE - 1), -E2BIG);
        assert_int_equal(seen.n, 0);
        seen.stop_at = 5;
        assert_int_equal(find(&f, &c, TINY_SIZE), 77);
        assert_int_equal(seen.n, 5);
        seen.stop_at = 0;
        fx_deinit(&f);
}

static void test_order_and_rights(void **state) {
        const struct hv_initial_vp_context c = fx_context(0);
        struct fx f;

        fx_init(&f, &(struct fx_options){ .vps = 1 });
        close_all(&f);
        f.ram[TINY_DATA] = 0x11;
        f.ram[TINY_DATA + 0x1000] = 0x22;
        put64(&f, TINY_PT + 0x80 * 8, (TINY_DATA + 0x1000) | 0x21);  /* read only, kernel */
        put64(&f, TINY_PT + 0x10 * 8, TINY_DATA | 0x25);             /* read only, user */
        put64(&f, TINY_PT + 0x90 * 8, TINY_DATA | TINY_PTE);         /* a page once more */
        put64(&f, TINY_PT + 0x91 * 8, TINY_DATA | (TINY_PTE & ~1u)); /* not present */
        put64(&f, TINY_PT + 0x92 * 8, 0x800000 | TINY_PTE);          /* not RAM */
        /* All once more in the upper half, where nothing is writable */
        put64(&f, TINY_PML4 + 511 * 8, TINY_PDPT | 0x25);
        assert_int_equal(find(&f, &c, 6 * 0x1000), 0);
        assert_int_equal(seen.n, 6);
        assert_int_equal(seen.pages[0].gva, 0x10000);
        assert_int_equal(seen.pages[0].flags, VTL_MEASURE_USER);
        assert_int_equal(seen.pages[0].first, 0x11);
        assert_int_equal(seen.pages[1].gva, 0x80000);
        assert_int_equal(seen.pages[1].flags, 0);
        assert_int_equal(seen.pages[1].first, 0x22);
        assert_int_equal(seen.pages[2].gva, 0x90000);
        assert_int_equal(seen.pages[2].flags, VTL_MEASURE_WRITABLE | VTL_MEASURE_USER);
        assert_int_equal(seen.pages[3].gva, 0xffffff8000010000);
        assert_int_equal(seen.pages[5].gva, 0xffffff8000090000);
        assert_int_equal(seen.pages[5].flags, VTL_MEASURE_USER);
        assert_int_equal(find(&f, &c, 5 * 0x1000), -E2BIG);
        /* NX above counts for all below. */
        put64(&f, TINY_PML4, TINY_PDPT | TINY_TABLE | NX);
        assert_int_equal(find(&f, &c, 3 * 0x1000), 0);
        assert_int_equal(seen.n, 3);
        fx_deinit(&f);
}

/* The second region is at 16 MiB, one MiB of it; the first ends at 4 MiB. */
static void test_large_pages_beyond_ram(void **state) {
        struct hv_initial_vp_context c = fx_context(0);
        struct fx f;

        fx_init(&f, &(struct fx_options){ .vps = 1 });
        close_all(&f);
        put64(&f, TINY_PD + 8, 0x1000000 | TINY_PTE | PS); /* 2 MiB, half of it RAM */
        f.ram2[0] = 0x33;
        assert_int_equal(find(&f, &c, FX_RAM2_SIZE), 0);
        assert_int_equal(seen.n, FX_RAM2_SIZE / HV_PAGE_SIZE);
        assert_int_equal(seen.pages[0].gva, 0x200000);
        assert_int_equal(seen.pages[0].first, 0x33);
        /* 1 GiB, with both regions in it */
        put64(&f, TINY_PDPT + 8, 0x00000000 | TINY_PTE | PS);
        put64(&f, TINY_PD + 8, 0);
        assert_int_equal(find(&f, &c, TINY_SIZE + FX_RAM2_SIZE - 1), -E2BIG);
        assert_int_equal(vtl_measure_pages(f.p, &c, 4096, on_page, &seen), -E2BIG);
        fx_deinit(&f);
}

/* Tables that lead back into themselves are an end in finite time. */
static void test_tables_in_a_circle(void **state) {
        const struct hv_initial_vp_context c = fx_context(0);
        struct fx f;

        fx_init(&f, &(struct fx_options){ .vps = 1 });
        for (unsigned i = 0; i < 512; i++)
                put64(&f, TINY_PML4 + i * 8, TINY_PML4 | TINY_TABLE);
        assert_int_equal(find(&f, &c, 64u << 20), -E2BIG);
        assert_int_equal(seen.n, 0);
        fx_deinit(&f);
}

static void test_other_modes(void **state) {
        struct hv_initial_vp_context c = fx_context(0);
        struct fx f;
        uint32_t pte = 0x00000083; /* 4 MiB at 0 */

        fx_init(&f, &(struct fx_options){ .vps = 1 });
        /* No paging: all there is below 4 GiB */
        c.cr0 = 0x11;
        c.efer = 0;
        assert_int_equal(find(&f, &c, TINY_SIZE + FX_RAM2_SIZE - 1), -E2BIG);
        /* 32-bit, a large page */
        c.cr0 = 0x80000011;
        c.cr4 = 0x10;
        c.cr3 = TINY_DATA;
        memset(f.ram + TINY_DATA, 0, HV_PAGE_SIZE);
        memcpy(f.ram + TINY_DATA + 4, &pte, sizeof(pte));
        assert_int_equal(find(&f, &c, TINY_SIZE), 0);
        assert_int_equal(seen.n, TINY_PAGES);
        assert_int_equal(seen.pages[0].gva, 0x400000);
        assert_int_equal(seen.pages[0].flags, VTL_MEASURE_WRITABLE);
        /* PAE: the four PDPTEs say nothing about rights. */
        c.cr4 = 0x20;
        put64(&f, TINY_DATA, 0);
        put64(&f, TINY_DATA + 3 * 8, TINY_PD | 1);
        close_all(&f);
        put64(&f, TINY_PT, TINY_PTE | TINY_CODE);
        c.efer = 0x800; /* NXE */
        assert_int_equal(find(&f, &c, 4096), 0);
        assert_int_equal(seen.n, 1);
        assert_int_equal(seen.pages[0].gva, 0xc0000000);
        assert_int_equal(seen.pages[0].flags, VTL_MEASURE_WRITABLE | VTL_MEASURE_USER);
        /* Tables that are nowhere */
        c.cr3 = 0x800000;
        assert_int_equal(find(&f, &c, 4096), 0);
        assert_int_equal(seen.n, 0);
        fx_deinit(&f);
}

/* ---- Asking ---- */

struct asked {
        unsigned enabling, entries;
        int answer;
};

static struct asked asked;

static int on_measure(void *userdata, struct vtl_vp *vp, bool entry) {
        struct fx *f = userdata;

        assert_ptr_equal(f->p, vp->partition);
        assert_ptr_equal(f->p->holder, vp);
        assert_int_equal(vp->context.rip, fx_context(vp->index).rip);
        if (entry)
                asked.entries++;
        else
                asked.enabling++;
        return asked.answer;
}

static void begin(struct fx *f, unsigned vps, bool required, int answer) {
        fx_init(f, &(struct fx_options){ .vps = vps });
        f->p->config.measure = on_measure;
        f->p->config.measure_required = required;
        asked = (struct asked){ .answer = answer };
        assert_int_equal(fx_enable_partition(f, 0), HV_STATUS_SUCCESS);
}

static void test_asked_once(void **state) {
        struct fx f;

        begin(&f, 2, false, 0);
        assert_int_equal(fx_enable_vp(&f, 0, 0), HV_STATUS_SUCCESS);
        assert_int_equal(asked.enabling + asked.entries, 0);
        assert_int_equal(fx_vtl_call(&f, 0), 0);
        assert_int_equal(asked.entries, 1);
        assert_null(f.p->holder);
        assert_int_equal(fx_vtl_return(&f, 0, false), 0);
        assert_int_equal(fx_vtl_call(&f, 0), 0);
        /* VTL1 answers for what it starts. */
        assert_int_equal(fx_enable_vp(&f, 0, 1), HV_STATUS_SUCCESS);
        assert_int_equal(fx_vtl_call(&f, 1), 0);
        assert_int_equal(asked.entries, 1);
        assert_int_equal(asked.enabling, 0);
        fx_deinit(&f);
}

static void test_asked_twice_where_required(void **state) {
        struct fx f;

        begin(&f, 1, true, 0);
        assert_int_equal(fx_enable_vp(&f, 0, 0), HV_STATUS_SUCCESS);
        assert_int_equal(asked.enabling, 1);
        assert_int_equal(asked.entries, 0);
        assert_int_equal(fx_vtl_call(&f, 0), 0);
        assert_int_equal(asked.entries, 1);
        fx_deinit(&f);
}

static void test_refused_when_enabled(void **state) {
        struct fx f;

        begin(&f, 1, true, 1);
        for (unsigned i = 1; i <= VTL_MEASURE_REFUSALS_MAX + 2; i++) {
                assert_int_equal(fx_enable_vp(&f, 0, 0), HV_STATUS_ACCESS_DENIED);
                assert_int_equal(f.events[VTL_EVENT_DENIED], i);
                assert_int_equal(asked.enabling, MIN(i, VTL_MEASURE_REFUSALS_MAX));
                assert_int_equal(fx_vtl_call(&f, 0), FX_UD);
        }
        assert_int_equal(f.events[VTL_EVENT_VP_VTL_ENABLED], 0);
        assert_int_equal(fx_ctl(&f, 0)->enabled_vtls, 1);
        assert_int_equal(asked.entries, 0);
        fx_deinit(&f);
}

/* What is there when it is enabled is not what is there when it would run. */
static void test_refused_when_entered(void **state) {
        struct fx f;

        begin(&f, 1, true, 0);
        assert_int_equal(fx_enable_vp(&f, 0, 0), HV_STATUS_SUCCESS);
        asked.answer = 1;
        assert_int_equal(fx_vtl_call(&f, 0), FX_UD);
        assert_int_equal(asked.entries, 1);
        assert_int_equal(fx_active(&f, 0), 0);
        assert_int_equal(f.events[VTL_EVENT_DENIED], 1);
        assert_int_equal(fx_ctl(&f, 0)->enabled_vtls, 1);
        assert_int_equal(fx_ctl(&f, 0)->switchable, 0);
        assert_int_equal(fx_ctl(&f, 0)->stats.vtl_calls, 0);
        assert_int_equal(fx_vtl_call(&f, 0), FX_UD);
        assert_int_equal(asked.entries, 1);
        /* It may be tried again with another one. */
        asked.answer = 0;
        assert_int_equal(fx_enable_vp(&f, 0, 0), HV_STATUS_SUCCESS);
        assert_int_equal(fx_vtl_call(&f, 0), 0);
        assert_int_equal(fx_active(&f, 0), 1);
        fx_deinit(&f);
}

static void test_a_failure_of_the_host(void **state) {
        struct fx f;

        begin(&f, 1, false, -EIO);
        assert_int_equal(fx_enable_vp(&f, 0, 0), HV_STATUS_SUCCESS);
        assert_int_equal(fx_vtl_call(&f, 0), FX_FAILED);
        assert_int_equal(fx_active(&f, 0), 0);
        assert_int_equal(f.error, -EIO);
        fx_deinit(&f);
}

/* While another VP keeps this one's call waiting, it is made again. */
static void test_another_vp_holds(void **state) {
        struct fx f;

        begin(&f, 2, false, 0);
        assert_int_equal(fx_enable_vp(&f, 0, 0), HV_STATUS_SUCCESS);
        f.p->holder = fx_vp(&f, 1);
        (void) fx_vtl_call(&f, 0);
        assert_int_equal(asked.entries, 0);
        assert_int_equal(fx_active(&f, 0), 0);
        assert_int_equal(f.error, 0);
        f.p->holder = NULL;
        assert_int_equal(fx_vtl_call(&f, 0), 0);
        assert_int_equal(fx_active(&f, 0), 1);
        fx_deinit(&f);
}

/* A VP that starts does not run in VTL0 first because another one holds. (No guest comes here: VTL1
 * was measured when it can start others.) */
static void test_another_vp_holds_a_start(void **state) {
        struct vtl_vp *vp;
        struct fx f;

        begin(&f, 2, false, 0);
        vp = fx_vp(&f, 1);
        vp->context = fx_context(1);
        vp->context_pending = vp->start_pending = true;
        vp->enabled_vtls = vp->ctl->enabled_vtls = 3;
        f.p->holder = fx_vp(&f, 0);
        assert_int_equal(fx_kick(&f, 1), 0);
        assert_int_equal(asked.entries, 0);
        assert_true(vp->start_pending);
        assert_true(atomic_load(&f.model->vps[1].kicks) > 0);
        f.p->holder = NULL;
        assert_int_equal(fx_kick(&f, 1), 0);
        assert_int_equal(asked.entries, 1);
        assert_int_equal(fx_active(&f, 1), 1);
        fx_deinit(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_an_identity_map),
                cmocka_unit_test(test_order_and_rights),
                cmocka_unit_test(test_large_pages_beyond_ram),
                cmocka_unit_test(test_tables_in_a_circle),
                cmocka_unit_test(test_other_modes),
                cmocka_unit_test(test_asked_once),
                cmocka_unit_test(test_asked_twice_where_required),
                cmocka_unit_test(test_refused_when_enabled),
                cmocka_unit_test(test_refused_when_entered),
                cmocka_unit_test(test_a_failure_of_the_host),
                cmocka_unit_test(test_another_vp_holds),
                cmocka_unit_test(test_another_vp_holds_a_start),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
