/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All VPs do at random what the other guests do in order: secure calls with all registers, IPIs
 * between levels and VPs, timers in both levels, protections and violations, other VPs' registers,
 * flushes, halts. Everything is counted at both ends: no interrupt may be lost, no register wrong.
 * Command line: seconds=N, seed=N, fpu=1 on a host that runs SSE code of a guest.
 */
#include "lib/flush.h"
#include "lib/pattern.h"
#include "lib/probes.h"

#define VPS 4
#define PAGES 64u /* of the window, of each VP its own */
#define PAGE(vp, n) WINDOW_PAGE(100 * (vp) + (n))
#define POISON 0x9015090150900000ull
#define LOST_MS 30000 /* nothing takes that long, however slow the host */
#define MS 10000ull   /* of the reference time */

#define VECTOR_SENT 0x60 /* and up: by sender */
#define SENDERS (2 * VPS)
#define VECTOR_STIMER(vtl) (0xa0 + (vtl))
#define VECTOR_APIC(vtl) (0xb0 + (vtl))
#define VECTOR_VINA 0xf0
#define STIMER_DIRECT(vector) (1ull << 12 | (uint64_t) (vector) << 4 | 3) /* periodic */

/* ---- What is known of each VP ---- */

/* Long enough for anything that comes at all. An emulated host's clock has been seen to jump by
 * seconds and more: it has to be so twice. */
struct patience {
        uint64_t since;
        bool warned;
};

static void be_patient(struct patience *p) {
        *p = (struct patience){ .since = rdtsc() };
}

static bool in_time(struct patience *p) {
        if ((int64_t) (rdtsc() - p->since) < (int64_t) (LOST_MS * tsc_per_ms()))
                return true;
        if (p->warned)
                return false;
        *p = (struct patience){ .since = rdtsc(), .warned = true };
        return true;
}

struct side { /* a level of a VP */
        uint64_t random;
        unsigned sent[2][VPS]; /* by level and VP of the receiver */
        struct patience sent_at[2][VPS];
        volatile unsigned got[SENDERS];    /* of each sender */
        volatile unsigned stimers, timers; /* ticks */
};

static struct vp {
        struct side side[2];
        volatile unsigned lost, wrong_level, wrong_gprs, wrong_xmm, wrong_memory, wrong_status,
                unexpected;
        const char *wrong_call; /* the first one with a wrong status, and that */
        uint64_t wrong_answer;
        unsigned calls, violations, protections, reads, flushes, halts, holds;
        volatile unsigned seen_violations, vinas;
        struct xmm xmm[16]; /* what they are to be */
        uint64_t shadow[PAGES];
        /* For VTL1, from VTL0: */
        uint64_t call_seed;
        struct {
                uint64_t gpa;
                uint32_t flags;
                bool wanted;
        } protect;
        /* The one violation that is to come */
        uint64_t gpa;
        unsigned access;
} vps[VPS] __attribute__((aligned(64)));

static unsigned n_vps;
static bool fpu;
static volatile uint64_t stop_at;
static volatile bool stop;

static struct vp *mine(void) {
        return &vps[this_cpu()->index];
}

static void answer(const char *call, uint64_t is, uint64_t wanted) {
        struct vp *v = mine();

        if (is == wanted)
                return;
        if (v->wrong_status++ == 0) {
                v->wrong_call = call;
                v->wrong_answer = is;
        }
}

static struct side *my_side(void) {
        return &mine()->side[this_cpu()->vtl];
}

/* xorshift64*, a sequence for each level of each VP */
static uint64_t any(void) {
        struct side *s = my_side();

        s->random ^= s->random >> 12;
        s->random ^= s->random << 25;
        s->random ^= s->random >> 27;
        return s->random * 0x2545f4914f6cdd1dull >> 16;
}

static unsigned below(unsigned n) {
        return (unsigned) (any() % n);
}

static uint64_t mix(uint64_t seed, unsigned i) {
        return (seed + i) * 0x9e3779b97f4a7c15ull ^ (seed << 7);
}

/* ---- Interrupts ---- */

static void check_xmm(void) {
        struct xmm now[16];

        if (!fpu)
                return;
        xmm_store(now);
        mine()->wrong_xmm += memcmp(now, mine()->xmm, sizeof(now)) != 0;
}

static void on_sent(struct trap_frame *f) {
        my_side()->got[f->vector - VECTOR_SENT]++;
        check_xmm();
        apic_eoi();
}

static void on_stimer(struct trap_frame *f) {
        mine()->wrong_level += f->vector != VECTOR_STIMER(this_cpu()->vtl);
        my_side()->stimers++;
        apic_eoi();
}

static void arm_apic_timer(unsigned us) {
        apic_write(APIC_TIMER_DIVIDE, 0xb);
        apic_write(APIC_LVT_TIMER, VECTOR_APIC(this_cpu()->vtl));
        apic_write(APIC_TIMER_INITIAL, us * 1000);
}

static void on_apic_timer(struct trap_frame *f) {
        mine()->wrong_level += f->vector != VECTOR_APIC(this_cpu()->vtl);
        my_side()->timers++;
        if (!stop)
                arm_apic_timer(5000 + my_side()->timers * 977 % 30000);
        apic_eoi();
}

static void on_vina(struct trap_frame *f) {
        mine()->wrong_level += this_cpu()->vtl != 1;
        mine()->vinas++;
        apic_eoi();
}

static uint64_t start_timers(uint64_t on) {
        unsigned vtl = this_cpu()->vtl, me = this_cpu()->index;

        wrmsr(HV_MSR_STIMER0_CONFIG, 0);
        if (!on) {
                apic_write(APIC_TIMER_INITIAL, 0);
                interrupt_window();
                return 0;
        }
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, (15 + 2 * vtl) * MS + 777 * me);
        wrmsr(HV_MSR_STIMER0_CONFIG, STIMER_DIRECT(VECTOR_STIMER(vtl)));
        arm_apic_timer(4000 + 100 * me);
        if (vtl == 1 && me % 2 == 1)
                return hv_set(VTL_SELF, HV_REGISTER_VSM_VINA,
                              VECTOR_VINA | HV_VINA_ENABLED | HV_VINA_AUTO_RESET);
        return 0;
}

/* One of this sender to that receiver at a time, so that none may hide another one. */
static bool may_send(unsigned vtl, unsigned vp) {
        struct side *s = my_side();
        unsigned sender = 2 * this_cpu()->index + this_cpu()->vtl;

        if (vps[vp].side[vtl].got[sender] == s->sent[vtl][vp])
                return true;
        if (!in_time(&s->sent_at[vtl][vp])) {
                mine()->lost++;
                be_patient(&s->sent_at[vtl][vp]);
                print("# VP %u VTL%u: no interrupt from VP %u VTL%u\n", vp, vtl, this_cpu()->index,
                      this_cpu()->vtl);
        }
        return false;
}

static void send(void) {
        unsigned vtl = below(2), vp = below(n_vps), from = this_cpu()->vtl;
        uint32_t vector = VECTOR_SENT + 2 * this_cpu()->index + from;
        struct side *s = my_side();

        if (!may_send(vtl, vp))
                return;
        s->sent[vtl][vp]++;
        be_patient(&s->sent_at[vtl][vp]);
        if (vtl == from && below(4) > 0)
                apic_send(vp, APIC_ICR_FIXED | vector);
        else
                answer("SendSyntheticClusterIpi",
                       hv_call(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST,
                               vector | (uint64_t) (vtl ? VTL1 : VTL0) << 32, 1ull << vp),
                       0);
}

/* ---- VTL1 ---- */

static void new_xmm(uint64_t seed) {
        struct vp *v = mine();
        struct xmm next[16];

        if (!fpu)
                return;
        for (unsigned i = 0; i < 16; i++)
                next[i] = (struct xmm){ mix(seed, 20 + i), mix(seed, 40 + i) };
        memcpy(v->xmm, next, sizeof(next));
        xmm_load(next);
}

static void vtl1_something(void) {
        switch (below(8)) {
        case 0:
        case 1:
                interrupt_window();
                break;
        case 2:
        case 3:
                send();
                break;
        case 4:
                irq_on();
                for (unsigned i = below(500); i > 0; i--)
                        cpu_relax();
                irq_off();
                break;
        case 5:
                if (below(8) == 0)
                        halt(); /* its timers are on */
                break;
        default:
                break;
        }
}

/* Every call brings a pattern of registers and gets another one. */
static bool on_call(struct gprs *g) {
        struct vp *v = mine();
        uint64_t seed = v->call_seed, *r = (uint64_t *) g;
        bool fast = seed & 1;

        if (seed == 0)
                return vtl1_call_default(g);
        v->call_seed = 0;
        check_xmm();
        for (unsigned i = 2; i < 16; i++)
                v->wrong_gprs += i != 4 && r[i] != mix(seed, i);
        if (v->protect.wanted) {
                uint64_t gpn = v->protect.gpa >> HV_PAGE_SHIFT;

                v->protect.wanted = false;
                answer("ModifyVtlProtectionMask",
                       hv_modify_mask(v->protect.flags, VTL_SELF, &gpn, 1), HV_REPS(1));
        }
        vtl1_something();
        if (seed & 2)
                new_xmm(seed); /* interrupts are off: nobody looks in between */
        for (unsigned i = 0; i < 16; i++)
                if (i != 4)
                        r[i] = mix(~seed, i);
        return fast;
}

static void on_intercept(struct hv_message *m, struct gprs *g) {
        const struct hv_memory_intercept *i = (const void *) m->payload;
        struct vp *v = mine();

        check_xmm();
        if (m->message_type != HV_MESSAGE_GPA_INTERCEPT || i->gpa != v->gpa ||
            i->header.access_type != v->access) {
                v->unexpected++;
                bail_out("VP %u: an intercept that nobody expects: message 0x%x, GPA 0x%lx, "
                         "access %u, RIP 0x%lx",
                         this_cpu()->index, m->message_type, i->gpa, i->header.access_type,
                         i->header.rip);
        }
        v->gpa = 0;
        v->seen_violations++;
        g->rax = POISON;
        answer("SetVpRegisters",
               hv_set(VTL0, HV_X64_REGISTER_RIP,
                      i->header.rip + (i->header.instruction_length & 0xf)),
               0);
}

static uint64_t vtl1_peek_other(uint64_t vp) {
        const uint32_t names[2] = { HV_X64_REGISTER_LSTAR, HV_X64_REGISTER_CR3 };
        union hv_register_value v[2];

        answer("GetVpRegisters", hv_get_registers((uint32_t) vp, VTL0, names, 2, v), HV_REPS(2));
        answer("LSTAR", v[0].low64, 0x1110000 + (vp << 12));
        answer("CR3", v[1].low64, (uint64_t) boot_pml4);
        return 1;
}

/* ---- VTL0 ---- */

static void secure_call(void) {
        struct vp *v = mine();
        struct gprs g;
        uint64_t seed = any() | 4, *r = (uint64_t *) &g;

        for (unsigned i = 0; i < 16; i++)
                r[i] = mix(seed, i);
        g.rflags = RFLAGS_FIXED | RFLAGS_IF;
        v->call_seed = seed;
        vtl_call(&g);
        v->calls++;
        for (unsigned i = seed & 1 ? 2 : 0; i < 16; i++)
                v->wrong_gprs += i != 4 && r[i] != mix(~seed, i);
        check_xmm();
}

static void protect_by_call(uint64_t gpa, uint32_t flags) {
        struct vp *v = mine();

        v->protect.gpa = gpa;
        v->protect.flags = flags;
        v->protect.wanted = true;
        secure_call();
        v->protections++;
}

/* A page gets rights; an access that they may forbid; the page is opened again. */
static void violate(void) {
        static const uint32_t rights[] = { 0, HV_MAP_GPA_READABLE,
                                           HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE };
        struct vp *v = mine();
        unsigned n = below(PAGES);
        uint64_t gpa = PAGE(this_cpu()->index, n), at = gpa + 8 * below(512), got, value = any();
        uint32_t flags = rights[below(3)];
        bool write = below(2),
             forbidden = !(flags & (write ? HV_MAP_GPA_WRITABLE : HV_MAP_GPA_READABLE));

        poke64(at, v->shadow[n] = any());
        protect_by_call(gpa, flags);
        v->access = write;
        v->gpa = forbidden ? at : 0;
        if (write) {
                probe_store((void *) at, value);
                if (!forbidden)
                        v->shadow[n] = value;
        } else {
                got = probe_load((void *) at);
                v->wrong_memory += got != (forbidden ? POISON : v->shadow[n]);
        }
        v->violations += forbidden;
        v->wrong_memory += v->gpa != 0; /* not intercepted */
        v->gpa = 0;
        protect_by_call(gpa, HV_MAP_GPA_ALL);
        v->wrong_memory += peek64(at) != v->shadow[n];
}

/* All registers, while interrupts and VTL1 break in */
static void hold(void) {
        static struct pattern want[VPS], p[VPS];
        unsigned me = this_cpu()->index;

        pattern_fill(&want[me], any() & 0xffff);
        want[me].rflags |= RFLAGS_IF;
        want[me].gpr[1] = 1 + below(3000);
        want[me].fpu = 0; /* XMM has its own pattern */
        p[me] = want[me];
        pattern_hold(&p[me]);
        irq_on();
        want[me].gpr[1] = 0;
        mine()->wrong_gprs += pattern_differs(&p[me], &want[me]);
        mine()->holds++;
        check_xmm();
}

static void something(void) {
        struct vp *v = mine();
        unsigned what = below(100);

        if (what < 40)
                secure_call();
        else if (what < 60)
                send();
        else if (what < 75)
                violate();
        else if (what < 85)
                hold();
        else if (what < 90) {
                answer("a secure call", vtl1_run(vtl1_peek_other, below(n_vps)), 1);
                v->reads++;
        } else if (what < 95) {
                answer("a flush", flush(below(FLUSH_CALLS), false, FLUSH_ALL_PROCESSORS, 0), 0);
                v->flushes++;
        } else {
                halt();
                irq_on();
                v->halts++;
        }
}

/* Everything that this VP has sent has come. */
static bool drained(void) {
        unsigned me = this_cpu()->index;

        for (unsigned from = 0; from < 2; from++)
                for (unsigned vtl = 0; vtl < 2; vtl++)
                        for (unsigned vp = 0; vp < n_vps; vp++)
                                if (vps[vp].side[vtl].got[2 * me + from] !=
                                    mine()->side[from].sent[vtl][vp])
                                        return false;
        return true;
}

static uint64_t last_timer(uint64_t arg) {
        arm_apic_timer(1000);
        return 0;
}

/* Each timer ticks once more. */
static unsigned dead_timers(void) {
        struct vp *v = mine();
        unsigned before[2][2], dead = 0;
        struct patience p;

        be_patient(&p);
        for (unsigned vtl = 0; vtl < 2; vtl++) {
                before[vtl][0] = v->side[vtl].stimers;
                before[vtl][1] = v->side[vtl].timers;
        }
        last_timer(0);
        vtl1_run(last_timer, 0);
        for (unsigned vtl = 0; vtl < 2; vtl++) {
                while (v->side[vtl].stimers == before[vtl][0] && in_time(&p))
                        cpu_relax();
                while (v->side[vtl].timers == before[vtl][1] && in_time(&p))
                        cpu_relax();
                dead += v->side[vtl].stimers == before[vtl][0];
                dead += v->side[vtl].timers == before[vtl][1];
        }
        return dead;
}

static volatile unsigned begun, over;

static uint64_t run(uint64_t seed) {
        unsigned me = this_cpu()->index, dead;
        struct vp *v = mine();
        struct patience p;

        wrmsr(MSR_LSTAR, 0x1110000 + ((uint64_t) me << 12));
        v->side[0].random = mix(seed, 2 * me) | 1;
        v->side[1].random = mix(seed, 2 * me + 1) | 1;
        if (fpu)
                xmm_store(v->xmm);
        start_timers(true);
        answer("starting timers", vtl1_run(start_timers, true), 0);
        /* Each one's registers are read by the others. */
        __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
        while (begun < n_vps)
                cpu_relax();
        irq_on();
        while (!stop) {
                something();
                /* The first VP looks at the clock. */
                stop = stop || (me == 0 && (int64_t) (rdtsc() - stop_at) > 0);
        }
        /* All take interrupts until nobody waits for one. */
        be_patient(&p);
        while (!drained() && in_time(&p))
                cpu_relax();
        if (!drained()) {
                v->lost++;
                print("# VP %u: its interrupts do not come\n", me);
        }
        dead = dead_timers();
        v->lost += dead;
        if (dead > 0)
                print("# VP %u: %u timers do not tick\n", me, dead);
        __atomic_add_fetch(&over, 1, __ATOMIC_SEQ_CST);
        while (over < n_vps)
                cpu_relax();
        irq_off();
        start_timers(false);
        vtl1_run(start_timers, false);
        return 0;
}

/* ---- What came of it ---- */

static unsigned total(size_t offset) {
        unsigned n = 0;

        for (unsigned i = 0; i < n_vps; i++)
                n += *(volatile unsigned *) ((uint8_t *) &vps[i] + offset);
        return n;
}

#define TOTAL(member) total(offsetof(struct vp, member))

static void print_figures(uint64_t seconds) {
        unsigned switches = 0, entries = 0, sent = 0, ticks[2] = { 0 };

        for (unsigned i = 0; i < n_vps; i++) {
                switches += cpus[1][i].calls;
                for (unsigned vtl = 0; vtl < 2; vtl++) {
                        ticks[vtl] += vps[i].side[vtl].stimers + vps[i].side[vtl].timers;
                        for (unsigned j = 0; j < SENDERS; j++)
                                sent += vps[i].side[vtl].got[j];
                }
                entries += vps[i].vinas;
        }
        print("# %lu s, %u VPs: %u secure calls, %u IPIs, %u ticks in VTL0, %u in VTL1, %u times "
              "VINA\n",
              seconds, n_vps, switches, sent, ticks[0], ticks[1], entries);
        print("# %u protections, %u violations, %u registers of others, %u flushes, %u halts, "
              "%u times all registers held\n",
              TOTAL(protections), TOTAL(violations), TOTAL(reads), TOTAL(flushes), TOTAL(halts),
              TOTAL(holds));
        for (unsigned i = 0; i < n_vps; i++)
                print("# VP %u: %u secure calls, %u violations, %u times VINA; ticks %u + %u, in VTL1 "
                      "%u + %u\n",
                      i, vps[i].calls, vps[i].violations, vps[i].vinas, vps[i].side[0].stimers,
                      vps[i].side[0].timers, vps[i].side[1].stimers, vps[i].side[1].timers);
}

static void check(unsigned vp) {
        const struct vp *v = &vps[vp];
        unsigned sent = 0, got = 0;

        for (unsigned vtl = 0; vtl < 2; vtl++)
                for (unsigned to = 0; to < n_vps; to++)
                        for (unsigned from = 0; from < 2; from++) {
                                sent += v->side[from].sent[vtl][to];
                                got += vps[to].side[vtl].got[2 * vp + from];
                        }
        is(got, sent, "VP %u: all of its IPIs were taken, once", vp);
        is(v->lost, 0, "VP %u: nothing was lost, and the timers tick", vp);
        is(v->wrong_level, 0, "VP %u: no interrupt in the wrong level", vp);
        is(v->wrong_gprs, 0, "VP %u: no wrong general register", vp);
        is(v->wrong_xmm, 0, "VP %u: no wrong XMM register", vp);
        is(v->wrong_memory, 0, "VP %u: no wrong memory", vp);
        if (v->wrong_status > 0)
                print("# VP %u: the first of %s: 0x%lx\n", vp, v->wrong_call, v->wrong_answer);
        is(v->wrong_status, 0, "VP %u: no wrong status", vp);
        is(v->seen_violations, v->violations, "VP %u: all violations were intercepted", vp);
        ok(v->calls > 0 && v->violations > 0 && sent > 0, "VP %u: did something of each kind", vp);
}

void guest_main(void) {
        uint64_t seconds = cmdline_number("seconds", 10), seed;

        fpu = cmdline_number("fpu", 0);
        vsm_protect();
        seed = cmdline_number("seed", rdtsc() & 0xffffff);
        print("# seed %lu\n", seed);
        n_vps = cpu_count() < VPS ? cpu_count() : VPS;
        for (unsigned i = 0; i < SENDERS; i++)
                irq_set(VECTOR_SENT + i, on_sent);
        for (unsigned vtl = 0; vtl < 2; vtl++) {
                irq_set(VECTOR_STIMER(vtl), on_stimer);
                irq_set(VECTOR_APIC(vtl), on_apic_timer);
        }
        irq_set(VECTOR_VINA, on_vina);
        tsc_per_ms();
        for (unsigned i = 1; i < n_vps; i++)
                job_open_vtl1(i);
        vtl1_on_call = on_call;
        vtl1_on_intercept = on_intercept;
        for (unsigned i = 1; i < n_vps; i++)
                job_start(i, run, seed);
        stop_at = rdtsc() + seconds * 1000 * tsc_per_ms();
        run(seed);
        for (unsigned i = 1; i < n_vps; i++)
                job_wait(i, "its end");
        print_figures(seconds);
        for (unsigned i = 0; i < n_vps; i++)
                check(i);
        if (!fpu)
                skip("this host does not run SSE code of a guest", "XMM registers");
}
