/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Enabling VTL1 and protecting memory: vsm.md 3.1, 3.2, 3.4. */

#include "hvcall/calls.h"
#include "hvcall/vp-set.h"
#include "hvcall/wire.h"
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/hold.h"
#include "vtl/intercept.h"
#include "vtl/measure.h"
#include "vtl/memory.h"
#include "vtl/strict.h"

int hvcall_enable_partition_vtl(struct hv_call_ctx *c) {
        const struct hv_input_enable_partition_vtl *in = c->input;
        struct vtl_vp *vp = c->vp;
        struct vtl_partition *p = vp->partition;
        unsigned possible = 0;

        if (in->target_vtl > VTL_ENCODING_MAX)
                return HV_STATUS_INVALID_PARAMETER;
        if (in->partition_id != HV_PARTITION_ID_SELF)
                return HV_STATUS_INVALID_PARTITION_ID;
        /* One VTL above the first, without shadow stacks and HVPT. Nothing here can enforce MBEC:
         * whether it may be had all the same is the administrator's to say (clients.md). */
        if (p->config.options.accept_mbec)
                possible = HV_ENABLE_PARTITION_VTL_MBEC;
        if (in->target_vtl != 1 || (in->flags & ~possible))
                return HV_STATUS_INVALID_PARAMETER;
        if (!p->config.allow_vtl1) {
                p->header->denied++;
                vtl_event(vp, VTL_EVENT_DENIED, 0, in->target_vtl);
                return HV_STATUS_ACCESS_DENIED;
        }
        if (p->enabled_vtls & 2u)
                return HV_STATUS_INVALID_VTL_STATE;
        p->mbec = in->flags & HV_ENABLE_PARTITION_VTL_MBEC;
        if (p->mbec)
                p->header->unenforced |= VTL_UNENFORCED_MBEC;
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
        r = vtl_measure_enable(vp);
        if (r == VTL_ENTRY_REFUSED)
                return HV_STATUS_ACCESS_DENIED;
        if (r != 0)
                return r == VTL_ENTRY_AGAIN ? HV_STATUS_TIMEOUT : r;
        target->context_pending = true;
        target->enabled_vtls |= 2u;
        if (p->config.options.apic_enabled)
                target->lapic.svr |= LAPIC_SVR_ENABLE;
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
        if (in->target_vtl > vp->active_vtl ||
            (vp->active_vtl == 0 && (p->partition_config & HV_VSM_DENY_LOWER_VTL_STARTUP)))
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
        unsigned target;
        int r = input_vtl_resolve(vp, input_vtl, &target);

        if (r != 0)
                return r;
        if (target > vp->active_vtl)
                return HV_STATUS_ACCESS_DENIED;
        return vp->active_vtl == 0 ? HV_STATUS_INVALID_PARAMETER : 0;
}

static bool protectable(const struct vtl_partition *p, uint64_t gpn) {
        return vtl_memory_is_ram(p, gpn) && !vtl_overlay_find(p, 0, gpn);
}

/* As many ranges are worth stopping the others for (docs/performance.md). */
#define HOLD_MIN_RANGES 2u

#define RANGES_MAX                                                             \
        ((HV_PAGE_SIZE - sizeof(struct hv_input_modify_vtl_protection_mask)) / \
         sizeof(hv_gpa_page_number))
_Static_assert(RANGES_MAX * sizeof(struct plane_range) <= VTL_OP_DATA_MAX,
               "a call's pages go in one operation");

static bool begins_region(const struct vtl_partition *p, uint64_t gpn) {
        for (size_t i = 0; i < p->n_regions; i++)
                if (p->regions[i].gpa >> HV_PAGE_SHIFT == gpn)
                        return true;
        return false;
}

/* Neighbours of one region share a range. Return: how many ranges there are. */
static size_t make_ranges(const struct vtl_partition *p, const hv_gpa_page_number *list,
                          uint16_t first, uint16_t count, uint32_t mask,
                          struct plane_range ranges[RANGES_MAX]) {
        size_t n = 0;

        for (uint16_t i = first; i < count; i++) {
                struct plane_range *last = n > 0 ? &ranges[n - 1] : NULL;
                uint32_t access = vtl_strict_covers(p, list[i]) ? 0 : mask;

                if (last && list[i] == last->gpn + last->count && access == last->access &&
                    !begins_region(p, list[i]))
                        last->count++;
                else
                        ranges[n++] = (struct plane_range){ .gpn = list[i],
                                                            .count = 1,
                                                            .access = access };
        }
        return n;
}

/* The host has no mappings left, and nothing was changed (design: "Protections at scale"). */
static int refuse(struct vtl_vp *vp) {
        vp->partition->header->protections_refused++;
        vtl_event(vp, VTL_EVENT_PROTECTION_REFUSED, 0, 0);
        return HV_STATUS_INSUFFICIENT_MEMORY;
}

static int check_modify(struct vtl_vp *vp, const struct hv_input_modify_vtl_protection_mask *in) {
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
        return (int) protect_mask_status(in->map_flags, p->mbec);
}

/* The other VPs stay out of the guest for the length of the call: each change of a mapping that is
 * in use costs an interruption of every VP, and one of all VPs costs it once. */
static int change_mappings(struct vtl_vp *vp, const struct plane_range *ranges, size_t n) {
        int r = n >= HOLD_MIN_RANGES ? vtl_hold(vp) : 0;

        if (r != 0)
                return r;
        r = vtl_op(vp->partition, protect, 0, ranges, n);
        vtl_release(vp);
        return r == -ENOMEM ? refuse(vp) : r;
}

/* The whole list at once, or nothing of it: all page numbers are checked first. */
int hvcall_modify_protection_prepare(struct hv_call_ctx *c, uint16_t *ret_done) {
        const struct hv_input_modify_vtl_protection_mask *in = c->input;
        const hv_gpa_page_number *list = c->list_in;
        struct plane_range ranges[RANGES_MAX];
        bool flipped[RANGES_MAX] = { 0 };
        struct vtl_vp *vp = c->vp;
        struct vtl_partition *p = vp->partition;
        int r;

        r = check_modify(vp, in);
        if (r != 0)
                return r;
        for (uint16_t i = c->rep_start; i < c->rep_count; i++)
                if (!protectable(p, list[i]))
                        return HV_STATUS_OPERATION_DENIED;
        r = vtl_strict_set(p, &list[c->rep_start], (size_t) (c->rep_count - c->rep_start),
                           in->map_flags, flipped);
        if (r < 0)
                return r;
        r = change_mappings(
                vp, ranges,
                make_ranges(p, list, c->rep_start, c->rep_count, in->map_flags, ranges));
        if (r != 0) {
                vtl_strict_undo(p, &list[c->rep_start], (size_t) (c->rep_count - c->rep_start),
                                flipped);
                return r;
        }
        for (uint16_t i = c->rep_start; i < c->rep_count; i++) {
                r = protect_set(p->protect, list[i], in->map_flags, NULL);
                if (r < 0)
                        return r;
        }
        *ret_done = c->rep_count;
        p->header->protected_pages = protect_restricted(p->protect);
        return 0;
}

int hvcall_install_intercept(struct hv_call_ctx *c) {
        const struct hv_input_install_intercept *in = c->input;
        struct vtl_vp *vp = c->vp;

        if (vp->active_vtl == 0 || in->partition_id != HV_PARTITION_ID_SELF)
                return HV_STATUS_ACCESS_DENIED;
        return vtl_intercept_install(vp, (enum hv_intercept_type) in->intercept_type,
                                     in->access_type_mask, in->parameter);
}

/* Never reached: prepare() serves the whole list. */
int hvcall_modify_protection(struct hv_call_ctx *c) {
        return -EINVAL;
}

/* What a level may do with pages, as those above it see it; scratch[0]: the level */
int hvcall_check_sparse_gpa_prepare(struct hv_call_ctx *c, uint16_t *ret_done) {
        const struct hv_input_check_sparse_gpa *in = c->input;
        struct vtl_vp *vp = c->vp;
        unsigned vtl;
        int r;

        if (in->partition_id != HV_PARTITION_ID_SELF)
                return HV_STATUS_ACCESS_DENIED;
        r = input_vtl_resolve(vp, in->target_vtl, &vtl);
        if (r != 0)
                return r;
        if (in->desired_access & ~HV_MAP_GPA_ALL)
                return HV_STATUS_INVALID_PARAMETER;
        if (vtl > vp->active_vtl)
                return HV_STATUS_ACCESS_DENIED;
        c->scratch[0] = vtl;
        return 0;
}

int hvcall_check_sparse_gpa(struct hv_call_ctx *c) {
        const struct hv_input_check_sparse_gpa *in = c->input;
        struct hv_output_check_sparse_gpa *out = c->elem_out;
        const struct vtl_partition *p = ((struct vtl_vp *) c->vp)->partition;
        unsigned vtl = (unsigned) c->scratch[0], denied;
        hv_gpa_page_number gpn;

        memcpy(&gpn, c->elem_in, sizeof(gpn));
        if (!vtl_memory_is_ram(p, gpn))
                return HV_STATUS_INVALID_PARAMETER;
        denied = in->desired_access & ~vtl_memory_rights(p, vtl, gpn);
        if (denied == 0)
                return 0;
        out->result = HV_SPARSE_GPA_MEMORY_INTERCEPT;
        out->denied_access = (uint8_t) denied;
        out->intercepting_vtl = 1;
        return 0;
}
