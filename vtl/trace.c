/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/probes.h"
#include "vtl/trace.h"

_Static_assert((VTL_TRACE_RECORDS & (VTL_TRACE_RECORDS - 1)) == 0, "positions wrap around");

/* ---- Writing ---- */

#define SEQUENCE_MASK UINT64_C(0xffffffff)
#define KIND_SHIFT 32
#define FROM_SHIFT 40
#define TO_SHIFT 44
#define DETAIL_SHIFT 48

static uint64_t first_word(uint64_t position, const struct vtl_trace_event *e) {
        return ((position + 1) & SEQUENCE_MASK) | (uint64_t) e->kind << KIND_SHIFT |
               (uint64_t) (e->from & 0xf) << FROM_SHIFT | (uint64_t) (e->to & 0xf) << TO_SHIFT |
               (uint64_t) e->detail << DETAIL_SHIFT;
}

void vtl_trace_write(struct vtl_trace_ring *ring, struct vtl_trace_event e) {
        uint64_t position = atomic_load_explicit(&ring->next, memory_order_relaxed);
        struct vtl_trace_record *r = &ring->records[position % VTL_TRACE_RECORDS];

        atomic_store_explicit(&r->word[0], 0, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
        atomic_store_explicit(&r->word[1], monotonic_ns(), memory_order_relaxed);
        atomic_store_explicit(&r->word[2], e.data, memory_order_relaxed);
        atomic_store_explicit(&r->word[3], e.extra, memory_order_relaxed);
        atomic_store_explicit(&r->word[0], first_word(position, &e), memory_order_release);
        atomic_store_explicit(&ring->next, position + 1, memory_order_release);
}

static const uint32_t message_types[_VTL_TRACE_INTERCEPT_MAX] = {
        [VTL_TRACE_INTERCEPT_MEMORY] = HV_MESSAGE_GPA_INTERCEPT,
        [VTL_TRACE_INTERCEPT_PORT] = HV_MESSAGE_X64_IO_PORT_INTERCEPT,
        [VTL_TRACE_INTERCEPT_MSR] = HV_MESSAGE_X64_MSR_INTERCEPT,
        [VTL_TRACE_INTERCEPT_REGISTER] = HV_MESSAGE_REGISTER_INTERCEPT,
};

uint16_t vtl_trace_intercept_detail(uint32_t message_type, unsigned access) {
        for (unsigned i = 0; i < ARRAY_SIZE(message_types); i++)
                if (message_types[i] == message_type)
                        return (uint16_t) (i | (access & 0xff) << 8);
        return UINT16_MAX; /* no reader takes it */
}

/* ---- Reading ---- */

static const char *const kind_names[_VTL_TRACE_KIND_MAX] = {
        [VTL_TRACE_NONE] = "none",           [VTL_TRACE_SWITCH] = "switch",
        [VTL_TRACE_HYPERCALL] = "hypercall", [VTL_TRACE_INTERCEPT] = "intercept",
        [VTL_TRACE_INTERRUPT] = "interrupt", [VTL_TRACE_VINA] = "vina",
};
const struct string_table vtl_trace_kind_table = STRING_TABLE(kind_names);

static const char *const intercept_names[_VTL_TRACE_INTERCEPT_MAX] = {
        [VTL_TRACE_INTERCEPT_MEMORY] = "memory",
        [VTL_TRACE_INTERCEPT_PORT] = "port",
        [VTL_TRACE_INTERCEPT_MSR] = "msr",
        [VTL_TRACE_INTERCEPT_REGISTER] = "register",
};
const struct string_table vtl_trace_intercept_table = STRING_TABLE(intercept_names);

static const char *const outcome_names[VTL_TRACE_OUTCOME_MAX] = { "done", "continued",
                                                                  "undefined-opcode" };
const struct string_table vtl_trace_outcome_table = STRING_TABLE(outcome_names);

static const char *const access_names[] = {
        [HV_INTERCEPT_ACCESS_READ] = "read",
        [HV_INTERCEPT_ACCESS_WRITE] = "write",
        [HV_INTERCEPT_ACCESS_EXECUTE] = "execute",
};
const struct string_table vtl_trace_access_table = STRING_TABLE(access_names);

static const char *const reason_names[_VTL_SWITCH_REASON_MAX] = {
        [VTL_SWITCH_NONE] = "none",
        [VTL_SWITCH_CALL] = "call",
        [VTL_SWITCH_INTERRUPT] = "interrupt",
        [VTL_SWITCH_RETURN] = "return",
        [VTL_SWITCH_FAST_RETURN] = "fast-return",
};
const struct string_table vtl_trace_reason_table = STRING_TABLE(reason_names);

static bool switch_valid(const struct vtl_trace_event *e) {
        unsigned reason = e->detail & ~VTL_TRACE_HOT;
        bool up = reason == VTL_SWITCH_CALL || reason == VTL_SWITCH_INTERRUPT;

        return reason > VTL_SWITCH_NONE && reason < _VTL_SWITCH_REASON_MAX && e->from == !up &&
               e->to == up;
}

static bool hypercall_valid(const struct vtl_trace_event *e) {
        return e->from == e->to && e->detail < VTL_TRACE_OUTCOME_MAX;
}

static bool intercept_valid(const struct vtl_trace_event *e) {
        return e->from == 0 && e->to == 1 && (e->detail & 0xff) < _VTL_TRACE_INTERCEPT_MAX &&
               e->detail >> 8 < ARRAY_SIZE(access_names);
}

static bool interrupt_valid(const struct vtl_trace_event *e) {
        return e->from == 1 && e->to == 1 && e->detail <= UINT8_MAX;
}

static bool vina_valid(const struct vtl_trace_event *e) {
        return e->from == 0 && e->to == 1 && e->detail <= UINT8_MAX;
}

static bool (*const validators[_VTL_TRACE_KIND_MAX])(const struct vtl_trace_event *e) = {
        [VTL_TRACE_SWITCH] = switch_valid,       [VTL_TRACE_HYPERCALL] = hypercall_valid,
        [VTL_TRACE_INTERCEPT] = intercept_valid, [VTL_TRACE_INTERRUPT] = interrupt_valid,
        [VTL_TRACE_VINA] = vina_valid,
};

bool vtl_trace_event_valid(const struct vtl_trace_event *e, uint64_t now) {
        return e->kind < _VTL_TRACE_KIND_MAX && validators[e->kind] && e->from <= 1 && e->to <= 1 &&
               e->time != 0 && e->time <= now && validators[e->kind](e);
}

/* False when it is not the record of this position, or was not until the end. */
static bool copy_record(const struct vtl_trace_record *r, uint64_t position,
                        struct vtl_trace_event *ret) {
        uint64_t word = atomic_load_explicit(&r->word[0], memory_order_acquire);

        if ((word & SEQUENCE_MASK) == 0 ||
            (word & SEQUENCE_MASK) != ((position + 1) & SEQUENCE_MASK))
                return false;
        *ret = (struct vtl_trace_event){
                .time = atomic_load_explicit(&r->word[1], memory_order_relaxed),
                .data = atomic_load_explicit(&r->word[2], memory_order_relaxed),
                .extra = atomic_load_explicit(&r->word[3], memory_order_relaxed),
                .kind = (uint8_t) (word >> KIND_SHIFT),
                .from = word >> FROM_SHIFT & 0xf,
                .to = word >> TO_SHIFT & 0xf,
                .detail = (uint16_t) (word >> DETAIL_SHIFT),
        };
        atomic_thread_fence(memory_order_acquire);
        return atomic_load_explicit(&r->word[0], memory_order_relaxed) == word;
}

/* After all were copied: what was written meanwhile is not of the future. */
static void reject_impossible(struct vtl_trace_event *events, struct vtl_trace_result *r) {
        uint64_t now = monotonic_ns(), last = 0;
        size_t n = 0;

        for (size_t i = 0; i < r->n; i++) {
                if (!vtl_trace_event_valid(&events[i], now) || events[i].time < last) {
                        r->rejected++;
                        continue;
                }
                last = events[i].time;
                events[n++] = events[i];
        }
        r->n = n;
}

struct vtl_trace_result vtl_trace_read(const struct vtl_trace_ring *ring, uint64_t position,
                                       struct vtl_trace_event *events, size_t max) {
        uint64_t end = atomic_load_explicit(&ring->next, memory_order_acquire);
        struct vtl_trace_result result = { .next = end };

        if (position >= end)
                return result;
        if (end - position > VTL_TRACE_RECORDS) {
                result.lost = end - position - VTL_TRACE_RECORDS;
                position = end - VTL_TRACE_RECORDS;
        }
        for (; position < end && result.n < max; position++)
                if (copy_record(&ring->records[position % VTL_TRACE_RECORDS], position,
                                &events[result.n]))
                        result.n++;
                else
                        result.lost++;
        result.next = position;
        reject_impossible(events, &result);
        return result;
}
