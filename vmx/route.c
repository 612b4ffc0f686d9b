/* Who wants what: which entered frame takes an exit for an instruction, an exception, a physical event or something
 * armed; and what guest software sees of registers that a frame shares with it.
 *
 * Follows [SDM3 "VMX Non-Root Operation"]: "Instructions That Cause VM Exits", "Other Causes of VM Exits", "Changes to
 * Instruction Behavior in VMX Non-Root Operation". Which frames are asked is exits.def's class and scope; which of
 * those that want it gets it is the policy's.
 *
 * Kept true: asking changes nothing (but the PAUSE-loop times) unless an exit is made.
 */
#include "vmx/frame.h"

#include "cpu/flags.h"
#include "cpu/msr.h"
#include "cpu/raise.h"
#include "cpu/trace.h"
#include "mmu/access.h"
#include "vmx/capability.h"
#include "vmx/stats.h"

/* ---- one frame's controls ---------------------------------------------------------------------------------------- */

/* Bit `bit` of a bitmap that begins at hpa. What is not RAM reads as all ones: an exit. */
static bool bitmap_bit(struct cpu *cpu, u64 hpa, u64 bit)
{
    return bus_read(cpu->bus, cpu->index, hpa + bit / 8, 1) >> (bit % 8) & 1;
}

static bool msr_wanted(struct cpu *cpu, const struct vmx_frame *f, u32 msr, bool write)
{
    u32 base = write ? 2048 * 8 : 0;
    if (!vmcs_primary(&f->vmcs, MSR_BITMAPS))
        return true;
    if (msr < 0x2000)
        return bitmap_bit(cpu, f->msr_bitmap_hpa, base + msr);
    if (msr - 0xc0000000 < 0x2000)
        return bitmap_bit(cpu, f->msr_bitmap_hpa, base + 1024 * 8 + (msr - 0xc0000000));
    return true;
}

static bool io_wanted(struct cpu *cpu, const struct vmx_frame *f, u32 port, u32 size)
{
    if (!vmcs_primary(&f->vmcs, IO_BITMAPS))
        return vmcs_primary(&f->vmcs, UNCONDITIONAL_IO_EXITING);
    if (port + size > 0x10000)
        return true;                       /* wraps around the end of the I/O space */
    for (; size; port++, size--)
        if (bitmap_bit(cpu, port < 0x8000 ? f->io_bitmap_a_hpa : f->io_bitmap_b_hpa, port & 0x7fff))
            return true;
    return false;
}

static bool cr3_load_wanted(const struct vmcs *v, u64 value)
{
    const u64 target[VMX_CR3_TARGETS] = {v->cr3_target_0, v->cr3_target_1, v->cr3_target_2, v->cr3_target_3};
    if (!vmcs_primary(v, CR3_LOAD_EXITING))
        return false;
    for (u64 n = 0; n < v->cr3_target_count && n < VMX_CR3_TARGETS; n++)
        if (target[n] == value)
            return false;
    return true;
}

/* [SDM3 "Instructions That Cause VM Exits Conditionally": CLTS, LMSW, MOV from/to CR0, CR3, CR4, CR8] */
static bool cr_wanted(const struct vmcs *v, const struct vmx_ask *ask, u64 value)
{
    enum { TO, FROM, CLTS, LMSW };
    unsigned access = ask->qualification >> 4 & 3;
    u64 mask = v->cr0_guest_host_mask, shadow = v->cr0_read_shadow;

    if (access == CLTS)
        return mask & shadow & CR0_TS;
    if (access == LMSW) {
        u64 source = ask->qualification >> 16 & 0xf;
        return ((source ^ shadow) & mask & 0xe) || (mask & source & ~shadow & CR0_PE);
    }
    switch (ask->number) {
    case 0: return (value ^ shadow) & mask;
    case 3: return access == TO ? cr3_load_wanted(v, value) : vmcs_primary(v, CR3_STORE_EXITING);
    case 4: return (value ^ v->cr4_read_shadow) & v->cr4_guest_host_mask;
    case 8: return access == TO ? vmcs_primary(v, CR8_LOAD_EXITING) : vmcs_primary(v, CR8_STORE_EXITING);
    default: return false;
    }
}

/* [SDM3 "PAUSE-Loop Exiting"] */
static bool pause_wanted(struct cpu *cpu, struct vmx_frame *f)
{
    const struct vmcs *v = &f->vmcs;
    if (vmcs_primary(v, PAUSE_EXITING))
        return true;
    if (!vmcs_secondary(v, PAUSE_LOOP_EXITING) || cpu->mode.cpl != 0)
        return false;
    vmx_note_time(cpu);
    u64 now = cpu->vmx.tsc;
    if (now - f->ple_last > v->ple_gap)
        f->ple_first = now;
    f->ple_last = now;
    return now - f->ple_first > v->ple_window;
}

/* A bitmap of leaf functions, which has one bit for all above 62. */
static bool leaf_wanted(u64 bitmap, u32 leaf) { return bitmap >> (leaf < 63 ? leaf : 63) & 1; }

static bool frame_wants(struct cpu *cpu, unsigned k, const struct vmx_ask *ask, u64 value)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    const struct vmcs *v = &f->vmcs;
    switch (ask->reason) {
    case EXIT_HLT: return vmcs_primary(v, HLT_EXITING);
    case EXIT_INVLPG: return vmcs_primary(v, INVLPG_EXITING);
    case EXIT_INVPCID: return vmcs_primary(v, INVLPG_EXITING) && vmcs_secondary(v, INVPCID);
    case EXIT_RDPMC: return vmcs_primary(v, RDPMC_EXITING);
    case EXIT_RDTSC:
    case EXIT_RDTSCP: return vmcs_primary(v, RDTSC_EXITING);
    case EXIT_UMWAIT:
    case EXIT_TPAUSE: return vmcs_primary(v, RDTSC_EXITING) && vmcs_secondary(v, USER_WAIT_PAUSE);
    case EXIT_MWAIT: return vmcs_primary(v, MWAIT_EXITING);
    case EXIT_MONITOR: return vmcs_primary(v, MONITOR_EXITING);
    case EXIT_CR_ACCESS: return cr_wanted(v, ask, value);
    case EXIT_MOV_DR: return vmcs_primary(v, MOV_DR_EXITING);
    case EXIT_IO_INSTRUCTION: return io_wanted(cpu, f, ask->number, ask->size);
    case EXIT_RDMSR: return msr_wanted(cpu, f, ask->number, false);
    case EXIT_WRMSR: return msr_wanted(cpu, f, ask->number, true);
    case EXIT_RDMSRLIST: return msr_wanted(cpu, f, ask->number, false);
    case EXIT_WRMSRLIST: return msr_wanted(cpu, f, ask->number, true);
    case EXIT_PAUSE: return pause_wanted(cpu, f);
    case EXIT_GDTR_IDTR_ACCESS:
    case EXIT_LDTR_TR_ACCESS: return vmcs_secondary(v, DESCRIPTOR_TABLE_EXITING);
    case EXIT_WBINVD: return vmcs_secondary(v, WBINVD_EXITING);
    case EXIT_RDRAND: return vmcs_secondary(v, RDRAND_EXITING);
    case EXIT_RDSEED: return vmcs_secondary(v, RDSEED_EXITING);
    case EXIT_XSAVES:
    case EXIT_XRSTORS: return vmcs_secondary(v, XSAVES) && v->xss_exiting_bitmap & ask->value;
    case EXIT_ENCLS: return vmcs_secondary(v, ENCLS_EXITING) && leaf_wanted(v->encls_exiting_bitmap, ask->number);
    case EXIT_ENCLV: return vmcs_secondary(v, ENCLV_EXITING) && leaf_wanted(v->enclv_exiting_bitmap, ask->number);
    case EXIT_PCONFIG: return vmcs_secondary(v, PCONFIG) && leaf_wanted(v->pconfig_exiting_bitmap, ask->number);
    default: return false;
    }
}

/* MSRs that are state of the guest in the VMCS: entry loads the guest's value and exit its hypervisor's, always or with these controls. */
static const struct { u32 msr, entry, exit; } switched_msrs[] = {
    {0x174, 0, 0}, {0x175, 0, 0}, {0x176, 0, 0},           /* IA32_SYSENTER_CS, _ESP, _EIP */
    {0xc0000100, 0, 0}, {0xc0000101, 0, 0},                /* IA32_FS_BASE, IA32_GS_BASE */
    {MSR_IA32_DEBUGCTL, VMENTRY_LOAD_DEBUG_CONTROLS, 0},   /* an exit clears it */
    {0x277, VMENTRY_LOAD_PAT, VMEXIT_LOAD_PAT},
    {0x38f, VMENTRY_LOAD_PERF_GLOBAL_CTRL, VMEXIT_LOAD_PERF_GLOBAL_CTRL},
    {0x6a2, VMENTRY_LOAD_CET_STATE, VMEXIT_LOAD_CET_STATE}, /* IA32_S_CET, IA32_INTERRUPT_SSP_TABLE_ADDR */
    {0x6a8, VMENTRY_LOAD_CET_STATE, VMEXIT_LOAD_CET_STATE},
    {0x6e1, VMENTRY_LOAD_PKRS, VMEXIT_LOAD_PKRS},
    {0xc0000080, VMENTRY_LOAD_EFER, VMEXIT_LOAD_EFER},
};

/* Whether frames outside this one have no business with an access of its guests to that MSR: their own guest's is another register, and a
 * hypervisor that emulated the access would do so on that. */
static bool msr_is_kept(const struct vmcs *v, u32 msr, bool write)
{
    for (unsigned n = 0; n < ARRAY_SIZE(switched_msrs); n++)
        if (switched_msrs[n].msr == msr)
            return (v->entry_controls & switched_msrs[n].entry) == switched_msrs[n].entry &&
                   (v->exit_controls & switched_msrs[n].exit) == switched_msrs[n].exit;
    return vmx_x2apic_virtualised(v, msr, write);
}

/* ---- instructions ------------------------------------------------------------------------------------------------ */

static const struct { u8 class, scope; } exit_kind[EXIT_REASON_COUNT] = {
#define EXIT(number, name, class_, scope_, ...) [number] = {VMX_CLASS_##class_, VMX_SCOPE_##scope_},
#include "vmx/exits.def"
#undef EXIT
};

/* Size code of an address or operand, as the instruction-information field has it. */
static u32 size_code(u32 size) { return size ? size - 1u : 0; }

/* The field's part for the ModRM operand: its address expression. 0: a register. */
static u32 memory_info(const struct insn *in)
{
    if (!(in->flags & INSN_MEM))
        return 0;
    bool no_base = in->base == REG_ZERO || in->base == REG_RIP, no_index = in->index == REG_ZERO;
    return in->scale | size_code(in->asz) << 7 | (u32)in->arch_seg << 15 | (no_index ? 1u << 22 : (u32)in->index << 18) |
           (no_base ? 1u << 27 : (u32)in->base << 23);
}

/* The same where it may be a register, which is named. */
static u32 operand_info(const struct insn *in) { return in->flags & INSN_MEM ? memory_info(in) : 1u << 10 | (u32)in->rm << 3; }

/* The VM-exit instruction-information field [SDM3 "VM-Exit Information for VM Exits Due to Instruction Execution"]. */
u32 vmx_instruction_info(const struct insn *in, u32 reason)
{
    u32 identity = in->modrm >> 3 & 3, wide = size_code(in->osz);
    switch (reason) {
    case EXIT_IO_INSTRUCTION:              /* INS, OUTS */
        return size_code(in->asz) << 7 | (u32)(in->arch_seg & 7) << 15;
    case EXIT_INVEPT:
    case EXIT_INVVPID:
    case EXIT_INVPCID:
        return memory_info(in) | (u32)in->reg << 28;
    case EXIT_GDTR_IDTR_ACCESS:
        return memory_info(in) | (wide ? 1u << 11 : 0) | identity << 28;
    case EXIT_LDTR_TR_ACCESS:
        return operand_info(in) | identity << 28;
    case EXIT_RDRAND:
    case EXIT_RDSEED:
        return (u32)in->rm << 3 | wide << 11;
    case EXIT_UMWAIT:
    case EXIT_TPAUSE:
        return (u32)in->rm << 3 | 1u << 11;
    case EXIT_VMCLEAR:
    case EXIT_VMPTRLD:
    case EXIT_VMPTRST:
    case EXIT_VMXON:
    case EXIT_XSAVES:
    case EXIT_XRSTORS:
        return memory_info(in);
    case EXIT_VMREAD:
    case EXIT_VMWRITE:
        return operand_info(in) | (u32)in->reg << 28;
    default:
        return 0;
    }
}

static bool is_vmx_msr(u32 msr)
{
    return msr == MSR_IA32_FEATURE_CONTROL || (msr >= MSR_IA32_VMX_BASIC && msr <= MSR_IA32_VMX_EXIT_CTLS2);
}

static bool is_msr_access(u32 reason)
{
    return reason == EXIT_RDMSR || reason == EXIT_WRMSR || reason == EXIT_RDMSRLIST || reason == EXIT_WRMSRLIST;
}

/* What the policy may want to know of an instruction of the running level. */
static u32 event_flags(const struct cpu *cpu, const struct vmx_ask *ask)
{
    const struct vmcs *v = &frame_innermost_const(cpu)->vmcs;
    u32 flags = 0;
    if (vmx_own_root(cpu) && cpu->vmx.frame[cpu->vmx.depth].vmxon)
        flags |= NESTOR_EVENT_OFFERED_HYPERVISOR;
    if (ask->reason == EXIT_RDMSR && ask->number == MSR_IA32_DEBUGCTL && vmcs_entry_control(v, LOAD_DEBUG_CONTROLS) &&
        vmcs_exit_control(v, SAVE_DEBUG_CONTROLS))
        flags |= NESTOR_EVENT_VALUE_IS_PARENTS;
    return flags;
}

/* The frame that takes the exit; NOBODY when none wants it, VMX_POLICY_L0 when one does and the policy has L0 carry the
 * instruction out. */
#define NOBODY (-2)
static int instruction_owner(struct cpu *cpu, const struct vmx_ask *ask, u64 value)
{
    unsigned depth = cpu->vmx.depth;
    unsigned scope = ask->reason < EXIT_REASON_COUNT ? exit_kind[ask->reason].scope : VMX_SCOPE_OWN;
    bool routed = cpu->policy && cpu->policy->route && vmx_policy_can_route(ask->reason, NESTOR_INSTRUCTION);
    u32 wanting = 0;
    if (scope == VMX_SCOPE_UNCONDITIONAL) {
        if (LIKELY(!routed))
            return (int)depth - 1;
        wanting = (1u << depth) - 1;
    } else if (scope != VMX_SCOPE_ANY) {
        return frame_wants(cpu, depth - 1, ask, value) ? (int)depth - 1 : NOBODY;
    } else {
        bool writes = ask->reason == EXIT_WRMSR || ask->reason == EXIT_WRMSRLIST;
        bool is_msr = is_msr_access(ask->reason);
        for (unsigned k = depth; k-- > 0;) {
            if (!frame_wants(cpu, k, ask, value)) {
                if (is_msr && msr_is_kept(vmcs_of(cpu, k), ask->number, writes))
                    break;                 /* it goes no further out */
                continue;
            }
            if (LIKELY(!routed))
                return (int)k;
            wanting |= 1u << k;
        }
    }
    if (!wanting)
        return NOBODY;
    struct nestor_event event = {.event_class = NESTOR_INSTRUCTION, .reason = ask->reason, .number = ask->number,
                                 .bytes = ask->size, .flags = event_flags(cpu, ask), .qualification = ask->qualification};
    return vmx_policy_route(cpu, wanting, &event);
}

bool vmx_intercept(struct cpu *cpu, const struct insn *in, const struct vmx_ask *ask)
{
    u64 value = ask->value;
    bool own = vmx_own_root(cpu);
    bool cr4_write = ask->reason == EXIT_CR_ACCESS && ask->number == 4;

    if (UNLIKELY(own)) {
        if (is_msr_access(ask->reason) && is_vmx_msr(ask->number)) {
            vmx_note_l0(cpu, ask->reason); /* L0 keeps this level's */
            return false;
        }
        if (cr4_write && !vmx_offer_check_cr4(cpu, &value))
            return true;
    }
    int k = instruction_owner(cpu, ask, value);
    if (k == NOBODY)
        return false;
    if (k == VMX_POLICY_L0) {
        vmx_note_l0(cpu, ask->reason);
        if (trace_on(cpu, TRACE_VMX_EXIT))
            trace_emit(cpu, TRACE_VMX_EXIT, vmx_exit_name(ask->reason),
                       TRACE_FIELDS(trace_decimal("reason", ask->reason), trace_decimal("to", 0),
                                    trace_hex("rip", cpu->core.rip), trace_hex("number", ask->number)));
        return false;
    }

    struct vmx_exit_info x = {.reason = ask->reason, .qualification = ask->qualification, .la = ask->la,
                              .instruction = 1, .instruction_length = in->length};
    x.instruction_info = vmx_instruction_info(in, ask->reason);
    if (ask->reason == EXIT_INVLPG)
        x.la = 0;
    /* Without bitmaps it is not one of the list's MSRs that exits. */
    if ((ask->reason == EXIT_RDMSRLIST || ask->reason == EXIT_WRMSRLIST) && !vmcs_primary(vmcs_of(cpu, (unsigned)k), MSR_BITMAPS))
        x.qualification = 0;
    if (ask->reason == EXIT_IO_INSTRUCTION && UNLIKELY((unsigned)k + 1 < cpu->vmx.depth) && ask->qualification & BIT(4))
        vmx_standin_string_io(cpu, ask, &x);
    if (UNLIKELY(own && cr4_write))
        vmx_offer_note_cr4(cpu, in, ask->qualification >> 8 & 15, ask->value);
    vmx_exit(cpu, (unsigned)k, &x);
    return true;
}

/* ---- what guest software sees ------------------------------------------------------------------------------------ */

u64 vmx_guest_cr0(const struct cpu *cpu)
{
    if (!cpu->vmx.depth)
        return cpu->sys.cr0;
    const struct vmcs *v = &frame_innermost_const(cpu)->vmcs;
    return (cpu->sys.cr0 & ~v->cr0_guest_host_mask) | (v->cr0_read_shadow & v->cr0_guest_host_mask);
}

u64 vmx_guest_cr4(const struct cpu *cpu)
{
    if (!cpu->vmx.depth)
        return cpu->sys.cr4;
    const struct vmcs *v = &frame_innermost_const(cpu)->vmcs;
    u64 value = (cpu->sys.cr4 & ~v->cr4_guest_host_mask) | (v->cr4_read_shadow & v->cr4_guest_host_mask);
    if (UNLIKELY(vmx_own_root(cpu)))
        value = (value & ~(u64)CR4_VMXE) | cpu->vmx.frame[cpu->vmx.depth].cr4_vmxe;
    return value;
}

u64 vmx_merge_cr0(const struct cpu *cpu, u64 value)
{
    if (!cpu->vmx.depth)
        return value;
    u64 mask = frame_innermost_const(cpu)->vmcs.cr0_guest_host_mask;
    return (value & ~mask) | (cpu->sys.cr0 & mask);
}

u64 vmx_merge_cr4(const struct cpu *cpu, u64 value)
{
    if (!cpu->vmx.depth)
        return value;
    u64 mask = frame_innermost_const(cpu)->vmcs.cr4_guest_host_mask;
    if (UNLIKELY(vmx_own_root(cpu)))
        mask |= CR4_VMXE;
    return (value & ~mask) | (cpu->sys.cr4 & mask);
}

u64 vmx_root_cr0(const struct cpu *cpu, unsigned k, u64 value)
{
    if (k == 0)
        return value;
    u64 mask = cpu->vmx.frame[k - 1].vmcs.cr0_guest_host_mask;
    return (value & ~mask) | (cpu->vmx.frame[k].root_cr0 & mask);
}

u64 vmx_root_cr4(const struct cpu *cpu, unsigned k, u64 value)
{
    if (k == 0)
        return value;
    u64 mask = cpu->vmx.frame[k - 1].vmcs.cr4_guest_host_mask | CR4_VMXE;
    return (value & ~mask) | (cpu->vmx.frame[k].root_cr4 & mask);
}

/* [SDM3 "Restrictions on VMX Operation"]; in non-root operation [SDM3 "Unrestricted Guests"]. */
bool vmx_cr0_fixed_ok(const struct cpu *cpu, u64 value)
{
    u64 fixed = CR0_PE | CR0_NE | (u64)CR0_PG;
    u32 d = cpu->vmx.depth;
    if (d && vmcs_secondary(&frame_innermost_const(cpu)->vmcs, UNRESTRICTED_GUEST))
        fixed = CR0_NE;
    return !(~value & fixed);
}

bool vmx_cr4_fixed_ok(const struct cpu *cpu, u64 value)
{
    return value & CR4_VMXE && !(value & ~(cpu_cr4_allowed(cpu) | CR4_VMXE));
}

u64 vmx_scale_tsc(const struct cpu *cpu, u64 tsc) { return vmx_scale_tsc_below(cpu, cpu->vmx.depth, tsc); }

u64 vmx_scale_tsc_below(const struct cpu *cpu, unsigned k, u64 tsc)
{
    for (unsigned m = 0; m < k; m++) {
        const struct vmcs *v = &cpu->vmx.frame[m].vmcs;
        if (!vmcs_primary(v, TSC_OFFSETTING))
            continue;
        if (vmcs_secondary(v, TSC_SCALING))
            tsc = (u64)((u128)tsc * v->tsc_multiplier >> 48);
        tsc += v->tsc_offset;
    }
    return tsc;
}

/* ---- exceptions and other events --------------------------------------------------------------------------------- */

bool vmx_intercept_event(struct cpu *cpu)
{
    const struct cpu_event *e = &cpu->event;
    unsigned k = cpu->vmx.depth - 1;
    const struct vmcs *v = vmcs_of(cpu, k);

    if (e->injected || e->type == EVT_EXTERNAL || e->type == EVT_NMI || e->type == EVT_SOFTWARE_INT || e->vector > 31)
        return false;
    bool wanted = v->exception_bitmap >> e->vector & 1;
    if (e->vector == EXC_PF && (e->error & v->page_fault_error_mask) != v->page_fault_error_match)
        wanted = !wanted;
    if (!wanted)
        return false;

    struct vmx_exit_info x = {.reason = EXIT_EXCEPTION_NMI};
    x.interruption_info = INFO_VALID | e->vector | (u32)e->type << INFO_TYPE_SHIFT | (e->has_error ? INFO_ERROR : 0);
    x.error_code = e->has_error ? e->error : 0;
    if (e->vector == EXC_PF)
        x.qualification = e->payload;
    else if (e->vector == EXC_DB)
        x.qualification = e->payload & (0xf | BIT(11) | BIT(13) | BIT(14));
    if (e->type != EVT_HARDWARE)
        x.instruction_length = e->insn_length;
    /* RF as the pushed RFLAGS would have it: set by faults, not by traps. */
    x.fault_like = e->type == EVT_HARDWARE && !(e->vector == EXC_DB && !(e->payload & BIT(13)));
    x.no_vectoring = e->vector == EXC_DF;
    vmx_exit(cpu, k, &x);
    return true;
}

bool vmx_triple_fault(struct cpu *cpu)
{
    if (!cpu->vmx.depth)
        return false;
    struct vmx_exit_info x = {.reason = EXIT_TRIPLE_FAULT, .no_vectoring = 1};
    vmx_exit(cpu, cpu->vmx.depth - 1, &x);
    return true;
}

bool vmx_task_switch(struct cpu *cpu, const struct insn *in, u16 selector, unsigned source)
{
    if (!cpu->vmx.depth)
        return false;
    struct vmx_exit_info x = {.reason = EXIT_TASK_SWITCH, .qualification = selector | (u64)source << 30};
    if (in) {
        x.instruction = 1;
        x.instruction_length = in->length;
    } else {
        x.fault_like = 1;
    }
    vmx_exit(cpu, cpu->vmx.depth - 1, &x);
    return true;
}

/* The frame that takes a physical event which frames with `control` (a pin control, 0: all) want; -1: none. */
static int physical_owner(struct cpu *cpu, u32 reason, u64 control)
{
    u32 wanting = 0;
    for (u32 k = 0; k < cpu->vmx.depth; k++)
        if (!control || cpu->vmx.frame[k].vmcs.pin_controls & control)
            wanting |= 1u << k;
    if (!wanting)
        return -1;
    struct nestor_event event = {.event_class = NESTOR_PHYSICAL, .reason = reason};
    return vmx_policy_route(cpu, wanting, &event);
}

enum vmx_event_result vmx_external_interrupt(struct cpu *cpu)
{
    struct vmx_exit_info x = {.reason = EXIT_EXTERNAL_INTERRUPT};
    int k = physical_owner(cpu, x.reason, PIN_EXTERNAL_INTERRUPT_EXITING);
    if (k < 0)
        return VMX_EVENT_GUEST;
    if (cpu->event.blocking & (BLOCK_STI | BLOCK_MOV_SS) || cpu->event.activity == ACTIVITY_SHUTDOWN ||
        cpu->event.activity == ACTIVITY_WAIT_SIPI)
        return VMX_EVENT_BLOCKED;
    vmx_note_time(cpu);
    if (vmcs_exit_control(vmcs_of(cpu, (unsigned)k), ACKNOWLEDGE_INTERRUPT)) {
        int vector = cpu->board ? cpu->board->interrupt_acknowledge(cpu->board_arg, cpu) : -1;
        if (vector < 0) {
            cpu->event.attention &= ~(u32)ATT_INTR;
            return VMX_EVENT_BLOCKED;
        }
        if (vmx_is_notification(cpu, (unsigned)k, (u8)vector)) {
            if (cpu->board->interrupt_eoi)
                cpu->board->interrupt_eoi(cpu->board_arg, cpu);
            vmx_post(cpu, (unsigned)k);
            return VMX_EVENT_TAKEN;
        }
        x.interruption_info = INFO_VALID | (u32)vector;
    }
    vmx_exit(cpu, (unsigned)k, &x);
    return VMX_EVENT_EXITED;
}

enum vmx_event_result vmx_nmi(struct cpu *cpu)
{
    int k = physical_owner(cpu, EXIT_EXCEPTION_NMI, PIN_NMI_EXITING);
    if (k < 0)
        return VMX_EVENT_GUEST;
    u8 blocking = cpu->event.blocking;
    if (vmcs_pin(vmcs_of(cpu, (unsigned)k), VIRTUAL_NMIS))
        blocking &= ~BLOCK_NMI;
    if (blocking & (BLOCK_NMI | BLOCK_MOV_SS | BLOCK_STI) || cpu->event.activity == ACTIVITY_WAIT_SIPI)
        return VMX_EVENT_BLOCKED;
    struct vmx_exit_info x = {.reason = EXIT_EXCEPTION_NMI,
                              .interruption_info = INFO_VALID | EVT_NMI << INFO_TYPE_SHIFT | EXC_NMI};
    vmx_exit(cpu, (unsigned)k, &x);
    return VMX_EVENT_EXITED;
}

enum vmx_event_result vmx_init(struct cpu *cpu)
{
    if (!cpu->vmx.depth)
        return cpu->vmx.frame[0].vmxon ? VMX_EVENT_BLOCKED : VMX_EVENT_GUEST;
    if (cpu->event.activity == ACTIVITY_WAIT_SIPI)
        return VMX_EVENT_BLOCKED;
    struct vmx_exit_info x = {.reason = EXIT_INIT_SIGNAL};
    vmx_exit(cpu, (unsigned)physical_owner(cpu, EXIT_INIT_SIGNAL, 0), &x);
    return VMX_EVENT_EXITED;
}

enum vmx_event_result vmx_sipi(struct cpu *cpu, u8 vector)
{
    if (!cpu->vmx.depth)
        return VMX_EVENT_GUEST;
    struct vmx_exit_info x = {.reason = EXIT_SIPI, .qualification = vector};
    vmx_exit(cpu, (unsigned)physical_owner(cpu, EXIT_SIPI, 0), &x);
    return VMX_EVENT_EXITED;
}

void vmx_iret_unblock_nmi(struct cpu *cpu)
{
    /* With NMI exiting and without virtual NMIs, IRET leaves the blocking alone [SDM3 "Changes to Instruction
     * Behavior…": IRET]. */
    if (cpu->vmx.depth) {
        const struct vmcs *v = &frame_innermost(cpu)->vmcs;
        if (vmcs_pin(v, NMI_EXITING) && !vmcs_pin(v, VIRTUAL_NMIS))
            return;
    }
    cpu->event.blocking &= ~BLOCK_NMI;
}

/* ---- armed ------------------------------------------------------------------------------------------------------- */

static bool armed_exit(struct cpu *cpu, unsigned k, u32 reason)
{
    struct vmx_exit_info x = {.reason = reason};
    vmx_exit(cpu, k, &x);
    return true;
}

/* A frame whose guest is suspended under deeper levels shows a stand-in that takes everything at once. */
static bool interrupt_window_open(const struct cpu *cpu, u32 k)
{
    if (k + 1 < cpu->vmx.depth)
        return true;
    return cpu->core.rflags_rest & FL_IF && !(cpu->event.blocking & (BLOCK_STI | BLOCK_MOV_SS));
}

static bool nmi_window_open(const struct cpu *cpu, u32 k)
{
    return k + 1 < cpu->vmx.depth || !(cpu->event.blocking & (BLOCK_NMI | BLOCK_MOV_SS | BLOCK_STI));
}

bool vmx_attention(struct cpu *cpu, enum vmx_stage stage)
{
    u32 depth = cpu->vmx.depth;
    u8 activity = cpu->event.activity;
    /* In shutdown the timer alone goes on. */
    if (activity == ACTIVITY_WAIT_SIPI || (activity == ACTIVITY_SHUTDOWN && stage != VMX_STAGE_TIMER))
        return false;
    switch (stage) {
    case VMX_STAGE_BUS_LOCK:
        for (u32 k = 0; k < depth; k++)
            if (cpu->vmx.frame[k].bus_lock)
                return armed_exit(cpu, k, EXIT_BUS_LOCK);
        return false;
    case VMX_STAGE_TPR_MTF:
        for (u32 k = 0; k < depth; k++) {
            struct vmx_frame *f = &cpu->vmx.frame[k];
            if (f->apic_exit) {
                struct vmx_exit_info x = {.reason = f->apic_exit, .qualification = f->apic_exit_qualification};
                f->apic_exit = 0;
                f->apic_exit_qualification = 0;
                vmx_exit(cpu, k, &x);
                return true;
            }
            if (f->mtf_pending) {
                f->mtf_pending = 0;
                return armed_exit(cpu, k, EXIT_MONITOR_TRAP_FLAG);
            }
        }
        return false;
    case VMX_STAGE_TIMER:
        vmx_note_time(cpu);
        for (u32 k = 0; k < depth; k++)
            if (cpu->vmx.frame[k].timer_deadline <= cpu->vmx.tsc)
                return armed_exit(cpu, k, EXIT_PREEMPTION_TIMER);
        return false;
    case VMX_STAGE_NMI_WINDOW:
        for (u32 k = 0; k < depth; k++)
            if (vmcs_primary(vmcs_of(cpu, k), NMI_WINDOW_EXITING) && nmi_window_open(cpu, k))
                return armed_exit(cpu, k, EXIT_NMI_WINDOW);
        return false;
    case VMX_STAGE_INTERRUPT_WINDOW:
        for (u32 k = 0; k < depth; k++)
            if (vmcs_primary(vmcs_of(cpu, k), INTERRUPT_WINDOW_EXITING) && interrupt_window_open(cpu, k))
                return armed_exit(cpu, k, EXIT_INTERRUPT_WINDOW);
        if (vmx_try_held(cpu))
            return true;
        vmx_note_time(cpu);
        vmx_rearm(cpu);                    /* what made somebody look may be over */
        return false;
    }
    return false;
}

/* [SDM3 "Other Causes of VM Exits": bus locks] */
void vmx_note_bus_lock(struct cpu *cpu)
{
    for (u32 k = 0; k < cpu->vmx.depth; k++)
        if (vmcs_secondary(vmcs_of(cpu, k), BUS_LOCK_DETECTION)) {
            cpu->vmx.frame[k].bus_lock = 1;
            cpu->event.attention |= ATT_VMX;
        }
}

bool vmx_no_progress(struct cpu *cpu)
{
    vmx_note_time(cpu);
    u64 now = cpu->vmx.tsc;
    if (!cpu->vmx.stuck_since) {
        cpu->vmx.stuck_since = now ? now : 1;
        return false;
    }
    for (u32 k = 0; k < cpu->vmx.depth; k++) {
        const struct vmcs *v = vmcs_of(cpu, k);
        if (vmcs_secondary(v, INSTRUCTION_TIMEOUT) && now - cpu->vmx.stuck_since >= (u32)v->instruction_timeout_control) {
            cpu->vmx.stuck_since = 0;
            return armed_exit(cpu, k, EXIT_INSTRUCTION_TIMEOUT);     /* qualification 0: the context is valid */
        }
    }
    return false;
}

void vmx_note_instruction(struct cpu *cpu)
{
    cpu->vmx.carried.count = 0;
    for (u32 k = 0; k < cpu->vmx.depth; k++)
        if (vmcs_primary(vmcs_of(cpu, k), MONITOR_TRAP_FLAG))
            cpu->vmx.frame[k].mtf_pending = 1;
}
