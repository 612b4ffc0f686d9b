/* enum vmx_exit_reason: the basic exit reasons, from vmx/exits.def; and the bits that stand above them in the
 * exit-reason field [SDM3 "Basic VM-Exit Information"].
 */
#ifndef NESTOR_VMX_REASONS_H
#define NESTOR_VMX_REASONS_H

enum vmx_exit_reason {
#define EXIT(number, name, ...) EXIT_##name = number,
#include "vmx/exits.def"
#undef EXIT
    EXIT_REASON_COUNT,         /* one more than the largest number: the size of tables indexed by reason */
    EXIT_NONE = 0xffff
};

#define EXIT_REASON_ENTRY_FAILURE 0x80000000u
#define EXIT_REASON_BUS_LOCK 0x04000000u       /* a bus lock was asserted that the frame detects */
#define EXIT_REASON_SMM_FROM_ROOT 0x20000000u  /* an SMM VM exit from VMX root operation */
#define EXIT_REASON_SMM_MTF 0x10000000u        /* … from non-root operation, with an MTF VM exit pending */

/* Whose affair an exit is, and which frames are asked (exits.def's class and scope). */
enum vmx_exit_class { VMX_CLASS_INSTRUCTION, VMX_CLASS_PHYSICAL, VMX_CLASS_TRANSLATION, VMX_CLASS_ARMED, VMX_CLASS_ENTRY };
enum vmx_exit_scope { VMX_SCOPE_NONE, VMX_SCOPE_ANY, VMX_SCOPE_OWN, VMX_SCOPE_UNCONDITIONAL };

#endif
