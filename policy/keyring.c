/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "policy/keyring.h"
#include "policy/libcrypto.h"
#include "util/hex.h"
#include "util/util.h"

#define REVOKED_FILE "revoked"

struct trusted_key {
        EVP_PKEY *key;
        enum signature_algorithm algorithm;
        uint8_t id[SIGNATURE_KEY_ID_SIZE];
        char *path;
};

struct keyring {
        struct libcrypto libcrypto;
        OSSL_LIB_CTX *ctx; /* of it */
        struct trusted_key *keys;
        size_t n_keys;
        uint8_t (*revoked)[SIGNATURE_KEY_ID_SIZE];
        size_t n_revoked;
};

/* How each algorithm is asked for; Ed25519 has its digest inside. */
static const struct {
        const char *key_type;
        const char *group; /* of elliptic curves that have a choice */
        const char *digest;
} algorithms[_SIGNATURE_ALGORITHM_MAX] = {
        [SIGNATURE_ED25519] = { "ED25519", NULL, NULL },
        [SIGNATURE_ECDSA_P384_SHA384] = { "EC", "secp384r1", "SHA384" },
};

int keyring_new(struct keyring **ret, char error[CONF_ERROR_SIZE]) {
        struct keyring *k = calloc(1, sizeof(*k));
        int r;

        if (!k)
                return -ENOMEM;
        r = libcrypto_new(&k->libcrypto, error);
        if (r < 0) {
                (void) keyring_free(k);
                return r;
        }
        k->ctx = k->libcrypto.ctx;
        *ret = k;
        return 0;
}

struct keyring *keyring_free(struct keyring *k) {
        if (!k)
                return NULL;
        for (size_t i = 0; i < k->n_keys; i++) {
                EVP_PKEY_free(k->keys[i].key);
                free(k->keys[i].path);
        }
        free(k->keys);
        free(k->revoked);
        libcrypto_done(&k->libcrypto);
        free(k);
        return NULL;
}

size_t keyring_keys(const struct keyring *k) {
        return k->n_keys;
}

/* ---- Keys ---- */

static int find_algorithm(const EVP_PKEY *key, enum signature_algorithm *ret) {
        char group[32] = "";

        for (unsigned i = 0; i < _SIGNATURE_ALGORITHM_MAX; i++) {
                if (!EVP_PKEY_is_a(key, algorithms[i].key_type))
                        continue;
                if (algorithms[i].group &&
                    (EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) != 1 ||
                     strcmp(group, algorithms[i].group) != 0))
                        continue;
                *ret = (enum signature_algorithm) i;
                return 0;
        }
        return -EINVAL;
}

static int make_key_id(const struct keyring *k, EVP_PKEY *key, uint8_t *ret) {
        unsigned char *der = NULL, digest[EVP_MAX_MD_SIZE];
        size_t digest_size = 0;
        int len, r;

        len = i2d_PUBKEY(key, &der);
        if (len <= 0)
                return -EINVAL;
        r = EVP_Q_digest(k->ctx, "SHA256", NULL, der, (size_t) len, digest, &digest_size);
        OPENSSL_free(der);
        if (r != 1 || digest_size < SIGNATURE_KEY_ID_SIZE)
                return -EINVAL;
        memcpy(ret, digest, SIGNATURE_KEY_ID_SIZE);
        return 0;
}

/* How many "-----BEGIN" there are: of several keys in a file only one would count. */
static unsigned pem_blocks(const char *pem, size_t len) {
        static const char begin[] = "-----BEGIN";
        unsigned n = 0;

        for (const char *s = pem; (s = memmem(s, len - (size_t) (s - pem), begin, strlen(begin)));
             s += strlen(begin))
                n++;
        return n;
}

static int ask_passphrase(char *buf, int size, int rwflag, void *userdata) {
        return PEM_def_callback(buf, size, rwflag, NULL);
}

/* @structure: of the key, to take nothing else for one */
static EVP_PKEY *decode_key(const struct keyring *k, const char *pem, size_t len,
                            const char *structure, int selection) {
        const unsigned char *data = (const unsigned char *) pem;
        EVP_PKEY *key = NULL;
        OSSL_DECODER_CTX *d;

        ERR_clear_error();
        d = OSSL_DECODER_CTX_new_for_pkey(&key, "PEM", structure, NULL, selection, k->ctx, NULL);
        if (d && selection == EVP_PKEY_KEYPAIR)
                (void) OSSL_DECODER_CTX_set_pem_password_cb(d, ask_passphrase, NULL);
        if (d && OSSL_DECODER_from_data(d, &data, &len) != 1) {
                EVP_PKEY_free(key);
                key = NULL;
        }
        OSSL_DECODER_CTX_free(d);
        return key;
}

static const struct trusted_key *find_key(const struct keyring *k, const uint8_t *id) {
        for (size_t i = 0; i < k->n_keys; i++)
                if (memcmp(k->keys[i].id, id, SIGNATURE_KEY_ID_SIZE) == 0)
                        return &k->keys[i];
        return NULL;
}

const char *keyring_name(const struct keyring *k, const uint8_t id[SIGNATURE_KEY_ID_SIZE]) {
        const struct trusted_key *t = find_key(k, id);

        return t ? t->path : NULL;
}

/* Only keys whose numbers make sense */
static bool key_is_sound(const struct keyring *k, EVP_PKEY *key) {
        EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(k->ctx, key, NULL);
        bool sound = c && EVP_PKEY_public_check(c) == 1;

        EVP_PKEY_CTX_free(c);
        return sound;
}

int keyring_add(struct keyring *k, const char *pem, size_t len, const char *path,
                char error[CONF_ERROR_SIZE]) {
        _cleanup_(libcrypto_cleanup_pkey) EVP_PKEY *key = NULL;
        const struct trusted_key *same;
        struct trusted_key new = { 0 }, *keys;

        if (pem_blocks(pem, len) != 1)
                return conf_error(error, -EBADMSG, path,
                                  "a file of a key has one key in PEM, and nothing else");
        key = decode_key(k, pem, len, "SubjectPublicKeyInfo", EVP_PKEY_PUBLIC_KEY);
        if (!key)
                return libcrypto_error(error, path, "this is no public key in PEM");
        if (find_algorithm(key, &new.algorithm) < 0)
                return conf_error(error, -EBADMSG, path,
                                  "the key is neither for Ed25519 nor for ECDSA on P-384");
        if (!key_is_sound(k, key) || make_key_id(k, key, new.id) < 0)
                return libcrypto_error(error, path, "the key is not sound");
        same = find_key(k, new.id);
        if (same)
                return conf_error(error, -EEXIST, path, "this key is there already, in %s",
                                  same->path);
        if (k->n_keys >= KEYRING_KEYS_MAX)
                return conf_error(error, -E2BIG, path, "more than %u keys", KEYRING_KEYS_MAX);
        keys = reallocarray(k->keys, k->n_keys + 1, sizeof(*keys));
        if (!keys)
                return -ENOMEM;
        k->keys = keys;
        new.path = strdup(path);
        if (!new.path)
                return -ENOMEM;
        new.key = TAKE_PTR(key);
        keys[k->n_keys++] = new;
        return 0;
}

/* ---- Revoked keys ---- */

static bool is_revoked(const struct keyring *k, const uint8_t *id) {
        for (size_t i = 0; i < k->n_revoked; i++)
                if (memcmp(k->revoked[i], id, SIGNATURE_KEY_ID_SIZE) == 0)
                        return true;
        return false;
}

/* One line, without its newline */
static int revoke_line(struct keyring *k, const char *s, size_t n) {
        uint8_t id[SIGNATURE_KEY_ID_SIZE];
        void *revoked;

        while (n > 0 && strchr(" \t\r", s[n - 1]))
                n--;
        if (n == 0 || s[0] == '#')
                return 0;
        if (n < 2 * SIGNATURE_KEY_ID_SIZE ||
            (n > 2 * SIGNATURE_KEY_ID_SIZE && !strchr(" \t", s[2 * SIGNATURE_KEY_ID_SIZE])) ||
            hex_decode(s, SIGNATURE_KEY_ID_SIZE, id) < 0)
                return -EBADMSG;
        if (k->n_revoked >= KEYRING_REVOKED_MAX)
                return -E2BIG;
        revoked = reallocarray(k->revoked, k->n_revoked + 1, sizeof(*k->revoked));
        if (!revoked)
                return -ENOMEM;
        k->revoked = revoked;
        memcpy(k->revoked[k->n_revoked++], id, sizeof(id));
        return 0;
}

int keyring_revoke(struct keyring *k, const char *text, size_t len, const char *path,
                   char error[CONF_ERROR_SIZE]) {
        if (memchr(text, '\0', len))
                return conf_error(error, -EBADMSG, path, "there is a NUL byte in the file");
        for (unsigned line = 1; len > 0; line++) {
                const char *end = memchr(text, '\n', len);
                size_t n = end ? (size_t) (end - text) : len;
                int r = revoke_line(k, text, n);

                if (r == -E2BIG)
                        return conf_error(error, r, path, "line %u: more than %u revoked keys",
                                          line, KEYRING_REVOKED_MAX);
                if (r == -EBADMSG)
                        return conf_error(
                                error, r, path,
                                "line %u: it begins with no key id of 16 hexadecimal digits", line);
                if (r < 0)
                        return r;
                text += end ? n + 1 : n;
                len -= end ? n + 1 : n;
        }
        return 0;
}

/* ---- A directory ---- */

struct list {
        struct dropin *files;
        size_t n;
};

static void cleanup_list(struct list *l) {
        dropins_free(l->files, l->n);
}

static int load_file(struct keyring *k, struct snapshot *s, const char *path, size_t max,
                     int (*take)(struct keyring *k, const char *text, size_t len, const char *path,
                                 char error[CONF_ERROR_SIZE]),
                     char *error) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = snapshot_read(s, path, max, &text, &len);
        if (r < 0)
                return conf_error(error, r, path, "%s", strerror(-r));
        return take(k, text, len, path, error);
}

int keyring_load(struct keyring *k, struct snapshot *s, const char *directory,
                 char error[CONF_ERROR_SIZE]) {
        const char *const directories[] = { directory, NULL };
        _cleanup_(cleanup_list) struct list l = { 0 };
        _cleanup_free_ char *revoked = NULL;
        const char *where = directory;
        int r;

        r = snapshot_dropins(s, directories, ".pem", KEYRING_KEYS_MAX, &l.files, &l.n, &where);
        if (r == -E2BIG)
                return conf_error(error, r, where, "more than %u keys", KEYRING_KEYS_MAX);
        if (r < 0)
                return conf_error(error, r, where, "%s", strerror(-r));
        for (size_t i = 0; i < l.n; i++) {
                r = load_file(k, s, l.files[i].path, KEYRING_KEY_FILE_MAX, keyring_add, error);
                if (r < 0)
                        return r;
        }
        if (asprintf(&revoked, "%s/" REVOKED_FILE, directory) < 0) {
                revoked = NULL;
                return -ENOMEM;
        }
        r = load_file(k, s, revoked, KEYRING_REVOKED_FILE_MAX, keyring_revoke, error);
        return r == -ENOENT ? 0 : r;
}

/* ---- Signatures ---- */

/* Only 1 is a yes: 0 is no, and less is a failure, which is no yes either. */
static bool is_signed(const struct keyring *k, EVP_PKEY *key, const struct signature *s,
                      const uint8_t *message, size_t len) {
        _cleanup_(libcrypto_cleanup_md_ctx) EVP_MD_CTX *c = EVP_MD_CTX_new();

        return c &&
               EVP_DigestVerifyInit_ex(c, NULL, algorithms[s->algorithm].digest, k->ctx, NULL, key,
                                       NULL) == 1 &&
               EVP_DigestVerify(c, s->value, s->value_size, message, len) == 1;
}

enum keyring_verdict keyring_verify_message(const struct keyring *k, const struct signature *s,
                                            const void *message, size_t len) {
        const struct trusted_key *t = find_key(k, s->key_id);
        bool valid;

        if (is_revoked(k, s->key_id))
                return KEYRING_REVOKED;
        if (!t)
                return KEYRING_UNKNOWN_KEY;
        ERR_clear_error();
        valid = t->algorithm == s->algorithm && is_signed(k, t->key, s, message, len);
        ERR_clear_error();
        return valid ? KEYRING_VALID : KEYRING_WRONG;
}

int keyring_verify(const struct keyring *k, const struct signature *s, const char *path,
                   const void *body, size_t len, enum keyring_verdict *ret_verdict) {
        _cleanup_free_ uint8_t *message = NULL;
        size_t message_len;
        int r;

        r = signature_message(path, body, len, &message, &message_len);
        if (r < 0)
                return r;
        *ret_verdict = keyring_verify_message(k, s, message, message_len);
        return 0;
}

static bool make_signature(const struct keyring *k, EVP_PKEY *key, const uint8_t *message,
                           size_t len, struct signature *s) {
        _cleanup_(libcrypto_cleanup_md_ctx) EVP_MD_CTX *c = EVP_MD_CTX_new();

        s->value_size = sizeof(s->value);
        return c &&
               EVP_DigestSignInit_ex(c, NULL, algorithms[s->algorithm].digest, k->ctx, NULL, key,
                                     NULL) == 1 &&
               EVP_DigestSign(c, s->value, &s->value_size, message, len) == 1;
}

int keyring_sign(const struct keyring *k, const char *pem, size_t pem_len, const char *pem_path,
                 const char *path, const void *body, size_t len, struct signature *ret,
                 char error[CONF_ERROR_SIZE]) {
        _cleanup_(libcrypto_cleanup_pkey) EVP_PKEY *key = NULL;
        _cleanup_free_ uint8_t *message = NULL;
        struct signature s = { 0 };
        size_t message_len;
        int r;

        key = decode_key(k, pem, pem_len, NULL, EVP_PKEY_KEYPAIR);
        if (!key)
                return libcrypto_error(error, pem_path, "this is no private key in PEM");
        if (find_algorithm(key, &s.algorithm) < 0)
                return conf_error(error, -EBADMSG, pem_path,
                                  "the key is neither for Ed25519 nor for ECDSA on P-384");
        if (make_key_id(k, key, s.key_id) < 0)
                return libcrypto_error(error, pem_path, "the key has no id");
        r = signature_message(path, body, len, &message, &message_len);
        if (r < 0)
                return r;
        if (!make_signature(k, key, message, message_len, &s) ||
            !is_signed(k, key, &s, message, message_len))
                return libcrypto_error(error, pem_path, "it cannot sign");
        *ret = s;
        return 0;
}
