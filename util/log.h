/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Log lines to stderr, with the "<N>" prefix that the journal understands when stderr is not a
 * terminal. Strings that come from a peer or a guest are escaped by the caller's use of
 * log_escape().
 */

#include <stdbool.h>
#include <stddef.h>
#include <syslog.h>

#include "util.h"

void log_set_max_level(int level);
int log_get_max_level(void);
void log_full(int level, const char *fmt, ...) _printf_(2, 3);

/* Copies @s with every byte outside printable ASCII as \xNN, cut to @n; returns @buf. */
const char *log_escape(char *buf, size_t n, const char *s);

#define log_error(...) log_full(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_full(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_full(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_full(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_full(LOG_DEBUG, __VA_ARGS__)

/* At most @burst lines per @interval_ms; true when a line may be written now. */
struct log_ratelimit {
        unsigned long long begin_ms;
        unsigned count;
};
bool log_ratelimit(struct log_ratelimit *r, unsigned interval_ms, unsigned burst);
