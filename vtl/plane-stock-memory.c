/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The planes' views of guest RAM: rights, overlay pages, and how many mappings they take. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/plane-stock-internal.h"

static int protection_of(uint32_t access) {
        return (access & HV_MAP_GPA_READABLE ? PROT_READ : PROT_NONE) |
               ((access & HV_MAP_GPA_READABLE) && (access & HV_MAP_GPA_WRITABLE) ? PROT_WRITE : 0);
}

const struct stock_region *plane_stock_ram(const struct plane_stock *s, uint64_t gpa) {
        for (size_t i = 0; i < s->n_regions; i++) {
                const struct stock_region *r = &s->regions[i];

                if (r->fd >= 0 && gpa >= r->gpa && gpa - r->gpa < r->size)
                        return r;
        }
        return NULL;
}

/* What both views may have together, and a view on which nothing may change has. */
static size_t mappings_left_to(struct plane_stock *s, unsigned plane) {
        size_t taken = s->other_mappings + s->reserve_mappings +
                       mappings_count(s->mappings[plane ? 0 : 1]);

        return s->max_map_count > taken ? s->max_map_count - taken : 0;
}

void plane_stock_publish_mappings(struct plane_stock *s) {
        size_t used = mappings_count(s->mappings[0]) + mappings_count(s->mappings[1]);

        s->header->mappings = used;
        s->header->mappings_max = mappings_left_to(s, 0) + mappings_count(s->mappings[1]);
}

/* The limit is near: the VMM may have given mappings back since it was last looked. */
static bool look_again(struct plane_stock *s) {
        size_t views = mappings_count(s->mappings[0]) + mappings_count(s->mappings[1]);
        size_t before = s->other_mappings, all = plane_stock_process_mappings();

        if (all > 0)
                s->other_mappings = all > views ? all - views : 0;
        return s->other_mappings < before;
}

static int protect_range(struct plane_stock *s, unsigned plane, const struct plane_range *range) {
        const struct stock_region *r = plane_stock_ram(s, range->gpn << HV_PAGE_SHIFT);

        return mprotect(r->view[plane] + ((range->gpn << HV_PAGE_SHIFT) - r->gpa),
                        range->count << HV_PAGE_SHIFT, protection_of(range->access)) < 0
                     ? -errno
                     : 0;
}

static int protect_all(struct plane_stock *s, unsigned plane, const struct plane_range *ranges,
                       size_t n) {
        for (size_t i = 0; i < n; i++) {
                int r = protect_range(s, plane, &ranges[i]);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* All of it or nothing: whether it fits is known before the first change, and what fails all the
 * same is taken back in reverse order. */
int stock_protect(void *ctx, unsigned vp, unsigned plane, const struct plane_range *ranges,
                  size_t n) {
        struct plane_stock *s = ctx;
        _cleanup_free_ struct plane_range *undo = NULL;
        size_t n_undo = 0;
        int r;

        if (plane >= PLANE_MAX)
                return -EINVAL;
        for (size_t i = 0; i < n; i++)
                if (ranges[i].gpn > UINT64_MAX >> HV_PAGE_SHIFT)
                        return -EINVAL;
        r = mappings_set(s->mappings[plane], ranges, n, mappings_left_to(s, plane), &undo, &n_undo);
        if (r == -ENOMEM && look_again(s))
                r = mappings_set(s->mappings[plane], ranges, n, mappings_left_to(s, plane), &undo,
                                 &n_undo);
        if (r == 0) {
                r = protect_all(s, plane, ranges, n);
                if (r < 0) {
                        mappings_undo(s->mappings[plane], undo, n_undo);
                        while (n_undo-- > 0)
                                (void) protect_range(s, plane, &undo[n_undo]);
                }
        }
        plane_stock_publish_mappings(s);
        return r;
}

int stock_overlay(void *ctx, unsigned vp, unsigned plane, uint64_t gpn, uint32_t page,
                  uint32_t access) {
        struct plane_stock *s = ctx;
        const struct stock_region *r =
                gpn > UINT64_MAX >> HV_PAGE_SHIFT ? NULL : plane_stock_ram(s, gpn << HV_PAGE_SHIFT);
        uint64_t at;
        void *m;
        int e;

        if (plane >= PLANE_MAX || !r ||
            (page != PLANE_OVERLAY_NONE && page >= vtl_overlay_pages(s->n_vps)))
                return -EINVAL;
        e = mappings_overlay(s->mappings[plane], gpn, page != PLANE_OVERLAY_NONE, access,
                             mappings_left_to(s, plane));
        if (e < 0)
                return e;
        plane_stock_publish_mappings(s);
        at = (gpn << HV_PAGE_SHIFT) - r->gpa;
        m = mmap(r->view[plane] + at, HV_PAGE_SIZE, protection_of(access), MAP_SHARED | MAP_FIXED,
                 page == PLANE_OVERLAY_NONE ? r->fd : s->overlay_fd,
                 (off_t) (page == PLANE_OVERLAY_NONE ? r->fd_offset + at
                                                     : (uint64_t) page << HV_PAGE_SHIFT));
        return m == MAP_FAILED ? -errno : 0;
}

/*
 * A page that goes from the view goes from KVM's page tables too, and then KVM has every vCPU of
 * the VM flush its TLB before this returns or it enters the guest. The page is mapped at the
 * moment, since the guest has just executed from it; were it not, it would have gone meanwhile,
 * with a flush of its own. Its contents are the memfd's, and stay. With shadow paging a flush does
 * not make KVM look at changed page tables: the VPs have to do it themselves.
 */
int stock_flush(void *ctx, unsigned vp, unsigned plane, uint64_t gpn) {
        struct plane_stock *s = ctx;
        const struct stock_region *r =
                gpn > UINT64_MAX >> HV_PAGE_SHIFT ? NULL : plane_stock_ram(s, gpn << HV_PAGE_SHIFT);

        if (!s->tdp)
                return -EOPNOTSUPP;
        if (plane >= PLANE_MAX || !r)
                return -EINVAL;
        return madvise(r->view[plane] + ((gpn << HV_PAGE_SHIFT) - r->gpa), HV_PAGE_SIZE,
                       MADV_DONTNEED) < 0
                     ? -errno
                     : 0;
}
