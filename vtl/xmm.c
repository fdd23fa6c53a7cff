/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/xmm.h"

/* Where they are in an image of XSAVE (SDM volume 1, 13.4) */
#define XMM_OFFSET 160
#define XSTATE_BV_OFFSET 512
#define XSTATE_SSE 2ull

int vtl_xmm_get(struct vtl_vp *vp, unsigned first, unsigned n, uint8_t (*ret)[16]) {
        struct kvm_xsave x;
        int r = vtl_op(vp->partition, get, vp->active_vtl, PLANE_XSAVE, &x, sizeof(x));

        if (r == 0)
                memcpy(ret, (uint8_t *) &x + XMM_OFFSET + 16 * first, 16 * (size_t) n);
        return r;
}

int vtl_xmm_set(struct vtl_vp *vp, unsigned first, unsigned n, const uint8_t (*value)[16]) {
        struct vtl_partition *p = vp->partition;
        struct kvm_xsave x;
        uint64_t in_use;
        int r = vtl_op(p, get, vp->active_vtl, PLANE_XSAVE, &x, sizeof(x));

        if (r < 0)
                return r;
        memcpy((uint8_t *) &x + XMM_OFFSET + 16 * first, value, 16 * (size_t) n);
        /* The component may have been in its initial state. */
        memcpy(&in_use, (uint8_t *) &x + XSTATE_BV_OFFSET, sizeof(in_use));
        in_use |= XSTATE_SSE;
        memcpy((uint8_t *) &x + XSTATE_BV_OFFSET, &in_use, sizeof(in_use));
        return vtl_op(p, set, vp->active_vtl, PLANE_XSAVE, &x, sizeof(x));
}
