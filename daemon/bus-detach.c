/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Partition.Detach */

#include "daemon/bus-internal.h"
#include "daemon/connection.h"
#include "daemon/polkit.h"

static int detach(struct bus *bus, sd_bus_message *m, sd_bus_error *error) {
        struct partition *p = bus_partition_of(bus, m);
        int r;

        if (!p)
                return sd_bus_error_set(error, BUS_ERROR_NO_SUCH_PARTITION, "The VM is gone.");
        r = sd_bus_reply_method_return(m, NULL);
        if (r < 0)
                return r;
        connection_detach(p->connection, "asked for on the bus");
        return 1;
}

int bus_method_detach(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct partition *p = userdata;

        return polkit_authorize(p->broker->bus, m, POLKIT_DETACH, detach, error);
}
