/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "util/util.h"
#include "vtl/fault.h"
#include "vtl/insn-far.h"

#define RFLAGS_AC (1ull << 18)
#define EFER_LMA (1ull << 10)

/* Beside INSN_STOP: the search is over. */
#define FOUND 2

enum access_kind {
        ACCESS_READ = HV_INTERCEPT_ACCESS_READ,
        ACCESS_WRITE = HV_INTERCEPT_ACCESS_WRITE,
        ACCESS_EXECUTE = HV_INTERCEPT_ACCESS_EXECUTE,
};

struct scan {
        struct insn_cpu cpu;
        const struct walk_space *space;
        enum fault_cause cause; /* of the accesses that are being looked at */
        struct fault_access found;
        struct fault_access nested; /* the first entry that a nested walk would write and may not */
        bool have_nested;
};

static int found(struct scan *s, uint64_t gpa, uint64_t gva, enum access_kind kind,
                 enum fault_cause cause) {
        s->found = (struct fault_access){
                .gpa = gpa,
                .gva = gva,
                .gva_valid = true,
                .access = (enum hv_intercept_access) kind,
                .cause = cause,
        };
        return FOUND;
}

static unsigned rights(const struct scan *s, uint64_t gpa) {
        return s->space->rights(s->space->userdata, gpa >> HV_PAGE_SHIFT);
}

static unsigned walk_flags(const struct scan *s, unsigned cpl, bool implicit) {
        if (implicit)
                return WALK_IMPLICIT;
        return (cpl == 3 ? WALK_USER : 0) | (s->cpu.regs->rflags & RFLAGS_AC ? WALK_AC : 0);
}

/* The walk itself: each entry is read, and written where the CPU sets accessed and dirty bits. */
static int scan_walk(struct scan *s, const struct walk_result *w, uint64_t gva) {
        for (unsigned i = 0; i < w->n_entries; i++) {
                const struct walk_entry *e = &w->entries[i];
                unsigned r = rights(s, e->gpa);

                if (!(r & HV_MAP_GPA_READABLE))
                        return found(s, e->gpa, gva, ACCESS_READ, FAULT_PAGE_WALK);
                if (!(r & HV_MAP_GPA_WRITABLE) && !s->have_nested) {
                        s->have_nested = true;
                        s->nested = (struct fault_access){
                                .gpa = e->gpa,
                                .gva = gva,
                                .gva_valid = true,
                                .access = HV_INTERCEPT_ACCESS_WRITE,
                                .cause = FAULT_PAGE_WALK,
                                .nested_walk = true,
                        };
                }
        }
        if (w->fault != WALK_OK)
                return INSN_STOP;
        for (unsigned i = 0; i < w->n_entries; i++) {
                const struct walk_entry *e = &w->entries[i];

                if (e->sets && !(rights(s, e->gpa) & HV_MAP_GPA_WRITABLE))
                        return found(s, e->gpa, gva, ACCESS_WRITE, FAULT_PAGE_WALK);
        }
        return 0;
}

/* One access within one page. */
static int scan_page(struct scan *s, uint64_t gva, enum access_kind kind, unsigned flags) {
        struct walk_result w;
        unsigned need = HV_MAP_GPA_READABLE;
        int r;

        if (kind == ACCESS_WRITE) {
                flags |= WALK_WRITE;
                need = HV_MAP_GPA_WRITABLE;
        } else if (kind == ACCESS_EXECUTE)
                flags |= WALK_EXEC;

        r = walk(s->space, s->cpu.sregs, gva, flags, &w);
        if (r < 0)
                return r;
        r = scan_walk(s, &w, gva);
        if (r)
                return r;
        if (!(rights(s, w.gpa) & need) ||
            (kind == ACCESS_EXECUTE && s->space->no_execute &&
             s->space->no_execute(s->space->userdata, w.gpa >> HV_PAGE_SHIFT)))
                return found(s, w.gpa, gva, kind, s->cause);
        return 0;
}

/* Linear addresses wrap at 4 GiB outside long mode. */
static uint64_t wrap(const struct scan *s, uint64_t gva) {
        return s->cpu.sregs->efer & EFER_LMA ? gva : (uint32_t) gva;
}

static uint32_t in_page(uint64_t gva, uint32_t size) {
        return MIN(size, HV_PAGE_SIZE - (uint32_t) (gva & (HV_PAGE_SIZE - 1)));
}

static int on_access(void *userdata, const struct insn_access *a) {
        struct scan *s = userdata;
        uint64_t gva = a->gva;
        uint32_t left = a->size;
        int r;

        while (left) {
                uint32_t n = in_page(gva, left);

                r = scan_page(s, wrap(s, gva), a->type == INSN_WRITE ? ACCESS_WRITE : ACCESS_READ,
                              walk_flags(s, a->cpl, a->implicit));
                if (r)
                        return r;
                gva += n;
                left -= n;
        }
        return 0;
}

/*
 * Copies linear memory that has been looked at already, so only its place is needed; 0, INSN_STOP
 * or an errno.
 */
static int read_linear(struct scan *s, uint64_t gva, void *buf, uint32_t len, unsigned flags) {
        struct walk_result w;
        int r;

        for (uint32_t done = 0, n; done < len; done += n) {
                n = in_page(gva + done, len - done);
                r = walk(s->space, s->cpu.sregs, wrap(s, gva + done), flags, &w);
                if (r < 0)
                        return r;
                if (w.fault != WALK_OK)
                        return INSN_STOP;
                r = s->space->read(s->space->userdata, w.gpa, (uint8_t *) buf + done, n);
                if (r == -EFAULT)
                        return INSN_STOP;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int on_read(void *userdata, uint64_t gva, void *buf, uint32_t len, bool implicit) {
        struct scan *s = userdata;

        return read_linear(s, gva, buf, len, walk_flags(s, insn_cpl(&s->cpu), implicit));
}

/* ---- Event delivery ---- */

static bool event_injected(const struct kvm_vcpu_events *e) {
        return e->exception.injected || e->nmi.injected || e->interrupt.injected;
}

static int scan_event(struct scan *s, const struct kvm_vcpu_events *e, const struct insn_env *env) {
        s->cause = FAULT_EVENT_DELIVERY;
        if (e->exception.injected)
                return insn_interrupt(&s->cpu, env, e->exception.nr, e->exception.has_error_code,
                                      false);
        if (e->nmi.injected)
                return insn_interrupt(&s->cpu, env, 2, false, false);
        return insn_interrupt(&s->cpu, env, e->interrupt.nr, false, e->interrupt.soft);
}

/* ---- The instruction ---- */

/* Reads the instruction, page by page as far as it goes; 0 with @ret_len bytes in @buf. */
static int scan_fetch(struct scan *s, uint8_t buf[INSN_MAX_LENGTH], unsigned *ret_len) {
        unsigned flags = walk_flags(s, insn_cpl(&s->cpu), false), n = 0;
        uint64_t gva = insn_address(&s->cpu);
        int r, length;

        s->cause = FAULT_FETCH;
        for (unsigned page = 0; page < 2 && n < INSN_MAX_LENGTH; page++) {
                uint32_t more = in_page(gva + n, INSN_MAX_LENGTH - n);

                r = scan_page(s, wrap(s, gva + n), ACCESS_EXECUTE, flags);
                if (r)
                        return r;
                r = read_linear(s, gva + n, buf + n, more, flags | WALK_EXEC);
                if (r)
                        return r;
                n += more;
                length = insn_length(&s->cpu, buf, n);
                if (length) {
                        *ret_len = length > 0 ? length : 0;
                        return length > 0 ? 0 : INSN_STOP;
                }
        }
        return INSN_STOP;
}

static int scan_instruction(struct scan *s, const struct insn_env *env) {
        uint8_t buf[INSN_MAX_LENGTH];
        unsigned length;
        int r;

        r = scan_fetch(s, buf, &length);
        if (r)
                return r;
        s->cause = FAULT_INSTRUCTION;
        /* For those who want to know though nothing is found. */
        s->found.insn_len = (uint8_t) length;
        memcpy(s->found.insn_bytes, buf, length);
        r = insn_visit(&s->cpu, buf, length, env);
        if (r == -EBADMSG)
                return INSN_STOP;

        /* What is only known about the walk belongs to the instruction too. */
        s->found.insn_len = s->nested.insn_len = length;
        s->found.insn_byte_count = s->nested.insn_byte_count = length;
        memcpy(s->found.insn_bytes, buf, length);
        memcpy(s->nested.insn_bytes, buf, length);
        return r;
}

static struct scan scan_of(const struct fault_cpu *cpu, const struct walk_space *space) {
        return (struct scan){
                .cpu = {
                        .regs = cpu->regs,
                        .sregs = cpu->sregs,
                        .vectors = cpu->vectors,
                        .xsave_size = cpu->xsave_size,
                },
                .space = space,
        };
}

static int scan_all(struct scan *s, const struct kvm_vcpu_events *events) {
        const struct insn_env env = { .access = on_access, .read = on_read, .userdata = s };

        return event_injected(events) ? scan_event(s, events, &env) : scan_instruction(s, &env);
}

int fault_find(const struct fault_cpu *cpu, const struct walk_space *space,
               struct fault_access *ret) {
        struct scan s = scan_of(cpu, space);
        int r = scan_all(&s, cpu->events);

        if (r < 0)
                return r;
        if (r == FOUND) {
                *ret = s.found;
                return 1;
        }
        if (s.have_nested) {
                *ret = s.nested;
                return 1;
        }
        return 0;
}

static unsigned all_rights(void *userdata, uint64_t gpn) {
        return HV_MAP_GPA_ALL;
}

int fault_fetch(const struct fault_cpu *cpu, const struct walk_space *space,
                struct fault_access *ret) {
        const struct walk_space open = { .read = space->read,
                                         .rights = all_rights,
                                         .userdata = space->userdata };
        struct scan s = { .cpu = { .regs = cpu->regs, .sregs = cpu->sregs }, .space = &open };
        uint8_t buf[INSN_MAX_LENGTH];
        unsigned length = 0;
        int r;

        r = scan_fetch(&s, buf, &length);
        if (r < 0)
                return r;
        ret->insn_len = ret->insn_byte_count = r == 0 ? (uint8_t) length : 0;
        memcpy(ret->insn_bytes, buf, ret->insn_len);
        return 0;
}

/* ---- All pages, forbidden or not ---- */

struct recorder {
        const struct walk_space *space;
        struct fault_touched *touched;
};

static int record_read(void *userdata, uint64_t gpa, void *buf, uint32_t len) {
        const struct recorder *r = userdata;

        return r->space->read(r->space->userdata, gpa, buf, len);
}

bool fault_touches(const struct fault_touched *t, uint64_t gpn) {
        for (size_t i = 0; i < t->n; i++)
                if (t->gpns[i] == gpn)
                        return true;
        return false;
}

static unsigned record_page(void *userdata, uint64_t gpn) {
        struct fault_touched *t = ((struct recorder *) userdata)->touched;

        if (fault_touches(t, gpn))
                return HV_MAP_GPA_ALL;
        if (t->n == ARRAY_SIZE(t->gpns))
                t->overflow = true;
        else
                t->gpns[t->n++] = gpn;
        return HV_MAP_GPA_ALL;
}

static unsigned event_vector(const struct kvm_vcpu_events *e) {
        if (e->exception.injected)
                return e->exception.nr;
        return e->nmi.injected ? 2 : e->interrupt.nr;
}

int fault_touched(const struct fault_cpu *cpu, const struct walk_space *space,
                  struct fault_touched *ret) {
        struct recorder rec = { .space = space, .touched = ret };
        const struct walk_space all = { .read = record_read,
                                        .rights = record_page,
                                        .userdata = &rec };
        struct scan s = scan_of(cpu, &all);
        int r;

        *ret = (struct fault_touched){ 0 };
        r = scan_all(&s, cpu->events);
        if (r < 0)
                return r;
        if (event_injected(cpu->events))
                ret->insn = (struct insn_step){ .kind = INSN_KIND_INTERRUPT,
                                                .vector = event_vector(cpu->events) };
        else
                ret->insn = insn_step(&s.cpu, s.found.insn_bytes, s.found.insn_len);
        return 0;
}
