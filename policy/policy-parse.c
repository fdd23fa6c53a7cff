/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/policy-rules.h"
#include "util/util.h"

#define SECTION_PREFIX "match "
#define MATCH_KEYS ((1u << _POLICY_MATCH_MAX) - 1)

struct parser {
        struct policy *policy;
        size_t file;
        size_t first; /* rule of this file */
};

/* ---- Sections ---- */

static bool name_char(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_' || c == '.';
}

static const char *const reserved_names[] = { POLICY_NAME_NONE, POLICY_NAME_UNMATCHED,
                                              POLICY_NAME_UNUSABLE };

/* The rule that is being read, or NULL before the first one */
static struct policy_rule *current(const struct parser *p) {
        return p->policy->n_rules > p->first ? &p->policy->rules[p->policy->n_rules - 1] : NULL;
}

/* A section is complete when the next one begins or the file ends. */
static int end_section(struct conf *c, void *userdata) {
        const struct policy_rule *r = current(userdata);

        if (!r)
                return 0;
        if (!(r->keys & MATCH_KEYS))
                return conf_complain(
                        c, r->line,
                        "[match %s] has none of name=, uuid=, uid=, libvirt-domain= and libvirt-policy=; name=* matches every VM",
                        r->decision.name);
        if (!policy_rule_has(r, POLICY_KEY_ALLOW_VTL1))
                return conf_complain(c, r->line, "[match %s] has no allow-vtl1=", r->decision.name);
        return 0;
}

static int check_unique(struct conf *c, const struct parser *p, const char *name) {
        for (size_t i = 0; i < p->policy->n_rules; i++) {
                const struct policy_rule *r = &p->policy->rules[i];

                if (strcmp(r->decision.name, name) != 0)
                        continue;
                if (r->file == p->file)
                        return conf_complain(c, conf_line(c),
                                             "[match %s] is there already, in line %u", name,
                                             r->line);
                return conf_complain(c, conf_line(c), "[match %s] is there already, in %s:%u", name,
                                     p->policy->files[r->file].path, r->line);
        }
        return 0;
}

static int check_name(struct conf *c, const struct parser *p, const char *name) {
        if (!*name)
                return conf_complain(c, conf_line(c), "[match NAME]: the name is missing");
        if (strlen(name) >= POLICY_NAME_SIZE)
                return conf_complain(c, conf_line(c),
                                     "[match NAME]: the name is longer than %u characters",
                                     POLICY_NAME_SIZE - 1);
        for (const char *s = name; *s; s++)
                if (!name_char(*s))
                        return conf_complain(
                                c, conf_line(c),
                                "[match NAME]: a name has letters, digits, '-', '_' and '.' only");
        for (size_t i = 0; i < ARRAY_SIZE(reserved_names); i++)
                if (strcmp(name, reserved_names[i]) == 0)
                        return conf_complain(c, conf_line(c),
                                             "[match %s]: this name has a meaning of its own",
                                             name);
        return check_unique(c, p, name);
}

static int begin_section(struct conf *c, const char *section, size_t len, void *userdata) {
        struct parser *p = userdata;
        const char *name = section + strlen(SECTION_PREFIX);
        struct policy_rule *rules;
        int r;

        r = end_section(c, p);
        if (r < 0)
                return r;
        if (strncmp(section, SECTION_PREFIX, strlen(SECTION_PREFIX)) != 0)
                return conf_complain(c, conf_line(c),
                                     "unknown section; there is [match NAME] only");
        r = check_name(c, p, name);
        if (r < 0)
                return r;
        if (p->policy->n_rules >= POLICY_RULES_MAX)
                return conf_complain(c, conf_line(c), "more than %u sections", POLICY_RULES_MAX);

        rules = reallocarray(p->policy->rules, p->policy->n_rules + 1, sizeof(*rules));
        if (!rules)
                return -ENOMEM;
        p->policy->rules = rules;
        rules += p->policy->n_rules++;
        *rules = (struct policy_rule){ .file = p->file, .line = conf_line(c) };
        policy_decision_init(&rules->decision, name, false);
        return 0;
}

/* ---- Keys ---- */

static int set_key(struct conf *c, const char *key, const char *value, void *userdata) {
        struct policy_rule *r = current(userdata);
        char why[POLICY_ERROR_SIZE];
        int id = policy_key_find(key);

        if (!r) /* not reached: keys come after sections */
                return -EINVAL;
        if (id < 0)
                return conf_complain(c, conf_line(c),
                                     "unknown key \"%.40s\"; vtl-policy(5) names all there are",
                                     key);
        if (policy_rule_has(r, (enum policy_key_id) id) &&
            policy_keys[id].kind != POLICY_KIND_DIGESTS)
                return conf_complain(c, conf_line(c), "%s= is there twice in [match %s]",
                                     policy_keys[id].name, r->decision.name);
        if (policy_key_set(r, (enum policy_key_id) id, value, why) < 0)
                return conf_complain(c, conf_line(c), "%s", why);
        return 0;
}

/* ---- Files ---- */

static const struct conf_callbacks callbacks = {
        .section = begin_section,
        .key = set_key,
        .end = end_section,
};

int policy_parse_into(struct policy *p, size_t file, const char *text, size_t len,
                      char error[POLICY_ERROR_SIZE]) {
        struct parser parser = { .policy = p, .file = file, .first = p->n_rules };
        const char *path = p->files[file].path;

        if (len > POLICY_FILE_MAX)
                return conf_error(error, -EFBIG, path, "larger than %u bytes", POLICY_FILE_MAX);
        return conf_parse(text, len, path, &callbacks, &parser, error);
}

int policy_parse(const char *text, size_t len, const char *path, struct policy **ret,
                 char error[POLICY_ERROR_SIZE]) {
        struct policy *p = policy_new();
        int r;

        error[0] = '\0';
        if (!p)
                return -ENOMEM;
        r = policy_add_file(p, path);
        if (r >= 0)
                r = policy_parse_into(p, (size_t) r, text, len, error);
        if (r < 0) {
                (void) policy_free(p);
                return r;
        }
        *ret = p;
        return 0;
}
