/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The memory that segment loads, far transfers and the delivery of events touch: descriptor tables,
 * TSS, stacks. Return values are those of insn_visit().
 */

#include <stdbool.h>
#include <stdint.h>

#include "vtl/insn.h"

/*
 * A stack that is pushed to or popped from: its segment base, pointer and the width of the pointer
 * in bits.
 */
struct insn_stack {
        uint64_t base;
        uint64_t sp;
        unsigned width;
        unsigned cpl;
};

void insn_stack_init(struct insn_stack *stack, const struct insn_cpu *cpu);
uint64_t insn_stack_address(const struct insn_stack *stack, uint64_t sp);
int insn_push(struct insn_stack *stack, const struct insn_env *env, unsigned size);
int insn_pop(struct insn_stack *stack, const struct insn_env *env, unsigned size);

/* As insn_pop(), and says what was popped; @size is at most 8. */
int insn_pop_value(struct insn_stack *stack, const struct insn_env *env, unsigned size,
                   uint64_t *ret);

/* Tells of an access, as the CPL or implicit. */
int insn_touch(const struct insn_cpu *cpu, const struct insn_env *env, uint64_t gva, uint32_t size,
               enum insn_access_type type);
int insn_touch_implicit(const struct insn_env *env, uint64_t gva, uint32_t size,
                        enum insn_access_type type);

enum insn_load {
        INSN_LOAD_SEGMENT, /* data, stack and code: the accessed bit is set */
        INSN_LOAD_LDT,     /* 16 bytes in long mode */
        INSN_LOAD_TSS,     /* likewise, and the busy bit is set */
        INSN_LOAD_VERIFY,  /* VERR, VERW, LAR, LSL: looked at only */
};

int insn_load_segment(const struct insn_cpu *cpu, const struct insn_env *env, uint16_t selector,
                      enum insn_load load);

/* JMP and CALL to a far pointer; @size of the operands in bytes. */
int insn_far_transfer(const struct insn_cpu *cpu, const struct insn_env *env, uint16_t selector,
                      unsigned size, bool call);
int insn_far_return(const struct insn_cpu *cpu, const struct insn_env *env, unsigned size,
                    unsigned release);
int insn_iret(const struct insn_cpu *cpu, const struct insn_env *env, unsigned size);

/**
 * insn_interrupt() - the delivery of an interrupt or exception
 * @cpu: the state before
 * @env: callbacks
 * @vector: which
 * @error_code: whether one is pushed
 * @soft: INT n, which virtual-8086 mode may redirect
 */
int insn_interrupt(const struct insn_cpu *cpu, const struct insn_env *env, unsigned vector,
                   bool error_code, bool soft);

/* The TSS's permission bitmap, read when IOPL does not allow the access. */
int insn_io_permission(const struct insn_cpu *cpu, const struct insn_env *env, uint16_t port);
