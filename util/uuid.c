/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "util/uuid.h"

static bool dash_before_byte(unsigned i) {
        return i == 4 || i == 6 || i == 8 || i == 10;
}

void uuid_format(const uint8_t uuid[16], char ret[UUID_TEXT_SIZE]) {
        static const char digits[] = "0123456789abcdef";
        char *p = ret;

        for (unsigned i = 0; i < 16; i++) {
                if (dash_before_byte(i))
                        *p++ = '-';
                *p++ = digits[uuid[i] >> 4];
                *p++ = digits[uuid[i] & 15];
        }
        *p = '\0';
}

static int digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

int uuid_parse(const char *text, uint8_t ret[16]) {
        uint8_t u[16];

        for (unsigned i = 0; i < 16; i++) {
                int high, low;

                if (dash_before_byte(i) && *text++ != '-')
                        return -EINVAL;
                high = digit(text[0]);
                low = high < 0 ? -1 : digit(text[1]);
                if (low < 0)
                        return -EINVAL;
                u[i] = (uint8_t) (high << 4 | low);
                text += 2;
        }
        if (*text)
                return -EINVAL;
        memcpy(ret, u, sizeof(u));
        return 0;
}

bool uuid_is_nil(const uint8_t uuid[16]) {
        static const uint8_t nil[16];

        return memcmp(uuid, nil, sizeof(nil)) == 0;
}
