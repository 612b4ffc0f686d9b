/* Policy `hardware`: what silicon does. There is one frame; VMX instructions of L2 exit to L1, which emulates VMX
 * itself if it wants L2 to be a hypervisor (KVM's nested=1). Nothing is offered behind anybody's back.
 */
#include "vmx/policy.h"

const struct vmx_policy vmx_policy_hardware = {
    .name = "hardware",
    .text = "one frame, as silicon has it: L1 must emulate VMX for its guests itself",
};
