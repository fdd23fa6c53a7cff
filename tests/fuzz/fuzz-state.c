/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target for saved partitions: an input is loaded into a partition of two VPs. What is refused
 * leaves all memory open and no VTL1; what is loaded can be saved, loaded again to the same bytes,
 * and goes on without harm to the engine.
 *
 * The corpus is what test-state writes, and pieces of it.
 */

#include <stdlib.h>
#include <string.h>

#include "tests/unit/state-guest.h"
#include "util/util.h"

static void require(bool condition) {
        if (!condition)
                abort();
}

static struct fx *partition(void) {
        static struct fx *f;

        if (!f) {
                f = calloc(1, sizeof(*f));
                require(f);
                state_guest_init_empty(f, STATE_STRICT_PAGES);
                vtl_state_pause(f->p);
        }
        return f;
}

static void check_loaded(struct fx *f) {
        _cleanup_(blob_free) struct blob a = BLOB_EMPTY, b = BLOB_EMPTY;

        require(state_guest_save(f, &a) == 0);
        require(state_guest_load(f, a.data, a.size) == 0);
        require(state_guest_save(f, &b) == 0);
        require(a.size == b.size && memcmp(a.data, b.data, a.size) == 0);
        for (unsigned vp = 0; vp < STATE_VPS; vp++) {
                f->model->vps[vp].active = fx_vp(f, vp)->active_vtl;
                (void) fx_kick(f, vp);
                f->error = 0;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct fx *f = partition();

        if (state_guest_load(f, data, size) == 0)
                check_loaded(f);
        for (unsigned vp = 0; vp < STATE_VPS; vp++) {
                f->model->vps[vp].active = 0;
                fx_ctl(f, vp)->exit = (struct vtl_exit){ 0 };
        }
        require(state_guest_ask(f, VTL_STATE_RESET, 0) == 0);
        require(f->p->enabled_vtls == 1 && plane_model_mappings(f->model, 0) == 2 &&
                plane_model_mappings(f->model, 1) == 2);
        return 0;
}
