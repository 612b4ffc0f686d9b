/* Instructions about what firmware has left off: enclaves (ENCLS, ENCLU, ENCLV) and keys of memory encryption (PCONFIG).
 *
 * CPUID.SGX says that a processor could have enclaves, leaf 12H what firmware has made of it: nothing here, and IA32_FEATURE_CONTROL
 * is locked so (machine/machine.c). PCONFIG has leaf functions for the targets that leaf 1BH lists: none. What remains is the order of
 * their checks and, for a hypervisor, the controls and bitmaps that make them VM exits.
 *
 * Follows [SDM3 "ENCLS—Execute an Enclave System Function of Specified Leaf Number", "ENCLU…", "ENCLV…"], [SDM2 "PCONFIG—Platform
 * Configuration"], [SDM3 "Instructions That Cause VM Exits Conditionally"].
 */
#include "cpu/insn.h"
#include "cpu/mode.h"
#include "cpu/operand.h"
#include "cpu/system.h"
#include "vmx/vmx.h"

/* EAX of CPUID leaf 12H, subleaf 0: the leaf functions that there are. */
enum { SGX_SE1 = 1 << 0, SGX_OSS = 1 << 5 };

static bool enclaves_offer(struct cpu *cpu, u32 functions) { return cpu_cpuid(cpu, 0x12, 0).eax & functions; }

/* Leaf functions are told by EAX; a bitmap of the VMCS names those that exit. */
static bool leaf_exits(struct cpu *cpu, const struct insn *in, u32 reason)
{
    struct vmx_ask ask = {.reason = reason, .number = reg32(cpu, REG_RAX)};
    return UNLIKELY(vmx_nonroot(cpu)) && vmx_intercept(cpu, in, &ask);
}

static enum flow encls(struct cpu *cpu, const struct insn *in)
{
    if (!enclaves_offer(cpu, SGX_SE1) || !cpl0(cpu))
        return cpu_raise_ud(cpu);
    return leaf_exits(cpu, in, EXIT_ENCLS) ? FLOW_EXIT : cpu_raise_gp(cpu, 0);
}
FAMILY_ONE(encls, encls)

static enum flow enclu(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    return enclaves_offer(cpu, SGX_SE1) ? cpu_raise_gp(cpu, 0) : cpu_raise_ud(cpu);
}
FAMILY_ONE(enclu, enclu)

static enum flow enclv(struct cpu *cpu, const struct insn *in)
{
    if (!enclaves_offer(cpu, SGX_OSS) || system_gate_closed(cpu, GATE_ENCLV) || !cpl0(cpu))
        return cpu_raise_ud(cpu);
    return leaf_exits(cpu, in, EXIT_ENCLV) ? FLOW_EXIT : cpu_raise_gp(cpu, 0);
}
FAMILY_ONE(enclv, enclv)

static enum flow pconfig(struct cpu *cpu, const struct insn *in)
{
    if (system_gate_closed(cpu, GATE_PCONFIG) || !cpl0(cpu))
        return cpu_raise_ud(cpu);
    return leaf_exits(cpu, in, EXIT_PCONFIG) ? FLOW_EXIT : cpu_raise_gp(cpu, 0);
}
FAMILY_ONE(pconfig, pconfig)
