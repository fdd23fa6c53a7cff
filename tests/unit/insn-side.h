/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* For tests of vtl/insn*.c: an instruction in hexadecimal digits, and which memory it touches. */

#include "vtl/insn.h"

#include "tests/unit/tiny-guest.h"

/* Return: how many bytes */
size_t from_hex(const char *hex, uint8_t bytes[INSN_MAX_LENGTH]);

/**
 * expect_result() - visit an instruction, and compare
 * @result: of insn_visit()
 * @want: its accesses in order: r read, w write, R and W with supervisor rights; address+size
 */
void expect_result(struct tiny_guest *g, const char *hex, int result, const char *want);
void expect(struct tiny_guest *g, const char *hex, const char *want);

/* Of a group: its state is a struct tiny_guest, which is too large for the stack. */
int insn_side_setup(void **state);
int insn_side_teardown(void **state);
