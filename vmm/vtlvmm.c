/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include "vmm/internal.h"
#include "vtl/cpuid.h"
#include "vtl/kvm-image.h"
#include "vtl/kvm-probe.h"

#define PROTECTABLE_MIN (1u << 20)
#define RESERVE_MAPPINGS_DEFAULT 4096u
#define HUGETLBFS_MAGIC 0x958458f6

int vtlvmm_fail(struct vtlvmm *v, int error, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        (void) vsnprintf(v->error, sizeof(v->error), fmt, ap);
        va_end(ap);
        return error;
}

_public_ const char *vtlvmm_error(const struct vtlvmm *v) {
        return v ? v->error : "";
}

/* Members that the caller's version did not have are 0. */
static bool take_options(const struct vtlvmm_options *given, struct vtlvmm_options *ret) {
        if (!given || given->size < offsetof(struct vtlvmm_options, reserve_mappings) ||
            given->size > sizeof(*ret))
                return false;
        *ret = (struct vtlvmm_options){ 0 };
        memcpy(ret, given, given->size);
        return true;
}

_public_ int vtlvmm_new(int kvm_fd, int vm_fd, const struct vtlvmm_options *options,
                        struct vtlvmm **ret) {
        struct vtlvmm_options o;
        struct vtlvmm *v;
        int sig;

        if (kvm_fd < 0 || vm_fd < 0 || !take_options(options, &o) || !ret)
                return -EINVAL;
        sig = o.signal ? o.signal : SIGRTMAX - 3;
        if (sig < SIGRTMIN || sig > SIGRTMAX)
                return -EINVAL;
        v = calloc(1, sizeof(*v));
        if (!v)
                return -ENOMEM;
        v->signal = sig;
        v->control_fd = v->link_fd = v->quit_fd = v->planes.overlay_fd = v->planes.vm_fd[1] = -1;
        v->planes.reserve_mappings =
                o.reserve_mappings ? o.reserve_mappings : RESERVE_MAPPINGS_DEFAULT;
        v->vina_poll_us = VINA_POLL_US_DEFAULT;
        v->planes.kvm_fd = kvm_fd;
        v->planes.vm_fd[0] = vm_fd;
        memcpy(v->uuid, o.uuid, sizeof(v->uuid));
        v->name = strdup(o.name ? o.name : "unnamed");
        if (!v->name) {
                free(v);
                return -ENOMEM;
        }
        *ret = v;
        return 0;
}

_public_ struct vtlvmm *vtlvmm_free(struct vtlvmm *v) {
        uint64_t one = 1;

        if (!v)
                return NULL;
        if (v->watching) {
                (void) !write(v->quit_fd, &one, sizeof(one));
                (void) pthread_join(v->watcher, NULL);
        }
        if (v->free_engine)
                v->free_engine(v);
        attach_client_free(v->client);
        plane_stock_stop(&v->planes);
        for (unsigned i = 0; i < v->planes.n_vps; i++) {
                if (v->vcpus[i].has_tick)
                        (void) timer_delete(v->vcpus[i].tick);
                (void) safe_close(v->vcpus[i].kick_read);
                (void) safe_close(v->planes.vps[i].kick_fd);
                free(v->vcpus[i].cpuid);
                free(v->vcpus[i].reset_state);
        }
        if (v->control)
                (void) munmap(v->control, v->control_size);
        if (v->overlay)
                (void) munmap(v->overlay, (size_t) vtl_overlay_pages(v->planes.n_vps) * 4096);
        (void) safe_close(v->control_fd);
        (void) safe_close(v->planes.overlay_fd);
        (void) safe_close(v->link_fd);
        (void) safe_close(v->quit_fd);
        free(v->name);
        free(v);
        return NULL;
}

static int check_memfd(struct vtlvmm *v, int fd, uint64_t offset, uint64_t size) {
        struct statfs fs;
        struct stat st;
        int seals = fcntl(fd, F_GET_SEALS);

        if (seals < 0)
                return vtlvmm_fail(v, -ENOTSUP, "guest RAM must be a memfd");
        if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
                return vtlvmm_fail(v, -errno, "guest RAM cannot be looked at");
        if ((unsigned long) fs.f_type == HUGETLBFS_MAGIC || fs.f_bsize != 4096)
                return vtlvmm_fail(v, -ENOTSUP,
                                   "guest RAM must be of 4 KiB pages, not of huge pages");
        if (!(seals & F_SEAL_SHRINK))
                return vtlvmm_fail(v, -ENOTSUP, "guest RAM must be sealed with F_SEAL_SHRINK");
        if (st.st_size < 0 || offset > (uint64_t) st.st_size ||
            size > (uint64_t) st.st_size - offset)
                return vtlvmm_fail(v, -EINVAL, "the memory slot reaches past the end of its memfd");
        return 0;
}

_public_ int vtlvmm_add_memory(struct vtlvmm *v, const struct kvm_userspace_memory_region *slot,
                               int fd, uint64_t fd_offset) {
        struct stock_region *region;
        int r;

        if (!v || !slot)
                return -EINVAL;
        if (v->started)
                return vtlvmm_fail(v, -EBUSY, "memory cannot be added once the VM is started");
        if (slot->memory_size == 0 ||
            !is_aligned(slot->guest_phys_addr | slot->memory_size, 4096) ||
            slot->guest_phys_addr > UINT64_MAX - slot->memory_size || !is_aligned(fd_offset, 4096))
                return vtlvmm_fail(v, -EINVAL, "the memory slot is not made of whole pages");
        if (v->planes.n_regions == STOCK_REGIONS_MAX)
                return vtlvmm_fail(v, -E2BIG, "more than %u memory slots", STOCK_REGIONS_MAX);
        if (fd < 0 && slot->memory_size >= PROTECTABLE_MIN && !(slot->flags & KVM_MEM_READONLY))
                return vtlvmm_fail(v, -ENOTSUP,
                                   "a memory slot of 1 MiB or more must be a sealed memfd");
        if (fd >= 0) {
                r = check_memfd(v, fd, fd_offset, slot->memory_size);
                if (r < 0)
                        return r;
        }
        region = &v->planes.regions[v->planes.n_regions];
        *region = (struct stock_region){ .gpa = slot->guest_phys_addr,
                                         .size = slot->memory_size,
                                         .slot = slot->slot,
                                         .flags = slot->flags,
                                         .hva = slot->userspace_addr,
                                         .fd = fd,
                                         .fd_offset = fd_offset };
        v->planes.n_regions++;
        return 0;
}

static unsigned phys_bits(const struct kvm_cpuid2 *c) {
        for (uint32_t i = 0; i < c->nent; i++)
                if (c->entries[i].function == 0x80000008u)
                        return c->entries[i].eax & 0xff;
        return 36;
}

_public_ int vtlvmm_add_vcpu(struct vtlvmm *v, int fd, unsigned long id, struct kvm_run *run,
                             const struct kvm_cpuid2 *cpuid, struct vtlvmm_vcpu **ret) {
        struct vtlvmm_vcpu *vcpu;
        struct stock_vp *vp;
        int pipes[2];
        size_t size;

        if (!v || fd < 0 || !run || !cpuid || !ret)
                return -EINVAL;
        if (v->started)
                return vtlvmm_fail(v, -EBUSY, "vCPUs cannot be added once the VM is started");
        if (v->planes.n_vps == VTL_MAX_VPS)
                return vtlvmm_fail(v, -E2BIG, "more than %u vCPUs", VTL_MAX_VPS);
        /* VTL0's APIC is reached by MSIs, whose destination has 8 bits. */
        if (id > UINT8_MAX)
                return vtlvmm_fail(v, -EINVAL, "a vCPU id of %lu is above 255", id);
        for (unsigned i = 0; i < v->planes.n_vps; i++)
                if (v->planes.vps[i].id == id)
                        return vtlvmm_fail(v, -EEXIST, "two vCPUs with the id %lu", id);
        size = sizeof(*cpuid) + cpuid->nent * sizeof(cpuid->entries[0]);
        vp = &v->planes.vps[v->planes.n_vps];
        vcpu = &v->vcpus[v->planes.n_vps];
        vcpu->cpuid = malloc(size);
        if (!vcpu->cpuid)
                return -ENOMEM;
        memcpy(vcpu->cpuid, cpuid, size);
        if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0) {
                int e = -errno;

                free(TAKE_PTR(vcpu->cpuid));
                return vtlvmm_fail(v, e, "no pipe for a vCPU's kicks");
        }
        *vp = (struct stock_vp){ .plane = { { .fd = fd, .run = run }, { .fd = -1 } },
                                 .id = id,
                                 .kick_fd = pipes[1],
                                 .seen_xcr0 = { 1, 1 } };
        vcpu->vtlvmm = v;
        vcpu->vp = vp;
        vcpu->index = v->planes.n_vps++;
        vcpu->kick_read = pipes[0];
        *ret = vcpu;
        return 0;
}

static int make_memfd(struct vtlvmm *v, const char *name, size_t size, int *ret_fd, void **ret) {
        _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        void *m;

        if (fd < 0 || ftruncate(fd, (off_t) size) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return vtlvmm_fail(v, -errno, "no shared memory for %s", name);
        m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (m == MAP_FAILED)
                return vtlvmm_fail(v, -errno, "no shared memory for %s", name);
        *ret_fd = TAKE_FD(fd);
        *ret = m;
        return 0;
}

static int set_up_planes(struct vtlvmm *v) {
        struct kvm_cpuid2 *tables[VTL_MAX_VPS] = { 0 };
        int r = 0;

        for (unsigned i = 0; i < v->planes.n_vps && r == 0; i++) {
                v->planes.vps[i].ctl = vtl_control_vp(v->control, i);
                r = vtl_cpuid_adjust(v->vcpus[i].cpuid, v->planes.n_vps, &tables[i]);
        }
        if (r == 0) {
                r = plane_stock_start(&v->planes, tables);
                if (r < 0)
                        (void) vtlvmm_fail(v, r, "%s: %s", v->planes.failed, strerror(-r));
        }
        for (unsigned i = 0; i < v->planes.n_vps; i++)
                free(tables[i]);
        return r;
}

/* Both a plain store and a plain load to a closed page come as EFAULT with RIP at the instruction.
 */
static bool faults_are_precise(int kvm_fd) {
        static const enum probe_access tried[] = { PROBE_STORE, PROBE_LOAD };
        struct probe_result result;
        const char *what;

        for (size_t i = 0; i < ARRAY_SIZE(tried); i++)
                if (probe_guest_run(kvm_fd, tried[i], &result, &what) < 0 ||
                    result.outcome != PROBE_FAULT)
                        return false;
        return true;
}

int vtlvmm_check(struct vtlvmm *v) {
        bool ram = false;

        if (v->started)
                return vtlvmm_fail(v, -EBUSY, "the VM is started already");
        if (v->planes.n_vps == 0)
                return vtlvmm_fail(v, -EINVAL, "no vCPU has been added");
        for (size_t i = 0; i < v->planes.n_regions; i++)
                ram = ram || v->planes.regions[i].fd >= 0;
        return ram ? 0 : vtlvmm_fail(v, -EINVAL, "no guest RAM has been added");
}

int vtlvmm_prepare(struct vtlvmm *v) {
        struct vtl_control_header *h;
        void *overlay = NULL;
        int r;

        r = vtlvmm_check(v);
        if (r < 0)
                return r;
        v->started = true;
        v->control_size = vtl_control_size(v->planes.n_vps);
        r = make_memfd(v, "vtl-control", v->control_size, &v->control_fd, &v->control);
        if (r < 0)
                return r;
        r = make_memfd(v, "vtl-overlay", (size_t) vtl_overlay_pages(v->planes.n_vps) * 4096,
                       &v->planes.overlay_fd, &overlay);
        if (r < 0)
                return r;
        v->overlay = overlay;
        h = v->control;
        h->magic = VTL_CONTROL_MAGIC;
        h->version = VTL_CONTROL_VERSION;
        h->vps = v->planes.n_vps;
        v->planes.header = h;
        r = set_up_planes(v);
        if (r < 0)
                return r;
        r = vtlvmm_keep_reset_state(v);
        if (r < 0)
                return r;
        r = ioctl(v->planes.vps[0].plane[0].fd, KVM_GET_TSC_KHZ, 0);
        /* 0: not one that guests can rely on; they use the reference counter then. */
        v->tsc_khz = r > 0 && probe_stable_tsc() > 0 ? (uint64_t) r : 0;
        v->phys_bits = phys_bits(v->vcpus[0].cpuid);
        v->precise_faults = faults_are_precise(v->planes.kvm_fd);
        h->precise_faults = v->precise_faults;
        h->can_step = vtlvmm_can_step(v->planes.vm_fd[0]);
        return 0;
}
