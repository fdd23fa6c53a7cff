/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

struct json_object;

/**
 * probe_report() - what this host's KVM offers to vtld, as vtld(8) describes it under --probe
 * @device: NULL for /dev/kvm
 *
 * Runs small guests on it.
 */
struct json_object *probe_report(const char *device);

/**
 * probe_main() - print as JSON what this host's KVM offers to vtld
 *
 * Runs small guests on /dev/kvm. Not for the sandboxed service, which has no devices: for people,
 * and for VMMs that want to know before they start.
 *
 * Return: an exit status: 0 when a guest can be served, 1 when not; the JSON says why.
 */
int probe_main(void);
