/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "util/seqpacket.h"
#include "util/util.h"

static int make_address(const char *path, struct sockaddr_un *ret) {
        size_t n = strlen(path);

        if (n == 0)
                return -EINVAL;
        if (n >= sizeof(ret->sun_path))
                return -ENAMETOOLONG;
        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        memcpy(ret->sun_path, path, n);
        return 0;
}

static int make_socket(void) {
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        return fd < 0 ? -errno : fd;
}

static int remove_stale(const char *path) {
        struct stat st;
        int fd;

        if (lstat(path, &st) < 0)
                return -errno;
        if (!S_ISSOCK(st.st_mode))
                return -EADDRINUSE;
        fd = seqpacket_connect(path);
        if (fd >= 0) {
                (void) safe_close(fd);
                return -EADDRINUSE;
        }
        if (fd != -ECONNREFUSED)
                return -EADDRINUSE;
        return unlink(path) < 0 ? -errno : 0;
}

int seqpacket_listen(const char *path) {
        _cleanup_close_ int fd = -1;
        struct sockaddr_un sa;
        int r;

        r = make_address(path, &sa);
        if (r < 0)
                return r;
        fd = make_socket();
        if (fd < 0)
                return fd;
        if (bind(fd, (const struct sockaddr *) &sa, sizeof(sa)) < 0) {
                if (errno != EADDRINUSE)
                        return -errno;
                r = remove_stale(path);
                if (r < 0)
                        return r;
                if (bind(fd, (const struct sockaddr *) &sa, sizeof(sa)) < 0)
                        return -errno;
        }
        if (listen(fd, SOMAXCONN) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int seqpacket_connect(const char *path) {
        _cleanup_close_ int fd = -1;
        struct sockaddr_un sa;
        int r;

        r = make_address(path, &sa);
        if (r < 0)
                return r;
        fd = make_socket();
        if (fd < 0)
                return fd;
        if (connect(fd, (const struct sockaddr *) &sa, sizeof(sa)) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int seqpacket_pair(int ret[2]) {
        return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

int seqpacket_send(int fd, const void *buf, size_t len, const int *fds, size_t n_fds, int flags) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(SEQPACKET_FDS_MAX * sizeof(int))];
        } control;
        struct iovec iov = { .iov_base = (void *) buf, .iov_len = len };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        if (n_fds > SEQPACKET_FDS_MAX)
                return -EINVAL;
        if (n_fds > 0) {
                struct cmsghdr *c;

                memset(&control, 0, sizeof(control));
                msg.msg_control = &control;
                msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                c = CMSG_FIRSTHDR(&msg);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
        }
        do
                n = sendmsg(fd, &msg, flags | MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        return (size_t) n == len ? 0 : -EIO;
}

/* Every descriptor in the control data becomes ours before anything else is looked at. */
static size_t take_fds(struct msghdr *msg, int *fds, size_t room, bool *ret_overflow) {
        size_t n = 0;

        *ret_overflow = false;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
                size_t count;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < count; i++) {
                        int one;

                        memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (n < room)
                                fds[n++] = one;
                        else {
                                (void) safe_close(one);
                                *ret_overflow = true;
                        }
                }
        }
        return n;
}

ssize_t seqpacket_recv(int fd, void *buf, size_t len, int *fds, size_t *n_fds, int flags) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(SEQPACKET_FDS_MAX * sizeof(int))];
        } control;
        struct iovec iov = { .iov_base = buf, .iov_len = len };
        struct msghdr msg = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof(control),
        };
        size_t room = *n_fds, got;
        bool overflow;
        ssize_t n;

        *n_fds = 0;
        do
                n = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;

        got = take_fds(&msg, fds, room, &overflow);
        if (overflow || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
                while (got > 0) {
                        got--;
                        fds[got] = safe_close(fds[got]);
                }
                return msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : -EBADF;
        }
        *n_fds = got;
        return n;
}

static long long now_ms(void) {
        return (long long) (monotonic_ns() / 1000000);
}

int seqpacket_wait(int fd, int timeout_ms) {
        long long end = now_ms() + timeout_ms;

        for (;;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                long long left = end - now_ms();
                int r;

                r = poll(&p, 1, left > 0 ? (int) left : 0);
                if (r > 0)
                        return 0;
                if (r == 0)
                        return -ETIMEDOUT;
                if (errno != EINTR)
                        return -errno;
        }
}
