/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Which memory one instruction touches, in the order the CPU touches it. The instruction is decoded
 * with Zydis, which no other module sees.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#define INSN_MAX_LENGTH 15

/**
 * struct insn_vectors - vector and mask registers, which gathers and masked moves need
 * @reg: XMM, YMM or ZMM 0-31, low bytes first
 * @k: the AVX-512 mask registers
 */
struct insn_vectors {
        uint8_t reg[32][64];
        uint64_t k[8];
};

/**
 * struct insn_cpu - the state of the CPU before the instruction
 * @regs: general registers, RIP, RFLAGS
 * @sregs: segments and control registers
 * @vectors: may be NULL; an instruction that needs them then ends in -ENODATA
 * @xsave_size: bytes of an XSAVE area with all enabled components (CPUID 0xd.0 EBX), 0 when not
 * known
 */
struct insn_cpu {
        const struct kvm_regs *regs;
        const struct kvm_sregs *sregs;
        const struct insn_vectors *vectors;
        uint32_t xsave_size;
};

enum insn_access_type {
        INSN_READ,
        INSN_WRITE, /* also read-modify-write */
};

/**
 * struct insn_access - one access to linear memory
 * @gva: linear address of the first byte, segment base applied
 * @size: in bytes, at least 1; may cross pages
 * @type: read or write
 * @implicit: made with supervisor rights whatever the CPL: descriptor tables and TSS
 * @cpl: the privilege level that applies when it is not implicit
 */
struct insn_access {
        uint64_t gva;
        uint32_t size;
        enum insn_access_type type;
        bool implicit;
        uint8_t cpl;
};

/* What a callback returns to end the visit where the CPU would raise an exception. */
#define INSN_STOP 1

/**
 * struct insn_env - who is told of accesses, and where further ones are read from
 * @access: told of every access, in order; 0 to go on, anything else to stop
 * @read: copies linear memory that @access has been told of and let pass; 0, or anything else to
 * stop
 * @userdata: handed to both
 */
struct insn_env {
        int (*access)(void *userdata, const struct insn_access *access);
        int (*read)(void *userdata, uint64_t gva, void *buf, uint32_t len, bool implicit);
        void *userdata;
};

/** insn_is_64bit() - whether the code segment is a 64-bit one */
bool insn_is_64bit(const struct insn_cpu *cpu);

/** insn_cpl() - the current privilege level; KVM keeps it in SS.DPL */
unsigned insn_cpl(const struct insn_cpu *cpu);

/** insn_address() - the linear address of RIP */
uint64_t insn_address(const struct insn_cpu *cpu);

/**
 * insn_length() - the length of the instruction at the start of @bytes
 * Return: 1 to 15; 0 when it is longer than @n; -EBADMSG when it is no instruction.
 */
int insn_length(const struct insn_cpu *cpu, const uint8_t *bytes, size_t n);

/**
 * insn_visit() - tell @env of every access of an instruction
 * @cpu: the state before it; what is visited is the next element only of a repeated one
 * @bytes: the instruction
 * @n: how many bytes; more than the instruction has do no harm
 * @env: callbacks
 *
 * Where it depends on conditions that are not looked at (limits, privilege) all accesses that could
 * happen are told, the doubtful ones late.
 *
 * Return: 0 after the last access; INSN_STOP or another value of a callback; -EBADMSG when it is no
 * instruction; -ENODATA when the vector registers are needed and absent.
 */
int insn_visit(const struct insn_cpu *cpu, const uint8_t *bytes, size_t n,
               const struct insn_env *env);

enum insn_kind {
        INSN_KIND_PLAIN,
        INSN_KIND_STORES_FLAGS, /* PUSHF: TF would be in the image */
        INSN_KIND_LOADS_FLAGS,  /* POPF and IRET */
        INSN_KIND_INTERRUPT,    /* INT n and its like: no trap, and TF in the image */
        INSN_KIND_UNTRAPPED,    /* the trap comes late or never */
        INSN_KIND_UNKNOWN,      /* no instruction */
};

/**
 * struct insn_step - what matters about an instruction that is to be done by itself, with RFLAGS.TF
 * set
 * @vector: of INSN_KIND_INTERRUPT
 * @flags_gva: where the image of the flags is that it stores or loads; whether the instruction can
 * get at it is not looked at
 */
struct insn_step {
        enum insn_kind kind;
        unsigned vector;
        uint64_t flags_gva;
};

struct insn_step insn_step(const struct insn_cpu *cpu, const uint8_t *bytes, size_t n);

/**
 * insn_vectors_from_xsave() - take vector registers out of a KVM_GET_XSAVE image
 * @ret: filled in
 * @xsave: standard (not compacted) image
 * @size: its size
 * @avx512: offsets of the opmask, ZMM_Hi256 and Hi16_ZMM components (CPUID 0xd.5-7 EBX), 0 for
 * absent ones
 *
 * Components that the image says are in their initial state are zero.
 */
void insn_vectors_from_xsave(struct insn_vectors *ret, const void *xsave, size_t size,
                             const uint32_t avx512[3]);
