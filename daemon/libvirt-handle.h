/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * vtld-libvirt as the broker holds it: started, listened to, and started again when it dies or says
 * what it should not. The broker does without it at any time.
 */

#include <systemd/sd-event.h>

#include "daemon/domains.h"

struct libvirt_handle;

/* Called from the event loop; none after libvirt_handle_free(). */
struct libvirt_callbacks {
        void (*state)(void *userdata);
        /* As domains_ops.domain */
        void (*domain)(void *userdata, const uint8_t uuid[16], const struct domain *d);
};

/**
 * libvirt_handle_new() - start the helper
 * @program: its path; NULL: the one beside the running program
 * @uri: of libvirt, not empty
 *
 * A program that is not there or cannot be started is tried again later, as one that dies is.
 *
 * Return: 0 or a negative errno.
 */
int libvirt_handle_new(sd_event *event, const char *program, const char *uri,
                       const struct libvirt_callbacks *callbacks, void *userdata,
                       struct libvirt_handle **ret);

/* The helper ends by itself when its socket closes. */
struct libvirt_handle *libvirt_handle_free(struct libvirt_handle *h);

/* For all below @h may be NULL: libvirt is not asked. */
enum libvirt_state libvirt_handle_state(const struct libvirt_handle *h);

/* What is known about a domain at this moment: NULL also without a connection to libvirt */
const struct domain *libvirt_handle_find(const struct libvirt_handle *h, const uint8_t uuid[16]);
const struct domain *libvirt_handle_find_pid(const struct libvirt_handle *h, pid_t pid);

/**
 * libvirt_handle_query() - have a domain told again
 *
 * callbacks.domain() follows.
 *
 * Return: 0, -ENOTCONN, or another negative errno: then nothing follows.
 */
int libvirt_handle_query(struct libvirt_handle *h, const uint8_t uuid[16]);
