/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VTL0's flushes and interrupts, most of which KVM serves itself where it knows Hyper-V's
 * hypercalls. The guest cannot see who answers: tests/host/test-kernel-calls.sh counts the exits.
 * Command line: rounds=N; fpu=1 on a host that runs SSE code of a guest.
 */
#include "lib/flush.h"

#define VECTOR 0x51
#define LONG_MS 5000

static volatile unsigned got[MAX_CPUS];

static void on_ipi(struct trap_frame *f) {
        apic_eoi();
        got[this_cpu()->index]++;
}

static unsigned ipi(uint8_t vtl, uint32_t vector, uint64_t mask) {
        return HV_RESULT_STATUS(hv_call(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST,
                                        vector | (uint64_t) vtl << 32, mask));
}

/* Lets interrupts in until it is told otherwise. */
static volatile bool stop;

static uint64_t idle(uint64_t arg) {
        irq_on();
        while (!stop)
                cpu_relax();
        irq_off();
        return 0;
}

static void test_flushes(unsigned rounds, bool fast) {
        for (enum flush_call call = 0; call < FLUSH_CALLS; call++) {
                unsigned bad = 0;

                for (unsigned i = 0; i < rounds; i++)
                        bad += flush(call, fast, i & 1 ? FLUSH_ALL_PROCESSORS : 0,
                                     i & 2 ? ~0ull : 1) != 0;
                is(bad, 0, "%u of %s, parameters in %s", rounds, flush_names[call],
                   fast ? "registers" : "memory");
        }
}

static void test_ipis(unsigned rounds) {
        unsigned last = cpu_count() - 1, bad = 0, lost = 0;

        for (unsigned i = 1; i <= rounds; i++) {
                bad += ipi(VTL_SELF, VECTOR, 1ull << last) != 0;
                lost += !spin_for(&got[last], i, LONG_MS);
        }
        is(bad, 0, "%u interrupts for another VP", rounds);
        is(lost, 0, "which takes each");
}

/* KVM has no levels: what names one is not for it. */
static void test_targets(void) {
        unsigned last = cpu_count() - 1, before = got[last];

        is(flush(FLUSH_SPACE, true, FLUSH_USE_TARGET_VTL | FLUSH_VTL0, 1), 0, "a flush of VTL0's");
        is(flush(FLUSH_SPACE, true, FLUSH_USE_TARGET_VTL | FLUSH_VTL1, 1), HV_STATUS_ACCESS_DENIED,
           "a flush of VTL1's is refused");
        is(flush(FLUSH_SPACE, true, FLUSH_VTL1, 1), HV_STATUS_INVALID_PARAMETER,
           "a level that is not said to be named");
        is(ipi(VTL0, VECTOR, 1ull << last), 0, "an interrupt for VTL0 by name");
        ok(spin_for(&got[last], before + 1, LONG_MS), "VTL0 takes it");
        is(ipi(VTL1, VECTOR, 1ull << last), 0, "one for VTL1, which that VP has not");
        is(got[last], before + 1, "is not VTL0's");
}

static uint64_t vtl1_ipi(uint64_t vtl) {
        return ipi((uint8_t) vtl, VECTOR, 1ull << (cpu_count() - 1));
}

/* VTL1's page is the plain one: its calls mean what they say. */
static void test_vtl1(void) {
        unsigned last = cpu_count() - 1, before = got[last];

        is(vtl1_run(vtl1_ipi, VTL0), 0, "VTL1 sends an interrupt to VTL0");
        ok(spin_for(&got[last], before + 1, LONG_MS), "VTL0 takes it");
}

void guest_main(void) {
        unsigned rounds = (unsigned) cmdline_number("rounds", 200);

        if (cpu_count() < 2)
                skip_all("one CPU");
        irq_set(VECTOR, on_ipi);
        vsm_open();
        for (unsigned i = 1; i < cpu_count(); i++)
                job_open(i);
        test_flushes(rounds, false);
        test_flushes(rounds, cmdline_number("fpu", 0));
        job_start(cpu_count() - 1, idle, 0);
        test_ipis(rounds);
        test_targets();
        test_vtl1();
        stop = true;
        job_wait(cpu_count() - 1, "the end");
}
