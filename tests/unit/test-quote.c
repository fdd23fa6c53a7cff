/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Host keys, and the quotes that they sign: one way to write each, and no change goes unnoticed. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/stat.h>

#include "policy/quote.h"
#include "tests/unit/test-keys.h"
#include "util/util.h"

static char directory[] = "/tmp/test-quote-XXXXXX";
static char path[64];
static struct host_key *key;
static struct measure *measure;
static struct keyring *trust;
static char error[CONF_ERROR_SIZE];

static struct keyring *keyring_of(const char *pem) {
        struct keyring *k;

        assert_int_equal(keyring_new(&k, error), 0);
        assert_int_equal(keyring_add(k, pem, strlen(pem), "key", error), 0);
        return k;
}

static int set_up(void **state) {
        if (!mkdtemp(directory))
                return -1;
        (void) snprintf(path, sizeof(path), "%s/host-key.pem", directory);
        assert_int_equal(host_key_generate(path, &key, error), 0);
        assert_int_equal(measure_new(&measure, error), 0);
        trust = keyring_of(host_key_public(key));
        return 0;
}

static int tear_down(void **state) {
        (void) keyring_free(trust);
        (void) measure_free(measure);
        (void) host_key_free(key);
        (void) unlink(path);
        return rmdir(directory);
}

/* ---- Host keys ---- */

static void test_the_file(void **state) {
        struct host_key *again;
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(host_key_load(path, &again, error), 0);
        assert_string_equal(host_key_public(again), host_key_public(key));
        assert_memory_equal(host_key_id(again), host_key_id(key), SIGNATURE_KEY_ID_SIZE);
        (void) host_key_free(again);
        /* Never in place of another one */
        assert_int_equal(host_key_generate(path, &again, error), -EEXIST);
        assert_int_equal(host_key_generate("/nonexistent/key", &again, error), -ENOENT);
}

static void test_secure_memory(void **state) {
        size_t before;
        struct host_key *again;

        assert_int_equal(CRYPTO_secure_malloc_initialized(), 1);
        before = CRYPTO_secure_used();
        assert_true(before > 0);
        assert_int_equal(host_key_load(path, &again, error), 0);
        assert_true(CRYPTO_secure_used() > before);
        (void) host_key_free(again);
        assert_int_equal(CRYPTO_secure_used(), before);
}

static int load_text(const char *text, size_t len, mode_t mode) {
        struct host_key *k = NULL;
        char other[64];
        FILE *f;
        int r;

        (void) snprintf(other, sizeof(other), "%s/other", directory);
        f = fopen(other, "w");
        assert_non_null(f);
        assert_int_equal(fwrite(text, 1, len, f), len);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(chmod(other, mode), 0);
        error[0] = '\0';
        r = host_key_load(other, &k, error);
        assert_true(r >= 0 || error[0]);
        (void) host_key_free(k);
        (void) unlink(other);
        return r;
}

static void test_other_files(void **state) {
        static char large[5000];
        struct test_key ed, ec, rsa;
        struct host_key *k;

        assert_int_equal(test_key_make(&ed, "ED25519", NULL), 0);
        assert_int_equal(test_key_make(&ec, "EC", "P-384"), 0);
        assert_int_equal(test_key_make(&rsa, "RSA", "2048"), 0);
        assert_int_equal(load_text(ed.private_pem, ed.private_len, 0600), 0);
        assert_int_equal(load_text(ed.private_pem, ed.private_len, 0400), 0);
        assert_int_equal(load_text(ed.private_pem, ed.private_len, 0640), -EACCES);
        assert_int_equal(load_text(ed.private_pem, ed.private_len, 0604), -EACCES);
        assert_int_equal(load_text(ec.private_pem, ec.private_len, 0600), -EBADMSG);
        assert_int_equal(load_text(rsa.private_pem, rsa.private_len, 0600), -EBADMSG);
        assert_int_equal(load_text(ed.public_pem, ed.public_len, 0600), -EBADMSG);
        assert_int_equal(load_text(ed.private_pem, ed.private_len / 2, 0600), -EBADMSG);
        assert_int_equal(load_text("", 0, 0600), -EBADMSG);
        assert_int_equal(load_text(large, sizeof(large), 0600), -EFBIG);
        assert_int_equal(host_key_load("/nonexistent", &k, error), -ENOENT);
        assert_int_equal(host_key_load(directory, &k, error), -EBADF);
}

/* ---- Quotes ---- */

static const struct quote *example(void) {
        static struct quote q;
        struct measure_record r = { .event = MEASURE_PARTITION_ENABLED, .data = { 1, 0 } };

        memset(&q, 0, sizeof(q));
        for (unsigned i = 0; i < 32; i++)
                q.nonce[i] = (uint8_t) (i + 0xa0);
        q.nonce_size = 32;
        memcpy(q.uuid, "01234567-89ab-cdef-0123-456789abcdef", UUID_TEXT_SIZE);
        q.state = QUOTE_MEASURED;
        memset(q.measurement, 0x5a, sizeof(q.measurement));
        q.limit = 64u << 20;
        assert_int_equal(measure_log_add(measure, &q.log, &r), 0);
        r = (struct measure_record){ .event = MEASURE_VP_ENABLED, .data = { 1, 0 } };
        memset(r.digest, 0xc7, sizeof(r.digest));
        assert_int_equal(measure_log_add(measure, &q.log, &r), 0);
        r = (struct measure_record){ .event = MEASURE_MEASURED, .data = { 0x3000, 0 } };
        memset(r.digest, 0x5a, sizeof(r.digest));
        assert_int_equal(measure_log_add(measure, &q.log, &r), 0);
        r = (struct measure_record){ .event = MEASURE_CONFIG, .vp = 1, .data = { UINT64_MAX, 7 } };
        assert_int_equal(measure_log_add(measure, &q.log, &r), 0);
        return &q;
}

static char *sign(const struct quote *q) {
        static struct quote copy;
        char *text;

        copy = *q;
        assert_int_equal(quote_sign(key, &copy, &text), 0);
        return text;
}

static int verify(const char *text, size_t len, const struct keyring *k, unsigned nonce_size) {
        static struct quote q;
        int r;

        error[0] = '\0';
        r = quote_parse(text, len, "quote", &q, error);
        if (r == 0)
                r = quote_verify(k, &q, example()->nonce, nonce_size, "quote", error);
        assert_true(r == 0 || error[0]);
        return r;
}

static void test_a_quote(void **state) {
        _cleanup_free_ char *text = sign(example()), *again = NULL;
        static struct quote q;

        assert_non_null(
                strstr(text, "\nvm 01234567-89ab-cdef-0123-456789abcdef\nstate measured\n"));
        assert_non_null(strstr(
                text, "\nlimit 67108864\nevents 4 lost 0\n"
                      "event partition-enabled 0 0x1 0x0 -\nevent vp-enabled 0 0x1 0x0 c7c7"));
        assert_non_null(strstr(text, "\nevent config 1 0xffffffffffffffff 0x7 -\nlog "));
        assert_int_equal(verify(text, strlen(text), trust, 32), 0);
        assert_int_equal(quote_parse(text, strlen(text), "quote", &q, error), 0);
        assert_int_equal(quote_format(&q, &again), 0);
        assert_string_equal(again, text);
}

static void test_another_nonce(void **state) {
        _cleanup_free_ char *text = sign(example());
        struct quote other = *example();
        _cleanup_free_ char *text2 = NULL;

        assert_int_equal(verify(text, strlen(text), trust, 31), -ESTALE);
        assert_int_equal(verify(text, strlen(text), trust, 0), -ESTALE);
        other.nonce[31] ^= 1;
        text2 = sign(&other);
        assert_int_equal(verify(text2, strlen(text2), trust, 32), -ESTALE);
}

static void test_another_key(void **state) {
        _cleanup_free_ char *text = sign(example());
        struct test_key ed;
        struct keyring *k;

        assert_int_equal(test_key_make(&ed, "ED25519", NULL), 0);
        k = keyring_of(ed.public_pem);
        assert_int_equal(verify(text, strlen(text), k, 32), -EKEYREJECTED);
        assert_non_null(strstr(error, "signed with another key"));
        (void) keyring_free(k);
}

/* Every byte, changed to each of some others: it is no quote any more, or not the signed one. */
static void test_every_byte_counts(void **state) {
        _cleanup_free_ char *text = sign(example());
        size_t len = strlen(text);
        static const char others[] = "0a f\n-A";

        for (size_t i = 0; i < len; i++)
                for (size_t j = 0; j < sizeof(others); j++) { /* with the NUL byte */
                        char was = text[i];

                        if (others[j] == was)
                                continue;
                        text[i] = others[j];
                        if (verify(text, len, trust, 32) == 0)
                                fail_msg("byte %zu may be 0x%02x", i, others[j]);
                        text[i] = was;
                }
        for (size_t i = 0; i < len; i++)
                assert_int_equal(verify(text, i, trust, 32), -EBADMSG);
        assert_int_equal(verify(text, len + 1, trust, 32), -EBADMSG);
        assert_non_null(strstr(error, "something follows"));
}

/* A line less, or two in another order, with the count as it was or not */
static void test_an_altered_log(void **state) {
        _cleanup_free_ char *text = sign(example()), *altered = strdup(text);
        char *event, *next, *count;
        size_t n;

        event = strstr(altered, "event config");
        next = strchr(event, '\n') + 1;
        n = strlen(next) + 1;
        memmove(event, next, n);
        assert_int_equal(verify(altered, strlen(altered), trust, 32), -EBADMSG);
        count = strstr(altered, "events 4");
        count[7] = '3';
        assert_int_equal(verify(altered, strlen(altered), trust, 32), -EKEYREJECTED);
        assert_non_null(strstr(error, "it was altered"));
}

/* Signed, and yet not right in itself: a host's mistake, or a stolen key */
static void test_what_does_not_belong_together(void **state) {
        static struct quote q;
        char *text;

        q = *example();
        q.log.records[0].data[1] = 1;
        text = sign(&q);
        assert_int_equal(verify(text, strlen(text), trust, 32), -EBADMSG);
        assert_non_null(strstr(error, "the log is not what its digest is of"));
        free(text);

        q = *example();
        q.measurement[0] ^= 1;
        text = sign(&q);
        assert_int_equal(verify(text, strlen(text), trust, 32), -EBADMSG);
        assert_non_null(strstr(error, "the log does not say"));
        free(text);

        q = *example();
        q.state = QUOTE_UNBOUNDED;
        text = sign(&q);
        assert_int_equal(verify(text, strlen(text), trust, 32), -EBADMSG);
        free(text);

        /* With records lost, nobody can say. */
        q = *example();
        q.log.lost = 1;
        q.state = QUOTE_UNBOUNDED;
        text = sign(&q);
        assert_int_equal(verify(text, strlen(text), trust, 32), 0);
        free(text);
}

static void test_the_largest(void **state) {
        static struct quote q;
        struct measure_record r = { .event = MEASURE_PARTITION_ENABLED,
                                    .vp = UINT32_MAX,
                                    .data = { UINT64_MAX, UINT64_MAX } };
        char *text;

        q = *example();
        q.nonce_size = QUOTE_NONCE_MAX;
        q.state = QUOTE_UNBOUNDED;
        q.limit = UINT64_MAX;
        memset(r.digest, 0xee, sizeof(r.digest));
        memset(&q.log, 0, sizeof(q.log));
        for (unsigned i = 0; i < MEASURE_LOG_MAX; i++)
                assert_int_equal(measure_log_add(measure, &q.log, &r), 0);
        q.log.lost = UINT64_MAX;
        text = sign(&q);
        assert_true(strlen(text) < QUOTE_TEXT_MAX - 1);
        assert_int_equal(quote_parse(text, strlen(text), "quote", &q, error), 0);
        assert_int_equal(quote_verify(trust, &q, q.nonce, q.nonce_size, "quote", error), 0);
        free(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_the_file),
                cmocka_unit_test(test_secure_memory),
                cmocka_unit_test(test_other_files),
                cmocka_unit_test(test_a_quote),
                cmocka_unit_test(test_another_nonce),
                cmocka_unit_test(test_another_key),
                cmocka_unit_test(test_every_byte_counts),
                cmocka_unit_test(test_an_altered_log),
                cmocka_unit_test(test_what_does_not_belong_together),
                cmocka_unit_test(test_the_largest),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
