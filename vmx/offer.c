/* What L0 adds to a level whose parent hides VMX from it (policies with an `offer`).
 *
 * The parent handles the instruction as ever and never learns of the addition: CPUID leaf 1 goes to it, and when it
 * enters its guest again behind the instruction, ECX.VMX is set; a MOV to CR4 shows it a value without VMXE, and the
 * bit is kept apart. IA32_FEATURE_CONTROL and the VMX capability MSRs never reach it (vmx/route.c).
 *
 * Kept true: a parent that shows its guest VMX by itself (it emulates VMX) is left alone.
 */
#include "vmx/frame.h"

#include "cpu/raise.h"
#include "vmx/capability.h"

#define CPUID_1_ECX_VMX (1u << 5)

static u64 behind(const struct cpu *cpu, u64 rip, u64 length)
{
    return cpu->sys.efer & EFER_LMA && cpu->seg.s[SEG_CS].access & AR_L ? rip + length : (u32)(rip + length);
}

void vmx_offer_note_cpuid(struct cpu *cpu, unsigned k, u64 length)
{
    if (!vmx_policy_offers(cpu) || (u32)cpu->core.rax != 1)
        return;
    cpu->vmx.frame[k].cpuid = (struct vmx_pending_cpuid){.rip = cpu->core.rip, .length = length, .valid = 1};
}

/* Begins to offer VMX to L(k+1), whose parent must translate its addresses by EPT. False: the policy does not. */
static bool offer_to(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    if (!vmcs_secondary(vmcs_of(cpu, k - 1), EPT) || !vmx_policy_offers_level(cpu, k + 1))
        return false;
    vmx_frames_forget(cpu, k);
    f->offered = 1;
    f->vmcs_ptr = VMX_NO_VMCS;
    f->timer_deadline = ~0ull;
    f->feature_control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX;
    return true;
}

static void finish_cpuid(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    if (k + 1 >= VMX_MAX_FRAMES || cpu->core.rip != behind(cpu, f->cpuid.rip, f->cpuid.length) || cpu->event.valid)
        return;
    struct vmx_frame *next = f + 1;
    if (cpu->core.rcx & CPUID_1_ECX_VMX) {
        if (!next->vmxon)
            next->offered = 0;
        return;
    }
    if (!next->offered) {
        if (!offer_to(cpu, k + 1))
            return;
    }
    cpu->core.rcx = (u32)cpu->core.rcx | CPUID_1_ECX_VMX;
}

/* CPUID that L0 answers itself (route.cpuid=L0): the running level is shown VMX exactly when it is offered it. */
void vmx_filter_cpuid(struct cpu *cpu, u32 leaf, u32 subleaf, u32 regs[4])
{
    (void)subleaf;
    unsigned k = cpu->vmx.depth;
    if (k == 0 || leaf != 1)
        return;
    if (k >= VMX_MAX_FRAMES || (!cpu->vmx.frame[k].offered && !offer_to(cpu, k)))
        regs[2] &= ~CPUID_1_ECX_VMX;
}

bool vmx_offer_check_cr4(struct cpu *cpu, u64 *value)
{
    const struct vmx_frame *own = &cpu->vmx.frame[cpu->vmx.depth];
    if (own->vmxon && !(*value & CR4_VMXE)) {
        cpu_raise_gp(cpu, 0);
        return false;
    }
    *value &= ~(u64)CR4_VMXE;
    return true;
}

void vmx_offer_note_cr4(struct cpu *cpu, const struct insn *in, unsigned reg, u64 value)
{
    struct vmx_frame *f = frame_innermost(cpu);
    u64 original = cpu->core.r[reg];
    if (!(value & CR4_VMXE) && !cpu->vmx.frame[cpu->vmx.depth].cr4_vmxe)
        return;
    f->cr4 = (struct vmx_pending_cr4){.rip = cpu->core.rip, .length = in->length, .original = original, .valid = 1,
                                      .reg = (u8)reg, .vmxe = (value & CR4_VMXE) != 0};
    cpu->core.r[reg] = original & ~(u64)CR4_VMXE;
}

static void finish_cr4(struct cpu *cpu, unsigned k)
{
    struct vmx_pending_cr4 *p = &cpu->vmx.frame[k].cr4;
    if (cpu->core.r[p->reg] == (p->original & ~(u64)CR4_VMXE))
        cpu->core.r[p->reg] = p->original;
    if (k + 1 < VMX_MAX_FRAMES && cpu->core.rip == behind(cpu, p->rip, p->length) && !cpu->event.valid)
        cpu->vmx.frame[k + 1].cr4_vmxe = p->vmxe ? CR4_VMXE : 0;
}

void vmx_offer_entered(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    if (UNLIKELY(f->cpuid.valid)) {
        f->cpuid.valid = 0;
        finish_cpuid(cpu, k);
    }
    if (UNLIKELY(f->cr4.valid)) {
        f->cr4.valid = 0;
        finish_cr4(cpu, k);
    }
}

void vmx_note_cr4(struct cpu *cpu, u64 value)
{
    if (cpu->vmx.depth && vmx_own_root(cpu))
        cpu->vmx.frame[cpu->vmx.depth].cr4_vmxe = value & CR4_VMXE;
}
