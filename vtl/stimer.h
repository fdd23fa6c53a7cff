/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Synthetic timers: four per VP and VTL (vsm.md 1.6, 9). */

#include <stdint.h>

#include "vtl/partition.h"

/* STIMERn_CONFIG and STIMERn_COUNT. Writes: false for #GP. */
uint64_t vtl_stimer_read(const struct vtl_vp *vp, unsigned vtl, uint32_t msr);
bool vtl_stimer_write(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value);

/* Serves what is due at reference time @now. Return: 0 or a negative errno. */
int vtl_stimers_expire(struct vtl_vp *vp, uint64_t now);

/* When the next one is due, in reference time; VTL_CLOCK_NEVER for none. */
uint64_t vtl_stimers_next(const struct vtl_vp *vp);
