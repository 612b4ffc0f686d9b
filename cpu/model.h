/* CPU models: what a named processor is, as data (cpu/models.def), and what follows from it and from the enabled
 * features: the extended states of XSAVE and the constants of system registers that more than one file needs.
 */
#ifndef NESTOR_CPU_MODEL_H
#define NESTOR_CPU_MODEL_H

#include "cpu/features.h"
#include "cpu/state.h"

#include <stdio.h>

/* Steps of VMX in time: a model offers the controls that vmx/generations.def dates to its generation or before it. */
enum cpu_generation { GENERATION_NEHALEM, GENERATION_WESTMERE, GENERATION_IVY_BRIDGE, GENERATION_HASWELL,
                      GENERATION_BROADWELL, GENERATION_SKYLAKE, GENERATION_ICELAKE, GENERATION_SAPPHIRE_RAPIDS,
                      GENERATION_NEWEST, GENERATION_COUNT };

struct cpu_cache {             /* of 64-byte lines; all zero: none */
    u8 type;                   /* as in CPUID leaf 4: 1 data, 2 instructions, 3 both */
    u8 level, ways, shared;    /* shared: by all cores, and inclusive of their caches */
    u32 sets;
};

struct cpu_model {
    const char *name;          /* as on the command line */
    const char *brand;         /* CPUID's brand string, at most 47 characters */
    const char *text;          /* one line for people */
    const char *features;      /* names of features.def, separated by commas: what the processor has */
    u32 signature;             /* CPUID.1:EAX: family, model, stepping */
    u32 microcode;             /* revision, IA32_BIOS_SIGN_ID[63:32] */
    u32 max_leaf;              /* highest basic CPUID leaf */
    u32 leaf_2[4];             /* cache and TLB descriptors; EDX is last */
    u8 physical_bits;          /* MAXPHYADDR */
    u8 mc_banks;               /* machine-check banks, at most 10 */
    u8 mtrrs;                  /* variable-range MTRR pairs, at most 10 */
    u8 lbr;                    /* last-branch records by IA32_DEBUGCTL.LBR: 0, 16 or 32 */
    u8 generation;             /* enum cpu_generation */
    struct { u8 version, general, fixed; } pmu;    /* with feature `pmu`: architectural version, counters (at most 8, 3) */
    struct cpu_cache cache[4];
    u64 arch_capabilities;     /* IA32_ARCH_CAPABILITIES */
    u64 perf_capabilities;     /* IA32_PERF_CAPABILITIES; bits 5:0: how last-branch records look */
};
#define PERF_CAP_FULL_WIDTH BIT(13)

/* The model of a CPU; the first model (`base`) before any was chosen. */
const struct cpu_model *cpu_model_of(const struct cpu *cpu);
/* The model of that name, of n characters. NULL: none. */
const struct cpu_model *cpu_model_named(const char *text, size_t n);
/* Prints the models, with what they have and what of the real processors is left out, and every feature with whether it
 * can be had, for `nestor dump cpus`. */
void cpu_models_print(FILE *out);
/* Prints every CPUID leaf of this CPU, for `nestor dump cpus MODEL`. */
void cpu_leaves_print(struct cpu *cpu, FILE *out);

/* ---- extended states [SDM1 "Managing State Using the XSAVE Feature Set"] --------------------------------------- */

enum { XSTATE_X87, XSTATE_SSE, XSTATE_AVX, XSTATE_OPMASK = 5, XSTATE_ZMM_HI256, XSTATE_HI16_ZMM, XSTATE_PT, XSTATE_PKRU,
       XSTATE_CET_U = 11, XSTATE_CET_S, XSTATE_UINTR = 14, XSTATE_COUNT };
#define XSAVE_LEGACY 512u          /* bytes of the legacy region */
#define XSAVE_HEADER 64u

struct xstate_component {
    u16 feature;               /* enum cpu_feature that brings it */
    u16 size, offset;          /* bytes; the place in the standard format (0: none, supervisor component) */
    u8 exists, supervisor, aligned;   /* aligned: to 64 bytes in the compacted format */
};
extern const struct xstate_component xstate_components[XSTATE_COUNT];

/* State components that XCR0 and IA32_XSS may enable on this CPU. */
u64 cpu_xcr0_allowed(const struct cpu *cpu);
u64 cpu_xss_allowed(const struct cpu *cpu);
/* True when XSETBV takes this value for XCR0. */
bool cpu_xcr0_valid(const struct cpu *cpu, u64 value);
/* Bytes of an XSAVE area that holds the components in `mask`, legacy region and header included. */
u32 xsave_size_standard(u64 mask);
u32 xsave_size_compacted(u64 mask);

/* ---- constants of system registers ----------------------------------------------------------------------------- */

/* The TSC, the core crystal clock and the local APIC's timer all run at this rate: one instruction is one tick is one
 * ns. */
#define CPU_TSC_HZ 1000000000u
#define DR6_FIXED 0xffff0ff0ull    /* bits that read as 1; bit 11 may be written where there is bus-lock detection */
#define DR7_FIXED 0x400ull
/* DR6 as it stands once `value` was written to it. */
static inline u64 cpu_dr6_value(const struct cpu *cpu, u64 value)
{
    u64 writable = 0xe00f | (cpu_has(cpu, FEATURE_BUS_LOCK_DETECT) ? BIT(11) : 0);
    return (value & writable) | (DR6_FIXED & ~writable);
}
#define APIC_BASE_DEFAULT 0xfee00000ull
enum { APIC_BASE_BSP = 1 << 8, APIC_BASE_EXTD = 1 << 10, APIC_BASE_ENABLE = 1 << 11 };
enum { MISC_ENABLE_FAST_STRINGS = 1 << 0, MISC_ENABLE_PERFMON = 1 << 7, MISC_ENABLE_NO_BTS = 1 << 11, MISC_ENABLE_NO_PEBS = 1 << 12,
       MISC_ENABLE_MONITOR = 1 << 18, MISC_ENABLE_LIMIT_CPUID = 1 << 22 };
#define MISC_ENABLE_XD_DISABLE (1ull << 34)
enum { DEBUGCTL_LBR = 1 << 0, DEBUGCTL_BTF = 1 << 1, DEBUGCTL_BUS_LOCK_DETECT = 1 << 2, DEBUGCTL_FREEZE_LBRS_ON_PMI = 1 << 11,
       DEBUGCTL_FREEZE_PERFMON_ON_PMI = 1 << 12 };
enum { TEST_CTRL_SPLIT_LOCK_FAULT = 1 << 29 };     /* MSR_TEST_CTRL */
enum { CORE_CAP_SPLIT_LOCK_FAULT = 1 << 5 };       /* IA32_CORE_CAPABILITIES */
/* The bits of IA32_DEBUGCTL that this CPU lets be set. */
static inline u64 cpu_debugctl_bits(const struct cpu *cpu)
{
    return DEBUGCTL_BTF | (cpu_model_of(cpu)->lbr ? DEBUGCTL_LBR | DEBUGCTL_FREEZE_LBRS_ON_PMI : 0) |
           (cpu_has(cpu, FEATURE_PMU) ? DEBUGCTL_FREEZE_PERFMON_ON_PMI : 0) |
           (cpu_has(cpu, FEATURE_BUS_LOCK_DETECT) ? DEBUGCTL_BUS_LOCK_DETECT : 0);
}
/* IA32_U_CET and IA32_S_CET; bits 63:12 are the base of the legacy code page bitmap. */
enum { CET_SH_STK_EN = 1 << 0, CET_WR_SHSTK_EN = 1 << 1, CET_ENDBR_EN = 1 << 2, CET_LEG_IW_EN = 1 << 3,
       CET_NO_TRACK_EN = 1 << 4, CET_SUPPRESS_DIS = 1 << 5, CET_SUPPRESS = 1 << 10, CET_TRACKER = 1 << 11 };

#endif
