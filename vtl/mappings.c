/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "util/util.h"
#include "vtl/mappings.h"

/*
 * What mprotect() knows of a page, as masks of a struct protect_map. Pages without restrictions are
 * what the map has for nothing; the mask of an overlay page means nothing but that.
 */
#define KIND_NONE 0u
#define KIND_READ HV_MAP_GPA_READABLE
#define KIND_OVERLAY (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)
#define KIND_OPEN HV_MAP_GPA_ALL

struct mappings {
        struct protect_map *map;
        struct protect_region *regions;
        size_t n_regions;
        size_t count;
};

static unsigned kind_of(uint32_t access) {
        if (!(access & HV_MAP_GPA_READABLE))
                return KIND_NONE;
        return access & HV_MAP_GPA_WRITABLE ? KIND_OPEN : KIND_READ;
}

struct mappings *mappings_free(struct mappings *m) {
        if (!m)
                return NULL;
        protect_map_free(m->map);
        free(m->regions);
        free(m);
        return NULL;
}

int mappings_new(struct mappings **ret, const struct protect_region *regions, size_t n) {
        struct mappings *m = calloc(1, sizeof(*m));
        int r;

        if (!m)
                return -ENOMEM;
        m->regions = calloc(MAX(n, (size_t) 1), sizeof(*m->regions));
        r = m->regions ? protect_map_new(&m->map, regions, n) : -ENOMEM;
        if (r < 0) {
                (void) mappings_free(m);
                return r;
        }
        memcpy(m->regions, regions, n * sizeof(*regions));
        m->n_regions = m->count = n;
        *ret = m;
        return 0;
}

size_t mappings_count(const struct mappings *m) {
        return m->count;
}

/* ---- Counting ---- */

static const struct protect_region *region_of(const struct mappings *m, uint64_t gpn) {
        for (size_t i = 0; i < m->n_regions; i++)
                if (gpn >= m->regions[i].gpn && gpn - m->regions[i].gpn < m->regions[i].count)
                        return &m->regions[i];
        return NULL;
}

/* Two overlay pages side by side are two mappings. */
static int add_run(void *userdata, uint64_t gpn, uint64_t count, unsigned kind) {
        size_t *n = userdata;

        *n += kind == KIND_OVERLAY ? count : 1;
        return 0;
}

/* Mappings that the pages of a range and their neighbours make up: what a change of the range can
 * change. */
static size_t count_around(const struct mappings *m, const struct plane_range *range) {
        const struct protect_region *region = region_of(m, range->gpn);
        uint64_t first = MAX(range->gpn, region->gpn + 1) - 1;
        uint64_t end = MIN(range->gpn + range->count + 1, region->gpn + region->count);
        size_t n = 0;

        (void) protect_runs(m->map, first, end - first, HV_MAP_GPA_ALL, add_run, &n);
        return n;
}

static int put(struct mappings *m, const struct plane_range *range, unsigned kind) {
        size_t before = count_around(m, range);
        int r = protect_set_range(m->map, range->gpn, range->count, kind);

        m->count = m->count - before + count_around(m, range);
        return r;
}

/* ---- Changing ---- */

struct collect {
        struct plane_range *ranges;
        size_t n, room;
};

static int collect_run(void *userdata, uint64_t gpn, uint64_t count, unsigned kind) {
        struct collect *c = userdata;

        if (c->n == c->room) {
                size_t room = MAX(2 * c->room, (size_t) 16);
                struct plane_range *more = reallocarray(c->ranges, room, sizeof(*more));

                if (!more)
                        return -ENOMEM;
                c->ranges = more;
                c->room = room;
        }
        c->ranges[c->n++] = (struct plane_range){ .gpn = gpn, .count = count, .access = kind };
        return 0;
}

static bool within(const struct mappings *m, const struct plane_range *range) {
        const struct protect_region *region = region_of(m, range->gpn);

        return region && range->count > 0 &&
               range->count <= region->count - (range->gpn - region->gpn);
}

void mappings_undo(struct mappings *m, const struct plane_range *undo, size_t n) {
        while (n-- > 0)
                (void) put(m, &undo[n], undo[n].access);
}

int mappings_set(struct mappings *m, const struct plane_range *ranges, size_t n, size_t max,
                 struct plane_range **ret_undo, size_t *ret_n_undo) {
        struct collect before = { 0 };
        int r = 0;

        for (size_t i = 0; i < n; i++)
                if (!within(m, &ranges[i]))
                        return -EINVAL;
        for (size_t i = 0; i < n && r == 0; i++) {
                size_t first = before.n;

                r = protect_runs(m->map, ranges[i].gpn, ranges[i].count, HV_MAP_GPA_ALL,
                                 collect_run, &before);
                for (size_t k = first; k < before.n && r == 0; k++)
                        if (before.ranges[k].access != KIND_OVERLAY)
                                r = put(m, &before.ranges[k], kind_of(ranges[i].access));
        }
        if (r == 0 && m->count > max)
                r = -ENOMEM;
        if (r < 0) {
                mappings_undo(m, before.ranges, before.n);
                free(before.ranges);
                return r;
        }
        *ret_undo = before.ranges;
        *ret_n_undo = before.n;
        return 0;
}

int mappings_overlay(struct mappings *m, uint64_t gpn, bool on, uint32_t access, size_t max) {
        const struct plane_range range = { .gpn = gpn, .count = 1 };
        unsigned before;
        int r;

        if (!within(m, &range))
                return -EINVAL;
        before = protect_get(m->map, gpn);
        r = put(m, &range, on ? KIND_OVERLAY : kind_of(access));
        if (r == 0 && m->count > max)
                r = -ENOMEM;
        if (r < 0)
                (void) put(m, &range, before);
        return r;
}
