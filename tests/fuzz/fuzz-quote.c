/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target: a quote, which comes from another host. What is one must be written as it was read,
 * and only one that the key below has signed verifies: that in the corpus, which was made by
 * tests/fuzz/make-corpus-quote.py without this code.
 */

#include <stdlib.h>
#include <string.h>

#include "policy/quote.h"
#include "util/util.h"

/* The key of the corpus: its private half is in make-corpus-quote.py. */
static const char trusted_pem[] = "-----BEGIN PUBLIC KEY-----\n"
                                  "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
                                  "-----END PUBLIC KEY-----\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
        if (!condition)
                abort();
}

static void check_error(const char *error) {
        require(error[0]);
        for (const char *s = error; *s; s++)
                require(*s >= 0x20 && *s < 0x7f);
}

static void verify(const struct keyring *k, const struct quote *q) {
        char error[CONF_ERROR_SIZE] = "";
        int r = quote_verify(k, q, q->nonce, q->nonce_size, "file", error);

        require(r <= 0);
        if (r < 0) {
                check_error(error);
                return;
        }
        error[0] = '\0';
        require(quote_verify(k, q, q->nonce, q->nonce_size - 1, "file", error) == -ESTALE);
        check_error(error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct keyring *lasting; /* nothing changes it */
        char error[CONF_ERROR_SIZE] = "";
        static struct quote q;
        char *again;
        int r;

        if (!lasting) {
                require(keyring_new(&lasting, error) == 0);
                require(keyring_add(lasting, trusted_pem, strlen(trusted_pem), "key", error) == 0);
        }
        r = quote_parse((const char *) data, size, "file", &q, error);
        if (r < 0) {
                require(r == -EBADMSG);
                check_error(error);
                return 0;
        }
        require(r == 0);
        require(quote_format(&q, &again) == 0);
        require(strlen(again) == size && memcmp(again, data, size) == 0);
        free(again);
        verify(lasting, &q);
        return 0;
}
