/* Policy `augmented` [GB2499942, US8458698B2]: the hardware has one set of VMX features, and L0 offers L1 a richer one. What
 * the hardware lacks L0 emulates, so that L1 uses it without knowing and without an exit to anybody.
 *
 * hw=MODEL names the hardware: a CPU model whose generation of VMX counts as set 1. What the emulated CPU (--cpu) has beyond
 * it is the difference; offer=LIST restricts it. Levels past L2 are as under `hardware`: L1 has to emulate VMX for its
 * guests, with whatever it finds in the richer set (VMCS shadowing, say). `--stats` counts each use of a feature at VM entry
 * as the hardware's or as emulated.
 */
#include "vmx/policy.h"

const struct nestor_policy vmx_policy_augmented = {
    .version = NESTOR_POLICY_VERSION,
    .size = sizeof(struct nestor_policy),
    .name = "augmented",
    .text = "L0's hardware has the VMX of hw=MODEL; L0 offers more, and counts its use (GB2499942, US8458698B2)",
    .settings_size = sizeof(struct policy_settings),
    .set = policy_set_parameter,
    .control = policy_control,
    .route = policy_route_by_table,
};
