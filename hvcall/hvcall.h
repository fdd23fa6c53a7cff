/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The hypercall ABI engine: everything that is the same for all calls (vsm.md section 2), and the
 * table that says what each call is. The engine knows no VSM; a row's handler gets checked, copied,
 * aligned input.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vtl/hvdef.h"

#define HV_INPUT_MAX HV_PAGE_SIZE
#define HV_XMM_PAIRS 6 /* XMM0-XMM5; pair 0 of a fast call is RDX, R8 */

/**
 * struct hv_io - one side of a hypercall: the caller's registers and memory
 *
 * The engine sees the caller only through this. Tests and fuzzers are another implementation of it.
 * The memory and XMM functions return 0, a positive HV_STATUS for the caller's mistake, or a
 * negative errno for the host's failure. A positive status ends the call with that status (an
 * unreadable input or unwritable output is HV_STATUS_INVALID_HYPERCALL_INPUT, vsm.md 2.4).
 */
struct hv_io {
        bool long_mode;      /* 64-bit convention: EFER.LMA and CS.L (vsm.md 2.1) */
        bool protected_mode; /* CR0.PE and not virtual-8086 */
        uint8_t cpl;
        uint64_t privileges; /* HV_PRIV_*: leaf 0x40000003 EBX:EAX */
        bool xmm_input;      /* leaf 0x40000003 EDX bit 4 */
        bool xmm_output;     /* leaf 0x40000003 EDX bit 15 */
        /*
         * The caller's registers, read and written in place. The 32-bit convention uses their low
         * halves; what it writes is zero-extended, as the processor would.
         */
        uint64_t *rax, *rbx, *rcx, *rdx, *rsi, *rdi, *r8;

        /*
         * Memory of the calling VTL, checked against its rights. [gpa, gpa+len) is not empty, lies
         * in one page and below 2^52.
         */
        int (*read)(void *userdata, uint64_t gpa, void *buf, uint32_t len);
        int (*write)(void *userdata, uint64_t gpa, const void *buf, uint32_t len);
        /* Whether [gpa, gpa+len) could be written now, without writing it. */
        int (*probe_write)(void *userdata, uint64_t gpa, uint32_t len);
        /*
         * XMM0..XMM5, 16 bytes each. Called at most once each per dispatch, get before set, and
         * only by fast calls that reach beyond RDX and R8. Registers of set_xmm that the call does
         * not output to carry what get_xmm gave.
         */
        int (*get_xmm)(void *userdata, uint8_t xmm[HV_XMM_PAIRS][16]);
        int (*set_xmm)(void *userdata, const uint8_t xmm[HV_XMM_PAIRS][16]);
        /*
         * True when a rep call should stop now and be continued by repeating the instruction
         * (vsm.md 2.7). Asked only after at least one element of this dispatch, and while elements
         * are left, so that a call always moves on. NULL: never.
         */
        bool (*should_yield)(void *userdata);
        /*
         * A VTL call (@is_return false) or return, with RAX or ECX as @control_input, which the
         * engine has not checked. Its answer, an enum hv_dispatch_result or a negative errno, is
         * hv_dispatch()'s own: HV_DISPATCH_SWITCHED, or HV_DISPATCH_UD with nothing changed.
         */
        int (*vtl_switch)(void *userdata, bool is_return, uint64_t control_input);
        void *userdata;
};

/* What hv_dispatch() tells its caller to do with the instruction pointer; negative: errno. */
enum hv_dispatch_result {
        HV_DISPATCH_DONE = 0, /* result is in RAX (or EDX:EAX): go on after the instruction */
        HV_DISPATCH_RETRY,    /* to be continued: RCX (or EDX) rewritten, repeat the instruction */
        HV_DISPATCH_UD,       /* inject #UD, RIP at the instruction, no register changed */
        HV_DISPATCH_SWITCHED, /* a VTL switch took place; registers are another level's now */
};

/**
 * struct hv_call_ctx - what a handler gets
 *
 * Simple calls: @input (fixed header and variable header, copied) -> @output. Rep calls: called
 * once per element with @elem_in and @elem_out, header in @input. All pointers are to the engine's
 * own copies. Handlers return 0, a positive HV_STATUS, or a negative errno. HV_STATUS_TIMEOUT is
 * shown to nobody: the call is to be continued later, with this element (HV_DISPATCH_RETRY).
 */
struct hv_call_ctx {
        void *vp;          /* the calling VP, opaque to the engine */
        const void *input; /* fixed header then variable header; 16-byte aligned */
        uint32_t varhdr_bytes;
        void *output;        /* simple calls: row->output bytes, zeroed, written back on success */
        const void *elem_in; /* rep calls: element @index */
        void *elem_out;      /* rep calls: its row->rep_out bytes, zeroed */
        const void *list_in; /* rep calls: all elements, from index 0 */
        uint16_t rep_count;
        uint16_t rep_start; /* first element of this dispatch */
        uint16_t index;     /* absolute */
        bool long_mode;
        uint64_t scratch[8]; /* lives from prepare() to the last element of one dispatch; zeroed */
};

enum hv_call_kind {
        HV_CALL_SIMPLE,
        HV_CALL_REP,
        HV_CALL_VTL,
};

/**
 * struct hv_call - one row of the table of calls
 *
 * A VTL row uses @code and @privilege only; lacking the privilege is #UD there.
 */
struct hv_call {
        uint16_t code; /* enum hv_call_code */
        enum hv_call_kind kind;
        const char *name;
        uint16_t input;     /* fixed header bytes */
        uint16_t output;    /* simple: output bytes */
        uint16_t rep_in;    /* rep: bytes of one input element */
        uint16_t rep_out;   /* rep: bytes of one output element */
        bool variable;      /* takes a variable header */
        uint64_t privilege; /* HV_PRIV_* that must all be held, else HV_STATUS_ACCESS_DENIED */
        /*
         * Rep calls, optional: called once per dispatch (so again when a call is continued), after
         * all of the engine's checks and before any element, with @index = @rep_start and @elem_in,
         * @elem_out those of that element (the others follow them in memory).
         *
         * It checks the header, and may serve elements itself, in order from @rep_start, as a
         * batch. *@ret_done is the absolute index up to which elements are then completed; it is
         * preset to @rep_start, and leaving it so means that none was served.
         *   0            go on: elements from *@ret_done are served by @handler, one by one (none
         *                is left if *@ret_done is @rep_count). should_yield() is asked before the
         *                first of them if the batch was not empty.
         *   HV_STATUS    the call ends with it, reps completed = *@ret_done; outputs of elements
         *                below that are written back.
         *   errno < 0    the host's failure, *@ret_done is ignored.
         * *@ret_done outside [@rep_start, @rep_count] is a failure of the host (-EINVAL).
         */
        int (*prepare)(struct hv_call_ctx *c, uint16_t *ret_done);
        int (*handler)(struct hv_call_ctx *c);
};

/**
 * hv_dispatch() - serve one hypercall
 * @table: rows sorted by code
 * @n: number of rows
 * @io: the caller
 * @vp: handed to handlers
 *
 * Order of checks: vsm.md 2.6. A call that fails before its control word has been found valid
 * reports no reps completed; later failures report an absolute count, rep start included.
 * What a failing simple call has produced is dropped; what a rep call produced before its failing
 * element is written back. Nothing else of the caller changes but the result register(s), and on
 * HV_DISPATCH_RETRY the rep start field of the control register.
 *
 * Return: enum hv_dispatch_result, or a negative errno for a failure of the host. No register
 * has changed then (set_xmm() having failed apart), and no result may be shown to the guest.
 */
int hv_dispatch(const struct hv_call *table, size_t n, const struct hv_io *io, void *vp);

/**
 * hv_call_find() - look a call up
 *
 * Return: the row, or NULL when the call is not offered.
 */
const struct hv_call *hv_call_find(const struct hv_call *table, size_t n, uint16_t code);

/* The calls vtld offers (hvcall/table.c), sorted by code. */
extern const struct hv_call hv_calls[];
extern const size_t hv_calls_n;
