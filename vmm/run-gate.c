/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a VP waits at: the gate, by which the engine keeps VPs out of the guest (vtl/hold.h), and
 * until it is kicked.
 */

#define _GNU_SOURCE
#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/run.h"

#define GATE_POLL_NS 10000000

int vtlvmm_gate_poll(struct vtlvmm_vcpu *c, long ns) {
        struct pollfd p = { .fd = c->kick_read, .events = POLLIN };
        const struct timespec timeout = { .tv_nsec = ns };

        if (atomic_load(&c->vtlvmm->dead))
                return -EOWNERDEAD;
        if (c->vp->plane[0].run->immediate_exit)
                return -EINTR;
        return ppoll(&p, 1, &timeout, &c->wait_mask) < 0 ? -errno : 0;
}

static void set_gate(struct vtl_control_vp *ctl, enum vtl_gate state) {
        atomic_store(&ctl->in_guest, state);
        if (state != VTL_GATE_IN_GUEST && atomic_load(&ctl->hold))
                (void) syscall(SYS_futex, &ctl->in_guest, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* Either this sees that somebody holds the VP, or who wants to hold it sees this. */
static bool enter(struct vtl_control_vp *ctl, enum vtl_gate otherwise) {
        set_gate(ctl, VTL_GATE_IN_GUEST);
        if (!atomic_load(&ctl->hold))
                return true;
        set_gate(ctl, otherwise);
        return false;
}

bool vtlvmm_gate_try(struct vtlvmm_vcpu *c) {
        return enter(c->vp->ctl, VTL_GATE_OUTSIDE);
}

int vtlvmm_gate_enter(struct vtlvmm_vcpu *c) {
        struct vtl_control_vp *ctl = c->vp->ctl;
        int r = 0;

        while (r == 0) {
                if (enter(ctl, VTL_GATE_WAITS))
                        return 1;
                if (atomic_load(&ctl->kicked))
                        break;
                if (atomic_load(&ctl->hold))
                        r = vtlvmm_gate_poll(c, GATE_POLL_NS);
        }
        set_gate(ctl, VTL_GATE_OUTSIDE);
        return r;
}

void vtlvmm_gate_leave(struct vtlvmm_vcpu *c) {
        set_gate(c->vp->ctl, VTL_GATE_OUTSIDE);
}
