/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest that resets its machine and starts again (vtlrun --reboot): nothing of VTL1 is left, and
 * it can be enabled anew. Memory stays what it was the first time, and is zeroed the second time,
 * because VTL1 has asked for that. Which time it is and what was wrong is kept in the CMOS: the
 * image is loaded again each time, so only the last time reports.
 */
#include "lib/hv.h"

#define CMOS_TIME 0x60
#define CMOS_WRONG 0x61
#define SECRET 0x5ec4e75ec4e75ec4ull
#define CLOSED WINDOW_PAGE(1)
#define VECTOR_PERIOD 0x60
#define PERIODIC_DIRECT (1ull | 1ull << 1 | 1ull << 12 | (uint64_t) VECTOR_PERIOD << 4)

static uint8_t cmos_read(uint8_t index) {
        outb(0x70, index);
        return inb(0x71);
}

static void cmos_write(uint8_t index, uint8_t value) {
        outb(0x70, index);
        outb(0x71, value);
}

static void expect(bool so, const char *what) {
        if (so)
                return;
        print("# start %u: not so: %s\n", cmos_read(CMOS_TIME), what);
        cmos_write(CMOS_WRONG, 1);
}

static volatile unsigned ticks;

static void on_period(struct trap_frame *f) {
        ticks++;
        apic_eoi();
}

/* What must not be there the next time */
static uint64_t fill_vtl1(uint64_t config) {
        expect(rdmsr(MSR_LSTAR) == 0, "VTL1's LSTAR is at reset");
        expect(rdmsr(HV_MSR_SINT15) == HV_SINT_RESET, "VTL1's SINT15 is at reset");
        expect(rdmsr(HV_MSR_STIMER0_CONFIG) == 0, "VTL1's timer is at reset");
        wrmsr(MSR_LSTAR, 0x123456000);
        wrmsr(HV_MSR_SINT15, 0x71);
        irq_set(VECTOR_PERIOD, on_period);
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, 10000);
        wrmsr(HV_MSR_STIMER0_CONFIG, PERIODIC_DIRECT);
        expect(hv_set(VTL_SELF, HV_REGISTER_VSM_PARTITION_CONFIG, config) == 0,
               "VTL1 configures the partition");
        return 0;
}

static void check_reset(void) {
        expect(rdmsr(HV_MSR_GUEST_OS_ID) == 0, "GUEST_OS_ID is 0");
        expect(rdmsr(HV_MSR_HYPERCALL) == 0, "there is no hypercall page");
        expect(rdmsr(HV_MSR_SIMP) == 0, "there is no message page");
        expect(rdmsr(HV_MSR_SINT0 + 1) == HV_SINT_RESET, "SINTs are at reset");
        hv_open();
        expect((hv_register(HV_REGISTER_VSM_PARTITION_STATUS) & 0xffff) == 1,
               "the partition has VTL0 only");
        expect((hv_register(HV_REGISTER_VSM_VP_STATUS) >> 16 & 0xffff) == 1, "so has the VP");
}

static uint64_t wait_in_vtl1(uint64_t arg) {
        while (arg == 0)
                cpu_relax();
        return arg;
}

void guest_main(void) {
        unsigned start = cmos_read(CMOS_TIME);
        uint64_t config = VTL1_CONFIG;

        if (!hv_present())
                skip_all("no Hyper-V here");
        check_reset();
        if (start > 0)
                expect(peek64(CLOSED) == (start == 1 ? SECRET : 0),
                       "memory stays, or is zeroed when VTL1 asked for that");
        if (start == 2) {
                vsm_protect();
                is(cmos_read(CMOS_WRONG), 0, "all was as it must be after each reset");
                is(vtl1_run(vtl1_peek, CLOSED), 0, "the secret is gone");
                is(HV_RESULT_STATUS(protect(CLOSED, 1, 0)), 0, "protections can be had again");
                plan_start(PLAN_SKIP);
                __asm__ volatile("movq (%0), %%rax" : : "r"(CLOSED) : "rax", "memory");
                is(plan.count, 1, "and are enforced");
                return;
        }
        cmos_write(CMOS_TIME, (uint8_t) (start + 1));
        wrmsr(HV_MSR_SIMP, (uint64_t) this_cpu()->simp | HV_MSR_PAGE_ENABLE);
        wrmsr(HV_MSR_SINT0 + 1, 0x71);
        vsm_protect();
        if (start == 1)
                config |= HV_VSM_ZERO_MEMORY_ON_RESET;
        vtl1_run(fill_vtl1, config);
        vtl1_run(vtl1_poke, (uint64_t) & (struct poke){ CLOSED, SECRET });
        expect(HV_RESULT_STATUS(protect(CLOSED, 1, 0)) == 0, "VTL1 closes a page");
        expect(spin_for(&ticks, 3, 20000), "VTL1's timer runs");
        if (cpu_count() > 1) {
                job_open_vtl1(1);
                job_start_vtl1(1, wait_in_vtl1, 0);
        }
        if (start == 0)
                wrmsr(HV_MSR_RESET, 1);
        else
                outb(0xcf9, 6);
        for (;;)
                halt();
}
