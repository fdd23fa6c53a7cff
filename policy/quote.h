/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Quotes: what a host says about the VTL1 of a VM, signed, with a nonce of whoever asked. A text
 * that can be written in one way only:
 *
 *     vtld quote 1
 *     nonce HEXADECIMAL DIGITS
 *     vm UUID
 *     state none|measured|unbounded|refused
 *     measurement DIGEST or -
 *     limit BYTES
 *     events NUMBER lost NUMBER
 *     event NAME VP DATA DATA DIGEST or -        as many as there are
 *     log DIGEST
 *     key ID
 *     value SIGNATURE
 *
 * What is signed is the text "vtld quote v1" with a NUL byte behind it, and then all lines but the
 * last one. vtl-measurement(7) is the manual.
 */

#include <stdbool.h>

#include "policy/host-key.h"
#include "policy/keyring.h"
#include "policy/measure.h"
#include "util/uuid.h"

#define QUOTE_NONCE_MIN 16u
#define QUOTE_NONCE_MAX 64u
#define QUOTE_TEXT_MAX (64u * 1024u)

enum quote_state {
        QUOTE_NONE,      /* VTL1 has not been entered */
        QUOTE_MEASURED,  /* it has, and its measurement is known */
        QUOTE_UNBOUNDED, /* it has, and is beyond the limit */
        QUOTE_REFUSED,   /* the last that wanted to be entered was not what is required */
        _QUOTE_STATE_MAX,
};

extern const struct string_table quote_state_table;

struct quote {
        uint8_t nonce[QUOTE_NONCE_MAX];
        size_t nonce_size;
        char uuid[UUID_TEXT_SIZE];
        enum quote_state state;
        uint8_t measurement[MEASURE_DIGEST_SIZE]; /* zeroes: none */
        uint64_t limit;
        struct measure_log log;
        uint8_t key_id[SIGNATURE_KEY_ID_SIZE];
        uint8_t signature[SIGNATURE_ED25519_SIZE];
};

/**
 * quote_sign() - a quote as text
 * @q: everything but key and signature, which are filled in
 * @ret: the text, the caller's
 *
 * Return: 0, -ENOMEM, or -EIO when there is no signature.
 */
int quote_sign(const struct host_key *k, struct quote *q, char **ret);

/**
 * quote_parse() - a quote from memory; nothing is verified
 * @path: what to call it in @error
 *
 * Return: 0, or -EBADMSG and @ret is of no use.
 */
int quote_parse(const char *text, size_t len, const char *path, struct quote *ret,
                char error[CONF_ERROR_SIZE]);

/* The text again: what quote_parse() takes is exactly what this makes. Return: 0 or -ENOMEM. */
int quote_format(const struct quote *q, char **ret);

/**
 * quote_verify() - is this quote signed by a key of that keyring, fresh, and sound in itself?
 * @nonce: what the quote was asked for with
 *
 * Return: 0, -EKEYREJECTED for another key or a signature that is not of this quote, -ESTALE for
 * another nonce, -EBADMSG when log and digests do not belong together, or another negative errno,
 * with @error.
 */
int quote_verify(const struct keyring *k, const struct quote *q, const uint8_t *nonce,
                 size_t nonce_size, const char *path, char error[CONF_ERROR_SIZE]);
