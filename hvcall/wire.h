/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Inputs and outputs of the calls, byte for byte (vsm.md section 3). The engine hands a handler
 * these, copied. Reserved bytes are never checked: real callers leave stack garbage in them
 * (vsm.md 3.0). Like hvdef.h free of dependencies, for the guests in tests/guests/.
 */

#include "vtl/hvdef.h"

#define HV_WIRE_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)
#define HV_WIRE_FIELD(type, field, at, size)                                                   \
        _Static_assert(offsetof(type, field) == (at) && sizeof(((type *) 0)->field) == (size), \
                       #type "." #field)

/* HvCallModifyVtlProtectionMask, vsm.md 3.1: rep, elements are page numbers */
struct hv_input_modify_vtl_protection_mask {
        uint64_t partition_id;
        uint32_t map_flags; /* HV_MAP_GPA_* */
        uint8_t target_vtl; /* HV_INPUT_VTL_* */
        uint8_t reserved[3];
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_modify_vtl_protection_mask, 16);
HV_WIRE_FIELD(struct hv_input_modify_vtl_protection_mask, partition_id, 0, 8);
HV_WIRE_FIELD(struct hv_input_modify_vtl_protection_mask, map_flags, 8, 4);
HV_WIRE_FIELD(struct hv_input_modify_vtl_protection_mask, target_vtl, 12, 1);
HV_WIRE_FIELD(struct hv_input_modify_vtl_protection_mask, reserved, 13, 3);

typedef uint64_t hv_gpa_page_number;
HV_WIRE_SIZE(hv_gpa_page_number, 8);

/* HvCallEnablePartitionVtl, vsm.md 3.2: simple, no output */
#define HV_ENABLE_PARTITION_VTL_MBEC 0x01u
#define HV_ENABLE_PARTITION_VTL_SHADOW_STACK 0x02u
#define HV_ENABLE_PARTITION_VTL_HVPT 0x04u
#define HV_ENABLE_PARTITION_VTL_RESERVED 0xf8u

struct hv_input_enable_partition_vtl {
        uint64_t partition_id;
        uint8_t target_vtl; /* HV_VTL: a plain number */
        uint8_t flags;      /* HV_ENABLE_PARTITION_VTL_* */
        uint16_t reserved0;
        uint32_t reserved1;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_enable_partition_vtl, 16);
HV_WIRE_FIELD(struct hv_input_enable_partition_vtl, partition_id, 0, 8);
HV_WIRE_FIELD(struct hv_input_enable_partition_vtl, target_vtl, 8, 1);
HV_WIRE_FIELD(struct hv_input_enable_partition_vtl, flags, 9, 1);
HV_WIRE_FIELD(struct hv_input_enable_partition_vtl, reserved0, 10, 2);
HV_WIRE_FIELD(struct hv_input_enable_partition_vtl, reserved1, 12, 4);

/* HvCallEnableVpVtl, vsm.md 3.4: simple, no output */
struct hv_input_enable_vp_vtl {
        uint64_t partition_id;
        uint32_t vp_index;
        uint8_t target_vtl; /* HV_VTL */
        uint8_t reserved[3];
        struct hv_initial_vp_context context;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_enable_vp_vtl, 240);
HV_WIRE_FIELD(struct hv_input_enable_vp_vtl, partition_id, 0, 8);
HV_WIRE_FIELD(struct hv_input_enable_vp_vtl, vp_index, 8, 4);
HV_WIRE_FIELD(struct hv_input_enable_vp_vtl, target_vtl, 12, 1);
HV_WIRE_FIELD(struct hv_input_enable_vp_vtl, reserved, 13, 3);
HV_WIRE_FIELD(struct hv_input_enable_vp_vtl, context, 16, 224);

/* The parts of the context, vsm.md 5.2; hvdef.h asserts some, here is every one */
HV_WIRE_FIELD(struct hv_initial_vp_context, rip, 0, 8);
HV_WIRE_FIELD(struct hv_initial_vp_context, rsp, 8, 8);
HV_WIRE_FIELD(struct hv_initial_vp_context, rflags, 16, 8);
HV_WIRE_FIELD(struct hv_initial_vp_context, cs, 24, 16);
HV_WIRE_FIELD(struct hv_initial_vp_context, ds, 40, 16);
HV_WIRE_FIELD(struct hv_initial_vp_context, es, 56, 16);
HV_WIRE_FIELD(struct hv_initial_vp_context, fs, 72, 16);
HV_WIRE_FIELD(struct hv_initial_vp_context, gs, 88, 16);
HV_WIRE_FIELD(struct hv_initial_vp_context, ss, 104, 16);
HV_WIRE_FIELD(struct hv_initial_vp_context, tr, 120, 16);
HV_WIRE_FIELD(struct hv_initial_vp_context, ldtr, 136, 16);
HV_WIRE_FIELD(struct hv_initial_vp_context, idtr, 152, 16);
HV_WIRE_FIELD(struct hv_initial_vp_context, gdtr, 168, 16);
HV_WIRE_FIELD(struct hv_initial_vp_context, efer, 184, 8);
HV_WIRE_FIELD(struct hv_initial_vp_context, cr0, 192, 8);
HV_WIRE_FIELD(struct hv_initial_vp_context, cr3, 200, 8);
HV_WIRE_FIELD(struct hv_initial_vp_context, cr4, 208, 8);
HV_WIRE_FIELD(struct hv_initial_vp_context, msr_cr_pat, 216, 8);

HV_WIRE_FIELD(struct hv_x64_segment_register, base, 0, 8);
HV_WIRE_FIELD(struct hv_x64_segment_register, limit, 8, 4);
HV_WIRE_FIELD(struct hv_x64_segment_register, selector, 12, 2);
HV_WIRE_FIELD(struct hv_x64_segment_register, attributes, 14, 2);
HV_WIRE_FIELD(struct hv_x64_table_register, pad, 0, 6);
HV_WIRE_FIELD(struct hv_x64_table_register, limit, 6, 2);
HV_WIRE_FIELD(struct hv_x64_table_register, base, 8, 8);

/* HvCallGetVpRegisters and HvCallSetVpRegisters, vsm.md 3.7, 3.8: rep, one header for both */
struct hv_input_vp_registers {
        uint64_t partition_id;
        uint32_t vp_index;
        uint8_t input_vtl; /* HV_INPUT_VTL_* */
        uint8_t reserved[3];
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_vp_registers, 16);
HV_WIRE_FIELD(struct hv_input_vp_registers, partition_id, 0, 8);
HV_WIRE_FIELD(struct hv_input_vp_registers, vp_index, 8, 4);
HV_WIRE_FIELD(struct hv_input_vp_registers, input_vtl, 12, 1);
HV_WIRE_FIELD(struct hv_input_vp_registers, reserved, 13, 3);

/* Get: names in, values out */
typedef uint32_t hv_register_name_element;
HV_WIRE_SIZE(hv_register_name_element, 4);
HV_WIRE_FIELD(union hv_register_value, low64, 0, 8);
HV_WIRE_FIELD(union hv_register_value, high64, 8, 8);
HV_WIRE_FIELD(union hv_register_value, reg32, 0, 4);
HV_WIRE_FIELD(union hv_register_value, reg64, 0, 8);
HV_WIRE_FIELD(union hv_register_value, segment, 0, 16);
HV_WIRE_FIELD(union hv_register_value, table, 0, 16);
HV_WIRE_FIELD(union hv_register_value, bytes, 0, 16);

/* Set: not packed, for its padding is spelt out and pointers to @value are wanted */
struct hv_register_assoc {
        uint32_t name;
        uint32_t pad[3];
        union hv_register_value value;
};
HV_WIRE_SIZE(struct hv_register_assoc, 32);
HV_WIRE_FIELD(struct hv_register_assoc, name, 0, 4);
HV_WIRE_FIELD(struct hv_register_assoc, pad, 4, 12);
HV_WIRE_FIELD(struct hv_register_assoc, value, 16, 16);

/* HvCallGetVpIndexFromApicId, vsm.md 3.14: rep, APIC ids in, VP indices out, 4 bytes each */
struct hv_input_get_vp_index_from_apic_id {
        uint64_t partition_id;
        uint8_t target_vtl; /* HV_VTL */
        uint8_t reserved[7];
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_get_vp_index_from_apic_id, 16);
HV_WIRE_FIELD(struct hv_input_get_vp_index_from_apic_id, partition_id, 0, 8);
HV_WIRE_FIELD(struct hv_input_get_vp_index_from_apic_id, target_vtl, 8, 1);
HV_WIRE_FIELD(struct hv_input_get_vp_index_from_apic_id, reserved, 9, 7);

typedef uint32_t hv_apic_id_element;
HV_WIRE_SIZE(hv_apic_id_element, 4);
typedef uint32_t hv_vp_index_element;
HV_WIRE_SIZE(hv_vp_index_element, 4);

/* HvExtCallQueryCapabilities, vsm.md 3.20: simple, no input */
struct hv_output_ext_query_capabilities {
        uint64_t capabilities;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_output_ext_query_capabilities, 8);
HV_WIRE_FIELD(struct hv_output_ext_query_capabilities, capabilities, 0, 8);

/* HvCallNotifyLongSpinWait, vsm.md 3.20 */
struct hv_input_notify_long_spin_wait {
        uint64_t spin_count;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_notify_long_spin_wait, 8);

/* HvCallSendSyntheticClusterIpi and Ex, vsm.md 3.12; the Ex form's banks follow as variable header
 */
struct hv_input_send_ipi {
        uint32_t vector;
        uint8_t target_vtl; /* HV_INPUT_VTL_* */
        uint8_t flags;
        uint16_t reserved;
        uint64_t processor_mask;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_send_ipi, 16);
HV_WIRE_FIELD(struct hv_input_send_ipi, vector, 0, 4);
HV_WIRE_FIELD(struct hv_input_send_ipi, target_vtl, 4, 1);
HV_WIRE_FIELD(struct hv_input_send_ipi, flags, 5, 1);
HV_WIRE_FIELD(struct hv_input_send_ipi, reserved, 6, 2);
HV_WIRE_FIELD(struct hv_input_send_ipi, processor_mask, 8, 8);

#define HV_VP_SET_SPARSE_4K 0
#define HV_VP_SET_ALL 1
struct hv_input_send_ipi_ex {
        uint32_t vector;
        uint8_t target_vtl;
        uint8_t flags;
        uint16_t reserved;
        uint64_t format; /* HV_VP_SET_* */
        uint64_t valid_banks_mask;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_send_ipi_ex, 24);
HV_WIRE_FIELD(struct hv_input_send_ipi_ex, vector, 0, 4);
HV_WIRE_FIELD(struct hv_input_send_ipi_ex, target_vtl, 4, 1);
HV_WIRE_FIELD(struct hv_input_send_ipi_ex, flags, 5, 1);
HV_WIRE_FIELD(struct hv_input_send_ipi_ex, reserved, 6, 2);
HV_WIRE_FIELD(struct hv_input_send_ipi_ex, format, 8, 8);
HV_WIRE_FIELD(struct hv_input_send_ipi_ex, valid_banks_mask, 16, 8);

/* HvCallFlushVirtualAddressSpace, -List and their Ex forms, vsm.md 3.11; in the lists elements are
 * HV_GVA_RANGE, behind the banks of an Ex form */
#define HV_FLUSH_ALL_PROCESSORS (1ull << 0)
#define HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES (1ull << 1)
#define HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY (1ull << 2)
#define HV_FLUSH_USE_EXTENDED_RANGE_FORMAT (1ull << 3)
#define HV_FLUSH_USE_TARGET_VTL (1ull << 4)
#define HV_FLUSH_TARGET_VTL0 (1ull << 8)
#define HV_FLUSH_TARGET_VTL1 (1ull << 9)
struct hv_input_flush {
        uint64_t address_space; /* CR3 */
        uint64_t flags;
        uint64_t processor_mask;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_flush, 24);
HV_WIRE_FIELD(struct hv_input_flush, address_space, 0, 8);
HV_WIRE_FIELD(struct hv_input_flush, flags, 8, 8);
HV_WIRE_FIELD(struct hv_input_flush, processor_mask, 16, 8);

struct hv_input_flush_ex {
        uint64_t address_space;
        uint64_t flags;
        uint64_t format; /* HV_VP_SET_* */
        uint64_t valid_banks_mask;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_flush_ex, 32);
HV_WIRE_FIELD(struct hv_input_flush_ex, address_space, 0, 8);
HV_WIRE_FIELD(struct hv_input_flush_ex, flags, 8, 8);
HV_WIRE_FIELD(struct hv_input_flush_ex, format, 16, 8);
HV_WIRE_FIELD(struct hv_input_flush_ex, valid_banks_mask, 24, 8);

typedef uint64_t hv_gva_range;
HV_WIRE_SIZE(hv_gva_range, 8);

/* HvCallInstallIntercept, vsm.md 3.16 */
struct hv_input_install_intercept {
        uint64_t partition_id;
        uint32_t access_type_mask; /* HV_INTERCEPT_MASK_*, 0: remove */
        uint32_t intercept_type;   /* enum hv_intercept_type */
        uint64_t parameter;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_install_intercept, 24);
HV_WIRE_FIELD(struct hv_input_install_intercept, partition_id, 0, 8);
HV_WIRE_FIELD(struct hv_input_install_intercept, access_type_mask, 8, 4);
HV_WIRE_FIELD(struct hv_input_install_intercept, intercept_type, 12, 4);
HV_WIRE_FIELD(struct hv_input_install_intercept, parameter, 16, 8);

/* HvCallAssertVirtualInterrupt, vsm.md 3.15 */
#define HV_INTERRUPT_TYPE_FIXED 0u
#define HV_INTERRUPT_TYPE_NMI 4u
struct hv_input_assert_virtual_interrupt {
        uint64_t partition_id;
        uint32_t interrupt_type;
        uint32_t interrupt_flags; /* bit 0 level, bit 1 logical destination */
        uint64_t destination_address;
        uint32_t requested_vector;
        uint8_t target_vtl; /* HV_VTL */
        uint8_t reserved[3];
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_assert_virtual_interrupt, 32);
HV_WIRE_FIELD(struct hv_input_assert_virtual_interrupt, partition_id, 0, 8);
HV_WIRE_FIELD(struct hv_input_assert_virtual_interrupt, interrupt_type, 8, 4);
HV_WIRE_FIELD(struct hv_input_assert_virtual_interrupt, interrupt_flags, 12, 4);
HV_WIRE_FIELD(struct hv_input_assert_virtual_interrupt, destination_address, 16, 8);
HV_WIRE_FIELD(struct hv_input_assert_virtual_interrupt, requested_vector, 24, 4);
HV_WIRE_FIELD(struct hv_input_assert_virtual_interrupt, target_vtl, 28, 1);
HV_WIRE_FIELD(struct hv_input_assert_virtual_interrupt, reserved, 29, 3);

/* HvCallPostMessage and HvCallSignalEvent, vsm.md 3.19 */
struct hv_input_post_message {
        uint32_t connection_id;
        uint32_t reserved;
        uint32_t message_type;
        uint32_t payload_size;
        uint8_t payload[240];
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_post_message, 256);
HV_WIRE_FIELD(struct hv_input_post_message, connection_id, 0, 4);
HV_WIRE_FIELD(struct hv_input_post_message, reserved, 4, 4);
HV_WIRE_FIELD(struct hv_input_post_message, message_type, 8, 4);
HV_WIRE_FIELD(struct hv_input_post_message, payload_size, 12, 4);
HV_WIRE_FIELD(struct hv_input_post_message, payload, 16, 240);

struct hv_input_signal_event {
        uint32_t connection_id;
        uint16_t flag_number;
        uint16_t reserved;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_signal_event, 8);
HV_WIRE_FIELD(struct hv_input_signal_event, connection_id, 0, 4);
HV_WIRE_FIELD(struct hv_input_signal_event, flag_number, 4, 2);
HV_WIRE_FIELD(struct hv_input_signal_event, reserved, 6, 2);

/* HvCallTranslateVirtualAddress and Ex, vsm.md 3.9 and 3.10 */
struct hv_input_translate_virtual_address {
        uint64_t partition_id;
        uint32_t vp_index;
        uint32_t reserved;
        uint64_t control_flags;
        uint64_t gva_page;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_translate_virtual_address, 32);
HV_WIRE_FIELD(struct hv_input_translate_virtual_address, partition_id, 0, 8);
HV_WIRE_FIELD(struct hv_input_translate_virtual_address, vp_index, 8, 4);
HV_WIRE_FIELD(struct hv_input_translate_virtual_address, reserved, 12, 4);
HV_WIRE_FIELD(struct hv_input_translate_virtual_address, control_flags, 16, 8);
HV_WIRE_FIELD(struct hv_input_translate_virtual_address, gva_page, 24, 8);

struct hv_output_translate_virtual_address {
        uint32_t result_code;
        uint8_t cache_type;
        uint8_t overlay_page; /* bit 0 */
        uint16_t reserved;
        uint64_t gpa_page;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_output_translate_virtual_address, 16);
HV_WIRE_FIELD(struct hv_output_translate_virtual_address, result_code, 0, 4);
HV_WIRE_FIELD(struct hv_output_translate_virtual_address, cache_type, 4, 1);
HV_WIRE_FIELD(struct hv_output_translate_virtual_address, overlay_page, 5, 1);
HV_WIRE_FIELD(struct hv_output_translate_virtual_address, reserved, 6, 2);
HV_WIRE_FIELD(struct hv_output_translate_virtual_address, gpa_page, 8, 8);

struct hv_output_translate_virtual_address_ex {
        struct hv_output_translate_virtual_address translation; /* its gpa_page is unused */
        uint8_t event_info[32];
        uint64_t gpa_page;
        uint64_t reserved;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_output_translate_virtual_address_ex, 64);
HV_WIRE_FIELD(struct hv_output_translate_virtual_address_ex, translation, 0, 16);
HV_WIRE_FIELD(struct hv_output_translate_virtual_address_ex, event_info, 16, 32);
HV_WIRE_FIELD(struct hv_output_translate_virtual_address_ex, gpa_page, 48, 8);
HV_WIRE_FIELD(struct hv_output_translate_virtual_address_ex, reserved, 56, 8);

/* HvCallSignalEventDirect and HvCallPostMessageDirect, vsm.md 3.20 */
struct hv_input_signal_event_direct {
        uint64_t partition_id;
        uint32_t vp_index;
        uint8_t target_vtl; /* HV_VTL */
        uint8_t sint;
        uint16_t flag_number;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_signal_event_direct, 16);
HV_WIRE_FIELD(struct hv_input_signal_event_direct, vp_index, 8, 4);
HV_WIRE_FIELD(struct hv_input_signal_event_direct, target_vtl, 12, 1);
HV_WIRE_FIELD(struct hv_input_signal_event_direct, sint, 13, 1);
HV_WIRE_FIELD(struct hv_input_signal_event_direct, flag_number, 14, 2);

struct hv_output_signal_event_direct {
        uint8_t newly_signaled;
        uint8_t reserved[7];
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_output_signal_event_direct, 8);

struct hv_input_post_message_direct {
        uint64_t partition_id;
        uint32_t vp_index;
        uint8_t target_vtl; /* HV_VTL */
        uint8_t reserved0[3];
        uint8_t sint;
        uint8_t reserved1[3];
        uint8_t message[256]; /* struct hv_message */
        uint32_t reserved2;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_post_message_direct, 280);
HV_WIRE_FIELD(struct hv_input_post_message_direct, sint, 16, 1);
HV_WIRE_FIELD(struct hv_input_post_message_direct, message, 20, 256);

/* HvCallCheckSparseGpaPageVtlAccess, vsm.md 3.17: rep, page numbers in, results out */
#define HV_SPARSE_GPA_SUCCESS 0u
#define HV_SPARSE_GPA_MEMORY_INTERCEPT 1u
struct hv_input_check_sparse_gpa {
        uint64_t partition_id;
        uint8_t target_vtl;     /* HV_INPUT_VTL_*: whose access is asked about */
        uint8_t desired_access; /* HV_MAP_GPA_* */
        uint16_t reserved0;
        uint32_t reserved1;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_input_check_sparse_gpa, 16);
HV_WIRE_FIELD(struct hv_input_check_sparse_gpa, target_vtl, 8, 1);
HV_WIRE_FIELD(struct hv_input_check_sparse_gpa, desired_access, 9, 1);

struct hv_output_check_sparse_gpa {
        uint8_t result; /* HV_SPARSE_GPA_* */
        uint8_t denied_access;
        uint16_t intercepting_vtl; /* [3:0] */
        uint32_t reserved;
} __attribute__((packed));
HV_WIRE_SIZE(struct hv_output_check_sparse_gpa, 8);
