/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the guests of fuzz-engine choose from, by number: make-corpus-engine.py knows the order. */

#include <stdint.h>

#include "tests/unit/engine-fixture.h"
#include "vtl/hvdef.h"
#include "vtl/hvpage.h"
#include "vtl/lapic.h"

static const uint16_t codes[] = {
        HVCALL_MODIFY_VTL_PROTECTION_MASK,
        HVCALL_ENABLE_PARTITION_VTL,
        HVCALL_ENABLE_VP_VTL,
        HVCALL_VTL_CALL,
        HVCALL_VTL_RETURN,
        HVCALL_GET_VP_REGISTERS,
        HVCALL_SET_VP_REGISTERS,
        HVCALL_GET_VP_INDEX_FROM_APIC_ID,
        HVCALL_EXT_QUERY_CAPABILITIES,
        HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE,
        HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST,
        HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX,
        HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX,
        HVCALL_NOTIFY_LONG_SPIN_WAIT,
        HVCALL_SEND_SYNTHETIC_CLUSTER_IPI,
        HVCALL_SEND_SYNTHETIC_CLUSTER_IPI_EX,
        HVCALL_INSTALL_INTERCEPT,
        HVCALL_TRANSLATE_VIRTUAL_ADDRESS,
        HVCALL_TRANSLATE_VIRTUAL_ADDRESS_EX,
        HVCALL_POST_MESSAGE,
        HVCALL_POST_MESSAGE_DIRECT,
        HVCALL_SIGNAL_EVENT,
        HVCALL_SIGNAL_EVENT_DIRECT,
        HVCALL_ASSERT_VIRTUAL_INTERRUPT,
        HVCALL_START_VIRTUAL_PROCESSOR,
        HVCALL_CHECK_SPARSE_GPA_PAGE_VTL_ACCESS,
        0x7fff,
};

static const uint32_t msr_numbers[] = {
        HV_MSR_GUEST_OS_ID,
        HV_MSR_HYPERCALL,
        HV_MSR_VP_INDEX,
        HV_MSR_TIME_REF_COUNT,
        HV_MSR_REFERENCE_TSC,
        HV_MSR_TSC_FREQUENCY,
        HV_MSR_APIC_FREQUENCY,
        HV_MSR_EOI,
        HV_MSR_ICR,
        HV_MSR_TPR,
        HV_MSR_VP_ASSIST_PAGE,
        HV_MSR_SCONTROL,
        HV_MSR_SVERSION,
        HV_MSR_SIEFP,
        HV_MSR_SIMP,
        HV_MSR_EOM,
        HV_MSR_SINT0,
        HV_MSR_SINT15,
        LAPIC_MSR_BASE,
        0x808,
        0x80b,
        0x830,
        0x83f,
        0x80f,
        0x832,
        0x6e0,
};

/* Those of an intercept */
static const uint32_t intercepted_msrs[] = { 0x1b,       0x174,      0x277,
                                             0xc0000080, 0xc0000081, 0xc0000082,
                                             0xc0000102, 0xc0000103, 0x40000073 };

static const uint32_t names[] = {
        HV_REGISTER_PENDING_EVENT0,
        HV_X64_REGISTER_RAX,
        HV_X64_REGISTER_RSP,
        HV_X64_REGISTER_RIP,
        HV_X64_REGISTER_RFLAGS,
        HV_X64_REGISTER_XMM0,
        HV_X64_REGISTER_CR0,
        HV_X64_REGISTER_CR2,
        HV_X64_REGISTER_CR3,
        HV_X64_REGISTER_CR4,
        HV_X64_REGISTER_CR8,
        HV_X64_REGISTER_XFEM,
        HV_X64_REGISTER_DR0,
        HV_X64_REGISTER_DR7,
        HV_X64_REGISTER_CS,
        HV_X64_REGISTER_GS,
        HV_X64_REGISTER_TR,
        HV_X64_REGISTER_IDTR,
        HV_X64_REGISTER_EFER,
        HV_X64_REGISTER_KERNEL_GS_BASE,
        HV_X64_REGISTER_APIC_BASE,
        HV_X64_REGISTER_PAT,
        HV_X64_REGISTER_LSTAR,
        HV_REGISTER_VP_ASSIST_PAGE,
        HV_REGISTER_SINT0,
        HV_REGISTER_SIPP,
        HV_REGISTER_VSM_VP_STATUS,
        HV_REGISTER_VSM_VINA,
        HV_REGISTER_VSM_PARTITION_CONFIG,
        HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0,
        HV_REGISTER_CR_INTERCEPT_CONTROL,
        HV_REGISTER_CR_INTERCEPT_CR0_MASK,
};

static const struct {
        unsigned port, offset;
} outs[] = {
        { HVPAGE_PORT_HYPERCALL, FX_OUT_HYPERCALL }, { HVPAGE_PORT_VTL_CALL, FX_OUT_CALL32 },
        { HVPAGE_PORT_VTL_CALL, FX_OUT_CALL64 },     { HVPAGE_PORT_VTL_RETURN, FX_OUT_RETURN32 },
        { HVPAGE_PORT_VTL_RETURN, FX_OUT_RETURN64 },
};
