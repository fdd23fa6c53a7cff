/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Making the higher plane: views, slots, MSR filters, vCPUs. */

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/plane-stock.h"

#define HV_MSR_COUNT (HV_MSR_LAST - HV_MSR_FIRST + 1u)
#define MSR_APIC_BASE 0x1b
#define MSR_MCG_STATUS 0x17a
#define MSR_MTRR_VARIABLE 0x200
#define MSR_MTRR_FIXED 0x250
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MSR_TSC_DEADLINE 0x6e0
#define MAP_COUNT_DEFAULT 65530 /* of vm.max_map_count */

static int fail(struct plane_stock *s, const char *what, int error) {
        s->failed = what;
        return error;
}

static int make_views(struct plane_stock *s, struct stock_region *r) {
        for (unsigned plane = 0; plane < PLANE_MAX; plane++) {
                void *m = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
                               (off_t) r->fd_offset);

                if (m == MAP_FAILED)
                        return fail(s, "mapping a view of guest RAM", -errno);
                r->view[plane] = m;
                /* RAM is in the VMM's own mapping already: not three times in a core dump, not into
                 * a child. */
                (void) madvise(m, r->size, MADV_DONTDUMP);
                (void) madvise(m, r->size, MADV_DONTFORK);
        }
        return 0;
}

static size_t read_number(const char *path, size_t otherwise) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        char text[32] = "";

        return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 ? strtoul(text, NULL, 10)
                                                               : otherwise;
}

size_t plane_stock_process_mappings(void) {
        _cleanup_close_ int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
        char text[16384];
        size_t lines = 0;
        ssize_t n;

        while (fd >= 0 && (n = read(fd, text, sizeof(text))) > 0)
                for (ssize_t i = 0; i < n; i++)
                        lines += text[i] == '\n';
        return lines;
}

static int count_mappings(struct plane_stock *s) {
        struct protect_region regions[STOCK_REGIONS_MAX];
        size_t n = 0;

        for (size_t i = 0; i < s->n_regions; i++)
                if (s->regions[i].fd >= 0)
                        regions[n++] =
                                (struct protect_region){ s->regions[i].gpa >> HV_PAGE_SHIFT,
                                                         s->regions[i].size >> HV_PAGE_SHIFT };
        for (unsigned plane = 0; plane < PLANE_MAX; plane++) {
                int r = mappings_new(&s->mappings[plane], regions, n);

                if (r < 0)
                        return fail(s, "counting the mappings of guest RAM", r);
        }
        s->max_map_count = read_number("/proc/sys/vm/max_map_count", MAP_COUNT_DEFAULT);
        s->other_mappings = plane_stock_process_mappings();
        plane_stock_publish_mappings(s);
        return 0;
}

static int set_slot(int vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size,
                    uint64_t hva) {
        struct kvm_userspace_memory_region m = { .slot = slot,
                                                 .flags = flags,
                                                 .guest_phys_addr = gpa,
                                                 .memory_size = size,
                                                 .userspace_addr = hva };

        return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &m) < 0 ? -errno : 0;
}

/* VM0's slot moves to plane 0's view. An address cannot be changed, so the slot goes and comes
 * back. */
static int move_slot(struct plane_stock *s, const struct stock_region *r) {
        int e = set_slot(s->vm_fd[0], r->slot, r->flags, r->gpa, 0, r->hva);

        if (e == 0)
                e = set_slot(s->vm_fd[0], r->slot, r->flags, r->gpa, r->size,
                             (uintptr_t) r->view[0]);
        return e < 0 ? fail(s, "moving a memory slot to its view", e) : 0;
}

/* The same memory in VM1, without the page of VTL1's APIC, which is the engine's. */
static int add_slots(struct plane_stock *s, const struct stock_region *r, uint32_t *slot) {
        uint64_t hva = r->fd >= 0 ? (uintptr_t) r->view[1] : r->hva, end = r->gpa + r->size;
        uint64_t cut = STOCK_APIC_PAGE >= r->gpa && STOCK_APIC_PAGE < end ? STOCK_APIC_PAGE : end;
        uint64_t after = cut == end ? end : MIN(end, cut + HV_PAGE_SIZE);
        int e = 0;

        if (cut > r->gpa)
                e = set_slot(s->vm_fd[1], (*slot)++, r->flags & KVM_MEM_READONLY, r->gpa,
                             cut - r->gpa, hva);
        if (e == 0 && end > after)
                e = set_slot(s->vm_fd[1], (*slot)++, r->flags & KVM_MEM_READONLY, after,
                             end - after, hva + (after - r->gpa));
        return e < 0 ? fail(s, "giving memory to the higher plane", e) : 0;
}

static void add_range(struct kvm_msr_filter *f, size_t *n, uint32_t flags, uint32_t base,
                      uint32_t count, uint8_t *allowed) {
        f->ranges[(*n)++] = (struct kvm_msr_filter_range){
                .flags = flags, .nmsrs = count, .base = base, .bitmap = allowed
        };
}

/* KVM's bitmaps say what is allowed, ours what comes out. */
struct allowed_msrs {
        uint8_t hv[HV_MSR_COUNT / 8];
        struct plane_msr_filter rest;
};

static void invert(uint8_t *out, const uint8_t *in, size_t n) {
        for (size_t i = 0; i < n; i++)
                out[i] = (uint8_t) ~in[i];
}

static bool any(const uint8_t *bitmap, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (bitmap[i])
                        return true;
        return false;
}

static void add_intercepts(struct kvm_msr_filter *f, size_t *n, struct allowed_msrs *allowed,
                           const struct plane_msr_filter *wanted) {
        static const uint32_t bases[PLANE_MSR_WINDOWS] = PLANE_MSR_WINDOW_BASES;

        for (unsigned i = 0; i < PLANE_MSR_WINDOWS; i++) {
                const struct {
                        uint32_t flag;
                        const uint8_t *wanted;
                        uint8_t *allowed;
                } kinds[] = {
                        { KVM_MSR_FILTER_READ, wanted->read[i], allowed->rest.read[i] },
                        { KVM_MSR_FILTER_WRITE, wanted->write[i], allowed->rest.write[i] },
                };

                for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
                        if (!any(kinds[k].wanted, sizeof(wanted->read[i])))
                                continue;
                        invert(kinds[k].allowed, kinds[k].wanted, sizeof(wanted->read[i]));
                        add_range(f, n, kinds[k].flag, bases[i], PLANE_MSR_WINDOW_SIZE,
                                  kinds[k].allowed);
                }
        }
}

/* EOI, ICR and TPR of VTL0 stay KVM's where it knows them. VTL1's APIC is the engine's, and so is
 * what KVM has of it without an APIC; MTRRs and MCG_STATUS are shared, and VTL0's vCPU has them. */
int plane_stock_filter_msrs(struct plane_stock *s, unsigned plane) {
        static const struct {
                uint32_t first, count;
        } engine_msrs[] = {
                { MSR_APIC_BASE, 1 },   { MSR_MCG_STATUS, 1 },    { MSR_MTRR_VARIABLE, 16 },
                { MSR_MTRR_FIXED, 32 }, { MSR_MTRR_DEF_TYPE, 1 }, { MSR_TSC_DEADLINE, 1 },
        };
        static uint8_t nothing[32 / 8];
        _cleanup_free_ struct allowed_msrs *allowed = calloc(1, sizeof(*allowed));
        struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };
        const uint32_t both = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
        size_t n = 0;

        if (!allowed)
                return -ENOMEM;
        if (plane == 0 && s->kernel_apic_msrs)
                for (unsigned m = HV_MSR_EOI - HV_MSR_FIRST; m <= HV_MSR_TPR - HV_MSR_FIRST; m++)
                        plane_bit_set(allowed->hv, m, true);
        add_range(&filter, &n, both, HV_MSR_FIRST, HV_MSR_COUNT, allowed->hv);
        if (plane == 0)
                add_intercepts(&filter, &n, allowed, &s->msr_filter);
        for (size_t i = 0; plane > 0 && i < ARRAY_SIZE(engine_msrs); i++)
                add_range(&filter, &n, both, engine_msrs[i].first, engine_msrs[i].count, nothing);
        return ioctl(s->vm_fd[plane], KVM_X86_SET_MSR_FILTER, &filter) < 0 ? -errno : 0;
}

static int filter_msrs(struct plane_stock *s, unsigned plane) {
        struct kvm_enable_cap cap = {
                .cap = KVM_CAP_X86_USER_SPACE_MSR,
                .args = { plane == 0 ? KVM_MSR_EXIT_REASON_FILTER
                                     : KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_INVAL |
                                               KVM_MSR_EXIT_REASON_UNKNOWN },
        };
        int r;

        if (ioctl(s->vm_fd[plane], KVM_ENABLE_CAP, &cap) < 0)
                return fail(s, "KVM_CAP_X86_USER_SPACE_MSR", -errno);
        r = plane_stock_filter_msrs(s, plane);
        return r < 0 ? fail(s, "KVM_X86_SET_MSR_FILTER", r) : 0;
}

/* KVM's hypercalls name VPs by its own index, which has to be ours. Where that cannot be none goes
 * to KVM. */
static void set_vp_index(struct plane_stock *s, struct stock_vp *vp) {
        struct {
                struct kvm_msrs h;
                struct kvm_msr_entry e;
        } m = { .h.nmsrs = 1, .e = { .index = HV_MSR_VP_INDEX, .data = (uint64_t) (vp - s->vps) } };

        if (ioctl(vp->plane[0].fd, KVM_SET_MSRS, &m) != 1)
                s->kernel_hypercalls = false;
}

static int make_vcpu(struct plane_stock *s, struct stock_vp *vp, struct kvm_cpuid2 *cpuid) {
        struct stock_vcpu *c = &vp->plane[1];
        void *m;

        if (ioctl(vp->plane[0].fd, KVM_SET_CPUID2, cpuid) < 0)
                return fail(s, "KVM_SET_CPUID2 on the VMM's vCPU", -errno);
        if (s->kernel_hypercalls)
                set_vp_index(s, vp);
        c->fd = ioctl(s->vm_fd[1], KVM_CREATE_VCPU, vp->id);
        if (c->fd < 0)
                return fail(s, "KVM_CREATE_VCPU for the higher plane", -errno);
        m = mmap(NULL, s->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
        if (m == MAP_FAILED)
                return fail(s, "mapping kvm_run of the higher plane", -errno);
        c->run = m;
        if (ioctl(c->fd, KVM_SET_CPUID2, cpuid) < 0)
                return fail(s, "KVM_SET_CPUID2 for the higher plane", -errno);
        if (ioctl(c->fd, KVM_GET_REGS, &c->run->s.regs.regs) < 0 ||
            ioctl(c->fd, KVM_GET_SREGS, &c->run->s.regs.sregs) < 0)
                return fail(s, "reading registers of the higher plane", -errno);
        vp->plane[0].run->kvm_valid_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
        c->run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
        vp->fpu = calloc(1, sizeof(*vp->fpu));
        vp->fpu_now = calloc(1, sizeof(*vp->fpu_now));
        return vp->fpu && vp->fpu_now ? 0 : fail(s, "memory for the FPU state", -ENOMEM);
}

static int check_capabilities(struct plane_stock *s) {
        static const struct {
                long cap;
                long bits;
                const char *name;
        } needed[] = {
                { KVM_CAP_USER_MEMORY, 1, "KVM_CAP_USER_MEMORY" },
                { KVM_CAP_IMMEDIATE_EXIT, 1, "KVM_CAP_IMMEDIATE_EXIT" },
                { KVM_CAP_SYNC_REGS, KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS, "KVM_CAP_SYNC_REGS" },
                { KVM_CAP_X86_USER_SPACE_MSR, 1, "KVM_CAP_X86_USER_SPACE_MSR" },
                { KVM_CAP_X86_MSR_FILTER, 1, "KVM_CAP_X86_MSR_FILTER" },
                { KVM_CAP_XSAVE, 1, "KVM_CAP_XSAVE" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
                int r = ioctl(s->kvm_fd, KVM_CHECK_EXTENSION, needed[i].cap);

                if (r <= 0 || ((long) r & needed[i].bits) == 0)
                        return fail(s, needed[i].name, -ENOTSUP);
        }
        return 0;
}

static bool module_flag(const char *path) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        char c = 'N';

        return fd >= 0 && read(fd, &c, 1) == 1 && (c == 'Y' || c == '1');
}

/* Nested paging; where KVM does not say, shadow paging is assumed. */
static bool uses_tdp(void) {
        return module_flag("/sys/module/kvm_amd/parameters/npt") ||
               module_flag("/sys/module/kvm_intel/parameters/ept");
}

int plane_stock_start(struct plane_stock *s, struct kvm_cpuid2 *const *cpuid) {
        uint32_t slot = 0;
        int r;

        r = check_capabilities(s);
        if (r < 0)
                return r;
        s->has_debugregs = ioctl(s->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_DEBUGREGS) > 0;
        s->has_xcrs = ioctl(s->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XCRS) > 0;
        s->tdp = uses_tdp();
        s->kernel_apic_msrs = ioctl(s->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_HYPERV) > 0;
        s->kernel_synic = ioctl(s->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_HYPERV_SYNIC2) > 0;
        s->kernel_hypercalls = s->kernel_apic_msrs;
        r = ioctl(s->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
        if (r <= 0)
                return fail(s, "KVM_GET_VCPU_MMAP_SIZE", r < 0 ? -errno : -EINVAL);
        s->run_size = (size_t) r;
        r = count_mappings(s);
        if (r < 0)
                return r;
        s->vm_fd[1] = ioctl(s->kvm_fd, KVM_CREATE_VM, 0);
        if (s->vm_fd[1] < 0)
                return fail(s, "KVM_CREATE_VM for the higher plane", -errno);

        for (size_t i = 0; i < s->n_regions; i++) {
                struct stock_region *region = &s->regions[i];

                if (region->fd >= 0) {
                        r = make_views(s, region);
                        if (r == 0)
                                r = move_slot(s, region);
                        if (r < 0)
                                return r;
                }
                r = add_slots(s, region, &slot);
                if (r < 0)
                        return r;
        }
        for (unsigned plane = 0; plane < PLANE_MAX; plane++) {
                r = filter_msrs(s, plane);
                if (r < 0)
                        return r;
        }
        for (unsigned i = 0; i < s->n_vps; i++) {
                r = make_vcpu(s, &s->vps[i], cpuid[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

void plane_stock_stop(struct plane_stock *s) {
        for (unsigned i = 0; i < s->n_vps; i++) {
                struct stock_vp *vp = &s->vps[i];

                if (vp->plane[1].run)
                        (void) munmap(vp->plane[1].run, s->run_size);
                vp->plane[1].run = NULL;
                vp->plane[1].fd = safe_close(vp->plane[1].fd);
                free(vp->fpu);
                free(vp->fpu_now);
                vp->fpu = vp->fpu_now = NULL;
        }
        s->vm_fd[1] = safe_close(s->vm_fd[1]);
        free(atomic_exchange(&s->port_filter, NULL));
        for (unsigned plane = 0; plane < PLANE_MAX; plane++)
                s->mappings[plane] = mappings_free(s->mappings[plane]);
        for (size_t i = 0; i < s->n_regions; i++) {
                struct stock_region *r = &s->regions[i];

                /* The slot goes and does not come back with the VMM's own mapping: nothing would
                 * protect VTL1's pages there. Whoever stops is done with this guest. */
                if (r->view[0])
                        (void) set_slot(s->vm_fd[0], r->slot, r->flags, r->gpa, 0, r->hva);
                for (unsigned plane = 0; plane < PLANE_MAX; plane++)
                        if (r->view[plane]) {
                                (void) munmap(r->view[plane], r->size);
                                r->view[plane] = NULL;
                        }
        }
}
