/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What must be true of a guest that fuzz-engine plays, whatever it does. */

#include "tests/must.h"
#include "tests/unit/engine-fixture.h"

/* VTL1's pages */
#define CLOSED 0x180000ull
#define READ_ONLY 0x182000ull

/* Secrets are what VTL0 must never see. It does not make them up either: engine_harmless() gives 0
 * for one. */
bool engine_is_secret(uint64_t v);
uint64_t engine_harmless(uint64_t v);

/* Fills VTL1's pages, and its registers of VP 0, with secrets. */
void engine_hide_secrets(struct fx *f);

/* VTL1's pages are as it left them, and VTL0 cannot get at them. */
void engine_check_closed(const struct fx *f);
/* No secret is in VTL0's registers; in VTL0's memory. */
void engine_check_registers(const struct model_vcpu *c);
void engine_check_memory(const struct fx *f);
/* Views and engine agree on every page. */
void engine_check_views(const struct fx *f);
