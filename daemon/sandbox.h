/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>

struct sandbox_call {
        int number;
        const char *reason;
};

/**
 * sandbox_load() - allow only some system calls, for all threads of the process
 * @calls: allowed with any arguments
 * @n: how many
 * @add_rules: adds what is allowed with some arguments only
 * @otherwise: what any other call does, as SCMP_ACT_KILL_PROCESS
 *
 * Nothing in a build with a sanitizer.
 *
 * Return: 0 or a negative errno.
 */
int sandbox_load(const struct sandbox_call *calls, size_t n, int (*add_rules)(scmp_filter_ctx ctx),
                 uint32_t otherwise);

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

/**
 * sandbox_broker_enter() - allow only the system calls of a running broker, and of what it starts
 *
 * When the sockets and keys are there, before anything is served. Any other call fails with EPERM.
 *
 * Return: 0 or a negative errno.
 */
int sandbox_broker_enter(void);
