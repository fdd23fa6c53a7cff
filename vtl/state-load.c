/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The blob may be an enemy's. All of it is read into a shadow of the partition and checked, alone
 * and against each other, before the first change.
 */

#include "util/util.h"
#include "vtl/clock.h"
#include "vtl/engine.h"
#include "vtl/intercept.h"
#include "vtl/memory.h"
#include "vtl/overlay.h"
#include "vtl/reference-time.h"
#include "vtl/state-loading.h"
#include "vtl/state.h"

#define STORE_LEN_MAX 8u
#define RUN_GPN_MASK ((1ull << 52) - 1)

static void loading_free(struct state_loading *l) {
        free(l->partition);
        free(l->vps);
        protect_map_free(l->protect);
        protect_map_free(l->strict);
        free(l->msrs);
        free(l->ports);
        free(l->pages);
        for (size_t i = 0; i < _STATE_KIND_MAX; i++)
                free(l->seen[i]);
}

/* How many sections of a kind there may be */
static uint32_t instances(const struct vtl_partition *p, enum state_kind kind) {
        switch (kind) {
        case STATE_VP:
        case STATE_APIC:
        case STATE_STORES:
                return p->n_vps;
        case STATE_VTL:
        case STATE_MESSAGES:
                return p->n_vps * VTL_MAX_VTLS;
        case STATE_OVERLAY:
                return vtl_overlay_pages(p->n_vps);
        default:
                return 1;
        }
}

static bool is_optional(enum state_kind kind) {
        return kind == STATE_MESSAGES || kind == STATE_STORES || kind == STATE_OVERLAY ||
               kind == STATE_MSRS || kind == STATE_PORTS || kind == STATE_STRICT;
}

static int loading_init(struct state_loading *l, struct vtl_partition *p) {
        _cleanup_free_ struct protect_region *regions = calloc(p->n_regions, sizeof(*regions));
        int r;

        l->p = p;
        l->partition = calloc(1, sizeof(*l->partition));
        l->vps = calloc(p->n_vps, sizeof(*l->vps));
        l->msrs = calloc(1, sizeof(*l->msrs));
        l->ports = calloc(1, sizeof(*l->ports));
        l->pages = calloc(vtl_overlay_pages(p->n_vps), sizeof(*l->pages));
        if (!regions || !l->partition || !l->vps || !l->msrs || !l->ports || !l->pages)
                return -ENOMEM;
        for (size_t i = 0; i < _STATE_KIND_MAX; i++) {
                l->seen[i] = calloc(instances(p, (enum state_kind) i), 1);
                if (!l->seen[i])
                        return -ENOMEM;
        }
        for (size_t i = 0; i < p->n_regions; i++)
                regions[i] = (struct protect_region){ p->regions[i].gpa >> HV_PAGE_SHIFT,
                                                      p->regions[i].size >> HV_PAGE_SHIFT };
        r = protect_map_new(&l->protect, regions, p->n_regions);
        if (r == 0 && p->strict)
                r = protect_map_new(&l->strict, regions, p->n_regions);
        return r;
}

/* ---- Sections ---- */

static int load_shape(struct state_loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        const struct vtl_partition *p = l->p;
        size_t fixed = state_size(STATE_SHAPE), ids = p->n_vps * sizeof(*p->apic_ids);
        struct state_shape here, there;

        state_shape_of(p, &here);
        if (size < fixed)
                return -EBADMSG;
        memset(&there, 0, sizeof(there));
        if (state_unpack(STATE_SHAPE, &there, data) < 0)
                return -EBADMSG;
        if (there.vps != here.vps || there.n_regions != here.n_regions ||
            there.phys_bits != here.phys_bits || there.hypercall_page != here.hypercall_page ||
            there.tsc_khz != here.tsc_khz || there.kernel_apic_msrs != here.kernel_apic_msrs ||
            there.kernel_hypercalls != here.kernel_hypercalls ||
            there.kernel_synic != here.kernel_synic)
                return -EXDEV;
        if (size != fixed + ids + p->n_regions * 2 * sizeof(uint64_t))
                return -EBADMSG;
        data += fixed;
        if (memcmp(data, p->apic_ids, ids) != 0)
                return -EXDEV;
        data += ids;
        for (size_t i = 0; i < p->n_regions; i++, data += 2 * sizeof(uint64_t)) {
                const uint64_t region[2] = { p->regions[i].gpa, p->regions[i].size };

                if (memcmp(data, region, sizeof(region)) != 0)
                        return -EXDEV;
        }
        return 0;
}

static int load_partition(struct state_loading *l, uint32_t index, const uint8_t *data,
                          uint64_t size) {
        return state_unpack(STATE_PARTITION, l->partition, data);
}

static int load_extra(struct state_loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        return state_unpack(STATE_EXTRA, &l->extra, data);
}

static int load_vp(struct state_loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        return state_unpack(STATE_VP, &l->vps[index], data);
}

static int load_apic(struct state_loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        return state_unpack(STATE_APIC, &l->vps[index].vp.lapic, data);
}

static struct vtl_vp_vtl *vtl_of(struct state_loading *l, uint32_t index) {
        return &l->vps[index / VTL_MAX_VTLS].vp.vtl[index % VTL_MAX_VTLS];
}

static int load_vtl(struct state_loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        return state_unpack(STATE_VTL, vtl_of(l, index), data);
}

static int load_messages(struct state_loading *l, uint32_t index, const uint8_t *data,
                         uint64_t size) {
        struct vtl_synic *s = &vtl_of(l, index)->synic;
        uint64_t n = size / sizeof(struct state_message);

        if (size % sizeof(struct state_message) || n == 0 || n > VTL_MESSAGES_MAX)
                return -EBADMSG;
        for (s->n_messages = 0; s->n_messages < n; s->n_messages++) {
                struct state_message m;

                memcpy(&m, data + s->n_messages * sizeof(m), sizeof(m));
                if (m.sint >= HV_SINT_COUNT || m.reserved ||
                    m.message.message_type == HV_MESSAGE_NONE ||
                    m.message.payload_size > sizeof(m.message.payload))
                        return -EBADMSG;
                s->messages[s->n_messages].sint = (uint8_t) m.sint;
                s->messages[s->n_messages].message = m.message;
        }
        return 0;
}

static int load_stores(struct state_loading *l, uint32_t index, const uint8_t *data,
                       uint64_t size) {
        struct vtl_vp *vp = &l->vps[index].vp;
        uint64_t store[3], n = size / sizeof(store);

        if (size % sizeof(store) || n == 0 || n > VTL_PENDING_STORES)
                return -EBADMSG;
        for (vp->n_stores = 0; vp->n_stores < n; vp->n_stores++) {
                memcpy(store, data + vp->n_stores * sizeof(store), sizeof(store));
                if (store[2] == 0 || store[2] > STORE_LEN_MAX ||
                    !vtl_memory_is_ram(l->p, store[0] >> HV_PAGE_SHIFT))
                        return -EBADMSG;
                vp->stores[vp->n_stores] = (struct vtl_pending_store){ .gpa = store[0],
                                                                       .data = store[1],
                                                                       .len = (uint32_t) store[2] };
        }
        return 0;
}

static int load_overlay(struct state_loading *l, uint32_t index, const uint8_t *data,
                        uint64_t size) {
        l->pages[index] = data;
        return size == HV_PAGE_SIZE ? 0 : -EBADMSG;
}

/* Ascending, none beside its like: the only form that is written. */
static int load_runs(struct protect_map *map, const uint8_t *data, uint64_t size) {
        struct state_run run;
        uint64_t next = 0;

        if (size % sizeof(run))
                return -EBADMSG;
        for (uint64_t i = 0; i < size / sizeof(run); i++) {
                uint64_t gpn;
                int r;

                memcpy(&run, data + i * sizeof(run), sizeof(run));
                gpn = run.gpn_and_mask & RUN_GPN_MASK;
                if (run.gpn_and_mask >> 52 & 0xff || gpn < next || run.count == 0)
                        return -EBADMSG;
                r = protect_set_range(map, gpn, run.count,
                                      (unsigned) (run.gpn_and_mask >> STATE_RUN_MASK_SHIFT));
                if (r < 0)
                        return r == -ENOMEM ? r : -EBADMSG;
                next = gpn + run.count;
        }
        return 0;
}

static int load_protect(struct state_loading *l, uint32_t index, const uint8_t *data,
                        uint64_t size) {
        return load_runs(l->protect, data, size);
}

/* What was kept from being executed there is kept from it here. */
static int load_strict(struct state_loading *l, uint32_t index, const uint8_t *data,
                       uint64_t size) {
        return l->strict ? load_runs(l->strict, data, size) : -EPERM;
}

static int load_msrs(struct state_loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        if (size != sizeof(*l->msrs))
                return -EBADMSG;
        memcpy(l->msrs, data, sizeof(*l->msrs));
        return 0;
}

static int load_ports(struct state_loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        if (size != sizeof(*l->ports))
                return -EBADMSG;
        memcpy(l->ports, data, sizeof(*l->ports));
        return 0;
}

static int (*const loaders[_STATE_KIND_MAX])(struct state_loading *l, uint32_t index,
                                             const uint8_t *data, uint64_t size) = {
        [STATE_SHAPE] = load_shape,       [STATE_PARTITION] = load_partition,
        [STATE_EXTRA] = load_extra,       [STATE_VP] = load_vp,
        [STATE_APIC] = load_apic,         [STATE_VTL] = load_vtl,
        [STATE_MESSAGES] = load_messages, [STATE_STORES] = load_stores,
        [STATE_OVERLAY] = load_overlay,   [STATE_PROTECT] = load_protect,
        [STATE_MSRS] = load_msrs,         [STATE_PORTS] = load_ports,
        [STATE_STRICT] = load_strict,
};

static int load_section(struct state_loading *l, const struct blob_section *s,
                        const uint8_t *data) {
        size_t kind = 0;

        while (kind < _STATE_KIND_MAX && state_tables[kind].id != s->id)
                kind++;
        if (kind == _STATE_KIND_MAX)
                return -EPROTONOSUPPORT;
        if (s->version != state_tables[kind].version)
                return -EPROTONOSUPPORT;
        /* The shape comes first: the rest is sized by it. */
        if (kind != STATE_SHAPE && !l->seen[STATE_SHAPE][0])
                return -EBADMSG;
        if (s->index >= instances(l->p, (enum state_kind) kind) || l->seen[kind][s->index])
                return -EBADMSG;
        if (kind != STATE_SHAPE && state_tables[kind].fields &&
            s->size != state_size((enum state_kind) kind))
                return -EBADMSG;
        l->seen[kind][s->index] = 1;
        return loaders[kind](l, s->index, data, s->size);
}

static int load_sections(struct state_loading *l, const void *data, size_t size) {
        struct blob_reader reader;
        struct blob_section s;
        const uint8_t *content;
        int r;

        r = blob_read(&reader, data, size, VTL_STATE_MAGIC);
        while (r == 0) {
                r = blob_next(&reader, &s, &content);
                if (r <= 0)
                        break;
                r = load_section(l, &s, content);
        }
        for (size_t kind = 0; r == 0 && kind < _STATE_KIND_MAX; kind++)
                for (uint32_t i = 0; i < instances(l->p, (enum state_kind) kind); i++)
                        if (!l->seen[kind][i] && !is_optional((enum state_kind) kind))
                                return -EBADMSG;
        return r;
}

/* ---- Taking it over ---- */

static void take_fields(struct state_loading *l) {
        const struct vtl_partition *n = l->partition;
        struct vtl_partition *p = l->p;

        p->enabled_vtls = n->enabled_vtls;
        p->measured = n->enabled_vtls & 2u; /* it is too late for it */
        p->vp_vtl1_enabled = n->vp_vtl1_enabled;
        p->mbec = n->mbec;
        p->partition_config = n->partition_config;
        memcpy(p->guest_os_id, n->guest_os_id, sizeof(p->guest_os_id));
        memcpy(p->hypercall_msr, n->hypercall_msr, sizeof(p->hypercall_msr));
        memcpy(p->tsc_msr, n->tsc_msr, sizeof(p->tsc_msr));
        p->tsc_scale = n->tsc_scale;
        p->tsc_offset = n->tsc_offset;
        p->tsc_sequence = n->tsc_sequence;
        p->kernel_stopped = n->kernel_stopped;
        for (unsigned i = 0; i < p->n_vps; i++) {
                struct vtl_vp *vp = &l->vps[i].vp;

                vp->partition = p;
                vp->ctl = p->vps[i].ctl;
                vp->index = i;
                vp->apic_id = p->vps[i].apic_id;
                vp->clock_set = VTL_CLOCK_NEVER;
                p->vps[i] = *vp;
                vp->ctl->active_vtl = vp->active_vtl;
                vp->ctl->enabled_vtls = vp->enabled_vtls;
                vp->ctl->vina = vp->vina;
                vp->ctl->suspended_vtls = l->vps[i].suspended_vtls;
                vp->ctl->vtl1_cr8 = l->vps[i].vtl1_cr8;
        }
}

static void take_header(struct state_loading *l) {
        struct vtl_partition *p = l->p;
        struct vtl_control_header *h = p->header;

        h->enabled_vtls = p->enabled_vtls;
        h->protection_enabled = protect_enabled(p->protect);
        h->partition_config = p->partition_config;
        h->protected_pages = protect_restricted(p->protect);
        h->strict_pages = p->strict ? protect_restricted(p->strict) : 0;
        memcpy(h->guest_os_id, p->guest_os_id, sizeof(h->guest_os_id));
        h->unenforced = l->extra.unenforced;
        h->unenforced_cr = l->extra.unenforced_cr;
        memcpy(h->crash, l->extra.crash, sizeof(h->crash));
        h->crash_vtl = l->extra.crash_vtl;
        h->crashes = l->extra.crashes;
}

static int take_overlays(struct state_loading *l) {
        struct vtl_partition *p = l->p;
        struct state_mapped m;

        for (uint32_t page = 0; page < vtl_overlay_pages(p->n_vps); page++)
                if (l->pages[page])
                        memcpy(vtl_overlay_data(p, page), l->pages[page], HV_PAGE_SIZE);
        for (unsigned i = 0; state_mapped_page(l, i, &m); i++) {
                int r = m.msr & HV_MSR_PAGE_ENABLE ? vtl_overlay_set(&p->vps[m.vp], m.vtl, m.kind,
                                                                     true, HV_MSR_PAGE_GPN(m.msr))
                                                   : 0;

                if (r != 0) /* it has been checked that the guest may */
                        return r < 0 ? r : -ENOMEM;
        }
        return 0;
}

static int take_memory(struct state_loading *l) {
        struct vtl_partition *p = l->p;

        protect_map_free(p->protect);
        p->protect = TAKE_PTR(l->protect);
        protect_map_free(p->strict);
        p->strict = TAKE_PTR(l->strict);
        return vtl_protect_apply(p);
}

static int take_intercepts(struct state_loading *l) {
        struct vtl_partition *p = l->p;
        int r;

        p->intercepts.installed_msrs = *l->msrs;
        r = vtl_intercept_refresh(p);
        if (r == 0 && l->seen[STATE_PORTS][0]) {
                p->intercepts.ports = *l->ports;
                r = vtl_op(p, filter_ports, &p->intercepts.ports);
        }
        return r;
}

/* The guest's TSC is the first VP's in VTL0, which the VMM has restored before. */
static int take_time(struct state_loading *l) {
        struct vtl_partition *p = l->p;
        int r;

        p->epoch_100ns = vtl_host_time(p) - l->extra.reference_time;
        if (!l->partition->tsc_known)
                return 0;
        r = vtl_tsc_learn(p, 0);
        if (r < 0)
                return r;
        p->tsc_known = true;
        return 0;
}

static int take_over(struct state_loading *l) {
        int r = take_time(l);

        if (r == 0) {
                take_fields(l);
                r = take_overlays(l);
        }
        if (r == 0)
                r = take_memory(l);
        if (r == 0)
                r = take_intercepts(l);
        if (r == 0)
                take_header(l);
        return r;
}

int vtl_state_load(struct vtl_partition *p, const void *data, size_t size) {
        _cleanup_(loading_free) struct state_loading l = { 0 };
        int r, e;

        if (!p->paused)
                return -EBUSY;
        r = loading_init(&l, p);
        if (r == 0)
                r = load_sections(&l, data, size);
        if (r == 0)
                r = state_check(&l);
        if (r < 0)
                return r;
        /* RAM is the VMM's to bring, and it may have done so already. */
        p->partition_config &= ~HV_VSM_ZERO_MEMORY_ON_RESET;
        r = vtl_state_reset(p);
        if (r < 0)
                return r;
        r = take_over(&l);
        if (r < 0) {
                p->partition_config &= ~HV_VSM_ZERO_MEMORY_ON_RESET;
                e = vtl_state_reset(p);
                if (e < 0)
                        return e;
        }
        return r;
}
