/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Instructions that touch more than their operands say. */

#include "vtl/insn-decoded.h"

/*
 * Reads what an operand of 2 bytes at @offset holds, register or memory; memory has been told of
 * before.
 */
static int operand16(const struct decoded *d, const ZydisDecodedOperand *op, unsigned offset,
                     uint16_t *ret) {
        if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
                *ret = decoded_register(d, op->reg.value);
                return 0;
        }
        if (op->type != ZYDIS_OPERAND_TYPE_MEMORY)
                return INSN_STOP;
        return d->env->read(d->env->userdata,
                            decoded_linear(d, op->mem.segment, decoded_effective(d, op) + offset),
                            ret, sizeof(*ret), false);
}

int decoded_visit_far(const struct decoded *d) {
        bool call = d->i.mnemonic == ZYDIS_MNEMONIC_CALL;
        unsigned size = d->i.operand_width / 8;
        uint16_t selector;
        int r;

        if (d->i.mnemonic == ZYDIS_MNEMONIC_RET)
                return insn_far_return(
                        d->cpu, d->env, size,
                        d->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? d->op[0].imm.value.u : 0);
        if (d->op[0].type == ZYDIS_OPERAND_TYPE_POINTER)
                selector = d->op[0].ptr.segment;
        else {
                r = decoded_visit_operands(d, INSN_READ);
                if (r)
                        return r;
                r = operand16(d, &d->op[0], size, &selector);
                if (r)
                        return r;
        }
        return insn_far_transfer(d->cpu, d->env, selector, size, call);
}

static bool is_segment_register(const ZydisDecodedOperand *op) {
        return op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
               ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

/* The descriptor behind a selector that the operands, already visited, hold. */
int decoded_visit_selector(const struct decoded *d) {
        enum insn_load load = INSN_LOAD_SEGMENT;
        unsigned k = 0, offset = 0;
        struct insn_stack stack;
        uint16_t selector;
        uint64_t gva;
        int r;

        switch (d->i.mnemonic) {
        case ZYDIS_MNEMONIC_MOV:
                if (!is_segment_register(&d->op[0]))
                        return 0;
                k = 1;
                break;
        case ZYDIS_MNEMONIC_LDS:
        case ZYDIS_MNEMONIC_LES:
        case ZYDIS_MNEMONIC_LFS:
        case ZYDIS_MNEMONIC_LGS:
        case ZYDIS_MNEMONIC_LSS:
                k = 1;
                offset = d->i.operand_width / 8;
                break;
        case ZYDIS_MNEMONIC_LLDT:
                load = INSN_LOAD_LDT;
                break;
        case ZYDIS_MNEMONIC_LTR:
                load = INSN_LOAD_TSS;
                break;
        case ZYDIS_MNEMONIC_LAR:
        case ZYDIS_MNEMONIC_LSL:
                k = 1;
                /* fall through */
        case ZYDIS_MNEMONIC_VERR:
        case ZYDIS_MNEMONIC_VERW:
                load = INSN_LOAD_VERIFY;
                break;
        case ZYDIS_MNEMONIC_POP:
                if (!is_segment_register(&d->op[0]))
                        return 0;
                insn_stack_init(&stack, d->cpu);
                gva = insn_stack_address(&stack, stack.sp);
                r = d->env->read(d->env->userdata, gva, &selector, sizeof(selector), false);
                return r ? r : insn_load_segment(d->cpu, d->env, selector, load);
        default:
                return 0;
        }
        r = operand16(d, &d->op[k], offset, &selector);
        return r ? r : insn_load_segment(d->cpu, d->env, selector, load);
}

/* Accesses that Zydis does not list as operands. */
int decoded_visit_hidden(const struct decoded *d) {
        uint64_t rax = d->cpu->regs->rax;

        switch (d->i.mnemonic) {
        case ZYDIS_MNEMONIC_CLZERO:
                return decoded_touch(d, decoded_linear(d, ZYDIS_REGISTER_DS, rax & ~63ull), 64,
                                     INSN_WRITE);
        case ZYDIS_MNEMONIC_ENQCMD:
        case ZYDIS_MNEMONIC_ENQCMDS:
                return decoded_touch(
                        d,
                        decoded_linear(d, ZYDIS_REGISTER_ES,
                                       decoded_register(d, d->op[0].reg.value) & ~63ull),
                        64, INSN_WRITE);
        case ZYDIS_MNEMONIC_MONITOR:
        case ZYDIS_MNEMONIC_MONITORX:
                return decoded_touch(d, decoded_linear(d, ZYDIS_REGISTER_DS, rax), 1, INSN_READ);
        default:
                return 0;
        }
}

/* IN, OUT, INS and OUTS may have to ask the TSS first. */
int decoded_visit_port(const struct decoded *d) {
        uint16_t port = d->cpu->regs->rdx;

        switch (d->i.mnemonic) {
        case ZYDIS_MNEMONIC_IN:
        case ZYDIS_MNEMONIC_OUT:
                for (unsigned k = 0; k < 2; k++)
                        if (d->op[k].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
                                port = d->op[k].imm.value.u & 0xff;
                break;
        case ZYDIS_MNEMONIC_INSB:
        case ZYDIS_MNEMONIC_INSW:
        case ZYDIS_MNEMONIC_INSD:
        case ZYDIS_MNEMONIC_OUTSB:
        case ZYDIS_MNEMONIC_OUTSW:
        case ZYDIS_MNEMONIC_OUTSD:
                break;
        default:
                return 0;
        }
        return insn_io_permission(d->cpu, d->env, port);
}
