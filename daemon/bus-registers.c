/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Partition.GetRegisters, for VMs whose policy says allow-register-read */

#include "daemon/bus-ask.h"
#include "daemon/polkit.h"
#include "daemon/worker-handle.h"
#include "daemon/worker-registers.h"
#include "util/util.h"

static int make_reply(sd_bus_message *m, const struct worker_registers *registers,
                      sd_bus_message **ret) {
        int r;

        r = sd_bus_message_new_method_return(m, ret);
        if (r >= 0)
                r = sd_bus_message_open_container(*ret, 'a', "(stt)");
        for (unsigned i = 0; i < registers->n && r >= 0; i++)
                r = sd_bus_message_append(*ret, "(stt)", vtl_inspect_names[i].text,
                                          registers->values[i].low64, registers->values[i].high64);
        return r < 0 ? r : sd_bus_message_close_container(*ret);
}

static int send_question(struct worker_handle *h, uint64_t token, const struct bus_question *q) {
        return worker_handle_ask_registers(h, token, q->vp, q->vtl);
}

void bus_registers_answered(struct partition *p, const struct worker_registers *registers) {
        const struct bus_question *q = bus_asked(p, registers->token, send_question);
        sd_bus_message *reply = NULL;
        int r;

        if (!q)
                return;
        r = !worker_registers_valid(registers) ? -EBADMSG : registers->error;
        if (r >= 0)
                r = make_reply(q->message, registers, &reply);
        if (r < 0)
                reply = sd_bus_message_unref(reply);
        bus_answer(p, reply, r);
}

static int get_registers(struct bus *bus, sd_bus_message *m, sd_bus_error *error) {
        struct partition *p = bus_partition_of(bus, m);
        struct bus_question q = { .send = send_question };
        int r;

        if (!p)
                return sd_bus_error_set(error, BUS_ERROR_NO_SUCH_PARTITION, "The VM is gone.");
        r = sd_bus_message_read(m, "uu", &q.vp, &q.vtl);
        if (r < 0)
                return r;
        if (!p->decision.allow_register_read)
                return sd_bus_error_setf(
                        error, SD_BUS_ERROR_ACCESS_DENIED,
                        "Policy \"%s\" does not allow to read registers of this VM.",
                        p->decision.name);
        if (q.vp >= p->vps || q.vtl > 1)
                return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                        "There is no such virtual processor, or no such VTL.");
        return bus_ask(p, m, &q, error);
}

int bus_method_get_registers(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct partition *p = userdata;

        return polkit_authorize(p->broker->bus, m, POLKIT_INSPECT, get_registers, error);
}
