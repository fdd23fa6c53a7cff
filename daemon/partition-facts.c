/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bus.h"
#include "daemon/messages.h"
#include "daemon/partition.h"
#include "daemon/partition-facts.h"
#include "util/util.h"
#include "vtl/partition.h"

#define PER_SECOND 10u

unsigned partition_crash(const struct partition *p, uint64_t ret[HV_CRASH_PARAMETERS]) {
        const struct vtl_control_header *h = partition_header(p);
        bool all = control_read(h->crash_vtl) == 0 || p->decision.allow_register_read;

        if (control_read(h->crashes) == 0)
                return 0;
        for (unsigned i = 0; i < HV_CRASH_PARAMETERS; i++)
                ret[i] = control_read(h->crash[i]);
        return all ? HV_CRASH_PARAMETERS : 1;
}

static void on_protection_refused(struct partition *p, const struct worker_notice *n) {
        const struct vtl_control_header *h = partition_header(p);
        unsigned long long mappings = control_read(h->mappings);
        unsigned long long max = control_read(h->mappings_max);
        struct log_fields f = partition_log_fields(p);

        log_field(&f, "VTLD_VP", "%u", n->vp);
        log_field(&f, "VTLD_MAPPINGS", "%llu", mappings);
        log_field(&f, "VTLD_MAPPINGS_MAX", "%llu", max);
        log_event(LOG_WARNING, MESSAGE_PROTECTION_REFUSED, &f,
                  "VM %s: what VTL1 asked to protect would need more mappings than there are: %llu "
                  "of %llu are in use",
                  p->uuid_text, mappings, max);
        bus_emit_protection_refused(p, n->vp, mappings, max);
}

static void on_startup(struct partition *p, const struct worker_notice *n) {
        struct log_fields f = partition_log_fields(p);

        log_field(&f, "VTLD_VP", "%u", n->vp);
        log_field(&f, "VTLD_GPA", "0x%llx", (unsigned long long) n->data);
        log_field(&f, "VTLD_ACCESS", "startup");
        log_event(LOG_WARNING, MESSAGE_STARTUP_DETECTED, &f,
                  "VM %s: VTL0 of VP %u was started over at 0x%llx, which VTL1 had denied",
                  p->uuid_text, n->vp, (unsigned long long) n->data);
        bus_emit_secure_violation(p, n->vp, n->data, "startup");
}

static void on_crash(struct partition *p, const struct worker_notice *n) {
        unsigned vtl = n->data == 1;
        struct log_fields f = partition_log_fields(p);

        log_field(&f, "VTLD_VP", "%u", n->vp);
        log_field(&f, "VTLD_VTL", "%u", vtl);
        log_field(&f, "VTLD_CRASH", "0x%llx", (unsigned long long) n->gpa);
        log_event(LOG_ERR, MESSAGE_GUEST_CRASHED, &f,
                  "VM %s: VTL%u reports that it has crashed: 0x%llx", p->uuid_text, vtl,
                  (unsigned long long) n->gpa);
        bus_emit_guest_crashed(p, n->vp, vtl, n->gpa);
}

static const struct {
        unsigned event;
        void (*handle)(struct partition *p, const struct worker_notice *n);
} facts[] = {
        { VTL_EVENT_PROTECTION_REFUSED, on_protection_refused },
        { VTL_EVENT_STARTUP, on_startup },
        { VTL_EVENT_CRASH, on_crash },
};
_Static_assert(ARRAY_SIZE(facts) == ARRAY_SIZE(((struct partition *) NULL)->fact_limits),
               "each kind has its own limit");

void partition_fact(struct partition *p, const struct worker_notice *n) {
        for (size_t i = 0; i < ARRAY_SIZE(facts); i++)
                if (facts[i].event == n->what &&
                    log_ratelimit(&p->fact_limits[i], 1000, PER_SECOND))
                        facts[i].handle(p, n);
}
