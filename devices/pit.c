/* The 8254. A channel is not stepped: from the tick at which the counting element was loaded follow its value and its
 * output at any time. Only two things happen *at* a time: a new count taken at the end of a period (settle, done
 * whenever the channel is looked at) and channel 0's interrupt (a timer).
 */
#include "devices/pit.h"
#include "devices/access.h"

#define SECOND 1000000000ull

static i64 tick_now(const struct pit *pit) { return (i64)muldiv64(clock_now(pit->clock), PIT_HZ, SECOND); }

/* The first nanosecond at which tick_now() shows `tick`. */
static u64 tick_to_ns(i64 tick) { return (u64)(((u128)(u64)tick * SECOND + PIT_HZ - 1) / PIT_HZ); }

static u32 modulus(const struct pit_channel *c) { return c->bcd ? 10000 : 65536; }

/* The written count as the number of ticks it stands for. Digits past 9 (undefined by the data sheet) count as is. */
static u32 decode(const struct pit_channel *c)
{
    u32 n = c->reload;
    if (c->bcd)
        n = (n & 15) + (n >> 4 & 15) * 10 + (n >> 8 & 15) * 100 + (n >> 12) * 1000;
    if (n == 0)
        n = modulus(c);
    /* A count of 1 is illegal for the periodic modes; 2 is the shortest period. */
    if ((c->mode == 2 || c->mode == 3) && n < 2)
        n = 2;
    return n;
}

static u16 encode(const struct pit_channel *c, u32 n)
{
    if (!c->bcd)
        return (u16)n;
    n %= 10000;
    return (u16)(n % 10 | n / 10 % 10 << 4 | n / 100 % 10 << 8 | n / 1000 << 12);
}

static bool is_periodic(const struct pit_channel *c) { return c->mode == 2 || c->mode == 3; }

/* Ticks counted since the counting element was loaded; negative in the tick before the load takes effect. */
static i64 elapsed(const struct pit_channel *c, i64 now) { return c->before + (c->counting ? now - c->start : 0); }

/* Mode 3: ticks of a period that the output is high. */
static u32 high_half(u32 count) { return (count + 1) / 2; }

/* Lets a count that was written during a period take effect if the time for it has come. */
static void settle(struct pit_channel *c, i64 now)
{
    if (c->next_count != 0) {
        if (now < c->switch_at)
            return;
        c->start = c->next_start;
        c->count = c->next_count;
        c->next_count = 0;
        c->null_count = false;
    } else if (c->loaded && c->mode != 1 && c->mode != 5 && elapsed(c, now) >= 0) {
        c->null_count = false;
    }
}

static bool output(const struct pit_channel *c, i64 now)
{
    if (!c->loaded)
        return c->mode != 0;
    i64 gone = elapsed(c, now);
    switch (c->mode) {
    case 0:
        return gone >= (i64)c->count;
    case 1:
        return !c->counting || gone < 0 || gone >= (i64)c->count;
    case 2:
        return !c->counting || gone < 0 || gone % c->count != (i64)c->count - 1;
    case 3:
        return !c->counting || gone < 0 || gone % c->count < (i64)high_half(c->count);
    default:
        return gone != (i64)c->count;
    }
}

static u16 value(const struct pit_channel *c, i64 now)
{
    if (!c->loaded)
        return 0;
    i64 gone = elapsed(c, now);
    if (gone < 0)
        return c->reload;
    u32 n;
    switch (c->mode) {
    case 2:
        n = c->count - (u32)(gone % c->count);
        break;
    case 3: {
        /* Counts down by two, twice a period; odd counts are loaded less one. */
        u32 at = (u32)(gone % c->count), half = high_half(c->count);
        n = at < half ? (c->count & ~1u) - 2 * at : (c->count & ~1u) - 2 * (at - half);
        if ((i32)n < 0)
            n = 0;
        break;
    }
    default: {
        u32 span = modulus(c);
        n = (u32)((((i64)c->count - gone) % span + span) % span);
        break;
    }
    }
    return encode(c, n);
}

/* Shows channel 0's output on its line and sets the timer to its next change that matters. */
static void update_irq(struct pit *pit)
{
    struct pit_channel *c = &pit->channel[0];
    i64 now = tick_now(pit);
    settle(c, now);
    bool running = c->loaded && c->counting;
    bool level = (is_periodic(c) && running) || output(c, now);
    if (level != pit->output0) {
        pit->output0 = level;
        if (!pit->irq_disabled)
            irq_set(&pit->irq, level);
    }
    i64 edge = -1;
    if (running) {
        i64 gone = elapsed(c, now), count = c->count, base = c->start - c->before;
        if (is_periodic(c) && c->next_count != 0)
            edge = c->next_start == c->switch_at ? c->switch_at : c->next_start + (i64)c->next_count;
        else if (is_periodic(c))
            edge = base + (gone < 0 ? count : (gone / count + 1) * count);
        else if (c->mode == 0 && gone < count)
            edge = base + count;
        else if (c->mode >= 4 && gone <= count)
            edge = base + (gone < count ? count : count + 1);
    }
    pit->due = edge >= 0 ? tick_to_ns(edge) : CLOCK_NEVER;
    clock_set(pit->clock, pit->timer, pit->due);
}

static void fire(void *arg, u64 now)
{
    struct pit *pit = arg;
    (void)now;
    if (is_periodic(&pit->channel[0]) && pit->output0) {
        pit->output0 = false;
        if (!pit->irq_disabled)
            irq_set(&pit->irq, false);
    }
    update_irq(pit);
}

void pit_set_irq_enabled(struct pit *pit, bool enabled)
{
    if (pit->irq_disabled == !enabled)
        return;
    pit->irq_disabled = !enabled;
    irq_set(&pit->irq, enabled && pit->output0);
}

/* Starts to count `reload` from its beginning, at the next tick. */
static void start_count(struct pit_channel *c, i64 now, bool counting)
{
    c->count = decode(c);
    c->next_count = 0;
    c->before = 0;
    c->start = now + 1;
    c->counting = counting;
}

/* A complete count was written. */
static void load(struct pit_channel *c, i64 now)
{
    settle(c, now);
    c->null_count = true;
    if (c->mode == 1 || c->mode == 5) {
        /* Taken at the next trigger. */
        if (!c->counting)
            c->count = decode(c);
    } else if (is_periodic(c) && c->loaded && c->counting && elapsed(c, now) >= 0) {
        i64 phase = elapsed(c, now) % c->count, begin = now - phase, half = high_half(c->count);
        c->next_count = decode(c);
        if (c->mode == 3 && phase < half) {
            c->switch_at = begin + half;
            c->next_start = c->switch_at - (i64)high_half(c->next_count);
        } else {
            c->switch_at = c->next_start = begin + (i64)c->count;
        }
    } else {
        start_count(c, now, c->gate);
    }
    c->loaded = true;
}

static void write_count(struct pit *pit, unsigned which, u8 byte)
{
    struct pit_channel *c = &pit->channel[which];
    i64 now = tick_now(pit);
    bool complete = true;
    if (c->access == 1) {
        c->reload = byte;
    } else if (c->access == 2) {
        c->reload = (u16)(byte << 8);
    } else if (!c->write_high) {
        c->reload = (u16)((c->reload & 0xff00) | byte);
        c->write_high = true;
        complete = false;
        /* Mode 0: the first byte stops the count and pulls the output low. */
        if (c->mode == 0)
            c->loaded = c->counting = false;
    } else {
        c->reload = (u16)((c->reload & 0x00ff) | byte << 8);
        c->write_high = false;
    }
    if (complete)
        load(c, now);
    if (which == 0)
        update_irq(pit);
}

static void set_gate(struct pit *pit, unsigned which, bool gate)
{
    struct pit_channel *c = &pit->channel[which];
    i64 now = tick_now(pit);
    bool rising = gate && !c->gate, falling = !gate && c->gate;
    settle(c, now);
    c->gate = gate;
    if (!c->loaded || !(rising || falling))
        return;
    switch (c->mode) {
    case 1:
    case 5:
        if (rising) {
            start_count(c, now, true);
            c->null_count = false;
        }
        break;
    case 2:
    case 3:
        if (rising) {
            start_count(c, now, true);
            c->null_count = false;
        } else {
            i64 gone = elapsed(c, now);
            c->before = gone < 0 ? 0 : gone % c->count;
            c->counting = false;
            c->next_count = 0;
        }
        break;
    default:
        if (rising) {
            c->start = now;
            c->counting = true;
        } else {
            c->before = elapsed(c, now);
            c->counting = false;
        }
    }
}

static void latch_count(struct pit_channel *c, i64 now)
{
    if (c->latched)
        return;
    settle(c, now);
    c->count_latch = value(c, now);
    c->latched = c->access == 3 ? 2 : 1;
}

static void latch_status(struct pit_channel *c, i64 now)
{
    if (c->status_latched)
        return;
    settle(c, now);
    c->status_latch = (u8)(output(c, now) << 7 | c->null_count << 6 | c->access << 4 | c->mode << 1 | c->bcd);
    c->status_latched = true;
}

static void write_control(struct pit *pit, u8 word)
{
    i64 now = tick_now(pit);
    unsigned which = word >> 6;
    if (which == 3) { /* read-back command */
        for (unsigned i = 0; i < 3; i++) {
            if (!(word >> (i + 1) & 1))
                continue;
            if (!(word & 0x20))
                latch_count(&pit->channel[i], now);
            if (!(word & 0x10))
                latch_status(&pit->channel[i], now);
        }
        return;
    }
    struct pit_channel *c = &pit->channel[which];
    if (!(word & 0x30)) {
        latch_count(c, now);
        return;
    }
    bool gate = c->gate;
    u8 mode = word >> 1 & 7;
    *c = (struct pit_channel){.gate = gate, .access = word >> 4 & 3, .mode = mode > 5 ? mode & 3 : mode,
                              .bcd = word & 1, .null_count = true};
    if (which == 0)
        update_irq(pit);
}

static u8 read_count(struct pit *pit, struct pit_channel *c)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->status_latch;
    }
    u16 n;
    if (c->latched) {
        n = c->count_latch;
        c->latched--;
    } else {
        i64 now = tick_now(pit);
        settle(c, now);
        n = value(c, now);
    }
    if (c->access == 3) {
        bool high = c->read_high;
        c->read_high = !high;
        return (u8)(high ? n >> 8 : n);
    }
    return (u8)(c->access == 2 ? n >> 8 : n);
}

static u8 pit_read8(void *dev, u64 off)
{
    struct pit *pit = dev;
    return off < 3 ? read_count(pit, &pit->channel[off]) : 0xff;
}

static void pit_write8(void *dev, u64 off, u8 byte)
{
    struct pit *pit = dev;
    /* An edge that this very instruction reached but that the queue has not delivered yet is not lost. */
    if (clock_now(pit->clock) >= pit->due)
        fire(pit, pit->due);
    if (off < 3)
        write_count(pit, (unsigned)off, byte);
    else if (off == 3)
        write_control(pit, byte);
}

static u8 port61_read8(void *dev, u64 off)
{
    struct pit *pit = dev;
    struct pit_channel *c = &pit->channel[2];
    (void)off;
    i64 now = tick_now(pit);
    settle(c, now);
    /* Bit 4 toggles with every refresh request: channel 1's 18 ticks on every PC, whatever was written to it. */
    return (u8)(pit->port61 | (now / 18 & 1) << 4 | output(c, now) << 5);
}

static void port61_write8(void *dev, u64 off, u8 byte)
{
    struct pit *pit = dev;
    (void)off;
    pit->port61 = byte & 0x0f;
    set_gate(pit, 2, byte & 1);
}

static u64 ports_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)cpu;
    return access_read_bytes(pit_read8, dev, off, size);
}

static void ports_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 bytes)
{
    (void)cpu;
    access_write_bytes(pit_write8, dev, off, size, bytes);
}

static u64 port61_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)cpu;
    return access_read_bytes(port61_read8, dev, off, size);
}

static void port61_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 bytes)
{
    (void)cpu;
    access_write_bytes(port61_write8, dev, off, size, bytes);
}

const struct bus_ops pit_ops = {.read = ports_read, .write = ports_write};
const struct bus_ops pit_port61_ops = {.read = port61_read, .write = port61_write};

void pit_reset(struct pit *pit)
{
    for (unsigned i = 0; i < 3; i++)
        pit->channel[i] = (struct pit_channel){.access = 3, .mode = 2, .gate = i != 2, .null_count = true};
    pit->port61 = 0;
    pit->irq_disabled = false;
    update_irq(pit);
}

void pit_init(struct pit *pit, struct clock *clock, struct irq_line irq)
{
    memset(pit, 0, sizeof *pit);
    pit->clock = clock;
    pit->irq = irq;
    pit->timer = clock_add_timer(clock, fire, pit);
    pit_reset(pit);
}
