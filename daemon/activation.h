/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the service manager hands over when it starts the broker. */

struct fd_store;

/**
 * activation_take() - the descriptors of LISTEN_FDS, each by its name
 * @ret_attach: the attach socket, or -1
 * @store: empty; gets those of VMs that a broker before this one has left
 *
 * One whose name is not known is closed, with a log line.
 *
 * Return: 0; -EEXIST when two have the same name; or another negative errno. Failures are logged.
 */
int activation_take(int *ret_attach, struct fd_store *store);
