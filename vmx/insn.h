/* The VMX instructions behind their operands: cpu/vmx_insn.c reads operands and calls these.
 *
 * Every function returns what the handler must return. A VMX instruction that fails says so in RFLAGS and, with a
 * current VMCS, in its VM-instruction error field [SDM3 "Conventions"].
 */
#ifndef NESTOR_VMX_INSN_H
#define NESTOR_VMX_INSN_H

#include "cpu/insn.h"
#include "cpu/state.h"
#include "vmx/errors.h"

/* What comes first in each but VMXON: #UD, the VM exit of a guest (`reason` EXIT_*, `qualification` as the SDM has
 * it), CPL. FLOW_NEXT: L0 runs the instruction on frame[depth]. */
enum flow vmx_insn_begin(struct cpu *cpu, const struct insn *in, u32 reason, u64 qualification);
/* The same for VMREAD and VMWRITE of the field `encoding`, which a guest may be given on a shadow VMCS. *shadow: the
 * instruction is to be carried out there. */
enum flow vmx_insn_begin_field(struct cpu *cpu, const struct insn *in, u32 reason, u64 qualification, u64 encoding,
                               bool *shadow);
/* The same for VMXON. */
enum flow vmx_insn_begin_vmxon(struct cpu *cpu, const struct insn *in, u64 qualification);

/* Operands `gpa` are physical addresses in the space of the running level. */
enum flow vmx_insn_vmxon(struct cpu *cpu, const struct insn *in, u64 gpa);
enum flow vmx_insn_vmxoff(struct cpu *cpu, const struct insn *in);
enum flow vmx_insn_vmclear(struct cpu *cpu, const struct insn *in, u64 gpa);
enum flow vmx_insn_vmptrld(struct cpu *cpu, const struct insn *in, u64 gpa);
/* VMREAD in two steps, for its destination may fault: FLOW_NEXT, the value is in *value; the caller stores it and
 * answers with vmx_succeed_next(). Else it failed, and the result is what the handler returns. */
enum flow vmx_insn_vmread(struct cpu *cpu, const struct insn *in, u64 encoding, u64 *value);
enum flow vmx_insn_vmwrite(struct cpu *cpu, const struct insn *in, u64 encoding, u64 value);
/* Both steps of VMREAD but for storing the value, and all of VMWRITE, where nothing stands against it, nobody watches and the field is one that
 * every CPU has. NULL, false: nothing was done. */
const u64 *vmx_insn_vmread_plain(struct cpu *cpu, u64 encoding);
bool vmx_insn_vmwrite_plain(struct cpu *cpu, u64 encoding, u64 value);
/* … on the shadow VMCS of the innermost frame. */
enum flow vmx_insn_vmread_shadow(struct cpu *cpu, const struct insn *in, u64 encoding, u64 *value);
enum flow vmx_insn_vmwrite_shadow(struct cpu *cpu, const struct insn *in, u64 encoding, u64 value);
enum flow vmx_insn_enter(struct cpu *cpu, const struct insn *in, bool launch);
enum flow vmx_insn_invept(struct cpu *cpu, const struct insn *in, u64 type, u64 eptp, u64 reserved);
enum flow vmx_insn_invvpid(struct cpu *cpu, const struct insn *in, u64 type, u64 vpid, u64 la);
/* VMCALL and VMFUNC have their own order of checks. */
enum flow vmx_insn_vmcall(struct cpu *cpu, const struct insn *in);
enum flow vmx_insn_vmfunc(struct cpu *cpu, const struct insn *in);
/* The current-VMCS pointer of the running level, for VMPTRST. */
u64 vmx_current_vmcs(const struct cpu *cpu);

/* VMsucceed, VMfailInvalid, VMfail (VMfailValid with a current VMCS); the instruction ends. */
enum flow vmx_succeed(struct cpu *cpu, const struct insn *in);
/* VMsucceed of an instruction that does not end its block (VMREAD, VMWRITE). */
enum flow vmx_succeed_next(struct cpu *cpu);
enum flow vmx_fail_invalid(struct cpu *cpu, const struct insn *in);
enum flow vmx_fail(struct cpu *cpu, const struct insn *in, unsigned error);

#endif
