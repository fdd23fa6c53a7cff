/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>

#include "policy/libcrypto.h"
#include "util/util.h"

int libcrypto_new(struct libcrypto *ret, char error[CONF_ERROR_SIZE]) {
        struct libcrypto l;

        /* Nothing of the default context is used, but its first user would read openssl.cnf. */
        (void) OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
        ERR_clear_error();
        l.ctx = OSSL_LIB_CTX_new();
        l.provider = l.ctx ? OSSL_PROVIDER_load(l.ctx, "default") : NULL;
        if (!l.provider) {
                (void) libcrypto_error(error, "libcrypto", "its default provider cannot be loaded");
                OSSL_LIB_CTX_free(l.ctx);
                return -ELIBACC;
        }
        *ret = l;
        return 0;
}

void libcrypto_done(struct libcrypto *l) {
        if (l->provider)
                (void) OSSL_PROVIDER_unload(l->provider);
        OSSL_LIB_CTX_free(l->ctx);
        *l = (struct libcrypto){ .ctx = NULL };
}

int libcrypto_error(char *error, const char *path, const char *what) {
        unsigned long e = ERR_peek_last_error();
        const char *reason = e ? ERR_reason_error_string(e) : NULL;
        int r;

        r = conf_error(error, -EBADMSG, path, "%s%s%s%s", what, reason ? " (" : "",
                       reason ? reason : "", reason ? ")" : "");
        ERR_clear_error();
        return r;
}

void libcrypto_cleanup_pkey(EVP_PKEY **key) {
        EVP_PKEY_free(*key);
}

void libcrypto_cleanup_md_ctx(EVP_MD_CTX **ctx) {
        EVP_MD_CTX_free(*ctx);
}
