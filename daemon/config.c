/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <limits.h>
#include <stdarg.h>
#include <syslog.h>

#include "daemon/config.h"
#include "util/snapshot.h"
#include "util/util.h"

#define SECTION "vtld"
#define ETC VTLD_SYSCONFDIR "/vtld"
#define RUN "/run/vtld"
#define STATE "/var/lib/vtld"

/* ---- The table ---- */

enum kind {
        KIND_TEXT,
        KIND_OPTIONAL, /* a text that may be empty */
        KIND_PATH,
        KIND_PATHS,
        KIND_CHOICE,
        KIND_NUMBER,
        KIND_SIZE, /* bytes, with K, M or G */
};

struct row {
        const char *name;
        enum kind kind;
        size_t offset;
        const char *fallback;
        const struct string_table *choices;
        uint64_t min, max;
        const char *argument;
        const char *help;
};

static const char *const log_level_names[] = { "err", "warning", "notice", "info", "debug" };
static const struct string_table log_levels = STRING_TABLE(log_level_names);

#define OF(field) offsetof(struct config, field)

static const struct row rows[_CONFIG_KEY_MAX] = {
        [CONFIG_SOCKET_PATH] = { "socket-path", KIND_PATH, OF(socket_path), RUN "/attach.sock",
                                 .argument = "PATH", .help = "listen for VMMs here" },
        [CONFIG_BUS] = { "bus", KIND_TEXT, OF(bus), "system", .argument = "BUS",
                         .help = "system, session or a D-Bus address" },
        [CONFIG_POLICY] = { "policy", KIND_PATH, OF(policy), ETC "/policy.conf", .argument = "FILE",
                            .help = "who may enable VTL1; given here, without drop-ins" },
        [CONFIG_POLICY_DIRECTORIES] = { "policy-directories", KIND_PATHS, OF(policy_directories),
                                        ETC "/policy.d:" RUN "/policy.d:" VTLD_VENDORDIR
                                            "/policy.d",
                                        .argument = "LIST",
                                        .help = "of its drop-ins, the most important first" },
        [CONFIG_POLICY_SIGNATURES] = { "policy-signatures", KIND_CHOICE, OF(policy_signatures),
                                       "optional", &policy_signatures_table, .argument = "HOW",
                                       .help = "required or optional" },
        [CONFIG_KEYS_DIRECTORY] = { "keys-directory", KIND_PATH, OF(keys_directory), ETC "/keys.d",
                                    .argument = "DIR",
                                    .help = "of the keys that policies may be signed with" },
        [CONFIG_MAX_VMS] = { "max-vms", KIND_NUMBER, OF(max_vms), "64", NULL, 1,
                             CONFIG_MAX_VMS_LIMIT, "N", "refuse more VMs than this" },
        [CONFIG_EXIT_IDLE_TIME] = { "exit-idle-time", KIND_NUMBER, OF(exit_idle_time), "0", NULL, 0,
                                    86400, "SECONDS", "end after that time without use; 0: never" },
        [CONFIG_LOG_LEVEL] = { "log-level", KIND_CHOICE, OF(log_level), "info", &log_levels,
                               .argument = "LEVEL", .help = "err, warning, notice, info or debug" },
        [CONFIG_LIBVIRT_URI] = { "libvirt-uri", KIND_OPTIONAL, OF(libvirt_uri), VTLD_LIBVIRT_URI,
                                 .argument = "URI",
                                 .help = "ask this libvirt about domains; empty: none" },
        [CONFIG_HOST_KEY] = { "host-key", KIND_PATH, OF(host_key), STATE "/host-key.pem",
                              .argument = "FILE",
                              .help = "signs quotes; made when it is not there" },
        [CONFIG_MEASURE_LIMIT] = { "measure-limit", KIND_SIZE, OF(measure_limit), "64M", NULL, 4096,
                                   UINT64_C(1) << 40, "SIZE",
                                   "of what is measured when VTL1 starts" },
        [CONFIG_VINA_POLL_US] = { "vina-poll-us", KIND_NUMBER, OF(vina_poll_us), "250", NULL, 20,
                                  1000000, "N", "look so often for VTL0's interrupts" },
};

static void *field(const struct config *c, enum config_key key) {
        return (uint8_t *) c + rows[key].offset;
}

static bool has_text(enum config_key key) {
        return rows[key].kind <= KIND_PATHS;
}

int config_find(const char *name) {
        for (int i = 0; i < _CONFIG_KEY_MAX; i++)
                if (strcmp(rows[i].name, name) == 0)
                        return i;
        return -EINVAL;
}

const char *config_name(enum config_key key) {
        return rows[key].name;
}

void config_print_options(FILE *f) {
        for (unsigned i = 0; i < _CONFIG_KEY_MAX; i++) {
                char option[64];

                (void) snprintf(option, sizeof(option), "--%s=%s", rows[i].name, rows[i].argument);
                (void) fprintf(f, "  %-25s  %s", option, rows[i].help);
                if (rows[i].kind != KIND_PATHS)
                        (void) fprintf(f, " (default %s)", rows[i].fallback);
                (void) fputc('\n', f);
        }
}

/* ---- Values ---- */

static _printf_(3, 4) int wrong(char *why, const struct row *row, const char *fmt, ...) {
        int n = snprintf(why, CONF_ERROR_SIZE, "%s= ", row->name);
        va_list ap;

        va_start(ap, fmt);
        (void) vsnprintf(why + n, CONF_ERROR_SIZE - (size_t) n, fmt, ap);
        va_end(ap);
        return -EINVAL;
}

static int set_text(char **ret, const char *value) {
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        free(*ret);
        *ret = copy;
        return 0;
}

/* One element of a list, or all of a path */
static bool path_is_sound(const char *s, size_t n) {
        return n > 0 && n < PATH_MAX;
}

static bool paths_are_sound(const char *s) {
        unsigned count = 0;

        for (;;) {
                size_t n = strcspn(s, ":");

                if (!path_is_sound(s, n) || ++count > CONFIG_DIRECTORIES_MAX)
                        return false;
                if (!s[n])
                        return true;
                s += n + 1;
        }
}

static int parse_number(const char *value, bool units, uint64_t *ret) {
        static const struct {
                char unit;
                unsigned shift;
        } known[] = { { 'K', 10 }, { 'M', 20 }, { 'G', 30 } };
        size_t n = strspn(value, "0123456789");
        uint64_t v;

        /* Twelve digits do not overflow, also not with a unit; no limit has more. */
        if (n == 0 || n > 12)
                return -EINVAL;
        v = strtoull(value, NULL, 10);
        for (size_t i = 0; units && value[n] && i < ARRAY_SIZE(known); i++)
                if (value[n] == known[i].unit) {
                        if (v > UINT64_MAX >> known[i].shift)
                                return -EINVAL;
                        v <<= known[i].shift;
                        n++;
                        break;
                }
        if (value[n])
                return -EINVAL;
        *ret = v;
        return 0;
}

static int set_number(struct config *c, enum config_key key, const char *value, char *why) {
        const struct row *row = &rows[key];
        uint64_t v;

        if (parse_number(value, row->kind == KIND_SIZE, &v) < 0 || v < row->min || v > row->max)
                return wrong(why, row,
                             row->kind == KIND_SIZE
                                     ? "is a number of bytes, or with K, M or G, from %llu to %llu"
                                     : "is a number from %llu to %llu",
                             (unsigned long long) row->min, (unsigned long long) row->max);
        if (row->kind == KIND_SIZE)
                *(uint64_t *) field(c, key) = v;
        else
                *(uint32_t *) field(c, key) = (uint32_t) v;
        return 0;
}

static int set_choice(struct config *c, enum config_key key, const char *value, char *why) {
        char list[128];
        int v = string_table_value(rows[key].choices, value);

        if (v < 0)
                return wrong(why, &rows[key], "is %s",
                             string_table_list(rows[key].choices, list, sizeof(list)));
        *(uint32_t *) field(c, key) = (uint32_t) v;
        return 0;
}

static int set_value(struct config *c, enum config_key key, const char *value, char *why) {
        switch (rows[key].kind) {
        case KIND_CHOICE:
                return set_choice(c, key, value, why);
        case KIND_NUMBER:
        case KIND_SIZE:
                return set_number(c, key, value, why);
        case KIND_PATHS:
                if (!paths_are_sound(value))
                        return wrong(why, &rows[key],
                                     "is up to %u directories with colons between them",
                                     CONFIG_DIRECTORIES_MAX);
                return set_text(field(c, key), value);
        case KIND_PATH:
                if (!path_is_sound(value, strlen(value)))
                        return wrong(why, &rows[key], "is a path");
                return set_text(field(c, key), value);
        case KIND_TEXT:
                if (!*value)
                        return wrong(why, &rows[key], "is empty");
                return set_text(field(c, key), value);
        default:
                return set_text(field(c, key), value);
        }
}

int config_set(struct config *c, enum config_key key, const char *value,
               char why[CONF_ERROR_SIZE]) {
        int r = set_value(c, key, value, why);

        if (r >= 0)
                c->given |= 1u << key;
        return r;
}

int config_init(struct config *c) {
        char why[CONF_ERROR_SIZE];
        int r = 0;

        *c = (struct config){ .given = 0 };
        for (unsigned i = 0; i < _CONFIG_KEY_MAX && r >= 0; i++)
                r = set_value(c, i, rows[i].fallback, why);
        if (r < 0)
                config_done(c);
        return r;
}

void config_done(struct config *c) {
        for (unsigned i = 0; i < _CONFIG_KEY_MAX; i++)
                if (has_text(i)) {
                        char **text = field(c, i);

                        *text = (free(*text), NULL);
                }
}

void config_override(struct config *c, struct config *over) {
        for (unsigned i = 0; i < _CONFIG_KEY_MAX; i++) {
                if (!config_is_given(over, i))
                        continue;
                c->given |= 1u << i;
                if (has_text(i)) {
                        char **to = field(c, i), **from = field(over, i);

                        free(*to);
                        *to = TAKE_PTR(*from);
                } else if (rows[i].kind == KIND_SIZE)
                        *(uint64_t *) field(c, i) = *(uint64_t *) field(over, i);
                else
                        *(uint32_t *) field(c, i) = *(uint32_t *) field(over, i);
        }
}

int config_log_level(const struct config *c) {
        return LOG_ERR + (int) c->log_level;
}

/* ---- Files ---- */

struct parser {
        struct config *config;
        uint32_t seen; /* in this file */
};

static int on_section(struct conf *conf, const char *name, size_t len, void *userdata) {
        if (strcmp(name, SECTION) != 0)
                return conf_complain(conf, conf_line(conf),
                                     "unknown section; there is [" SECTION "] only");
        return 0;
}

/* A path that depends on where vtld is started is a mistake in a file. */
static bool is_absolute(enum config_key key, const char *value) {
        if (rows[key].kind != KIND_PATH && rows[key].kind != KIND_PATHS)
                return true;
        for (const char *s = value; s; s = strchr(s, ':') ? strchr(s, ':') + 1 : NULL) {
                if (*s != '/')
                        return false;
                if (rows[key].kind == KIND_PATH)
                        break;
        }
        return true;
}

static int on_key(struct conf *conf, const char *name, const char *value, void *userdata) {
        struct parser *p = userdata;
        int key = config_find(name), r;
        char why[CONF_ERROR_SIZE];

        if (key < 0)
                return conf_complain(conf, conf_line(conf),
                                     "unknown key \"%.40s\"; vtld.conf(5) names all there are",
                                     name);
        if (p->seen & (1u << key))
                return conf_complain(conf, conf_line(conf), "%s= is there twice", rows[key].name);
        p->seen |= 1u << key;
        if (!is_absolute((enum config_key) key, value))
                return conf_complain(conf, conf_line(conf), "%s= does not begin with \"/\"",
                                     rows[key].name);
        r = config_set(p->config, (enum config_key) key, value, why);
        return r == -EINVAL ? conf_complain(conf, conf_line(conf), "%s", why) : r;
}

static const struct conf_callbacks callbacks = { .section = on_section, .key = on_key };

int config_parse(struct config *c, const char *text, size_t len, const char *path,
                 char error[CONF_ERROR_SIZE]) {
        struct parser p = { .config = c };

        return conf_parse(text, len, path, &callbacks, &p, error);
}

static int read_file(struct config *c, struct snapshot *s, const char *path, bool optional,
                     char *error) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = snapshot_read(s, path, CONFIG_FILE_MAX, &text, &len);
        if (r == -ENOENT && optional)
                return 0;
        if (r == -EBADF)
                return conf_error(error, -EBADMSG, path, "not a regular file");
        if (r == -EFBIG)
                return conf_error(error, r, path, "larger than %u bytes", CONFIG_FILE_MAX);
        if (r < 0)
                return conf_error(error, r, path, "%s", strerror(-r));
        return config_parse(c, text, len, path, error);
}

static int read_dropins(struct config *c, struct snapshot *s, const char *const *directories,
                        char *error) {
        const char *where = "";
        struct dropin *d;
        size_t n;
        int r;

        r = snapshot_dropins(s, directories, ".conf", CONFIG_FILES_MAX, &d, &n, &where);
        if (r < 0)
                return conf_error(error, r, where, "%s", strerror(-r));
        for (size_t i = 0; i < n && r >= 0; i++)
                r = read_file(c, s, d[i].path, false, error);
        dropins_free(d, n);
        return r;
}

int config_load(struct config *c, const char *path, char error[CONF_ERROR_SIZE]) {
        const char *directories[] = { ETC "/vtld.conf.d", RUN "/vtld.conf.d",
                                      VTLD_VENDORDIR "/vtld.conf.d", NULL };
        _cleanup_free_ char *own = NULL;
        struct snapshot *s = snapshot_new();
        int r = s ? 0 : -ENOMEM;

        error[0] = '\0';
        if (r >= 0 && path) {
                r = asprintf(&own, "%s.d", path) < 0 ? -ENOMEM : 0;
                if (r < 0)
                        own = NULL;
                directories[0] = own;
                directories[1] = NULL;
        }
        if (r >= 0)
                r = read_file(c, s, path ? path : CONFIG_PATH, !path, error);
        if (r >= 0)
                r = read_dropins(c, s, directories, error);
        if (r < 0 && !error[0])
                (void) conf_error(error, r, path ? path : CONFIG_PATH, "%s", strerror(-r));
        (void) snapshot_free(s);
        return r < 0 ? r : 0;
}

/* ---- Where the policy is ---- */

int config_policy_source(const struct config *c, struct config_policy *ret) {
        bool file_given = config_is_given(c, CONFIG_POLICY);
        char *rest, *directory;
        size_t n = 0;

        *ret = (struct config_policy){
                .source = {
                        .file = c->policy,
                        .file_required = file_given,
                        .keys_directory = c->keys_directory,
                        .signatures = (enum policy_signatures) c->policy_signatures,
                },
                .texts = strdup(c->policy_directories),
        };
        if (!ret->texts)
                return -ENOMEM;
        /* Who names a file means that file, and not what else is on this machine. */
        if (file_given && !config_is_given(c, CONFIG_POLICY_DIRECTORIES))
                return 0;
        rest = ret->texts;
        while ((directory = strsep(&rest, ":")) && n < CONFIG_DIRECTORIES_MAX)
                ret->directories[n++] = directory;
        ret->source.directories = ret->directories;
        return 0;
}

void config_policy_done(struct config_policy *p) {
        p->texts = (free(p->texts), NULL);
}
