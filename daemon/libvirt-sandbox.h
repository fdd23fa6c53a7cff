/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/**
 * sandbox_libvirt_enter() - allow only what asking libvirt takes, read-only and over UNIX sockets
 *
 * Nothing is executed, traced, signalled or written to. A call that is not allowed fails.
 *
 * Return: 0 or a negative errno.
 */
int sandbox_libvirt_enter(void);
