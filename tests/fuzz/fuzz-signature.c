/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target: what is read before anything is trusted, or to trust it. The first byte chooses:
 * 's', a signature, which must be written as it was read, and which no key here has made; 'r', a
 * list of revoked keys; anything else, a key in PEM.
 */

#include <stdlib.h>
#include <string.h>

#include "policy/keyring.h"
#include "util/util.h"

/* A key whose private half nobody has kept */
static const char trusted_pem[] = "-----BEGIN PUBLIC KEY-----\n"
                                  "MCowBQYDK2VwAyEAYtVymSkQ9Nk3tI7P+NFNemKW11i3+eaIaBID4J4vXBo=\n"
                                  "-----END PUBLIC KEY-----\n";
static const uint8_t trusted_id[SIGNATURE_KEY_ID_SIZE] = { 0x5c, 0xab, 0x2c, 0xa0,
                                                           0xb4, 0x39, 0x0c, 0x13 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
        if (!condition)
                abort();
}

static void check_result(int r, const char *error) {
        require(r <= 0);
        if (r == 0 || r == -ENOMEM)
                return;
        require(error[0]);
        for (const char *s = error; *s; s++)
                require(*s >= 0x20 && *s < 0x7f);
}

static void signature_file(struct keyring *k, const char *text, size_t len) {
        char error[CONF_ERROR_SIZE] = "", again[SIGNATURE_FILE_MAX];
        enum keyring_verdict verdict;
        struct signature s;
        int r = signature_parse(text, len, "file", &s, error);

        check_result(r, error);
        if (r < 0)
                return;
        /* One way to write each */
        require(signature_format(&s, again) == len && memcmp(again, text, len) == 0);
        require(keyring_verify(k, &s, "file", "", 0, &verdict) == 0);
        require(verdict == KEYRING_WRONG || verdict == KEYRING_UNKNOWN_KEY);
        /* By the key that is here, whoever made it */
        memcpy(s.key_id, trusted_id, sizeof(s.key_id));
        require(keyring_verify(k, &s, "file", "", 0, &verdict) == 0);
        require(verdict == KEYRING_WRONG);
}

static struct keyring *new_keyring(void) {
        char error[CONF_ERROR_SIZE] = "";
        struct keyring *k = NULL;

        require(keyring_new(&k, error) == 0);
        require(keyring_add(k, trusted_pem, strlen(trusted_pem), "trusted", error) == 0);
        require(keyring_name(k, trusted_id));
        return k;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct keyring *lasting; /* nothing changes it */
        char error[CONF_ERROR_SIZE] = "";
        struct keyring *k;
        const char *text;

        if (size == 0)
                return 0;
        text = (const char *) data + 1;
        if (data[0] == 's') {
                if (!lasting)
                        lasting = new_keyring();
                signature_file(lasting, text, size - 1);
                return 0;
        }
        k = new_keyring();
        if (data[0] == 'r')
                check_result(keyring_revoke(k, text, size - 1, "file", error), error);
        else
                check_result(keyring_add(k, text, size - 1, "file", error), error);
        (void) keyring_free(k);
        return 0;
}
