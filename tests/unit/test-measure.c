/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The encoding of measurements and the chain of the log, against digests that Python's hashlib made
 * of the encoding as vtl-measurement(7) describes it:
 *
 *     context = bytes((i * 3 + 1) & 255 for i in range(224))
 *     page(n) = bytes((i * 7 + n) & 255 for i in range(4096))
 *     sha384(b"vtld VTL1 measurement 1\0" + context + for each page: pack("<QQ", gva, flags) + page)
 *     chain = sha384(chain + pack("<IIQQ", event, vp, data0, data1) + digest), from bytes(48)
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/measure.h"
#include "util/hex.h"
#include "util/util.h"

#define EMPTY \
        "018289775ad4dde449abaf45762065e9df58da02d35dba0d5499a2e2bb729778e73c25ddc4a84c7640da10962b43f50a"
#define TWO \
        "fe293f2934483795c956418f577656de3a0c078ae228f219d28b5862f606e46d3007f790e835f4b5430acd5ff52aae3b"
#define CONTEXT \
        "ecb863a90c8a3c611b580392730f18c740facac77bd1ec0cfcf7793f8b790b2649c53e201223283086bd3c6eab922db5"

static const char *const chain[] = {
        "f77ad40306bdcb8acb56c71a63857024c1c4c2eb060864dda1574cf99c8fb72f95629ff03009d00dce42b25e44528991",
        "f90f04315b50b001cc6e7c43c649f9b69836cfe2d96b19e39107a38593c9fef1ad3bcf09b158ed327864734c96951602",
        "b0d821d567711e180441286c9e150e1bbcf38658c4dc53e3520b74ca660e82e1e5f3b162308332671ea98b79e38401da",
        "490a9b5ec4160beaf15983bc1d0d65addf1c440aba03e97a350266c0aaeb3cfd4b62c9d7022276ca7c1756d10ee8156b",
};

static uint8_t context[MEASURE_CONTEXT_SIZE];

static int set_up(void **state) {
        char error[CONF_ERROR_SIZE];
        struct measure *m;

        for (unsigned i = 0; i < sizeof(context); i++)
                context[i] = (uint8_t) (i * 3 + 1);
        if (measure_new(&m, error) < 0)
                return -1;
        *state = m;
        return 0;
}

static int tear_down(void **state) {
        (void) measure_free(*state);
        return 0;
}

static const char *text(const uint8_t digest[MEASURE_DIGEST_SIZE]) {
        static char buf[MEASURE_DIGEST_TEXT_SIZE];

        hex_encode(digest, MEASURE_DIGEST_SIZE, buf);
        return buf;
}

static void add_page(struct measure *m, uint64_t gva, uint32_t flags, unsigned n) {
        uint8_t page[MEASURE_PAGE_SIZE];

        for (unsigned i = 0; i < sizeof(page); i++)
                page[i] = (uint8_t) (i * 7 + n);
        assert_int_equal(measure_page(m, gva, flags, page), 0);
}

static void measure_two(struct measure *m, uint8_t ret[MEASURE_DIGEST_SIZE]) {
        assert_int_equal(measure_begin(m, context), 0);
        add_page(m, 0x1000, 0, 1);
        add_page(m, 0xffffffff80000000, MEASURE_PAGE_WRITABLE | MEASURE_PAGE_USER, 2);
        assert_int_equal(measure_end(m, ret), 0);
}

static void test_known_measurements(void **state) {
        uint8_t digest[MEASURE_DIGEST_SIZE];

        assert_int_equal(measure_begin(*state, context), 0);
        assert_int_equal(measure_end(*state, digest), 0);
        assert_string_equal(text(digest), EMPTY);
        measure_two(*state, digest);
        assert_string_equal(text(digest), TWO);
        assert_int_equal(measure_context(*state, context, digest), 0);
        assert_string_equal(text(digest), CONTEXT);
}

/* One that was begun and given up leaves nothing behind. */
static void test_given_up(void **state) {
        uint8_t digest[MEASURE_DIGEST_SIZE];

        assert_int_equal(measure_begin(*state, context), 0);
        add_page(*state, 0, 0, 9);
        measure_two(*state, digest);
        assert_string_equal(text(digest), TWO);
}

static void test_everything_counts(void **state) {
        uint8_t digest[MEASURE_DIGEST_SIZE];
        static const struct {
                uint64_t gva;
                uint32_t flags;
                unsigned n;
        } others[] = { { 0x2000, 0, 1 }, { 0x1000, 1, 1 }, { 0x1000, 2, 1 }, { 0x1000, 0, 3 } };

        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
                assert_int_equal(measure_begin(*state, context), 0);
                add_page(*state, others[i].gva, others[i].flags, others[i].n);
                add_page(*state, 0xffffffff80000000, 3, 2);
                assert_int_equal(measure_end(*state, digest), 0);
                assert_string_not_equal(text(digest), TWO);
        }
}

static void test_known_chain(void **state) {
        struct measure_record records[] = {
                { .event = MEASURE_PARTITION_ENABLED, .data = { 1, 0 } },
                { .event = MEASURE_VP_ENABLED, .data = { 1, 0 } },
                { .event = MEASURE_MEASURED, .data = { 8192, 0 } },
                { .event = MEASURE_CONFIG, .data = { 0x3f, 0 } },
        };
        static struct measure_log log;
        uint8_t digest[MEASURE_DIGEST_SIZE];

        assert_int_equal(measure_context(*state, context, records[1].digest), 0);
        measure_two(*state, records[2].digest);
        for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
                assert_int_equal(measure_log_add(*state, &log, &records[i]), 0);
                assert_string_equal(text(log.digest), chain[i]);
        }
        assert_int_equal(measure_log_digest(*state, &log, digest), 0);
        assert_memory_equal(digest, log.digest, sizeof(digest));
        log.records[1].vp++;
        assert_int_equal(measure_log_digest(*state, &log, digest), 0);
        assert_memory_not_equal(digest, log.digest, sizeof(digest));
}

static void test_a_full_log(void **state) {
        const struct measure_record r = { .event = MEASURE_CONFIG };
        static struct measure_log log;
        uint8_t digest[MEASURE_DIGEST_SIZE];

        for (unsigned i = 0; i < MEASURE_LOG_MAX; i++)
                assert_int_equal(measure_log_add(*state, &log, &r), 0);
        memcpy(digest, log.digest, sizeof(digest));
        assert_int_equal(log.lost, 0);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(measure_log_add(*state, &log, &r), 0);
        assert_int_equal(log.n, MEASURE_LOG_MAX);
        assert_int_equal(log.lost, 3);
        assert_memory_equal(digest, log.digest, sizeof(digest));
}

static void test_names(void **state) {
        for (unsigned i = 0; i < _MEASURE_EVENT_MAX; i++)
                assert_non_null(string_table_name(&measure_event_table, i));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_known_measurements), cmocka_unit_test(test_given_up),
                cmocka_unit_test(test_everything_counts),  cmocka_unit_test(test_known_chain),
                cmocka_unit_test(test_a_full_log),         cmocka_unit_test(test_names),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
