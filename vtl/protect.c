/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"
#include "vtl/protect.h"

#define CHUNK_PAGES 512u
#define CHUNK_BYTES (CHUNK_PAGES / 2)

/*
 * Writable without readable is no mask that a guest can set, so that nibble says "no explicit
 * mask".
 */
#define NIBBLE_DEFAULT HV_MAP_GPA_WRITABLE

/*
 * 512 pages: 0 when none has an explicit mask, an odd number when all have the same nibble,
 * otherwise the address of CHUNK_BYTES of nibbles. Zero being the common case, fresh entries cost
 * no resident memory.
 */
typedef uintptr_t chunk;

struct region {
        uint64_t gpn;
        uint64_t count;
        chunk *chunks;
};

struct protect_map {
        struct region *regions; /* sorted */
        size_t n_regions;
        uint64_t pages;
        uint64_t explicit_pages;
        uint64_t explicit_restricted;
        size_t mixed; /* chunks with nibbles of their own */
        unsigned default_mask;
        bool enabled;
};

static size_t region_chunks(const struct region *r) {
        return (r->count + CHUNK_PAGES - 1) / CHUNK_PAGES;
}

static chunk chunk_uniform(unsigned nibble) {
        return nibble == NIBBLE_DEFAULT ? 0 : (chunk) nibble << 1 | 1;
}

static bool chunk_is_mixed(chunk c) {
        return c && !(c & 1);
}

static unsigned chunk_get(chunk c, unsigned i) {
        if (!c)
                return NIBBLE_DEFAULT;
        if (c & 1)
                return c >> 1;
        return ((const uint8_t *) c)[i / 2] >> (i % 2 * 4) & 0xf;
}

static void region_clear(struct protect_map *map, struct region *r) {
        for (size_t i = 0; i < region_chunks(r); i++) {
                if (chunk_is_mixed(r->chunks[i])) {
                        free((void *) r->chunks[i]);
                        map->mixed--;
                }
                if (r->chunks[i])
                        r->chunks[i] = 0;
        }
}

struct protect_map *protect_map_free(struct protect_map *map) {
        if (!map)
                return NULL;
        for (size_t i = 0; i < map->n_regions; i++) {
                region_clear(map, &map->regions[i]);
                free(map->regions[i].chunks);
        }
        free(map->regions);
        free(map);
        return NULL;
}

void protect_map_freep(struct protect_map **map) {
        protect_map_free(*map);
}

/* The first region that ends behind @gpn; n_regions when there is none. */
static size_t region_index(const struct protect_map *map, uint64_t gpn) {
        size_t lo = 0, hi = map->n_regions;

        while (lo < hi) {
                size_t mid = lo + (hi - lo) / 2;

                if (map->regions[mid].gpn + map->regions[mid].count <= gpn)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        return lo;
}

static struct region *region_find(const struct protect_map *map, uint64_t gpn) {
        size_t i = region_index(map, gpn);

        return i < map->n_regions && map->regions[i].gpn <= gpn ? &map->regions[i] : NULL;
}

int protect_add(struct protect_map *map, const struct protect_region *region) {
        struct region *regions, n = { .gpn = region->gpn, .count = region->count };
        size_t i;

        /* Guest physical addresses have at most 52 bits. */
        if (!n.count || n.gpn >= HV_GPNS_END || n.count > HV_GPNS_END - n.gpn)
                return -EINVAL;

        i = region_index(map, n.gpn);
        if (i < map->n_regions && map->regions[i].gpn < n.gpn + n.count)
                return -EINVAL;

        n.chunks = calloc(region_chunks(&n), sizeof(*n.chunks));
        if (!n.chunks)
                return -ENOMEM;
        regions = reallocarray(map->regions, map->n_regions + 1, sizeof(*regions));
        if (!regions) {
                free(n.chunks);
                return -ENOMEM;
        }

        memmove(&regions[i + 1], &regions[i], (map->n_regions - i) * sizeof(*regions));
        regions[i] = n;
        map->regions = regions;
        map->n_regions++;
        map->pages += n.count;
        return 0;
}

int protect_map_new(struct protect_map **ret, const struct protect_region *regions, size_t n) {
        _cleanup_(protect_map_freep) struct protect_map *map = NULL;
        int r;

        map = calloc(1, sizeof(*map));
        if (!map)
                return -ENOMEM;
        map->default_mask = HV_MAP_GPA_ALL;

        for (size_t i = 0; i < n; i++) {
                r = protect_add(map, &regions[i]);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(map);
        return 0;
}

static unsigned effective(const struct protect_map *map, unsigned nibble) {
        if (nibble != NIBBLE_DEFAULT)
                return nibble;
        return map->enabled ? map->default_mask : HV_MAP_GPA_ALL;
}

unsigned protect_get(const struct protect_map *map, uint64_t gpn) {
        const struct region *r = region_find(map, gpn);
        uint64_t i;

        if (!r)
                return HV_MAP_GPA_ALL;
        i = gpn - r->gpn;
        return effective(map, chunk_get(r->chunks[i / CHUNK_PAGES], i % CHUNK_PAGES));
}

bool protect_is_ram(const struct protect_map *map, uint64_t gpn) {
        return region_find(map, gpn);
}

uint64_t protect_next_ram(const struct protect_map *map, uint64_t gpn) {
        size_t i = region_index(map, gpn);

        return i < map->n_regions ? MAX(gpn, map->regions[i].gpn) : UINT64_MAX;
}

static void nibble_set(uint8_t *bytes, unsigned i, unsigned nibble) {
        unsigned shift = i % 2 * 4;

        bytes[i / 2] = (bytes[i / 2] & ~(0xf << shift)) | nibble << shift;
}

static bool bytes_uniform(const uint8_t *bytes) {
        return (bytes[0] & 0xf) == bytes[0] >> 4 && !memcmp(bytes, bytes + 1, CHUNK_BYTES - 1);
}

static int chunk_set(struct protect_map *map, chunk *c, unsigned i, unsigned nibble) {
        unsigned old = chunk_get(*c, i);
        uint8_t *bytes;

        if (old == nibble)
                return 0;

        if (!chunk_is_mixed(*c)) {
                bytes = malloc(CHUNK_BYTES);
                if (!bytes)
                        return -ENOMEM;
                memset(bytes, old | old << 4, CHUNK_BYTES);
                *c = (chunk) bytes;
                map->mixed++;
        } else
                bytes = (uint8_t *) *c;

        nibble_set(bytes, i, nibble);
        if (bytes_uniform(bytes)) {
                free(bytes);
                *c = chunk_uniform(nibble);
                map->mixed--;
        }
        return 0;
}

int protect_set(struct protect_map *map, uint64_t gpn, unsigned mask, unsigned *ret_old) {
        struct region *region = region_find(map, gpn);
        unsigned old;
        uint64_t i;
        chunk *c;
        int r;

        if (!region)
                return -ENOENT;
        if (protect_mask_status(mask, true) != HV_STATUS_SUCCESS)
                return -EINVAL;

        i = gpn - region->gpn;
        c = &region->chunks[i / CHUNK_PAGES];
        old = chunk_get(*c, i % CHUNK_PAGES);
        r = chunk_set(map, c, i % CHUNK_PAGES, mask);
        if (r < 0)
                return r;

        map->explicit_pages += old == NIBBLE_DEFAULT;
        map->explicit_restricted -= old != NIBBLE_DEFAULT && old != HV_MAP_GPA_ALL;
        map->explicit_restricted += mask != HV_MAP_GPA_ALL;
        if (ret_old)
                *ret_old = effective(map, old);
        return 0;
}

/* A whole chunk at once */
static void chunk_fill(struct protect_map *map, chunk *c, unsigned mask) {
        for (unsigned i = 0; i < CHUNK_PAGES; i++) {
                unsigned old = chunk_get(*c, i);

                map->explicit_pages += old == NIBBLE_DEFAULT;
                map->explicit_restricted -= old != NIBBLE_DEFAULT && old != HV_MAP_GPA_ALL;
        }
        map->explicit_restricted += mask != HV_MAP_GPA_ALL ? CHUNK_PAGES : 0;
        if (chunk_is_mixed(*c)) {
                free((void *) *c);
                map->mixed--;
        }
        *c = chunk_uniform(mask);
}

int protect_set_range(struct protect_map *map, uint64_t gpn, uint64_t count, unsigned mask) {
        struct region *region = region_find(map, gpn);
        uint64_t i, end;

        if (!region || count > region->count - (gpn - region->gpn))
                return -ENOENT;
        if (protect_mask_status(mask, true) != HV_STATUS_SUCCESS)
                return -EINVAL;
        i = gpn - region->gpn;
        for (end = i + count; i < end;) {
                if (i % CHUNK_PAGES == 0 && end - i >= CHUNK_PAGES) {
                        chunk_fill(map, &region->chunks[i / CHUNK_PAGES], mask);
                        i += CHUNK_PAGES;
                } else {
                        int r = protect_set(map, region->gpn + i++, mask, NULL);

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

void protect_enable(struct protect_map *map, bool enable) {
        map->enabled = enable;
}

bool protect_enabled(const struct protect_map *map) {
        return map->enabled;
}

void protect_set_default(struct protect_map *map, unsigned mask) {
        map->default_mask = mask & HV_MAP_GPA_ALL;
}

unsigned protect_get_default(const struct protect_map *map) {
        return map->default_mask;
}

uint64_t protect_restricted(const struct protect_map *map) {
        uint64_t n = map->explicit_restricted;

        if (effective(map, NIBBLE_DEFAULT) != HV_MAP_GPA_ALL)
                n += map->pages - map->explicit_pages;
        return n;
}

void protect_reset(struct protect_map *map) {
        for (size_t i = 0; i < map->n_regions; i++)
                region_clear(map, &map->regions[i]);
        map->explicit_pages = map->explicit_restricted = 0;
        map->default_mask = HV_MAP_GPA_ALL;
        map->enabled = false;
}

size_t protect_memory_used(const struct protect_map *map) {
        size_t n = sizeof(*map) + map->n_regions * sizeof(*map->regions) + map->mixed * CHUNK_BYTES;

        for (size_t i = 0; i < map->n_regions; i++)
                n += region_chunks(&map->regions[i]) * sizeof(chunk);
        return n;
}

/* The run that is being collected by protect_runs(). */
struct run {
        protect_run_fn *fn;
        void *userdata;
        uint64_t gpn;
        uint64_t count;
        unsigned rights;
};

static int run_flush(struct run *run) {
        uint64_t count = run->count;

        run->count = 0;
        return count ? run->fn(run->userdata, run->gpn, count, run->rights) : 0;
}

static int run_add(struct run *run, uint64_t gpn, uint64_t count, unsigned rights) {
        int r;

        if (run->count && (run->rights != rights || run->gpn + run->count != gpn)) {
                r = run_flush(run);
                if (r)
                        return r;
        }
        if (!run->count)
                *run = (struct run){ run->fn, run->userdata, gpn, 0, rights };
        run->count += count;
        return 0;
}

/* A range of one region; @rights as in protect_runs(), or the masks themselves. */
#define RUNS_OF_MASKS UINT32_MAX

static int region_runs(const struct protect_map *map, const struct region *region, uint64_t gpn,
                       uint64_t stop, unsigned rights, struct run *run) {
        while (gpn < stop) {
                uint64_t o = gpn - region->gpn, n = 1;
                chunk c = region->chunks[o / CHUNK_PAGES];
                unsigned nibble = chunk_get(c, o % CHUNK_PAGES);
                int r;

                if (!chunk_is_mixed(c))
                        n = MIN(stop - gpn, CHUNK_PAGES - o % CHUNK_PAGES);
                r = run_add(run, gpn, n,
                            rights == RUNS_OF_MASKS ? nibble : effective(map, nibble) & rights);
                if (r)
                        return r;
                gpn += n;
        }
        return 0;
}

int protect_runs(const struct protect_map *map, uint64_t gpn, uint64_t count, unsigned rights,
                 protect_run_fn *fn, void *userdata) {
        struct run run = { .fn = fn, .userdata = userdata };
        uint64_t end = count > UINT64_MAX - gpn ? UINT64_MAX : gpn + count;

        for (size_t i = region_index(map, gpn); i < map->n_regions && map->regions[i].gpn < end;
             i++) {
                const struct region *region = &map->regions[i];
                int r = region_runs(map, region, MAX(gpn, region->gpn),
                                    MIN(end, region->gpn + region->count), rights, &run);

                if (r)
                        return r;
        }
        return run_flush(&run);
}

struct explicit {
        protect_run_fn *fn;
        void *userdata;
};

static int explicit_run(void *userdata, uint64_t gpn, uint64_t count, unsigned nibble) {
        const struct explicit *e = userdata;

        return nibble == NIBBLE_DEFAULT ? 0 : e->fn(e->userdata, gpn, count, nibble);
}

int protect_explicit_runs(const struct protect_map *map, protect_run_fn *fn, void *userdata) {
        struct explicit e = { .fn = fn, .userdata = userdata };

        for (size_t i = 0; i < map->n_regions; i++) {
                const struct region *region = &map->regions[i];
                struct run run = { .fn = explicit_run, .userdata = &e };
                int r = region_runs(map, region, region->gpn, region->gpn + region->count,
                                    RUNS_OF_MASKS, &run);

                if (r == 0)
                        r = run_flush(&run);
                if (r)
                        return r;
        }
        return 0;
}

enum hv_status protect_mask_status(uint32_t flags, bool mbec) {
        bool r = flags & HV_MAP_GPA_READABLE, kx = flags & HV_MAP_GPA_KERNEL_EXECUTABLE,
             ux = flags & HV_MAP_GPA_USER_EXECUTABLE;

        /*
         * The other flags of HV_MAP_GPA (supervisor shadow stack, paging writability) belong to
         * features not offered.
         */
        if (flags & ~HV_MAP_GPA_ALL)
                return HV_STATUS_INVALID_REGISTER_VALUE;
        if (flags && !r)
                return HV_STATUS_INVALID_REGISTER_VALUE;
        if ((kx && !ux) || (kx != ux && !mbec))
                return HV_STATUS_INVALID_REGISTER_VALUE;
        return HV_STATUS_SUCCESS;
}
