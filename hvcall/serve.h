/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What links the hypercall engine to the VTL machine. */

struct vtl_vp;

/**
 * hvcall_serve() - serve the hypercall in a VP's control page, as vtl_config.hypercall
 *
 * Return: 0, or a negative errno for the host's failure.
 */
int hvcall_serve(struct vtl_vp *vp);
