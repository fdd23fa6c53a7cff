/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "daemon/worker-measure.h"
#include "daemon/worker-proto.h"
#include "hvcall/wire.h"
#include "util/log.h"
#include "util/seqpacket.h"
#include "util/util.h"

/* A broker that does not answer for so long is as good as gone. */
#define ANSWER_SECONDS 30

_Static_assert(VTL_MEASURE_WRITABLE == MEASURE_PAGE_WRITABLE &&
                       VTL_MEASURE_USER == MEASURE_PAGE_USER && HV_PAGE_SIZE == MEASURE_PAGE_SIZE &&
                       sizeof(struct hv_initial_vp_context) == MEASURE_CONTEXT_SIZE,
               "the engine's words are those of the encoding");

int worker_measure_init(struct worker_measure *w, int broker_fd, uint64_t limit, bool required) {
        char error[CONF_ERROR_SIZE] = "";
        pthread_condattr_t attr;
        int r;

        *w = (struct worker_measure){ .broker_fd = broker_fd,
                                      .limit = limit,
                                      .required = required };
        r = measure_new(&w->measure, error);
        if (r < 0) {
                log_error("%s", error);
                return r;
        }
        (void) pthread_mutex_init(&w->lock, NULL);
        (void) pthread_condattr_init(&attr);
        (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void) pthread_cond_init(&w->changed, &attr);
        (void) pthread_condattr_destroy(&attr);
        return 0;
}

/* ---- Records ---- */

void worker_measure_event(struct worker_measure *w, const struct vtl_partition *p,
                          enum vtl_event what, unsigned vp, uint64_t data) {
        struct worker_record r = { .type = WORKER_RECORD, .vp = vp, .data = { data } };

        switch (what) {
        case VTL_EVENT_PARTITION_VTL_ENABLED:
                r.event = MEASURE_PARTITION_ENABLED;
                r.data[1] = p->mbec ? HV_ENABLE_PARTITION_VTL_MBEC : 0;
                break;
        case VTL_EVENT_VP_VTL_ENABLED:
                r.event = MEASURE_VP_ENABLED;
                (void) measure_context(w->measure, (const uint8_t *) &p->vps[vp].context, r.digest);
                break;
        case VTL_EVENT_CONFIG:
                r.event = MEASURE_CONFIG;
                break;
        default:
                return;
        }
        /* Not sent, it is missed by its number. */
        r.sequence = ++w->sequence;
        (void) seqpacket_send(w->broker_fd, &r, sizeof(r), NULL, 0, MSG_DONTWAIT);
}

/* ---- Measurements ---- */

struct counted {
        struct measure *measure;
        uint64_t bytes;
};

static int on_page(void *userdata, uint64_t gva, uint32_t flags, const uint8_t page[HV_PAGE_SIZE]) {
        struct counted *c = userdata;

        c->bytes += HV_PAGE_SIZE;
        return measure_page(c->measure, gva, flags, page);
}

static int digest(struct worker_measure *w, const struct vtl_vp *vp, struct worker_record *ret) {
        struct counted counted = { .measure = w->measure };
        int r;

        r = measure_begin(w->measure, (const uint8_t *) &vp->context);
        if (r == 0)
                r = vtl_measure_pages(vp->partition, &vp->context, w->limit, on_page, &counted);
        if (r == -E2BIG) {
                ret->flags |= WORKER_MEASURED_UNBOUNDED;
                return 0;
        }
        if (r == 0)
                r = measure_end(w->measure, ret->digest);
        ret->data[0] = counted.bytes;
        return r;
}

static void deadline(struct timespec *ret) {
        (void) clock_gettime(CLOCK_MONOTONIC, ret);
        ret->tv_sec += ANSWER_SECONDS;
}

/* From here on until the answer, another broker is asked again. */
static void begin_question(struct worker_measure *w, const struct worker_record *q) {
        (void) pthread_mutex_lock(&w->lock);
        w->question = *q;
        w->asking = true;
        (void) pthread_mutex_unlock(&w->lock);
}

static void end_question(struct worker_measure *w) {
        (void) pthread_mutex_lock(&w->lock);
        w->asking = false;
        (void) pthread_mutex_unlock(&w->lock);
}

/* Without a broker there may be no room, until there is another one. */
static int send_question(struct worker_measure *w, const struct worker_record *q,
                         const struct timespec *until) {
        struct pollfd p = { .fd = w->broker_fd, .events = POLLOUT };
        struct timespec now, left = { 0 };
        int r;

        r = seqpacket_send(w->broker_fd, q, sizeof(*q), NULL, 0, MSG_DONTWAIT);
        if (r != -EAGAIN)
                return r;
        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        left.tv_sec = MAX(until->tv_sec - now.tv_sec, 0);
        if (ppoll(&p, 1, &left, NULL) <= 0)
                return -ETIMEDOUT;
        return seqpacket_send(w->broker_fd, q, sizeof(*q), NULL, 0, MSG_DONTWAIT);
}

/* 1: it may, 0: it may not, negative: nobody says */
static int wait_for_answer(struct worker_measure *w, uint64_t sequence,
                           const struct timespec *until) {
        int r = 0;

        (void) pthread_mutex_lock(&w->lock);
        while (!w->broker_lost && w->answered < sequence && r == 0)
                r = -pthread_cond_timedwait(&w->changed, &w->lock, until);
        if (w->answered == sequence)
                r = w->allowed;
        else if (r == 0)
                r = -ECONNRESET;
        (void) pthread_mutex_unlock(&w->lock);
        return r;
}

/* The same, negative when there is no broker */
static int ask(struct worker_measure *w, const struct worker_record *q) {
        struct timespec until;
        int r;

        deadline(&until);
        begin_question(w, q);
        r = send_question(w, q, &until);
        /* No room just then: a new broker may ask for it all the same, and answer. */
        if (r >= 0 || r == -EAGAIN)
                r = wait_for_answer(w, q->sequence, &until);
        end_question(w);
        return r;
}

int worker_measure(struct worker_measure *w, struct vtl_vp *vp, bool entry) {
        struct worker_record q = { .type = WORKER_MEASURED,
                                   .flags = entry ? WORKER_MEASURED_ENTRY : 0,
                                   .vp = vp->index };
        bool lost;
        int r;

        (void) pthread_mutex_lock(&w->lock);
        lost = w->broker_lost;
        (void) pthread_mutex_unlock(&w->lock);
        r = lost ? -ECONNRESET : digest(w, vp, &q);
        if (!lost && r < 0)
                return r;
        if (r >= 0) {
                q.sequence = ++w->sequence;
                r = ask(w, &q);
        }
        if (r >= 0)
                return !r;
        log_warning("vtld does not say whether VTL1 may run (%s): %s", strerror(-r),
                    w->required ? "it is refused" : "no measurement is required, it may");
        return w->required;
}

void worker_measure_answer(struct worker_measure *w, uint64_t sequence, bool allowed) {
        (void) pthread_mutex_lock(&w->lock);
        if (sequence > w->answered) { /* what was asked twice is answered twice */
                w->answered = sequence;
                w->allowed = allowed;
        }
        (void) pthread_cond_broadcast(&w->changed);
        (void) pthread_mutex_unlock(&w->lock);
}

void worker_measure_broker_lost(struct worker_measure *w) {
        (void) pthread_mutex_lock(&w->lock);
        w->broker_lost = true;
        (void) pthread_cond_broadcast(&w->changed);
        (void) pthread_mutex_unlock(&w->lock);
}

int worker_measure_ask_again(struct worker_measure *w) {
        struct worker_record q;
        bool asking;

        (void) pthread_mutex_lock(&w->lock);
        asking = w->asking && w->answered < w->question.sequence;
        q = w->question;
        (void) pthread_mutex_unlock(&w->lock);
        return asking ? seqpacket_send(w->broker_fd, &q, sizeof(q), NULL, 0, MSG_DONTWAIT) : 0;
}
