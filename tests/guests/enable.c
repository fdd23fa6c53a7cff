/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Enabling rules and their status codes (vsm.md 3.2, 3.4, 5.1), the state registers before and
 * after, and #UD on every violated precondition of a VTL call or return (6.1).
 * Command line: allow=0 when the host's policy refuses VTL1 to this guest; precise=1 on a host that
 * executes instructions itself.
 */
#include "lib/hv.h"

static uint8_t user_stack[1024] __attribute__((aligned(16)));

/* #UD at the page's `out`, and no register changed. */
static void is_ud(uint64_t entry, uint64_t rax, uint64_t rcx, const char *what) {
        struct gprs g = gprs_zero();
        uint64_t page = this_cpu()->hypercall_entry;
        struct fault f;

        g.rax = rax;
        g.rcx = rcx;
        f = fault_of(call_with_gprs(entry, &g));
        is(f.vector, VECTOR_UD, "#UD: %s", what);
        if (f.vector != VECTOR_UD)
                return;
        ok(f.rip >= page && f.rip < page + HV_PAGE_SIZE,
           "#UD has its RIP in the hypercall page: %s", what);
        is(*(uint8_t *) f.rip, 0xe6, "at the instruction that traps: %s", what);
}

static void test_detection(void) {
        uint64_t v;

        ok(hv_privileges() & HV_PRIV_VP_REGISTERS, "AccessVpRegisters");
        ok(hv_privileges() & HV_PRIV_SYNIC, "AccessSynicRegs");
        is(hv_get(VTL_SELF, HV_REGISTER_VSM_PARTITION_STATUS, &v), 0,
           "VsmPartitionStatus can be read");
        is(v, 0x10001, "VTL0 enabled, VTL1 possible");
        is(hv_get(VTL_SELF, HV_REGISTER_VSM_VP_STATUS, &v), 0, "VsmVpStatus can be read");
        is(v, 0x10000, "VTL0 active, VTL0 enabled");
}

static void test_before(void) {
        struct hv_initial_vp_context context;

        vtl1_context(this_cpu()->index, &context);
        is(hv_enable_vp_vtl(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 1, &context),
           HV_STATUS_INVALID_VTL_STATE, "EnableVpVtl before EnablePartitionVtl");
        is_ud(this_cpu()->vtl_call_entry, 0, 0, "VTL call without VTL1");
        is_ud(this_cpu()->vtl_return_entry, 0, 0, "VTL return from VTL0");
}

static void test_partition(void) {
        uint64_t v;

        is(hv_enable_partition_vtl(42, 1, 0), HV_STATUS_INVALID_PARTITION_ID,
           "EnablePartitionVtl of partition 42");
        is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 0, 0), HV_STATUS_INVALID_PARAMETER,
           "of VTL0");
        is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 2, 0), HV_STATUS_INVALID_PARAMETER,
           "of VTL2");
        is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 3, 0), HV_STATUS_INVALID_PARAMETER,
           "of VTL3");
        is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 255, 0), HV_STATUS_INVALID_PARAMETER,
           "of VTL255");
        is(hv_register(HV_REGISTER_VSM_CAPABILITIES) >> 1 & 0xffff, 0,
           "no MBEC in VsmCapabilities");
        is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 1, 1), HV_STATUS_INVALID_PARAMETER,
           "with MBEC");
        is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 1, 2), HV_STATUS_INVALID_PARAMETER,
           "with shadow stacks");
        is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 1, 0x80), HV_STATUS_INVALID_PARAMETER,
           "with a reserved flag");
        is(hv_register(HV_REGISTER_VSM_PARTITION_STATUS), 0x10001, "nothing changed so far");

        is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 1, 0), 0, "EnablePartitionVtl");
        is(hv_register(HV_REGISTER_VSM_PARTITION_STATUS), 0x10003,
           "VTL1 enabled for the partition");
        is(hv_register(HV_REGISTER_VSM_VP_STATUS), 0x10000, "but not on the VP");
        is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 1, 0), HV_STATUS_INVALID_VTL_STATE,
           "a second time");
        v = hv_call(HVCALL_ENABLE_PARTITION_VTL | HV_CONTROL_FAST, HV_PARTITION_ID_SELF, 1);
        is(HV_RESULT_STATUS(v), HV_STATUS_INVALID_VTL_STATE, "a third time, as a fast call");
        v = hv_call(HVCALL_ENABLE_PARTITION_VTL | HV_CONTROL_FAST, 42, 1);
        is(HV_RESULT_STATUS(v), HV_STATUS_INVALID_PARTITION_ID, "fast, partition 42");
        is_ud(this_cpu()->vtl_call_entry, 0, 0, "VTL call, VTL1 not on this VP");
}

static void test_vp(void) {
        struct hv_initial_vp_context context;
        unsigned n = cpu_count(), status;

        vtl1_context(this_cpu()->index, &context);
        is(hv_enable_vp_vtl(42, HV_VP_INDEX_SELF, 1, &context), HV_STATUS_INVALID_PARTITION_ID,
           "EnableVpVtl of partition 42");
        is(hv_enable_vp_vtl(HV_PARTITION_ID_SELF, 0xffffffff, 1, &context),
           HV_STATUS_INVALID_VP_INDEX, "of VP 0xffffffff");
        is(hv_enable_vp_vtl(HV_PARTITION_ID_SELF, n, 1, &context), HV_STATUS_INVALID_VP_INDEX,
           "of the VP too many");
        is(hv_enable_vp_vtl(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 0, &context),
           HV_STATUS_INVALID_PARAMETER, "of VTL0");
        is(hv_enable_vp_vtl(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 2, &context),
           HV_STATUS_INVALID_PARAMETER, "of VTL2");
        is(hv_enable_vp_vtl(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 200, &context),
           HV_STATUS_INVALID_PARAMETER, "of VTL200");
        is(HV_RESULT_STATUS(
                   hv_call(HVCALL_ENABLE_VP_VTL | HV_CONTROL_FAST, HV_PARTITION_ID_SELF, 1)),
           HV_STATUS_INVALID_HYPERCALL_INPUT, "as a fast call: 240 bytes do not fit");
        if (n > 1)
                is(hv_enable_vp_vtl(HV_PARTITION_ID_SELF, this_cpu()->index == 0, 1, &context),
                   HV_STATUS_ACCESS_DENIED, "of another VP, by VTL0");
        else
                skip("one CPU", "of another VP, by VTL0");
        is(hv_register(HV_REGISTER_VSM_VP_STATUS), 0x10000, "nothing changed so far");

        is(hv_enable_vp_vtl(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 1, &context), 0, "EnableVpVtl");
        is(hv_register(HV_REGISTER_VSM_VP_STATUS), 0x30000, "VTL1 enabled, VTL0 active");
        status = hv_enable_vp_vtl(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 1, &context);
        ok(status == HV_STATUS_VTL_ALREADY_ENABLED || status == HV_STATUS_ACCESS_DENIED,
           "a second time is refused (0x%x)", status);
}

static uint64_t vtl1_vp_status(uint64_t arg) {
        return hv_register(HV_REGISTER_VSM_VP_STATUS);
}

static uint64_t vtl1_preconditions(uint64_t arg) {
        struct cpu *c = this_cpu();
        struct hv_initial_vp_context context;

        is_ud(c->vtl_call_entry, 0, 0, "VTL call from VTL1");
        is_ud(c->vtl_return_entry, 0, 2, "VTL return with control input 2");
        is_ud(c->vtl_return_entry, 0, 1ull << 63, "VTL return with control input bit 63");
        is_ud(c->hypercall_entry, 0, 0x10012, "VTL return with the fast bit of a hypercall");
        is_ud(c->hypercall_entry, 0, HVCALL_VTL_RETURN | HV_REPS(1), "VTL return with a rep count");
        vtl1_context(this_cpu()->index, &context);
        is(hv_enable_vp_vtl(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 1, &context),
           HV_STATUS_VTL_ALREADY_ENABLED, "EnableVpVtl again, by VTL1");
        is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 1, 0), HV_STATUS_INVALID_VTL_STATE,
           "EnablePartitionVtl again, by VTL1");
        return 0;
}

static void user_ud(uint64_t entry, const char *what) {
        uint64_t rsp = (uint64_t) (user_stack + sizeof(user_stack));
        struct fault f = fault_of(user_enter(entry, rsp, RFLAGS_FIXED | RFLAGS_IOPL3, 0));

        /* A host that emulates the OUT may refuse it to CPL 3 itself. */
        ok(f.vector == VECTOR_UD || (!cmdline_number("precise", 0) && f.vector == VECTOR_GP),
           "#UD at CPL 3 with IOPL 3: %s (%lu)", what, f.vector);
        f = fault_of(user_enter(entry, rsp, RFLAGS_FIXED, 0));
        ok(f.vector == VECTOR_UD || f.vector == VECTOR_GP,
           "an exception at CPL 3 with IOPL 0: %s (%lu)", what, f.vector);
}

static void test_preconditions(void) {
        struct cpu *c = this_cpu();
        struct gprs g = gprs_zero();

        is_ud(c->vtl_call_entry, 0, 1, "VTL call with control input 1");
        is_ud(c->vtl_call_entry, 0, 1ull << 32, "VTL call with control input bit 32");
        is_ud(c->hypercall_entry, 0, 0x10011, "VTL call with the fast bit of a hypercall");
        is_ud(c->hypercall_entry, 1, HVCALL_VTL_CALL, "hypercall 0x11 with control input 1");
        is_ud(c->vtl_return_entry, 0, 0, "VTL return from VTL0, VTL1 being there");
        user_ud(c->vtl_call_entry, "VTL call");
        user_ud(c->vtl_return_entry, "VTL return");
        user_ud(c->hypercall_entry, "hypercall");

        is(vtl1_run(vtl1_vp_status, 0), 0x30001, "a VTL call that meets all: VTL1 is active");
        is(hv_register(HV_REGISTER_VSM_VP_STATUS), 0x30000, "and after the return VTL0 is");
        vtl1_run(vtl1_preconditions, 0);

        g.rdi = (uint64_t) vtl1_vp_status;
        g.rcx = HVCALL_VTL_CALL;
        call_with_gprs(c->hypercall_entry, &g);
        is(g.rdx, 0x30001, "VTL call as hypercall 0x11 at offset 0");
}

void guest_main(void) {
        if (!hv_present())
                skip_all("no Hyper-V interface in CPUID");
        if (!(hv_privileges() & HV_PRIV_VSM)) {
                is(cmdline_number("allow", 1), 0, "AccessVsm in the privileges");
                return;
        }
        hv_open();
        if (!cmdline_number("allow", 1)) {
                is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 1, 0), HV_STATUS_ACCESS_DENIED,
                   "EnablePartitionVtl is refused by policy");
                is(hv_register(HV_REGISTER_VSM_PARTITION_STATUS), 1, "VTL0 is all there can be");
                return;
        }
        test_detection();
        test_before();
        test_partition();
        test_vp();
        test_preconditions();
}
