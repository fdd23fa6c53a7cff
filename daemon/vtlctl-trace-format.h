/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A trace as it is written for `vtlctl trace`: lines for people, JSON for programs, or the JSON of
 * trace-event files, which Perfetto and Chrome open. vtlctl-trace-format.c has the first two,
 * vtlctl-trace-perfetto.c the third.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vtl/trace.h"

struct trace_record {
        unsigned vp;
        unsigned order;               /* of those that were read together */
        struct vtl_trace_event event; /* a valid one: vtl_trace_event_valid() */
};

enum trace_format {
        TRACE_FORMAT_TEXT,
        TRACE_FORMAT_JSON,
        TRACE_FORMAT_PERFETTO,
        _TRACE_FORMAT_MAX,
};
extern const struct string_table trace_format_table;

/* A slice of a VP's time in VTL1, for Perfetto */
enum trace_level {
        TRACE_LEVEL_UNKNOWN,   /* records of it may be missing */
        TRACE_LEVEL_BEGINNING, /* it has had no switch yet */
        TRACE_LEVEL_0,
        TRACE_LEVEL_1, /* since trace_vp.since */
};

struct trace_vp {
        enum trace_level level;
        uint64_t since;
        uint64_t last; /* record */
        unsigned reason;
        uint64_t rip;
};

struct trace_writer {
        FILE *file;
        enum trace_format format;
        const char *name, *uuid; /* of the VM */
        unsigned vps;
        struct trace_vp *vp_states; /* of each VP; zeroed by the caller, who frees it */
        int64_t realtime_offset;    /* CLOCK_REALTIME minus CLOCK_MONOTONIC, ns; for text */
        bool colours;
        uint64_t first, last; /* record's times */
        bool any;             /* an element of the JSON array has been written */
};

/* In this order; what is written is whole after the last one, whatever came between. */
void trace_begin(struct trace_writer *w);
void trace_record(struct trace_writer *w, const struct trace_record *r);
/* @time: not before the records that there are */
void trace_lost(struct trace_writer *w, unsigned vp, uint64_t records, uint64_t time);
void trace_rejected(struct trace_writer *w, uint64_t records, uint64_t time);
void trace_end(struct trace_writer *w);

/* What is known about an event, without time and VP, as members of a JSON object. @hex: addresses
 * as text */
struct json_object *trace_members(const struct vtl_trace_event *e, bool hex);

/* "ModifyVtlProtectionMask", or NULL for a call that vtld does not know */
const char *trace_call_name(unsigned code);
/* "ACCESS_DENIED", or NULL */
const char *trace_status_name(unsigned status);

/* vtlctl-trace-perfetto.c */
void trace_perfetto_begin(struct trace_writer *w);
void trace_perfetto_record(struct trace_writer *w, const struct trace_record *r);
void trace_perfetto_lost(struct trace_writer *w, unsigned vp, uint64_t records, uint64_t time);
void trace_perfetto_rejected(struct trace_writer *w, uint64_t records, uint64_t time);
void trace_perfetto_end(struct trace_writer *w);
