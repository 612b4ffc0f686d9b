/* PCI configuration space, BARs, interrupt routing, 440FX host bridge, PIIX3 ISA bridge. */
#include "devices/pci.h"
#include "devices/access.h"

enum { CFG_VENDOR = 0, CFG_DEVICE = 2, CFG_COMMAND = 4, CFG_STATUS = 6, CFG_REVISION = 8, CFG_CLASS = 9,
       CFG_HEADER = 14, CFG_BAR = 16, CFG_LINE = 0x3c, CFG_PIN = 0x3d };
enum { COMMAND_IO = 1, COMMAND_MEMORY = 2, COMMAND_NO_INTX = 0x400 };
enum { PIIX3_PIRQ_ROUTE = 0x60, PIIX3_SMICNTL = 0xa0, PIIX3_SMIEN = 0xa2, PIIX3_SMIREQ = 0xaa };
enum { SMICNTL_GATE = 1 << 0, SMIEN_APMC = 1 << 7, SMI_EVENTS = 0x1ff };
/* 82441FX SMRAM control: where it is (fixed), whether there is any, locked, open. D_CLS (bit 5) would hide it from data accesses of
 * SMM itself; it is not there. */
enum { HOST_SMRAM = 0x72, SMRAM_BASE_A0000 = 2, SMRAM_ENABLED = 1 << 3, SMRAM_LOCKED = 1 << 4, SMRAM_OPEN = 1 << 6 };

/* ---- Interrupts ---- */

/* The PIRQ of a function's pin: pins rotate with the device number. */
static unsigned pirq_of(const struct pci_function *f) { return (f->devfn >> 3) + f->config[CFG_PIN] - 1u; }

/* Drives the ISA interrupts that PIRQs are routed to. Bit 7 of a route register switches it off. */
static void update_isa(struct pci *pci)
{
    u16 level = 0;
    for (unsigned i = 0; i < PCI_PIRQS; i++) {
        u8 route = pci->isa_bridge.config[PIIX3_PIRQ_ROUTE + i];
        if (pci->pirq_count[i] && !(route & 0x80))
            level |= (u16)BIT(route & 15);
    }
    level &= 0xdef8; /* 0, 1, 2, 8 and 13 cannot be chosen */
    u16 changed = level ^ pci->isa_level;
    pci->isa_level = level;
    for (unsigned irq = 0; irq < 16; irq++)
        if ((changed >> irq & 1) && pci->isa.set)
            pci->isa.set(pci->isa.arg, irq, level >> irq & 1);
}

void pci_set_interrupt(struct pci_function *f, bool level)
{
    struct pci *pci = f->pci;
    if (f->config[CFG_PIN] == 0 || !pci)
        return;
    if (level)
        f->config[CFG_STATUS] |= 8;
    else
        f->config[CFG_STATUS] &= (u8)~8;
    level = level && !(load16(&f->config[CFG_COMMAND]) & COMMAND_NO_INTX);
    if (level == f->asserted)
        return;
    f->asserted = level;
    unsigned pirq = pirq_of(f) % PCI_PIRQS;
    pci->pirq_count[pirq] = (u8)(pci->pirq_count[pirq] + (level ? 1 : -1));
    if (pci->gsi.set)
        pci->gsi.set(pci->gsi.arg, PCI_FIRST_GSI + pirq, pci->pirq_count[pirq] != 0);
    update_isa(pci);
}

/* ---- Functions ---- */

void pci_function_init(struct pci_function *f, u16 vendor, u16 device, u32 class_code, u8 revision, void *arg)
{
    memset(f, 0, sizeof *f);
    store16(&f->config[CFG_VENDOR], vendor);
    store16(&f->config[CFG_DEVICE], device);
    f->config[CFG_REVISION] = revision;
    f->config[CFG_CLASS] = (u8)class_code;
    store16(&f->config[CFG_CLASS + 1], (u16)(class_code >> 8));
    store16(&f->writable[CFG_COMMAND], 0x0547); /* I/O, memory, master, parity, SERR, no INTx */
    f->clears[CFG_STATUS + 1] = 0xf9;
    f->arg = arg;
}

void pci_function_bar(struct pci_function *f, unsigned bar, enum pci_bar_kind kind, u64 size)
{
    unsigned last = kind == PCI_BAR_MEM64 ? bar + 1 : bar;
    if (last >= PCI_BARS || size & (size - 1) || size < (kind == PCI_BAR_IO ? 4u : 16u) ||
        (kind != PCI_BAR_MEM64 && size > BIT(31)))
        panic("pci_function_bar: BAR %u of size %llu cannot be", bar, (unsigned long long)size);
    f->bar_kind[bar] = (u8)kind;
    f->bar_size[bar] = size;
    u64 mask = ~(size - 1);
    store32(&f->writable[CFG_BAR + 4 * bar], (u32)mask);
    f->config[CFG_BAR + 4 * bar] = kind == PCI_BAR_IO ? 1 : kind == PCI_BAR_MEM64 ? 4 : 0;
    if (kind == PCI_BAR_MEM64)
        store32(&f->writable[CFG_BAR + 4 * bar + 4], (u32)(mask >> 32));
}

void pci_function_interrupt(struct pci_function *f, u8 pin)
{
    f->config[CFG_PIN] = pin;
    f->writable[CFG_LINE] = 0xff;
}

bool pci_add_function(struct pci *pci, struct pci_function *f, u8 devfn)
{
    if (pci->function[devfn])
        return false;
    pci->function[devfn] = f;
    f->devfn = devfn;
    f->pci = pci;
    return true;
}

/* Tells the device which of its BARs decode somewhere else now. */
static void update_bars(struct pci_function *f)
{
    u8 command = f->config[CFG_COMMAND];
    for (unsigned bar = 0; bar < PCI_BARS; bar++) {
        unsigned kind = f->bar_kind[bar];
        if (kind == PCI_BAR_NONE)
            continue;
        u64 at = load32(&f->config[CFG_BAR + 4 * bar]) & (kind == PCI_BAR_IO ? ~3u : ~15u);
        if (kind == PCI_BAR_MEM64)
            at |= (u64)load32(&f->config[CFG_BAR + 4 * bar + 4]) << 32;
        bool on = command & (kind == PCI_BAR_IO ? COMMAND_IO : COMMAND_MEMORY);
        u64 size = f->bar_size[bar], limit = kind == PCI_BAR_IO ? 0x10000 : kind == PCI_BAR_MEM32 ? BIT(32) : BIT(52);
        /* Address 0 and what reaches past the end of the space (all ones, while sizing) decode nothing. */
        on = on && at != 0 && at <= limit - size;
        if (kind != PCI_BAR_IO && (at + size == BIT(32) || at + size == limit))
            on = false;
        if (on == f->bar_on[bar] && (!on || at == f->bar_at[bar]))
            continue;
        f->bar_on[bar] = on;
        f->bar_at[bar] = at;
        if (f->bar_moved)
            f->bar_moved(f->arg, bar, on, at);
    }
}

static void config_write(struct pci_function *f, unsigned off, unsigned size, u32 value)
{
    for (unsigned i = 0; i < size && off + i < 256; i++) {
        u8 byte = (u8)(value >> (8 * i)), *at = &f->config[off + i], mask = f->writable[off + i];
        *at = (u8)((*at & ~mask) | (byte & mask));
        *at &= (u8)~(byte & f->clears[off + i]);
    }
    update_bars(f);
    if (off <= CFG_COMMAND + 1 && off + size > CFG_COMMAND)
        pci_set_interrupt(f, f->config[CFG_STATUS] & 8);
    if (f->config_written)
        f->config_written(f->arg, off, size);
}

/* ---- Mechanism #1 ---- */

static struct pci_function *selected(const struct pci *pci)
{
    /* Bus 0 only: there are no bridges. */
    if (!(pci->address >> 31) || (pci->address >> 16 & 0xff) != 0)
        return NULL;
    return pci->function[pci->address >> 8 & 0xff];
}

/* One access within the address register (off 0-3) or the data register (off 4-7). */
static u32 read_part(struct pci *pci, unsigned cpu, unsigned off, unsigned size)
{
    if (off < 4) {
        if (off == 0 && size == 4)
            return pci->address;
        if (off == 1 && size == 1 && pci->reset_control)
            return (u32)pci->reset_control->read(pci->reset_control_dev, cpu, 0, 1);
        return (u32)mask_low(8 * size);
    }
    const struct pci_function *f = selected(pci);
    if (!f)
        return (u32)mask_low(8 * size);
    unsigned reg = (pci->address & 0xfc) + (off - 4);
    u32 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u32)f->config[(reg + i) & 0xff] << (8 * i);
    return value;
}

static void write_part(struct pci *pci, unsigned cpu, unsigned off, unsigned size, u32 value)
{
    if (off < 4) {
        if (off == 0 && size == 4)
            pci->address = value & 0x80fffffc;
        else if (off == 1 && size == 1 && pci->reset_control)
            pci->reset_control->write(pci->reset_control_dev, cpu, 0, 1, value);
        return;
    }
    struct pci_function *f = selected(pci);
    if (f)
        config_write(f, (pci->address & 0xfc) + (off - 4), size, value);
}

static u64 ports_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    unsigned at = (unsigned)off & 7, first = 4 - (at & 3);
    size = size > 4 ? 4 : size;
    if (size <= first)
        return read_part(dev, cpu, at, size);
    /* Across the two registers, or past the data register's end: in two parts. */
    u32 low = read_part(dev, cpu, at, first);
    u32 high = at < 4 ? read_part(dev, cpu, 4, size - first) : (u32)mask_low(8 * (size - first));
    return low | high << (8 * first);
}

static void ports_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    unsigned at = (unsigned)off & 7, first = 4 - (at & 3);
    size = size > 4 ? 4 : size;
    if (size <= first) {
        write_part(dev, cpu, at, size, (u32)value);
        return;
    }
    write_part(dev, cpu, at, first, (u32)(value & mask_low(8 * first)));
    if (at < 4)
        write_part(dev, cpu, 4, size - first, (u32)(value >> (8 * first)));
}

const struct bus_ops pci_ops = {.read = ports_read, .write = ports_write};

void pci_set_reset_control(struct pci *pci, const struct bus_ops *ops, void *dev)
{
    pci->reset_control = ops;
    pci->reset_control_dev = dev;
}

/* ---- System management ---- */

/* SMI# is asserted while an enabled event has asked for it and the gate is open: the handler closes the gate, clears the requests
 * and opens it again [82371SB data sheet, "SMICNTL", "SMIEN", "SMIREQ"]. */
static void update_smi(struct pci *pci)
{
    const u8 *config = pci->isa_bridge.config;
    bool level = config[PIIX3_SMICNTL] & SMICNTL_GATE && load16(&config[PIIX3_SMIEN]) & pci->smi_request;
    store16(&pci->isa_bridge.config[PIIX3_SMIREQ], pci->smi_request);
    if (level != pci->smi_level) {
        pci->smi_level = level;
        irq_set(&pci->smi, level);
    }
}

bool pci_apm_smi_enabled(const struct pci *pci)
{
    const u8 *config = pci->isa_bridge.config;
    return config[PIIX3_SMICNTL] & SMICNTL_GATE && load16(&config[PIIX3_SMIEN]) & SMIEN_APMC;
}

void pci_apm_written(struct pci *pci)
{
    pci->smi_request |= SMIEN_APMC;
    update_smi(pci);
}

/* The lock lasts until the next reset; it closes the SMRAM and keeps everything but the lock itself from being changed. */
static void update_smram(struct pci *pci)
{
    struct pci_function *host = &pci->host_bridge;
    u8 *control = &host->config[HOST_SMRAM];
    if (*control & SMRAM_LOCKED)
        *control &= (u8)~SMRAM_OPEN;
    host->writable[HOST_SMRAM] = *control & SMRAM_LOCKED ? 0 : SMRAM_OPEN | SMRAM_LOCKED | SMRAM_ENABLED;
    enum bus_smram smram = *control & SMRAM_OPEN ? BUS_SMRAM_OPEN : BUS_SMRAM_CLOSED;
    if (pci->smram)
        pci->smram(pci->smram_arg, *control & SMRAM_ENABLED ? smram : BUS_SMRAM_NONE);
}

static void host_bridge_written(void *arg, unsigned off, unsigned size)
{
    if (off + size > HOST_SMRAM && off <= HOST_SMRAM)
        update_smram(arg);
}

void pci_set_smm(struct pci *pci, struct irq_line smi, void (*smram)(void *arg, enum bus_smram smram), void *arg)
{
    pci->smi = smi;
    pci->smram = smram;
    pci->smram_arg = arg;
}

static void isa_bridge_written(void *arg, unsigned off, unsigned size)
{
    struct pci *pci = arg;
    if (off + size > PIIX3_PIRQ_ROUTE && off < PIIX3_PIRQ_ROUTE + PCI_PIRQS)
        update_isa(pci);
    /* Requests are cleared by writing 0 to them; nothing sets one. */
    for (unsigned at = off; at < off + size; at++)
        if (at == PIIX3_SMIREQ || at == PIIX3_SMIREQ + 1) {
            unsigned shift = 8 * (at - PIIX3_SMIREQ);
            pci->smi_request &= (u16)(pci->isa_bridge.config[at] << shift | 0xff00u >> shift);
        }
    if (off + size > PIIX3_SMICNTL && off <= PIIX3_SMIREQ + 1)
        update_smi(pci);
}

static void reset_bridges(struct pci *pci)
{
    struct pci_function *host = &pci->host_bridge, *isa = &pci->isa_bridge;
    store16(&host->config[CFG_COMMAND], 0x0006);
    store16(&host->config[CFG_STATUS], 0x0280);
    memset(&host->config[0x59], 0, 7); /* PAM0-PAM6: the board's memory below 1 MiB is always RAM */
    host->config[HOST_SMRAM] = SMRAM_BASE_A0000;
    update_smram(pci);
    store16(&isa->config[CFG_COMMAND], 0x0007);
    store16(&isa->config[CFG_STATUS], 0x0200);
    for (unsigned i = 0; i < PCI_PIRQS; i++)
        isa->config[PIIX3_PIRQ_ROUTE + i] = 0x80;
    update_isa(pci);
    isa->config[PIIX3_SMICNTL] = 0;
    store16(&isa->config[PIIX3_SMIEN], 0);
    pci->smi_request = 0;
    update_smi(pci);
}

void pci_reset(struct pci *pci)
{
    pci->address = 0;
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        struct pci_function *f = pci->function[devfn];
        if (!f)
            continue;
        pci_set_interrupt(f, false);
        store16(&f->config[CFG_COMMAND], 0);
        f->config[CFG_LINE] = 0;
        for (unsigned bar = 0; bar < PCI_BARS; bar++)
            if (f->bar_kind[bar] != PCI_BAR_NONE) {
                f->config[CFG_BAR + 4 * bar] &= 15;
                memset(&f->config[CFG_BAR + 4 * bar + 1], 0, f->bar_kind[bar] == PCI_BAR_MEM64 ? 7 : 3);
            }
        update_bars(f);
    }
    reset_bridges(pci);
}

void pci_init(struct pci *pci, struct irq_line isa, struct irq_line gsi)
{
    memset(pci, 0, sizeof *pci);
    pci->isa = isa;
    pci->gsi = gsi;
    pci_function_init(&pci->host_bridge, 0x8086, 0x1237, 0x060000, 2, pci);
    memset(&pci->host_bridge.writable[0x59], 0xff, 7);
    pci->host_bridge.config_written = host_bridge_written;
    pci_add_function(pci, &pci->host_bridge, PCI_DEVFN(0, 0));
    pci_function_init(&pci->isa_bridge, 0x8086, 0x7000, 0x060100, 0, pci);
    pci->isa_bridge.config[CFG_HEADER] = 0x80; /* one of several functions: IDE may stand beside it */
    memset(&pci->isa_bridge.writable[PIIX3_PIRQ_ROUTE], 0x8f, PCI_PIRQS);
    pci->isa_bridge.writable[PIIX3_SMICNTL] = 0x1f;
    store16(&pci->isa_bridge.writable[PIIX3_SMIEN], SMI_EVENTS);
    store16(&pci->isa_bridge.writable[PIIX3_SMIREQ], SMI_EVENTS);
    pci->isa_bridge.config_written = isa_bridge_written;
    pci_add_function(pci, &pci->isa_bridge, PCI_DEVFN(1, 0));
    reset_bridges(pci);
}
