/* The 8254 programmable interval timer (ports 0x40-0x43) and the system control port 0x61 that goes with it (gate and
 * output of channel 2, refresh toggle).
 *
 * Kept true: everything is computed from the virtual clock in units of the 1193182 Hz input; tick k happens at the
 * first nanosecond that is not before it, so a poll of the counter, the output bit and the interrupt agree exactly.
 * The fastest periodic interrupt (count 2) comes every 1.68 µs.
 *
 * Only channel 0 interrupts; its line is shown as a short low pulse before each rising edge rather than with the full
 * length of its low phase, which no receiver (they are edge-triggered) can tell apart.
 *
 * Source: Intel 82C54 data sheet.
 */
#ifndef NESTOR_DEVICES_PIT_H
#define NESTOR_DEVICES_PIT_H

#include "cpu/base.h"
#include "devices/clock.h"
#include "devices/irq.h"
#include "mmu/bus.h"

#define PIT_HZ 1193182u

struct pit_channel {
    i64 start;          /* the tick at which the counting element took `count` (or went on after a pause) */
    i64 before;         /* ticks counted before `start` */
    u32 count;          /* the modulus that is being counted: 2 or 1 .. 65536 */
    u32 next_count;     /* modes 2 and 3: written while counting, taken at tick switch_at; 0 = none */
    i64 switch_at;      /* the end of the (half) period in which next_count was written */
    i64 next_start;     /* `start` for next_count */
    u16 reload;         /* the count register, as written */
    u16 count_latch;
    u8 status_latch;
    u8 mode;            /* 0..5 */
    u8 access;          /* 1 low byte, 2 high byte, 3 both */
    bool bcd;
    bool gate;
    bool loaded;        /* a count was written since the control word */
    bool counting;      /* modes 1 and 5: triggered; modes 0, 2, 3 and 4: gate is high */
    bool write_high;    /* the next write is the high byte */
    bool read_high;     /* the next read gives the high byte */
    u8 latched;         /* bytes of count_latch left to read */
    bool status_latched;
    bool null_count;    /* the count register is not in the counting element yet */
};

struct pit {
    struct pit_channel channel[3];
    u64 due;                /* ns of channel 0's next change, CLOCK_NEVER if none */
    u8 port61;              /* bits 0-3 as written */
    bool output0;           /* level shown on the line */
    bool irq_disabled;      /* the HPET's legacy replacement has taken IRQ 0 */
    /* wiring */
    struct clock *clock;
    struct irq_line irq;
    unsigned timer;
};

void pit_init(struct pit *pit, struct clock *clock, struct irq_line irq);
void pit_reset(struct pit *pit);
/* Disconnects channel 0 from its interrupt line (HPET legacy replacement) or connects it again. */
void pit_set_irq_enabled(struct pit *pit, bool enabled);

/* Ports 0x40-0x43 and port 0x61; dev = the struct pit. */
extern const struct bus_ops pit_ops, pit_port61_ops;

#endif
