/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Parameter blocks, in memory and in registers, and what handlers are given and answer */

#include <string.h>

#include "tests/differential/mutants-internal.h"
#include "util/util.h"

#define FAR_AWAY (1ull << 50) /* where no page of a case is */

/* ---- Blocks in memory ---- */

static void give_right(struct mutation *m, uint8_t right) {
        for (size_t i = 0; i < CASE_PAGES_MAX; i++)
                m->c->page[i].right[m->c->head.active_vtl] |= right;
}

static void readable(struct mutation *m) {
        give_right(m, RIGHT_R);
}

static void writable(struct mutation *m) {
        give_right(m, RIGHT_W);
}

static void rights_of_other_vtl(struct mutation *m) {
        for (size_t i = 0; i < CASE_PAGES_MAX; i++) {
                uint8_t *right = m->c->page[i].right;

                memcpy(right, (uint8_t[2]){ right[1], right[0] }, 2);
        }
}

static void no_overlays(struct mutation *m) {
        for (size_t i = 0; i < CASE_PAGES_MAX; i++)
                m->c->page[i].overlays = 0;
}

static void rights_back(struct mutation *m, int *r) {
        memcpy(m->c->page, m->page, sizeof(m->page));
}

static void gpa_wraps(struct mutation *m) {
        if (m->fast)
                return;
        mutant_set_input(m, m->in_gpa & ((1ull << 52) - 1));
        mutant_set_output(m, m->out_gpa & ((1ull << 52) - 1));
}

static void gpa_of_32_bits(struct mutation *m) {
        if (m->fast || m->long_mode)
                return;
        mutant_set_input(m, (uint32_t) m->in_gpa);
        mutant_set_output(m, (uint32_t) m->out_gpa);
}

static void aligned_to_4(struct mutation *m) {
        if (m->fast)
                return;
        mutant_set_input(m, m->in_gpa & ~4ull);
        mutant_set_output(m, m->out_gpa & ~4ull);
}

static uint64_t moved_into_page(uint64_t gpa, uint32_t len) {
        uint64_t offset = gpa % HV_PAGE_SIZE;

        return offset + len > HV_PAGE_SIZE && len <= HV_PAGE_SIZE
                     ? gpa - offset + ((HV_PAGE_SIZE - len) & ~7u)
                     : gpa;
}

static void may_straddle(struct mutation *m) {
        if (m->fast)
                return;
        mutant_set_input(m, moved_into_page(m->in_gpa, m->in_len));
        mutant_set_output(m, moved_into_page(m->out_gpa, m->out_len));
}

/* The engine is told of a block elsewhere, with which nothing overlaps. */
static int io_probe_near(void *userdata, uint64_t gpa, uint32_t len) {
        return mutation_now.inner.probe_write(userdata, gpa ^ FAR_AWAY, len);
}

static int io_write_near(void *userdata, uint64_t gpa, const void *buf, uint32_t len) {
        return mutation_now.inner.write(userdata, gpa ^ FAR_AWAY, buf, len);
}

static void may_overlap(struct mutation *m) {
        if (m->fast)
                return;
        mutant_set_output(m, m->out_gpa ^ FAR_AWAY);
        m->io.probe_write = io_probe_near;
        m->io.write = io_write_near;
}

static void empty_has_place(struct mutation *m) {
        m->refuse = !m->fast &&
                    ((m->in_len == 0 && m->in_gpa & 7) || (m->out_len == 0 && m->out_gpa & 7));
}

static void refused(struct mutation *m, int *r) {
        if (*r == HV_DISPATCH_DONE && m->refuse)
                mutant_set_result(m, HV_STATUS_INVALID_ALIGNMENT, m->start);
}

static int io_probe_in_vain(void *userdata, uint64_t gpa, uint32_t len) {
        return MIN(mutation_now.inner.probe_write(userdata, gpa, len), 0);
}

static void probe_ignored(struct mutation *m) {
        m->io.probe_write = io_probe_in_vain;
}

static int io_read_short(void *userdata, uint64_t gpa, void *buf, uint32_t len) {
        int r = mutation_now.inner.read(userdata, gpa, buf, len);

        if (r == 0)
                ((uint8_t *) buf)[len - 1] = 0;
        return r;
}

static void input_short(struct mutation *m) {
        m->io.read = io_read_short;
}

static int io_write_longer(void *userdata, uint64_t gpa, const void *buf, uint32_t len) {
        if ((gpa + len) % HV_PAGE_SIZE && gpa + len < mutation_now.out_gpa + mutation_now.out_len)
                len++;
        return mutation_now.inner.write(userdata, gpa, buf, len);
}

static void output_longer(struct mutation *m) {
        m->io.write = io_write_longer;
}

static int io_write_relative(void *userdata, uint64_t gpa, const void *buf, uint32_t len) {
        return mutation_now.inner.write(userdata, mutation_now.out_gpa, buf, len);
}

static void output_relative(struct mutation *m) {
        m->io.write = io_write_relative;
}

static int io_write_in_vain(void *userdata, uint64_t gpa, const void *buf, uint32_t len) {
        return MIN(mutation_now.inner.write(userdata, gpa, buf, len), 0);
}

static void lost_page_ignored(struct mutation *m) {
        m->io.write = io_write_in_vain;
}

/* ---- Blocks in registers ---- */

static int io_get_swapped(void *userdata, uint8_t xmm[HV_XMM_PAIRS][16]) {
        int r = mutation_now.inner.get_xmm(userdata, xmm);

        for (size_t i = 0; i < HV_XMM_PAIRS; i++) {
                uint64_t half[2];

                memcpy(half, xmm[i], sizeof(half));
                memcpy(xmm[i], (uint64_t[2]){ half[1], half[0] }, sizeof(half));
        }
        return r;
}

static void xmm_high_first(struct mutation *m) {
        m->io.get_xmm = io_get_swapped;
}

static int io_set_beside(void *userdata, const uint8_t xmm[HV_XMM_PAIRS][16]) {
        uint8_t copy[HV_XMM_PAIRS][16];
        uint32_t end = (mutation_now.in_len + 15) / 16 * 16 + mutation_now.out_len;

        memcpy(copy, xmm, sizeof(copy));
        if (end < 16 + sizeof(copy))
                memset(&copy[0][0] + end - 16, 0, 16 - end % 16);
        return mutation_now.inner.set_xmm(userdata, (const uint8_t(*)[16]) copy);
}

static void pair_zero_filled(struct mutation *m) {
        m->io.set_xmm = io_set_beside;
}

static void pair_swapped(struct mutation *m) {
        if (m->fast && m->long_mode) {
                mutant_set_input(m, m->out_gpa);
                mutant_set_output(m, m->in_gpa);
        }
}

static void pair_swapped_back(struct mutation *m, int *r) {
        if (m->fast && m->long_mode) {
                uint64_t rdx = m->c->reg[REG_RDX];

                m->c->reg[REG_RDX] = m->c->reg[REG_R8];
                m->c->reg[REG_R8] = rdx;
        }
}

static void ecx_alone(struct mutation *m) {
        if (m->fast && !m->long_mode)
                mutant_set_input(m, (uint32_t) m->in_gpa);
}

static void fast_size_is_alignment(struct mutation *m, int *r) {
        if (mutant_status_of(m, *r) == HV_STATUS_INVALID_HYPERCALL_INPUT && m->fast &&
            (m->in_len + 15) / 16 + (m->out_len + 15) / 16 > 7)
                mutant_set_result(m, HV_STATUS_INVALID_ALIGNMENT, mutant_reps_of(m));
}

static void no_output_from_32_bits(struct mutation *m) {
        for (size_t i = 0; i < CASE_ROWS_MAX && m->fast && !m->long_mode; i++)
                m->table[i].output = m->table[i].rep_out = 0;
}

/* ---- Handlers ---- */

static int handler_hidden(struct hv_call_ctx *x) {
        int r = mutation_now.c->row->handler(x);

        mutation_now.hidden = MAX(r, 0);
        return MIN(r, 0);
}

/* A failing simple call's output comes all the same. */
static void failed_output(struct mutation *m) {
        for (size_t i = 0; i < CASE_ROWS_MAX; i++)
                if (m->table[i].kind == HV_CALL_SIMPLE)
                        m->table[i].handler = handler_hidden;
}

static void status_after_all(struct mutation *m, int *r) {
        if (*r == HV_DISPATCH_DONE && m->hidden)
                mutant_set_result(m, (uint64_t) m->hidden, 0);
}

static int handler_noted(struct hv_call_ctx *x) {
        mutation_now.hidden = mutation_now.c->row->handler(x);
        return mutation_now.hidden;
}

static int io_write_all_or_nothing(void *userdata, uint64_t gpa, const void *buf, uint32_t len) {
        return mutation_now.hidden ? 0 : mutation_now.inner.write(userdata, gpa, buf, len);
}

static int io_set_all_or_nothing(void *userdata, const uint8_t xmm[HV_XMM_PAIRS][16]) {
        return mutation_now.hidden ? 0 : mutation_now.inner.set_xmm(userdata, xmm);
}

static void all_handlers(struct mutation *m, int (*handler)(struct hv_call_ctx *)) {
        for (size_t i = 0; i < CASE_ROWS_MAX; i++)
                if (m->table[i].handler)
                        m->table[i].handler = handler;
}

static void partial_output_lost(struct mutation *m) {
        all_handlers(m, handler_noted);
        m->io.write = io_write_all_or_nothing;
}

static void partial_registers_lost(struct mutation *m) {
        all_handlers(m, handler_noted);
        m->io.set_xmm = io_set_all_or_nothing;
}

static int handler_misled(struct hv_call_ctx *x) {
        x->long_mode = !x->long_mode;
        return mutation_now.c->row->handler(x);
}

static void other_mode_told(struct mutation *m) {
        all_handlers(m, handler_misled);
}

static int handler_relative(struct hv_call_ctx *x) {
        x->index -= x->rep_start;
        return mutation_now.c->row->handler(x);
}

static void index_relative(struct mutation *m) {
        all_handlers(m, handler_relative);
}

static void not_prepared(struct mutation *m) {
        for (size_t i = 0; i < CASE_ROWS_MAX; i++)
                m->table[i].prepare = NULL;
}

static int prepare_heedless(struct hv_call_ctx *x, uint16_t *ret_done) {
        return MIN(mutation_now.c->row->prepare(x, ret_done), 0);
}

static int prepare_believed(struct hv_call_ctx *x, uint16_t *ret_done) {
        int r = mutation_now.c->row->prepare(x, ret_done);

        *ret_done = MIN(MAX(*ret_done, x->rep_start), x->rep_count);
        return r;
}

static void all_prepares(struct mutation *m, int (*prepare)(struct hv_call_ctx *, uint16_t *)) {
        for (size_t i = 0; i < CASE_ROWS_MAX; i++)
                if (m->table[i].prepare)
                        m->table[i].prepare = prepare;
}

static void prepare_may_fail(struct mutation *m) {
        all_prepares(m, prepare_heedless);
}

static void prepare_may_lie(struct mutation *m) {
        all_prepares(m, prepare_believed);
}

/* ---- The table ---- */

const struct mutant mutants_of_blocks[] = {
        { "unreadable-input", .before = readable, .after = rights_back },
        { "unwritable-output", .before = writable, .after = rights_back },
        { "rights-of-the-other-vtl", .before = rights_of_other_vtl, .after = rights_back },
        { "overlays-ignored", .before = no_overlays, .after = rights_back },
        { "gpa-wraps-at-52-bits", .before = gpa_wraps, .after = mutant_put_back },
        { "gpa-of-32-bits", .before = gpa_of_32_bits, .after = mutant_put_back },
        { "alignment-of-4", .before = aligned_to_4, .after = mutant_put_back },
        { "straddling-block", .before = may_straddle, .after = mutant_put_back },
        { "overlapping-blocks", .before = may_overlap, .after = mutant_put_back },
        { "empty-block-needs-alignment", .before = empty_has_place, .after = refused },
        { "output-probed-in-vain", .before = probe_ignored },
        { "input-one-byte-short", .before = input_short },
        { "output-one-byte-longer", .before = output_longer },
        { "output-at-relative-index", .before = output_relative },
        { "lost-output-ignored", .before = lost_page_ignored },
        { "xmm-high-half-first", .before = xmm_high_first },
        { "last-pair-zero-filled", .before = pair_zero_filled },
        { "rdx-and-r8-swapped", .before = pair_swapped, .after = pair_swapped_back },
        { "ebx-ignored", .before = ecx_alone, .after = mutant_put_back },
        { "fast-size-is-alignment", .after = fast_size_is_alignment },
        { "fast-output-dropped-in-32-bits", .before = no_output_from_32_bits },
        { "output-of-failed-simple-call", .before = failed_output, .after = status_after_all },
        { "partial-output-lost", .before = partial_output_lost },
        { "partial-xmm-output-lost", .before = partial_registers_lost },
        { "handler-told-other-mode", .before = other_mode_told },
        { "handler-told-relative-index", .before = index_relative },
        { "prepare-not-called", .before = not_prepared },
        { "prepare-status-ignored", .before = prepare_may_fail },
        { "prepare-index-not-checked", .before = prepare_may_lie },
};
const size_t mutants_of_blocks_n = ARRAY_SIZE(mutants_of_blocks);
