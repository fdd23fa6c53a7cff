/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a guest of Hyper-V can see, as numbers and layouts: status codes, call codes, MSRs, register
 * names, pages and messages. Names are the TLFS's. Free of any dependency, so that guests in
 * tests/guests/ include it too.
 */

#include <stddef.h>
#include <stdint.h>

#define HV_PAGE_SHIFT 12
#define HV_GPNS_END (1ull << 40) /* of the architecture's 52 bits of address */
#define HV_PAGE_SIZE 4096u

#define HV_PARTITION_ID_SELF 0xffffffffffffffffull
#define HV_VP_INDEX_SELF 0xfffffffeu

/* vsm.md 2.8 */
enum hv_status {
        HV_STATUS_SUCCESS = 0x0000,
        HV_STATUS_INVALID_HYPERCALL_CODE = 0x0002,
        HV_STATUS_INVALID_HYPERCALL_INPUT = 0x0003,
        HV_STATUS_INVALID_ALIGNMENT = 0x0004,
        HV_STATUS_INVALID_PARAMETER = 0x0005,
        HV_STATUS_ACCESS_DENIED = 0x0006,
        HV_STATUS_INVALID_PARTITION_STATE = 0x0007,
        HV_STATUS_OPERATION_DENIED = 0x0008,
        HV_STATUS_INSUFFICIENT_MEMORY = 0x000b,
        HV_STATUS_INVALID_PARTITION_ID = 0x000d,
        HV_STATUS_INVALID_VP_INDEX = 0x000e,
        HV_STATUS_INVALID_CONNECTION_ID = 0x0012,
        HV_STATUS_INSUFFICIENT_BUFFERS = 0x0013,
        HV_STATUS_INVALID_VP_STATE = 0x0015,
        HV_STATUS_INVALID_SYNIC_STATE = 0x0018,
        HV_STATUS_OBJECT_IN_USE = 0x0019,
        HV_STATUS_INVALID_REGISTER_VALUE = 0x0050,
        HV_STATUS_INVALID_VTL_STATE = 0x0051,
        HV_STATUS_TIMEOUT = 0x0078,
        HV_STATUS_VTL_ALREADY_ENABLED = 0x0086,
};

/* vsm.md section 3 */
enum hv_call_code {
        HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE = 0x0002,
        HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST = 0x0003,
        HVCALL_NOTIFY_LONG_SPIN_WAIT = 0x0008,
        HVCALL_SEND_SYNTHETIC_CLUSTER_IPI = 0x000b,
        HVCALL_MODIFY_VTL_PROTECTION_MASK = 0x000c,
        HVCALL_ENABLE_PARTITION_VTL = 0x000d,
        HVCALL_ENABLE_VP_VTL = 0x000f,
        HVCALL_VTL_CALL = 0x0011,
        HVCALL_VTL_RETURN = 0x0012,
        HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX = 0x0013,
        HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX = 0x0014,
        HVCALL_SEND_SYNTHETIC_CLUSTER_IPI_EX = 0x0015,
        HVCALL_INSTALL_INTERCEPT = 0x004d,
        HVCALL_GET_VP_REGISTERS = 0x0050,
        HVCALL_SET_VP_REGISTERS = 0x0051,
        HVCALL_TRANSLATE_VIRTUAL_ADDRESS = 0x0052,
        HVCALL_POST_MESSAGE = 0x005c,
        HVCALL_SIGNAL_EVENT = 0x005d,
        HVCALL_ASSERT_VIRTUAL_INTERRUPT = 0x0094,
        HVCALL_START_VIRTUAL_PROCESSOR = 0x0099,
        HVCALL_GET_VP_INDEX_FROM_APIC_ID = 0x009a,
        HVCALL_TRANSLATE_VIRTUAL_ADDRESS_EX = 0x00ac,
        HVCALL_SIGNAL_EVENT_DIRECT = 0x00c0,
        HVCALL_POST_MESSAGE_DIRECT = 0x00c1,
        HVCALL_CHECK_SPARSE_GPA_PAGE_VTL_ACCESS = 0x00d4,
        HVCALL_EXT_QUERY_CAPABILITIES = 0x8001,
};

/* The hypercall input value, vsm.md 2.2 */
#define HV_CONTROL_CODE_MASK 0xffffull
#define HV_CONTROL_FAST (1ull << 16)
#define HV_CONTROL_VARHDR_SHIFT 17
#define HV_CONTROL_VARHDR_MASK 0x3ffull
#define HV_CONTROL_REP_COUNT_SHIFT 32
#define HV_CONTROL_REP_START_SHIFT 48
#define HV_CONTROL_REP_MASK 0xfffull
#define HV_CONTROL_RESERVED 0xf000f000f8000000ull /* bits 63:60, 47:44, 31:27 */

/* CPUID, vsm.md 1.1-1.5 */
#define HV_CPUID_VENDOR 0x40000000u
#define HV_CPUID_INTERFACE 0x40000001u
#define HV_CPUID_VERSION 0x40000002u
#define HV_CPUID_FEATURES 0x40000003u
#define HV_CPUID_RECOMMENDATIONS 0x40000004u
#define HV_CPUID_LIMITS 0x40000005u
#define HV_CPUID_HARDWARE 0x40000006u
#define HV_CPUID_MAX 0x4000000au

/* Partition privileges: EAX and EBX of leaf 0x40000003, as one 64-bit mask */
#define HV_PRIV_REFERENCE_COUNTER (1ull << 1)
#define HV_PRIV_SYNIC (1ull << 2)
#define HV_PRIV_SYNTHETIC_TIMER (1ull << 3)
#define HV_PRIV_INTR_CTRL (1ull << 4)
#define HV_PRIV_HYPERCALL_MSRS (1ull << 5)
#define HV_PRIV_VP_INDEX (1ull << 6)
#define HV_PRIV_RESET (1ull << 7)
#define HV_PRIV_REFERENCE_TSC (1ull << 9)
#define HV_PRIV_GUEST_IDLE (1ull << 10)
#define HV_PRIV_FREQUENCY (1ull << 11)
#define HV_PRIV_POST_MESSAGES (1ull << 36)
#define HV_PRIV_SIGNAL_EVENTS (1ull << 37)
#define HV_PRIV_EXTENDED_GVA_RANGES (1ull << 47)
#define HV_PRIV_VSM (1ull << 48)
#define HV_PRIV_VP_REGISTERS (1ull << 49)
#define HV_PRIV_FAST_OUTPUT (1ull << 51)
#define HV_PRIV_EXTENDED_HYPERCALLS (1ull << 52)
#define HV_PRIV_START_VIRTUAL_PROCESSOR (1ull << 53)

/* EDX of leaf 0x40000003 */
#define HV_FEATURE_XMM_INPUT (1u << 4)
#define HV_FEATURE_FREQUENCY_MSRS (1u << 8)
#define HV_FEATURE_CRASH_MSRS (1u << 10)
#define HV_FEATURE_EXTENDED_GVA_RANGES (1u << 14)
#define HV_FEATURE_XMM_OUTPUT (1u << 15)
#define HV_FEATURE_SINT_POLLING (1u << 17)
#define HV_FEATURE_DIRECT_TIMERS (1u << 19)
#define HV_FEATURE_PAT_FOR_VSM (1u << 20)
#define HV_FEATURE_CROSS_VTL_FLUSH (1u << 28)

/* EAX of leaf 0x40000004 */
#define HV_RECOMMEND_REMOTE_FLUSH (1u << 2)
#define HV_RECOMMEND_RELAXED_TIMING (1u << 5)
#define HV_RECOMMEND_NO_AUTO_EOI (1u << 9)
#define HV_RECOMMEND_CLUSTER_IPI (1u << 10)
#define HV_RECOMMEND_EX_PROCESSOR_MASKS (1u << 11)

/* Synthetic MSRs, vsm.md 1.6 */
enum hv_msr {
        HV_MSR_FIRST = 0x40000000,
        HV_MSR_GUEST_OS_ID = 0x40000000,
        HV_MSR_HYPERCALL = 0x40000001,
        HV_MSR_VP_INDEX = 0x40000002,
        HV_MSR_RESET = 0x40000003,
        HV_MSR_TIME_REF_COUNT = 0x40000020,
        HV_MSR_REFERENCE_TSC = 0x40000021,
        HV_MSR_TSC_FREQUENCY = 0x40000022,
        HV_MSR_APIC_FREQUENCY = 0x40000023,
        HV_MSR_EOI = 0x40000070,
        HV_MSR_ICR = 0x40000071,
        HV_MSR_TPR = 0x40000072,
        HV_MSR_VP_ASSIST_PAGE = 0x40000073,
        HV_MSR_SCONTROL = 0x40000080,
        HV_MSR_SVERSION = 0x40000081,
        HV_MSR_SIEFP = 0x40000082,
        HV_MSR_SIMP = 0x40000083,
        HV_MSR_EOM = 0x40000084,
        HV_MSR_SIRBP = 0x40000085,
        HV_MSR_SINT0 = 0x40000090,
        HV_MSR_SINT15 = 0x4000009f,
        HV_MSR_STIMER0_CONFIG = 0x400000b0, /* then COUNT, and so on for four timers */
        HV_MSR_STIMER3_COUNT = 0x400000b7,
        HV_MSR_GUEST_IDLE = 0x400000f0,
        HV_MSR_CRASH_P0 = 0x40000100,
        HV_MSR_CRASH_P4 = 0x40000104,
        HV_MSR_CRASH_CTL = 0x40000105,
        HV_MSR_LAST = 0x400001ff,
};

#define HV_CRASH_PARAMETERS 5
/* What can be asked for: notify, a message, that there is no dump, what the crashed system was */
#define HV_CRASH_CTL_SUPPORTED 0xfc00000000000000ull
#define HV_CRASH_CTL_NOTIFY (1ull << 63)

#define HV_MSR_PAGE_ENABLE 1ull
#define HV_MSR_PAGE_RESERVED 0xffeull
#define HV_MSR_HYPERCALL_LOCKED 2ull
#define HV_MSR_HYPERCALL_RESERVED 0xffcull
#define HV_MSR_PAGE_GPN(v) ((v) >> HV_PAGE_SHIFT)

#define HV_SINT_VECTOR_MASK 0xffull
#define HV_SINT_MASKED (1ull << 16)
#define HV_SINT_AUTO_EOI (1ull << 17)
#define HV_SINT_POLLING (1ull << 18)
#define HV_SINT_RESET HV_SINT_MASKED
#define HV_SINT_COUNT 16
#define HV_SYNIC_INTERCEPTION_SINT_INDEX 0

/* Virtual registers, vsm.md 4.1 */
enum hv_register_name {
        HV_REGISTER_EXPLICIT_SUSPEND = 0x00000000,
        HV_REGISTER_INTERCEPT_SUSPEND = 0x00000001,
        HV_REGISTER_INTERNAL_ACTIVITY_STATE = 0x00000004,
        HV_REGISTER_HYPERVISOR_VERSION = 0x00000100,
        HV_REGISTER_PRIVILEGES_AND_FEATURES_INFO = 0x00000200,
        HV_REGISTER_FEATURES_INFO = 0x00000201,
        HV_REGISTER_IMPLEMENTATION_LIMITS_INFO = 0x00000202,
        HV_REGISTER_HARDWARE_FEATURES_INFO = 0x00000203,
        HV_REGISTER_GUEST_CRASH_P0 = 0x00000210,
        HV_REGISTER_GUEST_CRASH_CTL = 0x00000215,
        HV_REGISTER_PENDING_INTERRUPTION = 0x00010002,
        HV_REGISTER_INTERRUPT_STATE = 0x00010003,
        HV_REGISTER_PENDING_EVENT0 = 0x00010004,
        HV_X64_REGISTER_RAX = 0x00020000, /* Rax Rcx Rdx Rbx Rsp Rbp Rsi Rdi R8-R15 */
        HV_X64_REGISTER_RCX = 0x00020001,
        HV_X64_REGISTER_RDX = 0x00020002,
        HV_X64_REGISTER_RBX = 0x00020003,
        HV_X64_REGISTER_RSP = 0x00020004,
        HV_X64_REGISTER_RBP = 0x00020005,
        HV_X64_REGISTER_RSI = 0x00020006,
        HV_X64_REGISTER_RDI = 0x00020007,
        HV_X64_REGISTER_R8 = 0x00020008,
        HV_X64_REGISTER_R15 = 0x0002000f,
        HV_X64_REGISTER_RIP = 0x00020010,
        HV_X64_REGISTER_RFLAGS = 0x00020011,
        HV_X64_REGISTER_XMM0 = 0x00030000,
        HV_X64_REGISTER_XMM15 = 0x0003000f,
        HV_X64_REGISTER_FP_MMX0 = 0x00030010,
        HV_X64_REGISTER_FP_MMX7 = 0x00030017,
        HV_X64_REGISTER_FP_CONTROL_STATUS = 0x00030018,
        HV_X64_REGISTER_XMM_CONTROL_STATUS = 0x00030019,
        HV_X64_REGISTER_CR0 = 0x00040000,
        HV_X64_REGISTER_CR2 = 0x00040001,
        HV_X64_REGISTER_CR3 = 0x00040002,
        HV_X64_REGISTER_CR4 = 0x00040003,
        HV_X64_REGISTER_CR8 = 0x00040004,
        HV_X64_REGISTER_XFEM = 0x00040005,
        HV_X64_REGISTER_DR0 = 0x00050000, /* Dr0 Dr1 Dr2 Dr3 Dr6 Dr7 */
        HV_X64_REGISTER_DR3 = 0x00050003,
        HV_X64_REGISTER_DR6 = 0x00050004,
        HV_X64_REGISTER_DR7 = 0x00050005,
        HV_X64_REGISTER_ES = 0x00060000, /* Es Cs Ss Ds Fs Gs Ldtr Tr */
        HV_X64_REGISTER_CS = 0x00060001,
        HV_X64_REGISTER_SS = 0x00060002,
        HV_X64_REGISTER_DS = 0x00060003,
        HV_X64_REGISTER_FS = 0x00060004,
        HV_X64_REGISTER_GS = 0x00060005,
        HV_X64_REGISTER_LDTR = 0x00060006,
        HV_X64_REGISTER_TR = 0x00060007,
        HV_X64_REGISTER_IDTR = 0x00070000,
        HV_X64_REGISTER_GDTR = 0x00070001,
        HV_X64_REGISTER_TSC = 0x00080000,
        HV_X64_REGISTER_EFER = 0x00080001,
        HV_X64_REGISTER_KERNEL_GS_BASE = 0x00080002,
        HV_X64_REGISTER_APIC_BASE = 0x00080003,
        HV_X64_REGISTER_PAT = 0x00080004,
        HV_X64_REGISTER_SYSENTER_CS = 0x00080005,
        HV_X64_REGISTER_SYSENTER_EIP = 0x00080006,
        HV_X64_REGISTER_SYSENTER_ESP = 0x00080007,
        HV_X64_REGISTER_STAR = 0x00080008,
        HV_X64_REGISTER_LSTAR = 0x00080009,
        HV_X64_REGISTER_CSTAR = 0x0008000a,
        HV_X64_REGISTER_SFMASK = 0x0008000b,
        HV_X64_REGISTER_INITIAL_APIC_ID = 0x0008000c,
        HV_X64_REGISTER_TSC_AUX = 0x0008007b,
        HV_X64_REGISTER_XSS = 0x0008008b,
        HV_X64_REGISTER_IA32_MISC_ENABLE = 0x000800a0,
        HV_REGISTER_VP_RUNTIME = 0x00090000,
        HV_REGISTER_HYPERCALL = 0x00090001,
        HV_REGISTER_GUEST_OS_ID = 0x00090002,
        HV_REGISTER_VP_INDEX = 0x00090003,
        HV_REGISTER_TIME_REF_COUNT = 0x00090004,
        HV_REGISTER_VP_ASSIST_PAGE = 0x00090013,
        HV_REGISTER_REFERENCE_TSC = 0x00090017,
        HV_REGISTER_SINT0 = 0x000a0000,
        HV_REGISTER_SINT15 = 0x000a000f,
        HV_REGISTER_SCONTROL = 0x000a0010,
        HV_REGISTER_SVERSION = 0x000a0011,
        HV_REGISTER_SIFP = 0x000a0012,
        HV_REGISTER_SIPP = 0x000a0013,
        HV_REGISTER_EOM = 0x000a0014,
        HV_REGISTER_SIRBP = 0x000a0015,
        HV_REGISTER_STIMER0_CONFIG = 0x000b0000, /* then COUNT, as the MSRs */
        HV_REGISTER_STIMER3_COUNT = 0x000b0007,
        HV_REGISTER_VSM_CODE_PAGE_OFFSETS = 0x000d0002,
        HV_REGISTER_VSM_VP_STATUS = 0x000d0003,
        HV_REGISTER_VSM_PARTITION_STATUS = 0x000d0004,
        HV_REGISTER_VSM_VINA = 0x000d0005,
        HV_REGISTER_VSM_CAPABILITIES = 0x000d0006,
        HV_REGISTER_VSM_PARTITION_CONFIG = 0x000d0007,
        HV_REGISTER_GUEST_VSM_PARTITION_CONFIG = 0x000d0008,
        HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0 = 0x000d0010,
        HV_REGISTER_VSM_VP_WAIT_FOR_TLB_LOCK = 0x000d0020,
        HV_REGISTER_CR_INTERCEPT_CONTROL = 0x000e0000,
        HV_REGISTER_CR_INTERCEPT_CR0_MASK = 0x000e0001,
        HV_REGISTER_CR_INTERCEPT_CR4_MASK = 0x000e0002,
        HV_REGISTER_CR_INTERCEPT_MISC_ENABLE_MASK = 0x000e0003,
};

/* HvRegisterInternalActivityState, vsm.md 4.1 */
#define HV_ACTIVITY_STARTUP_SUSPEND (1ull << 0)
#define HV_ACTIVITY_HALT_SUSPEND (1ull << 1)

/* HvRegisterPendingInterruption, vsm.md 4.13 */
#define HV_PENDING_INTERRUPTION_PENDING (1ull << 0)
#define HV_PENDING_INTERRUPTION_TYPE(v) ((unsigned) ((v) >> 1 & 7))
#define HV_PENDING_INTERRUPTION_HAS_CODE (1ull << 4)
#define HV_PENDING_INTERRUPTION_VECTOR(v) ((unsigned) ((v) >> 16 & 0xffff))
#define HV_PENDING_INTERRUPTION_RESERVED 0xfc00ull
enum hv_interruption_type {
        HV_INTERRUPTION_INTERRUPT = 0,
        HV_INTERRUPTION_NMI = 2,
        HV_INTERRUPTION_EXCEPTION = 3,
        HV_INTERRUPTION_SOFTWARE_INTERRUPT = 4,
};

/* HvRegisterInterruptState, vsm.md 4.14 */
#define HV_INTERRUPT_STATE_SHADOW (1ull << 0)
#define HV_INTERRUPT_STATE_NMI_MASKED (1ull << 1)

/* HvRegisterPendingEvent0 that is an exception, vsm.md 4.12 */
#define HV_PENDING_EVENT_PENDING (1ull << 0)
#define HV_PENDING_EVENT_TYPE(v) ((unsigned) ((v) >> 1 & 7))
#define HV_PENDING_EVENT_HAS_CODE (1ull << 8)
#define HV_PENDING_EVENT_VECTOR(v) ((unsigned) ((v) >> 16 & 0xffff))
#define HV_PENDING_EVENT_RESERVED 0xfef0ull

/* HvRegisterVsmPartitionConfig, vsm.md 4.8 */
#define HV_VSM_ENABLE_VTL_PROTECTION (1ull << 0)
#define HV_VSM_DEFAULT_MASK_SHIFT 1
#define HV_VSM_ZERO_MEMORY_ON_RESET (1ull << 5)
#define HV_VSM_DENY_LOWER_VTL_STARTUP (1ull << 6)

/* HvRegisterVsmCapabilities, vsm.md 4.7 */
#define HV_VSM_CAPABILITY_MBEC_VTL0 (1ull << 1)
#define HV_VSM_CAPABILITY_DENY_LOWER_VTL_STARTUP (1ull << 17)

/* HvRegisterVsmVpSecureConfigVtl0, vsm.md 4.9 */
#define HV_SECURE_CONFIG_MBEC (1ull << 0)
#define HV_SECURE_CONFIG_TLB_LOCKED (1ull << 1)

/* HvRegisterVsmVina, vsm.md 4.6 */
#define HV_VINA_VECTOR_MASK 0xffull
#define HV_VINA_ENABLED (1ull << 8)
#define HV_VINA_AUTO_RESET (1ull << 9)
#define HV_VINA_AUTO_EOI (1ull << 10)
#define HV_VINA_RESERVED (~0x7ffull)

/* HV_INPUT_VTL, vsm.md 3.0 */
#define HV_INPUT_VTL_TARGET_MASK 0x0fu
#define HV_INPUT_VTL_USE_TARGET 0x10u
#define HV_INPUT_VTL_RESERVED 0xe0u

/* HV_MAP_GPA_FLAGS, vsm.md 3.0: KX is 4 and UX is 8 */
#define HV_MAP_GPA_READABLE 0x1u
#define HV_MAP_GPA_WRITABLE 0x2u
#define HV_MAP_GPA_KERNEL_EXECUTABLE 0x4u
#define HV_MAP_GPA_USER_EXECUTABLE 0x8u
#define HV_MAP_GPA_ALL 0xfu

/* HV_X64_SEGMENT_REGISTER and HV_X64_TABLE_REGISTER, vsm.md 3.0 */
struct hv_x64_segment_register {
        uint64_t base;
        uint32_t limit;
        uint16_t selector;
        uint16_t attributes; /* type[3:0] S DPL[6:5] P rsvd[11:8] AVL L D/B G */
} __attribute__((packed));
_Static_assert(sizeof(struct hv_x64_segment_register) == 16, "TLFS 7.9");

struct hv_x64_table_register {
        uint16_t pad[3];
        uint16_t limit;
        uint64_t base;
} __attribute__((packed));
_Static_assert(sizeof(struct hv_x64_table_register) == 16, "TLFS 7.9");

/* HV_REGISTER_VALUE: 16 bytes, low-aligned */
union hv_register_value {
        struct {
                uint64_t low64, high64;
        };
        uint32_t reg32;
        uint64_t reg64;
        struct hv_x64_segment_register segment;
        struct hv_x64_table_register table;
        uint8_t bytes[16];
};
_Static_assert(sizeof(union hv_register_value) == 16, "HV_REGISTER_VALUE");

/* HV_INITIAL_VP_CONTEXT, vsm.md 5.2 */
struct hv_initial_vp_context {
        uint64_t rip;
        uint64_t rsp;
        uint64_t rflags;
        struct hv_x64_segment_register cs, ds, es, fs, gs, ss, tr, ldtr;
        struct hv_x64_table_register idtr, gdtr;
        uint64_t efer;
        uint64_t cr0;
        uint64_t cr3;
        uint64_t cr4;
        uint64_t msr_cr_pat;
} __attribute__((packed));
_Static_assert(sizeof(struct hv_initial_vp_context) == 224, "vsm.md 5.2");
_Static_assert(offsetof(struct hv_initial_vp_context, cs) == 24, "vsm.md 5.2");
_Static_assert(offsetof(struct hv_initial_vp_context, tr) == 120, "vsm.md 5.2");
_Static_assert(offsetof(struct hv_initial_vp_context, idtr) == 152, "vsm.md 5.2");
_Static_assert(offsetof(struct hv_initial_vp_context, efer) == 184, "vsm.md 5.2");
_Static_assert(offsetof(struct hv_initial_vp_context, msr_cr_pat) == 216, "vsm.md 5.2");

/* HV_VP_ASSIST_PAGE, vsm.md 6.5 */
enum hv_vtl_entry_reason {
        HV_VTL_ENTRY_RESERVED = 0,
        HV_VTL_ENTRY_VTL_CALL = 1,
        HV_VTL_ENTRY_INTERRUPT = 2,
        HV_VTL_ENTRY_INTERCEPT = 3,
};

struct hv_vp_vtl_control {
        uint32_t entry_reason;
        uint8_t vina_status; /* bit 0: VinaAsserted */
        uint8_t reserved0;
        uint16_t reserved1;
        uint64_t vtl_return_x64_rax; /* 32-bit callers: Eax, then Ecx */
        uint64_t vtl_return_x64_rcx; /* 32-bit callers: Edx */
};
_Static_assert(sizeof(struct hv_vp_vtl_control) == 24, "vsm.md 6.5");

#define HV_APIC_ASSIST_NO_EOI_REQUIRED 1u
struct hv_vp_assist_page {
        uint32_t apic_assist; /* HV_APIC_ASSIST_* */
        uint32_t reserved0;
        struct hv_vp_vtl_control vtl_control;
        uint8_t rest[HV_PAGE_SIZE - 32];
};
_Static_assert(sizeof(struct hv_vp_assist_page) == HV_PAGE_SIZE, "vsm.md 6.5");
_Static_assert(offsetof(struct hv_vp_assist_page, vtl_control) == 8, "vsm.md 6.5");

/* HV_REFERENCE_TSC_PAGE, vsm.md 1.7 */
struct hv_reference_tsc_page {
        uint32_t tsc_sequence;
        uint32_t reserved0;
        uint64_t tsc_scale;
        int64_t tsc_offset;
        uint8_t rest[HV_PAGE_SIZE - 24];
} __attribute__((packed));
_Static_assert(sizeof(struct hv_reference_tsc_page) == HV_PAGE_SIZE, "vsm.md 1.7");

/* Messages, vsm.md 8.6 */
enum hv_message_type {
        HV_MESSAGE_NONE = 0,
        HV_MESSAGE_UNMAPPED_GPA = 0x80000000,
        HV_MESSAGE_GPA_INTERCEPT = 0x80000001,
        HV_MESSAGE_TIMER_EXPIRED = 0x80000010,
        HV_MESSAGE_X64_IO_PORT_INTERCEPT = 0x80010000,
        HV_MESSAGE_X64_MSR_INTERCEPT = 0x80010001,
        HV_MESSAGE_REGISTER_INTERCEPT = 0x80010006,
};

struct hv_message {
        uint32_t message_type;
        uint8_t payload_size;
        uint8_t flags; /* bit 0: MessagePending */
        uint16_t reserved;
        uint64_t origination_id;
        uint8_t payload[240];
};
_Static_assert(sizeof(struct hv_message) == 256, "vsm.md 8.6");
#define HV_MESSAGE_PENDING 1u

struct hv_message_page {
        struct hv_message slot[HV_SINT_COUNT];
};
_Static_assert(sizeof(struct hv_message_page) == HV_PAGE_SIZE, "SIMP");

/* SIEFP: 2048 event flags for each SINT */
#define HV_EVENT_FLAGS 2048u
struct hv_event_flags_page {
        uint32_t slot[HV_SINT_COUNT][HV_EVENT_FLAGS / 32];
};
_Static_assert(sizeof(struct hv_event_flags_page) == HV_PAGE_SIZE, "SIEFP");

struct hv_timer_message_payload {
        uint32_t timer_index;
        uint32_t reserved;
        uint64_t expiration_time;
        uint64_t delivery_time;
} __attribute__((packed));
_Static_assert(sizeof(struct hv_timer_message_payload) == 24, "vsm.md 8.6");

enum hv_intercept_access {
        HV_INTERCEPT_ACCESS_READ = 0,
        HV_INTERCEPT_ACCESS_WRITE = 1,
        HV_INTERCEPT_ACCESS_EXECUTE = 2,
};

struct hv_intercept_header {
        uint32_t vp_index;
        uint8_t instruction_length; /* [3:0]; the CR8 nibble stays 0 */
        uint8_t access_type;        /* enum hv_intercept_access */
        uint16_t execution_state;
        struct hv_x64_segment_register cs;
        uint64_t rip;
        uint64_t rflags;
} __attribute__((packed));
_Static_assert(sizeof(struct hv_intercept_header) == 40, "vsm.md 8.6");

#define HV_EXEC_STATE_CPL_MASK 0x3u
#define HV_EXEC_STATE_CR0_PE (1u << 2)
#define HV_EXEC_STATE_CR0_AM (1u << 3)
#define HV_EXEC_STATE_EFER_LMA (1u << 4)
#define HV_EXEC_STATE_DEBUG_ACTIVE (1u << 5)
#define HV_EXEC_STATE_INTERRUPTION_PENDING (1u << 6)
#define HV_EXEC_STATE_VTL_SHIFT 7
#define HV_EXEC_STATE_INTERRUPT_SHADOW (1u << 12)

#define HV_CACHE_TYPE_WB 6u
#define HV_MEMORY_ACCESS_GVA_VALID 0x1u
#define HV_MEMORY_ACCESS_GVA_GPA_VALID 0x2u

/* The long form of 240 bytes; its first 0x50 bytes are the short one (clients.md) */
struct hv_memory_intercept {
        struct hv_intercept_header header;
        uint32_t cache_type;
        uint8_t instruction_byte_count;
        uint8_t memory_access_info;
        uint8_t tpr_priority;
        uint8_t reserved;
        uint64_t gva;
        uint64_t gpa;
        uint8_t instruction_bytes[16];
        struct hv_x64_segment_register ds, ss;
        uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
        uint64_t r8_15[8];
} __attribute__((packed));
_Static_assert(sizeof(struct hv_memory_intercept) == 240, "vsm.md 8.6");
_Static_assert(offsetof(struct hv_memory_intercept, gva) == 48, "vsm.md 8.6");
_Static_assert(offsetof(struct hv_memory_intercept, instruction_bytes) == 64, "vsm.md 8.6");
_Static_assert(offsetof(struct hv_memory_intercept, rax) == 112, "vsm.md 8.6");

/* vsm.md 8.6; the RegisterIntercept of CR and descriptor-table writes has no exit on stock KVM */
struct hv_msr_intercept {
        struct hv_intercept_header header;
        uint32_t msr;
        uint32_t reserved;
        uint64_t rdx;
        uint64_t rax;
} __attribute__((packed));
_Static_assert(sizeof(struct hv_msr_intercept) == 64, "vsm.md 8.6");

#define HV_IO_ACCESS_SIZE_MASK 0x7u
#define HV_IO_ACCESS_STRING (1u << 3)
#define HV_IO_ACCESS_REP (1u << 4)
struct hv_io_port_intercept {
        struct hv_intercept_header header;
        uint16_t port;
        uint8_t access_info;
        uint8_t instruction_byte_count;
        uint32_t reserved;
        uint64_t rax;
        uint8_t instruction_bytes[16];
        struct hv_x64_segment_register ds, es;
        uint64_t rcx, rsi, rdi;
} __attribute__((packed));
_Static_assert(sizeof(struct hv_io_port_intercept) == 128, "vsm.md 8.6");
_Static_assert(offsetof(struct hv_io_port_intercept, instruction_bytes) == 56, "vsm.md 8.6");
_Static_assert(offsetof(struct hv_io_port_intercept, rcx) == 104, "vsm.md 8.6");

/* HvRegisterCrInterceptControl, vsm.md 4.16 */
enum hv_cr_intercept {
        HV_CR_INTERCEPT_CR0_WRITE,
        HV_CR_INTERCEPT_CR4_WRITE,
        HV_CR_INTERCEPT_XCR0_WRITE,
        HV_CR_INTERCEPT_MISC_ENABLE_READ,
        HV_CR_INTERCEPT_MISC_ENABLE_WRITE,
        HV_CR_INTERCEPT_LSTAR_READ,
        HV_CR_INTERCEPT_LSTAR_WRITE,
        HV_CR_INTERCEPT_STAR_READ,
        HV_CR_INTERCEPT_STAR_WRITE,
        HV_CR_INTERCEPT_CSTAR_READ,
        HV_CR_INTERCEPT_CSTAR_WRITE,
        HV_CR_INTERCEPT_APIC_BASE_READ,
        HV_CR_INTERCEPT_APIC_BASE_WRITE,
        HV_CR_INTERCEPT_EFER_READ,
        HV_CR_INTERCEPT_EFER_WRITE,
        HV_CR_INTERCEPT_GDTR_WRITE,
        HV_CR_INTERCEPT_IDTR_WRITE,
        HV_CR_INTERCEPT_LDTR_WRITE,
        HV_CR_INTERCEPT_TR_WRITE,
        HV_CR_INTERCEPT_SYSENTER_CS_WRITE,
        HV_CR_INTERCEPT_SYSENTER_EIP_WRITE,
        HV_CR_INTERCEPT_SYSENTER_ESP_WRITE,
        HV_CR_INTERCEPT_SFMASK_WRITE,
        HV_CR_INTERCEPT_TSC_AUX_WRITE,
        HV_CR_INTERCEPT_SGX_LAUNCH_CONTROL_WRITE,
        HV_CR_INTERCEPT_XSS_WRITE,
};

/* HvCallInstallIntercept, vsm.md 3.16 */
enum hv_intercept_type {
        HV_INTERCEPT_X64_IO_PORT = 0x00,
        HV_INTERCEPT_X64_CPUID = 0x02,
        HV_INTERCEPT_X64_MSR_INDEX = 0x0c,
        HV_INTERCEPT_X64_IO_PORT_RANGE = 0x11,
};
#define HV_INTERCEPT_MASK_READ 1u
#define HV_INTERCEPT_MASK_WRITE 2u
#define HV_INTERCEPT_MASK_EXECUTE 4u
