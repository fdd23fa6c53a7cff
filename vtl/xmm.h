/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

struct vtl_vp;

/*
 * XMM registers of the VP being served. They are shared by the levels, so they are the active
 * plane's. @n of them from @first on. Return: 0 or a negative errno.
 */
int vtl_xmm_get(struct vtl_vp *vp, unsigned first, unsigned n, uint8_t (*ret)[16]);
int vtl_xmm_set(struct vtl_vp *vp, unsigned first, unsigned n, const uint8_t (*value)[16]);
