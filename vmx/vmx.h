/* VMX as the CPU's floor 5 sees it. vmx/ (floor 4) decides and carries out VM exits and entries; it never delivers
 * events through the IDT: VM entry leaves an injected event in cpu->event (valid, injected), and cpu/event.c delivers
 * it.
 *
 * A VM exit is carried out at once: when a function here says that it exited, all state is already the host state of
 * the hypervisor that got it.
 */
#ifndef NESTOR_VMX_VMX_H
#define NESTOR_VMX_VMX_H

#include "cpu/state.h"

struct insn;

/* Exit reasons: enum vmx_exit_reason { EXIT_EXCEPTION_NMI = 0, … } from vmx/exits.def. EXIT_NONE = 0xffff. */
#include "vmx/reasons.h"

static inline bool vmx_nonroot(const struct cpu *cpu) { return cpu->vmx.depth != 0; }

/* What an instruction wants to do, for the frames to look at. Only what the reason needs is read. */
struct vmx_ask {
    u32 reason;                /* enum vmx_exit_reason */
    u64 qualification;         /* exit qualification, complete as the SDM defines it for that reason */
    u32 number;                /* MSR number (RDMSR, WRMSR), port (I/O), CR or DR number, leaf function (ENCLS …) */
    u32 size;                  /* bytes, I/O */
    /* the value being written (CR, MSR; LMSW, CLTS: the whole new CR0), XSAVES, XRSTORS: the supervisor components
     * asked for */
    u64 value;
    /* linear address of the memory operand: INS, OUTS, LMSW from memory (guest-linear address field) */
    u64 la;
};

/* An instruction that VMX may intercept asks here, after #UD and the privilege checks that come first and before any
 * effect [SDM3 "Relative Priority of Faults and VM Exits"]. True: a VM exit has been carried out; the handler
 * returns FLOW_EXIT. Call only when vmx_nonroot(). */
bool vmx_intercept(struct cpu *cpu, const struct insn *in, const struct vmx_ask *ask);
/* The same for reasons that need nothing else: CPUID, HLT, INVD, RDTSC, RDPMC, PAUSE, WBINVD, XSETBV … */
static inline bool vmx_intercept_simple(struct cpu *cpu, const struct insn *in, u32 reason)
{
    struct vmx_ask ask = {.reason = reason};
    return UNLIKELY(vmx_nonroot(cpu)) && vmx_intercept(cpu, in, &ask);
}

/* What guest software sees and changes through the innermost frame's masks, at depth > 0 (at depth 0: the registers
 * themselves). */
u64 vmx_guest_cr0(const struct cpu *cpu);               /* MOV from CR0, SMSW, with mask and read shadow applied */
u64 vmx_guest_cr4(const struct cpu *cpu);
/* Merges a value that guest software writes with the bits the hypervisor owns (when no exit was taken). */
u64 vmx_merge_cr0(const struct cpu *cpu, u64 value);
u64 vmx_merge_cr4(const struct cpu *cpu, u64 value);
/* Software's MOV to CR4 of `value` (as it gave it) has succeeded at depth > 0: a level that L0 offers VMX keeps its
 * own VMXE. */
void vmx_note_cr4(struct cpu *cpu, u64 value);
/* Bits that VMX operation fixes in CR0/CR4 while in VMX operation (root or non-root; unrestricted guest considered):
 * cpu_write_cr0/4's caller raises #GP(0) when (value & must_be_0) or (~value & must_be_1). */
bool vmx_cr0_fixed_ok(const struct cpu *cpu, u64 value);
bool vmx_cr4_fixed_ok(const struct cpu *cpu, u64 value);

/* TSC as the running level's RDTSC shows it: `tsc` (cpu_tsc) with every entered frame's scaling and offset. */
u64 vmx_scale_tsc(const struct cpu *cpu, u64 tsc);

/* CR8/TPR of the running level: true when a frame virtualises it (TPR shadow); then it is read or written there. An
 * exit that a write leads to (TPR below threshold) is made behind the instruction. */
bool vmx_tpr_read(struct cpu *cpu, u8 *tpr);
bool vmx_tpr_write(struct cpu *cpu, u8 tpr);

/* SENDUIPI in non-root operation sends the notification `vector` to `ndst`, as a descriptor names it. True: a frame virtualises the local APIC
 * that it goes to; false: it is the board's. */
bool vmx_send_user_notification(struct cpu *cpu, u8 vector, u32 ndst);

/* An access to a port, IN or OUT as part of INS or OUTS, that an outer hypervisor has carried out already for the running
 * instruction: *value is what was read. False: it is to be made. At depth > 0. */
bool vmx_carried_port(const struct cpu *cpu, u16 port, unsigned size, bool input, u32 *value);
/* The next instruction has accesses that were carried out for it: nothing may come before it. */
static inline bool vmx_carrying(const struct cpu *cpu) { return UNLIKELY(cpu->vmx.carried.count != 0); }

/* An exception or software event is about to be delivered (cpu->event filled, not injected). True: it caused a VM
 * exit. Also called when delivering a nested fault: event.delivering and d_* tell what was in progress
 * (IDT-vectoring information). */
bool vmx_intercept_event(struct cpu *cpu);
/* Triple fault in non-root operation. True: exited. */
bool vmx_triple_fault(struct cpu *cpu);
/* A task switch is about to be made by the given source (0 CALL, 1 IRET, 2 JMP, 3 task gate in IDT). True: exited. */
bool vmx_task_switch(struct cpu *cpu, const struct insn *in, u16 selector, unsigned source);
/* Physical events while depth > 0: who takes them. VMX_EVENT_GUEST: deliver as usual to the running guest.
 * VMX_EVENT_EXITED: an exit was carried out. VMX_EVENT_BLOCKED: stays pending. */
enum vmx_event_result { VMX_EVENT_GUEST, VMX_EVENT_EXITED, VMX_EVENT_BLOCKED,
                        VMX_EVENT_TAKEN /* a notification of posted interrupts: it is over */ };
/* decides by itself on RFLAGS.IF and blocking of the frames concerned */
enum vmx_event_result vmx_external_interrupt(struct cpu *cpu);
enum vmx_event_result vmx_nmi(struct cpu *cpu);
enum vmx_event_result vmx_init(struct cpu *cpu);
enum vmx_event_result vmx_sipi(struct cpu *cpu, u8 vector);

/* Between instructions, when ATT_VMX is set: things that frames armed, in their order of priority. `stage` says
 * which part of the priority list the caller is at (cpu/event.c [SDM3 "Priority Among Concurrent Events"]). True: a
 * VM exit was carried out. */
enum vmx_stage { VMX_STAGE_BUS_LOCK /* before INIT and SMIs */, VMX_STAGE_TPR_MTF /* exits due to the virtual APIC, MTF: before debug traps */, VMX_STAGE_TIMER /* before NMI */, VMX_STAGE_NMI_WINDOW,
                VMX_STAGE_INTERRUPT_WINDOW };
bool vmx_attention(struct cpu *cpu, enum vmx_stage stage);
/* The running instruction has locked the bus: VM exits of the frames that detect it are due behind it. */
void vmx_note_bus_lock(struct cpu *cpu);
/* When ATT_VIRTUAL_INTR is set, between NMIs and external interrupts: a recognised virtual interrupt is delivered, or goes
 * to the frame that exits for it. True: something was done. */
bool vmx_virtual_interrupt(struct cpu *cpu);
/* Events have been delivered for a while without an instruction between them [SDM3 "Instruction Timeout"]. True: a VM
 * exit was carried out. vmx_note_progress(): an instruction follows. */
bool vmx_no_progress(struct cpu *cpu);
static inline void vmx_note_progress(struct cpu *cpu) { cpu->vmx.stuck_since = 0; }
/* Called by the run loop after one instruction was executed (or an event delivered) while an MTF or similar count is
 * armed. */
void vmx_note_instruction(struct cpu *cpu);
/* The machine instruction count at which an armed preemption timer (of any entered frame) expires: the loop must
 * stop there. ~0: none is armed, or one has expired already; then ATT_VMX is set and the exit comes before the next
 * instruction. cpu->time.now is up to date. */
u64 vmx_next_deadline(struct cpu *cpu);

/* A memory fault that belongs to VMX (cpu->fault: EPT violation, misconfiguration, APIC access, PML full): carries
 * out the exit. Always exits. */
void vmx_memory_exit(struct cpu *cpu);
/* The same for an access of the running instruction: an EPT violation may be a virtualization exception instead
 * [SDM3 "Virtualization Exceptions"]. FLOW_EVENT: #VE was raised; FLOW_EXIT: an exit was carried out. */
enum flow vmx_memory_fault(struct cpu *cpu);

/* SMM under the default treatment [SDM3 "Default Treatment of SMIs and SMM with VMX Operation and SMX Operation"]. An SMI: the processor
 * leaves VMX operation, all frames stay as they are. */
void vmx_smm_leave(struct cpu *cpu);
/* The EPT pointer of the running guest, for the save map. False: there is none. */
bool vmx_smm_eptp(const struct cpu *cpu, u64 *eptp);
/* Under the dual-monitor treatment an SMI is a VM exit, which was carried out: true. */
bool vmx_smi(struct cpu *cpu);
/* … and comes only behind the exit of a virtual APIC that is due already. */
bool vmx_smi_waits(const struct cpu *cpu);
/* RSM, with registers restored and SMM left: back into VMX operation, if the SMI came there. … and, when the mode has been updated,
 * what the frames armed. */
void vmx_smm_return(struct cpu *cpu);
void vmx_smm_resume(struct cpu *cpu);
/* Blocking and activity from now on; nothing is pending but lines. */
void vmx_smm_reset_events(struct cpu *cpu, u8 blocking, u8 activity);

/* The VMX instructions' rows are in cpu/insn_vmx.def; their handlers live in cpu/vmx_insn.c (floor 5) and call
 * these. */
/* VMX capability MSRs and IA32_FEATURE_CONTROL; *known false: not ours. False: #GP(0) */
bool vmx_msr_read(struct cpu *cpu, u32 msr, u64 *value, bool *known);
bool vmx_msr_write(struct cpu *cpu, u32 msr, u64 value, bool *known);
/* IRET completed in non-root operation etc.: NMI blocking bookkeeping with virtual NMIs. */
void vmx_iret_unblock_nmi(struct cpu *cpu);
/* A CPUID result about to be given to software (policies may change what a level is offered). */
void vmx_filter_cpuid(struct cpu *cpu, u32 leaf, u32 subleaf, u32 regs[4]);

#endif
