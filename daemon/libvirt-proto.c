/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/libvirt-proto.h"
#include "util/util.h"

static const char *const state_names[_LIBVIRT_STATE_MAX] = {
        [LIBVIRT_OFF] = "off",
        [LIBVIRT_CONNECTING] = "connecting",
        [LIBVIRT_CONNECTED] = "connected",
        [LIBVIRT_FAILED] = "failed",
};

const char *libvirt_state_to_string(enum libvirt_state s) {
        return state_names[s];
}

static bool policy_char(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_' || c == '.';
}

bool libvirt_policy_valid(const char *text) {
        size_t n = 0;

        while (policy_char(text[n]))
                if (++n >= LIBVIRT_POLICY_SIZE)
                        return false;
        return n > 0 && text[n] == '\0';
}
