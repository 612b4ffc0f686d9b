/* What this CPU's VMX can do, as software reads it from the capability MSRs [SDM3 Appendix "VMX Capability Reporting
 * Facility"] and as the entry checks apply it. Everything is computed from vmx/controls.def, vmx/fields.def and the
 * CPU's features.
 */
#ifndef NESTOR_VMX_CAPABILITY_H
#define NESTOR_VMX_CAPABILITY_H

#include "cpu/features.h"
#include "vmx/controls.h"

struct cpu;

enum {
    MSR_IA32_FEATURE_CONTROL = 0x3a,
    MSR_IA32_VMX_BASIC = 0x480,
    MSR_IA32_VMX_PINBASED_CTLS,
    MSR_IA32_VMX_PROCBASED_CTLS,
    MSR_IA32_VMX_EXIT_CTLS,
    MSR_IA32_VMX_ENTRY_CTLS,
    MSR_IA32_VMX_MISC,
    MSR_IA32_VMX_CR0_FIXED0,
    MSR_IA32_VMX_CR0_FIXED1,
    MSR_IA32_VMX_CR4_FIXED0,
    MSR_IA32_VMX_CR4_FIXED1,
    MSR_IA32_VMX_VMCS_ENUM,
    MSR_IA32_VMX_PROCBASED_CTLS2,
    MSR_IA32_VMX_EPT_VPID_CAP,
    MSR_IA32_VMX_TRUE_PINBASED_CTLS,
    MSR_IA32_VMX_TRUE_PROCBASED_CTLS,
    MSR_IA32_VMX_TRUE_EXIT_CTLS,
    MSR_IA32_VMX_TRUE_ENTRY_CTLS,
    MSR_IA32_VMX_VMFUNC,
    MSR_IA32_VMX_PROCBASED_CTLS3,
    MSR_IA32_VMX_EXIT_CTLS2,
    MSR_IA32_SMM_MONITOR_CTL = 0x9b,
    MSR_IA32_SMBASE = 0x9e,
};
/* IA32_SMM_MONITOR_CTL: the MSEG base stands in bits 31:12. */
enum { SMM_MONITOR_VALID = 1 << 0, SMM_MONITOR_KEEP_BLOCKING = 1 << 2 };

/* IA32_FEATURE_CONTROL [SDM4 "Architectural MSRs"]. */
enum { FEATURE_CONTROL_LOCKED = 1 << 0, FEATURE_CONTROL_VMX_IN_SMX = 1 << 1, FEATURE_CONTROL_VMX = 1 << 2 };

/* IA32_VMX_BASIC */
#define VMX_BASIC_ANY_ERROR_CODE BIT(56)   /* hardware exceptions can be injected with or without error code, whatever the vector */

#define VMX_BASIC_DUAL_MONITOR BIT(49)     /* the dual-monitor treatment of SMIs and SMM is there */

/* IA32_VMX_MISC. */
#define VMX_TIMER_RATE 5                   /* the VMX-preemption timer counts down when bit 5 of the TSC changes */
#define VMX_MISC_STORE_LMA BIT(5)          /* VM exits store IA32_EFER.LMA into the "IA-32e mode guest" entry control */
#define VMX_MISC_ACTIVITY_HLT BIT(6)
#define VMX_MISC_ACTIVITY_SHUTDOWN BIT(7)
#define VMX_MISC_ACTIVITY_WAIT_SIPI BIT(8)
#define VMX_MISC_SMBASE BIT(15)            /* IA32_SMBASE can be read in SMM */
#define VMX_MISC_SMI_UNBLOCKING BIT(28)    /* IA32_SMM_MONITOR_CTL[2]: VMXOFF leaves SMIs blocked */
#define VMX_MSEG_REVISION 0x4e53u          /* bits 63:32: MSEG revision identifier */
#define VMX_MISC_VMWRITE_ALL BIT(29)       /* VMWRITE may write the VM-exit information fields */
#define VMX_MISC_ZERO_LENGTH BIT(30)       /* software events may be injected with instruction length 0 */
#define VMX_CR3_TARGETS 4u
#define VMX_MSR_LIST_MAX 512               /* recommended most entries in an MSR area; more are processed all the same */

/* IA32_VMX_EPT_VPID_CAP; the bits about EPT are EPTCAP_… of vmx/controls.def. */
#define VMX_VPID_CAP_INVVPID BIT(32)
#define VMX_VPID_CAP_ADDRESS BIT(40)
#define VMX_VPID_CAP_SINGLE BIT(41)
#define VMX_VPID_CAP_ALL BIT(42)
#define VMX_VPID_CAP_SINGLE_KEEP_GLOBAL BIT(43)

#define VMX_EPT_CAP_HLAT_PREFIX_SHIFT 48   /* 6 bits: the largest HLAT prefix size */
#define VMX_HLAT_PREFIX_MAX 1u

/* IA32_VMX_VMFUNC, and the VM-function controls that it allows: bit n is function n. */
#define VMX_VMFUNC_EPTP_SWITCHING BIT(0)
#define VMX_EPTP_LIST_ENTRIES 512u

/* The value of a capability MSR (0x480 …); 0 for those that do not exist. */
u64 vmx_capability(const struct cpu *cpu, u32 msr);
/* The bits of a control word that must be 1 (with the TRUE MSRs' leniency) and those that may be 1. */
u64 vmx_allowed_0(enum vmx_control_word word);
u64 vmx_allowed_1(const struct cpu *cpu, enum vmx_control_word word);
/* The control (enum vmx_control) may be set to 1. CTL_ALWAYS: true; CTL_NEVER: false. */
bool vmx_control_supported(const struct cpu *cpu, unsigned control);
/* The same for a control named in the program, word_NAME, whose feature a CPU may well lack: that is found out at once. */
#define vmx_offers(cpu, name) (cpu_has(cpu, CTL_FEATURE_##name) && vmx_control_supported(cpu, CTL_##name))
enum vmx_control_feature {     /* FEATURE_BASE: none is needed; FEATURE_COUNT: never */
#define FEATURE_NEVER FEATURE_COUNT
#define CONTROL(word, bit, name, offered, ...) CTL_FEATURE_##word##_##name = FEATURE_##offered,
#include "vmx/controls.def"
#undef CONTROL
#undef FEATURE_NEVER
};
/* Processors of this generation (enum cpu_generation) have the control. For controls proper only. */
bool vmx_control_in_generation(unsigned control, unsigned generation);

/* The dual-monitor treatment is offered to the running level: to L1 alone, for SMM is below all levels. */
bool vmx_dual_monitor_supported(const struct cpu *cpu);

/* The rows of controls.def, by number. */
struct vmx_control_info {
    u8 word;                   /* enum vmx_control_word */
    u8 bit;
    u16 feature;               /* enum cpu_feature that offers it; FEATURE_COUNT: never */
    const char *name, *text;
};
const struct vmx_control_info *vmx_control_info(unsigned control);
/* The name of a control word for people. */
const char *vmx_control_word_text(unsigned word);

/* RDMSR and WRMSR of IA32_FEATURE_CONTROL and the capability MSRs with a level's own IA32_FEATURE_CONTROL, for
 * policies that give each level one. *known: the MSR is one of ours. False: #GP(0). vmx_msr_read() and
 * vmx_msr_write() are these with the processor's own. */
bool vmx_msr_read_level(const struct cpu *cpu, const u64 *feature_control, u32 msr, u64 *value, bool *known);
bool vmx_msr_write_level(const struct cpu *cpu, u64 *feature_control, u32 msr, u64 value, bool *known);

#endif
