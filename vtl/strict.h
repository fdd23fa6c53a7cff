/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Strict execute mode. Stock KVM cannot keep VTL0 from executing a page that it can read. So a
 * bounded number of pages that VTL1 made readable and not executable are closed altogether in
 * VTL0's view: a fetch from them is then seen, and an access is let through by one entry of the VP
 * alone, with the page open and the other VPs held out of the guest (hold.h).
 */

#include "vtl/fault.h"
#include "vtl/partition.h"

/* Whether a mask asks for it: to be read and not executed. */
bool vtl_strict_wants(unsigned mask);

/* Whether VTL0 is kept from executing the page. */
bool vtl_strict_covers(const struct vtl_partition *p, uint64_t gpn);

/* What VTL0's view of a page may be: HV_MAP_GPA_*. */
unsigned vtl_strict_access(const struct vtl_partition *p, uint64_t gpn);

/**
 * vtl_strict_set() - pages get a mask: they are covered while there is room, or no longer
 * @ret_flipped: by page, for vtl_strict_undo()
 *
 * Those for which there is no room, and those that only one of kernel and user may execute, are not
 * enforced and the header says so.
 *
 * Return: 0 or -ENOMEM.
 */
int vtl_strict_set(struct vtl_partition *p, const uint64_t *gpns, size_t n, uint32_t mask,
                   bool *ret_flipped);
void vtl_strict_undo(struct vtl_partition *p, const uint64_t *gpns, size_t n, const bool *flipped);

/**
 * vtl_strict_begin() - let VTL0 through to the covered pages among @touched
 *
 * The caller holds the other VPs; vtl_strict_end() releases them.
 *
 * Return: 1, with ctl->action.step; 0 when none of them is covered; negative errno:
 * -ENOTRECOVERABLE when it cannot be done safely.
 */
int vtl_strict_begin(struct vtl_vp *vp, const struct fault_touched *touched);

/* The engine cannot go on, and the VP will not enter: the pages are closed again before the other
 * VPs are let go, or they are not. */
void vtl_strict_abandon(struct vtl_vp *vp);

/* Whatever came of it: the first thing at the VP's next exit. Return: 0 or a negative errno. */
int vtl_strict_end(struct vtl_vp *vp, const struct vtl_exit *e);
