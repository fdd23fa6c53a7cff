/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <systemd/sd-event.h>
#include <time.h>

#include "daemon/vtlctl.h"
#include "util/util.h"

#define MATCH "type='signal',sender='" VTLD_BUS_NAME "',path_namespace='" VTLD_BUS_ROOT "'"

/* A signal that is worth a line, with the names of its arguments */
struct known_signal {
        const char *interface;
        const char *member;
        const char *arguments[4];
        const char *text; /* for people; the arguments follow */
};

static const struct known_signal known_signals[] = {
        { VTLD_BUS_NAME ".Partition", "VtlEnabled", { "Vtl" }, "enabled for the VM" },
        { VTLD_BUS_NAME ".VirtualProcessor", "VtlEnabled", { "Vtl" }, "enabled on a VP" },
        { VTLD_BUS_NAME ".Partition",
          "SecureViolation",
          { "Gpa", "Access", "Vp" },
          "violation of what VTL1 forbids" },
        { VTLD_BUS_NAME ".Partition", "Vtl1Denied", { "Policy" }, "policy refused VTL1" },
        { VTLD_BUS_NAME ".Partition",
          "ProtectionRefused",
          { "Vp", "Mappings", "MappingsMax" },
          "no mappings are left for what VTL1 protects" },
        { VTLD_BUS_NAME ".Partition",
          "GuestCrashed",
          { "Vtl", "Code", "Vp" },
          "the guest reports that it has crashed" },
        { VTLD_BUS_NAME ".Partition", "WorkerFailed", { "Reason" }, "THE WORKER IS GONE" },
        { "org.freedesktop.DBus.ObjectManager", "InterfacesAdded", { NULL }, "attached" },
        { "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved", { NULL }, "gone" },
        { "org.freedesktop.DBus.Properties", "PropertiesChanged", { NULL }, "changed" },
};

static const struct known_signal *find_signal(sd_bus_message *m) {
        for (size_t i = 0; i < ARRAY_SIZE(known_signals); i++)
                if (sd_bus_message_is_signal(m, known_signals[i].interface,
                                             known_signals[i].member))
                        return &known_signals[i];
        return NULL;
}

/* UUID and VP of an object: false for other objects than VMs and VPs. */
static bool add_object(struct json_object *event, const char *path) {
        char *uuid = NULL, *vp = NULL;
        bool found;

        found = sd_bus_path_decode_many(path, VTLD_BUS_PARTITIONS "/%/vp/%", &uuid, &vp) > 0 ||
                sd_bus_path_decode_many(path, VTLD_BUS_PARTITIONS "/%", &uuid) > 0;
        if (found) {
                (void) json_object_object_add(event, "Uuid", json_object_new_string(uuid));
                if (vp)
                        (void) json_object_object_add(event, "Vp",
                                                      json_object_new_int64(atoll(vp)));
        }
        free(uuid);
        free(vp);
        return found;
}

/* a{sv} of PropertiesChanged: the members of @event themselves */
static int add_properties(struct json_object *event, sd_bus_message *m) {
        struct json_object *changed = json_object_new_object();
        int r;

        (void) json_object_object_add(event, "Changed", changed);
        r = sd_bus_message_skip(m, "s");
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                struct json_object *value = NULL;
                const char *name;

                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0)
                        r = message_to_json(m, &value);
                if (r >= 0) {
                        (void) json_object_object_add(changed, name, value);
                        r = sd_bus_message_exit_container(m);
                }
        }
        return r;
}

static int add_arguments(struct json_object *event, sd_bus_message *m,
                         const struct known_signal *s) {
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(s->arguments) && s->arguments[i] && r >= 0; i++) {
                struct json_object *value = NULL;

                r = message_to_json(m, &value);
                if (r > 0)
                        (void) json_object_object_add(event, s->arguments[i], value);
        }
        return r;
}

/* 1 with a filled @event, 0 for a signal without interest, or a negative errno */
static int describe(sd_bus_message *m, const struct known_signal *s, struct json_object *event) {
        const char *path = sd_bus_message_get_path(m);
        int r;

        (void) json_object_object_add(event, "Event", json_object_new_string(s->member));
        if (strncmp(s->member, "Interfaces", strlen("Interfaces")) == 0) {
                r = sd_bus_message_read(m, "o", &path);
                if (r < 0)
                        return r;
                if (!add_object(event, path) || json_object_object_get_ex(event, "Vp", NULL))
                        return 0; /* VPs come and go with their VM */
                return 1;
        }
        if (!add_object(event, path))
                return 0;
        if (strcmp(s->member, "PropertiesChanged") == 0)
                r = add_properties(event, m);
        else
                r = add_arguments(event, m, s);
        return r < 0 ? r : 1;
}

static void print_event(struct json_object *event, const struct known_signal *s) {
        struct timespec now;
        char when[32];
        struct tm tm;

        (void) clock_gettime(CLOCK_REALTIME, &now);
        if (!localtime_r(&now.tv_sec, &tm) || strftime(when, sizeof(when), "%T", &tm) == 0)
                when[0] = '\0';
        (void) printf("%s.%03ld  %s  %s", when, now.tv_nsec / 1000000, json_text(event, "Uuid"),
                      s->text);
        json_object_object_foreach(event, key, value) {
                if (strcmp(key, "Uuid") == 0 || strcmp(key, "Event") == 0)
                        continue;
                if (strcmp(key, "Gpa") == 0 || strcmp(key, "Code") == 0)
                        (void) printf("  %s=0x%llx", key,
                                      (unsigned long long) json_object_get_uint64(value));
                else
                        (void) printf("  %s=%s", key, json_object_get_string(value));
        }
        (void) putchar('\n');
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const struct vtlctl *c = userdata;
        const struct known_signal *s = find_signal(m);
        struct json_object *event;

        if (!s)
                return 0;
        event = json_object_new_object();
        if (describe(m, s, event) > 0) {
                if (c->json)
                        print_json(event, 0);
                else
                        print_event(event, s);
                (void) fflush(stdout);
        }
        (void) json_object_put(event);
        return 0;
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *name, *old_owner, *new_owner;
        const struct vtlctl *c = userdata;

        if (sd_bus_message_read(m, "sss", &name, &old_owner, &new_owner) < 0)
                return 0;
        if (c->json)
                (void) printf("{ \"Event\": \"%s\" }\n",
                              *new_owner ? "ServiceStarted" : "ServiceEnded");
        else
                (void) printf("vtld has %s\n", *new_owner ? "started" : "ended");
        (void) fflush(stdout);
        return 0;
}

static int block_signals(void) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGINT);
        (void) sigaddset(&set, SIGTERM);
        return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0;
}

int verb_monitor(struct vtlctl *c, int argc, char **argv) {
        sd_event *event = NULL;
        int r;

        r = block_signals();
        if (r >= 0)
                r = sd_event_new(&event);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
        if (r >= 0)
                r = sd_bus_attach_event(c->bus, event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_bus_add_match(c->bus, NULL, MATCH, on_signal, c);
        if (r >= 0)
                r = sd_bus_add_match(
                        c->bus, NULL,
                        "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',"
                        "arg0='" VTLD_BUS_NAME "'",
                        on_owner, c);
        if (r >= 0 && !c->json) {
                (void) puts("Listening; end with Ctrl-C.");
                (void) fflush(stdout);
        }
        if (r >= 0)
                r = sd_event_loop(event);
        if (r < 0)
                (void) fprintf(stderr, "vtlctl: cannot listen to the bus: %s\n", strerror(-r));
        (void) sd_bus_detach_event(c->bus);
        (void) sd_event_unref(event);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
