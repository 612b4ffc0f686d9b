/* Interrupt wires between devices. A line carries a level; whoever drives it calls irq_set on every change it wants to
 * be seen (the receiver does edge or level detection). Message-signalled interrupts go through apic_bus (lapic.h).
 */
#ifndef NESTOR_DEVICES_IRQ_H
#define NESTOR_DEVICES_IRQ_H

#include "cpu/base.h"

struct irq_line {
    void (*set)(void *arg, unsigned pin, bool level);
    void *arg;
    unsigned pin;
};

static inline void irq_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->arg, line->pin, level);
}

#endif
