/* The I/O APIC: 24 inputs, each redirected to the local APICs as its entry says. Version 0x20, with the EOI register.
 *
 * Kept true: a level-triggered input asks again after EOI as long as it is asserted; an edge that comes while the entry
 * is masked is lost, as in the chip. Polarity bits are kept and have no effect, as in lapic.h. At most 24 deliveries
 * follow from one access: a message that nobody accepts leaves remote IRR clear and is tried again at the next change.
 *
 * Sources: Intel 82093AA data sheet; ICH data sheets for the EOI register.
 */
#ifndef NESTOR_DEVICES_IOAPIC_H
#define NESTOR_DEVICES_IOAPIC_H

#include "cpu/base.h"
#include "devices/lapic.h"
#include "mmu/bus.h"

#define IOAPIC_BASE 0xfec00000u
#define IOAPIC_PINS 24

struct ioapic {
    u64 entry[IOAPIC_PINS];
    u32 id;             /* bits 27:24 */
    u32 lines;          /* inputs that are asserted */
    u8 select;
    /* wiring */
    struct apic_bus *bus;
};

/* `id` is the APIC ID that firmware tables announce. */
void ioapic_init(struct ioapic *ioapic, struct apic_bus *bus, u8 id);
void ioapic_reset(struct ioapic *ioapic);
/* An irq_line's `set`, arg = the struct ioapic, pin 0..23. The ISA wiring (IRQ 0 to pin 2 …) is the board's. */
void ioapic_set_line(void *arg, unsigned pin, bool level);
/* EOI broadcast by a local APIC; fits apic_bus_set_eoi. */
void ioapic_eoi(void *arg, u8 vector);

/* 4 KiB at IOAPIC_BASE; dev = the struct ioapic. */
extern const struct bus_ops ioapic_ops;

#endif
