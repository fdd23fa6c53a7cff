/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "policy/quote.h"
#include "util/hex.h"
#include "util/util.h"

#define MAGIC "vtld quote 1"
#define DOMAIN "vtld quote v1"
#define NONE "-"
#define LINE_MAX_SIZE 256u

static const char *const state_names[_QUOTE_STATE_MAX] = {
        [QUOTE_NONE] = "none",
        [QUOTE_MEASURED] = "measured",
        [QUOTE_UNBOUNDED] = "unbounded",
        [QUOTE_REFUSED] = "refused",
};

const struct string_table quote_state_table = STRING_TABLE(state_names);

static const uint8_t no_digest[MEASURE_DIGEST_SIZE];

/* ---- Writing ---- */

struct writer {
        char *text;
        size_t len;
};

static _printf_(2, 3) void put(struct writer *w, const char *fmt, ...) {
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(w->text + w->len, QUOTE_TEXT_MAX - w->len, fmt, ap);
        va_end(ap);
        w->len = MIN(w->len + (size_t) n, (size_t) QUOTE_TEXT_MAX - 1);
}

static const char *digest_text(const uint8_t *digest, char buf[MEASURE_DIGEST_TEXT_SIZE]) {
        if (memcmp(digest, no_digest, sizeof(no_digest)) == 0)
                return NONE;
        hex_encode(digest, MEASURE_DIGEST_SIZE, buf);
        return buf;
}

static const char *strempty(const char *s) {
        return s ? s : "";
}

/* All that is signed, as lines; the largest is smaller than QUOTE_TEXT_MAX. */
static void put_body(struct writer *w, const struct quote *q) {
        char nonce[2 * QUOTE_NONCE_MAX + 1], digest[MEASURE_DIGEST_TEXT_SIZE],
                id[SIGNATURE_KEY_ID_TEXT_SIZE];

        hex_encode(q->nonce, q->nonce_size, nonce);
        put(w, MAGIC "\nnonce %s\nvm %s\nstate %s\n", nonce, q->uuid,
            strempty(string_table_name(&quote_state_table, q->state)));
        put(w, "measurement %s\n", digest_text(q->measurement, digest));
        put(w, "limit %" PRIu64 "\nevents %u lost %" PRIu64 "\n", q->limit, q->log.n, q->log.lost);
        for (unsigned i = 0; i < q->log.n; i++) {
                const struct measure_record *r = &q->log.records[i];

                put(w, "event %s %" PRIu32 " 0x%" PRIx64 " 0x%" PRIx64 " %s\n",
                    string_table_name(&measure_event_table, r->event), r->vp, r->data[0],
                    r->data[1], digest_text(r->digest, digest));
        }
        hex_encode(q->log.digest, MEASURE_DIGEST_SIZE, digest);
        hex_encode(q->key_id, sizeof(q->key_id), id);
        put(w, "log %s\nkey %s\n", digest, id);
}

static void put_signature(struct writer *w, const struct quote *q) {
        char value[2 * SIGNATURE_ED25519_SIZE + 1];

        hex_encode(q->signature, sizeof(q->signature), value);
        put(w, "value %s\n", value);
}

/* The message: the domain with its NUL byte, and the body */
static int make_message(const struct quote *q, struct writer *ret) {
        *ret = (struct writer){ .text = malloc(QUOTE_TEXT_MAX), .len = sizeof(DOMAIN) };
        if (!ret->text)
                return -ENOMEM;
        memcpy(ret->text, DOMAIN, sizeof(DOMAIN));
        put_body(ret, q);
        return 0;
}

int quote_format(const struct quote *q, char **ret) {
        struct writer w = { .text = malloc(QUOTE_TEXT_MAX) };

        if (!w.text)
                return -ENOMEM;
        put_body(&w, q);
        put_signature(&w, q);
        *ret = w.text;
        return 0;
}

int quote_sign(const struct host_key *k, struct quote *q, char **ret) {
        struct writer w;
        int r;

        memcpy(q->key_id, host_key_id(k), sizeof(q->key_id));
        r = make_message(q, &w);
        if (r < 0)
                return r;
        r = host_key_sign(k, w.text, w.len, q->signature);
        free(w.text);
        return r < 0 ? r : quote_format(q, ret);
}

/* ---- Reading ---- */

struct reader {
        const char *text;
        size_t left;
        unsigned line;
};

/* The rest of a line that begins with @label, and its end replaced by a NUL; false: none */
static bool next_line(struct reader *r, const char *label, char ret[LINE_MAX_SIZE]) {
        size_t skip = strlen(label), len;
        const char *end;

        r->line++;
        if (r->left < skip || memcmp(r->text, label, skip) != 0)
                return false;
        end = memchr(r->text, '\n', r->left);
        if (!end)
                return false;
        len = (size_t) (end - r->text) - skip;
        if (len >= LINE_MAX_SIZE || memchr(r->text, '\0', skip + len))
                return false;
        memcpy(ret, r->text + skip, len);
        ret[len] = '\0';
        r->left -= skip + len + 1;
        r->text = end + 1;
        return true;
}

/* Lower case only: there is one way to write a quote. */
static int read_hex(const char *text, size_t len, size_t size, uint8_t *ret) {
        if (len != 2 * size || strspn(text, "0123456789abcdef") < len)
                return -EBADMSG;
        return hex_decode(text, size, ret) < 0 ? -EBADMSG : 0;
}

static int read_digest(const char *text, uint8_t ret[MEASURE_DIGEST_SIZE]) {
        if (strcmp(text, NONE) == 0) {
                memset(ret, 0, MEASURE_DIGEST_SIZE);
                return 0;
        }
        if (read_hex(text, strlen(text), MEASURE_DIGEST_SIZE, ret) < 0)
                return -EBADMSG;
        return memcmp(ret, no_digest, sizeof(no_digest)) == 0 ? -EBADMSG : 0;
}

static int read_number(const char *text, unsigned base, uint64_t *ret) {
        const char *digits = base == 16 ? "0123456789abcdef" : "0123456789";
        size_t n = strspn(text, digits);
        char *end;

        if (n == 0 || text[n] || (text[0] == '0' && n > 1))
                return -EBADMSG;
        errno = 0;
        *ret = strtoull(text, &end, (int) base);
        return errno || *end ? -EBADMSG : 0;
}

/* Takes @label off the front */
static const char *after(const char *text, const char *label) {
        size_t n = strlen(label);

        return text && strncmp(text, label, n) == 0 ? text + n : NULL;
}

static int read_events(char *line, struct quote *q) {
        char *rest = strchr(line, ' ');
        const char *lost;
        uint64_t n;

        if (!rest)
                return -EBADMSG;
        *rest++ = '\0';
        lost = after(rest, "lost ");
        if (!lost || read_number(line, 10, &n) < 0 || n > MEASURE_LOG_MAX)
                return -EBADMSG;
        q->log.n = (unsigned) n;
        return read_number(lost, 10, &q->log.lost);
}

#define EVENT_WORDS 5u

static int read_event(char *line, struct measure_record *ret) {
        const char *words[EVENT_WORDS], *first, *second;
        uint64_t vp;
        int event;

        for (unsigned i = 0; i < EVENT_WORDS; i++) {
                char *space = strchr(line, ' ');

                if (!space != (i == EVENT_WORDS - 1))
                        return -EBADMSG;
                words[i] = line;
                if (space) {
                        *space = '\0';
                        line = space + 1;
                }
        }
        event = string_table_value(&measure_event_table, words[0]);
        first = after(words[2], "0x");
        second = after(words[3], "0x");
        if (event < 0 || read_number(words[1], 10, &vp) < 0 || vp > UINT32_MAX || !first ||
            !second || read_number(first, 16, &ret->data[0]) < 0 ||
            read_number(second, 16, &ret->data[1]) < 0)
                return -EBADMSG;
        ret->event = (enum measure_event) event;
        ret->vp = (uint32_t) vp;
        return read_digest(words[4], ret->digest);
}

static int read_uuid(const char *text, char ret[UUID_TEXT_SIZE]) {
        uint8_t uuid[16];

        if (strlen(text) != UUID_TEXT_SIZE - 1 || uuid_parse(text, uuid) < 0)
                return -EBADMSG;
        uuid_format(uuid, ret);
        return strcmp(text, ret) == 0 ? 0 : -EBADMSG;
}

/* What is wrong, or NULL */
static const char *read_head(struct reader *r, struct quote *q) {
        char line[LINE_MAX_SIZE];
        int state;

        if (!next_line(r, MAGIC, line) || line[0])
                return "not the line \"" MAGIC "\": this is no quote";
        if (!next_line(r, "nonce ", line))
                return "not a line \"nonce HEX\"";
        q->nonce_size = strlen(line) / 2;
        if (q->nonce_size < QUOTE_NONCE_MIN || q->nonce_size > QUOTE_NONCE_MAX ||
            read_hex(line, strlen(line), q->nonce_size, q->nonce) < 0)
                return "a nonce has from 16 to 64 bytes";
        if (!next_line(r, "vm ", line) || read_uuid(line, q->uuid) < 0)
                return "not a line \"vm UUID\"";
        state = next_line(r, "state ", line) ? string_table_value(&quote_state_table, line) : -1;
        if (state < 0)
                return "not a line \"state STATE\"";
        q->state = (enum quote_state) state;
        if (!next_line(r, "measurement ", line) || read_digest(line, q->measurement) < 0)
                return "not a line \"measurement DIGEST\"";
        if (!next_line(r, "limit ", line) || read_number(line, 10, &q->limit) < 0)
                return "not a line \"limit BYTES\"";
        if (!next_line(r, "events ", line) || read_events(line, q) < 0)
                return "not a line \"events NUMBER lost NUMBER\"";
        return NULL;
}

static const char *read_rest(struct reader *r, struct quote *q) {
        char line[LINE_MAX_SIZE];

        for (unsigned i = 0; i < q->log.n; i++)
                if (!next_line(r, "event ", line) || read_event(line, &q->log.records[i]) < 0)
                        return "not a line \"event NAME VP DATA DATA DIGEST\"";
        if (!next_line(r, "log ", line) ||
            read_hex(line, strlen(line), MEASURE_DIGEST_SIZE, q->log.digest) < 0)
                return "not a line \"log DIGEST\"";
        if (!next_line(r, "key ", line) ||
            read_hex(line, strlen(line), sizeof(q->key_id), q->key_id) < 0)
                return "not a line \"key ID\"";
        if (!next_line(r, "value ", line) ||
            read_hex(line, strlen(line), sizeof(q->signature), q->signature) < 0)
                return "not a line \"value SIGNATURE\"";
        if (r->left > 0) {
                r->line++;
                return "something follows the signature";
        }
        return NULL;
}

int quote_parse(const char *text, size_t len, const char *path, struct quote *ret,
                char error[CONF_ERROR_SIZE]) {
        struct reader r = { .text = text, .left = len };
        const char *wrong;

        memset(ret, 0, sizeof(*ret));
        wrong = read_head(&r, ret);
        if (!wrong)
                wrong = read_rest(&r, ret);
        return wrong ? conf_error(error, -EBADMSG, path, "line %u: %s", r.line, wrong) : 0;
}

/* ---- Verifying ---- */

static int verify_signature(const struct keyring *k, const struct quote *q, const char *path,
                            char *error) {
        struct signature s = { .algorithm = SIGNATURE_ED25519, .value_size = sizeof(q->signature) };
        char id[SIGNATURE_KEY_ID_TEXT_SIZE];
        enum keyring_verdict verdict;
        struct writer w;

        memcpy(s.key_id, q->key_id, sizeof(s.key_id));
        memcpy(s.value, q->signature, sizeof(q->signature));
        if (make_message(q, &w) < 0)
                return -ENOMEM;
        verdict = keyring_verify_message(k, &s, w.text, w.len);
        free(w.text);
        hex_encode(q->key_id, sizeof(q->key_id), id);
        switch (verdict) {
        case KEYRING_VALID:
                return 0;
        case KEYRING_UNKNOWN_KEY:
                return conf_error(error, -EKEYREJECTED, path, "signed with another key, %s", id);
        case KEYRING_REVOKED:
                return conf_error(error, -EKEYREJECTED, path, "the key %s is revoked", id);
        default:
                return conf_error(error, -EKEYREJECTED, path,
                                  "the signature is not of this quote: it was altered");
        }
}

/* What the log says about the state, when nothing of it is lost */
static bool state_is_logged(const struct quote *q) {
        static const enum quote_state states[_MEASURE_EVENT_MAX] = {
                [MEASURE_MEASURED] = QUOTE_MEASURED,
                [MEASURE_UNBOUNDED] = QUOTE_UNBOUNDED,
                [MEASURE_REFUSED] = QUOTE_REFUSED,
        };
        enum quote_state state = QUOTE_NONE;
        const uint8_t *digest = no_digest;

        for (unsigned i = 0; i < q->log.n; i++)
                if (states[q->log.records[i].event] != QUOTE_NONE) {
                        state = states[q->log.records[i].event];
                        digest = q->log.records[i].digest;
                }
        return q->log.lost > 0 ||
               (state == q->state && memcmp(digest, q->measurement, MEASURE_DIGEST_SIZE) == 0);
}

static int verify_log(const struct quote *q, const char *path, char *error) {
        uint8_t digest[MEASURE_DIGEST_SIZE];
        struct measure *m = NULL;
        int r;

        r = measure_new(&m, error);
        if (r < 0)
                return r;
        r = measure_log_digest(m, &q->log, digest);
        (void) measure_free(m);
        if (r < 0)
                return r;
        if (memcmp(digest, q->log.digest, sizeof(digest)) != 0)
                return conf_error(error, -EBADMSG, path, "the log is not what its digest is of");
        if (!state_is_logged(q))
                return conf_error(error, -EBADMSG, path,
                                  "the log does not say what the measurement says");
        return 0;
}

int quote_verify(const struct keyring *k, const struct quote *q, const uint8_t *nonce,
                 size_t nonce_size, const char *path, char error[CONF_ERROR_SIZE]) {
        int r;

        r = verify_signature(k, q, path, error);
        if (r < 0)
                return r;
        if (nonce_size != q->nonce_size || memcmp(nonce, q->nonce, nonce_size) != 0)
                return conf_error(error, -ESTALE, path,
                                  "the nonce is another one: this quote answers another question");
        return verify_log(q, path, error);
}
