/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A machine without any Hyper-V: what the library itself relies on, and that nothing of ours shows.
 * Command line: cpus=N (what the host was told, optional).
 */
#include "lib/guest.h"

static volatile unsigned ap_ran;
static unsigned nmis, ipis;

static void ap_main(void *arg) {
        __atomic_add_fetch(&ap_ran, 1, __ATOMIC_SEQ_CST);
}

static void count_nmi(struct trap_frame *f) {
        nmis++;
}

static void count_ipi(struct trap_frame *f) {
        ipis++;
        apic_eoi();
}

static void user_code(void) {
        __asm__ volatile("ud2");
}

static void user_privileged(void) {
        __asm__ volatile("cli");
}

static void test_cpuid(void) {
        uint32_t r[4];

        cpuid(0x40000000, 0, r);
        ok(!(r[1] == 0x7263694d && r[2] == 0x666f736f && r[3] == 0x76482074),
           "no Microsoft Hv in CPUID");
        is(fault_of(rdmsr(HV_MSR_VP_ASSIST_PAGE)).vector, VECTOR_GP, "VP assist MSR raises #GP");
}

static void test_library(void) {
        static uint8_t user_stack[1024] __attribute__((aligned(16)));
        uint64_t user_rsp = (uint64_t) (user_stack + sizeof(user_stack));
        char text[64];
        struct fault f;

        format(text, sizeof(text), "%d %04x %lu %s|%-3s|%c", -5, 0xab, 1234567890123ul, "s", "x",
               'c');
        is(memcmp(text, "-5 00ab 1234567890123 s|x  |c", 30), 0, "printf");
        is(fault_of(__asm__ volatile("ud2")).vector, VECTOR_UD, "guard catches #UD");
        f = fault_of(poke64(0x8000000000ull, 1));
        is(f.vector, VECTOR_PF, "guard catches #PF");
        is(f.cr2, 0x8000000000ull, "with its CR2");
        is(fault_of((void) 0).vector, VECTOR_NONE, "no fault, no vector");
        f = fault_of(user_enter((uint64_t) user_code, user_rsp, RFLAGS_FIXED, 0));
        is(f.vector, VECTOR_UD, "CPL 3 runs");
        is(f.rip, (uint64_t) user_code, "our code");
        f = fault_of(user_enter((uint64_t) user_privileged, user_rsp, RFLAGS_FIXED, 0));
        is(f.vector, VECTOR_GP, "CPL 3 has no privilege");
        is(f.cs & 3, 3, "and the fault came from there");
}

void guest_main(void) {
        unsigned n = cpu_count(), started = 0;

        test_cpuid();
        test_library();
        is(n, cmdline_number("cpus", n), "CPU count of fw_cfg");
        is(apic_read(APIC_ID) >> 24, 0, "APIC id of the first CPU");

        irq_set(VECTOR_IPI, count_ipi);
        apic_send(0, APIC_ICR_FIXED | VECTOR_IPI);
        interrupt_window();
        is(ipis, 1, "self IPI");
        irq_set(VECTOR_NMI, count_nmi);
        apic_send(0, APIC_ICR_NMI);
        for (unsigned i = 0; i < 1000 && nmis == 0; i++)
                cpu_relax();
        is(nmis, 1, "self NMI");

        for (unsigned i = 1; i < n; i++)
                started += cpu_start(i, ap_main, NULL);
        is(started, n - 1, "every other CPU started by INIT and SIPI");
        for (unsigned i = 0; i < 100000 && ap_ran < started; i++)
                cpu_relax();
        is(ap_ran, n - 1, "and ran our code");
}
