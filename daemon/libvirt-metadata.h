/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * vtld's element in the <metadata> of a domain:
 *
 *     <vtld:policy xmlns:vtld="https://vtld.org/xmlns/libvirt/domain/1.0">NAME</vtld:policy>
 *
 * Whoever may define the domain writes it.
 */

#include <stddef.h>

#include "daemon/libvirt-proto.h"

#define METADATA_URI "https://vtld.org/xmlns/libvirt/domain/1.0"
#define METADATA_PREFIX "vtld"

#define METADATA_MAX 4096u

/**
 * metadata_parse() - the policy value
 * @xml: the element, as libvirt returns it: without the prefix of its namespace
 * @len: bytes of it
 * @ret: the value
 * @ret_why: on failure, what is wrong with it
 *
 * Return: 0, -EBADMSG when it is not such an element, or -ENOMEM.
 */
int metadata_parse(const char *xml, size_t len, char ret[LIBVIRT_POLICY_SIZE],
                   const char **ret_why);

#define METADATA_ELEMENT_SIZE 64u

/* The element for a valid value, as libvirt takes it: it adds the namespace itself. */
void metadata_format(const char *policy, char ret[METADATA_ELEMENT_SIZE]);
