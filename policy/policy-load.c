/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <stdio.h>

#include "policy/keyring.h"
#include "policy/policy-rules.h"
#include "util/hex.h"
#include "util/snapshot.h"
#include "util/utf8.h"
#include "util/util.h"

#define DROPIN_SUFFIX ".conf"
/* How often the files may change while they are read */
#define TRIES 5u

struct loader {
        const struct policy_source *source;
        struct policy *policy;
        struct snapshot *snapshot;
        struct keyring *keyring; /* NULL until there is a signature */
        char *error;
};

static int fail_file(struct loader *l, int r, const char *path) {
        switch (r) {
        case -EFBIG:
                return conf_error(l->error, r, path, "larger than %u bytes", POLICY_FILE_MAX);
        case -EBADF:
                return conf_error(l->error, -EBADMSG, path, "not a regular file");
        default:
                return conf_error(l->error, r, path, "%s", strerror(-r));
        }
}

/* ---- Signatures ---- */

static int need_keyring(struct loader *l) {
        int r;

        if (l->keyring)
                return 0;
        r = keyring_new(&l->keyring, l->error);
        if (r < 0)
                return r;
        r = keyring_load(l->keyring, l->snapshot, l->source->keys_directory, l->error);
        if (r < 0) {
                l->keyring = keyring_free(l->keyring);
                return r == -ENOMEM ? r : -EKEYREJECTED;
        }
        return 0;
}

static int judge(struct loader *l, struct policy_file *f, const char *sig_path,
                 enum keyring_verdict verdict) {
        switch (verdict) {
        case KEYRING_VALID:
                f->state = POLICY_FILE_SIGNED;
                return 0;
        case KEYRING_REVOKED:
                return conf_error(l->error, -EKEYREJECTED, sig_path, "the key %s is revoked",
                                  f->key_id);
        case KEYRING_UNKNOWN_KEY:
                if (l->source->signatures != POLICY_SIGNATURES_REQUIRED) {
                        f->state = POLICY_FILE_UNKNOWN_KEY;
                        return 0;
                }
                return conf_error(l->error, -EKEYREJECTED, sig_path,
                                  "the key %s is not among those in %s", f->key_id,
                                  l->source->keys_directory);
        default:
                return conf_error(l->error, -EKEYREJECTED, sig_path,
                                  "the signature is not of this file");
        }
}

/*
 * A file without signature is one thing, and a signature that is wrong is another: where signatures
 * are optional, only the first is taken, and one by a key that is not known here.
 */
static int check_signature(struct loader *l, struct policy_file *f, const char *text, size_t len) {
        _cleanup_free_ char *path = NULL, *sig_text = NULL;
        enum keyring_verdict verdict;
        struct signature s;
        size_t sig_len;
        int r;

        if (asprintf(&path, "%s" SIGNATURE_SUFFIX, f->path) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        r = snapshot_read(l->snapshot, path, SIGNATURE_FILE_MAX, &sig_text, &sig_len);
        if (r == -ENOENT && l->source->signatures != POLICY_SIGNATURES_REQUIRED)
                return 0;
        if (r == -ENOENT)
                return conf_error(l->error, -EKEYREJECTED, f->path,
                                  "it is not signed, and signatures are required");
        if (r < 0)
                return conf_error(l->error, -EKEYREJECTED, path, "%s",
                                  r == -EFBIG ? "too large for a signature" : strerror(-r));
        if (signature_parse(sig_text, sig_len, path, &s, l->error) < 0)
                return -EKEYREJECTED;
        hex_encode(s.key_id, sizeof(s.key_id), f->key_id);
        r = need_keyring(l);
        if (r < 0)
                return r;
        r = keyring_verify(l->keyring, &s, f->path, text, len, &verdict);
        return r < 0 ? r : judge(l, f, path, verdict);
}

/* ---- Files ---- */

/* The bytes that are verified are those that are parsed. */
static int take_file(struct loader *l, const char *path, bool dropin, const char *text,
                     size_t len) {
        struct policy_file *f;
        int index, r;

        index = policy_add_file(l->policy, path);
        if (index < 0)
                return index;
        f = &l->policy->files[index];
        r = check_signature(l, f, text, len);
        if (r < 0)
                return r;
        f->mask = dropin && len == 0;
        return policy_parse_into(l->policy, (size_t) index, text, len, l->error);
}

static int read_file(struct loader *l, const char *path, bool dropin) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        /* It is shown on terminals and on the bus. */
        if (!utf8_is_text(path, ""))
                return conf_error(l->error, -EBADMSG, path, "the name of the file is no text");
        if (l->source->reading)
                l->source->reading(path, l->source->userdata);
        r = snapshot_read(l->snapshot, path, POLICY_FILE_MAX, &text, &len);
        if (r == SNAPSHOT_NULL_DEVICE && !dropin)
                r = -EBADF;
        if (r == -ENOENT && !dropin && !l->source->file_required)
                return 0;
        if (r < 0)
                return fail_file(l, r, path);
        return take_file(l, path, dropin, text, len);
}

struct list {
        struct dropin *files;
        size_t n;
};

static void cleanup_list(struct list *l) {
        dropins_free(l->files, l->n);
}

static int read_dropins(struct loader *l) {
        _cleanup_(cleanup_list) struct list list = { 0 };
        const char *where = "";
        int r;

        if (!l->source->directories)
                return 0;
        r = snapshot_dropins(l->snapshot, l->source->directories, DROPIN_SUFFIX, POLICY_FILES_MAX,
                             &list.files, &list.n, &where);
        if (r == -E2BIG)
                return conf_error(l->error, r, where, "more than %u files", POLICY_FILES_MAX);
        if (r < 0)
                return conf_error(l->error, r, where, "%s", strerror(-r));
        for (size_t i = 0; i < list.n; i++) {
                r = read_file(l, list.files[i].path, true);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_everything(struct loader *l) {
        int r = 0;

        if (l->source->file)
                r = read_file(l, l->source->file, l->source->file_is_dropin);
        return r < 0 ? r : read_dropins(l);
}

/* Files that only hide others are as if neither were there. */
static bool says_something(const struct policy *p) {
        for (size_t i = 0; i < p->n_files; i++)
                if (!p->files[i].mask)
                        return true;
        return false;
}

static void forget(struct loader *l) {
        l->policy = policy_free(l->policy);
        l->snapshot = snapshot_free(l->snapshot);
        l->keyring = keyring_free(l->keyring);
}

/* What was read counts, an error too, when nothing has changed meanwhile. */
static int try_to_load(struct loader *l, bool *ret_current) {
        int r;

        l->error[0] = '\0';
        *ret_current = true;
        l->policy = policy_new();
        l->snapshot = snapshot_new();
        if (!l->policy || !l->snapshot)
                return -ENOMEM;
        r = read_everything(l);
        *ret_current = snapshot_is_current(l->snapshot);
        return r;
}

int policy_load(const struct policy_source *source, struct policy **ret,
                char error[POLICY_ERROR_SIZE]) {
        struct loader l = { .source = source, .error = error };
        bool current = false;
        int r = 0;

        for (unsigned i = 0; i < TRIES && !current; i++) {
                if (i > 0)
                        (void) usleep(SNAPSHOT_RETRY_USEC);
                forget(&l);
                r = try_to_load(&l, &current);
        }
        if (!current)
                r = conf_error(error, -EAGAIN, "policy",
                               "its files change faster than they can be read");
        if (r < 0) {
                if (!error[0])
                        (void) conf_error(error, r, "policy", "%s", strerror(-r));
        } else if (says_something(l.policy) || source->signatures == POLICY_SIGNATURES_REQUIRED)
                /* Where nothing is believed without a signature, the absence of a policy is not
                 * either: a policy without rules refuses everything. */
                *ret = TAKE_PTR(l.policy);
        else
                *ret = NULL;
        forget(&l);
        return r < 0 ? r : 0;
}
