/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guest.h"

/* String instructions: on hosts that emulate every instruction one of them is one instruction. */

void *memcpy(void *dst, const void *src, size_t n) {
        void *d = dst;

        __asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
        return dst;
}

void *memset(void *dst, int c, size_t n) {
        void *d = dst;

        __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
        return dst;
}

int memcmp(const void *a, const void *b, size_t n) {
        const uint8_t *x = a, *y = b;

        for (; n > 0; n--, x++, y++)
                if (*x != *y)
                        return *x < *y ? -1 : 1;
        return 0;
}

size_t strlen(const char *s) {
        size_t n = 0;

        while (s[n] != '\0')
                n++;
        return n;
}

int strncmp(const char *a, const char *b, size_t n) {
        for (; n > 0; n--, a++, b++) {
                if (*a != *b)
                        return (uint8_t) *a < (uint8_t) *b ? -1 : 1;
                if (*a == '\0')
                        return 0;
        }
        return 0;
}
