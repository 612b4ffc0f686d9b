/* The HPET. Each comparator owns one timer of the virtual clock, set to its next match. */
#include "devices/hpet.h"
#include "devices/access.h"

enum { REG_CAPABILITIES = 0x00, REG_CONFIG = 0x10, REG_STATUS = 0x20, REG_COUNTER = 0xf0, REG_TIMERS = 0x100 };
#define CONFIG_ENABLE BIT(0)
#define CONFIG_LEGACY BIT(1)
#define TIMER_LEVEL BIT(1)
#define TIMER_ENABLED BIT(2)
#define TIMER_PERIODIC BIT(3)
#define TIMER_SET_VALUE BIT(6)
#define TIMER_32BIT BIT(8)
#define TIMER_WRITABLE (TIMER_LEVEL | TIMER_ENABLED | TIMER_PERIODIC | TIMER_SET_VALUE | TIMER_32BIT | 0x3e00)
/* Period 10^7 fs, vendor 8086, legacy routing, 64-bit counter, three timers, revision 1. */
#define CAPABILITIES (10000000ull << 32 | 0x8086ull << 16 | BIT(15) | BIT(13) | (HPET_TIMERS - 1) << 8 | 1)
/* Can be periodic, 64 bits wide, routed to HPET_ROUTES. */
#define TIMER_CAPABILITIES ((u64)HPET_ROUTES << 32 | BIT(5) | BIT(4))

static u64 counter(const struct hpet *hpet)
{
    if (!(hpet->config & CONFIG_ENABLE))
        return hpet->offset;
    return hpet->offset + (clock_now(hpet->clock) - hpet->start) / HPET_TICK_NS;
}

static u64 width(const struct hpet_timer *t) { return t->config & TIMER_32BIT ? mask_low(32) : ~0ull; }

static void drive(struct hpet *hpet, unsigned n, bool level)
{
    struct hpet_timer *t = &hpet->timer[n];
    t->asserted = level;
    if ((hpet->config & CONFIG_LEGACY) && n < 2) {
        irq_set(&hpet->legacy[n], level);
        return;
    }
    unsigned gsi = t->config >> 9 & 31;
    if ((HPET_ROUTES >> gsi & 1) && hpet->route.set)
        hpet->route.set(hpet->route.arg, gsi, level);
}

/* Lowers the line if it is high: called before anything that changes where it goes, and when it may no longer be. */
static void release(struct hpet *hpet, unsigned n)
{
    if (hpet->timer[n].asserted)
        drive(hpet, n, false);
}

/* Sets the clock to the next match; `from` is the first counter value that counts as one. */
static void arm(struct hpet *hpet, unsigned n, u64 from)
{
    struct hpet_timer *t = &hpet->timer[n];
    u64 at = CLOCK_NEVER;
    if ((hpet->config & CONFIG_ENABLE) && (t->config & TIMER_ENABLED)) {
        u64 ticks = from - hpet->offset, wait = (t->comparator - from) & width(t);
        /* What lies beyond the end of virtual time (58 years) never comes. */
        if (wait < BIT(57) && ticks < BIT(57))
            at = hpet->start + (ticks + wait) * HPET_TICK_NS;
    }
    clock_set(hpet->clock, hpet->clock_timer[n], at);
}

static void match(struct hpet *hpet, unsigned n)
{
    struct hpet_timer *t = &hpet->timer[n];
    u64 now = counter(hpet);
    if (t->config & TIMER_LEVEL) {
        hpet->status |= BIT(n);
        drive(hpet, n, true);
    } else {
        drive(hpet, n, false);
        drive(hpet, n, true);
    }
    u64 from = now + 1;
    if ((t->config & TIMER_PERIODIC) && t->period != 0) {
        u64 ahead = t->period < HPET_MIN_PERIOD ? HPET_MIN_PERIOD : 1;
        u64 late = (now - t->comparator) & width(t);
        /* The next multiple that is `ahead` ticks away at least. */
        u64 steps = (late + ahead + t->period - 1) / t->period;
        t->comparator = (t->comparator + steps * t->period) & width(t);
    }
    arm(hpet, n, from);
}

static void fire(void *arg, u64 now)
{
    struct hpet_port *port = arg;
    (void)now;
    match(port->hpet, port->n);
}

static void write_config(struct hpet *hpet, u64 value)
{
    u64 changed = (hpet->config ^ value) & (CONFIG_ENABLE | CONFIG_LEGACY);
    if (changed & CONFIG_ENABLE)
        hpet->offset = counter(hpet);
    if (changed & CONFIG_LEGACY)
        for (unsigned n = 0; n < HPET_TIMERS; n++)
            release(hpet, n);
    hpet->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
    if (changed & CONFIG_ENABLE) {
        hpet->start = clock_now(hpet->clock);
        for (unsigned n = 0; n < HPET_TIMERS; n++) {
            if (!(value & CONFIG_ENABLE))
                release(hpet, n);
            arm(hpet, n, hpet->offset);
        }
    }
    if ((changed & CONFIG_LEGACY) && hpet->legacy_changed)
        hpet->legacy_changed(hpet->legacy_arg, value & CONFIG_LEGACY);
}

static void write_timer_config(struct hpet *hpet, unsigned n, u64 value)
{
    struct hpet_timer *t = &hpet->timer[n];
    u64 before = t->config;
    value &= TIMER_WRITABLE;
    /* A change of route or type, or disabling, takes the old line down first. */
    if ((before ^ value) & ~(TIMER_SET_VALUE | TIMER_PERIODIC | TIMER_32BIT))
        release(hpet, n);
    t->config = value;
    if (value & TIMER_32BIT) {
        t->comparator &= mask_low(32);
        t->period &= mask_low(32);
    }
    if ((value & TIMER_LEVEL) && (value & TIMER_ENABLED) && (hpet->status >> n & 1))
        drive(hpet, n, true);
    arm(hpet, n, counter(hpet));
}

/* In periodic mode a write sets the period, and the comparator too if Tn_VAL_SET_CNF was set just before. */
static void write_comparator(struct hpet *hpet, unsigned n, unsigned at, unsigned size, u64 value)
{
    struct hpet_timer *t = &hpet->timer[n];
    bool high_only = at >= 4, periodic = t->config & TIMER_PERIODIC;
    if (!periodic || (t->config & TIMER_SET_VALUE) || (high_only && t->high_open))
        t->comparator = access_insert(t->comparator, at, size, value) & width(t);
    if (periodic)
        t->period = access_insert(t->period, at, size, value) & width(t);
    t->high_open = (t->config & TIMER_SET_VALUE) && !high_only && size <= 4;
    t->config &= ~TIMER_SET_VALUE;
    arm(hpet, n, counter(hpet));
}

static u64 register_read(struct hpet *hpet, u64 reg)
{
    switch (reg) {
    case REG_CAPABILITIES:
        return CAPABILITIES;
    case REG_CONFIG:
        return hpet->config;
    case REG_STATUS:
        return hpet->status;
    case REG_COUNTER:
        return counter(hpet);
    }
    if (reg >= REG_TIMERS && reg < REG_TIMERS + 0x20 * HPET_TIMERS) {
        const struct hpet_timer *t = &hpet->timer[(reg - REG_TIMERS) / 0x20];
        if ((reg & 0x1f) == 0x00)
            return t->config | TIMER_CAPABILITIES;
        if ((reg & 0x1f) == 0x08)
            return t->comparator;
    }
    return 0;
}

/* Writes `size` bytes at byte `at` of the 8-byte register `reg`. */
static void register_write(struct hpet *hpet, u64 reg, unsigned at, unsigned size, u64 value)
{
    switch (reg) {
    case REG_CONFIG:
        write_config(hpet, access_insert(hpet->config, at, size, value));
        return;
    case REG_STATUS: {
        u64 clear = access_insert(0, at, size, value) & hpet->status;
        hpet->status &= ~clear;
        for (unsigned n = 0; n < HPET_TIMERS; n++)
            if (clear >> n & 1)
                release(hpet, n);
        return;
    }
    case REG_COUNTER:
        hpet->offset = access_insert(counter(hpet), at, size, value);
        hpet->start = clock_now(hpet->clock);
        for (unsigned n = 0; n < HPET_TIMERS; n++)
            arm(hpet, n, hpet->offset);
        return;
    }
    if (reg < REG_TIMERS || reg >= REG_TIMERS + 0x20 * HPET_TIMERS)
        return;
    unsigned n = (unsigned)(reg - REG_TIMERS) / 0x20;
    if ((reg & 0x1f) == 0x00)
        write_timer_config(hpet, n, access_insert(hpet->timer[n].config, at, size, value));
    else if ((reg & 0x1f) == 0x08)
        write_comparator(hpet, n, at, size, value);
}

/* An 8-byte access at an address that is a multiple of 4 only is two of 4 bytes; anything else stays in one register. */
static u64 mmio_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    if ((off & 7) + size > 8) {
        unsigned first = 8 - (unsigned)(off & 7);
        u64 low = mmio_read(dev, cpu, off, first);
        return low | mmio_read(dev, cpu, off + first, size - first) << (8 * first);
    }
    return access_extract(register_read(dev, off & ~7ull), off & 7, size);
}

static void mmio_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    if ((off & 7) + size > 8) {
        unsigned first = 8 - (unsigned)(off & 7);
        mmio_write(dev, cpu, off, first, value);
        mmio_write(dev, cpu, off + first, size - first, value >> (8 * first));
        return;
    }
    register_write(dev, off & ~7ull, off & 7, size, value);
}

const struct bus_ops hpet_ops = {.read = mmio_read, .write = mmio_write};

void hpet_reset(struct hpet *hpet)
{
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        release(hpet, n);
        hpet->timer[n] = (struct hpet_timer){.comparator = ~0ull};
        clock_set(hpet->clock, hpet->clock_timer[n], CLOCK_NEVER);
    }
    write_config(hpet, 0);
    hpet->status = hpet->offset = hpet->start = 0;
}

void hpet_init(struct hpet *hpet, struct clock *clock, struct irq_line irq0, struct irq_line irq8,
               struct irq_line route, void (*legacy_changed)(void *arg, bool on), void *legacy_arg)
{
    memset(hpet, 0, sizeof *hpet);
    hpet->clock = clock;
    hpet->legacy[0] = irq0;
    hpet->legacy[1] = irq8;
    hpet->route = route;
    hpet->legacy_changed = legacy_changed;
    hpet->legacy_arg = legacy_arg;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        hpet->port[n] = (struct hpet_port){.hpet = hpet, .n = n};
        hpet->clock_timer[n] = clock_add_timer(clock, fire, &hpet->port[n]);
    }
    hpet_reset(hpet);
}
