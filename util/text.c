/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/text.h"
#include "util/utf8.h"

enum text_fault text_check(const char *s, size_t n) {
        const uint8_t *u = (const uint8_t *) s;

        for (size_t i = 0; i < n;) {
                size_t step = utf8_sequence(u + i, n - i);

                if (step == 0)
                        return TEXT_NOT_UTF8;
                if (utf8_is_control(u + i))
                        return TEXT_CONTROL;
                i += step;
        }
        return TEXT_FINE;
}
