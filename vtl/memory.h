/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Guest memory as a VTL sees it: RAM, this VTL's overlay pages over it, and the rights that higher
 * VTLs left it. Every access that the engine makes on a VTL's behalf goes through here.
 */

#include <stdint.h>

#include "vtl/partition.h"
#include "vtl/walk.h"

/* The VTL's rights to a page: HV_MAP_GPA_*. Everything for what is not RAM. */
unsigned vtl_memory_rights(const struct vtl_partition *p, unsigned vtl, uint64_t gpn);

/* Whether the page lies in guest RAM. */
bool vtl_memory_is_ram(const struct vtl_partition *p, uint64_t gpn);

/**
 * vtl_memory_read() - copy from guest memory as @vtl sees it
 * @need: rights the VTL must have to every page touched, 0 for none
 *
 * Return: 0, -EFAULT when a page is not RAM, -EACCES when rights are missing (then *ret_gpn is the
 * page).
 */
int vtl_memory_read(const struct vtl_partition *p, unsigned vtl, uint64_t gpa, void *buf,
                    uint32_t len, unsigned need);
int vtl_memory_write(const struct vtl_partition *p, unsigned vtl, uint64_t gpa, const void *buf,
                     uint32_t len, unsigned need);
/* The same check as vtl_memory_write() without the write. */
int vtl_memory_probe(const struct vtl_partition *p, unsigned vtl, uint64_t gpa, uint32_t len,
                     unsigned need);

/* A walker's and fault finder's view of a VP's memory in one VTL. */
struct vtl_memory_view {
        const struct vtl_partition *partition;
        unsigned vtl;
};
struct walk_space vtl_memory_space(struct vtl_memory_view *view);
