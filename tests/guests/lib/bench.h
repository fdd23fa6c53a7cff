/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the guests that measure have in common: everything in turn, in so many rounds, so that what
 * is compared was measured at nearly the same time; a round is shorter than what the host's
 * scheduler gives to others, so that the best one was disturbed by nobody. At the end one line
 * each, "bench NAME ROUNDS COUNT BEST_NS MEDIAN_NS", the times being those of COUNT together.
 *
 * Command line: rounds=N, and OPTION=N for each row: how often in a round, 0 leaves it out.
 *
 * Time is the TSC's: reading the reference counter is a handoff to the engine. How fast the TSC
 * runs, the reference counter tells when all is over, and is printed as "tsc KHZ". A guest without
 * trust levels has no reference counter: it is told as khz=KHZ what another guest printed.
 */

#include "hv.h"

/**
 * struct bench - a row of measurements
 * @option: on the command line
 * @name: in the output
 * @usual: how often when nothing is said
 * @run: measures @n times, and returns the ticks of the TSC
 * @each: what one time is counted as: the pages of a list
 * @arg: for @run
 */
struct bench {
        const char *option;
        const char *name;
        uint64_t usual;
        uint64_t (*run)(const struct bench *b, uint64_t n);
        uint64_t each;
        uint64_t arg;
};

/* Begins with VTL protection on, unless it is told khz=. */
void bench_begin(void);
void bench_all(const struct bench *rows, unsigned n_rows);

/* Puts @value where it belongs among the @n that are there. */
void bench_sort_in(uint64_t *sorted, uint64_t n, uint64_t value);

/* Exits to the VMM that are nobody's. The first row of every guest: what others are compared
 * with. */
uint64_t bench_raw(const struct bench *b, uint64_t n);
