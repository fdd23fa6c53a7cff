/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Inside the stock backend: what its files call of each other. */

#include <errno.h>
#include <sys/ioctl.h>

#include "vtl/plane-stock.h"

static inline int stock_vcpu_ioctl(struct stock_vp *vp, unsigned plane, unsigned long request,
                                   void *arg) {
        vp->ctl->stats.vcpu_ioctls++;
        return ioctl(vp->plane[plane].fd, request, arg) < 0 ? -errno : 0;
}

/* In the kvm_run page: as of the plane's last exit, or what goes in at its next entry. */
static inline struct kvm_regs *stock_regs(struct stock_vp *vp, unsigned plane) {
        return &vp->plane[plane].run->s.regs.regs;
}
static inline struct kvm_sregs *stock_sregs(struct stock_vp *vp, unsigned plane) {
        return &vp->plane[plane].run->s.regs.sregs;
}

/* plane-stock-memory.c */
int stock_protect(void *ctx, unsigned vp, unsigned plane, const struct plane_range *ranges,
                  size_t n);
int stock_overlay(void *ctx, unsigned vp, unsigned plane, uint64_t gpn, uint32_t page,
                  uint32_t access);
int stock_flush(void *ctx, unsigned vp, unsigned plane, uint64_t gpn);

/* plane-stock-switch.c */
int stock_switch_to(void *ctx, unsigned vp_index, unsigned to, unsigned flags);
