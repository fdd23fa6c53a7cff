/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VTL call and return: what crosses, what stays, fast and normal return, entry reasons (vsm.md 6).
 * Command line: switches=N (default 1000), exact=1 when the host carries debug registers at every
 * switch.
 */
#include "lib/probes.h"

#define MAGIC 0x5a5a000000000000ull

static struct gprs seen; /* what VTL1 found */
static struct gprs give; /* what VTL1 leaves; rsp: fast return */

static bool exchange(struct gprs *g) {
        seen = *g;
        *g = give;
        g->rflags = RFLAGS_FIXED;
        return give.rsp;
}

static void fill(struct gprs *g, uint64_t seed) {
        uint64_t *r = (uint64_t *) g;

        for (unsigned i = 0; i < 16; i++)
                r[i] = MAGIC + seed * 16 + i;
        g->rflags = read_flags();
}

/* RAX, RCX and RSP apart */
static bool same_gprs(const struct gprs *a, const struct gprs *b) {
        const uint64_t *x = (const uint64_t *) a, *y = (const uint64_t *) b;
        bool same = true;

        for (unsigned i = 2; i < 16; i++)
                if (i != 4 && x[i] != y[i]) {
                        print("# register %u: 0x%lx, 0x%lx\n", i, x[i], y[i]);
                        same = false;
                }
        return same;
}

static void test_gprs(void) {
        struct gprs out, g;

        vtl1_on_call = exchange;
        fill(&out, 1);
        fill(&give, 2);
        give.rsp = false;
        g = out;
        vtl_call(&g);
        ok(same_gprs(&seen, &out), "VTL call: VTL1 sees VTL0's registers");
        ok(same_gprs(&g, &give), "normal return: VTL0 sees what VTL1 left");
        is(g.rax, give.rax, "normal return: RAX from the assist page");
        is(g.rcx, give.rcx, "normal return: RCX from the assist page");

        fill(&out, 3);
        fill(&give, 4);
        give.rsp = true;
        g = out;
        vtl_call(&g);
        ok(same_gprs(&seen, &out) && same_gprs(&g, &give),
           "fast return: registers cross both ways");
        ok(g.rax != MAGIC + 32 && g.rcx != MAGIC + 33,
           "fast return: nothing from the assist page (RAX 0x%lx, RCX 0x%lx)", g.rax, g.rcx);

        fill(&out, 5);
        g = out;
        g.rax = 0;
        g.rcx = HVCALL_VTL_CALL;
        call_with_gprs(this_cpu()->hypercall_entry, &g);
        ok(same_gprs(&seen, &out) && same_gprs(&g, &give), "hypercall 0x11: the same");
}

/* As VTL1 returns when it uses hypercall 0x12 at offset 0. */
static uint64_t return_plain(uint64_t control) {
        struct cpu *c = this_cpu();
        struct gprs g = gprs_zero();

        fill(&g, 9);
        g.rax = control;
        g.rcx = HVCALL_VTL_RETURN;
        g.rflags = RFLAGS_FIXED;
        c->assist->vtl_control.vtl_return_x64_rax = MAGIC + 0x777;
        c->assist->vtl_control.vtl_return_x64_rcx = MAGIC + 0x888;
        call_with_gprs(c->hypercall_entry, &g);
        return g.rbx; /* of VTL0's next call */
}

static void test_plain_return(void) {
        struct gprs g = gprs_zero(), want;

        vtl1_on_call = vtl1_call_default;
        fill(&want, 9);
        g.rdi = (uint64_t) return_plain;
        g.rsi = 0;
        vtl_call(&g);
        ok(same_gprs(&g, &want), "hypercall 0x12 returns with VTL1's registers");
        is(g.rax, MAGIC + 0x777, "RAX from the assist page");
        is(g.rcx, MAGIC + 0x888, "RCX from the assist page");
        g = gprs_zero();
        g.rbx = 0xb0b;
        vtl_call(&g);
        is(g.rdx, 0xb0b, "VTL1 goes on behind its return");

        g = gprs_zero();
        g.rdi = (uint64_t) return_plain;
        g.rsi = 1;
        vtl_call(&g);
        ok(same_gprs(&g, &want) && g.rax != MAGIC + 0x777,
           "hypercall 0x12 with control input 1 is a fast return");
        vtl_call(&g);
}

static void test_flags(void) {
        struct gprs g;

        vtl1_on_call = exchange;
        fill(&give, 6);
        give.rsp = true;
        fill(&g, 7);
        g.rflags = RFLAGS_FIXED | RFLAGS_CF | RFLAGS_DF | RFLAGS_IF | 0x880;
        vtl_call(&g);
        is(seen.rflags & ~RFLAGS_RF, RFLAGS_FIXED, "RFLAGS of VTL1 are its own");
        is(g.rflags & 0xfff, RFLAGS_FIXED | RFLAGS_CF | RFLAGS_DF | RFLAGS_IF | 0x880,
           "RFLAGS of VTL0 are kept");
        write_flags(RFLAGS_FIXED);
}

/* Private state, one row each: VTL1 must not see VTL0's value, and both keep theirs. */

static uint64_t get_idtr(void) {
        return read_idtr().base;
}

static uint64_t get_gdtr(void) {
        return read_gdtr().base;
}

static uint64_t get_tr(void) {
        uint64_t v;

        __asm__ volatile("str %0" : "=r"(v));
        return v;
}

static uint64_t get_apic_tpr(void) {
        return apic_read(APIC_TPR);
}

static void set_apic_tpr(uint64_t v) {
        apic_write(APIC_TPR, (uint32_t) v);
}

static void set_idtr(uint64_t base) {
        write_idtr((struct table_pointer){ .limit = 4095, .base = base });
}

#define DEFINE_MSR_ACCESS(name, index)       \
        static uint64_t get_##name(void) {   \
                return rdmsr(index);         \
        }                                    \
        static void set_##name(uint64_t v) { \
                wrmsr(index, v);             \
        }
DEFINE_MSR_ACCESS(star, MSR_STAR)
DEFINE_MSR_ACCESS(lstar, MSR_LSTAR)
DEFINE_MSR_ACCESS(fs_base, MSR_FS_BASE)
DEFINE_MSR_ACCESS(kernel_gs, MSR_KERNEL_GS_BASE)
DEFINE_MSR_ACCESS(efer, MSR_EFER)
DEFINE_MSR_ACCESS(sysenter_cs, 0x174)
DEFINE_MSR_ACCESS(sysenter_esp, 0x175)
DEFINE_MSR_ACCESS(sysenter_eip, 0x176)
DEFINE_MSR_ACCESS(pat, MSR_PAT)
DEFINE_MSR_ACCESS(gs_base, MSR_GS_BASE)
DEFINE_MSR_ACCESS(os_id, HV_MSR_GUEST_OS_ID)
DEFINE_MSR_ACCESS(sint1, HV_MSR_SINT0 + 1)

#define KEEP 1ull /* for values: leave it alone, only compare */

static const struct {
        const char *name;
        uint64_t (*get)(void);
        void (*set)(uint64_t v);
        uint64_t vtl0, vtl1; /* to be set; KEEP */
        uint64_t initial;    /* in VTL1; KEEP: whatever */
} rows[] = {
        { "CR3", read_cr3, write_cr3, KEEP, KEEP, KEEP },
        { "CR8", read_cr8, write_cr8, 5, 3, 0 },
        { "APIC TPR", get_apic_tpr, set_apic_tpr, 0x50, 0x30, 0 },
        { "DR7", read_dr7, write_dr7, 0x500, 0x600, 0x400 },
        { "IDTR", get_idtr, set_idtr, KEEP, KEEP, KEEP },
        { "GDTR", get_gdtr, NULL, KEEP, KEEP, KEEP },
        { "TR", get_tr, NULL, KEEP, KEEP, KEEP },
        { "GS base", get_gs_base, set_gs_base, KEEP, KEEP, KEEP },
        { "FS base", get_fs_base, set_fs_base, 0x1111000, 0x2222000, 0 },
        { "KERNEL_GS_BASE", get_kernel_gs, set_kernel_gs, 0x3333000, 0x4444000, 0 },
        { "STAR", get_star, set_star, 0x0018000800000000, 0x0010001000000000, 0 },
        { "LSTAR", get_lstar, set_lstar, 0x5555000, 0x6666000, 0 },
        { "SYSENTER_CS", get_sysenter_cs, set_sysenter_cs, 0x10, 0x20, 0 },
        { "SYSENTER_ESP", get_sysenter_esp, set_sysenter_esp, 0x7777000, 0x8888000, 0 },
        { "SYSENTER_EIP", get_sysenter_eip, set_sysenter_eip, 0x7777100, 0x8888100, 0 },
        { "EFER", get_efer, set_efer, 0xd01, KEEP, KEEP },
        { "PAT", get_pat, set_pat, KEEP, 0x0007010600070106, KEEP },
        { "guest OS id", get_os_id, set_os_id, KEEP, 0x8200000000020000, KEEP },
        { "SINT1", get_sint1, set_sint1, 0x10051, 0x10052, 0x10000 },
};

static uint64_t row_get(uint64_t i) {
        return rows[i].get();
}

static uint64_t row_set(uint64_t i) {
        rows[i].set(rows[i].vtl1);
        return 0;
}

static uint64_t row_restore(uint64_t row_and_value) {
        const uint64_t *a = (const uint64_t *) row_and_value;

        rows[a[0]].set(a[1]);
        return 0;
}

static bool differs(unsigned i) {
        return rows[i].get == get_tr || rows[i].get == get_efer || rows[i].get == get_pat ||
               rows[i].get == get_os_id;
}

static void test_private(void) {
        vtl1_on_call = vtl1_call_default;
        for (unsigned i = 0; i < ELEMENTSOF(rows); i++) {
                uint64_t before = rows[i].get(), before1 = vtl1_run(row_get, i);
                uint64_t want0 = before, want1 = before1, back[2] = { i, before1 };

                if (rows[i].initial != KEEP)
                        is(before1, rows[i].initial, "%s: initial value in VTL1", rows[i].name);
                else if (!differs(i))
                        ok(before != before1, "%s: differs between the levels", rows[i].name);
                if (rows[i].vtl0 != KEEP) {
                        want0 = rows[i].vtl0;
                        rows[i].set(want0);
                }
                if (rows[i].vtl1 != KEEP) {
                        want1 = rows[i].vtl1;
                        vtl1_run(row_set, i);
                }
                is(rows[i].get(), want0, "%s: VTL0 keeps its value", rows[i].name);
                is(vtl1_run(row_get, i), want1, "%s: VTL1 keeps its value", rows[i].name);
                is(rows[i].get(), want0, "%s: VTL0's value after that", rows[i].name);
                if (rows[i].vtl0 != KEEP)
                        rows[i].set(before);
                if (rows[i].vtl1 != KEEP)
                        vtl1_run(row_restore, (uint64_t) back);
        }
}

/* Shared state */

static uint64_t swap_cr2(uint64_t v) {
        uint64_t old = read_cr2();

        write_cr2(v);
        return old;
}

static uint64_t vtl1_drs[4];

static uint64_t swap_drs(uint64_t v) {
        vtl1_drs[0] = read_dr0();
        vtl1_drs[1] = read_dr1();
        vtl1_drs[2] = read_dr2();
        vtl1_drs[3] = read_dr3();
        write_dr0(v);
        write_dr1(v + 1);
        write_dr2(v + 2);
        write_dr3(v + 3);
        return 0;
}

static void set_drs(uint64_t v) {
        write_dr0(v);
        write_dr1(v + 1);
        write_dr2(v + 2);
        write_dr3(v + 3);
}

static void drs_intercept(struct hv_message *m, struct gprs *g) {
        const struct hv_memory_intercept *i = (const void *) m->payload;

        swap_drs(0x2000);
        hv_set(VTL0, HV_X64_REGISTER_RIP, i->header.rip + (i->header.instruction_length & 0xf));
}

static bool drs_are(uint64_t v) {
        return read_dr0() == v && read_dr1() == v + 1 && read_dr2() == v + 2 && read_dr3() == v + 3;
}

static void test_shared(void) {
        void (*handler)(struct hv_message *, struct gprs *) = vtl1_on_intercept;

        write_cr2(0x1234567);
        is(vtl1_run(swap_cr2, 0x7654321), 0x1234567, "CR2: VTL1 sees VTL0's");
        is(read_cr2(), 0x7654321, "CR2: VTL0 sees VTL1's");

        if (cmdline_number("exact", 0)) {
                set_drs(0x3000);
                vtl1_run(swap_drs, 0x4000);
                is(vtl1_drs[0] + vtl1_drs[3], 0x3000 + 0x3003, "DR0-3 on VTL call");
                ok(drs_are(0x4000), "DR0-3 on VTL return");
        } else
                skip("carried only by switches through the engine", "DR0-3 on VTL call and return");

        /* An intercept goes through the engine; the return from it may not. */
        is(HV_RESULT_STATUS(protect(WINDOW_PAGE(1), 1, 0)), 0, "a page is closed");
        vtl1_on_intercept = drs_intercept;
        set_drs(0x1000);
        probe_load((void *) WINDOW_PAGE(1));
        ok(vtl1_drs[0] == 0x1000 && vtl1_drs[1] == 0x1001 && vtl1_drs[2] == 0x1002 &&
                   vtl1_drs[3] == 0x1003,
           "DR0-3 reach VTL1 with an intercept");
        ok(drs_are(0x2000), "DR0-3 come back from VTL1");
        vtl1_on_intercept = handler;
        is(HV_RESULT_STATUS(protect(WINDOW_PAGE(1), 1, HV_MAP_GPA_ALL)), 0, "and opened");
}

/* Interrupts of VTL1: entry reason 2, TPR, re-entry at once when one is pending at return */

static unsigned ipis, ipis_in_vtl0;

static void on_ipi(struct trap_frame *f) {
        if (this_cpu()->vtl == 1)
                ipis++;
        else
                ipis_in_vtl0++;
        apic_eoi();
}

static uint64_t self_ipi(uint64_t priority) {
        write_cr8(priority);
        apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_IPI);
        return ipis;
}

static uint64_t set_priority(uint64_t priority) {
        write_cr8(priority);
        return 0;
}

static uint64_t take_here(uint64_t arg) {
        interrupt_window();
        return ipis;
}

static void test_interrupts(void) {
        struct gprs g;

        irq_set(VECTOR_IPI, on_ipi);
        is(vtl1_run(self_ipi, 0), 0, "an interrupt waits while VTL1 has IF clear");
        is(ipis, 1, "VTL1 was entered again for it, with reason 2");
        is(vtl1_run(self_ipi, 15), 1, "with the task priority at 15");
        is(ipis, 1, "VTL1 is not entered for it");
        vtl1_run(set_priority, 0);
        is(ipis, 2, "but when the priority is lowered");
        vtl1_run(self_ipi, 15);
        vtl1_run(set_priority, 4);
        is(ipis, 2, "a priority equal to the interrupt's class blocks it");
        vtl1_run(set_priority, 3);
        is(ipis, 3, "a lower one does not");
        vtl1_run(self_ipi, 0);
        is(vtl1_run(take_here, 0), 4, "four interrupts, four times taken");
        is(ipis_in_vtl0, 0, "none of them in VTL0");

        /* VTL0's registers survive an entry it did not ask for */
        vtl1_on_call = vtl1_call_default;
        fill(&g, 11);
        g.rdi = (uint64_t) self_ipi;
        g.rsi = 0;
        vtl_call(&g);
        is(g.rbx, MAGIC + 11 * 16 + 3, "RBX after call, return, interrupt and return");
        is(g.r15, MAGIC + 11 * 16 + 15, "R15 likewise");
        is(g.rdx, 4, "and the answer of the call");
}

/* An interrupt of VTL0 waits while VTL1 runs, even one that lets its own in. */
static unsigned vtl0_ticks, vtl1_ticks;

static void on_tick(struct trap_frame *f) {
        if (this_cpu()->vtl == 0)
                vtl0_ticks++;
        else
                vtl1_ticks++;
        apic_eoi();
}

static uint64_t open_window(uint64_t arg) {
        interrupt_window();
        interrupt_window();
        return vtl0_ticks + vtl1_ticks;
}

static void test_lower_interrupt(void) {
        struct gprs g = gprs_zero();

        irq_set(VECTOR_TIMER, on_tick);
        apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_TIMER);
        is(vtl1_run(open_window, 0), 0, "VTL1 gets no interrupt of VTL0's");
        is(vtl0_ticks, 0, "nor does VTL0, with IF clear");
        interrupt_window();
        is(vtl0_ticks, 1, "VTL0 gets it when it lets it in");

        /* With IF set it comes at the return, to VTL0. */
        write_cr8(15);
        apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_TIMER);
        g.rdi = (uint64_t) open_window;
        g.rflags = RFLAGS_FIXED | RFLAGS_IF;
        vtl_call(&g);
        is(g.rdx, 1, "VTL1 gets none either when VTL0 has IF set");
        write_flags(RFLAGS_FIXED);
        is(vtl0_ticks, 1, "nor VTL0 while its priority forbids");
        write_cr8(0);
        interrupt_window();
        is(vtl0_ticks, 2, "but then");
        is(vtl1_ticks, 0, "none went to VTL1");
}

static void test_many(void) {
        unsigned n = (unsigned) cmdline_number("switches", 1000), bad = 0;
        struct gprs out, g;

        vtl1_on_call = exchange;
        for (unsigned i = 0; i < n; i++) {
                fill(&out, 2 * i);
                fill(&give, 2 * i + 1);
                give.rsp = i & 1;
                g = out;
                vtl_call(&g);
                if (!same_gprs(&seen, &out) || !same_gprs(&g, &give) ||
                    (!(i & 1) && (g.rax != give.rax || g.rcx != give.rcx)))
                        bad++;
                if (bad > 3)
                        break;
        }
        is(bad, 0, "%u switches with changing registers", n);
        vtl1_on_call = vtl1_call_default;
}

void guest_main(void) {
        vsm_protect();
        test_gprs();
        test_plain_return();
        test_flags();
        test_private();
        test_shared();
        test_interrupts();
        test_lower_interrupt();
        test_many();
}
