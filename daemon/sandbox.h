/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/**
 * sandbox_worker_prepare() - give up what a worker never needs: new privileges, core dumps, being
 * traced
 *
 * Return: 0 or a negative errno.
 */
int sandbox_worker_prepare(void);

/**
 * sandbox_worker_enter() - allow only the system calls of a running worker, for all threads of the
 * process
 *
 * All threads must have been started. Any other call kills the process.
 *
 * Return: 0 or a negative errno.
 */
int sandbox_worker_enter(void);
