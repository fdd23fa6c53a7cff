/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/vtlctl-rates.h"
#include "daemon/vtlctl.h"
#include "util/util.h"

/* The first one is what VPs are sorted by. */
const struct rate rates[RATES_N] = {
        { "Switches", "SWITCHES/S", { "VtlCalls", "VtlReturns", "InterruptEntries" } },
        { "FastSwitches", "FAST/S", { "FastSwitches" } },
        { "InterruptEntries", "BY INTERRUPT/S", { "InterruptEntries" } },
        { "Hypercalls", "HYPERCALLS/S", { "Hypercalls" } },
        { "Intercepts", "INTERCEPTS/S", { "Intercepts" } },
        { "EngineExits", "ENGINE EXITS/S", { "EngineExits" } },
        { "VcpuIoctls", "IOCTLS/S", { "VcpuIoctls" } },
};

static struct json_object *vps_of(struct json_object *vm) {
        struct json_object *vps = NULL;

        (void) json_object_object_get_ex(vm, "VirtualProcessors", &vps);
        return json_object_is_type(vps, json_type_array) ? vps : NULL;
}

static size_t length(struct json_object *array) {
        return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

/* The same VM, not one that was attached anew under its UUID */
static struct json_object *find_vm(struct json_object *vms, struct json_object *vm) {
        for (size_t i = 0; i < length(vms); i++) {
                struct json_object *other = json_object_array_get_idx(vms, i);

                if (strcmp(json_text(other, "Uuid"), json_text(vm, "Uuid")) == 0)
                        return json_number(other, "AttachedAt") == json_number(vm, "AttachedAt")
                                     ? other
                                     : NULL;
        }
        return NULL;
}

static struct json_object *find_vp(struct json_object *vps, uint64_t index) {
        for (size_t i = 0; i < length(vps); i++) {
                struct json_object *vp = json_object_array_get_idx(vps, i);

                if (json_number(vp, "Index") == index)
                        return vp;
        }
        return NULL;
}

/* A counter that went back is the word of a worker or a VMM that lies: nothing happened, then. */
static double rate_of(const struct rate *rate, struct json_object *before,
                      struct json_object *after, double seconds) {
        double n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(rate->counters) && rate->counters[i]; i++) {
                uint64_t from = json_number(before, rate->counters[i]),
                         to = json_number(after, rate->counters[i]);

                if (to > from)
                        n += (double) (to - from);
        }
        return seconds > 0 ? n / seconds : 0;
}

static struct json_object *row(struct json_object *vm, struct json_object *before,
                               struct json_object *after, double seconds) {
        struct json_object *o = json_object_new_object();

        (void) json_object_object_add(o, "Uuid", json_object_new_string(json_text(vm, "Uuid")));
        (void) json_object_object_add(o, "Name", json_object_new_string(json_text(vm, "Name")));
        (void) json_object_object_add(o, "Vp", json_object_new_uint64(json_number(after, "Index")));
        (void) json_object_object_add(o, "ActiveVtl",
                                      json_object_new_uint64(json_number(after, "ActiveVtl")));
        for (size_t i = 0; i < RATES_N; i++)
                (void) json_object_object_add(
                        o, rates[i].name,
                        json_object_new_double(rate_of(&rates[i], before, after, seconds)));
        return o;
}

static int compare_numbers(double a, double b) {
        return (a > b) - (a < b);
}

/* The busiest first; then by name and index, so that what is idle stays in its place */
static int compare_rows(const void *a, const void *b) {
        struct json_object *x = *(struct json_object *const *) a,
                           *y = *(struct json_object *const *) b;
        int r = 0;

        for (size_t i = 0; i < RATES_N && r == 0; i++)
                r = compare_numbers(
                        json_object_get_double(json_object_object_get(y, rates[i].name)),
                        json_object_get_double(json_object_object_get(x, rates[i].name)));
        if (r == 0)
                r = strcmp(json_text(x, "Name"), json_text(y, "Name"));
        if (r == 0)
                r = strcmp(json_text(x, "Uuid"), json_text(y, "Uuid"));
        return r ? r
                 : compare_numbers((double) json_number(x, "Vp"), (double) json_number(y, "Vp"));
}

struct json_object *rates_compute(struct json_object *before, struct json_object *after,
                                  double seconds) {
        struct json_object *rows = json_object_new_array();

        for (size_t i = 0; i < length(after); i++) {
                struct json_object *vm = json_object_array_get_idx(after, i), *vps = vps_of(vm),
                                   *old = vps_of(find_vm(before, vm));

                for (size_t j = 0; j < length(vps); j++) {
                        struct json_object *vp = json_object_array_get_idx(vps, j),
                                           *old_vp = find_vp(old, json_number(vp, "Index"));

                        if (old_vp)
                                (void) json_object_array_add(rows, row(vm, old_vp, vp, seconds));
                }
        }
        json_object_array_sort(rows, compare_rows);
        return rows;
}
