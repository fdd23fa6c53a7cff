/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Between plane-model.c, the guest and what it sees, and plane-model-ops.c, what the engine asks
 * for. */

#include "vtl/hvdef.h"
#include "vtl/plane-model.h"

#define PLANE_MODEL_RW (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)

/* A page of a plane's view; NULL for what is not RAM. */
struct model_page *plane_model_page(const struct plane_model *m, unsigned plane, uint64_t gpn);

/* The active plane's registers to and from the control page, as the stock backend moves them: of
 * SREGS only CR2 goes back. */
void plane_model_publish(struct model_vp *vp);
void plane_model_flush(struct model_vp *vp);

/* Finishes the pending instruction: KVM skips it when RIP is still where it was. */
void plane_model_finish(struct model_vcpu *c);
