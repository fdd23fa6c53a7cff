/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <sys/stat.h>

#include "policy/host-key.h"
#include "policy/libcrypto.h"
#include "util/file.h"
#include "util/util.h"

#define SEED_SIZE 32u
#define FILE_MAX 4096u
#define SECURE_HEAP 32768u
#define SECURE_MIN 16u

/* RFC 8410: PrivateKeyInfo with version 0 and without attributes. What openssl-genpkey(1)
 * writes. */
static const uint8_t der_head[16] = { 0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                                      0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20 };
#define DER_SIZE (sizeof(der_head) + SEED_SIZE)

struct host_key {
        struct libcrypto libcrypto;
        uint8_t *seed; /* in secure memory */
        uint8_t id[SIGNATURE_KEY_ID_SIZE];
        char public[HOST_KEY_PEM_MAX];
};

/* Not in a core file, not in swap, and zeroed when it is freed; without it, there is no key. */
static uint8_t *secure_new(size_t size) {
        if (!CRYPTO_secure_malloc_initialized())
                (void) CRYPTO_secure_malloc_init(SECURE_HEAP, SECURE_MIN);
        return CRYPTO_secure_malloc_initialized() ? OPENSSL_secure_zalloc(size) : NULL;
}

struct secret {
        uint8_t *data;
        size_t size;
};

static void cleanup_secret(struct secret *s) {
        OPENSSL_secure_clear_free(s->data, s->size);
}

static void cleanup_bio(BIO **b) {
        BIO_free(*b);
}

/* ---- A key ---- */

/* libcrypto copies a raw key into ordinary memory, and zeroes it there: the copy is made for each
 * signature, and lives no longer. */
static EVP_PKEY *make_key(const struct host_key *k) {
        return EVP_PKEY_new_raw_private_key_ex(k->libcrypto.ctx, "ED25519", NULL, k->seed,
                                               SEED_SIZE);
}

static int make_public(struct host_key *k) {
        _cleanup_(libcrypto_cleanup_pkey) EVP_PKEY *key = make_key(k);
        _cleanup_(cleanup_bio) BIO *b = BIO_new(BIO_s_mem());
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned char *der = NULL;
        size_t digest_size = 0;
        int len, r;

        if (!key || !b || PEM_write_bio_PUBKEY(b, key) != 1)
                return -EIO;
        len = BIO_read(b, k->public, sizeof(k->public) - 1);
        if (len <= 0 || BIO_pending(b) > 0)
                return -EIO;
        k->public[len] = '\0';
        len = i2d_PUBKEY(key, &der);
        if (len <= 0)
                return -EIO;
        r = EVP_Q_digest(k->libcrypto.ctx, "SHA256", NULL, der, (size_t) len, digest, &digest_size);
        OPENSSL_free(der);
        if (r != 1 || digest_size < sizeof(k->id))
                return -EIO;
        memcpy(k->id, digest, sizeof(k->id));
        return 0;
}

static int key_new(const uint8_t *seed, const char *path, struct host_key **ret, char *error) {
        struct host_key *k = calloc(1, sizeof(*k));
        int r;

        if (!k)
                return -ENOMEM;
        r = libcrypto_new(&k->libcrypto, error);
        if (r < 0) {
                free(k);
                return r;
        }
        k->seed = secure_new(SEED_SIZE);
        if (k->seed)
                memcpy(k->seed, seed, SEED_SIZE);
        r = !k->seed           ? conf_error(error, -ENOMEM, path, "there is no secure memory")
          : make_public(k) < 0 ? libcrypto_error(error, path, "the key cannot be used")
                               : 0;
        if (r < 0) {
                (void) host_key_free(k);
                return r;
        }
        *ret = k;
        return 0;
}

struct host_key *host_key_free(struct host_key *k) {
        if (!k)
                return NULL;
        OPENSSL_secure_clear_free(k->seed, SEED_SIZE);
        libcrypto_done(&k->libcrypto);
        free(k);
        return NULL;
}

const char *host_key_public(const struct host_key *k) {
        return k->public;
}

const uint8_t *host_key_id(const struct host_key *k) {
        return k->id;
}

/* ---- Its file ---- */

static int check_file(int fd) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EBADF;
        if ((st.st_mode & 077) || (st.st_uid != geteuid() && st.st_uid != 0))
                return -EACCES;
        return st.st_size > (off_t) FILE_MAX ? -EFBIG : 0;
}

static int read_all(int fd, uint8_t *data, size_t size, size_t *ret) {
        size_t n = 0;

        for (;;) {
                ssize_t r = read(fd, data + n, size - n);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return -errno;
                if (r == 0)
                        break;
                n += (size_t) r;
                if (n == size)
                        return -EFBIG;
        }
        *ret = n;
        return 0;
}

/* The one block of the file, decoded into secure memory. */
static int decode(const uint8_t *pem, size_t len, const char *path, struct host_key **ret,
                  char *error) {
        _cleanup_(cleanup_bio) BIO *b = BIO_new_mem_buf(pem, (int) len);
        const unsigned flags = PEM_FLAG_SECURE;
        char *name = NULL, *header = NULL;
        unsigned char *der = NULL;
        long size = 0;
        int r;

        ERR_clear_error();
        if (!b || PEM_read_bio_ex(b, &name, &header, &der, &size, flags) != 1)
                return libcrypto_error(error, path, "this is no key in PEM");
        if (strcmp(name, "PRIVATE KEY") != 0 || header[0] || size != (long) DER_SIZE ||
            CRYPTO_memcmp(der, der_head, sizeof(der_head)) != 0)
                r = conf_error(error, -EBADMSG, path,
                               "this is no private key for Ed25519 without a passphrase");
        else
                r = key_new(der + sizeof(der_head), path, ret, error);
        OPENSSL_secure_free(name);
        OPENSSL_secure_free(header);
        OPENSSL_secure_clear_free(der, (size_t) size);
        return r;
}

int host_key_load(const char *path, struct host_key **ret, char error[CONF_ERROR_SIZE]) {
        _cleanup_(cleanup_secret) struct secret pem = { .size = FILE_MAX + 1 };
        _cleanup_close_ int fd = -1;
        size_t len = 0;
        int r;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0)
                return conf_error(error, -errno, path, "%s", strerror(errno));
        r = check_file(fd);
        if (r == -EACCES)
                return conf_error(error, r, path,
                                  "others than its owner can read it, or it is another user's");
        pem.data = r < 0 ? NULL : secure_new(pem.size);
        if (r >= 0)
                r = pem.data ? read_all(fd, pem.data, pem.size, &len) : -ENOMEM;
        if (r < 0)
                return conf_error(error, r, path, "%s", strerror(-r));
        return decode(pem.data, len, path, ret, error);
}

/* Whole or not at all, and never in place of another one */
static int write_key(const char *path, const uint8_t *pem, size_t len) {
        _cleanup_free_ char *temporary = NULL, *directory = strdup(path);
        _cleanup_close_ int fd = -1, dir_fd = -1;
        char *slash;
        int r;

        if (!directory || asprintf(&temporary, "%s.XXXXXX", path) < 0) {
                temporary = NULL;
                return -ENOMEM;
        }
        slash = strrchr(directory, '/');
        if (slash)
                *slash = '\0';
        dir_fd = open(!slash               ? "."
                      : slash == directory ? "/"
                                           : directory,
                      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return -errno;
        fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
        if (fd < 0)
                return -errno;
        r = write_all(fd, pem, len);
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        if (r >= 0 && link(temporary, path) < 0)
                r = -errno;
        if (unlink(temporary) < 0 && r >= 0)
                r = -errno;
        if (r >= 0 && fsync(dir_fd) < 0)
                r = -errno;
        return r;
}

int host_key_generate(const char *path, struct host_key **ret, char error[CONF_ERROR_SIZE]) {
        static const char begin[] = "-----BEGIN PRIVATE KEY-----\n",
                          end[] = "\n-----END PRIVATE KEY-----\n";
        _cleanup_(cleanup_secret) struct secret der = { .size = DER_SIZE },
                                                pem = { .size = FILE_MAX };
        struct host_key *k = NULL;
        uint8_t *at;
        int r;

        der.data = secure_new(der.size);
        pem.data = secure_new(pem.size);
        if (!der.data || !pem.data)
                return conf_error(error, -ENOMEM, path, "there is no secure memory");
        memcpy(der.data, der_head, sizeof(der_head));
        r = getentropy(der.data + sizeof(der_head), SEED_SIZE) < 0 ? -errno : 0;
        if (r >= 0)
                r = key_new(der.data + sizeof(der_head), path, &k, error);
        if (r < 0)
                return r;
        at = mempcpy(pem.data, begin, strlen(begin));
        at += EVP_EncodeBlock(at, der.data, (int) der.size);
        at = mempcpy(at, end, strlen(end));
        r = write_key(path, pem.data, (size_t) (at - pem.data));
        if (r < 0) {
                (void) host_key_free(k);
                return conf_error(error, r, path, "%s", strerror(-r));
        }
        *ret = k;
        return 0;
}

/* ---- Signatures ---- */

int host_key_sign(const struct host_key *k, const void *message, size_t len,
                  uint8_t ret[HOST_KEY_SIGNATURE_SIZE]) {
        _cleanup_(libcrypto_cleanup_pkey) EVP_PKEY *key = make_key(k);
        _cleanup_(libcrypto_cleanup_md_ctx) EVP_MD_CTX *c = EVP_MD_CTX_new();
        size_t size = HOST_KEY_SIGNATURE_SIZE;
        bool fine =
                c && EVP_DigestSignInit_ex(c, NULL, NULL, k->libcrypto.ctx, NULL, key, NULL) == 1 &&
                EVP_DigestSign(c, ret, &size, message, len) == 1 && size == HOST_KEY_SIGNATURE_SIZE;

        ERR_clear_error();
        return fine ? 0 : -EIO;
}
