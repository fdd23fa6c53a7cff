/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/vtlctl-trace-format.h"
#include "daemon/vtlctl.h"
#include "util/util.h"
#include "vtl/control.h"

#define POLL_NS 20000000l
#define BUSY_RECORDS 200u /* a reading that has so many is followed by the next one at once */
#define RECORDS_MAX 4096u /* more than one answer has */
#define SECONDS_MAX 86400.0
#define COUNT_MAX 1000000000000ull
#define VP_ALL UINT_MAX

struct trace {
        struct vtlctl *c;
        const char *path; /* of the VM's object */
        struct trace_writer writer;
        uint64_t positions[VTL_MAX_VPS];
        uint64_t lost[VTL_MAX_VPS]; /* of the last reading */
        uint64_t rejected;
        struct trace_record *records;
        size_t n;
        uint64_t written, all_lost, all_rejected;
        uint64_t count; /* 0: no limit */
        uint64_t until; /* CLOCK_MONOTONIC, ns; 0: no limit */
        bool gone;      /* the VM is */
        unsigned vp;    /* VP_ALL: all */
};

/* ---- A reading ---- */

static int read_record(sd_bus_message *m, struct trace_record *ret) {
        struct vtl_trace_event *e = &ret->event;
        uint32_t vp;
        int r;

        r = sd_bus_message_read(m, "(utyyyqtt)", &vp, &e->time, &e->kind, &e->from, &e->to,
                                &e->detail, &e->data, &e->extra);
        ret->vp = vp;
        return r;
}

static int read_records(struct trace *t, sd_bus_message *m) {
        int r;

        t->n = 0;
        r = sd_bus_message_enter_container(m, 'a', "(utyyyqtt)");
        while (r >= 0) {
                struct trace_record record;

                r = read_record(m, &record);
                if (r <= 0)
                        break;
                /* What is formatted is looked up in tables. */
                if (t->n == RECORDS_MAX || record.vp >= t->writer.vps ||
                    !vtl_trace_event_valid(&record.event, UINT64_MAX))
                        return -EBADMSG;
                record.order = (unsigned) t->n;
                t->records[t->n++] = record;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_numbers(sd_bus_message *m, uint64_t *numbers, unsigned n) {
        const void *array;
        size_t size;
        int r;

        r = sd_bus_message_read_array(m, 't', &array, &size);
        if (r < 0)
                return r;
        if (size != n * sizeof(*numbers))
                return -EBADMSG;
        memcpy(numbers, array, size);
        return 0;
}

static bool is_gone(const sd_bus_error *e) {
        return sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_OBJECT) ||
               sd_bus_error_has_name(e, VTLD_BUS_NAME ".Error.NoSuchPartition");
}

/* @n: positions, 0 to begin. Return: 0 or a negative errno; what went wrong has been said. */
static int reading(struct trace *t, unsigned n) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL, *reply = NULL;
        int r;

        t->n = 0;
        memset(t->lost, 0, sizeof(t->lost));
        t->rejected = 0;
        r = sd_bus_message_new_method_call(t->c->bus, &m, VTLD_BUS_NAME, t->path,
                                           VTLD_BUS_NAME ".Partition", "ReadTrace");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 't', t->positions, n * sizeof(t->positions[0]));
        if (r >= 0)
                r = sd_bus_call(t->c->bus, m, 0, &error, &reply);
        if (r >= 0)
                r = read_records(t, reply);
        if (r >= 0)
                r = read_numbers(reply, t->positions, t->writer.vps);
        if (r >= 0)
                r = read_numbers(reply, t->lost, t->writer.vps);
        if (r >= 0)
                r = sd_bus_message_read(reply, "t", &t->rejected);
        t->gone = r < 0 && is_gone(&error);
        if (r < 0 && !t->gone)
                (void) vtlctl_complain(NULL, error.message ? error.message : strerror(-r));
        (void) sd_bus_message_unref(m);
        (void) sd_bus_message_unref(reply);
        sd_bus_error_free(&error);
        return r < 0 ? r : 0;
}

/* Of different VPs; those of one are in the right order and stay so. */
static int compare(const void *a, const void *b) {
        const struct trace_record *x = a, *y = b;

        if (x->event.time != y->event.time)
                return x->event.time < y->event.time ? -1 : 1;
        return x->order < y->order ? -1 : x->order > y->order;
}

static bool is_complete(const struct trace *t) {
        return t->count != 0 && t->written >= t->count;
}

static void write_out(struct trace *t) {
        struct trace_writer *w = &t->writer;
        uint64_t time;

        qsort(t->records, t->n, sizeof(t->records[0]), compare);
        /* What is missing was before what is there. */
        time = t->n > 0 ? t->records[0].event.time : monotonic_ns();
        for (unsigned vp = 0; vp < w->vps; vp++)
                if (t->lost[vp] > 0) {
                        trace_lost(w, vp, t->lost[vp], time);
                        t->all_lost += t->lost[vp];
                }
        if (t->rejected > 0)
                trace_rejected(w, t->rejected, time);
        t->all_rejected += t->rejected;
        for (size_t i = 0; i < t->n && !is_complete(t); i++) {
                trace_record(w, &t->records[i]);
                t->written++;
        }
        (void) fflush(w->file);
}

/* ---- Until it is over ---- */

/* Return: whether it was interrupted, or the time is over */
static bool wait_a_little(const struct trace *t, const sigset_t *signals) {
        const struct timespec ts = { .tv_nsec = t->n >= BUSY_RECORDS ? 0 : POLL_NS };

        return sigtimedwait(signals, NULL, &ts) > 0 ||
               (t->until != 0 && monotonic_ns() >= t->until);
}

static int follow(struct trace *t) {
        bool last = false;
        sigset_t signals;
        int r;

        r = vtlctl_catch_end(&signals);
        if (r < 0)
                return r;
        r = reading(t, 0);
        for (unsigned i = 0; i < t->writer.vps; i++)
                if (t->vp != VP_ALL && i != t->vp)
                        t->positions[i] = UINT64_MAX;
        /* What was written until the end belongs to it. */
        while (r == 0 && !last && !is_complete(t) && !ferror(t->writer.file)) {
                last = wait_a_little(t, &signals);
                r = reading(t, t->writer.vps);
                if (r == 0)
                        write_out(t);
        }
        return t->gone ? 0 : r;
}

static int64_t realtime_offset(void) {
        struct timespec real;

        (void) clock_gettime(CLOCK_REALTIME, &real);
        return (int64_t) ((uint64_t) real.tv_sec * 1000000000 + (uint64_t) real.tv_nsec -
                          monotonic_ns());
}

static int run(struct trace *t) {
        const char *output = t->c->options[VTLCTL_OPTION_OUTPUT];
        struct trace_writer *w = &t->writer;
        int r;

        w->file = output ? fopen(output, "we") : stdout;
        if (!w->file)
                return vtlctl_complain(output, strerror(errno));
        w->realtime_offset = realtime_offset();
        trace_begin(w);
        (void) fflush(w->file);
        r = follow(t);
        trace_end(w);
        if (fflush(w->file) != 0 || ferror(w->file))
                r = vtlctl_complain(output ? output : "output", strerror(errno ? errno : EIO));
        if (output && fclose(w->file) != 0 && r == 0)
                r = vtlctl_complain(output, strerror(errno));
        if (t->gone)
                (void) fputs("vtlctl: the VM is gone\n", stderr);
        if (output)
                (void) fprintf(stderr,
                               "vtlctl: %" PRIu64 " records, %" PRIu64 " lost, %" PRIu64
                               " impossible\n",
                               t->written, t->all_lost, t->all_rejected);
        return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- Options ---- */

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static int parse_options(struct trace *t) {
        const char *const *o = t->c->options;
        const char *format = o[VTLCTL_OPTION_FORMAT];
        uint64_t vp = 0;
        double seconds;
        char *end;
        int f;

        f = format     ? string_table_value(&trace_format_table, format)
          : t->c->json ? TRACE_FORMAT_JSON
                       : TRACE_FORMAT_TEXT;
        if (f < 0 || (t->c->json && f != TRACE_FORMAT_JSON))
                return vtlctl_bad_usage("--format is text, json or perfetto");
        t->writer.format = (enum trace_format) f;
        if (vtlctl_number(t->c, VTLCTL_OPTION_VP, 0, VTL_MAX_VPS - 1, &vp) < 0)
                return vtlctl_bad_usage("--vp is the number of a virtual processor");
        if (o[VTLCTL_OPTION_VP])
                t->vp = (unsigned) vp;
        if (vtlctl_number(t->c, VTLCTL_OPTION_COUNT, 1, COUNT_MAX, &t->count) < 0)
                return vtlctl_bad_usage("--count is a number from 1 on");
        if (o[VTLCTL_OPTION_SECONDS]) {
                seconds = strtod(o[VTLCTL_OPTION_SECONDS], &end);
                if (!is_digit(*o[VTLCTL_OPTION_SECONDS]) || *end || !isfinite(seconds) ||
                    seconds > SECONDS_MAX)
                        return vtlctl_bad_usage("--seconds is a number up to 86400");
                t->until = monotonic_ns() + (uint64_t) (seconds * 1e9);
        }
        return -1;
}

static int trace_vm(struct trace *t, struct json_object *vm) {
        struct trace_writer *w = &t->writer;
        int status = EXIT_FAILURE;

        t->path = json_text(vm, "ObjectPath");
        w->name = json_text(vm, "Name");
        w->uuid = json_text(vm, "Uuid");
        w->vps = (unsigned) json_number(vm, "VpCount");
        if (w->vps == 0 || w->vps > VTL_MAX_VPS)
                return vtlctl_complain(NULL,
                                       "vtld does not say how many virtual processors there are");
        if (t->vp != VP_ALL && t->vp >= w->vps)
                return vtlctl_complain(NULL, "the VM has no such virtual processor");
        w->vp_states = calloc(w->vps, sizeof(*w->vp_states));
        t->records = calloc(RECORDS_MAX, sizeof(*t->records));
        if (w->vp_states && t->records)
                status = run(t);
        else
                (void) vtlctl_complain(NULL, strerror(ENOMEM));
        free(w->vp_states);
        free(t->records);
        return status;
}

int verb_trace(struct vtlctl *c, int argc, char **argv) {
        struct trace t = { .c = c,
                           .vp = VP_ALL,
                           .writer.colours = c->colours && !c->options[VTLCTL_OPTION_OUTPUT] };
        struct json_object *root, *vm;
        int status;

        status = parse_options(&t);
        if (status >= 0)
                return status;
        if (vtlctl_connect(c) < 0 || objects_fetch(c, &root) < 0)
                return EXIT_FAILURE;
        vm = objects_find(root, argv[0]);
        status = vm ? trace_vm(&t, vm) : EXIT_FAILURE;
        (void) json_object_put(root);
        return status;
}
