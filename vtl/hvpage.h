/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The hypercall page. Its entries trap with `out imm8, al` on one of three ports instead of VMCALL,
 * so the exit says which entry it is before any register is read (design section 4). The page is
 * the same in both VTLs.
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

/* Fills one page with the entries. */
void hvpage_fill(uint8_t page[4096]);

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
