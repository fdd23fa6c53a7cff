/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * CPUID as a guest with VTLs sees it: Hyper-V's leaves in, KVM's own out, and what the planes
 * cannot carry hidden.
 */

#include <linux/kvm.h>
#include <stdint.h>

#define VTL_PRIVILEGES                                                                             \
        (HV_PRIV_REFERENCE_COUNTER | HV_PRIV_SYNIC | HV_PRIV_SYNTHETIC_TIMER | HV_PRIV_INTR_CTRL | \
         HV_PRIV_HYPERCALL_MSRS | HV_PRIV_VP_INDEX | HV_PRIV_RESET | HV_PRIV_GUEST_IDLE |          \
         HV_PRIV_REFERENCE_TSC | HV_PRIV_FREQUENCY | HV_PRIV_EXTENDED_GVA_RANGES | HV_PRIV_VSM |   \
         HV_PRIV_VP_REGISTERS | HV_PRIV_FAST_OUTPUT | HV_PRIV_EXTENDED_HYPERCALLS |                \
         HV_PRIV_POST_MESSAGES | HV_PRIV_SIGNAL_EVENTS | HV_PRIV_START_VIRTUAL_PROCESSOR)
#define VTL_FEATURES                                                                  \
        (HV_FEATURE_XMM_INPUT | HV_FEATURE_FREQUENCY_MSRS | HV_FEATURE_XMM_OUTPUT |   \
         HV_FEATURE_CRASH_MSRS | HV_FEATURE_SINT_POLLING | HV_FEATURE_DIRECT_TIMERS | \
         HV_FEATURE_PAT_FOR_VSM | HV_FEATURE_CROSS_VTL_FLUSH | HV_FEATURE_EXTENDED_GVA_RANGES)

/* One Hyper-V leaf, HV_CPUID_VENDOR..HV_CPUID_MAX; zeros beyond. @regs: EAX, EBX, ECX, EDX. */
void vtl_cpuid_leaf(uint32_t leaf, unsigned vps, unsigned phys_bits, uint32_t regs[4]);

/**
 * vtl_cpuid_adjust() - turn a VMM's CPUID table into the guest's
 * @in: what the VMM gave its vCPU
 * @vps: virtual processors of the partition
 * @ret: a new table, to be freed by the caller
 *
 * KVM's leaves (0x40000000-0x4fffffff, whatever they say) are replaced by Hyper-V's. CET, AMX and
 * XFD are hidden: they have state that does not cross between planes (kvm-findings D3).
 *
 * Return: 0 or -ENOMEM.
 */
int vtl_cpuid_adjust(const struct kvm_cpuid2 *in, unsigned vps, struct kvm_cpuid2 **ret);
