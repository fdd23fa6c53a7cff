/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The host's key, which signs quotes: Ed25519, as a file in PEM (PKCS #8, not encrypted). It is
 * kept in libcrypto's secure memory; only the broker has it.
 */

#include <stddef.h>
#include <stdint.h>

#include "policy/signature.h"

#define HOST_KEY_PEM_MAX 256u /* of the public key */
#define HOST_KEY_SIGNATURE_SIZE SIGNATURE_ED25519_SIZE

struct host_key;

/**
 * host_key_load() - read the key of a file
 * @path: must be a file that only its owner, this user or root, can read
 *
 * Return: 0, -ENOENT, -EACCES for one that others can read, -EBADMSG for a file that is no such
 * key, or another negative errno with @error.
 */
int host_key_load(const char *path, struct host_key **ret, char error[CONF_ERROR_SIZE]);

/**
 * host_key_generate() - make a key, and keep it in a new file
 *
 * Return: 0, -EEXIST when there is such a file, or another negative errno with @error.
 */
int host_key_generate(const char *path, struct host_key **ret, char error[CONF_ERROR_SIZE]);

struct host_key *host_key_free(struct host_key *k);

/* The public key in PEM, as keys of policies are, and its ID */
const char *host_key_public(const struct host_key *k);
const uint8_t *host_key_id(const struct host_key *k);

/* keyring_verify_message() verifies it. Return: 0 or -EIO. */
int host_key_sign(const struct host_key *k, const void *message, size_t len,
                  uint8_t ret[HOST_KEY_SIGNATURE_SIZE]);
