/* The tables of vmx/, printed: `nestor dump fields|controls|checks|exits`. With a CPU, rows also say what exists on it.
 */
#ifndef NESTOR_VMX_DUMP_H
#define NESTOR_VMX_DUMP_H

#include <stdio.h>

struct cpu;
struct vmcs;

/* `cpu` NULL: the tables alone, without a processor's answer to what exists. */
void vmx_dump_fields(const struct cpu *cpu, FILE *out);
void vmx_dump_controls(const struct cpu *cpu, FILE *out);
void vmx_dump_checks(FILE *out);
void vmx_dump_exits(FILE *out);

/* The VMCS of a frame with every field that exists, for debuggers and failure reports. */
void vmx_dump_vmcs(const struct cpu *cpu, const struct vmcs *vmcs, FILE *out);

#endif
