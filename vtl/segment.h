/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Segment registers: HV_X64_SEGMENT_REGISTER and KVM's form of the same. */

#include <linux/kvm.h>

#include "vtl/hvdef.h"

struct kvm_segment vtl_segment_to_kvm(const struct hv_x64_segment_register *s);
struct hv_x64_segment_register vtl_segment_from_kvm(const struct kvm_segment *g);
