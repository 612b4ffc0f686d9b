/* One local APIC: registers, priorities, LVT, timer, ICR.
 *
 * The register file is one pair of functions (register_read, register_write) under two doors: the memory-mapped page
 * of the xAPIC, forgiving, and the MSRs of the x2APIC, which check everything first and report #GP.
 *
 * [SDM3 "Local APIC State After Power-Up or Reset"], [SDM3 "Interrupt, Task, and Processor Priority"],
 * [SDM3 "APIC Timer"], [SDM3 "Error Handling"], [SDM3 "Extended XAPIC (x2APIC)"].
 */
#include "devices/lapic.h"

/* Register numbers: xAPIC offset / 16 = x2APIC MSR - 0x800. */
enum {
    REG_ID = 0x02, REG_VERSION = 0x03, REG_TPR = 0x08, REG_APR = 0x09, REG_PPR = 0x0a, REG_EOI = 0x0b, REG_RRD = 0x0c,
    REG_LDR = 0x0d, REG_DFR = 0x0e, REG_SVR = 0x0f, REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20, REG_ESR = 0x28,
    REG_LVT_CMCI = 0x2f, REG_ICR = 0x30, REG_ICR_HIGH = 0x31, REG_LVT = 0x32, REG_LVT_LAST = 0x37, REG_INITIAL = 0x38,
    REG_CURRENT = 0x39, REG_DIVIDE = 0x3e, REG_SELF_IPI = 0x3f,
};

enum { ESR_SEND_ILLEGAL = 1 << 5, ESR_RECEIVE_ILLEGAL = 1 << 6, ESR_ILLEGAL_REGISTER = 1 << 7 };

#define LVT_MASKED 0x10000u
#define LVT_LEVEL 0x8000u
#define LVT_REMOTE_IRR 0x4000u
#define TIMER_MODE(lvt) ((lvt) >> 17 & 3)
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE };

/* Version: integrated APIC, 7 LVT entries, EOI-broadcast suppression. */
#define VERSION (0x15u | (LVT_COUNT - 1) << 16 | 1u << 24)

static const u32 lvt_writable[LVT_COUNT] = {
    [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff, [LVT_LINT0] = 0x1a7ff,
    [LVT_LINT1] = 0x1a7ff, [LVT_ERROR] = 0x100ff,   [LVT_CMCI] = 0x107ff,
};

static bool vector_test(const u32 *set, unsigned v) { return set[v >> 5] >> (v & 31) & 1; }
static void vector_set(u32 *set, unsigned v) { set[v >> 5] |= 1u << (v & 31); }
static void vector_clear(u32 *set, unsigned v) { set[v >> 5] &= ~(1u << (v & 31)); }

static int vector_highest(const u32 *set)
{
    for (int word = 7; word >= 0; word--)
        if (set[word])
            return word * 32 + 31 - __builtin_clz(set[word]);
    return -1;
}

static bool software_enabled(const struct lapic *lapic) { return lapic->svr & BIT(8); }

u8 lapic_processor_priority(const struct lapic *lapic)
{
    int isrv = vector_highest(lapic->isr);
    u8 service = isrv < 0 ? 0 : (u8)(isrv & 0xf0);
    return (lapic->tpr & 0xf0) >= service ? (u8)lapic->tpr : service;
}

int lapic_highest(const struct lapic *lapic)
{
    int vector = vector_highest(lapic->irr);
    if (vector < 0 || !lapic_is_enabled(lapic))
        return -1;
    return (vector & 0xf0) > (lapic_processor_priority(lapic) & 0xf0) ? vector : -1;
}

static void signal(const struct lapic *lapic, enum lapic_signal kind, unsigned value)
{
    const struct apic_outputs *out = &lapic->bus->out;
    if (out->signal)
        out->signal(out->arg, lapic->cpu, kind, value);
}

static void update_intr(struct lapic *lapic)
{
    bool level = lapic_highest(lapic) >= 0;
    if (level != lapic->intr) {
        lapic->intr = level;
        signal(lapic, LAPIC_INTR, level);
    }
}

/* The 8259 pair reaches the processor through LINT0 in ExtINT mode, directly when the APIC is globally disabled, or by
 * a message of an IOAPIC. */
static void update_extint(struct lapic *lapic)
{
    u32 lvt = lapic->lvt[LVT_LINT0];
    bool open = !lapic_is_enabled(lapic) || (!(lvt & LVT_MASKED) && (lvt >> 8 & 7) == APIC_EXTINT);
    bool level = (lapic->lint[0] && open) || lapic->extint_message;
    if (level != lapic->extint) {
        lapic->extint = level;
        signal(lapic, LAPIC_EXTINT, level);
    }
}

/* [SDM3 "Error Handling"]: an error sets its bit and, if it is new since ESR was last written, interrupts. */
static void report_error(struct lapic *lapic, u32 bit)
{
    if (lapic->esr_pending & bit)
        return;
    lapic->esr_pending |= bit;
    lapic_local(lapic, LVT_ERROR);
}

bool lapic_set_irr(struct lapic *lapic, u8 vector, bool level)
{
    if (!lapic_is_enabled(lapic) || !software_enabled(lapic))
        return false;
    if (vector < 16) {
        report_error(lapic, ESR_RECEIVE_ILLEGAL);
        return false;
    }
    vector_set(lapic->irr, vector);
    if (level)
        vector_set(lapic->tmr, vector);
    else
        vector_clear(lapic->tmr, vector);
    update_intr(lapic);
    return true;
}

/* LINT0 in fixed, level-triggered mode asks as long as it is high and not in service. */
static void check_level_lint(struct lapic *lapic)
{
    u32 lvt = lapic->lvt[LVT_LINT0];
    if (!lapic->lint[0] || (lvt & LVT_MASKED) || (lvt >> 8 & 7) != APIC_FIXED || !(lvt & LVT_LEVEL) ||
        (lvt & LVT_REMOTE_IRR))
        return;
    if (lapic_set_irr(lapic, (u8)lvt, true))
        lapic->lvt[LVT_LINT0] |= LVT_REMOTE_IRR;
}

void lapic_local(struct lapic *lapic, enum lapic_lvt which)
{
    u32 lvt = lapic->lvt[which];
    if ((lvt & LVT_MASKED) || !lapic_is_enabled(lapic))
        return;
    unsigned delivery = which == LVT_TIMER || which == LVT_ERROR ? APIC_FIXED : lvt >> 8 & 7;
    switch (delivery) {
    case APIC_FIXED:
        lapic_set_irr(lapic, (u8)lvt, false);
        break;
    case APIC_SMI:
        signal(lapic, LAPIC_SMI, 0);
        break;
    case APIC_NMI:
        signal(lapic, LAPIC_NMI, 0);
        break;
    case APIC_INIT:
        signal(lapic, LAPIC_INIT, 0);
        break;
    }
    /* [SDM3 "Performance Monitoring Interrupt"]: delivering one masks the entry until software unmasks it. */
    if (which == LVT_PERF)
        lapic->lvt[LVT_PERF] |= LVT_MASKED;
}

void lapic_set_lint(struct lapic *lapic, unsigned pin, bool level)
{
    bool rising = level && !lapic->lint[pin];
    lapic->lint[pin] = level;
    if (!lapic_is_enabled(lapic)) {
        /* The pins are INTR and NMI of the processor itself. */
        if (pin == 1 && rising)
            signal(lapic, LAPIC_NMI, 0);
    } else {
        enum lapic_lvt which = pin ? LVT_LINT1 : LVT_LINT0;
        u32 lvt = lapic->lvt[which];
        if (pin == 0 && (lvt >> 8 & 7) == APIC_FIXED && (lvt & LVT_LEVEL))
            check_level_lint(lapic);
        else if (rising && (lvt >> 8 & 7) != APIC_EXTINT)
            lapic_local(lapic, which);
    }
    if (pin == 0)
        update_extint(lapic);
}

void lapic_drop_extint_message(struct lapic *lapic)
{
    lapic->extint_message = false;
    update_extint(lapic);
}

int lapic_acknowledge(struct lapic *lapic)
{
    int vector = lapic_highest(lapic);
    if (vector < 0)
        return (int)(lapic->svr & 0xff);
    vector_clear(lapic->irr, (unsigned)vector);
    vector_set(lapic->isr, (unsigned)vector);
    update_intr(lapic);
    return vector;
}

void lapic_eoi(struct lapic *lapic)
{
    int vector = vector_highest(lapic->isr);
    if (vector < 0)
        return;
    vector_clear(lapic->isr, (unsigned)vector);
    update_intr(lapic);
    if (!vector_test(lapic->tmr, (unsigned)vector))
        return;
    if ((u8)lapic->lvt[LVT_LINT0] == vector && (lapic->lvt[LVT_LINT0] & LVT_REMOTE_IRR)) {
        lapic->lvt[LVT_LINT0] &= ~LVT_REMOTE_IRR;
        check_level_lint(lapic);
    }
    if (lapic->bus->eoi && !(lapic->svr & BIT(12)))
        lapic->bus->eoi(lapic->bus->eoi_arg, (u8)vector);
}

u8 lapic_tpr_get(const struct lapic *lapic) { return lapic->tpr >> 4 & 15; }

void lapic_tpr_set(struct lapic *lapic, u8 cr8)
{
    lapic->tpr = (u32)(cr8 & 15) << 4;
    update_intr(lapic);
}

/* ---- The timer ---- */

static unsigned timer_mode(const struct lapic *lapic) { return TIMER_MODE(lapic->lvt[LVT_TIMER]); }

/* log2 of the divider: 000 = 2 … 110 = 128, 111 = 1. */
static unsigned divide_shift(const struct lapic *lapic)
{
    unsigned code = (lapic->divide & 3) | (lapic->divide >> 1 & 4);
    return (code + 1) & 7;
}

/* Brings the countdown up to `now`, delivering the interrupt if it ran out. */
static void timer_sync(struct lapic *lapic, u64 now)
{
    if (!lapic->running)
        return;
    unsigned shift = divide_shift(lapic);
    u64 length = (u64)lapic->count << shift, gone = now - lapic->start;
    if (gone < length)
        return;
    if (timer_mode(lapic) == TIMER_PERIODIC && lapic->initial != 0) {
        u64 period = (u64)lapic->initial << shift;
        lapic->start = now - (gone - length) % period;
        lapic->count = lapic->initial;
    } else {
        lapic->running = false;
        lapic->count = 0;
    }
    lapic_local(lapic, LVT_TIMER);
}

static void timer_arm(struct lapic *lapic, u64 now)
{
    struct apic_bus *bus = lapic->bus;
    u64 at = CLOCK_NEVER;
    bool masked = lapic->lvt[LVT_TIMER] & LVT_MASKED;
    switch (timer_mode(lapic)) {
    case TIMER_DEADLINE:
        if (lapic->tsc_deadline != 0 && bus->out.tsc_to_ns)
            at = bus->out.tsc_to_ns(bus->out.arg, lapic->cpu, lapic->tsc_deadline);
        break;
    case TIMER_PERIODIC:
        if (lapic->running && !masked) {
            at = lapic->start + ((u64)lapic->count << divide_shift(lapic));
            if (((u64)lapic->initial << divide_shift(lapic)) < LAPIC_MIN_PERIOD && at < now + LAPIC_MIN_PERIOD)
                at = now + LAPIC_MIN_PERIOD;
        }
        break;
    default:
        if (lapic->running)
            at = lapic->start + ((u64)lapic->count << divide_shift(lapic));
    }
    clock_set(bus->clock, lapic->timer, at);
}

static void timer_fire(void *arg, u64 now)
{
    struct lapic *lapic = arg;
    if (timer_mode(lapic) == TIMER_DEADLINE) {
        lapic->tsc_deadline = 0;
        lapic_local(lapic, LVT_TIMER);
    } else {
        timer_sync(lapic, now);
    }
    timer_arm(lapic, now);
}

/* Rebases the countdown on `now`, so that the divider can change under it. */
static void timer_rebase(struct lapic *lapic, u64 now)
{
    timer_sync(lapic, now);
    if (!lapic->running)
        return;
    lapic->count -= (u32)((now - lapic->start) >> divide_shift(lapic));
    lapic->start = now;
}

static u32 timer_current(struct lapic *lapic)
{
    u64 now = clock_now(lapic->bus->clock);
    timer_sync(lapic, now);
    return lapic->running ? lapic->count - (u32)((now - lapic->start) >> divide_shift(lapic)) : 0;
}

static void timer_set_initial(struct lapic *lapic, u32 value)
{
    u64 now = clock_now(lapic->bus->clock);
    timer_sync(lapic, now);
    /* [SDM3 "TSC-Deadline Mode"]: writes to the initial-count register are ignored. */
    if (timer_mode(lapic) == TIMER_DEADLINE)
        return;
    lapic->initial = lapic->count = value;
    lapic->start = now;
    lapic->running = value != 0;
    timer_arm(lapic, now);
}

static void timer_set_lvt(struct lapic *lapic, u32 value)
{
    u64 now = clock_now(lapic->bus->clock);
    timer_sync(lapic, now);
    bool was_deadline = timer_mode(lapic) == TIMER_DEADLINE;
    lapic->lvt[LVT_TIMER] = value;
    /* Changing to or from TSC-deadline mode disarms the timer. */
    if (was_deadline != (timer_mode(lapic) == TIMER_DEADLINE)) {
        lapic->tsc_deadline = 0;
        lapic->running = false;
        lapic->initial = lapic->count = 0;
    }
    timer_arm(lapic, now);
}

u64 lapic_deadline_get(struct lapic *lapic)
{
    return timer_mode(lapic) == TIMER_DEADLINE ? lapic->tsc_deadline : 0;
}

void lapic_deadline_set(struct lapic *lapic, u64 tsc)
{
    if (timer_mode(lapic) != TIMER_DEADLINE)
        return;
    lapic->tsc_deadline = tsc;
    timer_arm(lapic, clock_now(lapic->bus->clock));
}

void lapic_tsc_changed(struct lapic *lapic)
{
    if (timer_mode(lapic) == TIMER_DEADLINE)
        timer_arm(lapic, clock_now(lapic->bus->clock));
}

/* ---- Messages ---- */

static u32 x2apic_ldr(const struct lapic *lapic) { return lapic->id >> 4 << 16 | 1u << (lapic->id & 15); }

bool lapic_matches(const struct lapic *lapic, const struct apic_message *message)
{
    if (!lapic_is_enabled(lapic))
        return false;
    u32 to = message->destination;
    if (message->wide ? to == ~0u : to == 0xff)
        return true;
    if (!message->logical)
        return to == (lapic_is_x2apic(lapic) ? lapic->id : lapic->id & 0xff);
    if (lapic_is_x2apic(lapic)) {
        u32 ldr = x2apic_ldr(lapic);
        return to >> 16 == ldr >> 16 && (to & ldr & 0xffff) != 0;
    }
    if (to > 0xff)
        return false;
    u32 ldr = lapic->ldr >> 24;
    if (lapic->dfr >> 28 == 0xf)
        return to & ldr;
    return to >> 4 == ldr >> 4 && (to & ldr & 15) != 0;
}

bool lapic_deliver(struct lapic *lapic, const struct apic_message *message)
{
    if (!lapic_is_enabled(lapic))
        return false;
    switch (message->delivery) {
    case APIC_FIXED:
    case APIC_LOWEST_PRIORITY:
        return lapic_set_irr(lapic, message->vector, message->level);
    case APIC_SMI:
        signal(lapic, LAPIC_SMI, 0);
        return true;
    case APIC_NMI:
        signal(lapic, LAPIC_NMI, 0);
        return true;
    case APIC_INIT:
        signal(lapic, LAPIC_INIT, 0);
        return true;
    case APIC_STARTUP:
        signal(lapic, LAPIC_SIPI, message->vector);
        return true;
    case APIC_EXTINT:
        lapic->extint_message = true;
        update_extint(lapic);
        return true;
    default:
        return false;
    }
}

/* A write to the low half of ICR sends [SDM3 "Issuing Interprocessor Interrupts"]. */
static void send_ipi(struct lapic *lapic)
{
    u64 icr = lapic->icr;
    struct apic_bus *bus = lapic->bus;
    bool wide = lapic_is_x2apic(lapic);
    struct apic_message message = {
        .destination = wide ? (u32)(icr >> 32) : (u32)(icr >> 56),
        .vector = (u8)icr,
        .delivery = icr >> 8 & 7,
        .logical = icr >> 11 & 1,
        .wide = wide,
    };
    /* Level de-assert: for INIT it only set arbitration IDs on old processors; for the rest it says nothing. */
    if ((icr >> 15 & 1) && !(icr >> 14 & 1))
        return;
    if (message.delivery <= APIC_LOWEST_PRIORITY && message.vector < 16) {
        report_error(lapic, ESR_SEND_ILLEGAL);
        return;
    }
    if (message.delivery == 3 || message.delivery == APIC_EXTINT)
        return; /* reserved for IPIs */
    unsigned shorthand = icr >> 18 & 3;
    if (shorthand == 0) {
        apic_bus_post(bus, &message);
    } else if (shorthand == 1) {
        lapic_deliver(lapic, &message);
    } else {
        if (message.delivery == APIC_LOWEST_PRIORITY)
            message.delivery = APIC_FIXED;
        for (unsigned i = 0; i < bus->count; i++)
            if (&bus->lapic[i] != lapic || shorthand == 2)
                lapic_deliver(&bus->lapic[i], &message);
    }
}

/* ---- Registers ---- */

static unsigned lvt_of(unsigned reg) { return reg == REG_LVT_CMCI ? LVT_CMCI : reg - REG_LVT + LVT_TIMER; }

static bool is_lvt(unsigned reg) { return reg == REG_LVT_CMCI || (reg >= REG_LVT && reg <= REG_LVT_LAST); }

static u32 writable_lvt_bits(const struct lapic *lapic, unsigned which)
{
    u32 bits = lvt_writable[which];
    return which == LVT_TIMER && !lapic->bus->deadline_offered ? bits & ~(1u << 18) : bits;
}

static void write_lvt(struct lapic *lapic, unsigned which, u32 value)
{
    value &= writable_lvt_bits(lapic, which);
    /* While the APIC is disabled by software the mask bits cannot be cleared. */
    if (!software_enabled(lapic))
        value |= LVT_MASKED;
    if (which == LVT_TIMER) {
        timer_set_lvt(lapic, value);
        return;
    }
    /* Remote IRR is read-only; leaving level mode ends what it stands for. */
    if (which == LVT_LINT0 && (value & LVT_LEVEL) && (value >> 8 & 7) == APIC_FIXED)
        value |= lapic->lvt[which] & LVT_REMOTE_IRR;
    lapic->lvt[which] = value;
    if (which == LVT_LINT0) {
        check_level_lint(lapic);
        update_extint(lapic);
    }
}

static void write_svr(struct lapic *lapic, u32 value)
{
    bool was_enabled = software_enabled(lapic);
    lapic->svr = value & 0x13ff;
    if (was_enabled && !software_enabled(lapic)) {
        timer_sync(lapic, clock_now(lapic->bus->clock));
        for (unsigned i = 0; i < LVT_COUNT; i++)
            lapic->lvt[i] |= LVT_MASKED;
        timer_arm(lapic, clock_now(lapic->bus->clock));
        update_extint(lapic);
    }
}

static u32 register_read(struct lapic *lapic, unsigned reg)
{
    if (is_lvt(reg))
        return lapic->lvt[lvt_of(reg)];
    if (reg >= REG_ISR && reg < REG_TMR)
        return lapic->isr[reg - REG_ISR];
    if (reg >= REG_TMR && reg < REG_IRR)
        return lapic->tmr[reg - REG_TMR];
    if (reg >= REG_IRR && reg < REG_ESR)
        return lapic->irr[reg - REG_IRR];
    switch (reg) {
    case REG_ID:
        return lapic_is_x2apic(lapic) ? lapic->id : lapic->id << 24;
    case REG_VERSION:
        return VERSION;
    case REG_TPR:
        return lapic->tpr;
    case REG_APR:
    case REG_PPR:
        return lapic_processor_priority(lapic);
    case REG_LDR:
        return lapic_is_x2apic(lapic) ? x2apic_ldr(lapic) : lapic->ldr;
    case REG_DFR:
        return lapic->dfr;
    case REG_SVR:
        return lapic->svr;
    case REG_ESR:
        return lapic->esr;
    case REG_ICR:
        return (u32)lapic->icr;
    case REG_ICR_HIGH:
        return (u32)(lapic->icr >> 32);
    case REG_INITIAL:
        return lapic->initial;
    case REG_CURRENT:
        return timer_current(lapic);
    case REG_DIVIDE:
        return lapic->divide;
    default: /* RRD and the write-only ones */
        return 0;
    }
}

static void register_write(struct lapic *lapic, unsigned reg, u32 value)
{
    if (is_lvt(reg)) {
        write_lvt(lapic, lvt_of(reg), value);
        return;
    }
    switch (reg) {
    case REG_TPR:
        lapic->tpr = value & 0xff;
        update_intr(lapic);
        break;
    case REG_EOI:
        lapic_eoi(lapic);
        break;
    case REG_LDR:
        lapic->ldr = value & 0xff000000;
        break;
    case REG_DFR:
        lapic->dfr = value | 0x0fffffff;
        break;
    case REG_SVR:
        write_svr(lapic, value);
        break;
    case REG_ESR:
        lapic->esr = lapic->esr_pending;
        lapic->esr_pending = 0;
        break;
    case REG_ICR:
        lapic->icr = (lapic->icr & ~mask_low(32)) | (value & 0xccfff);
        send_ipi(lapic);
        break;
    case REG_ICR_HIGH:
        lapic->icr = (lapic->icr & mask_low(32)) | (u64)(value & 0xff000000) << 32;
        break;
    case REG_INITIAL:
        timer_set_initial(lapic, value);
        break;
    case REG_DIVIDE: {
        u64 now = clock_now(lapic->bus->clock);
        timer_rebase(lapic, now);
        lapic->divide = value & 0xb;
        timer_arm(lapic, now);
        break;
    }
    default: /* read-only */
        break;
    }
}

/* Which registers exist, in either mode; the x2APIC drops some below. */
static bool exists(unsigned reg)
{
    return reg == REG_ID || reg == REG_VERSION || (reg >= REG_TPR && reg <= REG_ESR) || is_lvt(reg) || reg == REG_ICR ||
           reg == REG_ICR_HIGH || reg == REG_INITIAL || reg == REG_CURRENT || reg == REG_DIVIDE;
}

u32 lapic_mmio_read(struct lapic *lapic, u32 offset)
{
    unsigned reg = offset >> 4;
    if (!exists(reg)) {
        report_error(lapic, ESR_ILLEGAL_REGISTER);
        return 0;
    }
    return register_read(lapic, reg);
}

void lapic_mmio_write(struct lapic *lapic, u32 offset, u32 value)
{
    unsigned reg = offset >> 4;
    if (!exists(reg))
        report_error(lapic, ESR_ILLEGAL_REGISTER);
    else
        register_write(lapic, reg, value);
}

/* ---- x2APIC ---- */

static bool x2apic_exists(unsigned reg)
{
    if (reg == REG_SELF_IPI)
        return true;
    return exists(reg) && reg != REG_APR && reg != REG_RRD && reg != REG_DFR && reg != REG_ICR_HIGH;
}

bool lapic_msr_read(struct lapic *lapic, u32 msr, u64 *value)
{
    unsigned reg = msr - 0x800;
    if (!lapic_is_x2apic(lapic) || !x2apic_exists(reg) || reg == REG_EOI || reg == REG_SELF_IPI)
        return false;
    *value = reg == REG_ICR ? lapic->icr : register_read(lapic, reg);
    return true;
}

/* The bits that may be written as 1, by register; 0 for EOI and ESR, where only zero may be written. */
static bool x2apic_writable(const struct lapic *lapic, unsigned reg, u64 *bits)
{
    if (is_lvt(reg)) {
        unsigned which = lvt_of(reg);
        /* Delivery status and remote IRR are read-only, not reserved. */
        *bits = writable_lvt_bits(lapic, which) | 0x1000;
        if (which == LVT_LINT0 || which == LVT_LINT1)
            *bits |= LVT_REMOTE_IRR;
        return true;
    }
    switch (reg) {
    case REG_TPR:
    case REG_SELF_IPI:
        *bits = 0xff;
        return true;
    case REG_EOI:
    case REG_ESR:
        *bits = 0;
        return true;
    case REG_SVR:
        *bits = 0x13ff;
        return true;
    case REG_ICR:
        *bits = ~mask_low(32) | 0xcdfff;
        return true;
    case REG_INITIAL:
        *bits = mask_low(32);
        return true;
    case REG_DIVIDE:
        *bits = 0xb;
        return true;
    default:
        return false;
    }
}

bool lapic_msr_write(struct lapic *lapic, u32 msr, u64 value)
{
    unsigned reg = msr - 0x800;
    u64 bits;
    if (!lapic_is_x2apic(lapic) || !x2apic_exists(reg) || !x2apic_writable(lapic, reg, &bits) || (value & ~bits))
        return false;
    if (reg == REG_SELF_IPI) {
        if (value < 16)
            report_error(lapic, ESR_SEND_ILLEGAL);
        else
            lapic_set_irr(lapic, (u8)value, false);
    } else if (reg == REG_ICR) {
        lapic->icr = value & ~BIT(12);
        send_ipi(lapic);
    } else {
        register_write(lapic, reg, (u32)value);
    }
    return true;
}

/* ---- Modes and reset ---- */

static void reset_registers(struct lapic *lapic)
{
    lapic->tpr = lapic->ldr = 0;
    lapic->dfr = ~0u;
    lapic->svr = 0xff;
    memset(lapic->isr, 0, sizeof lapic->isr);
    memset(lapic->tmr, 0, sizeof lapic->tmr);
    memset(lapic->irr, 0, sizeof lapic->irr);
    lapic->esr = lapic->esr_pending = 0;
    lapic->icr = 0;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        lapic->lvt[i] = LVT_MASKED;
    lapic->divide = lapic->initial = lapic->count = 0;
    lapic->start = 0;
    lapic->tsc_deadline = 0;
    lapic->running = false;
    lapic->extint_message = false;
    clock_set(lapic->bus->clock, lapic->timer, CLOCK_NEVER);
    update_intr(lapic);
    update_extint(lapic);
}

void lapic_reset(struct lapic *lapic)
{
    lapic->base = LAPIC_DEFAULT_BASE | APIC_BASE_EN | (lapic->cpu == 0 ? APIC_BASE_BSP : 0);
    reset_registers(lapic);
}

void lapic_accept_init(struct lapic *lapic) { reset_registers(lapic); }

void lapic_set_virtual_wire(struct lapic *lapic)
{
    write_svr(lapic, 0x1ff);
    write_lvt(lapic, LVT_LINT0, APIC_EXTINT << 8);
    write_lvt(lapic, LVT_LINT1, APIC_NMI << 8);
}

bool lapic_set_base(struct lapic *lapic, u64 value)
{
    const struct apic_bus *bus = lapic->bus;
    u64 allowed = (mask_low(bus->maxphyaddr) & ~mask_low(12)) | APIC_BASE_BSP | APIC_BASE_EN;
    if (bus->x2apic_offered)
        allowed |= APIC_BASE_EXTD;
    if (value & ~allowed)
        return false;
    u64 before = lapic->base & (APIC_BASE_EN | APIC_BASE_EXTD), after = value & (APIC_BASE_EN | APIC_BASE_EXTD);
    /* [SDM3 "x2APIC State Transitions"]: EXTD needs EN; x2APIC is entered from xAPIC only and left by disabling only. */
    if (after == APIC_BASE_EXTD || (after == (APIC_BASE_EN | APIC_BASE_EXTD) && before == 0) ||
        (before == (APIC_BASE_EN | APIC_BASE_EXTD) && after == APIC_BASE_EN))
        return false;
    lapic->base = value;
    if (after == 0 && before != 0)
        reset_registers(lapic);
    else if (after != before && (after & APIC_BASE_EXTD))
        lapic->icr &= mask_low(32);
    update_intr(lapic);
    update_extint(lapic);
    return true;
}

void apic_bus_init(struct apic_bus *bus, struct lapic *lapic, unsigned count, unsigned maxphyaddr, struct clock *clock,
                   const struct apic_outputs *out)
{
    memset(bus, 0, sizeof *bus);
    bus->lapic = lapic;
    bus->count = count;
    bus->maxphyaddr = maxphyaddr;
    bus->x2apic_offered = bus->deadline_offered = true;
    bus->clock = clock;
    bus->out = *out;
    bus->last_lowest = count - 1;
    for (unsigned i = 0; i < count; i++) {
        memset(&lapic[i], 0, sizeof lapic[i]);
        lapic[i].bus = bus;
        lapic[i].cpu = i;
        lapic[i].id = i;
        lapic[i].timer = clock_add_timer(clock, timer_fire, &lapic[i]);
        lapic_reset(&lapic[i]);
    }
}
