/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target for the attach protocol: a VMM sends arbitrary messages with arbitrary descriptors to
 * the state machine of one connection, in arbitrary order. After each one the answer must be
 * well-formed, every descriptor must be either closed or where it belongs, and an accepted VM must
 * keep all rules of vtl-protocol(7).
 *
 * Input: records of struct step, a byte for each descriptor, and the message.
 * tests/fuzz/make-corpus-protocol.py writes the first corpus.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>

#include "daemon/protocol.h"
#include "tests/must.h"
#include "util/util.h"
#include "vtl/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What happens next */
enum {
        STEP_MESSAGE,  /* as it is */
        STEP_FRAMED,   /* command and payload; the header is made right */
        STEP_STARTED,  /* the worker answers START: answer is the errno, 0 for success */
        STEP_BROKEN,   /* receiving failed */
        STEP_ATTACHED, /* ATTACH is answered likewise */
        _STEP_MAX,
};

struct step {
        uint8_t what;    /* modulo _STEP_MAX */
        uint8_t command; /* STEP_FRAMED */
        uint8_t n_fds;
        uint8_t answer; /* of attach() and start(): 0 for yes, else an errno */
        uint16_t len;   /* of the message, or of the payload */
} __attribute__((packed));
_Static_assert(sizeof(struct step) == 6, "the corpus is made of these");

/* A descriptor's byte: 0 is what belongs at its place; the bits make it something else. */
#define FD_OTHER_TYPE 0x07u /* not 0: enum fd_type, modulo */
#define FD_SMALL 0x08u
#define FD_SAME_FILE 0x10u
#define FD_UNSEALED 0x20u
#define FD_READ_ONLY 0x40u
#define FD_WRITE_SEALED 0x80u

#define FDS_MAX 1024

struct fuzz {
        struct protocol protocol;
        int null;
        bool issued[FDS_MAX]; /* handed to the protocol at some time */
        struct fd_facts facts[FDS_MAX];
        uint8_t answer;
        bool attaching; /* attach() said yes, and was not answered */
        bool attached;  /* it was answered with yes, and no detach() since */
        bool started;   /* start() said yes, and was not answered */
        uint64_t next_inode;
};

/* ---- The owner of the connection ---- */

static int op_facts(void *userdata, int fd, struct fd_facts *ret) {
        struct fuzz *f = userdata;

        MUST(fd >= 0 && fd < FDS_MAX && f->issued[fd]);
        *ret = f->facts[fd];
        return 0;
}

static void check_regions(const struct protocol_vm *vm) {
        MUST(vm->n_regions >= 1 && vm->n_regions <= VTL_ATTACH_REGIONS_MAX);
        for (unsigned i = 0; i < vm->n_regions; i++) {
                const struct protocol_region *a = &vm->regions[i];

                MUST(a->size > 0 && a->fd >= 0);
                MUST(((a->gpa | a->size | a->offset) & 4095) == 0);
                MUST(a->gpa + a->size > a->gpa && a->gpa + a->size <= UINT64_C(1) << vm->phys_bits);
                MUST(a->offset + a->size > a->offset && a->offset + a->size <= INT64_MAX);
                for (unsigned j = 0; j < i; j++) {
                        const struct protocol_region *b = &vm->regions[j];

                        MUST(a->gpa + a->size <= b->gpa || b->gpa + b->size <= a->gpa);
                }
        }
}

static void check_vm(const struct fuzz *f, const struct protocol_vm *vm) {
        const struct fd_facts *control = &f->facts[vm->control_fd],
                              *overlay = &f->facts[vm->overlay_fd];

        MUST(vm->vps >= 1 && vm->vps <= VTL_ATTACH_VPS_MAX);
        MUST(vm->phys_bits >= 32 && vm->phys_bits <= 52 && vm->tsc_khz > 0);
        MUST(vm->name[0] && memchr(vm->name, '\0', sizeof(vm->name)));
        for (const char *c = vm->name; *c; c++)
                MUST((unsigned char) *c >= 0x20 && *c != 0x7f);
        for (unsigned i = 0; i < vm->vps; i++)
                for (unsigned j = 0; j < i; j++)
                        MUST(vm->apic_ids[i] != vm->apic_ids[j]);
        MUST(control->type == FD_TYPE_MEMFD && control->size == vtl_control_size(vm->vps));
        MUST(overlay->type == FD_TYPE_MEMFD &&
             overlay->size == vtl_overlay_pages(vm->vps) * UINT64_C(4096));
        check_regions(vm);
        for (unsigned i = 0; i < vm->n_regions; i++) {
                const struct fd_facts *ram = &f->facts[vm->regions[i].fd];

                MUST(ram->type == FD_TYPE_MEMFD && (ram->seals & F_SEAL_SHRINK) && ram->writable &&
                     ram->readable);
                MUST(vm->regions[i].offset + vm->regions[i].size <= ram->size);
                MUST(ram->inode != control->inode && ram->inode != overlay->inode);
                for (unsigned j = 0; j < i; j++) {
                        const struct protocol_region *a = &vm->regions[i], *b = &vm->regions[j];

                        MUST(f->facts[b->fd].inode != ram->inode ||
                             a->offset >= b->offset + b->size || b->offset >= a->offset + a->size);
                }
        }
}

static int op_attach(void *userdata, const struct protocol_vm *vm, const char **ret_why) {
        struct fuzz *f = userdata;

        MUST(!f->attaching && !f->attached && f->protocol.state == PROTOCOL_ATTACHING);
        MUST(vm == &f->protocol.vm);
        check_vm(f, vm);
        if (f->answer)
                return -(int) f->answer;
        f->attaching = true;
        return 0;
}

static int op_start(void *userdata, const struct protocol_vm *vm, const char **ret_why) {
        struct fuzz *f = userdata;

        MUST(f->attached && !f->started);
        for (unsigned i = 0; i < vm->vps; i++)
                MUST(vm->kick_fds[i] >= 0 && f->facts[vm->kick_fds[i]].type == FD_TYPE_FIFO);
        if (f->answer)
                return -(int) f->answer;
        f->started = true;
        return 0;
}

static void op_detach(void *userdata) {
        struct fuzz *f = userdata;

        MUST(f->attached && !f->started);
        f->attached = false;
}

static void op_pause(void *userdata, bool paused) {
        struct fuzz *f = userdata;

        MUST(f->attached && f->protocol.state == (paused ? PROTOCOL_RUNNING : PROTOCOL_PAUSED));
}

static const struct protocol_ops ops = {
        .facts = op_facts,
        .attach = op_attach,
        .start = op_start,
        .detach = op_detach,
        .pause = op_pause,
};

/* ---- Descriptors ---- */

/* The number of VPs that a message with an ATTACH in it is about: then sizes can be right. */
static unsigned vps_of(const uint8_t *message, size_t len) {
        struct vtl_message_attach a;

        if (len < sizeof(struct vtl_message) + sizeof(a))
                return 1;
        memcpy(&a, message + sizeof(struct vtl_message), sizeof(a));
        return a.vps >= 1 && a.vps <= VTL_ATTACH_VPS_MAX ? a.vps : 1;
}

/* What belongs at place @i of @n descriptors */
static struct fd_facts right_facts(unsigned i, unsigned n, unsigned vps) {
        struct fd_facts f = { .readable = true, .writable = true };

        if (n == 1) {
                f.type = FD_TYPE_FIFO;
                f.readable = false;
        } else if (i == 0)
                f.type = FD_TYPE_KVM_VM;
        else {
                f.type = FD_TYPE_MEMFD;
                f.seals = F_SEAL_SHRINK | F_SEAL_GROW;
                f.size = i == 1 ? vtl_control_size(vps)
                       : i == 2 ? vtl_overlay_pages(vps) * UINT64_C(4096)
                                : UINT64_C(1) << 52;
        }
        return f;
}

static int issue_fd(struct fuzz *f, uint8_t how, unsigned i, unsigned n, unsigned vps) {
        struct fd_facts facts = right_facts(i, n, vps);
        int fd = fcntl(f->null, F_DUPFD_CLOEXEC, 0);

        MUST(fd >= 0 && fd < FDS_MAX);
        if (how & FD_OTHER_TYPE)
                facts.type = (enum fd_type)((how & FD_OTHER_TYPE) % _FD_TYPE_MAX);
        if (how & FD_SMALL)
                facts.size = 4096;
        if (how & FD_UNSEALED)
                facts.seals = 0;
        if (how & FD_READ_ONLY) {
                facts.readable = true;
                facts.writable = false;
        }
        if (how & FD_WRITE_SEALED)
                facts.seals |= F_SEAL_WRITE;
        facts.inode = how & FD_SAME_FILE ? 1 : ++f->next_inode;
        f->facts[fd] = facts;
        f->issued[fd] = true;
        return fd;
}

static bool owned(const struct protocol_vm *vm, int fd) {
        if (vm->control_fd == fd || vm->overlay_fd == fd)
                return true;
        for (unsigned i = 0; i < ARRAY_SIZE(vm->regions); i++)
                if (vm->regions[i].fd == fd)
                        return true;
        for (unsigned i = 0; i < ARRAY_SIZE(vm->kick_fds); i++)
                if (vm->kick_fds[i] == fd)
                        return true;
        return false;
}

/* Every descriptor is open exactly when the VM has it; a number may have been issued again
 * meanwhile. */
static void check_fds(struct fuzz *f) {
        for (int fd = 0; fd < FDS_MAX; fd++) {
                if (!f->issued[fd])
                        continue;
                MUST((fcntl(fd, F_GETFD) >= 0) == owned(&f->protocol.vm, fd));
                if (!owned(&f->protocol.vm, fd))
                        f->issued[fd] = false;
        }
}

/* ---- Steps ---- */

static void check_reply(const struct protocol_reply *reply, const struct vtl_message *to) {
        const struct vtl_message *h = &reply->message.header;

        MUST(reply->len >= sizeof(*h) && reply->len <= sizeof(reply->message) &&
             h->size == reply->len);
        MUST((h->flags & VTL_MESSAGE_TYPE_MASK) == VTL_MESSAGE_REPLY);
        MUST(!!(h->flags & VTL_MESSAGE_ERROR) == (h->error != 0));
        MUST(h->error < 4096);
        if (to)
                MUST(h->id == to->id && h->command == to->command);
        if (h->error) {
                MUST(reply->len > sizeof(*h) + 1 && reply->message.bytes[reply->len - 1] == '\0');
                MUST(reply->fd < 0);
        }
}

static void check_state(const struct fuzz *f) {
        const struct protocol *p = &f->protocol;

        MUST(p->state < _PROTOCOL_STATE_MAX);
        MUST(f->attaching == (p->state == PROTOCOL_ATTACHING));
        MUST(f->attached == (p->state >= PROTOCOL_ATTACHED));
        MUST(f->started == (p->state == PROTOCOL_STARTING));
        if (p->state < PROTOCOL_ATTACHING || p->state >= PROTOCOL_RUNNING)
                MUST(p->vm.control_fd < 0 && p->vm.overlay_fd < 0);
}

/* False when the connection would end here */
static bool step_message(struct fuzz *f, const struct step *s, const uint8_t *fd_bytes,
                         const uint8_t *data, size_t len) {
        _Alignas(8) uint8_t message[VTL_MESSAGE_MAX];
        int fds[VTL_MESSAGE_FDS_MAX];
        struct vtl_message header = { 0 };
        struct protocol_reply reply;
        unsigned n_fds = MIN(s->n_fds, (unsigned) VTL_MESSAGE_FDS_MAX);
        bool go_on = true;

        if (s->what % _STEP_MAX == STEP_FRAMED) {
                len = MIN(len, sizeof(message) - sizeof(header));
                header = (struct vtl_message){
                        .id = s->len,
                        .command = s->command,
                        .size = (uint32_t) (sizeof(header) + len),
                };
                memcpy(message, &header, sizeof(header));
                memcpy(message + sizeof(header), data, len);
                len += sizeof(header);
        } else {
                len = MIN(len, sizeof(message));
                memcpy(message, data, len);
                memcpy(&header, data, MIN(len, sizeof(header)));
        }
        for (unsigned i = 0; i < n_fds; i++)
                fds[i] = issue_fd(f, fd_bytes[i], i, n_fds, vps_of(message, len));
        f->answer = s->answer;
        if (f->protocol.state == PROTOCOL_ATTACHING || f->protocol.state == PROTOCOL_STARTING) {
                /* The owner reads no message before these are answered. */
                for (unsigned i = 0; i < n_fds; i++)
                        fds[i] = safe_close(fds[i]);
                return true;
        }
        if (protocol_handle(&f->protocol, message, len, fds, n_fds, &reply) == 0) {
                check_reply(&reply, &header);
                go_on = !reply.close;
                protocol_reply_done(&reply);
        } else
                MUST(f->protocol.state == PROTOCOL_ATTACHING ||
                     f->protocol.state == PROTOCOL_STARTING);
        for (unsigned i = 0; i < n_fds; i++)
                MUST(fds[i] < 0);
        return go_on;
}

static void step_attached(struct fuzz *f, int error) {
        struct protocol_reply reply;

        if (f->protocol.state != PROTOCOL_ATTACHING)
                return;
        f->attaching = false;
        f->attached = !error;
        protocol_attached(&f->protocol, -error, error ? "why" : NULL, &reply);
        check_reply(&reply, NULL);
        MUST(reply.message.header.command == VTL_COMMAND_ATTACH);
        MUST(!error == !reply.message.header.error && reply.fd < 0);
        protocol_reply_done(&reply);
}

static void step_started(struct fuzz *f, int error) {
        const struct vtl_message_started started = { .worker_pid = 1 };
        struct protocol_reply reply;

        if (f->protocol.state != PROTOCOL_STARTING)
                return;
        f->started = false;
        protocol_started(&f->protocol, -error, error ? "why" : NULL, &started,
                         error ? -1 : fcntl(f->null, F_DUPFD, 0), &reply);
        check_reply(&reply, NULL);
        MUST(reply.message.header.command == VTL_COMMAND_START);
        MUST(error || reply.fd >= 0);
        protocol_reply_done(&reply);
}

static void step_broken(struct fuzz *f, int error) {
        struct protocol_reply reply;

        protocol_broken(&f->protocol, error, &reply);
        check_reply(&reply, NULL);
        MUST(reply.close);
        protocol_reply_done(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct fuzz f = { .null = open("/dev/null", O_RDWR | O_CLOEXEC), .next_inode = 1 };
        bool go_on = true;

        MUST(f.null >= 0);
        protocol_init(&f.protocol, &ops, &f);
        while (go_on && size >= sizeof(struct step)) {
                const uint8_t *fd_bytes;
                struct step s;
                size_t n_fds, len;

                memcpy(&s, data, sizeof(s));
                data += sizeof(s);
                size -= sizeof(s);
                n_fds = MIN(s.n_fds, size);
                s.n_fds = (uint8_t) n_fds;
                fd_bytes = data;
                data += n_fds;
                size -= n_fds;
                len = MIN(s.len, size);
                switch (s.what % _STEP_MAX) {
                case STEP_ATTACHED:
                        step_attached(&f, s.answer);
                        break;
                case STEP_STARTED:
                        step_started(&f, s.answer);
                        break;
                case STEP_BROKEN:
                        step_broken(&f, s.answer % 2 ? -EMSGSIZE : -EBADF);
                        go_on = false;
                        break;
                default:
                        go_on = step_message(&f, &s, fd_bytes, data, len);
                        break;
                }
                check_state(&f);
                check_fds(&f);
                data += len;
                size -= len;
        }
        protocol_done(&f.protocol);
        check_fds(&f);
        (void) close(f.null);
        return 0;
}
