/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/hvpage.h"

/*
 * Each entry begins with ENDBR64 or ENDBR32, so that an indirect call reaches it with CET's branch
 * tracking on. The first one serves both modes: what is not its mode's ENDBR is a NOP.
 */
struct entry {
        uint8_t offset;
        uint8_t out; /* offset of the `out` within the page */
        uint8_t port;
        uint8_t size;
        uint8_t code[24];
};

static const struct entry entries[] = {
        { 0x00,
          0x04,
          HVPAGE_PORT_HYPERCALL,
          7,
          { 0xf3, 0x0f, 0x1e, 0xfa,      /* endbr64 */
            0xe6, HVPAGE_PORT_HYPERCALL, /* out %al, $port */
            0xc3 } },                    /* ret */
        { 0x10,
          0x1b,
          HVPAGE_PORT_VTL_CALL,
          14,
          { 0xf3, 0x0f, 0x1e, 0xfb,       /* endbr32 */
            0x8b, 0xc8,                   /* mov %eax, %ecx */
            0xb8, 0x11, 0x00, 0x00, 0x00, /* mov $0x11, %eax */
            0xe6, HVPAGE_PORT_VTL_CALL, 0xc3 } },
        { 0x20,
          0x2e,
          HVPAGE_PORT_VTL_CALL,
          17,
          { 0xf3, 0x0f, 0x1e, 0xfa,          /* endbr64 */
            0x48, 0x8b, 0xc1,                /* mov %rcx, %rax */
            0x48, 0xc7, 0xc1, 0x11, 0, 0, 0, /* mov $0x11, %rcx */
            0xe6, HVPAGE_PORT_VTL_CALL, 0xc3 } },
        { 0x38,
          0x43,
          HVPAGE_PORT_VTL_RETURN,
          14,
          { 0xf3, 0x0f, 0x1e, 0xfb, 0x8b, 0xc8, 0xb8, 0x12, 0x00, 0x00, 0x00, 0xe6,
            HVPAGE_PORT_VTL_RETURN, 0xc3 } },
        { 0x48,
          0x56,
          HVPAGE_PORT_VTL_RETURN,
          17,
          { 0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8b, 0xc1, 0x48, 0xc7, 0xc1, 0x12, 0, 0, 0, 0xe6,
            HVPAGE_PORT_VTL_RETURN, 0xc3 } },
};

enum {
        ENTRY_HYPERCALL,
        ENTRY_CALL32,
        ENTRY_CALL64,
        ENTRY_RETURN32,
        ENTRY_RETURN64
};

void hvpage_fill(uint8_t page[4096]) {
        memset(page, 0xcc, 4096);
        for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
                memcpy(page + entries[i].offset, entries[i].code, entries[i].size);
}

int hvpage_out_offset(unsigned port, uint64_t rip) {
        unsigned at = (unsigned) (rip & 0xfff);

        for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
                if (entries[i].port == port &&
                    (at == entries[i].out || at == entries[i].out + 0u + HVPAGE_OUT_LENGTH))
                        return entries[i].out;
        return -1;
}

uint64_t hvpage_code_page_offsets(bool long_mode) {
        if (long_mode)
                return (uint64_t) entries[ENTRY_RETURN64].offset << 12 |
                       entries[ENTRY_CALL64].offset;
        return (uint64_t) entries[ENTRY_RETURN32].offset << 12 | entries[ENTRY_CALL32].offset;
}
