/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The record of a VM: what the next broker has to know about it, in a small memory file that the
 * service manager keeps. It is written in turn to one of two places, each with a number and a
 * checksum, so that a broker that is killed while it writes leaves the one before.
 */

#include <stddef.h>
#include <stdint.h>

struct partition;

#define RECORD_VERSION 1u
#define RECORD_PLACE_SIZE 24576u
#define RECORD_SIZE (2u * RECORD_PLACE_SIZE)

/* Return: a new memory file, or a negative errno. */
int record_new(void);

/**
 * record_write() - write down a VM
 * @sequence: of the last time, is counted up
 *
 * Return: 0 or a negative errno: then the one before is still there.
 */
int record_write(int fd, uint64_t *sequence, const struct partition *p);

/* What is written: the bytes of one place. Return: how many. */
size_t record_encode(const struct partition *p, uint64_t sequence, uint8_t ret[RECORD_PLACE_SIZE]);

/**
 * record_parse() - the VM of a record
 * @data: RECORD_SIZE bytes, private to the caller
 * @p: zeroes; who it is, what was decided and what was measured are filled in, nothing else.
 * Undefined on failure.
 * @ret_sequence: its number
 *
 * Return: 0; -EPROTONOSUPPORT when it was written for a broker, a worker or a control memory of
 * another version; or -EBADMSG.
 */
int record_parse(const uint8_t *data, struct partition *p, uint64_t *ret_sequence);

/* As record_parse(), from a descriptor that should be a record. Also: another negative errno. */
int record_read(int fd, struct partition *p, uint64_t *ret_sequence);
