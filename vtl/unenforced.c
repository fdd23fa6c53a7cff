/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/control.h"
#include "vtl/hvdef.h"
#include "vtl/unenforced.h"

#define CR(name_, bit, what_)                                             \
        {                                                                 \
                .name = (name_), .what = (what_), .key = "cr-intercepts", \
                .cr = 1ull << HV_CR_INTERCEPT_##bit                       \
        }

/* There is no intercept of CR8: the ABI knows none (vsm.md 4.16, 8.7). */
static const struct unenforced rows[] = {
        CR("cr0-write", CR0_WRITE, "intercept of writes to CR0"),
        CR("cr4-write", CR4_WRITE, "intercept of writes to CR4"),
        CR("xcr0-write", XCR0_WRITE, "intercept of writes to XCR0"),
        CR("gdtr-write", GDTR_WRITE, "intercept of LGDT"),
        CR("idtr-write", IDTR_WRITE, "intercept of LIDT"),
        CR("ldtr-write", LDTR_WRITE, "intercept of LLDT"),
        CR("tr-write", TR_WRITE, "intercept of LTR"),
        { .name = "cpuid-intercept",
          .what = "intercept of CPUID",
          .key = "cr-intercepts",
          .flag = VTL_UNENFORCED_CPUID_INTERCEPT },
        /* PIC, PIT and ELCR: with an in-kernel APIC they are usually the kernel's, too. */
        { .name = "port-intercept",
          .what = "intercept of ports of the PIC, PIT and ELCR, which KVM itself has",
          .key = "cr-intercepts",
          .flag = VTL_UNENFORCED_PORT_INTERCEPT,
          .ports = { { 0x20, 0x21 },
                     { 0x40, 0x43 },
                     { 0x61, 0x61 },
                     { 0xa0, 0xa1 },
                     { 0x4d0, 0x4d1 } } },
        /* KVM ignores a filter on them: they are its APIC's. */
        { .name = "x2apic-msr-intercept",
          .what = "intercept of the MSRs of the x2APIC",
          .msrs = { 0x800, 0x8ff } },
        { .name = "mbec",
          .what = "execute rights that are different for kernel and user of VTL0",
          .key = "mbec",
          .flag = VTL_UNENFORCED_MBEC },
        { .name = "deny-startup",
          .what = "keeping VTL0 from starting virtual processors by INIT and SIPI",
          .key = "deny-startup",
          .flag = VTL_UNENFORCED_STARTUP_DENIAL },
        { .name = "execute",
          .what = "execute rights of VTL0, beyond the pages of strict mode",
          .key = "strict-execute-pages",
          .flag = VTL_UNENFORCED_EXECUTE },
};
_Static_assert(ARRAY_SIZE(rows) <= UNENFORCED_MAX, "room for all names");

const struct unenforced *unenforced_get(size_t i) {
        return i < ARRAY_SIZE(rows) ? &rows[i] : NULL;
}

uint64_t unenforced_cr_bits(void) {
        uint64_t bits = 0;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                bits |= rows[i].cr;
        return bits;
}

static bool within(const struct unenforced_range *r, uint32_t value) {
        return r->last != 0 && value >= r->first && value <= r->last;
}

bool unenforced_port(uint32_t port) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                for (size_t k = 0; k < ARRAY_SIZE(rows[i].ports); k++)
                        if (within(&rows[i].ports[k], port))
                                return true;
        return false;
}

bool unenforced_msr(uint32_t msr) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (within(&rows[i].msrs, msr))
                        return true;
        return false;
}

size_t unenforced_names(uint64_t cr, uint64_t flags, const char *ret[UNENFORCED_MAX]) {
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if ((rows[i].cr & cr) || (rows[i].flag & flags))
                        ret[n++] = rows[i].name;
        return n;
}
