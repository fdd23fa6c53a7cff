/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A main() for fuzz targets in builds without libFuzzer: runs the target once on each file named on
 * the command line and on each file of each directory named there, and says so in TAP. A finding
 * ends the process, as it does under libFuzzer.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "util/util.h"

#define REPLAY_MAX (16u << 20) /* no corpus file comes near it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void cleanup_closedirp(DIR **d) {
        if (*d)
                closedir(*d);
}

static int read_all(int fd, uint8_t *buf, size_t size) {
        while (size > 0) {
                ssize_t n = read(fd, buf, size);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        return -EIO;
                if (n > 0) {
                        buf += n;
                        size -= n;
                }
        }
        return 0;
}

static int replay_file(int dir_fd, const char *name) {
        _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
        _cleanup_free_ uint8_t *data = NULL;
        struct stat st;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_size > REPLAY_MAX)
                return -EINVAL;
        /* Exactly as large as the input, so that sanitizers see a read beyond it */
        data = malloc(st.st_size);
        if (!data && st.st_size > 0)
                return -ENOMEM;
        r = read_all(fd, data, st.st_size);
        if (r < 0)
                return r;

        /* Before the run: when it is the last line, it names the culprit. */
        printf("# %s, %llu bytes\n", name, (unsigned long long) st.st_size);
        fflush(stdout);
        (void) LLVMFuzzerTestOneInput(data, st.st_size);
        return 0;
}

static int replay_directory(const char *path, unsigned int *n) {
        _cleanup_(cleanup_closedirp) DIR *d = opendir(path);
        const struct dirent *e;
        int r;

        if (!d)
                return -errno;
        while ((e = readdir(d))) {
                if (e->d_name[0] == '.')
                        continue;
                r = replay_file(dirfd(d), e->d_name);
                if (r < 0) {
                        printf("# %s: %s\n", e->d_name, strerror(-r));
                        return r;
                }
                ++*n;
        }
        return 0;
}

static int replay(const char *path, unsigned int *n) {
        struct stat st;
        int r;

        if (stat(path, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return replay_directory(path, n);
        r = replay_file(AT_FDCWD, path);
        *n += r == 0;
        return r;
}

int main(int argc, char **argv) {
        unsigned int n = 0;
        bool ok = true;

        for (int i = 1; i < argc; i++) {
                int r = replay(argv[i], &n);

                if (r < 0) {
                        printf("# %s: %s\n", argv[i], strerror(-r));
                        ok = false;
                }
        }
        /* An empty corpus is a mistake of the build, not a success. */
        ok = ok && n > 0;
        printf("1..1\n%sok 1 - %u inputs replayed\n", ok ? "" : "not ", n);
        return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
