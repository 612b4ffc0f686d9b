/* The high-precision event timer: a 64-bit counter at 100 MHz (10 ns) and three comparators, all able to be periodic,
 * with legacy replacement routing. No FSB (MSI) delivery.
 *
 * Kept true: the counter is the virtual clock divided by 10 plus an offset, so it agrees with all other clocks; a
 * periodic comparator shorter than 1 µs keeps its phase but interrupts at most every 1 µs.
 *
 * An edge-triggered comparator pulls its line low and high again at each match and leaves it high, so that an 8259
 * (which forgets a request whose line fell) and an IOAPIC both see one edge a match.
 *
 * Source: IA-PC HPET specification 1.0a.
 */
#ifndef NESTOR_DEVICES_HPET_H
#define NESTOR_DEVICES_HPET_H

#include "cpu/base.h"
#include "devices/clock.h"
#include "devices/irq.h"
#include "mmu/bus.h"

#define HPET_BASE 0xfed00000u
#define HPET_SIZE 0x400u
#define HPET_TIMERS 3
#define HPET_TICK_NS 10u
#define HPET_MIN_PERIOD 100u    /* ticks */
#define HPET_ROUTES 0x00f00000u /* GSIs that comparators can be routed to: 20-23, which no ISA or PCI device uses */

struct hpet_timer {
    u64 config;         /* the writable bits */
    u64 comparator;
    u64 period;
    bool high_open;     /* the low half of the comparator was just set: the high half still may be */
    bool asserted;
};

struct hpet {
    u64 config;         /* bit 0 ENABLE_CNF, bit 1 LEG_RT_CNF */
    u64 status;
    u64 offset;         /* counter value at `start`, or while it stands still */
    u64 start;          /* ns */
    struct hpet_timer timer[HPET_TIMERS];
    /* wiring */
    struct clock *clock;
    struct irq_line legacy[2];  /* IRQ 0 and IRQ 8, in legacy replacement mode */
    struct irq_line route;      /* called with pin = GSI otherwise */
    void (*legacy_changed)(void *arg, bool on); /* the PIT and the RTC lose or regain their lines; may be NULL */
    void *legacy_arg;
    unsigned clock_timer[HPET_TIMERS];
    struct hpet_port {
        struct hpet *hpet;
        unsigned n;
    } port[HPET_TIMERS];
};

void hpet_init(struct hpet *hpet, struct clock *clock, struct irq_line irq0, struct irq_line irq8,
               struct irq_line route, void (*legacy_changed)(void *arg, bool on), void *legacy_arg);
void hpet_reset(struct hpet *hpet);

/* HPET_SIZE bytes at HPET_BASE; dev = the struct hpet. */
extern const struct bus_ops hpet_ops;

#endif
