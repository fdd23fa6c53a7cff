/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "util/util.h"
#include "vtl/clock.h"
#include "vtl/engine.h"
#include "vtl/intercept.h"
#include "vtl/protect.h"
#include "vtl/reference-time.h"
#include "vtl/state.h"

/* ---- Pause ---- */

void vtl_state_pause(struct vtl_partition *p) {
        if (p->paused)
                return;
        p->paused_100ns = vtl_host_time(p);
        p->paused = true;
}

/*
 * While paused nothing expires. The reference counter that has no TSC stands still. With a TSC it
 * cannot, for the guest computes the same time itself from the TSC, which goes on unless the VMM
 * sets it back: what was due meanwhile is due at once, a periodic timer once.
 */
void vtl_state_continue(struct vtl_partition *p) {
        uint64_t since = p->paused_100ns;

        if (!p->paused)
                return;
        p->paused = false;
        p->epoch_100ns += vtl_host_time(p) - since;
}

/* ---- Reset ---- */

/* Holes read as zeros, and give the memory back; where there can be none it is written. */
static void zero_ram(struct vtl_partition *p) {
        for (size_t i = 0; i < p->n_regions; i++)
                if (madvise(p->regions[i].base, p->regions[i].size, MADV_REMOVE) < 0)
                        memset(p->regions[i].base, 0, p->regions[i].size);
}

static int take_off_overlays(struct vtl_partition *p) {
        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++)
                while (p->n_overlays[vtl] > 0) {
                        const struct vtl_overlay *o = &p->overlays[vtl][p->n_overlays[vtl] - 1];
                        int r = vtl_op(p, overlay, vtl, o->gpn, PLANE_OVERLAY_NONE, HV_MAP_GPA_ALL);

                        if (r < 0)
                                return r;
                        p->n_overlays[vtl]--;
                }
        return 0;
}

static int take_off_intercepts(struct vtl_partition *p) {
        struct vtl_intercepts *in = &p->intercepts;
        int r = 0;

        memset(&in->installed_msrs, 0, sizeof(in->installed_msrs));
        for (unsigned i = 0; i < p->n_vps; i++)
                memset(p->vps[i].vtl[1].cr_intercept, 0, sizeof(p->vps[i].vtl[1].cr_intercept));
        for (size_t i = 0; i < sizeof(in->ports) && r == 0; i++)
                if (((const uint8_t *) &in->ports)[i]) {
                        memset(&in->ports, 0, sizeof(in->ports));
                        r = vtl_op(p, filter_ports, &in->ports);
                }
        return r < 0 ? r : vtl_intercept_refresh(p);
}

static void reset_header(struct vtl_control_header *h) {
        h->enabled_vtls = 1u;
        h->protection_enabled = 0;
        h->partition_config = 0;
        h->protected_pages = h->strict_pages = 0;
        memset(h->guest_os_id, 0, sizeof(h->guest_os_id));
        h->unenforced = h->unenforced_cr = 0;
}

static void reset_vps(struct vtl_partition *p) {
        for (unsigned i = 0; i < p->n_vps; i++) {
                vtl_vp_reset(&p->vps[i]);
                p->vps[i].ctl->suspended_vtls = 0;
                p->vps[i].ctl->vtl1_cr8 = 0;
                p->vps[i].ctl->vina = 0;
        }
}

int vtl_state_reset(struct vtl_partition *p) {
        bool zero = p->partition_config & HV_VSM_ZERO_MEMORY_ON_RESET;
        int r;

        for (unsigned i = 0; i < p->n_vps; i++)
                if (p->vps[i].work || p->holder)
                        return -EBUSY;
        /* Before VTL0's view is open again. */
        if (zero)
                zero_ram(p);
        protect_reset(p->protect);
        if (p->strict)
                protect_reset(p->strict);
        r = take_off_overlays(p);
        if (r == 0)
                r = vtl_protect_apply(p);
        if (r == 0)
                r = take_off_intercepts(p);
        if (r < 0)
                return r;
        memset(p->config.overlay, 0, (size_t) vtl_overlay_pages(p->n_vps) * HV_PAGE_SIZE);
        reset_vps(p);
        reset_header(p->header);
        p->enabled_vtls = 1u;
        p->vp_vtl1_enabled = p->mbec = p->tsc_known = p->kernel_stopped = false;
        p->partition_config = 0;
        p->measured = false;
        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++)
                p->guest_os_id[vtl] = p->hypercall_msr[vtl] = p->tsc_msr[vtl] = 0;
        p->tsc_scale = p->tsc_delta = 0;
        p->tsc_offset = 0;
        p->tsc_sequence = 0;
        p->epoch_100ns = vtl_host_time(p);
        return 0;
}

/* ---- To and from the library ---- */

static int send_saved(struct vtl_partition *p) {
        _cleanup_(blob_free) struct blob b = BLOB_EMPTY;
        int r = vtl_state_save(p, &b);

        if (r == 0 && b.size > VTL_STATE_SIZE_MAX)
                r = -E2BIG;
        for (size_t at = 0, n; r == 0 && at < b.size; at += n) {
                n = MIN(b.size - at, (size_t) PLANE_STATE_PIECE);
                r = vtl_op(p, state_put, b.data + at, n);
        }
        return r;
}

static int receive_saved(struct vtl_partition *p, uint64_t size) {
        _cleanup_free_ uint8_t *data = NULL;
        int r = 0;

        if (size == 0 || size > VTL_STATE_SIZE_MAX)
                return -EBADMSG;
        if (!p->paused)
                return -EBUSY;
        data = malloc(size);
        if (!data)
                return -ENOMEM;
        for (size_t at = 0, n; r == 0 && at < size; at += n) {
                n = MIN(size - at, (size_t) PLANE_STATE_PIECE);
                r = vtl_op(p, state_get, data + at, n);
        }
        return r < 0 ? r : vtl_state_load(p, data, size);
}

int vtl_state_serve(struct vtl_vp *vp, const struct vtl_exit *e, bool *ret_stop) {
        struct vtl_partition *p = vp->partition;
        int r;

        *ret_stop = false;
        switch ((enum vtl_state_request) e->port) {
        case VTL_STATE_PAUSE:
                vtl_state_pause(p);
                return 0;
        case VTL_STATE_CONTINUE:
                vtl_state_continue(p);
                return 0;
        case VTL_STATE_RESET:
                r = vtl_state_reset(p);
                /* What is half reset must not run: a guest's memory may be open that was not. */
                *ret_stop = r < 0 && r != -EBUSY;
                vtl_event(vp, VTL_EVENT_STATE, 0, e->port);
                return r;
        case VTL_STATE_SAVE:
                return send_saved(p);
        case VTL_STATE_LOAD:
                r = receive_saved(p, e->data);
                vtl_event(vp, VTL_EVENT_STATE, 0, e->port);
                if (r == 0 && (p->enabled_vtls & 2u))
                        vtl_event(vp, VTL_EVENT_PARTITION_VTL_ENABLED, 0, 1);
                return r;
        case _VTL_STATE_MAX:
                break;
        }
        return -EINVAL;
}
