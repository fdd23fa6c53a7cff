/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Partition.ReadTrace. Who reads knows where it is; nothing about it is kept here but when the
 * worker was last told that somebody does. The records are in memory that the VMM writes to.
 */

#include "daemon/bus-internal.h"
#include "daemon/polkit.h"
#include "daemon/worker-handle.h"
#include "util/util.h"
#include "vtl/trace.h"

#define EVENTS_MAX 1024u /* of one call, all VPs together */
#define RENEW_NS UINT64_C(1000000000)

#define POSITION_NONE UINT64_MAX /* this VP is not read */

struct reading {
        struct partition *p;
        const uint64_t *positions;
        uint64_t next[VTL_ATTACH_VPS_MAX];
        uint64_t lost[VTL_ATTACH_VPS_MAX];
        uint64_t rejected;
        struct vtl_trace_event events[EVENTS_MAX];
};

static int append_event(sd_bus_message *reply, unsigned vp, const struct vtl_trace_event *e) {
        return sd_bus_message_append(reply, "(utyyyqtt)", (uint32_t) vp, e->time, e->kind, e->from,
                                     e->to, e->detail, e->data, e->extra);
}

static int append_vp(sd_bus_message *reply, struct reading *g, unsigned vp, size_t max) {
        struct vtl_trace_result t;
        int r = 0;

        if (g->positions[vp] == POSITION_NONE) {
                g->next[vp] = POSITION_NONE;
                return 0;
        }
        t = vtl_trace_read(&partition_vp(g->p, vp)->trace, g->positions[vp], g->events, max);
        g->next[vp] = t.next;
        g->lost[vp] = t.lost;
        g->rejected += t.rejected;
        for (size_t i = 0; i < t.n && r >= 0; i++)
                r = append_event(reply, vp, &g->events[i]);
        return r;
}

/* Each VP that is read has the same room. */
static int append_events(sd_bus_message *reply, struct reading *g) {
        unsigned n = 0;
        int r = 0;

        for (unsigned vp = 0; vp < g->p->vps; vp++)
                n += g->positions[vp] != POSITION_NONE;
        for (unsigned vp = 0; vp < g->p->vps && r >= 0; vp++)
                r = append_vp(reply, g, vp, EVENTS_MAX / MAX(n, 1u));
        return r;
}

static int append_array(sd_bus_message *reply, const uint64_t *values, unsigned n) {
        return sd_bus_message_append_array(reply, 't', values, n * sizeof(values[0]));
}

static int fill(sd_bus_message *reply, struct reading *g, bool begin) {
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(utyyyqtt)");
        if (r >= 0 && !begin)
                r = append_events(reply, g);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        for (unsigned vp = 0; begin && vp < g->p->vps; vp++)
                g->next[vp] = atomic_load_explicit(&partition_vp(g->p, vp)->trace.next,
                                                   memory_order_relaxed);
        if (r >= 0)
                r = append_array(reply, g->next, g->p->vps);
        if (r >= 0)
                r = append_array(reply, g->lost, g->p->vps);
        return r < 0 ? r : sd_bus_message_append(reply, "t", g->rejected);
}

static int renew(struct partition *p) {
        uint64_t now = monotonic_ns();
        int r;

        if (!p->worker || (p->trace_renewed != 0 && now - p->trace_renewed < RENEW_NS))
                return 0;
        r = worker_handle_trace(p->worker);
        if (r == 0)
                p->trace_renewed = now;
        return r == -EAGAIN ? 0 : r; /* it is busy: the next time */
}

static int read_trace(struct bus *bus, sd_bus_message *m, sd_bus_error *error) {
        struct partition *p = bus_partition_of(bus, m);
        _cleanup_free_ struct reading *g = NULL;
        sd_bus_message *reply = NULL;
        const void *positions;
        size_t size;
        int r;

        if (!p)
                return sd_bus_error_set(error, BUS_ERROR_NO_SUCH_PARTITION, "The VM is gone.");
        r = sd_bus_message_read_array(m, 't', &positions, &size);
        if (r < 0)
                return r;
        if (size != 0 && size != p->vps * sizeof(uint64_t))
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                         "There are %u VPs, and not %zu.", p->vps,
                                         size / sizeof(uint64_t));
        g = calloc(1, sizeof(*g));
        if (!g)
                return -ENOMEM;
        g->p = p;
        g->positions = positions;
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = fill(reply, g, size == 0);
        /* Afterwards, so that what is written from then on is after the beginning. */
        if (r >= 0)
                r = renew(p);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        (void) sd_bus_message_unref(reply);
        return r;
}

int bus_method_read_trace(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct partition *p = userdata;

        return polkit_authorize(p->broker->bus, m, POLKIT_INSPECT, read_trace, error);
}
