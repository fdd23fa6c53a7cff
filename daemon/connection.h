/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One VMM's connection to the attach socket.
 */

#include "daemon/protocol.h"

struct broker;
struct connection;

/**
 * connection_new() - serve an accepted socket
 * @fd: becomes the connection's, also on failure
 *
 * Return: 0 or a negative errno.
 */
int connection_new(struct broker *b, int fd);

/* Also the VM attached over it. */
struct connection *connection_free(struct connection *c);

/* The answer to START; see protocol_started(). */
void connection_started(struct connection *c, int error, const char *why,
                        const struct vtl_message_started *started, int link_fd);

/* The connection is closed for the VMM; the VM stays on the bus until the VMM has closed its end
 * too. */
void connection_worker_failed(struct connection *c);
