/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The engine on the model of planes: who may enable VTL1 and how often (vsm.md 3.2, 3.4), masks
 * (3.1), and moving between the levels (section 6).
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/hvpage.h"
#include "vtl/memory.h"
#include "vtl/switch.h"

#define SELF HV_PARTITION_ID_SELF
#define FREE_GPN 0x180ull /* pages nobody uses */

static int set_up(void **state) {
        struct fx *f = malloc(sizeof(*f));

        fx_init(f, &(struct fx_options){ .vps = 2 });
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        fx_deinit(*state);
        free(*state);
        return 0;
}

static int set_up_vtl1(void **state) {
        (void) set_up(state);
        fx_start_vtl1(*state);
        return 0;
}

/* ---- EnablePartitionVtl, vsm.md 3.2 ---- */

static uint64_t enable_partition(struct fx *f, uint64_t id, uint8_t vtl, uint8_t flags) {
        struct hv_input_enable_partition_vtl in = { .partition_id = id,
                                                    .target_vtl = vtl,
                                                    .flags = flags,
                                                    .reserved0 = 0xaaaa,
                                                    .reserved1 = 0xbbbbbbbb };

        return fx_call(f, 0, HVCALL_ENABLE_PARTITION_VTL, &in, sizeof(in));
}

static void test_enable_partition(void **state) {
        static const struct {
                uint64_t id;
                uint8_t vtl, flags;
                uint64_t status;
        } rows[] = {
                { 42, 1, 0, HV_STATUS_INVALID_PARTITION_ID },
                { 0, 1, 0, HV_STATUS_INVALID_PARTITION_ID },
                { 42, 0, 0, HV_STATUS_INVALID_PARTITION_ID },
                { 42, 2, 0, HV_STATUS_INVALID_PARTITION_ID },
                { SELF, 0, 0, HV_STATUS_INVALID_PARAMETER },
                { SELF, 2, 0, HV_STATUS_INVALID_PARAMETER },
                { SELF, 3, 0, HV_STATUS_INVALID_PARAMETER },
                { SELF, 255, 0, HV_STATUS_INVALID_PARAMETER },
                { SELF, 1, HV_ENABLE_PARTITION_VTL_MBEC, HV_STATUS_INVALID_PARAMETER },
                { SELF, 1, HV_ENABLE_PARTITION_VTL_SHADOW_STACK, HV_STATUS_INVALID_PARAMETER },
                { SELF, 1, HV_ENABLE_PARTITION_VTL_HVPT, HV_STATUS_INVALID_PARAMETER },
                { SELF, 1, 0x80, HV_STATUS_INVALID_PARAMETER },
                { 42, 7, 0xff,
                  HV_STATUS_INVALID_PARAMETER }, /* the VTL is decoded first, vsm.md 3.0 */
        };
        struct fx *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                assert_int_equal(enable_partition(f, rows[i].id, rows[i].vtl, rows[i].flags),
                                 rows[i].status);
                assert_int_equal(f->p->enabled_vtls, 1);
        }
        assert_int_equal(f->events[VTL_EVENT_PARTITION_VTL_ENABLED], 0);

        assert_int_equal(enable_partition(f, SELF, 1, 0), HV_STATUS_SUCCESS);
        assert_int_equal(f->p->enabled_vtls, 3);
        assert_int_equal(f->p->header->enabled_vtls, 3);
        assert_int_equal(f->events[VTL_EVENT_PARTITION_VTL_ENABLED], 1);
        assert_int_equal(f->last_event.data, 1);
        assert_int_equal(fx_ctl(f, 0)->enabled_vtls, 1);

        assert_int_equal(enable_partition(f, SELF, 1, 0), HV_STATUS_INVALID_VTL_STATE);
        assert_int_equal(f->events[VTL_EVENT_PARTITION_VTL_ENABLED], 1);
        assert_int_equal(f->events[VTL_EVENT_DENIED], 0);
}

static void test_policy_refuses(void **state) {
        union hv_register_value v;
        struct fx f;

        fx_init(&f, &(struct fx_options){ .refuse = true });
        assert_int_equal(enable_partition(&f, 42, 1, 0), HV_STATUS_INVALID_PARTITION_ID);
        assert_int_equal(f.events[VTL_EVENT_DENIED], 0);
        for (unsigned i = 1; i <= 2; i++) {
                assert_int_equal(fx_enable_partition(&f, 0), HV_STATUS_ACCESS_DENIED);
                assert_int_equal(f.events[VTL_EVENT_DENIED], i);
                assert_int_equal(f.p->header->denied, i);
        }
        assert_int_equal(f.p->enabled_vtls, 1);
        assert_int_equal(f.p->header->enabled_vtls, 1);
        assert_int_equal(fx_enable_vp(&f, 0, 0), HV_STATUS_INVALID_VTL_STATE);
        /* No VTL above 0 for this partition, vsm.md 4.5 */
        assert_int_equal(fx_get(&f, 0, HV_VP_INDEX_SELF, 0, HV_REGISTER_VSM_PARTITION_STATUS, &v),
                         0);
        assert_int_equal(v.reg64, 1);
        assert_true(fx_vtl_call(&f, 0) == FX_UD);
        fx_deinit(&f);
}

/* ---- EnableVpVtl, vsm.md 3.4 ---- */

static uint64_t enable_vp(struct fx *f, unsigned vp, uint64_t id, uint32_t index, uint8_t vtl) {
        struct hv_input_enable_vp_vtl in = { .partition_id = id,
                                             .vp_index = index,
                                             .target_vtl = vtl,
                                             .reserved = { 1, 2, 3 },
                                             .context = fx_context(index & 1) };

        return fx_call(f, vp, HVCALL_ENABLE_VP_VTL, &in, sizeof(in));
}

static void test_enable_vp(void **state) {
        static const struct {
                uint64_t id;
                uint32_t index;
                uint8_t vtl;
                uint64_t status;
        } rows[] = {
                { 42, 0, 1, HV_STATUS_INVALID_PARTITION_ID },
                { 42, 9, 2, HV_STATUS_INVALID_PARTITION_ID },
                { 42, 9, 3, HV_STATUS_INVALID_PARAMETER },
                { SELF, 9, 2, HV_STATUS_INVALID_VP_INDEX },
                { SELF, 2, 1, HV_STATUS_INVALID_VP_INDEX },
                { SELF, 0xffffffff, 1, HV_STATUS_INVALID_VP_INDEX },
                { SELF, 0, 0, HV_STATUS_INVALID_PARAMETER },
                { SELF, 0, 2, HV_STATUS_INVALID_PARAMETER },
                { SELF, 0, 3, HV_STATUS_INVALID_PARAMETER },
                { SELF, 1, 1, HV_STATUS_ACCESS_DENIED }, /* another VP, from VTL0 */
        };
        struct fx *f = *state;

        assert_int_equal(enable_vp(f, 0, SELF, 0, 1), HV_STATUS_INVALID_VTL_STATE);
        assert_int_equal(fx_enable_partition(f, 0), HV_STATUS_SUCCESS);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                assert_int_equal(enable_vp(f, 0, rows[i].id, rows[i].index, rows[i].vtl),
                                 rows[i].status);
        assert_int_equal(f->events[VTL_EVENT_VP_VTL_ENABLED], 0);

        assert_int_equal(enable_vp(f, 0, SELF, HV_VP_INDEX_SELF, 1), HV_STATUS_SUCCESS);
        assert_int_equal(f->events[VTL_EVENT_VP_VTL_ENABLED], 1);
        assert_int_equal(f->last_event.vp, 0);
        assert_int_equal(fx_ctl(f, 0)->enabled_vtls, 3);
        assert_int_equal(fx_ctl(f, 1)->enabled_vtls, 1);
        assert_int_equal(fx_active(f, 0), 0);
        assert_int_equal(enable_vp(f, 0, SELF, 0, 1), HV_STATUS_VTL_ALREADY_ENABLED);
        /* From now on VTL1 decides: VTL0 cannot even for its own VP. */
        assert_int_equal(enable_vp(f, 1, SELF, HV_VP_INDEX_SELF, 1), HV_STATUS_ACCESS_DENIED);

        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(enable_vp(f, 0, SELF, 1, 1), HV_STATUS_SUCCESS);
        assert_int_equal(fx_ctl(f, 1)->enabled_vtls, 3);
        assert_int_equal(enable_vp(f, 0, SELF, 1, 1), HV_STATUS_VTL_ALREADY_ENABLED);
        assert_int_equal(fx_active(f, 1), 0);

        /* VP 1 gets its own context at its own first entry. */
        assert_int_equal(fx_vtl_call(f, 1), 0);
        assert_int_equal(fx_active(f, 1), 1);
        assert_int_equal(fx_cpu(f, 1)->regs.rip, fx_context(1).rip);
        assert_int_equal(fx_cpu(f, 1)->regs.rsp, fx_context(1).rsp);
        assert_int_equal(fx_cpu(f, 1)->sregs.cr3, fx_context(1).cr3);
}

static void test_context(void **state) {
        static const struct {
                size_t offset;
                uint64_t value;
                uint64_t status;
        } rows[] = {
                { offsetof(struct hv_initial_vp_context, cr0), 0x80000010,
                  HV_STATUS_INVALID_REGISTER_VALUE },
                { offsetof(struct hv_initial_vp_context, cr0), 0x180050033,
                  HV_STATUS_INVALID_REGISTER_VALUE },
                { offsetof(struct hv_initial_vp_context, cr4), 0x600,
                  HV_STATUS_INVALID_REGISTER_VALUE },
                { offsetof(struct hv_initial_vp_context, cr4), 1ull << 40,
                  HV_STATUS_INVALID_REGISTER_VALUE },
                { offsetof(struct hv_initial_vp_context, efer), 1ull << 63,
                  HV_STATUS_INVALID_REGISTER_VALUE },
                /* LMA follows from LME and PG, PAT keeps its reset value for 0, ET is always set
                 * (vsm.md 5.2). */
                { offsetof(struct hv_initial_vp_context, efer), 0x901, HV_STATUS_SUCCESS },
        };
        struct fx *f = *state;

        assert_int_equal(fx_enable_partition(f, 0), HV_STATUS_SUCCESS);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct hv_input_enable_vp_vtl in = { .partition_id = SELF,
                                                     .vp_index = 0,
                                                     .target_vtl = 1,
                                                     .context = fx_context(0) };

                memcpy((uint8_t *) &in.context + rows[i].offset, &rows[i].value, 8);
                assert_int_equal(fx_call(f, 0, HVCALL_ENABLE_VP_VTL, &in, sizeof(in)),
                                 rows[i].status);
                assert_int_equal(f->error, 0);
                assert_int_equal(fx_ctl(f, 0)->enabled_vtls, rows[i].status == 0 ? 3 : 1);
        }
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_cpu(f, 0)->sregs.efer, 0xd01);
        assert_int_equal(fx_cpu(f, 0)->sregs.cr0, 0x80050033);
        assert_int_equal(plane_model_msr(fx_cpu(f, 0), 0x277)->value, 0x0007040600070406);
        assert_int_equal(fx_cpu(f, 0)->sregs.cs.selector, TINY_CS64);
        assert_true(fx_cpu(f, 0)->sregs.cs.l);
        assert_int_equal(fx_cpu(f, 0)->sregs.tr.type, 0xb);
        assert_true(fx_cpu(f, 0)->sregs.ldt.unusable == 0);
        assert_int_equal(fx_cpu(f, 0)->debugregs.dr7, 0x400);
        assert_int_equal(plane_model_msr(fx_cpu(f, 0), 0xc0000082)->value, 0);
}

/* Every part of the context gets where it belongs. */
static void test_context_parts(void **state) {
        struct hv_input_enable_vp_vtl in = {
                .partition_id = SELF, .vp_index = 0, .target_vtl = 1, .context = fx_context(0)
        };
        struct hv_initial_vp_context *c = &in.context;
        struct hv_x64_segment_register *const from[] = { &c->cs, &c->ds, &c->es, &c->fs,
                                                         &c->gs, &c->ss, &c->tr, &c->ldtr };
        struct fx *f = *state;
        const struct kvm_sregs *s = &fx_plane(f, 0, 1)->sregs;
        const struct kvm_segment *const to[] = { &s->cs, &s->ds, &s->es, &s->fs,
                                                 &s->gs, &s->ss, &s->tr, &s->ldt };

        for (unsigned i = 0; i < ARRAY_SIZE(from); i++) {
                from[i]->base = 0x10000 + i;
                from[i]->limit = 0x20000 + i;
                from[i]->selector = (uint16_t) (8 * (i + 1));
        }
        c->ds.attributes = 0x5097; /* AVL, DB 1, no G */
        c->es.attributes = 0x0000; /* not usable */
        c->idtr.base = 0x30000;
        c->idtr.limit = 0x111;
        c->gdtr.base = 0x40000;
        c->gdtr.limit = 0x222;
        c->rflags = 0x40;
        c->msr_cr_pat = 0x0606060606060606;
        assert_int_equal(fx_enable_partition(f, 0), 0);
        assert_int_equal(fx_call(f, 0, HVCALL_ENABLE_VP_VTL, &in, sizeof(in)), 0);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(to); i++) {
                assert_int_equal(to[i]->base, 0x10000 + i);
                assert_int_equal(to[i]->limit, 0x20000 + i);
                assert_int_equal(to[i]->selector, 8 * (i + 1));
                assert_int_equal(to[i]->unusable, to[i] == &s->es);
        }
        assert_int_equal(s->ds.type, 7);
        assert_true(s->ds.s && s->ds.present && s->ds.avl && s->ds.db && !s->ds.g && !s->ds.l);
        assert_int_equal(s->ds.dpl, 0);
        assert_int_equal(s->idt.base, 0x30000);
        assert_int_equal(s->idt.limit, 0x111);
        assert_int_equal(s->gdt.base, 0x40000);
        assert_int_equal(s->gdt.limit, 0x222);
        assert_int_equal(fx_cpu(f, 0)->regs.rflags, 0x42);
        assert_int_equal(plane_model_msr(fx_cpu(f, 0), 0x277)->value, 0x0606060606060606);
}

/* ---- ModifyVtlProtectionMask, vsm.md 3.1 ---- */

static uint64_t modify(struct fx *f, uint64_t id, uint32_t flags, uint8_t vtl, uint64_t gpn) {
        struct {
                struct hv_input_modify_vtl_protection_mask head;
                uint64_t gpn;
        } in = { { .partition_id = id,
                   .map_flags = flags,
                   .target_vtl = vtl,
                   .reserved = { 9, 9, 9 } },
                 gpn };

        return fx_call(f, 0, FX_CONTROL(HVCALL_MODIFY_VTL_PROTECTION_MASK, 1), &in, sizeof(in));
}

static void test_modify(void **state) {
        static const struct {
                uint64_t id;
                uint32_t flags;
                uint8_t vtl;
                uint64_t gpn;
                uint64_t status;
        } rows[] = {
                { 42, 0, 0, FREE_GPN, HV_STATUS_ACCESS_DENIED },
                { SELF, 0, 0x20, FREE_GPN, HV_STATUS_INVALID_PARAMETER },
                { SELF, 0, 0x80, FREE_GPN, HV_STATUS_INVALID_PARAMETER },
                { SELF, 0, 0x13, FREE_GPN, HV_STATUS_INVALID_PARAMETER },
                { SELF, 0, 0x1f, FREE_GPN, HV_STATUS_INVALID_PARAMETER },
                { SELF, 0, 0x12, FREE_GPN, HV_STATUS_ACCESS_DENIED },
                { SELF, 2, 0, FREE_GPN, HV_STATUS_INVALID_REGISTER_VALUE },   /* W without R */
                { SELF, 0xc, 0, FREE_GPN, HV_STATUS_INVALID_REGISTER_VALUE }, /* X without R */
                { SELF, 5, 0, FREE_GPN, HV_STATUS_INVALID_REGISTER_VALUE },   /* KX without UX */
                { SELF, 9, 0, FREE_GPN,
                  HV_STATUS_INVALID_REGISTER_VALUE }, /* UX without KX needs MBEC */
                { SELF, 0x8001, 0, FREE_GPN, HV_STATUS_INVALID_REGISTER_VALUE }, /* adjustable */
                { SELF, 0x11, 0, FREE_GPN, HV_STATUS_INVALID_REGISTER_VALUE },   /* shadow stack */
                { SELF, 0, 0, 0x400, HV_STATUS_OPERATION_DENIED }, /* behind the RAM */
                { SELF, 0, 0, UINT64_MAX, HV_STATUS_OPERATION_DENIED },
                { SELF, 0, 0, FX_RAM2 >> 12, HV_STATUS_SUCCESS },
                { SELF, 0, 0, FREE_GPN, HV_STATUS_SUCCESS },
                { SELF, 1, 0x10, FREE_GPN,
                  HV_STATUS_SUCCESS }, /* VTL0 by name: the restricted one */
                { SELF, 0xd, 0x11, FREE_GPN, HV_STATUS_SUCCESS },
                { SELF, 3, 0x01, FREE_GPN,
                  HV_STATUS_SUCCESS }, /* UseTargetVtl is 0: the caller's */
                { SELF, 3, 0x02, FREE_GPN, HV_STATUS_SUCCESS },
                { SELF, 0xf, 0, FREE_GPN, HV_STATUS_SUCCESS },
        };
        struct fx *f = *state;

        /* Before protection is on */
        assert_int_equal(modify(f, SELF, 0, 0, FREE_GPN), HV_STATUS_ACCESS_DENIED);
        fx_enable_protection(f, 0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                unsigned before = plane_model_rights(f->model, 0, FREE_GPN),
                         want = rows[i].flags & 3;
                uint64_t r = modify(f, rows[i].id, rows[i].flags, rows[i].vtl, rows[i].gpn);

                if ((r & 0xffff) != rows[i].status || r >> 32 != (rows[i].status == 0))
                        fail_msg("row %zu: %#llx", i, (unsigned long long) r);
                assert_int_equal(plane_model_rights(f->model, 0, FREE_GPN),
                                 rows[i].gpn == FREE_GPN && r >> 32 ? want : before);
                assert_int_equal(plane_model_rights(f->model, 1, FREE_GPN), 3);
        }
        assert_int_equal(f->p->header->protected_pages, 1);
        assert_int_equal(plane_model_rights(f->model, 0, FX_RAM2 >> 12), 0);

        /* VTL0 has nobody below it. */
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(modify(f, SELF, 0xf, 0, FX_RAM2 >> 12), HV_STATUS_INVALID_PARAMETER);
        assert_int_equal(modify(f, SELF, 0xf, 0x10, FX_RAM2 >> 12), HV_STATUS_INVALID_PARAMETER);
        assert_int_equal(modify(f, SELF, 0xf, 0x11, FX_RAM2 >> 12), HV_STATUS_ACCESS_DENIED);
        assert_int_equal(plane_model_rights(f->model, 0, FX_RAM2 >> 12), 0);
}

/* All pages are looked at before any changes; overlays and neighbours */
static void test_modify_list(void **state) {
        struct fx *f = *state;
        uint64_t list[510];
        unsigned before;

        fx_enable_protection(f, 0);
        before = f->model->ops[MODEL_PROTECT];
        for (unsigned i = 0; i < 4; i++)
                list[i] = FREE_GPN + i;
        list[4] = 0x999999;
        assert_int_equal(fx_modify(f, 0, 0, list, 5), FX_RESULT(HV_STATUS_OPERATION_DENIED, 0));
        for (unsigned i = 0; i < 4; i++)
                assert_int_equal(plane_model_rights(f->model, 0, list[i]), 3);

        /* As many single pages as there is memory here: one operation */
        for (unsigned i = 0; i < 60; i++)
                list[i] = FREE_GPN + 2 * i;
        for (unsigned i = 60; i < 180; i++)
                list[i] = (FX_RAM2 >> 12) + 2 * (i - 60);
        for (unsigned i = 180; i < 410; i++)
                list[i] = 0x200 + 2 * (i - 180);
        assert_int_equal(fx_modify(f, 0, 1, list, 410), FX_RESULT(0, 410));
        assert_int_equal(f->model->ops[MODEL_PROTECT] - before, 1);
        for (unsigned i = 0; i < 410; i++) {
                assert_int_equal(plane_model_rights(f->model, 0, list[i]), 1);
                assert_int_equal(plane_model_rights(f->model, 0, list[i] + 1), 3);
                assert_int_equal(vtl_memory_rights(f->p, 0, list[i]), 1);
        }
        assert_int_equal(f->p->header->protected_pages, 410);
        assert_int_equal(f->model->protected_overlays, 0);

        /* The same page twice: the last one counts, as one by one. */
        list[0] = list[1] = FREE_GPN;
        assert_int_equal(fx_modify(f, 0, 0, list, 2), FX_RESULT(0, 2));
        assert_int_equal(plane_model_rights(f->model, 0, FREE_GPN), 0);
}

/* When the host has no mappings left, nothing has changed (INSUFFICIENT_MEMORY), and opening still
 * works. */
static void test_modify_budget(void **state) {
        struct fx *f = *state;
        uint64_t list[40];

        fx_enable_protection(f, 0);
        assert_int_equal(fx_protect_page(f, 0, 0, FREE_GPN), FX_RESULT(0, 1));
        f->model->mappings_max = plane_model_mappings(f->model, 0) + 11;
        for (unsigned i = 0; i < ARRAY_SIZE(list); i++)
                list[i] = FREE_GPN + 4 + 2 * i;
        assert_int_equal(fx_modify(f, 0, 0, list, ARRAY_SIZE(list)),
                         FX_RESULT(HV_STATUS_INSUFFICIENT_MEMORY, 0));
        assert_int_equal(f->error, 0);
        for (unsigned i = 0; i < ARRAY_SIZE(list); i++) {
                assert_int_equal(plane_model_rights(f->model, 0, list[i]), 3);
                assert_int_equal(vtl_memory_rights(f->p, 0, list[i]), 0xf);
        }
        assert_int_equal(plane_model_rights(f->model, 0, FREE_GPN), 0);
        assert_int_equal(f->p->header->protected_pages, 1);

        assert_int_equal(fx_modify(f, 0, 0, list, 5), FX_RESULT(0, 5));
        assert_int_equal(fx_modify(f, 0, 0, list + 5, 1),
                         FX_RESULT(HV_STATUS_INSUFFICIENT_MEMORY, 0));
        assert_int_equal(fx_modify(f, 0, 0xf, list, 5), FX_RESULT(0, 5));
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(plane_model_rights(f->model, 0, list[i]), 3);
}

/* ---- GetVpIndexFromApicId, vsm.md 3.14, and what is left of the table ---- */

static void test_apic_ids(void **state) {
        struct {
                struct hv_input_get_vp_index_from_apic_id head;
                uint32_t ids[3];
        } in = { { .partition_id = SELF }, { 2, 0, 1 } };
        uint64_t control = FX_CONTROL(HVCALL_GET_VP_INDEX_FROM_APIC_ID, 3);
        struct fx *f = *state;
        uint32_t out[3];

        memset(fx_output(f, 0), 0xee, 16);
        assert_int_equal(fx_call(f, 0, control, &in, sizeof(in)),
                         FX_RESULT(HV_STATUS_INVALID_PARAMETER, 2));
        memcpy(out, fx_output(f, 0), sizeof(out));
        assert_int_equal(out[0], 1);
        assert_int_equal(out[1], 0);
        assert_int_equal(out[2], 0xeeeeeeee);

        in.head.partition_id = 42;
        assert_int_equal(fx_call(f, 0, control, &in, sizeof(in)), HV_STATUS_INVALID_PARTITION_ID);
        in.head.target_vtl = 3;
        assert_int_equal(fx_call(f, 0, control, &in, sizeof(in)), HV_STATUS_INVALID_PARAMETER);
        in.head = (struct hv_input_get_vp_index_from_apic_id){ .partition_id = SELF,
                                                               .target_vtl = 1 };
        assert_int_equal(fx_call(f, 0, control, &in, sizeof(in)), HV_STATUS_ACCESS_DENIED);
        fx_start_vtl1(f);
        assert_int_equal(fx_call(f, 0, control, &in, sizeof(in)),
                         FX_RESULT(HV_STATUS_INVALID_PARAMETER, 2));
}

static void test_other_calls(void **state) {
        static const uint16_t unknown[] = { 0x0, 0x1, 0xe, 0x10, 0x7e, 0x8000, 0x8002, 0xffff };
        struct fx *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
                assert_int_equal(fx_hypercall(f, 0, unknown[i], FX_INPUT, FX_OUTPUT),
                                 HV_STATUS_INVALID_HYPERCALL_CODE);
        memset(fx_output(f, 0), 0xee, 8);
        assert_int_equal(fx_hypercall(f, 0, HVCALL_EXT_QUERY_CAPABILITIES, 0, FX_OUTPUT), 0);
        assert_int_equal(*(uint64_t *) fx_output(f, 0), 0);
        assert_int_equal(fx_ctl(f, 0)->stats.hypercalls, ARRAY_SIZE(unknown) + 1);
}

/* Where parameters may not be: vsm.md 2.4 */
static void test_parameters(void **state) {
        struct hv_input_enable_partition_vtl in = { .partition_id = 42, .target_vtl = 1 };
        uint64_t page = FREE_GPN << 12;
        struct fx *f = *state;

        memcpy(f->ram + page, &in, sizeof(in));
        assert_int_equal(fx_hypercall(f, 0, HVCALL_ENABLE_PARTITION_VTL, page, 0),
                         HV_STATUS_INVALID_PARTITION_ID);
        assert_int_equal(fx_hypercall(f, 0, HVCALL_ENABLE_PARTITION_VTL, 0x999000, 0),
                         HV_STATUS_INVALID_HYPERCALL_INPUT);
        /* An overlay page of the caller's, whatever it holds */
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_VP_ASSIST_PAGE, page | 1), 0);
        assert_int_equal(fx_hypercall(f, 0, HVCALL_ENABLE_PARTITION_VTL, page, 0),
                         HV_STATUS_INVALID_HYPERCALL_INPUT);
        assert_int_equal(fx_hypercall(f, 0, HVCALL_EXT_QUERY_CAPABILITIES, 0, page),
                         HV_STATUS_INVALID_HYPERCALL_INPUT);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_VP_ASSIST_PAGE, 0), 0);

        fx_start_vtl1(f);
        fx_enable_protection(f, 0);
        assert_int_equal(fx_protect_page(f, 0, 1, FREE_GPN), FX_RESULT(0, 1));
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_hypercall(f, 0, HVCALL_ENABLE_PARTITION_VTL, page, 0),
                         HV_STATUS_INVALID_PARTITION_ID);
        assert_int_equal(fx_hypercall(f, 0, HVCALL_EXT_QUERY_CAPABILITIES, 0, page),
                         HV_STATUS_INVALID_HYPERCALL_INPUT);
        assert_memory_equal(f->ram + page, &in, sizeof(in));
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_protect_page(f, 0, 0, FREE_GPN), FX_RESULT(0, 1));
        assert_int_equal(fx_hypercall(f, 0, HVCALL_ENABLE_PARTITION_VTL, page, 0),
                         HV_STATUS_INVALID_PARTITION_ID);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_hypercall(f, 0, HVCALL_ENABLE_PARTITION_VTL, page, 0),
                         HV_STATUS_INVALID_HYPERCALL_INPUT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_enable_partition, set_up, tear_down),
                cmocka_unit_test(test_policy_refuses),
                cmocka_unit_test_setup_teardown(test_enable_vp, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_context, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_context_parts, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_modify, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_modify_list, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_modify_budget, set_up_vtl1, tear_down),
                cmocka_unit_test_setup_teardown(test_apic_ids, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_other_calls, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_parameters, set_up, tear_down),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
