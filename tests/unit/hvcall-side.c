/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>

#include "tests/must.h"
#include "tests/unit/hvcall-side.h"

static uint8_t sum(const uint8_t *p, uint32_t len) {
        uint8_t s = 0;

        for (uint32_t i = 0; i < len; i++)
                s += p[i] * (uint8_t) (2 * i + 1);
        return s;
}

void side_output_simple(const struct hv_call *row, const uint8_t *input, uint32_t len,
                        uint8_t *ret) {
        for (uint32_t i = 0; i < row->output; i++)
                ret[i] = sum(input, len) + 7 * i + 1;
}

void side_output_element(const struct hv_call *row, const uint8_t *header, uint32_t len,
                         const uint8_t *element, uint16_t index, uint8_t *ret) {
        for (uint32_t i = 0; i < row->rep_out; i++)
                ret[i] = sum(header, len) + 3 * sum(element, row->rep_in) + 5 * index + i + 1;
}

static void promise_zeroed(const void *p, uint32_t len) {
        for (uint32_t i = 0; i < len; i++)
                MUST(((const uint8_t *) p)[i] == 0);
}

static int simple_handler(struct hv_call_ctx *c) {
        struct side *s = c->vp;

        MUST(((uintptr_t) c->input & 15) == 0);
        MUST(c->varhdr_bytes == 0 || s->row->variable);
        MUST(c->long_mode == s->io.long_mode);
        MUST(c->rep_count == 0 && c->rep_start == 0 && c->index == 0);
        promise_zeroed(c->output, s->row->output);
        s->handled++;
        memcpy(s->seen, c->input, s->row->input + c->varhdr_bytes);

        /* Before the failure, so that a test sees whether it is dropped */
        side_output_simple(s->row, c->input, s->row->input + c->varhdr_bytes, c->output);
        return s->fails ? s->fail_with : 0;
}

static void serve(struct side *s, struct hv_call_ctx *c, uint16_t ahead) {
        const uint8_t *in = c->elem_in;
        uint8_t *out = c->elem_out;
        uint32_t header = s->row->input + c->varhdr_bytes;
        uint32_t offset = header + (c->index + ahead) * s->row->rep_in;

        memcpy(s->seen, c->input, header);
        memcpy(s->seen + offset, in + ahead * s->row->rep_in, s->row->rep_in);
        promise_zeroed(out + ahead * s->row->rep_out, s->row->rep_out);
        side_output_element(s->row, c->input, s->row->input + c->varhdr_bytes,
                            in + ahead * s->row->rep_in, c->index + ahead,
                            out + ahead * s->row->rep_out);
}

static void promise_element(const struct side *s, const struct hv_call_ctx *c) {
        MUST(((uintptr_t) c->input & 15) == 0);
        MUST(c->varhdr_bytes == 0 || s->row->variable);
        MUST(c->long_mode == s->io.long_mode);
        MUST(c->rep_start <= c->index && c->index < c->rep_count);
        MUST(c->list_in == (const uint8_t *) c->input + s->row->input + c->varhdr_bytes);
        MUST(c->elem_in == (const uint8_t *) c->list_in + c->index * s->row->rep_in);
}

static int rep_handler(struct hv_call_ctx *c) {
        struct side *s = c->vp;

        promise_element(s, c);
        /* Elements come in order, and scratch is kept from one to the next. */
        MUST(c->scratch[0] == s->handled);
        c->scratch[0]++;
        s->handled++;

        serve(s, c, 0);
        return s->fails && c->index == s->fail_at ? s->fail_with : 0;
}

static int batch_prepare(struct hv_call_ctx *c, uint16_t *ret_done) {
        struct side *s = c->vp;

        promise_element(s, c);
        MUST(c->index == c->rep_start && *ret_done == c->rep_start);
        promise_zeroed(c->scratch, sizeof(c->scratch));
        MUST(s->handled == 0);
        s->prepared++;

        for (uint16_t i = 0; i < s->batch && c->index + i < c->rep_count; i++) {
                serve(s, c, i);
                ++*ret_done;
        }
        *ret_done += s->prepare_lie;
        return s->prepare_with;
}

#define SIMPLE(c, in, out, ...)                                                                  \
        {                                                                                        \
                .code = (c), .kind = HV_CALL_SIMPLE, .name = #c, .input = (in), .output = (out), \
                .handler = simple_handler, __VA_ARGS__                                           \
        }
#define REP(c, hdr, in, out, ...)                                                             \
        {                                                                                     \
                .code = (c), .kind = HV_CALL_REP, .name = #c, .input = (hdr), .rep_in = (in), \
                .rep_out = (out), .handler = rep_handler, __VA_ARGS__                         \
        }
#define VTL(c) \
        { .code = (c), .kind = HV_CALL_VTL, .name = #c, .privilege = HV_PRIV_VSM }

const struct hv_call side_table[] = {
        SIMPLE(SIDE_SIMPLE_IN, 16, 0),
        SIMPLE(SIDE_SIMPLE_IN_OUT, 24, 24),
        SIMPLE(SIDE_SIMPLE_OUT, 0, 8),
        SIMPLE(SIDE_SIMPLE_VARIABLE, 8, 8, .variable = true),
        SIMPLE(SIDE_SIMPLE_NOTHING, 0, 0),
        SIMPLE(SIDE_SIMPLE_BIG, 240, 0),
        REP(SIDE_REP_IN, 16, 8, 0),
        REP(SIDE_REP_SMALL, 16, 4, 4),
        REP(SIDE_REP_GET, 16, 4, 16),
        REP(SIDE_REP_SET, 16, 32, 0),
        REP(SIDE_REP_VARIABLE, 16, 8, 8, .variable = true),
        REP(SIDE_REP_BATCH, 16, 8, 8, .prepare = batch_prepare),
        REP(SIDE_REP_NO_HEADER, 0, 4, 8),
        REP(SIDE_REP_OUT, 8, 0, 8),
        REP(SIDE_REP_ONLY_OUT, 0, 0, 4),
        VTL(SIDE_VTL_CALL),
        VTL(SIDE_VTL_RETURN),
        SIMPLE(SIDE_SIMPLE_PRIVILEGED, 16, 0, .privilege = HV_PRIV_VSM | HV_PRIV_SYNIC),
        REP(SIDE_REP_PRIVILEGED, 16, 8, 0, .privilege = HV_PRIV_VSM),
};
const size_t side_table_n = sizeof(side_table) / sizeof(side_table[0]);

/* A block, or NULL when its page lacks the right; promises are what the engine may never ask. */
static uint8_t *side_memory(struct side *s, uint64_t gpa, uint32_t len, uint8_t right) {
        MUST(len > 0 && len <= HV_PAGE_SIZE);
        MUST((gpa & 7) == 0 || right == SIDE_W); /* outputs of single elements may be smaller */
        MUST(gpa >> 52 == 0);
        MUST((gpa & (HV_PAGE_SIZE - 1)) + len <= HV_PAGE_SIZE);

        if (gpa < SIDE_GPA || gpa >= SIDE_GPA + SIDE_BYTES)
                return NULL;
        if (!(s->right[(gpa - SIDE_GPA) / HV_PAGE_SIZE] & right))
                return NULL;
        return &s->now.memory[gpa - SIDE_GPA];
}

static int side_read(void *userdata, uint64_t gpa, void *buf, uint32_t len) {
        struct side *s = userdata;
        const uint8_t *p = side_memory(s, gpa, len, SIDE_R);

        MUST(++s->reads == 1); /* one copy */
        if (s->fail_read)
                return s->fail_read;
        if (!p)
                return HV_STATUS_INVALID_HYPERCALL_INPUT;
        memcpy(buf, p, len);
        return 0;
}

static int side_write(void *userdata, uint64_t gpa, const void *buf, uint32_t len) {
        struct side *s = userdata;
        uint8_t *p = side_memory(s, gpa, len, SIDE_W);

        MUST(++s->writes == 1 && s->probes == 1);
        if (s->fail_write)
                return s->fail_write;
        if (!p)
                return HV_STATUS_INVALID_HYPERCALL_INPUT;
        memcpy(p, buf, len);
        return 0;
}

static int side_probe_write(void *userdata, uint64_t gpa, uint32_t len) {
        struct side *s = userdata;
        const uint8_t *p = side_memory(s, gpa, len, SIDE_W);

        MUST(++s->probes == 1);
        MUST(s->handled == 0 && s->prepared == 0);
        if (s->fail_probe)
                return s->fail_probe;
        return p ? 0 : HV_STATUS_INVALID_HYPERCALL_INPUT;
}

static int side_get_xmm(void *userdata, uint8_t xmm[HV_XMM_PAIRS][16]) {
        struct side *s = userdata;

        MUST(++s->get_xmms == 1);
        if (s->fail_get_xmm)
                return s->fail_get_xmm;
        memcpy(xmm, s->now.xmm, sizeof(s->now.xmm));
        return 0;
}

static int side_set_xmm(void *userdata, const uint8_t xmm[HV_XMM_PAIRS][16]) {
        struct side *s = userdata;

        MUST(++s->set_xmms == 1 && s->get_xmms == 1);
        if (s->fail_set_xmm)
                return s->fail_set_xmm;
        memcpy(s->now.xmm, xmm, sizeof(s->now.xmm));
        return 0;
}

static bool side_should_yield(void *userdata) {
        struct side *s = userdata;
        unsigned int n = s->yields++;

        MUST(s->handled > 0 || s->batch > 0);
        return n < 64 && s->yes_yields >> n & 1;
}

static int side_vtl_switch(void *userdata, bool is_return, uint64_t control_input) {
        struct side *s = userdata;

        s->switches++;
        s->switch_is_return = is_return;
        s->switch_input = control_input;
        return s->switch_answer;
}

void side_init(struct side *s, uint32_t seed) {
        uint64_t *p = (uint64_t *) &s->now;
        uint64_t word = seed;

        _Static_assert(sizeof(s->now) % sizeof(*p) == 0, "filled by words");
        memset(s, 0, sizeof(*s));
        for (size_t i = 0; i < sizeof(s->now) / sizeof(*p); i++) {
                word = word * 6364136223846793005ull + 1442695040888963407ull;
                p[i] = word ^ word >> 29;
        }
        memset(s->right, SIDE_RW, sizeof(s->right));
        s->switch_answer = HV_DISPATCH_SWITCHED;
        s->io = (struct hv_io){
                .long_mode = true,
                .protected_mode = true,
                .privileges = UINT64_MAX,
                .xmm_input = true,
                .xmm_output = true,
                .rax = &s->now.reg[SIDE_RAX],
                .rbx = &s->now.reg[SIDE_RBX],
                .rcx = &s->now.reg[SIDE_RCX],
                .rdx = &s->now.reg[SIDE_RDX],
                .rsi = &s->now.reg[SIDE_RSI],
                .rdi = &s->now.reg[SIDE_RDI],
                .r8 = &s->now.reg[SIDE_R8],
                .read = side_read,
                .write = side_write,
                .probe_write = side_probe_write,
                .get_xmm = side_get_xmm,
                .set_xmm = side_set_xmm,
                .should_yield = side_should_yield,
                .vtl_switch = side_vtl_switch,
                .userdata = s,
        };
}

int side_dispatch(struct side *s) {
        uint64_t code = s->io.long_mode ? s->now.reg[SIDE_RCX] : s->now.reg[SIDE_RAX];

        s->reads = s->writes = s->probes = s->get_xmms = s->set_xmms = s->yields = 0;
        s->handled = s->prepared = 0;
        memset(s->seen, 0, sizeof(s->seen));
        s->row = hv_call_find(side_table, side_table_n, code & HV_CONTROL_CODE_MASK);
        return hv_dispatch(side_table, side_table_n, &s->io, s);
}

/* Two registers of a 32-bit caller, one of a 64-bit one */
static void set_pair(struct side *s, enum side_reg r64, enum side_reg high, enum side_reg low,
                     uint64_t value) {
        const uint64_t upper = ~0xffffffffull;
        uint64_t *reg = s->now.reg;

        if (s->io.long_mode) {
                reg[r64] = value;
                return;
        }
        reg[high] = (reg[high] & upper) | value >> 32;
        reg[low] = (reg[low] & upper) | (uint32_t) value;
}

void side_set_control(struct side *s, uint64_t control) {
        set_pair(s, SIDE_RCX, SIDE_RDX, SIDE_RAX, control);
}

void side_set_input(struct side *s, uint64_t value) {
        set_pair(s, SIDE_RDX, SIDE_RBX, SIDE_RCX, value);
}

void side_set_output(struct side *s, uint64_t value) {
        set_pair(s, SIDE_R8, SIDE_RDI, SIDE_RSI, value);
}

uint64_t side_get_result(const struct side *s) {
        if (s->io.long_mode)
                return s->now.reg[SIDE_RAX];
        return s->now.reg[SIDE_RDX] << 32 | (uint32_t) s->now.reg[SIDE_RAX];
}

/* What a processor does that writes 32-bit registers: upper halves become zero. */
void side_state_set_result(struct side_state *state, bool long_mode, uint64_t result) {
        state->reg[SIDE_RAX] = long_mode ? result : (uint32_t) result;
        if (!long_mode)
                state->reg[SIDE_RDX] = result >> 32;
}

void side_state_get_fast(const struct side_state *state, bool long_mode,
                         uint8_t bytes[SIDE_FAST_BYTES]) {
        static const enum side_reg place[2][4] = {
                /* bytes 0-3, 4-7, 8-11, 12-15 */
                { SIDE_RCX, SIDE_RBX, SIDE_RSI, SIDE_RDI },
                { SIDE_RDX, SIDE_RDX, SIDE_R8, SIDE_R8 },
        };

        for (unsigned int i = 0; i < 4; i++) {
                const uint8_t *reg = (const uint8_t *) &state->reg[place[long_mode][i]];

                memcpy(bytes + 4 * i, reg + (long_mode ? 4 * (i & 1) : 0), 4);
        }
        memcpy(bytes + 16, state->xmm, sizeof(state->xmm));
}

void side_state_put_fast(struct side_state *state, const uint8_t bytes[SIDE_FAST_BYTES]) {
        memcpy(&state->reg[SIDE_RDX], bytes, 8);
        memcpy(&state->reg[SIDE_R8], bytes + 8, 8);
        memcpy(state->xmm, bytes + 16, sizeof(state->xmm));
}

bool hv_table_sound(const struct hv_call *table, size_t n) {
        for (size_t i = 0; i < n; i++) {
                const struct hv_call *c = &table[i];
                bool sizes = c->input || c->output || c->rep_in || c->rep_out || c->variable;

                if (i > 0 && table[i - 1].code >= c->code)
                        return false;
                if (!c->name || c->input > HV_PAGE_SIZE || c->output > HV_PAGE_SIZE)
                        return false;
                if (c->kind == HV_CALL_VTL && (sizes || c->handler || c->prepare))
                        return false;
                if (c->kind != HV_CALL_VTL && !c->handler)
                        return false;
                if (c->kind == HV_CALL_SIMPLE && (c->rep_in || c->rep_out || c->prepare))
                        return false;
                if (c->kind == HV_CALL_REP && (c->output || !(c->rep_in || c->rep_out)))
                        return false;
                /* Handlers read their headers and elements in place */
                if (c->kind == HV_CALL_REP && c->input % 8)
                        return false;
        }
        return true;
}
