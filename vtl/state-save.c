/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/memory.h"
#include "vtl/overlay.h"
#include "vtl/reference-time.h"
#include "vtl/state-fields.h"
#include "vtl/state.h"

static void open_section(struct blob *b, enum state_kind kind, uint32_t index) {
        blob_open(b, state_tables[kind].id, state_tables[kind].version, index);
}

static void save_object(struct blob *b, enum state_kind kind, uint32_t index, const void *object) {
        open_section(b, kind, index);
        state_pack(b, kind, object);
        blob_close(b);
}

static void save_bytes(struct blob *b, enum state_kind kind, uint32_t index, const void *data,
                       size_t size) {
        open_section(b, kind, index);
        blob_put(b, data, size);
        blob_close(b);
}

static bool all_zero(const void *data, size_t size) {
        const uint8_t *bytes = data;

        return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static void save_shape(struct blob *b, const struct vtl_partition *p) {
        struct state_shape shape;

        state_shape_of(p, &shape);
        open_section(b, STATE_SHAPE, 0);
        state_pack(b, STATE_SHAPE, &shape);
        blob_put(b, p->apic_ids, p->n_vps * sizeof(*p->apic_ids));
        for (size_t i = 0; i < p->n_regions; i++) {
                const uint64_t region[2] = { p->regions[i].gpa, p->regions[i].size };

                blob_put(b, region, sizeof(region));
        }
        blob_close(b);
}

static void save_extra(struct blob *b, const struct vtl_partition *p) {
        const struct vtl_control_header *h = p->header;
        struct state_extra extra = {
                .reference_time = p->tsc_known ? 0 : vtl_reference_time(p),
                .unenforced = h->unenforced,
                .unenforced_cr = h->unenforced_cr,
                .crash_vtl = h->crash_vtl & 1,
                .crashes = h->crashes,
        };

        memcpy(extra.crash, h->crash, sizeof(extra.crash));
        save_object(b, STATE_EXTRA, 0, &extra);
}

static void save_synic(struct blob *b, const struct vtl_vp_vtl *v, uint32_t index) {
        save_object(b, STATE_VTL, index, v);
        if (v->synic.n_messages == 0)
                return;
        open_section(b, STATE_MESSAGES, index);
        for (unsigned i = 0; i < v->synic.n_messages; i++) {
                const struct state_message m = { .sint = v->synic.messages[i].sint,
                                                 .message = v->synic.messages[i].message };

                blob_put(b, &m, sizeof(m));
        }
        blob_close(b);
}

static int save_vp(struct blob *b, const struct vtl_vp *vp) {
        _cleanup_free_ struct state_vp *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        s->vp = *vp;
        s->suspended_vtls = vp->ctl->suspended_vtls & 1;
        s->vtl1_cr8 = vp->ctl->vtl1_cr8 & 0xf;
        s->vp.active_vtl = vp->ctl->active_vtl & 1; /* the hot path switches without the engine */
        save_object(b, STATE_VP, vp->index, s);
        save_object(b, STATE_APIC, vp->index, &vp->lapic);
        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++)
                save_synic(b, &vp->vtl[vtl], vp->index * VTL_MAX_VTLS + vtl);
        if (vp->n_stores > 0) {
                open_section(b, STATE_STORES, vp->index);
                for (unsigned i = 0; i < vp->n_stores; i++) {
                        const uint64_t store[3] = { vp->stores[i].gpa, vp->stores[i].data,
                                                    vp->stores[i].len };

                        blob_put(b, store, sizeof(store));
                }
                blob_close(b);
        }
        return 0;
}

static int save_run(void *userdata, uint64_t gpn, uint64_t count, unsigned mask) {
        const struct state_run run = {
                .gpn_and_mask = gpn | (uint64_t) mask << STATE_RUN_MASK_SHIFT,
                .count = count,
        };

        blob_put(userdata, &run, sizeof(run));
        return 0;
}

static int save_covered(void *userdata, uint64_t gpn, uint64_t count, unsigned mask) {
        return mask == 0 ? save_run(userdata, gpn, count, mask) : 0;
}

static void save_memory(struct blob *b, const struct vtl_partition *p) {
        open_section(b, STATE_PROTECT, 0);
        (void) protect_explicit_runs(p->protect, save_run, b);
        blob_close(b);
        if (p->strict && protect_restricted(p->strict) > 0) {
                open_section(b, STATE_STRICT, 0);
                (void) protect_explicit_runs(p->strict, save_covered, b);
                blob_close(b);
        }
        for (uint32_t page = 0; page < vtl_overlay_pages(p->n_vps); page++)
                if (!all_zero(vtl_overlay_data(p, page), HV_PAGE_SIZE))
                        save_bytes(b, STATE_OVERLAY, page, vtl_overlay_data(p, page), HV_PAGE_SIZE);
}

static void save_intercepts(struct blob *b, const struct vtl_intercepts *in) {
        if (!all_zero(&in->installed_msrs, sizeof(in->installed_msrs)))
                save_bytes(b, STATE_MSRS, 0, &in->installed_msrs, sizeof(in->installed_msrs));
        if (!all_zero(&in->ports, sizeof(in->ports)))
                save_bytes(b, STATE_PORTS, 0, &in->ports, sizeof(in->ports));
}

int vtl_state_save(struct vtl_partition *p, struct blob *ret) {
        int r = 0;

        if (!p->paused || p->holder)
                return -EBUSY;
        blob_begin(ret, VTL_STATE_MAGIC);
        save_shape(ret, p);
        save_object(ret, STATE_PARTITION, 0, p);
        save_extra(ret, p);
        for (unsigned i = 0; i < p->n_vps && r == 0; i++)
                r = p->vps[i].work ? -EBUSY : save_vp(ret, &p->vps[i]);
        save_memory(ret, p);
        save_intercepts(ret, &p->intercepts);
        return r < 0 ? r : blob_finish(ret);
}
