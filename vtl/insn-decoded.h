/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the parts of the instruction visitor share: a decoded instruction and how its operands are
 * evaluated. Private to vtl/insn*.c, the only files that know Zydis.
 */

#include <Zydis/Zydis.h>

#include "vtl/insn-far.h"
#include "vtl/insn.h"

/* A decoded instruction with what is needed to evaluate its operands. */
struct decoded {
        const struct insn_cpu *cpu;
        const struct insn_env *env;
        ZydisDecodedInstruction i;
        ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

/* insn.c */

uint64_t decoded_mask(unsigned bits);
uint64_t decoded_register(const struct decoded *d, ZydisRegister reg);
uint64_t decoded_effective(const struct decoded *d, const ZydisDecodedOperand *op);
uint64_t decoded_linear(const struct decoded *d, ZydisRegister seg, uint64_t ea);
int decoded_touch(const struct decoded *d, uint64_t gva, uint32_t size, enum insn_access_type type);

/* All explicit and implicit memory operands that are read, or that are written. */
int decoded_visit_operands(const struct decoded *d, enum insn_access_type type);

/* insn-vector.c */

/* Whether a mask register selects elements of the memory operand. */
bool decoded_is_masked(const struct decoded *d);
int decoded_visit_masked(const struct decoded *d, const ZydisDecodedOperand *op,
                         enum insn_access_type type);
int decoded_visit_vsib(const struct decoded *d, const ZydisDecodedOperand *op,
                       enum insn_access_type type);

/* insn-special.c */

int decoded_visit_far(const struct decoded *d);
int decoded_visit_port(const struct decoded *d);
int decoded_visit_selector(const struct decoded *d);
int decoded_visit_hidden(const struct decoded *d);
