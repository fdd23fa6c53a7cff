/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * VTL1's local APIC (SDM volume 3A, "Advanced Programmable Interrupt Controller"; vsm.md 7.1).
 *
 * Registers are numbered as x2APIC does: MSR - 0x800, which is the xAPIC page's offset / 16.
 */

#include <string.h>

#include "util/util.h"
#include "vtl/lapic.h"

enum lapic_reg {
        REG_ID = 0x02,
        REG_VERSION = 0x03,
        REG_TPR = 0x08,
        REG_PPR = 0x0a,
        REG_EOI = 0x0b,
        REG_LDR = 0x0d,
        REG_DFR = 0x0e,
        REG_SVR = 0x0f,
        REG_ISR = 0x10,
        REG_TMR = 0x18,
        REG_IRR = 0x20,
        REG_ESR = 0x28,
        REG_ICR = 0x30,
        REG_ICR_HIGH = 0x31,
        REG_LVT = 0x32,
        REG_TIMER_INITIAL = 0x38,
        REG_TIMER_CURRENT = 0x39,
        REG_TIMER_DIVIDE = 0x3e,
        REG_SELF_IPI = 0x3f,
};

enum lapic_access {
        X1R = 1 << 0,
        X1W = 1 << 1,
        X2R = 1 << 2,
        X2W = 1 << 3,
        RO = X1R | X2R,
        RW = X1R | X1W | X2R | X2W,
};

struct lapic_reg_row {
        uint8_t first, last;
        uint8_t access;
        uint32_t writable; /* other bits are ignored by xAPIC, #GP in x2APIC */
        uint32_t ignored;  /* read-only bits that x2APIC accepts too */
};

#define LVT_STATUS (1u << 12)
#define LVT_REMOTE_IRR (1u << 14)

static const struct lapic_reg_row lapic_regs[] = {
        { REG_ID, REG_ID, RO, 0, 0 },
        { REG_VERSION, REG_VERSION, RO, 0, 0 },
        { REG_TPR, REG_TPR, RW, 0xff, 0 },
        { REG_PPR, REG_PPR, RO, 0, 0 },
        { REG_EOI, REG_EOI, X1W | X2W, 0, 0 },
        { REG_LDR, REG_LDR, X1R | X1W | X2R, 0xff000000, 0 },
        { REG_DFR, REG_DFR, X1R | X1W, 0xf0000000, 0 },
        { REG_SVR, REG_SVR, RW, 0x3ff, 0 },
        { REG_ISR, REG_ISR + 7, RO, 0, 0 },
        { REG_TMR, REG_TMR + 7, RO, 0, 0 },
        { REG_IRR, REG_IRR + 7, RO, 0, 0 },
        { REG_ESR, REG_ESR, RW, 0, 0 },
        { REG_ICR, REG_ICR, RW, 0x000ccfff, 1u << 12 },
        { REG_ICR_HIGH, REG_ICR_HIGH, X1R | X1W, 0xff000000, 0 },
        { REG_LVT + LAPIC_LVT_TIMER, REG_LVT + LAPIC_LVT_TIMER, RW, 0x700ff, LVT_STATUS },
        { REG_LVT + LAPIC_LVT_THERMAL, REG_LVT + LAPIC_LVT_PERFMON, RW, 0x107ff, LVT_STATUS },
        { REG_LVT + LAPIC_LVT_LINT0, REG_LVT + LAPIC_LVT_LINT1, RW, 0x1a7ff,
          LVT_STATUS | LVT_REMOTE_IRR },
        { REG_LVT + LAPIC_LVT_ERROR, REG_LVT + LAPIC_LVT_ERROR, RW, 0x100ff, LVT_STATUS },
        { REG_TIMER_INITIAL, REG_TIMER_INITIAL, RW, UINT32_MAX, 0 },
        { REG_TIMER_CURRENT, REG_TIMER_CURRENT, RO, 0, 0 },
        { REG_TIMER_DIVIDE, REG_TIMER_DIVIDE, RW, 0xb, 0 },
        { REG_SELF_IPI, REG_SELF_IPI, X2W, 0xff, 0 },
};

static const struct lapic_reg_row *lapic_reg_find(uint32_t reg) {
        for (size_t i = 0; i < ARRAY_SIZE(lapic_regs); i++)
                if (reg >= lapic_regs[i].first && reg <= lapic_regs[i].last)
                        return &lapic_regs[i];
        return NULL;
}

/* ---- Bitmaps of vectors ---- */

static void bitmap_set(uint32_t map[8], uint8_t vector, bool value) {
        uint32_t bit = UINT32_C(1) << (vector % 32);

        if (value)
                map[vector / 32] |= bit;
        else
                map[vector / 32] &= ~bit;
}

static bool bitmap_test(const uint32_t map[8], uint8_t vector) {
        return map[vector / 32] >> (vector % 32) & 1;
}

static int bitmap_highest(const uint32_t map[8]) {
        for (int i = 7; i >= 0; i--)
                if (map[i] != 0)
                        return i * 32 + 31 - __builtin_clz(map[i]);
        return -1;
}

/* ---- State ---- */

static bool lapic_enabled(const struct lapic *l) {
        return l->base_msr & LAPIC_BASE_ENABLE;
}

static bool lapic_x2apic(const struct lapic *l) {
        return l->base_msr & LAPIC_BASE_X2APIC;
}

/* Everything but APIC_BASE and the ID */
static void lapic_reset_registers(struct lapic *l) {
        uint64_t base_msr = l->base_msr;
        uint32_t id = l->id;

        *l = (struct lapic){
                .base_msr = base_msr,
                .id = id,
                .svr = 0xff,
                .dfr = UINT32_MAX,
                .now = l->now,
                .timer_due = UINT64_MAX,
        };
        for (size_t i = 0; i < _LAPIC_LVT_MAX; i++)
                l->lvt[i] = LAPIC_LVT_MASKED;
}

void lapic_reset(struct lapic *l, uint32_t apic_id, bool bsp) {
        l->base_msr = LAPIC_BASE_RESET | LAPIC_BASE_ENABLE | (bsp ? LAPIC_BASE_BSP : 0);
        l->id = apic_id;
        lapic_reset_registers(l);
}

static void lapic_error(struct lapic *l, uint32_t error) {
        uint32_t entry = l->lvt[LAPIC_LVT_ERROR];

        /* Once per bit until software looks; a bad vector in the entry itself must not recurse. */
        if (l->errors & error)
                return;
        l->errors |= error;
        if (!(entry & LAPIC_LVT_MASKED))
                (void) lapic_request(l, entry & 0xff, false);
}

bool lapic_request(struct lapic *l, uint8_t vector, bool auto_eoi) {
        if (!lapic_enabled(l) || !(l->svr & LAPIC_SVR_ENABLE))
                return false;
        if (vector < 16) {
                lapic_error(l, LAPIC_ESR_RECEIVE_VECTOR);
                return false;
        }
        bitmap_set(l->irr, vector, true);
        bitmap_set(l->auto_eoi, vector, auto_eoi);
        return true;
}

uint8_t lapic_ppr(const struct lapic *l) {
        int in_service = bitmap_highest(l->isr);
        uint32_t isr_class = in_service < 0 ? 0 : (uint32_t) in_service & 0xf0;

        /* On a tie the processor shows TPR, sub-class included. */
        return (l->tpr & 0xf0) >= isr_class ? l->tpr : isr_class;
}

int lapic_pending(const struct lapic *l) {
        int vector;

        if (!lapic_enabled(l))
                return -1;
        vector = bitmap_highest(l->irr);
        if (vector < 0 || (vector & 0xf0) <= (lapic_ppr(l) & 0xf0))
                return -1;
        return vector;
}

bool lapic_requested(const struct lapic *l) {
        return bitmap_highest(l->irr) >= 0;
}

int lapic_in_service(const struct lapic *l) {
        return bitmap_highest(l->isr);
}

void lapic_accept(struct lapic *l, uint8_t vector) {
        bool auto_eoi = bitmap_test(l->auto_eoi, vector);

        bitmap_set(l->irr, vector, false);
        bitmap_set(l->auto_eoi, vector, false);
        if (!auto_eoi)
                bitmap_set(l->isr, vector, true);
}

void lapic_eoi(struct lapic *l) {
        int vector = bitmap_highest(l->isr);

        if (vector >= 0)
                bitmap_set(l->isr, (uint8_t) vector, false);
}

void lapic_set_cr8(struct lapic *l, uint8_t cr8) {
        l->tpr = (cr8 & 0xfu) << 4;
}

uint8_t lapic_cr8(const struct lapic *l) {
        return (uint8_t) (l->tpr >> 4);
}

/* ---- Interrupts between processors ---- */

/* SDM: logical x2APIC ID = (ID[19:4] << 16) | (1 << ID[3:0]) */
static uint32_t lapic_x2apic_ldr(const struct lapic *l) {
        return (l->id >> 4 & 0xffff) << 16 | UINT32_C(1) << (l->id & 0xf);
}

static bool lapic_matches_logical(const struct lapic *l, uint32_t destination) {
        uint32_t logical_id;

        if (lapic_x2apic(l)) {
                logical_id = lapic_x2apic_ldr(l);
                return destination >> 16 == logical_id >> 16 &&
                       (destination & logical_id & 0xffff) != 0;
        }
        if (destination > 0xff)
                return false;
        logical_id = l->ldr >> 24;
        switch (l->dfr >> 28) {
        case 0xf: /* flat */
                return (destination & logical_id) != 0;
        case 0x0: /* cluster in the high half, members in the low one */
                return destination >> 4 == logical_id >> 4 && (destination & logical_id & 0xf) != 0;
        default: /* reserved models match nobody */
                return false;
        }
}

bool lapic_matches(const struct lapic *l, const struct lapic_ipi *ipi) {
        if (!lapic_enabled(l))
                return false;
        if (ipi->shorthand != LAPIC_SHORTHAND_NONE)
                return true;
        /* All ones is everybody in both destination modes. */
        if (ipi->destination == (ipi->x2apic ? UINT32_MAX : 0xff))
                return true;
        if (ipi->logical)
                return lapic_matches_logical(l, ipi->destination);
        return ipi->destination == (lapic_x2apic(l) ? l->id : (l->id & 0xff));
}

/* What the value in l->icr sends, if anything */
static void lapic_send(struct lapic *l, struct lapic_ipi *ret) {
        bool x2apic = lapic_x2apic(l);
        struct lapic_ipi ipi = {
                .valid = true,
                .vector = l->icr & 0xff,
                .delivery_mode = l->icr >> 8 & 7,
                .logical = l->icr >> 11 & 1,
                .shorthand = l->icr >> 18 & 3,
                .destination = (uint32_t) (l->icr >> (x2apic ? 32 : 56)),
                .x2apic = x2apic,
        };
        bool level_assert = l->icr >> 14 & 1, level_triggered = l->icr >> 15 & 1;

        switch (ipi.delivery_mode) {
        case LAPIC_DELIVERY_FIXED:
        case LAPIC_DELIVERY_LOWEST:
                if (ipi.vector < 16) {
                        lapic_error(l, LAPIC_ESR_SEND_VECTOR);
                        return;
                }
                break;
        case LAPIC_DELIVERY_INIT:
                /* INIT level de-assert: an arbitration ID matter of old processors, a no-op since
                 */
                if (level_triggered && !level_assert)
                        return;
                break;
        case LAPIC_DELIVERY_NMI:
        case LAPIC_DELIVERY_SIPI:
                break;
        default: /* SMI has no receiver here; the rest is reserved in ICR */
                return;
        }
        /* SDM: all modes but fixed may not be sent to oneself by shorthand. */
        if (ipi.delivery_mode != LAPIC_DELIVERY_FIXED &&
            (ipi.shorthand == LAPIC_SHORTHAND_SELF || ipi.shorthand == LAPIC_SHORTHAND_ALL))
                return;
        *ret = ipi;
}

bool lapic_icr_write(struct lapic *l, uint64_t value, struct lapic_ipi *ret_ipi) {
        const struct lapic_reg_row *row = lapic_reg_find(REG_ICR);
        uint64_t destination = value & 0xffffffff00000000ull;

        *ret_ipi = (struct lapic_ipi){};
        if (lapic_x2apic(l)) {
                if ((uint32_t) value & ~(row->writable | row->ignored))
                        return false;
        } else
                destination &= 0xffull << 56;
        l->icr = destination | (value & row->writable);
        lapic_send(l, ret_ipi);
        return true;
}

/* ---- Registers ---- */

/* ---- The timer ---- */

#define TIMER_MODE(lvt) ((lvt) >> 17 & 3)
#define TIMER_PERIODIC 1u
#define TIMER_TSC_DEADLINE 2u
#define NS_PER_REFERENCE 100u

/* The divide configuration register's bits 3, 1 and 0: 2, 4, ... 128, 1. */
static unsigned timer_divisor(const struct lapic *l) {
        unsigned bits = (l->timer_divide >> 1 & 4) | (l->timer_divide & 3);

        return 1u << ((bits + 1) & 7);
}

/* At 1 GHz a count lasts as many ns as the divisor says; at least one unit of reference time. */
static uint64_t timer_period(const struct lapic *l) {
        return MAX((uint64_t) l->timer_initial * timer_divisor(l) / NS_PER_REFERENCE, UINT64_C(1));
}

static void lapic_timer_start(struct lapic *l) {
        if (TIMER_MODE(l->lvt[LAPIC_LVT_TIMER]) == TIMER_TSC_DEADLINE)
                return; /* SDM: writes to the initial count are ignored in this mode */
        l->timer_due = l->timer_initial ? l->now + timer_period(l) : UINT64_MAX;
}

/* SDM: going to or from TSC-deadline mode disarms the timer. */
static void lapic_timer_mode(struct lapic *l, uint32_t lvt) {
        bool deadline = TIMER_MODE(lvt) == TIMER_TSC_DEADLINE;

        if (deadline == lapic_tsc_deadline_mode(l))
                return;
        l->timer_due = UINT64_MAX;
        l->tsc_deadline = 0;
}

static uint32_t lapic_timer_current(const struct lapic *l) {
        if (lapic_tsc_deadline_mode(l) || l->timer_due == UINT64_MAX || l->timer_due <= l->now)
                return 0;
        return (uint32_t) MIN((l->timer_due - l->now) * NS_PER_REFERENCE / timer_divisor(l),
                              (uint64_t) l->timer_initial);
}

bool lapic_tsc_deadline_mode(const struct lapic *l) {
        return TIMER_MODE(l->lvt[LAPIC_LVT_TIMER]) == TIMER_TSC_DEADLINE;
}

void lapic_set_tsc_deadline(struct lapic *l, uint64_t tsc, uint64_t due) {
        if (!lapic_tsc_deadline_mode(l))
                return;
        l->tsc_deadline = tsc;
        l->timer_due = tsc ? due : UINT64_MAX;
}

void lapic_timer_expire(struct lapic *l) {
        uint32_t lvt = l->lvt[LAPIC_LVT_TIMER];

        if (l->timer_due > l->now)
                return;
        if (TIMER_MODE(lvt) == TIMER_PERIODIC) {
                uint64_t period = timer_period(l);

                l->timer_due += ((l->now - l->timer_due) / period + 1) * period;
        } else {
                l->timer_due = UINT64_MAX;
                l->tsc_deadline = 0;
        }
        if (!(lvt & LAPIC_LVT_MASKED))
                (void) lapic_request(l, (uint8_t) lvt, false);
}

static uint32_t lapic_reg_get(const struct lapic *l, uint32_t reg) {
        bool x2apic = lapic_x2apic(l);

        switch (reg) {
        case REG_ID:
                return x2apic ? l->id : l->id << 24;
        case REG_VERSION:
                return LAPIC_VERSION;
        case REG_TPR:
                return l->tpr;
        case REG_PPR:
                return lapic_ppr(l);
        case REG_LDR:
                return x2apic ? lapic_x2apic_ldr(l) : l->ldr;
        case REG_DFR:
                return l->dfr;
        case REG_SVR:
                return l->svr;
        case REG_ISR ... REG_ISR + 7:
                return l->isr[reg - REG_ISR];
        case REG_TMR ... REG_TMR + 7:
                return l->tmr[reg - REG_TMR];
        case REG_IRR ... REG_IRR + 7:
                return l->irr[reg - REG_IRR];
        case REG_ESR:
                return l->esr;
        case REG_ICR:
                return (uint32_t) l->icr;
        case REG_ICR_HIGH:
                return (uint32_t) (l->icr >> 32);
        case REG_LVT ... REG_LVT + _LAPIC_LVT_MAX - 1:
                return l->lvt[reg - REG_LVT];
        case REG_TIMER_INITIAL:
                return l->timer_initial;
        case REG_TIMER_DIVIDE:
                return l->timer_divide;
        case REG_TIMER_CURRENT:
                return lapic_timer_current(l);
        default:
                return 0;
        }
}

static void lapic_svr_write(struct lapic *l, uint32_t value) {
        bool was_enabled = l->svr & LAPIC_SVR_ENABLE;

        l->svr = value;
        if (was_enabled && !(value & LAPIC_SVR_ENABLE))
                for (size_t i = 0; i < _LAPIC_LVT_MAX; i++)
                        l->lvt[i] |= LAPIC_LVT_MASKED;
}

/* @value has writable bits only. */
static void lapic_reg_set(struct lapic *l, uint32_t reg, uint32_t value,
                          struct lapic_ipi *ret_ipi) {
        switch (reg) {
        case REG_TPR:
                l->tpr = value;
                break;
        case REG_EOI:
                lapic_eoi(l);
                break;
        case REG_LDR:
                l->ldr = value;
                break;
        case REG_DFR:
                l->dfr = value | 0x0fffffff;
                break;
        case REG_SVR:
                lapic_svr_write(l, value);
                break;
        case REG_ESR:
                l->esr = l->errors;
                l->errors = 0;
                break;
        case REG_ICR: /* xAPIC: its low half sends */
                l->icr = (l->icr & 0xffffffff00000000ull) | value;
                lapic_send(l, ret_ipi);
                break;
        case REG_ICR_HIGH:
                l->icr = (uint64_t) value << 32 | (uint32_t) l->icr;
                break;
        case REG_LVT ... REG_LVT + _LAPIC_LVT_MAX - 1:
                /* SDM: while disabled by software the mask bits stay set. */
                if (!(l->svr & LAPIC_SVR_ENABLE))
                        value |= LAPIC_LVT_MASKED;
                if (reg - REG_LVT == LAPIC_LVT_TIMER)
                        lapic_timer_mode(l, value);
                l->lvt[reg - REG_LVT] = value;
                break;
        case REG_TIMER_INITIAL:
                l->timer_initial = value;
                lapic_timer_start(l);
                break;
        case REG_TIMER_DIVIDE:
                l->timer_divide = value;
                break;
        case REG_SELF_IPI:
                if (value < 16)
                        lapic_error(l, LAPIC_ESR_SEND_VECTOR);
                else
                        *ret_ipi = (struct lapic_ipi){
                                .valid = true,
                                .vector = (uint8_t) value,
                                .delivery_mode = LAPIC_DELIVERY_FIXED,
                                .shorthand = LAPIC_SHORTHAND_SELF,
                                .x2apic = true,
                        };
                break;
        default: /* read-only registers keep their value */
                break;
        }
}

/* The row of the register at @offset, or NULL with the error noted */
static const struct lapic_reg_row *lapic_mmio_find(struct lapic *l, uint32_t offset) {
        const struct lapic_reg_row *row;

        if (!lapic_enabled(l) || lapic_x2apic(l))
                return NULL;
        row = is_aligned(offset, 16) ? lapic_reg_find(offset / 16) : NULL;
        if (!row || !(row->access & (X1R | X1W))) {
                lapic_error(l, LAPIC_ESR_REGISTER);
                return NULL;
        }
        return row;
}

bool lapic_mmio_read(struct lapic *l, uint32_t offset, uint32_t *ret) {
        const struct lapic_reg_row *row = lapic_mmio_find(l, offset);

        *ret = row && row->access & X1R ? lapic_reg_get(l, offset / 16) : 0;
        return row;
}

bool lapic_mmio_write(struct lapic *l, uint32_t offset, uint32_t value, struct lapic_ipi *ret_ipi) {
        const struct lapic_reg_row *row = lapic_mmio_find(l, offset);

        *ret_ipi = (struct lapic_ipi){};
        if (row && row->access & X1W)
                lapic_reg_set(l, offset / 16, value & row->writable, ret_ipi);
        return row;
}

bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *ret) {
        uint32_t reg = msr - LAPIC_MSR_X2APIC_FIRST;
        const struct lapic_reg_row *row;

        *ret = 0;
        if (msr == LAPIC_MSR_BASE) {
                *ret = l->base_msr;
                return true;
        }
        if (msr < LAPIC_MSR_X2APIC_FIRST || msr > LAPIC_MSR_X2APIC_LAST || !lapic_x2apic(l))
                return false;
        row = lapic_reg_find(reg);
        if (!row || !(row->access & X2R))
                return false;
        *ret = reg == REG_ICR ? l->icr : lapic_reg_get(l, reg);
        return true;
}

/* SDM 3A, "x2APIC State Transitions": off <-> xAPIC -> x2APIC -> off, and nothing else */
static bool lapic_base_write(struct lapic *l, uint64_t value) {
        const uint64_t mode = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
        uint64_t old_mode = l->base_msr & mode, new_mode = value & mode;

        /* Beside the mode nothing may change: not the address, not the BSP flag, no reserved bit.
         */
        if ((value ^ l->base_msr) & ~mode)
                return false;
        if (new_mode == LAPIC_BASE_X2APIC)
                return false;
        if (old_mode == mode && new_mode == LAPIC_BASE_ENABLE)
                return false;
        if (old_mode == 0 && new_mode == mode)
                return false;
        if (new_mode == old_mode)
                return true;

        l->base_msr = value;
        if (new_mode == 0)
                lapic_reset_registers(l);
        else if (new_mode == mode) /* ICR's destination has another format from now on. */
                l->icr = (uint32_t) l->icr;
        return true;
}

bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value, struct lapic_ipi *ret_ipi) {
        uint32_t reg = msr - LAPIC_MSR_X2APIC_FIRST;
        const struct lapic_reg_row *row;

        *ret_ipi = (struct lapic_ipi){};
        if (msr == LAPIC_MSR_BASE)
                return lapic_base_write(l, value);
        if (msr < LAPIC_MSR_X2APIC_FIRST || msr > LAPIC_MSR_X2APIC_LAST || !lapic_x2apic(l))
                return false;
        row = lapic_reg_find(reg);
        if (!row || !(row->access & X2W))
                return false;
        if (reg == REG_ICR)
                return lapic_icr_write(l, value, ret_ipi);
        if (value & ~(uint64_t) (row->writable | row->ignored))
                return false;
        lapic_reg_set(l, reg, (uint32_t) value & row->writable, ret_ipi);
        return true;
}
