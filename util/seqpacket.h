/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * SOCK_SEQPACKET sockets with file descriptors: one call per message, and no way to lose a
 * descriptor.
 */

#include <stddef.h>
#include <sys/types.h>

/* SCM_MAX_FD of the kernel: no message carries more descriptors. */
#define SEQPACKET_FDS_MAX 253

/**
 * seqpacket_listen() - a listening socket at a path
 * @path: where; a stale socket there, which nobody listens on, is replaced
 *
 * Return: the descriptor, -EADDRINUSE when somebody listens there, -ENAMETOOLONG, or another
 * negative errno.
 */
int seqpacket_listen(const char *path);

/**
 * seqpacket_connect() - connect to the socket at @path
 *
 * Return: the descriptor or a negative errno.
 */
int seqpacket_connect(const char *path);

/**
 * seqpacket_pair() - two connected sockets, close-on-exec
 */
int seqpacket_pair(int ret[2]);

/**
 * seqpacket_send() - send one message
 * @fd: the socket
 * @buf: the message
 * @len: its length
 * @fds: descriptors that go with it; they stay the caller's
 * @n_fds: how many
 * @flags: MSG_DONTWAIT or 0; MSG_NOSIGNAL is always added
 *
 * Return: 0 or a negative errno; a message is never sent in part.
 */
int seqpacket_send(int fd, const void *buf, size_t len, const int *fds, size_t n_fds, int flags);

/**
 * seqpacket_recv() - receive one message
 * @fd: the socket
 * @buf: room for the message
 * @len: how much
 * @fds: room for SEQPACKET_FDS_MAX or fewer descriptors; they become the caller's, close-on-exec
 * @n_fds: in: room in @fds; out: how many came, 0 on any failure
 * @flags: MSG_DONTWAIT or 0
 *
 * Return: the length of the message, 0 at the end of the stream, -EMSGSIZE for a message longer
 * than @len, -EBADF for more descriptors than there is room for (in both cases everything received
 * is closed), or another negative errno.
 */
ssize_t seqpacket_recv(int fd, void *buf, size_t len, int *fds, size_t *n_fds, int flags);

/**
 * seqpacket_wait() - wait until @fd can be read or the other end is gone
 * @timeout_ms: how long
 *
 * Return: 0, -ETIMEDOUT, or another negative errno.
 */
int seqpacket_wait(int fd, int timeout_ms);
