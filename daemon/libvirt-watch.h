/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Watches the domains of one libvirt connection, read-only: tells each of them once connected,
 * again when it changes, and connects again when the connection is lost. Everything happens in
 * virEventRunDefaultImpl(), whose loop the caller runs after virEventRegisterDefaultImpl().
 */

#include "daemon/libvirt-proto.h"

struct watch;

/* Told in this order: LIBVIRT_CONNECTING, domains, LIBVIRT_CONNECTED, changes; LIBVIRT_FAILED at
 * any time. */
typedef void (*watch_fn)(void *userdata, const struct libvirt_message *m);

/**
 * watch_new() - start watching
 * @uri: of libvirt
 * @tell: called from the event loop
 *
 * Return: 0 or a negative errno.
 */
int watch_new(const char *uri, watch_fn tell, void *userdata, struct watch **ret);
struct watch *watch_free(struct watch *w);

/* Tells the domain of this UUID, or that there is none; nothing without a connection. */
void watch_query(struct watch *w, const uint8_t uuid[16]);
