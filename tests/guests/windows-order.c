/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hypervisor as a boot of Windows with VBS uses it, step by step (vsm.md 10.1 to 10.3): boot
 * loader, secure kernel, kernel, further processors, code integrity, HyperGuard, and some run time.
 * The secure kernel's side is in lib/securekernel.c.
 * Command line: fpu=1 on a host that runs SSE code of a guest; unenforced=1 when the host accepts
 * what it cannot enforce; calls=N secure calls at run time.
 */
#include "lib/probes.h"
#include "lib/securekernel.h"

#define LOADER_OS_ID 0x0001040a00005858ull
#define LOADER_PAGE WINDOW_PAGE(500) /* its hypercall page */
#define NT_SIEFP WINDOW_PAGE(501)
#define NT_TSC_PAGE WINDOW_PAGE(502)
#define VECTOR_NT_TIMER 0xd1
#define VECTOR_NT_IPI 0xe1
#define PORT_PCI 0xcf8
#define LONG_MS 8000

static bool fpu;

/* ---- 1 to 3: the loader looks at what there is, and enables VTL1 ---- */

static void test_cpuid(void) {
        const uint64_t needed = HV_PRIV_REFERENCE_COUNTER | HV_PRIV_SYNIC |
                                HV_PRIV_SYNTHETIC_TIMER | HV_PRIV_INTR_CTRL |
                                HV_PRIV_HYPERCALL_MSRS | HV_PRIV_VP_INDEX | HV_PRIV_REFERENCE_TSC |
                                HV_PRIV_FREQUENCY | HV_PRIV_VSM | HV_PRIV_VP_REGISTERS |
                                HV_PRIV_FAST_OUTPUT | HV_PRIV_START_VIRTUAL_PROCESSOR;
        uint32_t r[4];

        ok(hv_present(), "winload: a hypervisor with the interface Hv#1");
        cpuid(HV_CPUID_VENDOR, 0, r);
        ok(r[0] >= HV_CPUID_HARDWARE, "winload: leaves up to 0x%x", r[0]);
        is(hv_privileges() & needed, needed, "winload: the privileges that VBS needs");
        is(hv_privileges() >> 44 & 1, 0, "winload: this is not the root partition");
        ok(hv_features() & HV_FEATURE_XMM_INPUT && hv_features() & HV_FEATURE_XMM_OUTPUT,
           "winload: hypercalls with XMM registers");
        cpuid(HV_CPUID_RECOMMENDATIONS, 0, r);
        ok(r[0] & HV_RECOMMEND_REMOTE_FLUSH, "winload: flushes by hypercall are recommended");
        cpuid(HV_CPUID_HARDWARE, 0, r);
        ok(r[0] >> 3 & 1, "winload: second level address translation");
        cpuid(HV_CPUID_LIMITS, 0, r);
        is(r[0], cpu_count(), "winload: as many VPs as processors");
}

static void test_loader(void) {
        uint64_t v, mbec;

        is(rdmsr(HV_MSR_GUEST_OS_ID), 0, "winload: no OS id yet");
        wrmsr(HV_MSR_GUEST_OS_ID, LOADER_OS_ID);
        wrmsr(HV_MSR_HYPERCALL, LOADER_PAGE | HV_MSR_PAGE_ENABLE);
        is(rdmsr(HV_MSR_HYPERCALL), LOADER_PAGE | HV_MSR_PAGE_ENABLE, "winload: hypercall page");
        hv_prepare(LOADER_PAGE);
        v = hv_register(HV_REGISTER_VSM_PARTITION_STATUS);
        is(v & 0xfffff, 0x10001, "winload: VSM can be enabled");
        mbec = hv_register(HV_REGISTER_VSM_CAPABILITIES) >> 1 & 1;
        is(HV_RESULT_STATUS(hv_call(HVCALL_ENABLE_PARTITION_VTL | HV_CONTROL_FAST,
                                    HV_PARTITION_ID_SELF, 1 | mbec << 8)),
           0, "winload: EnablePartitionVtl, fast");
        is(hv_register(HV_REGISTER_VSM_PARTITION_STATUS) & 0xf, 3, "winload: VTL1 is enabled");
}

/* ---- 4 and 5: the secure kernel's first half, still in VTL0 ---- */

static void test_phase0(void) {
        static const uint32_t names[] = {
                HV_X64_REGISTER_RSP,  HV_X64_REGISTER_CS,   HV_X64_REGISTER_SS,
                HV_X64_REGISTER_DS,   HV_X64_REGISTER_ES,   HV_X64_REGISTER_FS,
                HV_X64_REGISTER_GS,   HV_X64_REGISTER_TR,   HV_X64_REGISTER_LDTR,
                HV_X64_REGISTER_CR0,  HV_X64_REGISTER_CR3,  HV_X64_REGISTER_CR4,
                HV_X64_REGISTER_EFER, HV_X64_REGISTER_GDTR, HV_X64_REGISTER_IDTR,
                HV_X64_REGISTER_PAT,
        };
        union hv_register_value v[ELEMENTSOF(names)];
        struct hv_initial_vp_context context;

        hv_register(HV_REGISTER_VSM_CAPABILITIES);
        is(hv_get_registers(HV_VP_INDEX_SELF, VTL_SELF, names, ELEMENTSOF(names), v),
           HV_REPS(ELEMENTSOF(names)), "SK in VTL0: reads the registers it has");
        ok(v[1].segment.selector == KERNEL_CS && v[9].low64 == read_cr0() &&
                   v[10].low64 == read_cr3() && v[11].low64 == read_cr4() &&
                   v[12].low64 == rdmsr(MSR_EFER) && v[15].low64 == rdmsr(MSR_PAT),
           "SK in VTL0: as they are");
        vtl1_context(0, &context);
        context.cr4 = v[11].low64;
        context.efer = v[12].low64;
        context.msr_cr_pat = v[15].low64;
        is(hv_enable_vp_vtl(HV_PARTITION_ID_SELF, 0, 1, &context), 0, "SK in VTL0: EnableVpVtl");
        is(hv_register(HV_REGISTER_VSM_VP_STATUS), 0x30000, "SK in VTL0: VTL1 is enabled here");
        vtl1_on_begin = sk_begin;
        vtl1_on_intercept = sk_intercept;
        vtl1_x2apic = true;
        vtl1_run(NULL, 0); /* ShvlpVtl1Entry, and its return */
        is(hv_register(HV_REGISTER_VSM_VP_STATUS), 0x30000, "winload: VTL1 has returned");
}

/* ---- 9: the secure kernel's pages are gone ---- */

static void test_protected(void) {
        unsigned before = sk_counts[0].memory;

        poke64(WINDOW_PAGE(SK_PAGE_FIRST), 0x1111);
        is(vtl1_run(sk_protect_itself, fpu), 1, "SK: protects %u pages of its own", SK_PAGES);
        is(probe_load((void *) WINDOW_PAGE(SK_PAGE_FIRST)), SK_POISON,
           "winload: reads none of them");
        is(probe_load((void *) WINDOW_PAGE(SK_PAGE_FIRST + SK_PAGES - 1)), SK_POISON,
           "winload: not the last one either");
        is(sk_counts[0].memory - before, 2, "SK: is told of both");
        is(probe_load((void *) WINDOW_PAGE(SK_PAGE_FIRST + SK_PAGES)),
           peek64(WINDOW_PAGE(SK_PAGE_FIRST + SK_PAGES)), "winload: the page behind is its own");
}

/* ---- 10: the kernel's own OS id, hypercall page, SynIC ---- */

static volatile unsigned nt_ticks, nt_ipis, nt_nmis;

static void on_nt_timer(struct trap_frame *f) {
        apic_eoi();
        nt_ticks++;
}

static void on_nt_ipi(struct trap_frame *f) {
        apic_eoi();
        __atomic_add_fetch(&nt_ipis, 1, __ATOMIC_SEQ_CST);
}

static void on_nt_nmi(struct trap_frame *f) {
        nt_nmis++;
}

static void expect_msr(uint32_t msr, uint64_t value, const char *what) {
        wrmsr(msr, value);
        is(rdmsr(msr), value, "NT: %s", what);
}

static void test_kernel(void) {
        struct cpu *c = this_cpu();

        hv_os_id = SK_OS_ID;
        hv_open(); /* another hypercall page than the loader's */
        is(peek64(LOADER_PAGE), 0, "NT: the loader's hypercall page is memory again");
        expect_msr(HV_MSR_VP_ASSIST_PAGE, (uint64_t) c->assist | HV_MSR_PAGE_ENABLE, "assist page");
        expect_msr(HV_MSR_SIMP, (uint64_t) c->simp | HV_MSR_PAGE_ENABLE, "message page");
        expect_msr(HV_MSR_SIEFP, NT_SIEFP | HV_MSR_PAGE_ENABLE, "event page");
        expect_msr(HV_MSR_SINT0 + 2, 0x10000 | 0xd3, "SINT2");
        expect_msr(HV_MSR_SCONTROL, 1, "SCONTROL");
        expect_msr(HV_MSR_REFERENCE_TSC, NT_TSC_PAGE | HV_MSR_PAGE_ENABLE, "reference TSC page");
        irq_set(VECTOR_NT_TIMER, on_nt_timer);
        irq_set(VECTOR_NT_IPI, on_nt_ipi);
        irq_set(VECTOR_NMI, on_nt_nmi);
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, hv_time() + 20000);
        wrmsr(HV_MSR_STIMER0_CONFIG, 1ull << 12 | VECTOR_NT_TIMER << 4 | 1);
        irq_on();
        ok(spin_for(&nt_ticks, 1, LONG_MS), "NT: a synthetic timer, direct");
        irq_off();
        is(hv_get(VTL_SELF, 0xd0000009, &(uint64_t){ 0 }), HV_STATUS_INVALID_PARAMETER,
           "NT: HvptControl is not known");
        is(HV_RESULT_STATUS(hv_call_memory(HVCALL_EXT_QUERY_CAPABILITIES)),
           hv_privileges() & HV_PRIV_EXTENDED_HYPERCALLS ? 0 : HV_STATUS_INVALID_HYPERCALL_CODE,
           "NT: ExtCallQueryCapabilities");
}

/* ---- 11 and 12: further processors ---- */

static void test_processors(unsigned n) {
        for (unsigned i = 1; i < n; i++) {
                uint64_t start = rdtsc();

                is(vtl1_run(sk_start_processor, i), 0,
                   "NT: has the secure kernel start processor %u", i);
                while (!cpus[0][i].online &&
                       (int64_t) (rdtsc() - start) < (int64_t) (LONG_MS * tsc_per_ms()))
                        cpu_relax();
                ok(cpus[0][i].online, "NT: it runs, after its VTL1");
        }
}

/* ---- 13: code integrity ---- */

static uint64_t vtl1_touch(uint64_t gpa) {
        poke64(gpa, 0xc3); /* RET */
        return 0;
}

static void test_code_integrity(void) {
        unsigned before;

        vtl1_run(vtl1_touch, WINDOW_PAGE(NT_CODE_FIRST));
        is(vtl1_run(sk_protect_kernel, 0), 1, "HVCI: %u pages of code, as many of data", NT_PAGES);
        before = sk_counts[0].memory;
        probe_store((void *) WINDOW_PAGE(NT_DATA_FIRST), 5);
        is(peek64(WINDOW_PAGE(NT_DATA_FIRST)), 5, "NT: data can be written");
        is(probe_load((void *) WINDOW_PAGE(NT_CODE_FIRST)), 0xc3, "NT: code can be read");
        probe_fetch((void *) WINDOW_PAGE(NT_CODE_FIRST));
        is(sk_counts[0].memory, before, "NT: and run");
        probe_store((void *) (WINDOW_PAGE(NT_CODE_FIRST) + 8), 5);
        is(sk_counts[0].memory, before + 1, "NT: code cannot be written");
        is(peek64(WINDOW_PAGE(NT_CODE_FIRST) + 8), 0, "NT: it has not been");
}

/* ---- 14: HyperGuard ---- */

static uint64_t install_here(uint64_t arg) {
        return vtl1_run(sk_install_intercepts, 0);
}

static void test_hyperguard(unsigned n) {
        static const struct {
                const char *name;
                uint32_t msr;
                uint64_t value;
        } rows[] = {
                { "LSTAR", MSR_LSTAR, 0xfffff80000001000 },
                { "STAR", MSR_STAR, 0x0023001000000000 },
                { "CSTAR", 0xc0000083, 0xfffff80000002000 },
                { "SFMASK", 0xc0000084, 0x4700 },
                { "SYSENTER_CS", 0x174, 0x10 },
                { "SYSENTER_ESP", 0x175, 0x80003000 },
                { "SYSENTER_EIP", 0x176, 0x80004000 },
        };
        const unsigned other =
                cmdline_number("unenforced", 0) ? 0 : HV_STATUS_INVALID_REGISTER_VALUE;
        struct sk_count *count = &sk_counts[0];
        uint64_t r = install_here(0);

        is(r >> 32, 0, "HyperGuard: intercepts of MSRs and their masks");
        is(r & 0xffffffff, other, "HyperGuard: those of control registers and tables");
        for (unsigned i = 1; i < n; i++)
                is(job_run(i, install_here, 0, "its intercepts"), other,
                   "HyperGuard: the same on processor %u", i);
        for (unsigned i = 0; i < ELEMENTSOF(rows); i++) {
                unsigned before = count->msrs;

                wrmsr(rows[i].msr, rows[i].value);
                ok(count->msrs == before + 1 && count->last_msr == rows[i].msr &&
                           count->last_value == rows[i].value,
                   "HyperGuard: is told of a write of %s", rows[i].name);
                is(rdmsr(rows[i].msr), rows[i].value, "HyperGuard: and carries it out");
        }
        write_cr4(read_cr4() | 0x80);
        is(read_cr4() & 0x80, 0x80, "NT: a bit of CR4 that nobody minds");
        is(vtl1_run(sk_install_port, PORT_PCI), 0, "SK: an intercept of an I/O port");
        is(inb(PORT_PCI), (uint8_t) (SK_POISON >> 32),
           "NT: reads there what the secure kernel says");
        is(count->ports, 1, "SK: has been told");
        if (!sk_deny)
                return;
        is(hv_start_vp(HV_PARTITION_ID_SELF, 1, 0, &(struct hv_initial_vp_context){ .rip = 1 }),
           n > 1 ? HV_STATUS_ACCESS_DENIED : HV_STATUS_INVALID_VP_INDEX,
           "NT: may start no processor by itself");
}

/* ---- 15: run time ---- */

static uint64_t vtl1_add(uint64_t v) {
        return v + 0x1000;
}

static uint64_t secure_calls(uint64_t n) {
        uint64_t bad = 0;

        for (uint64_t i = 0; i < n; i++)
                bad += vtl1_run(vtl1_add, i) != i + 0x1000;
        return bad;
}

static void test_calls(unsigned n) {
        uint64_t calls = cmdline_number("calls", 200), bad;

        for (unsigned i = 1; i < n; i++)
                job_start(i, secure_calls, calls);
        bad = secure_calls(calls);
        for (unsigned i = 1; i < n; i++)
                bad += job_wait(i, "its secure calls");
        is(bad, 0, "NT: %lu secure calls on each of %u processors", calls, n);
}

/* NT's arguments beside the general registers are XMM10 to 15, which come back as they were. */
static void test_xmm_call(void) {
        struct xmm_call c = { .entry = this_cpu()->vtl_call_entry };
        unsigned bad = 0;

        if (!fpu) {
                skip("this host does not run SSE code of a guest",
                     "XMM registers of a secure call");
                return;
        }
        for (unsigned i = 0; i < 16; i++)
                c.xmm[i] = (struct xmm){ 0x10000 + i, 0x20000 + i };
        vtl1_on_call = vtl1_call_nothing;
        xmm_call(&c);
        vtl1_on_call = vtl1_call_default;
        for (unsigned i = 0; i < 16; i++)
                bad += c.xmm[i].low != 0x10000 + i || c.xmm[i].high != 0x20000 + i;
        is(bad, 0, "NT: XMM registers come back from a secure call");
}

struct flush_input {
        uint64_t space, flags, mask_or_format, banks;
};

static void test_run_time(unsigned n) {
        struct sk_count *count = &sk_counts[0];
        struct flush_input *flush = (void *) this_cpu()->in;
        uint64_t all = (1ull << n) - 1;

        is(vtl1_run(sk_start_timer, 10000), 0x10009, "SK: its timer enables itself");
        vtl1_run(sk_start_timer, 2);
        ok(spin_for(&count->timers, 1, LONG_MS), "SK: and its message comes while NT runs");

        irq_on();
        nt_ticks = 0;
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, hv_time() + 50000);
        wrmsr(HV_MSR_STIMER0_CONFIG, 1ull << 12 | VECTOR_NT_TIMER << 4 | 1);
        ok(vtl1_run(sk_work, 1000) == 1 || nt_ticks == 1, "SK: works until NT has an interrupt");
        ok(spin_for(&nt_ticks, 1, LONG_MS), "NT: takes it");
        irq_off();

        is(vtl1_run(sk_translate, (uint64_t) &nt_ticks), (uint64_t) &nt_ticks,
           "SK: translates an address of NT's, and keeps it");
        *flush = (struct flush_input){ 0, 3, 0, 0 };
        is(hv_call_memory(HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE), 0, "NT: flushes");
        *flush = (struct flush_input){ 0, 2, 1, 0 };
        is(hv_call_memory(HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX), 0, "NT: flushes, Ex");
        is(hv_call(0x10008, 100, 0), 0, "SK and NT: NotifyLongSpinWait");
        irq_on();
        is(HV_RESULT_STATUS(hv_call(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST,
                                    VECTOR_NT_IPI, all)),
           0, "NT: interrupts all processors");
        ok(spin_for(&nt_ipis, 1, LONG_MS), "NT: has it");
        irq_off();
        is(vtl1_run(sk_panic, 0), 0, "SK: panics");
        ok(spin_for(&nt_nmis, 1, LONG_MS), "NT: has the NMI to write a dump by");
}

void guest_main(void) {
        unsigned n = cpu_count();

        fpu = cmdline_number("fpu", 0);
        test_cpuid();
        test_loader();
        test_phase0();
        tsc_per_ms();
        test_protected();
        test_kernel();
        test_processors(n);
        test_code_integrity();
        test_hyperguard(n);
        test_calls(n);
        test_xmm_call();
        test_run_time(n);
        for (unsigned i = 0; i < n; i++)
                is(cpus[1][i].vtl, 1, "SK VP %u: served %u calls, %u messages", i, cpus[1][i].calls,
                   cpus[1][i].intercepts);
}
