/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/hex.h"
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

int uuid_parse(const char *text, uint8_t ret[16]) {
        uint8_t u[16];

        for (unsigned i = 0; i < 16; i++) {
                if (dash_before_byte(i) && *text++ != '-')
                        return -EINVAL;
                if (hex_decode(text, 1, &u[i]) < 0)
                        return -EINVAL;
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
