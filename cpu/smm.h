/* System-management mode under the default treatment of SMIs [SDM3 "System Management Mode"]: what an SMI does, and RSM.
 *
 * The save map is Intel's for processors with Intel 64 (revision 30101h), 400h bytes below SMBASE + 10000h. What the manual calls
 * reserved holds the hidden parts of the segment registers and the PDPTEs; RSM checks what it takes from there.
 */
#ifndef NESTOR_CPU_SMM_H
#define NESTOR_CPU_SMM_H

#include "cpu/insn.h"
#include "cpu/state.h"

/* I/O state field of the save map: there was an I/O instruction; its size, its kind, its port [SDM3 "I/O State Implementation"]. */
enum { SMM_IO = 1 << 0, SMM_IO_SIZE_SHIFT = 1, SMM_IO_IN = 1 << 4, SMM_IO_STRING = 1 << 5, SMM_IO_REP = 1 << 6,
       SMM_IO_IMMEDIATE = 1 << 7, SMM_IO_PORT_SHIFT = 16 };

/* An I/O instruction that is about to retire: if its access has raised an SMI, that SMI will know it. `state`: the I/O state field;
 * the rest: registers as they were before the instruction, or before the iteration of one that is repeated. */
static inline void smm_note_io(struct cpu *cpu, u32 state, u64 rip, u64 rcx, u64 rsi, u64 rdi, u64 la)
{
    struct cpu_smm *smm = &cpu->smm;
    if (LIKELY(!(cpu->event.attention & ATT_SMI)) || cpu->event.blocking & BLOCK_SMI)
        return;
    smm->io_state = state;
    smm->io_rip = rip;
    smm->io_rcx = rcx;
    smm->io_rsi = rsi;
    smm->io_rdi = rdi;
    smm->io_la = la;
}

/* Only the boundary behind an I/O instruction belongs to it: an SMI that comes later is not its. (In SMM RSM may still need to know.) */
static inline void smm_forget_io(struct cpu *cpu)
{
    if (!cpu->smm.active)
        cpu->smm.io_state = 0;
}

/* An SMI is pending at an instruction boundary. FLOW_NEXT: it is blocked and stays pending; else it was taken. */
enum flow smm_take_smi(struct cpu *cpu);

#endif
