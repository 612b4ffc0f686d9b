/* VMX state of one virtual processor: the frames, and the VMCS as Nestor keeps it while it is active.
 *
 * A frame is the VMX context of one hypervisor: frame[0] belongs to L1, frame[k] to L(k+1). `depth` frames are entered:
 * at depth d, L(d+1) runs. A frame's current VMCS is cached whole in `vmcs` and written back to its region in memory at
 * VMCLEAR or when another becomes current. Every field is kept as 64 bits, whatever its architectural width.
 */
#ifndef NESTOR_VMX_STATE_H
#define NESTOR_VMX_STATE_H

#include "cpu/base.h"

#define VMX_MAX_FRAMES 16
#define VMX_NO_VMCS (~0ull)

/* All fields, in the order of fields.def. Plain data, copied to and from the VMCS region as it is (behind the 8-byte header). */
struct vmcs {
    u64 launched;              /* launch state: 0 clear, 1 launched */
#define FIELD(name, ...) u64 name;
#include "vmx/fields.def"
#undef FIELD
};

struct vmx_frame {
    u8 vmxon;                  /* this hypervisor is in VMX operation */
    u8 entered;                /* … and has entered its guest (frames 0..depth-1, unless suspended) */
    u8 pad[6];
    u64 vmxon_ptr;             /* gpa in this hypervisor's space */
    u64 vmcs_ptr;              /* gpa in this hypervisor's space, VMX_NO_VMCS when none is current */
    u64 vmcs_hpa;              /* where that region lies on the bus */
    struct vmcs vmcs;          /* the current VMCS, cached */
    u64 timer_deadline;        /* machine TSC at which the VMX-preemption timer of this frame reaches 0; ~0 when off */
    u64 cr4_vmxe, feature_control; /* what this hypervisor sees when its parent hides VMX from it (policy transparent) */
    u64 spare[24];             /* the policies' and routing's per-frame state, meaning given in vmx/frame.h */
};

struct vmx_state {
    u32 depth;                 /* frames entered now */
    u32 pad;
    struct vmx_frame frame[VMX_MAX_FRAMES];
    u64 spare[16];
};

#endif
