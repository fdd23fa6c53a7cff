/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Overlay pages (vsm.md 8.4, 8.9): each VTL's own, over RAM that stays as it is, beside the rights
 * of VTL0. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/memory.h"
#include "vtl/overlay.h"

#define A 0x150000ull
#define B 0x151000ull
#define C 0x152000ull

static const uint32_t page_msrs[] = { HV_MSR_HYPERCALL, HV_MSR_REFERENCE_TSC, HV_MSR_VP_ASSIST_PAGE,
                                      HV_MSR_SIMP, HV_MSR_SIEFP };

static int set_up(void **state) {
        struct fx *f = malloc(sizeof(*f));

        fx_init(f, &(struct fx_options){ .vps = 2 });
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_GUEST_OS_ID, 1), 0);
        *state = f;
        return 0;
}

/* VTL1 of VP 0 active, both levels with an identity, protection on. */
static int set_up_vtl1(void **state) {
        struct fx *f;

        (void) set_up(state);
        f = *state;
        fx_start_vtl1(f);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_GUEST_OS_ID, 1), 0);
        fx_enable_protection(f, 0);
        return 0;
}

static int tear_down(void **state) {
        struct fx *f = *state;

        assert_int_equal(f->error, 0);
        assert_int_equal(f->model->protected_overlays, 0);
        fx_deinit(f);
        free(f);
        return 0;
}

static uint8_t peek(struct fx *f, unsigned vtl, uint64_t gpa) {
        uint8_t engine, view;

        assert_int_equal(plane_model_read(f->model, vtl, gpa, &view, 1), 0);
        assert_int_equal(vtl_memory_read(f->p, vtl, gpa, &engine, 1, HV_MAP_GPA_READABLE), 0);
        assert_int_equal(engine, view); /* the engine sees what the guest sees */
        return view;
}

static void poke(struct fx *f, unsigned vtl, uint64_t gpa, uint8_t v) {
        assert_int_equal(plane_model_write(f->model, vtl, gpa, &v, 1), 0);
        assert_int_equal(peek(f, vtl, gpa), v);
}

/* Moved, taken off, put back: contents live on, what is beneath comes back. */
static void test_move(void **state) {
        struct fx *f = *state;

        for (size_t i = 2; i < ARRAY_SIZE(page_msrs); i++) {
                uint64_t low = page_msrs[i] == HV_MSR_VP_ASSIST_PAGE ? 1 : 0xaab;

                f->ram[A + 0x300] = 0x0a;
                f->ram[B + 0x300] = 0x0b;
                assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], A | low), 0);
                assert_int_equal(peek(f, 0, A + 0x300), 0); /* zero at first */
                poke(f, 0, A + 0x300, 0x55);
                assert_int_equal(peek(f, 1, A + 0x300), 0x0a);
                assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], B | low), 0);
                assert_int_equal(peek(f, 0, A + 0x300), 0x0a);
                assert_int_equal(peek(f, 0, B + 0x300), 0x55);
                assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], B | (low & ~1ull)), 0);
                assert_int_equal(peek(f, 0, B + 0x300), 0x0b);
                poke(f, 0, B + 0x300, 0x0c);
                assert_int_equal(f->ram[B + 0x300], 0x0c);
                assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], A | low), 0);
                assert_int_equal(peek(f, 0, A + 0x300), 0x55);
                /* The same again is nothing. */
                assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], A | low), 0);
                assert_int_equal(f->p->n_overlays[0], 1);
                assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], 0), 0);
                assert_int_equal(f->p->n_overlays[0], 0);
                assert_int_equal(f->ram[A + 0x300], 0x0a);
        }
}

/* Two pages of one VTL cannot lie at one place; those of two VTLs or in the second region can. */
static void test_occupied(void **state) {
        struct fx *f = *state;
        uint64_t v;

        for (size_t i = 0; i < ARRAY_SIZE(page_msrs); i++)
                for (size_t j = 0; j < ARRAY_SIZE(page_msrs); j++) {
                        if (i == j)
                                continue;
                        assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], A | 1), 0);
                        assert_int_equal(fx_wrmsr(f, 0, page_msrs[j], A | 1), 1);
                        assert_int_equal(fx_wrmsr(f, 0, page_msrs[j], B | 1), 0);
                        assert_int_equal(fx_wrmsr(f, 0, page_msrs[j], A | 1),
                                         1); /* nor be moved there */
                        assert_int_equal(fx_rdmsr(f, 0, page_msrs[j], &v), 0);
                        assert_int_equal(v, B | 1);
                        assert_int_equal(fx_wrmsr(f, 0, page_msrs[j], 0), 0);
                        assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], 0), 0);
                }
        /* Of two VPs: one VTL, one view */
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_VP_ASSIST_PAGE, A | 1), 0);
        assert_int_equal(fx_wrmsr(f, 1, HV_MSR_VP_ASSIST_PAGE, A | 1), 1);
        assert_int_equal(fx_wrmsr(f, 1, HV_MSR_VP_ASSIST_PAGE, FX_RAM2 | 1), 0);
        poke(f, 0, FX_RAM2 + 5, 1);
        assert_int_equal(f->ram2[5], 0);
        assert_int_equal(fx_wrmsr(f, 1, HV_MSR_VP_ASSIST_PAGE, (FX_RAM2 + FX_RAM2_SIZE) | 1), 1);
        assert_int_equal(fx_wrmsr(f, 1, HV_MSR_VP_ASSIST_PAGE, TINY_SIZE | 1), 1);
}

static void test_two_vtls(void **state) {
        struct fx *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(page_msrs); i++) {
                assert_int_equal(fx_active(f, 0), 1);
                assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], A | 1), 0);
                assert_int_equal(fx_vtl_return(f, 0, true), 0);
                assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], A | 1), 0);
                if (i >= 2) {
                        poke(f, 0, A + 0x700, 0x10);
                        poke(f, 1, A + 0x700, 0x11);
                        assert_int_equal(peek(f, 0, A + 0x700), 0x10);
                } else {
                        assert_int_equal(plane_model_rights(f->model, 0, A >> 12),
                                         HV_MAP_GPA_READABLE);
                        assert_int_equal(plane_model_rights(f->model, 1, A >> 12),
                                         HV_MAP_GPA_READABLE);
                }
                assert_int_equal(f->ram[A + 0x700], 0);
                assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], 0), 0);
                assert_int_equal(fx_vtl_call(f, 0), 0);
                if (i >= 2)
                        assert_int_equal(peek(f, 1, A + 0x700), 0x11);
                assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], 0), 0);
        }
}

/* VTL0 may not cover what VTL1 closed, and VTL1 cannot close what VTL0 has covered (vsm.md 3.1,
 * 8.4). */
static void test_rights(void **state) {
        static const uint32_t masks[] = { 0, 1, 0xd };
        struct fx *f = *state;

        for (size_t m = 0; m < ARRAY_SIZE(masks); m++) {
                assert_int_equal(fx_protect_page(f, 0, masks[m], A >> 12), FX_RESULT(0, 1));
                assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, A | 1),
                                 0); /* VTL1's own view is open */
                assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, 0), 0);
                assert_int_equal(fx_vtl_return(f, 0, true), 0);
                for (size_t i = 0; i < ARRAY_SIZE(page_msrs); i++) {
                        assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], A | 1), 1);
                        assert_int_equal(plane_model_rights(f->model, 0, A >> 12), masks[m] & 3);
                        /* Moving there is refused as well, and the old one stays. */
                        assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], B | 1), 0);
                        assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], A | 1), 1);
                        assert_non_null(vtl_overlay_find(f->p, 0, B >> 12));
                        assert_int_equal(fx_wrmsr(f, 0, page_msrs[i], 0), 0);
                }
                assert_int_equal(fx_vtl_call(f, 0), 0);
        }
        /* No execute is no obstacle: what is laid there is not executed data of VTL1's. */
        assert_int_equal(fx_protect_page(f, 0, 3, A >> 12), FX_RESULT(0, 1));
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, A | 1), 0);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_protect_page(f, 0, 0, A >> 12),
                         FX_RESULT(HV_STATUS_OPERATION_DENIED, 0));
        /* VTL1's own overlays do not hide VTL0's page. */
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, B | 1), 0);
        assert_int_equal(fx_protect_page(f, 0, 0, B >> 12), FX_RESULT(0, 1));
        assert_int_equal(plane_model_rights(f->model, 0, B >> 12), 0);
        assert_int_equal(plane_model_rights(f->model, 1, B >> 12), 3);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, 0), 0);
        assert_int_equal(plane_model_rights(f->model, 0, B >> 12), 0);
        /* When VTL0's goes, the mask that held before is there again. */
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, 0), 0);
        assert_int_equal(plane_model_rights(f->model, 0, A >> 12), 3);
        assert_int_equal(vtl_memory_rights(f->p, 0, A >> 12), 3);
}

/* The default mask passes over overlays, which keep their own rights. */
static void test_default_mask(void **state) {
        struct fx *f = *state;

        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_HYPERCALL, A | 1), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, 0 | 1), 0); /* the first page */
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIEFP, (TINY_SIZE - 4096) | 1), 0); /* the last */
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_VP_ASSIST_PAGE, B | 1), 0);         /* neighbours */
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_REFERENCE_TSC, FX_RAM2 | 1), 0);
        fx_start_vtl1(f);
        assert_int_equal(fx_set(f, 0, HV_VP_INDEX_SELF, 0, HV_REGISTER_VSM_PARTITION_CONFIG, 0x7),
                         0);
        assert_int_equal(f->model->protected_overlays, 0);
        assert_int_equal(plane_model_rights(f->model, 0, A >> 12), HV_MAP_GPA_READABLE);
        assert_int_equal(plane_model_rights(f->model, 0, B >> 12), 3);
        assert_int_equal(plane_model_rights(f->model, 0, C >> 12), 3);
        assert_int_equal(plane_model_rights(f->model, 0, FX_RAM2 >> 12), HV_MAP_GPA_READABLE);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_HYPERCALL, 0), 0);
        assert_int_equal(plane_model_rights(f->model, 0, A >> 12), 3);
        assert_int_equal(vtl_memory_rights(f->p, 0, A >> 12), 3); /* no execute */
}

/* Every page that there can be, at once */
static void test_all(void **state) {
        struct fx f;
        uint64_t at = 0x200000;
        unsigned vps = 64, n = 0;

        fx_init(&f, &(struct fx_options){ .vps = vps });
        assert_int_equal(fx_wrmsr(&f, 0, HV_MSR_GUEST_OS_ID, 1), 0);
        for (size_t i = 0; i < ARRAY_SIZE(page_msrs); i++)
                for (unsigned vp = 0; vp < (i < 2 ? 1 : vps); vp++, at += HV_PAGE_SIZE, n++) {
                        assert_int_equal(fx_wrmsr(&f, vp, page_msrs[i], at | 1), 0);
                        assert_non_null(vtl_overlay_find(f.p, 0, at >> HV_PAGE_SHIFT));
                }
        assert_int_equal(f.p->n_overlays[0], n);
        for (size_t i = 2; i < ARRAY_SIZE(page_msrs); i++)
                for (unsigned vp = 0; vp < vps; vp++) {
                        uint64_t page;

                        assert_int_equal(fx_rdmsr(&f, vp, page_msrs[i], &page), 0);
                        poke(&f, 0, (page & ~0xfffull) + 0x123, (uint8_t) (i * 64 + vp));
                }
        for (size_t i = 2; i < ARRAY_SIZE(page_msrs); i++)
                for (unsigned vp = 0; vp < vps; vp++) {
                        uint64_t page;

                        assert_int_equal(fx_rdmsr(&f, vp, page_msrs[i], &page), 0);
                        assert_int_equal(peek(&f, 0, (page & ~0xfffull) + 0x123),
                                         (uint8_t) (i * 64 + vp));
                        assert_int_equal(fx_wrmsr(&f, vp, page_msrs[i], 0), 0);
                }
        assert_int_equal(f.p->n_overlays[0], 2);
        /* Two regions; in the middle of one, two pages that are no neighbours in the overlay memory
         * */
        assert_int_equal(plane_model_mappings(f.model, 0), 2 + 3);
        fx_deinit(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_move, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_occupied, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_two_vtls, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_rights, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_default_mask, set_up, tear_down),
                cmocka_unit_test(test_all),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("overlay", tests, NULL, NULL);
}
