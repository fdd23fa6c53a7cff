/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

/**
 * bus_open() - connect to a bus
 * @address: "system", "session", or a D-Bus address
 *
 * Return: 0 or more, or a negative errno.
 */
int bus_open(const char *address, sd_bus **ret);
