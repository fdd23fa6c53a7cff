/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "flush.h"

#define FAST_WORDS 14 /* RDX, R8, XMM0-5 */

const char *const flush_names[FLUSH_CALLS] = {
        [FLUSH_SPACE] = "FlushVirtualAddressSpace",
        [FLUSH_LIST] = "FlushVirtualAddressList",
        [FLUSH_SPACE_EX] = "FlushVirtualAddressSpaceEx",
        [FLUSH_LIST_EX] = "FlushVirtualAddressListEx",
};

static const struct {
        uint64_t code;
        bool ex, list;
} calls[FLUSH_CALLS] = {
        [FLUSH_SPACE] = { HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE, false, false },
        [FLUSH_LIST] = { HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST, false, true },
        [FLUSH_SPACE_EX] = { HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX, true, false },
        [FLUSH_LIST_EX] = { HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX, true, true },
};

struct flush flush_call(enum flush_call call, bool fast, uint64_t flags, uint64_t mask) {
        struct flush f = { .call = call,
                           .fast = fast,
                           .space = read_cr3(),
                           .flags = flags,
                           .mask = mask,
                           .valid = 1 };

        if (calls[call].ex)
                f.banks = 1;
        if (calls[call].list) {
                f.ranges = 2;
                f.range[0] = WINDOW_PAGE(0) | 1; /* that page and one more */
                f.range[1] = WINDOW_PAGE(2);
        }
        return f;
}

/* The input block in words of 8 bytes; how many there are */
static unsigned build(const struct flush *f, uint64_t *word) {
        unsigned n = 0;

        word[n++] = f->space;
        word[n++] = f->flags;
        if (calls[f->call].ex) {
                word[n++] = f->format;
                word[n++] = f->valid;
                for (unsigned i = 0; i < f->banks; i++)
                        word[n++] = i == 0 ? f->mask : 0;
        } else
                word[n++] = f->mask;
        for (unsigned i = 0; i < f->ranges; i++)
                word[n++] = i < FLUSH_RANGES ? f->range[i] : WINDOW_PAGE(i);
        return n;
}

uint64_t flush_send(const struct flush *f) {
        uint64_t *word = this_cpu()->in;
        struct xmm_call c = { .entry = this_cpu()->hypercall_entry };
        unsigned n = build(f, word);
        uint64_t control = calls[f->call].code | HV_REPS(f->ranges) |
                           (uint64_t) f->banks << HV_CONTROL_VARHDR_SHIFT;

        if (!f->fast)
                return hv_call_memory(control ^ f->control);
        c.control = (control | HV_CONTROL_FAST) ^ f->control;
        c.rdx = word[0];
        c.r8 = word[1];
        for (unsigned i = 2; i < n && i < FAST_WORDS; i++)
                *(i % 2 ? &c.xmm[i / 2 - 1].high : &c.xmm[i / 2 - 1].low) = word[i];
        return xmm_call(&c);
}

unsigned flush(enum flush_call call, bool fast, uint64_t flags, uint64_t mask) {
        struct flush f = flush_call(call, fast, flags, mask);

        return HV_RESULT_STATUS(flush_send(&f));
}
