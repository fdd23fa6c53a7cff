/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Instructions with known addresses, see probes.S. */

#include "hv.h"

#define DECLARE_PROBE(ret, name, ...) \
        ret name(__VA_ARGS__);        \
        extern uint8_t name##_insn[], name##_next[]

DECLARE_PROBE(uint64_t, probe_load, const void *from);
DECLARE_PROBE(void, probe_store, void *to, uint64_t value);
DECLARE_PROBE(uint64_t, probe_load_long, const void *from);
DECLARE_PROBE(void, probe_lock_add, void *to, uint64_t value);
DECLARE_PROBE(void, probe_rep_movs, void *to, const void *from, uint64_t count);
DECLARE_PROBE(void, probe_push, void *stack_top, uint64_t value);
DECLARE_PROBE(void, probe_call, void *stack_top);
DECLARE_PROBE(void, probe_fetch, void *target);
DECLARE_PROBE(void, probe_event, void *stack_top, volatile uint32_t *icr, uint32_t icr_low);
DECLARE_PROBE(void, probe_ud, void *stack_top);
DECLARE_PROBE(void, probe_stack_load, void *stack_top, const void *from);
DECLARE_PROBE(void, probe_load_segment, uint64_t selector);
DECLARE_PROBE(void, probe_sgdt, void *to);
DECLARE_PROBE(void, probe_cmpxchg16b, void *to);
DECLARE_PROBE(void, probe_iret, uint64_t frame[5]);
DECLARE_PROBE(void, probe_int3, void *stack_top);
DECLARE_PROBE(void, probe_user_load, void *from);
DECLARE_PROBE(uint64_t, probe_ins, void *to, uint16_t port);
DECLARE_PROBE(uint64_t, probe_rep_ins, void *to, uint16_t port, uint64_t count);
DECLARE_PROBE(uint64_t, probe_outs, const void *from, uint16_t port);
DECLARE_PROBE(uint64_t, probe_movs, void *to, const void *from);
DECLARE_PROBE(uint64_t, probe_push_memory, void *stack_top, const void *from);

#define PROBE_LOAD_LONG_DISPLACEMENT 0x12345678

/* What intercept @n of the plan must be. */
struct expected {
        uint64_t insn, next; /* 0: RIP and length are not known */
        uint64_t gpa;
        uint64_t gva; /* 0: not checked */
        enum hv_intercept_access access;
};

/* Message @n is there and says this; precise: with RIP at the instruction, its length and bytes,
 * and the GVA. */
void check_intercept(unsigned n, const struct expected *e, const char *what);
void check_intercept_state(unsigned n, const char *what);
