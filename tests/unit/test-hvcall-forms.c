/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Every kind of call x fast or memory x 32 or 64 bits x reps x variable header x fault, against
 * the other side of hvcall-side.h. Each trial foretells the whole state of the caller from vsm.md 2
 * and compares all of it: what a call may not change is checked as much as what it must.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/hvcall-side.h"
#include "util/util.h"

enum fault {
        FAULT_NONE,
        FAULT_STATUS, /* the handler answers a status at element @at */
        FAULT_ERRNO,  /* ... a negative errno */
        FAULT_YIELD,  /* should_yield() says yes before element @at */
        FAULT_IN_UNALIGNED,
        FAULT_OUT_UNALIGNED,
        FAULT_IN_STRADDLES,
        FAULT_OUT_STRADDLES,
        FAULT_IN_UNREADABLE,
        FAULT_OUT_UNWRITABLE,
        FAULT_PRIVILEGE,
        FAULT_XMM_IN,
        FAULT_XMM_OUT,
        FAULT_CPL,
        FAULT_RESERVED_BIT,
        FAULT_MAX,
};

struct trial {
        const struct hv_call *row;
        bool long_mode, fast;
        uint16_t count, start, varhdr;
        enum fault fault;
        uint16_t at;
        uint32_t in, out; /* sizes of the blocks */
};

struct outcome {
        int dispatch; /* enum hv_dispatch_result or -errno */
        int status;
        uint16_t done;
        bool gives; /* elements below @done, or the simple call's output, reach the caller */
};

static uint32_t round16(uint32_t n) {
        return (n + 15) / 16 * 16;
}

/* What happens before the handlers; status 0: nothing */
static struct outcome foretell_checks(const struct trial *t) {
        const bool rep = t->row->kind == HV_CALL_REP, xmm = t->fast && t->long_mode;
        const enum fault f = t->fault;
        const uint32_t in = t->in, out = t->out;
        struct outcome o = { .done = t->start };

        if (f == FAULT_CPL)
                return (struct outcome){ .dispatch = HV_DISPATCH_UD };
        if (f == FAULT_RESERVED_BIT)
                return (struct outcome){ .status = 3 };
        if (xmm && f == FAULT_XMM_IN && in > 16)
                return (struct outcome){ .dispatch = HV_DISPATCH_UD };
        if (xmm && f == FAULT_XMM_OUT && out && round16(in) + out > 16)
                return (struct outcome){ .dispatch = HV_DISPATCH_UD };
        if (t->varhdr && !t->row->variable)
                return (struct outcome){ .status = 3 };
        if (rep ? t->start >= t->count : t->count || t->start)
                return (struct outcome){ .status = 3 };

        if (xmm && round16(in) + round16(out) > SIDE_FAST_BYTES)
                o.status = 3;
        else if (t->fast && !t->long_mode && (in > 16 || out))
                o.status = 3;
        else if (t->fast)
                o.status = 0;
        else if (in > 4096 || (in && (f == FAULT_IN_UNALIGNED || f == FAULT_IN_STRADDLES)))
                o.status = 4;
        else if (out > 4096 || (out && (f == FAULT_OUT_UNALIGNED || f == FAULT_OUT_STRADDLES)))
                o.status = 4;
        else if ((in && f == FAULT_IN_UNREADABLE) || (out && f == FAULT_OUT_UNWRITABLE))
                o.status = 3;

        if (o.status == 0 && f == FAULT_PRIVILEGE && t->row->privilege)
                o.status = 6;
        return o;
}

static struct outcome foretell(const struct trial *t) {
        struct outcome o = foretell_checks(t);
        bool here;

        if (o.dispatch || o.status)
                return o;
        if (t->row->kind == HV_CALL_SIMPLE) {
                if (t->fault == FAULT_STATUS)
                        return (struct outcome){ .status = 0x50 };
                if (t->fault == FAULT_ERRNO)
                        return (struct outcome){ .dispatch = -EIO };
                return (struct outcome){ .gives = true };
        }
        here = t->at >= t->start && t->at < t->count;
        if (t->fault == FAULT_STATUS && here)
                return (struct outcome){ .status = 0x50, .done = t->at, .gives = true };
        if (t->fault == FAULT_ERRNO && here)
                return (struct outcome){ .dispatch = -EIO };
        if (t->fault == FAULT_YIELD && here && t->at > t->start)
                return (struct outcome){ HV_DISPATCH_RETRY, .done = t->at, .gives = true };
        return (struct outcome){ .done = t->count, .gives = true };
}

/*
 * Where a block lies: at the end of the page before @end, where a step further would be a fault, or
 * at a fault. A block of 8 bytes cannot straddle without being unaligned, which is the same status.
 */
static uint64_t place(uint32_t len, uint64_t end, bool unaligned, bool straddles) {
        uint64_t size = (len + 7) / 8 * 8;

        if (len == 0)
                return UINT64_MAX - 2; /* not to be looked at */
        if (len > HV_PAGE_SIZE)
                return end - HV_PAGE_SIZE;
        if (straddles && size > 8)
                return end - size + 8;
        if (straddles || unaligned)
                return end - size + 4;
        return end - size;
}

static void arrange(struct side *s, const struct trial *t, uint64_t *ret_in, uint64_t *ret_out) {
        uint64_t control = SIDE_CONTROL(t->row->code, t->fast, t->count, t->start) |
                           (uint64_t) t->varhdr << HV_CONTROL_VARHDR_SHIFT;

        if (t->fault == FAULT_RESERVED_BIT)
                control |= 1ull << (27 + t->at % 5);
        s->io.long_mode = t->long_mode;
        s->io.cpl = t->fault == FAULT_CPL ? 3 : 0;
        s->io.xmm_input = t->fault != FAULT_XMM_IN;
        s->io.xmm_output = t->fault != FAULT_XMM_OUT;
        s->io.privileges = t->fault == FAULT_PRIVILEGE ? 0 : UINT64_MAX;
        s->right[0] = t->fault == FAULT_IN_UNREADABLE ? SIDE_W : SIDE_R;
        s->right[2] = t->fault == FAULT_OUT_UNWRITABLE ? SIDE_R : SIDE_W;
        s->fails = t->fault == FAULT_STATUS || t->fault == FAULT_ERRNO;
        s->fail_at = t->at;
        s->fail_with = t->fault == FAULT_STATUS ? HV_STATUS_INVALID_REGISTER_VALUE : -EIO;
        if (t->fault == FAULT_YIELD && t->at > t->start)
                s->yes_yields = 1ull << (t->at - t->start - 1);

        *ret_in = place(t->in, SIDE_PAGE(1), t->fault == FAULT_IN_UNALIGNED,
                        t->fault == FAULT_IN_STRADDLES);
        *ret_out = place(t->out, SIDE_PAGE(3), t->fault == FAULT_OUT_UNALIGNED,
                         t->fault == FAULT_OUT_STRADDLES);
        if (!t->fast) {
                side_set_input(s, *ret_in);
                side_set_output(s, *ret_out);
        }
        side_set_control(s, control);
}

/* The input as the handlers are to see it: the header, and the elements that they are given */
static void expect_seen(const struct trial *t, const struct outcome *o, const struct side *s,
                        uint64_t in_gpa, uint8_t seen[HV_INPUT_MAX]) {
        const uint32_t header = t->row->input + 8u * t->varhdr;
        uint8_t fast[SIDE_FAST_BYTES];

        memset(seen, 0, HV_INPUT_MAX);
        if (!o->gives || t->in == 0)
                return;
        side_state_get_fast(&s->now, t->long_mode, fast);
        memcpy(seen, t->fast ? fast : &s->now.memory[in_gpa - SIDE_GPA], t->in);
        if (t->row->kind != HV_CALL_REP)
                return;
        memset(seen + header, 0, t->start * t->row->rep_in);
        memset(seen + header + o->done * t->row->rep_in, 0, (t->count - o->done) * t->row->rep_in);
}

/* The output of a trial that came as far as @o says, written into @want */
static void expect_output(const struct trial *t, const struct outcome *o, const uint8_t *seen,
                          uint64_t out_gpa, struct side_state *want) {
        const uint32_t header = t->row->input + 8u * t->varhdr;
        uint8_t fast[SIDE_FAST_BYTES], *output;

        if (!o->gives || !t->out)
                return;
        side_state_get_fast(want, true, fast);
        output = t->fast ? fast + round16(t->in) : &want->memory[out_gpa - SIDE_GPA];
        if (t->row->kind == HV_CALL_SIMPLE)
                side_output_simple(t->row, seen, header, output);
        else
                for (uint16_t e = t->start; e < o->done; e++)
                        side_output_element(t->row, seen, header,
                                            seen + header + e * t->row->rep_in, e,
                                            output + e * t->row->rep_out);
        if (t->fast)
                side_state_put_fast(want, fast);
}

static void expect_registers(const struct trial *t, const struct outcome *o,
                             struct side_state *want) {
        uint32_t moved = o->done - t->start;

        if (o->dispatch == HV_DISPATCH_DONE)
                side_state_set_result(want, t->long_mode, SIDE_RESULT(o->status, o->done));
        if (o->dispatch != HV_DISPATCH_RETRY)
                return;
        /* The rep start: bits 59:48 of RCX, or 27:16 of EDX */
        if (t->long_mode)
                want->reg[SIDE_RCX] += (uint64_t) moved << 48;
        else
                want->reg[SIDE_RDX] = (uint32_t) want->reg[SIDE_RDX] + (moved << 16);
}

static void run_trial(const struct trial *t, const struct outcome *o) {
        uint8_t seen[HV_INPUT_MAX];
        struct side_state want;
        uint64_t in_gpa, out_gpa;
        struct side s;
        int r;

        side_init(&s, t->row->code * 31 + t->count);
        arrange(&s, t, &in_gpa, &out_gpa);
        want = s.now;
        expect_seen(t, o, &s, in_gpa, seen);
        expect_output(t, o, seen, out_gpa, &want);
        expect_registers(t, o, &want);

        r = side_dispatch(&s);
        if (r != o->dispatch || memcmp(&s.now, &want, sizeof(want)) != 0)
                print_message("# %s %d bits %s, count %u start %u varhdr %u, fault %d at %u: %d\n",
                              t->row->name, t->long_mode ? 64 : 32, t->fast ? "fast" : "memory",
                              t->count, t->start, t->varhdr, t->fault, t->at, r);
        assert_int_equal(r, o->dispatch);
        assert_memory_equal(s.now.reg, want.reg, sizeof(want.reg));
        assert_memory_equal(s.now.xmm, want.xmm, sizeof(want.xmm));
        assert_memory_equal(s.now.memory, want.memory, sizeof(want.memory));
        /* A call that was turned away never came to its handler. */
        if (!o->gives && o->status != 0x50 && o->dispatch != -EIO)
                assert_int_equal(s.handled + s.prepared, 0);
        /* A failing handler has seen one element more than was completed. */
        if (t->fault != FAULT_STATUS && t->fault != FAULT_ERRNO)
                assert_memory_equal(s.seen, seen, sizeof(seen));
}

struct tally {
        unsigned int trials, served, partial, continued;
};

static void run_faults(struct trial t, struct tally *tally) {
        struct outcome o;

        for (t.fault = 0; t.fault < FAULT_MAX; t.fault++)
                for (int form = 0; form < 4; form++) {
                        t.long_mode = form & 1;
                        t.fast = form & 2;
                        o = foretell(&t);
                        run_trial(&t, &o);
                        tally->trials++;
                        tally->served += o.dispatch == HV_DISPATCH_DONE && o.status == 0;
                        tally->partial += o.dispatch == HV_DISPATCH_DONE && o.gives && o.status;
                        tally->continued += o.dispatch == HV_DISPATCH_RETRY;
                }
}

static void run_row(const struct hv_call *row, struct tally *tally) {
        static const uint16_t counts[] = { 0, 1, 2, 3, 4, 7, 12, 28, 127, 254, 510, 511, 4095 };
        static const uint16_t varhdrs[] = { 0, 1, 2, 3, 509, 1023 };

        for (size_t c = 0; c < ARRAY_SIZE(counts); c++)
                for (size_t v = 0; v < ARRAY_SIZE(varhdrs); v++) {
                        const uint16_t n = counts[c];
                        /* From the beginning, the middle, the last element, and too late */
                        const uint16_t starts[] = { 0, n / 2, n ? n - 1 : 0, n };

                        for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
                                struct trial t = {
                                        .row = row,
                                        .count = n,
                                        .start = starts[i],
                                        .varhdr = varhdrs[v],
                                        .at = starts[i] + (c + v) % 3,
                                        .in = row->input + n * row->rep_in,
                                        .out = row->output + n * row->rep_out,
                                };

                                if (row->variable)
                                        t.in += 8u * t.varhdr;
                                run_faults(t, tally);
                        }
                }
}

static void test_simple_calls(void **state) {
        struct tally tally = { 0 };

        for (size_t i = 0; i < side_table_n; i++)
                if (side_table[i].kind == HV_CALL_SIMPLE)
                        run_row(&side_table[i], &tally);
        print_message("# %u trials, %u served\n", tally.trials, tally.served);
        /* So that it cannot become empty unnoticed */
        assert_true(tally.served > 500);
}

static void test_rep_calls(void **state) {
        struct tally tally = { 0 };

        for (size_t i = 0; i < side_table_n; i++)
                if (side_table[i].kind == HV_CALL_REP)
                        run_row(&side_table[i], &tally);
        print_message("# %u trials, %u served, %u in part, %u continued\n", tally.trials,
                      tally.served, tally.partial, tally.continued);
        assert_true(tally.served > 5000 && tally.partial > 500 && tally.continued > 300);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_simple_calls),
                cmocka_unit_test(test_rep_calls),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
