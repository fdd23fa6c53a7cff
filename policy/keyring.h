/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Trusted keys, and what they have signed.
 *
 * A directory of keys holds public keys as files *.pem (SubjectPublicKeyInfo; Ed25519 or ECDSA on
 * P-384), one in each, and optionally the file "revoked": one key id of 16 hexadecimal digits in
 * each line, with anything behind it, and comments that begin with "#".
 */

#include <stdbool.h>
#include <stddef.h>

#include "policy/signature.h"
#include "util/snapshot.h"

#define KEYRING_KEYS_MAX 64u
#define KEYRING_REVOKED_MAX 4096u
#define KEYRING_KEY_FILE_MAX (16u * 1024u)
#define KEYRING_REVOKED_FILE_MAX (256u * 1024u)

struct keyring;

enum keyring_verdict {
        KEYRING_VALID,
        KEYRING_WRONG,       /* not by this key, or not of these bytes */
        KEYRING_REVOKED,     /* by a key that is not trusted any more */
        KEYRING_UNKNOWN_KEY, /* by a key that is not here */
        _KEYRING_VERDICT_MAX,
};

/* Return: 0 or a negative errno. */
int keyring_new(struct keyring **ret, char error[CONF_ERROR_SIZE]);
struct keyring *keyring_free(struct keyring *k);

/**
 * keyring_load() - the keys of a directory
 * @s: remembers what was read
 * @directory: when it does not exist, there are no keys
 *
 * Return: 0, or a negative errno: none of the keys can be used then.
 */
int keyring_load(struct keyring *k, struct snapshot *s, const char *directory,
                 char error[CONF_ERROR_SIZE]);

/* One key file, and a list of revoked keys, from memory; @path is for errors and for
 * keyring_name(). */
int keyring_add(struct keyring *k, const char *pem, size_t len, const char *path,
                char error[CONF_ERROR_SIZE]);
int keyring_revoke(struct keyring *k, const char *text, size_t len, const char *path,
                   char error[CONF_ERROR_SIZE]);

size_t keyring_keys(const struct keyring *k);

/* The file that a key is from, or NULL */
const char *keyring_name(const struct keyring *k, const uint8_t id[SIGNATURE_KEY_ID_SIZE]);

/**
 * keyring_verify() - is this the signature of that file?
 * @path: of the file: its name is part of what was signed
 * @body: its bytes
 *
 * Return: 0 with @ret_verdict, or a negative errno, which is no verdict.
 */
int keyring_verify(const struct keyring *k, const struct signature *s, const char *path,
                   const void *body, size_t len, enum keyring_verdict *ret_verdict);

/* The same for a message that is no file: a quote. */
enum keyring_verdict keyring_verify_message(const struct keyring *k, const struct signature *s,
                                            const void *message, size_t len);

/**
 * keyring_sign() - sign a file with a private key
 * @pem: the private key; a passphrase is asked for on the terminal
 *
 * Return: 0 or a negative errno with @error. The key is not kept.
 */
int keyring_sign(const struct keyring *k, const char *pem, size_t pem_len, const char *pem_path,
                 const char *path, const void *body, size_t len, struct signature *ret,
                 char error[CONF_ERROR_SIZE]);
