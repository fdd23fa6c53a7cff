/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a received file descriptor is, as far as the attach protocol cares.
 */

#include <stdbool.h>
#include <stdint.h>

enum fd_type {
        FD_TYPE_OTHER,
        FD_TYPE_KVM_VM,
        FD_TYPE_MEMFD,   /* sealable shared memory of ordinary pages */
        FD_TYPE_HUGETLB, /* shared memory of huge pages: cannot be protected page by page */
        FD_TYPE_FILE,    /* any other regular file */
        FD_TYPE_FIFO,
        _FD_TYPE_MAX,
};

struct fd_facts {
        enum fd_type type;
        bool readable;
        bool writable;
        unsigned seals; /* F_SEAL_* */
        uint64_t size;
        uint64_t device; /* with inode: which file it is */
        uint64_t inode;
};

/**
 * fd_facts_get() - look at a descriptor
 *
 * Return: 0 or a negative errno.
 */
int fd_facts_get(int fd, struct fd_facts *ret);
