/* Inside vmx/: how its files see the frames. (What the rest of the CPU may call is vmx/vmx.h.)
 *
 * A frame's index k says whose it is: frame[k] is the VMX context of hypervisor L(k+1), its guest is L(k+2). The
 * structures that its VMCS names by physical address (bitmaps, MSR areas, the VMCS itself) lie in L(k+1)'s space, which
 * frames 0..k-1 translate: "at level k".
 *
 * Kept true: frames 0..depth-1 are entered. What stands in frame[k+1] and deeper belongs to the guest of frame k's
 * current VMCS and goes with it (vmx/region.c). A unit is valid only in a frame that is not entered, or whose guest is
 * being resumed.
 */
#ifndef NESTOR_VMX_FRAME_H
#define NESTOR_VMX_FRAME_H

#include "cpu/insn.h"
#include "cpu/mode.h"
#include "mmu/bus.h"
#include "vmx/controls.h"
#include "vmx/policy.h"
#include "vmx/stats.h"
#include "vmx/vmx.h"

/* ---- reading controls: vmcs_pin(v, NMI_EXITING) … ---------------------------------------------------------------- */

#define vmcs_pin(v, name) (((v)->pin_controls & PIN_##name) != 0)
#define vmcs_primary(v, name) (((v)->primary_controls & PRIMARY_##name) != 0)
#define vmcs_secondary(v, name) ((vmx_secondary(v) & SECONDARY_##name) != 0)
#define vmcs_tertiary(v, name) ((vmx_tertiary(v) & TERTIARY_##name) != 0)
#define vmcs_exit_control(v, name) (((v)->exit_controls & VMEXIT_##name) != 0)
#define vmcs_entry_control(v, name) (((v)->entry_controls & VMENTRY_##name) != 0)

static inline struct vmcs *vmcs_of(struct cpu *cpu, unsigned k) { return &cpu->vmx.frame[k].vmcs; }
/* The innermost entered frame; only at depth > 0. */
static inline struct vmx_frame *frame_innermost(struct cpu *cpu) { return &cpu->vmx.frame[cpu->vmx.depth - 1]; }
static inline const struct vmx_frame *frame_innermost_const(const struct cpu *cpu)
{
    return &cpu->vmx.frame[cpu->vmx.depth - 1];
}

/* L0 itself runs the VMX instructions of the running level: it is L1, or a level that L0 has offered VMX. */
static inline bool vmx_own_root(const struct cpu *cpu)
{
    u32 d = cpu->vmx.depth;
    return d == 0 || (d < VMX_MAX_FRAMES && cpu->vmx.frame[d].offered);
}

/* Bits of CR0 that VM entry and exit leave alone: ET, NW, CD and the reserved ones. */
#define CR0_KEPT (0x1ffaffc0ull | CR0_ET | CR0_NW | CR0_CD)

/* The machine's TSC, as VMX timers count it, goes to cpu->vmx.tsc. Every way into vmx/ that may carry out an exit or
 * entry begins with it: once rip has moved, the count of the running instruction is lost. */
void vmx_note_time(struct cpu *cpu);

/* Interruption-information fields [SDM3 "VM-Exit Information for Vectored Events"]. */
enum { INFO_TYPE_SHIFT = 8, INFO_ERROR = 1 << 11, INFO_NMI_UNBLOCKING = 1 << 12 };
#define INFO_VALID 0x80000000u

/* ---- exits (vmx/exit.c) ------------------------------------------------------------------------------------------ */

/* What the VM-exit information fields shall say, beside what is found in the CPU's state. */
struct vmx_exit_info {
    u32 reason;                /* enum vmx_exit_reason, with EXIT_REASON_ENTRY_FAILURE where it applies */
    u32 interruption_info, error_code;
    u32 instruction_length, instruction_info;
    u64 qualification;
    u64 la, gpa;               /* guest-linear and guest-physical address, where the reason has them */
    u8 fault_like;             /* an exception or memory fault at rip: the saved RFLAGS.RF is 1 */
    u8 instruction;            /* caused by the instruction at rip: the saved RFLAGS.RF is 0 */
    u8 no_vectoring;           /* counts as not occurring during event delivery (#DF, triple fault) */
    /* the access that caused it, if an outer hypervisor may have to carry it out (vmx/standin.c) */
    struct vmx_carried_access access;
};

/* Carries out a VM exit to frame k: the guest's state goes to its VMCS, L(k+1)'s host state is loaded. With deeper
 * frames entered, they are suspended first and L(k+2) seems to have caused it. True: done. False: an outer frame's
 * EPT lacks a page that the exit needs; the exit went there instead and what caused this one must come again when
 * the unit goes on. */
bool vmx_exit(struct cpu *cpu, unsigned k, const struct vmx_exit_info *info);
/* An SMM VM exit: to the SMM-transfer monitor, from L1 or, whichever level ran, from its guest. `activates`: by the VMCALL that
 * activates the dual-monitor treatment, with the VMCS that is current. */
void vmx_exit_to_smm(struct cpu *cpu, const struct vmx_exit_info *info, bool activates);
/* The registers of frame k's host-state area, at depth k. (No MSR list.) False: VMX abort (PDPTEs). */
bool vmx_load_host_state(struct cpu *cpu, unsigned k);
/* Its part that "load CET state", "load PKRS", "clear UINV" and "load IA32_PERF_GLOBAL_CTRL" are about. */
void vmx_load_host_msrs(struct cpu *cpu, const struct vmcs *v);
/* A VM entry of frame k failed behind the point of no return: host state is loaded, nothing of the guest is saved. */
void vmx_entry_failure(struct cpu *cpu, unsigned k, u32 reason, u64 qualification);

/* ---- entries (vmx/entry.c) --------------------------------------------------------------------------------------- */

/* VMLAUNCH, VMRESUME behind their #UD, exit and privilege checks. */
enum flow vmx_enter(struct cpu *cpu, const struct insn *in, bool launch);
/* Recomputes what the run loop must watch: ATT_VMX, stop_at. After every change of depth or of what frames armed. */
void vmx_rearm(struct cpu *cpu);
/* Clears the parts of cpu->event that belong to the context that is left, and sets attention for the new one; lines
 * stay. */
void vmx_reset_events(struct cpu *cpu, u8 blocking, u8 activity);

/* Host state that lay in memory since it was checked becomes that of a hypervisor's mode again. */
void vmx_trust_host_state(const struct cpu *cpu, struct vmcs *v);

/* Finds the structures of frame k on the bus and the VMCS itself anew. False: an outer EPT lacks one, cpu->fault
 * says which. */
bool vmx_pin_frame(struct cpu *cpu, unsigned k);

/* MSR lists [SDM3 "VM-Exit Controls for MSRs"]: `count` entries at gpa `list` of level k. Return the 1-based number
 * of the entry that failed, 0 when all went well. */
u32 vmx_msr_list_load(struct cpu *cpu, unsigned k, u64 list, u32 count);
u32 vmx_msr_list_store(struct cpu *cpu, unsigned k, u64 list, u32 count);
/* The list can be reached through the EPTs above level k. False: cpu->fault. */
bool vmx_msr_list_reachable(struct cpu *cpu, unsigned k, u64 list, u32 count, unsigned access);

/* ---- the dual-monitor treatment (vmx/smm.c) ---------------------------------------------------------------------- */

/* SMM is left for the executive monitor or its guest: the VMCS that they had becomes current in frame 0. True: VMX root operation. */
bool vmx_smm_switch_back(struct cpu *cpu);
/* VMCALL in VMX root operation of L1. */
enum flow vmx_smm_vmcall(struct cpu *cpu, const struct insn *in);
/* Loads what the header of MSEG says, in place of host state: the SMM-transfer monitor begins. */
void vmx_smm_load_monitor(struct cpu *cpu);

/* ---- VMCS regions (vmx/region.c) --------------------------------------------------------------------------------- */

/* Writes frame k's current VMCS, and all that belongs to its guest, to memory; deeper frames first. */
void vmx_region_store(struct cpu *cpu, unsigned k);
/* Makes the region at `hpa` the current VMCS of frame k, with all that belongs to its guest. */
void vmx_region_load(struct cpu *cpu, unsigned k, u64 gpa, u64 hpa);
/* No VMCS is current any more: what was is stored. */
void vmx_region_release(struct cpu *cpu, unsigned k);
/* The fields of a region that is not current; none where there is no memory. */
void vmx_region_read(struct cpu *cpu, u64 hpa, struct vmcs *v);
/* One field of a region that is not current: a shadow VMCS. */
u64 vmx_region_field(struct cpu *cpu, u64 hpa, unsigned field);
void vmx_region_set_field(struct cpu *cpu, u64 hpa, unsigned field, u64 value);
/* Its first word, as it stands in memory. */
static inline u32 vmx_region_word(struct cpu *cpu, u64 hpa)
{
    u64 offset = bus_ram_offset(cpu->bus, hpa);
    return LIKELY(offset != BUS_NO_RAM) ? load32(cpu->bus->ram + offset) : (u32)bus_read(cpu->bus, cpu->index, hpa, 4);
}
/* Only the launch state of a region that is not current. */
void vmx_region_clear(struct cpu *cpu, u64 hpa);
/* Forgets frames k and deeper (the guest that they belonged to is gone). */
void vmx_frames_forget(struct cpu *cpu, unsigned k);

/* ---- suspended units (vmx/suspend.c) ----------------------------------------------------------------------------- */

/* Suspends everything above L(k+2): its state goes to frame k's unit, and the CPU holds the stand-in at depth k + 1.
 * `instruction_length` is what the exit will show. */
void vmx_suspend(struct cpu *cpu, unsigned k, u32 instruction_length);
/* Frame k has just entered a guest under which a unit is suspended. Restores it, and routes an injected event
 * inwards. */
void vmx_resume_unit(struct cpu *cpu, unsigned k);
/* Delivers events that frames injected into levels that could not take them at once. True: something was done. */
bool vmx_try_held(struct cpu *cpu);
/* The running guest is given an event as if by VM entry. */
void vmx_give_event(struct cpu *cpu, u8 vector, enum event_type type);
static inline bool vmx_has_held(const struct vmx_frame *f)
{
    return f->held_nmi || (f->held_vectors[0] | f->held_vectors[1] | f->held_vectors[2] | f->held_vectors[3]);
}

/* ---- stand-ins that perform an access (vmx/standin.c) ------------------------------------------------------------ */

/* Bytes of a VMCS region that vmx/region.c uses. */
#define VMX_REGION_USED 4032u

/* The stand-in of frame k's guest, just made by vmx_suspend, gets one instruction that performs x->access; the exit
 * information is adapted. False: it cannot, and stays as it was. */
bool vmx_standin_ask(struct cpu *cpu, unsigned k, struct vmx_exit_info *x);
/* Frame k has entered that guest again: notes what was done, and makes the stand-in what it was before. */
void vmx_standin_answered(struct cpu *cpu, struct vmx_unit *u);
/* String I/O goes to an outer frame: fills x->access, unless OUTS's memory cannot be read. */
void vmx_standin_string_io(struct cpu *cpu, const struct vmx_ask *ask, struct vmx_exit_info *x);

/* ---- MSRs and time of a level ------------------------------------------------------------------------------------ */

/* MSRs as L(k+1) has them, whatever is entered above; for the MSR lists of frame k, and (k = depth) for RDMSR and WRMSR.
 * *known false: not VMX's, the caller goes on to cpu/msr.h. */
bool vmx_msr_read_below(struct cpu *cpu, unsigned k, u32 msr, u64 *value, bool *known);
bool vmx_msr_write_below(struct cpu *cpu, unsigned k, u32 msr, u64 value, bool *known);
/* The TSC of L(k+1), out of the machine's. */
u64 vmx_scale_tsc_below(const struct cpu *cpu, unsigned k, u64 tsc);

/* ---- routing (vmx/route.c) --------------------------------------------------------------------------------------- */

/* Real value of CR0/CR4 when hypervisor L(k+1) believes to load `value`: bits that the frame below owns keep what
 * they were. */
u64 vmx_root_cr0(const struct cpu *cpu, unsigned k, u64 value);
u64 vmx_root_cr4(const struct cpu *cpu, unsigned k, u64 value);
u32 vmx_instruction_info(const struct insn *in, u32 reason);
/* L0 carries out for the running level, L2 or deeper, what would exit to its hypervisor without L0's help: counted
 * as an exit handled by L0. */
static inline void vmx_note_l0(struct cpu *cpu, u32 reason)
{
    if (UNLIKELY(cpu->stats != NULL) && cpu->vmx.depth)
        vmx_stats_exit(cpu, cpu->vmx.depth + 1, reason, 0);
}

/* ---- the virtual APIC (vmx/apicv.c) ------------------------------------------------------------------------------ */

/* Tells mmu/ how accesses to APIC-access pages are virtualised. */
void vmx_apic_attach(void);
/* Does a frame with this VMCS virtualise RDMSR or WRMSR of `msr` (0x800-0x8ff) by its guest? */
bool vmx_x2apic_virtualised(const struct vmcs *v, u32 msr, bool write);
/* RDMSR and WRMSR of x2APIC registers at depth > 0; *known false: no frame virtualises them. False: #GP(0). */
bool vmx_x2apic_read(struct cpu *cpu, u32 msr, u64 *value, bool *known);
bool vmx_x2apic_write(struct cpu *cpu, u32 msr, u64 value, bool *known);

/* ---- virtual interrupts (vmx/virtual_interrupt.c) ---------------------------------------------------------------- */

/* Frame k has been entered: PPR virtualization and evaluation of its pending virtual interrupts. */
void vmx_virtual_interrupt_entry(struct cpu *cpu, unsigned k);
/* … its guest goes on as part of a unit: evaluation alone. */
void vmx_virtual_interrupt_resume(struct cpu *cpu, unsigned k);
/* Is `vector`, which frame k has acknowledged, its posted-interrupt notification vector? */
bool vmx_is_notification(struct cpu *cpu, unsigned k, u8 vector);
/* Posted-interrupt processing for frame k; its local APIC has been told of the end of the interrupt. */
void vmx_post(struct cpu *cpu, unsigned k);

/* ---- the offer (vmx/offer.c) ------------------------------------------------------------------------------------- */

/* CPUID leaf 1 and MOV to CR4 of a level that L0 may offer VMX go to its hypervisor like any other; L0 adds its part
 * when that hypervisor enters its guest again behind the instruction. An exit of CPUID to frame k, of `length`
 * bytes: */
void vmx_offer_note_cpuid(struct cpu *cpu, unsigned k, u64 length);
/* Frame k has entered its guest. */
void vmx_offer_entered(struct cpu *cpu, unsigned k);
/* MOV to CR4 by a level that L0 offers VMX, before its hypervisor is asked: *value loses VMXE. False: #GP(0) was
 * raised. */
bool vmx_offer_check_cr4(struct cpu *cpu, u64 *value);
/* … its hypervisor wants the exit: it will find the value without VMXE in the register. */
void vmx_offer_note_cr4(struct cpu *cpu, const struct insn *in, unsigned reg, u64 value);

#endif
