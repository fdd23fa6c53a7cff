/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Strict execute mode, instruction by instruction: what touches such a page is done by itself, and
 * must come out as if nothing had been: IRET and far transfers with their operands or stacks there,
 * copies between the page and a device, repeated strings, and what RFLAGS and interrupt shadows
 * have to do with it. Command line: cpus= others that store to, add to, read and try to execute the
 * same page all the while. Precise hosts only, with strict-execute-pages=64.
 */
#include "lib/probes.h"

#define DATA WINDOW_PAGE(20)
#define STACK_PAGE WINDOW_PAGE(24)
#define STRICT_TOP (STACK_PAGE + 0x800)
#define VALUE 0x1122334455667788ull
#define RW_NX (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)
#define RET 0xc3
#define RFLAGS_ZF 0x40ull
#define RFLAGS_TF 0x100ull
#define VECTOR_SELF 0x51
#define VECTOR_CLOCK 0x52
#define DIVIDE_BY_1 0xb

/* In DATA, for the others */
#define CODE_AT (DATA + 0x123)
#define SUM_AT (DATA + 0xf00)
#define WORD_AT(cpu) (DATA + 0xf08 + 8 * (cpu))
/* For this CPU */
#define FRAME (DATA + 0x200)
#define POINTER (DATA + 0x280)
#define TEXT (DATA + 0x400)

static uint8_t plain_stack[4096] __attribute__((aligned(16)));
#define PLAIN_TOP ((uint64_t) (plain_stack + sizeof(plain_stack)))

static void close_page(uint64_t gpa, uint32_t flags) {
        if (HV_RESULT_STATUS(protect(gpa, 1, flags)) != 0)
                bail_out("cannot protect GPA 0x%lx", gpa);
}

/* Nothing was intercepted, and the page is as closed as before. */
static void check_quiet(const char *what) {
        is(plan.count, 0, "%s: no intercept", what);
        is(read_flags() & RFLAGS_TF, 0, "%s: no trap flag is left", what);
        plan_start(PLAN_SKIP);
        probe_load((void *) (DATA + 8));
        is(plan.count, 0, "%s: the page can be read", what);
}

/* ---- Interrupts that are pending, and where they come ---- */

static volatile unsigned events;
static volatile uint64_t event_rip, event_flags;

static void on_event(struct trap_frame *f) {
        events++;
        event_rip = f->rip;
        event_flags = f->rflags;
        apic_eoi();
}

static void make_pending(void) {
        events = 0;
        apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_SELF);
}

static void check_event(uint64_t rip, const char *what) {
        is(events, 1, "%s: the interrupt came", what);
        is(event_rip, rip, "%s: behind the instruction", what);
        is(event_flags & RFLAGS_TF, 0, "%s: no trap flag in its frame", what);
}

/* ---- IRET: its frame is in the page ---- */

static uint64_t *iret_frame(uint64_t flags) {
        uint64_t *f = (uint64_t *) FRAME;

        f[0] = (uint64_t) probe_iret_next;
        f[1] = KERNEL_CS;
        f[2] = RFLAGS_FIXED | flags;
        f[3] = PLAIN_TOP;
        f[4] = KERNEL_DS;
        return f;
}

static void test_iret(void) {
        struct fault f;

        plan_start(PLAN_OPEN);
        probe_iret(iret_frame(0));
        check_quiet("IRET");
        make_pending();
        plan_start(PLAN_OPEN);
        probe_iret(iret_frame(RFLAGS_IF));
        irq_off();
        check_event((uint64_t) probe_iret_next, "IRET that lets interrupts in");
        check_quiet("IRET that lets interrupts in");

        plan_start(PLAN_OPEN);
        f = fault_of(probe_iret(iret_frame(RFLAGS_TF)));
        is(f.vector, VECTOR_DB, "IRET that sets the trap flag: a trap");
        is(f.rip, (uint64_t) probe_iret_next + 3, "one instruction later");
        check_quiet("IRET that sets the trap flag");
}

/* ---- Far transfers ---- */

struct far_pointer {
        uint32_t offset;
        uint16_t selector;
} __attribute__((packed));

static void test_far(void) {
        static struct far_pointer plain = { .selector = KERNEL_CS };
        struct far_pointer *p = (struct far_pointer *) POINTER;
        uint64_t came = 0, sp = 0;

        plan_start(PLAN_OPEN);
        p->selector = KERNEL_CS;
        __asm__ volatile("leaq 1f(%%rip), %%rax; movl %%eax, (%1); ljmp *(%1); ud2;"
                         "1: movl $1, %k0"
                         : "+&r"(came)
                         : "r"(p)
                         : "rax", "memory");
        is(came, 1, "a far jump by a pointer in the page");
        check_quiet("far jump");

        came = 0;
        plan_start(PLAN_OPEN);
        __asm__ volatile("leaq 1f(%%rip), %%rax; movl %%eax, (%2); movq %%rsp, %%r12;"
                         "movq %3, %%rsp; lcall *(%2); addl $0x10, %k0; jmp 2f;"
                         "1: incl %k0; lret; 2: movq %%rsp, %1; movq %%r12, %%rsp"
                         : "+&r"(came), "=&r"(sp)
                         : "r"(&plain), "r"(STRICT_TOP)
                         : "rax", "r12", "memory", "cc");
        is(came, 0x11, "a far call and return on a stack in such a page");
        is(sp, STRICT_TOP, "where it is as before");
        check_quiet("far call and return");
}

/* ---- Devices: KVM emulates the instruction, in part while the page is closed again ---- */

static void test_device(void) {
        uint32_t *text = (uint32_t *) TEXT;
        uint64_t top = STRICT_TOP, left = 0, other = 0;

        plan_start(PLAN_OPEN);
        text[0] = 0x1234;
        probe_movs(&text[0], (void *) MMIO_HOLE);
        is(text[0], 0xffffffff, "MOVS from a device to the page");
        is(probe_movs((void *) MMIO_HOLE, &text[0]), MMIO_HOLE + 4,
           "MOVS from the page to a device");
        check_quiet("MOVS");

        plan_start(PLAN_OPEN);
        for (unsigned i = 0; i < 6; i++)
                text[i] = i;
        __asm__ volatile("rep movsl"
                         : "=c"(left), "=D"(other)
                         : "0"(4), "1"(&text[1]), "S"(MMIO_HOLE)
                         : "memory");
        is(left, 0, "REP MOVS from a device to the page: to the end");
        is(other, (uint64_t) &text[5], "and not beyond");
        is(text[0] == 0 && text[1] == 0xffffffff && text[4] == 0xffffffff && text[5] == 5, true,
           "what it has written");
        __asm__ volatile("rep movsl"
                         : "=c"(left), "=S"(other)
                         : "0"(4), "1"(&text[1]), "D"(MMIO_HOLE)
                         : "memory");
        is(left, 0, "REP MOVS from the page to a device: to the end");
        is(other, (uint64_t) &text[5], "and not beyond");
        check_quiet("REP MOVS");

        plan_start(PLAN_OPEN);
        poke64(top - 8, 0);
        is(probe_push_memory((void *) top, (void *) MMIO_HOLE), top - 8,
           "PUSH of what a device says");
        is(peek64(top - 8), ~0ull, "is on the stack");
        __asm__ volatile("movq %%rsp, %%r12; movq %1, %%rsp; popq (%2); movq %%rsp, %0;"
                         "movq %%r12, %%rsp"
                         : "=&r"(other)
                         : "r"(top - 8), "r"(MMIO_HOLE)
                         : "r12", "memory");
        is(other, top, "POP to a device");
        check_quiet("PUSH and POP");
}

/* ---- Strings ---- */

static void test_strings(void) {
        uint8_t *text = (uint8_t *) TEXT;
        uint64_t left = 0, flags = 0, at = 0;

        plan_start(PLAN_OPEN);
        __asm__ volatile("rep stosb"
                         : "=c"(left), "=D"(at)
                         : "0"(24), "1"(text), "a"('x')
                         : "memory");
        is(left, 0, "REP STOS: to the end");
        is(at, (uint64_t) text + 24, "and not beyond");
        text[7] = 'y';
        __asm__ volatile("repne scasb; pushfq; popq %2"
                         : "=c"(left), "=D"(at), "=r"(flags)
                         : "0"(24), "1"(text), "a"('y')
                         : "memory", "cc");
        is(left, 16, "REPNE SCAS finds it");
        is(at, (uint64_t) text + 8, "and stops behind it");
        is(flags & (RFLAGS_ZF | RFLAGS_TF), RFLAGS_ZF, "with ZF, and no trap flag");
        __asm__ volatile("repe cmpsb; pushfq; popq %1"
                         : "=c"(left), "=r"(flags), "=D"(at)
                         : "0"(8), "2"(text), "S"(text + 8)
                         : "memory", "cc");
        is(left, 0, "REPE CMPS: up to what differs");
        is(flags & RFLAGS_ZF, 0, "and says so");
        __asm__ volatile("std; rep movsb; cld"
                         : "=c"(left), "=D"(at)
                         : "0"(8), "1"(text + 31), "S"(text + 7)
                         : "memory", "cc");
        is(left, 0, "REP MOVS downwards");
        is(text[31] == 'y' && text[24] == 'x', true, "what it has written");
        is(at, (uint64_t) text + 23, "where it ended");
        __asm__ volatile("rep stosb" : "=D"(at) : "c"(0), "0"(text), "a"('z') : "memory");
        is(text[0] == 'x' && at == (uint64_t) text, true, "REP STOS of nothing");
        check_quiet("strings");
}

/* Interrupts come between the elements, and nothing is done twice or left out. */
static void test_interrupted_string(void) {
        uint64_t *text = (uint64_t *) TEXT, left, at;
        unsigned wrong = 0, inside = 0;

        irq_set(VECTOR_CLOCK, on_event);
        plan_start(PLAN_OPEN);
        apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
        for (unsigned i = 0; i < 6; i++) {
                extern uint8_t interrupted_string[];

                memset(text, 0, 8 * 64);
                events = 0;
                apic_write(APIC_LVT_TIMER, VECTOR_CLOCK);
                apic_write(APIC_TIMER_INITIAL, 2000000 + i * 300000);
                irq_on();
                __asm__ volatile(".globl interrupted_string\n"
                                 "interrupted_string: rep stosq"
                                 : "=c"(left), "=D"(at)
                                 : "0"(40), "1"(text), "a"(VALUE + i)
                                 : "memory");
                if (!spin_for(&events, 1, 1000))
                        bail_out("the APIC timer does not expire");
                irq_off();
                inside += event_rip == (uint64_t) interrupted_string;
                wrong += left != 0 || at != (uint64_t) &text[40] || text[40] != 0 ||
                         (event_flags & RFLAGS_TF);
                for (unsigned k = 0; k < 40; k++)
                        wrong += text[k] != VALUE + i;
        }
        is(wrong, 0, "REP STOS with interrupts: all of it, once");
        ok(inside > 0, "%u of 6 came between its elements", inside);
        check_quiet("REP STOS with interrupts");
}

/* ---- Flags and shadows ---- */

static void test_shadows(void) {
        extern uint8_t behind_sti[], behind_popf[];
        uint64_t word = 0;

        make_pending();
        plan_start(PLAN_OPEN);
        __asm__ volatile("sti; movq %0, (%1)\n"
                         ".globl behind_sti\nbehind_sti: nop; cli"
                         :
                         : "r"(VALUE), "r"(DATA + 0x600)
                         : "memory");
        check_event((uint64_t) behind_sti, "STI and a store to the page");
        is(peek64(DATA + 0x600), VALUE, "which is done");
        check_quiet("STI");

        plan_start(PLAN_OPEN);
        __asm__ volatile("movl %%ss, %%eax; movl %%eax, %%ss; movq (%1), %0"
                         : "=r"(word)
                         : "r"(DATA + 0x600)
                         : "rax", "memory");
        is(word, VALUE, "MOV SS and a load from the page");
        check_quiet("MOV SS");

        make_pending();
        poke64(STRICT_TOP, RFLAGS_FIXED | RFLAGS_IF);
        plan_start(PLAN_OPEN);
        __asm__ volatile("movq %%rsp, %%r12; movq %0, %%rsp; popfq\n"
                         ".globl behind_popf\nbehind_popf: movq %%r12, %%rsp; cli"
                         :
                         : "r"(STRICT_TOP)
                         : "r12", "memory", "cc");
        check_event((uint64_t) behind_popf, "POPF that lets interrupts in");
        check_quiet("POPF");
}

static void test_arithmetic(void) {
        uint64_t flags = 0, out = 0;

        plan_start(PLAN_OPEN);
        poke64(DATA + 0x600, ~0ull);
        __asm__ volatile("addq $1, (%1); pushfq; popq %0"
                         : "=r"(flags)
                         : "r"(DATA + 0x600)
                         : "memory", "cc");
        is(flags & (RFLAGS_CF | RFLAGS_ZF | RFLAGS_TF), RFLAGS_CF | RFLAGS_ZF, "ADD: its flags");
        __asm__ volatile("stc; adcq $0, (%1); pushfq; popq %0"
                         : "=r"(flags)
                         : "r"(DATA + 0x600)
                         : "memory", "cc");
        is(peek64(DATA + 0x600), 1, "ADC: with the carry from before");
        is(flags & (RFLAGS_CF | RFLAGS_ZF | RFLAGS_TF), 0, "ADC: its flags");
        __asm__ volatile("lock cmpxchgq %3, (%2); pushfq; popq %0"
                         : "=r"(flags), "=a"(out)
                         : "r"(DATA + 0x600), "r"(VALUE), "1"(2ull)
                         : "memory", "cc");
        is(out, 1, "CMPXCHG that differs: what was there");
        is(flags & (RFLAGS_ZF | RFLAGS_TF), 0, "and no ZF");
        check_quiet("arithmetic");
}

/* VTL0 steps itself: traps are its own, behind the instruction, and its flag is seen. */
/* KVM emulates the instruction, and ends it after the device has answered. */
static void test_own_steps_device(void) {
        extern uint8_t behind_to_device[], behind_from_device[], at_rep[];
        uint32_t *text = (uint32_t *) TEXT;
        uint64_t left = 0;
        struct fault f;

        plan_start(PLAN_OPEN);
        text[0] = 0x1234;
        f = fault_of(__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; movsl\n"
                                      ".globl behind_to_device\nbehind_to_device: nop; nop"
                                      :
                                      : "S"(&text[0]), "D"(MMIO_HOLE)
                                      : "memory", "cc"));
        is(f.vector, VECTOR_DB,
           "MOVS from the page to a device under VTL0's own trap flag: a trap");
        is(f.rip, (uint64_t) behind_to_device, "behind it");
        f = fault_of(__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; movsl\n"
                                      ".globl behind_from_device\nbehind_from_device: nop; nop"
                                      :
                                      : "S"(MMIO_HOLE), "D"(&text[0])
                                      : "memory", "cc"));
        is(f.vector, VECTOR_DB, "MOVS from a device to the page: a trap");
        /* KVM traps one late after a store that it emulates, in any page. */
        ok(f.rip - (uint64_t) behind_from_device <= 1, "behind it, or behind the next one");
        is(text[0], 0xffffffff, "it is done");
        f = fault_of(__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq\n"
                                      ".globl at_rep\nat_rep: rep movsl"
                                      : "=c"(left)
                                      : "0"(4), "S"(&text[0]), "D"(MMIO_HOLE)
                                      : "memory", "cc"));
        is(f.vector, VECTOR_DB, "REP MOVS from the page to a device: a trap");
        is(f.rip, (uint64_t) at_rep, "after its first round");
        check_quiet("own trap flag and a device");
}

static void test_own_steps(void) {
        extern uint8_t behind_store[], behind_pushf[];
        struct fault f;

        plan_start(PLAN_OPEN);
        poke64(DATA + 0x600, 0);
        f = fault_of(__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; movq %0, (%1)\n"
                                      ".globl behind_store\nbehind_store: nop; nop"
                                      :
                                      : "r"(VALUE), "r"(DATA + 0x600)
                                      : "memory", "cc"));
        is(f.vector, VECTOR_DB, "a store under VTL0's own trap flag: a trap");
        is(f.rip, (uint64_t) behind_store, "behind it");
        is(peek64(DATA + 0x600), VALUE, "it is done");
        check_quiet("own trap flag");

        poke64(STRICT_TOP - 8, RFLAGS_FIXED | RFLAGS_TF);
        plan_start(PLAN_OPEN);
        f = fault_of(__asm__ volatile("leaq -8(%0), %%rsp; popfq; pushfq\n"
                                      ".globl behind_pushf\nbehind_pushf: nop; nop"
                                      :
                                      : "r"(STRICT_TOP)
                                      : "memory", "cc"));
        is(f.vector, VECTOR_DB, "POPF and PUSHF on the stack in the page: a trap");
        is(f.rip, (uint64_t) behind_pushf, "behind PUSHF");
        is(peek64(STRICT_TOP - 8) & RFLAGS_TF, RFLAGS_TF, "VTL0's flag is in the image");
        check_quiet("own trap flag and PUSHF");

        test_own_steps_device();

        /* An exception in its place: RFLAGS in the frame are VTL0's. */
        plan_start(PLAN_OPEN);
        poke64(DATA + 0x600, 0);
        f = fault_of(__asm__ volatile(
                "movq %1, %%rsp; pushfq; orq $0x100, (%%rsp); xorl %%edx, %%edx; movl $1, %%eax;"
                "popfq; divl (%0)"
                :
                : "r"(DATA + 0x600), "r"(PLAIN_TOP)
                : "rax", "rdx", "memory", "cc"));
        is(f.vector, 0, "#DE by the page's content under VTL0's own trap flag");
        is(f.rflags & RFLAGS_TF, RFLAGS_TF, "which is in its frame");
        check_quiet("own trap flag and #DE");
}

/* ---- The others ---- */

static volatile bool over;
static volatile unsigned fetches[MAX_CPUS], intercepted[MAX_CPUS], turns[MAX_CPUS], wrong[MAX_CPUS];
static void (*planned)(struct hv_message *m, struct gprs *g);

/* A fetch of another CPU is counted, and VTL1 does the RET. */
static void on_intercept(struct hv_message *m, struct gprs *g) {
        const struct hv_memory_intercept *i = (const void *) m->payload;
        unsigned cpu = this_cpu()->index;

        if (cpu == 0) {
                planned(m, g);
                return;
        }
        if (i->header.access_type != HV_INTERCEPT_ACCESS_EXECUTE || i->gpa != CODE_AT)
                bail_out("CPU %u: access %u to 0x%lx is intercepted", cpu, i->header.access_type,
                         i->gpa);
        intercepted[cpu]++;
        vtl1_do_ret();
}

static uint64_t disturb(uint64_t cpu) {
        while (!over) {
                uint64_t value = cpu << 32 | ++turns[cpu];

                poke64(WORD_AT(cpu), value);
                probe_lock_add((void *) SUM_AT, 1);
                wrong[cpu] += peek64(WORD_AT(cpu)) != value;
                fetches[cpu]++;
                probe_fetch((void *) CODE_AT);
        }
        return 0;
}

static void begin_others(unsigned n_cpus) {
        planned = vtl1_on_intercept;
        vtl1_on_intercept = on_intercept;
        for (unsigned i = 1; i < n_cpus; i++)
                job_open_vtl1(i);
        for (unsigned i = 1; i < n_cpus; i++)
                job_start(i, disturb, i);
        for (unsigned i = 1; i < n_cpus; i++)
                if (!spin_for(&turns[i], 1, 10000))
                        bail_out("CPU %u does not begin", i);
}

static void end_others(unsigned n_cpus) {
        uint64_t sum = 0;

        over = true;
        for (unsigned i = 1; i < n_cpus; i++) {
                job_wait(i, "in the same page");
                sum += turns[i];
                is(wrong[i], 0, "CPU %u: its %u stores to the page are read back", i, turns[i]);
                is(intercepted[i], fetches[i], "CPU %u: each of its fetches was intercepted", i);
        }
        is(peek64(SUM_AT), sum, "no addition of theirs is lost");
}

void guest_main(void) {
        unsigned n_cpus = (unsigned) cmdline_number("cpus", 1);

        if (!cmdline_number("precise", 0))
                skip_all("faults are imprecise on this host");
        vsm_protect();
        irq_set(VECTOR_SELF, on_event);
        *(volatile uint8_t *) CODE_AT = RET;
        close_page(DATA, RW_NX);
        close_page(STACK_PAGE, RW_NX);
        plan_start(PLAN_OPEN);
        begin_others(n_cpus);
        test_iret();
        test_far();
        test_device();
        test_strings();
        test_interrupted_string();
        test_shadows();
        test_arithmetic();
        test_own_steps();
        end_others(n_cpus);
}
