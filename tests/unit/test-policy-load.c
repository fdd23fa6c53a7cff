/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE

/* Policies of several files: order, masks, signatures, and all or nothing. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#include "policy/keyring.h"
#include "policy/policy-rules.h"
#include "tests/unit/test-keys.h"
#include "util/hex.h"
#include "util/util.h"

#define RULE(name) "[match " name "]\nname=*\nallow-vtl1=yes\n"

static char root[32];
static struct test_key keys[2];
static char error[POLICY_ERROR_SIZE];

static const char *at(const char *name) {
        static char paths[32][256];
        static unsigned next;
        char *path = paths[next++ % ARRAY_SIZE(paths)];

        (void) snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
        return path;
}

static void put_bytes(const char *name, const char *text, size_t len) {
        int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, len), (ssize_t) len);
        assert_int_equal(close(fd), 0);
}

static void put(const char *name, const char *text) {
        put_bytes(name, text, strlen(text));
}

/* ---- Each test has directories of its own ---- */

static const char *directories[4];
static struct policy_source source;

static int setup(void **state) {
        static const char *const names[] = { "etc", "run", "lib", "keys" };

        (void) snprintf(root, sizeof(root), "/tmp/test-load.XXXXXX");
        if (!mkdtemp(root))
                return -1;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (mkdir(at(names[i]), 0700) < 0)
                        return -1;
        /* Not from at(), whose texts do not stay */
        for (size_t i = 0; i < 3; i++)
                directories[i] = strdup(at(names[i]));
        source = (struct policy_source){ .file = strdup(at("policy.conf")),
                                         .directories = directories,
                                         .keys_directory = strdup(at("keys")) };
        return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static int teardown(void **state) {
        for (size_t i = 0; i < 3; i++)
                free((void *) directories[i]);
        free((void *) source.file);
        free((void *) source.keys_directory);
        return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static int make_keys(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (test_key_make(&keys[i], "ED25519", NULL) < 0)
                        return -1;
        return 0;
}

static struct policy *load(void) {
        struct policy *p = NULL;
        int r = policy_load(&source, &p, error);

        if (r < 0)
                fail_msg("%d: %s", r, error);
        return p;
}

static void fails(int error_number, const char *file, const char *what) {
        struct policy *p = (struct policy *) &source;
        char expected[512];
        int r = policy_load(&source, &p, error);

        (void) snprintf(expected, sizeof(expected), "%s%s", file ? at(file) : "", what);
        if (r != error_number || strncmp(error, expected, strlen(expected)) != 0)
                fail_msg("%d \"%s\", expected %d \"%s\"", r, error, error_number, expected);
        assert_ptr_equal(p, &source); /* untouched */
}

/* The names of the rules in their order */
static void rules_are(const char *expected) {
        struct policy *p = load();
        char text[512] = "";
        size_t n = 0;

        for (size_t i = 0; i < policy_rules(p); i++)
                n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%s", i ? " " : "",
                                       p->rules[i].decision.name);
        assert_string_equal(text, expected);
        (void) policy_free(p);
}

/* ---- Files ---- */

static void test_nothing_at_all(void **state) {
        assert_null(load());
        source.directories = NULL;
        assert_null(load());
        source.file_required = true;
        fails(-ENOENT, "policy.conf", ": No such file or directory");
        free((void *) source.file);
        source.file = NULL;
        assert_null(load());
}

static void test_order(void **state) {
        put("policy.conf", RULE("base"));
        put("lib/20-b.conf", RULE("b"));
        put("etc/30-c.conf", RULE("c1") RULE("c2"));
        put("run/10-a.conf", RULE("a"));
        put("etc/README", "nothing");
        put("etc/.hidden.conf", "nothing");
        rules_are("base a b c1 c2");
}

static void test_where_rules_are_from(void **state) {
        struct policy *p;

        put("policy.conf", "\n" RULE("base"));
        put("lib/20-b.conf", RULE("b") RULE("c"));
        p = load();
        assert_int_equal(policy_files(p), 2);
        assert_string_equal(p->files[p->rules[0].file].path, at("policy.conf"));
        assert_int_equal(p->rules[0].line, 2);
        assert_string_equal(p->files[p->rules[2].file].path, at("lib/20-b.conf"));
        assert_int_equal(p->rules[2].line, 4);
        (void) policy_free(p);
}

static void test_masks(void **state) {
        put("lib/10-a.conf", RULE("a"));
        put("lib/20-b.conf", RULE("b"));
        put("lib/30-c.conf", RULE("c"));
        put("run/20-b.conf", RULE("b-run"));
        rules_are("a b-run c");
        /* One of the same name replaces it, an empty one and one to nowhere hide it. */
        put("etc/20-b.conf", RULE("b-etc"));
        rules_are("a b-etc c");
        put("etc/20-b.conf", "");
        rules_are("a c");
        assert_int_equal(symlink("/dev/null", at("run/10-a.conf")), 0);
        rules_are("c");
        put("etc/10-a.conf", RULE("a-etc"));
        rules_are("a-etc c");
        /* With a comment it is a file like any other, which has no rules. */
        put("etc/30-c.conf", "# nothing\n");
        rules_are("a-etc");
}

/* What is hidden is as if it were not there: without any other file there is no policy. */
static void test_only_masks(void **state) {
        put("lib/10-a.conf", RULE("a"));
        put("etc/10-a.conf", "");
        assert_null(load());
        put("policy.conf", "");
        rules_are("");
        assert_int_equal(unlink(at("policy.conf")), 0);
        put("run/20-b.conf", "# nothing\n");
        rules_are("");
}

static void test_only_regular_files(void **state) {
        assert_int_equal(mkdir(at("etc/a.conf"), 0700), 0);
        fails(-EBADMSG, "etc/a.conf", ": not a regular file");
        assert_int_equal(rmdir(at("etc/a.conf")), 0);
        assert_int_equal(mkfifo(at("etc/a.conf"), 0700), 0);
        fails(-EBADMSG, "etc/a.conf", ": not a regular file");
        assert_int_equal(unlink(at("etc/a.conf")), 0);
        assert_int_equal(symlink("nowhere", at("etc/a.conf")), 0);
        fails(-ENOENT, "etc/a.conf", ": No such file");
        assert_int_equal(unlink(at("etc/a.conf")), 0);
        /* A link to a file is that file. */
        put("elsewhere", RULE("a"));
        assert_int_equal(symlink("../elsewhere", at("etc/a.conf")), 0);
        rules_are("a");
        /* The first file is not a drop-in: it cannot be hidden by itself. */
        assert_int_equal(symlink("/dev/null", at("policy.conf")), 0);
        fails(-EBADMSG, "policy.conf", ": not a regular file");
        assert_int_equal(unlink(at("policy.conf")), 0);
        assert_int_equal(rename(at("run"), at("run2")), 0);
        put("run", "a file");
        fails(-ENOTDIR, "run", ": Not a directory");
}

static void test_limits(void **state) {
        _cleanup_free_ char *large = malloc(POLICY_FILE_MAX + 1);
        char name[32];

        assert_non_null(large);
        memset(large, '\n', POLICY_FILE_MAX + 1);
        put_bytes("etc/a.conf", large, POLICY_FILE_MAX);
        rules_are("");
        put_bytes("etc/a.conf", large, POLICY_FILE_MAX + 1);
        fails(-EFBIG, "etc/a.conf", ": larger than 65536 bytes");
        assert_int_equal(unlink(at("etc/a.conf")), 0);
        for (unsigned i = 0; i < POLICY_FILES_MAX; i++) {
                (void) snprintf(name, sizeof(name), "etc/%u.conf", i);
                put(name, "# nothing\n");
        }
        rules_are("");
        put("lib/more.conf", "# nothing\n");
        fails(-E2BIG, "lib", ": more than 256 files");
}

static void test_one_bad_file_fails_all(void **state) {
        put("policy.conf", RULE("base"));
        put("etc/10-a.conf", RULE("a"));
        put("etc/20-b.conf", "[match b]\nname=*\nallow-vtl1=perhaps\n");
        put("etc/30-c.conf", RULE("c"));
        fails(-EBADMSG, "etc/20-b.conf", ":3: allow-vtl1= is yes or no");
        /* A section ends where its file ends. */
        put("etc/20-b.conf", "[match b]\nname=*\n");
        fails(-EBADMSG, "etc/20-b.conf", ":1: [match b] has no allow-vtl1=");
        put("etc/20-b.conf", "allow-vtl1=yes\n");
        fails(-EBADMSG, "etc/20-b.conf", ":1: a key before the first section");
}

static void test_one_name_twice(void **state) {
        char expected[512];

        put("policy.conf", "\n" RULE("same"));
        put("etc/10-a.conf", RULE("a") RULE("same"));
        (void) snprintf(expected, sizeof(expected), ":4: [match same] is there already, in %s:2",
                        at("policy.conf"));
        fails(-EBADMSG, "etc/10-a.conf", expected);
}

static void test_names_that_cannot_be_shown(void **state) {
        static const char *const names[] = { "etc/a\n.conf", "etc/\x1b[2J.conf", "etc/\xff.conf" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                put(names[i], RULE("a"));
                assert_int_equal(policy_load(&source, &(struct policy *){ NULL }, error), -EBADMSG);
                assert_non_null(strstr(error, ".conf: the name of the file is no text"));
                for (const char *s = error; *s; s++)
                        assert_in_range(*s, 0x20, 0x7e);
                assert_int_equal(unlink(at(names[i])), 0);
        }
        put("etc/gr\xc3\xb6\xc3\x9f"
            "e.conf",
            RULE("a"));
        rules_are("a");
}

/* ---- One moment ---- */

static unsigned readings;

/* Files that have been read change before the last one is. */
static void change_first(const char *path, void *userdata) {
        const unsigned *times = userdata;

        if (strcmp(path, at("etc/20-b.conf")) == 0 && readings++ < *times)
                put("etc/10-a.conf",
                    readings % 2 ? "[match a-1]\nname=*\nallow-vtl1=no\n" : RULE("a-22"));
}

static void test_files_of_one_moment(void **state) {
        unsigned times = 1;

        put("etc/10-a.conf", RULE("a"));
        put("etc/20-b.conf", RULE("b"));
        source.reading = change_first;
        source.userdata = &times;
        readings = 0;
        rules_are("a-1 b");
        assert_true(readings >= 2);
        times = 1000000;
        readings = 0;
        fails(-EAGAIN, NULL, "policy: its files change faster than they can be read");
        /* Also when the file was wrong at the time it was read */
        readings = 0;
        times = 1;
        put("etc/10-a.conf", "nonsense\n");
        fails(-EBADMSG, "etc/10-a.conf", ":1:");
}

static void add_file(const char *path, void *userdata) {
        if (strcmp(path, at("etc/20-b.conf")) == 0 && readings++ == 0) {
                put("lib/15-a.conf", RULE("new"));
                (void) unlink(at("policy.conf"));
        }
}

static void test_files_that_come_and_go(void **state) {
        put("policy.conf", RULE("base"));
        put("etc/20-b.conf", RULE("b"));
        source.reading = add_file;
        readings = 0;
        rules_are("new b");
}

/* ---- Signatures ---- */

static void trust(unsigned key) {
        put_bytes(key ? "keys/1.pem" : "keys/0.pem", keys[key].public_pem, keys[key].public_len);
}

/* @as: the name that is signed */
static void sign_text(unsigned key, const char *as, const char *body, const char *sig_file) {
        struct keyring *k = NULL;
        struct signature s;
        char text[SIGNATURE_FILE_MAX];

        assert_int_equal(keyring_new(&k, error), 0);
        assert_int_equal(keyring_sign(k, keys[key].private_pem, keys[key].private_len, "key", as,
                                      body, strlen(body), &s, error),
                         0);
        (void) keyring_free(k);
        put_bytes(sig_file, text, signature_format(&s, text));
}

static void put_signed(unsigned key, const char *name, const char *body) {
        char sig[128];

        put(name, body);
        (void) snprintf(sig, sizeof(sig), "%s.sig", name);
        sign_text(key, name, body, sig);
}

static void revoke_key(unsigned key) {
        struct keyring *k = NULL;
        struct signature s;
        char id[SIGNATURE_KEY_ID_TEXT_SIZE];

        assert_int_equal(keyring_new(&k, error), 0);
        assert_int_equal(keyring_sign(k, keys[key].private_pem, keys[key].private_len, "key", "x",
                                      "", 0, &s, error),
                         0);
        (void) keyring_free(k);
        hex_encode(s.key_id, sizeof(s.key_id), id);
        put("keys/revoked", id);
}

static void test_signed_files(void **state) {
        struct policy *p;

        trust(0);
        trust(1);
        put_signed(0, "policy.conf", RULE("base"));
        put_signed(1, "lib/10-a.conf", RULE("a"));
        for (unsigned how = 0; how < _POLICY_SIGNATURES_MAX; how++) {
                source.signatures = (enum policy_signatures) how;
                p = load();
                assert_int_equal(policy_rules(p), 2);
                for (size_t i = 0; i < 2; i++) {
                        assert_int_equal(p->files[i].state, POLICY_FILE_SIGNED);
                        assert_int_equal(strlen(p->files[i].key_id), 16);
                }
                assert_string_not_equal(p->files[0].key_id, p->files[1].key_id);
                (void) policy_free(p);
        }
        /* A key that is not here any more */
        assert_int_equal(unlink(at("keys/1.pem")), 0);
        fails(-EKEYREJECTED, "lib/10-a.conf.sig", ": the key ");
        assert_non_null(strstr(error, " is not among those in "));
}

static void test_unsigned_files(void **state) {
        trust(0);
        put_signed(0, "policy.conf", RULE("base"));
        put("lib/10-a.conf", RULE("a"));
        rules_are("base a");
        source.signatures = POLICY_SIGNATURES_REQUIRED;
        fails(-EKEYREJECTED, "lib/10-a.conf", ": it is not signed, and signatures are required");
}

/* Where signatures are optional, a wrong one is still wrong. */
static void test_wrong_signatures(void **state) {
        for (unsigned how = 0; how < _POLICY_SIGNATURES_MAX; how++) {
                source.signatures = (enum policy_signatures) how;
                trust(0);
                put_signed(0, "etc/10-a.conf", RULE("a"));
                put("etc/10-a.conf", RULE("b"));
                fails(-EKEYREJECTED, "etc/10-a.conf.sig", ": the signature is not of this file");
                put("etc/10-a.conf", RULE("a") "\n");
                fails(-EKEYREJECTED, "etc/10-a.conf.sig", ": the signature is not of this file");
                put("etc/10-a.conf.sig", "");
                fails(-EKEYREJECTED, "etc/10-a.conf.sig", ": line 1: not the line");
                put_bytes("etc/10-a.conf.sig", (char[SIGNATURE_FILE_MAX + 1]){ 0 },
                          SIGNATURE_FILE_MAX + 1);
                fails(-EKEYREJECTED, "etc/10-a.conf.sig", ": too large for a signature");
                assert_int_equal(unlink(at("etc/10-a.conf.sig")), 0);
                assert_int_equal(mkdir(at("etc/10-a.conf.sig"), 0700), 0);
                fails(-EKEYREJECTED, "etc/10-a.conf.sig", ": ");
                assert_int_equal(rmdir(at("etc/10-a.conf.sig")), 0);
                /* Under another name it might come earlier or later, and match first or not. */
                sign_text(0, "20-a.conf", RULE("a"), "etc/10-a.conf.sig");
                put("etc/10-a.conf", RULE("a"));
                fails(-EKEYREJECTED, "etc/10-a.conf.sig", ": the signature is not of this file");
                /* Verified before it is parsed */
                put_signed(0, "etc/10-a.conf", RULE("a"));
                put("etc/10-a.conf", "nonsense");
                fails(-EKEYREJECTED, "etc/10-a.conf.sig", ": the signature is not of this file");
                put_signed(0, "etc/10-a.conf", "nonsense");
                fails(-EBADMSG, "etc/10-a.conf", ":1: neither a section");
        }
}

static void test_revoked_keys(void **state) {
        for (unsigned how = 0; how < _POLICY_SIGNATURES_MAX; how++) {
                source.signatures = (enum policy_signatures) how;
                trust(0);
                put_signed(0, "etc/10-a.conf", RULE("a"));
                revoke_key(1);
                rules_are("a");
                revoke_key(0);
                fails(-EKEYREJECTED, "etc/10-a.conf.sig", ": the key ");
                assert_non_null(strstr(error, " is revoked"));
                /* The list speaks for itself: the key need not be here. */
                assert_int_equal(unlink(at("keys/0.pem")), 0);
                fails(-EKEYREJECTED, "etc/10-a.conf.sig", ": the key ");
                assert_non_null(strstr(error, " is revoked"));
        }
}

static void test_keys_that_are_not_known(void **state) {
        struct policy *p;

        put_signed(0, "etc/10-a.conf", RULE("a"));
        p = load();
        assert_int_equal(p->files[0].state, POLICY_FILE_UNKNOWN_KEY);
        assert_int_equal(strlen(p->files[0].key_id), 16);
        (void) policy_free(p);
        trust(1);
        rules_are("a");
        source.signatures = POLICY_SIGNATURES_REQUIRED;
        fails(-EKEYREJECTED, "etc/10-a.conf.sig", ": the key ");
}

static void test_keys_that_are_wrong(void **state) {
        trust(0);
        put("keys/bad.pem", "nonsense");
        put("policy.conf", RULE("base"));
        /* Nobody asks for keys. */
        rules_are("base");
        put_signed(0, "policy.conf", RULE("base"));
        fails(-EKEYREJECTED, "keys/bad.pem", ": a file of a key");
        assert_int_equal(unlink(at("keys/bad.pem")), 0);
        put("keys/revoked", "everything\n");
        fails(-EKEYREJECTED, "keys/revoked", ": line 1:");
}

/* Where nothing is believed without a signature, that includes the absence of files. */
static void test_required_and_nothing_there(void **state) {
        struct policy_decision d;
        struct policy *p;

        source.signatures = POLICY_SIGNATURES_REQUIRED;
        p = load();
        assert_non_null(p);
        policy_decide(p, &(struct policy_subject){ .name = "a", .uuid = "b" }, &d);
        assert_false(d.allow_vtl1);
        (void) policy_free(p);
}

static void test_masks_are_signed_too(void **state) {
        trust(0);
        put_signed(0, "lib/10-a.conf", RULE("a"));
        put_signed(0, "lib/20-b.conf", RULE("b"));
        put("etc/10-a.conf", "");
        rules_are("b");
        source.signatures = POLICY_SIGNATURES_REQUIRED;
        fails(-EKEYREJECTED, "etc/10-a.conf", ": it is not signed");
        put_signed(0, "etc/10-a.conf", "");
        rules_are("b");
        assert_int_equal(unlink(at("etc/10-a.conf")), 0);
        assert_int_equal(symlink("/dev/null", at("etc/10-a.conf")), 0);
        rules_are("b");
        /* A signature of one mask is not that of another. */
        assert_int_equal(symlink("/dev/null", at("etc/20-b.conf")), 0);
        assert_int_equal(link(at("etc/10-a.conf.sig"), at("etc/20-b.conf.sig")), 0);
        fails(-EKEYREJECTED, "etc/20-b.conf.sig", ": the signature is not of this file");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_nothing_at_all),
                TEST(test_order),
                TEST(test_where_rules_are_from),
                TEST(test_masks),
                TEST(test_only_masks),
                TEST(test_only_regular_files),
                TEST(test_limits),
                TEST(test_one_bad_file_fails_all),
                TEST(test_one_name_twice),
                TEST(test_names_that_cannot_be_shown),
                TEST(test_files_of_one_moment),
                TEST(test_files_that_come_and_go),
                TEST(test_signed_files),
                TEST(test_unsigned_files),
                TEST(test_wrong_signatures),
                TEST(test_revoked_keys),
                TEST(test_keys_that_are_not_known),
                TEST(test_keys_that_are_wrong),
                TEST(test_required_and_nothing_there),
                TEST(test_masks_are_signed_too),
        };

        return cmocka_run_group_tests(tests, make_keys, NULL);
}
