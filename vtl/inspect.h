/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the host's administrator sees of a VP's registers, where policy lets them be read. Which
 * registers there are to see is one table, and each goes by the TLFS's name for it.
 */

#include "vtl/partition.h"

#define VTL_INSPECT_MAX 64u

struct vtl_inspect_name {
        uint32_t name; /* HV_REGISTER_NAME */
        const char *text;
};

extern const struct vtl_inspect_name vtl_inspect_names[];
extern const unsigned vtl_inspect_count; /* at most VTL_INSPECT_MAX */

/* One look; all zero but vp and vtl at its beginning. */
struct vtl_inspection {
        unsigned vp, vtl;
        bool asked;
        struct vtl_work work;
        union hv_register_value values[VTL_INSPECT_MAX]; /* in the order of the table */
};

/**
 * vtl_inspect() - read the registers in the table, all at one instruction boundary
 * @p: locked by the caller, who is no VP's thread and serves no exit
 *
 * The VP leaves the guest for this, and goes on. A VTL1 that was enabled and never entered has the
 * registers that it will begin with.
 *
 * Return: 0; -EAGAIN: the VP's thread has not come yet, call again; -ENXIO: there is no such VP;
 * -ENODATA: that VTL is not enabled on it; another negative errno.
 */
int vtl_inspect(struct vtl_partition *p, struct vtl_inspection *i);

/* Not waited for any more: for who got -EAGAIN last; under the lock too. */
void vtl_inspect_cancel(struct vtl_partition *p, struct vtl_inspection *i);
