/* Between vmx/apicv.c (accesses to the virtual APIC) and vmx/virtual_interrupt.c (its interrupts): the registers of a
 * frame's virtual-APIC page and the operations on them [SDM3 "Virtual APIC State"].
 */
#ifndef NESTOR_VMX_VIRTUAL_APIC_H
#define NESTOR_VMX_VIRTUAL_APIC_H

#include "cpu/state.h"

/* Offsets on the virtual-APIC page. */
enum { VAPIC_TPR = 0x80, VAPIC_PPR = 0xa0, VAPIC_EOI = 0xb0, VAPIC_ISR = 0x100, VAPIC_IRR = 0x200, VAPIC_ICR_LOW = 0x300,
       VAPIC_ICR_HIGH = 0x310, VAPIC_SELF_IPI = 0x3f0 };
enum { X2APIC_TPR = 0x808, X2APIC_EOI = 0x80b, X2APIC_ICR = 0x830, X2APIC_SELF_IPI = 0x83f };

/* ---- vmx/apicv.c ------------------------------------------------------------------------------------------------- */

u32 vapic_read(struct cpu *cpu, const struct vmx_frame *f, unsigned offset);
void vapic_write(struct cpu *cpu, const struct vmx_frame *f, unsigned offset, u32 value);
/* A VM exit to the frame's hypervisor is due behind the running operation. */
void vapic_exit_later(struct cpu *cpu, struct vmx_frame *f, u32 reason, u64 qualification);
bool vapic_below_threshold(struct cpu *cpu, const struct vmx_frame *f);

/* ---- vmx/virtual_interrupt.c ------------------------------------------------------------------------------------- */

/* [SDM3 "PPR Virtualization", "EOI Virtualization", "Self-IPI Virtualization"] */
void vapic_update_ppr(struct cpu *cpu, struct vmx_frame *f);
void vapic_eoi(struct cpu *cpu, struct vmx_frame *f);
void vapic_self_ipi(struct cpu *cpu, struct vmx_frame *f, u8 vector);
/* [SDM3 "Evaluation of Pending Virtual Interrupts"] */
void vapic_evaluate(struct cpu *cpu, struct vmx_frame *f);
/* [SDM3 "IPI Virtualization"]: the guest of frame k sends `vector` to virtual APIC ID `target`. False, and nothing has
 * happened: an APIC-write VM exit is needed. */
bool vapic_send_ipi(struct cpu *cpu, unsigned k, u8 vector, u32 target);

#endif
