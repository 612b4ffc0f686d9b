/* See mptable.h. Layouts follow Intel's "MultiProcessor Specification" 1.4. It says the same as the MADT (machine/acpi.c): every
 * local APIC, one I/O APIC, ISA interrupts on the pins of their number except IRQ 0 on pin 2, the 8259 pair on LINT0 and NMI on
 * LINT1 of all processors, PCI interrupts on pins 16-19.
 */
#include "machine/mptable.h"

enum { ENTRY_PROCESSOR, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_IO_INTERRUPT, ENTRY_LOCAL_INTERRUPT };
enum { INTERRUPT_VECTORED, INTERRUPT_NMI, INTERRUPT_SMI, INTERRUPT_EXTINT };
enum { BUS_PCI, BUS_ISA };
#define LEVEL_ACTIVE_LOW 0x000fu
#define PCI_SLOTS 32u
#define TABLE_SIZE 8192u

struct writer { u8 *data; u32 size; unsigned entries; };

static u8 *add(struct writer *w, u8 type, u32 size)
{
    u8 *p = w->data + w->size;
    if (size > TABLE_SIZE - w->size)
        panic("the MP table does not fit");
    w->size += size;
    w->entries++;
    p[0] = type;
    return p;
}

static void add_interrupt(struct writer *w, u8 entry, u8 type, u16 flags, u8 bus, u8 irq, u8 apic, u8 pin)
{
    u8 *p = add(w, entry, 8);
    p[1] = type;
    store16(p + 2, flags);
    p[4] = bus;
    p[5] = irq;
    p[6] = apic;
    p[7] = pin;
}

static void add_bus(struct writer *w, u8 id, const char *name)
{
    u8 *p = add(w, ENTRY_BUS, 8);
    p[1] = id;
    memcpy(p + 2, name, 6);
}

static u8 checksum(const u8 *data, u32 size)
{
    u8 sum = 0;
    while (size--)
        sum = (u8)(sum + *data++);
    return (u8)(0 - sum);
}

void mptable_build(struct machine *m)
{
    u8 table[TABLE_SIZE] = {0}, pointer[16] = {0};
    struct writer w = {.data = table, .size = 44};
    u8 ioapic = (u8)(m->ioapic.id >> 24);

    for (unsigned i = 0; i < m->cpu_count && i < 255; i++) {
        u8 *p = add(&w, ENTRY_PROCESSOR, 20);
        p[1] = (u8)i;
        p[2] = 0x14;                                    /* an integrated local APIC */
        p[3] = i == 0 ? 3 : 1;                          /* enabled; the first is the bootstrap processor */
        store32(p + 4, (u32)m->cpu[i].core.rdx);        /* the signature, as after reset */
        store32(p + 8, 1 << 0 | 1 << 9);                /* FPU, APIC */
    }
    add_bus(&w, BUS_PCI, "PCI   ");
    add_bus(&w, BUS_ISA, "ISA   ");
    u8 *p = add(&w, ENTRY_IOAPIC, 8);
    p[1] = ioapic;
    p[2] = 0x20;
    p[3] = 1;
    store32(p + 4, IOAPIC_BASE);
    for (u8 irq = 0; irq < 16; irq++)
        if (irq != 2)
            add_interrupt(&w, ENTRY_IO_INTERRUPT, INTERRUPT_VECTORED, 0, BUS_ISA, irq, ioapic, irq == 0 ? 2 : irq);
    for (u32 slot = 1; slot < PCI_SLOTS; slot++)
        for (u32 pin = 0; pin < 4; pin++)
            add_interrupt(&w, ENTRY_IO_INTERRUPT, INTERRUPT_VECTORED, LEVEL_ACTIVE_LOW, BUS_PCI, (u8)(slot << 2 | pin), ioapic,
                          (u8)(PCI_FIRST_GSI + ((slot + pin) & 3)));
    add_interrupt(&w, ENTRY_LOCAL_INTERRUPT, INTERRUPT_EXTINT, 0, BUS_ISA, 0, 0xff, 0);
    add_interrupt(&w, ENTRY_LOCAL_INTERRUPT, INTERRUPT_NMI, 0, BUS_ISA, 0, 0xff, 1);

    memcpy(table, "PCMP", 4);
    store16(table + 4, (u16)w.size);
    table[6] = 4;                                       /* revision 1.4 */
    memcpy(table + 8, "NESTOR  NESTOR PC   ", 20);
    store16(table + 34, (u16)w.entries);
    store32(table + 36, LAPIC_DEFAULT_BASE);
    table[7] = checksum(table, w.size);

    memcpy(pointer, "_MP_", 4);
    store32(pointer + 4, MPTABLE_START);
    pointer[8] = 1;                                     /* paragraphs */
    pointer[9] = 4;
    pointer[10] = checksum(pointer, sizeof(pointer));
    if (!bus_copy_to(&m->bus, MPTABLE_START, table, w.size) || !bus_copy_to(&m->bus, MPTABLE_POINTER, pointer, sizeof(pointer)))
        panic("no RAM for the MP table");
}
