/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Intercepts: what VTL0 does and VTL1 wants to be told of (vsm.md 8.5). The message goes into
 * VTL1's slot of SINT0 on the same VP, and its interrupt preempts VTL0. One that does not fit is
 * dropped: VTL0's instruction was not carried out and comes again.
 */

#include <stdbool.h>
#include <stdint.h>

#include "vtl/fault.h"
#include "vtl/partition.h"

/* What all messages begin with. @f: length of the instruction, and what caused it */
struct hv_intercept_header vtl_intercept_header(const struct vtl_vp *vp,
                                                enum hv_intercept_access access,
                                                const struct fault_access *f);

/* @payload begins with the header; @what: the GPA, MSR or port, for those who watch.
 * Return: whether VTL1 has been told. */
bool vtl_intercept_post(struct vtl_vp *vp, enum hv_message_type type, const void *payload,
                        size_t size, uint64_t what);

/* ---- intercept-control.c: what VTL1 wants to be told of, beside memory ---- */

/**
 * vtl_intercept_set_cr() - HvRegisterCrInterceptControl of a VP
 * @control: HV_CR_INTERCEPT_* by bit
 *
 * Return: 0; HV_STATUS_INVALID_REGISTER_VALUE for what this host has no exit for, unless the
 * partition's options accept that it is not enforced; or a negative errno.
 */
int vtl_intercept_set_cr(struct vtl_vp *vp, uint64_t control);

/* Whether this partition may have that at all. */
bool vtl_intercept_cr_possible(const struct vtl_partition *p, uint64_t control);

/* Makes VTL0's vCPUs come out for what is wanted now. Return: 0 or a negative errno. */
int vtl_intercept_refresh(struct vtl_partition *p);

/**
 * vtl_intercept_install() - HvCallInstallIntercept
 * @access: HV_INTERCEPT_MASK_*; 0 takes it away
 *
 * Return: 0, HV_STATUS_INVALID_PARAMETER, or a negative errno.
 */
int vtl_intercept_install(struct vtl_vp *vp, enum hv_intercept_type type, uint32_t access,
                          uint64_t parameter);

/* Whether VTL1 wants to be told of VTL0's access on this VP. @changes: the bits that a write would
 * change, for those registers that have a mask. */
bool vtl_intercept_wants_msr(const struct vtl_vp *vp, uint32_t msr, bool is_write,
                             uint64_t changes);
