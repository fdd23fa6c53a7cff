/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "daemon/broker.h"
#include "daemon/bus.h"
#include "daemon/connection.h"
#include "daemon/partition.h"
#include "util/log.h"
#include "util/util.h"

/* From the end of a domain to that of its VMM, which libvirt kills itself */
#define STOP_GRACE_USEC (5u * 1000 * 1000)

static const char *escaped(char buf[LIBVIRT_NAME_SIZE], const char *name) {
        return log_escape(buf, LIBVIRT_NAME_SIZE, name);
}

/* ---- Name and policy ---- */

static void take_words(struct partition *p, const struct domain *d) {
        (void) snprintf(p->libvirt.domain, sizeof(p->libvirt.domain), "%s", d->name);
        (void) snprintf(p->libvirt.policy, sizeof(p->libvirt.policy), "%s", d->policy);
}

const char *partition_libvirt_domain(const struct partition *p) {
        return p->libvirt.domain[0] ? p->libvirt.domain : NULL;
}

const char *partition_libvirt_policy(const struct partition *p) {
        return p->libvirt.policy[0] ? p->libvirt.policy : NULL;
}

static void log_policy(struct partition *p, const struct domain *d) {
        const char *when =
                p->state == PARTITION_ATTACHED ? "" : "; it counts when it attaches again";

        if (strcmp(d->policy, p->libvirt.policy) == 0 || !log_ratelimit(&p->log_limit, 1000, 10))
                return;
        if (d->policy[0])
                log_notice("VM %s: its domain's policy is \"%s\" now%s", p->uuid_text, d->policy,
                           when);
        else
                log_notice("VM %s: its domain has no policy any more%s", p->uuid_text, when);
}

/* ---- The end of a domain ---- */

static int on_grace(sd_event_source *s, uint64_t usec, void *userdata) {
        struct partition *p = userdata;

        connection_detach(p->connection, "its domain has stopped, and its VMM has not");
        return 0;
}

static bool runs(const struct domain *d) {
        return d && (d->state == DOMAIN_RUNNING || d->state == DOMAIN_PAUSED);
}

static void stopped(struct partition *p) {
        int r;

        /* A domain that is being started is not seen running before it is. */
        if (p->libvirt.run == 0 || p->libvirt.grace)
                return;
        log_info("VM %s: its domain has stopped", p->uuid_text);
        r = sd_event_add_time_relative(p->broker->event, &p->libvirt.grace, CLOCK_MONOTONIC,
                                       STOP_GRACE_USEC, 0, on_grace, p);
        if (r < 0)
                log_warning("VM %s: cannot wait for its VMM: %s", p->uuid_text, strerror(-r));
}

/* True when this partition is of an earlier run of its domain. */
static bool outlived(struct partition *p, const struct domain *d) {
        if (p->libvirt.run == 0) {
                p->libvirt.run = d->run;
                partition_stored_changed(p);
        }
        return p->libvirt.run != d->run;
}

void partition_domain_changed(struct partition *p, const struct domain *d) {
        if (!p->libvirt.bound)
                return;
        if (d) {
                log_policy(p, d);
                take_words(p, d);
                partition_stored_changed(p);
                partition_decide_again(p);
                bus_partition_changed(p);
        }
        if (!runs(d))
                stopped(p);
        else if (outlived(p, d))
                connection_detach(p->connection, "its domain runs again, in another VMM");
        else
                p->libvirt.grace = sd_event_source_disable_unref(p->libvirt.grace);
}

/* ---- Beginning and end ---- */

void partition_libvirt_begin(struct partition *p, const struct identity *i,
                             const struct domain *d) {
        char name[LIBVIRT_NAME_SIZE];

        p->libvirt.bound = i->kind == IDENTITY_LIBVIRT;
        if (!p->libvirt.bound) {
                if (d)
                        log_notice(
                                "VM %s: not known to be libvirt domain %s of this UUID, and not taken for it",
                                p->uuid_text, escaped(name, d->name));
                return;
        }
        if (!d) {
                log_notice("VM %s: of a libvirt domain whose name and policy are not known",
                           p->uuid_text);
                return;
        }
        take_words(p, d);
        /* An older word may be of the run before. */
        if (runs(d) && i->told)
                p->libvirt.run = d->run;
        log_info("VM %s: libvirt domain %s, policy \"%s\"", p->uuid_text, escaped(name, d->name),
                 d->policy);
}

void partition_libvirt_done(struct partition *p) {
        p->libvirt.grace = sd_event_source_disable_unref(p->libvirt.grace);
}
