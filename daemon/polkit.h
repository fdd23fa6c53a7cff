/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * May the caller of a method do that? polkit is asked for whoever is not root. The broker does not
 * wait for the answer: a person may have to type a password first.
 */

#include <systemd/sd-bus.h>

struct bus;

/* data/org.vtld1.policy has them all. */
enum polkit_action {
        POLKIT_INSPECT,     /* see more of a VM than everybody may */
        POLKIT_LOAD_POLICY, /* read or replace the policy */
        POLKIT_DETACH,      /* take a VM's trust levels away, or stop it */
        _POLKIT_ACTION_MAX,
};

/* polkit's name of an action */
const char *polkit_action_to_string(enum polkit_action action);

/* What a method does once its caller may. Time has passed: the object that it was called on may be
 * gone, so it is looked up by the message's path, here. Return: as from a method handler. */
typedef int (*polkit_then)(struct bus *bus, sd_bus_message *m, sd_bus_error *error);

struct polkit_request;

/**
 * polkit_authorize() - do @then, now or later, if the sender of @m may do @action
 *
 * To be the last thing that a method handler does: its result is the handler's. Without polkit
 * nobody but root may do anything.
 */
int polkit_authorize(struct bus *bus, sd_bus_message *m, enum polkit_action action,
                     polkit_then then, sd_bus_error *error);

/* Forgets all questions that have not been answered. */
void polkit_cancel(struct bus *bus);
