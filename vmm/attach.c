/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <sys/socket.h>

#include "util/seqpacket.h"
#include "util/util.h"
#include "vmm/attach.h"
#include "vmm/protocol.h"
#include "vtl/control.h"

/* A worker maps the guest's RAM before START is answered, and vtld asks who we are before ATTACH
 * is; everything else is immediate. */
#define REPLY_TIMEOUT_MS 15000

struct attach_client {
        int fd;
        uint16_t last_id;
        uint16_t answered_id; /* those behind it were given up on */
        char error[VTL_ERROR_TEXT_SIZE];
};

static int fail(struct attach_client *c, int r, const char *text) {
        (void) snprintf(c->error, sizeof(c->error), "%s", text);
        return r;
}

/* What vtld says may end up on somebody's terminal. */
static void take_error_text(struct attach_client *c, const char *text, size_t n) {
        size_t o = 0;

        for (; o < n && o + 1 < sizeof(c->error) && text[o]; o++)
                c->error[o] = text[o] >= 0x20 && text[o] < 0x7f ? text[o] : '?';
        c->error[o] = '\0';
}

static int check_reply(struct attach_client *c, const struct vtl_message *h, size_t n,
                       uint16_t command) {
        if (n < sizeof(*h) || h->size != n || h->id != c->last_id || h->command != command ||
            (h->flags & VTL_MESSAGE_TYPE_MASK) != VTL_MESSAGE_REPLY)
                return fail(c, -EPROTO, "vtld's answer is malformed");
        if (!(h->flags & VTL_MESSAGE_ERROR))
                return 0;
        take_error_text(c, (const char *) (h + 1), n - sizeof(*h));
        return h->error > 0 && h->error < 4096 ? -(int) h->error : -EPROTO;
}

static void close_all(int *fds, size_t *n) {
        while (*n > 0)
                (void) safe_close(fds[--*n]);
}

/* The answer to a command that was given up on: vtld was started again meanwhile. */
static bool is_late(const struct attach_client *c, const struct vtl_message *h, size_t n) {
        uint16_t given_up = (uint16_t) (c->last_id - c->answered_id - 1);

        return n >= sizeof(*h) && (uint16_t) (h->id - c->answered_id - 1) < given_up;
}

/* One command and its reply: exactly @reply_len bytes of payload, and a descriptor when @ret_fd is
 * given. */
static int transact(struct attach_client *c, uint16_t command, const void *payload, size_t len,
                    const int *fds, size_t n_fds, void *reply, size_t reply_len, int *ret_fd) {
        union {
                struct vtl_message header;
                uint8_t bytes[VTL_MESSAGE_MAX];
        } m;
        int got[4] = { -1, -1, -1, -1 };
        size_t n_got;
        ssize_t n;
        bool late;
        int r;

        c->error[0] = '\0';
        if (sizeof(m.header) + len > sizeof(m))
                return fail(c, -EMSGSIZE, "the message would be too long");
        m.header = (struct vtl_message){
                .id = ++c->last_id,
                .command = command,
                .size = (uint32_t) (sizeof(m.header) + len),
                .flags = VTL_MESSAGE_COMMAND,
        };
        if (len > 0)
                memcpy(m.bytes + sizeof(m.header), payload, len);
        r = seqpacket_send(c->fd, &m, sizeof(m.header) + len, fds, n_fds, 0);
        if (r < 0)
                return fail(c, r, "cannot send to vtld");
        do {
                r = seqpacket_wait(c->fd, REPLY_TIMEOUT_MS);
                if (r < 0)
                        return fail(c, r, "vtld does not answer");
                n_got = ARRAY_SIZE(got);
                n = seqpacket_recv(c->fd, &m, sizeof(m), got, &n_got, 0);
                if (n < 0)
                        return fail(c, (int) n, "cannot receive from vtld");
                if (n == 0)
                        return fail(c, -ECONNRESET, "vtld closed the connection");
                late = is_late(c, &m.header, (size_t) n);
                if (late)
                        close_all(got, &n_got);
        } while (late);

        c->answered_id = c->last_id;
        r = check_reply(c, &m.header, (size_t) n, command);
        if (r >= 0 && ((size_t) n != sizeof(m.header) + reply_len || n_got != (ret_fd ? 1u : 0u)))
                r = fail(c, -EPROTO, "vtld's answer is malformed");
        if (r < 0) {
                close_all(got, &n_got);
                return r;
        }
        if (reply_len > 0)
                memcpy(reply, m.bytes + sizeof(m.header), reply_len);
        if (ret_fd)
                *ret_fd = got[0];
        return 0;
}

int attach_client_new(int fd, struct attach_client **ret) {
        struct vtl_message_version v = {
                .major = VTL_PROTOCOL_MAJOR,
                .minor = VTL_PROTOCOL_MINOR,
                .control_version = VTL_CONTROL_VERSION,
        };
        struct attach_client *c;
        int r;

        c = calloc(1, sizeof(*c));
        if (!c) {
                (void) safe_close(fd);
                return -ENOMEM;
        }
        c->fd = fd;
        r = transact(c, VTL_COMMAND_VERSION, &v, sizeof(v), NULL, 0, &v, sizeof(v), NULL);
        if (r >= 0 && (v.major != VTL_PROTOCOL_MAJOR || v.control_version != VTL_CONTROL_VERSION))
                r = -EPROTONOSUPPORT;
        if (r < 0) {
                (void) attach_client_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

int attach_client_connect(const char *path, struct attach_client **ret) {
        int fd = seqpacket_connect(path);

        return fd < 0 ? fd : attach_client_new(fd, ret);
}

struct attach_client *attach_client_free(struct attach_client *c) {
        if (!c)
                return NULL;
        (void) safe_close(c->fd);
        free(c);
        return NULL;
}

int attach_client_attach(struct attach_client *c, const struct attach_params *p) {
        union {
                struct vtl_message_attach a;
                uint8_t bytes[VTL_MESSAGE_MAX - sizeof(struct vtl_message)];
        } m;
        int fds[VTL_MESSAGE_FDS_MAX];
        size_t name_len = strlen(p->name);

        if (p->vps == 0 || p->vps > VTL_ATTACH_VPS_MAX)
                return fail(c, -EINVAL, "the number of VPs is out of range");
        if (p->n_regions == 0 || p->n_regions > VTL_ATTACH_REGIONS_MAX)
                return fail(c, -EINVAL, "the number of memory regions is out of range");
        if (name_len >= VTL_ATTACH_NAME_SIZE)
                return fail(c, -ENAMETOOLONG, "the VM's name is too long");

        memset(&m, 0, sizeof(m));
        memcpy(m.a.uuid, p->uuid, sizeof(m.a.uuid));
        memcpy(m.a.name, p->name, name_len);
        m.a.vps = p->vps;
        m.a.n_regions = (uint32_t) p->n_regions;
        m.a.flags = (p->precise_faults ? VTL_ATTACH_PRECISE_FAULTS : 0) |
                    (p->kernel_apic_msrs ? VTL_ATTACH_KERNEL_APIC_MSRS : 0) |
                    (p->kernel_hypercalls ? VTL_ATTACH_KERNEL_HYPERCALLS : 0) |
                    (p->kernel_synic ? VTL_ATTACH_KERNEL_SYNIC : 0);
        m.a.phys_bits = p->phys_bits;
        m.a.tsc_khz = p->tsc_khz;
        memcpy(m.a.apic_ids, p->apic_ids, p->vps * sizeof(m.a.apic_ids[0]));
        fds[0] = p->vm_fd;
        fds[1] = p->control_fd;
        fds[2] = p->overlay_fd;
        for (size_t i = 0; i < p->n_regions; i++) {
                m.a.regions[i] = (struct vtl_message_region){
                        .gpa = p->regions[i].gpa,
                        .size = p->regions[i].size,
                        .offset = p->regions[i].offset,
                };
                fds[3 + i] = p->regions[i].fd;
        }
        return transact(c, VTL_COMMAND_ATTACH, &m,
                        sizeof(m.a) + p->n_regions * sizeof(m.a.regions[0]), fds, 3 + p->n_regions,
                        NULL, 0, NULL);
}

int attach_client_vp(struct attach_client *c, unsigned index, int kick_fd) {
        struct vtl_message_vp vp = { .index = index };

        return transact(c, VTL_COMMAND_VP, &vp, sizeof(vp), &kick_fd, 1, NULL, 0, NULL);
}

int attach_client_start(struct attach_client *c, struct attach_started *ret) {
        struct vtl_message_started s;
        int fd = -1, r;

        r = transact(c, VTL_COMMAND_START, NULL, 0, NULL, 0, &s, sizeof(s), &fd);
        if (r < 0)
                return r;
        *ret = (struct attach_started){
                .link_fd = fd,
                .vtl1_allowed = s.flags & VTL_STARTED_VTL1_ALLOWED,
                .worker_pid = s.worker_pid,
                .reserve_mappings = s.reserve_mappings,
                .vina_poll_us = s.vina_poll_us,
        };
        return 0;
}

static int simple(struct attach_client *c, uint16_t command) {
        return transact(c, command, NULL, 0, NULL, 0, NULL, 0, NULL);
}

int attach_client_detach(struct attach_client *c) {
        return simple(c, VTL_COMMAND_DETACH);
}

int attach_client_pause(struct attach_client *c) {
        return simple(c, VTL_COMMAND_PAUSE);
}

int attach_client_continue(struct attach_client *c) {
        return simple(c, VTL_COMMAND_CONTINUE);
}

int attach_client_fd(const struct attach_client *c) {
        return c->fd;
}

const char *attach_client_error(const struct attach_client *c) {
        return c->error;
}
