/* SSE to SSE4.1 instructions that only move data: between XMM registers and memory, general registers and halves of
 * vectors; also LDMXCSR and STMXCSR.
 *
 * Kept true: moves raise no floating-point exception and look at no bit of what they move; non-temporal hints mean
 * nothing here.
 * [SDM2 "MOVAPS—...", "MOVD/MOVQ—...", "MASKMOVDQU—..."]
 */
#include "cpu/sse.h"

enum flow sse_unavailable(struct cpu *cpu)
{
    if (cpu->sys.cr0 & CR0_EM || !(cpu->sys.cr4 & CR4_OSFXSR))
        return cpu_raise_ud(cpu);
    return cpu_raise_nm(cpu);
}

/* ---- whole registers --------------------------------------------------------------------------------------------- */

static enum flow move_load_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    xmm_copy(xmm(cpu, in->reg), xmm(cpu, in->rm));
    return FLOW_NEXT;
}
static enum flow move_store_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    xmm_copy(xmm(cpu, in->rm), xmm(cpu, in->reg));
    return FLOW_NEXT;
}

static enum flow move_aligned_load(struct cpu *cpu, const struct insn *in)
{
    u64 v[2];
    SSE_GATE();
    TRY(xmm_load(cpu, in, v));
    xmm_copy(xmm(cpu, in->reg), v);
    return FLOW_NEXT;
}
static enum flow move_aligned_store(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    TRY(xmm_store(cpu, in, xmm(cpu, in->reg)));
    return FLOW_NEXT;
}
FAMILY_RM(mova_load, move_load_r, move_aligned_load)
FAMILY_RM(mova_store, move_store_r, move_aligned_store)

static enum flow move_unaligned_load(struct cpu *cpu, const struct insn *in)
{
    u64 v[2];
    SSE_GATE();
    TRY(xmm_load_unaligned(cpu, in, v));
    xmm_copy(xmm(cpu, in->reg), v);
    return FLOW_NEXT;
}
static enum flow move_unaligned_store(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    TRY(xmm_store_unaligned(cpu, in, xmm(cpu, in->reg)));
    return FLOW_NEXT;
}
FAMILY_RM(movu_load, move_load_r, move_unaligned_load)
FAMILY_RM(movu_store, move_store_r, move_unaligned_store)

/* ---- scalars: loads clear the rest of the XMM register, register forms keep it ----------------------------------- */

static enum flow movss_load_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    xmm_set32(cpu, in->reg, 0, xmm_get32(cpu, in->rm, 0));
    return FLOW_NEXT;
}
static enum flow movss_load_m(struct cpu *cpu, const struct insn *in)
{
    u32 v;
    SSE_GATE();
    TRY(rm_read32(cpu, in, &v));
    xmm(cpu, in->reg)[0] = v;
    xmm(cpu, in->reg)[1] = 0;
    return FLOW_NEXT;
}
static enum flow movss_store_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    xmm_set32(cpu, in->rm, 0, xmm_get32(cpu, in->reg, 0));
    return FLOW_NEXT;
}
static enum flow movss_store_m(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    TRY(rm_write32(cpu, in, xmm_get32(cpu, in->reg, 0)));
    return FLOW_NEXT;
}
FAMILY_RM(movss_load, movss_load_r, movss_load_m)
FAMILY_RM(movss_store, movss_store_r, movss_store_m)

static enum flow movsd_load_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    xmm(cpu, in->reg)[0] = xmm(cpu, in->rm)[0];
    return FLOW_NEXT;
}
static enum flow low_load_zero(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    SSE_GATE();
    TRY(rm_read64(cpu, in, &v));
    xmm(cpu, in->reg)[0] = v;
    xmm(cpu, in->reg)[1] = 0;
    return FLOW_NEXT;
}
static enum flow movsd_store_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    xmm(cpu, in->rm)[0] = xmm(cpu, in->reg)[0];
    return FLOW_NEXT;
}
static enum flow low_store(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    TRY(rm_write64(cpu, in, xmm(cpu, in->reg)[0]));
    return FLOW_NEXT;
}
FAMILY_RM(movsd_load, movsd_load_r, low_load_zero)
FAMILY_RM(movsd_store, movsd_store_r, low_store)

/* MOVQ: the register forms clear the upper half too. */
static enum flow movq_load_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    xmm(cpu, in->reg)[0] = xmm(cpu, in->rm)[0];
    xmm(cpu, in->reg)[1] = 0;
    return FLOW_NEXT;
}
static enum flow movq_store_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    xmm(cpu, in->rm)[0] = xmm(cpu, in->reg)[0];
    xmm(cpu, in->rm)[1] = 0;
    return FLOW_NEXT;
}
FAMILY_RM(movq_load, movq_load_r, low_load_zero)
FAMILY_RM(movq_store, movq_store_r, low_store)

/* ---- halves ------------------------------------------------------------------------------------------------------ */

/* MOVLPS/MOVLPD from memory, MOVHLPS between registers. */
static enum flow movhlps(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    xmm(cpu, in->reg)[0] = xmm(cpu, in->rm)[1];
    return FLOW_NEXT;
}
static enum flow low_load(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    SSE_GATE();
    TRY(rm_read64(cpu, in, &v));
    xmm(cpu, in->reg)[0] = v;
    return FLOW_NEXT;
}
FAMILY_RM(movlps_load, movhlps, low_load)
FAMILY_ONE(movlps_store, low_store)

/* MOVHPS/MOVHPD from memory, MOVLHPS between registers. */
static enum flow movlhps(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    xmm(cpu, in->reg)[1] = xmm(cpu, in->rm)[0];
    return FLOW_NEXT;
}
static enum flow high_load(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    SSE_GATE();
    TRY(rm_read64(cpu, in, &v));
    xmm(cpu, in->reg)[1] = v;
    return FLOW_NEXT;
}
static enum flow high_store(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    TRY(rm_write64(cpu, in, xmm(cpu, in->reg)[1]));
    return FLOW_NEXT;
}
FAMILY_RM(movhps_load, movlhps, high_load)
FAMILY_ONE(movhps_store, high_store)

/* ---- duplicates -------------------------------------------------------------------------------------------------- */

static void movddup_value(struct cpu *cpu, const struct insn *in, u64 v)
{
    xmm(cpu, in->reg)[0] = xmm(cpu, in->reg)[1] = v;
}
static enum flow movddup_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    movddup_value(cpu, in, xmm(cpu, in->rm)[0]);
    return FLOW_NEXT;
}
static enum flow movddup_m(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    SSE_GATE();
    TRY(rm_read64(cpu, in, &v));
    movddup_value(cpu, in, v);
    return FLOW_NEXT;
}
FAMILY_RM(movddup, movddup_r, movddup_m)

static void op_movsldup(u64 *d, const u64 *s)
{
    for (unsigned i = 0; i < 2; i++)
        d[i] = (u64)(u32)s[i] << 32 | (u32)s[i];
}
static void op_movshdup(u64 *d, const u64 *s)
{
    for (unsigned i = 0; i < 2; i++)
        d[i] = (s[i] & ~0xffffffffull) | s[i] >> 32;
}
SSE_PAIR(movsldup, op_movsldup)
SSE_PAIR(movshdup, op_movshdup)

/* ---- general registers ------------------------------------------------------------------------------------------- */

/* MOVD and, with REX.W, MOVQ. */
static enum flow movd_load_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    xmm(cpu, in->reg)[0] = in->flags & INSN_REX_W ? reg64(cpu, in->rm) : reg32(cpu, in->rm);
    xmm(cpu, in->reg)[1] = 0;
    return FLOW_NEXT;
}
static enum flow movd_load_m(struct cpu *cpu, const struct insn *in)
{
    return in->flags & INSN_REX_W ? low_load_zero(cpu, in) : movss_load_m(cpu, in);
}
static enum flow movd_store_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    u64 v = xmm(cpu, in->reg)[0];
    if (in->flags & INSN_REX_W)
        reg64_set(cpu, in->rm, v);
    else
        reg32_set(cpu, in->rm, (u32)v);
    return FLOW_NEXT;
}
static enum flow movd_store_m(struct cpu *cpu, const struct insn *in)
{
    return in->flags & INSN_REX_W ? low_store(cpu, in) : movss_store_m(cpu, in);
}
FAMILY_RM(movd_load, movd_load_r, movd_load_m)
FAMILY_RM(movd_store, movd_store_r, movd_store_m)

static enum flow movmskps(struct cpu *cpu, const struct insn *in)
{
    u64 v = 0;
    SSE_GATE();
    for (unsigned i = 0; i < 4; i++)
        v |= (u64)(xmm_get32(cpu, in->rm, i) >> 31) << i;
    reg64_set(cpu, in->reg, v);
    return FLOW_NEXT;
}
FAMILY_ONE(movmskps, movmskps)

static enum flow movmskpd(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    const u64 *s = xmm(cpu, in->rm);
    reg64_set(cpu, in->reg, s[0] >> 63 | s[1] >> 63 << 1);
    return FLOW_NEXT;
}
FAMILY_ONE(movmskpd, movmskpd)

static enum flow pmovmskb(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    const u64 *s = xmm(cpu, in->rm);
    u64 v = 0;
    /* The sign bits of eight bytes, gathered in the top byte by one multiplication. */
    for (unsigned i = 0; i < 2; i++)
        v |= ((s[i] >> 7 & 0x0101010101010101ull) * 0x0102040810204080ull >> 56) << (8 * i);
    reg64_set(cpu, in->reg, v);
    return FLOW_NEXT;
}
FAMILY_ONE(pmovmskb, pmovmskb)

/* ---- selected bytes ---------------------------------------------------------------------------------------------- */

/* Writes the bytes whose mask byte has bit 7 set to seg:rDI; all pages are probed first. Shared with MASKMOVQ
 * (cpu/mmx.c). */
enum flow sse_mask_store(struct cpu *cpu, const struct insn *in, const void *data, const void *mask, unsigned n)
{
    const u8 *bytes = data, *select = mask;
    u64 la, off = cpu->core.rdi & mask_low(8u << in->asz);
    unsigned first = n, last = 0;
    for (unsigned i = 0; i < n; i++) {
        if (select[i] & 0x80) {
            first = first == n ? i : first;
            last = i;
        }
    }
    if (first == n)
        return FLOW_NEXT;
    TRY(seg_la(cpu, in->arch_seg, (off + first) & mask_low(8u << in->asz), last - first + 1, ACCESS_WRITE, &la));
    TRY(mem_probe(cpu, la, last - first + 1, ACCESS_WRITE));
    for (unsigned i = first; i <= last; i++)
        if (select[i] & 0x80)
            TRY(mem_write8(cpu, la + i - first, bytes[i]));
    return FLOW_NEXT;
}

static enum flow maskmovdqu(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    return sse_mask_store(cpu, in, xmm(cpu, in->reg), xmm(cpu, in->rm), 16);
}
FAMILY_ONE(maskmovdqu, maskmovdqu)

/* ---- MXCSR ------------------------------------------------------------------------------------------------------- */

static enum flow ldmxcsr(struct cpu *cpu, const struct insn *in)
{
    u32 v;
    SSE_GATE();
    TRY(rm_read32(cpu, in, &v));
    if (v & ~0xffffu)
        return cpu_raise_gp(cpu, 0);
    cpu->fpu.mxcsr = v;
    return FLOW_NEXT;
}
FAMILY_ONE(ldmxcsr, ldmxcsr)

static enum flow stmxcsr(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    TRY(rm_write32(cpu, in, cpu->fpu.mxcsr));
    return FLOW_NEXT;
}
FAMILY_ONE(stmxcsr, stmxcsr)
