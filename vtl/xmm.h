/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vtl/hvdef.h"

struct kvm_xsave;
struct vtl_vp;

/*
 * FPU registers of the VP being served. They are shared by the levels, so they are the active
 * plane's. Return: 0 or a negative errno; vtl_fp_set() HV_STATUS_INVALID_REGISTER_VALUE, too.
 */

/* XMM: @n of them from @first on */
int vtl_xmm_get(struct vtl_vp *vp, unsigned first, unsigned n, uint8_t (*ret)[16]);
int vtl_xmm_set(struct vtl_vp *vp, unsigned first, unsigned n, const uint8_t (*value)[16]);

/* The same in two steps, an ioctl each: all of the FPU, and what of it has changed. Nothing else
 * may write FPU registers in between. */
int vtl_fpu_get(struct vtl_vp *vp, struct kvm_xsave *ret);
void vtl_fpu_xmm(const struct kvm_xsave *x, unsigned first, unsigned n, uint8_t (*ret)[16]);
int vtl_fpu_put_xmm(struct vtl_vp *vp, struct kvm_xsave *x, unsigned first, unsigned n,
                    const uint8_t (*value)[16]);

/* Whether two images differ in nothing but XMM registers, in use or not */
bool vtl_fpu_same_but_xmm(const struct kvm_xsave *a, const struct kvm_xsave *b);

/* HV_X64_REGISTER_FP_MMX0 to HV_X64_REGISTER_XMM_CONTROL_STATUS */
int vtl_fp_get(struct vtl_vp *vp, uint32_t name, union hv_register_value *ret);
int vtl_fp_set(struct vtl_vp *vp, uint32_t name, const union hv_register_value *value);
