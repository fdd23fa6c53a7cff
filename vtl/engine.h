/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Inside the engine: what its files call of each other. Everything here runs under the partition's
 * lock, for the VP whose exit is being served (p->current).
 */

#include <stdbool.h>
#include <stdint.h>

#include "vtl/overlay.h"
#include "vtl/partition.h"

#define X86_NMI 2
#define X86_UD 6
#define X86_DF 8
#define X86_GP 13
#define X86_PF 14

/* msr.c: synthetic MSRs and, for VTL1, APIC_BASE and the x2APIC range. 0, 1 for #GP, or a negative
 * errno. */
int vtl_msr_read(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t *ret);
int vtl_msr_write(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value);
/* An IPI that VTL1's APIC of @vp asks for. */
void vtl_send_ipi(struct vtl_vp *vp, const struct lapic_ipi *ipi);

/* transition.c: moving between the levels. */
/* Puts the context of EnableVpVtl into VTL1's vCPU; -EINVAL when no CPU would run on it. */
int vtl_apply_context(struct vtl_vp *vp);
/* Carries out a StartVirtualProcessor that is pending for this VP. */
int vtl_start(struct vtl_vp *vp);
/* 0, VTL_ENTRY_* (measure.h) when it was not entered, or a negative errno. */
int vtl_enter_vtl1(struct vtl_vp *vp, enum hv_vtl_entry_reason reason);
int vtl_leave_vtl1(struct vtl_vp *vp, bool fast);
/* HvRegisterPendingEvent0 of VTL0, an exception that VTL1 asked for (vsm.md 4.12). At an
 * instruction boundary of VTL0, which is active. */
int vtl_deliver_event(struct vtl_vp *vp);
/* A VTL call or return that the guest asked for: 0 done, 1 for #UD, VTL_ENTRY_AGAIN, negative
 * errno. */
int vtl_guest_switch(struct vtl_vp *vp, bool is_return, uint64_t input);
/* Faults in the active VTL. For #UD RIP goes back to the `out` at @offset of the hypercall page. */
int vtl_inject_ud(struct vtl_vp *vp, unsigned offset);
int vtl_inject_gp(struct vtl_vp *vp);
/* RIP of the active plane to the `out` at @offset of its page: the guest issues it again. */
int vtl_rewind_out(struct vtl_vp *vp, unsigned offset);

/* intercept-io.c: VTL0's accesses that VTL1 may intercept. As vtl_msr_read() and -write(). */
int vtl_vtl0_msr_read(struct vtl_vp *vp, uint32_t msr, uint64_t *ret);
int vtl_vtl0_msr_write(struct vtl_vp *vp, uint32_t msr, uint64_t value);
int vtl_serve_port(struct vtl_vp *vp, const struct vtl_exit *e);

/* intercept-memory.c: an access that VTL1 forbids. */
int vtl_serve_fault(struct vtl_vp *vp);
int vtl_serve_mmio(struct vtl_vp *vp, const struct vtl_exit *exit);
/* Tells VTL1 about stores that were held back, once their instruction is finished. */
int vtl_report_stores(struct vtl_vp *vp);
/* Carries out those that VTL1 allows by now. */
void vtl_commit_stores(struct vtl_vp *vp);

/* registers.c: virtual registers. Answers are HV_STATUS, or a negative errno. */
int vtl_register_get(struct vtl_vp *caller, struct vtl_vp *target, unsigned vtl, uint32_t name,
                     union hv_register_value *ret);
/* On the VP's own thread, for who is above all levels: vtl/inspect.c. */
int vtl_register_look(struct vtl_vp *vp, unsigned vtl, uint32_t name, union hv_register_value *ret);
/* VTL0's view as the map of rights and strict mode have it, overlays excepted. */
int vtl_protect_apply(struct vtl_partition *p);
int vtl_register_set(struct vtl_vp *caller, struct vtl_vp *target, unsigned vtl, uint32_t name,
                     const union hv_register_value *value);

/* Operations of the plane layer on behalf of the VP being served. */
#define vtl_op(p, op, ...) \
        ((p)->config.ops->op((p)->config.ops_ctx, (p)->current->index, __VA_ARGS__))
