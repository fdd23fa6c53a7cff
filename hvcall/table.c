/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hvcall/calls.h"
#include "hvcall/wire.h"
#include "util/util.h"

/* Sorted by code. A call without a row answers HV_STATUS_INVALID_HYPERCALL_CODE. */
const struct hv_call hv_calls[] = {
        { .code = HVCALL_MODIFY_VTL_PROTECTION_MASK, .kind = HV_CALL_REP, .name = "ModifyVtlProtectionMask",
          .input = sizeof(struct hv_input_modify_vtl_protection_mask), .rep_in = sizeof(hv_gpa_page_number),
          .privilege = HV_PRIV_VSM, .prepare = hvcall_modify_protection_prepare,
          .handler = hvcall_modify_protection },
        { .code = HVCALL_ENABLE_PARTITION_VTL, .kind = HV_CALL_SIMPLE, .name = "EnablePartitionVtl",
          .input = sizeof(struct hv_input_enable_partition_vtl), .privilege = HV_PRIV_VSM,
          .handler = hvcall_enable_partition_vtl },
        { .code = HVCALL_ENABLE_VP_VTL, .kind = HV_CALL_SIMPLE, .name = "EnableVpVtl",
          .input = sizeof(struct hv_input_enable_vp_vtl), .privilege = HV_PRIV_VSM,
          .handler = hvcall_enable_vp_vtl },
        { .code = HVCALL_VTL_CALL, .kind = HV_CALL_VTL, .name = "VtlCall", .privilege = HV_PRIV_VSM },
        { .code = HVCALL_VTL_RETURN, .kind = HV_CALL_VTL, .name = "VtlReturn", .privilege = HV_PRIV_VSM },
        { .code = HVCALL_GET_VP_REGISTERS, .kind = HV_CALL_REP, .name = "GetVpRegisters",
          .input = sizeof(struct hv_input_vp_registers), .rep_in = sizeof(uint32_t),
          .rep_out = sizeof(union hv_register_value), .privilege = HV_PRIV_VP_REGISTERS,
          .prepare = hvcall_registers_prepare, .handler = hvcall_get_vp_registers },
        { .code = HVCALL_SET_VP_REGISTERS, .kind = HV_CALL_REP, .name = "SetVpRegisters",
          .input = sizeof(struct hv_input_vp_registers), .rep_in = sizeof(struct hv_register_assoc),
          .privilege = HV_PRIV_VP_REGISTERS, .prepare = hvcall_registers_prepare,
          .handler = hvcall_set_vp_registers },
        { .code = HVCALL_GET_VP_INDEX_FROM_APIC_ID, .kind = HV_CALL_REP, .name = "GetVpIndexFromApicId",
          .input = sizeof(struct hv_input_get_vp_index_from_apic_id), .rep_in = sizeof(uint32_t),
          .rep_out = sizeof(uint32_t), .prepare = hvcall_apic_id_prepare,
          .handler = hvcall_get_vp_index_from_apic_id },
        { .code = HVCALL_EXT_QUERY_CAPABILITIES, .kind = HV_CALL_SIMPLE, .name = "ExtCallQueryCapabilities",
          .output = sizeof(struct hv_output_ext_query_capabilities), .privilege = HV_PRIV_EXTENDED_HYPERCALLS,
          .handler = hvcall_ext_query_capabilities },
};
const size_t hv_calls_n = ARRAY_SIZE(hv_calls);
