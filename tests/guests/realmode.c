/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hypercalls, VTL calls and VTL returns in real mode (vsm.md 2.6, 6.1): all of them are #UD at
 * their instruction, and nothing happens. A second CPU makes them, with the registers of legal
 * ones.
 */
#include "lib/hv.h"

#define CODE 0x9000ul  /* what the SIPI names */
#define CASES 0x9800ul /* struct cases */
#define PAGE 0x70000ul /* VTL0's hypercall page for a while */
#define SURVIVED 0xeeee
#define MAX_PLACES 6
#define LONG_MS 8000

/* In low memory, used by the code below */
struct cases {
        volatile uint16_t count, next, done;
        uint16_t reserved[5];
        struct {
                uint32_t eax, ecx, edx;
                uint16_t at;              /* the instruction, in the page */
                volatile uint16_t result; /* where it faulted, or SURVIVED */
        } c[32];
};
static struct cases *const cases = (void *) CASES;
_Static_assert(offsetof(struct cases, c) == 16, "rm_code");

/* clang-format off */
__asm__(".pushsection .rodata\n"
        ".code16\n"
        "rm_code:\n"
        "        cli\n"
        "        cld\n"
        "        xorw %ax, %ax\n"
        "        movw %ax, %ds\n"
        "        movw %ax, %ss\n"
        "        movw $(rm_ud - rm_code), 0x18\n" /* vector 6 */
        "        movw $0x900, 0x1a\n"
        "rm_next:\n"
        "        movw $0x9000, %sp\n"
        "        movw 0x9802, %si\n"
        "        cmpw 0x9800, %si\n"
        "        jae rm_done\n"
        "        shlw $4, %si\n"
        "        movl 0x9810(%si), %eax\n"
        "        movl 0x9814(%si), %ecx\n"
        "        movl 0x9818(%si), %edx\n"
        "        movw 0x981c(%si), %di\n"
        "        pushw $0x8000\n" /* for the RET behind the instruction */
        "        pushw $0x7000\n"
        "        pushw %di\n"
        "        lret\n"
        "rm_ud:\n"
        "        popw %di\n"
        "        jmp rm_store\n"
        "rm_survived:\n"
        "        movw $0xeeee, %di\n"
        "rm_store:\n"
        "        xorw %ax, %ax\n"
        "        movw %ax, %ds\n"
        "        movw 0x9802, %si\n"
        "        shlw $4, %si\n"
        "        movw %di, 0x981e(%si)\n"
        "        incw 0x9802\n"
        "        jmp rm_next\n"
        "rm_done:\n"
        "        movw $1, 0x9804\n"
        "1:      hlt\n"
        "        jmp 1b\n"
        "rm_end:\n"
        ".code64\n"
        ".popsection");
/* clang-format on */
extern const uint8_t rm_code[], rm_survived[], rm_end[];

static uint64_t vtl1_enable(uint64_t vp) {
        struct hv_initial_vp_context context;

        vtl1_context((unsigned) vp, &context);
        return hv_enable_vp_vtl(HV_PARTITION_ID_SELF, (uint32_t) vp, 1, &context);
}

static void add(uint16_t at, uint32_t eax, uint32_t ecx) {
        unsigned n = cases->count++;

        cases->c[n].eax = eax;
        cases->c[n].ecx = ecx;
        cases->c[n].edx = 0;
        cases->c[n].at = at;
        cases->c[n].result = 0;
}

/* Every OUT of the page, with what each convention would pass */
static unsigned collect(void) {
        const uint8_t *page = (const uint8_t *) hv_hypercall_page(0);
        unsigned found = 0;

        memset(cases, 0, sizeof(*cases));
        for (uint16_t at = 0; at < 256; at++) {
                if (page[at] != 0xe6 || found == MAX_PLACES)
                        continue;
                found++; /* the byte behind it is a port, whatever its number */
                add(at, HVCALL_VTL_CALL, 0);
                add(at, 0, HVCALL_VTL_CALL);
                add(at, HVCALL_VTL_RETURN, 0);
                add(at, 0, HVCALL_VTL_RETURN);
                add(at, HVCALL_NOTIFY_LONG_SPIN_WAIT | (uint32_t) HV_CONTROL_FAST, 0);
                at++;
        }
        return found;
}

static bool run_cases(void) {
        const uint16_t survived[2] = { (uint16_t) (rm_survived - rm_code), 0x900 };
        uint8_t *landing = (uint8_t *) PAGE + 0x8000;
        uint64_t start = rdtsc();

        memcpy((void *) CODE, rm_code, (size_t) (rm_end - rm_code));
        landing[0] = 0xea; /* far jump */
        memcpy(landing + 1, survived, 4);
        wrmsr(HV_MSR_HYPERCALL, PAGE | HV_MSR_PAGE_ENABLE);
        apic_send(1, APIC_ICR_INIT);
        apic_send(1, APIC_ICR_STARTUP | CODE >> 12);
        while (!cases->done)
                if ((int64_t) (rdtsc() - start) > (int64_t) (LONG_MS * tsc_per_ms()))
                        return false;
        return true;
}

void guest_main(void) {
        if (cpu_count() < 2)
                skip_all("one CPU");
        vsm_open();
        tsc_per_ms();
        is(vtl1_run(vtl1_enable, 1), 0, "VTL1 for the second CPU");
        is(collect(), 5, "the hypercall page has five places that trap");
        if (!ok(run_cases(), "a CPU in real mode uses all of them"))
                return;
        hv_open();
        for (unsigned i = 0; i < cases->count; i++)
                is(cases->c[i].result, cases->c[i].at, "#UD at 0x%x with EAX 0x%x, ECX 0x%x",
                   cases->c[i].at, cases->c[i].eax, cases->c[i].ecx);
        is(cases->count, 25, "all tried");
        is(cpus[1][1].calls + cpus[1][1].interrupts, 0, "its VTL1 has not run");
}
