/* The derived mode of a CPU and its reset.
 *
 * cpu->mode, ATT_STEP, tlb_slow and the translation context follow from the plain state (CR0, CR4, EFER, CS, SS,
 * RFLAGS, DR7). They are computed here and nowhere else, so whatever writes the plain state wholesale (VM entry,
 * snapshots, task switches) needs only to call cpu_mode_update() afterwards.
 *
 * Follows [SDM3 "Modes of Operation"], [SDM3 "Debug Address Registers (DR0-DR3)"], [SDM3 "Processor State After
 * Reset"].
 */
#include "cpu/mode.h"

#include "cpu/flags.h"
#include "cpu/model.h"
#include "cpu/pmu.h"
#include "mmu/bus.h"
#include "mmu/context.h"
#include "mmu/tlb.h"

/* What the breakpoints enabled in DR7 watch: bit 0 code, bit 1 data. I/O breakpoints (cpu/io.c) need neither: ports are
 * looked at by the instructions themselves. */
static unsigned breakpoints_watched(const struct cpu *cpu)
{
    u64 dr7 = cpu->sys.dr7;
    unsigned watched = 0;
    if (LIKELY(!(dr7 & 0xff)))
        return 0;
    for (unsigned n = 0; n < 4; n++) {
        unsigned rw = dr7 >> (16 + 4 * n) & 3;
        if (dr7 >> (2 * n) & 3 && rw != 2)
            watched |= rw == 0 ? 1 : 2;
    }
    return watched;
}

/* What CET does at this privilege level; the tracker of indirect branches may wait. */
static COLD void update_cet(struct cpu *cpu)
{
    struct cpu_mode *m = &cpu->mode;
    u64 cet = m->cpl == 3 ? cpu->sys.u_cet : cpu->sys.s_cet;
    if (!m->protected_mode)
        return;
    m->cet = (u8)((cet & CET_SH_STK_EN ? MODE_SHADOW_STACK : 0) | (cet & CET_ENDBR_EN ? MODE_IBT : 0));
    if (m->cet & MODE_IBT && cet & CET_TRACKER)
        cpu->event.attention |= ATT_ENDBRANCH;
}

/* Who is told of locked accesses at this privilege level. */
static u8 locks_watched(const struct cpu *cpu)
{
    u8 locks = cpu->mode.vmm_locks;
    if (UNLIKELY(cpu->sys.debugctl & DEBUGCTL_BUS_LOCK_DETECT) && cpu->mode.cpl > 0)
        locks |= LOCKS_DEBUG;
    if (UNLIKELY(cpu->sys.test_ctrl & TEST_CTRL_SPLIT_LOCK_FAULT))
        locks |= LOCKS_SPLIT_FAULT;
    return locks;
}

/* An entered frame that has "VMM bus-lock detection". */
static u8 vmm_watches(const struct cpu *cpu)
{
    for (u32 k = 0; k < cpu->vmx.depth; k++)
        if (frame_secondary(&cpu->vmx.frame[k].vmcs) & FRAME_BUS_LOCK_DETECTION)
            return LOCKS_VMM;
    return 0;
}

COLD void cpu_recognize_user_interrupt(struct cpu *cpu)
{
    const struct cpu_sys *sys = &cpu->sys;
    if (sys->cr4 & CR4_UINTR && sys->uintr_rr && sys->uif && cpu->mode.cpl == 3 && cpu->mode.code_bits == BITS_64) {
        cpu->event.attention |= ATT_UINTR;
        cpu_cut_block(cpu);
    } else {
        cpu->event.attention &= ~(u32)ATT_UINTR;
    }
}

static void update_privilege(struct cpu *cpu)
{
    struct cpu_mode *m = &cpu->mode;
    u64 flags = cpu->core.rflags_rest;

    m->cpl = m->real ? 0 : m->v8086 ? 3 : (u8)((cpu->seg.s[SEG_SS].access & AR_DPL) >> 5);
    m->cet = 0;
    cpu->event.attention &= ~(u32)(ATT_ENDBRANCH | ATT_UINTR);
    if (UNLIKELY(cpu->sys.cr4 & (CR4_CET | CR4_UINTR))) {
        if (cpu->sys.cr4 & CR4_CET)
            update_cet(cpu);
        cpu_recognize_user_interrupt(cpu);
    }
    m->locks = locks_watched(cpu);
    m->code_key = (u8)(m->code_bits | (m->cpl == 3) << 2 | m->cet << 3 | (m->locks != 0) << 5);

    unsigned watched = breakpoints_watched(cpu);
    if (UNLIKELY(flags & (FL_TF | FL_RF) || watched & 1 || cpu->sys.debugctl & DEBUGCTL_LBR))
        cpu->event.attention |= ATT_STEP;
    else
        cpu->event.attention &= ~(u32)ATT_STEP;
    cpu->tlb_slow = watched & 2 || (flags & FL_AC && cpu->sys.cr0 & CR0_AM && m->cpl == 3);

    if (LIKELY(cpu->tlb))
        tlb_select(cpu);
}

void cpu_mode_update(struct cpu *cpu)
{
    struct cpu_mode *m = &cpu->mode;
    const struct cpu_sys *sys = &cpu->sys;
    u32 cs = cpu->seg.s[SEG_CS].access, ss = cpu->seg.s[SEG_SS].access;
    bool protection = sys->cr0 & CR0_PE;

    m->long_mode = (sys->efer & EFER_LMA) != 0;
    m->real = !protection;
    m->v8086 = protection && !m->long_mode && cpu->core.rflags_rest & FL_VM;
    m->protected_mode = protection && !m->v8086;
    m->code_bits = m->long_mode && cs & AR_L ? BITS_64 : cs & AR_DB ? BITS_32 : BITS_16;
    m->stack_bits = m->code_bits == BITS_64 ? BITS_64 : ss & AR_DB ? BITS_32 : BITS_16;
    if (!(sys->cr0 & CR0_PG))
        m->paging = PAGING_NONE;
    else if (m->long_mode)
        m->paging = sys->cr4 & CR4_LA57 ? PAGING_5LEVEL : PAGING_4LEVEL;
    else
        m->paging = sys->cr4 & CR4_PAE ? PAGING_PAE : PAGING_32;
    m->la_bits = m->paging == PAGING_5LEVEL ? 57 : 48;
    m->pa_bits = LIKELY(cpu->model != NULL) ? cpu->model->physical_bits : (u8)cpu_physical_bits(cpu);
    m->vmm_locks = vmm_watches(cpu);
    update_privilege(cpu);
}

void cpu_mode_update_cpl(struct cpu *cpu)
{
    update_privilege(cpu);
}

/* [SDM3 "System-Management Range Registers (SMRR)"]: PHYSBASE and PHYSMASK are 4-KiB aligned addresses below 4 GiB, a power of two
 * in size. A mask that is none covers from its lowest bit on. */
void cpu_select_bus_view(struct cpu *cpu)
{
    const struct cpu_smm *smm = &cpu->smm;
    u64 mask = smm->smrr_mask & 0xfffff000;
    bool valid = smm->smrr_mask & BIT(11) && mask;
    if (cpu->bus)
        bus_set_view(cpu->bus, smm->active, smm->smrr_base & mask, valid ? mask & -mask : 0);
}

unsigned cpu_physical_bits(const struct cpu *cpu)
{
    return cpu_model_of(cpu)->physical_bits;
}

/* ---- reset ----------------------------------------------------------------------------------------------------- */

static void reset_segments(struct cpu *cpu)
{
    memset(&cpu->seg, 0, sizeof cpu->seg);
    for (unsigned n = SEG_ES; n <= SEG_GS; n++) {
        cpu->seg.s[n].limit = 0xffff;
        cpu->seg.s[n].access = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED;
    }
    cpu->seg.s[SEG_CS].selector = 0xf000;
    cpu->seg.s[SEG_CS].base = 0xffff0000;
    cpu->seg.s[SEG_LDTR].limit = 0xffff;
    cpu->seg.s[SEG_LDTR].access = AR_P | 2;
    cpu->seg.s[SEG_TR].limit = 0xffff;
    cpu->seg.s[SEG_TR].access = AR_P | 11;      /* a busy TSS: what VM entry checks ask of TR holds from the start */
    cpu->seg.gdtr.limit = 0xffff;
    cpu->seg.idtr.limit = 0xffff;
}

/* What only power-on (and RESET) sets; an INIT leaves it alone. */
static void reset_power_on(struct cpu *cpu)
{
    struct cpu_sys *sys = &cpu->sys;

    memset(sys, 0, sizeof *sys);
    sys->cr0 = CR0_CD | CR0_NW;
    sys->xcr0 = 1;
    sys->pat = 0x0007040600070406;
    sys->misc_enable = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS |
                       (cpu_has(cpu, FEATURE_MONITOR) ? MISC_ENABLE_MONITOR : 0) |
                       (cpu_has(cpu, FEATURE_PMU) ? MISC_ENABLE_PERFMON : 0);
    sys->apic_base = APIC_BASE_DEFAULT | APIC_BASE_ENABLE | (cpu->index == 0 ? APIC_BASE_BSP : 0);
    sys->smbase = 0x30000;
    sys->mcg_ctl = ~0ull;

    struct cpu_fpu *fpu = &cpu->fpu;
    memset(fpu, 0, sizeof *fpu);
    fpu->fcw = 0x40;
    fpu->ftw_full = 0x5555;
    fpu->mxcsr = 0x1f80;

    memset(&cpu->smm, 0, sizeof cpu->smm);
    cpu_select_bus_view(cpu);

    memset(&cpu->vmx, 0, sizeof cpu->vmx);
    for (unsigned k = 0; k < VMX_MAX_FRAMES; k++) {
        cpu->vmx.frame[k].vmcs_ptr = VMX_NO_VMCS;
        cpu->vmx.frame[k].timer_deadline = ~0ull;
    }
}

void cpu_reset(struct cpu *cpu, bool init)
{
    struct cpu_sys *sys = &cpu->sys;
    u32 lines = init ? cpu->event.attention & (ATT_INTR | ATT_SMI | ATT_STOP) : cpu->event.attention & ATT_STOP;

    if (!init)
        reset_power_on(cpu);
    memset(&cpu->core, 0, sizeof cpu->core);
    cpu_set_rflags(cpu, 0);
    cpu->core.rip = 0xfff0;
    cpu->core.rdx = cpu_model_of(cpu)->signature;
    reset_segments(cpu);

    sys->cr0 = (sys->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
    sys->cr2 = sys->cr3 = sys->cr4 = sys->efer = 0;
    memset(sys->dr, 0, sizeof sys->dr);
    sys->dr6 = DR6_FIXED;
    sys->dr7 = DR7_FIXED;
    sys->debugctl = 0;

    u8 smi_blocking = init ? cpu->event.blocking & BLOCK_SMI : 0;
    memset(&cpu->event, 0, sizeof cpu->event);
    cpu->event.blocking = smi_blocking;
    cpu->event.attention = lines;
    if (!(sys->apic_base & APIC_BASE_BSP)) {
        cpu->event.activity = ACTIVITY_WAIT_SIPI;
        cpu->event.attention |= ATT_ACTIVITY;
    }
    if (init)
        pmu_update(cpu);
    else
        pmu_reset(cpu);
    memset(&cpu->fault, 0, sizeof cpu->fault);
    if (cpu->tlb)
        tlb_flush_everything(cpu);
    cpu_mode_update(cpu);
    cpu_cut_block(cpu);
}
