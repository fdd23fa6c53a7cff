/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdio.h>

#include "daemon/libvirt-domain.h"
#include "daemon/libvirt-metadata.h"
#include "daemon/libvirt-pid.h"
#include "daemon/libvirt-watch.h"
#include "util/log.h"
#include "util/text.h"
#include "util/util.h"
#include "util/uuid.h"

/* Between two attempts to connect: doubled each time */
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 60000

/* libvirtd is asked whether it lives, and given up when it does not answer this often. */
#define KEEPALIVE_SECONDS 5
#define KEEPALIVE_COUNT 3

/* Changed domains that wait to be looked at; when there are more, all are looked at. */
#define CHANGED_MAX 256u

struct watch {
        char *uri;
        watch_fn tell;
        void *userdata;
        virConnectPtr connection; /* NULL: not connected */
        int lifecycle;            /* callback ids; -1: not registered */
        int metadata;
        bool close_callback;
        bool closed; /* by libvirt */
        int timer;   /* the next step, out of libvirt's callbacks; -1: none */
        int backoff_ms;
        struct pid_finder *pids;
        uint8_t changed[CHANGED_MAX][16];
        unsigned n_changed;
        bool all_changed;
        struct log_ratelimit domain_limit;
};

/* ---- Telling ---- */

static void tell_state(struct watch *w, enum libvirt_state state, const char *why) {
        struct libvirt_message m = { .type = LIBVIRT_STATE, .state = state };

        (void) snprintf(m.text, sizeof(m.text), "%s", why);
        w->tell(w->userdata, &m);
}

static void tell_gone(struct watch *w, const uint8_t uuid[16]) {
        struct libvirt_message m = { .type = LIBVIRT_GONE };

        memcpy(m.uuid, uuid, sizeof(m.uuid));
        w->tell(w->userdata, &m);
}

/* A text of libvirt's, or of the domain's owner, in a log line */
static void complain(struct watch *w, const char *domain, const char *what) {
        char a[4 * 64], b[4 * 128];

        if (log_ratelimit(&w->domain_limit, 60 * 1000, 10))
                log_warning("libvirt domain %s: %s", log_escape(a, sizeof(a), domain),
                            log_escape(b, sizeof(b), what));
}

/* ---- Domains ---- */

/* A domain that cannot be told is as good as none: nothing is known about it. */
static void tell_domain(struct watch *w, virDomainPtr d) {
        struct libvirt_message m = { .type = LIBVIRT_DOMAIN };
        const char *name = virDomainGetName(d), *why;
        enum domain_state state;

        if (!name || virDomainGetUUID(d, m.uuid) < 0)
                return;
        if (strlen(name) >= sizeof(m.text) || text_check(name, strlen(name)) != TEXT_FINE) {
                complain(w, name, "a name that is not understood here");
                tell_gone(w, m.uuid);
                return;
        }
        memcpy(m.text, name, strlen(name));
        if (domain_get_state(d, &state, &m.run) < 0) {
                tell_gone(w, m.uuid);
                return;
        }
        m.state = state;
        if (domain_get_policy(d, m.policy, &why) < 0)
                complain(w, name, why);
        if (m.state != DOMAIN_INACTIVE)
                m.pid = pid_finder_pid(w->pids, name);
        w->tell(w->userdata, &m);
}

static void tell_by_uuid(struct watch *w, const uint8_t uuid[16]) {
        _cleanup_domain_ virDomainPtr d = virDomainLookupByUUID(w->connection, uuid);

        if (d)
                tell_domain(w, d);
        else if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
                tell_gone(w, uuid);
}

static int tell_all(struct watch *w) {
        virDomainPtr *list = NULL;
        int n = virConnectListAllDomains(w->connection, &list, 0);

        for (int i = 0; i < n; i++) {
                tell_domain(w, list[i]);
                (void) virDomainFree(list[i]);
        }
        free(list);
        return n < 0 ? -EIO : 0;
}

void watch_query(struct watch *w, const uint8_t uuid[16]) {
        if (w->connection)
                tell_by_uuid(w, uuid);
}

/* ---- libvirt's callbacks: they only note what is to be done ---- */

static void step_in(struct watch *w, int ms) {
        if (w->timer >= 0)
                virEventUpdateTimeout(w->timer, ms);
}

static void note_change(struct watch *w, virDomainPtr d) {
        uint8_t uuid[16];

        if (virDomainGetUUID(d, uuid) < 0)
                return;
        for (unsigned i = 0; i < w->n_changed; i++)
                if (memcmp(w->changed[i], uuid, sizeof(uuid)) == 0)
                        return;
        if (w->n_changed < CHANGED_MAX)
                memcpy(w->changed[w->n_changed++], uuid, sizeof(uuid));
        else
                w->all_changed = true;
        step_in(w, 0);
}

static int on_lifecycle(virConnectPtr c, virDomainPtr d, int event, int detail, void *userdata) {
        note_change(userdata, d);
        return 0;
}

static void on_metadata(virConnectPtr c, virDomainPtr d, int type, const char *uri,
                        void *userdata) {
        if (type == VIR_DOMAIN_METADATA_ELEMENT && uri && strcmp(uri, METADATA_URI) == 0)
                note_change(userdata, d);
}

static void on_close(virConnectPtr c, int reason, void *userdata) {
        struct watch *w = userdata;

        w->closed = true;
        step_in(w, 0);
}

/* ---- The connection ---- */

static void disconnect(struct watch *w) {
        if (!w->connection)
                return;
        if (w->lifecycle >= 0)
                (void) virConnectDomainEventDeregisterAny(w->connection, w->lifecycle);
        if (w->metadata >= 0)
                (void) virConnectDomainEventDeregisterAny(w->connection, w->metadata);
        if (w->close_callback)
                (void) virConnectUnregisterCloseCallback(w->connection, on_close);
        (void) virConnectClose(w->connection);
        w->connection = NULL;
        w->lifecycle = w->metadata = -1;
        w->close_callback = w->closed = w->all_changed = false;
        w->n_changed = 0;
}

static int listen_to(struct watch *w) {
        virConnectPtr c = w->connection;

        w->lifecycle =
                virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                                 VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), w, NULL);
        if (w->lifecycle < 0)
                return -EIO;
        w->metadata =
                virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                                                 VIR_DOMAIN_EVENT_CALLBACK(on_metadata), w, NULL);
        if (w->metadata < 0)
                return -EIO;
        /* Drivers without a daemon have neither. */
        w->close_callback = virConnectRegisterCloseCallback(c, on_close, w, NULL) >= 0;
        if (virConnectSetKeepAlive(c, KEEPALIVE_SECONDS, KEEPALIVE_COUNT) != 0)
                log_debug("libvirt (%s): no keep-alive", w->uri);
        return 0;
}

static void fail(struct watch *w) {
        char why[LIBVIRT_NAME_SIZE];

        (void) snprintf(why, sizeof(why), "%s",
                        w->closed ? "the connection was lost" : libvirt_error());
        disconnect(w);
        tell_state(w, LIBVIRT_FAILED, why);
        step_in(w, w->backoff_ms);
        w->backoff_ms = MIN(2 * w->backoff_ms, BACKOFF_MAX_MS);
}

/* Listening comes before listing: what changes in between is told twice, and not missed. */
static void connect_libvirt(struct watch *w) {
        tell_state(w, LIBVIRT_CONNECTING, "");
        w->connection = virConnectOpenReadOnly(w->uri);
        if (!w->connection || listen_to(w) < 0 || tell_all(w) < 0) {
                fail(w);
                return;
        }
        w->backoff_ms = BACKOFF_MIN_MS;
        tell_state(w, LIBVIRT_CONNECTED, "");
}

static void tell_changed(struct watch *w) {
        unsigned n = w->n_changed;
        bool all = w->all_changed;

        w->n_changed = 0;
        w->all_changed = false;
        if (all) {
                /* As after a new connection: what is not told then is no more. */
                tell_state(w, LIBVIRT_CONNECTING, "");
                if (tell_all(w) < 0)
                        fail(w);
                else
                        tell_state(w, LIBVIRT_CONNECTED, "");
                return;
        }
        for (unsigned i = 0; i < n; i++)
                tell_by_uuid(w, w->changed[i]);
}

static void on_timer(int timer, void *userdata) {
        struct watch *w = userdata;

        step_in(w, -1);
        if (!w->connection)
                connect_libvirt(w);
        else if (w->closed || virConnectIsAlive(w->connection) == 0)
                fail(w);
        else
                tell_changed(w);
}

/* ---- Beginning and end ---- */

int watch_new(const char *uri, watch_fn tell, void *userdata, struct watch **ret) {
        struct watch *w;

        w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        w->tell = tell;
        w->userdata = userdata;
        w->lifecycle = w->metadata = -1;
        w->backoff_ms = BACKOFF_MIN_MS;
        libvirt_be_quiet();
        w->uri = strdup(uri);
        w->pids = pid_finder_new(uri);
        w->timer = virEventAddTimeout(0, on_timer, w, NULL);
        if (!w->uri || !w->pids || w->timer < 0) {
                (void) watch_free(w);
                return -ENOMEM;
        }
        *ret = w;
        return 0;
}

struct watch *watch_free(struct watch *w) {
        if (!w)
                return NULL;
        disconnect(w);
        if (w->timer >= 0)
                (void) virEventRemoveTimeout(w->timer);
        (void) pid_finder_free(w->pids);
        free(w->uri);
        free(w);
        return NULL;
}
