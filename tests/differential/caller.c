/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <linux/kvm.h>
#include <string.h>

#include "tests/differential/caller.h"
#include "util/util.h"
#include "vtl/switch.h"

#define CR0_PE 1u
#define EFER_LMA (1u << 10)
#define RFLAGS_VM (1u << 17)

/* Not abort(): a broken promise is an outcome like others, which can be compared and shrunk. */
static void promise(struct caller *c, bool kept, enum promise which) {
        if (!kept && c->broken == PROMISES_KEPT)
                c->broken = which;
}

/* ---- CRC-32 as zlib has it: what both sides can compute quickly ---- */

static uint32_t crc32_add(uint32_t crc, const void *data, size_t len) {
        static const uint32_t nibble[16] = {
                0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
        };
        const uint8_t *p = data;

        crc = ~crc;
        for (size_t i = 0; i < len; i++) {
                crc ^= p[i];
                crc = crc >> 4 ^ nibble[crc & 15];
                crc = crc >> 4 ^ nibble[crc & 15];
        }
        return ~crc;
}

/* ---- Memory ---- */

/* The page of a block, or NULL when the calling VTL may not use it so; an overlay is no RAM. */
static uint8_t *block(struct caller *c, uint64_t gpa, uint32_t len, uint8_t right) {
        uint8_t vtl = c->head.active_vtl;
        uint32_t offset = gpa % HV_PAGE_SIZE;

        promise(c, len > 0 && gpa >> 52 == 0 && offset + len <= HV_PAGE_SIZE, PROMISE_BLOCK);
        if (offset + len > HV_PAGE_SIZE)
                return NULL;
        for (size_t i = 0; i < c->head.pages; i++) {
                const struct case_page *page = &c->page[i];

                if (page->gpn != gpa / HV_PAGE_SIZE)
                        continue;
                if (!(page->right[vtl] & right) || page->overlays >> vtl & 1)
                        return NULL;
                if (right == RIGHT_W && c->lost)
                        return NULL;
                return &c->memory[i][offset];
        }
        return NULL;
}

static bool serving(const struct caller *c) {
        return c->turn.handled > 0 || c->turn.prepared > 0;
}

static int fails(const struct caller *c, enum case_io io) {
        return c->head.io_fails == io ? c->head.io_with : 0;
}

static int io_read(void *userdata, uint64_t gpa, void *buf, uint32_t len) {
        struct caller *c = userdata;
        const uint8_t *p = block(c, gpa, len, RIGHT_R);

        promise(c, ++c->reads == 1 && c->probes == 0 && !serving(c), PROMISE_ONE_READ);
        if (fails(c, IO_READ))
                return c->head.io_with;
        if (!p)
                return HV_STATUS_INVALID_HYPERCALL_INPUT;
        memcpy(buf, p, len);
        return 0;
}

static int io_probe_write(void *userdata, uint64_t gpa, uint32_t len) {
        struct caller *c = userdata;
        const uint8_t *p = block(c, gpa, len, RIGHT_W);

        promise(c, ++c->probes == 1 && !serving(c), PROMISE_PROBE);
        if (fails(c, IO_PROBE_WRITE))
                return c->head.io_with;
        return p ? 0 : HV_STATUS_INVALID_HYPERCALL_INPUT;
}

/* What is about to be written over */
static void remember(struct caller *c, const uint8_t *p, uint32_t len) {
        size_t at = (size_t) (p - c->memory[0]);

        c->change = (struct change){
                .page = (uint8_t) (at / HV_PAGE_SIZE),
                .offset = at % HV_PAGE_SIZE,
                .len = (uint16_t) len,
        };
        c->dirty[c->change.page] = true;
        memcpy(c->old, p, len);
}

static int io_write(void *userdata, uint64_t gpa, const void *buf, uint32_t len) {
        struct caller *c = userdata;
        uint8_t *p = block(c, gpa, len, RIGHT_W);

        promise(c, ++c->writes == 1 && c->probes == 1 && serving(c), PROMISE_ONE_WRITE);
        if (fails(c, IO_WRITE))
                return c->head.io_with;
        if (!p)
                return HV_STATUS_INVALID_HYPERCALL_INPUT;
        remember(c, p, len);
        memcpy(p, buf, len);
        return 0;
}

static int io_get_xmm(void *userdata, uint8_t xmm[HV_XMM_PAIRS][16]) {
        struct caller *c = userdata;

        promise(c, ++c->gets == 1 && !serving(c), PROMISE_XMM);
        if (fails(c, IO_GET_XMM))
                return c->head.io_with;
        memcpy(xmm, c->xmm, sizeof(c->xmm));
        return 0;
}

static int io_set_xmm(void *userdata, const uint8_t xmm[HV_XMM_PAIRS][16]) {
        struct caller *c = userdata;

        promise(c, ++c->sets == 1 && c->gets == 1 && serving(c), PROMISE_XMM);
        if (fails(c, IO_SET_XMM))
                return c->head.io_with;
        memcpy(c->xmm, xmm, sizeof(c->xmm));
        return 0;
}

static bool io_should_yield(void *userdata) {
        struct caller *c = userdata;

        promise(c, serving(c) && c->next > c->first, PROMISE_YIELD);
        for (size_t i = 0; i < c->head.stops; i++)
                if (c->stop[i] == c->next)
                        return true;
        return false;
}

/* The engine's own rule for the control input; the state of the VTLs is the case's. */
static int io_vtl_switch(void *userdata, bool is_return, uint64_t control_input) {
        struct caller *c = userdata;
        bool possible = is_return ? c->head.active_vtl == 1
                                  : c->head.active_vtl == 0 && (c->head.enabled_vtls & 2);

        c->turn.switches++;
        c->turn.is_return = is_return;
        c->turn.switch_input = control_input;
        return possible && vtl_switch_input_legal(is_return, control_input) ? HV_DISPATCH_SWITCHED
                                                                            : HV_DISPATCH_UD;
}

/* ---- Handlers ---- */

static void trace(struct caller *c, const void *data, size_t len) {
        c->turn.trace = crc32_add(c->turn.trace, data, len);
}

static void promise_zeroed(struct caller *c, const void *p, uint32_t len) {
        for (uint32_t i = 0; i < len; i++)
                promise(c, ((const uint8_t *) p)[i] == 0, PROMISE_ZEROED);
}

/* What all calls of one dispatch have in common is looked at once, and must stay as it was. */
static void take_header(struct caller *c, const struct hv_call_ctx *x) {
        uint32_t len = c->row->input + x->varhdr_bytes;
        const uint16_t numbers[] = { c->row->code, (uint16_t) x->varhdr_bytes, x->rep_count,
                                     x->rep_start, x->long_mode };

        if (c->header) {
                promise(c, c->header == x->input && c->header_len == len, PROMISE_HEADER);
                return;
        }
        promise(c, ((uintptr_t) x->input & 15) == 0, PROMISE_CONTEXT);
        promise(c, x->varhdr_bytes == 0 || c->row->variable, PROMISE_CONTEXT);
        promise(c, x->long_mode == c->io.long_mode, PROMISE_CONTEXT);
        promise_zeroed(c, x->scratch, sizeof(x->scratch));
        if (len > HV_INPUT_MAX) {
                promise(c, false, PROMISE_CONTEXT);
                len = 0;
        }
        c->header = x->input;
        c->header_len = len;
        trace(c, numbers, sizeof(numbers));
        trace(c, x->input, len);
        c->header_crc = crc32_add(0, x->input, len);
}

static void note(struct caller *c, char what, uint16_t index, const void *element, uint32_t len) {
        const uint16_t numbers[] = { (uint16_t) what, index };

        trace(c, numbers, sizeof(numbers));
        trace(c, element, len);
}

/* An output of @len bytes that depends on all that led to @word */
static void fill(uint8_t *out, uint32_t len, uint32_t word) {
        for (uint32_t i = 0; i < len; i++)
                out[i] = (uint8_t) ((word + i / 4 * 0x9e3779b1u) >> i % 4 * 8);
}

static void lose(struct caller *c, uint16_t index) {
        if (c->head.lose_at != CASE_NEVER && c->head.lose_at == index)
                c->lost = true;
}

static int simple_handler(struct hv_call_ctx *x) {
        struct caller *c = x->vp;

        take_header(c, x);
        promise(c, x->rep_count == 0 && x->rep_start == 0 && x->index == 0, PROMISE_CONTEXT);
        promise_zeroed(c, x->output, c->row->output);
        note(c, 'S', 0, NULL, 0);
        c->turn.handled++;
        lose(c, 0);

        /* Before the failure, so that it shows whether it is dropped */
        fill(x->output, c->row->output, c->header_crc);
        return c->head.fail_with;
}

/* Serves element x->index + @ahead. */
static int serve(struct caller *c, struct hv_call_ctx *x, char what, uint16_t ahead) {
        const uint8_t *in = (const uint8_t *) x->elem_in + ahead * c->row->rep_in;
        uint8_t *out = (uint8_t *) x->elem_out + ahead * c->row->rep_out;
        uint16_t index = x->index + ahead;

        if (index >= c->filled)
                promise_zeroed(c, out, c->row->rep_out);
        c->filled = MAX(c->filled, (uint16_t) (index + 1));
        note(c, what, index, in, c->row->rep_in);
        lose(c, index);
        fill(out, c->row->rep_out, crc32_add(c->header_crc ^ index, in, c->row->rep_in));
        return c->head.fail_with && c->head.fail_at == index ? c->head.fail_with : 0;
}

static void take_element(struct caller *c, const struct hv_call_ctx *x) {
        take_header(c, x);
        promise(c, x->rep_start == c->first && x->index >= x->rep_start, PROMISE_CONTEXT);
        promise(c, x->index < x->rep_count && x->index == c->next, PROMISE_CONTEXT);
        promise(c, x->list_in == (const uint8_t *) x->input + c->header_len, PROMISE_ELEMENT);
        promise(c, x->elem_in == (const uint8_t *) x->list_in + x->index * c->row->rep_in,
                PROMISE_ELEMENT);
}

static int rep_handler(struct hv_call_ctx *x) {
        struct caller *c = x->vp;
        int r;

        if (!serving(c))
                c->first = c->next = x->rep_start;
        take_element(c, x);
        promise(c, x->scratch[7] == c->turn.handled + 0x100ull * c->turn.prepared, PROMISE_SCRATCH);
        x->scratch[7]++;
        c->turn.handled++;

        r = serve(c, x, 'E', 0);
        c->next = x->index + 1;
        return r;
}

static int rep_prepare(struct hv_call_ctx *x, uint16_t *ret_done) {
        struct caller *c = x->vp;
        int r = 0;

        promise(c, !serving(c), PROMISE_CONTEXT);
        c->first = c->next = x->rep_start;
        take_element(c, x);
        promise(c, *ret_done == x->rep_start, PROMISE_CONTEXT);
        note(c, 'P', x->index, NULL, 0);
        c->turn.prepared++;
        x->scratch[7] = 0x100;

        for (uint16_t i = 0; r == 0 && i < c->head.batch && x->index + i < x->rep_count; i++) {
                r = serve(c, x, 'B', i);
                if (r == 0)
                        ++*ret_done;
        }
        *ret_done = (uint16_t) (*ret_done + c->head.lie);
        c->next = *ret_done;
        return r ? r : c->head.prepare_with;
}

/* ---- Cases ---- */

void caller_patterns_init(struct patterns *p) {
        const size_t size = sizeof(p->pristine[0]);

        memset(p->pristine[0], 0, size);
        for (uint64_t n = 1; n < CASE_PATTERNS; n++) {
                uint8_t *page = p->pristine[n][0];
                uint64_t word = n;

                for (size_t i = 0; i < size; i += sizeof(word)) {
                        uint64_t mixed;

                        word = word * 6364136223846793005ull + 1442695040888963407ull;
                        mixed = word ^ word >> 29;
                        memcpy(page + i, &mixed, sizeof(mixed));
                }
        }
        memcpy(p->used, p->pristine, sizeof(p->used));
}

static void init_table(struct caller *c, const struct case_row *rows) {
        for (size_t i = 0; i < c->head.rows; i++) {
                struct hv_call *call = &c->table[i];

                *call = (struct hv_call){
                        .code = rows[i].code,
                        .kind = rows[i].kind,
                        .name = "case",
                        .input = rows[i].input,
                        .output = rows[i].output,
                        .rep_in = rows[i].rep_in,
                        .rep_out = rows[i].rep_out,
                        .variable = rows[i].variable,
                        .privilege = rows[i].privilege,
                };
                if (call->kind == HV_CALL_SIMPLE)
                        call->handler = simple_handler;
                if (call->kind == HV_CALL_REP)
                        call->handler = rep_handler;
                if (rows[i].prepare)
                        call->prepare = rep_prepare;
        }
}

static struct kvm_sregs sregs_of(const struct caller *c) {
        uint8_t mode = c->head.mode;

        return (struct kvm_sregs){
                .efer = mode & MODE_EFER_LMA ? EFER_LMA : 0,
                .cr0 = mode & MODE_CR0_PE ? CR0_PE : 0,
                .cs.l = !!(mode & MODE_CS_L),
                .ss.dpl = c->head.cpl,
        };
}

static void init_io(struct caller *c) {
        const struct kvm_sregs sregs = sregs_of(c);
        uint8_t mode = c->head.mode;
        uint64_t *reg = c->reg;

        c->io = (struct hv_io){
                .long_mode = vtl_long_mode(&sregs),
                .protected_mode = (mode & MODE_CR0_PE) && !(mode & MODE_RFLAGS_VM),
                .cpl = (uint8_t) vtl_cpl(&sregs),
                .privileges = c->head.privileges,
                .xmm_input = mode & MODE_XMM_INPUT,
                .xmm_output = mode & MODE_XMM_OUTPUT,
                .rax = &reg[REG_RAX],
                .rbx = &reg[REG_RBX],
                .rcx = &reg[REG_RCX],
                .rdx = &reg[REG_RDX],
                .rsi = &reg[REG_RSI],
                .rdi = &reg[REG_RDI],
                .r8 = &reg[REG_R8],
                .read = io_read,
                .write = io_write,
                .probe_write = io_probe_write,
                .get_xmm = io_get_xmm,
                .set_xmm = io_set_xmm,
                .should_yield = c->head.stops ? io_should_yield : NULL,
                .vtl_switch = io_vtl_switch,
                .userdata = c,
        };
}

int caller_init(struct caller *c, const uint8_t *data, size_t len, struct patterns *p) {
        struct case_row rows[CASE_ROWS_MAX];
        struct case_head h;
        size_t rows_len, pages_len, stops_len;

        if (len < sizeof(h))
                return -1;
        memcpy(&h, data, sizeof(h));
        data += sizeof(h);
        rows_len = h.rows * sizeof(rows[0]);
        pages_len = h.pages * sizeof(c->page[0]);
        stops_len = h.stops * sizeof(c->stop[0]);
        if (h.rows > CASE_ROWS_MAX || h.pages > CASE_PAGES_MAX || h.stops > CASE_STOPS_MAX ||
            h.active_vtl >= CASE_VTLS || h.pattern >= CASE_PATTERNS || h.turns == 0 ||
            len != sizeof(h) + rows_len + pages_len + stops_len)
                return -1;

        c->head = h;
        memcpy(rows, data, rows_len);
        memcpy(c->page, data + rows_len, pages_len);
        memcpy(c->stop, data + rows_len + pages_len, stops_len);
        memcpy(c->reg, h.reg, sizeof(c->reg));
        memcpy(c->xmm, h.xmm, sizeof(c->xmm));
        memset(c->dirty, 0, sizeof(c->dirty));
        c->memory = p->used[h.pattern];
        c->lost = false;
        c->broken = PROMISES_KEPT;
        init_table(c, rows);
        init_io(c);
        return 0;
}

void caller_done(struct caller *c, struct patterns *p) {
        for (size_t i = 0; i < CASE_PAGES_MAX; i++)
                if (c->dirty[i])
                        memcpy(c->memory[i], p->pristine[c->head.pattern][i], HV_PAGE_SIZE);
}

/* A walk of its own: the engine's search is part of what is tested. */
static const struct hv_call *row_of(const struct caller *c) {
        uint64_t control = c->io.long_mode ? c->reg[REG_RCX] : c->reg[REG_RAX];

        for (size_t i = 0; i < c->head.rows; i++)
                if (c->table[i].code == (control & 0xffff))
                        return &c->table[i];
        return NULL;
}

int caller_issue(struct caller *c, caller_dispatch_fn *dispatch) {
        c->row = row_of(c);
        c->turn = (struct turn){ 0 };
        c->reads = c->probes = c->writes = c->gets = c->sets = 0;
        c->change.len = 0;
        c->header = NULL;
        c->first = c->next = c->filled = 0;
        return dispatch(c->table, c->head.rows, &c->io, c);
}

uint8_t caller_hot_path(const struct caller *c, uint64_t *ret_input) {
        const struct kvm_sregs sregs = sregs_of(c);
        const struct kvm_regs regs = {
                .rax = c->reg[REG_RAX],
                .rcx = c->reg[REG_RCX],
                .rdx = c->reg[REG_RDX],
                .rflags = c->head.mode & MODE_RFLAGS_VM ? RFLAGS_VM : 0,
        };
        uint8_t legal = 0;

        *ret_input = 0;
        if (vtl_switch_legal(&regs, &sregs, /* is_return= */ false, ret_input))
                legal |= 1;
        if (vtl_switch_legal(&regs, &sregs, /* is_return= */ true, ret_input))
                legal |= 2;
        return legal;
}
