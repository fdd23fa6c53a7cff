/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The broker's log lines in the journal, with their fields and IDs. A worker never calls this: its
 * lines go through stderr.
 */

#include <stdbool.h>

enum log_target {
        LOG_TARGET_CONSOLE, /* stderr */
        LOG_TARGET_JOURNAL,
};

/* True when stderr is a stream of the journal: the service manager has started us. */
bool journal_is_stderr(void);

void log_set_target(enum log_target target);
enum log_target log_get_target(void);
