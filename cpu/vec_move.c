/* VEX and EVEX instructions that only move data: whole vectors, scalars, halves, duplicates, and to and from general registers.
 *
 * Kept true: moves raise no floating-point exception and look at no bit of what they move; non-temporal hints mean nothing here, but
 * their alignment does.
 * [SDM2 "MOVAPS—...", "MOVDQU,VMOVDQU8/16/32/64—...", "MOVD/MOVQ—...", "VMASKMOV—..."]
 */
#include "cpu/vector.h"

/* ---- whole vectors ----------------------------------------------------------------------------------------------- */

#define COPY(d, a, b, imm, n) ((void)(a), memmove(d, b, n))
VEC_FAMILY(vmov8, 1, 1, COPY)
VEC_FAMILY(vmov16, 2, 2, COPY)
VEC_FAMILY(vmov32, 4, 4, COPY)
VEC_FAMILY(vmov64, 8, 8, COPY)

static enum flow store_r(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    struct insn to_rm = *in;
    unsigned n = vec_bytes(in);
    VEC_GATE();
    to_rm.reg = in->rm;
    vec_commit(cpu, &to_rm, vec_reg(cpu, in->reg), n, esize, vec_mask(cpu, in, n / esize));
    return FLOW_NEXT;
}
static enum flow store_m(struct cpu *cpu, const struct insn *in, unsigned esize, bool aligned)
{
    unsigned n = vec_bytes(in);
    u64 la;
    VEC_GATE();
    if (aligned)
        TRY(vec_aligned_la(cpu, in, n, ACCESS_WRITE, &la));
    TRY(vec_store(cpu, in, vec_reg(cpu, in->reg), n, esize, vec_mask(cpu, in, n / esize)));
    return FLOW_NEXT;
}
/* The fault of an aligned access comes before any other; then it is a move like the others. */
static enum flow load_aligned(struct cpu *cpu, const struct insn *in, insn_handler *load)
{
    u64 la;
    VEC_GATE();
    TRY(vec_aligned_la(cpu, in, vec_bytes(in), ACCESS_READ, &la));
    return load(cpu, in);
}

#define STORES(bits)                                                                                                   \
    static enum flow store##bits##_r(struct cpu *cpu, const struct insn *in) { return store_r(cpu, in, bits / 8); }    \
    static enum flow store##bits##_u(struct cpu *cpu, const struct insn *in) { return store_m(cpu, in, bits / 8, false); } \
    FAMILY_RM(vmov##bits##_store, store##bits##_r, store##bits##_u)
#define ALIGNED(bits)                                                                                                  \
    static enum flow store##bits##_a(struct cpu *cpu, const struct insn *in) { return store_m(cpu, in, bits / 8, true); } \
    static enum flow load##bits##_a(struct cpu *cpu, const struct insn *in)                                            \
    {                                                                                                                  \
        static insn_handler *const loads[4] = {vmov##bits##_16, vmov##bits##_32, vmov##bits##_64, vmov##bits##_general}; \
        return load_aligned(cpu, in, loads[in->osz]);                                                                  \
    }                                                                                                                  \
    FAMILY_RM(vmova##bits##_store, store##bits##_r, store##bits##_a)                                                   \
    FAMILY_ALL(vmova##bits, vmov##bits##_16, vmov##bits##_32, vmov##bits##_64, vmov##bits##_general, load##bits##_a,   \
               load##bits##_a, load##bits##_a, load##bits##_a)
STORES(8)
STORES(16)
STORES(32)
STORES(64)
ALIGNED(32)
ALIGNED(64)
