/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The FPU crosses with a VTL call and return: x87, XMM, MXCSR, YMM, and the state of being unused
 * (vsm.md 6.4). XCR0 is shared too. Needs a host that executes such instructions: command line
 * fpu=1; storm=N switches while timers of both levels use the FPU.
 */
#include "lib/probes.h"

#define AREA_SIZE 4096
#define LEGACY_SIZE 416 /* up to XMM15 */
#define XSTATE_BV 512
#define YMM_OFFSET 576
#define YMM_SIZE 256

static uint8_t vtl0_in[AREA_SIZE] __attribute__((aligned(64)));
static uint8_t vtl0_out[AREA_SIZE] __attribute__((aligned(64)));
static uint8_t vtl1_in[AREA_SIZE] __attribute__((aligned(64)));
static uint8_t vtl1_out[AREA_SIZE] __attribute__((aligned(64)));
static bool avx;
static bool xsetbv_works;
static const char *no_avx = "no AVX here";
static const char *no_xsetbv = "this host forgets what XSETBV wrote";

static inline void save(uint8_t *area) {
        if (avx)
                __asm__ volatile("xsave (%0)" : : "r"(area), "a"(7), "d"(0) : "memory");
        else
                __asm__ volatile("fxsave (%0)" : : "r"(area) : "memory");
}

static inline void load(const uint8_t *area) {
        if (avx)
                __asm__ volatile("xrstor (%0)" : : "r"(area), "a"(7), "d"(0) : "memory");
        else
                __asm__ volatile("fxrstor (%0)" : : "r"(area) : "memory");
}

static void xsetbv(uint64_t v) {
        __asm__ volatile("xsetbv"
                         :
                         : "c"(0), "a"((uint32_t) v), "d"((uint32_t) (v >> 32))
                         : "memory");
}

static uint64_t vtl1_xgetbv(uint64_t arg) {
        return xgetbv();
}

/* An image in the form of XSAVE with everything in use, different for each seed. */
static void fill(uint8_t *area, uint8_t seed) {
        static const uint8_t exponent[2] = { 0xff, 0x3f }; /* 1.x as an 80-bit number */

        memset(area, 0, AREA_SIZE);
        area[0] = 0x7f; /* FCW: rounding by seed, all exceptions masked */
        area[1] = (uint8_t) (0x03 | (seed & 3) << 2);
        area[4] = 0xff;  /* FTW, abridged: all eight in use */
        area[24] = 0x80; /* MXCSR: all masked, rounding by seed */
        area[25] = (uint8_t) (0x1f | (seed & 3) << 5);
        for (unsigned i = 0; i < 8; i++) {
                for (unsigned j = 0; j < 7; j++)
                        area[32 + 16 * i + j] = (uint8_t) (seed + i * 16 + j);
                area[32 + 16 * i + 7] = 0x80;
                memcpy(&area[32 + 16 * i + 8], exponent, 2);
        }
        for (unsigned i = 0; i < 256; i++)
                area[160 + i] = (uint8_t) (seed * 3 + i);
        area[XSTATE_BV] = avx ? 7 : 3;
        for (unsigned i = 0; avx && i < YMM_SIZE; i++)
                area[YMM_OFFSET + i] = (uint8_t) (seed * 5 + i + 1);
}

/* MXCSR_MASK (bytes 28-31) is the CPU's, not state. */
static bool same(const uint8_t *a, const uint8_t *b) {
        if (memcmp(a, b, 28) != 0 || memcmp(a + 32, b + 32, LEGACY_SIZE - 32) != 0) {
                for (unsigned i = 0; i < LEGACY_SIZE; i++)
                        if (a[i] != b[i] && (i < 28 || i >= 32)) {
                                print("# byte %u: 0x%x, 0x%x\n", i, a[i], b[i]);
                                break;
                        }
                return false;
        }
        return !avx || memcmp(a + YMM_OFFSET, b + YMM_OFFSET, YMM_SIZE) == 0;
}

static bool exchange(struct gprs *g) {
        save(vtl1_in);
        load(vtl1_out);
        return true;
}

static bool look(struct gprs *g) {
        save(vtl1_in);
        return true;
}

static void round_trip(void) {
        struct gprs g = gprs_zero();

        load(vtl0_out);
        vtl_call(&g);
        save(vtl0_in);
}

/* The image of a unit that was never used */
static void clear(uint8_t *area) {
        memset(area, 0, AREA_SIZE);
        area[0] = 0x7f;
        area[1] = 0x03;
        area[24] = 0x80;
        area[25] = 0x1f;
}

static void test_fpu(void) {
        fill(vtl0_out, 1);
        fill(vtl1_out, 2);
        vtl1_on_call = exchange;
        round_trip();
        ok(same(vtl1_in, vtl0_out), "VTL1 sees VTL0's FPU state");
        ok(same(vtl0_in, vtl1_out), "VTL0 sees VTL1's");

        vtl1_on_call = look;
        fill(vtl0_out, 3);
        round_trip();
        ok(same(vtl1_in, vtl0_out) && same(vtl0_in, vtl0_out),
           "state that VTL1 leaves alone comes back");
}

static void test_cleared(void) {
        vtl1_on_call = exchange;
        fill(vtl0_out, 4);
        clear(vtl1_out);
        round_trip();
        ok(same(vtl1_in, vtl0_out), "VTL1 sees state in use");
        clear(vtl0_out);
        ok(same(vtl0_in, vtl0_out), "VTL0 sees it cleared by VTL1");

        fill(vtl1_out, 5);
        round_trip();
        ok(same(vtl1_in, vtl0_out), "VTL1 sees it cleared by VTL0");
        ok(same(vtl0_in, vtl1_out), "VTL0 sees it in use again");
        clear(vtl1_out);
        round_trip();
        round_trip();
        ok(same(vtl1_in, vtl0_out) && same(vtl0_in, vtl1_out), "cleared on both sides, twice");
}

static void test_many(void) {
        unsigned bad = 0;

        for (unsigned i = 0; i < 200; i++) {
                vtl1_on_call = i % 3 == 0 ? look : exchange;
                fill(vtl0_out, (uint8_t) i);
                if (i % 7 == 0)
                        clear(vtl0_out);
                fill(vtl1_out, (uint8_t) (i + 101));
                if (i % 5 == 0)
                        clear(vtl1_out);
                round_trip();
                bad += !same(vtl1_in, vtl0_out) || !same(vtl0_in, i % 3 == 0 ? vtl0_out : vtl1_out);
        }
        is(bad, 0, "200 switches with changing FPU state");
}

/* The FPU belongs to an intercepted VTL0 as well: VTL1 may change it under VTL0's feet only
 * knowingly. */
static uint8_t intercept_saw[AREA_SIZE] __attribute__((aligned(64)));
static uint64_t intercept_xcr0;

static void on_intercept(struct hv_message *m, struct gprs *g) {
        const struct hv_memory_intercept *i = (const void *) m->payload;

        save(intercept_saw);
        if (avx) {
                intercept_xcr0 = xgetbv();
                if (xsetbv_works)
                        xsetbv(7);
        }
        hv_set(VTL0, HV_X64_REGISTER_RIP, i->header.rip + (i->header.instruction_length & 0xf));
}

static void test_intercept(void) {
        void (*handler)(struct hv_message *, struct gprs *) = vtl1_on_intercept;

        vtl1_on_call = vtl1_call_default;
        is(HV_RESULT_STATUS(protect(WINDOW_PAGE(1), 1, 0)), 0, "a page is closed");
        vtl1_on_intercept = on_intercept;
        fill(vtl0_out, 9);
        load(vtl0_out);
        probe_load((void *) WINDOW_PAGE(1));
        save(vtl0_in);
        ok(same(intercept_saw, vtl0_out), "an intercept brings the FPU state to VTL1");
        ok(same(vtl0_in, vtl0_out), "and back");
        if (xsetbv_works) {
                xsetbv(3);
                probe_load((void *) WINDOW_PAGE(1));
                is(intercept_xcr0, 3, "XCR0 reaches VTL1 with an intercept");
                if (cmdline_number("exact", 0))
                        is(xgetbv(), 7, "and comes back");
                xsetbv(7);
        } else
                skip(avx ? no_xsetbv : no_avx, "XCR0 reaches VTL1 with an intercept");
        vtl1_on_intercept = handler;
        is(HV_RESULT_STATUS(protect(WINDOW_PAGE(1), 1, HV_MAP_GPA_ALL)), 0, "and opened");
}

/* ---- Switches while timer interrupts come in both levels, whose handlers use the FPU ---- */

#define CPUS 4
#define MS 10000ull
#define VECTOR_TICK(vtl) (0x60 + (vtl))
#define GENERAL __attribute__((target("general-regs-only")))

struct tick {
        uint8_t found[AREA_SIZE], own[AREA_SIZE], again[AREA_SIZE];
        volatile unsigned n, bad;
} __attribute__((aligned(64)));

static struct storm {
        uint8_t sent[AREA_SIZE], left[AREA_SIZE], seen[AREA_SIZE], back[AREA_SIZE];
        struct tick tick[2];
        bool give;
} storms[CPUS] __attribute__((aligned(64)));

/* What was in the FPU is put back; in between it holds something else, for a while. */
GENERAL static void on_tick(struct trap_frame *f) {
        struct storm *s = &storms[this_cpu()->index % CPUS];
        unsigned vtl = this_cpu()->vtl;

        save(s->tick[vtl].found);
        load(s->tick[vtl].own);
        apic_eoi();
        save(s->tick[vtl].again);
        s->tick[vtl].bad += !same(s->tick[vtl].own, s->tick[vtl].again);
        s->tick[vtl].n++;
        load(s->tick[vtl].found);
}

#define STORM 0x5702

/* Two kinds of secure calls: an exchange, with VTL1's interrupts on, and the usual one */
GENERAL static bool storm_call(struct gprs *g) {
        struct storm *s = &storms[this_cpu()->index % CPUS];

        if (g->rbx != STORM)
                return vtl1_call_default(g);
        irq_on();
        save(s->seen);
        if (s->give)
                load(s->left);
        irq_off();
        return true;
}

GENERAL static void storm_round_trip(struct storm *s, struct gprs *g) {
        load(s->sent);
        vtl_call(g);
        save(s->back);
}

static uint64_t periodic(uint64_t period) {
        wrmsr(HV_MSR_STIMER0_CONFIG, 0);
        if (period == 0)
                return 0;
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, period);
        wrmsr(HV_MSR_STIMER0_CONFIG, 1ull << 12 | (uint64_t) VECTOR_TICK(this_cpu()->vtl) << 4 | 3);
        return 0;
}

/* On any VP, on all at the same time */
static uint64_t storm(uint64_t n) {
        unsigned me = this_cpu()->index, bad = 0;
        struct storm *s = &storms[me % CPUS];
        struct gprs g;

        fill(s->tick[0].own, (uint8_t) (me * 16 + 1));
        fill(s->tick[1].own, (uint8_t) (me * 16 + 2));
        vtl1_run(periodic, 3 * MS + me);
        periodic(4 * MS + me);
        irq_on();
        for (uint64_t i = 0; i < n; i++) {
                fill(s->sent, (uint8_t) (i * 7 + me));
                fill(s->left, (uint8_t) (i * 11 + me + 128));
                s->give = i % 3 != 0;
                if (i % 5 == 0)
                        clear(s->sent);
                if (i % 7 == 0)
                        clear(s->left);
                g = gprs_zero();
                g.rbx = STORM;
                storm_round_trip(s, &g);
                bad += !same(s->seen, s->sent) || !same(s->back, s->give ? s->left : s->sent);
        }
        irq_off();
        periodic(0);
        vtl1_run(periodic, 0);
        interrupt_window();
        return bad;
}

/* CR4 and XCR0 of the running level, as guest_main() did on its CPU */
static uint64_t open_fpu(uint64_t arg) {
        if (!avx)
                return 0;
        write_cr4(read_cr4() | CR4_OSXSAVE);
        if (xgetbv() != 7)
                xsetbv(7);
        return 0;
}

static void test_storm(void) {
        uint64_t n = cmdline_number("storm", 1000), bad;
        unsigned vps = cpu_count() < CPUS ? cpu_count() : CPUS, me = this_cpu()->index;

        if (me != 0)
                vps = 0; /* the others are not there */
        irq_set(VECTOR_TICK(0), on_tick);
        irq_set(VECTOR_TICK(1), on_tick);
        vtl1_on_call = storm_call;
        for (unsigned i = 1; i < vps; i++) {
                job_open_vtl1(i);
                job_run(i, open_fpu, 0, "its FPU");
                job_run_vtl1(i, open_fpu, 0, "its FPU");
        }
        for (unsigned i = 1; i < vps; i++)
                job_start(i, storm, n);
        bad = storm(n);
        for (unsigned i = 1; i < vps; i++)
                while (job_busy(i))
                        cpu_relax();
        for (unsigned i = 1; i < vps; i++)
                bad += job_wait(i, "its switches");
        is(bad, 0, "%lu switches with timers of both levels that use the FPU", n);
        for (unsigned i = 0; i < (vps ? vps : 1); i++) {
                const struct storm *s = &storms[vps ? i : me % CPUS];

                ok(s->tick[0].n > 0 && s->tick[1].n > 0, "VP %u: %u and %u interrupts",
                   vps ? i : me, s->tick[0].n, s->tick[1].n);
                is(s->tick[0].bad + s->tick[1].bad, 0, "whose handlers had the FPU for themselves");
        }
        vtl1_on_call = vtl1_call_default;
}

/*
 * Emulators are known that run XSETBV past their own hypervisor support: the value is gone with the
 * next exit, which the port access makes.
 */
static bool xcr0_works(void) {
        bool set = xgetbv() == 7; /* the VMM had been asked to do it */

        xsetbv(set ? 3 : 7);
        outb(0x80, 0);
        xsetbv_works = xgetbv() == (set ? 3 : 7);
        if (xsetbv_works && set)
                xsetbv(7);
        no_avx = no_xsetbv;
        return set || xsetbv_works;
}

void guest_main(void) {
        if (!cmdline_number("fpu", 0))
                skip_all("this host does not execute FPU instructions");
        if (cpu_has(CPU_XSAVE)) {
                write_cr4(read_cr4() | CR4_OSXSAVE);
                avx = cpu_has(CPU_AVX) && xcr0_works();
        }
        vsm_protect();
        if (avx) {
                is(xgetbv(), 7, "XCR0 after VTL1 was enabled");
                is(vtl1_run(vtl1_xgetbv, 0), 7, "XCR0 in VTL1");
        } else
                skip(no_avx, "YMM registers");
        test_fpu();
        test_cleared();
        test_many();
        test_intercept();
        test_storm();
}
