/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What VTL1 allows VTL0 to do with each page: four bits (HV_MAP_GPA_*) per 4 KiB page, kept so that
 * 2 MiB of equal pages cost one entry. A page has an explicit mask or none; without one the
 * partition's default applies, and only while protection is enabled (vsm.md 8.1).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vtl/hvdef.h"

struct protect_map;

/* RAM, in pages. Regions of one map do not overlap. */
struct protect_region {
        uint64_t gpn;
        uint64_t count;
};

/**
 * protect_map_new() - make a map without explicit masks, protection disabled, default
 * HV_MAP_GPA_ALL
 * @ret: the map, to be given to protect_map_free()
 * @regions: the guest's RAM, in any order
 * @n: how many
 *
 * Return: 0, -EINVAL for an empty, overflowing or overlapping region, -ENOMEM.
 */
int protect_map_new(struct protect_map **ret, const struct protect_region *regions, size_t n);
struct protect_map *protect_map_free(struct protect_map *map);
void protect_map_freep(struct protect_map **map);

/**
 * protect_add() - add RAM that came later; it has no explicit masks
 * Return: 0, -EINVAL for an empty, overflowing or overlapping region, -ENOMEM.
 */
int protect_add(struct protect_map *map, const struct protect_region *region);

/**
 * protect_get() - the effective rights of VTL0 on a page
 * Return: HV_MAP_GPA_*; HV_MAP_GPA_ALL for a page that is not RAM.
 */
unsigned protect_get(const struct protect_map *map, uint64_t gpn);

/** protect_is_ram() - whether a page belongs to a region */
bool protect_is_ram(const struct protect_map *map, uint64_t gpn);

/** protect_next_ram() - the first page of RAM from @gpn on; UINT64_MAX when there is none */
uint64_t protect_next_ram(const struct protect_map *map, uint64_t gpn);

/**
 * protect_set() - give a page an explicit mask
 * @map: the map
 * @gpn: the page
 * @mask: one that protect_mask_status() accepts
 * @ret_old: the effective rights until now; may be NULL
 *
 * Return: 0, -ENOENT when the page is not RAM, -EINVAL for a mask without meaning, -ENOMEM (nothing
 * changed).
 */
int protect_set(struct protect_map *map, uint64_t gpn, unsigned mask, unsigned *ret_old);

/**
 * protect_set_range() - the same for a run of pages, all of which are RAM of one region
 *
 * Return: 0; -ENOENT, -EINVAL as protect_set(), nothing changed; -ENOMEM: some pages have changed.
 */
int protect_set_range(struct protect_map *map, uint64_t gpn, uint64_t count, unsigned mask);

/** protect_enable() - HvRegisterVsmPartitionConfig.EnableVtlProtection; one way in the guest's
 * eyes, false for reset */
void protect_enable(struct protect_map *map, bool enable);
bool protect_enabled(const struct protect_map *map);

/** protect_set_default() - DefaultVtlProtectionMask, for all pages without an explicit one */
void protect_set_default(struct protect_map *map, unsigned mask);
unsigned protect_get_default(const struct protect_map *map);

/** protect_restricted() - how many pages have less than HV_MAP_GPA_ALL now */
uint64_t protect_restricted(const struct protect_map *map);

/** protect_reset() - back to the state of protect_map_new(); the regions stay */
void protect_reset(struct protect_map *map);

/** protect_memory_used() - bytes allocated for the map */
size_t protect_memory_used(const struct protect_map *map);

/**
 * protect_run_fn - one maximal run of pages that are equal in the rights that were asked for
 * Return: 0 to go on, anything else to stop.
 */
typedef int protect_run_fn(void *userdata, uint64_t gpn, uint64_t count, unsigned rights);

/**
 * protect_runs() - visit a range of pages as runs, for one mprotect() each
 * @map: the map
 * @gpn: first page
 * @count: how many; what is not RAM in the range is skipped and ends a run
 * @rights: which of the effective rights count
 * @fn: called for each run, in ascending order
 * @userdata: for @fn
 *
 * Return: 0, or the first non-zero value of @fn.
 */
int protect_runs(const struct protect_map *map, uint64_t gpn, uint64_t count, unsigned rights,
                 protect_run_fn *fn, void *userdata);

/* The same for the pages with an explicit mask: that of the run is in place of the rights. No run
 * reaches from one region into another. */
int protect_explicit_runs(const struct protect_map *map, protect_run_fn *fn, void *userdata);

/**
 * protect_mask_status() - whether a guest may ask for a mask (vsm.md 3.1 and 8.2)
 * @flags: MapFlags as the guest passed them
 * @mbec: whether mode-based execute control is on for the partition
 *
 * Return: HV_STATUS_SUCCESS or HV_STATUS_INVALID_REGISTER_VALUE.
 */
enum hv_status protect_mask_status(uint32_t flags, bool mbec);
