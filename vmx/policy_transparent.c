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
#include "vmx/policy.h"
#include "vmx/vmx.h"

static int route(const void *settings, const struct nestor_event *event)
{
    const unsigned free_of_charge = NESTOR_EVENT_OFFERED_HYPERVISOR | NESTOR_EVENT_VALUE_IS_PARENTS;
    int target = policy_route_by_table(settings, event);
    if (target == NESTOR_DEFAULT && event->reason == EXIT_RDMSR && (event->flags & free_of_charge) == free_of_charge)
        return NESTOR_L0;
    return target;
}

const struct nestor_policy vmx_policy_transparent = {
    .version = NESTOR_POLICY_VERSION,
    .size = sizeof(struct nestor_policy),
    .name = "transparent",
    .text = "L0 gives every level VMX though its parent hides it (US10275269B1); parents need EPT, no nested support",
    .settings_size = sizeof(struct policy_settings),
    .set = policy_set_parameter,
    .control = policy_control,
    .offer_vmx = policy_levels_allow,
    .route = route,
};
