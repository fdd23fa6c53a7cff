/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The four calls that flush translations of guest-virtual addresses, vsm.md 3.11. */

#include "hv.h"

#define FLUSH_ALL_PROCESSORS (1ull << 0)
#define FLUSH_ALL_SPACES (1ull << 1)
#define FLUSH_NON_GLOBAL (1ull << 2)
#define FLUSH_EXTENDED_RANGES (1ull << 3)
#define FLUSH_USE_TARGET_VTL (1ull << 4)
#define FLUSH_VTL0 (1ull << 8)
#define FLUSH_VTL1 (1ull << 9)

#define VP_SET_SPARSE 0
#define VP_SET_ALL 1

enum flush_call {
        FLUSH_SPACE,
        FLUSH_LIST,
        FLUSH_SPACE_EX,
        FLUSH_LIST_EX,
        FLUSH_CALLS,
};

#define FLUSH_RANGES 16

struct flush {
        enum flush_call call;
        bool fast; /* parameters in registers, most of them XMM */
        uint64_t space, flags;
        uint64_t mask;          /* of VPs; of Ex calls the first bank */
        uint64_t format, valid; /* Ex: VP_SET_*, mask of banks */
        unsigned banks;         /* Ex: how many there are; the others are 0 */
        unsigned ranges;        /* lists */
        uint64_t range[FLUSH_RANGES];
        uint64_t control; /* bits to change in the control word */
};

extern const char *const flush_names[FLUSH_CALLS];

/* A good call of that kind: a list has the pages of the window's start, two ranges. */
struct flush flush_call(enum flush_call call, bool fast, uint64_t flags, uint64_t mask);
/* The whole result value */
uint64_t flush_send(const struct flush *f);
/* Both in one; the status */
unsigned flush(enum flush_call call, bool fast, uint64_t flags, uint64_t mask);
