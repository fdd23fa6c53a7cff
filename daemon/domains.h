/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The domains of libvirt as vtld-libvirt tells them: checks its messages and keeps the last word on
 * each domain. Does no input or output.
 */

#include <stddef.h>
#include <sys/types.h>
#include <uthash.h>

#include "daemon/libvirt-proto.h"

#define DOMAINS_MAX 4096u

struct domain {
        UT_hash_handle hh;
        uint8_t uuid[16];
        char name[LIBVIRT_NAME_SIZE]; /* UTF-8 without control characters */
        char policy[LIBVIRT_POLICY_SIZE];
        enum domain_state state;
        uint32_t run; /* 0 exactly when it is inactive */
        pid_t pid;    /* 0: not known */
        unsigned generation;
};

struct domains {
        struct domain *table; /* uthash, by uuid */
        unsigned generation;  /* of the connection to libvirt */
        enum libvirt_state state;
        char reason[LIBVIRT_NAME_SIZE]; /* LIBVIRT_FAILED: why, in printable ASCII */
};

struct domains_ops {
        /* domains.state is new, or why it failed is */
        void (*state)(void *userdata);
        /* @d is new or has been told again; NULL: there is none of this UUID, or none any more */
        void (*domain)(void *userdata, const uint8_t uuid[16], const struct domain *d);
};

/**
 * domains_message() - one message of the helper
 * @msg: its bytes, private to the caller
 *
 * Return: 0; -EBADMSG for what the helper does not say: it is not to be listened to any more;
 * -ENOSPC for a domain too many; or -ENOMEM. Nothing has changed on failure.
 */
int domains_message(struct domains *t, const void *msg, size_t len, const struct domains_ops *ops,
                    void *userdata);

/* The helper is gone: its word on domains stays until the next one has told all of them. */
void domains_lost(struct domains *t, const char *reason);

/* NULL: not known */
const struct domain *domains_find(const struct domains *t, const uint8_t uuid[16]);
/* The domain that runs in this very process */
const struct domain *domains_find_pid(const struct domains *t, pid_t pid);

/* Forgets everything. */
void domains_done(struct domains *t);
