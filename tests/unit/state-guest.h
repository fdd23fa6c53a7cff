/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A partition with something in every section that a saved one can have, for tests of them. */

#include "tests/unit/engine-fixture.h"
#include "vtl/state.h"

#define STATE_VPS 2u
#define STATE_STRICT_PAGES 3u /* not enough for all */
enum {
        STATE_HYPERCALL = 0x150000,
        STATE_TSC_PAGE = 0x151000,
        STATE_SIMP = 0x153000,
        STATE_SIEFP = 0x154000,
        STATE_ASSIST = 0x155000,
        STATE_SIMP0 = 0x156000,
        STATE_CLOSED = 0x170000,   /* VTL0 has nothing */
        STATE_READONLY = 0x172000, /* three pages */
};

/* @strict: how many pages strict mode covers; the guest would have four. */
void state_guest_init(struct fx *f, unsigned strict);
/* The same guest, in which nothing has happened yet */
void state_guest_init_empty(struct fx *f, unsigned strict);

int state_guest_save(struct fx *f, struct blob *ret);
int state_guest_load(struct fx *f, const void *data, size_t size);
/* As the library asks for it */
int state_guest_ask(struct fx *f, enum vtl_state_request request, uint64_t data);
/* As in the beginning: VTL0 may do everything. */
bool state_guest_is_open(const struct fx *f);
