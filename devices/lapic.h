/* The local APICs of all processors and the bus between them, xAPIC and x2APIC.
 *
 * Kept true: after every change the INTR and ExtINT levels told through `signal` follow from the registers; a vector is
 * deliverable exactly when its class is above that of PPR. Interrupts for the processor other than vectors (NMI, SMI,
 * INIT, SIPI) are passed on at once and not stored here.
 *
 * The timer counts a 1 GHz clock (one tick a nanosecond before the divider). A periodic timer shorter than 1 µs counts
 * at its own rate but interrupts at most every 1 µs, so a guest cannot drown the machine in its own ticks.
 *
 * Trigger polarity bits are kept and have no effect: the wires of the board (irq.h) carry "asserted", whatever voltage
 * that is.
 *
 * SDM: [SDM3 "Advanced Programmable Interrupt Controller (APIC)"], all sections.
 */
#ifndef NESTOR_DEVICES_LAPIC_H
#define NESTOR_DEVICES_LAPIC_H

#include "cpu/base.h"
#include "devices/clock.h"
#include "devices/irq.h"
#include "mmu/bus.h"

#define LAPIC_DEFAULT_BASE 0xfee00000u
#define LAPIC_MIN_PERIOD 1000u      /* ns between two interrupts of a periodic timer */

/* IA32_APIC_BASE */
#define APIC_BASE_BSP BIT(8)
#define APIC_BASE_EXTD BIT(10)
#define APIC_BASE_EN BIT(11)

/* What a local APIC tells its processor. */
enum lapic_signal {
    LAPIC_INTR,     /* value = level: there is a vector that lapic_acknowledge would deliver */
    LAPIC_EXTINT,   /* value = level: the 8259 pair asks, and this processor is the one that acknowledges it */
    LAPIC_NMI,
    LAPIC_SMI,
    LAPIC_INIT,     /* the machine calls lapic_accept_init when the processor takes it */
    LAPIC_SIPI,     /* value = vector */
};

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_CMCI, LVT_COUNT };

enum apic_delivery {
    APIC_FIXED = 0,
    APIC_LOWEST_PRIORITY = 1,
    APIC_SMI = 2,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_STARTUP = 6,
    APIC_EXTINT = 7,
};

/* A message on the APIC bus: an IPI, an IOAPIC delivery or an MSI. */
struct apic_message {
    u32 destination;    /* APIC ID or logical mask; 8 bits unless `wide` */
    u8 vector;
    u8 delivery;        /* enum apic_delivery */
    bool logical;
    bool level;         /* level-triggered: the EOI will be broadcast to the IOAPICs */
    bool wide;          /* sent in x2APIC format: 32-bit destination, broadcast is all ones in 32 bits */
};

struct apic_bus;

struct lapic {
    u64 base;           /* IA32_APIC_BASE */
    u32 id;             /* the full 32-bit ID; the xAPIC shows its low 8 bits */
    u32 tpr;
    u32 ldr, dfr;       /* xAPIC format; in x2APIC mode the LDR follows from the ID */
    u32 svr;
    u32 isr[8], tmr[8], irr[8];
    u32 esr;            /* as last latched by a write to ESR */
    u32 esr_pending;    /* errors since then */
    u64 icr;
    u32 lvt[LVT_COUNT];
    u32 divide;         /* the divide configuration register */
    u32 initial;        /* initial count */
    u32 count;          /* the count at time `start`, while `running` */
    u64 start;          /* ns */
    u64 tsc_deadline;   /* IA32_TSC_DEADLINE, 0 = disarmed */
    bool running;       /* one-shot or periodic countdown */
    bool lint[2];       /* levels of the LINT0 and LINT1 inputs */
    bool extint_message; /* an ExtINT message came from an IOAPIC; lasts until the 8259 pair drops its request */
    bool intr;          /* levels last signalled */
    bool extint;
    /* wiring */
    struct apic_bus *bus;
    unsigned cpu;       /* number of the vCPU */
    unsigned timer;
};

struct apic_outputs {
    void (*signal)(void *arg, unsigned cpu, enum lapic_signal kind, unsigned value);
    /* The first ns of virtual time at which vCPU `cpu` reads a TSC >= `tsc`; a past one if that has been. */
    u64 (*tsc_to_ns)(void *arg, unsigned cpu, u64 tsc);
    void *arg;
};

struct apic_bus {
    unsigned last_lowest;   /* who took the last lowest-priority interrupt: ties go to the next one */
    /* wiring */
    struct lapic *lapic;    /* array of `count` */
    unsigned count;
    unsigned maxphyaddr;    /* physical address bits, for the reserved bits of IA32_APIC_BASE */
    bool x2apic_offered;    /* CPUID.1:ECX.x2APIC[21]; true from apic_bus_init, the machine may clear it */
    bool deadline_offered;  /* CPUID.1:ECX.TSC_Deadline[24]; likewise */
    struct clock *clock;
    struct apic_outputs out;
    void (*eoi)(void *arg, u8 vector);  /* EOI broadcast to the IOAPICs; may be NULL */
    void *eoi_arg;
};

/* Wires `count` local APICs; IDs are 0 .. count - 1, vCPU 0 is the bootstrap processor. All are reset. */
void apic_bus_init(struct apic_bus *bus, struct lapic *lapic, unsigned count, unsigned maxphyaddr, struct clock *clock,
                   const struct apic_outputs *out);
void apic_bus_set_eoi(struct apic_bus *bus, void (*eoi)(void *arg, u8 vector), void *arg);

/* Sends a message. True if at least one local APIC accepted it. */
bool apic_bus_post(struct apic_bus *bus, const struct apic_message *message);
/* A message-signalled interrupt: a write of `data` to `address` (0xfeexxxxx) [SDM3 "Message Signalled Interrupts"]. */
bool apic_bus_send_msi(struct apic_bus *bus, u64 address, u32 data);
/* An irq_line's `set`, arg = the struct apic_bus: pin 0 drives LINT0 (8259 INTR), pin 1 LINT1 (NMI) of all processors. */
void apic_bus_set_lint(void *arg, unsigned pin, bool level);
/* The xAPIC page: each vCPU sees its own; dev = the struct apic_bus. A write by a device (message) is not routed here:
 * use apic_bus_send_msi. */
extern const struct bus_ops apic_bus_ops;

/* Power-up or RESET: IA32_APIC_BASE is the default one, xAPIC enabled globally, disabled by software. */
void lapic_reset(struct lapic *lapic);
/* The processor takes INIT: registers as after power-up, ID, IA32_APIC_BASE and mode stay. */
void lapic_accept_init(struct lapic *lapic);
/* What firmware leaves behind on the bootstrap processor: enabled by software, LINT0 = ExtINT, LINT1 = NMI. For kernels
 * that are started without firmware. */
void lapic_set_virtual_wire(struct lapic *lapic);

/* WRMSR to IA32_APIC_BASE (read it as lapic->base). False, and nothing changed, for reserved bits or an illegal change
 * of mode: the caller raises #GP. The caller sees to CPUID.1:EDX.APIC and to where the page is mapped. */
bool lapic_set_base(struct lapic *lapic, u64 value);
/* x2APIC MSRs 0x800-0x8ff. False => #GP: not in x2APIC mode, no such register, not readable or writable, reserved bit. */
bool lapic_msr_read(struct lapic *lapic, u32 msr, u64 *value);
bool lapic_msr_write(struct lapic *lapic, u32 msr, u64 value);
/* IA32_TSC_DEADLINE. Reads 0 and ignores writes unless the LVT timer is in TSC-deadline mode. */
u64 lapic_deadline_get(struct lapic *lapic);
void lapic_deadline_set(struct lapic *lapic, u64 tsc);
/* The vCPU's TSC was changed: a pending TSC deadline moves in time. */
void lapic_tsc_changed(struct lapic *lapic);

/* One xAPIC register by its byte offset (a multiple of 16, below 0x400), for the APIC page and for APIC-access VM exits. */
u32 lapic_mmio_read(struct lapic *lapic, u32 offset);
void lapic_mmio_write(struct lapic *lapic, u32 offset, u32 value);

/* The vector that would be delivered now, or -1. */
int lapic_highest(const struct lapic *lapic);
/* Delivers it: IRR -> ISR, returns it. If there is none any more: the spurious vector. */
int lapic_acknowledge(struct lapic *lapic);
/* EOI, as a write to the register does. */
void lapic_eoi(struct lapic *lapic);
/* CR8: bits 7:4 of TPR as 0..15. */
u8 lapic_tpr_get(const struct lapic *lapic);
void lapic_tpr_set(struct lapic *lapic, u8 cr8);
/* A local interrupt source fires: performance counter overflow, thermal, corrected machine check … */
void lapic_local(struct lapic *lapic, enum lapic_lvt which);
/* Puts a vector into IRR as an edge-triggered fixed interrupt. False if the APIC does not accept interrupts. */
bool lapic_set_irr(struct lapic *lapic, u8 vector, bool level);

/* For apic_bus.c: whether a message is for this one, and what it does here. */
bool lapic_matches(const struct lapic *lapic, const struct apic_message *message);
bool lapic_deliver(struct lapic *lapic, const struct apic_message *message);
u8 lapic_processor_priority(const struct lapic *lapic);
/* One LINT input changes. */
void lapic_set_lint(struct lapic *lapic, unsigned pin, bool level);
/* The 8259 pair dropped its request. */
void lapic_drop_extint_message(struct lapic *lapic);
static inline bool lapic_is_enabled(const struct lapic *lapic) { return lapic->base & APIC_BASE_EN; }
static inline bool lapic_is_x2apic(const struct lapic *lapic) { return lapic->base & APIC_BASE_EXTD; }

#endif
