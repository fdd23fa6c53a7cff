/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The payload of ATTACH and VP: checked and taken over.
 */

#include "daemon/protocol.h"

typedef int (*protocol_facts_fn)(void *userdata, int fd, struct fd_facts *ret);

void protocol_vm_init(struct protocol_vm *vm);
void protocol_vm_close_fds(struct protocol_vm *vm);
/* Closes the descriptors and forgets the rest. */
void protocol_vm_done(struct protocol_vm *vm);

/* All numbers and texts of ATTACH; no descriptor is touched. 0 or a negative errno with a
 * reason. */
int protocol_vm_parse(struct protocol_vm *vm, const void *payload, size_t len, size_t n_fds,
                      const char **ret_why);

/* The descriptors of ATTACH, 3 + vm->n_regions of them: checked, then moved into @vm (-1 is left
 * behind). */
int protocol_vm_take_fds(struct protocol_vm *vm, int *fds, protocol_facts_fn facts, void *userdata,
                         const char **ret_why);

/* The descriptor of VP. */
int protocol_vm_add_vp(struct protocol_vm *vm, unsigned index, int *fd, protocol_facts_fn facts,
                       void *userdata, const char **ret_why);
