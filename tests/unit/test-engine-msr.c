/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Synthetic MSRs, vsm.md 1.6 and 1.7: reset values, who can write what, and one set per VTL. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/hvpage.h"

#define PAGE_A 0x150000ull
#define PAGE_B 0x151000ull
#define NO_RAM 0x900000ull
#define TSC (1ull << 60)
#define BEYOND (1ull << 40) /* of the physical address space */

static int set_up(void **state) {
        struct fx *f = malloc(sizeof(*f));

        fx_init(f, &(struct fx_options){ .vps = 2, .tsc_khz = 2000000 });
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

static uint64_t read_msr(struct fx *f, unsigned vp, uint32_t msr) {
        uint64_t value = 0xdeadbeef;

        if (fx_rdmsr(f, vp, msr, &value) != 0)
                fail_msg("reading MSR %#x", msr);
        /* What the guest gets, in EDX:EAX */
        assert_int_equal(fx_cpu(f, vp)->regs.rax | fx_cpu(f, vp)->regs.rdx << 32, value);
        return value;
}

static void write_msr(struct fx *f, unsigned vp, uint32_t msr, uint64_t value) {
        if (fx_wrmsr(f, vp, msr, value) != 0)
                fail_msg("writing %#llx to MSR %#x", (unsigned long long) value, msr);
}

static void write_msr_gp(struct fx *f, unsigned vp, uint32_t msr, uint64_t value) {
        uint64_t rip = fx_cpu(f, vp)->regs.rip;

        if (fx_wrmsr(f, vp, msr, value) != 1)
                fail_msg("no #GP for %#llx to MSR %#x", (unsigned long long) value, msr);
        assert_int_equal(fx_cpu(f, vp)->regs.rip, rip);
}

static void read_msr_gp(struct fx *f, unsigned vp, uint32_t msr) {
        uint64_t value;

        if (fx_rdmsr(f, vp, msr, &value) != 1)
                fail_msg("no #GP for MSR %#x", msr);
        assert_int_equal(value, 0);
}

/* ---- Every MSR: reset value, a legal value, an illegal one ---- */

#define ANY UINT64_MAX    /* not a constant */
#define VTL0_GP (1u << 0) /* KVM's own in VTL0, so #GP should one come here */
#define WRITABLE (1u << 1)
#define READ_GP (1u << 2)
#define PER_VP (1u << 3) /* otherwise partition-wide */

static const struct {
        uint32_t msr;
        unsigned flags;
        uint64_t reset, legal, illegal[4]; /* 0 ends the illegal ones */
} rows[] = {
        { HV_MSR_GUEST_OS_ID, WRITABLE, 0, 0x0001040a000065f4, { 0 } },
        { HV_MSR_HYPERCALL,
          WRITABLE,
          0,
          PAGE_A,
          { PAGE_A | 4, PAGE_A | 0x800, BEYOND, 1ull << 63 } },
        { HV_MSR_VP_INDEX, PER_VP, ANY, 0, { 1 } },
        { HV_MSR_TIME_REF_COUNT, 0, ANY, 0, { 1 } },
        { HV_MSR_REFERENCE_TSC,
          WRITABLE,
          0,
          PAGE_A | 1,
          { PAGE_A | 3, PAGE_A | 0x801, NO_RAM | 1, BEYOND } },
        { HV_MSR_TSC_FREQUENCY, 0, 2000000000, 0, { 1 } },
        { HV_MSR_APIC_FREQUENCY, 0, 1000000000, 0, { 1 } },
        { HV_MSR_EOI, VTL0_GP | READ_GP, 0, 0, { 0 } },
        { HV_MSR_TPR, VTL0_GP | WRITABLE | PER_VP, 0, 0x20, { 0x100, 1ull << 32 } },
        { HV_MSR_VP_ASSIST_PAGE,
          WRITABLE | PER_VP,
          0,
          PAGE_A | 1,
          { PAGE_A | 3, PAGE_A | 0x801, NO_RAM | 1, BEYOND | 1 } },
        { HV_MSR_SCONTROL, WRITABLE | PER_VP, 1, 0xfffffffffffffffe, { 0 } },
        { HV_MSR_SVERSION, PER_VP, 1, 0, { 1 } },
        { HV_MSR_SIEFP, WRITABLE | PER_VP, 0, PAGE_A | 0xfff, { NO_RAM | 1, BEYOND | 1, BEYOND } },
        { HV_MSR_SIMP, WRITABLE | PER_VP, 0, PAGE_A | 0xfff, { NO_RAM | 1, BEYOND | 1, BEYOND } },
        { HV_MSR_SIRBP, WRITABLE | PER_VP, 0, PAGE_A | 1, { 0 } },
        { HV_MSR_RESET, PER_VP, 0, 0, { 0 } },
        { HV_MSR_CRASH_CTL, PER_VP, HV_CRASH_CTL_SUPPORTED, 0, { 0 } },
        { HV_MSR_SINT0, WRITABLE | PER_VP, 0x10000, 0x30, { 0xf, 0x2000f } },
        { HV_MSR_SINT0 + 7, WRITABLE | PER_VP, 0x10000, 0x100000000002003f, { 1 } },
        { HV_MSR_SINT15, WRITABLE | PER_VP, 0x10000, 0x1000f, { 0x00, 0xe } },
};

static void check_row(struct fx *f, size_t i, unsigned vtl) {
        uint32_t msr = rows[i].msr;

        if ((rows[i].flags & VTL0_GP) && vtl == 0) {
                read_msr_gp(f, 0, msr);
                write_msr_gp(f, 0, msr, rows[i].legal);
                return;
        }
        if (rows[i].flags & READ_GP) {
                read_msr_gp(f, 0, msr);
                write_msr(f, 0, msr, rows[i].legal);
                return;
        }
        if (rows[i].reset != ANY)
                assert_int_equal(read_msr(f, 0, msr), rows[i].reset);
        for (unsigned n = 0; n < 4 && rows[i].illegal[n]; n++) {
                write_msr_gp(f, 0, msr, rows[i].illegal[n]);
                if (rows[i].reset != ANY)
                        assert_int_equal(read_msr(f, 0, msr), rows[i].reset);
        }
        if (!(rows[i].flags & WRITABLE))
                return;
        write_msr(f, 0, msr, rows[i].legal);
        assert_int_equal(read_msr(f, 0, msr), rows[i].legal);
        if (vtl == 0)
                assert_int_equal(read_msr(f, 1, msr),
                                 rows[i].flags & PER_VP ? rows[i].reset : rows[i].legal);
        for (unsigned n = 0; n < 4 && rows[i].illegal[n]; n++)
                write_msr_gp(f, 0, msr, rows[i].illegal[n]);
        assert_int_equal(read_msr(f, 0, msr), rows[i].legal);
}

static void test_every_msr(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct fx f;

                fx_init(&f, &(struct fx_options){ .vps = 2, .tsc_khz = 2000000 });
                check_row(&f, i, 0);
                fx_start_vtl1(&f);
                /* VTL1's is untouched by what VTL0 wrote, and the other way round. */
                check_row(&f, i, 1);
                if ((rows[i].flags & (WRITABLE | VTL0_GP)) == WRITABLE) {
                        assert_int_equal(fx_vtl_return(&f, 0, true), 0);
                        assert_int_equal(read_msr(&f, 0, rows[i].msr), rows[i].legal);
                        write_msr(&f, 0, rows[i].msr, rows[i].reset);
                        assert_int_equal(read_msr(&f, 0, rows[i].msr), rows[i].reset);
                        assert_int_equal(fx_vtl_call(&f, 0), 0);
                        assert_int_equal(read_msr(&f, 0, rows[i].msr), rows[i].legal);
                }
                assert_int_equal(f.error, 0);
                fx_deinit(&f);
        }
}

static void test_unknown(void **state) {
        static const uint32_t unknown[] = { 0x40000004, 0x40000010, 0x40000024, 0x40000040,
                                            0x4000006f, 0x40000074, 0x40000086, 0x4000008f,
                                            0x400000a0, 0x400000b8, 0x400000f1, 0x400000ff,
                                            0x40000106, 0x40000118, 0x400001ff, 0x3fffffff,
                                            0x40000200, 0x11,       0,          UINT32_MAX };
        struct fx *f = *state;

        for (unsigned vtl = 0; vtl < 2; vtl++) {
                for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
                        read_msr_gp(f, 0, unknown[i]);
                        write_msr_gp(f, 0, unknown[i], 0);
                }
                if (vtl == 0)
                        fx_start_vtl1(f);
        }
}

/* One set of crash registers for both levels; the report says who made it. */
static void test_crash(void **state) {
        struct fx *f = *state;
        const struct vtl_control_header *h = f->config.control;
        union hv_register_value v;

        for (uint32_t i = 0; i < HV_CRASH_PARAMETERS; i++)
                write_msr(f, 0, HV_MSR_CRASH_P0 + i, 0x100 + i);
        assert_int_equal(read_msr(f, 1, HV_MSR_CRASH_P0), 0);
        fx_start_vtl1(f);
        assert_int_equal(read_msr(f, 0, HV_MSR_CRASH_P4), 0x104);
        assert_int_equal(fx_get(f, 0, HV_VP_INDEX_SELF, 0, HV_REGISTER_GUEST_CRASH_P0 + 1, &v), 0);
        assert_int_equal(v.reg64, 0x101);
        write_msr(f, 0, HV_MSR_CRASH_CTL, 0x7c00000000000000);
        assert_int_equal(f->events[VTL_EVENT_CRASH], 0);
        write_msr(f, 0, HV_MSR_CRASH_CTL, HV_CRASH_CTL_NOTIFY);
        assert_int_equal(f->events[VTL_EVENT_CRASH], 1);
        assert_int_equal(f->last_event.gpa, 0x100);
        assert_int_equal(f->last_event.data, 1);
        assert_int_equal(h->crashes, 1);
        assert_int_equal(h->crash_vtl, 1);
        assert_int_equal(h->crash[4], 0x104);
        assert_int_equal(read_msr(f, 0, HV_MSR_CRASH_CTL), HV_CRASH_CTL_SUPPORTED);
}

static void test_reset(void **state) {
        struct fx *f = *state;

        write_msr(f, 0, HV_MSR_RESET, 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);
        write_msr(f, 0, HV_MSR_RESET, 1);
        assert_int_equal(f->action.kind, VTL_ACTION_RESET);
}

/* VTL0's halt is KVM's, and with interrupts off it would be one for ever. */
static void test_guest_idle(void **state) {
        struct fx *f = *state;
        uint64_t value;

        fx_cpu(f, 0)->regs.rflags &= ~0x200ull;
        assert_int_equal(read_msr(f, 0, HV_MSR_GUEST_IDLE), 0);
        assert_int_equal(fx_cpu(f, 0)->mp_state.mp_state, KVM_MP_STATE_RUNNABLE);
        fx_cpu(f, 0)->regs.rflags |= 0x200;
        assert_int_equal(read_msr(f, 0, HV_MSR_GUEST_IDLE), 0);
        assert_int_equal(fx_cpu(f, 0)->mp_state.mp_state, KVM_MP_STATE_HALTED);
        write_msr_gp(f, 0, HV_MSR_GUEST_IDLE, 0);
        /* VTL1's ends with an interrupt that it does not take, too. */
        fx_start_vtl1(f);
        assert_int_equal(fx_store(f, 0, LAPIC_BASE_RESET + 0xf0, 4, LAPIC_SVR_ENABLE | 0xff), 0);
        fx_cpu(f, 0)->regs.rflags &= ~0x200ull;
        assert_int_equal(fx_rdmsr(f, 0, HV_MSR_GUEST_IDLE, &value), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_WAIT);
        assert_true(lapic_request(&fx_vp(f, 0)->lapic, 0x50, false));
        assert_int_equal(fx_kick(f, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);
        assert_false(fx_vp(f, 0)->halted);
        assert_false(fx_injected(f, 0, 1, PLANE_INJECT_INTERRUPT, 0x50));
}

static void test_eom(void **state) {
        struct fx *f = *state;

        write_msr(f, 0, HV_MSR_EOM, 0x1234);
        assert_int_equal(read_msr(f, 0, HV_MSR_EOM), 0);
}

static void test_vp_index(void **state) {
        struct fx *f = *state;
        uint64_t t;

        assert_int_equal(read_msr(f, 0, HV_MSR_VP_INDEX), 0);
        assert_int_equal(read_msr(f, 1, HV_MSR_VP_INDEX), 1);
        t = read_msr(f, 0, HV_MSR_TIME_REF_COUNT);
        usleep(2000);
        assert_in_range(read_msr(f, 1, HV_MSR_TIME_REF_COUNT) - t, 20000, 600000000);
}

/* ---- The hypercall page ---- */

static void test_hypercall_page(void **state) {
        uint8_t page[HV_PAGE_SIZE], want[HV_PAGE_SIZE];
        struct fx *f = *state;

        hvpage_fill(want, HVPAGE_PLAIN);
        memset(f->ram + PAGE_A, 0x5a, HV_PAGE_SIZE);
        memset(f->ram + PAGE_B, 0x5b, HV_PAGE_SIZE);

        /* Without an identity the page stays off. */
        write_msr(f, 0, HV_MSR_HYPERCALL, PAGE_A | 1);
        assert_int_equal(read_msr(f, 0, HV_MSR_HYPERCALL), PAGE_A);
        assert_int_equal(plane_model_read(f->model, 0, PAGE_A, page, sizeof(page)), 0);
        assert_int_equal(page[0], 0x5a);

        write_msr(f, 0, HV_MSR_GUEST_OS_ID, 0x8100000000000001);
        assert_int_equal(f->p->header->guest_os_id[0], 0x8100000000000001);
        write_msr(f, 0, HV_MSR_HYPERCALL, PAGE_A | 1);
        assert_int_equal(read_msr(f, 1, HV_MSR_HYPERCALL), PAGE_A | 1);
        assert_int_equal(plane_model_read(f->model, 0, PAGE_A, page, sizeof(page)), 0);
        assert_memory_equal(page, want, sizeof(page));
        assert_int_equal(plane_model_write(f->model, 0, PAGE_A, "x", 1), -EFAULT);
        /* Only VTL0 sees it, and what lies beneath is untouched. */
        assert_int_equal(plane_model_read(f->model, 1, PAGE_A, page, sizeof(page)), 0);
        assert_int_equal(page[0], 0x5a);
        assert_int_equal(f->ram[PAGE_A], 0x5a);

        /* Moved, with the old place as it was */
        write_msr(f, 0, HV_MSR_HYPERCALL, PAGE_B | 1);
        assert_int_equal(plane_model_read(f->model, 0, PAGE_A, page, sizeof(page)), 0);
        assert_int_equal(page[0], 0x5a);
        assert_int_equal(plane_model_write(f->model, 0, PAGE_A, "x", 1), 0);
        assert_int_equal(plane_model_read(f->model, 0, PAGE_B, page, sizeof(page)), 0);
        assert_memory_equal(page, want, sizeof(page));
        write_msr_gp(f, 0, HV_MSR_HYPERCALL, NO_RAM | 1);
        assert_int_equal(read_msr(f, 0, HV_MSR_HYPERCALL), PAGE_B | 1);

        /* No identity, no page; a new one does not bring it back. */
        write_msr(f, 0, HV_MSR_GUEST_OS_ID, 0);
        assert_int_equal(read_msr(f, 0, HV_MSR_HYPERCALL), PAGE_B);
        assert_int_equal(plane_model_read(f->model, 0, PAGE_B, page, sizeof(page)), 0);
        assert_int_equal(page[0], 0x5b);
        assert_int_equal(f->p->n_overlays[0], 0);
        write_msr(f, 0, HV_MSR_GUEST_OS_ID, 1);
        assert_int_equal(read_msr(f, 0, HV_MSR_HYPERCALL), PAGE_B);

        /* Locked until reset */
        write_msr(f, 0, HV_MSR_HYPERCALL, PAGE_B | 3);
        write_msr_gp(f, 0, HV_MSR_HYPERCALL, PAGE_B | 3);
        write_msr_gp(f, 0, HV_MSR_HYPERCALL, 0);
        write_msr_gp(f, 1, HV_MSR_HYPERCALL, PAGE_A | 1);
        assert_int_equal(read_msr(f, 0, HV_MSR_HYPERCALL), PAGE_B | 3);
}

/* ---- The reference TSC page ---- */

static void test_reference_tsc(void **state) {
        struct hv_reference_tsc_page a, b;
        unsigned __int128 time;
        struct fx *f = *state;
        uint64_t before, now;

        plane_model_msr(fx_plane(f, 0, 0), 0x10)->value = TSC;
        before = read_msr(f, 0, HV_MSR_TIME_REF_COUNT);
        write_msr(f, 0, HV_MSR_REFERENCE_TSC, PAGE_A | 1);
        assert_int_equal(plane_model_read(f->model, 0, PAGE_A, &a, sizeof(a)), 0);
        assert_int_equal(plane_model_write(f->model, 0, PAGE_A, "x", 1), -EFAULT);
        assert_int_not_equal(a.tsc_sequence, 0);
        assert_int_not_equal(a.tsc_sequence, UINT32_MAX);
        /* 2 GHz: 200 ticks are 100 ns. */
        assert_int_equal(a.tsc_scale, UINT64_MAX / 200);
        time = ((unsigned __int128) TSC * a.tsc_scale >> 64) + (uint64_t) a.tsc_offset;
        now = read_msr(f, 0, HV_MSR_TIME_REF_COUNT);
        assert_in_range((uint64_t) time, before, now);
        assert_in_range(now - before, 0, 100000000); /* no jump */

        /* VTL1's has the same scale and offset, whatever its TSC has become (vsm.md 1.7). */
        fx_start_vtl1(f);
        plane_model_msr(fx_plane(f, 0, 1), 0x10)->value = 1;
        write_msr(f, 0, HV_MSR_REFERENCE_TSC, PAGE_A | 1);
        assert_int_equal(plane_model_read(f->model, 1, PAGE_A, &b, sizeof(b)), 0);
        assert_int_equal(b.tsc_scale, a.tsc_scale);
        assert_int_equal(b.tsc_offset, a.tsc_offset);
        assert_int_not_equal(b.tsc_sequence, 0);
        /* Enabled again: another sequence */
        write_msr(f, 0, HV_MSR_REFERENCE_TSC, 0);
        write_msr(f, 0, HV_MSR_REFERENCE_TSC, PAGE_B | 1);
        assert_int_equal(plane_model_read(f->model, 1, PAGE_B, &a, sizeof(a)), 0);
        assert_int_not_equal(a.tsc_sequence, b.tsc_sequence);
}

static void test_no_tsc_frequency(void **state) {
        struct hv_reference_tsc_page page;
        struct fx f;

        fx_init(&f, &(struct fx_options){ 0 });
        write_msr(&f, 0, HV_MSR_REFERENCE_TSC, PAGE_A | 1);
        assert_int_equal(plane_model_read(f.model, 0, PAGE_A, &page, sizeof(page)), 0);
        assert_int_equal(page.tsc_sequence, 0); /* the guest is to use the MSR */
        fx_deinit(&f);
}

/* ---- VTL1's APIC by MSR ---- */

static void test_apic_msrs(void **state) {
        struct fx *f = *state;
        uint64_t base = LAPIC_BASE_RESET | LAPIC_BASE_BSP | LAPIC_BASE_ENABLE;

        assert_int_equal(read_msr(f, 0, LAPIC_MSR_BASE), base);
        read_msr_gp(f, 0, 0x802); /* xAPIC mode */
        write_msr_gp(f, 0, LAPIC_MSR_BASE, base | 0x1000);
        write_msr(f, 0, LAPIC_MSR_BASE, base | LAPIC_BASE_X2APIC);
        assert_int_equal(read_msr(f, 0, 0x802), f->apic_ids[0]);
        write_msr(f, 0, 0x808, 0x35);
        assert_int_equal(read_msr(f, 0, HV_MSR_TPR), 0x35); /* the sub-class too */
        assert_int_equal(fx_cpu(f, 0)->cr8, 3);
        fx_cpu(f, 0)->cr8 = 5; /* MOV to CR8 */
        assert_int_equal(read_msr(f, 0, HV_MSR_TPR), 0x50);
        write_msr_gp(f, 0, 0x808, 0x100);
        write_msr(f, 0, HV_MSR_TPR, 0);
        assert_int_equal(fx_cpu(f, 0)->cr8, 0);
        /* VTL0's is KVM's. */
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        read_msr_gp(f, 0, 0x802);
        assert_int_equal(read_msr(f, 0, LAPIC_MSR_BASE), fx_plane(f, 0, 0)->sregs.apic_base);
        write_msr(f, 0, LAPIC_MSR_BASE, base);
        write_msr_gp(f, 0, LAPIC_MSR_BASE, base | 0x1000);
}

/* vsm.md 6.4. VTL1 had MTRRs of its own, which said "uncached" for everything. */
static void test_mtrrs_are_shared(void **state) {
        static const uint32_t shared[] = { 0x17a, 0x200, 0x2ff };
        struct fx *f = *state;

        assert_int_equal(read_msr(f, 0, 0x2ff), 0xc06);
        for (size_t i = 0; i < ARRAY_SIZE(shared); i++) {
                write_msr(f, 0, shared[i], 0x1234);
                assert_int_equal(read_msr(f, 0, shared[i]), 0x1234);
        }
        for (size_t i = 0; i < MODEL_MSRS; i++)
                for (size_t j = 0; j < ARRAY_SIZE(shared); j++)
                        if (fx_plane(f, 0, 0)->msrs[i].index == shared[j])
                                assert_int_equal(fx_plane(f, 0, 0)->msrs[i].value, 0x1234);
        read_msr_gp(f, 0, 0x201); /* one that the host's CPU does not have */
        write_msr_gp(f, 0, 0x201, 0);
        read_msr_gp(f, 0, 0x210);
}

/* HV_X64_MSR_ICR sends in both modes of the APIC, to oneself and to another VP. */
static void test_icr(void **state) {
        struct fx *f = *state;
        uint64_t base = LAPIC_BASE_RESET | LAPIC_BASE_ENABLE;

        assert_int_equal(fx_enable_vp(f, 0, 1), 0);
        assert_int_equal(fx_vtl_call(f, 1), 0);
        for (unsigned x2apic = 0; x2apic < 2; x2apic++) {
                uint64_t to_vp1 = (uint64_t) f->apic_ids[1] << (x2apic ? 32 : 56);

                for (unsigned vp = 0; vp < 2; vp++) {
                        if (x2apic)
                                write_msr(f, vp, LAPIC_MSR_BASE,
                                          base | LAPIC_BASE_X2APIC |
                                                  (vp == 0 ? LAPIC_BASE_BSP : 0));
                        lapic_set_cr8(&fx_vp(f, vp)->lapic, 0);
                        fx_vp(f, vp)->lapic.svr = 0x1ff;
                }
                write_msr(f, 0, HV_MSR_ICR, to_vp1 | (0x40 + x2apic));
                assert_int_equal(read_msr(f, 0, HV_MSR_ICR), to_vp1 | (0x40 + x2apic));
                assert_int_equal(lapic_pending(&fx_vp(f, 1)->lapic), 0x40 + x2apic);
                assert_int_equal(f->model->vps[1].kicks, 1 + x2apic);
                assert_int_equal(lapic_pending(&fx_vp(f, 0)->lapic), -1);
                write_msr(f, 0, HV_MSR_ICR, 1 << 18 | 0x50);
                assert_int_equal(lapic_pending(&fx_vp(f, 0)->lapic), 0x50);
                assert_int_equal(f->action.irq_window, 1);
                assert_int_equal(f->model->vps[0].kicks, 0);
                memset(fx_vp(f, 0)->lapic.irr, 0, sizeof(fx_vp(f, 0)->lapic.irr));
                memset(fx_vp(f, 1)->lapic.irr, 0, sizeof(fx_vp(f, 1)->lapic.irr));
        }
        write_msr_gp(f, 0, HV_MSR_ICR, 1u << 31); /* reserved in x2APIC mode */
}

/* What KVM is told, to serve VTL0's hypercalls and AutoEOI: nothing of VTL1's. */
static void test_kernel(void **state) {
        struct fx fx, *f = &fx;
        const uint64_t *os, *sint;

        fx_init(f, &(struct fx_options){ .kernel = true });
        os = &plane_model_msr(fx_plane(f, 0, 0), HV_MSR_GUEST_OS_ID)->value;
        sint = &plane_model_msr(fx_plane(f, 0, 0), HV_MSR_SINT0 + 2)->value;
        write_msr(f, 0, HV_MSR_GUEST_OS_ID, 0x8100);
        assert_int_equal(*os, 0x8100);

        write_msr(f, 0, HV_MSR_SINT0 + 2, HV_SINT_MASKED | 0x41);
        assert_int_equal(*sint, HV_SINT_RESET);
        write_msr(f, 0, HV_MSR_SINT0 + 2, HV_SINT_AUTO_EOI | 0x41);
        assert_int_equal(*sint, HV_SINT_AUTO_EOI | 0x41);
        /* While it is masked an interrupt of it may still wait. */
        write_msr(f, 0, HV_MSR_SINT0 + 2, HV_SINT_AUTO_EOI | HV_SINT_MASKED | 0x42);
        assert_int_equal(*sint, HV_SINT_AUTO_EOI | 0x42);
        write_msr(f, 0, HV_MSR_SINT0 + 2, 0x43);
        assert_int_equal(*sint, HV_SINT_RESET);
        /* Refused before anybody is told */
        write_msr_gp(f, 0, HV_MSR_SINT0 + 2, HV_SINT_AUTO_EOI | 1);
        assert_int_equal(*sint, HV_SINT_RESET);

        fx_start_vtl1(f);
        write_msr(f, 0, HV_MSR_GUEST_OS_ID, 0x1234);
        write_msr(f, 0, HV_MSR_SINT0 + 2, HV_SINT_AUTO_EOI | 0x41);
        assert_int_equal(*os, 0x8100);
        assert_int_equal(*sint, HV_SINT_RESET);
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 1), HV_MSR_GUEST_OS_ID)->value, 0);
        fx_deinit(f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_msr),
                cmocka_unit_test_setup_teardown(test_unknown, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_crash, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_reset, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_guest_idle, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_eom, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_vp_index, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_hypercall_page, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_reference_tsc, set_up, tear_down),
                cmocka_unit_test(test_no_tsc_frequency),
                cmocka_unit_test(test_kernel),
                cmocka_unit_test_setup_teardown(test_apic_msrs, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_mtrrs_are_shared, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_icr, set_up_vtl1, tear_down),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("engine-msr", tests, NULL, NULL);
}
