/* Policy `multilevel` [GB2502225, US8490090B2]: N levels on one processor with virtualization hardware for one. Every event
 * of Ln is trapped at L0; a table names the level Lx that handles it, or L0 itself; Lx sees it as if L(x+1) had caused it,
 * what Lx emulates is carried through Lx+1 … to Ln, and Ln goes on.
 *
 * The table is made of route.EVENT=WHO parameters (vmx/policy_parameters.c); without any, an instruction goes to the
 * hypervisor right above the one that runs, and a physical event to L1 (a hypervisor's reads of IA32_DEBUGCTL: policy_route_offered). That levels exist at all is as under
 * `transparent`: L0 offers VMX to a guest whose hypervisor hides it.
 */
#include "vmx/policy.h"

const struct nestor_policy vmx_policy_multilevel = {
    .version = NESTOR_POLICY_VERSION,
    .size = sizeof(struct nestor_policy),
    .name = "multilevel",
    .text = "N levels; a table names the level that handles each kind of event (GB2502225, US8490090B2)",
    .settings_size = sizeof(struct policy_settings),
    .set = policy_set_parameter,
    .control = policy_control,
    .offer_vmx = policy_levels_allow,
    .route = policy_route_offered,
};
