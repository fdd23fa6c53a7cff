/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * CPUID of the guest: what KVM supports, with the leaves that describe one machine's topology
 * rewritten for ours: one package, one thread per core, APIC id = vCPU index.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vtlrun.h"

#define FIRST_ENTRIES 128u
#define MAX_ENTRIES 4096u

#define LEAF_ADDRESS_SIZES 0x80000008u
#define DEFAULT_PHYSICAL_BITS 36u

#define LEAF1_EBX_LOGICAL_SHIFT 16
#define LEAF1_EBX_APIC_SHIFT 24
#define LEAF1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF1_ECX_HYPERVISOR (1u << 31)
#define LEAF1_EDX_HTT (1u << 28)

#define TOPOLOGY_SMT 1u
#define TOPOLOGY_CORE 2u

struct processor {
        unsigned vcpus;
        unsigned apic_id;
        unsigned core_bits; /* of the APIC id */
        bool tsc_deadline;
};

struct cpuid_fix {
        uint32_t function;
        void (*fix)(struct kvm_cpuid_entry2 *e, const struct processor *p);
};

static void fix_features(struct kvm_cpuid_entry2 *e, const struct processor *p) {
        e->ebx &= 0x0000ffffu;
        e->ebx |= p->apic_id << LEAF1_EBX_APIC_SHIFT;
        e->ebx |= (1u << p->core_bits) << LEAF1_EBX_LOGICAL_SHIFT;
        e->ecx |= LEAF1_ECX_HYPERVISOR;
        /* KVM says nothing of it here, because it is the APIC that has it. */
        if (p->tsc_deadline)
                e->ecx |= LEAF1_ECX_TSC_DEADLINE;
        if (p->vcpus > 1)
                e->edx |= LEAF1_EDX_HTT;
        else
                e->edx &= ~LEAF1_EDX_HTT;
}

/* Leaves 4 and 0x8000001d: caches of level 3 are shared by all cores, others by none. */
static void fix_cache_sharing(struct kvm_cpuid_entry2 *e, const struct processor *p) {
        unsigned level = (e->eax >> 5) & 7;

        if ((e->eax & 0x1f) == 0)
                return;
        e->eax &= 0x00003fffu;
        if (level >= 3)
                e->eax |= (p->vcpus - 1) << 14;
        if (e->function == 4)
                e->eax |= (p->vcpus - 1) << 26;
}

static void fix_extended_topology(struct kvm_cpuid_entry2 *e, const struct processor *p) {
        e->edx = p->apic_id;
        switch (e->index) {
        case 0:
                e->eax = 0;
                e->ebx = 1;
                e->ecx = TOPOLOGY_SMT << 8;
                break;
        case 1:
                e->eax = p->core_bits;
                e->ebx = p->vcpus;
                e->ecx = 1 | TOPOLOGY_CORE << 8;
                break;
        default:
                e->eax = e->ebx = 0;
                e->ecx = e->index;
        }
}

static void fix_amd_cores(struct kvm_cpuid_entry2 *e, const struct processor *p) {
        e->ecx &= ~0xf0ffu;
        e->ecx |= (p->vcpus - 1) | p->core_bits << 12;
}

static void fix_amd_topology(struct kvm_cpuid_entry2 *e, const struct processor *p) {
        e->eax = p->apic_id;
        e->ebx = p->apic_id; /* core id, one thread per core */
        e->ecx = 0;          /* node 0, one node */
}

/* clang-format off */
static const struct cpuid_fix fixes[] = {
        { 0x00000001, fix_features          },
        { 0x00000004, fix_cache_sharing     },
        { 0x0000000b, fix_extended_topology },
        { 0x0000001f, fix_extended_topology },
        { 0x80000008, fix_amd_cores         },
        { 0x8000001d, fix_cache_sharing     },
        { 0x8000001e, fix_amd_topology      },
};
/* clang-format on */

static void apply_fixes(struct kvm_cpuid2 *cpuid, const struct processor *p) {
        for (unsigned i = 0; i < cpuid->nent; i++)
                for (size_t f = 0; f < ARRAY_SIZE(fixes); f++)
                        if (cpuid->entries[i].function == fixes[f].function)
                                fixes[f].fix(&cpuid->entries[i], p);
}

/* The table of unknown length that KVM fills: doubled until it fits. */
static struct kvm_cpuid2 *get_supported(int kvm_fd) {
        for (unsigned n = FIRST_ENTRIES; n <= MAX_ENTRIES; n *= 2) {
                struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + n * sizeof(c->entries[0]));

                if (!c)
                        return NULL;
                c->nent = n;
                if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, c) == 0)
                        return c;
                free(c);
                if (errno != E2BIG)
                        return NULL;
        }
        errno = E2BIG;
        return NULL;
}

static unsigned physical_bits(const struct kvm_cpuid2 *cpuid) {
        for (unsigned i = 0; i < cpuid->nent; i++)
                if (cpuid->entries[i].function == LEAF_ADDRESS_SIZES &&
                    (cpuid->entries[i].eax & 0xff))
                        return cpuid->entries[i].eax & 0xff;
        return DEFAULT_PHYSICAL_BITS;
}

/**
 * vm_check_memory() - whether the guest's processors can address all of its RAM
 * @vm: the machine with its RAM
 *
 * Return: 0, or an exit status after a message.
 */
int vm_check_memory(struct vm *vm) {
        _cleanup_free_ struct kvm_cpuid2 *cpuid = get_supported(vm->kvm_fd);
        unsigned bits = cpuid ? physical_bits(cpuid) : DEFAULT_PHYSICAL_BITS;

        if (vm->ram_map.high_size == 0 ||
            boot_span_fits(BOOT_HIGH_START, vm->ram_map.high_size, 1ull << bits))
                return 0;
        say("%llu MiB of memory are more than the processors can address (%u bits)",
            (unsigned long long) (vm->config.memory >> 20), bits);
        return STATUS_UNAVAILABLE;
}

/**
 * vcpu_set_cpuid() - give a vCPU its CPUID
 * @vm: the machine
 * @vcpu: the vCPU, which keeps the table
 *
 * Return: 0, or an exit status after a message.
 */
int vcpu_set_cpuid(struct vm *vm, struct vcpu *vcpu) {
        struct kvm_cpuid2 *cpuid = get_supported(vm->kvm_fd);
        struct processor p = {
                .vcpus = vm->config.vcpus,
                .apic_id = vcpu->index,
                .tsc_deadline =
                        ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
        };

        if (!cpuid) {
                say("cannot read the supported CPUID: %s", strerror(errno));
                return STATUS_KVM;
        }
        free(vcpu->cpuid);
        vcpu->cpuid = cpuid;
        while ((1u << p.core_bits) < p.vcpus)
                p.core_bits++;
        apply_fixes(cpuid, &p);
        if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0) {
                say("cannot set CPUID: %s", strerror(errno));
                return STATUS_KVM;
        }
        return 0;
}
