/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bus-internal.h"
#include "util/util.h"

/*
 * PropertiesChanged, coalesced: what has changed is remembered, and at most ten signals a second per partition, its
 * VPs included, tell about it. A signal carries the values of the moment it is sent.
 */

#define INTERVAL_USEC (100u * 1000)

static bool anything_left(const struct partition *p) {
        return p->changes.partition || p->changes.vps;
}

static void emit_next(struct partition *p) {
        sd_bus *bus = bus_of(p);
        struct partition_changes *c = &p->changes;

        if (c->partition) {
                c->partition = false;
                if (bus && p->bus_path)
                        (void) sd_bus_emit_properties_changed(bus, p->bus_path, BUS_PARTITION_INTERFACE, "State",
                                                              "WorkerPid", "PolicyName", "Vtl1Allowed", "EnabledVtls",
                                                              "ProtectionEnabled", "PartitionConfig", NULL);
        } else if (c->vps) {
                unsigned vp = (unsigned) __builtin_ctzll(c->vps);
                _cleanup_free_ char *path = bus_vp_path(p, vp);

                c->vps &= c->vps - 1;
                if (bus && path)
                        (void) sd_bus_emit_properties_changed(bus, path, BUS_VP_INTERFACE, "EnabledVtls", NULL);
        }
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        struct partition *p = userdata;

        emit_next(p);
        (void) sd_event_now(p->broker->event, CLOCK_MONOTONIC, &p->changes.last_usec);
        if (anything_left(p)) {
                (void) sd_event_source_set_time(s, p->changes.last_usec + INTERVAL_USEC);
                (void) sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        }
        return 0;
}

static void arm(struct partition *p) {
        struct partition_changes *c = &p->changes;
        int enabled = SD_EVENT_OFF;
        uint64_t due;
        int r;

        if (c->timer)
                (void) sd_event_source_get_enabled(c->timer, &enabled);
        if (enabled != SD_EVENT_OFF)
                return;
        /* The first change after a while is told as soon as what happens at once with it has happened. */
        due = c->last_usec + INTERVAL_USEC;
        if (c->timer) {
                r = sd_event_source_set_time(c->timer, due);
                if (r >= 0)
                        r = sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
        } else
                r = sd_event_add_time(p->broker->event, &c->timer, CLOCK_MONOTONIC, due, 1, on_timer, p);
        if (r < 0)
                log_warning("VM %s: cannot announce a change: %s", p->uuid_text, strerror(-r));
}

void bus_partition_changed(struct partition *p) {
        p->changes.partition = true;
        arm(p);
}

void bus_vp_changed(struct partition *p, unsigned vp) {
        p->changes.vps |= UINT64_C(1) << vp;
        arm(p);
}

void bus_changes_done(struct partition *p) {
        p->changes.timer = sd_event_source_disable_unref(p->changes.timer);
        p->changes.partition = false;
        p->changes.vps = 0;
}
