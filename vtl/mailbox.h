/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The mailbox of a VP's control page: the library hands over an exit, the engine answers with an
 * action, and asks for plane operations in between. One word says whose turn it is; whoever waits
 * spins for a while before it sleeps.
 */

#include <stdatomic.h>
#include <stdbool.h>

#include "vtl/control.h"

struct vtl_vp;

/* Once per process, before the first call and before a sandbox: finds out whether waiting may spin.
 */
void mailbox_prepare(void);

/* How long to spin before sleeping; adapts to how soon answers come. One per waiting thread,
 * zero-initialised. */
struct mailbox_spin {
        unsigned limit; /* rounds; 0 until the first wait */
};

/* Carries out the operation in ctl->op, which is another process's: copy, check, use. Return: its
 * result. */
typedef int mailbox_op_fn(void *userdata, struct vtl_op *op);

/**
 * mailbox_call() - library: have the engine serve the exit in the control page
 * @dead: becomes true when the engine's process is gone
 * @serve_op: carries out plane operations meanwhile
 *
 * Return: 0 with ctl->action filled in, -EOWNERDEAD, or another negative errno where the operation
 * that came with the action has failed.
 */
int mailbox_call(struct vtl_control_vp *ctl, struct mailbox_spin *spin, const atomic_bool *dead,
                 mailbox_op_fn *serve_op, void *userdata);

/* Library: makes a thread in mailbox_call() look at @dead. Callable from any thread. */
void mailbox_wake(struct vtl_control_vp *ctl);

/* Engine: have the library carry out ctl->op. Return: its result. */
int mailbox_op(struct vtl_control_vp *ctl, struct mailbox_spin *spin);

/**
 * vtl_worker_vp_loop() - engine: serve a VP's exits for ever
 *
 * Return: a negative errno when the mailbox is not what it must be.
 */
int vtl_worker_vp_loop(struct vtl_vp *vp);
