/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The broker's face on D-Bus: org.vtld1. Nothing here decides anything; the functions below may be
 * called whether or not there is a connection to a bus.
 */

#include <stdint.h>

struct broker;
struct bus;
struct partition;

/**
 * bus_new() - connect, register the objects and own the name
 * @address: "system", "session" or a D-Bus address
 *
 * Return: 0 or a negative errno; what went wrong has been logged.
 */
int bus_new(struct broker *b, const char *address, struct bus **ret);
struct bus *bus_free(struct bus *bus);

void bus_partition_added(struct partition *p);
void bus_partition_removed(struct partition *p);

/* After a partition has come or gone */
void bus_partition_count_changed(struct broker *b);

/* State that is announced has changed; many changes become one signal. */
void bus_partition_changed(struct partition *p);
void bus_vp_changed(struct partition *p, unsigned vp);

void bus_emit_vtl_enabled(struct partition *p, unsigned vtl);
void bus_emit_vp_vtl_enabled(struct partition *p, unsigned vp, unsigned vtl);
void bus_emit_secure_violation(struct partition *p, unsigned vp, uint64_t gpa, const char *access);
void bus_emit_worker_failed(struct partition *p, const char *reason);
void bus_emit_vtl1_denied(struct partition *p);
