/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "daemon/fd-store.h"
#include "util/util.h"

static const char prefix[] = "vm-";

static const char *const part_names[_FD_STORE_PART_MAX] = {
        [FD_STORE_RECORD] = "record", [FD_STORE_CONTROL] = "control",
        [FD_STORE_VMM] = "vmm",       [FD_STORE_VMM_PID] = "vmm-pid",
        [FD_STORE_WORKER] = "worker", [FD_STORE_WORKER_PID] = "worker-pid",
};

/* ---- Names ---- */

void fd_store_name(const char *uuid_text, enum fd_store_part part, char ret[FD_STORE_NAME_SIZE]) {
        (void) snprintf(ret, FD_STORE_NAME_SIZE, "%s%.36s-%s", prefix, uuid_text, part_names[part]);
}

static int find_part(const char *name, enum fd_store_part *ret) {
        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++)
                if (strcmp(name, part_names[i]) == 0) {
                        *ret = (enum fd_store_part) i;
                        return 0;
                }
        return -EINVAL;
}

int fd_store_parse_name(const char *name, uint8_t ret_uuid[16], enum fd_store_part *ret) {
        char text[UUID_TEXT_SIZE], canonical[UUID_TEXT_SIZE];
        uint8_t uuid[16];
        size_t n = strlen(name);

        if (n < sizeof(prefix) - 1 + sizeof(text) || memcmp(name, prefix, sizeof(prefix) - 1) != 0)
                return -EINVAL;
        name += sizeof(prefix) - 1;
        memcpy(text, name, sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        name += sizeof(text) - 1;
        if (uuid_parse(text, uuid) < 0 || uuid_is_nil(uuid) || *name != '-')
                return -EINVAL;
        uuid_format(uuid, canonical);
        if (strcmp(text, canonical) != 0 || find_part(name + 1, ret) < 0)
                return -EINVAL;
        memcpy(ret_uuid, uuid, sizeof(uuid));
        return 0;
}

/* ---- What the service manager hands over ---- */

static struct fd_store_vm *find(struct fd_store *s, const uint8_t uuid[16]) {
        for (size_t i = 0; i < s->n; i++)
                if (memcmp(s->vms[i].uuid, uuid, sizeof(s->vms[i].uuid)) == 0)
                        return &s->vms[i];
        return NULL;
}

static struct fd_store_vm *add(struct fd_store *s, const uint8_t uuid[16]) {
        struct fd_store_vm *vms = realloc(s->vms, (s->n + 1) * sizeof(*vms)), *vm;

        if (!vms)
                return NULL;
        s->vms = vms;
        vm = &vms[s->n++];
        *vm = (struct fd_store_vm){ 0 };
        memcpy(vm->uuid, uuid, sizeof(vm->uuid));
        uuid_format(uuid, vm->uuid_text);
        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++)
                vm->fds[i] = -1;
        return vm;
}

int fd_store_take(struct fd_store *s, const char *name, int fd) {
        enum fd_store_part part;
        struct fd_store_vm *vm;
        uint8_t uuid[16];
        int r;

        r = fd_store_parse_name(name, uuid, &part);
        if (r < 0)
                return r;
        vm = find(s, uuid);
        if (!vm)
                vm = add(s, uuid);
        if (!vm)
                return -ENOMEM;
        if (vm->fds[part] >= 0) {
                vm->twice = true;
                (void) safe_close(fd);
        } else
                vm->fds[part] = fd;
        return 0;
}

void fd_store_vm_close(struct fd_store_vm *vm) {
        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++)
                vm->fds[i] = safe_close(vm->fds[i]);
}

void fd_store_done(struct fd_store *s) {
        for (size_t i = 0; i < s->n; i++)
                fd_store_vm_close(&s->vms[i]);
        free(s->vms);
        *s = (struct fd_store){ 0 };
}

/* ---- What it is given ---- */

static int put(const char *uuid_text, enum fd_store_part part, int fd) {
        char name[FD_STORE_NAME_SIZE], text[FD_STORE_NAME_SIZE + 48];

        fd_store_name(uuid_text, part, name);
        /* Kept also when its other end is gone: the next broker is the one to find that out. */
        (void) snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
        return sd_pid_notify_with_fds(0, /* unset_environment= */ 0, text, &fd, 1);
}

int fd_store_put(const char *uuid_text, const int fds[_FD_STORE_PART_MAX]) {
        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++) {
                int r = put(uuid_text, (enum fd_store_part) i, fds[i]);

                if (r > 0)
                        continue;
                if (i > 0)
                        fd_store_remove(uuid_text);
                return r;
        }
        return 1;
}

void fd_store_remove(const char *uuid_text) {
        char name[FD_STORE_NAME_SIZE];

        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++) {
                fd_store_name(uuid_text, (enum fd_store_part) i, name);
                (void) sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
        }
}
