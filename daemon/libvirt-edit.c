/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <json-c/json.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <sysexits.h>

#include "daemon/libvirt-domain.h"
#include "daemon/libvirt-edit.h"
#include "daemon/libvirt-metadata.h"
#include "daemon/vtlctl-table.h"
#include "util/log.h"
#include "util/text.h"
#include "util/util.h"
#include "util/uuid.h"

#define POLICY_DEFAULT "default"

static const char *const state_names[_DOMAIN_STATE_MAX] = {
        [DOMAIN_INACTIVE] = "inactive",
        [DOMAIN_RUNNING] = "running",
        [DOMAIN_PAUSED] = "paused",
        [DOMAIN_CRASHED] = "crashed",
};

static int fail(const char *what, const char *why) {
        char text[512];

        (void) fprintf(stderr, "vtlctl: %s: %s\n", what, log_escape(text, sizeof(text), why));
        return EXIT_FAILURE;
}

/* A name for a terminal: libvirt allows more than should get there. */
static const char *shown(char buf[4 * LIBVIRT_NAME_SIZE], const char *name) {
        return text_check(name, strlen(name)) == TEXT_FINE
                     ? name
                     : log_escape(buf, 4 * LIBVIRT_NAME_SIZE, name);
}

static virDomainPtr find(virConnectPtr c, const char *what) {
        uint8_t uuid[16];
        virDomainPtr d;

        d = uuid_parse(what, uuid) < 0 ? NULL : virDomainLookupByUUID(c, uuid);
        return d ? d : virDomainLookupByName(c, what);
}

/* ---- show ---- */

struct facts {
        const char *name;
        char uuid[UUID_TEXT_SIZE];
        const char *state;
        char policy[LIBVIRT_POLICY_SIZE];
        const char *fault; /* of the metadata, or NULL */
};

static void get_facts(virDomainPtr d, struct facts *f) {
        enum domain_state state;
        uint8_t uuid[16] = { 0 };
        uint32_t run;

        *f = (struct facts){ .name = virDomainGetName(d) };
        (void) virDomainGetUUID(d, uuid);
        uuid_format(uuid, f->uuid);
        f->state = domain_get_state(d, &state, &run) < 0 ? "unknown" : state_names[state];
        if (domain_get_policy(d, f->policy, &f->fault) < 0)
                f->policy[0] = '\0';
        else
                f->fault = NULL;
}

static struct json_object *facts_to_json(const struct facts *f) {
        struct json_object *o = json_object_new_object();
        char buf[4 * LIBVIRT_NAME_SIZE];

        (void) json_object_object_add(o, "Name", json_object_new_string(shown(buf, f->name)));
        (void) json_object_object_add(o, "Uuid", json_object_new_string(f->uuid));
        (void) json_object_object_add(o, "State", json_object_new_string(f->state));
        (void) json_object_object_add(o, "Policy", json_object_new_string(f->policy));
        if (f->fault)
                (void) json_object_object_add(o, "Error", json_object_new_string(f->fault));
        return o;
}

static void print_json(virDomainPtr *domains, int n) {
        struct json_object *list = json_object_new_array();
        struct facts f;

        for (int i = 0; i < n; i++) {
                get_facts(domains[i], &f);
                (void) json_object_array_add(list, facts_to_json(&f));
        }
        (void) puts(json_object_to_json_string_ext(list, JSON_C_TO_STRING_PRETTY |
                                                                 JSON_C_TO_STRING_SPACED |
                                                                 JSON_C_TO_STRING_NOSLASHESCAPE));
        (void) json_object_put(list);
}

static void print_table(virDomainPtr *domains, int n) {
        static const struct column columns[] = {
                { "UUID", ALIGN_LEFT },
                { "NAME", ALIGN_LEFT },
                { "STATE", ALIGN_LEFT },
                { "POLICY", ALIGN_LEFT },
        };
        struct table *t = table_new(columns, ARRAY_SIZE(columns));
        char buf[4 * LIBVIRT_NAME_SIZE];
        struct facts f;

        for (int i = 0; t && i < n; i++) {
                get_facts(domains[i], &f);
                table_cell(t, NULL, "%s", f.uuid);
                table_cell(t, NULL, "%s", shown(buf, f.name));
                table_cell(t, NULL, "%s", f.state);
                table_cell(t, NULL, "%s%s", f.fault ? "malformed: " : "",
                           f.fault     ? f.fault
                           : *f.policy ? f.policy
                                       : "-");
        }
        if (t)
                table_print(t, isatty(STDOUT_FILENO) && !getenv("NO_COLOR"));
        (void) table_free(t);
}

static int compare(const void *a, const void *b) {
        return strcmp(virDomainGetName(*(const virDomainPtr *) a),
                      virDomainGetName(*(const virDomainPtr *) b));
}

static int show(const struct edit *e, virConnectPtr c) {
        virDomainPtr one, *list = &one;
        int n = 1;

        if (e->argc > 0) {
                one = find(c, e->argv[0]);
                if (!one)
                        return fail(e->argv[0], libvirt_error());
        } else {
                n = virConnectListAllDomains(c, &list, 0);
                if (n < 0)
                        return fail("cannot list domains", libvirt_error());
                qsort(list, (size_t) n, sizeof(*list), compare);
        }
        if (e->json)
                print_json(list, n);
        else if (n == 0)
                (void) puts("There is no domain.");
        else
                print_table(list, n);
        for (int i = 0; i < n; i++)
                (void) virDomainFree(list[i]);
        if (list != &one)
                free(list);
        return EXIT_SUCCESS;
}

/* ---- enable and disable ---- */

/* Both what runs and what will be started, as far as there is each */
static int both_flags(virDomainPtr d, unsigned *ret, bool *ret_active) {
        int active = virDomainIsActive(d), persistent = virDomainIsPersistent(d);

        if (active < 0 || persistent < 0)
                return -EIO;
        *ret = (active ? (unsigned) VIR_DOMAIN_AFFECT_LIVE : 0) |
               (persistent ? (unsigned) VIR_DOMAIN_AFFECT_CONFIG : 0);
        *ret_active = active;
        return 0;
}

static int set_policy(virConnectPtr c, const char *what, const char *policy) {
        _cleanup_domain_ virDomainPtr d = find(c, what);
        char element[METADATA_ELEMENT_SIZE], buf[4 * LIBVIRT_NAME_SIZE];
        unsigned flags;
        bool active;

        if (policy)
                metadata_format(policy, element);
        if (!d || both_flags(d, &flags, &active) < 0 ||
            virDomainSetMetadata(d, VIR_DOMAIN_METADATA_ELEMENT, policy ? element : NULL,
                                 METADATA_PREFIX, METADATA_URI, flags) < 0)
                return fail(what, libvirt_error());
        (void) printf("%s: %s%s%s\n", shown(buf, virDomainGetName(d)),
                      policy ? "policy " : "no policy", policy ? policy : "",
                      active ? "; counts when its VM attaches again" : "");
        return EXIT_SUCCESS;
}

static int enable(const struct edit *e, virConnectPtr c) {
        return set_policy(c, e->argv[0], e->argc > 1 ? e->argv[1] : POLICY_DEFAULT);
}

static int disable(const struct edit *e, virConnectPtr c) {
        return set_policy(c, e->argv[0], NULL);
}

/* ---- All of them ---- */

static const struct {
        const char *name;
        int min_args;
        int max_args;
        bool read_only;
        int (*run)(const struct edit *e, virConnectPtr c);
} verbs[] = {
        { "enable", 1, 2, false, enable },
        { "disable", 1, 1, false, disable },
        { "show", 0, 1, true, show },
};

static int bad_usage(const char *what) {
        (void) fprintf(stderr, "vtlctl: domain: %s; see vtlctl --help\n", what);
        return EX_USAGE;
}

int edit_run(const struct edit *e) {
        virConnectPtr c;
        size_t i = 0;
        int status;

        while (i < ARRAY_SIZE(verbs) && strcmp(verbs[i].name, e->verb) != 0)
                i++;
        if (i == ARRAY_SIZE(verbs))
                return bad_usage("enable, disable or show?");
        if (e->argc < verbs[i].min_args)
                return bad_usage("which domain?");
        if (e->argc > verbs[i].max_args)
                return bad_usage("too many arguments");
        if (e->argc > 1 && !libvirt_policy_valid(e->argv[1]))
                return bad_usage(
                        "the name of a policy has letters, digits, '-', '_' and '.', and at most 32");
        libvirt_be_quiet();
        c = verbs[i].read_only ? virConnectOpenReadOnly(e->uri)
                               : virConnectOpenAuth(e->uri, virConnectAuthPtrDefault, 0);
        if (!c)
                return fail(e->uri, libvirt_error());
        status = verbs[i].run(e, c);
        (void) virConnectClose(c);
        return fflush(stdout) == 0 ? status : EXIT_FAILURE;
}
