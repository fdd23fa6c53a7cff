/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/domains.h"
#include "util/log.h"
#include "util/text.h"
#include "util/util.h"
#include "util/uuid.h"

struct change {
        struct domains *domains;
        const struct libvirt_message *message;
        const struct domains_ops *ops;
        void *userdata;
};

static bool ends(const char *s, size_t size) {
        return memchr(s, '\0', size) != NULL;
}

static struct domain *find(const struct domains *t, const uint8_t uuid[16]) {
        struct domain *d;

        HASH_FIND(hh, t->table, uuid, sizeof(d->uuid), d);
        return d;
}

static void remove_domain(struct domains *t, struct domain *d) {
        HASH_DELETE(hh, t->table, d);
        free(d);
}

/* ---- What the helper says ---- */

/* A new connection has told all there is: what it has not told is no more. */
static void drop_untold(struct change *c) {
        struct domains *t = c->domains;
        struct domain *d, *next;

        HASH_ITER(hh, t->table, d, next)
                if (d->generation != t->generation) {
                        uint8_t uuid[16];

                        memcpy(uuid, d->uuid, sizeof(uuid));
                        remove_domain(t, d);
                        c->ops->domain(c->userdata, uuid, NULL);
                }
}

static int take_state(struct change *c) {
        struct domains *t = c->domains;
        enum libvirt_state before = t->state, now;

        if (c->message->state == LIBVIRT_OFF || c->message->state >= _LIBVIRT_STATE_MAX)
                return -EBADMSG;
        now = (enum libvirt_state) c->message->state;
        /* It has all domains of this connection when it says so, and says it once. */
        if (now == LIBVIRT_CONNECTED && before != LIBVIRT_CONNECTING)
                return -EBADMSG;
        if (now == LIBVIRT_CONNECTING && before != LIBVIRT_CONNECTING)
                t->generation++;
        t->state = now;
        t->reason[0] = '\0';
        if (now == LIBVIRT_FAILED)
                (void) log_escape(t->reason, sizeof(t->reason), c->message->text);
        if (now == LIBVIRT_CONNECTED)
                drop_untold(c);
        c->ops->state(c->userdata);
        return 0;
}

/* Domains are told of by a connection. */
static bool connection_talks(const struct domains *t) {
        return t->state == LIBVIRT_CONNECTING || t->state == LIBVIRT_CONNECTED;
}

static int check_domain(const struct libvirt_message *m) {
        size_t n = strlen(m->text);

        if (m->state >= _DOMAIN_STATE_MAX || uuid_is_nil(m->uuid))
                return -EBADMSG;
        if ((m->state == DOMAIN_INACTIVE) != (m->run == 0))
                return -EBADMSG;
        if (m->pid > INT32_MAX || (m->pid && m->state == DOMAIN_INACTIVE))
                return -EBADMSG;
        if (n == 0 || text_check(m->text, n) != TEXT_FINE)
                return -EBADMSG;
        if (m->policy[0] && !libvirt_policy_valid(m->policy))
                return -EBADMSG;
        return 0;
}

static int take_domain(struct change *c) {
        const struct libvirt_message *m = c->message;
        struct domains *t = c->domains;
        struct domain *d;
        int r;

        if (!connection_talks(t))
                return -EBADMSG;
        r = check_domain(m);
        if (r < 0)
                return r;
        d = find(t, m->uuid);
        if (!d) {
                if (HASH_COUNT(t->table) >= DOMAINS_MAX)
                        return -ENOSPC;
                d = calloc(1, sizeof(*d));
                if (!d)
                        return -ENOMEM;
                memcpy(d->uuid, m->uuid, sizeof(d->uuid));
                HASH_ADD(hh, t->table, uuid, sizeof(d->uuid), d);
        }
        memcpy(d->name, m->text, strlen(m->text) + 1);
        memcpy(d->policy, m->policy, strlen(m->policy) + 1);
        d->state = (enum domain_state) m->state;
        d->run = m->run;
        d->pid = (pid_t) m->pid;
        d->generation = t->generation;
        c->ops->domain(c->userdata, m->uuid, d);
        return 0;
}

static int take_gone(struct change *c) {
        struct domain *d;

        if (!connection_talks(c->domains))
                return -EBADMSG;
        d = find(c->domains, c->message->uuid);
        if (d)
                remove_domain(c->domains, d);
        c->ops->domain(c->userdata, c->message->uuid, NULL);
        return 0;
}

/* Indexed by message type; NULL: not for the helper to say */
static int (*const takers[_LIBVIRT_MESSAGE_MAX])(struct change *c) = {
        [LIBVIRT_STATE] = take_state,
        [LIBVIRT_DOMAIN] = take_domain,
        [LIBVIRT_GONE] = take_gone,
};

int domains_message(struct domains *t, const void *msg, size_t len, const struct domains_ops *ops,
                    void *userdata) {
        struct libvirt_message m;
        struct change c = { .domains = t, .message = &m, .ops = ops, .userdata = userdata };

        if (len != sizeof(m))
                return -EBADMSG;
        memcpy(&m, msg, sizeof(m));
        if (m.type >= _LIBVIRT_MESSAGE_MAX || !takers[m.type])
                return -EBADMSG;
        if (!ends(m.text, sizeof(m.text)) || !ends(m.policy, sizeof(m.policy)))
                return -EBADMSG;
        return takers[m.type](&c);
}

void domains_lost(struct domains *t, const char *reason) {
        t->state = LIBVIRT_FAILED;
        (void) log_escape(t->reason, sizeof(t->reason), reason);
}

/* ---- Looking ---- */

const struct domain *domains_find(const struct domains *t, const uint8_t uuid[16]) {
        return find(t, uuid);
}

const struct domain *domains_find_pid(const struct domains *t, pid_t pid) {
        struct domain *d, *next;

        HASH_ITER(hh, t->table, d, next)
                if (d->pid && d->pid == pid)
                        return d;
        return NULL;
}

void domains_done(struct domains *t) {
        struct domain *d, *next;

        HASH_ITER(hh, t->table, d, next)
                remove_domain(t, d);
}
