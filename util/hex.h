/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Bytes as hexadecimal digits.
 */

#include <stddef.h>
#include <stdint.h>

/* @ret has room for 2 * @n + 1 characters; lower case. */
void hex_encode(const void *data, size_t n, char *ret);

/**
 * hex_decode() - exactly @n bytes
 * @text: 2 * @n digits of either case; what follows them is not looked at
 *
 * Return: 0, or -EINVAL for something that is no digit.
 */
int hex_decode(const char *text, size_t n, uint8_t *ret);
