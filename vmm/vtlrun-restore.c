/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* --restore: a machine from a file, which may be cut, old, or an enemy's. */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "util/utf8.h"
#include "util/uuid.h"
#include "vmm/vtlvmm.h"
#include "vtl/kvm-image.h"
#include "vtlrun-saved.h"
#include "vtlrun.h"

struct restored {
        int fd;
        const char *path;
        struct saved_vm vm;
        char name[64];
        struct kvm_image *vcpus[BOOT_MAX_VCPUS];
        bool has_cpuid[BOOT_MAX_VCPUS];
        struct kvm_irqchip chips[SAVED_CHIPS];
        bool has_chip[SAVED_CHIPS];
        struct kvm_pit_state2 pit;
        bool has_pit;
        struct saved_devices devices;
        bool has_devices;
        uint8_t *levels;
        size_t levels_size;
        uint64_t next_ram; /* pieces come in order, each once */
};

struct restored *restored_free(struct restored *s) {
        if (!s)
                return NULL;
        (void) safe_close(s->fd);
        for (unsigned i = 0; i < BOOT_MAX_VCPUS; i++)
                free(s->vcpus[i]);
        free(s->levels);
        free(s);
        return NULL;
}

/* ---- Reading ---- */

static int read_all(int fd, void *data, size_t size) {
        uint8_t *at = data;

        while (size > 0) {
                ssize_t n = read(fd, at, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EBADMSG;
                at += n;
                size -= (size_t) n;
        }
        return 0;
}

static int read_head(int fd, struct blob_section *ret) {
        int r = read_all(fd, ret, sizeof(*ret));

        if (r < 0)
                return r;
        if (blob_check_head(ret) < 0)
                return -EBADMSG;
        if (ret->id != BLOB_END && ret->version != SAVED_FILE_VERSION)
                return -EPROTONOSUPPORT;
        return 0;
}

/* What is in a section, and what fills it up */
static int read_content(int fd, const struct blob_section *s, void *data) {
        uint8_t padding[8];
        int r = read_all(fd, data, s->size);

        return r < 0 ? r : read_all(fd, padding, blob_padding(s->size));
}

static bool vm_is_sound(const struct saved_vm *s) {
        return s->vcpus >= 1 && s->vcpus <= BOOT_MAX_VCPUS && s->has_levels <= 1 &&
               s->memory >= 2 << 20 && s->memory <= 1ull << 40 && is_aligned(s->memory, 4096) &&
               s->tsc_khz <= UINT32_MAX && s->name[0] && memchr(s->name, '\0', sizeof(s->name)) &&
               utf8_is_text(s->name, "") && !uuid_is_nil(s->uuid);
}

static int read_beginning(struct restored *s) {
        struct blob_section head;
        uint64_t magic;
        int r = read_all(s->fd, &magic, sizeof(magic));

        if (r == 0 && magic != SAVED_FILE_MAGIC)
                r = -EBADMSG;
        if (r == 0)
                r = read_head(s->fd, &head);
        if (r == 0 && (head.id != SAVED_VM || head.index || head.size != sizeof(s->vm)))
                r = -EBADMSG;
        if (r == 0)
                r = read_content(s->fd, &head, &s->vm);
        return r < 0 ? r : vm_is_sound(&s->vm) ? 0 : -EBADMSG;
}

static int refuse(const struct restored *s, int error) {
        say("%s: %s", s->path,
            error == -EBADMSG           ? "not a saved machine, or a damaged one"
            : error == -EPROTONOSUPPORT ? "saved by another version"
            : error == -EXDEV           ? "saved on another kind of processor"
                                        : strerror(-error));
        return error == -ENOMEM ? STATUS_OS : STATUS_DATA;
}

/**
 * restored_open() - begin with --restore
 * @path: the file
 * @config: gets what the machine is made of
 * @ret: to be given to restored_free(), and to live as long as @config
 *
 * Return: 0, or an exit status after a message.
 */
int restored_open(const char *path, struct vm_config *config, struct restored **ret) {
        struct restored *s = calloc(1, sizeof(*s));
        int r;

        if (!s) {
                say("out of memory");
                return STATUS_OS;
        }
        *ret = s;
        s->path = path;
        s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (s->fd < 0) {
                say("%s: %s", path, strerror(errno));
                return STATUS_NO_INPUT;
        }
        r = read_beginning(s);
        if (r < 0)
                return refuse(s, r);
        if (s->vm.has_levels != (config->engine != ENGINE_NONE)) {
                say("%s: a machine %s trust levels", path, s->vm.has_levels ? "with" : "without");
                return STATUS_DATA;
        }
        config->vcpus = s->vm.vcpus;
        config->memory = s->vm.memory;
        config->name = s->vm.name;
        memcpy(config->uuid, s->vm.uuid, sizeof(config->uuid));
        return 0;
}

/* ---- Sections ---- */

static int take_cpuid(struct vm *vm, struct restored *s, uint32_t i, const void *data,
                      size_t size) {
        const struct kvm_cpuid2 *here;

        if (i >= s->vm.vcpus || s->has_cpuid[i])
                return -EBADMSG;
        here = vm->vcpus[i].cpuid;
        s->has_cpuid[i] = true;
        return size == here->nent * sizeof(here->entries[0]) &&
                               memcmp(data, here->entries, size) == 0
                     ? 0
                     : -EXDEV;
}

static int take_vcpu(struct vm *vm, struct restored *s, uint32_t i, const void *data, size_t size) {
        if (i >= s->vm.vcpus || s->vcpus[i])
                return -EBADMSG;
        return kvm_image_read(data, size, &s->vcpus[i]);
}

static int take_fixed(void *to, bool *has, size_t expected, const void *data, size_t size) {
        if (*has || size != expected)
                return -EBADMSG;
        memcpy(to, data, size);
        *has = true;
        return 0;
}

static int take_chip(struct vm *vm, struct restored *s, uint32_t i, const void *data, size_t size) {
        int r = i < SAVED_CHIPS
                      ? take_fixed(&s->chips[i], &s->has_chip[i], sizeof(s->chips[i]), data, size)
                      : -EBADMSG;

        return r < 0 ? r : s->chips[i].chip_id == i ? 0 : -EBADMSG;
}

static int take_pit(struct vm *vm, struct restored *s, uint32_t i, const void *data, size_t size) {
        return i == 0 ? take_fixed(&s->pit, &s->has_pit, sizeof(s->pit), data, size) : -EBADMSG;
}

static int take_devices(struct vm *vm, struct restored *s, uint32_t i, const void *data,
                        size_t size) {
        const struct saved_devices *d = &s->devices;
        int r = i == 0 ? take_fixed(&s->devices, &s->has_devices, sizeof(*d), data, size)
                       : -EBADMSG;

        if (r < 0)
                return r;
        return d->uart_head >= UART_FIFO_SIZE || d->uart_count > UART_FIFO_SIZE ||
                               d->uart_trigger > UART_FIFO_SIZE || d->cmos_index >= CMOS_SIZE ||
                               d->reserved ||
                               (d->uart_fifo_enabled | d->uart_thr_pending | d->uart_irq_level |
                                d->uart_polled) > 1
                     ? -EBADMSG
                     : 0;
}

static const struct {
        uint32_t id;
        int (*take)(struct vm *vm, struct restored *s, uint32_t index, const void *data,
                    size_t size);
} small_sections[] = {
        { SAVED_CPUID, take_cpuid }, { SAVED_VCPU, take_vcpu },       { SAVED_CHIP, take_chip },
        { SAVED_PIT, take_pit },     { SAVED_DEVICES, take_devices },
};

static int read_small(struct vm *vm, struct restored *s, const struct blob_section *head) {
        _cleanup_free_ void *data = NULL;
        int r;

        if (head->size > SAVED_SMALL_MAX)
                return -EBADMSG;
        for (size_t i = 0; i < ARRAY_SIZE(small_sections); i++) {
                if (small_sections[i].id != head->id)
                        continue;
                data = malloc(head->size + 1);
                if (!data)
                        return -ENOMEM;
                r = read_content(s->fd, head, data);
                return r < 0 ? r : small_sections[i].take(vm, s, head->index, data, head->size);
        }
        return -EPROTONOSUPPORT;
}

static int read_levels(struct restored *s, const struct blob_section *head) {
        if (s->levels || head->index || head->size > SAVED_LEVELS_MAX)
                return -EBADMSG;
        s->levels = malloc(head->size + 1);
        if (!s->levels)
                return -ENOMEM;
        s->levels_size = head->size;
        return read_content(s->fd, head, s->levels);
}

static int read_ram(struct vm *vm, struct restored *s, const struct blob_section *head) {
        uint64_t at = (uint64_t) head->index * SAVED_RAM_PIECE;

        if (head->index < s->next_ram || at >= s->vm.memory ||
            head->size != MIN(s->vm.memory - at, (uint64_t) SAVED_RAM_PIECE))
                return -EBADMSG;
        s->next_ram = (uint64_t) head->index + 1;
        return read_content(s->fd, head, vm->ram + at);
}

static bool is_complete(const struct restored *s) {
        for (unsigned i = 0; i < s->vm.vcpus; i++)
                if (!s->vcpus[i] || !s->has_cpuid[i])
                        return false;
        for (unsigned i = 0; i < SAVED_CHIPS; i++)
                if (!s->has_chip[i])
                        return false;
        return s->has_pit && s->has_devices && (s->levels != NULL) == s->vm.has_levels;
}

static int read_rest(struct vm *vm, struct restored *s) {
        struct blob_section head;
        int r;

        for (;;) {
                r = read_head(s->fd, &head);
                if (r < 0)
                        return r;
                switch (head.id) {
                case BLOB_END:
                        return is_complete(s) ? 0 : -EBADMSG;
                case SAVED_LEVELS:
                        r = read_levels(s, &head);
                        break;
                case SAVED_RAM:
                        r = read_ram(vm, s, &head);
                        break;
                default:
                        r = read_small(vm, s, &head);
                        break;
                }
                if (r < 0)
                        return r;
        }
}

/* ---- Putting it in place ---- */

/* The guest's TSC stands still while it is in the file. All processors by the same. */
static int find_tsc_shift(struct vm *vm, const struct restored *s, uint64_t *ret) {
        const struct kvm_image *first = s->vcpus[0];
        uint64_t now;
        int r;

        *ret = 0;
        if (!(first->flags & KVM_IMAGE_TSC_OFFSET))
                return 0;
        r = kvm_tsc_offset_set(vm->vcpus[0].fd, first->tsc_offset);
        if (r == 0)
                r = kvm_tsc_get(vm->vcpus[0].fd, &now);
        if (r == 0)
                *ret = first->tsc - now;
        return r;
}

static int put_machine(struct vm *vm, struct restored *s) {
        uint64_t shift;
        int r = find_tsc_shift(vm, s, &shift);

        for (unsigned i = 0; i < s->vm.vcpus && r == 0; i++)
                r = kvm_image_put(vm->vcpus[i].fd, s->vcpus[i], shift);
        for (unsigned i = 0; i < SAVED_CHIPS && r == 0; i++)
                r = ioctl(vm->vm_fd, KVM_SET_IRQCHIP, &s->chips[i]) < 0 ? -errno : 0;
        if (r == 0)
                r = ioctl(vm->vm_fd, KVM_SET_PIT2, &s->pit) < 0 ? -errno : 0;
        return r;
}

static void put_devices(struct devices *d, const struct saved_devices *s) {
        d->uart = (struct uart){
                .ier = s->uart_ier,
                .lcr = s->uart_lcr,
                .mcr = s->uart_mcr,
                .scr = s->uart_scr,
                .lsr_errors = s->uart_errors,
                .divisor = s->uart_divisor,
                .trigger = s->uart_trigger,
                .fifo_enabled = s->uart_fifo_enabled,
                .thr_pending = s->uart_thr_pending,
                .irq_level = s->uart_irq_level,
                .polled = s->uart_polled,
                .polls = s->uart_polls,
                .fifo_head = s->uart_head,
                .fifo_count = s->uart_count,
        };
        memcpy(d->uart.fifo, s->uart_fifo, sizeof(d->uart.fifo));
        d->fw_cfg = (struct fw_cfg){ .key = s->fw_cfg_key, .offset = s->fw_cfg_offset };
        d->cmos_index = s->cmos_index;
        memcpy(d->cmos, s->cmos, sizeof(d->cmos));
        d->restores = s->restores + 1;
}

/**
 * restored_prepare() - before the trust levels are made: TSC frequency as it was
 * @vm: the machine with its vCPUs
 * @s: from restored_open()
 */
void restored_prepare(struct vm *vm, const struct restored *s) {
        /* Where KVM cannot scale, the trust levels will refuse the other frequency. */
        for (unsigned i = 0; i < vm->config.vcpus && s->vm.tsc_khz; i++)
                (void) ioctl(vm->vcpus[i].fd, KVM_SET_TSC_KHZ, (unsigned long) s->vm.tsc_khz);
}

/**
 * restored_put() - the machine as it was saved, ready to run
 * @vm: the machine with its trust levels, which has not run
 * @s: from restored_open()
 *
 * Return: 0, or an exit status after a message.
 */
int restored_put(struct vm *vm, struct restored *s) {
        int r;

        if (vm->vtl && vtlvmm_pause(vm->vtl) < 0) {
                say("%s", vtlvmm_error(vm->vtl));
                return STATUS_KVM;
        }
        r = read_rest(vm, s);
        if (r < 0)
                return refuse(s, r);
        r = put_machine(vm, s);
        if (r < 0) {
                say("%s: KVM does not take this machine's state: %s", s->path, strerror(-r));
                return STATUS_DATA;
        }
        put_devices(&vm->devices, &s->devices);
        if (vm->vtl && (vtlvmm_restore(vm->vtl, s->levels, s->levels_size) < 0 ||
                        vtlvmm_continue(vm->vtl) < 0)) {
                say("%s: %s", s->path, vtlvmm_error(vm->vtl));
                return STATUS_DATA;
        }
        return 0;
}
