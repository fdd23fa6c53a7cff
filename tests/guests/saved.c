/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest that is saved while VTL0 and then while VTL1 runs, and goes on in another process each
 * time: registers of both levels, protections, overlay pages, SynIC and timers are as they were, a
 * second VP goes on counting in both, the TSC does not jump. Port 0xf5 asks to be saved, and says
 * how often the machine has been restored.
 * Command line: fpu=1 where the host runs SSE code of a guest; tsc=0 where its KVM does not set the
 * TSC of one; strict=1 with room for a page of strict mode; avx=1 where XCR0 is 7 already.
 */
#include "lib/hv.h"
#include "lib/probes.h"

#define SAVE_PORT 0xf5
#define MSR_TSC_AUX 0xc0000103
#define CONFIG(n) (HV_MSR_STIMER0_CONFIG + 2 * (n))
#define COUNT(n) (HV_MSR_STIMER0_CONFIG + 2 * (n) + 1)
#define ENABLE (1ull << 0)
#define PERIODIC (1ull << 1)
#define DIRECT(vector) (1ull << 12 | (uint64_t) (vector) << 4)
#define SINT(n) ((uint64_t) (n) << 16)
#define MS 10000ull
#define FAR (3600 * 1000 * MS)
#define PERIOD (100 * MS) /* not so short that a slow host does nothing else */
#define PATIENCE_MS 20000

#define VECTOR_PERIOD 0x60
#define VECTOR_PACE 0x61
#define VECTOR_DEADLINE 0x62
#define DEADLINE_MS 1500
#define MESSAGE_SINT 2
#define SECRET 0x5ec4e75ec4e75ec4ull
#define CLOSED WINDOW_PAGE(1)
#define READONLY WINDOW_PAGE(2)
#define CODE (READONLY + 0x10)
#define RET 0xc3ull
#define LATER WINDOW_PAGE(3)

static volatile unsigned ticks[2];
static volatile uint64_t counted[2];
static volatile bool counting;
static volatile unsigned progress;

static void on_period(struct trap_frame *f) {
        apic_eoi();
        ticks[this_cpu()->vtl]++;
}

/* ---- TSC deadlines, which are to come after the guest goes on ---- */

static volatile unsigned deadline_ticks[2];
static volatile uint64_t deadline_tsc[2];
static uint64_t deadlines[2];
static bool has_deadlines;

static void on_deadline(struct trap_frame *f) {
        unsigned vtl = this_cpu()->vtl;

        deadline_tsc[vtl] = rdtsc();
        apic_eoi();
        deadline_ticks[vtl]++;
}

static uint64_t arm_deadline(uint64_t tsc) {
        unsigned vtl = this_cpu()->vtl;

        irq_set(VECTOR_DEADLINE, on_deadline);
        deadline_ticks[vtl] = 0;
        deadlines[vtl] = tsc;
        apic_write(APIC_LVT_TIMER, VECTOR_DEADLINE | APIC_LVT_TSC_DEADLINE);
        wrmsr(MSR_TSC_DEADLINE, tsc);
        return 0;
}

static void arm_deadlines(void) {
        uint64_t tsc = rdtsc() + DEADLINE_MS * tsc_per_ms();

        if (!has_deadlines)
                return;
        arm_deadline(tsc);
        vtl1_run(arm_deadline, tsc);
}

static void check_deadlines(const char *when) {
        for (unsigned vtl = 0; vtl < 2; vtl++) {
                bool came;

                if (!has_deadlines) {
                        skip("none, or none that can be kept", "%s: VTL%u's TSC deadline", when,
                             vtl);
                        continue;
                }
                came = spin_for(&deadline_ticks[vtl], 1, PATIENCE_MS);
                ok(came && deadline_tsc[vtl] >= deadlines[vtl],
                   "%s: VTL%u's TSC deadline comes, and not too early", when, vtl);
        }
}

/* ---- What each level has for itself ---- */

static const uint32_t own_msrs[] = {
        MSR_STAR,
        MSR_LSTAR,
        0xc0000083,
        0xc0000084,
        MSR_FS_BASE,
        MSR_GS_BASE,
        MSR_KERNEL_GS_BASE,
        MSR_TSC_AUX,
        MSR_EFER,
        MSR_PAT,
        0x174,
        0x175,
        0x176,
        MSR_APIC_BASE,
        HV_MSR_GUEST_OS_ID,
        HV_MSR_HYPERCALL,
        HV_MSR_VP_INDEX,
        HV_MSR_REFERENCE_TSC,
        HV_MSR_VP_ASSIST_PAGE,
        HV_MSR_SCONTROL,
        HV_MSR_SIEFP,
        HV_MSR_SIMP,
        HV_MSR_SINT0,
        HV_MSR_SINT0 + 1,
        HV_MSR_SINT0 + MESSAGE_SINT,
        HV_MSR_SINT15,
        HV_MSR_STIMER0_CONFIG,
        HV_MSR_STIMER0_CONFIG + 1,
        HV_MSR_STIMER0_CONFIG + 2,
        HV_MSR_STIMER0_CONFIG + 3,
        HV_MSR_STIMER3_COUNT,
        HV_MSR_CRASH_P0,
};
static const uint32_t apic_registers[] = { APIC_ID, APIC_TPR, APIC_SVR, APIC_LVT_TIMER,
                                           APIC_TIMER_DIVIDE };
static const uint32_t vsm_registers[] = {
        HV_REGISTER_VSM_VP_STATUS,        HV_REGISTER_VSM_PARTITION_STATUS,
        HV_REGISTER_VSM_PARTITION_CONFIG, HV_REGISTER_VSM_VINA,
        HV_REGISTER_CR_INTERCEPT_CONTROL,
};

struct own {
        uint64_t msr[ELEMENTSOF(own_msrs)];
        uint64_t apic[ELEMENTSOF(apic_registers)];
        uint64_t vsm[ELEMENTSOF(vsm_registers)];
        uint64_t cr[5], dr7;
        struct table_pointer idtr, gdtr;
        struct hv_message simp; /* slot of MESSAGE_SINT */
        uint8_t hypercall_page[256];
};
static struct own before[2], after[2];

/* By the APIC and not by CR8: the QEMU that emulates the host does not survive a nested guest's
 * write to that while an interrupt waits. */
static void set_priority(uint64_t priority) {
        apic_write(APIC_TPR, (uint32_t) priority << 4);
}

/* RDTSCP or RDPID */
static bool has_tsc_aux(void) {
        uint32_t extended[4], features[4];

        cpuid(0x80000001, 0, extended);
        cpuid(7, 0, features);
        return extended[3] & 1u << 27 || features[2] & 1u << 22;
}

static uint64_t set_own(uint64_t seed) {
        struct cpu *c = this_cpu();

        wrmsr(MSR_STAR, seed << 48 | 0x8ull << 32);
        wrmsr(MSR_LSTAR, seed << 12 | 1);
        wrmsr(MSR_FS_BASE, seed << 12 | 2);
        wrmsr(MSR_KERNEL_GS_BASE, seed << 12 | 3);
        if (has_tsc_aux())
                wrmsr(MSR_TSC_AUX, seed);
        wrmsr(0x175, seed << 12 | 4);
        set_priority(seed & 3);
        write_dr7(0x400 | (seed & 3) << 8);
        wrmsr(HV_MSR_SIMP, (uint64_t) c->simp | HV_MSR_PAGE_ENABLE);
        wrmsr(HV_MSR_SIEFP, (uint64_t) c->siefp | HV_MSR_PAGE_ENABLE);
        wrmsr(HV_MSR_SCONTROL, 1);
        wrmsr(HV_MSR_SINT0 + MESSAGE_SINT, 0x70 | HV_SINT_POLLING);
        wrmsr(HV_MSR_SINT15, 0x71 | HV_SINT_AUTO_EOI);
        /* One far away, one that has come and waits in its slot, one that goes on */
        wrmsr(COUNT(0), hv_time() + FAR);
        wrmsr(CONFIG(0), SINT(MESSAGE_SINT) | ENABLE);
        wrmsr(COUNT(1), hv_time());
        wrmsr(CONFIG(1), SINT(MESSAGE_SINT) | ENABLE);
        irq_set(VECTOR_PERIOD, on_period);
        wrmsr(COUNT(3), PERIOD);
        wrmsr(CONFIG(3), DIRECT(VECTOR_PERIOD) | PERIODIC | ENABLE);
        return 0;
}

static uint64_t look(uint64_t arg) {
        struct own *o = (struct own *) arg;
        struct cpu *c = this_cpu();

        for (unsigned i = 0; i < ELEMENTSOF(own_msrs); i++)
                if (own_msrs[i] != MSR_TSC_AUX || has_tsc_aux())
                        o->msr[i] = rdmsr(own_msrs[i]);
        for (unsigned i = 0; i < ELEMENTSOF(apic_registers); i++)
                o->apic[i] = apic_read(apic_registers[i]);
        for (unsigned i = 0; i < ELEMENTSOF(vsm_registers) && c->vtl == 1; i++)
                o->vsm[i] = hv_register(vsm_registers[i]);
        o->cr[0] = read_cr0();
        o->cr[1] = read_cr3();
        o->cr[2] = read_cr4();
        o->cr[3] = read_cr8();
        o->cr[4] = read_flags() & ~0x8d5ull;
        o->dr7 = read_dr7();
        o->idtr = read_idtr();
        o->gdtr = read_gdtr();
        o->simp = c->simp->slot[MESSAGE_SINT];
        memcpy(o->hypercall_page, (void *) (hv_hypercall_page(c->vtl) & ~0xfffull),
               sizeof(o->hypercall_page));
        return 0;
}

static void compare(const char *when) {
        for (unsigned vtl = 0; vtl < 2; vtl++) {
                const struct own *b = &before[vtl], *a = &after[vtl];

                for (unsigned i = 0; i < ELEMENTSOF(own_msrs); i++)
                        is(a->msr[i], b->msr[i], "%s: VTL%u's MSR 0x%x", when, vtl, own_msrs[i]);
                for (unsigned i = 0; i < ELEMENTSOF(apic_registers); i++)
                        is(a->apic[i], b->apic[i], "%s: VTL%u's APIC register 0x%x", when, vtl,
                           apic_registers[i]);
                for (unsigned i = 0; i < ELEMENTSOF(vsm_registers); i++)
                        is(a->vsm[i], b->vsm[i], "%s: VTL%u's register 0x%x", when, vtl,
                           vsm_registers[i]);
                ok(memcmp(a->cr, b->cr, sizeof(a->cr)) == 0 && a->dr7 == b->dr7,
                   "%s: VTL%u's control registers, RFLAGS and DR7", when, vtl);
                ok(memcmp(&a->idtr, &b->idtr, sizeof(a->idtr)) == 0 &&
                           memcmp(&a->gdtr, &b->gdtr, sizeof(a->gdtr)) == 0,
                   "%s: VTL%u's IDTR and GDTR", when, vtl);
                is(b->simp.message_type, HV_MESSAGE_TIMER_EXPIRED, "%s: VTL%u has a message", when,
                   vtl);
                ok(memcmp(&a->simp, &b->simp, sizeof(a->simp)) == 0,
                   "%s: VTL%u still has the message", when, vtl);
                ok(memcmp(a->hypercall_page, b->hypercall_page, sizeof(a->hypercall_page)) == 0,
                   "%s: VTL%u's hypercall page", when, vtl);
        }
}

/* ---- Being saved ---- */

static struct xmm xmm_before[16], xmm_after[16];
static const struct xmm upper_before = { 0x1122334455667788, 0x99aabbccddeeff00 };
static struct xmm upper_after;
static bool avx;

/* The upper half of YMM5, behind which XMM5 stays as it is */
static void upper_load(const struct xmm *x) {
        __asm__ volatile("vinsertf128 $1, %0, %%ymm5, %%ymm5" : : "m"(*x));
}

static void upper_store(struct xmm *x) {
        __asm__ volatile("vextractf128 $1, %%ymm5, %0" : "=m"(*x));
}

static uint64_t open_avx(uint64_t arg) {
        write_cr4(read_cr4() | CR4_OSXSAVE);
        return xgetbv() == 7;
}
static bool fpu;
static uint64_t tsc_before, tsc_after, time_before, time_after, dr_before, dr_after;
static unsigned restores;

/* In general registers around the OUT there is what must be there afterwards. */
static uint64_t save_here(uint64_t seed) {
        uint64_t r12 = seed, r15 = ~seed, rdi = seed << 1, rsi = seed << 2;

        if (fpu)
                xmm_load(xmm_before);
        if (avx)
                upper_load(&upper_before);
        time_before = hv_time();
        tsc_before = rdtsc();
        __asm__ volatile("movq %0, %%r12; movq %1, %%r15; outb %%al, %4; movq %%r12, %0; "
                         "movq %%r15, %1"
                         : "+r"(r12), "+r"(r15), "+D"(rdi), "+S"(rsi)
                         : "N"(SAVE_PORT), "a"(0)
                         : "r12", "r15", "memory");
        tsc_after = rdtsc();
        time_after = hv_time();
        if (fpu)
                xmm_store(xmm_after);
        if (avx)
                upper_store(&upper_after);
        restores = inb(SAVE_PORT);
        return r12 == seed && r15 == ~seed && rdi == seed << 1 && rsi == seed << 2;
}

static void check_time(const char *when) {
        uint64_t tsc_ms, time_ms;

        ok(tsc_after > tsc_before, "%s: the TSC does not go back: %lu, then %lu", when, tsc_before,
           tsc_after);
        ok(time_after >= time_before, "%s: nor does the reference time: %lu, then %lu", when,
           time_before, time_after);
        tsc_ms = (tsc_after - tsc_before) / tsc_per_ms();
        time_ms = (time_after - time_before) / MS;
        ok(tsc_ms < 60000, "%s: it stood still meanwhile, but for %lu ms", when, tsc_ms);
        /* Without a reference TSC page they are two clocks, which a busy host stops and starts one
         * after the other. */
        if (cmdline_number("tsc", 1))
                ok(tsc_ms < time_ms + 1000 && time_ms < tsc_ms + 1000,
                   "%s: both agree, %lu ms and %lu ms", when, tsc_ms, time_ms);
        else
                skip("this KVM does not set a guest's TSC", "%s: both agree", when);
}

static void check_timers(const char *when) {
        unsigned then[2] = { ticks[0], ticks[1] };
        bool came;

        set_priority(0);
        irq_on();
        came = spin_for(&ticks[0], then[0] + 3, PATIENCE_MS);
        ok(came, "%s: VTL0's timer goes on", when);
        came = spin_for(&ticks[1], then[1] + 3, PATIENCE_MS);
        ok(came, "%s: VTL1's timer goes on and interrupts VTL0", when);
        check_deadlines(when);
        irq_off();
}

static void check_protections(const char *when) {
        plan_start(PLAN_SKIP);
        __asm__ volatile("movq (%0), %%rax" : : "r"(CLOSED) : "rax", "memory");
        is(plan.count, 1, "%s: a closed page is closed", when);
        plan_start(PLAN_SKIP);
        is(peek64(READONLY), SECRET, "%s: a read-only page can be read", when);
        is(plan.count, 0, "%s: without VTL1", when);
        __asm__ volatile("movq %%rax, (%0)" : : "r"(READONLY), "a"(1ul) : "memory");
        is(plan.count, 1, "%s: and not be written", when);
        is(peek64(READONLY), SECRET, "%s: nothing changed", when);
        if (cmdline_number("strict", 0)) {
                plan_start(PLAN_OPEN);
                probe_fetch((void *) CODE);
                is(plan.count, 1, "%s: nor be executed", when);
                is(HV_RESULT_STATUS(protect(READONLY, 1, HV_MAP_GPA_READABLE)), 0,
                   "%s: until VTL1 lets it, which closes it again", when);
        }
        is(vtl1_run(vtl1_peek, CLOSED), SECRET, "%s: VTL1 has its secret", when);
        is(HV_RESULT_STATUS(protect(LATER, 1, 0)), 0, "%s: VTL1 can close another page", when);
        plan_start(PLAN_SKIP);
        __asm__ volatile("movq (%0), %%rax" : : "r"(LATER) : "rax", "memory");
        is(plan.count, 1, "%s: which is closed then", when);
        is(HV_RESULT_STATUS(protect(LATER, 1, HV_MAP_GPA_ALL)), 0, "%s: and open it", when);
        plan_start(PLAN_SKIP);
        poke64(LATER, 1);
        is(plan.count, 0, "%s: which is open then", when);
}

/* ---- The other VP ---- */

static uint64_t count_in_vtl1(uint64_t arg) {
        counted[1]++;
        return 0;
}

static void on_pace(struct trap_frame *f) {
        apic_eoi();
}

/* Halted between two counts: the first VP needs the host's CPU, too. */
static uint64_t count(uint64_t arg) {
        irq_set(VECTOR_PACE, on_pace);
        wrmsr(COUNT(3), 20 * MS);
        wrmsr(CONFIG(3), DIRECT(VECTOR_PACE) | PERIODIC | ENABLE);
        while (counting) {
                counted[0]++;
                vtl1_run(count_in_vtl1, 0);
                progress++;
                halt();
        }
        wrmsr(COUNT(3), 0);
        return counted[0] == counted[1];
}

static void check_count(const char *when) {
        unsigned then = progress;

        ok(spin_for(&progress, then + 10, PATIENCE_MS), "%s: the other VP goes on", when);
}

static void arm_and_look(void) {
        arm_deadlines();
        look((uint64_t) &before[0]);
        vtl1_run(look, (uint64_t) &before[1]);
}

static void check_all(const char *when, unsigned n, bool registers) {
        look((uint64_t) &after[0]);
        vtl1_run(look, (uint64_t) &after[1]);
        is(restores, n, "%s: out of the file for the time %u", when, n);
        ok(registers, "%s: general registers", when);
        if (fpu)
                ok(memcmp(xmm_before, xmm_after, sizeof(xmm_before)) == 0, "%s: XMM registers",
                   when);
        if (avx)
                ok(memcmp(&upper_before, &upper_after, sizeof(upper_after)) == 0,
                   "%s: the upper half of a YMM register", when);
        else if (cmdline_number("avx", 0))
                skip("no AVX here", "%s: the upper half of a YMM register", when);
        memset(&upper_after, 0, sizeof(upper_after));
        compare(when);
        check_time(when);
        is(dr_after, dr_before, "%s: DR0", when);
        check_protections(when);
        check_timers(when);
        if (cpu_count() > 1)
                check_count(when);
}

void guest_main(void) {
        const uint64_t seed[2] = { 0x1231, 0x4562 };
        bool registers;

        fpu = cmdline_number("fpu", 0);
        has_deadlines = cpu_has(CPU_TSC_DEADLINE) && cmdline_number("tsc", 1);
        for (unsigned i = 0; i < 16; i++)
                xmm_before[i] = (struct xmm){ i * 0x1111, ~(uint64_t) i };
        vsm_protect();
        vtl1_run(vtl1_poke, (uint64_t) & (struct poke){ CLOSED, SECRET });
        vtl1_run(vtl1_poke, (uint64_t) & (struct poke){ READONLY, SECRET });
        vtl1_run(vtl1_poke, (uint64_t) & (struct poke){ CODE, RET });
        if (HV_RESULT_STATUS(protect(CLOSED, 1, 0)) != 0 ||
            HV_RESULT_STATUS(protect(READONLY, 1, HV_MAP_GPA_READABLE)) != 0)
                bail_out("cannot protect memory");
        apic_enable(true);
        avx = cmdline_number("avx", 0) && cpu_has(CPU_AVX) && open_avx(0) && vtl1_run(open_avx, 0);
        set_own(seed[0]);
        vtl1_run(set_own, seed[1]);
        write_dr0(dr_before = 0x123456);
        if (cpu_count() > 1) {
                job_open_vtl1(1);
                counting = true;
                job_start(1, count, 0);
        }

        arm_and_look();
        registers = save_here(seed[0]);
        dr_after = read_dr0();
        if (restores == 0)
                skip_all("nobody saves this guest: vtlrun --save");
        check_all("saved in VTL0", 1, registers);

        set_priority(seed[0] & 3);
        arm_and_look();
        registers = vtl1_run(save_here, seed[1]);
        dr_after = read_dr0();
        check_all("saved in VTL1", 2, registers);

        if (cpu_count() > 1) {
                counting = false;
                ok(job_wait(1, "counting"), "it counted the same in both levels");
        }
}
