/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "util/util.h"
#include "vtl/insn-far.h"
#include "vtl/insn.h"

#define CR0_PE (1ull << 0)
#define EFER_LMA (1ull << 10)
#define RFLAGS_OF (1ull << 11)
#define RFLAGS_VM (1ull << 17)

/* A decoded instruction with what is needed to evaluate its operands. */
struct decoded {
        const struct insn_cpu *cpu;
        const struct insn_env *env;
        ZydisDecodedInstruction i;
        ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

bool insn_is_64bit(const struct insn_cpu *cpu) {
        return (cpu->sregs->efer & EFER_LMA) && cpu->sregs->cs.l;
}

static bool real_mode(const struct insn_cpu *cpu) {
        return !(cpu->sregs->cr0 & CR0_PE);
}

static bool v86(const struct insn_cpu *cpu) {
        return !real_mode(cpu) && !(cpu->sregs->efer & EFER_LMA) && (cpu->regs->rflags & RFLAGS_VM);
}

unsigned insn_cpl(const struct insn_cpu *cpu) {
        if (real_mode(cpu))
                return 0;
        return v86(cpu) ? 3 : cpu->sregs->ss.dpl & 3;
}

uint64_t insn_address(const struct insn_cpu *cpu) {
        if (insn_is_64bit(cpu))
                return cpu->regs->rip;
        return (uint32_t) (cpu->sregs->cs.base + cpu->regs->rip);
}

/* ---- Decoding ---- */

static int decode(struct decoded *d, const uint8_t *bytes, size_t n) {
        const struct kvm_sregs *s = d->cpu->sregs;
        ZydisMachineMode mode;
        ZydisStackWidth width = s->ss.db ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16;
        ZydisDecoder decoder;
        ZyanStatus st;

        if (insn_is_64bit(d->cpu)) {
                mode = ZYDIS_MACHINE_MODE_LONG_64;
                width = ZYDIS_STACK_WIDTH_64;
        } else if (s->cs.db)
                mode = ZYDIS_MACHINE_MODE_LEGACY_32;
        else if (real_mode(d->cpu) || v86(d->cpu))
                mode = ZYDIS_MACHINE_MODE_REAL_16;
        else
                mode = ZYDIS_MACHINE_MODE_LEGACY_16;

        st = ZydisDecoderInit(&decoder, mode, width);
        if (ZYAN_SUCCESS(st))
                st = ZydisDecoderDecodeFull(&decoder, bytes, MIN(n, (size_t) INSN_MAX_LENGTH),
                                            &d->i, d->op);
        if (ZYAN_SUCCESS(st))
                return d->i.length;
        return st == ZYDIS_STATUS_NO_MORE_DATA && n < INSN_MAX_LENGTH ? 0 : -EBADMSG;
}

int insn_length(const struct insn_cpu *cpu, const uint8_t *bytes, size_t n) {
        struct decoded d = { .cpu = cpu };

        return decode(&d, bytes, n);
}

/* ---- Registers and addresses ---- */

static uint64_t gpr(const struct kvm_regs *r, unsigned id) {
        switch (id & 15) {
        case 0:
                return r->rax;
        case 1:
                return r->rcx;
        case 2:
                return r->rdx;
        case 3:
                return r->rbx;
        case 4:
                return r->rsp;
        case 5:
                return r->rbp;
        case 6:
                return r->rsi;
        case 7:
                return r->rdi;
        case 8:
                return r->r8;
        case 9:
                return r->r9;
        case 10:
                return r->r10;
        case 11:
                return r->r11;
        case 12:
                return r->r12;
        case 13:
                return r->r13;
        case 14:
                return r->r14;
        default:
                return r->r15;
        }
}

static uint64_t mask(unsigned bits) {
        return bits >= 64 ? UINT64_MAX : (1ull << bits) - 1;
}

/* The value of a general register or instruction pointer; the high byte registers are never part of
 * an address. */
static uint64_t reg_value(const struct decoded *d, ZydisRegister reg) {
        ZydisRegister whole;

        switch (ZydisRegisterGetClass(reg)) {
        case ZYDIS_REGCLASS_GPR8:
        case ZYDIS_REGCLASS_GPR16:
        case ZYDIS_REGCLASS_GPR32:
        case ZYDIS_REGCLASS_GPR64:
                whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
                return gpr(d->cpu->regs, ZydisRegisterGetId(whole)) &
                       mask(ZydisRegisterGetWidth(d->i.machine_mode, reg));
        case ZYDIS_REGCLASS_IP:
                return d->cpu->regs->rip + d->i.length;
        default:
                return 0;
        }
}

static const struct kvm_segment *segment(const struct kvm_sregs *s, ZydisRegister reg) {
        switch (reg) {
        case ZYDIS_REGISTER_ES:
                return &s->es;
        case ZYDIS_REGISTER_CS:
                return &s->cs;
        case ZYDIS_REGISTER_SS:
                return &s->ss;
        case ZYDIS_REGISTER_FS:
                return &s->fs;
        case ZYDIS_REGISTER_GS:
                return &s->gs;
        default:
                return &s->ds;
        }
}

/* An effective address becomes a linear one: only FS and GS have a base in 64-bit mode. */
static uint64_t linear(const struct decoded *d, ZydisRegister seg, uint64_t ea) {
        ea &= mask(d->i.address_width);
        if (!insn_is_64bit(d->cpu))
                return (uint32_t) (ea + segment(d->cpu->sregs, seg)->base);
        if (seg == ZYDIS_REGISTER_FS || seg == ZYDIS_REGISTER_GS)
                ea += segment(d->cpu->sregs, seg)->base;
        return ea;
}

static uint64_t effective(const struct decoded *d, const ZydisDecodedOperand *op) {
        uint64_t ea = op->mem.disp.value;

        ea += reg_value(d, op->mem.base);
        if (op->mem.type == ZYDIS_MEMOP_TYPE_MEM)
                ea += reg_value(d, op->mem.index) * op->mem.scale;

        /* POP to memory addresses with the stack pointer after the pop. */
        if (d->i.mnemonic == ZYDIS_MNEMONIC_POP && op->mem.base != ZYDIS_REGISTER_NONE &&
            ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, op->mem.base) ==
                    ZYDIS_REGISTER_RSP)
                ea += d->i.operand_width / 8;
        if (d->i.mnemonic == ZYDIS_MNEMONIC_XLAT)
                ea += d->cpu->regs->rax & 0xff;
        return ea;
}

static int touch(const struct decoded *d, uint64_t gva, uint32_t size, enum insn_access_type type) {
        return insn_touch(d->cpu, d->env, gva, size, type);
}

/* Reads what an operand of 2 bytes at @offset holds, register or memory; memory has been told of
 * before. */
static int operand16(const struct decoded *d, const ZydisDecodedOperand *op, unsigned offset,
                     uint16_t *ret) {
        if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
                *ret = reg_value(d, op->reg.value);
                return 0;
        }
        if (op->type != ZYDIS_OPERAND_TYPE_MEMORY)
                return INSN_STOP;
        return d->env->read(d->env->userdata, linear(d, op->mem.segment, effective(d, op) + offset),
                            ret, sizeof(*ret), false);
}

/* ---- Vector operands ---- */

/* Gathers and scatters: the bytes of one index and of one element. */
struct vsib_form {
        ZydisMnemonic gather, scatter;
        uint8_t index, element;
};

static const struct vsib_form vsib_forms[] = {
        { ZYDIS_MNEMONIC_VPGATHERDD, ZYDIS_MNEMONIC_VPSCATTERDD, 4, 4 },
        { ZYDIS_MNEMONIC_VPGATHERDQ, ZYDIS_MNEMONIC_VPSCATTERDQ, 4, 8 },
        { ZYDIS_MNEMONIC_VPGATHERQD, ZYDIS_MNEMONIC_VPSCATTERQD, 8, 4 },
        { ZYDIS_MNEMONIC_VPGATHERQQ, ZYDIS_MNEMONIC_VPSCATTERQQ, 8, 8 },
        { ZYDIS_MNEMONIC_VGATHERDPS, ZYDIS_MNEMONIC_VSCATTERDPS, 4, 4 },
        { ZYDIS_MNEMONIC_VGATHERDPD, ZYDIS_MNEMONIC_VSCATTERDPD, 4, 8 },
        { ZYDIS_MNEMONIC_VGATHERQPS, ZYDIS_MNEMONIC_VSCATTERQPS, 8, 4 },
        { ZYDIS_MNEMONIC_VGATHERQPD, ZYDIS_MNEMONIC_VSCATTERQPD, 8, 8 },
};

static unsigned vector_bytes(const struct decoded *d, ZydisRegister reg) {
        return ZydisRegisterGetWidth(d->i.machine_mode, reg) / 8;
}

static bool sign_bit(const struct insn_vectors *v, unsigned reg, unsigned i, unsigned element) {
        return v->reg[reg & 31][(i + 1) * element - 1] & 0x80;
}

static bool opmask_used(const struct decoded *d) {
        return d->i.avx.mask.reg > ZYDIS_REGISTER_K0 && d->i.avx.mask.reg <= ZYDIS_REGISTER_K7;
}

static uint64_t opmask(const struct decoded *d) {
        return d->cpu->vectors->k[(d->i.avx.mask.reg - ZYDIS_REGISTER_K0) & 7];
}

static int visit_vsib(const struct decoded *d, const ZydisDecodedOperand *op,
                      enum insn_access_type type) {
        const struct insn_vectors *v = d->cpu->vectors;
        const struct vsib_form *f = NULL;
        ZydisRegister data, select = ZYDIS_REGISTER_NONE;
        unsigned n, index;
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(vsib_forms); i++)
                if (d->i.mnemonic == vsib_forms[i].gather || d->i.mnemonic == vsib_forms[i].scatter)
                        f = &vsib_forms[i];
        if (!f) /* the prefetching forms */
                return 0;
        if (!v)
                return -ENODATA;

        /* VEX: data, memory, mask vector. EVEX: data and an opmask on either side of the memory
         * operand. */
        data = d->op[op == &d->op[0] ? 2 : 0].reg.value;
        if (d->i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
                select = d->op[2].reg.value;
        n = MIN(vector_bytes(d, data) / f->element, vector_bytes(d, op->mem.index) / f->index);
        n = MIN(n, 16u);
        index = ZydisRegisterGetId(op->mem.index) & 31;

        for (unsigned i = 0; i < n; i++) {
                int64_t x = 0;

                if (select != ZYDIS_REGISTER_NONE
                            ? !sign_bit(v, ZydisRegisterGetId(select), i, f->element)
                            : opmask_used(d) && !(opmask(d) >> i & 1))
                        continue;
                if (f->index == 4) {
                        int32_t x32;

                        memcpy(&x32, &v->reg[index][i * 4], 4);
                        x = x32;
                } else
                        memcpy(&x, &v->reg[index][i * 8], 8);
                r = touch(
                        d,
                        linear(d, op->mem.segment, effective(d, op) + (uint64_t) x * op->mem.scale),
                        f->element, type);
                if (r)
                        return r;
        }
        return 0;
}

/* The vector register whose sign bits select the elements of a VEX masked move; NONE for other
 * instructions. */
static ZydisRegister mask_vector(const struct decoded *d) {
        switch (d->i.mnemonic) {
        case ZYDIS_MNEMONIC_VMASKMOVPS:
        case ZYDIS_MNEMONIC_VMASKMOVPD:
        case ZYDIS_MNEMONIC_VPMASKMOVD:
        case ZYDIS_MNEMONIC_VPMASKMOVQ:
        case ZYDIS_MNEMONIC_MASKMOVDQU:
        case ZYDIS_MNEMONIC_VMASKMOVDQU:
                return d->op[1].reg.value;
        default:
                return ZYDIS_REGISTER_NONE;
        }
}

static bool contiguous(ZydisMnemonic m) {
        switch (m) {
        case ZYDIS_MNEMONIC_VCOMPRESSPS:
        case ZYDIS_MNEMONIC_VCOMPRESSPD:
        case ZYDIS_MNEMONIC_VPCOMPRESSB:
        case ZYDIS_MNEMONIC_VPCOMPRESSW:
        case ZYDIS_MNEMONIC_VPCOMPRESSD:
        case ZYDIS_MNEMONIC_VPCOMPRESSQ:
        case ZYDIS_MNEMONIC_VEXPANDPS:
        case ZYDIS_MNEMONIC_VEXPANDPD:
        case ZYDIS_MNEMONIC_VPEXPANDB:
        case ZYDIS_MNEMONIC_VPEXPANDW:
        case ZYDIS_MNEMONIC_VPEXPANDD:
        case ZYDIS_MNEMONIC_VPEXPANDQ:
                return true;
        default:
                return false;
        }
}

/* A memory operand of which a mask selects elements. Accesses that the mask leaves out do not
 * fault. */
static int visit_masked(const struct decoded *d, const ZydisDecodedOperand *op,
                        enum insn_access_type type, ZydisRegister select) {
        unsigned element = op->element_size / 8, n = op->element_count;
        const struct insn_vectors *v = d->cpu->vectors;
        uint64_t gva = linear(d, op->mem.segment, effective(d, op)), m = 0;
        int r;

        if (!v)
                return -ENODATA;
        if (d->i.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
            d->i.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU) {
                element = 1;
                n = 16;
        }
        if (!element || n > 64 || element * n > 64)
                return touch(d, gva, op->size / 8, type);

        for (unsigned i = 0; i < n; i++) {
                bool on = select != ZYDIS_REGISTER_NONE
                                ? sign_bit(v, ZydisRegisterGetId(select), i, element)
                                : opmask(d) >> i & 1;

                m |= (uint64_t) on << i;
        }
        if (d->i.avx.broadcast.mode != ZYDIS_BROADCAST_MODE_INVALID || op->element_count == 1)
                return m ? touch(d, gva, op->size / 8, type) : 0;
        if (contiguous(d->i.mnemonic)) {
                n = __builtin_popcountll(m);
                return n ? touch(d, gva, n * element, type) : 0;
        }
        for (unsigned i = 0; i < n; i++) {
                if (!(m >> i & 1))
                        continue;
                r = touch(d, gva + i * element, element, type);
                if (r)
                        return r;
        }
        return 0;
}

void insn_vectors_from_xsave(struct insn_vectors *ret, const void *xsave, size_t size,
                             const uint32_t avx512[3]) {
        /* Where each part of the registers lies: component, offset, first register, count, offset
         * and bytes in it. */
        const struct {
                uint8_t component;
                uint32_t offset;
                uint8_t first, count, at, bytes;
        } parts[] = {
                { 1, 160, 0, 16, 0, 16 },
                { 2, 576, 0, 16, 16, 16 },
                { 6, avx512[1], 0, 16, 32, 32 },
                { 7, avx512[2], 16, 16, 0, 64 },
        };
        const uint8_t *area = xsave;
        uint64_t present;

        memset(ret, 0, sizeof(*ret));
        if (size < 576)
                return;
        memcpy(&present, area + 512, sizeof(present));

        for (size_t p = 0; p < ARRAY_SIZE(parts); p++) {
                uint64_t end = (uint64_t) parts[p].offset + parts[p].count * parts[p].bytes;

                if (!parts[p].offset || end > size || !(present >> parts[p].component & 1))
                        continue;
                for (unsigned i = 0; i < parts[p].count; i++)
                        memcpy(&ret->reg[parts[p].first + i][parts[p].at],
                               area + parts[p].offset + i * parts[p].bytes, parts[p].bytes);
        }
        if (avx512[0] && (uint64_t) avx512[0] + sizeof(ret->k) <= size && (present >> 5 & 1))
                memcpy(ret->k, area + avx512[0], sizeof(ret->k));
}

/* ---- Explicit operands ---- */

/* Instructions whose memory operand is an address only: they make no access that faults. */
static bool no_access(const ZydisDecodedInstruction *i) {
        switch (i->meta.category) {
        case ZYDIS_CATEGORY_PREFETCH:
        case ZYDIS_CATEGORY_NOP:
        case ZYDIS_CATEGORY_WIDENOP:
                return true;
        default:
                break;
        }
        switch (i->mnemonic) {
        case ZYDIS_MNEMONIC_CLDEMOTE:
        case ZYDIS_MNEMONIC_CLFLUSH:
        case ZYDIS_MNEMONIC_CLFLUSHOPT:
        case ZYDIS_MNEMONIC_CLWB:
        case ZYDIS_MNEMONIC_INVLPG:
        case ZYDIS_MNEMONIC_LEA:
        case ZYDIS_MNEMONIC_NOP:
        case ZYDIS_MNEMONIC_UD0:
        case ZYDIS_MNEMONIC_UD1:
                return true;
        default:
                return false;
        }
}

/*
 * XSAVE and XRSTOR: the legacy area and header, then the rest of the area when a component beyond
 * SSE is asked for. AVX has the same place everywhere, further components end where CPUID says the
 * area ends.
 */
static int visit_xsave(const struct decoded *d, uint64_t gva, enum insn_access_type type) {
        uint64_t rfbm = (uint32_t) d->cpu->regs->rax | d->cpu->regs->rdx << 32;
        uint32_t whole = d->cpu->xsave_size ? MIN(d->cpu->xsave_size, 16384u) : 2696, end;
        int r;

        r = touch(d, gva, 576, type);
        if (r || !(rfbm & ~3ull))
                return r;
        end = rfbm & ~7ull ? whole : 576 + 256;
        return end > 576 ? touch(d, gva + 576, end - 576, type) : 0;
}

static int visit_memory(const struct decoded *d, const ZydisDecodedOperand *op,
                        enum insn_access_type type) {
        ZydisRegister select = mask_vector(d), seg = op->mem.segment;
        uint64_t ea = effective(d, op);

        if (op->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
                return visit_vsib(d, op, type);
        if (select != ZYDIS_REGISTER_NONE || opmask_used(d))
                return visit_masked(d, op, type, select);

        switch (d->i.mnemonic) {
        case ZYDIS_MNEMONIC_BT:
        case ZYDIS_MNEMONIC_BTC:
        case ZYDIS_MNEMONIC_BTR:
        case ZYDIS_MNEMONIC_BTS:
                /* A register index is signed and reaches beyond the operand. */
                if (d->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER) {
                        unsigned bits = op->size, shift = 64 - bits;
                        int64_t bit =
                                (int64_t) (reg_value(d, d->op[1].reg.value) << shift) >> shift;

                        ea += (uint64_t) (bit >> __builtin_ctz(bits)) * (bits / 8);
                }
                break;
        case ZYDIS_MNEMONIC_MOVDIR64B:
                if (op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN) {
                        seg = ZYDIS_REGISTER_ES;
                        ea &= mask(d->i.address_width) & ~63ull;
                }
                break;
        case ZYDIS_MNEMONIC_XSAVE:
        case ZYDIS_MNEMONIC_XSAVE64:
        case ZYDIS_MNEMONIC_XSAVEC:
        case ZYDIS_MNEMONIC_XSAVEC64:
        case ZYDIS_MNEMONIC_XSAVEOPT:
        case ZYDIS_MNEMONIC_XSAVEOPT64:
        case ZYDIS_MNEMONIC_XSAVES:
        case ZYDIS_MNEMONIC_XSAVES64:
        case ZYDIS_MNEMONIC_XRSTOR:
        case ZYDIS_MNEMONIC_XRSTOR64:
        case ZYDIS_MNEMONIC_XRSTORS:
        case ZYDIS_MNEMONIC_XRSTORS64:
                return visit_xsave(d, linear(d, seg, ea), type);
        default:
                break;
        }
        if (op->size < 8)
                return 0;
        return touch(d, linear(d, seg, ea), op->size / 8, type);
}

/* Stack operands are hidden ones that address through SS; they are visited by visit_stack(). */
static bool is_stack_operand(const ZydisDecodedOperand *op) {
        return op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
               op->mem.segment == ZYDIS_REGISTER_SS;
}

static int visit_operands(const struct decoded *d, enum insn_access_type type) {
        int r;

        if (no_access(&d->i))
                return 0;
        for (unsigned k = 0; k < d->i.operand_count; k++) {
                const ZydisDecodedOperand *op = &d->op[k];
                bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

                if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || is_stack_operand(op) ||
                    (op->mem.type != ZYDIS_MEMOP_TYPE_MEM && op->mem.type != ZYDIS_MEMOP_TYPE_VSIB))
                        continue;
                if (!op->actions || write != (type == INSN_WRITE))
                        continue;
                r = visit_memory(d, op, type);
                if (r)
                        return r;
        }
        return 0;
}

/* ---- The stack ---- */

static int visit_enter(const struct decoded *d, unsigned size) {
        unsigned level = d->op[1].imm.value.u & 31;
        struct insn_stack stack, frame;
        int r;

        insn_stack_init(&stack, d->cpu);
        frame = stack;
        frame.sp = d->cpu->regs->rbp;
        r = insn_push(&stack, d->env, size);
        for (unsigned i = 1; !r && i < level; i++) {
                frame.sp -= size;
                r = touch(d, insn_stack_address(&frame, frame.sp), size, INSN_READ);
                if (!r)
                        r = insn_push(&stack, d->env, size);
        }
        if (!r && level)
                r = insn_push(&stack, d->env, size);
        if (r)
                return r;
        /* The CPU makes sure that the new top of the stack can be written. */
        stack.sp -= d->op[0].imm.value.u & 0xffff;
        return touch(d, insn_stack_address(&stack, stack.sp), size, INSN_WRITE);
}

static int visit_stack(const struct decoded *d) {
        unsigned size = d->i.operand_width / 8, n = 1;
        struct insn_stack stack;
        int r = 0;

        insn_stack_init(&stack, d->cpu);
        switch (d->i.mnemonic) {
        case ZYDIS_MNEMONIC_PUSHA:
        case ZYDIS_MNEMONIC_PUSHAD:
                n = 8;
                break;
        case ZYDIS_MNEMONIC_CALL:
        case ZYDIS_MNEMONIC_PUSH:
        case ZYDIS_MNEMONIC_PUSHF:
        case ZYDIS_MNEMONIC_PUSHFD:
        case ZYDIS_MNEMONIC_PUSHFQ:
                break;
        case ZYDIS_MNEMONIC_POPA:
        case ZYDIS_MNEMONIC_POPAD:
                for (n = 8; !r && n; n--)
                        r = insn_pop(&stack, d->env, size);
                return r;
        case ZYDIS_MNEMONIC_LEAVE:
                stack.sp = d->cpu->regs->rbp;
                return insn_pop(&stack, d->env, size);
        case ZYDIS_MNEMONIC_POP:
        case ZYDIS_MNEMONIC_POPF:
        case ZYDIS_MNEMONIC_POPFD:
        case ZYDIS_MNEMONIC_POPFQ:
        case ZYDIS_MNEMONIC_RET:
                return insn_pop(&stack, d->env, size);
        case ZYDIS_MNEMONIC_ENTER:
                return visit_enter(d, size);
        default:
                return 0;
        }
        for (; !r && n; n--)
                r = insn_push(&stack, d->env, size);
        return r;
}

/* ---- Instructions that do more than their operands say ---- */

static int visit_far(const struct decoded *d) {
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
                r = visit_operands(d, INSN_READ);
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
static int visit_selector(const struct decoded *d) {
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
static int visit_hidden(const struct decoded *d) {
        uint64_t rax = d->cpu->regs->rax;

        switch (d->i.mnemonic) {
        case ZYDIS_MNEMONIC_CLZERO:
                return touch(d, linear(d, ZYDIS_REGISTER_DS, rax & ~63ull), 64, INSN_WRITE);
        case ZYDIS_MNEMONIC_ENQCMD:
        case ZYDIS_MNEMONIC_ENQCMDS:
                return touch(
                        d, linear(d, ZYDIS_REGISTER_ES, reg_value(d, d->op[0].reg.value) & ~63ull),
                        64, INSN_WRITE);
        case ZYDIS_MNEMONIC_MONITOR:
        case ZYDIS_MNEMONIC_MONITORX:
                return touch(d, linear(d, ZYDIS_REGISTER_DS, rax), 1, INSN_READ);
        default:
                return 0;
        }
}

/* IN, OUT, INS and OUTS may have to ask the TSS first. */
static int visit_port(const struct decoded *d) {
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

/* A repeated string instruction whose count is zero does nothing. */
static bool repeats_zero_times(const struct decoded *d) {
        if (!(d->i.attributes &
              (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)))
                return false;
        return !(d->cpu->regs->rcx & mask(d->i.address_width));
}

static int visit_ordinary(const struct decoded *d) {
        int r;

        if (repeats_zero_times(d))
                return 0;
        r = visit_port(d);
        if (!r)
                r = visit_operands(d, INSN_READ);
        if (!r)
                r = visit_stack(d);
        if (!r)
                r = visit_selector(d);
        if (!r)
                r = visit_operands(d, INSN_WRITE);
        if (!r)
                r = visit_hidden(d);
        return r;
}

int insn_visit(const struct insn_cpu *cpu, const uint8_t *bytes, size_t n,
               const struct insn_env *env) {
        struct decoded d = { .cpu = cpu, .env = env };
        int r;

        r = decode(&d, bytes, n);
        if (r <= 0)
                return -EBADMSG;

        switch (d.i.mnemonic) {
        case ZYDIS_MNEMONIC_INT:
                return insn_interrupt(cpu, env, d.op[0].imm.value.u, false, true);
        case ZYDIS_MNEMONIC_INT1:
                return insn_interrupt(cpu, env, 1, false, false);
        case ZYDIS_MNEMONIC_INT3:
                return insn_interrupt(cpu, env, 3, false, false);
        case ZYDIS_MNEMONIC_INTO:
                return cpu->regs->rflags & RFLAGS_OF ? insn_interrupt(cpu, env, 4, false, false)
                                                     : 0;
        case ZYDIS_MNEMONIC_IRET:
        case ZYDIS_MNEMONIC_IRETD:
        case ZYDIS_MNEMONIC_IRETQ:
                return insn_iret(cpu, env, d.i.operand_width / 8);
        default:
                if (d.i.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
                        return visit_far(&d);
                return visit_ordinary(&d);
        }
}
