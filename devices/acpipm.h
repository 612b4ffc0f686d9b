/* The ACPI fixed hardware: PM1a event and control blocks, the PM timer, the SMI command port that switches ACPI mode,
 * and the reset control register.
 *
 * Kept true: the SCI line is the AND of status and enable bits (in ACPI mode); the timer bit TMR_STS is set at the very
 * tick at which the timer's top bit changes, whether or not anybody waits for it.
 *
 * Source: ACPI specification, "ACPI Hardware Specification".
 */
#ifndef NESTOR_DEVICES_ACPIPM_H
#define NESTOR_DEVICES_ACPIPM_H

#include "cpu/base.h"
#include "devices/clock.h"
#include "devices/host.h"
#include "devices/irq.h"
#include "mmu/bus.h"

#define ACPIPM_EVENT_PORT 0x600
#define ACPIPM_CONTROL_PORT 0x604
#define ACPIPM_TIMER_PORT 0x608
#define ACPIPM_SMI_PORT 0xb2
#define ACPIPM_RESET_PORT 0xcf9
#define ACPIPM_ENABLE 0xf1      /* values for the SMI command port */
#define ACPIPM_DISABLE 0xf0
#define ACPIPM_SLP_TYP_S5 5
#define ACPIPM_HZ 3579545u

struct acpipm {
    u16 status, enable, control;
    u8 smi_command, smi_status;     /* ports 0xb2 and 0xb3 as last written */
    u8 reset_control;
    bool wide;                      /* 32-bit timer; otherwise 24 bits */
    u64 checked;                    /* TMR_STS is accounted for up to this tick */
    /* wiring */
    struct clock *clock;
    const struct host *host;
    struct irq_line sci;
    unsigned timer;
    /* Does the chipset make SMIs of writes to the SMI command port? With `written`: one is made now. NULL: it does not, and
     * the port does itself what firmware would. */
    bool (*smi)(void *arg, bool written);
    void *smi_arg;
};

/* `wide`: the FADT announces TMR_VAL_EXT. */
void acpipm_init(struct acpipm *pm, struct clock *clock, const struct host *host, struct irq_line sci, bool wide);
void acpipm_reset(struct acpipm *pm);
/* The power button is pressed. */
void acpipm_power_button(struct acpipm *pm);

/* dev = the struct acpipm. Four ports at 0x600, two at 0x604, four at 0x608, two at 0xb2, one at 0xcf9. Where there is a
 * PCI bus, 0xcf9 lies inside its address register: give acpipm_reset_ops to pci_set_reset_control instead. */
extern const struct bus_ops acpipm_event_ops, acpipm_control_ops, acpipm_timer_ops, acpipm_smi_ops, acpipm_reset_ops;

#endif
