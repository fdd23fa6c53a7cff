/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bus-internal.h"
#include "daemon/messages.h"
#include "daemon/polkit.h"
#include "util/util.h"

/* Questions that wait for an answer, of all and of one user: each holds a message. */
#define REQUESTS_MAX 64u
#define REQUESTS_PER_UID_MAX 8u

/* With a person at the other end */
#define INTERACTIVE_TIMEOUT_USEC (UINT64_C(120) * 1000 * 1000)

#define POLKIT_ALLOW_INTERACTION 0x1u

static const char *const action_names[_POLKIT_ACTION_MAX] = {
        [POLKIT_INSPECT] = "org.vtld1.inspect",
        [POLKIT_LOAD_POLICY] = "org.vtld1.load-policy",
        [POLKIT_DETACH] = "org.vtld1.detach",
};

const char *polkit_action_to_string(enum polkit_action action) {
        return action_names[action];
}

struct polkit_request {
        LIST_ENTRY(polkit_request) list;
        struct bus *bus;
        sd_bus_message *message;
        sd_bus_slot *slot;
        enum polkit_action action;
        polkit_then then;
        uid_t uid;
};

static struct polkit_request *request_free(struct polkit_request *q) {
        if (!q)
                return NULL;
        LIST_REMOVE(q, list);
        (void) sd_bus_slot_unref(q->slot);
        (void) sd_bus_message_unref(q->message);
        free(q);
        return NULL;
}

void polkit_cancel(struct bus *bus) {
        while (!LIST_EMPTY(&bus->requests))
                (void) request_free(LIST_FIRST(&bus->requests));
}

/* ---- The answer ---- */

static int deny(const struct polkit_request *q, const char *why, sd_bus_error *error) {
        struct log_fields f = { 0 };

        if (log_ratelimit(&q->bus->denied_limit, 1000, 10)) {
                log_field(&f, "VTLD_ACTION", "%s", action_names[q->action]);
                log_field(&f, "VTLD_UID", "%u", q->uid);
                log_event(LOG_NOTICE, MESSAGE_UNAUTHORIZED, &f, "user %u may not %s: %s", q->uid,
                          action_names[q->action], why);
        }
        return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED, "%s is not allowed: %s.",
                                 action_names[q->action], why);
}

/* 1: the sender may; otherwise a negative errno, and @error is set */
static int read_answer(const struct polkit_request *q, sd_bus_message *answer,
                       sd_bus_error *error) {
        const sd_bus_error *failure = sd_bus_message_get_error(answer);
        char text[256];
        int authorized, challenge, r;

        if (failure) {
                if (sd_bus_error_has_name(failure, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
                    sd_bus_error_has_name(failure, SD_BUS_ERROR_NAME_HAS_NO_OWNER))
                        return deny(q, "there is no polkit to ask", error);
                return deny(q,
                            log_escape(text, sizeof(text),
                                       failure->message ? failure->message : failure->name),
                            error);
        }
        r = sd_bus_message_enter_container(answer, 'r', "bba{ss}");
        if (r >= 0)
                r = sd_bus_message_read(answer, "bb", &authorized, &challenge);
        if (r < 0)
                return deny(q, "polkit's answer is not understood", error);
        if (authorized)
                return 1;
        if (challenge)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                                         "%s needs interactive authentication.",
                                         action_names[q->action]);
        return deny(q, "polkit refuses", error);
}

static int on_answer(sd_bus_message *answer, void *userdata, sd_bus_error *ret_error) {
        struct polkit_request *q = userdata;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = read_answer(q, answer, &error);
        if (r > 0)
                r = q->then(q->bus, q->message, &error);
        if (r < 0 || sd_bus_error_is_set(&error))
                (void) sd_bus_reply_method_errno(q->message, r, &error);
        sd_bus_error_free(&error);
        (void) request_free(q);
        return 1;
}

/* ---- The question ---- */

static int sender_uid(sd_bus_message *m, uid_t *ret) {
        sd_bus_creds *creds = NULL;
        int r;

        /* What the bus says, not what /proc says of a PID that may be somebody else's by now */
        r = sd_bus_query_sender_creds(m, SD_BUS_CREDS_EUID, &creds);
        if (r >= 0)
                r = sd_bus_creds_get_euid(creds, ret);
        (void) sd_bus_creds_unref(creds);
        return r;
}

static bool has_room(struct bus *bus, uid_t uid) {
        unsigned all = 0, same = 0;
        struct polkit_request *q;

        LIST_FOREACH(q, &bus->requests, list) {
                all++;
                same += q->uid == uid;
        }
        return all < REQUESTS_MAX && same < REQUESTS_PER_UID_MAX;
}

static int ask(struct polkit_request *q, const char *sender) {
        bool interactive = sd_bus_message_get_allow_interactive_authorization(q->message) > 0;
        sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(q->bus->bus, &m, "org.freedesktop.PolicyKit1",
                                           "/org/freedesktop/PolicyKit1/Authority",
                                           "org.freedesktop.PolicyKit1.Authority",
                                           "CheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sa{sv})sa{ss}us", "system-bus-name", 1, "name", "s",
                                          sender, action_names[q->action], 0,
                                          interactive ? POLKIT_ALLOW_INTERACTION : 0, "");
        if (r >= 0)
                r = sd_bus_call_async(q->bus->bus, &q->slot, m, on_answer, q,
                                      interactive ? INTERACTIVE_TIMEOUT_USEC : 0);
        (void) sd_bus_message_unref(m);
        return r;
}

int polkit_authorize(struct bus *bus, sd_bus_message *m, enum polkit_action action,
                     polkit_then then, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(m);
        struct polkit_request *q;
        uid_t uid;
        int r;

        r = sender ? sender_uid(m, &uid) : -ENODATA;
        if (r < 0)
                return r;
        if (uid == 0)
                return then(bus, m, error);
        if (!has_room(bus, uid))
                return sd_bus_error_set(error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                        "Too many requests wait for authorization.");
        q = calloc(1, sizeof(*q));
        if (!q)
                return -ENOMEM;
        q->bus = bus;
        q->message = sd_bus_message_ref(m);
        q->action = action;
        q->then = then;
        q->uid = uid;
        LIST_INSERT_HEAD(&bus->requests, q, list);
        r = ask(q, sender);
        if (r < 0) {
                (void) request_free(q);
                return r;
        }
        return 1;
}
