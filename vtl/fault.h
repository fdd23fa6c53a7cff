/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Finding the access that VTL1's mask forbids. KVM says that VTL0 made one (KVM_RUN fails with
 * EFAULT) and where the instruction is, not which address it touched; this finds out by doing again
 * what the CPU did.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "vtl/hvdef.h"
#include "vtl/insn.h"
#include "vtl/walk.h"

/**
 * struct fault_cpu - the VP as KVM_RUN left it
 * @regs: general registers
 * @sregs: segments and control registers
 * @events: says whether an event was being delivered
 * @vectors: may be NULL until fault_find() asks for them with -ENODATA
 * @xsave_size: bytes of an XSAVE area with all enabled components, 0 when not known
 */
struct fault_cpu {
        const struct kvm_regs *regs;
        const struct kvm_sregs *sregs;
        const struct kvm_vcpu_events *events;
        const struct insn_vectors *vectors;
        uint32_t xsave_size;
};

enum fault_cause {
        FAULT_INSTRUCTION,    /* an access of the instruction at RIP */
        FAULT_FETCH,          /* reading the instruction itself */
        FAULT_PAGE_WALK,      /* a page-table entry on the way to any of these */
        FAULT_EVENT_DELIVERY, /* IDT, descriptor tables, TSS or stack; the instruction at RIP is
                                 innocent */
};

/**
 * struct fault_access - the forbidden access
 * @gpa: full guest physical address
 * @gva: its linear address; with FAULT_PAGE_WALK that of the access the walk was for
 * @gva_valid: whether @gva means something; always, today
 * @access: read, write or execute
 * @cause: who made it
 * @nested_walk: nothing was forbidden by the mask as the architecture has it, but the page tables
 * lie in a page without the right to write and the host's nested walk writes; @gpa is the first
 * such entry
 * @insn_len: 0 when the instruction was not the cause or could not be read
 * @insn_byte_count: how many of @insn_bytes are valid
 * @insn_bytes: the instruction
 */
struct fault_access {
        uint64_t gpa;
        uint64_t gva;
        bool gva_valid;
        enum hv_intercept_access access;
        enum fault_cause cause;
        bool nested_walk;
        uint8_t insn_len;
        uint8_t insn_byte_count;
        uint8_t insn_bytes[16];
};

/**
 * fault_find() - find the first access that the rights forbid
 * @cpu: the VP
 * @space: memory and rights as the VTL sees them
 * @ret: filled in when something was found
 *
 * In this order: the delivery of an event that @cpu->events says is injected (and nothing else
 * then); the fetch of the instruction; its accesses, each with its page walk and the accessed and
 * dirty bits that it sets. When none is forbidden, the first page-table entry in a page that may
 * not be written.
 *
 * A page that can be read can be executed, unless @space->no_execute says otherwise.
 *
 * Return: 1 when found; 0 when nothing is forbidden; -ENODATA when the instruction addresses memory
 * with vector registers and @cpu->vectors is NULL; another negative errno when reading memory
 * failed.
 */
int fault_find(const struct fault_cpu *cpu, const struct walk_space *space,
               struct fault_access *ret);

/* A scattered load touches the most: 16 elements, each with its page walk. */
#define FAULT_TOUCHED_MAX 96

/**
 * struct fault_touched - the pages that what the VP is about to do touches, page tables included
 * @insn: what it is; INSN_KIND_INTERRUPT for an event that is being delivered
 * @overflow: there are more
 */
struct fault_touched {
        struct insn_step insn;
        uint64_t gpns[FAULT_TOUCHED_MAX];
        size_t n;
        bool overflow;
};

/**
 * fault_touched() - the pages that fault_find() would look at, were all of them allowed
 *
 * Up to the exception that the CPU would raise on the way, if there is one.
 *
 * Return: 0, or a negative errno as fault_find().
 */
int fault_touched(const struct fault_cpu *cpu, const struct walk_space *space,
                  struct fault_touched *ret);
bool fault_touches(const struct fault_touched *t, uint64_t gpn);

/**
 * fault_fetch() - read the instruction at RIP, rights ignored
 * @ret: insn_len, insn_byte_count and insn_bytes are filled in; 0 when it cannot be read or is none
 *
 * Return: 0, or a negative errno when reading memory failed.
 */
int fault_fetch(const struct fault_cpu *cpu, const struct walk_space *space,
                struct fault_access *ret);
