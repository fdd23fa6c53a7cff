/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * All state of one vCPU of KVM, taken and put back: for saving, and for a reset to how it was when
 * it was made. Of Hyper-V's MSRs and of KVM's own it has none: those are not the vCPU's alone.
 */

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#define KVM_IMAGE_MSRS_MAX 1024u

enum kvm_image_flags {
        KVM_IMAGE_LAPIC = 1u << 0,
        KVM_IMAGE_DEBUGREGS = 1u << 1,
        KVM_IMAGE_XCRS = 1u << 2,
        KVM_IMAGE_TSC_OFFSET = 1u << 3,
};

struct kvm_image {
        uint32_t size; /* of all, up to the last MSR */
        uint32_t flags;
        struct kvm_regs regs;
        struct kvm_sregs sregs;
        struct kvm_vcpu_events events;
        struct kvm_debugregs debugregs;
        struct kvm_xcrs xcrs;
        struct kvm_lapic_state lapic;
        struct kvm_mp_state mp_state;
        uint32_t n_msrs;
        uint64_t tsc;
        uint64_t tsc_offset;
        uint8_t xsave[4096];
        struct {
                uint64_t index, value;
        } msrs[];
};

/**
 * kvm_image_take() - the state of a vCPU that is not running
 * @kvm: /dev/kvm, which knows what MSRs there are
 * @vcpu: the vCPU
 * @lapic: it has an APIC in the kernel
 * @ret: to be given to free()
 *
 * Return: 0 or a negative errno.
 */
int kvm_image_take(int kvm, int vcpu, int lapic, struct kvm_image **ret);

/* A copy of what was read from somewhere. Return: 0, -EBADMSG, -ENOMEM. */
int kvm_image_read(const void *data, size_t size, struct kvm_image **ret);

/**
 * kvm_image_put() - the vCPU continues where the image was taken
 * @tsc_shift: added to its TSC, beside what it was taken with
 *
 * Return: 0 or a negative errno: -EINVAL when KVM does not take something.
 */
int kvm_image_put(int vcpu, const struct kvm_image *image, uint64_t tsc_shift);

/* A vCPU's TSC offset. Return: 0, -ENXIO where KVM has no such thing, another negative errno. */
int kvm_tsc_offset_get(int vcpu, uint64_t *ret);
int kvm_tsc_offset_set(int vcpu, uint64_t offset);
int kvm_tsc_get(int vcpu, uint64_t *ret);
