/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Brings about all that an administrator is shown of a VM and that does not happen otherwise: what
 * is accepted though nothing enforces it, a protection beyond the host's mappings, strict execute
 * mode, a VTL0 that is started over although VTL1 denies it, and crashes of both levels.
 *
 * The policy has to accept what cannot be enforced, to have strict-execute-pages = 4, and to
 * reserve nearly all mappings. hold=SECONDS keeps the guest alive at the end.
 */
#include "lib/probes.h"

#define CODE 0x9000ul /* what the SIPI names */
#define DONE 0x9804ul
#define FIRST 0x2000000ul /* 32 MiB: nothing of the image is there */
#define BATCH 510u
#define STRICT_PAGES 4u
#define RW_NX (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)
#define LONG_MS 8000
#define CR_BIT(name) (1ull << HV_CR_INTERCEPT_##name)

/* Reads an MSR of Hyper-V, which is an exit to the engine. */
/* clang-format off */
__asm__(".pushsection .rodata\n"
        ".code16\n"
        "over_code:\n"
        "        cli\n"
        "        xorw %ax, %ax\n"
        "        movw %ax, %ds\n"
        "        movl $0x40000002, %ecx\n"
        "        rdmsr\n"
        "        movw $1, 0x9804\n"
        "1:      hlt\n"
        "        jmp 1b\n"
        "over_end:\n"
        ".code64\n"
        ".popsection");
/* clang-format on */
extern const uint8_t over_code[], over_end[];

/* ---- In VTL1 ---- */

static uint64_t ask_for_everything(uint64_t arg) {
        return hv_install_intercept(HV_INTERCEPT_X64_CPUID, 4, 1) |
               hv_install_intercept(HV_INTERCEPT_X64_IO_PORT, 1, 0x21) |
               hv_set(VTL_SELF, HV_REGISTER_CR_INTERCEPT_CONTROL,
                      CR_BIT(CR4_WRITE) | CR_BIT(GDTR_WRITE)) |
               hv_set(VTL_SELF, HV_REGISTER_VSM_PARTITION_CONFIG,
                      VTL1_CONFIG | HV_VSM_DENY_LOWER_VTL_STARTUP);
}

static uint64_t protect_scattered(uint64_t arg) {
        struct hv_input_modify_mask *in = (void *) this_cpu()->in;

        in->partition = HV_PARTITION_ID_SELF;
        in->flags = HV_MAP_GPA_READABLE | HV_MAP_GPA_USER_EXECUTABLE | HV_MAP_GPA_KERNEL_EXECUTABLE;
        in->vtl = 0;
        for (unsigned i = 0; i < BATCH; i++)
                in->gpn[i] = (FIRST >> HV_PAGE_SHIFT) + 2 * i;
        return hv_call_memory(HVCALL_MODIFY_VTL_PROTECTION_MASK | HV_REPS(BATCH));
}

static uint64_t crash(uint64_t code) {
        for (unsigned i = 0; i < HV_CRASH_PARAMETERS; i++)
                wrmsr(HV_MSR_CRASH_P0 + i, code + i);
        wrmsr(HV_MSR_CRASH_CTL, HV_CRASH_CTL_NOTIFY);
        return 0;
}

/* ---- In VTL0 ---- */

static void test_strict(void) {
        for (unsigned i = 0; i <= STRICT_PAGES; i++)
                is(HV_RESULT_STATUS(protect(WINDOW_PAGE(8 + i), 1, RW_NX)), 0,
                   "page %u may not be executed", i);
        is(probe_load((void *) WINDOW_PAGE(8)), 0, "and can be read");
}

static void test_refused(void) {
        uint64_t result = vtl1_run(protect_scattered, 0);

        is(HV_RESULT_STATUS(result), HV_STATUS_INSUFFICIENT_MEMORY, "there are no mappings left");
        is(HV_RESULT_REPS(result), 0, "for no page of the call");
}

static uint64_t ask_engine(uint64_t arg) {
        return hv_register(HV_REGISTER_VSM_VP_STATUS);
}

static void test_startup(void) {
        volatile uint16_t *done = (volatile uint16_t *) DONE;
        uint64_t start;

        job_open_vtl1(1);
        is(job_run(1, ask_engine, 0, "GetVpRegisters") & 0xf, 0, "a CPU in VTL0, with VTL1");
        memcpy((void *) CODE, over_code, (size_t) (over_end - over_code));
        *done = 0;
        apic_send(1, APIC_ICR_INIT);
        apic_send(1, APIC_ICR_STARTUP | CODE >> 12);
        start = rdtsc();
        while (!*done && (int64_t) (rdtsc() - start) < (int64_t) (LONG_MS * tsc_per_ms()))
                ;
        is(*done, 1, "begins anew, though VTL1 denied it");
}

void guest_main(void) {
        vsm_protect();
        tsc_per_ms();
        is(vtl1_run(ask_for_everything, 0), 0, "VTL1 is told that it has what it asked for");
        test_strict();
        test_refused();
        test_startup();
        crash(0x1000);
        vtl1_run(crash, 0x2000);
        hv_hold(cmdline_number("hold", 0));
}
