/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VTL1 whose page tables let it execute its image and nothing else, which is the same at each
 * start, so that it can be measured.
 *
 * Command line: refused=1 when EnableVpVtl is expected to refuse it, refused=2 when its first entry
 * is. alter=1 changes the image between the two. wide=1 takes the tables of other guests, which map
 * everything. hold=SECONDS keeps the guest alive at the end.
 */
#include "lib/hv.h"

enum {
        REFUSED_NEVER,
        REFUSED_ENABLING,
        REFUSED_ENTERING
};

extern char guest_code_begin[], guest_code_end[];

static uint64_t narrow_pml4[512] __attribute__((aligned(4096)));
static uint64_t narrow_pdpt[512] __attribute__((aligned(4096)));
static uint64_t narrow_pd[4][512] __attribute__((aligned(4096)));
/* Below the window */
static uint64_t narrow_pt[WINDOW >> 12] __attribute__((aligned(4096)));

/* In the image, and nobody needs it. The compiler cannot know what VTL0 does with it. */
const uint8_t marker __attribute__((section(".rodata"))) = 0x5a;

/* The map of the others, where only code can be executed, and VTL1's hypercall page */
static void narrow_tables(void) {
        for (unsigned i = 0; i < 4; i++) {
                for (unsigned j = 0; j < 512; j++)
                        narrow_pd[i][j] = boot_pd[i][j] | PTE_NX;
                narrow_pdpt[i] = (uint64_t) narrow_pd[i] | PTE_USER | PTE_WRITE | PTE_PRESENT;
        }
        for (uint64_t i = 0; i < WINDOW >> 12; i++) {
                uint64_t page = i << 12;
                bool code =
                        (page >= (uint64_t) guest_code_begin && page < (uint64_t) guest_code_end) ||
                        page == hv_hypercall_page(1);

                narrow_pt[i] = page | PTE_PRESENT | (code ? 0 : PTE_WRITE | PTE_NX);
        }
        for (uint64_t i = 0; i < WINDOW >> 21; i++)
                narrow_pd[0][i] =
                        (uint64_t) (narrow_pt + 512 * i) | PTE_USER | PTE_WRITE | PTE_PRESENT;
        narrow_pd[0][WINDOW >> 21] = WINDOW | PTE_LARGE | PTE_WRITE | PTE_PRESENT | PTE_NX;
        narrow_pml4[0] = (uint64_t) narrow_pdpt | PTE_USER | PTE_WRITE | PTE_PRESENT;
}

static uint64_t vtl1_marker(uint64_t arg) {
        return *(const volatile uint8_t *) &marker + arg;
}

static void is_not_entered(const char *what) {
        struct gprs g = gprs_zero();
        struct fault f = fault_of(call_with_gprs(this_cpu()->vtl_call_entry, &g));

        is(f.vector, VECTOR_UD, "#UD: %s", what);
}

void guest_main(void) {
        uint64_t refused = cmdline_number("refused", REFUSED_NEVER);
        struct hv_initial_vp_context context;
        unsigned status;

        if (!hv_present())
                skip_all("no Hyper-V interface in CPUID");
        hv_open();
        is(hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 1, 0), 0, "EnablePartitionVtl");
        vtl1_context(this_cpu()->index, &context);
        narrow_tables();
        if (!cmdline_number("wide", 0))
                context.cr3 = (uint64_t) narrow_pml4;

        status = hv_enable_vp_vtl(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 1, &context);
        is(status, refused == REFUSED_ENABLING ? HV_STATUS_ACCESS_DENIED : HV_STATUS_SUCCESS,
           "EnableVpVtl");
        if (status != HV_STATUS_SUCCESS) {
                is(hv_register(HV_REGISTER_VSM_VP_STATUS), 0x10000, "VTL0 is all there is");
                is_not_entered("VTL call after a refusal");
                hv_hold(cmdline_number("hold", 0));
                return;
        }
        if (cmdline_number("alter", 0))
                *(volatile uint8_t *) (uint64_t) &marker = 0x5b;
        if (refused == REFUSED_ENTERING) {
                is_not_entered("VTL call into a VTL1 that was altered");
                is(hv_register(HV_REGISTER_VSM_VP_STATUS), 0x10000, "it is disabled again");
                is_not_entered("VTL call after that");
                hv_hold(cmdline_number("hold", 0));
                return;
        }
        is(vtl1_run(vtl1_marker, 0x100), 0x15a + cmdline_number("alter", 0), "VTL1 runs");
        hv_hold(cmdline_number("hold", 0));
}
