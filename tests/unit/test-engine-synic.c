/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The SynIC beside intercepts and timers (vsm.md 3.17, 3.20, 7.6, 9): messages that wait, event
 * flags, EOI by the assist page, page access checks, and the detector of a denied startup.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"

#define SELF HV_PARTITION_ID_SELF
#define SIMP 0x153000ull
#define SIEFP 0x154000ull
#define ASSIST 0x155000ull
#define APIC LAPIC_BASE_RESET

/* VTL1 active on VP 0 with its APIC on, and its SIMP, SIEFP and assist page. */
static int set_up(void **state) {
        struct fx *f = malloc(sizeof(*f));

        fx_init(f, &(struct fx_options){ .vps = 2 });
        fx_start_vtl1(f);
        assert_int_equal(fx_store(f, 0, APIC + 0xf0, 4, LAPIC_SVR_ENABLE | 0xff), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, SIMP | 1), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIEFP, SIEFP | 1), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_VP_ASSIST_PAGE, ASSIST | 1), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        fx_deinit(*state);
        free(*state);
        return 0;
}

static void sint(struct fx *f, unsigned n, uint64_t value) {
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SINT0 + n, value), 0);
}

static uint64_t post(struct fx *f, unsigned vp, uint8_t vtl, unsigned n, uint32_t type,
                     uint8_t size) {
        struct hv_input_post_message_direct in = {
                .partition_id = SELF, .vp_index = vp, .target_vtl = vtl, .sint = (uint8_t) n
        };
        struct hv_message m = { .message_type = type, .payload_size = size };

        m.payload[0] = (uint8_t) type;
        memcpy(in.message, &m, sizeof(m));
        return fx_call(f, 0, HVCALL_POST_MESSAGE_DIRECT, &in, sizeof(in));
}

static uint64_t signal_event(struct fx *f, unsigned vp, uint8_t vtl, unsigned n, unsigned flag) {
        const struct hv_input_signal_event_direct in = { .partition_id = SELF,
                                                         .vp_index = vp,
                                                         .target_vtl = vtl,
                                                         .sint = (uint8_t) n,
                                                         .flag_number = (uint16_t) flag };

        memset(fx_output(f, 0), 0xee, 8);
        return fx_call(f, 0, HVCALL_SIGNAL_EVENT_DIRECT, &in, sizeof(in));
}

static struct hv_message slot(struct fx *f, unsigned n) {
        struct hv_message m;

        assert_int_equal(plane_model_read(f->model, 1, SIMP + 256 * n, &m, sizeof(m)), 0);
        return m;
}

static void empty(struct fx *f, unsigned n) {
        uint32_t none = 0;

        assert_int_equal(plane_model_write(f->model, 1, SIMP + 256 * n, &none, sizeof(none)), 0);
}

/* ---- Messages ---- */

static void test_queue(void **state) {
        struct fx *f = *state;

        sint(f, 2, 0x52);
        sint(f, 3, 0x53 | HV_SINT_POLLING);
        assert_int_equal(post(f, 0, 1, 2, 0x101, 8), 0);
        assert_int_equal(slot(f, 2).message_type, 0x101);
        assert_int_equal(slot(f, 2).payload_size, 8);
        assert_int_equal(slot(f, 2).flags, 0);
        assert_true(lapic_requested(&fx_vp(f, 0)->lapic));
        assert_int_equal(post(f, 0, 1, 2, 0x102, 8), 0);
        assert_int_equal(post(f, 0, 1, 2, 0x103, 8), 0);
        assert_int_equal(slot(f, 2).message_type, 0x101);
        assert_int_equal(slot(f, 2).flags, HV_MESSAGE_PENDING);
        /* Another SINT does not wait for this one. */
        assert_int_equal(post(f, 0, 1, 3, 0x201, 8), 0);
        assert_int_equal(slot(f, 3).message_type, 0x201);
        assert_int_equal(post(f, 0, 1, 3, 0x202, 8), 0);
        /* EOM: the next one of that slot, in order */
        empty(f, 2);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOM, 0), 0);
        assert_int_equal(slot(f, 2).message_type, 0x102);
        assert_int_equal(slot(f, 2).flags, HV_MESSAGE_PENDING);
        empty(f, 2);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOM, 0), 0);
        assert_int_equal(slot(f, 2).message_type, 0x103);
        assert_int_equal(slot(f, 2).flags, 0);
        empty(f, 3);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOM, 0), 0);
        assert_int_equal(slot(f, 3).message_type, 0x202);
        assert_int_equal(fx_vp(f, 0)->vtl[1].synic.n_messages, 0);
}

static void test_queue_full(void **state) {
        struct fx *f = *state;

        sint(f, 2, 0x52);
        for (unsigned i = 0; i <= VTL_MESSAGES_MAX; i++)
                assert_int_equal(post(f, 0, 1, 2, 0x100 + i, 0), 0);
        assert_int_equal(post(f, 0, 1, 2, 0x200, 0), HV_STATUS_INSUFFICIENT_BUFFERS);
        for (unsigned i = 0; i <= VTL_MESSAGES_MAX; i++) {
                assert_int_equal(slot(f, 2).message_type, 0x100 + i);
                empty(f, 2);
                assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOM, 0), 0);
        }
        assert_int_equal(slot(f, 2).message_type, 0);
}

static void test_direct_refusals(void **state) {
        struct hv_input_signal_event_direct other = { .partition_id = 42 };
        struct fx *f = *state;

        sint(f, 2, 0x52);
        assert_int_equal(post(f, 0, 1, 1, 0x101, 8), HV_STATUS_INVALID_SYNIC_STATE); /* masked */
        assert_int_equal(signal_event(f, 0, 1, 1, 0), HV_STATUS_INVALID_SYNIC_STATE);
        assert_int_equal(post(f, 0, 1, 16, 0x101, 8), HV_STATUS_INVALID_PARAMETER);
        assert_int_equal(post(f, 0, 3, 2, 0x101, 8), HV_STATUS_INVALID_PARAMETER);
        assert_int_equal(post(f, 0, 2, 2, 0x101, 8), HV_STATUS_ACCESS_DENIED);
        assert_int_equal(post(f, 2, 1, 2, 0x101, 8), HV_STATUS_INVALID_VP_INDEX);
        assert_int_equal(post(f, 1, 1, 2, 0x101, 8), HV_STATUS_INVALID_VTL_STATE);
        assert_int_equal(post(f, 0, 1, 2, 0, 8), HV_STATUS_INVALID_PARAMETER);
        assert_int_equal(post(f, 0, 1, 2, 0x101, 241), HV_STATUS_INVALID_PARAMETER);
        assert_int_equal(signal_event(f, 0, 1, 2, HV_EVENT_FLAGS), HV_STATUS_INVALID_PARAMETER);
        assert_int_equal(fx_call(f, 0, HVCALL_SIGNAL_EVENT_DIRECT, &other, sizeof(other)),
                         HV_STATUS_ACCESS_DENIED);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(post(f, 0, 1, 2, 0x101, 8), HV_STATUS_ACCESS_DENIED);
        assert_int_equal(signal_event(f, 0, 1, 2, 0), HV_STATUS_ACCESS_DENIED);
}

/* ---- Event flags ---- */

static void test_flags(void **state) {
        static const unsigned flags[] = { 0, 31, 32, 1000, HV_EVENT_FLAGS - 1 };
        struct fx *f = *state;
        uint8_t byte;

        sint(f, 5, 0x55);
        for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
                uint64_t at = SIEFP + 5 * 256 + flags[i] / 8;

                assert_int_equal(signal_event(f, 0, 1, 5, flags[i]), 0);
                assert_int_equal(((uint8_t *) fx_output(f, 0))[0], 1);
                assert_int_equal(plane_model_read(f->model, 1, at, &byte, 1), 0);
                assert_true(byte >> flags[i] % 8 & 1);
                assert_int_equal(signal_event(f, 0, 1, 5, flags[i]), 0);
                assert_int_equal(((uint8_t *) fx_output(f, 0))[0], 0);
        }
        assert_true(lapic_requested(&fx_vp(f, 0)->lapic));
        /* VTL0's, of another VP: an MSI to KVM's APIC */
        fx_vp(f, 1)->vtl[0].synic.sint[5] = 0x65;
        f->model->vps[0].n_injections = 0;
        assert_int_equal(signal_event(f, 1, 0, 5, 3), 0);
        assert_true(fx_injected(f, 0, 0, PLANE_INJECT_MSI, 0x65));
}

/* ---- EOI by the assist page ---- */

static uint32_t apic_assist(struct fx *f) {
        uint32_t v;

        assert_int_equal(plane_model_read(f->model, 1, ASSIST, &v, sizeof(v)), 0);
        return v;
}

static void clear_assist(struct fx *f) {
        uint32_t none = 0;

        assert_int_equal(plane_model_write(f->model, 1, ASSIST, &none, sizeof(none)), 0);
}

static void take(struct fx *f, uint8_t vector) {
        assert_true(lapic_request(&fx_vp(f, 0)->lapic, vector, false));
        fx_cpu(f, 0)->regs.rflags |= 0x200;
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_true(fx_injected(f, 0, 1, PLANE_INJECT_INTERRUPT, vector));
}

static void test_lazy_eoi(void **state) {
        struct lapic *l = &fx_vp(*state, 0)->lapic;
        struct fx *f = *state;

        take(f, 0x50);
        assert_int_equal(apic_assist(f), 1);
        assert_int_equal(lapic_in_service(l), 0x50);
        /* The guest clears the bit: that was its EOI. */
        clear_assist(f);
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(lapic_in_service(l), -1);
        /* It writes EOI all the same. */
        take(f, 0x50);
        assert_int_equal(fx_store(f, 0, APIC + 0xb0, 4, 0), 0);
        assert_int_equal(lapic_in_service(l), -1);
        assert_int_equal(apic_assist(f), 0);
        /* Another one waits for the EOI: it has to be written. */
        take(f, 0x50);
        assert_true(lapic_request(l, 0x40, false));
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(apic_assist(f), 0);
        assert_int_equal(lapic_in_service(l), 0x50);
        assert_int_equal(fx_store(f, 0, APIC + 0xb0, 4, 0), 0);
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_int_equal(lapic_in_service(l), 0x40);
        assert_int_equal(apic_assist(f), 1);
        /* A nested one: what is below it must not be ended by its bit. */
        assert_true(lapic_request(l, 0x70, false));
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_int_equal(lapic_in_service(l), 0x70);
        assert_int_equal(apic_assist(f), 1);
        clear_assist(f);
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(lapic_in_service(l), 0x40);
        assert_int_equal(fx_store(f, 0, APIC + 0xb0, 4, 0), 0);
        assert_int_equal(lapic_in_service(l), -1);
        /* In VTL0 by the time it is looked at */
        take(f, 0x50);
        clear_assist(f);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(lapic_in_service(l), -1);
        /* Not with AutoEOI, where there is none, nor without a page */
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_true(lapic_request(l, 0x50, true));
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_int_equal(apic_assist(f), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_VP_ASSIST_PAGE, 0), 0);
        take(f, 0x50);
        assert_int_equal(fx_vp(f, 0)->lazy_eoi, -1);
}

/* ---- Page access ---- */

static void test_check_access(void **state) {
        struct {
                struct hv_input_check_sparse_gpa head;
                uint64_t gpns[3];
        } in = { { .partition_id = SELF, .target_vtl = 0x10, .desired_access = 3 },
                 { 0x180, 0x181, 0x182 } };
        uint64_t control = FX_CONTROL(HVCALL_CHECK_SPARSE_GPA_PAGE_VTL_ACCESS, 3);
        struct hv_output_check_sparse_gpa out[3];
        struct fx *f = *state;

        fx_enable_protection(f, 0);
        assert_int_equal(fx_protect_page(f, 0, HV_MAP_GPA_READABLE, 0x181), FX_RESULT(0, 1));
        assert_int_equal(fx_protect_page(f, 0, 0, 0x182), FX_RESULT(0, 1));
        assert_int_equal(fx_call(f, 0, control, &in, sizeof(in)), FX_RESULT(0, 3));
        memcpy(out, fx_output(f, 0), sizeof(out));
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(out[i].result, i > 0);
                assert_int_equal(out[i].denied_access, i == 0 ? 0 : i == 1 ? 2 : 3);
                assert_int_equal(out[i].intercepting_vtl, i > 0);
        }
        in.head.target_vtl = 0; /* VTL1 itself is restricted by nobody */
        assert_int_equal(fx_call(f, 0, control, &in, sizeof(in)), FX_RESULT(0, 3));
        memcpy(out, fx_output(f, 0), sizeof(out));
        assert_int_equal(out[2].result, 0);
        in.gpns[1] = 0x999999;
        assert_int_equal(fx_call(f, 0, control, &in, sizeof(in)),
                         FX_RESULT(HV_STATUS_INVALID_PARAMETER, 1));
        in.head.desired_access = 0x10;
        assert_int_equal(fx_call(f, 0, control, &in, sizeof(in)), HV_STATUS_INVALID_PARAMETER);
        in.head.partition_id = 42;
        assert_int_equal(fx_call(f, 0, control, &in, sizeof(in)), HV_STATUS_ACCESS_DENIED);
        in.head = (struct hv_input_check_sparse_gpa){ .partition_id = SELF, .target_vtl = 0x11 };
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_call(f, 0, control, &in, sizeof(in)), HV_STATUS_ACCESS_DENIED);
}

/* ---- VTL0 starts over though VTL1 denied it ---- */

static void test_startup_detector(void **state) {
        static const struct vtl_options accept = { .accept_startup_denial = true };

        for (unsigned denied = 0; denied < 2; denied++) {
                struct fx f;

                fx_init(&f, &(struct fx_options){ .options = &accept });
                fx_start_vtl1(&f);
                if (denied)
                        assert_int_equal(fx_set(&f, 0, HV_VP_INDEX_SELF, 0,
                                                HV_REGISTER_VSM_PARTITION_CONFIG, 0x5f),
                                         0);
                assert_int_equal(fx_vtl_return(&f, 0, true), 0);
                assert_int_equal(fx_kick(&f, 0), 0);
                assert_int_equal(f.events[VTL_EVENT_STARTUP], 0);
                fx_cpu(&f, 0)->sregs.cr0 = 0x10; /* INIT and SIPI */
                fx_cpu(&f, 0)->sregs.cs.base = 0x9000;
                assert_int_equal(fx_kick(&f, 0), 0);
                assert_int_equal(fx_kick(&f, 0), 0);
                assert_int_equal(f.events[VTL_EVENT_STARTUP], denied);
                if (denied)
                        assert_int_equal(f.last_event.data, 0x9000);
                fx_deinit(&f);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
                T(test_queue),
                T(test_queue_full),
                T(test_direct_refusals),
                T(test_flags),
                T(test_lazy_eoi),
                T(test_check_access),
                cmocka_unit_test(test_startup_detector),
#undef T
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("engine-synic", tests, NULL, NULL);
}
