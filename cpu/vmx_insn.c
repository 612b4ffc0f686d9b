/* The VMX instructions' handlers: operands, and nothing else; what the instructions do is vmx/insn.c's [SDM3 "VMX
 * Instruction Reference"].
 *
 * The order is that of the SDM's operation sections: #UD, the VM exit of a guest, CPL, memory operands, then the
 * instruction's own failures.
 */
#include "cpu/insn.h"
#include "cpu/operand.h"
#include "cpu/system.h"
#include "vmx/insn.h"
#include "vmx/vmx.h"

/* `return` unless the instruction is to be carried out here. */
#define BEGIN(exit, qualification)                                                                                     \
    do {                                                                                                               \
        enum flow flow_ = vmx_insn_begin(cpu, in, exit, qualification);                                                \
        if (flow_ != FLOW_NEXT)                                                                                        \
            return flow_;                                                                                              \
    } while (0)

/* The displacement of a memory operand, for the exit qualification; 0 for register forms. */
static u64 displacement(const struct cpu *cpu, const struct insn *in)
{
    return in->flags & INSN_MEM ? system_displacement(cpu, in) : 0;
}

/* VMREAD, VMWRITE, INVEPT and INVVPID have operands of 64 bits in 64-bit mode and of 32 elsewhere, whatever the
 * prefixes. */
static unsigned operand_osz(const struct insn *in) { return in->flags & INSN_64 ? OSZ_64 : OSZ_32; }

static enum flow vmxon(struct cpu *cpu, const struct insn *in)
{
    u64 gpa;
    enum flow flow = vmx_insn_begin_vmxon(cpu, in, displacement(cpu, in));
    if (flow != FLOW_NEXT)
        return flow;
    TRY(rm_read64(cpu, in, &gpa));
    return vmx_insn_vmxon(cpu, in, gpa);
}
FAMILY_ONE(vmxon, vmxon)

static enum flow vmxoff(struct cpu *cpu, const struct insn *in)
{
    BEGIN(EXIT_VMXOFF, 0);
    return vmx_insn_vmxoff(cpu, in);
}
FAMILY_ONE(vmxoff, vmxoff)

static enum flow vmclear(struct cpu *cpu, const struct insn *in)
{
    u64 gpa;
    BEGIN(EXIT_VMCLEAR, displacement(cpu, in));
    TRY(rm_read64(cpu, in, &gpa));
    return vmx_insn_vmclear(cpu, in, gpa);
}
FAMILY_ONE(vmclear, vmclear)

static enum flow vmptrld(struct cpu *cpu, const struct insn *in)
{
    u64 gpa;
    BEGIN(EXIT_VMPTRLD, displacement(cpu, in));
    TRY(rm_read64(cpu, in, &gpa));
    return vmx_insn_vmptrld(cpu, in, gpa);
}
FAMILY_ONE(vmptrld, vmptrld)

static enum flow vmptrst(struct cpu *cpu, const struct insn *in)
{
    BEGIN(EXIT_VMPTRST, displacement(cpu, in));
    TRY(rm_write64(cpu, in, vmx_current_vmcs(cpu)));
    return vmx_succeed(cpu, in);
}
FAMILY_ONE(vmptrst, vmptrst)

static enum flow vmread(struct cpu *cpu, const struct insn *in)
{
    u64 value, encoding;
    unsigned osz = operand_osz(in);
    bool shadow;
    encoding = osz == OSZ_64 ? reg64(cpu, in->reg) : reg32(cpu, in->reg);
    enum flow flow = vmx_insn_begin_field(cpu, in, EXIT_VMREAD, displacement(cpu, in), encoding, &shadow);
    if (flow != FLOW_NEXT)
        return flow;
    flow = shadow ? vmx_insn_vmread_shadow(cpu, in, encoding, &value) : vmx_insn_vmread(cpu, in, encoding, &value);
    if (flow != FLOW_NEXT)
        return flow;
    TRY(rm_set(cpu, in, osz, value));
    return vmx_succeed_next(cpu);
}
static enum flow vmread_register(struct cpu *cpu, const struct insn *in)
{
    const u64 *field = in->flags & INSN_64 ? vmx_insn_vmread_plain(cpu, reg64(cpu, in->reg)) : NULL;
    if (UNLIKELY(field == NULL))
        return vmread(cpu, in);
    reg64_set(cpu, in->rm, *field);
    return FLOW_NEXT;
}
FAMILY_RM(vmread, vmread_register, vmread)

static enum flow vmwrite(struct cpu *cpu, const struct insn *in)
{
    u64 value, encoding;
    unsigned osz = operand_osz(in);
    bool shadow;
    encoding = osz == OSZ_64 ? reg64(cpu, in->reg) : reg32(cpu, in->reg);
    enum flow flow = vmx_insn_begin_field(cpu, in, EXIT_VMWRITE, displacement(cpu, in), encoding, &shadow);
    if (flow != FLOW_NEXT)
        return flow;
    TRY(rm_get(cpu, in, osz, &value));
    return shadow ? vmx_insn_vmwrite_shadow(cpu, in, encoding, value) : vmx_insn_vmwrite(cpu, in, encoding, value);
}
static enum flow vmwrite_register(struct cpu *cpu, const struct insn *in)
{
    bool done = in->flags & INSN_64 && vmx_insn_vmwrite_plain(cpu, reg64(cpu, in->reg), reg64(cpu, in->rm));
    return LIKELY(done) ? FLOW_NEXT : vmwrite(cpu, in);
}
FAMILY_RM(vmwrite, vmwrite_register, vmwrite)

static enum flow vmlaunch(struct cpu *cpu, const struct insn *in)
{
    BEGIN(EXIT_VMLAUNCH, 0);
    return vmx_insn_enter(cpu, in, true);
}
FAMILY_ONE(vmlaunch, vmlaunch)

static enum flow vmresume(struct cpu *cpu, const struct insn *in)
{
    BEGIN(EXIT_VMRESUME, 0);
    return vmx_insn_enter(cpu, in, false);
}
FAMILY_ONE(vmresume, vmresume)

static enum flow vmcall(struct cpu *cpu, const struct insn *in) { return vmx_insn_vmcall(cpu, in); }
FAMILY_ONE(vmcall, vmcall)

static enum flow vmfunc(struct cpu *cpu, const struct insn *in) { return vmx_insn_vmfunc(cpu, in); }
FAMILY_ONE(vmfunc, vmfunc)

/* INVEPT and INVVPID: the type in a register, a descriptor of 128 bits in memory. */
static enum flow invept(struct cpu *cpu, const struct insn *in)
{
    u8 descriptor[16];
    BEGIN(EXIT_INVEPT, displacement(cpu, in));
    u64 type = operand_osz(in) == OSZ_64 ? reg64(cpu, in->reg) : reg32(cpu, in->reg);
    TRY(rm_read_bytes(cpu, in, descriptor, sizeof descriptor));
    return vmx_insn_invept(cpu, in, type, load64(descriptor), load64(descriptor + 8));
}
FAMILY_ONE(invept, invept)

static enum flow invvpid(struct cpu *cpu, const struct insn *in)
{
    u8 descriptor[16];
    BEGIN(EXIT_INVVPID, displacement(cpu, in));
    u64 type = operand_osz(in) == OSZ_64 ? reg64(cpu, in->reg) : reg32(cpu, in->reg);
    TRY(rm_read_bytes(cpu, in, descriptor, sizeof descriptor));
    return vmx_insn_invvpid(cpu, in, type, load64(descriptor), load64(descriptor + 8));
}
FAMILY_ONE(invvpid, invvpid)
