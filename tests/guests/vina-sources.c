/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Virtual interrupt notification assist (vsm.md 7.3) for every kind of interrupt that VTL0 can
 * have: VTL1 is told of it once, if VTL0 could take it, and VTL0 takes it when VTL1 has returned.
 * How it is armed, and VTL1 that halts or preempts, are in vina.c.
 */
#include "lib/hv.h"

#define VECTOR_VINA 0xf0
#define VECTOR_LOW 0x50
#define VECTOR_PIC 0x58 /* of the first 8259's IRQ 0 */
#define MESSAGE_SINT 2

#define MS 10000ull /* of the reference time */
#define LONG_MS 5000
#define QUIET_MS 10 /* longer than anything that is armed takes */
#define STIMER_DIRECT(vector) (1ull << 12 | (uint64_t) (vector) << 4)

static volatile unsigned vinas, wrong, taken, taken_inside;
static volatile bool inside;   /* VTL1 runs */
static volatile bool too_late; /* VTL0's interrupt was there before */
static uint8_t status_seen;    /* VinaStatus when its interrupt came */

static volatile uint8_t *vina_status(void) {
        return &this_cpu()->assist->vtl_control.vina_status;
}

static void on_vina(struct trap_frame *f) {
        wrong += this_cpu()->vtl != 1;
        status_seen = *vina_status();
        apic_eoi();
        vinas++;
}

static void count_taken(void) {
        wrong += this_cpu()->vtl != 0;
        taken_inside += inside;
        taken++;
}

static void on_low(struct trap_frame *f) {
        apic_eoi();
        count_taken();
}

static void on_nmi(struct trap_frame *f) {
        count_taken();
}

static void on_pic(struct trap_frame *f) {
        outb(0x20, 0x20);
        count_taken();
}

/* ---- Sources: armed by VTL0 for a time, or fired while VTL1 runs ---- */

static void arm_apic_timer(uint64_t ms) {
        apic_write(APIC_TIMER_DIVIDE, 0xb);
        apic_write(APIC_LVT_TIMER, VECTOR_LOW);
        apic_write(APIC_TIMER_INITIAL, (uint32_t) ms * 1000000);
}

static void arm_stimer(uint64_t ms) {
        wrmsr(HV_MSR_STIMER0_CONFIG, 0);
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, hv_time() + ms * MS);
        wrmsr(HV_MSR_STIMER0_CONFIG, STIMER_DIRECT(VECTOR_LOW) | 1);
}

static void arm_stimer_message(uint64_t ms) {
        wrmsr(HV_MSR_SIMP, (uint64_t) this_cpu()->simp | HV_MSR_PAGE_ENABLE);
        wrmsr(HV_MSR_SCONTROL, 1);
        wrmsr(HV_MSR_STIMER0_CONFIG, 0);
        this_cpu()->simp->slot[MESSAGE_SINT].message_type = HV_MESSAGE_NONE;
        wrmsr(HV_MSR_EOM, 0);
        wrmsr(HV_MSR_SINT0 + MESSAGE_SINT, VECTOR_LOW);
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, hv_time() + ms * MS);
        wrmsr(HV_MSR_STIMER0_CONFIG, (uint64_t) MESSAGE_SINT << 16 | 1);
}

static void quiet_message(void) {
        is(this_cpu()->simp->slot[MESSAGE_SINT].message_type, HV_MESSAGE_TIMER_EXPIRED,
           "its message is there");
        this_cpu()->simp->slot[MESSAGE_SINT].message_type = HV_MESSAGE_NONE;
        wrmsr(HV_MSR_EOM, 0);
        wrmsr(HV_MSR_SINT0 + MESSAGE_SINT, HV_SINT_MASKED);
}

#define IOAPIC 0xfec00000ul
#define IOAPIC_MASKED 0x10000u

static void ioapic_write(unsigned reg, uint32_t v) {
        *(volatile uint32_t *) IOAPIC = reg;
        *(volatile uint32_t *) (IOAPIC + 0x10) = v;
}

static void ioapic_route(unsigned pin, uint32_t low) {
        ioapic_write(0x10 + 2 * pin, IOAPIC_MASKED);
        ioapic_write(0x11 + 2 * pin, this_cpu()->index << 24);
        ioapic_write(0x10 + 2 * pin, low);
}

/* Mode 0: once, at the end of the count */
static void arm_pit(uint64_t ms) {
        uint16_t count = (uint16_t) (ms * 1193);

        outb(0x43, 0x30);
        outb(0x40, (uint8_t) count);
        outb(0x40, (uint8_t) (count >> 8));
}

/* Interrupt 0 is pin 0, or pin 2 as on a PC. */
static void arm_pit_ioapic(uint64_t ms) {
        ioapic_route(0, VECTOR_LOW);
        ioapic_route(2, VECTOR_LOW);
        arm_pit(ms);
}

static void quiet_ioapic(void) {
        ioapic_route(0, IOAPIC_MASKED);
        ioapic_route(2, IOAPIC_MASKED);
        ioapic_route(4, IOAPIC_MASKED);
}

#define APIC_LVT_LINT0 0x350
#define LVT_EXTINT 0x700u

static void arm_pit_pic(uint64_t ms) {
        outb(0x20, 0x11); /* edge, cascaded, ICW4 */
        outb(0x21, VECTOR_PIC);
        outb(0x21, 4);
        outb(0x21, 1);
        outb(0x21, 0xfe);
        apic_write(APIC_LVT_LINT0, LVT_EXTINT);
        arm_pit(ms);
}

static void quiet_pic(void) {
        outb(0x21, 0xff);
        apic_write(APIC_LVT_LINT0, IOAPIC_MASKED);
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

        *in = (struct assert_interrupt){
                .partition = HV_PARTITION_ID_SELF, .type = type, .destination = 0, .vector = vector
        };
        r = hv_call_memory(HVCALL_ASSERT_VIRTUAL_INTERRUPT);
        if (r != 0)
                bail_out("AssertVirtualInterrupt: 0x%lx", r);
}

static void fire_assert(void) {
        assert_vtl0(0, VECTOR_LOW);
}

static void fire_assert_nmi(void) {
        assert_vtl0(4, 0);
}

static void fire_cluster_ipi(void) {
        uint64_t r = hv_call(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST,
                             VECTOR_LOW | (uint64_t) VTL0 << 32, 1);

        if (r != 0)
                bail_out("SendSyntheticClusterIpi: 0x%lx", r);
}

/* The UART's transmitter is empty, and says so when it is asked. The device is the VMM's. */
#define UART 0x3f8

static void fire_uart(void) {
        outb(UART + 1, 0);
        outb(UART + 1, 2);
}

static void route_uart(uint64_t ms) {
        ioapic_route(4, VECTOR_LOW);
        outb(UART + 4, 0xb); /* OUT2 lets its interrupts out */
}

/* Before anything is printed, which would be more interrupts. */
static void silence_uart(void) {
        outb(UART + 1, 0);
        (void) inb(UART + 2);
}

static void fire_apic_ipi(void) {
        apic_send(0, APIC_ICR_FIXED | VECTOR_LOW);
}

static void fire_apic_nmi(void) {
        apic_send(0, APIC_ICR_NMI);
}

enum from {
        TIMED,    /* arm() says when */
        VTL1_RUN, /* fire() by VTL1 itself */
        VP1_VTL0, /* fire() by VP 1 */
        VP1_VTL1,
};

static const struct source {
        const char *name;
        enum from from;
        bool maskable, by_priority; /* by RFLAGS.IF, by TPR */
        void (*arm)(uint64_t ms);
        void (*fire)(void);
        void (*after)(void); /* at once when VTL1 has returned */
        void (*quiet)(void); /* when VTL0 has taken it */
} sources[] = {
        { "local APIC timer", TIMED, true, true, arm_apic_timer, NULL, NULL, NULL },
        { "synthetic timer", TIMED, true, true, arm_stimer, NULL, NULL, NULL },
        { "synthetic timer's message", TIMED, true, true, arm_stimer_message, NULL, NULL,
          quiet_message },
        { "8254 by I/O APIC", TIMED, true, true, arm_pit_ioapic, NULL, NULL, quiet_ioapic },
        { "8254 by 8259", TIMED, true, false, arm_pit_pic, NULL, NULL, quiet_pic },
        { "UART, touched by VTL1", VTL1_RUN, true, true, route_uart, fire_uart, silence_uart,
          quiet_ioapic },
        { "AssertVirtualInterrupt", VTL1_RUN, true, true, NULL, fire_assert, NULL, NULL },
        { "AssertVirtualInterrupt, NMI", VTL1_RUN, false, false, NULL, fire_assert_nmi, NULL,
          NULL },
        { "SendSyntheticClusterIpi", VTL1_RUN, true, true, NULL, fire_cluster_ipi, NULL, NULL },
        { "IPI of VP 1", VP1_VTL0, true, true, NULL, fire_apic_ipi, NULL, NULL },
        { "NMI of VP 1", VP1_VTL0, false, false, NULL, fire_apic_nmi, NULL, NULL },
        { "synthetic IPI of VP 1's VTL0", VP1_VTL0, true, true, NULL, fire_cluster_ipi, NULL,
          NULL },
        { "synthetic IPI of VP 1's VTL1", VP1_VTL1, true, true, NULL, fire_cluster_ipi, NULL,
          NULL },
        { "AssertVirtualInterrupt by VP 1", VP1_VTL1, true, true, NULL, fire_assert, NULL, NULL },
        { "UART, touched by VP 1", VP1_VTL0, true, true, route_uart, fire_uart, silence_uart,
          quiet_ioapic },
};

/* ---- VTL1 of VP 0 ---- */

static uint64_t vtl1_enable_vina(uint64_t value) {
        *vina_status() = 0;
        return hv_set(VTL_SELF, HV_REGISTER_VSM_VINA, value);
}

static uint64_t vtl1_rearm(uint64_t arg) {
        uint64_t before = *vina_status();

        *vina_status() = 0;
        return before;
}

struct stay {
        void (*fire)(void);
        unsigned want; /* notifications to wait for */
        uint64_t ms;   /* and how long after that */
        bool halt;
        bool await_fire; /* not before VP 1 has fired */
};

static volatile bool fired;

static bool in_time(uint64_t start) {
        return (int64_t) (rdtsc() - start) < (int64_t) (LONG_MS * tsc_per_ms());
}

static uint64_t vtl1_stay(uint64_t arg) {
        const struct stay *s = (const struct stay *) arg;
        uint64_t start = rdtsc();

        too_late = taken > 0;
        inside = true;
        if (s->fire != NULL)
                s->fire();
        if (s->halt) {
                while (vinas < s->want && !too_late)
                        halt();
        } else {
                irq_on();
                while ((vinas < s->want || (s->await_fire && !fired)) && !too_late &&
                       in_time(start))
                        cpu_relax();
                spin_ms(s->ms);
        }
        irq_off();
        inside = false;
        return vinas;
}

/* ---- VP 1 ---- */

static uint64_t fire_when_inside(uint64_t fire) {
        while (!inside)
                cpu_relax();
        spin_ms(2);
        ((void (*)(void)) fire)();
        fired = true;
        return 0;
}

/* ---- One source, in one situation ---- */

static void forget(void) {
        vinas = wrong = taken = taken_inside = 0;
        status_seen = 0xff;
}

static bool begun_too_late(const struct source *s) {
        return s->from == TIMED && too_late;
}

/* Has it fire while VTL1 runs; tries again on a host that took its time to come there. */
static uint64_t run(const struct source *s, bool open, struct stay *stay) {
        uint64_t r = 0;

        for (unsigned i = 1; i <= 5; i++) {
                forget();
                fired = false;
                stay->fire = s->from == VTL1_RUN ? s->fire : NULL;
                stay->await_fire = s->from == VP1_VTL0 || s->from == VP1_VTL1;
                if (s->from == VP1_VTL0)
                        job_start(1, fire_when_inside, (uint64_t) s->fire);
                else if (s->from == VP1_VTL1)
                        job_start_vtl1(1, fire_when_inside, (uint64_t) s->fire);
                if (s->arm != NULL)
                        s->arm(3 * i);
                if (open)
                        irq_on();
                r = vtl1_run(vtl1_stay, (uint64_t) stay);
                irq_off();
                if (s->from == VP1_VTL0 || s->from == VP1_VTL1)
                        job_wait(1, s->name);
                if (s->after != NULL)
                        s->after();
                if (!begun_too_late(s))
                        break;
        }
        return r;
}

static void end(const struct source *s) {
        if (s->quiet != NULL)
                s->quiet();
        vtl1_run(vtl1_rearm, 0);
}

/* VTL0 can take it: told once, then taken once. */
static void test_open(const struct source *s, bool halted) {
        struct stay stay = { .want = 1, .ms = QUIET_MS, .halt = halted };
        const char *how = halted ? "VTL1 halts" : "VTL1 runs";

        is(run(s, true, &stay), 1, "%s, %s: one notification", s->name, how);
        is(status_seen, 1, "%s, %s: VinaAsserted is set then", s->name, how);
        is(taken_inside, 0, "%s, %s: VTL0 takes nothing meanwhile", s->name, how);
        irq_on();
        spin_for(&taken, 1, LONG_MS);
        spin_ms(2);
        irq_off();
        is(taken, 1, "%s, %s: but after the return, once", s->name, how);
        is(vinas, 1, "%s, %s: of which VTL1 hears no more", s->name, how);
        is(wrong, 0, "%s, %s: each in its level", s->name, how);
        end(s);
}

/* VTL0 cannot take it: VTL1 is not told, nor does it find the bit set. */
static void check_silent(const struct source *s, const char *why) {
        is(vinas, 0, "%s, %s: no notification", s->name, why);
        is(vtl1_run(vtl1_rearm, 0), 0, "%s, %s: VinaAsserted is clear", s->name, why);
        is(taken, 0, "%s, %s: it waits", s->name, why);
        if (read_cr8() != 0)
                write_cr8(0);
        irq_on();
        spin_for(&taken, 1, LONG_MS);
        irq_off();
        is(taken, 1, "%s, %s: until VTL0 lets it in", s->name, why);
        end(s);
}

static void test_closed(const struct source *s) {
        struct stay stay = { .ms = QUIET_MS + 5 };

        run(s, false, &stay);
        check_silent(s, "IF clear");
}

static void test_priority(const struct source *s) {
        struct stay stay = { .ms = QUIET_MS + 5 };

        write_cr8(VECTOR_LOW >> 4);
        run(s, true, &stay);
        check_silent(s, "TPR of its class");
}

/* An NMI is told of whatever VTL0's RFLAGS.IF. */
static void test_nmi_closed(const struct source *s) {
        struct stay stay = { .want = 1, .ms = QUIET_MS };

        is(run(s, false, &stay), 1, "%s, IF clear: one notification all the same", s->name);
        is(taken_inside, 0, "%s, IF clear: VTL0 waits", s->name);
        spin_for(&taken, 1, LONG_MS);
        is(taken, 1, "%s, IF clear: and takes it", s->name);
        end(s);
}

/* The next one while VinaAsserted is still set: not told, but taken. */
static void test_not_rearmed(const struct source *s) {
        struct stay stay = { .want = 1, .ms = 0 }, again = { .ms = QUIET_MS + 5 };

        run(s, true, &stay);
        irq_on();
        spin_for(&taken, 1, LONG_MS);
        irq_off();
        if (s->quiet != NULL)
                s->quiet();
        run(s, true, &again);
        is(vinas, 0, "%s, not armed again: no notification", s->name);
        irq_on();
        spin_for(&taken, 1, LONG_MS);
        irq_off();
        is(taken, 1, "%s, not armed again: VTL0 has it", s->name);
        if (s->quiet != NULL)
                s->quiet();
        is(vtl1_run(vtl1_rearm, 0), 1, "%s, not armed again: VinaAsserted stayed set", s->name);
}

void guest_main(void) {
        unsigned n = cpu_count();

        vsm_open();
        tsc_per_ms();
        irq_set(VECTOR_VINA, on_vina);
        irq_set(VECTOR_LOW, on_low);
        irq_set(VECTOR_PIC, on_pic);
        irq_set(VECTOR_NMI, on_nmi);
        quiet_ioapic();
        quiet_pic();
        if (n > 1)
                job_open_vtl1(1);
        is(vtl1_run(vtl1_enable_vina, VECTOR_VINA | HV_VINA_ENABLED), 0, "VINA enabled");
        for (unsigned i = 0; i < ELEMENTSOF(sources); i++) {
                const struct source *s = &sources[i];

                if (n < 2 && (s->from == VP1_VTL0 || s->from == VP1_VTL1))
                        continue;
                test_open(s, false);
                if (s->from != VTL1_RUN)
                        test_open(s, true);
                test_not_rearmed(s);
                if (!s->maskable)
                        test_nmi_closed(s);
                else
                        test_closed(s);
                if (s->by_priority)
                        test_priority(s);
        }
}
