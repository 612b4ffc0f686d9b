/* Near branches: Jcc, JMP, CALL, RET, LOOPcc, JrCXZ [SDM2]. Jcc does not end its block when it is not taken. CALL, RET and indirect JMP
 * have a second handler each for modes with CET (cpu/cet.h).
 */
#include "cpu/cet.h"
#include "cpu/cond.h"
#include "cpu/mode.h"
#include "cpu/operand.h"

/* Goes to a near target, masked to the operand size in 16/32-bit code. */
HOT_INLINE enum flow branch_to(struct cpu *cpu, const struct insn *in, u64 target)
{
    if (LIKELY(in->flags & INSN_64)) {
        if (UNLIKELY(!cpu_canonical(cpu, target)))
            return cpu_raise_gp(cpu, 0);
        cpu->core.rip = target;
        return FLOW_END;
    }
    target = in->osz == OSZ_16 ? (u16)target : (u32)target;
    if (target > cpu->seg.s[SEG_CS].limit)
        return cpu_raise_gp(cpu, 0);
    cpu->core.rip = target;
    return FLOW_END;
}

HOT_INLINE u64 relative_target(const struct cpu *cpu, const struct insn *in)
{
    return cpu->core.rip + in->length + in->imm;
}

#define DEFINE_JCC(cc, expression)                                                                                     \
    static enum flow j##cc(struct cpu *cpu, const struct insn *in)                                                     \
    {                                                                                                                  \
        return (expression) ? branch_to(cpu, in, relative_target(cpu, in)) : FLOW_NEXT;                                \
    }                                                                                                                  \
    FAMILY_ONE(j##cc, j##cc)
CONDITIONS(DEFINE_JCC)

static enum flow jmp_rel(struct cpu *cpu, const struct insn *in) { return branch_to(cpu, in, relative_target(cpu, in)); }
FAMILY_ONE(jmp_rel, jmp_rel)

static enum flow jmp_near(struct cpu *cpu, const struct insn *in)
{
    u64 target;
    TRY(rm_get(cpu, in, in->osz, &target));
    return branch_to(cpu, in, target);
}
static enum flow jmp_r64(struct cpu *cpu, const struct insn *in) { return branch_to(cpu, in, cpu->core.r[in->rm]); }
static enum flow jmp_m64(struct cpu *cpu, const struct insn *in)
{
    u64 target;
    TRY(rm_read64(cpu, in, &target));
    return branch_to(cpu, in, target);
}
FAMILY_ALL(jmp_E, jmp_near, jmp_near, jmp_near, jmp_r64, jmp_near, jmp_near, jmp_near, jmp_m64)

/* Pushes the return address, then branches; nothing changes when either cannot be done. */
static enum flow call_to(struct cpu *cpu, const struct insn *in, u64 target)
{
    u64 next = cpu->core.rip + in->length;
    if (LIKELY(in->flags & INSN_64)) {
        if (UNLIKELY(!cpu_canonical(cpu, target)))
            return cpu_raise_gp(cpu, 0);
        u64 sp = cpu->core.rsp - 8;
        if (UNLIKELY(!mem_write64(cpu, sp, next))) {
            cpu->fault.stack_segment = 1;
            return cpu_raise_fault(cpu);
        }
        cpu->core.rsp = sp;
        cpu->core.rip = target;
        return FLOW_END;
    }
    target = in->osz == OSZ_16 ? (u16)target : (u32)target;
    TRY(branch_target_ok(cpu, target));
    u64 sp = stack_add(cpu, cpu->core.rsp, -(i64)(1 << in->osz));
    TRY(stack_write(cpu, sp, in->osz, next));
    cpu->core.rsp = sp;
    cpu->core.rip = target;
    return FLOW_END;
}

static enum flow call_rel(struct cpu *cpu, const struct insn *in) { return call_to(cpu, in, relative_target(cpu, in)); }
FAMILY_ONE(call_rel, call_rel)

static enum flow call_near(struct cpu *cpu, const struct insn *in)
{
    u64 target;
    TRY(rm_get(cpu, in, in->osz, &target));
    return call_to(cpu, in, target);
}
FAMILY_ONE(call_E, call_near)

static enum flow ret_release(struct cpu *cpu, const struct insn *in, u64 release)
{
    u64 target;
    if (LIKELY(in->flags & INSN_64)) {
        if (UNLIKELY(!mem_read64(cpu, cpu->core.rsp, &target))) {
            cpu->fault.stack_segment = 1;
            return cpu_raise_fault(cpu);
        }
        if (UNLIKELY(!cpu_canonical(cpu, target)))
            return cpu_raise_gp(cpu, 0);
        cpu->core.rsp += 8 + release;
        cpu->core.rip = target;
        return FLOW_END;
    }
    TRY(stack_read(cpu, cpu->core.rsp, in->osz, &target));
    TRY(branch_target_ok(cpu, target));
    cpu->core.rsp = stack_add(cpu, stack_add(cpu, cpu->core.rsp, 1 << in->osz), (i64)release);
    cpu->core.rip = target;
    return FLOW_END;
}
static enum flow ret(struct cpu *cpu, const struct insn *in) { return ret_release(cpu, in, 0); }
static enum flow ret_imm(struct cpu *cpu, const struct insn *in) { return ret_release(cpu, in, in->imm); }
FAMILY_ONE(ret, ret)
FAMILY_ONE(ret_I, ret_imm)

/* LOOP, LOOPE, LOOPNE, JrCXZ: the count register has the address size. */
static enum flow loop_if(struct cpu *cpu, const struct insn *in, bool condition)
{
    u64 count = (cpu->core.rcx - 1) & osz_mask(in->asz);
    enum flow flow = FLOW_NEXT;
    if (count != 0 && condition)
        flow = branch_to(cpu, in, relative_target(cpu, in));
    if (flow != FLOW_EVENT)
        reg_set(cpu, REG_RCX, in->asz, count);
    return flow;
}
static enum flow loop(struct cpu *cpu, const struct insn *in) { return loop_if(cpu, in, true); }
static enum flow loope(struct cpu *cpu, const struct insn *in) { return loop_if(cpu, in, flag_zf(cpu)); }
static enum flow loopne(struct cpu *cpu, const struct insn *in) { return loop_if(cpu, in, !flag_zf(cpu)); }
FAMILY_ONE(loop, loop)
FAMILY_ONE(loope, loope)
FAMILY_ONE(loopne, loopne)

static enum flow jcxz(struct cpu *cpu, const struct insn *in)
{
    return (cpu->core.rcx & osz_mask(in->asz)) == 0 ? branch_to(cpu, in, relative_target(cpu, in)) : FLOW_NEXT;
}
FAMILY_ONE(jcxz, jcxz)

/* ---- with CET ------------------------------------------------------------------------------------------------------- */

/* What the shadow stack holds of a near CALL: 8 bytes in 64-bit code, else 4. */
static unsigned shadow_size(const struct insn *in) { return in->osz == OSZ_64 ? 8 : 4; }

static enum flow raise_near_ret(struct cpu *cpu) { return cpu_raise_error(cpu, EXC_CP, CP_NEAR_RET); }

/* CALL whose return address goes to the shadow stack, too. Everything that call_to() can fail in is tried first. */
static enum flow call_shadowed(struct cpu *cpu, const struct insn *in, u64 target)
{
    if (!(cpu->mode.cet & MODE_SHADOW_STACK))
        return call_to(cpu, in, target);
    unsigned size = shadow_size(in);
    u64 next = (cpu->core.rip + in->length) & osz_mask(in->osz), la, ssp = cpu->sys.ssp - size;
    u64 sp = stack_add(cpu, cpu->core.rsp, -(i64)(1 << in->osz));
    TRY(branch_target_ok(cpu, target & osz_mask(in->osz)));
    TRY(seg_la(cpu, SEG_SS, sp & stack_mask(cpu), 1u << in->osz, ACCESS_WRITE, &la) &&
        mem_probe(cpu, la, 1u << in->osz, ACCESS_WRITE));
    enum flow flow = cet_write(cpu, ssp, next, size);
    if (flow == FLOW_NEXT)
        flow = call_to(cpu, in, target);
    if (flow == FLOW_END)
        cpu->sys.ssp = in->flags & INSN_64 ? ssp : (u32)ssp;
    return flow;
}

/* CALL to the next instruction reads RIP, and no RET will match it: the shadow stack stays. */
static enum flow call_rel_cet(struct cpu *cpu, const struct insn *in)
{
    u64 target = relative_target(cpu, in);
    return in->imm ? call_shadowed(cpu, in, target) : call_to(cpu, in, target);
}

static enum flow call_near_cet(struct cpu *cpu, const struct insn *in)
{
    u64 target;
    TRY(rm_get(cpu, in, in->osz, &target));
    enum flow flow = call_shadowed(cpu, in, target);
    if (flow == FLOW_END)
        cet_track(cpu, in);
    return flow;
}

static enum flow jmp_near_cet(struct cpu *cpu, const struct insn *in)
{
    enum flow flow = jmp_near(cpu, in);
    if (flow == FLOW_END)
        cet_track(cpu, in);
    return flow;
}

static enum flow ret_release_cet(struct cpu *cpu, const struct insn *in, u64 release)
{
    if (!(cpu->mode.cet & MODE_SHADOW_STACK))
        return ret_release(cpu, in, release);
    unsigned size = shadow_size(in);
    u64 target, expected, ssp = cpu->sys.ssp;
    TRY(stack_read(cpu, cpu->core.rsp, in->osz, &target));
    enum flow flow = cet_read(cpu, ssp, &expected, size);
    if (flow != FLOW_NEXT)
        return flow;
    if (expected != target)
        return raise_near_ret(cpu);
    flow = ret_release(cpu, in, release);
    if (flow == FLOW_END)
        cpu->sys.ssp = in->flags & INSN_64 ? ssp + size : (u32)(ssp + size);
    return flow;
}
static enum flow ret_cet(struct cpu *cpu, const struct insn *in) { return ret_release_cet(cpu, in, 0); }
static enum flow ret_imm_cet(struct cpu *cpu, const struct insn *in) { return ret_release_cet(cpu, in, in->imm); }

insn_handler *cet_handler(insn_handler *plain)
{
    static const struct { insn_handler *plain, *cet; } pairs[] = {
        {call_rel, call_rel_cet}, {call_near, call_near_cet}, {ret, ret_cet}, {ret_imm, ret_imm_cet},
        {jmp_near, jmp_near_cet}, {jmp_r64, jmp_near_cet}, {jmp_m64, jmp_near_cet},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(pairs); n++)
        if (pairs[n].plain == plain)
            return pairs[n].cet;
    return plain;
}
