/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vtl/inspect.h"

#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/hold.h"

const struct vtl_inspect_name vtl_inspect_names[] = {
        { HV_X64_REGISTER_RAX, "Rax" },
        { HV_X64_REGISTER_RBX, "Rbx" },
        { HV_X64_REGISTER_RCX, "Rcx" },
        { HV_X64_REGISTER_RDX, "Rdx" },
        { HV_X64_REGISTER_RSI, "Rsi" },
        { HV_X64_REGISTER_RDI, "Rdi" },
        { HV_X64_REGISTER_RBP, "Rbp" },
        { HV_X64_REGISTER_RSP, "Rsp" },
        { HV_X64_REGISTER_R8, "R8" },
        { HV_X64_REGISTER_R8 + 1, "R9" },
        { HV_X64_REGISTER_R8 + 2, "R10" },
        { HV_X64_REGISTER_R8 + 3, "R11" },
        { HV_X64_REGISTER_R8 + 4, "R12" },
        { HV_X64_REGISTER_R8 + 5, "R13" },
        { HV_X64_REGISTER_R8 + 6, "R14" },
        { HV_X64_REGISTER_R15, "R15" },
        { HV_X64_REGISTER_RIP, "Rip" },
        { HV_X64_REGISTER_RFLAGS, "Rflags" },
        { HV_X64_REGISTER_CR0, "Cr0" },
        { HV_X64_REGISTER_CR2, "Cr2" },
        { HV_X64_REGISTER_CR3, "Cr3" },
        { HV_X64_REGISTER_CR4, "Cr4" },
        { HV_X64_REGISTER_CR8, "Cr8" },
        { HV_X64_REGISTER_EFER, "Efer" },
        { HV_X64_REGISTER_DR7, "Dr7" },
        { HV_X64_REGISTER_CS, "Cs" },
        { HV_X64_REGISTER_SS, "Ss" },
        { HV_X64_REGISTER_DS, "Ds" },
        { HV_X64_REGISTER_ES, "Es" },
        { HV_X64_REGISTER_FS, "Fs" },
        { HV_X64_REGISTER_GS, "Gs" },
        { HV_X64_REGISTER_TR, "Tr" },
        { HV_X64_REGISTER_LDTR, "Ldtr" },
        { HV_X64_REGISTER_GDTR, "Gdtr" },
        { HV_X64_REGISTER_IDTR, "Idtr" },
        { HV_X64_REGISTER_KERNEL_GS_BASE, "KernelGsBase" },
        { HV_X64_REGISTER_STAR, "Star" },
        { HV_X64_REGISTER_LSTAR, "Lstar" },
        { HV_X64_REGISTER_CSTAR, "Cstar" },
        { HV_X64_REGISTER_SFMASK, "Sfmask" },
        { HV_X64_REGISTER_SYSENTER_CS, "SysenterCs" },
        { HV_X64_REGISTER_SYSENTER_EIP, "SysenterEip" },
        { HV_X64_REGISTER_SYSENTER_ESP, "SysenterEsp" },
        { HV_X64_REGISTER_PAT, "Pat" },
        { HV_X64_REGISTER_APIC_BASE, "ApicBase" },
        { HV_REGISTER_VP_ASSIST_PAGE, "VpAssistPage" },
        { HV_REGISTER_VSM_VP_STATUS, "VsmVpStatus" },
};
const unsigned vtl_inspect_count = ARRAY_SIZE(vtl_inspect_names);
_Static_assert(ARRAY_SIZE(vtl_inspect_names) <= VTL_INSPECT_MAX, "one answer holds all");

static int look(struct vtl_vp *vp, void *arg) {
        struct vtl_inspection *i = arg;
        int r = 0;

        for (unsigned n = 0; n < vtl_inspect_count && r == 0; n++)
                r = vtl_register_look(vp, i->vtl, vtl_inspect_names[n].name, &i->values[n]);
        return r;
}

int vtl_inspect(struct vtl_partition *p, struct vtl_inspection *i) {
        int r;

        if (i->vp >= p->n_vps)
                return -ENXIO;
        if (!i->asked) {
                if (i->vtl > 1 || !(p->vps[i->vp].enabled_vtls & 1u << i->vtl))
                        return -ENODATA;
                i->work = (struct vtl_work){ .fn = look, .arg = i };
                r = vtl_work_post(&p->vps[i->vp], &i->work);
                if (r < 0)
                        return r == -EBUSY ? -EAGAIN : r;
                i->asked = true;
        }
        if (!i->work.done)
                return -EAGAIN;
        i->asked = false;
        /* A status: VTL1 has gone meanwhile. */
        return i->work.result > 0 ? -ENODATA : i->work.result;
}

void vtl_inspect_cancel(struct vtl_partition *p, struct vtl_inspection *i) {
        if (i->asked)
                vtl_work_cancel(&p->vps[i->vp], &i->work);
        i->asked = false;
}
