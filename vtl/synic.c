/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/clock.h"
#include "vtl/engine.h"
#include "vtl/overlay.h"
#include "vtl/synic.h"

void vtl_synic_reset(struct vtl_synic *s) {
        /* SCONTROL starts enabled: some clients never write it in VTL1 (vsm.md 11.6). */
        *s = (struct vtl_synic){ .scontrol = 1 };
        for (unsigned i = 0; i < HV_SINT_COUNT; i++)
                s->sint[i] = HV_SINT_RESET;
        for (unsigned i = 0; i < VTL_STIMERS; i++)
                s->stimer[i].due = VTL_CLOCK_NEVER;
}

bool vtl_synic_set_sint(struct vtl_synic *s, unsigned n, uint64_t value) {
        if (!(value & HV_SINT_MASKED) && !(value & HV_SINT_POLLING) &&
            (value & HV_SINT_VECTOR_MASK) < 16)
                return false;
        s->sint[n] = value;
        return true;
}

/* Its library must not switch on its own until the engine has looked. */
static void wake(struct vtl_vp *target, const struct vtl_vp *self) {
        struct vtl_partition *p = target->partition;

        if (target == self)
                return;
        target->ctl->switchable = 0;
        target->ctl->lapic_idle = 0;
        (void) p->config.ops->kick(p->config.ops_ctx, target->index);
}

void vtl_request_vtl1_interrupt(struct vtl_vp *target, const struct vtl_vp *self, uint8_t vector,
                                bool auto_eoi) {
        if (lapic_request(&target->lapic, vector, auto_eoi))
                wake(target, self);
}

int vtl_assert_interrupt(struct vtl_vp *target, unsigned vtl, uint8_t vector, bool auto_eoi) {
        struct vtl_partition *p = target->partition;
        struct plane_injection inj = { .kind = PLANE_INJECT_MSI,
                                       .vector = vector,
                                       .destination = target->apic_id };

        if (vtl == 0)
                return vtl_op(p, inject, 0, &inj);
        vtl_request_vtl1_interrupt(target, p->current, vector, auto_eoi);
        return 0;
}

int vtl_assert_nmi(struct vtl_vp *target, unsigned vtl) {
        struct vtl_partition *p = target->partition;
        struct plane_injection inj = { .kind = PLANE_INJECT_MSI,
                                       .destination = target->apic_id,
                                       .nmi = 1 };

        if (vtl == 0)
                return vtl_op(p, inject, 0, &inj);
        target->nmi_pending = true;
        wake(target, p->current);
        return 0;
}

static int raise(struct vtl_vp *vp, unsigned vtl, uint64_t sint) {
        if (sint & HV_SINT_POLLING)
                return 0;
        return vtl_assert_interrupt(vp, vtl, (uint8_t) (sint & HV_SINT_VECTOR_MASK),
                                    sint & HV_SINT_AUTO_EOI);
}

int vtl_synic_post(struct vtl_vp *vp, unsigned vtl, unsigned n, const struct hv_message *message) {
        uint64_t sint = vp->vtl[vtl].synic.sint[n];
        struct hv_message_page *page;
        struct hv_message *slot;
        int r;

        if (sint & HV_SINT_MASKED)
                return 0;
        page = (struct hv_message_page *) (void *) vtl_overlay_data(
                vp->partition, vtl_overlay_page(VTL_OVERLAY_SIMP, vp->index, vtl));
        slot = &page->slot[n];
        if (__atomic_load_n(&slot->message_type, __ATOMIC_ACQUIRE) != HV_MESSAGE_NONE) {
                slot->flags |= HV_MESSAGE_PENDING; /* the guest writes EOM when it has read it */
                return 0;
        }

        /* Payload and header first, the type last: the guest polls the type. */
        memcpy(slot->payload, message->payload, sizeof(slot->payload));
        slot->payload_size = message->payload_size;
        slot->flags = 0;
        slot->reserved = 0;
        slot->origination_id = message->origination_id;
        __atomic_store_n(&slot->message_type, message->message_type, __ATOMIC_RELEASE);

        r = raise(vp, vtl, sint);
        return r < 0 ? r : 1;
}

/* ---- Messages that wait ---- */

static bool waits(const struct vtl_synic *s, unsigned n, unsigned before) {
        for (unsigned i = 0; i < before; i++)
                if (s->messages[i].sint == n)
                        return true;
        return false;
}

int vtl_synic_queue(struct vtl_vp *vp, unsigned vtl, unsigned n, const struct hv_message *message) {
        struct vtl_synic *s = &vp->vtl[vtl].synic;
        int r;

        if (s->sint[n] & HV_SINT_MASKED)
                return HV_STATUS_INVALID_SYNIC_STATE;
        if (!waits(s, n, s->n_messages)) {
                r = vtl_synic_post(vp, vtl, n, message);
                if (r != 0)
                        return MIN(r, 0);
        }
        if (s->n_messages == VTL_MESSAGES_MAX)
                return HV_STATUS_INSUFFICIENT_BUFFERS;
        s->messages[s->n_messages].sint = (uint8_t) n;
        s->messages[s->n_messages++].message = *message;
        return 0;
}

static int deliver(struct vtl_vp *vp, unsigned vtl) {
        struct vtl_synic *s = &vp->vtl[vtl].synic;
        unsigned kept = 0;

        for (unsigned i = 0; i < s->n_messages; i++) {
                unsigned n = s->messages[i].sint;
                int r = waits(s, n, kept) ? 0 : vtl_synic_post(vp, vtl, n, &s->messages[i].message);

                if (r < 0)
                        return r;
                if (r == 0 && kept++ != i)
                        s->messages[kept - 1] = s->messages[i];
        }
        s->n_messages = kept;
        return 0;
}

int vtl_synic_deliver(struct vtl_vp *vp) {
        int r = 0;

        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS && r == 0; vtl++)
                if (vp->vtl[vtl].synic.n_messages > 0)
                        r = deliver(vp, vtl);
        return r;
}

/* ---- Event flags ---- */

int vtl_synic_signal(struct vtl_vp *vp, unsigned vtl, unsigned n, unsigned flag) {
        uint64_t sint = vp->vtl[vtl].synic.sint[n];
        struct hv_event_flags_page *page;
        uint32_t bit = 1u << flag % 32;
        int r;

        if (sint & HV_SINT_MASKED)
                return HV_STATUS_INVALID_SYNIC_STATE;
        page = (struct hv_event_flags_page *) (void *) vtl_overlay_data(
                vp->partition, vtl_overlay_page(VTL_OVERLAY_SIEFP, vp->index, vtl));
        if (__atomic_fetch_or(&page->slot[n][flag / 32], bit, __ATOMIC_ACQ_REL) & bit)
                return 0; /* the guest has not seen the last one yet */
        r = raise(vp, vtl, sint);
        return r < 0 ? r : 1;
}
