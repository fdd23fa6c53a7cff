/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "utf8.h"

size_t utf8_sequence(const uint8_t *s, size_t left) {
        uint32_t c;
        size_t n;

        if (s[0] < 0x80)
                return 1;
        if (s[0] >= 0xc2 && s[0] <= 0xdf)
                n = 2;
        else if ((s[0] & 0xf0) == 0xe0)
                n = 3;
        else if (s[0] >= 0xf0 && s[0] <= 0xf4)
                n = 4;
        else
                return 0;
        if (n > left)
                return 0;
        c = s[0] & (0xffu >> (n + 1));
        for (size_t i = 1; i < n; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (s[i] & 0x3fu);
        }
        if (n == 3 && (c < 0x800 || (c >= 0xd800 && c <= 0xdfff)))
                return 0;
        if (n == 4 && (c < 0x10000 || c > 0x10ffff))
                return 0;
        return n;
}

bool utf8_is_text(const char *s, const char *also) {
        const uint8_t *u = (const uint8_t *) s;
        size_t len = strlen(s), n;

        for (size_t i = 0; i < len; i += n) {
                n = utf8_sequence(u + i, len - i);
                if (n == 0 || (utf8_is_control(u + i) && !strchr(also, s[i])))
                        return false;
        }
        return true;
}
