/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Configuration files: INI as inih reads it, but strictly. What inih would guess or cut is an error
 * that names file and line: long lines, NUL bytes, control characters, what is not UTF-8, indented
 * lines (inih: continued values), "key: value", something behind a section's bracket.
 */

#include <stddef.h>

#include "util.h"

#define CONF_ERROR_SIZE 512u

struct conf;

struct conf_callbacks {
        /* "[NAME]": @name is what is between the brackets, of @len bytes and NUL-terminated. */
        int (*section)(struct conf *c, const char *name, size_t len, void *userdata);
        /* "KEY = VALUE", without white space around and comments behind; never before a section. */
        int (*key)(struct conf *c, const char *key, const char *value, void *userdata);
        /* The file ends; may be NULL. */
        int (*end)(struct conf *c, void *userdata);
};

/**
 * conf_parse() - a file from memory
 * @text: its bytes
 * @path: what to call it in @error
 * @callbacks: each returns 0 or a negative errno, which ends the file
 * @error: on failure, one line for people, printable ASCII
 *
 * Return: 0, -EBADMSG for a file that is wrong, or another negative errno.
 */
int conf_parse(const char *text, size_t len, const char *path,
               const struct conf_callbacks *callbacks, void *userdata, char error[CONF_ERROR_SIZE]);

/* For callbacks: the line they are called for, from 1 on */
unsigned conf_line(const struct conf *c);

/**
 * conf_complain() - say what is wrong
 * @line: where
 *
 * Return: -EBADMSG, for the callback to return.
 */
int conf_complain(struct conf *c, unsigned line, const char *fmt, ...) _printf_(3, 4);

/* "PATH: TEXT" into an error of a file as a whole; returns @r. */
int conf_error(char error[CONF_ERROR_SIZE], int r, const char *path, const char *fmt, ...)
        _printf_(4, 5);
