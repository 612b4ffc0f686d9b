/* Far transfers: JMP, CALL, RET and IRET through code segments, call gates and task gates, in every mode.
 *
 * Follows the operation sections of [SDM2 "JMP—Jump", "CALL—Call Procedure", "RET—Return From Procedure", "IRET/IRETD/IRETQ—Interrupt Return"] and
 * [SDM3 "Control Transfers", "Privilege Level Checking When Transferring Program Control Between Code Segments"].
 * Kept true: CS, SS, RIP and RSP are loaded together after the last check; all pushes are one frame that is written whole or not at all.
 */
#include "cpu/cet.h"
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/frame.h"
#include "cpu/mode.h"
#include "cpu/operand.h"
#include "cpu/segment.h"
#include "cpu/task.h"
#include "vmx/vmx.h"

static u64 next_rip(const struct cpu *cpu, const struct insn *in)
{
    u64 next = cpu->core.rip + in->length;
    return in->flags & INSN_64 ? next : (u32)next;
}

/* The whole RSP from a value popped or computed for the stack that is now loaded. */
static void load_sp(struct cpu *cpu, u64 sp)
{
    if (cpu->mode.stack_bits == BITS_64)
        cpu->core.rsp = sp;
    else if (cpu->mode.stack_bits == BITS_32)
        cpu->core.rsp = (u32)sp;
    else
        cpu->core.rsp = (cpu->core.rsp & ~0xffffull) | (sp & 0xffff);
}

/* ---- JMP and CALL ----------------------------------------------------------------------------------------------- */

/* Real and virtual-8086 mode. */
static enum flow far_real(struct cpu *cpu, const struct insn *in, u16 selector, u64 offset, bool call)
{
    struct segment *cs = &cpu->seg.s[SEG_CS];
    if (offset > cs->limit)
        return cpu_raise_gp(cpu, 0);
    if (call) {
        struct frame f;
        frame_begin(cpu, &f, in->osz);
        frame_add(&f, cs->selector);
        frame_add(&f, next_rip(cpu, in));
        FLOW(frame_push(cpu, &f));
        cpu->core.rsp = f.sp;
    }
    cs->selector = selector;
    cs->base = (u64)selector << 4;
    cpu->core.rip = offset;
    return FLOW_END;
}

/* Straight to a code segment, at the same privilege level. */
static enum flow far_direct(struct cpu *cpu, const struct insn *in, u16 selector, struct descriptor *d, u64 offset, bool call)
{
    u32 access = descriptor_access(d), error = selector_error(selector);
    unsigned cpl = cpu->mode.cpl;
    struct segment cs = {0};
    struct frame f;

    if (!access_is_code(access) || (cpu->mode.long_mode && (access & (AR_L | AR_DB)) == (AR_L | AR_DB)))
        return cpu_raise_gp(cpu, error);
    if (access_is_conforming(access) ? access_dpl(access) > cpl
                                     : (selector & SELECTOR_RPL) > cpl || access_dpl(access) != cpl)
        return cpu_raise_gp(cpu, error);
    if (!(access & AR_P))
        return cpu_raise_np(cpu, error);
    FLOW(descriptor_set_accessed(cpu, d));
    segment_unpack(&cs, (u16)(error | cpl), d);
    if (!code_target_ok(cpu, &cs, offset))
        return cpu_raise_gp(cpu, 0);
    if (call) {
        frame_begin(cpu, &f, in->osz);
        frame_add(&f, cpu->seg.s[SEG_CS].selector);
        frame_add(&f, next_rip(cpu, in));
        FLOW(frame_push(cpu, &f));
        FLOW(cet_enter(cpu, &cs, cpl, 0, next_rip(cpu, in)));
        cpu->core.rsp = f.sp;
    } else {
        FLOW(cet_jump(cpu, &cs));
    }
    cpu->seg.s[SEG_CS] = cs;
    cpu->core.rip = offset;
    cpu_mode_update(cpu);
    return FLOW_END;
}

/* CALL to a more privileged level: the frame on the stack that the TSS names, with the parameters copied. */
static enum flow gate_inner_frame(struct cpu *cpu, const struct insn *in, const struct descriptor *gate, unsigned new_cpl, struct frame *f)
{
    bool wide = cpu->mode.long_mode;
    unsigned osz = wide ? OSZ_64 : gate->low >> 43 & 1 ? OSZ_32 : OSZ_16;
    struct segment ss = {0};
    u64 sp, value[31];
    unsigned count = wide ? 0 : (unsigned)(gate->low >> 32 & 31);

    if (wide) {
        FLOW(task_read_stack64(cpu, new_cpl, 0, &sp));
        if (!cpu_canonical(cpu, sp))
            return cpu_raise_ss(cpu, 0);
        segment_make_null(&ss, (u16)new_cpl, new_cpl);
    } else {
        u16 selector;
        FLOW(task_read_stack(cpu, new_cpl, &selector, &sp));
        FLOW(segment_check_stack(cpu, selector, new_cpl, EXC_TS, false, &ss));
    }
    for (unsigned n = 0; n < count; n++)
        TRY(stack_read(cpu, stack_add(cpu, cpu->core.rsp, (i64)n << osz), osz, &value[n]));
    frame_begin_new(cpu, f, osz, &ss, sp, new_cpl, wide);
    frame_add(f, cpu->seg.s[SEG_SS].selector);
    frame_add(f, cpu->core.rsp);
    for (unsigned n = count; n-- > 0;)
        frame_add(f, value[n]);
    frame_add(f, cpu->seg.s[SEG_CS].selector);
    frame_add(f, next_rip(cpu, in));
    return frame_push(cpu, f);
}

static enum flow far_gate(struct cpu *cpu, const struct insn *in, u16 selector, struct descriptor *gate, bool call)
{
    bool wide = cpu->mode.long_mode;
    unsigned cpl = cpu->mode.cpl;
    struct descriptor d;
    struct segment cs = {0};

    if (wide)
        FLOW(descriptor_read_high(cpu, selector, EXC_GP, gate));
    if (descriptor_dpl(gate) < cpl || descriptor_dpl(gate) < (selector & SELECTOR_RPL))
        return cpu_raise_gp(cpu, selector_error(selector));
    if (!descriptor_present(gate))
        return cpu_raise_np(cpu, selector_error(selector));

    u16 code = gate_selector(gate);
    unsigned osz = wide ? OSZ_64 : gate->low >> 43 & 1 ? OSZ_32 : OSZ_16;
    u64 rip = gate_offset(gate) & osz_mask(osz);
    if (selector_null(code))
        return cpu_raise_gp(cpu, 0);
    FLOW(descriptor_read(cpu, code, EXC_GP, &d));
    u32 access = descriptor_access(&d);
    bool conforming = access_is_conforming(access);
    if (!access_is_code(access) || access_dpl(access) > cpl || (!call && !conforming && access_dpl(access) != cpl) ||
        (wide && (access & (AR_L | AR_DB)) != AR_L))
        return cpu_raise_gp(cpu, selector_error(code));
    if (!(access & AR_P))
        return cpu_raise_np(cpu, selector_error(code));
    unsigned new_cpl = conforming ? cpl : access_dpl(access);
    FLOW(descriptor_set_accessed(cpu, &d));
    segment_unpack(&cs, (u16)(selector_error(code) | new_cpl), &d);
    if (!code_target_ok(cpu, &cs, rip))
        return cpu_raise_gp(cpu, 0);

    struct frame f;
    struct segment ss = cpu->seg.s[SEG_SS];
    u64 rsp = cpu->core.rsp;
    if (call && new_cpl != cpl) {
        FLOW(gate_inner_frame(cpu, in, gate, new_cpl, &f));
        ss = f.ss;
        rsp = f.sp;
    } else if (call) {
        frame_begin(cpu, &f, osz);
        if (wide && f.bits != BITS_64) {  /* compatibility mode: the push is 64-bit code's already */
            f.sp = f.bits == BITS_32 ? (u32)rsp : (u16)rsp;
            f.bits = BITS_64;
        }
        frame_add(&f, cpu->seg.s[SEG_CS].selector);
        frame_add(&f, next_rip(cpu, in));
        FLOW(frame_push(cpu, &f));
        rsp = f.sp;
    }
    FLOW(call ? cet_enter(cpu, &cs, new_cpl, 0, next_rip(cpu, in)) : cet_jump(cpu, &cs));
    cpu->core.rsp = rsp;
    cpu->seg.s[SEG_SS] = ss;
    cpu->seg.s[SEG_CS] = cs;
    cpu->core.rip = rip;
    cpu_mode_update(cpu);
    return FLOW_END;
}

static enum flow far_task(struct cpu *cpu, const struct insn *in, u16 selector, const struct descriptor *d, bool call)
{
    u16 tss = selector;
    if (descriptor_dpl(d) < cpu->mode.cpl || descriptor_dpl(d) < (selector & SELECTOR_RPL))
        return cpu_raise_gp(cpu, selector_error(selector));
    if ((descriptor_access(d) & AR_TYPE) == SYS_TASK_GATE) {
        if (!descriptor_present(d))
            return cpu_raise_np(cpu, selector_error(selector));
        tss = gate_selector(d);
    }
    return task_switch(cpu, in, tss, call ? TASK_CALL : TASK_JMP, next_rip(cpu, in), cpu_rflags(cpu), false, 0);
}

static enum flow far_transfer(struct cpu *cpu, const struct insn *in, u16 selector, u64 offset, bool call)
{
    struct descriptor d;
    if (!cpu->mode.protected_mode)
        return far_real(cpu, in, selector, offset, call);
    if (selector_null(selector))
        return cpu_raise_gp(cpu, 0);
    FLOW(descriptor_read(cpu, selector, EXC_GP, &d));
    u32 access = descriptor_access(&d);
    if (access & AR_S)
        return far_direct(cpu, in, selector, &d, offset, call);
    switch (access & AR_TYPE) {
    case SYS_CALL:
        return far_gate(cpu, in, selector, &d, call);
    case SYS_CALL16:
        if (!cpu->mode.long_mode)
            return far_gate(cpu, in, selector, &d, call);
        break;
    case SYS_TSS16: case SYS_TSS: case SYS_TASK_GATE:
        if (!cpu->mode.long_mode)
            return far_task(cpu, in, selector, &d, call);
        break;
    default:
        break;
    }
    return cpu_raise_gp(cpu, selector_error(selector));
}

static enum flow jmp_far_direct(struct cpu *cpu, const struct insn *in)
{
    return far_transfer(cpu, in, in->selector, in->imm & osz_mask(in->osz), false);
}

static enum flow call_far_direct(struct cpu *cpu, const struct insn *in)
{
    return far_transfer(cpu, in, in->selector, in->imm & osz_mask(in->osz), true);
}

/* m16:16, m16:32, m16:64 */
static enum flow far_indirect(struct cpu *cpu, const struct insn *in, bool call)
{
    u64 offset;
    u16 selector;
    TRY(rm_read_pointer(cpu, in, &offset, &selector));
    return far_transfer(cpu, in, selector, offset, call);
}

static enum flow jmp_far_indirect(struct cpu *cpu, const struct insn *in) { return far_indirect(cpu, in, false); }
static enum flow call_far_indirect(struct cpu *cpu, const struct insn *in) { return far_indirect(cpu, in, true); }

/* ---- RET and IRET ----------------------------------------------------------------------------------------------- */

/* Checks the code segment that a return pops. */
static enum flow return_code(struct cpu *cpu, u16 selector, u64 rip, struct segment *cs)
{
    struct descriptor d;
    u32 error = selector_error(selector);
    unsigned rpl = selector & SELECTOR_RPL;
    if (selector_null(selector))
        return cpu_raise_gp(cpu, 0);
    FLOW(descriptor_read(cpu, selector, EXC_GP, &d));
    u32 access = descriptor_access(&d);
    if (rpl < cpu->mode.cpl || !access_is_code(access) ||
        (access_is_conforming(access) ? access_dpl(access) > rpl : access_dpl(access) != rpl) ||
        (cpu->mode.long_mode && (access & (AR_L | AR_DB)) == (AR_L | AR_DB)))
        return cpu_raise_gp(cpu, error);
    if (!(access & AR_P))
        return cpu_raise_np(cpu, error);
    FLOW(descriptor_set_accessed(cpu, &d));
    segment_unpack(cs, selector, &d);
    if (!code_target_ok(cpu, cs, rip))
        return cpu_raise_gp(cpu, 0);
    return FLOW_NEXT;
}

/* The value `slot` places above the top of the stack, and `extra` bytes. */
static bool peek(struct cpu *cpu, const struct insn *in, unsigned slot, u32 extra, u64 *value)
{
    if (LIKELY(cpu->mode.stack_bits == BITS_64 && in->osz == OSZ_64)) {
        cpu->fault.stack_segment = 1;
        return mem_read64(cpu, cpu->core.rsp + slot * 8 + extra, value);
    }
    return stack_read(cpu, stack_add(cpu, cpu->core.rsp, ((i64)slot << in->osz) + extra), in->osz, value);
}

/* RETF, `extra` bytes of parameters removed. */
static enum flow far_return(struct cpu *cpu, const struct insn *in, u32 extra)
{
    u64 rip, selector, sp, stack;
    struct segment cs = {0}, ss = cpu->seg.s[SEG_SS];

    TRY(peek(cpu, in, 0, 0, &rip));
    TRY(peek(cpu, in, 1, 0, &selector));
    if (!cpu->mode.protected_mode) {
        struct segment *s = &cpu->seg.s[SEG_CS];
        if (rip > s->limit)
            return cpu_raise_gp(cpu, 0);
        s->selector = (u16)selector;
        s->base = (u64)(u16)selector << 4;
        cpu->core.rip = rip;
        cpu->core.rsp = stack_add(cpu, cpu->core.rsp, (i64)((2u << in->osz) + extra));
        return FLOW_END;
    }
    FLOW(return_code(cpu, (u16)selector, rip, &cs));
    unsigned rpl = selector & SELECTOR_RPL;
    if (rpl == cpu->mode.cpl) {
        FLOW(cet_return(cpu, &cs, rip, false));
        cpu->core.rsp = stack_add(cpu, cpu->core.rsp, (i64)((2u << in->osz) + extra));
        cpu->seg.s[SEG_CS] = cs;
        cpu->core.rip = rip;
        cpu_mode_update(cpu);
        return FLOW_END;
    }
    TRY(peek(cpu, in, 2, extra, &sp));
    TRY(peek(cpu, in, 3, extra, &stack));
    FLOW(segment_check_stack(cpu, (u16)stack, rpl, EXC_GP, cpu->mode.long_mode && (cs.access & AR_L), &ss));
    FLOW(cet_return(cpu, &cs, rip, false));
    cpu->seg.s[SEG_CS] = cs;
    cpu->seg.s[SEG_SS] = ss;
    cpu->core.rip = rip;
    cpu_mode_update(cpu);
    load_sp(cpu, sp);
    cpu->core.rsp = stack_add(cpu, cpu->core.rsp, extra);
    segment_drop_privileged(cpu, rpl);
    return FLOW_END;
}

static enum flow ret_far(struct cpu *cpu, const struct insn *in) { return far_return(cpu, in, 0); }
static enum flow ret_far_imm(struct cpu *cpu, const struct insn *in) { return far_return(cpu, in, in->imm & 0xffff); }

/* RFLAGS after IRET: which bits of the popped image count depends on operand size, CPL and IOPL before it. */
static u64 iret_rflags(const struct cpu *cpu, const struct insn *in, u64 image)
{
    u64 changed = FL_STATUS | FL_TF | FL_DF | FL_NT;
    unsigned cpl = cpu->mode.cpl, iopl = (unsigned)(cpu->core.rflags_rest >> 12 & 3);
    if (in->osz != OSZ_16)
        changed |= FL_RF | FL_AC | FL_ID;
    if (cpl <= iopl)
        changed |= FL_IF;
    if (cpl == 0) {
        changed |= FL_IOPL;
        if (in->osz != OSZ_16 && cpu->mode.protected_mode)
            changed |= FL_VIF | FL_VIP;
    }
    return (cpu_rflags(cpu) & ~changed) | (image & changed);
}

/* The end of every IRET: blocking by NMI is over for good, RF as popped stays for the next instruction. */
static enum flow iret_done(struct cpu *cpu, u64 rflags)
{
    cpu_set_rflags(cpu, rflags);
    cpu->event.step &= (u8)~STEP_RF;
    cpu->event.nmi_unblocking_iret = 0;
    cpu_mode_update(cpu);
    return FLOW_END;
}

/* Real and virtual-8086 mode [SDM3 "Interrupt and Exception Handling in Virtual-8086 Mode"]. */
static enum flow iret_real(struct cpu *cpu, const struct insn *in)
{
    struct segment *cs = &cpu->seg.s[SEG_CS];
    u64 rip, selector, image, rflags = cpu_rflags(cpu);
    bool virtual_if = cpu->mode.v8086 && (rflags & FL_IOPL) != FL_IOPL;

    if (virtual_if && (!(cpu->sys.cr4 & CR4_VME) || in->osz != OSZ_16))
        return cpu_raise_gp(cpu, 0);
    TRY(peek(cpu, in, 0, 0, &rip));
    TRY(peek(cpu, in, 1, 0, &selector));
    TRY(peek(cpu, in, 2, 0, &image));
    if (rip > cs->limit)
        return cpu_raise_gp(cpu, 0);
    if (virtual_if) {
        if ((image & FL_TF) || ((image & FL_IF) && (rflags & FL_VIP)))
            return cpu_raise_gp(cpu, 0);
        u64 changed = FL_STATUS | FL_DF | FL_NT;
        rflags = (rflags & ~(changed | FL_VIF)) | (image & changed) | (image & FL_IF ? FL_VIF : 0);
    } else {
        rflags = iret_rflags(cpu, in, image);
    }
    cs->selector = (u16)selector;
    cs->base = (u64)(u16)selector << 4;
    cpu->core.rip = rip;
    cpu->core.rsp = stack_add(cpu, cpu->core.rsp, 3 << in->osz);
    return iret_done(cpu, rflags);
}

static enum flow iret_to_v8086(struct cpu *cpu, const struct insn *in, u64 rip, u16 selector, u64 image)
{
    static const u8 order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    u64 sp, value[ARRAY_SIZE(order)];
    TRY(peek(cpu, in, 3, 0, &sp));
    for (unsigned n = 0; n < ARRAY_SIZE(order); n++)
        TRY(peek(cpu, in, 4 + n, 0, &value[n]));
    if (rip > 0xffff)
        return cpu_raise_gp(cpu, 0);
    FLOW(cet_return_v8086(cpu));
    for (unsigned n = 0; n < ARRAY_SIZE(order); n++)
        segment_load_v8086(&cpu->seg.s[order[n]], (u16)value[n]);
    segment_load_v8086(&cpu->seg.s[SEG_CS], selector);
    cpu->core.rip = rip;
    cpu->core.rsp = (u32)sp;
    return iret_done(cpu, image);
}

static enum flow iret_protected(struct cpu *cpu, const struct insn *in)
{
    u64 rip, selector, image, sp, stack;
    struct segment cs = {0}, ss = cpu->seg.s[SEG_SS];

    if (cpu->core.rflags_rest & FL_NT)
        return cpu->mode.long_mode ? cpu_raise_gp(cpu, 0) : task_return(cpu, in);
    TRY(peek(cpu, in, 0, 0, &rip));
    TRY(peek(cpu, in, 1, 0, &selector));
    TRY(peek(cpu, in, 2, 0, &image));
    if ((image & FL_VM) && in->osz != OSZ_16 && cpu->mode.cpl == 0 && !cpu->mode.long_mode)
        return iret_to_v8086(cpu, in, rip, (u16)selector, image);
    FLOW(return_code(cpu, (u16)selector, rip, &cs));
    unsigned rpl = selector & SELECTOR_RPL, cpl = cpu->mode.cpl;
    u64 rflags = iret_rflags(cpu, in, image);
    if (rpl == cpl && !(in->flags & INSN_64)) {
        FLOW(cet_return(cpu, &cs, rip, true));
        cpu->core.rsp = stack_add(cpu, cpu->core.rsp, 3 << in->osz);
        cpu->seg.s[SEG_CS] = cs;
        cpu->core.rip = rip;
        return iret_done(cpu, rflags);
    }
    TRY(peek(cpu, in, 3, 0, &sp));
    TRY(peek(cpu, in, 4, 0, &stack));
    FLOW(segment_check_stack(cpu, (u16)stack, rpl, EXC_GP, cpu->mode.long_mode && (cs.access & AR_L), &ss));
    FLOW(cet_return(cpu, &cs, rip, true));
    cpu->seg.s[SEG_CS] = cs;
    cpu->seg.s[SEG_SS] = ss;
    cpu->core.rip = rip;
    iret_done(cpu, rflags);
    load_sp(cpu, sp);
    if (rpl > cpl)
        segment_drop_privileged(cpu, rpl);
    return FLOW_END;
}

static enum flow iret(struct cpu *cpu, const struct insn *in)
{
    struct cpu_event *e = &cpu->event;
    if (e->blocking & BLOCK_NMI) {
        /* It ends whether IRET completes or faults [SDM3 "Handling Multiple NMIs"]. */
        if (vmx_nonroot(cpu))
            vmx_iret_unblock_nmi(cpu);
        else
            e->blocking &= (u8)~BLOCK_NMI;
        e->nmi_unblocking_iret = !(e->blocking & BLOCK_NMI);
    }
    return cpu->mode.protected_mode ? iret_protected(cpu, in) : iret_real(cpu, in);
}

FAMILY_ONE(jmp_far_direct, jmp_far_direct)
FAMILY_ONE(jmp_far_indirect, jmp_far_indirect)
FAMILY_ONE(call_far_direct, call_far_direct)
FAMILY_ONE(call_far_indirect, call_far_indirect)
FAMILY_ONE(ret_far, ret_far)
FAMILY_ONE(ret_far_imm, ret_far_imm)
FAMILY_ONE(iret, iret)
