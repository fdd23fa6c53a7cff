/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#define UNHANDLED_PORT 0x80
#define ROUNDS_MAX 1000
#define RAW_ROUNDS_MIN 20
#define ROWS_MAX 16

/* Sorted, by TSC ticks. */
static uint64_t samples[ROWS_MAX][ROUNDS_MAX];
static uint64_t tsc_at_begin, time_at_begin, told_khz;

uint64_t bench_raw(const struct bench *b, uint64_t n) {
        uint64_t start = rdtsc();

        __asm__ volatile("1: outb %%al, %1; decq %0; jnz 1b"
                         : "+r"(n)
                         : "i"(UNHANDLED_PORT)
                         : "cc", "memory");
        return rdtsc() - start;
}

void bench_sort_in(uint64_t *sorted, uint64_t n, uint64_t value) {
        for (; n > 0 && sorted[n - 1] > value; n--)
                sorted[n] = sorted[n - 1];
        sorted[n] = value;
}

void bench_begin(void) {
        guest_silent();
        told_khz = cmdline_number("khz", 0);
        if (told_khz == 0) {
                vsm_protect();
                tsc_per_ms();
                time_at_begin = hv_time();
        }
        tsc_at_begin = rdtsc();
}

void bench_all(const struct bench *rows, unsigned n_rows) {
        uint64_t n[ROWS_MAX], done[ROWS_MAX] = { 0 }, rounds = cmdline_number("rounds", 10),
                              khz = told_khz;

        if (rounds == 0 || rounds > ROUNDS_MAX || n_rows > ROWS_MAX)
                bail_out("rounds=%lu is not a number from 1 to %u", rounds, ROUNDS_MAX);
        for (unsigned i = 0; i < n_rows; i++)
                n[i] = cmdline_number(rows[i].option, rows[i].usual);
        /* What all else is divided by is not left to one round. */
        for (uint64_t round = 0; round < rounds || round < RAW_ROUNDS_MIN; round++)
                for (unsigned i = 0; i < n_rows; i++)
                        if (n[i] > 0 && (round < rounds || i == 0))
                                bench_sort_in(samples[i], done[i]++, rows[i].run(&rows[i], n[i]));
        if (khz == 0) {
                uint64_t ticks = rdtsc() - tsc_at_begin;

                khz = ticks * 10000 / (hv_time() - time_at_begin);
        }
        print("tsc %lu\n", khz);
        for (unsigned i = 0; i < n_rows; i++)
                if (n[i] > 0)
                        print("bench %s %lu %lu %lu %lu\n", rows[i].name, done[i],
                              n[i] * rows[i].each, samples[i][0] * 1000000 / khz,
                              samples[i][done[i] / 2] * 1000000 / khz);
}
