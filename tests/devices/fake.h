/* A board for one device: a clock that the test moves by hand, wires that remember, a host that records. Time moves in
 * steps from deadline to deadline, as the machine does it, so that timers fire at their exact times.
 */
#ifndef NESTOR_TESTS_DEVICES_FAKE_H
#define NESTOR_TESTS_DEVICES_FAKE_H

#include "devices/clock.h"
#include "devices/host.h"
#include "devices/irq.h"
#include "mmu/bus.h"
#include "tests/suite.h"

static u64 fake_time;
static struct clock fake_clock;

static bool fake_level[32];
static unsigned fake_rises[32];
static u64 fake_risen_at[32];

static char fake_output[HOST_STREAMS][64];
static unsigned fake_sent[HOST_STREAMS];
static unsigned fake_power_offs, fake_resets;
static u32 fake_exit;

static u64 fake_now(void *arg) { (void)arg; return fake_time; }

static void fake_set_line(void *arg, unsigned pin, bool level)
{
    (void)arg;
    if (level && !fake_level[pin]) {
        fake_rises[pin]++;
        fake_risen_at[pin] = fake_time;
    }
    fake_level[pin] = level;
}

static void fake_put(void *arg, enum host_stream stream, u8 byte)
{
    (void)arg;
    fake_output[stream][fake_sent[stream]++ % 64] = (char)byte;
}
static void fake_power_off(void *arg) { (void)arg; fake_power_offs++; }
static void fake_reset(void *arg) { (void)arg; fake_resets++; }
static void fake_debug_exit(void *arg, u32 status) { (void)arg; fake_exit = status; }
static u64 fake_epoch(void *arg) { (void)arg; return 1704067200; /* 2024-01-01 00:00:00, a Monday */ }

static const struct host fake_host = {.put = fake_put, .power_off = fake_power_off, .reset = fake_reset,
                                      .debug_exit = fake_debug_exit, .epoch_seconds = fake_epoch};

static inline struct irq_line fake_line(unsigned pin) { return (struct irq_line){.set = fake_set_line, .pin = pin}; }

/* Starts over at time 0. Call before the device's init. */
static inline void fake_start(void)
{
    fake_time = 0;
    memset(&fake_clock, 0, sizeof fake_clock);
    fake_clock.now = fake_now;
    fake_clock.earliest = CLOCK_NEVER;
    memset(fake_level, 0, sizeof fake_level);
    memset(fake_rises, 0, sizeof fake_rises);
    memset(fake_risen_at, 0, sizeof fake_risen_at);
    memset(fake_sent, 0, sizeof fake_sent);
    memset(fake_output, 0, sizeof fake_output);
    fake_power_offs = fake_resets = fake_exit = 0;
    (void)fake_host;
}

/* Lets `ns` of time pass. */
static inline void fake_advance(u64 ns)
{
    u64 end = fake_time + ns;
    while (fake_clock.earliest <= end) {
        if (fake_clock.earliest > fake_time)
            fake_time = fake_clock.earliest;
        clock_run(&fake_clock, fake_time);
    }
    fake_time = end;
}

static inline u64 fake_read(const struct bus_ops *ops, void *dev, u64 off, unsigned size)
{
    return ops->read(dev, 0, off, size);
}
static inline void fake_write(const struct bus_ops *ops, void *dev, u64 off, unsigned size, u64 value)
{
    ops->write(dev, 0, off, size, value);
}
/* One byte, the common case. */
static inline u8 in8(const struct bus_ops *ops, void *dev, u64 off) { return (u8)ops->read(dev, 0, off, 1); }
static inline void out8(const struct bus_ops *ops, void *dev, u64 off, u8 value) { ops->write(dev, 0, off, 1, value); }

/* Random accesses of every size to the first `span` bytes of a window, with time passing: nothing may break. */
static inline void fake_fuzz(const struct bus_ops *ops, void *dev, u64 span, unsigned rounds)
{
    u64 x = 88172645463325252ull;
    for (unsigned i = 0; i < rounds; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        unsigned size = 1u << (x & 3);
        if (size > span)
            size = 1;
        u64 off = (x >> 8 & 0xffffff) % (span - size + 1);
        if (x & 4)
            ops->write(dev, 0, off, size, (x * 0x9e3779b97f4a7c15ull) & mask_low(8 * size));
        else
            ops->read(dev, 0, off, size);
        if ((x >> 40 & 15) == 0)
            fake_advance(x >> 48 & 0xfff);
    }
}

/* The body of main: runs one test case. */
static inline int fake_run(const char *name, const TTest *const *tests, unsigned count)
{
    return suite_run_tests(name, tests, count, NULL, NULL, CK_FORK_GETENV);
}

#endif
