/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * vtlrun: the reference VMM of vtld. Options, files and the main thread's loop; the machine is in
 * the other files.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
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
        OPT_POLICY,
        OPT_REBOOT,
        OPT_RESTORE,
        OPT_SAVE,
        OPT_STATS,
        OPT_TIMEOUT,
        OPT_UUID,
        OPT_VCPUS,
        OPT_VERSION,
        OPT_XCR0,
};

struct arguments {
        struct vm_config config;
        const char *image;
        const char *initrd;
        const char *append;
        const char *restore;
        bool reboot;
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
                      "       vtlrun [OPTION]... --restore FILE\n"
                      "Run a multiboot or Linux kernel in a VM with virtual trust levels.\n\n"
                      "  --vcpus N            virtual processors, 1 to %u (default 1)\n"
                      "  --memory MIB         guest memory in MiB (default %u)\n"
                      "  --attach SOCKET      socket of vtld (default " DEFAULT_SOCKET ")\n"
                      "  --engine=daemon      trust levels are served by vtld (default)\n"
                      "  --engine=in-process  trust levels are served by vtlrun itself\n"
                      "  --policy KEY=VALUE   with --engine=in-process: a key of vtl-policy(5)\n"
                      "  --plain              no trust levels at all\n"
                      "  --initrd FILE        initial RAM disk, or module of a multiboot image\n"
                      "  --append TEXT        kernel command line\n"
                      "  --uuid UUID          identity of the virtual machine (default random)\n"
                      "  --name NAME          name of the virtual machine (default the image's)\n"
                      "  --reboot             start again when the guest resets its machine\n"
                      "  --save FILE          write the machine to FILE on SIGUSR2 and end\n"
                      "  --restore FILE       go on with the machine in FILE\n"
                      "  --stats              print at the end how often what happened\n"
                      "  --timeout SECONDS    end with status %d after this time\n"
                      "  --xcr0 N             XCR0 of the processors at the start (default 1)\n"
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

/* What vtld's policy would say of this VM */
static int set_policy(struct vtl_options *o, const char *text) {
        char key[64];
        const char *value = strchr(text, '=');
        int r = -ENOENT;

        if (value && (size_t) (value - text) < sizeof(key)) {
                memcpy(key, text, (size_t) (value - text));
                key[value - text] = '\0';
                r = vtl_option_set(o, key, value + 1);
                for (size_t i = 0; r == -EINVAL && vtl_option_key(i); i++)
                        if (strcmp(vtl_option_key(i), key) == 0)
                                return usage_error(key, value + 1, vtl_option_choices(i));
        }
        return r < 0 ? usage_error("policy", text, "KEY=VALUE with a key of vtl-policy(5)") : 0;
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
        case OPT_POLICY:
                return set_policy(&a->config.options, text);
        case OPT_REBOOT:
                a->reboot = true;
                break;
        case OPT_RESTORE:
                a->restore = text;
                break;
        case OPT_SAVE:
                a->config.save_path = text;
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
        case OPT_XCR0:
                if (!parse_number(text, 1, UINT_MAX, &n) || !(n & 1))
                        return usage_error("xcr0", text, "an odd number: bit 0 is always set");
                a->config.xcr0 = n;
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
                { "policy", required_argument, NULL, OPT_POLICY },
                { "reboot", no_argument, NULL, OPT_REBOOT },
                { "restore", required_argument, NULL, OPT_RESTORE },
                { "save", required_argument, NULL, OPT_SAVE },
                { "stats", no_argument, NULL, OPT_STATS },
                { "timeout", required_argument, NULL, OPT_TIMEOUT },
                { "uuid", required_argument, NULL, OPT_UUID },
                { "vcpus", required_argument, NULL, OPT_VCPUS },
                { "version", no_argument, NULL, OPT_VERSION },
                { "xcr0", required_argument, NULL, OPT_XCR0 },
                { 0 },
        };
        int option, r;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                r = parse_option(a, option, optarg);
                if (r != 0 || a->done)
                        return r;
        }
        if (a->restore) {
                if (optind == argc && !a->initrd && !a->append && !a->reboot && a->config.xcr0 == 0)
                        return 0;
                say("--restore takes no image, and nothing of what belongs to one");
                return STATUS_USAGE;
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
        if (si.ssi_signo == SIGUSR2) {
                vm_stop(vm, STATUS_SAVE);
                return;
        }
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
static int open_signals(const struct arguments *a, int *ret_fd) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGINT);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGHUP);
        if (a->config.save_path)
                (void) sigaddset(&set, SIGUSR2);
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

static int make_machine(struct vm *vm, struct arguments *a, struct restored *restored) {
        struct boot_entry entry;
        int r;

        r = vm_create(vm, &a->config);
        if (r == 0 && !restored)
                r = load_image(vm, a, &entry);
        if (r == 0)
                r = vm_create_vcpus(vm, restored ? NULL : &entry);
        if (r == 0 && restored)
                restored_prepare(vm, restored);
        if (r == 0)
                r = vm_start_vtl(vm);
        if (r == 0 && restored)
                r = restored_put(vm, restored);
        return r;
}

/* Until it has ended for good. Return: 0, the machine's status is its end; or an exit status after
 * a message. */
static int run_machine(struct vm *vm, const struct arguments *a, int signal_fd, int timer_fd,
                       struct reset_state *reset_state) {
        struct boot_entry entry;
        int r;

        for (;;) {
                (void) vm_start(vm); /* a failure has stopped the machine */
                main_loop(vm, a, signal_fd, timer_fd);
                vm_join(vm);
                /* A guest that crashes would do so for ever. */
                if (atomic_load(&vm->status) != STATUS_RESET || !reset_state ||
                    atomic_load(&vm->crashed))
                        return 0;
                r = vm_reset(vm, reset_state);
                if (r == 0)
                        r = load_image(vm, a, &entry);
                if (r != 0)
                        return r;
        }
}

static int run(struct vm *vm, struct arguments *a, struct restored *restored) {
        _cleanup_close_ int signal_fd = -1, timer_fd = -1;
        struct reset_state *reset_state = NULL;
        int r;

        r = open_signals(a, &signal_fd);
        if (r == 0)
                r = open_timer(a->timeout, &timer_fd);
        if (r == 0)
                r = make_machine(vm, a, restored);
        if (r != 0)
                return r;

        if (a->reboot)
                r = reset_state_take(vm, &reset_state);
        if (r == 0) {
                console_open(&vm->console);
                r = run_machine(vm, a, signal_fd, timer_fd, reset_state);
                console_close(&vm->console);
        }
        reset_state_free(reset_state);
        if (r != 0)
                return r;
        if (a->stats)
                vm_print_stats(vm);
        r = atomic_load(&vm->status);
        return r == STATUS_SAVE ? vm_save(vm, a->config.save_path) : r;
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
        struct restored *restored = NULL;
        struct vm *vm;
        int r;

        r = random_uuid(a.config.uuid);
        if (r == 0)
                r = parse_arguments(&a, argc, argv);
        if (r != 0 || a.done)
                return r;

        if (a.restore)
                r = restored_open(a.restore, &a.config, &restored);
        if (r != 0) {
                restored_free(restored);
                return r;
        }
        vm = calloc(1, sizeof(*vm));
        if (!vm) {
                say("out of memory");
                return STATUS_OS;
        }
        r = run(vm, &a, restored);
        vm_destroy(vm);
        free(vm);
        restored_free(restored);
        return r;
}
