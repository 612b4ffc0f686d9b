/* Instructions whose subject is RFLAGS.IF and its virtual stand-in, and software interrupts: PUSHF, POPF, CLI, STI, INT n, INT3, INTO, INT1,
 * BOUND and the undefined instructions.
 *
 * Follows [SDM3 "Virtual-8086 Mode", "Protected-Mode Virtual Interrupts"] and the instructions' pages in SDM2.
 */
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/mode.h"
#include "cpu/operand.h"
#include "cpu/task.h"

static unsigned iopl(const struct cpu *cpu) { return cpu->core.rflags_rest >> 12 & 3; }

/* ---- PUSHF, POPF --------------------------------------------------------------------------------------------------- */

static enum flow pushf(struct cpu *cpu, const struct insn *in)
{
    u64 image = cpu_rflags(cpu) & ~(u64)(FL_VM | FL_RF);
    if (cpu->mode.v8086 && iopl(cpu) < 3) {
        if (!(cpu->sys.cr4 & CR4_VME) || in->osz != OSZ_16)
            return cpu_raise_gp(cpu, 0);
        image = (image & ~(u64)FL_IF) | FL_IOPL | (image & FL_VIF ? FL_IF : 0);
    }
    u64 sp = stack_add(cpu, cpu->core.rsp, -(1 << in->osz));
    TRY(stack_write(cpu, sp, in->osz, image));
    cpu->core.rsp = sp;
    return FLOW_NEXT;
}

static enum flow popf(struct cpu *cpu, const struct insn *in)
{
    u64 image, old = cpu_rflags(cpu), changed = FL_STATUS | FL_TF | FL_DF | FL_NT;
    bool virtual_if = cpu->mode.v8086 && iopl(cpu) < 3;

    if (virtual_if && (!(cpu->sys.cr4 & CR4_VME) || in->osz != OSZ_16))
        return cpu_raise_gp(cpu, 0);
    TRY(stack_read(cpu, cpu->core.rsp, in->osz, &image));
    if (virtual_if) {
        if ((image & FL_TF) || ((image & FL_IF) && (old & FL_VIP)))
            return cpu_raise_gp(cpu, 0);
        old = (old & ~(u64)FL_VIF) | (image & FL_IF ? FL_VIF : 0);
    } else {
        if (in->osz != OSZ_16)
            changed |= FL_AC | FL_ID;
        if (cpu->mode.cpl <= iopl(cpu))
            changed |= FL_IF;
        if (cpl0(cpu))
            changed |= FL_IOPL;
        /* VIF and VIP are cleared by a 32- or 64-bit POPF at CPL 0 in protected mode. */
        if (in->osz != OSZ_16 && cpl0(cpu) && cpu->mode.protected_mode)
            old &= ~(u64)(FL_VIF | FL_VIP);
    }
    cpu->core.rsp = stack_add(cpu, cpu->core.rsp, 1 << in->osz);
    u64 rflags = (old & ~(changed | FL_RF)) | (image & changed);
    bool mode = (rflags ^ old) & (FL_TF | FL_AC | FL_RF);
    cpu_set_rflags(cpu, rflags);
    if (mode)
        cpu_mode_update_cpl(cpu);
    return flow_end(cpu, in);
}

/* ---- CLI, STI --------------------------------------------------------------------------------------------------------- */

/* Whether the program owns IF (FL_IF), only VIF (FL_VIF), or neither (0). */
static u32 owned_flag(const struct cpu *cpu)
{
    if (cpu->mode.real || cpu->mode.cpl <= iopl(cpu))
        return FL_IF;
    if (cpu->mode.v8086)
        return cpu->sys.cr4 & CR4_VME ? FL_VIF : 0;
    return cpu->mode.cpl == 3 && (cpu->sys.cr4 & CR4_PVI) ? FL_VIF : 0;
}

static enum flow cli(struct cpu *cpu, const struct insn *in)
{
    u32 flag = owned_flag(cpu);
    (void)in;
    if (!flag)
        return cpu_raise_gp(cpu, 0);
    cpu->core.rflags_rest &= ~(u64)flag;
    return FLOW_NEXT;
}

static enum flow sti(struct cpu *cpu, const struct insn *in)
{
    u32 flag = owned_flag(cpu);
    if (!flag || (flag == FL_VIF && (cpu->core.rflags_rest & FL_VIP)))
        return cpu_raise_gp(cpu, 0);
    if (flag == FL_IF && !(cpu->core.rflags_rest & FL_IF)) {
        cpu->event.blocking |= BLOCK_STI;
        cpu->event.attention |= ATT_SHADOW;
    }
    cpu->core.rflags_rest |= flag;
    return flow_end(cpu, in);
}

/* ---- software interrupts ------------------------------------------------------------------------------------------- */

static enum flow int_n(struct cpu *cpu, const struct insn *in)
{
    u8 vector = (u8)in->imm;
    if (cpu->mode.v8086 && iopl(cpu) < 3) {
        bool redirected = false;
        if (cpu->sys.cr4 & CR4_VME) {
            enum flow flow = task_interrupt_redirected(cpu, vector, &redirected);
            if (flow != FLOW_NEXT)
                return flow;
        }
        if (!redirected)
            return cpu_raise_gp(cpu, 0);
    }
    return cpu_raise_software(cpu, vector, EVT_SOFTWARE_INT, in->length);
}

static enum flow int3(struct cpu *cpu, const struct insn *in) { return cpu_raise_software(cpu, EXC_BP, EVT_SOFTWARE, in->length); }
static enum flow int1(struct cpu *cpu, const struct insn *in) { return cpu_raise_software(cpu, EXC_DB, EVT_PRIV_SOFTWARE, in->length); }
static enum flow into(struct cpu *cpu, const struct insn *in)
{
    return flag_of(cpu) ? cpu_raise_software(cpu, EXC_OF, EVT_SOFTWARE, in->length) : FLOW_NEXT;
}

/* The bounds are two signed values of the operand size, both included. */
static enum flow bound(struct cpu *cpu, const struct insn *in)
{
    u64 la, first = 0, second = 0;
    unsigned n = 1u << in->osz;
    TRY(ea_la(cpu, in, 2 * n, ACCESS_READ, &la));
    TRY(mem_read(cpu, la, &first, n));
    TRY(mem_read(cpu, (u32)(la + n), &second, n));
    i32 index = (i32)reg32(cpu, in->reg), lower = (i32)first, upper = (i32)second;
    if (in->osz == OSZ_16) {
        index = (i16)index;
        lower = (i16)first;
        upper = (i16)second;
    }
    return index < lower || index > upper ? cpu_raise(cpu, EXC_BR) : FLOW_NEXT;
}

static enum flow undefined(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    return cpu_raise_ud(cpu);
}

FAMILY_ONE(pushf, pushf)
FAMILY_ONE(popf, popf)
FAMILY_ONE(cli, cli)
FAMILY_ONE(sti, sti)
FAMILY_ONE(int_n, int_n)
FAMILY_ONE(int3, int3)
FAMILY_ONE(int1, int1)
FAMILY_ONE(into, into)
FAMILY_ONE(bound, bound)
FAMILY_ONE(undefined, undefined)
