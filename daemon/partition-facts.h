/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Rare facts about a VM that its worker tells and that change nothing in the broker: they go to the
 * journal and the bus, each kind at most ten times a second.
 */

#include "daemon/worker-proto.h"
#include "vtl/hvdef.h"

struct partition;

/* VTL_EVENT_PROTECTION_REFUSED, VTL_EVENT_STARTUP, VTL_EVENT_CRASH; others are ignored. */
void partition_fact(struct partition *p, const struct worker_notice *n);

/**
 * partition_crash() - what the guest said when it last reported a crash
 *
 * What VTL1 says about itself may be addresses: beside the first number it is shown only where
 * policy lets registers be read.
 *
 * Return: how many of @ret there are; 0: it has not.
 */
unsigned partition_crash(const struct partition *p, uint64_t ret[HV_CRASH_PARAMETERS]);
