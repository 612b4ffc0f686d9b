/* Control-flow Enforcement Technology [SDM1 "Control-flow Enforcement Technology (CET)"]: what transfers of control do to the shadow stack and
 * to the tracker of indirect branches. The instructions that manage shadow stacks are in cpu/cet.c, too.
 *
 * Near branches pay nothing while CET is off: blocks are decoded for the CET state of their mode (cpu_mode.cet, part of the code key), and
 * only with CET on do they get the handlers that cet_handler() names. Far transfers ask CR4.CET.
 *
 * The functions that return enum flow are the last of a transfer that can fail: when one gives FLOW_NEXT, SSP, IA32_PL3_SSP and the tracker
 * are those of the new place; otherwise no register has changed.
 */
#ifndef NESTOR_CPU_CET_H
#define NESTOR_CPU_CET_H

#include "cpu/insn.h"
#include "cpu/state.h"

/* Error codes of #CP. */
enum { CP_NEAR_RET = 1, CP_FAR_RET_IRET = 2, CP_ENDBRANCH = 3, CP_RSTORSSP = 4, CP_SETSSBSY = 5 };

/* Whether shadow stacks, or indirect-branch tracking, are on at this privilege level (of protected mode). */
bool cet_shadow_stack(const struct cpu *cpu, unsigned cpl);
bool cet_tracking(const struct cpu *cpu, unsigned cpl);

/* The handler of near CALL, RET and JMP to use in blocks for a mode with CET; others come back as they are (cpu/int_branch.c). */
insn_handler *cet_handler(insn_handler *plain);

/* The instruction `in` at la is about to run: if the tracker waits, it has to be the mode's ENDBR. */
enum flow cet_check_target(struct cpu *cpu, const struct insn *in, u64 la);
static inline enum flow cet_next(struct cpu *cpu, const struct insn *in, u64 la)
{
    return cpu->event.attention & ATT_ENDBRANCH ? cet_check_target(cpu, in, la) : FLOW_NEXT;
}

/* A near indirect branch has been made. */
void cet_track(struct cpu *cpu, const struct insn *in);

/* Shadow-stack accesses of 4 or 8 bytes at the running CPL; the top of the stack is cpu->sys.ssp. */
enum flow cet_read(struct cpu *cpu, u64 ssp, u64 *value, unsigned n);
enum flow cet_write(struct cpu *cpu, u64 ssp, u64 value, unsigned n);

/* Far CALL and event delivery to `cs` at new_cpl, to return to old_rip in the running CS; ist: the gate's interrupt stack, 0: none. */
enum flow cet_enter_far(struct cpu *cpu, const struct segment *cs, unsigned new_cpl, unsigned ist, u64 old_rip);
/* Far JMP to `cs` at the same level. */
enum flow cet_jump_far(struct cpu *cpu, const struct segment *cs);
/* RETF, IRET to rip in `cs`, whose selector (with its RPL, the new CPL) is as popped. */
enum flow cet_return_far(struct cpu *cpu, const struct segment *cs, u64 rip, bool iret);
/* IRET to virtual-8086 mode. */
enum flow cet_return_v8086(struct cpu *cpu);
/* SYSCALL, SYSENTER before CPL changes; SYSRET, SYSEXIT. They cannot fail. */
void cet_enter_fast(struct cpu *cpu);
void cet_return_fast(struct cpu *cpu);

/* Delivery of a user interrupt, to return to old_rip; UIRET to rip: CPL stays. */
enum flow cet_enter_user_interrupt(struct cpu *cpu, u64 old_rip);
enum flow cet_return_user_interrupt(struct cpu *cpu, u64 rip);

static inline enum flow cet_enter(struct cpu *cpu, const struct segment *cs, unsigned new_cpl, unsigned ist, u64 old_rip)
{
    return LIKELY(!(cpu->sys.cr4 & CR4_CET)) ? FLOW_NEXT : cet_enter_far(cpu, cs, new_cpl, ist, old_rip);
}
static inline enum flow cet_jump(struct cpu *cpu, const struct segment *cs)
{
    return LIKELY(!(cpu->sys.cr4 & CR4_CET)) ? FLOW_NEXT : cet_jump_far(cpu, cs);
}
static inline enum flow cet_return(struct cpu *cpu, const struct segment *cs, u64 rip, bool iret)
{
    return LIKELY(!(cpu->sys.cr4 & CR4_CET)) ? FLOW_NEXT : cet_return_far(cpu, cs, rip, iret);
}

/* Task switches [SDM3 "Task Switching"], in the order of their use: what is popped from the old task's shadow stack, and what becomes of it in
 * the new task. */
struct cet_task {
    bool active;               /* CR4.CET */
    bool iret, push, verify;   /* push: the old task's place goes onto the new shadow stack; verify: it was popped from the old one */
    bool has_ssp;              /* the new TSS is large enough for an SSP */
    u16 old_cs, tss;           /* tss: selector of the new one */
    u32 tss_ssp;               /* SSP as the new TSS has it */
    u64 old_lip, old_ssp, pl3_ssp;
    u64 frame[3];              /* SSP, LIP, CS */
    u64 new_ssp;
};
/* Before the point of no return. `iret`, `nested`: the kind of switch; new_cpl: of the new task. */
enum flow cet_task_leave(struct cpu *cpu, struct cet_task *t, bool iret, bool nested, unsigned new_cpl, u64 return_rip);
/* The new task's state is loaded, cpu->mode is its. */
enum flow cet_task_enter(struct cpu *cpu, const struct cet_task *t);

#endif
