/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The attach protocol, vtl-protocol(7), as a state machine of one connection: it takes messages and
 * makes replies, and does no input or output of its own. What a descriptor is, and what a command
 * does, are asked of its owner, so that tests and the fuzzer can answer instead of a kernel.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/fd-facts.h"
#include "util/uuid.h"
#include "vmm/protocol.h"

enum protocol_state {
        PROTOCOL_NEW,       /* VERSION comes first */
        PROTOCOL_GREETED,   /* the version is agreed on, no VM */
        PROTOCOL_ATTACHING, /* ATTACH is not answered yet */
        PROTOCOL_ATTACHED,  /* a VM, not running; VPs are added */
        PROTOCOL_STARTING,  /* START is not answered yet */
        PROTOCOL_RUNNING,
        PROTOCOL_PAUSED,
        _PROTOCOL_STATE_MAX,
};

struct protocol_region {
        uint64_t gpa;
        uint64_t size;
        uint64_t offset;
        int fd;
};

/* What a VMM has said about its VM. The descriptors are owned. */
struct protocol_vm {
        uint8_t uuid[16];
        char uuid_text[UUID_TEXT_SIZE];
        char name[VTL_ATTACH_NAME_SIZE];
        unsigned vps;
        unsigned phys_bits;
        bool precise_faults;
        bool kernel_apic_msrs, kernel_hypercalls, kernel_synic;
        uint64_t tsc_khz;
        uint32_t apic_ids[VTL_ATTACH_VPS_MAX];
        int control_fd;
        int overlay_fd;
        struct protocol_region regions[VTL_ATTACH_REGIONS_MAX];
        unsigned n_regions;
        int kick_fds[VTL_ATTACH_VPS_MAX]; /* -1: this VP has not been added */
};

struct protocol_reply {
        union {
                struct vtl_message header;
                uint8_t bytes[sizeof(struct vtl_message) + VTL_ERROR_TEXT_SIZE];
        } message;
        size_t len;
        int fd;     /* owned; -1: none */
        bool close; /* the connection ends after this reply */
};

struct protocol;

/*
 * What the owner of a connection answers. All return 0 or a negative errno; @ret_why may be set to
 * a text that goes to the peer. attach() leaves the answer to protocol_attached(), start() to
 * protocol_started().
 */
struct protocol_ops {
        int (*facts)(void *userdata, int fd, struct fd_facts *ret);
        int (*attach)(void *userdata, const struct protocol_vm *vm, const char **ret_why);
        int (*start)(void *userdata, const struct protocol_vm *vm, const char **ret_why);
        void (*detach)(void *userdata);
        void (*pause)(void *userdata, bool paused);
};

struct protocol {
        enum protocol_state state;
        struct protocol_vm vm;      /* valid from PROTOCOL_ATTACHING on */
        struct vtl_message pending; /* header of the ATTACH or START that is not answered yet */
        const struct protocol_ops *ops;
        void *userdata;
};

void protocol_init(struct protocol *p, const struct protocol_ops *ops, void *userdata);

/* As protocol_init(), for a VM that was started by a broker before this one */
void protocol_init_running(struct protocol *p, const struct protocol_ops *ops, void *userdata,
                           bool paused);

/* Closes every descriptor; does not call ops. */
void protocol_done(struct protocol *p);

/**
 * protocol_handle() - one message
 * @msg: the message, private to the caller
 * @len: its length
 * @fds: its descriptors: all are kept or closed
 * @n_fds: how many
 * @reply: the answer, when the function returns 0
 *
 * Return: 0, or 1 when the answer comes later, through protocol_attached() or protocol_started().
 */
int protocol_handle(struct protocol *p, const void *msg, size_t len, int *fds, size_t n_fds,
                    struct protocol_reply *reply);

/**
 * protocol_broken() - the answer to something that was no message at all
 * @error: a negative errno of receiving it
 */
void protocol_broken(struct protocol *p, int error, struct protocol_reply *reply);

/**
 * protocol_attached() - the answer to ATTACH
 * @error: 0, or a negative errno: there is no VM then
 * @why: text for the peer, with @error
 *
 * Only in PROTOCOL_ATTACHING.
 */
void protocol_attached(struct protocol *p, int error, const char *why,
                       struct protocol_reply *reply);

/**
 * protocol_started() - the answer to START
 * @error: 0, or a negative errno: the VM is then as before START
 * @why: text for the peer, with @error
 * @started: for the peer, without @error
 * @link_fd: for the peer, becomes the reply's
 *
 * Only in PROTOCOL_STARTING. After success the guest's memory is closed here: it is the worker's.
 */
void protocol_started(struct protocol *p, int error, const char *why,
                      const struct vtl_message_started *started, int link_fd,
                      struct protocol_reply *reply);

void protocol_reply_done(struct protocol_reply *reply);
