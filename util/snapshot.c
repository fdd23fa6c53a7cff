/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "snapshot.h"
#include "util.h"

/* No kernel has fewer than 100 ticks a second. */
#define TICK_NSEC_MAX 10000000

/* What tells one content of a path from another: the inode's change time cannot be set at will. */
struct seen {
        char *path;
        bool exists;
        dev_t device;
        ino_t inode;
        off_t size;
        struct timespec modified;
        struct timespec changed;
        bool fresh; /* a change after this one may bear the same time */
};

struct snapshot {
        struct seen *seen;
        size_t n;
};

struct snapshot *snapshot_new(void) {
        return calloc(1, sizeof(struct snapshot));
}

struct snapshot *snapshot_free(struct snapshot *s) {
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->n; i++)
                free(s->seen[i].path);
        free(s->seen);
        free(s);
        return NULL;
}

static bool same_time(struct timespec a, struct timespec b) {
        return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static int64_t nanoseconds(struct timespec t) {
        return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Inodes are stamped with the time of the last tick. A stamp of the future, which a clock that was
 * set back leaves, says nothing. */
static bool is_fresh(struct timespec changed) {
        struct timespec now;
        int64_t age;

        (void) clock_gettime(CLOCK_REALTIME_COARSE, &now);
        age = nanoseconds(now) - nanoseconds(changed);
        return age <= 0 && age > -TICK_NSEC_MAX;
}

static struct seen describe(const struct stat *st) {
        if (!st)
                return (struct seen){ .exists = false };
        return (struct seen){ .exists = true,
                              .device = st->st_dev,
                              .inode = st->st_ino,
                              .size = st->st_size,
                              .modified = st->st_mtim,
                              .changed = st->st_ctim,
                              .fresh = is_fresh(st->st_ctim) };
}

/* @st is NULL for what is not there. */
static int remember(struct snapshot *s, const char *path, const struct stat *st) {
        struct seen *seen = reallocarray(s->seen, s->n + 1, sizeof(*seen));

        if (!seen)
                return -ENOMEM;
        s->seen = seen;
        seen[s->n] = describe(st);
        seen[s->n].path = strdup(path);
        if (!seen[s->n].path)
                return -ENOMEM;
        s->n++;
        return 0;
}

bool snapshot_is_current(const struct snapshot *s) {
        for (size_t i = 0; i < s->n; i++) {
                const struct seen *then = &s->seen[i];
                struct stat st;
                struct seen now;

                if (then->fresh)
                        return false;
                if (stat(then->path, &st) < 0) {
                        if (errno != ENOENT || then->exists)
                                return false;
                        continue;
                }
                now = describe(&st);
                if (!then->exists || now.device != then->device || now.inode != then->inode ||
                    now.size != then->size || !same_time(now.modified, then->modified) ||
                    !same_time(now.changed, then->changed))
                        return false;
        }
        return true;
}

/* ---- Files ---- */

static int read_all(int fd, size_t max, char **ret, size_t *ret_len) {
        /* One byte more than there may be, to see whether there is one, and one for the NUL. */
        _cleanup_free_ char *buf = malloc(max + 2);
        size_t len = 0;

        if (!buf)
                return -ENOMEM;
        while (len < max + 1) {
                ssize_t n = read(fd, buf + len, max + 1 - len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                len += (size_t) n;
        }
        if (len > max)
                return -EFBIG;
        buf[len] = '\0';
        *ret = TAKE_PTR(buf);
        *ret_len = len;
        return 0;
}

static bool is_null_device(const struct stat *st) {
        return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

int snapshot_read(struct snapshot *s, const char *path, size_t max, char **ret, size_t *ret_len) {
        _cleanup_close_ int fd = -1;
        struct stat st;
        int r;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0) {
                r = -errno;
                if (r == -ENOENT && remember(s, path, NULL) < 0)
                        return -ENOMEM;
                return r;
        }
        if (fstat(fd, &st) < 0)
                return -errno;
        r = remember(s, path, &st);
        if (r < 0)
                return r;
        if (is_null_device(&st)) {
                *ret = calloc(1, 1);
                *ret_len = 0;
                return *ret ? SNAPSHOT_NULL_DEVICE : -ENOMEM;
        }
        if (!S_ISREG(st.st_mode))
                return -EBADF;
        return read_all(fd, max, ret, ret_len);
}

/* ---- Directories ---- */

static void cleanup_closedirp(DIR **d) {
        if (*d)
                (void) closedir(*d);
}

void dropins_free(struct dropin *d, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(d[i].name);
                free(d[i].path);
        }
        free(d);
}

struct list {
        struct dropin *dropins;
        size_t n;
        size_t max;
};

static void cleanup_list(struct list *l) {
        dropins_free(l->dropins, l->n);
}

static bool is_candidate(const char *name, const char *suffix) {
        size_t n = strlen(name), s = strlen(suffix);

        return name[0] != '.' && n > s && strcmp(name + n - s, suffix) == 0;
}

static bool is_listed(const struct list *l, const char *name) {
        for (size_t i = 0; i < l->n; i++)
                if (strcmp(l->dropins[i].name, name) == 0)
                        return true;
        return false;
}

static int add_dropin(struct list *l, const char *directory, const char *name) {
        struct dropin *d, new;

        if (is_listed(l, name))
                return 0;
        if (l->n >= l->max)
                return -E2BIG;
        d = reallocarray(l->dropins, l->n + 1, sizeof(*d));
        if (!d)
                return -ENOMEM;
        l->dropins = d;
        new.name = strdup(name);
        if (!new.name || asprintf(&new.path, "%s/%s", directory, name) < 0) {
                free(new.name);
                return -ENOMEM;
        }
        d[l->n++] = new;
        return 0;
}

static int list_directory(struct snapshot *s, struct list *l, const char *directory,
                          const char *suffix) {
        _cleanup_(cleanup_closedirp) DIR *d = opendir(directory);
        const struct dirent *e;
        struct stat st;
        int r;

        if (!d && errno == ENOENT)
                return remember(s, directory, NULL);
        if (!d || fstat(dirfd(d), &st) < 0)
                return -errno;
        r = remember(s, directory, &st);
        while (r >= 0) {
                errno = 0;
                e = readdir(d);
                if (!e)
                        return errno ? -errno : 0;
                if (is_candidate(e->d_name, suffix))
                        r = add_dropin(l, directory, e->d_name);
        }
        return r;
}

static int compare_dropins(const void *a, const void *b) {
        return strcmp(((const struct dropin *) a)->name, ((const struct dropin *) b)->name);
}

int snapshot_dropins(struct snapshot *s, const char *const *directories, const char *suffix,
                     size_t max, struct dropin **ret, size_t *ret_n, const char **ret_where) {
        _cleanup_(cleanup_list) struct list l = { .max = max };

        for (; *directories; directories++) {
                int r = list_directory(s, &l, *directories, suffix);

                if (r < 0) {
                        *ret_where = *directories;
                        return r;
                }
        }
        if (l.n > 0)
                qsort(l.dropins, l.n, sizeof(*l.dropins), compare_dropins);
        *ret_n = l.n;
        *ret = TAKE_PTR(l.dropins);
        l.n = 0;
        return 0;
}
