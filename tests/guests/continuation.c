/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rep calls that are interrupted (vsm.md 2.7): the caller's instruction is issued again with the
 * index where to go on, and interrupts come in between, to either level. Whatever happened, a list
 * is done once, whole and right.
 * Command line: rounds=N, until=N: at most so many rounds to see a call interrupted.
 */
#include "lib/hv.h"

#define MS 10000ull /* of the reference time */
#define VECTOR_TICK 0x61
#define VECTOR_VTL0 0x62
#define PAGES 510u
#define NAMES 255u /* a page of values, but one */
#define STIMER_DIRECT(vector) (1ull << 12 | (uint64_t) (vector) << 4)
#define STIMER_PERIODIC 2ull
#define PERIOD (5 * MS)

/* What interrupts found: the caller at its instruction, to go on at an index. */
static volatile unsigned ticks[2], continued[2], wrong_place;
static unsigned last_index;
static uint64_t control; /* of the call that is made */

/* VTL1 does not see VTL0's page, but one that is the same. */
static void look_at(uint64_t rip, uint64_t rcx, unsigned vtl) {
        uint64_t page = cpus[vtl][this_cpu()->index].hypercall_entry;
        const uint8_t *insn = (const uint8_t *) this_cpu()->hypercall_entry + (rip - page);
        unsigned index = (unsigned) (rcx >> HV_CONTROL_REP_START_SHIFT & HV_CONTROL_REP_MASK);

        if (rip < page || rip >= page + HV_PAGE_SIZE || *insn != 0xe6 ||
            (rcx & 0xffff) != (control & 0xffff))
                return;
        /* Only the index has changed, and that only upwards. */
        wrong_place += (rcx & ~(HV_CONTROL_REP_MASK << HV_CONTROL_REP_START_SHIFT)) != control ||
                       index < last_index ||
                       index >= (control >> HV_CONTROL_REP_COUNT_SHIFT & HV_CONTROL_REP_MASK);
        continued[vtl] += index > 0;
        last_index = index;
}

static void on_tick(struct trap_frame *f) {
        apic_eoi();
        ticks[this_cpu()->vtl]++;
        if (this_cpu()->vtl == 1)
                look_at(f->rip, f->rcx, 1);
}

/* VTL0's own timer */
static void on_vtl0(struct trap_frame *f) {
        apic_eoi();
        ticks[this_cpu()->vtl]++;
        look_at(f->rip, f->rcx, 0);
}

static void begin_call(uint64_t c) {
        control = c;
        last_index = 0;
}

static void forget(void) {
        ticks[0] = ticks[1] = continued[0] = continued[1] = wrong_place = 0;
}

/* ---- VTL1's side ---- */

static uint64_t vtl1_timer(uint64_t period) {
        wrmsr(HV_MSR_STIMER0_CONFIG, 0);
        if (period == 0)
                return 0;
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, period);
        wrmsr(HV_MSR_STIMER0_CONFIG, STIMER_DIRECT(VECTOR_TICK) | STIMER_PERIODIC | 1);
        return 0;
}

static uint64_t modify_all(uint64_t flags) {
        struct hv_input_modify_mask *in = (void *) this_cpu()->in;

        *in = (struct hv_input_modify_mask){ .partition = HV_PARTITION_ID_SELF,
                                             .flags = (uint32_t) flags };
        for (unsigned i = 0; i < PAGES; i++)
                in->gpn[i] = (WINDOW_PAGE(0) >> HV_PAGE_SHIFT) + (i * 7) % PAGES;
        begin_call(HVCALL_MODIFY_VTL_PROTECTION_MASK | HV_REPS(PAGES));
        return hv_call_memory(control);
}

/* With VTL1's interrupts on */
static uint64_t vtl1_modify(uint64_t flags) {
        uint64_t r;

        irq_on();
        r = modify_all(flags);
        irq_off();
        return r;
}

/* A list of VTL0's LSTAR: each is a register of the vCPU, so it takes a while. */
static uint64_t read_all(uint64_t input_vtl) {
        struct hv_input_registers *in = (void *) this_cpu()->in;
        const union hv_register_value *out = (const void *) this_cpu()->out;
        unsigned bad = 0;

        *in = (struct hv_input_registers){ .partition = HV_PARTITION_ID_SELF,
                                           .vp = HV_VP_INDEX_SELF,
                                           .vtl = (uint8_t) input_vtl };
        for (unsigned i = 0; i < NAMES; i++)
                in->name[i] = i % 2 ? HV_X64_REGISTER_LSTAR : HV_X64_REGISTER_STAR;
        memset(this_cpu()->out, 0xee, HV_PAGE_SIZE);
        begin_call(HVCALL_GET_VP_REGISTERS | HV_REPS(NAMES));
        if (hv_call_memory(control) != HV_REPS(NAMES))
                return 1000;
        for (unsigned i = 0; i < NAMES; i++)
                bad += out[i].low64 != (i % 2 ? 0x1234000 : 0x0018000800000000) ||
                       out[i].high64 != 0;
        bad += out[NAMES].low64 != 0xeeeeeeeeeeeeeeee;
        return bad;
}

static uint64_t vtl1_read(uint64_t input_vtl) {
        uint64_t r;

        irq_on();
        r = read_all(input_vtl);
        irq_off();
        return r;
}

/* VTL1 is entered in the middle of VTL0's call: it looks where VTL0 is. */
static bool watched;

static void vtl1_look_at_vtl0(const struct gprs *g) {
        uint64_t rip;

        if (watched && hv_get(VTL0, HV_X64_REGISTER_RIP, &rip) == HV_STATUS_SUCCESS)
                look_at(rip, g->rcx, 0);
}

/* ---- Tests ---- */

static unsigned page_is_closed(unsigned page) {
        plan_start(PLAN_SKIP);
        __asm__ volatile("movq %0, (%1)" : : "r"(1ull), "r"(WINDOW_PAGE(page)) : "memory");
        return plan.count;
}

static void test_modify(void) {
        uint64_t rounds = cmdline_number("rounds", 10), bad = 0;

        forget();
        vtl1_run(vtl1_timer, PERIOD);
        for (uint64_t i = 0; i < rounds; i++) {
                bad += vtl1_run(vtl1_modify, HV_MAP_GPA_READABLE) != HV_REPS(PAGES);
                bad += page_is_closed(0) != 1 || page_is_closed(PAGES - 1) != 1 ||
                       page_is_closed((unsigned) (i * 37) % PAGES) != 1;
                bad += vtl1_run(vtl1_modify, HV_MAP_GPA_ALL) != HV_REPS(PAGES);
                bad += page_is_closed(0) != 0 || page_is_closed(PAGES - 1) != 0;
        }
        vtl1_run(vtl1_timer, 0);
        is(bad, 0, "%lu times %u pages closed and opened, VTL1's timer on", rounds, PAGES);
        ok(ticks[1] > 0, "its interrupts came: %u, %u in the middle of a call", ticks[1],
           continued[1]);
        is(wrong_place, 0, "never but where the call goes on");
        is(ticks[0], 0, "none in VTL0");
}

static void test_read(void) {
        uint64_t rounds = 0, bad = 0, until = cmdline_number("until", 200);

        forget();
        vtl1_run(vtl1_timer, PERIOD);
        for (; rounds < until && (rounds < 10 || continued[1] == 0); rounds++)
                bad += vtl1_run(vtl1_read, VTL0);
        vtl1_run(vtl1_timer, 0);
        is(bad, 0, "VTL1 reads %u registers of VTL0, %lu times, its timer on", NAMES, rounds);
        ok(continued[1] > 0, "interrupted in the middle: %u of %u times", continued[1], ticks[1]);
        is(wrong_place, 0, "never but where the call goes on");
}

/* VTL0's call, broken into by VTL1's timer, and by its own */
static void test_vtl0_call(void) {
        uint64_t rounds = 0, bad = 0, until = cmdline_number("until", 200);

        forget();
        watched = true;
        irq_set(VECTOR_VTL0, on_vtl0);
        vtl1_run(vtl1_timer, PERIOD);
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, PERIOD + MS);
        wrmsr(HV_MSR_STIMER0_CONFIG, STIMER_DIRECT(VECTOR_VTL0) | STIMER_PERIODIC | 1);
        irq_on();
        for (; rounds < until && (rounds < 10 || continued[0] == 0 || ticks[0] == 0); rounds++)
                bad += read_all(VTL_SELF);
        irq_off();
        wrmsr(HV_MSR_STIMER0_CONFIG, 0);
        vtl1_run(vtl1_timer, 0);
        watched = false;
        is(bad, 0, "VTL0 reads %u registers of itself, %lu times, both levels' timers on", NAMES,
           rounds);
        ok(continued[0] > 0, "VTL1 or VTL0's own interrupt in the middle: %u times", continued[0]);
        is(wrong_place, 0, "never but where the call goes on");
        ok(ticks[0] > 0 && ticks[1] > 0, "interrupts in both levels: %u and %u", ticks[0],
           ticks[1]);
}

/* ---- Two VPs, whose calls get in each other's way ---- */

static uint64_t modify_and_back(uint64_t rounds) {
        unsigned bad = 0;

        for (uint64_t i = 0; i < rounds; i++) {
                struct hv_input_modify_mask *in = (void *) this_cpu()->in;
                uint64_t flags = i % 2 ? HV_MAP_GPA_ALL : HV_MAP_GPA_READABLE;

                *in = (struct hv_input_modify_mask){ .partition = HV_PARTITION_ID_SELF,
                                                     .flags = (uint32_t) flags };
                for (unsigned j = 0; j < 200; j++)
                        in->gpn[j] =
                                (WINDOW_PAGE(0) >> HV_PAGE_SHIFT) + 2 * j + this_cpu()->index % 2;
                bad += hv_call_memory(HVCALL_MODIFY_VTL_PROTECTION_MASK | HV_REPS(200)) !=
                       HV_REPS(200);
        }
        return bad;
}

static void test_two(unsigned n) {
        uint64_t rounds = 2 * cmdline_number("rounds", 10), bad;

        for (unsigned i = 1; i < n; i++)
                job_start_vtl1(i, modify_and_back, rounds);
        bad = vtl1_run(modify_and_back, rounds);
        for (unsigned i = 1; i < n; i++)
                bad += job_wait(i, "its changes");
        is(bad, 0, "%u VPs change the rights of 200 pages each, %lu times at once", n, rounds);
        is(page_is_closed(0) + page_is_closed(1) + page_is_closed(398) + page_is_closed(399), 0,
           "all of them are open at the end");
}

void guest_main(void) {
        unsigned n = cpu_count();

        vsm_protect();
        tsc_per_ms();
        wrmsr(MSR_LSTAR, 0x1234000);
        wrmsr(MSR_STAR, 0x0018000800000000);
        irq_set(VECTOR_TICK, on_tick);
        vtl1_on_interrupt = vtl1_look_at_vtl0;
        test_modify();
        test_read();
        test_vtl0_call();
        if (n > 1) {
                for (unsigned i = 1; i < n; i++)
                        job_open_vtl1(i);
                test_two(n);
        }
}
