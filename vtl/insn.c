/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "util/util.h"
#include "vtl/insn-decoded.h"

#define CR0_PE (1ull << 0)
#define EFER_LMA (1ull << 10)
#define RFLAGS_OF (1ull << 11)
#define RFLAGS_VM (1ull << 17)

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

static const uint8_t gpr_offsets[16] = {
        offsetof(struct kvm_regs, rax), offsetof(struct kvm_regs, rcx),
        offsetof(struct kvm_regs, rdx), offsetof(struct kvm_regs, rbx),
        offsetof(struct kvm_regs, rsp), offsetof(struct kvm_regs, rbp),
        offsetof(struct kvm_regs, rsi), offsetof(struct kvm_regs, rdi),
        offsetof(struct kvm_regs, r8),  offsetof(struct kvm_regs, r9),
        offsetof(struct kvm_regs, r10), offsetof(struct kvm_regs, r11),
        offsetof(struct kvm_regs, r12), offsetof(struct kvm_regs, r13),
        offsetof(struct kvm_regs, r14), offsetof(struct kvm_regs, r15),
};

/* @id is the number of the register in instructions. */
static uint64_t gpr(const struct kvm_regs *r, unsigned id) {
        uint64_t v;

        memcpy(&v, (const uint8_t *) r + gpr_offsets[id & 15], sizeof(v));
        return v;
}

uint64_t decoded_mask(unsigned bits) {
        return bits >= 64 ? UINT64_MAX : (1ull << bits) - 1;
}

/*
 * The value of a general register or instruction pointer; the high byte registers are never part of
 * an address.
 */
uint64_t decoded_register(const struct decoded *d, ZydisRegister reg) {
        ZydisRegister whole;

        switch (ZydisRegisterGetClass(reg)) {
        case ZYDIS_REGCLASS_GPR8:
        case ZYDIS_REGCLASS_GPR16:
        case ZYDIS_REGCLASS_GPR32:
        case ZYDIS_REGCLASS_GPR64:
                whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
                return gpr(d->cpu->regs, ZydisRegisterGetId(whole)) &
                       decoded_mask(ZydisRegisterGetWidth(d->i.machine_mode, reg));
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
uint64_t decoded_linear(const struct decoded *d, ZydisRegister seg, uint64_t ea) {
        ea &= decoded_mask(d->i.address_width);
        if (!insn_is_64bit(d->cpu))
                return (uint32_t) (ea + segment(d->cpu->sregs, seg)->base);
        if (seg == ZYDIS_REGISTER_FS || seg == ZYDIS_REGISTER_GS)
                ea += segment(d->cpu->sregs, seg)->base;
        return ea;
}

uint64_t decoded_effective(const struct decoded *d, const ZydisDecodedOperand *op) {
        uint64_t ea = op->mem.disp.value;

        ea += decoded_register(d, op->mem.base);
        if (op->mem.type == ZYDIS_MEMOP_TYPE_MEM)
                ea += decoded_register(d, op->mem.index) * op->mem.scale;

        /* POP to memory addresses with the stack pointer after the pop. */
        if (d->i.mnemonic == ZYDIS_MNEMONIC_POP && op->mem.base != ZYDIS_REGISTER_NONE &&
            ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, op->mem.base) ==
                    ZYDIS_REGISTER_RSP)
                ea += d->i.operand_width / 8;
        if (d->i.mnemonic == ZYDIS_MNEMONIC_XLAT)
                ea += d->cpu->regs->rax & 0xff;
        return ea;
}

int decoded_touch(const struct decoded *d, uint64_t gva, uint32_t size,
                  enum insn_access_type type) {
        return insn_touch(d->cpu, d->env, gva, size, type);
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

        r = decoded_touch(d, gva, 576, type);
        if (r || !(rfbm & ~3ull))
                return r;
        end = rfbm & ~7ull ? whole : 576 + 256;
        return end > 576 ? decoded_touch(d, gva + 576, end - 576, type) : 0;
}

static int visit_memory(const struct decoded *d, const ZydisDecodedOperand *op,
                        enum insn_access_type type) {
        ZydisRegister seg = op->mem.segment;
        uint64_t ea = decoded_effective(d, op);

        if (op->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
                return decoded_visit_vsib(d, op, type);
        if (decoded_is_masked(d))
                return decoded_visit_masked(d, op, type);

        switch (d->i.mnemonic) {
        case ZYDIS_MNEMONIC_BT:
        case ZYDIS_MNEMONIC_BTC:
        case ZYDIS_MNEMONIC_BTR:
        case ZYDIS_MNEMONIC_BTS:
                /* A register index is signed and reaches beyond the operand. */
                if (d->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER) {
                        unsigned bits = op->size, shift = 64 - bits;
                        int64_t bit =
                                (int64_t) (decoded_register(d, d->op[1].reg.value) << shift) >>
                                shift;

                        ea += (uint64_t) (bit >> __builtin_ctz(bits)) * (bits / 8);
                }
                break;
        case ZYDIS_MNEMONIC_MOVDIR64B:
                if (op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN) {
                        seg = ZYDIS_REGISTER_ES;
                        ea &= decoded_mask(d->i.address_width) & ~63ull;
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
                return visit_xsave(d, decoded_linear(d, seg, ea), type);
        default:
                break;
        }
        if (op->size < 8)
                return 0;
        return decoded_touch(d, decoded_linear(d, seg, ea), op->size / 8, type);
}

/* Stack operands are hidden ones that address through SS; they are visited by visit_stack(). */
static bool is_stack_operand(const ZydisDecodedOperand *op) {
        return op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
               op->mem.segment == ZYDIS_REGISTER_SS;
}

int decoded_visit_operands(const struct decoded *d, enum insn_access_type type) {
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
                r = decoded_touch(d, insn_stack_address(&frame, frame.sp), size, INSN_READ);
                if (!r)
                        r = insn_push(&stack, d->env, size);
        }
        if (!r && level)
                r = insn_push(&stack, d->env, size);
        if (r)
                return r;
        /* The CPU makes sure that the new top of the stack can be written. */
        stack.sp -= d->op[0].imm.value.u & 0xffff;
        return decoded_touch(d, insn_stack_address(&stack, stack.sp), size, INSN_WRITE);
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

/* ---- The whole ---- */

/* A repeated string instruction whose count is zero does nothing. */
static bool repeats_zero_times(const struct decoded *d) {
        if (!(d->i.attributes &
              (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)))
                return false;
        return !(d->cpu->regs->rcx & decoded_mask(d->i.address_width));
}

static int visit_ordinary(const struct decoded *d) {
        int r;

        if (repeats_zero_times(d))
                return 0;
        r = decoded_visit_port(d);
        if (!r)
                r = decoded_visit_operands(d, INSN_READ);
        if (!r)
                r = visit_stack(d);
        if (!r)
                r = decoded_visit_selector(d);
        if (!r)
                r = decoded_visit_operands(d, INSN_WRITE);
        if (!r)
                r = decoded_visit_hidden(d);
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
                        return decoded_visit_far(&d);
                return visit_ordinary(&d);
        }
}

static bool loads_ss(const struct decoded *d) {
        return d->i.mnemonic == ZYDIS_MNEMONIC_LSS ||
               ((d->i.mnemonic == ZYDIS_MNEMONIC_MOV || d->i.mnemonic == ZYDIS_MNEMONIC_POP) &&
                d->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                d->op[0].reg.value == ZYDIS_REGISTER_SS);
}

/* @words of the operand's size above the top of the stack, or below it */
static uint64_t stack_slot(const struct decoded *d, int words) {
        struct insn_stack stack;

        insn_stack_init(&stack, d->cpu);
        return insn_stack_address(&stack, stack.sp + (uint64_t) (words * (d->i.operand_width / 8)));
}

struct insn_step insn_step(const struct insn_cpu *cpu, const uint8_t *bytes, size_t n) {
        struct insn_step s = { .kind = INSN_KIND_UNKNOWN };
        struct decoded d = { .cpu = cpu };

        if (n == 0 || decode(&d, bytes, n) <= 0)
                return s;
        switch (d.i.mnemonic) {
        case ZYDIS_MNEMONIC_PUSHF:
        case ZYDIS_MNEMONIC_PUSHFD:
        case ZYDIS_MNEMONIC_PUSHFQ:
                s.kind = INSN_KIND_STORES_FLAGS;
                s.flags_gva = stack_slot(&d, -1);
                break;
        case ZYDIS_MNEMONIC_POPF:
        case ZYDIS_MNEMONIC_POPFD:
        case ZYDIS_MNEMONIC_POPFQ:
                s.kind = INSN_KIND_LOADS_FLAGS;
                s.flags_gva = stack_slot(&d, 0);
                break;
        case ZYDIS_MNEMONIC_IRET:
        case ZYDIS_MNEMONIC_IRETD:
        case ZYDIS_MNEMONIC_IRETQ:
                /* Above RIP and CS */
                s.kind = INSN_KIND_LOADS_FLAGS;
                s.flags_gva = stack_slot(&d, 2);
                break;
        case ZYDIS_MNEMONIC_INT:
                s.kind = INSN_KIND_INTERRUPT;
                s.vector = d.op[0].imm.value.u & 0xff;
                break;
        case ZYDIS_MNEMONIC_INT1:
        case ZYDIS_MNEMONIC_INT3:
                s.kind = INSN_KIND_INTERRUPT;
                s.vector = d.i.mnemonic == ZYDIS_MNEMONIC_INT1 ? 1 : 3;
                break;
        case ZYDIS_MNEMONIC_INTO:
                s.kind = cpu->regs->rflags & RFLAGS_OF ? INSN_KIND_INTERRUPT : INSN_KIND_PLAIN;
                s.vector = 4;
                break;
        /* RFLAGS.TF is masked by an MSR, or cleared, on the way to the kernel. */
        case ZYDIS_MNEMONIC_SYSCALL:
        case ZYDIS_MNEMONIC_SYSRET:
        case ZYDIS_MNEMONIC_SYSENTER:
        case ZYDIS_MNEMONIC_SYSEXIT:
        case ZYDIS_MNEMONIC_VMRUN:
        case ZYDIS_MNEMONIC_RSM:
        case ZYDIS_MNEMONIC_XBEGIN:
                s.kind = INSN_KIND_UNTRAPPED;
                break;
        default:
                /* The instruction after one that loads SS is done before the trap (SDM 6.8.3). */
                s.kind = loads_ss(&d) ? INSN_KIND_UNTRAPPED : INSN_KIND_PLAIN;
        }
        return s;
}
