/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE

/* vtld.conf: its keys, its files, and what the command line overrides. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <syslog.h>

#include "daemon/config.h"
#include "util/util.h"

static char error[CONF_ERROR_SIZE];

static struct config parse(const char *text) {
        struct config c;

        assert_int_equal(config_init(&c), 0);
        if (config_parse(&c, text, strlen(text), "file", error) < 0)
                fail_msg("%s", error);
        return c;
}

static void test_defaults(void **state) {
        struct config c = parse("");

        assert_int_equal(c.given, 0);
        assert_string_equal(c.socket_path, "/run/vtld/attach.sock");
        assert_string_equal(c.bus, "system");
        assert_string_equal(c.policy, VTLD_SYSCONFDIR "/vtld/policy.conf");
        assert_string_equal(c.policy_directories, VTLD_SYSCONFDIR
                            "/vtld/policy.d:/run/vtld/policy.d:" VTLD_VENDORDIR "/policy.d");
        assert_string_equal(c.keys_directory, VTLD_SYSCONFDIR "/vtld/keys.d");
        assert_int_equal(c.policy_signatures, POLICY_SIGNATURES_OPTIONAL);
        assert_int_equal(c.max_vms, 64);
        assert_int_equal(config_log_level(&c), LOG_INFO);
        assert_string_equal(c.libvirt_uri, VTLD_LIBVIRT_URI);
        assert_int_equal(c.measure_limit, 64 << 20);
        assert_int_equal(c.vina_poll_us, 250);
        config_done(&c);
        assert_null(c.bus);
}

static void test_every_key(void **state) {
        struct config c = parse("[vtld]\n"
                                "socket-path = /s\n"
                                "bus = unix:path=/b\n"
                                "policy = /p\n"
                                "policy-directories = /d1:/d2\n"
                                "policy-signatures = required\n"
                                "keys-directory = /k\n"
                                "max-vms = 4096\n"
                                "exit-idle-time = 7\n"
                                "log-level = debug\n"
                                "[vtld]\n"
                                "libvirt-uri = test:///default\n"
                                "host-key = /h\n"
                                "measure-limit = 1G\n"
                                "vina-poll-us = 1000\n");

        assert_int_equal(c.given, (1u << _CONFIG_KEY_MAX) - 1);
        assert_string_equal(c.socket_path, "/s");
        assert_string_equal(c.bus, "unix:path=/b");
        assert_string_equal(c.policy, "/p");
        assert_string_equal(c.policy_directories, "/d1:/d2");
        assert_string_equal(c.keys_directory, "/k");
        assert_int_equal(c.policy_signatures, POLICY_SIGNATURES_REQUIRED);
        assert_int_equal(c.max_vms, 4096);
        assert_int_equal(c.exit_idle_time, 7);
        assert_int_equal(config_log_level(&c), LOG_DEBUG);
        assert_string_equal(c.libvirt_uri, "test:///default");
        assert_string_equal(c.host_key, "/h");
        assert_int_equal(c.measure_limit, 1 << 30);
        assert_int_equal(c.vina_poll_us, 1000);
        config_done(&c);
}

static void test_names(void **state) {
        for (unsigned i = 0; i < _CONFIG_KEY_MAX; i++)
                assert_int_equal(config_find(config_name(i)), i);
        assert_int_equal(config_find("fd"), -EINVAL);
        assert_int_equal(config_find(""), -EINVAL);
}

static void test_log_levels(void **state) {
        static const struct {
                const char *text;
                int level;
        } levels[] = { { "[vtld]\nlog-level=err\n", LOG_ERR },
                       { "[vtld]\nlog-level=warning\n", LOG_WARNING },
                       { "[vtld]\nlog-level=notice\n", LOG_NOTICE },
                       { "[vtld]\nlog-level=info\n", LOG_INFO },
                       { "[vtld]\nlog-level=debug\n", LOG_DEBUG } };

        for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
                struct config c = parse(levels[i].text);

                assert_int_equal(config_log_level(&c), levels[i].level);
                config_done(&c);
        }
}

static void test_bad_files(void **state) {
        static const struct {
                const char *text, *error;
        } bad[] = {
                { "bus=session\n", "file:1: a key before the first section" },
                { "[Vtld]\n", "file:1: unknown section; there is [vtld] only" },
                { "[vtld]\nfd=3\n", "file:2: unknown key \"fd\"; vtld.conf(5)" },
                { "[vtld]\nBus=session\n", "file:2: unknown key \"Bus\"" },
                { "[vtld]\nbus=session\nbus=session\n", "file:3: bus= is there twice" },
                { "[vtld]\nbus=session\n[vtld]\nbus=session\n", "file:4: bus= is there twice" },
                { "[vtld]\nbus=\n", "file:2: bus= is empty" },
                { "[vtld]\nsocket-path=attach.sock\n",
                  "file:2: socket-path= does not begin with \"/\"" },
                { "[vtld]\nsocket-path=\n", "file:2: socket-path= does not begin with" },
                { "[vtld]\npolicy-directories=/a:b\n",
                  "file:2: policy-directories= does not begin with" },
                { "[vtld]\npolicy-directories=/a::/b\n",
                  "file:2: policy-directories= does not begin with" },
                { "[vtld]\npolicy-directories=/a:\n",
                  "file:2: policy-directories= does not begin with" },
                { "[vtld]\npolicy-directories=/1:/2:/3:/4:/5:/6:/7:/8:/9:/a:/b:/c:/d:/e:/f:/g:/h\n",
                  "file:2: policy-directories= is up to 16 directories" },
                { "[vtld]\npolicy-signatures=yes\n",
                  "file:2: policy-signatures= is optional or required" },
                { "[vtld]\nmax-vms=0\n", "file:2: max-vms= is a number from 1 to 4096" },
                { "[vtld]\nmax-vms=4097\n", "file:2: max-vms= is a number from 1 to 4096" },
                { "[vtld]\nmax-vms=1K\n", "file:2: max-vms= is a number from 1 to 4096" },
                { "[vtld]\nmax-vms=\n", "file:2: max-vms= is a number from 1 to 4096" },
                { "[vtld]\nexit-idle-time=86401\n",
                  "file:2: exit-idle-time= is a number from 0 to 86400" },
                { "[vtld]\nmax-vms=-1\n", "file:2: max-vms= is a number from 1 to 4096" },
                { "[vtld]\nlog-level=loud\n",
                  "file:2: log-level= is err, warning, notice, info or debug" },
                { "[vtld]\nmeasure-limit=4095\n", "file:2: measure-limit= is a number of bytes" },
                { "[vtld]\nmeasure-limit=64MB\n", "file:2: measure-limit= is a number of bytes" },
                { "[vtld]\nmeasure-limit=64m\n", "file:2: measure-limit= is a number of bytes" },
                { "[vtld]\nmeasure-limit=1025G\n", "file:2: measure-limit= is a number of bytes" },
                { "[vtld]\nmeasure-limit=999999999999G\n",
                  "file:2: measure-limit= is a number of bytes" },
                { "[vtld]\nmeasure-limit=9999999999999\n",
                  "file:2: measure-limit= is a number of bytes" },
                { "[vtld]\nmeasure-limit=M\n", "file:2: measure-limit= is a number of bytes" },
                { "[vtld]\nvina-poll-us=19\n",
                  "file:2: vina-poll-us= is a number from 20 to 1000000" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct config c;
                int r;

                assert_int_equal(config_init(&c), 0);
                r = config_parse(&c, bad[i].text, strlen(bad[i].text), "file", error);
                if (r != -EBADMSG || strncmp(error, bad[i].error, strlen(bad[i].error)) != 0)
                        fail_msg("%s\n-> %d \"%s\", expected \"%s\"", bad[i].text, r, error,
                                 bad[i].error);
                config_done(&c);
        }
}

static void test_sizes(void **state) {
        static const struct {
                const char *value;
                uint64_t bytes;
        } sizes[] = { { "4096", 4096 },
                      { "4K", 4096 },
                      { "65536K", 64 << 20 },
                      { "1024G", UINT64_C(1) << 40 },
                      { "1099511627776", 0 } /* as many digits as there may not be */ };
        char why[CONF_ERROR_SIZE];
        struct config c;

        assert_int_equal(config_init(&c), 0);
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                int r = config_set(&c, CONFIG_MEASURE_LIMIT, sizes[i].value, why);

                assert_int_equal(r, sizes[i].bytes ? 0 : -EINVAL);
                if (r == 0)
                        assert_int_equal(c.measure_limit, sizes[i].bytes);
        }
        config_done(&c);
}

static void test_command_line_wins(void **state) {
        struct config c = parse("[vtld]\nbus=session\nmax-vms=3\npolicy-signatures=required\n");
        struct config over;
        char why[CONF_ERROR_SIZE];

        assert_int_equal(config_init(&over), 0);
        assert_int_equal(config_set(&over, CONFIG_BUS, "system", why), 0);
        assert_int_equal(config_set(&over, CONFIG_SOCKET_PATH, "relative", why), 0);
        assert_int_equal(config_set(&over, CONFIG_POLICY_SIGNATURES, "optional", why), 0);
        assert_int_equal(config_set(&over, CONFIG_MEASURE_LIMIT, "8K", why), 0);
        assert_int_equal(config_set(&over, CONFIG_VINA_POLL_US, "0", why), -EINVAL);
        assert_string_equal(why, "vina-poll-us= is a number from 20 to 1000000");
        config_override(&c, &over);
        config_done(&over);
        assert_string_equal(c.bus, "system");
        assert_string_equal(c.socket_path, "relative");
        assert_int_equal(c.policy_signatures, POLICY_SIGNATURES_OPTIONAL);
        assert_int_equal(c.measure_limit, 8192);
        assert_int_equal(c.max_vms, 3);
        assert_int_equal(c.vina_poll_us, 250);
        assert_true(config_is_given(&c, CONFIG_SOCKET_PATH));
        assert_true(config_is_given(&c, CONFIG_MAX_VMS));
        assert_false(config_is_given(&c, CONFIG_VINA_POLL_US));
        config_done(&c);
}

/* ---- Where the policy is ---- */

static void test_policy_source(void **state) {
        static const struct {
                const char *text;
                bool required;
                const char *file, *first, *second;
        } cases[] = {
                { "", false, VTLD_SYSCONFDIR "/vtld/policy.conf", VTLD_SYSCONFDIR "/vtld/policy.d",
                  "/run/vtld/policy.d" },
                { "[vtld]\npolicy=/p\n", true, "/p", NULL, NULL },
                { "[vtld]\npolicy-directories=/d\n", false, VTLD_SYSCONFDIR "/vtld/policy.conf",
                  "/d", NULL },
                { "[vtld]\npolicy=/p\npolicy-directories=/d:/e\n", true, "/p", "/d", "/e" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct config c = parse(cases[i].text);
                struct config_policy p;

                assert_int_equal(config_policy_source(&c, &p), 0);
                assert_int_equal(p.source.file_required, cases[i].required);
                assert_string_equal(p.source.file, cases[i].file);
                assert_int_equal(!!p.source.directories, !!cases[i].first);
                if (cases[i].first)
                        assert_string_equal(p.source.directories[0], cases[i].first);
                if (cases[i].second)
                        assert_string_equal(p.source.directories[1], cases[i].second);
                else if (cases[i].first)
                        assert_null(p.source.directories[1]);
                assert_string_equal(p.source.keys_directory, c.keys_directory);
                assert_int_equal(p.source.signatures, POLICY_SIGNATURES_OPTIONAL);
                config_policy_done(&p);
                config_done(&c);
        }
}

/* ---- Files ---- */

static char root[] = "/tmp/test-config.XXXXXX";

static const char *at(const char *name) {
        static char paths[4][256];
        static unsigned next;
        char *path = paths[next++ % ARRAY_SIZE(paths)];

        (void) snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
        return path;
}

static void put(const char *name, const char *text) {
        int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
        assert_int_equal(close(fd), 0);
}

static int setup(void **state) {
        return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static int teardown(void **state) {
        return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void test_files(void **state) {
        struct config c;

        assert_int_equal(config_init(&c), 0);
        assert_int_equal(config_load(&c, at("vtld.conf"), error), -ENOENT);
        assert_non_null(strstr(error, "/vtld.conf: No such file or directory"));
        put("vtld.conf", "[vtld]\nmax-vms=1\nbus=session\n");
        assert_int_equal(config_load(&c, at("vtld.conf"), error), 0);
        assert_int_equal(c.max_vms, 1);

        /* Drop-ins come later, in the order of their names. */
        assert_int_equal(mkdir(at("vtld.conf.d"), 0700), 0);
        put("vtld.conf.d/20-b.conf", "[vtld]\nmax-vms=3\n");
        put("vtld.conf.d/10-a.conf", "[vtld]\nmax-vms=2\nvina-poll-us=20\n");
        put("vtld.conf.d/30-none.conf", "");
        put("vtld.conf.d/README", "nothing\n");
        assert_int_equal(config_load(&c, at("vtld.conf"), error), 0);
        assert_int_equal(c.max_vms, 3);
        assert_int_equal(c.vina_poll_us, 20);
        assert_string_equal(c.bus, "session");

        put("vtld.conf.d/15-a.conf", "[vtld]\nmax-vms=none\n");
        assert_int_equal(config_load(&c, at("vtld.conf"), error), -EBADMSG);
        assert_non_null(strstr(error, "/15-a.conf:2: max-vms= is a number"));
        assert_int_equal(unlink(at("vtld.conf.d/15-a.conf")), 0);
        assert_int_equal(mkdir(at("vtld.conf.d/15-a.conf"), 0700), 0);
        assert_int_equal(config_load(&c, at("vtld.conf"), error), -EBADMSG);
        assert_non_null(strstr(error, "/15-a.conf: not a regular file"));
        assert_int_equal(config_load(&c, "/dev/null", error), 0);
        config_done(&c);
}

static void test_help(void **state) {
        char *text = NULL;
        size_t n;
        FILE *f = open_memstream(&text, &n);

        assert_non_null(f);
        config_print_options(f);
        assert_int_equal(fclose(f), 0);
        for (unsigned i = 0; i < _CONFIG_KEY_MAX; i++) {
                char option[64];

                (void) snprintf(option, sizeof(option), "  --%s=", config_name(i));
                assert_non_null(strstr(text, option));
        }
        free(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_every_key),
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_log_levels),
                cmocka_unit_test(test_bad_files),
                cmocka_unit_test(test_sizes),
                cmocka_unit_test(test_command_line_wins),
                cmocka_unit_test(test_policy_source),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_help),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
