/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What vtld is told: vtld.conf(5) with its drop-ins, and the command line, which has an option for
 * each key. One table, in config.c, says what there is.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "policy/policy.h"
#include "util/conf-file.h"

#define CONFIG_PATH VTLD_SYSCONFDIR "/vtld/vtld.conf"
#define CONFIG_FILE_MAX (64u * 1024u)
#define CONFIG_FILES_MAX 256u
#define CONFIG_DIRECTORIES_MAX 16u
#define CONFIG_MAX_VMS_LIMIT 4096u

/* Of a vtld that the service manager starts again when it is needed, if nothing else is said */
#define CONFIG_ACTIVATED_IDLE_TIME 120u

enum config_key {
        CONFIG_SOCKET_PATH,
        CONFIG_BUS,
        CONFIG_POLICY,
        CONFIG_POLICY_DIRECTORIES,
        CONFIG_POLICY_SIGNATURES,
        CONFIG_KEYS_DIRECTORY,
        CONFIG_MAX_VMS,
        CONFIG_EXIT_IDLE_TIME,
        CONFIG_LOG_LEVEL,
        CONFIG_LIBVIRT_URI,
        CONFIG_HOST_KEY,
        CONFIG_MEASURE_LIMIT,
        CONFIG_VINA_POLL_US,
        _CONFIG_KEY_MAX,
};

struct config {
        uint32_t given; /* bitmap of enum config_key: not the defaults */
        char *socket_path;
        char *bus; /* "system", "session" or an address */
        char *policy;
        char *policy_directories; /* the most important first, with colons between them */
        char *keys_directory;
        char *host_key;
        char *libvirt_uri;
        uint32_t policy_signatures; /* enum policy_signatures */
        uint32_t log_level;         /* 0: err; config_log_level() */
        uint32_t max_vms;
        uint32_t exit_idle_time; /* seconds; 0: never */
        uint32_t vina_poll_us;
        uint64_t measure_limit; /* bytes */
};

/* The defaults. Return: 0 or -ENOMEM. */
int config_init(struct config *c);
void config_done(struct config *c);

/* The key of a name, or -EINVAL */
int config_find(const char *name);
const char *config_name(enum config_key key);

static inline bool config_is_given(const struct config *c, enum config_key key) {
        return c->given & (1u << key);
}

/**
 * config_set() - give a key its value
 * @why: on failure, what a value is, beginning with "KEY= "
 *
 * Return: 0, -EINVAL or -ENOMEM.
 */
int config_set(struct config *c, enum config_key key, const char *value, char why[CONF_ERROR_SIZE]);

/**
 * config_parse() - the keys of one file, from memory, over what @c has
 *
 * Return: 0, -EBADMSG for a file that is wrong, or another negative errno with @error.
 */
int config_parse(struct config *c, const char *text, size_t len, const char *path,
                 char error[CONF_ERROR_SIZE]);

/**
 * config_load() - a file and its drop-ins over what @c has
 * @path: a file that must exist, with drop-ins in PATH.d; NULL: vtld.conf, if it exists, and the
 *        directories vtld.conf.d of the system
 *
 * Return: 0 or a negative errno with @error; -ENOENT when @path does not exist.
 */
int config_load(struct config *c, const char *path, char error[CONF_ERROR_SIZE]);

/* What @over was given, over what @c has; the texts are moved. */
void config_override(struct config *c, struct config *over);

/* The number of a level that <syslog.h> knows */
int config_log_level(const struct config *c);

/* Where the policy is, as policy_load() wants it */
struct config_policy {
        struct policy_source source;
        const char *directories[CONFIG_DIRECTORIES_MAX + 1];
        char *texts;
};

/* Points into @c. Return: 0 or -ENOMEM. */
int config_policy_source(const struct config *c, struct config_policy *ret);
void config_policy_done(struct config_policy *p);

/* One line of help for each key */
void config_print_options(FILE *f);
