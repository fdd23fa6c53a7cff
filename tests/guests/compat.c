/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hypercalls and VTL calls by 32-bit code: other registers, other entries of the hypercall page
 * (vsm.md 2.1, 2.9).
 */
#include "lib/hv.h"

#define GET HVCALL_GET_VP_REGISTERS
#define MARK 0xabcd0000u

static struct compat_regs r;

static void call(uint32_t entry, uint64_t control, uint64_t in, uint64_t out) {
        r = (struct compat_regs){
                .eax = (uint32_t) control,
                .edx = (uint32_t) (control >> 32),
                .ebx = (uint32_t) (in >> 32),
                .ecx = (uint32_t) in,
                .edi = (uint32_t) (out >> 32),
                .esi = (uint32_t) out,
                .ebp = MARK,
                .entry = entry,
        };
        compat_call(&r);
}

static uint64_t hypercall(uint64_t control, uint64_t in, uint64_t out) {
        call((uint32_t) this_cpu()->hypercall_entry, control, in, out);
        return (uint64_t) r.edx << 32 | r.eax;
}

static uint64_t get_register(uint32_t name) {
        struct hv_input_registers *in = (void *) this_cpu()->in;

        *in = (struct hv_input_registers){ .partition = HV_PARTITION_ID_SELF,
                                           .vp = HV_VP_INDEX_SELF };
        in->name[0] = name;
        is(hypercall(GET | HV_REPS(1), (uint64_t) in, (uint64_t) this_cpu()->out), HV_REPS(1),
           "GetVpRegisters of 0x%x", name);
        return this_cpu()->out[0];
}

static void test_calls(void) {
        uint64_t in = (uint64_t) this_cpu()->in, out = (uint64_t) this_cpu()->out;

        is(get_register(HV_REGISTER_VSM_VP_STATUS), 0x30000, "its value");
        is(r.ebp, MARK, "EBP is as it was");
        is(r.ecx, (uint32_t) in, "ECX too");
        is(r.esi, (uint32_t) out, "ESI too");
        is(r.ebx | r.edi, 0, "EBX and EDI too");
        is(hypercall(0x7777, 0, 0), HV_STATUS_INVALID_HYPERCALL_CODE, "unknown call");
        is(hypercall(GET | HV_REPS(1) | 1ull << 60, in, out), HV_STATUS_INVALID_HYPERCALL_INPUT,
           "reserved bit");
        is(hypercall(GET | HV_REPS(1), in + 4, out), HV_STATUS_INVALID_ALIGNMENT,
           "input not aligned");
        is(hypercall(HVCALL_ENABLE_PARTITION_VTL | HV_CONTROL_FAST, HV_PARTITION_ID_SELF, 1),
           HV_STATUS_INVALID_VTL_STATE, "EnablePartitionVtl, fast");
        is(hypercall(HVCALL_ENABLE_PARTITION_VTL | HV_CONTROL_FAST, 42, 1),
           HV_STATUS_INVALID_PARTITION_ID, "fast, partition 42");
        is(hypercall(GET | HV_CONTROL_FAST | HV_REPS(1), HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF),
           HV_STATUS_INVALID_HYPERCALL_INPUT, "fast with more than 16 bytes");
}

static bool answer_normally;

static bool on_call(struct gprs *g) {
        if (!answer_normally)
                return vtl1_call_default(g);
        g->rax = 0x1111;
        g->rcx = 0x2222;
        g->rdx = 0x3333;
        return false;
}

static uint64_t add_one(uint64_t arg) {
        return arg + 1;
}

static void test_switch(void) {
        uint64_t offsets = get_register(HV_REGISTER_VSM_CODE_PAGE_OFFSETS);
        uint32_t page = (uint32_t) this_cpu()->hypercall_entry, entry = page + (offsets & 0xfff);
        struct fault f;

        ok(offsets != hv_register(HV_REGISTER_VSM_CODE_PAGE_OFFSETS),
           "VsmCodePageOffsets 0x%lx: other entries than for 64-bit code", offsets);
        vtl1_on_call = on_call;
        r = (struct compat_regs){ .edi = (uint32_t) (uint64_t) add_one, .esi = 41, .entry = entry };
        compat_call(&r);
        is(r.edx, 42, "a secure call from 32-bit code");
        r = (struct compat_regs){ .eax = HVCALL_VTL_CALL,
                                  .edi = (uint32_t) (uint64_t) add_one,
                                  .esi = 1,
                                  .entry = page };
        compat_call(&r);
        is(r.edx, 2, "as hypercall 0x11 at offset 0");
        answer_normally = true;
        r = (struct compat_regs){ .entry = entry };
        compat_call(&r);
        is(r.eax, 0x1111, "normal return: EAX");
        is(r.ecx, 0x2222, "normal return: ECX");
        is(r.edx, 0x3333, "normal return: EDX");
        answer_normally = false;

        r = (struct compat_regs){ .eax = 1, .entry = entry };
        f = fault_of(compat_call(&r));
        is(f.vector, VECTOR_UD, "#UD: VTL call with control input 1");
        is(f.cs, CODE32_CS, "in 32-bit code");
        r = (struct compat_regs){ .entry = page + (offsets >> 12 & 0xfff) };
        f = fault_of(compat_call(&r));
        is(f.vector, VECTOR_UD, "#UD: VTL return from VTL0");
        is(vtl1_run(add_one, 1), 2, "64-bit code still calls");
}

void guest_main(void) {
        struct fault f;

        vsm_open();
        r = (struct compat_regs){ .eax = 1, .entry = (uint32_t) (uint64_t) compat_nothing };
        f = fault_of(compat_call(&r));
        if (f.vector != VECTOR_NONE)
                skip_all("this host does not run 32-bit code of a 64-bit guest");
        is(r.eax, 2, "32-bit code runs");
        test_calls();
        test_switch();
}
