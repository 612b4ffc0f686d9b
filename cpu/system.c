/* System instructions: control and debug registers, descriptor-table registers, MSRs, time stamps, TLB and cache
 * maintenance, protection keys, FS/GS bases, random numbers, CPUID, direct stores and the hints.
 *
 * The order in every handler is that of [SDM3 "Relative Priority of Faults and VM Exits"]: #UD, then privilege, then
 * the VM exit, then operands and everything else that can fault, then the effects. Instructions that change the mode
 * or what time-dependent code may see end the block.
 */
#include "cpu/cr.h"
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/insn.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/msr.h"
#include "cpu/operand.h"
#include "cpu/pmu.h"
#include "cpu/system.h"
#include "cpu/trace.h"
#include "mmu/tlb.h"
#include "vmx/vmx.h"

static bool in_64bit(const struct insn *in) { return in->flags & INSN_64; }

/* A GPR as MOV CR/DR and their like see it: 64 bits in 64-bit code, else 32. */
static u64 reg_wide(const struct cpu *cpu, const struct insn *in, unsigned n)
{
    return in_64bit(in) ? reg64(cpu, n) : reg32(cpu, n);
}

static void reg_wide_set(struct cpu *cpu, const struct insn *in, unsigned n, u64 value)
{
    cpu->core.r[n] = in_64bit(in) ? value : (u32)value;
}

/* EDX:EAX */
static u64 edx_eax(const struct cpu *cpu) { return (u64)reg32(cpu, REG_RDX) << 32 | reg32(cpu, REG_RAX); }

static void edx_eax_set(struct cpu *cpu, u64 value)
{
    reg32_set(cpu, REG_RAX, (u32)value);
    reg32_set(cpu, REG_RDX, (u32)(value >> 32));
}

bool system_gate_closed(const struct cpu *cpu, enum system_gate gate)
{
    for (u32 k = 0; k < cpu->vmx.depth; k++) {
        const struct vmcs *vmcs = &cpu->vmx.frame[k].vmcs;
        if (!(vmcs->primary_controls >> 31 & 1) || !(vmcs->secondary_controls >> gate & 1))
            return true;
    }
    return false;
}

bool system_gate_tertiary_closed(const struct cpu *cpu, enum system_gate_tertiary gate)
{
    for (u32 k = 0; k < cpu->vmx.depth; k++) {
        const struct vmcs *vmcs = &cpu->vmx.frame[k].vmcs;
        if (!(vmcs->primary_controls >> 17 & 1) || !(vmcs->tertiary_controls >> gate & 1))
            return true;
    }
    return false;
}

static bool in_vmx_operation(const struct cpu *cpu) { return cpu->vmx.depth || cpu->vmx.frame[0].vmxon; }

u64 system_displacement(const struct cpu *cpu, const struct insn *in)
{
    u64 displacement = (u64)(i64)in->disp;
    if (in->base == REG_RIP)
        displacement += cpu->core.rip;
    return in_64bit(in) ? displacement : (u32)displacement;
}

/* The linear address of the memory operand with no check of limits or rights (INVLPG, VM-exit information). */
static u64 ea_la_unchecked(const struct cpu *cpu, const struct insn *in)
{
    u64 la = ea_offset(cpu, in) + cpu->seg.s[in->seg].base;
    return in_64bit(in) ? la : (u32)la;
}

/* ---- control registers ----------------------------------------------------------------------------------------- */

enum { CR_ACCESS_TO, CR_ACCESS_FROM, CR_ACCESS_CLTS, CR_ACCESS_LMSW };

/* [SDM3 "Exit Qualification for Control-Register Accesses"] True: a VM exit was taken. */
static bool intercept_cr(struct cpu *cpu, const struct insn *in, unsigned number, unsigned access, unsigned gpr,
                         u64 value)
{
    if (LIKELY(!vmx_nonroot(cpu)))
        return false;
    struct vmx_ask ask = {.reason = EXIT_CR_ACCESS, .number = number, .value = value,
                          .qualification = number | access << 4 | gpr << 8};
    return vmx_intercept(cpu, in, &ask);
}

/* Ends a handler that wrote CR0, CR3 or CR4: the PDPTE load of a write may have left a memory fault. */
static enum flow cr_written(struct cpu *cpu, const struct insn *in, enum flow flow)
{
    if (flow == FLOW_NEXT)
        return flow_end(cpu, in);
    return cpu->event.valid ? flow : cpu_raise_fault(cpu);
}

static void trace_cr(struct cpu *cpu, unsigned number, u64 value)
{
    if (trace_on(cpu, TRACE_CR))
        trace_emit(cpu, TRACE_CR, "write", TRACE_FIELDS(trace_decimal("cr", number), trace_hex("value", value)));
}

/* Software writes CR0 and the exit, if any was wanted, has been taken: the bits the hypervisor owns stay. */
static enum flow write_cr0(struct cpu *cpu, const struct insn *in, u64 value)
{
    if (UNLIKELY(vmx_nonroot(cpu)))
        value = vmx_merge_cr0(cpu, value);
    if (UNLIKELY(in_vmx_operation(cpu)) && !vmx_cr0_fixed_ok(cpu, value))
        return cpu_raise_gp(cpu, 0);
    trace_cr(cpu, 0, value);
    return cr_written(cpu, in, cpu_write_cr0(cpu, value));
}

static enum flow write_cr4(struct cpu *cpu, const struct insn *in, u64 value)
{
    u64 given = value;
    if (UNLIKELY(vmx_nonroot(cpu)))
        value = vmx_merge_cr4(cpu, value);
    if (UNLIKELY(in_vmx_operation(cpu)) && !vmx_cr4_fixed_ok(cpu, value))
        return cpu_raise_gp(cpu, 0);
    trace_cr(cpu, 4, value);
    enum flow flow = cpu_write_cr4(cpu, value);
    if (UNLIKELY(vmx_nonroot(cpu)) && flow == FLOW_NEXT)
        vmx_note_cr4(cpu, given);
    return cr_written(cpu, in, flow);
}

static enum flow write_cr8(struct cpu *cpu, const struct insn *in, u64 value)
{
    if (value & ~0xfull)
        return cpu_raise_gp(cpu, 0);
    u8 tpr = (u8)(value << 4);
    if (UNLIKELY(vmx_nonroot(cpu)) && vmx_tpr_write(cpu, tpr))
        return flow_end(cpu, in);
    if (cpu->board)
        cpu->board->tpr_set(cpu->board_arg, cpu, tpr);
    return flow_end(cpu, in);
}

static bool cr_exists(const struct insn *in, unsigned number)
{
    return number == 0 || (number >= 2 && number <= 4) || (number == 8 && in_64bit(in));
}

static enum flow mov_to_cr(struct cpu *cpu, const struct insn *in)
{
    unsigned number = in->reg;
    if (!cr_exists(in, number))
        return cpu_raise_ud(cpu);
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    u64 value = reg_wide(cpu, in, in->rm);
    if (number != 2 && intercept_cr(cpu, in, number, CR_ACCESS_TO, in->rm, value))
        return FLOW_EXIT;
    switch (number) {
    case 0:
        return write_cr0(cpu, in, value);
    case 2:
        cpu->sys.cr2 = value;
        return FLOW_NEXT;
    case 3:
        trace_cr(cpu, 3, value);
        return cr_written(cpu, in, cpu_write_cr3(cpu, value));
    case 4:
        return write_cr4(cpu, in, value);
    default:
        return write_cr8(cpu, in, value);
    }
}
FAMILY_ONE(mov_to_cr, mov_to_cr)

static enum flow mov_from_cr(struct cpu *cpu, const struct insn *in)
{
    unsigned number = in->reg;
    if (!cr_exists(in, number))
        return cpu_raise_ud(cpu);
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if ((number == 3 || number == 8) && intercept_cr(cpu, in, number, CR_ACCESS_FROM, in->rm, 0))
        return FLOW_EXIT;
    u64 value;
    switch (number) {
    case 0:
        value = vmx_nonroot(cpu) ? vmx_guest_cr0(cpu) : cpu->sys.cr0;
        break;
    case 2:
        value = cpu->sys.cr2;
        break;
    case 3:
        value = cpu->sys.cr3;
        break;
    case 4:
        value = vmx_nonroot(cpu) ? vmx_guest_cr4(cpu) : cpu->sys.cr4;
        break;
    default: {
        u8 tpr = 0;
        if (!(vmx_nonroot(cpu) && vmx_tpr_read(cpu, &tpr)) && cpu->board)
            tpr = cpu->board->tpr_get(cpu->board_arg, cpu);
        value = tpr >> 4;
        break;
    }
    }
    reg_wide_set(cpu, in, in->rm, value);
    return FLOW_NEXT;
}
FAMILY_ONE(mov_from_cr, mov_from_cr)

static enum flow clts(struct cpu *cpu, const struct insn *in)
{
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    u64 value = (vmx_nonroot(cpu) ? vmx_guest_cr0(cpu) : cpu->sys.cr0) & ~(u64)CR0_TS;
    if (intercept_cr(cpu, in, 0, CR_ACCESS_CLTS, 0, value))
        return FLOW_EXIT;
    if (UNLIKELY(vmx_nonroot(cpu)))
        value = vmx_merge_cr0(cpu, value);
    cpu->sys.cr0 = (cpu->sys.cr0 & ~(u64)CR0_TS) | (value & CR0_TS);
    return flow_end(cpu, in);
}
FAMILY_ONE(clts, clts)

/* LMSW writes MP, EM and TS, and can set PE but not clear it. */
static enum flow lmsw(struct cpu *cpu, const struct insn *in)
{
    bool memory = in->flags & INSN_MEM;
    u16 source;
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (memory)
        TRY(rm_read16(cpu, in, &source));
    else
        source = reg16(cpu, in->rm);
    u64 old = vmx_nonroot(cpu) ? vmx_guest_cr0(cpu) : cpu->sys.cr0;
    u64 value = (old & ~0xeull) | (source & 0xf);
    if (UNLIKELY(vmx_nonroot(cpu))) {
        struct vmx_ask ask = {.reason = EXIT_CR_ACCESS, .number = 0, .value = value,
                              .la = memory ? ea_la_unchecked(cpu, in) : 0,
                              .qualification = CR_ACCESS_LMSW << 4 | (u64)memory << 6 | (u64)source << 16};
        if (vmx_intercept(cpu, in, &ask))
            return FLOW_EXIT;
    }
    return write_cr0(cpu, in, value);
}
FAMILY_ONE(lmsw, lmsw)

/* UMIP forbids SGDT, SIDT, SLDT, SMSW and STR outside CPL 0. */
static bool umip_forbids(const struct cpu *cpu) { return cpu->sys.cr4 & CR4_UMIP && !cpl0(cpu); }

static enum flow smsw(struct cpu *cpu, const struct insn *in)
{
    if (umip_forbids(cpu))
        return cpu_raise_gp(cpu, 0);
    u64 value = vmx_nonroot(cpu) ? vmx_guest_cr0(cpu) : cpu->sys.cr0;
    if (in->flags & INSN_MEM)
        TRY(rm_write16(cpu, in, (u16)value));
    else
        reg_set(cpu, in->rm, in->osz, value);
    return FLOW_NEXT;
}
FAMILY_ONE(smsw, smsw)

/* ---- debug registers ------------------------------------------------------------------------------------------- */

#define DR7_WRITABLE 0xffff23ffull

/* What MOV to and from DR check alike. The VM exit comes first: it precedes the checks of CPL and CR4.DE
 * [SDM3 "Instructions That Cause VM Exits Conditionally"]. FLOW_NEXT: go on, with *number the register meant. */
static enum flow dr_checks(struct cpu *cpu, const struct insn *in, bool from, unsigned *number)
{
    *number = in->reg;
    if (*number > 7)
        return cpu_raise_ud(cpu);
    if (UNLIKELY(vmx_nonroot(cpu))) {
        struct vmx_ask ask = {.reason = EXIT_MOV_DR, .number = *number, .value = from ? 0 : reg_wide(cpu, in, in->rm),
                              .qualification = *number | (u64)from << 4 | (u64)in->rm << 8};
        if (vmx_intercept(cpu, in, &ask))
            return FLOW_EXIT;
    }
    if (*number == 4 || *number == 5) {
        if (cpu->sys.cr4 & CR4_DE)
            return cpu_raise_ud(cpu);
        *number += 2;
    }
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (cpu->sys.dr7 & DR7_GD)
        return cpu_raise_db(cpu, DR6_BD);
    return FLOW_NEXT;
}

static enum flow mov_to_dr(struct cpu *cpu, const struct insn *in)
{
    unsigned number;
    enum flow flow = dr_checks(cpu, in, false, &number);
    if (flow != FLOW_NEXT)
        return flow;
    u64 value = reg_wide(cpu, in, in->rm);
    if (number < 4) {
        cpu->sys.dr[number] = value;
    } else if (value >> 32) {
        return cpu_raise_gp(cpu, 0);
    } else if (number == 6) {
        cpu->sys.dr6 = cpu_dr6_value(cpu, value);
    } else {
        cpu->sys.dr7 = (value & DR7_WRITABLE) | DR7_FIXED;
        cpu_mode_update_cpl(cpu);
    }
    return flow_end(cpu, in);
}
FAMILY_ONE(mov_to_dr, mov_to_dr)

static enum flow mov_from_dr(struct cpu *cpu, const struct insn *in)
{
    unsigned number;
    enum flow flow = dr_checks(cpu, in, true, &number);
    if (flow != FLOW_NEXT)
        return flow;
    reg_wide_set(cpu, in, in->rm, number < 4 ? cpu->sys.dr[number] : number == 6 ? cpu->sys.dr6 : cpu->sys.dr7);
    return FLOW_NEXT;
}
FAMILY_ONE(mov_from_dr, mov_from_dr)

/* ---- descriptor-table registers -------------------------------------------------------------------------------- */

static bool intercept_table(struct cpu *cpu, const struct insn *in)
{
    if (LIKELY(!vmx_nonroot(cpu)))
        return false;
    struct vmx_ask ask = {.reason = EXIT_GDTR_IDTR_ACCESS, .qualification = system_displacement(cpu, in)};
    return vmx_intercept(cpu, in, &ask);
}

static enum flow load_table(struct cpu *cpu, const struct insn *in, struct table_register *table)
{
    u8 image[10] = {0};
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (intercept_table(cpu, in))
        return FLOW_EXIT;
    TRY(rm_read_bytes(cpu, in, image, in_64bit(in) ? 10 : 6));
    u64 base = in_64bit(in) ? load64(image + 2) : load32(image + 2);
    if (!in_64bit(in) && in->osz == OSZ_16)
        base &= 0xffffff;
    if (!cpu_canonical_wide(cpu, base))
        return cpu_raise_gp(cpu, 0);
    table->limit = load16(image);
    table->base = base;
    return FLOW_NEXT;
}

/* ERRATUM: with a 16-bit operand size the manual has the fourth byte of the base stored as zero; processors store all
 * 32 bits. */
static enum flow store_table(struct cpu *cpu, const struct insn *in, const struct table_register *table)
{
    u8 image[10];
    if (umip_forbids(cpu))
        return cpu_raise_gp(cpu, 0);
    if (intercept_table(cpu, in))
        return FLOW_EXIT;
    store16(image, (u16)table->limit);
    store64(image + 2, table->base);
    TRY(rm_write_bytes(cpu, in, image, in_64bit(in) ? 10 : 6));
    return FLOW_NEXT;
}

static enum flow lgdt(struct cpu *cpu, const struct insn *in) { return load_table(cpu, in, &cpu->seg.gdtr); }
static enum flow lidt(struct cpu *cpu, const struct insn *in) { return load_table(cpu, in, &cpu->seg.idtr); }
static enum flow sgdt(struct cpu *cpu, const struct insn *in) { return store_table(cpu, in, &cpu->seg.gdtr); }
static enum flow sidt(struct cpu *cpu, const struct insn *in) { return store_table(cpu, in, &cpu->seg.idtr); }
FAMILY_ONE(lgdt, lgdt)
FAMILY_ONE(lidt, lidt)
FAMILY_ONE(sgdt, sgdt)
FAMILY_ONE(sidt, sidt)

/* ---- translations and caches ----------------------------------------------------------------------------------- */

static enum flow invlpg(struct cpu *cpu, const struct insn *in)
{
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    u64 la = ea_la_unchecked(cpu, in);
    if (UNLIKELY(vmx_nonroot(cpu))) {
        struct vmx_ask ask = {.reason = EXIT_INVLPG, .qualification = la, .la = la};
        if (vmx_intercept(cpu, in, &ask))
            return FLOW_EXIT;
    }
    if (cpu_canonical_wide(cpu, la))
        tlb_flush_page(cpu, la);
    return flow_end(cpu, in);
}
FAMILY_ONE(invlpg, invlpg)

static enum flow invpcid(struct cpu *cpu, const struct insn *in)
{
    u8 image[16];
    if (system_gate_closed(cpu, GATE_INVPCID))
        return cpu_raise_ud(cpu);
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (UNLIKELY(vmx_nonroot(cpu))) {
        struct vmx_ask ask = {.reason = EXIT_INVPCID, .qualification = system_displacement(cpu, in),
                              .value = reg_wide(cpu, in, in->reg)};
        if (vmx_intercept(cpu, in, &ask))
            return FLOW_EXIT;
    }
    u64 type = reg_wide(cpu, in, in->reg);
    TRY(rm_read_bytes(cpu, in, image, sizeof image));
    u64 pcid = load64(image), la = load64(image + 8);
    if (type > 3 || pcid >> 12)
        return cpu_raise_gp(cpu, 0);
    if (type <= 1 && pcid && !(cpu->sys.cr4 & CR4_PCIDE))
        return cpu_raise_gp(cpu, 0);
    if (type == 0 && !cpu_canonical_wide(cpu, la))
        return cpu_raise_gp(cpu, 0);
    switch (type) {
    case 0:
        tlb_flush_pcid_page(cpu, (unsigned)pcid, la);
        break;
    case 1:
        tlb_flush_pcid(cpu, (unsigned)pcid, true);
        break;
    default:                               /* 2 also hits global translations, 3 need not keep them */
        tlb_flush_all_pcids(cpu);
        break;
    }
    return flow_end(cpu, in);
}
FAMILY_ONE(invpcid, invpcid)

/* The machine has no caches that software could tell from memory. */
static enum flow invd(struct cpu *cpu, const struct insn *in)
{
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    return vmx_intercept_simple(cpu, in, EXIT_INVD) ? FLOW_EXIT : FLOW_NEXT;
}
FAMILY_ONE(invd, invd)

static enum flow wbinvd(struct cpu *cpu, const struct insn *in)
{
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    return vmx_intercept_simple(cpu, in, EXIT_WBINVD) ? FLOW_EXIT : FLOW_NEXT;
}
FAMILY_ONE(wbinvd, wbinvd)

/* CLFLUSH, CLFLUSHOPT, CLWB: the faults of a byte load and nothing else. */
static enum flow clflush(struct cpu *cpu, const struct insn *in)
{
    u64 la;
    TRY(ea_la(cpu, in, 1, ACCESS_READ, &la) && mem_probe(cpu, la, 1, ACCESS_READ));
    return FLOW_NEXT;
}
FAMILY_ONE(clflush, clflush)

/* 64 bytes from memory to ES:reg, in one piece. */
static enum flow movdir64b(struct cpu *cpu, const struct insn *in)
{
    u8 data[64];
    u64 la;
    TRY(rm_read_bytes(cpu, in, data, sizeof data));
    TRY(seg_la(cpu, SEG_ES, cpu->core.r[in->reg] & mask_low(8u << in->asz), sizeof data, ACCESS_WRITE, &la));
    if (la & (sizeof data - 1))
        return cpu_raise_gp(cpu, 0);
    TRY(mem_write(cpu, la, data, sizeof data));
    return FLOW_NEXT;
}
FAMILY_ONE(movdir64b, movdir64b)

/* Hints and fences: memory is coherent and in order as it is. */
static enum flow hint(struct cpu *cpu, const struct insn *in)
{
    (void)cpu, (void)in;
    return FLOW_NEXT;
}
FAMILY_ONE(hint, hint)

static enum flow pause(struct cpu *cpu, const struct insn *in)
{
    return vmx_intercept_simple(cpu, in, EXIT_PAUSE) ? FLOW_EXIT : FLOW_NEXT;
}
FAMILY_ONE(pause, pause)

/* ---- MSRs, identification, time -------------------------------------------------------------------------------- */

static void trace_msr(struct cpu *cpu, const char *what, u32 msr, u64 value, bool ok)
{
    if (LIKELY(!trace_on(cpu, TRACE_MSR)))
        return;
    const char *name = cpu_msr_name(msr);
    trace_emit(cpu, TRACE_MSR, what,
               TRACE_FIELDS(trace_hex("msr", msr), trace_text("name", name ? name : ""), trace_hex("value", value),
                            trace_text("result", ok ? "ok" : "#GP")));
}

/* When no VM exit is wanted. False: #GP(0). */
static bool read_msr(struct cpu *cpu, u32 msr, u64 *value)
{
    bool known = false, ok = vmx_msr_read(cpu, msr, value, &known);
    if (!known) {
        ok = cpu_msr_read(cpu, msr, value);
        if (msr == MSR_IA32_TIME_STAMP_COUNTER && vmx_nonroot(cpu))
            *value = vmx_scale_tsc(cpu, *value);
    }
    trace_msr(cpu, "read", msr, *value, ok);
    return ok;
}

static bool write_msr(struct cpu *cpu, u32 msr, u64 value)
{
    bool known = false, ok = vmx_msr_write(cpu, msr, value, &known);
    if (!known)
        ok = cpu_msr_write(cpu, msr, value);
    trace_msr(cpu, "write", msr, value, ok);
    return ok;
}

static enum flow rdmsr(struct cpu *cpu, const struct insn *in)
{
    u32 msr = reg32(cpu, REG_RCX);
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (UNLIKELY(vmx_nonroot(cpu))) {
        struct vmx_ask ask = {.reason = EXIT_RDMSR, .number = msr};
        if (vmx_intercept(cpu, in, &ask))
            return FLOW_EXIT;
    }
    u64 value = 0;
    if (!read_msr(cpu, msr, &value))
        return cpu_raise_gp(cpu, 0);
    edx_eax_set(cpu, value);
    return FLOW_NEXT;
}
FAMILY_ONE(rdmsr, rdmsr)

static enum flow wrmsr(struct cpu *cpu, const struct insn *in)
{
    u32 msr = reg32(cpu, REG_RCX);
    u64 value = edx_eax(cpu);
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (UNLIKELY(vmx_nonroot(cpu))) {
        struct vmx_ask ask = {.reason = EXIT_WRMSR, .number = msr, .value = value};
        if (vmx_intercept(cpu, in, &ask))
            return FLOW_EXIT;
    }
    return write_msr(cpu, msr, value) ? flow_end(cpu, in) : cpu_raise_gp(cpu, 0);
}
FAMILY_ONE(wrmsr, wrmsr)

/* RDMSRLIST, WRMSRLIST: RCX says which of 64 pairs, RSI where the MSRs' numbers stand, RDI where the values
 * [SDM2 "RDMSRLIST—Read List of Model Specific Registers"]. Each pair that is done leaves RCX, so what comes in between
 * finds the list half done and consistent. */
static enum flow msr_list(struct cpu *cpu, const struct insn *in, bool write)
{
    if (system_gate_tertiary_closed(cpu, GATE_MSR_LIST))
        return cpu_raise_ud(cpu);
    if (!cpl0(cpu) || (cpu->core.rsi | cpu->core.rdi) & 7)
        return cpu_raise_gp(cpu, 0);
    while (cpu->core.rcx) {
        unsigned n = (unsigned)__builtin_ctzll(cpu->core.rcx);
        u64 msr, value = 0;
        TRY(mem_read64(cpu, cpu->core.rsi + 8 * n, &msr));
        if (msr >> 32)
            return cpu_raise_gp(cpu, 0);
        if (UNLIKELY(vmx_nonroot(cpu))) {
            struct vmx_ask ask = {.reason = write ? EXIT_WRMSRLIST : EXIT_RDMSRLIST, .number = (u32)msr, .qualification = msr};
            if (vmx_intercept(cpu, in, &ask))
                return FLOW_EXIT;
        }
        u64 place = cpu->core.rdi + 8 * n;
        if (write)
            TRY(mem_read64(cpu, place, &value));
        else
            TRY(mem_probe(cpu, place, 8, ACCESS_WRITE));
        if (!(write ? write_msr(cpu, (u32)msr, value) : read_msr(cpu, (u32)msr, &value)))
            return cpu_raise_gp(cpu, 0);
        if (!write)
            TRY(mem_write64(cpu, place, value));
        cpu->core.rcx &= cpu->core.rcx - 1;
    }
    return flow_end(cpu, in);
}

static enum flow rdmsrlist(struct cpu *cpu, const struct insn *in) { return msr_list(cpu, in, false); }
static enum flow wrmsrlist(struct cpu *cpu, const struct insn *in) { return msr_list(cpu, in, true); }
FAMILY_ONE(rdmsrlist, rdmsrlist)
FAMILY_ONE(wrmsrlist, wrmsrlist)

static enum flow cpuid(struct cpu *cpu, const struct insn *in)
{
    u32 leaf = reg32(cpu, REG_RAX), subleaf = reg32(cpu, REG_RCX);
    if (vmx_intercept_simple(cpu, in, EXIT_CPUID))
        return FLOW_EXIT;
    struct cpuid_result r = cpu_cpuid(cpu, leaf, subleaf);
    u32 regs[4] = {r.eax, r.ebx, r.ecx, r.edx};
    vmx_filter_cpuid(cpu, leaf, subleaf, regs);
    /* Leaf 1 loads the microcode's signature [SDM3 "Determining the Signature"]. */
    if (leaf == 1)
        cpu->sys.bios_sign_id = (u64)cpu_model_of(cpu)->microcode << 32 | (u32)cpu->sys.bios_sign_id;
    reg32_set(cpu, REG_RAX, regs[0]);
    reg32_set(cpu, REG_RBX, regs[1]);
    reg32_set(cpu, REG_RCX, regs[2]);
    reg32_set(cpu, REG_RDX, regs[3]);
    return FLOW_NEXT;
}
FAMILY_ONE(cpuid, cpuid)

/* CR4.TSD keeps RDTSC and RDTSCP for CPL 0 (real mode has none but that). */
static bool tsc_forbidden(const struct cpu *cpu) { return cpu->sys.cr4 & CR4_TSD && !cpl0(cpu); }

static u64 guest_tsc(struct cpu *cpu)
{
    u64 tsc = cpu_tsc(cpu);
    return vmx_nonroot(cpu) ? vmx_scale_tsc(cpu, tsc) : tsc;
}

static enum flow rdtsc(struct cpu *cpu, const struct insn *in)
{
    if (tsc_forbidden(cpu))
        return cpu_raise_gp(cpu, 0);
    if (vmx_intercept_simple(cpu, in, EXIT_RDTSC))
        return FLOW_EXIT;
    edx_eax_set(cpu, guest_tsc(cpu));
    return FLOW_NEXT;
}
FAMILY_ONE(rdtsc, rdtsc)

static enum flow rdtscp(struct cpu *cpu, const struct insn *in)
{
    if (system_gate_closed(cpu, GATE_RDTSCP))
        return cpu_raise_ud(cpu);
    if (tsc_forbidden(cpu))
        return cpu_raise_gp(cpu, 0);
    if (vmx_intercept_simple(cpu, in, EXIT_RDTSCP))
        return FLOW_EXIT;
    edx_eax_set(cpu, guest_tsc(cpu));
    reg32_set(cpu, REG_RCX, (u32)cpu->sys.tsc_aux);
    return FLOW_NEXT;
}
FAMILY_ONE(rdtscp, rdtscp)

static enum flow rdpid(struct cpu *cpu, const struct insn *in)
{
    if (system_gate_closed(cpu, GATE_RDTSCP))
        return cpu_raise_ud(cpu);
    cpu->core.r[in->rm] = (u32)cpu->sys.tsc_aux;
    return FLOW_NEXT;
}
FAMILY_ONE(rdpid, rdpid)

static enum flow rdpmc(struct cpu *cpu, const struct insn *in)
{
    if (!(cpu->sys.cr4 & CR4_PCE) && !cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (UNLIKELY(vmx_nonroot(cpu))) {
        struct vmx_ask ask = {.reason = EXIT_RDPMC, .number = reg32(cpu, REG_RCX)};
        if (vmx_intercept(cpu, in, &ask))
            return FLOW_EXIT;
    }
    u64 value;
    if (!pmu_rdpmc(cpu, reg32(cpu, REG_RCX), &value))
        return cpu_raise_gp(cpu, 0);
    cpu->core.rax = (u32)value;
    cpu->core.rdx = value >> 32;
    return FLOW_NEXT;
}
FAMILY_ONE(rdpmc, rdpmc)

/* ---- random numbers -------------------------------------------------------------------------------------------- */

static enum flow random_number(struct cpu *cpu, const struct insn *in, u32 reason)
{
    if (vmx_intercept_simple(cpu, in, reason))
        return FLOW_EXIT;
    /* 66 is part of these rows' encoding (F3 selects others), so it is not in osz yet. */
    unsigned osz = in->osz;
    if (in->flags & INSN_OPSIZE && osz != OSZ_64)
        osz = in->flags & INSN_16 ? OSZ_32 : OSZ_16;
    reg_set(cpu, in->rm, osz, cpu->board ? cpu->board->random(cpu->board_arg, cpu) : 0);
    flags_set_status(cpu, FL_CF);          /* a number was there; the other flags are cleared */
    return FLOW_NEXT;
}

static enum flow rdrand(struct cpu *cpu, const struct insn *in) { return random_number(cpu, in, EXIT_RDRAND); }
static enum flow rdseed(struct cpu *cpu, const struct insn *in) { return random_number(cpu, in, EXIT_RDSEED); }
FAMILY_ONE(rdrand, rdrand)
FAMILY_ONE(rdseed, rdseed)

/* ---- FS and GS bases, SMAP's override, protection keys --------------------------------------------------------- */

static enum flow swapgs(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    u64 base = cpu->seg.s[SEG_GS].base;
    cpu->seg.s[SEG_GS].base = cpu->sys.kernel_gs_base;
    cpu->sys.kernel_gs_base = base;
    return FLOW_NEXT;
}
FAMILY_ONE(swapgs, swapgs)

static enum flow read_base(struct cpu *cpu, const struct insn *in, unsigned seg)
{
    if (!(cpu->sys.cr4 & CR4_FSGSBASE))
        return cpu_raise_ud(cpu);
    reg_set(cpu, in->rm, in->osz, cpu->seg.s[seg].base);
    return FLOW_NEXT;
}

static enum flow write_base(struct cpu *cpu, const struct insn *in, unsigned seg)
{
    if (!(cpu->sys.cr4 & CR4_FSGSBASE))
        return cpu_raise_ud(cpu);
    u64 base = reg_get(cpu, in->rm, in->osz);
    if (!cpu_canonical_wide(cpu, base))
        return cpu_raise_gp(cpu, 0);
    cpu->seg.s[seg].base = base;
    return FLOW_NEXT;
}

static enum flow rdfsbase(struct cpu *cpu, const struct insn *in) { return read_base(cpu, in, SEG_FS); }
static enum flow rdgsbase(struct cpu *cpu, const struct insn *in) { return read_base(cpu, in, SEG_GS); }
static enum flow wrfsbase(struct cpu *cpu, const struct insn *in) { return write_base(cpu, in, SEG_FS); }
static enum flow wrgsbase(struct cpu *cpu, const struct insn *in) { return write_base(cpu, in, SEG_GS); }
FAMILY_ONE(rdfsbase, rdfsbase)
FAMILY_ONE(rdgsbase, rdgsbase)
FAMILY_ONE(wrfsbase, wrfsbase)
FAMILY_ONE(wrgsbase, wrgsbase)

static enum flow set_ac(struct cpu *cpu, bool on)
{
    if (!cpl0(cpu))
        return cpu_raise_ud(cpu);
    u64 rest = cpu->core.rflags_rest;
    cpu->core.rflags_rest = on ? rest | FL_AC : rest & ~(u64)FL_AC;
    cpu_mode_update_cpl(cpu);
    return FLOW_NEXT;
}

static enum flow clac(struct cpu *cpu, const struct insn *in) { (void)in; return set_ac(cpu, false); }
static enum flow stac(struct cpu *cpu, const struct insn *in) { (void)in; return set_ac(cpu, true); }
FAMILY_ONE(clac, clac)
FAMILY_ONE(stac, stac)

static enum flow rdpkru(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (!(cpu->sys.cr4 & CR4_PKE))
        return cpu_raise_ud(cpu);
    if (reg32(cpu, REG_RCX))
        return cpu_raise_gp(cpu, 0);
    edx_eax_set(cpu, (u32)cpu->sys.pkru);
    return FLOW_NEXT;
}
FAMILY_ONE(rdpkru, rdpkru)

static enum flow wrpkru(struct cpu *cpu, const struct insn *in)
{
    if (!(cpu->sys.cr4 & CR4_PKE))
        return cpu_raise_ud(cpu);
    if (reg32(cpu, REG_RCX) || reg32(cpu, REG_RDX))
        return cpu_raise_gp(cpu, 0);
    cpu_write_pkru(cpu, reg32(cpu, REG_RAX));
    return flow_end(cpu, in);
}
FAMILY_ONE(wrpkru, wrpkru)
