/* SMIs and RSM in VMX operation.
 *
 * Under the default treatment an SMI takes the processor out of VMX operation and RSM takes it back [SDM3 "Default Treatment of SMI Delivery",
 * "Default Treatment of RSM"]. What the processor keeps to itself is `depth` and `vmxon` of cpu->smm; the frames stand untouched, since
 * nothing in SMM can reach them: CR4.VMXE is reserved there. SMM is below all levels: which of them ran makes no difference.
 */
#include "vmx/frame.h"

#include "cpu/flags.h"

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
