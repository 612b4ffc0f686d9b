/* RDMSR and WRMSR of everything but VMX's capability MSRs: the table cpu/msrs.def, and the rules of the registers
 * that are more than storage.
 *
 * Kept true: a write that fails (#GP(0)) has changed nothing. The TSC is the machine's count plus tsc_offset, so
 * writing it or IA32_TSC_ADJUST only moves the offset, and a deadline that the local APIC holds in TSC ticks is armed
 * anew.
 *
 * Follows [SDM4 "Architectural MSRs"], [SDM3 "Time-Stamp Counter Adjustment"], [SDM3 "Memory Type Range Registers
 * (MTRRs)"], [SDM3 "Page Attribute Table (PAT)"], [SDM3 "Machine-Check MSRs"], [SDM3 "Local APIC Status and
 * Location"].
 */
#include "cpu/msr.h"

#include "cpu/cr.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/pmu.h"

u64 cpu_tsc(struct cpu *cpu)
{
    u64 machine = LIKELY(cpu->board) ? cpu->board->tsc(cpu->board_arg, cpu) : cpu->time.now;
    return machine + cpu->sys.tsc_offset;
}

bool cpu_canonical_wide(const struct cpu *cpu, u64 la)
{
    return cpu_canonical_bits(la, cpu_has(cpu, FEATURE_LA57) ? 57 : 48);
}

/* ---- values of the constant ones ------------------------------------------------------------------------------- */

/* Bus clocks of 100 MHz in the nominal frequency. */
#define BUS_RATIO (CPU_TSC_HZ / 100000000u)
/* The highest ratio without turbo, and the lowest: there is one speed. */
#define PLATFORM_INFO ((u64)BUS_RATIO << 8 | (u64)BUS_RATIO << 40)
#define PERF_STATUS ((u64)BUS_RATIO << 8 | (u64)BUS_RATIO << 40)

static u64 arch_capabilities(const struct cpu *cpu)
{
    return cpu_model_of(cpu)->arch_capabilities | (cpu_has(cpu, FEATURE_SPEC_CTRL) ? 1u << 1 /* IBRS_ALL */ : 0);
}

static u64 mtrr_cap(const struct cpu *cpu)
{
    return cpu_model_of(cpu)->mtrrs | 1u << 8 /* fixed-range */ | 1u << 10 /* WC */ | 1u << 11 /* SMRR */;
}

static u64 mcg_cap(const struct cpu *cpu)
{
    return cpu_model_of(cpu)->mc_banks | 1u << 8 /* IA32_MCG_CTL exists */ | 1u << 10 /* IA32_MCi_CTL2 and LVT CMCI exist */;
}

/* ---- time ------------------------------------------------------------------------------------------------------ */

/* Moves the TSC by `delta` ticks. A deadline stands in ticks of the moved TSC: reading and writing it back re-arms
 * the timer. */
static void tsc_move(struct cpu *cpu, u64 delta)
{
    u64 deadline = 0;
    bool armed = cpu->board && cpu_has(cpu, FEATURE_TSC_DEADLINE) &&
                 cpu->board->apic_msr_read(cpu->board_arg, cpu, MSR_IA32_TSC_DEADLINE, &deadline) && deadline;
    cpu->sys.tsc_offset += delta;
    cpu->sys.tsc_adjust += delta;
    if (armed)
        cpu->board->apic_msr_write(cpu->board_arg, cpu, MSR_IA32_TSC_DEADLINE, deadline);
}

static bool tsc_read(struct cpu *cpu, u32 msr, u64 *value)
{
    (void)msr;
    *value = cpu_tsc(cpu);
    return true;
}

static bool tsc_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    tsc_move(cpu, value - cpu_tsc(cpu));
    return true;
}

static bool tsc_adjust_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    tsc_move(cpu, value - cpu->sys.tsc_adjust);
    return true;
}

static bool tsc_aux_read(struct cpu *cpu, u32 msr, u64 *value)
{
    (void)msr;
    *value = cpu->sys.tsc_aux;
    return cpu_has(cpu, FEATURE_RDTSCP) || cpu_has(cpu, FEATURE_RDPID);
}

static bool tsc_aux_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (value >> 32 || !(cpu_has(cpu, FEATURE_RDTSCP) || cpu_has(cpu, FEATURE_RDPID)))
        return false;
    cpu->sys.tsc_aux = value;
    return true;
}

/* ---- the local APIC -------------------------------------------------------------------------------------------- */

/* The board keeps the APIC's registers and IA32_TSC_DEADLINE. */
static bool tsc_deadline_read(struct cpu *cpu, u32 msr, u64 *value)
{
    return cpu->board && cpu->board->apic_msr_read(cpu->board_arg, cpu, msr, value);
}

static bool tsc_deadline_write(struct cpu *cpu, u32 msr, u64 value)
{
    return cpu->board && cpu->board->apic_msr_write(cpu->board_arg, cpu, msr, value);
}

static bool x2apic_mode(const struct cpu *cpu)
{
    u64 both = APIC_BASE_EXTD | APIC_BASE_ENABLE;
    return cpu->board && (cpu->sys.apic_base & both) == both;
}

static bool x2apic_read(struct cpu *cpu, u32 msr, u64 *value)
{
    return x2apic_mode(cpu) && cpu->board->apic_msr_read(cpu->board_arg, cpu, msr, value);
}

static bool x2apic_write(struct cpu *cpu, u32 msr, u64 value)
{
    return x2apic_mode(cpu) && cpu->board->apic_msr_write(cpu->board_arg, cpu, msr, value);
}

static bool apic_base_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    u64 writable = (mask_low(cpu_physical_bits(cpu)) & ~0xfffull) | APIC_BASE_BSP | APIC_BASE_ENABLE;
    if (cpu_has(cpu, FEATURE_X2APIC))
        writable |= APIC_BASE_EXTD;
    if (value & ~writable)
        return false;
    /* Out of the four states only some steps are allowed [SDM3 "x2APIC State Transitions"]. */
    bool was_on = cpu->sys.apic_base & APIC_BASE_ENABLE, was_ext = cpu->sys.apic_base & APIC_BASE_EXTD;
    bool on = value & APIC_BASE_ENABLE, ext = value & APIC_BASE_EXTD;
    if ((ext && !on) || (was_ext && on && !ext) || (!was_on && ext))
        return false;
    if (cpu->board && !cpu->board->apic_base_write(cpu->board_arg, cpu, value))
        return false;
    cpu->sys.apic_base = value;
    return true;
}

/* ---- speculation and microcode --------------------------------------------------------------------------------- */

/* IBRS, STIBP (ignored by processors without hyper-threading, but there with IBRS [SDM4 "Architectural MSRs"]), SSBD. */
static u64 spec_ctrl_bits(const struct cpu *cpu)
{
    return (cpu_has(cpu, FEATURE_SPEC_CTRL) ? 3 : 0) | (cpu_has(cpu, FEATURE_STIBP) ? 2 : 0) |
           (cpu_has(cpu, FEATURE_SSBD) ? 4 : 0);
}

bool cpu_spec_ctrl_valid(const struct cpu *cpu, u64 value)
{
    return spec_ctrl_bits(cpu) && !(value & ~spec_ctrl_bits(cpu));
}

static bool spec_ctrl_read(struct cpu *cpu, u32 msr, u64 *value)
{
    (void)msr;
    *value = cpu->sys.spec_ctrl;
    return spec_ctrl_bits(cpu) != 0;
}

static bool spec_ctrl_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (!cpu_spec_ctrl_valid(cpu, value))
        return false;
    cpu->sys.spec_ctrl = value;
    return true;
}

static bool flush_cmd_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)cpu, (void)msr;
    return !(value & ~1ull);               /* L1D_FLUSH: no cache to be flushed */
}

static bool pred_cmd_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)cpu, (void)msr;
    return !(value & ~1ull);               /* IBPB: no predictor whose state a guest could see */
}

/* A microcode image would be at this la: the processor looks at its header, finds it is not for this model and goes
 * on. */
static bool bios_update_trigger_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)cpu, (void)msr, (void)value;
    return true;
}

/* ---- machine check --------------------------------------------------------------------------------------------- */

static bool mcg_ctl_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (value && ~value)                   /* all ones or all zeros */
        return false;
    cpu->sys.mcg_ctl = value;
    return true;
}

static bool mc_bank_read(struct cpu *cpu, u32 msr, u64 *value)
{
    unsigned bank = (msr - 0x400) / 4;
    if (bank >= cpu_model_of(cpu)->mc_banks)
        return false;
    *value = cpu->sys.mc[bank][msr & 3];
    return true;
}

/* IA32_MCi_CTL takes anything; STATUS, ADDR and MISC take only zero. */
static bool mc_bank_write(struct cpu *cpu, u32 msr, u64 value)
{
    unsigned bank = (msr - 0x400) / 4;
    if (bank >= cpu_model_of(cpu)->mc_banks || (msr & 3 && value))
        return false;
    cpu->sys.mc[bank][msr & 3] = value;
    return true;
}

/* The threshold of corrected errors, and whether reaching it is an interrupt through LVT CMCI [SDM3 "Corrected Machine Check Error
 * Interrupt"]. No error ever happens here, so none is counted. */
#define MC_CTL2_BITS (0x7fffull | BIT(30))
static bool mc_ctl2_read(struct cpu *cpu, u32 msr, u64 *value)
{
    if (msr - 0x280 >= cpu_model_of(cpu)->mc_banks)
        return false;
    *value = cpu->sys.mc_ctl2[msr - 0x280];
    return true;
}

static bool mc_ctl2_write(struct cpu *cpu, u32 msr, u64 value)
{
    if (msr - 0x280 >= cpu_model_of(cpu)->mc_banks || value & ~MC_CTL2_BITS)
        return false;
    cpu->sys.mc_ctl2[msr - 0x280] = value;
    return true;
}

/* ---- memory types ---------------------------------------------------------------------------------------------- */

static bool mtrr_type_valid(unsigned type)
{
    return type == 0 || type == 1 || (type >= 4 && type <= 6);
}

bool cpu_pat_valid(u64 value)
{
    for (unsigned n = 0; n < 8; n++) {
        unsigned type = value >> (8 * n) & 0xff;
        if (!mtrr_type_valid(type) && type != 7)
            return false;
    }
    return true;
}

static bool pat_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (!cpu_pat_valid(value))
        return false;
    cpu->sys.pat = value;                  /* memory types change nothing in a machine without caches: no flush */
    return true;
}

/* Base or mask of a variable range; NULL: the processor has fewer. */
static u64 *mtrr_variable(struct cpu *cpu, u32 msr)
{
    unsigned n = (msr - 0x200) / 2;
    return n >= cpu_model_of(cpu)->mtrrs ? NULL : msr & 1 ? &cpu->sys.mtrr_physmask[n] : &cpu->sys.mtrr_physbase[n];
}

static bool mtrr_variable_read(struct cpu *cpu, u32 msr, u64 *value)
{
    const u64 *at = mtrr_variable(cpu, msr);
    if (at)
        *value = *at;
    return at;
}

static bool mtrr_variable_write(struct cpu *cpu, u32 msr, u64 value)
{
    u64 *at = mtrr_variable(cpu, msr), address = mask_low(cpu_physical_bits(cpu)) & ~0xfffull;
    bool valid = msr & 1 ? !(value & ~(address | 1u << 11)) : !(value & ~(address | 0xff)) && mtrr_type_valid(value & 0xff);
    if (!at || !valid)
        return false;
    *at = value;
    return true;
}

/* Index in cpu->sys.mtrr_fixed: 64K, 16K twice, 4K eight times. */
static unsigned mtrr_fixed_index(u32 msr)
{
    return msr == 0x250 ? 0 : msr < 0x260 ? 1 + (msr - 0x258) : 3 + (msr - 0x268);
}

static bool mtrr_fixed_read(struct cpu *cpu, u32 msr, u64 *value)
{
    *value = cpu->sys.mtrr_fixed[mtrr_fixed_index(msr)];
    return true;
}

static bool mtrr_fixed_write(struct cpu *cpu, u32 msr, u64 value)
{
    for (unsigned n = 0; n < 8; n++)
        if (!mtrr_type_valid(value >> (8 * n) & 0xff))
            return false;
    cpu->sys.mtrr_fixed[mtrr_fixed_index(msr)] = value;
    return true;
}

static bool mtrr_def_type_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (value & ~0xcffull || !mtrr_type_valid(value & 0xff))
        return false;
    cpu->sys.mtrr_def_type = value;
    return true;
}

/* [SDM3 "System-Management Range Registers (SMRR)"]: written in SMM alone. */
static bool smrr_read(struct cpu *cpu, u32 msr, u64 *value)
{
    *value = msr & 1 ? cpu->smm.smrr_mask : cpu->smm.smrr_base;
    return true;
}

static bool smrr_write(struct cpu *cpu, u32 msr, u64 value)
{
    bool mask = msr & 1;
    if (!cpu->smm.active || value & ~(mask ? 0xfffff800ull : 0xfffff0ffull) || (!mask && !mtrr_type_valid(value & 0xff)))
        return false;
    *(mask ? &cpu->smm.smrr_mask : &cpu->smm.smrr_base) = value;
    cpu_select_bus_view(cpu);
    return true;
}

/* ---- last-branch records --------------------------------------------------------------------------------------- */

/* MSR_LBR_SELECT (0x1c8) and MSR_LASTBRANCH_TOS (0x1c9) */
static bool lbr_read(struct cpu *cpu, u32 msr, u64 *value)
{
    *value = msr & 1 ? cpu->sys.lbr_tos : cpu->sys.lbr_select;
    return cpu_model_of(cpu)->lbr;
}

static bool lbr_write(struct cpu *cpu, u32 msr, u64 value)
{
    unsigned count = cpu_model_of(cpu)->lbr;
    if (!count || value >= (msr & 1 ? count : 0x400u))
        return false;
    *(msr & 1 ? &cpu->sys.lbr_tos : &cpu->sys.lbr_select) = value;
    return true;
}

/* The branch before the last exception or interrupt: read-only. */
static bool ler_read(struct cpu *cpu, u32 msr, u64 *value)
{
    *value = msr & 1 ? cpu->sys.ler_from : cpu->sys.ler_to;
    return cpu_model_of(cpu)->lbr;
}

static bool ler_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)cpu, (void)msr, (void)value;
    return false;
}

/* A record's source, its target, or, where processors with 32 records keep them apart, its flags and cycles; NULL: there is none. */
static u64 *lbr_record(struct cpu *cpu, u32 msr)
{
    unsigned n = msr & 31, count = cpu_model_of(cpu)->lbr;
    if (msr >= 0xdc0)
        return count == 32 ? &cpu->sys.lbr_info[n] : NULL;
    return n >= count ? NULL : msr < 0x6c0 ? &cpu->sys.lbr_from[n] : &cpu->sys.lbr_to[n];
}

static bool lbr_record_read(struct cpu *cpu, u32 msr, u64 *value)
{
    const u64 *at = lbr_record(cpu, msr);
    if (at)
        *value = *at;
    return at;
}

static bool lbr_record_write(struct cpu *cpu, u32 msr, u64 value)
{
    u64 *at = lbr_record(cpu, msr);
    if (at)
        *at = value;
    return at;
}

static bool debugctl_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (value & ~cpu_debugctl_bits(cpu))
        return false;
    cpu->sys.debugctl = value;
    cpu_mode_update_cpl(cpu);
    return true;
}

/* Faults of split locks (cpu/bus_lock.h). */
static bool test_ctrl_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (value & ~(u64)TEST_CTRL_SPLIT_LOCK_FAULT)
        return false;
    cpu->sys.test_ctrl = value;
    cpu_mode_update_cpl(cpu);
    return true;
}

/* ---- the rest -------------------------------------------------------------------------------------------------- */

static bool misc_enable_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    u64 writable = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_LIMIT_CPUID;
    if (cpu_has(cpu, FEATURE_MONITOR))
        writable |= MISC_ENABLE_MONITOR;
    if (cpu_has(cpu, FEATURE_NX))
        writable |= MISC_ENABLE_XD_DISABLE;
    if ((value ^ cpu->sys.misc_enable) & ~writable & ~(u64)(MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS | MISC_ENABLE_PERFMON))
        return false;
    /* The two "unavailable" bits and the one of the counters are read-only: what is written to them is ignored. */
    cpu->sys.misc_enable = (value & writable) | (cpu->sys.misc_enable & ~writable);
    return true;
}

static bool pkrs_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (value >> 32)
        return false;
    cpu->sys.pkrs = value;
    cpu_mode_update_cpl(cpu);
    return true;
}

/* ---- user interrupts ------------------------------------------------------------------------------------------- */

/* [SDM3 "User-Interrupt MSRs"]. UIRR counts from the next instruction of CPL 3 on. */
bool cpu_uintr_pd_valid(const struct cpu *cpu, u64 value) { return cpu_canonical_wide(cpu, value) && !(value & 0x3f); }
bool cpu_uintr_tt_valid(const struct cpu *cpu, u64 value) { return cpu_canonical_wide(cpu, value) && !(value & 0xe); }

static bool uintr_pd_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (!cpu_uintr_pd_valid(cpu, value))
        return false;
    cpu->sys.uintr_pd = value;
    return true;
}

static bool uintr_tt_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (!cpu_uintr_tt_valid(cpu, value))
        return false;
    cpu->sys.uintr_tt = value;
    return true;
}

/* ---- CET ------------------------------------------------------------------------------------------------------- */

bool cpu_cet_valid(const struct cpu *cpu, u64 value)
{
    u64 writable = 0;
    if (cpu_has(cpu, FEATURE_CET_SS))
        writable |= CET_SH_STK_EN | CET_WR_SHSTK_EN;
    if (cpu_has(cpu, FEATURE_CET_IBT))
        writable |= CET_ENDBR_EN | CET_LEG_IW_EN | CET_NO_TRACK_EN | CET_SUPPRESS_DIS | CET_SUPPRESS | CET_TRACKER | ~0xfffull;
    return !(value & ~writable) && cpu_canonical_wide(cpu, value) &&
           (value & (CET_SUPPRESS | CET_TRACKER)) != (CET_SUPPRESS | CET_TRACKER);
}

bool cpu_ssp_valid(const struct cpu *cpu, u64 value) { return !(value & 3) && cpu_canonical_wide(cpu, value); }

static bool cet_read(struct cpu *cpu, u32 msr, u64 *value)
{
    *value = msr & 2 ? cpu->sys.s_cet : cpu->sys.u_cet;
    return cpu_has(cpu, FEATURE_CET_SS) || cpu_has(cpu, FEATURE_CET_IBT);
}

static bool cet_write(struct cpu *cpu, u32 msr, u64 value)
{
    if (!(cpu_has(cpu, FEATURE_CET_SS) || cpu_has(cpu, FEATURE_CET_IBT)) || !cpu_cet_valid(cpu, value))
        return false;
    *(msr & 2 ? &cpu->sys.s_cet : &cpu->sys.u_cet) = value;
    cpu_mode_update_cpl(cpu);
    return true;
}

static bool pl_ssp_read(struct cpu *cpu, u32 msr, u64 *value)
{
    *value = cpu->sys.pl_ssp[msr & 3];
    return true;
}

static bool pl_ssp_write(struct cpu *cpu, u32 msr, u64 value)
{
    if (!cpu_ssp_valid(cpu, value))
        return false;
    cpu->sys.pl_ssp[msr & 3] = value;
    return true;
}

static bool ssp_table_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (!cpu_has(cpu, FEATURE_LM) || !cpu_canonical_wide(cpu, value))
        return false;
    cpu->sys.ssp_table = value;
    return true;
}

static bool xss_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    if (value & ~cpu_xss_allowed(cpu))
        return false;
    cpu->sys.xss = value;
    return true;
}

static bool efer_write(struct cpu *cpu, u32 msr, u64 value)
{
    (void)msr;
    return cpu_write_efer(cpu, value);
}

static bool segment_base_read(struct cpu *cpu, u32 msr, u64 *value)
{
    *value = cpu->seg.s[msr & 1 ? SEG_GS : SEG_FS].base;
    return true;
}

static bool segment_base_write(struct cpu *cpu, u32 msr, u64 value)
{
    if (!cpu_canonical_wide(cpu, value))
        return false;
    cpu->seg.s[msr & 1 ? SEG_GS : SEG_FS].base = value;
    return true;
}

static bool address_write(struct cpu *cpu, u64 *member, u64 value)
{
    if (!cpu_canonical_wide(cpu, value))
        return false;
    *member = value;
    return true;
}

static bool stored_write(u64 *member, u64 writable, u64 value)
{
    if (value & ~writable)
        return false;
    *member = value;
    return true;
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

#define HAS(feature) (FEATURE_##feature == FEATURE_BASE || cpu_has(cpu, FEATURE_##feature))

bool cpu_msr_read(struct cpu *cpu, u32 msr, u64 *value)
{
    switch (msr) {
#define MSR_STORED(number, name, feature, member, writable)                                                            \
    case number:                                                                                                       \
        *value = cpu->sys.member;                                                                                      \
        return HAS(feature);
#define MSR_ADDRESS(number, name, feature, member) MSR_STORED(number, name, feature, member, 0)
#define MSR_CONST(number, name, feature, constant)                                                                     \
    case number:                                                                                                       \
        *value = (constant);                                                                                           \
        return HAS(feature);
#define MSR_IGNORED(number, name, feature, constant) MSR_CONST(number, name, feature, constant)
#define MSR_CHECKED(number, name, feature, member) MSR_STORED(number, name, feature, member, 0)
#define MSR_RULED(number, name, feature, stem)                                                                         \
    case number:                                                                                                       \
        return HAS(feature) && stem##_read(cpu, msr, value);
#define MSR_RANGE(first, count, name, feature, stem)                                                                   \
    case first ... first + count - 1:                                                                                  \
        return HAS(feature) && stem##_read(cpu, msr, value);
#define MSR_WRITE_ONLY(number, name, feature, stem)
#include "cpu/msrs.def"
#undef MSR_STORED
#undef MSR_ADDRESS
#undef MSR_CHECKED
#undef MSR_CONST
#undef MSR_IGNORED
#undef MSR_RULED
#undef MSR_RANGE
#undef MSR_WRITE_ONLY
    default:
        return false;
    }
}

bool cpu_msr_write(struct cpu *cpu, u32 msr, u64 value)
{
    switch (msr) {
#define MSR_STORED(number, name, feature, member, writable)                                                            \
    case number:                                                                                                       \
        return HAS(feature) && stored_write(&cpu->sys.member, writable, value);
#define MSR_ADDRESS(number, name, feature, member)                                                                     \
    case number:                                                                                                       \
        return HAS(feature) && address_write(cpu, &cpu->sys.member, value);
#define MSR_CONST(number, name, feature, constant)
#define MSR_IGNORED(number, name, feature, constant)                                                                   \
    case number:                                                                                                       \
        return HAS(feature);
#define MSR_RULED(number, name, feature, stem)                                                                         \
    case number:                                                                                                       \
        return HAS(feature) && stem##_write(cpu, msr, value);
#define MSR_RANGE(first, count, name, feature, stem)                                                                   \
    case first ... first + count - 1:                                                                                  \
        return HAS(feature) && stem##_write(cpu, msr, value);
#define MSR_CHECKED(number, name, feature, member) MSR_RULED(number, name, feature, member)
#define MSR_WRITE_ONLY(number, name, feature, stem) MSR_RULED(number, name, feature, stem)
#include "cpu/msrs.def"
#undef MSR_STORED
#undef MSR_ADDRESS
#undef MSR_CHECKED
#undef MSR_CONST
#undef MSR_IGNORED
#undef MSR_RULED
#undef MSR_RANGE
#undef MSR_WRITE_ONLY
    default:
        return false;
    }
}

const char *cpu_msr_name(u32 msr)
{
    switch (msr) {
#define MSR_STORED(number, name, feature, member, writable) case number: return #name;
#define MSR_ADDRESS(number, name, feature, member) case number: return #name;
#define MSR_CHECKED(number, name, feature, member) case number: return #name;
#define MSR_CONST(number, name, feature, constant) case number: return #name;
#define MSR_IGNORED(number, name, feature, constant) case number: return #name;
#define MSR_RULED(number, name, feature, stem) case number: return #name;
#define MSR_RANGE(first, count, name, feature, stem) case first ... first + count - 1: return #name;
#define MSR_WRITE_ONLY(number, name, feature, stem) case number: return #name;
#include "cpu/msrs.def"
    default:
        return NULL;
    }
}
