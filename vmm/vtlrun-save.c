/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* --save: the machine, which has stopped between two instructions, goes into a file. */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "util/file.h"
#include "vmm/vtlvmm.h"
#include "vtl/kvm-image.h"
#include "vtlrun-saved.h"
#include "vtlrun.h"

/* A message and -errno */
static int fail(int error, const char *what) {
        say("%s: %s", what, strerror(-error));
        return error;
}

static void put_section(struct blob *b, uint32_t id, uint32_t index, const void *data,
                        size_t size) {
        blob_open(b, id, SAVED_FILE_VERSION, index);
        blob_put(b, data, size);
        blob_close(b);
}

static void put_vm(struct vm *vm, struct blob *b) {
        struct saved_vm s = { .vcpus = vm->config.vcpus,
                              .has_levels = vm->vtl != NULL,
                              .memory = vm->config.memory };
        int khz = ioctl(vm->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);

        s.tsc_khz = khz > 0 ? (uint64_t) khz : 0;
        memcpy(s.uuid, vm->config.uuid, sizeof(s.uuid));
        (void) snprintf(s.name, sizeof(s.name), "%s", vm->config.name);
        put_section(b, SAVED_VM, 0, &s, sizeof(s));
}

static int put_vcpus(struct vm *vm, struct blob *b) {
        for (unsigned i = 0; i < vm->config.vcpus; i++) {
                const struct kvm_cpuid2 *c = vm->vcpus[i].cpuid;
                _cleanup_free_ struct kvm_image *image = NULL;
                int r = kvm_image_take(vm->kvm_fd, vm->vcpus[i].fd, true, &image);

                if (r < 0)
                        return fail(r, "a virtual processor cannot be read");
                put_section(b, SAVED_CPUID, i, c->entries, c->nent * sizeof(c->entries[0]));
                put_section(b, SAVED_VCPU, i, image, image->size);
        }
        return 0;
}

static int put_chips(struct vm *vm, struct blob *b) {
        struct kvm_pit_state2 pit;

        for (uint32_t i = 0; i < SAVED_CHIPS; i++) {
                struct kvm_irqchip chip = { .chip_id = i };

                if (ioctl(vm->vm_fd, KVM_GET_IRQCHIP, &chip) < 0)
                        return fail(-errno, "an interrupt controller cannot be read");
                put_section(b, SAVED_CHIP, i, &chip, sizeof(chip));
        }
        if (ioctl(vm->vm_fd, KVM_GET_PIT2, &pit) < 0)
                return fail(-errno, "the interval timer cannot be read");
        put_section(b, SAVED_PIT, 0, &pit, sizeof(pit));
        return 0;
}

static void put_devices(const struct devices *d, struct blob *b) {
        const struct uart *u = &d->uart;
        struct saved_devices s = {
                .uart_ier = u->ier,
                .uart_lcr = u->lcr,
                .uart_mcr = u->mcr,
                .uart_scr = u->scr,
                .uart_errors = u->lsr_errors,
                .uart_trigger = u->trigger,
                .uart_fifo_enabled = u->fifo_enabled,
                .uart_thr_pending = u->thr_pending,
                .uart_irq_level = u->irq_level,
                .uart_polled = u->polled,
                .uart_divisor = u->divisor,
                .uart_polls = u->polls,
                .uart_head = u->fifo_head,
                .uart_count = u->fifo_count,
                .fw_cfg_key = d->fw_cfg.key,
                .cmos_index = d->cmos_index,
                .fw_cfg_offset = d->fw_cfg.offset,
                .restores = d->restores,
        };

        memcpy(s.uart_fifo, u->fifo, sizeof(s.uart_fifo));
        memcpy(s.cmos, d->cmos, sizeof(s.cmos));
        put_section(b, SAVED_DEVICES, 0, &s, sizeof(s));
}

static int put_levels(struct vm *vm, struct blob *b) {
        _cleanup_free_ void *data = NULL;
        size_t size;

        if (!vm->vtl)
                return 0;
        if (vtlvmm_save(vm->vtl, &data, &size) < 0) {
                say("%s", vtlvmm_error(vm->vtl));
                return -EIO;
        }
        put_section(b, SAVED_LEVELS, 0, data, size);
        return 0;
}

/* ---- The file ---- */

static int write_ram(struct vm *vm, int fd) {
        static const uint8_t zeros[4096];

        for (uint64_t at = 0; at < vm->config.memory; at += SAVED_RAM_PIECE) {
                const struct blob_section head = {
                        .id = SAVED_RAM,
                        .version = SAVED_FILE_VERSION,
                        .index = (uint32_t) (at / SAVED_RAM_PIECE),
                        .size = MIN(vm->config.memory - at, (uint64_t) SAVED_RAM_PIECE),
                };
                bool empty = true;
                int r;

                for (uint64_t page = 0; page < head.size && empty; page += sizeof(zeros))
                        empty = memcmp(vm->ram + at + page, zeros, sizeof(zeros)) == 0;
                if (empty)
                        continue;
                r = write_all(fd, &head, sizeof(head));
                if (r == 0)
                        r = write_all(fd, vm->ram + at, head.size);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int write_file(struct vm *vm, int fd, const struct blob *b) {
        const struct blob_section end = { .id = BLOB_END };
        int r = write_all(fd, b->data, b->size);

        if (r == 0)
                r = write_ram(vm, fd);
        if (r == 0)
                r = write_all(fd, &end, sizeof(end));
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        return r;
}

/* Whole or not at all: under another name first. It has the guest's secrets. */
static int write_beside(struct vm *vm, const char *path, const struct blob *b) {
        _cleanup_free_ char *other = NULL;
        _cleanup_close_ int fd = -1;
        int r;

        if (asprintf(&other, "%s.XXXXXX", path) < 0) {
                other = NULL;
                return -ENOMEM;
        }
        fd = mkostemp(other, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = write_file(vm, fd, b);
        if (r == 0 && rename(other, path) < 0)
                r = -errno;
        if (r < 0)
                (void) unlink(other);
        return r;
}

/**
 * vm_save() - write the machine to a file
 * @vm: all vCPU threads have ended, by vm_stop() with STATUS_SAVE
 * @path: the file
 *
 * Return: 0, or an exit status after a message.
 */
int vm_save(struct vm *vm, const char *path) {
        _cleanup_(blob_free) struct blob b = BLOB_EMPTY;
        int r;

        if (vm->vtl && vtlvmm_pause(vm->vtl) < 0) {
                say("the machine cannot be saved: %s", vtlvmm_error(vm->vtl));
                return STATUS_KVM;
        }
        blob_begin(&b, SAVED_FILE_MAGIC);
        put_vm(vm, &b);
        r = put_vcpus(vm, &b);
        if (r == 0)
                r = put_chips(vm, &b);
        if (r == 0)
                r = put_levels(vm, &b);
        if (r < 0)
                return STATUS_KVM;
        put_devices(&vm->devices, &b);
        r = b.error < 0 ? b.error : write_beside(vm, path, &b);
        if (r < 0) {
                say("%s: %s", path, strerror(-r));
                return STATUS_OS;
        }
        say("saved to %s", path);
        return STATUS_OK;
}
