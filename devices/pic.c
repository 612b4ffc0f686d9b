/* The 8259A pair. Priorities are numbers 0 (highest) to 7, counted from the input behind `lowest`; requests are found
 * by rotating the register so that priority order becomes bit order.
 */
#include "devices/pic.h"
#include "devices/access.h"

enum { NO_INPUT = 8 };

static u8 rotate_right(u8 value, unsigned n)
{
    n &= 7;
    return (u8)(value >> n | value << ((8 - n) & 7));
}

/* The priority (0 highest … 7, 8 none) of the best bit set in `bits`. */
static unsigned best_priority(const struct pic_chip *chip, u8 bits)
{
    return bits ? (unsigned)__builtin_ctz(rotate_right(bits, chip->lowest + 1u)) : NO_INPUT;
}

static unsigned input_of(const struct pic_chip *chip, unsigned priority)
{
    return (priority + chip->lowest + 1u) & 7;
}

static bool is_level(const struct pic_chip *chip, unsigned input)
{
    return chip->level || (chip->elcr >> input & 1);
}

/* The input whose request the chip puts on its INT output, or NO_INPUT. */
static unsigned pending_input(const struct pic *pic, unsigned which)
{
    const struct pic_chip *chip = &pic->chip[which];
    if (chip->icw_next != 0)
        return NO_INPUT;
    unsigned request = best_priority(chip, chip->irr & (u8)~chip->imr);
    if (request == NO_INPUT)
        return NO_INPUT;
    u8 blocking = chip->isr;
    /* Special mask mode: a masked input in service holds nothing back. */
    if (chip->special_mask)
        blocking &= (u8)~chip->imr;
    /* Special fully nested mode: the second chip may interrupt its own service routine with a better request. */
    if (which == 0 && chip->nested)
        blocking &= (u8)~BIT(2);
    return request < best_priority(chip, blocking) ? input_of(chip, request) : NO_INPUT;
}

static void set_input(struct pic_chip *chip, unsigned input, bool level)
{
    u8 bit = (u8)BIT(input);
    if (is_level(chip, input)) {
        chip->irr = level ? chip->irr | bit : chip->irr & (u8)~bit;
    } else if (level && !(chip->lines & bit)) {
        chip->irr |= bit;
    } else if (!level) {
        chip->irr &= (u8)~bit;
    }
    chip->lines = level ? chip->lines | bit : chip->lines & (u8)~bit;
}

static void update(struct pic *pic)
{
    set_input(&pic->chip[0], 2, pending_input(pic, 1) != NO_INPUT);
    bool intr = pending_input(pic, 0) != NO_INPUT;
    if (intr != pic->intr) {
        pic->intr = intr;
        irq_set(&pic->output, intr);
    }
}

void pic_set_line(void *arg, unsigned pin, bool level)
{
    struct pic *pic = arg;
    if (pin > 15 || pin == 2)
        return;
    set_input(&pic->chip[pin >> 3], pin & 7, level);
    update(pic);
}

bool pic_has_interrupt(const struct pic *pic) { return pic->intr; }

/* What both the INTA cycle and a poll do to the chip that owns the request. */
static void take(struct pic_chip *chip, unsigned input)
{
    u8 bit = (u8)BIT(input);
    /* A level input goes on asking as long as its line is high. */
    if (!is_level(chip, input))
        chip->irr &= (u8)~bit;
    if (!chip->auto_eoi)
        chip->isr |= bit;
    else if (chip->rotate_aeoi)
        chip->lowest = (u8)input;
}

u8 pic_acknowledge(struct pic *pic)
{
    struct pic_chip *first = &pic->chip[0], *second = &pic->chip[1];
    unsigned input = pending_input(pic, 0);
    u8 vector;
    if (input == NO_INPUT) {
        vector = first->vector_base | 7;
    } else if (input != 2 || first->single) {
        take(first, input);
        vector = first->vector_base | (u8)input;
    } else {
        take(first, 2);
        /* The cascade drops between two requests of the second chip: its next one is a new edge. */
        first->lines &= (u8)~BIT(2);
        unsigned inner = pending_input(pic, 1);
        if (inner == NO_INPUT) {
            vector = second->vector_base | 7;
        } else {
            take(second, inner);
            vector = second->vector_base | (u8)inner;
        }
    }
    update(pic);
    return vector;
}

static void initialize(struct pic_chip *chip, u8 icw1)
{
    chip->level = icw1 >> 3 & 1;
    chip->single = icw1 >> 1 & 1;
    chip->needs_icw4 = icw1 & 1;
    chip->imr = chip->isr = 0;
    chip->lowest = 7;
    chip->special_mask = chip->read_isr = chip->poll = false;
    chip->auto_eoi = chip->nested = chip->rotate_aeoi = false;
    chip->icw_next = 2;
    /* The edge detectors are cleared: a line that is high now asks again only after it fell. Level inputs go on. */
    for (unsigned input = 0; input < 8; input++)
        if (!is_level(chip, input))
            chip->irr &= (u8)~BIT(input);
        else
            chip->irr = (u8)((chip->irr & ~BIT(input)) | (chip->lines & BIT(input)));
}

static void end_of_interrupt(struct pic_chip *chip, u8 ocw2)
{
    unsigned named = ocw2 & 7, input;
    switch (ocw2 >> 5) {
    case 0: /* clear rotate in automatic EOI mode */
    case 4: /* set it */
        chip->rotate_aeoi = ocw2 >> 7;
        break;
    case 1: /* non-specific EOI */
    case 5: /* with rotation */
        /* In special mask mode a masked bit in service is not what a non-specific EOI clears. */
        input = best_priority(chip, chip->special_mask ? chip->isr & (u8)~chip->imr : chip->isr);
        if (input == NO_INPUT)
            break;
        input = input_of(chip, input);
        chip->isr &= (u8)~BIT(input);
        if (ocw2 >> 7)
            chip->lowest = (u8)input;
        break;
    case 3: /* specific EOI */
    case 7: /* with rotation */
        chip->isr &= (u8)~BIT(named);
        if (ocw2 >> 7)
            chip->lowest = (u8)named;
        break;
    case 6: /* set priority */
        chip->lowest = (u8)named;
        break;
    }
}

static void chip_write(struct pic *pic, unsigned which, u64 off, u8 value)
{
    struct pic_chip *chip = &pic->chip[which];
    if (off == 0) {
        if (value & 0x10) {
            initialize(chip, value);
            if (which == 1)
                set_input(&pic->chip[0], 2, false);
        } else if (value & 0x08) {
            if (value & 0x40)
                chip->special_mask = value >> 5 & 1;
            if (value & 0x04)
                chip->poll = true;
            else if (value & 0x02)
                chip->read_isr = value & 1;
        } else {
            end_of_interrupt(chip, value);
        }
    } else {
        switch (chip->icw_next) {
        case 2:
            chip->vector_base = value & 0xf8;
            chip->icw_next = !chip->single ? 3 : chip->needs_icw4 ? 4 : 0;
            break;
        case 3:
            chip->icw3 = value;
            chip->icw_next = chip->needs_icw4 ? 4 : 0;
            break;
        case 4:
            chip->auto_eoi = value >> 1 & 1;
            chip->nested = value >> 4 & 1;
            chip->icw_next = 0;
            break;
        default:
            chip->imr = value;
        }
    }
    update(pic);
}

static u8 chip_read(struct pic *pic, unsigned which, u64 off)
{
    struct pic_chip *chip = &pic->chip[which];
    if (chip->poll) {
        chip->poll = false;
        unsigned input = pending_input(pic, which);
        if (input == NO_INPUT)
            return 0x07;
        take(chip, input);
        update(pic);
        return 0x80 | (u8)input;
    }
    return off ? chip->imr : chip->read_isr ? chip->isr : chip->irr;
}

static u8 first_read8(void *dev, u64 off) { return chip_read(dev, 0, off & 1); }
static u8 second_read8(void *dev, u64 off) { return chip_read(dev, 1, off & 1); }
static void first_write8(void *dev, u64 off, u8 value) { chip_write(dev, 0, off & 1, value); }
static void second_write8(void *dev, u64 off, u8 value) { chip_write(dev, 1, off & 1, value); }

static u8 elcr_read8(void *dev, u64 off) { return ((struct pic *)dev)->chip[off & 1].elcr; }

static void elcr_write8(void *dev, u64 off, u8 value)
{
    struct pic *pic = dev;
    struct pic_chip *chip = &pic->chip[off & 1];
    /* IRQ 0, 1, 2, 8 and 13 are wired to devices that give edges: their bits read as 0. */
    chip->elcr = value & (off & 1 ? 0xde : 0xf8);
    for (unsigned input = 0; input < 8; input++)
        if (chip->elcr >> input & 1)
            chip->irr = (u8)((chip->irr & ~BIT(input)) | (chip->lines & BIT(input)));
    update(pic);
}

#define BYTE_PORT_OPS(name)                                                                                            \
    static u64 name##_read(void *dev, unsigned cpu, u64 off, unsigned size)                                            \
    {                                                                                                                  \
        (void)cpu;                                                                                                     \
        return access_read_bytes(name##_read8, dev, off, size);                                                        \
    }                                                                                                                  \
    static void name##_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)                               \
    {                                                                                                                  \
        (void)cpu;                                                                                                     \
        access_write_bytes(name##_write8, dev, off, size, value);                                                      \
    }                                                                                                                  \
    const struct bus_ops pic_##name##_ops = {.read = name##_read, .write = name##_write}

BYTE_PORT_OPS(first);
BYTE_PORT_OPS(second);
BYTE_PORT_OPS(elcr);

void pic_reset(struct pic *pic)
{
    for (unsigned which = 0; which < 2; which++) {
        u8 lines = pic->chip[which].lines;
        /* Everything stays masked until a guest programs the chip: a request before that has no vector. */
        pic->chip[which] = (struct pic_chip){.lines = lines, .lowest = 7, .imr = 0xff};
    }
    update(pic);
}

void pic_init(struct pic *pic, struct irq_line output)
{
    memset(pic, 0, sizeof *pic);
    pic->output = output;
    pic_reset(pic);
}
