/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

#include "daemon/vtlctl-rates.h"
#include "daemon/vtlctl.h"
#include "util/util.h"

#define INTERVAL_DEFAULT 2.0
#define INTERVAL_MIN 0.1
#define INTERVAL_MAX 3600.0
#define COUNT_MAX 1000000000ul
#define LINES_BESIDE 3u /* head line, titles, and the cursor's */
#define CLEAR "\033[H\033[J"
#define GREEN "\033[32m"

struct top {
        struct vtlctl *c;
        const char *what; /* VM; NULL: all */
        bool terminal;
        double interval;
        uint64_t count; /* 0: until interrupted */
};

/* One reading of all counters */
struct reading {
        struct json_object *vms;
        double when;
};

static double monotonic(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

static int parse_interval(const char *text, double *ret) {
        char *end;

        if (!text) {
                *ret = INTERVAL_DEFAULT;
                return 0;
        }
        *ret = strtod(text, &end);
        return *text && !*end && isfinite(*ret) && *ret >= INTERVAL_MIN && *ret <= INTERVAL_MAX
                     ? 0
                     : -EINVAL;
}

static int take_reading(const struct top *t, struct reading *ret) {
        struct json_object *root, *vms = NULL, *vm;
        int r;

        r = objects_fetch(t->c, &root);
        if (r < 0)
                return r;
        ret->when = monotonic();
        if (t->what) {
                vm = objects_find(root, t->what);
                if (vm) {
                        ret->vms = json_object_new_array();
                        (void) json_object_array_add(ret->vms, json_object_get(vm));
                } else
                        r = -ENOENT;
        } else {
                (void) json_object_object_get_ex(root, "VirtualMachines", &vms);
                ret->vms = json_object_get(vms);
        }
        (void) json_object_put(root);
        return r;
}

static size_t rows_of_terminal(const struct top *t) {
        struct winsize size;

        if (!t->terminal || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 ||
            size.ws_row <= LINES_BESIDE)
                return SIZE_MAX;
        return size.ws_row - LINES_BESIDE;
}

static void show(const struct top *t, struct json_object *rows, double seconds) {
        struct column columns[3 + RATES_N] = { { "VM", ALIGN_LEFT },
                                               { "VP", ALIGN_RIGHT },
                                               { "VTL", ALIGN_RIGHT } };
        size_t n = json_object_array_length(rows), shown = MIN(n, rows_of_terminal(t));
        struct table *table;

        for (size_t i = 0; i < RATES_N; i++)
                columns[3 + i] = (struct column){ rates[i].title, ALIGN_RIGHT };
        table = table_new(columns, ARRAY_SIZE(columns));
        if (!table)
                return;
        for (size_t i = 0; i < shown; i++) {
                struct json_object *vp = json_object_array_get_idx(rows, i);
                uint64_t vtl = json_number(vp, "ActiveVtl");

                table_cell(table, NULL, "%s", json_text(vp, "Name"));
                table_cell(table, NULL, "%llu", (unsigned long long) json_number(vp, "Vp"));
                table_cell(table, vtl ? GREEN : NULL, "%llu", (unsigned long long) vtl);
                for (size_t j = 0; j < RATES_N; j++)
                        table_cell(
                                table, NULL, "%.0f",
                                json_object_get_double(json_object_object_get(vp, rates[j].name)));
        }
        if (t->terminal)
                (void) fputs(CLEAR, stdout);
        (void) printf("%zu VPs, in the last %.1f seconds", n, seconds);
        if (shown < n)
                (void) printf("; the %zu busiest", shown);
        (void) putchar('\n');
        table_print(table, t->c->colours);
        if (!t->terminal)
                (void) putchar('\n');
        (void) table_free(table);
}

static void print(const struct top *t, const struct reading *before, const struct reading *after) {
        double seconds = after->when - before->when;
        struct json_object *rows = rates_compute(before->vms, after->vms, seconds), *o;

        if (t->c->json) {
                o = json_object_new_object();
                (void) json_object_object_add(o, "Seconds", json_object_new_double(seconds));
                (void) json_object_object_add(o, "VirtualProcessors", json_object_get(rows));
                print_json(o, 0);
                (void) json_object_put(o);
        } else
                show(t, rows, seconds);
        (void) fflush(stdout);
        (void) json_object_put(rows);
}

/* Return: whether it was interrupted */
static bool wait_interval(const struct top *t, const sigset_t *signals) {
        struct timespec ts = { .tv_sec = (time_t) t->interval };

        ts.tv_nsec = (long) ((t->interval - (double) ts.tv_sec) * 1e9);
        return sigtimedwait(signals, NULL, &ts) > 0;
}

static int run(const struct top *t) {
        struct reading before = { NULL, 0 }, after = { NULL, 0 };
        sigset_t signals;
        int r;

        r = vtlctl_catch_end(&signals);
        if (r < 0)
                return r;
        r = take_reading(t, &before);
        for (uint64_t i = 0; r >= 0 && (t->count == 0 || i < t->count); i++) {
                if (wait_interval(t, &signals) || ferror(stdout))
                        break;
                r = take_reading(t, &after);
                if (r < 0)
                        break;
                print(t, &before, &after);
                (void) json_object_put(before.vms);
                before = after;
        }
        (void) json_object_put(before.vms);
        return r;
}

int verb_top(struct vtlctl *c, int argc, char **argv) {
        struct top t = { .c = c,
                         .what = argc > 0 ? argv[0] : NULL,
                         .terminal = isatty(STDOUT_FILENO) && !c->json };

        if (parse_interval(c->options[VTLCTL_OPTION_INTERVAL], &t.interval) < 0)
                return vtlctl_bad_usage("--interval is a number of seconds from 0.1 to 3600");
        if (vtlctl_number(c, VTLCTL_OPTION_COUNT, 1, COUNT_MAX, &t.count) < 0)
                return vtlctl_bad_usage("--count is a number from 1 on");
        return run(&t) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
