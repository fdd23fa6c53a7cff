/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/machine.h"
#include "util/log.h"
#include "util/util.h"
#include "util/uuid.h"

#define MACHINED_NAME "org.freedesktop.machine1"
#define MACHINED_PATH "/org/freedesktop/machine1"
#define MACHINED_MANAGER "org.freedesktop.machine1.Manager"
#define MACHINED_MACHINE "org.freedesktop.machine1.Machine"
#define MACHINED_NO_MACHINE "org.freedesktop.machine1.NoMachineForPID"

/* What libvirt's drivers call themselves when they register a machine: "libvirt-qemu" */
#define SERVICE_PREFIX "libvirt-"
#define CLASS_VM "vm"

struct machine_query {
        sd_bus *bus;
        sd_bus_slot *slot;
        pid_t pid;
        uint64_t usec;
        machine_fn answer;
        void *userdata;
};

static int finish(struct machine_query *q, const struct machine *m) {
        q->slot = sd_bus_slot_unref(q->slot);
        q->answer(q->userdata, m);
        return 0;
}

static int finish_unknown(struct machine_query *q, const char *why) {
        static const struct machine unknown = { .kind = MACHINE_UNKNOWN };

        log_debug("process %d: its machine is not known: %s", (int) q->pid, why);
        return finish(q, &unknown);
}

static const char *error_text(const sd_bus_message *reply) {
        const sd_bus_error *e = sd_bus_message_get_error((sd_bus_message *) reply);

        return e->message ? e->message : e->name;
}

/* ---- The machine's properties ---- */

struct properties {
        bool has_id;
        uint8_t id[16];
        bool libvirt; /* Service */
        bool vm;      /* Class */
};

static int read_id(sd_bus_message *m, struct properties *p) {
        const void *bytes;
        size_t n;
        int r;

        r = sd_bus_message_read_array(m, 'y', &bytes, &n);
        if (r < 0)
                return r;
        if (n == sizeof(p->id)) {
                memcpy(p->id, bytes, n);
                p->has_id = !uuid_is_nil(p->id);
        }
        return 0;
}

static int read_service(sd_bus_message *m, struct properties *p) {
        const char *text;
        int r;

        r = sd_bus_message_read(m, "s", &text);
        if (r >= 0)
                p->libvirt = strncmp(text, SERVICE_PREFIX, strlen(SERVICE_PREFIX)) == 0;
        return r;
}

static int read_class(sd_bus_message *m, struct properties *p) {
        const char *text;
        int r;

        r = sd_bus_message_read(m, "s", &text);
        if (r >= 0)
                p->vm = strcmp(text, CLASS_VM) == 0;
        return r;
}

static const struct {
        const char *name;
        const char *type;
        int (*read)(sd_bus_message *m, struct properties *p);
} wanted[] = {
        { "Id", "ay", read_id },
        { "Service", "s", read_service },
        { "Class", "s", read_class },
};

static int read_property(sd_bus_message *m, struct properties *p) {
        const char *name;
        int r;

        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
                if (strcmp(wanted[i].name, name) == 0) {
                        r = sd_bus_message_enter_container(m, 'v', wanted[i].type);
                        if (r >= 0)
                                r = wanted[i].read(m, p);
                        return r < 0 ? r : sd_bus_message_exit_container(m);
                }
        return sd_bus_message_skip(m, "v");
}

static int read_properties(sd_bus_message *m, struct properties *p) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_property(m, p);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int on_properties(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        struct machine_query *q = userdata;
        struct properties p = { 0 };
        struct machine m = { .kind = MACHINE_NONE };

        if (sd_bus_message_is_method_error(reply, NULL))
                return finish_unknown(q, error_text(reply));
        if (read_properties(reply, &p) < 0)
                return finish_unknown(q, "machined's answer is malformed");
        /* A container of systemd-nspawn is a machine too. */
        if (!p.libvirt || !p.vm)
                return finish(q, &m);
        if (!p.has_id)
                return finish_unknown(q, "machined has no UUID of its machine");
        m.kind = MACHINE_LIBVIRT;
        memcpy(m.uuid, p.id, sizeof(m.uuid));
        return finish(q, &m);
}

/* ---- The machine ---- */

static int call(struct machine_query *q, sd_bus_message *m, sd_bus_message_handler_t on_reply) {
        q->slot = sd_bus_slot_unref(q->slot);
        return sd_bus_call_async(q->bus, &q->slot, m, on_reply, q, q->usec);
}

static int ask_properties(struct machine_query *q, const char *path) {
        sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(q->bus, &m, MACHINED_NAME, path,
                                           "org.freedesktop.DBus.Properties", "GetAll");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", MACHINED_MACHINE);
        if (r >= 0)
                r = call(q, m, on_properties);
        (void) sd_bus_message_unref(m);
        return r;
}

static int on_machine(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        static const struct machine none = { .kind = MACHINE_NONE };
        struct machine_query *q = userdata;
        const char *path;
        int r;

        if (sd_bus_message_is_method_error(reply, MACHINED_NO_MACHINE))
                return finish(q, &none);
        if (sd_bus_message_is_method_error(reply, NULL))
                return finish_unknown(q, error_text(reply));
        r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                return finish_unknown(q, "machined's answer is malformed");
        r = ask_properties(q, path);
        return r < 0 ? finish_unknown(q, strerror(-r)) : 0;
}

int machine_query_new(sd_bus *bus, pid_t pid, uint64_t usec, machine_fn answer, void *userdata,
                      struct machine_query **ret) {
        sd_bus_message *m = NULL;
        struct machine_query *q;
        int r;

        q = calloc(1, sizeof(*q));
        if (!q)
                return -ENOMEM;
        q->bus = sd_bus_ref(bus);
        q->pid = pid;
        q->usec = usec;
        q->answer = answer;
        q->userdata = userdata;
        r = sd_bus_message_new_method_call(bus, &m, MACHINED_NAME, MACHINED_PATH, MACHINED_MANAGER,
                                           "GetMachineByPID");
        if (r >= 0)
                r = sd_bus_message_append(m, "u", (uint32_t) pid);
        if (r >= 0)
                r = call(q, m, on_machine);
        (void) sd_bus_message_unref(m);
        if (r < 0) {
                (void) machine_query_free(q);
                return r;
        }
        *ret = q;
        return 0;
}

struct machine_query *machine_query_free(struct machine_query *q) {
        if (!q)
                return NULL;
        (void) sd_bus_slot_unref(q->slot);
        (void) sd_bus_unref(q->bus);
        free(q);
        return NULL;
}
