/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Whether the traces of a partition are written (vtl/trace.h): for a few seconds after the broker
 * last said that somebody reads them, so that a reader that is gone costs nothing.
 */

#include <stdint.h>

#include "vtl/control.h"

#define WORKER_TRACE_LEASE_NS UINT64_C(5000000000)

struct worker_trace {
        struct vtl_control_header *header;
        uint64_t until; /* CLOCK_MONOTONIC, ns; 0: they are not */
};

/* WORKER_TRACE has come. */
void worker_trace_renew(struct worker_trace *t);

/* Ends what is over. Return: in how many milliseconds to call again, -1: not before renewal. */
int worker_trace_work(struct worker_trace *t);
