/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Log lines to stderr, with the "<N>" prefix that the journal understands when stderr is not a
 * terminal; or to a sink that takes more than a line. Strings that come from a peer or a guest are
 * escaped by the caller's use of log_escape().
 */

#include <stdbool.h>
#include <stddef.h>
#include <syslog.h>

#include "util.h"

/* A line is cut there. */
#define LOG_LINE_MAX 1024u

void log_set_max_level(int level);
int log_get_max_level(void);
void log_full(int level, const char *fmt, ...) _printf_(2, 3);

/* What a program wants to read of a line: NAME=VALUE each, cut to its room. stderr has no place for
 * them. */
#define LOG_FIELDS_MAX 8u
#define LOG_FIELD_SIZE 320u

struct log_fields {
        unsigned n;
        char text[LOG_FIELDS_MAX][LOG_FIELD_SIZE];
};

void log_field(struct log_fields *f, const char *name, const char *fmt, ...) _printf_(3, 4);

/**
 * log_event() - a line that somebody may look for
 * @message_id: 32 hexadecimal digits that stay the same whatever the text says
 * @fields: or NULL
 */
void log_event(int level, const char *message_id, const struct log_fields *fields, const char *fmt,
               ...) _printf_(4, 5);

/* Takes a line instead of stderr; false: could not. @message_id and @fields may be NULL. */
typedef bool (*log_sink)(int level, const char *message_id, const struct log_fields *fields,
                         const char *line);
/* NULL: stderr */
void log_set_sink(log_sink sink);

/* The names that people write: err, warning, notice, info, debug. */
const char *log_level_to_string(int level);
/* -EINVAL: no such level */
int log_level_from_string(const char *name);

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
