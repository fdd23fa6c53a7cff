/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Partition.GetProtections */

#include "daemon/bus-ask.h"
#include "daemon/polkit.h"
#include "daemon/worker-handle.h"
#include "daemon/worker-map.h"
#include "util/util.h"

static int make_reply(sd_bus_message *m, const struct worker_map_run *runs, size_t n, uint64_t next,
                      sd_bus_message **ret) {
        int r;

        r = sd_bus_message_new_method_return(m, ret);
        if (r >= 0)
                r = sd_bus_message_open_container(*ret, 'a', "(ttu)");
        for (size_t i = 0; i < n && r >= 0; i++)
                r = sd_bus_message_append(*ret, "(ttu)", runs[i].gpn, runs[i].count, runs[i].mask);
        if (r >= 0)
                r = sd_bus_message_close_container(*ret);
        if (r >= 0)
                r = sd_bus_message_append(*ret, "t", next);
        return r;
}

static int send_question(struct worker_handle *h, uint64_t token, const struct bus_question *q) {
        return worker_handle_ask_map(h, token, q->gpn);
}

void bus_map_answered(struct partition *p, const struct worker_map *m, size_t len) {
        const struct bus_question *q = bus_asked(p, m->token, send_question);
        sd_bus_message *reply = NULL;
        int r;

        if (!q)
                return;
        r = !worker_map_valid(m, len, q->gpn) ? -EBADMSG : m->error;
        if (r >= 0)
                r = make_reply(q->message, m->runs, m->n, m->next, &reply);
        if (r < 0)
                reply = sd_bus_message_unref(reply);
        bus_answer(p, reply, r);
}

static int get_protections(struct bus *bus, sd_bus_message *m, sd_bus_error *error) {
        struct partition *p = bus_partition_of(bus, m);
        struct bus_question q = { .send = send_question };
        int r;

        if (!p)
                return sd_bus_error_set(error, BUS_ERROR_NO_SUCH_PARTITION, "The VM is gone.");
        r = sd_bus_message_read(m, "t", &q.gpn);
        if (r < 0)
                return r;
        if (q.gpn >= HV_GPNS_END) {
                sd_bus_message *reply = NULL;

                r = make_reply(m, NULL, 0, UINT64_MAX, &reply);
                if (r >= 0)
                        r = sd_bus_send(NULL, reply, NULL);
                (void) sd_bus_message_unref(reply);
                return r;
        }
        return bus_ask(p, m, &q, error);
}

int bus_method_get_protections(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct partition *p = userdata;

        return polkit_authorize(p->broker->bus, m, POLKIT_INSPECT, get_protections, error);
}
