/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Instructions that KVM emulates and that would have the VMM's device model read or write a
 * protected page for VTL0: string port I/O and everything with an MMIO operand. Memory must stay as
 * it is, no byte may get out, VTL1 must be told the GPA.
 */
#include "lib/probes.h"

#define PAGE WINDOW_PAGE(8)
#define SECRET_BYTE 0x5e
#define SECRET 0x5e5e5e5e5e5e5e5eull

#define PORT_LSR 0x3fd     /* the UART, in the VMM: 0x60 when idle */
#define PORT_SCRATCH 0x3ff /* keeps what is written to it */
#define PORT_FW_CFG 0x511
#define PORT_PIC_MASK 0x21                          /* in the kernel; keeps what is written to it */
#define APIC_VERSION_AT (XAPIC_BASE + APIC_VERSION) /* in the kernel */

enum store {
        STORE_INS_USER,
        STORE_INS_FW_CFG,
        STORE_INS_KERNEL,
        STORE_REP_INS,
        STORE_MOVS_USER,
        STORE_MOVS_KERNEL,
        STORE_PUSH,
        STORES,
};

static const struct {
        const char *name;
        unsigned offset, bytes;
        uint64_t value; /* what an open page gets */
        bool value_known;
} stores[STORES] = {
        [STORE_INS_USER] = { "INS from the UART", 0x100, 1, 0x60, true },
        [STORE_INS_FW_CFG] = { "INS from fw_cfg", 0x101, 1, 'Q', true },
        [STORE_INS_KERNEL] = { "INS from the PIC", 0x102, 1, 0xa5, true },
        [STORE_REP_INS] = { "REP INS from the UART", 0x208, 4, 0x60606060, true },
        [STORE_MOVS_USER] = { "MOVS from unassigned MMIO", 0x300, 4, 0xffffffff, true },
        [STORE_MOVS_KERNEL] = { "MOVS from the APIC page", 0x304, 4, 0, false },
        [STORE_PUSH] = { "PUSH of an MMIO operand", 0x800 - 8, 8, ~0ull, true },
};

static uint64_t run_store(enum store s) {
        void *to = (void *) (PAGE + stores[s].offset);

        switch (s) {
        case STORE_INS_USER:
                return probe_ins(to, PORT_LSR) - (uint64_t) to;
        case STORE_INS_FW_CFG:
                outw(0x510, 0);
                return probe_ins(to, PORT_FW_CFG) - (uint64_t) to;
        case STORE_INS_KERNEL:
                outb(PORT_PIC_MASK, 0xa5);
                return probe_ins(to, PORT_PIC_MASK) - (uint64_t) to;
        case STORE_REP_INS:
                return 4 - probe_rep_ins(to, PORT_LSR, 4);
        case STORE_MOVS_USER:
                return probe_movs(to, (void *) MMIO_HOLE) - (uint64_t) to;
        case STORE_MOVS_KERNEL:
                return probe_movs(to, (void *) APIC_VERSION_AT) - (uint64_t) to;
        default:
                return PAGE + 0x800 -
                       probe_push_memory((void *) (PAGE + 0x800), (void *) MMIO_HOLE);
        }
}

static uint64_t stored(enum store s) {
        uint64_t v = 0;

        memcpy(&v, (void *) (PAGE + stores[s].offset), stores[s].bytes);
        return v;
}

static void close_page(uint32_t flags) {
        struct poke p = { PAGE, SECRET };

        vtl1_run(vtl1_fill, (uint64_t) &p);
        if (HV_RESULT_STATUS(protect(PAGE, 1, flags)) != 0)
                bail_out("cannot protect GPA 0x%lx", PAGE);
}

static void open_page(void) {
        if (HV_RESULT_STATUS(protect(PAGE, 1, HV_MAP_GPA_ALL)) != 0)
                bail_out("cannot open GPA 0x%lx", PAGE);
}

static void check_messages(enum store s, const char *rights) {
        unsigned wrong_gpa = 0, wrong_access = 0, wrong_length = 0;

        for (unsigned n = 0; n < plan.count && n < PLAN_LOG; n++) {
                const struct hv_memory_intercept *i = &plan.log[n];

                wrong_gpa += i->gpa < PAGE + stores[s].offset ||
                             i->gpa >= PAGE + stores[s].offset + stores[s].bytes;
                wrong_access += i->header.access_type != HV_INTERCEPT_ACCESS_WRITE;
                wrong_length +=
                        (i->header.instruction_length & 0xf) != 0 || i->instruction_byte_count != 0;
        }
        ok(plan.count >= 1 && plan.count <= stores[s].bytes, "%s, %s: intercepted (%u)",
           stores[s].name, rights, plan.count);
        is(wrong_gpa, 0, "%s, %s: GPA", stores[s].name, rights);
        is(wrong_access, 0, "%s, %s: access type", stores[s].name, rights);
        is(wrong_length, 0, "%s, %s: no instruction length", stores[s].name, rights);
}

static void test_store(enum store s, uint32_t flags, const char *rights) {
        uint64_t moved;

        close_page(flags);
        plan_start(PLAN_SKIP);
        moved = run_store(s);
        is(moved, stores[s].bytes, "%s, %s: the registers moved on", stores[s].name, rights);
        check_messages(s, rights);
        ok(vtl1_page_is(PAGE, SECRET), "%s, %s: memory is unchanged", stores[s].name, rights);

        plan_start(PLAN_OPEN);
        run_store(s);
        ok(plan.count >= 1, "%s, %s: VTL1 opens the page", stores[s].name, rights);
        if (stores[s].value_known)
                is(stored(s), stores[s].value, "%s, %s: and the store is carried out",
                   stores[s].name, rights);
        else
                ok(stored(s) != (uint32_t) SECRET, "%s, %s: and the store is carried out (0x%lx)",
                   stores[s].name, rights, stored(s));
}

/* What an open page gets, so that the tests above mean something */
static void test_open(void) {
        plan_start(PLAN_SKIP);
        for (enum store s = 0; s < STORES; s++) {
                open_page();
                is(run_store(s), stores[s].bytes, "%s, open: done", stores[s].name);
                if (stores[s].value_known)
                        is(stored(s), stores[s].value, "%s, open: stored", stores[s].name);
        }
        is(plan.count, 0, "open: no intercept");
}

/* REP INS that begins in an open page and runs into the closed one */
static void test_rep_boundary(void) {
        uint64_t to = PAGE - 2;

        close_page(HV_MAP_GPA_READABLE);
        poke64(PAGE - 8, 0);
        plan_start(PLAN_SKIP);
        is(probe_rep_ins((void *) to, PORT_LSR, 6), 0, "REP INS into the next page: ends");
        is(*(volatile uint16_t *) to, 0x6060, "what goes to the open page is stored");
        ok(plan.count >= 1 && plan.log[0].gpa == PAGE,
           "the rest is intercepted at the page's start (0x%lx)", plan.log[0].gpa);
        ok(vtl1_page_is(PAGE, SECRET), "and the closed page is unchanged");
}

/* Loads: the byte must not reach a device that VTL0 can read back. */
static void test_outs(uint16_t port, const char *name) {
        const struct hv_memory_intercept *i = &plan.log[0];
        uint64_t from = PAGE + 0x44, end;

        open_page();
        *(volatile uint8_t *) from = 0x3c;
        outb(port, 0);
        end = probe_outs((void *) from, port);
        is(end, from + 1, "OUTS to %s, open: RSI moved on", name);
        if (!is(inb(port), 0x3c, "OUTS to %s, open: the byte can be read back", name))
                return;

        outb(port, 0);
        close_page(0);
        plan_start(PLAN_SKIP);
        end = probe_outs((void *) from, port);
        is(plan.count, 1, "OUTS to %s, no access: intercepted", name);
        is(i->gpa, from, "OUTS to %s, no access: GPA", name);
        is(i->header.access_type, HV_INTERCEPT_ACCESS_READ, "OUTS to %s, no access: access type",
           name);
        is(i->header.rip, (uint64_t) probe_outs_insn,
           "OUTS to %s, no access: RIP at the instruction", name);
        is(i->header.instruction_length & 0xf, probe_outs_next - probe_outs_insn,
           "OUTS to %s, no access: length", name);
        is(end, from, "OUTS to %s, skipped: RSI is as before", name);
        is(inb(port), 0, "OUTS to %s, no access: nothing got out", name);
        ok(vtl1_page_is(PAGE, SECRET), "OUTS to %s, no access: memory is unchanged", name);

        plan_start(PLAN_OPEN);
        end = probe_outs((void *) from, port);
        is(plan.count, 1, "OUTS to %s: VTL1 opens the page", name);
        is(end, from + 1, "OUTS to %s: and it is done", name);
        is(inb(port), SECRET_BYTE, "OUTS to %s: with the byte VTL1 allows", name);

        close_page(HV_MAP_GPA_READABLE);
        outb(port, 0);
        plan_start(PLAN_SKIP);
        probe_outs((void *) from, port);
        is(plan.count, 0, "OUTS to %s, read-only: no intercept", name);
        is(inb(port), SECRET_BYTE, "OUTS to %s, read-only: done", name);
        outb(port, 0xff);
}

/* The other direction of the MMIO operand: from the page to a device */
static void test_movs_out(void) {
        const struct hv_memory_intercept *i = &plan.log[0];

        close_page(0);
        plan_start(PLAN_SKIP);
        probe_movs((void *) MMIO_HOLE, (void *) (PAGE + 0x50));
        is(plan.count, 1, "MOVS to MMIO from a closed page: intercepted");
        is(i->gpa, PAGE + 0x50, "MOVS to MMIO from a closed page: GPA");
        is(i->header.access_type, HV_INTERCEPT_ACCESS_READ,
           "MOVS to MMIO from a closed page: access type");
        open_page();
}

void guest_main(void) {
        vsm_protect();
        test_open();
        for (enum store s = 0; s < STORES; s++) {
                test_store(s, 0, "no access");
                test_store(s, HV_MAP_GPA_READABLE, "read-only");
        }
        test_rep_boundary();
        test_outs(PORT_SCRATCH, "the UART");
        test_outs(PORT_PIC_MASK, "the PIC");
        test_movs_out();
}
