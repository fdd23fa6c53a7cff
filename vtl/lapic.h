/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * VTL1's local APIC. VTL0's is KVM's; a plane without in-kernel irqchip has this one, so that its
 * state is exact, inspectable and saveable. xAPIC page at APIC_BASE and x2APIC MSRs show the same
 * registers.
 *
 * The timer counts at 1 GHz, as KVM's does; whoever owns the APIC sets @now before each access and
 * calls lapic_timer_expire() in time. Thermal, performance counter and LINT entries are stored and
 * have no source: device interrupts are VTL0's.
 */

#include <stdbool.h>
#include <stdint.h>

#define LAPIC_BASE_RESET 0xfee00000ull
#define LAPIC_BASE_BSP (1ull << 8)
#define LAPIC_BASE_X2APIC (1ull << 10)
#define LAPIC_BASE_ENABLE (1ull << 11)
#define LAPIC_BASE_ADDRESS 0x000ffffffffff000ull

#define LAPIC_MSR_BASE 0x1bu
#define LAPIC_MSR_X2APIC_FIRST 0x800u
#define LAPIC_MSR_X2APIC_LAST 0x8ffu

#define LAPIC_SVR_ENABLE (1u << 8)
#define LAPIC_LVT_MASKED (1u << 16)

/* Bits of ESR */
#define LAPIC_ESR_SEND_VECTOR (1u << 5)
#define LAPIC_ESR_RECEIVE_VECTOR (1u << 6)
#define LAPIC_ESR_REGISTER (1u << 7)

/* As KVM shows it for VTL0: version 14h, six LVT entries (no CMCI) */
#define LAPIC_VERSION 0x00050014u

enum lapic_lvt {
        LAPIC_LVT_TIMER,
        LAPIC_LVT_THERMAL,
        LAPIC_LVT_PERFMON,
        LAPIC_LVT_LINT0,
        LAPIC_LVT_LINT1,
        LAPIC_LVT_ERROR,
        _LAPIC_LVT_MAX,
};

enum lapic_delivery {
        LAPIC_DELIVERY_FIXED = 0,
        LAPIC_DELIVERY_LOWEST = 1, /* one of the destinations, the one with the lowest PPR */
        LAPIC_DELIVERY_NMI = 4,
        LAPIC_DELIVERY_INIT = 5,
        LAPIC_DELIVERY_SIPI = 6,
};

enum lapic_shorthand {
        LAPIC_SHORTHAND_NONE,
        LAPIC_SHORTHAND_SELF,
        LAPIC_SHORTHAND_ALL,
        LAPIC_SHORTHAND_OTHERS,
};

struct lapic {
        uint64_t base_msr;
        uint32_t id;
        uint32_t tpr;
        uint32_t svr;
        uint32_t ldr, dfr; /* xAPIC mode; x2APIC's LDR follows from the ID */
        uint32_t esr;      /* as last latched by a write to ESR */
        uint32_t errors;   /* since then */
        uint32_t irr[8], isr[8], tmr[8];
        uint32_t auto_eoi[8]; /* vectors requested with AutoEOI: no ISR bit when delivered */
        uint64_t icr;
        uint32_t lvt[_LAPIC_LVT_MAX];
        uint32_t timer_initial, timer_divide;
        uint64_t now;          /* reference time, by whoever accesses the registers, before */
        uint64_t timer_due;    /* reference time, or UINT64_MAX */
        uint64_t tsc_deadline; /* IA32_TSC_DEADLINE while armed */
};

/* An interrupt that a write to ICR or SELF IPI asks for; the caller finds the destinations. */
struct lapic_ipi {
        bool valid;
        uint8_t vector;
        uint8_t delivery_mode; /* enum lapic_delivery; other modes are never valid */
        bool logical;
        uint8_t shorthand; /* enum lapic_shorthand */
        uint32_t destination;
        bool x2apic; /* how @destination is to be read */
};

/**
 * lapic_reset() - the state after power-up: xAPIC mode, enabled in APIC_BASE, disabled by software
 * @l: the APIC
 * @apic_id: x2APIC ID; its low 8 bits are the xAPIC ID
 * @bsp: sets the BSP flag of APIC_BASE
 */
void lapic_reset(struct lapic *l, uint32_t apic_id, bool bsp);

/* Whether the timer is in TSC-deadline mode; then and only then IA32_TSC_DEADLINE does something.
 */
bool lapic_tsc_deadline_mode(const struct lapic *l);

/**
 * lapic_set_tsc_deadline() - a write to IA32_TSC_DEADLINE
 * @l: the APIC
 * @tsc: what was written; 0 disarms
 * @due: the reference time of that TSC value
 */
void lapic_set_tsc_deadline(struct lapic *l, uint64_t tsc, uint64_t due);

/* Requests the timer's vector when it is due by l->now; @l->timer_due says when that is next. */
void lapic_timer_expire(struct lapic *l);

/**
 * lapic_request() - request a fixed edge interrupt
 * @l: the APIC
 * @vector: the vector; one below 16 is an error that ESR tells of
 * @auto_eoi: no EOI will be written; the latest request of a vector decides
 *
 * Return: whether the APIC took the request (a request already pending is merged with it); false
 * when it is disabled, by software or in APIC_BASE, or when the vector is below 16.
 */
bool lapic_request(struct lapic *l, uint8_t vector, bool auto_eoi);

/**
 * lapic_pending() - what would be delivered now, given TPR and ISR
 * @l: the APIC
 *
 * What was requested before software disabled the APIC stays deliverable (SDM 3A, "Local APIC State
 * After It Has Been Software Disabled").
 *
 * Return: the vector, or -1.
 */
int lapic_pending(const struct lapic *l);

/* Whether any vector is requested, deliverable or not; the vector in service, or -1. */
bool lapic_requested(const struct lapic *l);
int lapic_in_service(const struct lapic *l);

/**
 * lapic_accept() - a vector is being delivered: move it from IRR to ISR, or nowhere with AutoEOI
 * @l: the APIC
 * @vector: what lapic_pending() said
 */
void lapic_accept(struct lapic *l, uint8_t vector);

/* Ends the service of the highest vector in ISR, if any. */
void lapic_eoi(struct lapic *l);
uint8_t lapic_ppr(const struct lapic *l);

/**
 * lapic_matches() - whether an IPI's destination names this APIC
 * @l: a possible receiver
 * @ipi: the interrupt
 *
 * Knows no sender: for LAPIC_SHORTHAND_SELF and LAPIC_SHORTHAND_OTHERS the caller leaves out who
 * must be left out.
 *
 * Return: true when it does; false too when @l is disabled in APIC_BASE.
 */
bool lapic_matches(const struct lapic *l, const struct lapic_ipi *ipi);

/**
 * lapic_mmio_read() - read a 32-bit register of the xAPIC page
 * @l: the APIC
 * @offset: into the page; registers are at multiples of 16
 * @ret: the value, 0 when there is no such register
 *
 * Return: false when there is no such register, or no page: x2APIC mode, or disabled.
 */
bool lapic_mmio_read(struct lapic *l, uint32_t offset, uint32_t *ret);

/**
 * lapic_mmio_write() - write a 32-bit register of the xAPIC page
 * @l: the APIC
 * @offset: into the page
 * @value: reserved bits are ignored
 * @ret_ipi: always set; valid when the write sends an interrupt
 *
 * Return: as lapic_mmio_read().
 */
bool lapic_mmio_write(struct lapic *l, uint32_t offset, uint32_t value, struct lapic_ipi *ret_ipi);

/**
 * lapic_msr_read() - read APIC_BASE or an x2APIC MSR
 * @l: the APIC
 * @msr: 0x1b or 0x800-0x8ff
 * @ret: the value, 0 on #GP
 *
 * Return: false for #GP.
 */
bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *ret);

/**
 * lapic_msr_write() - write APIC_BASE or an x2APIC MSR
 * @l: the APIC
 * @msr: 0x1b or 0x800-0x8ff
 * @value: the value
 * @ret_ipi: always set; valid when the write sends an interrupt
 *
 * The page cannot be moved: another address in APIC_BASE, or another BSP flag, is #GP. So are mode
 * changes that the architecture forbids.
 *
 * Return: false for #GP; nothing has changed then.
 */
bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value, struct lapic_ipi *ret_ipi);

/**
 * lapic_icr_write() - send an IPI in the mode that the APIC is in
 * @l: the APIC
 * @value: ICR; the destination is in bits 63:56 (xAPIC) or 63:32 (x2APIC)
 * @ret_ipi: as in lapic_msr_write()
 *
 * The way in for HV_X64_MSR_ICR too.
 *
 * Return: false for #GP (reserved bits in x2APIC mode).
 */
bool lapic_icr_write(struct lapic *l, uint64_t value, struct lapic_ipi *ret_ipi);

/* CR8 is TPR[7:4]. */
void lapic_set_cr8(struct lapic *l, uint8_t cr8);
uint8_t lapic_cr8(const struct lapic *l);
