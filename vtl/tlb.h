/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Flushes of guest-virtual translations that a guest asks for, and VTL1's lock on them
 * (vsm.md 3.11, 8.8).
 */

#include "vtl/partition.h"

/**
 * vtl_tlb_flush() - no VP of @mask uses a translation of @vtl from before this call
 * @vp: the VP whose hypercall is being served
 * @vtl: at most its active one
 * @mask: VPs, by bit
 *
 * Global translations and those of all address spaces go too. More VPs may flush than were asked.
 */
int vtl_tlb_flush(struct vtl_vp *vp, unsigned vtl, uint64_t mask);

/* Carries out what another VP's flush left for this one. Before an entry into the guest. */
int vtl_tlb_flush_pending(struct vtl_vp *vp);

/* VTL0's flush, issued on @vp, completes when every lock that is held now by another VP has been
 * released: until then VTL0 does not run there. */
void vtl_tlb_wait(struct vtl_vp *vp);

/**
 * vtl_tlb_lock() - HvRegisterVsmVpSecureConfigVtl0.TlbLocked of a VP
 *
 * Return: 0, or HV_STATUS_TIMEOUT when the other VPs could not be stopped now.
 */
int vtl_tlb_lock(struct vtl_vp *vp);
void vtl_tlb_unlock(struct vtl_vp *vp);

/* The contents of a VTL's hypercall page: with a TLB lock no flush of VTL0's goes to KVM. */
void vtl_tlb_fill_page(struct vtl_partition *p, unsigned vtl);
