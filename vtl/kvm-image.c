/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/ioctl.h>

#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/kvm-image.h"

#define MSR_TSC 0x10u
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_KVM_FIRST 0x4b564d00u
#define MSR_KVM_LAST 0x4b564dffu
#define MSR_KVM_OLD_WALL_CLOCK 0x11u
#define MSR_KVM_OLD_SYSTEM_TIME 0x12u

static int request(int fd, unsigned long code, void *arg) {
        return ioctl(fd, code, arg) < 0 ? -errno : 0;
}

/* ---- MSRs ---- */

static int get_msr(int vcpu, uint32_t index, uint64_t *ret) {
        struct {
                struct kvm_msrs head;
                struct kvm_msr_entry entry;
        } m = { .head.nmsrs = 1, .entry.index = index };
        int r = ioctl(vcpu, KVM_GET_MSRS, &m);

        *ret = m.entry.data;
        return r < 0 ? -errno : r == 1 ? 0 : -ENOENT;
}

static int set_msr(int vcpu, uint32_t index, uint64_t value) {
        struct {
                struct kvm_msrs head;
                struct kvm_msr_entry entry;
        } m = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };
        int r = ioctl(vcpu, KVM_SET_MSRS, &m);

        return r < 0 ? -errno : r == 1 ? 0 : -EINVAL;
}

/* The TSC has its offset, what belongs to a VM and not to a vCPU is left out. */
static bool wanted(uint32_t msr) {
        return msr != MSR_TSC && msr != MSR_KVM_OLD_WALL_CLOCK && msr != MSR_KVM_OLD_SYSTEM_TIME &&
               !(msr >= MSR_KVM_FIRST && msr <= MSR_KVM_LAST) &&
               !(msr >= HV_MSR_FIRST && msr <= HV_MSR_LAST);
}

static int list_msrs(int kvm, struct kvm_msr_list **ret) {
        _cleanup_free_ struct kvm_msr_list *list = NULL;
        int r;

        list = calloc(1, sizeof(*list) + KVM_IMAGE_MSRS_MAX * sizeof(list->indices[0]));
        if (!list)
                return -ENOMEM;
        list->nmsrs = KVM_IMAGE_MSRS_MAX;
        r = request(kvm, KVM_GET_MSR_INDEX_LIST, list);
        if (r == 0)
                *ret = TAKE_PTR(list);
        return r;
}

/* Those that this vCPU does not have are left out. */
static void take_msrs(int vcpu, const struct kvm_msr_list *list, struct kvm_image *image) {
        for (uint32_t i = 0; i < list->nmsrs; i++) {
                uint64_t value;

                if (!wanted(list->indices[i]) || get_msr(vcpu, list->indices[i], &value) < 0)
                        continue;
                image->msrs[image->n_msrs].index = list->indices[i];
                image->msrs[image->n_msrs++].value = value;
        }
}

static int put_msr(int vcpu, uint32_t index, uint64_t value) {
        uint64_t now;

        /* Not all that can be read can be written. */
        if (get_msr(vcpu, index, &now) == 0 && now == value)
                return 0;
        return set_msr(vcpu, index, value);
}

/* The deadline last: it needs the APIC's timer in its mode, and the TSC. */
static int put_msrs(int vcpu, const struct kvm_image *image) {
        for (int last = 0; last < 2; last++)
                for (uint32_t i = 0; i < image->n_msrs; i++) {
                        uint32_t index = (uint32_t) image->msrs[i].index;
                        int r;

                        if ((index == MSR_TSC_DEADLINE) != last)
                                continue;
                        r = put_msr(vcpu, index, image->msrs[i].value);
                        if (r < 0)
                                return r;
                }
        return 0;
}

/* ---- TSC ---- */

static int tsc_offset(int vcpu, unsigned long code, uint64_t *offset) {
        struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
                                        .attr = KVM_VCPU_TSC_OFFSET,
                                        .addr = (uintptr_t) offset };
        int r = request(vcpu, KVM_HAS_DEVICE_ATTR, &attr);

        if (r < 0)
                return -ENXIO;
        return request(vcpu, code, &attr);
}

int kvm_tsc_offset_get(int vcpu, uint64_t *ret) {
        *ret = 0;
        return tsc_offset(vcpu, KVM_GET_DEVICE_ATTR, ret);
}

int kvm_tsc_offset_set(int vcpu, uint64_t offset) {
        return tsc_offset(vcpu, KVM_SET_DEVICE_ATTR, &offset);
}

int kvm_tsc_get(int vcpu, uint64_t *ret) {
        return get_msr(vcpu, MSR_TSC, ret);
}

static int put_tsc(int vcpu, const struct kvm_image *image, uint64_t shift) {
        if (image->flags & KVM_IMAGE_TSC_OFFSET)
                return kvm_tsc_offset_set(vcpu, image->tsc_offset + shift);
        return set_msr(vcpu, MSR_TSC, image->tsc + shift);
}

/* ---- All of it ---- */

/* @flag: 0, or set when KVM has it */
static const struct part {
        unsigned long get, set;
        size_t offset;
        uint32_t flag;
} parts[] = {
#define PART(name, code, member, flag) \
        { KVM_GET_##code, KVM_SET_##code, offsetof(struct kvm_image, member), flag }
        /* In the order in which they are put back: general registers forget a pending exception,
         * the APIC needs its base. */
        PART(sregs, SREGS, sregs, 0),
        PART(regs, REGS, regs, 0),
        PART(xcrs, XCRS, xcrs, KVM_IMAGE_XCRS),
        PART(xsave, XSAVE, xsave, 0),
        PART(debugregs, DEBUGREGS, debugregs, KVM_IMAGE_DEBUGREGS),
        PART(lapic, LAPIC, lapic, KVM_IMAGE_LAPIC),
#undef PART
};

int kvm_image_take(int kvm, int vcpu, int lapic, struct kvm_image **ret) {
        _cleanup_free_ struct kvm_msr_list *list = NULL;
        _cleanup_free_ struct kvm_image *image = NULL;
        int r;

        r = list_msrs(kvm, &list);
        if (r < 0)
                return r;
        image = calloc(1, sizeof(*image) + list->nmsrs * sizeof(image->msrs[0]));
        if (!image)
                return -ENOMEM;
        if (lapic)
                image->flags |= KVM_IMAGE_LAPIC;
        if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_XCRS) > 0)
                image->flags |= KVM_IMAGE_XCRS;
        if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_DEBUGREGS) > 0)
                image->flags |= KVM_IMAGE_DEBUGREGS;
        for (size_t i = 0; i < ARRAY_SIZE(parts) && r == 0; i++)
                if (!parts[i].flag || (image->flags & parts[i].flag))
                        r = request(vcpu, parts[i].get, (uint8_t *) image + parts[i].offset);
        if (r == 0)
                r = request(vcpu, KVM_GET_VCPU_EVENTS, &image->events);
        if (r == 0)
                r = request(vcpu, KVM_GET_MP_STATE, &image->mp_state);
        if (r == 0)
                r = get_msr(vcpu, MSR_TSC, &image->tsc);
        if (r < 0)
                return r;
        if (kvm_tsc_offset_get(vcpu, &image->tsc_offset) == 0)
                image->flags |= KVM_IMAGE_TSC_OFFSET;
        take_msrs(vcpu, list, image);
        image->size = (uint32_t) (sizeof(*image) + image->n_msrs * sizeof(image->msrs[0]));
        *ret = TAKE_PTR(image);
        return 0;
}

int kvm_image_read(const void *data, size_t size, struct kvm_image **ret) {
        _cleanup_free_ struct kvm_image *image = NULL;

        if (size < sizeof(*image) ||
            size > sizeof(*image) + KVM_IMAGE_MSRS_MAX * sizeof(image->msrs[0]))
                return -EBADMSG;
        image = malloc(size);
        if (!image)
                return -ENOMEM;
        memcpy(image, data, size);
        if (image->size != size ||
            size != sizeof(*image) + (uint64_t) image->n_msrs * sizeof(image->msrs[0]) ||
            image->flags & ~(KVM_IMAGE_LAPIC | KVM_IMAGE_DEBUGREGS | KVM_IMAGE_XCRS |
                             KVM_IMAGE_TSC_OFFSET))
                return -EBADMSG;
        for (uint32_t i = 0; i < image->n_msrs; i++)
                if (image->msrs[i].index > UINT32_MAX || !wanted((uint32_t) image->msrs[i].index))
                        return -EBADMSG;
        *ret = TAKE_PTR(image);
        return 0;
}

int kvm_image_put(int vcpu, const struct kvm_image *image, uint64_t tsc_shift) {
        int r = put_tsc(vcpu, image, tsc_shift);

        for (size_t i = 0; i < ARRAY_SIZE(parts) && r == 0; i++)
                if (!parts[i].flag || (image->flags & parts[i].flag))
                        r = request(vcpu, parts[i].set,
                                    (uint8_t *) (uintptr_t) image + parts[i].offset);
        if (r == 0)
                r = put_msrs(vcpu, image);
        if (r == 0)
                r = request(vcpu, KVM_SET_MP_STATE, (void *) (uintptr_t) &image->mp_state);
        if (r == 0)
                r = request(vcpu, KVM_SET_VCPU_EVENTS, (void *) (uintptr_t) &image->events);
        return r;
}
