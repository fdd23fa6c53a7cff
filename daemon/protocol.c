/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <stdio.h>

#include "daemon/protocol-vm.h"
#include "daemon/protocol.h"
#include "util/util.h"
#include "vtl/control.h"

#define IN(state) (1u << PROTOCOL_##state)

/* A message on its way through the table. */
struct request {
        const struct vtl_message *header;
        const void *payload;
        size_t len; /* of the payload */
        int *fds;   /* a handler that keeps one puts -1 in its place */
        size_t n_fds;
        const char *why;
        struct protocol_reply *reply;
};

struct command {
        const char *name;
        uint32_t min_len; /* of the payload */
        uint32_t max_len;
        unsigned min_fds;
        unsigned max_fds;
        unsigned states;                                      /* IN(...): where it is allowed */
        int (*handle)(struct protocol *p, struct request *q); /* NULL: not offered */
};

static int handle_version(struct protocol *p, struct request *q);
static int handle_attach(struct protocol *p, struct request *q);
static int handle_vp(struct protocol *p, struct request *q);
static int handle_start(struct protocol *p, struct request *q);
static int handle_detach(struct protocol *p, struct request *q);
static int handle_pause(struct protocol *p, struct request *q);
static int handle_continue(struct protocol *p, struct request *q);

#define ANY_SIZE 0, VTL_MESSAGE_MAX
#define ANY_FDS 0, VTL_MESSAGE_FDS_MAX
#define SERVED (IN(RUNNING) | IN(PAUSED))
#define ATTACH_SIZE(regions) \
        (sizeof(struct vtl_message_attach) + (regions) * sizeof(struct vtl_message_region))

static const struct command commands[_VTL_COMMAND_MAX] = {
        /* name, payload size from, to, descriptors from, to, states, handler */
        [VTL_COMMAND_VERSION] = { "VERSION", sizeof(struct vtl_message_version),
                                  sizeof(struct vtl_message_version), 0, 0, IN(NEW),
                                  handle_version },
        [VTL_COMMAND_ATTACH] = { "ATTACH", ATTACH_SIZE(0), ATTACH_SIZE(VTL_ATTACH_REGIONS_MAX), 0,
                                 VTL_MESSAGE_FDS_MAX, IN(GREETED), handle_attach },
        [VTL_COMMAND_VP] = { "VP", sizeof(struct vtl_message_vp), sizeof(struct vtl_message_vp), 1,
                             1, IN(ATTACHED), handle_vp },
        [VTL_COMMAND_START] = { "START", 0, 0, 0, 0, IN(ATTACHED), handle_start },
        [VTL_COMMAND_DETACH] = { "DETACH", 0, 0, 0, 0, IN(ATTACHED) | SERVED, handle_detach },
        [VTL_COMMAND_PAUSE] = { "PAUSE", 0, 0, 0, 0, IN(RUNNING), handle_pause },
        [VTL_COMMAND_CONTINUE] = { "CONTINUE", 0, 0, 0, 0, IN(PAUSED), handle_continue },
        [VTL_COMMAND_SAVE] = { "SAVE", ANY_SIZE, ANY_FDS, 0, NULL },
        [VTL_COMMAND_RESTORE] = { "RESTORE", ANY_SIZE, ANY_FDS, 0, NULL },
        [VTL_COMMAND_RESET] = { "RESET", ANY_SIZE, ANY_FDS, 0, NULL },
        [VTL_COMMAND_ADD_MEMORY] = { "ADD_MEMORY", ANY_SIZE, ANY_FDS, 0, NULL },
};

static uint64_t offered_commands(void) {
        uint64_t bits = 0;

        for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
                if (commands[i].handle)
                        bits |= UINT64_C(1) << i;
        return bits;
}

void protocol_init(struct protocol *p, const struct protocol_ops *ops, void *userdata) {
        *p = (struct protocol){ .state = PROTOCOL_NEW, .ops = ops, .userdata = userdata };
        protocol_vm_init(&p->vm);
}

void protocol_init_running(struct protocol *p, const struct protocol_ops *ops, void *userdata,
                           bool paused) {
        protocol_init(p, ops, userdata);
        p->state = paused ? PROTOCOL_PAUSED : PROTOCOL_RUNNING;
}

void protocol_done(struct protocol *p) {
        protocol_vm_done(&p->vm);
}

void protocol_reply_done(struct protocol_reply *reply) {
        reply->fd = safe_close(reply->fd);
}

/* ---- Replies ---- */

static void reply_init(struct protocol_reply *reply, const struct vtl_message *to) {
        memset(reply, 0, sizeof(*reply));
        reply->message.header = (struct vtl_message){
                .id = to->id,
                .command = to->command,
                .size = sizeof(struct vtl_message),
                .flags = VTL_MESSAGE_REPLY,
        };
        reply->len = sizeof(struct vtl_message);
        reply->fd = -1;
}

static void reply_payload(struct protocol_reply *reply, const void *payload, size_t len) {
        memcpy(reply->message.bytes + sizeof(struct vtl_message), payload, len);
        reply->len = sizeof(struct vtl_message) + len;
        reply->message.header.size = (uint32_t) reply->len;
}

static void reply_error(struct protocol_reply *reply, int error, const char *why) {
        char text[VTL_ERROR_TEXT_SIZE];

        (void) snprintf(text, sizeof(text), "%s", why ? why : strerror(-error));
        reply_payload(reply, text, strlen(text) + 1);
        reply->message.header.flags |= VTL_MESSAGE_ERROR;
        reply->message.header.error = (uint32_t) -error;
}

static int refuse(struct request *q, int error, const char *why) {
        q->why = why;
        return error;
}

/* ---- Commands ---- */

static int handle_version(struct protocol *p, struct request *q) {
        struct vtl_message_version v;

        memcpy(&v, q->payload, sizeof(v));
        if (v.major != VTL_PROTOCOL_MAJOR)
                return refuse(q, -EPROTONOSUPPORT,
                              "this vtld speaks major version 1 of the attach protocol");
        if (v.control_version != VTL_CONTROL_VERSION)
                return refuse(q, -EPROTONOSUPPORT,
                              "libvtlvmm and vtld are not of one version (control memory)");
        if (v.commands || v.max_vps || v.max_regions || v.max_message || v.reserved)
                return refuse(q, -EINVAL, "a reserved field of VERSION is not zero");

        v = (struct vtl_message_version){
                .major = VTL_PROTOCOL_MAJOR,
                .minor = MIN(v.minor, (uint16_t) VTL_PROTOCOL_MINOR),
                .control_version = VTL_CONTROL_VERSION,
                .commands = offered_commands(),
                .max_vps = VTL_ATTACH_VPS_MAX,
                .max_regions = VTL_ATTACH_REGIONS_MAX,
                .max_message = VTL_MESSAGE_MAX,
        };
        reply_payload(q->reply, &v, sizeof(v));
        p->state = PROTOCOL_GREETED;
        return 0;
}

static int handle_attach(struct protocol *p, struct request *q) {
        struct protocol_vm vm;
        int r;

        protocol_vm_init(&vm);
        r = protocol_vm_parse(&vm, q->payload, q->len, q->n_fds, &q->why);
        if (r >= 0)
                r = protocol_vm_take_fds(&vm, q->fds, p->ops->facts, p->userdata, &q->why);
        if (r < 0) {
                protocol_vm_done(&vm);
                return r;
        }
        p->vm = vm;
        p->pending = *q->header;
        p->state = PROTOCOL_ATTACHING;
        r = p->ops->attach(p->userdata, &p->vm, &q->why);
        if (r < 0) {
                protocol_vm_done(&p->vm);
                p->state = PROTOCOL_GREETED;
                return r;
        }
        return 1;
}

static int handle_vp(struct protocol *p, struct request *q) {
        struct vtl_message_vp vp;

        memcpy(&vp, q->payload, sizeof(vp));
        if (vp.reserved)
                return refuse(q, -EINVAL, "a reserved field of VP is not zero");
        return protocol_vm_add_vp(&p->vm, vp.index, &q->fds[0], p->ops->facts, p->userdata,
                                  &q->why);
}

static int handle_start(struct protocol *p, struct request *q) {
        int r;

        for (unsigned i = 0; i < p->vm.vps; i++)
                if (p->vm.kick_fds[i] < 0)
                        return refuse(q, -EINVAL, "not every VP of the VM has been added");
        p->pending = *q->header;
        p->state = PROTOCOL_STARTING;
        r = p->ops->start(p->userdata, &p->vm, &q->why);
        if (r < 0) {
                p->state = PROTOCOL_ATTACHED;
                return r;
        }
        return 1;
}

static int handle_detach(struct protocol *p, struct request *q) {
        p->ops->detach(p->userdata);
        protocol_vm_done(&p->vm);
        p->state = PROTOCOL_GREETED;
        return 0;
}

static int handle_pause(struct protocol *p, struct request *q) {
        p->ops->pause(p->userdata, true);
        p->state = PROTOCOL_PAUSED;
        return 0;
}

static int handle_continue(struct protocol *p, struct request *q) {
        p->ops->pause(p->userdata, false);
        p->state = PROTOCOL_RUNNING;
        return 0;
}

/* ---- The engine ---- */

static int check_state(const struct protocol *p, const struct command *c, struct request *q) {
        static const char *const needs[_PROTOCOL_STATE_MAX] = {
                [PROTOCOL_NEW] = "VERSION must come first",
                [PROTOCOL_GREETED] = "no VM is attached",
                [PROTOCOL_ATTACHING] = "ATTACH has not been answered yet",
                [PROTOCOL_ATTACHED] = "not for a VM that has not been started",
                [PROTOCOL_STARTING] = "START has not been answered yet",
                [PROTOCOL_RUNNING] = "not for a VM that runs",
                [PROTOCOL_PAUSED] = "not for a VM that is paused",
        };

        if (c->states & (1u << p->state))
                return 0;
        if (c->states == IN(NEW))
                return refuse(q, -EBADFD, "the version has been agreed on already");
        return refuse(q, -EBADFD, needs[p->state]);
}

/* In this order: is it known, offered, of the right size, with the right number of descriptors, and
 * is it its time. */
static int dispatch(struct protocol *p, struct request *q) {
        const struct command *c;
        int r;

        if (q->header->command == 0 || q->header->command >= _VTL_COMMAND_MAX)
                return refuse(q, -ENOSYS, "unknown command");
        c = &commands[q->header->command];
        if (p->state == PROTOCOL_NEW && q->header->command != VTL_COMMAND_VERSION)
                return check_state(p, c, q);
        if (!c->handle)
                return refuse(q, -EOPNOTSUPP, "not offered by this version of vtld");
        if (q->len < c->min_len || q->len > c->max_len)
                return refuse(q, -EMSGSIZE, "the size of the message is not that of its command");
        if (q->n_fds < c->min_fds || q->n_fds > c->max_fds)
                return refuse(q, -EBADF, "the number of descriptors is not that of the command");
        r = check_state(p, c, q);
        if (r < 0)
                return r;
        return c->handle(p, q);
}

static int check_frame(const void *msg, size_t len, const char **ret_why) {
        struct vtl_message h;

        if (len < sizeof(h)) {
                *ret_why = "the message is shorter than a header";
                return -EPROTO;
        }
        memcpy(&h, msg, sizeof(h));
        if (h.size != len) {
                *ret_why = "the size in the header is not that of the message";
                return -EPROTO;
        }
        if (h.flags != VTL_MESSAGE_COMMAND || h.error) {
                *ret_why = "the message is no command: flags and error must be zero";
                return -EPROTO;
        }
        return 0;
}

void protocol_broken(struct protocol *p, int error, struct protocol_reply *reply) {
        static const struct vtl_message none;
        const char *why = NULL;

        if (error == -EMSGSIZE)
                why = "the message is longer than any command";
        else if (error == -EBADF)
                why = "more descriptors came than any command has, or than could be received";
        reply_init(reply, &none);
        reply_error(reply, error, why);
        reply->close = true;
}

int protocol_handle(struct protocol *p, const void *msg, size_t len, int *fds, size_t n_fds,
                    struct protocol_reply *reply) {
        struct vtl_message header = { 0 };
        struct request q = { .header = &header, .fds = fds, .n_fds = n_fds, .reply = reply };
        int r;

        memcpy(&header, msg, MIN(len, sizeof(header)));
        reply_init(reply, &header);
        r = check_frame(msg, len, &q.why);
        if (r < 0)
                reply->close = true;
        else {
                q.payload = (const uint8_t *) msg + sizeof(header);
                q.len = len - sizeof(header);
                r = dispatch(p, &q);
        }
        for (size_t i = 0; i < n_fds; i++)
                fds[i] = safe_close(fds[i]);
        if (r < 0)
                reply_error(reply, r, q.why);
        return r > 0 ? 1 : 0;
}

void protocol_attached(struct protocol *p, int error, const char *why,
                       struct protocol_reply *reply) {
        reply_init(reply, &p->pending);
        if (error < 0) {
                protocol_vm_done(&p->vm);
                p->state = PROTOCOL_GREETED;
                reply_error(reply, error, why);
                return;
        }
        p->state = PROTOCOL_ATTACHED;
}

void protocol_started(struct protocol *p, int error, const char *why,
                      const struct vtl_message_started *started, int link_fd,
                      struct protocol_reply *reply) {
        reply_init(reply, &p->pending);
        if (error < 0) {
                p->state = PROTOCOL_ATTACHED;
                reply_error(reply, error, why);
                return;
        }
        p->state = PROTOCOL_RUNNING;
        reply_payload(reply, started, sizeof(*started));
        reply->fd = link_fd;
        protocol_vm_close_fds(&p->vm);
}
