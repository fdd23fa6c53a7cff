/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Messages between the broker and vtld-libvirt, over a SEQPACKET pair. Both are of one build. What
 * the helper says comes from libvirt, and in the end from whoever may define a domain: the broker
 * checks all of it (domains.h).
 */

#include <stdbool.h>
#include <stdint.h>

/* As long as libvirt's QEMU driver can make a file name of */
#define LIBVIRT_NAME_SIZE 256u
/* A policy value is like the name of a rule: letters, digits, '-', '_' and '.'. */
#define LIBVIRT_POLICY_SIZE 33u

enum libvirt_message_type {
        LIBVIRT_STATE = 1, /* helper: how the connection to libvirt does */
        LIBVIRT_DOMAIN,    /* helper: a domain is there, or has changed */
        LIBVIRT_GONE,      /* helper: there is no domain of this UUID */
        LIBVIRT_QUERY,     /* broker: what about this UUID? DOMAIN or GONE follows */
        _LIBVIRT_MESSAGE_MAX,
};

enum libvirt_state {
        LIBVIRT_OFF, /* nobody asks libvirt; never sent */
        LIBVIRT_CONNECTING,
        LIBVIRT_CONNECTED, /* every domain has been told since LIBVIRT_CONNECTING */
        LIBVIRT_FAILED,    /* text says why; it is tried again */
        _LIBVIRT_STATE_MAX,
};

enum domain_state {
        DOMAIN_INACTIVE,
        DOMAIN_RUNNING,
        DOMAIN_PAUSED,
        DOMAIN_CRASHED, /* the guest has; a process may be kept for a look at it */
        _DOMAIN_STATE_MAX,
};

struct libvirt_message {
        uint32_t type;
        uint32_t state; /* STATE: enum libvirt_state; DOMAIN: enum domain_state */
        uint32_t pid;   /* DOMAIN: of its process; 0: not known */
        uint32_t run;   /* DOMAIN: libvirt's number for this run of it; 0: it does not run */
        uint8_t uuid[16];
        char policy[36]; /* DOMAIN: what its metadata say; empty: nothing, or nothing of use */
        char text[LIBVIRT_NAME_SIZE]; /* DOMAIN: its name; STATE: why it failed */
};
_Static_assert(sizeof(struct libvirt_message) == 324, "no padding");

/* True for a text that can be a policy value; the empty one cannot. */
bool libvirt_policy_valid(const char *text);

const char *libvirt_state_to_string(enum libvirt_state s);
