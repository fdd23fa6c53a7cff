/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <systemd/sd-daemon.h>

#include "daemon/activation.h"
#include "daemon/fd-store.h"
#include "util/log.h"
#include "util/util.h"

/* FileDescriptorName= of vtld.socket. "unknown" is what sd_listen_fds_with_names() says for whoever
 * gives no names, "vtld.socket" what a socket unit without that setting says. */
static const char *const attach_names[] = { "attach", "vtld.socket", "unknown" };

static bool is_attach(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(attach_names); i++)
                if (strcmp(name, attach_names[i]) == 0)
                        return true;
        return false;
}

static void free_names(char ***names) {
        for (size_t i = 0; *names && (*names)[i]; i++)
                free((*names)[i]);
        free(*names);
}

static int set_up(int fd) {
        int flags = fcntl(fd, F_GETFL);

        return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int activation_take(int *ret_attach, struct fd_store *store) {
        _cleanup_(free_names) char **names = NULL;
        _cleanup_close_ int attach = -1;
        char text[128];
        int n, r = 0;

        n = sd_listen_fds_with_names(/* unset_environment= */ 1, &names);
        if (n < 0) {
                log_error("cannot take over what the service manager passes: %s", strerror(-n));
                return n;
        }
        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;

                if (fd_store_take(store, names[i], fd) >= 0)
                        continue;
                if (!is_attach(names[i])) {
                        log_warning("closing descriptor \"%s\" of the service manager: not known",
                                    log_escape(text, sizeof(text), names[i]));
                        (void) safe_close(fd);
                } else if (attach >= 0) {
                        log_error("the service manager passes more than one attach socket");
                        (void) safe_close(fd);
                        r = -EEXIST;
                } else {
                        attach = fd;
                }
        }
        if (r >= 0 && attach >= 0)
                r = set_up(attach);
        if (r < 0)
                return r;
        *ret_attach = TAKE_FD(attach);
        return 0;
}
