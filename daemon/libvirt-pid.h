/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The process of a running QEMU domain, which libvirt's API does not tell: from the file that
 * libvirt keeps about it. Where machined knows the machine this adds nothing; without machined, and
 * for the domains of a user's session, which are no machines, it is all there is.
 */

#include <stdint.h>

struct pid_finder;

/* @uri: of libvirt. NULL: no memory */
struct pid_finder *pid_finder_new(const char *uri);
struct pid_finder *pid_finder_free(struct pid_finder *f);

/* 0: not known */
uint32_t pid_finder_pid(const struct pid_finder *f, const char *domain);
