/* The I/O APIC. Registers: select at 0x00, window at 0x10, EOI at 0x40. */
#include "devices/ioapic.h"
#include "devices/access.h"

#define ENTRY_MASKED BIT(16)
#define ENTRY_LEVEL BIT(15)
#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_READ_ONLY (BIT(12) | ENTRY_REMOTE_IRR)
#define ENTRY_WRITABLE 0xff0000000001afffull

enum { REG_ID = 0, REG_VERSION = 1, REG_ARBITRATION = 2, REG_ENTRIES = 0x10 };

static void service(struct ioapic *ioapic, unsigned pin)
{
    u64 *entry = &ioapic->entry[pin];
    if (*entry & ENTRY_MASKED)
        return;
    bool level = *entry & ENTRY_LEVEL;
    struct apic_message message = {
        .destination = (u32)(*entry >> 56),
        .vector = (u8)*entry,
        .delivery = *entry >> 8 & 7,
        .logical = *entry >> 11 & 1,
        .level = level,
    };
    /* Only fixed and lowest-priority interrupts have an EOI to wait for. */
    bool has_eoi = message.delivery <= APIC_LOWEST_PRIORITY;
    if (level && has_eoi && (*entry & ENTRY_REMOTE_IRR))
        return;
    if (apic_bus_post(ioapic->bus, &message) && level && has_eoi)
        *entry |= ENTRY_REMOTE_IRR;
}

void ioapic_set_line(void *arg, unsigned pin, bool level)
{
    struct ioapic *ioapic = arg;
    if (pin >= IOAPIC_PINS)
        return;
    bool rising = level && !(ioapic->lines >> pin & 1);
    ioapic->lines = level ? ioapic->lines | 1u << pin : ioapic->lines & ~(1u << pin);
    if (rising)
        service(ioapic, pin);
}

void ioapic_eoi(void *arg, u8 vector)
{
    struct ioapic *ioapic = arg;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        u64 *entry = &ioapic->entry[pin];
        if ((u8)*entry != vector || !(*entry & ENTRY_REMOTE_IRR))
            continue;
        *entry &= ~ENTRY_REMOTE_IRR;
        if ((*entry & ENTRY_LEVEL) && (ioapic->lines >> pin & 1))
            service(ioapic, pin);
    }
}

static void write_entry(struct ioapic *ioapic, unsigned pin, unsigned half, u32 value)
{
    u64 *entry = &ioapic->entry[pin];
    u64 merged = access_insert(*entry, half * 4, 4, value);
    *entry = (merged & ENTRY_WRITABLE) | (*entry & ENTRY_READ_ONLY);
    /* Going to edge mode forgets remote IRR: how drivers clear it on chips without the EOI register. */
    if (!(*entry & ENTRY_LEVEL))
        *entry &= ~ENTRY_REMOTE_IRR;
    else if (ioapic->lines >> pin & 1)
        service(ioapic, pin);
}

static u32 window_read(const struct ioapic *ioapic)
{
    unsigned reg = ioapic->select;
    if (reg >= REG_ENTRIES && reg < REG_ENTRIES + 2 * IOAPIC_PINS) {
        unsigned at = reg - REG_ENTRIES;
        return (u32)(ioapic->entry[at / 2] >> (at % 2 * 32));
    }
    switch (reg) {
    case REG_ID:
    case REG_ARBITRATION:
        return ioapic->id;
    case REG_VERSION:
        return 0x20 | (IOAPIC_PINS - 1) << 16;
    default:
        return 0;
    }
}

static void window_write(struct ioapic *ioapic, u32 value)
{
    unsigned reg = ioapic->select;
    if (reg >= REG_ENTRIES && reg < REG_ENTRIES + 2 * IOAPIC_PINS)
        write_entry(ioapic, (reg - REG_ENTRIES) / 2, (reg - REG_ENTRIES) % 2, value);
    else if (reg == REG_ID)
        ioapic->id = value & 0x0f000000;
}

static u64 mmio_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    const struct ioapic *ioapic = dev;
    (void)cpu;
    u32 value = 0;
    if ((off & ~3ull) == 0x00)
        value = ioapic->select;
    else if ((off & ~3ull) == 0x10)
        value = window_read(ioapic);
    return access_extract(value, off & 3, size);
}

static void mmio_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    struct ioapic *ioapic = dev;
    (void)cpu;
    value &= mask_low(8 * size);
    /* Registers are written whole; a narrower write is extended with zeros. */
    if (off == 0x00)
        ioapic->select = (u8)value;
    else if (off == 0x10)
        window_write(ioapic, (u32)value);
    else if (off == 0x40)
        ioapic_eoi(ioapic, (u8)value);
}

const struct bus_ops ioapic_ops = {.read = mmio_read, .write = mmio_write};

void ioapic_reset(struct ioapic *ioapic)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        ioapic->entry[pin] = ENTRY_MASKED;
    ioapic->select = 0;
}

void ioapic_init(struct ioapic *ioapic, struct apic_bus *bus, u8 id)
{
    memset(ioapic, 0, sizeof *ioapic);
    ioapic->bus = bus;
    ioapic->id = (u32)(id & 15) << 24;
    ioapic_reset(ioapic);
}
