/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "log.h"

static int max_level = LOG_INFO;

void log_set_max_level(int level) {
        max_level = level;
}

int log_get_max_level(void) {
        return max_level;
}

void log_full(int level, const char *fmt, ...) {
        char line[1024];
        va_list ap;
        int e = errno;

        if (level > max_level)
                return;
        va_start(ap, fmt);
        errno = e; /* for %m */
        (void) vsnprintf(line, sizeof(line), fmt, ap);
        va_end(ap);
        if (isatty(STDERR_FILENO))
                (void) fprintf(stderr, "%s\n", line);
        else
                (void) fprintf(stderr, "<%d>%s\n", level, line);
        errno = e;
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
        struct timespec ts;
        unsigned long long now;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        now = (unsigned long long) ts.tv_sec * 1000 + (unsigned long long) ts.tv_nsec / 1000000;
        if (r->begin_ms == 0 || now - r->begin_ms >= interval_ms) {
                r->begin_ms = now ? now : 1;
                r->count = 0;
        }
        return r->count++ < burst;
}
