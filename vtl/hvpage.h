/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The hypercall page. Its entries trap with `out imm8, al` on one of three ports instead of VMCALL,
 * so the exit says which entry it is before any register is read (design section 4).
 *
 * Where KVM knows Hyper-V's hypercalls itself, VTL0's page sends some of them there: flushes
 * without a target VTL, and the fast form of the IPI without one, for KVM ignores target VTLs. In
 * its memory form a flush has its flags where the page cannot look: one that names a target goes to
 * KVM, too. As the only level below VTL1 VTL0 could name itself, which is what it gets, or VTL1,
 * which would be refused and is now answered with a flush of its own.
 */

#include <stdbool.h>
#include <stdint.h>

/* Ports that are free on a PC; imm8, so below 0x100, and not 0x7e (KVM has a RIP quirk there). */
#define HVPAGE_PORT_HYPERCALL 0xe4
#define HVPAGE_PORT_VTL_CALL 0xe5
#define HVPAGE_PORT_VTL_RETURN 0xe6
#define HVPAGE_OUT_LENGTH 2

static inline bool hvpage_is_port(unsigned port) {
        return port >= HVPAGE_PORT_HYPERCALL && port <= HVPAGE_PORT_VTL_RETURN;
}

enum hvpage_kind {
        HVPAGE_PLAIN,   /* everything traps */
        HVPAGE_VMCALL,  /* some go to KVM, with Intel's instruction */
        HVPAGE_VMMCALL, /* with AMD's */
};

/* The kind for this machine's processor when KVM serves hypercalls. */
enum hvpage_kind hvpage_kernel_kind(void);

/* Fills one page with the entries. */
void hvpage_fill(uint8_t page[4096], enum hvpage_kind kind);

/**
 * hvpage_trap_all() - whether all calls trap, for a while
 * @page: one that hvpage_fill() has filled
 * @kind: how
 * @on: VTL1 holds a TLB lock, which KVM knows nothing of
 *
 * Nobody may be in the guest meanwhile: who has come past the decision must find the other
 * instruction, and a CPU that runs may have fetched the old one.
 */
void hvpage_trap_all(uint8_t page[4096], enum hvpage_kind kind, bool on);

/**
 * hvpage_out_offset() - where in the page an `out` to one of the ports stands
 * @port: the port of the exit
 * @rip: RIP as KVM reported it: at the `out` on KVM-AMD, behind it where KVM emulates (kvm-findings
 * 4)
 *
 * Only the offset in the page is looked at: whoever runs at CPL 0 may make the call through the
 * page anyway, so it is no gain to issue the same `out` at the same offset of another page.
 *
 * Return: the offset of the `out`, or -1 when no entry for this port has its `out` there.
 */
int hvpage_out_offset(unsigned port, uint64_t rip);

/* HvRegisterVsmCodePageOffsets for a 64-bit or 32-bit caller (vsm.md 4.3) */
uint64_t hvpage_code_page_offsets(bool long_mode);
