/* Last-branch records [SDM3 "Last Branch, Interrupt, and Exception Recording"]: a ring of the branches taken lately, for processors with
 * IA32_DEBUGCTL.LBR and its MSRs (cpu_model.lbr entries). While it is on, instructions run one at a time; while it is off, nothing is paid.
 */
#ifndef NESTOR_CPU_LBR_H
#define NESTOR_CPU_LBR_H

#include "cpu/insn.h"
#include "cpu/state.h"

/* The branch `in` has been taken from `from` to the present RIP. */
void lbr_branch(struct cpu *cpu, const struct insn *in, u64 from);
/* An exception or interrupt has been delivered; `from` is where it came, RIP its handler. */
void lbr_event(struct cpu *cpu, u64 from);

#endif
