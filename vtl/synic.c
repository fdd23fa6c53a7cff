/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/overlay.h"
#include "vtl/synic.h"

void vtl_synic_reset(struct vtl_synic *s) {
        /* SCONTROL starts enabled: some clients never write it in VTL1 (vsm.md 11.6). */
        *s = (struct vtl_synic){ .scontrol = 1 };
        for (unsigned i = 0; i < HV_SINT_COUNT; i++)
                s->sint[i] = HV_SINT_RESET;
}

bool vtl_synic_set_sint(struct vtl_synic *s, unsigned n, uint64_t value) {
        if (!(value & HV_SINT_MASKED) && !(value & HV_SINT_POLLING) &&
            (value & HV_SINT_VECTOR_MASK) < 16)
                return false;
        s->sint[n] = value;
        return true;
}

void vtl_request_vtl1_interrupt(struct vtl_vp *target, const struct vtl_vp *self, uint8_t vector,
                                bool auto_eoi) {
        struct vtl_partition *p = target->partition;

        if (!lapic_request(&target->lapic, vector, auto_eoi) || target == self)
                return;
        /* Its library must not switch on its own until the engine has looked. */
        target->ctl->switchable = 0;
        target->ctl->lapic_idle = 0;
        (void) p->config.ops->kick(p->config.ops_ctx, target->index);
}

bool vtl_synic_post_intercept(struct vtl_vp *vp, const struct hv_message *message) {
        const struct vtl_synic *s = &vp->vtl[1].synic;
        uint64_t sint = s->sint[HV_SYNIC_INTERCEPTION_SINT_INDEX];
        struct hv_message_page *page;
        struct hv_message *slot;
        uint32_t type;

        if (sint & HV_SINT_MASKED)
                return false;
        page = (struct hv_message_page *) (void *) vtl_overlay_data(
                vp->partition, vtl_overlay_page(VTL_OVERLAY_SIMP, vp->index, 1));
        slot = &page->slot[HV_SYNIC_INTERCEPTION_SINT_INDEX];
        type = __atomic_load_n(&slot->message_type, __ATOMIC_ACQUIRE);
        if (type != HV_MESSAGE_NONE)
                return false;

        /* Payload and header first, the type last: the guest polls the type. */
        memcpy(slot->payload, message->payload, sizeof(slot->payload));
        slot->payload_size = message->payload_size;
        slot->flags = 0;
        slot->reserved = 0;
        slot->origination_id = message->origination_id;
        __atomic_store_n(&slot->message_type, message->message_type, __ATOMIC_RELEASE);

        if (!(sint & HV_SINT_POLLING))
                vtl_request_vtl1_interrupt(vp, vp, (uint8_t) (sint & HV_SINT_VECTOR_MASK),
                                           sint & HV_SINT_AUTO_EOI);
        return true;
}
