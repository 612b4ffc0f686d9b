/* VM entries: the checks' verdict, the guest's state into the CPU, the MSR list, event injection, what the guest's
 * frame arms.
 *
 * Follows [SDM3 "VM Entries"]: "Basic VM-Entry Checks", "Loading Guest State", "Loading MSRs", "Trap Flag, Pending
 * Debug Exceptions, and …", "Special Features of VM Entry", "VM-Entry Failures During or After Loading Guest State".
 * The checks themselves are vmx/checks.c.
 *
 * Kept true: nothing of the guest is loaded before everything that an outer EPT could lack was found, so that the
 * instruction can be restarted after such a fault.
 */
#include "vmx/frame.h"

#include "cpu/flags.h"
#include "cpu/msr.h"
#include "cpu/pmu.h"
#include "cpu/trace.h"
#include "mmu/access.h"
#include "vmx/capability.h"
#include "vmx/checks.h"
#include "vmx/fields.h"
#include "vmx/insn.h"
#include "vmx/stats.h"
#include "vmx/virtual_apic.h"

/* ---- loading guest state ----------------------------------------------------------------------------------------- */

#define LOAD_SEGMENT(name, index)                                                                                      \
    do {                                                                                                               \
        struct segment *s_ = &cpu->seg.s[index];                                                                       \
        s_->selector = (u16)v->guest_##name##_selector;                                                                \
        s_->base = v->guest_##name##_base;                                                                             \
        s_->limit = (u32)v->guest_##name##_limit;                                                                      \
        s_->access = (u32)v->guest_##name##_access_rights & 0x1f0ff;                                                   \
    } while (0)

static void load_guest(struct cpu *cpu, const struct vmcs *v)
{
    struct cpu_sys *sys = &cpu->sys;
    bool wide = vmcs_entry_control(v, IA32E_MODE_GUEST);

    sys->cr0 = (v->guest_cr0 & ~(u64)CR0_KEPT & 0xffffffff) | (sys->cr0 & CR0_KEPT);
    sys->cr3 = v->guest_cr3;
    sys->cr4 = v->guest_cr4;
    if (vmcs_entry_control(v, LOAD_DEBUG_CONTROLS)) {
        sys->dr7 = (v->guest_dr7 & 0xffff2fffull) | 0x400;
        sys->debugctl = v->guest_ia32_debugctl;
    }
    if (vmcs_entry_control(v, LOAD_EFER)) {
        sys->efer = v->guest_ia32_efer;
    } else {
        sys->efer = wide ? sys->efer | EFER_LMA : sys->efer & ~(u64)EFER_LMA;
        if (sys->cr0 & CR0_PG)
            sys->efer = wide ? sys->efer | EFER_LME : sys->efer & ~(u64)EFER_LME;
    }
    if (vmcs_entry_control(v, LOAD_PAT))
        sys->pat = v->guest_ia32_pat;
    if (vmcs_entry_control(v, LOAD_CET_STATE)) {
        sys->s_cet = v->guest_ia32_s_cet;
        sys->ssp = v->guest_ssp;
        sys->ssp_table = v->guest_ia32_interrupt_ssp_table_addr;
    }
    if (vmcs_entry_control(v, LOAD_UINV))
        sys->uintr_misc = (u32)sys->uintr_misc | (v->guest_uinv & 0xff) << UINTR_UINV_SHIFT;
    if (vmcs_entry_control(v, LOAD_PKRS))
        sys->pkrs = v->guest_ia32_pkrs;
    if (vmcs_entry_control(v, LOAD_PERF_GLOBAL_CTRL))
        pmu_load_global_ctrl(cpu, v->guest_ia32_perf_global_ctrl);
    sys->sysenter_cs = v->guest_sysenter_cs;
    sys->sysenter_esp = v->guest_sysenter_esp;
    sys->sysenter_eip = v->guest_sysenter_eip;

    LOAD_SEGMENT(es, SEG_ES);
    LOAD_SEGMENT(cs, SEG_CS);
    LOAD_SEGMENT(ss, SEG_SS);
    LOAD_SEGMENT(ds, SEG_DS);
    LOAD_SEGMENT(fs, SEG_FS);
    LOAD_SEGMENT(gs, SEG_GS);
    LOAD_SEGMENT(ldtr, SEG_LDTR);
    LOAD_SEGMENT(tr, SEG_TR);
    cpu->seg.gdtr.base = v->guest_gdtr_base;
    cpu->seg.gdtr.limit = (u32)v->guest_gdtr_limit & 0xffff;
    cpu->seg.idtr.base = v->guest_idtr_base;
    cpu->seg.idtr.limit = (u32)v->guest_idtr_limit & 0xffff;

    cpu->core.rsp = v->guest_rsp;
    cpu->core.rip = v->guest_rip;
    cpu_set_rflags(cpu, v->guest_rflags);
}

static bool guest_pae(const struct cpu *cpu)
{
    return cpu->sys.cr0 & CR0_PG && cpu->sys.cr4 & CR4_PAE && !(cpu->sys.efer & EFER_LMA);
}

/* Interruptibility, activity, pending debug exceptions, the injected event. */
static void load_events(struct cpu *cpu, struct vmx_frame *f, const struct vmcs *v)
{
    struct cpu_event *e = &cpu->event;
    u32 info = (u32)v->entry_interruption_info;

    vmx_reset_events(cpu, v->guest_interruptibility & (BLOCK_STI | BLOCK_MOV_SS | BLOCK_NMI), v->guest_activity & 3);
    /* B0-B3 alone, without the bit that says one of them was enabled, pend no exception. */
    if (v->guest_pending_debug & (BIT(11) | BIT(12) | BIT(14))) {
        e->pending_debug = v->guest_pending_debug & (0xf | BIT(11) | BIT(12) | BIT(14));
        e->attention |= ATT_PENDING_DB;
    }
    if (!(info & INFO_VALID))
        return;
    unsigned type = info >> INFO_TYPE_SHIFT & 7;
    if (type == EVT_OTHER) {
        f->mtf_pending = 1;
        return;
    }
    e->valid = 1;
    e->injected = 1;
    e->vector = (u8)info;
    e->type = (u8)type;
    e->has_error = (info & INFO_ERROR) != 0;
    e->error = e->has_error ? (u32)v->entry_exception_error_code : 0;
    e->insn_length = type >= EVT_SOFTWARE_INT ? (u32)v->entry_instruction_length : 0;
    e->payload = 0;
    e->attention |= ATT_EVENT;
    if (trace_on(cpu, TRACE_VMX_INJECT))
        trace_emit(cpu, TRACE_VMX_INJECT, "inject",
                   TRACE_FIELDS(trace_decimal("vector", e->vector), trace_decimal("type", type),
                                trace_hex("error", e->error)));
}

/* The VMX-preemption timer starts, and so do the other counts that begin with a VM entry. */
static void start_timers(struct cpu *cpu, struct vmx_frame *f, u64 timer)
{
    f->timer_deadline = ~0ull;
    if (vmcs_pin(&f->vmcs, PREEMPTION_TIMER))
        f->timer_deadline = ((cpu->vmx.tsc >> VMX_TIMER_RATE) + (u32)timer) << VMX_TIMER_RATE;
    f->ple_first = f->ple_last = 0;
    f->apic_exit = 0;
    f->mtf_pending = f->bus_lock = 0;
}

/* [SDM3 "VM Exits Induced by the TPR Threshold"] */
static void check_tpr(struct cpu *cpu, struct vmx_frame *f)
{
    const struct vmcs *v = &f->vmcs;
    if (!vmcs_primary(v, TPR_SHADOW) || !vmcs_secondary(v, APIC_ACCESSES) || vmcs_secondary(v, VIRTUAL_INTERRUPT_DELIVERY))
        return;
    if (vapic_below_threshold(cpu, f))
        f->apic_exit = EXIT_TPR_BELOW_THRESHOLD;
}

/* ---- structures the VMCS points to ------------------------------------------------------------------------------- */

static inline bool pin(struct cpu *cpu, unsigned k, bool used, u64 gpa, unsigned access, u64 *hpa)
{
    *hpa = gpa;
    if (LIKELY(!used || k == 0))
        return true;
    return mem_gpa_to_hpa(cpu, k, gpa, access, hpa);
}

bool vmx_pin_frame(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    const struct vmcs *v = &f->vmcs;
    bool io = vmcs_primary(v, IO_BITMAPS);
    return pin(cpu, k, vmcs_primary(v, MSR_BITMAPS), v->msr_bitmap_address, ACCESS_READ, &f->msr_bitmap_hpa) &&
           pin(cpu, k, io, v->io_bitmap_a_address, ACCESS_READ, &f->io_bitmap_a_hpa) &&
           pin(cpu, k, io, v->io_bitmap_b_address, ACCESS_READ, &f->io_bitmap_b_hpa) &&
           pin(cpu, k, vmcs_primary(v, TPR_SHADOW), v->virtual_apic_address, ACCESS_WRITE, &f->virtual_apic_hpa) &&
           pin(cpu, k, vmcs_pin(v, POSTED_INTERRUPTS), v->posted_interrupt_descriptor_address, ACCESS_WRITE,
               &f->posted_hpa) &&
           (!vmcs_secondary(v, VMCS_SHADOWING) ||
            (pin(cpu, k, true, v->vmread_bitmap_address, ACCESS_READ, &f->vmread_bitmap_hpa) &&
             pin(cpu, k, true, v->vmwrite_bitmap_address, ACCESS_READ, &f->vmwrite_bitmap_hpa) &&
             pin(cpu, k, v->vmcs_link_pointer != VMX_NO_VMCS, v->vmcs_link_pointer, ACCESS_WRITE, &f->link_hpa)));
}

/* A VMCS that was checked when it was entered, and then lay in memory where software could reach it: what its exit will
 * load must still be a hypervisor's mode that exists. */
void vmx_trust_host_state(const struct cpu *cpu, struct vmcs *v)
{
    v->host_cr0 |= CR0_PE | CR0_NE | (u64)CR0_PG;
    v->host_cr4 = (v->host_cr4 & cpu_cr4_allowed(cpu)) | CR4_VMXE;
}

/* Deeper frames of the guest that frame k is about to go on with: their VMCSs, and what these point to when a unit
 * will be resumed, may have moved in L(k+1)'s memory. The CPU is at depth k + 1. False: a page is missing in an EPT
 * of frame k or an outer one. */
static bool pin_deeper(struct cpu *cpu, unsigned k)
{
    u32 resumed = cpu->vmx.frame[k].unit.valid ? cpu->vmx.frame[k].unit.depth : 0;
    for (unsigned m = k + 1; m < VMX_MAX_FRAMES; m++) {
        struct vmx_frame *f = &cpu->vmx.frame[m];
        u64 hpa;
        if (!f->vmxon || f->vmcs_ptr == VMX_NO_VMCS)
            break;
        if (!mem_gpa_to_hpa(cpu, m, f->vmcs_ptr, ACCESS_WRITE, &hpa))
            goto missing;
        if (f->stale) {
            /* exits that are due do not stand in the region */
            u8 mtf_pending = f->mtf_pending, apic_exit = f->apic_exit, bus_lock = f->bus_lock;
            u64 qualification = f->apic_exit_qualification;
            vmx_region_load(cpu, m, f->vmcs_ptr, hpa);
            if (m < resumed) {
                vmx_trust_host_state(cpu, &f->vmcs);
                f->mtf_pending = mtf_pending;
                f->bus_lock = bus_lock;
                f->apic_exit = apic_exit;
                f->apic_exit_qualification = qualification;
            }
        }
        f->vmcs_hpa = hpa;
        if (m < resumed && !vmx_pin_frame(cpu, m))
            goto missing;
        continue;
missing:
        if (cpu->fault.frame <= k)
            return false;
        /* A deeper hypervisor took the page away under its own guest hypervisor: nobody can be asked now. */
        vmx_frames_forget(cpu, m);
        cpu->vmx.frame[k].unit.valid = 0;
        break;
    }
    /* The frames that the unit says were entered must all be there. */
    for (unsigned m = k + 1; m < resumed; m++)
        if (!cpu->vmx.frame[m].vmxon || cpu->vmx.frame[m].vmcs_ptr == VMX_NO_VMCS)
            cpu->vmx.frame[k].unit.valid = 0;
    return true;
}

/* ---- MSR lists --------------------------------------------------------------------------------------------------- */

struct msr_entry { u32 number, reserved; u64 value; };

/* Where entry n of a list lies on the bus. */
static bool list_entry_hpa(struct cpu *cpu, unsigned k, u64 list, u32 n, unsigned access, u64 *hpa)
{
    u64 gpa = list + 16ull * n;
    if (k == 0) {
        *hpa = gpa;
        return true;
    }
    return mem_gpa_to_hpa(cpu, k, gpa, access, hpa);
}

bool vmx_msr_list_reachable(struct cpu *cpu, unsigned k, u64 list, u32 count, unsigned access)
{
    u64 hpa;
    if (k == 0)
        return true;
    /* one a page; entries do not cross pages */
    for (u32 n = 0; n < count && n < VMX_MSR_LIST_MAX; n = n - n % 256 + 256)
        if (!list_entry_hpa(cpu, k, list, n, access, &hpa))
            return false;
    return count == 0 || list_entry_hpa(cpu, k, list, (count < VMX_MSR_LIST_MAX ? count : VMX_MSR_LIST_MAX) - 1,
                                        access, &hpa);
}

/* MSRs that no list may load [SDM3 "Loading MSRs"]. (Those of SMM say themselves whether it is the time.) */
static bool list_loadable(const struct msr_entry *entry)
{
    u32 msr = entry->number;
    return !entry->reserved && msr != 0xc0000100 && msr != 0xc0000101 && msr >> 8 != 8 && msr != 0x79;
}

static bool list_storable(const struct msr_entry *entry)
{
    return !entry->reserved && entry->number >> 8 != 8;
}

static bool list_read(struct cpu *cpu, unsigned k, u64 list, u32 n, unsigned access, u64 *hpa, struct msr_entry *entry)
{
    memset(entry, 0, sizeof *entry);
    if (!list_entry_hpa(cpu, k, list, n, access, hpa))
        return false;
    u64 word = bus_read(cpu->bus, cpu->index, *hpa, 8);
    entry->number = (u32)word;
    entry->reserved = (u32)(word >> 32);
    entry->value = bus_read(cpu->bus, cpu->index, *hpa + 8, 8);
    return true;
}

u32 vmx_msr_list_load(struct cpu *cpu, unsigned k, u64 list, u32 count)
{
    for (u32 n = 0; n < count; n++) {
        struct msr_entry entry;
        u64 hpa;
        bool known;
        if (n >= VMX_MSR_LIST_MAX || !list_read(cpu, k, list, n, ACCESS_READ, &hpa, &entry) || !list_loadable(&entry))
            return n + 1;
        bool ok = vmx_msr_write_below(cpu, k, entry.number, entry.value, &known);
        if (!ok && (known || !cpu_msr_write(cpu, entry.number, entry.value)))
            return n + 1;
    }
    return 0;
}

u32 vmx_msr_list_store(struct cpu *cpu, unsigned k, u64 list, u32 count)
{
    for (u32 n = 0; n < count; n++) {
        struct msr_entry entry;
        u64 hpa, value;
        bool known;
        if (n >= VMX_MSR_LIST_MAX || !list_read(cpu, k, list, n, ACCESS_WRITE, &hpa, &entry) || !list_storable(&entry))
            return n + 1;
        bool ok = vmx_msr_read_below(cpu, k, entry.number, &value, &known);
        if (!ok && (known || !cpu_msr_read(cpu, entry.number, &value)))
            return n + 1;
        /* Frame k's own offset and multiplier do not count: it is the hypervisor's clock. */
        if (entry.number == MSR_IA32_TIME_STAMP_COUNTER)
            value = vmx_scale_tsc_below(cpu, k, value);
        bus_write(cpu->bus, cpu->index, hpa + 8, 8, value);
    }
    return 0;
}

/* ---- what must be watched ---------------------------------------------------------------------------------------- */

void vmx_rearm(struct cpu *cpu)
{
    bool armed = vmx_carrying(cpu) && cpu->vmx.depth, virtual_interrupt = false;
    u64 deadline = ~0ull;
    for (u32 k = 0; k < cpu->vmx.depth; k++) {
        const struct vmx_frame *f = &cpu->vmx.frame[k];
        u64 windows = PRIMARY_INTERRUPT_WINDOW_EXITING | PRIMARY_NMI_WINDOW_EXITING | PRIMARY_MONITOR_TRAP_FLAG;
        if (f->vmcs.primary_controls & windows || f->mtf_pending || f->apic_exit || f->bus_lock || vmx_has_held(f))
            armed = true;
        virtual_interrupt |= f->virtual_interrupt;
        if (f->timer_deadline < deadline)
            deadline = f->timer_deadline;
    }
    if (deadline != ~0ull) {
        u64 tsc = cpu->vmx.tsc;
        if (deadline <= tsc)
            armed = true;
        else if (cpu->time.now + (deadline - tsc) < cpu->stop_at)
            cpu->stop_at = cpu->time.now + (deadline - tsc);
    }
    if (armed)
        cpu->event.attention |= ATT_VMX;
    else
        cpu->event.attention &= ~(u32)ATT_VMX;
    if (virtual_interrupt)
        cpu->event.attention |= ATT_VIRTUAL_INTR;
    else
        cpu->event.attention &= ~(u32)ATT_VIRTUAL_INTR;
}

u64 vmx_next_deadline(struct cpu *cpu)
{
    u64 deadline = ~0ull;
    for (u32 k = 0; k < cpu->vmx.depth; k++)
        if (cpu->vmx.frame[k].timer_deadline < deadline)
            deadline = cpu->vmx.frame[k].timer_deadline;
    if (deadline == ~0ull)
        return ~0ull;
    vmx_note_time(cpu);
    if (deadline > cpu->vmx.tsc)
        return cpu->time.now + (deadline - cpu->vmx.tsc);
    /* It has expired: the exit is made before the next instruction. */
    cpu->event.attention |= ATT_VMX;
    return ~0ull;
}

/* ---- the entry --------------------------------------------------------------------------------------------------- */

/* Everything an entry of frame k touches through outer EPTs is there. False: cpu->fault. */
static bool entry_reachable(struct cpu *cpu, unsigned k)
{
    const struct vmcs *v = vmcs_of(cpu, k);
    return vmx_pin_frame(cpu, k) && (LIKELY(v->entry_msr_load_count == 0) ||
           vmx_msr_list_reachable(cpu, k, v->entry_msr_load_address, (u32)v->entry_msr_load_count, ACCESS_READ));
}

/* Deeper levels of the guest that goes on: their structures, and the unit that they are. False: a page is missing, the exit was made. */
static bool go_deeper(struct cpu *cpu, unsigned k)
{
    if (k + 1 >= VMX_MAX_FRAMES || !cpu->vmx.frame[k + 1].vmxon)
        return true;
    if (!pin_deeper(cpu, k)) {
        vmx_memory_exit(cpu);
        return false;
    }
    if (cpu->vmx.frame[k].unit.valid)
        vmx_resume_unit(cpu, k);
    return true;
}

/* The end of a VM entry that returns from SMM: another VMCS becomes current, that of the executive monitor or of its guest; state and
 * event are those of the VMCS that was [SDM3 "Updating the Current-VMCS and SMM-Transfer VMCS Pointers"]. */
static enum flow leave_smm(struct cpu *cpu)
{
    struct vmx_frame *f = &cpu->vmx.frame[0];
    struct vmcs from = f->vmcs;
    bool root = vmx_smm_switch_back(cpu);

    load_events(cpu, f, &from);
    if (!vmcs_entry_control(&from, DEACTIVATE_DUAL_MONITOR))
        cpu->event.blocking |= from.guest_interruptibility & BLOCK_SMI;
    cpu->vmx.depth = !root;
    if (!root) {
        bool mtf = f->mtf_pending;
        vmx_trust_host_state(cpu, &f->vmcs);
        vmx_pin_frame(cpu, 0);
        start_timers(cpu, f, from.vmx_preemption_timer);
        f->mtf_pending = mtf;
        check_tpr(cpu, f);
    }
    tlb_flush_everything(cpu);
    cpu_mode_update(cpu);
    cpu_cut_block(cpu);
    if (!root) {
        vmx_virtual_interrupt_entry(cpu, 0);
        if (!go_deeper(cpu, 0))
            return FLOW_EXIT;
    }
    vmx_rearm(cpu);
    if (UNLIKELY(cpu->stats != NULL))
        vmx_stats_entry(cpu, 1, cpu->vmx.depth + 1);
    return FLOW_EXIT;
}

/* The software that runs enters the guest of its frame f, which is passed so that it is computed once. */
static NOINLINE enum flow enter(struct cpu *cpu, struct vmx_frame *f, const struct insn *in, bool launch)
{
    unsigned k = cpu->vmx.depth;
    struct vmcs *v = &f->vmcs;
    u8 blocking = cpu->event.blocking & (BLOCK_NMI | BLOCK_SMI);
    struct vmx_check_failure failure;

    if (f->vmcs_ptr == VMX_NO_VMCS || vmx_region_word(cpu, f->vmcs_hpa) & VMCS_SHADOW)
        return vmx_fail_invalid(cpu, in);
    if (cpu->event.blocking & BLOCK_MOV_SS)
        return vmx_fail(cpu, in, VMX_ERROR_ENTRY_BLOCKED_BY_MOV_SS);
    if (launch && v->launched)
        return vmx_fail(cpu, in, VMX_ERROR_VMLAUNCH_NOT_CLEAR);
    if (!launch && !v->launched)
        return vmx_fail(cpu, in, VMX_ERROR_VMRESUME_NOT_LAUNCHED);
    if (!entry_reachable(cpu, k)) {
        vmx_memory_exit(cpu);
        return FLOW_EXIT;
    }
    if (!vmx_check_entry(cpu, k, &failure)) {
        if (failure.fault) {
            vmx_memory_exit(cpu);
            return FLOW_EXIT;
        }
        if (failure.group != VMX_CHECK_GUEST)
            return vmx_fail(cpu, in, failure.error);
        vmx_entry_failure(cpu, k, EXIT_ENTRY_FAIL_GUEST_STATE, failure.qualification);
        return FLOW_EXIT;
    }

    if (trace_on(cpu, TRACE_VMX_ENTRY))
        trace_emit(cpu, TRACE_VMX_ENTRY, launch ? "launch" : "resume",
                   TRACE_FIELDS(trace_decimal("to", k + 2), trace_hex("rip", v->guest_rip),
                                trace_hex("inject", v->entry_interruption_info)));
    f->root_cr0 = cpu->sys.cr0;
    f->root_cr4 = cpu->sys.cr4;
    load_guest(cpu, v);
    if (guest_pae(cpu))
        memcpy(cpu->sys.pdpte, failure.pdpte, sizeof cpu->sys.pdpte);
    bool returns = UNLIKELY(cpu->smm.active) && k == 0 && !vmcs_entry_control(v, ENTRY_TO_SMM);
    if (LIKELY(!returns)) {
        cpu->vmx.depth = k + 1;
        start_timers(cpu, f, v->vmx_preemption_timer);
    }
    if (!vmcs_secondary(v, VPID))
        tlb_flush_vpid0(cpu, k);
    cpu_cut_block(cpu);

    if (UNLIKELY(v->entry_msr_load_count)) {
        cpu_mode_update(cpu);  /* what may be loaded depends on it */
        u32 failed = vmx_msr_list_load(cpu, k, v->entry_msr_load_address, (u32)v->entry_msr_load_count);
        if (failed) {
            cpu->event.blocking = blocking;
            vmx_entry_failure(cpu, k, EXIT_ENTRY_FAIL_MSR_LOADING, failed);
            return FLOW_EXIT;
        }
    }
    v->launched = 1;
    if (UNLIKELY(returns))
        return leave_smm(cpu);
    load_events(cpu, f, v);
    cpu_mode_update(cpu);
    check_tpr(cpu, f);
    vmx_virtual_interrupt_entry(cpu, k);
    vmx_offer_entered(cpu, k);

    if (!go_deeper(cpu, k))
        return FLOW_EXIT;
    vmx_rearm(cpu);
    if (UNLIKELY(cpu->stats != NULL))
        vmx_stats_entry(cpu, k + 1, cpu->vmx.depth + 1);
    if (UNLIKELY(cpu->stats != NULL) && k == 0)
        vmx_stats_controls(cpu);
    return FLOW_EXIT;
}

enum flow vmx_enter(struct cpu *cpu, const struct insn *in, bool launch)
{
    vmx_note_time(cpu);
    cpu->vmx.entering = 1;
    enum flow flow = enter(cpu, &cpu->vmx.frame[cpu->vmx.depth], in, launch);
    cpu->vmx.entering = 0;
    return flow;
}
