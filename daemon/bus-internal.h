/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Inside the bus code: bus.c (connection, Manager), bus-partition.c, bus-ask.c, bus-map.c,
 * bus-registers.c, bus-trace.c,
 * bus-vp.c, bus-changes.c, bus-log.c, polkit.c.
 */

#include <sys/queue.h>
#include <systemd/sd-bus.h>

#include "daemon/broker.h"
#include "daemon/bus.h"
#include "daemon/partition.h"

#define BUS_NAME "org.vtld1"
#define BUS_ROOT "/org/vtld1"
#define BUS_PARTITIONS BUS_ROOT "/partition"
#define BUS_MANAGER_INTERFACE "org.vtld1.Manager"
#define BUS_PARTITION_INTERFACE "org.vtld1.Partition"
#define BUS_VP_INTERFACE "org.vtld1.VirtualProcessor"
#define BUS_ERROR_NO_SUCH_PARTITION "org.vtld1.Error.NoSuchPartition"
#define BUS_ERROR_INVALID_UUID "org.vtld1.Error.InvalidUuid"
#define BUS_ERROR_BAD_POLICY "org.vtld1.Error.BadPolicy"
#define BUS_ERROR_INVALID_NONCE "org.vtld1.Error.InvalidNonce"
#define BUS_ERROR_NO_HOST_KEY "org.vtld1.Error.NoHostKey"
#define BUS_ERROR_NOT_RUNNING "org.vtld1.Error.NotRunning"
#define BUS_ERROR_BUSY "org.vtld1.Error.Busy"
#define BUS_ERROR_NO_SUCH_VTL "org.vtld1.Error.NoSuchVtl"

LIST_HEAD(polkit_request_list, polkit_request);

struct bus {
        struct broker *broker;
        sd_bus *bus; /* NULL: not connected at the moment */
        const char *address;
        sd_event_source *reconnect;
        struct polkit_request_list requests; /* polkit.c: not answered yet */
        struct log_ratelimit denied_limit;
};

/* The connection, or NULL: then there is nobody to tell. */
sd_bus *bus_of(const struct partition *p);

/* Path of a VP, to be freed; NULL without memory. */
char *bus_vp_path(const struct partition *p, unsigned vp);

int bus_register_partitions(struct bus *bus);
int bus_register_vps(struct bus *bus);
int bus_register_log_control(struct bus *bus);

/* The partition of a text UUID, or NULL */
struct partition *bus_lookup(struct bus *bus, const char *uuid_text);

/* The partition whose object a message was sent to, or NULL: it is gone */
struct partition *bus_partition_of(struct bus *bus, sd_bus_message *m);

/* bus-detach.c: the method that needs POLKIT_DETACH */
int bus_method_detach(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* bus-registers.c, bus-map.c, bus-trace.c: methods that need POLKIT_INSPECT */
int bus_method_get_registers(sd_bus_message *m, void *userdata, sd_bus_error *error);
int bus_method_get_protections(sd_bus_message *m, void *userdata, sd_bus_error *error);
int bus_method_read_trace(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* bus-changes.c: the object is announced with the values of this moment. */
void bus_changes_begin(struct partition *p);
/* Whatever has not been announced is forgotten. */
void bus_changes_done(struct partition *p);

/* A property getter: @expression of the object @o. */
#define BUS_GETTER(name, type, sd_type, object, expression)                          \
        static int name(sd_bus *bus, const char *path, const char *interface,        \
                        const char *property, sd_bus_message *reply, void *userdata, \
                        sd_bus_error *error) {                                       \
                const object *o = userdata;                                          \
                                                                                     \
                return sd_bus_message_append(reply, sd_type, (type) (expression));   \
        }

/* D-Bus has its own word size for booleans. */
#define BUS_GETTER_BOOL(name, object, expression) BUS_GETTER(name, int, "b", object, !!(expression))
#define BUS_GETTER_U32(name, object, expression) BUS_GETTER(name, uint32_t, "u", object, expression)
#define BUS_GETTER_U64(name, object, expression) BUS_GETTER(name, uint64_t, "t", object, expression)
#define BUS_GETTER_STRING(name, object, expression) \
        BUS_GETTER(name, const char *, "s", object, expression)
