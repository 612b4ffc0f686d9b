/* Writes to CR0, CR3, CR4 and IA32_EFER as the bare processor does them: reserved bits, combinations that raise
 * #GP(0), the switch into and out of IA-32e mode, PDPTE loads, and which translations each write invalidates.
 *
 * Kept true: nothing has changed when a write fails. VMX's fixed bits, masks and intercepts are the caller's business.
 *
 * Follows [SDM2 "MOV—Move to/from Control Registers"], [SDM3 "Control Registers"], [SDM3 "Initializing IA-32e Mode"],
 * [SDM3 "Loading Paging-Structure Entries: PDPTE Registers"], [SDM3 "Operations that Invalidate TLBs and
 * Paging-Structure Caches"].
 */
#include "cpu/cr.h"

#include "cpu/mode.h"
#include "cpu/model.h"
#include "mmu/access.h"
#include "mmu/tlb.h"

#define CR0_WRITABLE (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | (u64)CR0_PG)
#define CR3_NO_FLUSH BIT(63)

/* PDPTE registers for PAE paging. What went wrong is left for the caller to raise: #GP(0) here, a memory fault in
 * cpu->fault. */
static bool load_pdptes(struct cpu *cpu, u64 cr3, enum flow *flow)
{
    cpu->fault.kind = FAULT_NONE;
    if (mem_load_pdptes(cpu, cr3))
        return true;
    *flow = cpu->fault.kind == FAULT_NONE ? cpu_raise_gp(cpu, 0) : FLOW_EVENT;
    return false;
}

/* True when CR0, CR4 and EFER values mean PAE paging. */
static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
    return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LME);
}

enum flow cpu_write_cr0(struct cpu *cpu, u64 value)
{
    struct cpu_sys *sys = &cpu->sys;
    u64 old = sys->cr0, efer = sys->efer;

    if (value >> 32)
        return cpu_raise_gp(cpu, 0);
    value = (value & CR0_WRITABLE) | CR0_ET;
    if ((value & CR0_PG && !(value & CR0_PE)) || (value & CR0_NW && !(value & CR0_CD)))
        return cpu_raise_gp(cpu, 0);
    if (sys->cr4 & CR4_CET && !(value & CR0_WP))
        return cpu_raise_gp(cpu, 0);

    u64 changed = old ^ value;
    if (changed & CR0_PG) {
        if (value & CR0_PG && efer & EFER_LME) {
            u32 tr = cpu->seg.s[SEG_TR].access & AR_TYPE;
            bool tss16 = tr == 1 || tr == 3;
            if (!(sys->cr4 & CR4_PAE) || cpu->seg.s[SEG_CS].access & AR_L || tss16)
                return cpu_raise_gp(cpu, 0);
            efer |= EFER_LMA;
        } else if (!(value & CR0_PG)) {
            if (sys->cr4 & CR4_PCIDE || cpu->mode.code_bits == BITS_64)
                return cpu_raise_gp(cpu, 0);
            efer &= ~(u64)EFER_LMA;
        }
    }
    if (changed & (CR0_PG | CR0_CD | CR0_NW) && pae_paging(value, sys->cr4, efer)) {
        enum flow flow;
        if (!load_pdptes(cpu, sys->cr3, &flow))
            return flow;
    }

    sys->cr0 = value;
    sys->efer = efer;
    cpu_mode_update(cpu);
    if (changed & CR0_PG)                  /* what rights depend on (WP, SMEP, keys …) tlb_select() looks after */
        tlb_flush_all_pcids(cpu);
    return FLOW_NEXT;
}

u64 cpu_cr3_allowed(const struct cpu *cpu)
{
    return mask_low(cpu_physical_bits(cpu)) | (cpu_has(cpu, FEATURE_LAM) ? CR3_LAM_U57 | CR3_LAM_U48 : 0);
}

enum flow cpu_write_cr3(struct cpu *cpu, u64 value)
{
    struct cpu_sys *sys = &cpu->sys;
    bool pcid = sys->cr4 & CR4_PCIDE, flush = true;

    if (pcid && value & CR3_NO_FLUSH) {
        flush = false;
        value &= ~CR3_NO_FLUSH;
    }
    if (sys->efer & EFER_LMA && value & ~cpu_cr3_allowed(cpu))
        return cpu_raise_gp(cpu, 0);
    if (pae_paging(sys->cr0, sys->cr4, sys->efer)) {
        enum flow flow;
        if (!load_pdptes(cpu, value, &flow))
            return flow;
    }
    sys->cr3 = value;
    if (pcid && flush)
        tlb_flush_pcid(cpu, value & 0xfff, true);
    cpu_mode_update(cpu);
    if (!pcid)
        tlb_flush_context(cpu, true);
    return FLOW_NEXT;
}

u64 cpu_cr4_allowed(const struct cpu *cpu)
{
    u64 allowed = CR4_PCE;
#define ALLOW(feature, bits) allowed |= cpu_has(cpu, FEATURE_##feature) ? (u64)(bits) : 0
    ALLOW(VME, CR4_VME | CR4_PVI);
    ALLOW(TSC, CR4_TSD);
    ALLOW(DE, CR4_DE);
    ALLOW(PSE, CR4_PSE);
    ALLOW(PAE, CR4_PAE);
    ALLOW(MCE, CR4_MCE);
    ALLOW(PGE, CR4_PGE);
    ALLOW(FXSR, CR4_OSFXSR);
    ALLOW(SSE, CR4_OSXMMEXCPT);
    ALLOW(UMIP, CR4_UMIP);
    ALLOW(LA57, CR4_LA57);
    /* [SDM3 "Protection of CR4.VMXE in SMM"] */
    if (!cpu->smm.active || cpu->smm.dual_monitor)
        ALLOW(VMX, CR4_VMXE);
    ALLOW(FSGSBASE, CR4_FSGSBASE);
    ALLOW(PCID, CR4_PCIDE);
    ALLOW(XSAVE, CR4_OSXSAVE);
    ALLOW(SMEP, CR4_SMEP);
    ALLOW(SMAP, CR4_SMAP);
    ALLOW(PKU, CR4_PKE);
    ALLOW(CET_SS, CR4_CET);
    ALLOW(CET_IBT, CR4_CET);
    ALLOW(PKS, CR4_PKS);
    ALLOW(UINTR, CR4_UINTR);
    ALLOW(LAM, CR4_LAM_SUP);
#undef ALLOW
    return allowed;
}

enum flow cpu_write_cr4(struct cpu *cpu, u64 value)
{
    struct cpu_sys *sys = &cpu->sys;
    u64 changed = sys->cr4 ^ value;

    if (value & ~cpu_cr4_allowed(cpu))
        return cpu_raise_gp(cpu, 0);
    if (sys->efer & EFER_LMA && (!(value & CR4_PAE) || changed & CR4_LA57))
        return cpu_raise_gp(cpu, 0);
    if (changed & value & CR4_PCIDE && (!(sys->efer & EFER_LMA) || sys->cr3 & 0xfff))
        return cpu_raise_gp(cpu, 0);
    if (value & CR4_CET && !(sys->cr0 & CR0_WP))
        return cpu_raise_gp(cpu, 0);
    if (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP) && pae_paging(sys->cr0, value, sys->efer)) {
        enum flow flow;
        if (!load_pdptes(cpu, sys->cr3, &flow))
            return flow;
    }

    sys->cr4 = value;
    cpu_mode_update(cpu);
    /* More than the manual asks for in a few cases: such writes are rare. */
    if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_LA57))
        tlb_flush_all_pcids(cpu);
    return FLOW_NEXT;
}

u64 cpu_efer_allowed(const struct cpu *cpu)
{
    bool nx = cpu_has(cpu, FEATURE_NX) && !(cpu->sys.misc_enable & MISC_ENABLE_XD_DISABLE);
    return (cpu_has(cpu, FEATURE_SYSCALL) ? EFER_SCE : 0) | (cpu_has(cpu, FEATURE_LM) ? EFER_LME | EFER_LMA : 0) |
           (nx ? EFER_NXE : 0);
}

bool cpu_write_efer(struct cpu *cpu, u64 value)
{
    struct cpu_sys *sys = &cpu->sys;

    if (value & ~cpu_efer_allowed(cpu))
        return false;
    u64 changed = sys->efer ^ value;
    if (changed & EFER_LME && sys->cr0 & CR0_PG)
        return false;
    sys->efer = (value & ~(u64)EFER_LMA) | (sys->efer & EFER_LMA);
    cpu_mode_update(cpu);
    return true;
}

void cpu_write_pkru(struct cpu *cpu, u32 value)
{
    if (cpu->sys.pkru == value)
        return;
    cpu->sys.pkru = value;
    cpu_mode_update_cpl(cpu);
}
