/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What VTL1 makes another VP's VTL0 take: exceptions by PendingEvent0, interrupts by
 * PendingInterruption (vsm.md 4.12, 4.13), what it masks (4.14), and whether it runs at all.
 * Command line: precise=1 on a host whose faults show their instruction.
 */
#include "lib/probes.h"

#define LONG_MS 8000
#define VECTOR_SENT 0x61
#define STACK_PAGE WINDOW_PAGE(24)

/* ---- The VP that takes it ---- */

enum where {
        LOOPING, /* interrupts off */
        HALTING, /* interrupts on */
        CALLING, /* VTL1 */
};

static const char *const where_names[] = { "in a loop", "in HLT", "while it calls VTL1" };

static struct victim {
        volatile unsigned turns, sent, nmis;
        volatile bool inside, leave, nmi_stays;
        struct fault fault;
} victims[MAX_CPUS] __attribute__((aligned(64)));

static uint64_t vtl1_wait(uint64_t vp) {
        victims[vp].inside = true;
        while (!victims[vp].leave)
                cpu_relax();
        return 0;
}

static void wait_there(unsigned vp, enum where where) {
        struct victim *v = &victims[vp];

        if (where == CALLING) {
                vtl1_run(vtl1_wait, vp);
                return;
        }
        v->inside = true;
        if (where == HALTING) {
                while (!v->leave)
                        halt();
                return;
        }
        for (; !v->leave; cpu_relax())
                v->turns++;
}

static uint64_t suffer(uint64_t where) {
        unsigned vp = this_cpu()->index;

        victims[vp].fault = fault_of(wait_there(vp, (enum where) where));
        return victims[vp].fault.vector;
}

static void on_sent(struct trap_frame *f) {
        victims[this_cpu()->index].sent++;
}

static void on_nmi(struct trap_frame *f) {
        struct victim *v = &victims[this_cpu()->index];

        v->nmis++;
        while (v->nmi_stays)
                cpu_relax();
}

/* ---- VTL1 of VP 0 ---- */

static struct {
        uint32_t vp, name;
        union hv_register_value v;
} job;

static uint64_t set_here(uint64_t arg) {
        return hv_set_registers(job.vp, VTL0, &job.name, 1, &job.v);
}

static uint64_t get_here(uint64_t arg) {
        if (hv_get_registers(job.vp, VTL0, &job.name, 1, &job.v) != HV_REPS(1))
                bail_out("register 0x%x of VP %u cannot be read", job.name, job.vp);
        return job.v.low64;
}

static unsigned set(unsigned vp, uint32_t name, uint64_t low, uint64_t high) {
        job.vp = vp;
        job.name = name;
        job.v = (union hv_register_value){ .low64 = low, .high64 = high };
        return HV_RESULT_STATUS(vtl1_run(set_here, 0));
}

static uint64_t get(unsigned vp, uint32_t name) {
        job.vp = vp;
        job.name = name;
        return vtl1_run(get_here, 0);
}

static bool comes(const volatile bool *flag) {
        uint64_t start = rdtsc();

        while (!*flag) {
                if ((int64_t) (rdtsc() - start) > (int64_t) (LONG_MS * tsc_per_ms()))
                        return false;
                cpu_relax();
        }
        return true;
}

static void begin(unsigned vp, enum where where) {
        uint64_t activity = where == HALTING ? HV_ACTIVITY_HALT_SUSPEND : 0;

        memset(&victims[vp], 0, sizeof(victims[vp]));
        job_start(vp, suffer, where);
        if (!comes(&victims[vp].inside))
                bail_out("VP %u does not come to where it waits", vp);
        for (unsigned ms = 0; get(vp, HV_REGISTER_INTERNAL_ACTIVITY_STATE) != activity; ms++) {
                if (ms == LONG_MS)
                        bail_out("VP %u does not halt", vp);
                spin_ms(1);
        }
}

/* ---- Exceptions ---- */

static uint64_t exception(unsigned vector, bool deliver, uint32_t error) {
        return 1 | (uint64_t) deliver << 8 | (uint64_t) vector << 16 | (uint64_t) error << 32;
}

static void test_exceptions(unsigned vp, enum where where) {
        static const struct {
                const char *name;
                unsigned vector;
                bool code;
                uint32_t error;
                uint64_t cr2;
        } rows[] = {
                { "#GP", VECTOR_GP, true, 0x1234, 0 },
                { "#UD", VECTOR_UD, false, 0, 0 },
                { "#PF", VECTOR_PF, true, 6, 0x7654321000 },
        };

        for (unsigned i = 0; i < ELEMENTSOF(rows); i++) {
                const struct fault *f = &victims[vp].fault;
                uint64_t event = exception(rows[i].vector, rows[i].code, rows[i].error);

                begin(vp, where);
                is(set(vp, HV_REGISTER_PENDING_EVENT0, event, rows[i].cr2), 0,
                   "VP %u gets %s from VP 0's VTL1 %s", vp, rows[i].name, where_names[where]);
                if (where == CALLING) {
                        is(get(vp, HV_REGISTER_PENDING_EVENT0), event,
                           "it waits for VTL1's return");
                        ok(job_busy(vp), "and does not disturb VTL1");
                        victims[vp].leave = true;
                }
                is(job_wait(vp, "the exception"), rows[i].vector, "taken");
                is(f->error, rows[i].error, "with its error code");
                if (rows[i].vector == VECTOR_PF)
                        is(f->cr2, rows[i].cr2, "and CR2");
                is(get(vp, HV_REGISTER_PENDING_EVENT0), 0, "and over");
        }
}

static void test_changed_mind(unsigned vp) {
        begin(vp, CALLING);
        is(set(vp, HV_REGISTER_PENDING_EVENT0, exception(VECTOR_GP, true, 1), 0), 0,
           "VP %u: an exception while it calls VTL1", vp);
        is(set(vp, HV_REGISTER_PENDING_EVENT0, exception(VECTOR_UD, false, 0), 0), 0,
           "another one instead");
        is(get(vp, HV_REGISTER_PENDING_EVENT0), exception(VECTOR_UD, false, 0), "is there");
        victims[vp].leave = true;
        is(job_wait(vp, "the exception"), VECTOR_UD, "and taken");

        begin(vp, CALLING);
        set(vp, HV_REGISTER_PENDING_EVENT0, exception(VECTOR_GP, true, 1), 0);
        is(set(vp, HV_REGISTER_PENDING_EVENT0, 0, 0), 0, "VP %u: one that is taken back", vp);
        victims[vp].leave = true;
        is(job_wait(vp, "no exception"), VECTOR_NONE, "is not taken");

        begin(vp, LOOPING);
        is(set(vp, HV_REGISTER_PENDING_EVENT0, exception(VECTOR_NMI, false, 0), 0),
           HV_STATUS_INVALID_REGISTER_VALUE, "VP %u: no NMI this way", vp);
        is(set(vp, HV_REGISTER_PENDING_EVENT0, exception(VECTOR_UD, true, 1), 0),
           HV_STATUS_INVALID_REGISTER_VALUE, "nor an error code for #UD");
        victims[vp].leave = true;
        is(job_wait(vp, "no exception"), VECTOR_NONE, "nothing is taken");
}

/* One list of calls in VTL1 for all of them */
static uint64_t vtl1_to_all(uint64_t n) {
        const uint32_t name = HV_REGISTER_PENDING_EVENT0;
        uint64_t r = 0;

        for (unsigned vp = 1; vp < n; vp++) {
                const union hv_register_value v = { .low64 = exception(VECTOR_GP, true, vp) };

                r += hv_set_registers(vp, VTL0, &name, 1, &v) == HV_REPS(1);
        }
        return r;
}

static void test_all(unsigned n) {
        unsigned taken = 0;

        for (unsigned vp = 1; vp < n; vp++)
                begin(vp, vp % 2 ? HALTING : LOOPING);
        is(vtl1_run(vtl1_to_all, n), n - 1, "an exception for each of %u VPs", n - 1);
        for (unsigned vp = 1; vp < n; vp++)
                taken +=
                        job_wait(vp, "the exception") == VECTOR_GP && victims[vp].fault.error == vp;
        is(taken, n - 1, "each takes its own");
}

/* ---- Interrupts ---- */

static uint64_t interruption(unsigned type, unsigned vector, bool code, uint32_t error) {
        return HV_PENDING_INTERRUPTION_PENDING | (uint64_t) type << 1 |
               (code ? HV_PENDING_INTERRUPTION_HAS_CODE : 0) | (uint64_t) vector << 16 |
               (uint64_t) error << 32;
}

static void test_interruption(unsigned vp) {
        const uint32_t name = HV_REGISTER_PENDING_INTERRUPTION;

        begin(vp, LOOPING);
        is(get(vp, name), 0, "VP %u: nothing is pending", vp);
        is(set(vp, name, interruption(HV_INTERRUPTION_INTERRUPT, VECTOR_SENT, false, 0), 0), 0,
           "VP %u: PendingInterruption, an interrupt", vp);
        ok(spin_for(&victims[vp].sent, 1, LONG_MS), "taken");
        is(set(vp, name, interruption(HV_INTERRUPTION_NMI, 2, false, 0), 0), 0, "an NMI");
        ok(spin_for(&victims[vp].nmis, 1, LONG_MS), "taken");
        is(set(vp, name, interruption(7, 2, false, 0), 0), HV_STATUS_INVALID_REGISTER_VALUE,
           "a type that nobody knows");
        is(set(vp, name, interruption(HV_INTERRUPTION_EXCEPTION, 40, false, 0), 0),
           HV_STATUS_INVALID_REGISTER_VALUE, "an exception with an interrupt's vector");
        is(set(vp, name, 1 | 1 << 10, 0), HV_STATUS_INVALID_REGISTER_VALUE, "a reserved bit");
        ok(job_busy(vp), "VP %u: goes on as before", vp);
        is(set(vp, name, interruption(HV_INTERRUPTION_EXCEPTION, VECTOR_GP, true, 0x77), 0), 0,
           "an exception");
        is(job_wait(vp, "the exception"), VECTOR_GP, "taken");
        is(victims[vp].fault.error, 0x77, "with its error code");
        is(victims[vp].sent, 1, "the interrupt came once");
        is(victims[vp].nmis, 1, "and so did the NMI");
}

static void test_interrupt_state(unsigned vp) {
        const uint32_t name = HV_REGISTER_INTERRUPT_STATE;

        begin(vp, LOOPING);
        is(get(vp, name), 0, "VP %u: nothing is masked", vp);
        victims[vp].nmi_stays = true;
        apic_send(vp, APIC_ICR_NMI);
        ok(spin_for(&victims[vp].nmis, 1, LONG_MS), "in its NMI handler");
        is(get(vp, name), HV_INTERRUPT_STATE_NMI_MASKED, "NMIs are masked");
        victims[vp].nmi_stays = false;
        for (unsigned ms = 0; get(vp, name) != 0 && ms < LONG_MS; ms++)
                spin_ms(1);
        is(get(vp, name), 0, "and not after it");

        is(set(vp, name, HV_INTERRUPT_STATE_NMI_MASKED, 0), 0, "VP %u: NMIs masked from outside",
           vp);
        is(get(vp, name), HV_INTERRUPT_STATE_NMI_MASKED, "reads back");
        apic_send(vp, APIC_ICR_NMI);
        spin_ms(5);
        is(victims[vp].nmis, 1, "an NMI waits");
        is(set(vp, name, 0, 0), 0, "until they are no longer");
        ok(spin_for(&victims[vp].nmis, 2, LONG_MS), "then it is taken");
        is(set(vp, name, 4, 0), HV_STATUS_INVALID_REGISTER_VALUE, "a reserved bit");
        victims[vp].leave = true;
        is(job_wait(vp, "the end"), VECTOR_NONE, "VP %u: went on as before", vp);
}

/* Whether the loop makes turns */
static bool moves(unsigned vp) {
        unsigned from = victims[vp].turns;

        return spin_for(&victims[vp].turns, from + 1000, 50);
}

static void test_activity(unsigned vp) {
        const uint32_t name = HV_REGISTER_INTERNAL_ACTIVITY_STATE;
        static const uint64_t states[] = { HV_ACTIVITY_HALT_SUSPEND, HV_ACTIVITY_STARTUP_SUSPEND };

        begin(vp, LOOPING);
        for (unsigned i = 0; i < ELEMENTSOF(states); i++) {
                is(set(vp, name, states[i], 0), 0, "VP %u: activity %lu", vp, states[i]);
                ok(!moves(vp), "stops it");
                is(get(vp, name), states[i], "reads back");
                is(set(vp, name, 0, 0), 0, "activity 0");
                ok(spin_for(&victims[vp].turns, victims[vp].turns + 1000, LONG_MS),
                   "makes it go on");
        }
        is(set(vp, name, 1ull << 40, 0), HV_STATUS_INVALID_REGISTER_VALUE,
           "an activity that nobody knows");
        victims[vp].leave = true;
        is(job_wait(vp, "the end"), VECTOR_NONE, "VP %u: went on as before", vp);
}

/* ---- An interrupt whose delivery VTL1 has stopped is still to be seen ---- */

static volatile bool stopped, may_go_on;

static void stop_delivery(struct hv_message *m, struct gprs *g) {
        const struct hv_memory_intercept *i = (const void *) m->payload;
        uint64_t gpn = i->gpa >> HV_PAGE_SHIFT;

        stopped = true;
        while (!may_go_on)
                cpu_relax();
        hv_modify_mask(HV_MAP_GPA_ALL, VTL_SELF, &gpn, 1);
}

static uint64_t interrupt_here(uint64_t vp) {
        apic_write(APIC_ICR + 0x10, (uint32_t) vp << 24);
        probe_event((void *) (STACK_PAGE + HV_PAGE_SIZE),
                    (volatile uint32_t *) (XAPIC_BASE + APIC_ICR), APIC_ICR_FIXED | VECTOR_IPI);
        return 0;
}

static void on_ipi(struct trap_frame *f) {
        victims[this_cpu()->index].sent++;
        apic_eoi();
}

static void test_in_delivery(unsigned vp) {
        void (*handler)(struct hv_message *, struct gprs *) = vtl1_on_intercept;

        if (!cmdline_number("precise", 0)) {
                skip("faults are imprecise on this host", "an interrupt in delivery");
                return;
        }
        memset(&victims[vp], 0, sizeof(victims[vp]));
        stopped = may_go_on = false;
        irq_set(VECTOR_IPI, on_ipi);
        is(HV_RESULT_STATUS(protect(STACK_PAGE, 1, HV_MAP_GPA_READABLE)), 0,
           "VP %u: an interrupt on a closed stack", vp);
        vtl1_on_intercept = stop_delivery;
        job_start(vp, interrupt_here, vp);
        ok(comes(&stopped), "VP %u: intercepted by its VTL1", vp);
        is(get(vp, HV_REGISTER_PENDING_INTERRUPTION),
           interruption(HV_INTERRUPTION_INTERRUPT, VECTOR_IPI, false, 0),
           "VP 0's VTL1 sees the interrupt pending in VTL0");
        may_go_on = true;
        job_wait(vp, "the interrupt");
        is(victims[vp].sent, 1, "VTL0 takes it, once");
        is(get(vp, HV_REGISTER_PENDING_INTERRUPTION), 0, "then nothing is pending");
        vtl1_on_intercept = handler;
}

void guest_main(void) {
        unsigned n = cpu_count();

        if (n < 2)
                skip_all("one CPU");
        vsm_protect();
        tsc_per_ms();
        irq_set(VECTOR_SENT, on_sent);
        irq_set(VECTOR_NMI, on_nmi);
        for (unsigned i = 1; i < n; i++)
                job_open_vtl1(i);
        for (enum where where = LOOPING; where <= CALLING; where++)
                test_exceptions(1 + where % (n - 1), where);
        test_changed_mind(n - 1);
        test_all(n);
        test_interruption(n - 1);
        test_interrupt_state(n - 1);
        test_activity(n - 1);
        test_in_delivery(n - 1);
}
