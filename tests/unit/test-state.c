/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A partition saved and loaded. Saving what has been loaded gives the same bytes,
 * the planes' views included; what is no sound blob, or not for this partition, changes nothing.
 *
 * test-state --write FILE writes a blob: that is how partition-strict.state was made, and
 * partition-1.state by a version that did not save what strict mode covers. Every later version
 * has to load them, or to refuse them as of another version.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/state-pair.h"
#include "util/util.h"
#include "vtl/memory.h"
#include "vtl/state-fields.h"

/* Each plane's view of each page, and what the engine thinks of it */
static void assert_same_views(const struct fx *a, const struct fx *b) {
        static const struct {
                uint64_t first, size;
        } regions[] = { { 0, 0x400000 }, { FX_RAM2, FX_RAM2_SIZE } };

        for (unsigned plane = 0; plane < PLANE_MAX; plane++) {
                assert_int_equal(plane_model_mappings(a->model, plane),
                                 plane_model_mappings(b->model, plane));
                for (size_t i = 0; i < ARRAY_SIZE(regions); i++)
                        for (uint64_t at = 0; at < regions[i].size; at += HV_PAGE_SIZE) {
                                uint64_t gpn = (regions[i].first + at) >> HV_PAGE_SHIFT;
                                size_t page = at >> HV_PAGE_SHIFT;

                                assert_int_equal(plane_model_rights(a->model, plane, gpn),
                                                 plane_model_rights(b->model, plane, gpn));
                                assert_int_equal(a->model->regions[i].view[plane][page].overlay,
                                                 b->model->regions[i].view[plane][page].overlay);
                                assert_int_equal(vtl_memory_rights(a->p, plane, gpn),
                                                 vtl_memory_rights(b->p, plane, gpn));
                        }
        }
        assert_memory_equal(&a->model->msr_filter, &b->model->msr_filter,
                            sizeof(a->model->msr_filter));
        assert_memory_equal(&a->model->port_filter, &b->model->port_filter,
                            sizeof(a->model->port_filter));
}

/* ---- The way there ---- */

static void test_round_trip(void **state) {
        struct state_pair *b = *state;
        struct vtl_vp *vp = fx_vp(&b->to, 0);

        assert_int_equal(state_guest_load(&b->to, b->blob.data, b->blob.size), 0);
        state_pair_saves(&b->to, b->blob.data, b->blob.size);
        assert_same_views(&b->from, &b->to);
        assert_int_equal(plane_model_rights(b->to.model, 0, STATE_CLOSED >> 12), 0);
        assert_int_equal(vp->n_stores, 1);
        assert_int_equal(vp->vtl[1].synic.n_messages, 1);
        assert_true(fx_vp(&b->to, 1)->context_pending);
        assert_int_equal(fx_ctl(&b->to, 0)->vina, 0x40 | HV_VINA_ENABLED);
        assert_int_equal(fx_ctl(&b->to, 0)->enabled_vtls, 3);
        assert_int_equal(b->to.p->header->protected_pages, 5);
        assert_int_equal(b->to.p->header->strict_pages, STATE_STRICT_PAGES);
        assert_int_equal(plane_model_rights(b->to.model, 0, STATE_READONLY >> 12), 0);
        assert_int_equal(plane_model_rights(b->to.model, 0, FX_RAM2 >> 12), HV_MAP_GPA_READABLE);
        assert_true(b->to.p->header->unenforced & VTL_UNENFORCED_EXECUTE);
        assert_true(b->to.p->header->protection_enabled);
}

/* Every kind of section is there: otherwise the tests below look at less than they say. */
static void test_all_sections(void **state) {
        struct state_pair *b = *state;
        bool seen[_STATE_KIND_MAX] = { false };
        struct blob_reader reader;
        struct blob_section s;
        const uint8_t *data;
        int r;

        assert_int_equal(blob_read(&reader, b->blob.data, b->blob.size, VTL_STATE_MAGIC), 0);
        while ((r = blob_next(&reader, &s, &data)) == 1)
                for (size_t kind = 0; kind < _STATE_KIND_MAX; kind++)
                        seen[kind] = seen[kind] || state_tables[kind].id == s.id;
        assert_int_equal(r, 0);
        for (size_t kind = 0; kind < _STATE_KIND_MAX; kind++)
                assert_true(seen[kind]);
}

/* What was going on goes on: the store waits for VTL1, the message for its slot. */
static void test_goes_on(void **state) {
        struct state_pair *b = *state;
        struct fx *f = &b->to;
        struct hv_message_page *simp;

        for (unsigned plane = 0; plane < PLANE_MAX; plane++)
                *fx_plane(f, 0, plane) = *fx_plane(&b->from, 0, plane);
        f->model->vps[0].active = b->from.model->vps[0].active;
        assert_int_equal(state_guest_load(f, b->blob.data, b->blob.size), 0);
        assert_int_equal(state_guest_ask(f, VTL_STATE_CONTINUE, 0), 0);
        assert_false(f->p->paused);
        if (fx_active(f, 0) == 0)
                assert_int_equal(fx_vtl_call(f, 0), 0);
        simp = (void *) vtl_overlay_data(f->p, vtl_overlay_page(VTL_OVERLAY_SIMP, 0, 1));
        assert_int_equal(simp->slot[2].message_type, 0x10);
        simp->slot[2].message_type = HV_MESSAGE_NONE;
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOM, 0), 0);
        assert_int_equal(simp->slot[2].message_type, 0x11);
        assert_true(fx_protect_page(f, 0, HV_MAP_GPA_ALL, STATE_CLOSED >> 12) == FX_RESULT(0, 1));
        assert_int_equal(fx_vtl_return(f, 0, false), 0);
        assert_memory_equal(f->ram + STATE_CLOSED + 8, "\x44\x33\x22\x11", 4);
        assert_int_equal(f->error, 0);
}

static void test_used_partition(void **state) {
        struct state_pair *b = *state;

        /* Over one that has been used, with other protections */
        assert_int_equal(state_guest_load(&b->to, b->blob.data, b->blob.size), 0);
        assert_int_equal(state_guest_load(&b->to, b->blob.data, b->blob.size), 0);
        state_pair_saves(&b->to, b->blob.data, b->blob.size);
        assert_same_views(&b->from, &b->to);
}

static void check_fixture(struct state_pair *b, const char *name) {
        const char *srcdir = getenv("srcdir");
        static uint8_t data[1 << 20];
        char path[4096];
        size_t n;
        FILE *f;

        (void) snprintf(path, sizeof(path), "%s/tests/unit/%s", srcdir ? srcdir : ".", name);
        f = fopen(path, "re");
        assert_non_null(f);
        n = fread(data, 1, sizeof(data), f);
        (void) fclose(f);
        assert_in_range(n, 1, sizeof(data) - 1);
        assert_int_equal(state_guest_load(&b->to, data, n), 0);
        state_pair_saves(&b->to, data, n);
        assert_same_views(&b->from, &b->to);
}

static void test_fixture(void **state) {
        static const struct {
                const char *name;
                unsigned strict;
        } rows[] = { { "partition-1.state", 0 }, { "partition-strict.state", STATE_STRICT_PAGES } };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                void *both;

                assert_int_equal(state_pair_set_up_strict(&both, rows[i].strict, rows[i].strict),
                                 0);
                check_fixture(both, rows[i].name);
                (void) state_pair_tear_down(&both);
        }
}

/* ---- Damaged ---- */

static void refused(struct state_pair *b, const void *data, size_t size, int error) {
        _cleanup_(blob_free) struct blob before = BLOB_EMPTY;

        assert_int_equal(state_guest_save(&b->to, &before), 0);
        assert_int_equal(state_guest_load(&b->to, data, size), error);
        state_pair_saves(&b->to, before.data, before.size);
        assert_true(state_guest_is_open(&b->to));
        assert_int_equal(b->to.error, 0);
}

static void test_truncated(void **state) {
        struct state_pair *b = *state;

        for (size_t n = 1; n < b->blob.size; n += n < 1024 ? 1 : 509) {
                /* In memory of just that size, so that ASan sees a byte too many. */
                uint8_t *cut = malloc(n);

                assert_non_null(cut);
                memcpy(cut, b->blob.data, n);
                assert_int_equal(state_guest_load(&b->to, cut, n), -EBADMSG);
                free(cut);
        }
        b->changed[b->blob.size] = 0;
        refused(b, b->changed, b->blob.size + 1, -EBADMSG);
        refused(b, b->changed, 0, -EBADMSG);
        refused(b, b->changed, VTL_STATE_SIZE_MAX + 1, -EBADMSG);
}

/* Each section of the good blob, with its place */
struct place {
        struct blob_section head;
        size_t at, end;
};

static size_t places(const struct state_pair *b, struct place *ret, size_t max) {
        struct blob_reader reader;
        const uint8_t *data;
        size_t n = 0;

        assert_int_equal(blob_read(&reader, b->blob.data, b->blob.size, VTL_STATE_MAGIC), 0);
        for (;;) {
                assert_true(n < max);
                ret[n].at = reader.at;
                if (blob_next(&reader, &ret[n].head, &data) != 1)
                        return n;
                ret[n++].end = reader.at;
        }
}

static bool optional(uint32_t id) {
        static const enum state_kind kinds[] = { STATE_MESSAGES, STATE_STORES, STATE_OVERLAY,
                                                 STATE_MSRS,     STATE_PORTS,  STATE_STRICT };

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (state_tables[kinds[i]].id == id)
                        return true;
        return false;
}

static void test_sections(void **state) {
        struct state_pair *b = *state;
        struct place p[128];
        size_t n = places(b, p, ARRAY_SIZE(p)), size = b->blob.size;

        for (size_t i = 0; i < n; i++) {
                struct blob_section *head = (void *) (b->changed + p[i].at);
                size_t len = p[i].end - p[i].at;

                head->version++;
                refused(b, b->changed, size, -EPROTONOSUPPORT);
                *head = p[i].head;
                head->id ^= 0x20;
                refused(b, b->changed, size, -EPROTONOSUPPORT);
                *head = p[i].head;
                head->index = UINT32_MAX;
                refused(b, b->changed, size, -EBADMSG);
                *head = p[i].head;
                head->reserved = 1;
                refused(b, b->changed, size, -EBADMSG);
                *head = p[i].head;
                head->size = UINT64_MAX;
                refused(b, b->changed, size, -EBADMSG);
                *head = p[i].head;

                /* Missing, unless it may be */
                memmove(b->changed + p[i].at, b->changed + p[i].end, size - p[i].end);
                if (!optional(p[i].head.id))
                        refused(b, b->changed, size - len, -EBADMSG);
                /* Twice */
                memcpy(b->changed, b->blob.data, size);
                if (len <= 4096) {
                        memmove(b->changed + p[i].end + len, b->changed + p[i].end,
                                size - p[i].end);
                        memcpy(b->changed + p[i].end, b->blob.data + p[i].at, len);
                        refused(b, b->changed, size + len, -EBADMSG);
                        memcpy(b->changed, b->blob.data, size);
                }
        }
}

/* A bit that a field cannot have */
static void test_fields(void **state) {
        struct state_pair *b = *state;
        unsigned tried = 0;
        struct place p[128];
        size_t n = places(b, p, ARRAY_SIZE(p));

        for (size_t i = 0; i < n; i++) {
                size_t at = p[i].at + sizeof(struct blob_section), kind = 0;

                while (state_tables[kind].id != p[i].head.id)
                        kind++;
                for (size_t k = 0; k < state_tables[kind].n_fields; k++) {
                        const struct state_field *f = &state_tables[kind].fields[k];

                        for (uint32_t e = 0; e < f->count; e++, at += f->size)
                                for (unsigned bit = 0; bit < f->size * 8; bit++) {
                                        if (f->mask >> bit & 1)
                                                continue;
                                        b->changed[at + bit / 8] ^= (uint8_t) (1u << bit % 8);
                                        assert_int_equal(
                                                state_guest_load(&b->to, b->changed, b->blob.size),
                                                -EBADMSG);
                                        b->changed[at + bit / 8] ^= (uint8_t) (1u << bit % 8);
                                        tried++;
                                        break;
                                }
                }
        }
        assert_in_range(tried, 50, 10000);
        assert_true(state_guest_is_open(&b->to));
}

static uint8_t *field_at(struct state_pair *b, enum state_kind kind, uint32_t index,
                         uint32_t offset) {
        struct place p[128];
        size_t n = places(b, p, ARRAY_SIZE(p));

        for (size_t i = 0; i < n; i++) {
                uint8_t *at = b->changed + p[i].at + sizeof(struct blob_section);

                if (p[i].head.id != state_tables[kind].id || p[i].head.index != index)
                        continue;
                for (size_t k = 0; k < state_tables[kind].n_fields; k++) {
                        const struct state_field *f = &state_tables[kind].fields[k];

                        if (f->offset == offset)
                                return at;
                        at += (size_t) f->size * f->count;
                }
                return at; /* a format of its own: its beginning */
        }
        fail();
        return NULL;
}

/* Fields that are fine alone, and not together or not here */
static void test_together(void **state) {
        struct state_pair *b = *state;
#define VP(member) STATE_VP, 0, offsetof(struct state_vp, vp.member)
#define PART(member) STATE_PARTITION, 0, offsetof(struct vtl_partition, member)
#define LAPIC(member) STATE_APIC, 0, offsetof(struct lapic, member)
#define OF_VTL(vtl, member) STATE_VTL, vtl, offsetof(struct vtl_vp_vtl, member)
#define SHAPE(member) STATE_SHAPE, 0, offsetof(struct state_shape, member)
        static const struct {
                enum state_kind kind;
                uint32_t index, offset;
                uint64_t value;
                unsigned size;
                int error;
        } rows[] = {
                { VP(enabled_vtls), 1, 4, -EBADMSG },
                { VP(enabled_vtls), 2, 4, -EBADMSG },
                { VP(context_pending), 1, 1, -EBADMSG }, /* and VTL1 active */
                { VP(start_pending), 1, 1, -EBADMSG },   /* of the first VP */
                { VP(lazy_eoi), 256, 4, -EBADMSG },
                { VP(lazy_eoi), 3, 4, -EBADMSG },
                { VP(flush_waits), 1, 8, -EBADMSG },
                { VP(flush_waits), 2, 8, -EBADMSG }, /* for one that has no lock */
                { VP(flush_waits), 1ull << 63, 8, -EBADMSG },
                { VP(secure_config), 1, 8, -EBADMSG },
                { PART(enabled_vtls), 1, 4, -EBADMSG },
                { PART(vp_vtl1_enabled), 0, 1, -EBADMSG },
                { PART(mbec), 1, 1, -EPERM },
                { PART(partition_config), 0, 8, -EBADMSG },        /* there are protected pages */
                { PART(partition_config), 3, 8, -EBADMSG },        /* default: no writing */
                { PART(partition_config), 0x5f, 8, -EPERM },       /* denial of startup */
                { PART(guest_os_id), 0, 8, -EBADMSG },             /* with a hypercall page */
                { PART(hypercall_msr), 0x900000001, 8, -EBADMSG }, /* no RAM */
                { PART(hypercall_msr), STATE_SIMP0 | 1, 8, -EBADMSG },
                { PART(hypercall_msr), STATE_CLOSED | 1, 8, -EBADMSG },
                { PART(hypercall_msr), 1ull << 62, 8, -EBADMSG },
                { PART(tsc_known), 1, 1, -EBADMSG },
                { LAPIC(id), 1, 4, -EBADMSG },
                { LAPIC(base_msr), 0xfee00400, 8, -EBADMSG },
                { LAPIC(base_msr), 0xfee00800, 8, -EBADMSG },
                { LAPIC(base_msr), 0xfed00900, 8, -EBADMSG },
                { LAPIC(irr), 1, 4, -EBADMSG },
                { LAPIC(isr), 0x8000, 4, -EBADMSG },
                { LAPIC(dfr), 0, 4, -EBADMSG },
                { OF_VTL(1, synic.sint), 5, 8, -EBADMSG },
                { OF_VTL(1, synic.stimer[0].config), 1ull << 63, 8, -EBADMSG },
                { OF_VTL(1, synic.simp), STATE_SIEFP | 1, 8, -EBADMSG },
                { OF_VTL(0, cr_intercept), 1, 8, -EBADMSG },
                { OF_VTL(1, cr_intercept), 1ull << 63, 8, -EPERM },
                { SHAPE(vps), 3, 4, -EXDEV },
                { SHAPE(tsc_khz), 1, 8, -EXDEV },
                { SHAPE(phys_bits), 41, 4, -EXDEV },
                { SHAPE(kernel_synic), 1, 1, -EXDEV },
                { STATE_MESSAGES, 1, 0, 16, 4, -EBADMSG },
                { STATE_STORES, 0, 0, 1ull << 50, 8, -EBADMSG },
                { STATE_PROTECT, 0, 0, 1ull << 52, 8, -EBADMSG },
                { STATE_PROTECT, 0, 0, 0x900000, 8, -EBADMSG },
                { STATE_PROTECT, 0, 0, (STATE_CLOSED >> 12) | 2ull << 60, 8, -EBADMSG },
                { STATE_STRICT, 0, 0, 1ull << 52, 8, -EBADMSG },
                { STATE_STRICT, 0, 0, (STATE_READONLY >> 12) | 1ull << 60, 8, -EBADMSG },
                { STATE_STRICT, 0, 0, STATE_CLOSED >> 12, 8, -EBADMSG },
                { STATE_STRICT, 0, 0, 0x900000, 8, -EBADMSG },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                uint8_t *at = field_at(b, rows[i].kind, rows[i].index, rows[i].offset);

                memcpy(at, &rows[i].value, rows[i].size);
                if (state_guest_load(&b->to, b->changed, b->blob.size) != rows[i].error)
                        fail_msg("row %zu is not refused with %d", i, rows[i].error);
                memcpy(b->changed, b->blob.data, b->blob.size);
        }
        assert_true(state_guest_is_open(&b->to));
        refused(b, "vtl", 3, -EBADMSG);
}

/* ---- Not here ---- */

/* Between machines with room for another number of pages: none that was closed is open then. */
static void test_strict(void **state) {
        static const struct {
                unsigned from, to;
                int error;
                unsigned closed;
                bool told;
        } rows[] = {
                { 3, 2, -EPERM, 0, false }, { 3, 0, -EPERM, 0, false }, { 3, 4, 0, 4, true },
                { 4, 4, 0, 4, false },      { 2, 3, 0, 3, true },       { 0, 0, 0, 0, false },
                { 0, 3, 0, 3, true },       { 0, 9, 0, 4, false },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct state_pair *b;
                struct vtl_control_header *h;

                assert_int_equal(state_pair_set_up_strict((void **) &b, rows[i].from, rows[i].to),
                                 0);
                h = b->to.p->header;
                if (rows[i].error < 0)
                        refused(b, b->blob.data, b->blob.size, rows[i].error);
                else
                        assert_int_equal(state_guest_load(&b->to, b->blob.data, b->blob.size), 0);
                assert_int_equal(h->strict_pages, rows[i].closed);
                assert_int_equal(!!(h->unenforced & VTL_UNENFORCED_EXECUTE), rows[i].told);
                for (unsigned page = 0; page < 3; page++)
                        assert_int_equal(
                                plane_model_rights(b->to.model, 0, (STATE_READONLY >> 12) + page),
                                rows[i].error < 0 ? (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)
                                : page < rows[i].closed ? 0
                                                        : HV_MAP_GPA_READABLE);
                (void) state_pair_tear_down((void **) &b);
        }
}

static void test_policy(void **state) {
        struct state_pair *b = *state;
        struct vtl_config *c = &b->to.p->config;

        c->allow_vtl1 = false;
        refused(b, b->blob.data, b->blob.size, -EPERM);
        c->allow_vtl1 = true;
        *field_at(b, STATE_EXTRA, 0, offsetof(struct state_extra, unenforced)) |=
                VTL_UNENFORCED_CPUID_INTERCEPT;
        c->options.accept_cr_intercepts = false;
        refused(b, b->changed, b->blob.size, -EPERM);
}

/* Whatever has been accepted unenforced is saved, and can be loaded. */
static void test_unenforced(void **state) {
        struct state_pair *b = *state;

        b->to.p->config.options.accept_cr_intercepts = true;
        *field_at(b, STATE_EXTRA, 0, offsetof(struct state_extra, unenforced)) = VTL_UNENFORCED_ALL;
        assert_int_equal(state_guest_load(&b->to, b->changed, b->blob.size), 0);
        assert_true(b->to.p->header->unenforced == VTL_UNENFORCED_ALL);
}

static void test_not_paused(void **state) {
        struct state_pair *b = *state;
        _cleanup_(blob_free) struct blob other = BLOB_EMPTY;

        assert_int_equal(state_guest_ask(&b->to, VTL_STATE_CONTINUE, 0), 0);
        assert_int_equal(state_guest_load(&b->to, b->blob.data, b->blob.size), -EBUSY);
        assert_int_equal(vtl_state_load(b->to.p, b->blob.data, b->blob.size), -EBUSY);
        assert_int_equal(state_guest_save(&b->to, &other), -EBUSY);
        assert_int_equal(state_guest_ask(&b->to, _VTL_STATE_MAX, 0), -EINVAL);
        assert_true(state_guest_is_open(&b->to));
}

/* The host fails at each of its steps in turn: then nothing of the blob is left, and another try
 * succeeds. */
static void test_host_fails(void **state) {
        struct state_pair *b = *state;
        unsigned n = 0;
        int r;

        do {
                b->to.model->fail_at = ++n;
                b->to.model->fail_with = -EIO;
                r = state_guest_load(&b->to, b->blob.data, b->blob.size);
                b->to.model->fail_at = 0;
                if (r == 0)
                        break;
                assert_int_equal(r, -EIO);
                assert_true(state_guest_is_open(&b->to));
                assert_int_equal(b->to.p->enabled_vtls, 1);
                assert_int_equal(fx_ctl(&b->to, 0)->enabled_vtls, 1);
        } while (n < 1000);
        assert_in_range(n, 20, 999);
        state_pair_saves(&b->to, b->blob.data, b->blob.size);
}

static int write_fixture(const char *path) {
        _cleanup_(blob_free) struct blob b = BLOB_EMPTY;
        struct fx f;
        FILE *out;
        int r;

        state_guest_init(&f, STATE_STRICT_PAGES);
        r = state_guest_save(&f, &b);
        out = r == 0 ? fopen(path, "we") : NULL;
        if (!out || fwrite(b.data, 1, b.size, out) != b.size || fclose(out) != 0)
                return EXIT_FAILURE;
        fx_deinit(&f);
        return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, state_pair_set_up, state_pair_tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_round_trip),     TEST(test_all_sections), TEST(test_goes_on),
                TEST(test_used_partition), TEST(test_fixture),      TEST(test_truncated),
                TEST(test_sections),       TEST(test_fields),       TEST(test_together),
                TEST(test_strict),         TEST(test_policy),       TEST(test_unenforced),
                TEST(test_not_paused),     TEST(test_host_fails),
        };

        if (argc == 3 && strcmp(argv[1], "--write") == 0)
                return write_fixture(argv[2]);
        return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
