/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Memory operands of the FPU and of vectors, masks and indices, and their images. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/insn-side.h"
#include "util/util.h"

static void test_fpu_and_state(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = 0x100000;
        expect(g, "d900", "r100000+4");  /* fld dword */
        expect(g, "dd18", "w100000+8");  /* fstp qword */
        expect(g, "db28", "r100000+10"); /* fld tbyte */
        expect(g, "df30", "w100000+10"); /* fbstp */
        expect(g, "d930", "w100000+28"); /* fnstenv */
        expect(g, "d920", "r100000+28"); /* fldenv */
        expect(g, "66d930", "w100000+14");
        expect(g, "dd30", "w100000+108");   /* fnsave */
        expect(g, "dd20", "r100000+108");   /* frstor */
        expect(g, "d928", "r100000+2");     /* fldcw */
        expect(g, "0fae00", "w100000+512"); /* fxsave */
        expect(g, "0fae08", "r100000+512"); /* fxrstor */
        expect(g, "0fae18", "w100000+4");   /* stmxcsr */
        g->regs.rax = 0x100000;
        g->regs.rdx = 0;
        /* EAX is both the address and the mask of components: x87 and SSE, then AVX, then more. */
        g->regs.rbx = 0x200000;
        g->regs.rax = 3;
        expect(g, "0fae23", "w200000+576"); /* xsave [rbx] */
        g->regs.rax = 7;
        expect(g, "0fae23", "w200000+576 w200240+256");
        expect(g, "0fae2b", "r200000+576 r200240+256"); /* xrstor */
        g->regs.rax = 0xe7;
        expect(g, "0fae23", "w200000+576 w200240+2120");
        expect(g, "0fc723", "w200000+576 w200240+2120"); /* xsavec */
        g->regs.rax = 3;
        g->regs.rdx = 0x200;
        expect(g, "0fae23", "w200000+576 w200240+2120"); /* a high component */
}

static void test_sse_and_avx(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = 0x100000;
        g->regs.rdi = 0x200000;
        expect(g, "0f1000", "r100000+16");   /* movups xmm0, [rax] */
        expect(g, "f20f1100", "w100000+8");  /* movsd [rax], xmm0 */
        expect(g, "f30f1000", "r100000+4");  /* movss */
        expect(g, "660fe700", "w100000+16"); /* movntdq */
        expect(g, "c5fe6f00", "r100000+32"); /* vmovdqu ymm0, [rax] */
        expect(g, "c5fd1100", "w100000+32");
        expect(g, "62f17c481100", "w100000+64"); /* vmovups [rax], zmm0 */
        expect(g, "0f6f00", "r100000+8");        /* movq mm0, [rax] */
        expect(g, "0ff7c1", "w200000+8");        /* maskmovq mm0, mm1 */
}

static void set_dword(struct tiny_guest *g, unsigned reg, unsigned i, uint32_t v) {
        memcpy(&g->vectors.reg[reg][i * 4], &v, sizeof(v));
}

static void set_qword(struct tiny_guest *g, unsigned reg, unsigned i, uint64_t v) {
        memcpy(&g->vectors.reg[reg][i * 8], &v, sizeof(v));
}

static void test_vectors(void **state) {
        struct tiny_guest *g = *state;

        tiny_long(g);
        g->regs.rax = 0x100000;
        g->regs.rdi = 0x200000;
        expect_result(g, "c4e269900488", -ENODATA, "");

        g->have_vectors = true;
        for (unsigned i = 0; i < 4; i++) {
                set_dword(g, 1, i, i * 0x100 - 0x100);
                set_dword(g, 2, i, i == 2 ? 0 : 0x80000000);
                set_dword(g, 2, i + 4, 0x80000000); /* beyond the register that is used */
        }
        /* vpgatherdd xmm0, [rax+xmm1*4], xmm2 */
        /* vpgatherdq xmm0, [rax+xmm1*4], xmm2: two elements, selected by bits 63 and 127 */
        expect(g, "c4e269900488", "rffc00+4 r100000+4 r100800+4");
        expect(g, "c4e2e9900488", "rffc00+8 r100000+8");
        /* vgatherdps, vgatherdpd: the same */
        expect(g, "c4e269920488", "rffc00+4 r100000+4 r100800+4");
        expect(g, "c4e2e9920488", "rffc00+8 r100000+8");
        set_qword(g, 1, 0, 0x10);
        set_qword(g, 1, 1, -0x10ll);
        /* vpgatherqq xmm0, [rax+xmm1*8], xmm2 */
        expect(g, "c4e2e99104c8", "r100080+8 rfff80+8"); /* vpgatherqd xmm0, [rax+xmm1*8], xmm2 */
        expect(g, "c4e2699104c8", "r100080+4 rfff80+4");
        /* vgatherqpd, vgatherqps */
        expect(g, "c4e2e99304c8", "r100080+8 rfff80+8");
        expect(g, "c4e2699304c8", "r100080+4 rfff80+4");

        g->vectors.k[1] = 0x8001;
        for (unsigned i = 0; i < 16; i++)
                set_dword(g, 1, i, i);
        /* vpgatherdd zmm0{k1}, [rax+zmm1*8], vpscatterdd */
        expect(g, "62f27d499004c8", "r100000+4 r100078+4");
        expect(g, "62f27d49a004c8", "w100000+4 w100078+4"); /* vmovups [rax]{k1}, zmm0 and back */
        expect(g, "62f17c491100", "w100000+4 w10003c+4");
        /* vpcompressd [rax]{k1}, zmm0: as many elements as bits, in a row */
        expect(g, "62f17c491000", "r100000+4 r10003c+4");
        expect(g, "62f27d498b00", "w100000+8");           /* vpmovzxbd zmm0{k1}, [rax] */
        expect(g, "62f27d493100", "r100000+1 r10000f+1"); /* vaddps zmm0{k1}, zmm0, [rax]{1to16} */
        expect(g, "62f17c595800", "r100000+4");
        g->vectors.k[1] = 0;
        expect(g, "62f17c595800", "");
        /* vmaskmovps xmm0, xmm2, [rax] and back; maskmovdqu xmm0, xmm2 */
        expect(g, "62f17c491100", "");
        set_dword(g, 2, 2, 0);
        set_dword(g, 2, 3, 0);
        expect(g, "c4e2692c00", "r100000+4 r100004+4");
        expect(g, "c4e2692e00", "w100000+4 w100004+4");
        expect(g, "660ff7c2", "w200003+1 w200007+1");
}

static void test_xsave_image(void **state) {
        const uint32_t offsets[3] = { 832, 896, 1408 };
        struct insn_vectors v;
        uint8_t image[2432] = { 0 };

        for (unsigned i = 0; i < 16; i++) {
                memset(image + 160 + i * 16, 0x10 + i, 16);
                memset(image + 576 + i * 16, 0x20 + i, 16);
                memset(image + 896 + i * 32, 0x30 + i, 32);
                memset(image + 1408 + i * 64, 0x40 + i, 64);
        }
        for (unsigned i = 0; i < 8; i++)
                memset(image + 832 + i * 8, i, 8);
        image[512] = 0xe7;
        insn_vectors_from_xsave(&v, image, sizeof(image), offsets);
        assert_int_equal(v.reg[0][0], 0x10);
        assert_int_equal(v.reg[15][15], 0x1f);
        assert_int_equal(v.reg[1][16], 0x21);
        assert_int_equal(v.reg[15][31], 0x2f);
        assert_int_equal(v.reg[2][32], 0x32);
        assert_int_equal(v.reg[2][63], 0x32);
        assert_int_equal(v.reg[16][0], 0x40);
        assert_int_equal(v.reg[31][63], 0x4f);
        assert_int_equal(v.k[7], 0x0707070707070707);

        /* Without AVX-512, and with AVX in its initial state */
        image[512] = 3;
        insn_vectors_from_xsave(&v, image, 832, (uint32_t[3]){ 0 });
        assert_int_equal(v.reg[1][15], 0x11);
        assert_int_equal(v.reg[1][16], 0);
        assert_int_equal(v.reg[16][0], 0);
        assert_int_equal(v.k[7], 0);
        insn_vectors_from_xsave(&v, image, 576, offsets);
        assert_int_equal(v.reg[15][15], 0x1f);
        insn_vectors_from_xsave(&v, image, 100, offsets);
        assert_int_equal(v.reg[0][0], 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fpu_and_state),
                cmocka_unit_test(test_sse_and_avx),
                cmocka_unit_test(test_vectors),
                cmocka_unit_test(test_xsave_image),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("insn-vector", tests, insn_side_setup,
                                           insn_side_teardown);
}
