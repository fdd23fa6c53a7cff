/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/measurement.h"
#include "util/hex.h"
#include "util/log.h"
#include "util/util.h"

/* Sequence numbers only go up, by one unless something was lost. */
static void take_sequence(struct measurement *s, uint64_t sequence) {
        if (sequence > s->sequence) {
                s->log.lost += sequence - s->sequence - 1;
                s->sequence = sequence;
        }
}

static void add(struct measurement *s, struct measure *m, const struct measure_record *r) {
        if (measure_log_add(m, &s->log, r) < 0) {
                log_error("libcrypto cannot extend a measurement log");
                s->log.lost++;
        }
}

/* Those that decide something come from here alone. */
static bool is_plain_record(uint32_t event) {
        return event == MEASURE_PARTITION_ENABLED || event == MEASURE_VP_ENABLED ||
               event == MEASURE_CONFIG;
}

void measurement_record(struct measurement *s, struct measure *m, const struct worker_record *r) {
        struct measure_record record = { .vp = r->vp, .data = { r->data[0], r->data[1] } };

        take_sequence(s, r->sequence);
        if (!is_plain_record(r->event))
                return;
        record.event = (enum measure_event) r->event;
        memcpy(record.digest, r->digest, sizeof(record.digest));
        add(s, m, &record);
}

static bool is_allowed(const struct policy_decision *d, const struct worker_record *r,
                       bool unbounded) {
        if (d->n_measurements == 0)
                return true;
        for (unsigned i = 0; !unbounded && i < MIN(d->n_measurements, POLICY_MEASUREMENTS_MAX); i++)
                if (memcmp(d->measurements[i], r->digest, MEASURE_DIGEST_SIZE) == 0)
                        return true;
        return false;
}

_Static_assert(POLICY_MEASUREMENT_SIZE == MEASURE_DIGEST_SIZE, "policy requires measurements");

/*
 * VTL1 has run, and is measured once more: after a reset of the partition, or so says a worker that
 * VTL1 or VTL0 may have taken over since. It can say again what it said before the guest ran;
 * anything else vouches for nothing any more.
 */
static bool is_the_same(const struct measurement *s, const struct worker_record *r) {
        return s->vouched && memcmp(s->first, r->digest, MEASURE_DIGEST_SIZE) == 0;
}

void measurement_loaded(struct measurement *s, struct measure *m) {
        const struct measure_record record = { .event = MEASURE_UNBOUNDED };

        s->ran = true;
        s->vouched = false;
        s->state = QUOTE_UNBOUNDED;
        memset(s->digest, 0, sizeof(s->digest));
        add(s, m, &record);
}

static bool decide_measured(struct measurement *s, struct measure *m,
                            const struct policy_decision *d, const struct worker_record *r) {
        bool unbounded = r->flags & WORKER_MEASURED_UNBOUNDED || (s->ran && !is_the_same(s, r));
        bool allowed = d->allow_vtl1 && is_allowed(d, r, unbounded);
        struct measure_record record = { .vp = r->vp };

        if (allowed && !(r->flags & WORKER_MEASURED_ENTRY))
                return true;
        if (!unbounded)
                memcpy(record.digest, r->digest, sizeof(record.digest));
        record.data[0] = unbounded ? s->limit : r->data[0];
        if (!allowed) {
                record.event = MEASURE_REFUSED;
                record.data[1] = unbounded;
                s->state = QUOTE_REFUSED;
        } else {
                record.event = unbounded ? MEASURE_UNBOUNDED : MEASURE_MEASURED;
                s->state = unbounded ? QUOTE_UNBOUNDED : QUOTE_MEASURED;
                memcpy(s->first, record.digest, sizeof(s->first));
                s->ran = true;
        }
        s->vouched = s->state == QUOTE_MEASURED;
        memcpy(s->digest, record.digest, sizeof(s->digest));
        add(s, m, &record);
        return allowed;
}

bool measurement_decide(struct measurement *s, struct measure *m, const struct policy_decision *d,
                        const struct worker_record *r) {
        if (r->sequence && r->sequence == s->decided)
                return s->decided_allowed;
        take_sequence(s, r->sequence);
        s->decided_allowed = decide_measured(s, m, d, r);
        s->decided = MIN(r->sequence, s->sequence);
        return s->decided_allowed;
}

const char *measurement_text(const struct measurement *s, char buf[MEASURE_DIGEST_TEXT_SIZE]) {
        static const uint8_t none[MEASURE_DIGEST_SIZE];

        buf[0] = '\0';
        if (memcmp(s->digest, none, sizeof(none)) != 0)
                hex_encode(s->digest, MEASURE_DIGEST_SIZE, buf);
        return buf;
}

int measurement_quote(const struct measurement *s, const struct host_key *k, const char *uuid,
                      const uint8_t *nonce, size_t nonce_size, char **ret) {
        _cleanup_free_ struct quote *q = NULL;

        if (nonce_size < QUOTE_NONCE_MIN || nonce_size > QUOTE_NONCE_MAX)
                return -EINVAL;
        q = calloc(1, sizeof(*q));
        if (!q)
                return -ENOMEM;
        memcpy(q->nonce, nonce, nonce_size);
        q->nonce_size = nonce_size;
        memcpy(q->uuid, uuid, sizeof(q->uuid));
        q->state = s->state;
        memcpy(q->measurement, s->digest, sizeof(q->measurement));
        q->limit = s->limit;
        q->log = s->log;
        return quote_sign(k, q, ret);
}
