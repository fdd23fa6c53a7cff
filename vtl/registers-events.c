/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Virtual registers about what a vCPU is about to take, and whether it runs: vsm.md 4.12-4.14. */

#include "util/util.h"
#include "vtl/registers-internal.h"

/* ---- HvRegisterPendingEvent0: an exception that VTL1 wants VTL0 to have ---- */

/* DE DB BP OF BR UD NM DF TS NP SS GP PF MF AC MC XM CP */
#define EVENT_VECTORS 0x002f7dfbu
/* DF TS NP SS GP PF AC CP */
#define EVENT_VECTORS_WITH_CODE \
        (1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17 | 1u << 21)

int register_set_pending_event(const struct register_access *a, const union hv_register_value *v) {
        struct vtl_partition *p = a->vp->partition;
        uint64_t e = v->low64;
        unsigned vector = HV_PENDING_EVENT_VECTOR(e);
        bool has_code = e & HV_PENDING_EVENT_HAS_CODE;

        if (!(e & HV_PENDING_EVENT_PENDING))
                e = 0; /* takes back one that is not delivered yet */
        else if (HV_PENDING_EVENT_TYPE(e) != 0 || (e & HV_PENDING_EVENT_RESERVED) || vector > 31 ||
                 !(EVENT_VECTORS >> vector & 1) ||
                 (has_code ? !(EVENT_VECTORS_WITH_CODE >> vector & 1) : e >> 32 != 0))
                return HV_STATUS_INVALID_REGISTER_VALUE;
        a->vp->pending_event0[0] = e;
        a->vp->pending_event0[1] = v->high64;
        /* Before VTL0 goes on. */
        a->vp->ctl->switchable = 0;
        return a->vp == p->current ? 0 : p->config.ops->kick(p->config.ops_ctx, a->vp->index);
}

int register_get_pending_event(const struct register_access *a, union hv_register_value *ret) {
        ret->low64 = a->vp->pending_event0[0];
        ret->high64 = a->vp->pending_event0[0] ? a->vp->pending_event0[1] : 0;
        return 0;
}

/* ---- HvRegisterPendingInterruption, HvRegisterInterruptState: what the vCPU holds itself ---- */

static int get_events(const struct register_access *a, struct kvm_vcpu_events *ret) {
        return vtl_op(a->vp->partition, get, a->vtl, PLANE_EVENTS, ret, sizeof(*ret));
}

/* Without flags nothing of what may have come meanwhile, an NMI, is written over. */
static int set_events(const struct register_access *a, struct kvm_vcpu_events *e, uint32_t flags) {
        int r;

        e->flags = flags;
        r = vtl_op(a->vp->partition, set, a->vtl, PLANE_EVENTS, e, sizeof(*e));
        return r == -EINVAL ? HV_STATUS_INVALID_REGISTER_VALUE : r;
}

static uint64_t interruption(unsigned type, unsigned vector) {
        return HV_PENDING_INTERRUPTION_PENDING | (uint64_t) type << 1 | (uint64_t) vector << 16;
}

int register_get_pending_interruption(const struct register_access *a,
                                      union hv_register_value *ret) {
        struct kvm_vcpu_events e;
        int r = get_events(a, &e);

        if (r < 0)
                return r;
        if (e.exception.injected || e.exception.pending) {
                ret->reg64 = interruption(HV_INTERRUPTION_EXCEPTION, e.exception.nr);
                if (e.exception.has_error_code)
                        ret->reg64 |= HV_PENDING_INTERRUPTION_HAS_CODE |
                                      (uint64_t) e.exception.error_code << 32;
        } else if (e.nmi.injected)
                ret->reg64 = interruption(HV_INTERRUPTION_NMI, 2);
        else if (e.interrupt.injected)
                ret->reg64 = interruption(e.interrupt.soft ? HV_INTERRUPTION_SOFTWARE_INTERRUPT
                                                           : HV_INTERRUPTION_INTERRUPT,
                                          e.interrupt.nr);
        return 0;
}

/* What an instruction raises by itself, INT n, cannot be put in place: KVM would have to be told
 * how long the instruction is. VTL1 moves RIP back instead. */
int register_set_pending_interruption(const struct register_access *a,
                                      const union hv_register_value *v) {
        unsigned vector = HV_PENDING_INTERRUPTION_VECTOR(v->reg64);
        bool has_code = v->reg64 & HV_PENDING_INTERRUPTION_HAS_CODE;
        struct kvm_vcpu_events e;
        int r;

        if ((v->reg64 & HV_PENDING_INTERRUPTION_RESERVED) || vector > 255)
                return HV_STATUS_INVALID_REGISTER_VALUE;
        r = get_events(a, &e);
        if (r < 0)
                return r;
        e.exception.injected = e.exception.pending = 0;
        e.interrupt.injected = e.interrupt.soft = 0;
        e.nmi.injected = 0;
        if (!(v->reg64 & HV_PENDING_INTERRUPTION_PENDING))
                return set_events(a, &e, 0);
        switch (HV_PENDING_INTERRUPTION_TYPE(v->reg64)) {
        case HV_INTERRUPTION_INTERRUPT:
                e.interrupt.injected = 1;
                e.interrupt.nr = (uint8_t) vector;
                break;
        case HV_INTERRUPTION_NMI:
                e.nmi.injected = 1;
                break;
        case HV_INTERRUPTION_EXCEPTION:
                if (vector > 31)
                        return HV_STATUS_INVALID_REGISTER_VALUE;
                e.exception.injected = 1;
                e.exception.nr = (uint8_t) vector;
                e.exception.has_error_code = has_code;
                e.exception.error_code = has_code ? (uint32_t) (v->reg64 >> 32) : 0;
                break;
        default:
                return HV_STATUS_INVALID_REGISTER_VALUE;
        }
        return set_events(a, &e, 0);
}

int register_get_interrupt_state(const struct register_access *a, union hv_register_value *ret) {
        struct kvm_vcpu_events e;
        int r = get_events(a, &e);

        if (r == 0)
                ret->reg64 = (e.interrupt.shadow ? HV_INTERRUPT_STATE_SHADOW : 0) |
                             (e.nmi.masked ? HV_INTERRUPT_STATE_NMI_MASKED : 0);
        return r;
}

int register_set_interrupt_state(const struct register_access *a,
                                 const union hv_register_value *v) {
        struct kvm_vcpu_events e;
        int r;

        if (v->reg64 & ~(HV_INTERRUPT_STATE_SHADOW | HV_INTERRUPT_STATE_NMI_MASKED))
                return HV_STATUS_INVALID_REGISTER_VALUE;
        r = get_events(a, &e);
        if (r < 0)
                return r;
        e.interrupt.shadow = v->reg64 & HV_INTERRUPT_STATE_SHADOW ? KVM_X86_SHADOW_INT_STI : 0;
        e.nmi.masked = (v->reg64 & HV_INTERRUPT_STATE_NMI_MASKED) != 0;
        return set_events(a, &e, KVM_VCPUEVENT_VALID_SHADOW);
}

/* ---- HvRegisterInternalActivityState ---- */

int register_get_activity(const struct register_access *a, union hv_register_value *ret) {
        struct kvm_mp_state s;
        int r;

        if (a->vtl == 1) {
                ret->reg64 = a->vp->halted ? HV_ACTIVITY_HALT_SUSPEND : 0;
                return 0;
        }
        r = vtl_op(a->vp->partition, get, 0, PLANE_MP_STATE, &s, sizeof(s));
        if (r == 0)
                ret->reg64 = s.mp_state == KVM_MP_STATE_HALTED   ? HV_ACTIVITY_HALT_SUSPEND
                           : s.mp_state == KVM_MP_STATE_RUNNABLE ? 0
                                                                 : HV_ACTIVITY_STARTUP_SUSPEND;
        return r;
}

int register_set_activity(const struct register_access *a, const union hv_register_value *v) {
        struct kvm_mp_state s = { .mp_state = KVM_MP_STATE_RUNNABLE };

        if (v->reg64 == HV_ACTIVITY_HALT_SUSPEND)
                s.mp_state = KVM_MP_STATE_HALTED;
        else if (v->reg64 == HV_ACTIVITY_STARTUP_SUSPEND)
                s.mp_state = KVM_MP_STATE_INIT_RECEIVED;
        else if (v->reg64 != 0)
                return HV_STATUS_INVALID_REGISTER_VALUE;
        return vtl_op(a->vp->partition, set, 0, PLANE_MP_STATE, &s, sizeof(s));
}
