/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/libvirt-pid.h"
#include "util/util.h"

#define SYSTEM_DIRECTORY "/run/libvirt/qemu"
#define SESSION_DIRECTORY "libvirt/qemu/run" /* below XDG_RUNTIME_DIR */

struct pid_finder {
        char *directory; /* NULL: none */
};

/* "qemu:///system", with a transport and parameters or without */
static bool uri_is(const char *uri, const char *path) {
        static const char *const schemes[] = { "qemu://", "qemu+unix://" };

        for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
                const char *rest = uri + strlen(schemes[i]);

                if (strncmp(uri, schemes[i], strlen(schemes[i])) == 0 &&
                    strncmp(rest, path, strlen(path)) == 0 &&
                    (rest[strlen(path)] == '\0' || rest[strlen(path)] == '?'))
                        return true;
        }
        return false;
}

static int find_directory(const char *uri, char **ret) {
        const char *runtime = getenv("XDG_RUNTIME_DIR");

        if (uri_is(uri, "/system"))
                return asprintf(ret, SYSTEM_DIRECTORY);
        if (uri_is(uri, "/session") && runtime)
                return asprintf(ret, "%s/" SESSION_DIRECTORY, runtime);
        return 0;
}

struct pid_finder *pid_finder_new(const char *uri) {
        struct pid_finder *f = calloc(1, sizeof(*f));

        if (!f)
                return NULL;
        if (find_directory(uri, &f->directory) < 0) {
                f->directory = NULL;
                return pid_finder_free(f);
        }
        return f;
}

struct pid_finder *pid_finder_free(struct pid_finder *f) {
        if (!f)
                return NULL;
        free(f->directory);
        free(f);
        return NULL;
}

static uint32_t parse_pid(const char *text) {
        unsigned long v;
        char *end;

        if (*text < '0' || *text > '9')
                return 0;
        errno = 0;
        v = strtoul(text, &end, 10);
        if (errno || (*end && *end != '\n') || v > INT32_MAX)
                return 0;
        return (uint32_t) v;
}

uint32_t pid_finder_pid(const struct pid_finder *f, const char *domain) {
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;
        char text[32];
        struct stat st;
        ssize_t n;

        /* libvirt allows no '/' in a name; this does not rely on it. */
        if (!f->directory || strchr(domain, '/'))
                return 0;
        if (asprintf(&path, "%s/%s.pid", f->directory, domain) < 0) {
                path = NULL;
                return 0;
        }
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return 0;
        n = read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return 0;
        text[n] = '\0';
        return parse_pid(text);
}
