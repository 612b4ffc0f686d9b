/* Hardware task switches [SDM3 "Task Management"]. */
#ifndef NESTOR_CPU_TASK_H
#define NESTOR_CPU_TASK_H

#include "cpu/insn.h"
#include "cpu/segment.h"

/* What asks for the switch; numbered as in the exit qualification for task switches. */
enum task_source { TASK_CALL = 0, TASK_IRET = 1, TASK_JMP = 2, TASK_GATE = 3 };

/* Switches to the task whose TSS `selector` names (never null). The checks of the gate and of privilege have been made; those of the TSS are made here, with
 * #GP for CALL, JMP and IDT gates' TSS selectors that are wrong, #TS for IRET's. `in` is NULL for gates in the IDT. `return_rip` and `rflags` are saved as the old task's
 * EIP and EFLAGS. has_error: `error` is pushed on the new task's stack. FLOW_END: the new task runs; the handler returns it (event delivery is done). */
enum flow task_switch(struct cpu *cpu, const struct insn *in, u16 selector, enum task_source source, u64 return_rip, u64 rflags,
                      bool has_error, u32 error);

/* IRET with NT: back to the task that the backlink names. */
enum flow task_return(struct cpu *cpu, const struct insn *in);

/* Reads the stack pointer of privilege level `cpl` from the current legacy TSS. #TS(TR) when it lies beyond the limit. */
enum flow task_read_stack(struct cpu *cpu, unsigned cpl, u16 *ss, u64 *sp);
/* The 64-bit TSS's RSP of privilege level `cpl`, or with ist != 0 (1-7) that interrupt stack. */
enum flow task_read_stack64(struct cpu *cpu, unsigned cpl, unsigned ist, u64 *rsp);

/* CR4.VME's software interrupt redirection bitmap: *redirect is true when INT `vector` goes to the 8086 program's own handler. */
enum flow task_interrupt_redirected(struct cpu *cpu, u8 vector, bool *redirect);

#endif
