/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The host fails: each operation of a long passage once, with each of several errors. The engine
 * says so or answers the guest, it never goes on as if nothing was, and what VTL1 closed stays
 * closed.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/hvpage.h"
#include "vtl/memory.h"

#define SELF HV_VP_INDEX_SELF
#define SECRET 0x180000ull /* closed early and never opened again */
#define OTHER 0x300000ull  /* closed and opened */
#define SECRET_BYTE 0x5e
#define STEPS_MAX 500

static uint8_t *ram;

static int set_up_group(void **state) {
        ram = malloc(TINY_SIZE);
        fx_fill_ram(ram);
        return 0;
}

static int tear_down_group(void **state) {
        free(ram);
        return 0;
}

/* VTL1 has asked for it and was told that it is done. */
static bool close_secret(struct fx *f) {
        uint64_t pages[40];

        for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
                pages[i] = (SECRET >> HV_PAGE_SHIFT) + 2 * i;
        return fx_modify(f, 0, 0, pages, ARRAY_SIZE(pages)) == FX_RESULT(0, ARRAY_SIZE(pages));
}

static void check_closed(struct fx *f, bool closed) {
        uint8_t byte = 0;

        for (unsigned i = 0; closed && i < 40; i++) {
                uint64_t gpa = SECRET + 2ull * i * HV_PAGE_SIZE;

                assert_int_equal(plane_model_rights(f->model, 0, gpa >> HV_PAGE_SHIFT), 0);
                assert_int_equal(vtl_memory_rights(f->p, 0, gpa >> HV_PAGE_SHIFT), 0);
                assert_int_equal(plane_model_read(f->model, 0, gpa, &byte, 1), -EFAULT);
                assert_int_equal(plane_model_write(f->model, 0, gpa, &byte, 1), -EFAULT);
                assert_int_equal(f->ram[gpa], SECRET_BYTE);
        }
}

static void vtl0_at(struct fx *f, const void *code, size_t n) {
        memcpy(f->ram + TINY_CODE, code, n);
        fx_cpu(f, 0)->regs.rip = TINY_CODE;
        fx_cpu(f, 0)->regs.rbx = SECRET;
}

/* VTL1's handler: takes the interrupt and empties the slot. */
static void handle_intercept(struct fx *f) {
        fx_cpu(f, 0)->regs.rflags |= 0x200;
        (void) fx_irq_window(f, 0);
        fx_cpu(f, 0)->regs.rflags &= ~0x200ull;
        (void) fx_wrmsr(f, 0, HV_MSR_EOI, 0);
        memset(f->overlay + (size_t) vtl_overlay_page(VTL_OVERLAY_SIMP, 0, 1) * HV_PAGE_SIZE, 0, 4);
}

/* Everything that moves the planes. Return: whether SECRET was closed. */
static bool passage(struct fx *f) {
        union hv_register_value v;
        bool closed = false;
        uint64_t data;

        (void) fx_wrmsr(f, 0, HV_MSR_GUEST_OS_ID, 1);
        (void) fx_wrmsr(f, 0, HV_MSR_HYPERCALL, 0x150001);
        (void) fx_wrmsr(f, 0, HV_MSR_REFERENCE_TSC, 0x151001);
        (void) fx_enable_partition(f, 0);
        (void) fx_enable_vp(f, 0, 0);
        (void) fx_vtl_call(f, 0);
        (void) fx_wrmsr(f, 0, HV_MSR_VP_ASSIST_PAGE, 0x152001);
        (void) fx_wrmsr(f, 0, HV_MSR_SIMP, 0x153001);
        (void) fx_store(f, 0, LAPIC_BASE_RESET + 0xf0, 4, 0x1ff);
        (void) fx_wrmsr(f, 0, HV_MSR_SINT0, 0x60);
        (void) fx_set(f, 0, SELF, 0, HV_REGISTER_VSM_PARTITION_CONFIG, 0x1f);
        closed = close_secret(f);
        check_closed(f, closed);
        (void) fx_protect_page(f, 0, 1, OTHER >> HV_PAGE_SHIFT);
        (void) fx_protect_page(f, 0, 0xf, OTHER >> HV_PAGE_SHIFT);
        (void) fx_enable_vp(f, 0, 1);
        (void) fx_vtl_return(f, 0, true);
        check_closed(f, closed);

        vtl0_at(f, "\x48\x8b\x03", 3); /* mov (%rbx), %rax */
        (void) fx_fault(f, 0);
        check_closed(f, closed);
        handle_intercept(f);
        for (uint32_t name = HV_X64_REGISTER_RSP; name <= HV_X64_REGISTER_RFLAGS; name++)
                (void) fx_get(f, 0, SELF, 0x10, name, &v);
        (void) fx_get(f, 0, SELF, 0x10, HV_X64_REGISTER_CR3, &v);
        (void) fx_get(f, 0, SELF, 0x10, HV_X64_REGISTER_XMM0, &v);
        (void) fx_get(f, 0, SELF, 0x10, HV_X64_REGISTER_DR7, &v);
        (void) fx_get(f, 0, SELF, 0x10, HV_X64_REGISTER_XFEM, &v);
        (void) fx_get(f, 0, SELF, 0x10, HV_X64_REGISTER_LSTAR, &v);
        (void) fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_RIP, TINY_CODE + 3);
        (void) fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_LSTAR, 0x1000);
        (void) fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_CR3, TINY_PML4);
        (void) fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_XMM0, 1);
        (void) fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_DR0, 1);
        (void) fx_set(f, 0, SELF, 0x10, HV_REGISTER_PENDING_EVENT0, 1 | 6 << 16);
        (void) fx_vtl_return(f, 0, false);

        vtl0_at(f, "\x48\x8b\x03", 3);
        (void) fx_load(f, 0, SECRET, 8, &data);
        assert_false(closed && (uint8_t) data == SECRET_BYTE);
        check_closed(f, closed);
        handle_intercept(f);
        (void) fx_vtl_return(f, 0, true);
        vtl0_at(f, "\x48\x89\x03", 3);
        (void) fx_store(f, 0, SECRET, 8, 0);
        check_closed(f, closed);
        handle_intercept(f);
        (void) fx_vtl_return(f, 0, true);
        (void) fx_vtl_call(f, 1);
        (void) fx_store(f, 1, LAPIC_BASE_RESET + 0xf0, 4, 0x1ff);
        (void) fx_store(f, 1, LAPIC_BASE_RESET + 0x300, 4, 2 << 18 | 0x70);
        (void) fx_kick(f, 0);

        /* Overlays moved and taken off, over the closed page (refused) and elsewhere; #UD */
        (void) fx_wrmsr(f, 1, HV_MSR_VP_ASSIST_PAGE, 0x154001);
        (void) fx_wrmsr(f, 1, HV_MSR_VP_ASSIST_PAGE, 0x155001);
        (void) fx_wrmsr(f, 1, HV_MSR_VP_ASSIST_PAGE, 0);
        (void) fx_vtl_return(f, 1, true);
        (void) fx_wrmsr(f, 1, HV_MSR_SIMP, SECRET | 1);
        (void) fx_wrmsr(f, 1, HV_MSR_SIMP, 0x156001);
        (void) fx_wrmsr(f, 1, HV_MSR_SIMP, 0x157001);
        (void) fx_wrmsr(f, 0, HV_MSR_GUEST_OS_ID, 0);
        fx_cpu(f, 1)->regs.rcx = 0x12;
        (void) fx_out(f, 1, HVPAGE_PORT_VTL_RETURN, FX_OUT_RETURN64);
        check_closed(f, closed);
        return closed;
}

/* Errors that are answers to the guest: too many mappings, registers that no CPU would hold */
static bool tolerated(int error) {
        return error == -ENOMEM || error == -EINVAL;
}

static void check_error(int error) {
        unsigned at;

        for (at = 1; at < STEPS_MAX; at++) {
                struct fx f;
                unsigned kicks;
                bool closed;

                for (unsigned i = 0; i < 40; i++)
                        ram[SECRET + 2ull * i * HV_PAGE_SIZE] = SECRET_BYTE;
                fx_init(&f, &(struct fx_options){ .vps = 2, .ram = ram, .tsc_khz = 1000000 });
                f.model->fail_at = at;
                f.model->fail_with = error;
                closed = passage(&f);
                if (!f.model->failed) {
                        /* The whole passage, and nothing went wrong: it does what it is for. */
                        assert_int_equal(f.error, 0);
                        assert_true(closed);
                        assert_int_equal(f.events[VTL_EVENT_INTERCEPT], 3);
                        assert_int_equal(f.model->protected_overlays, 0);
                        fx_deinit(&f);
                        break;
                }
                kicks = f.model->vps[0].kicks;
                if (f.error) {
                        assert_int_equal(f.error, error);
                        assert_int_equal(f.events[VTL_EVENT_STOPPED], 1);
                        assert_int_equal(f.p->header->stopped, -error);
                        assert_int_equal(f.action.kind, VTL_ACTION_STOP);
                } else if (kicks > 0 && !tolerated(error)) /* only the kick may fail unnoticed */
                        fail_msg("operation %u failed with %d and nobody noticed", at, error);
                check_closed(&f, closed);
                /* A VMM that does not stop gets nowhere either. */
                (void) fx_serve(
                        &f, 0,
                        &(struct vtl_exit){ .kind = VTL_EXIT_KICK, .plane = fx_active(&f, 0) });
                (void) fx_serve(
                        &f, 1,
                        &(struct vtl_exit){ .kind = VTL_EXIT_KICK, .plane = fx_active(&f, 1) });
                check_closed(&f, closed);
                fx_deinit(&f);
        }
        assert_in_range(at, 80, STEPS_MAX - 1);
}

static void test_eio(void **state) {
        check_error(-EIO);
}

static void test_enomem(void **state) {
        check_error(-ENOMEM);
}

static void test_einval(void **state) {
        check_error(-EINVAL);
}

static void test_efault(void **state) {
        check_error(-EFAULT);
}

/* ---- The partition ---- */

static void test_config(void **state) {
        static const uint32_t ids[] = { 0, 1, 2, 1 };
        static const struct {
                unsigned vps;
                uint64_t gpa, size;
                unsigned phys_bits;
                int result;
        } rows[] = {
                { 1, 0, 0x1000, 40, 0 },
                { 3, 0x1000, 0x1000, 40, 0 },
                { 0, 0, 0x1000, 40, -EINVAL },
                { VTL_MAX_VPS + 1, 0, 0x1000, 40, -EINVAL },
                { 4, 0, 0x1000, 40, -EINVAL }, /* an APIC ID twice */
                { 1, 0, 0, 40, -EINVAL },
                { 1, 0, 0x800, 40, -EINVAL },
                { 1, 0x800, 0x1000, 40, -EINVAL },
                { 1, 0 - 0x1000ull, 0x1000, 40, -EINVAL },
                { 1, 0 - 0x1000ull, 0x2000, 40, -EINVAL },
                { 1, (1ull << 40) - 0x1000, 0x2000, 40, -EINVAL },
                { 1, (1ull << 40) - 0x1000, 0x1000, 40, 0 },
                { 1, 0, 0x1000, 31, -EINVAL },
                { 1, 0, 0x1000, 53, -EINVAL },
        };
        uint8_t *control = calloc(1, vtl_control_size(VTL_MAX_VPS + 1));
        uint8_t *overlay = calloc(vtl_overlay_pages(VTL_MAX_VPS), HV_PAGE_SIZE);

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct vtl_region region = { .gpa = rows[i].gpa,
                                             .size = rows[i].size,
                                             .base = ram };
                struct vtl_config c = {
                        .vps = rows[i].vps,
                        .apic_ids = ids,
                        .regions = &region,
                        .n_regions = 1,
                        .phys_bits = rows[i].phys_bits,
                        .control = control,
                        .overlay = overlay,
                        .ops = &plane_model_ops,
                };
                struct vtl_partition *p = NULL;
                int r = vtl_partition_new(&c, &p);

                if (r != rows[i].result)
                        fail_msg("row %zu: %d", i, r);
                assert_true((p != NULL) == (r == 0));
                assert_null(vtl_partition_free(p));
        }
        free(control);
        free(overlay);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_eio),    cmocka_unit_test(test_enomem),
                cmocka_unit_test(test_einval), cmocka_unit_test(test_efault),
                cmocka_unit_test(test_config),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("engine-failures", tests, set_up_group, tear_down_group);
}
