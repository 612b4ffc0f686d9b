/* SMIs and RSM in VMX operation.
 *
 * Under the default treatment an SMI takes the processor out of VMX operation and RSM takes it back [SDM3 "Default Treatment of
 * SMI Delivery", "Default Treatment of RSM"]. What the processor keeps to itself is `depth` and `vmxon` of cpu->smm; the frames stand
 * untouched, since nothing in SMM can reach them: CR4.VMXE is reserved there. SMM is below all levels: which of them ran makes no
 * difference.
 *
 * Under the dual-monitor treatment SMIs are VM exits to a monitor in SMM, which returns by VM entries [SDM3 "Dual-Monitor Treatment of
 * SMIs and SMM"]. It uses frame 0 itself, so what the executive monitor had there goes to the region of its VMCS, deeper levels with it
 * as one unit, and comes back from there. Only L1 can be an executive monitor: no other level is offered the treatment.
 */
#include "vmx/frame.h"

#include "cpu/flags.h"
#include "cpu/trace.h"
#include "mmu/bus.h"
#include "vmx/capability.h"
#include "vmx/checks.h"
#include "vmx/insn.h"

void vmx_smm_reset_events(struct cpu *cpu, u8 blocking, u8 activity)
{
    cpu->event.blocking = 0;
    vmx_reset_events(cpu, blocking, activity);
}

void vmx_smm_leave(struct cpu *cpu)
{
    struct cpu_smm *smm = &cpu->smm;
    smm->vmxon = cpu->vmx.frame[0].vmxon;
    smm->depth = cpu->vmx.depth;
    cpu->vmx.frame[0].vmxon = 0;
    cpu->vmx.depth = 0;
}

bool vmx_smm_eptp(const struct cpu *cpu, u64 *eptp)
{
    const struct vmcs *v = &cpu->vmx.frame[0].vmcs;
    *eptp = vmcs_secondary(v, EPT) ? v->ept_pointer : 0;
    return vmcs_secondary(v, EPT);
}

void vmx_smm_return(struct cpu *cpu)
{
    struct cpu_smm *smm = &cpu->smm;
    if (!smm->vmxon)
        return;
    cpu->vmx.frame[0].vmxon = 1;
    cpu->vmx.depth = smm->depth;
    smm->vmxon = 0;
    smm->depth = 0;
    bool unrestricted = cpu->vmx.depth && vmcs_secondary(&frame_innermost(cpu)->vmcs, UNRESTRICTED_GUEST);
    cpu->sys.cr0 |= CR0_NE | (unrestricted ? 0 : CR0_PE | (u64)CR0_PG);
    cpu->sys.cr4 |= CR4_VMXE;
    if (!(cpu_rflags(cpu) & FL_VM) && !unrestricted) {
        struct segment *cs = &cpu->seg.s[SEG_CS], *ss = &cpu->seg.s[SEG_SS];
        cs->selector = (u16)((cs->selector & ~3u) | smm->ss_dpl);
        ss->selector = (u16)((ss->selector & ~3u) | smm->ss_dpl);
        ss->access = (ss->access & ~(u32)AR_DPL) | (u32)smm->ss_dpl << 5;
    }
}

void vmx_smm_resume(struct cpu *cpu)
{
    vmx_note_time(cpu);
    vmx_rearm(cpu);
}

/* ---- the dual-monitor treatment ----------------------------------------------------------------------------------- */

/* The header of MSEG [SDM3 "Enabling the Dual-Monitor Treatment"]. */
struct mseg_header {
    u32 revision, features;    /* features: bit 0: the monitor runs in IA-32e mode */
    u32 gdtr_limit, gdtr_offset, cs, eip_offset, esp_offset, cr3_offset;
};
enum { MSEG_IA32E = 1 };

static u64 mseg_base(const struct cpu *cpu) { return cpu->smm.monitor_ctl & 0xfffff000; }

/* What does not answer reads as ones, which is no header. */
static struct mseg_header mseg_read(struct cpu *cpu)
{
    struct mseg_header header;
    if (!bus_copy_from(cpu->bus, &header, mseg_base(cpu), sizeof header))
        memset(&header, 0xff, sizeof header);
    return header;
}

bool vmx_smi(struct cpu *cpu)
{
    const struct cpu_smm *smm = &cpu->smm;
    if (!smm->dual_monitor)
        return false;
    u32 io = smm->io_state;
    struct vmx_exit_info x = {.reason = io ? EXIT_IO_SMI : EXIT_OTHER_SMI};
    if (io) {
        unsigned size = io >> 1 & 7;
        x.qualification = (size - 1) | (io >> 1 & 0x78) | (io & 0xffff0000);
        x.la = smm->io_la;
    }
    vmx_exit_to_smm(cpu, &x, false);
    return true;
}

bool vmx_smi_waits(const struct cpu *cpu) { return cpu->smm.dual_monitor && cpu->vmx.depth && cpu->vmx.frame[0].apic_exit; }

/* [SDM3 "Initial Checks"]: the VM-exit controls keep to their capability MSR. */
static bool exit_controls_valid(const struct cpu *cpu, u64 controls)
{
    return !(~controls & vmx_allowed_0(VMX_WORD_VMEXIT)) && !(controls & ~vmx_allowed_1(cpu, VMX_WORD_VMEXIT));
}

enum flow vmx_smm_vmcall(struct cpu *cpu, const struct insn *in)
{
    struct vmx_frame *f = &cpu->vmx.frame[0];
    struct cpu_smm *smm = &cpu->smm;
    struct vmx_exit_info x = {.reason = EXIT_VMCALL, .instruction = 1, .instruction_length = in->length};

    if (smm->active || !vmx_dual_monitor_supported(cpu) || !(smm->monitor_ctl & SMM_MONITOR_VALID))
        return vmx_fail(cpu, in, VMX_ERROR_VMCALL_IN_ROOT);
    if (smm->dual_monitor) {
        vmx_exit_to_smm(cpu, &x, false);
        return FLOW_EXIT;
    }
    if (f->vmcs_ptr == VMX_NO_VMCS)
        return vmx_fail_invalid(cpu, in);
    if (f->vmcs.launched)
        return vmx_fail(cpu, in, VMX_ERROR_VMCALL_NON_CLEAR_VMCS);
    if (!exit_controls_valid(cpu, f->vmcs.exit_controls))
        return vmx_fail(cpu, in, VMX_ERROR_VMCALL_INVALID_EXIT_CONTROLS);
    smm->active = 1;
    cpu_select_bus_view(cpu);
    struct mseg_header header = mseg_read(cpu);
    smm->active = 0;
    cpu_select_bus_view(cpu);
    if (header.revision != VMX_MSEG_REVISION)
        return vmx_fail(cpu, in, VMX_ERROR_VMCALL_INCORRECT_MSEG_REVISION);
    bool wide = header.features & MSEG_IA32E;
    if (header.features & ~(u32)MSEG_IA32E || (wide && !cpu_has(cpu, FEATURE_LM)) || (!wide && cpu->mode.code_bits == BITS_64))
        return vmx_fail(cpu, in, VMX_ERROR_VMCALL_INVALID_SMM_FEATURES);
    smm->transfer_vmcs = f->vmcs_ptr;
    smm->dual_monitor = 1;
    vmx_exit_to_smm(cpu, &x, true);
    return FLOW_EXIT;
}

/* [SDM3 "Loading Host State", of "Activating the Dual-Monitor Treatment"] */
void vmx_smm_load_monitor(struct cpu *cpu)
{
    const struct mseg_header header = mseg_read(cpu);
    struct cpu_sys *sys = &cpu->sys;
    u64 base = mseg_base(cpu);
    bool wide = header.features & MSEG_IA32E;
    u16 cs = (u16)(header.cs & 0xfff8), ss;

    sys->cr0 = (sys->cr0 & (CR0_CD | CR0_NW)) | CR0_PE | CR0_MP | CR0_ET | CR0_NE | (u64)CR0_PG;
    sys->cr3 = ((u32)(base + header.cr3_offset) & 0xfffff000) | (header.cr3_offset & 0x18);
    sys->cr4 &= ~(u64)(CR4_MCE | CR4_PGE | CR4_PCIDE | CR4_CET | CR4_PAE | CR4_PSE);
    sys->cr4 |= wide ? CR4_PAE : cpu_has(cpu, FEATURE_PSE) ? CR4_PSE : 0;
    sys->efer = wide ? sys->efer | EFER_LMA | EFER_LME : sys->efer & ~(u64)(EFER_LMA | EFER_LME);
    sys->dr7 = 0x400;
    sys->debugctl = 0;
    cs = cs ? cs : 8;
    ss = (u16)(cs + 8);
    ss = ss ? ss : 8;
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        cpu->seg.s[n] = (struct segment){.limit = 0xffffffff, .selector = ss,
                                         .access = AR_P | AR_S | AR_G | AR_DB | AR_WRITABLE | AR_ACCESSED};
    cpu->seg.s[SEG_CS].selector = cs;
    cpu->seg.s[SEG_CS].access = AR_P | AR_S | AR_G | AR_CODE | AR_READABLE | AR_ACCESSED | (wide ? AR_L : AR_DB);
    cpu->seg.s[SEG_LDTR] = (struct segment){.access = AR_UNUSABLE};
    cpu->seg.gdtr.base = (u32)(base + header.gdtr_offset);
    cpu->seg.gdtr.limit = header.gdtr_limit & 0xffff;
    cpu->seg.idtr.limit = 0;
    cpu->core.rip = (u32)(base + header.eip_offset);
    cpu->core.rsp = (u32)(base + header.esp_offset);
    cpu_set_rflags(cpu, 0);
}

bool vmx_smm_switch_back(struct cpu *cpu)
{
    struct vmx_frame *f = &cpu->vmx.frame[0];
    struct cpu_smm *smm = &cpu->smm;
    bool root = f->vmcs.executive_vmcs_pointer == f->vmxon_ptr;
    bool deactivates = vmcs_entry_control(&f->vmcs, DEACTIVATE_DUAL_MONITOR);
    u64 next = root ? f->vmcs.vmcs_link_pointer : f->vmcs.executive_vmcs_pointer;

    cpu->sys.smbase = f->vmcs.guest_smbase;
    smm->transfer_vmcs = deactivates ? 0 : f->vmcs_ptr;
    vmx_region_release(cpu, 0);
    smm->active = 0;
    smm->dual_monitor = !deactivates;
    cpu_select_bus_view(cpu);
    if (next != VMX_NO_VMCS)
        vmx_region_load(cpu, 0, next, next);
    cpu->event.blocking &= ~BLOCK_SMI;
    return root;
}
