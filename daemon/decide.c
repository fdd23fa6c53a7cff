/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "daemon/decide.h"

enum policy_enforcement decide_execute_enforcement(const struct vtl_options *o) {
        return o->strict_execute_pages > 0 ? POLICY_ENFORCEMENT_BOUNDED : POLICY_ENFORCEMENT_NONE;
}

/* The VMM's devices reach all memory. */
static bool dma_is_enforced(void) {
        return false;
}

bool decide_requirements(const struct policy_decision *d, char why[DECIDE_TEXT_SIZE]) {
        enum policy_enforcement execute = decide_execute_enforcement(&d->options);

        why[0] = '\0';
        if (!d->allow_vtl1)
                return true;
        if (execute < d->execute_enforcement)
                (void) snprintf(why, DECIDE_TEXT_SIZE,
                                "it requires execute-enforcement = %s, and here it is %s",
                                string_table_name(&policy_execute_table, d->execute_enforcement),
                                string_table_name(&policy_enforcement_table, execute));
        else if (d->dma_enforcement != POLICY_DMA_ANY && !dma_is_enforced())
                (void) snprintf(why, DECIDE_TEXT_SIZE,
                                "it requires dma-enforcement = %s, and here it is none",
                                string_table_name(&policy_dma_table, d->dma_enforcement));
        return !why[0];
}

void decide(const struct policy *p, const struct policy_subject *s, struct policy_decision *ret,
            char why[DECIDE_TEXT_SIZE]) {
        policy_decide(p, s, ret);
        if (!decide_requirements(ret, why))
                ret->allow_vtl1 = false;
}

bool decide_vps(const struct policy_decision *d, unsigned vps, char why[DECIDE_TEXT_SIZE]) {
        if (d->max_vps == 0 || vps <= d->max_vps)
                return true;
        (void) snprintf(why, DECIDE_TEXT_SIZE,
                        "policy \"%s\" allows this VM at most %u VPs, and it has %u", d->name,
                        d->max_vps, vps);
        return false;
}
