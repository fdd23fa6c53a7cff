/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The benchmark's interrupts, each from what asks for it to the first line of its handler: VTL1's
 * IPIs to itself and to another VP, whose VTL1 runs, whose VTL0 runs, or whose VTL1 has halted; and
 * VTL0's interrupts, which VTL1 is told of (VINA) at once or with the tick. Two VPs.
 *
 * Across VPs the latency is that of two TSCs, which the sender checks: the handler ran between the
 * moments when it sent and when it saw that.
 */
#include "lib/bench.h"

#define VECTOR_OWN 0x61
#define VECTOR_OTHER 0x62
#define VECTOR_BACK 0x63
#define VECTOR_WAKE 0x64
#define VECTOR_VINA 0xf0
#define VECTOR_VTL0 0x48
#define TARGET 1u
#define PATIENCE_MS 5000

#define DIVIDE_BY_1 0xb
#define APIC_TICKS_PER_US 1000u /* KVM's */

static void on_nothing(struct trap_frame *f) {
        apic_eoi();
}

/* ---- To itself ---- */

static volatile uint64_t asked, latency;

static void on_asked(struct trap_frame *f) {
        latency = rdtsc() - asked;
        apic_eoi();
}

static uint64_t vtl1_own(uint64_t n) {
        uint64_t time = 0;

        for (uint64_t i = 0; i < n; i++) {
                latency = 0;
                asked = rdtsc();
                apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_OWN);
                interrupt_window();
                if (latency == 0)
                        bail_out("VTL1's IPI to itself does not come");
                time += latency;
        }
        return time;
}

static uint64_t bench_own(const struct bench *b, uint64_t n) {
        return vtl1_run(vtl1_own, n);
}

/* ---- To another VP ---- */

enum where {
        IN_VTL1,
        IN_VTL0,
        HALTED
};

static volatile bool over;
static volatile unsigned beats; /* the target runs there, or is about to halt */
static volatile uint64_t handled;

/* In VTL1 of the target. The sender halts meanwhile: with one CPU for both it would be in the
 * way. */
static void on_other(struct trap_frame *f) {
        handled = rdtsc();
        apic_eoi();
        apic_send(0, APIC_ICR_FIXED | VECTOR_BACK);
}

static uint64_t stay(uint64_t arg) {
        while (!over)
                beats++;
        return 0;
}

static uint64_t vtl1_stay(uint64_t arg) {
        irq_on();
        stay(arg);
        irq_off();
        return 0;
}

static uint64_t vtl1_stay_halted(uint64_t arg) {
        while (!over) {
                beats++;
                halt();
        }
        return 0;
}

static uint64_t send_to_other(enum where where) {
        uint64_t sent, seen;

        if (where != HALTED && !spin_while(&beats, beats, PATIENCE_MS))
                bail_out("the other VP does not run");
        if (where == HALTED)
                spin_ms(2);
        handled = 0;
        sent = rdtsc();
        apic_send(TARGET, APIC_ICR_FIXED | VECTOR_OTHER);
        while (handled == 0)
                halt();
        seen = rdtsc();
        if (handled < sent || handled > seen)
                bail_out("an IPI was sent at %lu, handled at %lu and that was seen at %lu", sent,
                         handled, seen);
        return handled - sent;
}

static uint64_t vtl1_send(uint64_t where) {
        return send_to_other((enum where) where);
}

static uint64_t vtl1_wake(uint64_t arg) {
        apic_send(TARGET, APIC_ICR_FIXED | VECTOR_WAKE);
        return 0;
}

static uint64_t bench_other(const struct bench *b, uint64_t n) {
        uint64_t time = 0;

        over = false;
        beats = 0;
        if (b->arg == IN_VTL0)
                job_start(TARGET, stay, 0);
        else
                job_start_vtl1(TARGET, b->arg == IN_VTL1 ? vtl1_stay : vtl1_stay_halted, 0);
        if (!spin_for(&beats, 1, PATIENCE_MS))
                bail_out("the other VP does not begin");
        for (uint64_t i = 0; i < n; i++)
                time += vtl1_run(vtl1_send, b->arg);
        over = true;
        vtl1_run(vtl1_wake, 0);
        job_wait(TARGET, "beside a benchmark");
        return time;
}

/* ---- VINA ---- */

static uint64_t vina_wait(const char *what) {
        uint64_t start = rdtsc();

        while (latency == 0)
                if (rdtsc() - start > 1000 * tsc_per_ms())
                        bail_out("VINA does not come: %s", what);
        return latency;
}

static void vina_on(void) {
        this_cpu()->assist->vtl_control.vina_status = 0;
        latency = 0;
        if (hv_set(VTL_SELF, HV_REGISTER_VSM_VINA, VECTOR_VINA | HV_VINA_ENABLED) != 0)
                bail_out("VINA cannot be enabled");
        irq_on();
}

static void vina_off(void) {
        irq_off();
        hv_set(VTL_SELF, HV_REGISTER_VSM_VINA, 0);
}

/* VTL1 sends VTL0 of its own VP an interrupt: the engine looks before VTL1 goes on. */
static uint64_t vtl1_vina(uint64_t arg) {
        uint64_t r;

        vina_on();
        asked = rdtsc();
        r = hv_call(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST,
                    VECTOR_VTL0 | (uint64_t) VTL0 << 32, 1ull << this_cpu()->index);
        if (HV_RESULT_STATUS(r) != 0)
                bail_out("SendSyntheticClusterIpi returns 0x%lx", r);
        r = vina_wait("an IPI to the own VTL0");
        vina_off();
        return r;
}

static uint64_t bench_vina(const struct bench *b, uint64_t n) {
        uint64_t time = 0;

        irq_on();
        for (uint64_t i = 0; i < n; i++)
                time += vtl1_run(vtl1_vina, 0);
        irq_off();
        return time;
}

static volatile bool taken;

static void on_vtl0(struct trap_frame *f) {
        taken = true;
        apic_eoi();
}

/* VTL0's APIC timer expires inside KVM, while VTL1 runs: nobody knows before the tick. */
static uint64_t vtl1_vina_due(uint64_t due) {
        uint64_t r = 0;

        vina_on();
        asked = due;
        if (rdtsc() < due && !taken)
                r = vina_wait("VTL0's APIC timer");
        vina_off();
        return r;
}

/* Return: when it expires; 0 when that is not known well. It is set between two moments, half of
 * whose distance is the error. */
static uint64_t arm_timer(uint64_t us) {
        uint64_t before, after;

        taken = false;
        apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
        apic_write(APIC_LVT_TIMER, VECTOR_VTL0);
        before = rdtsc();
        apic_write(APIC_TIMER_INITIAL, (uint32_t) us * APIC_TICKS_PER_US);
        after = rdtsc();
        if (after - before > us * tsc_per_ms() / 1000 / 10)
                return 0;
        return before + (after - before) / 2 + us * tsc_per_ms() / 1000;
}

static uint64_t bench_vina_tick(const struct bench *b, uint64_t n) {
        static uint64_t turn;
        uint64_t time = 0, one, due;
        unsigned late = 0;

        irq_on();
        for (uint64_t i = 0; i < n; time += one, i += one != 0) {
                /* Anywhere between two ticks */
                due = arm_timer(1000 + turn++ * 61 % 499);
                one = due != 0 ? vtl1_run(vtl1_vina_due, due) : 0;
                if (one == 0 && ++late == 1000)
                        bail_out("the APIC timer of VTL0 always expires before VTL1 waits");
        }
        irq_off();
        return time;
}

#define GAPS 9

/*
 * What one tick takes away: VTL1 looks when it was out of the guest for longer than an exit takes,
 * and for how long. The median, since the host's own interrupts are shorter and rarer, and what
 * other processes take is longer.
 */
static uint64_t vtl1_vina_probe(uint64_t n) {
        uint64_t shortest = ~0ull, gaps[GAPS], start, last, now, sum = 0;

        for (unsigned i = 0; i < 20; i++) {
                now = bench_raw(NULL, 1);
                shortest = now < shortest ? now : shortest;
        }
        vina_on();
        irq_off();
        for (uint64_t i = 0; i < n; i++, sum += gaps[GAPS / 2]) {
                start = last = rdtsc();
                for (unsigned seen = 0; seen < GAPS; last = now) {
                        now = rdtsc();
                        if (now - start > 1000 * tsc_per_ms())
                                bail_out("VTL1 is not interrupted by a tick");
                        if (now - last > shortest)
                                bench_sort_in(gaps, seen++, now - last);
                }
        }
        vina_off();
        return sum;
}

static uint64_t bench_vina_probe(const struct bench *b, uint64_t n) {
        return vtl1_run(vtl1_vina_probe, n);
}

/* clang-format off */
static const struct bench rows[] = {
        { "raw",       "raw_exit",    40, bench_raw,        1, 0       },
        { "own",       "ipi_own",     10, bench_own,        1, 0       },
        { "other",     "ipi_vtl1",    1,  bench_other,      1, IN_VTL1 },
        { "other",     "ipi_vtl0",    1,  bench_other,      1, IN_VTL0 },
        { "other",     "ipi_halted",  1,  bench_other,      1, HALTED  },
        { "vina",      "vina",        2,  bench_vina,       1, 0       },
        { "vinatick",  "vina_tick",   1,  bench_vina_tick,  1, 0       },
        { "vinaprobe", "vina_probe",  1,  bench_vina_probe, 1, 0       },
};
/* clang-format on */

void guest_main(void) {
        if (cpu_count() < 2)
                bail_out("IPIs between VPs need two of them");
        bench_begin();
        irq_set(VECTOR_OWN, on_asked);
        irq_set(VECTOR_VINA, on_asked);
        irq_set(VECTOR_OTHER, on_other);
        irq_set(VECTOR_BACK, on_nothing);
        irq_set(VECTOR_WAKE, on_nothing);
        irq_set(VECTOR_VTL0, on_vtl0);
        job_halt();
        job_open_vtl1(TARGET);
        bench_all(rows, ELEMENTSOF(rows));
}
