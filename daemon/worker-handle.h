/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A worker process as the broker holds it: started, listened to, waited for.
 */

#include <systemd/sd-event.h>

#include "daemon/worker-proto.h"

struct worker_handle;

/* What policy and vtld.conf say about a VM */
struct worker_terms {
        bool allow_vtl1;
        bool require_measurement;
        uint64_t measure_limit;
        struct vtl_options options;
};

/* All are called from the event loop; none after worker_handle_release(). */
struct worker_callbacks {
        void (*ready)(void *userdata);
        /* Before ready(): cannot serve the VM. The process ends by itself. */
        void (*refused)(void *userdata, int error, const char *why);
        /* @n is of a known event and an existing VP; else unchecked. */
        void (*event)(void *userdata, const struct worker_notice *n);
        /* Of existing VPs; else unchecked. */
        void (*record)(void *userdata, const struct worker_record *r);
        void (*measured)(void *userdata, const struct worker_record *r);
        /* Of the right form; else unchecked. */
        void (*map)(void *userdata, const struct worker_map *m, size_t len);
        /* Of the right size; else unchecked. */
        void (*registers)(void *userdata, const struct worker_registers *r);
        /* @clean: by itself, because the VMM has closed its end of the link. */
        void (*died)(void *userdata, bool clean, const char *reason);
        /* The answer to worker_handle_adopt(): 0, or why it is none of ours. */
        void (*adopted)(void *userdata, int error, const char *why);
};

/**
 * worker_handle_new() - start a worker for a VM
 * @vm: with all descriptors; they stay the caller's
 * @ret_link_fd: the VMM's end of the worker link, the caller's
 *
 * Return: 0 or a negative errno.
 */
int worker_handle_new(sd_event *event, const struct protocol_vm *vm,
                      const struct worker_terms *terms, const struct worker_callbacks *callbacks,
                      void *userdata, int *ret_link_fd, struct worker_handle **ret);

/**
 * worker_handle_adopt() - a worker that an earlier broker has started
 * @fd: the end of its pair, the handle's from now on, also on failure
 * @pidfd: likewise
 * @generation: how many brokers it has had; a number that it has not been told before
 *
 * It is asked whether it is there and of this version; adopted() follows. What it has said
 * meanwhile comes before that. How it ends is known only as far as it says so itself.
 *
 * Return: 0 or a negative errno.
 */
int worker_handle_adopt(sd_event *event, int fd, int pidfd, pid_t pid, unsigned vps,
                        uint32_t generation, const struct worker_callbacks *callbacks,
                        void *userdata, struct worker_handle **ret);

/* The answer to measured(): may VTL1 run? Return: 0 or a negative errno: the worker refuses
 * then. */
int worker_handle_decide(struct worker_handle *h, uint64_t sequence, bool allowed);

/* Somebody reads the traces: they are written for a while. */
int worker_handle_trace(struct worker_handle *h);

/* The protections from a page on: map() follows, unless the worker ends or is too busy. */
int worker_handle_ask_map(struct worker_handle *h, uint64_t token, uint64_t gpn);

/* The registers of one VTL of a VP: registers() follows, unless the worker ends or is too busy. */
int worker_handle_ask_registers(struct worker_handle *h, uint64_t token, unsigned vp, unsigned vtl);

pid_t worker_handle_pid(const struct worker_handle *h);

/* For the service manager to keep; they stay the handle's. */
int worker_handle_fd(const struct worker_handle *h);
int worker_handle_pidfd(const struct worker_handle *h);

/* The VM ends: has its worker ended before, and not because the VMM has closed its end of the link?
 * Serves what it said last. */
bool worker_handle_failed(struct worker_handle *h);

/**
 * worker_handle_release() - the VM is gone or was detached
 *
 * The worker is told to end, is killed when it does not, and the handle frees itself then.
 */
struct worker_handle *worker_handle_release(struct worker_handle *h);

/* The broker ends, the worker goes on: forgets it. */
struct worker_handle *worker_handle_abandon(struct worker_handle *h);
