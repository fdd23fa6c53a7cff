/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The domain of libvirt that a partition is of: its name and policy value, and its end.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "daemon/domains.h"
#include "daemon/identity.h"

struct partition;

/* A part of struct partition */
struct partition_libvirt {
        bool bound;                     /* its process is of the domain of its UUID */
        char domain[LIBVIRT_NAME_SIZE]; /* empty: none, or not known */
        char policy[LIBVIRT_POLICY_SIZE];
        uint32_t run;           /* of the domain, when it was first seen running; 0: not yet */
        sd_event_source *grace; /* the domain has stopped: is the VMM going too? */
};

/* A new partition, before anybody sees it; @d is the domain of its UUID, or NULL. */
void partition_libvirt_begin(struct partition *p, const struct identity *i, const struct domain *d);
void partition_libvirt_done(struct partition *p);

/**
 * partition_domain_changed() - vtld-libvirt has told about the domain of a partition's UUID
 * @d: NULL: it is no more
 *
 * The partition may be gone afterwards.
 */
void partition_domain_changed(struct partition *p, const struct domain *d);

/* For policy: NULL when it is none or not known */
const char *partition_libvirt_domain(const struct partition *p);
const char *partition_libvirt_policy(const struct partition *p);
