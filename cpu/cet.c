/* CET: shadow stacks, the tracker of indirect branches, and the instructions that manage shadow stacks.
 *
 * A far transfer with shadow stacks leaves three words on the shadow stack it enters (CS, linear return address, SSP before). A supervisor
 * shadow stack has a token at its base: its own address, bit 0 set while a processor uses it; it is set by the transfer that switches to the
 * stack and cleared by the return from it.
 * Kept true: registers change after the last check. Nothing of a transfer can fault once it has set a token, since all that it pushes has been
 * pushed or lies in the token's 32 bytes: no shadow stack becomes "prematurely busy", as CPUID.CET_SSS says.
 *
 * Follows [SDM1 "Control-flow Enforcement Technology (CET)"], the operation sections of [SDM2 "CALL", "RET", "IRET/IRETD/IRETQ",
 * "INT n/INTO/INT3/INT1", "JMP", "SYSCALL", "SYSENTER"] and of each instruction here, [SDM3 "Task Switching"].
 */
#include "cpu/cet.h"

#include "cpu/flags.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/operand.h"
#include "cpu/segment.h"

#define BUSY 1u

static u64 *cet_msr(struct cpu *cpu, unsigned cpl) { return cpl == 3 ? &cpu->sys.u_cet : &cpu->sys.s_cet; }

static bool enabled(const struct cpu *cpu, unsigned cpl, u64 bit)
{
    return cpu->sys.cr4 & CR4_CET && cpu->mode.protected_mode && (cpl == 3 ? cpu->sys.u_cet : cpu->sys.s_cet) & bit;
}

bool cet_shadow_stack(const struct cpu *cpu, unsigned cpl) { return enabled(cpu, cpl, CET_SH_STK_EN); }
bool cet_tracking(const struct cpu *cpu, unsigned cpl) { return enabled(cpu, cpl, CET_ENDBR_EN); }

static enum flow raise_cp(struct cpu *cpu, u32 error) { return cpu_raise_error(cpu, EXC_CP, error); }

/* ---- accesses ---------------------------------------------------------------------------------------------------- */

/* `access`: ACCESS_SYSTEM or ACCESS_USER overrides the CPL. wide: 64-bit addresses. */
static enum flow shadow_read(struct cpu *cpu, u64 la, void *data, unsigned n, unsigned access, bool wide)
{
    cpu->fault.stack_segment = 0;
    if (!mem_read_slow(cpu, wide ? la : (u32)la, data, n, access | ACCESS_SHADOW_STACK))
        return cpu_raise_fault(cpu);
    return FLOW_NEXT;
}

static enum flow shadow_write(struct cpu *cpu, u64 la, const void *data, unsigned n, unsigned access, bool wide)
{
    cpu->fault.stack_segment = 0;
    if (!mem_write_slow(cpu, wide ? la : (u32)la, data, n, access | ACCESS_WRITE | ACCESS_SHADOW_STACK))
        return cpu_raise_fault(cpu);
    return FLOW_NEXT;
}

static bool wide_code(const struct cpu *cpu) { return cpu->mode.code_bits == BITS_64; }

enum flow cet_read(struct cpu *cpu, u64 ssp, u64 *value, unsigned n)
{
    *value = 0;
    return shadow_read(cpu, ssp, value, n, 0, wide_code(cpu));
}

enum flow cet_write(struct cpu *cpu, u64 ssp, u64 value, unsigned n)
{
    return shadow_write(cpu, ssp, &value, n, 0, wide_code(cpu));
}

/* A locked compare-and-exchange on 8 bytes of shadow stack: like the processor's, it needs the right to write in any case. */
static enum flow shadow_exchange(struct cpu *cpu, u64 la, u64 expected, u64 value, unsigned access, bool wide, bool *matched)
{
    u64 old;
    FLOW(shadow_read(cpu, la, &old, 8, access | ACCESS_WRITE, wide));
    *matched = old == expected;
    return *matched ? shadow_write(cpu, la, &value, 8, access, wide) : FLOW_NEXT;
}

/* Gives the token at the base of a shadow stack back, at the CPL that leaves it; one that is not there is left alone. */
static enum flow token_release(struct cpu *cpu, u64 ssp)
{
    bool matched;
    return shadow_exchange(cpu, ssp, ssp | BUSY, ssp, 0, cpu->mode.long_mode, &matched);
}

/* Pushes CS, LIP and SSP below `top`, a multiple of 8. */
static enum flow push_place(struct cpu *cpu, u64 top, u16 cs, u64 lip, u64 ssp, unsigned access, bool wide)
{
    u64 place[3] = {ssp, lip, cs};
    return shadow_write(cpu, top - sizeof place, place, sizeof place, access, wide);
}

/* ---- tracking of indirect branches ------------------------------------------------------------------------------- */

/* Far transfers and events: whatever they enter has to begin with ENDBR. The caller updates the mode. */
static void wait_for_endbranch(struct cpu *cpu, unsigned cpl)
{
    u64 *msr = cet_msr(cpu, cpl);
    if (cet_tracking(cpu, cpl))
        *msr = (*msr & ~(u64)CET_SUPPRESS) | CET_TRACKER;
}

void cet_track(struct cpu *cpu, const struct insn *in)
{
    u64 *msr = cet_msr(cpu, cpu->mode.cpl);
    if (!(cpu->mode.cet & MODE_IBT) || *msr & CET_SUPPRESS || (in->notrack && *msr & CET_NO_TRACK_EN))
        return;
    *msr |= CET_TRACKER;
    cpu->event.attention |= ATT_ENDBRANCH;
}

/* The tracker does not wait any more. */
static void go_idle(struct cpu *cpu, u64 suppress)
{
    u64 *msr = cet_msr(cpu, cpu->mode.cpl);
    *msr = (*msr & ~(u64)(CET_TRACKER | CET_SUPPRESS)) | suppress;
    cpu->event.attention &= ~(u32)ATT_ENDBRANCH;
}

enum flow cet_check_target(struct cpu *cpu, const struct insn *in, u64 la)
{
    u64 msr = *cet_msr(cpu, cpu->mode.cpl);
    if (in->handler == (wide_code(cpu) ? h_endbr64 : h_endbr32)[0])
        return FLOW_NEXT;
    if (in->handler == h_int3[0] || in->handler == h_int1[0])
        return FLOW_NEXT;      /* a debugger's breakpoint over an ENDBR is delivered first; the tracker goes on waiting */
    if (msr & CET_LEG_IW_EN) {
        /* A page of old code, by its bit in the bitmap [SDM1 "Legacy Compatibility Treatment"]. */
        u64 page = (la & mask_low(cpu->mode.long_mode ? cpu->mode.la_bits : 32)) >> 12, at = (msr & ~0xfffull) + page / 8;
        u8 byte;
        cpu->fault.stack_segment = 0;
        TRY(mem_read8(cpu, wide_code(cpu) ? at : (u32)at, &byte));
        if (byte >> (page & 7) & 1) {
            go_idle(cpu, msr & CET_SUPPRESS_DIS ? 0 : CET_SUPPRESS);
            return FLOW_NEXT;
        }
    }
    return raise_cp(cpu, CP_ENDBRANCH);
}

static enum flow endbr(struct cpu *cpu, bool wide)
{
    if (cpu->mode.cet & MODE_IBT && wide == wide_code(cpu))
        go_idle(cpu, 0);
    return FLOW_NEXT;
}

static enum flow endbr32(struct cpu *cpu, const struct insn *in) { (void)in; return endbr(cpu, false); }
static enum flow endbr64(struct cpu *cpu, const struct insn *in) { (void)in; return endbr(cpu, true); }
FAMILY_ONE(endbr32, endbr32)
FAMILY_ONE(endbr64, endbr64)

/* ---- far transfers ----------------------------------------------------------------------------------------------- */

static bool wide_target(const struct cpu *cpu, const struct segment *cs) { return cpu->mode.long_mode && cs->access & AR_L; }

/* The linear address of rip in `cs`. */
static u64 linear(const struct segment *cs, u64 rip, bool wide) { return wide ? rip : (u32)(cs->base + rip); }

/* SSP as IA32_PL3_SSP keeps it: canonical for the widest addresses of the model. */
static u64 pl3_of(const struct cpu *cpu, u64 ssp)
{
    unsigned shift = cpu_has(cpu, FEATURE_LA57) ? 7 : 16;
    return cpu->mode.long_mode ? (u64)((i64)(ssp << shift) >> shift) : (u32)ssp;
}

/* Takes the shadow stack whose token lies at ssp. `fault` for a token that is not free. */
static enum flow token_take(struct cpu *cpu, u64 ssp, bool wide)
{
    bool matched;
    /* Token and pushed words have to lie in one aligned block of 32 bytes. */
    if (ssp & 7 || (ssp & ~0x1full) != ((ssp - 24) & ~0x1full) || (!wide && ssp >> 32))
        return cpu_raise_gp(cpu, 0);
    FLOW(shadow_exchange(cpu, ssp, ssp, ssp | BUSY, ACCESS_SYSTEM, wide, &matched));
    return matched ? FLOW_NEXT : cpu_raise_gp(cpu, 0);
}

/* The shadow stack that a transfer at one level goes on with, its top aligned: the hole that this leaves is zeroed. */
static enum flow align_top(struct cpu *cpu, u64 *top, unsigned access, bool wide)
{
    static const u32 zero;
    if (*top & 4)
        FLOW(shadow_write(cpu, *top - 4, &zero, 4, access, wide));
    *top &= ~7ull;
    return FLOW_NEXT;
}

enum flow cet_enter_far(struct cpu *cpu, const struct segment *cs, unsigned new_cpl, unsigned ist, u64 old_rip)
{
    struct cpu_sys *sys = &cpu->sys;
    const struct segment *old_cs = &cpu->seg.s[SEG_CS];
    unsigned cpl = cpu->mode.cpl, access = new_cpl == 3 ? 0 : ACCESS_SYSTEM;
    bool inner = new_cpl != cpl, wide = wide_target(cpu, cs);
    u64 ssp = sys->ssp, pl3 = sys->pl_ssp[3];

    if (inner && cpl == 3 && cet_shadow_stack(cpu, 3))
        pl3 = pl3_of(cpu, ssp);
    /* From virtual-8086 mode the handler runs in protected mode already. */
    u64 control = new_cpl == 3 ? sys->u_cet : sys->s_cet;
    if (control & CET_SH_STK_EN) {
        u64 top = ssp, lip = linear(old_cs, old_rip, wide_code(cpu));
        if (ist) {
            FLOW(system_read(cpu, sys->ssp_table + 8 * ist, &top, 8));
            FLOW(token_take(cpu, top, wide));
        } else if (inner) {
            top = sys->pl_ssp[new_cpl];
            FLOW(token_take(cpu, top, wide));
        } else {
            if (!wide && ssp >> 32)
                return cpu_raise_gp(cpu, 0);
            FLOW(align_top(cpu, &top, access, wide));
        }
        if (!inner || cpl != 3) {
            FLOW(push_place(cpu, top, old_cs->selector, lip, ssp, access, wide));
            top -= 24;
        }
        ssp = top;
    }
    sys->ssp = ssp;
    sys->pl_ssp[3] = pl3;
    if (control & CET_ENDBR_EN) {
        u64 *msr = cet_msr(cpu, new_cpl);
        *msr = (*msr & ~(u64)CET_SUPPRESS) | CET_TRACKER;
    }
    return FLOW_NEXT;
}

enum flow cet_jump_far(struct cpu *cpu, const struct segment *cs)
{
    if (cet_shadow_stack(cpu, cpu->mode.cpl) && !wide_target(cpu, cs) && cpu->sys.ssp >> 32)
        return cpu_raise_gp(cpu, 0);
    wait_for_endbranch(cpu, cpu->mode.cpl);
    return FLOW_NEXT;
}

/* Compares what a far return popped from the shadow stack with where it goes. */
static enum flow check_place(struct cpu *cpu, const u64 *place, u16 selector, u64 lip)
{
    return place[2] != selector || place[1] != lip || place[0] & 3 ? raise_cp(cpu, CP_FAR_RET_IRET) : FLOW_NEXT;
}

enum flow cet_return_far(struct cpu *cpu, const struct segment *cs, u64 rip, bool iret)
{
    unsigned cpl = cpu->mode.cpl, new_cpl = cs->selector & SELECTOR_RPL;
    bool on = cet_shadow_stack(cpu, cpl), wide = wide_target(cpu, cs), outer = new_cpl != cpl;
    u64 ssp = cpu->sys.ssp, new_ssp = ssp;

    if (on) {
        if (ssp & 7)
            return raise_cp(cpu, CP_FAR_RET_IRET);
        if (!outer || new_cpl != 3) {
            u64 place[3];
            FLOW(shadow_read(cpu, ssp, place, sizeof place, 0, wide_code(cpu)));
            FLOW(check_place(cpu, place, cs->selector, linear(cs, rip, wide)));
            ssp += sizeof place;
            new_ssp = place[0];
        }
    }
    bool on_new = outer ? cet_shadow_stack(cpu, new_cpl) : on;
    if (on_new) {
        if (outer && new_cpl == 3)
            new_ssp = cpu->sys.pl_ssp[3];
        if (wide ? !cpu_canonical(cpu, new_ssp) : new_ssp >> 32)
            return cpu_raise_gp(cpu, 0);
    } else {
        new_ssp = ssp;
    }
    /* A return to the same level leaves another shadow stack only if an interrupt stack was in use. */
    if (on && (outer || (iret && cpu->mode.long_mode && new_ssp != ssp)))
        FLOW(token_release(cpu, ssp));
    cpu->sys.ssp = new_ssp;
    return FLOW_NEXT;
}

enum flow cet_return_v8086(struct cpu *cpu)
{
    if (LIKELY(!(cpu->sys.cr4 & CR4_CET)))
        return FLOW_NEXT;
    if (cpu->sys.u_cet & (CET_SH_STK_EN | CET_ENDBR_EN))
        return cpu_raise_gp(cpu, 0);
    if (!cet_shadow_stack(cpu, cpu->mode.cpl))
        return FLOW_NEXT;
    return cpu->sys.ssp & 7 ? raise_cp(cpu, CP_FAR_RET_IRET) : token_release(cpu, cpu->sys.ssp);
}

void cet_enter_fast(struct cpu *cpu)
{
    if (LIKELY(!(cpu->sys.cr4 & CR4_CET)))
        return;
    if (cet_shadow_stack(cpu, cpu->mode.cpl))
        cpu->sys.pl_ssp[3] = pl3_of(cpu, cpu->sys.ssp);
    if (cpu->sys.s_cet & CET_SH_STK_EN)
        cpu->sys.ssp = 0;
    if (cpu->sys.s_cet & CET_ENDBR_EN)
        cpu->sys.s_cet = (cpu->sys.s_cet & ~(u64)CET_SUPPRESS) | CET_TRACKER;
}

void cet_return_fast(struct cpu *cpu)
{
    if (UNLIKELY(cet_shadow_stack(cpu, 3)))
        cpu->sys.ssp = cpu->sys.pl_ssp[3];
}

/* [SDM3 "User-Interrupt Delivery"] */
enum flow cet_enter_user_interrupt(struct cpu *cpu, u64 old_rip)
{
    if (cet_shadow_stack(cpu, cpu->mode.cpl)) {
        FLOW(cet_write(cpu, cpu->sys.ssp - 8, old_rip, 8));
        cpu->sys.ssp -= 8;
    }
    wait_for_endbranch(cpu, cpu->mode.cpl);
    return FLOW_NEXT;
}

/* [SDM2 "UIRET—User-Interrupt Return"] */
enum flow cet_return_user_interrupt(struct cpu *cpu, u64 rip)
{
    u64 place;
    if (!cet_shadow_stack(cpu, cpu->mode.cpl))
        return FLOW_NEXT;
    FLOW(cet_read(cpu, cpu->sys.ssp, &place, 8));
    if (place != rip)
        return raise_cp(cpu, CP_FAR_RET_IRET);
    cpu->sys.ssp += 8;
    return FLOW_NEXT;
}

/* ---- task switches ----------------------------------------------------------------------------------------------- */

enum flow cet_task_leave(struct cpu *cpu, struct cet_task *t, bool iret, bool nested, unsigned new_cpl, u64 return_rip)
{
    unsigned cpl = cpu->mode.cpl;
    t->active = cpu->sys.cr4 & CR4_CET;
    if (LIKELY(!t->active))
        return FLOW_NEXT;
    t->iret = iret;
    t->old_cs = cpu->seg.s[SEG_CS].selector;
    t->old_lip = linear(&cpu->seg.s[SEG_CS], return_rip, false);
    t->old_ssp = t->new_ssp = cpu->sys.ssp;
    t->pl3_ssp = cpu->sys.pl_ssp[3];
    if (!cet_shadow_stack(cpu, cpl))
        return FLOW_NEXT;
    if (nested) {
        if (new_cpl < cpl && cpl == 3)
            t->pl3_ssp = (u32)t->old_ssp;
        else
            t->push = true;
    } else if (iret) {
        u64 ssp = t->old_ssp;
        if (ssp & 7)
            return raise_cp(cpu, CP_FAR_RET_IRET);
        if (new_cpl == cpl || new_cpl < 3) {
            FLOW(shadow_read(cpu, ssp, t->frame, sizeof t->frame, 0, false));
            t->verify = true;
            ssp += sizeof t->frame;
        }
        bool matched;
        FLOW(shadow_exchange(cpu, ssp, ssp | BUSY, ssp, cpl == 3 ? 0 : ACCESS_SYSTEM, false, &matched));
        t->new_ssp = 0;
    }
    return FLOW_NEXT;
}

enum flow cet_task_enter(struct cpu *cpu, const struct cet_task *t)
{
    if (LIKELY(!t->active))
        return FLOW_NEXT;
    unsigned cpl = cpu->mode.cpl, access = cpl == 3 ? 0 : ACCESS_SYSTEM;
    u32 error = selector_error(t->tss);
    u64 control = *cet_msr(cpu, cpl);
    cpu->sys.pl_ssp[3] = t->pl3_ssp;
    cpu->sys.ssp = t->new_ssp;
    if (cpu->mode.v8086)
        return control & (CET_SH_STK_EN | CET_ENDBR_EN) ? cpu_raise_ts(cpu, error) : FLOW_NEXT;
    if (t->iret) {
        if (t->verify)
            FLOW(check_place(cpu, t->frame, cpu->seg.s[SEG_CS].selector, linear(&cpu->seg.s[SEG_CS], cpu->core.rip, false)));
        if (control & CET_SH_STK_EN) {
            u64 ssp = t->verify ? t->frame[0] : t->pl3_ssp;
            if (ssp & 3 || ssp >> 32)
                return raise_cp(cpu, CP_FAR_RET_IRET);
            cpu->sys.ssp = ssp;
        }
        return FLOW_NEXT;
    }
    if (control & CET_SH_STK_EN) {
        u64 ssp = t->tss_ssp;
        bool matched;
        if (!t->has_ssp || ssp & 7)
            return cpu_raise_ts(cpu, error);
        FLOW(shadow_exchange(cpu, ssp, ssp, ssp | BUSY, access, false, &matched));
        if (!matched)
            return cpu_raise_ts(cpu, error);
        if (t->push) {
            FLOW(push_place(cpu, ssp, t->old_cs, t->old_lip, t->old_ssp, access, false));
            ssp -= 24;
        }
        cpu->sys.ssp = ssp;
    }
    wait_for_endbranch(cpu, cpl);
    return FLOW_NEXT;
}

/* ---- instructions ------------------------------------------------------------------------------------------------ */

static bool shadow_stack_off(const struct cpu *cpu) { return !(cpu->mode.cet & MODE_SHADOW_STACK); }

static enum flow incssp(struct cpu *cpu, const struct insn *in)
{
    if (shadow_stack_off(cpu))
        return cpu_raise_ud(cpu);
    unsigned size = in->flags & INSN_REX_W ? 8 : 4, count = reg32(cpu, in->rm) & 0xff;
    u64 ssp = cpu->sys.ssp, word;
    FLOW(cet_read(cpu, ssp, &word, size));
    if (count > 1)
        FLOW(cet_read(cpu, ssp + (u64)(count - 1) * size, &word, size));
    ssp += (u64)count * size;
    cpu->sys.ssp = in->flags & INSN_64 ? ssp : (u32)ssp;
    return FLOW_NEXT;
}
FAMILY_ONE(incssp, incssp)

/* A hint while shadow stacks are off. */
static enum flow rdssp(struct cpu *cpu, const struct insn *in)
{
    if (!shadow_stack_off(cpu))
        reg_set(cpu, in->rm, in->flags & INSN_REX_W ? OSZ_64 : OSZ_32, cpu->sys.ssp);
    return FLOW_NEXT;
}
FAMILY_ONE(rdssp, rdssp)

/* Leaves a token on the shadow stack that RSTORSSP came from, whose SSP it has left on this one. */
static enum flow saveprevssp(struct cpu *cpu, const struct insn *in)
{
    bool wide = in->flags & INSN_64;
    u64 ssp = cpu->sys.ssp, token, hole = 0;
    (void)in;
    if (shadow_stack_off(cpu))
        return cpu_raise_ud(cpu);
    if (ssp & 7)
        return cpu_raise_gp(cpu, 0);
    FLOW(cet_read(cpu, ssp, &token, 8));
    ssp += 8;
    if (flag_cf(cpu)) {        /* RSTORSSP has seen that the stack was not aligned when its token was written */
        if (wide)
            return cpu_raise_gp(cpu, 0);
        FLOW(cet_read(cpu, ssp, &hole, 4));
        ssp += 4;
    }
    if (hole || !(token & 2) || (!wide && token >> 32))
        return cpu_raise_gp(cpu, 0);
    u64 previous = token & ~3ull;
    if (previous & 4)
        FLOW(cet_write(cpu, previous - 4, 0, 4));
    FLOW(cet_write(cpu, (previous & ~7ull) - 8, previous | wide, 8));
    cpu->sys.ssp = wide ? ssp : (u32)ssp;
    return FLOW_NEXT;
}
FAMILY_ONE(saveprevssp, saveprevssp)

static enum flow rstorssp(struct cpu *cpu, const struct insn *in)
{
    bool wide = in->flags & INSN_64;
    u64 la, token;
    if (shadow_stack_off(cpu))
        return cpu_raise_ud(cpu);
    TRY(ea_la(cpu, in, 8, ACCESS_READ, &la));
    if (la & 7)
        return cpu_raise_gp(cpu, 0);
    FLOW(shadow_read(cpu, la, &token, 8, ACCESS_WRITE, wide));
    u64 top = token & ~1ull;
    if ((token & 3) != wide || (!wide && token >> 32) || ((top - 8) & ~7ull) != la)
        return raise_cp(cpu, CP_RSTORSSP);
    FLOW(cet_write(cpu, la, cpu->sys.ssp | 2 | wide, 8));
    cpu->sys.ssp = la;
    flags_set_status(cpu, token & 4 ? FL_CF : 0);
    return FLOW_NEXT;
}
FAMILY_ONE(rstorssp, rstorssp)

static enum flow wrss(struct cpu *cpu, const struct insn *in)
{
    unsigned size = in->flags & INSN_REX_W ? 8 : 4;
    u64 la;
    if (shadow_stack_off(cpu) || !(*cet_msr(cpu, cpu->mode.cpl) & CET_WR_SHSTK_EN))
        return cpu_raise_ud(cpu);
    TRY(ea_la(cpu, in, size, ACCESS_WRITE, &la));
    return la & (size - 1) ? cpu_raise_gp(cpu, 0) : cet_write(cpu, la, reg64(cpu, in->reg), size);
}
FAMILY_ONE(wrss, wrss)

static enum flow wruss(struct cpu *cpu, const struct insn *in)
{
    unsigned size = in->flags & INSN_REX_W ? 8 : 4;
    u64 la;
    if (!(cpu->sys.cr4 & CR4_CET))
        return cpu_raise_ud(cpu);
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    TRY(ea_la(cpu, in, size, ACCESS_WRITE, &la));
    if (la & (size - 1))
        return cpu_raise_gp(cpu, 0);
    return shadow_write(cpu, la, &cpu->core.r[in->reg], size, ACCESS_USER, wide_code(cpu));
}
FAMILY_ONE(wruss, wruss)

/* What SETSSBSY and CLRSSBSY check first. */
static enum flow token_checks(struct cpu *cpu)
{
    if (!(cpu->sys.cr4 & CR4_CET) || !(cpu->sys.s_cet & CET_SH_STK_EN))
        return cpu_raise_ud(cpu);
    return cpl0(cpu) ? FLOW_NEXT : cpu_raise_gp(cpu, 0);
}

static enum flow setssbsy(struct cpu *cpu, const struct insn *in)
{
    u64 ssp = cpu->sys.pl_ssp[0];
    bool matched;
    FLOW(token_checks(cpu));
    if (ssp & 7)
        return cpu_raise_gp(cpu, 0);
    FLOW(shadow_exchange(cpu, ssp, ssp, ssp | BUSY, 0, in->flags & INSN_64, &matched));
    if (!matched)
        return raise_cp(cpu, CP_SETSSBSY);
    cpu->sys.ssp = ssp;
    return FLOW_NEXT;
}
FAMILY_ONE(setssbsy, setssbsy)

static enum flow clrssbsy(struct cpu *cpu, const struct insn *in)
{
    u64 la;
    bool matched;
    FLOW(token_checks(cpu));
    TRY(ea_la(cpu, in, 8, ACCESS_WRITE, &la));
    if (la & 7)
        return cpu_raise_gp(cpu, 0);
    FLOW(shadow_exchange(cpu, la, la | BUSY, la, 0, in->flags & INSN_64, &matched));
    flags_set_status(cpu, matched ? 0 : FL_CF);
    cpu->sys.ssp = 0;
    return FLOW_NEXT;
}
FAMILY_ONE(clrssbsy, clrssbsy)
