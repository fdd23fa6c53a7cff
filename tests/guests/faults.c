/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Accesses that no operand names: page walks, event delivery, stacks, strings, straddling operands.
 * Each must be reported with its own GPA, GVA and kind, and must come right once VTL1 has opened
 * the page. Precise hosts only.
 */
#include "lib/probes.h"

#define TABLE_PDPT WINDOW_PAGE(16)
#define TABLE_PD WINDOW_PAGE(17)
#define TABLE_PT WINDOW_PAGE(18)
#define TARGET WINDOW_PAGE(20)
#define TARGET2 WINDOW_PAGE(21)
#define STACK_PAGE WINDOW_PAGE(24)
#define SOURCE WINDOW_PAGE(28)
#define ALIAS 0x8000000000ull /* PML4 entry 1: mapped by the tables above */
#define VALUE 0x1122334455667788ull

static void close_page(uint64_t gpa, uint32_t flags) {
        if (HV_RESULT_STATUS(protect(gpa, 1, flags)) != 0)
                bail_out("cannot protect GPA 0x%lx", gpa);
}

/* Page walks */

static void build_tables(uint64_t pte_bits) {
        uint64_t *pt = (uint64_t *) TABLE_PT;

        memset((void *) TABLE_PDPT, 0, 3 * HV_PAGE_SIZE);
        boot_pml4[1] = TABLE_PDPT | PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED;
        poke64(TABLE_PDPT, TABLE_PD | PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED);
        poke64(TABLE_PD, TABLE_PT | PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED);
        for (unsigned i = 0; i < 8; i++)
                pt[i] = (TARGET + i * HV_PAGE_SIZE) | PTE_PRESENT | PTE_WRITE | PTE_USER | pte_bits;
        write_cr3(read_cr3());
}

static void test_walk(uint64_t pte_bits, uint32_t flags, enum hv_intercept_access access,
                      const char *what) {
        uint64_t va = ALIAS + 3 * HV_PAGE_SIZE + 0x18;
        struct expected e = { .insn = (uint64_t) probe_load_insn,
                              .next = (uint64_t) probe_load_next,
                              .gpa = TABLE_PT + 3 * 8,
                              .gva = va,
                              .access = access };

        build_tables(pte_bits);
        poke64(TARGET + 3 * HV_PAGE_SIZE + 0x18, VALUE);
        close_page(TABLE_PT, flags);
        plan_start(PLAN_OPEN);
        is(probe_load((void *) va), VALUE, "%s: the load is done in the end", what);
        is(plan.count, 1, "%s: after one intercept", what);
        check_intercept(0, &e, what);
        close_page(TABLE_PT, HV_MAP_GPA_ALL);
}

/* A table further up: the entry of that table is what is reported. */
static void test_walk_upper(void) {
        uint64_t va = ALIAS + 2 * HV_PAGE_SIZE;
        struct expected e = { .insn = (uint64_t) probe_store_insn,
                              .next = (uint64_t) probe_store_next,
                              .gpa = TABLE_PD,
                              .gva = va,
                              .access = HV_INTERCEPT_ACCESS_READ };

        build_tables(0);
        close_page(TABLE_PD, 0);
        plan_start(PLAN_OPEN);
        probe_store((void *) va, VALUE);
        is(peek64(TARGET + 2 * HV_PAGE_SIZE), VALUE,
           "closed page directory: the store is done in the end");
        check_intercept(0, &e, "closed page directory");
        is(peek64(TABLE_PT + 2 * 8) & (PTE_ACCESSED | PTE_DIRTY), PTE_ACCESSED | PTE_DIRTY,
           "and A and D are set");
}

/* A fetch needs the page walk as well. */
static void test_walk_fetch(void) {
        uint64_t va = ALIAS + 4 * HV_PAGE_SIZE + 0x20;
        const struct hv_memory_intercept *i = &plan.log[0];

        build_tables(PTE_ACCESSED | PTE_DIRTY);
        *(volatile uint8_t *) (TARGET + 4 * HV_PAGE_SIZE + 0x20) = 0xc3;
        close_page(TABLE_PT, 0);
        plan_start(PLAN_OPEN);
        probe_fetch((void *) va);
        is(plan.count, 1, "fetch through a closed page table: intercepted");
        is(i->gpa, TABLE_PT + 4 * 8, "fetch through a closed page table: GPA");
        is(i->gva, va, "fetch through a closed page table: GVA");
        is(i->header.access_type, HV_INTERCEPT_ACCESS_READ,
           "fetch through a closed page table: access type");
        is(i->header.rip, va, "fetch through a closed page table: RIP");
}

/* An alias of a closed page: GVA and GPA differ. */
static void test_alias(void) {
        uint64_t va = ALIAS + HV_PAGE_SIZE + 0x700;
        struct expected e = { .insn = (uint64_t) probe_store_insn,
                              .next = (uint64_t) probe_store_next,
                              .gpa = TARGET2 + 0x700,
                              .gva = va,
                              .access = HV_INTERCEPT_ACCESS_WRITE };

        build_tables(PTE_ACCESSED | PTE_DIRTY);
        close_page(TARGET2, HV_MAP_GPA_READABLE);
        plan_start(PLAN_SKIP);
        probe_store((void *) va, VALUE);
        check_intercept(0, &e, "store through an alias");
        close_page(TARGET2, HV_MAP_GPA_ALL);
}

/* Stacks, strings, operands over a page's end */

static void test_push(void) {
        uint64_t top = STACK_PAGE + 0x400;
        struct expected e = { .insn = (uint64_t) probe_push_insn,
                              .next = (uint64_t) probe_push_next,
                              .gpa = top - 8,
                              .gva = top - 8,
                              .access = HV_INTERCEPT_ACCESS_WRITE };

        poke64(top - 8, 0);
        close_page(STACK_PAGE, HV_MAP_GPA_READABLE);
        plan_start(PLAN_OPEN);
        probe_push((void *) top, VALUE);
        check_intercept(0, &e, "push");
        is(peek64(top - 8), VALUE, "push: done in the end");
        is(plan.count, 1, "push: after one intercept");

        close_page(STACK_PAGE, 0);
        plan_start(PLAN_OPEN);
        probe_call((void *) top);
        e.insn = (uint64_t) probe_call_insn;
        e.next = (uint64_t) probe_call_next;
        check_intercept(0, &e, "call");
        is(peek64(top - 8), (uint64_t) probe_call_next,
           "call: the return address is there in the end");
}

static void test_rep_movs(void) {
        uint64_t to = TARGET2 - 24;
        struct expected e = { .insn = (uint64_t) probe_rep_movs_insn,
                              .next = (uint64_t) probe_rep_movs_next,
                              .gpa = TARGET2,
                              .gva = TARGET2,
                              .access = HV_INTERCEPT_ACCESS_WRITE };

        for (unsigned i = 0; i < 8; i++) {
                poke64(SOURCE + 8 * i, VALUE + i);
                poke64(to + 8 * i, 0);
        }
        close_page(TARGET2, HV_MAP_GPA_READABLE);
        plan_start(PLAN_OPEN);
        probe_rep_movs((void *) to, (void *) SOURCE, 8);
        check_intercept(0, &e, "rep movs into the next page");
        is(plan.count, 1, "rep movs: one intercept");
        is(plan.log[0].rcx, 5, "rep movs: RCX at the element");
        is(plan.log[0].rdi, TARGET2, "rep movs: RDI at the element");
        is(memcmp((void *) to, (void *) SOURCE, 64), 0, "rep movs: done in the end");

        close_page(SOURCE, 0);
        plan_start(PLAN_OPEN);
        probe_rep_movs((void *) to, (void *) SOURCE, 8);
        e.gpa = e.gva = SOURCE;
        e.access = HV_INTERCEPT_ACCESS_READ;
        check_intercept(0, &e, "rep movs from a closed page");
}

static void test_straddle(void) {
        uint64_t to = TARGET2 - 4;
        struct expected e = { .insn = (uint64_t) probe_store_insn,
                              .next = (uint64_t) probe_store_next,
                              .gpa = TARGET2,
                              .gva = TARGET2,
                              .access = HV_INTERCEPT_ACCESS_WRITE };

        *(volatile uint32_t *) to = 0;
        close_page(TARGET2, HV_MAP_GPA_READABLE);
        plan_start(PLAN_SKIP);
        probe_store((void *) to, VALUE);
        check_intercept(0, &e, "store over a page's end");
        is(*(volatile uint32_t *) to, 0, "its first half is not done");
        plan_start(PLAN_OPEN);
        probe_store((void *) to, VALUE);
        is(*(volatile uint32_t *) to, (uint32_t) VALUE, "first half, in the end");
        is(*(volatile uint32_t *) (to + 4), VALUE >> 32, "second half, in the end");

        /* The same with the first page closed */
        close_page(TARGET, HV_MAP_GPA_READABLE);
        plan_start(PLAN_SKIP);
        probe_store((void *) to, 0);
        e.gpa = e.gva = to;
        check_intercept(0, &e, "store over a page's end, first page closed");
        close_page(TARGET, HV_MAP_GPA_ALL);
}

/* Five bytes of MOV EAX, imm32 and RET, three of them in the closed page */
static void test_straddling_fetch(void) {
        static const uint8_t code[] = { 0xb8, 0x78, 0x56, 0x34, 0x12, 0xc3 };
        const struct hv_memory_intercept *i = &plan.log[0];
        uint64_t at = TARGET2 - 2;

        memcpy((void *) at, code, sizeof(code));
        close_page(TARGET2, 0);
        plan_start(PLAN_OPEN);
        probe_fetch((void *) at);
        is(plan.count, 1, "fetch over a page's end: one intercept");
        is(i->header.access_type, HV_INTERCEPT_ACCESS_EXECUTE,
           "fetch over a page's end: access type");
        is(i->gpa >> HV_PAGE_SHIFT, TARGET2 >> HV_PAGE_SHIFT,
           "fetch over a page's end: the second page");
        is(i->header.rip, at, "fetch over a page's end: RIP at the start");
}

/* Instructions that touch more than they name */

static void test_segment_load(void) {
        struct table_pointer old = read_gdtr(), new = { .limit = old.limit, .base = SOURCE };
        struct expected e = { .insn = (uint64_t) probe_load_segment_insn,
                              .next = (uint64_t) probe_load_segment_next,
                              .gpa = SOURCE + KERNEL_DS,
                              .gva = SOURCE + KERNEL_DS,
                              .access = HV_INTERCEPT_ACCESS_READ };

        close_page(SOURCE, HV_MAP_GPA_ALL);
        memcpy((void *) SOURCE, (void *) old.base, old.limit + 1);
        poke64(SOURCE + KERNEL_DS, peek64(SOURCE + KERNEL_DS) | 1ull << 40); /* accessed */
        write_gdtr(new);
        close_page(SOURCE, 0);
        plan_start(PLAN_OPEN);
        probe_load_segment(KERNEL_DS);
        check_intercept(0, &e, "segment load from a closed GDT");
        is(plan.count, 1, "segment load from a closed GDT: one intercept");
        write_gdtr(old);
}

static void test_descriptor_store(void) {
        struct table_pointer now = read_gdtr();
        struct expected e = { .insn = (uint64_t) probe_sgdt_insn,
                              .next = (uint64_t) probe_sgdt_next,
                              .gpa = TARGET2,
                              .gva = TARGET2,
                              .access = HV_INTERCEPT_ACCESS_WRITE };

        close_page(TARGET2, HV_MAP_GPA_READABLE);
        plan_start(PLAN_OPEN);
        probe_sgdt((void *) (TARGET2 - 4)); /* 10 bytes, the last six in the closed page */
        check_intercept(0, &e, "SGDT over a page's end");
        is(memcmp((void *) (TARGET2 - 4), &now, sizeof(now)), 0, "SGDT: done in the end");
}

static void test_cmpxchg16b(void) {
        struct expected e = { .insn = (uint64_t) probe_cmpxchg16b_insn,
                              .next = (uint64_t) probe_cmpxchg16b_next,
                              .gpa = TARGET + 0x60,
                              .gva = TARGET + 0x60,
                              .access = HV_INTERCEPT_ACCESS_WRITE };

        poke64(TARGET + 0x60, 0);
        poke64(TARGET + 0x68, 0);
        close_page(TARGET, HV_MAP_GPA_READABLE);
        plan_start(PLAN_OPEN);
        probe_cmpxchg16b((void *) (TARGET + 0x60));
        check_intercept(0, &e, "CMPXCHG16B");
        is(peek64(TARGET + 0x60) << 32 | peek64(TARGET + 0x68), 0x11ull << 32 | 0x22,
           "CMPXCHG16B: done in the end");
}

static void test_iret(void) {
        uint64_t *frame = (uint64_t *) (STACK_PAGE + 0x800);
        struct expected e = { .insn = (uint64_t) probe_iret_insn,
                              .next = (uint64_t) probe_iret_next,
                              .gpa = (uint64_t) frame,
                              .gva = (uint64_t) frame,
                              .access = HV_INTERCEPT_ACCESS_READ };

        close_page(STACK_PAGE, HV_MAP_GPA_ALL);
        frame[0] = (uint64_t) probe_iret_next;
        frame[1] = KERNEL_CS;
        frame[2] = RFLAGS_FIXED;
        frame[3] = (uint64_t) frame;
        frame[4] = KERNEL_DS;
        close_page(STACK_PAGE, 0);
        plan_start(PLAN_OPEN);
        probe_iret(frame);
        check_intercept(0, &e, "IRET from a closed stack");
        is(plan.count, 1, "IRET from a closed stack: one intercept");
}

/* At CPL 3: the message says so, and the way to CPL 0 has its own accesses. */
static void test_user(void) {
        uint64_t entry = (uint64_t) probe_user_load, rsp = WINDOW_PAGE(31), stack0;
        const struct hv_memory_intercept *i = &plan.log[0];
        struct cpu *c = this_cpu();
        struct expected e = { .insn = (uint64_t) probe_user_load_insn,
                              .next = (uint64_t) probe_user_load_next,
                              .gpa = TARGET,
                              .gva = TARGET,
                              .access = HV_INTERCEPT_ACCESS_READ };
        struct fault f;

        close_page(TARGET, 0);
        plan_start(PLAN_OPEN);
        f = fault_of(user_enter(entry, rsp, RFLAGS_FIXED, TARGET));
        check_intercept(0, &e, "load at CPL 3");
        is(i->header.execution_state & HV_EXEC_STATE_CPL_MASK, 3, "load at CPL 3: CPL");
        is(i->header.cs.selector & 3, 3, "load at CPL 3: CS");
        is(f.rip, (uint64_t) probe_user_load_next, "load at CPL 3: done in the end");

        stack0 = c->tss.rsp[0];
        c->tss.rsp[0] = STACK_PAGE + HV_PAGE_SIZE;
        close_page(STACK_PAGE, HV_MAP_GPA_READABLE);
        plan_start(PLAN_OPEN);
        f = fault_of(user_enter(entry, rsp, RFLAGS_FIXED, TARGET));
        is(plan.count, 1, "#UD at CPL 3, stack of CPL 0 closed: intercepted");
        is(i->gpa & ~0xfffull, STACK_PAGE, "#UD at CPL 3, stack of CPL 0 closed: GPA");
        is(i->header.access_type, HV_INTERCEPT_ACCESS_WRITE,
           "#UD at CPL 3, stack of CPL 0 closed: access type");
        is(f.vector, VECTOR_UD, "#UD at CPL 3, stack of CPL 0 closed: delivered");
        c->tss.rsp[0] = stack0;
}

/* Event delivery: RIP is innocent, the event must not be lost */

static volatile unsigned events;

static void on_ipi(struct trap_frame *f) {
        events++;
        apic_eoi();
}

static void on_nmi(struct trap_frame *f) {
        events++;
}

static bool in_probe_event(uint64_t rip) {
        return rip >= (uint64_t) probe_event_insn - 1 && rip <= (uint64_t) probe_event_next;
}

static void check_delivery(uint64_t page, enum hv_intercept_access access, const char *what) {
        const struct hv_memory_intercept *i = &plan.log[0];

        if (!ok(plan.count >= 1, "%s: intercepted (%u)", what, plan.count))
                return;
        is(plan.type[0], HV_MESSAGE_GPA_INTERCEPT, "%s: message type", what);
        is(i->gpa & ~0xfffull, page, "%s: GPA", what);
        is(i->header.access_type, access, "%s: access type", what);
        is(plan.count, 1, "%s: one intercept", what);
}

static void test_event(uint32_t icr, uint64_t closed, uint32_t flags,
                       enum hv_intercept_access access, const char *what) {
        uint64_t stack = closed == STACK_PAGE ? STACK_PAGE + HV_PAGE_SIZE : WINDOW_PAGE(31);

        events = 0;
        close_page(closed, flags);
        plan_start(PLAN_OPEN);
        apic_write(APIC_ICR + 0x10, this_cpu()->index << 24);
        probe_event((void *) stack, (volatile uint32_t *) (XAPIC_BASE + APIC_ICR), icr);
        check_delivery(closed, access, what);
        ok(in_probe_event(plan.log[0].header.rip), "%s: RIP is the interrupted instruction (0x%lx)",
           what, plan.log[0].header.rip);
        is(events, 1, "%s: delivered, once", what);
        close_page(closed, HV_MAP_GPA_ALL);
}

static void test_int3(void) {
        struct fault f;

        close_page(STACK_PAGE, HV_MAP_GPA_READABLE);
        plan_start(PLAN_OPEN);
        f = fault_of(probe_int3((void *) (STACK_PAGE + HV_PAGE_SIZE)));
        is(plan.count, 1, "INT3 on a closed stack: intercepted");
        is(plan.log[0].gpa & ~0xfffull, STACK_PAGE, "INT3 on a closed stack: GPA");
        is(plan.log[0].header.access_type, HV_INTERCEPT_ACCESS_WRITE,
           "INT3 on a closed stack: access type");
        is(plan.log[0].header.rip, (uint64_t) probe_int3_insn, "INT3 on a closed stack: RIP");
        is(f.vector, 3, "INT3 on a closed stack: delivered");
        is(f.rip, (uint64_t) probe_int3_next, "INT3 on a closed stack: with RIP behind it");
}

static void test_exceptions(void) {
        uint64_t top = STACK_PAGE + HV_PAGE_SIZE, idt = (uint64_t) trap_idt(0);
        struct fault f;

        close_page(STACK_PAGE, HV_MAP_GPA_READABLE);
        plan_start(PLAN_OPEN);
        f = fault_of(probe_ud((void *) top));
        check_delivery(STACK_PAGE, HV_INTERCEPT_ACCESS_WRITE, "#UD on a closed stack");
        is(f.vector, VECTOR_UD, "#UD on a closed stack: delivered");
        is(f.rip, (uint64_t) probe_ud_insn, "#UD on a closed stack: at its instruction");

        close_page(STACK_PAGE, 0);
        plan_start(PLAN_OPEN);
        f = fault_of(probe_stack_load((void *) top, (void *) (2 * ALIAS + 0x123)));
        check_delivery(STACK_PAGE, HV_INTERCEPT_ACCESS_WRITE, "#PF on a closed stack");
        is(f.vector, VECTOR_PF, "#PF on a closed stack: delivered");
        is(f.cr2, 2 * ALIAS + 0x123, "#PF on a closed stack: CR2");
        is(f.rip, (uint64_t) probe_stack_load_insn, "#PF on a closed stack: at its instruction");

        close_page(idt, 0);
        plan_start(PLAN_OPEN);
        f = fault_of(probe_ud((void *) top));
        check_delivery(idt, HV_INTERCEPT_ACCESS_READ, "#UD with a closed IDT");
        is(plan.log[0].gpa, idt + 16 * VECTOR_UD, "#UD with a closed IDT: the gate's address");
        is(f.vector, VECTOR_UD, "#UD with a closed IDT: delivered");
}

void guest_main(void) {
        if (!cmdline_number("precise", 0))
                skip_all("faults are imprecise on this host");
        vsm_protect();
        test_walk(0, HV_MAP_GPA_READABLE, HV_INTERCEPT_ACCESS_WRITE,
                  "page table read-only, A clear");
        test_walk(PTE_ACCESSED | PTE_DIRTY, HV_MAP_GPA_READABLE, HV_INTERCEPT_ACCESS_WRITE,
                  "page table read-only, A and D set");
        test_walk(PTE_ACCESSED | PTE_DIRTY, 0, HV_INTERCEPT_ACCESS_READ, "page table closed");
        test_walk_upper();
        test_walk_fetch();
        test_alias();
        test_push();
        test_rep_movs();
        test_straddle();
        test_straddling_fetch();
        test_segment_load();
        test_descriptor_store();
        test_cmpxchg16b();
        test_iret();
        test_user();

        irq_set(VECTOR_IPI, on_ipi);
        irq_set(VECTOR_NMI, on_nmi);
        test_event(APIC_ICR_FIXED | VECTOR_IPI, STACK_PAGE, HV_MAP_GPA_READABLE,
                   HV_INTERCEPT_ACCESS_WRITE, "interrupt on a closed stack");
        test_event(APIC_ICR_NMI, STACK_PAGE, 0, HV_INTERCEPT_ACCESS_WRITE, "NMI on a closed stack");
        test_event(APIC_ICR_FIXED | VECTOR_IPI, (uint64_t) trap_idt(0), 0, HV_INTERCEPT_ACCESS_READ,
                   "interrupt with a closed IDT");
        test_exceptions();
        test_int3();
}
