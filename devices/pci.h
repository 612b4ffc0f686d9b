/* PCI bus 0: configuration mechanism #1 (ports 0xcf8-0xcff), functions with their configuration space, BARs and
 * interrupt pins, and the two chips every board of the 440FX kind has: host bridge and ISA bridge.
 *
 * A later device embeds a struct pci_function, fills it with pci_function_init, pci_function_bar and
 * pci_function_interrupt, adds it with pci_add_function, and is told by bar_moved where its registers went.
 *
 * Kept true: a byte of configuration space changes only where its `writable` mask says so; absent functions read as all
 * ones; bar_moved is called exactly when a BAR's place (or whether it decodes at all) changed.
 *
 * Sources: PCI Local Bus Specification 3.0; Intel 82441FX and 82371SB data sheets.
 */
#ifndef NESTOR_DEVICES_PCI_H
#define NESTOR_DEVICES_PCI_H

#include "cpu/base.h"
#include "devices/irq.h"
#include "mmu/bus.h"

#define PCI_DEVFN(device, function) ((u8)((device) << 3 | (function)))
#define PCI_BARS 6
#define PCI_PIRQS 4
#define PCI_FIRST_GSI 16    /* PIRQ A-D are also inputs 16-19 of the IOAPIC */

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci;

struct pci_function {
    u8 config[256];
    u8 writable[256];       /* mask by byte */
    u8 clears[256];         /* bits that are cleared by writing 1 */
    u8 devfn;
    bool asserted;          /* level of the interrupt pin */
    u8 bar_kind[PCI_BARS];  /* enum pci_bar_kind */
    u64 bar_size[PCI_BARS]; /* bytes, a power of 2 */
    u64 bar_at[PCI_BARS];   /* hpa or port where it decodes now; valid while bar_on */
    bool bar_on[PCI_BARS];
    /* wiring */
    struct pci *pci;
    /* BAR `bar` now decodes at `at` (hpa, or port for I/O), or no longer (`on` false). May be NULL. */
    void (*bar_moved)(void *arg, unsigned bar, bool on, u64 at);
    /* [off, off + size) of configuration space was written. May be NULL. */
    void (*config_written)(void *arg, unsigned off, unsigned size);
    void *arg;
};

struct pci {
    u32 address;            /* port 0xcf8 */
    u8 pirq_count[PCI_PIRQS]; /* how many functions assert each PIRQ */
    u16 isa_level;          /* ISA interrupts driven high by PIRQs */
    u16 smi_request;        /* PIIX3 SMIREQ: what has asked for an SMI */
    bool smi_level;         /* SMI# is asserted */
    /* wiring (functions are saved one by one, up to their own wiring) */
    struct pci_function host_bridge, isa_bridge;
    struct pci_function *function[256];
    struct irq_line isa;    /* called with pin = ISA interrupt that a PIRQ is routed to */
    struct irq_line gsi;    /* called with pin = 16 + PIRQ */
    struct irq_line smi;    /* SMI#; may be empty */
    void (*smram)(void *arg, enum bus_smram smram);    /* the host bridge's SMRAM register decides anew; may be NULL */
    void *smram_arg;
    const struct bus_ops *reset_control; /* what answers bytes at port 0xcf9; may be NULL */
    void *reset_control_dev;
};

/* Makes the bus with 8086:1237 at 00:00.0 and 8086:7000 at 00:01.0. */
void pci_init(struct pci *pci, struct irq_line isa, struct irq_line gsi);
void pci_reset(struct pci *pci);
/* Port 0xcf9 lies inside the address register: bytes there go to `ops` (acpipm_reset_ops). */
void pci_set_reset_control(struct pci *pci, const struct bus_ops *ops, void *dev);

/* Who hears of SMI# and of the SMRAM register. */
void pci_set_smm(struct pci *pci, struct irq_line smi, void (*smram)(void *arg, enum bus_smram smram), void *arg);
/* The APM control port can make SMIs: the PIIX3's SMIEN and SMICNTL say so. */
bool pci_apm_smi_enabled(const struct pci *pci);
/* It was written: asks for one, which comes as soon as SMIEN and SMICNTL let it. */
void pci_apm_written(struct pci *pci);

/* Starts a function: identity in configuration space, command register writable. `class_code` is 24 bits. */
void pci_function_init(struct pci_function *f, u16 vendor, u16 device, u32 class_code, u8 revision, void *arg);
/* Gives it a BAR; `size` a power of 2, at least 16 (memory) or 4 (I/O). MEM64 takes `bar` and `bar` + 1. Panics on a
 * size or number that cannot be: both are ours. */
void pci_function_bar(struct pci_function *f, unsigned bar, enum pci_bar_kind kind, u64 size);
/* Gives it an interrupt pin, 1 = INTA# … 4 = INTD#. */
void pci_function_interrupt(struct pci_function *f, u8 pin);
/* Puts it on the bus. False if the place is taken. */
bool pci_add_function(struct pci *pci, struct pci_function *f, u8 devfn);
/* Asserts or releases its interrupt pin. */
void pci_set_interrupt(struct pci_function *f, bool level);
/* Command register bits, for devices. */
static inline bool pci_is_bus_master(const struct pci_function *f) { return f->config[4] & 4; }

/* Ports 0xcf8-0xcff; dev = the struct pci. */
extern const struct bus_ops pci_ops;

#endif
