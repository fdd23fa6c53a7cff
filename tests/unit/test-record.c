/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The record of a VM: what is written comes back, and what is anything else does not. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "daemon/partition.h"
#include "daemon/record-wire.h"
#include "daemon/record.h"
#include "util/util.h"

static struct partition before, after;
static uint8_t data[RECORD_SIZE];
static uint64_t sequence;

/* A VM of which everything is something. */
static void make(void) {
        struct measurement *m = &before.measurement;

        memset(&before, 0, sizeof(before));
        memset(before.uuid, 0xa5, sizeof(before.uuid));
        uuid_format(before.uuid, before.uuid_text);
        (void) snprintf(before.name, sizeof(before.name), "größe");
        before.vps = 3;
        for (unsigned i = 0; i < before.vps; i++)
                before.apic_ids[i] = 2 * i;
        before.precise_faults = true;
        before.generation = 7;
        before.state = PARTITION_PAUSED;
        before.vmm_pid = 4711;
        before.vmm_uid = 1000;
        before.worker_pid = INT32_MAX;
        before.attached_usec = UINT64_C(1) << 50;
        before.vtl1_seen = true;
        before.vp_vtl1_seen = 5;
        before.libvirt.bound = true;
        before.libvirt.run = 9;
        (void) snprintf(before.libvirt.domain, sizeof(before.libvirt.domain), "domain");
        (void) snprintf(before.libvirt.policy, sizeof(before.libvirt.policy), "hardened");
        before.decision = (struct policy_decision){
                .name = "rule",
                .allow_vtl1 = true,
                .allow_register_read = true,
                .max_vps = 4,
                .execute_enforcement = POLICY_ENFORCEMENT_BOUNDED,
                .dma_enforcement = POLICY_DMA_FULL,
                .n_measurements = POLICY_MEASUREMENTS_MAX,
                .options.strict_execute_pages = 16,
                .reserve_mappings = 4096,
        };
        memset(before.decision.measurements, 0x11, sizeof(before.decision.measurements));
        (void) snprintf(before.refusal, sizeof(before.refusal), "because");
        *m = (struct measurement){ .state = QUOTE_MEASURED,
                                   .ran = true,
                                   .vouched = true,
                                   .limit = 1 << 20,
                                   .sequence = 12,
                                   .decided = 11,
                                   .decided_allowed = true };
        memset(m->digest, 0x22, sizeof(m->digest));
        memset(m->first, 0x33, sizeof(m->first));
        memset(m->log.digest, 0x44, sizeof(m->log.digest));
        m->log.lost = 2;
        m->log.n = 3;
        for (unsigned i = 0; i < m->log.n; i++) {
                m->log.records[i] = (struct measure_record){ .event = MEASURE_MEASURED,
                                                             .vp = i,
                                                             .data = { i, i + 1 } };
                memset(m->log.records[i].digest, (int) i, sizeof(m->log.records[i].digest));
        }
}

static int setup(void **state) {
        make();
        memset(&after, 0, sizeof(after));
        memset(data, 0, sizeof(data));
        sequence = 0;
        return 0;
}

/* In the second place, as the first one that is written */
static struct record_wire *wire(void) {
        return (struct record_wire *) (void *) (data + RECORD_PLACE_SIZE);
}

static void encode(void) {
        (void) record_encode(&before, 1, data + RECORD_PLACE_SIZE);
}

static int parse(void) {
        memset(&after, 0, sizeof(after));
        return record_parse(data, &after, &sequence);
}

/* After a change that its writer could have made */
static int parse_sealed(void) {
        struct record_wire *w = wire();

        w->head.checksum = record_checksum(&w->head, (const uint8_t *) &w->body,
                                           MIN(w->head.size, sizeof(*w)) - sizeof(w->head));
        return parse();
}

/* ---- There and back ---- */

static void same(void) {
        uint8_t one[RECORD_PLACE_SIZE] = { 0 }, two[RECORD_PLACE_SIZE] = { 0 };
        size_t n;

        assert_int_equal(parse(), 0);
        n = record_encode(&before, 1, one);
        assert_int_equal(record_encode(&after, 1, two), n);
        assert_memory_equal(one, two, n);
}

static void test_everything(void **state) {
        encode();
        same();
        assert_int_equal(sequence, 1);
        assert_memory_equal(after.uuid, before.uuid, sizeof(after.uuid));
        assert_string_equal(after.uuid_text, before.uuid_text);
        assert_string_equal(after.name, before.name);
        assert_memory_equal(after.apic_ids, before.apic_ids, sizeof(after.apic_ids));
        assert_int_equal(after.vps, before.vps);
        assert_int_equal(after.state, before.state);
        assert_int_equal(after.generation, before.generation);
        assert_int_equal(after.vmm_pid, before.vmm_pid);
        assert_int_equal(after.vmm_uid, before.vmm_uid);
        assert_int_equal(after.worker_pid, before.worker_pid);
        assert_int_equal(after.attached_usec, before.attached_usec);
        assert_int_equal(after.vp_vtl1_seen, before.vp_vtl1_seen);
        assert_true(after.precise_faults && after.vtl1_seen && after.libvirt.bound);
        assert_int_equal(after.libvirt.run, before.libvirt.run);
        assert_string_equal(after.libvirt.domain, before.libvirt.domain);
        assert_string_equal(after.libvirt.policy, before.libvirt.policy);
        assert_string_equal(after.refusal, before.refusal);
        assert_memory_equal(&after.decision, &before.decision, sizeof(after.decision));
        assert_int_equal(after.measurement.log.n, 3);
        assert_memory_equal(after.measurement.log.records, before.measurement.log.records,
                            3 * sizeof(after.measurement.log.records[0]));
        assert_memory_equal(after.measurement.digest, before.measurement.digest, 48);
        assert_memory_equal(after.measurement.first, before.measurement.first, 48);
        assert_memory_equal(after.measurement.log.digest, before.measurement.log.digest, 48);
        assert_int_equal(after.measurement.state, before.measurement.state);
        assert_int_equal(after.measurement.limit, before.measurement.limit);
        assert_int_equal(after.measurement.sequence, before.measurement.sequence);
        assert_int_equal(after.measurement.decided, before.measurement.decided);
        assert_int_equal(after.measurement.log.lost, 2);
}

/* Each that is true or false, alone: it is not mistaken for another one. */
static void test_flags(void **state) {
        bool *const flags[] = {
                &before.precise_faults,
                &before.vtl1_seen,
                &before.libvirt.bound,
                &before.decision.allow_vtl1,
                &before.decision.allow_register_read,
                &before.measurement.ran,
                &before.measurement.vouched,
                &before.measurement.decided_allowed,
                &before.decision.options.accept_mbec,
                &before.decision.options.apic_enabled,
                &before.decision.options.refuse_lower_ipi,
                &before.decision.options.accept_startup_denial,
                &before.decision.options.accept_cr_intercepts,
                &before.decision.options.exact_debug_registers,
                &before.decision.options.no_kernel_hypercalls,
        };

        for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
                ptrdiff_t at = (uint8_t *) flags[i] - (uint8_t *) &before;

                for (size_t j = 0; j < ARRAY_SIZE(flags); j++)
                        *flags[j] = i == j;
                encode();
                same();
                assert_true(*(const bool *) ((const uint8_t *) &after + at));
                for (size_t j = 0; j < ARRAY_SIZE(flags); j++)
                        assert_int_equal(
                                *(const bool *) ((const uint8_t *) &after +
                                                 ((uint8_t *) flags[j] - (uint8_t *) &before)),
                                i == j);
        }
}

static void test_the_longest(void **state) {
        before.vps = VTL_ATTACH_VPS_MAX;
        memset(before.name, 'n', sizeof(before.name) - 1);
        memset(before.libvirt.domain, 'd', sizeof(before.libvirt.domain) - 1);
        memset(before.libvirt.policy, 'p', sizeof(before.libvirt.policy) - 1);
        memset(before.decision.name, 'r', sizeof(before.decision.name) - 1);
        memset(before.refusal, 'x', sizeof(before.refusal) - 1);
        before.measurement.log.n = MEASURE_LOG_MAX;
        encode();
        same();
        assert_string_equal(after.decision.name, before.decision.name);
        assert_string_equal(after.libvirt.policy, before.libvirt.policy);
}

/* ---- Two places ---- */

static void test_the_newer_one(void **state) {
        _cleanup_close_ int fd = record_new();
        uint8_t torn[8];

        assert_true(fd >= 0);
        assert_int_equal(record_read(fd, &after, &sequence), -EBADMSG);
        sequence = 0;
        for (unsigned i = 1; i < 6; i++) {
                uint64_t found = 0;

                before.generation = i;
                assert_int_equal(record_write(fd, &sequence, &before), 0);
                assert_int_equal(sequence, i);
                memset(&after, 0, sizeof(after));
                assert_int_equal(record_read(fd, &after, &found), 0);
                assert_int_equal(found, i);
                assert_int_equal(after.generation, i);
        }
        /* The last one, number 5, is in the second place. It was cut short. */
        memset(torn, 0xff, sizeof(torn));
        assert_int_equal(pwrite(fd, torn, sizeof(torn), RECORD_PLACE_SIZE + 500), sizeof(torn));
        memset(&after, 0, sizeof(after));
        assert_int_equal(record_read(fd, &after, &sequence), 0);
        assert_int_equal(sequence, 4);
        assert_int_equal(after.generation, 4);
        assert_int_equal(pwrite(fd, torn, sizeof(torn), 500), sizeof(torn));
        assert_int_equal(record_read(fd, &after, &sequence), -EBADMSG);
}

static void test_what_is_no_record(void **state) {
        _cleanup_close_ int small = memfd_create("small", MFD_CLOEXEC);
        int ends[2];

        assert_int_equal(record_read(-1, &after, &sequence), -EBADF);
        assert_int_equal(record_read(small, &after, &sequence), -EBADMSG);
        assert_int_equal(ftruncate(small, RECORD_SIZE + 1), 0);
        assert_int_equal(record_read(small, &after, &sequence), -EBADMSG);
        assert_int_equal(ftruncate(small, RECORD_SIZE), 0);
        assert_int_equal(record_read(small, &after, &sequence), -EBADMSG);
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(record_read(ends[0], &after, &sequence), -EBADMSG);
        (void) close(ends[0]);
        (void) close(ends[1]);
}

static void test_it_cannot_be_made_smaller(void **state) {
        _cleanup_close_ int fd = record_new();

        assert_int_equal(ftruncate(fd, 1), -1);
        assert_int_equal(ftruncate(fd, 2 * RECORD_SIZE), -1);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
}

/* ---- Damage ---- */

static void test_each_byte(void **state) {
        size_t size;

        encode();
        size = wire()->head.size;
        for (size_t i = 0; i < size; i++) {
                uint8_t *byte = data + RECORD_PLACE_SIZE + i;
                int r;

                *byte ^= 0x40;
                r = parse();
                /* The magic is what tells another version from nonsense. */
                if (i >= offsetof(struct record_head, version) &&
                    i < offsetof(struct record_head, size))
                        assert_int_equal(r, -EPROTONOSUPPORT);
                else
                        assert_int_equal(r, -EBADMSG);
                *byte ^= 0x40;
        }
        assert_int_equal(parse(), 0);
}

static void test_another_version(void **state) {
        encode();
        /* Of which nothing else is known */
        wire()->head.version++;
        wire()->head.size = UINT32_MAX;
        assert_int_equal(parse(), -EPROTONOSUPPORT);
        encode();
        wire()->head.worker_version++;
        assert_int_equal(parse_sealed(), -EPROTONOSUPPORT);
        encode();
        wire()->head.control_version--;
        assert_int_equal(parse_sealed(), -EPROTONOSUPPORT);
}

static void bad(void) {
        assert_int_equal(parse_sealed(), -EBADMSG);
        encode();
        assert_int_equal(parse_sealed(), 0);
}

#define BAD(field, value)                \
        do {                             \
                wire()->field = (value); \
                bad();                   \
        } while (0)

static void test_values_that_nothing_has(void **state) {
        encode();
        BAD(head.size, sizeof(struct record_head));
        BAD(head.size, wire()->head.size + 1);
        BAD(head.size, wire()->head.size - sizeof(struct record_event));
        BAD(body.flags, 0x100);
        BAD(body.options, 0x80);
        BAD(body.state, PARTITION_ATTACHED);
        BAD(body.state, PARTITION_STARTING);
        BAD(body.state, PARTITION_FAILED);
        BAD(body.state, _PARTITION_STATE_MAX);
        BAD(body.vps, 0);
        BAD(body.vps, VTL_ATTACH_VPS_MAX + 1);
        BAD(body.vmm_pid, 0);
        BAD(body.vmm_pid, 0x80000000u);
        BAD(body.worker_pid, 0);
        BAD(body.worker_pid, UINT32_MAX);
        BAD(body.execute_enforcement, _POLICY_ENFORCEMENT_MAX);
        BAD(body.dma_enforcement, _POLICY_DMA_MAX);
        BAD(body.strict_execute_pages, VTL_STRICT_EXECUTE_MAX + 1);
        BAD(body.n_measurements, POLICY_MEASUREMENTS_MAX + 1);
        BAD(body.measurement_state, _QUOTE_STATE_MAX);
        BAD(body.n_events, 2);
        BAD(body.n_events, MEASURE_LOG_MAX + 1);
        BAD(body.n_events, UINT32_MAX);
        BAD(body.decided, 13);
        BAD(body.reserved, 1);
        BAD(events[2].event, _MEASURE_EVENT_MAX);
        memset(wire()->body.uuid, 0, sizeof(wire()->body.uuid));
        bad();
}

static void test_texts_that_nothing_has(void **state) {
        static const struct {
                size_t at, size;
                bool may_be_empty;
        } texts[] = {
                { offsetof(struct record_body, name), VTL_ATTACH_NAME_SIZE, false },
                { offsetof(struct record_body, domain), LIBVIRT_NAME_SIZE, true },
                { offsetof(struct record_body, domain_policy), LIBVIRT_POLICY_SIZE, true },
                { offsetof(struct record_body, rule), POLICY_NAME_SIZE, false },
                { offsetof(struct record_body, refusal), DECIDE_TEXT_SIZE, true },
        };

        encode();
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                char *text = (char *) &wire()->body + texts[i].at;

                text[0] = '\n';
                bad();
                text[0] = (char) 0xff;
                bad();
                text[texts[i].size - 1] = 'x'; /* behind its end */
                bad();
                memset(text, 'x', texts[i].size); /* without an end */
                bad();
                memset(text, 0, texts[i].size);
                assert_int_equal(parse_sealed(), texts[i].may_be_empty ? 0 : -EBADMSG);
                encode();
        }
        wire()->body.domain_policy[0] = '/';
        bad();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_everything, setup),
                cmocka_unit_test_setup(test_flags, setup),
                cmocka_unit_test_setup(test_the_longest, setup),
                cmocka_unit_test_setup(test_the_newer_one, setup),
                cmocka_unit_test_setup(test_what_is_no_record, setup),
                cmocka_unit_test_setup(test_it_cannot_be_made_smaller, setup),
                cmocka_unit_test_setup(test_each_byte, setup),
                cmocka_unit_test_setup(test_another_version, setup),
                cmocka_unit_test_setup(test_values_that_nothing_has, setup),
                cmocka_unit_test_setup(test_texts_that_nothing_has, setup),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
