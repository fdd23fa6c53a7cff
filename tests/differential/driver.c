/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The engine's side of the differential test: makes the hypercalls that tests/differential/ invents
 * and tells everything that came of them, many cases in one process.
 *
 *      driver                       serves batches of cases from standard input
 *      driver --table               prints the rows of hv_calls
 *      driver-mutants --mutants     prints the names of the mutants
 *      driver-mutants --mutant=N    serves batches, with one rule of the ABI broken
 *
 * All numbers are little-endian, nothing is padded.
 *
 *      batch    u32 bytes to follow, then cases: u16 length, and a case as in caller.h
 *      answer   u32 bytes to follow, then an outcome for each case: u32 length, and
 *               u8 turns, u8 broken promise (enum promise), u8 hot path, u64 its control input
 *               and for each turn
 *               i32 hv_dispatch()'s answer, u64 registers[7], u8 xmm[6][16],
 *               u8 VTL switches, u8 is_return, u64 control input,
 *               u16 prepare() calls, u16 handler calls, u32 trace,
 *               u8 whether memory changed, and if so u8 page, u16 offset, u16 length, bytes
 *
 * A change is the span from the first to the last byte of a page that is not as before the turn:
 * there is one at most, for the engine may write once only.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/differential/caller.h"
#include "util/util.h"
#ifdef VTLD_DIFFERENTIAL_MUTANTS
#include "tests/differential/mutants.h"
#endif

#define BATCH_MAX (64u << 20)
/* No machine takes as long for so few cases: an engine that does not come back is a finding. */
#define ALARM_CASES 64
#define ALARM_SECONDS 30

struct buffer {
        uint8_t *data;
        size_t len, size;
};

static void buffer_done(struct buffer *b) {
        free(b->data);
}

static void put(struct buffer *b, const void *data, size_t len) {
        if (b->len + len > b->size) {
                b->size = 2 * (b->len + len);
                b->data = realloc(b->data, b->size);
                if (!b->data) {
                        perror("driver");
                        exit(1);
                }
        }
        memcpy(b->data + b->len, data, len);
        b->len += len;
}

static void put8(struct buffer *b, uint8_t v) {
        put(b, &v, sizeof(v));
}

static void put16(struct buffer *b, uint16_t v) {
        put(b, &v, sizeof(v));
}

static void put32(struct buffer *b, uint32_t v) {
        put(b, &v, sizeof(v));
}

static void put64(struct buffer *b, uint64_t v) {
        put(b, &v, sizeof(v));
}

/* Carried from case to case; static for their size alone. */
static struct patterns patterns;
static struct caller caller;

/* What is tested, or mutants of it */
static caller_dispatch_fn *dispatch = hv_dispatch;
static caller_hot_path_fn *hot_path = caller_hot_path;

static void put_change(struct buffer *b, const struct caller *c) {
        const uint8_t *is = &c->memory[c->change.page][c->change.offset];
        uint16_t from = 0, to = c->change.len;

        while (from < to && c->old[from] == is[from])
                from++;
        while (from < to && c->old[to - 1] == is[to - 1])
                to--;
        if (from == to) {
                put8(b, 0);
                return;
        }
        put8(b, 1);
        put8(b, c->change.page);
        put16(b, c->change.offset + from);
        put16(b, to - from);
        put(b, is + from, to - from);
}

static void put_turn(struct buffer *b, const struct caller *c, int32_t answer) {
        put32(b, (uint32_t) answer);
        put(b, c->reg, sizeof(c->reg));
        put(b, c->xmm, sizeof(c->xmm));
        put8(b, c->turn.switches);
        put8(b, c->turn.is_return);
        put64(b, c->turn.switch_input);
        put16(b, c->turn.prepared);
        put16(b, c->turn.handled);
        put32(b, c->turn.trace);
        put_change(b, c);
}

static void run_case(struct buffer *b, const uint8_t *data, size_t len) {
        struct caller *c = &caller;
        size_t begin = b->len;
        int answer = HV_DISPATCH_RETRY;
        uint64_t hot_input;
        uint32_t length;
        uint8_t hot, turns = 0;

        if (caller_init(c, data, len, &patterns) < 0) {
                (void) fprintf(stderr, "driver: this is no case\n");
                exit(2);
        }
        hot = hot_path(c, &hot_input);
        put32(b, 0);
        put8(b, 0);
        put8(b, 0);
        put8(b, hot);
        put64(b, hot_input);
        while (answer == HV_DISPATCH_RETRY && turns < c->head.turns) {
                answer = caller_issue(c, dispatch);
                put_turn(b, c, answer);
                turns++;
        }
        caller_done(c, &patterns);
        length = (uint32_t) (b->len - begin - sizeof(length));
        memcpy(b->data + begin, &length, sizeof(length));
        b->data[begin + 4] = turns;
        b->data[begin + 5] = c->broken;
}

/* Takes a whole batch before it answers: whoever writes one never waits for somebody to read. */
static int serve(void) {
        uint32_t size;

        while (fread(&size, sizeof(size), 1, stdin) == 1) {
                _cleanup_free_ uint8_t *batch = NULL;
                _cleanup_(buffer_done) struct buffer b = { 0 };
                unsigned int n = 0;
                uint16_t len;

                batch = size <= BATCH_MAX ? malloc(size) : NULL;
                if (!batch || fread(batch, 1, size, stdin) != size) {
                        (void) fprintf(stderr, "driver: no batch of %u bytes\n", size);
                        return 2;
                }
                put32(&b, 0);
                for (size_t at = 0; at < size; at += len) {
                        if (size - at < sizeof(len))
                                return 2;
                        memcpy(&len, batch + at, sizeof(len));
                        at += sizeof(len);
                        if (size - at < len)
                                return 2;
                        if (n++ % ALARM_CASES == 0)
                                (void) alarm(ALARM_SECONDS);
                        run_case(&b, batch + at, len);
                }
                (void) alarm(0);
                size = (uint32_t) (b.len - sizeof(size));
                memcpy(b.data, &size, sizeof(size));
                if (fwrite(b.data, 1, b.len, stdout) != b.len || fflush(stdout) != 0)
                        return 1;
        }
        return ferror(stdin) ? 1 : 0;
}

static int print_table(void) {
        static const char *const kinds[] = {
                [HV_CALL_SIMPLE] = "simple",
                [HV_CALL_REP] = "rep",
                [HV_CALL_VTL] = "vtl",
        };

        for (size_t i = 0; i < hv_calls_n; i++) {
                const struct hv_call *c = &hv_calls[i];

                printf("%s code=%#x kind=%s input=%u output=%u rep_in=%u rep_out=%u variable=%d "
                       "privilege=%#llx\n",
                       c->name, c->code, kinds[c->kind], c->input, c->output, c->rep_in, c->rep_out,
                       c->variable, (unsigned long long) c->privilege);
        }
        return 0;
}

int main(int argc, char **argv) {
        const char *option = argc == 2 ? argv[1] : "";

        caller_patterns_init(&patterns);
        if (strcmp(option, "--table") == 0)
                return print_table();
#ifdef VTLD_DIFFERENTIAL_MUTANTS
        if (strcmp(option, "--mutants") == 0)
                return mutants_print();
        if (strncmp(option, "--mutant=", 9) == 0 && mutants_choose(option + 9) == 0) {
                dispatch = mutants_dispatch;
                hot_path = mutants_hot_path;
                option = "";
        }
#endif
        if (argc > 2 || *option) {
                (void) fprintf(stderr, "usage: see the head of tests/differential/driver.c\n");
                return 2;
        }
        return serve();
}
