/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Engines that are wrong: hv_dispatch() with one rule of the ABI broken by what goes in or what
 * comes out. The differential test has to notice each of them.
 */

#include "tests/differential/caller.h"

/* The names, one a line; Return: exit status. */
int mutants_print(void);
/* Makes the functions below the mutant of that name; -1 when there is none. */
int mutants_choose(const char *name);
caller_dispatch_fn mutants_dispatch;
caller_hot_path_fn mutants_hot_path;
