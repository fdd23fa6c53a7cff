/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/xmm.h"

/* Where they are in an image of XSAVE (SDM volume 1, 13.4, and 10.5.1 for its first 512 bytes) */
#define CONTROL_STATUS_OFFSET 0
#define XMM_CONTROL_STATUS_OFFSET 16
#define ST_OFFSET 32
#define XMM_OFFSET 160
#define XMM_SIZE 256
#define XSTATE_BV_OFFSET 512
#define XSTATE_X87 1ull
#define XSTATE_SSE 2ull

int vtl_fpu_get(struct vtl_vp *vp, struct kvm_xsave *ret) {
        return vtl_op(vp->partition, get, vp->active_vtl, PLANE_XSAVE, ret, sizeof(*ret));
}

static int get_bytes(struct vtl_vp *vp, size_t offset, void *ret, size_t len) {
        struct kvm_xsave x;
        int r = vtl_fpu_get(vp, &x);

        if (r == 0)
                memcpy(ret, (uint8_t *) &x + offset, len);
        return r;
}

/* @component: which may have been in its initial state until now */
static int put_bytes(struct vtl_vp *vp, struct kvm_xsave *x, size_t offset, const void *value,
                     size_t len, uint64_t component) {
        uint64_t in_use;

        memcpy((uint8_t *) x + offset, value, len);
        memcpy(&in_use, (uint8_t *) x + XSTATE_BV_OFFSET, sizeof(in_use));
        in_use |= component;
        memcpy((uint8_t *) x + XSTATE_BV_OFFSET, &in_use, sizeof(in_use));
        return vtl_op(vp->partition, set, vp->active_vtl, PLANE_XSAVE, x, sizeof(*x));
}

static int set_bytes(struct vtl_vp *vp, size_t offset, const void *value, size_t len,
                     uint64_t component) {
        struct kvm_xsave x;
        int r = vtl_fpu_get(vp, &x);

        return r < 0 ? r : put_bytes(vp, &x, offset, value, len, component);
}

static size_t xmm_offset(unsigned first) {
        return XMM_OFFSET + 16 * (size_t) first;
}

void vtl_fpu_xmm(const struct kvm_xsave *x, unsigned first, unsigned n, uint8_t (*ret)[16]) {
        memcpy(ret, (const uint8_t *) x + xmm_offset(first), 16 * (size_t) n);
}

static void clear_xmm(struct kvm_xsave *x) {
        uint8_t *bytes = (uint8_t *) x;

        memset(bytes + XMM_OFFSET, 0, XMM_SIZE);
        bytes[XSTATE_BV_OFFSET] &= (uint8_t) ~XSTATE_SSE;
}

bool vtl_fpu_same_but_xmm(const struct kvm_xsave *a, const struct kvm_xsave *b) {
        struct kvm_xsave x = *a, y = *b;

        clear_xmm(&x);
        clear_xmm(&y);
        return memcmp(&x, &y, sizeof(x)) == 0;
}

int vtl_fpu_put_xmm(struct vtl_vp *vp, struct kvm_xsave *x, unsigned first, unsigned n,
                    const uint8_t (*value)[16]) {
        return put_bytes(vp, x, xmm_offset(first), value, 16 * (size_t) n, XSTATE_SSE);
}

int vtl_xmm_get(struct vtl_vp *vp, unsigned first, unsigned n, uint8_t (*ret)[16]) {
        return get_bytes(vp, xmm_offset(first), ret, 16 * (size_t) n);
}

int vtl_xmm_set(struct vtl_vp *vp, unsigned first, unsigned n, const uint8_t (*value)[16]) {
        return set_bytes(vp, xmm_offset(first), value, 16 * (size_t) n, XSTATE_SSE);
}

/* The TLFS's registers are 16 bytes of the image each: HV_X64_FP_REGISTER is an 80-bit register
 * with room, the two control registers are as FXSAVE lays them out. */
static size_t fp_offset(uint32_t name) {
        switch (name) {
        case HV_X64_REGISTER_FP_CONTROL_STATUS:
                return CONTROL_STATUS_OFFSET;
        case HV_X64_REGISTER_XMM_CONTROL_STATUS:
                return XMM_CONTROL_STATUS_OFFSET;
        default:
                return ST_OFFSET + 16 * (size_t) (name - HV_X64_REGISTER_FP_MMX0);
        }
}

int vtl_fp_get(struct vtl_vp *vp, uint32_t name, union hv_register_value *ret) {
        return get_bytes(vp, fp_offset(name), ret->bytes, sizeof(ret->bytes));
}

int vtl_fp_set(struct vtl_vp *vp, uint32_t name, const union hv_register_value *value) {
        int r = set_bytes(vp, fp_offset(name), value->bytes, sizeof(value->bytes),
                          name == HV_X64_REGISTER_XMM_CONTROL_STATUS ? XSTATE_X87 | XSTATE_SSE
                                                                     : XSTATE_X87);

        return r == -EINVAL ? HV_STATUS_INVALID_REGISTER_VALUE : r; /* reserved bits of MXCSR */
}
