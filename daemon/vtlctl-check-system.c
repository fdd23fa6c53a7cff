/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon/bus-open.h"
#include "daemon/config.h"
#include "daemon/vtlctl-check.h"
#include "policy/policy-rules.h"
#include "util/util.h"

#define SERVICE_USER "vtld"

/* ---- The kernel's part ---- */

void check_seccomp(const struct check_context *x, struct check_answer *a) {
        _cleanup_free_ char *actions = check_read(x, "/proc/sys/kernel/seccomp/actions_avail");

        if (actions && strstr(actions, "kill_process"))
                check_say(a, CHECK_PASS, "workers can be confined");
        else
                check_say(a, CHECK_FAIL, "the kernel has none: workers refuse to start without");
        check_advise(a, "Use a kernel with CONFIG_SECCOMP_FILTER.");
}

void check_memfd(const struct check_context *x, struct check_answer *a) {
        _cleanup_close_ int fd = memfd_create("vtlctl", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
                check_say(a, CHECK_PASS, "guest memory can be shared with a worker");
        else
                check_say(a, CHECK_FAIL, "cannot be made: %s", strerror(errno));
        check_advise(a, "Use a kernel with CONFIG_MEMFD_CREATE.");
}

/* ---- What is installed ---- */

void check_user(const struct check_context *x, struct check_answer *a) {
        _cleanup_free_ char *passwd = check_read(x, "/etc/passwd");

        if (passwd && (strncmp(passwd, SERVICE_USER ":", strlen(SERVICE_USER) + 1) == 0 ||
                       strstr(passwd, "\n" SERVICE_USER ":")))
                check_say(a, CHECK_PASS, SERVICE_USER);
        else
                check_say(a, CHECK_WARN,
                          "there is no user " SERVICE_USER ": vtld.service cannot be started");
        check_advise(a, "systemd-sysusers makes it from sysusers.d/vtld.conf.");
}

void check_bus_policy(const struct check_context *x, struct check_answer *a) {
        static const char *const files[] = {
                "/etc/dbus-1/system.d/org.vtld1.conf",
                "/usr/share/dbus-1/system.d/org.vtld1.conf",
                "/usr/local/share/dbus-1/system.d/org.vtld1.conf",
        };

        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                if (check_exists(x, files[i])) {
                        check_say(a, CHECK_PASS, "%s", files[i]);
                        return;
                }
        check_say(a, CHECK_WARN,
                  "org.vtld1.conf is not installed: the system bus lets nobody be org.vtld1");
        check_advise(a, "Install it in /usr/share/dbus-1/system.d, then: systemctl reload dbus.");
}

/* ---- What is configured ---- */

void check_config(const struct check_context *x, struct check_answer *a) {
        if (x->config)
                check_say(a, CHECK_PASS, "can be read");
        else
                check_say(a, CHECK_FAIL, "%.400s", x->config_error);
        check_advise(a, "See vtld.conf(5).");
}

static int load_policy(const struct check_context *x, struct policy **ret, char *error) {
        struct config_policy where;
        int r = config_policy_source(x->config, &where);

        if (r < 0)
                return r;
        r = policy_load(&where.source, ret, error);
        config_policy_done(&where);
        return r;
}

void check_policy(const struct check_context *x, struct check_answer *a) {
        char error[POLICY_ERROR_SIZE] = "";
        struct policy *p = NULL;
        int r;

        if (!x->config) {
                check_say(a, CHECK_FAIL, "not known without vtld.conf");
                return;
        }
        r = load_policy(x, &p, error);
        if (r < 0) {
                check_say(a, CHECK_FAIL, "%.400s", error[0] ? error : strerror(-r));
                check_advise(a, "vtlctl policy check names every error; see vtl-policy(5).");
        } else if (!p) {
                check_say(a, CHECK_WARN, "there is none: every VM may enable VTL1");
                check_advise(a,
                             "Write one, beginning with policy.conf.example; see vtl-policy(5).");
        } else
                check_say(a, CHECK_PASS, "%zu rules of %zu files", policy_rules(p),
                          policy_files(p));
        (void) policy_free(p);
}

void check_signatures(const struct check_context *x, struct check_answer *a) {
        char error[POLICY_ERROR_SIZE] = "";
        size_t unsigned_files = 0, files;
        struct policy *p = NULL;
        bool required;
        int r;

        if (!x->config) {
                check_say(a, CHECK_FAIL, "not known without vtld.conf");
                return;
        }
        required = x->config->policy_signatures == POLICY_SIGNATURES_REQUIRED;
        r = load_policy(x, &p, error);
        files = policy_files(p);
        for (size_t i = 0; i < files; i++)
                unsigned_files += p->files[i].state != POLICY_FILE_SIGNED;
        check_advise(a,
                     "vtlctl policy sign makes signatures, %s holds the trusted keys, and "
                     "policy-signatures=required in vtld.conf makes them a must.",
                     x->config->keys_directory);
        if (r < 0)
                check_say(a, required ? CHECK_FAIL : CHECK_WARN,
                          "not known: the policy cannot be read");
        else if (required)
                check_say(a, CHECK_PASS, "required, and genuine");
        else if (files == 0)
                check_say(a, CHECK_PASS, "optional, and there is nothing to sign");
        else if (unsigned_files > 0)
                check_say(a, CHECK_WARN,
                          "optional, and %zu of %zu files have none by a trusted key",
                          unsigned_files, files);
        else
                check_say(a, CHECK_PASS, "optional, and all files are signed");
        (void) policy_free(p);
}

/* ---- What runs ---- */

void check_service(const struct check_context *x, struct check_answer *a) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        char *version = NULL, *policy_error = NULL;
        sd_bus *bus = NULL;
        int r;

        r = bus_open(x->c->address, &bus);
        if (r < 0) {
                check_say(a, CHECK_FAIL, "the bus \"%.200s\" cannot be reached: %s", x->c->address,
                          strerror(-r));
                check_advise(a, "vtld needs D-Bus: systemctl start dbus.");
                return;
        }
        r = sd_bus_get_property_string(bus, VTLD_BUS_NAME, VTLD_BUS_ROOT, VTLD_BUS_NAME ".Manager",
                                       "Version", &error, &version);
        if (r >= 0)
                r = sd_bus_get_property_string(bus, VTLD_BUS_NAME, VTLD_BUS_ROOT,
                                               VTLD_BUS_NAME ".Manager", "PolicyError", &error,
                                               &policy_error);
        if (r < 0) {
                check_say(a, CHECK_WARN, "vtld does not answer: %.300s",
                          error.message ? error.message : strerror(-r));
                check_advise(
                        a,
                        "systemctl enable --now vtld; journalctl -u vtld tells why when that fails.");
        } else if (*policy_error) {
                check_say(a, CHECK_FAIL, "vtld %.32s runs, but could not read its policy: %.300s",
                          version, policy_error);
                check_advise(a, "Correct it, then: systemctl reload vtld.");
        } else if (strcmp(version, VTLD_VERSION) != 0) {
                check_say(a, CHECK_WARN, "vtld %.32s runs; this is vtlctl " VTLD_VERSION, version);
                check_advise(a, "systemctl restart vtld, when its VMs may be stopped.");
        } else
                check_say(a, CHECK_PASS, "vtld %.32s runs", version);
        free(version);
        free(policy_error);
        sd_bus_error_free(&error);
        (void) sd_bus_flush_close_unref(bus);
}

void check_socket(const struct check_context *x, struct check_answer *a) {
        const char *path = x->config ? x->config->socket_path : NULL;
        const struct group *group;
        struct stat st;

        if (!path) {
                check_say(a, CHECK_FAIL, "not known without vtld.conf");
                return;
        }
        if (stat(path, &st) < 0) {
                check_say(a, CHECK_WARN, "%.300s: %s", path, strerror(errno));
                check_advise(a, "It is there while vtld runs.");
                return;
        }
        if (S_ISSOCK(st.st_mode) && access(path, R_OK | W_OK) == 0) {
                check_say(a, CHECK_PASS, "%.400s", path);
                return;
        }
        if (!S_ISSOCK(st.st_mode)) {
                check_say(a, CHECK_FAIL, "%.400s is no socket", path);
                return;
        }
        group = getgrgid(st.st_gid);
        check_say(a, CHECK_WARN, "VMMs of this user may not use %.400s", path);
        check_advise(a, "Add the user to group %.64s: usermod -a -G %.64s USER.",
                     group ? group->gr_name : "?", group ? group->gr_name : "?");
}

/* ---- What else is on this host ---- */

static bool has_libvirt(const struct check_context *x) {
        return check_exists(x, "/run/libvirt/libvirt-sock") ||
               check_exists(x, "/run/libvirt/virtqemud-sock");
}

void check_libvirt(const struct check_context *x, struct check_answer *a) {
        if (has_libvirt(x))
                check_say(a, CHECK_PASS, "runs");
        else
                check_say(a, CHECK_PASS, "does not run, and is not needed");
}

static bool file_mentions(const struct check_context *x, const char *path, const char *what) {
        _cleanup_free_ char *text = check_read(x, path);

        return text && strstr(text, what);
}

/* Whether libvirt's profile of QEMU names the socket */
static bool profile_allows(const struct check_context *x) {
        static const char directory[] = "/etc/apparmor.d/abstractions/libvirt-qemu.d";
        const char *socket = x->config ? x->config->socket_path : "vtld";
        char full[PATH_MAX], path[PATH_MAX];
        bool found = file_mentions(x, "/etc/apparmor.d/abstractions/libvirt-qemu", socket) ||
                     file_mentions(x, "/etc/apparmor.d/local/abstractions/libvirt-qemu", socket);
        const struct dirent *e;
        DIR *d;

        check_path(x, directory, full);
        d = opendir(full);
        while (!found && d && (e = readdir(d)))
                if (e->d_name[0] != '.') {
                        (void) snprintf(path, sizeof(path), "%s/%s", directory, e->d_name);
                        found = file_mentions(x, path, socket);
                }
        if (d)
                (void) closedir(d);
        return found;
}

void check_mac(const struct check_context *x, struct check_answer *a) {
        _cleanup_free_ char *apparmor = check_read(x, "/sys/module/apparmor/parameters/enabled"),
                            *selinux = check_read(x, "/sys/fs/selinux/enforce");

        if (selinux && selinux[0] == '1') {
                check_say(a, CHECK_WARN,
                          "SELinux enforces, and vtld comes without a module for it");
                check_advise(a, "ausearch -m avc -c vtld shows what it denies.");
                return;
        }
        if (!apparmor || apparmor[0] != 'Y') {
                check_say(a, CHECK_PASS, "neither confines anything here");
                return;
        }
        if (!check_exists(x, "/etc/apparmor.d/abstractions/libvirt-qemu") || profile_allows(x)) {
                check_say(a, CHECK_PASS, "AppArmor does not keep QEMU from the attach socket");
                return;
        }
        check_say(a, CHECK_WARN,
                  "AppArmor: libvirt's profile of QEMU does not allow the attach socket");
        check_advise(
                a,
                "Add the line \"%.200s rw,\" to /etc/apparmor.d/local/abstractions/libvirt-qemu.",
                x->config ? x->config->socket_path : "/run/vtld/attach.sock");
}
