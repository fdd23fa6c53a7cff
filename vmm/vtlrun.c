/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * vtlrun: the reference VMM of vtld. Options, files and the main thread's loop; the machine is in
 * the other files.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include "util/uuid.h"
#include "vtlrun.h"

#define DEFAULT_MEMORY_MIB 512u
#define MAX_MEMORY_MIB (1u << 20)
#define MIN_MEMORY_MIB 2u
#define MAX_FILE_SIZE (2ull << 30)
#define MAX_TIMEOUT 31536000u
#define DEFAULT_SOCKET "/run/vtld/attach.sock"

enum {
        OPT_APPEND = 0x100,
        OPT_ATTACH,
        OPT_ENGINE,
        OPT_HELP,
        OPT_INITRD,
        OPT_MEMORY,
        OPT_NAME,
        OPT_PLAIN,
        OPT_STATS,
        OPT_TIMEOUT,
        OPT_UUID,
        OPT_VCPUS,
        OPT_VERSION,
};

struct arguments {
        struct vm_config config;
        const char *image;
        const char *initrd;
        const char *append;
        unsigned timeout; /* seconds, 0 for none */
        bool stats;
        bool done; /* --help or --version has been answered */
};

struct file {
        uint8_t *data;
        uint64_t size;
};

/* One message for the user. Together in one write, because threads may talk at once. */
void say(const char *fmt, ...) {
        char text[1024];
        va_list ap;

        va_start(ap, fmt);
        (void) vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        (void) fprintf(stderr, "vtlrun: %s\n", text);
}

static void print_help(void) {
        (void) printf("Usage: vtlrun [OPTION]... IMAGE\n"
                      "Run a multiboot or Linux kernel in a VM with virtual trust levels.\n\n"
                      "  --vcpus N            virtual processors, 1 to %u (default 1)\n"
                      "  --memory MIB         guest memory in MiB (default %u)\n"
                      "  --attach SOCKET      socket of vtld (default " DEFAULT_SOCKET ")\n"
                      "  --engine=daemon      trust levels are served by vtld (default)\n"
                      "  --engine=in-process  trust levels are served by vtlrun itself\n"
                      "  --plain              no trust levels at all\n"
                      "  --initrd FILE        initial RAM disk, or module of a multiboot image\n"
                      "  --append TEXT        kernel command line\n"
                      "  --uuid UUID          identity of the virtual machine (default random)\n"
                      "  --name NAME          name of the virtual machine (default the image's)\n"
                      "  --stats              print at the end how often what happened\n"
                      "  --timeout SECONDS    end with status %d after this time\n"
                      "  --help               print this text\n"
                      "  --version            print the version\n\n"
                      "On a terminal, Ctrl-A x ends the virtual machine.\n",
                      BOOT_MAX_VCPUS, DEFAULT_MEMORY_MIB, STATUS_TIMEOUT);
}

static bool parse_number(const char *text, unsigned min, unsigned max, unsigned *ret) {
        unsigned long v;
        char *end;

        if (text[0] < '0' || text[0] > '9')
                return false;
        errno = 0;
        v = strtoul(text, &end, 10);
        if (errno != 0 || *end != '\0' || v < min || v > max)
                return false;
        *ret = (unsigned) v;
        return true;
}

/* RFC 9562 version 4. */
static int random_uuid(uint8_t uuid[16]) {
        if (getrandom(uuid, 16, 0) != 16) {
                say("getrandom: %s", strerror(errno));
                return STATUS_OS;
        }
        uuid[6] = (uint8_t) ((uuid[6] & 0x0f) | 0x40);
        uuid[8] = (uint8_t) ((uuid[8] & 0x3f) | 0x80);
        return 0;
}

static bool parse_engine(const char *text, enum engine *ret) {
        static const struct {
                const char *name;
                enum engine engine;
        } engines[] = {
                { "daemon", ENGINE_DAEMON },
                { "in-process", ENGINE_IN_PROCESS },
        };

        for (size_t i = 0; i < ARRAY_SIZE(engines); i++)
                if (strcmp(text, engines[i].name) == 0) {
                        *ret = engines[i].engine;
                        return true;
                }
        return false;
}

static int usage_error(const char *option, const char *text, const char *expected) {
        say("--%s: '%s' is not %s", option, text, expected);
        return STATUS_USAGE;
}

static int parse_option(struct arguments *a, int option, const char *text) {
        unsigned n;

        switch (option) {
        case OPT_APPEND:
                a->append = text;
                break;
        case OPT_ATTACH:
                a->config.socket_path = text;
                break;
        case OPT_ENGINE:
                if (!parse_engine(text, &a->config.engine))
                        return usage_error("engine", text, "daemon or in-process");
                break;
        case OPT_INITRD:
                a->initrd = text;
                break;
        case OPT_MEMORY:
                if (!parse_number(text, MIN_MEMORY_MIB, MAX_MEMORY_MIB, &n))
                        return usage_error("memory", text, "a number of MiB from 2 to 1048576");
                a->config.memory = (uint64_t) n << 20;
                break;
        case OPT_NAME:
                if (text[0] == '\0')
                        return usage_error("name", text, "a name");
                a->config.name = text;
                break;
        case OPT_PLAIN:
                a->config.engine = ENGINE_NONE;
                break;
        case OPT_STATS:
                a->stats = true;
                break;
        case OPT_TIMEOUT:
                if (!parse_number(text, 1, MAX_TIMEOUT, &a->timeout))
                        return usage_error("timeout", text, "a number of seconds");
                break;
        case OPT_UUID:
                if (uuid_parse(text, a->config.uuid) < 0)
                        return usage_error("uuid", text, "a UUID");
                break;
        case OPT_VCPUS:
                if (!parse_number(text, 1, BOOT_MAX_VCPUS, &a->config.vcpus))
                        return usage_error("vcpus", text, "a number from 1 to 64");
                break;
        case OPT_HELP:
                print_help();
                a->done = true;
                break;
        case OPT_VERSION:
                (void) printf("vtlrun (vtld) " VTLD_VERSION "\n");
                a->done = true;
                break;
        default:
                return STATUS_USAGE;
        }
        return 0;
}

static int parse_arguments(struct arguments *a, int argc, char **argv) {
        static const struct option options[] = {
                { "append", required_argument, NULL, OPT_APPEND },
                { "attach", required_argument, NULL, OPT_ATTACH },
                { "engine", required_argument, NULL, OPT_ENGINE },
                { "help", no_argument, NULL, OPT_HELP },
                { "initrd", required_argument, NULL, OPT_INITRD },
                { "memory", required_argument, NULL, OPT_MEMORY },
                { "name", required_argument, NULL, OPT_NAME },
                { "plain", no_argument, NULL, OPT_PLAIN },
                { "stats", no_argument, NULL, OPT_STATS },
                { "timeout", required_argument, NULL, OPT_TIMEOUT },
                { "uuid", required_argument, NULL, OPT_UUID },
                { "vcpus", required_argument, NULL, OPT_VCPUS },
                { "version", no_argument, NULL, OPT_VERSION },
                { 0 },
        };
        int option, r;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                r = parse_option(a, option, optarg);
                if (r != 0 || a->done)
                        return r;
        }
        if (argc - optind != 1) {
                say(optind == argc ? "which image? Try vtlrun --help" : "only one image, please");
                return STATUS_USAGE;
        }
        a->image = argv[optind];
        if (!a->config.name) {
                const char *slash = strrchr(a->image, '/');

                a->config.name = slash ? slash + 1 : a->image;
        }
        return 0;
}

/* A private copy: the file may change while it is being looked at, the copy cannot. */
static int read_file(const char *path, struct file *ret) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;
        uint64_t done = 0;

        if (fd < 0 || fstat(fd, &st) < 0) {
                say("%s: %s", path, strerror(errno));
                return STATUS_NO_INPUT;
        }
        if (!S_ISREG(st.st_mode)) {
                say("%s: not a regular file", path);
                return STATUS_NO_INPUT;
        }
        if ((uint64_t) st.st_size > MAX_FILE_SIZE) {
                say("%s: larger than 2 GiB", path);
                return STATUS_DATA;
        }

        ret->data = malloc((size_t) st.st_size + 1);
        if (!ret->data) {
                say("%s: out of memory", path);
                return STATUS_OS;
        }
        while (done < (uint64_t) st.st_size) {
                ssize_t n = read(fd, ret->data + done, (size_t) st.st_size - done);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        say("%s: %s", path, strerror(errno));
                        return STATUS_NO_INPUT;
                }
                if (n == 0)
                        break;
                done += (uint64_t) n;
        }
        ret->size = done;
        return 0;
}

static void file_clear(struct file *f) {
        free(f->data);
        f->data = NULL;
}

static int load_image(struct vm *vm, const struct arguments *a, struct boot_entry *ret_entry) {
        _cleanup_(file_clear) struct file image = { 0 }, initrd = { 0 };
        struct boot_error error = { 0 };
        struct boot_request req;
        int r;

        r = read_file(a->image, &image);
        if (r == 0 && a->initrd)
                r = read_file(a->initrd, &initrd);
        if (r != 0)
                return r;

        req = (struct boot_request){
                .image = { image.data, image.size },
                .initrd = { initrd.data, initrd.size },
                .image_name = a->image,
                .initrd_name = a->initrd,
                .append = a->append,
                .vcpus = a->config.vcpus,
        };
        if (boot_load(&req, &vm->ram_map, ret_entry, &error) < 0) {
                say("%s: %s", a->image, error.text);
                return STATUS_DATA;
        }
        return 0;
}

enum {
        POLL_STOP,
        POLL_SIGNAL,
        POLL_TIMER,
        POLL_INPUT_WANTED,
        POLL_STDIN,
        POLL_MAX,
};

static void drain(int fd) {
        uint64_t v;

        (void) !read(fd, &v, sizeof(v));
}

static void on_signal(struct vm *vm, int fd) {
        struct signalfd_siginfo si;

        if (read(fd, &si, sizeof(si)) != sizeof(si))
                return;
        if (!vm_stopped(vm))
                say("ended by signal %u (%s)", si.ssi_signo, strsignal((int) si.ssi_signo));
        vm_stop(vm, STATUS_SIGNAL + (int) si.ssi_signo);
}

static void on_timeout(struct vm *vm, const struct arguments *a) {
        if (!vm_stopped(vm))
                say("timeout after %u seconds", a->timeout);
        vm_stop(vm, STATUS_TIMEOUT);
}

/* Until somebody stops the machine. */
static void main_loop(struct vm *vm, const struct arguments *a, int signal_fd, int timer_fd) {
        while (!vm_stopped(vm)) {
                bool input = console_wants_poll(&vm->console);
                struct pollfd p[POLL_MAX] = {
                        [POLL_STOP] = { .fd = vm->stop_fd, .events = POLLIN },
                        [POLL_SIGNAL] = { .fd = signal_fd, .events = POLLIN },
                        [POLL_TIMER] = { .fd = timer_fd, .events = POLLIN },
                        [POLL_INPUT_WANTED] = { .fd = vm->input_fd, .events = POLLIN },
                        [POLL_STDIN] = { .fd = input ? STDIN_FILENO : -1, .events = POLLIN },
                };

                if (poll(p, POLL_MAX, -1) < 0)
                        continue;
                if (p[POLL_SIGNAL].revents)
                        on_signal(vm, signal_fd);
                if (p[POLL_TIMER].revents)
                        on_timeout(vm, a);
                if (p[POLL_INPUT_WANTED].revents) {
                        drain(vm->input_fd);
                        console_feed(vm);
                }
                if (p[POLL_STDIN].revents)
                        console_read(vm);
        }
}

/* The signals that end us arrive in the main thread's loop and nowhere else. */
static int open_signals(int *ret_fd) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGINT);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGHUP);
        (void) pthread_sigmask(SIG_BLOCK, &set, NULL);
        (void) signal(SIGPIPE, SIG_IGN);
        *ret_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (*ret_fd < 0) {
                say("signalfd: %s", strerror(errno));
                return STATUS_OS;
        }
        return 0;
}

static int open_timer(unsigned seconds, int *ret_fd) {
        struct itimerspec t = { .it_value = { .tv_sec = (time_t) seconds } };

        *ret_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (*ret_fd < 0 || timerfd_settime(*ret_fd, 0, &t, NULL) < 0) {
                say("timerfd: %s", strerror(errno));
                return STATUS_OS;
        }
        return 0;
}

static int run(struct vm *vm, const struct arguments *a) {
        _cleanup_close_ int signal_fd = -1, timer_fd = -1;
        struct boot_entry entry;
        int r;

        r = open_signals(&signal_fd);
        if (r == 0)
                r = open_timer(a->timeout, &timer_fd);
        if (r == 0)
                r = vm_create(vm, &a->config);
        if (r == 0)
                r = load_image(vm, a, &entry);
        if (r == 0)
                r = vm_create_vcpus(vm, &entry);
        if (r == 0)
                r = vm_start_vtl(vm);
        if (r != 0)
                return r;

        console_open(&vm->console);
        (void) vm_start(vm); /* a failure has stopped the machine */
        main_loop(vm, a, signal_fd, timer_fd);
        vm_join(vm);
        console_close(&vm->console);
        if (a->stats)
                vm_print_stats(vm);
        return atomic_load(&vm->status);
}

int main(int argc, char **argv) {
        struct arguments a = {
                .config = {
                        .vcpus = 1,
                        .memory = (uint64_t) DEFAULT_MEMORY_MIB << 20,
                        .engine = ENGINE_DAEMON,
                        .socket_path = DEFAULT_SOCKET,
                },
        };
        struct vm *vm;
        int r;

        r = random_uuid(a.config.uuid);
        if (r == 0)
                r = parse_arguments(&a, argc, argv);
        if (r != 0 || a.done)
                return r;

        vm = calloc(1, sizeof(*vm));
        if (!vm) {
                say("out of memory");
                return STATUS_OS;
        }
        r = run(vm, &a);
        vm_destroy(vm);
        free(vm);
        return r;
}
