/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Translating a level's virtual addresses: vsm.md 3.9, 3.10. */

#include "hvcall/calls.h"
#include "hvcall/vp-set.h"
#include "hvcall/wire.h"
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/memory.h"
#include "vtl/switch.h"
#include "vtl/tlb.h"
#include "vtl/walk.h"

#define TRANSLATE_VALIDATE_READ (1ull << 0)
#define TRANSLATE_VALIDATE_WRITE (1ull << 1)
#define TRANSLATE_VALIDATE_EXECUTE (1ull << 2)
#define TRANSLATE_PRIVILEGE_EXEMPT (1ull << 3)
#define TRANSLATE_SET_PAGE_TABLE_BITS (1ull << 4)
#define TRANSLATE_TLB_FLUSH_INHIBIT (1ull << 5)
#define TRANSLATE_SUPERVISOR_ACCESS (1ull << 6)
#define TRANSLATE_USER_ACCESS (1ull << 7)
#define TRANSLATE_ENFORCE_SMAP (1ull << 8)
#define TRANSLATE_OVERRIDE_SMAP (1ull << 9)
#define TRANSLATE_FLAGS 0x3ffull
#define TRANSLATE_VTL_SHIFT 56

enum translate_result {
        TRANSLATE_SUCCESS = 0,
        TRANSLATE_PAGE_NOT_PRESENT = 1,
        TRANSLATE_PRIVILEGE_VIOLATION = 2,
        TRANSLATE_INVALID_PAGE_TABLE_FLAGS = 3,
        TRANSLATE_GPA_UNMAPPED = 4,
        TRANSLATE_GPA_NO_READ_ACCESS = 5,
        TRANSLATE_GPA_NO_WRITE_ACCESS = 6,
};

static const uint32_t walk_results[] = {
        [WALK_OK] = TRANSLATE_SUCCESS,
        [WALK_NOT_CANONICAL] = TRANSLATE_PAGE_NOT_PRESENT,
        [WALK_NOT_PRESENT] = TRANSLATE_PAGE_NOT_PRESENT,
        [WALK_RESERVED] = TRANSLATE_INVALID_PAGE_TABLE_FLAGS,
        [WALK_PERMISSION] = TRANSLATE_PRIVILEGE_VIOLATION,
        [WALK_NOT_RAM] = TRANSLATE_GPA_UNMAPPED,
};

static unsigned walk_flags(uint64_t flags, const struct kvm_regs *regs, const struct kvm_sregs *s) {
        bool user = vtl_cpl(s) == 3;
        unsigned w = 0;

        if (flags & TRANSLATE_SUPERVISOR_ACCESS)
                user = false;
        if (flags & TRANSLATE_USER_ACCESS)
                user = true;
        if (user)
                w |= WALK_USER;
        if (flags & TRANSLATE_VALIDATE_WRITE)
                w |= WALK_WRITE;
        if (flags & TRANSLATE_VALIDATE_EXECUTE)
                w |= WALK_EXEC;
        if (flags & TRANSLATE_ENFORCE_SMAP)
                w |= WALK_IMPLICIT;
        else if ((flags & TRANSLATE_OVERRIDE_SMAP) || (regs->rflags & 1u << 18))
                w |= WALK_AC;
        return w;
}

/* U/S, SMEP and SMAP do not count: as a supervisor without these. */
static struct kvm_sregs without_privilege(const struct kvm_sregs *s) {
        struct kvm_sregs t = *s;

        t.cr4 &= ~(1ull << 20 | 1ull << 21);
        return t;
}

static uint32_t rights_result(const struct walk_space *space, uint64_t gpn, uint64_t flags) {
        unsigned rights = space->rights(space->userdata, gpn);

        if ((flags & (TRANSLATE_VALIDATE_READ | TRANSLATE_VALIDATE_EXECUTE)) &&
            !(rights & HV_MAP_GPA_READABLE))
                return TRANSLATE_GPA_NO_READ_ACCESS;
        if ((flags & TRANSLATE_VALIDATE_WRITE) && !(rights & HV_MAP_GPA_WRITABLE))
                return TRANSLATE_GPA_NO_WRITE_ACCESS;
        return TRANSLATE_SUCCESS;
}

/* The accessed and dirty bits that the access would set, with the rights of the level. */
static int set_bits(struct vtl_partition *p, unsigned vtl, const struct walk_result *w) {
        for (unsigned i = 0; i < w->n_entries; i++) {
                const struct walk_entry *e = &w->entries[i];
                uint64_t value = e->value | e->sets;
                int r;

                if (!e->sets)
                        continue;
                r = vtl_memory_write(p, vtl, e->gpa, &value, e->size, HV_MAP_GPA_WRITABLE);
                if (r == -EACCES)
                        return TRANSLATE_GPA_NO_WRITE_ACCESS;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check(const struct vtl_vp *vp, const struct hv_input_translate_virtual_address *in,
                 unsigned *ret_vtl) {
        unsigned vtl;
        int r;

        if (in->partition_id != HV_PARTITION_ID_SELF ||
            (in->vp_index != HV_VP_INDEX_SELF && in->vp_index != vp->index))
                return HV_STATUS_ACCESS_DENIED;
        r = input_vtl_resolve(vp, (uint8_t) (in->control_flags >> TRANSLATE_VTL_SHIFT), &vtl);
        if (r != 0)
                return r;
        if (in->control_flags & ((1ull << TRANSLATE_VTL_SHIFT) - 1) & ~TRANSLATE_FLAGS)
                return HV_STATUS_INVALID_PARAMETER;
        if (vtl > vp->active_vtl)
                return HV_STATUS_ACCESS_DENIED;
        *ret_vtl = vtl;
        return 0;
}

static int translate(struct vtl_vp *vp, const struct hv_input_translate_virtual_address *in,
                     struct hv_output_translate_virtual_address *ret) {
        struct vtl_partition *p = vp->partition;
        struct vtl_memory_view view = { .partition = p };
        struct walk_space space = vtl_memory_space(&view);
        struct walk_result w;
        struct kvm_sregs s;
        struct kvm_regs regs;
        uint64_t flags = in->control_flags;
        unsigned vtl;
        int r = check(vp, in, &vtl);

        if (r != 0)
                return r;
        view.vtl = vtl;
        if ((flags & TRANSLATE_TLB_FLUSH_INHIBIT) && vp->active_vtl > vtl) {
                r = vtl_tlb_lock(vp);
                if (r != 0)
                        return r;
        }
        r = vtl_op(p, get, vtl, PLANE_SREGS, &s, sizeof(s));
        if (r == 0)
                r = vtl_op(p, get, vtl, PLANE_REGS, &regs, sizeof(regs));
        if (r < 0)
                return r;
        if (flags & TRANSLATE_PRIVILEGE_EXEMPT)
                s = without_privilege(&s);
        r = walk(&space, &s, in->gva_page << HV_PAGE_SHIFT,
                 flags & TRANSLATE_PRIVILEGE_EXEMPT
                         ? walk_flags(flags, &regs, &s) & ~(unsigned) WALK_USER
                         : walk_flags(flags, &regs, &s),
                 &w);
        if (r < 0)
                return r;
        *ret = (struct hv_output_translate_virtual_address){ .result_code = walk_results[w.fault] };
        if (w.fault != WALK_OK)
                return 0;
        if (!vtl_memory_is_ram(p, w.gpa >> HV_PAGE_SHIFT)) {
                ret->result_code = TRANSLATE_GPA_UNMAPPED;
                return 0;
        }
        ret->result_code = rights_result(&space, w.gpa >> HV_PAGE_SHIFT, flags);
        if (ret->result_code == TRANSLATE_SUCCESS && (flags & TRANSLATE_SET_PAGE_TABLE_BITS)) {
                r = set_bits(p, vtl, &w);
                if (r < 0)
                        return r;
                ret->result_code = (uint32_t) r;
        }
        ret->cache_type = HV_CACHE_TYPE_WB;
        ret->overlay_page = vtl_overlay_find(p, vtl, w.gpa >> HV_PAGE_SHIFT) != NULL;
        ret->gpa_page = w.gpa >> HV_PAGE_SHIFT;
        return 0;
}

int hvcall_translate_virtual_address(struct hv_call_ctx *c) {
        return translate(c->vp, c->input, c->output);
}

int hvcall_translate_virtual_address_ex(struct hv_call_ctx *c) {
        struct hv_output_translate_virtual_address_ex *out = c->output;
        int r = translate(c->vp, c->input, &out->translation);

        out->gpa_page = out->translation.gpa_page;
        out->translation.gpa_page = 0;
        return r;
}
