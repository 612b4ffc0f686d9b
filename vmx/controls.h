/* The VMX controls as constants, from vmx/controls.def: the mask word_NAME of each (PIN_NMI_EXITING …), and its
 * number CTL_word_NAME for tables that name a control. Helpers read the words of a VMCS with the rule that a word
 * which is not activated counts as zero [SDM3 "Processor-Based VM-Execution Controls"].
 */
#ifndef NESTOR_VMX_CONTROLS_H
#define NESTOR_VMX_CONTROLS_H

#include "vmx/state.h"

enum vmx_control_word { VMX_WORD_PIN, VMX_WORD_PRIMARY, VMX_WORD_SECONDARY, VMX_WORD_TERTIARY, VMX_WORD_VMEXIT,
                        VMX_WORD_VMEXIT2, VMX_WORD_VMENTRY, VMX_WORD_EPTCAP, VMX_WORD_COUNT };

enum vmx_control {
#define CONTROL(word, bit, name, ...) CTL_##word##_##name,
#include "vmx/controls.def"
#undef CONTROL
    CTL_COUNT,
    CTL_ALWAYS, CTL_NEVER      /* no control is needed; none helps */
};

enum vmx_control_mask {
#define CONTROL(word, bit, name, ...) word##_##name = 1u << (bit),
#include "vmx/controls.def"
#undef CONTROL
};

/* The words that another control activates, as they count. */
static inline u64 vmx_secondary(const struct vmcs *vmcs)
{
    return vmcs->primary_controls & PRIMARY_SECONDARY_CONTROLS ? vmcs->secondary_controls : 0;
}
static inline u64 vmx_tertiary(const struct vmcs *vmcs)
{
    return vmcs->primary_controls & PRIMARY_TERTIARY_CONTROLS ? vmcs->tertiary_controls : 0;
}

#endif
