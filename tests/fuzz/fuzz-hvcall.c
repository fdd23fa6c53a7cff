/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target for the hypercall engine: a caller with arbitrary registers, XMM, memory, rights and
 * mode calls side_table[], again and again while it is told to repeat the instruction. After each
 * dispatch what changed is compared with what vsm.md section 2 lets change.
 *
 * Input: struct seed, cut short or followed by what lies at the input's place in memory; what is
 * missing is 0. tests/fuzz/make-corpus-hvcall.py writes the first corpus.
 */

#include <errno.h>
#include <string.h>

#include "tests/must.h"
#include "tests/unit/hvcall-side.h"
#include "util/util.h"

/* All defaults are 0: the caller may do everything, nothing fails. */
struct seed {
        uint8_t mode;      /* MODE_* */
        uint8_t forbidden; /* two bits a page, enum side_right taken away */
        uint8_t io_fault;  /* which io function fails: 1 read, write, probe, get_xmm, set_xmm */
        uint8_t io_status; /* its HV_STATUS, 0: -EIO */
        uint8_t fail_with; /* the handler's HV_STATUS, 0xff: -EIO */
        uint8_t batch;     /* elements that prepare() serves */
        uint8_t prepare;   /* what prepare() answers: HV_STATUS, 0xff: -ENOMEM */
        uint8_t places;    /* PLACE_* */
        uint16_t fail_at;  /* the element that fails */
        uint16_t reserved;
        uint32_t pattern; /* what registers and memory hold where nothing else is said */
        uint64_t yes_yields;
        uint64_t control;
        uint64_t input;  /* GPA or fast bytes 0-7 */
        uint64_t output; /* GPA or fast bytes 8-15 */
        uint64_t rax;    /* 64-bit callers: a VTL switch's control input */
        uint8_t xmm[HV_XMM_PAIRS][16];
} __attribute__((packed));
_Static_assert(sizeof(struct seed) == 152, "the corpus is made of these");

#define MODE_32_BIT 0x01u
#define MODE_NO_XMM_IN 0x02u
#define MODE_NO_XMM_OUT 0x04u
#define MODE_REAL 0x08u
#define MODE_USER 0x10u
#define MODE_UNPRIVILEGED 0x20u
#define MODE_FAILS 0x40u
#define MODE_SWITCH_UD 0x80u

/* Without these GPAs are bent to lie in the eight pages from the first of memory's four on. */
#define PLACE_INPUT_RAW 0x01u
#define PLACE_OUTPUT_RAW 0x02u

#define TURNS_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t bend(uint64_t gpa, bool raw) {
        return raw ? gpa : SIDE_GPA + gpa % (2 * SIDE_BYTES);
}

static void set_faults(struct side *s, const struct seed *seed) {
        int fault = seed->io_status ? seed->io_status : -EIO;
        int *const faults[] = { NULL,           &s->fail_read,    &s->fail_write,
                                &s->fail_probe, &s->fail_get_xmm, &s->fail_set_xmm };

        if (seed->io_fault > 0 && seed->io_fault < ARRAY_SIZE(faults))
                *faults[seed->io_fault] = fault;
        s->fails = seed->mode & MODE_FAILS;
        s->fail_with = seed->fail_with == 0xff ? -EIO : seed->fail_with;
        s->fail_at = seed->fail_at;
        s->batch = seed->batch;
        s->prepare_with = seed->prepare == 0xff ? -ENOMEM : seed->prepare;
        s->yes_yields = seed->yes_yields;
        if (seed->mode & MODE_SWITCH_UD)
                s->switch_answer = HV_DISPATCH_UD;
}

static void set_caller(struct side *s, const struct seed *seed) {
        bool fast = seed->control & HV_CONTROL_FAST;

        s->io.long_mode = !(seed->mode & MODE_32_BIT);
        s->io.xmm_input = !(seed->mode & MODE_NO_XMM_IN);
        s->io.xmm_output = !(seed->mode & MODE_NO_XMM_OUT);
        s->io.protected_mode = !(seed->mode & MODE_REAL);
        s->io.cpl = seed->mode & MODE_USER ? 3 : 0;
        s->io.privileges = seed->mode & MODE_UNPRIVILEGED ? 0 : UINT64_MAX;
        for (unsigned int i = 0; i < SIDE_PAGES; i++)
                s->right[i] = SIDE_RW & ~(seed->forbidden >> 2 * i);
        memcpy(s->now.xmm, seed->xmm, sizeof(s->now.xmm));
        s->now.reg[SIDE_RAX] = seed->rax;
        side_set_input(s, bend(seed->input, fast || seed->places & PLACE_INPUT_RAW));
        side_set_output(s, bend(seed->output, fast || seed->places & PLACE_OUTPUT_RAW));
        side_set_control(s, seed->control);
}

static void set_memory(struct side *s, const struct seed *seed, const uint8_t *data, size_t size) {
        uint64_t offset = bend(seed->input, false) - SIDE_GPA;

        if (offset < SIDE_BYTES)
                memcpy(&s->now.memory[offset], data, MIN(size, (size_t) (SIDE_BYTES - offset)));
}

/* What a dispatch may have changed: everything else is put back before the comparison. */
struct allowed {
        bool rax, rdx, rcx, pair0, xmm;
        uint64_t memory, memory_len; /* offset into the memory, and length */
};

static uint64_t get_control(const struct side_state *st, bool long_mode) {
        return long_mode ? st->reg[SIDE_RCX]
                         : st->reg[SIDE_RDX] << 32 | (uint32_t) st->reg[SIDE_RAX];
}

static uint32_t get_count(uint64_t control) {
        return control >> HV_CONTROL_REP_COUNT_SHIFT & HV_CONTROL_REP_MASK;
}

static uint32_t get_start(uint64_t control) {
        return control >> HV_CONTROL_REP_START_SHIFT & HV_CONTROL_REP_MASK;
}

/* Where an output that was given can be */
static void allow_output(const struct side *s, const struct side_state *before, uint64_t control,
                         struct allowed *a) {
        const struct hv_call *row = s->row;
        uint32_t out = row->kind == HV_CALL_REP ? get_count(control) * row->rep_out : row->output;
        uint64_t gpa;

        if (out == 0)
                return;
        if (control & HV_CONTROL_FAST) {
                MUST(s->io.long_mode);
                a->xmm = s->io.xmm_output;
                /* Only a call without any input outputs to RDX and R8 */
                a->pair0 = row->input == 0 && row->rep_in == 0;
                return;
        }
        gpa = s->io.long_mode ? before->reg[SIDE_R8]
                              : before->reg[SIDE_RDI] << 32 | (uint32_t) before->reg[SIDE_RSI];
        MUST(gpa >= SIDE_GPA && gpa - SIDE_GPA + out <= SIDE_BYTES);
        MUST(s->right[(gpa - SIDE_GPA) / HV_PAGE_SIZE] & SIDE_W);
        a->memory = gpa - SIDE_GPA;
        a->memory_len = out;
}

static void must_only_change(const struct side *s, const struct side_state *before,
                             const struct allowed *a) {
        static struct side_state now; /* static for its size alone */

        now = s->now;
        if (a->rax)
                now.reg[SIDE_RAX] = before->reg[SIDE_RAX];
        if (a->rcx)
                now.reg[SIDE_RCX] = before->reg[SIDE_RCX];
        if (a->rdx || a->pair0)
                now.reg[SIDE_RDX] = before->reg[SIDE_RDX];
        if (a->pair0)
                now.reg[SIDE_R8] = before->reg[SIDE_R8];
        if (a->xmm)
                memcpy(now.xmm, before->xmm, sizeof(now.xmm));
        memcpy(now.memory + a->memory, before->memory + a->memory, a->memory_len);
        MUST(memcmp(&now, before, sizeof(now)) == 0);
}

static void check_done(const struct side *s, const struct side_state *before, uint64_t control) {
        uint64_t result = side_get_result(s), reps = result >> 32;
        struct allowed a = { .rax = true, .rdx = !s->io.long_mode };
        uint16_t status = result;

        if (!s->io.long_mode)
                MUST(s->now.reg[SIDE_RAX] >> 32 == 0 && s->now.reg[SIDE_RDX] >> 32 == 0);
        MUST((result >> 16 & 0xffff) == 0 && result >> 44 == 0);
        if (!s->row) {
                MUST(result == HV_STATUS_INVALID_HYPERCALL_CODE);
        } else if (s->row->kind == HV_CALL_REP) {
                uint32_t start = get_start(control);

                MUST(reps <= get_count(control) || reps == start);
                MUST(status || reps == get_count(control));
                if (s->handled || s->prepared)
                        MUST(reps >= start && reps <= get_count(control));
                if (reps > start)
                        allow_output(s, before, control, &a);
        } else {
                MUST(s->row->kind == HV_CALL_SIMPLE && reps == 0);
                if (status == 0)
                        allow_output(s, before, control, &a);
        }
        must_only_change(s, before, &a);
}

static void check_retry(const struct side *s, const struct side_state *before, uint64_t control) {
        uint64_t now = get_control(&s->now, s->io.long_mode);
        struct allowed a = { .rcx = s->io.long_mode, .rdx = !s->io.long_mode };
        const struct allowed nothing = { 0 };

        MUST(s->row);
        if (now == control) {
                /* The call could not be served now: it is issued again as it was. */
                MUST((s->fails && s->fail_with == HV_STATUS_TIMEOUT) ||
                     s->prepare_with == HV_STATUS_TIMEOUT);
                must_only_change(s, before, &nothing);
                return;
        }
        MUST(s->row->kind == HV_CALL_REP);
        MUST(((now ^ control) & ~(HV_CONTROL_REP_MASK << HV_CONTROL_REP_START_SHIFT)) == 0);
        MUST(get_start(now) > get_start(control) && get_start(now) < get_count(control));
        allow_output(s, before, control, &a);
        must_only_change(s, before, &a);
}

/* Calls that may never come to a handler, whatever else is wrong with them */
static bool must_be_refused(const struct side *s, uint64_t control) {
        const struct hv_call *row = s->row;
        uint32_t in, out;

        if (s->io.cpl || !s->io.protected_mode || !row || row->privilege & ~s->io.privileges)
                return true;
        if (row->kind == HV_CALL_VTL)
                return control != row->code;
        if (control & HV_CONTROL_RESERVED)
                return true;
        if (!(control & HV_CONTROL_FAST))
                return false;
        in = row->input + get_count(control) * row->rep_in;
        out = row->output + get_count(control) * row->rep_out;
        if (!s->io.long_mode)
                return in > 16 || out > 0;
        return (in + 15) / 16 + (out + 15) / 16 > SIDE_FAST_BYTES / 16;
}

static void check(const struct side *s, const struct side_state *before, int r) {
        uint64_t control = get_control(before, s->io.long_mode);
        const struct allowed nothing = { 0 };

        if (must_be_refused(s, control))
                MUST(s->handled + s->prepared + s->switches == 0);
        if (s->io.cpl || !s->io.protected_mode)
                MUST(r == HV_DISPATCH_UD);
        if (!s->io.long_mode)
                MUST(s->get_xmms + s->set_xmms == 0);
        MUST(s->row || s->reads + s->probes + s->get_xmms == 0);

        switch (r) {
        case HV_DISPATCH_DONE:
                check_done(s, before, control);
                break;
        case HV_DISPATCH_RETRY:
                check_retry(s, before, control);
                break;
        case HV_DISPATCH_SWITCHED:
                MUST(s->row && s->row->kind == HV_CALL_VTL && s->switches == 1);
                must_only_change(s, before, &nothing);
                break;
        case HV_DISPATCH_UD:
                must_only_change(s, before, &nothing);
                break;
        default:
                /* The double's own failures are the only ones there are. */
                MUST(r == -EIO || r == -ENOMEM);
                must_only_change(s, before, &nothing);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct side_state before; /* static for its size alone */
        static struct side s;
        struct seed seed = { 0 };
        size_t head = MIN(size, sizeof(seed));
        int r = HV_DISPATCH_RETRY;

        if (head)
                memcpy(&seed, data, head);
        side_init(&s, seed.pattern);
        set_caller(&s, &seed);
        if (size > head)
                set_memory(&s, &seed, data + head, size - head);
        set_faults(&s, &seed);

        for (int turn = 0; turn < TURNS_MAX && r == HV_DISPATCH_RETRY; turn++) {
                before = s.now;
                r = side_dispatch(&s);
                check(&s, &before, r);
        }
        return 0;
}
