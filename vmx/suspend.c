/* Suspended units: what becomes of the deeper levels when an outer frame takes an exit.
 *
 * Frame k takes an exit while L(d+1) runs under frames k+1..d-1. Its hypervisor knows of none of them: it must see
 * L(k+2) as the cause, in a state in which it decides rightly. So the innermost guest's true state goes to frame k's
 * unit, and the CPU is given what L(k+2) would have found had it got an exit then: its host state, interruptible. Of
 * that stand-in the ordinary exit to frame k is made. When frame k enters that guest again, the unit goes on where it
 * was.
 *
 * Kept true: what the hypervisor changed in the stand-in becomes L(k+2)'s (its host-state area); the innermost guest
 * keeps its state, except that an instruction that was skipped there is skipped here. What was injected into L(k+2) is
 * routed again, inwards: the frames between see it as they would see it on a processor of their own.
 */
#include "vmx/frame.h"

#include "cpu/flags.h"
#include "cpu/pmu.h"
#include "cpu/raise.h"
#include "cpu/trace.h"

static const u8 unit_segments[8] = {SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR};

static void save_unit(const struct cpu *cpu, struct vmx_unit *u)
{
    const struct cpu_sys *sys = &cpu->sys;
    const struct cpu_event *e = &cpu->event;

    memset(u, 0, sizeof *u);
    u->valid = 1;
    u->depth = cpu->vmx.depth;
    u->rip = cpu->core.rip;
    u->rsp = cpu->core.rsp;
    u->rflags = cpu_rflags(cpu);
    u->cr0 = sys->cr0;
    u->cr3 = sys->cr3;
    u->cr4 = sys->cr4;
    u->efer = sys->efer;
    u->dr7 = sys->dr7;
    u->debugctl = sys->debugctl;
    u->pat = sys->pat;
    u->pkrs = sys->pkrs;
    u->uinv = (u8)(sys->uintr_misc >> UINTR_UINV_SHIFT);
    u->perf_global_ctrl = sys->perf_global_ctrl;
    u->s_cet = sys->s_cet;
    u->ssp = sys->ssp;
    u->ssp_table = sys->ssp_table;
    u->sysenter_cs = sys->sysenter_cs;
    u->sysenter_esp = sys->sysenter_esp;
    u->sysenter_eip = sys->sysenter_eip;
    memcpy(u->pdpte, sys->pdpte, sizeof u->pdpte);
    for (unsigned n = 0; n < ARRAY_SIZE(unit_segments); n++) {
        const struct segment *s = &cpu->seg.s[unit_segments[n]];
        u->seg[n].base = s->base;
        u->seg[n].limit = s->limit;
        u->seg[n].access = s->access;
        u->seg[n].selector = s->selector;
    }
    u->gdtr_base = cpu->seg.gdtr.base;
    u->gdtr_limit = cpu->seg.gdtr.limit;
    u->idtr_base = cpu->seg.idtr.base;
    u->idtr_limit = cpu->seg.idtr.limit;

    u->blocking = e->blocking;
    u->activity = e->activity == ACTIVITY_MWAIT ? ACTIVITY_ACTIVE : e->activity;
    u->event_valid = e->valid;
    u->vector = e->vector;
    u->type = e->type;
    u->has_error = e->has_error;
    u->error = e->error;
    u->event_length = e->insn_length;
    u->payload = e->payload;
    u->injected = e->injected;
    u->delivering = e->delivering;
    u->d_vector = e->d_vector;
    u->d_type = e->d_type;
    u->d_has_error = e->d_has_error;
    u->d_error = e->d_error;
    u->d_length = e->d_insn_length;
    u->pending_debug = e->pending_debug;
}

static void restore_unit(struct cpu *cpu, const struct vmx_unit *u)
{
    struct cpu_sys *sys = &cpu->sys;
    struct cpu_event *e = &cpu->event;

    cpu->core.rip = u->rip;
    cpu->core.rsp = u->rsp;
    cpu_set_rflags(cpu, u->rflags);
    sys->cr0 = u->cr0;
    sys->cr3 = u->cr3;
    sys->cr4 = u->cr4;
    sys->efer = u->efer;
    sys->dr7 = u->dr7;
    sys->debugctl = u->debugctl;
    sys->pat = u->pat;
    sys->pkrs = u->pkrs;
    sys->uintr_misc = (u32)sys->uintr_misc | (u64)u->uinv << UINTR_UINV_SHIFT;
    pmu_load_global_ctrl(cpu, u->perf_global_ctrl);
    sys->s_cet = u->s_cet;
    sys->ssp = u->ssp;
    sys->ssp_table = u->ssp_table;
    sys->sysenter_cs = u->sysenter_cs;
    sys->sysenter_esp = u->sysenter_esp;
    sys->sysenter_eip = u->sysenter_eip;
    memcpy(sys->pdpte, u->pdpte, sizeof sys->pdpte);
    for (unsigned n = 0; n < ARRAY_SIZE(unit_segments); n++) {
        struct segment *s = &cpu->seg.s[unit_segments[n]];
        s->base = u->seg[n].base;
        s->limit = u->seg[n].limit;
        s->access = u->seg[n].access & 0x1f0ff;
        s->selector = (u16)u->seg[n].selector;
    }
    cpu->seg.gdtr.base = u->gdtr_base;
    cpu->seg.gdtr.limit = u->gdtr_limit & 0xffff;
    cpu->seg.idtr.base = u->idtr_base;
    cpu->seg.idtr.limit = u->idtr_limit & 0xffff;

    vmx_reset_events(cpu, u->blocking & 0xf, u->activity);
    e->pending_debug = u->pending_debug;
    if (e->pending_debug)
        e->attention |= ATT_PENDING_DB;
    if (u->event_valid) {
        e->valid = 1;
        e->vector = u->vector;
        e->type = u->type & 7;
        e->has_error = u->has_error;
        e->error = u->error;
        e->insn_length = u->event_length;
        e->payload = u->payload;
        e->injected = u->injected;
        e->delivering = u->delivering;
        e->d_vector = u->d_vector;
        e->d_type = u->d_type & 7;
        e->d_has_error = u->d_has_error;
        e->d_error = u->d_error;
        e->d_insn_length = u->d_length;
    } else if (u->delivering) {
        /* Its delivery was interrupted and begins anew; whether a frame wants it was decided before. */
        e->valid = 1;
        e->vector = u->d_vector;
        e->type = u->d_type & 7;
        e->has_error = u->d_has_error;
        e->error = u->d_error;
        e->insn_length = u->d_length;
        e->payload = 0;
        e->injected = 1;
    }
    if (e->valid)
        e->attention |= ATT_EVENT;
}

void vmx_suspend(struct cpu *cpu, unsigned k, u32 instruction_length)
{
    struct vmx_unit *u = &cpu->vmx.frame[k].unit;

    save_unit(cpu, u);
    u->carried = cpu->vmx.carried;
    cpu->vmx.carried.count = 0;
    /* What an exit loads only if its controls say so is what the exits of the levels between would have left. */
    for (unsigned m = u->depth - 1; m > k + 1; m--) {
        const struct vmcs *v = vmcs_of(cpu, m);
        if (vmcs_exit_control(v, LOAD_EFER))
            cpu->sys.efer = v->host_ia32_efer & cpu_efer_allowed(cpu);
        if (vmcs_exit_control(v, LOAD_PAT))
            cpu->sys.pat = v->host_ia32_pat;
        vmx_load_host_msrs(cpu, v);
    }
    cpu->vmx.depth = k + 1;
    vmx_load_host_state(cpu, k + 1);
    cpu_set_rflags(cpu, FL_IF);
    vmx_reset_events(cpu, 0, ACTIVITY_ACTIVE);
    u->shown_rip = cpu->core.rip;
    u->shown_length = instruction_length;
    u->shown_cr0 = cpu->sys.cr0;
    u->shown_cr3 = cpu->sys.cr3;
    u->shown_cr4 = cpu->sys.cr4;
    u->shown_efer = cpu->sys.efer;
}

/* What hypervisor L(k+1) changed in the stand-in is L(k+2)'s when it goes on. */
static void keep_changes(struct cpu *cpu, unsigned k, const struct vmx_unit *u)
{
    struct vmcs *v = vmcs_of(cpu, k + 1);
    const struct segment *s = cpu->seg.s;
    v->host_rsp = cpu->core.rsp;
    v->host_cr3 = cpu->sys.cr3;
    v->host_fs_base = s[SEG_FS].base;
    v->host_gs_base = s[SEG_GS].base;
    v->host_tr_base = s[SEG_TR].base;
    v->host_gdtr_base = cpu->seg.gdtr.base;
    v->host_idtr_base = cpu->seg.idtr.base;
    v->host_sysenter_cs = (u32)cpu->sys.sysenter_cs;
    v->host_sysenter_esp = cpu->sys.sysenter_esp;
    v->host_sysenter_eip = cpu->sys.sysenter_eip;
    if (vmcs_exit_control(v, LOAD_PAT))
        v->host_ia32_pat = cpu->sys.pat;
    if (vmcs_exit_control(v, LOAD_CET_STATE)) {
        v->host_ia32_s_cet = cpu->sys.s_cet;
        v->host_ssp = cpu->sys.ssp;
        v->host_ia32_interrupt_ssp_table_addr = cpu->sys.ssp_table;
    }
    if (vmcs_exit_control(v, LOAD_PKRS))
        v->host_ia32_pkrs = cpu->sys.pkrs;
    if (vmcs_exit_control(v, LOAD_PERF_GLOBAL_CTRL))
        v->host_ia32_perf_global_ctrl = cpu->sys.perf_global_ctrl;
    if (cpu->core.rip != u->shown_rip && cpu->core.rip != u->shown_rip + u->shown_length)
        v->host_rip = cpu->core.rip;
}

void vmx_resume_unit(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    struct vmx_unit *u = &f->unit;
    struct cpu_event *e = &cpu->event;
    struct cpu_event injected = *e;

    u->valid = 0;
    vmx_standin_answered(cpu, u);
    /* A hypervisor that put its guest into another mode has reset it: then there is no unit to go back to. */
    if ((cpu->sys.cr0 ^ u->shown_cr0) & (CR0_PE | (u64)CR0_PG) || (cpu->sys.efer ^ u->shown_efer) & EFER_LMA ||
        (cpu->sys.cr4 ^ u->shown_cr4) & CR4_PAE || e->activity >= ACTIVITY_SHUTDOWN) {
        vmx_frames_forget(cpu, k + 1);
        return;
    }
    bool skipped = u->shown_length && cpu->core.rip == u->shown_rip + u->shown_length;
    keep_changes(cpu, k, u);
    restore_unit(cpu, u);
    if (skipped) {
        cpu->core.rip += u->shown_length;
        if (!(cpu->sys.efer & EFER_LMA && cpu->seg.s[SEG_CS].access & AR_L))
            cpu->core.rip = (u32)cpu->core.rip;
        e->blocking &= ~(BLOCK_STI | BLOCK_MOV_SS);
        e->activity = ACTIVITY_ACTIVE;
        e->attention &= ~(u32)(ATT_SHADOW | ATT_ACTIVITY);
    }
    cpu->vmx.depth = u->depth;
    cpu->vmx.carried = u->carried;
    cpu_mode_update(cpu);
    for (unsigned m = k + 1; m < u->depth; m++)
        vmx_virtual_interrupt_resume(cpu, m);
    vmx_offer_entered(cpu, u->depth - 1);
    if (!injected.valid)
        return;
    if (injected.type == EVT_EXTERNAL) {
        f->held_vectors[injected.vector >> 6] |= BIT(injected.vector & 63);
        vmx_try_held(cpu);
    } else if (injected.type == EVT_NMI) {
        f->held_nmi = 1;
        vmx_try_held(cpu);
    } else {
        /* An exception for the instruction that the stand-in seemed to run: it is the innermost guest's. */
        e->valid = 1;
        e->vector = injected.vector;
        e->type = injected.type;
        e->has_error = injected.has_error;
        e->error = injected.error;
        e->insn_length = injected.insn_length;
        e->payload = injected.vector == EXC_PF ? cpu->sys.cr2 : 0;
        e->injected = 0;
        e->delivering = 0;
        e->attention |= ATT_EVENT;
    }
}

/* ---- events held for a level that cannot take them yet ----------------------------------------------------------- */

static int highest_held(const struct vmx_frame *f)
{
    for (int n = 3; n >= 0; n--)
        if (f->held_vectors[n])
            return n * 64 + 63 - __builtin_clzll(f->held_vectors[n]);
    return -1;
}

void vmx_give_event(struct cpu *cpu, u8 vector, enum event_type type)
{
    cpu_raise(cpu, vector);
    cpu->event.type = (u8)type;
    cpu->event.injected = 1;
}

static bool try_held_nmi(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    for (unsigned m = k + 1; m < cpu->vmx.depth; m++) {
        if (vmcs_pin(vmcs_of(cpu, m), NMI_EXITING)) {
            struct vmx_exit_info x = {.reason = EXIT_EXCEPTION_NMI,
                                      .interruption_info = INFO_VALID | EVT_NMI << INFO_TYPE_SHIFT | EXC_NMI};
            if (vmx_exit(cpu, m, &x))
                f->held_nmi = 0;
            return true;
        }
    }
    if (cpu->event.blocking & (BLOCK_NMI | BLOCK_MOV_SS | BLOCK_STI))
        return false;
    f->held_nmi = 0;
    vmx_give_event(cpu, EXC_NMI, EVT_NMI);
    return true;
}

static bool try_held_interrupt(struct cpu *cpu, unsigned k, u8 vector)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    u64 bit = BIT(vector & 63);
    for (unsigned m = k + 1; m < cpu->vmx.depth; m++) {
        const struct vmcs *v = vmcs_of(cpu, m);
        if (vmcs_pin(v, EXTERNAL_INTERRUPT_EXITING)) {
            bool acknowledge = vmcs_exit_control(v, ACKNOWLEDGE_INTERRUPT);
            struct vmx_exit_info x = {.reason = EXIT_EXTERNAL_INTERRUPT,
                                      .interruption_info = acknowledge ? INFO_VALID | vector : 0};
            if (vmx_exit(cpu, m, &x) && acknowledge)
                f->held_vectors[vector >> 6] &= ~bit;
            vmx_rearm(cpu);
            return true;
        }
    }
    if (!(cpu->core.rflags_rest & FL_IF) || cpu->event.blocking & (BLOCK_STI | BLOCK_MOV_SS))
        return false;
    f->held_vectors[vector >> 6] &= ~bit;
    vmx_give_event(cpu, vector, EVT_EXTERNAL);
    return true;
}

bool vmx_try_held(struct cpu *cpu)
{
    if (cpu->event.valid || cpu->event.activity >= ACTIVITY_SHUTDOWN || vmx_carrying(cpu))
        return false;
    for (unsigned k = 0; k < cpu->vmx.depth; k++) {
        int vector = highest_held(&cpu->vmx.frame[k]);
        if (cpu->vmx.frame[k].held_nmi && try_held_nmi(cpu, k))
            return true;
        if (vector >= 0 && try_held_interrupt(cpu, k, (u8)vector))
            return true;
    }
    return false;
}
