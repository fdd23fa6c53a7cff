/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target: what the broker takes from memory that a VMM writes to, and from a worker that may
 * be its guest's. The first byte chooses: even, records of a trace, after a position to read from
 * and the one that the writer is at; odd, an answer about protections, after the page asked for.
 */

#include <stdlib.h>
#include <string.h>

#include "daemon/worker-map.h"
#include "util/util.h"
#include "vtl/probes.h"
#include "vtl/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
        if (!condition)
                abort();
}

static uint64_t take(const uint8_t **data, size_t *size) {
        uint64_t v = 0;
        size_t n = MIN(*size, sizeof(v));

        memcpy(&v, *data, n);
        *data += n;
        *size -= n;
        return v;
}

static void check_event(const struct vtl_trace_event *e, uint64_t *last) {
        require(e->kind > VTL_TRACE_NONE && e->kind < _VTL_TRACE_KIND_MAX);
        require(e->from <= 1 && e->to <= 1);
        require(e->time >= *last && e->time != 0);
        *last = e->time;
        /* What formatters look up without asking */
        if (e->kind == VTL_TRACE_SWITCH)
                require(string_table_name(&vtl_trace_reason_table, e->detail & 0xff) &&
                        e->from != e->to);
        else if (e->kind == VTL_TRACE_HYPERCALL)
                require(string_table_name(&vtl_trace_outcome_table, e->detail));
        else if (e->kind == VTL_TRACE_INTERCEPT)
                require(string_table_name(&vtl_trace_intercept_table, e->detail & 0xff) &&
                        string_table_name(&vtl_trace_access_table, e->detail >> 8));
        else
                require(e->detail <= 0xff);
}

static void fuzz_ring(const uint8_t *data, size_t size) {
        static struct vtl_trace_event events[64];
        static struct vtl_trace_ring ring;
        uint64_t position = take(&data, &size), end = take(&data, &size), last = 0;
        struct vtl_trace_result r;
        size_t room = MIN(size, sizeof(ring.records));

        memset(&ring, 0, sizeof(ring));
        atomic_store(&ring.next, end);
        memcpy(ring.records, data, room);
        r = vtl_trace_read(&ring, position, events, ARRAY_SIZE(events));
        require(r.n <= ARRAY_SIZE(events));
        require(position >= end ? r.next == end && r.n + r.lost + r.rejected == 0
                                : r.next > position && r.next <= end &&
                                          r.n + r.lost + r.rejected == r.next - position);
        for (size_t i = 0; i < r.n; i++)
                check_event(&events[i], &last);
}

static void fuzz_map(const uint8_t *data, size_t size) {
        static struct worker_map m;
        uint64_t gpn = take(&data, &size), end = gpn;

        memset(&m, 0, sizeof(m));
        size = MIN(size, sizeof(m));
        memcpy(&m, data, size);
        if (!worker_map_valid(&m, size, gpn))
                return;
        require(m.n <= WORKER_MAP_RUNS_MAX && (m.error == 0 || m.n == 0));
        for (uint32_t i = 0; i < m.n; i++) {
                require(m.runs[i].gpn >= end && m.runs[i].count > 0 && m.runs[i].mask <= 0xf);
                end = m.runs[i].gpn + m.runs[i].count;
                require(end <= 1ull << 40);
        }
        require(m.error != 0 || (m.next >= end && m.next > gpn));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        if (data[0] & 1)
                fuzz_map(data + 1, size - 1);
        else
                fuzz_ring(data + 1, size - 1);
        return 0;
}
