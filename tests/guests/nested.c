/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One within the other (vsm.md 6.3, 7.2): VTL1's interrupt handlers by priority, its calls back to
 * VTL0 that are interrupted, VTL0's handlers that call VTL1 and are preempted by it. Each comes
 * back to where it was. Command line: calls=N.
 */
#include "lib/hv.h"

#define VECTOR_VINA 0xf0
#define VECTOR_TICK 0x70 /* VTL1's timer */
#define VECTOR_SENT 0x62 /* one that VTL1 sends itself before it calls back */
#define VECTOR_OWN 0x48  /* VTL0's */
#define MS 10000ull
#define LONG_MS 5000
#define VERY_LONG_MS 25000 /* all VPs may share a CPU of a busy host; job_wait() is patient, too */
#define APIC_ISR 0x100
#define STIMER_DIRECT(vector) (1ull << 12 | (uint64_t) (vector) << 4)
#define STIMER_PERIODIC 2ull

/* ---- What happened, in its order: begin of a handler, its end ---- */

#define EVENTS 32

static struct state {
        unsigned n, depth, deepest;
        struct {
                uint8_t vector;
                bool end;
                uint8_t in_service; /* how many */
        } event[EVENTS];
        unsigned wrong;       /* in the wrong level */
        unsigned ticks, owns; /* of VTL1's timer, VTL0's */
        unsigned sent;
} states[MAX_CPUS];

static struct state *mine(void) {
        return &states[this_cpu()->index];
}

static unsigned in_service(void) {
        unsigned n = 0;

        for (unsigned i = 0; i < 8; i++)
                for (uint32_t v = apic_read(APIC_ISR + 0x10 * i); v != 0; v &= v - 1)
                        n++;
        return n;
}

static void note(unsigned vector, bool end) {
        struct state *s = mine();

        if (s->n == EVENTS)
                return;
        s->event[s->n].vector = (uint8_t) vector;
        s->event[s->n].end = end;
        s->event[s->n++].in_service = (uint8_t) in_service();
}

static void forget(void) {
        memset(mine(), 0, sizeof(*mine()));
}

static void self(unsigned vector) {
        apic_send(this_cpu()->index, APIC_ICR_FIXED | vector);
}

static void window(void) {
        interrupt_window();
        interrupt_window();
}

/* ---- Handlers by priority ---- */

enum {
        V1 = 0x51,
        V1_TOO = 0x52, /* of the same class, higher */
        V2 = 0x71,
        V3 = 0x91,
        V4 = 0xe1,
};

/* What a handler does between its begin and its end, once */
static void (*inside[256])(void);

static void on_vector(struct trap_frame *f) {
        void (*fn)(void) = inside[f->vector];
        struct state *s = mine();

        s->wrong += this_cpu()->vtl != 1;
        if (++s->depth > s->deepest)
                s->deepest = s->depth;
        note((unsigned) f->vector, false);
        inside[f->vector] = NULL;
        if (fn != NULL)
                fn();
        note((unsigned) f->vector, true);
        apic_eoi();
        s->depth--;
}

static void send_v2(void) {
        self(V2);
        window();
}

static void send_v3(void) {
        self(V3);
        window();
}

/* The highest first, though it is asked for last; the lower ones wait for it. */
static void send_v4_and_lower(void) {
        self(V1);
        self(V2);
        self(V4);
        window();
}

static void send_class(void) {
        self(V1_TOO); /* the same class */
        self(V1);     /* itself */
        window();
}

static void end_early(void) {
        apic_eoi();
        self(V1);
        window();
}

/* VTL0 gets an interrupt of its own, whose notification is one for VTL1. */
static void interrupt_vtl0(void) {
        uint64_t r = hv_call(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST,
                             VECTOR_OWN | (uint64_t) VTL0 << 32, 1ull << this_cpu()->index);

        mine()->wrong += r != 0;
        window();
}

struct expected {
        uint8_t vector;
        bool end;
        uint8_t in_service;
};

static void check_events(const struct expected *e, unsigned n, const char *what) {
        const struct state *s = mine();
        bool same = s->n == n;

        for (unsigned i = 0; i < s->n && i < n; i++)
                same = same && s->event[i].vector == e[i].vector && s->event[i].end == e[i].end &&
                       s->event[i].in_service == e[i].in_service;
        for (unsigned i = 0; i < s->n && !same; i++)
                print("# 0x%x %s, %u in service\n", s->event[i].vector,
                      s->event[i].end ? "ends" : "begins", s->event[i].in_service);
        ok(same, "%s: in their order", what);
        is(s->depth + s->wrong, 0, "%s: all ended, in VTL1", what);
}

static uint64_t vtl1_begin(uint64_t vector) {
        self((unsigned) vector);
        window();
        return mine()->depth;
}

static const struct expected four[] = {
        { V1, false, 1 }, { V2, false, 2 }, { V3, false, 3 }, { V4, false, 4 },
        { V4, true, 4 },  { V3, true, 3 },  { V2, true, 2 },  { V2, false, 2 },
        { V2, true, 2 },  { V1, true, 1 },  { V1, false, 1 }, { V1, true, 1 },
};

static void plan_four(void) {
        forget();
        inside[V1] = send_v2;
        inside[V2] = send_v3;
        inside[V3] = send_v4_and_lower;
}

static void test_priorities(void) {
        static const struct expected same_class[] = {
                { V1, false, 1 },    { V1, true, 1 },  { V1_TOO, false, 1 },
                { V1_TOO, true, 1 }, { V1, false, 1 }, { V1, true, 1 },
        };
        static const struct expected early[] = {
                { V1, false, 1 }, { V1, false, 1 }, { V1, true, 1 }, { V1, true, 0 }
        };

        plan_four();
        is(vtl1_run(vtl1_begin, V1), 0, "a secure call is interrupted");
        check_events(four, ELEMENTSOF(four), "four priorities");
        is(mine()->deepest, 4, "four priorities: one within the other");

        inside[V1] = send_class;
        forget();
        vtl1_run(vtl1_begin, V1);
        check_events(same_class, ELEMENTSOF(same_class), "one class");
        is(mine()->deepest, 1, "one class: none within another");

        inside[V1] = end_early;
        forget();
        vtl1_run(vtl1_begin, V1);
        check_events(early, ELEMENTSOF(early), "EOI before the end");
}

/* VTL0 is preempted for them, in the middle of nothing in particular. */
static void test_from_vtl0(void) {
        struct gprs g, before;
        uint64_t *r = (uint64_t *) &g;
        unsigned calls = cpus[1][this_cpu()->index].calls, bad = 0;

        plan_four();
        for (unsigned i = 0; i < 16; i++)
                r[i] = 0x7700000 + i;
        g.rflags = RFLAGS_FIXED | RFLAGS_CF;
        g.rcx = HVCALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST;
        g.rdx = V1 | (uint64_t) VTL1 << 32;
        g.r8 = 1ull << this_cpu()->index;
        before = g;
        call_with_gprs(this_cpu()->hypercall_entry, &g);
        for (uint64_t start = rdtsc(); mine()->n < ELEMENTSOF(four);)
                if ((int64_t) (rdtsc() - start) > (int64_t) (LONG_MS * tsc_per_ms()))
                        break;
        check_events(four, ELEMENTSOF(four), "four priorities that preempt VTL0");
        for (unsigned i = 1; i < 16; i++)
                bad += i != 4 && r[i] != ((uint64_t *) &before)[i];
        is(bad, 0, "VTL0's registers are as they were");
        is(g.rax, 0, "and its hypercall's result is right");
        is(cpus[1][this_cpu()->index].calls, calls, "VTL1 was not called for that");
}

/* ---- VINA among VTL1's own ---- */

static void on_own(struct trap_frame *f) {
        struct state *s = mine();

        s->wrong += this_cpu()->vtl != 0;
        apic_eoi();
        s->owns++;
}

static uint64_t vtl1_vina(uint64_t value) {
        this_cpu()->assist->vtl_control.vina_status = 0;
        return hv_set(VTL_SELF, HV_REGISTER_VSM_VINA, value);
}

static void test_vina(void) {
        static const struct expected events[] = { { V1, false, 1 },
                                                  { VECTOR_VINA, false, 2 },
                                                  { VECTOR_VINA, true, 2 },
                                                  { V1, true, 1 } };

        forget();
        is(vtl1_run(vtl1_vina, VECTOR_VINA | HV_VINA_ENABLED), 0, "VINA enabled");
        inside[V1] = interrupt_vtl0;
        irq_on();
        vtl1_run(vtl1_begin, V1);
        spin_for(&mine()->owns, 1, LONG_MS);
        irq_off();
        check_events(events, ELEMENTSOF(events), "VINA in a handler");
        is(mine()->owns, 1, "VTL0 has its interrupt");
        vtl1_run(vtl1_vina, 0);
}

/* ---- VTL1 calls back: it returns in the middle of a function, and goes on when VTL0 calls ---- */

#define CALL_BACK 0xca11bacc
#define TICKS 3

static uint64_t vtl1_timer(uint64_t period) {
        wrmsr(HV_MSR_STIMER0_CONFIG, 0);
        if (period == 0)
                return 0;
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, period);
        wrmsr(HV_MSR_STIMER0_CONFIG, STIMER_DIRECT(VECTOR_TICK) | STIMER_PERIODIC | 1);
        return 0;
}

static void on_tick(struct trap_frame *f) {
        struct state *s = mine();

        s->wrong += this_cpu()->vtl != 1;
        apic_eoi();
        s->ticks++;
}

static void on_sent(struct trap_frame *f) {
        struct state *s = mine();

        s->wrong += this_cpu()->vtl != 1;
        apic_eoi();
        s->sent++;
}

/* What VTL0 is asked for: takes a while, and all registers that there are. */
static uint64_t work(uint64_t n) {
        uint64_t a = n, b = n + 1, c = n + 2, d = n + 3, e = n + 4, f = n + 5, g = n + 6, h = n + 7;

        for (unsigned i = 0; i < 2000; i++) {
                a += b ^ c;
                b = b * 3 + d;
                c ^= e << 1;
                d += f;
                e = e * 5 + g;
                f ^= h >> 1;
                g += a;
                h = h * 7 + 1;
                __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
        }
        return a ^ b ^ c ^ d ^ e ^ f ^ g ^ h;
}

static uint64_t ask_vtl0(uint64_t n) {
        struct cpu *c = this_cpu();
        struct hv_vp_vtl_control *control = &c->assist->vtl_control;
        struct gprs g = gprs_zero();

        g.rbx = CALL_BACK;
        g.rdx = n;
        g.rcx = 1; /* fast */
        g.rflags = RFLAGS_FIXED;
        call_with_gprs(c->vtl_return_entry, &g);
        while (control->entry_reason == HV_VTL_ENTRY_INTERRUPT) {
                window();
                control->vtl_return_x64_rax = g.rax;
                control->vtl_return_x64_rcx = g.rcx;
                g.rcx = 0;
                g.rflags = RFLAGS_FIXED;
                call_with_gprs(c->vtl_return_entry, &g);
        }
        return g.rdx;
}

/*
 * At each callback one interrupt waits for VTL1, which VTL0 is preempted for before it answers:
 * none may be lost. The timer's come when they come: VTL1 asks @n times at least, and goes on until
 * it was interrupted in the middle as well. A fast host is through with a few callbacks before the
 * first.
 */
static uint64_t vtl1_asks(uint64_t n) {
        struct state *s = mine();
        uint64_t bad = 0, end = rdtsc() + VERY_LONG_MS * tsc_per_ms();

        for (uint64_t i = 1; i <= n || s->ticks < TICKS; i++) {
                if ((int64_t) (rdtsc() - end) > 0)
                        return bad + 1;
                self(VECTOR_SENT);
                bad += s->sent != i - 1;
                bad += ask_vtl0(i) != work(i);
                bad += s->sent != i;
        }
        return bad;
}

static uint64_t call_and_serve(uint64_t n) {
        struct gprs g = gprs_zero();
        uint64_t served = 0;

        forget();
        vtl1_run(vtl1_timer, 4 * MS);
        g.rdi = (uint64_t) vtl1_asks;
        g.rsi = n;
        vtl_call(&g);
        for (; g.rbx == CALL_BACK; served++) {
                g.rdx = work(g.rdx);
                g.rbx = 0;
                vtl_call(&g);
        }
        vtl1_run(vtl1_timer, 0);
        return g.rdx << 32 | (served >= n && mine()->sent == served && mine()->wrong == 0);
}

/* ---- VTL0's handler calls VTL1, and its main program does, too ---- */

static uint64_t vtl1_add(uint64_t v) {
        irq_on();
        v += 1000;
        irq_off();
        return v;
}

static void on_own_that_calls(struct trap_frame *f) {
        struct state *s = mine();

        s->wrong += this_cpu()->vtl != 0 || vtl1_run(vtl1_add, s->owns) != s->owns + 1000u;
        apic_eoi();
        s->owns++;
}

static uint64_t calls_everywhere(uint64_t n) {
        struct state *s = mine();
        uint64_t bad = 0, end = rdtsc() + VERY_LONG_MS * tsc_per_ms(), calls = 0;

        forget();
        vtl1_run(vtl1_timer, 4 * MS);
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, 5 * MS);
        wrmsr(HV_MSR_STIMER0_CONFIG, STIMER_DIRECT(VECTOR_OWN) | STIMER_PERIODIC | 1);
        irq_on();
        for (; (s->owns < n || s->ticks < n) && (int64_t) (rdtsc() - end) < 0; calls++) {
                bad += vtl1_run(vtl1_add, calls) != calls + 1000;
                bad += work(1) != work(1);
        }
        irq_off();
        wrmsr(HV_MSR_STIMER0_CONFIG, 0);
        vtl1_run(vtl1_timer, 0);
        interrupt_window();
        return bad << 32 | (s->owns >= n && s->ticks >= n && s->wrong == 0);
}

static bool on_one(uint64_t result, unsigned vp) {
        const struct state *s = &states[vp];

        if (result != 1)
                print("# VP %u: %lu wrong answers, %u in the wrong level, %u ticks, %u of its own\n",
                      vp, result >> 32, s->wrong, s->ticks, s->owns);
        return result == 1;
}

static void on_all(unsigned n, uint64_t (*fn)(uint64_t), uint64_t arg, const char *what) {
        uint64_t good;

        for (unsigned i = 1; i < n; i++)
                job_start(i, fn, arg);
        good = on_one(fn(arg), 0);
        for (unsigned i = 1; i < n; i++)
                good += on_one(job_wait(i, what), i);
        is(good, n, "%s, on %u VPs", what, n);
}

void guest_main(void) {
        unsigned n = cpu_count();
        uint64_t calls = cmdline_number("calls", 20);

        vsm_open();
        tsc_per_ms();
        irq_set(V1, on_vector);
        irq_set(V1_TOO, on_vector);
        irq_set(V2, on_vector);
        irq_set(V3, on_vector);
        irq_set(V4, on_vector);
        irq_set(VECTOR_VINA, on_vector);
        irq_set(VECTOR_OWN, on_own);
        irq_set(VECTOR_TICK, on_tick);
        irq_set(VECTOR_SENT, on_sent);
        test_priorities();
        test_from_vtl0();
        test_vina();
        for (unsigned i = 1; i < n; i++)
                job_open_vtl1(i);
        on_all(n, call_and_serve, calls, "VTL1 calls back, interrupted");
        irq_set(VECTOR_OWN, on_own_that_calls);
        on_all(n, calls_everywhere, calls, "VTL0's handlers call VTL1, too");
}
