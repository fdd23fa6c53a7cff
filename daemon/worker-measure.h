/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The worker's part of measurement: digests what the engine finds, asks the broker whether it may
 * run, and tells it what else goes into the log.
 */

#include <pthread.h>

#include "daemon/worker-proto.h"
#include "policy/measure.h"
#include "vtl/measure.h"

struct worker_measure {
        int broker_fd;
        bool required; /* without an answer of the broker VTL1 does not run */
        uint64_t limit;
        struct measure *measure;
        uint64_t sequence; /* of the last message; under the partition's lock */
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool broker_lost;
        bool asking; /* @question has no answer yet */
        struct worker_record question;
        uint64_t answered; /* sequence of the question */
        bool allowed;
};

/* Before the sandbox: libcrypto is set up here. Return: 0 or a negative errno. */
int worker_measure_init(struct worker_measure *w, int broker_fd, uint64_t limit, bool required);

/* As vtl_config.measure, and, for the log, as vtl_config.event: under the partition's lock. */
int worker_measure(struct worker_measure *w, struct vtl_vp *vp, bool entry);
void worker_measure_event(struct worker_measure *w, const struct vtl_partition *p,
                          enum vtl_event what, unsigned vp, uint64_t data);

/* From the main thread: what the broker has answered, and that it is gone. */
void worker_measure_answer(struct worker_measure *w, uint64_t sequence, bool allowed);
void worker_measure_broker_lost(struct worker_measure *w);

/**
 * worker_measure_ask_again() - to a new broker, what the one before may have been asked
 *
 * Does not wait. Return: 0, also when nothing is asked; -EAGAIN when there is no room; or another
 * negative errno.
 */
int worker_measure_ask_again(struct worker_measure *w);
