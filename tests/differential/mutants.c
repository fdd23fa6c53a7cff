/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>
#include <string.h>

#include "tests/differential/mutants-internal.h"

static const struct mutant *chosen;
struct mutation mutation_now;

static void set_half(uint64_t *reg, uint64_t value) {
        *reg = (*reg & ~0xffffffffull) | (uint32_t) value;
}

static void set_pair(struct mutation *m, enum case_reg r64, enum case_reg high, enum case_reg low,
                     uint64_t value) {
        if (m->long_mode) {
                m->c->reg[r64] = value;
                return;
        }
        set_half(&m->c->reg[high], value >> 32);
        set_half(&m->c->reg[low], value);
}

void mutant_set_control(struct mutation *m, uint64_t value) {
        set_pair(m, REG_RCX, REG_RDX, REG_RAX, value);
}

void mutant_set_input(struct mutation *m, uint64_t value) {
        set_pair(m, REG_RDX, REG_RBX, REG_RCX, value);
}

void mutant_set_output(struct mutation *m, uint64_t value) {
        set_pair(m, REG_R8, REG_RDI, REG_RSI, value);
}

static uint64_t get_pair(const struct mutation *m, enum case_reg r64, enum case_reg high,
                         enum case_reg low) {
        const uint64_t *reg = m->c->reg;

        return m->long_mode ? reg[r64] : reg[high] << 32 | (uint32_t) reg[low];
}

uint64_t mutant_get_result(const struct mutation *m) {
        return get_pair(m, REG_RAX, REG_RDX, REG_RAX);
}

void mutant_set_result(struct mutation *m, uint64_t status, uint64_t reps) {
        uint64_t result = status | reps << 32;

        m->c->reg[REG_RAX] = m->long_mode ? result : (uint32_t) result;
        if (!m->long_mode)
                m->c->reg[REG_RDX] = result >> 32;
}

uint16_t mutant_status_of(const struct mutation *m, int r) {
        return r == HV_DISPATCH_DONE ? mutant_get_result(m) & 0xffff : 0;
}

uint16_t mutant_reps_of(const struct mutation *m) {
        return mutant_get_result(m) >> 32 & 0xfff;
}

bool mutant_is_kind(const struct mutation *m, enum hv_call_kind kind) {
        return m->row && m->row->kind == kind;
}

void mutant_put_back(struct mutation *m, int *r) {
        uint64_t *reg = m->c->reg, control = m->control & ~START_FIELD;

        if (*r != HV_DISPATCH_DONE && *r != HV_DISPATCH_RETRY) {
                memcpy(reg, m->saved, sizeof(m->saved));
                return;
        }
        if (*r == HV_DISPATCH_RETRY) {
                control |= get_pair(m, REG_RCX, REG_RDX, REG_RAX) & START_FIELD;
                reg[REG_RAX] = m->saved[REG_RAX];
                reg[m->long_mode ? REG_RCX : REG_RDX] = m->long_mode ? control : control >> 32;
        }
        if (*r == HV_DISPATCH_DONE || !m->long_mode)
                reg[REG_RCX] = m->saved[REG_RCX];
        reg[REG_RBX] = m->saved[REG_RBX];
        reg[REG_RSI] = m->saved[REG_RSI];
        reg[REG_RDI] = m->saved[REG_RDI];
        /* A fast call's output may be there. */
        if (m->long_mode && !m->fast) {
                reg[REG_RDX] = m->saved[REG_RDX];
                reg[REG_R8] = m->saved[REG_R8];
        }
}

/* One table after the other; NULL after the last mutant */
static const struct mutant *mutant_at(size_t i) {
        if (i < mutants_of_control_n)
                return &mutants_of_control[i];
        i -= mutants_of_control_n;
        return i < mutants_of_blocks_n ? &mutants_of_blocks[i] : NULL;
}

int mutants_print(void) {
        for (size_t i = 0; mutant_at(i); i++)
                printf("%s\n", mutant_at(i)->name);
        return fflush(stdout) == 0 ? 0 : 1;
}

int mutants_choose(const char *name) {
        for (size_t i = 0; mutant_at(i); i++)
                if (strcmp(mutant_at(i)->name, name) == 0) {
                        chosen = mutant_at(i);
                        return 0;
                }
        /* Breaks nothing: shows that this file by itself changes no outcome. */
        return strcmp(name, "none") == 0 ? 0 : -1;
}

static void measure(struct mutation *m) {
        uint32_t varhdr = 8 * (uint32_t) ((m->control & VARHDR_FIELD) >> HV_CONTROL_VARHDR_SHIFT);

        if (!m->row)
                return;
        m->in_len = m->row->input + (m->row->variable ? varhdr : 0);
        m->out_len = m->row->output;
        if (m->row->kind == HV_CALL_REP) {
                m->in_len += (uint32_t) m->count * m->row->rep_in;
                m->out_len = (uint32_t) m->count * m->row->rep_out;
        }
}

int mutants_dispatch(const struct hv_call *table, size_t n, const struct hv_io *io, void *vp) {
        struct mutation *m = &mutation_now;
        int r;

        *m = (struct mutation){ .c = vp, .inner = *io, .io = *io, .long_mode = io->long_mode };
        memcpy(m->table, table, n * sizeof(table[0]));
        memcpy(m->saved, m->c->reg, sizeof(m->saved));
        memcpy(m->page, m->c->page, sizeof(m->page));
        m->control = get_pair(m, REG_RCX, REG_RDX, REG_RAX);
        m->fast = m->control & HV_CONTROL_FAST;
        m->count = (m->control & COUNT_FIELD) >> HV_CONTROL_REP_COUNT_SHIFT;
        m->start = (m->control & START_FIELD) >> HV_CONTROL_REP_START_SHIFT;
        m->row = m->c->row;
        m->in_gpa = get_pair(m, REG_RDX, REG_RBX, REG_RCX);
        m->out_gpa = get_pair(m, REG_R8, REG_RDI, REG_RSI);
        measure(m);

        if (chosen && chosen->before)
                chosen->before(m);
        r = hv_dispatch(m->table, n, &m->io, vp);
        if (chosen && chosen->after)
                chosen->after(m, &r);
        return r;
}

uint8_t mutants_hot_path(const struct caller *c, uint64_t *ret_input) {
        return chosen && chosen->hot_path ? chosen->hot_path(c, ret_input)
                                          : caller_hot_path(c, ret_input);
}
