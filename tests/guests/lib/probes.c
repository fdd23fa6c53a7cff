/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Checks of memory intercept messages against what the test did (vsm.md 8.6).
 */
#include "probes.h"

void check_intercept(unsigned n, const struct expected *e, const char *what) {
        const struct hv_memory_intercept *i = &plan.log[n];
        unsigned length = i->header.instruction_length & 0xf;

        if (!ok(plan.count > n && n < PLAN_LOG, "%s: intercepted", what))
                return;
        is(plan.type[n], HV_MESSAGE_GPA_INTERCEPT, "%s: message type", what);
        ok(plan.size[n] == 0x50 || plan.size[n] == 240, "%s: payload of %u bytes", what,
           plan.size[n]);
        is(i->header.access_type, e->access, "%s: access type", what);
        is(i->gpa, e->gpa, "%s: GPA", what);
        is(i->header.vp_index, this_cpu()->index, "%s: VP", what);
        if (e->gva != 0) {
                is(i->memory_access_info & HV_MEMORY_ACCESS_GVA_VALID, HV_MEMORY_ACCESS_GVA_VALID,
                   "%s: GVA valid", what);
                is(i->gva, e->gva, "%s: GVA", what);
        }
        if (e->insn == 0)
                return;

        is(i->header.rip, e->insn, "%s: RIP", what);
        is(plan.rip, e->insn, "%s: RIP by GetVpRegisters", what);
        if (e->access == HV_INTERCEPT_ACCESS_EXECUTE) {
                is(i->instruction_byte_count, 0, "%s: no instruction bytes", what);
                return;
        }
        is(length, e->next - e->insn, "%s: instruction length", what);
        ok(i->instruction_byte_count >= length && i->instruction_byte_count <= 16,
           "%s: %u instruction bytes", what, i->instruction_byte_count);
        is(memcmp(i->instruction_bytes, (const void *) e->insn, e->next - e->insn), 0,
           "%s: the right ones", what);
}

/* The parts that hold for every intercept from CPL 0 of 64-bit code. */
void check_intercept_state(unsigned n, const char *what) {
        const struct hv_memory_intercept *i = &plan.log[n];
        unsigned state = i->header.execution_state;

        is(state & HV_EXEC_STATE_CPL_MASK, 0, "%s: CPL 0", what);
        ok(state & HV_EXEC_STATE_CR0_PE, "%s: CR0.PE", what);
        ok(state & HV_EXEC_STATE_EFER_LMA, "%s: EFER.LMA", what);
        is(state >> HV_EXEC_STATE_VTL_SHIFT & 0xf, 0, "%s: from VTL0", what);
        is(i->header.cs.selector, KERNEL_CS, "%s: CS", what);
        is(i->header.cs.attributes & 0x2000, 0x2000, "%s: CS.L", what);
        is(i->header.rflags & (RFLAGS_FIXED | RFLAGS_IF), RFLAGS_FIXED, "%s: RFLAGS", what);
        is(i->cache_type, HV_CACHE_TYPE_WB, "%s: cache type", what);
}
