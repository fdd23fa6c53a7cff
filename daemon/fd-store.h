/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the service manager keeps of a VM while there is no broker: descriptors in its file
 * descriptor store, which the next broker is started with. Each has a name, "vm-UUID-PART".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/uuid.h"

enum fd_store_part {
        FD_STORE_RECORD,  /* what there is to know about the VM; see record.h */
        FD_STORE_CONTROL, /* the control memory */
        FD_STORE_VMM,     /* the connection of its VMM */
        FD_STORE_VMM_PID, /* pidfds */
        FD_STORE_WORKER,  /* the broker's end of the pair with its worker */
        FD_STORE_WORKER_PID,
        _FD_STORE_PART_MAX,
};

#define FD_STORE_NAME_SIZE 64u

/* A VM of the broker before. The descriptors are owned; -1: was not stored. */
struct fd_store_vm {
        uint8_t uuid[16];
        char uuid_text[UUID_TEXT_SIZE];
        int fds[_FD_STORE_PART_MAX];
        bool twice; /* one of the names came more than once */
};

struct fd_store {
        struct fd_store_vm *vms;
        size_t n;
};

void fd_store_name(const char *uuid_text, enum fd_store_part part, char ret[FD_STORE_NAME_SIZE]);

/* Return: 0, or -EINVAL for a name that fd_store_name() does not make. */
int fd_store_parse_name(const char *name, uint8_t ret_uuid[16], enum fd_store_part *ret);

/**
 * fd_store_take() - sort in a descriptor of the service manager
 * @fd: becomes the store's when this returns 0
 *
 * Return: 0, -EINVAL for a name that is not one of these, or -ENOMEM.
 */
int fd_store_take(struct fd_store *s, const char *name, int fd);

void fd_store_vm_close(struct fd_store_vm *vm);
/* Closes what has not been taken out of it. */
void fd_store_done(struct fd_store *s);

/**
 * fd_store_put() - give the service manager the descriptors of a VM to keep
 * @fds: stay the caller's
 *
 * Return: 1; 0 when there is no service manager; or a negative errno, and nothing is kept.
 */
int fd_store_put(const char *uuid_text, const int fds[_FD_STORE_PART_MAX]);

/* The VM is gone. */
void fd_store_remove(const char *uuid_text);
