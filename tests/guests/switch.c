/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VTL call and return: what crosses, what stays, fast and normal return, entry reasons (vsm.md 6).
 * What is private and what is shared is in state.c. Command line: switches=N (default 1000).
 */
#include "lib/hv.h"

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

/* VTL1 has turned its assist page off: what lies there now is RAM, and no matter. */
static uint64_t return_without_page(uint64_t arg) {
        struct cpu *c = this_cpu();
        struct gprs g = gprs_zero();

        c->assist->vtl_control.vtl_return_x64_rax = MAGIC + 0x777;
        c->assist->vtl_control.vtl_return_x64_rcx = MAGIC + 0x888;
        wrmsr(HV_MSR_VP_ASSIST_PAGE, 0);
        c->assist->vtl_control.vtl_return_x64_rax = MAGIC + 0x999;
        c->assist->vtl_control.vtl_return_x64_rcx = MAGIC + 0xaaa;
        c->assist->vtl_control.entry_reason = 99;
        g.rflags = RFLAGS_FIXED;
        call_with_gprs(c->vtl_return_entry, &g);
        wrmsr(HV_MSR_VP_ASSIST_PAGE, (uint64_t) c->assist | HV_MSR_PAGE_ENABLE);
        return c->assist->vtl_control.entry_reason;
}

static void test_no_page(void) {
        struct gprs g = gprs_zero();

        vtl1_on_call = vtl1_call_default;
        g.rdi = (uint64_t) return_without_page;
        vtl_call(&g);
        ok((g.rax == 0 && g.rcx == 0) || (g.rax == MAGIC + 0x777 && g.rcx == MAGIC + 0x888),
           "normal return without an assist page: zeros or what was last there (0x%lx, 0x%lx)",
           g.rax, g.rcx);
        vtl_call(&g);
        is(g.rdx, HV_VTL_ENTRY_VTL_CALL, "an entry reason from before the page was on is in it");
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

        vtl1_on_call = vtl1_call_default;
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
        test_no_page();
        test_flags();
        test_interrupts();
        test_lower_interrupt();
        test_many();
}
