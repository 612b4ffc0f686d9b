/* SMIs and RSM: the state save map, the state in which a handler begins, and the way back.
 *
 * Follows [SDM3 "System Management Mode"]: "SMRAM State Save Map and Intel 64 Architecture", "SMI Handler Execution
 * Environment", "Exiting From SMM", "Auto HALT Restart", "SMBASE Relocation", "I/O Instruction Restart"; what VMX operation adds
 * is vmx/smm.c's [SDM3 "Default Treatment of SMIs and SMM with VMX Operation and SMX Operation"].
 *
 * Where the manual leaves a choice: SMIs wait while events are blocked by STI or MOV SS, and in the wait-for-SIPI state; INIT
 * waits while the processor is in SMM; EFER is cleared on entry; IA32_DEBUGCTL and the descriptor-table registers are not
 * touched; a trap that was due at the interrupted boundary comes after RSM.
 *
 * Kept true: RSM takes nothing from SMRAM that is no state of a processor: then it shuts down [SDM2 "RSM"].
 */
#include "cpu/smm.h"

#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/msr.h"
#include "cpu/trace.h"
#include "mmu/bus.h"
#include "mmu/tlb.h"
#include "vmx/vmx.h"

#define MAP_SIZE 0x400u
#define MAP_REVISION 0x00030101u           /* level 101h; I/O instruction restart; SMBASE relocation */
#define HANDLER 0x8000u

/* Offsets into the map, the manual's (from SMBASE + 8000h) less 7C00h. */
#define AT(offset) ((offset) - 0x7c00u)
enum {
    MAP_CR0 = AT(0x7ff8), MAP_CR3 = AT(0x7ff0), MAP_RFLAGS = AT(0x7fe8), MAP_EFER = AT(0x7fe0), MAP_RIP = AT(0x7fd8),
    MAP_DR6 = AT(0x7fd0), MAP_DR7 = AT(0x7fc8), MAP_SELECTOR_TR = AT(0x7fc4), MAP_IO_STATE = AT(0x7fa4),
    MAP_IO_ADDRESS = AT(0x7f9c), MAP_REGISTERS = AT(0x7f1c), MAP_HALT_RESTART = AT(0x7f02), MAP_IO_RESTART = AT(0x7f00),
    MAP_REVISION_ID = AT(0x7efc), MAP_SMBASE = AT(0x7ef8), MAP_EPT = AT(0x7ee0), MAP_EPTP = AT(0x7ed8), MAP_SSP = AT(0x7ec8),
    MAP_LDT_BASE = AT(0x7e9c), MAP_IDT_BASE = AT(0x7e94), MAP_GDT_BASE = AT(0x7e8c), MAP_CR4 = AT(0x7e40),
    MAP_IO_RIP = AT(0x7de8), MAP_IDT_BASE_HIGH = AT(0x7dd8), MAP_LDT_BASE_HIGH = AT(0x7dd4), MAP_GDT_BASE_HIGH = AT(0x7dd0),
    /* ours, in reserved space: eight times base, limit, access rights; PDPTEs; limits */
    MAP_HIDDEN = AT(0x7c00), MAP_PDPTES = AT(0x7c80), MAP_IDT_LIMIT = AT(0x7ca0), MAP_GDT_LIMIT = AT(0x7ca4),
};

/* Selectors stand from TR downwards, a doubleword each. */
static const u8 map_segments[] = {SEG_TR, SEG_LDTR, SEG_GS, SEG_FS, SEG_DS, SEG_SS, SEG_CS, SEG_ES};
/* Registers stand from R15 upwards, a quadword each. */
static const u8 map_registers[] = {REG_R15, REG_R14, REG_R13, REG_R12, REG_R11, REG_R10, REG_R9, REG_R8, REG_RAX, REG_RCX, REG_RDX,
                                   REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI};

static u64 map_address(const struct cpu *cpu) { return cpu->sys.smbase + 0xfc00; }

/* SMRAM is whatever answers at SMBASE. */
static void map_write(struct cpu *cpu, const u8 *map)
{
    u64 hpa = map_address(cpu);
    for (unsigned n = 0; n < MAP_SIZE; n += 4)
        bus_write(cpu->bus, cpu->index, hpa + n, 4, load32(map + n));
}

static void map_read(struct cpu *cpu, u8 *map)
{
    u64 hpa = map_address(cpu);
    for (unsigned n = 0; n < MAP_SIZE; n += 4)
        store32(map + n, (u32)bus_read(cpu->bus, cpu->index, hpa + n, 4));
}

/* ---- SMI ---------------------------------------------------------------------------------------------------------- */

static void save(const struct cpu *cpu, u8 *map)
{
    const struct cpu_sys *sys = &cpu->sys;
    const struct cpu_smm *smm = &cpu->smm;
    const struct segment *ldtr = &cpu->seg.s[SEG_LDTR];

    memset(map, 0, MAP_SIZE);
    store64(map + MAP_CR0, sys->cr0);
    store64(map + MAP_CR3, sys->cr3);
    store64(map + MAP_RFLAGS, cpu_rflags(cpu));
    store64(map + MAP_EFER, sys->efer);
    store64(map + MAP_RIP, cpu->core.rip);
    store64(map + MAP_DR6, sys->dr6);
    store64(map + MAP_DR7, sys->dr7);
    for (unsigned n = 0; n < ARRAY_SIZE(map_segments); n++) {
        const struct segment *s = &cpu->seg.s[map_segments[n]];
        store32(map + MAP_SELECTOR_TR - 4 * n, s->selector);
        store64(map + MAP_HIDDEN + 16 * n, s->base);
        store32(map + MAP_HIDDEN + 16 * n + 8, s->limit);
        store32(map + MAP_HIDDEN + 16 * n + 12, s->access);
    }
    for (unsigned n = 0; n < ARRAY_SIZE(map_registers); n++)
        store64(map + MAP_REGISTERS + 8 * n, cpu->core.r[map_registers[n]]);
    store32(map + MAP_IO_STATE, smm->io_state);
    if (smm->io_state) {
        store64(map + MAP_IO_ADDRESS, smm->io_la);
        store64(map + MAP_IO_RIP, smm->io_rip);
    }
    store16(map + MAP_HALT_RESTART, cpu->event.activity == ACTIVITY_HLT);
    store32(map + MAP_REVISION_ID, MAP_REVISION);
    store32(map + MAP_SMBASE, (u32)sys->smbase);
    u64 eptp = 0;
    if (cpu->vmx.depth && vmx_smm_eptp(cpu, &eptp))
        map[MAP_EPT] = 1;
    store64(map + MAP_EPTP, eptp);
    store64(map + MAP_SSP, sys->ssp);
    store32(map + MAP_LDT_BASE, (u32)ldtr->base);
    store32(map + MAP_LDT_BASE_HIGH, (u32)(ldtr->base >> 32));
    store32(map + MAP_IDT_BASE, (u32)cpu->seg.idtr.base);
    store32(map + MAP_IDT_BASE_HIGH, (u32)(cpu->seg.idtr.base >> 32));
    store32(map + MAP_IDT_LIMIT, cpu->seg.idtr.limit);
    store32(map + MAP_GDT_BASE, (u32)cpu->seg.gdtr.base);
    store32(map + MAP_GDT_BASE_HIGH, (u32)(cpu->seg.gdtr.base >> 32));
    store32(map + MAP_GDT_LIMIT, cpu->seg.gdtr.limit);
    store64(map + MAP_CR4, sys->cr4);
    for (unsigned n = 0; n < 4; n++)
        store64(map + MAP_PDPTES + 8 * n, sys->pdpte[n]);
}

/* [SDM3 "Initial SMM Execution Environment"] */
static void load_handler(struct cpu *cpu)
{
    struct cpu_sys *sys = &cpu->sys;
    sys->cr0 &= ~(CR0_PE | CR0_EM | CR0_TS | (u64)CR0_PG);
    sys->cr4 = 0;
    sys->efer = 0;
    sys->dr7 = DR7_FIXED;
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        cpu->seg.s[n] = (struct segment){.limit = 0xffffffff, .access = AR_P | AR_S | AR_G | AR_WRITABLE | AR_ACCESSED};
    cpu->seg.s[SEG_CS].base = sys->smbase;
    cpu->seg.s[SEG_CS].selector = (u16)(sys->smbase >> 4);
    cpu->core.rip = HANDLER;
    cpu_set_rflags(cpu, 0);
}

/* The processor sees other memory, in another mode. */
static void switch_over(struct cpu *cpu)
{
    cpu_select_bus_view(cpu);
    tlb_flush_everything(cpu);
    cpu_mode_update(cpu);
    cpu_cut_block(cpu);
}

static void trace_switch(struct cpu *cpu, const char *name)
{
    if (trace_on(cpu, TRACE_MODE))
        trace_emit(cpu, TRACE_MODE, name,
                   TRACE_FIELDS(trace_hex("rip", cpu->core.rip), trace_hex("smbase", cpu->sys.smbase), trace_hex("io", cpu->smm.io_state)));
}

enum flow smm_take_smi(struct cpu *cpu)
{
    struct cpu_event *e = &cpu->event;
    struct cpu_smm *smm = &cpu->smm;
    u8 map[MAP_SIZE];

    if (e->blocking & (BLOCK_SMI | BLOCK_STI | BLOCK_MOV_SS) || e->activity == ACTIVITY_WAIT_SIPI)
        return FLOW_NEXT;
    if (vmx_smi_waits(cpu))
        return FLOW_NEXT;
    e->attention &= ~(u32)ATT_SMI;
    smm->count++;
    trace_switch(cpu, "smi");
    if (vmx_smi(cpu))
        return FLOW_EXIT;
    smm->blocking = e->blocking;
    smm->activity = e->activity == ACTIVITY_MWAIT ? ACTIVITY_ACTIVE : e->activity;
    smm->pending_debug = e->attention & ATT_PENDING_DB ? e->pending_debug : 0;
    smm->ss_dpl = (cpu->seg.s[SEG_SS].access & AR_DPL) >> 5;
    smm->rflags_vm = (cpu->core.rflags_rest & FL_VM) != 0;
    smm->vmxe = (cpu->sys.cr4 & CR4_VMXE) != 0;
    cpu->sys.cr4 &= ~(u64)CR4_VMXE;
    save(cpu, map);
    vmx_smm_leave(cpu);
    smm->active = 1;
    cpu_select_bus_view(cpu);
    map_write(cpu, map);
    load_handler(cpu);
    vmx_smm_reset_events(cpu, BLOCK_SMI | BLOCK_NMI, ACTIVITY_ACTIVE);
    switch_over(cpu);
    return FLOW_EVENT;
}

/* ---- RSM ---------------------------------------------------------------------------------------------------------- */

/* Control registers that go together, as MOV to CR and WRMSR would have made sure of. */
static bool control_registers_valid(const struct cpu *cpu, u64 cr0, u64 cr3, u64 cr4, u64 efer)
{
    bool paging = cr0 & CR0_PG, wide = efer & EFER_LMA;
    if (cr0 >> 32 || (paging && !(cr0 & CR0_PE)) || (cr0 & CR0_NW && !(cr0 & CR0_CD)))
        return false;
    if (cr4 & ~cpu_cr4_allowed(cpu) || efer & ~cpu_efer_allowed(cpu) || cr3 & ~cpu_cr3_allowed(cpu))
        return false;
    if (wide != (paging && efer & EFER_LME) || (wide && !(cr4 & CR4_PAE)))
        return false;
    return !(cr4 & CR4_PCIDE && !wide) && !(cr4 & CR4_CET && !(cr0 & CR0_WP));
}

static bool pdptes_valid(const struct cpu *cpu, const u8 *map)
{
    for (unsigned n = 0; n < 4; n++) {
        u64 entry = load64(map + MAP_PDPTES + 8 * n);
        if (entry & 1 && entry & (~mask_low(cpu_physical_bits(cpu)) | 0x1e6))
            return false;
    }
    return true;
}

static void get_segment(const struct cpu *cpu, const u8 *map, unsigned n, struct segment *s)
{
    (void)cpu;
    memset(s, 0, sizeof *s);
    s->selector = load16(map + MAP_SELECTOR_TR - 4 * n);
    s->base = load64(map + MAP_HIDDEN + 16 * n);
    s->limit = load32(map + MAP_HIDDEN + 16 * n + 8);
    s->access = load32(map + MAP_HIDDEN + 16 * n + 12) & 0x1f0ff;
}

/* Descriptor caches that a processor can have: code in CS, a TSS in TR, an LDT in LDTR, canonical bases. */
static bool segments_valid(const struct cpu *cpu, const u8 *map, u64 cr0, u64 efer, u64 rflags)
{
    bool protected_mode = cr0 & CR0_PE && !(rflags & FL_VM);
    for (unsigned n = 0; n < ARRAY_SIZE(map_segments); n++) {
        struct segment s;
        get_segment(cpu, map, n, &s);
        unsigned seg = map_segments[n], type = s.access & AR_TYPE;
        bool wide = seg == SEG_FS || seg == SEG_GS || seg == SEG_TR || seg == SEG_LDTR;
        if (wide ? !cpu_canonical_wide(cpu, s.base) : s.base >> 32 != 0)
            return false;
        if (seg == SEG_TR && !(s.access & AR_UNUSABLE) && ((s.access & (AR_S | AR_P)) != AR_P || (type != 3 && type != 11)))
            return false;
        if (seg == SEG_LDTR && !(s.access & AR_UNUSABLE) && ((s.access & (AR_S | AR_P)) != AR_P || type != 2))
            return false;
        if (seg == SEG_CS && protected_mode && (s.access & (AR_S | AR_P)) != (AR_S | AR_P))
            return false;
        if (seg == SEG_CS && efer & EFER_LMA && (s.access & (AR_L | AR_DB)) == (AR_L | AR_DB))
            return false;
    }
    return true;
}

static void restore(struct cpu *cpu, const u8 *map, u64 rflags)
{
    struct cpu_sys *sys = &cpu->sys;
    u64 cr0_bits = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | (u64)CR0_PG;
    sys->cr0 = (load64(map + MAP_CR0) & cr0_bits) | CR0_ET;
    sys->cr3 = load64(map + MAP_CR3);
    sys->cr4 = load64(map + MAP_CR4);
    sys->efer = load64(map + MAP_EFER);
    sys->dr6 = cpu_dr6_value(cpu, load64(map + MAP_DR6));
    sys->dr7 = (load64(map + MAP_DR7) & 0xffff23ffull) | DR7_FIXED;
    if (cpu_ssp_valid(cpu, load64(map + MAP_SSP)))
        sys->ssp = load64(map + MAP_SSP);
    for (unsigned n = 0; n < 4; n++)
        sys->pdpte[n] = load64(map + MAP_PDPTES + 8 * n);
    for (unsigned n = 0; n < ARRAY_SIZE(map_segments); n++)
        get_segment(cpu, map, n, &cpu->seg.s[map_segments[n]]);
    cpu->seg.idtr.base = load32(map + MAP_IDT_BASE) | (u64)load32(map + MAP_IDT_BASE_HIGH) << 32;
    cpu->seg.idtr.limit = load32(map + MAP_IDT_LIMIT) & 0xffff;
    cpu->seg.gdtr.base = load32(map + MAP_GDT_BASE) | (u64)load32(map + MAP_GDT_BASE_HIGH) << 32;
    cpu->seg.gdtr.limit = load32(map + MAP_GDT_LIMIT) & 0xffff;
    for (unsigned n = 0; n < ARRAY_SIZE(map_registers); n++)
        cpu->core.r[map_registers[n]] = load64(map + MAP_REGISTERS + 8 * n);
    cpu->core.rip = load64(map + MAP_RIP);
    cpu_set_rflags(cpu, rflags);
}

/* [SDM3 "I/O Instruction Restart"]: an I/O instruction that made the SMI runs again, with the registers that it had. */
static void restart_io(struct cpu *cpu, const u8 *map)
{
    const struct cpu_smm *smm = &cpu->smm;
    if (!smm->io_state || load16(map + MAP_IO_RESTART) != 0xff)
        return;
    cpu->core.rip = smm->io_rip;
    if (smm->io_state & SMM_IO_STRING) {
        cpu->core.rsi = smm->io_rsi;
        cpu->core.rdi = smm->io_rdi;
        if (smm->io_state & SMM_IO_REP)
            cpu->core.rcx = smm->io_rcx;
    }
}

/* Activity, blocking and traps as the SMI found them; a handler may have ended HLT [SDM3 "Auto HALT Restart"]. */
static void restore_events(struct cpu *cpu, const u8 *map)
{
    struct cpu_event *e = &cpu->event;
    const struct cpu_smm *smm = &cpu->smm;
    u8 activity = smm->activity;
    if (activity == ACTIVITY_HLT && !(load16(map + MAP_HALT_RESTART) & 1))
        activity = ACTIVITY_ACTIVE;
    e->blocking = 0;
    vmx_smm_reset_events(cpu, smm->blocking, activity);
    e->pending_debug = smm->pending_debug;
    if (e->pending_debug)
        e->attention |= ATT_PENDING_DB;
}

static enum flow shut_down(struct cpu *cpu)
{
    trace_switch(cpu, "rsm_shutdown");
    cpu_shut_down(cpu);
    return FLOW_END;
}

static enum flow rsm(struct cpu *cpu, const struct insn *in)
{
    struct cpu_smm *smm = &cpu->smm;
    u8 map[MAP_SIZE];

    if (!smm->active)
        return cpu_raise_ud(cpu);
    if (vmx_intercept_simple(cpu, in, EXIT_RSM))
        return FLOW_EXIT;
    if (smm->dual_monitor)
        return cpu_raise_ud(cpu);

    map_read(cpu, map);
    u64 cr0 = load64(map + MAP_CR0), efer = load64(map + MAP_EFER);
    u64 rflags = (load64(map + MAP_RFLAGS) & 0x3f7fd7) | FL_R1;
    if (smm->vmxon)
        rflags = (rflags & ~(u64)FL_VM) | (smm->rflags_vm ? FL_VM : 0);
    if (!control_registers_valid(cpu, cr0, load64(map + MAP_CR3), load64(map + MAP_CR4), efer) || !pdptes_valid(cpu, map) ||
        (rflags & FL_VM && (efer & EFER_LMA || !(cr0 & CR0_PE))) || !segments_valid(cpu, map, cr0, efer, rflags))
        return shut_down(cpu);
    u64 idt = load32(map + MAP_IDT_BASE) | (u64)load32(map + MAP_IDT_BASE_HIGH) << 32;
    u64 gdt = load32(map + MAP_GDT_BASE) | (u64)load32(map + MAP_GDT_BASE_HIGH) << 32;
    if (!cpu_canonical_wide(cpu, idt) || !cpu_canonical_wide(cpu, gdt))
        return shut_down(cpu);

    restore(cpu, map, rflags);
    restart_io(cpu, map);
    cpu->sys.smbase = load32(map + MAP_SMBASE);
    smm->active = 0;
    restore_events(cpu, map);
    if (smm->vmxe)
        cpu->sys.cr4 |= CR4_VMXE;
    vmx_smm_return(cpu);
    smm->io_state = 0;
    switch_over(cpu);
    vmx_smm_resume(cpu);
    trace_switch(cpu, "rsm");
    return FLOW_EXIT;
}
FAMILY_ONE(rsm, rsm)
