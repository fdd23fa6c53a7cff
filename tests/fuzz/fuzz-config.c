/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target: vtld.conf.
 */

#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "daemon/config.h"
#include "util/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
        if (!condition)
                abort();
}

static void check(const struct config *c) {
        const char *const texts[] = { c->socket_path,    c->bus,
                                      c->policy,         c->policy_directories,
                                      c->keys_directory, c->host_key };
        struct config_policy p;

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                require(texts[i] && texts[i][0]);
        /* Empty, it says that there is no libvirt. */
        require(c->libvirt_uri);
        require(c->socket_path[0] == '/' && c->policy[0] == '/' && c->keys_directory[0] == '/');
        require(c->max_vms >= 1 && c->max_vms <= CONFIG_MAX_VMS_LIMIT);
        require(c->vina_poll_us >= 20 && c->vina_poll_us <= 1000000);
        require(c->measure_limit >= 4096 && c->measure_limit <= UINT64_C(1) << 40);
        require(config_log_level(c) >= LOG_ERR && config_log_level(c) <= LOG_DEBUG);
        require(config_policy_source(c, &p) == 0);
        for (const char *const *d = p.source.directories; d && *d; d++)
                require(**d == '/');
        config_policy_done(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char error[CONF_ERROR_SIZE] = "";
        struct config c;
        int r;

        require(config_init(&c) == 0);
        r = config_parse(&c, (const char *) data, size, "file", error);
        require(r <= 0);
        for (const char *s = error; *s; s++)
                require(*s >= 0x20 && *s < 0x7f);
        require(!error[0] == (r == 0));
        /* What was taken before an error was sound too. */
        check(&c);
        config_done(&c);
        return 0;
}
