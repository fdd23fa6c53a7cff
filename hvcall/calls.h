/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The handlers behind the table's rows. Each gets the calling struct vtl_vp in ctx->vp. */

#include "hvcall/hvcall.h"

/* calls-vsm.c */
int hvcall_enable_partition_vtl(struct hv_call_ctx *c);
int hvcall_enable_vp_vtl(struct hv_call_ctx *c);
int hvcall_modify_protection_prepare(struct hv_call_ctx *c, uint16_t *ret_done);
int hvcall_modify_protection(struct hv_call_ctx *c);

/* calls-registers.c */
int hvcall_registers_prepare(struct hv_call_ctx *c, uint16_t *ret_done);
int hvcall_get_vp_registers(struct hv_call_ctx *c);
int hvcall_set_vp_registers(struct hv_call_ctx *c);
int hvcall_apic_id_prepare(struct hv_call_ctx *c, uint16_t *ret_done);
int hvcall_get_vp_index_from_apic_id(struct hv_call_ctx *c);
int hvcall_ext_query_capabilities(struct hv_call_ctx *c);
