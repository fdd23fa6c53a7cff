/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Files as a whole.
 */

#include <stddef.h>

/* All of it, however often write(2) is interrupted. Return: 0 or a negative errno. */
int write_all(int fd, const void *data, size_t size);
