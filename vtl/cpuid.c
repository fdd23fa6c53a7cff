/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/cpuid.h"
#include "vtl/hvdef.h"

#define CPUID_HYPERVISOR_FIRST 0x40000000u
#define CPUID_HYPERVISOR_LAST 0x4fffffffu

void vtl_cpuid_leaf(uint32_t leaf, unsigned vps, unsigned phys_bits, uint32_t regs[4]) {
        static const struct {
                uint32_t leaf;
                uint32_t regs[4];
        } table[] = {
                { HV_CPUID_VENDOR,
                  { HV_CPUID_MAX, 0x7263694d, 0x666f736f, 0x76482074 } }, /* "Microsoft Hv" */
                { HV_CPUID_INTERFACE, { 0x31237648, 0, 0, 0 } },          /* "Hv#1" */
                { HV_CPUID_VERSION, { 20348, 10u << 16, 0, 0 } },
                { HV_CPUID_FEATURES,
                  { (uint32_t) VTL_PRIVILEGES, (uint32_t) (VTL_PRIVILEGES >> 32), 0,
                    VTL_FEATURES } },
                /* A flush by hypercall is the only one that VTL1's TLB lock can hold back (vsm.md
                 * 1.4). EBX: never notify a long spin wait. */
                { HV_CPUID_RECOMMENDATIONS,
                  { HV_RECOMMEND_REMOTE_FLUSH | HV_RECOMMEND_RELAXED_TIMING |
                            HV_RECOMMEND_NO_AUTO_EOI | HV_RECOMMEND_CLUSTER_IPI |
                            HV_RECOMMEND_EX_PROCESSOR_MASKS,
                    0xffffffffu, 0, 0 } },
                /* In use: MSR bitmaps, SLAT. */
                { HV_CPUID_HARDWARE, { 1u << 1 | 1u << 3, 0, 0, 0 } },
        };

        memset(regs, 0, 4 * sizeof(regs[0]));
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                if (table[i].leaf == leaf)
                        memcpy(regs, table[i].regs, sizeof(table[i].regs));
        if (leaf == HV_CPUID_RECOMMENDATIONS)
                regs[2] = phys_bits & 0x7f;
        if (leaf == HV_CPUID_LIMITS)
                regs[0] = regs[1] = vps;
}

static void hide(struct kvm_cpuid_entry2 *e) {
        if (e->function == 7 && e->index == 0) {
                e->ecx &= ~(1u << 7);                                   /* CET_SS */
                e->edx &= ~(1u << 20 | 1u << 22 | 1u << 24 | 1u << 25); /* CET_IBT, AMX */
        } else if (e->function == 7 && e->index == 1)
                e->eax &= ~(1u << 21); /* AMX-FP16 */
        else if (e->function == 0xd && e->index == 0)
                e->eax &= ~(1u << 17 | 1u << 18); /* XTILECFG, XTILEDATA */
        else if (e->function == 0xd && e->index == 1) {
                e->eax &= ~(1u << 4);             /* XFD */
                e->ecx &= ~(1u << 11 | 1u << 12); /* CET_U, CET_S */
        } else if (e->function == 0xd &&
                   (e->index == 11 || e->index == 12 || e->index == 17 || e->index == 18))
                e->eax = e->ebx = e->ecx = e->edx = 0;
        else if (e->function == 0x1d || e->function == 0x1e)
                e->eax = e->ebx = e->ecx = e->edx = 0;
        else if (e->function == 1)
                e->ecx |= 1u << 31; /* a hypervisor is present */
}

int vtl_cpuid_adjust(const struct kvm_cpuid2 *in, unsigned vps, struct kvm_cpuid2 **ret) {
        unsigned leaves = HV_CPUID_MAX - HV_CPUID_VENDOR + 1, phys_bits = 36;
        struct kvm_cpuid2 *out;

        out = calloc(1, sizeof(*out) + (in->nent + leaves) * sizeof(out->entries[0]));
        if (!out)
                return -ENOMEM;
        for (uint32_t i = 0; i < in->nent; i++) {
                const struct kvm_cpuid_entry2 *e = &in->entries[i];

                if (e->function >= CPUID_HYPERVISOR_FIRST && e->function <= CPUID_HYPERVISOR_LAST)
                        continue;
                if (e->function == 0x80000008u)
                        phys_bits = e->eax & 0xff;
                out->entries[out->nent] = *e;
                hide(&out->entries[out->nent++]);
        }
        for (unsigned i = 0; i < leaves; i++) {
                struct kvm_cpuid_entry2 *e = &out->entries[out->nent++];
                uint32_t regs[4];

                vtl_cpuid_leaf(HV_CPUID_VENDOR + i, vps, phys_bits, regs);
                *e = (struct kvm_cpuid_entry2){ .function = HV_CPUID_VENDOR + i,
                                                .eax = regs[0],
                                                .ebx = regs[1],
                                                .ecx = regs[2],
                                                .edx = regs[3] };
        }
        *ret = out;
        return 0;
}
