/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What time it is for the partition: one clock for all VPs and VTLs (vsm.md 1.6, 1.7), made of the
 * host's until a guest enables its reference TSC page, of the guest's TSC from then on: two clocks
 * of the host would drift apart. Units of 100 ns.
 */

#include <stdint.h>

#include "vtl/partition.h"

/* The host's clock; it stands still while the partition is paused. */
uint64_t vtl_host_time(const struct vtl_partition *p);

/* The partition's reference time (TIME_REF_COUNT) */
uint64_t vtl_reference_time(const struct vtl_partition *p);

/**
 * vtl_tsc_learn() - find out how far the guest's TSC is from the host's
 * @plane: of the current VP, which shows it
 *
 * Return: 0 or a negative errno.
 */
int vtl_tsc_learn(struct vtl_partition *p, unsigned plane);
/* The guest's TSC now; what a value of it is in units of 100 ns, without and with the offset that
 * makes it reference time. Once the TSC is known. */
uint64_t vtl_tsc_now(const struct vtl_partition *p);
uint64_t vtl_tsc_time(const struct vtl_partition *p, uint64_t tsc);
uint64_t vtl_reference_time_of(const struct vtl_partition *p, uint64_t tsc);
