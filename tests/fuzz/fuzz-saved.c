/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target: vtlrun --restore, a machine from a file. KVM is played (--wrap=ioctl), and so are
 * the trust levels, whose own state is fuzz-state's. What is refused says why; what is taken leaves
 * devices that can run, and wrote to no memory but the machine's.
 */

#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "util/util.h"
#include "vmm/vtlrun-saved.h"
#include "vmm/vtlrun.h"
#include "vmm/vtlvmm.h"
#include "vtl/kvm-image.h"

#define MEMORY_MAX (64ull << 20)
#define PAGE 4096u
/* make-corpus-saved.py writes them. */
_Static_assert(sizeof(struct kvm_image) == 6192 && sizeof(struct kvm_irqchip) == 520 &&
                       sizeof(struct kvm_pit_state2) == 112,
               "sizes in the corpus");

static unsigned said, paused, restored, continued;
static const uint8_t *levels;

static void require(bool condition) {
        if (!condition)
                abort();
}

/* ---- What vtlrun has elsewhere ---- */

void say(const char *fmt, ...) {
        char text[512];
        va_list ap;

        va_start(ap, fmt);
        require(vsnprintf(text, sizeof(text), fmt, ap) > 0);
        va_end(ap);
        said++;
}

int __wrap_ioctl(int fd, unsigned long code, void *arg);

int __wrap_ioctl(int fd, unsigned long code, void *arg) {
        switch (code) {
        case KVM_GET_MSRS:
        case KVM_SET_MSRS:
                require(((struct kvm_msrs *) arg)->nmsrs == 1);
                return 1;
        case KVM_SET_IRQCHIP:
                require(((struct kvm_irqchip *) arg)->chip_id < SAVED_CHIPS);
                return 0;
        default:
                return 0;
        }
}

int vtlvmm_pause(struct vtlvmm *v) {
        paused++;
        return 0;
}

/* Reads all of it, so that a sanitizer sees whether it is there. */
int vtlvmm_restore(struct vtlvmm *v, const void *blob, size_t size) {
        uint8_t sum = 0;

        levels = blob;
        for (size_t i = 0; i < size; i++)
                sum ^= levels[i];
        restored++;
        return sum == 0xff ? -EBADMSG : 0;
}

int vtlvmm_continue(struct vtlvmm *v) {
        continued++;
        return 0;
}

const char *vtlvmm_error(const struct vtlvmm *v) {
        return "refused";
}

/* ---- The machine ---- */

static struct vm *machine(const struct vm_config *config) {
        static struct vm vm;
        static struct kvm_cpuid2 *cpuid;
        uint8_t *ram;

        if (!cpuid) {
                cpuid = calloc(1, sizeof(*cpuid) + sizeof(cpuid->entries[0]));
                require(cpuid);
                cpuid->nent = 1;
        }
        ram = mmap(NULL, config->memory + PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        require(ram != MAP_FAILED && mprotect(ram + config->memory, PAGE, PROT_NONE) == 0);
        memset(&vm.devices, 0, sizeof(vm.devices));
        vm.config = *config;
        vm.vm_fd = vm.kvm_fd = -1;
        vm.ram = ram;
        vm.vtl = config->engine == ENGINE_NONE ? NULL : (struct vtlvmm *) &vm;
        for (unsigned i = 0; i < config->vcpus; i++) {
                vm.vcpus[i].fd = -1;
                vm.vcpus[i].cpuid = cpuid;
        }
        return &vm;
}

static void check_restored(const struct vm *vm) {
        const struct devices *d = &vm->devices;
        bool with_levels = vm->vtl;

        require(d->uart.fifo_head < UART_FIFO_SIZE && d->uart.fifo_count <= UART_FIFO_SIZE &&
                d->uart.trigger <= UART_FIFO_SIZE && d->cmos_index < CMOS_SIZE);
        require(paused == with_levels && restored == with_levels && continued == with_levels);
        require(!said);
}

/* As main() does with --restore */
static void restore(const char *path, enum engine engine) {
        struct vm_config config = { .engine = engine };
        struct restored *s = NULL;
        struct vm *vm;
        int r;

        said = paused = restored = continued = 0;
        r = restored_open(path, &config, &s);
        if (r == 0) {
                require(config.vcpus >= 1 && config.vcpus <= BOOT_MAX_VCPUS && config.name[0]);
                require(config.memory >= 2u << 20 && config.memory <= 1ull << 40);
        }
        if (r == 0 && config.memory <= MEMORY_MAX) {
                vm = machine(&config);
                restored_prepare(vm, s);
                r = restored_put(vm, s);
                if (r == 0)
                        check_restored(vm);
                (void) munmap(vm->ram, config.memory + PAGE);
        }
        require(r == 0 || r == STATUS_DATA || r == STATUS_OS);
        require((r != 0) == (said > 0));
        (void) restored_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_close_ int fd = memfd_create("saved", MFD_CLOEXEC);
        char path[32];

        require(fd >= 0 && write(fd, data, size) == (ssize_t) size);
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        restore(path, ENGINE_NONE);
        restore(path, ENGINE_IN_PROCESS);
        return 0;
}
