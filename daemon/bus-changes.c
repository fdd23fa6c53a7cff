/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bus-internal.h"
#include "util/util.h"

/*
 * PropertiesChanged, coalesced: somebody says that something may have changed; at most ten signals
 * a second per partition, its VPs included, tell what has, compared with what was told last.
 */

#define INTERVAL_USEC (100u * 1000)

static bool anything_left(const struct partition *p) {
        return p->changes.partition || p->changes.vps;
}

/* The announced properties of a partition, in the order of struct announced */
static const char *const announced_names[] = {
        "State",
        "WorkerPid",
        "PolicyName",
        "Vtl1Allowed",
        "EnabledVtls",
        "ProtectionEnabled",
        "PartitionConfig",
        "LibvirtDomain",
        "LibvirtPolicy",
        "MeasurementState",
        "MeasurementDigest",
        "Unenforced",
        "UnenforcedCrIntercepts",
};

struct announced {
        uint64_t values[ARRAY_SIZE(announced_names)];
};
_Static_assert(sizeof(struct announced) == sizeof(((struct partition_changes *) NULL)->announced),
               "there is room for every announced property");

/* Texts are told apart by a number: they change seldom, and not by their reader's hand. */
static uint64_t text_number(const char *s) {
        uint64_t h = 14695981039346656037u; /* FNV-1a */

        for (; *s; s++)
                h = (h ^ (uint8_t) *s) * 1099511628211u;
        return h;
}

static struct announced current(const struct partition *p) {
        const struct vtl_control_header *h = partition_header(p);
        char digest[MEASURE_DIGEST_TEXT_SIZE];

        return (struct announced){ {
                (uint64_t) p->state,
                (uint64_t) p->worker_pid,
                text_number(p->decision.name),
                p->decision.allow_vtl1,
                control_read(h->enabled_vtls),
                !!control_read(h->protection_enabled),
                control_read(h->partition_config),
                text_number(p->libvirt.domain),
                text_number(p->libvirt.policy),
                p->measurement.state,
                text_number(measurement_text(&p->measurement, digest)),
                control_read(h->unenforced),
                control_read(h->unenforced_cr),
        } };
}

/* True when there was something to tell */
static bool emit_partition(struct partition *p) {
        char *names[ARRAY_SIZE(announced_names) + 1];
        const struct announced now = current(p);
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(announced_names); i++)
                if (now.values[i] != p->changes.announced[i])
                        names[n++] = (char *) announced_names[i];
        names[n] = NULL;
        memcpy(p->changes.announced, now.values, sizeof(now.values));
        if (n > 0 && bus_of(p) && p->bus_path)
                (void) sd_bus_emit_properties_changed_strv(bus_of(p), p->bus_path,
                                                           BUS_PARTITION_INTERFACE, names);
        return n > 0;
}

static bool emit_vp(struct partition *p, unsigned vp) {
        _cleanup_free_ char *path = bus_vp_path(p, vp);
        uint32_t now = control_read(partition_vp(p, vp)->enabled_vtls);

        if (now == p->changes.announced_vps[vp])
                return false;
        p->changes.announced_vps[vp] = now;
        if (bus_of(p) && path)
                (void) sd_bus_emit_properties_changed(bus_of(p), path, BUS_VP_INTERFACE,
                                                      "EnabledVtls", NULL);
        return true;
}

/* One signal, or none when nothing has really changed */
static void emit_next(struct partition *p) {
        struct partition_changes *c = &p->changes;
        bool told = false;

        if (c->partition) {
                c->partition = false;
                told = emit_partition(p);
        }
        while (!told && c->vps) {
                unsigned vp = (unsigned) __builtin_ctzll(c->vps);

                c->vps &= c->vps - 1;
                told = emit_vp(p, vp);
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
        /* The first change after a while is told as soon as what happens at once with it has
         * happened. */
        due = c->last_usec + INTERVAL_USEC;
        if (c->timer) {
                r = sd_event_source_set_time(c->timer, due);
                if (r >= 0)
                        r = sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
        } else
                r = sd_event_add_time(p->broker->event, &c->timer, CLOCK_MONOTONIC, due, 1,
                                      on_timer, p);
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

void bus_changes_begin(struct partition *p) {
        const struct announced now = current(p);

        memcpy(p->changes.announced, now.values, sizeof(now.values));
        for (unsigned i = 0; i < p->vps; i++)
                p->changes.announced_vps[i] = control_read(partition_vp(p, i)->enabled_vtls);
}

void bus_changes_done(struct partition *p) {
        p->changes.timer = sd_event_source_disable_unref(p->changes.timer);
        p->changes.partition = false;
        p->changes.vps = 0;
}
