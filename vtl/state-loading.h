/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What state-load.c has read of a saved partition, for state-check.c to check before it is used */

#include "vtl/state-fields.h"

struct state_loading {
        struct vtl_partition *p;         /* what it is to become of */
        struct vtl_partition *partition; /* the shadow: fields of the tables only */
        struct state_vp *vps;
        struct state_extra extra;
        struct protect_map *protect, *strict;
        struct plane_msr_filter *msrs;
        struct plane_port_filter *ports;
        const uint8_t **pages; /* by page of the overlay memory, NULL: zeros */
        uint8_t *seen[_STATE_KIND_MAX];
};

/* An overlay page, and the MSR that names it */
struct state_mapped {
        unsigned vp, vtl;
        enum vtl_overlay_kind kind;
        uint64_t msr;
};

/* Number @i of all that there can be; false behind the last one */
bool state_mapped_page(const struct state_loading *l, unsigned i, struct state_mapped *ret);

/* What has to fit together, and to what policy allows. Completes the maps of what VTL0 may do.
 * Return: 0; -EBADMSG, -EPERM, -ENOMEM. */
int state_check(struct state_loading *l);
