/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The worker process: the VTL engine of one VM. It has the control memory, the overlay memory, the
 * guest's RAM, the kick pipes and two sockets, and nothing else.
 */

/**
 * worker_main() - be a worker
 * @fd: the socket to the broker
 *
 * Returns when the VM is gone or was detached. The broker may go before: the VM is served on.
 *
 * Return: an exit status.
 */
int worker_main(int fd);
