/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Interrupts that one VP asks for on others, messages and events: vsm.md 3.12, 3.15, 3.19, 3.20. */

#include "hvcall/calls.h"
#include "hvcall/vp-set.h"
#include "hvcall/wire.h"
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/synic.h"

#define MESSAGE_TYPE_HYPERVISOR 0x80000000u
#define MESSAGE_PAYLOAD_MAX 240

/* Always succeeds: that the VP spins is no reason to run another one here. */
int hvcall_notify_long_spin_wait(struct hv_call_ctx *c) {
        return 0;
}

/*
 * Clients send such interrupts from VTL0 to VTL1 too, which the hierarchy of VTLs would not need
 * to allow; they are delivered unless the partition's options say otherwise (clients.md).
 */
static int ipi_target(const struct vtl_vp *vp, uint32_t vector, uint8_t input_vtl,
                      unsigned *ret_vtl) {
        int r = input_vtl_resolve(vp, input_vtl, ret_vtl);

        if (r != 0 || vector < 16 || vector > 255)
                return HV_STATUS_INVALID_PARAMETER;
        if (*ret_vtl >= VTL_MAX_VTLS ||
            (*ret_vtl > vp->active_vtl && vp->partition->config.options.refuse_lower_ipi))
                return HV_STATUS_ACCESS_DENIED;
        return 0;
}

static int send(struct vtl_vp *vp, unsigned vtl, uint32_t vector, uint64_t mask) {
        struct vtl_partition *p = vp->partition;

        for (unsigned i = 0; i < p->n_vps && i < 64; i++) {
                struct vtl_vp *target = &p->vps[i];
                int r;

                if (!(mask >> i & 1) || !(target->enabled_vtls & 1u << vtl))
                        continue;
                r = vtl_assert_interrupt(target, vtl, (uint8_t) vector, false);
                if (r < 0)
                        return r;
        }
        return 0;
}

int hvcall_send_synthetic_cluster_ipi(struct hv_call_ctx *c) {
        const struct hv_input_send_ipi *in = c->input;
        unsigned vtl;
        int r = ipi_target(c->vp, in->vector, in->target_vtl, &vtl);

        return r != 0 ? r : send(c->vp, vtl, in->vector, in->processor_mask);
}

int hvcall_send_synthetic_cluster_ipi_ex(struct hv_call_ctx *c) {
        const struct hv_input_send_ipi_ex *in = c->input;
        unsigned vtl;
        uint64_t mask;
        bool is_short;
        int r = ipi_target(c->vp, in->vector, in->target_vtl, &vtl);

        if (r == 0)
                r = vp_set_mask(in->format, in->valid_banks_mask, (const uint64_t *) (in + 1),
                                c->varhdr_bytes / 8, &mask, &is_short);
        if (r != 0)
                return r;
        return is_short ? HV_STATUS_INVALID_PARAMETER : send(c->vp, vtl, in->vector, mask);
}

int hvcall_assert_virtual_interrupt(struct hv_call_ctx *c) {
        const struct hv_input_assert_virtual_interrupt *in = c->input;
        struct vtl_vp *vp = c->vp;
        struct vtl_partition *p = vp->partition;

        if (in->target_vtl > VTL_ENCODING_MAX)
                return HV_STATUS_INVALID_PARAMETER;
        /* A level interrupts those below it, in its own partition only. */
        if (in->partition_id != HV_PARTITION_ID_SELF || in->target_vtl >= vp->active_vtl)
                return HV_STATUS_ACCESS_DENIED;
        if (in->interrupt_flags & ~3u || in->requested_vector > 255 ||
            in->destination_address >> 32 || in->reserved[0] || in->reserved[1] ||
            in->reserved[2] ||
            (in->interrupt_type != HV_INTERRUPT_TYPE_FIXED &&
             in->interrupt_type != HV_INTERRUPT_TYPE_NMI) ||
            (in->interrupt_flags & 2))
                return HV_STATUS_INVALID_PARAMETER;
        for (unsigned i = 0; i < p->n_vps; i++) {
                if (p->vps[i].apic_id != in->destination_address)
                        continue;
                if (in->interrupt_type == HV_INTERRUPT_TYPE_NMI)
                        return vtl_assert_nmi(&p->vps[i], in->target_vtl);
                if (in->requested_vector < 16)
                        return HV_STATUS_INVALID_PARAMETER;
                return vtl_assert_interrupt(&p->vps[i], in->target_vtl,
                                            (uint8_t) in->requested_vector, false);
        }
        return HV_STATUS_INVALID_PARAMETER;
}

/* There is no port that a guest could have a connection to: VMBus is the VMM's to offer. */
int hvcall_post_message(struct hv_call_ctx *c) {
        const struct hv_input_post_message *in = c->input;

        if (in->message_type == 0 || (in->message_type & MESSAGE_TYPE_HYPERVISOR) ||
            in->payload_size > MESSAGE_PAYLOAD_MAX)
                return HV_STATUS_INVALID_PARAMETER;
        return HV_STATUS_INVALID_CONNECTION_ID;
}

int hvcall_signal_event(struct hv_call_ctx *c) {
        return HV_STATUS_INVALID_CONNECTION_ID;
}

/* ---- Messages and events straight to a SINT: what a level does to itself and to those below
 * ---- */

static int direct_target(const struct vtl_vp *vp, uint64_t partition_id, uint32_t vp_index,
                         uint8_t vtl, uint8_t sint, struct vtl_vp **ret) {
        struct vtl_partition *p = vp->partition;
        uint32_t index = vp_index == HV_VP_INDEX_SELF ? vp->index : vp_index;

        if (vtl > VTL_ENCODING_MAX || sint >= HV_SINT_COUNT)
                return HV_STATUS_INVALID_PARAMETER;
        if (partition_id != HV_PARTITION_ID_SELF || vtl > vp->active_vtl)
                return HV_STATUS_ACCESS_DENIED;
        if (index >= p->n_vps)
                return HV_STATUS_INVALID_VP_INDEX;
        *ret = &p->vps[index];
        return (*ret)->enabled_vtls >> vtl & 1 ? 0 : HV_STATUS_INVALID_VTL_STATE;
}

int hvcall_signal_event_direct(struct hv_call_ctx *c) {
        const struct hv_input_signal_event_direct *in = c->input;
        struct hv_output_signal_event_direct *out = c->output;
        struct vtl_vp *target;
        int r = direct_target(c->vp, in->partition_id, in->vp_index, in->target_vtl, in->sint,
                              &target);

        if (r != 0)
                return r;
        if (in->flag_number >= HV_EVENT_FLAGS)
                return HV_STATUS_INVALID_PARAMETER;
        r = vtl_synic_signal(target, in->target_vtl, in->sint, in->flag_number);
        if (r != 0 && r != 1)
                return r;
        out->newly_signaled = (uint8_t) r;
        return 0;
}

int hvcall_post_message_direct(struct hv_call_ctx *c) {
        const struct hv_input_post_message_direct *in = c->input;
        struct hv_message message;
        struct vtl_vp *target;
        int r = direct_target(c->vp, in->partition_id, in->vp_index, in->target_vtl, in->sint,
                              &target);

        if (r != 0)
                return r;
        memcpy(&message, in->message, sizeof(message));
        if (message.message_type == HV_MESSAGE_NONE || message.payload_size > MESSAGE_PAYLOAD_MAX)
                return HV_STATUS_INVALID_PARAMETER;
        return vtl_synic_queue(target, in->target_vtl, in->sint, &message);
}
