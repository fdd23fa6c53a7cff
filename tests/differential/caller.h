/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The caller of a hypercall as a case of the differential test describes it: its processor state,
 * a few pages of memory with the rights of each VTL, a table of calls, and what the handlers of
 * these calls do. tests/differential/guest.py is the same in Python.
 *
 * A case is struct case_head, then its rows, pages and stops; all numbers are little-endian.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hvcall/hvcall.h"

#define CASE_ROWS_MAX 16
#define CASE_PAGES_MAX 4
#define CASE_STOPS_MAX 8
#define CASE_VTLS 2
#define CASE_PATTERNS 8
#define CASE_NEVER 0xffffu

/* case_head.mode */
#define MODE_EFER_LMA 0x01u
#define MODE_CS_L 0x02u
#define MODE_CR0_PE 0x04u
#define MODE_RFLAGS_VM 0x08u
#define MODE_XMM_INPUT 0x10u  /* advertised */
#define MODE_XMM_OUTPUT 0x20u /* advertised */

enum case_reg {
        REG_RAX,
        REG_RBX,
        REG_RCX,
        REG_RDX,
        REG_RSI,
        REG_RDI,
        REG_R8,
        REGS,
};

/* case_head.io_fails: the one of hv_io's functions that answers with a failure of the host */
enum case_io {
        IO_NONE,
        IO_READ,
        IO_WRITE,
        IO_PROBE_WRITE,
        IO_GET_XMM,
        IO_SET_XMM,
};

struct case_head {
        uint8_t mode; /* MODE_* */
        uint8_t cpl;
        uint8_t active_vtl;
        uint8_t enabled_vtls; /* of this VP, a bit each */
        uint64_t privileges;
        uint64_t reg[REGS];
        uint8_t xmm[HV_XMM_PAIRS][16];
        uint8_t pattern; /* what memory holds: 0 zeros, else one of the patterns */
        uint8_t turns;   /* how often the instruction is repeated at most while it is continued */
        uint8_t rows, pages, stops;
        uint8_t io_fails; /* enum case_io */
        int16_t io_with;  /* its negative errno */
        /* Handlers: a simple call, or the element @fail_at, ends with @fail_with when not 0 */
        uint16_t fail_at;
        int16_t fail_with;
        /* prepare(): serves @batch elements, tells of @lie more, and answers @prepare_with */
        uint16_t batch;
        int16_t prepare_with;
        int16_t lie;
        /* While this element is served (0 for a simple call) no page can be written any more. */
        uint16_t lose_at;
} __attribute__((packed));
_Static_assert(sizeof(struct case_head) == 184, "guest.py packs it");

struct case_row {
        uint16_t code;
        uint8_t kind; /* enum hv_call_kind */
        uint8_t variable;
        uint8_t prepare;
        uint16_t input, output, rep_in, rep_out;
        uint64_t privilege;
} __attribute__((packed));
_Static_assert(sizeof(struct case_row) == 21, "guest.py packs it");

/* case_page.right[VTL] */
#define RIGHT_R 1u
#define RIGHT_W 2u

struct case_page {
        uint64_t gpn;
        uint8_t right[CASE_VTLS];
        uint8_t overlays; /* a bit for each VTL that has an overlay page here */
} __attribute__((packed));
_Static_assert(sizeof(struct case_page) == 11, "guest.py packs it");

/* The engine's promises to the caller (struct hv_io) and to handlers (struct hv_call_ctx) */
enum promise {
        PROMISES_KEPT,
        PROMISE_BLOCK,     /* memory: not empty, in one page, below 2^52 */
        PROMISE_ONE_READ,  /* the input is copied once, before anything is served */
        PROMISE_PROBE,     /* the output is probed once, after the read, before serving */
        PROMISE_ONE_WRITE, /* written once, after the probe */
        PROMISE_XMM,       /* at most one get, then at most one set */
        PROMISE_YIELD,     /* asked after an element, while others are left */
        PROMISE_CONTEXT,   /* ctx: counts, index, mode, alignment */
        PROMISE_HEADER,    /* the header keeps its place from element to element */
        PROMISE_ELEMENT,   /* elem_in and list_in say the same */
        PROMISE_ZEROED,    /* outputs and scratch are zeroed */
        PROMISE_SCRATCH,   /* scratch is kept from prepare() to the last element */
};

/* The engine writes to memory once at most in each dispatch. */
struct change {
        uint8_t page;
        uint16_t offset, len; /* 0: nothing was written */
};

/* Memory, made once: what it is to hold when a case begins, and what cases work on */
struct patterns {
        uint8_t pristine[CASE_PATTERNS][CASE_PAGES_MAX][HV_PAGE_SIZE];
        uint8_t used[CASE_PATTERNS][CASE_PAGES_MAX][HV_PAGE_SIZE];
};

/* What the caller saw of one dispatch */
struct turn {
        uint8_t switches, is_return;
        uint16_t prepared, handled;
        uint64_t switch_input;
        uint32_t trace; /* CRC-32 of what the handlers were given, in its order */
};

struct caller {
        struct case_head head;
        struct hv_call table[CASE_ROWS_MAX];
        struct case_page page[CASE_PAGES_MAX];
        uint16_t stop[CASE_STOPS_MAX];

        /* All that a guest could see */
        uint64_t reg[REGS];
        uint8_t xmm[HV_XMM_PAIRS][16];
        uint8_t (*memory)[HV_PAGE_SIZE]; /* CASE_PAGES_MAX pages of its pattern */
        bool lost;                       /* writable pages are no more */

        bool dirty[CASE_PAGES_MAX];

        struct hv_io io;
        const struct hv_call *row; /* of the call that is being made */
        struct turn turn;
        enum promise broken; /* the first one */

        /* Of the current dispatch */
        unsigned int reads, probes, writes, gets, sets;
        struct change change;
        uint8_t old[HV_PAGE_SIZE]; /* what was at change.offset */
        const void *header;
        uint32_t header_len, header_crc;
        uint16_t first, next; /* elements: of this dispatch, to be served next */
        uint16_t filled;      /* elements below have been served: prepare() may lie */
};

void caller_patterns_init(struct patterns *p);
/* Takes a case apart; -1 when it is not one. */
int caller_init(struct caller *c, const uint8_t *data, size_t len, struct patterns *p);
/* The case is over: memory is as it was before. */
void caller_done(struct caller *c, struct patterns *p);

/* Whatever issues one hypercall: hv_dispatch(), or a mutant of it. */
typedef int caller_dispatch_fn(const struct hv_call *table, size_t n, const struct hv_io *io,
                               void *vp);
/* One instruction of the caller: what @dispatch answered. */
int caller_issue(struct caller *c, caller_dispatch_fn *dispatch);

/*
 * What the library's hot path would say to a VTL call (bit 0) and to a VTL return (bit 1) with
 * these registers, the state of the VTLs apart; *@ret_input is the control input it found.
 */
typedef uint8_t caller_hot_path_fn(const struct caller *c, uint64_t *ret_input);
caller_hot_path_fn caller_hot_path;
