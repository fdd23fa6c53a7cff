/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Moving between the levels, vsm.md section 6: preconditions, what crosses, entry reasons, the
 * assist page. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/hvpage.h"
#include "vtl/switch.h"
#include "vtl/synic.h"

#define SELF HV_VP_INDEX_SELF
#define VECTOR 0x60
#define ASSIST_GPA 0x150000ull

static int set_up(void **state) {
        struct fx *f = malloc(sizeof(*f));

        fx_init(f, &(struct fx_options){ .vps = 2 });
        *state = f;
        return 0;
}

static int set_up_behind(void **state) {
        struct fx *f = malloc(sizeof(*f));

        fx_init(f, &(struct fx_options){ .vps = 2, .rip_behind = true });
        *state = f;
        return 0;
}

static int set_up_vtl1(void **state) {
        (void) set_up(state);
        fx_start_vtl1(*state);
        return 0;
}

static int tear_down(void **state) {
        fx_deinit(*state);
        free(*state);
        return 0;
}

/* ---- What crosses ---- */

static void fill_shared(struct model_vcpu *c, uint64_t seed) {
        __u64 *const gpr[] = { &c->regs.rbx, &c->regs.rdx, &c->regs.rsi, &c->regs.rdi, &c->regs.rbp,
                               &c->regs.r8,  &c->regs.r9,  &c->regs.r10, &c->regs.r11, &c->regs.r12,
                               &c->regs.r13, &c->regs.r14, &c->regs.r15 };

        for (size_t i = 0; i < ARRAY_SIZE(gpr); i++)
                *gpr[i] = seed + i;
        c->sregs.cr2 = seed + 0x100;
        for (unsigned i = 0; i < 4; i++)
                c->debugregs.db[i] = seed + 0x200 + i;
        c->xcrs.xcrs[0].value = seed & 1 ? 7 : 3;
        for (unsigned i = 40; i < 104; i++)
                c->xsave.region[i] = (uint32_t) seed + i; /* XMM0-15 */
}

static void check_shared(struct model_vcpu *c, uint64_t seed) {
        struct model_vcpu want = *c;

        fill_shared(&want, seed);
        assert_memory_equal(&want.regs, &c->regs, sizeof(want.regs));
        assert_int_equal(want.sregs.cr2, c->sregs.cr2);
        assert_memory_equal(&want.debugregs, &c->debugregs, sizeof(want.debugregs));
        assert_memory_equal(&want.xcrs, &c->xcrs, sizeof(want.xcrs));
        assert_memory_equal(&want.xsave, &c->xsave, sizeof(want.xsave));
}

/* Everything of a plane that is its own */
static void fill_private(struct model_vcpu *c, uint64_t seed) {
        c->regs.rsp = seed << 16;
        c->regs.rflags = 2 | (seed & 1 ? 0x40 : 0x1);
        c->sregs.cr3 = TINY_PML4 | (seed & 1) << 3;
        c->sregs.gs.base = seed << 20;
        c->sregs.fs.base = seed << 24;
        c->sregs.idt.base = seed << 12;
        c->sregs.gdt.limit = (uint16_t) seed;
        c->debugregs.dr7 = 0x400 | (seed & 1);
        for (unsigned i = 0; i < MODEL_MSRS; i++)
                c->msrs[i].value = seed + i;
}

static void check_private(const struct model_vcpu *c, const struct model_vcpu *want) {
        struct kvm_sregs a = c->sregs, b = want->sregs;

        assert_int_equal(c->regs.rsp, want->regs.rsp);
        assert_int_equal(c->regs.rflags, want->regs.rflags);
        a.cr2 = b.cr2 = 0;
        assert_memory_equal(&a, &b, sizeof(a));
        assert_int_equal(c->debugregs.dr7, want->debugregs.dr7);
        assert_memory_equal(c->msrs, want->msrs, sizeof(c->msrs));
}

static void test_state_split(void **state) {
        struct model_vcpu vtl0, vtl1;
        struct fx *f = *state;

        assert_int_equal(fx_enable_partition(f, 0), 0);
        assert_int_equal(fx_enable_vp(f, 0, 0), 0);
        fill_shared(fx_cpu(f, 0), 0x1000);
        fill_private(fx_cpu(f, 0), 0x10);
        vtl0 = *fx_cpu(f, 0);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_active(f, 0), 1);
        assert_int_equal(fx_ctl(f, 0)->active_vtl, 1);
        check_shared(fx_cpu(f, 0), 0x1000);
        assert_int_equal(fx_cpu(f, 0)->regs.rax, 0);
        assert_int_equal(fx_cpu(f, 0)->regs.rcx, HVCALL_VTL_CALL);
        assert_int_equal(fx_cpu(f, 0)->regs.rip, fx_context(0).rip);
        assert_int_equal(fx_cpu(f, 0)->regs.rsp, fx_context(0).rsp);
        assert_int_equal(fx_cpu(f, 0)->regs.rflags, 2);
        check_private(fx_plane(f, 0, 0), &vtl0);

        fill_shared(fx_cpu(f, 0), 0x2001);
        fill_private(fx_cpu(f, 0), 0x21);
        vtl1 = *fx_cpu(f, 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_active(f, 0), 0);
        check_shared(fx_cpu(f, 0), 0x2001);
        check_private(fx_cpu(f, 0), &vtl0);
        check_private(fx_plane(f, 0, 1), &vtl1);
        /* After a fast return what VTL1 left; VTL0 goes on behind its call. */
        assert_int_equal(fx_cpu(f, 0)->regs.rax, VTL_RETURN_FAST);
        assert_int_equal(fx_cpu(f, 0)->regs.rcx, HVCALL_VTL_RETURN);
        assert_int_equal(fx_cpu(f, 0)->regs.rip,
                         FX_HYPERCALL_PAGE + FX_OUT_CALL64 + HVPAGE_OUT_LENGTH);

        /* And VTL1 behind its return. */
        fill_shared(fx_cpu(f, 0), 0x3000);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        check_shared(fx_cpu(f, 0), 0x3000);
        check_private(fx_cpu(f, 0), &vtl1);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_ctl(f, 0)->stats.vtl_calls, 2);
        assert_int_equal(fx_ctl(f, 0)->stats.vtl_returns, 2);
        assert_int_equal(fx_ctl(f, 0)->stats.interrupt_entries, 0);
}

static void test_return_address(void **state) {
        struct fx *f = *state;

        fx_start_vtl1(f);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        /* VTL1's `out` is finished by its next entry, whichever way the host reports RIP. */
        plane_model_enter(f->model, 0);
        assert_int_equal(fx_cpu(f, 0)->regs.rip,
                         FX_HYPERCALL_PAGE + FX_OUT_RETURN64 + HVPAGE_OUT_LENGTH);
        assert_int_equal(fx_vtl_return(f, 0, false), 0);
        plane_model_enter(f->model, 0);
        assert_int_equal(fx_cpu(f, 0)->regs.rip,
                         FX_HYPERCALL_PAGE + FX_OUT_CALL64 + HVPAGE_OUT_LENGTH);
}

/* The plain entry leads to VTL call and return too: the call code decides (vsm.md 2.6). */
static void test_plain_entry(void **state) {
        struct fx *f = *state;

        fx_start_vtl1(f);
        fx_cpu(f, 0)->regs.rax = 1;
        fx_cpu(f, 0)->regs.rcx = HVCALL_VTL_RETURN;
        assert_int_equal(fx_out(f, 0, HVPAGE_PORT_HYPERCALL, FX_OUT_HYPERCALL), 0);
        assert_int_equal(fx_active(f, 0), 0);
        fx_cpu(f, 0)->regs.rax = 0;
        fx_cpu(f, 0)->regs.rcx = HVCALL_VTL_CALL;
        assert_int_equal(fx_out(f, 0, HVPAGE_PORT_HYPERCALL, FX_OUT_HYPERCALL), 0);
        assert_int_equal(fx_active(f, 0), 1);
        fx_cpu(f, 0)->regs.rax = 1;
        fx_cpu(f, 0)->regs.rcx = HVCALL_VTL_RETURN;
        assert_int_equal(fx_out(f, 0, HVPAGE_PORT_HYPERCALL, FX_OUT_HYPERCALL), 0);
        assert_int_equal(fx_cpu(f, 0)->regs.rip,
                         FX_HYPERCALL_PAGE + FX_OUT_HYPERCALL + HVPAGE_OUT_LENGTH);
}

/* ---- Preconditions, vsm.md 6.1: #UD at the instruction, nothing else changed ---- */

enum mode {
        LONG,
        USER,
        REAL,
        V86,
        PROTECTED,
        COMPAT
};

static void set_mode(struct model_vcpu *c, enum mode mode) {
        switch (mode) {
        case LONG:
                break;
        case USER:
                c->sregs.cs.dpl = c->sregs.ss.dpl = 3;
                break;
        case REAL:
                c->sregs.cr0 = 0x10;
                c->sregs.efer = 0;
                c->sregs.cs.l = 0;
                break;
        case V86:
                c->sregs.efer = 0;
                c->sregs.cs.l = 0;
                c->regs.rflags |= 1u << 17;
                break;
        case PROTECTED:
                c->sregs.cr0 &= ~(1ull << 31);
                c->sregs.efer = 0;
                c->sregs.cs.l = 0;
                c->sregs.cs.db = 1;
                break;
        case COMPAT:
                c->sregs.cs.l = 0;
                c->sregs.cs.db = 1;
                break;
        }
}

static const struct ud_row {
        unsigned vtl; /* where it is issued; 2: in VTL0 of a VP without VTL1 */
        enum mode mode;
        bool is_return;
        uint64_t rax, rcx, rdx;
        bool legal;
} ud_rows[] = {
        { 0, LONG, false, 0, 0x11, 0, true },
        { 0, LONG, false, 1, 0x11, 0, false },
        { 0, LONG, false, 1ull << 63, 0x11, 0, false },
        { 0, LONG, false, 0, 0x10011, 0, false },
        { 0, LONG, false, 0, 0x11 | 1ull << 32, 0, false },
        { 0, LONG, false, 0, 0x11 | 1ull << 17, 0, false },
        { 0, LONG, false, 0, 0x11 | 1ull << 63, 0, false },
        { 0, USER, false, 0, 0x11, 0, false },
        { 0, REAL, false, 0, 0x11, 0, false },
        { 0, V86, false, 0x11, 0, 0, false },
        { 0, LONG, true, 0, 0x12, 0, false }, /* nowhere to return to */
        { 0, LONG, true, 1, 0x12, 0, false },
        { 2, LONG, false, 0, 0x11, 0, false },
        { 2, LONG, true, 1, 0x12, 0, false },
        { 1, LONG, false, 0, 0x11, 0, false }, /* no VTL2 */
        { 1, LONG, true, 2, 0x12, 0, false },
        { 1, LONG, true, 3, 0x12, 0, false },
        { 1, LONG, true, 1ull << 32, 0x12, 0, false },
        { 1, LONG, true, 1, 0x12 | 1ull << 48, 0, false },
        { 1, USER, true, 1, 0x12, 0, false },
        { 1, LONG, true, 1, 0x12, 0, true },
        { 1, LONG, true, 0, 0x12, 0, true },
        /* 32-bit: control in EDX:EAX, input in ECX; upper halves do not count */
        { 0, PROTECTED, false, 0xaaaaaaaa00000011, 0xbbbbbbbb00000000, 0xcccccccc00000000, true },
        { 0, COMPAT, false, 0x11, 0, 0, true },
        { 0, PROTECTED, false, 0x11, 1, 0, false },
        { 0, PROTECTED, false, 0x11, 0, 1, false },
        { 0, PROTECTED, false, 0x10011, 0, 0, false },
        { 1, PROTECTED, true, 0x12, 2, 0, false },
        { 1, PROTECTED, true, 0x12, 1, 0, true },
        { 1, COMPAT, true, 0x12, 0, 0, true },
};

static void check_ud_row(const struct ud_row *row, bool rip_behind) {
        unsigned vp = row->vtl == 2 ? 1 : 0, port, offset;
        bool long_mode = row->mode == LONG || row->mode == USER;
        struct model_vcpu before;
        struct vtl_vp_stats stats;
        struct fx f;
        uint64_t r;

        fx_init(&f, &(struct fx_options){ .vps = 2, .rip_behind = rip_behind });
        fx_start_vtl1(&f);
        if (row->vtl != 1)
                assert_int_equal(fx_vtl_return(&f, 0, true), 0);
        set_mode(fx_cpu(&f, vp), row->mode);
        fx_cpu(&f, vp)->regs.rax = row->rax;
        fx_cpu(&f, vp)->regs.rcx = row->rcx;
        fx_cpu(&f, vp)->regs.rdx = row->rdx;
        before = *fx_cpu(&f, vp);
        stats = fx_ctl(&f, vp)->stats;
        port = row->is_return ? HVPAGE_PORT_VTL_RETURN : HVPAGE_PORT_VTL_CALL;
        if (row->is_return)
                offset = long_mode ? FX_OUT_RETURN64 : FX_OUT_RETURN32;
        else
                offset = long_mode ? FX_OUT_CALL64 : FX_OUT_CALL32;
        r = fx_out(&f, vp, port, offset);
        if (r != (row->legal ? 0 : FX_UD))
                fail_msg("row %zu: %#llx", (size_t) (row - ud_rows), (unsigned long long) r);
        if (row->legal) {
                assert_int_equal(fx_active(&f, vp), row->is_return ? 0 : 1);
        } else {
                before.regs.rip = FX_HYPERCALL_PAGE + offset;
                assert_int_equal(fx_active(&f, vp), row->vtl == 1 ? 1 : 0);
                assert_memory_equal(&fx_cpu(&f, vp)->regs, &before.regs, sizeof(before.regs));
                assert_memory_equal(&fx_cpu(&f, vp)->xsave, &before.xsave, sizeof(before.xsave));
                assert_int_equal(fx_ctl(&f, vp)->stats.vtl_calls, stats.vtl_calls);
                assert_int_equal(fx_ctl(&f, vp)->stats.vtl_returns, stats.vtl_returns);
        }
        fx_deinit(&f);
}

static void test_preconditions(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(ud_rows); i++) {
                check_ud_row(&ud_rows[i], false);
                check_ud_row(&ud_rows[i], true);
        }
}

/* The library may use the same rules by itself: they must agree, but for the state of the levels.
 * */
static void test_rules_of_the_hot_path(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(ud_rows); i++) {
                const struct ud_row *row = &ud_rows[i];
                struct model_vcpu c = { 0 };
                struct tiny_guest *g = malloc(sizeof(*g));
                uint64_t input = 0xdead;

                tiny_long(g);
                c.sregs = g->sregs;
                free(g);
                set_mode(&c, row->mode);
                c.regs.rax = row->rax;
                c.regs.rcx = row->rcx;
                c.regs.rdx = row->rdx;
                if (row->legal) {
                        assert_true(vtl_switch_legal(&c.regs, &c.sregs, row->is_return, &input));
                        assert_int_equal(input, row->mode == LONG ? row->rax : (uint32_t) row->rcx);
                } else if (row->vtl == (row->is_return ? 1 : 0))
                        assert_false(vtl_switch_legal(&c.regs, &c.sregs, row->is_return, &input));
        }
}

/* An exit that cannot come from the page's entries is not the guest's doing. */
static void test_not_from_the_page(void **state) {
        struct vtl_exit e = { .kind = VTL_EXIT_HYPERCALL, .port = HVPAGE_PORT_VTL_CALL };
        struct fx *f = *state;

        fx_cpu(f, 0)->regs.rip = FX_HYPERCALL_PAGE + FX_OUT_HYPERCALL;
        assert_int_equal(fx_exit(f, 0, &e, 2), -EINVAL);
        assert_int_equal(f->action.kind, VTL_ACTION_STOP);
        assert_int_equal(f->action.data, EINVAL);
        assert_int_equal(f->events[VTL_EVENT_STOPPED], 1);
        assert_int_equal(f->p->header->stopped, EINVAL);
}

static void test_bad_exits(void **state) {
        static const struct vtl_exit rows[] = {
                { .kind = VTL_EXIT_NONE },
                { .kind = _VTL_EXIT_MAX },
                { .kind = UINT32_MAX },
                { .kind = VTL_EXIT_KICK, .plane = 1 }, /* not enabled on this VP */
                { .kind = VTL_EXIT_KICK, .plane = 2 },
                { .kind = VTL_EXIT_KICK, .plane = 32 },
                { .kind = VTL_EXIT_KICK, .plane = UINT32_MAX },
                { .kind = VTL_EXIT_HALT }, /* VTL0's is KVM's */
                { .kind = VTL_EXIT_MMIO, .gpa = 0x1000, .len = 0 },
                { .kind = VTL_EXIT_MMIO, .gpa = 0x1000, .len = 9 },
                { .kind = VTL_EXIT_MMIO, .gpa = 0x1000, .len = UINT32_MAX, .is_write = 1 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct fx f;

                fx_init(&f, &(struct fx_options){ 0 });
                assert_int_equal(fx_serve(&f, 0, &rows[i]), -EINVAL);
                assert_int_equal(f.action.kind, VTL_ACTION_STOP);
                assert_int_equal(f.action.data, EINVAL);
                assert_int_equal(f.events[VTL_EVENT_STOPPED], 1);
                fx_deinit(&f);
        }
}

/* ---- The assist page, vsm.md 6.5 ---- */

static void test_nonfast_return(void **state) {
        struct hv_vp_vtl_control *c;
        struct fx *f = *state;

        /* Without a page: the shadow, which is zero at first */
        assert_int_equal(fx_vtl_control(f, 0)->entry_reason, HV_VTL_ENTRY_VTL_CALL);
        assert_int_equal(fx_vtl_return(f, 0, false), 0);
        assert_int_equal(fx_cpu(f, 0)->regs.rax, 0);
        assert_int_equal(fx_cpu(f, 0)->regs.rcx, 0);

        /* The page shows what the shadow held. */
        assert_int_equal(fx_vtl_call(f, 0), 0);
        memset(f->ram + ASSIST_GPA, 0x55, HV_PAGE_SIZE);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_VP_ASSIST_PAGE, ASSIST_GPA | 1), 0);
        c = fx_vtl_control(f, 0);
        assert_int_equal(c->entry_reason, HV_VTL_ENTRY_VTL_CALL);
        assert_int_equal(plane_model_write(f->model, 1, ASSIST_GPA + 16,
                                           "\1\2\3\4\5\6\7\10\21\22\23\24\25\26\27\30", 16),
                         0);
        assert_int_equal(fx_vtl_return(f, 0, false), 0);
        assert_int_equal(fx_cpu(f, 0)->regs.rax, 0x0807060504030201);
        assert_int_equal(fx_cpu(f, 0)->regs.rcx, 0x1817161514131211);

        /* 32-bit VTL1: EAX and ECX in the first field, EDX in the second; zero-extended as a CPU
         * would */
        assert_int_equal(fx_vtl_call(f, 0), 0);
        set_mode(fx_cpu(f, 0), COMPAT);
        fx_cpu(f, 0)->regs.rax = HVCALL_VTL_RETURN;
        fx_cpu(f, 0)->regs.rdx = 0;
        fx_cpu(f, 0)->regs.rcx = 0;
        assert_int_equal(fx_out(f, 0, HVPAGE_PORT_VTL_RETURN, FX_OUT_RETURN32), 0);
        assert_int_equal(fx_cpu(f, 0)->regs.rax, 0x04030201);
        assert_int_equal(fx_cpu(f, 0)->regs.rcx, 0x08070605);
        assert_int_equal(fx_cpu(f, 0)->regs.rdx, 0x14131211);
        /* VTL0 sees its RAM there, untouched. */
        assert_int_equal(f->ram[ASSIST_GPA + 16], 0x55);
}

static void test_entry_reasons(void **state) {
        static const uint8_t asserted = 1;
        struct fx *f = *state;

        fx_enable_intercepts(f, 0, VECTOR);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_VP_ASSIST_PAGE, ASSIST_GPA | 1), 0);
        assert_int_equal(fx_set(f, 0, SELF, 0, HV_REGISTER_VSM_VINA, HV_VINA_AUTO_RESET | 0x70), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);

        assert_int_equal(plane_model_write(f->model, 1, ASSIST_GPA + 12, &asserted, 1), 0);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_vtl_control(f, 0)->entry_reason, HV_VTL_ENTRY_VTL_CALL);
        assert_int_equal(fx_vtl_control(f, 0)->vina_status, 0);
        assert_int_equal(plane_model_write(f->model, 1, ASSIST_GPA + 12, &asserted, 1), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_vtl_control(f, 0)->vina_status, 0);

        /* An interrupt for VTL1: reason 2, the interrupted RAX and RCX in the page */
        fx_cpu(f, 0)->regs.rax = 0x1111;
        fx_cpu(f, 0)->regs.rcx = 0x2222;
        fx_cpu(f, 0)->regs.rip = TINY_CODE;
        vtl_request_vtl1_interrupt(fx_vp(f, 0), NULL, VECTOR, false);
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(fx_active(f, 0), 1);
        assert_int_equal(fx_vtl_control(f, 0)->entry_reason, HV_VTL_ENTRY_INTERRUPT);
        assert_int_equal(fx_vtl_control(f, 0)->vtl_return_x64_rax, 0x1111);
        assert_int_equal(fx_vtl_control(f, 0)->vtl_return_x64_rcx, 0x2222);
        assert_int_equal(fx_ctl(f, 0)->suspended_vtls, 1);
        assert_int_equal(fx_ctl(f, 0)->stats.interrupt_entries, 1);
        /* IF is clear: the vector waits, and the engine wants to know when it can be taken. */
        assert_int_equal(f->action.irq_window, 1);
        assert_false(fx_injected(f, 0, 1, PLANE_INJECT_INTERRUPT, VECTOR));
        fx_cpu(f, 0)->regs.rflags |= 0x200;
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_true(fx_injected(f, 0, 1, PLANE_INJECT_INTERRUPT, VECTOR));
        fx_cpu(f, 0)->regs.rflags &= ~0x200ull;
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOI, 0), 0);

        fx_cpu(f, 0)->regs.rax = fx_cpu(f, 0)->regs.rcx = 0;
        assert_int_equal(fx_vtl_return(f, 0, false), 0);
        assert_int_equal(fx_active(f, 0), 0);
        assert_int_equal(fx_cpu(f, 0)->regs.rax, 0x1111);
        assert_int_equal(fx_cpu(f, 0)->regs.rcx, 0x2222);
        assert_int_equal(fx_cpu(f, 0)->regs.rip, TINY_CODE);
        assert_int_equal(fx_ctl(f, 0)->suspended_vtls, 0);
}

/* An interrupt that VTL1 did not take before it returned: VTL1 is entered again at once (vsm.md
 * 6.3, 8). */
static void test_return_race(void **state) {
        struct fx *f = *state;
        uint64_t exits;

        fx_enable_intercepts(f, 0, VECTOR);
        vtl_request_vtl1_interrupt(fx_vp(f, 0), NULL, VECTOR, false);
        exits = fx_ctl(f, 0)->stats.engine_exits;
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_active(f, 0), 1);
        assert_int_equal(fx_ctl(f, 0)->stats.engine_exits, exits + 1); /* in one go */
        assert_int_equal(fx_vtl_control(f, 0)->entry_reason, HV_VTL_ENTRY_INTERRUPT);
        assert_int_equal(fx_vtl_control(f, 0)->vtl_return_x64_rax, VTL_RETURN_FAST);
        /* VTL1's TPR above it: now it stays away. */
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_TPR, 0xf0), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_active(f, 0), 0);
        assert_int_equal(fx_ctl(f, 0)->switchable, 0);
        assert_int_equal(fx_ctl(f, 0)->lapic_idle, 0);
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(fx_active(f, 0), 0);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_TPR, 0), 0);
        assert_int_equal(f->action.irq_window, 1);
}

/* A context that no CPU runs on, latched for another VP: a shutdown when it comes to that. */
static void test_impossible_context(void **state) {
        struct hv_input_enable_vp_vtl in = { .partition_id = HV_PARTITION_ID_SELF,
                                             .vp_index = 1,
                                             .target_vtl = 1,
                                             .context = fx_context(1) };
        struct fx *f = *state;

        in.context.cr4 = 0; /* long mode without PAE */
        assert_int_equal(fx_call(f, 0, HVCALL_ENABLE_VP_VTL, &in, sizeof(in)), 0);
        assert_int_equal(fx_vtl_call(f, 1), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_SHUTDOWN);
        assert_int_equal(fx_active(f, 1), 0);
        assert_int_equal(f->error, 0);
}

/* ---- HvRegisterPendingEvent0, vsm.md 4.12 ---- */

static uint64_t pending_event(struct fx *f, uint64_t low, uint64_t high) {
        struct {
                struct hv_input_vp_registers head;
                struct hv_register_assoc assoc;
        } in = { { .partition_id = HV_PARTITION_ID_SELF, .vp_index = SELF, .input_vtl = 0x10 },
                 { .name = HV_REGISTER_PENDING_EVENT0,
                   .value = { .low64 = low, .high64 = high } } };

        return fx_call(f, 0, FX_CONTROL(HVCALL_SET_VP_REGISTERS, 1), &in, sizeof(in)) & 0xffff;
}

#define EVENT(vector, code) (1ull | (code) << 8 | (uint64_t) (vector) << 16)

static void test_pending_event(void **state) {
        static const struct {
                uint64_t low;
                uint64_t status;
        } rows[] = {
                { EVENT(32, 0), HV_STATUS_INVALID_REGISTER_VALUE },
                { EVENT(2, 0), HV_STATUS_INVALID_REGISTER_VALUE }, /* NMI */
                { EVENT(9, 0), HV_STATUS_INVALID_REGISTER_VALUE },
                { EVENT(15, 0), HV_STATUS_INVALID_REGISTER_VALUE },
                { EVENT(20, 0), HV_STATUS_INVALID_REGISTER_VALUE }, /* #VE */
                { EVENT(6, 1), HV_STATUS_INVALID_REGISTER_VALUE },  /* #UD has no error code */
                { EVENT(6, 0) | 1ull << 32, HV_STATUS_INVALID_REGISTER_VALUE },
                { EVENT(6, 0) | 1 << 1, HV_STATUS_INVALID_REGISTER_VALUE }, /* a memory intercept */
                { EVENT(6, 0) | 1 << 4, HV_STATUS_INVALID_REGISTER_VALUE },
                { EVENT(6, 0) | 1 << 9, HV_STATUS_INVALID_REGISTER_VALUE },
                { EVENT(0, 0), 0 },
                { EVENT(1, 0), 0 },
                { EVENT(3, 0), 0 },
                { EVENT(4, 0), 0 },
                { EVENT(5, 0), 0 },
                { EVENT(6, 0), 0 },
                { EVENT(7, 0), 0 },
                { EVENT(8, 1), 0 },
                { EVENT(10, 1), 0 },
                { EVENT(11, 1), 0 },
                { EVENT(12, 1), 0 },
                { EVENT(13, 1), 0 },
                { EVENT(16, 0), 0 },
                { EVENT(17, 1), 0 },
                { EVENT(18, 0), 0 },
                { EVENT(19, 0), 0 },
                { EVENT(21, 1), 0 },
                { EVENT(14, 1) | 0x2ull << 32, 0 },
        };
        const struct plane_injection *inj;
        struct fx *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                uint64_t r = pending_event(f, rows[i].low, 0xabcd000);

                if (r != rows[i].status)
                        fail_msg("row %zu: %#llx", i, (unsigned long long) r);
        }
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(f->model->vps[0].n_injections, 1);
        inj = &f->model->vps[0].injections[0].what;
        assert_int_equal(f->model->vps[0].injections[0].plane, 0);
        assert_int_equal(inj->vector, 14);
        assert_int_equal(inj->has_error_code, 1);
        assert_int_equal(inj->error_code, 2);
        assert_int_equal(fx_cpu(f, 0)->sregs.cr2, 0xabcd000);
        assert_int_equal(fx_cpu(f, 0)->regs.rip,
                         FX_HYPERCALL_PAGE + FX_OUT_CALL64 + HVPAGE_OUT_LENGTH);

        /* Once only; and what is taken back does not come. */
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(f->model->vps[0].n_injections, 0);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(pending_event(f, EVENT(13, 1), 0), 0);
        assert_int_equal(fx_ctl(f, 0)->switchable, 0);
        assert_int_equal(pending_event(f, 0, 0), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(f->model->vps[0].n_injections, 0);
}

/* ---- What the library may do alone ---- */

static void test_switchable(void **state) {
        struct fx *f = *state;
        struct vtl_control_vp *ctl = fx_ctl(f, 0);

        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(ctl->switchable, 0);
        assert_int_equal(ctl->lapic_idle, 1);
        assert_int_equal(fx_enable_partition(f, 0), 0);
        assert_int_equal(ctl->switchable, 0);
        assert_int_equal(fx_enable_vp(f, 0, 0), 0);
        assert_int_equal(ctl->switchable, 0); /* the context is still to be loaded */
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(ctl->switchable, 0); /* entered with DR0-3 and XCR0: to be left so */
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(ctl->switchable, 1);

        assert_int_equal(fx_vtl_call(f, 0), 0);
        fx_enable_intercepts(f, 0, VECTOR);
        assert_int_equal(fx_enable_vp(f, 0, 1), 0);
        assert_int_equal(fx_ctl(f, 1)->switchable, 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(ctl->switchable, 1);
        assert_int_equal(ctl->pending_vtls, 0);

        /* Another VP wants something of VTL1's APIC here. */
        vtl_request_vtl1_interrupt(fx_vp(f, 0), fx_vp(f, 1), VECTOR, false);
        assert_int_equal(ctl->switchable, 0);
        assert_int_equal(ctl->lapic_idle, 0);
        assert_int_equal(f->model->vps[0].kicks, 1);
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(fx_active(f, 0), 1);
        assert_int_equal(ctl->pending_vtls, 2);
        fx_cpu(f, 0)->regs.rflags |= 0x200;
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_int_equal(ctl->lapic_idle, 1);
        assert_int_equal(ctl->pending_vtls, 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOI, 0), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(ctl->switchable, 1);

        /* The TLB lock is released by a return, which the engine has to see. */
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_set(f, 0, SELF, 0, HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, 2), 0);
        assert_int_equal(ctl->switchable, 0);
        assert_true(fx_vp(f, 0)->tlb_locked);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_false(fx_vp(f, 0)->tlb_locked);
        assert_int_equal(ctl->switchable, 1);
}

/* What one VP's VTL1 leaves with another VP must be seen by the engine there, not skipped by the
 * library. */
static void test_switchable_of_another_vp(void **state) {
        static const struct {
                uint32_t name;
                uint64_t value;
        } rows[] = {
                { HV_REGISTER_PENDING_EVENT0, EVENT(13, 1) },
                { HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, 2 },
        };
        struct fx *f = *state;

        fx_start_vtl1(f);
        assert_int_equal(fx_enable_vp(f, 0, 1), 0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                assert_int_equal(fx_vtl_call(f, 1), 0);
                assert_int_equal(fx_vtl_return(f, 1, true), 0);
                assert_int_equal(fx_ctl(f, 1)->switchable, 1);
                assert_int_equal(fx_set(f, 0, 1, 0x10, rows[i].name, rows[i].value), 0);
                assert_int_equal(fx_ctl(f, 1)->switchable, 0);
        }
        assert_int_equal(fx_vtl_call(f, 1), 0);
        assert_int_equal(fx_vtl_return(f, 1, true), 0);
        assert_true(fx_vp(f, 1)->pending_event0[0] == 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_state_split, set_up, tear_down),
                { "test_state_split_rip_behind", test_state_split, set_up_behind, tear_down, NULL },
                cmocka_unit_test_setup_teardown(test_return_address, set_up, tear_down),
                { "test_return_address_rip_behind", test_return_address, set_up_behind, tear_down,
                  NULL },
                cmocka_unit_test_setup_teardown(test_plain_entry, set_up, tear_down),
                { "test_plain_entry_rip_behind", test_plain_entry, set_up_behind, tear_down, NULL },
                cmocka_unit_test(test_preconditions),
                cmocka_unit_test(test_rules_of_the_hot_path),
                cmocka_unit_test_setup_teardown(test_not_from_the_page, set_up, tear_down),
                cmocka_unit_test(test_bad_exits),
                cmocka_unit_test_setup_teardown(test_nonfast_return, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_entry_reasons, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_return_race, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_impossible_context, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_pending_event, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_switchable, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_switchable_of_another_vp, set_up, tear_down),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("engine-switch", tests, NULL, NULL);
}
