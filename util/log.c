/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>
#include <stdio.h>

#include "log.h"
#include "util/util.h"

static int max_level = LOG_INFO;
static log_sink sink;

void log_set_max_level(int level) {
        max_level = level;
}

int log_get_max_level(void) {
        return max_level;
}

static const struct {
        const char *name;
        int level;
} log_levels[] = {
        { "err", LOG_ERR },   { "warning", LOG_WARNING }, { "notice", LOG_NOTICE },
        { "info", LOG_INFO }, { "debug", LOG_DEBUG },
};

const char *log_level_to_string(int level) {
        for (size_t i = 0; i < ARRAY_SIZE(log_levels); i++)
                if (log_levels[i].level == level)
                        return log_levels[i].name;
        return NULL;
}

int log_level_from_string(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(log_levels); i++)
                if (strcmp(log_levels[i].name, name) == 0)
                        return log_levels[i].level;
        return -EINVAL;
}

void log_set_sink(log_sink s) {
        sink = s;
}

void log_field(struct log_fields *f, const char *name, const char *fmt, ...) {
        char *text;
        va_list ap;
        int n;

        if (f->n >= LOG_FIELDS_MAX)
                return;
        text = f->text[f->n];
        n = snprintf(text, LOG_FIELD_SIZE, "%s=", name);
        if (n < 0 || (size_t) n >= LOG_FIELD_SIZE)
                return;
        va_start(ap, fmt);
        (void) vsnprintf(text + n, LOG_FIELD_SIZE - (size_t) n, fmt, ap);
        va_end(ap);
        f->n++;
}

static _printf_(4, 0) void log_line(int level, const char *message_id,
                                    const struct log_fields *fields, const char *fmt, va_list ap) {
        char line[LOG_LINE_MAX];
        int e = errno; /* for %m, and for the caller */

        (void) vsnprintf(line, sizeof(line), fmt, ap);
        if (sink && sink(level, message_id, fields, line)) {
                errno = e;
                return;
        }
        if (isatty(STDERR_FILENO))
                (void) fprintf(stderr, "%s\n", line);
        else
                (void) fprintf(stderr, "<%d>%s\n", level, line);
        errno = e;
}

void log_full(int level, const char *fmt, ...) {
        va_list ap;

        if (level > max_level)
                return;
        va_start(ap, fmt);
        log_line(level, NULL, NULL, fmt, ap);
        va_end(ap);
}

void log_event(int level, const char *message_id, const struct log_fields *fields, const char *fmt,
               ...) {
        va_list ap;

        if (level > max_level)
                return;
        va_start(ap, fmt);
        log_line(level, message_id, fields, fmt, ap);
        va_end(ap);
}

const char *log_escape(char *buf, size_t n, const char *s) {
        size_t o = 0;

        for (; *s && o + 5 < n; s++) {
                unsigned char c = (unsigned char) *s;

                if (c >= 0x20 && c < 0x7f && c != '\\')
                        buf[o++] = (char) c;
                else
                        o += (size_t) snprintf(buf + o, n - o, "\\x%02x", c);
        }
        if (n > 0)
                buf[o] = '\0';
        return buf;
}

bool log_ratelimit(struct log_ratelimit *r, unsigned interval_ms, unsigned burst) {
        unsigned long long now = monotonic_ns() / 1000000;

        if (r->begin_ms == 0 || now - r->begin_ms >= interval_ms) {
                r->begin_ms = now ? now : 1;
                r->count = 0;
        }
        return r->count++ < burst;
}
