/* Accesses of guest software to its virtual local APIC: CR8, the APIC-access page, the x2APIC MSRs; and what follows a
 * write to one of its registers.
 *
 * Follows [SDM3 "Virtualizing CR8-Based TPR Accesses", "Virtualizing Memory-Mapped APIC Accesses", "Virtualizing
 * MSR-Based APIC Accesses", "APIC-Write Emulation", "Virtualizing SENDUIPI"]. Interrupts themselves are vmx/virtual_interrupt.c's.
 *
 * Kept true: the virtual APIC's registers stand in the virtual-APIC page in the hypervisor's memory and nowhere else
 * (RVI and SVI: in the guest interrupt status of its VMCS). A VM exit that a write leads to is trap-like: it is noted
 * in the frame and made at the next instruction boundary.
 */
#include "vmx/frame.h"
#include "vmx/virtual_apic.h"

#include "mmu/access.h"

/* ---- registers --------------------------------------------------------------------------------------------------- */

u32 vapic_read(struct cpu *cpu, const struct vmx_frame *f, unsigned offset)
{
    return (u32)bus_read(cpu->bus, cpu->index, f->virtual_apic_hpa + offset, 4);
}

void vapic_write(struct cpu *cpu, const struct vmx_frame *f, unsigned offset, u32 value)
{
    bus_write(cpu->bus, cpu->index, f->virtual_apic_hpa + offset, 4, value);
}

void vapic_exit_later(struct cpu *cpu, struct vmx_frame *f, u32 reason, u64 qualification)
{
    f->apic_exit = (u8)reason;
    f->apic_exit_qualification = qualification;
    cpu->event.attention |= ATT_VMX;
    cpu_cut_block(cpu);
}

/* [SDM3 "TPR Virtualization"] */
static void tpr_virtualization(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    if (vmcs_secondary(&f->vmcs, VIRTUAL_INTERRUPT_DELIVERY)) {
        vapic_update_ppr(cpu, f);
        vapic_evaluate(cpu, f);
    } else if (vapic_below_threshold(cpu, f)) {
        vapic_exit_later(cpu, f, EXIT_TPR_BELOW_THRESHOLD, 0);
    }
}

bool vapic_below_threshold(struct cpu *cpu, const struct vmx_frame *f)
{
    return (f->vmcs.tpr_threshold & 0xf) > (vapic_read(cpu, f, VAPIC_TPR) >> 4 & 0xf);
}

/* What ICR bits make a fixed, edge-triggered interrupt to one physical destination: all of them 0, with `shorthand` in
 * bits 19:18. */
static bool icr_is_plain(u32 icr, u32 shorthand, bool logical_matters)
{
    u32 zero = 0xfff3b700 | (logical_matters ? 1u << 11 : 0);
    return !(icr & zero) && (icr >> 18 & 3) == shorthand;
}

/* The virtual APIC's register at `offset` (of the byte that was written first) has just been written
 * [SDM3 "APIC-Write Emulation"]. */
static void write_emulation(struct cpu *cpu, unsigned k, unsigned offset)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    bool delivery = vmcs_secondary(&f->vmcs, VIRTUAL_INTERRUPT_DELIVERY);
    u32 icr;
    switch (offset & 0xff0) {
    case VAPIC_TPR:
        vapic_write(cpu, f, VAPIC_TPR, vapic_read(cpu, f, VAPIC_TPR) & 0xff);
        tpr_virtualization(cpu, k);
        return;
    case VAPIC_EOI:
        if (!delivery)
            break;
        vapic_write(cpu, f, VAPIC_EOI, 0);
        vapic_eoi(cpu, f);
        return;
    case VAPIC_ICR_LOW:
        icr = vapic_read(cpu, f, VAPIC_ICR_LOW);
        if (delivery && icr_is_plain(icr, 1, false) && icr & 0xf0) {
            vapic_self_ipi(cpu, f, (u8)icr);
            return;
        }
        if (vmcs_tertiary(&f->vmcs, IPI_VIRTUALIZATION) && icr_is_plain(icr, 0, true) &&
            vapic_send_ipi(cpu, k, (u8)icr, vapic_read(cpu, f, VAPIC_ICR_HIGH) >> 24))
            return;
        break;
    case VAPIC_ICR_HIGH:
        vapic_write(cpu, f, VAPIC_ICR_HIGH, vapic_read(cpu, f, VAPIC_ICR_HIGH) & 0xff000000);
        return;
    default:
        break;
    }
    vapic_exit_later(cpu, f, EXIT_APIC_WRITE, offset);
}

/* ---- CR8 --------------------------------------------------------------------------------------------------------- */

/* The frame whose virtual TPR the running level's CR8 means: the innermost that keeps one. -1: the local APIC's. */
static int tpr_frame(struct cpu *cpu)
{
    int k = (int)cpu->vmx.depth - 1;
    while (k >= 0 && !vmcs_primary(vmcs_of(cpu, (unsigned)k), TPR_SHADOW))
        k--;
    return k;
}

bool vmx_tpr_read(struct cpu *cpu, u8 *tpr)
{
    int k = tpr_frame(cpu);
    if (k < 0)
        return false;
    *tpr = (u8)vapic_read(cpu, &cpu->vmx.frame[k], VAPIC_TPR);
    return true;
}

bool vmx_tpr_write(struct cpu *cpu, u8 tpr)
{
    int k = tpr_frame(cpu);
    if (k < 0)
        return false;
    vapic_write(cpu, &cpu->vmx.frame[k], VAPIC_TPR, tpr);
    tpr_virtualization(cpu, (unsigned)k);
    return true;
}

/* ---- SENDUIPI ---------------------------------------------------------------------------------------------------- */

/* [SDM3 "Virtualizing SENDUIPI"]: as if its guest had written the interrupt-command register, in the format of the APIC mode that "virtualize
 * APIC accesses" stands for. */
bool vmx_send_user_notification(struct cpu *cpu, u8 vector, u32 ndst)
{
    int k = tpr_frame(cpu);
    if (k < 0)
        return false;
    struct vmx_frame *f = &cpu->vmx.frame[k];
    u32 target = ndst;
    if (vmcs_secondary(&f->vmcs, APIC_ACCESSES)) {
        target = ndst >> 8 & 0xff;
        vapic_write(cpu, f, VAPIC_ICR_HIGH, target << 24);
        vapic_write(cpu, f, VAPIC_ICR_LOW, vector);
    } else {
        bus_write(cpu->bus, cpu->index, f->virtual_apic_hpa + VAPIC_ICR_LOW, 8, (u64)ndst << 32 | vector);
    }
    if (!vmcs_tertiary(&f->vmcs, IPI_VIRTUALIZATION) || !vapic_send_ipi(cpu, (unsigned)k, vector, target))
        vapic_exit_later(cpu, f, EXIT_APIC_WRITE, VAPIC_ICR_LOW);
    return true;
}

/* ---- the APIC-access page ---------------------------------------------------------------------------------------- */

#define REG(offset) BIT((offset) >> 4)
/* Which accesses are virtualised, by register [SDM3 "Virtualizing Reads from the APIC-Access Page", "Determining
 * Whether a Write Access is Virtualized"]. */
#define TPR_REGISTER REG(VAPIC_TPR)
#define DELIVERY_REGISTERS (REG(VAPIC_EOI) | REG(VAPIC_ICR_LOW))
/* ID, LDR, DFR, SVR, ESR, ICR, LVT, initial count, divide configuration */
#define WRITABLE_REGISTERS                                                                                             \
    (DELIVERY_REGISTERS | REG(0x20) | REG(0xd0) | REG(0xe0) | REG(0xf0) | REG(0x280) | REG(VAPIC_ICR_HIGH) |           \
     (BIT(6) - 1) << 0x32 | REG(0x380) | REG(0x3e0))
/* … the version, and ISR, TMR, IRR */
#define READABLE_REGISTERS (WRITABLE_REGISTERS | REG(0x30) | (BIT(24) - 1) << 0x10)

static u64 virtualised_registers(const struct vmcs *v, bool write)
{
    u64 registers = TPR_REGISTER;
    if (vmcs_secondary(v, VIRTUAL_INTERRUPT_DELIVERY))
        registers |= DELIVERY_REGISTERS;
    if (vmcs_secondary(v, APIC_REGISTER_VIRTUALIZATION))
        registers |= write ? WRITABLE_REGISTERS : READABLE_REGISTERS;
    return registers;
}

static bool is_virtualised(const struct vmcs *v, unsigned offset, unsigned size, bool write)
{
    bool within = offset < 0x400 && size <= 4 && (offset & 15) + size <= 4;
    /* Without APIC-register virtualization it is the page offset of a write that counts. */
    if (write && offset & 3 && !vmcs_secondary(v, APIC_REGISTER_VIRTUALIZATION))
        within = false;
    return within && vmcs_primary(v, TPR_SHADOW) && virtualised_registers(v, write) & REG(offset);
}

/* mmu/'s hook for accesses to the APIC-access page. `data` NULL asks only whether the access is virtualised. */
static bool virtual_access(struct cpu *cpu, unsigned k, unsigned offset, unsigned size, bool write, void *data)
{
    const struct vmx_frame *f = &cpu->vmx.frame[k];
    if (!is_virtualised(&f->vmcs, offset, size, write))
        return false;
    if (!data)
        return true;
    u8 bytes[4];
    store32(bytes, vapic_read(cpu, f, offset & ~3u));
    if (!write) {
        memcpy(data, bytes + (offset & 3), size);
        return true;
    }
    memcpy(bytes + (offset & 3), data, size);
    vapic_write(cpu, f, offset & ~3u, load32(bytes));
    write_emulation(cpu, k, offset);
    return true;
}

void vmx_apic_attach(void)
{
    mem_apic_virtual_access = virtual_access;
}

/* ---- x2APIC MSRs ------------------------------------------------------------------------------------------------- */

bool vmx_x2apic_virtualised(const struct vmcs *v, u32 msr, bool write)
{
    if (msr >> 8 != 8 || !vmcs_secondary(v, X2APIC_MODE))
        return false;
    bool delivery = vmcs_secondary(v, VIRTUAL_INTERRUPT_DELIVERY);
    if (!write)
        return msr == X2APIC_TPR || vmcs_secondary(v, APIC_REGISTER_VIRTUALIZATION);
    switch (msr) {
    case X2APIC_TPR: return true;
    case X2APIC_EOI:
    case X2APIC_SELF_IPI: return delivery;
    case X2APIC_ICR: return vmcs_tertiary(v, IPI_VIRTUALIZATION);
    default: return false;
    }
}

/* The innermost frame that virtualises the MSR for the running level, -1: none. */
static int x2apic_frame(struct cpu *cpu, u32 msr, bool write)
{
    int k = (int)cpu->vmx.depth - 1;
    while (k >= 0 && !vmx_x2apic_virtualised(vmcs_of(cpu, (unsigned)k), msr, write))
        k--;
    return k;
}

bool vmx_x2apic_read(struct cpu *cpu, u32 msr, u64 *value, bool *known)
{
    int k = x2apic_frame(cpu, msr, false);
    *known = k >= 0;
    if (k < 0)
        return false;
    *value = bus_read(cpu->bus, cpu->index, cpu->vmx.frame[k].virtual_apic_hpa + ((msr & 0xff) << 4), 8);
    return true;
}

bool vmx_x2apic_write(struct cpu *cpu, u32 msr, u64 value, bool *known)
{
    int k = x2apic_frame(cpu, msr, true);
    *known = k >= 0;
    if (k < 0)
        return false;
    struct vmx_frame *f = &cpu->vmx.frame[k];
    switch (msr) {
    case X2APIC_TPR:
        if (value >> 8)
            return false;
        vapic_write(cpu, f, VAPIC_TPR, (u32)value);
        tpr_virtualization(cpu, (unsigned)k);
        return true;
    case X2APIC_EOI:
        if (value)
            return false;
        vapic_write(cpu, f, VAPIC_EOI, 0);
        vapic_eoi(cpu, f);
        return true;
    case X2APIC_SELF_IPI:
        if (value >> 8)
            return false;
        vapic_write(cpu, f, VAPIC_SELF_IPI, (u32)value);
        if (value & 0xf0)
            vapic_self_ipi(cpu, f, (u8)value);
        else
            vapic_exit_later(cpu, f, EXIT_APIC_WRITE, VAPIC_SELF_IPI);
        return true;
    default:                               /* ICR */
        if (value & 0xfff32000)
            return false;
        bus_write(cpu->bus, cpu->index, f->virtual_apic_hpa + VAPIC_ICR_LOW, 8, value);
        if (!icr_is_plain((u32)value, 0, true) || !vapic_send_ipi(cpu, (unsigned)k, (u8)value, (u32)(value >> 32)))
            vapic_exit_later(cpu, f, EXIT_APIC_WRITE, VAPIC_ICR_LOW);
        return true;
    }
}
