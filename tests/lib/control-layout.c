/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Prints where things are in the control memory, for tests that play a VMM in Python. */

#include <stddef.h>
#include <stdio.h>

#include "vtl/control.h"

#define HEADER(field) \
        (void) printf("header." #field " %zu\n", offsetof(struct vtl_control_header, field))
#define VP(field) (void) printf("vp." #field " %zu\n", offsetof(struct vtl_control_vp, field))
#define VALUE(name) (void) printf(#name " %llu\n", (unsigned long long) (name))

int main(void) {
        VALUE(VTL_CONTROL_VERSION);
        VALUE(VTL_CONTROL_HEADER_SIZE);
        VALUE(VTL_CONTROL_VP_SIZE);
        VALUE(VTL_MAILBOX_IDLE);
        VALUE(VTL_MAILBOX_EXIT);
        VALUE(VTL_MAILBOX_ACTION);
        VALUE(VTL_ACTION_STOP);
        VALUE(VTL_TRACE_RECORDS);
        HEADER(tracing);
        VALUE(VTL_EXIT_WRMSR);
        HEADER(enabled_vtls);
        HEADER(unenforced);
        HEADER(unenforced_cr);
        HEADER(crash);
        HEADER(crash_vtl);
        HEADER(crashes);
        HEADER(mappings);
        HEADER(mappings_max);
        HEADER(protections_refused);
        HEADER(strict_pages);
        HEADER(strict_steps);
        HEADER(intercepts);
        HEADER(stopped);
        VP(stats);
        VP(stats.vtl_calls);
        VP(stats.engine_exits);
        VP(vina);
        VP(halted);
        VP(mailbox);
        VP(exit.kind);
        VP(exit.msr);
        VP(exit.data);
        VP(action.kind);
        VP(trace.next);
        VP(trace.records);
        return 0;
}
