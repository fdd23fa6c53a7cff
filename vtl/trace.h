/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A trace of what a VP does: a ring of records in its part of the control memory (control.h),
 * written while header.tracing is set. Who does the event writes it, the library or the engine; a
 * VP's thread waits while the engine serves it, so a ring has one writer at a time. The reader is
 * another process that writes nothing there: it finds out by itself what was overwritten, and
 * takes no record on trust, since the VMM can write to all of it.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/string-table.h"

/* The values below are part of the bus interface: org.vtld1.Partition.ReadTrace. */
enum vtl_trace_kind {
        VTL_TRACE_NONE,
        /* Another level runs. detail: enum vtl_switch_reason, VTL_TRACE_HOT; data: RIP of the level
         * that is left; extra: RIP of the one that is entered */
        VTL_TRACE_SWITCH,
        /* One that reached the engine and was no switch. detail: enum hv_dispatch_result; data: the
         * control word; extra: RAX afterwards, when the call is done */
        VTL_TRACE_HYPERCALL,
        /* VTL1 is told of an access. detail: enum vtl_trace_intercept, and enum hv_intercept_access
         * << 8; data: GPA, port, MSR or register; extra: RIP of VTL0 */
        VTL_TRACE_INTERCEPT,
        VTL_TRACE_INTERRUPT, /* VTL1 gets one. detail: the vector; 2: an NMI */
        VTL_TRACE_VINA,      /* VTL1 is told that VTL0 has an interrupt. detail: the vector */
        _VTL_TRACE_KIND_MAX,
};

#define VTL_TRACE_HOT 0x100u /* the library switched without asking the engine */

enum vtl_trace_intercept {
        VTL_TRACE_INTERCEPT_MEMORY,
        VTL_TRACE_INTERCEPT_PORT,
        VTL_TRACE_INTERCEPT_MSR,
        VTL_TRACE_INTERCEPT_REGISTER,
        _VTL_TRACE_INTERCEPT_MAX,
};

#define VTL_TRACE_OUTCOME_MAX 3u /* of a hypercall: done, to be continued, #UD */

struct vtl_trace_event {
        uint64_t time; /* CLOCK_MONOTONIC, ns */
        uint64_t data;
        uint64_t extra;
        uint16_t detail;
        uint8_t kind; /* enum vtl_trace_kind */
        uint8_t from; /* VTL; equal to @to where it is about one level only */
        uint8_t to;
};

#define VTL_TRACE_RECORDS 1024u /* a power of two */

/*
 * word[0]: low half of the record's position + 1, so that a reader notices one that is overwritten
 * while it reads (0: being written), then kind, levels and detail. Then time, data, extra.
 */
struct vtl_trace_record {
        _Atomic uint64_t word[4];
};
_Static_assert(sizeof(struct vtl_trace_record) == 32, "two to a cache line");

struct vtl_trace_ring {
        _Atomic uint64_t next; /* position of the record to be written next; they begin with 0 */
        struct vtl_trace_record records[VTL_TRACE_RECORDS] __attribute__((aligned(64)));
};

/* Takes the time itself, as monotonic_ns(): the same in the VMM, the worker and the broker. */
void vtl_trace_write(struct vtl_trace_ring *ring, struct vtl_trace_event e);

/*
 * VTL_TRACE() - one record, if somebody reads the trace
 * @header: struct vtl_control_header
 * @ctl: struct vtl_control_vp
 * ...: members of struct vtl_trace_event; not evaluated unless somebody does
 */
#define VTL_TRACE(header, ctl, ...)                                                              \
        do {                                                                                     \
                if (__builtin_expect(                                                            \
                            atomic_load_explicit(&(header)->tracing, memory_order_relaxed), 0))  \
                        vtl_trace_write(&(ctl)->trace, (struct vtl_trace_event){ __VA_ARGS__ }); \
        } while (0)

/* detail of an intercept, from the type of its message */
uint16_t vtl_trace_intercept_detail(uint32_t message_type, unsigned access);

/* Whether such an event can be at all. @now: it is not later */
bool vtl_trace_event_valid(const struct vtl_trace_event *e, uint64_t now);

struct vtl_trace_result {
        size_t n;          /* events */
        uint64_t next;     /* position to go on with */
        uint64_t lost;     /* records that were overwritten before they could be read */
        uint64_t rejected; /* records that cannot be */
};

/**
 * vtl_trace_read() - records from a position on
 * @ring: memory that anybody may write to at any time
 * @position: the first one; one that is not there yet means the one that comes next
 * @events: room for them, valid ones only, in the order in which they were written
 * @max: how many
 */
struct vtl_trace_result vtl_trace_read(const struct vtl_trace_ring *ring, uint64_t position,
                                       struct vtl_trace_event *events, size_t max);

/* Texts of the enums above, for people and programs */
extern const struct string_table vtl_trace_kind_table, vtl_trace_intercept_table,
        vtl_trace_outcome_table, vtl_trace_access_table, vtl_trace_reason_table;
