/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Is this a KVM that can serve anything at all?  Runs one page of real-mode code that writes 'A' to
 * the serial port and halts, checks both exits, and prints the capabilities that vtld asks for.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE_GPA 0x1000
#define CODE_SIZE 0x1000
#define UART_PORT 0x3f8

static const uint8_t code[] = {
        0xba, 0xf8, 0x03, /* mov $0x3f8, %dx */
        0xb0, 'A',        /* mov $'A', %al */
        0xee,             /* out %al, (%dx) */
        0xf4,             /* hlt */
};

static const struct {
        const char *name;
        int number;
} capabilities[] = {
        { "KVM_CAP_SYNC_REGS", KVM_CAP_SYNC_REGS },
        { "KVM_CAP_HYPERV", KVM_CAP_HYPERV },
        { "KVM_CAP_HYPERV_CPUID", KVM_CAP_HYPERV_CPUID },
        { "KVM_CAP_X86_USER_SPACE_MSR", KVM_CAP_X86_USER_SPACE_MSR },
        { "KVM_CAP_X86_MSR_FILTER", KVM_CAP_X86_MSR_FILTER },
        { "KVM_CAP_IMMEDIATE_EXIT", KVM_CAP_IMMEDIATE_EXIT },
        { "KVM_CAP_READONLY_MEM", KVM_CAP_READONLY_MEM },
        { "KVM_CAP_NR_MEMSLOTS", KVM_CAP_NR_MEMSLOTS },
        { "KVM_CAP_MAX_VCPUS", KVM_CAP_MAX_VCPUS },
};

static int fail(const char *what) {
        fprintf(stderr, "kvm-smoke: %s: %s\n", what, strerror(errno));

        return EXIT_FAILURE;
}

static int expect_exit(int vcpu, const struct kvm_run *run, uint32_t reason) {
        if (ioctl(vcpu, KVM_RUN, 0) < 0)
                return fail("KVM_RUN");

        printf("exit %u\n", run->exit_reason);
        if (run->exit_reason == reason)
                return EXIT_SUCCESS;

        fprintf(stderr, "kvm-smoke: expected exit %u\n", reason);

        return EXIT_FAILURE;
}

static int check_output(const struct kvm_run *run) {
        const char *data = (const char *) run + run->io.data_offset;

        if (run->io.direction == KVM_EXIT_IO_OUT && run->io.port == UART_PORT && *data == 'A')
                return EXIT_SUCCESS;

        fprintf(stderr, "kvm-smoke: not the output that the guest made: port %#x data %#x\n",
                run->io.port, *data);

        return EXIT_FAILURE;
}

static int start_in_code(int vcpu) {
        struct kvm_regs regs = { .rip = CODE_GPA, .rflags = 2 };
        struct kvm_sregs sregs;

        if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
                return fail("KVM_GET_SREGS");
        sregs.cs.base = 0;
        sregs.cs.selector = 0;
        if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0)
                return fail("KVM_SET_SREGS");
        if (ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
                return fail("KVM_SET_REGS");

        return EXIT_SUCCESS;
}

static int run_guest(int kvm) {
        struct kvm_userspace_memory_region region = {
                .guest_phys_addr = CODE_GPA,
                .memory_size = CODE_SIZE,
        };
        int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
        struct kvm_run *run;
        void *memory;
        int vm, vcpu;

        memory = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                return fail("mmap");
        memcpy(memory, code, sizeof(code));
        region.userspace_addr = (uintptr_t) memory;

        vm = ioctl(kvm, KVM_CREATE_VM, 0);
        if (vm < 0)
                return fail("KVM_CREATE_VM");
        if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
                return fail("KVM_SET_USER_MEMORY_REGION");
        vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
        if (vcpu < 0)
                return fail("KVM_CREATE_VCPU");
        run = mmap(NULL, (size_t) run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
        if (run == MAP_FAILED)
                return fail("mmap of the vCPU");

        if (start_in_code(vcpu) != 0 || expect_exit(vcpu, run, KVM_EXIT_IO) != 0 ||
            check_output(run) != 0 || expect_exit(vcpu, run, KVM_EXIT_HLT) != 0)
                return EXIT_FAILURE;

        return EXIT_SUCCESS;
}

int main(void) {
        int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

        if (kvm < 0)
                return fail("/dev/kvm");

        printf("KVM_API_VERSION %d\n", ioctl(kvm, KVM_GET_API_VERSION, 0));
        for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
                printf("%s %#x\n", capabilities[i].name,
                       (unsigned) ioctl(kvm, KVM_CHECK_EXTENSION, capabilities[i].number));

        return run_guest(kvm);
}
