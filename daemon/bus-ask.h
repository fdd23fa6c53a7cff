/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Methods of the bus whose answer the worker knows: bus-map.c, bus-registers.c. One question of a
 * VM after the other; who waits is told when the VM or its worker goes.
 */

#include "daemon/bus-internal.h"

struct worker_handle;

struct bus_question {
        STAILQ_ENTRY(bus_question) list;
        sd_bus_message *message;
        /* Return: 0 or a negative errno. */
        int (*send)(struct worker_handle *h, uint64_t token, const struct bus_question *q);
        uint64_t gpn;     /* of bus-map.c */
        unsigned vp, vtl; /* of bus-registers.c */
};

/**
 * bus_ask() - have the worker asked, and go on later
 * @m: the call; it is answered by bus_reply() or an error
 * @question: what is asked, is copied
 *
 * Return: as from a method handler.
 */
int bus_ask(struct partition *p, sd_bus_message *m, const struct bus_question *question,
            sd_bus_error *error);

/* The question that an answer with this token is to; NULL: to one that is not waited for any more,
 * or to one of another kind, which goes by its @send. */
const struct bus_question *bus_asked(struct partition *p, uint64_t token,
                                     int (*send)(struct worker_handle *h, uint64_t token,
                                                 const struct bus_question *q));

/* Answers that question, and asks the next one. @reply is freed; NULL: the worker's answer is an
 * error, or makes no sense: -EBADMSG, which is logged. */
void bus_answer(struct partition *p, sd_bus_message *reply, int error);
