/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "vtl/insn-far.h"

#define CR0_PE (1ull << 0)
#define CR4_VME (1ull << 0)
#define EFER_LMA (1ull << 10)
#define RFLAGS_VM (1ull << 17)
#define RFLAGS_IOPL(f) (((f) >> 12) & 3)

/* Descriptors, as the eight bytes that start them */
#define DESC_TYPE(d) (((d) >> 40) & 0xf)
#define DESC_S (1ull << 44)
#define DESC_DPL(d) (((d) >> 45) & 3)
#define DESC_P (1ull << 47)
#define DESC_B (1ull << 54)
#define DESC_BASE(d) ((((d) >> 16) & 0xffffff) | (((d) >> 32) & 0xff000000))
#define TYPE_ACCESSED 0x1
#define TYPE_CONFORMING 0x4
#define TYPE_CODE 0x8

#define GATE_SELECTOR(d) ((uint16_t) ((d) >> 16))
#define GATE_IST(d) (((d) >> 32) & 7)
#define GATE_PARAMS(d) (((d) >> 32) & 0x1f)

enum system_type {
        SYSTEM_CALL16 = 0x4,
        SYSTEM_INT16 = 0x6,
        SYSTEM_TRAP16 = 0x7,
        SYSTEM_CALL32 = 0xc,
        SYSTEM_INT32 = 0xe,
        SYSTEM_TRAP32 = 0xf,
};

#define TSS_IO_MAP 102

static bool long_mode(const struct insn_cpu *cpu) {
        return cpu->sregs->efer & EFER_LMA;
}

static bool v86(const struct insn_cpu *cpu) {
        return !long_mode(cpu) && (cpu->sregs->cr0 & CR0_PE) && (cpu->regs->rflags & RFLAGS_VM);
}

/* Real mode and virtual-8086 mode: a selector is just a base. */
static bool no_descriptors(const struct insn_cpu *cpu) {
        return !(cpu->sregs->cr0 & CR0_PE) || v86(cpu);
}

int insn_touch(const struct insn_cpu *cpu, const struct insn_env *env, uint64_t gva, uint32_t size,
               enum insn_access_type type) {
        struct insn_access a = { .gva = gva, .size = size, .type = type, .cpl = insn_cpl(cpu) };

        return env->access(env->userdata, &a);
}

int insn_touch_implicit(const struct insn_env *env, uint64_t gva, uint32_t size,
                        enum insn_access_type type) {
        struct insn_access a = { .gva = gva, .size = size, .type = type, .implicit = true };

        return env->access(env->userdata, &a);
}

/* Tells of an implicit read, then makes it. */
static int fetch(const struct insn_env *env, uint64_t gva, void *buf, uint32_t size) {
        int r;

        r = insn_touch_implicit(env, gva, size, INSN_READ);
        if (r)
                return r;
        return env->read(env->userdata, gva, buf, size, true);
}

/* ---- Stacks ---- */

static uint64_t width_mask(unsigned width) {
        return width == 64 ? UINT64_MAX : (1ull << width) - 1;
}

void insn_stack_init(struct insn_stack *stack, const struct insn_cpu *cpu) {
        stack->cpl = insn_cpl(cpu);
        stack->sp = cpu->regs->rsp;
        if (insn_is_64bit(cpu)) {
                stack->base = 0;
                stack->width = 64;
        } else {
                stack->base = cpu->sregs->ss.base;
                stack->width = cpu->sregs->ss.db ? 32 : 16;
        }
        stack->sp &= width_mask(stack->width);
}

uint64_t insn_stack_address(const struct insn_stack *stack, uint64_t sp) {
        if (stack->width == 64)
                return sp;
        return (uint32_t) (stack->base + (sp & width_mask(stack->width)));
}

static int stack_touch(const struct insn_stack *stack, const struct insn_env *env, unsigned size,
                       enum insn_access_type type) {
        struct insn_access a = {
                .gva = insn_stack_address(stack, stack->sp),
                .size = size,
                .type = type,
                .cpl = stack->cpl,
        };

        return env->access(env->userdata, &a);
}

int insn_push(struct insn_stack *stack, const struct insn_env *env, unsigned size) {
        stack->sp = (stack->sp - size) & width_mask(stack->width);
        return stack_touch(stack, env, size, INSN_WRITE);
}

static int push_n(struct insn_stack *stack, const struct insn_env *env, unsigned size, unsigned n) {
        int r;

        while (n--) {
                r = insn_push(stack, env, size);
                if (r)
                        return r;
        }
        return 0;
}

int insn_pop(struct insn_stack *stack, const struct insn_env *env, unsigned size) {
        int r;

        r = stack_touch(stack, env, size, INSN_READ);
        stack->sp = (stack->sp + size) & width_mask(stack->width);
        return r;
}

int insn_pop_value(struct insn_stack *stack, const struct insn_env *env, unsigned size,
                   uint64_t *ret) {
        uint64_t gva = insn_stack_address(stack, stack->sp);
        int r;

        r = insn_pop(stack, env, size);
        if (r)
                return r;
        *ret = 0;
        return env->read(env->userdata, gva, ret, size, false);
}

/* ---- Descriptors ---- */

/* Where a selector's descriptor lies; false when the table ends before it or there is none. */
static bool descriptor_address(const struct insn_cpu *cpu, uint16_t selector, unsigned size,
                               uint64_t *ret) {
        const struct kvm_sregs *s = cpu->sregs;
        uint32_t offset = selector & ~7u, limit = s->gdt.limit;
        uint64_t base = s->gdt.base;

        if (selector & 4) {
                if (s->ldt.unusable || !s->ldt.present)
                        return false;
                base = s->ldt.base;
                limit = s->ldt.limit;
        }
        if (offset + size - 1 > limit)
                return false;
        *ret = base + offset;
        return true;
}

static int read_descriptor(const struct insn_cpu *cpu, const struct insn_env *env,
                           uint16_t selector, uint64_t *ret_gva, uint64_t *ret) {
        if (!(selector & ~3u) || !descriptor_address(cpu, selector, 8, ret_gva))
                return INSN_STOP;
        return fetch(env, *ret_gva, ret, 8);
}

/*
 * The CPU sets the accessed bit in the byte of the type, for code and data segments that have it
 * clear.
 */
static int set_accessed(const struct insn_env *env, uint64_t gva, uint64_t desc) {
        if (!(desc & DESC_S) || (DESC_TYPE(desc) & TYPE_ACCESSED))
                return 0;
        return insn_touch_implicit(env, gva + 5, 1, INSN_WRITE);
}

/* Reads the descriptor of a segment about to be used and sets its accessed bit. */
static int use_descriptor(const struct insn_cpu *cpu, const struct insn_env *env, uint16_t selector,
                          uint64_t *ret) {
        uint64_t gva;
        int r;

        r = read_descriptor(cpu, env, selector, &gva, ret);
        if (r)
                return r;
        if (!(*ret & DESC_P) || !(*ret & DESC_S))
                return INSN_STOP;
        return set_accessed(env, gva, *ret);
}

int insn_load_segment(const struct insn_cpu *cpu, const struct insn_env *env, uint16_t selector,
                      enum insn_load load) {
        uint64_t gva, desc;
        int r;

        if (no_descriptors(cpu) || !(selector & ~3u))
                return 0;
        if (load == INSN_LOAD_SEGMENT)
                return use_descriptor(cpu, env, selector, &desc);

        r = read_descriptor(cpu, env, selector, &gva, &desc);
        if (r)
                return r == INSN_STOP && load == INSN_LOAD_VERIFY ? 0 : r;
        if (load == INSN_LOAD_VERIFY)
                return 0;
        if (!(desc & DESC_P) || (desc & DESC_S))
                return INSN_STOP;
        if (long_mode(cpu)) {
                r = insn_touch_implicit(env, gva + 8, 8, INSN_READ);
                if (r)
                        return r;
        }
        return load == INSN_LOAD_TSS ? insn_touch_implicit(env, gva + 5, 1, INSN_WRITE) : 0;
}

/* ---- Stacks of inner levels ---- */

/* Loads RSP0-2 or an IST entry (1-7) of a 64-bit TSS. */
static int tss64_stack(const struct insn_cpu *cpu, const struct insn_env *env, unsigned dpl,
                       unsigned ist, struct insn_stack *ret) {
        uint32_t offset = ist ? 36 + (ist - 1) * 8 : 4 + dpl * 8;

        if (offset + 7 > cpu->sregs->tr.limit)
                return INSN_STOP;
        *ret = (struct insn_stack){ .width = 64, .cpl = dpl };
        return fetch(env, cpu->sregs->tr.base + offset, &ret->sp, 8);
}

/* Loads SS:ESP of a level from a 32-bit or 16-bit TSS, and the stack segment's descriptor. */
static int tss32_stack(const struct insn_cpu *cpu, const struct insn_env *env, unsigned dpl,
                       struct insn_stack *ret) {
        bool wide = cpu->sregs->tr.type & 8;
        unsigned size = wide ? 4 : 2;
        uint32_t offset = wide ? 4 + dpl * 8 : 2 + dpl * 4;
        uint64_t sp = 0, desc;
        uint16_t ss;
        int r;

        if (offset + size + 1 > cpu->sregs->tr.limit)
                return INSN_STOP;
        r = fetch(env, cpu->sregs->tr.base + offset, &sp, size);
        if (r)
                return r;
        r = fetch(env, cpu->sregs->tr.base + offset + size, &ss, sizeof(ss));
        if (r)
                return r;
        r = use_descriptor(cpu, env, ss, &desc);
        if (r)
                return r;

        *ret = (struct insn_stack){
                .base = DESC_BASE(desc),
                .sp = sp,
                .width = desc & DESC_B ? 32 : 16,
                .cpl = dpl,
        };
        return 0;
}

/* The privilege level that a transfer to a code segment ends up at. */
static unsigned target_level(const struct insn_cpu *cpu, uint64_t code) {
        unsigned cpl = insn_cpl(cpu), dpl = DESC_DPL(code);

        return (DESC_TYPE(code) & TYPE_CONFORMING) || dpl > cpl ? cpl : dpl;
}

/* ---- Interrupts and exceptions ---- */

static int interrupt_real(const struct insn_cpu *cpu, const struct insn_env *env, uint64_t base,
                          unsigned vector) {
        struct insn_stack stack;
        int r;

        r = insn_touch_implicit(env, base + vector * 4, 4, INSN_READ);
        if (r)
                return r;
        insn_stack_init(&stack, cpu);
        return push_n(&stack, env, 2, 3);
}

static int interrupt_long(const struct insn_cpu *cpu, const struct insn_env *env, unsigned vector,
                          bool error_code) {
        uint64_t gate[2], code;
        struct insn_stack stack;
        unsigned level;
        int r;

        if (vector * 16 + 15 > cpu->sregs->idt.limit)
                return INSN_STOP;
        r = fetch(env, cpu->sregs->idt.base + vector * 16, gate, sizeof(gate));
        if (r)
                return r;
        if (!(gate[0] & DESC_P) || (DESC_TYPE(gate[0]) & ~1ull) != SYSTEM_INT32)
                return INSN_STOP;

        r = use_descriptor(cpu, env, GATE_SELECTOR(gate[0]), &code);
        if (r)
                return r;
        level = target_level(cpu, code);

        if (level != insn_cpl(cpu) || GATE_IST(gate[0])) {
                r = tss64_stack(cpu, env, level, GATE_IST(gate[0]), &stack);
                if (r)
                        return r;
        } else
                stack = (struct insn_stack){ .sp = cpu->regs->rsp, .width = 64, .cpl = level };

        /* SS, RSP, RFLAGS, CS and RIP always, on a stack aligned to 16 bytes. */
        stack.sp &= ~15ull;
        return push_n(&stack, env, 8, 5 + error_code);
}

static int interrupt_protected(const struct insn_cpu *cpu, const struct insn_env *env,
                               unsigned vector, bool error_code) {
        bool from_v86 = v86(cpu);
        struct insn_stack stack;
        uint64_t gate, code;
        unsigned level, size;
        int r;

        if (vector * 8 + 7 > cpu->sregs->idt.limit)
                return INSN_STOP;
        r = fetch(env, cpu->sregs->idt.base + vector * 8, &gate, 8);
        if (r)
                return r;
        /* A task gate ends here: KVM takes over before the switch touches memory. */
        if (!(gate & DESC_P) || (gate & DESC_S) || (DESC_TYPE(gate) & 6) != SYSTEM_INT16)
                return INSN_STOP;
        size = DESC_TYPE(gate) & 8 ? 4 : 2;

        r = use_descriptor(cpu, env, GATE_SELECTOR(gate), &code);
        if (r)
                return r;
        level = target_level(cpu, code);

        if (level == insn_cpl(cpu)) {
                insn_stack_init(&stack, cpu);
                return push_n(&stack, env, size, 3 + error_code);
        }

        r = tss32_stack(cpu, env, level, &stack);
        if (r)
                return r;
        return push_n(&stack, env, size, (from_v86 ? 9 : 5) + error_code);
}

/*
 * INT n in virtual-8086 mode with CR4.VME: a clear bit in the bitmap below the I/O map sends it
 * through the real-mode table at linear address 0.
 */
static int interrupt_v86_redirected(const struct insn_cpu *cpu, const struct insn_env *env,
                                    unsigned vector, bool *ret) {
        uint64_t tss = cpu->sregs->tr.base;
        uint16_t map;
        uint8_t byte;
        int r;

        *ret = false;
        if (!(cpu->sregs->cr4 & CR4_VME) || cpu->sregs->tr.limit < TSS_IO_MAP + 1)
                return 0;
        r = fetch(env, tss + TSS_IO_MAP, &map, sizeof(map));
        if (r)
                return r;
        if (map < 32 || map - 32 + vector / 8 > cpu->sregs->tr.limit)
                return INSN_STOP;
        r = fetch(env, tss + map - 32 + vector / 8, &byte, 1);
        if (r)
                return r;
        *ret = !(byte >> (vector & 7) & 1);
        return 0;
}

int insn_interrupt(const struct insn_cpu *cpu, const struct insn_env *env, unsigned vector,
                   bool error_code, bool soft) {
        bool redirected = false;
        int r;

        vector &= 0xff;
        if (!(cpu->sregs->cr0 & CR0_PE))
                return interrupt_real(cpu, env, cpu->sregs->idt.base, vector);
        if (long_mode(cpu))
                return interrupt_long(cpu, env, vector, error_code);
        if (soft && v86(cpu)) {
                r = interrupt_v86_redirected(cpu, env, vector, &redirected);
                if (r)
                        return r;
        }
        if (redirected)
                return interrupt_real(cpu, env, 0, vector);
        return interrupt_protected(cpu, env, vector, error_code);
}

int insn_io_permission(const struct insn_cpu *cpu, const struct insn_env *env, uint16_t port) {
        uint64_t tss = cpu->sregs->tr.base;
        uint16_t map;
        int r;

        if (!(cpu->sregs->cr0 & CR0_PE))
                return 0;
        if (!v86(cpu) && insn_cpl(cpu) <= RFLAGS_IOPL(cpu->regs->rflags))
                return 0;
        if (cpu->sregs->tr.limit < TSS_IO_MAP + 1)
                return INSN_STOP;
        r = fetch(env, tss + TSS_IO_MAP, &map, sizeof(map));
        if (r)
                return r;
        if (map + port / 8u + 1 > cpu->sregs->tr.limit)
                return INSN_STOP;
        return insn_touch_implicit(env, tss + map + port / 8, 2, INSN_READ);
}

/* ---- Far transfers ---- */

static int call_gate(const struct insn_cpu *cpu, const struct insn_env *env, uint64_t gva,
                     uint64_t gate, bool call) {
        unsigned level, params = GATE_PARAMS(gate), size = DESC_TYPE(gate) == SYSTEM_CALL16 ? 2 : 4;
        struct insn_stack old, new;
        uint64_t code;
        int r;

        if (!(gate & DESC_P))
                return INSN_STOP;
        if (long_mode(cpu)) {
                r = insn_touch_implicit(env, gva + 8, 8, INSN_READ);
                if (r)
                        return r;
                size = 8;
                params = 0;
        }
        r = use_descriptor(cpu, env, GATE_SELECTOR(gate), &code);
        if (r || !call)
                return r;

        insn_stack_init(&old, cpu);
        level = target_level(cpu, code);
        if (level == insn_cpl(cpu))
                return push_n(&old, env, size, 2);

        r = long_mode(cpu) ? tss64_stack(cpu, env, level, 0, &new)
                           : tss32_stack(cpu, env, level, &new);
        if (r)
                return r;
        for (unsigned i = 0; i < params; i++) {
                r = insn_pop(&old, env, size);
                if (r)
                        return r;
        }
        return push_n(&new, env, size, 4 + params);
}

int insn_far_transfer(const struct insn_cpu *cpu, const struct insn_env *env, uint16_t selector,
                      unsigned size, bool call) {
        struct insn_stack stack;
        uint64_t gva, desc;
        int r;

        if (!no_descriptors(cpu)) {
                r = read_descriptor(cpu, env, selector, &gva, &desc);
                if (r)
                        return r;
                if (!(desc & DESC_S)) {
                        unsigned type = DESC_TYPE(desc);

                        /* TSS and task gate: KVM takes over before the switch touches memory. */
                        if (type != SYSTEM_CALL32 && (type != SYSTEM_CALL16 || long_mode(cpu)))
                                return INSN_STOP;
                        return call_gate(cpu, env, gva, desc, call);
                }
                if (!(desc & DESC_P) || !(DESC_TYPE(desc) & TYPE_CODE))
                        return INSN_STOP;
                r = set_accessed(env, gva, desc);
                if (r)
                        return r;
        }
        if (!call)
                return 0;
        insn_stack_init(&stack, cpu);
        return push_n(&stack, env, size, 2);
}

/*
 * CS has been popped: read its descriptor, and SS with its descriptor when the level changes or
 * always in 64-bit.
 */
static int return_to(const struct insn_cpu *cpu, const struct insn_env *env,
                     struct insn_stack *stack, uint16_t selector, unsigned size, bool iret) {
        bool always = iret && insn_is_64bit(cpu);
        uint64_t sp, ss, desc;
        int r;

        if (always) {
                r = insn_pop_value(stack, env, size, &sp);
                if (r)
                        return r;
                r = insn_pop_value(stack, env, size, &ss);
                if (r)
                        return r;
        }
        r = use_descriptor(cpu, env, selector, &desc);
        if (r)
                return r;
        if (!always) {
                if ((selector & 3u) == insn_cpl(cpu))
                        return 0;
                r = insn_pop_value(stack, env, size, &sp);
                if (r)
                        return r;
                r = insn_pop_value(stack, env, size, &ss);
                if (r)
                        return r;
        }
        /* 64-bit code may return with a null SS */
        if (!(ss & 0xfffc))
                return 0;
        return use_descriptor(cpu, env, ss, &desc);
}

int insn_far_return(const struct insn_cpu *cpu, const struct insn_env *env, unsigned size,
                    unsigned release) {
        struct insn_stack stack;
        uint64_t cs;
        int r;

        insn_stack_init(&stack, cpu);
        r = insn_pop(&stack, env, size);
        if (r)
                return r;
        r = insn_pop_value(&stack, env, size, &cs);
        if (r || no_descriptors(cpu))
                return r;
        stack.sp = (stack.sp + release) & width_mask(stack.width);
        return return_to(cpu, env, &stack, cs, size, false);
}

int insn_iret(const struct insn_cpu *cpu, const struct insn_env *env, unsigned size) {
        struct insn_stack stack;
        uint64_t cs, flags;
        int r;

        insn_stack_init(&stack, cpu);
        r = insn_pop(&stack, env, size);
        if (r)
                return r;
        r = insn_pop_value(&stack, env, size, &cs);
        if (r)
                return r;
        r = insn_pop_value(&stack, env, size, &flags);
        if (r || no_descriptors(cpu))
                return r;

        /* Back to virtual-8086 mode: ESP, SS, ES, DS, FS and GS, and no descriptors. */
        if (!long_mode(cpu) && size == 4 && (flags & RFLAGS_VM) && insn_cpl(cpu) == 0) {
                for (unsigned i = 0; i < 6; i++) {
                        r = insn_pop(&stack, env, size);
                        if (r)
                                return r;
                }
                return 0;
        }
        return return_to(cpu, env, &stack, cs, size, true);
}
