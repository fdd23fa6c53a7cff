/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Whose VM is it? A process that belongs to a domain of libvirt speaks for that domain and no
 * other. machined is asked, and what vtld-libvirt knows is looked at; both may be missing or slow,
 * and then the process is nobody's: it is served, but not as a domain.
 */

#include <systemd/sd-event.h>

#include "daemon/libvirt-handle.h"
#include "daemon/machine.h"

/* ATTACH waits this long for all answers together. */
#define IDENTITY_USEC (2u * 1000 * 1000)

enum identity_kind {
        IDENTITY_UNKNOWN, /* there was no answer */
        IDENTITY_NONE,    /* of no domain */
        IDENTITY_LIBVIRT,
};

struct identity {
        enum identity_kind kind;
        uint8_t uuid[16]; /* IDENTITY_LIBVIRT: of the domain */
        bool told;        /* what is known about that domain is of this run of it */
};

struct identity_query;

typedef void (*identity_fn)(void *userdata, const struct identity *i);

/**
 * identity_query_new() - ask about the process of a VMM
 * @bus: where machined is, or NULL
 * @libvirt: or NULL; must outlive the query
 * @pid: kept from being another process by the caller, until the answer has been used
 * @uuid: of the VM that it wants to attach
 * @answer: called once, from the event loop and never from within this function; the query may be
 * freed in it
 *
 * Return: 0 or a negative errno.
 */
int identity_query_new(sd_event *event, sd_bus *bus, struct libvirt_handle *libvirt, pid_t pid,
                       const uint8_t uuid[16], identity_fn answer, void *userdata,
                       struct identity_query **ret);

/* Also before the answer, which does not come then */
struct identity_query *identity_query_free(struct identity_query *q);

/* vtld-libvirt has told about @uuid, or NULL: has another state. @q may be NULL. */
void identity_query_told(struct identity_query *q, const uint8_t *uuid);

/**
 * identity_check() - may it attach this VM?
 * @uuid: of the VM
 *
 * Return: 0, or -EPERM and @ret_why is set.
 */
int identity_check(const struct identity *i, const uint8_t uuid[16], const char **ret_why);
