/* Between the local APICs: who a message is for, lowest-priority arbitration, MSI, and the wires that go to all.
 *
 * [SDM3 "Determining IPI Destination"], [SDM3 "Lowest Priority Delivery Mode"], [SDM3 "Message Address Register Format"].
 * Lowest priority goes to the lowest PPR; among equals to the first one behind the last winner, which is what the
 * arbitration of the old APIC bus does on average and, unlike it, the same in every run.
 */
#include "devices/lapic.h"

static bool accepts_vectors(const struct lapic *lapic)
{
    return lapic_is_enabled(lapic) && (lapic->svr & BIT(8));
}

static bool post_lowest_priority(struct apic_bus *bus, const struct apic_message *message)
{
    struct lapic *best = NULL;
    for (unsigned i = 0; i < bus->count; i++) {
        struct lapic *lapic = &bus->lapic[(bus->last_lowest + 1 + i) % bus->count];
        if (!accepts_vectors(lapic) || !lapic_matches(lapic, message))
            continue;
        if (!best || lapic_processor_priority(lapic) < lapic_processor_priority(best))
            best = lapic;
    }
    if (!best)
        return false;
    bus->last_lowest = best->cpu;
    return lapic_deliver(best, message);
}

bool apic_bus_post(struct apic_bus *bus, const struct apic_message *message)
{
    if (message->delivery == APIC_LOWEST_PRIORITY)
        return post_lowest_priority(bus, message);
    bool accepted = false;
    for (unsigned i = 0; i < bus->count; i++)
        if (lapic_matches(&bus->lapic[i], message))
            accepted |= lapic_deliver(&bus->lapic[i], message);
    return accepted;
}

bool apic_bus_send_msi(struct apic_bus *bus, u64 address, u32 data)
{
    if (address >> 20 != 0xfee)
        return false;
    bool level = data >> 15 & 1;
    if (level && !(data >> 14 & 1))
        return false; /* a level de-assert message has no effect on the processors */
    struct apic_message message = {
        .destination = address >> 12 & 0xff,
        .vector = (u8)data,
        .delivery = data >> 8 & 7,
        .logical = address >> 2 & 1,
        .level = level,
    };
    return apic_bus_post(bus, &message);
}

void apic_bus_set_lint(void *arg, unsigned pin, bool level)
{
    struct apic_bus *bus = arg;
    for (unsigned i = 0; i < bus->count && pin < 2; i++) {
        lapic_set_lint(&bus->lapic[i], pin, level);
        if (pin == 0 && !level)
            lapic_drop_extint_message(&bus->lapic[i]);
    }
}

/* Registers are 32 bits wide at multiples of 16 bytes; the SDM wants them accessed whole and leaves the rest undefined.
 * Here: narrower reads cut out of the register, an access to the 12 bytes between registers finds zeros, narrower
 * writes are extended with zeros, wider ones lose their upper half. [SDM3 "The Local APIC Block Diagram"] */
static u64 mmio_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    struct apic_bus *bus = dev;
    if (cpu >= bus->count || off >= 4096)
        return ~0ull;
    struct lapic *lapic = &bus->lapic[cpu];
    if (!lapic_is_enabled(lapic) || lapic_is_x2apic(lapic))
        return mask_low(8 * size);
    if ((off & 15) >= 4)
        return 0;
    u32 value = lapic_mmio_read(lapic, (u32)off & ~15u);
    return (value >> (8 * (off & 15))) & mask_low(8 * size);
}

static void mmio_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    struct apic_bus *bus = dev;
    if (cpu >= bus->count || off >= 4096 || (off & 15) != 0)
        return;
    struct lapic *lapic = &bus->lapic[cpu];
    if (!lapic_is_enabled(lapic) || lapic_is_x2apic(lapic))
        return;
    lapic_mmio_write(lapic, (u32)off, (u32)(value & mask_low(8 * size)));
}

const struct bus_ops apic_bus_ops = {.read = mmio_read, .write = mmio_write};

void apic_bus_set_eoi(struct apic_bus *bus, void (*eoi)(void *arg, u8 vector), void *arg)
{
    bus->eoi = eoi;
    bus->eoi_arg = arg;
}
