/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pattern.h"

_Static_assert(offsetof(struct pattern, rflags) == 128 && offsetof(struct pattern, ready) == 152 &&
                       offsetof(struct pattern, xmm) == 160,
               "pattern.S");

#define RSP 4

void pattern_fill(struct pattern *p, uint64_t seed) {
        for (unsigned i = 0; i < 16; i++) {
                p->gpr[i] = 0xabcd000000000000 | seed << 16 | i;
                p->xmm[i] = (struct xmm){ 0xef01000000000000 | seed << 16 | i,
                                          0x2345000000000000 | seed << 16 | i };
        }
        p->rflags = RFLAGS_FIXED;
}

unsigned pattern_differs(const struct pattern *a, const struct pattern *b) {
        unsigned n = 0;

        for (unsigned i = 0; i < 16; i++) {
                if (i != RSP && a->gpr[i] != b->gpr[i]) {
                        print("# register %u: 0x%lx, 0x%lx\n", i, a->gpr[i], b->gpr[i]);
                        n++;
                }
                if (a->fpu &&
                    (a->xmm[i].low != b->xmm[i].low || a->xmm[i].high != b->xmm[i].high)) {
                        print("# XMM%u: 0x%lx%016lx, 0x%lx%016lx\n", i, a->xmm[i].high,
                              a->xmm[i].low, b->xmm[i].high, b->xmm[i].low);
                        n++;
                }
        }
        return n;
}

void pattern_on_nmi(struct trap_frame *f) {
        if (f->rip >= (uint64_t) pattern_spin && f->rip < (uint64_t) pattern_leave)
                f->rip = (uint64_t) pattern_leave;
}
