/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The broker: attach socket, policy, bus, workers. One event loop, one thread, no guest memory, no
 * KVM.
 */

#include <stdbool.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "daemon/decide.h"
#include "daemon/libvirt-handle.h"
#include "policy/host-key.h"
#include "policy/measure.h"
#include "policy/policy.h"
#include "util/log.h"

struct bus;
struct config;
struct connection;
struct fd_store;
struct partition;

LIST_HEAD(connection_list, connection);

struct broker {
        sd_event *event;
        struct bus *bus;
        struct libvirt_handle *libvirt; /* NULL: libvirt is not asked */
        const struct config *config;
        struct policy *policy;                /* NULL: there is none */
        unsigned policy_generation;           /* how many times one was read */
        char policy_error[POLICY_ERROR_SIZE]; /* of the last reading; "": none */
        struct measure *measure;
        struct host_key *host_key; /* NULL: there is none, and no quotes */
        unsigned max_vms;
        char refusal_text[DECIDE_TEXT_SIZE]; /* for the VMM whose command is served */
        int listen_fd;
        bool made_socket;
        bool ending; /* VMs are let go, but not stopped */
        sd_event_source *listen_source;
        sd_event_source *listen_again; /* after a pause, when nothing can be accepted */
        sd_event_source *idle;         /* NULL: does not end by itself */
        struct connection_list connections;
        unsigned n_connections;
        struct partition *partitions; /* uthash, by UUID */
        struct log_ratelimit refusal_limit;
        struct log_ratelimit identity_limit;
        struct log_ratelimit accept_limit;
};

/**
 * broker_new() - everything up to the first connection
 * @config: must live as long as the broker
 * @listen_fd: becomes the broker's; -1: none, make the socket of @config
 * @store: what there is of VMs of a broker before this one; emptied when they are taken over
 * @ret_status: on failure, the exit status for it (sysexits.h)
 *
 * Return: 0 or a negative errno; what went wrong has been logged.
 */
int broker_new(const struct config *config, int listen_fd, struct fd_store *store,
               struct broker **ret, int *ret_status);

/* Serves until SIGTERM or SIGINT. Return: 0 or a negative errno. */
int broker_run(struct broker *b);

/* Workers go on: they belong to their VMMs. */
struct broker *broker_free(struct broker *b);

/**
 * broker_reload() - read the policy again
 * @ret_why: on failure, what is wrong with it
 *
 * Return: 0, or a negative errno: then the policy stays as it was.
 */
int broker_reload(struct broker *b, char ret_why[POLICY_ERROR_SIZE]);

/* Somebody has asked for something: the time without use begins again. */
void broker_used(struct broker *b);

/* Tells the service manager and the bus how many partitions there are. */
void broker_partitions_changed(struct broker *b);

/* ---- broker-policy.c ---- */

/**
 * broker_read_policy() - read the policy, and tell the log and the bus
 *
 * When that fails, the policy that there was stays. The first time there is none: if signatures are
 * required, every VM is refused VTL1 then, and this succeeds.
 *
 * Return: 0 or a negative errno.
 */
int broker_read_policy(struct broker *b);

/* ---- broker-key.c ---- */

/**
 * broker_read_key() - the host key: a credential, a file, or a new one in a new file
 *
 * Where there is no place for one, this succeeds without.
 *
 * Return: 0 or a negative errno; what went wrong has been logged.
 */
int broker_read_key(struct broker *b);
