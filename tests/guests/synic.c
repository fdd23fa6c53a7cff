/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a level is told by, and tells with, beside its timers: messages that queue behind a busy
 * slot, event flags, interrupts that end without an EOI, idling, the crash MSRs, and the question
 * what a page may be used for (vsm.md 1.6, 3.17, 7.6, 8.6, 9). Both levels, where both have it.
 */
#include "lib/hv.h"

#define MESSAGE_SINT 4
#define EVENT_SINT 5
#define POLLED_SINT 6
#define MASKED_SINT 7
#define VECTOR_MESSAGE 0x51
#define VECTOR_EVENT 0x52
#define VECTOR_TICK 0x53
#define VECTOR_LAZY 0x61
#define VECTOR_LAZY_LOW 0x55
#define QUEUE_MAX 9 /* one in the slot, eight behind it */
#define MS 10000ull
#define STIMER_DIRECT(vector) (1ull << 12 | (uint64_t) (vector) << 4)

struct post_direct {
        uint64_t partition;
        uint32_t vp;
        uint8_t vtl, reserved0[3];
        uint8_t sint, reserved1[3];
        uint8_t message[sizeof(struct hv_message)];
        uint32_t reserved2;
} __attribute__((packed));

static volatile unsigned messages[2], events[2], ticks[2], wrong;

static void count(volatile unsigned by_vtl[2]) {
        apic_eoi();
        by_vtl[this_cpu()->vtl]++;
}

static void on_message(struct trap_frame *f) {
        count(messages);
}

static void on_event(struct trap_frame *f) {
        count(events);
}

static void on_tick(struct trap_frame *f) {
        count(ticks);
}

static void window(void) {
        interrupt_window();
        interrupt_window();
}

/* ---- Messages ---- */

static unsigned post(unsigned vtl, unsigned sint, uint32_t type, uint64_t payload) {
        struct post_direct *in = (void *) this_cpu()->in;
        struct hv_message m = { .message_type = type, .payload_size = sizeof(payload) };

        memcpy(m.payload, &payload, sizeof(payload));
        *in = (struct post_direct){ .partition = HV_PARTITION_ID_SELF,
                                    .vp = HV_VP_INDEX_SELF,
                                    .vtl = (uint8_t) vtl,
                                    .sint = (uint8_t) sint };
        memcpy(in->message, &m, sizeof(m));
        return HV_RESULT_STATUS(hv_call_memory(HVCALL_POST_MESSAGE_DIRECT));
}

/* The payload in the slot, 0 when it is empty */
static uint64_t slot(unsigned sint) {
        struct hv_message *m = &this_cpu()->simp->slot[sint];
        uint64_t v;

        memcpy(&v, m->payload, sizeof(v));
        return *(volatile uint32_t *) &m->message_type == 0 ? 0 : v;
}

static bool more(unsigned sint) {
        return *(volatile uint8_t *) &this_cpu()->simp->slot[sint].flags & HV_MESSAGE_PENDING;
}

/* Done with that one; EOM when there are more (vsm.md 8.6). */
static void take(unsigned sint) {
        bool pending;

        __atomic_store_n(&this_cpu()->simp->slot[sint].message_type, 0, __ATOMIC_SEQ_CST);
        pending = more(sint);
        if (pending)
                wrmsr(HV_MSR_EOM, 0);
}

static void test_messages(unsigned vtl) {
        unsigned bad = 0, status = 0;

        is(post(vtl, MASKED_SINT, 1, 1), HV_STATUS_INVALID_SYNIC_STATE,
           "VTL%u: no message to a masked SINT", vtl);
        is(post(vtl, HV_SINT_COUNT, 1, 1), HV_STATUS_INVALID_PARAMETER, "VTL%u: nor to SINT 16",
           vtl);
        is(post(vtl, MESSAGE_SINT, 0, 1), HV_STATUS_INVALID_PARAMETER, "VTL%u: nor of type 0", vtl);
        messages[vtl] = 0;
        is(post(vtl, MESSAGE_SINT, 1, 101), 0, "VTL%u: a message", vtl);
        is(slot(MESSAGE_SINT), 101, "VTL%u: is in its slot", vtl);
        ok(!more(MESSAGE_SINT), "VTL%u: and the only one", vtl);
        window();
        is(messages[vtl], 1, "VTL%u: it interrupts", vtl);

        for (uint64_t i = 102; i < 100 + QUEUE_MAX + 1; i++)
                status |= post(vtl, MESSAGE_SINT, 1, i);
        is(status, 0, "VTL%u: others wait behind it", vtl);
        is(slot(MESSAGE_SINT), 101, "VTL%u: which do not change it", vtl);
        ok(more(MESSAGE_SINT), "VTL%u: but MessagePending", vtl);
        is(post(vtl, MESSAGE_SINT, 1, 200), HV_STATUS_INSUFFICIENT_BUFFERS,
           "VTL%u: so many, and no more", vtl);
        is(post(vtl, POLLED_SINT, 1, 300), 0, "VTL%u: another SINT is not held up", vtl);
        is(slot(POLLED_SINT), 300, "VTL%u: its slot", vtl);
        take(POLLED_SINT);
        window();
        is(messages[vtl], 1, "VTL%u: what waits does not interrupt", vtl);

        for (uint64_t i = 101; i < 100 + QUEUE_MAX + 1; i++) {
                bad += slot(MESSAGE_SINT) != i || more(MESSAGE_SINT) != (i < 100 + QUEUE_MAX);
                take(MESSAGE_SINT);
                window();
                bad += messages[vtl] != (i < 100 + QUEUE_MAX ? i - 99 : QUEUE_MAX);
        }
        is(bad, 0, "VTL%u: each comes after the EOM, in its order, with its interrupt", vtl);
        is(slot(MESSAGE_SINT), 0, "VTL%u: none is left", vtl);
}

/* ---- Event flags ---- */

/* Whether it was newly signaled, or 0x100 and the status */
static unsigned signal(unsigned vtl, unsigned sint, unsigned flag) {
        uint64_t *in = this_cpu()->in, *out = this_cpu()->out, r;

        in[0] = HV_PARTITION_ID_SELF;
        in[1] = HV_VP_INDEX_SELF | (uint64_t) vtl << 32 | (uint64_t) sint << 40 |
                (uint64_t) flag << 48;
        out[0] = 0xee;
        r = hv_call_memory(HVCALL_SIGNAL_EVENT_DIRECT);
        return r != 0 ? 0x100 | HV_RESULT_STATUS(r) : (unsigned) (out[0] & 0xff);
}

static volatile uint32_t *flags(unsigned sint) {
        return (volatile uint32_t *) (this_cpu()->siefp + sint * HV_EVENT_FLAGS / 8);
}

static void test_events(unsigned vtl) {
        unsigned set = 0;

        events[vtl] = 0;
        is(signal(vtl, MASKED_SINT, 0), 0x100 | HV_STATUS_INVALID_SYNIC_STATE,
           "VTL%u: no event to a masked SINT", vtl);
        is(signal(vtl, EVENT_SINT, HV_EVENT_FLAGS), 0x100 | HV_STATUS_INVALID_PARAMETER,
           "VTL%u: flag 2048", vtl);
        is(signal(vtl, EVENT_SINT, 77), 1, "VTL%u: an event is new", vtl);
        is(signal(vtl, EVENT_SINT, 77), 0, "VTL%u: and not a second time", vtl);
        is(flags(EVENT_SINT)[2], 1u << 13, "VTL%u: its flag", vtl);
        window();
        is(events[vtl], 1, "VTL%u: one interrupt", vtl);
        is(signal(vtl, EVENT_SINT, HV_EVENT_FLAGS - 1), 1, "VTL%u: the last flag", vtl);
        window();
        is(events[vtl], 2, "VTL%u: interrupts, too", vtl);
        flags(EVENT_SINT)[2] = 0;
        is(signal(vtl, EVENT_SINT, 77), 1, "VTL%u: seen by the guest, it is new again", vtl);
        window();
        is(events[vtl], 3, "VTL%u: and interrupts again", vtl);
        is(signal(vtl, POLLED_SINT, 1), 1, "VTL%u: to a polled SINT", vtl);
        window();
        is(events[vtl], 3, "VTL%u: which interrupts nobody", vtl);
        for (unsigned i = 0; i < HV_SINT_COUNT * HV_EVENT_FLAGS / 32; i++)
                for (uint32_t v = flags(0)[i]; v != 0; v &= v - 1)
                        set++;
        is(set, 3, "VTL%u: no other flag is set", vtl);
}

/* ---- GUEST_IDLE, crash MSRs ---- */

static void arm(uint64_t ms) {
        wrmsr(HV_MSR_STIMER0_CONFIG, STIMER_DIRECT(VECTOR_TICK));
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, hv_time() + ms * MS);
        wrmsr(HV_MSR_STIMER0_CONFIG, STIMER_DIRECT(VECTOR_TICK) | 1);
}

static void test_idle(unsigned vtl) {
        ticks[vtl] = 0;
        arm(20);
        if (vtl == 0)
                irq_on();
        is(rdmsr(HV_MSR_GUEST_IDLE), 0, "VTL%u: GUEST_IDLE", vtl);
        irq_off();
        window();
        is(ticks[vtl], 1, "VTL%u: lasts until the interrupt", vtl);
        ok(fault_of(wrmsr(HV_MSR_GUEST_IDLE, 0)).vector == VECTOR_GP,
           "VTL%u: GUEST_IDLE is read-only", vtl);
}

static void test_crash(unsigned vtl) {
        unsigned bad = 0;

        is(rdmsr(HV_MSR_CRASH_CTL), HV_CRASH_CTL_SUPPORTED, "VTL%u: what CRASH_CTL can", vtl);
        for (unsigned i = 0; i < HV_CRASH_PARAMETERS; i++)
                wrmsr(HV_MSR_CRASH_P0 + i, 0x1000 * (vtl + 1) + i);
        for (unsigned i = 0; i < HV_CRASH_PARAMETERS; i++)
                bad += rdmsr(HV_MSR_CRASH_P0 + i) != 0x1000 * (vtl + 1) + i;
        is(bad, 0, "VTL%u: five parameters", vtl);
        wrmsr(HV_MSR_CRASH_CTL, HV_CRASH_CTL_NOTIFY);
        is(rdmsr(HV_MSR_CRASH_CTL), HV_CRASH_CTL_SUPPORTED, "VTL%u: goes on after it has said so",
           vtl);
}

static uint64_t test_level(uint64_t arg) {
        struct cpu *c = this_cpu();

        wrmsr(HV_MSR_SIMP, (uint64_t) c->simp | HV_MSR_PAGE_ENABLE);
        wrmsr(HV_MSR_SIEFP, (uint64_t) c->siefp | HV_MSR_PAGE_ENABLE);
        wrmsr(HV_MSR_SCONTROL, 1);
        wrmsr(HV_MSR_SINT0 + MESSAGE_SINT, VECTOR_MESSAGE);
        wrmsr(HV_MSR_SINT0 + EVENT_SINT, VECTOR_EVENT);
        wrmsr(HV_MSR_SINT0 + POLLED_SINT, VECTOR_EVENT | HV_SINT_POLLING);
        test_messages(c->vtl);
        test_events(c->vtl);
        test_idle(c->vtl);
        test_crash(c->vtl);
        return 0;
}

static uint64_t vtl1_tells_vtl0(uint64_t arg) {
        return post(0, MESSAGE_SINT, 1, 4711) << 16 | signal(0, EVENT_SINT, 99);
}

static void test_between(void) {
        is(post(1, MESSAGE_SINT, 1, 1), HV_STATUS_ACCESS_DENIED, "VTL0: no message to VTL1");
        is(signal(1, EVENT_SINT, 1), 0x100 | HV_STATUS_ACCESS_DENIED, "VTL0: no event to VTL1");
        messages[0] = messages[1] = events[0] = events[1] = 0;
        is(vtl1_run(vtl1_tells_vtl0, 0), 1, "VTL1: a message and an event to VTL0");
        window();
        is(slot(MESSAGE_SINT), 4711, "VTL0 has the message");
        is(flags(EVENT_SINT)[3] >> 3 & 1, 1, "and the event");
        is(messages[0] << 8 | events[0], 0x101, "and its interrupts");
        is(messages[1] + events[1], 0, "VTL1 has none");
}

/* ---- VTL1's interrupts without EOI ---- */

static volatile unsigned lazy, offered, low, low_inside;
static bool send_low;

/* No EOI where none is required, which is asked and answered at once. */
static void on_lazy(struct trap_frame *f) {
        struct cpu *c = this_cpu();

        lazy++;
        wrong += c->vtl != 1;
        if (send_low) {
                apic_send(c->index, APIC_ICR_FIXED | VECTOR_LAZY_LOW);
                window();
                low_inside += low;
        }
        if (__atomic_exchange_n(&c->assist->apic_assist, 0, __ATOMIC_SEQ_CST) &
            HV_APIC_ASSIST_NO_EOI_REQUIRED)
                offered++;
        else
                apic_eoi();
}

static void on_lazy_low(struct trap_frame *f) {
        this_cpu()->assist->apic_assist = 0;
        apic_eoi();
        low++;
}

static uint64_t vtl1_lazy(uint64_t n) {
        for (uint64_t i = 0; i < n; i++) {
                apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_LAZY);
                window();
        }
        return 0;
}

static void test_lazy_eoi(void) {
        vtl1_run(vtl1_lazy, 10);
        is(lazy, 10, "VTL1: ten interrupts");
        is(offered, 10, "which need no EOI");
        send_low = true;
        offered = 0;
        vtl1_run(vtl1_lazy, 1);
        is(offered, 0, "one behind which another waits needs its EOI");
        is(low_inside, 0, "before which that does not come");
        is(low, 1, "and after which it does");
        is(wrong, 0, "none came in VTL0");
}

/* ---- CheckSparseGpaPageVtlAccess ---- */

static uint64_t check_pages(uint64_t access) {
        uint64_t *in = this_cpu()->in, *out = this_cpu()->out, r;

        in[0] = HV_PARTITION_ID_SELF;
        in[1] = VTL0 | access << 8;
        for (unsigned i = 0; i < 3; i++) {
                in[2 + i] = WINDOW_PAGE(i) >> HV_PAGE_SHIFT;
                out[i] = 0;
        }
        r = hv_call_memory(HVCALL_CHECK_SPARSE_GPA_PAGE_VTL_ACCESS | HV_REPS(3));
        /* For each page what is denied; the sender's level must be VTL1 then. */
        for (unsigned i = 0; i < 3; i++)
                if ((out[i] & 0xff) != (out[i] ? 1 : 0) || (out[i] >> 16 & 0xf) != (out[i] ? 1 : 0))
                        return ~0ull;
        return (r != HV_REPS(3)) << 24 | (out[0] >> 8 & 0xff) << 16 | (out[1] >> 8 & 0xff) << 8 |
               (out[2] >> 8 & 0xff);
}

static void test_check(void) {
        is(protect(WINDOW_PAGE(1), 1, HV_MAP_GPA_READABLE), HV_REPS(1), "a page to read only");
        is(protect(WINDOW_PAGE(2), 1, 0), HV_REPS(1), "and a closed one");
        is(vtl1_run(check_pages, HV_MAP_GPA_READABLE), HV_MAP_GPA_READABLE,
           "VTL1 asks what VTL0 may not read");
        is(vtl1_run(check_pages, HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE),
           HV_MAP_GPA_WRITABLE << 8 | HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE,
           "and what it may not write");
        is(check_pages(HV_MAP_GPA_WRITABLE), HV_MAP_GPA_WRITABLE << 8 | HV_MAP_GPA_WRITABLE,
           "VTL0 may ask about itself");
        protect(WINDOW_PAGE(1), 2, HV_MAP_GPA_ALL);
        is(vtl1_run(check_pages, HV_MAP_GPA_ALL), 0, "relaxed: all of it");
}

void guest_main(void) {
        vsm_protect();
        irq_set(VECTOR_MESSAGE, on_message);
        irq_set(VECTOR_EVENT, on_event);
        irq_set(VECTOR_TICK, on_tick);
        irq_set(VECTOR_LAZY, on_lazy);
        irq_set(VECTOR_LAZY_LOW, on_lazy_low);
        if ((hv_privileges() & HV_PRIV_GUEST_IDLE) == 0 || !(hv_features() & HV_FEATURE_CRASH_MSRS))
                bail_out("GUEST_IDLE and the crash MSRs are not in CPUID");
        test_level(0);
        vtl1_run(test_level, 0);
        test_between();
        test_lazy_eoi();
        test_check();
}
