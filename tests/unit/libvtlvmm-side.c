/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/libvtlvmm-side.h"
#include "util/util.h"
#include "vmm/protocol.h"
#include "vtl/control.h"

#define CPUID_ENTRIES 256u

static void close_fd(int fd) {
        if (fd >= 0)
                (void) close(fd);
}

bool side_kvm_is_usable(void) {
        int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = -1;

        if (kvm >= 0)
                vm = ioctl(kvm, KVM_CREATE_VM, 0);
        close_fd(vm);
        close_fd(kvm);
        return vm >= 0;
}

static unsigned count_fds(void) {
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        (void) closedir(d);
        return n;
}

int side_make_ram(size_t size, unsigned flags, unsigned seals) {
        int fd = memfd_create("test-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

        if (fd < 0)
                return -1;
        assert_int_equal(ftruncate(fd, (off_t) size), 0);
        if (seals)
                assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
        return fd;
}

struct kvm_userspace_memory_region side_slot(uint64_t gpa, uint64_t size) {
        return (struct kvm_userspace_memory_region){ .guest_phys_addr = gpa, .memory_size = size };
}

struct vtlvmm *side_new(int kvm_fd, int vm_fd) {
        struct vtlvmm_options options = { .size = sizeof(options), .name = "test" };
        struct vtlvmm *v = NULL;

        assert_int_equal(vtlvmm_new(kvm_fd, vm_fd, &options, &v), 0);
        assert_non_null(v);
        assert_string_equal(vtlvmm_error(v), "");
        return v;
}

static struct side *begin(void **state) {
        struct side *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        *state = f;
        f->fds = count_fds();
        f->kvm_fd = f->vm_fd = f->vcpu_fd = -1;
        f->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        assert_true(f->null_fd >= 0);
        f->ram_fd = side_make_ram(RAM_SIZE, 0, F_SEAL_SHRINK);
        assert_true(f->ram_fd >= 0);
        f->cpuid = calloc(1, sizeof(*f->cpuid) + CPUID_ENTRIES * sizeof(f->cpuid->entries[0]));
        assert_non_null(f->cpuid);
        (void) snprintf(f->dir, sizeof(f->dir), "/tmp/test-libvtlvmm-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        return f;
}

int side_set_up(void **state) {
        struct side *f = begin(state);

        f->run_size = PAGE;
        f->run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(f->run, MAP_FAILED);
        f->v = side_new(f->null_fd, f->null_fd);
        return 0;
}

static bool open_vm(struct side *f) {
        struct kvm_userspace_memory_region slot = side_slot(0, RAM_SIZE);
        int size;

        f->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
        if (f->kvm_fd < 0)
                return false;
        f->vm_fd = ioctl(f->kvm_fd, KVM_CREATE_VM, 0);
        size = ioctl(f->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
        if (f->vm_fd < 0 || size <= 0 || ioctl(f->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
                return false;
        f->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->ram_fd, 0);
        assert_ptr_not_equal(f->ram, MAP_FAILED);
        slot.userspace_addr = (uintptr_t) f->ram;
        if (ioctl(f->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
                return false;
        f->vcpu_fd = ioctl(f->vm_fd, KVM_CREATE_VCPU, 0);
        if (f->vcpu_fd < 0)
                return false;
        f->run_size = (size_t) size;
        f->run = mmap(NULL, f->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, f->vcpu_fd, 0);
        assert_ptr_not_equal(f->run, MAP_FAILED);
        f->cpuid->nent = CPUID_ENTRIES;
        return ioctl(f->kvm_fd, KVM_GET_SUPPORTED_CPUID, f->cpuid) == 0;
}

int side_set_up_vm(void **state) {
        struct side *f = begin(state);

        assert_true(open_vm(f));
        f->v = side_new(f->kvm_fd, f->vm_fd);
        return 0;
}

/* vtlvmm_free() gives everything back, whatever happened before. */
int side_tear_down(void **state) {
        struct side *f = *state;
        unsigned left;

        assert_null(vtlvmm_free(f->v));
        if (f->run)
                (void) munmap(f->run, f->run_size);
        if (f->ram)
                (void) munmap(f->ram, RAM_SIZE);
        close_fd(f->vcpu_fd);
        close_fd(f->vm_fd);
        close_fd(f->kvm_fd);
        close_fd(f->ram_fd);
        close_fd(f->null_fd);
        (void) rmdir(f->dir);
        left = count_fds();
        if (left != f->fds)
                print_message("# %u descriptors before, %u after\n", f->fds, left);
        left -= f->fds;
        free(f->cpuid);
        free(f);
        return left == 0 ? 0 : -1;
}

/* A failure has its errno, and words for a person: one line that contains @text. */
void side_failed(const struct vtlvmm *v, int r, int error, const char *text) {
        const char *said = vtlvmm_error(v);

        if (r != -error || !strstr(said, text))
                print_message("# got %d (%s), \"%s\"\n", r, strerror(-r), said);
        assert_int_equal(r, -error);
        assert_non_null(strstr(said, text));
        assert_null(strchr(said, '\n'));
}

void side_add_vcpu(struct side *f, int fd) {
        struct vtlvmm_vcpu *vcpu;

        assert_int_equal(vtlvmm_add_vcpu(f->v, fd, 0, f->run, f->cpuid, &vcpu), 0);
}

void side_add_ram(struct side *f) {
        struct kvm_userspace_memory_region slot = side_slot(0, RAM_SIZE);

        slot.userspace_addr = (uintptr_t) f->ram;
        assert_int_equal(vtlvmm_add_memory(f->v, &slot, f->ram_fd, 0), 0);
}

static void reply(int fd, const struct vtl_message *to, uint32_t error, const void *payload,
                  size_t n) {
        union {
                struct vtl_message header;
                uint8_t bytes[512];
        } m = { 0 };

        n = MIN(n, sizeof(m) - sizeof(m.header));
        m.header =
                (struct vtl_message){ .id = to->id,
                                      .command = to->command,
                                      .size = (uint32_t) (sizeof(m.header) + n),
                                      .flags = VTL_MESSAGE_REPLY | (error ? VTL_MESSAGE_ERROR : 0),
                                      .error = error };
        memcpy(m.bytes + sizeof(m.header), payload, n);
        (void) send(fd, &m, m.header.size, MSG_NOSIGNAL);
}

/* What comes with a message, descriptors too, is the library's loss. */
static bool receive(int fd, struct vtl_message *ret) {
        uint8_t bytes[VTL_MESSAGE_MAX];
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

        if (n < (ssize_t) sizeof(*ret))
                return false;
        memcpy(ret, bytes, sizeof(*ret));
        return true;
}

static void *serve_one(void *arg) {
        static const struct vtl_message_version version = { .major = VTL_PROTOCOL_MAJOR,
                                                            .minor = VTL_PROTOCOL_MINOR,
                                                            .control_version =
                                                                    VTL_CONTROL_VERSION };
        struct side_peer *p = arg;
        int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        struct vtl_message m;
        bool more;

        if (fd < 0)
                return NULL;
        p->fd = fd;
        more = receive(fd, &m);
        if (more && p->version) {
                reply(fd, &m, 0, &version, sizeof(version));
                more = receive(fd, &m);
        }
        if (more && p->raw)
                (void) send(fd, p->raw, p->raw_len, MSG_NOSIGNAL);
        else if (more && p->error)
                reply(fd, &m, p->error, p->text, strlen(p->text) + 1);
        (void) shutdown(fd, SHUT_RDWR);
        return NULL;
}

void side_peer_start(struct side_peer *p, const struct side *f, int type) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        (void) snprintf(p->path, sizeof(p->path), "%s/socket", f->dir);
        (void) snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", p->path);
        p->fd = -1;
        p->listen_fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
        assert_true(p->listen_fd >= 0);
        assert_int_equal(bind(p->listen_fd, (const struct sockaddr *) &sa, sizeof(sa)), 0);
        assert_int_equal(listen(p->listen_fd, 1), 0);
        assert_int_equal(pthread_create(&p->thread, NULL, serve_one, p), 0);
}

void side_peer_stop(struct side_peer *p) {
        /* Ends the wait for somebody to come, and for one to say more. */
        (void) shutdown(p->listen_fd, SHUT_RDWR);
        (void) shutdown(p->fd, SHUT_RDWR);
        assert_int_equal(pthread_join(p->thread, NULL), 0);
        close_fd(p->fd);
        (void) close(p->listen_fd);
        (void) unlink(p->path);
}
