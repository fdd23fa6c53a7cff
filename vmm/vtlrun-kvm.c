/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The KVM virtual machine: RAM, interrupt controllers, vCPUs and the state of the first one.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vtlrun.h"

#define KVM_DEVICE "/dev/kvm"
#define KVM_API 12

/* Three pages and one page that KVM on Intel needs somewhere outside RAM. */
#define IDENTITY_MAP_ADDR 0xfffbc000ull
#define TSS_ADDR 0xfffbd000ull

#define MSR_MTRR_DEF_TYPE 0x2ffu
#define MTRR_ENABLE_WRITE_BACK ((1u << 11) | 6u)

#define CR0_PE 0x00000001u
#define CR0_ET 0x00000010u
#define CR0_NE 0x00000020u
#define CR0_PG 0x80000000u
#define CR4_PAE 0x00000020u
#define EFER_LME 0x00000100u
#define EFER_LMA 0x00000400u
#define RFLAGS_ALWAYS 0x00000002u

#define GDT_LIMIT 0x27u

static int fail(int status, const char *what) {
        say("%s: %s", what, strerror(errno));
        return status;
}

static int open_kvm(struct vm *vm) {
        int version;

        vm->kvm_fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
        if (vm->kvm_fd < 0)
                return fail(STATUS_UNAVAILABLE, KVM_DEVICE);
        version = ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0);
        if (version != KVM_API) {
                say(KVM_DEVICE ": API version %d, need %d", version, KVM_API);
                return STATUS_UNAVAILABLE;
        }
        return 0;
}

static int check_capabilities(struct vm *vm) {
        static const struct {
                int cap;
                const char *name;
        } needed[] = {
                { KVM_CAP_USER_MEMORY, "user memory" },
                { KVM_CAP_IRQCHIP, "in-kernel interrupt controllers" },
                { KVM_CAP_PIT2, "in-kernel interval timer" },
                { KVM_CAP_EXT_CPUID, "CPUID" },
                { KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
                { KVM_CAP_MP_STATE, "MP state" },
        };
        int limit;

        for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
                if (ioctl(vm->vm_fd, KVM_CHECK_EXTENSION, needed[i].cap) <= 0) {
                        say(KVM_DEVICE ": does not offer %s", needed[i].name);
                        return STATUS_UNAVAILABLE;
                }

        limit = ioctl(vm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
        if (limit > 0 && vm->config.vcpus > (unsigned) limit) {
                say(KVM_DEVICE ": at most %d virtual processors", limit);
                return STATUS_UNAVAILABLE;
        }
        return 0;
}

/* A sealed memfd of small pages: what libvtlvmm asks for, so that another process may map it
 * without fear of SIGBUS. */
static int create_ram(struct vm *vm) {
        uint64_t size = vm->config.memory;

        vm->ram_fd = memfd_create("vtlrun-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (vm->ram_fd < 0)
                return fail(STATUS_OS, "memfd_create");
        if (ftruncate(vm->ram_fd, (off_t) size) < 0)
                return fail(STATUS_OS, "cannot size the guest's RAM");
        if (fcntl(vm->ram_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return fail(STATUS_OS, "cannot seal the guest's RAM");

        vm->ram =
                mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, vm->ram_fd, 0);
        if (vm->ram == MAP_FAILED) {
                vm->ram = NULL;
                return fail(STATUS_OS, "cannot map the guest's RAM");
        }
        (void) madvise(vm->ram, size, MADV_DONTDUMP);

        vm->ram_map.low = vm->ram;
        vm->ram_map.low_size = MIN(size, BOOT_RAM_BELOW_4G);
        vm->ram_map.high_size = size - vm->ram_map.low_size;
        return 0;
}

/**
 * vm_memory_slots() - how RAM lies in the guest and in ours
 * @vm: the machine with its RAM
 * @slots: receives the slots
 *
 * The slots follow each other in the RAM's memfd.
 *
 * Return: the number of slots.
 */
unsigned vm_memory_slots(const struct vm *vm,
                         struct kvm_userspace_memory_region slots[VM_MAX_SLOTS]) {
        const struct boot_ram *ram = &vm->ram_map;

        slots[0] = (struct kvm_userspace_memory_region){
                .slot = 0,
                .memory_size = ram->low_size,
                .userspace_addr = (uint64_t) (uintptr_t) vm->ram,
        };
        slots[1] = (struct kvm_userspace_memory_region){
                .slot = 1,
                .guest_phys_addr = BOOT_HIGH_START,
                .memory_size = ram->high_size,
                .userspace_addr = (uint64_t) (uintptr_t) (vm->ram + ram->low_size),
        };
        return ram->high_size > 0 ? 2 : 1;
}

static int add_slots(struct vm *vm) {
        struct kvm_userspace_memory_region slots[VM_MAX_SLOTS];
        unsigned n = vm_memory_slots(vm, slots);

        for (unsigned i = 0; i < n; i++)
                if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slots[i]) < 0)
                        return fail(STATUS_KVM, "cannot give RAM to the guest");
        return 0;
}

static int create_machine(struct vm *vm) {
        const struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
        uint64_t identity_map = IDENTITY_MAP_ADDR;
        int r;

        vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
        if (vm->vm_fd < 0)
                return fail(STATUS_UNAVAILABLE, "cannot create a virtual machine");
        r = check_capabilities(vm);
        if (r != 0)
                return r;

        /* Only KVM on Intel needs these two; elsewhere they are accepted or missing, and do
         * nothing. */
        (void) ioctl(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
        (void) ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDR);

        if (ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
                return fail(STATUS_KVM, "cannot create the interrupt controllers");
        if (ioctl(vm->vm_fd, KVM_CREATE_PIT2, &pit) < 0)
                return fail(STATUS_KVM, "cannot create the interval timer");
        return 0;
}

/**
 * vm_create() - a virtual machine with RAM, interrupt controllers and devices, without vCPUs
 * @vm: an object that is all zero; vm_destroy() it whatever this returns
 * @config: what to create; what it points to must live as long
 *
 * Return: 0, or an exit status after a message.
 */
int vm_create(struct vm *vm, const struct vm_config *config) {
        int r;

        vm->config = *config;
        vm->kvm_fd = vm->vm_fd = vm->ram_fd = vm->stop_fd = vm->input_fd = -1;
        for (unsigned i = 0; i < BOOT_MAX_VCPUS; i++)
                vm->vcpus[i].fd = -1;
        atomic_init(&vm->status, -1);
        (void) pthread_mutex_init(&vm->device_lock, NULL);

        vm->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        vm->input_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (vm->stop_fd < 0 || vm->input_fd < 0)
                return fail(STATUS_OS, "eventfd");

        r = open_kvm(vm);
        if (r == 0)
                r = create_machine(vm);
        if (r == 0)
                r = create_ram(vm);
        if (r == 0)
                r = vm_check_memory(vm);
        if (r == 0)
                r = add_slots(vm);
        if (r == 0)
                devices_init(&vm->devices, &vm_device_ops, vm, config->vcpus, vm->ram_map.low_size,
                             vm->ram_map.high_size);
        return r;
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool is_64) {
        return (struct kvm_segment){
                .limit = 0xffffffff,
                .selector = selector,
                .type = type,
                .present = 1,
                .db = !is_64,
                .s = 1,
                .l = is_64,
                .g = 1,
        };
}

static int set_entry_sregs(struct vcpu *vcpu, const struct boot_entry *entry) {
        bool is_64 = entry->mode == BOOT_LONG;
        struct kvm_segment data = flat_segment(BOOT_DS_SELECTOR, 3, false);
        struct kvm_sregs s;

        if (ioctl(vcpu->fd, KVM_GET_SREGS, &s) < 0)
                return fail(STATUS_KVM, "cannot read the processor's registers");

        s.cs = flat_segment(BOOT_CS_SELECTOR, 11, is_64);
        s.ds = s.es = s.fs = s.gs = s.ss = data;
        s.tr = (struct kvm_segment){
                .limit = 0x67, .selector = BOOT_TSS_SELECTOR, .type = 11, .present = 1
        };
        s.ldt = (struct kvm_segment){ .type = 2, .unusable = 1 };
        s.gdt = (struct kvm_dtable){ .base = BOOT_GDT_ADDR, .limit = GDT_LIMIT };
        s.idt = (struct kvm_dtable){ 0 };
        s.cr0 = CR0_PE | CR0_ET | CR0_NE;
        if (is_64) {
                s.cr0 |= CR0_PG;
                s.cr3 = BOOT_PAGE_TABLE_ADDR;
                s.cr4 = CR4_PAE;
                s.efer = EFER_LME | EFER_LMA;
        }
        if (ioctl(vcpu->fd, KVM_SET_SREGS, &s) < 0)
                return fail(STATUS_KVM, "cannot set the processor's registers");
        return 0;
}

static int set_entry_state(struct vcpu *vcpu, const struct boot_entry *entry) {
        const struct kvm_regs regs = {
                .rip = entry->rip,
                .rax = entry->rax,
                .rbx = entry->rbx,
                .rsi = entry->rsi,
                .rflags = RFLAGS_ALWAYS,
        };
        int r;

        r = set_entry_sregs(vcpu, entry);
        if (r != 0)
                return r;
        if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
                return fail(STATUS_KVM, "cannot set the processor's registers");
        return 0;
}

/* Firmware leaves memory cacheable. A KVM without MTRRs is fine too: then they do not matter. */
static void set_memory_type(struct vcpu *vcpu) {
        union {
                struct kvm_msrs msrs;
                uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
        } list = { .msrs.nmsrs = 1 };

        list.msrs.entries[0] = (struct kvm_msr_entry){ .index = MSR_MTRR_DEF_TYPE,
                                                       .data = MTRR_ENABLE_WRITE_BACK };
        (void) ioctl(vcpu->fd, KVM_SET_MSRS, &list.msrs);
}

/* For a guest that cannot set it: a host in QEMU's emulation loses what XSETBV of its guest
 * wrote. */
static int set_xcr0(struct vm *vm, struct vcpu *vcpu) {
        const struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .value = vm->config.xcr0 } } };

        if (vm->config.xcr0 != 0 && ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs) < 0) {
                say("this processor's XCR0 cannot be 0x%llx: %s",
                    (unsigned long long) vm->config.xcr0, strerror(errno));
                return STATUS_KVM;
        }
        return 0;
}

static int create_vcpu(struct vm *vm, unsigned index) {
        struct vcpu *vcpu = &vm->vcpus[index];
        int r;

        vcpu->vm = vm;
        vcpu->index = index;
        vcpu->fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, (unsigned long) index);
        if (vcpu->fd < 0)
                return fail(STATUS_KVM, "cannot create a virtual processor");
        vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
        if (vcpu->run == MAP_FAILED) {
                vcpu->run = NULL;
                return fail(STATUS_OS, "cannot map a virtual processor");
        }

        r = vcpu_set_cpuid(vm, vcpu);
        if (r != 0)
                return r;
        set_memory_type(vcpu);
        return set_xcr0(vm, vcpu);
}

/**
 * vm_create_vcpus() - create all vCPUs; the first is ready to enter the image
 * @vm: the machine
 * @entry: state of the first vCPU, NULL when it comes from a file
 *
 * The others wait in the kernel for INIT and SIPI.
 *
 * Return: 0, or an exit status after a message.
 */
int vm_create_vcpus(struct vm *vm, const struct boot_entry *entry) {
        int r, size;

        size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
        if (size < (int) sizeof(struct kvm_run))
                return fail(STATUS_KVM, "cannot learn the size of a virtual processor's page");
        vm->run_size = (size_t) size;

        for (unsigned i = 0; i < vm->config.vcpus; i++) {
                r = create_vcpu(vm, i);
                if (r != 0)
                        return r;
        }
        return entry ? set_entry_state(&vm->vcpus[0], entry) : 0;
}

/* Where the vCPU is, for messages; 0 if KVM does not say. */
uint64_t vcpu_read_rip(struct vcpu *vcpu) {
        struct kvm_regs regs;

        return ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 ? 0 : regs.rip;
}

/**
 * vm_destroy() - release everything; the threads must have ended
 * @vm: the machine, possibly half built
 */
void vm_destroy(struct vm *vm) {
        vm_free_vtl(vm);
        for (unsigned i = 0; i < BOOT_MAX_VCPUS; i++) {
                if (vm->vcpus[i].run)
                        (void) munmap(vm->vcpus[i].run, vm->run_size);
                vm->vcpus[i].run = NULL;
                vm->vcpus[i].fd = safe_close(vm->vcpus[i].fd);
                free(TAKE_PTR(vm->vcpus[i].cpuid));
        }
        if (vm->ram)
                (void) munmap(vm->ram, vm->config.memory);
        vm->ram = NULL;
        vm->ram_fd = safe_close(vm->ram_fd);
        vm->vm_fd = safe_close(vm->vm_fd);
        vm->kvm_fd = safe_close(vm->kvm_fd);
        vm->stop_fd = safe_close(vm->stop_fd);
        vm->input_fd = safe_close(vm->input_fd);
        (void) pthread_mutex_destroy(&vm->device_lock);
}
