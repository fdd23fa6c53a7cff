/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * GetVpRegisters and SetVpRegisters of another VP (vsm.md 3.7, 3.8, 4.2): who may, lists that fail
 * in the middle, calls in registers, a VP that was not started yet, and VPs that look at each other
 * at the same time. What the registers hold is in crossvp.c.
 * Command line: fpu=1 on a host that runs SSE code of a guest; reads=N of VPs of each other.
 */
#include "lib/hv.h"

#define UNKNOWN 0x12345678u
#define NOT_CANONICAL (1ull << 60)

/* What VTL1 is to ask for */
static struct {
        uint32_t vp;
        uint8_t vtl;
        unsigned n;
        uint32_t names[8];
        union hv_register_value v[8];
} job;

static uint64_t get_here(uint64_t arg) {
        for (unsigned i = 0; i < ELEMENTSOF(job.v); i++)
                job.v[i] = (union hv_register_value){ .low64 = 0xeeee, .high64 = 0xeeee };
        return hv_get_registers(job.vp, job.vtl, job.names, job.n, job.v);
}

static uint64_t set_here(uint64_t arg) {
        return hv_set_registers(job.vp, job.vtl, job.names, job.n, job.v);
}

static void ask(uint32_t vp, uint8_t vtl, uint32_t name) {
        job.vp = vp;
        job.vtl = vtl;
        job.n = 1;
        job.names[0] = name;
}

static unsigned get(uint32_t vp, uint8_t vtl, uint32_t name) {
        ask(vp, vtl, name);
        return HV_RESULT_STATUS(vtl1_run(get_here, 0));
}

static unsigned set(uint32_t vp, uint8_t vtl, uint32_t name, uint64_t value) {
        ask(vp, vtl, name);
        job.v[0] = (union hv_register_value){ .low64 = value };
        return HV_RESULT_STATUS(vtl1_run(set_here, 0));
}

/* ---- A VP that waits to be started ---- */

static uint64_t vtl1_enable(uint64_t vp) {
        struct hv_initial_vp_context context;

        vtl1_context((unsigned) vp, &context);
        return hv_enable_vp_vtl(HV_PARTITION_ID_SELF, (uint32_t) vp, 1, &context);
}

static void is_get(unsigned vp, uint8_t vtl, uint32_t name, uint64_t want, const char *what) {
        unsigned status = get(vp, vtl, name);

        is(status, 0, "VP %u, not started: VTL%u's %s", vp, vtl & 0xf, what);
        if (status == 0)
                is(job.v[0].low64, want, "VP %u, not started: %s", vp, what);
}

static void test_not_started(unsigned vp) {
        struct hv_initial_vp_context context;

        is_get(vp, VTL0, HV_REGISTER_INTERNAL_ACTIVITY_STATE, HV_ACTIVITY_STARTUP_SUSPEND,
               "activity");
        is_get(vp, VTL0, HV_X64_REGISTER_RIP, 0xfff0, "RIP");
        is_get(vp, VTL0, HV_X64_REGISTER_RFLAGS, RFLAGS_FIXED, "RFLAGS");
        is_get(vp, VTL0, HV_X64_REGISTER_CR0, 0x60000010, "CR0");
        is_get(vp, VTL0, HV_X64_REGISTER_CR3, 0, "CR3");
        is_get(vp, VTL0, HV_X64_REGISTER_EFER, 0, "EFER");
        is_get(vp, VTL0, HV_REGISTER_VSM_VP_STATUS, 0x10000, "VsmVpStatus");
        is_get(vp, VTL0, HV_REGISTER_VP_INDEX, vp, "VP index");
        is(get(vp, VTL0, HV_X64_REGISTER_CS), 0, "VP %u, not started: CS", vp);
        is(job.v[0].segment.base, 0xffff0000, "VP %u, not started: CS base", vp);
        is(job.v[0].segment.selector, 0xf000, "VP %u, not started: CS selector", vp);
        is(set(vp, VTL0, HV_X64_REGISTER_LSTAR, 0x4321000), 0, "VP %u, not started: LSTAR written",
           vp);
        is_get(vp, VTL0, HV_X64_REGISTER_LSTAR, 0x4321000, "LSTAR");

        is(get(vp, VTL1, HV_X64_REGISTER_RIP), HV_STATUS_INVALID_VTL_STATE,
           "VP %u: has no VTL1 to read", vp);
        is(vtl1_run(vtl1_enable, vp), 0, "VP %u: EnableVpVtl", vp);
        vtl1_context(vp, &context);
        is_get(vp, VTL1, HV_X64_REGISTER_RIP, context.rip, "RIP, as EnableVpVtl had it");
        is_get(vp, VTL1, HV_X64_REGISTER_RSP, context.rsp, "RSP");
        is_get(vp, VTL1, HV_X64_REGISTER_CR3, context.cr3, "CR3");
        is(get(vp, VTL1, HV_X64_REGISTER_GS), 0, "VP %u, not started: VTL1's GS", vp);
        is(job.v[0].segment.base, context.gs.base, "VP %u, not started: its base", vp);
        is_get(vp, VTL0, HV_REGISTER_VSM_VP_STATUS, 0x30000, "VsmVpStatus");
        is_get(vp, VTL0, HV_REGISTER_INTERNAL_ACTIVITY_STATE, HV_ACTIVITY_STARTUP_SUSPEND,
               "activity after that");
}

/* Started by INIT and SIPI, after all that */
static uint64_t first_call(uint64_t arg) {
        return hv_register(HV_REGISTER_VSM_VP_STATUS);
}

static void start(unsigned vp) {
        job_open(vp);
        is(job_run_vtl1(vp, first_call, 0, "the first secure call"), 0x30001,
           "VP %u: starts all the same, and its VTL1 runs", vp);
}

/* ---- Who may ---- */

static void test_access(unsigned n) {
        static const uint32_t names[] = {
                HV_X64_REGISTER_RIP,
                HV_X64_REGISTER_RAX,
                HV_X64_REGISTER_CR3,
                HV_X64_REGISTER_LSTAR,
                HV_REGISTER_VP_ASSIST_PAGE,
                HV_REGISTER_SINT0,
                HV_REGISTER_VSM_VP_STATUS,
                HV_REGISTER_INTERNAL_ACTIVITY_STATE,
                HV_REGISTER_PENDING_INTERRUPTION,
        };
        union hv_register_value v = { .low64 = 0 };
        unsigned read = 0, written = 0;

        for (unsigned i = 0; i < ELEMENTSOF(names); i++) {
                read += HV_RESULT_STATUS(hv_get_registers(1, VTL_SELF, &names[i], 1, &v)) ==
                        HV_STATUS_ACCESS_DENIED;
                written += HV_RESULT_STATUS(hv_set_registers(1, VTL0, &names[i], 1, &v)) != 0;
        }
        is(read, ELEMENTSOF(names), "VTL0 reads no register of another VP");
        is(written, ELEMENTSOF(names), "and writes none");
        is(get(n, VTL0, HV_X64_REGISTER_RIP), HV_STATUS_INVALID_VP_INDEX,
           "VTL1: a VP that is not there");
        is(set(n, VTL0, HV_X64_REGISTER_RIP, 0), HV_STATUS_INVALID_VP_INDEX, "to write, too");
        is(get(0xffffffff, VTL0, HV_X64_REGISTER_RIP), HV_STATUS_INVALID_VP_INDEX, "any VP");
        is(get(1, 0x20, HV_X64_REGISTER_RIP), HV_STATUS_INVALID_PARAMETER, "reserved bits of VTL");
        is(get(1, 0x12, HV_X64_REGISTER_RIP), HV_STATUS_ACCESS_DENIED, "VTL2");
        is(get(1, VTL0, UNKNOWN), HV_STATUS_INVALID_PARAMETER, "an unknown register");
        is(set(1, VTL0, UNKNOWN, 0), HV_STATUS_INVALID_PARAMETER, "to write, too");
        is(get(1, VTL_SELF, HV_X64_REGISTER_CR3), 0, "VTL1 reads the other VP's VTL1");
        is(job.v[0].low64, (uint64_t) vtl1_pml4, "its CR3");
        is(set(1, VTL_SELF, HV_X64_REGISTER_CR3, 0), HV_STATUS_ACCESS_DENIED,
           "but does not write it");
        is(get(1, VTL_SELF, HV_REGISTER_SINT0), 0, "the other VTL1's SINT0");
        is(job.v[0].low64, VECTOR_SINT0 | HV_SINT_AUTO_EOI, "as it is");
        is(set(1, VTL_SELF, HV_REGISTER_SINT0 + 4, 0x10044), 0, "SINT4 is written");
        is(get(1, VTL_SELF, HV_REGISTER_SINT0 + 4), 0, "and read");
        is(job.v[0].low64, 0x10044, "back");
        is(get(0, VTL_SELF, HV_REGISTER_SINT0 + 4), 0, "VP 0's own");
        is(job.v[0].low64, HV_SINT_RESET, "is another one");
}

/* ---- Lists ---- */

static uint64_t read_star(uint64_t arg) {
        return rdmsr(MSR_STAR);
}

static uint64_t read_lstar(uint64_t arg) {
        return rdmsr(MSR_LSTAR);
}

static void test_lists(void) {
        uint64_t r;

        job.vp = 1;
        job.vtl = VTL0;
        job.n = 3;
        job.names[0] = HV_X64_REGISTER_LSTAR;
        job.names[1] = HV_X64_REGISTER_CSTAR;
        job.names[2] = HV_X64_REGISTER_STAR;
        job.v[0] = (union hv_register_value){ .low64 = 0x9990000 };
        job.v[1] = (union hv_register_value){ .low64 = NOT_CANONICAL };
        job.v[2] = (union hv_register_value){ .low64 = 0x1230000000000000 };
        r = vtl1_run(set_here, 0);
        is(r, HV_REPS(1) | HV_STATUS_INVALID_REGISTER_VALUE,
           "a list whose second value is wrong: that one is told");
        is(job_run(1, read_lstar, 0, "LSTAR"), 0x9990000, "the first is written");
        ok(job_run(1, read_star, 0, "STAR") != 0x1230000000000000, "the third is not");

        job.n = 4;
        job.names[1] = HV_REGISTER_VP_INDEX; /* the engine's, between those of the vCPU */
        job.names[2] = UNKNOWN;
        job.names[3] = HV_X64_REGISTER_LSTAR;
        r = vtl1_run(get_here, 0);
        is(r, HV_REPS(2) | HV_STATUS_INVALID_PARAMETER,
           "a list whose third name is wrong: that one is told");
        ok(job.v[0].low64 == 0x9990000 && job.v[1].low64 == 1, "the first two are read");
        is(job.v[2].low64, 0xeeee, "no more is");

        job.n = 4;
        job.names[2] = HV_X64_REGISTER_CR3;
        r = vtl1_run(get_here, 0);
        is(r, HV_REPS(4), "a good list");
        ok(job.v[2].low64 == (uint64_t) boot_pml4 && job.v[3].low64 == 0x9990000,
           "is read to its end");
}

static uint64_t vtl1_from_the_middle(uint64_t arg) {
        struct hv_input_registers *in = (void *) this_cpu()->in;
        uint64_t *out = this_cpu()->out;

        *in = (struct hv_input_registers){ .partition = HV_PARTITION_ID_SELF,
                                           .vp = 1,
                                           .vtl = VTL0 };
        for (unsigned i = 0; i < 4; i++)
                in->name[i] = HV_X64_REGISTER_LSTAR;
        memset(out, 0xee, 64);
        return hv_call_memory(HVCALL_GET_VP_REGISTERS | HV_REPS(4) | HV_REP_START(2)) ==
                       HV_REPS(4) &&
               out[0] == 0xeeeeeeeeeeeeeeee && out[4] == 0x9990000 && out[6] == 0x9990000;
}

/* In registers: VTL0's LSTAR and CR3 of VP 1, and LSTAR written */
static uint64_t vtl1_fast(uint64_t arg) {
        struct xmm_call c = { .control = HVCALL_GET_VP_REGISTERS | HV_CONTROL_FAST | HV_REPS(2),
                              .rdx = HV_PARTITION_ID_SELF,
                              .r8 = 1 | (uint64_t) VTL0 << 32,
                              .entry = this_cpu()->hypercall_entry };
        uint64_t r;

        c.xmm[0].low = HV_X64_REGISTER_LSTAR | (uint64_t) HV_X64_REGISTER_CR3 << 32;
        r = xmm_call(&c) == HV_REPS(2) && c.xmm[1].low == 0x9990000 &&
            c.xmm[2].low == (uint64_t) boot_pml4;
        c.control = HVCALL_SET_VP_REGISTERS | HV_CONTROL_FAST | HV_REPS(1);
        c.xmm[0] = (struct xmm){ .low = HV_X64_REGISTER_LSTAR };
        c.xmm[1] = (struct xmm){ .low = 0x8880000 };
        return r << 1 | (xmm_call(&c) == HV_REPS(1));
}

static void test_forms(void) {
        is(vtl1_run(vtl1_from_the_middle, 0), 1, "a list from its third element on");
        if (!cmdline_number("fpu", 0)) {
                skip("this host does not run SSE code of a guest", "calls in registers");
                return;
        }
        is(vtl1_run(vtl1_fast, 0), 3, "calls in registers, two names read, one written");
        is(job_run(1, read_lstar, 0, "LSTAR"), 0x8880000, "the other VP has it");
}

/* ---- VPs that look at each other ---- */

static unsigned vps;
static volatile unsigned looking;

static uint64_t mark_here(uint64_t vp) {
        wrmsr(MSR_LSTAR, 0x1110000 + (vp << 12));
        wrmsr(MSR_STAR, 0);
        return 0;
}

struct look {
        unsigned n, at;
};

/* In VTL1: reads where the other VP's VTL0 waits for VTL1, and leaves a number there. */
static uint64_t vtl1_look(uint64_t arg) {
        const struct look *l = (const struct look *) arg;
        const uint32_t names[2] = { HV_X64_REGISTER_LSTAR, HV_X64_REGISTER_RIP };
        const uint32_t star = HV_X64_REGISTER_STAR;
        unsigned bad = 0;

        __atomic_add_fetch(&looking, 1, __ATOMIC_SEQ_CST);
        spin_for(&looking, vps, 5000);
        for (unsigned i = 1; i <= l->n; i++) {
                union hv_register_value v[2] = { { .low64 = 0 } }, count = { .low64 = i };

                bad += hv_get_registers(l->at, VTL0, names, 2, v) != HV_REPS(2) ||
                       v[0].low64 != 0x1110000 + ((uint64_t) l->at << 12) || v[1].low64 == 0;
                bad += hv_set_registers(l->at, VTL0, &star, 1, &count) != HV_REPS(1);
        }
        return bad;
}

/* Each of the first @n VPs looks at the one whose index differs by @step. */
static void test_each_other(unsigned n, unsigned step, bool pairs) {
        static struct look looks[MAX_CPUS];
        unsigned count = (unsigned) cmdline_number("reads", 1000) * 2 / n;
        uint64_t bad = 0, last = 0;

        vps = n;
        looking = 0;
        mark_here(0);
        for (unsigned i = 1; i < n; i++)
                job_run(i, mark_here, i, "LSTAR");
        for (unsigned i = 0; i < n; i++)
                looks[i] = (struct look){ count, pairs ? i ^ step : (i + step) % n };
        for (unsigned i = 1; i < n; i++)
                job_start_vtl1(i, vtl1_look, (uint64_t) &looks[i]);
        bad = vtl1_run(vtl1_look, (uint64_t) &looks[0]);
        for (unsigned i = 1; i < n; i++)
                bad += job_wait(i, "its look at the others");
        is(bad, 0, "%u VPs, each reads and writes %s %u times, all at once", n,
           pairs ? "one that does the same to it" : "the next one", count);
        for (unsigned i = 1; i < n; i++)
                last += job_run(i, read_star, 0, "STAR");
        is(last + rdmsr(MSR_STAR), (uint64_t) n * count, "all have the last value");
}

void guest_main(void) {
        unsigned n = cpu_count();

        if (n < 2)
                skip_all("one CPU");
        vsm_open();
        tsc_per_ms();
        for (unsigned i = 1; i < n; i++) {
                test_not_started(i);
                start(i);
        }
        test_access(n);
        test_lists();
        test_forms();
        test_each_other(2, 1, true);
        if (n >= 4) {
                test_each_other(4, 1, true);
                test_each_other(4, 2, true);
                test_each_other(4, 1, false);
        }
}
