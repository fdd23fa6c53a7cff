/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Overlay pages per level and the synthetic MSRs behind them: VP assist, hypercall, SIMP, SIEFP,
 * reference TSC (vsm.md 1.6, 1.7, 6.5, 8.9).
 */
#include "lib/hv.h"

#define ASSIST_PAGE WINDOW_PAGE(0)
#define TSC_PAGE WINDOW_PAGE(1)
#define SIMP_PAGE WINDOW_PAGE(2)
#define SIEFP_PAGE WINDOW_PAGE(3)
#define OTHER_PAGE WINDOW_PAGE(4)
#define AT 0x800 /* somewhere in the page that the hypervisor does not write */
#define BEYOND (1ull << 52)

static uint64_t vtl1_rdmsr(uint64_t msr) {
        return rdmsr((uint32_t) msr);
}

struct msr_write {
        uint64_t msr, value;
};

static uint64_t vtl1_wrmsr(uint64_t arg) {
        const struct msr_write *w = (const struct msr_write *) arg;

        wrmsr((uint32_t) w->msr, w->value);
        return 0;
}

static void wrmsr_in_vtl1(uint32_t msr, uint64_t value) {
        struct msr_write w = { msr, value };

        vtl1_run(vtl1_wrmsr, (uint64_t) &w);
}

/* VTL1's stores by VTL1: through what overlays it has. */
static void poke_in_vtl1(uint64_t gpa, uint64_t value) {
        struct poke p = { gpa, value };

        vtl1_run(vtl1_poke, (uint64_t) &p);
}

/* A page that is an overlay while its MSR says so; works for assist, SIMP and SIEFP. */
static void test_overlay(uint32_t msr, uint64_t page, const char *name) {
        poke64(page + AT, 0xaaaa);
        wrmsr(msr, page | HV_MSR_PAGE_ENABLE);
        is(rdmsr(msr), page | HV_MSR_PAGE_ENABLE, "%s: MSR reads back", name);
        is(peek64(page + AT), 0, "%s: the page begins empty", name);
        poke64(page + AT, 0xbbbb);
        is(peek64(page + AT), 0xbbbb, "%s: and can be written", name);
        is(vtl1_run(vtl1_peek, page + AT), 0xaaaa, "%s: VTL1 sees the RAM beneath", name);
        poke_in_vtl1(page + AT, 0xcccc);
        is(peek64(page + AT), 0xbbbb, "%s: and writes to that", name);

        wrmsr(msr, OTHER_PAGE | HV_MSR_PAGE_ENABLE);
        is(peek64(page + AT), 0xcccc, "%s: moved: RAM comes back", name);
        is(peek64(OTHER_PAGE + AT), 0xbbbb, "%s: moved: the contents went along", name);
        wrmsr(msr, OTHER_PAGE);
        is(rdmsr(msr), OTHER_PAGE, "%s: off: MSR reads back", name);
        is(peek64(OTHER_PAGE + AT), 0, "%s: off: RAM is back", name);
        wrmsr(msr, page | HV_MSR_PAGE_ENABLE);
        is(peek64(page + AT), 0xbbbb, "%s: on again: the contents survived", name);
        wrmsr(msr, 0);
        is(peek64(page + AT), 0xcccc, "%s: off again: RAM", name);
}

static uint64_t vtl1_move_assist(uint64_t page) {
        struct cpu *c = this_cpu();
        uint64_t old = (uint64_t) c->assist;

        wrmsr(HV_MSR_VP_ASSIST_PAGE, page | HV_MSR_PAGE_ENABLE);
        c->assist = (void *) page;
        return old;
}

static uint64_t vtl1_reason(uint64_t arg) {
        return this_cpu()->assist->vtl_control.entry_reason;
}

/* Both levels' assist pages at one GPN */
static void test_two_assist_pages(void) {
        uint64_t old;

        poke64(ASSIST_PAGE + AT, 0x1111);
        wrmsr(HV_MSR_VP_ASSIST_PAGE, ASSIST_PAGE | HV_MSR_PAGE_ENABLE);
        poke64(ASSIST_PAGE + AT, 0x2222);
        old = vtl1_run(vtl1_move_assist, ASSIST_PAGE);
        poke_in_vtl1(ASSIST_PAGE + AT, 0x3333);
        is(peek64(ASSIST_PAGE + AT), 0x2222, "two assist pages at one GPN: VTL0 has its own");
        is(vtl1_run(vtl1_peek, ASSIST_PAGE + AT), 0x3333, "VTL1 has its own");
        is(vtl1_run(vtl1_reason, 0), HV_VTL_ENTRY_VTL_CALL, "and finds the entry reason there");
        is(((volatile struct hv_vp_assist_page *) ASSIST_PAGE)->vtl_control.entry_reason, 0,
           "VTL0's page has no entry reason");
        wrmsr(HV_MSR_VP_ASSIST_PAGE, 0);
        is(vtl1_run(vtl1_peek, ASSIST_PAGE + AT), 0x3333, "VTL0's off: VTL1 keeps its own");
        is(peek64(ASSIST_PAGE + AT), 0x1111, "VTL0 sees RAM");
        vtl1_run(vtl1_move_assist, old);
        is(vtl1_run(vtl1_peek, ASSIST_PAGE + AT), 0x1111, "both off: VTL1 sees RAM");
}

static uint64_t register_status, register_value;

static uint64_t vtl1_assist_register(uint64_t page) {
        uint64_t value = page | HV_MSR_PAGE_ENABLE;

        register_status = hv_set(VTL_SELF, HV_REGISTER_VP_ASSIST_PAGE, value);
        this_cpu()->assist = (void *) page;
        register_status |= hv_get(VTL_SELF, HV_REGISTER_VP_ASSIST_PAGE, &register_value);
        return rdmsr(HV_MSR_VP_ASSIST_PAGE);
}

static void test_assist_register(void) {
        uint64_t old = vtl1_run(vtl1_rdmsr, HV_MSR_VP_ASSIST_PAGE) & ~0xfffull;

        is(vtl1_run(vtl1_assist_register, ASSIST_PAGE), ASSIST_PAGE | 1,
           "register 0x90013 moves the page");
        is(register_status, 0, "SetVpRegisters and GetVpRegisters of it");
        is(register_value, ASSIST_PAGE | 1, "which reads back");
        is(vtl1_run(vtl1_reason, 0), HV_VTL_ENTRY_VTL_CALL, "the page is where it says");
        vtl1_run(vtl1_assist_register, old);
        is(register_status, 0, "and back");
        ok(hv_set(VTL_SELF, HV_REGISTER_VP_ASSIST_PAGE, ASSIST_PAGE | 2) != 0,
           "reserved bits are refused");
        is(hv_get(VTL_SELF, HV_REGISTER_VP_ASSIST_PAGE, &register_value), 0, "VTL0 reads its own");
        is(register_value, 0, "which is off");
}

static void is_gp(uint32_t msr, uint64_t value, const char *what) {
        struct fault f = fault_of(wrmsr(msr, value));

        is(f.vector, VECTOR_GP, "#GP: %s", what);
        is(f.error, 0, "with error code 0: %s", what);
}

static void test_faults(void) {
        is_gp(HV_MSR_VP_ASSIST_PAGE, ASSIST_PAGE | 3, "assist page MSR, reserved bit 1");
        is_gp(HV_MSR_VP_ASSIST_PAGE, ASSIST_PAGE | 0x801, "assist page MSR, reserved bit 11");
        is_gp(HV_MSR_VP_ASSIST_PAGE, BEYOND | 1, "assist page beyond the physical address space");
        is(rdmsr(HV_MSR_VP_ASSIST_PAGE), 0, "nothing of that was taken");
        is_gp(HV_MSR_HYPERCALL, hv_hypercall_page(0) | 5, "hypercall MSR, reserved bit 2");
        is_gp(HV_MSR_HYPERCALL, BEYOND | 1, "hypercall page beyond the physical address space");
        is_gp(HV_MSR_REFERENCE_TSC, TSC_PAGE | 3, "reference TSC MSR, reserved bit 1");
        is_gp(HV_MSR_VP_INDEX, 1, "VP index is read-only");
        is_gp(HV_MSR_TIME_REF_COUNT, 1, "reference counter is read-only");
        is_gp(HV_MSR_SVERSION, 1, "SynIC version is read-only");
        is_gp(0x40000050, 0, "no such MSR");
        is(fault_of(rdmsr(0x40000050)).vector, VECTOR_GP, "#GP on reading it");
        is(rdmsr(HV_MSR_VP_INDEX), this_cpu()->index, "VP index");
        is(rdmsr(HV_MSR_SVERSION), 1, "SynIC version");
        is(rdmsr(HV_MSR_SINT15), HV_SINT_RESET, "SINT15 after reset");
}

/* The page of one level at the other's GPN */
static uint64_t vtl1_move_hypercall(uint64_t page) {
        struct cpu *c = this_cpu();
        uint64_t call = c->vtl_call_entry - c->hypercall_entry,
                 ret = c->vtl_return_entry - c->hypercall_entry;

        wrmsr(HV_MSR_HYPERCALL, page | HV_MSR_PAGE_ENABLE);
        c->hypercall_entry = page;
        c->vtl_call_entry = page + call;
        c->vtl_return_entry = page + ret;
        return hv_register(HV_REGISTER_VSM_VP_STATUS);
}

static uint64_t vtl1_status(uint64_t arg) {
        return hv_register(HV_REGISTER_VSM_VP_STATUS);
}

static void test_hypercall_pages(void) {
        uint64_t page = hv_hypercall_page(0), v;
        struct fault f;

        is(vtl1_run(vtl1_peek, page), 0, "VTL1 does not see VTL0's hypercall page");
        is(vtl1_run(vtl1_move_hypercall, page), 0x30001, "VTL1's own at the same GPN works");
        is(hv_register(HV_REGISTER_VSM_VP_STATUS), 0x30000, "VTL0's too");
        is(vtl1_run(vtl1_move_hypercall, hv_hypercall_page(1)), 0x30001, "and back");
        ok(hv_hypercall_page(1) != page && peek64(hv_hypercall_page(1)) == 0,
           "VTL0 does not see VTL1's");

        v = peek64(page);
        f = fault_of(poke64(page, ~v));
        is(peek64(page), v, "VTL0 cannot write its hypercall page");
        is(f.vector, VECTOR_GP, "and is told by #GP");

        wrmsr(HV_MSR_GUEST_OS_ID, 0);
        is(rdmsr(HV_MSR_HYPERCALL) & 1, 0, "OS id 0 turns the hypercall page off");
        is(peek64(page), 0, "and RAM is back");
        wrmsr(HV_MSR_HYPERCALL, page | 1);
        is(rdmsr(HV_MSR_HYPERCALL) & 1, 0, "it stays off without an OS id");
        hv_open();
        is(peek64(page), v, "on again");
        is(vtl1_run(vtl1_status, 0), 0x30001, "VTL1 was not disturbed");
}

/* Reference time */

static uint64_t tsc_page_time(const volatile struct hv_reference_tsc_page *p, uint64_t tsc) {
        uint64_t high;

        __asm__("mulq %2" : "=d"(high), "+a"(tsc) : "r"(p->tsc_scale) : "cc");
        return high + (uint64_t) p->tsc_offset;
}

static uint64_t vtl1_tsc(uint64_t arg) {
        return rdtsc();
}

static void test_time(void) {
        const volatile struct hv_reference_tsc_page *p = (void *) TSC_PAGE;
        uint64_t last = hv_time(), now, before, after;
        unsigned backwards = 0;

        for (unsigned i = 0; i < 50; i++) {
                now = i % 5 == 0 ? vtl1_run(vtl1_rdmsr, HV_MSR_TIME_REF_COUNT) : hv_time();
                backwards += now < last;
                last = now;
        }
        is(backwards, 0, "the reference counter never goes back, in both levels");
        backwards = 0;
        last = rdtsc();
        for (unsigned i = 0; i < 50; i++) {
                now = vtl1_run(vtl1_tsc, 0);
                backwards += now < last;
                last = rdtsc();
                backwards += last < now;
        }
        is(backwards, 0, "nor does the TSC, from one level to the other");
        now = hv_time();
        for (before = rdtsc(); rdtsc() - before < 20000000;)
                cpu_relax();
        ok(hv_time() > now, "and it moves");

        poke64(TSC_PAGE, 0x1234);
        wrmsr(HV_MSR_REFERENCE_TSC, TSC_PAGE | HV_MSR_PAGE_ENABLE);
        wrmsr_in_vtl1(HV_MSR_REFERENCE_TSC, TSC_PAGE | HV_MSR_PAGE_ENABLE);
        is(rdmsr(HV_MSR_REFERENCE_TSC), TSC_PAGE | 1, "reference TSC page");
        if (p->tsc_sequence == 0) {
                skip("the host's TSC is not stable", "the TSC page agrees with the counter");
                skip("the host's TSC is not stable", "both levels have the same scale and offset");
        } else {
                before = hv_time();
                now = tsc_page_time(p, rdtsc());
                after = hv_time();
                ok(before <= now + 10000 && now <= after + 10000,
                   "the TSC page agrees with the counter: %lu, %lu, %lu", before, now, after);
                ok(vtl1_run(vtl1_peek, TSC_PAGE + 8) == p->tsc_scale &&
                           vtl1_run(vtl1_peek, TSC_PAGE + 16) == (uint64_t) p->tsc_offset,
                   "both levels have the same scale and offset");
        }
        wrmsr(HV_MSR_REFERENCE_TSC, 0);
        is(peek64(TSC_PAGE), 0x1234, "off in VTL0: RAM is back");
        ok(vtl1_run(vtl1_peek, TSC_PAGE) != 0x1234, "VTL1 keeps its page");
        wrmsr_in_vtl1(HV_MSR_REFERENCE_TSC, 0);
        is(vtl1_run(vtl1_peek, TSC_PAGE), 0x1234, "off in VTL1: RAM is back");
}

void guest_main(void) {
        vsm_open();
        test_overlay(HV_MSR_VP_ASSIST_PAGE, ASSIST_PAGE, "assist");
        test_overlay(HV_MSR_SIMP, SIMP_PAGE, "SIMP");
        test_overlay(HV_MSR_SIEFP, SIEFP_PAGE, "SIEFP");
        test_two_assist_pages();
        test_assist_register();
        test_faults();
        test_hypercall_pages();
        test_time();
}
