/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The handlers behind the table's rows. Each gets the calling struct vtl_vp in ctx->vp. */

#include "hvcall/hvcall.h"

/* calls-vsm.c */
int hvcall_enable_partition_vtl(struct hv_call_ctx *c);
int hvcall_enable_vp_vtl(struct hv_call_ctx *c);
int hvcall_modify_protection_prepare(struct hv_call_ctx *c, uint16_t *ret_done);
int hvcall_modify_protection(struct hv_call_ctx *c);
int hvcall_check_sparse_gpa_prepare(struct hv_call_ctx *c, uint16_t *ret_done);
int hvcall_check_sparse_gpa(struct hv_call_ctx *c);

int hvcall_start_virtual_processor(struct hv_call_ctx *c);
int hvcall_install_intercept(struct hv_call_ctx *c);

/* calls-flush.c */
int hvcall_flush_virtual_address_space(struct hv_call_ctx *c);
int hvcall_flush_virtual_address_space_ex(struct hv_call_ctx *c);
int hvcall_flush_virtual_address_list_prepare(struct hv_call_ctx *c, uint16_t *ret_done);
int hvcall_flush_virtual_address_list_ex_prepare(struct hv_call_ctx *c, uint16_t *ret_done);
int hvcall_flush_virtual_address_list(struct hv_call_ctx *c);

/* calls-interrupts.c */
int hvcall_notify_long_spin_wait(struct hv_call_ctx *c);
int hvcall_send_synthetic_cluster_ipi(struct hv_call_ctx *c);
int hvcall_send_synthetic_cluster_ipi_ex(struct hv_call_ctx *c);
int hvcall_assert_virtual_interrupt(struct hv_call_ctx *c);
int hvcall_post_message(struct hv_call_ctx *c);
int hvcall_signal_event(struct hv_call_ctx *c);
int hvcall_post_message_direct(struct hv_call_ctx *c);
int hvcall_signal_event_direct(struct hv_call_ctx *c);

/* calls-translate.c */
int hvcall_translate_virtual_address(struct hv_call_ctx *c);
int hvcall_translate_virtual_address_ex(struct hv_call_ctx *c);

/* calls-registers.c */
int hvcall_registers_prepare(struct hv_call_ctx *c, uint16_t *ret_done);
int hvcall_get_vp_registers(struct hv_call_ctx *c);
int hvcall_set_vp_registers(struct hv_call_ctx *c);
int hvcall_apic_id_prepare(struct hv_call_ctx *c, uint16_t *ret_done);
int hvcall_get_vp_index_from_apic_id(struct hv_call_ctx *c);
int hvcall_ext_query_capabilities(struct hv_call_ctx *c);
