/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Finding the forbidden access: what is reported for each way of touching a page that is closed. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "util/util.h"
#include "vtl/fault.h"

#include "tiny-guest.h"

#define NONE 0u
#define RO HV_MAP_GPA_READABLE

static int setup(void **state) {
        *state = malloc(sizeof(struct tiny_guest));
        return *state ? 0 : -1;
}

static int teardown(void **state) {
        free(*state);
        return 0;
}

static int find(struct tiny_guest *g, struct fault_access *ret) {
        struct walk_space space = tiny_space(g);
        struct fault_cpu cpu = {
                .regs = &g->regs,
                .sregs = &g->sregs,
                .events = &g->events,
                .vectors = g->have_vectors ? &g->vectors : NULL,
        };

        return fault_find(&cpu, &space, ret);
}

/* The report as text: "access gpa gva cause length", or "nothing". */
static void expect(struct tiny_guest *g, const char *want) {
        static const char *const accesses[] = { "read", "write", "execute" };
        static const char *const causes[] = {
                [FAULT_INSTRUCTION] = "instruction",
                [FAULT_FETCH] = "fetch",
                [FAULT_PAGE_WALK] = "walk",
                [FAULT_EVENT_DELIVERY] = "event",
        };
        struct fault_access a;
        char text[160] = "nothing";
        int r;

        memset(&a, 0xa5, sizeof(a));
        r = find(g, &a);
        assert_in_range(r, 0, 1);
        if (r) {
                assert_true(a.gva_valid);
                assert_int_equal(a.insn_len, a.insn_byte_count);
                /* Code lies where it is mapped, but for what crosses into the next page. */
                if (g->regs.rip == TINY_CODE)
                        assert_memory_equal(a.insn_bytes, g->ram + TINY_CODE, a.insn_byte_count);
                for (unsigned i = a.insn_byte_count; i < sizeof(a.insn_bytes); i++)
                        assert_int_equal(a.insn_bytes[i], 0);
                snprintf(text, sizeof(text), "%s %llx %llx %s%s %u", accesses[a.access],
                         (unsigned long long) a.gpa, (unsigned long long) a.gva, causes[a.cause],
                         a.nested_walk ? " nested" : "", a.insn_len);
        }
        if (strcmp(text, want))
                fail_msg("got \"%s\", want \"%s\"", text, want);
}

#define code(g, ...)                                            \
        do {                                                    \
                static const uint8_t code_[] = { __VA_ARGS__ }; \
                tiny_put(g, TINY_CODE, code_, sizeof(code_));   \
        } while (0)

static const uint8_t store[] = { 0x89, 0x04, 0x25, 0x00, 0x00, 0x10, 0x00 }; /* mov [DATA], eax */
static const uint8_t load[] = { 0x8b, 0x04, 0x25, 0x00, 0x00, 0x10, 0x00 };

static void put_store(struct tiny_guest *g) {
        tiny_put(g, TINY_CODE, store, sizeof(store));
}

static void put_load(struct tiny_guest *g) {
        tiny_put(g, TINY_CODE, load, sizeof(load));
}

static void test_load_and_store(void **state) {
        struct tiny_guest *g = *state;
        struct fault_access a;

        tiny_long(g);
        put_store(g);
        expect(g, "nothing");
        tiny_protect(g, TINY_DATA, RO);
        expect(g, "write 100000 100000 instruction 7");
        assert_int_equal(find(g, &a), 1);
        assert_memory_equal(a.insn_bytes, store, sizeof(store));
        tiny_protect(g, TINY_DATA, NONE);
        expect(g, "write 100000 100000 instruction 7");

        put_load(g);
        expect(g, "read 100000 100000 instruction 7");
        tiny_protect(g, TINY_DATA, RO);
        expect(g, "nothing");

        /* Without execute rights nothing is forbidden. */
        tiny_protect(g, TINY_CODE, RO | HV_MAP_GPA_WRITABLE);
        expect(g, "nothing");

        /* The linear address is not the physical one. */
        tiny_put64(g, TINY_PT + 0x100 * 8, TINY_DATA2 | TINY_PTE);
        tiny_protect(g, TINY_DATA, NONE);
        expect(g, "nothing");
        tiny_protect(g, TINY_DATA2, NONE);
        expect(g, "read 200000 100000 instruction 7");
}

static void test_straddling(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        code(g, 0x48, 0x89, 0x08); /* mov [rax], rcx */
        g->regs.rax = TINY_DATA + 0xffc;
        tiny_protect(g, TINY_DATA + 0x1000, RO);
        expect(g, "write 101000 101000 instruction 3");
        tiny_protect(g, TINY_DATA, RO);
        expect(g, "write 100ffc 100ffc instruction 3");
        tiny_protect(g, TINY_DATA, HV_MAP_GPA_ALL);

        /* The halves lie in unrelated pages. */
        tiny_put64(g, TINY_PT + 0x101 * 8, TINY_DATA2 | TINY_PTE);
        expect(g, "nothing");
        tiny_protect(g, TINY_DATA2, RO);
        expect(g, "write 200000 101000 instruction 3");
}

static void test_order(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rsi = TINY_DATA;
        g->regs.rdi = TINY_DATA + 0x1000;
        code(g, 0xa4); /* movsb reads first */
        tiny_protect(g, TINY_DATA + 0x1000, NONE);
        expect(g, "write 101000 101000 instruction 1");
        tiny_protect(g, TINY_DATA, NONE);
        expect(g, "read 100000 100000 instruction 1");

        /* rep movsq, stopped at the boundary: the next element is the one */
        tiny_protect(g, TINY_DATA, HV_MAP_GPA_ALL);
        code(g, 0xf3, 0x48, 0xa5);
        g->regs.rcx = 6;
        expect(g, "write 101000 101000 instruction 3");
        g->regs.rdi = TINY_DATA + 0xff0;
        expect(g, "nothing");
        g->regs.rcx = 0;
        g->regs.rdi = TINY_DATA + 0x1000;
        expect(g, "nothing");

        /* Behind an access that raises #PF nothing happens. */
        code(g, 0xff, 0x30); /* push [rax] */
        tiny_protect(g, TINY_STACK - 0x1000, NONE);
        g->regs.rax = TINY_DATA;
        expect(g, "write 1fff8 1fff8 instruction 2");
        tiny_put64(g, TINY_PT + 0x100 * 8, 0);
        expect(g, "nothing");
        g->regs.rax = 0x0000900000000000;
        expect(g, "nothing");
}

static void test_stack_and_calls(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        tiny_protect(g, TINY_STACK - 0x1000, RO);
        code(g, 0x50);
        expect(g, "write 1fff8 1fff8 instruction 1");
        code(g, 0xe8, 0, 0, 0, 0);
        expect(g, "write 1fff8 1fff8 instruction 5");
        code(g, 0x58);
        expect(g, "nothing");
        tiny_protect(g, TINY_STACK, NONE);
        expect(g, "read 20000 20000 instruction 1");
        code(g, 0xcd, 0x50); /* int 0x50 */
        expect(g, "write 1fff8 1fff8 instruction 2");
        code(g, 0xcc);
        expect(g, "write 1fff8 1fff8 instruction 1");
        tiny_protect(g, TINY_IDT, NONE);
        expect(g, "read 9030 9030 instruction 1");
        code(g, 0x48, 0xcf); /* iretq */
        expect(g, "read 20000 20000 instruction 2");
}

static void test_tables(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        tiny_protect(g, TINY_GDT, NONE);
        code(g, 0x8e, 0xc0); /* mov es, ax */
        g->regs.rax = TINY_FRESH;
        expect(g, "read 8058 8058 instruction 2");
        tiny_protect(g, TINY_GDT, RO);
        expect(g, "write 805d 805d instruction 2");
        g->regs.rax = TINY_SS;
        expect(g, "nothing");

        /* Table accesses are the supervisor's, at CPL 3 too. */
        tiny_user(g);
        tiny_put64(g, TINY_PT + (TINY_GDT >> 12) * 8, TINY_GDT | 0x63);
        tiny_protect(g, TINY_GDT, NONE);
        g->regs.rax = TINY_USER_SS;
        code(g, 0x8e, 0xc0);
        expect(g, "read 8020 8020 instruction 2");
        tiny_protect(g, TINY_GDT, HV_MAP_GPA_ALL);

        /* They are read so too, and a selector over a page boundary is put together. */
        g->regs.rax = TINY_FRESH;
        tiny_protect(g, TINY_GDT, RO);
        expect(g, "write 805d 805d instruction 2");
        code(g, 0x8e, 0x00); /* mov es, [rax] */
        g->regs.rax = TINY_DATA + 0xfff;
        g->ram[TINY_DATA + 0xfff] = TINY_FRESH;
        g->sregs.cr4 |= 1ull << 21;
        expect(g, "write 805d 805d instruction 2");

        /* sgdt to a page that may not be written */
        tiny_long(g);
        code(g, 0x0f, 0x01, 0x00);
        g->regs.rax = TINY_DATA;
        tiny_protect(g, TINY_DATA, RO);
        expect(g, "write 100000 100000 instruction 3");
}

static void test_string_ports(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rsi = g->regs.rdi = TINY_DATA;
        tiny_protect(g, TINY_DATA, NONE);
        code(g, 0x6c);
        expect(g, "write 100000 100000 instruction 1");
        code(g, 0x6e);
        expect(g, "read 100000 100000 instruction 1");
}

static void test_fetch(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        tiny_protect(g, TINY_CODE, NONE);
        put_store(g);
        expect(g, "execute 10000 10000 fetch 0");
        g->regs.rip = TINY_CODE + 0x123;
        expect(g, "execute 10123 10123 fetch 0");

        /* movabs rax over a page boundary: the second page is the forbidden one */
        tiny_long(g);
        g->ram[TINY_CODE + 0xffe] = 0x48;
        g->ram[TINY_CODE + 0xfff] = 0xb8;
        g->regs.rip = TINY_CODE + 0xffe;
        tiny_protect(g, TINY_CODE + 0x1000, NONE);
        expect(g, "execute 11000 11000 fetch 0");

        /* An instruction that ends with the page does not need the next one. */
        g->ram[TINY_CODE + 0xffe] = 0x66;
        g->ram[TINY_CODE + 0xfff] = 0x90;
        expect(g, "nothing");

        /* What follows is read from where the next page lies: mov [DATA], eax. */
        tiny_put(g, TINY_CODE + 0xffd, store, 3);
        tiny_put(g, TINY_DATA2, store + 3, 4);
        tiny_put64(g, TINY_PT + (TINY_CODE / 0x1000 + 1) * 8, TINY_DATA2 | TINY_PTE);
        g->regs.rip = TINY_CODE + 0xffd;
        tiny_protect(g, TINY_DATA, RO);
        expect(g, "write 100000 100000 instruction 7");
        g->ram[TINY_CODE + 0xffd] = 0x66;
        g->ram[TINY_CODE + 0xffe] = 0x66;

        /* What cannot be decoded, or lies outside RAM, leaves the fetch alone. */
        g->ram[TINY_CODE + 0xfff] = 0x06;
        expect(g, "nothing");
        tiny_put64(g, TINY_PT + (TINY_CODE >> 12) * 8, 0xfee00000 | TINY_PTE);
        expect(g, "nothing");
        g->regs.rip = 0x8000000000000000;
        expect(g, "nothing");
}

/* What the guest's own page tables forbid is an exception of the guest, not an intercept. */
static void test_guest_permissions(void **state) {
        struct tiny_guest *g = *state;

        tiny_user(g);
        put_load(g);
        tiny_protect(g, TINY_DATA, NONE);
        expect(g, "read 100000 100000 instruction 7");
        tiny_put64(g, TINY_PT + 0x100 * 8, TINY_DATA | 0x63);
        expect(g, "nothing");
        tiny_protect(g, TINY_CODE, NONE);
        expect(g, "execute 10000 10000 fetch 0");
        tiny_put64(g, TINY_PT + 0x10 * 8, TINY_CODE | 0x63);
        expect(g, "nothing");

        /* SMAP, lifted by AC */
        tiny_long(g);
        put_load(g);
        tiny_protect(g, TINY_DATA, NONE);
        g->sregs.cr4 |= 1ull << 21;
        expect(g, "nothing");
        g->regs.rflags |= 1 << 18;
        expect(g, "read 100000 100000 instruction 7");
}

static void test_page_walk(void **state) {
        struct tiny_guest *g = *state;

        /* No table may be read: each level in turn. */
        static const struct {
                uint64_t table;
                const char *want;
        } levels[] = {
                { TINY_PML4, "read 2000 10000 walk 0" },
                { TINY_PDPT, "read 3000 10000 walk 0" },
                { TINY_PD, "read 4000 10000 walk 0" },
                { TINY_PT, "read 5080 10000 walk 0" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
                tiny_long(g);
                put_load(g);
                tiny_protect(g, levels[i].table, NONE);
                expect(g, levels[i].want);
        }

        /* The operand's table alone */
        tiny_long(g);
        code(g, 0x8b, 0x04, 0x25, 0x08, 0x00, 0x20, 0x00); /* mov eax, [DATA2 + 8] */
        tiny_protect(g, TINY_PT2, NONE);
        expect(g, "read 6000 200008 walk 7");

        /* Read-only with the accessed bit clear, then the dirty bit */
        tiny_protect(g, TINY_PT2, RO);
        tiny_put64(g, TINY_PT2, TINY_DATA2 | 0x43);
        expect(g, "write 6000 200008 walk 7");
        tiny_put64(g, TINY_PT2, TINY_DATA2 | 0x23);
        expect(g, "write 6000 200008 walk nested 7");
        g->ram[TINY_CODE] = 0x89;
        expect(g, "write 6000 200008 walk 7");
        tiny_put64(g, TINY_PT2, TINY_DATA2 | 0x63);
        expect(g, "write 6000 200008 walk nested 7");

        /* A forbidden access goes before what is not forbidden by the mask. */
        tiny_protect(g, TINY_DATA2, RO);
        expect(g, "write 200008 200008 instruction 7");

        /* A table of the fetch comes first, and a walk that ends in #PF counts. */
        tiny_protect(g, TINY_DATA2, HV_MAP_GPA_ALL);
        tiny_protect(g, TINY_PD, RO);
        expect(g, "write 4000 10000 walk nested 7");
        tiny_protect(g, TINY_PD, HV_MAP_GPA_ALL);
        tiny_put64(g, TINY_PT2, 0);
        expect(g, "write 6000 200008 walk nested 7");
        tiny_protect(g, TINY_PT2, NONE);
        expect(g, "read 6000 200008 walk 7");

        /* The accessed bit of an upper level */
        tiny_long(g);
        put_load(g);
        tiny_put64(g, TINY_PD, TINY_PT | 7);
        tiny_protect(g, TINY_PD, RO);
        expect(g, "write 4000 10000 walk 0");
}

static void test_event_delivery(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        put_store(g);
        tiny_protect(g, TINY_DATA, NONE); /* the innocent instruction would touch it */
        g->events.interrupt.injected = 1;
        g->events.interrupt.nr = 0x40;
        expect(g, "nothing");
        tiny_protect(g, TINY_STACK - 0x1000, RO);
        expect(g, "write 1fff8 1fff8 event 0");
        tiny_protect(g, TINY_GDT, NONE);
        expect(g, "read 8008 8008 event 0");
        tiny_protect(g, TINY_IDT, NONE);
        expect(g, "read 9400 9400 event 0");

        /* Accessed bit of the handler's code segment */
        tiny_long(g);
        g->events.nmi.injected = 1;
        tiny_put64(g, TINY_GDT + TINY_CS64, 0x00af9a000000ffffull);
        tiny_protect(g, TINY_GDT, RO);
        expect(g, "write 800d 800d event 0");

        /* To an inner level: the TSS, then its stack */
        tiny_user(g);
        g->events.exception.injected = 1;
        g->events.exception.nr = 14;
        g->events.exception.has_error_code = 1;
        tiny_protect(g, TINY_STACK - 0x1000, NONE);
        expect(g, "nothing");
        tiny_protect(g, TINY_RSP0 - 0x1000, RO);
        expect(g, "write 27ff8 27ff8 event 0");
        tiny_protect(g, TINY_TSS, NONE);
        expect(g, "read a004 a004 event 0");

        /* The error code is what crosses into the closed page. */
        tiny_long(g);
        g->regs.rsp = TINY_STACK + 0x28;
        tiny_protect(g, TINY_STACK - 0x1000, RO);
        g->events.exception.injected = 1;
        g->events.exception.nr = 13;
        g->regs.rsp &= ~15ull;
        expect(g, "write 1fff8 1fff8 event 0");
        g->regs.rsp = TINY_STACK + 0x30;
        expect(g, "nothing");
        g->events.exception.has_error_code = 1;
        expect(g, "nothing");
        g->regs.rsp = TINY_STACK + 0x20;
        expect(g, "write 1fff8 1fff8 event 0");

        /* An interrupt stack, and a walk on the way to it */
        tiny_long(g);
        g->events.exception.injected = 1;
        g->events.exception.nr = 0x11;
        tiny_protect(g, TINY_IST1 - 0x1000, RO);
        expect(g, "write 2bff8 2bff8 event 0");
        tiny_put64(g, TINY_PT + ((TINY_IST1 >> 12) - 1) * 8, (TINY_IST1 - 0x1000) | 0x27);
        tiny_protect(g, TINY_PT, RO);
        expect(g, "write 5158 2bff8 walk 0");
        tiny_put64(g, TINY_PT + ((TINY_IST1 >> 12) - 1) * 8, (TINY_IST1 - 0x1000) | TINY_PTE);
        tiny_protect(g, TINY_IST1 - 0x1000, HV_MAP_GPA_ALL);
        expect(g, "write 5048 9110 walk nested 0");
}

static void test_event_delivery_32(void **state) {
        struct tiny_guest *g = *state;

        tiny_user32(g);
        g->events.interrupt.injected = 1;
        g->events.interrupt.nr = 0x40;
        expect(g, "nothing");
        tiny_protect(g, TINY_RSP0 - 0x1000, RO);
        expect(g, "write 27ffc 27ffc event 0");
        tiny_protect(g, TINY_TSS, NONE);
        expect(g, "read a004 a004 event 0");
        tiny_protect(g, TINY_IDT, NONE);
        expect(g, "read 9200 9200 event 0");

        /* An error code or none: the fourth dword is the one in the closed page. */
        tiny_flat32(g);
        g->regs.rsp = TINY_STACK + 12;
        tiny_protect(g, TINY_STACK - 0x1000, RO);
        g->events.interrupt.injected = 1;
        g->events.interrupt.nr = 0x40;
        expect(g, "nothing");
        g->events.interrupt.injected = 0;
        g->events.exception.injected = 1;
        g->events.exception.nr = 13;
        expect(g, "nothing");
        g->events.exception.has_error_code = 1;
        expect(g, "write 1fffc 1fffc event 0");

        tiny_real(g);
        g->events.interrupt.injected = 1;
        g->events.interrupt.nr = 8;
        tiny_protect(g, TINY_CODE + 0x7000, RO);
        expect(g, "write 17ffe 17ffe event 0");
        tiny_protect(g, 0, NONE);
        expect(g, "read 20 20 event 0");
}

static void test_without_paging(void **state) {
        struct tiny_guest *g = *state;

        tiny_flat32(g);
        code(g, 0x89, 0x03); /* mov [ebx], eax */
        g->regs.rbx = 0xffffffff00100abc;
        tiny_protect(g, TINY_DATA, RO);
        expect(g, "write 100abc 100abc instruction 2");

        tiny_real(g);
        code(g, 0x89, 0x07); /* mov [bx], ax */
        g->regs.rbx = 0x10ff0;
        tiny_protect(g, TINY_STACK, RO);
        expect(g, "write 20ff0 20ff0 instruction 2");
        tiny_protect(g, TINY_CODE, NONE);
        expect(g, "execute 10000 10000 fetch 0");
}

static void test_pae(void **state) {
        struct tiny_guest *g = *state;

        tiny_flat32(g);
        tiny_tables64(g);
        tiny_put64(g, TINY_PDPT, TINY_PD | 1);
        g->sregs.cr0 |= 1ull << 31;
        g->sregs.cr3 = TINY_PDPT;
        g->sregs.cr4 = 0x20;
        code(g, 0x89, 0x03);
        g->regs.rbx = TINY_DATA + 0xabc;
        expect(g, "nothing");
        tiny_protect(g, TINY_DATA, RO);
        expect(g, "write 100abc 100abc instruction 2");
        tiny_protect(g, TINY_PD, NONE);
        expect(g, "read 4000 10000 walk 0");
        tiny_protect(g, TINY_PDPT, NONE);
        expect(g, "read 3000 10000 walk 0");
}

static void test_wrap(void **state) {
        struct tiny_guest *g = *state;

        /* A 32-bit operand that straddles 4 GiB goes on at 0. */
        tiny_flat32(g);
        code(g, 0x89, 0x03);
        g->regs.rbx = 0xfffffffe;
        tiny_protect(g, 0, RO);
        expect(g, "write 0 0 instruction 2");
}

static void test_vectors(void **state) {
        struct tiny_guest *g = *state;
        struct fault_access a;
        uint32_t far = 0x1000;

        tiny_long(g);
        code(g, 0xc4, 0xe2, 0x69, 0x90, 0x04, 0x08); /* vpgatherdd xmm0, [rax+xmm1], xmm2 */
        g->regs.rax = TINY_DATA;
        assert_int_equal(find(g, &a), -ENODATA);
        g->have_vectors = true;
        memset(g->vectors.reg[2], 0x80, 16);
        memcpy(&g->vectors.reg[1][8], &far, 4);
        expect(g, "nothing");
        tiny_protect(g, TINY_DATA + 0x1000, NONE);
        expect(g, "read 101000 101000 instruction 6");
        g->vectors.reg[2][11] = 0;
        expect(g, "nothing");
}

static void test_large_areas(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        code(g, 0x0f, 0xae, 0x23); /* xsave [rbx] */
        g->regs.rax = 7;
        g->regs.rbx = TINY_DATA + 0xd00;
        tiny_protect(g, TINY_DATA + 0x1000, RO);
        expect(g, "write 101000 101000 instruction 3");
        g->regs.rax = 3;
        g->regs.rbx = TINY_DATA + 0xdc0;
        expect(g, "nothing");
        g->regs.rax = 7;
        expect(g, "write 101000 101000 instruction 3");
}

static void test_host_failure(void **state) {
        struct tiny_guest *g = *state;
        struct fault_access a;

        tiny_long(g);
        put_store(g);
        g->read_error = -EIO;
        assert_int_equal(find(g, &a), -EIO);

        /* Page tables that are not RAM end the walk. */
        g->read_error = 0;
        g->sregs.cr3 = 0x40000000;
        expect(g, "nothing");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_load_and_store),
                cmocka_unit_test(test_straddling),
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_stack_and_calls),
                cmocka_unit_test(test_tables),
                cmocka_unit_test(test_string_ports),
                cmocka_unit_test(test_fetch),
                cmocka_unit_test(test_page_walk),
                cmocka_unit_test(test_guest_permissions),
                cmocka_unit_test(test_event_delivery),
                cmocka_unit_test(test_event_delivery_32),
                cmocka_unit_test(test_without_paging),
                cmocka_unit_test(test_pae),
                cmocka_unit_test(test_wrap),
                cmocka_unit_test(test_vectors),
                cmocka_unit_test(test_large_areas),
                cmocka_unit_test(test_host_failure),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("fault", tests, setup, teardown);
}
