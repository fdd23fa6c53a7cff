/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Prints where things are in the control memory, for tests that play a VMM in Python. */

#include <stddef.h>
#include <stdio.h>

#include "vtl/control.h"

#define HEADER(field)                                                                              \
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
        HEADER(enabled_vtls);
        HEADER(stopped);
        VP(stats);
        VP(vina);
        VP(halted);
        VP(mailbox);
        VP(exit.kind);
        VP(action.kind);
        return 0;
}
