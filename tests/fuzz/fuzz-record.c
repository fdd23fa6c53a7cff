/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target for what a broker reads of the VMs of the one before: names of descriptors, and
 * records. What is taken must be what the bus may show, and be written as it was read.
 *
 * Input: one byte, and then a name (bit 0 of it), or the two places of a record. Their checksums
 * are put right, and versions that are 0 are those of now (bit 1: they stay as they are).
 * tests/fuzz/make-corpus-record.py writes the first corpus.
 */

#include "daemon/fd-store.h"
#include "daemon/record-wire.h"
#include "daemon/record.h"
#include "tests/must.h"
#include "util/text.h"
#include "util/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_name(const uint8_t *data, size_t size) {
        char name[FD_STORE_NAME_SIZE + 64], again[FD_STORE_NAME_SIZE], text[UUID_TEXT_SIZE];
        enum fd_store_part part = _FD_STORE_PART_MAX;
        uint8_t uuid[16];
        size_t n = MIN(size, sizeof(name) - 1);
        int r;

        memcpy(name, data, n);
        name[n] = '\0';
        r = fd_store_parse_name(name, uuid, &part);
        MUST(r == 0 || r == -EINVAL);
        if (r < 0)
                return;
        uuid_format(uuid, text);
        MUST(part < _FD_STORE_PART_MAX);
        fd_store_name(text, part, again);
        MUST(strcmp(name, again) == 0);
}

static void is_text(const char *s, size_t size) {
        MUST(memchr(s, '\0', size));
        MUST(text_check(s, strlen(s)) == TEXT_FINE);
}

static void check_partition(const struct partition *p) {
        const struct measurement *m = &p->measurement;

        MUST(p->vps > 0 && p->vps <= VTL_ATTACH_VPS_MAX);
        MUST(p->vmm_pid > 0 && p->worker_pid > 0);
        MUST(partition_state_to_string(p->state));
        MUST(!uuid_is_nil(p->uuid));
        is_text(p->name, sizeof(p->name));
        is_text(p->libvirt.domain, sizeof(p->libvirt.domain));
        is_text(p->libvirt.policy, sizeof(p->libvirt.policy));
        is_text(p->decision.name, sizeof(p->decision.name));
        is_text(p->refusal, sizeof(p->refusal));
        MUST(p->name[0] && p->decision.name[0]);
        MUST(p->decision.n_measurements <= POLICY_MEASUREMENTS_MAX);
        MUST(p->decision.options.strict_execute_pages <= VTL_STRICT_EXECUTE_MAX);
        MUST(m->log.n <= MEASURE_LOG_MAX && m->state < _QUOTE_STATE_MAX);
        for (unsigned i = 0; i < m->log.n; i++)
                MUST(m->log.records[i].event < _MEASURE_EVENT_MAX);
}

static void seal(uint8_t *place) {
        struct record_wire *w = (struct record_wire *) (void *) place;

        w->head.version = w->head.version ? w->head.version : RECORD_VERSION;
        w->head.worker_version =
                w->head.worker_version ? w->head.worker_version : WORKER_PROTOCOL_VERSION;
        w->head.control_version =
                w->head.control_version ? w->head.control_version : VTL_CONTROL_VERSION;
        if (w->head.size >= sizeof(w->head) && w->head.size <= RECORD_PLACE_SIZE)
                w->head.checksum = record_checksum(&w->head, place + sizeof(w->head),
                                                   w->head.size - sizeof(w->head));
}

/* One of the two places has what is written of what was read. */
static void check_again(const struct partition *p, const uint8_t *record, uint64_t sequence) {
        uint8_t *again = malloc(RECORD_PLACE_SIZE);
        size_t n;

        MUST(again);
        n = record_encode(p, sequence, again);
        MUST(memcmp(record, again, n) == 0 || memcmp(record + RECORD_PLACE_SIZE, again, n) == 0);
        free(again);
}

static void try_record(const uint8_t *data, size_t size, bool sealed) {
        _cleanup_free_ uint8_t *record = aligned_alloc(8, RECORD_SIZE);
        struct partition *p = calloc(1, sizeof(*p));
        uint64_t sequence = 0;
        int r;

        MUST(record && p);
        memset(record, 0, RECORD_SIZE);
        /* In halves, so that small inputs have two places. */
        memcpy(record, data, MIN(size / 2, (size_t) RECORD_PLACE_SIZE));
        memcpy(record + RECORD_PLACE_SIZE, data + size / 2,
               MIN(size - size / 2, (size_t) RECORD_PLACE_SIZE));
        if (sealed) {
                seal(record);
                seal(record + RECORD_PLACE_SIZE);
        }
        r = record_parse(record, p, &sequence);
        MUST(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT);
        if (r == 0) {
                check_partition(p);
                check_again(p, record, sequence);
        }
        free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        if (data[0] & 1)
                try_name(data + 1, size - 1);
        else
                try_record(data + 1, size - 1, !(data[0] & 2));
        return 0;
}
