/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * VINA (vsm.md 7.3): nobody says when KVM has got an interrupt for VTL0. So the VP's thread looks
 * from time to time while VTL1 runs, and the engine hears of it only when there is one.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <time.h>

#include "util/util.h"
#include "vmm/run.h"
#include "vtl/hvpage.h"

/* VTL1 runs for so many times as long as a look has kept it out, but for no longer than that. */
#define LOOK_SHARE 4u
#define LOOK_NS_MAX UINT64_C(20000000)

static uint64_t interval(const struct vtlvmm_vcpu *c) {
        return MAX(c->vtlvmm->vina_poll_us * UINT64_C(1000),
                   MIN(c->look_ns * LOOK_SHARE, LOOK_NS_MAX));
}

/*
 * Armed before VTL1 is entered and left to expire: one expiry in VTL0 is cheaper than disarming at
 * every return. An exit in between does not put the look off.
 */
int vtlvmm_vina_arm(struct vtlvmm_vcpu *c) {
        struct itimerspec at = { 0 };

        if (c->ticking)
                return 0;
        if (c->look_at == 0)
                c->look_at = monotonic_ns() + interval(c);
        at.it_value.tv_sec = (time_t) (c->look_at / 1000000000u);
        at.it_value.tv_nsec = (long) (c->look_at % 1000000000u);
        if (timer_settime(c->tick, TIMER_ABSTIME, &at, NULL) < 0)
                return -errno;
        c->ticking = true;
        return 0;
}

void vtlvmm_vina_begin(struct vtlvmm_vcpu *c) {
        c->look_at = 0;
}

/* VTL1 has been told, and has neither returned nor asked to be told again. */
static bool is_asserted(const struct vtlvmm_vcpu *c) {
        size_t page = vtl_overlay_page(VTL_OVERLAY_ASSIST, c->index, 1);
        const struct hv_vp_assist_page *assist = (const void *) (c->vtlvmm->overlay + page * 4096);

        return __atomic_load_n(&assist->vtl_control.vina_status, __ATOMIC_ACQUIRE) & 1;
}

/* As an entry of VTL0: who keeps this VP out of the guest does so with its vCPUs, too. */
static int probe(struct vtlvmm_vcpu *c) {
        int r;

        if (!vtlvmm_gate_try(c))
                return VTL_LOOK_NOT_TAKEN;
        r = plane_stock_ops.probe(&c->vtlvmm->planes, c->index);
        vtlvmm_gate_leave(c);
        return r < 0 ? r : r > 0 ? VTL_LOOK_INTERRUPT : VTL_LOOK_NOTHING;
}

int vtlvmm_vina_look(struct vtlvmm_vcpu *c) {
        uint64_t began = monotonic_ns(), now = began;
        int r = VTL_LOOK_NOTHING;

        if (!is_asserted(c)) {
                r = probe(c);
                now = monotonic_ns();
                if (r != VTL_LOOK_NOT_TAKEN)
                        c->look_ns = now - began;
        }
        c->look_at = now + interval(c);
        c->ticking = false; /* a probe may have taken the timer's signal */
        return r < 0 ? vtlvmm_fail(c->vtlvmm, r, "whether VTL0 has an interrupt is unknown: %s",
                                   strerror(-r))
                     : r;
}
