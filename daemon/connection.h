/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One VMM's connection to the attach socket.
 */

#include "daemon/protocol.h"

struct broker;
struct connection;
struct partition;

/**
 * connection_new() - serve an accepted socket
 * @fd: becomes the connection's, also on failure
 *
 * Return: 0 or a negative errno.
 */
int connection_new(struct broker *b, int fd);

/**
 * connection_adopt() - the connection of a VM that was started by a broker before this one
 * @fd: of an accepted socket; becomes the connection's, also on failure
 * @pidfd: of the VMM; likewise
 * @p: becomes the connection's on success
 *
 * Return: 0, -EBADMSG when the descriptors are not of the VMM of @p, or another negative errno.
 */
int connection_adopt(struct broker *b, int fd, int pidfd, struct partition *p);

/* Also the VM attached over it. */
struct connection *connection_free(struct connection *c);

/* The next one in broker.connections, or NULL */
struct connection *connection_next(struct connection *c);

/* Ends it, and with it the VM: @why is for the log. */
void connection_detach(struct connection *c, const char *why);

/* As identity_query_told(), for an ATTACH that waits */
void connection_domain_told(struct connection *c, const uint8_t *uuid);

/* For the service manager to keep, before START is answered; they stay the connection's. */
struct connection_fds {
        int fd;
        int pidfd;
        int control_fd;
};
struct connection_fds connection_fds(const struct connection *c);

/* The answer to START; see protocol_started(). */
void connection_started(struct connection *c, int error, const char *why,
                        const struct vtl_message_started *started, int link_fd);

/* The connection is closed for the VMM; the VM stays on the bus until the VMM has closed its end
 * too. */
void connection_worker_failed(struct connection *c);
