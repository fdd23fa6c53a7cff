/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The JSON array of trace-event files: the VM is a process and each VP a thread of it, the time
 * that a VP spends in VTL1 is a slice, all else an instant. Times are microseconds with three
 * decimals.
 */

#include <inttypes.h>

#include "daemon/vtlctl-trace-format.h"
#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/probes.h"

#define PID 1

static void put(struct trace_writer *w, struct json_object *o) {
        (void) fprintf(w->file, "%s%s", w->any ? ",\n" : "",
                       json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
        (void) json_object_put(o);
        w->any = true;
}

static void add_time(struct json_object *o, const char *key, uint64_t ns) {
        char text[32];

        (void) snprintf(text, sizeof(text), "%" PRIu64 ".%03u", ns / 1000, (unsigned) (ns % 1000));
        (void) json_object_object_add(o, key, json_object_new_double_s((double) ns / 1000, text));
}

/* Thread 0 is the process as such. */
static struct json_object *element(const char *name, const char *phase, unsigned thread) {
        struct json_object *o = json_object_new_object();

        (void) json_object_object_add(o, "name", json_object_new_string(name));
        (void) json_object_object_add(o, "cat", json_object_new_string("vtl"));
        (void) json_object_object_add(o, "ph", json_object_new_string(phase));
        (void) json_object_object_add(o, "pid", json_object_new_int(PID));
        (void) json_object_object_add(o, "tid", json_object_new_int((int) thread));
        return o;
}

static void put_metadata(struct trace_writer *w, const char *what, const char *key,
                         struct json_object *value, unsigned thread) {
        struct json_object *o = element(what, "M", thread), *args = json_object_new_object();

        (void) json_object_object_add(args, key, value);
        (void) json_object_object_add(o, "args", args);
        put(w, o);
}

void trace_perfetto_begin(struct trace_writer *w) {
        (void) fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n", w->file);
        put_metadata(w, "process_name", "name", json_object_new_string(w->name), 0);
        put_metadata(w, "process_labels", "labels", json_object_new_string(w->uuid), 0);
        for (unsigned i = 0; i < w->vps; i++) {
                char name[16];

                w->vp_states[i].level = TRACE_LEVEL_BEGINNING;
                (void) snprintf(name, sizeof(name), "VP %u", i);
                put_metadata(w, "thread_name", "name", json_object_new_string(name), i + 1);
                put_metadata(w, "thread_sort_index", "sort_index", json_object_new_int((int) i),
                             i + 1);
        }
}

/* ---- Slices ---- */

/* @left: why it ends, or NULL: nobody knows */
static void put_slice(struct trace_writer *w, unsigned vp, uint64_t end, const char *left) {
        const struct trace_vp *v = &w->vp_states[vp];
        struct json_object *o = element("VTL1", "X", vp + 1), *args = json_object_new_object();
        uint64_t since = v->level == TRACE_LEVEL_1 ? v->since : w->first;
        char rip[20];

        add_time(o, "ts", since);
        add_time(o, "dur", end > since ? end - since : 0);
        if (v->level == TRACE_LEVEL_1) {
                (void) json_object_object_add(args, "entered",
                                              json_object_new_string(string_table_name(
                                                      &vtl_trace_reason_table, v->reason)));
                (void) snprintf(rip, sizeof(rip), "0x%" PRIx64, v->rip);
                (void) json_object_object_add(args, "rip", json_object_new_string(rip));
        }
        if (left)
                (void) json_object_object_add(args, "left", json_object_new_string(left));
        (void) json_object_object_add(o, "args", args);
        put(w, o);
}

static void put_instant(struct trace_writer *w, const char *name, unsigned thread, uint64_t time,
                        struct json_object *args) {
        struct json_object *o = element(name, "i", thread);

        (void) json_object_object_add(o, "s", json_object_new_string(thread ? "t" : "p"));
        add_time(o, "ts", time);
        (void) json_object_object_add(o, "args", args);
        put(w, o);
}

static void record_switch(struct trace_writer *w, const struct trace_record *r) {
        const struct vtl_trace_event *e = &r->event;
        struct trace_vp *v = &w->vp_states[r->vp];
        const char *reason = string_table_name(&vtl_trace_reason_table, e->detail & 0xff);

        if (e->to == 1) {
                if (v->level == TRACE_LEVEL_1) /* its end is missing */
                        put_slice(w, r->vp, v->last, NULL);
                v->since = e->time;
                v->reason = e->detail & 0xff;
                v->rip = e->data;
                v->level = TRACE_LEVEL_1;
                return;
        }
        if (v->level == TRACE_LEVEL_1 || (v->level == TRACE_LEVEL_BEGINNING && e->time > w->first))
                put_slice(w, r->vp, e->time, reason);
        else
                put_instant(w, reason, r->vp + 1, e->time, trace_members(e, true));
        v->level = TRACE_LEVEL_0;
}

static const char *name_of(const struct vtl_trace_event *e) {
        const char *name = NULL;

        if (e->kind == VTL_TRACE_HYPERCALL)
                name = trace_call_name((unsigned) (e->data & 0xffff));
        return name ? name : string_table_name(&vtl_trace_kind_table, e->kind);
}

void trace_perfetto_record(struct trace_writer *w, const struct trace_record *r) {
        if (r->event.kind == VTL_TRACE_SWITCH)
                record_switch(w, r);
        else
                put_instant(w, name_of(&r->event), r->vp + 1, r->event.time,
                            trace_members(&r->event, true));
        w->vp_states[r->vp].last = r->event.time;
}

static struct json_object *number_of(uint64_t records) {
        struct json_object *args = json_object_new_object();

        (void) json_object_object_add(args, "records", json_object_new_uint64(records));
        return args;
}

void trace_perfetto_lost(struct trace_writer *w, unsigned vp, uint64_t records, uint64_t time) {
        struct trace_vp *v = &w->vp_states[vp];

        if (v->level == TRACE_LEVEL_1)
                put_slice(w, vp, v->last, NULL);
        v->level = TRACE_LEVEL_UNKNOWN;
        put_instant(w, "records lost", vp + 1, time, number_of(records));
}

void trace_perfetto_rejected(struct trace_writer *w, uint64_t records, uint64_t time) {
        put_instant(w, "impossible records", 0, time, number_of(records));
}

void trace_perfetto_end(struct trace_writer *w) {
        for (unsigned i = 0; i < w->vps; i++)
                if (w->vp_states[i].level == TRACE_LEVEL_1)
                        put_slice(w, i, w->last, NULL);
        (void) fputs("\n]}\n", w->file);
}
