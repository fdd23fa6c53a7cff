/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The benchmark's ModifyVtlProtectionMask: per page of lists of 1, 510 and 100,000 pages that lie
 * side by side or apart. A list is made read-only and opened again, which counts as half the sum:
 * so mappings are split and joined. The longer ones are calls of 510 pages, of which the best one
 * counts. Only calls are timed. VTL0 has written to each page shortly before, so that there is
 * something to take away.
 *
 * Each with the other VPs of the guest held, that is outside of it (their VTL1 has halted), and
 * with them running: they count in VTL0, and VTL1 sees them count before each call.
 *
 * With precise=1 VTL0 tries to write to a page of each closed list.
 */
#include "lib/bench.h"
#include "lib/probes.h"

#define FIRST 0x2000000ul /* 32 MiB: nothing of the image is there */
#define BATCH 510u
#define MANY 100000u
#define VECTOR_WAKE 0x62
#define PATIENCE_MS 5000

struct list {
        unsigned pages, stride;
};

static const struct list lists[] = { { 1, 1 }, { 510, 1 }, { 510, 2 }, { MANY, 1 }, { MANY, 2 } };

static uint64_t page_at(const struct list *l, unsigned i) {
        return FIRST + (uint64_t) i * l->stride * HV_PAGE_SIZE;
}

/* ---- The other VPs ---- */

static volatile bool over;
static volatile unsigned beats[MAX_CPUS], halts[MAX_CPUS];
static bool running;
static unsigned n_cpus;

static uint64_t count(uint64_t arg) {
        while (!over)
                beats[arg]++;
        return 0;
}

static void on_wake(struct trap_frame *f) {
        apic_eoi();
}

static uint64_t vtl1_halt(uint64_t arg) {
        while (!over) {
                halts[arg]++;
                halt();
        }
        return 0;
}

static uint64_t vtl1_wake(uint64_t cpu) {
        apic_send((uint32_t) cpu, APIC_ICR_FIXED | VECTOR_WAKE);
        return 0;
}

static void begin_others(void) {
        over = false;
        for (unsigned i = 1; i < n_cpus; i++) {
                halts[i] = 0;
                if (running)
                        job_start(i, count, i);
                else
                        job_start_vtl1(i, vtl1_halt, i);
        }
        for (unsigned i = 1; i < n_cpus && !running; i++)
                if (!spin_for(&halts[i], 1, PATIENCE_MS))
                        bail_out("CPU %u does not halt", i);
        /* From there to the HLT, and out of the guest */
        spin_ms(2);
}

static void end_others(void) {
        over = true;
        for (unsigned i = 1; i < n_cpus; i++) {
                if (!running && halts[i] != 1)
                        bail_out("CPU %u did not stay halted", i);
                if (!running)
                        vtl1_run(vtl1_wake, i);
                job_wait(i, "beside a benchmark");
        }
}

/* They are in the guest now. */
static void see_others(void) {
        for (unsigned i = 1; i < n_cpus && running; i++)
                if (!spin_while(&beats[i], beats[i], PATIENCE_MS))
                        bail_out("CPU %u does not run", i);
}

/* ---- The call ---- */

struct batch {
        const struct list *list;
        unsigned first, n;
        uint32_t flags;
};

static uint64_t vtl1_modify(uint64_t arg) {
        const struct batch *b = (const struct batch *) arg;
        struct hv_input_modify_mask *in = (void *) this_cpu()->in;
        uint64_t start, time, r;

        *in = (struct hv_input_modify_mask){ .partition = HV_PARTITION_ID_SELF,
                                             .flags = b->flags,
                                             .vtl = VTL_SELF };
        for (unsigned i = 0; i < b->n; i++)
                in->gpn[i] = page_at(b->list, b->first + i) >> HV_PAGE_SHIFT;
        see_others();
        start = rdtsc();
        r = hv_call_memory(HVCALL_MODIFY_VTL_PROTECTION_MASK | HV_REPS(b->n));
        time = rdtsc() - start;
        if (r != HV_REPS(b->n))
                bail_out("ModifyVtlProtectionMask of %u pages from page %u of %u on returns 0x%lx",
                         b->n, b->first, b->list->pages, r);
        return time;
}

/* Of many calls the best one counts, of those that find at least half of the list closed. */
static uint64_t modify(const struct list *l, uint32_t flags) {
        unsigned full = l->pages / BATCH, half = full / 2;
        uint64_t time = 0, best = ~0ull;

        for (unsigned k = 0; k * BATCH < l->pages; k++) {
                unsigned first = k * BATCH, n = l->pages - first < BATCH ? l->pages - first : BATCH;
                struct batch b = { l, first, n, flags };

                time = vtl1_run(vtl1_modify, (uint64_t) &b);
                if (n == BATCH && (flags == HV_MAP_GPA_ALL ? k <= full - half : k >= half) &&
                    time < best)
                        best = time;
        }
        return full > 1 ? best * l->pages / BATCH : time;
}

/* A store is refused; the page behind it is nobody's. */
static void check_closed(const struct list *l, unsigned i) {
        plan_start(PLAN_SKIP);
        probe_store((void *) page_at(l, i), 0xbad);
        if (plan.count != 1 || plan.log[0].gpa != page_at(l, i))
                bail_out("page %u of %u is not protected", i, l->pages);
        if (l->stride > 1)
                poke64(page_at(l, i) + HV_PAGE_SIZE, i);
        if (plan.count != 1)
                bail_out("the page behind page %u of %u is protected", i, l->pages);
}

static uint64_t bench_modify(const struct bench *b, uint64_t n) {
        const struct list *l = &lists[b->arg >> 1];
        bool precise = cmdline_number("precise", 0);
        uint64_t time = 0;

        running = b->arg & 1;
        begin_others();
        for (uint64_t i = 0; i < n; i++) {
                for (unsigned k = 0; k < l->pages; k++)
                        poke64(page_at(l, k), k);
                time += modify(l, HV_MAP_GPA_READABLE);
                if (precise) {
                        check_closed(l, 0);
                        check_closed(l, l->pages - 1);
                }
                time += modify(l, HV_MAP_GPA_ALL);
        }
        end_others();
        return time / 2;
}

/* clang-format off */
static const struct bench rows[] = {
        { "raw",       "raw_exit",                     40, bench_raw,    1,    0 },
        { "one",       "modify_1_held",                0,  bench_modify, 1,    0 },
        { "one",       "modify_1_running",             0,  bench_modify, 1,    1 },
        { "row",       "modify_510_held",              0,  bench_modify, 510,  2 },
        { "row",       "modify_510_running",           0,  bench_modify, 510,  3 },
        { "apart",     "modify_510_apart_held",        0,  bench_modify, 510,  4 },
        { "apart",     "modify_510_apart_running",     0,  bench_modify, 510,  5 },
        { "manyrow",   "modify_100000_held",           0,  bench_modify, MANY, 6 },
        { "manyrow",   "modify_100000_running",        0,  bench_modify, MANY, 7 },
        { "manyapart", "modify_100000_apart_held",     0,  bench_modify, MANY, 8 },
        { "manyapart", "modify_100000_apart_running",  0,  bench_modify, MANY, 9 },
};
/* clang-format on */

void guest_main(void) {
        n_cpus = cpu_count();
        bench_begin();
        irq_set(VECTOR_WAKE, on_wake);
        job_halt();
        for (unsigned i = 1; i < n_cpus; i++)
                job_open_vtl1(i);
        bench_all(rows, ELEMENTSOF(rows));
}
