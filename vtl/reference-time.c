/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/reference-time.h"

#define MSR_TSC 0x10
/* The quickest of some readings is the most exact. */
#define SAMPLES 4

static uint64_t monotonic_100ns(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
        return (uint64_t) ts.tv_sec * 10000000 + (uint64_t) ts.tv_nsec / 100;
}

uint64_t vtl_host_time(const struct vtl_partition *p) {
        if (p->paused)
                return p->paused_100ns;
        return p->config.clock_ns ? p->config.clock_ns(p->config.userdata) / 100
                                  : monotonic_100ns();
}

static uint64_t host_tsc(const struct vtl_partition *p) {
        const struct vtl_config *c = &p->config;

        if (!c->clock_ns)
                return __builtin_ia32_rdtsc();
        return (uint64_t) ((unsigned __int128) c->clock_ns(c->userdata) * c->tsc_khz / 1000000);
}

int vtl_tsc_learn(struct vtl_partition *p, unsigned plane) {
        uint64_t best = UINT64_MAX;

        for (unsigned i = 0; i < SAMPLES; i++) {
                struct plane_msr tsc = { .index = MSR_TSC };
                uint64_t before = host_tsc(p), took;
                int r = vtl_op(p, get, plane, PLANE_MSRS, &tsc, sizeof(tsc));

                if (r < 0)
                        return r;
                took = host_tsc(p) - before;
                if (took < best) {
                        best = took;
                        p->tsc_delta = tsc.value - (before + took / 2);
                }
        }
        return 0;
}

uint64_t vtl_tsc_now(const struct vtl_partition *p) {
        return host_tsc(p) + p->tsc_delta;
}

uint64_t vtl_tsc_time(const struct vtl_partition *p, uint64_t tsc) {
        return (uint64_t) (((unsigned __int128) tsc * p->tsc_scale) >> 64);
}

uint64_t vtl_reference_time_of(const struct vtl_partition *p, uint64_t tsc) {
        return vtl_tsc_time(p, tsc) + (uint64_t) p->tsc_offset;
}

uint64_t vtl_reference_time(const struct vtl_partition *p) {
        if (p->tsc_known)
                return vtl_reference_time_of(p, vtl_tsc_now(p));
        return vtl_host_time(p) - p->epoch_100ns;
}
