/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/clock.h"
#include "vtl/engine.h"
#include "vtl/reference-time.h"
#include "vtl/stimer.h"
#include "vtl/synic.h"

#define CONFIG_ENABLE (1ull << 0)
#define CONFIG_PERIODIC (1ull << 1)
#define CONFIG_AUTO_ENABLE (1ull << 3)
#define CONFIG_VECTOR(c) ((uint8_t) ((c) >> 4 & 0xff))
#define CONFIG_DIRECT (1ull << 12)
#define CONFIG_SINT(c) ((unsigned) ((c) >> 16 & 0xf))
#define CONFIG_RESERVED 0xfffffffffff0e000ull /* 63:20, 15:13 */

static struct vtl_stimer *timer_of(struct vtl_vp *vp, unsigned vtl, uint32_t msr) {
        return &vp->vtl[vtl].synic.stimer[(msr - HV_MSR_STIMER0_CONFIG) / 2];
}

static bool is_count(uint32_t msr) {
        return (msr - HV_MSR_STIMER0_CONFIG) & 1;
}

uint64_t vtl_stimer_read(const struct vtl_vp *vp, unsigned vtl, uint32_t msr) {
        const struct vtl_stimer *t = timer_of((struct vtl_vp *) vp, vtl, msr);

        return is_count(msr) ? t->count : t->config;
}

/* A one-shot's count is a time, a periodic one's an interval. */
static void arm(struct vtl_vp *vp, struct vtl_stimer *t) {
        t->due = VTL_CLOCK_NEVER;
        t->message_pending = false;
        if (!(t->config & CONFIG_ENABLE) || t->count == 0)
                return;
        if (t->config & CONFIG_PERIODIC)
                t->due = vtl_reference_time(vp->partition) + t->count;
        else
                t->due = t->count;
}

bool vtl_stimer_write(struct vtl_vp *vp, unsigned vtl, uint32_t msr, uint64_t value) {
        struct vtl_stimer *t = timer_of(vp, vtl, msr);

        if (is_count(msr)) {
                t->count = value;
                if (value == 0)
                        t->config &= ~CONFIG_ENABLE;
                else if (t->config & CONFIG_AUTO_ENABLE)
                        t->config |= CONFIG_ENABLE;
        } else {
                if (value & CONFIG_RESERVED)
                        return false;
                /* Nowhere to signal: not enabled. */
                if (!(value & CONFIG_DIRECT) && CONFIG_SINT(value) == 0)
                        value &= ~CONFIG_ENABLE;
                t->config = value;
        }
        arm(vp, t);
        return true;
}

/* Return: 1 when the guest has been told, 0 when its slot is busy, or a negative errno. */
static int signal_expiry(struct vtl_vp *vp, unsigned vtl, unsigned index, struct vtl_stimer *t,
                         uint64_t now) {
        struct hv_timer_message_payload payload = {
                .timer_index = index,
                .expiration_time = t->expired_at,
                .delivery_time = now,
        };
        struct hv_message message = { .message_type = HV_MESSAGE_TIMER_EXPIRED,
                                      .payload_size = sizeof(payload) };
        int r;

        if (t->config & CONFIG_DIRECT) {
                r = vtl_assert_interrupt(vp, vtl, CONFIG_VECTOR(t->config), false);
                return r < 0 ? r : 1;
        }
        memcpy(message.payload, &payload, sizeof(payload));
        return vtl_synic_post(vp, vtl, CONFIG_SINT(t->config), &message);
}

static int expire(struct vtl_vp *vp, unsigned vtl, unsigned index, uint64_t now) {
        struct vtl_stimer *t = &vp->vtl[vtl].synic.stimer[index];
        int r;

        if (t->due <= now) {
                t->expired_at = t->due;
                t->message_pending = true;
                if (t->config & CONFIG_PERIODIC) {
                        /* What was missed is not made up for: the next one is in the future. */
                        uint64_t missed = t->count ? (now - t->due) / t->count : 0;

                        t->due += (missed + 1) * t->count;
                } else {
                        t->due = VTL_CLOCK_NEVER;
                        t->config &= ~CONFIG_ENABLE;
                }
        }
        if (!t->message_pending)
                return 0;
        r = signal_expiry(vp, vtl, index, t, now);
        if (r > 0)
                t->message_pending = false;
        return MIN(r, 0);
}

int vtl_stimers_expire(struct vtl_vp *vp, uint64_t now) {
        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++)
                for (unsigned i = 0; i < VTL_STIMERS; i++) {
                        int r = expire(vp, vtl, i, now);

                        if (r < 0)
                                return r;
                }
        return 0;
}

/* A message that waits for its slot has no time: EOM brings it on. */
uint64_t vtl_stimers_next(const struct vtl_vp *vp) {
        uint64_t next = VTL_CLOCK_NEVER;

        for (unsigned vtl = 0; vtl < VTL_MAX_VTLS; vtl++)
                for (unsigned i = 0; i < VTL_STIMERS; i++)
                        next = MIN(next, vp->vtl[vtl].synic.stimer[i].due);
        return next;
}
