/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VTL1's lock on VTL0's translations (vsm.md 8.8): while a VP holds it, VTL0's flushes on the other
 * VPs do not come to their end. Flushes themselves are in tlb.c.
 * Command line: fpu=1 on a host that runs SSE code of a guest; rounds=N.
 */
#include "lib/flush.h"

#define LOCKED 2ull /* of HvRegisterVsmVpSecureConfigVtl0 */
#define VECTOR_VTL1 0x51
#define VECTOR_VTL0 0x52
#define HOLD_MS 5 /* how long a flush is seen not to end */
#define LONG_MS 8000

static bool fast;

/* ---- A VP that flushes, once, when it is told to ---- */

static struct flusher {
        volatile unsigned started, ended, failed;
        volatile unsigned vtl1_ipis, vtl0_ipis; /* taken on this VP */
} flushers[MAX_CPUS] __attribute__((aligned(64)));

/* Which call, with what mask: bit 8 for all processors, otherwise the VP itself only */
#define WITH_ALL 0x100u

static uint64_t flush_once(uint64_t how) {
        unsigned me = this_cpu()->index;
        enum flush_call call = how & 3;
        struct flusher *f = &flushers[me];
        unsigned status;

        f->started++;
        status = how & WITH_ALL ? flush(call, fast, FLUSH_ALL_PROCESSORS, 0)
                                : flush(call, fast, 0, 1ull << me);
        f->failed += status != 0;
        f->ended++;
        return status;
}

/* The same with VTL0's interrupts on */
static uint64_t flush_open(uint64_t how) {
        uint64_t r;

        irq_on();
        r = flush_once(how);
        spin_for(&flushers[this_cpu()->index].vtl0_ipis, 1, LONG_MS);
        irq_off();
        return r;
}

static void on_ipi(struct trap_frame *t) {
        struct flusher *f = &flushers[this_cpu()->index];

        apic_eoi();
        if (this_cpu()->vtl == 1)
                f->vtl1_ipis++;
        else
                f->vtl0_ipis++;
}

static void forget(void) {
        memset(flushers, 0, sizeof(flushers));
}

static unsigned hold_ms = HOLD_MS;

/* VP @vp has issued its flush: it said so, and had the time. */
static bool begun(unsigned vp) {
        bool r = spin_for(&flushers[vp].started, 1, LONG_MS);

        spin_ms(hold_ms);
        return r;
}

static bool ended(unsigned vp) {
        return spin_for(&flushers[vp].ended, 1, LONG_MS);
}

/* ---- VTL1's side ---- */

static unsigned set_lock(uint32_t vp, bool on) {
        const uint32_t name = HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0;
        union hv_register_value v = { .low64 = on ? LOCKED : 0 };

        return HV_RESULT_STATUS(hv_set_registers(vp, VTL_SELF, &name, 1, &v));
}

static bool get_lock(uint32_t vp) {
        const uint32_t name = HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0;
        union hv_register_value v = { .low64 = ~0ull };

        if (hv_get_registers(vp, VTL_SELF, &name, 1, &v) != HV_REPS(1))
                bail_out("VsmVpSecureConfigVtl0 of VP 0x%x cannot be read", vp);
        return v.low64 & LOCKED;
}

struct translate_in {
        uint64_t partition;
        uint32_t vp, reserved;
        uint64_t flags, page;
} __attribute__((packed));

/* TranslateVirtualAddress with TlbFlushInhibit, of a page of VTL0's */
static unsigned translate_lock(void) {
        struct translate_in *in = (void *) this_cpu()->in;

        *in = (struct translate_in){ .partition = HV_PARTITION_ID_SELF,
                                     .vp = HV_VP_INDEX_SELF,
                                     .flags = 1 | 1 << 5 | (uint64_t) VTL0 << 56,
                                     .page = WINDOW >> 12 };
        return HV_RESULT_STATUS(hv_call_memory(HVCALL_TRANSLATE_VIRTUAL_ADDRESS));
}

/* ---- One holder, one flusher ---- */

enum by {
        BY_REGISTER,
        BY_TRANSLATION,
};

struct hold {
        uint64_t how; /* flush_once() */
        enum by by;
        bool clear; /* by VTL1, otherwise its return releases */
        bool taken, held, released;
};

/* VTL1 on VP 0: takes the lock, sees VP 1's flush not end. */
static uint64_t vtl1_hold(uint64_t arg) {
        struct hold *h = (struct hold *) arg;

        h->taken =
                (h->by == BY_REGISTER ? set_lock(HV_VP_INDEX_SELF, true) : translate_lock()) == 0 &&
                get_lock(HV_VP_INDEX_SELF);
        job_start(1, flush_once, h->how);
        h->held = begun(1) && flushers[1].ended == 0;
        if (h->clear)
                h->released = set_lock(HV_VP_INDEX_SELF, false) == 0 && ended(1);
        return 0;
}

static uint64_t vtl1_locked(uint64_t vp) {
        return get_lock((uint32_t) vp);
}

static void test_hold(enum flush_call call) {
        for (unsigned i = 0; i < 8; i++) {
                struct hold h = { .how = call | (i & 1 ? WITH_ALL : 0),
                                  .by = i & 2 ? BY_TRANSLATION : BY_REGISTER,
                                  .clear = i & 4 };

                forget();
                vtl1_run(vtl1_hold, (uint64_t) &h);
                job_wait(1, "its flush");
                ok(h.taken && h.held && (!h.clear || h.released) && flushers[1].ended == 1 &&
                           flushers[1].failed == 0,
                   "%s of %s waits for the lock by %s, until %s (%u%u%u)", flush_names[call],
                   i & 1 ? "all VPs" : "its own VP", i & 2 ? "translation" : "register",
                   i & 4 ? "it is cleared" : "VTL1 returns", h.taken, h.held, h.released);
        }
        is(vtl1_run(vtl1_locked, HV_VP_INDEX_SELF), 0, "no lock is left");
}

/* ---- Who does not wait ---- */

/* VTL1 on VP 1, which flushes while VP 0 holds the lock. */
static uint64_t vtl1_flush(uint64_t target) {
        return flush(FLUSH_SPACE, false, target | FLUSH_ALL_PROCESSORS, 0);
}

static uint64_t vtl1_hold_other_vtl1(uint64_t target) {
        uint64_t r;

        set_lock(HV_VP_INDEX_SELF, true);
        job_start_vtl1(1, vtl1_flush, target);
        r = job_wait(1, "VTL1's flush");
        return r << 1 | get_lock(HV_VP_INDEX_SELF);
}

static uint64_t vtl1_lock_of(uint64_t vp) {
        return set_lock((uint32_t) vp, true);
}

static uint64_t vtl1_unlock_of(uint64_t vp) {
        return set_lock((uint32_t) vp, false);
}

static uint64_t vtl1_flush_itself(uint64_t target) {
        set_lock(HV_VP_INDEX_SELF, true);
        return vtl1_flush(target) << 1 | get_lock(HV_VP_INDEX_SELF);
}

static void test_others(void) {
        const uint64_t vtl0 = FLUSH_USE_TARGET_VTL | FLUSH_VTL0;

        is(vtl1_run(vtl1_hold_other_vtl1, 0), 1, "VTL1 on another VP does not wait: its own");
        is(vtl1_run(vtl1_hold_other_vtl1, vtl0), 1, "nor for VTL0's");
        is(vtl1_run(vtl1_flush_itself, vtl0), 1, "nor VTL1 that holds the lock");

        /* VP 1's VTL1 takes the lock of VP 0, which runs VTL0. */
        is(job_run_vtl1(1, vtl1_lock_of, 0, "the lock"), 0, "VP 1's VTL1 locks VP 0");
        for (enum flush_call call = 0; call < FLUSH_CALLS; call++)
                is(flush(call, false, FLUSH_ALL_PROCESSORS, 0), 0,
                   "VP 0 does not wait for its own lock: %s", flush_names[call]);
        is(job_run_vtl1(1, vtl1_locked, 0, "the lock"), 1, "which is still held");
        forget();
        job_start(1, flush_once, WITH_ALL);
        ok(begun(1) && flushers[1].ended == 0, "VP 1's VTL0 does");
        is(vtl1_run(vtl1_locked, 0), 1, "VP 0's VTL1 finds itself locked");
        ok(ended(1), "and releases VP 1 by its return");
        job_wait(1, "its flush");
        is(job_run_vtl1(1, vtl1_locked, 0, "the lock"), 0, "the lock is gone");
}

/* ---- Which locks count ---- */

/* VTL1 on VP 0 lets go, and takes the lock at once again. */
static uint64_t vtl1_again(uint64_t how) {
        uint64_t r;

        set_lock(HV_VP_INDEX_SELF, true);
        job_start(1, flush_once, how);
        r = begun(1) && flushers[1].ended == 0;
        set_lock(HV_VP_INDEX_SELF, false);
        set_lock(HV_VP_INDEX_SELF, true);
        return r << 1 | ended(1);
}

static volatile bool go[MAX_CPUS], holds[MAX_CPUS];

static uint64_t vtl1_hold_until(uint64_t vp) {
        set_lock(HV_VP_INDEX_SELF, true);
        holds[vp] = true;
        while (!go[vp])
                cpu_relax();
        holds[vp] = false;
        return 0;
}

static void hold_on(unsigned vp) {
        uint64_t start = rdtsc();

        go[vp] = false;
        job_start_vtl1(vp, vtl1_hold_until, vp);
        while (!holds[vp])
                if ((int64_t) (rdtsc() - start) > (int64_t) (LONG_MS * tsc_per_ms()))
                        bail_out("VP %u does not take the lock", vp);
}

static void release_on(unsigned vp) {
        go[vp] = true;
        job_wait(vp, "VTL1 that held the lock");
}

static void test_which(void) {
        for (enum flush_call call = 0; call < FLUSH_CALLS; call++) {
                uint64_t r;

                /* On a busy host VP 1 may have been so late that it met the next one only. */
                for (hold_ms = HOLD_MS;; hold_ms *= 16) {
                        forget();
                        r = vtl1_run(vtl1_again, call);
                        job_wait(1, "its flush");
                        if (r == 3 || hold_ms > 256 * HOLD_MS)
                                break;
                }
                is(r, 3, "%s waits for the lock that was held, not for the next one",
                   flush_names[call]);
                hold_ms = HOLD_MS;
        }
        if (cpu_count() < 4)
                return;
        forget();
        hold_on(2);
        job_start(1, flush_once, WITH_ALL);
        ok(begun(1) && flushers[1].ended == 0, "VP 1 waits for VP 2");
        hold_on(3);
        release_on(2);
        ok(ended(1), "and does not for VP 3, which came later");
        job_wait(1, "its flush");
        release_on(3);

        forget();
        hold_on(2);
        hold_on(3);
        job_start(1, flush_once, WITH_ALL);
        ok(begun(1) && flushers[1].ended == 0, "VP 1 waits for VPs 2 and 3");
        release_on(2);
        spin_ms(HOLD_MS);
        is(flushers[1].ended, 0, "one of them does not do");
        release_on(3);
        ok(ended(1), "both do");
        job_wait(1, "its flush");
}

/* ---- Interrupts of a VP that waits ---- */

#define IPIS 5

static unsigned send(uint8_t vtl, uint32_t vector, uint64_t mask) {
        return HV_RESULT_STATUS(hv_call(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST,
                                        vector | (uint64_t) vtl << 32, mask));
}

struct interrupted {
        bool begun, done_early, vtl0_early;
        unsigned taken;
};

static uint64_t vtl1_interrupt(uint64_t arg) {
        struct interrupted *i = (struct interrupted *) arg;

        set_lock(HV_VP_INDEX_SELF, true);
        job_start(1, flush_open, WITH_ALL);
        i->begun = begun(1);
        send(VTL0, VECTOR_VTL0, 2);
        for (unsigned n = 1; n <= IPIS; n++) {
                apic_send(1, APIC_ICR_FIXED | VECTOR_VTL1);
                i->taken += spin_for(&flushers[1].vtl1_ipis, n, LONG_MS);
        }
        spin_ms(HOLD_MS);
        i->done_early = flushers[1].ended > 0;
        i->vtl0_early = flushers[1].vtl0_ipis > 0;
        return 0;
}

static void test_interrupted(void) {
        struct interrupted i = { 0 };

        forget();
        vtl1_run(vtl1_interrupt, (uint64_t) &i);
        ok(i.begun, "VP 1 flushes, with VTL0's interrupts on");
        is(i.taken, IPIS, "its VTL1 takes its interrupts while VTL0 waits");
        ok(!i.done_early, "and VTL0 goes on waiting each time");
        ok(!i.vtl0_early, "VTL0 takes none of its own meanwhile");
        ok(ended(1), "until the lock is released");
        ok(spin_for(&flushers[1].vtl0_ipis, 1, LONG_MS), "then VTL0 has its interrupt");
        job_wait(1, "its flush");
        is(flushers[1].vtl0_ipis, 1, "once");
}

/* ---- Rounds: all VPs but one flush, locks come and go from outside ---- */

static uint32_t seed = 12345;

static uint32_t next(void) {
        seed = seed * 1664525 + 1013904223;
        return seed >> 16;
}

static unsigned round_errors;

static void expect(bool what, const char *text, unsigned round, unsigned vp) {
        if (what || ++round_errors > 5)
                return;
        print("# round %u, VP %u: %s\n", round, vp, text);
}

/* Whether VP @vp has to wait for one of @locks */
static bool waits(unsigned vp, unsigned locks) {
        return (locks & ~(1u << vp)) != 0;
}

/* Takes locks away one after the other: by its register, or by that VP's VTL1, which is interrupted
 * and returns. */
static void take_away(unsigned n, unsigned locks, unsigned round) {
        unsigned first = next() % n;

        for (unsigned j = 0; j < n; j++) {
                unsigned vp = (first + j) % n, before = flushers[vp].vtl1_ipis;

                if (!(locks >> vp & 1))
                        continue;
                for (unsigned i = 1; i < n; i++)
                        if (waits(i, locks))
                                expect(flushers[i].ended == 0, "did not wait", round, i);
                if (vp != 0 && next() % 2) {
                        apic_send(vp, APIC_ICR_FIXED | VECTOR_VTL1);
                        expect(spin_for(&flushers[vp].vtl1_ipis, before + 1, LONG_MS),
                               "no interrupt", round, vp);
                        /* It returns after that, and stops waiting for nobody. */
                        for (unsigned t = 0; get_lock(vp) && t < LONG_MS; t++)
                                spin_ms(1);
                } else
                        set_lock(vp, false);
                expect(!get_lock(vp), "still locked", round, vp);
                locks &= ~(1u << vp);
                for (unsigned i = 1; i < n; i++)
                        if (!waits(i, locks))
                                expect(ended(i), "does not end", round, i);
        }
}

static uint64_t vtl1_rounds(uint64_t rounds) {
        unsigned n = cpu_count(), all = (1u << n) - 1;

        for (unsigned round = 1; round <= rounds; round++) {
                unsigned locks = next() & all, seen = 0;

                forget();
                for (unsigned i = 0; i < n; i++) {
                        expect(set_lock(i, locks >> i & 1) == 0, "lock refused", round, i);
                        seen |= (unsigned) get_lock(i) << i;
                }
                expect(seen == locks, "locks read back wrong", round, 0);
                for (unsigned i = 1; i < n; i++)
                        job_start(i, flush_once, next() & 0x103);
                for (unsigned i = 1; i < n; i++)
                        expect(spin_for(&flushers[i].started, 1, LONG_MS), "idle", round, i);
                for (unsigned i = 1; i < n; i++)
                        if (!waits(i, locks))
                                expect(ended(i), "waits for nobody", round, i);
                spin_ms(1);
                take_away(n, locks, round);
                for (unsigned i = 1; i < n; i++) {
                        expect(job_wait(i, "its flush") == 0, "status", round, i);
                        expect(flushers[i].ended == 1, "ended twice", round, i);
                }
        }
        return round_errors;
}

static void test_rounds(void) {
        uint64_t n = cmdline_number("rounds", 64);

        is(vtl1_run(vtl1_rounds, n), 0, "%lu rounds of flushes on all other VPs, locks from here",
           n);
}

void guest_main(void) {
        if (cpu_count() < 2)
                skip_all("one CPU");
        fast = cmdline_number("fpu", 0);
        vsm_open();
        tsc_per_ms();
        irq_set(VECTOR_VTL1, on_ipi);
        irq_set(VECTOR_VTL0, on_ipi);
        for (unsigned i = 1; i < cpu_count(); i++)
                job_open_vtl1(i);
        for (enum flush_call call = 0; call < FLUSH_CALLS; call++)
                test_hold(call);
        test_others();
        test_which();
        test_interrupted();
        test_rounds();
        is(vtl1_run(vtl1_unlock_of, HV_VP_INDEX_SELF), 0, "unlocking what is not locked");
}
