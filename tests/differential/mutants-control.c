/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The input value, the result, continuation, VTL switches */

#include <string.h>

#include "tests/differential/mutants-internal.h"
#include "util/util.h"

/* ---- Who may call, and with which input value ---- */

static void any_cpl(struct mutation *m) {
        m->io.cpl = 0;
}

static void any_mode(struct mutation *m) {
        m->io.protected_mode = true;
}

static void any_reserved(struct mutation *m) {
        mutant_set_control(m, m->control & ~HV_CONTROL_RESERVED);
}

static void nested(struct mutation *m) {
        mutant_set_control(m, m->control & ~(1ull << 31));
}

static void xmm_in_at_will(struct mutation *m) {
        m->io.xmm_input = true;
}

static void xmm_out_at_will(struct mutation *m) {
        m->io.xmm_output = true;
}

static void xmm_never(struct mutation *m) {
        m->io.xmm_input = false;
}

static void privileged(struct mutation *m) {
        m->io.privileges = UINT64_MAX;
}

static void privilege_first(struct mutation *m, int *r) {
        uint16_t status = mutant_status_of(m, *r);

        if (m->row && m->row->privilege & ~m->io.privileges && status > 2 && status < 5)
                mutant_set_result(m, HV_STATUS_ACCESS_DENIED, mutant_reps_of(m));
}

static void any_variable_header(struct mutation *m) {
        if (m->row && !m->row->variable)
                mutant_set_control(m, m->control & ~VARHDR_FIELD);
}

static void simple_with_reps(struct mutation *m) {
        if (mutant_is_kind(m, HV_CALL_SIMPLE))
                mutant_set_control(m, m->control & ~(COUNT_FIELD | START_FIELD));
}

static void count_zero(struct mutation *m) {
        if (mutant_is_kind(m, HV_CALL_REP) && m->count == 0)
                mutant_set_control(m, (m->control & ~START_FIELD) |
                                              1ull << HV_CONTROL_REP_COUNT_SHIFT);
}

static void start_beyond(struct mutation *m) {
        if (mutant_is_kind(m, HV_CALL_REP) && m->count > 0 && m->start >= m->count)
                mutant_set_control(m, (m->control & ~START_FIELD) |
                                              (m->count - 1ull) << HV_CONTROL_REP_START_SHIFT);
}

static void from_the_start(struct mutation *m) {
        if (mutant_is_kind(m, HV_CALL_REP))
                mutant_set_control(m, m->control & ~START_FIELD);
}

static void count_of_8_bits(struct mutation *m) {
        if (mutant_is_kind(m, HV_CALL_REP))
                mutant_set_control(m, m->control & ~(0xf00ull << HV_CONTROL_REP_COUNT_SHIFT));
}

/* ---- The result ---- */

static void reps_relative(struct mutation *m, int *r) {
        if (*r == HV_DISPATCH_DONE && mutant_reps_of(m) >= m->start)
                mutant_set_result(m, mutant_status_of(m, *r), mutant_reps_of(m) - m->start);
}

static void reps_lost(struct mutation *m, int *r) {
        if (mutant_status_of(m, *r))
                mutant_set_result(m, mutant_status_of(m, *r), 0);
}

static void reps_of_refusal(struct mutation *m, int *r) {
        if (mutant_status_of(m, *r) && mutant_reps_of(m) == 0)
                mutant_set_result(m, mutant_status_of(m, *r), m->start);
}

static void reps_one_more(struct mutation *m, int *r) {
        if (mutant_status_of(m, *r) && m->c->turn.handled > 0 && mutant_is_kind(m, HV_CALL_REP))
                mutant_set_result(m, mutant_status_of(m, *r), mutant_reps_of(m) + 1u);
}

static void alignment_is_input(struct mutation *m, int *r) {
        if (mutant_status_of(m, *r) == HV_STATUS_INVALID_ALIGNMENT)
                mutant_set_result(m, HV_STATUS_INVALID_HYPERCALL_INPUT, mutant_reps_of(m));
}

static void unknown_is_input(struct mutation *m, int *r) {
        if (!m->row && mutant_status_of(m, *r))
                mutant_set_result(m, HV_STATUS_INVALID_HYPERCALL_INPUT, 0);
}

static void upper_half_kept(struct mutation *m, int *r) {
        if (*r == HV_DISPATCH_DONE && !m->long_mode)
                m->c->reg[REG_RAX] |= m->saved[REG_RAX] & ~0xffffffffull;
}

static void edx_kept(struct mutation *m, int *r) {
        if (*r == HV_DISPATCH_DONE && !m->long_mode)
                m->c->reg[REG_RDX] = m->saved[REG_RDX];
}

static void status_for_ud(struct mutation *m, int *r) {
        if (*r != HV_DISPATCH_UD)
                return;
        *r = HV_DISPATCH_DONE;
        mutant_set_result(m, HV_STATUS_INVALID_HYPERCALL_INPUT, 0);
}

static void rbx_lost(struct mutation *m, int *r) {
        if (*r == HV_DISPATCH_DONE)
                m->c->reg[REG_RBX] = 0;
}

static void r8_lost(struct mutation *m, int *r) {
        if (*r == HV_DISPATCH_DONE && m->fast)
                m->c->reg[REG_R8] = 0;
}

static void failure_shown(struct mutation *m, int *r) {
        if (*r < 0) {
                *r = HV_DISPATCH_DONE;
                mutant_set_result(m, HV_STATUS_TIMEOUT, 0);
        }
}

static void failure_in_rax(struct mutation *m, int *r) {
        if (*r < 0)
                m->c->reg[REG_RAX] = 0;
}

/* ---- Continuation ---- */

static void retry_forgets(struct mutation *m, int *r) {
        if (*r == HV_DISPATCH_RETRY)
                memcpy(m->c->reg, m->saved, sizeof(m->saved));
}

static void retry_repeats_one(struct mutation *m, int *r) {
        if (*r == HV_DISPATCH_RETRY)
                m->c->reg[m->long_mode ? REG_RCX : REG_RDX] -=
                        m->long_mode ? 1ull << 48 : 1ull << 16;
}

static void retry_cuts_eax(struct mutation *m, int *r) {
        if (*r == HV_DISPATCH_RETRY && !m->long_mode)
                m->c->reg[REG_RAX] = (uint32_t) m->c->reg[REG_RAX];
}

static void never_stops(struct mutation *m) {
        m->io.should_yield = NULL;
}

static bool io_always(void *userdata) {
        return true;
}

static void always_stops(struct mutation *m) {
        m->io.should_yield = io_always;
}

/* ---- VTL call and return ---- */

static void vtl_any_control(struct mutation *m) {
        if (mutant_is_kind(m, HV_CALL_VTL))
                mutant_set_control(m, m->control & HV_CONTROL_CODE_MASK);
}

static void vtl_privileged(struct mutation *m) {
        if (mutant_is_kind(m, HV_CALL_VTL))
                m->io.privileges = UINT64_MAX;
}

static int io_switch_anyway(void *userdata, bool is_return, uint64_t input) {
        return mutation_now.inner.vtl_switch(userdata, is_return, 0);
}

static void vtl_any_input(struct mutation *m) {
        m->io.vtl_switch = io_switch_anyway;
}

static int io_switch_rcx(void *userdata, bool is_return, uint64_t input) {
        return mutation_now.inner.vtl_switch(
                userdata, is_return, mutation_now.long_mode ? input : *mutation_now.inner.rcx);
}

static void vtl_whole_rcx(struct mutation *m) {
        m->io.vtl_switch = io_switch_rcx;
}

static int io_switch_back(void *userdata, bool is_return, uint64_t input) {
        return mutation_now.inner.vtl_switch(userdata, !is_return, input);
}

static void vtl_other_way(struct mutation *m) {
        m->io.vtl_switch = io_switch_back;
}

/* ---- The library's hot path ---- */

static uint8_t hot_any_cpl(const struct caller *c, uint64_t *ret_input) {
        struct caller other = *c;

        other.head.cpl = 0;
        return caller_hot_path(&other, ret_input);
}

static uint8_t hot_any_control(const struct caller *c, uint64_t *ret_input) {
        struct caller other = *c;

        other.reg[REG_RCX] &= HV_CONTROL_CODE_MASK;
        other.reg[REG_RDX] = 0;
        return caller_hot_path(&other, ret_input);
}

static uint8_t hot_input_lost(const struct caller *c, uint64_t *ret_input) {
        uint8_t legal = caller_hot_path(c, ret_input);

        *ret_input = 0;
        return legal;
}

/* ---- The table ---- */

const struct mutant mutants_of_control[] = {
        { "cpl-ignored", .before = any_cpl },
        { "mode-ignored", .before = any_mode },
        { "reserved-bits-ignored", .before = any_reserved, .after = mutant_put_back },
        { "nested-bit-ignored", .before = nested, .after = mutant_put_back },
        { "xmm-input-not-advertised", .before = xmm_in_at_will },
        { "xmm-output-not-advertised", .before = xmm_out_at_will },
        { "xmm-input-refused", .before = xmm_never },
        { "privilege-ignored", .before = privileged },
        { "privilege-before-input", .after = privilege_first },
        { "variable-header-ignored", .before = any_variable_header, .after = mutant_put_back },
        { "simple-call-with-reps", .before = simple_with_reps, .after = mutant_put_back },
        { "count-of-zero", .before = count_zero, .after = mutant_put_back },
        { "start-beyond-count", .before = start_beyond, .after = mutant_put_back },
        { "start-ignored", .before = from_the_start, .after = mutant_put_back },
        { "count-of-8-bits", .before = count_of_8_bits, .after = mutant_put_back },
        { "reps-relative", .after = reps_relative },
        { "reps-lost-on-failure", .after = reps_lost },
        { "reps-of-a-refused-control", .after = reps_of_refusal },
        { "failing-element-counted", .after = reps_one_more },
        { "alignment-is-invalid-input", .after = alignment_is_input },
        { "unknown-code-is-invalid-input", .after = unknown_is_input },
        { "eax-not-zero-extended", .after = upper_half_kept },
        { "edx-without-result", .after = edx_kept },
        { "status-instead-of-ud", .after = status_for_ud },
        { "rbx-clobbered", .after = rbx_lost },
        { "r8-clobbered", .after = r8_lost },
        { "host-failure-as-status", .after = failure_shown },
        { "host-failure-changes-rax", .after = failure_in_rax },
        { "retry-from-the-old-start", .after = retry_forgets },
        { "retry-repeats-an-element", .after = retry_repeats_one },
        { "retry-changes-eax", .after = retry_cuts_eax },
        { "never-stops", .before = never_stops },
        { "always-stops", .before = always_stops },
        { "vtl-control-bits-ignored", .before = vtl_any_control, .after = mutant_put_back },
        { "vtl-privilege-ignored", .before = vtl_privileged },
        { "vtl-input-ignored", .before = vtl_any_input },
        { "vtl-input-of-64-bits", .before = vtl_whole_rcx },
        { "vtl-call-for-return", .before = vtl_other_way },
        { "hot-path-from-any-cpl", .hot_path = hot_any_cpl },
        { "hot-path-with-any-control", .hot_path = hot_any_control },
        { "hot-path-takes-no-input", .hot_path = hot_input_lost },
};
const size_t mutants_of_control_n = ARRAY_SIZE(mutants_of_control);
