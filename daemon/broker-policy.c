/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "daemon/broker.h"
#include "daemon/bus.h"
#include "daemon/config.h"
#include "daemon/messages.h"
#include "policy/policy-rules.h"
#include "util/util.h"

static void on_reading(const char *path, void *userdata) {
        char escaped[256];

        log_debug("reading policy %s", log_escape(escaped, sizeof(escaped), path));
}

/* A file whose signature says nothing here is worth a word: somebody expects that it does. */
static void log_files(const struct policy *p) {
        char path[256];

        for (size_t i = 0; i < policy_files(p); i++) {
                const struct policy_file *f = &p->files[i];

                (void) log_escape(path, sizeof(path), f->path);
                if (f->state == POLICY_FILE_UNKNOWN_KEY)
                        log_warning(
                                "policy %s: signed with the key %s, which is not known here: taken as unsigned",
                                path, f->key_id);
                else
                        log_debug("policy %s: %s%s%s%s", path,
                                  string_table_name(&policy_file_state_table, f->state),
                                  f->key_id[0] ? " with the key " : "", f->key_id,
                                  f->mask ? "; it only hides others" : "");
        }
}

static void log_policy(const struct broker *b) {
        struct log_fields f = { 0 };

        if (!b->policy) {
                log_field(&f, "VTLD_POLICY_FILE", "%s", b->config->policy);
                log_event(LOG_NOTICE, MESSAGE_POLICY_NONE, &f,
                          "there is no policy file %s%s: every VM may enable VTL1",
                          b->config->policy,
                          config_is_given(b->config, CONFIG_POLICY) ? "" : " and no drop-in");
        } else if (policy_files(b->policy) == 0)
                log_warning(
                        "signatures are required, and there is no policy file: no VM may enable VTL1");
        else
                log_event(
                        LOG_INFO, MESSAGE_POLICY_LOADED, NULL,
                        "policy: %zu rules of %zu files, signatures are %s",
                        policy_rules(b->policy), policy_files(b->policy),
                        string_table_name(&policy_signatures_table, b->config->policy_signatures));
}

static void take(struct broker *b, struct policy *policy) {
        (void) policy_free(b->policy);
        b->policy = policy;
        b->policy_generation++;
        b->policy_error[0] = '\0';
        log_files(policy);
        log_policy(b);
}

/* Fail closed. Without required signatures a file with an error is the administrator's own, who
 * sees at once that vtld does not start; with them it may be anybody's, and must not keep guests
 * from running without VTL1. */
static int begin_without(struct broker *b, int r) {
        if (b->config->policy_signatures != POLICY_SIGNATURES_REQUIRED)
                return r;
        b->policy = policy_new_unusable();
        if (!b->policy)
                return -ENOMEM;
        log_error(
                "there is no policy that can be trusted: no VM may enable VTL1 until one is loaded");
        return 0;
}

int broker_read_policy(struct broker *b) {
        bool first = b->policy_generation == 0 && !b->policy;
        char error[POLICY_ERROR_SIZE] = "";
        struct config_policy where;
        struct policy *policy = NULL;
        int r;

        r = config_policy_source(b->config, &where);
        if (r >= 0) {
                where.source.reading = on_reading;
                r = policy_load(&where.source, &policy, error);
                config_policy_done(&where);
        }
        if (r >= 0)
                take(b, policy);
        else {
                (void) snprintf(b->policy_error, sizeof(b->policy_error), "%s",
                                error[0] ? error : strerror(-r));
                log_event(LOG_ERR, MESSAGE_POLICY_BAD, NULL, "%s", b->policy_error);
                if (first)
                        r = begin_without(b, r);
                else
                        log_error("the policy stays as it was");
        }
        bus_policy_changed(b);
        return r;
}
