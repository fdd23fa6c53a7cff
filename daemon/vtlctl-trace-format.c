/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <time.h>

#include "daemon/vtlctl-trace-format.h"
#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/probes.h"

#define GREEN "\033[32m"
#define RED "\033[31m"
#define PLAIN "\033[0m"

static const char *const format_names[_TRACE_FORMAT_MAX] = {
        [TRACE_FORMAT_TEXT] = "text",
        [TRACE_FORMAT_JSON] = "json",
        [TRACE_FORMAT_PERFETTO] = "perfetto",
};
const struct string_table trace_format_table = STRING_TABLE(format_names);

/* ---- Names ---- */

struct number_name {
        unsigned number;
        const char *name;
};

static const struct number_name calls[] = {
        { HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE, "FlushVirtualAddressSpace" },
        { HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST, "FlushVirtualAddressList" },
        { HVCALL_NOTIFY_LONG_SPIN_WAIT, "NotifyLongSpinWait" },
        { HVCALL_SEND_SYNTHETIC_CLUSTER_IPI, "SendSyntheticClusterIpi" },
        { HVCALL_MODIFY_VTL_PROTECTION_MASK, "ModifyVtlProtectionMask" },
        { HVCALL_ENABLE_PARTITION_VTL, "EnablePartitionVtl" },
        { HVCALL_ENABLE_VP_VTL, "EnableVpVtl" },
        { HVCALL_VTL_CALL, "VtlCall" },
        { HVCALL_VTL_RETURN, "VtlReturn" },
        { HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX, "FlushVirtualAddressSpaceEx" },
        { HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX, "FlushVirtualAddressListEx" },
        { HVCALL_SEND_SYNTHETIC_CLUSTER_IPI_EX, "SendSyntheticClusterIpiEx" },
        { HVCALL_INSTALL_INTERCEPT, "InstallIntercept" },
        { HVCALL_GET_VP_REGISTERS, "GetVpRegisters" },
        { HVCALL_SET_VP_REGISTERS, "SetVpRegisters" },
        { HVCALL_TRANSLATE_VIRTUAL_ADDRESS, "TranslateVirtualAddress" },
        { HVCALL_POST_MESSAGE, "PostMessage" },
        { HVCALL_SIGNAL_EVENT, "SignalEvent" },
        { HVCALL_ASSERT_VIRTUAL_INTERRUPT, "AssertVirtualInterrupt" },
        { HVCALL_START_VIRTUAL_PROCESSOR, "StartVirtualProcessor" },
        { HVCALL_GET_VP_INDEX_FROM_APIC_ID, "GetVpIndexFromApicId" },
        { HVCALL_TRANSLATE_VIRTUAL_ADDRESS_EX, "TranslateVirtualAddressEx" },
        { HVCALL_SIGNAL_EVENT_DIRECT, "SignalEventDirect" },
        { HVCALL_POST_MESSAGE_DIRECT, "PostMessageDirect" },
        { HVCALL_CHECK_SPARSE_GPA_PAGE_VTL_ACCESS, "CheckSparseGpaPageVtlAccess" },
        { HVCALL_EXT_QUERY_CAPABILITIES, "ExtCallQueryCapabilities" },
};

#define STATUS(name) \
        { HV_STATUS_##name, #name }
static const struct number_name statuses[] = {
        STATUS(SUCCESS),
        STATUS(INVALID_HYPERCALL_CODE),
        STATUS(INVALID_HYPERCALL_INPUT),
        STATUS(INVALID_ALIGNMENT),
        STATUS(INVALID_PARAMETER),
        STATUS(ACCESS_DENIED),
        STATUS(INVALID_PARTITION_STATE),
        STATUS(OPERATION_DENIED),
        STATUS(INSUFFICIENT_MEMORY),
        STATUS(INVALID_PARTITION_ID),
        STATUS(INVALID_VP_INDEX),
        STATUS(INVALID_CONNECTION_ID),
        STATUS(INSUFFICIENT_BUFFERS),
        STATUS(INVALID_VP_STATE),
        STATUS(INVALID_SYNIC_STATE),
        STATUS(OBJECT_IN_USE),
        STATUS(INVALID_REGISTER_VALUE),
        STATUS(INVALID_VTL_STATE),
        STATUS(TIMEOUT),
        STATUS(VTL_ALREADY_ENABLED),
};

static const char *find_name(const struct number_name *names, size_t n, unsigned number) {
        for (size_t i = 0; i < n; i++)
                if (names[i].number == number)
                        return names[i].name;
        return NULL;
}

const char *trace_call_name(unsigned code) {
        return find_name(calls, ARRAY_SIZE(calls), code);
}

const char *trace_status_name(unsigned status) {
        return find_name(statuses, ARRAY_SIZE(statuses), status);
}

/* ---- The parts of a hypercall ---- */

struct call {
        unsigned code, status;
        unsigned reps, reps_done; /* 0 of 0: not a call with repetitions */
        bool done;                /* and has a status */
};

static struct call call_of(const struct vtl_trace_event *e) {
        return (struct call){ .code = (unsigned) (e->data & 0xffff),
                              .reps = (unsigned) (e->data >> 32 & 0xfff),
                              .done = e->detail == 0,
                              .status = (unsigned) (e->extra & 0xffff),
                              .reps_done = (unsigned) (e->extra >> 32 & 0xfff) };
}

/* ---- JSON ---- */

static void add_number(struct json_object *o, const char *key, uint64_t value) {
        (void) json_object_object_add(o, key, json_object_new_uint64(value));
}

/* As text in hexadecimal digits for who knows no 64-bit numbers */
static void add_address(struct json_object *o, const char *key, uint64_t value, bool hex) {
        char text[20];

        if (!hex) {
                add_number(o, key, value);
                return;
        }
        (void) snprintf(text, sizeof(text), "0x%" PRIx64, value);
        (void) json_object_object_add(o, key, json_object_new_string(text));
}

static void add_text(struct json_object *o, const char *key, const char *value) {
        (void) json_object_object_add(o, key, json_object_new_string(value));
}

static void add_switch(struct json_object *o, const struct vtl_trace_event *e, bool hex) {
        add_number(o, "From", e->from);
        add_number(o, "To", e->to);
        add_text(o, "Reason", string_table_name(&vtl_trace_reason_table, e->detail & 0xff));
        (void) json_object_object_add(o, "Fast",
                                      json_object_new_boolean(e->detail & VTL_TRACE_HOT));
        add_address(o, "LeftRip", e->data, hex);
        add_address(o, "EnteredRip", e->extra, hex);
}

static void add_hypercall(struct json_object *o, const struct vtl_trace_event *e, bool hex) {
        const struct call c = call_of(e);

        add_number(o, "Vtl", e->from);
        add_number(o, "Code", c.code);
        if (trace_call_name(c.code))
                add_text(o, "Name", trace_call_name(c.code));
        add_address(o, "Control", e->data, hex);
        add_text(o, "Outcome", string_table_name(&vtl_trace_outcome_table, e->detail));
        if (!c.done)
                return;
        add_number(o, "Status", c.status);
        if (trace_status_name(c.status))
                add_text(o, "StatusName", trace_status_name(c.status));
        if (c.reps)
                add_number(o, "RepsDone", c.reps_done);
}

static void add_intercept(struct json_object *o, const struct vtl_trace_event *e, bool hex) {
        add_text(o, "Intercept", string_table_name(&vtl_trace_intercept_table, e->detail & 0xff));
        add_text(o, "Access", string_table_name(&vtl_trace_access_table, e->detail >> 8));
        add_address(o, "Address", e->data, hex);
        add_address(o, "Rip", e->extra, hex);
}

static void add_vector(struct json_object *o, const struct vtl_trace_event *e, bool hex) {
        add_number(o, "Vector", e->detail);
}

static void (*const adders[_VTL_TRACE_KIND_MAX])(struct json_object *o,
                                                 const struct vtl_trace_event *e, bool hex) = {
        [VTL_TRACE_SWITCH] = add_switch,       [VTL_TRACE_HYPERCALL] = add_hypercall,
        [VTL_TRACE_INTERCEPT] = add_intercept, [VTL_TRACE_INTERRUPT] = add_vector,
        [VTL_TRACE_VINA] = add_vector,
};

struct json_object *trace_members(const struct vtl_trace_event *e, bool hex) {
        struct json_object *o = json_object_new_object();

        adders[e->kind](o, e, hex);
        return o;
}

static void put_line(struct trace_writer *w, struct json_object *o) {
        (void) fprintf(w->file, "%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_SPACED));
        (void) json_object_put(o);
}

static void json_record(struct trace_writer *w, const struct trace_record *r) {
        struct json_object *o = json_object_new_object(),
                           *members = trace_members(&r->event, false);

        add_number(o, "Time", r->event.time);
        add_number(o, "Vp", r->vp);
        add_text(o, "Kind", string_table_name(&vtl_trace_kind_table, r->event.kind));
        json_object_object_foreach(members, key, value)(void)
                json_object_object_add(o, key, json_object_get(value));
        (void) json_object_put(members);
        put_line(w, o);
}

static void json_lost(struct trace_writer *w, unsigned vp, uint64_t records, uint64_t time) {
        struct json_object *o = json_object_new_object();

        add_number(o, "Time", time);
        add_number(o, "Vp", vp);
        add_text(o, "Kind", "lost");
        add_number(o, "Records", records);
        put_line(w, o);
}

static void json_rejected(struct trace_writer *w, uint64_t records, uint64_t time) {
        struct json_object *o = json_object_new_object();

        add_number(o, "Time", time);
        add_text(o, "Kind", "rejected");
        add_number(o, "Records", records);
        put_line(w, o);
}

/* ---- Text ---- */

static void text_begin(struct trace_writer *w) {
        (void) fputs("TIME             VP  VTL     WHAT\n", w->file);
}

static void put_time(struct trace_writer *w, uint64_t time) {
        uint64_t ns = time + (uint64_t) w->realtime_offset;
        time_t seconds = (time_t) (ns / 1000000000);
        char when[16];
        struct tm tm;

        if (!localtime_r(&seconds, &tm) || strftime(when, sizeof(when), "%T", &tm) == 0)
                (void) snprintf(when, sizeof(when), "??:??:??");
        (void) fprintf(w->file, "%s.%06u", when, (unsigned) (ns % 1000000000 / 1000));
}

static void text_hypercall(FILE *f, const struct vtl_trace_event *e) {
        const struct call c = call_of(e);
        const char *name = trace_call_name(c.code), *status = trace_status_name(c.status);

        (void) fprintf(f, "hypercall %s (0x%04x)", name ? name : "?", c.code);
        if (!c.done)
                (void) fprintf(f, ": %s", string_table_name(&vtl_trace_outcome_table, e->detail));
        else if (status)
                (void) fprintf(f, ": %s", status);
        else
                (void) fprintf(f, ": status 0x%x", c.status);
        if (c.done && c.reps)
                (void) fprintf(f, ", %u of %u", c.reps_done, c.reps);
}

static void text_intercept(FILE *f, const struct vtl_trace_event *e) {
        (void) fprintf(f, "intercepted %s of %s 0x%" PRIx64 ", RIP 0x%" PRIx64,
                       string_table_name(&vtl_trace_access_table, e->detail >> 8),
                       string_table_name(&vtl_trace_intercept_table, e->detail & 0xff), e->data,
                       e->extra);
}

static void text_event(FILE *f, const struct vtl_trace_event *e) {
        switch (e->kind) {
        case VTL_TRACE_SWITCH:
                (void) fprintf(f, "%s%s, RIP 0x%" PRIx64 " to 0x%" PRIx64,
                               string_table_name(&vtl_trace_reason_table, e->detail & 0xff),
                               e->detail & VTL_TRACE_HOT ? " by the VMM" : "", e->data, e->extra);
                break;
        case VTL_TRACE_HYPERCALL:
                text_hypercall(f, e);
                break;
        case VTL_TRACE_INTERCEPT:
                text_intercept(f, e);
                break;
        case VTL_TRACE_INTERRUPT:
                (void) fprintf(f, "gets %s 0x%02x", e->detail == 2 ? "NMI" : "interrupt",
                               e->detail);
                break;
        default:
                (void) fprintf(f, "is told by VINA 0x%02x that VTL0 has an interrupt", e->detail);
                break;
        }
}

static void text_record(struct trace_writer *w, const struct trace_record *r) {
        const struct vtl_trace_event *e = &r->event;
        bool is_switch = e->kind == VTL_TRACE_SWITCH;
        const char *colour = !w->colours                    ? NULL
                           : is_switch && e->to == 1        ? GREEN
                           : e->kind == VTL_TRACE_INTERCEPT ? RED
                                                            : NULL;

        put_time(w, e->time);
        if (is_switch)
                (void) fprintf(w->file, "  %2u  %u -> %u  ", r->vp, e->from, e->to);
        else
                (void) fprintf(w->file, "  %2u  %u       ", r->vp,
                               e->kind == VTL_TRACE_INTERCEPT ? e->from : e->to);
        (void) fputs(colour ? colour : "", w->file);
        text_event(w->file, e);
        (void) fprintf(w->file, "%s\n", colour ? PLAIN : "");
}

static void put_warning(struct trace_writer *w, uint64_t records, const char *what) {
        (void) fprintf(w->file, "%s%" PRIu64 " record%s %s%s\n", w->colours ? RED : "", records,
                       records == 1 ? "" : "s", what, w->colours ? PLAIN : "");
}

static void text_lost(struct trace_writer *w, unsigned vp, uint64_t records, uint64_t time) {
        put_time(w, time);
        (void) fprintf(w->file, "  %2u  -       ", vp);
        put_warning(w, records, "lost");
}

static void text_rejected(struct trace_writer *w, uint64_t records, uint64_t time) {
        put_time(w, time);
        (void) fprintf(w->file, "   -  -       ");
        put_warning(w, records, "left out, which cannot be");
}

/* ---- One or the other ---- */

static void nothing(struct trace_writer *w) {
}

static const struct {
        void (*begin)(struct trace_writer *w);
        void (*record)(struct trace_writer *w, const struct trace_record *r);
        void (*lost)(struct trace_writer *w, unsigned vp, uint64_t records, uint64_t time);
        void (*rejected)(struct trace_writer *w, uint64_t records, uint64_t time);
        void (*end)(struct trace_writer *w);
} formats[_TRACE_FORMAT_MAX] = {
        [TRACE_FORMAT_TEXT] = { text_begin, text_record, text_lost, text_rejected, nothing },
        [TRACE_FORMAT_JSON] = { nothing, json_record, json_lost, json_rejected, nothing },
        [TRACE_FORMAT_PERFETTO] = { trace_perfetto_begin, trace_perfetto_record,
                                    trace_perfetto_lost, trace_perfetto_rejected,
                                    trace_perfetto_end },
};

void trace_begin(struct trace_writer *w) {
        formats[w->format].begin(w);
}

static void note_time(struct trace_writer *w, uint64_t time) {
        if (w->first == 0)
                w->first = time;
        w->last = MAX(w->last, time);
}

void trace_record(struct trace_writer *w, const struct trace_record *r) {
        note_time(w, r->event.time);
        formats[w->format].record(w, r);
}

void trace_lost(struct trace_writer *w, unsigned vp, uint64_t records, uint64_t time) {
        note_time(w, time);
        formats[w->format].lost(w, vp, records, time);
}

void trace_rejected(struct trace_writer *w, uint64_t records, uint64_t time) {
        note_time(w, time);
        formats[w->format].rejected(w, records, time);
}

void trace_end(struct trace_writer *w) {
        formats[w->format].end(w);
}
