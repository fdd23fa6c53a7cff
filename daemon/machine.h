/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Which virtual machine a process belongs to, as systemd-machined says. The sandbox of the service
 * hides the control groups of other processes (ProtectProc=invisible), and machined is who put a
 * libvirt domain's processes into one.
 */

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

enum machine_kind {
        MACHINE_UNKNOWN, /* machined is not there, or does not say */
        MACHINE_NONE,    /* no machine, or one that is no domain of libvirt */
        MACHINE_LIBVIRT,
};

struct machine {
        enum machine_kind kind;
        uint8_t uuid[16]; /* MACHINE_LIBVIRT: of the domain */
};

struct machine_query;

typedef void (*machine_fn)(void *userdata, const struct machine *m);

/**
 * machine_query_new() - ask about a process
 * @bus: where machined is
 * @pid: kept from being another process by the caller, until the answer has been used
 * @usec: an answer that takes longer is none
 * @answer: called once, from the event loop; the query may be freed in it
 *
 * Return: 0 or a negative errno.
 */
int machine_query_new(sd_bus *bus, pid_t pid, uint64_t usec, machine_fn answer, void *userdata,
                      struct machine_query **ret);

/* Also before the answer, which does not come then */
struct machine_query *machine_query_free(struct machine_query *q);
