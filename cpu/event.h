/* Between instructions: delivery of exceptions and interrupts, priorities among concurrent events, activity states.
 *
 * Handlers only record events (cpu/raise.h); everything that happens at an instruction boundary is decided here, in the order of
 * [SDM3 "Priority Among Concurrent Events"]. The run loop calls cpu_service_events() when cpu->event.attention is not 0,
 * and cpu_after_step() after each instruction that it ran alone because of ATT_SHADOW, ATT_STEP or ATT_VMX.
 */
#ifndef NESTOR_CPU_EVENT_H
#define NESTOR_CPU_EVENT_H

#include "cpu/state.h"

/* What held before the instruction that runs alone; its handler may take bits back (cpu->event.step). */
enum {
    STEP_STI = BLOCK_STI,      /* it runs in the shadow of STI or … */
    STEP_MOV_SS = BLOCK_MOV_SS, /* … of a load of SS, which ends with it */
    STEP_TF = 1 << 4,          /* RFLAGS.TF was set: a single-step trap follows */
    STEP_RF = 1 << 5,          /* RFLAGS.RF was set: it is cleared */
};

/* Carries out what is due between two instructions. FLOW_NEXT: the CPU may run an instruction now. FLOW_END: it is not active (halted, shut
 * down, waiting for SIPI) and nothing is pending that wakes it. Anything else: many events in a row have been delivered without an
 * instruction; the loop lets one unit of time pass (so that a guest cannot stop the clock) and calls again. */
enum flow cpu_service_events(struct cpu *cpu);

/* The work behind an instruction that ran alone and reported `flow`: the end of a shadow, the single-step trap, RF, counts of the frames. `in` is the
 * instruction (NULL: it could not be fetched); cpu->block_rip is where it began. */
void cpu_after_step(struct cpu *cpu, enum flow flow, const struct insn *in);

/* The processor shuts down: after a triple fault, or because RSM found no state to go back to. */
void cpu_shut_down(struct cpu *cpu);

/* The board raises (level = true) or withdraws one of the lines ATT_INTR, ATT_NMI, ATT_INIT, ATT_SIPI, ATT_SMI, ATT_STOP. sipi_vector counts for ATT_SIPI.
 * The running block ends after the current instruction. */
void cpu_signal(struct cpu *cpu, u32 att_bit, u8 sipi_vector, bool level);

/* Records a software event (INT n, INT3, INTO: EVT_SOFTWARE_INT, EVT_SOFTWARE; INT1: EVT_PRIV_SOFTWARE) of an instruction of `length` bytes at rip. */
static inline enum flow cpu_raise_software(struct cpu *cpu, u8 vector, enum event_type type, unsigned length)
{
    cpu->event.valid = 1;
    cpu->event.vector = vector;
    cpu->event.type = (u8)type;
    cpu->event.has_error = 0;
    cpu->event.error = 0;
    cpu->event.insn_length = length;
    cpu->event.payload = 0;
    cpu->event.injected = 0;
    cpu->event.attention |= ATT_EVENT;
    return FLOW_EVENT;
}

/* Adds debug exceptions (DR6 bits) that come as a trap after the running instruction. */
static inline void cpu_pend_debug(struct cpu *cpu, u64 dr6)
{
    cpu->event.pending_debug |= dr6;
    cpu->event.attention |= ATT_PENDING_DB;
}

#define DR6_BLD BIT(11)            /* in DR6 itself 0 stands for a bus lock */
#define DR6_BD BIT(13)
#define DR6_BS BIT(14)
#define DR6_BT BIT(15)
#define DR7_GD BIT(13)

#endif
