/* What cpu/msr.c offers beside cpu_msr_read() and cpu_msr_write() (cpu/mode.h). */
#ifndef NESTOR_CPU_MSR_H
#define NESTOR_CPU_MSR_H

#include "cpu/base.h"

struct cpu;

enum { MSR_IA32_TIME_STAMP_COUNTER = 0x10, MSR_IA32_SPEC_CTRL = 0x48, MSR_IA32_BIOS_SIGN_ID = 0x8b, MSR_IA32_DEBUGCTL = 0x1d9,
       MSR_IA32_TSC_DEADLINE = 0x6e0 };

/* The SDM's name of an MSR in cpu/msrs.def, NULL for others (those of VMX are vmx/'s). Ranges share one name. */
const char *cpu_msr_name(u32 msr);
/* Every entry of an IA32_PAT value is a memory type (VM entry checks the same). */
bool cpu_pat_valid(u64 value);
/* IA32_SPEC_CTRL exists on this CPU and may have this value. */
bool cpu_spec_ctrl_valid(const struct cpu *cpu, u64 value);
/* Values that IA32_U_CET and IA32_S_CET, or an SSP, may have on this CPU. */
bool cpu_cet_valid(const struct cpu *cpu, u64 value);
bool cpu_ssp_valid(const struct cpu *cpu, u64 value);
/* Values that the MSRs of user interrupts may have: IA32_UINTR_MISC's bits; IA32_UINTR_PD, IA32_UINTR_TT. */
#define UINTR_MISC_BITS 0xffffffffffull
bool cpu_uintr_pd_valid(const struct cpu *cpu, u64 value);
bool cpu_uintr_tt_valid(const struct cpu *cpu, u64 value);
/* Canonical for the widest linear addresses that the model has, whatever CR4.LA57 says: the rule of MSRs, segment and
 * descriptor-table bases and of INVLPG & co. */
bool cpu_canonical_wide(const struct cpu *cpu, u64 la);

#endif
