/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/file.h"
#include "util/util.h"

int write_all(int fd, const void *data, size_t size) {
        const uint8_t *at = data;

        while (size > 0) {
                ssize_t n = write(fd, at, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                at += n;
                size -= (size_t) n;
        }
        return 0;
}
