/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * GetVpRegisters and SetVpRegisters: who may touch what (vsm.md 4.2), the VSM registers, events
 * into VTL0.
 */
#include "lib/hv.h"

/* What VTL1 is told to do, and what came of it. */
static struct {
        uint8_t input_vtl;
        uint32_t name;
        union hv_register_value value;
        unsigned status;
} job;

static uint64_t vtl1_get(uint64_t arg) {
        job.status = HV_RESULT_STATUS(
                hv_get_registers(HV_VP_INDEX_SELF, job.input_vtl, &job.name, 1, &job.value));
        return job.value.low64;
}

static uint64_t vtl1_set(uint64_t arg) {
        job.status = HV_RESULT_STATUS(
                hv_set_registers(HV_VP_INDEX_SELF, job.input_vtl, &job.name, 1, &job.value));
        return job.status;
}

static uint64_t get(uint8_t input_vtl, uint32_t name) {
        job.input_vtl = input_vtl;
        job.name = name;
        job.value = (union hv_register_value){ .low64 = ~0ull };
        return vtl1_run(vtl1_get, 0);
}

static unsigned set(uint8_t input_vtl, uint32_t name, uint64_t low, uint64_t high) {
        job.input_vtl = input_vtl;
        job.name = name;
        job.value = (union hv_register_value){ .low64 = low, .high64 = high };
        return (unsigned) vtl1_run(vtl1_set, 0);
}

static void is_get(uint32_t name, uint64_t want, const char *what) {
        uint64_t v = get(VTL0, name);

        is(job.status, 0, "VTL1 reads VTL0's %s", what);
        is(v, want, "%s", what);
}

static void test_read(void) {
        uint64_t page = hv_hypercall_page(0), v;
        const struct cpu *c = this_cpu();

        v = get(VTL0, HV_X64_REGISTER_RIP);
        is(job.status, 0, "VTL1 reads VTL0's RIP");
        ok(v > c->vtl_call_entry && v < page + HV_PAGE_SIZE, "which is behind the VTL call: 0x%lx",
           v);
        v = get(VTL0, HV_X64_REGISTER_RSP);
        ok(v > read_cr3() && v < WINDOW && v % 8 == 0, "RSP is in VTL0's stack: 0x%lx", v);
        is_get(HV_X64_REGISTER_CR0, read_cr0(), "CR0");
        is_get(HV_X64_REGISTER_CR3, read_cr3(), "CR3");
        is_get(HV_X64_REGISTER_CR4, read_cr4(), "CR4");
        is_get(HV_X64_REGISTER_CR8, read_cr8(), "CR8");
        is_get(HV_X64_REGISTER_EFER, rdmsr(MSR_EFER), "EFER");
        is_get(HV_X64_REGISTER_PAT, rdmsr(MSR_PAT), "PAT");
        wrmsr(MSR_LSTAR, 0x123456000);
        is_get(HV_X64_REGISTER_LSTAR, 0x123456000, "LSTAR");
        is_get(HV_X64_REGISTER_STAR, rdmsr(MSR_STAR), "STAR");
        wrmsr(MSR_KERNEL_GS_BASE, 0x654321000);
        is_get(HV_X64_REGISTER_KERNEL_GS_BASE, 0x654321000, "KERNEL_GS_BASE");
        is_get(HV_X64_REGISTER_APIC_BASE, rdmsr(MSR_APIC_BASE), "APIC_BASE");

        get(VTL0, HV_X64_REGISTER_CS);
        is(job.value.segment.selector, KERNEL_CS, "CS selector");
        is(job.value.segment.attributes & 0xa09a, 0xa09a,
           "CS attributes: present, code, long, granular");
        is(job.value.segment.limit, 0xffffffff, "CS limit");
        get(VTL0, HV_X64_REGISTER_SS);
        is(job.value.segment.selector, KERNEL_DS, "SS selector");
        get(VTL0, HV_X64_REGISTER_GS);
        is(job.value.segment.base, (uint64_t) c, "GS base");
        get(VTL0, HV_X64_REGISTER_TR);
        is(job.value.segment.selector, TSS_SELECTOR, "TR selector");
        is(job.value.segment.base, (uint64_t) &c->tss, "TR base");
        get(VTL0, HV_X64_REGISTER_IDTR);
        is(job.value.table.base, read_idtr().base, "IDTR base");
        is(job.value.table.limit, read_idtr().limit, "IDTR limit");
        get(VTL0, HV_X64_REGISTER_GDTR);
        is(job.value.table.base, read_gdtr().base, "GDTR base");
        is(job.value.table.limit, read_gdtr().limit, "GDTR limit");
        get(VTL0, HV_X64_REGISTER_RFLAGS);
        is(job.value.low64 & RFLAGS_FIXED, RFLAGS_FIXED, "RFLAGS");
}

__asm__(".pushsection .text\n"
        "redirected: movl $0x12345678, %r15d\n"
        "ret\n"
        ".popsection");
extern uint8_t redirected[];

static void test_write(void) {
        struct table_pointer idtr = read_idtr();
        struct gprs g = gprs_zero();

        is(set(VTL0, HV_X64_REGISTER_LSTAR, 0x777000, 0), 0, "VTL1 writes VTL0's LSTAR");
        is(rdmsr(MSR_LSTAR), 0x777000, "LSTAR");
        is(set(VTL0, HV_X64_REGISTER_LSTAR, 1ull << 60, 0), HV_STATUS_INVALID_REGISTER_VALUE,
           "LSTAR not canonical");
        is(rdmsr(MSR_LSTAR), 0x777000, "LSTAR is unchanged");
        is(set(VTL0, HV_X64_REGISTER_STAR, 0x0018000800000000, 0), 0, "STAR");
        is(rdmsr(MSR_STAR), 0x0018000800000000, "STAR took it");
        is(set(VTL0, HV_X64_REGISTER_KERNEL_GS_BASE, 0x999000, 0), 0, "KERNEL_GS_BASE");
        is(rdmsr(MSR_KERNEL_GS_BASE), 0x999000, "KERNEL_GS_BASE took it");
        is(set(VTL0, HV_X64_REGISTER_CR8, 7, 0), 0, "CR8");
        is(read_cr8(), 7, "CR8 took it");
        write_cr8(0);
        is(set(VTL0, HV_X64_REGISTER_CR3, read_cr3(), 0), 0, "CR3, the same value");
        is(set(VTL0, HV_X64_REGISTER_CR4, read_cr4() | 0x80, 0), 0, "CR4.PGE");
        is(read_cr4() & 0x80, 0x80, "CR4 took it");
        is(set(VTL0, HV_X64_REGISTER_CR4, 1ull << 40, 0), HV_STATUS_INVALID_REGISTER_VALUE,
           "CR4, reserved bit");
        is(set(VTL0, HV_X64_REGISTER_CR0, read_cr0() | 1ull << 40, 0),
           HV_STATUS_INVALID_REGISTER_VALUE, "CR0, high half");
        is(set(VTL0, HV_X64_REGISTER_CR0, read_cr0() & ~1ull, 0), HV_STATUS_INVALID_REGISTER_VALUE,
           "CR0, PG without PE");
        is(set(VTL0, HV_X64_REGISTER_EFER, rdmsr(MSR_EFER) | 1, 0), 0, "EFER.SCE");
        is(rdmsr(MSR_EFER) & 1, 1, "EFER took it");
        is(set(VTL0, HV_X64_REGISTER_EFER, 1ull << 40, 0), HV_STATUS_INVALID_REGISTER_VALUE,
           "EFER, reserved bit");

        job.value.segment = (struct hv_x64_segment_register){ .base = 0xabc000,
                                                              .limit = 0xffffffff,
                                                              .attributes = 0xc093 };
        is(set(VTL0, HV_X64_REGISTER_FS, job.value.low64, job.value.high64), 0, "FS");
        is(rdmsr(MSR_FS_BASE), 0xabc000, "FS base took it");
        job.value.table = (struct hv_x64_table_register){ .limit = 0x8ff, .base = idtr.base };
        is(set(VTL0, HV_X64_REGISTER_IDTR, job.value.low64, job.value.high64), 0, "IDTR");
        is(read_idtr().limit, 0x8ff, "IDTR limit took it");
        write_idtr(idtr);

        job.input_vtl = VTL0;
        job.name = HV_X64_REGISTER_RIP;
        job.value = (union hv_register_value){ .low64 = (uint64_t) redirected };
        g.rdi = (uint64_t) vtl1_set;
        vtl_call(&g);
        is(job.status, 0, "RIP");
        is(g.r15, 0x12345678, "VTL0 went on at the new RIP");

        g = gprs_zero();
        job.name = HV_X64_REGISTER_RFLAGS;
        job.value = (union hv_register_value){ .low64 = RFLAGS_FIXED | RFLAGS_CF };
        g.rdi = (uint64_t) vtl1_set;
        vtl_call(&g);
        is(job.status, 0, "RFLAGS");
        is(g.rflags & 0x8d5, RFLAGS_CF, "VTL0 has them");
}

static void test_matrix(void) {
        static const uint32_t closed[] = {
                HV_X64_REGISTER_RIP, HV_X64_REGISTER_RAX,   HV_X64_REGISTER_RSP,
                HV_X64_REGISTER_CR3, HV_X64_REGISTER_LSTAR, HV_REGISTER_VP_ASSIST_PAGE,
                HV_REGISTER_SINT0,   HV_REGISTER_VSM_VINA,  HV_REGISTER_VSM_PARTITION_CONFIG,
        };
        uint64_t v;

        for (unsigned i = 0; i < ELEMENTSOF(closed); i++) {
                is(hv_get(VTL1, closed[i], &v), HV_STATUS_ACCESS_DENIED,
                   "VTL0 reads VTL1's register 0x%x", closed[i]);
                is(hv_set(VTL1, closed[i], 0), HV_STATUS_ACCESS_DENIED,
                   "VTL0 writes VTL1's register 0x%x", closed[i]);
        }
        is(hv_get(VTL_SELF, HV_X64_REGISTER_CR3, &v), 0, "VTL0 reads its own CR3");
        is(v, read_cr3(), "CR3");
        is(hv_set(VTL_SELF, HV_X64_REGISTER_CR3, v), HV_STATUS_ACCESS_DENIED,
           "VTL0 writes its own CR3");
        is(hv_get(0x20, HV_REGISTER_VSM_VP_STATUS, &v), HV_STATUS_INVALID_PARAMETER,
           "reserved bits in InputVtl");
        is(hv_get(VTL_SELF, 0x12345678, &v), HV_STATUS_INVALID_PARAMETER, "unknown register");
        is(hv_set(VTL_SELF, 0x12345678, 0), HV_STATUS_INVALID_PARAMETER,
           "write of an unknown register");
        get(VTL_SELF, HV_X64_REGISTER_RSP);
        is(job.status, 0, "VTL1 reads its own RSP");
        is(set(VTL_SELF, HV_X64_REGISTER_RSP, 0, 0), HV_STATUS_ACCESS_DENIED,
           "VTL1 writes its own RSP");
        is(set(VTL_SELF, HV_X64_REGISTER_CR3, 0, 0), HV_STATUS_ACCESS_DENIED,
           "VTL1 writes its own CR3");

        /* Partition-wide and per-VP state, the same for whoever asks */
        is(hv_get(VTL_SELF, HV_REGISTER_VSM_CAPABILITIES, &v), 0, "VsmCapabilities");
        is(v >> 17 & 1, 0, "no DenyLowerVtlStartup");
        is(get(VTL_SELF, HV_REGISTER_VSM_CAPABILITIES), v, "the same in VTL1");
        is(get(VTL0, HV_REGISTER_VSM_CAPABILITIES), v, "and for VTL0, by VTL1");
        v = hv_register(HV_REGISTER_VSM_CODE_PAGE_OFFSETS);
        ok((v & 0xfff) != (v >> 12 & 0xfff) && v >> 24 == 0, "VsmCodePageOffsets 0x%lx", v);
        is(hv_set(VTL_SELF, HV_REGISTER_VSM_CAPABILITIES, 0), HV_STATUS_INVALID_PARAMETER,
           "VsmCapabilities is read-only");
        is(hv_set(VTL_SELF, HV_REGISTER_VSM_VP_STATUS, 0), HV_STATUS_INVALID_PARAMETER,
           "VsmVpStatus is read-only");
        is(hv_set(VTL_SELF, HV_REGISTER_VSM_PARTITION_STATUS, 0), HV_STATUS_INVALID_PARAMETER,
           "VsmPartitionStatus is read-only");
        is(set(VTL_SELF, HV_REGISTER_VSM_PARTITION_STATUS, 0, 0), HV_STATUS_INVALID_PARAMETER,
           "for VTL1 too");
        is(get(VTL_SELF, HV_REGISTER_SINT0), VECTOR_SINT0 | HV_SINT_AUTO_EOI,
           "SINT0 as a register");
        is(job.status, 0, "of VTL1");
        is(get(VTL0, HV_REGISTER_SINT0), HV_SINT_RESET, "and VTL0's");
}

static void test_lists(void) {
        const uint32_t good = HV_REGISTER_VSM_VP_STATUS, bad = 0x12345678;
        const uint32_t names[4] = { good, good, bad, good };
        union hv_register_value v[4] = { 0 };
        struct hv_input_registers *in = (void *) this_cpu()->in;
        uint64_t *out = this_cpu()->out, r;

        memset(out, 0xee, 64);
        r = hv_get_registers(HV_VP_INDEX_SELF, VTL_SELF, names, 4, v);
        is(HV_RESULT_STATUS(r), HV_STATUS_INVALID_PARAMETER, "a list with an unknown register");
        is(HV_RESULT_REPS(r), 2, "stops there");
        is(out[0] + out[2], 2 * 0x30000, "what came before is written");
        is(out[4], 0xeeeeeeeeeeeeeeee, "what comes after is not");

        memset(out, 0xee, 64);
        in->name[2] = good;
        r = hv_call_memory(HVCALL_GET_VP_REGISTERS | HV_REPS(4) | HV_REP_START(2));
        is(HV_RESULT_STATUS(r), 0, "a list from its third element");
        is(HV_RESULT_REPS(r), 4, "counts from the beginning");
        is(out[0], 0xeeeeeeeeeeeeeeee, "and leaves the first ones alone");
        is(out[4] + out[6], 2 * 0x30000, "the others are written");

        r = hv_get_registers(5, VTL_SELF, names, 1, v);
        is(HV_RESULT_STATUS(r), HV_STATUS_INVALID_VP_INDEX,
           "GetVpRegisters of a VP that is not there");
        r = hv_set_registers(5, VTL_SELF, names, 1, v);
        is(HV_RESULT_STATUS(r), HV_STATUS_INVALID_VP_INDEX, "SetVpRegisters of it");
        r = hv_get_registers(this_cpu()->index, VTL_SELF, names, 1, v);
        is(HV_RESULT_STATUS(r), 0, "the own VP by its index");
        in->partition = 42;
        in->vp = HV_VP_INDEX_SELF;
        r = HV_RESULT_STATUS(hv_call_memory(HVCALL_GET_VP_REGISTERS | HV_REPS(1)));
        ok(r == HV_STATUS_ACCESS_DENIED || r == HV_STATUS_INVALID_PARTITION_ID,
           "partition 42 (0x%lx)", r);
}

static uint64_t vtl1_set_list(uint64_t arg) {
        static const uint32_t names[] = { HV_X64_REGISTER_LSTAR, HV_X64_REGISTER_CSTAR,
                                          HV_X64_REGISTER_LSTAR };
        static const union hv_register_value values[] = { { .low64 = 0x1000 },
                                                          { .low64 = 1ull << 60 },
                                                          { .low64 = 0x2000 } };

        return hv_set_registers(HV_VP_INDEX_SELF, VTL0, names, ELEMENTSOF(names), values);
}

static void test_config(void) {
        const uint32_t config = HV_REGISTER_VSM_PARTITION_CONFIG;
        const uint64_t mask = (uint64_t) HV_MAP_GPA_ALL << HV_VSM_DEFAULT_MASK_SHIFT;
        uint64_t v, r = vtl1_run(vtl1_set_list, 0);

        is(HV_RESULT_STATUS(r), HV_STATUS_INVALID_REGISTER_VALUE,
           "SetVpRegisters of a list with a bad value");
        is(HV_RESULT_REPS(r), 1, "stops there");
        is(rdmsr(MSR_LSTAR), 0x1000, "and has done what came before");

        is(hv_set(VTL_SELF, config, mask), HV_STATUS_INVALID_PARAMETER,
           "VsmPartitionConfig of VTL0");
        is(set(VTL0, config, mask, 0), HV_STATUS_INVALID_PARAMETER, "the same by VTL1");
        is(set(VTL_SELF, config, mask | 1ull << 12, 0), HV_STATUS_INVALID_REGISTER_VALUE, "bit 12");
        is(set(VTL_SELF, config, mask | 1ull << 63, 0), HV_STATUS_INVALID_REGISTER_VALUE, "bit 63");
        is(set(VTL_SELF, config, mask | HV_VSM_DENY_LOWER_VTL_STARTUP, 0),
           HV_STATUS_INVALID_REGISTER_VALUE, "DenyLowerVtlStartup");
        is(set(VTL_SELF, config, 0x2 << 1 | HV_VSM_ENABLE_VTL_PROTECTION, 0),
           HV_STATUS_INVALID_REGISTER_VALUE, "default mask W without R");
        is(set(VTL_SELF, config, 0x1 << 1 | HV_VSM_ENABLE_VTL_PROTECTION, 0),
           HV_STATUS_INVALID_REGISTER_VALUE, "default mask without W");
        is(set(VTL_SELF, config, mask | HV_VSM_ENABLE_VTL_PROTECTION, 0), 0, "protection enabled");
        is(get(VTL_SELF, config), mask | HV_VSM_ENABLE_VTL_PROTECTION, "reads back");
        is(set(VTL_SELF, config, mask, 0), HV_STATUS_INVALID_REGISTER_VALUE,
           "and cannot be turned off");
        is(set(VTL_SELF, config, 0x3 << 1 | HV_VSM_ENABLE_VTL_PROTECTION, 0),
           HV_STATUS_INVALID_REGISTER_VALUE, "nor can the default mask change");
        v = mask | HV_VSM_ENABLE_VTL_PROTECTION | HV_VSM_ZERO_MEMORY_ON_RESET;
        is(set(VTL_SELF, config, v, 0), 0, "ZeroMemoryOnReset can");
        is(get(VTL_SELF, config), v, "and reads back");
}

static void test_vina(void) {
        const uint64_t v = 0x61 | HV_VINA_ENABLED | HV_VINA_AUTO_RESET | HV_VINA_AUTO_EOI;

        is(get(VTL_SELF, HV_REGISTER_VSM_VINA), 0, "VsmVina after reset");
        is(set(VTL_SELF, HV_REGISTER_VSM_VINA, v, 0), 0, "VsmVina");
        is(get(VTL_SELF, HV_REGISTER_VSM_VINA), v, "reads back");
        is(set(VTL_SELF, HV_REGISTER_VSM_VINA, v | 1 << 11, 0), HV_STATUS_INVALID_PARAMETER,
           "bit 11 is reserved");
        is(set(VTL0, HV_REGISTER_VSM_VINA, v, 0), HV_STATUS_INVALID_PARAMETER, "VTL0 has none");
        is(set(VTL_SELF, HV_REGISTER_VSM_VINA, 0, 0), 0, "off again");
}

/* An exception that VTL1 leaves for VTL0 */
static struct fault event(uint64_t low, uint64_t high) {
        job.status = ~0u;
        return fault_of(set(VTL0, HV_REGISTER_PENDING_EVENT0, low, high));
}

static uint64_t exception(unsigned vector, bool deliver, uint32_t error) {
        return 1 | (uint64_t) deliver << 8 | (uint64_t) vector << 16 | (uint64_t) error << 32;
}

static void test_events(void) {
        uint64_t page = hv_hypercall_page(0);
        struct fault f = event(exception(VECTOR_GP, true, 0x1234), 0);

        is(job.status, 0, "PendingEvent0: #GP");
        is(f.vector, VECTOR_GP, "VTL0 gets it");
        is(f.error, 0x1234, "with its error code");
        ok(f.rip > this_cpu()->vtl_call_entry && f.rip < page + HV_PAGE_SIZE, "where VTL0 goes on");
        f = event(exception(VECTOR_UD, false, 0), 0);
        is(f.vector, VECTOR_UD, "#UD, no error code");
        f = event(exception(VECTOR_PF, true, 6), 0x7654321000);
        is(f.vector, VECTOR_PF, "#PF");
        is(f.error, 6, "with its error code");
        is(f.cr2, 0x7654321000, "and CR2");
        f = event(exception(VECTOR_GP, true, 0) & ~1ull, 0);
        is(job.status, 0, "EventPending clear is accepted");
        is(f.vector, VECTOR_NONE, "and nothing comes");

        event(exception(VECTOR_NMI, false, 0), 0);
        is(job.status, HV_STATUS_INVALID_REGISTER_VALUE, "vector 2 is no exception");
        event(exception(0x41, false, 0), 0);
        is(job.status, HV_STATUS_INVALID_REGISTER_VALUE, "nor is 0x41");
        event(exception(VECTOR_UD, true, 0), 0);
        is(job.status, HV_STATUS_INVALID_REGISTER_VALUE, "#UD has no error code");
        event(exception(VECTOR_GP, true, 0) | 1 << 1, 0);
        is(job.status, HV_STATUS_INVALID_REGISTER_VALUE, "event type 1");
        is(hv_set(VTL_SELF, HV_REGISTER_PENDING_EVENT0, exception(VECTOR_GP, true, 0)),
           HV_STATUS_INVALID_PARAMETER, "VTL0 cannot do that to itself");
        is(set(VTL_SELF, HV_REGISTER_PENDING_EVENT0, exception(VECTOR_GP, true, 0), 0),
           HV_STATUS_INVALID_PARAMETER, "nor VTL1 to itself");
}

void guest_main(void) {
        vsm_open();
        test_read();
        test_write();
        test_matrix();
        test_lists();
        test_config();
        test_vina();
        test_events();
}
