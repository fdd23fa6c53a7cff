/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * UTF-8, strictly: no overlong forms, no surrogates, nothing past U+10FFFF.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * utf8_sequence() - the length of one character
 * @s: its first byte
 * @left: how many bytes there are, 1 at least
 *
 * Return: 1 to 4, or 0 when there is no character.
 */
size_t utf8_sequence(const uint8_t *s, size_t left);

/* C0 (NUL among them), DEL or C1: of a character that utf8_sequence() took */
static inline bool utf8_is_control(const uint8_t *s) {
        return s[0] < 0x20 || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
}

/**
 * utf8_is_text() - valid UTF-8 without control characters
 * @s: NUL-terminated
 * @also: control characters that are allowed nevertheless
 */
bool utf8_is_text(const char *s, const char *also);
