/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "hvcall/hvcall.h"

#define GPA_BITS 52 /* the architecture's limit; what lies below it and is no RAM fails to read */

#define FAST_PAIRS (1 + HV_XMM_PAIRS)
#define FAST_PAIR_SIZE 16u

/* One hypercall on its way through the engine. */
struct dispatch {
        const struct hv_io *io;
        const struct hv_call *call;
        uint64_t control;
        bool fast;
        uint16_t rep_count;
        uint16_t rep_start;
        uint32_t varhdr_bytes;
        uint32_t in_len; /* of the whole blocks, whatever the rep start is */
        uint32_t out_len;
        uint64_t in_gpa;
        uint64_t out_gpa;
        uint16_t done; /* rep calls: elements completed, absolute */

        /* The fast registers in ABI order: RDX, R8 (or EBX:ECX, EDI:ESI), XMM0-XMM5 */
        uint8_t pairs[FAST_PAIRS][FAST_PAIR_SIZE];
        uint8_t input[HV_INPUT_MAX] __attribute__((aligned(16)));
        uint8_t output[HV_PAGE_SIZE] __attribute__((aligned(16)));
};

const struct hv_call *hv_call_find(const struct hv_call *table, size_t n, uint16_t code) {
        size_t lo = 0, hi = n;

        while (lo < hi) {
                size_t mid = lo + (hi - lo) / 2;

                if (table[mid].code == code)
                        return &table[mid];
                if (table[mid].code < code)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        return NULL;
}

/* Two halves in the registers of a 32-bit caller */
static uint64_t pair32(const uint64_t *high, const uint64_t *low) {
        return *high << 32 | (uint32_t) *low;
}

static uint64_t read_control(const struct hv_io *io) {
        return io->long_mode ? *io->rcx : pair32(io->rdx, io->rax);
}

static void set_control(const struct hv_io *io, uint64_t control) {
        if (io->long_mode) {
                *io->rcx = control;
                return;
        }
        /* The rep start is all that ever changes, and that is in the upper half. */
        *io->rdx = control >> 32;
}

/* vsm.md 2.3 */
static int finish(const struct hv_io *io, int status, uint16_t reps) {
        uint64_t result = (uint64_t) status | (uint64_t) reps << HV_CONTROL_REP_COUNT_SHIFT;

        if (io->long_mode) {
                *io->rax = result;
        } else {
                *io->rax = (uint32_t) result;
                *io->rdx = result >> 32;
        }
        return HV_DISPATCH_DONE;
}

static uint32_t pairs_of(uint32_t len) {
        return (len + FAST_PAIR_SIZE - 1) / FAST_PAIR_SIZE;
}

static bool input_in_xmm(const struct dispatch *d) {
        return d->fast && d->io->long_mode && d->in_len > FAST_PAIR_SIZE;
}

static bool output_in_xmm(const struct dispatch *d) {
        return d->fast && d->io->long_mode && d->out_len > 0 &&
               pairs_of(d->in_len) + pairs_of(d->out_len) > 1;
}

static void decode(struct dispatch *d) {
        const struct hv_call *call = d->call;
        uint64_t c = d->control;

        d->fast = c & HV_CONTROL_FAST;
        d->rep_count = c >> HV_CONTROL_REP_COUNT_SHIFT & HV_CONTROL_REP_MASK;
        d->rep_start = c >> HV_CONTROL_REP_START_SHIFT & HV_CONTROL_REP_MASK;
        d->varhdr_bytes = 8 * (uint32_t) (c >> HV_CONTROL_VARHDR_SHIFT & HV_CONTROL_VARHDR_MASK);
        d->done = d->rep_start;

        d->in_len = call->input;
        if (call->variable)
                d->in_len += d->varhdr_bytes;
        if (call->kind == HV_CALL_REP) {
                d->in_len += (uint32_t) d->rep_count * call->rep_in;
                d->out_len = (uint32_t) d->rep_count * call->rep_out;
        } else {
                d->out_len = call->output;
        }
}

/* vsm.md 2.6, 6 and 7 */
static int check_control(const struct dispatch *d) {
        if (d->varhdr_bytes && !d->call->variable)
                return HV_STATUS_INVALID_HYPERCALL_INPUT;
        if (d->call->kind == HV_CALL_SIMPLE)
                return d->rep_count || d->rep_start ? HV_STATUS_INVALID_HYPERCALL_INPUT : 0;
        /* Covers a count of 0 too */
        return d->rep_start >= d->rep_count ? HV_STATUS_INVALID_HYPERCALL_INPUT : 0;
}

/* vsm.md 2.5: what fits the registers of the caller's mode */
static int check_fast(const struct dispatch *d) {
        uint32_t in = pairs_of(d->in_len), out = pairs_of(d->out_len);

        if (!d->io->long_mode)
                return in > 1 || out > 0 ? HV_STATUS_INVALID_HYPERCALL_INPUT : 0;
        return in + out > FAST_PAIRS ? HV_STATUS_INVALID_HYPERCALL_INPUT : 0;
}

/* vsm.md 2.4, 2.6: where a block may lie; nothing is asked of the address of an empty one */
static int check_block(uint64_t gpa, uint32_t len) {
        if (len == 0)
                return 0;
        if (gpa & 7 || gpa >> GPA_BITS)
                return HV_STATUS_INVALID_ALIGNMENT;
        if ((gpa & (HV_PAGE_SIZE - 1)) + len > HV_PAGE_SIZE)
                return HV_STATUS_INVALID_ALIGNMENT;
        return 0;
}

static int check_memory(struct dispatch *d) {
        const struct hv_io *io = d->io;
        int r;

        d->in_gpa = io->long_mode ? *io->rdx : pair32(io->rbx, io->rcx);
        d->out_gpa = io->long_mode ? *io->r8 : pair32(io->rdi, io->rsi);

        r = check_block(d->in_gpa, d->in_len);
        if (r)
                return r;
        r = check_block(d->out_gpa, d->out_len);
        if (r)
                return r;
        if (d->in_len && d->out_len && d->in_gpa < d->out_gpa + d->out_len &&
            d->out_gpa < d->in_gpa + d->in_len)
                return HV_STATUS_INVALID_HYPERCALL_INPUT;
        return 0;
}

static void load_pair0(struct dispatch *d) {
        const struct hv_io *io = d->io;
        uint64_t half[2];

        half[0] = io->long_mode ? *io->rdx : pair32(io->rbx, io->rcx);
        half[1] = io->long_mode ? *io->r8 : pair32(io->rdi, io->rsi);
        memcpy(d->pairs[0], half, sizeof(half));
}

/*
 * The one copy of the caller's input (no check may ever see other bytes than the handler), and the
 * output's writability, which must be known before anything is done.
 */
static int take_parameters(struct dispatch *d) {
        const struct hv_io *io = d->io;
        int r;

        if (d->fast) {
                load_pair0(d);
                if (input_in_xmm(d) || output_in_xmm(d)) {
                        r = io->get_xmm(io->userdata, &d->pairs[1]);
                        if (r)
                                return r;
                }
                memcpy(d->input, d->pairs, d->in_len);
                return 0;
        }
        if (d->in_len) {
                r = io->read(io->userdata, d->in_gpa, d->input, d->in_len);
                if (r)
                        return r;
        }
        return d->out_len ? io->probe_write(io->userdata, d->out_gpa, d->out_len) : 0;
}

/* Outputs to registers: whatever of a pair the call does not cover stays as it was (vsm.md 2.5). */
static int give_fast(struct dispatch *d, uint32_t from, uint32_t to) {
        uint32_t base = pairs_of(d->in_len) * FAST_PAIR_SIZE;
        const struct hv_io *io = d->io;
        uint64_t half[2];
        int r;

        memcpy(&d->pairs[0][0] + base + from, d->output + from, to - from);
        if (base + to > FAST_PAIR_SIZE) {
                r = io->set_xmm(io->userdata, &d->pairs[1]);
                if (r)
                        return r;
        }
        if (base + from < FAST_PAIR_SIZE) {
                memcpy(half, d->pairs[0], sizeof(half));
                *io->rdx = half[0];
                *io->r8 = half[1];
        }
        return 0;
}

/* Hands bytes [from, to) of the output block to the caller. */
static int give_output(struct dispatch *d, uint32_t from, uint32_t to) {
        const struct hv_io *io = d->io;

        if (from == to)
                return 0;
        if (d->fast)
                return give_fast(d, from, to);
        return io->write(io->userdata, d->out_gpa + from, d->output + from, to - from);
}

/* Not an answer of the call: it could not be served now. */
static bool is_retry(int *status, bool *ret_yield) {
        if (*status != HV_STATUS_TIMEOUT)
                return false;
        *ret_yield = true;
        *status = 0;
        return true;
}

static int run_simple(struct dispatch *d, struct hv_call_ctx *c, bool *ret_yield) {
        int r;

        c->output = d->output;
        r = d->call->handler(c);
        if (is_retry(&r, ret_yield) || r)
                return r;
        return give_output(d, 0, d->out_len);
}

static void select_element(struct dispatch *d, struct hv_call_ctx *c, uint16_t index) {
        c->index = index;
        c->elem_in = (const uint8_t *) c->list_in + (uint32_t) index * d->call->rep_in;
        c->elem_out = d->output + (uint32_t) index * d->call->rep_out;
}

/* Header checks and the batch; leaves what is completed in @d->done. */
static int run_prepare(struct dispatch *d, struct hv_call_ctx *c) {
        uint16_t done = d->rep_start;
        int r;

        if (!d->call->prepare)
                return 0;
        select_element(d, c, d->rep_start);
        r = d->call->prepare(c, &done);
        if (r < 0)
                return r;
        if (done < d->rep_start || done > d->rep_count)
                return -EINVAL;
        d->done = done;
        return r;
}

/* Serves elements until the list ends, one fails, or *@ret_yield tells that the time is over. */
static int run_elements(struct dispatch *d, struct hv_call_ctx *c, bool *ret_yield) {
        const struct hv_io *io = d->io;
        int r;

        while (d->done < d->rep_count) {
                if (d->done > d->rep_start && io->should_yield && io->should_yield(io->userdata)) {
                        *ret_yield = true;
                        return 0;
                }
                select_element(d, c, d->done);
                r = d->call->handler(c);
                if (r)
                        return r;
                d->done++;
        }
        return 0;
}

static int run_rep(struct dispatch *d, struct hv_call_ctx *c, bool *ret_yield) {
        uint32_t size = d->call->rep_out;
        int status, r;

        c->list_in = d->input + d->call->input + c->varhdr_bytes;
        status = run_prepare(d, c);
        if (status == 0)
                status = run_elements(d, c, ret_yield);
        (void) is_retry(&status, ret_yield);
        if (status < 0)
                return status;
        r = give_output(d, d->rep_start * size, d->done * size);
        if (r > 0) {
                /* The page went away meanwhile: elements without output are not completed. */
                *ret_yield = false;
                d->done = d->rep_start;
        }
        return r ? r : status;
}

static int run(struct dispatch *d, void *vp, bool *ret_yield) {
        struct hv_call_ctx c = {
                .vp = vp,
                .input = d->input,
                .varhdr_bytes = d->varhdr_bytes,
                .rep_count = d->rep_count,
                .rep_start = d->rep_start,
                .index = d->rep_start,
                .long_mode = d->io->long_mode,
        };

        memset(d->output, 0, d->out_len);
        return d->call->kind == HV_CALL_REP ? run_rep(d, &c, ret_yield)
                                            : run_simple(d, &c, ret_yield);
}

/* vsm.md 6.1: no parameters, no result; whatever is wrong is #UD */
static int dispatch_vtl(const struct hv_io *io, const struct hv_call *call, uint64_t control) {
        if (control != call->code || call->privilege & ~io->privileges)
                return HV_DISPATCH_UD;
        return io->vtl_switch(io->userdata, call->code == HVCALL_VTL_RETURN,
                              io->long_mode ? *io->rax : (uint32_t) *io->rcx);
}

/* vsm.md 2.6, in its order; the numbers are its steps */
int hv_dispatch(const struct hv_call *table, size_t n, const struct hv_io *io, void *vp) {
        uint64_t control = read_control(io);
        struct dispatch d;
        bool yield = false;
        int r;

        /* 1 */
        if (io->cpl != 0 || !io->protected_mode)
                return HV_DISPATCH_UD;

        /* 2, 3 */
        d.call = hv_call_find(table, n, control & HV_CONTROL_CODE_MASK);
        if (!d.call)
                return finish(io, HV_STATUS_INVALID_HYPERCALL_CODE, 0);
        if (d.call->kind == HV_CALL_VTL)
                return dispatch_vtl(io, d.call, control);

        /* 4 */
        if (control & HV_CONTROL_RESERVED)
                return finish(io, HV_STATUS_INVALID_HYPERCALL_INPUT, 0);
        d.io = io;
        d.control = control;
        decode(&d);

        /* 5 */
        if ((input_in_xmm(&d) && !io->xmm_input) || (output_in_xmm(&d) && !io->xmm_output))
                return HV_DISPATCH_UD;

        /* 6, 7 */
        r = check_control(&d);
        if (r)
                return finish(io, r, 0);

        /* 8 */
        r = d.fast ? check_fast(&d) : check_memory(&d);
        if (r == 0)
                r = take_parameters(&d);
        if (r < 0)
                return r;
        if (r > 0)
                return finish(io, r, d.rep_start);

        /* 9 */
        if (d.call->privilege & ~io->privileges)
                return finish(io, HV_STATUS_ACCESS_DENIED, d.rep_start);

        /* 10 */
        r = run(&d, vp, &yield);
        if (r < 0)
                return r;
        /* A batch that was late in the end, and left nothing to come back for. */
        if (d.call->kind == HV_CALL_REP && d.done == d.rep_count)
                yield = false;
        if (yield && d.done == d.rep_start)
                return HV_DISPATCH_RETRY;
        if (yield) {
                control &= ~(HV_CONTROL_REP_MASK << HV_CONTROL_REP_START_SHIFT);
                set_control(io, control | (uint64_t) d.done << HV_CONTROL_REP_START_SHIFT);
                return HV_DISPATCH_RETRY;
        }
        return finish(io, r, d.done);
}
