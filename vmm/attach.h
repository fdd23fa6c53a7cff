/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The VMM's side of the attach protocol, vtl-protocol(7). Calls block until vtld answers or a
 * deadline passes; none is meant for a vCPU's hot path. A client is used by one thread at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct attach_client;

struct attach_region {
        uint64_t gpa;
        uint64_t size;
        uint64_t offset; /* in fd */
        int fd;          /* a shared memfd of 4 KiB pages with F_SEAL_SHRINK */
};

struct attach_params {
        uint8_t uuid[16];
        const char *name;
        unsigned vps;
        const uint32_t *apic_ids; /* by VP index */
        uint64_t tsc_khz;
        unsigned phys_bits;
        bool precise_faults;
        bool kernel_apic_msrs, kernel_hypercalls, kernel_synic;
        int vm_fd;      /* the KVM VM; vtld looks at it and closes its copy */
        int control_fd; /* a memfd of exactly vtl_control_size(vps) bytes, sealed SHRINK and GROW */
        int overlay_fd; /* a memfd of exactly vtl_overlay_pages(vps) pages, sealed SHRINK and GROW
                         */
        const struct attach_region *regions;
        size_t n_regions;
};

struct attach_started {
        int link_fd; /* becomes the caller's: POLLHUP on it means that the worker is gone */
        bool vtl1_allowed;
        uint32_t reserve_mappings;
        uint32_t vina_poll_us;
        unsigned worker_pid;
};

/**
 * attach_client_connect() - connect to vtld and agree on a version
 * @path: the attach socket
 * @ret: the client
 *
 * Return: 0, -EPROTONOSUPPORT when vtld speaks another version, -ETIMEDOUT, or another negative
 * errno.
 */
int attach_client_connect(const char *path, struct attach_client **ret);

/* As attach_client_connect(), over a connected socket that becomes the client's, also on failure.
 */
int attach_client_new(int fd, struct attach_client **ret);

struct attach_client *attach_client_free(struct attach_client *c);

/**
 * attach_client_attach() - tell vtld about the VM
 *
 * The descriptors stay the caller's.
 *
 * Return: 0 or the negative errno of vtld's refusal; attach_client_error() then says why.
 */
int attach_client_attach(struct attach_client *c, const struct attach_params *p);

/**
 * attach_client_vp() - add one VP
 * @index: below attach_params.vps
 * @kick_fd: the write end of a pipe; a byte written to it must make the VP's thread leave the guest
 */
int attach_client_vp(struct attach_client *c, unsigned index, int kick_fd);

/**
 * attach_client_start() - start the worker of this VM
 *
 * Every VP must have been added. When it returns, the worker waits at the control memory.
 */
int attach_client_start(struct attach_client *c, struct attach_started *ret);

/* The VM is no longer served; its vCPUs must not run any more. The client can attach another one.
 */
int attach_client_detach(struct attach_client *c);
int attach_client_pause(struct attach_client *c);
int attach_client_continue(struct attach_client *c);

/* The connection: POLLHUP on it means that vtld has closed it. Not for reading. */
int attach_client_fd(const struct attach_client *c);

/* Text of the last failure, "" when there was none; valid until the next call. */
const char *attach_client_error(const struct attach_client *c);
