/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "daemon/vtlctl.h"
#include "util/util.h"

#define GREEN "\033[32m"
#define RED "\033[31m"
#define YELLOW "\033[33m"
#define BOLD "\033[1m"
#define PLAIN "\033[0m"

static const struct {
        const char *state;
        const char *colour;
} state_colours[] = {
        { "running", GREEN },
        { "paused", YELLOW },
        { "stopped", RED },
        { "failed", RED },
};

static const char *state_colour(const char *state) {
        for (size_t i = 0; i < ARRAY_SIZE(state_colours); i++)
                if (strcmp(state_colours[i].state, state) == 0)
                        return state_colours[i].colour;
        return NULL;
}

/* Bit n is VTL n: "0", "0,1". */
static const char *vtl_list(uint64_t bits, char buf[32]) {
        size_t o = 0;

        buf[0] = '\0';
        for (unsigned i = 0; i < 8; i++)
                if (bits & (1u << i))
                        o += (size_t) snprintf(buf + o, 32 - o, "%s%u", o ? "," : "", i);
        return o ? buf : "-";
}

static struct json_object *member(struct json_object *o, const char *key) {
        struct json_object *v = NULL;

        (void) json_object_object_get_ex(o, key, &v);
        return v;
}

/* ---- list ---- */

static void show_list(struct json_object *vms, bool colours) {
        static const struct column columns[] = {
                { "UUID", ALIGN_LEFT },
                { "NAME", ALIGN_LEFT },
                { "STATE", ALIGN_LEFT },
                { "VPS", ALIGN_RIGHT },
                { "VTLS", ALIGN_LEFT },
                { "VTL1", ALIGN_LEFT },
                { "PROTECTED PAGES", ALIGN_RIGHT },
                { "INTERCEPTS", ALIGN_RIGHT },
                { "VMM", ALIGN_RIGHT },
        };
        struct table *t = table_new(columns, ARRAY_SIZE(columns));
        char vtls[32];

        if (!t)
                return;
        for (size_t i = 0; i < json_object_array_length(vms); i++) {
                struct json_object *vm = json_object_array_get_idx(vms, i);
                bool allowed = json_flag(vm, "Vtl1Allowed");

                table_cell(t, NULL, "%s", json_text(vm, "Uuid"));
                table_cell(t, NULL, "%s", json_text(vm, "Name"));
                table_cell(t, state_colour(json_text(vm, "State")), "%s", json_text(vm, "State"));
                table_cell(t, NULL, "%" PRIu64, json_number(vm, "VpCount"));
                table_cell(t, NULL, "%s", vtl_list(json_number(vm, "EnabledVtls"), vtls));
                table_cell(t, allowed ? NULL : YELLOW, "%s", allowed ? "allowed" : "refused");
                table_cell(t, NULL, "%" PRIu64, json_number(vm, "ProtectedPages"));
                table_cell(t, NULL, "%" PRIu64, json_number(vm, "Intercepts"));
                table_cell(t, NULL, "%" PRIu64, json_number(vm, "Vmm"));
        }
        table_print(t, colours);
        (void) table_free(t);
}

int verb_list(struct vtlctl *c, int argc, char **argv) {
        struct json_object *root, *vms;

        if (objects_fetch(c, &root) < 0)
                return EXIT_FAILURE;
        vms = member(root, "VirtualMachines");
        if (c->json)
                print_json(vms, JSON_C_TO_STRING_PRETTY);
        else if (json_object_array_length(vms) == 0)
                (void) puts("No VM is attached.");
        else
                show_list(vms, c->colours);
        (void) json_object_put(root);
        return EXIT_SUCCESS;
}

/* ---- vp ---- */

static void show_vps(struct json_object *vps, bool colours) {
        static const struct column columns[] = {
                { "VP", ALIGN_RIGHT },           { "APIC", ALIGN_RIGHT },
                { "VTL", ALIGN_RIGHT },          { "ENABLED", ALIGN_LEFT },
                { "WAITING", ALIGN_LEFT },       { "PENDING", ALIGN_LEFT },
                { "HALTED", ALIGN_LEFT },        { "VINA", ALIGN_LEFT },
                { "CALLS", ALIGN_RIGHT },        { "RETURNS", ALIGN_RIGHT },
                { "FAST", ALIGN_RIGHT },         { "BY INTERRUPT", ALIGN_RIGHT },
                { "HYPERCALLS", ALIGN_RIGHT },   { "INTERCEPTS", ALIGN_RIGHT },
                { "ENGINE EXITS", ALIGN_RIGHT },
        };
        static const char *const counters[] = {
                "VtlCalls",   "VtlReturns", "FastSwitches", "InterruptEntries",
                "Hypercalls", "Intercepts", "EngineExits",
        };
        struct table *t = table_new(columns, ARRAY_SIZE(columns));
        char vtls[32];

        if (!t)
                return;
        for (size_t i = 0; i < json_object_array_length(vps); i++) {
                struct json_object *vp = json_object_array_get_idx(vps, i);

                table_cell(t, NULL, "%" PRIu64, json_number(vp, "Index"));
                table_cell(t, NULL, "%" PRIu64, json_number(vp, "ApicId"));
                table_cell(t, json_number(vp, "ActiveVtl") ? GREEN : NULL, "%" PRIu64,
                           json_number(vp, "ActiveVtl"));
                table_cell(t, NULL, "%s", vtl_list(json_number(vp, "EnabledVtls"), vtls));
                table_cell(t, NULL, "%s", vtl_list(json_number(vp, "SuspendedVtls"), vtls));
                table_cell(t, NULL, "%s", vtl_list(json_number(vp, "PendingEventVtls"), vtls));
                table_cell(t, NULL, "%s", json_flag(vp, "Halted") ? "yes" : "no");
                table_cell(t, NULL, "%s", json_flag(vp, "VinaEnabled") ? "on" : "off");
                for (size_t j = 0; j < ARRAY_SIZE(counters); j++)
                        table_cell(t, NULL, "%" PRIu64, json_number(vp, counters[j]));
        }
        table_print(t, colours);
        (void) table_free(t);
}

int verb_vp(struct vtlctl *c, int argc, char **argv) {
        struct json_object *root, *vm;

        if (objects_fetch(c, &root) < 0)
                return EXIT_FAILURE;
        vm = objects_find(root, argv[0]);
        if (vm && c->json)
                print_json(member(vm, "VirtualProcessors"), JSON_C_TO_STRING_PRETTY);
        else if (vm)
                show_vps(member(vm, "VirtualProcessors"), c->colours);
        (void) json_object_put(root);
        return vm ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- status ---- */

static void line(const char *label, const char *fmt, ...) _printf_(2, 3);
static void line(const char *label, const char *fmt, ...) {
        va_list ap;

        (void) printf("%14s: ", label);
        va_start(ap, fmt);
        (void) vprintf(fmt, ap);
        va_end(ap);
        (void) putchar('\n');
}

static void show_time(const char *label, uint64_t usec) {
        time_t seconds = (time_t) (usec / 1000000);
        char text[64];
        struct tm tm;

        if (localtime_r(&seconds, &tm) && strftime(text, sizeof(text), "%F %T %Z", &tm) > 0)
                line(label, "%s", text);
}

/* "a, b"; numbers in hexadecimal */
static const char *join(struct json_object *list, char *buf, size_t size) {
        size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
        size_t o = 0;

        buf[0] = '\0';
        for (size_t i = 0; i < n && o < size; i++) {
                struct json_object *v = json_object_array_get_idx(list, i);
                const char *between = i > 0 ? ", " : "";

                if (json_object_is_type(v, json_type_string))
                        o += (size_t) snprintf(buf + o, size - o, "%s%s", between,
                                               json_object_get_string(v));
                else
                        o += (size_t) snprintf(buf + o, size - o, "%s0x%" PRIx64, between,
                                               json_object_get_uint64(v));
        }
        return buf;
}

/* What there may be to say, and mostly is not */
static void show_facts(struct json_object *vm, bool colours) {
        char text[512], more[256];

        (void) join(member(vm, "Unenforced"), text, sizeof(text));
        (void) join(member(vm, "UnenforcedCrIntercepts"), more, sizeof(more));
        if (*text || *more)
                line("Not enforced", "%s%s%s%s%s", colours ? YELLOW : "", text,
                     *text && *more ? ", " : "", more, colours ? PLAIN : "");
        line("Mappings", "%" PRIu64 " of at most %" PRIu64, json_number(vm, "Mappings"),
             json_number(vm, "MappingsMax"));
        if (json_number(vm, "ProtectionsRefused"))
                line("", "%" PRIu64 " protections refused since they would have needed more",
                     json_number(vm, "ProtectionsRefused"));
        if (strcmp(json_text(vm, "ExecuteEnforcement"), "bounded") == 0)
                line("Strict execute", "%" PRIu64 " pages, %" PRIu64 " accesses single-stepped",
                     json_number(vm, "StrictPages"), json_number(vm, "StrictSteps"));
        if (json_number(vm, "Crashes"))
                line("Crashes", "%s%" PRIu64 "%s, the last of VTL%" PRIu64 ": %s",
                     colours ? RED : "", json_number(vm, "Crashes"), colours ? PLAIN : "",
                     json_number(vm, "CrashVtl"),
                     join(member(vm, "CrashParameters"), text, sizeof(text)));
}

static void show_vm(struct json_object *vm, bool colours) {
        const char *state = json_text(vm, "State"), *colour = colours ? state_colour(state) : NULL;
        bool protection = json_flag(vm, "ProtectionEnabled");
        char vtls[32];

        (void) printf("%s%s%s (%s)\n", colours ? BOLD : "", json_text(vm, "Name"),
                      colours ? PLAIN : "", json_text(vm, "Uuid"));
        line("State", "%s%s%s", colour ? colour : "", state, colour ? PLAIN : "");
        show_time("Attached", json_number(vm, "AttachedAt"));
        line("VMM", "process %" PRIu64 ", user %" PRIu64, json_number(vm, "Vmm"),
             json_number(vm, "VmmUid"));
        if (json_number(vm, "WorkerPid"))
                line("Worker", "process %" PRIu64, json_number(vm, "WorkerPid"));
        else
                line("Worker", "none");
        line("VPs", "%" PRIu64, json_number(vm, "VpCount"));
        line("Policy", "%s: VTL1 %s", json_text(vm, "PolicyName"),
             json_flag(vm, "Vtl1Allowed") ? "allowed" : "refused");
        if (json_number(vm, "Denied"))
                line("", "asked for and refused %" PRIu64 " times", json_number(vm, "Denied"));
        if (json_text(vm, "LibvirtDomain")[0])
                line("Domain", "%s%s%s", json_text(vm, "LibvirtDomain"),
                     json_text(vm, "LibvirtPolicy")[0] ? ", policy " : "",
                     json_text(vm, "LibvirtPolicy"));
        line("VTLs enabled", "%s", vtl_list(json_number(vm, "EnabledVtls"), vtls));
        line("Protection",
             "%s (configuration 0x%" PRIx64 "), %" PRIu64 " pages, %" PRIu64 " intercepts",
             protection ? "on" : "off", json_number(vm, "PartitionConfig"),
             json_number(vm, "ProtectedPages"), json_number(vm, "Intercepts"));
        line("Measurement", "%s%s%s", json_text(vm, "MeasurementState"),
             *json_text(vm, "MeasurementDigest") ? ", " : "", json_text(vm, "MeasurementDigest"));
        line("Enforcement", "%s backend, faults %s; execute: %s, DMA: %s, start-up denial: %s",
             json_text(vm, "Backend"), json_text(vm, "FaultPrecision"),
             json_text(vm, "ExecuteEnforcement"), json_text(vm, "DmaEnforcement"),
             json_text(vm, "StartupDenial"));
        show_facts(vm, colours);
}

static void show_service(struct json_object *root, bool colours) {
        struct json_object *vms = member(root, "VirtualMachines");

        (void) printf("vtld %s, %" PRIu64 " of at most %" PRIu64 " VMs\n",
                      json_text(root, "Version"), json_number(root, "Partitions"),
                      json_number(root, "MaxPartitions"));
        if (*json_text(root, "PolicyError"))
                (void) printf("%sTHE POLICY COULD NOT BE READ%s: %s\n", colours ? BOLD : "",
                              colours ? PLAIN : "", json_text(root, "PolicyError"));
        if (strcmp(json_text(root, "LibvirtState"), "off") != 0)
                (void) printf("libvirt: %s\n", json_text(root, "LibvirtState"));
        for (size_t i = 0; i < json_object_array_length(vms); i++) {
                (void) putchar('\n');
                show_vm(json_object_array_get_idx(vms, i), colours);
        }
}

int verb_status(struct vtlctl *c, int argc, char **argv) {
        struct json_object *root, *shown;

        if (objects_fetch(c, &root) < 0)
                return EXIT_FAILURE;
        shown = argc > 0 ? objects_find(root, argv[0]) : root;
        if (shown && c->json)
                print_json(shown, JSON_C_TO_STRING_PRETTY);
        else if (shown && argc > 0) {
                show_vm(shown, c->colours);
                (void) putchar('\n');
                show_vps(member(shown, "VirtualProcessors"), c->colours);
        } else if (shown)
                show_service(root, c->colours);
        (void) json_object_put(root);
        return shown ? EXIT_SUCCESS : EXIT_FAILURE;
}
