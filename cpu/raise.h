/* Recording exceptions. A handler that cannot go on says `return cpu_raise_gp(cpu, 0);`; delivery, interception by VMX and
 * double faults are cpu/event.c's business.
 */
#ifndef NESTOR_CPU_RAISE_H
#define NESTOR_CPU_RAISE_H

#include "cpu/state.h"

/* Records hardware exception `vector`, without or with an error code. Returns FLOW_EVENT for the handler to return. */
static inline enum flow cpu_raise(struct cpu *cpu, u8 vector)
{
    cpu->event.valid = 1;
    cpu->event.vector = vector;
    cpu->event.type = EVT_HARDWARE;
    cpu->event.has_error = 0;
    cpu->event.error = 0;
    cpu->event.insn_length = 0;
    cpu->event.payload = 0;
    cpu->event.injected = 0;
    cpu->event.attention |= ATT_EVENT;
    return FLOW_EVENT;
}

static inline enum flow cpu_raise_error(struct cpu *cpu, u8 vector, u32 error)
{
    cpu_raise(cpu, vector);
    cpu->event.has_error = 1;
    cpu->event.error = error;
    return FLOW_EVENT;
}

static inline enum flow cpu_raise_ud(struct cpu *cpu) { return cpu_raise(cpu, EXC_UD); }
static inline enum flow cpu_raise_nm(struct cpu *cpu) { return cpu_raise(cpu, EXC_NM); }
static inline enum flow cpu_raise_gp(struct cpu *cpu, u32 error) { return cpu_raise_error(cpu, EXC_GP, error); }
static inline enum flow cpu_raise_ss(struct cpu *cpu, u32 error) { return cpu_raise_error(cpu, EXC_SS, error); }
static inline enum flow cpu_raise_np(struct cpu *cpu, u32 error) { return cpu_raise_error(cpu, EXC_NP, error); }
static inline enum flow cpu_raise_ts(struct cpu *cpu, u32 error) { return cpu_raise_error(cpu, EXC_TS, error); }
static inline enum flow cpu_raise_pf(struct cpu *cpu, u64 la, u32 error)
{
    cpu_raise_error(cpu, EXC_PF, error);
    cpu->event.payload = la;
    return FLOW_EVENT;
}
/* A fault-like or trap-like #DB; `dr6` are the bits to merge into DR6. */
static inline enum flow cpu_raise_db(struct cpu *cpu, u64 dr6)
{
    cpu_raise(cpu, EXC_DB);
    cpu->event.payload = dr6;
    return FLOW_EVENT;
}

/* Turns cpu->fault (set by mmu/ or by an addressing check) into an event or a VM exit (cpu/fault.c). Returns what the handler must return. */
enum flow cpu_raise_fault(struct cpu *cpu);

#endif
