/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Enabling VTL1 and protecting memory: vsm.md 3.1, 3.2, 3.4. */

#include "hvcall/calls.h"
#include "hvcall/wire.h"
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/memory.h"

#define VTL_ENCODING_MAX 2 /* no VTL above 2 exists anywhere */

int hvcall_enable_partition_vtl(struct hv_call_ctx *c) {
        const struct hv_input_enable_partition_vtl *in = c->input;
        struct vtl_vp *vp = c->vp;
        struct vtl_partition *p = vp->partition;

        if (in->target_vtl > VTL_ENCODING_MAX)
                return HV_STATUS_INVALID_PARAMETER;
        if (in->partition_id != HV_PARTITION_ID_SELF)
                return HV_STATUS_INVALID_PARTITION_ID;
        /* One VTL above the first, without MBEC, shadow stacks or HVPT: nothing of that can be
         * enforced here. */
        if (in->target_vtl != 1 || in->flags != 0)
                return HV_STATUS_INVALID_PARAMETER;
        if (!p->config.allow_vtl1) {
                p->header->denied++;
                vtl_event(vp, VTL_EVENT_DENIED, 0, in->target_vtl);
                return HV_STATUS_ACCESS_DENIED;
        }
        if (p->enabled_vtls & 2u)
                return HV_STATUS_INVALID_VTL_STATE;
        p->enabled_vtls |= 2u;
        p->header->enabled_vtls = p->enabled_vtls;
        vtl_event(vp, VTL_EVENT_PARTITION_VTL_ENABLED, 0, in->target_vtl);
        return 0;
}

int hvcall_enable_vp_vtl(struct hv_call_ctx *c) {
        const struct hv_input_enable_vp_vtl *in = c->input;
        struct vtl_vp *vp = c->vp, *target;
        struct vtl_partition *p = vp->partition;
        uint32_t index = in->vp_index == HV_VP_INDEX_SELF ? vp->index : in->vp_index;
        int r;

        if (in->target_vtl > VTL_ENCODING_MAX)
                return HV_STATUS_INVALID_PARAMETER;
        if (in->partition_id != HV_PARTITION_ID_SELF)
                return HV_STATUS_INVALID_PARTITION_ID;
        if (index >= p->n_vps)
                return HV_STATUS_INVALID_VP_INDEX;
        if (in->target_vtl != 1)
                return HV_STATUS_INVALID_PARAMETER;
        if (!(p->enabled_vtls & 2u))
                return HV_STATUS_INVALID_VTL_STATE;
        target = &p->vps[index];
        if (target->enabled_vtls & 2u)
                return HV_STATUS_VTL_ALREADY_ENABLED;
        /* From VTL0 only the first VP, and only for itself; from then on VTL1 decides (vsm.md 5.1).
         */
        if (vp->active_vtl == 0 && (p->vp_vtl1_enabled || target != vp))
                return HV_STATUS_ACCESS_DENIED;

        target->context = in->context;
        if (target == vp) {
                r = vtl_apply_context(vp);
                if (r < 0)
                        return r == -EINVAL ? HV_STATUS_INVALID_REGISTER_VALUE : r;
        }
        target->context_pending = true;
        target->enabled_vtls |= 2u;
        target->ctl->enabled_vtls = target->enabled_vtls;
        p->vp_vtl1_enabled = true;
        vtl_event(target, VTL_EVENT_VP_VTL_ENABLED, 0, in->target_vtl);
        return 0;
}

/*
 * The VP starts on its own thread, when it looks at its kick: in the highest level it has, VTL0's
 * context waiting for the first return (vsm.md 3.13).
 */
int hvcall_start_virtual_processor(struct hv_call_ctx *c) {
        const struct hv_input_enable_vp_vtl *in = c->input;
        struct vtl_vp *vp = c->vp, *target;
        struct vtl_partition *p = vp->partition;

        if (in->target_vtl > VTL_ENCODING_MAX)
                return HV_STATUS_INVALID_PARAMETER;
        if (in->partition_id != HV_PARTITION_ID_SELF)
                return HV_STATUS_INVALID_PARTITION_ID;
        if (in->vp_index >= p->n_vps || in->vp_index == vp->index)
                return HV_STATUS_INVALID_VP_INDEX;
        if (in->target_vtl > vp->active_vtl)
                return HV_STATUS_ACCESS_DENIED;
        target = &p->vps[in->vp_index];
        if (!(target->enabled_vtls & 1u << in->target_vtl) || target->started)
                return HV_STATUS_INVALID_VP_STATE;
        if (in->target_vtl == 1)
                target->context = in->context;
        else
                target->start_context = in->context;
        target->start_vtl0 = in->target_vtl == 0;
        target->start_pending = target->started = true;
        return p->config.ops->kick(p->config.ops_ctx, target->index);
}

/*
 * TargetVtl of ModifyVtlProtectionMask names the VTL that imposes the mask; some clients name the
 * one restricted. Both mean the same here (vsm.md 3.1, 11.5).
 */
static int check_target(const struct vtl_vp *vp, uint8_t input_vtl) {
        unsigned target = input_vtl & HV_INPUT_VTL_TARGET_MASK;

        if ((input_vtl & HV_INPUT_VTL_RESERVED) || target > VTL_ENCODING_MAX)
                return HV_STATUS_INVALID_PARAMETER;
        if (!(input_vtl & HV_INPUT_VTL_USE_TARGET))
                target = vp->active_vtl;
        if (target > vp->active_vtl)
                return HV_STATUS_ACCESS_DENIED;
        return vp->active_vtl == 0 ? HV_STATUS_INVALID_PARAMETER : 0;
}

static bool protectable(const struct vtl_partition *p, uint64_t gpn) {
        return vtl_memory_is_ram(p, gpn) && !vtl_overlay_find(p, 0, gpn);
}

#define BATCH_RANGES 256u

/* Elements from @first on that merge into at most BATCH_RANGES runs. Return: the element after the
 * last. */
static uint16_t make_ranges(const hv_gpa_page_number *list, uint16_t first, uint16_t count,
                            uint32_t access, struct plane_range ranges[BATCH_RANGES],
                            size_t *ret_n) {
        size_t n = 0;
        uint16_t i;

        for (i = first; i < count; i++) {
                struct plane_range *last = n > 0 ? &ranges[n - 1] : NULL;

                if (last && list[i] == last->gpn + last->count)
                        last->count++;
                else if (n < BATCH_RANGES)
                        ranges[n++] = (struct plane_range){ .gpn = list[i],
                                                            .count = 1,
                                                            .access = access };
                else
                        break;
        }
        *ret_n = n;
        return i;
}

static int put_back_run(void *userdata, uint64_t gpn, uint64_t count, unsigned rw) {
        struct vtl_partition *p = userdata;
        struct plane_range range = { .gpn = gpn, .count = count, .access = rw };

        return vtl_op(p, protect, 0, &range, 1);
}

/* The host has no mappings left: what was changed goes back to what the map says. */
static int put_back(struct vtl_partition *p, const struct plane_range *ranges, size_t n) {
        for (size_t i = 0; i < n; i++) {
                int r = protect_runs(p->protect, ranges[i].gpn, ranges[i].count, put_back_run, p);

                if (r < 0)
                        return r;
        }
        return HV_STATUS_INSUFFICIENT_MEMORY;
}

/* The whole list at once: all page numbers are checked first, neighbours share one change of the
 * mapping. */
int hvcall_modify_protection_prepare(struct hv_call_ctx *c, uint16_t *ret_done) {
        const struct hv_input_modify_vtl_protection_mask *in = c->input;
        const hv_gpa_page_number *list = c->list_in;
        struct plane_range ranges[BATCH_RANGES];
        struct vtl_vp *vp = c->vp;
        struct vtl_partition *p = vp->partition;
        int r;

        if (in->partition_id != HV_PARTITION_ID_SELF)
                return HV_STATUS_ACCESS_DENIED;
        r = check_target(vp, in->target_vtl);
        if (r != 0)
                return r;
        if (!(p->enabled_vtls & 2u))
                return HV_STATUS_INVALID_VTL_STATE;
        if (!protect_enabled(p->protect))
                return HV_STATUS_ACCESS_DENIED;
        r = (int) protect_mask_status(in->map_flags, false);
        if (r != HV_STATUS_SUCCESS)
                return r;
        for (uint16_t i = c->rep_start; i < c->rep_count; i++)
                if (!protectable(p, list[i]))
                        return HV_STATUS_OPERATION_DENIED;

        for (uint16_t i = c->rep_start; i < c->rep_count;) {
                uint16_t next;
                size_t n;

                next = make_ranges(list, i, c->rep_count, in->map_flags, ranges, &n);
                r = vtl_op(p, protect, 0, ranges, n);
                if (r == -ENOMEM)
                        return put_back(p, ranges, n);
                if (r < 0)
                        return r;
                for (; i < next; i++) {
                        r = protect_set(p->protect, list[i], in->map_flags, NULL);
                        if (r < 0)
                                return r;
                }
                *ret_done = next;
                p->header->protected_pages = protect_restricted(p->protect);
        }
        return 0;
}

/* Never reached: prepare() serves the whole list. */
int hvcall_modify_protection(struct hv_call_ctx *c) {
        return -EINVAL;
}
