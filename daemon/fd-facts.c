/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "daemon/fd-facts.h"
#include "util/util.h"

/* KVM has no call that asks an fd whether it is a VM; the name of its anonymous inode says so. */
static bool is_kvm_vm(int fd) {
        static const char expected[] = "anon_inode:kvm-vm";
        char path[32], name[64];
        ssize_t n;

        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = readlink(path, name, sizeof(name));
        return n == (ssize_t) strlen(expected) && memcmp(name, expected, (size_t) n) == 0;
}

static int regular_file(int fd, struct fd_facts *facts) {
        struct statfs fs;
        int seals;

        facts->type = FD_TYPE_FILE;
        seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0)
                return 0;
        facts->seals = (unsigned) seals;
        if (fstatfs(fd, &fs) < 0)
                return -errno;
        facts->type = fs.f_type == HUGETLBFS_MAGIC ? FD_TYPE_HUGETLB : FD_TYPE_MEMFD;
        return 0;
}

int fd_facts_get(int fd, struct fd_facts *ret) {
        struct fd_facts facts = { .type = FD_TYPE_OTHER };
        struct stat st;
        int mode, r = 0;

        if (fstat(fd, &st) < 0)
                return -errno;
        mode = fcntl(fd, F_GETFL);
        if (mode < 0)
                return -errno;
        /* An O_PATH descriptor reports access mode "read", but neither reads nor writes. */
        facts.readable = !(mode & O_PATH) && (mode & O_ACCMODE) != O_WRONLY;
        facts.writable = !(mode & O_PATH) && (mode & O_ACCMODE) != O_RDONLY;
        facts.size = (uint64_t) st.st_size;
        facts.device = st.st_dev;
        facts.inode = st.st_ino;

        if (S_ISREG(st.st_mode))
                r = regular_file(fd, &facts);
        else if (S_ISFIFO(st.st_mode))
                facts.type = FD_TYPE_FIFO;
        else if (is_kvm_vm(fd))
                facts.type = FD_TYPE_KVM_VM;
        if (r < 0)
                return r;
        *ret = facts;
        return 0;
}
