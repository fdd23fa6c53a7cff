/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>

#include "daemon/config.h"
#include "daemon/decide.h"
#include "daemon/vtlctl.h"
#include "policy/policy-rules.h"
#include "util/util.h"
#include "util/uuid.h"

/* A VM, as policy sees it; texts that are not known are NULL. */
struct vm {
        struct policy_subject subject;
        unsigned vps; /* 0: not known */
        char uuid[UUID_TEXT_SIZE];
        struct json_object *root, *running; /* what the bus says; NULL: it was not asked */
};

static void vm_done(struct vm *vm) {
        (void) json_object_put(vm->root);
}

/* ---- Which VM ---- */

static const char *text_or_null(struct json_object *o, const char *key) {
        const char *text = json_text(o, key);

        return *text ? text : NULL;
}

static int take_running(struct vtlctl *c, const char *what, struct vm *vm) {
        if (vtlctl_connect(c) < 0 || objects_fetch(c, &vm->root) < 0)
                return EXIT_FAILURE;
        vm->running = objects_find(vm->root, what);
        if (!vm->running)
                return EXIT_FAILURE;
        vm->subject = (struct policy_subject){
                .name = json_text(vm->running, "Name"),
                .uuid = json_text(vm->running, "Uuid"),
                .uid = (uint32_t) json_number(vm->running, "VmmUid"),
                .libvirt_domain = text_or_null(vm->running, "LibvirtDomain"),
                .libvirt_policy = text_or_null(vm->running, "LibvirtPolicy"),
        };
        vm->vps = (unsigned) json_number(vm->running, "VpCount");
        return EXIT_SUCCESS;
}

static int take_described(struct vtlctl *c, struct vm *vm) {
        const char *const *o = c->policy_options;
        const char *uid = o[POLICY_OPTION_UID];
        unsigned long long number = 0;
        uint8_t uuid[16];
        bool any = false;

        for (unsigned i = POLICY_OPTION_NAME; i < _POLICY_OPTION_MAX; i++)
                any |= o[i] != NULL;
        if (!any)
                return vtlctl_bad_usage("which VM?");
        if (o[POLICY_OPTION_UUID]) {
                if (uuid_parse(o[POLICY_OPTION_UUID], uuid) < 0)
                        return vtlctl_bad_usage("--uuid= is no UUID");
                uuid_format(uuid, vm->uuid);
        }
        if (uid) {
                size_t n = strspn(uid, "0123456789");

                if (n > 0 && n <= 10 && !uid[n])
                        number = strtoull(uid, NULL, 10);
                if (n == 0 || n > 10 || uid[n] || number > UINT32_MAX)
                        return vtlctl_bad_usage("--uid= is the number of a user");
        } else
                number = getuid();
        vm->subject = (struct policy_subject){
                .name = o[POLICY_OPTION_NAME],
                .uuid = o[POLICY_OPTION_UUID] ? vm->uuid : NULL,
                .uid = (uint32_t) number,
                .libvirt_domain = o[POLICY_OPTION_LIBVIRT_DOMAIN],
                .libvirt_policy = o[POLICY_OPTION_LIBVIRT_POLICY],
        };
        return EXIT_SUCCESS;
}

/* ---- What its policy says ---- */

struct explanation {
        const struct policy *policy;
        const struct vm *vm;
        const struct policy_rule *deciding; /* NULL: none does */
        struct policy_rule effective;       /* of the decision, to print its keys */
        char why[DECIDE_TEXT_SIZE];
        char vps[DECIDE_TEXT_SIZE];
};

static void explain(struct explanation *e, const struct policy *p, const struct vm *vm) {
        *e = (struct explanation){ .policy = p, .vm = vm };
        for (size_t i = 0; i < policy_rules(p) && !e->deciding; i++)
                if (policy_rule_obstacle(&p->rules[i], &vm->subject) == _POLICY_MATCH_MAX)
                        e->deciding = &p->rules[i];
        decide(p, &vm->subject, &e->effective.decision, e->why);
        (void) decide_vps(&e->effective.decision, vm->vps, e->vps);
}

/* False when the service has decided by another rule: its policy is not that of the files, or has
 * become it only after the VM was started. */
static bool service_agrees(const struct explanation *e) {
        struct json_object *vm = e->vm->running;

        return !vm || (strcmp(json_text(vm, "PolicyName"), e->effective.decision.name) == 0 &&
                       json_flag(vm, "Vtl1Allowed") == e->effective.decision.allow_vtl1);
}

/* ---- As JSON ---- */

static struct json_object *subject_to_json(const struct policy_subject *s) {
        struct json_object *o = json_object_new_object();
        char buf[16];

        for (unsigned i = 0; i < _POLICY_MATCH_MAX; i++) {
                const char *value = policy_subject_value(s, i, buf);
                struct json_object *v = value ? json_object_new_string(value) : NULL;

                if (policy_keys[i].kind == POLICY_KIND_PATTERN_NUMBER) {
                        (void) json_object_put(v);
                        v = json_object_new_int64(s->uid);
                }
                (void) json_object_object_add(o, policy_keys[i].name, v);
        }
        return o;
}

static struct json_object *step_to_json(const struct explanation *e, const struct policy_rule *r) {
        enum policy_key_id id = policy_rule_obstacle(r, &e->vm->subject);
        struct json_object *o = json_object_new_object();

        (void) json_object_object_add(o, "Name", json_object_new_string(r->decision.name));
        (void) json_object_object_add(o, "File",
                                      json_object_new_string(e->policy->files[r->file].path));
        (void) json_object_object_add(o, "Line", json_object_new_int64(r->line));
        (void) json_object_object_add(o, "Matches",
                                      json_object_new_boolean(id == _POLICY_MATCH_MAX));
        if (id < _POLICY_MATCH_MAX) {
                (void) json_object_object_add(o, "Key",
                                              json_object_new_string(policy_keys[id].name));
                (void) json_object_object_add(o, "Value", policy_value_to_json(r, id));
        }
        return o;
}

static void print_as_json(const struct explanation *e) {
        struct json_object *o = json_object_new_object(), *steps = json_object_new_array(),
                           *gets = json_object_new_object();

        (void) json_object_object_add(o, "Vm", subject_to_json(&e->vm->subject));
        for (size_t i = 0; i < policy_rules(e->policy); i++) {
                const struct policy_rule *r = &e->policy->rules[i];

                (void) json_object_array_add(steps, step_to_json(e, r));
                if (r == e->deciding)
                        break;
        }
        for (unsigned i = _POLICY_MATCH_MAX; i < _POLICY_KEY_MAX; i++)
                (void) json_object_object_add(gets, policy_keys[i].name,
                                              policy_value_to_json(&e->effective, i));
        (void) json_object_object_add(o, "Rules", steps);
        (void) json_object_object_add(o, "PolicyName",
                                      json_object_new_string(e->effective.decision.name));
        (void) json_object_object_add(o, "Gets", gets);
        (void) json_object_object_add(o, "Refusal",
                                      json_object_new_string(e->vps[0] ? e->vps : e->why));
        (void) json_object_object_add(o, "ServiceAgrees",
                                      e->vm->running ? json_object_new_boolean(service_agrees(e))
                                                     : NULL);
        print_json(o, JSON_C_TO_STRING_PRETTY);
        (void) json_object_put(o);
}

/* ---- For people ---- */

static void print_subject(const struct policy_subject *s) {
        char buf[16];

        (void) printf("The VM:");
        for (unsigned i = 0; i < _POLICY_MATCH_MAX; i++) {
                const char *value = policy_subject_value(s, i, buf);

                if (value)
                        (void) printf(" %s=\"%s\"", policy_keys[i].name, value);
        }
        (void) puts("\n");
}

static void print_step(const struct explanation *e, const struct policy_rule *r) {
        enum policy_key_id id = policy_rule_obstacle(r, &e->vm->subject);
        const char *value;
        char buf[16];

        (void) printf("%s:%u: [match %s] ", e->policy->files[r->file].path, r->line,
                      r->decision.name);
        if (id == _POLICY_MATCH_MAX) {
                (void) puts("matches, and decides");
                return;
        }
        value = policy_subject_value(&e->vm->subject, id, buf);
        if (value)
                (void) printf("does not match: %s = %s, and it is \"%s\"\n", policy_keys[id].name,
                              r->patterns[id], value);
        else
                (void) printf("does not match: %s = %s, and it is not known\n",
                              policy_keys[id].name, r->patterns[id]);
}

static void print_outcome(const struct explanation *e) {
        const struct policy_decision *d = &e->effective.decision;
        char value[POLICY_VALUE_SIZE];

        if (!e->policy)
                (void) puts("There is no policy file: every VM may enable VTL1.");
        else if (!e->deciding)
                (void) puts("No rule matches: the VM may not enable VTL1.");
        (void) printf("\nVTL1 is %s%s%s.\n", d->allow_vtl1 ? "allowed" : "refused",
                      e->why[0] ? ": " : "", e->why);
        if (e->vps[0])
                (void) printf("The VM cannot be attached: %s.\n", e->vps);
        for (unsigned i = POLICY_KEY_ALLOW_VTL1 + 1; i < _POLICY_KEY_MAX; i++)
                for (unsigned n = 0; policy_key_value(&e->effective, i, n, value); n++)
                        (void) printf("%22s = %s\n", policy_keys[i].name, value);
}

static void print_service(const struct explanation *e) {
        if (service_agrees(e))
                return;
        (void) printf(
                "\nvtld has decided otherwise when this VM was started: policy \"%s\", VTL1 %s. "
                "It has read other files, or had not read these yet.\n",
                json_text(e->vm->running, "PolicyName"),
                json_flag(e->vm->running, "Vtl1Allowed") ? "allowed" : "refused");
        if (*json_text(e->vm->root, "PolicyError"))
                (void) printf("It could not read its policy the last time: %s\n",
                              json_text(e->vm->root, "PolicyError"));
}

static void print_for_people(const struct explanation *e) {
        print_subject(&e->vm->subject);
        for (size_t i = 0; i < policy_rules(e->policy); i++) {
                print_step(e, &e->policy->rules[i]);
                if (&e->policy->rules[i] == e->deciding)
                        break;
        }
        print_outcome(e);
        print_service(e);
}

static int explain_vm(struct vtlctl *c, const struct vm *vm) {
        char error[POLICY_ERROR_SIZE] = "";
        struct explanation *e = calloc(1, sizeof(*e));
        struct config_policy where;
        struct policy *p = NULL;
        struct config config;
        int r;

        if (!e || policy_read_config(c, &config) < 0) {
                free(e);
                return EXIT_FAILURE;
        }
        r = config_policy_source(&config, &where);
        if (r >= 0) {
                r = policy_load(&where.source, &p, error);
                config_policy_done(&where);
        }
        if (r < 0)
                (void) fprintf(stderr, "vtlctl: %s\n", error[0] ? error : strerror(-r));
        else {
                explain(e, p, vm);
                if (c->json)
                        print_as_json(e);
                else
                        print_for_people(e);
        }
        (void) policy_free(p);
        config_done(&config);
        free(e);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int policy_explain(struct vtlctl *c, int argc, char **argv) {
        struct vm vm = { .vps = 0 };
        int r;

        r = argc > 0 ? take_running(c, argv[0], &vm) : take_described(c, &vm);
        if (r == EXIT_SUCCESS)
                r = explain_vm(c, &vm);
        vm_done(&vm);
        return r;
}
