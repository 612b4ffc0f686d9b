/* What the files of system instructions share. */
#ifndef NESTOR_CPU_SYSTEM_H
#define NESTOR_CPU_SYSTEM_H

#include "cpu/insn.h"
#include "cpu/state.h"

/* Instructions that a secondary control must enable in VMX non-root operation (numbers are its bits), else they are
 * #UD before anything else [SDM3 "Secondary Processor-Based VM-Execution Controls"]. RDTSCP goes for RDPID too,
 * XSAVES for XRSTORS. */
enum system_gate { GATE_RDTSCP = 3, GATE_INVPCID = 12, GATE_XSAVES = 20, GATE_USER_WAIT = 26, GATE_PCONFIG = 27, GATE_ENCLV = 28 };

/* True when some entered frame leaves the instruction disabled for its guest. */
bool system_gate_closed(const struct cpu *cpu, enum system_gate gate);
/* The same for a tertiary control. */
enum system_gate_tertiary { GATE_MSR_LIST = 6 };
bool system_gate_tertiary_closed(const struct cpu *cpu, enum system_gate_tertiary gate);

/* The exit qualification of instructions whose information field tells the rest of the address: their displacement;
 * for RIP-relative ones the sum of it and the next instruction's RIP [SDM3 "Basic VM-Exit Information"]. */
u64 system_displacement(const struct cpu *cpu, const struct insn *in);

#endif
