/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a VM gets: what policy allows it, if this host can enforce what policy requires.
 */

#include "policy/policy.h"

#define DECIDE_TEXT_SIZE 192u

/* What is enforced here for a VM of these options; see vtld(8), "What is not enforced". */
enum policy_enforcement decide_execute_enforcement(const struct vtl_options *o);

/**
 * decide_requirements() - can everything be had that a rule requires for VTL1?
 * @why: what cannot; "" otherwise
 */
bool decide_requirements(const struct policy_decision *d, char why[DECIDE_TEXT_SIZE]);

/**
 * decide() - by policy and by what can be enforced
 * @p: NULL when there is no policy
 * @ret: the decision: VTL1 is not allowed when something that is required cannot be had
 * @why: what that is; "" when only the rule itself decided
 */
void decide(const struct policy *p, const struct policy_subject *s, struct policy_decision *ret,
            char why[DECIDE_TEXT_SIZE]);

/**
 * decide_vps() - may a VM have so many VPs?
 * @why: when it may not, a text for its VMM
 */
bool decide_vps(const struct policy_decision *d, unsigned vps, char why[DECIDE_TEXT_SIZE]);
