/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Two partitions, for cmocka: one that has been saved, and one that it can be loaded into. */

#include "tests/unit/state-guest.h"

struct state_pair {
        struct fx from, to;
        struct blob blob; /* of @from */
        uint8_t *changed; /* a copy, with 4 KiB of room behind it */
};

/* As a set-up: *state is the pair. @from, @to: how many pages strict mode covers */
int state_pair_set_up_strict(void **state, unsigned from, unsigned to);
int state_pair_set_up(void **state);
int state_pair_tear_down(void **state);

/* Saved once more, it is the same. */
void state_pair_saves(struct fx *f, const void *data, size_t size);
