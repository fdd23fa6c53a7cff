/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of libvtlvmm have in common: a VM as a VMM has it, and no descriptor left. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/vtlvmm.h"

#define MIB (1u << 20)
#define RAM_SIZE (2 * MIB)
#define PAGE 4096u

/* Without KVM its descriptors are those of /dev/null. */
struct side {
        struct vtlvmm *v;
        int null_fd, kvm_fd, vm_fd, vcpu_fd, ram_fd;
        uint8_t *ram;
        struct kvm_run *run;
        size_t run_size;
        struct kvm_cpuid2 *cpuid;
        char dir[32];
        unsigned fds; /* open before anything was */
};

bool side_kvm_is_usable(void);

/* cmocka's: @state is the struct side. The last one fails when descriptors are left. */
int side_set_up(void **state);
int side_set_up_vm(void **state);
int side_tear_down(void **state);

int side_make_ram(size_t size, unsigned flags, unsigned seals);
struct kvm_userspace_memory_region side_slot(uint64_t gpa, uint64_t size);
struct vtlvmm *side_new(int kvm_fd, int vm_fd);
void side_add_vcpu(struct side *f, int fd);
void side_add_ram(struct side *f);

/*
 * Somebody who listens at a socket in the side's directory, and hangs up after the last answer. All
 * but the listening happens in a thread.
 */
struct side_peer {
        bool version;   /* answers the first message as vtld does */
        uint32_t error; /* refuses the next message with it and @text */
        const char *text;
        const void *raw; /* or answers it with that */
        size_t raw_len;
        int listen_fd;
        _Atomic int fd; /* the connection, -1 before */
        pthread_t thread;
        char path[64];
};
void side_peer_start(struct side_peer *p, const struct side *f, int type);
void side_peer_stop(struct side_peer *p);

/* @r is -@error, and vtlvmm_error() is one line that contains @text. */
void side_failed(const struct vtlvmm *v, int r, int error, const char *text);

#define WITHOUT_VM(f) cmocka_unit_test_setup_teardown(f, side_set_up, side_tear_down)
#define WITH_VM(f) cmocka_unit_test_setup_teardown(f, side_set_up_vm, side_tear_down)
