/* Policy `hardware`: what silicon does. There is one frame; VMX instructions of L2 exit to L1, which emulates VMX
 * itself if it wants L2 to be a hypervisor (KVM's nested=1). Nothing is offered behind anybody's back.
 */
#include "vmx/policy.h"

const struct nestor_policy vmx_policy_hardware = {
    .version = NESTOR_POLICY_VERSION,
    .size = sizeof(struct nestor_policy),
    .name = "hardware",
    .text = "one frame, as silicon has it: L1 must emulate VMX for its guests itself",
};
