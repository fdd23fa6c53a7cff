/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * UUIDs: 16 bytes in the order of their text form, RFC 9562.
 */

#include <stdbool.h>
#include <stdint.h>

#define UUID_TEXT_SIZE 37

/**
 * uuid_format() - the text of a UUID, lower case
 * @uuid: 16 bytes
 * @ret: room for UUID_TEXT_SIZE bytes
 */
void uuid_format(const uint8_t uuid[16], char ret[UUID_TEXT_SIZE]);

/**
 * uuid_parse() - a UUID from its text
 * @text: 8-4-4-4-12 hexadecimal digits, either case, nothing else
 *
 * Return: 0, or -EINVAL and @ret is unchanged.
 */
int uuid_parse(const char *text, uint8_t ret[16]);

bool uuid_is_nil(const uint8_t uuid[16]);
