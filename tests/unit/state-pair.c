/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/state-pair.h"
#include "util/util.h"

int state_pair_set_up_strict(void **state, unsigned from, unsigned to) {
        struct state_pair *b = calloc(1, sizeof(*b));

        state_guest_init(&b->from, from);
        state_guest_init_empty(&b->to, to);
        b->blob = (struct blob) BLOB_EMPTY;
        assert_int_equal(state_guest_save(&b->from, &b->blob), 0);
        vtl_state_pause(b->to.p);
        b->changed = malloc(b->blob.size + 4096);
        assert_non_null(b->changed);
        memcpy(b->changed, b->blob.data, b->blob.size);
        *state = b;
        return 0;
}

int state_pair_set_up(void **state) {
        return state_pair_set_up_strict(state, STATE_STRICT_PAGES, STATE_STRICT_PAGES);
}

int state_pair_tear_down(void **state) {
        struct state_pair *b = *state;

        blob_free(&b->blob);
        free(b->changed);
        fx_deinit(&b->from);
        fx_deinit(&b->to);
        free(b);
        return 0;
}

void state_pair_saves(struct fx *f, const void *data, size_t size) {
        _cleanup_(blob_free) struct blob again = BLOB_EMPTY;

        assert_int_equal(state_guest_save(f, &again), 0);
        assert_int_equal(again.size, size);
        assert_memory_equal(again.data, data, size);
}
