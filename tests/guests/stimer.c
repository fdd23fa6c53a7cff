/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Synthetic timers, four per VP and level (vsm.md 1.6, 9): their rules, messages and direct mode in
 * both levels, and what happens when one expires while the other level runs.
 * Command line: ticks=N.
 */
#include "lib/hv.h"

#define CONFIG(n) (HV_MSR_STIMER0_CONFIG + 2 * (n))
#define COUNT(n) (HV_MSR_STIMER0_CONFIG + 2 * (n) + 1)

#define ENABLE (1ull << 0)
#define PERIODIC (1ull << 1)
#define LAZY (1ull << 2)
#define AUTO_ENABLE (1ull << 3)
#define DIRECT(vector) (1ull << 12 | (uint64_t) (vector) << 4)
#define SINT(n) ((uint64_t) (n) << 16)

#define MS 10000ull /* in units of the reference time */
#define FAR (3600 * 1000 * MS)
#define LONG_MS 5000 /* more than anything here takes */

#define MESSAGE_SINT 2
#define QUEUE_SINT 3
#define VECTOR_MESSAGE 0x60
#define VECTOR_DIRECT 0x61
#define VECTOR_OTHER 0x62
#define VECTOR_AUTO_EOI 0x63

/* What came, by level, of the CPU that this is about */
static volatile unsigned messages[2], directs[2], others[2], auto_eois[2];
static struct hv_message last[2];

static void on_message(struct trap_frame *f) {
        struct cpu *c = this_cpu();
        struct hv_message *m = &c->simp->slot[MESSAGE_SINT];

        memcpy(&last[c->vtl], m, sizeof(*m));
        __atomic_store_n(&m->message_type, HV_MESSAGE_NONE, __ATOMIC_SEQ_CST);
        if (m->flags & HV_MESSAGE_PENDING)
                wrmsr(HV_MSR_EOM, 0);
        apic_eoi();
        messages[c->vtl]++;
}

static void on_direct(struct trap_frame *f) {
        apic_eoi();
        __atomic_add_fetch(&directs[this_cpu()->vtl], 1, __ATOMIC_SEQ_CST);
}

static void on_other(struct trap_frame *f) {
        apic_eoi();
        __atomic_add_fetch(&others[this_cpu()->vtl], 1, __ATOMIC_SEQ_CST);
}

static void on_auto_eoi(struct trap_frame *f) {
        auto_eois[this_cpu()->vtl]++;
}

static void forget(void) {
        for (unsigned i = 0; i < 2; i++)
                messages[i] = directs[i] = others[i] = auto_eois[i] = 0;
}

static void arm(unsigned n, uint64_t config, uint64_t count) {
        wrmsr(CONFIG(n), 0);
        wrmsr(COUNT(n), count);
        wrmsr(CONFIG(n), config | ENABLE);
}

static void stop_all(void) {
        for (unsigned n = 0; n < 4; n++) {
                wrmsr(COUNT(n), 0);
                wrmsr(CONFIG(n), 0);
        }
}

static uint64_t open_synic(uint64_t arg) {
        wrmsr(HV_MSR_SIMP, (uint64_t) this_cpu()->simp | HV_MSR_PAGE_ENABLE);
        wrmsr(HV_MSR_SCONTROL, 1);
        wrmsr(HV_MSR_SINT0 + MESSAGE_SINT, VECTOR_MESSAGE);
        wrmsr(HV_MSR_SINT0 + QUEUE_SINT, VECTOR_OTHER | HV_SINT_POLLING);
        return 0;
}

static bool on_spin(const volatile unsigned *counter, unsigned n) {
        bool came;

        irq_on();
        came = spin_for(counter, n, LONG_MS);
        irq_off();
        return came;
}

/* ---- Rules of the registers, in either level ---- */

static uint64_t test_rules(uint64_t arg) {
        static const uint64_t reserved[] = { 1ull << 13, 1ull << 15, 1ull << 20, 1ull << 63 };
        unsigned vtl = this_cpu()->vtl;

        for (unsigned n = 0; n < 4; n++) {
                is(rdmsr(CONFIG(n)), 0, "VTL%u timer %u: configuration at reset", vtl, n);
                is(rdmsr(COUNT(n)), 0, "VTL%u timer %u: count at reset", vtl, n);
        }
        wrmsr(CONFIG(1), SINT(5) | LAZY | PERIODIC);
        for (unsigned i = 0; i < ELEMENTSOF(reserved); i++)
                is(fault_of(wrmsr(CONFIG(1), SINT(5) | reserved[i])).vector, VECTOR_GP,
                   "VTL%u: reserved bits 0x%lx", vtl, reserved[i]);
        is(rdmsr(CONFIG(1)), SINT(5) | LAZY | PERIODIC, "VTL%u: nothing changed by those", vtl);
        is(rdmsr(CONFIG(2)), 0, "VTL%u: other timers are others", vtl);

        wrmsr(COUNT(1), hv_time() + FAR);
        is(rdmsr(CONFIG(1)) & ENABLE, 0, "VTL%u: a count does not start it", vtl);
        wrmsr(CONFIG(1), ENABLE);
        is(rdmsr(CONFIG(1)), 0, "VTL%u: SINT 0 and not direct: stays disabled", vtl);
        wrmsr(CONFIG(1), ENABLE | SINT(5));
        is(rdmsr(CONFIG(1)), ENABLE | SINT(5), "VTL%u: with a SINT it is enabled", vtl);
        wrmsr(CONFIG(1), ENABLE | DIRECT(VECTOR_DIRECT));
        is(rdmsr(CONFIG(1)), ENABLE | DIRECT(VECTOR_DIRECT), "VTL%u: direct, too", vtl);
        wrmsr(COUNT(1), 0);
        is(rdmsr(CONFIG(1)), DIRECT(VECTOR_DIRECT), "VTL%u: count 0 disables it", vtl);

        wrmsr(CONFIG(1), AUTO_ENABLE | SINT(5));
        is(rdmsr(CONFIG(1)), AUTO_ENABLE | SINT(5), "VTL%u: auto-enable alone is not yet", vtl);
        wrmsr(COUNT(1), hv_time() + FAR);
        is(rdmsr(CONFIG(1)), ENABLE | AUTO_ENABLE | SINT(5), "VTL%u: with a count it is", vtl);
        wrmsr(COUNT(1), 0);
        is(rdmsr(CONFIG(1)), AUTO_ENABLE | SINT(5), "VTL%u: count 0 disables that, too", vtl);
        is(rdmsr(COUNT(1)), 0, "VTL%u: and reads 0", vtl);
        stop_all();
        return 0;
}

/* ---- Expiry in the level that runs ---- */

/* Starts two and stops them at once; tries again on a host that took its time. */
static bool start_and_stop(void) {
        for (unsigned i = 1; i <= 5; i++) {
                uint64_t due = hv_time() + 10 * i * MS;

                arm(3, DIRECT(VECTOR_AUTO_EOI), due);
                wrmsr(CONFIG(3), DIRECT(VECTOR_AUTO_EOI));
                arm(2, DIRECT(VECTOR_AUTO_EOI), due);
                wrmsr(COUNT(2), 0);
                if (hv_time() < due) {
                        irq_on();
                        spin_ms(10 * i + 5);
                        irq_off();
                        return true;
                }
                apic_eoi();
        }
        return false;
}

static uint64_t test_one_shot(uint64_t arg) {
        unsigned vtl = this_cpu()->vtl;
        const struct hv_timer_message_payload *p = (const void *) last[vtl].payload;
        uint64_t due;

        forget();
        due = hv_time() + 5 * MS;
        arm(2, SINT(MESSAGE_SINT), due);
        ok(on_spin(&messages[vtl], 1), "VTL%u: its message comes", vtl);
        ok(hv_time() >= due, "VTL%u: not too early", vtl);
        is(last[vtl].message_type, HV_MESSAGE_TIMER_EXPIRED, "VTL%u: message type", vtl);
        is(last[vtl].payload_size, 24, "VTL%u: payload size", vtl);
        is(p->timer_index, 2, "VTL%u: timer index", vtl);
        is(p->expiration_time, due, "VTL%u: expiration time", vtl);
        ok(p->delivery_time >= due && p->delivery_time <= hv_time(), "VTL%u: delivery time", vtl);
        is(rdmsr(CONFIG(2)), SINT(MESSAGE_SINT), "VTL%u: then it is disabled", vtl);
        irq_on();
        spin_ms(5);
        irq_off();
        is(messages[vtl], 1, "VTL%u: one message", vtl);
        is(messages[!vtl], 0, "VTL%u: none in the other level", vtl);

        arm(0, SINT(MESSAGE_SINT), 1);
        ok(on_spin(&messages[vtl], 2), "VTL%u: a time that is past expires at once", vtl);

        arm(3, DIRECT(VECTOR_DIRECT), hv_time() + 2 * MS);
        ok(on_spin(&directs[vtl], 1), "VTL%u: direct mode", vtl);
        is(messages[vtl], 2, "VTL%u: without a message", vtl);

        if (start_and_stop())
                is(auto_eois[vtl], 0, "VTL%u: stopped ones do not expire", vtl);
        else
                skip("the host is too slow", "VTL%u: stopped ones do not expire", vtl);
        stop_all();
        return 0;
}

static uint64_t test_periodic(uint64_t arg) {
        unsigned vtl = this_cpu()->vtl;
        const struct hv_timer_message_payload *p = (const void *) last[vtl].payload;
        uint64_t first;
        unsigned n;

        forget();
        arm(1, PERIODIC | SINT(MESSAGE_SINT), 2 * MS);
        ok(on_spin(&messages[vtl], 1), "VTL%u: periodic, the first message", vtl);
        first = p->expiration_time;
        ok(on_spin(&messages[vtl], 4), "VTL%u: and more", vtl);
        ok(p->expiration_time >= first + 6 * MS && (p->expiration_time - first) % (2 * MS) == 0,
           "VTL%u: full periods after the first: %lu", vtl, p->expiration_time - first);
        is(rdmsr(CONFIG(1)), ENABLE | PERIODIC | SINT(MESSAGE_SINT), "VTL%u: stays enabled", vtl);
        wrmsr(COUNT(1), 0);
        interrupt_window();
        n = messages[vtl];
        irq_on();
        spin_ms(6);
        irq_off();
        is(messages[vtl], n, "VTL%u: count 0 ends it", vtl);
        is(rdmsr(CONFIG(1)), PERIODIC | SINT(MESSAGE_SINT), "VTL%u: and disables it", vtl);
        stop_all();
        return 0;
}

/* Two timers, one slot that nobody empties: polled, so that nothing else looks at it. */
static uint64_t test_busy_slot(uint64_t arg) {
        struct hv_message *m = &this_cpu()->simp->slot[QUEUE_SINT];
        const struct hv_timer_message_payload *p = (const void *) m->payload;
        unsigned vtl = this_cpu()->vtl;
        uint64_t now = hv_time();

        forget();
        arm(0, SINT(QUEUE_SINT), now + 2 * MS);
        arm(1, SINT(QUEUE_SINT), now + 3 * MS);
        spin_ms(10);
        for (unsigned i = 0; i < LONG_MS && !(m->flags & HV_MESSAGE_PENDING); i++)
                spin_ms(1); /* a busy host */
        irq_on();
        interrupt_window();
        is(others[vtl], 0, "VTL%u: a polled SINT interrupts nobody", vtl);
        is(m->message_type, HV_MESSAGE_TIMER_EXPIRED, "VTL%u: the first message", vtl);
        is(p->timer_index, 0, "VTL%u: of timer 0", vtl);
        is(m->flags & HV_MESSAGE_PENDING, HV_MESSAGE_PENDING, "VTL%u: another one waits", vtl);
        __atomic_store_n(&m->message_type, HV_MESSAGE_NONE, __ATOMIC_SEQ_CST);
        wrmsr(HV_MSR_EOM, 0);
        is(m->message_type, HV_MESSAGE_TIMER_EXPIRED, "VTL%u: EOM brings the second", vtl);
        is(p->timer_index, 1, "VTL%u: of timer 1", vtl);
        is(p->expiration_time, now + 3 * MS, "VTL%u: with its time of expiry", vtl);
        ok(p->delivery_time >= now + 10 * MS, "VTL%u: delivered later", vtl);
        is(m->flags & HV_MESSAGE_PENDING, 0, "VTL%u: no third waits", vtl);
        __atomic_store_n(&m->message_type, HV_MESSAGE_NONE, __ATOMIC_SEQ_CST);
        wrmsr(HV_MSR_EOM, 0);
        is(m->message_type, HV_MESSAGE_NONE, "VTL%u: the slot stays empty", vtl);
        stop_all();
        return 0;
}

static void in_both(uint64_t (*test)(uint64_t)) {
        test(0);
        vtl1_run(test, 0);
}

/* ---- VTL1's timer while VTL0 runs ---- */

static uint64_t vtl1_arm_direct(uint64_t after) {
        arm(0, DIRECT(VECTOR_DIRECT), hv_time() + after);
        return 0;
}

static uint64_t vtl1_arm_message(uint64_t after) {
        arm(1, SINT(MESSAGE_SINT), hv_time() + after);
        return 0;
}

static uint64_t vtl1_arm_auto_eoi(uint64_t after) {
        wrmsr(HV_MSR_SINT0 + QUEUE_SINT, VECTOR_AUTO_EOI | HV_SINT_AUTO_EOI);
        this_cpu()->simp->slot[QUEUE_SINT].message_type = HV_MESSAGE_NONE;
        arm(1, SINT(QUEUE_SINT), hv_time() + after);
        return 0;
}

static uint64_t vtl1_close_auto_eoi(uint64_t arg) {
        wrmsr(HV_MSR_SINT0 + QUEUE_SINT, VECTOR_OTHER | HV_SINT_POLLING);
        return this_cpu()->simp->slot[QUEUE_SINT].message_type;
}

static uint64_t vtl1_stop(uint64_t arg) {
        stop_all();
        return 0;
}

static void test_preempts(void) {
        const struct cpu *vtl1 = &cpus[1][0];
        unsigned calls, interrupts;
        uint64_t due;

        forget();
        vtl1_run(vtl1_arm_direct, 2 * MS);
        calls = vtl1->calls;
        interrupts = vtl1->interrupts;
        ok(spin_for(&directs[1], 1, LONG_MS),
           "VTL1's timer fires into VTL0, which spins with interrupts off");
        is(read_flags() & RFLAGS_IF, 0, "and still has them off");
        is(vtl1->calls, calls, "that was no VTL call");
        is(vtl1->interrupts, interrupts, "and no intercept");
        vtl1_run(vtl1_arm_message, 2 * MS);
        irq_on();
        ok(spin_for(&messages[1], 1, LONG_MS), "the same with interrupts on, by message");
        irq_off();
        is(messages[0] + directs[0], 0, "VTL0 saw nothing of it");
        for (unsigned i = 1; i <= 2; i++) {
                vtl1_run(vtl1_arm_auto_eoi, 2 * MS);
                ok(spin_for(&auto_eois[1], i, LONG_MS), "a SINT with AutoEOI, time %u", i);
                is(vtl1_run(vtl1_close_auto_eoi, 0), HV_MESSAGE_TIMER_EXPIRED, "its message");
        }

        forget();
        due = hv_time() + 30 * MS;
        arm(0, DIRECT(VECTOR_OTHER), due);
        vtl1_run(vtl1_arm_direct, 3 * MS);
        halt();
        ok(hv_time() >= due, "VTL0 halts until its own timer");
        is(others[0], 1, "which it was told of");
        is(directs[1], 1, "though VTL1's timer fired meanwhile");
        is(directs[0] + others[1], 0, "each in its level");
        vtl1_run(vtl1_stop, 0);
        stop_all();
}

/* ---- VTL0's timer while VTL1 runs ---- */

static volatile bool too_late;

static uint64_t vtl1_stay(uint64_t ms) {
        too_late = others[0] + messages[0] > 0;
        irq_on();
        spin_ms(ms);
        irq_off();
        return others[0] + others[1] + messages[0] + messages[1] + directs[0] + directs[1];
}

static void test_waits(void) {
        uint64_t told;

        /* Again on a host that took its time to come to VTL1. */
        for (unsigned i = 1; i <= 5; i++) {
                forget();
                arm(0, DIRECT(VECTOR_OTHER), hv_time() + 3 * i * MS);
                arm(1, SINT(MESSAGE_SINT), hv_time() + 4 * i * MS);
                irq_on();
                told = vtl1_run(vtl1_stay, 12 * i);
                if (!too_late)
                        break;
                irq_off();
        }
        is(told, 0, "VTL0's timers expire while VTL1 runs: nobody is told");
        ok(spin_for(&others[0], 1, LONG_MS), "until VTL1 has returned: direct mode");
        ok(spin_for(&messages[0], 1, LONG_MS), "and the message");
        spin_ms(3);
        irq_off();
        is(others[0], 1, "once");
        is(messages[0], 1, "each");
        is(others[1] + messages[1], 0, "and none in VTL1");
        stop_all();
}

/* ---- Both levels' timers at once ---- */

static uint64_t vtl1_periodic(uint64_t period) {
        arm(0, PERIODIC | DIRECT(VECTOR_DIRECT), period);
        return 0;
}

static uint64_t vtl1_sum(uint64_t n) {
        uint64_t sum = 0;

        irq_on();
        for (uint64_t i = 1; i <= n; i++)
                sum += i;
        irq_off();
        return sum;
}

/* Until there were enough of both, all VPs together */
static uint64_t both(uint64_t enough) {
        uint64_t end = rdtsc() + LONG_MS * tsc_per_ms(), bad = 0;
        unsigned n = 0;

        open_synic(0);
        vtl1_run(vtl1_periodic, 2 * MS);
        arm(0, PERIODIC | DIRECT(VECTOR_OTHER), 2 * MS + 3);
        irq_on();
        for (; rdtsc() < end && (directs[1] < enough || others[0] < enough); n++)
                bad += vtl1_run(vtl1_sum, 100) != 5050;
        irq_off();
        stop_all();
        vtl1_run(vtl1_stop, 0);
        interrupt_window();
        ok(n > 0, "VP %u: %u secure calls meanwhile", this_cpu()->index, n);
        return bad;
}

static void test_both(void) {
        uint64_t n = cmdline_number("ticks", 30);

        forget();
        is(both(n), 0, "periodic timers in both levels, the calls between are right");
        ok(directs[1] >= n, "VTL1's: %u", directs[1]);
        ok(others[0] >= n, "VTL0's: %u", others[0]);
        is(directs[0] + others[1], 0, "none in the wrong level");
}

/* ---- Another VP's are its own ---- */

static volatile unsigned wrong_vp;

static void on_vp1(struct trap_frame *f) {
        wrong_vp += this_cpu()->index != 1;
        apic_eoi();
        __atomic_add_fetch(&others[this_cpu()->vtl], 1, __ATOMIC_SEQ_CST);
}

static uint64_t arm_in_vtl1(uint64_t after) {
        arm(0, DIRECT(VECTOR_DIRECT + 8), hv_time() + after);
        return 0;
}

static uint64_t arm_here(uint64_t after) {
        vtl1_run(arm_in_vtl1, after);
        arm(0, DIRECT(VECTOR_DIRECT + 8), hv_time() + after);
        irq_on();
        spin_for(&others[0], 1, LONG_MS);
        spin_for(&others[1], 1, LONG_MS);
        irq_off();
        return rdmsr(CONFIG(0)) & ENABLE;
}

static void test_other_vp(void) {
        job_open_vtl1(1);
        irq_set(VECTOR_DIRECT + 8, on_vp1);
        forget();
        is(job_run(1, arm_here, 3 * MS, "timers on VP 1"), 0, "VP 1's timers expire");
        is(others[0], 1, "VTL0's");
        is(others[1], 1, "and VTL1's");
        is(wrong_vp, 0, "on VP 1");
        is(rdmsr(CONFIG(0)), 0, "VP 0's own do not know of them");
        irq_set(VECTOR_DIRECT + 8, on_other);
        forget();
        job_start(1, both, 40);
        is(both(40), 0, "both levels' timers on two VPs at once: VP 0");
        is(job_wait(1, "timers on VP 1"), 0, "and VP 1");
        ok(directs[1] >= 40 && others[0] >= 40, "%u and %u came", directs[1], others[0]);
        is(directs[0] + others[1], 0, "none in the wrong level");
}

void guest_main(void) {
        vsm_open();
        irq_set(VECTOR_MESSAGE, on_message);
        irq_set(VECTOR_DIRECT, on_direct);
        irq_set(VECTOR_OTHER, on_other);
        irq_set(VECTOR_AUTO_EOI, on_auto_eoi);
        tsc_per_ms();
        in_both(test_rules);
        in_both(open_synic);
        in_both(test_one_shot);
        in_both(test_periodic);
        in_both(test_busy_slot);
        test_preempts();
        test_waits();
        test_both();
        if (cpu_count() > 1)
                test_other_vp();
}
