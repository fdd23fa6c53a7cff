/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/config.h"
#include "daemon/decide.h"
#include "daemon/vtlctl.h"
#include "policy/policy-rules.h"
#include "util/snapshot.h"
#include "util/util.h"

int policy_read_config(const struct vtlctl *c, struct config *ret) {
        const char *keys = c->policy_options[POLICY_OPTION_KEYS_DIRECTORY];
        char error[CONF_ERROR_SIZE];
        int r;

        r = config_init(ret);
        if (r < 0)
                return r;
        r = config_load(ret, c->policy_options[POLICY_OPTION_CONFIG], error);
        if (r >= 0 && keys)
                r = config_set(ret, CONFIG_KEYS_DIRECTORY, keys, error);
        if (r < 0) {
                (void) fprintf(stderr, "vtlctl: %s\n", error);
                config_done(ret);
        }
        return r;
}

/* ---- Values ---- */

struct json_object *policy_value_to_json(const struct policy_rule *r, unsigned key) {
        struct json_object *array;
        char value[POLICY_VALUE_SIZE];

        switch (policy_keys[key].kind) {
        case POLICY_KIND_DIGESTS:
                array = json_object_new_array();
                for (unsigned i = 0; policy_key_value(r, key, i, value); i++)
                        (void) json_object_array_add(array, json_object_new_string(value));
                return array;
        case POLICY_KIND_YES_NO:
                return json_object_new_boolean(policy_key_value(r, key, 0, value) &&
                                               strcmp(value, "yes") == 0);
        case POLICY_KIND_OPTION:
                (void) policy_key_value(r, key, 0, value);
                return value[strspn(value, "0123456789")] ? json_object_new_string(value)
                                                          : json_object_new_int64(atoll(value));
        case POLICY_KIND_NUMBER:
                return policy_key_value(r, key, 0, value) ? json_object_new_int64(atoll(value))
                                                          : NULL;
        default:
                return policy_key_value(r, key, 0, value) ? json_object_new_string(value) : NULL;
        }
}

static struct json_object *rule_to_json(const struct policy *p, const struct policy_rule *r) {
        const struct policy_file *f = &p->files[r->file];
        struct json_object *o = json_object_new_object(), *match = json_object_new_object(),
                           *gets = json_object_new_object();

        (void) json_object_object_add(o, "Name", json_object_new_string(r->decision.name));
        (void) json_object_object_add(o, "File", json_object_new_string(f->path));
        (void) json_object_object_add(o, "Line", json_object_new_int64(r->line));
        for (unsigned i = 0; i < _POLICY_MATCH_MAX; i++)
                if (policy_rule_has(r, i))
                        (void) json_object_object_add(match, policy_keys[i].name,
                                                      policy_value_to_json(r, i));
        for (unsigned i = _POLICY_MATCH_MAX; i < _POLICY_KEY_MAX; i++)
                (void) json_object_object_add(gets, policy_keys[i].name,
                                              policy_value_to_json(r, i));
        (void) json_object_object_add(o, "Match", match);
        (void) json_object_object_add(o, "Gets", gets);
        return o;
}

static struct json_object *file_to_json(const struct policy_file *f) {
        struct json_object *o = json_object_new_object();

        (void) json_object_object_add(o, "File", json_object_new_string(f->path));
        (void) json_object_object_add(
                o, "Signature",
                json_object_new_string(string_table_name(&policy_file_state_table, f->state)));
        (void) json_object_object_add(o, "Key",
                                      f->key_id[0] ? json_object_new_string(f->key_id) : NULL);
        (void) json_object_object_add(o, "Mask", json_object_new_boolean(f->mask));
        return o;
}

/* ---- show ---- */

static void show_rule(const struct policy *p, const struct policy_rule *r, bool colours) {
        char value[POLICY_VALUE_SIZE];

        (void) printf("\n# %s:%u\n%s[match %s]%s\n", p->files[r->file].path, r->line,
                      colours ? "\033[1m" : "", r->decision.name, colours ? "\033[0m" : "");
        for (unsigned i = 0; i < _POLICY_KEY_MAX; i++)
                for (unsigned n = 0; policy_rule_has(r, i) && policy_key_value(r, i, n, value); n++)
                        (void) printf("%s = %s\n", policy_keys[i].name, value);
}

static void show_policy(const struct policy *p, const struct config *config, bool colours) {
        if (!p) {
                (void) puts("# There is no policy file: every VM may enable VTL1.");
                return;
        }
        (void) printf(
                "# %zu rules of %zu files; signatures are %s. What no rule matches is refused.\n",
                policy_rules(p), policy_files(p),
                string_table_name(&policy_signatures_table, config->policy_signatures));
        for (size_t i = 0; i < p->n_files; i++)
                (void) printf("#   %s: %s%s%s%s\n", p->files[i].path,
                              string_table_name(&policy_file_state_table, p->files[i].state),
                              p->files[i].key_id[0] ? ", key " : "", p->files[i].key_id,
                              p->files[i].mask ? ", hides others of its name" : "");
        for (size_t i = 0; i < p->n_rules; i++)
                show_rule(p, &p->rules[i], colours);
}

static struct json_object *policy_to_json(const struct policy *p, const struct config *config) {
        struct json_object *o = json_object_new_object(), *files = json_object_new_array(),
                           *rules = json_object_new_array();

        (void) json_object_object_add(o, "Policy", json_object_new_boolean(p != NULL));
        (void) json_object_object_add(
                o, "Signatures",
                json_object_new_string(
                        string_table_name(&policy_signatures_table, config->policy_signatures)));
        for (size_t i = 0; i < policy_files(p); i++)
                (void) json_object_array_add(files, file_to_json(&p->files[i]));
        for (size_t i = 0; i < policy_rules(p); i++)
                (void) json_object_array_add(rules, rule_to_json(p, &p->rules[i]));
        (void) json_object_object_add(o, "Files", files);
        (void) json_object_object_add(o, "Rules", rules);
        return o;
}

static int load(const struct config *config, struct policy **ret, char *error) {
        struct config_policy where;
        int r = config_policy_source(config, &where);

        if (r < 0)
                return r;
        r = policy_load(&where.source, ret, error);
        config_policy_done(&where);
        return r;
}

static int run_show(struct vtlctl *c, int argc, char **argv) {
        char error[POLICY_ERROR_SIZE] = "";
        struct policy *p = NULL;
        struct config config;
        int r;

        if (policy_read_config(c, &config) < 0)
                return EXIT_FAILURE;
        r = load(&config, &p, error);
        if (r < 0)
                (void) fprintf(stderr, "vtlctl: %s\n", error[0] ? error : strerror(-r));
        else if (c->json) {
                struct json_object *o = policy_to_json(p, &config);

                print_json(o, JSON_C_TO_STRING_PRETTY);
                (void) json_object_put(o);
        } else
                show_policy(p, &config, c->colours);
        (void) policy_free(p);
        config_done(&config);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- check ---- */

struct report {
        struct json_object *errors, *warnings; /* arrays of texts */
};

static void add(struct json_object *array, const char *fmt, ...) _printf_(2, 3);
static void add(struct json_object *array, const char *fmt, ...) {
        char text[POLICY_ERROR_SIZE + 256];
        va_list ap;

        va_start(ap, fmt);
        (void) vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        (void) json_object_array_add(array, json_object_new_string(text));
}

/* A rule that every VM matches: what follows it is for nobody. */
static bool matches_every_vm(const struct policy_rule *r) {
        for (unsigned i = 0; i < _POLICY_MATCH_MAX; i++)
                if (policy_rule_has(r, i) &&
                    (i > POLICY_KEY_UID || strspn(r->patterns[i], "*") != strlen(r->patterns[i])))
                        return false;
        return true;
}

static void look_at_rules(const struct policy *p, struct report *report) {
        const struct policy_rule *all = NULL;
        char why[DECIDE_TEXT_SIZE];

        for (size_t i = 0; i < policy_rules(p); i++) {
                const struct policy_rule *r = &p->rules[i];

                if (all)
                        add(report->warnings,
                            "%s:%u: [match %s] is for no VM: [match %s] before it matches every one",
                            p->files[r->file].path, r->line, r->decision.name, all->decision.name);
                else if (!decide_requirements(&r->decision, why))
                        add(report->warnings, "%s:%u: [match %s] allows no VM VTL1: %s",
                            p->files[r->file].path, r->line, r->decision.name, why);
                if (!all && matches_every_vm(r))
                        all = r;
        }
        for (size_t i = 0; i < policy_files(p); i++)
                if (p->files[i].state == POLICY_FILE_UNKNOWN_KEY)
                        add(report->warnings,
                            "%s: signed with the key %s, which is not known here: taken as unsigned",
                            p->files[i].path, p->files[i].key_id);
}

/* One file by itself, to say of each what is wrong with it */
static void check_file(const struct policy_source *all, const char *path, bool dropin,
                       struct report *report) {
        char error[POLICY_ERROR_SIZE] = "";
        struct policy_source one = *all;
        struct policy *p = NULL;
        int r;

        one.file = path;
        one.file_required = true;
        one.file_is_dropin = dropin;
        one.directories = NULL;
        r = policy_load(&one, &p, error);
        if (r < 0)
                add(report->errors, "%s", error[0] ? error : strerror(-r));
        (void) policy_free(p);
}

static void check_dropins(const struct policy_source *source, struct report *report) {
        struct snapshot *s = source->directories ? snapshot_new() : NULL;
        const char *where = "";
        struct dropin *d;
        size_t n;

        if (s && snapshot_dropins(s, source->directories, ".conf", POLICY_FILES_MAX, &d, &n,
                                  &where) >= 0) {
                for (size_t i = 0; i < n; i++)
                        check_file(source, d[i].path, true, report);
                dropins_free(d, n);
        }
        (void) snapshot_free(s);
}

/* All files together, as vtld reads them */
static int check_all(const struct config *config, const struct policy_source *source,
                     struct report *report, struct json_object *summary) {
        char error[POLICY_ERROR_SIZE] = "";
        struct policy *p = NULL;
        int r;

        r = policy_load(source, &p, error);
        if (r < 0) {
                if (access(source->file, F_OK) == 0)
                        check_file(source, source->file, false, report);
                check_dropins(source, report);
                /* What is wrong with none of them alone is wrong with all of them. */
                if (json_object_array_length(report->errors) == 0)
                        add(report->errors, "%s", error[0] ? error : strerror(-r));
        } else {
                look_at_rules(p, report);
                (void) json_object_object_add(summary, "Files",
                                              json_object_new_int64((int64_t) policy_files(p)));
                (void) json_object_object_add(summary, "Rules",
                                              json_object_new_int64((int64_t) policy_rules(p)));
        }
        (void) policy_free(p);
        return r;
}

static void print_texts(FILE *f, struct json_object *array, const char *prefix) {
        for (size_t i = 0; i < json_object_array_length(array); i++)
                (void) fprintf(f, "%s%s\n", prefix,
                               json_object_get_string(json_object_array_get_idx(array, i)));
}

static void print_summary(struct json_object *summary, const struct config *config) {
        struct json_object *files;

        if (!json_object_object_get_ex(summary, "Files", &files))
                return;
        if (json_object_get_int64(files) == 0)
                (void) printf("There is no policy file: %s VM may enable VTL1.\n",
                              config->policy_signatures == POLICY_SIGNATURES_REQUIRED ? "no"
                                                                                      : "every");
        else
                (void) printf(
                        "%" PRIu64 " rules of %" PRIu64 " files, signatures are %s.\n",
                        json_number(summary, "Rules"), json_number(summary, "Files"),
                        string_table_name(&policy_signatures_table, config->policy_signatures));
}

static int run_check(struct vtlctl *c, int argc, char **argv) {
        struct report report = { json_object_new_array(), json_object_new_array() };
        struct json_object *summary = json_object_new_object();
        struct config_policy where;
        struct config config;
        bool failed;

        (void) json_object_object_add(summary, "Errors", report.errors);
        (void) json_object_object_add(summary, "Warnings", report.warnings);
        if (policy_read_config(c, &config) < 0) {
                (void) json_object_put(summary);
                return EXIT_FAILURE;
        }
        if (config_policy_source(&config, &where) < 0)
                add(report.errors, "%s", strerror(ENOMEM));
        else {
                for (int i = 0; i < argc; i++)
                        check_file(&where.source, argv[i], true, &report);
                if (argc == 0)
                        (void) check_all(&config, &where.source, &report, summary);
                config_policy_done(&where);
        }
        failed = json_object_array_length(report.errors) > 0;
        if (c->json)
                print_json(summary, JSON_C_TO_STRING_PRETTY);
        else {
                print_texts(stderr, report.errors, "");
                print_texts(stdout, report.warnings, "warning: ");
                print_summary(summary, &config);
        }
        config_done(&config);
        (void) json_object_put(summary);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- The verb ---- */

static const struct {
        const char *name;
        int min_args, max_args;
        int (*run)(struct vtlctl *c, int argc, char **argv);
        const char *missing;
} verbs[] = {
        { "check", 0, INT_MAX, run_check, NULL },
        { "show", 0, 0, run_show, NULL },
        { "explain", 0, 1, policy_explain, NULL },
        { "sign", 1, INT_MAX, policy_sign, "which file?" },
        { "verify", 1, INT_MAX, policy_verify, "which file?" },
};

int verb_policy(struct vtlctl *c, int argc, char **argv) {
        if (argc == 0)
                return vtlctl_bad_usage(
                        "policy needs a verb: check, show, explain, sign or verify");
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
                if (strcmp(verbs[i].name, argv[0]) != 0)
                        continue;
                if (argc - 1 < verbs[i].min_args)
                        return vtlctl_bad_usage(verbs[i].missing);
                if (argc - 1 > verbs[i].max_args)
                        return vtlctl_bad_usage("too many arguments");
                return verbs[i].run(c, argc - 1, argv + 1);
        }
        return vtlctl_bad_usage("unknown verb of policy");
}
