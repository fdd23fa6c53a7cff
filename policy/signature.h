/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Detached signatures: the file FILE.sig beside FILE. Four lines of text, each ending with a
 * newline and written in this way only, so that a shell and openssl(1) can make one:
 *
 *     vtld signature 1
 *     algorithm ed25519
 *     key 0123456789abcdef
 *     value HEXADECIMAL DIGITS
 *
 * The key is named by the first 8 bytes of the SHA-256 digest of its SubjectPublicKeyInfo (DER).
 * What is signed is a message that can be nothing else: the text "vtld policy v1", the name of the
 * file without its directory, and its size in decimal digits, each with a NUL byte behind it, then
 * the bytes of the file. No cryptography here.
 */

#include <stddef.h>
#include <stdint.h>

#include "util/conf-file.h"
#include "util/string-table.h"

#define SIGNATURE_FILE_MAX 512u
#define SIGNATURE_KEY_ID_SIZE 8u
#define SIGNATURE_KEY_ID_TEXT_SIZE (2 * SIGNATURE_KEY_ID_SIZE + 1)
#define SIGNATURE_ED25519_SIZE 64u
#define SIGNATURE_P384_MIN 8u   /* DER: two numbers of one byte */
#define SIGNATURE_P384_MAX 104u /* two of 49 bytes */
#define SIGNATURE_VALUE_MAX SIGNATURE_P384_MAX
#define SIGNATURE_SUFFIX ".sig"

enum signature_algorithm {
        SIGNATURE_ED25519,
        SIGNATURE_ECDSA_P384_SHA384,
        _SIGNATURE_ALGORITHM_MAX,
};

extern const struct string_table signature_algorithm_table;

struct signature {
        enum signature_algorithm algorithm;
        uint8_t key_id[SIGNATURE_KEY_ID_SIZE];
        uint8_t value[SIGNATURE_VALUE_MAX];
        size_t value_size;
};

/**
 * signature_parse() - a signature file from memory
 * @path: what to call it in @error
 *
 * Return: 0, or -EBADMSG and @ret is unchanged.
 */
int signature_parse(const char *text, size_t len, const char *path, struct signature *ret,
                    char error[CONF_ERROR_SIZE]);

/* The text of a signature file; what signature_parse() takes is exactly what this makes. Return:
 * its length. */
size_t signature_format(const struct signature *s, char ret[SIGNATURE_FILE_MAX]);

/**
 * signature_message() - what is signed
 * @path: of the file; only its name counts
 * @body: its bytes
 * @ret: the message, the caller's
 *
 * Return: 0 or -ENOMEM.
 */
int signature_message(const char *path, const void *body, size_t len, uint8_t **ret,
                      size_t *ret_len);
