/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Texts that others have written: what goes into logs, onto the bus and onto terminals.
 */

#include <stddef.h>

enum text_fault {
        TEXT_FINE,
        TEXT_NOT_UTF8, /* also overlong forms, surrogates, values past U+10FFFF */
        TEXT_CONTROL,  /* C0, DEL or C1; a NUL too */
};

/* What is wrong first with the @n bytes at @s, which need no NUL behind them */
enum text_fault text_check(const char *s, size_t n);
