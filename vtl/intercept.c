/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/intercept.h"
#include "vtl/probes.h"
#include "vtl/segment.h"
#include "vtl/switch.h"
#include "vtl/synic.h"

#define CR0_PE 1u
#define CR0_AM (1u << 18)
#define EFER_LMA (1u << 10)

static uint16_t execution_state(const struct kvm_sregs *s, const struct fault_access *f) {
        unsigned state = vtl_cpl(s);

        if (s->cr0 & CR0_PE)
                state |= HV_EXEC_STATE_CR0_PE;
        if (s->cr0 & CR0_AM)
                state |= HV_EXEC_STATE_CR0_AM;
        if (s->efer & EFER_LMA)
                state |= HV_EXEC_STATE_EFER_LMA;
        if (f->cause == FAULT_EVENT_DELIVERY)
                state |= HV_EXEC_STATE_INTERRUPTION_PENDING;
        return (uint16_t) state;
}

struct hv_intercept_header vtl_intercept_header(const struct vtl_vp *vp,
                                                enum hv_intercept_access access,
                                                const struct fault_access *f) {
        const struct kvm_sregs *s = &vp->ctl->sregs;

        return (struct hv_intercept_header){
                .vp_index = vp->index,
                .instruction_length = f->insn_len & 0xf,
                .access_type = (uint8_t) access,
                .execution_state = execution_state(s, f),
                .cs = vtl_segment_from_kvm(&s->cs),
                .rip = vp->ctl->regs.rip,
                .rflags = vp->ctl->regs.rflags,
        };
}

bool vtl_intercept_post(struct vtl_vp *vp, enum hv_message_type type, const void *payload,
                        size_t size, uint64_t what) {
        struct hv_intercept_header header;
        struct hv_message m = { .message_type = type, .payload_size = (uint8_t) size };

        memcpy(&header, payload, sizeof(header));
        memcpy(m.payload, payload, size);
        if (vtl_synic_post(vp, 1, HV_SYNIC_INTERCEPTION_SINT_INDEX, &m) <= 0)
                return false;
        vp->ctl->stats.intercepts++;
        vp->partition->header->intercepts++;
        VTL_PROBE_INTERCEPT(vp->index, type, header.access_type, what, header.rip);
        VTL_TRACE(vp->partition->header, vp->ctl, .kind = VTL_TRACE_INTERCEPT, .to = 1,
                  .detail = vtl_trace_intercept_detail(type, header.access_type), .data = what,
                  .extra = header.rip);
        return true;
}
