/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * For LD_PRELOAD in a vtld under test, on a machine without KVM: the broker looks at the link of a
 * descriptor to tell whether it is a KVM VM, and closes it. Here /dev/full is one.
 */

#define _GNU_SOURCE
#include <dlfcn.h>

#include "util/util.h"

_public_ ssize_t readlink(const char *restrict path, char *restrict buf, size_t size) {
        static const char fake[] = "/dev/full", vm[] = "anon_inode:kvm-vm";
        ssize_t (*real)(const char *, char *, size_t);
        ssize_t n;

        *(void **) &real = dlsym(RTLD_NEXT, "readlink");
        n = real(path, buf, size);
        if (n != (ssize_t) strlen(fake) || memcmp(buf, fake, strlen(fake)) != 0 ||
            size < strlen(vm))
                return n;
        memcpy(buf, vm, strlen(vm));
        return (ssize_t) strlen(vm);
}
