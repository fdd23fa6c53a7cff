/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * vtlctl: vtlctl.c (command line), vtlctl-objects.c (what the bus says, as JSON), vtlctl-show.c
 * (for people), vtlctl-table.c (columns), vtlctl-monitor.c.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <systemd/sd-bus.h>

#define VTLD_BUS_NAME "org.vtld1"
#define VTLD_BUS_ROOT "/org/vtld1"
#define VTLD_BUS_PARTITIONS VTLD_BUS_ROOT "/partition"

struct vtlctl {
        sd_bus *bus;
        bool json;
        bool colours;
};

/* ---- vtlctl-objects.c ---- */

/**
 * objects_fetch() - everything there is
 * @ret: {"ObjectPath", manager's properties, "VirtualMachines": [{"ObjectPath", partition's
 * properties,
 *       "VirtualProcessors": [{"ObjectPath", VP's properties}]}]}, sorted by name and index
 *
 * Return: 0 or a negative errno; what went wrong has been said.
 */
int objects_fetch(struct vtlctl *c, struct json_object **ret);

/**
 * objects_find() - one VM by UUID, name, or the beginning of one of them
 *
 * Return: the VM (borrowed), or NULL; what went wrong has been said.
 */
struct json_object *objects_find(struct json_object *root, const char *what);

/* The next value of a message as JSON; D-Bus types that vtld does not use become null. Negative
 * errno on failure. */
int message_to_json(sd_bus_message *m, struct json_object **ret);

/* A member of an object, in a form that needs no check by the caller */
const char *json_text(struct json_object *o, const char *key);
uint64_t json_number(struct json_object *o, const char *key);
bool json_flag(struct json_object *o, const char *key);

void print_json(struct json_object *o, int flags);

/* ---- vtlctl-table.c ---- */

enum align {
        ALIGN_LEFT,
        ALIGN_RIGHT,
};

struct column {
        const char *title;
        enum align align;
};

struct table;

struct table *table_new(const struct column *columns, size_t n);
struct table *table_free(struct table *t);
/* Cells are taken row by row. @colour is an escape sequence or NULL. */
void table_cell(struct table *t, const char *colour, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
void table_print(const struct table *t, bool colours);

/* ---- The verbs: an exit status ---- */

int verb_list(struct vtlctl *c, int argc, char **argv);
int verb_status(struct vtlctl *c, int argc, char **argv);
int verb_vp(struct vtlctl *c, int argc, char **argv);
int verb_monitor(struct vtlctl *c, int argc, char **argv);
