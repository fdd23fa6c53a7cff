/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The library's end of plane-remote.h: nothing of the engine is needed here. */

#include "util/util.h"
#include "vtl/hvpage.h"
#include "vtl/plane-remote.h"
#include "vtl/switch.h"

int plane_remote_serve(const struct plane_ops *ops, void *ctx, unsigned vp, struct vtl_op *op) {
        /* The other process may change its copy at any time. */
        const uint32_t code = op->code, plane = op->plane, arg = op->arg, len = op->len,
                       access = op->access;
        const uint64_t gpn = op->gpn;
        uint8_t data[VTL_OP_DATA_MAX] __attribute__((aligned(16)));
        int r;

        if (len > sizeof(data) || plane >= PLANE_MAX)
                return -EINVAL;
        memcpy(data, op->data, len);
        switch ((enum vtl_op_code) code) {
        case VTL_OP_GET:
                r = ops->get(ctx, vp, plane, (enum plane_class) arg, data, len);
                if (r == 0)
                        memcpy(op->data, data, len);
                return r;
        case VTL_OP_SET:
                return ops->set(ctx, vp, plane, (enum plane_class) arg, data, len);
        case VTL_OP_COMPLETE:
                return ops->complete(ctx, vp, plane);
        case VTL_OP_PROBE:
                return ops->probe(ctx, vp);
        case VTL_OP_UNWIND:
                return ops->unwind(ctx, vp, plane);
        case VTL_OP_SWITCH:
                return ops->switch_to(ctx, vp, plane, arg);
        case VTL_OP_INJECT:
                return len == sizeof(struct plane_injection)
                             ? ops->inject(ctx, vp, plane, (void *) data)
                             : -EINVAL;
        case VTL_OP_PROTECT:
                return len % sizeof(struct plane_range) == 0
                             ? ops->protect(ctx, vp, plane, (void *) data,
                                            len / sizeof(struct plane_range))
                             : -EINVAL;
        case VTL_OP_OVERLAY:
                return ops->overlay(ctx, vp, plane, gpn, arg, access);
        case VTL_OP_FLUSH:
                return ops->flush(ctx, vp, plane, gpn);
        case VTL_OP_FILTER_MSRS:
                return len == sizeof(struct plane_msr_filter)
                             ? ops->filter_msrs(ctx, vp, (void *) data)
                             : -EINVAL;
        case VTL_OP_FILTER_PORTS:
                return len == sizeof(struct plane_port_filter)
                             ? ops->filter_ports(ctx, vp, (void *) data)
                             : -EINVAL;
        case VTL_OP_STATE_PUT:
                return ops->state_put(ctx, vp, data, len);
        case VTL_OP_STATE_GET:
                r = ops->state_get(ctx, vp, data, len);
                if (r == 0)
                        memcpy(op->data, data, len);
                return r;
        case VTL_OP_GIVEN:
        case _VTL_OP_MAX:
                break;
        }
        return -EINVAL;
}

/* Fast calls whose 16 bytes in RDX and R8 are enough */
static bool is_short(unsigned code) {
        static const uint16_t codes[] = { HVCALL_NOTIFY_LONG_SPIN_WAIT,
                                          HVCALL_SEND_SYNTHETIC_CLUSTER_IPI,
                                          HVCALL_ENABLE_PARTITION_VTL, HVCALL_SIGNAL_EVENT,
                                          HVCALL_EXT_QUERY_CAPABILITIES };

        for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
                if (codes[i] == code)
                        return true;
        return false;
}

static bool seems_to_use_xmm(const struct vtl_control_vp *ctl) {
        uint64_t control = ctl->regs.rcx;

        return ctl->exit.kind == VTL_EXIT_HYPERCALL && ctl->exit.port == HVPAGE_PORT_HYPERCALL &&
               (control & HV_CONTROL_FAST) && vtl_long_mode(&ctl->sregs) &&
               !is_short(control & HV_CONTROL_CODE_MASK);
}

void plane_remote_give(const struct plane_ops *ops, void *ctx, unsigned vp, unsigned plane,
                       struct vtl_control_vp *ctl) {
        struct vtl_op *op = &ctl->op;

        op->code = VTL_OP_GIVEN;
        op->len = op->posted = 0;
        if (!seems_to_use_xmm(ctl) ||
            ops->get(ctx, vp, plane, PLANE_XSAVE, op->data, sizeof(struct kvm_xsave)) < 0)
                return;
        op->plane = plane;
        op->arg = PLANE_XSAVE;
        op->len = sizeof(struct kvm_xsave);
}
