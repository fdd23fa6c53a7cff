/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Flushes of translations by hypercall (vsm.md 3.11): every rule of their parameters, in memory and
 * in registers, and that they flush: other VPs that keep using a page see it move at once, in
 * either level, global or not. The lock on them is in tlb-lock.c.
 * Command line: fpu=1 on a host that runs SSE code of a guest; moves=N of a page by each form;
 * parameters=0: only that, and what a malformed call gets is left to who answers it, KVM or vtld.
 */
#include "lib/flush.h"

#define CR4_PGE 0x80ull
#define PTE_GLOBAL 0x100ull
#define LONG_MS 5000

static unsigned ways; /* 1: in memory; 2: in registers, too */
static const char *const way_names[] = { "memory", "registers" };

/* ---- Parameters ---- */

static uint64_t everybody;

static const struct {
        const char *name;
        uint64_t flags, mask;
        unsigned from0, from1; /* status, by the caller's level */
} rows[] = {
        { "the caller", 0, 1, 0, 0 },
        { "all VPs by mask", 0, ~0ull, 0, 0 },
        { "a VP that is not there", 0, 1ull << 63, 0, 0 },
        { "nobody", 0, 0, 5, 5 },
        { "all processors", FLUSH_ALL_PROCESSORS, 0, 0, 0 },
        { "all address spaces", FLUSH_ALL_SPACES, 1, 0, 0 },
        { "but global mappings", FLUSH_NON_GLOBAL, 1, 0, 0 },
        { "all of that", FLUSH_ALL_PROCESSORS | FLUSH_ALL_SPACES | FLUSH_NON_GLOBAL, 1, 0, 0 },
        { "VTL0, not said to be named", FLUSH_VTL0, 1, 5, 5 },
        { "VTL1, not said to be named", FLUSH_VTL1, 1, 5, 5 },
        { "a named VTL, which is none", FLUSH_USE_TARGET_VTL, 1, 5, 5 },
        { "VTL0, named", FLUSH_USE_TARGET_VTL | FLUSH_VTL0, 1, 0, 0 },
        { "VTL1, named", FLUSH_USE_TARGET_VTL | FLUSH_VTL1, 1, 6, 0 },
        { "both VTLs", FLUSH_USE_TARGET_VTL | FLUSH_VTL0 | FLUSH_VTL1, ~0ull, 6, 0 },
};

/* Of a list all is done or nothing. */
static void is_result(const struct flush *f, unsigned want, const char *what) {
        uint64_t r = flush_send(f);

        is(r, want == 0 ? HV_REPS(f->ranges) : want, "VTL%u: %s by %s: %s", this_cpu()->vtl,
           flush_names[f->call], way_names[f->fast], what);
}

static void test_flags(enum flush_call call, bool fast) {
        const uint64_t known = FLUSH_ALL_PROCESSORS | FLUSH_ALL_SPACES | FLUSH_NON_GLOBAL |
                               FLUSH_EXTENDED_RANGES | FLUSH_USE_TARGET_VTL | FLUSH_VTL0 |
                               FLUSH_VTL1;
        bool list = call == FLUSH_LIST || call == FLUSH_LIST_EX;
        unsigned vtl = this_cpu()->vtl, bad = 0;
        struct flush f;

        for (unsigned i = 0; i < ELEMENTSOF(rows); i++) {
                f = flush_call(call, fast, rows[i].flags, rows[i].mask);
                is_result(&f, vtl == 0 ? rows[i].from0 : rows[i].from1, rows[i].name);
        }
        for (unsigned bit = 0; bit < 64; bit++)
                if (!(known >> bit & 1) &&
                    flush(call, fast, 1ull << bit, 1) != HV_STATUS_INVALID_PARAMETER) {
                        print("# flag %u\n", bit);
                        bad++;
                }
        is(bad, 0, "VTL%u: %s by %s: flags that nobody knows", vtl, flush_names[call],
           way_names[fast]);
        f = flush_call(call, fast, FLUSH_EXTENDED_RANGES, 1);
        f.range[0] = WINDOW | 1 << 11; /* 2 MiB */
        is_result(&f, list ? 0 : HV_STATUS_INVALID_PARAMETER, "ranges of large pages");
        f = flush_call(call, fast, 0, 1);
        f.space = ~0ull;
        is_result(&f, 0, "an address space that nobody has");
}

/* What only the Ex calls have: a set of VPs */
static void test_sets(enum flush_call call, bool fast) {
        static const struct {
                const char *name;
                uint64_t format, valid, mask;
                unsigned banks, status;
        } sets[] = {
                { "all", VP_SET_ALL, 0, 0, 0, 0 },
                { "all, and a bank", VP_SET_ALL, 1, 1, 1, 0 },
                { "format 2", 2, 1, 1, 1, 5 },
                { "no bank", VP_SET_SPARSE, 0, 0, 0, 5 },
                { "an empty bank", VP_SET_SPARSE, 1, 0, 1, 5 },
                { "a bank of others", VP_SET_SPARSE, 2, 1, 1, 5 },
                { "two banks", VP_SET_SPARSE, 3, 1, 2, 0 },
                { "more banks than are there", VP_SET_SPARSE, 3, 1, 1, 0 },
                { "a bank that is not there", VP_SET_SPARSE, 1, 0, 0, 0 },
        };
        struct flush f;

        for (unsigned i = 0; i < ELEMENTSOF(sets); i++) {
                f = flush_call(call, fast, 0, sets[i].mask);
                f.format = sets[i].format;
                f.valid = sets[i].valid;
                f.banks = sets[i].banks;
                is_result(&f, sets[i].status, sets[i].name);
        }
}

#define VARHDR(n) ((uint64_t) (n) << HV_CONTROL_VARHDR_SHIFT)

static void test_control(enum flush_call call, bool fast) {
        bool list = call == FLUSH_LIST || call == FLUSH_LIST_EX,
             ex = call == FLUSH_SPACE_EX || call == FLUSH_LIST_EX;
        struct flush f = flush_call(call, fast, 0, 1);

        f.control = 1ull << 60;
        is(flush_send(&f), 3, "%s by %s: a reserved bit", flush_names[call], way_names[fast]);
        if (!ex) {
                f.control = VARHDR(1);
                is(flush_send(&f), 3, "%s by %s: a variable header", flush_names[call],
                   way_names[fast]);
        }
        if (!list) {
                f.control = HV_REPS(1);
                is(flush_send(&f), 3, "%s by %s: a rep count", flush_names[call], way_names[fast]);
                return;
        }
        f.control = HV_REPS(f.ranges);
        is(flush_send(&f), 3, "%s by %s: no ranges", flush_names[call], way_names[fast]);
        f.control = HV_REP_START(2);
        is(flush_send(&f), 3, "%s by %s: begins behind its end", flush_names[call],
           way_names[fast]);
        f.control = HV_REP_START(1);
        is(flush_send(&f), HV_REPS(2), "%s by %s: begins in the middle", flush_names[call],
           way_names[fast]);
        f.flags = 1ull << 5;
        is(flush_send(&f), HV_REPS(1) | 5, "%s by %s: fails there", flush_names[call],
           way_names[fast]);
        f = flush_call(call, fast, 0, 1);
        f.ranges = ex ? 9 : 11; /* 112 bytes */
        is(flush_send(&f), HV_REPS(f.ranges), "%s by %s: %u ranges", flush_names[call],
           way_names[fast], f.ranges);
        f.ranges++;
        is(flush_send(&f), fast ? 3 : HV_REPS(f.ranges), "%s by %s: %u ranges", flush_names[call],
           way_names[fast], f.ranges);
        if (fast)
                return;
        f.ranges = ex ? 507 : 509; /* a page full */
        is(flush_send(&f), HV_REPS(f.ranges), "%s: %u ranges", flush_names[call], f.ranges);
        f.ranges++;
        is(flush_send(&f), HV_STATUS_INVALID_ALIGNMENT, "%s: %u ranges", flush_names[call],
           f.ranges);
}

static uint64_t test_parameters(uint64_t arg) {
        for (unsigned way = 0; way < ways; way++)
                for (enum flush_call call = 0; call < FLUSH_CALLS; call++) {
                        test_flags(call, way);
                        if (call == FLUSH_SPACE_EX || call == FLUSH_LIST_EX)
                                test_sets(call, way);
                        if (this_cpu()->vtl == 0)
                                test_control(call, way);
                }
        return 0;
}

static void test_where(void) {
        is(hv_call(HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE, (uint64_t) this_cpu()->in + 4, 0), 4,
           "parameters not aligned");
        is(hv_call(HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE, MMIO_HOLE & ~0xfffull, 0), 3,
           "parameters where no memory is");
}

static void test_offered(void) {
        uint32_t r[4];

        cpuid(HV_CPUID_RECOMMENDATIONS, 0, r);
        ok(r[0] & HV_RECOMMEND_REMOTE_FLUSH, "flushing by hypercall is recommended");
        ok(hv_features() & HV_FEATURE_CROSS_VTL_FLUSH, "flushes of a named VTL are offered");
        ok(hv_features() & HV_FEATURE_EXTENDED_GVA_RANGES, "ranges of large pages are offered");
        ok(hv_privileges() & HV_PRIV_EXTENDED_GVA_RANGES, "with the privilege for them");
}

/* ---- A page that moves under the eyes of the other VPs ---- */

#define ALIAS 0x8000000000ull /* PML4 entry 1, in both levels' tables */
#define FIRST WINDOW_PAGE(1)
#define SECOND WINDOW_PAGE(2)

static uint64_t alias_pdpt[512] __attribute__((aligned(4096)));
static uint64_t alias_pd[512] __attribute__((aligned(4096)));
static uint64_t alias_pt[512] __attribute__((aligned(4096)));

static struct watch {
        volatile uint64_t turns, seen;
} watches[MAX_CPUS] __attribute__((aligned(64)));
static volatile bool stop;
static uint64_t pte_bits, current; /* what the page is to hold */
static unsigned watchers, stale, looked;

static void map(uint64_t page) {
        *(volatile uint64_t *) &alias_pt[0] =
                page | PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED | PTE_DIRTY | pte_bits;
        current = page;
}

static void build_alias(void) {
        const uint64_t bits = PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED;

        boot_pml4[1] = vtl1_pml4[1] = (uint64_t) alias_pdpt | bits;
        alias_pdpt[0] = (uint64_t) alias_pd | bits;
        alias_pd[0] = (uint64_t) alias_pt | bits;
        poke64(FIRST, FIRST);
        poke64(SECOND, SECOND);
        map(FIRST);
}

static uint64_t global_pages(uint64_t on) {
        write_cr4(on ? read_cr4() | CR4_PGE : read_cr4() & ~CR4_PGE);
        return 0;
}

/* In either level: looks at the page, again and again. */
static uint64_t watch(uint64_t global) {
        struct watch *w = &watches[this_cpu()->index];

        global_pages(global);
        while (!stop) {
                w->seen = peek64(ALIAS);
                w->turns++;
        }
        global_pages(false);
        return 0;
}

/* The same with a secure call between two looks, so that VTL0 is away most of the time. */
static uint64_t come_and_go(uint64_t arg) {
        return arg;
}

static uint64_t watch_between(uint64_t global) {
        struct watch *w = &watches[this_cpu()->index];

        global_pages(global);
        while (!stop) {
                w->seen = peek64(ALIAS);
                w->turns++;
                vtl1_run(come_and_go, global);
        }
        global_pages(false);
        return 0;
}

/* Every watcher has had a look that began after now. */
static bool look_anew(void) {
        uint64_t from[MAX_CPUS], start = rdtsc();

        for (unsigned i = 1; i <= watchers; i++)
                from[i] = watches[i].turns;
        for (unsigned i = 1; i <= watchers; i++)
                while (watches[i].turns < from[i] + 2) {
                        if ((int64_t) (rdtsc() - start) > (int64_t) (LONG_MS * tsc_per_ms()))
                                return false;
                        cpu_relax();
                }
        return true;
}

/* How many watchers did not see the page where it is now */
static unsigned wrong_views(void) {
        unsigned wrong = 0;

        for (unsigned i = 1; i <= watchers; i++)
                wrong += watches[i].seen != current;
        return wrong;
}

/* One move and one flush for everybody, in the level that flushes. Whether all was right: @own, the
 * caller's own view is among those flushed. */
static bool move_once(enum flush_call call, bool fast, uint64_t flags, uint64_t mask, bool own) {
        struct flush f = flush_call(call, fast, flags, mask);

        if (f.ranges > 0)
                f.range[0] = ALIAS;
        map(current == FIRST ? SECOND : FIRST);
        looked += watchers;
        if (look_anew())
                stale += wrong_views();
        return HV_RESULT_STATUS(flush_send(&f)) == 0 && look_anew() && wrong_views() == 0 &&
               (!own || peek64(ALIAS) == current);
}

/* Each form of the calls for the level that @target names, or 0 */
static uint64_t move_and_flush(uint64_t target) {
        bool own = target == 0 || (target & (this_cpu()->vtl == 0 ? FLUSH_VTL0 : FLUSH_VTL1));
        uint64_t moves = cmdline_number("moves", 4);

        for (unsigned way = 0; way < ways; way++)
                for (enum flush_call call = 0; call < FLUSH_CALLS; call++) {
                        uint64_t good = 0;

                        for (uint64_t i = 0; i < moves; i += 2) {
                                good += move_once(call, way, target, everybody, own);
                                good += move_once(call, way, target | FLUSH_ALL_PROCESSORS, 0, own);
                        }
                        ok(good >= moves, "VTL%u, %s by %s: everybody sees the page's moves",
                           this_cpu()->vtl, flush_names[call], way_names[way]);
                }
        return 0;
}

/* Its own view, of which nobody else knows: VTL0's is looked at when VTL1 has returned. */
static uint64_t vtl1_move_vtl0(uint64_t call) {
        map(current == FIRST ? SECOND : FIRST);
        return flush(call, false, FLUSH_USE_TARGET_VTL | FLUSH_VTL0, 1);
}

static void test_own(void) {
        for (enum flush_call call = 0; call < FLUSH_CALLS; call++) {
                ok(peek64(ALIAS) == current && vtl1_run(vtl1_move_vtl0, call) == 0 &&
                           peek64(ALIAS) == current,
                   "VTL1 flushes its VP's VTL0 by %s", flush_names[call]);
                map(current == FIRST ? SECOND : FIRST);
                ok(flush(call, false, 0, 1) == 0 && peek64(ALIAS) == current,
                   "VTL0 flushes itself by %s", flush_names[call]);
        }
}

enum watch_kind {
        WATCH_VTL0,
        WATCH_VTL1,
        WATCH_BETWEEN,
};

static void begin(enum watch_kind kind, bool global) {
        stop = false;
        stale = looked = 0;
        pte_bits = global ? PTE_GLOBAL : 0;
        map(current);
        for (unsigned i = 1; i < cpu_count(); i++) {
                if (kind == WATCH_VTL1)
                        job_start_vtl1(i, watch, global);
                else
                        job_start(i, kind == WATCH_VTL0 ? watch : watch_between, global);
        }
        watchers = cpu_count() - 1;
        if (!look_anew())
                bail_out("a CPU does not look");
}

static void end(const char *what) {
        stop = true;
        for (unsigned i = 1; i <= watchers; i++)
                job_wait(i, what);
        watchers = 0;
        print("# %s: before the flush %u of %u looks were stale\n", what, stale, looked);
}

static void test_views(bool global) {
        const char *kind = global ? "global pages" : "pages";

        print("# %s\n", kind);
        global_pages(global);
        vtl1_run(global_pages, global);
        begin(WATCH_VTL0, global);
        move_and_flush(0);
        move_and_flush(FLUSH_USE_TARGET_VTL | FLUSH_VTL0);
        vtl1_run(move_and_flush, FLUSH_USE_TARGET_VTL | FLUSH_VTL0);
        vtl1_run(move_and_flush, FLUSH_USE_TARGET_VTL | FLUSH_VTL0 | FLUSH_VTL1);
        end("VTL0 watches");

        begin(WATCH_VTL1, global);
        vtl1_run(move_and_flush, 0);
        vtl1_run(move_and_flush, FLUSH_USE_TARGET_VTL | FLUSH_VTL1);
        end("VTL1 watches");

        begin(WATCH_BETWEEN, global);
        move_and_flush(0);
        vtl1_run(move_and_flush, FLUSH_USE_TARGET_VTL | FLUSH_VTL0);
        end("VTL0 watches between calls");
        test_own();
        global_pages(false);
        vtl1_run(global_pages, false);
}

/* ---- VTL0's translations while its VP is in VTL1 ---- */

static volatile bool parked, leave;

static uint64_t vtl1_park(uint64_t arg) {
        parked = true;
        while (!leave)
                cpu_relax();
        return arg;
}

/* What VTL0 sees before and after: the same address, with VTL1 in between */
static uint64_t look_around_vtl1(uint64_t arg) {
        uint64_t before = peek64(ALIAS);

        vtl1_run(vtl1_park, 0);
        return before == peek64(ALIAS);
}

static uint64_t move_vtl0(uint64_t target) {
        map(current == FIRST ? SECOND : FIRST);
        return flush(FLUSH_SPACE, false, target, everybody);
}

static void test_parked(void) {
        for (unsigned by = 0; by < 2; by++) {
                uint64_t status;

                parked = leave = false;
                job_start(1, look_around_vtl1, 0);
                for (uint64_t start = rdtsc(); !parked; cpu_relax())
                        if ((int64_t) (rdtsc() - start) > (int64_t) (LONG_MS * tsc_per_ms()))
                                bail_out("VP 1 does not come to VTL1");
                status = by == 0 ? move_vtl0(0)
                                 : vtl1_run(move_vtl0, FLUSH_USE_TARGET_VTL | FLUSH_VTL0);
                is(status, 0, "VTL%u flushes VTL0 of a VP that is in VTL1", by);
                leave = true;
                is(job_wait(1, "VTL1"), 0, "where the page has moved after the return");
        }
}

void guest_main(void) {
        unsigned n = cpu_count();

        ways = cmdline_number("fpu", 0) ? 2 : 1;
        vsm_open();
        tsc_per_ms();
        everybody = (1ull << n) - 1;
        test_offered();
        if (cmdline_number("parameters", 1)) {
                test_where();
                test_parameters(0);
                vtl1_run(test_parameters, 0);
        }
        if (ways < 2)
                skip("this host does not run SSE code of a guest", "parameters in registers");

        build_alias();
        for (unsigned i = 1; i < n; i++)
                job_open_vtl1(i);
        test_views(false);
        test_views(true);
        if (n > 1)
                test_parked();
}
