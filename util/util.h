/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Small helpers without domain knowledge: ownership (cleanup attributes), sizes, byte order free
 * copies.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MIN(a, b)                                  \
        ({                                         \
                __typeof__(a) min_a_ = (a);        \
                __typeof__(b) min_b_ = (b);        \
                min_a_ < min_b_ ? min_a_ : min_b_; \
        })
#define MAX(a, b)                                  \
        ({                                         \
                __typeof__(a) max_a_ = (a);        \
                __typeof__(b) max_b_ = (b);        \
                max_a_ > max_b_ ? max_a_ : max_b_; \
        })

#define _cleanup_(x) __attribute__((cleanup(x)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _public_ __attribute__((visibility("default")))

/* Takes the value out of an owned variable, leaving the empty value behind. */
#define TAKE_PTR(p)                          \
        ({                                   \
                __typeof__(p) take_p_ = (p); \
                (p) = NULL;                  \
                take_p_;                     \
        })
#define TAKE_FD(fd)                  \
        ({                           \
                int take_fd_ = (fd); \
                (fd) = -1;           \
                take_fd_;            \
        })

/** monotonic_ns() - CLOCK_MONOTONIC in nanoseconds, which wraps in centuries only */
static inline uint64_t monotonic_ns(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

/**
 * safe_close() - close a file descriptor, keeping errno
 * @fd: the descriptor, or a negative number for none
 *
 * Return: always -1, so that `fd = safe_close(fd)` empties the variable.
 */
static inline int safe_close(int fd) {
        if (fd >= 0) {
                int e = errno;

                (void) close(fd);
                errno = e;
        }
        return -1;
}

static inline void cleanup_freep(void *p) {
        free(*(void **) p);
}

static inline void cleanup_closep(int *fd) {
        *fd = safe_close(*fd);
}

#define _cleanup_free_ _cleanup_(cleanup_freep)
#define _cleanup_close_ _cleanup_(cleanup_closep)

static inline bool is_aligned(uint64_t v, uint64_t to) {
        return (v & (to - 1)) == 0;
}
