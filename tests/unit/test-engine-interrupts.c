/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * VTL1's interrupts (vsm.md 7.1, 7.2): when one preempts VTL0, when one is injected, EOI and TPR,
 * interrupts between VPs, HLT and what ends it.
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
#include "vtl/synic.h"

#define APIC LAPIC_BASE_RESET
#define IF 0x200ull
#define ICR_SELF (1u << 18)
#define ICR_ALL (2u << 18)
#define ICR_OTHERS (3u << 18)

/* VTL1 on both VPs, its APICs on in software, VTL1 active on VP 0 and VTL0 on VP 1. */
static int set_up(void **state) {
        struct fx *f = malloc(sizeof(*f));

        fx_init(f, &(struct fx_options){ .vps = 3 });
        fx_start_vtl1(f);
        assert_int_equal(fx_enable_vp(f, 0, 1), 0);
        assert_int_equal(fx_vtl_call(f, 1), 0);
        for (unsigned vp = 0; vp < 2; vp++)
                assert_int_equal(fx_store(f, vp, APIC + 0xf0, 4, LAPIC_SVR_ENABLE | 0xff), 0);
        assert_int_equal(fx_vtl_return(f, 1, true), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        fx_deinit(*state);
        free(*state);
        return 0;
}

static void set_if(struct fx *f, unsigned vp, bool on) {
        struct kvm_regs *regs = &fx_cpu(f, vp)->regs;

        regs->rflags = on ? regs->rflags | IF : regs->rflags & ~IF;
}

static bool injected(struct fx *f, unsigned vp, unsigned vector) {
        return fx_injected(f, vp, 1, PLANE_INJECT_INTERRUPT, vector);
}

static void self_ipi(struct fx *f, unsigned vp, uint8_t vector) {
        assert_int_equal(fx_store(f, vp, APIC + 0x300, 4, ICR_SELF | vector), 0);
}

static uint32_t apic_read(struct fx *f, unsigned vp, uint32_t offset) {
        uint64_t v;

        assert_int_equal(fx_load(f, vp, APIC + offset, 4, &v), 0);
        return (uint32_t) v;
}

static void test_window(void **state) {
        struct fx *f = *state;

        /* Asked for with interrupts off: the engine wants to know when they are on. */
        self_ipi(f, 0, 0x50);
        assert_int_equal(f->action.irq_window, 1);
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(f->action.irq_window, 1);
        assert_false(injected(f, 0, 0x50));
        /* Not between an `out` and its end, nor with MSR or APIC accesses half done */
        set_if(f, 0, true);
        assert_int_equal(fx_hypercall(f, 0, HVCALL_EXT_QUERY_CAPABILITIES, 0, FX_OUTPUT), 0);
        assert_int_equal(f->action.irq_window, 1);
        assert_false(injected(f, 0, 0x50));
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOM, 0), 0);
        assert_int_equal(f->action.irq_window, 1);
        assert_false(injected(f, 0, 0x50));
        (void) apic_read(f, 0, 0x20);
        assert_int_equal(f->action.irq_window, 1);
        assert_false(injected(f, 0, 0x50));

        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_true(injected(f, 0, 0x50));
        assert_int_equal(f->model->vps[0].n_injections, 1);
        assert_int_equal(f->action.irq_window, 0);
        /* In service until EOI; the same class waits, a higher one does not. */
        self_ipi(f, 0, 0x51);
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_false(injected(f, 0, 0x51));
        assert_int_equal(f->action.irq_window, 0);
        assert_int_equal(fx_ctl(f, 0)->pending_vtls, 0);
        assert_int_equal(fx_ctl(f, 0)->lapic_idle, 0);
        self_ipi(f, 0, 0x70);
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_true(injected(f, 0, 0x70));
        assert_int_equal(fx_store(f, 0, APIC + 0xb0, 4, 0), 0);
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_false(injected(f, 0, 0x51));
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOI, 0), 0);
        assert_int_equal(f->action.irq_window, 1);
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_true(injected(f, 0, 0x51));
}

/* What is not ready for injection is left alone, whatever IF says. */
static void test_not_ready(void **state) {
        static const struct { uint8_t if_flag, ready; } rows[] = { { 0, 0 }, { 1, 0 }, { 0, 1 } };
        struct fx *f = *state;

        self_ipi(f, 0, 0x50);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                assert_int_equal(
                        fx_serve(f, 0,
                                 &(struct vtl_exit){ .kind = VTL_EXIT_KICK,
                                                     .plane = 1,
                                                     .if_flag = rows[i].if_flag,
                                                     .ready_for_injection = rows[i].ready }),
                        0);
                assert_int_equal(f->model->vps[0].n_injections, 0);
                assert_int_equal(f->action.irq_window, 1);
        }
}

static void test_tpr(void **state) {
        struct fx *f = *state;

        set_if(f, 0, true);
        assert_int_equal(fx_store(f, 0, APIC + 0x80, 4, 0x50), 0);
        assert_int_equal(fx_cpu(f, 0)->cr8, 5);
        self_ipi(f, 0, 0x5f);
        assert_int_equal(f->action.irq_window, 0);
        assert_int_equal(fx_kick(f, 0), 0);
        assert_false(injected(f, 0, 0x5f));
        /* MOV to CR8 lowers it: that is an exit of its own. */
        fx_cpu(f, 0)->cr8 = 4;
        assert_int_equal(fx_exit(f, 0, &(struct vtl_exit){ .kind = VTL_EXIT_TPR }, 0), 0);
        assert_true(injected(f, 0, 0x5f));
        assert_int_equal(apic_read(f, 0, 0x80), 0x40);
        assert_int_equal(apic_read(f, 0, 0xa0), 0x50); /* PPR */
}

static void test_software_disabled(void **state) {
        struct fx *f = *state;

        assert_int_equal(fx_store(f, 0, APIC + 0xf0, 4, 0xff), 0);
        self_ipi(f, 0, 0x50);
        assert_int_equal(fx_ctl(f, 0)->lapic_idle, 1);
        set_if(f, 0, true);
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_int_equal(f->model->vps[0].n_injections, 0);
}

/* ---- Preemption of VTL0 ---- */

static void request(struct fx *f, unsigned vp, uint8_t vector) {
        vtl_request_vtl1_interrupt(fx_vp(f, vp), NULL, vector, false);
}

/* VTL0 has executed part of an instruction: it is finished before VTL1 comes. */
static void test_boundary(void **state) {
        static const struct vtl_exit exits[] = {
                { .kind = VTL_EXIT_RDMSR, .msr = HV_MSR_VP_INDEX },
                { .kind = VTL_EXIT_WRMSR, .msr = HV_MSR_EOM },
                { .kind = VTL_EXIT_WRMSR, .msr = 0x12345 }, /* #GP */
                { .kind = VTL_EXIT_MMIO, .gpa = 0x180000, .len = 8 },
                { .kind = VTL_EXIT_MMIO, .gpa = 0x180000, .len = 8, .is_write = 1 },
        };
        struct fx *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(exits); i++) {
                struct vtl_exit e = exits[i];
                struct model_vcpu *c;

                fx_cpu(f, 1)->regs.rip = TINY_CODE;
                fx_cpu(f, 1)->regs.rax = fx_cpu(f, 1)->regs.rdx = 0x77;
                request(f, 1, 0x50);
                plane_model_exit(f->model, 1, &e, 2);
                assert_int_equal(vtl_engine_exit(fx_vp(f, 1)), 0);
                assert_int_equal(fx_ctl(f, 1)->action.kind, VTL_ACTION_RUN);
                assert_int_equal(fx_ctl(f, 1)->action.to_boundary, 1);
                assert_int_equal(fx_active(f, 1), 0);
                plane_model_enter(f->model, 1);
                c = fx_cpu(f, 1);
                assert_int_equal(c->regs.rip, TINY_CODE + (e.msr == 0x12345 ? 0 : 2));
                if (e.kind == VTL_EXIT_RDMSR)
                        assert_int_equal(c->regs.rax, 1);
                assert_int_equal(fx_kick(f, 1), 0);
                assert_int_equal(fx_active(f, 1), 1);
                assert_int_equal(f->action.irq_window, 1);
                assert_int_equal(c->regs.rip, TINY_CODE + (e.msr == 0x12345 ? 0 : 2));

                set_if(f, 1, true);
                assert_int_equal(fx_irq_window(f, 1), 0);
                assert_true(injected(f, 1, 0x50));
                set_if(f, 1, false);
                assert_int_equal(fx_wrmsr(f, 1, HV_MSR_EOI, 0), 0);
                assert_int_equal(fx_vtl_return(f, 1, true), 0);
                assert_int_equal(fx_active(f, 1), 0);
        }
}

/* A hypercall of VTL0's is finished, its result is VTL0's, and VTL1 comes at once. */
static void test_at_hypercall(void **state) {
        struct fx *f = *state;

        fx_cpu(f, 1)->regs.r12 = 0x1212;
        request(f, 1, 0x50);
        fx_cpu(f, 1)->regs.rcx = HVCALL_EXT_QUERY_CAPABILITIES | 1ull << 62; /* invalid input */
        assert_int_equal(fx_out(f, 1, HVPAGE_PORT_HYPERCALL, FX_OUT_HYPERCALL), 0);
        assert_int_equal(fx_active(f, 1), 1);
        assert_int_equal(fx_cpu(f, 1)->regs.rax, HV_STATUS_INVALID_HYPERCALL_INPUT); /* shared */
        assert_int_equal(fx_cpu(f, 1)->regs.r12, 0x1212);
        assert_int_equal(fx_vtl_return(f, 1, false), 0);
        assert_int_equal(fx_active(f, 1), 1); /* IF was off, the vector is still there */
        assert_int_equal(fx_wrmsr(f, 1, HV_MSR_TPR, 0xff), 0);
        assert_int_equal(fx_vtl_return(f, 1, false), 0);
        assert_int_equal(fx_active(f, 1), 0);
        assert_int_equal(fx_cpu(f, 1)->regs.rax, HV_STATUS_INVALID_HYPERCALL_INPUT);
        plane_model_enter(f->model, 1);
        assert_int_equal(fx_cpu(f, 1)->regs.rip,
                         FX_HYPERCALL_PAGE + FX_OUT_HYPERCALL + HVPAGE_OUT_LENGTH);
}

/* VTL0's and VTL1's flags do not matter for preemption; a VP without VTL1 has none. */
static void test_flags(void **state) {
        struct fx *f = *state;

        for (unsigned on = 0; on < 2; on++) {
                set_if(f, 1, on);
                request(f, 1, 0x50);
                assert_int_equal(fx_kick(f, 1), 0);
                assert_int_equal(fx_active(f, 1), 1);
                set_if(f, 1, true);
                assert_int_equal(fx_irq_window(f, 1), 0);
                set_if(f, 1, false);
                assert_int_equal(fx_wrmsr(f, 1, HV_MSR_EOI, 0), 0);
                assert_int_equal(fx_vtl_return(f, 1, true), 0);
                assert_int_equal(fx_active(f, 1), 0);
        }
        fx_vp(f, 2)->lapic.svr = 0x1ff;
        request(f, 2, 0x50);
        assert_int_equal(fx_kick(f, 2), 0);
        assert_int_equal(fx_active(f, 2), 0);
        assert_int_equal(f->error, 0);
}

/* The first that a VP ever sees of VTL1 may be an interrupt: it begins at the context (vsm.md 5.1).
 * */
static void test_first_entry(void **state) {
        struct fx *f = *state;

        assert_int_equal(fx_enable_vp(f, 0, 2), 0);
        fx_vp(f, 2)->lapic.svr = 0x1ff;
        request(f, 2, 0x50);
        assert_int_equal(fx_kick(f, 2), 0);
        assert_int_equal(fx_active(f, 2), 1);
        assert_int_equal(fx_cpu(f, 2)->regs.rip, fx_context(2).rip);
        assert_int_equal(fx_cpu(f, 2)->regs.rsp, fx_context(2).rsp);
}

/* ---- Between VPs ---- */

/* An NMI has no vector: it preempts VTL0 of the other VP and is injected there. */
static void test_ipi_nmi(void **state) {
        struct fx *f = *state;

        f->model->vps[1].n_injections = 0;
        f->model->vps[1].kicks = 0;
        assert_int_equal(fx_store(f, 0, APIC + 0x310, 4, 2u << 24), 0);
        assert_int_equal(fx_store(f, 0, APIC + 0x300, 4, 0x400), 0);
        assert_int_equal(f->model->vps[1].kicks, 1);
        assert_int_equal(fx_ctl(f, 1)->switchable, 0);
        assert_int_equal(fx_kick(f, 1), 0);
        assert_int_equal(fx_active(f, 1), 1);
        assert_int_equal(f->model->vps[1].n_injections, 1);
        assert_int_equal(f->model->vps[1].injections[0].plane, 1);
        assert_int_equal(f->model->vps[1].injections[0].what.kind, PLANE_INJECT_NMI);
        assert_int_equal(lapic_pending(&fx_vp(f, 1)->lapic), -1);
        assert_int_equal(f->error, 0);
}

static void test_ipi(void **state) {
        static const struct {
                uint32_t high, low;
                unsigned reach; /* bitmap of VPs */
        } rows[] = {
                { 0, ICR_SELF | 0x50, 1 },
                { 2u << 24, 0x50, 2 }, /* the APIC ID of VP 1 */
                { 0, 0x50, 1 },
                { 4u << 24, 0x50, 0 }, /* VP 2 has no VTL1 */
                { 9u << 24, 0x50, 0 },
                { 0xffu << 24, 0x50, 3 },
                { 0, ICR_ALL | 0x50, 3 },
                { 0, ICR_OTHERS | 0x50, 2 },
                { 2u << 24, 0x500 | 0x4000, 0 }, /* INIT */
                { 2u << 24, 0x609, 0 },          /* SIPI */
                { 0xffu << 24, 0x150, 1 },       /* lowest priority: one of them */
                { 2u << 24, 0x0f, 0 },           /* a vector that is none */
        };
        struct fx *f = *state;

        fx_vp(f, 2)->lapic.svr = 0x1ff;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                for (unsigned vp = 0; vp < 3; vp++)
                        f->model->vps[vp].kicks = 0;
                assert_int_equal(fx_store(f, 0, APIC + 0x310, 4, rows[i].high), 0);
                assert_int_equal(fx_store(f, 0, APIC + 0x300, 4, rows[i].low), 0);
                for (unsigned vp = 0; vp < 3; vp++) {
                        bool reached = rows[i].reach >> vp & 1;

                        if (lapic_pending(&fx_vp(f, vp)->lapic) != (reached ? 0x50 : -1))
                                fail_msg("row %zu, VP %u", i, vp);
                        /* Who is not the sender is made to look, and cannot switch without the
                         * engine. */
                        assert_int_equal(f->model->vps[vp].kicks, reached && vp != 0);
                        if (reached && vp != 0) {
                                assert_int_equal(fx_ctl(f, vp)->switchable, 0);
                                assert_int_equal(fx_ctl(f, vp)->lapic_idle, 0);
                                assert_int_equal(fx_kick(f, vp), 0);
                                assert_int_equal(fx_active(f, vp), 1);
                        }
                        memset(fx_vp(f, vp)->lapic.irr, 0, sizeof(fx_vp(f, vp)->lapic.irr));
                        if (reached && vp != 0)
                                assert_int_equal(fx_vtl_return(f, vp, true), 0);
                }
        }
        assert_int_equal(f->error, 0);
}

/* ---- HLT, vsm.md 7.2 ---- */

static void test_halt(void **state) {
        struct fx *f = *state;

        assert_int_equal(fx_halt(f, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        assert_int_equal(fx_ctl(f, 0)->halted, 1);
        assert_int_equal(fx_ctl(f, 0)->switchable, 0);
        /* Woken for nothing, and for what cannot be taken */
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        request(f, 0, 0x50);
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        assert_false(injected(f, 0, 0x50));

        /* STI; HLT with a vector waiting: it is taken, and the halt is over. */
        set_if(f, 0, true);
        assert_int_equal(fx_halt(f, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);
        assert_true(injected(f, 0, 0x50));
        assert_int_equal(fx_ctl(f, 0)->halted, 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOI, 0), 0);

        assert_int_equal(fx_halt(f, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        request(f, 0, 0x51);
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);
        assert_true(injected(f, 0, 0x51));
        assert_int_equal(fx_active(f, 0), 1);
}

/* ---- VINA ---- */

#define VINA_VECTOR 0x71u

/* The exits after which VTL1 is told, and who has looked: the library says so with a kick. */
static void test_vina(void **state) {
        static const struct {
                struct vtl_exit exit;
                bool could, told, looked; /* by the engine */
        } rows[] = {
                { { .kind = VTL_EXIT_KICK }, true, true, true },
                { { .kind = VTL_EXIT_KICK }, false, false, true },
                { { .kind = VTL_EXIT_KICK, .data = VTL_LOOK_NOTHING }, true, false, false },
                { { .kind = VTL_EXIT_KICK, .data = VTL_LOOK_INTERRUPT }, false, true, false },
                { { .kind = VTL_EXIT_KICK, .data = 3 }, true, false, false },
                { { .kind = VTL_EXIT_KICK, .data = UINT64_MAX }, true, false, false },
                /* Not at one of VTL1's own interrupts */
                { { .kind = VTL_EXIT_IRQ_WINDOW }, true, false, false },
                { { .kind = VTL_EXIT_TPR, .data = VTL_LOOK_INTERRUPT }, false, false, true },
                { { .kind = VTL_EXIT_TPR }, true, true, true },
        };
        struct fx *f = *state;

        set_if(f, 0, true);
        assert_int_equal(fx_set(f, 0, HV_VP_INDEX_SELF, 0, HV_REGISTER_VSM_VINA,
                                VINA_VECTOR | HV_VINA_ENABLED),
                         0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                print_message("# row %zu\n", i);
                fx_vtl_control(f, 0)->vina_status = 0;
                f->model->vps[0].can_interrupt = rows[i].could;
                f->model->ops[MODEL_PROBE] = 0;
                assert_int_equal(fx_exit(f, 0, &rows[i].exit, 0), 0);
                assert_int_equal(f->model->ops[MODEL_PROBE], rows[i].looked);
                assert_int_equal(fx_vtl_control(f, 0)->vina_status, rows[i].told);
                assert_int_equal(injected(f, 0, VINA_VECTOR), rows[i].told);
                if (rows[i].told)
                        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOI, 0), 0);
        }
}

/* What the library saw in VTL1 says nothing of an entry from VTL0: the engine looks. */
static void test_vina_at_entry(void **state) {
        struct fx *f = *state;

        assert_int_equal(fx_set(f, 0, HV_VP_INDEX_SELF, 0, HV_REGISTER_VSM_VINA,
                                VINA_VECTOR | HV_VINA_ENABLED),
                         0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        request(f, 0, 0x50);
        f->model->vps[0].can_interrupt = true;
        assert_int_equal(
                fx_exit(f, 0, &(struct vtl_exit){ .kind = VTL_EXIT_KICK, .data = VTL_LOOK_NOTHING },
                        0),
                0);
        assert_int_equal(fx_active(f, 0), 1);
        assert_int_equal(f->action.irq_window, 1);
        set_if(f, 0, true);
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_true(injected(f, 0, VINA_VECTOR));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_window, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_not_ready, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_tpr, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_software_disabled, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_boundary, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_at_hypercall, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_flags, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_first_entry, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_ipi, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_ipi_nmi, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_halt, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_vina, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_vina_at_entry, set_up, tear_down),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("engine-interrupts", tests, NULL, NULL);
}
