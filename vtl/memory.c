/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/memory.h"
#include "vtl/overlay.h"
#include "vtl/strict.h"

static const struct vtl_region *find_region(const struct vtl_partition *p, uint64_t gpa) {
        for (size_t i = 0; i < p->n_regions; i++)
                if (gpa >= p->regions[i].gpa && gpa - p->regions[i].gpa < p->regions[i].size)
                        return &p->regions[i];
        return NULL;
}

bool vtl_memory_is_ram(const struct vtl_partition *p, uint64_t gpn) {
        return gpn <= UINT64_MAX >> HV_PAGE_SHIFT && find_region(p, gpn << HV_PAGE_SHIFT);
}

unsigned vtl_memory_rights(const struct vtl_partition *p, unsigned vtl, uint64_t gpn) {
        const struct vtl_overlay *o;

        if (!vtl_memory_is_ram(p, gpn))
                return HV_MAP_GPA_ALL;
        o = vtl_overlay_find(p, vtl, gpn);
        if (o)
                return vtl_overlay_access(o);
        return vtl == 0 ? protect_get(p->protect, gpn) : HV_MAP_GPA_ALL;
}

/* The bytes behind @gpa for @vtl up to the end of its page; NULL when that is not RAM. */
static uint8_t *page_at(const struct vtl_partition *p, unsigned vtl, uint64_t gpa) {
        const struct vtl_region *r = find_region(p, gpa);
        const struct vtl_overlay *o;

        if (!r)
                return NULL;
        o = vtl_overlay_find(p, vtl, gpa >> HV_PAGE_SHIFT);
        if (o)
                return vtl_overlay_data(p, o->page) + (gpa & (HV_PAGE_SIZE - 1));
        return r->base + (gpa - r->gpa);
}

enum how {
        HOW_READ,
        HOW_WRITE,
        HOW_PROBE
};

static int access_memory(const struct vtl_partition *p, unsigned vtl, uint64_t gpa, uint8_t *out,
                         const uint8_t *in, uint32_t len, unsigned need, enum how how) {
        if (len && gpa > UINT64_MAX - (len - 1))
                return -EFAULT;
        while (len) {
                uint32_t n = MIN(len, HV_PAGE_SIZE - (uint32_t) (gpa & (HV_PAGE_SIZE - 1)));
                uint8_t *at = page_at(p, vtl, gpa);

                if (!at)
                        return -EFAULT;
                if ((vtl_memory_rights(p, vtl, gpa >> HV_PAGE_SHIFT) & need) != need)
                        return -EACCES;
                if (how == HOW_READ) {
                        memcpy(out, at, n);
                        out += n;
                } else if (how == HOW_WRITE) {
                        memcpy(at, in, n);
                        in += n;
                }
                gpa += n;
                len -= n;
        }
        return 0;
}

int vtl_memory_read(const struct vtl_partition *p, unsigned vtl, uint64_t gpa, void *buf,
                    uint32_t len, unsigned need) {
        return access_memory(p, vtl, gpa, buf, NULL, len, need, HOW_READ);
}

int vtl_memory_write(const struct vtl_partition *p, unsigned vtl, uint64_t gpa, const void *buf,
                     uint32_t len, unsigned need) {
        int r = access_memory(p, vtl, gpa, NULL, NULL, len, need, HOW_PROBE);

        return r < 0 ? r : access_memory(p, vtl, gpa, NULL, buf, len, need, HOW_WRITE);
}

int vtl_memory_probe(const struct vtl_partition *p, unsigned vtl, uint64_t gpa, uint32_t len,
                     unsigned need) {
        return access_memory(p, vtl, gpa, NULL, NULL, len, need, HOW_PROBE);
}

static int space_read(void *userdata, uint64_t gpa, void *buf, uint32_t len) {
        const struct vtl_memory_view *v = userdata;

        return vtl_memory_read(v->partition, v->vtl, gpa, buf, len, 0);
}

static unsigned space_rights(void *userdata, uint64_t gpn) {
        const struct vtl_memory_view *v = userdata;

        return vtl_memory_rights(v->partition, v->vtl, gpn);
}

static bool space_no_execute(void *userdata, uint64_t gpn) {
        const struct vtl_memory_view *v = userdata;

        return v->vtl == 0 && vtl_strict_covers(v->partition, gpn);
}

struct walk_space vtl_memory_space(struct vtl_memory_view *view) {
        return (struct walk_space){ .read = space_read,
                                    .rights = space_rights,
                                    .no_execute = space_no_execute,
                                    .userdata = view };
}
