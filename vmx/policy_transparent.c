/* Policy `transparent` [US10275269B1]: L1 has no nested support and hides VMX from its guest; L0 offers it
 * nevertheless. The guest's VMX instructions, VMCSs, VMX MSRs and CR4.VMXE are L0's; only what L1 owns is reflected to
 * it. The same again for every level that has a parent without nested support.
 *
 * The one condition is that the parent translates its guest's addresses by EPT: L0 finds the guest's VMCSs and tables
 * through it.
 *
 * A hypervisor reads IA32_DEBUGCTL about once per VM entry, because VM exits clear it (KVM: get_debugctlmsr). Its
 * parent, if it intercepts that, would be entered for each entry of every level above it. When VM entry loads and
 * VM exit saves the register for that guest, its running value is what the parent would look up in its VMCS; L0 gives
 * it at once. The assumption: such a parent shows its guest no other value than the guest's own. Writes go to the
 * parent as ever.
 */
#include "cpu/msr.h"
#include "vmx/controls.h"
#include "vmx/policy.h"

static bool offer(const struct cpu *cpu, unsigned k)
{
    return k < VMX_MAX_FRAMES && (!cpu->policy_levels || k + 2 <= cpu->policy_levels) && vmx_secondary(&cpu->vmx.frame[k - 1].vmcs) & SECONDARY_EPT;
}

static bool answer_rdmsr(const struct cpu *cpu, u32 msr)
{
    const struct vmcs *v = &cpu->vmx.frame[cpu->vmx.depth - 1].vmcs;
    return msr == MSR_IA32_DEBUGCTL && v->entry_controls & VMENTRY_LOAD_DEBUG_CONTROLS &&
           v->exit_controls & VMEXIT_SAVE_DEBUG_CONTROLS;
}

const struct vmx_policy vmx_policy_transparent = {
    .name = "transparent",
    .text = "L0 gives every level VMX though its parent hides it (US10275269B1); parents need EPT, no nested support",
    .has_levels = true,
    .offer = offer,
    .answer_rdmsr = answer_rdmsr,
};
