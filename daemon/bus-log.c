/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bus-internal.h"
#include "daemon/journal.h"
#include "util/util.h"

/* org.freedesktop.LogControl1(5): what `systemctl service-log-level` and `service-log-target`
 * speak. Root only: properties that are set need privilege unless it is said otherwise. */

static int set_level(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *value, void *userdata, sd_bus_error *error) {
        const char *name;
        int r;

        r = sd_bus_message_read(value, "s", &name);
        if (r < 0)
                return r;
        r = log_level_from_string(name);
        if (r < 0)
                return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                        "The level is err, warning, notice, info or debug.");
        log_set_max_level(r);
        log_info("the log level is \"%s\" now", name);
        return 0;
}

static const struct {
        const char *name;
        enum log_target target;
} targets[] = {
        { "console", LOG_TARGET_CONSOLE },
        { "journal", LOG_TARGET_JOURNAL },
};

static const char *target_name(void) {
        for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
                if (targets[i].target == log_get_target())
                        return targets[i].name;
        return "console";
}

static int set_target(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *value, void *userdata, sd_bus_error *error) {
        const char *name;
        int r;

        r = sd_bus_message_read(value, "s", &name);
        if (r < 0)
                return r;
        if (strcmp(name, "auto") == 0) {
                log_set_target(journal_is_stderr() ? LOG_TARGET_JOURNAL : LOG_TARGET_CONSOLE);
                return 0;
        }
        for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
                if (strcmp(name, targets[i].name) == 0) {
                        log_set_target(targets[i].target);
                        return 0;
                }
        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                "The target is auto, console or journal.");
}

BUS_GETTER_STRING(get_level, struct bus, o ? log_level_to_string(log_get_max_level()) : NULL)
BUS_GETTER_STRING(get_target, struct bus, o ? target_name() : NULL)
BUS_GETTER_STRING(get_identifier, struct bus, o ? "vtld" : NULL)

static const sd_bus_vtable log_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_level, set_level, 0, 0),
        SD_BUS_WRITABLE_PROPERTY("LogTarget", "s", get_target, set_target, 0, 0),
        SD_BUS_PROPERTY("SyslogIdentifier", "s", get_identifier, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

int bus_register_log_control(struct bus *bus) {
        return sd_bus_add_object_vtable(bus->bus, NULL, "/org/freedesktop/LogControl1",
                                        "org.freedesktop.LogControl1", log_vtable, bus);
}
