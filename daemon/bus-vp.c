/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "daemon/bus-internal.h"
#include "util/util.h"
#include "vtl/hvdef.h"

/* ---- Properties ---- */

#define VP(field) control_read(partition_vp(o->partition, o->index)->field)

BUS_GETTER_U32(get_index, struct partition_vp, o->index)
BUS_GETTER_U32(get_apic_id, struct partition_vp, o->partition->apic_ids[o->index])
BUS_GETTER_U32(get_active_vtl, struct partition_vp, VP(active_vtl))
BUS_GETTER_U32(get_enabled_vtls, struct partition_vp, VP(enabled_vtls))
BUS_GETTER_U32(get_suspended_vtls, struct partition_vp, VP(suspended_vtls))
BUS_GETTER_U32(get_pending_vtls, struct partition_vp, VP(pending_vtls))
/* HvRegisterVsmVina */
BUS_GETTER_BOOL(get_vina_enabled, struct partition_vp, VP(vina) & HV_VINA_ENABLED)
BUS_GETTER_BOOL(get_halted, struct partition_vp, VP(halted))
BUS_GETTER_U64(get_vtl_calls, struct partition_vp, VP(stats.vtl_calls))
BUS_GETTER_U64(get_vtl_returns, struct partition_vp, VP(stats.vtl_returns))
BUS_GETTER_U64(get_fast_switches, struct partition_vp, VP(stats.fast_switches))
BUS_GETTER_U64(get_interrupt_entries, struct partition_vp, VP(stats.interrupt_entries))
BUS_GETTER_U64(get_hypercalls, struct partition_vp, VP(stats.hypercalls))
BUS_GETTER_U64(get_intercepts, struct partition_vp, VP(stats.intercepts))
BUS_GETTER_U64(get_engine_exits, struct partition_vp, VP(stats.engine_exits))
BUS_GETTER_U64(get_vcpu_ioctls, struct partition_vp, VP(stats.vcpu_ioctls))

static const sd_bus_vtable vp_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Index", "u", get_index, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("ApicId", "u", get_apic_id, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("EnabledVtls", "u", get_enabled_vtls, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        /* These change with every call of the guest: read them when you want them. */
        SD_BUS_PROPERTY("ActiveVtl", "u", get_active_vtl, 0, 0),
        SD_BUS_PROPERTY("SuspendedVtls", "u", get_suspended_vtls, 0, 0),
        SD_BUS_PROPERTY("PendingEventVtls", "u", get_pending_vtls, 0, 0),
        SD_BUS_PROPERTY("VinaEnabled", "b", get_vina_enabled, 0, 0),
        SD_BUS_PROPERTY("Halted", "b", get_halted, 0, 0),
        SD_BUS_PROPERTY("VtlCalls", "t", get_vtl_calls, 0, 0),
        SD_BUS_PROPERTY("VtlReturns", "t", get_vtl_returns, 0, 0),
        SD_BUS_PROPERTY("FastSwitches", "t", get_fast_switches, 0, 0),
        SD_BUS_PROPERTY("InterruptEntries", "t", get_interrupt_entries, 0, 0),
        SD_BUS_PROPERTY("Hypercalls", "t", get_hypercalls, 0, 0),
        SD_BUS_PROPERTY("Intercepts", "t", get_intercepts, 0, 0),
        SD_BUS_PROPERTY("EngineExits", "t", get_engine_exits, 0, 0),
        SD_BUS_PROPERTY("VcpuIoctls", "t", get_vcpu_ioctls, 0, 0),
        SD_BUS_SIGNAL_WITH_ARGS("VtlEnabled", SD_BUS_ARGS("u", vtl), 0),
        SD_BUS_VTABLE_END,
};

/* ---- Objects ---- */

static int find_vp(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                   sd_bus_error *error) {
        _cleanup_free_ char *uuid = NULL, *number = NULL, *canonical = NULL;
        struct partition *p;
        unsigned long index;
        char *end;
        int r;

        r = sd_bus_path_decode_many(path, BUS_PARTITIONS "/%/vp/%", &uuid, &number);
        if (r <= 0)
                return r;
        p = bus_lookup(userdata, uuid);
        index = strtoul(number, &end, 10);
        if (!p || *end || index >= p->vps)
                return 0;
        canonical = bus_vp_path(p, (unsigned) index);
        if (!canonical || strcmp(path, canonical) != 0)
                return 0;
        *ret = &p->vp_objects[index];
        return 1;
}

static size_t add_paths(char **paths, const struct partition *p) {
        size_t n = 0;

        for (unsigned i = 0; i < p->vps; i++) {
                paths[n] = bus_vp_path(p, i);
                if (paths[n])
                        n++;
        }
        return n;
}

static int list_vps(sd_bus *bus, const char *prefix, void *userdata, char ***ret,
                    sd_bus_error *error) {
        struct bus *b = userdata;
        struct partition *p, *next;
        size_t room = 1, n = 0;
        char **paths;

        HASH_ITER(hh, b->broker->partitions, p, next)
                room += p->vps;
        paths = calloc(room, sizeof(*paths));
        if (!paths)
                return -ENOMEM;
        HASH_ITER(hh, b->broker->partitions, p, next)
                n += add_paths(paths + n, p);
        *ret = paths;
        return 1;
}

int bus_register_vps(struct bus *bus) {
        int r;

        r = sd_bus_add_fallback_vtable(bus->bus, NULL, BUS_PARTITIONS, BUS_VP_INTERFACE, vp_vtable,
                                       find_vp, bus);
        if (r >= 0)
                r = sd_bus_add_node_enumerator(bus->bus, NULL, BUS_PARTITIONS, list_vps, bus);
        return r;
}

void bus_emit_vp_vtl_enabled(struct partition *p, unsigned vp, unsigned vtl) {
        _cleanup_free_ char *path = bus_vp_path(p, vp);

        if (bus_of(p) && path)
                (void) sd_bus_emit_signal(bus_of(p), path, BUS_VP_INTERFACE, "VtlEnabled", "u",
                                          (uint32_t) vtl);
}
