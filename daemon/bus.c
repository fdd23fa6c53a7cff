/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <stdio.h>

#include "daemon/bus-open.h"
#include "daemon/bus-internal.h"
#include "daemon/config.h"
#include "daemon/messages.h"
#include "daemon/polkit.h"
#include "util/util.h"

#define RECONNECT_USEC (5u * 1000 * 1000)

struct partition *bus_lookup(struct bus *bus, const char *uuid_text) {
        struct partition *p;
        uint8_t uuid[16];

        if (uuid_parse(uuid_text, uuid) < 0)
                return NULL;
        HASH_FIND(hh, bus->broker->partitions, uuid, sizeof(uuid), p);
        return p;
}

sd_bus *bus_connection(struct bus *bus) {
        return bus ? bus->bus : NULL;
}

sd_bus *bus_of(const struct partition *p) {
        return bus_connection(p->broker->bus);
}

/* ---- org.vtld1.Manager ---- */

static int append_partition(sd_bus_message *reply, const struct partition *p) {
        return sd_bus_message_append(reply, "(sso)", p->uuid_text, p->name, p->bus_path);
}

static int method_list_partitions(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct bus *bus = userdata;
        sd_bus_message *reply = NULL;
        struct partition *p, *next;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sso)");
        HASH_ITER(hh, bus->broker->partitions, p, next)
                if (r >= 0 && p->bus_path)
                        r = append_partition(reply, p);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        (void) sd_bus_message_unref(reply);
        return r;
}

static int method_get_partition(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct bus *bus = userdata;
        struct partition *p;
        uint8_t uuid[16];
        const char *text;
        int r;

        r = sd_bus_message_read(m, "s", &text);
        if (r < 0)
                return r;
        if (uuid_parse(text, uuid) < 0)
                return sd_bus_error_set(error, BUS_ERROR_INVALID_UUID, "This is not a UUID.");
        p = bus_lookup(bus, text);
        if (!p || !p->bus_path)
                return sd_bus_error_setf(error, BUS_ERROR_NO_SUCH_PARTITION,
                                         "No VM of UUID %s is attached.", text);
        return sd_bus_reply_method_return(m, "o", p->bus_path);
}

static int reload(struct bus *bus, sd_bus_message *m, sd_bus_error *error) {
        char why[POLICY_ERROR_SIZE];
        int r;

        r = broker_reload(bus->broker, why);
        if (r < 0)
                return sd_bus_error_setf(error, BUS_ERROR_BAD_POLICY,
                                         "The policy stays as it was: %s", why);
        return sd_bus_reply_method_return(m, NULL);
}

static int method_reload(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return polkit_authorize(userdata, m, POLKIT_LOAD_POLICY, reload, error);
}

BUS_GETTER_STRING(get_version, struct bus, o ? VTLD_VERSION : NULL)
BUS_GETTER_U32(get_partitions, struct bus, HASH_COUNT(o->broker->partitions))
BUS_GETTER_U32(get_max_partitions, struct bus, o->broker->max_vms)
BUS_GETTER_U32(get_policy_generation, struct bus, o->broker->policy_generation)
BUS_GETTER_U32(get_policy_rules, struct bus, policy_rules(o->broker->policy))
BUS_GETTER_STRING(get_policy_signatures, struct bus,
                  string_table_name(&policy_signatures_table, o->broker->config->policy_signatures))
BUS_GETTER_STRING(get_policy_error, struct bus, o->broker->policy_error)
BUS_GETTER_STRING(get_libvirt_state, struct bus,
                  libvirt_state_to_string(libvirt_handle_state(o->broker->libvirt)))

BUS_GETTER_STRING(get_host_key, struct bus,
                  o->broker->host_key ? host_key_public(o->broker->host_key) : "")

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Partitions", "u", get_partitions, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("MaxPartitions", "u", get_max_partitions, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("PolicyGeneration", "u", get_policy_generation, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("PolicyRules", "u", get_policy_rules, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("PolicySignatures", "s", get_policy_signatures, 0,
                        SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("PolicyError", "s", get_policy_error, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("LibvirtState", "s", get_libvirt_state, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("HostKey", "s", get_host_key, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_METHOD_WITH_ARGS("ListPartitions", SD_BUS_NO_ARGS,
                                SD_BUS_RESULT("a(sso)", partitions), method_list_partitions,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetPartition", SD_BUS_ARGS("s", uuid), SD_BUS_RESULT("o", path),
                                method_get_partition, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_reload,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

/* ---- Objects that come and go ---- */

char *bus_vp_path(const struct partition *p, unsigned vp) {
        char *path;

        return p->bus_path && asprintf(&path, "%s/vp/%u", p->bus_path, vp) >= 0 ? path : NULL;
}

static void emit_object(struct partition *p, int (*emit)(sd_bus *bus, const char *path)) {
        sd_bus *bus = bus_of(p);
        int r;

        /* What ends with this process may be there again with the next one: the name says it. */
        if (!bus || !p->bus_path || p->broker->ending)
                return;
        r = emit(bus, p->bus_path);
        for (unsigned i = 0; i < p->vps && r >= 0; i++) {
                _cleanup_free_ char *path = bus_vp_path(p, i);

                r = path ? emit(bus, path) : -ENOMEM;
        }
        if (r < 0)
                log_warning("cannot announce VM %s on the bus: %s", p->uuid_text, strerror(-r));
}

void bus_partition_added(struct partition *p) {
        int r;

        r = sd_bus_path_encode(BUS_PARTITIONS, p->uuid_text, &p->bus_path);
        if (r < 0) {
                log_warning("VM %s is not on the bus: %s", p->uuid_text, strerror(-r));
                return;
        }
        bus_changes_begin(p);
        emit_object(p, sd_bus_emit_object_added);
}

void bus_partition_removed(struct partition *p) {
        bus_changes_done(p);
        bus_ask_cancel(p);
        emit_object(p, sd_bus_emit_object_removed);
        p->bus_path = (free(p->bus_path), NULL);
}

static void emit_manager(struct broker *b, const char *property) {
        sd_bus *bus = bus_connection(b->bus);

        if (bus)
                (void) sd_bus_emit_properties_changed(bus, BUS_ROOT, BUS_MANAGER_INTERFACE,
                                                      property, NULL);
}

void bus_partition_count_changed(struct broker *b) {
        emit_manager(b, "Partitions");
}

void bus_libvirt_state_changed(struct broker *b) {
        emit_manager(b, "LibvirtState");
}

void bus_policy_changed(struct broker *b) {
        if (b->bus && b->bus->bus)
                (void) sd_bus_emit_properties_changed(b->bus->bus, BUS_ROOT, BUS_MANAGER_INTERFACE,
                                                      "PolicyGeneration", "PolicyRules",
                                                      "PolicyError", NULL);
}

/* ---- The connection ---- */

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* Every call counts as use of the service; what it asks for is none of this function's business. */
static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct bus *bus = userdata;

        if (sd_bus_message_is_method_call(m, NULL, NULL) > 0)
                broker_used(bus->broker);
        return 0;
}

static int register_objects(struct bus *bus) {
        int r;

        r = sd_bus_add_object_vtable(bus->bus, NULL, BUS_ROOT, BUS_MANAGER_INTERFACE,
                                     manager_vtable, bus);
        if (r >= 0)
                r = bus_register_partitions(bus);
        if (r >= 0)
                r = bus_register_vps(bus);
        if (r >= 0)
                r = bus_register_log_control(bus);
        if (r >= 0)
                r = sd_bus_add_filter(bus->bus, NULL, on_message, bus);
        if (r >= 0)
                r = sd_bus_add_object_manager(bus->bus, NULL, BUS_ROOT);
        if (r >= 0)
                r = sd_bus_match_signal(bus->bus, NULL, NULL, "/org/freedesktop/DBus/Local",
                                        "org.freedesktop.DBus.Local", "Disconnected",
                                        on_disconnected, bus);
        return r;
}

/* The objects are there before the name is: who sees the name finds them. */
static int connect_bus(struct bus *bus) {
        int r;

        r = bus_open(bus->address, &bus->bus);
        if (r < 0) {
                log_error("cannot connect to the bus \"%s\": %s", bus->address, strerror(-r));
                return r;
        }
        r = register_objects(bus);
        if (r >= 0)
                r = sd_bus_attach_event(bus->bus, bus->broker->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0) {
                r = sd_bus_request_name(bus->bus, BUS_NAME, 0);
                if (r < 0)
                        log_error("cannot own the name " BUS_NAME " on the bus: %s", strerror(-r));
        } else
                log_error("cannot set up the bus: %s", strerror(-r));
        if (r < 0)
                bus->bus = sd_bus_close_unref(bus->bus);
        return r < 0 ? r : 0;
}

static int on_reconnect(sd_event_source *s, uint64_t usec, void *userdata) {
        struct bus *bus = userdata;

        polkit_cancel(bus);
        bus->bus = sd_bus_close_unref(bus->bus);
        if (connect_bus(bus) >= 0) {
                log_notice("the bus is back");
                return 0;
        }
        (void) sd_event_source_set_time_relative(s, RECONNECT_USEC);
        (void) sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        return 0;
}

/* VMs are served without a bus as well. */
static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct bus *bus = userdata;

        log_event(LOG_WARNING, MESSAGE_BUS_LOST, NULL,
                  "the connection to the bus is lost; VMs are served on, and it is tried again");
        (void) sd_event_source_set_time_relative(bus->reconnect, RECONNECT_USEC);
        (void) sd_event_source_set_enabled(bus->reconnect, SD_EVENT_ONESHOT);
        return 0;
}

int bus_new(struct broker *b, const char *address, struct bus **ret) {
        struct bus *bus;
        int r;

        bus = calloc(1, sizeof(*bus));
        if (!bus)
                return -ENOMEM;
        bus->broker = b;
        bus->address = address;
        LIST_INIT(&bus->requests);
        r = sd_event_add_time_relative(b->event, &bus->reconnect, CLOCK_MONOTONIC, 0, 0,
                                       on_reconnect, bus);
        if (r >= 0)
                r = sd_event_source_set_enabled(bus->reconnect, SD_EVENT_OFF);
        if (r >= 0)
                r = connect_bus(bus);
        if (r < 0) {
                (void) bus_free(bus);
                return r;
        }
        *ret = bus;
        return 0;
}

struct bus *bus_free(struct bus *bus) {
        if (!bus)
                return NULL;
        sd_event_source_disable_unref(bus->reconnect);
        polkit_cancel(bus);
        (void) sd_bus_flush_close_unref(bus->bus);
        free(bus);
        return NULL;
}

bool bus_is_busy(const struct bus *bus) {
        return bus && !LIST_EMPTY(&bus->requests);
}

void bus_leave(struct bus *bus) {
        if (!bus || !bus->bus)
                return;
        if (sd_bus_release_name(bus->bus, BUS_NAME) < 0)
                return;
        while (sd_bus_process(bus->bus, NULL) > 0)
                ;
}
