/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The hypercall engine against its other side (hvcall-side.h), with the numbers of vsm.md section 2
 * written out. test-hvcall-forms.c tries every form of every kind of call.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hvcall/wire.h"
#include "tests/unit/hvcall-side.h"

static void assert_same_state(const struct side_state *a, const struct side_state *b) {
        assert_memory_equal(a->reg, b->reg, sizeof(a->reg));
        assert_memory_equal(a->xmm, b->xmm, sizeof(a->xmm));
        assert_memory_equal(a->memory, b->memory, sizeof(a->memory));
}

/* Calls, and asserts that nothing but the result changed. */
static void assert_status(struct side *s, int status, uint16_t reps) {
        struct side_state want = s->now;

        side_state_set_result(&want, s->io.long_mode, SIDE_RESULT(status, reps));
        assert_int_equal(side_dispatch(s), HV_DISPATCH_DONE);
        assert_same_state(&s->now, &want);
        assert_int_equal(side_get_result(s), SIDE_RESULT(status, reps));
}

/* Calls, and asserts #UD and that nothing changed at all. */
static void assert_ud(struct side *s) {
        struct side_state want = s->now;

        assert_int_equal(side_dispatch(s), HV_DISPATCH_UD);
        assert_same_state(&s->now, &want);
        assert_int_equal(s->handled + s->prepared, 0);
}

/* A memory call with its input at the start of page 0 and its output at the start of page 1 */
static void set_call(struct side *s, uint64_t control) {
        side_set_control(s, control);
        side_set_input(s, SIDE_PAGE(0));
        side_set_output(s, SIDE_PAGE(1));
}

static void test_tables(void **state) {
        struct hv_call bad[2];

        assert_true(hv_table_sound(side_table, side_table_n));
        for (size_t i = 0; i < side_table_n; i++)
                assert_ptr_equal(hv_call_find(side_table, side_table_n, side_table[i].code),
                                 &side_table[i]);
        for (unsigned int code = 0; code < 0x10000; code++) {
                const struct hv_call *c = hv_call_find(side_table, side_table_n, code);

                assert_true(!c || c->code == code);
        }
        assert_null(hv_call_find(side_table, 0, side_table[0].code));

        /* The check itself: twice the same code, wrong order, sizes of another kind */
        bad[0] = bad[1] = side_table[0];
        assert_false(hv_table_sound(bad, 2));
        bad[0] = side_table[1];
        assert_false(hv_table_sound(bad, 2));
        bad[0] = side_table[0];
        bad[0].rep_in = 8;
        assert_false(hv_table_sound(bad, 1));
        bad[0] = side_table[0];
        bad[0].handler = NULL;
        assert_false(hv_table_sound(bad, 1));
        bad[0] = *hv_call_find(side_table, side_table_n, SIDE_REP_IN);
        bad[0].output = 8;
        assert_false(hv_table_sound(bad, 1));
        bad[0] = *hv_call_find(side_table, side_table_n, SIDE_VTL_CALL);
        bad[0].input = 8;
        assert_false(hv_table_sound(bad, 1));
}

/* 2.6 step 1, before the code is even looked at */
static void test_processor_mode(void **state) {
        static const uint64_t controls[] = {
                SIDE_SIMPLE_IN, SIDE_CONTROL(SIDE_REP_IN, true, 1, 0), SIDE_VTL_CALL, 0x7777,
                UINT64_MAX,
        };
        struct side s;

        for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++)
                for (int mode = 0; mode < 8; mode++) {
                        side_init(&s, i);
                        s.io.long_mode = mode & 1;
                        s.io.cpl = mode & 2 ? 1 + i % 3 : 0;
                        s.io.protected_mode = mode & 4;
                        if (s.io.cpl == 0 && s.io.protected_mode)
                                continue;
                        set_call(&s, controls[i]);
                        assert_ud(&s);
                        assert_int_equal(s.switches, 0);
                }
}

static void test_unknown_code(void **state) {
        struct side s;

        for (int long_mode = 0; long_mode < 2; long_mode++) {
                side_init(&s, 1);
                s.io.long_mode = long_mode;
                /* The code comes before reserved bits and privileges */
                s.io.privileges = 0;
                set_call(&s, 0x0010);
                assert_status(&s, 2, 0);
                set_call(&s, 0xffff | HV_CONTROL_RESERVED | HV_CONTROL_FAST);
                assert_status(&s, 2, 0);
        }
}

static void test_reserved_bits(void **state) {
        unsigned int seen = 0;
        struct side s;

        for (int bit = 0; bit < 64; bit++) {
                bool reserved = (bit >= 27 && bit <= 31) || (bit >= 44 && bit <= 47) || bit >= 60;

                assert_int_equal(reserved, HV_CONTROL_RESERVED >> bit & 1);
                if (!reserved)
                        continue;
                seen++;
                for (int form = 0; form < 8; form++) {
                        side_init(&s, bit);
                        s.io.long_mode = form & 1;
                        /* Before the test for XMM, which would be #UD */
                        s.io.xmm_input = false;
                        set_call(&s, SIDE_CONTROL(form & 2 ? SIDE_REP_IN : SIDE_SIMPLE_BIG,
                                                  form & 4, form & 2 ? 1 : 0, 0) |
                                             1ull << bit);
                        assert_status(&s, 3, 0);
                }
        }
        assert_int_equal(seen, 13);
}

static void test_result_value(void **state) {
        struct side s;

        /* 2.3: status 15:0, reps completed 43:32; 64-bit: RAX, 32-bit: EDX:EAX */
        side_init(&s, 3);
        set_call(&s, SIDE_CONTROL(SIDE_REP_IN, false, 7, 2));
        s.fails = true;
        s.fail_at = 5;
        s.fail_with = HV_STATUS_INVALID_REGISTER_VALUE;
        assert_int_equal(side_dispatch(&s), HV_DISPATCH_DONE);
        assert_int_equal(s.now.reg[SIDE_RAX], 0x0000000500000050);
        assert_int_equal(s.handled, 4);

        side_init(&s, 3);
        s.io.long_mode = false;
        s.fails = true;
        s.fail_at = 5;
        s.fail_with = HV_STATUS_INVALID_REGISTER_VALUE;
        set_call(&s, SIDE_CONTROL(SIDE_REP_IN, false, 7, 2));
        assert_int_equal(side_dispatch(&s), HV_DISPATCH_DONE);
        assert_int_equal(s.now.reg[SIDE_RAX], 0x50);
        assert_int_equal(s.now.reg[SIDE_RDX], 5);
}

/* 2.6 steps 6 and 7: counts that do not belong to the kind */
static void test_counts(void **state) {
        static const struct {
                uint16_t code, count, start, varhdr;
        } rows[] = {
                { SIDE_SIMPLE_IN, 1, 0, 0 },
                { SIDE_SIMPLE_IN, 0, 1, 0 },
                { SIDE_SIMPLE_IN, 0, 0, 1 },
                { SIDE_SIMPLE_VARIABLE, 1, 0, 1 },
                { SIDE_SIMPLE_NOTHING, 0xfff, 0, 0 },
                { SIDE_REP_IN, 0, 0, 0 },
                { SIDE_REP_IN, 1, 1, 0 },
                { SIDE_REP_IN, 2, 3, 0 },
                { SIDE_REP_IN, 0, 0xfff, 0 },
                { SIDE_REP_IN, 0xfff, 0xfff, 0 },
                { SIDE_REP_IN, 1, 0, 1 },
                { SIDE_REP_IN, 1, 0, 0x3ff },
                { SIDE_REP_VARIABLE, 0, 0, 1 },
        };
        struct side s;

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                for (int form = 0; form < 4; form++) {
                        side_init(&s, i);
                        s.io.long_mode = form & 1;
                        side_set_control(&s, SIDE_CONTROL(rows[i].code, form & 2, rows[i].count,
                                                          rows[i].start) |
                                                     (uint64_t) rows[i].varhdr << 17);
                        assert_status(&s, 3, 0);
                        assert_int_equal(s.handled + s.reads + s.get_xmms, 0);
                }
}

/* 2.5: 7 pairs, output after the last pair of the input, one pair and no output for 32-bit */
static void test_fast_sizes(void **state) {
        static const struct {
                uint16_t code, count;
                bool fits64, fits32;
        } rows[] = {
                { SIDE_SIMPLE_IN, 0, true, true },
                { SIDE_SIMPLE_IN_OUT, 0, true, false }, /* 2 + 2 pairs */
                { SIDE_SIMPLE_OUT, 0, true, false },    /* 0 + 1 */
                { SIDE_SIMPLE_NOTHING, 0, true, true },
                { SIDE_SIMPLE_BIG, 0, false, false }, /* 15 */
                { SIDE_REP_IN, 12, true, false },     /* 1 + 6 */
                { SIDE_REP_IN, 13, false, false },
                { SIDE_REP_GET, 4, true, false },  /* 1 + 1 + 4 */
                { SIDE_REP_GET, 5, false, false }, /* 1 + 2 + 5 */
                { SIDE_REP_SET, 3, true, false },  /* 1 + 6 */
                { SIDE_REP_SET, 4, false, false },
                { SIDE_REP_SMALL, 12, true, false },    /* 1 + 3 + 3 */
                { SIDE_REP_SMALL, 13, false, false },   /* 1 + 4 + 4 */
                { SIDE_REP_NO_HEADER, 8, true, false }, /* 2 + 4 */
                { SIDE_REP_ONLY_OUT, 28, true, false }, /* 0 + 7 */
                { SIDE_REP_ONLY_OUT, 29, false, false },
        };
        struct side s;

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                for (int long_mode = 0; long_mode < 2; long_mode++) {
                        bool fits = long_mode ? rows[i].fits64 : rows[i].fits32;

                        side_init(&s, i);
                        s.io.long_mode = long_mode;
                        side_set_control(&s, SIDE_CONTROL(rows[i].code, true, rows[i].count, 0));
                        if (!fits) {
                                assert_status(&s, 3, 0);
                                continue;
                        }
                        assert_int_equal(side_dispatch(&s), HV_DISPATCH_DONE);
                        assert_int_equal(side_get_result(&s), SIDE_RESULT(0, rows[i].count));
                        assert_int_equal(s.reads + s.writes + s.probes, 0);
                }
}

/* 2.5, 2.6 step 5 */
static void test_xmm_not_advertised(void **state) {
        static const struct {
                uint16_t code, count;
                bool in, out;
        } rows[] = {
                { SIDE_SIMPLE_IN, 0, false, false },    { SIDE_SIMPLE_OUT, 0, false, false },
                { SIDE_SIMPLE_IN_OUT, 0, true, true },  { SIDE_SIMPLE_BIG, 0, true, false },
                { SIDE_REP_IN, 1, true, false },        { SIDE_REP_IN, 0, false, false },
                { SIDE_REP_OUT, 1, false, true },       { SIDE_REP_GET, 1, true, true },
                { SIDE_REP_NO_HEADER, 1, false, true }, { SIDE_REP_ONLY_OUT, 4, false, false },
                { SIDE_REP_ONLY_OUT, 5, false, true },
        };
        struct side s;

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                for (int form = 0; form < 16; form++) {
                        bool fast = form & 8, ud;

                        side_init(&s, i);
                        s.io.long_mode = form & 1;
                        s.io.xmm_input = form & 2;
                        s.io.xmm_output = form & 4;
                        set_call(&s, SIDE_CONTROL(rows[i].code, fast, rows[i].count, 0));
                        ud = fast && s.io.long_mode &&
                             ((rows[i].in && !s.io.xmm_input) || (rows[i].out && !s.io.xmm_output));
                        if (ud)
                                assert_ud(&s);
                        else
                                assert_int_equal(side_dispatch(&s), HV_DISPATCH_DONE);
                }
}

/* The same bytes in memory and in registers are the same call; the places are the ABI's. */
static void test_fast_places(void **state) {
        uint8_t in[24], out[24], fast[SIDE_FAST_BYTES], got[SIDE_FAST_BYTES];
        const struct hv_call *get = hv_call_find(side_table, side_table_n, SIDE_REP_GET);
        struct side s;

        for (unsigned int i = 0; i < sizeof(in); i++)
                in[i] = 0xa0 + i;

        /* GetVpRegisters of one name: header RDX, R8; name XMM0; value XMM1 */
        side_init(&s, 5);
        memcpy(&s.now.reg[SIDE_RDX], in, 8);
        memcpy(&s.now.reg[SIDE_R8], in + 8, 8);
        memcpy(s.now.xmm[0], in + 16, 4);
        side_state_get_fast(&s.now, true, fast);
        side_output_element(get, in, 16, in + 16, 0, fast + 32);
        side_set_control(&s, SIDE_CONTROL(SIDE_REP_GET, true, 1, 0));
        assert_int_equal(side_dispatch(&s), HV_DISPATCH_DONE);
        assert_int_equal(side_get_result(&s), SIDE_RESULT(0, 1));
        side_state_get_fast(&s.now, true, got);
        assert_memory_equal(got, fast, sizeof(got));

        /* No input: the output is in RDX, and R8 is left alone */
        side_init(&s, 6);
        side_state_get_fast(&s.now, true, fast);
        side_output_simple(hv_call_find(side_table, side_table_n, SIDE_SIMPLE_OUT), in, 0, fast);
        side_set_control(&s, SIDE_CONTROL(SIDE_SIMPLE_OUT, true, 0, 0));
        assert_int_equal(side_dispatch(&s), HV_DISPATCH_DONE);
        side_state_get_fast(&s.now, true, got);
        assert_memory_equal(got, fast, sizeof(got));
        assert_int_equal(s.get_xmms + s.set_xmms, 0);

        /* 32-bit: EBX:ECX, EDI:ESI hold bytes 0-7 and 8-15 */
        side_init(&s, 7);
        s.io.long_mode = false;
        side_set_control(&s, SIDE_CONTROL(SIDE_SIMPLE_IN, true, 0, 0));
        side_set_input(&s, 0x0807060504030201);
        side_set_output(&s, 0x100f0e0d0c0b0a09);
        assert_status(&s, 0, 0);
        for (unsigned int i = 0; i < 16; i++)
                assert_int_equal(s.seen[i], i + 1);

        /* 24 -> 24 in memory, at the very end of one page and the start of another */
        side_init(&s, 8);
        memcpy(&s.now.memory[HV_PAGE_SIZE - sizeof(in)], in, sizeof(in));
        side_set_control(&s, SIDE_SIMPLE_IN_OUT);
        side_set_input(&s, SIDE_PAGE(1) - sizeof(in));
        side_set_output(&s, SIDE_PAGE(3));
        side_output_simple(hv_call_find(side_table, side_table_n, SIDE_SIMPLE_IN_OUT), in,
                           sizeof(in), out);
        assert_int_equal(side_dispatch(&s), HV_DISPATCH_DONE);
        assert_memory_equal(&s.now.memory[3 * HV_PAGE_SIZE], out, sizeof(out));
}

/* 2.4 and 2.6 step 8, each row an input GPA, an output GPA and what comes of them */
static void test_memory_placement(void **state) {
        static const struct {
                uint64_t code, in, out;
                int status;
        } rows[] = {
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0), SIDE_PAGE(1), 0 },
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0) + 8, SIDE_PAGE(1) + 8, 0 },
                /* alignment */
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0) + 1, SIDE_PAGE(1), 4 },
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0) + 4, SIDE_PAGE(1), 4 },
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0), SIDE_PAGE(1) + 4, 4 },
                /* straddling */
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(1) - 24, SIDE_PAGE(2) - 24, 0 },
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(1) - 16, SIDE_PAGE(2), 4 },
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0), SIDE_PAGE(2) - 16, 4 },
                /* one page, byte ranges touching and overlapping */
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0), SIDE_PAGE(0) + 24, 0 },
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0) + 24, SIDE_PAGE(0), 0 },
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0), SIDE_PAGE(0) + 16, 3 },
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0) + 16, SIDE_PAGE(0), 3 },
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0), SIDE_PAGE(0), 3 },
                /* beyond the GPA space, and beyond RAM */
                { SIDE_SIMPLE_IN_OUT, 1ull << 52, SIDE_PAGE(1), 4 },
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0), 1ull << 52, 4 },
                { SIDE_SIMPLE_IN_OUT, (1ull << 63) + SIDE_PAGE(0), SIDE_PAGE(1), 4 },
                { SIDE_SIMPLE_IN_OUT, UINT64_MAX - 7, SIDE_PAGE(1), 4 },
                { SIDE_SIMPLE_IN_OUT, (1ull << 52) - 24, SIDE_PAGE(1), 3 },
                { SIDE_SIMPLE_IN_OUT, SIDE_PAGE(0), SIDE_PAGE(SIDE_PAGES), 3 },
                { SIDE_SIMPLE_IN_OUT, 0, SIDE_PAGE(1), 3 },
                /* alignment of the output comes before the mapping of the input */
                { SIDE_SIMPLE_IN_OUT, 0, SIDE_PAGE(1) + 1, 4 },
                /* blocks of no bytes have no address */
                { SIDE_SIMPLE_IN, SIDE_PAGE(0), 3, 0 },
                { SIDE_SIMPLE_IN, SIDE_PAGE(0), SIDE_PAGE(0), 0 },
                { SIDE_SIMPLE_OUT, UINT64_MAX, SIDE_PAGE(1), 0 },
                { SIDE_SIMPLE_NOTHING, UINT64_MAX, UINT64_MAX, 0 },
                /* a list that fills its page, and one more */
                { SIDE_CONTROL(SIDE_REP_IN, false, 510, 0), SIDE_PAGE(0), 1, 0 },
                { SIDE_CONTROL(SIDE_REP_IN, false, 511, 0), SIDE_PAGE(0), 1, 4 },
                { SIDE_CONTROL(SIDE_REP_IN, false, 0xfff, 0xffe), SIDE_PAGE(0), 1, 4 },
                { SIDE_CONTROL(SIDE_REP_ONLY_OUT, false, 1024, 0), 1, SIDE_PAGE(1), 0 },
                { SIDE_CONTROL(SIDE_REP_ONLY_OUT, false, 1025, 0), 1, SIDE_PAGE(1), 4 },
        };
        struct side s;

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                for (int long_mode = 0; long_mode < 2; long_mode++) {
                        uint16_t start = rows[i].code >> 48, count = rows[i].code >> 32 & 0xfff;

                        side_init(&s, i);
                        s.io.long_mode = long_mode;
                        side_set_control(&s, rows[i].code);
                        side_set_input(&s, rows[i].in);
                        side_set_output(&s, rows[i].out);
                        if (rows[i].status) {
                                assert_status(&s, rows[i].status, start);
                                assert_int_equal(s.handled, 0);
                                continue;
                        }
                        assert_int_equal(side_dispatch(&s), HV_DISPATCH_DONE);
                        assert_int_equal(side_get_result(&s), SIDE_RESULT(0, count));
                        assert_int_equal(s.handled, count ? count : 1);
                }
}

/* Rights of the calling VTL, and that privileges come after them (step 9) */
static void test_rights(void **state) {
        struct side s;

        for (int lacking = 0; lacking < 2; lacking++) {
                side_init(&s, 1);
                s.right[0] = SIDE_W;
                if (lacking)
                        s.io.privileges = 0;
                set_call(&s, SIDE_SIMPLE_PRIVILEGED);
                assert_status(&s, 3, 0);
        }

        side_init(&s, 2);
        s.right[1] = SIDE_R;
        set_call(&s, SIDE_SIMPLE_IN_OUT);
        assert_status(&s, 3, 0);
        assert_int_equal(s.handled, 0);

        /* Readable is all an input needs, writable all an output needs */
        side_init(&s, 3);
        s.right[0] = SIDE_R;
        s.right[1] = SIDE_W;
        set_call(&s, SIDE_SIMPLE_IN_OUT);
        assert_int_equal(side_dispatch(&s), HV_DISPATCH_DONE);
        assert_int_equal(side_get_result(&s), 0);

        for (int privileges = 0; privileges < 4; privileges++) {
                side_init(&s, 4);
                s.io.privileges = ~(HV_PRIV_VSM | HV_PRIV_SYNIC);
                s.io.privileges |= privileges & 1 ? HV_PRIV_VSM : 0;
                s.io.privileges |= privileges & 2 ? HV_PRIV_SYNIC : 0;
                set_call(&s, SIDE_SIMPLE_PRIVILEGED);
                assert_status(&s, privileges == 3 ? 0 : 6, 0);
                assert_int_equal(s.handled, privileges == 3);
        }

        side_init(&s, 5);
        s.io.privileges = ~HV_PRIV_VSM;
        set_call(&s, SIDE_CONTROL(SIDE_REP_PRIVILEGED, true, 3, 2));
        assert_status(&s, 6, 2);
}

/* 2.7: what a caller sees that runs into the time limit again and again */
static void test_continuation(void **state) {
        static const uint16_t codes[] = { SIDE_REP_IN, SIDE_REP_SMALL, SIDE_REP_GET,
                                          SIDE_REP_BATCH };
        struct side whole, parts;

        for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
                for (int form = 0; form < 4; form++) {
                        const unsigned int count = form & 2 ? 3 : 100;
                        unsigned int turns = 1;

                        side_init(&whole, i);
                        whole.io.long_mode = form & 1;
                        set_call(&whole, SIDE_CONTROL(codes[i], form & 2, count, 0));
                        if (!whole.io.long_mode && form & 2)
                                continue;
                        side_init(&parts, i);
                        parts.io.long_mode = form & 1;
                        set_call(&parts, SIDE_CONTROL(codes[i], form & 2, count, 0));

                        assert_int_equal(side_dispatch(&whole), HV_DISPATCH_DONE);
                        parts.yes_yields = 1;
                        for (; side_dispatch(&parts) == HV_DISPATCH_RETRY; turns++) {
                                uint64_t start = whole.io.long_mode ? parts.now.reg[SIDE_RCX] >> 48
                                                                    : parts.now.reg[SIDE_RDX] >> 16;

                                assert_int_equal(start, turns);
                                assert_int_equal(parts.handled, 1);
                        }
                        assert_int_equal(turns, count);
                        assert_int_equal(side_get_result(&parts), SIDE_RESULT(0, count));
                        /* The control register apart, the same */
                        if (parts.io.long_mode) {
                                assert_int_equal(
                                        parts.now.reg[SIDE_RCX],
                                        SIDE_CONTROL(codes[i], form & 2, count, count - 1));
                                parts.now.reg[SIDE_RCX] = whole.now.reg[SIDE_RCX];
                        }
                        assert_same_state(&parts.now, &whole.now);
                }
}

/* prepare(): the batch, its errors, and handlers that answer nonsense */
static void test_prepare(void **state) {
        static const struct {
                uint16_t start, batch;
                int with, lie;
                int want; /* enum hv_dispatch_result or errno */
                uint64_t result;
                unsigned int handled;
        } rows[] = {
                { 0, 0, 0, 0, 0, SIDE_RESULT(0, 6), 6 },
                { 2, 0, 0, 0, 0, SIDE_RESULT(0, 6), 4 },
                { 0, 4, 0, 0, 0, SIDE_RESULT(0, 6), 2 },
                { 3, 1, 0, 0, 0, SIDE_RESULT(0, 6), 2 },
                { 0, 6, 0, 0, 0, SIDE_RESULT(0, 6), 0 },
                { 0, 0, HV_STATUS_INVALID_PARAMETER, 0, 0, SIDE_RESULT(5, 0), 0 },
                { 0, 4, HV_STATUS_OPERATION_DENIED, 0, 0, SIDE_RESULT(8, 4), 0 },
                { 2, 2, HV_STATUS_OPERATION_DENIED, 0, 0, SIDE_RESULT(8, 4), 0 },
                { 2, 0, HV_STATUS_ACCESS_DENIED, 0, 0, SIDE_RESULT(6, 2), 0 },
                { 0, 2, -ENOMEM, 0, -ENOMEM, 0, 0 },
                /* Late in the end, with nothing left to come back for */
                { 0, 6, HV_STATUS_TIMEOUT, 0, 0, SIDE_RESULT(0, 6), 0 },
                { 0, 6, 0, 1, -EINVAL, 0, 0 },
                { 2, 0, 0, -1, -EINVAL, 0, 0 },
                { 2, 0, HV_STATUS_ACCESS_DENIED, -2, -EINVAL, 0, 0 },
        };
        const struct hv_call *row = hv_call_find(side_table, side_table_n, SIDE_REP_BATCH);
        struct side_state want;
        struct side s;

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                for (int long_mode = 0; long_mode < 2; long_mode++) {
                        uint16_t done = rows[i].result >> 32;

                        side_init(&s, i);
                        s.io.long_mode = long_mode;
                        s.batch = rows[i].batch;
                        s.prepare_with = rows[i].with;
                        s.prepare_lie = rows[i].lie;
                        set_call(&s, SIDE_CONTROL(SIDE_REP_BATCH, false, 6, rows[i].start));
                        want = s.now;
                        for (uint16_t e = rows[i].start; e < done; e++)
                                side_output_element(row, want.memory, 16, want.memory + 16 + 8 * e,
                                                    e, want.memory + HV_PAGE_SIZE + 8 * e);
                        if (rows[i].want == HV_DISPATCH_DONE)
                                side_state_set_result(&want, long_mode, rows[i].result);
                        assert_int_equal(side_dispatch(&s), rows[i].want);
                        assert_same_state(&s.now, &want);
                        assert_int_equal(s.prepared, 1);
                        assert_int_equal(s.handled, rows[i].handled);
                }

        /* A batch of two, then the time is over; a batch of nothing may not end a dispatch. */
        side_init(&s, 1);
        s.batch = 2;
        s.yes_yields = 1;
        set_call(&s, SIDE_CONTROL(SIDE_REP_BATCH, false, 6, 1));
        assert_int_equal(side_dispatch(&s), HV_DISPATCH_RETRY);
        assert_int_equal(s.now.reg[SIDE_RCX], SIDE_CONTROL(SIDE_REP_BATCH, false, 6, 3));
        assert_int_equal(s.handled, 0);
        s.batch = 0;
        assert_int_equal(side_dispatch(&s), HV_DISPATCH_RETRY);
        assert_int_equal(s.now.reg[SIDE_RCX], SIDE_CONTROL(SIDE_REP_BATCH, false, 6, 4));
        assert_int_equal(s.handled, 1);
        /* A batch that is late at once leaves the call as it was; later, after what it has done. */
        s.prepare_with = HV_STATUS_TIMEOUT;
        assert_int_equal(side_dispatch(&s), HV_DISPATCH_RETRY);
        assert_int_equal(s.now.reg[SIDE_RCX], SIDE_CONTROL(SIDE_REP_BATCH, false, 6, 4));
        s.batch = 1;
        assert_int_equal(side_dispatch(&s), HV_DISPATCH_RETRY);
        assert_int_equal(s.now.reg[SIDE_RCX], SIDE_CONTROL(SIDE_REP_BATCH, false, 6, 5));
}

/* 6.1: exactly the code, no result, #UD for all else */
static void test_vtl_switch(void **state) {
        struct side_state want;
        struct side s;

        for (int form = 0; form < 4; form++) {
                uint64_t code = form & 2 ? SIDE_VTL_RETURN : SIDE_VTL_CALL;

                side_init(&s, 1);
                s.io.long_mode = form & 1;
                side_set_control(&s, code);
                want = s.now;
                assert_int_equal(side_dispatch(&s), HV_DISPATCH_SWITCHED);
                assert_same_state(&s.now, &want);
                assert_int_equal(s.switches, 1);
                assert_int_equal(s.switch_is_return, code == SIDE_VTL_RETURN);
                assert_int_equal(s.switch_input,
                                 form & 1 ? s.now.reg[SIDE_RAX] : (uint32_t) s.now.reg[SIDE_RCX]);

                s.switch_answer = HV_DISPATCH_UD;
                assert_ud(&s);
                s.switch_answer = -EIO;
                assert_int_equal(side_dispatch(&s), -EIO);
                assert_same_state(&s.now, &want);

                s.switches = 0;
                for (int bit = 16; bit < 64; bit++) {
                        side_set_control(&s, code | 1ull << bit);
                        assert_ud(&s);
                }
                side_set_control(&s, code);
                s.io.privileges = ~HV_PRIV_VSM;
                assert_ud(&s);
                assert_int_equal(s.switches, 0);
        }
}

/* The host's failures reach nobody but the host. */
static void test_host_failures(void **state) {
        static const struct {
                uint64_t control;
                size_t field;
        } rows[] = {
                { SIDE_SIMPLE_IN_OUT, offsetof(struct side, fail_read) },
                { SIDE_SIMPLE_IN_OUT, offsetof(struct side, fail_probe) },
                { SIDE_SIMPLE_IN_OUT, offsetof(struct side, fail_write) },
                { SIDE_CONTROL(SIDE_REP_GET, false, 3, 1), offsetof(struct side, fail_read) },
                { SIDE_CONTROL(SIDE_REP_GET, false, 3, 1), offsetof(struct side, fail_probe) },
                { SIDE_CONTROL(SIDE_REP_GET, false, 3, 1), offsetof(struct side, fail_write) },
                { SIDE_CONTROL(SIDE_SIMPLE_IN_OUT, true, 0, 0),
                  offsetof(struct side, fail_get_xmm) },
                { SIDE_CONTROL(SIDE_SIMPLE_IN_OUT, true, 0, 0),
                  offsetof(struct side, fail_set_xmm) },
                { SIDE_CONTROL(SIDE_REP_ONLY_OUT, true, 9, 0),
                  offsetof(struct side, fail_get_xmm) },
                { SIDE_CONTROL(SIDE_REP_ONLY_OUT, true, 9, 0),
                  offsetof(struct side, fail_set_xmm) },
        };
        struct side_state want;
        struct side s;

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                for (int long_mode = 0; long_mode < 2; long_mode++) {
                        if (!long_mode && rows[i].control & HV_CONTROL_FAST)
                                continue;
                        side_init(&s, i);
                        s.io.long_mode = long_mode;
                        *(int *) ((char *) &s + rows[i].field) = -ENXIO;
                        set_call(&s, rows[i].control);
                        want = s.now;
                        assert_int_equal(side_dispatch(&s), -ENXIO);
                        assert_same_state(&s.now, &want);
                }

        /* The page goes away between the probe and the write: an answer for the guest */
        side_init(&s, 1);
        s.fail_write = HV_STATUS_INVALID_HYPERCALL_INPUT;
        set_call(&s, SIDE_CONTROL(SIDE_REP_GET, false, 3, 1));
        assert_status(&s, 3, 1);
        s.yes_yields = 1;
        set_call(&s, SIDE_CONTROL(SIDE_REP_GET, false, 3, 1));
        assert_status(&s, 3, 1);
        set_call(&s, SIDE_SIMPLE_IN_OUT);
        assert_status(&s, 3, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_tables),        cmocka_unit_test(test_processor_mode),
                cmocka_unit_test(test_unknown_code),  cmocka_unit_test(test_reserved_bits),
                cmocka_unit_test(test_result_value),  cmocka_unit_test(test_counts),
                cmocka_unit_test(test_fast_sizes),    cmocka_unit_test(test_xmm_not_advertised),
                cmocka_unit_test(test_fast_places),   cmocka_unit_test(test_memory_placement),
                cmocka_unit_test(test_rights),        cmocka_unit_test(test_continuation),
                cmocka_unit_test(test_prepare),       cmocka_unit_test(test_vtl_switch),
                cmocka_unit_test(test_host_failures),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
