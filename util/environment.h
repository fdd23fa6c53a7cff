/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a child process gets of the environment.
 */

#include <stdbool.h>
#include <stddef.h>

/**
 * environment_filter() - some of this process's variables
 * @prefixes: beginnings of "NAME=VALUE", @n of them
 * @keep: true: only those that begin so; false: all others
 *
 * Return: an array for execve(), to be freed with free() alone, since the texts stay where they
 * are; NULL when there is no memory.
 */
char **environment_filter(const char *const *prefixes, size_t n, bool keep);
