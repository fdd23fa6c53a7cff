/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <strings.h>

#include "daemon/vtlctl.h"
#include "util/util.h"

#define ERROR_SERVICE_UNKNOWN "org.freedesktop.DBus.Error.ServiceUnknown"

/* ---- D-Bus to JSON ---- */

static struct json_object *basic_to_json(char type, sd_bus_message *m, int *ret) {
        union {
                const char *s;
                uint32_t u;
                uint64_t t;
                int b;
        } v;

        *ret = sd_bus_message_read_basic(m, type, &v);
        if (*ret <= 0)
                return NULL;
        switch (type) {
        case 'u':
                return json_object_new_int64(v.u);
        case 't':
                return json_object_new_uint64(v.t);
        case 'b':
                return json_object_new_boolean(v.b);
        default:
                return json_object_new_string(v.s);
        }
}

/* Of basic types */
static int array_to_json(sd_bus_message *m, const char *contents, struct json_object **ret) {
        struct json_object *list = json_object_new_array();
        int r;

        r = sd_bus_message_enter_container(m, 'a', contents);
        while (r >= 0) {
                struct json_object *item = NULL;

                r = message_to_json(m, &item);
                if (r <= 0)
                        break;
                (void) json_object_array_add(list, item);
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r < 0) {
                (void) json_object_put(list);
                return r;
        }
        *ret = list;
        return 1;
}

int message_to_json(sd_bus_message *m, struct json_object **ret) {
        const char *contents;
        char type;
        int r;

        *ret = NULL;
        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r <= 0)
                return r;
        if (strchr("utbso", type)) {
                *ret = basic_to_json(type, m, &r);
                return r < 0 ? r : 1;
        }
        if (type == 'a' && strlen(contents) == 1)
                return array_to_json(m, contents, ret);
        if (type != 'v') {
                r = sd_bus_message_skip(m, NULL);
                return r < 0 ? r : 1;
        }
        r = sd_bus_message_enter_container(m, 'v', contents);
        if (r >= 0)
                r = message_to_json(m, ret);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : 1;
}

/* a{sv} into @o */
static int read_properties(sd_bus_message *m, struct json_object *o) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                struct json_object *value = NULL;
                const char *name;

                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0)
                        r = message_to_json(m, &value);
                if (r >= 0)
                        (void) json_object_object_add(o, name, value);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* ---- Access ---- */

const char *json_text(struct json_object *o, const char *key) {
        struct json_object *v;

        return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string)
                     ? json_object_get_string(v)
                     : "";
}

uint64_t json_number(struct json_object *o, const char *key) {
        struct json_object *v;

        return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v) : 0;
}

bool json_flag(struct json_object *o, const char *key) {
        struct json_object *v;

        return json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

void print_json(struct json_object *o, int flags) {
        (void) puts(json_object_to_json_string_ext(o, flags | JSON_C_TO_STRING_SPACED |
                                                              JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* ---- Everything there is ---- */

struct fetched {
        struct json_object *manager;
        struct json_object *vms; /* array */
        struct json_object *vps; /* array */
};

/* One object: a{sa{sv}}; the interface of ours says what it is. */
static int read_object(sd_bus_message *m, const char *path, struct fetched *f) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                struct json_object *o = json_object_new_object();
                const char *interface;

                (void) json_object_object_add(o, "ObjectPath", json_object_new_string(path));
                r = sd_bus_message_read(m, "s", &interface);
                if (r >= 0)
                        r = read_properties(m, o);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r >= 0 && strcmp(interface, VTLD_BUS_NAME ".Manager") == 0)
                        f->manager = json_object_get(o);
                else if (r >= 0 && strcmp(interface, VTLD_BUS_NAME ".Partition") == 0)
                        (void) json_object_array_add(f->vms, json_object_get(o));
                else if (r >= 0 && strcmp(interface, VTLD_BUS_NAME ".VirtualProcessor") == 0)
                        (void) json_object_array_add(f->vps, json_object_get(o));
                (void) json_object_put(o);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_objects(sd_bus_message *m, struct fetched *f) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}")) > 0) {
                const char *path;

                r = sd_bus_message_read(m, "o", &path);
                if (r >= 0)
                        r = read_object(m, path, f);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int compare_vms(const void *a, const void *b) {
        struct json_object *x = *(struct json_object *const *) a,
                           *y = *(struct json_object *const *) b;
        int r = strcmp(json_text(x, "Name"), json_text(y, "Name"));

        return r ? r : strcmp(json_text(x, "Uuid"), json_text(y, "Uuid"));
}

static int compare_vps(const void *a, const void *b) {
        struct json_object *x = *(struct json_object *const *) a,
                           *y = *(struct json_object *const *) b;
        uint64_t i = json_number(x, "Index"), j = json_number(y, "Index");

        return i < j ? -1 : i > j;
}

/* Sorts, and hangs each VP below its VM: a VP's path begins with the VM's and "/vp/". */
static void arrange(struct fetched *f) {
        json_object_array_sort(f->vms, compare_vms);
        json_object_array_sort(f->vps, compare_vps);
        for (size_t i = 0; i < json_object_array_length(f->vms); i++) {
                struct json_object *vm = json_object_array_get_idx(f->vms, i),
                                   *list = json_object_new_array();
                const char *path = json_text(vm, "ObjectPath");

                for (size_t j = 0; j < json_object_array_length(f->vps); j++) {
                        struct json_object *vp = json_object_array_get_idx(f->vps, j);
                        const char *vp_path = json_text(vp, "ObjectPath");

                        if (strncmp(vp_path, path, strlen(path)) == 0 &&
                            strncmp(vp_path + strlen(path), "/vp/", 4) == 0)
                                (void) json_object_array_add(list, json_object_get(vp));
                }
                (void) json_object_object_add(vm, "VirtualProcessors", list);
        }
}

static int fail(const sd_bus_error *error, int r) {
        if (sd_bus_error_has_name(error, ERROR_SERVICE_UNKNOWN) ||
            sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER))
                (void) fprintf(stderr, "vtlctl: vtld is not on this bus\n");
        else
                (void) fprintf(stderr, "vtlctl: vtld does not answer: %s\n",
                               error && error->message ? error->message : strerror(-r));
        return r;
}

int objects_fetch(struct vtlctl *c, struct json_object **ret) {
        struct fetched f = { .vms = json_object_new_array(), .vps = json_object_new_array() };
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_call_method(c->bus, VTLD_BUS_NAME, VTLD_BUS_ROOT,
                               "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &error,
                               &reply, "");
        if (r >= 0)
                r = read_objects(reply, &f);
        /* The root of an object manager is not among its objects. */
        if (r >= 0 && !f.manager) {
                reply = sd_bus_message_unref(reply);
                r = sd_bus_call_method(c->bus, VTLD_BUS_NAME, VTLD_BUS_ROOT,
                                       "org.freedesktop.DBus.Properties", "GetAll", &error, &reply,
                                       "s", VTLD_BUS_NAME ".Manager");
                f.manager = json_object_new_object();
                (void) json_object_object_add(f.manager, "ObjectPath",
                                              json_object_new_string(VTLD_BUS_ROOT));
                if (r >= 0)
                        r = read_properties(reply, f.manager);
        }
        if (r >= 0) {
                arrange(&f);
                (void) json_object_object_add(f.manager, "VirtualMachines", json_object_get(f.vms));
                *ret = json_object_get(f.manager);
        } else
                (void) fail(&error, r);
        (void) json_object_put(f.manager);
        (void) json_object_put(f.vms);
        (void) json_object_put(f.vps);
        (void) sd_bus_message_unref(reply);
        sd_bus_error_free(&error);
        return r < 0 ? r : 0;
}

/* ---- One VM ---- */

static bool is_uuid(struct json_object *vm, const char *what) {
        return strcasecmp(json_text(vm, "Uuid"), what) == 0;
}

static bool is_name(struct json_object *vm, const char *what) {
        return strcmp(json_text(vm, "Name"), what) == 0;
}

static bool begins_so(struct json_object *vm, const char *what) {
        return strncasecmp(json_text(vm, "Uuid"), what, strlen(what)) == 0 ||
               strncmp(json_text(vm, "Name"), what, strlen(what)) == 0;
}

struct json_object *objects_find(struct json_object *root, const char *what) {
        static bool (*const ways[])(struct json_object * vm, const char *what) = { is_uuid, is_name,
                                                                                   begins_so };
        struct json_object *vms;

        if (!*what || !json_object_object_get_ex(root, "VirtualMachines", &vms)) {
                (void) fprintf(stderr, "vtlctl: no VM is named \"%s\"\n", what);
                return NULL;
        }
        for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
                struct json_object *found = NULL;
                size_t n = 0;

                for (size_t i = 0; i < json_object_array_length(vms); i++)
                        if (ways[w](json_object_array_get_idx(vms, i), what)) {
                                found = json_object_array_get_idx(vms, i);
                                n++;
                        }
                if (n == 1)
                        return found;
                if (n > 1) {
                        (void) fprintf(stderr,
                                       "vtlctl: \"%s\" may be one of %zu VMs; use the UUID\n", what,
                                       n);
                        return NULL;
                }
        }
        (void) fprintf(stderr, "vtlctl: no VM is named \"%s\"\n", what);
        return NULL;
}
