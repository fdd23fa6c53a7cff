/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/memory.h"
#include "vtl/overlay.h"
#include "vtl/strict.h"

static enum vtl_overlay_kind page_kind(uint32_t page) {
        if (page < VTL_OVERLAYS_PARTITION)
                return (enum vtl_overlay_kind)(page / VTL_MAX_VTLS);
        return (enum vtl_overlay_kind)(VTL_OVERLAY_ASSIST + (page - VTL_OVERLAYS_PARTITION) %
                                                                    VTL_OVERLAYS_PER_VP /
                                                                    VTL_MAX_VTLS);
}

const struct vtl_overlay *vtl_overlay_find(const struct vtl_partition *p, unsigned vtl,
                                           uint64_t gpn) {
        for (size_t i = 0; i < p->n_overlays[vtl]; i++)
                if (p->overlays[vtl][i].gpn == gpn)
                        return &p->overlays[vtl][i];
        return NULL;
}

unsigned vtl_overlay_access(const struct vtl_overlay *o) {
        static const unsigned table[_VTL_OVERLAY_MAX] = {
                [VTL_OVERLAY_HYPERCALL] = HV_MAP_GPA_READABLE | HV_MAP_GPA_KERNEL_EXECUTABLE |
                                          HV_MAP_GPA_USER_EXECUTABLE,
                [VTL_OVERLAY_TSC] = HV_MAP_GPA_READABLE,
                [VTL_OVERLAY_ASSIST] = HV_MAP_GPA_ALL,
                [VTL_OVERLAY_SIMP] = HV_MAP_GPA_ALL,
                [VTL_OVERLAY_SIEFP] = HV_MAP_GPA_ALL,
        };

        return table[page_kind(o->page)];
}

uint8_t *vtl_overlay_data(const struct vtl_partition *p, uint32_t page) {
        return p->config.overlay + (size_t) page * HV_PAGE_SIZE;
}

static struct vtl_overlay *find_page(struct vtl_partition *p, unsigned vtl, uint32_t page) {
        for (size_t i = 0; i < p->n_overlays[vtl]; i++)
                if (p->overlays[vtl][i].page == page)
                        return &p->overlays[vtl][i];
        return NULL;
}

static int take_off(struct vtl_vp *vp, unsigned vtl, struct vtl_overlay *o) {
        struct vtl_partition *p = vp->partition;
        unsigned beneath = vtl == 0 ? vtl_strict_access(p, o->gpn) : HV_MAP_GPA_ALL;
        int r;

        r = p->config.ops->overlay(p->config.ops_ctx, p->current->index, vtl, o->gpn,
                                   PLANE_OVERLAY_NONE, beneath);
        if (r < 0)
                return r;
        *o = p->overlays[vtl][--p->n_overlays[vtl]];
        return 0;
}

int vtl_overlay_set(struct vtl_vp *vp, unsigned vtl, enum vtl_overlay_kind kind, bool enable,
                    uint64_t gpn) {
        struct vtl_partition *p = vp->partition;
        uint32_t page = vtl_overlay_page(kind, vp->index, vtl);
        struct vtl_overlay *o = find_page(p, vtl, page);
        struct vtl_overlay wanted = { .gpn = gpn, .page = page };
        int r;

        if (!enable)
                return o ? take_off(vp, vtl, o) : 0;
        if (o && o->gpn == gpn)
                return 0;
        if (!vtl_memory_is_ram(p, gpn) || vtl_overlay_find(p, vtl, gpn))
                return 1;
        /* A VTL may not cover with its own page what a higher VTL closed to it (vsm.md 8.4). */
        if (vtl == 0 &&
            (~protect_get(p->protect, gpn) & (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)))
                return 1;

        r = p->config.ops->overlay(p->config.ops_ctx, p->current->index, vtl, gpn, page,
                                   vtl_overlay_access(&wanted));
        if (r == -ENOMEM)
                return 1; /* the host has no mappings left */
        if (r < 0)
                return r;
        if (o) {
                r = take_off(vp, vtl, o);
                if (r < 0)
                        return r;
        }
        p->overlays[vtl][p->n_overlays[vtl]++] = wanted;
        return 0;
}
