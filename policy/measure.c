/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <openssl/err.h>
#include <openssl/evp.h>

#include "policy/libcrypto.h"
#include "policy/measure.h"
#include "util/util.h"

#define DIGEST "SHA384"
static const char domain[24] = "vtld VTL1 measurement 1";

static const char *const event_names[_MEASURE_EVENT_MAX] = {
        [MEASURE_PARTITION_ENABLED] = "partition-enabled",
        [MEASURE_VP_ENABLED] = "vp-enabled",
        [MEASURE_CONFIG] = "config",
        [MEASURE_MEASURED] = "measured",
        [MEASURE_UNBOUNDED] = "unbounded",
        [MEASURE_REFUSED] = "refused",
};

const struct string_table measure_event_table = STRING_TABLE(event_names);

struct measure {
        struct libcrypto libcrypto;
        EVP_MD *md; /* fetched once: whoever uses this may not open files any more */
        EVP_MD_CTX *digest;
};

int measure_new(struct measure **ret, char error[CONF_ERROR_SIZE]) {
        struct measure *m = calloc(1, sizeof(*m));
        int r;

        if (!m)
                return -ENOMEM;
        r = libcrypto_new(&m->libcrypto, error);
        if (r < 0) {
                free(m);
                return r;
        }
        m->md = EVP_MD_fetch(m->libcrypto.ctx, DIGEST, NULL);
        m->digest = EVP_MD_CTX_new();
        if (!m->md || !m->digest) {
                (void) libcrypto_error(error, "libcrypto", "it has no " DIGEST);
                (void) measure_free(m);
                return -ELIBACC;
        }
        *ret = m;
        return 0;
}

struct measure *measure_free(struct measure *m) {
        if (!m)
                return NULL;
        EVP_MD_CTX_free(m->digest);
        EVP_MD_free(m->md);
        libcrypto_done(&m->libcrypto);
        free(m);
        return NULL;
}

/* ---- Digests ---- */

static int done(bool fine) {
        ERR_clear_error();
        return fine ? 0 : -EIO;
}

static bool begin(struct measure *m) {
        return EVP_DigestInit_ex2(m->digest, m->md, NULL) == 1;
}

static bool update(struct measure *m, const void *data, size_t size) {
        return EVP_DigestUpdate(m->digest, data, size) == 1;
}

static bool end(struct measure *m, uint8_t ret[MEASURE_DIGEST_SIZE]) {
        unsigned size = 0;

        return EVP_MD_get_size(m->md) == (int) MEASURE_DIGEST_SIZE &&
               EVP_DigestFinal_ex(m->digest, ret, &size) == 1 && size == MEASURE_DIGEST_SIZE;
}

static uint8_t *put(uint8_t *at, uint64_t value, unsigned size) {
        for (unsigned i = 0; i < size; i++)
                *at++ = (uint8_t) (value >> 8 * i);
        return at;
}

int measure_begin(struct measure *m, const uint8_t context[MEASURE_CONTEXT_SIZE]) {
        return done(begin(m) && update(m, domain, sizeof(domain)) &&
                    update(m, context, MEASURE_CONTEXT_SIZE));
}

int measure_page(struct measure *m, uint64_t gva, uint32_t flags,
                 const uint8_t page[MEASURE_PAGE_SIZE]) {
        uint8_t head[16];

        (void) put(put(head, gva, 8), flags, 8);
        return done(update(m, head, sizeof(head)) && update(m, page, MEASURE_PAGE_SIZE));
}

int measure_end(struct measure *m, uint8_t ret[MEASURE_DIGEST_SIZE]) {
        return done(end(m, ret));
}

int measure_context(struct measure *m, const uint8_t context[MEASURE_CONTEXT_SIZE],
                    uint8_t ret[MEASURE_DIGEST_SIZE]) {
        return done(begin(m) && update(m, context, MEASURE_CONTEXT_SIZE) && end(m, ret));
}

/* ---- The log ---- */

static int extend(struct measure *m, const uint8_t old[MEASURE_DIGEST_SIZE],
                  const struct measure_record *r, uint8_t ret[MEASURE_DIGEST_SIZE]) {
        uint8_t record[MEASURE_RECORD_SIZE], *at = record;

        at = put(at, r->event, 4);
        at = put(at, r->vp, 4);
        at = put(at, r->data[0], 8);
        at = put(at, r->data[1], 8);
        memcpy(at, r->digest, MEASURE_DIGEST_SIZE);
        return done(begin(m) && update(m, old, MEASURE_DIGEST_SIZE) &&
                    update(m, record, sizeof(record)) && end(m, ret));
}

int measure_log_add(struct measure *m, struct measure_log *log, const struct measure_record *r) {
        uint8_t digest[MEASURE_DIGEST_SIZE];
        int e;

        if (log->n >= MEASURE_LOG_MAX) {
                log->lost++;
                return 0;
        }
        e = extend(m, log->digest, r, digest);
        if (e < 0)
                return e;
        memcpy(log->digest, digest, sizeof(digest));
        log->records[log->n++] = *r;
        return 0;
}

int measure_log_digest(struct measure *m, const struct measure_log *log,
                       uint8_t ret[MEASURE_DIGEST_SIZE]) {
        uint8_t digest[MEASURE_DIGEST_SIZE] = { 0 };

        for (unsigned i = 0; i < log->n; i++) {
                int e = extend(m, digest, &log->records[i], digest);

                if (e < 0)
                        return e;
        }
        memcpy(ret, digest, sizeof(digest));
        return 0;
}
