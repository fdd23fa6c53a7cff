/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * VTL0's accesses to MSRs and I/O ports that VTL1 intercepts (vsm.md 8.6, 8.7): the instruction is
 * taken back and VTL1 is told. An exit that no VTL1 wants (KVM's filters are one for all VPs, and
 * some intercepts depend on the value) is carried out here.
 */

#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/intercept.h"
#include "vtl/memory.h"
#include "vtl/registers-internal.h"
#include "vtl/segment.h"

#define MSR_APIC_BASE 0x1bu
#define MSR_EFER 0xc0000080u
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define CR0_PG (1ull << 31)
#define RFLAGS_DF (1ull << 10)
#define MSR_INSN_LENGTH 2
#define OPCODE_OUTSB 0x6e
#define OPCODE_OUTSD 0x6f
#define OPCODE_OUT_IMM 0xe6 /* and with bit 0 */
#define OPCODE_OUT_DX 0xee
#define OPCODE_INSB 0x6c
#define OPCODE_INSD 0x6d

/* ---- MSRs ---- */

static int get_msr(struct vtl_vp *vp, uint32_t msr, uint64_t *ret) {
        struct plane_msr m = { .index = msr };
        int r = vtl_op(vp->partition, get, 0, PLANE_MSRS, &m, sizeof(m));

        *ret = m.value;
        return r == -EINVAL ? 1 : r;
}

static int set_msr(struct vtl_vp *vp, uint32_t msr, uint64_t value) {
        struct plane_msr m = { .index = msr, .value = value };
        int r = vtl_op(vp->partition, set, 0, PLANE_MSRS, &m, sizeof(m));

        return r == -EINVAL ? 1 : r;
}

/* KVM's copy of the system registers has it too, and would put the old one back. */
static int set_sregs(struct vtl_vp *vp, uint32_t msr, uint64_t value) {
        struct kvm_sregs s = vp->ctl->sregs;
        int r;

        if (msr == MSR_EFER)
                s.efer = value;
        else
                s.apic_base = value;
        r = vtl_op(vp->partition, set, 0, PLANE_SREGS, &s, sizeof(s));
        return r == -EINVAL ? 1 : r;
}

/* What a write by the guest may not do, and one by the host may */
static int write_efer(struct vtl_vp *vp, uint64_t value) {
        const struct kvm_sregs *s = &vp->ctl->sregs;
        int r;

        if ((s->cr0 & CR0_PG) && ((value ^ s->efer) & EFER_LME))
                return 1;
        value = (value & ~EFER_LMA) | (s->efer & EFER_LMA);
        r = set_msr(vp, MSR_EFER, value);
        return r != 0 ? r : set_sregs(vp, MSR_EFER, value);
}

static int write_apic_base(struct vtl_vp *vp, uint64_t value) {
        struct lapic l = { .base_msr = vp->ctl->sregs.apic_base };
        struct lapic_ipi ipi;
        int r;

        /* The page cannot be moved, and only some changes of the mode are legal. */
        if (!lapic_msr_write(&l, MSR_APIC_BASE, value, &ipi))
                return 1;
        r = set_msr(vp, MSR_APIC_BASE, value);
        return r != 0 ? r : set_sregs(vp, MSR_APIC_BASE, value);
}

static int write_msr(struct vtl_vp *vp, uint32_t msr, uint64_t value) {
        const struct register_access a = {
                .caller = vp, .vp = vp, .vtl = 0, .name = register_of_msr(msr)
        };
        const union hv_register_value v = { .reg64 = value };
        int r;

        if (msr == MSR_EFER)
                return write_efer(vp, value);
        if (msr == MSR_APIC_BASE)
                return write_apic_base(vp, value);
        if (!a.name)
                return set_msr(vp, msr, value);
        r = register_set_msr(&a, &v);
        return MIN(r, 1);
}

static int report_msr(struct vtl_vp *vp, uint32_t msr, bool is_write) {
        struct fault_access f = { .insn_len = MSR_INSN_LENGTH };
        struct hv_msr_intercept m = { .msr = msr };
        int r = vtl_op(vp->partition, unwind, 0);

        if (r < 0)
                return r;
        vp->ctl->exit.kind = VTL_EXIT_KICK; /* the vCPU is at an instruction boundary now */
        m.header = vtl_intercept_header(
                vp, is_write ? HV_INTERCEPT_ACCESS_WRITE : HV_INTERCEPT_ACCESS_READ, &f);
        m.rdx = vp->ctl->regs.rdx;
        m.rax = vp->ctl->regs.rax;
        (void) vtl_intercept_post(vp, HV_MESSAGE_X64_MSR_INTERCEPT, &m, sizeof(m), msr);
        return 0;
}

int vtl_vtl0_msr_read(struct vtl_vp *vp, uint32_t msr, uint64_t *ret) {
        if (vtl_intercept_wants_msr(vp, msr, false, 0))
                return report_msr(vp, msr, false);
        return get_msr(vp, msr, ret);
}

int vtl_vtl0_msr_write(struct vtl_vp *vp, uint32_t msr, uint64_t value) {
        uint64_t old = 0;
        int r = get_msr(vp, msr, &old);

        if (r < 0)
                return r;
        if (vtl_intercept_wants_msr(vp, msr, true, r == 0 ? old ^ value : UINT64_MAX))
                return report_msr(vp, msr, true);
        return write_msr(vp, msr, value);
}

/* ---- I/O ports ---- */

/* The instruction's own byte, behind its prefixes; 0 for none. */
static uint8_t opcode(const struct fault_access *f) {
        for (unsigned i = 0; i < f->insn_len; i++)
                switch (f->insn_bytes[i]) {
                case 0x26: /* segments */
                case 0x2e:
                case 0x36:
                case 0x3e:
                case 0x64:
                case 0x65:
                case 0x66: /* sizes */
                case 0x67:
                case 0xf2: /* repetition */
                case 0xf3:
                case 0x40 ... 0x4f: /* REX */
                        break;
                default:
                        return f->insn_bytes[i];
                }
        return 0;
}

static bool has_rep(const struct fault_access *f) {
        for (unsigned i = 0; i < f->insn_len; i++)
                if (f->insn_bytes[i] == 0xf2 || f->insn_bytes[i] == 0xf3)
                        return true;
        return false;
}

/* Whether the instruction at RIP is the OUT that made the exit. After OUTS, and where KVM emulates
 * the guest, RIP is past it, and what is there may be anything. */
static bool at_out(const struct vtl_vp *vp, const struct vtl_exit *e,
                   const struct fault_access *f) {
        uint8_t op = opcode(f);

        if (!vp->partition->config.precise_faults)
                return false;
        if ((op & 0xfe) == OPCODE_OUT_IMM)
                return f->insn_bytes[f->insn_len - 1] == e->port;
        return (op & 0xfe) == OPCODE_OUT_DX && (vp->ctl->regs.rdx & 0xffff) == e->port;
}

static int fetch(struct vtl_vp *vp, struct fault_access *ret) {
        struct vtl_memory_view view = { .partition = vp->partition, .vtl = 0 };
        struct walk_space space = vtl_memory_space(&view);
        const struct fault_cpu cpu = { .regs = &vp->ctl->regs, .sregs = &vp->ctl->sregs };

        return fault_fetch(&cpu, &space, ret);
}

static void report_port(struct vtl_vp *vp, const struct vtl_exit *e, const struct fault_access *f) {
        const struct kvm_regs *r = &vp->ctl->regs;
        const struct kvm_sregs *s = &vp->ctl->sregs;
        uint8_t op = opcode(f);
        /* Without the instruction only one that has been carried out is known to be a string's. */
        bool string = op ? op >= OPCODE_INSB && op <= OPCODE_OUTSD
                         : vp->partition->config.precise_faults && e->is_write;
        struct hv_io_port_intercept m = {
                .header = vtl_intercept_header(
                        vp, e->is_write ? HV_INTERCEPT_ACCESS_WRITE : HV_INTERCEPT_ACCESS_READ, f),
                .port = (uint16_t) e->port,
                .access_info = (uint8_t) ((e->len & HV_IO_ACCESS_SIZE_MASK) |
                                          (string ? HV_IO_ACCESS_STRING : 0) |
                                          (string && has_rep(f) ? HV_IO_ACCESS_REP : 0)),
                .instruction_byte_count = f->insn_byte_count,
                .rax = r->rax,
                .ds = vtl_segment_from_kvm(&s->ds),
                .es = vtl_segment_from_kvm(&s->es),
                .rcx = r->rcx,
                .rsi = r->rsi,
                .rdi = r->rdi,
        };

        memcpy(m.instruction_bytes, f->insn_bytes, sizeof(m.instruction_bytes));
        (void) vtl_intercept_post(vp, HV_MESSAGE_X64_IO_PORT_INTERCEPT, &m, sizeof(m), m.port);
}

/*
 * Taking INS back has KVM finish it first, with zeros: what is in memory where they go comes back
 * afterwards. KVM reads ahead within a page at most.
 */
struct saved_memory {
        unsigned n;
        struct {
                uint64_t gpa;
                uint32_t len;
        } parts[2];
        uint8_t bytes[2 * HV_PAGE_SIZE];
};

static int destination(void *userdata, const struct insn_access *a) {
        struct insn_access *ret = userdata;

        if (a->type == INSN_WRITE)
                *ret = *a;
        return a->type == INSN_WRITE ? INSN_STOP : 0;
}

static int no_read(void *userdata, uint64_t gva, void *buf, uint32_t len, bool implicit) {
        return INSN_STOP;
}

static int save_memory(struct vtl_vp *vp, const struct vtl_exit *e, const struct fault_access *f,
                       struct saved_memory *ret) {
        struct vtl_partition *p = vp->partition;
        struct vtl_memory_view view = { .partition = p, .vtl = 0 };
        struct walk_space space = vtl_memory_space(&view);
        const struct insn_cpu cpu = { .regs = &vp->ctl->regs, .sregs = &vp->ctl->sregs };
        struct insn_access to = { 0 };
        const struct insn_env env = { .access = destination, .read = no_read, .userdata = &to };
        uint32_t left = (uint32_t) MIN(e->data * e->len, (uint64_t) HV_PAGE_SIZE), at = 0;
        uint64_t gva;

        ret->n = 0;
        if (insn_visit(&cpu, f->insn_bytes, f->insn_len, &env) != INSN_STOP || to.size == 0)
                return 0;
        gva = vp->ctl->regs.rflags & RFLAGS_DF ? to.gva + e->len - left : to.gva;
        for (; left > 0 && ret->n < ARRAY_SIZE(ret->parts); ret->n++) {
                uint32_t len = MIN(left, (uint32_t) (HV_PAGE_SIZE - (gva & (HV_PAGE_SIZE - 1))));
                struct walk_result w;
                int r = walk(&space, cpu.sregs, gva, WALK_WRITE | (to.cpl == 3 ? WALK_USER : 0),
                             &w);

                if (r < 0)
                        return r;
                if (w.fault != WALK_OK || vtl_memory_read(p, 0, w.gpa, ret->bytes + at, len, 0) < 0)
                        break;
                ret->parts[ret->n].gpa = w.gpa;
                ret->parts[ret->n].len = len;
                gva += len;
                at += len;
                left -= len;
        }
        return 0;
}

static void restore_memory(struct vtl_vp *vp, const struct saved_memory *m) {
        uint32_t at = 0;

        for (unsigned i = 0; i < m->n; at += m->parts[i++].len)
                /* Where VTL0 may not write nothing was written. */
                (void) vtl_memory_write(vp->partition, 0, m->parts[i].gpa, m->bytes + at,
                                        m->parts[i].len, HV_MAP_GPA_WRITABLE);
}

static int take_back(struct vtl_vp *vp, const struct vtl_exit *e, const struct fault_access *f) {
        struct saved_memory memory = { 0 };
        int r = e->is_write ? 0 : save_memory(vp, e, f, &memory);

        if (r == 0)
                r = vtl_op(vp->partition, unwind, 0);
        restore_memory(vp, &memory);
        return r;
}

int vtl_serve_port(struct vtl_vp *vp, const struct vtl_exit *e) {
        struct fault_access f = { 0 };
        int r;

        if (e->plane != 0 || (e->len != 1 && e->len != 2 && e->len != 4) || e->port > UINT16_MAX)
                return -EINVAL;
        if (!(vp->enabled_vtls & 2u)) {
                vp->ctl->action.kind = VTL_ACTION_TO_VMM; /* there is no VTL1 here to be told */
                return 0;
        }
        r = fetch(vp, &f);
        if (r < 0)
                return r;
        if (e->is_write && !at_out(vp, e, &f)) {
                /* It is over but for the device, which does not get it: VTL1 decides. */
                f.insn_len = f.insn_byte_count = 0;
                memset(f.insn_bytes, 0, sizeof(f.insn_bytes));
                r = vtl_op(vp->partition, complete, 0);
        } else
                r = take_back(vp, e, &f);
        if (r < 0)
                return r;
        vp->ctl->exit.kind = VTL_EXIT_KICK;
        report_port(vp, e, &f);
        return 0;
}
