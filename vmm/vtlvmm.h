/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * libvtlvmm: what a VMM links to give its KVM guest virtual trust levels. It takes the fds, memory
 * slots and CPUID the VMM already has, at any time before the vCPUs first run, and then stands in
 * for ioctl(KVM_RUN). What it takes for itself is listed in libvtlvmm(3).
 */

#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vtlvmm;
struct vtlvmm_vcpu;

/**
 * struct vtlvmm_options - how to make a struct vtlvmm
 * @size: sizeof(struct vtlvmm_options), so that members can be added
 * @signal: the real-time signal the library may use in VP threads; 0 for SIGRTMAX - 3. Blocked by
 * the library in each VP thread, let in only by KVM_SET_SIGNAL_MASK.
 * @uuid: the VM's UUID, 16 bytes; shown on the bus, matched by policy
 * @name: the VM's name, at most 63 bytes of UTF-8; NULL for "unnamed"
 * @reserve_mappings: mappings (vm.max_map_count) that the library leaves to the VMM when a guest
 * protects its memory in small pieces; 0 for 4096
 */
struct vtlvmm_options {
        size_t size;
        int signal;
        uint8_t uuid[16];
        const char *name;
        uint32_t reserve_mappings;
        uint32_t pad;
};

/**
 * vtlvmm_new() - begin to give trust levels to a VM
 * @kvm_fd: /dev/kvm as the VMM opened it; borrowed until vtlvmm_free()
 * @vm_fd: the VM; borrowed likewise
 * @options: see above
 * @ret: the object
 *
 * Return: 0; -ENOTSUP when this KVM lacks something needed (vtlvmm_error() says what); -EINVAL;
 * -ENOMEM.
 */
int vtlvmm_new(int kvm_fd, int vm_fd, const struct vtlvmm_options *options, struct vtlvmm **ret);

/** vtlvmm_free() - undo vtlvmm_new(); no vCPU may be in vtlvmm_run(). Return: NULL. */
struct vtlvmm *vtlvmm_free(struct vtlvmm *v);

/** vtlvmm_error() - the last failure of this object in words, never NULL; valid until the next call
 */
const char *vtlvmm_error(const struct vtlvmm *v);

/**
 * vtlvmm_add_memory() - tell about a memory slot that the VM has already
 * @slot: as given to KVM_SET_USER_MEMORY_REGION
 * @fd: the memfd behind it, or -1 for a slot that is not to be protectable
 * @fd_offset: where in @fd the slot begins
 *
 * Slots of 1 MiB and more must be shared memfds of 4 KiB pages sealed with F_SEAL_SHRINK. At
 * vtlvmm_attach() the slot moves to a private view of the same memory; the VMM's own mapping stays
 * as it is.
 *
 * Return: 0; -EINVAL, -EBUSY (started), -ENOTSUP (hugepages, not sealed, not a memfd), -E2BIG (too
 * many).
 */
int vtlvmm_add_memory(struct vtlvmm *v, const struct kvm_userspace_memory_region *slot, int fd,
                      uint64_t fd_offset);

/**
 * vtlvmm_add_vcpu() - tell about a vCPU
 * @fd: the vCPU
 * @id: the id given to KVM_CREATE_VCPU, which is its APIC id; at most 255
 * @run: its kvm_run, as the VMM mapped it
 * @cpuid: what the VMM gave (or would give) to KVM_SET_CPUID2; the library sets its own table made
 * from it
 * @ret: the vCPU for vtlvmm_run()
 *
 * VP indices count from 0 in the order of these calls.
 *
 * Return: 0; -EINVAL, -EBUSY (started), -EEXIST (id), -E2BIG (more than 64).
 */
int vtlvmm_add_vcpu(struct vtlvmm *v, int fd, unsigned long id, struct kvm_run *run,
                    const struct kvm_cpuid2 *cpuid, struct vtlvmm_vcpu **ret);

/**
 * vtlvmm_attach() - attach to vtld and start
 * @socket_path: vtld's attach socket
 *
 * When vtld cannot be reached the VM is as it was. After another failure only vtlvmm_free() is
 * left.
 *
 * Return: 0; a negative errno, with vtlvmm_error() saying which step failed and what vtld answered.
 */
int vtlvmm_attach(struct vtlvmm *v, const char *socket_path);

/**
 * vtlvmm_run() - in place of ioctl(vcpu_fd, KVM_RUN, 0)
 *
 * Runs the guest in whatever trust level it is. Returns as KVM_RUN does, with kvm_run filled in,
 * but only for exits that are the VMM's. An exit made in VTL1 is shown through the same kvm_run.
 * Call it from one thread per vCPU.
 *
 * Return: 0 with run->exit_reason; -1 with errno: EINTR as for KVM_RUN, EOWNERDEAD when vtld's
 * worker is gone (the guest must not go on), EIO when the engine gave up on the guest
 * (vtlvmm_error() says why), EBUSY while the VM is paused.
 */
int vtlvmm_run(struct vtlvmm_vcpu *vcpu);

/**
 * vtlvmm_pause() - no vCPU runs, and the trust levels' timers stand still
 *
 * Every vCPU is out of vtlvmm_run(), and has been in it with immediate_exit set until that gave
 * EINTR: no instruction is half done.
 *
 * Return: 0, also when it is paused; -EBUSY, nothing has changed then; another negative errno.
 */
int vtlvmm_pause(struct vtlvmm *v);

/** vtlvmm_continue() - undo vtlvmm_pause(). Return: 0 or a negative errno. */
int vtlvmm_continue(struct vtlvmm *v);

/**
 * vtlvmm_reset() - the machine is reset
 *
 * Only VTL0 is left, all memory is open to it, overlay pages are gone. Memory is zeroed if VTL1 had
 * asked for that, so this comes before the VMM resets its vCPUs and loads its firmware. Every vCPU
 * is out of vtlvmm_run().
 *
 * Return: 0; -EBUSY; after another negative errno the guest must not go on.
 */
int vtlvmm_reset(struct vtlvmm *v);

/**
 * vtlvmm_save() - what the VMM does not have: VTL1 and everything about trust levels
 * @ret: to be given to free()
 * @ret_size: its size
 *
 * While paused. RAM and the state of VTL0, which is the VMM's vCPUs, are the VMM's to save.
 *
 * Return: 0, -EBUSY, -ENOMEM or another negative errno.
 */
int vtlvmm_save(struct vtlvmm *v, void **ret, size_t *ret_size);

/**
 * vtlvmm_restore() - what vtlvmm_save() gave continues here @data: from anywhere: it is checked
 * @size: its size
 *
 * While paused, in a VM of the same vCPUs and memory, when the VMM has restored RAM, vCPUs and
 * their TSC. It stays paused.
 *
 * Return: 0; -EBADMSG: not sound; -EPROTONOSUPPORT: of another version; -EXDEV: of another kind of
 * VM or host; -EPERM: policy does not allow here what it has; -EBUSY, or another negative errno.
 * After a failure the trust levels are as reset.
 */
int vtlvmm_restore(struct vtlvmm *v, const void *data, size_t size);

#ifdef __cplusplus
}
#endif
