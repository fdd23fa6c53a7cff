/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What each level has for itself and what both share (vsm.md 6.4): every register of either list
 * but the FPU's (switch-fpu.c) and the general ones (switch.c).
 * Command line: exact=1 when the host carries debug registers at every switch; tsc=0 when its KVM
 * lets no guest write the TSC.
 */
#include "lib/probes.h"

#define MSR_TSC 0x10
#define MSR_MTRR_CAP 0xfe
#define MSR_MCG_CAP 0x179
#define MSR_MCG_STATUS 0x17a
#define MSR_MTRR_BASE(n) (0x200 + 2 * (n))
#define MSR_MTRR_DEF_TYPE 0x2ff
#define TSC_FAR (1ull << 40)

/* ---- Private state, one row each: VTL1 must not see VTL0's value, and both keep theirs ---- */

static uint64_t get_idtr(void) {
        return read_idtr().base;
}

static uint64_t get_gdtr(void) {
        return read_gdtr().base;
}

static void set_idtr(uint64_t base) {
        write_idtr((struct table_pointer){ .limit = 4095, .base = base });
}

static uint64_t get_tr(void) {
        return this_cpu()->gdt[5]; /* the descriptor that it was loaded from, by the GDT's base */
}

static uint64_t get_apic_tpr(void) {
        return apic_read(APIC_TPR);
}

static void set_apic_tpr(uint64_t v) {
        apic_write(APIC_TPR, (uint32_t) v);
}

static uint64_t read_dr6(void) {
        uint64_t v;

        __asm__ volatile("movq %%dr6, %0" : "=r"(v));
        return v;
}

static void write_dr6(uint64_t v) {
        __asm__ volatile("movq %0, %%dr6" : : "r"(v));
}

static uint64_t read_rsp(void) {
        uint64_t v;

        __asm__ volatile("movq %%rsp, %0" : "=r"(v));
        return v & ~0xfffull;
}

static uint64_t read_rflags(void) {
        return read_flags() & (RFLAGS_IF | RFLAGS_IOPL3 | RFLAGS_FIXED);
}

#define DEFINE_SELECTOR(segment)                                                           \
        static uint64_t get_##segment(void) {                                              \
                uint64_t v;                                                                \
                __asm__ volatile("movq %%" #segment ", %0" : "=r"(v));                     \
                return v & 0xffff;                                                         \
        }                                                                                  \
        static void set_##segment(uint64_t v) {                                            \
                __asm__ volatile("movl %0, %%" #segment : : "r"((uint32_t) v) : "memory"); \
        }
DEFINE_SELECTOR(ds)
DEFINE_SELECTOR(es)
DEFINE_SELECTOR(fs)
DEFINE_SELECTOR(ss)

DEFINE_MSR_ACCESS(star, MSR_STAR)
DEFINE_MSR_ACCESS(lstar, MSR_LSTAR)
DEFINE_MSR_ACCESS(cstar, 0xc0000083)
DEFINE_MSR_ACCESS(sfmask, 0xc0000084)
DEFINE_MSR_ACCESS(fs_base, MSR_FS_BASE)
DEFINE_MSR_ACCESS(kernel_gs, MSR_KERNEL_GS_BASE)
DEFINE_MSR_ACCESS(efer, MSR_EFER)
DEFINE_MSR_ACCESS(sysenter_cs, 0x174)
DEFINE_MSR_ACCESS(sysenter_esp, 0x175)
DEFINE_MSR_ACCESS(sysenter_eip, 0x176)
DEFINE_MSR_ACCESS(pat, MSR_PAT)
DEFINE_MSR_ACCESS(gs_base, MSR_GS_BASE)
DEFINE_MSR_ACCESS(tsc_aux, 0xc0000103)
DEFINE_MSR_ACCESS(os_id, HV_MSR_GUEST_OS_ID)
DEFINE_MSR_ACCESS(sint1, HV_MSR_SINT0 + 1)
DEFINE_MSR_ACCESS(sint15, HV_MSR_SINT15)
DEFINE_MSR_ACCESS(scontrol, HV_MSR_SCONTROL)
DEFINE_MSR_ACCESS(siefp, HV_MSR_SIEFP)
DEFINE_MSR_ACCESS(reference_tsc, HV_MSR_REFERENCE_TSC)
DEFINE_MSR_ACCESS(stimer_config, HV_MSR_STIMER0_CONFIG)
DEFINE_MSR_ACCESS(stimer_count, HV_MSR_STIMER0_CONFIG + 7)

static uint64_t get_apic_base(void) {
        return rdmsr(MSR_APIC_BASE);
}

static uint64_t get_hypercall(void) {
        return rdmsr(HV_MSR_HYPERCALL);
}

static uint64_t get_assist(void) {
        return rdmsr(HV_MSR_VP_ASSIST_PAGE);
}

static uint64_t get_simp(void) {
        return rdmsr(HV_MSR_SIMP);
}

#define KEEP 1ull /* for values: leave it alone, only compare */

enum beginning {
        SAME,    /* in both levels */
        DIFFERS, /* VTL1's is another one from the beginning */
        RESET,   /* VTL1's is what the row says */
};

/* With CR4.MCE: a QEMU that emulates the host shows a nested guest that of the host. */
static const struct {
        const char *name;
        uint64_t (*get)(void);
        void (*set)(uint64_t v);
        uint64_t vtl0, vtl1; /* to be set; KEEP */
        enum beginning beginning;
        uint64_t reset;
} rows[] = {
        { "RSP", read_rsp, NULL, KEEP, KEEP, DIFFERS, 0 },
        { "RFLAGS", read_rflags, write_flags, RFLAGS_FIXED | RFLAGS_IOPL3, KEEP, SAME, 0 },
        { "CR0", read_cr0, write_cr0, 0x80050033, 0x80000033, SAME, 0 },
        { "CR3", read_cr3, write_cr3, KEEP, KEEP, DIFFERS, 0 },
        { "CR4", read_cr4, write_cr4, 0x6e0, 0x668, SAME, 0 },
        { "CR8", read_cr8, write_cr8, 5, 3, RESET, 0 },
        { "APIC TPR", get_apic_tpr, set_apic_tpr, 0x50, 0x30, RESET, 0 },
        { "DR6", read_dr6, write_dr6, 0xffff0ff1, 0xffff0ff2, SAME, 0 },
        { "DR7", read_dr7, write_dr7, 0x500, 0x600, RESET, 0x400 },
        { "DS", get_ds, set_ds, 0x1b, 0, SAME, 0 },
        { "ES", get_es, set_es, 0, 0x1b, SAME, 0 },
        { "SS", get_ss, set_ss, 0x10, 0, SAME, 0 },
        { "FS", get_fs, set_fs, 0x10, 0x1b, SAME, 0 },
        { "IDTR", get_idtr, set_idtr, KEEP, KEEP, DIFFERS, 0 },
        { "GDTR", get_gdtr, NULL, KEEP, KEEP, DIFFERS, 0 },
        { "TR's descriptor", get_tr, NULL, KEEP, KEEP, DIFFERS, 0 },
        { "GS base", get_gs_base, set_gs_base, KEEP, KEEP, DIFFERS, 0 },
        { "FS base", get_fs_base, set_fs_base, 0x1111000, 0x2222000, RESET, 0 },
        { "KERNEL_GS_BASE", get_kernel_gs, set_kernel_gs, 0x3333000, 0x4444000, RESET, 0 },
        { "STAR", get_star, set_star, 0x0018000800000000, 0x0010001000000000, RESET, 0 },
        { "LSTAR", get_lstar, set_lstar, 0x5555000, 0x6666000, RESET, 0 },
        { "CSTAR", get_cstar, set_cstar, 0x5556000, 0x6667000, RESET, 0 },
        { "SFMASK", get_sfmask, set_sfmask, 0x47700, 0x700, RESET, 0 },
        { "SYSENTER_CS", get_sysenter_cs, set_sysenter_cs, 0x10, 0x20, RESET, 0 },
        { "SYSENTER_ESP", get_sysenter_esp, set_sysenter_esp, 0x7777000, 0x8888000, RESET, 0 },
        { "SYSENTER_EIP", get_sysenter_eip, set_sysenter_eip, 0x7777100, 0x8888100, RESET, 0 },
        { "EFER", get_efer, set_efer, 0xd01, KEEP, SAME, 0 },
        { "PAT", get_pat, set_pat, KEEP, 0x0007010600070106, SAME, 0 },
        { "TSC_AUX", get_tsc_aux, set_tsc_aux, 0x11, 0x22, RESET, 0 },
        { "APIC_BASE", get_apic_base, NULL, KEEP, KEEP, DIFFERS, 0 },
        { "guest OS id", get_os_id, set_os_id, KEEP, 0x8200000000020000, SAME, 0 },
        { "hypercall page", get_hypercall, NULL, KEEP, KEEP, DIFFERS, 0 },
        { "assist page", get_assist, NULL, KEEP, KEEP, DIFFERS, 0 },
        { "SIMP", get_simp, NULL, KEEP, KEEP, DIFFERS, 0 },
        { "SIEFP", get_siefp, set_siefp, 0x5000, 0x6000, RESET, 0 },
        { "SCONTROL", get_scontrol, set_scontrol, 0, KEEP, RESET, 1 },
        { "SINT1", get_sint1, set_sint1, 0x10051, 0x10052, RESET, 0x10000 },
        { "SINT15", get_sint15, set_sint15, 0x10053, 0x10054, RESET, 0x10000 },
        { "reference TSC page", get_reference_tsc, set_reference_tsc, 0x5000, 0x6000, RESET, 0 },
        { "STIMER0_CONFIG", get_stimer_config, set_stimer_config, 0x30000, 0x40000, RESET, 0 },
        { "STIMER3_COUNT", get_stimer_count, set_stimer_count, 77, 88, RESET, 0 },
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

static bool row_there(unsigned i) {
        uint32_t r[4];

        if (rows[i].get != get_tsc_aux)
                return true;
        cpuid(0x80000001, 0, r);
        return r[3] >> 27 & 1;
}

static void test_row(unsigned i) {
        uint64_t before = rows[i].get(), before1 = vtl1_run(row_get, i);
        uint64_t want0 = before, want1 = before1, back[2] = { i, before1 };

        if (rows[i].beginning == RESET)
                is(before1, rows[i].reset, "%s: initial value in VTL1", rows[i].name);
        else if (rows[i].beginning == DIFFERS)
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

static void test_private(void) {
        for (unsigned i = 0; i < ELEMENTSOF(rows); i++) {
                if (row_there(i))
                        test_row(i);
                else
                        skip("this CPU has none", "%s", rows[i].name);
        }
}

/* The TSC is equal when VTL1 begins, and each level's own from then on. */
static uint64_t vtl1_tsc(uint64_t arg) {
        return rdtsc();
}

static uint64_t vtl1_set_tsc(uint64_t v) {
        wrmsr(MSR_TSC, v);
        return 0;
}

static bool about(uint64_t a, uint64_t b) {
        return a - b < TSC_FAR / 2 || b - a < TSC_FAR / 2;
}

static void test_tsc(void) {
        uint64_t before = rdtsc();

        ok(about(vtl1_run(vtl1_tsc, 0), before), "TSC: the same in both levels");
        if (!cmdline_number("tsc", 1)) {
                skip("this KVM's guests cannot write it", "TSC: each level's own");
                return;
        }
        wrmsr(MSR_TSC, before + TSC_FAR);
        ok(about(rdtsc(), before + TSC_FAR), "TSC: VTL0 writes its own");
        ok(about(vtl1_run(vtl1_tsc, 0), before), "TSC: VTL1's is as it was");
        vtl1_run(vtl1_set_tsc, before + 2 * TSC_FAR);
        ok(about(vtl1_run(vtl1_tsc, 0), before + 2 * TSC_FAR), "TSC: VTL1 writes its own");
        ok(about(rdtsc(), before + TSC_FAR), "TSC: VTL0's is as it was");
}

/* ---- Each level's NMI mask: VTL1 is called in the middle of an NMI of VTL0's ---- */

static volatile unsigned nmis[2], in_call;

static uint64_t vtl1_nmi(uint64_t arg) {
        apic_send(this_cpu()->index, APIC_ICR_NMI);
        for (unsigned i = 0; i < 10 && nmis[1] == 0; i++)
                interrupt_window();
        return nmis[1];
}

static void on_nmi(struct trap_frame *f) {
        if (this_cpu()->vtl == 0 && nmis[0] == 0)
                in_call = (unsigned) vtl1_run(vtl1_nmi, 0);
        nmis[this_cpu()->vtl]++;
}

static void test_nmi_mask(void) {
        irq_set(VECTOR_NMI, on_nmi);
        apic_send(this_cpu()->index, APIC_ICR_NMI);
        interrupt_window();
        is(nmis[0], 1, "NMI: VTL0 takes it");
        is(in_call, 1, "NMI: and VTL1, called from there, takes one of its own");
        apic_send(this_cpu()->index, APIC_ICR_NMI);
        interrupt_window();
        is(nmis[0], 2, "NMI: after its IRET VTL0 takes another one");
        is(nmis[1], 1, "NMI: VTL1 none of those");
}

/* ---- Shared state ---- */

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

static void test_debug_registers(void) {
        void (*handler)(struct hv_message *, struct gprs *) = vtl1_on_intercept;

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

static uint64_t vtl1_rdmsr(uint64_t msr) {
        return rdmsr((uint32_t) msr);
}

static uint64_t vtl1_write_mtrr(uint64_t v) {
        wrmsr(MSR_MTRR_BASE(1), v);
        return 0;
}

static void same_msr(uint32_t msr, const char *name) {
        struct fault f = fault_of(rdmsr(msr));

        if (f.vector != VECTOR_NONE)
                skip("this CPU has none", "%s", name);
        else
                is(vtl1_run(vtl1_rdmsr, msr), rdmsr(msr), "%s: the same in both levels", name);
}

static void test_shared(void) {
        uint64_t before = rdmsr(MSR_MTRR_BASE(1));

        write_cr2(0x1234567);
        is(vtl1_run(swap_cr2, 0x7654321), 0x1234567, "CR2: VTL1 sees VTL0's");
        is(read_cr2(), 0x7654321, "CR2: VTL0 sees VTL1's");

        same_msr(HV_MSR_VP_INDEX, "VP index");
        same_msr(HV_MSR_TSC_FREQUENCY, "TSC frequency");
        same_msr(HV_MSR_APIC_FREQUENCY, "APIC frequency");
        same_msr(MSR_MTRR_CAP, "MTRR capabilities");
        same_msr(MSR_MTRR_DEF_TYPE, "MTRR default type");
        same_msr(MSR_MCG_CAP, "MCG_CAP");
        same_msr(MSR_MCG_STATUS, "MCG_STATUS");
        wrmsr(MSR_MTRR_BASE(1), 0x80000006);
        is(vtl1_run(vtl1_rdmsr, MSR_MTRR_BASE(1)), 0x80000006, "MTRRs: VTL1 sees VTL0's");
        vtl1_run(vtl1_write_mtrr, 0x90000006);
        is(rdmsr(MSR_MTRR_BASE(1)), 0x90000006, "MTRRs: VTL0 sees VTL1's");
        wrmsr(MSR_MTRR_BASE(1), before);
}

/* CPUID is the partition's; bit 27 of leaf 1 says what CR4 is. */
struct leaf {
        uint32_t leaf, r[4];
};

static uint64_t vtl1_cpuid(uint64_t leaf) {
        struct leaf *l = (struct leaf *) leaf;

        cpuid(l->leaf, 0, l->r);
        return 0;
}

static void test_cpuid(void) {
        static const uint32_t first[] = { 0, 0x40000000, 0x80000000 };

        for (unsigned i = 0; i < ELEMENTSOF(first); i++) {
                unsigned bad = 0;
                uint32_t max[4];

                cpuid(first[i], 0, max);
                for (uint32_t n = first[i]; n <= max[0] && n < first[i] + 0x40; n++) {
                        struct leaf l = { .leaf = n };
                        uint32_t r[4];

                        cpuid(n, 0, r);
                        vtl1_run(vtl1_cpuid, (uint64_t) &l);
                        for (unsigned j = 0; j < 4; j++)
                                if (r[j] != l.r[j]) {
                                        print("# leaf 0x%x, register %u: 0x%x, 0x%x\n", n, j, r[j],
                                              l.r[j]);
                                        bad++;
                                }
                }
                is(bad, 0, "CPUID from 0x%x on: the same in both levels", first[i]);
        }
}

void guest_main(void) {
        vsm_protect();
        test_private();
        test_nmi_mask();
        test_shared();
        test_cpuid();
        test_debug_registers();
        test_tsc();
}
