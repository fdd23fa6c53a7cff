/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Keys for tests, made when they are needed.
 */

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stddef.h>

struct test_key {
        char public_pem[2048];
        size_t public_len;
        char private_pem[4096];
        size_t private_len;
};

static inline size_t take_bio(BIO *bio, char *ret, size_t size) {
        int n = BIO_read(bio, ret, (int) size - 1);

        BIO_free(bio);
        ret[n > 0 ? n : 0] = '\0';
        return n > 0 ? (size_t) n : 0;
}

/* @type: as of EVP_PKEY_Q_keygen(); @parameter: the curve of "EC", the size of "RSA" as text */
static inline int test_key_make(struct test_key *k, const char *type, const char *parameter) {
        BIO *public = BIO_new(BIO_s_mem()), *private = BIO_new(BIO_s_mem());
        EVP_PKEY *key;

        if (parameter && parameter[0] >= '0' && parameter[0] <= '9')
                key = EVP_PKEY_Q_keygen(NULL, NULL, type, (size_t) atoi(parameter));
        else
                key = EVP_PKEY_Q_keygen(NULL, NULL, type, parameter);
        if (!key || !public || !private || PEM_write_bio_PUBKEY(public, key) != 1 ||
            PEM_write_bio_PKCS8PrivateKey(private, key, NULL, NULL, 0, NULL, NULL) != 1)
                return -1;
        k->public_len = take_bio(public, k->public_pem, sizeof(k->public_pem));
        k->private_len = take_bio(private, k->private_pem, sizeof(k->private_pem));
        EVP_PKEY_free(key);
        return 0;
}
