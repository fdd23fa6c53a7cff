/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Flushing translations of guest-virtual addresses: vsm.md 3.11. All of them go, whatever address
 * space and ranges a call names: a flush of more than was asked is a correct one, and KVM has no
 * smaller one to offer.
 */

#include "hvcall/calls.h"
#include "hvcall/vp-set.h"
#include "hvcall/wire.h"
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/tlb.h"

/* Which of the flags a call takes. */
#define FLUSH_FLAGS_SPACE                                                                     \
        (HV_FLUSH_ALL_PROCESSORS | HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES |                      \
         HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY | HV_FLUSH_USE_TARGET_VTL | HV_FLUSH_TARGET_VTL0 | \
         HV_FLUSH_TARGET_VTL1)
#define FLUSH_FLAGS_LIST (FLUSH_FLAGS_SPACE | HV_FLUSH_USE_EXTENDED_RANGE_FORMAT)

/* The levels whose translations are to go, as a bitmap. */
static int target_vtls(const struct vtl_vp *vp, uint64_t flags, unsigned *ret) {
        if (!(flags & HV_FLUSH_USE_TARGET_VTL)) {
                if (flags & (HV_FLUSH_TARGET_VTL0 | HV_FLUSH_TARGET_VTL1))
                        return HV_STATUS_INVALID_PARAMETER;
                *ret = 1u << vp->active_vtl;
                return 0;
        }
        *ret = (flags & HV_FLUSH_TARGET_VTL0 ? 1u : 0) | (flags & HV_FLUSH_TARGET_VTL1 ? 2u : 0);
        if (*ret == 0)
                return HV_STATUS_INVALID_PARAMETER;
        return *ret >> (vp->active_vtl + 1) ? HV_STATUS_ACCESS_DENIED : 0;
}

static int flush(struct vtl_vp *vp, uint64_t flags, uint64_t allowed, uint64_t mask) {
        uint64_t all =
                vp->partition->n_vps == 64 ? UINT64_MAX : (UINT64_C(1) << vp->partition->n_vps) - 1;
        unsigned vtls;
        int r;

        if (flags & ~allowed)
                return HV_STATUS_INVALID_PARAMETER;
        r = target_vtls(vp, flags, &vtls);
        if (r != 0)
                return r;
        if (flags & HV_FLUSH_ALL_PROCESSORS)
                mask = all;
        if (mask == 0)
                return HV_STATUS_INVALID_PARAMETER;
        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++) {
                r = vtls >> vtl & 1 ? vtl_tlb_flush(vp, vtl, mask & all) : 0;
                if (r < 0)
                        return r;
        }
        if (vp->active_vtl == 0)
                vtl_tlb_wait(vp);
        return 0;
}

static int flush_ex(struct hv_call_ctx *c, uint64_t allowed) {
        const struct hv_input_flush_ex *in = c->input;
        uint64_t mask;
        bool is_short;
        int r;

        r = vp_set_mask(in->format, in->valid_banks_mask, (const uint64_t *) (in + 1),
                        c->varhdr_bytes / 8, &mask, &is_short);
        if (r != 0)
                return r;
        /* One client counts its banks wrongly (vsm.md 10.4): everybody is more than it asked
         * for. */
        if (is_short)
                mask = UINT64_MAX;
        return flush(c->vp, in->flags, allowed, mask);
}

int hvcall_flush_virtual_address_space(struct hv_call_ctx *c) {
        const struct hv_input_flush *in = c->input;

        return flush(c->vp, in->flags, FLUSH_FLAGS_SPACE, in->processor_mask);
}

int hvcall_flush_virtual_address_space_ex(struct hv_call_ctx *c) {
        return flush_ex(c, FLUSH_FLAGS_SPACE);
}

/* One flush for the whole list. */
int hvcall_flush_virtual_address_list_prepare(struct hv_call_ctx *c, uint16_t *ret_done) {
        const struct hv_input_flush *in = c->input;
        int r = flush(c->vp, in->flags, FLUSH_FLAGS_LIST, in->processor_mask);

        if (r == 0)
                *ret_done = c->rep_count;
        return r;
}

int hvcall_flush_virtual_address_list_ex_prepare(struct hv_call_ctx *c, uint16_t *ret_done) {
        int r = flush_ex(c, FLUSH_FLAGS_LIST);

        if (r == 0)
                *ret_done = c->rep_count;
        return r;
}

/* Never reached: prepare() serves the whole list. */
int hvcall_flush_virtual_address_list(struct hv_call_ctx *c) {
        return -EINVAL;
}
