/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What VPs do in a second, from two readings of their counters: for `vtlctl top`.
 */

#include <json-c/json.h>

/**
 * rates_compute() - the difference between two readings
 * @before: array of VMs, as objects_fetch() makes it
 * @after: the same, @seconds later
 *
 * A VP that is not in both, or whose VM was attached anew in between, is left out.
 *
 * Return: an array of {"Uuid", "Name", "Vp", "ActiveVtl", "Switches", ...}, the busiest first.
 */
struct json_object *rates_compute(struct json_object *before, struct json_object *after,
                                  double seconds);

/* The names of the rates, and the columns of them */
struct rate {
        const char *name;
        const char *title;
        const char *counters[3]; /* properties of a VP that are added up */
};

#define RATES_N 7u
extern const struct rate rates[RATES_N];
