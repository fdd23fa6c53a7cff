/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * libcrypto with a library context of one's own and the default provider in it, so that the host's
 * openssl.cnf changes nothing here. Only policy/ uses libcrypto.
 */

#include <openssl/types.h>

#include "util/conf-file.h"

struct libcrypto {
        OSSL_LIB_CTX *ctx;
        OSSL_PROVIDER *provider;
};

/* Return: 0, or -ELIBACC with @error. */
int libcrypto_new(struct libcrypto *ret, char error[CONF_ERROR_SIZE]);
void libcrypto_done(struct libcrypto *l);

/* -EBADMSG with @what in @error, and what libcrypto has to say, which is nothing for people
 * alone */
int libcrypto_error(char *error, const char *path, const char *what);

/* For _cleanup_() */
void libcrypto_cleanup_pkey(EVP_PKEY **key);
void libcrypto_cleanup_md_ctx(EVP_MD_CTX **ctx);
