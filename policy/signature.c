/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "policy/signature.h"
#include "util/hex.h"
#include "util/util.h"

#define MAGIC "vtld signature 1"
#define DOMAIN "vtld policy v1"

static const char *const algorithm_names[_SIGNATURE_ALGORITHM_MAX] = {
        [SIGNATURE_ED25519] = "ed25519",
        [SIGNATURE_ECDSA_P384_SHA384] = "ecdsa-p384-sha384",
};

const struct string_table signature_algorithm_table = STRING_TABLE(algorithm_names);

static const struct {
        size_t min, max;
} value_sizes[_SIGNATURE_ALGORITHM_MAX] = {
        [SIGNATURE_ED25519] = { SIGNATURE_ED25519_SIZE, SIGNATURE_ED25519_SIZE },
        [SIGNATURE_ECDSA_P384_SHA384] = { SIGNATURE_P384_MIN, SIGNATURE_P384_MAX },
};

/* ---- The file ---- */

struct reader {
        const char *text;
        size_t left;
        unsigned line;
};

/* The rest of a line that begins with @label, without its newline; NULL: there is none. */
static const char *next_line(struct reader *r, const char *label, size_t *ret_len) {
        size_t skip = strlen(label);
        const char *end, *value = r->text + skip;

        r->line++;
        if (r->left < skip || memcmp(r->text, label, skip) != 0)
                return NULL;
        end = memchr(value, '\n', r->left - skip);
        if (!end)
                return NULL;
        *ret_len = (size_t) (end - value);
        r->left -= (size_t) (end + 1 - r->text);
        r->text = end + 1;
        return value;
}

static int read_algorithm(struct reader *r, struct signature *s) {
        char name[32] = "";
        const char *value;
        size_t len;
        int v;

        value = next_line(r, "algorithm ", &len);
        if (!value || len >= sizeof(name))
                return -EBADMSG;
        memcpy(name, value, len);
        if (strlen(name) != len)
                return -EBADMSG;
        v = string_table_value(&signature_algorithm_table, name);
        if (v < 0)
                return -EBADMSG;
        s->algorithm = (enum signature_algorithm) v;
        return 0;
}

/* Lower case only: there is one way to write a signature. */
static int read_bytes(struct reader *r, const char *label, size_t min, size_t max, uint8_t *ret,
                      size_t *ret_size) {
        const char *value;
        size_t len;

        value = next_line(r, label, &len);
        if (!value || len % 2 || len / 2 < min || len / 2 > max ||
            hex_decode(value, len / 2, ret) < 0)
                return -EBADMSG;
        for (size_t i = 0; i < len; i++)
                if (value[i] >= 'A' && value[i] <= 'F')
                        return -EBADMSG;
        *ret_size = len / 2;
        return 0;
}

/* What is wrong, or NULL */
static const char *read_signature(struct reader *r, struct signature *s) {
        size_t size;

        if (!next_line(r, MAGIC, &size) || size > 0)
                return "not the line \"" MAGIC "\": this is no signature";
        if (read_algorithm(r, s) < 0)
                return "not a line \"algorithm ed25519\" or \"algorithm ecdsa-p384-sha384\"";
        if (read_bytes(r, "key ", SIGNATURE_KEY_ID_SIZE, SIGNATURE_KEY_ID_SIZE, s->key_id, &size) <
            0)
                return "not a line \"key ID\" with 16 hexadecimal digits in lower case";
        if (read_bytes(r, "value ", value_sizes[s->algorithm].min, value_sizes[s->algorithm].max,
                       s->value, &s->value_size) < 0)
                return "not a line \"value SIGNATURE\" of the algorithm's length in hexadecimal digits in lower case";
        if (r->left > 0) {
                r->line++;
                return "something follows the signature";
        }
        return NULL;
}

int signature_parse(const char *text, size_t len, const char *path, struct signature *ret,
                    char error[CONF_ERROR_SIZE]) {
        struct reader r = { .text = text, .left = len };
        struct signature s = { 0 };
        const char *wrong = read_signature(&r, &s);

        if (wrong)
                return conf_error(error, -EBADMSG, path, "line %u: %s", r.line, wrong);
        *ret = s;
        return 0;
}

size_t signature_format(const struct signature *s, char ret[SIGNATURE_FILE_MAX]) {
        char key_id[SIGNATURE_KEY_ID_TEXT_SIZE], value[2 * SIGNATURE_VALUE_MAX + 1];

        hex_encode(s->key_id, sizeof(s->key_id), key_id);
        hex_encode(s->value, s->value_size, value);
        return (size_t) snprintf(
                ret, SIGNATURE_FILE_MAX, MAGIC "\nalgorithm %s\nkey %s\nvalue %s\n",
                string_table_name(&signature_algorithm_table, s->algorithm), key_id, value);
}

/* ---- What is signed ---- */

int signature_message(const char *path, const void *body, size_t len, uint8_t **ret,
                      size_t *ret_len) {
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        char size[24];
        /* Each with its NUL byte */
        const struct {
                const void *data;
                size_t size;
        } parts[] = {
                { DOMAIN, sizeof(DOMAIN) },
                { name, strlen(name) + 1 },
                { size, (size_t) snprintf(size, sizeof(size), "%zu", len) + 1 },
                { body, len },
        };
        size_t total = 0;
        uint8_t *m;

        for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
                total += parts[i].size;
        m = malloc(total);
        if (!m)
                return -ENOMEM;
        *ret = m;
        *ret_len = total;
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
                if (parts[i].size > 0)
                        memcpy(m, parts[i].data, parts[i].size);
                m += parts[i].size;
        }
        return 0;
}
