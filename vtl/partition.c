/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "util/util.h"
#include "vtl/clock.h"
#include "vtl/engine.h"
#include "vtl/hold.h"
#include "vtl/memory.h"
#include "vtl/reference-time.h"
#include "vtl/synic.h"

void vtl_event(struct vtl_vp *vp, enum vtl_event what, uint64_t gpa, uint64_t data) {
        struct vtl_partition *p = vp->partition;

        if (p->config.event)
                p->config.event(p->config.userdata, what, vp->index, gpa, data);
}

static int check_config(const struct vtl_config *c) {
        if (c->vps == 0 || c->vps > VTL_MAX_VPS || c->n_regions == 0 || !c->control ||
            !c->overlay || !c->ops || !c->apic_ids || c->phys_bits < 32 || c->phys_bits > 52)
                return -EINVAL;
        for (unsigned i = 0; i < c->vps; i++)
                for (unsigned j = 0; j < i; j++)
                        if (c->apic_ids[i] == c->apic_ids[j])
                                return -EINVAL;
        if (c->options.strict_execute_pages > 0 &&
            (!c->precise_faults || !((const struct vtl_control_header *) c->control)->can_step))
                return -EOPNOTSUPP;
        for (size_t i = 0; i < c->n_regions; i++) {
                const struct vtl_region *r = &c->regions[i];

                if (!r->base || r->size == 0 || !is_aligned(r->gpa | r->size, HV_PAGE_SIZE) ||
                    r->gpa > UINT64_MAX - r->size || (r->gpa + r->size - 1) >> c->phys_bits)
                        return -EINVAL;
        }
        return 0;
}

static int make_map(struct vtl_partition *p) {
        _cleanup_free_ struct protect_region *regions = calloc(p->n_regions, sizeof(*regions));

        if (!regions)
                return -ENOMEM;
        for (size_t i = 0; i < p->n_regions; i++)
                regions[i] =
                        (struct protect_region){ .gpn = p->regions[i].gpa >> HV_PAGE_SHIFT,
                                                 .count = p->regions[i].size >> HV_PAGE_SHIFT };
        if (p->config.options.strict_execute_pages > 0) {
                int r = protect_map_new(&p->strict, regions, p->n_regions);

                if (r < 0)
                        return r;
        }
        return protect_map_new(&p->protect, regions, p->n_regions);
}

void vtl_vp_reset(struct vtl_vp *vp) {
        *vp = (struct vtl_vp){
                .partition = vp->partition,
                .ctl = vp->ctl,
                .index = vp->index,
                .apic_id = vp->apic_id,
                .enabled_vtls = 1u,
                .clock_set = VTL_CLOCK_NEVER,
                .lazy_eoi = -1,
                .started = vp->index == 0,
        };
        vp->ctl->enabled_vtls = 1u;
        vp->ctl->active_vtl = 0;
        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++)
                vtl_synic_reset(&vp->vtl[vtl].synic);
        lapic_reset(&vp->lapic, vp->apic_id, vp->index == 0);
}

int vtl_partition_new(const struct vtl_config *config, struct vtl_partition **ret) {
        struct vtl_partition *p;
        int r;

        r = check_config(config);
        if (r < 0)
                return r;
        p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        (void) pthread_mutex_init(&p->lock, NULL);
        vtl_hold_init(p);
        p->config = *config;
        /* KVM cannot read what is in a strict page. */
        if (config->options.no_kernel_hypercalls || config->options.strict_execute_pages > 0)
                p->config.kernel_hypercalls = false;
        p->n_vps = config->vps;
        p->n_regions = config->n_regions;
        p->phys_bits = config->phys_bits;
        p->header = config->control;
        p->apic_ids = calloc(p->n_vps, sizeof(*p->apic_ids));
        p->regions = calloc(p->n_regions, sizeof(*p->regions));
        p->vps = calloc(p->n_vps, sizeof(*p->vps));
        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++)
                p->overlays[vtl] = calloc(vtl_overlay_pages(p->n_vps), sizeof(*p->overlays[vtl]));
        if (!p->apic_ids || !p->regions || !p->vps || !p->overlays[0] || !p->overlays[1]) {
                vtl_partition_free(p);
                return -ENOMEM;
        }
        memcpy(p->apic_ids, config->apic_ids, p->n_vps * sizeof(*p->apic_ids));
        memcpy(p->regions, config->regions, p->n_regions * sizeof(*p->regions));
        p->config.apic_ids = p->apic_ids;
        p->config.regions = p->regions;
        r = make_map(p);
        if (r < 0) {
                vtl_partition_free(p);
                return r;
        }

        p->epoch_100ns = vtl_host_time(p);
        r = p->config.clock_ns ? 0 : vtl_clock_start(p);
        if (r < 0) {
                vtl_partition_free(p);
                return r;
        }
        p->enabled_vtls = 1u;
        p->header->enabled_vtls = 1u;
        for (unsigned i = 0; i < p->n_vps; i++) {
                struct vtl_vp *vp = &p->vps[i];

                vp->partition = p;
                vp->index = i;
                vp->apic_id = p->apic_ids[i];
                vp->ctl = vtl_control_vp(p->config.control, i);
                vtl_vp_reset(vp);
        }
        *ret = p;
        return 0;
}

struct vtl_partition *vtl_partition_free(struct vtl_partition *p) {
        if (!p)
                return NULL;
        vtl_clock_stop(p);
        protect_map_free(p->protect);
        protect_map_free(p->strict);
        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++)
                free(p->overlays[vtl]);
        free(p->vps);
        free(p->regions);
        free(p->apic_ids);
        vtl_hold_done(p);
        (void) pthread_mutex_destroy(&p->lock);
        free(p);
        return NULL;
}

int vtl_partition_lock_for(struct vtl_partition *p, uint32_t ns) {
        struct timespec until;

        (void) clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += ns;
        if (until.tv_nsec >= 1000000000) {
                until.tv_nsec -= 1000000000;
                until.tv_sec++;
        }
        return pthread_mutex_clocklock(&p->lock, CLOCK_MONOTONIC, &until) == 0 ? 0 : -EBUSY;
}
