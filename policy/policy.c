/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fnmatch.h>
#include <stdio.h>

#include "policy/policy-rules.h"
#include "util/util.h"

/* ---- A policy as an object ---- */

struct policy *policy_new(void) {
        return calloc(1, sizeof(struct policy));
}

struct policy *policy_new_unusable(void) {
        struct policy *p = policy_new();

        if (p)
                p->unusable = true;
        return p;
}

struct policy *policy_free(struct policy *p) {
        if (!p)
                return NULL;
        for (size_t i = 0; i < p->n_files; i++)
                free(p->files[i].path);
        free(p->files);
        free(p->rules);
        free(p);
        return NULL;
}

size_t policy_rules(const struct policy *p) {
        return p ? p->n_rules : 0;
}

size_t policy_files(const struct policy *p) {
        return p ? p->n_files : 0;
}

int policy_add_file(struct policy *p, const char *path) {
        struct policy_file *files = reallocarray(p->files, p->n_files + 1, sizeof(*files));

        if (!files)
                return -ENOMEM;
        p->files = files;
        files[p->n_files] = (struct policy_file){ .path = strdup(path) };
        if (!files[p->n_files].path)
                return -ENOMEM;
        return (int) p->n_files++;
}

/* ---- Deciding ---- */

const char *policy_subject_value(const struct policy_subject *s, enum policy_key_id id,
                                 char buf[16]) {
        const void *field = (const uint8_t *) s + policy_keys[id].offset;

        if (policy_keys[id].kind != POLICY_KIND_PATTERN_NUMBER)
                return *(const char *const *) field;
        (void) snprintf(buf, 16, "%u", *(const uint32_t *) field);
        return buf;
}

/* What is not known matches nothing, not even "*". */
static bool key_matches(const struct policy_rule *r, enum policy_key_id id,
                        const struct policy_subject *s) {
        char buf[16];
        const char *value = policy_subject_value(s, id, buf);

        if (!value)
                return false;
        switch (policy_keys[id].kind) {
        case POLICY_KIND_EXACT:
                return strcmp(r->patterns[id], value) == 0;
        case POLICY_KIND_PATTERN_NOCASE:
                return fnmatch(r->patterns[id], value, FNM_CASEFOLD) == 0;
        default:
                return fnmatch(r->patterns[id], value, 0) == 0;
        }
}

enum policy_key_id policy_rule_obstacle(const struct policy_rule *r,
                                        const struct policy_subject *s) {
        for (unsigned id = 0; id < _POLICY_MATCH_MAX; id++)
                if (policy_rule_has(r, id) && !key_matches(r, id, s))
                        return id;
        return _POLICY_MATCH_MAX;
}

void policy_decide(const struct policy *p, const struct policy_subject *s,
                   struct policy_decision *ret) {
        if (!p) {
                policy_decision_init(ret, POLICY_NAME_NONE, true);
                return;
        }
        for (size_t i = 0; i < p->n_rules; i++)
                if (policy_rule_obstacle(&p->rules[i], s) == _POLICY_MATCH_MAX) {
                        *ret = p->rules[i].decision;
                        return;
                }
        policy_decision_init(ret, p->unusable ? POLICY_NAME_UNUSABLE : POLICY_NAME_UNMATCHED,
                             false);
}
