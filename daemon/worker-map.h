/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The protections of a partition, for the broker: asked by WORKER_GET_MAP, answered by WORKER_MAP.
 * The worker's main thread looks at the map under the partition's lock, a piece at a time, and
 * never waits long for that lock: who holds it may be waiting for this thread to hand on the
 * broker's word about a measurement.
 */

#include <stdbool.h>
#include <stddef.h>

#include "daemon/worker-proto.h"
#include "vtl/partition.h"

struct worker_map_task {
        struct vtl_partition *partition;
        int broker_fd;
        bool asked;
        bool complete;     /* the answer is, but could not be sent yet */
        uint64_t deadline; /* CLOCK_MONOTONIC, ns */
        unsigned pieces;
        struct worker_map answer;
};

/* A question of the broker's; takes the place of one that is not answered yet. */
void worker_map_ask(struct worker_map_task *t, const struct worker_notice *question);

/**
 * worker_map_work() - a piece of the work, if there is any
 *
 * Return: in how many milliseconds it wants to be called again, -1: not before the next question.
 */
int worker_map_work(struct worker_map_task *t);

/**
 * worker_map_valid() - whether an answer, @len bytes of it, can be one to the question for @gpn
 *
 * Runs of RAM in ascending order from @gpn on, none twice, with masks that there are; and next,
 * which is behind them and @gpn, so that who goes on there comes to an end.
 */
bool worker_map_valid(const struct worker_map *m, size_t len, uint64_t gpn);
