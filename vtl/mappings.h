/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Of how many mappings of the host a plane's view of guest RAM consists. A process has a limited
 * number of them (vm.max_map_count), and when there are none left its own malloc() and threads
 * fail, too: so what a change of rights will cost is found out before it is made.
 */

#include <stddef.h>
#include <stdint.h>

#include "vtl/plane.h"
#include "vtl/protect.h"

struct mappings;

/* One view of each region, all of it readable and writable. Return: 0, -EINVAL or -ENOMEM. */
int mappings_new(struct mappings **ret, const struct protect_region *regions, size_t n);
struct mappings *mappings_free(struct mappings *m);

/* How many there are now. Never fewer than the kernel has. */
size_t mappings_count(const struct mappings *m);

/**
 * mappings_set() - rights of pages change
 * @ranges: each of them within RAM
 * @max: what mappings_count() may become
 * @ret_undo: the rights before, to be given to mappings_undo() and then to free()
 *
 * Overlay pages are not touched.
 *
 * Return: 0; -ENOMEM when it would be more than @max, -EINVAL; nothing has changed then.
 */
int mappings_set(struct mappings *m, const struct plane_range *ranges, size_t n, size_t max,
                 struct plane_range **ret_undo, size_t *ret_n_undo);
void mappings_undo(struct mappings *m, const struct plane_range *undo, size_t n);

/* Another page over @gpn, or none and @access. Return: as mappings_set(). */
int mappings_overlay(struct mappings *m, uint64_t gpn, bool on, uint32_t access, size_t max);
