/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

#include "daemon/journal.h"
#include "util/log.h"
#include "util/util.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static enum log_target target = LOG_TARGET_CONSOLE;

bool journal_is_stderr(void) {
        const char *text = getenv("JOURNAL_STREAM");
        uint64_t device, inode;
        struct stat st;

        return text && sscanf(text, "%" SCNu64 ":%" SCNu64, &device, &inode) == 2 &&
               fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

static struct iovec field(char *text) {
        return (struct iovec){ .iov_base = text, .iov_len = strlen(text) };
}

static bool send_line(int level, const char *message_id, const struct log_fields *fields,
                      const char *line) {
        char priority[sizeof("PRIORITY=7")], identifier[] = "SYSLOG_IDENTIFIER=vtld";
        char id[sizeof("MESSAGE_ID=") + 32];
        char message[sizeof("MESSAGE=") + LOG_LINE_MAX];
        struct iovec iov[4 + LOG_FIELDS_MAX];
        int n = 0;

        /* Without a journal sd_journal_sendv() succeeds, and the line is lost. */
        if (access(JOURNAL_SOCKET, W_OK) < 0)
                return false;
        (void) snprintf(message, sizeof(message), "MESSAGE=%s", line);
        (void) snprintf(priority, sizeof(priority), "PRIORITY=%d", level & 7);
        iov[n++] = field(message);
        iov[n++] = field(priority);
        iov[n++] = field(identifier);
        if (message_id) {
                (void) snprintf(id, sizeof(id), "MESSAGE_ID=%s", message_id);
                iov[n++] = field(id);
        }
        for (unsigned i = 0; fields && i < fields->n; i++)
                iov[n++] = field((char *) fields->text[i]);
        return sd_journal_sendv(iov, n) >= 0;
}

void log_set_target(enum log_target t) {
        target = t;
        log_set_sink(t == LOG_TARGET_JOURNAL ? send_line : NULL);
}

enum log_target log_get_target(void) {
        return target;
}
