/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vtl/segment.h"

struct kvm_segment vtl_segment_to_kvm(const struct hv_x64_segment_register *s) {
        uint16_t a = s->attributes;

        return (struct kvm_segment){ .base = s->base,
                                     .limit = s->limit,
                                     .selector = s->selector,
                                     .type = a & 0xf,
                                     .s = a >> 4 & 1,
                                     .dpl = a >> 5 & 3,
                                     .present = a >> 7 & 1,
                                     .avl = a >> 12 & 1,
                                     .l = a >> 13 & 1,
                                     .db = a >> 14 & 1,
                                     .g = a >> 15 & 1,
                                     .unusable = !(a >> 7 & 1) };
}

struct hv_x64_segment_register vtl_segment_from_kvm(const struct kvm_segment *g) {
        return (struct hv_x64_segment_register){
                .base = g->base,
                .limit = g->limit,
                .selector = g->selector,
                .attributes = (uint16_t) (g->type | g->s << 4 | g->dpl << 5 |
                                          (g->present && !g->unusable) << 7 | g->avl << 12 |
                                          g->l << 13 | g->db << 14 | g->g << 15),
        };
}
