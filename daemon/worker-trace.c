/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/worker-trace.h"
#include "util/util.h"
#include "vtl/trace.h"

void worker_trace_renew(struct worker_trace *t) {
        t->until = monotonic_ns() + WORKER_TRACE_LEASE_NS;
        atomic_store(&t->header->tracing, 1);
}

int worker_trace_work(struct worker_trace *t) {
        uint64_t now;

        if (t->until == 0)
                return -1;
        now = monotonic_ns();
        if (now < t->until)
                return (int) ((t->until - now) / 1000000) + 1;
        t->until = 0;
        atomic_store(&t->header->tracing, 0);
        return -1;
}
