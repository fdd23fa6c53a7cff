/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What libvtlvmm answers to a VMM that uses it wrongly: an errno, words that name the cause, and no
 * descriptor left. Linked with the shared library, so that this is what is exported too.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/libvtlvmm-side.h"
#include "vtl/control.h"
#include "vtl/plane-stock.h"

/* ---- vtlvmm_new() ---- */

static void test_new(void **state) {
        struct side *f = *state;
        struct vtlvmm_options good = { .size = sizeof(good) }, o = good;
        struct vtlvmm *v = NULL;

        assert_int_equal(vtlvmm_new(-1, f->null_fd, &good, &v), -EINVAL);
        assert_int_equal(vtlvmm_new(f->null_fd, -1, &good, &v), -EINVAL);
        assert_int_equal(vtlvmm_new(f->null_fd, f->null_fd, NULL, &v), -EINVAL);
        assert_int_equal(vtlvmm_new(f->null_fd, f->null_fd, &good, NULL), -EINVAL);
        o.size = 0;
        assert_int_equal(vtlvmm_new(f->null_fd, f->null_fd, &o, &v), -EINVAL);
        o.size = offsetof(struct vtlvmm_options, reserve_mappings) - 1;
        assert_int_equal(vtlvmm_new(f->null_fd, f->null_fd, &o, &v), -EINVAL);
        o.size++; /* of a caller that was compiled before the newer members were there */
        assert_int_equal(vtlvmm_new(f->null_fd, f->null_fd, &o, &v), 0);
        v = vtlvmm_free(v);
        o.size = sizeof(o) + 8;
        assert_int_equal(vtlvmm_new(f->null_fd, f->null_fd, &o, &v), -EINVAL);
        o = good;
        o.signal = SIGUSR1;
        assert_int_equal(vtlvmm_new(f->null_fd, f->null_fd, &o, &v), -EINVAL);
        o.signal = SIGRTMAX + 1;
        assert_int_equal(vtlvmm_new(f->null_fd, f->null_fd, &o, &v), -EINVAL);
        o.signal = -1;
        assert_int_equal(vtlvmm_new(f->null_fd, f->null_fd, &o, &v), -EINVAL);
        assert_null(v);
}

static void test_nothing(void **state) {
        struct side *f = *state;
        struct kvm_userspace_memory_region slot = side_slot(0, RAM_SIZE);
        struct vtlvmm_vcpu *vcpu;

        assert_null(vtlvmm_free(NULL));
        assert_string_equal(vtlvmm_error(NULL), "");
        assert_int_equal(vtlvmm_add_memory(NULL, &slot, f->ram_fd, 0), -EINVAL);
        assert_int_equal(vtlvmm_add_memory(f->v, NULL, f->ram_fd, 0), -EINVAL);
        assert_int_equal(vtlvmm_add_vcpu(NULL, f->null_fd, 0, f->run, f->cpuid, &vcpu), -EINVAL);
        assert_int_equal(vtlvmm_attach(NULL, "/nonexistent"), -EINVAL);
        assert_int_equal(vtlvmm_attach(f->v, NULL), -EINVAL);
        errno = 0;
        assert_int_equal(vtlvmm_run(NULL), -1);
        assert_int_equal(errno, EINVAL);
}

/* ---- vtlvmm_add_memory() ---- */

static void test_memory_geometry(void **state) {
        struct side *f = *state;
        const struct {
                uint64_t gpa, size, offset;
                const char *text;
        } rows[] = {
                { 0, 0, 0, "whole pages" },
                { 1, RAM_SIZE, 0, "whole pages" },
                { 0x800, RAM_SIZE, 0, "whole pages" },
                { 0, RAM_SIZE - 1, 0, "whole pages" },
                { 0, 0x800, 0, "whole pages" },
                { 0, RAM_SIZE, 8, "whole pages" },
                { 0 - (uint64_t) PAGE, 2 * PAGE, 0, "whole pages" },
                { PAGE, 0 - (uint64_t) PAGE, 0, "" },
                { 0, RAM_SIZE + PAGE, 0, "past the end" },
                { 0, RAM_SIZE, PAGE, "past the end" },
                { 0, PAGE, RAM_SIZE, "past the end" },
                { 0, PAGE, 0 - (uint64_t) PAGE, "past the end" },
                { 0, 1ull << 62, 0, "past the end" },
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct kvm_userspace_memory_region slot = side_slot(rows[i].gpa, rows[i].size);

                side_failed(f->v, vtlvmm_add_memory(f->v, &slot, f->ram_fd, rows[i].offset), EINVAL,
                            rows[i].text);
        }
        /* The last page of the memfd is still fine. */
        assert_int_equal(vtlvmm_add_memory(
                                 f->v, &(struct kvm_userspace_memory_region){ .memory_size = PAGE },
                                 f->ram_fd, RAM_SIZE - PAGE),
                         0);
}

static void refuse_ram(struct side *f, int fd, const char *text) {
        struct kvm_userspace_memory_region slot = side_slot(0, RAM_SIZE);

        assert_true(fd >= 0);
        side_failed(f->v, vtlvmm_add_memory(f->v, &slot, fd, 0), ENOTSUP, text);
        (void) close(fd);
}

static void test_memory_not_memfd(void **state) {
        struct side *f = *state;
        char path[64];
        int fd;

        refuse_ram(f, open("/dev/zero", O_RDWR | O_CLOEXEC), "must be a memfd");
        (void) snprintf(path, sizeof(path), "%s/ram", f->dir);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        (void) unlink(path);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, RAM_SIZE), 0);
        refuse_ram(f, fd, "memfd");
}

static void test_memory_closed_fd(void **state) {
        struct side *f = *state;
        struct kvm_userspace_memory_region slot = side_slot(0, RAM_SIZE);
        int fd = side_make_ram(RAM_SIZE, 0, F_SEAL_SHRINK);

        assert_true(fd >= 0);
        (void) close(fd);
        side_failed(f->v, vtlvmm_add_memory(f->v, &slot, fd, 0), ENOTSUP, "memfd");
}

static void test_memory_not_sealed(void **state) {
        struct side *f = *state;

        refuse_ram(f, side_make_ram(RAM_SIZE, 0, 0), "F_SEAL_SHRINK");
        refuse_ram(f, side_make_ram(RAM_SIZE, 0, F_SEAL_GROW), "F_SEAL_SHRINK");
        refuse_ram(f, side_make_ram(RAM_SIZE, 0, F_SEAL_GROW | F_SEAL_SEAL), "F_SEAL_SHRINK");
}

static void test_memory_huge_pages(void **state) {
        struct side *f = *state;
        int fd = side_make_ram(RAM_SIZE, MFD_HUGETLB, F_SEAL_SHRINK);

        /* A kernel without them makes no such memfd either. */
        if (fd < 0) {
                assert_true(errno == EINVAL || errno == ENOSYS);
                return;
        }
        refuse_ram(f, fd, "huge pages");
}

/* Without a descriptor only what is small, or not to be written, may be: firmware. */
static void test_memory_without_fd(void **state) {
        struct side *f = *state;
        struct kvm_userspace_memory_region large = side_slot(0, MIB),
                                           small = side_slot(0, MIB - PAGE);

        side_failed(f->v, vtlvmm_add_memory(f->v, &large, -1, 0), ENOTSUP, "sealed memfd");
        assert_int_equal(vtlvmm_add_memory(f->v, &small, -1, 0), 0);
        large.flags = KVM_MEM_READONLY;
        large.guest_phys_addr = 4 * (uint64_t) MIB;
        assert_int_equal(vtlvmm_add_memory(f->v, &large, -1, 0), 0);
}

static void test_memory_too_many(void **state) {
        struct side *f = *state;
        struct kvm_userspace_memory_region slot = side_slot(0, PAGE);

        for (unsigned i = 0; i < STOCK_REGIONS_MAX; i++) {
                slot.guest_phys_addr = (uint64_t) i * PAGE;
                slot.slot = i;
                assert_int_equal(vtlvmm_add_memory(f->v, &slot, f->ram_fd, 0), 0);
        }
        slot.guest_phys_addr += PAGE;
        side_failed(f->v, vtlvmm_add_memory(f->v, &slot, f->ram_fd, 0), E2BIG, "memory slots");
}

/* ---- vtlvmm_add_vcpu() ---- */

static void test_vcpu(void **state) {
        struct side *f = *state;
        struct vtlvmm_vcpu *vcpu = NULL, *other = NULL;

        assert_int_equal(vtlvmm_add_vcpu(f->v, -1, 0, f->run, f->cpuid, &vcpu), -EINVAL);
        assert_int_equal(vtlvmm_add_vcpu(f->v, f->null_fd, 0, NULL, f->cpuid, &vcpu), -EINVAL);
        assert_int_equal(vtlvmm_add_vcpu(f->v, f->null_fd, 0, f->run, NULL, &vcpu), -EINVAL);
        assert_int_equal(vtlvmm_add_vcpu(f->v, f->null_fd, 0, f->run, f->cpuid, NULL), -EINVAL);
        side_failed(f->v, vtlvmm_add_vcpu(f->v, f->null_fd, 256, f->run, f->cpuid, &vcpu), EINVAL,
                    "above 255");
        assert_null(vcpu);
        assert_int_equal(vtlvmm_add_vcpu(f->v, f->null_fd, 7, f->run, f->cpuid, &vcpu), 0);
        side_failed(f->v, vtlvmm_add_vcpu(f->v, f->null_fd, 7, f->run, f->cpuid, &other), EEXIST,
                    "the id 7");
        assert_null(other);
        assert_int_equal(vtlvmm_add_vcpu(f->v, f->null_fd, 8, f->run, f->cpuid, &other), 0);
        assert_ptr_not_equal(vcpu, other);
        /* Nothing has been started. */
        errno = 0;
        assert_int_equal(vtlvmm_run(vcpu), -1);
        assert_int_equal(errno, EINVAL);
}

static void test_vcpu_too_many(void **state) {
        struct side *f = *state;
        struct vtlvmm_vcpu *vcpu;

        for (unsigned i = 0; i < VTL_MAX_VPS; i++)
                assert_int_equal(vtlvmm_add_vcpu(f->v, f->null_fd, i, f->run, f->cpuid, &vcpu), 0);
        side_failed(f->v, vtlvmm_add_vcpu(f->v, f->null_fd, VTL_MAX_VPS, f->run, f->cpuid, &vcpu),
                    E2BIG, "more than 64 vCPUs");
}

/* ---- vtlvmm_attach() ---- */

static void test_attach_empty(void **state) {
        struct side *f = *state;
        struct kvm_userspace_memory_region small = side_slot(0xf0000, 16 * PAGE);

        side_failed(f->v, vtlvmm_attach(f->v, "/nonexistent"), EINVAL, "no vCPU");
        side_add_vcpu(f, f->null_fd);
        side_failed(f->v, vtlvmm_attach(f->v, "/nonexistent"), EINVAL, "no guest RAM");
        /* What is not a memfd cannot be protected: not RAM in this sense. */
        assert_int_equal(vtlvmm_add_memory(f->v, &small, -1, 0), 0);
        side_failed(f->v, vtlvmm_attach(f->v, "/nonexistent"), EINVAL, "no guest RAM");
}

static void test_attach_not_kvm(void **state) {
        struct side *f = *state;
        struct side_peer p = { .version = true };
        int r;

        side_add_vcpu(f, f->null_fd);
        side_add_ram(f);
        side_peer_start(&p, f, SOCK_SEQPACKET);
        r = vtlvmm_attach(f->v, p.path);
        side_peer_stop(&p);
        side_failed(f->v, r, ENOTSUP, "KVM_CAP_");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                WITHOUT_VM(test_new),
                WITHOUT_VM(test_nothing),
                WITHOUT_VM(test_memory_geometry),
                WITHOUT_VM(test_memory_not_memfd),
                WITHOUT_VM(test_memory_closed_fd),
                WITHOUT_VM(test_memory_not_sealed),
                WITHOUT_VM(test_memory_huge_pages),
                WITHOUT_VM(test_memory_without_fd),
                WITHOUT_VM(test_memory_too_many),
                WITHOUT_VM(test_vcpu),
                WITHOUT_VM(test_vcpu_too_many),
                WITHOUT_VM(test_attach_empty),
                WITHOUT_VM(test_attach_not_kvm),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
