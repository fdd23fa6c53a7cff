/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Static tracepoints of provider "vtld" (USDT): for perf, bpftrace and SystemTap on programs that
 * run already; vtl-probes(7) describes each. One costs a NOP until somebody attaches to it. They
 * are in whatever links the code: the worker, libvtlvmm (the hot path) and vtlrun.
 *
 * Arguments are numbers only, so that nothing has to be read from the traced process, and the first
 * one is the index of the VP; the VM is the process.
 */

#ifdef VTL_WITH_PROBES
#define SDT_USE_VARIADIC
#include <sys/sdt.h>
#define VTL_PROBE(name, ...) STAP_PROBEV(vtld, name, __VA_ARGS__)
#else
/* The arguments are looked at by the compiler all the same, and not evaluated. */
#define VTL_PROBE(name, ...) ((void) sizeof(((const uint64_t[]){ __VA_ARGS__ })[0]))
#endif

/* Why the running level changes; the value is part of the probe's interface, and of a trace's */
enum vtl_switch_reason {
        VTL_SWITCH_NONE,
        VTL_SWITCH_CALL,        /* VTL0 made a VTL call, or starts with VTL1 first */
        VTL_SWITCH_INTERRUPT,   /* VTL1 has an interrupt */
        VTL_SWITCH_RETURN,      /* VTL1 returned */
        VTL_SWITCH_FAST_RETURN, /* VTL1 returned, and left VTL0's registers alone */
        _VTL_SWITCH_REASON_MAX,
};

/* @hot: done by the library in the VMM alone */
#define VTL_PROBE_SWITCH(vp, from, to, reason, hot) VTL_PROBE(switch, vp, from, to, reason, hot)

/* A hypercall that reached the engine, by its control word; VTL calls and returns are among them */
#define VTL_PROBE_HYPERCALL(vp, vtl, control, rip) VTL_PROBE(hypercall, vp, vtl, control, rip)

/* @outcome: enum hv_dispatch_result; @result: what the guest gets in RAX when that is "done" */
#define VTL_PROBE_HYPERCALL_DONE(vp, vtl, control, outcome, result) \
        VTL_PROBE(hypercall_done, vp, vtl, control, outcome, result)

/* VTL1 was told of an access; @what: a GPA, MSR or port, by @type (enum hv_message_type) */
#define VTL_PROBE_INTERCEPT(vp, type, access, what, rip) \
        VTL_PROBE(intercept, vp, type, access, what, rip)

/* VTL1 was told that VTL0 has an interrupt */
#define VTL_PROBE_VINA(vp, vector) VTL_PROBE(vina, vp, vector)

/* An exit for the engine; @kind: enum vtl_exit_kind */
#define VTL_PROBE_EXIT(vp, vtl, kind) VTL_PROBE(exit, vp, vtl, kind)
