/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Protections and the intercepts they end in (vsm.md 3.1, 8).
 * Command line: precise=1 when the host reports faults with a precise RIP; otherwise only plain MOV
 * is tested.
 */
#include "lib/probes.h"

#define PAGE WINDOW_PAGE(8)
#define OPEN_PAGE WINDOW_PAGE(12)
#define SECRET 0x5ec2e75ec2e75ec2ull
#define POISON 0xdead0000beef0000ull

static bool precise;

static struct {
        uint32_t flags;
        uint8_t input_vtl;
        uint64_t gpn[4];
        unsigned n;
} job;

static uint64_t vtl1_modify(uint64_t arg) {
        return hv_modify_mask(job.flags, job.input_vtl, job.gpn, job.n);
}

static uint64_t modify(uint32_t flags, uint8_t input_vtl, uint64_t gpa) {
        job.flags = flags;
        job.input_vtl = input_vtl;
        job.gpn[0] = gpa >> HV_PAGE_SHIFT;
        job.n = 1;
        return vtl1_run(vtl1_modify, 0);
}

static uint64_t vtl1_configure(uint64_t value) {
        return hv_set(VTL_SELF, HV_REGISTER_VSM_PARTITION_CONFIG, value);
}

static void test_before(void) {
        uint64_t gpn = PAGE >> HV_PAGE_SHIFT;

        is(HV_RESULT_STATUS(hv_modify_mask(0, VTL_SELF, &gpn, 1)), HV_STATUS_INVALID_PARAMETER,
           "VTL0 cannot restrict itself");
        is(HV_RESULT_STATUS(hv_modify_mask(0, VTL1, &gpn, 1)), HV_STATUS_ACCESS_DENIED,
           "nor speak for VTL1");
        is(HV_RESULT_STATUS(modify(0, VTL_SELF, PAGE)), HV_STATUS_ACCESS_DENIED,
           "VTL1 neither, before protection is on");
        is(vtl1_run(vtl1_configure, VTL1_CONFIG), 0,
           "VsmPartitionConfig: protection on, all access by default");
        poke64(PAGE, 1);
        is(peek64(PAGE), 1, "VTL0 still reads and writes");
}

static void test_arguments(void) {
        static const uint32_t invalid[] = { 0x2,  0x4,    0x5,    0x6,      0x8,
                                            0x9,  0xa,    0xc,    0xe,      0x10,
                                            0x11, 0x8000, 0x8001, 0x100001, 0x80000001 };
        static const uint8_t targets[] = { VTL_SELF, VTL1, VTL0 };
        uint64_t r;

        for (unsigned i = 0; i < ELEMENTSOF(invalid); i++) {
                r = modify(invalid[i], VTL_SELF, PAGE);
                is(HV_RESULT_STATUS(r), HV_STATUS_INVALID_REGISTER_VALUE, "flags 0x%x", invalid[i]);
                is(HV_RESULT_REPS(r), 0, "flags 0x%x: nothing done", invalid[i]);
        }
        for (unsigned i = 0; i < ELEMENTSOF(targets); i++) {
                is(modify(HV_MAP_GPA_READABLE, targets[i], PAGE), HV_REPS(1), "TargetVtl 0x%x",
                   targets[i]);
                is(modify(HV_MAP_GPA_ALL, targets[i], PAGE), HV_REPS(1), "TargetVtl 0x%x, back",
                   targets[i]);
        }
        is(HV_RESULT_STATUS(modify(0, 0x20, PAGE)), HV_STATUS_INVALID_PARAMETER,
           "reserved bits in TargetVtl");
        r = HV_RESULT_STATUS(modify(0, VTL_SELF, MMIO_HOLE));
        ok(r == HV_STATUS_INVALID_PARAMETER || r == HV_STATUS_OPERATION_DENIED,
           "a page that is no RAM (0x%lx)", r);
        r = HV_RESULT_STATUS(modify(0, VTL_SELF, 1ull << 60));
        ok(r == HV_STATUS_INVALID_PARAMETER || r == HV_STATUS_OPERATION_DENIED,
           "a page beyond the address space (0x%lx)", r);
        r = HV_RESULT_STATUS(modify(HV_MAP_GPA_READABLE, VTL_SELF, hv_hypercall_page(0)));
        ok(r == HV_STATUS_INVALID_PARAMETER || r == HV_STATUS_OPERATION_DENIED,
           "VTL0's hypercall page (0x%lx)", r);
        is(hv_register(HV_REGISTER_VSM_VP_STATUS), 0x30000, "which still works");

        /* A bad page in a list: the good ones before it may be done or not, but must be counted
         * right. */
        poke64(OPEN_PAGE, 77);
        job.flags = HV_MAP_GPA_ALL;
        job.gpn[0] = OPEN_PAGE >> HV_PAGE_SHIFT;
        job.gpn[1] = MMIO_HOLE >> HV_PAGE_SHIFT;
        job.n = 2;
        r = vtl1_run(vtl1_modify, 0);
        ok(HV_RESULT_STATUS(r) != 0 && HV_RESULT_REPS(r) <= 1, "a list with a bad page (0x%lx)", r);
        is(peek64(OPEN_PAGE), 77, "leaves the good one open");
}

static uint64_t load(uint64_t gpa) {
        return probe_load((void *) gpa);
}

static void close_page(uint64_t gpa, uint32_t flags) {
        struct poke p = { gpa, SECRET };

        vtl1_run(vtl1_fill, (uint64_t) &p);
        if (HV_RESULT_STATUS(protect(gpa, 1, flags)) != 0)
                bail_out("cannot protect GPA 0x%lx", gpa);
}

static void test_read(void) {
        struct expected e = { .insn = (uint64_t) probe_load_insn,
                              .next = (uint64_t) probe_load_next,
                              .gpa = PAGE + 0x128,
                              .gva = precise ? PAGE + 0x128 : 0,
                              .access = HV_INTERCEPT_ACCESS_READ };
        uint64_t v;

        close_page(PAGE, 0);
        plan_start(PLAN_POISON);
        plan.poison = POISON;
        v = load(PAGE + 0x128);
        is(plan.count, 1, "no access: a read is intercepted once");
        check_intercept(0, &e, "read");
        check_intercept_state(0, "read");
        is(v, POISON, "VTL0 got what VTL1 gave it, and went on behind the instruction");

        plan_start(PLAN_OPEN);
        v = load(PAGE + 0x128);
        is(plan.count, 1, "VTL1 opens the page");
        is(v, SECRET, "and VTL0's read is done again");
        is(load(PAGE), SECRET, "it stays open");
        is(plan.count, 1, "without another intercept");
}

static void test_write(uint32_t flags, const char *what) {
        struct expected e = { .insn = precise ? (uint64_t) probe_store_insn : 0,
                              .next = (uint64_t) probe_store_next,
                              .gpa = PAGE + 0x230,
                              .gva = precise ? PAGE + 0x230 : 0,
                              .access = HV_INTERCEPT_ACCESS_WRITE };

        close_page(PAGE, flags);
        plan_start(PLAN_SKIP);
        probe_store((void *) (PAGE + 0x230), 0x1111);
        is(plan.count, 1, "%s: a write is intercepted once", what);
        check_intercept(0, &e, what);
        if (!precise && plan.log[0].header.rip != (uint64_t) probe_store_insn) {
                is(plan.log[0].header.rip, (uint64_t) probe_store_next,
                   "%s: RIP is behind the store", what);
                is(plan.log[0].header.instruction_length, 0, "%s: so there is no length", what);
        }
        ok(vtl1_page_is(PAGE, SECRET), "%s: the page is unchanged", what);

        plan_start(PLAN_OPEN);
        probe_store((void *) (PAGE + 0x230), 0x2222);
        is(plan.count, 1, "%s: VTL1 opens the page", what);
        is(peek64(PAGE + 0x230), 0x2222, "%s: and the write is done", what);
        is(peek64(PAGE + 0x228), SECRET, "%s: that one alone", what);
}

static void test_read_only(void) {
        close_page(PAGE, HV_MAP_GPA_READABLE);
        plan_start(PLAN_SKIP);
        is(load(PAGE + 8), SECRET, "read-only: reads pass");
        is(plan.count, 0, "without an intercept");
        is(HV_RESULT_STATUS(protect(PAGE, 1, HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)), 0,
           "read-write, no execute");
        poke64(PAGE, 5);
        is(peek64(PAGE), 5, "reads and writes pass");
        is(plan.count, 0, "without an intercept");
        is(HV_RESULT_STATUS(protect(PAGE, 1, HV_MAP_GPA_ALL)), 0, "open again");
}

/* VTL1 returns without doing anything: the same intercept again, for ever but for our patience. */
static void test_no_fix(void) {
        close_page(PAGE, 0);
        plan_start(PLAN_COUNT);
        plan.patience = 3;
        is(load(PAGE), SECRET, "an access that VTL1 lets fault again and again");
        is(plan.count, 4, "faults every time, until VTL1 opens the page");
}

static void test_many(void) {
        static uint64_t pages;

        for (pages = 0; pages < 40; pages += 2)
                if (HV_RESULT_STATUS(protect(WINDOW_PAGE(32 + pages), 1, HV_MAP_GPA_READABLE)) != 0)
                        break;
        is(pages, 40, "every second page of 40 read-only");
        plan_start(PLAN_SKIP);
        for (unsigned i = 1; i < 40; i += 2)
                poke64(WINDOW_PAGE(32 + i), i);
        is(plan.count, 0, "the others are open");
        probe_store((void *) WINDOW_PAGE(32), 1);
        probe_store((void *) WINDOW_PAGE(32 + 38), 1);
        is(plan.count, 2, "these are not");
        is(plan.log[1].gpa, WINDOW_PAGE(32 + 38), "as the GPA says");
        is(protect(WINDOW_PAGE(32), 40, HV_MAP_GPA_ALL), HV_REPS(40), "one call opens all");
        probe_store((void *) WINDOW_PAGE(32), 1);
        is(plan.count, 2, "all");
}

static uint64_t vtl1_modify_510(uint64_t flags) {
        struct hv_input_modify_mask *in = (void *) this_cpu()->in;

        *in = (struct hv_input_modify_mask){ .partition = HV_PARTITION_ID_SELF,
                                             .flags = (uint32_t) flags };
        for (unsigned i = 0; i < 510; i++)
                in->gpn[i] = (WINDOW_PAGE(0) >> HV_PAGE_SHIFT) + (i * 7) % 510;
        return hv_call_memory(HVCALL_MODIFY_VTL_PROTECTION_MASK | HV_REPS(510));
}

static void test_full_page(void) {
        is(vtl1_run(vtl1_modify_510, HV_MAP_GPA_READABLE), HV_REPS(510),
           "510 pages in one call, in no order");
        plan_start(PLAN_SKIP);
        probe_store((void *) WINDOW_PAGE(0), 1);
        probe_store((void *) WINDOW_PAGE(509), 1);
        is(plan.count, 2, "the first and the last are closed");
        probe_store((void *) WINDOW_PAGE(510), 1);
        is(plan.count, 2, "the one behind is not");
        is(vtl1_run(vtl1_modify_510, HV_MAP_GPA_ALL), HV_REPS(510), "and opened");
        probe_store((void *) WINDOW_PAGE(255), 1);
        is(plan.count, 2, "all of them");
}

/* Instructions that only a host with precise faults gets right */

static void test_forms(void) {
        struct expected e = { .insn = (uint64_t) probe_load_long_insn,
                              .next = (uint64_t) probe_load_long_next,
                              .gpa = PAGE + 0x310,
                              .gva = PAGE + 0x310,
                              .access = HV_INTERCEPT_ACCESS_READ };
        void *from = (void *) (PAGE + 0x310 - PROBE_LOAD_LONG_DISPLACEMENT);

        close_page(PAGE, 0);
        plan_start(PLAN_POISON);
        plan.poison = POISON;
        is(probe_load_long(from), POISON, "a load with SIB and displacement");
        check_intercept(0, &e, "long load");

        close_page(PAGE, HV_MAP_GPA_READABLE);
        plan_start(PLAN_SKIP);
        probe_lock_add((void *) (PAGE + 0x40), 1);
        e = (struct expected){ .insn = (uint64_t) probe_lock_add_insn,
                               .next = (uint64_t) probe_lock_add_next,
                               .gpa = PAGE + 0x40,
                               .gva = PAGE + 0x40,
                               .access = HV_INTERCEPT_ACCESS_WRITE };
        check_intercept(0, &e, "LOCK ADD on a read-only page");
        ok(vtl1_page_is(PAGE, SECRET), "LOCK ADD: the page is unchanged");
        plan_start(PLAN_OPEN);
        probe_lock_add((void *) (PAGE + 0x40), 1);
        is(peek64(PAGE + 0x40), SECRET + 1, "LOCK ADD is done when VTL1 opens the page, once");
}

static void test_fetch(void) {
        static const uint8_t ret = 0xc3;
        struct expected e = { .insn = PAGE + 0x500,
                              .gpa = PAGE + 0x500,
                              .gva = PAGE + 0x500,
                              .access = HV_INTERCEPT_ACCESS_EXECUTE };

        memcpy((void *) (PAGE + 0x500), &ret, 1);
        is(HV_RESULT_STATUS(protect(PAGE, 1, 0)), 0, "code in a closed page");
        plan_start(PLAN_OPEN);
        probe_fetch((void *) (PAGE + 0x500));
        is(plan.count, 1, "a fetch is intercepted");
        check_intercept(0, &e, "fetch");
        check_intercept_state(0, "fetch");
}

/* VTL1 answers an access with an exception: VTL0 sees its own #GP at the instruction. */
static void inject_gp(struct hv_message *m, struct gprs *g) {
        hv_set(VTL0, HV_REGISTER_PENDING_EVENT0, 1 | 1 << 8 | (uint64_t) VECTOR_GP << 16);
        plan.count++;
}

static void test_exception(void) {
        void (*handler)(struct hv_message *, struct gprs *) = vtl1_on_intercept;
        struct fault f;

        close_page(PAGE, 0);
        plan_start(PLAN_SKIP);
        vtl1_on_intercept = inject_gp;
        f = fault_of(load(PAGE));
        is(f.vector, VECTOR_GP, "VTL1 answers an access with #GP");
        is(f.rip, (uint64_t) probe_load_insn, "at the instruction");
        is(plan.count, 1, "after one intercept");
        vtl1_on_intercept = handler;
        is(HV_RESULT_STATUS(protect(PAGE, 1, HV_MAP_GPA_ALL)), 0, "and the page is opened");
}

void guest_main(void) {
        precise = cmdline_number("precise", 0);
        vsm_open();
        test_before();
        test_arguments();
        test_read();
        test_write(0, "no access");
        test_write(HV_MAP_GPA_READABLE, "read-only");
        test_read_only();
        test_no_fix();
        test_many();
        test_full_page();
        if (!precise) {
                skip("faults are imprecise on this host", "other instructions than MOV");
                skip("faults are imprecise on this host", "instruction fetch");
                skip("faults are imprecise on this host", "an exception as VTL1's answer");
                return;
        }
        test_forms();
        test_fetch();
        test_exception();
}
