/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/hold.h"
#include "vtl/measure.h"
#include "vtl/memory.h"
#include "vtl/walk.h"

#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define CR0_PG (1ull << 31)

/* Beside one table per page of the limit: the upper levels of several sparse mappings */
#define TABLES_EXTRA 64u

/* ---- What can be executed ---- */

struct pages {
        const struct vtl_partition *partition;
        uint64_t left;           /* bytes */
        vtl_measure_page_fn *fn; /* NULL: count only */
        void *userdata;
};

/* The RAM at @gpa or, when there is none, the next one above; NULL: none. */
static const struct vtl_region *region_from(const struct vtl_partition *p, uint64_t gpa) {
        const struct vtl_region *best = NULL;

        for (size_t i = 0; i < p->n_regions; i++) {
                const struct vtl_region *r = &p->regions[i];

                if (r->gpa + r->size > gpa && (!best || r->gpa < best->gpa))
                        best = r;
        }
        return best;
}

static int take_page(struct pages *pages, const struct walk_leaf *leaf, uint64_t gpa) {
        uint32_t flags =
                (leaf->writable ? VTL_MEASURE_WRITABLE : 0) | (leaf->user ? VTL_MEASURE_USER : 0);
        uint8_t page[HV_PAGE_SIZE];
        int r;

        r = vtl_memory_read(pages->partition, 1, gpa, page, sizeof(page), 0);
        if (r < 0)
                return r;
        return pages->fn(pages->userdata, leaf->gva + (gpa - leaf->gpa), flags, page);
}

/* A large page may reach beyond RAM, on either side and in the middle. */
static int take_leaf(void *userdata, const struct walk_leaf *leaf) {
        struct pages *pages = userdata;
        uint64_t at = leaf->gpa, end = leaf->gpa + leaf->size;
        const struct vtl_region *region;
        int r = 0;

        while (r == 0 && at < end && (region = region_from(pages->partition, at))) {
                uint64_t stop = MIN(end, region->gpa + region->size);

                at = MAX(at, region->gpa);
                if (at >= stop)
                        break;
                if (stop - at > pages->left)
                        return -E2BIG;
                pages->left -= stop - at;
                for (; pages->fn && r == 0 && at < stop; at += HV_PAGE_SIZE)
                        r = take_page(pages, leaf, at);
                at = stop;
        }
        return r;
}

/* As the CPU will have them (transition.c) */
static struct kvm_sregs initial_sregs(const struct hv_initial_vp_context *c) {
        struct kvm_sregs s = { .cr0 = c->cr0, .cr3 = c->cr3, .cr4 = c->cr4, .efer = c->efer };

        s.efer &= ~EFER_LMA;
        if ((s.cr0 & CR0_PG) && (s.efer & EFER_LME))
                s.efer |= EFER_LMA;
        return s;
}

int vtl_measure_pages(const struct vtl_partition *p, const struct hv_initial_vp_context *c,
                      uint64_t limit, vtl_measure_page_fn *fn, void *userdata) {
        struct vtl_memory_view view = { .partition = p, .vtl = 1 };
        struct walk_space space = vtl_memory_space(&view);
        struct pages pages = { .partition = p, .left = limit };
        const struct kvm_sregs s = initial_sregs(c);
        uint64_t tables = limit / HV_PAGE_SIZE + TABLES_EXTRA;
        int r;

        /* What is too much is found out before it is read. */
        r = walk_executable(&space, &s, tables, take_leaf, &pages);
        if (r != 0)
                return r;
        pages = (struct pages){ .partition = p, .left = limit, .fn = fn, .userdata = userdata };
        return walk_executable(&space, &s, tables, take_leaf, &pages);
}

/* ---- Whether it may ---- */

/* The other VPs stay out of the guest: what is measured is what will run. */
static int ask(struct vtl_vp *vp, bool entry) {
        struct vtl_partition *p = vp->partition;
        int r;

        if (p->measure_refusals >= VTL_MEASURE_REFUSALS_MAX)
                return VTL_ENTRY_REFUSED;
        r = vtl_hold(vp);
        if (r > 0)
                return VTL_ENTRY_AGAIN;
        if (r == 0)
                r = p->config.measure(p->config.userdata, vp, entry);
        vtl_release(vp);
        if (r > 0)
                p->measure_refusals++;
        return r > 0 ? VTL_ENTRY_REFUSED : r;
}

static void tell_refusal(struct vtl_vp *vp) {
        vp->partition->header->denied++;
        vtl_event(vp, VTL_EVENT_DENIED, 0, 1);
}

int vtl_measure_enable(struct vtl_vp *vp) {
        struct vtl_partition *p = vp->partition;
        int r;

        if (!p->config.measure || !p->config.measure_required || p->measured)
                return 0;
        r = ask(vp, false);
        if (r == VTL_ENTRY_REFUSED)
                tell_refusal(vp);
        return r;
}

/* As if EnableVpVtl had never been */
static void disable(struct vtl_vp *vp) {
        vp->context_pending = false;
        vp->enabled_vtls &= ~2u;
        vp->ctl->enabled_vtls = vp->enabled_vtls;
        vp->partition->vp_vtl1_enabled = false;
}

int vtl_measure_entry(struct vtl_vp *vp) {
        struct vtl_partition *p = vp->partition;
        int r;

        if (!p->config.measure || p->measured)
                return 0;
        r = ask(vp, true);
        if (r == 0)
                p->measured = true;
        if (r == VTL_ENTRY_REFUSED) {
                disable(vp);
                tell_refusal(vp);
        }
        return r;
}
