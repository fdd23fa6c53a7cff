/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target for what vtld-libvirt tells the broker: arbitrary messages in arbitrary order. After
 * each one the table must hold what may be shown on the bus and given to policy, and a message that
 * was refused must have changed nothing.
 *
 * Input: records of struct step and the beginning of the message; the rest of it is zero.
 * tests/fuzz/make-corpus-libvirt.py writes the first corpus.
 */

#include "daemon/domains.h"
#include "tests/must.h"
#include "util/text.h"
#include "util/util.h"
#include "util/uuid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
        STEP_MESSAGE, /* of the right size */
        STEP_CUT,     /* of the size that is there */
        STEP_LOST,    /* the helper ends; the data are the reason */
        _STEP_MAX,
};

struct step {
        uint8_t what; /* modulo _STEP_MAX */
        uint8_t zero;
        uint16_t len;
} __attribute__((packed));
_Static_assert(sizeof(struct step) == 4, "the corpus is made of these");

struct fuzz {
        struct domains domains;
        unsigned told;
};

static void on_state(void *userdata) {
        struct fuzz *f = userdata;

        MUST(f->domains.state < _LIBVIRT_STATE_MAX && f->domains.state != LIBVIRT_OFF);
        f->told++;
}

static void on_domain(void *userdata, const uint8_t uuid[16], const struct domain *d) {
        struct fuzz *f = userdata;

        MUST(domains_find(&f->domains, uuid) == d);
        MUST(!d || memcmp(d->uuid, uuid, 16) == 0);
        f->told++;
}

static const struct domains_ops ops = { .state = on_state, .domain = on_domain };

static void check_domain(const struct domains *t, const struct domain *d) {
        MUST(!uuid_is_nil(d->uuid));
        MUST(memchr(d->name, '\0', sizeof(d->name)) && d->name[0]);
        MUST(text_check(d->name, strlen(d->name)) == TEXT_FINE);
        MUST(memchr(d->policy, '\0', sizeof(d->policy)));
        MUST(!d->policy[0] || libvirt_policy_valid(d->policy));
        MUST(d->state < _DOMAIN_STATE_MAX && (d->state == DOMAIN_INACTIVE) == (d->run == 0));
        MUST(d->pid >= 0 && (d->pid == 0 || d->run != 0));
        MUST(d->pid == 0 || domains_find_pid(t, d->pid)->pid == d->pid);
}

static void check(const struct domains *t) {
        const struct domain *d, *next;

        MUST(memchr(t->reason, '\0', sizeof(t->reason)));
        for (const char *c = t->reason; *c; c++)
                MUST(*c >= 0x20 && *c < 0x7f);
        MUST(HASH_COUNT(t->table) <= DOMAINS_MAX);
        HASH_ITER(hh, t->table, d, next)
                check_domain(t, d);
        MUST(!domains_find_pid(t, 0));
}

static void step_message(struct fuzz *f, const uint8_t *data, size_t len, size_t size) {
        uint8_t message[sizeof(struct libvirt_message)] = { 0 };
        /* Exactly as large as the message, so that sanitizers see a read beyond it */
        _cleanup_free_ uint8_t *copy = malloc(size ? size : 1);
        const unsigned told = f->told, n = HASH_COUNT(f->domains.table);
        int r;

        MUST(copy);
        memcpy(message, data, MIN(len, sizeof(message)));
        memcpy(copy, size > sizeof(message) ? data : message, size);
        r = domains_message(&f->domains, copy, size, &ops, f);
        MUST(r == 0 || r == -EBADMSG || r == -ENOSPC);
        MUST(r < 0 || f->told > told);
        MUST(r == 0 || (f->told == told && HASH_COUNT(f->domains.table) == n));
        MUST(size == sizeof(message) || r == -EBADMSG);
}

static void step_lost(struct fuzz *f, const uint8_t *data, size_t len) {
        char reason[300];
        size_t n = MIN(len, sizeof(reason) - 1);

        memcpy(reason, data, n);
        reason[n] = '\0';
        domains_lost(&f->domains, reason);
        MUST(f->domains.state == LIBVIRT_FAILED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct fuzz f = { 0 };

        while (size >= sizeof(struct step)) {
                struct step s;
                size_t len;

                memcpy(&s, data, sizeof(s));
                data += sizeof(s);
                size -= sizeof(s);
                len = MIN(s.len, size);
                switch (s.what % _STEP_MAX) {
                case STEP_MESSAGE:
                        step_message(&f, data, len, sizeof(struct libvirt_message));
                        break;
                case STEP_CUT:
                        step_message(&f, data, len, len);
                        break;
                default:
                        step_lost(&f, data, len);
                        break;
                }
                check(&f.domains);
                data += len;
                size -= len;
        }
        domains_done(&f.domains);
        return 0;
}
