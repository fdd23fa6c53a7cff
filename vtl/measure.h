/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What is about to run in VTL1, found by its initial context, and the moment to ask whether it may:
 * when VTL1 is entered for the first time, and before that, so that the guest can be told, when it
 * is enabled on a VP. Whoever owns the partition digests and decides (vtl_config.measure).
 * vtl-measurement(7) is the manual.
 */

#include <stdint.h>

#include "vtl/partition.h"

/* Once so many were refused, nobody is asked any more. */
#define VTL_MEASURE_REFUSALS_MAX 16u

#define VTL_MEASURE_WRITABLE 0x1u
#define VTL_MEASURE_USER 0x2u

/* Anything but 0 ends it. @flags: VTL_MEASURE_* */
typedef int vtl_measure_page_fn(void *userdata, uint64_t gva, uint32_t flags,
                                const uint8_t page[HV_PAGE_SIZE]);

/**
 * vtl_measure_pages() - every page of RAM that VTL1 could execute with a context
 * @limit: bytes of pages
 * @fn: called with a copy of each page, in the order of virtual addresses; several times when a
 *      page is mapped several times
 *
 * Return: 0, what @fn returned, -E2BIG when there is more than @limit, or a negative errno.
 */
int vtl_measure_pages(const struct vtl_partition *p, const struct hv_initial_vp_context *c,
                      uint64_t limit, vtl_measure_page_fn *fn, void *userdata);

/* What became of a first entry; also for vtl_enter_vtl1() */
#define VTL_ENTRY_REFUSED 1
#define VTL_ENTRY_AGAIN \
        2 /* another VP is in the way: the guest is to issue its instruction again */

/**
 * vtl_measure_enable() - may VTL1 be enabled on this VP with its context?
 *
 * Only asks where a measurement is required, and no VP has entered VTL1 yet.
 *
 * Return: 0, VTL_ENTRY_*, or a negative errno.
 */
int vtl_measure_enable(struct vtl_vp *vp);

/**
 * vtl_measure_entry() - may VTL1 be entered for the first time?
 *
 * When not, VTL1 is disabled on this VP again.
 *
 * Return: 0, VTL_ENTRY_*, or a negative errno.
 */
int vtl_measure_entry(struct vtl_vp *vp);
