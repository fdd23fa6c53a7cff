/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Trusted keys, revoked ones, and what they have signed. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <sys/stat.h>

#include "policy/keyring.h"
#include "tests/unit/test-keys.h"
#include "util/hex.h"
#include "util/util.h"

#define BODY "[match a]\nname=*\nallow-vtl1=no\n"

/* One of each algorithm, and another Ed25519 key */
static struct test_key keys[3];
#define OTHER 2

static int setup(void **state) {
        return test_key_make(&keys[SIGNATURE_ED25519], "ED25519", NULL) == 0 &&
                               test_key_make(&keys[SIGNATURE_ECDSA_P384_SHA384], "EC", "P-384") ==
                                       0 &&
                               test_key_make(&keys[OTHER], "ED25519", NULL) == 0
                     ? 0
                     : -1;
}

static char error[CONF_ERROR_SIZE];

static struct keyring *empty_keyring(void) {
        struct keyring *k = NULL;

        assert_int_equal(keyring_new(&k, error), 0);
        return k;
}

static void trust(struct keyring *k, unsigned key) {
        char path[32];

        (void) snprintf(path, sizeof(path), "key-%u.pem", key);
        assert_int_equal(keyring_add(k, keys[key].public_pem, keys[key].public_len, path, error),
                         0);
}

static struct signature sign(const struct keyring *k, unsigned key, const char *path,
                             const char *body, size_t len) {
        struct signature s;
        int r = keyring_sign(k, keys[key].private_pem, keys[key].private_len, "private.pem", path,
                             body, len, &s, error);

        if (r < 0)
                fail_msg("%s", error);
        return s;
}

static enum keyring_verdict verdict(const struct keyring *k, const struct signature *s,
                                    const char *path, const char *body, size_t len) {
        enum keyring_verdict v = _KEYRING_VERDICT_MAX;

        assert_int_equal(keyring_verify(k, s, path, body, len, &v), 0);
        return v;
}

static void test_each_algorithm(void **state) {
        for (unsigned a = 0; a < _SIGNATURE_ALGORITHM_MAX; a++) {
                struct keyring *k = empty_keyring();
                struct signature s = sign(k, a, "/etc/a.conf", BODY, strlen(BODY));

                assert_int_equal(s.algorithm, a);
                assert_int_equal(verdict(k, &s, "a.conf", BODY, strlen(BODY)), KEYRING_UNKNOWN_KEY);
                trust(k, a);
                assert_int_equal(keyring_keys(k), 1);
                assert_int_equal(verdict(k, &s, "a.conf", BODY, strlen(BODY)), KEYRING_VALID);
                assert_int_equal(verdict(k, &s, "/run/a.conf", BODY, strlen(BODY)), KEYRING_VALID);
                /* Of no bytes at all, as for a file that only hides others */
                s = sign(k, a, "a.conf", "", 0);
                assert_int_equal(verdict(k, &s, "a.conf", "", 0), KEYRING_VALID);
                assert_int_equal(verdict(k, &s, "a.conf", BODY, strlen(BODY)), KEYRING_WRONG);
                assert_null(keyring_free(k));
        }
        assert_null(keyring_free(NULL));
}

static void test_other_bytes(void **state) {
        for (unsigned a = 0; a < _SIGNATURE_ALGORITHM_MAX; a++) {
                struct keyring *k = empty_keyring();
                struct signature s = sign(k, a, "a.conf", BODY, strlen(BODY));
                char body[] = BODY "x";

                trust(k, a);
                for (size_t i = 0; i < strlen(BODY); i++) {
                        body[i] ^= 1;
                        assert_int_equal(verdict(k, &s, "a.conf", body, strlen(BODY)),
                                         KEYRING_WRONG);
                        body[i] ^= 1;
                }
                assert_int_equal(verdict(k, &s, "a.conf", body, strlen(BODY)), KEYRING_VALID);
                assert_int_equal(verdict(k, &s, "a.conf", body, strlen(BODY) + 1), KEYRING_WRONG);
                assert_int_equal(verdict(k, &s, "a.conf", body, strlen(BODY) - 1), KEYRING_WRONG);
                assert_int_equal(verdict(k, &s, "b.conf", body, strlen(BODY)), KEYRING_WRONG);
                assert_int_equal(verdict(k, &s, "/etc/a.conf/b.conf", body, strlen(BODY)),
                                 KEYRING_WRONG);
                (void) keyring_free(k);
        }
}

static void test_other_signatures(void **state) {
        for (unsigned a = 0; a < _SIGNATURE_ALGORITHM_MAX; a++) {
                struct keyring *k = empty_keyring();
                const struct signature sound = sign(k, a, "a.conf", BODY, strlen(BODY));
                struct signature s;

                trust(k, a);
                for (size_t bit = 0; bit < 8 * sound.value_size; bit++) {
                        s = sound;
                        s.value[bit / 8] ^= (uint8_t) (1u << bit % 8);
                        assert_int_equal(verdict(k, &s, "a.conf", BODY, strlen(BODY)),
                                         KEYRING_WRONG);
                }
                for (s = sound, s.value_size = 0; s.value_size < sound.value_size; s.value_size++)
                        assert_int_equal(verdict(k, &s, "a.conf", BODY, strlen(BODY)),
                                         KEYRING_WRONG);
                s = sound;
                memset(s.value, 0, s.value_size);
                assert_int_equal(verdict(k, &s, "a.conf", BODY, strlen(BODY)), KEYRING_WRONG);
                (void) keyring_free(k);
        }
}

/* The algorithm is the key's, whatever the file says. */
static void test_another_algorithm(void **state) {
        struct keyring *k = empty_keyring();

        trust(k, SIGNATURE_ED25519);
        trust(k, SIGNATURE_ECDSA_P384_SHA384);
        for (unsigned a = 0; a < _SIGNATURE_ALGORITHM_MAX; a++) {
                struct signature s = sign(k, a, "a.conf", BODY, strlen(BODY));

                s.algorithm = (enum signature_algorithm)(1 - a);
                assert_int_equal(verdict(k, &s, "a.conf", BODY, strlen(BODY)), KEYRING_WRONG);
        }
        (void) keyring_free(k);
}

static void test_another_key(void **state) {
        struct keyring *k = empty_keyring();
        struct signature s, other;

        trust(k, SIGNATURE_ED25519);
        s = sign(k, SIGNATURE_ED25519, "a.conf", BODY, strlen(BODY));
        other = sign(k, OTHER, "a.conf", BODY, strlen(BODY));
        assert_int_equal(verdict(k, &other, "a.conf", BODY, strlen(BODY)), KEYRING_UNKNOWN_KEY);
        /* Under the name of a key that is trusted */
        memcpy(other.key_id, s.key_id, sizeof(s.key_id));
        assert_int_equal(verdict(k, &other, "a.conf", BODY, strlen(BODY)), KEYRING_WRONG);
        (void) keyring_free(k);
}

static void test_key_ids(void **state) {
        for (unsigned a = 0; a < _SIGNATURE_ALGORITHM_MAX; a++) {
                BIO *bio = BIO_new_mem_buf(keys[a].public_pem, (int) keys[a].public_len);
                struct keyring *k = empty_keyring();
                unsigned char *data = NULL, digest[SHA256_DIGEST_LENGTH];
                char *name = NULL, *header = NULL;
                struct signature s;
                long len;

                /* What is in a PEM block is the DER. */
                assert_int_equal(PEM_read_bio(bio, &name, &header, &data, &len), 1);
                (void) SHA256(data, (size_t) len, digest);
                s = sign(k, a, "a.conf", BODY, strlen(BODY));
                assert_memory_equal(s.key_id, digest, SIGNATURE_KEY_ID_SIZE);
                assert_null(keyring_name(k, s.key_id));
                trust(k, a);
                assert_string_equal(keyring_name(k, digest), a == 0 ? "key-0.pem" : "key-1.pem");
                OPENSSL_free(name);
                OPENSSL_free(header);
                OPENSSL_free(data);
                BIO_free(bio);
                (void) keyring_free(k);
        }
}

static void test_revoked_keys(void **state) {
        struct keyring *k = empty_keyring();
        struct signature s;
        char list[128], id[SIGNATURE_KEY_ID_TEXT_SIZE];
        int n;

        trust(k, SIGNATURE_ED25519);
        trust(k, OTHER);
        s = sign(k, SIGNATURE_ED25519, "a.conf", BODY, strlen(BODY));
        hex_encode(s.key_id, sizeof(s.key_id), id);
        n = snprintf(list, sizeof(list), "# lost\n\n0000000000000000\n%s\tstolen\r\n", id);
        assert_int_equal(keyring_revoke(k, list, (size_t) n, "revoked", error), 0);
        assert_int_equal(verdict(k, &s, "a.conf", BODY, strlen(BODY)), KEYRING_REVOKED);
        s = sign(k, OTHER, "a.conf", BODY, strlen(BODY));
        assert_int_equal(verdict(k, &s, "a.conf", BODY, strlen(BODY)), KEYRING_VALID);
        (void) keyring_free(k);
}

static void test_lists_of_revoked_keys(void **state) {
        static const struct {
                const char *text, *error; /* no error: it is taken */
        } lists[] = {
                { "", NULL },
                { "\n\n", NULL },
                { "# nothing", NULL },
                { "0123456789abcdef", NULL },
                { "0123456789ABCDEF\n", NULL },
                { "0123456789abcdef  since last year\n", NULL },
                { "0123456789abcde\n", "revoked: line 1: it begins with no key id" },
                { "0123456789abcdef0\n", "revoked: line 1:" },
                { "#\n\n0123456789abcdeg\n", "revoked: line 3:" },
                { " 0123456789abcdef\n", "revoked: line 1:" },
                { "key 0123456789abcdef\n", "revoked: line 1:" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
                struct keyring *k = empty_keyring();
                int r = keyring_revoke(k, lists[i].text, strlen(lists[i].text), "revoked", error);

                assert_int_equal(r, lists[i].error ? -EBADMSG : 0);
                if (lists[i].error)
                        assert_memory_equal(error, lists[i].error, strlen(lists[i].error));
                (void) keyring_free(k);
        }
}

static void test_too_many_revoked_keys(void **state) {
        _cleanup_free_ char *text = malloc(17 * (KEYRING_REVOKED_MAX + 1) + 1);
        struct keyring *k = empty_keyring();

        assert_non_null(text);
        for (size_t i = 0; i <= KEYRING_REVOKED_MAX; i++)
                (void) snprintf(text + 17 * i, 18, "%016zx\n", i);
        assert_int_equal(keyring_revoke(k, text, 17 * KEYRING_REVOKED_MAX, "revoked", error), 0);
        (void) keyring_free(k);
        k = empty_keyring();
        assert_int_equal(keyring_revoke(k, text, 17 * (KEYRING_REVOKED_MAX + 1), "revoked", error),
                         -E2BIG);
        assert_int_equal(keyring_revoke(k, "a\0b", 3, "revoked", error), -EBADMSG);
        (void) keyring_free(k);
}

static void no_key(const char *pem, size_t len, int error_number, const char *expected) {
        struct keyring *k = empty_keyring();

        assert_int_equal(keyring_add(k, pem, len, "file", error), error_number);
        if (strncmp(error, expected, strlen(expected)) != 0)
                fail_msg("\"%s\", expected \"%s\"", error, expected);
        assert_int_equal(keyring_keys(k), 0);
        (void) keyring_free(k);
}

static void test_what_is_no_key(void **state) {
        static const struct {
                const char *type, *parameter;
        } other_types[] = { { "EC", "P-256" },
                            { "EC", "P-521" },
                            { "RSA", "2048" },
                            { "X25519", NULL },
                            { "ED448", NULL } };
        char two[4096], broken[2048];
        struct test_key k;
        int n;

        no_key("", 0, -EBADMSG, "file: a file of a key has one key");
        no_key("ssh-ed25519 AAAA\n", 17, -EBADMSG, "file: a file of a key has one key");
        n = snprintf(two, sizeof(two), "%s%s", keys[0].public_pem, keys[OTHER].public_pem);
        no_key(two, (size_t) n, -EBADMSG, "file: a file of a key has one key");
        no_key(keys[0].private_pem, keys[0].private_len, -EBADMSG, "file: this is no public key");
        memcpy(broken, keys[0].public_pem, keys[0].public_len);
        broken[40] = '*';
        no_key(broken, keys[0].public_len, -EBADMSG, "file: this is no public key");
        no_key(keys[0].public_pem, keys[0].public_len / 2, -EBADMSG, "file: this is no public key");
        for (size_t i = 0; i < ARRAY_SIZE(other_types); i++) {
                assert_int_equal(test_key_make(&k, other_types[i].type, other_types[i].parameter),
                                 0);
                no_key(k.public_pem, k.public_len, -EBADMSG, "file: the key is neither");
        }
}

static void test_keys_that_are_there_already(void **state) {
        struct keyring *k = empty_keyring();

        trust(k, 0);
        assert_int_equal(keyring_add(k, keys[0].public_pem, keys[0].public_len, "again", error),
                         -EEXIST);
        assert_string_equal(error, "again: this key is there already, in key-0.pem");
        for (unsigned i = 1; i < KEYRING_KEYS_MAX; i++) {
                struct test_key other;

                assert_int_equal(test_key_make(&other, "ED25519", NULL), 0);
                assert_int_equal(keyring_add(k, other.public_pem, other.public_len, "x", error), 0);
        }
        assert_int_equal(
                keyring_add(k, keys[OTHER].public_pem, keys[OTHER].public_len, "more", error),
                -E2BIG);
        (void) keyring_free(k);
}

static void test_keys_that_cannot_sign(void **state) {
        struct keyring *k = empty_keyring();
        struct signature s;
        struct test_key rsa;

        assert_int_equal(test_key_make(&rsa, "RSA", "2048"), 0);
        assert_int_equal(
                keyring_sign(k, rsa.private_pem, rsa.private_len, "rsa", "a", "", 0, &s, error),
                -EBADMSG);
        assert_string_equal(error, "rsa: the key is neither for Ed25519 nor for ECDSA on P-384");
        assert_int_equal(keyring_sign(k, keys[0].public_pem, keys[0].public_len, "public", "a", "",
                                      0, &s, error),
                         -EBADMSG);
        assert_memory_equal(error, "public: this is no private key", 30);
        assert_int_equal(keyring_sign(k, "x", 1, "none", "a", "", 0, &s, error), -EBADMSG);
        assert_memory_equal(error, "none: this is no private key", 28);
        (void) keyring_free(k);
}

/* ---- Directories ---- */

static void put(const char *directory, const char *name, const char *text, size_t len) {
        char path[256];
        int fd;

        (void) snprintf(path, sizeof(path), "%s/%s", directory, name);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, len), (ssize_t) len);
        assert_int_equal(close(fd), 0);
}

static int load(const char *directory, size_t *ret_keys) {
        struct keyring *k = empty_keyring();
        struct snapshot *s = snapshot_new();
        int r = keyring_load(k, s, directory, error);

        *ret_keys = keyring_keys(k);
        (void) snapshot_free(s);
        (void) keyring_free(k);
        return r;
}

static void test_directories(void **state) {
        static const char *const files[] = { "a.pem", "b.pem", "revoked", "README" };
        char directory[] = "/tmp/test-keyring.XXXXXX", path[256];
        _cleanup_free_ char *large = calloc(1, KEYRING_KEY_FILE_MAX + 1);
        size_t n;

        assert_non_null(mkdtemp(directory));
        assert_int_equal(load(directory, &n), 0);
        assert_int_equal(n, 0);
        put(directory, "README", "nothing", 7);
        put(directory, "b.pem", keys[0].public_pem, keys[0].public_len);
        put(directory, "a.pem", keys[1].public_pem, keys[1].public_len);
        put(directory, "revoked", "# none\n", 7);
        assert_int_equal(load(directory, &n), 0);
        assert_int_equal(n, 2);
        put(directory, "revoked", "none\n", 5);
        assert_int_equal(load(directory, &n), -EBADMSG);
        assert_non_null(strstr(error, "/revoked: line 1:"));
        put(directory, "revoked", "", 0);
        put(directory, "a.pem", large, KEYRING_KEY_FILE_MAX + 1);
        assert_int_equal(load(directory, &n), -EFBIG);
        assert_non_null(strstr(error, "/a.pem: File too large"));
        put(directory, "a.pem", "x", 1);
        assert_int_equal(load(directory, &n), -EBADMSG);
        assert_non_null(strstr(error, "/a.pem: "));
        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                (void) snprintf(path, sizeof(path), "%s/%s", directory, files[i]);
                assert_int_equal(unlink(path), 0);
        }
        assert_int_equal(rmdir(directory), 0);
        assert_int_equal(load(directory, &n), 0);
        assert_int_equal(n, 0);
        assert_int_equal(load("/dev/null", &n), -ENOTDIR);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_each_algorithm),
                cmocka_unit_test(test_other_bytes),
                cmocka_unit_test(test_other_signatures),
                cmocka_unit_test(test_another_algorithm),
                cmocka_unit_test(test_another_key),
                cmocka_unit_test(test_key_ids),
                cmocka_unit_test(test_revoked_keys),
                cmocka_unit_test(test_lists_of_revoked_keys),
                cmocka_unit_test(test_too_many_revoked_keys),
                cmocka_unit_test(test_what_is_no_key),
                cmocka_unit_test(test_keys_that_are_there_already),
                cmocka_unit_test(test_keys_that_cannot_sign),
                cmocka_unit_test(test_directories),
        };

        return cmocka_run_group_tests(tests, setup, NULL);
}
