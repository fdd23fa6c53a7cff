/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Overlay pages: the hypercall page, VP assist, SIMP, SIEFP and reference TSC pages of each VTL.
 * They are pages of the overlay memory, laid over a GPN in one plane's view; what is beneath is
 * untouched and comes back. Their contents live on while they are not mapped (vsm.md 6.2, 6.5).
 */

#include <stdbool.h>
#include <stdint.h>

#include "vtl/partition.h"

struct vtl_overlay {
        uint64_t gpn;
        uint32_t page; /* in the overlay memory */
};

/* The overlay at a GPN of a VTL, or NULL. */
const struct vtl_overlay *vtl_overlay_find(const struct vtl_partition *p, unsigned vtl,
                                           uint64_t gpn);

/* What the VTL may do with an overlay page: HV_MAP_GPA_*. Hypercall and TSC pages are read-only for
 * the guest. */
unsigned vtl_overlay_access(const struct vtl_overlay *o);

/* The contents of a page of the overlay memory; @page below vtl_overlay_pages(). */
uint8_t *vtl_overlay_data(const struct vtl_partition *p, uint32_t page);

/**
 * vtl_overlay_set() - lay a page over a GPN, move it, or take it off
 * @vp: the VP on whose behalf this happens
 * @vtl: whose page it is
 * @kind: which page
 * @enable: false takes it off
 * @gpn: where to
 *
 * Return: 0; 1 when the guest may not put it there (not RAM, occupied by another overlay of this
 * VTL, or no rights: vsm.md 8.4), to be answered with #GP; negative errno for the host's failure.
 */
int vtl_overlay_set(struct vtl_vp *vp, unsigned vtl, enum vtl_overlay_kind kind, bool enable,
                    uint64_t gpn);
