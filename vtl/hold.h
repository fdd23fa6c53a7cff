/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What one VP does to the others of its partition: keeping them out of the guest, and having
 * something done on one's own thread. Everything here runs under the partition's lock.
 */

#include "vtl/partition.h"

void vtl_hold_init(struct vtl_partition *p);
void vtl_hold_done(struct vtl_partition *p);

/**
 * vtl_hold() - keep all other VPs out of the guest
 * @self: the VP whose exit is being served
 *
 * When it returns 0 no other VP is in the guest and none enters it until vtl_release(), also while
 * @self itself goes there and comes back.
 *
 * Return: 0; HV_STATUS_TIMEOUT while another VP holds: the guest is to issue its instruction again.
 */
int vtl_hold(struct vtl_vp *self);
void vtl_release(struct vtl_vp *self);

/* The same for one VP, for the length of one function: when it returns @target is not in the guest,
 * and it looks at what is pending before it enters. */
void vtl_stop(struct vtl_vp *target);

/* 0, a positive HV_STATUS or a negative errno. */
typedef int vtl_work_fn(struct vtl_vp *vp, void *arg);

/**
 * vtl_run_on() - have @fn called with @target at an instruction boundary, on its own thread
 * @self: the VP whose exit is being served; may be @target
 *
 * A vCPU belongs to its thread: nobody else makes operations on it (docs/decisions.md). Other exits
 * are served meanwhile: nothing that was looked at before the call is certain to be so after it.
 *
 * Return: what @fn returned; HV_STATUS_TIMEOUT when @target did not come in time: @fn will not be
 * called, and the guest is to issue its instruction again.
 */
int vtl_run_on(struct vtl_vp *self, struct vtl_vp *target, vtl_work_fn *fn, void *arg);

/**
 * vtl_work_post() - the same for a thread that is no VP's, and that may not wait under the lock
 * @work: fn and arg are set; it stays until it is done or cancelled, both seen under the lock
 *
 * Return: 0; -EBUSY: somebody else's work waits for @target; another negative errno.
 */
int vtl_work_post(struct vtl_vp *target, struct vtl_work *work);
void vtl_work_cancel(struct vtl_vp *target, struct vtl_work *work);

/* The other end: what somebody wants done on this VP, which is at an instruction boundary. */
void vtl_do_work(struct vtl_vp *vp);
