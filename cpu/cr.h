/* What cpu/cr.c offers beside the writes declared in cpu/mode.h. */
#ifndef NESTOR_CPU_CR_H
#define NESTOR_CPU_CR_H

#include "cpu/base.h"

struct cpu;

/* WRMSR to IA32_EFER [SDM3 "IA32_EFER"]: LMA is read-only (ignored), LME cannot change while paging is on. False:
 * #GP(0). */
bool cpu_write_efer(struct cpu *cpu, u64 value);

/* Sets PKRU (WRPKRU, XRSTOR) and what depends on it. */
void cpu_write_pkru(struct cpu *cpu, u32 value);

#endif
