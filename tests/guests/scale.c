/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Protections at scale: 30,000 pages that lie apart, each of which is enforced; and the end of what
 * the host has mappings for, where a call is refused whole, with nothing half applied.
 */
#include "lib/probes.h"

#define FIRST 0x2000000ul /* 32 MiB: nothing of the image is there */
#define WANTED 30000u
#define BATCH 510u
#define PAGE_AT(i) (FIRST + 2 * (uint64_t) (i) *HV_PAGE_SIZE)

/* Filled with every @step-th page from @first on, in one call */
struct batch {
        unsigned first, count;
        uint32_t flags;
        uint64_t result;
};

static uint64_t modify(uint64_t arg) {
        struct batch *b = (struct batch *) arg;
        struct hv_input_modify_mask *in = (void *) this_cpu()->in;

        in->partition = HV_PARTITION_ID_SELF;
        in->flags = b->flags;
        in->vtl = 0;
        for (unsigned i = 0; i < b->count; i++)
                in->gpn[i] = PAGE_AT(b->first + i) >> HV_PAGE_SHIFT;
        b->result = hv_call_memory(HVCALL_MODIFY_VTL_PROTECTION_MASK | HV_REPS(b->count));
        return 0;
}

static uint64_t batch(unsigned first, unsigned count, uint32_t flags) {
        static struct batch b;

        b = (struct batch){ .first = first, .count = count, .flags = flags };
        vtl1_run(modify, (uint64_t) &b);
        return b.result;
}

static unsigned protect_until_full(unsigned from, unsigned to, uint64_t *ret_last) {
        unsigned done = from;

        while (done < to) {
                unsigned n = to - done < BATCH ? to - done : BATCH;

                *ret_last = batch(done, n, HV_MAP_GPA_READABLE);
                if (HV_RESULT_STATUS(*ret_last) != 0)
                        break;
                if (HV_RESULT_REPS(*ret_last) != n)
                        bail_out("%u of %u pages in one call", HV_RESULT_REPS(*ret_last), n);
                done += n;
        }
        return done;
}

/* Whether VTL0's store is refused; reads and the page beside it must not be. */
static bool is_protected(unsigned i) {
        plan_start(PLAN_SKIP);
        probe_store((void *) PAGE_AT(i), 0xbad);
        return plan.count == 1 && plan.log[0].gpa == PAGE_AT(i);
}

static void test_enforced(unsigned done) {
        unsigned wrong = 0, open_wrong = 0;

        for (unsigned i = 0; i < done; i += done / 37) {
                poke64(PAGE_AT(i) + HV_PAGE_SIZE, i);
                open_wrong += peek64(PAGE_AT(i) + HV_PAGE_SIZE) != i;
                wrong += !is_protected(i);
                wrong += peek64(PAGE_AT(i)) != 0;
        }
        wrong += !is_protected(done - 1);
        is(wrong, 0, "a store to each that was tried is an intercept, and does nothing");
        is(open_wrong, 0, "the pages between are open");
}

/* The host's limit: not before WANTED pages, and nothing of the call that meets it is applied. */
static void test_limit(unsigned done) {
        uint64_t last = 0;
        unsigned full = protect_until_full(done, 2 * WANTED, &last), wrong = 0, opened;

        if (HV_RESULT_STATUS(last) == 0) {
                skip("this host has mappings for twice as many", "where the host ends");
                return;
        }
        is(HV_RESULT_STATUS(last), HV_STATUS_INSUFFICIENT_MEMORY, "INSUFFICIENT_MEMORY after %u",
           full);
        is(HV_RESULT_REPS(last), 0, "no page of that call");
        plan_start(PLAN_SKIP);
        for (unsigned i = full; i < full + BATCH; i++)
                poke64(PAGE_AT(i), i);
        is(plan.count, 0, "nothing of that call was applied");
        for (unsigned i = 0; i < full; i += full / 11)
                wrong += !is_protected(i);
        is(wrong, 0, "all before it still are protected");
        /* Opening needs no mappings, and makes room. */
        opened = HV_RESULT_STATUS(batch(0, BATCH, HV_MAP_GPA_ALL));
        is(opened, 0, "pages can be opened");
        is(HV_RESULT_STATUS(batch(full, BATCH, HV_MAP_GPA_READABLE)), 0,
           "then there is room for as many others");
        ok(is_protected(full), "which are protected");
}

void guest_main(void) {
        uint64_t last = 0;
        unsigned done;

        vsm_protect();
        done = protect_until_full(0, WANTED, &last);
        is(HV_RESULT_STATUS(last), 0, "%u pages that lie apart are read-only for VTL0", done);
        if (done < WANTED)
                return;
        test_enforced(done);
        test_limit(done);
}
