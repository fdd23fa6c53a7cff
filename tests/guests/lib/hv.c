/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hypercalls by the real protocol: OS id, page at a GPN of ours, call its first byte (vsm.md 1.6,
 * 2.1).
 */
#include "hv.h"

uint64_t hv_os_id = 0x8100000000010000; /* open source, Linux's OS type, version 1 */

_Static_assert(offsetof(struct xmm_call, control) == 256 && offsetof(struct xmm_call, entry) == 280,
               "xmm.S");

struct cpu_pages {
        uint8_t in[HV_PAGE_SIZE], out[HV_PAGE_SIZE], assist[HV_PAGE_SIZE], simp[HV_PAGE_SIZE],
                siefp[HV_PAGE_SIZE];
} __attribute__((aligned(4096)));

static uint8_t hypercall_pages[2][HV_PAGE_SIZE] __attribute__((aligned(4096)));
static struct cpu_pages cpu_pages[2][MAX_CPUS];

bool hv_present(void) {
        uint32_t r[4];

        cpuid(1, 0, r);
        if (!(r[2] >> 31))
                return false;
        cpuid(HV_CPUID_VENDOR, 0, r);
        if (r[1] != 0x7263694d || r[2] != 0x666f736f || r[3] != 0x76482074 ||
            r[0] < HV_CPUID_LIMITS)
                return false;
        cpuid(HV_CPUID_INTERFACE, 0, r);
        return r[0] == 0x31237648;
}

uint64_t hv_privileges(void) {
        uint32_t r[4];

        cpuid(HV_CPUID_FEATURES, 0, r);
        return (uint64_t) r[1] << 32 | r[0];
}

uint32_t hv_features(void) {
        uint32_t r[4];

        cpuid(HV_CPUID_FEATURES, 0, r);
        return r[3];
}

uint64_t hv_hypercall_page(unsigned vtl) {
        return (uint64_t) hypercall_pages[vtl];
}

void hv_prepare(uint64_t page) {
        struct cpu *c = this_cpu();
        struct cpu_pages *p = &cpu_pages[c->vtl][c->index];
        uint64_t offsets;

        c->in = (uint64_t *) p->in;
        c->out = (uint64_t *) p->out;
        c->assist = (struct hv_vp_assist_page *) p->assist;
        c->simp = (struct hv_message_page *) p->simp;
        c->siefp = p->siefp;
        c->hypercall_entry = page;
        if (hv_privileges() & HV_PRIV_VSM) {
                offsets = hv_register(HV_REGISTER_VSM_CODE_PAGE_OFFSETS);
                c->vtl_call_entry = c->hypercall_entry + (offsets & 0xfff);
                c->vtl_return_entry = c->hypercall_entry + (offsets >> 12 & 0xfff);
        }
}

void hv_open(void) {
        struct cpu *c = this_cpu();
        uint64_t page = hv_hypercall_page(c->vtl) | HV_MSR_PAGE_ENABLE;

        wrmsr(HV_MSR_GUEST_OS_ID, hv_os_id);
        wrmsr(HV_MSR_HYPERCALL, page);
        if (rdmsr(HV_MSR_GUEST_OS_ID) != hv_os_id || rdmsr(HV_MSR_HYPERCALL) != page)
                bail_out("VTL%u: no hypercall page: MSR says 0x%lx", c->vtl,
                         rdmsr(HV_MSR_HYPERCALL));
        hv_prepare(hv_hypercall_page(c->vtl));
}

uint64_t hv_time(void) {
        return rdmsr(HV_MSR_TIME_REF_COUNT);
}

uint64_t hv_call(uint64_t control, uint64_t in, uint64_t out) {
        return hv_call_at(control, in, out, this_cpu()->hypercall_entry);
}

uint64_t hv_call_memory(uint64_t control) {
        return hv_call(control, (uint64_t) this_cpu()->in, (uint64_t) this_cpu()->out);
}

unsigned hv_enable_partition_vtl(uint64_t partition, uint8_t vtl, uint8_t flags) {
        struct hv_input_enable_partition_vtl *in = (void *) this_cpu()->in;

        *in = (struct hv_input_enable_partition_vtl){ .partition = partition,
                                                      .vtl = vtl,
                                                      .flags = flags };
        return HV_RESULT_STATUS(hv_call_memory(HVCALL_ENABLE_PARTITION_VTL));
}

unsigned hv_enable_vp_vtl(uint64_t partition, uint32_t vp, uint8_t vtl,
                          const struct hv_initial_vp_context *context) {
        struct hv_input_enable_vp_vtl *in = (void *) this_cpu()->in;

        *in = (struct hv_input_enable_vp_vtl){
                .partition = partition, .vp = vp, .vtl = vtl, .context = *context
        };
        return HV_RESULT_STATUS(hv_call_memory(HVCALL_ENABLE_VP_VTL));
}

unsigned hv_start_vp(uint64_t partition, uint32_t vp, uint8_t vtl,
                     const struct hv_initial_vp_context *context) {
        struct hv_input_enable_vp_vtl *in = (void *) this_cpu()->in;

        *in = (struct hv_input_enable_vp_vtl){
                .partition = partition, .vp = vp, .vtl = vtl, .context = *context
        };
        return HV_RESULT_STATUS(hv_call_memory(HVCALL_START_VIRTUAL_PROCESSOR));
}

uint64_t hv_modify_mask(uint32_t flags, uint8_t input_vtl, const uint64_t *gpns, unsigned n) {
        struct hv_input_modify_mask *in = (void *) this_cpu()->in;

        *in = (struct hv_input_modify_mask){ .partition = HV_PARTITION_ID_SELF,
                                             .flags = flags,
                                             .vtl = input_vtl };
        for (unsigned i = 0; i < n; i++)
                in->gpn[i] = gpns[i];
        return hv_call_memory(HVCALL_MODIFY_VTL_PROTECTION_MASK | HV_REPS(n));
}

unsigned hv_install_intercept(uint32_t type, uint32_t access, uint64_t parameter) {
        struct {
                uint64_t partition;
                uint32_t access, type;
                uint64_t parameter;
        } *in = (void *) this_cpu()->in;

        in->partition = HV_PARTITION_ID_SELF;
        in->access = access;
        in->type = type;
        in->parameter = parameter;
        return HV_RESULT_STATUS(hv_call_memory(HVCALL_INSTALL_INTERCEPT));
}

void hv_hold(uint64_t seconds) {
        uint64_t until = hv_time() + seconds * 10000000;

        if (seconds == 0)
                return;
        print("# holding for %lu s\n", seconds);
        while (hv_time() < until)
                __asm__ volatile("pause");
}

uint64_t hv_get_registers(uint32_t vp, uint8_t input_vtl, const uint32_t *names, unsigned n,
                          union hv_register_value *ret_values) {
        struct hv_input_registers *in = (void *) this_cpu()->in;
        union hv_register_value *out = (void *) this_cpu()->out;
        uint64_t r;

        *in = (struct hv_input_registers){ .partition = HV_PARTITION_ID_SELF,
                                           .vp = vp,
                                           .vtl = input_vtl };
        for (unsigned i = 0; i < n; i++)
                in->name[i] = names[i];
        r = hv_call_memory(HVCALL_GET_VP_REGISTERS | HV_REPS(n));
        for (unsigned i = 0; i < HV_RESULT_REPS(r) && i < n; i++)
                ret_values[i] = out[i];
        return r;
}

uint64_t hv_set_registers(uint32_t vp, uint8_t input_vtl, const uint32_t *names, unsigned n,
                          const union hv_register_value *values) {
        struct hv_input_registers *in = (void *) this_cpu()->in;
        struct hv_register_assoc *list = (void *) (in + 1);

        *in = (struct hv_input_registers){ .partition = HV_PARTITION_ID_SELF,
                                           .vp = vp,
                                           .vtl = input_vtl };
        for (unsigned i = 0; i < n; i++)
                list[i] = (struct hv_register_assoc){ .name = names[i], .value = values[i] };
        return hv_call_memory(HVCALL_SET_VP_REGISTERS | HV_REPS(n));
}

void vtl1_do_ret(void) {
        const uint32_t names[] = { HV_X64_REGISTER_RIP, HV_X64_REGISTER_RSP };
        union hv_register_value v[2];

        if (HV_RESULT_STATUS(hv_get_registers(HV_VP_INDEX_SELF, VTL0, names, 2, v)) != 0)
                bail_out("VTL1 cannot read registers");
        v[0].reg64 = peek64(v[1].reg64);
        v[1].reg64 += 8;
        if (HV_RESULT_STATUS(hv_set_registers(HV_VP_INDEX_SELF, VTL0, names, 2, v)) != 0)
                bail_out("VTL1 cannot set registers");
}

unsigned hv_get(uint8_t input_vtl, uint32_t name, uint64_t *ret_value) {
        union hv_register_value v = { .low64 = 0 };
        uint64_t r = hv_get_registers(HV_VP_INDEX_SELF, input_vtl, &name, 1, &v);

        *ret_value = v.low64;
        return HV_RESULT_STATUS(r);
}

unsigned hv_set(uint8_t input_vtl, uint32_t name, uint64_t value) {
        union hv_register_value v = { .low64 = value };

        return HV_RESULT_STATUS(hv_set_registers(HV_VP_INDEX_SELF, input_vtl, &name, 1, &v));
}

uint64_t hv_register(uint32_t name) {
        uint64_t v;
        unsigned status = hv_get(VTL_SELF, name, &v);

        if (status != HV_STATUS_SUCCESS)
                bail_out("VTL%u: GetVpRegisters of 0x%x: status 0x%x", this_cpu()->vtl, name,
                         status);
        return v;
}
