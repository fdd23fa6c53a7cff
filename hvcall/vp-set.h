/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Sets of VPs as the Ex calls name them (HV_VP_SET, vsm.md 3.0), and what an HV_INPUT_VTL means. */

#include <stdbool.h>
#include <stdint.h>

#include "vtl/partition.h"

/* No VTL above 2 exists anywhere (vsm.md 0). */
#define VTL_ENCODING_MAX 2

/**
 * vp_set_mask() - the VPs of a set, as far as there can be any
 * @format: HV_VP_SET_*
 * @banks: what follows the fixed header, @n_banks of them
 * @ret_short: set when the set says that it has more banks than there are
 *
 * Return: 0 or HV_STATUS_INVALID_PARAMETER.
 */
int vp_set_mask(uint64_t format, uint64_t valid_banks_mask, const uint64_t *banks, unsigned n_banks,
                uint64_t *ret_mask, bool *ret_short);

/**
 * input_vtl_resolve() - the VTL that an HV_INPUT_VTL names
 *
 * Return: 0; HV_STATUS_INVALID_PARAMETER for reserved bits and VTLs that exist nowhere. That the
 * VTL is not above the caller's is not checked.
 */
int input_vtl_resolve(const struct vtl_vp *vp, uint8_t input_vtl, unsigned *ret);
