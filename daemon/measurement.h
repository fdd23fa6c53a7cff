/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the broker knows about the VTL1 of a VM: its measurement, whether it may run, and the log.
 * All of it is the worker's word, and taken as such: the log only grows, and a measurement that
 * VTL1 runs with stays.
 */

#include "daemon/worker-proto.h"
#include "policy/policy.h"
#include "policy/quote.h"

struct measurement {
        enum quote_state state;
        uint8_t digest[MEASURE_DIGEST_SIZE]; /* zeroes: none */
        bool ran;                            /* VTL1 has been let in */
        bool vouched;                        /* with @first, and nothing else was said since */
        uint8_t first[MEASURE_DIGEST_SIZE];
        uint64_t limit;
        uint64_t sequence; /* of the worker's last message */
        uint64_t decided;  /* of the last question that was decided, and how */
        bool decided_allowed;
        struct measure_log log;
};

/* A record for the log. @m: the broker's, for digests */
void measurement_record(struct measurement *s, struct measure *m, const struct worker_record *r);

/* A saved partition whose VTL1 had run was loaded: nothing was measured here. */
void measurement_loaded(struct measurement *s, struct measure *m);

/**
 * measurement_decide() - may VTL1 run with what was measured?
 *
 * The same question once more, which a broker that was killed has decided but may not have
 * answered, has the same answer, and changes nothing.
 *
 * What is decided is in the log and in @s afterwards.
 */
bool measurement_decide(struct measurement *s, struct measure *m, const struct policy_decision *d,
                        const struct worker_record *r);

/* The measurement in hexadecimal digits; "" when there is none. */
const char *measurement_text(const struct measurement *s, char buf[MEASURE_DIGEST_TEXT_SIZE]);

/**
 * measurement_quote() - a quote
 * @ret: the text, the caller's
 *
 * Return: 0, -EINVAL for a nonce that is too short or too long, or another negative errno.
 */
int measurement_quote(const struct measurement *s, const struct host_key *k, const char *uuid,
                      const uint8_t *nonce, size_t nonce_size, char **ret);
