/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Flushes of translations and VTL1's lock on them (vsm.md 3.11, 8.8), and what VTL1 asks of other
 * VPs: registers in their vCPUs, exceptions in their VTL0 (4.12).
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "util/util.h"

#define APIC LAPIC_BASE_RESET
#define CR4_PGE 0x80ull
#define LOCK 2u

/* VTL1 on VPs 0 and 1, its APIC on; VTL1 active on VP 0, VTL0 on the others. */
static int set_up(void **state) {
        struct fx *f = malloc(sizeof(*f));

        fx_init(f, &(struct fx_options){ .vps = 3 });
        fx_start_vtl1(f);
        assert_int_equal(fx_enable_vp(f, 0, 1), 0);
        assert_int_equal(fx_vtl_call(f, 1), 0);
        assert_int_equal(fx_store(f, 1, APIC + 0xf0, 4, LAPIC_SVR_ENABLE | 0xff), 0);
        assert_int_equal(fx_vtl_return(f, 1, true), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        fx_deinit(*state);
        free(*state);
        return 0;
}

static uint64_t flush(struct fx *f, unsigned vp, uint64_t flags, uint64_t mask) {
        const struct hv_input_flush in = { .flags = flags, .processor_mask = mask };

        return fx_call(f, vp, HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE, &in, sizeof(in));
}

static uint64_t flush_list(struct fx *f, unsigned vp, uint64_t flags, uint64_t mask) {
        const struct {
                struct hv_input_flush head;
                uint64_t ranges[2];
        } in = { { .flags = flags, .processor_mask = mask }, { 0x1000, 0x2003 } };

        return fx_call(f, vp, FX_CONTROL(HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST, 2), &in, sizeof(in));
}

static uint64_t flush_ex(struct fx *f, unsigned vp, uint64_t flags, uint64_t format, uint64_t banks,
                         unsigned n_banks, uint64_t mask) {
        const struct {
                struct hv_input_flush_ex head;
                uint64_t banks[2];
        } in = { { .flags = flags, .format = format, .valid_banks_mask = banks }, { mask, mask } };
        uint64_t control = HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX |
                           (uint64_t) n_banks << HV_CONTROL_VARHDR_SHIFT;

        return fx_call(f, vp, control, &in, sizeof(in));
}

static uint64_t flush_list_ex(struct fx *f, unsigned vp, uint64_t flags, uint64_t mask) {
        const struct {
                struct hv_input_flush_ex head;
                uint64_t bank, ranges[2];
        } in = { { .flags = flags, .valid_banks_mask = 1 }, mask, { 0x1000, 0x2000 } };
        uint64_t control = FX_CONTROL(HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX, 2) |
                           1ull << HV_CONTROL_VARHDR_SHIFT;

        return fx_call(f, vp, control, &in, sizeof(in));
}

static void test_statuses(void **state) {
        static const struct {
                unsigned vp; /* 0: from VTL1, 1: from VTL0 */
                uint64_t flags, mask, status;
        } cases[] = {
                { 1, 0, 7, 0 },
                { 1, 0, 0, HV_STATUS_INVALID_PARAMETER },
                { 1, HV_FLUSH_ALL_PROCESSORS, 0, 0 },
                { 1, HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES | HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY, 1,
                  0 },
                { 1, 0x20, 1, HV_STATUS_INVALID_PARAMETER },
                { 1, 0x400, 1, HV_STATUS_INVALID_PARAMETER },
                { 1, 1ull << 63, 1, HV_STATUS_INVALID_PARAMETER },
                { 1, HV_FLUSH_TARGET_VTL0, 1, HV_STATUS_INVALID_PARAMETER },
                { 1, HV_FLUSH_USE_TARGET_VTL, 1, HV_STATUS_INVALID_PARAMETER },
                { 1, HV_FLUSH_USE_TARGET_VTL | HV_FLUSH_TARGET_VTL0, 1, 0 },
                { 1, HV_FLUSH_USE_TARGET_VTL | HV_FLUSH_TARGET_VTL1, 1, HV_STATUS_ACCESS_DENIED },
                { 0, HV_FLUSH_USE_TARGET_VTL | HV_FLUSH_TARGET_VTL1, 1, 0 },
                { 0, HV_FLUSH_USE_TARGET_VTL | HV_FLUSH_TARGET_VTL0 | HV_FLUSH_TARGET_VTL1, 3, 0 },
                { 0, 0, 1, 0 },
        };
        struct fx *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                bool ok = cases[i].status == 0;

                assert_int_equal(flush(f, cases[i].vp, cases[i].flags, cases[i].mask),
                                 cases[i].status);
                assert_int_equal(flush_list(f, cases[i].vp, cases[i].flags, cases[i].mask),
                                 FX_RESULT(cases[i].status, ok ? 2 : 0));
                assert_int_equal(flush_ex(f, cases[i].vp, cases[i].flags, HV_VP_SET_SPARSE_4K, 1, 1,
                                          cases[i].mask),
                                 cases[i].status);
                assert_int_equal(flush_list_ex(f, cases[i].vp, cases[i].flags, cases[i].mask),
                                 FX_RESULT(cases[i].status, ok ? 2 : 0));
        }
        /* The extended format is one of ranges: only lists have it. */
        assert_int_equal(flush(f, 1, HV_FLUSH_USE_EXTENDED_RANGE_FORMAT, 1),
                         HV_STATUS_INVALID_PARAMETER);
        assert_int_equal(flush_ex(f, 1, HV_FLUSH_USE_EXTENDED_RANGE_FORMAT, HV_VP_SET_ALL, 0, 0, 0),
                         HV_STATUS_INVALID_PARAMETER);
        assert_int_equal(flush_list(f, 1, HV_FLUSH_USE_EXTENDED_RANGE_FORMAT, 1), FX_RESULT(0, 2));
        assert_int_equal(flush_list_ex(f, 1, HV_FLUSH_USE_EXTENDED_RANGE_FORMAT, 1),
                         FX_RESULT(0, 2));
        /* Sets: all; unknown; a bank that no VP is in; more banks named than there are */
        assert_int_equal(flush_ex(f, 1, 0, HV_VP_SET_ALL, 0, 0, 0), 0);
        assert_int_equal(flush_ex(f, 1, 0, 2, 1, 1, 7), HV_STATUS_INVALID_PARAMETER);
        assert_int_equal(flush_ex(f, 1, 0, HV_VP_SET_SPARSE_4K, 2, 1, 7),
                         HV_STATUS_INVALID_PARAMETER);
        assert_int_equal(flush_ex(f, 1, 0, HV_VP_SET_SPARSE_4K, 1, 0, 7), 0);
}

/* One flush for all VPs where the host has that; its own level's only. */
static void test_at_once(void **state) {
        struct fx *f = *state;
        unsigned before = f->model->ops[MODEL_FLUSH];

        assert_int_equal(flush(f, 1, 0, 7), 0);
        assert_int_equal(f->model->ops[MODEL_FLUSH], before + 1);
        for (unsigned vp = 0; vp < 3; vp++)
                assert_int_equal(fx_vp(f, vp)->flush_vtls, 0);
        /* Of the other level every VP sees to it itself: where that level ran last is not known. */
        assert_int_equal(flush(f, 0, HV_FLUSH_USE_TARGET_VTL | HV_FLUSH_TARGET_VTL0, 6), 0);
        assert_int_equal(f->model->ops[MODEL_FLUSH], before + 1);
        assert_int_equal(fx_vp(f, 0)->flush_vtls, 0);
        assert_int_equal(fx_vp(f, 1)->flush_vtls, 1);
        assert_int_equal(fx_vp(f, 2)->flush_vtls, 1);
}

/* Elsewhere each VP does it before it enters the guest again. */
static void test_one_by_one(void **state) {
        struct fx *f = *state;
        uint64_t cr4 = fx_plane(f, 2, 0)->sregs.cr4;
        unsigned before;

        f->model->no_flush = true;
        before = f->model->ops[MODEL_SET];
        assert_int_equal(flush(f, 1, 0, 7), 0);
        assert_int_equal(f->model->ops[MODEL_SET], before + 2); /* CR4.PGE there and back */
        assert_int_equal(fx_vp(f, 1)->flush_vtls, 0);
        assert_int_equal(fx_vp(f, 0)->flush_vtls, 1);
        assert_int_equal(fx_vp(f, 2)->flush_vtls, 1);
        /* Whatever the VP's next exit is, also one that goes to the VMM */
        before = f->model->ops[MODEL_SET];
        assert_int_equal(fx_load(f, 2, 0xc0001000, 4, &(uint64_t){ 0 }), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_TO_VMM);
        assert_int_equal(f->model->ops[MODEL_SET], before + 2);
        assert_int_equal(fx_vp(f, 2)->flush_vtls, 0);
        assert_int_equal(fx_plane(f, 2, 0)->sregs.cr4, cr4);
        assert_false(cr4 & CR4_PGE);
}

/*
 * A VP that was not in the guest when another one flushed its VTL0, because the library had an exit
 * of its own or of the VMM's, went back there without a look at what was left for it.
 */
static void test_outside_but_not_here(void **state) {
        struct fx *f = *state;
        unsigned kicks = f->model->vps[1].kicks;

        assert_int_equal(atomic_load(&fx_ctl(f, 1)->in_guest), VTL_GATE_OUTSIDE);
        assert_int_equal(flush(f, 0, HV_FLUSH_USE_TARGET_VTL | HV_FLUSH_TARGET_VTL0, 3), 0);
        assert_int_equal(f->model->vps[1].kicks, kicks + 1);
        assert_int_equal(fx_vp(f, 1)->flush_vtls, 1);
        assert_int_equal(fx_kick(f, 1), 0);
        assert_int_equal(fx_vp(f, 1)->flush_vtls, 0);
}

static void lock(struct fx *f, unsigned vp, bool on) {
        assert_int_equal(fx_set(f, vp, HV_VP_INDEX_SELF, 0, HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0,
                                on ? LOCK : 0),
                         0);
}

static void test_lock(void **state) {
        struct fx *f = *state;
        unsigned kicks;

        lock(f, 0, true);
        assert_int_equal(flush(f, 1, HV_FLUSH_ALL_PROCESSORS, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        assert_int_equal(fx_ctl(f, 1)->switchable, 0);
        assert_int_equal(fx_kick(f, 1), 0); /* by somebody else */
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        /* Not even when it flushes itself only, and every form of the call */
        assert_int_equal(flush_ex(f, 2, 0, HV_VP_SET_SPARSE_4K, 1, 1, 4), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        kicks = f->model->vps[1].kicks;
        lock(f, 0, false);
        assert_int_equal(f->model->vps[1].kicks, kicks + 1);
        assert_int_equal(fx_kick(f, 1), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);
        assert_int_equal(fx_kick(f, 2), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);

        /* The return from VTL1 releases it, too. */
        lock(f, 0, true);
        assert_int_equal(flush_list(f, 1, HV_FLUSH_ALL_PROCESSORS, 0), FX_RESULT(0, 2));
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_kick(f, 1), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);
}

/* What the hypercall pages do at their end, where a flush goes to KVM: VMCALL or VMMCALL. */
static bool goes_to_kernel(struct fx *f, unsigned vtl) {
        const uint8_t *page =
                vtl_overlay_data(f->p, vtl_overlay_page(VTL_OVERLAY_HYPERCALL, 0, vtl));

        return page[0xb4] == 0x0f && page[0xb5] == 0x01;
}

/* While somebody holds a lock KVM gets no flush; VTL1's page is another one. */
static void test_lock_kernel(void **state) {
        const struct vtl_options no = { .no_kernel_hypercalls = true };
        const struct fx_options options[] = { { .vps = 3, .kernel = true },
                                              { .vps = 3, .kernel = true, .options = &no },
                                              { .vps = 3 } };

        for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
                bool kernel = i == 0;
                struct fx fx, *f = &fx;

                fx_init(f, &options[i]);
                assert_int_equal(fx_wrmsr(f, 0, HV_MSR_GUEST_OS_ID, 1), 0);
                assert_int_equal(fx_wrmsr(f, 0, HV_MSR_HYPERCALL, FX_HYPERCALL_PAGE | 1), 0);
                fx_start_vtl1(f);
                assert_int_equal(fx_enable_vp(f, 0, 1), 0);
                assert_int_equal(fx_vtl_call(f, 1), 0);
                assert_int_equal(goes_to_kernel(f, 0), kernel);
                lock(f, 0, true);
                assert_false(goes_to_kernel(f, 0));
                lock(f, 1, true);
                assert_int_equal(fx_vtl_return(f, 0, true), 0);
                assert_false(goes_to_kernel(f, 0));
                /* Enabled anew meanwhile */
                assert_int_equal(fx_wrmsr(f, 0, HV_MSR_HYPERCALL, 0), 0);
                assert_int_equal(fx_wrmsr(f, 0, HV_MSR_HYPERCALL, FX_HYPERCALL_PAGE | 1), 0);
                assert_false(goes_to_kernel(f, 0));
                lock(f, 1, false);
                assert_int_equal(goes_to_kernel(f, 0), kernel);
                assert_false(goes_to_kernel(f, 1));
                fx_deinit(f);
        }
}

/* Only locks that are held when the flush is issued count, and never one's own. */
static void test_lock_order(void **state) {
        struct fx *f = *state;

        lock(f, 0, true);
        assert_int_equal(flush(f, 2, HV_FLUSH_ALL_PROCESSORS, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        assert_int_equal(fx_vtl_call(f, 1), 0);
        lock(f, 1, true);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_kick(f, 2), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);

        /* VTL1 of the VP itself, which has the lock, does not wait either. */
        assert_int_equal(flush(f, 1, HV_FLUSH_USE_TARGET_VTL | HV_FLUSH_TARGET_VTL0, 7), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);
        /* Its VTL0 after a lock that another VP set for it */
        assert_int_equal(fx_vtl_return(f, 1, true), 0);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_set(f, 0, 1, 0, HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, LOCK), 0);
        assert_int_equal(flush(f, 1, HV_FLUSH_ALL_PROCESSORS, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);
        assert_int_equal(flush(f, 2, HV_FLUSH_ALL_PROCESSORS, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
}

/* VTL0 waits, VTL1 of the same VP does not: its interrupts come in between. */
static void test_lock_preemption(void **state) {
        struct fx *f = *state;

        lock(f, 0, true);
        assert_int_equal(flush(f, 1, HV_FLUSH_ALL_PROCESSORS, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        assert_int_equal(fx_store(f, 0, APIC + 0xf0, 4, LAPIC_SVR_ENABLE | 0xff), 0);
        assert_int_equal(fx_store(f, 0, APIC + 0x310, 4, 2u << 24), 0);
        assert_int_equal(fx_store(f, 0, APIC + 0x300, 4, 0x50), 0);
        assert_int_equal(fx_kick(f, 1), 0);
        assert_int_equal(fx_active(f, 1), 1);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);
        fx_cpu(f, 1)->regs.rflags |= 0x200;
        assert_int_equal(fx_irq_window(f, 1), 0);
        assert_int_equal(fx_store(f, 1, APIC + 0xb0, 4, 0), 0);
        assert_int_equal(fx_vtl_return(f, 1, true), 0);
        assert_int_equal(fx_active(f, 1), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_kick(f, 1), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);
}

/* TranslateVirtualAddress with TlbFlushInhibit takes the same lock. */
static void test_translate_locks(void **state) {
        const struct hv_input_translate_virtual_address in = {
                .partition_id = HV_PARTITION_ID_SELF,
                .vp_index = HV_VP_INDEX_SELF,
                .control_flags = 0x10ull << 56 | 1 << 5 | 1,
                .gva_page = FX_INPUT >> 12,
        };
        union hv_register_value v;
        struct fx *f = *state;

        assert_int_equal(fx_call(f, 0, HVCALL_TRANSLATE_VIRTUAL_ADDRESS, &in, sizeof(in)), 0);
        assert_int_equal(
                fx_get(f, 0, HV_VP_INDEX_SELF, 0, HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, &v), 0);
        assert_int_equal(v.reg64, LOCK);
        assert_int_equal(flush(f, 1, HV_FLUSH_ALL_PROCESSORS, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_vp(f, 1)->flush_waits, 0);
}

/* ---- Another VP's vCPU ---- */

static void test_other_vp_registers(void **state) {
        union hv_register_value v;
        struct fx *f = *state;

        fx_plane(f, 1, 0)->regs.rip = 0x1234;
        fx_plane(f, 1, 0)->regs.rbx = 0x5678;
        assert_int_equal(fx_get(f, 0, 1, 0x10, HV_X64_REGISTER_RIP, &v), 0);
        assert_int_equal(v.reg64, 0x1234);
        assert_int_equal(fx_get(f, 0, 1, 0x10, HV_X64_REGISTER_RBX, &v), 0);
        assert_int_equal(v.reg64, 0x5678);
        assert_int_equal(fx_set(f, 0, 1, 0x10, HV_X64_REGISTER_RIP, 0x7000), 0);
        assert_int_equal(fx_set(f, 0, 1, 0x10, HV_X64_REGISTER_CR3, 0x8000), 0);
        assert_int_equal(fx_plane(f, 1, 0)->regs.rip, 0x7000);
        assert_int_equal(fx_plane(f, 1, 0)->sregs.cr3, 0x8000);
        assert_int_not_equal(fx_plane(f, 0, 0)->regs.rip, 0x7000);
        /* A VP without VTL1 has no registers of it. */
        assert_int_equal(fx_get(f, 0, 2, 0x11, HV_X64_REGISTER_RIP, &v),
                         HV_STATUS_INVALID_VTL_STATE);
        assert_int_equal(fx_get(f, 0, 2, 0x10, HV_X64_REGISTER_RIP, &v), 0);
}

/* A VP that does not come: the call is repeated, with what it has done so far behind it. */
static void test_other_vp_late(void **state) {
        struct {
                struct hv_input_vp_registers head;
                uint32_t names[2];
        } get = { { .partition_id = HV_PARTITION_ID_SELF, .vp_index = 1, .input_vtl = 0x10 },
                  { HV_REGISTER_VP_INDEX, HV_X64_REGISTER_RIP } };
        uint64_t control = FX_CONTROL(HVCALL_GET_VP_REGISTERS, 2);
        struct plane_ops ops = plane_model_ops;
        struct fx *f = *state;

        ops.borrow = NULL; /* as on KVM: only its own thread can */
        f->p->config.ops = &ops;
        memcpy(fx_input(f, 0), &get, sizeof(get));
        memset(fx_output(f, 0), 0xee, 32);
        (void) fx_hypercall(f, 0, control, FX_INPUT, FX_OUTPUT);
        assert_int_equal(fx_cpu(f, 0)->regs.rip, FX_HYPERCALL_PAGE + FX_OUT_HYPERCALL);
        assert_int_equal(fx_cpu(f, 0)->regs.rcx, control | 1ull << HV_CONTROL_REP_START_SHIFT);
        assert_int_equal(((uint64_t *) fx_output(f, 0))[0], 1);
        assert_int_equal(((uint64_t *) fx_output(f, 0))[2], 0xeeeeeeeeeeeeeeee);
        assert_null(fx_vp(f, 1)->work); /* it will not be done behind the caller's back */
        f->p->config.ops = &plane_model_ops;
        assert_int_equal(fx_hypercall(f, 0, fx_cpu(f, 0)->regs.rcx, FX_INPUT, FX_OUTPUT),
                         FX_RESULT(0, 2));
        assert_int_equal(((uint64_t *) fx_output(f, 0))[2], fx_plane(f, 1, 0)->regs.rip);
}

static void set_event(struct fx *f, unsigned target, unsigned vector, bool code) {
        assert_int_equal(fx_set(f, 0, target, 0x10, HV_REGISTER_PENDING_EVENT0,
                                1 | (uint64_t) vector << 16 | (code ? 0x100 | 5ull << 32 : 0)),
                         0);
}

static bool got(struct fx *f, unsigned vp, unsigned vector) {
        return fx_injected(f, vp, 0, PLANE_INJECT_EXCEPTION, vector);
}

/* In VTL0 of another VP that runs it: at once, at an instruction boundary, and out of HLT */
static void test_event_elsewhere(void **state) {
        struct fx *f = *state;
        unsigned kicks = f->model->vps[1].kicks;

        set_event(f, 1, 13, true);
        assert_int_equal(f->model->vps[1].kicks, kicks + 1);
        fx_plane(f, 1, 0)->mp_state.mp_state = KVM_MP_STATE_HALTED;
        assert_int_equal(fx_kick(f, 1), 0);
        assert_true(got(f, 1, 13));
        assert_int_equal(fx_plane(f, 1, 0)->mp_state.mp_state, KVM_MP_STATE_RUNNABLE);
        assert_int_equal(fx_kick(f, 1), 0);
        assert_false(got(f, 1, 13)); /* once */

        /* Not in the middle of an instruction */
        set_event(f, 1, 6, false);
        assert_int_equal(fx_rdmsr(f, 1, HV_MSR_VP_INDEX, &(uint64_t){ 0 }), 0);
        assert_true(got(f, 1, 6));
        assert_int_equal(fx_cpu(f, 1)->regs.rax, 1);

        /* Taken back before it was delivered */
        set_event(f, 1, 6, false);
        assert_int_equal(fx_set(f, 0, 1, 0x10, HV_REGISTER_PENDING_EVENT0, 0), 0);
        assert_int_equal(fx_kick(f, 1), 0);
        assert_false(got(f, 1, 6));
}

/* With another exception waiting: SDM volume 3A, table 6-5 */
static void test_event_merges(void **state) {
        static const struct {
                unsigned first, second, result; /* 0xff: shutdown */
        } cases[] = {
                { 13, 6, 6 },    { 6, 13, 13 },   { 13, 13, 8 },  { 0, 11, 8 },
                { 14, 14, 8 },   { 14, 13, 8 },   { 13, 14, 14 }, { 14, 3, 3 },
                { 8, 13, 0xff }, { 8, 14, 0xff }, { 8, 6, 6 },
        };
        struct fx *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                bool code = cases[i].second >= 8 && cases[i].second <= 14;
                struct kvm_vcpu_events *e = &fx_plane(f, 1, 0)->events;

                set_event(f, 1, cases[i].second, code);
                e->exception.injected = 1;
                e->exception.nr = (uint8_t) cases[i].first;
                assert_int_equal(fx_kick(f, 1), 0);
                if (cases[i].result == 0xff) {
                        assert_int_equal(f->action.kind, VTL_ACTION_SHUTDOWN);
                        continue;
                }
                assert_true(got(f, 1, cases[i].result));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
                T(test_statuses),
                T(test_at_once),
                T(test_one_by_one),
                T(test_outside_but_not_here),
                T(test_lock),
                cmocka_unit_test(test_lock_kernel),
                T(test_lock_order),
                T(test_lock_preemption),
                T(test_translate_locks),
                T(test_other_vp_registers),
                T(test_other_vp_late),
                T(test_event_elsewhere),
                T(test_event_merges),
#undef T
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("engine-tlb", tests, NULL, NULL);
}
