/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The broker's face on D-Bus: org.vtld1. Nothing here decides anything; the functions below may be
 * called whether or not there is a connection to a bus.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

struct broker;
struct bus;
struct partition;
struct worker_map;
struct worker_registers;

/**
 * bus_new() - connect, register the objects and own the name
 * @address: "system", "session" or a D-Bus address
 *
 * Return: 0 or a negative errno; what went wrong has been logged.
 */
int bus_new(struct broker *b, const char *address, struct bus **ret);
struct bus *bus_free(struct bus *bus);

/* Whether somebody waits for an answer */
bool bus_is_busy(const struct bus *bus);

/* Gives up the name, then serves what had been sent to it: whoever calls from now on makes the
 * service manager start another vtld. */
void bus_leave(struct bus *bus);

/* NULL: there is none at the moment, or no @bus */
sd_bus *bus_connection(struct bus *bus);

/* libvirt_handle_state() has changed. */
void bus_libvirt_state_changed(struct broker *b);

void bus_partition_added(struct partition *p);
void bus_partition_removed(struct partition *p);

/* The worker has answered a question; what it says is unchecked. */
void bus_map_answered(struct partition *p, const struct worker_map *m, size_t len);
void bus_registers_answered(struct partition *p, const struct worker_registers *registers);
/* There is no worker any more that could. */
void bus_ask_cancel(struct partition *p);

/* After a partition has come or gone */
void bus_partition_count_changed(struct broker *b);

/* After the policy was read, or could not be */
void bus_policy_changed(struct broker *b);

/* State that is announced has changed; many changes become one signal. */
void bus_partition_changed(struct partition *p);
void bus_vp_changed(struct partition *p, unsigned vp);

void bus_emit_vtl_enabled(struct partition *p, unsigned vtl);
void bus_emit_vp_vtl_enabled(struct partition *p, unsigned vp, unsigned vtl);
void bus_emit_secure_violation(struct partition *p, unsigned vp, uint64_t gpa, const char *access);
void bus_emit_worker_failed(struct partition *p, const char *reason);
void bus_emit_vtl1_denied(struct partition *p);
void bus_emit_protection_refused(struct partition *p, unsigned vp, uint64_t mappings, uint64_t max);
void bus_emit_guest_crashed(struct partition *p, unsigned vp, unsigned vtl, uint64_t code);
