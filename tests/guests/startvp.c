/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * StartVirtualProcessor (vsm.md 3.13): a VP that never had INIT or SIPI starts at a 64-bit context,
 * in the highest level that it has.
 */
#include "lib/hv.h"

#define LONG_MS 8000

/* What a started VP found: written by it, read by VP 0 */
static struct {
        volatile bool vtl1, vtl0;
        volatile unsigned order, vtl1_at, vtl0_at;
        uint64_t vtl1_status, vtl0_status, rsp, rflags, cr3, efer, gs, pat, apic_id, vp_index;
        uint64_t secure_call;
} seen[MAX_CPUS];

static volatile unsigned started;

static void vtl0_main(void);

static void own_context(unsigned index, struct hv_initial_vp_context *ret) {
        vtl0_context(index, vtl0_main, ret);
        ret->msr_cr_pat = 0x0007010600070106;
}

static uint64_t vtl1_look(uint64_t arg) {
        return hv_register(HV_REGISTER_VSM_VP_STATUS);
}

/* The first that runs in VTL0 of a started VP */
static void vtl0_main(void) {
        struct cpu *c = this_cpu();
        unsigned me = c->index;

        seen[me].vtl0_at = ++seen[me].order;
        seen[me].rsp = (uint64_t) __builtin_frame_address(0);
        seen[me].rflags = read_flags();
        seen[me].cr3 = read_cr3();
        seen[me].efer = rdmsr(MSR_EFER);
        seen[me].gs = rdmsr(MSR_GS_BASE);
        seen[me].pat = rdmsr(MSR_PAT);
        seen[me].vp_index = rdmsr(HV_MSR_VP_INDEX);
        apic_enable(false);
        seen[me].apic_id = apic_read(APIC_ID) >> 24;
        hv_open();
        seen[me].vtl0_status = hv_register(HV_REGISTER_VSM_VP_STATUS);
        if (seen[me].vtl0_status & 0x20000)
                seen[me].secure_call = vtl1_run(vtl1_look, 0);
        __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
        seen[me].vtl0 = true;
        for (;;)
                __asm__ volatile("cli; hlt");
}

/* VTL1 of a VP that is being started is entered without a function to call. */
static bool vtl1_first(struct gprs *g) {
        struct cpu *c = this_cpu();

        if (seen[c->index].vtl0_at == 0 && c->index != 0) {
                seen[c->index].vtl1_at = ++seen[c->index].order;
                seen[c->index].vtl1_status = hv_register(HV_REGISTER_VSM_VP_STATUS);
                seen[c->index].vtl1 = true;
                return true;
        }
        return vtl1_call_default(g);
}

static bool wait_for(volatile bool *flag) {
        uint64_t start = rdtsc();

        while (!*flag)
                if ((int64_t) (rdtsc() - start) > (int64_t) (LONG_MS * tsc_per_ms()))
                        return false;
        return true;
}

static void check_context(unsigned vp) {
        const struct cpu *c = &cpus[0][vp];

        is(seen[vp].vp_index, vp, "VP %u: its index", vp);
        is(seen[vp].apic_id, vp, "VP %u: its APIC id", vp);
        ok(seen[vp].rsp > (uint64_t) c->stack && seen[vp].rsp <= (uint64_t) c->stack + STACK_SIZE,
           "VP %u: RSP", vp);
        is(seen[vp].rflags & (RFLAGS_IF | RFLAGS_DF | RFLAGS_FIXED), RFLAGS_FIXED, "VP %u: RFLAGS",
           vp);
        is(seen[vp].cr3, (uint64_t) boot_pml4, "VP %u: CR3", vp);
        is(seen[vp].efer & 0x500, 0x500, "VP %u: EFER.LME and LMA", vp);
        is(seen[vp].gs, (uint64_t) c, "VP %u: GS base", vp);
        is(seen[vp].pat, 0x0007010600070106, "VP %u: PAT", vp);
}

/* ---- Status codes ---- */

static struct hv_initial_vp_context context;

static void check_errors(unsigned last) {
        is(hv_start_vp(42, 1, 0, &context), HV_STATUS_INVALID_PARTITION_ID, "partition 42");
        is(hv_start_vp(HV_PARTITION_ID_SELF, 0, 0, &context), HV_STATUS_INVALID_VP_INDEX,
           "the VP itself");
        is(hv_start_vp(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 0, &context),
           HV_STATUS_INVALID_VP_INDEX, "SELF");
        is(hv_start_vp(HV_PARTITION_ID_SELF, last + 1, 0, &context), HV_STATUS_INVALID_VP_INDEX,
           "a VP that is not there");
        is(hv_start_vp(HV_PARTITION_ID_SELF, 0xffffffff, 0, &context), HV_STATUS_INVALID_VP_INDEX,
           "any VP");
        is(hv_start_vp(HV_PARTITION_ID_SELF, 1, 1, &context), HV_STATUS_ACCESS_DENIED,
           "VTL1, from VTL0");
        is(hv_start_vp(HV_PARTITION_ID_SELF, 1, 3, &context), HV_STATUS_INVALID_PARAMETER, "VTL3");
}

/* ---- From VTL1 ---- */

static uint64_t vtl1_start_vtl1(uint64_t vp) {
        return hv_start_vp(HV_PARTITION_ID_SELF, (uint32_t) vp, 1, &context);
}

static uint64_t vtl1_start_vtl0(uint64_t vp) {
        own_context((unsigned) vp, &context);
        return hv_start_vp(HV_PARTITION_ID_SELF, (uint32_t) vp, 0, &context);
}

static uint64_t vtl1_enable(uint64_t vp) {
        struct hv_initial_vp_context c;

        vtl1_context((unsigned) vp, &c);
        return hv_enable_vp_vtl(HV_PARTITION_ID_SELF, (uint32_t) vp, 1, &c);
}

static void check_two_levels(unsigned vp) {
        ok(wait_for(&seen[vp].vtl1), "VP %u: VTL1 runs", vp);
        ok(wait_for(&seen[vp].vtl0), "VP %u: and VTL0", vp);
        is(seen[vp].vtl1_at, 1, "VP %u: VTL1 first", vp);
        is(seen[vp].vtl0_at, 2, "VP %u: VTL0 when it has returned", vp);
        is(seen[vp].vtl1_status, 0x30001, "VP %u: VTL1's status", vp);
        is(seen[vp].vtl0_status, 0x30000, "VP %u: VTL0's status", vp);
        is(seen[vp].secure_call, 0x30001, "VP %u: a secure call from there", vp);
        check_context(vp);
}

void guest_main(void) {
        unsigned n = cpu_count();

        if (n < 2)
                skip_all("one CPU");
        if (!(hv_privileges() & HV_PRIV_START_VIRTUAL_PROCESSOR))
                skip_all("the partition has no StartVirtualProcessor");
        vtl1_on_call = vtl1_first;
        hv_open();
        tsc_per_ms();

        /* Without any VTL1: VTL0 starts VP 1. */
        own_context(1, &context);
        check_errors(n - 1);
        is(hv_start_vp(HV_PARTITION_ID_SELF, 1, 0, &context), 0, "VTL0 starts VP 1");
        ok(wait_for(&seen[1].vtl0), "which runs, without INIT or SIPI");
        is(seen[1].vtl1_at, 0, "VP 1: no VTL1");
        is(seen[1].vtl0_status, 0x10000, "VP 1: its status");
        check_context(1);
        is(hv_start_vp(HV_PARTITION_ID_SELF, 1, 0, &context), HV_STATUS_INVALID_VP_STATE,
           "a running VP is not started again");

        vsm_open();
        is(vtl1_run(vtl1_start_vtl1, 0), HV_STATUS_INVALID_VP_INDEX, "VTL1: the VP itself");
        is(vtl1_run(vtl1_start_vtl1, n), HV_STATUS_INVALID_VP_INDEX,
           "VTL1: a VP that is not there");
        is(vtl1_run(vtl1_start_vtl1, n > 2 ? 2 : 1), HV_STATUS_INVALID_VP_STATE,
           "VTL1: a VP that has no VTL1 yet");
        is(vtl1_run(vtl1_start_vtl0, 1), HV_STATUS_INVALID_VP_STATE, "VTL1: a running VP");

        /* The others have both levels. */
        for (unsigned i = 2; i < n; i++) {
                is(vtl1_run(vtl1_enable, i), 0, "VTL1 for VP %u", i);
                spin_ms(3);
                ok(!seen[i].vtl1 && !seen[i].vtl0, "VP %u: does not run for that", i);
                is(vtl1_run(vtl1_start_vtl0, i), 0, "VTL1 starts VP %u in VTL0", i);
                check_two_levels(i);
        }
        is(started, n - 1, "%u VPs were started", n - 1);
}
