/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fast hypercalls with parameters in XMM registers, in and out (vsm.md 2.5). Needs a host that
 * executes such instructions: command line fpu=1.
 */
#include "lib/hv.h"

#define GET_FAST (HVCALL_GET_VP_REGISTERS | HV_CONTROL_FAST)
#define SET_FAST (HVCALL_SET_VP_REGISTERS | HV_CONTROL_FAST)
#define MODIFY_FAST (HVCALL_MODIFY_VTL_PROTECTION_MASK | HV_CONTROL_FAST)
#define PAGE WINDOW_PAGE(8)
#define UNTOUCHED 0x7777777777777777ull

static struct xmm_call c;
static uint64_t result;

static void begin(uint64_t control, uint8_t input_vtl) {
        for (unsigned i = 0; i < 16; i++)
                c.xmm[i] = (struct xmm){ UNTOUCHED + i, ~UNTOUCHED - i };
        c.control = control;
        c.rdx = HV_PARTITION_ID_SELF;
        c.r8 = HV_VP_INDEX_SELF | (uint64_t) input_vtl << 32;
}

static uint64_t run(uint64_t arg) {
        c.entry = this_cpu()->hypercall_entry;
        result = xmm_call(&c);
        return result;
}

/* Registers @from to 15 are as begin() left them. */
static bool untouched(unsigned from) {
        for (unsigned i = from; i < 16; i++)
                if (c.xmm[i].low != UNTOUCHED + i || c.xmm[i].high != ~UNTOUCHED - i) {
                        print("# XMM%u is 0x%lx 0x%lx\n", i, c.xmm[i].high, c.xmm[i].low);
                        return false;
                }
        return true;
}

static void test_get(void) {
        const uint64_t status = HV_REGISTER_VSM_VP_STATUS,
                       partition = HV_REGISTER_VSM_PARTITION_STATUS;

        begin(GET_FAST | HV_REPS(1), VTL_SELF);
        c.xmm[0].low = status;
        is(run(0), HV_REPS(1), "GetVpRegisters, fast, one name");
        is(c.xmm[1].low, 0x30000, "the value is in XMM1");
        is(c.xmm[1].high, 0, "all of it");
        is(c.xmm[0].low, status, "XMM0 is as it was");
        ok(untouched(2), "and all behind XMM1");
        is(c.rdx, HV_PARTITION_ID_SELF, "RDX too");

        begin(GET_FAST | HV_REPS(4), VTL_SELF);
        c.xmm[0] = (struct xmm){ status | partition << 32, status | partition << 32 };
        is(run(0), HV_REPS(4), "four names");
        ok(c.xmm[1].low == 0x30000 && c.xmm[2].low == 0x10003 && c.xmm[3].low == 0x30000 &&
                   c.xmm[4].low == 0x10003,
           "values in XMM1 to XMM4");
        ok(untouched(5), "nothing behind");

        begin(GET_FAST | HV_REPS(5), VTL_SELF);
        is(HV_RESULT_STATUS(run(0)), HV_STATUS_INVALID_HYPERCALL_INPUT, "five names do not fit");
        ok(untouched(0), "nothing is written");

        begin(GET_FAST | HV_REPS(3), VTL_SELF);
        c.xmm[0] = (struct xmm){ status | 0x12345678ull << 32, status };
        run(0);
        is(HV_RESULT_STATUS(result), HV_STATUS_INVALID_PARAMETER, "an unknown name in the middle");
        is(HV_RESULT_REPS(result), 1, "one value before it");
        is(c.xmm[1].low, 0x30000, "which is written");
        ok(untouched(2), "and no more");

        begin(GET_FAST | HV_REPS(2) | HV_REP_START(1), VTL_SELF);
        c.xmm[0].low = status | partition << 32;
        is(run(0), HV_REPS(2), "from the second name on");
        is(c.xmm[1].low, UNTOUCHED + 1, "the first value is not written");
        is(c.xmm[2].low, 0x10003, "the second is");
}

static void test_set(void) {
        begin(SET_FAST | HV_REPS(1), VTL0);
        c.xmm[0].low = HV_X64_REGISTER_LSTAR;
        c.xmm[1] = (struct xmm){ 0x123000, 0 };
        is(vtl1_run(run, 0), HV_REPS(1), "SetVpRegisters, fast, by VTL1");
        is(rdmsr(MSR_LSTAR), 0x123000, "VTL0 has the value");

        begin(GET_FAST | HV_REPS(1), VTL0);
        c.xmm[0].low = HV_X64_REGISTER_LSTAR;
        is(vtl1_run(run, 0), HV_REPS(1), "GetVpRegisters, fast, by VTL1");
        is(c.xmm[1].low, 0x123000, "VTL1 reads it back");

        begin(SET_FAST | HV_REPS(4), VTL0);
        is(HV_RESULT_STATUS(vtl1_run(run, 0)), HV_STATUS_INVALID_HYPERCALL_INPUT,
           "four assignments do not fit");
}

static void test_modify(void) {
        begin(MODIFY_FAST | HV_REPS(1), 0);
        c.r8 = HV_MAP_GPA_READABLE;
        c.xmm[0].low = PAGE >> HV_PAGE_SHIFT;
        is(vtl1_run(run, 0), HV_REPS(1), "ModifyVtlProtectionMask, fast");
        plan_start(PLAN_SKIP);
        __asm__ volatile("movq %0, (%1)" : : "r"(1ull), "r"(PAGE) : "memory");
        is(plan.count, 1, "the page is read-only");

        begin(MODIFY_FAST | HV_REPS(12), 0);
        c.r8 = HV_MAP_GPA_ALL;
        for (unsigned i = 0; i < 6; i++)
                c.xmm[i] = (struct xmm){ (PAGE >> HV_PAGE_SHIFT) + 2 * i,
                                         (PAGE >> HV_PAGE_SHIFT) + 2 * i + 1 };
        is(vtl1_run(run, 0), HV_REPS(12), "twelve pages fit");
        __asm__ volatile("movq %0, (%1)" : : "r"(1ull), "r"(PAGE) : "memory");
        is(plan.count, 1, "the page is open");
        begin(MODIFY_FAST | HV_REPS(13), 0);
        is(HV_RESULT_STATUS(vtl1_run(run, 0)), HV_STATUS_INVALID_HYPERCALL_INPUT,
           "thirteen do not");
}

static void test_other(void) {
        begin(HVCALL_GET_VP_INDEX_FROM_APIC_ID | HV_CONTROL_FAST | HV_REPS(1), 0);
        c.r8 = 0;
        c.xmm[0].low = 0;
        c.xmm[1].low = ~0ull;
        is(run(0), HV_REPS(1), "GetVpIndexFromApicId, fast");
        is((uint32_t) c.xmm[1].low, 0, "the index is in XMM1");

        begin(HVCALL_ENABLE_PARTITION_VTL | HV_CONTROL_FAST, 0);
        c.r8 = 1;
        is(run(0), HV_STATUS_INVALID_VTL_STATE, "EnablePartitionVtl, fast");
        ok(untouched(0), "leaves XMM alone");
        begin(0x7777, 0);
        is(run(0), HV_STATUS_INVALID_HYPERCALL_CODE, "an unknown call");
        ok(untouched(0), "leaves XMM alone");
}

void guest_main(void) {
        if (!cmdline_number("fpu", 0))
                skip_all("this host does not execute FPU instructions");
        vsm_protect();
        ok(hv_features() & HV_FEATURE_XMM_INPUT, "XMM input is offered");
        ok(hv_features() & HV_FEATURE_XMM_OUTPUT, "XMM output is offered");
        test_get();
        test_set();
        test_modify();
        test_other();
}
