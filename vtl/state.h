/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A partition as a whole: paused, reset, saved and loaded. The library asks for these with
 * VTL_EXIT_STATE on the first VP while no VP is in the guest; the blob goes through the operations
 * state_put() and state_get() of the planes, so that it makes no difference in which process the
 * engine is.
 *
 * What is saved is the engine's: levels, protections, SynIC, timers, VTL1's APICs, contexts that
 * wait, overlay pages (vsm.md 13). The vCPUs' registers are the library's, VTL0's machine the
 * VMM's.
 */

#include <stddef.h>
#include <stdint.h>

#include "util/blob.h"
#include "vtl/partition.h"

#define VTL_STATE_MAGIC 0x617473656c747476ull /* "vttlesta" */
/* No partition's is larger: 8 GiB of pages with other rights than their neighbours. */
#define VTL_STATE_SIZE_MAX (64ull << 20)

/* One VTL_EXIT_STATE. Return: 0; a negative errno, which is the library's answer and no reason to
 * stop the guest; *ret_stop when it is one. */
int vtl_state_serve(struct vtl_vp *vp, const struct vtl_exit *e, bool *ret_stop);

/* The engine's timers stand still. Only then can a partition be saved and loaded. */
void vtl_state_pause(struct vtl_partition *p);
void vtl_state_continue(struct vtl_partition *p);

/**
 * vtl_state_reset() - as at the beginning: no VTL1, no protections, no overlays (vsm.md 5.1)
 *
 * RAM is zeroed if VTL1 wanted that. The planes' registers are whoever's who called.
 *
 * Return: 0; -EBUSY while a VP works for another one; the planes' error: not all has been reset.
 */
int vtl_state_reset(struct vtl_partition *p);

/* Return: 0; -EBUSY: not paused; -ENOMEM. */
int vtl_state_save(struct vtl_partition *p, struct blob *ret);

/**
 * vtl_state_load() - a saved partition continues in this one
 *
 * It stays paused. Nothing has changed when the blob is refused; after another failure the
 * partition is reset.
 *
 * Return: 0; -EBADMSG: not a sound blob; -EPROTONOSUPPORT: of another version; -EXDEV: of a
 * partition of another shape (VPs, memory, TSC, what KVM does itself); -EPERM: it has what policy
 * does not allow here; -EBUSY, -ENOMEM, the planes' error.
 */
int vtl_state_load(struct vtl_partition *p, const void *data, size_t size);
