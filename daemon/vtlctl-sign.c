/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/config.h"
#include "daemon/vtlctl.h"
#include "policy/keyring.h"
#include "policy/policy.h"
#include "util/file.h"
#include "util/hex.h"
#include "util/util.h"

static int complain(const char *error, int r) {
        (void) fprintf(stderr, "vtlctl: %s\n", error[0] ? error : strerror(-r));
        return r;
}

static void cleanup_keyring(struct keyring **k) {
        (void) keyring_free(*k);
}

static void cleanup_snapshot(struct snapshot **s) {
        (void) snapshot_free(*s);
}

static int read_file(const char *path, size_t max, char **ret, size_t *ret_len, char *error) {
        _cleanup_(cleanup_snapshot) struct snapshot *s = snapshot_new();
        int r = s ? snapshot_read(s, path, max, ret, ret_len) : -ENOMEM;

        return r < 0 ? conf_error(error, r, path, "%s",
                                  r == -EBADF ? "not a regular file" : strerror(-r))
                     : 0;
}

static char *signature_path(const char *path) {
        char *sig;

        return asprintf(&sig, "%s" SIGNATURE_SUFFIX, path) >= 0 ? sig : NULL;
}

static const char *algorithm_of(const struct signature *s) {
        return string_table_name(&signature_algorithm_table, s->algorithm);
}

/* ---- sign ---- */

struct signer {
        struct keyring *keyring;
        const char *key_path;
        char *key;
        size_t key_len;
};

static void cleanup_signer(struct signer *s) {
        if (s->key) {
                explicit_bzero(s->key, s->key_len);
                free(s->key);
        }
        (void) keyring_free(s->keyring);
}

/* Whole or not at all, and readable for vtld whoever signs */
static int write_file(const char *path, const char *text, size_t len) {
        _cleanup_free_ char *temporary = NULL;
        _cleanup_close_ int fd = -1;
        int r;

        if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
                temporary = NULL;
                return -ENOMEM;
        }
        fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = write_all(fd, text, len);
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        if (r >= 0 && fchmod(fd, 0644) < 0)
                r = -errno;
        if (r >= 0 && rename(temporary, path) < 0)
                r = -errno;
        if (r < 0)
                (void) unlink(temporary);
        return r;
}

/* What is no policy is not signed: it could never be loaded. */
static int check_policy(const char *path, const char *text, size_t len, char *error) {
        struct policy *p = NULL;
        int r = policy_parse(text, len, path, &p, error);

        (void) policy_free(p);
        return r;
}

static int sign_file(const struct signer *s, const char *path, char *error) {
        _cleanup_free_ char *text = NULL, *sig_path = signature_path(path);
        char id[SIGNATURE_KEY_ID_TEXT_SIZE], sig_text[SIGNATURE_FILE_MAX];
        struct signature sig;
        size_t len;
        int r;

        if (!sig_path)
                return -ENOMEM;
        r = read_file(path, POLICY_FILE_MAX, &text, &len, error);
        if (r >= 0)
                r = check_policy(path, text, len, error);
        if (r >= 0)
                r = keyring_sign(s->keyring, s->key, s->key_len, s->key_path, path, text, len, &sig,
                                 error);
        if (r < 0)
                return r;
        r = write_file(sig_path, sig_text, signature_format(&sig, sig_text));
        if (r < 0)
                return conf_error(error, r, sig_path, "%s", strerror(-r));
        hex_encode(sig.key_id, sizeof(sig.key_id), id);
        (void) printf("%s: %s, key %s\n", sig_path, algorithm_of(&sig), id);
        return 0;
}

int policy_sign(struct vtlctl *c, int argc, char **argv) {
        _cleanup_(cleanup_signer) struct signer s = {
                .key_path = c->policy_options[POLICY_OPTION_KEY]
        };
        char error[CONF_ERROR_SIZE] = "";
        int r;

        if (!s.key_path)
                return vtlctl_bad_usage("policy sign needs --key=");
        r = keyring_new(&s.keyring, error);
        if (r >= 0)
                r = read_file(s.key_path, KEYRING_KEY_FILE_MAX, &s.key, &s.key_len, error);
        for (int i = 0; i < argc && r >= 0; i++)
                r = sign_file(&s, argv[i], error);
        if (r < 0)
                (void) complain(error, r);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- verify ---- */

static int load_keys(const struct vtlctl *c, struct keyring *k, char *error) {
        const char *key = c->policy_options[POLICY_OPTION_KEY];
        _cleanup_(cleanup_snapshot) struct snapshot *s = snapshot_new();
        _cleanup_free_ char *pem = NULL;
        struct config config;
        size_t len;
        int r;

        if (!s)
                return -ENOMEM;
        if (key) {
                r = read_file(key, KEYRING_KEY_FILE_MAX, &pem, &len, error);
                return r < 0 ? r : keyring_add(k, pem, len, key, error);
        }
        r = policy_read_config(c, &config);
        if (r < 0)
                return conf_error(error, r, "vtld.conf", "cannot be used");
        r = keyring_load(k, s, config.keys_directory, error);
        config_done(&config);
        return r;
}

static int tell(const struct keyring *k, const char *path, const char *sig_path,
                const struct signature *s, enum keyring_verdict verdict, char *error) {
        char id[SIGNATURE_KEY_ID_TEXT_SIZE];

        hex_encode(s->key_id, sizeof(s->key_id), id);
        switch (verdict) {
        case KEYRING_VALID:
                (void) printf("%s: signed, %s, key %s (%s)\n", path, algorithm_of(s), id,
                              keyring_name(k, s->key_id));
                return 0;
        case KEYRING_REVOKED:
                return conf_error(error, -EKEYREJECTED, sig_path, "the key %s is revoked", id);
        case KEYRING_UNKNOWN_KEY:
                return conf_error(error, -EKEYREJECTED, sig_path, "the key %s is not known", id);
        default:
                return conf_error(error, -EKEYREJECTED, sig_path,
                                  "the signature is not of this file");
        }
}

static int verify_file(const struct keyring *k, const char *path, char *error) {
        _cleanup_free_ char *text = NULL, *sig_text = NULL, *sig_path = signature_path(path);
        enum keyring_verdict verdict;
        struct signature s;
        size_t len, sig_len;
        int r;

        if (!sig_path)
                return -ENOMEM;
        r = read_file(path, POLICY_FILE_MAX, &text, &len, error);
        if (r >= 0)
                r = read_file(sig_path, SIGNATURE_FILE_MAX, &sig_text, &sig_len, error);
        if (r >= 0)
                r = signature_parse(sig_text, sig_len, sig_path, &s, error);
        if (r >= 0)
                r = keyring_verify(k, &s, path, text, len, &verdict);
        return r < 0 ? r : tell(k, path, sig_path, &s, verdict, error);
}

int policy_verify(struct vtlctl *c, int argc, char **argv) {
        _cleanup_(cleanup_keyring) struct keyring *k = NULL;
        char error[CONF_ERROR_SIZE] = "";
        bool failed = false;
        int r;

        r = keyring_new(&k, error);
        if (r >= 0)
                r = load_keys(c, k, error);
        if (r < 0) {
                (void) complain(error, r);
                return EXIT_FAILURE;
        }
        for (int i = 0; i < argc; i++) {
                error[0] = '\0';
                r = verify_file(k, argv[i], error);
                if (r < 0) {
                        (void) complain(error, r);
                        failed = true;
                }
        }
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
