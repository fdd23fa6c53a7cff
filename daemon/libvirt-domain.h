/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What libvirt says about a domain, in vtld's words.
 */

#include <libvirt/libvirt.h>

#include "daemon/libvirt-proto.h"

/**
 * domain_get_state() - does it run?
 * @ret_run: libvirt's number of this run, 0 exactly when it is inactive
 *
 * Return: 0, or -EIO; libvirt_error() tells more.
 */
int domain_get_state(virDomainPtr d, enum domain_state *ret, uint32_t *ret_run);

/**
 * domain_get_policy() - the value in its metadata
 * @ret: empty: there is none
 * @ret_why: on failure, why
 *
 * Return: 0, -EBADMSG for an element of ours that is malformed, or another negative errno.
 */
int domain_get_policy(virDomainPtr d, char ret[LIBVIRT_POLICY_SIZE], const char **ret_why);

/* The last error of libvirt in this thread */
const char *libvirt_error(void);

void domain_cleanup(virDomainPtr *d);
#define _cleanup_domain_ _cleanup_(domain_cleanup)

/* Keeps libvirt from printing every error, expected ones too. */
void libvirt_be_quiet(void);
