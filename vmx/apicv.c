/* The TPR shadow and the APIC-access page [SDM3 "Virtualizing CR8-Based TPR Accesses", "Virtualizing Memory-Mapped APIC
 * Accesses", "VM Exits Induced by the TPR Threshold"].
 *
 * Kept true: the virtual TPR stands in the virtual-APIC page in the hypervisor's memory and nowhere else.
 */
#include "vmx/frame.h"

#include "mmu/access.h"

#define VAPIC_TPR 0x80u

/* The frame whose virtual TPR the running level's CR8 means: the innermost that keeps one. NULL: the local APIC's. */
static struct vmx_frame *tpr_frame(struct cpu *cpu, unsigned *index)
{
    for (unsigned k = cpu->vmx.depth; k-- > 0;) {
        if (vmcs_primary(vmcs_of(cpu, k), TPR_SHADOW)) {
            *index = k;
            return &cpu->vmx.frame[k];
        }
    }
    return NULL;
}

static bool below_threshold(const struct vmx_frame *f, u8 tpr)
{
    return (f->vmcs.tpr_threshold & 0xf) > (u8)(tpr >> 4);
}

bool vmx_tpr_read(struct cpu *cpu, u8 *tpr)
{
    unsigned k;
    const struct vmx_frame *f = tpr_frame(cpu, &k);
    if (!f)
        return false;
    *tpr = (u8)bus_read(cpu->bus, cpu->index, f->virtual_apic_hpa + VAPIC_TPR, 1);
    return true;
}

bool vmx_tpr_write(struct cpu *cpu, const struct insn *in, u8 tpr, bool *exited)
{
    unsigned k;
    struct vmx_frame *f = tpr_frame(cpu, &k);
    *exited = false;
    if (!f)
        return false;
    bus_write(cpu->bus, cpu->index, f->virtual_apic_hpa + VAPIC_TPR, 4, tpr);
    if (below_threshold(f, tpr)) {
        /* Trap-like: the exit comes behind the instruction. */
        vmx_note_time(cpu);
        cpu->core.rip += in->length;
        if (!(in->flags & INSN_64))
            cpu->core.rip = (u32)cpu->core.rip;
        cpu->event.blocking &= ~(BLOCK_STI | BLOCK_MOV_SS);
        struct vmx_exit_info x = {.reason = EXIT_TPR_BELOW_THRESHOLD};
        vmx_exit(cpu, k, &x);
        *exited = true;
    }
    return true;
}

/* mmu/'s hook for accesses to the APIC-access page: with a TPR shadow, 32-bit accesses to the TPR are virtualised;
 * all else exits. `data` NULL asks only whether the access is virtualised. */
static bool virtual_access(struct cpu *cpu, unsigned k, unsigned offset, unsigned size, bool write, void *data)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    if (!vmcs_primary(&f->vmcs, TPR_SHADOW) || offset != VAPIC_TPR || size > 4)
        return false;
    if (!data)
        return true;
    if (!write) {
        u32 value = (u32)bus_read(cpu->bus, cpu->index, f->virtual_apic_hpa + VAPIC_TPR, 4);
        memcpy(data, &value, size);
        return true;
    }
    u32 value = (u32)bus_read(cpu->bus, cpu->index, f->virtual_apic_hpa + VAPIC_TPR, 4);
    memcpy(&value, data, size);
    bus_write(cpu->bus, cpu->index, f->virtual_apic_hpa + VAPIC_TPR, 4, value & 0xff);
    if (below_threshold(f, (u8)value)) {
        f->tpr_pending = 1;
        cpu->event.attention |= ATT_VMX;
        cpu_cut_block(cpu);
    }
    return true;
}

void vmx_apic_attach(void)
{
    mem_apic_virtual_access = virtual_access;
}
