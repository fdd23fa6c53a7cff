/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TranslateVirtualAddress and its Ex form (vsm.md 3.9, 3.10): every result code, by VTL0 for itself
 * and by VTL1 for VTL0 and itself.
 */
#include "lib/hv.h"

#define READ (1ull << 0)
#define WRITE (1ull << 1)
#define EXECUTE (1ull << 2)
#define EXEMPT (1ull << 3)
#define SET_BITS (1ull << 4)
#define INHIBIT (1ull << 5)
#define SUPERVISOR (1ull << 6)
#define USER (1ull << 7)

enum result {
        SUCCESS = 0,
        NOT_PRESENT = 1,
        PRIVILEGE = 2,
        BAD_FLAGS = 3,
        UNMAPPED = 4,
        NO_READ = 5,
        NO_WRITE = 6,
};

#define NONE UINT64_MAX /* no GPA */

/* Pages of the window, by VTL0's tables */
enum {
        PLAIN = 1,
        MOVED, /* mapped to TARGET */
        TARGET,
        ABSENT,
        KERNEL, /* no user access */
        READ_ONLY,
        NO_EXECUTE,
        OPEN, /* protections by VTL1 */
        SHUT,
        READABLE,
        FRESH, /* neither accessed nor dirty */
};

#define RESERVED_BITS (400ul << 20) /* a large page whose entry has a reserved bit */

struct translate_in {
        uint64_t partition;
        uint32_t vp, reserved;
        uint64_t flags, page;
} __attribute__((packed));

struct translate_out {
        uint32_t result;
        uint8_t cache, overlay;
        uint16_t reserved;
        uint64_t page;
} __attribute__((packed));

struct request {
        uint64_t partition;
        uint32_t vp;
        uint64_t flags, gva;
        unsigned status;
        struct translate_out out;
};

static uint64_t call(uint64_t arg) {
        struct request *r = (struct request *) arg;
        struct translate_in *in = (void *) this_cpu()->in;

        *in = (struct translate_in){
                .partition = r->partition, .vp = r->vp, .flags = r->flags, .page = r->gva >> 12
        };
        memset(this_cpu()->out, 0xaa, sizeof(r->out));
        r->status = HV_RESULT_STATUS(hv_call_memory(HVCALL_TRANSLATE_VIRTUAL_ADDRESS));
        memcpy(&r->out, this_cpu()->out, sizeof(r->out));
        return r->status;
}

/* Who asks for whom: [0] VTL0 for itself, [1] VTL1 for VTL0, [2] VTL1 for itself */
static const struct {
        const char *name;
        unsigned by;
        uint8_t vtl;
} ways[] = {
        { "VTL0", 0, VTL_SELF },
        { "VTL1 for VTL0", 1, VTL0 },
        { "VTL1", 1, VTL_SELF },
};

static struct request ask(unsigned way, uint64_t flags, uint64_t gva) {
        struct request r = { .partition = HV_PARTITION_ID_SELF,
                             .vp = HV_VP_INDEX_SELF,
                             .flags = flags | (uint64_t) ways[way].vtl << 56,
                             .gva = gva };

        if (ways[way].by == 0)
                call((uint64_t) &r);
        else
                vtl1_run(call, (uint64_t) &r);
        return r;
}

static uint64_t *pte(unsigned page) {
        return &boot_pt_window[page];
}

static void change(unsigned page, uint64_t set, uint64_t clear) {
        *pte(page) = (*pte(page) & ~clear) | set;
        invlpg(WINDOW_PAGE(page));
}

#define PAGE(n) (WINDOW + (n) *4096ull)

static const struct {
        const char *name;
        uint64_t flags, gva;
        enum result vtl0, vtl1; /* VTL1's own tables know nothing of VTL0's rights */
        uint64_t gpa0, gpa1;    /* NONE: not looked at */
} rows[] = {
        { "a page, read", READ, PAGE(PLAIN), SUCCESS, SUCCESS, PAGE(PLAIN), PAGE(PLAIN) },
        { "written", WRITE, PAGE(PLAIN), SUCCESS, SUCCESS, PAGE(PLAIN), PAGE(PLAIN) },
        { "executed", EXECUTE, PAGE(PLAIN), SUCCESS, SUCCESS, PAGE(PLAIN), PAGE(PLAIN) },
        { "only translated", 0, PAGE(PLAIN), SUCCESS, SUCCESS, PAGE(PLAIN), PAGE(PLAIN) },
        { "mapped elsewhere", READ, PAGE(MOVED), SUCCESS, SUCCESS, PAGE(TARGET), PAGE(MOVED) },
        { "not present", READ, PAGE(ABSENT), NOT_PRESENT, SUCCESS, NONE, PAGE(ABSENT) },
        { "not present, exempt", READ | EXEMPT, PAGE(ABSENT), NOT_PRESENT, SUCCESS, NONE,
          PAGE(ABSENT) },
        { "not canonical", READ, 1ull << 47, NOT_PRESENT, NOT_PRESENT, NONE, NONE },
        { "beyond the tables", READ, 1ull << 40, NOT_PRESENT, NOT_PRESENT, NONE, NONE },
        { "a reserved bit", READ, RESERVED_BITS, BAD_FLAGS, SUCCESS, NONE, RESERVED_BITS },
        { "kernel's, by the kernel", READ, PAGE(KERNEL), SUCCESS, SUCCESS, PAGE(KERNEL),
          PAGE(KERNEL) },
        { "kernel's, as a user", READ | USER, PAGE(KERNEL), PRIVILEGE, SUCCESS, NONE,
          PAGE(KERNEL) },
        { "kernel's, as a supervisor", READ | SUPERVISOR, PAGE(KERNEL), SUCCESS, SUCCESS,
          PAGE(KERNEL), PAGE(KERNEL) },
        { "kernel's, as a user, exempt", READ | USER | EXEMPT, PAGE(KERNEL), SUCCESS, SUCCESS,
          PAGE(KERNEL), PAGE(KERNEL) },
        { "user's, as a user", READ | WRITE | USER, PAGE(PLAIN), SUCCESS, SUCCESS, PAGE(PLAIN),
          PAGE(PLAIN) },
        { "read-only, read", READ, PAGE(READ_ONLY), SUCCESS, SUCCESS, PAGE(READ_ONLY),
          PAGE(READ_ONLY) },
        { "read-only, written", WRITE, PAGE(READ_ONLY), PRIVILEGE, SUCCESS, NONE, PAGE(READ_ONLY) },
        { "read-only, written by a user", WRITE | USER, PAGE(READ_ONLY), PRIVILEGE, SUCCESS, NONE,
          PAGE(READ_ONLY) },
        { "no-execute, read", READ, PAGE(NO_EXECUTE), SUCCESS, SUCCESS, PAGE(NO_EXECUTE),
          PAGE(NO_EXECUTE) },
        { "no-execute, executed", EXECUTE, PAGE(NO_EXECUTE), PRIVILEGE, SUCCESS, NONE,
          PAGE(NO_EXECUTE) },
        { "a GPA that is not RAM", READ, MMIO_HOLE, UNMAPPED, UNMAPPED, NONE, NONE },
        { "the APIC's", READ, XAPIC_BASE, UNMAPPED, UNMAPPED, NONE, NONE },
        { "open to VTL0, written", READ | WRITE, PAGE(OPEN), SUCCESS, SUCCESS, PAGE(OPEN),
          PAGE(OPEN) },
        { "closed to VTL0, read", READ, PAGE(SHUT), NO_READ, SUCCESS, NONE, PAGE(SHUT) },
        { "closed to VTL0, written", WRITE, PAGE(SHUT), NO_WRITE, SUCCESS, NONE, PAGE(SHUT) },
        { "closed to VTL0, only translated", 0, PAGE(SHUT), SUCCESS, SUCCESS, PAGE(SHUT),
          PAGE(SHUT) },
        { "readable to VTL0, read", READ, PAGE(READABLE), SUCCESS, SUCCESS, PAGE(READABLE),
          PAGE(READABLE) },
        { "readable to VTL0, written", READ | WRITE, PAGE(READABLE), NO_WRITE, SUCCESS, NONE,
          PAGE(READABLE) },
};

static void test_rows(void) {
        for (unsigned way = 0; way < ELEMENTSOF(ways); way++)
                for (unsigned i = 0; i < ELEMENTSOF(rows); i++) {
                        struct request r = ask(way, rows[i].flags, rows[i].gva);
                        enum result want = way == 2 ? rows[i].vtl1 : rows[i].vtl0;
                        uint64_t gpa = way == 2 ? rows[i].gpa1 : rows[i].gpa0;

                        is(r.status, HV_STATUS_SUCCESS, "%s: %s: status", ways[way].name,
                           rows[i].name);
                        is(r.out.result, want, "%s: %s: result", ways[way].name, rows[i].name);
                        if (want != SUCCESS)
                                continue;
                        is(r.out.page << 12, gpa, "%s: %s: GPA", ways[way].name, rows[i].name);
                        is(r.out.cache, HV_CACHE_TYPE_WB, "%s: %s: write-back", ways[way].name,
                           rows[i].name);
                        is(r.out.overlay | r.out.reserved, 0, "%s: %s: no overlay", ways[way].name,
                           rows[i].name);
                }
}

/* ---- Who may ask for what ---- */

#define OWN_INDEX 0xf0000000
#define OTHER_INDEX 0xf0000001

static const struct {
        const char *name;
        uint64_t partition;
        uint32_t vp;
        uint64_t flags;
        unsigned from0, from1;
} bad_rows[] = {
        { "itself, by its index", HV_PARTITION_ID_SELF, OWN_INDEX, READ, 0, 0 },
        { "another VP", HV_PARTITION_ID_SELF, OTHER_INDEX, READ, 6, 6 },
        { "partition 42", 42, HV_VP_INDEX_SELF, READ, 6, 6 },
        { "VP 77", HV_PARTITION_ID_SELF, 77, READ, 6, 6 },
        { "any VP", HV_PARTITION_ID_SELF, 0xffffffff, READ, 6, 6 },
        { "VTL1", HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, READ | (uint64_t) VTL1 << 56, 6, 0 },
        { "VTL2", HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, READ | 0x12ull << 56, 6, 6 },
        { "VTL3", HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, READ | 0x13ull << 56, 5, 5 },
        { "reserved bits of VTL", HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, READ | 0x20ull << 56, 5,
          5 },
        { "flag 11", HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, READ | 1ull << 11, 5, 5 },
        { "flag 55", HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, READ | 1ull << 55, 5, 5 },
};

static void test_bad(void) {
        for (unsigned i = 0; i < ELEMENTSOF(bad_rows); i++) {
                struct request r = { .partition = bad_rows[i].partition,
                                     .vp = bad_rows[i].vp,
                                     .flags = bad_rows[i].flags,
                                     .gva = PAGE(PLAIN) };

                if (r.vp == OWN_INDEX || r.vp == OTHER_INDEX)
                        r.vp = this_cpu()->index ^ (r.vp & 1);
                is(call((uint64_t) &r), bad_rows[i].from0, "VTL0: %s", bad_rows[i].name);
                is(vtl1_run(call, (uint64_t) &r), bad_rows[i].from1, "VTL1: %s", bad_rows[i].name);
        }
}

/* ---- Overlays ---- */

static void test_overlay(void) {
        static const unsigned want[2][3] = { { 1, 1, 0 }, { 0, 0, 1 } };

        for (unsigned page = 0; page < 2; page++)
                for (unsigned way = 0; way < ELEMENTSOF(ways); way++) {
                        struct request r = ask(way, READ, hv_hypercall_page(page));

                        is(r.out.result, SUCCESS, "%s: VTL%u's hypercall page", ways[way].name,
                           page);
                        is(r.out.page << 12, hv_hypercall_page(page), "%s: its GPA",
                           ways[way].name);
                        is(r.out.overlay, want[page][way], "%s: %s", ways[way].name,
                           want[page][way] ? "an overlay" : "no overlay there");
                }
}

/* ---- Accessed and dirty bits ---- */

static void fresh(void) {
        change(FRESH, 0, PTE_ACCESSED | PTE_DIRTY);
}

static uint64_t bits(void) {
        return *(volatile uint64_t *) pte(FRESH) & (PTE_ACCESSED | PTE_DIRTY);
}

static void test_bits(void) {
        for (unsigned way = 0; way < 2; way++) {
                const char *name = ways[way].name;

                fresh();
                is(ask(way, READ, PAGE(FRESH)).out.result, SUCCESS, "%s: read", name);
                is(ask(way, WRITE, PAGE(FRESH)).out.result, SUCCESS, "%s: written", name);
                is(bits(), 0, "%s: without SetPageTableBits nothing is set", name);
                is(ask(way, READ | SET_BITS, PAGE(FRESH)).out.result, SUCCESS, "%s: read", name);
                is(bits(), PTE_ACCESSED, "%s: sets accessed", name);
                fresh();
                is(ask(way, WRITE | SET_BITS, PAGE(FRESH)).out.result, SUCCESS, "%s: written",
                   name);
                is(bits(), PTE_ACCESSED | PTE_DIRTY, "%s: sets accessed and dirty", name);

                change(FRESH, 0, PTE_ACCESSED | PTE_DIRTY | PTE_WRITE);
                is(ask(way, WRITE | SET_BITS, PAGE(FRESH)).out.result, PRIVILEGE,
                   "%s: read-only, written", name);
                is(bits(), 0, "%s: sets nothing", name);
                change(FRESH, PTE_WRITE, 0);
        }
}

/* ---- The TLB lock ---- */

static uint64_t vtl1_locked(uint64_t arg) {
        return hv_register(HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0) >> 1 & 1;
}

static uint64_t vtl1_inhibit(uint64_t arg) {
        struct request r = { .partition = HV_PARTITION_ID_SELF,
                             .vp = HV_VP_INDEX_SELF,
                             .flags = READ | INHIBIT | (uint64_t) VTL0 << 56,
                             .gva = PAGE(PLAIN) };
        uint64_t before = vtl1_locked(0);

        call((uint64_t) &r);
        return before << 8 | (uint64_t) r.out.result << 4 | vtl1_locked(0);
}

static void test_lock(void) {
        is(vtl1_run(vtl1_inhibit, 0), 1, "TlbFlushInhibit locks VTL0's TLB");
        is(vtl1_run(vtl1_locked, 0), 0, "until the return");
}

/* ---- Ex ---- */

static uint64_t call_ex(uint64_t gva) {
        struct translate_in *in = (void *) this_cpu()->in;
        const uint64_t *out = this_cpu()->out;

        *in = (struct translate_in){ .partition = HV_PARTITION_ID_SELF,
                                     .vp = HV_VP_INDEX_SELF,
                                     .flags = READ | (uint64_t) VTL0 << 56,
                                     .page = gva >> 12 };
        memset(this_cpu()->out, 0xaa, 64);
        is(hv_call_memory(HVCALL_TRANSLATE_VIRTUAL_ADDRESS_EX), 0, "VTL%u: Ex: status",
           this_cpu()->vtl);
        is(out[1] | out[2] | out[3] | out[4] | out[5] | out[7], 0, "VTL%u: Ex: the rest is 0",
           this_cpu()->vtl);
        return out[0] << 48 | out[6];
}

static void test_ex(void) {
        uint64_t wb = (uint64_t) HV_CACHE_TYPE_WB << 32;

        is(wb >> 32, 6, "write-back is 6");
        is(call_ex(PAGE(MOVED)), PAGE(TARGET) >> 12, "VTL0: Ex: GPA");
        is(vtl1_run(call_ex, PAGE(MOVED)), PAGE(TARGET) >> 12, "VTL1: Ex: VTL0's GPA");
        is(this_cpu()->out[0], wb, "VTL0: Ex: success, write-back");
        is(call_ex(PAGE(ABSENT)) >> 48, NOT_PRESENT, "VTL0: Ex: not present");
        is(vtl1_run(call_ex, PAGE(SHUT)) >> 48, NO_READ, "VTL1: Ex: closed to VTL0");
}

void guest_main(void) {
        vsm_protect();
        change(MOVED, WINDOW_PAGE(TARGET), 0x000ffffffffff000);
        change(ABSENT, 0, PTE_PRESENT);
        change(KERNEL, 0, PTE_USER);
        change(READ_ONLY, 0, PTE_WRITE);
        change(NO_EXECUTE, PTE_NX, 0);
        is(HV_RESULT_STATUS(protect(WINDOW_PAGE(SHUT), 1, 0)), 0, "a page closed to VTL0");
        is(HV_RESULT_STATUS(protect(WINDOW_PAGE(READABLE), 1, HV_MAP_GPA_READABLE)), 0,
           "a page readable to VTL0");
        /* Not before VTL1 has its copy of the tables */
        boot_pd[0][RESERVED_BITS >> 21] |= 0x2000;
        test_rows();
        test_bad();
        test_overlay();
        test_bits();
        test_lock();
        test_ex();
}
