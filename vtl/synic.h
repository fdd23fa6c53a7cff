/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The synthetic interrupt controller: SINTs, the message page, and VTL1's interrupts that come from
 * it.
 */

#include <stdint.h>

#include "vtl/partition.h"

void vtl_synic_reset(struct vtl_synic *s);

/**
 * vtl_synic_post_intercept() - put an intercept message into VTL1's slot 0 and raise SINT0
 * (vsm.md 8.5)
 *
 * The message bypasses any queue: VTL0's RIP was not advanced, so what does not fit now comes
 * again.
 *
 * Return: true when the message was posted; false when SINT0 is masked or the slot is busy.
 */
bool vtl_synic_post_intercept(struct vtl_vp *vp, const struct hv_message *message);

/* A write to SINTn. Return: false for #GP (unmasked with a vector below 16). */
bool vtl_synic_set_sint(struct vtl_synic *s, unsigned n, uint64_t value);

/* Asks for a vector on VTL1's APIC of @vp, and makes the VP look at it when it is another one's. */
void vtl_request_vtl1_interrupt(struct vtl_vp *target, const struct vtl_vp *self, uint8_t vector,
                                bool auto_eoi);
