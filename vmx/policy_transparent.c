/* Policy `transparent` [US10275269B1]: L1 has no nested support and hides VMX from its guest; L0 offers it
 * nevertheless. The guest's VMX instructions, VMCSs, VMX MSRs and CR4.VMXE are L0's; only what L1 owns is reflected to
 * it. The same again for every level that has a parent without nested support.
 *
 * The one condition is that the parent translates its guest's addresses by EPT: L0 finds the guest's VMCSs and tables
 * through it.
 */
#include "vmx/policy.h"

const struct nestor_policy vmx_policy_transparent = {
    .version = NESTOR_POLICY_VERSION,
    .size = sizeof(struct nestor_policy),
    .name = "transparent",
    .text = "L0 gives every level VMX though its parent hides it (US10275269B1); parents need EPT, no nested support",
    .settings_size = sizeof(struct policy_settings),
    .set = policy_set_parameter,
    .control = policy_control,
    .offer_vmx = policy_levels_allow,
    .route = policy_route_offered,
};
