/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Virtual interrupt notification assist (vsm.md 7.3): VTL1 is told, exactly once until it re-arms,
 * that VTL0 could take an interrupt; VTL0 takes it when VTL1 has returned. Here is how it is armed,
 * and a VTL1 that halts or preempts; all sources of interrupts are in vina-sources.c.
 */
#include "lib/hv.h"

#define VECTOR_VINA 0xf0
#define VECTOR_LOW 0x50  /* VTL0's interrupts */
#define VECTOR_TICK 0x70 /* VTL1's own */

#define MS 10000ull
#define STAY_MS 12 /* how long VTL1 runs; sources fire within the first 4 */
#define LONG_MS 5000
#define APIC_ISR 0x100
#define APIC_IRR 0x200
#define LVT_MASKED 0x10000u
#define DIVIDE_BY_1 0xbu

#define STIMER_DIRECT(vector) (1ull << 12 | (uint64_t) (vector) << 4 | 1)

static volatile unsigned vinas, wrong, taken, taken_inside, nmis;
static volatile unsigned ticks; /* of VTL1's timer */
#define CLOSED_MS 40
static uint64_t tick_ms = 1000; /* how long VTL1's handler waits for VINA */
static volatile bool inside;    /* VTL1 runs */
static volatile bool too_late;  /* VTL0's interrupt was there before */
static bool auto_eoi;           /* no EOI for VINA */
static uint8_t status_seen;     /* VinaStatus when its interrupt came */

static volatile uint8_t *vina_status(void) {
        return &this_cpu()->assist->vtl_control.vina_status;
}

static void on_vina(struct trap_frame *f) {
        wrong += this_cpu()->vtl != 1;
        status_seen = *vina_status();
        if (!auto_eoi)
                apic_eoi();
        vinas++;
}

static void on_low(struct trap_frame *f) {
        wrong += this_cpu()->vtl != 0;
        taken_inside += inside;
        apic_eoi();
        taken++;
}

static void on_nmi(struct trap_frame *f) {
        wrong += this_cpu()->vtl != 0;
        taken_inside += inside;
        nmis++;
}

static void forget(void) {
        vinas = wrong = taken = taken_inside = ticks = nmis = 0;
        status_seen = 0xff;
}

/* ---- VTL1's side ---- */

static uint64_t vtl1_vina(uint64_t value) {
        auto_eoi = value & HV_VINA_AUTO_EOI;
        *vina_status() = 0;
        return hv_set(VTL_SELF, HV_REGISTER_VSM_VINA, value);
}

static uint64_t vtl1_vina_read(uint64_t arg) {
        return hv_register(HV_REGISTER_VSM_VINA);
}

static uint64_t vtl1_status(uint64_t arg) {
        return *vina_status();
}

static uint64_t vtl1_rearm(uint64_t arg) {
        *vina_status() = 0;
        return 0;
}

/* Runs with interrupts on: for a while, or until it is told of something and a little longer. */
static uint64_t vtl1_stay(uint64_t ms) {
        inside = true;
        irq_on();
        spin_ms(ms);
        irq_off();
        inside = false;
        return vinas;
}

static uint64_t vtl1_await(uint64_t n) {
        too_late = taken > 0;
        inside = true;
        irq_on();
        spin_for(&vinas, (unsigned) n, too_late ? 0 : LONG_MS);
        spin_ms(STAY_MS / 2);
        irq_off();
        inside = false;
        return vinas;
}

/* Tells VTL0's side, that is another VP or this VP's hypercall, to send while VTL1 runs. */
static uint64_t vtl1_stay_and(uint64_t fn) {
        inside = true;
        irq_on();
        spin_ms(2);
        ((void (*)(void)) fn)();
        spin_ms(STAY_MS);
        irq_off();
        inside = false;
        return vinas;
}

static uint64_t config(uint64_t flags) {
        uint64_t r = vtl1_run(vtl1_vina, VECTOR_VINA | flags);

        if (r != HV_STATUS_SUCCESS)
                bail_out("HvRegisterVsmVina: status 0x%lx", r);
        return r;
}

/* A secure call with VTL0's interrupts on */
static uint64_t run_open(uint64_t (*fn)(uint64_t), uint64_t arg) {
        uint64_t r;

        irq_on();
        r = vtl1_run(fn, arg);
        irq_off();
        return r;
}

/* What holds for every source: one notification, then one interrupt, in this order. */
static void check_once(uint64_t in_vtl1, const char *what) {
        is(in_vtl1, 1, "%s: one notification", what);
        is(status_seen, 1, "%s: VinaAsserted is set then", what);
        is(taken_inside, 0, "%s: VTL0 takes nothing while VTL1 runs", what);
        irq_on();
        spin_for(&taken, 1, LONG_MS);
        spin_ms(2);
        irq_off();
        is(taken, 1, "%s: VTL0 takes its interrupt after the return, once", what);
        is(vinas, 1, "%s: and VTL1 hears no more of it", what);
        is(wrong, 0, "%s: each in its level", what);
}

/* ---- Sources ---- */

static void arm_apic_timer(uint64_t ms) {
        apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
        apic_write(APIC_LVT_TIMER, VECTOR_LOW);
        apic_write(APIC_TIMER_INITIAL, (uint32_t) ms * 1000000);
}

static void arm_stimer(uint64_t ms) {
        wrmsr(HV_MSR_STIMER0_CONFIG, 0);
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, hv_time() + ms * MS);
        wrmsr(HV_MSR_STIMER0_CONFIG, STIMER_DIRECT(VECTOR_LOW));
}

struct assert_interrupt {
        uint64_t partition;
        uint32_t type, flags;
        uint64_t destination;
        uint32_t vector;
        uint8_t vtl, reserved[3];
};

static void assert_vtl0(uint32_t type, uint32_t vector) {
        struct assert_interrupt *in = (void *) this_cpu()->in;
        uint64_t r;

        *in = (struct assert_interrupt){ .partition = HV_PARTITION_ID_SELF,
                                         .type = type,
                                         .destination = this_cpu()->index,
                                         .vector = vector };
        r = hv_call_memory(HVCALL_ASSERT_VIRTUAL_INTERRUPT);
        if (r != 0)
                bail_out("AssertVirtualInterrupt: 0x%lx", r);
}

static void assert_fixed(void) {
        assert_vtl0(0, VECTOR_LOW);
}

static void nothing(void) {
}

/* VTL0's timer, to expire while VTL1 runs @fn; tries again on a host that took its time. */
static uint64_t run_timed(void (*arm)(uint64_t ms), uint64_t (*fn)(uint64_t)) {
        uint64_t r;

        for (unsigned i = 1;; i++) {
                forget();
                arm(3 * i);
                r = run_open(fn, 1);
                if (!too_late || i == 5)
                        return r;
        }
}

static void test_nothing(void) {
        forget();
        is(run_open(vtl1_stay_and, (uint64_t) nothing), 0, "no interrupt, no notification");
        is(vtl1_run(vtl1_status, 0), 0, "and VinaAsserted stays clear");
}

/* ---- When it is not raised ---- */

static void test_masked(void) {
        forget();
        apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_LOW);
        is(vtl1_run(vtl1_stay, STAY_MS), 0, "VTL0 has its interrupts off: not raised");
        is(vtl1_run(vtl1_status, 0), 0, "VinaAsserted is clear");
        is(taken, 0, "the interrupt waits");
        interrupt_window();
        spin_for(&taken, 0, 1);
        is(taken, 1, "until VTL0 lets it in");

        forget();
        write_cr8(0xf);
        apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_LOW);
        is(run_open(vtl1_stay, STAY_MS), 0, "VTL0's TPR holds it back: not raised");
        is(taken, 0, "the interrupt waits");
        write_cr8(0);
        interrupt_window();
        is(taken, 1, "until TPR is lower");

        forget();
        write_cr8(VECTOR_LOW >> 4);
        apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_LOW);
        is(run_open(vtl1_stay, STAY_MS), 0, "a TPR of its own class does so, too");
        write_cr8((VECTOR_LOW >> 4) - 1);
        interrupt_window();
        is(taken, 1, "one lower lets it in");
        write_cr8(0);

        forget();
        is(vtl1_run(vtl1_vina, VECTOR_VINA), 0, "VINA disabled");
        is(run_open(vtl1_stay_and, (uint64_t) assert_fixed), 0, "then nothing is raised");
        is(taken, 1, "and VTL0 has its interrupt");
        is(vtl1_run(vtl1_status, 0), 0, "VinaAsserted is clear");
        config(HV_VINA_ENABLED);
}

/* ---- Arming again ---- */

/* Takes the first, then arms again while VTL0's interrupt still waits. */
static uint64_t vtl1_again(uint64_t ms) {
        unsigned first;

        vtl1_stay_and((uint64_t) assert_fixed);
        first = vinas;
        inside = true;
        *vina_status() = 0;
        irq_on();
        spin_for(&vinas, first + 1, LONG_MS);
        spin_ms(ms);
        irq_off();
        inside = false;
        return first << 8 | vinas;
}

/* Disabled when the interrupt comes, enabled later */
static uint64_t vtl1_late(uint64_t ms) {
        uint64_t early;

        hv_set(VTL_SELF, HV_REGISTER_VSM_VINA, VECTOR_VINA);
        early = vtl1_stay_and((uint64_t) assert_fixed);
        inside = true;
        hv_set(VTL_SELF, HV_REGISTER_VSM_VINA, VECTOR_VINA | HV_VINA_ENABLED);
        irq_on();
        spin_for(&vinas, 1, LONG_MS);
        spin_ms(ms);
        irq_off();
        inside = false;
        return early << 8 | vinas;
}

/* With VTL1's interrupts off only the bit tells. */
static uint64_t vtl1_poll(uint64_t arg) {
        uint64_t end = rdtsc() + LONG_MS * tsc_per_ms();
        unsigned before;

        inside = true;
        assert_fixed();
        while (!(*vina_status() & 1) && rdtsc() < end)
                cpu_relax();
        before = vinas;
        interrupt_window();
        inside = false;
        return (uint64_t) (*vina_status() & 1) << 16 | before << 8 | vinas;
}

/* The engine serves one exit after the other, none of which is a look. */
static uint64_t vtl1_busy(uint64_t arg) {
        uint64_t end = rdtsc() + LONG_MS * tsc_per_ms(), exits = 0;

        too_late = taken > 0;
        while (!too_late && !(*vina_status() & 1) && rdtsc() < end)
                exits += rdmsr(HV_MSR_VP_INDEX) == this_cpu()->index;
        interrupt_window();
        return *vina_status() & 1 && exits > 0;
}

static void test_busy(void) {
        is(run_timed(arm_apic_timer, vtl1_busy), 1, "VTL1 is told however often it makes an exit");
        is(vinas, 1, "once");
        vtl1_run(vtl1_rearm, 0);
}

static void test_rearm(void) {
        forget();
        is(run_open(vtl1_again, 5), 0x102, "VinaAsserted cleared by VTL1: raised again, once");
        is(taken, 1, "for one interrupt of VTL0's");
        is(vtl1_run(vtl1_status, 0), 1, "VinaAsserted is still set in the next call");
        is(run_open(vtl1_stay_and, (uint64_t) assert_fixed), 2,
           "so the next interrupt is not told");
        is(taken, 2, "but taken");
        vtl1_run(vtl1_rearm, 0);

        forget();
        is(run_open(vtl1_late, 5), 0x001, "an interrupt from before VINA was enabled is told of");
        is(taken, 1, "and taken");
        vtl1_run(vtl1_rearm, 0);

        forget();
        is(run_open(vtl1_poll, 0), 0x10001,
           "VTL1 with its interrupts off: the bit first, the interrupt when it lets it in");
        is(taken, 1, "VTL0's is taken");
        vtl1_run(vtl1_rearm, 0);
}

static void test_auto_reset(void) {
        config(HV_VINA_ENABLED | HV_VINA_AUTO_RESET);
        is(vtl1_run(vtl1_vina_read, 0), VECTOR_VINA | HV_VINA_ENABLED | HV_VINA_AUTO_RESET,
           "AutoReset reads back");
        for (unsigned i = 1; i <= 3; i++) {
                forget();
                is(run_open(vtl1_stay_and, (uint64_t) assert_fixed), 1,
                   "AutoReset, call %u: one notification", i);
                is(status_seen, 1, "with VinaAsserted, though nobody cleared it");
                is(taken, 1, "and VTL0 has its interrupt");
        }
        config(HV_VINA_ENABLED);
}

static uint64_t vtl1_isr(uint64_t arg) {
        return apic_read(APIC_ISR + 0x10 * (VECTOR_VINA / 32)) >> VECTOR_VINA % 32 & 1;
}

static void test_auto_eoi(void) {
        config(HV_VINA_ENABLED | HV_VINA_AUTO_RESET | HV_VINA_AUTO_EOI);
        for (unsigned i = 1; i <= 2; i++) {
                forget();
                is(run_open(vtl1_stay_and, (uint64_t) assert_fixed), 1,
                   "AutoEoi, call %u: one notification, without an EOI", i);
                is(vtl1_run(vtl1_isr, 0), 0, "no ISR bit is left");
        }
        config(HV_VINA_ENABLED | HV_VINA_AUTO_RESET);
        auto_eoi = true;
        forget();
        is(run_open(vtl1_stay_and, (uint64_t) assert_fixed), 1, "without AutoEoi");
        is(vtl1_run(vtl1_isr, 0), 1, "the ISR bit stays until EOI");
        auto_eoi = false;
        config(HV_VINA_ENABLED);
}

static uint64_t vtl1_eoi(uint64_t arg) {
        apic_eoi();
        return vtl1_isr(0);
}

/* ---- VTL1 halts, VTL1 preempts ---- */

static uint64_t vtl1_halt(uint64_t arg) {
        too_late = taken > 0;
        inside = true;
        while (vinas == 0 && !too_late)
                halt();
        inside = false;
        return vinas;
}

static volatile bool armed; /* VTL0's timer */

static void on_tick(struct trap_frame *f) {
        too_late = taken > 0 || !armed;
        inside = true;
        ticks++;
        apic_eoi();
        irq_on();
        if (!spin_for(&vinas, 1, too_late ? 0 : tick_ms) && tick_ms > CLOSED_MS)
                too_late = true; /* VTL0 was not yet where it waits */
        irq_off();
        inside = false;
}

static uint64_t vtl1_arm(uint64_t ms) {
        wrmsr(HV_MSR_STIMER0_CONFIG, 0);
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, hv_time() + ms * MS);
        wrmsr(HV_MSR_STIMER0_CONFIG, STIMER_DIRECT(VECTOR_TICK));
        return 0;
}

static void test_halt(void) {
        check_once(run_timed(arm_apic_timer, vtl1_halt), "VTL1 halts, local APIC timer");
        vtl1_run(vtl1_rearm, 0);
        check_once(run_timed(arm_stimer, vtl1_halt), "VTL1 halts, synthetic timer");
        vtl1_run(vtl1_rearm, 0);
}

/* VTL1's timer breaks into VTL0, which waits in @wait for its own, that expires meanwhile. */
static void preempt(void (*wait)(void)) {
        for (unsigned i = 1; i <= 5; i++) {
                forget();
                armed = false;
                vtl1_run(vtl1_arm, 3 * i);
                arm_apic_timer(8 * i);
                armed = true;
                wait();
                if (!too_late)
                        return;
                vtl1_run(vtl1_rearm, 0);
        }
}

static void wait_open(void) {
        irq_on();
        spin_for(&taken, 1, LONG_MS);
        spin_for(&ticks, 1, LONG_MS);
        irq_off();
}

static void wait_halted(void) {
        halt();
        spin_for(&ticks, 1, LONG_MS);
}

static void wait_closed(void) {
        spin_for(&ticks, 1, LONG_MS);
}

static void test_preempted(void) {
        preempt(wait_open);
        is(ticks, 1, "VTL1 preempts VTL0");
        is(vinas, 1, "VTL0's interrupt comes meanwhile: one notification");
        is(taken_inside, 0, "VTL0 waits");
        is(taken, 1, "and takes it");
        is(wrong, 0, "each in its level");
        vtl1_run(vtl1_rearm, 0);

        preempt(wait_halted);
        is(ticks, 1, "VTL1 preempts a halted VTL0");
        is(vinas, 1, "which would be woken up by its timer: one notification");
        is(taken_inside, 0, "VTL0 waits");
        is(taken, 1, "and wakes up by it");
        vtl1_run(vtl1_rearm, 0);

        tick_ms = CLOSED_MS;
        preempt(wait_closed);
        is(vinas, 0, "VTL0 preempted with its interrupts off: no notification");
        is(taken, 0, "its interrupt waits");
        interrupt_window();
        is(taken, 1, "until it lets it in");
}

/* ---- Other VPs ---- */

static uint64_t send_when_inside(uint64_t arg) {
        while (!inside)
                cpu_relax();
        spin_ms(2);
        apic_send(0, APIC_ICR_FIXED | VECTOR_LOW);
        return 0;
}

static uint64_t vtl1_send_when_inside(uint64_t arg) {
        while (!inside)
                cpu_relax();
        spin_ms(2);
        return hv_call(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST,
                       VECTOR_LOW | (uint64_t) VTL0 << 32, 1);
}

static uint64_t secure(uint64_t fn) {
        return vtl1_run((uint64_t(*)(uint64_t)) fn, 0);
}

static uint64_t vina_on_this_vp(uint64_t arg) {
        uint64_t n;

        config(HV_VINA_ENABLED);
        n = run_timed(arm_apic_timer, vtl1_await);
        irq_on();
        spin_for(&taken, 1, LONG_MS);
        irq_off();
        return n;
}

static void test_other_vp(void) {
        job_open_vtl1(1);
        forget();
        job_start(1, send_when_inside, 0);
        check_once(run_open(vtl1_await, 1), "IPI from VP 1's VTL0");
        job_wait(1, "the IPI");
        vtl1_run(vtl1_rearm, 0);

        forget();
        job_start(1, secure, (uint64_t) vtl1_send_when_inside);
        check_once(run_open(vtl1_await, 1), "synthetic IPI from VP 1's VTL1");
        is(job_wait(1, "the IPI"), 0, "its status");
        vtl1_run(vtl1_rearm, 0);

        forget();
        job_start(1, send_when_inside, 0);
        check_once(run_open(vtl1_halt, 0), "VTL1 halts, IPI from VP 1's VTL0");
        job_wait(1, "the IPI");
        vtl1_run(vtl1_rearm, 0);

        forget();
        is(job_run(1, vina_on_this_vp, 0, "VINA on VP 1"), 1, "VP 1 has a VINA of its own");
        is(taken, 1, "and its VTL0 the interrupt");
        is(vtl1_run(vtl1_status, 0), 0, "VP 0 hears nothing of it");
}

void guest_main(void) {
        vsm_open();
        tsc_per_ms();
        irq_set(VECTOR_VINA, on_vina);
        irq_set(VECTOR_LOW, on_low);
        irq_set(VECTOR_NMI, on_nmi);
        irq_set(VECTOR_TICK, on_tick);
        config(HV_VINA_ENABLED);
        is(vtl1_run(vtl1_vina_read, 0), VECTOR_VINA | HV_VINA_ENABLED, "VINA enabled");
        test_nothing();
        test_masked();
        test_rearm();
        test_busy();
        test_auto_reset();
        test_auto_eoi();
        is(vtl1_run(vtl1_eoi, 0), 0, "EOI clears it");
        vtl1_run(vtl1_rearm, 0);
        test_halt();
        test_preempted();
        if (cpu_count() > 1)
                test_other_vp();
}
