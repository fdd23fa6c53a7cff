/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <fnmatch.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "policy/policy.h"
#include "util/util.h"

#define VALUE_SIZE 128u
#define SECTION_PREFIX "match "

enum rule_key {
        KEY_NAME,
        KEY_UUID,
        KEY_UID,
        KEY_ALLOW_VTL1,
        _KEY_MAX,
};

static const char *const key_names[_KEY_MAX] = {
        [KEY_NAME] = "name",
        [KEY_UUID] = "uuid",
        [KEY_UID] = "uid",
        [KEY_ALLOW_VTL1] = "allow-vtl1",
};

#define KEY(k) (1u << KEY_##k)
#define KEYS_OF_PATTERNS (KEY(NAME) | KEY(UUID) | KEY(UID))

struct rule {
        char name[POLICY_NAME_SIZE];
        unsigned line;
        unsigned keys; /* which were given */
        char patterns[_KEY_MAX][VALUE_SIZE];
        bool allow_vtl1;
};

struct policy {
        struct rule *rules;
        size_t n;
};

struct parser {
        struct policy *policy;
        const char *text;
        size_t left;
        unsigned line;
        const char *path;
        char *error;
        int failed; /* negative errno; the first failure counts */
};

static _printf_(3, 4) int complain(struct parser *p, unsigned line, const char *fmt, ...) {
        char what[192];
        va_list ap;

        if (p->failed)
                return p->failed;
        va_start(ap, fmt);
        (void) vsnprintf(what, sizeof(what), fmt, ap);
        va_end(ap);
        (void) snprintf(p->error, POLICY_ERROR_SIZE, "%.100s:%u: %s", p->path, line, what);
        p->failed = -EBADMSG;
        return p->failed;
}

/* ---- Sections ---- */

static bool name_char(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
               c == '.';
}

/* A section is complete when the next one begins or the file ends. */
static int end_section(struct parser *p) {
        const struct rule *r;

        if (p->policy->n == 0)
                return 0;
        r = &p->policy->rules[p->policy->n - 1];
        if (!(r->keys & KEYS_OF_PATTERNS))
                return complain(p, r->line, "[match %s] has none of name=, uuid= and uid=; name=* matches every VM",
                                r->name);
        if (!(r->keys & KEY(ALLOW_VTL1)))
                return complain(p, r->line, "[match %s] has no allow-vtl1=", r->name);
        return 0;
}

static int check_name(struct parser *p, const char *name, size_t n) {
        if (n == 0)
                return complain(p, p->line, "[match NAME]: the name is missing");
        if (n >= POLICY_NAME_SIZE)
                return complain(p, p->line, "[match NAME]: the name is longer than %u characters",
                                POLICY_NAME_SIZE - 1);
        for (size_t i = 0; i < n; i++)
                if (!name_char(name[i]))
                        return complain(p, p->line, "[match NAME]: a name has letters, digits, '-', '_' and '.' only");
        if ((n == strlen(POLICY_NAME_NONE) && memcmp(name, POLICY_NAME_NONE, n) == 0) ||
            (n == strlen(POLICY_NAME_UNMATCHED) && memcmp(name, POLICY_NAME_UNMATCHED, n) == 0))
                return complain(p, p->line, "[match %.*s]: this name has a meaning of its own", (int) n, name);
        for (size_t i = 0; i < p->policy->n; i++)
                if (strlen(p->policy->rules[i].name) == n && memcmp(p->policy->rules[i].name, name, n) == 0)
                        return complain(p, p->line, "[match %.*s] is there already, in line %u", (int) n, name,
                                        p->policy->rules[i].line);
        return 0;
}

/* @s begins at the '[' and ends before the end of the line. */
static int begin_section(struct parser *p, const char *s, size_t n) {
        const char *close = memchr(s, ']', n), *name = s + 1 + strlen(SECTION_PREFIX);
        struct rule *rules;
        size_t name_len;

        if (end_section(p) < 0)
                return p->failed;
        if (!close)
                return complain(p, p->line, "the section has no ']'");
        if ((size_t) (close - s) < 1 + strlen(SECTION_PREFIX) ||
            memcmp(s + 1, SECTION_PREFIX, strlen(SECTION_PREFIX)) != 0)
                return complain(p, p->line, "unknown section; there is [match NAME] only");
        for (const char *c = close + 1; c < s + n; c++) {
                if (*c == ';' || *c == '#')
                        break;
                if (*c != ' ' && *c != '\t' && *c != '\r')
                        return complain(p, p->line, "something follows the ']'");
        }
        name_len = (size_t) (close - name);
        if (check_name(p, name, name_len) < 0)
                return p->failed;
        if (p->policy->n >= POLICY_RULES_MAX)
                return complain(p, p->line, "more than %u sections", POLICY_RULES_MAX);

        rules = reallocarray(p->policy->rules, p->policy->n + 1, sizeof(*rules));
        if (!rules) {
                p->failed = -ENOMEM;
                return p->failed;
        }
        p->policy->rules = rules;
        rules[p->policy->n] = (struct rule){ .line = p->line };
        memcpy(rules[p->policy->n].name, name, name_len);
        p->policy->n++;
        return 0;
}

/* ---- Keys ---- */

static int set_allow(struct parser *p, struct rule *r, const char *value) {
        if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
                return complain(p, p->line, "allow-vtl1= is yes or no");
        r->allow_vtl1 = value[0] == 'y';
        return 0;
}

static int set_key(struct parser *p, struct rule *r, const char *key, const char *value) {
        unsigned k = 0;

        while (k < _KEY_MAX && strcmp(key_names[k], key) != 0)
                k++;
        if (k == _KEY_MAX)
                return complain(p, p->line, "unknown key; there are name=, uuid=, uid= and allow-vtl1=");
        if (r->keys & (1u << k))
                return complain(p, p->line, "%s= is there twice in [match %s]", key_names[k], r->name);
        r->keys |= 1u << k;
        if (k == KEY_ALLOW_VTL1)
                return set_allow(p, r, value);
        if (!*value)
                return complain(p, p->line, "%s= is empty", key_names[k]);
        if (strlen(value) >= VALUE_SIZE)
                return complain(p, p->line, "%s= is longer than %u bytes", key_names[k], VALUE_SIZE - 1);
        memcpy(r->patterns[k], value, strlen(value) + 1);
        return 0;
}

/* inih calls it for each "key = value"; 0 is its word for an error. Sections were seen by next_line() already. */
static int on_key(void *userdata, const char *section, const char *key, const char *value) {
        struct parser *p = userdata;

        if (p->failed)
                return 0;
        if (p->policy->n == 0)
                return complain(p, p->line, "a key before the first section") >= 0;
        return set_key(p, &p->policy->rules[p->policy->n - 1], key, value) >= 0;
}

/* A line that is neither empty nor a comment, from its first character @s on */
static int check_line(struct parser *p, const char *begin, const char *s, size_t n) {
        /* inih would take it for a continuation of the value before. */
        if (s > begin)
                return complain(p, p->line, "the line is indented");
        if (*s == '[')
                return begin_section(p, s, n);
        if (!memchr(s, '=', n))
                return complain(p, p->line, "neither a section nor key=value");
        return 0;
}

/*
 * inih's reader: one line at a time. inih does not tell line numbers and cuts long lines and names silently, so lines
 * are counted and measured here, and sections are taken here.
 */
static char *next_line(char *buf, int size, void *userdata) {
        struct parser *p = userdata;
        const char *begin = p->text, *s;
        size_t n = 0;

        if (p->failed || p->left == 0)
                return NULL;
        p->line++;
        while (n < p->left && begin[n] != '\n')
                n++;
        p->text += n < p->left ? n + 1 : n;
        p->left -= n < p->left ? n + 1 : n;
        if (n + 2 > (size_t) size) {
                (void) complain(p, p->line, "the line is longer than %d bytes", size - 2);
                return NULL;
        }
        if (memchr(begin, '\0', n)) {
                (void) complain(p, p->line, "there is a NUL byte in the line");
                return NULL;
        }
        for (s = begin; s < begin + n && (*s == ' ' || *s == '\t'); s++)
                ;
        if (s < begin + n && !strchr(";#\r", *s) && check_line(p, begin, s, (size_t) (begin + n - s)) < 0)
                return NULL;
        memcpy(buf, begin, n);
        buf[n] = '\n';
        buf[n + 1] = '\0';
        return buf;
}

int policy_parse(const char *text, size_t len, const char *path, struct policy **ret,
                 char error[POLICY_ERROR_SIZE]) {
        struct parser p = { .text = text, .left = len, .path = path, .error = error };
        int line;

        error[0] = '\0';
        if (len > POLICY_FILE_MAX) {
                (void) snprintf(error, POLICY_ERROR_SIZE, "%.100s: larger than %u bytes", path, POLICY_FILE_MAX);
                return -EFBIG;
        }
        p.policy = calloc(1, sizeof(*p.policy));
        if (!p.policy)
                return -ENOMEM;
        line = ini_parse_stream(next_line, &p, on_key, &p);
        if (!p.failed)
                (void) end_section(&p);
        if (!p.failed && line != 0)
                (void) complain(&p, line > 0 ? (unsigned) line : 0, "neither a section nor key=value");
        if (p.failed) {
                if (!error[0])
                        (void) snprintf(error, POLICY_ERROR_SIZE, "%.100s: %s", path, strerror(-p.failed));
                (void) policy_free(p.policy);
                return p.failed;
        }
        *ret = p.policy;
        return 0;
}

int policy_load(const char *path, struct policy **ret, char error[POLICY_ERROR_SIZE]) {
        _cleanup_free_ char *text = NULL;
        _cleanup_close_ int fd = -1;
        size_t len = 0;
        struct stat st;
        ssize_t n;
        int r;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) < 0) {
                r = -errno;
                (void) snprintf(error, POLICY_ERROR_SIZE, "%.100s: %s", path, strerror(-r));
                return r;
        }
        if (!S_ISREG(st.st_mode)) {
                (void) snprintf(error, POLICY_ERROR_SIZE, "%.100s: not a regular file", path);
                return -EBADMSG;
        }
        /* One byte more than a policy may have: policy_parse() then refuses it. */
        text = malloc(POLICY_FILE_MAX + 1);
        if (!text)
                return -ENOMEM;
        while (len < POLICY_FILE_MAX + 1) {
                n = read(fd, text + len, POLICY_FILE_MAX + 1 - len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        r = -errno;
                        (void) snprintf(error, POLICY_ERROR_SIZE, "%.100s: %s", path, strerror(-r));
                        return r;
                }
                if (n == 0)
                        break;
                len += (size_t) n;
        }
        return policy_parse(text, len, path, ret, error);
}

struct policy *policy_free(struct policy *p) {
        if (!p)
                return NULL;
        free(p->rules);
        free(p);
        return NULL;
}

size_t policy_rules(const struct policy *p) {
        return p ? p->n : 0;
}

static bool rule_matches(const struct rule *r, const struct policy_subject *s, const char *uid) {
        if ((r->keys & KEY(NAME)) && fnmatch(r->patterns[KEY_NAME], s->name, 0) != 0)
                return false;
        if ((r->keys & KEY(UUID)) && fnmatch(r->patterns[KEY_UUID], s->uuid, FNM_CASEFOLD) != 0)
                return false;
        if ((r->keys & KEY(UID)) && fnmatch(r->patterns[KEY_UID], uid, 0) != 0)
                return false;
        return true;
}

static void decide(struct policy_decision *ret, const char *name, bool allow) {
        (void) snprintf(ret->name, sizeof(ret->name), "%s", name);
        ret->allow_vtl1 = allow;
}

void policy_decide(const struct policy *p, const struct policy_subject *s, struct policy_decision *ret) {
        char uid[16];

        if (!p) {
                decide(ret, POLICY_NAME_NONE, true);
                return;
        }
        (void) snprintf(uid, sizeof(uid), "%u", s->uid);
        for (size_t i = 0; i < p->n; i++)
                if (rule_matches(&p->rules[i], s, uid)) {
                        decide(ret, p->rules[i].name, p->rules[i].allow_vtl1);
                        return;
                }
        decide(ret, POLICY_NAME_UNMATCHED, false);
}
