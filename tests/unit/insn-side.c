/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/insn-side.h"
#include "util/util.h"

/* What was visited, as text: r read, w write, R and W with supervisor rights; address+size. */
struct record {
        struct tiny_guest *guest;
        char text[4096];
};

static int record_access(void *userdata, const struct insn_access *a) {
        struct record *rec = userdata;
        size_t at = strlen(rec->text);
        const char *names = a->implicit ? "RW" : "rw";

        snprintf(rec->text + at, sizeof(rec->text) - at, "%s%c%llx+%u", at ? " " : "",
                 names[a->type == INSN_WRITE], (unsigned long long) a->gva, a->size);
        return 0;
}

static int record_read(void *userdata, uint64_t gva, void *buf, uint32_t len, bool implicit) {
        struct record *rec = userdata;

        return tiny_read(rec->guest, gva, buf, len) ? INSN_STOP : 0;
}

size_t from_hex(const char *hex, uint8_t bytes[INSN_MAX_LENGTH]) {
        size_t n = 0;

        for (; hex[n * 2]; n++) {
                char byte[3] = { hex[n * 2], hex[n * 2 + 1], 0 };

                bytes[n] = strtoul(byte, NULL, 16);
        }
        return n;
}

static int visit(struct tiny_guest *g, const char *hex, struct record *rec) {
        struct insn_cpu cpu = {
                .regs = &g->regs,
                .sregs = &g->sregs,
                .vectors = g->have_vectors ? &g->vectors : NULL,
        };
        struct insn_env env = { record_access, record_read, rec };
        uint8_t bytes[INSN_MAX_LENGTH] = { 0 };
        size_t n = from_hex(hex, bytes);

        *rec = (struct record){ .guest = g };
        if (insn_length(&cpu, bytes, n) != (int) n)
                fail_msg("%s: length %d", hex, insn_length(&cpu, bytes, n));
        for (size_t i = 0; i < n; i++)
                if (insn_length(&cpu, bytes, i) != 0)
                        fail_msg("%s: complete after %zu bytes", hex, i);
        return insn_visit(&cpu, bytes, n, &env);
}

void expect_result(struct tiny_guest *g, const char *hex, int result, const char *want) {
        struct record rec;
        int r;

        r = visit(g, hex, &rec);
        if (r != result || strcmp(rec.text, want))
                fail_msg("%s: got %d \"%s\", want %d \"%s\"", hex, r, rec.text, result, want);
}

void expect(struct tiny_guest *g, const char *hex, const char *want) {
        expect_result(g, hex, 0, want);
}

int insn_side_setup(void **state) {
        *state = malloc(sizeof(struct tiny_guest));
        return *state ? 0 : -1;
}

int insn_side_teardown(void **state) {
        free(*state);
        return 0;
}
