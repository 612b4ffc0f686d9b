/* Fast system calls: SYSCALL, SYSRET, SYSENTER, SYSEXIT [SDM2].
 *
 * They load CS and SS with fixed flat segments, whatever the descriptor tables hold, and touch no memory.
 * TF: SYSCALL and SYSRET take their single-step trap by the TF that they load, not by the one they began with; a SYSCALL whose mask clears TF is
 * not followed by a trap, a SYSRET that sets it is, before the next instruction.
 */
#include "cpu/cet.h"
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/mode.h"
#include "cpu/operand.h"

enum { FLAT = AR_S | AR_P | AR_G | AR_ACCESSED, FLAT_CODE = FLAT | AR_CODE | AR_READABLE, FLAT_DATA = FLAT | AR_WRITABLE | AR_DB };

static void load_flat(struct segment *s, u16 selector, u32 access, unsigned cpl)
{
    s->base = 0;
    s->limit = 0xffffffff;
    s->access = access | cpl << 5;
    s->selector = (u16)((selector & ~3) | cpl);
}

/* CS and SS of a level; wide: 64-bit code. */
static void load_flat_pair(struct cpu *cpu, u16 code, u16 stack, unsigned cpl, bool wide)
{
    load_flat(&cpu->seg.s[SEG_CS], code, FLAT_CODE | (wide ? AR_L : AR_DB), cpl);
    load_flat(&cpu->seg.s[SEG_SS], stack, FLAT_DATA, cpl);
}

static void step_by_new_tf(struct cpu *cpu)
{
    cpu->event.step &= (u8)~STEP_TF;
    if (cpu->core.rflags_rest & FL_TF)
        cpu_pend_debug(cpu, DR6_BS);
}

static enum flow syscall_(struct cpu *cpu, const struct insn *in)
{
    if (cpu->mode.code_bits != BITS_64 || !(cpu->sys.efer & EFER_SCE))
        return cpu_raise_ud(cpu);
    u64 rflags = cpu_rflags(cpu) & ~(u64)FL_RF;
    u16 code = (u16)(cpu->sys.star >> 32);
    cpu->core.rcx = cpu->core.rip + in->length;
    cpu->core.r11 = rflags;
    cpu->core.rip = cpu->sys.lstar;
    cpu_set_rflags(cpu, rflags & ~cpu->sys.fmask);
    cet_enter_fast(cpu);
    load_flat_pair(cpu, code, (u16)(code + 8), 0, true);
    step_by_new_tf(cpu);
    cpu_mode_update(cpu);
    return FLOW_END;
}

static enum flow sysret(struct cpu *cpu, const struct insn *in)
{
    if (cpu->mode.code_bits != BITS_64 || !(cpu->sys.efer & EFER_SCE))
        return cpu_raise_ud(cpu);
    bool wide = in->flags & INSN_REX_W;
    if (!cpl0(cpu) || (wide && !cpu_canonical(cpu, cpu->core.rcx)))
        return cpu_raise_gp(cpu, 0);
    u16 base = (u16)(cpu->sys.star >> 48);
    cpu->core.rip = wide ? cpu->core.rcx : (u32)cpu->core.rcx;
    cpu_set_rflags(cpu, cpu->core.r11 & 0x3c7fd7);
    load_flat_pair(cpu, (u16)(wide ? base + 16 : base), (u16)(base + 8), 3, wide);
    cet_return_fast(cpu);
    step_by_new_tf(cpu);
    cpu_mode_update(cpu);
    return FLOW_END;
}

static enum flow sysenter(struct cpu *cpu, const struct insn *in)
{
    u16 code = (u16)cpu->sys.sysenter_cs;
    (void)in;
    if (cpu->mode.real || !(code & 0xfffc))
        return cpu_raise_gp(cpu, 0);
    bool wide = cpu->mode.long_mode;
    cet_enter_fast(cpu);
    cpu->core.rflags_rest &= ~(u64)(FL_VM | FL_IF | FL_RF);
    cpu->core.rsp = wide ? cpu->sys.sysenter_esp : (u32)cpu->sys.sysenter_esp;
    cpu->core.rip = wide ? cpu->sys.sysenter_eip : (u32)cpu->sys.sysenter_eip;
    load_flat_pair(cpu, code, (u16)(code + 8), 0, wide);
    cpu_mode_update(cpu);
    return FLOW_END;
}

static enum flow sysexit(struct cpu *cpu, const struct insn *in)
{
    u16 base = (u16)cpu->sys.sysenter_cs;
    bool wide = in->flags & INSN_REX_W;
    if (!cpu->mode.protected_mode || !cpl0(cpu) || !(base & 0xfffc))
        return cpu_raise_gp(cpu, 0);
    if (wide && (!cpu_canonical(cpu, cpu->core.rcx) || !cpu_canonical(cpu, cpu->core.rdx)))
        return cpu_raise_gp(cpu, 0);
    cpu->core.rsp = wide ? cpu->core.rcx : (u32)cpu->core.rcx;
    cpu->core.rip = wide ? cpu->core.rdx : (u32)cpu->core.rdx;
    load_flat_pair(cpu, (u16)(base + (wide ? 32 : 16)), (u16)(base + (wide ? 40 : 24)), 3, wide);
    cet_return_fast(cpu);
    cpu_mode_update(cpu);
    return FLOW_END;
}

FAMILY_ONE(syscall, syscall_)
FAMILY_ONE(sysret, sysret)
FAMILY_ONE(sysenter, sysenter)
FAMILY_ONE(sysexit, sysexit)
