/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <stdio.h>
#include <sysexits.h>

#include "daemon/broker.h"
#include "daemon/config.h"
#include "util/hex.h"
#include "util/util.h"

#define CREDENTIAL "vtld.host-key"

/* systemd's credential, unless a file was named; NULL: none. The path is the caller's. */
static char *credential_path(const struct broker *b) {
        const char *directory = getenv("CREDENTIALS_DIRECTORY");
        char *path;

        if (!directory || config_is_given(b->config, CONFIG_HOST_KEY) ||
            asprintf(&path, "%s/" CREDENTIAL, directory) < 0)
                return NULL;
        if (access(path, F_OK) == 0)
                return path;
        free(path);
        return NULL;
}

/* Where there is no room for a key, vtld serves without; one that is there and no good is a mistake
 * that nobody should find out about by a quote that is missing. */
static bool can_do_without(const struct broker *b, int r) {
        return !config_is_given(b->config, CONFIG_HOST_KEY) &&
               (r == -ENOENT || r == -EACCES || r == -EPERM || r == -EROFS);
}

static int load_or_generate(struct broker *b, char error[CONF_ERROR_SIZE]) {
        const char *path = b->config->host_key;
        int r;

        r = host_key_load(path, &b->host_key, error);
        if (r != -ENOENT)
                return r;
        r = host_key_generate(path, &b->host_key, error);
        if (r >= 0)
                log_notice("made a new host key: %s", path);
        return r;
}

int broker_read_key(struct broker *b) {
        _cleanup_free_ char *credential = credential_path(b);
        char error[CONF_ERROR_SIZE] = "", id[SIGNATURE_KEY_ID_TEXT_SIZE];
        bool exists;
        int r;

        r = measure_new(&b->measure, error);
        if (r < 0) {
                log_error("%s", error);
                return r;
        }
        exists = credential || access(b->config->host_key, F_OK) == 0;
        r = credential ? host_key_load(credential, &b->host_key, error)
                       : load_or_generate(b, error);
        if (r < 0 && !exists && can_do_without(b, r)) {
                log_warning("%s: there is no host key, and there will be no quotes", error);
                return 0;
        }
        if (r < 0) {
                log_error("%s", error[0] ? error : strerror(-r));
                return r;
        }
        hex_encode(host_key_id(b->host_key), SIGNATURE_KEY_ID_SIZE, id);
        log_info("quotes are signed with the host key %s%s", id,
                 credential ? ", a credential" : "");
        return 0;
}
