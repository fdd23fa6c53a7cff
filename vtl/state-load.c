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
#include "vtl/state-fields.h"
#include "vtl/state.h"
#include "vtl/synic.h"

#define MSR_TSC 0x10
#define TSC_SAMPLES 4
#define APIC_PAGE 0xfee00000ull
#define STIMER_RESERVED 0xfffffffffff0e000ull
#define STORE_LEN_MAX 8u
#define RUN_GPN_MASK ((1ull << 52) - 1)

struct loading {
        struct vtl_partition *p;         /* what it is to become of */
        struct vtl_partition *partition; /* the shadow: fields of the tables only */
        struct state_vp *vps;
        struct state_extra extra;
        struct protect_map *protect;
        struct plane_msr_filter *msrs;
        struct plane_port_filter *ports;
        const uint8_t **pages; /* by page of the overlay memory, NULL: zeros */
        uint8_t *seen[_STATE_KIND_MAX];
};

static void loading_free(struct loading *l) {
        free(l->partition);
        free(l->vps);
        protect_map_free(l->protect);
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
               kind == STATE_MSRS || kind == STATE_PORTS;
}

static int loading_init(struct loading *l, struct vtl_partition *p) {
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
        return r;
}

/* ---- Sections ---- */

static int load_shape(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
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

static int load_partition(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        return state_unpack(STATE_PARTITION, l->partition, data);
}

static int load_extra(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        return state_unpack(STATE_EXTRA, &l->extra, data);
}

static int load_vp(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        return state_unpack(STATE_VP, &l->vps[index], data);
}

static int load_apic(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        return state_unpack(STATE_APIC, &l->vps[index].vp.lapic, data);
}

static struct vtl_vp_vtl *vtl_of(struct loading *l, uint32_t index) {
        return &l->vps[index / VTL_MAX_VTLS].vp.vtl[index % VTL_MAX_VTLS];
}

static int load_vtl(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        return state_unpack(STATE_VTL, vtl_of(l, index), data);
}

static int load_messages(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
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

static int load_stores(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
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

static int load_overlay(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        l->pages[index] = data;
        return size == HV_PAGE_SIZE ? 0 : -EBADMSG;
}

/* Ascending, none beside its like: the only form that is written. */
static int load_protect(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
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
                r = protect_set_range(l->protect, gpn, run.count,
                                      (unsigned) (run.gpn_and_mask >> STATE_RUN_MASK_SHIFT));
                if (r < 0)
                        return r == -ENOMEM ? r : -EBADMSG;
                next = gpn + run.count;
        }
        return 0;
}

static int load_msrs(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        if (size != sizeof(*l->msrs))
                return -EBADMSG;
        memcpy(l->msrs, data, sizeof(*l->msrs));
        return 0;
}

static int load_ports(struct loading *l, uint32_t index, const uint8_t *data, uint64_t size) {
        if (size != sizeof(*l->ports))
                return -EBADMSG;
        memcpy(l->ports, data, sizeof(*l->ports));
        return 0;
}

static int (*const loaders[_STATE_KIND_MAX])(struct loading *l, uint32_t index, const uint8_t *data,
                                             uint64_t size) = {
        [STATE_SHAPE] = load_shape,       [STATE_PARTITION] = load_partition,
        [STATE_EXTRA] = load_extra,       [STATE_VP] = load_vp,
        [STATE_APIC] = load_apic,         [STATE_VTL] = load_vtl,
        [STATE_MESSAGES] = load_messages, [STATE_STORES] = load_stores,
        [STATE_OVERLAY] = load_overlay,   [STATE_PROTECT] = load_protect,
        [STATE_MSRS] = load_msrs,         [STATE_PORTS] = load_ports,
};

static int load_section(struct loading *l, const struct blob_section *s, const uint8_t *data) {
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

static int load_sections(struct loading *l, const void *data, size_t size) {
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

/* ---- What has to fit together ---- */

static bool apic_is_sound(const struct lapic *a, const struct vtl_vp *vp) {
        uint64_t mode = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
        uint64_t bsp = vp->index == 0 ? LAPIC_BASE_BSP : 0;
        const uint32_t *const maps[] = { a->irr, a->isr, a->tmr, a->auto_eoi };

        if (a->id != vp->apic_id || (a->base_msr & ~mode) != (APIC_PAGE | bsp) ||
            (a->base_msr & mode) == LAPIC_BASE_X2APIC || (a->dfr & 0x0fffffff) != 0x0fffffff)
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
                if (maps[i][0] & 0xffff)
                        return false;
        return true;
}

static bool synic_is_sound(const struct vtl_synic *s) {
        struct vtl_synic scratch = { 0 };

        for (unsigned i = 0; i < HV_SINT_COUNT; i++)
                if (!vtl_synic_set_sint(&scratch, i, s->sint[i]))
                        return false;
        for (unsigned i = 0; i < VTL_STIMERS; i++)
                if (s->stimer[i].config & STIMER_RESERVED)
                        return false;
        return true;
}

static int check_vp(const struct loading *l, unsigned i) {
        const struct vtl_vp *vp = &l->vps[i].vp;
        const struct vtl_partition *n = l->partition;
        bool enabled = vp->enabled_vtls & 2u;

        if (!(vp->enabled_vtls & 1u) || (vp->enabled_vtls & ~n->enabled_vtls) ||
            (enabled && !n->vp_vtl1_enabled) ||
            (vp->active_vtl == 1 && (!enabled || vp->context_pending)) ||
            (vp->context_pending && !enabled) || ((vp->halted || vp->idle) && !enabled) ||
            (vp->start_pending && (i == 0 || !vp->started)) || (vp->tlb_locked && !enabled) ||
            (l->vps[i].suspended_vtls && vp->active_vtl != 1) || vp->lazy_eoi < -1 ||
            vp->lazy_eoi > 255 || (vp->lazy_eoi >= 0 && vp->lazy_eoi < 16) ||
            (vp->store_reported && vp->n_stores == 0) || (vp->secure_config && !n->mbec))
                return -EBADMSG;
        for (unsigned k = 0; k < 64; k++)
                if (vp->flush_waits >> k & 1 &&
                    (k == i || k >= l->p->n_vps || !l->vps[k].vp.tlb_locked))
                        return -EBADMSG;
        if (!apic_is_sound(&vp->lapic, &l->p->vps[i]))
                return -EBADMSG;
        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++)
                if (!synic_is_sound(&vp->vtl[vtl].synic))
                        return -EBADMSG;
        for (unsigned k = 0; k < ARRAY_SIZE(vp->vtl[0].cr_intercept); k++)
                if (vp->vtl[0].cr_intercept[k] || (vp->vtl[1].cr_intercept[k] && !enabled))
                        return -EBADMSG;
        return vtl_intercept_cr_possible(l->p, vp->vtl[1].cr_intercept[0]) ? 0 : -EPERM;
}

/* Protections follow from the configuration as in register_set_partition_config(). */
static int check_protections(struct loading *l) {
        uint64_t config = l->partition->partition_config;
        unsigned mask = (unsigned) (config >> HV_VSM_DEFAULT_MASK_SHIFT & HV_MAP_GPA_ALL);

        if (!(config & HV_VSM_ENABLE_VTL_PROTECTION))
                return protect_restricted(l->protect) == 0 ? 0 : -EBADMSG;
        if (!(l->partition->enabled_vtls & 2u) ||
            protect_mask_status(mask, l->partition->mbec) != HV_STATUS_SUCCESS ||
            (~mask & (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)))
                return -EBADMSG;
        protect_set_default(l->protect, mask);
        protect_enable(l->protect, true);
        return 0;
}

static int check_policy(const struct loading *l) {
        const struct vtl_partition *n = l->partition;
        const struct vtl_config *c = &l->p->config;

        /* What was saved was not measured here, and its first entry is over. */
        if (((n->enabled_vtls & 2u) && (!c->allow_vtl1 || c->measure_required)) ||
            (n->mbec && !c->options.accept_mbec) ||
            ((n->partition_config & HV_VSM_DENY_LOWER_VTL_STARTUP) &&
             !c->options.accept_startup_denial) ||
            ((l->extra.unenforced &
              (VTL_UNENFORCED_CPUID_INTERCEPT | VTL_UNENFORCED_PORT_INTERCEPT)) &&
             !c->options.accept_cr_intercepts))
                return -EPERM;
        return 0;
}

static int check_partition(const struct loading *l) {
        const struct vtl_partition *n = l->partition;

        if (!(n->enabled_vtls & 1u) || (!(n->enabled_vtls & 2u) && n->mbec) ||
            (n->partition_config && !(n->enabled_vtls & 2u)) ||
            (n->tsc_known && l->p->config.tsc_khz == 0) || (n->tsc_known && n->tsc_scale == 0))
                return -EBADMSG;
        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++)
                if ((n->hypercall_msr[vtl] & HV_MSR_PAGE_ENABLE) && n->guest_os_id[vtl] == 0)
                        return -EBADMSG;
        return 0;
}

/* ---- Overlay pages, which the MSRs name ---- */

struct mapped {
        unsigned vp, vtl;
        enum vtl_overlay_kind kind;
        uint64_t msr;
};

/* Number @i of all that there can be; false behind the last one */
static bool mapped_page(const struct loading *l, unsigned i, struct mapped *ret) {
        uint32_t of_partition = VTL_OVERLAYS_PARTITION, n = vtl_overlay_pages(l->p->n_vps);
        const struct vtl_vp_vtl *v;

        if (i >= n)
                return false;
        if (i < of_partition) {
                ret->vp = 0;
                ret->vtl = i % VTL_MAX_VTLS;
                ret->kind = (enum vtl_overlay_kind)(i / VTL_MAX_VTLS);
                ret->msr = ret->kind == VTL_OVERLAY_HYPERCALL
                                 ? l->partition->hypercall_msr[ret->vtl]
                                 : l->partition->tsc_msr[ret->vtl];
                return true;
        }
        i -= of_partition;
        ret->vp = i / VTL_OVERLAYS_PER_VP;
        ret->vtl = i % VTL_MAX_VTLS;
        ret->kind = (enum vtl_overlay_kind)(VTL_OVERLAY_ASSIST +
                                            i % VTL_OVERLAYS_PER_VP / VTL_MAX_VTLS);
        v = &l->vps[ret->vp].vp.vtl[ret->vtl];
        ret->msr = ret->kind == VTL_OVERLAY_ASSIST ? v->assist_msr
                 : ret->kind == VTL_OVERLAY_SIMP   ? v->synic.simp
                                                   : v->synic.siefp;
        return true;
}

static int check_overlays(const struct loading *l) {
        struct mapped a, b;

        for (unsigned i = 0; mapped_page(l, i, &a); i++) {
                uint64_t gpn = HV_MSR_PAGE_GPN(a.msr);

                if (gpn >> (l->p->phys_bits - HV_PAGE_SHIFT))
                        return -EBADMSG;
                if (!(a.msr & HV_MSR_PAGE_ENABLE))
                        continue;
                if (!vtl_memory_is_ram(l->p, gpn) ||
                    (a.vtl == 0 &&
                     (~protect_get(l->protect, gpn) & (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE))))
                        return -EBADMSG;
                for (unsigned k = 0; k < i; k++)
                        if (mapped_page(l, k, &b) && b.vtl == a.vtl &&
                            (b.msr & HV_MSR_PAGE_ENABLE) && HV_MSR_PAGE_GPN(b.msr) == gpn)
                                return -EBADMSG;
        }
        return 0;
}

static int check(struct loading *l) {
        int r = check_partition(l);

        for (unsigned i = 0; i < l->p->n_vps && r == 0; i++)
                r = check_vp(l, i);
        if (r == 0)
                r = check_protections(l);
        if (r == 0)
                r = check_overlays(l);
        return r < 0 ? r : check_policy(l);
}

/* ---- Taking it over ---- */

static void take_fields(struct loading *l) {
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

static void take_header(struct loading *l) {
        struct vtl_partition *p = l->p;
        struct vtl_control_header *h = p->header;

        h->enabled_vtls = p->enabled_vtls;
        h->protection_enabled = protect_enabled(p->protect);
        h->partition_config = p->partition_config;
        h->protected_pages = protect_restricted(p->protect);
        memcpy(h->guest_os_id, p->guest_os_id, sizeof(h->guest_os_id));
        h->unenforced = l->extra.unenforced;
        h->unenforced_cr = l->extra.unenforced_cr;
        memcpy(h->crash, l->extra.crash, sizeof(h->crash));
        h->crash_vtl = l->extra.crash_vtl;
        h->crashes = l->extra.crashes;
}

static int take_overlays(struct loading *l) {
        struct vtl_partition *p = l->p;
        struct mapped m;

        for (uint32_t page = 0; page < vtl_overlay_pages(p->n_vps); page++)
                if (l->pages[page])
                        memcpy(vtl_overlay_data(p, page), l->pages[page], HV_PAGE_SIZE);
        for (unsigned i = 0; mapped_page(l, i, &m); i++) {
                int r = m.msr & HV_MSR_PAGE_ENABLE ? vtl_overlay_set(&p->vps[m.vp], m.vtl, m.kind,
                                                                     true, HV_MSR_PAGE_GPN(m.msr))
                                                   : 0;

                if (r != 0) /* it has been checked that the guest may */
                        return r < 0 ? r : -ENOMEM;
        }
        return 0;
}

static int take_memory(struct loading *l) {
        struct vtl_partition *p = l->p;

        protect_map_free(p->protect);
        p->protect = TAKE_PTR(l->protect);
        return vtl_protect_apply(p);
}

static int take_intercepts(struct loading *l) {
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
static int take_time(struct loading *l) {
        struct vtl_partition *p = l->p;
        uint64_t best = UINT64_MAX;

        p->epoch_100ns = vtl_host_time(p) - l->extra.reference_time;
        if (!l->partition->tsc_known)
                return 0;
        for (unsigned i = 0; i < TSC_SAMPLES; i++) {
                struct plane_msr tsc = { .index = MSR_TSC };
                uint64_t before = __builtin_ia32_rdtsc(), took;
                int r = vtl_op(p, get, 0, PLANE_MSRS, &tsc, sizeof(tsc));

                if (r < 0)
                        return r;
                took = __builtin_ia32_rdtsc() - before;
                if (took < best) {
                        best = took;
                        p->tsc_delta = tsc.value - (before + took / 2);
                }
        }
        p->tsc_known = true;
        return 0;
}

static int take_over(struct loading *l) {
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
        _cleanup_(loading_free) struct loading l = { 0 };
        int r, e;

        if (!p->paused)
                return -EBUSY;
        if (p->strict)
                return -EOPNOTSUPP;
        r = loading_init(&l, p);
        if (r == 0)
                r = load_sections(&l, data, size);
        if (r == 0)
                r = check(&l);
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
