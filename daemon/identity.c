/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/identity.h"
#include "util/log.h"
#include "util/util.h"

struct identity_query {
        struct libvirt_handle *libvirt;
        pid_t pid;
        uint8_t claimed[16];
        struct identity identity; /* what machined said */
        bool asked;               /* vtld-libvirt, about the domain that it may be */
        bool told;                /* it has answered */
        uint8_t asked_uuid[16];
        struct machine_query *machine; /* NULL: machined has answered */
        sd_event_source *step;         /* the next one, from the event loop */
        sd_event_source *deadline;
        identity_fn answer;
        void *userdata;
};

static bool same_uuid(const uint8_t a[16], const uint8_t b[16]) {
        return memcmp(a, b, 16) == 0;
}

/* machined's word counts. Without it, libvirt may know the process as a domain's: it tells so for
 * domains of its sessions, which are no machines. */
static void finish(struct identity_query *q) {
        struct identity i = q->identity;
        const struct domain *d;

        q->machine = machine_query_free(q->machine);
        q->step = sd_event_source_disable_unref(q->step);
        q->deadline = sd_event_source_disable_unref(q->deadline);
        i.told = q->told;
        if (i.kind != IDENTITY_LIBVIRT) {
                d = libvirt_handle_find_pid(q->libvirt, q->pid);
                if (d) {
                        i.kind = IDENTITY_LIBVIRT;
                        memcpy(i.uuid, d->uuid, sizeof(i.uuid));
                        i.told = true;
                }
        }
        q->answer(q->userdata, &i);
}

/* The domain that vtld-libvirt should be asked about before the answer is given, or NULL. A domain
 * may have been created, or started again, a moment ago. */
static const uint8_t *open_question(const struct identity_query *q) {
        const struct domain *d;

        if (q->told)
                return NULL;
        if (q->identity.kind == IDENTITY_LIBVIRT)
                return q->identity.uuid;
        if (libvirt_handle_find_pid(q->libvirt, q->pid))
                return NULL;
        d = libvirt_handle_find(q->libvirt, q->claimed);
        return d && d->pid == 0 ? q->claimed : NULL;
}

static void look(struct identity_query *q) {
        const uint8_t *uuid = open_question(q);

        if (!uuid || libvirt_handle_state(q->libvirt) == LIBVIRT_OFF) {
                finish(q);
                return;
        }
        /* A process of a domain waits for the connection to libvirt, until the deadline. */
        if (q->asked || libvirt_handle_state(q->libvirt) != LIBVIRT_CONNECTED)
                return;
        if (libvirt_handle_query(q->libvirt, uuid) < 0) {
                finish(q);
                return;
        }
        q->asked = true;
        memcpy(q->asked_uuid, uuid, sizeof(q->asked_uuid));
}

void identity_query_told(struct identity_query *q, const uint8_t *uuid) {
        if (!q || q->machine || q->step)
                return;
        if (!uuid) {
                /* Another connection knows nothing of the question. */
                q->asked = false;
                look(q);
        } else if (q->asked && same_uuid(uuid, q->asked_uuid)) {
                q->told = true;
                look(q);
        }
}

/* ---- machined ---- */

static void on_machine(void *userdata, const struct machine *m) {
        struct identity_query *q = userdata;

        q->machine = machine_query_free(q->machine);
        q->identity.kind = m->kind == MACHINE_LIBVIRT ? IDENTITY_LIBVIRT
                         : m->kind == MACHINE_NONE    ? IDENTITY_NONE
                                                      : IDENTITY_UNKNOWN;
        memcpy(q->identity.uuid, m->uuid, sizeof(q->identity.uuid));
        look(q);
}

static int on_step(sd_event_source *s, void *userdata) {
        struct identity_query *q = userdata;

        q->step = sd_event_source_disable_unref(q->step);
        look(q);
        return 0;
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        struct identity_query *q = userdata;

        log_notice("process %d: %s has not said in time which domain it is of", (int) q->pid,
                   q->machine ? "machined" : "libvirt");
        finish(q);
        return 0;
}

/* ---- For the broker ---- */

int identity_query_new(sd_event *event, sd_bus *bus, struct libvirt_handle *libvirt, pid_t pid,
                       const uint8_t uuid[16], identity_fn answer, void *userdata,
                       struct identity_query **ret) {
        struct identity_query *q;
        int r;

        q = calloc(1, sizeof(*q));
        if (!q)
                return -ENOMEM;
        q->libvirt = libvirt;
        q->pid = pid;
        memcpy(q->claimed, uuid, sizeof(q->claimed));
        q->answer = answer;
        q->userdata = userdata;
        r = sd_event_add_time_relative(event, &q->deadline, CLOCK_MONOTONIC, IDENTITY_USEC, 0,
                                       on_deadline, q);
        /* Without a bus that works, machined has no word. */
        if (r >= 0 &&
            (!bus || machine_query_new(bus, pid, IDENTITY_USEC, on_machine, q, &q->machine) < 0))
                r = sd_event_add_defer(event, &q->step, on_step, q);
        if (r < 0) {
                (void) identity_query_free(q);
                return r;
        }
        *ret = q;
        return 0;
}

struct identity_query *identity_query_free(struct identity_query *q) {
        if (!q)
                return NULL;
        (void) machine_query_free(q->machine);
        sd_event_source_disable_unref(q->step);
        sd_event_source_disable_unref(q->deadline);
        free(q);
        return NULL;
}

int identity_check(const struct identity *i, const uint8_t uuid[16], const char **ret_why) {
        if (i->kind != IDENTITY_LIBVIRT || same_uuid(i->uuid, uuid))
                return 0;
        *ret_why = "the process belongs to a libvirt domain of another UUID";
        return -EPERM;
}
