/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* --reboot: the machine as it was before it ran, when its guest has reset it. RAM stays, as it does
 * in a machine that is not switched off. */

#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "vmm/vtlvmm.h"
#include "vtl/kvm-image.h"
#include "vtlrun-saved.h"
#include "vtlrun.h"

struct reset_state {
        struct kvm_image *vcpus[BOOT_MAX_VCPUS];
        struct kvm_irqchip chips[SAVED_CHIPS];
        struct kvm_pit_state2 pit;
};

struct reset_state *reset_state_free(struct reset_state *s) {
        for (unsigned i = 0; s && i < BOOT_MAX_VCPUS; i++)
                free(s->vcpus[i]);
        free(s);
        return NULL;
}

static int fail(int error) {
        say("the machine cannot be reset: %s", strerror(-error));
        return STATUS_KVM;
}

/**
 * reset_state_take() - remember the machine before it runs
 * @ret: to be given to reset_state_free()
 *
 * Return: 0, or an exit status after a message.
 */
int reset_state_take(struct vm *vm, struct reset_state **ret) {
        struct reset_state *s = calloc(1, sizeof(*s));
        int r = s ? 0 : -ENOMEM;

        *ret = s;
        for (unsigned i = 0; i < vm->config.vcpus && r == 0; i++)
                r = kvm_image_take(vm->kvm_fd, vm->vcpus[i].fd, true, &s->vcpus[i]);
        for (uint32_t i = 0; i < SAVED_CHIPS && r == 0; i++) {
                s->chips[i].chip_id = i;
                r = ioctl(vm->vm_fd, KVM_GET_IRQCHIP, &s->chips[i]) < 0 ? -errno : 0;
        }
        if (r == 0)
                r = ioctl(vm->vm_fd, KVM_GET_PIT2, &s->pit) < 0 ? -errno : 0;
        return r < 0 ? fail(r) : 0;
}

static int put_back(struct vm *vm, struct reset_state *s) {
        int r = 0;

        for (unsigned i = 0; i < vm->config.vcpus && r == 0; i++)
                r = kvm_image_put(vm->vcpus[i].fd, s->vcpus[i], 0);
        for (unsigned i = 0; i < SAVED_CHIPS && r == 0; i++)
                r = ioctl(vm->vm_fd, KVM_SET_IRQCHIP, &s->chips[i]) < 0 ? -errno : 0;
        return r < 0 ? r : ioctl(vm->vm_fd, KVM_SET_PIT2, &s->pit) < 0 ? -errno : 0;
}

/* KVM finishes what the last exit of each has left undone, which could be later than now. */
static void finish_exits(struct vm *vm) {
        for (unsigned i = 0; i < vm->config.vcpus; i++) {
                struct kvm_run *run = vm->vcpus[i].run;

                run->immediate_exit = 1;
                (void) ioctl(vm->vcpus[i].fd, KVM_RUN, 0);
                run->immediate_exit = 0;
        }
}

/**
 * vm_reset() - the machine as reset_state_take() has seen it
 * @vm: all vCPU threads have ended
 *
 * What is in the CMOS stays. RAM does, too, unless VTL1 wanted it zeroed; the image is to be loaded
 * again.
 *
 * Return: 0, or an exit status after a message.
 */
int vm_reset(struct vm *vm, struct reset_state *s) {
        uint8_t cmos[CMOS_SIZE];
        uint64_t stops;
        int r;

        if (vm->vtl && vtlvmm_reset(vm->vtl) < 0) {
                say("%s", vtlvmm_error(vm->vtl));
                return STATUS_KVM;
        }
        if (!vm->vtl)
                finish_exits(vm);
        r = put_back(vm, s);
        if (r < 0)
                return fail(r);
        memcpy(cmos, vm->devices.cmos, sizeof(cmos));
        devices_init(&vm->devices, &vm_device_ops, vm, vm->config.vcpus, vm->ram_map.low_size,
                     vm->ram_map.high_size);
        memcpy(vm->devices.cmos, cmos, sizeof(cmos));
        (void) !read(vm->stop_fd, &stops, sizeof(stops));
        atomic_store(&vm->status, -1);
        return 0;
}
