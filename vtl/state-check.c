/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whether what a saved partition says fits together. */

#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/intercept.h"
#include "vtl/memory.h"
#include "vtl/overlay.h"
#include "vtl/state-loading.h"
#include "vtl/strict.h"
#include "vtl/synic.h"

#define APIC_PAGE 0xfee00000ull
#define STIMER_RESERVED 0xfffffffffff0e000ull

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

static int check_vp(const struct state_loading *l, unsigned i) {
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
static int check_protections(struct state_loading *l) {
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

static int check_covered(void *userdata, uint64_t gpn, uint64_t count, unsigned mask) {
        const struct state_loading *l = userdata;

        for (uint64_t i = 0; i < count; i++)
                if (mask != 0 || !vtl_strict_wants(protect_get(l->protect, gpn + i)))
                        return -EBADMSG;
        return 0;
}

/* There may be more room here than where it was saved. */
static int cover_run(void *userdata, uint64_t gpn, uint64_t count, unsigned mask) {
        struct state_loading *l = userdata;
        int r = 0;

        if (!vtl_strict_wants(mask))
                return 0;
        for (uint64_t i = 0; i < count && r == 0; i++) {
                if (protect_get(l->strict, gpn + i) == 0)
                        continue;
                if (protect_restricted(l->strict) >= l->p->config.options.strict_execute_pages) {
                        l->extra.unenforced |= VTL_UNENFORCED_EXECUTE;
                        return 0;
                }
                r = protect_set(l->strict, gpn + i, 0, NULL);
        }
        return r;
}

static int check_strict(struct state_loading *l) {
        int r;

        if (!l->strict)
                return 0;
        if (protect_restricted(l->strict) > l->p->config.options.strict_execute_pages)
                return -EPERM;
        r = protect_explicit_runs(l->strict, check_covered, l);
        return r < 0 ? r : protect_explicit_runs(l->protect, cover_run, l);
}

static int check_policy(const struct state_loading *l) {
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

static int check_partition(const struct state_loading *l) {
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

bool state_mapped_page(const struct state_loading *l, unsigned i, struct state_mapped *ret) {
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

static int check_overlays(const struct state_loading *l) {
        struct state_mapped a, b;

        for (unsigned i = 0; state_mapped_page(l, i, &a); i++) {
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
                        if (state_mapped_page(l, k, &b) && b.vtl == a.vtl &&
                            (b.msr & HV_MSR_PAGE_ENABLE) && HV_MSR_PAGE_GPN(b.msr) == gpn)
                                return -EBADMSG;
        }
        return 0;
}

int state_check(struct state_loading *l) {
        int r = check_partition(l);

        for (unsigned i = 0; i < l->p->n_vps && r == 0; i++)
                r = check_vp(l, i);
        if (r == 0)
                r = check_protections(l);
        if (r == 0)
                r = check_strict(l);
        if (r == 0)
                r = check_overlays(l);
        return r < 0 ? r : check_policy(l);
}
