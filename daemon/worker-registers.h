/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The registers of a VP, for the broker: asked by WORKER_GET_REGISTERS, answered by
 * WORKER_REGISTERS. The worker's main thread has the VP's own thread look, and never waits for it,
 * nor long for the partition's lock, as in worker-map.h.
 */

#include <stdbool.h>

#include "daemon/worker-proto.h"
#include "vtl/inspect.h"

struct worker_registers_task {
        struct vtl_partition *partition;
        int broker_fd;
        bool asked;
        bool complete;     /* the answer is, but could not be sent yet */
        uint64_t deadline; /* CLOCK_MONOTONIC, ns */
        struct vtl_inspection inspection;
        struct worker_registers answer;
};

/* A question of the broker's; takes the place of one that is not answered yet. */
void worker_registers_ask(struct worker_registers_task *t, const struct worker_notice *question);

/**
 * worker_registers_work() - look, if it was asked
 *
 * Return: in how many milliseconds it wants to be called again, -1: not before the next question.
 */
int worker_registers_work(struct worker_registers_task *t);

/* Whether an answer of the right size can be one: all registers, or none and an error */
bool worker_registers_valid(const struct worker_registers *r);
