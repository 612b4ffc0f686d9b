/* Performance counters: architectural performance monitoring, versions 1 to 5.
 *
 * Counters are exact: an instruction is counted when it has retired, by the counters that were enabled before it, at the
 * privilege level where it began. RDPMC and RDMSR see all instructions before themselves; the WRMSR that enables a
 * counter is not counted, the one that disables it is. An overflow raises its interrupt before the next instruction.
 * One dispatched instruction is one core cycle and one reference cycle, as for the TSC (docs/decisions.md); a
 * halted processor has none.
 *
 * Kept true: with no counter running, nothing is spent; while one runs, ATT_PMU is set and the run loop counts after each block. Engines count
 * cycles and instructions by the numbers of a stay in their code, which ends where a counter may overflow first; while a
 * counter counts branches, or with a threshold or an edge, the run loop has the blocks to itself.
 *
 * Follows [SDM3 "Performance Monitoring"], [SDM2 "RDPMC—Read Performance-Monitoring Counters"].
 */
#ifndef NESTOR_CPU_PMU_H
#define NESTOR_CPU_PMU_H

#include "cpu/state.h"

#define PMU_WIDTH 48u                      /* bits of every counter */
#define PMU_MAX_GENERAL 8u
#define PMU_MAX_FIXED 3u

enum { PMU_SELECT_USR = 1 << 16, PMU_SELECT_OS = 1 << 17, PMU_SELECT_EDGE = 1 << 18, PMU_SELECT_INT = 1 << 20,
       PMU_SELECT_ANY_THREAD = 1 << 21, PMU_SELECT_EN = 1 << 22, PMU_SELECT_INV = 1 << 23 };
#define PMU_STATUS_FROZEN BIT(59)          /* CTR_FRZ, from version 4 on */

/* ---- registers (floor 3, cpu/pmu.c) ---------------------------------------------------------------------------- */

/* What the model has; 0 without feature `pmu`. */
unsigned pmu_version(const struct cpu *cpu);
unsigned pmu_general(const struct cpu *cpu);
unsigned pmu_fixed(const struct cpu *cpu);

/* The MSRs of cpu/msrs.def whose stem is `pmu`. False: #GP(0). */
bool pmu_read(struct cpu *cpu, u32 msr, u64 *value);
bool pmu_write(struct cpu *cpu, u32 msr, u64 value);
/* The counter that RDPMC names by ECX. False: #GP(0). */
bool pmu_rdpmc(const struct cpu *cpu, u32 index, u64 *value);

/* Bits of IA32_PERF_GLOBAL_CTRL that may be set; 0 where the register does not exist. */
u64 pmu_global_ctrl_bits(const struct cpu *cpu);
/* Loads the register, as VM entry and VM exit do. Reserved bits are ignored. */
void pmu_load_global_ctrl(struct cpu *cpu, u64 value);
/* Power-on values. An INIT leaves all as it is. */
void pmu_reset(struct cpu *cpu);
/* Recomputes ATT_PMU after the registers were written wholesale. */
void pmu_update(struct cpu *cpu);
/* CPUID leaf 0AH. */
void pmu_leaf(const struct cpu *cpu, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx);

/* ---- counting (floor 5, cpu/pmu_count.c), while ATT_PMU is set ------------------------------------------------- */

struct block;
struct insn;
/* What counted before instructions that are about to run. */
struct pmu_moment {
    u32 running;               /* a bit a counter: the general ones, then the fixed ones */
    u32 depth;                 /* of VMX */
    u64 since;                 /* cpu->time.now, for those that count many */
    u32 select[PMU_MAX_GENERAL + PMU_MAX_FIXED];       /* as in IA32_PERFEVTSELx */
    u64 value[PMU_MAX_GENERAL + PMU_MAX_FIXED];
};
/* Notes the moment. Returns how many of the block's next `most` instructions may run before pmu_count(): those that read
 * or change counters run alone, and an overflow comes with the last. */
unsigned pmu_begin(struct cpu *cpu, const struct block *block, unsigned most, struct pmu_moment *moment);
/* Counts the first `ran` instructions of the block, which ran since; the last reported `flow`. */
void pmu_count(struct cpu *cpu, const struct block *block, unsigned ran, enum flow flow, const struct pmu_moment *moment);

/* For engines, which do not look at each instruction: notes the moment for a stay at one privilege level and depth. Returns how many
 * instructions may run before pmu_count_many(), so that an overflow comes with the last. 0: a counter counts what only
 * pmu_count() can see: branches, or with a threshold or an edge. */
u64 pmu_begin_many(struct cpu *cpu, struct pmu_moment *moment);
/* All instructions before this one must have been counted when its handler begins: it may read or change counters. */
bool pmu_runs_alone(const struct cpu *cpu, const struct insn *in);
/* Has the instruction at `rip` retired, whose handler reported `flow`? `depth`: of VMX before it. */
bool pmu_retired(const struct cpu *cpu, const struct insn *in, u64 rip, enum flow flow, unsigned depth);
/* Counts the instructions that ran since, up to cpu->time.now; all of them retired but for the last if not `last_retired`. */
void pmu_count_many(struct cpu *cpu, bool last_retired, const struct pmu_moment *moment);

#endif
