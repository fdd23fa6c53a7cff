/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The partition's alarm clock: one thread that kicks a VP when its next timer is due. What is due
 * is decided and served on the VP's own engine thread; this one only wakes it.
 */

#include <stdint.h>

#include "vtl/partition.h"

#define VTL_CLOCK_NEVER UINT64_MAX

/**
 * vtl_clock_start() - start the thread
 *
 * Before a sandbox that forbids new threads.
 *
 * Return: 0 or a negative errno.
 */
int vtl_clock_start(struct vtl_partition *p);
void vtl_clock_stop(struct vtl_partition *p);

/* Kicks @vp when the partition's reference time reaches @when (100 ns units), instead of an earlier
 * wish of this VP; VTL_CLOCK_NEVER for no kick. */
void vtl_clock_set(struct vtl_vp *vp, uint64_t when);
