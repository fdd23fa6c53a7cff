/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "hvcall/vp-set.h"
#include "hvcall/wire.h"

int vp_set_mask(uint64_t format, uint64_t valid_banks_mask, const uint64_t *banks, unsigned n_banks,
                uint64_t *ret_mask, bool *ret_short) {
        *ret_short = false;
        if (format == HV_VP_SET_ALL) {
                *ret_mask = UINT64_MAX;
                return 0;
        }
        if (format != HV_VP_SET_SPARSE_4K)
                return HV_STATUS_INVALID_PARAMETER;
        *ret_mask = 0;
        *ret_short = (unsigned) __builtin_popcountll(valid_banks_mask) != n_banks;
        /* Bank 0 holds VPs 0-63, and there are no others. */
        if ((valid_banks_mask & 1) && n_banks > 0)
                memcpy(ret_mask, banks, sizeof(*ret_mask));
        return 0;
}

int input_vtl_resolve(const struct vtl_vp *vp, uint8_t input_vtl, unsigned *ret) {
        unsigned vtl = input_vtl & HV_INPUT_VTL_TARGET_MASK;

        if ((input_vtl & HV_INPUT_VTL_RESERVED) || vtl > VTL_ENCODING_MAX)
                return HV_STATUS_INVALID_PARAMETER;
        *ret = input_vtl & HV_INPUT_VTL_USE_TARGET ? vtl : vp->active_vtl;
        return 0;
}
