/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bus-ask.h"
#include "daemon/worker-proto.h"
#include "util/util.h"

#define WAITING_MAX 8u
#define ANSWER_USEC (UINT64_C(8) * 1000 * 1000)
_Static_assert(ANSWER_USEC * 1000 > WORKER_ANSWER_NS, "the worker gives up before");

static struct bus_question *question_free(struct bus_question *q) {
        (void) sd_bus_message_unref(q->message);
        free(q);
        return NULL;
}

static const struct {
        int error;
        const char *name, *text;
} errors[] = {
        { -EBADMSG, SD_BUS_ERROR_FAILED, "The worker's answer makes no sense." },
        { -EBUSY, BUS_ERROR_BUSY, "The VM is too busy to be looked at." },
        { -ENODATA, BUS_ERROR_NO_SUCH_VTL, "That VTL is not enabled on this virtual processor." },
        { -ESRCH, BUS_ERROR_NOT_RUNNING, "The VM has no worker any more." },
        { -ETIMEDOUT, SD_BUS_ERROR_TIMEOUT, "The worker does not answer." },
};

/* To the one who has waited longest */
static void finish(struct partition *p, sd_bus_message *reply, int error) {
        struct bus_question *q = STAILQ_FIRST(&p->questions.waiting);
        const char *name = SD_BUS_ERROR_FAILED, *text = "The worker cannot answer.";
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
                if (errors[i].error == error) {
                        name = errors[i].name;
                        text = errors[i].text;
                }
        STAILQ_REMOVE_HEAD(&p->questions.waiting, list);
        p->questions.n_waiting--;
        r = reply ? sd_bus_send(NULL, reply, NULL)
                  : sd_bus_reply_method_errorf(q->message, name, "%s", text);
        if (r < 0)
                log_debug("VM %s: nobody is told what its worker answered: %s", p->uuid_text,
                          strerror(-r));
        (void) question_free(q);
}

static void ask_next(struct partition *p);

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        struct partition *p = userdata;

        finish(p, NULL, -ETIMEDOUT);
        ask_next(p);
        return 0;
}

static int arm(struct partition *p) {
        int r;

        if (!p->questions.timer)
                return sd_event_add_time_relative(p->broker->event, &p->questions.timer,
                                                  CLOCK_MONOTONIC, ANSWER_USEC, 0, on_timeout, p);
        r = sd_event_source_set_time_relative(p->questions.timer, ANSWER_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(p->questions.timer, SD_EVENT_ONESHOT);
}

/* The question of the one who has waited longest goes to the worker. */
static void ask_next(struct partition *p) {
        if (p->questions.timer)
                (void) sd_event_source_set_enabled(p->questions.timer, SD_EVENT_OFF);
        while (!STAILQ_EMPTY(&p->questions.waiting)) {
                const struct bus_question *q = STAILQ_FIRST(&p->questions.waiting);
                int r = p->worker ? q->send(p->worker, ++p->questions.token, q) : -ESRCH;

                if (r >= 0)
                        r = arm(p);
                if (r >= 0)
                        return;
                finish(p, NULL, r);
        }
}

int bus_ask(struct partition *p, sd_bus_message *m, const struct bus_question *question,
            sd_bus_error *error) {
        struct bus_question *q;

        if (!p->worker || p->state == PARTITION_STARTING)
                return sd_bus_error_set(error, BUS_ERROR_NOT_RUNNING, "The VM does not run.");
        if (p->questions.n_waiting == WAITING_MAX)
                return sd_bus_error_set(error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                        "Too many wait for answers about this VM.");
        q = malloc(sizeof(*q));
        if (!q)
                return -ENOMEM;
        *q = *question;
        q->message = sd_bus_message_ref(m);
        STAILQ_INSERT_TAIL(&p->questions.waiting, q, list);
        if (p->questions.n_waiting++ == 0)
                ask_next(p);
        return 1;
}

const struct bus_question *bus_asked(struct partition *p, uint64_t token,
                                     int (*send)(struct worker_handle *h, uint64_t token,
                                                 const struct bus_question *q)) {
        const struct bus_question *q = STAILQ_FIRST(&p->questions.waiting);

        return q && token == p->questions.token && q->send == send ? q : NULL;
}

void bus_answer(struct partition *p, sd_bus_message *reply, int error) {
        if (error == -EBADMSG && log_ratelimit(&p->log_limit, 1000, 10))
                log_warning("VM %s: its worker answers what cannot be", p->uuid_text);
        finish(p, reply, error);
        (void) sd_bus_message_unref(reply);
        ask_next(p);
}

void bus_ask_cancel(struct partition *p) {
        while (!STAILQ_EMPTY(&p->questions.waiting))
                finish(p, NULL, -ESRCH);
        p->questions.timer = sd_event_source_disable_unref(p->questions.timer);
}
