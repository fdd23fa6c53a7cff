/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VTL1 reads and writes the registers of another VP's VTL0 (vsm.md 3.7, 3.8, 4.2): while that runs,
 * is halted, or has called VTL1. Who may, lists, and VPs that look at each other are in
 * crossvp-calls.c, events in crossvp-events.c.
 * Command line: fpu=1 on a host that runs SSE code of a guest.
 */
#include "lib/pattern.h"

#define LONG_MS 8000
#define TSC_AUX 0xc0000103

enum state {
        RUNNING, /* VTL0, in a loop that changes nothing */
        HALTED,  /* VTL0, interrupts on */
        IN_VTL1,
        STATES,
};

static const char *const state_names[STATES] = { "running VTL0", "halted in VTL0", "in VTL1" };

static bool fpu, has_tsc_aux;
static uint64_t other_pml4[512] __attribute__((aligned(4096)));

/* ---- The registers that are one number ---- */

DEFINE_MSR_ACCESS(efer, MSR_EFER)
DEFINE_MSR_ACCESS(star, MSR_STAR)
DEFINE_MSR_ACCESS(lstar, MSR_LSTAR)
DEFINE_MSR_ACCESS(cstar, 0xc0000083)
DEFINE_MSR_ACCESS(sfmask, 0xc0000084)
DEFINE_MSR_ACCESS(kernel_gs, MSR_KERNEL_GS_BASE)
DEFINE_MSR_ACCESS(sysenter_cs, 0x174)
DEFINE_MSR_ACCESS(sysenter_esp, 0x175)
DEFINE_MSR_ACCESS(sysenter_eip, 0x176)
DEFINE_MSR_ACCESS(pat, MSR_PAT)
DEFINE_MSR_ACCESS(tsc_aux, TSC_AUX)

static uint64_t get_apic_base(void) {
        return rdmsr(MSR_APIC_BASE);
}

static uint64_t read_dr6(void) {
        uint64_t v;

        __asm__ volatile("movq %%dr6, %0" : "=r"(v));
        return v;
}

#define FIXED UINT64_MAX /* cannot be written, or is what it is */

/* @local: what VTL0 of the VP itself puts there first, with its index in bits 15:12 where @varies;
 * @remote: what VTL1 of the other VP writes. With CR4.MCE: a QEMU that emulates the host shows a
 * nested guest that of the host. */
static const struct {
        const char *name;
        uint32_t reg;
        uint64_t (*get)(void);
        void (*set)(uint64_t v);
        uint64_t local, remote;
        bool varies;
        bool lazy; /* shared, but does not cross with every VTL call and return */
} rows[] = {
        { "CR0", HV_X64_REGISTER_CR0, read_cr0, write_cr0, FIXED, 0x80050033, false, false },
        { "CR2", HV_X64_REGISTER_CR2, read_cr2, write_cr2, 0x1230000, 0x7650000, true, false },
        { "CR3", HV_X64_REGISTER_CR3, read_cr3, write_cr3, FIXED, 1, false, false },
        { "CR4", HV_X64_REGISTER_CR4, read_cr4, write_cr4, FIXED, 0x6e0, false, false },
        { "CR8", HV_X64_REGISTER_CR8, read_cr8, write_cr8, 3, 5, false, false },
        { "DR0", HV_X64_REGISTER_DR0, read_dr0, write_dr0, 0x11000000, 0x71000, true, true },
        { "DR1", HV_X64_REGISTER_DR0 + 1, read_dr1, write_dr1, 0x12000000, 0x72000, true, true },
        { "DR2", HV_X64_REGISTER_DR0 + 2, read_dr2, write_dr2, 0x13000000, 0x73000, true, true },
        { "DR3", HV_X64_REGISTER_DR3, read_dr3, write_dr3, 0x14000000, 0x74000, true, true },
        { "DR6", HV_X64_REGISTER_DR6, read_dr6, NULL, FIXED, FIXED, false, false },
        { "DR7", HV_X64_REGISTER_DR7, read_dr7, write_dr7, 0x500, 0x600, false, false },
        { "EFER", HV_X64_REGISTER_EFER, get_efer, set_efer, FIXED, 0xd01, false, false },
        { "STAR", HV_X64_REGISTER_STAR, get_star, set_star, 0x0018000800000000, 0x0010001000000000,
          true, false },
        { "LSTAR", HV_X64_REGISTER_LSTAR, get_lstar, set_lstar, 0x5550000, 0xffff800000000000, true,
          false },
        { "CSTAR", HV_X64_REGISTER_CSTAR, get_cstar, set_cstar, 0x6660000, 0x1000, true, false },
        { "SFMASK", HV_X64_REGISTER_SFMASK, get_sfmask, set_sfmask, 0x40000, 0x47700, true, false },
        { "KERNEL_GS_BASE", HV_X64_REGISTER_KERNEL_GS_BASE, get_kernel_gs, set_kernel_gs, 0x3330000,
          0x4440000, true, false },
        { "SYSENTER_CS", HV_X64_REGISTER_SYSENTER_CS, get_sysenter_cs, set_sysenter_cs, 0x10, 0x20,
          true, false },
        { "SYSENTER_ESP", HV_X64_REGISTER_SYSENTER_ESP, get_sysenter_esp, set_sysenter_esp,
          0x7770000, 0x8880000, true, false },
        { "SYSENTER_EIP", HV_X64_REGISTER_SYSENTER_EIP, get_sysenter_eip, set_sysenter_eip,
          0x7700000, 0x8800000, true, false },
        { "PAT", HV_X64_REGISTER_PAT, get_pat, set_pat, FIXED, 0x0007010600070106, false, false },
        { "APIC_BASE", HV_X64_REGISTER_APIC_BASE, get_apic_base, NULL, FIXED, FIXED, false, false },
        { "TSC_AUX", HV_X64_REGISTER_TSC_AUX, get_tsc_aux, set_tsc_aux, 0x90000, 0x123, true,
          false },
};
#define ROWS ELEMENTSOF(rows)

static bool row_there(unsigned i) {
        return rows[i].reg != HV_X64_REGISTER_TSC_AUX || has_tsc_aux;
}

/* ---- Segments and tables ---- */

static const struct {
        const char *name;
        uint32_t reg;
} segments[] = {
        { "ES", HV_X64_REGISTER_ES }, { "CS", HV_X64_REGISTER_CS }, { "SS", HV_X64_REGISTER_SS },
        { "DS", HV_X64_REGISTER_DS }, { "FS", HV_X64_REGISTER_FS }, { "GS", HV_X64_REGISTER_GS },
        { "TR", HV_X64_REGISTER_TR },
};
#define SEGMENTS ELEMENTSOF(segments)

#define GET_SELECTOR(segment)                                          \
        ({                                                             \
                uint64_t v_;                                           \
                __asm__ volatile("movq %%" segment ", %0" : "=r"(v_)); \
                (uint16_t) v_;                                         \
        })

struct segment_state {
        struct {
                uint16_t selector;
                uint64_t base;
        } segment[SEGMENTS];
        struct table_pointer idtr, gdtr;
};

static void segments_here(struct segment_state *s) {
        uint64_t tr;

        __asm__ volatile("str %0" : "=r"(tr));
        s->segment[0].selector = GET_SELECTOR("es");
        s->segment[1].selector = GET_SELECTOR("cs");
        s->segment[2].selector = GET_SELECTOR("ss");
        s->segment[3].selector = GET_SELECTOR("ds");
        s->segment[4].selector = GET_SELECTOR("fs");
        s->segment[5].selector = GET_SELECTOR("gs");
        s->segment[6].selector = (uint16_t) tr;
        s->segment[4].base = rdmsr(MSR_FS_BASE);
        s->segment[5].base = rdmsr(MSR_GS_BASE);
        s->segment[6].base = (uint64_t) &this_cpu()->tss;
        s->idtr = read_idtr();
        s->gdtr = read_gdtr();
}

/* ---- The VP that is looked at ---- */

static struct target {
        enum state state;
        struct pattern want, p;
        uint64_t before[ROWS], at[ROWS], after[ROWS];
        struct segment_state segments, segments_after;
        volatile bool inside, leave; /* IN_VTL1 */
} targets[MAX_CPUS];

static uint64_t vtl1_wait(uint64_t vp) {
        struct target *t = &targets[vp];

        t->inside = true;
        while (!t->leave)
                cpu_relax();
        t->inside = false;
        return vp;
}

static uint64_t target_main(uint64_t vp) {
        struct target *t = &targets[vp];

        for (unsigned i = 0; i < ROWS; i++) {
                if (!row_there(i))
                        continue;
                t->before[i] = rows[i].get();
                if (rows[i].local != FIXED)
                        rows[i].set(rows[i].local + (rows[i].varies ? vp << 12 : 0));
                t->at[i] = rows[i].get();
        }
        wrmsr(MSR_FS_BASE, 0x1000000 + (vp << 12));
        segments_here(&t->segments);
        pattern_fill(&t->want, vp);
        t->want.rflags |= RFLAGS_CF | (t->state == HALTED ? RFLAGS_IF : 0);
        t->want.halt = t->state == HALTED;
        t->want.fpu = fpu;
        t->p = t->want;
        if (t->state == IN_VTL1)
                vtl1_run(vtl1_wait, vp);
        else
                pattern_wait(&t->p);
        for (unsigned i = 0; i < ROWS; i++)
                if (row_there(i)) {
                        t->after[i] = rows[i].get();
                        if (rows[i].set != NULL)
                                rows[i].set(t->before[i]);
                }
        segments_here(&t->segments_after);
        write_idtr(t->segments.idtr);
        wrmsr(MSR_FS_BASE, 0);
        return 0;
}

static uint64_t rip_of(unsigned vp) {
        const uint32_t name = HV_X64_REGISTER_RIP;
        union hv_register_value v;

        if (hv_get_registers(vp, VTL0, &name, 1, &v) != HV_REPS(1))
                bail_out("VP %u's RIP cannot be read", vp);
        return v.low64;
}

/* In VTL1 of VP 0: VP @vp is where it is to be. */
static uint64_t vtl1_await(uint64_t vp) {
        const struct target *t = &targets[vp];

        for (unsigned ms = 0; ms < LONG_MS; ms++) {
                uint64_t rip = rip_of((unsigned) vp);

                if (t->state == RUNNING
                            ? rip >= (uint64_t) pattern_spin && rip < (uint64_t) pattern_halted - 1
                            : rip == (uint64_t) pattern_halted)
                        return true;
                spin_ms(1);
        }
        return false;
}

static void begin(unsigned vp, enum state state) {
        struct target *t = &targets[vp];
        uint64_t start = rdtsc();
        bool there;

        memset(t, 0, sizeof(*t));
        t->state = state;
        job_start(vp, target_main, vp);
        while (state == IN_VTL1 && !t->inside)
                if ((int64_t) (rdtsc() - start) > (int64_t) (LONG_MS * tsc_per_ms()))
                        bail_out("VP %u does not come to VTL1", vp);
        there = state == IN_VTL1 || vtl1_run(vtl1_await, vp);
        if (!ok(there && job_busy(vp), "VP %u: %s", vp, state_names[state]))
                bail_out("VP %u is not where it is to be", vp);
}

static void end(unsigned vp) {
        struct target *t = &targets[vp];

        t->leave = true;
        if (t->state != IN_VTL1)
                apic_send(vp, APIC_ICR_NMI);
        job_wait(vp, state_names[t->state]);
}

/* ---- Reading, in VTL1 of VP 0 ---- */

static unsigned wrong(bool right, unsigned vp, const char *name, uint64_t got, uint64_t want) {
        if (!right)
                print("# VP %u, %s: 0x%lx, not 0x%lx\n", vp, name, got, want);
        return !right;
}

/* DR0-3 cross with what goes through the engine only. */
static bool row_known(const struct target *t, unsigned i) {
        return row_there(i) && (t->state != IN_VTL1 || !rows[i].lazy);
}

static uint64_t vtl1_read_rows(uint64_t vp) {
        const struct target *t = &targets[vp];
        union hv_register_value v[ROWS];
        uint32_t names[ROWS];
        unsigned n = 0, bad = 0;

        for (unsigned i = 0; i < ROWS; i++)
                if (row_there(i))
                        names[n++] = rows[i].reg;
        if (hv_get_registers((uint32_t) vp, VTL0, names, n, v) != HV_REPS(n))
                return 1000;
        n = 0;
        for (unsigned i = 0; i < ROWS; i++) {
                if (!row_there(i))
                        continue;
                if (row_known(t, i))
                        bad += wrong(v[n].low64 == t->at[i] && v[n].high64 == 0, (unsigned) vp,
                                     rows[i].name, v[n].low64, t->at[i]);
                n++;
        }
        return bad;
}

static uint64_t vtl1_read_segments(uint64_t vp) {
        const struct target *t = &targets[vp];
        union hv_register_value v[SEGMENTS + 2];
        uint32_t names[SEGMENTS + 2];
        unsigned bad = 0;

        for (unsigned i = 0; i < SEGMENTS; i++)
                names[i] = segments[i].reg;
        names[SEGMENTS] = HV_X64_REGISTER_IDTR;
        names[SEGMENTS + 1] = HV_X64_REGISTER_GDTR;
        if (hv_get_registers((uint32_t) vp, VTL0, names, ELEMENTSOF(names), v) !=
            HV_REPS(ELEMENTSOF(names)))
                return 1000;
        for (unsigned i = 0; i < SEGMENTS; i++) {
                bad += wrong(v[i].segment.selector == t->segments.segment[i].selector,
                             (unsigned) vp, segments[i].name, v[i].segment.selector,
                             t->segments.segment[i].selector);
                bad += wrong(v[i].segment.base == t->segments.segment[i].base, (unsigned) vp,
                             segments[i].name, v[i].segment.base, t->segments.segment[i].base);
        }
        bad += wrong((v[1].segment.attributes & 0xa09a) == 0xa09a, (unsigned) vp, "CS attributes",
                     v[1].segment.attributes, 0xa09b);
        bad += wrong((v[6].segment.attributes & 0x9f) == 0x8b, (unsigned) vp, "TR attributes",
                     v[6].segment.attributes, 0x8b);
        bad += wrong(v[6].segment.limit == sizeof(struct tss) - 1, (unsigned) vp, "TR limit",
                     v[6].segment.limit, sizeof(struct tss) - 1);
        bad += wrong(v[7].table.base == t->segments.idtr.base &&
                             v[7].table.limit == t->segments.idtr.limit,
                     (unsigned) vp, "IDTR", v[7].table.base, t->segments.idtr.base);
        bad += wrong(v[8].table.base == t->segments.gdtr.base &&
                             v[8].table.limit == t->segments.gdtr.limit,
                     (unsigned) vp, "GDTR", v[8].table.base, t->segments.gdtr.base);
        return bad;
}

/* GPRs, RIP, RFLAGS, XMM: those of the loop, or of the VTL call */
static uint64_t vtl1_read_general(uint64_t vp) {
        const struct target *t = &targets[vp];
        union hv_register_value v[34];
        uint32_t names[34];
        unsigned n = 18 + (fpu ? 16 : 0), bad = 0;

        for (unsigned i = 0; i < 18; i++)
                names[i] = HV_X64_REGISTER_RAX + i;
        for (unsigned i = 0; i < 16; i++)
                names[18 + i] = HV_X64_REGISTER_XMM0 + i;
        if (hv_get_registers((uint32_t) vp, VTL0, names, n, v) != HV_REPS(n))
                return 1000;
        if (t->state == IN_VTL1) {
                const struct cpu *c = &cpus[0][vp];

                bad += wrong(v[16].low64 > c->vtl_call_entry &&
                                     v[16].low64 < c->hypercall_entry + HV_PAGE_SIZE,
                             (unsigned) vp, "RIP", v[16].low64, c->vtl_call_entry);
                bad += wrong(v[4].low64 > (uint64_t) c->stack &&
                                     v[4].low64 < (uint64_t) c->stack + STACK_SIZE,
                             (unsigned) vp, "RSP", v[4].low64, (uint64_t) c->stack);
                return bad + wrong((v[17].low64 & (RFLAGS_FIXED | RFLAGS_IF)) == RFLAGS_FIXED,
                                   (unsigned) vp, "RFLAGS", v[17].low64, RFLAGS_FIXED);
        }
        for (unsigned i = 0; i < 16; i++) {
                uint64_t want = i == 4 ? t->p.gpr[4] : t->want.gpr[i];

                bad += wrong(v[i].low64 == want && v[i].high64 == 0, (unsigned) vp, "GPR",
                             v[i].low64, want);
        }
        bad += wrong((v[17].low64 & ~RFLAGS_RF) == t->want.rflags, (unsigned) vp, "RFLAGS",
                     v[17].low64, t->want.rflags);
        for (unsigned i = 0; i < 16 && fpu; i++)
                bad += wrong(v[18 + i].low64 == t->want.xmm[i].low &&
                                     v[18 + i].high64 == t->want.xmm[i].high,
                             (unsigned) vp, "XMM", v[18 + i].low64, t->want.xmm[i].low);
        return bad;
}

static uint64_t vtl1_activity(uint64_t vp) {
        const uint32_t names[3] = { HV_REGISTER_INTERNAL_ACTIVITY_STATE,
                                    HV_REGISTER_INTERRUPT_STATE, HV_REGISTER_PENDING_INTERRUPTION };
        union hv_register_value v[3];

        if (hv_get_registers((uint32_t) vp, VTL0, names, 3, v) != HV_REPS(3))
                return ~0ull;
        return v[0].low64 | v[1].low64 << 8 | v[2].low64 << 16;
}

static void check_reading(unsigned vp) {
        const struct target *t = &targets[vp];

        is(vtl1_run(vtl1_read_general, vp), 0, "VP %u: %s registers, RIP and RFLAGS", vp,
           t->state == IN_VTL1 ? "private" : "general and XMM");
        is(vtl1_run(vtl1_read_rows, vp), 0, "VP %u: control and debug registers, MSRs", vp);
        is(vtl1_run(vtl1_read_segments, vp), 0, "VP %u: segments and tables", vp);
        is(vtl1_run(vtl1_activity, vp), t->state == HALTED ? HV_ACTIVITY_HALT_SUSPEND : 0,
           "VP %u: its activity, nothing pending, nothing masked", vp);
        ok(job_busy(vp), "VP %u: still %s", vp, state_names[t->state]);
}

/* ---- Writing, in VTL1 of VP 0 ---- */

static uint64_t remote_value(unsigned i) {
        return rows[i].get == read_cr3 ? (uint64_t) other_pml4 : rows[i].remote;
}

static uint64_t vtl1_write_rows(uint64_t vp) {
        union hv_register_value v[ROWS];
        uint32_t names[ROWS];
        unsigned n = 0;

        for (unsigned i = 0; i < ROWS; i++)
                if (row_there(i) && rows[i].remote != FIXED) {
                        names[n] = rows[i].reg;
                        v[n++] = (union hv_register_value){ .low64 = remote_value(i) };
                }
        return hv_set_registers((uint32_t) vp, VTL0, names, n, v) == HV_REPS(n);
}

/* All general registers but RSP, XMM, RFLAGS; a base, two limits; and RIP last */
static uint64_t vtl1_write_general(uint64_t vp) {
        struct target *t = &targets[vp];
        union hv_register_value v[36] = { 0 };
        uint32_t names[36];
        unsigned n = 0;

        pattern_fill(&t->want, vp + 100);
        for (unsigned i = 0; i < 16; i++) {
                if (i == 4)
                        continue;
                names[n] = HV_X64_REGISTER_RAX + i;
                v[n++].low64 = t->want.gpr[i];
        }
        for (unsigned i = 0; i < 16 && fpu; i++) {
                names[n] = HV_X64_REGISTER_XMM0 + i;
                v[n].low64 = t->want.xmm[i].low;
                v[n++].high64 = t->want.xmm[i].high;
        }
        names[n] = HV_X64_REGISTER_FS;
        v[n++].segment = (struct hv_x64_segment_register){ .base = 0x7654321000,
                                                           .limit = 0xffffffff,
                                                           .attributes = 0xc093 };
        names[n] = HV_X64_REGISTER_IDTR;
        v[n++].table =
                (struct hv_x64_table_register){ .base = t->segments.idtr.base, .limit = 0x8ff };
        names[n] = HV_X64_REGISTER_RFLAGS;
        v[n++].low64 = RFLAGS_FIXED | 0x880;
        names[n] = HV_X64_REGISTER_RIP;
        v[n++].low64 = (uint64_t) pattern_leave;
        return hv_set_registers((uint32_t) vp, VTL0, names, n, v) == HV_REPS(n);
}

static uint64_t vtl1_wake(uint64_t vp) {
        const uint32_t name = HV_REGISTER_INTERNAL_ACTIVITY_STATE;
        const union hv_register_value v = { .low64 = 0 };

        return hv_set_registers((uint32_t) vp, VTL0, &name, 1, &v) == HV_REPS(1);
}

static void check_written(unsigned vp) {
        const struct target *t = &targets[vp];
        unsigned bad = 0;

        for (unsigned i = 0; i < ROWS; i++)
                if (row_known(t, i)) {
                        uint64_t want = rows[i].remote == FIXED ? t->at[i] : remote_value(i);

                        bad += wrong(t->after[i] == want, vp, rows[i].name, t->after[i], want);
                }
        is(bad, 0, "VP %u: has control registers and MSRs as written", vp);
        if (t->state == IN_VTL1)
                return;
        is(pattern_differs(&t->p, &t->want), 0, "VP %u: has general and XMM registers as written",
           vp);
        is(t->p.rflags & 0xfff, RFLAGS_FIXED | 0x880, "VP %u: and RFLAGS", vp);
        is(t->segments_after.segment[4].base, 0x7654321000, "VP %u: FS", vp);
        is(t->segments_after.idtr.limit, 0x8ff, "VP %u: and the limit of IDTR", vp);
}

static void test_state(unsigned vp, enum state state) {
        begin(vp, state);
        check_reading(vp);
        end(vp);
        if (state != IN_VTL1)
                is(pattern_differs(&targets[vp].p, &targets[vp].want), 0,
                   "VP %u: its registers are as they were", vp);

        begin(vp, state);
        is(vtl1_run(vtl1_write_rows, vp), 1, "VP %u: control and debug registers, MSRs written",
           vp);
        if (state == IN_VTL1)
                targets[vp].leave = true;
        else
                is(vtl1_run(vtl1_write_general, vp), 1, "VP %u: the others written, RIP last", vp);
        if (state == HALTED) {
                spin_ms(3);
                ok(job_busy(vp), "VP %u: is halted all the same", vp);
                is(vtl1_run(vtl1_wake, vp), 1, "VP %u: until its activity is written", vp);
        }
        job_wait(vp, "its new registers");
        check_written(vp);
}

/* Every VP in another state, all at once */
static void test_all(unsigned n) {
        for (unsigned round = 0; round < STATES; round++) {
                for (unsigned vp = 1; vp < n; vp++)
                        begin(vp, (vp + round) % STATES);
                for (unsigned vp = 1; vp < n; vp++)
                        check_reading(vp);
                for (unsigned vp = 1; vp < n; vp++)
                        end(vp);
        }
}

void guest_main(void) {
        unsigned n = cpu_count();
        uint32_t r[4];

        if (n < 2)
                skip_all("one CPU");
        fpu = cmdline_number("fpu", 0);
        cpuid(0x80000001, 0, r);
        has_tsc_aux = r[3] >> 27 & 1;
        vsm_open();
        tsc_per_ms();
        memcpy(other_pml4, boot_pml4, sizeof(other_pml4));
        irq_set(VECTOR_NMI, pattern_on_nmi);
        for (unsigned i = 1; i < n; i++)
                job_open_vtl1(i);
        for (enum state state = 0; state < STATES; state++)
                test_state(1 + state % (n - 1), state);
        if (!fpu)
                skip("this host does not run SSE code of a guest", "XMM registers");
        if (!has_tsc_aux)
                skip("this CPU has none", "TSC_AUX");
        if (n > 2)
                test_all(n);
}
