/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>

#include "daemon/protocol-vm.h"
#include "util/text.h"
#include "util/util.h"
#include "vtl/control.h"

#define PAGE_BYTES 4096u
#define PHYS_BITS_MIN 32u
#define PHYS_BITS_MAX 52u

_Static_assert(VTL_ATTACH_VPS_MAX == VTL_MAX_VPS, "the protocol's limit is the engine's");

/* Order of the descriptors of ATTACH */
enum {
        ATTACH_FD_VM,
        ATTACH_FD_CONTROL,
        ATTACH_FD_OVERLAY,
        ATTACH_FD_RAM, /* from here on, one per region */
};

static int refuse(const char **ret_why, int error, const char *why) {
        *ret_why = why;
        return error;
}

void protocol_vm_init(struct protocol_vm *vm) {
        memset(vm, 0, sizeof(*vm));
        vm->control_fd = -1;
        vm->overlay_fd = -1;
        for (unsigned i = 0; i < ARRAY_SIZE(vm->regions); i++)
                vm->regions[i].fd = -1;
        for (unsigned i = 0; i < ARRAY_SIZE(vm->kick_fds); i++)
                vm->kick_fds[i] = -1;
}

void protocol_vm_close_fds(struct protocol_vm *vm) {
        vm->control_fd = safe_close(vm->control_fd);
        vm->overlay_fd = safe_close(vm->overlay_fd);
        for (unsigned i = 0; i < ARRAY_SIZE(vm->regions); i++)
                vm->regions[i].fd = safe_close(vm->regions[i].fd);
        for (unsigned i = 0; i < ARRAY_SIZE(vm->kick_fds); i++)
                vm->kick_fds[i] = safe_close(vm->kick_fds[i]);
}

void protocol_vm_done(struct protocol_vm *vm) {
        protocol_vm_close_fds(vm);
        protocol_vm_init(vm);
}

/* ---- Numbers and texts ---- */

/* The name goes into logs, onto the bus and onto terminals: valid UTF-8, no control characters. */
static int parse_name(struct protocol_vm *vm, const char *name, const char **ret_why) {
        size_t n = strnlen(name, VTL_ATTACH_NAME_SIZE);

        if (n == 0)
                return refuse(ret_why, -EINVAL, "the VM has no name");
        if (n == VTL_ATTACH_NAME_SIZE)
                return refuse(ret_why, -EINVAL, "the VM's name does not end");
        for (size_t i = n; i < VTL_ATTACH_NAME_SIZE; i++)
                if (name[i])
                        return refuse(ret_why, -EINVAL, "there is something behind the VM's name");
        switch (text_check(name, n)) {
        case TEXT_NOT_UTF8:
                return refuse(ret_why, -EINVAL, "the VM's name is not UTF-8");
        case TEXT_CONTROL:
                return refuse(ret_why, -EINVAL, "the VM's name contains a control character");
        default:
                break;
        }
        memcpy(vm->name, name, n);
        return 0;
}

static int parse_apic_ids(struct protocol_vm *vm, const uint32_t *ids, const char **ret_why) {
        for (unsigned i = 0; i < VTL_ATTACH_VPS_MAX; i++) {
                if (i >= vm->vps) {
                        if (ids[i])
                                return refuse(ret_why, -EINVAL,
                                              "there is an APIC id behind the last VP's");
                        continue;
                }
                for (unsigned j = 0; j < i; j++)
                        if (ids[j] == ids[i])
                                return refuse(ret_why, -EINVAL, "two VPs have one APIC id");
                vm->apic_ids[i] = ids[i];
        }
        return 0;
}

static int parse_region(struct protocol_vm *vm, unsigned i, const struct vtl_message_region *m,
                        const char **ret_why) {
        if (m->size == 0)
                return refuse(ret_why, -EINVAL, "a memory region is empty");
        if (!is_aligned(m->gpa | m->size | m->offset, PAGE_BYTES))
                return refuse(ret_why, -EINVAL, "a memory region is not aligned to pages");
        if (m->size > UINT64_MAX - m->gpa || m->gpa + m->size > UINT64_C(1) << vm->phys_bits)
                return refuse(ret_why, -EINVAL,
                              "a memory region ends behind the last guest physical address");
        if (m->offset > INT64_MAX || m->size > INT64_MAX - m->offset)
                return refuse(ret_why, -EINVAL, "a memory region ends behind the largest file");
        for (unsigned j = 0; j < i; j++) {
                const struct protocol_region *o = &vm->regions[j];

                if (m->gpa < o->gpa + o->size && o->gpa < m->gpa + m->size)
                        return refuse(ret_why, -EINVAL, "two memory regions overlap");
        }
        vm->regions[i] = (struct protocol_region){
                .gpa = m->gpa, .size = m->size, .offset = m->offset, .fd = -1
        };
        return 0;
}

int protocol_vm_parse(struct protocol_vm *vm, const void *payload, size_t len, size_t n_fds,
                      const char **ret_why) {
        struct vtl_message_attach a;
        int r;

        if (len < sizeof(a))
                return refuse(ret_why, -EMSGSIZE, "the message is too short");
        memcpy(&a, payload, sizeof(a));
        if (a.n_regions == 0)
                return refuse(ret_why, -EINVAL, "the VM has no memory");
        if (a.n_regions > VTL_ATTACH_REGIONS_MAX)
                return refuse(ret_why, -E2BIG, "more memory regions than can be served");
        if (len != sizeof(a) + a.n_regions * sizeof(struct vtl_message_region))
                return refuse(ret_why, -EMSGSIZE,
                              "the size of the message is not that of its regions");
        if (n_fds != ATTACH_FD_RAM + a.n_regions)
                return refuse(ret_why, -EBADF,
                              "the number of descriptors is not that of the regions");
        if (a.vps == 0)
                return refuse(ret_why, -EINVAL, "the VM has no VPs");
        if (a.vps > VTL_ATTACH_VPS_MAX)
                return refuse(ret_why, -E2BIG, "more VPs than can be served");
        if (a.flags & ~VTL_ATTACH_FLAGS_ALL)
                return refuse(ret_why, -EINVAL, "an unknown flag of ATTACH is set");
        if (a.phys_bits < PHYS_BITS_MIN || a.phys_bits > PHYS_BITS_MAX)
                return refuse(ret_why, -EINVAL,
                              "the number of physical address bits is out of range");
        if (a.tsc_khz == 0 || a.tsc_khz > UINT32_MAX)
                return refuse(ret_why, -EINVAL, "the TSC frequency is out of range");
        if (uuid_is_nil(a.uuid))
                return refuse(ret_why, -EINVAL, "the VM's UUID is nil");

        memcpy(vm->uuid, a.uuid, sizeof(vm->uuid));
        uuid_format(vm->uuid, vm->uuid_text);
        vm->vps = a.vps;
        vm->phys_bits = a.phys_bits;
        vm->tsc_khz = a.tsc_khz;
        vm->precise_faults = a.flags & VTL_ATTACH_PRECISE_FAULTS;
        vm->kernel_apic_msrs = a.flags & VTL_ATTACH_KERNEL_APIC_MSRS;
        vm->kernel_hypercalls = a.flags & VTL_ATTACH_KERNEL_HYPERCALLS;
        vm->kernel_synic = a.flags & VTL_ATTACH_KERNEL_SYNIC;
        vm->n_regions = a.n_regions;
        r = parse_name(vm, a.name, ret_why);
        if (r >= 0)
                r = parse_apic_ids(vm, a.apic_ids, ret_why);
        for (unsigned i = 0; r >= 0 && i < a.n_regions; i++) {
                struct vtl_message_region m;

                memcpy(&m, (const uint8_t *) payload + sizeof(a) + i * sizeof(m), sizeof(m));
                r = parse_region(vm, i, &m, ret_why);
        }
        return r;
}

/* ---- Descriptors ---- */

static int check_memory(const struct fd_facts *f, unsigned seals, const char **ret_why) {
        if (f->type == FD_TYPE_HUGETLB)
                return refuse(ret_why, -EBADF,
                              "memory of huge pages cannot be protected: use 4 KiB pages");
        if (f->type != FD_TYPE_MEMFD)
                return refuse(ret_why, -EBADF, "memory is not a memfd");
        if (!f->readable || !f->writable)
                return refuse(ret_why, -EBADF, "a memfd is not open for reading and writing");
        if (f->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
                return refuse(ret_why, -EBADF, "a memfd is sealed against writing");
        if ((f->seals & seals) != seals)
                return refuse(
                        ret_why, -EBADF,
                        seals & F_SEAL_GROW
                                ? "the control and the overlay memfd must be sealed against "
                                  "shrinking and growing"
                                : "a RAM memfd must be sealed against shrinking (F_SEAL_SHRINK)");
        return 0;
}

static int check_exact(const struct fd_facts *f, uint64_t size, const char *why,
                       const char **ret_why) {
        int r = check_memory(f, F_SEAL_SHRINK | F_SEAL_GROW, ret_why);

        if (r < 0)
                return r;
        return f->size == size ? 0 : refuse(ret_why, -EBADF, why);
}

static bool same_file(const struct fd_facts *a, const struct fd_facts *b) {
        return a->device == b->device && a->inode == b->inode;
}

/* A page that the guest sees at two addresses could be protected at one and open at the other. */
static int check_aliases(const struct protocol_vm *vm, const struct fd_facts *facts, unsigned i,
                         const char **ret_why) {
        const struct protocol_region *a = &vm->regions[i];

        if (same_file(&facts[ATTACH_FD_RAM + i], &facts[ATTACH_FD_CONTROL]) ||
            same_file(&facts[ATTACH_FD_RAM + i], &facts[ATTACH_FD_OVERLAY]))
                return refuse(ret_why, -EBADF,
                              "a RAM memfd is also the control or the overlay memfd");
        for (unsigned j = 0; j < i; j++) {
                const struct protocol_region *b = &vm->regions[j];

                if (same_file(&facts[ATTACH_FD_RAM + i], &facts[ATTACH_FD_RAM + j]) &&
                    a->offset < b->offset + b->size && b->offset < a->offset + a->size)
                        return refuse(ret_why, -EINVAL,
                                      "two memory regions share pages of one memfd");
        }
        return 0;
}

static int check_fds(const struct protocol_vm *vm, const struct fd_facts *f, const char **ret_why) {
        int r;

        if (f[ATTACH_FD_VM].type != FD_TYPE_KVM_VM)
                return refuse(ret_why, -EBADF, "the first descriptor is not a KVM VM");
        r = check_exact(&f[ATTACH_FD_CONTROL], vtl_control_size(vm->vps),
                        "the control memfd has not the size for this number of VPs", ret_why);
        if (r < 0)
                return r;
        r = check_exact(&f[ATTACH_FD_OVERLAY], (uint64_t) vtl_overlay_pages(vm->vps) * PAGE_BYTES,
                        "the overlay memfd has not the size for this number of VPs", ret_why);
        if (r < 0)
                return r;
        if (same_file(&f[ATTACH_FD_CONTROL], &f[ATTACH_FD_OVERLAY]))
                return refuse(ret_why, -EBADF, "the control memfd is also the overlay memfd");
        for (unsigned i = 0; i < vm->n_regions; i++) {
                const struct fd_facts *ram = &f[ATTACH_FD_RAM + i];

                r = check_memory(ram, F_SEAL_SHRINK, ret_why);
                if (r < 0)
                        return r;
                if (vm->regions[i].offset + vm->regions[i].size > ram->size)
                        return refuse(ret_why, -EBADF,
                                      "a memory region ends behind the end of its memfd");
                r = check_aliases(vm, f, i, ret_why);
                if (r < 0)
                        return r;
        }
        return 0;
}

int protocol_vm_take_fds(struct protocol_vm *vm, int *fds, protocol_facts_fn facts, void *userdata,
                         const char **ret_why) {
        struct fd_facts f[VTL_MESSAGE_FDS_MAX];
        int r;

        for (unsigned i = 0; i < ATTACH_FD_RAM + vm->n_regions; i++) {
                r = facts(userdata, fds[i], &f[i]);
                if (r < 0)
                        return refuse(ret_why, r, "a descriptor cannot be looked at");
        }
        r = check_fds(vm, f, ret_why);
        if (r < 0)
                return r;
        /* The VM's descriptor is not kept: it would keep the VM alive after its VMM. */
        vm->control_fd = TAKE_FD(fds[ATTACH_FD_CONTROL]);
        vm->overlay_fd = TAKE_FD(fds[ATTACH_FD_OVERLAY]);
        for (unsigned i = 0; i < vm->n_regions; i++)
                vm->regions[i].fd = TAKE_FD(fds[ATTACH_FD_RAM + i]);
        return 0;
}

int protocol_vm_add_vp(struct protocol_vm *vm, unsigned index, int *fd, protocol_facts_fn facts,
                       void *userdata, const char **ret_why) {
        struct fd_facts f;
        int r;

        if (index >= vm->vps)
                return refuse(ret_why, -EINVAL, "the VM has no VP of this index");
        if (vm->kick_fds[index] >= 0)
                return refuse(ret_why, -EEXIST, "this VP has been added already");
        r = facts(userdata, *fd, &f);
        if (r < 0)
                return refuse(ret_why, r, "the descriptor cannot be looked at");
        if (f.type != FD_TYPE_FIFO || !f.writable || f.readable)
                return refuse(ret_why, -EBADF, "the descriptor is not the write end of a pipe");
        vm->kick_fds[index] = TAKE_FD(*fd);
        return 0;
}
