/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <cpuid.h>

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

/*
 * The first entry of a page that sends calls to KVM: a jump to the code below. Flags and registers
 * are the caller's until its call is decided about, RAX and RFLAGS on the stack meanwhile. In
 * 32-bit mode the constant of the MOV is its code: everything traps there.
 */
#define DISPATCH 0x80u
#define DISPATCH_CALL 0xb4u /* VMCALL, aligned so that it is changed at once */
#define DISPATCH_OUT 0xcbu

static const uint8_t dispatch_entry[] = { 0xf3, 0x0f, 0x1e, 0xfa, /* endbr64 */
                                          0xeb, 0x7a };           /* jmp DISPATCH */
static const uint8_t dispatch[] = {
        0x9c,       /* 80 pushfq */
        0x50,       /* 81 push %rax */
        0x48, 0xb8, /* 82 mov $..., %rax  | dec %eax; mov $..., %eax */
        0x90, 0x90,
        0x90, 0x90, /* 84                 | */
        0x58, 0x9d,
        0xeb, 0x3f, /* 88                 | pop %eax; popfd; jmp cb */
        0x0f, 0xb7,
        0xc1, /* 8c movzwl %cx, %eax: the call code */
        0x83, 0xf8,
        0x0b,       /* 8f cmp $SendSyntheticClusterIpi, %eax */
        0x74, 0x24, /* 92 je b8 */
        0x83, 0xf8,
        0x1f,       /* 94 cmp $31, %eax */
        0x77, 0x30, /* 97 ja c9 */
        0x0f, 0xa3,
        0x05, 0x30,
        0x00, 0x00,
        0x00,       /* 99 bt %eax, d0(%rip): one of the flushes? */
        0x73, 0x27, /* a0 jnc c9 */
        0x0f, 0xba,
        0xe1, 0x10, /* a2 bt $16, %ecx: fast? */
        0x73, 0x09, /* a6 jnc b1 */
        0x41, 0xf7,
        0xc0, 0x10,
        0x03, 0x00,
        0x00,       /* a8 test $0x310, %r8d: target VTLs */
        0x75, 0x18, /* af jnz c9 */
        0x58,       /* b1 pop %rax */
        0x9d,       /* b2 popfq */
        0x90,       /* b3 nop */
        0x0f, 0x01,
        0xc1, 0xc3, /* b4 vmcall; ret */
        0x81, 0xf9,
        0x0b, 0x00,
        0x01, 0x00, /* b8 cmp $0x1000b, %ecx: its fast form? */
        0x75, 0x09, /* be jne c9 */
        0x48, 0x89,
        0xd0, /* c0 mov %rdx, %rax */
        0x48, 0xc1,
        0xe8, 0x20, /* c3 shr $32, %rax: target VTL, flags */
        0x74, 0xe8, /* c7 jz b1 */
        0x58,       /* c9 pop %rax */
        0x9d,       /* ca popfq */
        0xe6, HVPAGE_PORT_HYPERCALL,
        0xc3,       /* cb out %al, $port; ret */
        0xcc, 0xcc, /* ce */
        0x0c, 0x00,
        0x18, 0x00, /* d0 call codes 2, 3, 0x13 and 0x14 */
};

enum hvpage_kind hvpage_kernel_kind(void) {
        uint32_t eax, vendor[3];

        if (!__get_cpuid(0, &eax, &vendor[0], &vendor[2], &vendor[1]))
                return HVPAGE_PLAIN;
        return memcmp(vendor, "GenuineIntel", 12) == 0 || memcmp(vendor, "CentaurHauls", 12) == 0 ||
                               memcmp(vendor, "  Shanghai  ", 12) == 0
                     ? HVPAGE_VMCALL
                     : HVPAGE_VMMCALL;
}

void hvpage_trap_all(uint8_t page[4096], enum hvpage_kind kind, bool on) {
        static const uint8_t calls[][4] = {
                [HVPAGE_VMCALL] = { 0x0f, 0x01, 0xc1, 0xc3 },
                [HVPAGE_VMMCALL] = { 0x0f, 0x01, 0xd9, 0xc3 },
        };
        /* As long as the other: who is behind it when it changes goes on at the RET. */
        static const uint8_t trap[4] = { 0x3e, 0xe6, HVPAGE_PORT_HYPERCALL, 0xc3 };
        uint32_t code;

        if (kind == HVPAGE_PLAIN)
                return;
        memcpy(&code, on ? trap : calls[kind], sizeof(code));
        __atomic_store_n((uint32_t *) (void *) (page + DISPATCH_CALL), code, __ATOMIC_SEQ_CST);
}

void hvpage_fill(uint8_t page[4096], enum hvpage_kind kind) {
        memset(page, 0xcc, 4096);
        for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
                memcpy(page + entries[i].offset, entries[i].code, entries[i].size);
        if (kind == HVPAGE_PLAIN)
                return;
        memset(page, 0xcc, entries[0].size);
        memcpy(page, dispatch_entry, sizeof(dispatch_entry));
        memcpy(page + DISPATCH, dispatch, sizeof(dispatch));
        hvpage_trap_all(page, kind, false);
}

int hvpage_out_offset(unsigned port, uint64_t rip) {
        static const struct {
                unsigned out, length;
        } dispatched[] = {
                { DISPATCH_CALL, HVPAGE_OUT_LENGTH + 1 }, /* with its prefix */
                { DISPATCH_OUT, HVPAGE_OUT_LENGTH },
        };
        unsigned at = (unsigned) (rip & 0xfff);

        for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
                if (entries[i].port == port &&
                    (at == entries[i].out || at == entries[i].out + 0u + HVPAGE_OUT_LENGTH))
                        return entries[i].out;
        for (size_t i = 0; i < ARRAY_SIZE(dispatched) && port == HVPAGE_PORT_HYPERCALL; i++)
                if (at == dispatched[i].out || at == dispatched[i].out + dispatched[i].length)
                        return (int) dispatched[i].out;
        return -1;
}

uint64_t hvpage_code_page_offsets(bool long_mode) {
        if (long_mode)
                return (uint64_t) entries[ENTRY_RETURN64].offset << 12 |
                       entries[ENTRY_CALL64].offset;
        return (uint64_t) entries[ENTRY_RETURN32].offset << 12 | entries[ENTRY_CALL32].offset;
}
