/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <sys/socket.h>

#include "daemon/worker-map.h"
#include "util/log.h"
#include "util/seqpacket.h"
#include "util/util.h"
#include "vtl/protect.h"
#include "vtl/trace.h"

/* 2 GiB at a time: a microsecond or two where pages are alike, milliseconds where each is
 * different. */
#define PIECE_PAGES (UINT64_C(1) << 19)
#define PIECES_MAX 64u /* of one answer */

#define RETRY_MS 5

/* Return: 1 when there is no room for it. */
static int add_run(void *userdata, uint64_t gpn, uint64_t count, unsigned rights) {
        struct worker_map *m = userdata;
        struct worker_map_run *last = m->n > 0 ? &m->runs[m->n - 1] : NULL;

        if (last && last->gpn + last->count == gpn && last->mask == rights)
                last->count += count;
        else if (m->n == WORKER_MAP_RUNS_MAX)
                return 1;
        else
                m->runs[m->n++] =
                        (struct worker_map_run){ .gpn = gpn, .count = count, .mask = rights };
        m->next = gpn + count;
        return 0;
}

/* True when the answer is complete. */
static bool add_piece(struct worker_map *m, const struct protect_map *map) {
        uint64_t end;

        m->next = protect_next_ram(map, m->next);
        if (m->next == UINT64_MAX)
                return true;
        end = m->next + PIECE_PAGES;
        if (protect_runs(map, m->next, PIECE_PAGES, HV_MAP_GPA_ALL, add_run, m) != 0)
                return true;
        m->next = protect_next_ram(map, end);
        return m->next == UINT64_MAX;
}

void worker_map_ask(struct worker_map_task *t, const struct worker_notice *question) {
        t->asked = true;
        t->complete = false;
        t->pieces = 0;
        t->deadline = monotonic_ns() + WORKER_ANSWER_NS;
        t->answer.type = WORKER_MAP;
        t->answer.n = 0;
        t->answer.error = 0;
        t->answer.token = question->data;
        t->answer.next = question->gpa;
}

/* False: it is to be tried again. */
static bool send_answer(struct worker_map_task *t) {
        struct worker_map *m = &t->answer;
        size_t len = offsetof(struct worker_map, runs) + m->n * sizeof(m->runs[0]);

        return seqpacket_send(t->broker_fd, m, len, NULL, 0, MSG_DONTWAIT) != -EAGAIN;
}

int worker_map_work(struct worker_map_task *t) {
        bool late;

        if (!t->asked)
                return -1;
        late = monotonic_ns() >= t->deadline;
        if (!t->complete && late) {
                t->answer.error = -EBUSY;
                t->answer.n = 0;
                t->complete = true;
        }
        if (!t->complete) {
                if (vtl_partition_lock_for(t->partition, WORKER_LOCK_NS) < 0)
                        return RETRY_MS;
                t->complete =
                        add_piece(&t->answer, t->partition->protect) || ++t->pieces == PIECES_MAX;
                (void) pthread_mutex_unlock(&t->partition->lock);
        }
        if (!t->complete)
                return 0;
        if (!send_answer(t) && !late)
                return RETRY_MS;
        t->asked = false;
        return -1;
}

bool worker_map_valid(const struct worker_map *m, size_t len, uint64_t gpn) {
        uint64_t end = gpn;

        if (len < offsetof(struct worker_map, runs) || m->n > WORKER_MAP_RUNS_MAX ||
            len != offsetof(struct worker_map, runs) + m->n * sizeof(m->runs[0]))
                return false;
        if (m->error)
                return m->n == 0 && m->error < 0 && m->error > -4096;
        for (uint32_t i = 0; i < m->n; i++) {
                const struct worker_map_run *r = &m->runs[i];

                if (r->gpn < end || r->gpn >= HV_GPNS_END || r->count == 0 ||
                    r->count > HV_GPNS_END - r->gpn || (r->mask & ~(uint32_t) HV_MAP_GPA_ALL))
                        return false;
                end = r->gpn + r->count;
        }
        return m->next >= end && m->next > gpn && (m->next < HV_GPNS_END || m->next == UINT64_MAX);
}
