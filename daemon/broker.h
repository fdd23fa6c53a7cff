/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The broker: attach socket, policy, bus, workers. One event loop, one thread, no guest memory, no
 * KVM.
 */

#include <stdbool.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "policy/policy.h"
#include "util/log.h"

struct bus;
struct connection;
struct partition;

struct broker_config {
        int listen_fd;           /* becomes the broker's; -1: none, use socket_path */
        const char *socket_path; /* made, and removed at the end */
        const char *bus;         /* "system", "session" or an address */
        const char *policy_path;
        bool policy_required; /* the file must exist */
        unsigned max_vms;
};

LIST_HEAD(connection_list, connection);

struct broker {
        sd_event *event;
        struct bus *bus;
        struct policy *policy; /* NULL: there is none */
        struct broker_config config;
        unsigned max_vms;
        int listen_fd;
        bool made_socket;
        bool ending; /* VMs are let go, but not stopped */
        sd_event_source *listen_source;
        sd_event_source *listen_again; /* after a pause, when nothing can be accepted */
        struct connection_list connections;
        unsigned n_connections;
        struct partition *partitions; /* uthash, by UUID */
        struct log_ratelimit refusal_limit;
        struct log_ratelimit accept_limit;
};

/**
 * broker_new() - everything up to the first connection
 * @ret_status: on failure, the exit status for it (sysexits.h)
 *
 * Return: 0 or a negative errno; what went wrong has been logged.
 */
int broker_new(const struct broker_config *config, struct broker **ret, int *ret_status);

/* Serves until SIGTERM or SIGINT. Return: 0 or a negative errno. */
int broker_run(struct broker *b);

/* Workers go on: they belong to their VMMs. */
struct broker *broker_free(struct broker *b);

/* Tells the service manager and the bus how many partitions there are. */
void broker_partitions_changed(struct broker *b);
