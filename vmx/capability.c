/* The VMX capability MSRs, computed: what controls.def says is offered, what the fields present imply, and the few
 * constants of IA32_VMX_MISC and IA32_VMX_EPT_VPID_CAP [SDM3 Appendix "VMX Capability Reporting Facility"].
 *
 * Kept true: nothing is advertised that does not work; TRUE and plain MSRs differ only in the default1 controls that
 * may be 0.
 */
#include "vmx/capability.h"

#include "cpu/features.h"
#include "cpu/mode.h"
#include "cpu/msr.h"
#include "cpu/model.h"
#include "vmx/fields.h"
#include "vmx/frame.h"
#include "vmx/vmx.h"

/* Controls of the default1 class: bits that the plain MSRs report as fixed to 1 [SDM3 Appendix "Default Settings of
 * Controls"]. */
#define DEFAULT1_PIN 0x00000016u
#define DEFAULT1_PRIMARY 0x0401e172u
#define DEFAULT1_VMEXIT 0x00036dffu
#define DEFAULT1_VMENTRY 0x000011ffu
/* Those of them that may be 0 all the same, as the TRUE MSRs report. */
#define OPTIONAL_PRIMARY (PRIMARY_CR3_LOAD_EXITING | PRIMARY_CR3_STORE_EXITING)
#define OPTIONAL_VMEXIT VMEXIT_SAVE_DEBUG_CONTROLS
#define OPTIONAL_VMENTRY VMENTRY_LOAD_DEBUG_CONTROLS

#define FEATURE_NEVER FEATURE_COUNT

static const struct vmx_control_info controls[CTL_COUNT] = {
#define CONTROL(word_, bit_, name_, offered, text_)                                                                    \
    {.word = VMX_WORD_##word_, .bit = bit_, .feature = FEATURE_##offered, .name = #word_ "_" #name_, .text = text_},
#include "vmx/controls.def"
#undef CONTROL
};

const struct vmx_control_info *vmx_control_info(unsigned control)
{
    if (control >= CTL_COUNT)
        panic("VMX control number %u", control);
    return &controls[control];
}

const char *vmx_control_word_text(unsigned word)
{
    static const char *const text[VMX_WORD_COUNT] = {
        "Pin-based VM-execution controls", "Primary processor-based VM-execution controls",
        "Secondary processor-based VM-execution controls", "Tertiary processor-based VM-execution controls",
        "VM-exit controls", "Secondary VM-exit controls", "VM-entry controls", "EPT, as IA32_VMX_EPT_VPID_CAP reports it",
    };
    return word < VMX_WORD_COUNT ? text[word] : "?";
}

/* The generation of processors that a control came with. A control without a row: the newest. */
static const u8 generation_of[CTL_COUNT] = {
#define SINCE(word, name, generation) [CTL_##word##_##name] = GENERATION_##generation + 1,
#include "vmx/generations.def"
#undef SINCE
};

bool vmx_control_in_generation(unsigned control, unsigned generation)
{
    return generation >= GENERATION_NEWEST || (generation_of[control] && generation + 1u >= generation_of[control]);
}

static inline unsigned generation(const struct cpu *cpu) { return cpu_model_of(cpu)->generation; }

static inline bool offered(const struct cpu *cpu, unsigned feature)
{
    return feature == FEATURE_BASE || (feature != FEATURE_NEVER && cpu_has(cpu, feature));
}

static inline bool is_dual_monitor(unsigned control)
{
    return control == CTL_VMENTRY_ENTRY_TO_SMM || control == CTL_VMENTRY_DEACTIVATE_DUAL_MONITOR;
}

/* The processor has it and L0 does not withhold it, whichever level runs. */
static bool processor_has(const struct cpu *cpu, unsigned control)
{
    return offered(cpu, controls[control].feature) && vmx_control_in_generation(control, generation(cpu)) &&
           !(cpu->vmx_withheld[control / 64] >> (control % 64) & 1);
}

bool vmx_control_supported(const struct cpu *cpu, unsigned control)
{
    if (control >= CTL_COUNT)
        return control == CTL_ALWAYS;
    return processor_has(cpu, control) && !(is_dual_monitor(control) && cpu->vmx.depth);
}

u64 vmx_allowed_0(enum vmx_control_word word)
{
    switch (word) {
    case VMX_WORD_PIN: return DEFAULT1_PIN;
    case VMX_WORD_PRIMARY: return DEFAULT1_PRIMARY & ~OPTIONAL_PRIMARY;
    case VMX_WORD_VMEXIT: return DEFAULT1_VMEXIT & ~OPTIONAL_VMEXIT;
    case VMX_WORD_VMENTRY: return DEFAULT1_VMENTRY & ~OPTIONAL_VMENTRY;
    default: return 0;
    }
}

u64 vmx_allowed_1(const struct cpu *cpu, enum vmx_control_word word)
{
    u64 allowed[VMX_WORD_COUNT] = {0};
    /* Expanded row by row so that the compiler folds everything but the few rows that ask for a feature. */
#define CONTROL(word_, bit_, name_, feature_, text_)                                                                   \
    if (offered(cpu, FEATURE_##feature_))                                                                              \
        allowed[VMX_WORD_##word_] |= 1ull << (bit_);
#include "vmx/controls.def"
#undef CONTROL
    if (UNLIKELY(generation(cpu) < GENERATION_NEWEST))
        for (unsigned n = 0; n < CTL_COUNT; n++)
            if (!vmx_control_in_generation(n, generation(cpu)))
                allowed[controls[n].word] &= ~(1ull << controls[n].bit);
    if (UNLIKELY(cpu->vmx_withheld[0] | cpu->vmx_withheld[1]))
        for (unsigned n = 0; n < CTL_COUNT; n++)
            if (cpu->vmx_withheld[n / 64] >> (n % 64) & 1)
                allowed[controls[n].word] &= ~(1ull << controls[n].bit);
    if (cpu->vmx.depth)
        allowed[VMX_WORD_VMENTRY] &= ~(u64)(VMENTRY_ENTRY_TO_SMM | VMENTRY_DEACTIVATE_DUAL_MONITOR);
    return allowed[word] | vmx_allowed_0(word);
}

static bool processor_has_dual_monitor(const struct cpu *cpu)
{
    return cpu_has(cpu, FEATURE_VMX) && processor_has(cpu, CTL_VMENTRY_ENTRY_TO_SMM)
           && processor_has(cpu, CTL_VMENTRY_DEACTIVATE_DUAL_MONITOR);
}

bool vmx_dual_monitor_supported(const struct cpu *cpu) { return !cpu->vmx.depth && processor_has_dual_monitor(cpu); }

static u64 basic(const struct cpu *cpu)
{
    bool cet = cpu_has(cpu, FEATURE_CET_SS) || cpu_has(cpu, FEATURE_CET_IBT);
    return VMCS_REVISION
           | (u64)VMCS_SIZE << 32
           | 6ull << 50                    /* the VMCS and what it points to: write-back memory */
           | BIT(54)                       /* VM exits on INS and OUTS report instruction information */
           | BIT(55)                       /* the TRUE MSRs exist */
           /* Exceptions may be injected with or without error code: there is one more that has it, #CP. */
           | (cet ? VMX_BASIC_ANY_ERROR_CODE : 0)
           | (vmx_dual_monitor_supported(cpu) ? VMX_BASIC_DUAL_MONITOR : 0);
}

static u64 misc(const struct cpu *cpu)
{
    u64 smm = VMX_MISC_SMBASE | VMX_MISC_SMI_UNBLOCKING | (u64)VMX_MSEG_REVISION << 32;
    return (vmx_dual_monitor_supported(cpu) ? smm : 0) | VMX_TIMER_RATE | VMX_MISC_STORE_LMA | VMX_MISC_ACTIVITY_HLT
           | VMX_MISC_ACTIVITY_SHUTDOWN
           | VMX_MISC_ACTIVITY_WAIT_SIPI | (u64)VMX_CR3_TARGETS << 16 | (VMX_MSR_LIST_MAX / 512 - 1) << 25
           | (vmx_control_supported(cpu, CTL_SECONDARY_VMCS_SHADOWING) ? VMX_MISC_VMWRITE_ALL : 0)
           | (generation(cpu) >= GENERATION_SKYLAKE ? VMX_MISC_ZERO_LENGTH : 0);
}

static u64 ept_vpid(const struct cpu *cpu)
{
    u64 value = 0;
    if (vmx_control_supported(cpu, CTL_SECONDARY_EPT))
        value |= vmx_allowed_1(cpu, VMX_WORD_EPTCAP);
    if (vmx_control_supported(cpu, CTL_TERTIARY_HLAT))
        value |= (u64)VMX_HLAT_PREFIX_MAX << VMX_EPT_CAP_HLAT_PREFIX_SHIFT;
    if (vmx_control_supported(cpu, CTL_SECONDARY_VPID))
        value |= VMX_VPID_CAP_INVVPID | VMX_VPID_CAP_ADDRESS | VMX_VPID_CAP_SINGLE | VMX_VPID_CAP_ALL
                 | VMX_VPID_CAP_SINGLE_KEEP_GLOBAL;
    return value;
}

/* Allowed-0 settings in the low half, allowed-1 in the high one. */
static u64 control_msr(const struct cpu *cpu, enum vmx_control_word word, u64 fixed_1)
{
    return fixed_1 | vmx_allowed_1(cpu, word) << 32;
}

u64 vmx_capability(const struct cpu *cpu, u32 msr)
{
    switch (msr) {
    case MSR_IA32_VMX_BASIC:
        return basic(cpu);
    case MSR_IA32_VMX_PINBASED_CTLS:
        return control_msr(cpu, VMX_WORD_PIN, DEFAULT1_PIN);
    case MSR_IA32_VMX_PROCBASED_CTLS:
        return control_msr(cpu, VMX_WORD_PRIMARY, DEFAULT1_PRIMARY);
    case MSR_IA32_VMX_EXIT_CTLS:
        return control_msr(cpu, VMX_WORD_VMEXIT, DEFAULT1_VMEXIT);
    case MSR_IA32_VMX_ENTRY_CTLS:
        return control_msr(cpu, VMX_WORD_VMENTRY, DEFAULT1_VMENTRY);
    case MSR_IA32_VMX_MISC:
        return misc(cpu);
    case MSR_IA32_VMX_CR0_FIXED0:
        return CR0_PE | CR0_NE | CR0_PG;
    case MSR_IA32_VMX_CR0_FIXED1:
        return 0xffffffff;
    case MSR_IA32_VMX_CR4_FIXED0:
        return CR4_VMXE;
    case MSR_IA32_VMX_CR4_FIXED1:
        return cpu_cr4_allowed(cpu) | CR4_VMXE;
    case MSR_IA32_VMX_VMCS_ENUM:
        return (u64)vmx_field_highest_index(cpu) << 1;
    case MSR_IA32_VMX_PROCBASED_CTLS2:
        return control_msr(cpu, VMX_WORD_SECONDARY, 0);
    case MSR_IA32_VMX_EPT_VPID_CAP:
        return ept_vpid(cpu);
    case MSR_IA32_VMX_TRUE_PINBASED_CTLS:
        return control_msr(cpu, VMX_WORD_PIN, vmx_allowed_0(VMX_WORD_PIN));
    case MSR_IA32_VMX_TRUE_PROCBASED_CTLS:
        return control_msr(cpu, VMX_WORD_PRIMARY, vmx_allowed_0(VMX_WORD_PRIMARY));
    case MSR_IA32_VMX_TRUE_EXIT_CTLS:
        return control_msr(cpu, VMX_WORD_VMEXIT, vmx_allowed_0(VMX_WORD_VMEXIT));
    case MSR_IA32_VMX_TRUE_ENTRY_CTLS:
        return control_msr(cpu, VMX_WORD_VMENTRY, vmx_allowed_0(VMX_WORD_VMENTRY));
    case MSR_IA32_VMX_VMFUNC:
        return vmx_control_supported(cpu, CTL_SECONDARY_VM_FUNCTIONS) && vmx_control_supported(cpu, CTL_SECONDARY_EPT)
                   ? VMX_VMFUNC_EPTP_SWITCHING : 0;
    case MSR_IA32_VMX_PROCBASED_CTLS3:
        return vmx_allowed_1(cpu, VMX_WORD_TERTIARY);
    case MSR_IA32_VMX_EXIT_CTLS2:
        return vmx_allowed_1(cpu, VMX_WORD_VMEXIT2);
    default:
        return 0;
    }
}

/* MSRs that exist only where another one says so. */
static bool capability_exists(const struct cpu *cpu, u32 msr)
{
    if (msr == MSR_IA32_FEATURE_CONTROL && cpu_has(cpu, FEATURE_SGX))
        return true;
    if (!cpu_has(cpu, FEATURE_VMX))
        return false;
    switch (msr) {
    case MSR_IA32_VMX_PROCBASED_CTLS2:
        return vmx_control_supported(cpu, CTL_PRIMARY_SECONDARY_CONTROLS);
    case MSR_IA32_VMX_EPT_VPID_CAP:
        return vmx_control_supported(cpu, CTL_SECONDARY_EPT) || vmx_control_supported(cpu, CTL_SECONDARY_VPID);
    case MSR_IA32_VMX_VMFUNC:
        return vmx_control_supported(cpu, CTL_SECONDARY_VM_FUNCTIONS);
    case MSR_IA32_VMX_PROCBASED_CTLS3:
        return vmx_control_supported(cpu, CTL_PRIMARY_TERTIARY_CONTROLS);
    case MSR_IA32_VMX_EXIT_CTLS2:
        return vmx_control_supported(cpu, CTL_VMEXIT_SECONDARY_CONTROLS);
    default:
        return true;
    }
}

static bool is_ours(u32 msr)
{
    return msr == MSR_IA32_FEATURE_CONTROL || (msr >= MSR_IA32_VMX_BASIC && msr <= MSR_IA32_VMX_EXIT_CTLS2);
}

bool vmx_msr_read_level(const struct cpu *cpu, const u64 *feature_control, u32 msr, u64 *value, bool *known)
{
    *known = is_ours(msr);
    if (!*known || !capability_exists(cpu, msr))
        return false;
    *value = msr == MSR_IA32_FEATURE_CONTROL ? *feature_control : vmx_capability(cpu, msr);
    return true;
}

bool vmx_msr_write_level(const struct cpu *cpu, u64 *feature_control, u32 msr, u64 value, bool *known)
{
    u64 defined = FEATURE_CONTROL_LOCKED | (cpu_has(cpu, FEATURE_VMX) ? FEATURE_CONTROL_VMX : 0);
    *known = is_ours(msr);
    if (msr != MSR_IA32_FEATURE_CONTROL || !capability_exists(cpu, msr))
        return false;                      /* the capability MSRs are read-only */
    if (*feature_control & FEATURE_CONTROL_LOCKED || value & ~defined)
        return false;                      /* no SMX, SGX or local machine checks to enable */
    *feature_control = value;
    return true;
}

/* [SDM3 "Enabling the Dual-Monitor Treatment"]: of the processor, for whom its hypervisor lets through to it, but not part of what L0
 * offers; written in SMM alone. */
static bool is_smm_msr(u32 msr) { return msr == MSR_IA32_SMM_MONITOR_CTL || msr == MSR_IA32_SMBASE; }

static bool offered_level(const struct cpu *cpu, unsigned k) { return k && k < VMX_MAX_FRAMES && cpu->vmx.frame[k].offered; }

static bool smm_msr_read(const struct cpu *cpu, u32 msr, u64 *value)
{
    *value = msr == MSR_IA32_SMBASE ? cpu->sys.smbase : cpu->smm.monitor_ctl;
    return processor_has_dual_monitor(cpu) && (msr != MSR_IA32_SMBASE || cpu->smm.active);
}

static bool smm_msr_write(struct cpu *cpu, u32 msr, u64 value)
{
    u64 defined = 0xfffff000ull | SMM_MONITOR_VALID | SMM_MONITOR_KEEP_BLOCKING;
    if (!processor_has_dual_monitor(cpu) || msr == MSR_IA32_SMBASE || !cpu->smm.active || value & ~defined)
        return false;
    cpu->smm.monitor_ctl = value;
    return true;
}

/* IA32_FEATURE_CONTROL as the running level has it: the processor's, or the one that goes with L0's offer. */
static u64 *running_feature_control(struct cpu *cpu)
{
    u32 d = cpu->vmx.depth;
    return d && d < VMX_MAX_FRAMES && cpu->vmx.frame[d].offered ? &cpu->vmx.frame[d].feature_control : &cpu->sys.feature_control;
}

/* [SDM3 "Virtualize IA32_SPEC_CTRL"]: the innermost frame below level k (frames 0..k-1) that keeps a shadow. -1: none. */
static int spec_ctrl_frame(struct cpu *cpu, unsigned k)
{
    int m = (int)k - 1;
    while (m >= 0 && !vmcs_tertiary(vmcs_of(cpu, (unsigned)m), VIRTUALIZE_SPEC_CTRL))
        m--;
    return m;
}

static bool spec_ctrl_read(struct cpu *cpu, unsigned k, u64 *value, bool *known)
{
    int m = spec_ctrl_frame(cpu, k);
    *known = m >= 0;
    if (m >= 0)
        *value = vmcs_of(cpu, (unsigned)m)->ia32_spec_ctrl_shadow;
    return *known;
}

/* Software's value goes to the shadow; of the register as the frame's hypervisor has it, the bits in the mask stay. */
static bool spec_ctrl_write(struct cpu *cpu, unsigned k, u64 value, bool *known)
{
    int m = spec_ctrl_frame(cpu, k);
    *known = m >= 0;
    if (m < 0)
        return false;
    struct vmcs *v = vmcs_of(cpu, (unsigned)m);
    u64 below;
    bool shadowed;
    if (!cpu_spec_ctrl_valid(cpu, value))
        return false;
    if (!spec_ctrl_read(cpu, (unsigned)m, &below, &shadowed))
        below = cpu->sys.spec_ctrl;
    v->ia32_spec_ctrl_shadow = value;
    value = (value & ~v->ia32_spec_ctrl_mask) | (below & v->ia32_spec_ctrl_mask);
    if (!spec_ctrl_write(cpu, (unsigned)m, value, &shadowed) && !shadowed)
        cpu->sys.spec_ctrl = value;
    return true;
}

bool vmx_msr_read(struct cpu *cpu, u32 msr, u64 *value, bool *known)
{
    if (msr >> 8 == 8 && cpu->vmx.depth)
        return vmx_x2apic_read(cpu, msr, value, known);
    return vmx_msr_read_below(cpu, cpu->vmx.depth, msr, value, known);
}

bool vmx_msr_read_below(struct cpu *cpu, unsigned k, u32 msr, u64 *value, bool *known)
{
    if (msr == MSR_IA32_SPEC_CTRL && k)
        return spec_ctrl_read(cpu, k, value, known);
    if (is_smm_msr(msr)) {
        *known = true;
        return !offered_level(cpu, k) && smm_msr_read(cpu, msr, value);
    }
    return vmx_msr_read_level(cpu, running_feature_control(cpu), msr, value, known);
}

bool vmx_msr_write(struct cpu *cpu, u32 msr, u64 value, bool *known)
{
    if (msr >> 8 == 8 && cpu->vmx.depth)
        return vmx_x2apic_write(cpu, msr, value, known);
    return vmx_msr_write_below(cpu, cpu->vmx.depth, msr, value, known);
}

bool vmx_msr_write_below(struct cpu *cpu, unsigned k, u32 msr, u64 value, bool *known)
{
    if (msr == MSR_IA32_SPEC_CTRL && k)
        return spec_ctrl_write(cpu, k, value, known);
    if (is_smm_msr(msr)) {
        *known = true;
        return !offered_level(cpu, k) && smm_msr_write(cpu, msr, value);
    }
    return vmx_msr_write_level(cpu, running_feature_control(cpu), msr, value, known);
}
