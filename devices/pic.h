/* The pair of 8259A programmable interrupt controllers of a PC, and the edge/level control registers (ELCR) that the
 * chipset adds. The second chip hangs on input 2 of the first.
 *
 * Kept true: the INTR output follows from the state after every change; in edge mode a request is forgotten when its
 * line falls before it was acknowledged, as in the chip.
 *
 * Sources: Intel 8259A data sheet; 82371SB (PIIX3) data sheet for the ELCR.
 */
#ifndef NESTOR_DEVICES_PIC_H
#define NESTOR_DEVICES_PIC_H

#include "cpu/base.h"
#include "devices/irq.h"
#include "mmu/bus.h"

struct pic_chip {
    u8 irr;             /* requests */
    u8 imr;             /* masked inputs */
    u8 isr;             /* in service */
    u8 lines;           /* level of the inputs */
    u8 elcr;            /* inputs that the chipset makes level-triggered */
    u8 vector_base;     /* ICW2: bits 7:3 */
    u8 icw3;
    u8 lowest;          /* the input of lowest priority: 7 unless rotated */
    u8 icw_next;        /* the initialization word expected on the odd port: 0 none, else 2, 3 or 4 */
    bool level;         /* ICW1.LTIM: all inputs level-triggered */
    bool single;        /* ICW1.SNGL */
    bool needs_icw4;    /* ICW1.IC4 */
    bool auto_eoi;      /* ICW4.AEOI */
    bool nested;        /* ICW4.SFNM: special fully nested mode */
    bool rotate_aeoi;   /* OCW2: rotate in automatic EOI mode */
    bool special_mask;  /* OCW3: special mask mode */
    bool read_isr;      /* OCW3: the even port shows ISR instead of IRR */
    bool poll;          /* OCW3: the next read is a poll */
};

struct pic {
    struct pic_chip chip[2];    /* 0: first (IRQ 0-7), 1: second (IRQ 8-15) */
    bool intr;                  /* the level driven on `output` */
    /* wiring */
    struct irq_line output;     /* INTR: to the LINT0 inputs of the processors */
};

void pic_init(struct pic *pic, struct irq_line output);
void pic_reset(struct pic *pic);

/* Input wire: an irq_line's `set`, arg = the struct pic, pin 0..15 (2 is the cascade and is ignored). */
void pic_set_line(void *arg, unsigned pin, bool level);

/* True while INTR is asserted. */
bool pic_has_interrupt(const struct pic *pic);
/* The interrupt-acknowledge cycle: returns the vector and moves the request into service. With no request left this is
 * a spurious one: the vector of input 7 of the chip that was asked, and nothing goes into service there. */
u8 pic_acknowledge(struct pic *pic);

/* Ports 0x20-0x21, 0xa0-0xa1 and 0x4d0-0x4d1; dev = the struct pic. */
extern const struct bus_ops pic_first_ops, pic_second_ops, pic_elcr_ops;

#endif
