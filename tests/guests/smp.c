/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two VPs: VTL1 on both, secure calls on both at once, protections that hold on both, and
 * interrupts from one VTL1 to the other, in the middle of VTL0's port reads.
 * Command line: calls=N, ipis=N.
 */
#include "lib/hv.h"

#define PAGE WINDOW_PAGE(8)
#define TIMEOUT 20000000000ull
#define PORT_SCRATCH 0x3ff
#define FW_CFG_SELECTOR 0x510
#define FW_CFG_DATA 0x511

/* One job at a time for the second CPU's VTL0. */
static struct {
        uint64_t (*volatile fn)(uint64_t arg);
        volatile uint64_t arg, result;
} work;

static uint64_t open_here(uint64_t arg) {
        hv_open();
        return rdmsr(HV_MSR_VP_INDEX);
}

static void ap_main(void *arg) {
        for (;;) {
                uint64_t (*fn)(uint64_t) = work.fn;

                if (fn == NULL) {
                        cpu_relax();
                        continue;
                }
                work.result = fn(work.arg);
                __atomic_store_n(&work.fn, NULL, __ATOMIC_RELEASE);
        }
}

static void ap_start(uint64_t (*fn)(uint64_t), uint64_t arg) {
        work.arg = arg;
        __atomic_store_n(&work.fn, fn, __ATOMIC_RELEASE);
}

static uint64_t ap_wait(const char *what) {
        for (uint64_t start = rdtsc(); work.fn != NULL; cpu_relax())
                if (rdtsc() - start > TIMEOUT)
                        bail_out("the second CPU does not come back: %s", what);
        return work.result;
}

static uint64_t ap_run(uint64_t (*fn)(uint64_t), uint64_t arg, const char *what) {
        ap_start(fn, arg);
        return ap_wait(what);
}

/* On the second CPU, a secure call of its own */
static uint64_t secure(uint64_t fn) {
        return vtl1_run((uint64_t(*)(uint64_t)) fn, 0);
}

static uint64_t vtl1_enable_other(uint64_t vp) {
        struct hv_initial_vp_context context;

        vtl1_context((unsigned) vp, &context);
        return hv_enable_vp_vtl(HV_PARTITION_ID_SELF, (uint32_t) vp, 1, &context);
}

static uint64_t vtl1_enable_again(uint64_t vp) {
        struct hv_initial_vp_context context = { .rip = 0 };

        return hv_enable_vp_vtl(HV_PARTITION_ID_SELF, (uint32_t) vp, 1, &context);
}

static uint64_t vtl1_status(uint64_t arg) {
        return hv_register(HV_REGISTER_VSM_VP_STATUS);
}

static uint64_t vtl0_status(uint64_t arg) {
        return hv_register(HV_REGISTER_VSM_VP_STATUS);
}

static uint64_t vtl1_vp_index(uint64_t arg) {
        return rdmsr(HV_MSR_VP_INDEX);
}

static void test_enable(void) {
        struct hv_initial_vp_context context = { .rip = 0 };

        is(ap_run(open_here, 0, "hypercall page"), 1, "the second CPU is VP 1");
        is(ap_run(vtl0_status, 0, "status"), 0x10000, "and has no VTL1");
        is(hv_enable_vp_vtl(HV_PARTITION_ID_SELF, 1, 1, &context), HV_STATUS_ACCESS_DENIED,
           "VTL0 cannot enable VTL1 there");
        is(vtl1_run(vtl1_enable_other, 1), 0, "VTL1 can");
        is(vtl1_run(vtl1_enable_again, 1), HV_STATUS_VTL_ALREADY_ENABLED, "once");
        is(ap_run(vtl0_status, 0, "status"), 0x30000, "VP 1 has VTL1 now, and runs VTL0");
        is(ap_run(secure, (uint64_t) vtl1_status, "first secure call"), 0x30001,
           "a secure call on VP 1");
        is(ap_run(secure, (uint64_t) vtl1_vp_index, "VP index"), 1, "by VP 1's VTL1");
        is(vtl1_run(vtl1_vp_index, 0), 0, "and on VP 0 by VP 0's");
}

/* Secure calls on both CPUs at the same time */

static volatile uint64_t counters[2];

static uint64_t vtl1_count(uint64_t step) {
        counters[this_cpu()->index] += step;
        return counters[this_cpu()->index];
}

static uint64_t count_calls(uint64_t n) {
        uint64_t bad = 0;

        for (uint64_t i = 1; i <= n; i++)
                bad += vtl1_run(vtl1_count, 3) != 3 * i;
        return bad;
}

static void test_both(void) {
        uint64_t n = cmdline_number("calls", 200);
        unsigned before = cpus[1][1].calls;

        ap_start(count_calls, n);
        is(count_calls(n), 0, "%lu secure calls on VP 0, while VP 1 does the same", n);
        is(ap_wait("secure calls"), 0, "%lu secure calls on VP 1", n);
        is(counters[0] + counters[1], 6 * n, "all were made");
        is(cpus[1][1].calls - before, n, "half of them on VP 1");
}

/* Protections */

static uint64_t store_there(uint64_t v) {
        poke64(PAGE, v);
        return 0;
}

static volatile bool release, blocked, stop_storing;

/* Holds VTL0 of the storing CPU in VTL1 until it is released, then opens the page. */
static void hold_intercept(struct hv_message *m, struct gprs *g) {
        const struct hv_memory_intercept *i = (const void *) m->payload;
        uint64_t gpn = i->gpa >> HV_PAGE_SHIFT;

        blocked = true;
        while (!release)
                cpu_relax();
        hv_modify_mask(HV_MAP_GPA_ALL, VTL_SELF, &gpn, 1);
}

static uint64_t store_on(uint64_t arg) {
        uint64_t n = 0;

        while (!stop_storing)
                poke64(PAGE, ++n);
        return n;
}

static void wait_for(volatile bool *flag, const char *what) {
        for (uint64_t start = rdtsc(); !*flag; cpu_relax())
                if (rdtsc() - start > TIMEOUT)
                        bail_out("waited in vain: %s", what);
}

static void test_protection(void) {
        void (*handler)(struct hv_message *, struct gprs *) = vtl1_on_intercept;
        uint64_t before, later;

        poke64(PAGE, 1);
        is(HV_RESULT_STATUS(protect(PAGE, 1, HV_MAP_GPA_READABLE)), 0,
           "VP 0's VTL1 makes a page read-only");
        plan_start(PLAN_SKIP);
        ap_run(store_there, 2, "a store");
        is(plan.count, 1, "a store on VP 1 is intercepted");
        is(plan.log[0].header.vp_index, 1, "on VP 1");
        is(plan.log[0].gpa, PAGE, "with its GPA");
        is(cpus[1][1].intercepts, 1, "by VP 1's VTL1");
        is(peek64(PAGE), 1, "and is not done");
        is(HV_RESULT_STATUS(protect(PAGE, 1, HV_MAP_GPA_ALL)), 0, "opened by VP 0");
        ap_run(store_there, 3, "a store");
        is(peek64(PAGE), 3, "a store on VP 1 is done");

        vtl1_on_intercept = hold_intercept;
        ap_start(store_on, 0);
        for (uint64_t start = rdtsc(); peek64(PAGE) < 10 && rdtsc() - start < TIMEOUT;)
                cpu_relax();
        is(HV_RESULT_STATUS(protect(PAGE, 1, HV_MAP_GPA_READABLE)), 0,
           "read-only while VP 1 stores and stores");
        before = peek64(PAGE);
        wait_for(&blocked, "an intercept on VP 1");
        later = peek64(PAGE);
        is(later, before, "no store comes after the call");
        release = true;
        for (uint64_t start = rdtsc(); peek64(PAGE) == later && rdtsc() - start < TIMEOUT;)
                cpu_relax();
        ok(peek64(PAGE) > later, "stores go on when VTL1 opens the page");
        stop_storing = true;
        ok(ap_wait("storing") > later, "and VP 1 comes back");
        vtl1_on_intercept = handler;
}

/* VTL1 of VP 1 interrupts VTL1 of VP 0, whose VTL0 reads ports */

static volatile unsigned ipis_taken, bad_io;

static void on_ipi(struct trap_frame *f) {
        static uint8_t seed;

        seed += 37;
        outb(PORT_SCRATCH, seed);
        bad_io += inb(PORT_SCRATCH) != seed;
        bad_io += this_cpu()->vtl != 1;
        apic_eoi();
        ipis_taken++;
}

static uint64_t vtl1_storm(uint64_t n) {
        for (uint64_t i = 0; i < n; i++) {
                unsigned taken = ipis_taken;
                uint64_t start = rdtsc();

                apic_send(0, APIC_ICR_FIXED | VECTOR_IPI);
                while (ipis_taken == taken)
                        if (rdtsc() - start > TIMEOUT)
                                return i;
                /* Not always at the same place of the other loop */
                for (uint64_t wait = (i * 7919) % 61; wait > 0; wait--)
                        cpu_relax();
        }
        return n;
}

static uint64_t storm(uint64_t n) {
        return vtl1_run(vtl1_storm, n);
}

static void test_preemption(void) {
        uint64_t n = cmdline_number("ipis", 100), rounds = 0, lost = 0;
        unsigned before = cpus[1][0].interrupts;

        irq_set(VECTOR_IPI, on_ipi);
        ap_start(storm, n);
        while (work.fn != NULL) {
                uint8_t q, e, m, u;

                outw(FW_CFG_SELECTOR, 0);
                q = inb(FW_CFG_DATA);
                e = inb(FW_CFG_DATA);
                m = inb(FW_CFG_DATA);
                u = inb(FW_CFG_DATA);
                lost += q != 'Q' || e != 'E' || m != 'M' || u != 'U';
                rounds++;
        }
        is(ap_wait("interrupts"), n, "%lu interrupts from VP 1's VTL1 to VP 0's", n);
        is(ipis_taken, n, "all taken");
        is(cpus[1][0].interrupts, before, "none of them an intercept");
        is(bad_io, 0, "VTL1's own port reads are right");
        is(lost, 0, "and every byte that VTL0 read, in %lu rounds", rounds);
        ok(rounds > 0, "it read some");
}

/* A halted VTL0 */

static volatile unsigned wakes;
static volatile bool halting;

static void on_wake(struct trap_frame *f) {
        wakes++;
        apic_eoi();
}

static uint64_t halt_here(uint64_t arg) {
        halting = true;
        __asm__ volatile("sti; hlt; cli" : : : "memory");
        return wakes;
}

static volatile unsigned vtl1_pokes;

static void on_poke(struct trap_frame *f) {
        vtl1_pokes += this_cpu()->vtl == 1 && this_cpu()->index == 1;
        apic_eoi();
}

static uint64_t vtl1_poke_other(uint64_t vector) {
        uint64_t start = rdtsc();

        apic_send(1, APIC_ICR_FIXED | (uint32_t) vector);
        while (vtl1_pokes == 0 && rdtsc() - start < TIMEOUT)
                cpu_relax();
        return vtl1_pokes;
}

static void test_halt(void) {
        irq_set(VECTOR_IPI + 1, on_poke);
        irq_set(VECTOR_TIMER, on_wake);
        ap_start(halt_here, 0);
        wait_for(&halting, "HLT on VP 1");
        for (uint64_t start = rdtsc(); rdtsc() - start < 50000000;)
                cpu_relax();
        is(vtl1_run(vtl1_poke_other, VECTOR_IPI + 1), 1,
           "an interrupt for VTL1 breaks into a halted VTL0");
        for (uint64_t start = rdtsc(); rdtsc() - start < 50000000;)
                cpu_relax();
        ok(work.fn != NULL, "which is still halted afterwards");
        apic_send(1, APIC_ICR_FIXED | VECTOR_TIMER);
        is(ap_wait("wake-up"), 1, "until its own interrupt comes");
}

/* An NMI for VTL0 while VTL1 runs; VTL1's own HLT */

static volatile unsigned nmis_in_vtl0, nmis_elsewhere;
static volatile bool in_vtl1, vtl1_may_go, vtl1_woke;

static void on_nmi(struct trap_frame *f) {
        if (this_cpu()->vtl == 0)
                nmis_in_vtl0++;
        else
                nmis_elsewhere++;
}

static uint64_t vtl1_stay(uint64_t arg) {
        in_vtl1 = true;
        while (!vtl1_may_go)
                cpu_relax();
        return nmis_in_vtl0;
}

static void on_vtl1_wake(struct trap_frame *f) {
        vtl1_woke = this_cpu()->vtl == 1;
        apic_eoi();
}

static uint64_t vtl1_halt(uint64_t arg) {
        in_vtl1 = true;
        __asm__ volatile("sti; hlt; cli" : : : "memory");
        return vtl1_woke;
}

static uint64_t vtl1_send(uint64_t vector) {
        apic_send(1, APIC_ICR_FIXED | (uint32_t) vector);
        return 0;
}

static void test_vtl1_waits(void) {
        irq_set(VECTOR_NMI, on_nmi);
        ap_start(secure, (uint64_t) vtl1_stay);
        wait_for(&in_vtl1, "VTL1 on VP 1");
        apic_send(1, APIC_ICR_NMI);
        for (uint64_t start = rdtsc(); rdtsc() - start < 20000000;)
                cpu_relax();
        is(nmis_in_vtl0 + nmis_elsewhere, 0, "an NMI for VP 1's VTL0 waits while VTL1 runs");
        vtl1_may_go = true;
        is(ap_wait("VTL1 on VP 1"), 0, "until VTL1 returns");
        for (uint64_t start = rdtsc(); nmis_in_vtl0 == 0 && rdtsc() - start < TIMEOUT;)
                cpu_relax();
        is(nmis_in_vtl0, 1, "then VTL0 gets it");
        is(nmis_elsewhere, 0, "and nobody else");

        in_vtl1 = false;
        irq_set(VECTOR_IPI + 2, on_vtl1_wake);
        ap_start(secure, (uint64_t) vtl1_halt);
        wait_for(&in_vtl1, "HLT of VTL1 on VP 1");
        for (uint64_t start = rdtsc(); rdtsc() - start < 20000000;)
                cpu_relax();
        ok(work.fn != NULL, "VTL1 of VP 1 has halted");
        vtl1_run(vtl1_send, VECTOR_IPI + 2);
        is(ap_wait("wake-up of VTL1"), 1, "until an interrupt of VTL1's wakes it");
}

/* All further CPUs at once */

static volatile unsigned all_done, all_bad;

static uint64_t vtl1_index(uint64_t arg) {
        return this_cpu()->index * 1000 + arg;
}

static void rest_main(void *arg) {
        unsigned me = this_cpu()->index, bad;

        hv_open();
        bad = hv_register(HV_REGISTER_VSM_VP_STATUS) != 0x30000;
        for (uint64_t i = 0; i < 20; i++)
                bad += vtl1_run(vtl1_index, i) != me * 1000 + i;
        __atomic_add_fetch(&all_bad, bad, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&all_done, 1, __ATOMIC_SEQ_CST);
}

static void test_rest(void) {
        unsigned n = cpu_count(), enabled = 0, started = 0;

        for (unsigned i = 2; i < n; i++)
                enabled += vtl1_run(vtl1_enable_other, i) == 0;
        is(enabled, n - 2, "VTL1 enabled on the other CPUs, which have not started yet");
        for (unsigned i = 2; i < n; i++)
                started += cpu_start(i, rest_main, NULL);
        is(started, n - 2, "they start by INIT and SIPI, in VTL0");
        for (uint64_t start = rdtsc(); all_done < started && rdtsc() - start < TIMEOUT;)
                cpu_relax();
        is(all_done, n - 2, "20 secure calls on each of %u", n - 2);
        is(all_bad, 0, "all right");
}

void guest_main(void) {
        if (cpu_count() < 2)
                skip_all("one CPU");
        vsm_protect();
        if (!ok(cpu_start(1, ap_main, NULL),
                "the second CPU starts by INIT and SIPI, VTL1 being there"))
                return;
        test_enable();
        test_both();
        test_protection();
        test_preemption();
        test_halt();
        test_vtl1_waits();
        if (cpu_count() > 2)
                test_rest();
}
