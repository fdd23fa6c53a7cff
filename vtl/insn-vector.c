/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Memory operands that vector and mask registers have a part in. */

#include <errno.h>
#include <string.h>

#include "util/util.h"
#include "vtl/insn-decoded.h"

/* Gathers and scatters: the bytes of one index and of one element. */
struct vsib_form {
        ZydisMnemonic gather, scatter;
        uint8_t index, element;
};

static const struct vsib_form vsib_forms[] = {
        { ZYDIS_MNEMONIC_VPGATHERDD, ZYDIS_MNEMONIC_VPSCATTERDD, 4, 4 },
        { ZYDIS_MNEMONIC_VPGATHERDQ, ZYDIS_MNEMONIC_VPSCATTERDQ, 4, 8 },
        { ZYDIS_MNEMONIC_VPGATHERQD, ZYDIS_MNEMONIC_VPSCATTERQD, 8, 4 },
        { ZYDIS_MNEMONIC_VPGATHERQQ, ZYDIS_MNEMONIC_VPSCATTERQQ, 8, 8 },
        { ZYDIS_MNEMONIC_VGATHERDPS, ZYDIS_MNEMONIC_VSCATTERDPS, 4, 4 },
        { ZYDIS_MNEMONIC_VGATHERDPD, ZYDIS_MNEMONIC_VSCATTERDPD, 4, 8 },
        { ZYDIS_MNEMONIC_VGATHERQPS, ZYDIS_MNEMONIC_VSCATTERQPS, 8, 4 },
        { ZYDIS_MNEMONIC_VGATHERQPD, ZYDIS_MNEMONIC_VSCATTERQPD, 8, 8 },
};

static unsigned vector_bytes(const struct decoded *d, ZydisRegister reg) {
        return ZydisRegisterGetWidth(d->i.machine_mode, reg) / 8;
}

static bool sign_bit(const struct insn_vectors *v, unsigned reg, unsigned i, unsigned element) {
        return v->reg[reg & 31][(i + 1) * element - 1] & 0x80;
}

static bool opmask_used(const struct decoded *d) {
        return d->i.avx.mask.reg > ZYDIS_REGISTER_K0 && d->i.avx.mask.reg <= ZYDIS_REGISTER_K7;
}

static uint64_t opmask(const struct decoded *d) {
        return d->cpu->vectors->k[(d->i.avx.mask.reg - ZYDIS_REGISTER_K0) & 7];
}

int decoded_visit_vsib(const struct decoded *d, const ZydisDecodedOperand *op,
                       enum insn_access_type type) {
        const struct insn_vectors *v = d->cpu->vectors;
        const struct vsib_form *f = NULL;
        ZydisRegister data, select = ZYDIS_REGISTER_NONE;
        unsigned n, index;
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(vsib_forms); i++)
                if (d->i.mnemonic == vsib_forms[i].gather || d->i.mnemonic == vsib_forms[i].scatter)
                        f = &vsib_forms[i];
        if (!f) /* the prefetching forms */
                return 0;
        if (!v)
                return -ENODATA;

        /*
         * VEX: data, memory, mask vector. EVEX: data and an opmask on either side of the memory
         * operand.
         */
        data = d->op[op == &d->op[0] ? 2 : 0].reg.value;
        if (d->i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
                select = d->op[2].reg.value;
        n = MIN(vector_bytes(d, data) / f->element, vector_bytes(d, op->mem.index) / f->index);
        n = MIN(n, 16u);
        index = ZydisRegisterGetId(op->mem.index) & 31;

        for (unsigned i = 0; i < n; i++) {
                int64_t x = 0;

                if (select != ZYDIS_REGISTER_NONE
                            ? !sign_bit(v, ZydisRegisterGetId(select), i, f->element)
                            : opmask_used(d) && !(opmask(d) >> i & 1))
                        continue;
                if (f->index == 4) {
                        int32_t x32;

                        memcpy(&x32, &v->reg[index][i * 4], 4);
                        x = x32;
                } else
                        memcpy(&x, &v->reg[index][i * 8], 8);
                r = decoded_touch(
                        d,
                        decoded_linear(d, op->mem.segment,
                                       decoded_effective(d, op) + (uint64_t) x * op->mem.scale),
                        f->element, type);
                if (r)
                        return r;
        }
        return 0;
}

/*
 * The vector register whose sign bits select the elements of a VEX masked move; NONE for other
 * instructions.
 */
static ZydisRegister mask_vector(const struct decoded *d) {
        switch (d->i.mnemonic) {
        case ZYDIS_MNEMONIC_VMASKMOVPS:
        case ZYDIS_MNEMONIC_VMASKMOVPD:
        case ZYDIS_MNEMONIC_VPMASKMOVD:
        case ZYDIS_MNEMONIC_VPMASKMOVQ:
        case ZYDIS_MNEMONIC_MASKMOVDQU:
        case ZYDIS_MNEMONIC_VMASKMOVDQU:
                return d->op[1].reg.value;
        default:
                return ZYDIS_REGISTER_NONE;
        }
}

static bool contiguous(ZydisMnemonic m) {
        switch (m) {
        case ZYDIS_MNEMONIC_VCOMPRESSPS:
        case ZYDIS_MNEMONIC_VCOMPRESSPD:
        case ZYDIS_MNEMONIC_VPCOMPRESSB:
        case ZYDIS_MNEMONIC_VPCOMPRESSW:
        case ZYDIS_MNEMONIC_VPCOMPRESSD:
        case ZYDIS_MNEMONIC_VPCOMPRESSQ:
        case ZYDIS_MNEMONIC_VEXPANDPS:
        case ZYDIS_MNEMONIC_VEXPANDPD:
        case ZYDIS_MNEMONIC_VPEXPANDB:
        case ZYDIS_MNEMONIC_VPEXPANDW:
        case ZYDIS_MNEMONIC_VPEXPANDD:
        case ZYDIS_MNEMONIC_VPEXPANDQ:
                return true;
        default:
                return false;
        }
}

bool decoded_is_masked(const struct decoded *d) {
        return mask_vector(d) != ZYDIS_REGISTER_NONE || opmask_used(d);
}

/* Elements that the mask leaves out are not touched and do not fault. */
int decoded_visit_masked(const struct decoded *d, const ZydisDecodedOperand *op,
                         enum insn_access_type type) {
        unsigned element = op->element_size / 8, n = op->element_count;
        const struct insn_vectors *v = d->cpu->vectors;
        ZydisRegister select = mask_vector(d);
        uint64_t gva = decoded_linear(d, op->mem.segment, decoded_effective(d, op)), m = 0;
        int r;

        if (!v)
                return -ENODATA;
        if (d->i.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
            d->i.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU) {
                element = 1;
                n = 16;
        }
        if (!element || n > 64 || element * n > 64)
                return decoded_touch(d, gva, op->size / 8, type);

        for (unsigned i = 0; i < n; i++) {
                bool on = select != ZYDIS_REGISTER_NONE
                                ? sign_bit(v, ZydisRegisterGetId(select), i, element)
                                : opmask(d) >> i & 1;

                m |= (uint64_t) on << i;
        }
        if (d->i.avx.broadcast.mode != ZYDIS_BROADCAST_MODE_INVALID || op->element_count == 1)
                return m ? decoded_touch(d, gva, op->size / 8, type) : 0;
        if (contiguous(d->i.mnemonic)) {
                n = __builtin_popcountll(m);
                return n ? decoded_touch(d, gva, n * element, type) : 0;
        }
        for (unsigned i = 0; i < n; i++) {
                if (!(m >> i & 1))
                        continue;
                r = decoded_touch(d, gva + i * element, element, type);
                if (r)
                        return r;
        }
        return 0;
}

void insn_vectors_from_xsave(struct insn_vectors *ret, const void *xsave, size_t size,
                             const uint32_t avx512[3]) {
        /*
         * Where each part of the registers lies: component, offset, first register, count, offset
         * and bytes in it.
         */
        const struct {
                uint8_t component;
                uint32_t offset;
                uint8_t first, count, at, bytes;
        } parts[] = {
                { 1, 160, 0, 16, 0, 16 },
                { 2, 576, 0, 16, 16, 16 },
                { 6, avx512[1], 0, 16, 32, 32 },
                { 7, avx512[2], 16, 16, 0, 64 },
        };
        const uint8_t *area = xsave;
        uint64_t present;

        memset(ret, 0, sizeof(*ret));
        if (size < 576)
                return;
        memcpy(&present, area + 512, sizeof(present));

        for (size_t p = 0; p < ARRAY_SIZE(parts); p++) {
                uint64_t end = (uint64_t) parts[p].offset + parts[p].count * parts[p].bytes;

                if (!parts[p].offset || end > size || !(present >> parts[p].component & 1))
                        continue;
                for (unsigned i = 0; i < parts[p].count; i++)
                        memcpy(&ret->reg[parts[p].first + i][parts[p].at],
                               area + parts[p].offset + i * parts[p].bytes, parts[p].bytes);
        }
        if (avx512[0] && (uint64_t) avx512[0] + sizeof(ret->k) <= size && (present >> 5 & 1))
                memcpy(ret->k, area + avx512[0], sizeof(ret->k));
}
