/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon/partition.h"
#include "daemon/record-wire.h"
#include "daemon/record.h"
#include "util/text.h"
#include "util/util.h"

_Static_assert(sizeof(struct record_wire) <= RECORD_PLACE_SIZE, "there is room for it");
_Static_assert(sizeof(struct record_head) == 40 && offsetof(struct record_body, limit) == 1856 &&
                       sizeof(struct record_body) == 1888 && sizeof(struct record_event) == 72,
               "no padding: a new layout is a new RECORD_VERSION");

/* A new option has its row here. */
static const size_t option_offsets[] = {
        offsetof(struct vtl_options, accept_mbec),
        offsetof(struct vtl_options, apic_enabled),
        offsetof(struct vtl_options, refuse_lower_ipi),
        offsetof(struct vtl_options, accept_startup_denial),
        offsetof(struct vtl_options, accept_cr_intercepts),
        offsetof(struct vtl_options, exact_debug_registers),
        offsetof(struct vtl_options, no_kernel_hypercalls),
};
_Static_assert(sizeof(struct vtl_options) == 12 && ARRAY_SIZE(option_offsets) == 7,
               "each option is in the record");

uint64_t record_checksum(const struct record_head *h, const uint8_t *data, size_t n) {
        uint64_t sum = 14695981039346656037u, word;

        sum = (sum ^ h->sequence) * 1099511628211u;
        for (; n >= sizeof(word); data += sizeof(word), n -= sizeof(word)) {
                memcpy(&word, data, sizeof(word));
                sum = (sum ^ word) * 1099511628211u;
        }
        return sum ^ n;
}

/* ---- Writing ---- */

static uint32_t flag(bool value, enum record_flag f) {
        return value ? (uint32_t) f : 0;
}

static uint32_t options_of(const struct vtl_options *o) {
        uint32_t bits = 0;

        for (unsigned i = 0; i < ARRAY_SIZE(option_offsets); i++)
                if (*(const bool *) ((const uint8_t *) o + option_offsets[i]))
                        bits |= 1u << i;
        return bits;
}

/* @to has been zeroed: what is behind the text says nothing. */
static void put_text(char *to, size_t size, const char *text) {
        memcpy(to, text, MIN(strlen(text), size - 1));
}

static void put_who(struct record_body *b, const struct partition *p) {
        b->flags |= flag(p->precise_faults, RECORD_PRECISE_FAULTS) |
                    flag(p->vtl1_seen, RECORD_VTL1_SEEN) |
                    flag(p->libvirt.bound, RECORD_LIBVIRT_BOUND);
        b->generation = p->generation;
        b->state = (uint32_t) p->state;
        b->vps = p->vps;
        b->vmm_pid = (uint32_t) p->vmm_pid;
        b->vmm_uid = p->vmm_uid;
        b->worker_pid = (uint32_t) p->worker_pid;
        b->attached_usec = p->attached_usec;
        b->vp_vtl1_seen = p->vp_vtl1_seen;
        memcpy(b->uuid, p->uuid, sizeof(b->uuid));
        put_text(b->name, sizeof(b->name), p->name);
        memcpy(b->apic_ids, p->apic_ids, sizeof(b->apic_ids));
        put_text(b->domain, sizeof(b->domain), p->libvirt.domain);
        put_text(b->domain_policy, LIBVIRT_POLICY_SIZE, p->libvirt.policy);
        b->domain_run = p->libvirt.run;
}

static void put_decision(struct record_body *b, const struct partition *p) {
        const struct policy_decision *d = &p->decision;

        b->flags |= flag(d->allow_vtl1, RECORD_ALLOW_VTL1) |
                    flag(d->allow_register_read, RECORD_ALLOW_REGISTER_READ);
        b->options = options_of(&d->options);
        put_text(b->rule, POLICY_NAME_SIZE, d->name);
        b->max_vps = d->max_vps;
        b->execute_enforcement = (uint32_t) d->execute_enforcement;
        b->dma_enforcement = (uint32_t) d->dma_enforcement;
        b->reserve_mappings = d->reserve_mappings;
        b->strict_execute_pages = d->options.strict_execute_pages;
        b->n_measurements = MIN(d->n_measurements, POLICY_MEASUREMENTS_MAX);
        memcpy(b->measurements, d->measurements, sizeof(b->measurements));
        put_text(b->refusal, sizeof(b->refusal), p->refusal);
}

static void put_measurement(struct record_wire *r, const struct measurement *m) {
        struct record_body *b = &r->body;

        b->flags |= flag(m->ran, RECORD_RAN) | flag(m->vouched, RECORD_VOUCHED) |
                    flag(m->decided_allowed, RECORD_DECIDED_ALLOWED);
        b->measurement_state = (uint32_t) m->state;
        memcpy(b->digest, m->digest, sizeof(b->digest));
        memcpy(b->first, m->first, sizeof(b->first));
        memcpy(b->log_digest, m->log.digest, sizeof(b->log_digest));
        b->limit = m->limit;
        b->worker_sequence = m->sequence;
        b->decided = m->decided;
        b->lost = m->log.lost;
        b->n_events = MIN(m->log.n, MEASURE_LOG_MAX);
        for (unsigned i = 0; i < b->n_events; i++) {
                const struct measure_record *e = &m->log.records[i];

                r->events[i] = (struct record_event){ .event = (uint32_t) e->event,
                                                      .vp = e->vp,
                                                      .data = { e->data[0], e->data[1] } };
                memcpy(r->events[i].digest, e->digest, sizeof(r->events[i].digest));
        }
}

size_t record_encode(const struct partition *p, uint64_t sequence, uint8_t ret[RECORD_PLACE_SIZE]) {
        struct record_wire r;
        size_t size;

        memset(&r.body, 0, sizeof(r.body));
        put_who(&r.body, p);
        put_decision(&r.body, p);
        put_measurement(&r, &p->measurement);
        size = offsetof(struct record_wire, events) + r.body.n_events * sizeof(r.events[0]);
        r.head = (struct record_head){ .magic = RECORD_MAGIC,
                                       .version = RECORD_VERSION,
                                       .worker_version = WORKER_PROTOCOL_VERSION,
                                       .control_version = VTL_CONTROL_VERSION,
                                       .size = (uint32_t) size,
                                       .sequence = sequence };
        r.head.checksum =
                record_checksum(&r.head, (const uint8_t *) &r.body, size - sizeof(r.head));
        memcpy(ret, &r, size);
        return size;
}

int record_new(void) {
        _cleanup_close_ int fd = memfd_create("vtld-record", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd < 0 || ftruncate(fd, RECORD_SIZE) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int record_write(int fd, uint64_t *sequence, const struct partition *p) {
        uint8_t data[RECORD_PLACE_SIZE];
        size_t size = record_encode(p, *sequence + 1, data);
        off_t at = (off_t) ((*sequence + 1) % 2 * RECORD_PLACE_SIZE);
        ssize_t n = pwrite(fd, data, size, at);

        if (n < 0)
                return -errno;
        if ((size_t) n != size)
                return -EIO;
        ++*sequence;
        return 0;
}

/* ---- Reading ---- */

/* A text with nothing behind it */
static int get_text(char *to, size_t to_size, const char *text, size_t size) {
        size_t n = strnlen(text, size);

        if (n >= to_size || text_check(text, n) != TEXT_FINE)
                return -EBADMSG;
        for (size_t i = n; i < size; i++)
                if (text[i])
                        return -EBADMSG;
        memcpy(to, text, n);
        to[n] = '\0';
        return 0;
}

#define GET_TEXT(to, from) get_text(to, sizeof(to), from, sizeof(from))

static bool is_pid(uint32_t pid) {
        return pid > 0 && pid <= INT32_MAX;
}

/* One that has not run has nothing to be taken over. */
static bool is_served(uint32_t state) {
        return state == PARTITION_RUNNING || state == PARTITION_PAUSED ||
               state == PARTITION_STOPPED;
}

static int get_who(const struct record_body *b, struct partition *p) {
        if (uuid_is_nil(b->uuid) || b->vps == 0 || b->vps > VTL_ATTACH_VPS_MAX ||
            !is_served(b->state) || !is_pid(b->vmm_pid) || !is_pid(b->worker_pid))
                return -EBADMSG;
        memcpy(p->uuid, b->uuid, sizeof(p->uuid));
        uuid_format(p->uuid, p->uuid_text);
        p->precise_faults = b->flags & RECORD_PRECISE_FAULTS;
        p->vtl1_seen = b->flags & RECORD_VTL1_SEEN;
        p->generation = b->generation;
        p->state = (enum partition_state) b->state;
        p->vps = b->vps;
        p->vmm_pid = (pid_t) b->vmm_pid;
        p->vmm_uid = b->vmm_uid;
        p->worker_pid = (pid_t) b->worker_pid;
        p->attached_usec = b->attached_usec;
        p->vp_vtl1_seen = b->vp_vtl1_seen;
        memcpy(p->apic_ids, b->apic_ids, sizeof(p->apic_ids));
        return b->name[0] ? GET_TEXT(p->name, b->name) : -EBADMSG;
}

static int get_libvirt(const struct record_body *b, struct partition *p) {
        p->libvirt.bound = b->flags & RECORD_LIBVIRT_BOUND;
        p->libvirt.run = b->domain_run;
        if (GET_TEXT(p->libvirt.domain, b->domain) < 0 ||
            GET_TEXT(p->libvirt.policy, b->domain_policy) < 0)
                return -EBADMSG;
        if (p->libvirt.policy[0] && !libvirt_policy_valid(p->libvirt.policy))
                return -EBADMSG;
        return 0;
}

static int get_decision(const struct record_body *b, struct partition *p) {
        struct policy_decision *d = &p->decision;

        if (b->execute_enforcement >= _POLICY_ENFORCEMENT_MAX ||
            b->dma_enforcement >= _POLICY_DMA_MAX || b->n_measurements > POLICY_MEASUREMENTS_MAX ||
            b->strict_execute_pages > VTL_STRICT_EXECUTE_MAX ||
            b->options >> ARRAY_SIZE(option_offsets))
                return -EBADMSG;
        d->allow_vtl1 = b->flags & RECORD_ALLOW_VTL1;
        d->allow_register_read = b->flags & RECORD_ALLOW_REGISTER_READ;
        d->max_vps = b->max_vps;
        d->execute_enforcement = (enum policy_enforcement) b->execute_enforcement;
        d->dma_enforcement = (enum policy_dma) b->dma_enforcement;
        d->reserve_mappings = b->reserve_mappings;
        d->n_measurements = b->n_measurements;
        memcpy(d->measurements, b->measurements, sizeof(d->measurements));
        for (unsigned i = 0; i < ARRAY_SIZE(option_offsets); i++)
                *(bool *) ((uint8_t *) &d->options + option_offsets[i]) = b->options & 1u << i;
        d->options.strict_execute_pages = b->strict_execute_pages;
        if (!b->rule[0] || GET_TEXT(d->name, b->rule) < 0)
                return -EBADMSG;
        return GET_TEXT(p->refusal, b->refusal);
}

static int get_measurement(const struct record_wire *r, struct measurement *m) {
        const struct record_body *b = &r->body;

        if (b->measurement_state >= _QUOTE_STATE_MAX || b->decided > b->worker_sequence ||
            b->reserved)
                return -EBADMSG;
        m->state = (enum quote_state) b->measurement_state;
        m->ran = b->flags & RECORD_RAN;
        m->vouched = b->flags & RECORD_VOUCHED;
        m->decided_allowed = b->flags & RECORD_DECIDED_ALLOWED;
        memcpy(m->digest, b->digest, sizeof(m->digest));
        memcpy(m->first, b->first, sizeof(m->first));
        m->limit = b->limit;
        m->sequence = b->worker_sequence;
        m->decided = b->decided;
        m->log.lost = b->lost;
        m->log.n = b->n_events;
        memcpy(m->log.digest, b->log_digest, sizeof(m->log.digest));
        for (unsigned i = 0; i < b->n_events; i++) {
                const struct record_event *e = &r->events[i];

                if (e->event >= _MEASURE_EVENT_MAX)
                        return -EBADMSG;
                m->log.records[i] = (struct measure_record){ .event = (enum measure_event) e->event,
                                                             .vp = e->vp,
                                                             .data = { e->data[0], e->data[1] } };
                memcpy(m->log.records[i].digest, e->digest, sizeof(m->log.records[i].digest));
        }
        return 0;
}

static bool is_whole(const struct record_head *h, const uint8_t *place) {
        if (h->magic != RECORD_MAGIC || h->size < offsetof(struct record_wire, events) ||
            h->size > sizeof(struct record_wire))
                return false;
        return h->checksum == record_checksum(h, place + sizeof(*h), h->size - sizeof(*h));
}

static bool is_of_this_version(const struct record_head *h) {
        return h->version == RECORD_VERSION && h->worker_version == WORKER_PROTOCOL_VERSION &&
               h->control_version == VTL_CONTROL_VERSION;
}

/* The newer one of the two that is whole; NULL: none is */
static const uint8_t *choose(const uint8_t *data, struct record_head *ret) {
        const uint8_t *found = NULL;

        for (unsigned i = 0; i < 2; i++) {
                const uint8_t *place = data + (size_t) i * RECORD_PLACE_SIZE;
                struct record_head h;

                memcpy(&h, place, sizeof(h));
                if (!is_whole(&h, place) || (found && h.sequence <= ret->sequence))
                        continue;
                found = place;
                *ret = h;
        }
        return found;
}

/* Its size and its checksum may be something else there. */
static bool is_of_another_version(const uint8_t *data) {
        for (unsigned i = 0; i < 2; i++) {
                struct record_head h;

                memcpy(&h, data + (size_t) i * RECORD_PLACE_SIZE, sizeof(h));
                if (h.magic == RECORD_MAGIC && h.version != RECORD_VERSION)
                        return true;
        }
        return false;
}

int record_parse(const uint8_t *data, struct partition *p, uint64_t *ret_sequence) {
        struct record_head h = { 0 };
        struct record_wire r;
        const uint8_t *place = choose(data, &h);
        int e;

        if (!place)
                return is_of_another_version(data) ? -EPROTONOSUPPORT : -EBADMSG;
        if (!is_of_this_version(&h))
                return -EPROTONOSUPPORT;
        memcpy(&r, place, h.size);
        if (r.body.flags & ~(uint32_t) RECORD_FLAGS_ALL || r.body.n_events > MEASURE_LOG_MAX ||
            h.size != offsetof(struct record_wire, events) + r.body.n_events * sizeof(r.events[0]))
                return -EBADMSG;
        e = get_who(&r.body, p);
        if (e >= 0)
                e = get_libvirt(&r.body, p);
        if (e >= 0)
                e = get_decision(&r.body, p);
        if (e >= 0)
                e = get_measurement(&r, &p->measurement);
        if (e >= 0)
                *ret_sequence = h.sequence;
        return e;
}

int record_read(int fd, struct partition *p, uint64_t *ret_sequence) {
        _cleanup_free_ uint8_t *data = NULL;
        struct stat st;
        ssize_t n;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_size != RECORD_SIZE)
                return -EBADMSG;
        data = malloc(RECORD_SIZE);
        if (!data)
                return -ENOMEM;
        n = pread(fd, data, RECORD_SIZE, 0);
        if (n < 0)
                return -errno;
        return n == RECORD_SIZE ? record_parse(data, p, ret_sequence) : -EBADMSG;
}
