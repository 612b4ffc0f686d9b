/* Policy `transparent` [US10275269B1]: L1 has no nested support and hides VMX from its guest; L0 offers it
 * nevertheless. The guest's VMX instructions, VMCSs, VMX MSRs and CR4.VMXE are L0's; only what L1 owns is reflected to
 * it. The same again for every level that has a parent without nested support.
 *
 * The one condition is that the parent translates its guest's addresses by EPT: L0 finds the guest's VMCSs and tables
 * through it.
 */
#include "vmx/controls.h"
#include "vmx/policy.h"

static bool offer(const struct cpu *cpu, unsigned k)
{
    return k < VMX_MAX_FRAMES && vmx_secondary(&cpu->vmx.frame[k - 1].vmcs) & SECONDARY_EPT;
}

const struct vmx_policy vmx_policy_transparent = {
    .name = "transparent",
    .text = "L0 gives every level VMX though its parent hides it (US10275269B1); parents need EPT, no nested support",
    .offer = offer,
};
