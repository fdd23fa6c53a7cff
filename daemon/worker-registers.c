/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <sys/socket.h>

#include "daemon/worker-registers.h"
#include "util/seqpacket.h"
#include "util/util.h"
#include "vtl/trace.h"

#define RETRY_MS 2

/* Return: the lock is held. One that is kept for long is waited for on the next call. */
static bool lock(struct worker_registers_task *t) {
        return vtl_partition_lock_for(t->partition, WORKER_LOCK_NS) == 0;
}

void worker_registers_ask(struct worker_registers_task *t, const struct worker_notice *question) {
        /* The broker has given up on the question before. */
        if (t->asked && !t->complete) {
                if (!lock(t))
                        return; /* and will do so on this one */
                vtl_inspect_cancel(t->partition, &t->inspection);
                (void) pthread_mutex_unlock(&t->partition->lock);
        }
        t->asked = true;
        t->complete = false;
        t->deadline = monotonic_ns() + WORKER_ANSWER_NS;
        t->inspection = (struct vtl_inspection){ .vp = question->vp, .vtl = question->what };
        t->answer = (struct worker_registers){ .type = WORKER_REGISTERS, .token = question->data };
}

static void look(struct worker_registers_task *t) {
        bool late = monotonic_ns() >= t->deadline;
        int r;

        if (!lock(t))
                return;
        r = late ? -EAGAIN : vtl_inspect(t->partition, &t->inspection);
        if (r == -EAGAIN && late) {
                vtl_inspect_cancel(t->partition, &t->inspection);
                r = -EBUSY;
        }
        (void) pthread_mutex_unlock(&t->partition->lock);
        if (r == -EAGAIN)
                return;
        t->complete = true;
        t->answer.error = r;
        if (r == 0) {
                t->answer.n = vtl_inspect_count;
                memcpy(t->answer.values, t->inspection.values, sizeof(t->answer.values));
        }
}

int worker_registers_work(struct worker_registers_task *t) {
        if (!t->asked)
                return -1;
        if (!t->complete)
                look(t);
        if (!t->complete)
                return RETRY_MS;
        if (seqpacket_send(t->broker_fd, &t->answer, sizeof(t->answer), NULL, 0, MSG_DONTWAIT) ==
                    -EAGAIN &&
            monotonic_ns() < t->deadline)
                return RETRY_MS;
        t->asked = false;
        return -1;
}

bool worker_registers_valid(const struct worker_registers *r) {
        if (r->error)
                return r->n == 0 && r->error < 0 && r->error > -4096;
        return r->n == vtl_inspect_count;
}
