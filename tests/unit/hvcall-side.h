/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The other side of a hypercall: a caller with registers, XMM and four pages of memory, and a table
 * of calls of every kind whose handlers compute something that can be foretold. For the unit test
 * and the fuzzer of the hypercall engine. The double checks the engine's promises to it (struct
 * hv_io) by itself, and aborts when one is broken.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hvcall/hvcall.h"

#define SIDE_GPA 0x10000ull
#define SIDE_PAGES 4u
#define SIDE_BYTES (SIDE_PAGES * HV_PAGE_SIZE)
#define SIDE_PAGE(n) (SIDE_GPA + HV_PAGE_SIZE * (n))
#define SIDE_FAST_BYTES 112u /* RDX, R8, XMM0-XMM5 */

enum side_right {
        SIDE_R = 1,
        SIDE_W = 2,
        SIDE_RW = 3,
};

enum side_reg {
        SIDE_RAX,
        SIDE_RBX,
        SIDE_RCX,
        SIDE_RDX,
        SIDE_RSI,
        SIDE_RDI,
        SIDE_R8,
        SIDE_REGS,
};

/* All that a guest could see of a call */
struct side_state {
        uint64_t reg[SIDE_REGS];
        uint8_t xmm[HV_XMM_PAIRS][16];
        uint8_t memory[SIDE_BYTES];
};

struct side {
        struct hv_io io;
        struct side_state now;
        uint8_t right[SIDE_PAGES]; /* enum side_right */

        /* What the io functions answer instead of working: HV_STATUS or -errno; 0: they work */
        int fail_read, fail_write, fail_probe, fail_get_xmm, fail_set_xmm;
        /* How often they were called */
        unsigned int reads, writes, probes, get_xmms, set_xmms, yields, switches;
        uint64_t yes_yields; /* bit n: the answer to question n of should_yield() */

        int switch_answer;
        bool switch_is_return;
        uint64_t switch_input;

        /* What the handlers are to do */
        const struct hv_call *row; /* the call being made, set by side_dispatch() */
        bool fails;
        uint16_t fail_at; /* absolute index; 0 for simple calls */
        int fail_with;
        uint16_t batch; /* prepare(): elements to serve at once */
        int prepare_with;
        int prepare_lie; /* added to *ret_done at the end: a broken handler */

        unsigned int handled, prepared;
        uint8_t seen[HV_INPUT_MAX]; /* the input, as far as handlers were given it */
};

/* Codes of side_table[] */
enum side_call {
        SIDE_SIMPLE_IN = 0x0001,       /* 16 bytes -> none */
        SIDE_SIMPLE_IN_OUT = 0x0002,   /* 24 -> 24 */
        SIDE_SIMPLE_OUT = 0x0003,      /* none -> 8 */
        SIDE_SIMPLE_VARIABLE = 0x0004, /* 8 and a variable header -> 8 */
        SIDE_SIMPLE_NOTHING = 0x0005,
        SIDE_SIMPLE_BIG = 0x0006,        /* 240 -> none */
        SIDE_REP_IN = 0x0007,            /* 16, 8 -> none: as ModifyVtlProtectionMask */
        SIDE_REP_SMALL = 0x0008,         /* 16, 4 -> 4: as GetVpIndexFromApicId */
        SIDE_REP_GET = 0x0009,           /* 16, 4 -> 16: as GetVpRegisters */
        SIDE_REP_SET = 0x000a,           /* 16, 32 -> none: as SetVpRegisters */
        SIDE_REP_VARIABLE = 0x000b,      /* 16 and a variable header, 8 -> 8 */
        SIDE_REP_BATCH = 0x000c,         /* 16, 8 -> 8, with prepare() */
        SIDE_REP_NO_HEADER = 0x000d,     /* none, 4 -> 8 */
        SIDE_REP_OUT = 0x000e,           /* 8, none -> 8 */
        SIDE_REP_ONLY_OUT = 0x000f,      /* none, none -> 4 */
        SIDE_VTL_CALL = HVCALL_VTL_CALL, /* needs HV_PRIV_VSM, as VtlReturn does */
        SIDE_VTL_RETURN = HVCALL_VTL_RETURN,
        SIDE_SIMPLE_PRIVILEGED = 0x0020, /* 16 -> none, needs HV_PRIV_VSM and _SYNIC */
        SIDE_REP_PRIVILEGED = 0x8021,    /* 16, 8 -> none, needs HV_PRIV_VSM */
};

extern const struct hv_call side_table[];
extern const size_t side_table_n;

#define SIDE_CONTROL(code, fast, count, start)                \
        ((uint64_t) (code) | ((fast) ? HV_CONTROL_FAST : 0) | \
         (uint64_t) (count) << HV_CONTROL_REP_COUNT_SHIFT |   \
         (uint64_t) (start) << HV_CONTROL_REP_START_SHIFT)
#define SIDE_RESULT(status, reps) ((uint64_t) (status) | (uint64_t) (reps) << 32)

/* A 64-bit caller at CPL 0 that may do everything; registers and memory hold a pattern of @seed. */
void side_init(struct side *s, uint32_t seed);

/* One instruction of the caller */
int side_dispatch(struct side *s);

/* By the convention of the caller's mode (vsm.md 2.1); in 32-bit mode upper halves stay garbage. */
void side_set_control(struct side *s, uint64_t control);
void side_set_input(struct side *s, uint64_t value);  /* GPA, or fast bytes 0-7 */
void side_set_output(struct side *s, uint64_t value); /* GPA, or fast bytes 8-15 */
uint64_t side_get_result(const struct side *s);

void side_state_set_result(struct side_state *state, bool long_mode, uint64_t result);
void side_state_get_fast(const struct side_state *state, bool long_mode,
                         uint8_t bytes[SIDE_FAST_BYTES]);
/* Of a 64-bit caller; 32-bit ones get no fast output. */
void side_state_put_fast(struct side_state *state, const uint8_t bytes[SIDE_FAST_BYTES]);

/* What the handlers answer to @input: the output of a simple call, or of element @index. */
void side_output_simple(const struct hv_call *row, const uint8_t *input, uint32_t len,
                        uint8_t *ret);
void side_output_element(const struct hv_call *row, const uint8_t *header, uint32_t len,
                         const uint8_t *element, uint16_t index, uint8_t *ret);

/* Whether a table can be searched and each row says only what its kind uses. */
bool hv_table_sound(const struct hv_call *table, size_t n);
