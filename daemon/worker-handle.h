/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A worker process as the broker holds it: started, listened to, waited for.
 */

#include <systemd/sd-event.h>

#include "daemon/worker-proto.h"

struct worker_handle;

/* All are called from the event loop; none after worker_handle_release(). */
struct worker_callbacks {
        void (*ready)(void *userdata);
        /* Before ready(): cannot serve the VM. The process ends by itself. */
        void (*refused)(void *userdata, int error, const char *why);
        /* @n is of a known event and an existing VP; else unchecked. */
        void (*event)(void *userdata, const struct worker_notice *n);
        /* @clean: by itself, because the VMM has closed its end of the link. */
        void (*died)(void *userdata, bool clean, const char *reason);
};

/**
 * worker_handle_new() - start a worker for a VM
 * @vm: with all descriptors; they stay the caller's
 * @allow_vtl1: what policy said
 * @ret_link_fd: the VMM's end of the worker link, the caller's
 *
 * Return: 0 or a negative errno.
 */
int worker_handle_new(sd_event *event, const struct protocol_vm *vm, bool allow_vtl1,
                      const struct worker_callbacks *callbacks, void *userdata, int *ret_link_fd,
                      struct worker_handle **ret);

pid_t worker_handle_pid(const struct worker_handle *h);

/**
 * worker_handle_release() - the VM is gone or was detached
 *
 * The worker is told to end, is killed when it does not, and the handle frees itself then.
 */
struct worker_handle *worker_handle_release(struct worker_handle *h);

/* The broker ends, the worker goes on: forgets it. */
struct worker_handle *worker_handle_abandon(struct worker_handle *h);
