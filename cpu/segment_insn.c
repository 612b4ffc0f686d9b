/* Instructions on segment registers, descriptor-table registers of segments (LDTR, TR) and selectors: MOV, PUSH and POP of segment registers, LDS &c., LLDT, LTR,
 * SLDT, STR, LAR, LSL, VERR, VERW, ARPL.
 *
 * Kept true: a load of SS blocks interrupts, NMIs and debug traps until after the next instruction [SDM3 "Masking Exceptions and Interrupts When Switching Stacks"].
 */
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/mode.h"
#include "cpu/operand.h"
#include "cpu/segment.h"
#include "vmx/vmx.h"

/* What follows a load of `seg`: the mode for SS (its DPL and size), and blocking where the instruction asks for it. */
static void segment_loaded(struct cpu *cpu, unsigned seg, bool blocks)
{
    if (seg != SEG_SS)
        return;
    cpu_mode_update(cpu);
    if (blocks) {
        cpu->event.blocking |= BLOCK_MOV_SS;
        cpu->event.attention |= ATT_SHADOW;
    }
}

/* ---- MOV, PUSH, POP ----------------------------------------------------------------------------------------------- */

/* Stores 16 bits to memory whatever the operand size; a register gets them zero-extended. */
static enum flow mov_from_segment(struct cpu *cpu, const struct insn *in)
{
    unsigned seg = in->modrm >> 3 & 7;
    if (seg > SEG_GS)
        return cpu_raise_ud(cpu);
    TRY(rm_set(cpu, in, in->flags & INSN_MEM ? OSZ_16 : in->osz, cpu->seg.s[seg].selector));
    return FLOW_NEXT;
}

static enum flow mov_to_segment(struct cpu *cpu, const struct insn *in)
{
    unsigned seg = in->modrm >> 3 & 7;
    u64 selector;
    if (seg > SEG_GS || seg == SEG_CS)
        return cpu_raise_ud(cpu);
    TRY(rm_get(cpu, in, OSZ_16, &selector));
    FLOW(segment_load(cpu, seg, (u16)selector));
    segment_loaded(cpu, seg, true);
    return flow_end(cpu, in);
}

static enum flow push_segment(struct cpu *cpu, const struct insn *in, unsigned seg)
{
    u64 sp = stack_add(cpu, cpu->core.rsp, -(1 << in->osz));
    TRY(stack_write(cpu, sp, in->osz, cpu->seg.s[seg].selector));
    cpu->core.rsp = sp;
    return FLOW_NEXT;
}

static enum flow pop_segment(struct cpu *cpu, const struct insn *in, unsigned seg)
{
    u64 selector, sp = stack_add(cpu, cpu->core.rsp, 1 << in->osz);
    /* Only the selector's two bytes are read, so that a 32-bit POP at the end of a segment works as a 16-bit one would. */
    TRY(stack_read(cpu, cpu->core.rsp, OSZ_16, &selector));
    FLOW(segment_load(cpu, seg, (u16)selector));
    cpu->core.rsp = sp;
    segment_loaded(cpu, seg, true);
    return flow_end(cpu, in);
}

#define DEFINE_PUSH(name, seg)                                                                                         \
    static enum flow push_##name(struct cpu *cpu, const struct insn *in) { return push_segment(cpu, in, seg); }        \
    FAMILY_ONE(push_##name, push_##name)
#define DEFINE_POP(name, seg)                                                                                          \
    static enum flow pop_##name(struct cpu *cpu, const struct insn *in) { return pop_segment(cpu, in, seg); }          \
    FAMILY_ONE(pop_##name, pop_##name)
DEFINE_PUSH(es, SEG_ES)
DEFINE_PUSH(cs, SEG_CS)
DEFINE_PUSH(ss, SEG_SS)
DEFINE_PUSH(ds, SEG_DS)
DEFINE_PUSH(fs, SEG_FS)
DEFINE_PUSH(gs, SEG_GS)
DEFINE_POP(es, SEG_ES)
DEFINE_POP(ss, SEG_SS)
DEFINE_POP(ds, SEG_DS)
DEFINE_POP(fs, SEG_FS)
DEFINE_POP(gs, SEG_GS)

/* LES, LDS, LSS, LFS, LGS */
static enum flow load_pointer(struct cpu *cpu, const struct insn *in, unsigned seg)
{
    u64 offset;
    u16 selector;
    TRY(rm_read_pointer(cpu, in, &offset, &selector));
    FLOW(segment_load(cpu, seg, selector));
    reg_set(cpu, in->reg, in->osz, offset);
    segment_loaded(cpu, seg, false);
    return flow_end(cpu, in);
}

#define DEFINE_LOAD(name, seg)                                                                                         \
    static enum flow name(struct cpu *cpu, const struct insn *in) { return load_pointer(cpu, in, seg); }               \
    FAMILY_ONE(name, name)
DEFINE_LOAD(les, SEG_ES)
DEFINE_LOAD(lss, SEG_SS)
DEFINE_LOAD(lds, SEG_DS)
DEFINE_LOAD(lfs, SEG_FS)
DEFINE_LOAD(lgs, SEG_GS)

/* ---- LDTR and TR --------------------------------------------------------------------------------------------------- */

static bool exits(struct cpu *cpu, const struct insn *in)
{
    struct vmx_ask ask = {.reason = EXIT_LDTR_TR_ACCESS, .qualification = in->flags & INSN_MEM ? (u64)(i64)in->disp : 0};
    return UNLIKELY(vmx_nonroot(cpu)) && vmx_intercept(cpu, in, &ask);
}

static enum flow store_system_selector(struct cpu *cpu, const struct insn *in, unsigned seg)
{
    if ((cpu->sys.cr4 & CR4_UMIP) && !cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (exits(cpu, in))
        return FLOW_EXIT;
    TRY(rm_set(cpu, in, in->flags & INSN_MEM ? OSZ_16 : in->osz, cpu->seg.s[seg].selector));
    return FLOW_NEXT;
}

static enum flow sldt(struct cpu *cpu, const struct insn *in) { return store_system_selector(cpu, in, SEG_LDTR); }
static enum flow str(struct cpu *cpu, const struct insn *in) { return store_system_selector(cpu, in, SEG_TR); }

static enum flow lldt(struct cpu *cpu, const struct insn *in)
{
    struct segment *ldt = &cpu->seg.s[SEG_LDTR];
    struct descriptor d;
    u64 value;
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (exits(cpu, in))
        return FLOW_EXIT;
    TRY(rm_get(cpu, in, OSZ_16, &value));
    u16 selector = (u16)value;
    if (selector_null(selector)) {
        segment_make_null(ldt, selector, 0);
        return FLOW_NEXT;
    }
    if (selector & SELECTOR_TI)
        return cpu_raise_gp(cpu, selector_error(selector));
    FLOW(descriptor_read(cpu, selector, EXC_GP, &d));
    if ((descriptor_access(&d) & (AR_S | AR_TYPE)) != SYS_LDT)
        return cpu_raise_gp(cpu, selector_error(selector));
    if (cpu->mode.long_mode) {
        FLOW(descriptor_read_high(cpu, selector, EXC_GP, &d));
        if (!cpu_canonical(cpu, descriptor_base(&d)))
            return cpu_raise_gp(cpu, selector_error(selector));
    }
    if (!descriptor_present(&d))
        return cpu_raise_np(cpu, selector_error(selector));
    segment_unpack(ldt, selector, &d);
    return FLOW_NEXT;
}

static enum flow ltr(struct cpu *cpu, const struct insn *in)
{
    struct segment *tr = &cpu->seg.s[SEG_TR];
    struct descriptor d;
    u64 value;
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (exits(cpu, in))
        return FLOW_EXIT;
    TRY(rm_get(cpu, in, OSZ_16, &value));
    u16 selector = (u16)value;
    if (selector_null(selector) || (selector & SELECTOR_TI))
        return cpu_raise_gp(cpu, selector_error(selector));
    FLOW(descriptor_read(cpu, selector, EXC_GP, &d));
    unsigned type = descriptor_access(&d) & (AR_S | AR_TYPE);
    if (type != SYS_TSS && (type != SYS_TSS16 || cpu->mode.long_mode))
        return cpu_raise_gp(cpu, selector_error(selector));
    if (cpu->mode.long_mode) {
        FLOW(descriptor_read_high(cpu, selector, EXC_GP, &d));
        if (!cpu_canonical(cpu, descriptor_base(&d)))
            return cpu_raise_gp(cpu, selector_error(selector));
    }
    if (!descriptor_present(&d))
        return cpu_raise_np(cpu, selector_error(selector));
    FLOW(descriptor_set_busy(cpu, d.la, true));
    segment_unpack(tr, selector, &d);
    tr->access |= 2;
    return FLOW_NEXT;
}

/* ---- questions about selectors -------------------------------------------------------------------------------------- */

static void set_zf(struct cpu *cpu, bool zf)
{
    u64 rflags = cpu_rflags(cpu);
    flags_set_status(cpu, zf ? rflags | FL_ZF : rflags & ~(u64)FL_ZF);
}

/* Reads the descriptor that LAR and LSL ask about, when its kind is one of `kinds` (a bit a system type) and the program may see it. */
static enum flow visible_descriptor(struct cpu *cpu, u16 selector, u32 kinds, struct descriptor *d, bool *visible)
{
    FLOW(descriptor_read_quiet(cpu, selector, false, d, visible));
    if (!*visible)
        return FLOW_NEXT;
    u32 access = descriptor_access(d);
    unsigned dpl = access_dpl(access);
    bool conforming = access_is_conforming(access);
    if (!(access & AR_S)) {
        *visible = kinds >> (access & AR_TYPE) & 1;
        if (*visible && cpu->mode.long_mode)
            FLOW(descriptor_read_quiet(cpu, selector, true, d, visible));
    }
    if (!conforming && (dpl < cpu->mode.cpl || dpl < (selector & SELECTOR_RPL)))
        *visible = false;
    return FLOW_NEXT;
}

static enum flow lar(struct cpu *cpu, const struct insn *in)
{
    u64 selector;
    bool visible;
    struct descriptor d;
    /* Legacy: TSSs, LDT, call gates, task gate; IA-32e mode: LDT, TSSs, call gate of 64 bits. */
    u32 kinds = cpu->mode.long_mode ? BIT(2) | BIT(9) | BIT(11) | BIT(12)
                                    : BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(9) | BIT(11) | BIT(12);
    TRY(rm_get(cpu, in, OSZ_16, &selector));
    FLOW(visible_descriptor(cpu, (u16)selector, kinds, &d, &visible));
    /* Bits 19:16 are undefined by the manual; processors give the limit's. */
    if (visible)
        reg_set(cpu, in->reg, in->osz, d.low >> 32 & (in->osz == OSZ_16 ? 0xff00 : 0xffff00));
    set_zf(cpu, visible);
    return FLOW_NEXT;
}

static enum flow lsl(struct cpu *cpu, const struct insn *in)
{
    u64 selector;
    bool visible;
    struct descriptor d;
    u32 kinds = cpu->mode.long_mode ? BIT(2) | BIT(9) | BIT(11) : BIT(1) | BIT(2) | BIT(3) | BIT(9) | BIT(11);
    TRY(rm_get(cpu, in, OSZ_16, &selector));
    FLOW(visible_descriptor(cpu, (u16)selector, kinds, &d, &visible));
    if (visible)
        reg_set(cpu, in->reg, in->osz, descriptor_limit(&d));
    set_zf(cpu, visible);
    return FLOW_NEXT;
}

static enum flow verify(struct cpu *cpu, const struct insn *in, bool write)
{
    u64 selector;
    bool valid;
    struct descriptor d;
    TRY(rm_get(cpu, in, OSZ_16, &selector));
    FLOW(descriptor_read_quiet(cpu, (u16)selector, false, &d, &valid));
    if (valid) {
        u32 access = descriptor_access(&d);
        unsigned dpl = access_dpl(access);
        valid = write ? access_is_writable_data(access) : access_is_readable(access);
        if (!access_is_conforming(access) && (dpl < cpu->mode.cpl || dpl < (selector & SELECTOR_RPL)))
            valid = false;
    }
    set_zf(cpu, valid);
    return FLOW_NEXT;
}

static enum flow verr(struct cpu *cpu, const struct insn *in) { return verify(cpu, in, false); }
static enum flow verw(struct cpu *cpu, const struct insn *in) { return verify(cpu, in, true); }

static enum flow arpl(struct cpu *cpu, const struct insn *in)
{
    u64 destination;
    u16 rpl = reg16(cpu, in->reg) & SELECTOR_RPL;
    TRY(rm_get(cpu, in, OSZ_16, &destination));
    bool raise = (destination & SELECTOR_RPL) < rpl;
    if (raise)
        TRY(rm_set(cpu, in, OSZ_16, (destination & ~3ull) | rpl));
    set_zf(cpu, raise);
    return FLOW_NEXT;
}

FAMILY_ONE(mov_from_segment, mov_from_segment)
FAMILY_ONE(mov_to_segment, mov_to_segment)
FAMILY_ONE(sldt, sldt)
FAMILY_ONE(str, str)
FAMILY_ONE(lldt, lldt)
FAMILY_ONE(ltr, ltr)
FAMILY_ONE(lar, lar)
FAMILY_ONE(lsl, lsl)
FAMILY_ONE(verr, verr)
FAMILY_ONE(verw, verw)
FAMILY_ONE(arpl, arpl)
