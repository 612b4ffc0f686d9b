/* VM exits: the guest's state into the VMCS, the exit information, the MSR lists, the hypervisor's host state into the
 * CPU.
 *
 * Follows [SDM3 "VM Exits"] section by section: "Recording VM-Exit Information and Updating VM-entry Control Fields",
 * "Saving Guest State", "Saving MSRs", "Loading Host State", "Loading MSRs", "VMX Aborts".
 *
 * Kept true: everything that an exit needs through outer EPTs (its MSR lists) is found reachable before anything is
 * saved, so an exit happens wholly or, as another exit to the outer frame, not at all. All exit-information fields are
 * written at every exit: those the SDM leaves undefined are 0, so that equal runs have equal VMCSs.
 */
#include "vmx/frame.h"

#include "cpu/flags.h"
#include "cpu/model.h"
#include "cpu/pmu.h"
#include "cpu/raise.h"
#include "cpu/trace.h"
#include "mmu/access.h"
#include "vmx/capability.h"
#include "vmx/checks.h"
#include "vmx/fields.h"
#include "vmx/stats.h"


enum { ABORT_SAVE_MSR = 1, ABORT_LOAD_PDPTE = 2, ABORT_LOAD_MSR = 4 };

void vmx_note_time(struct cpu *cpu)
{
    if (cpu->vmx.entering)
        return;
    cpu->vmx.tsc = LIKELY(cpu->board != NULL) ? cpu->board->tsc(cpu->board_arg, cpu) : cpu->time.now;
    if (UNLIKELY(cpu->stats != NULL))
        vmx_stats_note_time(cpu);
}

/* ---- saving guest state ------------------------------------------------------------------------------------------ */

#define SAVE_SEGMENT(name, index)                                                                                      \
    do {                                                                                                               \
        const struct segment *s_ = &cpu->seg.s[index];                                                                 \
        v->guest_##name##_selector = s_->selector;                                                                     \
        v->guest_##name##_base = s_->base;                                                                             \
        v->guest_##name##_limit = s_->limit;                                                                           \
        v->guest_##name##_access_rights = s_->access;                                                                  \
    } while (0)

/* RFLAGS as the exit saves it: RF depends on what caused the exit [SDM3 "Saving RIP, RSP, RFLAGS, and SSP"]. */
static u64 saved_rflags(const struct cpu *cpu, const struct vmx_exit_info *x)
{
    const struct cpu_event *e = &cpu->event;
    u64 rflags = cpu_rflags(cpu);
    if (x->instruction)
        return rflags & ~(u64)FL_RF;
    if (e->delivering && !x->no_vectoring) {
        bool fault = e->d_type == EVT_HARDWARE && e->d_vector != EXC_DB && e->d_vector != EXC_BP &&
            e->d_vector != EXC_OF;
        return fault ? rflags | FL_RF : rflags;
    }
    return x->fault_like ? rflags | FL_RF : rflags;
}

/* Pending debug exceptions [SDM3 "Saving Non-Register State"]. Most exits save none: what was pending has been delivered, or caused the exit.
 * Those of higher priority than debug traps, or that follow an instruction as they do, save what is pending, and so does an exit by an
 * instruction behind one that blocks them, MOV to SS or POP SS, whose single step VM entry insists on. */
static u64 saved_pending_debug(const struct cpu *cpu, const struct vmx_exit_info *x)
{
    const struct cpu_event *e = &cpu->event;
    u64 pending = e->pending_debug & (0xf | BIT(11) | BIT(12) | BIT(14));
    switch (x->reason & 0xffff) {
    case EXIT_INIT_SIGNAL:
    case EXIT_IO_SMI:
    case EXIT_OTHER_SMI:
    case EXIT_TPR_BELOW_THRESHOLD:
    case EXIT_VIRTUALIZED_EOI:
    case EXIT_APIC_WRITE:
    case EXIT_MONITOR_TRAP_FLAG:
    case EXIT_BUS_LOCK:
        return pending;
    case EXIT_EXCEPTION_NMI:
        if ((u8)x->interruption_info == EXC_DB)
            return 0;
    }
    if (!(e->blocking & BLOCK_MOV_SS))
        return 0;
    return cpu->core.rflags_rest & FL_TF && !(cpu->sys.debugctl & DEBUGCTL_BTF) ? pending | BIT(14) : pending;
}

/* `ran`: the VMCS whose execution controls were in force, NULL: none were, and its VMX-preemption timer. */
static void save_guest(struct cpu *cpu, struct vmx_frame *f, const struct vmx_exit_info *x, const struct vmcs *ran, u64 timer_deadline)
{
    struct vmcs *v = &f->vmcs;
    const struct cpu_sys *sys = &cpu->sys;
    const struct cpu_event *e = &cpu->event;

    v->guest_cr0 = sys->cr0;
    v->guest_cr3 = sys->cr3;
    v->guest_cr4 = sys->cr4;
    if (vmcs_exit_control(v, SAVE_DEBUG_CONTROLS)) {
        v->guest_dr7 = sys->dr7;
        v->guest_ia32_debugctl = sys->debugctl;
    }
    v->guest_sysenter_cs = (u32)sys->sysenter_cs;
    v->guest_sysenter_esp = sys->sysenter_esp;
    v->guest_sysenter_eip = sys->sysenter_eip;
    if (vmcs_exit_control(v, SAVE_PAT))
        v->guest_ia32_pat = sys->pat;
    if (vmcs_exit_control(v, SAVE_EFER))
        v->guest_ia32_efer = sys->efer;
    if (vmx_offers(cpu, VMENTRY_LOAD_CET_STATE)) {
        v->guest_ia32_s_cet = sys->s_cet;
        v->guest_ssp = sys->ssp;
        v->guest_ia32_interrupt_ssp_table_addr = sys->ssp_table;
    }
    if (vmx_offers(cpu, VMENTRY_LOAD_PKRS))
        v->guest_ia32_pkrs = sys->pkrs;
    if (vmx_offers(cpu, VMENTRY_LOAD_UINV) || vmx_offers(cpu, VMEXIT_CLEAR_UINV))
        v->guest_uinv = sys->uintr_misc >> UINTR_UINV_SHIFT & 0xff;
    if (vmcs_exit_control(v, SAVE_PERF_GLOBAL_CTRL))
        v->guest_ia32_perf_global_ctrl = sys->perf_global_ctrl;

    SAVE_SEGMENT(es, SEG_ES);
    SAVE_SEGMENT(cs, SEG_CS);
    SAVE_SEGMENT(ss, SEG_SS);
    SAVE_SEGMENT(ds, SEG_DS);
    SAVE_SEGMENT(fs, SEG_FS);
    SAVE_SEGMENT(gs, SEG_GS);
    SAVE_SEGMENT(ldtr, SEG_LDTR);
    SAVE_SEGMENT(tr, SEG_TR);
    v->guest_gdtr_base = cpu->seg.gdtr.base;
    v->guest_gdtr_limit = cpu->seg.gdtr.limit;
    v->guest_idtr_base = cpu->seg.idtr.base;
    v->guest_idtr_limit = cpu->seg.idtr.limit;

    v->guest_rip = cpu->core.rip;
    v->guest_rsp = cpu->core.rsp;
    v->guest_rflags = saved_rflags(cpu, x);

    v->guest_activity = e->activity == ACTIVITY_MWAIT ? ACTIVITY_ACTIVE : e->activity;
    v->guest_interruptibility = cpu->smm.active ? e->blocking : e->blocking & ~BLOCK_SMI;
    v->guest_pending_debug = saved_pending_debug(cpu, x);

    if (ran && vmcs_secondary(ran, EPT)) {
        bool pae = sys->cr0 & CR0_PG && sys->cr4 & CR4_PAE && !(sys->efer & EFER_LMA);
        v->guest_pdpte0 = pae ? sys->pdpte[0] : 0;
        v->guest_pdpte1 = pae ? sys->pdpte[1] : 0;
        v->guest_pdpte2 = pae ? sys->pdpte[2] : 0;
        v->guest_pdpte3 = pae ? sys->pdpte[3] : 0;
    }
    if (ran && vmcs_pin(ran, PREEMPTION_TIMER) && vmcs_exit_control(v, SAVE_PREEMPTION_TIMER)) {
        u64 now = cpu->vmx.tsc;
        v->vmx_preemption_timer = timer_deadline > now ? (u32)((timer_deadline >> VMX_TIMER_RATE) - (now >> VMX_TIMER_RATE)) : 0;
    }
    v->entry_controls = (v->entry_controls & ~(u64)VMENTRY_IA32E_MODE_GUEST) |
                        (sys->efer & EFER_LMA ? VMENTRY_IA32E_MODE_GUEST : 0);
}

/* The event whose delivery the exit interrupted: its own delivery, or one that VM entry injected and that has not
 * begun. */
static void record_vectoring(const struct cpu *cpu, struct vmcs *v, const struct vmx_exit_info *x)
{
    const struct cpu_event *e = &cpu->event;
    v->idt_vectoring_info = v->idt_vectoring_error_code = 0;
    if (x->no_vectoring)
        return;
    if (e->delivering) {
        v->idt_vectoring_info =
            INFO_VALID | e->d_vector | (u32)e->d_type << INFO_TYPE_SHIFT | (e->d_has_error ? INFO_ERROR : 0);
        v->idt_vectoring_error_code = e->d_has_error ? e->d_error : 0;
        if (e->d_type >= EVT_SOFTWARE_INT)
            v->exit_instruction_length = e->d_insn_length;
    } else if (e->valid && e->injected) {
        v->idt_vectoring_info =
            INFO_VALID | e->vector | (u32)e->type << INFO_TYPE_SHIFT | (e->has_error ? INFO_ERROR : 0);
        v->idt_vectoring_error_code = e->has_error ? e->error : 0;
        if (e->type >= EVT_SOFTWARE_INT)
            v->exit_instruction_length = e->insn_length;
    }
}

static void record_exit(struct cpu *cpu, struct vmcs *v, const struct vmx_exit_info *x)
{
    v->exit_reason = x->reason;
    v->exit_qualification = x->qualification;
    v->guest_linear_address = x->la;
    v->guest_physical_address = x->gpa;
    v->exit_interruption_info = x->interruption_info;
    v->exit_interruption_error_code = x->error_code;
    v->exit_instruction_length = x->instruction_length;
    v->exit_instruction_info = x->instruction_info;
    record_vectoring(cpu, v, x);
    if (cpu->event.nmi_unblocking_iret && !(v->idt_vectoring_info & INFO_VALID)) {
        /* [SDM3 "Resuming Guest Software after Handling an Exception"]: the hypervisor must block NMIs again before
         * it restarts the IRET. */
        if (x->interruption_info & INFO_VALID && (x->interruption_info & 0xff) != EXC_DF)
            v->exit_interruption_info |= INFO_NMI_UNBLOCKING;
        else if ((x->reason & 0xffff) == EXIT_EPT_VIOLATION || (x->reason & 0xffff) == EXIT_PML_FULL ||
                 (x->reason & 0xffff) == EXIT_SPP_EVENT)
            v->exit_qualification |= INFO_NMI_UNBLOCKING;
    }
    v->entry_interruption_info &= ~(u64)INFO_VALID;
}

/* ---- loading host state ------------------------------------------------------------------------------------------ */

static void load_data_segment(struct segment *s, u64 selector, u64 base)
{
    s->selector = (u16)selector;
    s->base = base;
    s->limit = 0xffffffff;
    s->access = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED | AR_DB | AR_G;
    if (!selector)
        s->access |= AR_UNUSABLE;
}

void vmx_load_host_msrs(struct cpu *cpu, const struct vmcs *v)
{
    if (vmcs_exit_control(v, LOAD_CET_STATE)) {
        cpu->sys.s_cet = v->host_ia32_s_cet;
        cpu->sys.ssp = v->host_ssp;
        cpu->sys.ssp_table = v->host_ia32_interrupt_ssp_table_addr;
    }
    if (vmcs_exit_control(v, LOAD_PKRS))
        cpu->sys.pkrs = (u32)v->host_ia32_pkrs;
    if (vmcs_exit_control(v, CLEAR_UINV))
        cpu->sys.uintr_misc = (u32)cpu->sys.uintr_misc;
    if (vmcs_exit_control(v, LOAD_PERF_GLOBAL_CTRL))
        pmu_load_global_ctrl(cpu, v->host_ia32_perf_global_ctrl);
}

bool vmx_load_host_state(struct cpu *cpu, unsigned k)
{
    struct vmcs *v = vmcs_of(cpu, k);
    struct cpu_sys *sys = &cpu->sys;
    struct segment *s = cpu->seg.s;
    bool wide = vmcs_exit_control(v, HOST_ADDRESS_SPACE_SIZE);

    sys->cr0 = (vmx_root_cr0(cpu, k, v->host_cr0) & ~(u64)CR0_KEPT) | (sys->cr0 & CR0_KEPT);
    sys->cr3 = v->host_cr3 & cpu_cr3_allowed(cpu);
    sys->cr4 = vmx_root_cr4(cpu, k, v->host_cr4);
    sys->cr4 = wide ? sys->cr4 | CR4_PAE : sys->cr4 & ~(u64)CR4_PCIDE;
    if (vmcs_exit_control(v, LOAD_EFER))
        sys->efer = v->host_ia32_efer & cpu_efer_allowed(cpu);
    sys->efer = wide ? sys->efer | EFER_LMA | EFER_LME : sys->efer & ~(u64)(EFER_LMA | EFER_LME);
    if (vmcs_exit_control(v, LOAD_PAT))
        sys->pat = v->host_ia32_pat;
    vmx_load_host_msrs(cpu, v);
    sys->dr7 = 0x400;
    sys->debugctl = 0;
    sys->sysenter_cs = v->host_sysenter_cs;
    sys->sysenter_esp = v->host_sysenter_esp;
    sys->sysenter_eip = v->host_sysenter_eip;

    load_data_segment(&s[SEG_ES], v->host_es_selector, 0);
    load_data_segment(&s[SEG_SS], v->host_ss_selector, 0);
    load_data_segment(&s[SEG_DS], v->host_ds_selector, 0);
    load_data_segment(&s[SEG_FS], v->host_fs_selector, v->host_fs_base);
    load_data_segment(&s[SEG_GS], v->host_gs_selector, v->host_gs_base);
    s[SEG_CS].selector = (u16)v->host_cs_selector;
    s[SEG_CS].base = 0;
    s[SEG_CS].limit = 0xffffffff;
    s[SEG_CS].access = AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED | AR_G | (wide ? AR_L : AR_DB);
    s[SEG_TR].selector = (u16)v->host_tr_selector;
    s[SEG_TR].base = v->host_tr_base;
    s[SEG_TR].limit = 0x67;
    s[SEG_TR].access = AR_P | 11;
    s[SEG_LDTR].selector = 0;
    s[SEG_LDTR].base = 0;
    s[SEG_LDTR].limit = 0;
    s[SEG_LDTR].access = AR_UNUSABLE;
    cpu->seg.gdtr.base = v->host_gdtr_base;
    cpu->seg.gdtr.limit = 0xffff;
    cpu->seg.idtr.base = v->host_idtr_base;
    cpu->seg.idtr.limit = 0xffff;

    cpu->core.rip = wide ? v->host_rip : (u32)v->host_rip;
    cpu->core.rsp = wide ? v->host_rsp : (u32)v->host_rsp;
    cpu_set_rflags(cpu, 0);
    if (!wide && sys->cr0 & CR0_PG && sys->cr4 & CR4_PAE)
        return mem_load_pdptes(cpu, sys->cr3);
    return true;
}

void vmx_reset_events(struct cpu *cpu, u8 blocking, u8 activity)
{
    struct cpu_event *e = &cpu->event;
    e->valid = e->injected = e->delivering = e->extint = e->nmi_unblocking_iret = 0;
    e->pending_debug = 0;
    e->monitor_armed = 0;
    e->monitor_hpa = 0;
    e->blocking = blocking | (e->blocking & BLOCK_SMI);    /* entries and exits leave that alone */
    e->activity = activity;
    e->attention &= ATT_INTR | ATT_NMI | ATT_INIT | ATT_SIPI | ATT_SMI | ATT_STOP | ATT_PMU;
    if (activity != ACTIVITY_ACTIVE)
        e->attention |= ATT_ACTIVITY;
    if (blocking & (BLOCK_STI | BLOCK_MOV_SS))
        e->attention |= ATT_SHADOW;
}

/* ---- VMX aborts -------------------------------------------------------------------------------------------------- */

/* The hypervisor of frame k cannot be gone back to. L1 shuts down; a deeper one is a guest that shut down, which its
 * own hypervisor sees as a triple fault. */
static void vmx_abort(struct cpu *cpu, unsigned k, u32 indicator)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    bus_copy_to(cpu->bus, f->vmcs_hpa + 4, &indicator, sizeof indicator);
    if (trace_on(cpu, TRACE_VMX_EXIT))
        trace_emit(cpu, TRACE_VMX_EXIT, "abort", TRACE_FIELDS(trace_decimal("indicator", indicator)));
    cpu->vmx.depth = k;
    vmx_reset_events(cpu, 0, ACTIVITY_SHUTDOWN);
    cpu_mode_update(cpu);
    if (k) {
        struct vmx_exit_info info = {.reason = EXIT_TRIPLE_FAULT, .no_vectoring = 1};
        vmx_exit(cpu, k - 1, &info);
    } else if (cpu->board && cpu->board->shutdown) {
        cpu->board->shutdown(cpu->board_arg, cpu);
    }
}

/* ---- the exit ---------------------------------------------------------------------------------------------------- */

/* The MSR lists of an exit to frame k can be reached. False: cpu->fault. */
static bool exit_reachable(struct cpu *cpu, unsigned k)
{
    const struct vmcs *v = vmcs_of(cpu, k);
    return vmx_msr_list_reachable(cpu, k, v->exit_msr_store_address, (u32)v->exit_msr_store_count, ACCESS_WRITE) &&
           vmx_msr_list_reachable(cpu, k, v->exit_msr_load_address, (u32)v->exit_msr_load_count, ACCESS_READ);
}

static NOINLINE void finish(struct cpu *cpu, struct vmx_frame *f, unsigned k, u8 blocking)
{
    struct vmcs *v = &f->vmcs;
    f->timer_deadline = ~0ull;
    f->mtf_pending = f->apic_exit = f->virtual_interrupt = f->bus_lock = 0;
    cpu->vmx.depth = k;
    if (!vmx_load_host_state(cpu, k)) {
        vmx_abort(cpu, k, ABORT_LOAD_PDPTE);
        return;
    }
    vmx_reset_events(cpu, blocking, ACTIVITY_ACTIVE);
    if (UNLIKELY(v->exit_msr_load_count)) {
        cpu_mode_update(cpu);
        if (vmx_msr_list_load(cpu, k, v->exit_msr_load_address, (u32)v->exit_msr_load_count)) {
            vmx_abort(cpu, k, ABORT_LOAD_MSR);
            return;
        }
    }
    if (!vmcs_secondary(v, VPID))
        tlb_flush_vpid0(cpu, k);
    cpu_mode_update(cpu);
    cpu_cut_block(cpu);
    vmx_rearm(cpu);
}

/* … of frame f, number k: it is passed so that it is computed once. */
static NOINLINE bool exit_to(struct cpu *cpu, struct vmx_frame *f, unsigned k, const struct vmx_exit_info *x)
{
    struct vmcs *v = &f->vmcs;
    u32 depth = cpu->vmx.depth;

    vmx_note_time(cpu);
    if (k && (v->exit_msr_store_count || v->exit_msr_load_count) && !exit_reachable(cpu, k)) {
        if (cpu->fault.frame < k) {
            vmx_memory_exit(cpu);
            return false;
        }
        vmx_abort(cpu, k, ABORT_SAVE_MSR);
        return true;
    }
    if (trace_on(cpu, TRACE_VMX_EXIT))
        trace_emit(cpu, TRACE_VMX_EXIT, vmx_exit_name(x->reason & 0xffff),
                   TRACE_FIELDS(trace_decimal("reason", x->reason & 0xffff),
                                trace_hex("qualification", x->qualification), trace_decimal("to", k + 1),
                                trace_hex("rip", cpu->core.rip), trace_hex("gpa", x->gpa),
                                trace_hex("info", x->interruption_info)));

    if (UNLIKELY(cpu->stats != NULL))
        vmx_stats_exit(cpu, depth + 1, x->reason & 0xffff, k + 1);
    u8 blocking = vmcs_pin(v, VIRTUAL_NMIS) ? 0 : cpu->event.blocking & BLOCK_NMI;
    if (x->reason == EXIT_EXCEPTION_NMI && (x->interruption_info >> INFO_TYPE_SHIFT & 7) == EVT_NMI)
        blocking = BLOCK_NMI;
    if (x->reason == EXIT_CPUID)
        vmx_offer_note_cpuid(cpu, depth - 1, x->instruction_length);
    struct vmx_exit_info shown;
    if (k + 1 < depth) {
        vmx_suspend(cpu, k, x->instruction_length);
        shown = *x;
        if (UNLIKELY(shown.access.kind != CARRY_NONE) && vmx_standin_ask(cpu, k, &shown))
            x = &shown;
    }
    cpu->vmx.carried.count = 0;
    u64 entry_controls = v->entry_controls;
    record_exit(cpu, v, x);
    if (UNLIKELY(f->bus_lock))
        v->exit_reason |= EXIT_REASON_BUS_LOCK;
    save_guest(cpu, f, x, v, f->timer_deadline);
    vmx_check_note_exit(f);
    if (UNLIKELY(v->entry_controls != entry_controls))
        vmx_check_note_write(f, VMX_FIELD_entry_controls);
    if (k + 1 < VMX_MAX_FRAMES && cpu->vmx.frame[k + 1].vmxon)
        vmx_region_store(cpu, k + 1);
    if (UNLIKELY(v->exit_msr_store_count) &&
        vmx_msr_list_store(cpu, k, v->exit_msr_store_address, (u32)v->exit_msr_store_count)) {
        vmx_abort(cpu, k, ABORT_SAVE_MSR);
        return true;
    }
    finish(cpu, f, k, blocking);
    return true;
}

bool vmx_exit(struct cpu *cpu, unsigned k, const struct vmx_exit_info *x) { return exit_to(cpu, &cpu->vmx.frame[k], k, x); }

/* The fields that SMM VM exits write beside the usual ones [SDM3 "Recording VM-Exit Information"]. */
static void record_smm_exit(const struct cpu *cpu, struct vmcs *v, u64 executive, u64 current, bool root)
{
    const struct cpu_smm *smm = &cpu->smm;
    bool io = smm->io_state != 0;
    v->executive_vmcs_pointer = executive;
    if (root)
        v->vmcs_link_pointer = current;
    v->guest_smbase = (u32)cpu->sys.smbase;
    v->io_rcx = io ? smm->io_rcx : 0;
    v->io_rsi = io ? smm->io_rsi : 0;
    v->io_rdi = io ? smm->io_rdi : 0;
    v->io_rip = io ? smm->io_rip : 0;
}

void vmx_exit_to_smm(struct cpu *cpu, const struct vmx_exit_info *info, bool activates)
{
    struct vmx_frame *f = &cpu->vmx.frame[0];
    struct vmcs *v = &f->vmcs, ran;
    struct vmx_exit_info x = *info;

    vmx_note_time(cpu);
    if (UNLIKELY(cpu->stats != NULL))
        vmx_stats_exit(cpu, cpu->vmx.depth + 1, info->reason, 1);
    if (cpu->vmx.depth > 1)
        vmx_suspend(cpu, 0, 0);
    bool root = !cpu->vmx.depth;
    u64 current = f->vmcs_ptr, executive = root ? f->vmxon_ptr : current, deadline = f->timer_deadline;
    x.reason |= root ? EXIT_REASON_SMM_FROM_ROOT : f->mtf_pending ? EXIT_REASON_SMM_MTF : 0;
    if (trace_on(cpu, TRACE_VMX_EXIT))
        trace_emit(cpu, TRACE_VMX_EXIT, vmx_exit_name(info->reason),
                   TRACE_FIELDS(trace_decimal("reason", info->reason), trace_hex("qualification", x.qualification), trace_text("to", "SMM"),
                                trace_hex("rip", cpu->core.rip), trace_hex("executive", executive)));
    ran = *v;
    f->mtf_pending = 0;
    if (!activates)
        vmx_region_release(cpu, 0);
    cpu->smm.active = 1;
    cpu_select_bus_view(cpu);
    if (!activates) {
        vmx_region_load(cpu, 0, cpu->smm.transfer_vmcs, cpu->smm.transfer_vmcs);
        vmx_trust_host_state(cpu, v);
    }
    cpu->vmx.carried.count = 0;
    record_exit(cpu, v, &x);
    record_smm_exit(cpu, v, executive, current, root);
    save_guest(cpu, f, &x, root ? NULL : &ran, deadline);
    vmx_check_note_all(f);
    cpu->smm.io_state = 0;
    cpu->event.blocking |= BLOCK_SMI;
    tlb_flush_everything(cpu);
    if (activates) {
        cpu->vmx.depth = 0;
        vmx_smm_load_monitor(cpu);
        vmx_reset_events(cpu, BLOCK_NMI, ACTIVITY_ACTIVE);
        cpu_mode_update(cpu);
        cpu_cut_block(cpu);
        vmx_rearm(cpu);
        return;
    }
    if (v->exit_msr_store_count && vmx_msr_list_store(cpu, 0, v->exit_msr_store_address, (u32)v->exit_msr_store_count)) {
        vmx_abort(cpu, 0, ABORT_SAVE_MSR);
        return;
    }
    finish(cpu, f, 0, BLOCK_NMI);
}

void vmx_entry_failure(struct cpu *cpu, unsigned k, u32 reason, u64 qualification)
{
    struct vmcs *v = vmcs_of(cpu, k);
    v->exit_reason = reason | EXIT_REASON_ENTRY_FAILURE;
    v->exit_qualification = qualification;
    if (trace_on(cpu, TRACE_VMX_ENTRY))
        trace_emit(cpu, TRACE_VMX_ENTRY, "entry_failed",
                   TRACE_FIELDS(trace_text("reason", vmx_exit_name(reason)),
                                trace_hex("qualification", qualification)));
    finish(cpu, &cpu->vmx.frame[k], k, cpu->event.blocking & BLOCK_NMI);
}

/* The access as one that an outer hypervisor can carry out. */
static void carry(const struct mem_fault *fault, struct vmx_exit_info *x)
{
    if (fault->carry != CARRY_NONE)
        x->access = (struct vmx_carried_access){.where = fault->la, .value = fault->carry_value, .kind = fault->carry,
                                                .size = fault->carry_size};
}

/* Bits 11:9 of that qualification: the linear address is a user-mode one, read/write, not executable. */
#define VMX_ADVANCED_EPT_BITS (7ull << 9)

/* Bit 16: the access belongs to no instruction and to no event that the IDT delivers, but to the delivery of a user interrupt. */
#define VMX_ASYNCHRONOUS BIT(16)

/* The exit qualification of the EPT violation in cpu->fault. For a frame that is not the innermost the linear address means
 * nothing: it is not its guest's. */
static u64 violation_qualification(const struct cpu *cpu)
{
    u64 qualification = cpu->fault.qualification;
    if (cpu->fault.frame + 1 < cpu->vmx.depth)
        qualification &= ~(BIT(7) | BIT(8) | VMX_ADVANCED_EPT_BITS);
    if (!(vmx_capability(cpu, MSR_IA32_VMX_EPT_VPID_CAP) & EPTCAP_ADVANCED_EXITS))
        qualification &= ~VMX_ADVANCED_EPT_BITS;
    if (UNLIKELY(cpu->event.user_delivery))
        qualification |= VMX_ASYNCHRONOUS;
    return qualification;
}

void vmx_memory_exit(struct cpu *cpu)
{
    const struct mem_fault *fault = &cpu->fault;
    unsigned k = fault->frame;
    struct vmx_exit_info x = {.qualification = fault->qualification, .gpa = fault->gpa, .fault_like = 1};
    if (k >= cpu->vmx.depth)
        panic("memory fault of frame %u at depth %u", k, cpu->vmx.depth);
    switch (fault->kind) {
    case FAULT_EPT_VIOLATION:
        x.reason = EXIT_EPT_VIOLATION;
        x.qualification = violation_qualification(cpu);
        if (x.qualification & BIT(7))
            x.la = fault->la;
        carry(fault, &x);
        break;
    case FAULT_EPT_MISCONFIG:
        x.reason = EXIT_EPT_MISCONFIGURATION;
        x.qualification = 0;
        carry(fault, &x);
        break;
    case FAULT_APIC_ACCESS:
        x.reason = EXIT_APIC_ACCESS;
        x.gpa = 0;
        break;
    case FAULT_SPP:
        x.reason = EXIT_SPP_EVENT;
        x.la = k + 1 < cpu->vmx.depth ? 0 : fault->la;
        break;
    case FAULT_EPT_LOG_FULL:
        x.reason = EXIT_PML_FULL;
        x.qualification = 0;
        x.gpa = 0;
        break;
    default:
        panic("memory fault of kind %u is no VM exit", fault->kind);
    }
    if (trace_on(cpu, TRACE_EPT))
        trace_emit(cpu, TRACE_EPT, vmx_exit_name(x.reason),
                   TRACE_FIELDS(trace_decimal("frame", k), trace_hex("gpa", fault->gpa), trace_hex("la", fault->la),
                                trace_hex("qualification", fault->qualification)));
    vmx_exit(cpu, k, &x);
}

/* ---- virtualization exceptions ----------------------------------------------------------------------------------- */

/* [SDM3 "Convertible EPT Violations"], but for the word that says whether the guest is done with the last one. A violation
 * of an outer frame's EPT is no fault of the innermost guest's: its hypervisors know nothing of that frame. */
static bool is_convertible(const struct cpu *cpu)
{
    const struct mem_fault *fault = &cpu->fault;
    return fault->kind == FAULT_EPT_VIOLATION && fault->convertible && fault->frame + 1 == cpu->vmx.depth &&
           vmcs_secondary(&frame_innermost_const(cpu)->vmcs, EPT_VIOLATION_VE) && cpu->sys.cr0 & CR0_PE &&
           !cpu->event.delivering;
}

/* [SDM3 "Virtualization-Exception Information"] */
static void write_ve_information(struct cpu *cpu, u64 hpa)
{
    const struct mem_fault *fault = &cpu->fault;
    u64 qualification = violation_qualification(cpu);
    if (cpu->event.nmi_unblocking_iret)
        qualification |= INFO_NMI_UNBLOCKING;
    bus_write(cpu->bus, cpu->index, hpa, 4, EXIT_EPT_VIOLATION);
    bus_write(cpu->bus, cpu->index, hpa + 4, 4, 0xffffffff);
    bus_write(cpu->bus, cpu->index, hpa + 8, 8, qualification);
    bus_write(cpu->bus, cpu->index, hpa + 16, 8, qualification & BIT(7) ? fault->la : 0);
    bus_write(cpu->bus, cpu->index, hpa + 24, 8, fault->gpa);
    bus_write(cpu->bus, cpu->index, hpa + 32, 2, frame_innermost(cpu)->vmcs.eptp_index & 0xffff);
}

enum flow vmx_memory_fault(struct cpu *cpu)
{
    u64 hpa;
    if (LIKELY(!is_convertible(cpu)))
        goto leave;
    struct mem_fault fault = cpu->fault;
    u64 area = frame_innermost(cpu)->vmcs.ve_information_address & ~0xfffull;    /* whatever was done to a VMCS in memory: one page */
    if (!mem_gpa_to_hpa(cpu, fault.frame, area, ACCESS_WRITE, &hpa))
        goto leave;            /* an outer EPT lacks the area: that comes first */
    cpu->fault = fault;
    if (bus_read(cpu->bus, cpu->index, hpa + 4, 4))
        goto leave;
    write_ve_information(cpu, hpa);
    if (trace_on(cpu, TRACE_EPT))
        trace_emit(cpu, TRACE_EPT, "virtualization_exception",
                   TRACE_FIELDS(trace_decimal("frame", fault.frame), trace_hex("gpa", fault.gpa), trace_hex("la", fault.la),
                                trace_hex("qualification", fault.qualification)));
    return cpu_raise(cpu, EXC_VE);
leave:
    vmx_memory_exit(cpu);
    return FLOW_EXIT;
}
