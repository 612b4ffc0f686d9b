/* An L0 policy: what each level is offered, and who handles what. A policy is pure decision; the mechanism (frames,
 * exits, entries, suspended units) is the rest of vmx/ and the same for all.
 *
 * Kept true: a policy reads the CPU and answers; it changes nothing.
 */
#ifndef NESTOR_VMX_POLICY_H
#define NESTOR_VMX_POLICY_H

#include "cpu/state.h"

#include <stdio.h>

struct vmx_policy {
    const char *name;          /* as on the command line */
    const char *text;          /* one line for people */
    bool has_levels;           /* takes the parameter levels=N (cpu->policy_levels) */
    /* May L0 offer VMX to the hypervisor-to-be of frame k (k >= 1), L(k+1), whose parent has just shown it a CPUID
     * without VMX? The parent's VMCS is current in frame[k-1]. NULL: never. */
    bool (*offer)(const struct cpu *cpu, unsigned k);
    /* Who takes an instruction-class event (EXIT_*) that every frame in `wanting` (bit k = frame k, never 0) has
     * asked for. NULL: the innermost. */
    unsigned (*route_instruction)(const struct cpu *cpu, u32 reason, u32 wanting);
    /* … a physical event. NULL: the outermost. */
    unsigned (*route_physical)(const struct cpu *cpu, u32 reason, u32 wanting);
    /* Does L0 itself answer a RDMSR of `msr` by the running level, which L0 has offered VMX and which is in VMX
     * operation, though its hypervisor intercepts it? The answer is the register's running value. NULL: never. */
    bool (*answer_rdmsr)(const struct cpu *cpu, u32 msr);
};

extern const struct vmx_policy vmx_policy_hardware, vmx_policy_transparent;

/* Gives the CPU the policy that `text` names: NAME[,levels=N] ("hardware", "transparent,levels=5"). False, with a one-line
 * message naming the part and what was expected, when it is not understood. */
bool vmx_policy_set(struct cpu *cpu, const char *text, char *message, size_t message_size);
/* Prints the policies with their descriptions, for `nestor dump policies`. */
void vmx_policies_print(FILE *out);

#endif
