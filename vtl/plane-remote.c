/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/plane-remote.h"
#include "vtl/xmm.h"

static struct vtl_op *op_of(const struct plane_remote *p, unsigned vp) {
        return &vtl_control_vp(p->control, vp)->op;
}

/* A greater number from the other process than @max would look like an HV_STATUS. */
static int hand_over(struct plane_remote *p, unsigned vp, int max) {
        int r;

        op_of(p, vp)->posted = 0;
        r = mailbox_op(vtl_control_vp(p->control, vp), &p->spin[vp]);
        return r > max ? -EPROTO : r;
}

/* What was posted goes first, and this one only if that has not failed. Its error is not this
 * one's, which might mean something to the guest. */
static struct vtl_op *begin(struct plane_remote *p, unsigned vp, enum vtl_op_code code,
                            unsigned plane) {
        struct vtl_op *op = op_of(p, vp);

        p->failed[vp] = op->posted && hand_over(p, vp, 0) < 0 ? -EIO : 0;
        op->code = code;
        op->plane = plane;
        op->arg = op->len = op->access = 0;
        op->gpn = 0;
        return op;
}

static int call_for(struct plane_remote *p, unsigned vp, int max) {
        return p->failed[vp] < 0 ? p->failed[vp] : hand_over(p, vp, max);
}

/* Return: 0 or a negative errno. */
static int call(struct plane_remote *p, unsigned vp) {
        return call_for(p, vp, 0);
}

/* The same for the last operation of an exit, most of the time: it goes with the action, which
 * saves a way there and back. A failure then stops the guest, as it would otherwise. */
static int post(struct plane_remote *p, unsigned vp) {
        if (p->failed[vp] < 0)
                return p->failed[vp];
        op_of(p, vp)->posted = 1;
        return 0;
}

static int ask(struct plane_remote *p, unsigned vp, unsigned plane, enum plane_class cls, void *buf,
               size_t len) {
        struct vtl_op *op = op_of(p, vp);
        int r;

        /* Any other operation takes its place, and with that what it may have changed. */
        if (op->code == VTL_OP_GIVEN && op->plane == plane && op->arg == (uint32_t) cls &&
            op->len == len) {
                memcpy(buf, op->data, len);
                return 0;
        }
        (void) begin(p, vp, VTL_OP_GET, plane);
        op->arg = cls;
        op->len = (uint32_t) len;
        memcpy(op->data, buf, len); /* MSR numbers go in */
        r = call(p, vp);
        if (r == 0)
                memcpy(buf, op->data, len);
        return r;
}

static bool is_fpu(enum plane_class cls, size_t len) {
        return cls == PLANE_XSAVE && len == sizeof(struct kvm_xsave);
}

static int remote_get(void *ctx, unsigned vp, unsigned plane, enum plane_class cls, void *buf,
                      size_t len) {
        struct plane_remote *p = ctx;
        int r = len > VTL_OP_DATA_MAX ? -E2BIG : ask(p, vp, plane, cls, buf, len);

        if (r == 0 && is_fpu(cls, len)) {
                memcpy(&p->fpu[vp], buf, len);
                p->fpu_known[vp] = true;
        }
        return r;
}

/* KVM takes what it once gave, whatever is in XMM registers: a hypercall's results. */
static bool cannot_fail(const struct plane_remote *p, unsigned vp, enum plane_class cls,
                        const void *buf, size_t len) {
        return is_fpu(cls, len) && p->fpu_known[vp] && vtl_fpu_same_but_xmm(&p->fpu[vp], buf);
}

static int remote_set(void *ctx, unsigned vp, unsigned plane, enum plane_class cls, const void *buf,
                      size_t len) {
        struct plane_remote *p = ctx;
        struct vtl_op *op = begin(p, vp, VTL_OP_SET, plane);

        if (len > sizeof(op->data))
                return -E2BIG;
        op->arg = cls;
        op->len = (uint32_t) len;
        memcpy(op->data, buf, len);
        return cannot_fail(p, vp, cls, buf, len) ? post(p, vp) : call(p, vp);
}

static int remote_complete(void *ctx, unsigned vp, unsigned plane) {
        begin(ctx, vp, VTL_OP_COMPLETE, plane);
        return call(ctx, vp);
}

static int remote_probe(void *ctx, unsigned vp) {
        struct plane_remote *p = ctx;

        (void) begin(p, vp, VTL_OP_PROBE, 0);
        return call_for(p, vp, 1);
}

static int remote_unwind(void *ctx, unsigned vp, unsigned plane) {
        begin(ctx, vp, VTL_OP_UNWIND, plane);
        return call(ctx, vp);
}

static int remote_switch_to(void *ctx, unsigned vp, unsigned plane, unsigned flags) {
        begin(ctx, vp, VTL_OP_SWITCH, plane)->arg = flags;
        return call(ctx, vp);
}

static int remote_inject(void *ctx, unsigned vp, unsigned plane,
                         const struct plane_injection *inj) {
        struct vtl_op *op = begin(ctx, vp, VTL_OP_INJECT, plane);

        op->len = sizeof(*inj);
        memcpy(op->data, inj, sizeof(*inj));
        return inj->kind == PLANE_INJECT_INTERRUPT || inj->kind == PLANE_INJECT_MSI ? post(ctx, vp)
                                                                                    : call(ctx, vp);
}

static int remote_protect(void *ctx, unsigned vp, unsigned plane, const struct plane_range *r,
                          size_t n) {
        struct vtl_op *op = begin(ctx, vp, VTL_OP_PROTECT, plane);

        if (n > sizeof(op->data) / sizeof(*r))
                return -E2BIG;
        op->len = (uint32_t) (n * sizeof(*r));
        memcpy(op->data, r, op->len);
        return call(ctx, vp);
}

static int remote_overlay(void *ctx, unsigned vp, unsigned plane, uint64_t gpn, uint32_t page,
                          uint32_t access) {
        struct vtl_op *op = begin(ctx, vp, VTL_OP_OVERLAY, plane);

        op->gpn = gpn;
        op->arg = page;
        op->access = access;
        return call(ctx, vp);
}

static int remote_flush(void *ctx, unsigned vp, unsigned plane, uint64_t gpn) {
        begin(ctx, vp, VTL_OP_FLUSH, plane)->gpn = gpn;
        return call(ctx, vp);
}

static int filter(struct plane_remote *p, unsigned vp, enum vtl_op_code code, const void *bitmaps,
                  size_t size) {
        struct vtl_op *op = begin(p, vp, code, 0);

        op->len = (uint32_t) size;
        memcpy(op->data, bitmaps, size);
        return call(p, vp);
}

static int remote_filter_msrs(void *ctx, unsigned vp, const struct plane_msr_filter *f) {
        return filter(ctx, vp, VTL_OP_FILTER_MSRS, f, sizeof(*f));
}

static int remote_filter_ports(void *ctx, unsigned vp, const struct plane_port_filter *f) {
        return filter(ctx, vp, VTL_OP_FILTER_PORTS, f, sizeof(*f));
}

_Static_assert(sizeof(struct plane_msr_filter) <= VTL_OP_DATA_MAX &&
                       sizeof(struct plane_port_filter) <= VTL_OP_DATA_MAX,
               "filters fit an operation");

static int remote_state_put(void *ctx, unsigned vp, const void *buf, size_t len) {
        struct plane_remote *p = ctx;
        struct vtl_op *op = begin(p, vp, VTL_OP_STATE_PUT, 0);

        if (len > sizeof(op->data))
                return -E2BIG;
        op->len = (uint32_t) len;
        memcpy(op->data, buf, len);
        return call(p, vp);
}

static int remote_state_get(void *ctx, unsigned vp, void *buf, size_t len) {
        struct plane_remote *p = ctx;
        struct vtl_op *op = begin(p, vp, VTL_OP_STATE_GET, 0);
        int r;

        if (len > sizeof(op->data))
                return -E2BIG;
        op->len = (uint32_t) len;
        r = call(p, vp);
        if (r == 0)
                memcpy(buf, op->data, len);
        return r;
}
_Static_assert(PLANE_STATE_PIECE <= VTL_OP_DATA_MAX, "a piece fits an operation");

static int remote_kick(void *ctx, unsigned target) {
        struct plane_remote *p = ctx;

        if (target >= p->vps)
                return -EINVAL;
        /* One that was asked for and not yet taken is enough. */
        if (atomic_exchange(&vtl_control_vp(p->control, target)->kicked, 1))
                return 0;
        if (write(p->kick_fds[target], "", 1) < 0 && errno != EAGAIN)
                return -errno;
        return 0;
}

const struct plane_ops plane_remote_ops = {
        .get = remote_get,
        .set = remote_set,
        .complete = remote_complete,
        .unwind = remote_unwind,
        .probe = remote_probe,
        .switch_to = remote_switch_to,
        .inject = remote_inject,
        .protect = remote_protect,
        .overlay = remote_overlay,
        .flush = remote_flush,
        .filter_msrs = remote_filter_msrs,
        .filter_ports = remote_filter_ports,
        .state_put = remote_state_put,
        .state_get = remote_state_get,
        .kick = remote_kick,
};
