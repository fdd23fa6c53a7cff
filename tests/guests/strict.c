/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Strict execute mode: pages that VTL1 made readable and not executable are not executed by VTL0,
 * and all its other accesses to them come right. Command line: cpus= others that try to fetch from
 * the page all the while. Precise hosts only, with strict-execute-pages=64.
 */
#include "lib/probes.h"

#define DATA WINDOW_PAGE(20)
#define DATA2 WINDOW_PAGE(21)
#define SOURCE WINDOW_PAGE(28)
#define STACK_PAGE WINDOW_PAGE(24)
#define SURPLUS WINDOW_PAGE(100)
#define VALUE 0x1122334455667788ull
#define RW_NX (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)
#define RET 0xc3
#define STRICT_PAGES 64
#define ROUNDS 200

static void close_page(uint64_t gpa, uint32_t flags) {
        if (HV_RESULT_STATUS(protect(gpa, 1, flags)) != 0)
                bail_out("cannot protect GPA 0x%lx", gpa);
}

static void test_data(void) {
        poke64(DATA + 8, VALUE);
        close_page(DATA, RW_NX);
        plan_start(PLAN_OPEN);
        is(probe_load((void *) (DATA + 8)), VALUE, "a load gets the value");
        probe_store((void *) (DATA + 16), VALUE + 1);
        is(peek64(DATA + 16), VALUE + 1, "a store is done");
        probe_lock_add((void *) (DATA + 16), 2);
        is(peek64(DATA + 16), VALUE + 3, "a locked addition, too");
        is(vtl1_run(vtl1_peek, DATA + 16), VALUE + 3, "VTL1 sees it");
        is(plan.count, 0, "without an intercept");
}

static void test_two_pages(void) {
        close_page(DATA2, RW_NX);
        plan_start(PLAN_OPEN);
        probe_store((void *) (DATA2 - 4), VALUE);
        is(peek64(DATA2 - 4), VALUE, "a store over the end of one into the other");
        for (unsigned i = 0; i < 16; i++)
                poke64(SOURCE + 8 * i, VALUE + i);
        close_page(SOURCE, RW_NX);
        probe_rep_movs((void *) (DATA2 - 64), (void *) SOURCE, 16);
        is(memcmp((void *) (DATA2 - 64), (void *) SOURCE, 128), 0,
           "REP MOVS from one into two others");
        is(plan.count, 0, "two pages: no intercept");
        close_page(SOURCE, HV_MAP_GPA_ALL);
        close_page(DATA2, HV_MAP_GPA_ALL);
}

static void test_read_only(void) {
        struct expected e = { .insn = (uint64_t) probe_store_insn,
                              .next = (uint64_t) probe_store_next,
                              .gpa = DATA2 + 8,
                              .gva = DATA2 + 8,
                              .access = HV_INTERCEPT_ACCESS_WRITE };

        poke64(DATA2 + 8, VALUE);
        close_page(DATA2, HV_MAP_GPA_READABLE);
        plan_start(PLAN_SKIP);
        is(probe_load((void *) (DATA2 + 8)), VALUE, "read-only: a load gets the value");
        is(plan.count, 0, "read-only: no intercept for it");
        probe_store((void *) (DATA2 + 8), 0);
        check_intercept(0, &e, "read-only: a store");
        is(peek64(DATA2 + 8), VALUE, "read-only: nothing is written");
        close_page(DATA2, HV_MAP_GPA_ALL);
}

static void test_fetch(void) {
        struct expected e = { .insn = DATA + 0x123,
                              .gpa = DATA + 0x123,
                              .gva = DATA + 0x123,
                              .access = HV_INTERCEPT_ACCESS_EXECUTE };

        *(volatile uint8_t *) (DATA + 0x123) = RET;
        plan_start(PLAN_OPEN);
        probe_fetch((void *) (DATA + 0x123));
        is(plan.count, 1, "a fetch is intercepted once");
        check_intercept(0, &e, "fetch");
        ok(true, "and executed when VTL1 has opened the page");
        plan_start(PLAN_SKIP);
        probe_fetch((void *) (DATA + 0x123));
        is(plan.count, 0, "an open page is executed");
        close_page(DATA, RW_NX);
        plan_start(PLAN_OPEN);
        is(probe_load((void *) (DATA + 8)), VALUE, "closed again: a load");
        probe_fetch((void *) (DATA + 0x123));
        is(plan.count, 1, "closed again: a fetch is intercepted");
        close_page(DATA, RW_NX);
}

/* KVM steps by RFLAGS.TF: the guest must not see it. */
static void test_flags(void) {
        uint64_t top = STACK_PAGE + 0x800, image = 0, after = 0;

        close_page(STACK_PAGE, RW_NX);
        plan_start(PLAN_OPEN);
        __asm__ volatile("movq %%rsp, %%r12; movq %2, %%rsp; pushfq; popq %0; pushfq; popfq;"
                         "movq %%r12, %%rsp; pushfq; popq %1"
                         : "=&r"(image), "=&r"(after)
                         : "r"(top)
                         : "r12", "memory", "cc");
        is(image & 0x100, 0, "PUSHF: no trap flag in the image");
        is(after & 0x100, 0, "POPF: nor in RFLAGS");
        is(plan.count, 0, "flags: no intercept");
}

static volatile unsigned events;

static void on_ipi(struct trap_frame *f) {
        events++;
        ok(!(f->rflags & 0x100), "interrupt: no trap flag in its frame");
        apic_eoi();
}

/* Events that are delivered on a strict stack, and exceptions of a stepped instruction */
static void test_delivery(void) {
        uint64_t top = STACK_PAGE + HV_PAGE_SIZE;
        struct fault f;

        plan_start(PLAN_OPEN);
        f = fault_of(probe_ud((void *) top));
        is(f.vector, VECTOR_UD, "#UD on a strict stack: delivered");
        is(f.rip, (uint64_t) probe_ud_insn, "#UD on a strict stack: at its instruction");
        f = fault_of(probe_int3((void *) top));
        is(f.vector, 3, "INT3 on a strict stack: delivered");
        is(f.rip, (uint64_t) probe_int3_next, "INT3 on a strict stack: with RIP behind it");

        f = fault_of(probe_rep_movs((void *) (DATA + 0x400), (void *) 0xffffffff80000000ull, 1));
        is(f.vector, VECTOR_PF, "an exception of an instruction with a strict operand");
        /* Destination strict, source fine, divide error from a strict operand */
        poke64(DATA + 0x500, 0);
        f = fault_of(__asm__ volatile("xorl %%edx, %%edx; movl $1, %%eax; movq %1, %%rsp; divl (%0)"
                                      :
                                      : "r"(DATA + 0x500), "r"(top)
                                      : "rax", "rdx", "cc", "memory"));
        is(f.vector, 0, "#DE after reading a strict operand");
        is(f.rflags & 0x102, 0x2, "no trap flag in its frame");
        is(plan.count, 0, "events: no intercept");
        /* The page is not open behind the exception. */
        *(volatile uint8_t *) (DATA + 0x123) = RET;
        probe_fetch((void *) (DATA + 0x123));
        is(plan.count, 1, "and behind it a fetch is intercepted");
        close_page(DATA, RW_NX);
}

/* An interrupt that is pending during the step comes behind it. */
static void test_pending(void) {
        irq_set(0x51, on_ipi);
        plan_start(PLAN_OPEN);
        events = 0;
        apic_send(this_cpu()->index, APIC_ICR_FIXED | 0x51);
        __asm__ volatile("sti; nop; movq %%rax, (%0); movq %%rax, 8(%0); cli"
                         :
                         : "r"(DATA + 0x600)
                         : "memory");
        is(events, 1, "an interrupt with stepped instructions around it");
        is(plan.count, 0, "interrupt: no intercept");
}

static void test_surplus(void) {
        poke64(SURPLUS, VALUE);
        /* Two are covered already. */
        is(HV_RESULT_STATUS(protect(SURPLUS, STRICT_PAGES + 8, RW_NX)), 0,
           "more pages than there is room for");
        plan_start(PLAN_OPEN);
        is(probe_load((void *) SURPLUS), VALUE, "the first can be read");
        *(volatile uint8_t *) (SURPLUS + 8) = RET;
        probe_fetch((void *) (SURPLUS + 8));
        is(plan.count, 1, "and not executed");
        plan_start(PLAN_OPEN);
        *(volatile uint8_t *) (SURPLUS + (STRICT_PAGES + 7) * HV_PAGE_SIZE) = RET;
        probe_fetch((void *) (SURPLUS + (STRICT_PAGES + 7) * HV_PAGE_SIZE));
        is(plan.count, 0, "the last is not enforced");
        is(HV_RESULT_STATUS(protect(SURPLUS, STRICT_PAGES + 8, HV_MAP_GPA_ALL)), 0, "and back");
}

static volatile bool over;
static volatile unsigned fetches[MAX_CPUS], intercepted[MAX_CPUS];

/* Each fetch must be told to VTL1, which sends it on behind the RET. */
static void count_fetch(struct hv_message *m, struct gprs *g) {
        const struct hv_memory_intercept *i = (const void *) m->payload;
        unsigned cpu = this_cpu()->index;

        if (i->header.access_type == HV_INTERCEPT_ACCESS_EXECUTE)
                intercepted[cpu]++;
        vtl1_do_ret();
}

static uint64_t fetch_on(uint64_t arg) {
        unsigned cpu = this_cpu()->index;

        while (!over) {
                fetches[cpu]++;
                probe_fetch((void *) (DATA + 0x123));
        }
        return 0;
}

static void test_others(unsigned n_cpus) {
        unsigned n = 0;

        if (n_cpus < 2)
                return;
        for (unsigned i = 1; i < n_cpus; i++)
                job_open_vtl1(i);
        *(volatile uint8_t *) (DATA + 0x123) = RET;
        vtl1_on_intercept = count_fetch;
        for (unsigned i = 1; i < n_cpus; i++)
                job_start(i, fetch_on, 0);
        for (unsigned i = 0; i < ROUNDS; i++) {
                probe_store((void *) (DATA + 0x700), VALUE + i);
                n += probe_load((void *) (DATA + 0x700)) == VALUE + i;
        }
        over = true;
        for (unsigned i = 1; i < n_cpus; i++)
                job_wait(i, "fetching");
        is(n, ROUNDS, "accesses with others in between");
        for (unsigned i = 1; i < n_cpus; i++) {
                ok(fetches[i] > 0, "CPU %u tried to fetch %u times", i, fetches[i]);
                is(intercepted[i], fetches[i], "CPU %u: each was intercepted", i);
        }
}

static void measure(void) {
        uint64_t start, step, call;

        start = rdtsc();
        for (unsigned i = 0; i < ROUNDS; i++)
                probe_store((void *) (DATA + 0x700), i);
        step = rdtsc() - start;
        start = rdtsc();
        for (unsigned i = 0; i < ROUNDS; i++)
                vtl1_run(vtl1_peek, DATA);
        call = rdtsc() - start;
        print("# a stepped store: %lu ns, %lu/100 of a VTL call and return\n",
              step * 1000000 / tsc_per_ms() / ROUNDS, step * 100 / call);
}

void guest_main(void) {
        if (!cmdline_number("precise", 0))
                skip_all("faults are imprecise on this host");
        vsm_protect();
        test_data();
        test_two_pages();
        test_read_only();
        test_fetch();
        test_flags();
        test_delivery();
        test_pending();
        test_surplus();
        measure();
        test_others((unsigned) cmdline_number("cpus", 1));
}
