/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The readers and writers behind the rows of registers.c. They answer HV_STATUS or a negative
 * errno; who may is decided before they are called.
 */

#include "vtl/engine.h"

struct register_access {
        struct vtl_vp *caller, *vp;
        unsigned vtl;
        uint32_t name;
};

typedef int register_getter(const struct register_access *a, union hv_register_value *ret);
typedef int register_setter(const struct register_access *a, const union hv_register_value *v);

/* registers-arch.c: registers of the vCPU */
register_getter register_get_gpr;
register_setter register_set_gpr;
register_getter register_get_rip;
register_setter register_set_rip;
register_getter register_get_cr;
register_setter register_set_cr;
register_getter register_get_xfem;
register_getter register_get_dr;
register_setter register_set_dr;
register_getter register_get_segment;
register_setter register_set_segment;
register_getter register_get_table;
register_setter register_set_table;
register_getter register_get_msr;
register_setter register_set_msr;
/* The register that is this MSR and that the two above serve; 0 for none. */
uint32_t register_of_msr(uint32_t msr);
register_getter register_get_efer;
register_setter register_set_efer;
register_getter register_get_apic_base;
register_setter register_set_apic_base;
register_getter register_get_apic_id;
register_getter register_get_xmm;
register_setter register_set_xmm;
register_getter register_get_fp;
register_setter register_set_fp;

/* registers-vsm.c: synthetic registers and those of VSM */
register_getter register_get_synthetic;
register_setter register_set_synthetic;
register_getter register_get_leaf;
register_getter register_get_code_page_offsets;
register_getter register_get_vp_status;
register_getter register_get_partition_status;
register_getter register_get_capabilities;
register_getter register_get_vina;
register_setter register_set_vina;
register_getter register_get_partition_config;
register_setter register_set_partition_config;
register_getter register_get_secure_config;
register_setter register_set_secure_config;
register_getter register_get_cr_intercept;
register_setter register_set_cr_intercept;

/* registers-events.c: what is about to be delivered, and activity */
register_getter register_get_pending_event;
register_setter register_set_pending_event;
register_getter register_get_pending_interruption;
register_setter register_set_pending_interruption;
register_getter register_get_interrupt_state;
register_setter register_set_interrupt_state;
register_getter register_get_activity;
register_setter register_set_activity;
