/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * UART output, TAP, the command line and the end of the machine.
 */
#include "guest.h"

#define UART 0x3f8
#define UART_LSR (UART + 5)
#define UART_LSR_DATA 0x01
#define UART_LSR_EMPTY 0x20
#define EXIT_PORT 0xf4

static struct {
        unsigned run, failed;
        bool silent;
} tap;

static char cmdline[512];

/* CPU index + 1 of the owner. A VTL1 that preempts its own CPU's VTL0 in the middle of a line
 * may write over it. */
static volatile unsigned console_owner;

static bool console_lock(void) {
        unsigned me = this_cpu()->index + 1, none = 0;

        if (console_owner == me)
                return false;
        while (!__atomic_compare_exchange_n(&console_owner, &none, me, false, __ATOMIC_ACQUIRE,
                                            __ATOMIC_RELAXED)) {
                none = 0;
                cpu_relax();
        }
        return true;
}

static void console_unlock(bool owned) {
        if (owned)
                __atomic_store_n(&console_owner, 0, __ATOMIC_RELEASE);
}

static void console_write(const char *s) {
        bool owned = console_lock();

        for (; *s != '\0'; s++) {
                unsigned tries = 10000;

                while (!(inb(UART_LSR) & UART_LSR_EMPTY) && --tries > 0)
                        cpu_relax();
                outb(UART, (uint8_t) *s);
        }
        console_unlock(owned);
}

/* The next byte of input, or -1. */
int console_read(void) {
        return inb(UART_LSR) & UART_LSR_DATA ? inb(UART) : -1;
}

struct sink {
        char *buf;
        size_t size, used;
};

static void sink_char(struct sink *s, char c) {
        if (s->used + 1 < s->size)
                s->buf[s->used++] = c;
        s->buf[s->used] = '\0';
}

static void sink_number(struct sink *s, uint64_t v, unsigned base, unsigned width, char fill,
                        bool minus) {
        char digits[24];
        unsigned n = 0;

        do {
                digits[n++] = "0123456789abcdef"[v % base];
                v /= base;
        } while (v > 0);
        if (minus)
                digits[n++] = '-';
        for (; width > n; width--)
                sink_char(s, fill);
        while (n > 0)
                sink_char(s, digits[--n]);
}

/* %c %s %d %u %x %p with width, zero fill and the sizes l, ll, z; %-Ns. */
static void sink_format(struct sink *s, const char *fmt, va_list ap) {
        s->buf[0] = '\0';
        for (; *fmt != '\0'; fmt++) {
                bool left = false, wide = false;
                unsigned width = 0;
                char fill = ' ';
                const char *text;
                int64_t v;

                if (*fmt != '%') {
                        sink_char(s, *fmt);
                        continue;
                }
                fmt++;
                if (*fmt == '-') {
                        left = true;
                        fmt++;
                }
                if (*fmt == '0')
                        fill = '0';
                for (; *fmt >= '0' && *fmt <= '9'; fmt++)
                        width = width * 10 + (unsigned) (*fmt - '0');
                for (; *fmt == 'l' || *fmt == 'z'; fmt++)
                        wide = true;

                switch (*fmt) {
                case 'c':
                        sink_char(s, (char) va_arg(ap, int));
                        break;
                case 's':
                        text = va_arg(ap, const char *);
                        for (; *text != '\0'; text++) {
                                sink_char(s, *text);
                                width -= width > 0;
                        }
                        for (; left && width > 0; width--)
                                sink_char(s, ' ');
                        break;
                case 'd':
                        v = wide ? va_arg(ap, int64_t) : va_arg(ap, int);
                        sink_number(s, v < 0 ? -(uint64_t) v : (uint64_t) v, 10, width, fill,
                                    v < 0);
                        break;
                case 'u':
                case 'x':
                        sink_number(s, wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned),
                                    *fmt == 'u' ? 10 : 16, width, fill, false);
                        break;
                case 'p':
                        sink_number(s, va_arg(ap, uint64_t), 16, width, fill, false);
                        break;
                default:
                        sink_char(s, *fmt);
                }
        }
}

void format(char *buf, size_t size, const char *fmt, ...) {
        struct sink s = { .buf = buf, .size = size };
        va_list ap;

        va_start(ap, fmt);
        sink_format(&s, fmt, ap);
        va_end(ap);
}

void print(const char *fmt, ...) {
        char line[512];
        struct sink s = { .buf = line, .size = sizeof(line) };
        va_list ap;

        va_start(ap, fmt);
        sink_format(&s, fmt, ap);
        va_end(ap);
        console_write(line);
}

static void tap_line(bool pass, const char *fmt, va_list ap) {
        char name[256], line[300];
        struct sink s = { .buf = name, .size = sizeof(name) };

        sink_format(&s, fmt, ap);
        tap.run++;
        tap.failed += !pass;
        if (tap.silent && pass)
                return;
        format(line, sizeof(line), "%s %u - %s\n", pass ? "ok" : "not ok", tap.run, name);
        console_write(line);
}

bool ok_at(bool pass, const char *file, int line, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        tap_line(pass, fmt, ap);
        va_end(ap);
        if (!pass)
                print("# %s:%d\n", file, line);
        return pass;
}

bool is_at(uint64_t got, uint64_t want, const char *file, int line, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        tap_line(got == want, fmt, ap);
        va_end(ap);
        if (got != want)
                print("# %s:%d: got 0x%lx, want 0x%lx\n", file, line, got, want);
        return got == want;
}

void skip(const char *reason, const char *fmt, ...) {
        char name[256];
        struct sink s = { .buf = name, .size = sizeof(name) };
        va_list ap;

        va_start(ap, fmt);
        sink_format(&s, fmt, ap);
        va_end(ap);
        tap.run++;
        print("ok %u - %s # SKIP %s\n", tap.run, name, reason);
}

void skip_all(const char *reason) {
        print("1..0 # SKIP %s\n", reason);
        guest_exit(0);
}

void bail_out(const char *fmt, ...) {
        char line[300];
        struct sink s = { .buf = line, .size = sizeof(line) };
        va_list ap;

        va_start(ap, fmt);
        sink_format(&s, fmt, ap);
        va_end(ap);
        print("Bail out! %s\n", line);
        guest_exit(1);
}

void guest_silent(void) {
        tap.silent = true;
}

/* A guest that tested nothing has failed, unless it said skip_all(). */
void guest_done(void) {
        if (!tap.silent)
                print("1..%u\n", tap.run);
        guest_exit(tap.failed > 0 || (tap.run == 0 && !tap.silent) ? 1 : 0);
}

void guest_exit(uint8_t value) {
        outb(EXIT_PORT, value);
        for (;;)
                __asm__ volatile("cli; hlt");
}

void cmdline_set(const char *text) {
        size_t n = strlen(text);

        if (n >= sizeof(cmdline))
                n = sizeof(cmdline) - 1;
        memcpy(cmdline, text, n);
        cmdline[n] = '\0';
}

/* The text after "KEY=", or NULL. */
const char *cmdline_find(const char *key) {
        size_t n = strlen(key);

        for (const char *p = cmdline; *p != '\0'; p++)
                if ((p == cmdline || p[-1] == ' ') && strncmp(p, key, n) == 0 && p[n] == '=')
                        return p + n + 1;
        return NULL;
}

uint64_t cmdline_number(const char *key, uint64_t otherwise) {
        const char *p = cmdline_find(key);
        uint64_t v = 0;

        if (p == NULL || *p < '0' || *p > '9')
                return otherwise;
        for (; *p >= '0' && *p <= '9'; p++)
                v = v * 10 + (uint64_t) (*p - '0');
        return v;
}
