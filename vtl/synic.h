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
 * vtl_synic_post() - put a message into a VTL's slot of SINT @n and raise it (vsm.md 9)
 *
 * A slot that is busy gets its MessagePending flag; whoever posts tries again when the guest has
 * written EOM, or, with an intercept, when VTL0's instruction comes again (8.5).
 *
 * Return: 1 when the message was posted; 0 when the SINT is masked or the slot is busy; a negative
 * errno.
 */
int vtl_synic_post(struct vtl_vp *vp, unsigned vtl, unsigned n, const struct hv_message *message);

/**
 * vtl_synic_queue() - the same for a message that is not to be lost
 *
 * One whose slot is busy waits, behind those that wait already.
 *
 * Return: 0, HV_STATUS_INSUFFICIENT_BUFFERS when too many wait, HV_STATUS_INVALID_SYNIC_STATE when
 * the SINT is masked, or a negative errno.
 */
int vtl_synic_queue(struct vtl_vp *vp, unsigned vtl, unsigned n, const struct hv_message *message);

/* Posts what waits and can be posted now. At the end of every exit: EOM is one. */
int vtl_synic_deliver(struct vtl_vp *vp);

/**
 * vtl_synic_signal() - set an event flag and raise its SINT
 * @flag: below HV_EVENT_FLAGS
 *
 * Return: 1 when it was not set before, 0 when it was, HV_STATUS_INVALID_SYNIC_STATE when the SINT
 * is masked, or a negative errno.
 */
int vtl_synic_signal(struct vtl_vp *vp, unsigned vtl, unsigned n, unsigned flag);

/* A fixed, edge-triggered interrupt, or an NMI, of a VTL of any VP. Return: 0 or a negative errno.
 */
int vtl_assert_interrupt(struct vtl_vp *target, unsigned vtl, uint8_t vector, bool auto_eoi);
int vtl_assert_nmi(struct vtl_vp *target, unsigned vtl);

/* A write to SINTn. Return: false for #GP (unmasked with a vector below 16). */
bool vtl_synic_set_sint(struct vtl_synic *s, unsigned n, uint64_t value);

/* Asks for a vector on VTL1's APIC of @vp, and makes the VP look at it when it is another one's. */
void vtl_request_vtl1_interrupt(struct vtl_vp *target, const struct vtl_vp *self, uint8_t vector,
                                bool auto_eoi);
