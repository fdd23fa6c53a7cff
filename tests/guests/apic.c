/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Each level's local APIC (vsm.md 7.1): the same identity, everything else its own. IPIs stay in
 * their level; VTL1's timer preempts VTL0, VTL0's waits for VTL1; turning one off leaves the other.
 * Command line: xapic=1 for VTL1's APIC in xAPIC mode; ticks=N; isr=0 when VTL0's APIC, which is
 * KVM's, does not show what is in service.
 */
#include "lib/hv.h"

#define VECTOR_A 0x51
#define VECTOR_B 0x62
#define LONG_MS 5000
#define LATER_MS 200 /* a busy host does not take that long */
#define APIC_LDR 0xd0
#define APIC_DFR 0xe0
#define APIC_ISR 0x100
#define APIC_IRR 0x200
#define APIC_TIMER_CURRENT 0x390
#define APIC_BASE_ENABLE 0x800ull
#define SVR_ENABLE 0x100u
#define LVT_MASKED 0x10000u
#define LVT_PERIODIC 0x20000u
#define DIVIDE_BY_1 0xbu
#define TICKS_PER_MS 1000000u /* of KVM's and the engine's bus */
#define ICR_SELF 0x40000u
#define ICR_ALL 0x80000u
#define ICR_OTHERS 0xc0000u
#define ICR_LOGICAL 0x800u

static volatile unsigned got[2][MAX_CPUS], ticks[2], wrong;
static volatile bool inside; /* VTL1 runs */
static volatile uint64_t tick_tsc;

static void on_ipi(struct trap_frame *f) {
        struct cpu *c = this_cpu();

        apic_eoi();
        __atomic_add_fetch(&got[c->vtl][c->index], 1, __ATOMIC_SEQ_CST);
}

static void on_tick(struct trap_frame *f) {
        tick_tsc = rdtsc();
        wrong += this_cpu()->vtl == 0 && inside;
        apic_eoi();
        ticks[this_cpu()->vtl]++;
}

static void forget(void) {
        memset((void *) got, 0, sizeof(got));
        ticks[0] = ticks[1] = wrong = 0;
}

static unsigned sum(unsigned vtl) {
        unsigned n = 0;

        for (unsigned i = 0; i < MAX_CPUS; i++)
                n += got[vtl][i];
        return n;
}

static void take(void) {
        for (unsigned i = 0; i < 10; i++)
                interrupt_window();
}

/* ---- Identity ---- */

static uint64_t here_read(uint64_t reg) {
        return apic_read((unsigned) reg);
}

/* In xAPIC mode the id is in the upper byte. */
static uint64_t here_id(uint64_t arg) {
        uint32_t id = apic_read(APIC_ID);

        return this_cpu()->x2apic ? id : id >> 24;
}

static uint64_t here_base(uint64_t arg) {
        return rdmsr(MSR_APIC_BASE);
}

static void test_identity(void) {
        const uint64_t bsp = 0x100, address = 0xffffff000;

        is(here_id(0), this_cpu()->index, "VTL0's APIC id");
        is(vtl1_run(here_id, 0), this_cpu()->index, "VTL1's is the same");
        is(vtl1_run(here_read, APIC_VERSION) & 0xff, here_read(APIC_VERSION) & 0xff,
           "and so is its version");
        is(vtl1_run(here_base, 0) & (bsp | address), here_base(0) & (bsp | address),
           "and where it is, and whether this is the first CPU");
        is(vtl1_run(here_base, 0) >> 10 & 1, vtl1_x2apic, "VTL1's mode");
        is(here_base(0) >> 10 & 1, 0, "VTL0's is still xAPIC");
}

/* ---- IPIs stay in their level ---- */

static uint64_t send(uint64_t icr) {
        apic_send((uint32_t) (icr >> 32), (uint32_t) icr);
        take();
        return sum(this_cpu()->vtl);
}

static uint64_t to(unsigned id, uint32_t icr) {
        return (uint64_t) id << 32 | APIC_ICR_FIXED | VECTOR_A | icr;
}

static volatile bool stop;

static uint64_t wait_open(uint64_t arg) {
        irq_on();
        while (!stop)
                cpu_relax();
        irq_off();
        return 0;
}

/* @want: how many CPUs are to have it */
static void check_ipi(unsigned vtl, uint64_t icr, unsigned want, const char *what) {
        uint64_t end = rdtsc() + LONG_MS * tsc_per_ms();

        forget();
        if (vtl == 0)
                send(icr);
        else
                vtl1_run(send, icr);
        while (sum(vtl) < want && (int64_t) (rdtsc() - end) < 0)
                take();
        spin_ms(1);
        take();
        is(sum(vtl), want, "VTL%u, %s: %u in that level", vtl, what, want);
        is(sum(!vtl), 0, "VTL%u, %s: none in the other", vtl, what);
}

static void test_ipis(unsigned n) {
        unsigned me = this_cpu()->index;

        stop = false;
        for (unsigned i = 1; i < n; i++)
                job_start(i, wait_open, 0);
        for (unsigned vtl = 0; vtl < 2; vtl++) {
                check_ipi(vtl, to(me, 0), 1, "itself by id");
                check_ipi(vtl, to(0, ICR_SELF), 1, "itself by shorthand");
                check_ipi(vtl, to(0, ICR_ALL), n, "all");
                check_ipi(vtl, to(0, ICR_OTHERS), n - 1, "all but itself");
                if (n > 1)
                        check_ipi(vtl, to(1, 0), 1, "CPU 1");
        }
        stop = true;
        for (unsigned i = 1; i < n; i++)
                job_wait(i, "the end of waiting");
}

/* Logical destinations: of VTL0 bit N for CPU N; of VTL1 those of x2APIC, or the same. */
static uint64_t set_logical(uint64_t arg) {
        if (!this_cpu()->x2apic) {
                apic_write(APIC_DFR, 0xffffffff);
                apic_write(APIC_LDR, 1u << (24 + this_cpu()->index % 8));
        }
        return apic_read(APIC_LDR);
}

static void test_logical(unsigned n) {
        unsigned me = this_cpu()->index, all = (1u << n) - 1;

        if (n > 8)
                return;
        set_logical(0);
        vtl1_run(set_logical, 0);
        for (unsigned i = 1; i < n; i++) {
                job_run(i, set_logical, 0, "LDR");
                job_run_vtl1(i, set_logical, 0, "LDR");
        }
        stop = false;
        for (unsigned i = 1; i < n; i++)
                job_start(i, wait_open, 0);
        for (unsigned vtl = 0; vtl < 2; vtl++) {
                check_ipi(vtl, to(1u << me, ICR_LOGICAL), 1, "itself by a mask");
                check_ipi(vtl, to(all, ICR_LOGICAL), n, "all by a mask");
        }
        stop = true;
        for (unsigned i = 1; i < n; i++)
                job_wait(i, "the end of waiting");
}

/* ---- Registers of one leave those of the other alone ---- */

static uint64_t bit_of(unsigned base, unsigned vector) {
        return apic_read(base + 0x10 * (vector / 32)) >> vector % 32 & 1;
}

/* Requested, not taken: VTL1's TPR holds it back. */
static uint64_t vtl1_request(uint64_t arg) {
        write_cr8(15);
        apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_B);
        return bit_of(APIC_IRR, VECTOR_B);
}

static uint64_t vtl1_release(uint64_t arg) {
        write_cr8(0);
        take();
        return bit_of(APIC_IRR, VECTOR_B);
}

/* In service: looked at from within, in both levels */
static volatile uint64_t isr_here, isr_there;

static uint64_t vtl1_in_service(uint64_t arg) {
        return bit_of(APIC_ISR, VECTOR_B);
}

static void on_b(struct trap_frame *f) {
        if (this_cpu()->vtl == 0) {
                isr_here = bit_of(APIC_ISR, VECTOR_B);
                isr_there = vtl1_run(vtl1_in_service, 0);
        }
        got[this_cpu()->vtl][this_cpu()->index]++;
        apic_eoi();
}

static void test_registers(void) {
        unsigned me = this_cpu()->index;

        irq_set(VECTOR_B, on_b);
        forget();
        is(vtl1_run(vtl1_request, 0), 1, "VTL1 has an interrupt requested");
        is(bit_of(APIC_IRR, VECTOR_B), 0, "VTL0 has not");
        take();
        is(sum(0) + sum(1), 0, "nobody takes it");
        is(vtl1_run(vtl1_release, 0), 0, "until VTL1 lowers its TPR");
        is(got[1][me], 1, "then VTL1 does");

        apic_send(me, APIC_ICR_FIXED | VECTOR_B);
        is(bit_of(APIC_IRR, VECTOR_B), 1, "VTL0 has an interrupt requested");
        is(vtl1_run(vtl1_release, 0), 0, "VTL1 has not, and takes none");
        take();
        is(got[0][me], 1, "VTL0 takes it");
        if (cmdline_number("isr", 1))
                is(isr_here, 1, "in whose APIC it is in service then");
        else
                skip("this KVM's APIC does not show it", "in whose APIC it is in service then");
        is(isr_there, 0, "and not in VTL1's");
}

/* ---- Timers ---- */

static uint64_t arm(uint64_t ms) {
        apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
        apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
        apic_write(APIC_TIMER_INITIAL, (uint32_t) ms * TICKS_PER_MS);
        return 0;
}

static uint64_t arm_periodic(uint64_t ms) {
        apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
        apic_write(APIC_LVT_TIMER, VECTOR_TIMER | LVT_PERIODIC);
        apic_write(APIC_TIMER_INITIAL, (uint32_t) ms * TICKS_PER_MS);
        return 0;
}

static uint64_t disarm(uint64_t arg) {
        apic_write(APIC_LVT_TIMER, VECTOR_TIMER | LVT_MASKED);
        apic_write(APIC_TIMER_INITIAL, 0);
        return apic_read(APIC_TIMER_CURRENT);
}

static uint64_t arm_masked(uint64_t ms) {
        apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
        apic_write(APIC_LVT_TIMER, VECTOR_TIMER | LVT_MASKED);
        apic_write(APIC_TIMER_INITIAL, (uint32_t) ms * TICKS_PER_MS);
        return apic_read(APIC_TIMER_CURRENT);
}

static void test_preempts(void) {
        const struct cpu *vtl1 = &cpus[1][this_cpu()->index];
        unsigned calls;

        forget();
        vtl1_run(arm, 2);
        calls = vtl1->calls;
        ok(spin_for(&ticks[1], 1, LONG_MS), "VTL1's timer preempts VTL0, whose interrupts are off");
        is(vtl1->calls, calls, "that was no VTL call");
        vtl1_run(arm_periodic, 2);
        ok(spin_for(&ticks[1], 4, LONG_MS), "again and again when it is periodic");
        vtl1_run(disarm, 0);
        calls = ticks[1];
        spin_ms(6);
        is(ticks[1], calls, "and no more when it is not");

        forget();
        ok(vtl1_run(arm_masked, 1000) > 0, "masked, it counts");
        vtl1_run(arm_masked, 2);
        spin_ms(8);
        is(ticks[1], 0, "and interrupts nobody");
        is(vtl1_run(here_read, APIC_TIMER_CURRENT), 0, "down to 0");

        forget();
        vtl1_run(arm, 5);
        arm(30);
        halt();
        is(ticks[0], 1, "a halted VTL0 waits for its own timer");
        is(ticks[1], 1, "VTL1's fires meanwhile");
        disarm(0);
}

/* VTL0's timer, with its interrupts on, while VTL1 runs with its own on */
static volatile bool too_late;

static uint64_t vtl1_stay(uint64_t ms) {
        too_late = ticks[0] > 0;
        inside = true;
        irq_on();
        spin_ms(ms);
        irq_off();
        inside = false;
        return ticks[0] + ticks[1];
}

static void test_waits(void) {
        uint64_t told = 0;

        for (unsigned i = 1; i <= 5; i++) {
                forget();
                irq_on();
                arm(3 * i);
                told = vtl1_run(vtl1_stay, 12 * i);
                if (!too_late)
                        break;
                irq_off();
        }
        is(told, 0, "VTL0's timer expires while VTL1 runs: nobody is told");
        ok(spin_for(&ticks[0], 1, LONG_MS), "until VTL1 has returned");
        irq_off();
        is(ticks[1], 0, "VTL1 never");
        is(wrong, 0, "and VTL0 not too early");
        disarm(0);
}

/* @tsc: from now on; the timer is in TSC-deadline mode. Return: what the MSR is then */
static uint64_t set_deadline(uint64_t tsc) {
        wrmsr(MSR_TSC_DEADLINE, tsc);
        return rdmsr(MSR_TSC_DEADLINE);
}

static uint64_t arm_deadline(uint64_t tsc) {
        apic_write(APIC_LVT_TIMER, VECTOR_TIMER | APIC_LVT_TSC_DEADLINE);
        return set_deadline(tsc);
}

static uint64_t get_deadline(uint64_t arg) {
        return rdmsr(MSR_TSC_DEADLINE);
}

static uint64_t tsc_in(uint64_t ms) {
        return rdtsc() + ms * tsc_per_ms();
}

static void test_deadline(void) {
        uint64_t at;

        if (!cpu_has(CPU_TSC_DEADLINE)) {
                skip("CPUID has none", "TSC deadlines");
                return;
        }
        forget();
        at = tsc_in(LATER_MS);
        is(vtl1_run(arm_deadline, at), at, "VTL1's TSC deadline");
        ok(spin_for(&ticks[1], 1, LONG_MS), "preempts VTL0, whose interrupts are off");
        ok(tick_tsc >= at, "not before its time");
        spin_ms(6);
        is(ticks[1], 1, "once");
        is(vtl1_run(get_deadline, 0), 0, "and is none any more");
        vtl1_run(arm_deadline, at);
        ok(spin_for(&ticks[1], 2, LONG_MS), "one in the past fires at once");

        forget();
        ok(vtl1_run(arm_deadline, tsc_in(LATER_MS)) != 0, "one that is set");
        is(vtl1_run(set_deadline, 0), 0, "and unset");
        ok(vtl1_run(arm_deadline, tsc_in(LATER_MS)) != 0, "or set");
        vtl1_run(disarm, 0);
        is(vtl1_run(get_deadline, 0), 0, "and unset by another mode of the timer");
        is(vtl1_run(set_deadline, tsc_in(LATER_MS)), 0, "in which there is none");
        spin_ms(LATER_MS + 5);
        is(ticks[1], 0, "does not fire");

        at = tsc_in(LATER_MS);
        is(arm_deadline(at), at, "VTL0's");
        ok(vtl1_run(arm_deadline, tsc_in(5)) != at, "and VTL1's are two");
        is(get_deadline(0), at, "of which each level sees its own");
        halt();
        is(ticks[0], 1, "a halted VTL0 waits for its own");
        is(ticks[1], 1, "VTL1's fires meanwhile");
        is(get_deadline(0), 0, "both are over then");
        vtl1_run(disarm, 0);
        disarm(0);
}

static uint64_t vtl1_sum(uint64_t n) {
        uint64_t v = 0;

        inside = true;
        irq_on();
        for (uint64_t i = 1; i <= n; i++)
                v += i;
        irq_off();
        inside = false;
        return v;
}

static void test_both(void) {
        uint64_t n = cmdline_number("ticks", 30), bad = 0, end;
        unsigned calls = 0;

        forget();
        vtl1_run(arm_periodic, 2);
        arm_periodic(3);
        end = rdtsc() + LONG_MS * tsc_per_ms();
        irq_on();
        for (; (int64_t) (rdtsc() - end) < 0 && (ticks[0] < n || ticks[1] < n); calls++)
                bad += vtl1_run(vtl1_sum, 100) != 5050;
        irq_off();
        vtl1_run(disarm, 0);
        disarm(0);
        is(bad, 0, "both timers, and %u secure calls that are right", calls);
        ok(ticks[0] >= n && ticks[1] >= n, "%u and %u ticks", ticks[0], ticks[1]);
        is(wrong, 0, "none in the wrong level");
}

/* ---- One turned off ---- */

static uint64_t soft_enable(uint64_t on) {
        apic_write(APIC_SVR, (on ? SVR_ENABLE : 0) | VECTOR_SPURIOUS);
        return apic_read(APIC_SVR) >> 8 & 1;
}

static uint64_t hard_enable(uint64_t on) {
        uint64_t base = rdmsr(MSR_APIC_BASE) & ~(APIC_BASE_ENABLE | 0x400);

        wrmsr(MSR_APIC_BASE, on ? base | APIC_BASE_ENABLE : base);
        if (!on)
                return rdmsr(MSR_APIC_BASE) >> 11 & 1;
        apic_enable(vtl1_x2apic);
        return rdmsr(MSR_APIC_BASE) >> 11 & 1;
}

static void check_works(unsigned vtl, const char *when) {
        forget();
        if (vtl == 0)
                send(to(this_cpu()->index, 0));
        else
                vtl1_run(send, to(this_cpu()->index, 0));
        is(got[vtl][this_cpu()->index], 1, "%s VTL%u's works", when, vtl);
}

static void test_disable(void) {
        is(vtl1_run(soft_enable, 0), 0, "VTL1's APIC is disabled by its SVR");
        check_works(0, "then");
        is(vtl1_run(soft_enable, 1), 1, "and enabled");
        check_works(1, "then");
        is(vtl1_run(hard_enable, 0), 0, "VTL1's APIC is disabled by APIC_BASE");
        is(rdmsr(MSR_APIC_BASE) >> 11 & 1, 1, "VTL0's is not");
        check_works(0, "then");
        is(vtl1_run(hard_enable, 1), 1, "and enabled");
        check_works(1, "then");
        is(soft_enable(0), 0, "VTL0's APIC is disabled by its SVR");
        check_works(1, "then");
        is(soft_enable(1), 1, "and enabled");
        check_works(0, "then");
}

void guest_main(void) {
        unsigned n = cpu_count();

        vsm_open();
        tsc_per_ms();
        irq_set(VECTOR_A, on_ipi);
        irq_set(VECTOR_TIMER, on_tick);
        test_identity();
        if (this_cpu()->index == 0) {
                for (unsigned i = 1; i < n; i++)
                        job_open_vtl1(i);
                test_ipis(n);
                test_logical(n);
        }
        test_registers();
        test_preempts();
        test_waits();
        test_deadline();
        test_both();
        test_disable();
}
