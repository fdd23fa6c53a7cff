/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the mutants share. */

#include "tests/differential/mutants.h"

#define START_FIELD (HV_CONTROL_REP_MASK << HV_CONTROL_REP_START_SHIFT)
#define COUNT_FIELD (HV_CONTROL_REP_MASK << HV_CONTROL_REP_COUNT_SHIFT)
#define VARHDR_FIELD (HV_CONTROL_VARHDR_MASK << HV_CONTROL_VARHDR_SHIFT)

/* One dispatch of a mutant: what it was called with, and what it hands on to the engine. */
struct mutation {
        struct caller *c;
        struct hv_io inner; /* the caller's */
        struct hv_io io;    /* the engine's */
        struct hv_call table[CASE_ROWS_MAX];
        uint64_t saved[REGS];
        struct case_page page[CASE_PAGES_MAX]; /* as they were */
        uint64_t control;
        bool long_mode, fast;
        uint16_t count, start;
        const struct hv_call *row; /* the caller's, NULL: unknown */
        uint32_t in_len, out_len;
        uint64_t in_gpa, out_gpa;
        int hidden; /* the status that a handler answered */
        bool refuse;
};

struct mutant {
        const char *name;
        void (*before)(struct mutation *m);
        void (*after)(struct mutation *m, int *r);
        caller_hot_path_fn *hot_path;
};

/* The dispatch that is going on: io functions and handlers are given the caller alone. */
extern struct mutation mutation_now;

extern const struct mutant mutants_of_control[], mutants_of_blocks[];
extern const size_t mutants_of_control_n, mutants_of_blocks_n;

/* By the convention of the caller's mode; in 32-bit mode upper halves stay as they are. */
void mutant_set_control(struct mutation *m, uint64_t value);
void mutant_set_input(struct mutation *m, uint64_t value);
void mutant_set_output(struct mutation *m, uint64_t value);

uint64_t mutant_get_result(const struct mutation *m);
void mutant_set_result(struct mutation *m, uint64_t status, uint64_t reps);
/* The status of a call that is over, else 0 */
uint16_t mutant_status_of(const struct mutation *m, int r);
uint16_t mutant_reps_of(const struct mutation *m);

bool mutant_is_kind(const struct mutation *m, enum hv_call_kind kind);
/* Undoes what was done to parameter registers before, where the engine has put nothing since. */
void mutant_put_back(struct mutation *m, int *r);
