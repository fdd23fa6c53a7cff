/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>

#include "conf-file.h"
#include "log.h"
#include "utf8.h"

#define PATH_SHOWN 200u

struct conf {
        const struct conf_callbacks *callbacks;
        void *userdata;
        const char *text;
        size_t left;
        unsigned line;
        bool in_section;
        const char *path;
        char *error;
        int failed; /* negative errno; the first failure counts */
};

unsigned conf_line(const struct conf *c) {
        return c->line;
}

static _printf_(4, 0) void say(char *error, const char *path, unsigned line, const char *fmt,
                               va_list ap) {
        char escaped[PATH_SHOWN], text[CONF_ERROR_SIZE], what[CONF_ERROR_SIZE], number[16] = "";

        (void) vsnprintf(text, sizeof(text), fmt, ap);
        if (line > 0)
                (void) snprintf(number, sizeof(number), "%u: ", line);
        else
                (void) snprintf(number, sizeof(number), " ");
        (void) snprintf(error, CONF_ERROR_SIZE, "%s:%s%.300s",
                        log_escape(escaped, sizeof(escaped), path), number,
                        log_escape(what, sizeof(what), text));
}

int conf_complain(struct conf *c, unsigned line, const char *fmt, ...) {
        va_list ap;

        if (c->failed)
                return c->failed;
        va_start(ap, fmt);
        say(c->error, c->path, line, fmt, ap);
        va_end(ap);
        c->failed = -EBADMSG;
        return c->failed;
}

int conf_error(char error[CONF_ERROR_SIZE], int r, const char *path, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        say(error, path, 0, fmt, ap);
        va_end(ap);
        return r;
}

static int note(struct conf *c, int r) {
        if (r < 0 && !c->failed)
                c->failed = r;
        return c->failed;
}

/* ---- One line ---- */

/* @s begins at the '[' of a line of its own copy, which it may change. */
static int begin_section(struct conf *c, char *s) {
        char *close = strchr(s, ']');

        if (!close)
                return conf_complain(c, c->line, "the section has no ']'");
        for (const char *t = close + 1; *t; t++) {
                if (*t == ';' || *t == '#')
                        break;
                if (*t != ' ' && *t != '\t')
                        return conf_complain(c, c->line, "something follows the ']'");
        }
        *close = '\0';
        c->in_section = true;
        return note(c, c->callbacks->section(c, s + 1, (size_t) (close - s) - 1, c->userdata));
}

/* A line without its end, in a copy; inih gets to see it afterwards. */
static int check_line(struct conf *c, char *line) {
        size_t n = strlen(line), before;

        if (n > 0 && line[n - 1] == '\r')
                line[n - 1] = '\0';
        if (!utf8_is_text(line, "\t"))
                return conf_complain(
                        c, c->line, "there is a control character in the line, or it is not UTF-8");
        before = strspn(line, " \t");
        if (!line[before] || line[before] == ';' || line[before] == '#')
                return 0;
        /* inih would take it for a continuation of the value before. */
        if (before > 0)
                return conf_complain(c, c->line, "the line is indented");
        if (line[0] == '[')
                return begin_section(c, line);
        if (line[strcspn(line, "=:")] != '=')
                return conf_complain(c, c->line, "neither a section nor key=value");
        return 0;
}

/*
 * inih's reader: one line at a time. inih does not tell line numbers and cuts long lines and names
 * silently, so lines are counted and measured here, and sections are taken here.
 */
static char *next_line(char *buf, int size, void *userdata) {
        struct conf *c = userdata;
        _cleanup_free_ char *line = NULL;
        const char *begin = c->text;
        size_t n = 0;

        if (c->failed || c->left == 0)
                return NULL;
        c->line++;
        while (n < c->left && begin[n] != '\n')
                n++;
        c->text += n < c->left ? n + 1 : n;
        c->left -= n < c->left ? n + 1 : n;
        if (n + 2 > (size_t) size) {
                (void) conf_complain(c, c->line, "the line is longer than %d bytes", size - 2);
                return NULL;
        }
        if (memchr(begin, '\0', n)) {
                (void) conf_complain(c, c->line, "there is a NUL byte in the line");
                return NULL;
        }
        line = strndup(begin, n);
        if (!line) {
                (void) note(c, -ENOMEM);
                return NULL;
        }
        if (check_line(c, line) < 0)
                return NULL;
        memcpy(buf, begin, n);
        buf[n] = '\n';
        buf[n + 1] = '\0';
        return buf;
}

/* inih calls it for each "key = value"; 0 is its word for an error. */
static int on_key(void *userdata, const char *section, const char *key, const char *value) {
        struct conf *c = userdata;

        if (c->failed)
                return 0;
        if (!c->in_section)
                return conf_complain(c, c->line, "a key before the first section") >= 0;
        return note(c, c->callbacks->key(c, key, value, c->userdata)) >= 0;
}

int conf_parse(const char *text, size_t len, const char *path,
               const struct conf_callbacks *callbacks, void *userdata,
               char error[CONF_ERROR_SIZE]) {
        struct conf c = { .callbacks = callbacks,
                          .userdata = userdata,
                          .text = text,
                          .left = len,
                          .path = path,
                          .error = error };
        int line;

        error[0] = '\0';
        line = ini_parse_stream(next_line, &c, on_key, &c);
        if (!c.failed && line == 0 && callbacks->end)
                (void) note(&c, callbacks->end(&c, userdata));
        if (!c.failed && line != 0)
                (void) conf_complain(&c, line > 0 ? (unsigned) line : 0,
                                     "neither a section nor key=value");
        if (c.failed && !error[0])
                return conf_error(error, c.failed, path, "%s", strerror(-c.failed));
        return c.failed;
}
