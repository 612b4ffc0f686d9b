/* Memory accesses that could not be made become exceptions or VM exits here, in one place for all handlers.
 *
 * mmu/ and the addressing checks describe what is wrong in cpu->fault and raise nothing. Kept true: after cpu_raise_fault() the description is
 * used up, so a later fault never inherits a member of an earlier one.
 */
#include "cpu/raise.h"
#include "vmx/vmx.h"

enum flow cpu_raise_fault(struct cpu *cpu)
{
    u32 kind = cpu->fault.kind;
    bool stack = cpu->fault.stack_segment;
    cpu->fault.kind = FAULT_NONE;
    cpu->fault.stack_segment = 0;
    switch (kind) {
    case FAULT_PAGE:
        return cpu_raise_pf(cpu, cpu->fault.la, cpu->fault.error);
    case FAULT_NONCANONICAL:
    case FAULT_GP0:
        return stack ? cpu_raise_ss(cpu, 0) : cpu_raise_gp(cpu, 0);
    case FAULT_ALIGNMENT:
        return cpu_raise_error(cpu, EXC_AC, 0);
    case FAULT_EPT_VIOLATION:
    case FAULT_EPT_MISCONFIG:
    case FAULT_APIC_ACCESS:
    case FAULT_EPT_LOG_FULL:
    case FAULT_SPP: {
        cpu->fault.kind = kind;
        enum flow flow = vmx_memory_fault(cpu);
        cpu->fault.kind = FAULT_NONE;
        return flow;
    }
    case FAULT_DONE:
        return cpu->event.valid ? FLOW_EVENT : FLOW_EXIT;
    default:
        return cpu_raise_gp(cpu, 0);
    }
}
