/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The host's look at registers: all that the table names, of both levels, on the VP's own thread.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/inspect.h"

static int set_up(void **state) {
        struct fx *f = malloc(sizeof(*f));

        fx_init(f, &(struct fx_options){ .vps = 2 });
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        fx_deinit(*state);
        free(*state);
        return 0;
}

static int look(struct fx *f, struct vtl_inspection *i) {
        int r;

        (void) pthread_mutex_lock(&f->p->lock);
        r = vtl_inspect(f->p, i);
        (void) pthread_mutex_unlock(&f->p->lock);
        return r;
}

static int inspect(struct fx *f, unsigned vp, unsigned vtl, union hv_register_value *ret) {
        struct vtl_inspection i = { .vp = vp, .vtl = vtl };
        int r = look(f, &i);

        memcpy(ret, i.values, sizeof(i.values));
        return r;
}

static const union hv_register_value *named(const union hv_register_value *values,
                                            const char *text) {
        for (unsigned i = 0; i < vtl_inspect_count; i++)
                if (strcmp(vtl_inspect_names[i].text, text) == 0)
                        return &values[i];
        fail_msg("no register %s", text);
        return NULL;
}

static void test_names(void **state) {
        for (unsigned i = 0; i < vtl_inspect_count; i++)
                for (unsigned j = 0; j < i; j++) {
                        assert_int_not_equal(vtl_inspect_names[i].name, vtl_inspect_names[j].name);
                        assert_string_not_equal(vtl_inspect_names[i].text,
                                                vtl_inspect_names[j].text);
                }
}

static void test_vtl0(void **state) {
        union hv_register_value v[VTL_INSPECT_MAX];
        struct fx *f = *state;
        struct model_vcpu *c = fx_cpu(f, 1);

        c->regs = (struct kvm_regs){ .rip = 0x1234, .rsp = 0x5678, .rflags = 2, .rbx = 3, .r9 = 9 };
        assert_int_equal(fx_kick(f, 1), 0);
        assert_int_equal(inspect(f, 1, 0, v), 0);
        assert_int_equal(named(v, "Rip")->reg64, 0x1234);
        assert_int_equal(named(v, "Rsp")->reg64, 0x5678);
        assert_int_equal(named(v, "Rbx")->reg64, 3);
        assert_int_equal(named(v, "R9")->reg64, 9);
        assert_int_equal(named(v, "Cr0")->reg64, c->sregs.cr0);
        assert_int_equal(named(v, "Cr3")->reg64, c->sregs.cr3);
        assert_int_equal(named(v, "Cs")->segment.selector, c->sregs.cs.selector);
        assert_int_equal(named(v, "Gdtr")->table.base, c->sregs.gdt.base);
        assert_int_equal(named(v, "VsmVpStatus")->reg64 & 0xf, 0);
        assert_int_equal(inspect(f, 1, 1, v), -ENODATA);
        assert_int_equal(inspect(f, 1, 2, v), -ENODATA);
        assert_int_equal(inspect(f, 2, 0, v), -ENXIO);
}

/* VTL0 runs: what VTL1 has is told nobody in the guest, and told here. */
static void test_vtl1_at_rest(void **state) {
        union hv_register_value v[VTL_INSPECT_MAX];
        struct fx *f = *state;

        fx_start_vtl1(f);
        fx_cpu(f, 0)->regs.rip = FX_VTL1_CODE + 0x77;
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        fx_cpu(f, 0)->regs.rip = 0x4444;
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(inspect(f, 0, 0, v), 0);
        assert_int_equal(named(v, "Rip")->reg64, 0x4444);
        assert_int_equal(inspect(f, 0, 1, v), 0);
        assert_int_equal(named(v, "Rip")->reg64, fx_plane(f, 0, 1)->regs.rip);
        assert_int_not_equal(named(v, "Rip")->reg64, 0x4444);
        assert_int_equal(named(v, "Tr")->segment.base, TINY_TSS);
}

/* Enabled, never entered: what it will begin with */
static void test_vtl1_to_come(void **state) {
        union hv_register_value v[VTL_INSPECT_MAX];
        struct fx *f = *state;

        fx_start_vtl1(f);
        assert_int_equal(inspect(f, 1, 1, v), -ENODATA);
        assert_int_equal(fx_enable_vp(f, 0, 1), 0);
        assert_int_equal(inspect(f, 1, 1, v), 0);
        assert_int_equal(named(v, "Rip")->reg64, FX_VTL1_CODE + 0x1000);
        assert_int_equal(named(v, "Rsp")->reg64, FX_VTL1_STACK + 0x1000);
        /* And it does begin with that. */
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_vtl_call(f, 1), 0);
        assert_int_equal(fx_cpu(f, 1)->regs.rip, FX_VTL1_CODE + 0x1000);
}

/* As on KVM: a vCPU is its own thread's */

static void test_own_thread(void **state) {
        struct plane_ops ops = plane_model_ops;
        struct fx *f = *state;
        struct vtl_inspection i = { .vp = 0 }, other = { .vp = 0 };
        unsigned kicks = f->model->vps[0].kicks;

        ops.borrow = NULL;
        f->p->config.ops = &ops;
        /* Nobody comes. */
        assert_int_equal(look(f, &i), -EAGAIN);
        assert_int_equal(f->model->vps[0].kicks, kicks + 1);
        assert_int_equal(look(f, &i), -EAGAIN);
        assert_int_equal(f->model->vps[0].kicks, kicks + 1);
        /* One at a time */
        assert_int_equal(look(f, &other), -EAGAIN);
        assert_false(other.asked);

        fx_cpu(f, 0)->regs.rip = 0x9999;
        assert_int_equal(fx_kick(f, 0), 0);
        fx_cpu(f, 0)->regs.rip = 0xaaaa;
        assert_int_equal(look(f, &i), 0);
        assert_int_equal(named(i.values, "Rip")->reg64, 0x9999);

        /* Not waited for any more: nobody writes to it. */
        assert_int_equal(look(f, &other), -EAGAIN);
        vtl_inspect_cancel(f->p, &other);
        assert_null(fx_vp(f, 0)->work);
        memset(&other, 0x5a, sizeof(other));
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(other.values[0].low64, 0x5a5a5a5a5a5a5a5a);
        f->p->config.ops = &plane_model_ops;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test_setup_teardown(test_vtl0, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_vtl1_at_rest, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_vtl1_to_come, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_own_thread, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
