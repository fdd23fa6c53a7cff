/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Several files as they were at one moment: each is read once, and afterwards all are looked at
 * again. When none of them, and none of the directories that were listed, has changed since it was
 * read, all of them were as they were read at the time of the last reading.
 */

#include <stdbool.h>
#include <stddef.h>

struct snapshot;

struct snapshot *snapshot_new(void);
struct snapshot *snapshot_free(struct snapshot *s);

/* What snapshot_read() returns for the null device. */
#define SNAPSHOT_NULL_DEVICE 1

/**
 * snapshot_read() - a whole file
 * @path: symbolic links are followed
 * @max: a larger one is an error
 * @ret: its bytes and a NUL byte behind them, the caller's
 *
 * Return: 0, SNAPSHOT_NULL_DEVICE (@ret is empty then), -ENOENT, -EFBIG, -EBADF for what is no
 * regular file, or another negative errno.
 */
int snapshot_read(struct snapshot *s, const char *path, size_t max, char **ret, size_t *ret_len);

struct dropin {
        char *name; /* of the file */
        char *path; /* of the one that counts */
};

/**
 * snapshot_dropins() - the files of drop-in directories, in the systemd manner
 * @directories: the most important first, NULL at the end; those that do not exist are empty
 * @suffix: what names end with; hidden files are left out
 * @max: more are an error
 * @ret: sorted by name; of files of one name only that of the most important directory
 * @ret_where: on failure, the directory it is about
 *
 * Return: 0, -E2BIG, or another negative errno.
 */
int snapshot_dropins(struct snapshot *s, const char *const *directories, const char *suffix,
                     size_t max, struct dropin **ret, size_t *ret_n, const char **ret_where);

void dropins_free(struct dropin *d, size_t n);

/* To wait before everything is read again */
#define SNAPSHOT_RETRY_USEC (20u * 1000)

/**
 * snapshot_is_current() - is everything as it was read?
 *
 * Return: true; or false, also for what was changed so shortly before it was read that a change
 * after it could not be told: SNAPSHOT_RETRY_USEC later it can be.
 */
bool snapshot_is_current(const struct snapshot *s);
