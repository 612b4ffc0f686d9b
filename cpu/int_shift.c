/* Shifts and rotates [SDM2 "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR", "SHLD", "SHRD"]. A masked count of 0 changes no flag. OF for counts above 1 is
 * undefined; it is computed as for the last step of one, as Intel's processors do.
 */
#include "cpu/alu.h"
#include "cpu/operand.h"

HOT_INLINE unsigned count_mask(unsigned bits) { return bits == 64 ? 63 : 31; }

#define DEFINE_SHIFTS(bits)                                                                                            \
    HOT_INLINE u##bits shift_shl##bits(struct cpu *cpu, u##bits a, unsigned n)                                         \
    {                                                                                                                  \
        u##bits r = n < bits ? (u##bits)((u64)a << n) : 0;                                                             \
        unsigned cf = n <= bits ? (unsigned)((u64)a >> (bits - n)) & 1 : 0;                                            \
        alu_result##bits(cpu, r);                                                                                      \
        alu_set_cf_of(cpu, cf, cf ^ (unsigned)(r >> (bits - 1)));                                                      \
        return r;                                                                                                      \
    }                                                                                                                  \
    HOT_INLINE u##bits shift_shr##bits(struct cpu *cpu, u##bits a, unsigned n)                                         \
    {                                                                                                                  \
        u##bits r = n < bits ? (u##bits)(a >> n) : 0;                                                                  \
        unsigned cf = n <= bits ? (unsigned)((u64)a >> (n - 1)) & 1 : 0;                                               \
        unsigned of = n == 1 ? (unsigned)(a >> (bits - 1)) : 0;                                                        \
        alu_result##bits(cpu, r);                                                                                      \
        alu_set_cf_of(cpu, cf, of);                                                                                    \
        return r;                                                                                                      \
    }                                                                                                                  \
    HOT_INLINE u##bits shift_sar##bits(struct cpu *cpu, u##bits a, unsigned n)                                         \
    {                                                                                                                  \
        i64 s = (i64)(i##bits)a;                                                                                       \
        u##bits r = (u##bits)(s >> (n < 64 ? n : 63));                                                                 \
        unsigned cf = (unsigned)((u64)(s >> (n - 1)) & 1);                                                             \
        alu_result##bits(cpu, r);                                                                                      \
        alu_set_cf_of(cpu, cf, 0);                                                                                     \
        return r;                                                                                                      \
    }                                                                                                                  \
    HOT_INLINE u##bits shift_rol##bits(struct cpu *cpu, u##bits a, unsigned n)                                         \
    {                                                                                                                  \
        unsigned m = n % bits;                                                                                         \
        u##bits r = m ? (u##bits)((u64)a << m | a >> (bits - m)) : a;                                                  \
        unsigned cf = r & 1;                                                                                           \
        u64 af = cpu->core.fl_carry & 8;                                                                               \
        alu_set_cf_of(cpu, cf, cf ^ (unsigned)(r >> (bits - 1)));                                                      \
        cpu->core.fl_carry |= af;                                                                                      \
        return r;                                                                                                      \
    }                                                                                                                  \
    HOT_INLINE u##bits shift_ror##bits(struct cpu *cpu, u##bits a, unsigned n)                                         \
    {                                                                                                                  \
        unsigned m = n % bits;                                                                                         \
        u##bits r = m ? (u##bits)(a >> m | (u64)a << (bits - m)) : a;                                                  \
        unsigned cf = (unsigned)(r >> (bits - 1)) & 1;                                                                 \
        u64 af = cpu->core.fl_carry & 8;                                                                               \
        alu_set_cf_of(cpu, cf, cf ^ ((unsigned)(r >> (bits - 2)) & 1));                                                \
        cpu->core.fl_carry |= af;                                                                                      \
        return r;                                                                                                      \
    }                                                                                                                  \
    HOT_INLINE u##bits shift_rcl##bits(struct cpu *cpu, u##bits a, unsigned n)                                         \
    {                                                                                                                  \
        unsigned m = n % (bits + 1), cf = flag_cf(cpu);                                                                \
        u128 wide = (u128)cf << bits | a;                                                                              \
        u128 turned = m ? (wide << m | wide >> (bits + 1 - m)) : wide;                                                 \
        u##bits r = (u##bits)turned;                                                                                   \
        cf = (unsigned)(turned >> bits) & 1;                                                                           \
        u64 af = cpu->core.fl_carry & 8;                                                                               \
        alu_set_cf_of(cpu, cf, cf ^ (unsigned)(r >> (bits - 1)));                                                      \
        cpu->core.fl_carry |= af;                                                                                      \
        return r;                                                                                                      \
    }                                                                                                                  \
    HOT_INLINE u##bits shift_rcr##bits(struct cpu *cpu, u##bits a, unsigned n)                                         \
    {                                                                                                                  \
        unsigned m = n % (bits + 1), cf = flag_cf(cpu);                                                                \
        u128 wide = (u128)cf << bits | a;                                                                              \
        u128 turned = m ? (wide >> m | wide << (bits + 1 - m)) : wide;                                                 \
        u##bits r = (u##bits)turned;                                                                                   \
        cf = (unsigned)(turned >> bits) & 1;                                                                           \
        u64 af = cpu->core.fl_carry & 8;                                                                               \
        alu_set_cf_of(cpu, cf, (unsigned)((r >> (bits - 1)) ^ (r >> (bits - 2))) & 1);                                 \
        cpu->core.fl_carry |= af;                                                                                      \
        return r;                                                                                                      \
    }
DEFINE_SHIFTS(8)
DEFINE_SHIFTS(16)
DEFINE_SHIFTS(32)
DEFINE_SHIFTS(64)

#define DEFINE_FORM(op, bits, form, count)                                                                             \
    static enum flow op##_r_##form##bits(struct cpu *cpu, const struct insn *in)                                       \
    {                                                                                                                  \
        unsigned n = (unsigned)(count) & count_mask(bits);                                                             \
        u##bits a = reg##bits(cpu, in->rm);                                                                            \
        reg##bits##_set(cpu, in->rm, n ? shift_##op##bits(cpu, a, n) : a);                                             \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_m_##form##bits(struct cpu *cpu, const struct insn *in)                                       \
    {                                                                                                                  \
        unsigned n = (unsigned)(count) & count_mask(bits);                                                             \
        u##bits a;                                                                                                     \
        u64 la;                                                                                                        \
        TRY(rm_read_rmw##bits(cpu, in, &a, &la));                                                                      \
        if (n)                                                                                                         \
            a = shift_##op##bits(cpu, a, n);                                                                           \
        TRY(mem_write##bits(cpu, la, a));                                                                              \
        return FLOW_NEXT;                                                                                              \
    }
#define DEFINE_SHIFT_FAMILY(op, form, suffix, count)                                                                   \
    DEFINE_FORM(op, 8, form, count) DEFINE_FORM(op, 16, form, count)                                                   \
    DEFINE_FORM(op, 32, form, count) DEFINE_FORM(op, 64, form, count)                                                  \
    FAMILY_ALL(op##_E_##suffix, op##_r_##form##8, op##_r_##form##16, op##_r_##form##32, op##_r_##form##64,             \
               op##_m_##form##8, op##_m_##form##16, op##_m_##form##32, op##_m_##form##64)
#define DEFINE_SHIFT(op)                                                                                               \
    DEFINE_SHIFT_FAMILY(op, i, I, in->imm)                                                                             \
    DEFINE_SHIFT_FAMILY(op, c, CL, cpu->core.rcx)                                                                      \
    DEFINE_SHIFT_FAMILY(op, o, 1, 1)
DEFINE_SHIFT(rol)
DEFINE_SHIFT(ror)
DEFINE_SHIFT(rcl)
DEFINE_SHIFT(rcr)
DEFINE_SHIFT(shl)
DEFINE_SHIFT(shr)
DEFINE_SHIFT(sar)

/* SHLD and SHRD. A 16-bit count above 16 is undefined; the bits come from dest:src:dest as on Intel's processors. */
static void double_flags(struct cpu *cpu, u64 r, unsigned osz, unsigned cf, unsigned of)
{
    switch (osz) {
    case OSZ_16: alu_result16(cpu, (u16)r); break;
    case OSZ_32: alu_result32(cpu, (u32)r); break;
    default: alu_result64(cpu, r); break;
    }
    alu_set_cf_of(cpu, cf, of);
}

static u64 double_shift(struct cpu *cpu, unsigned osz, u64 a, u64 b, unsigned n, bool left)
{
    unsigned bits = osz_bits(osz);
    u64 mask = osz_mask(osz), r;
    unsigned cf;
    if (osz == OSZ_16) {
        u64 wide = a << 32 | b << 16 | a;
        if (left) {
            r = wide << n >> 32 & mask;
            cf = (unsigned)(wide << n >> 48) & 1;
        } else {
            r = wide >> n & mask;
            cf = (unsigned)(wide >> (n - 1)) & 1;
        }
    } else if (left) {
        r = (a << n | b >> (bits - n)) & mask;
        cf = (unsigned)(a >> (bits - n)) & 1;
    } else {
        r = (a >> n | b << (bits - n)) & mask;
        cf = (unsigned)(a >> (n - 1)) & 1;
    }
    unsigned of = (unsigned)((r ^ a) >> (bits - 1)) & 1;
    double_flags(cpu, r, osz, cf, of);
    return r;
}

static enum flow shift_double(struct cpu *cpu, const struct insn *in, u64 count, bool left)
{
    unsigned n = (unsigned)count & count_mask(osz_bits(in->osz));
    u64 a = 0, b = reg_get(cpu, in->reg, in->osz), la = 0;
    unsigned bytes = 1u << in->osz;
    if (in->flags & INSN_MEM) {
        TRY(ea_la(cpu, in, bytes, ACCESS_WRITE, &la));
        TRY(mem_read_slow(cpu, la, &a, bytes, ACCESS_WRITE));
    } else {
        a = reg_get(cpu, in->rm, in->osz);
    }
    if (n == 0) {
        if (!(in->flags & INSN_MEM))
            reg_set(cpu, in->rm, in->osz, a);
        return FLOW_NEXT;
    }
    u32 before = flags_status(cpu);
    u64 r = double_shift(cpu, in->osz, a, b, n, left);
    if (!(in->flags & INSN_MEM)) {
        reg_set(cpu, in->rm, in->osz, r);
    } else if (!mem_write(cpu, la, &r, bytes)) {
        flags_set_status(cpu, before);
        return cpu_raise_fault(cpu);
    }
    return FLOW_NEXT;
}
static enum flow shld_i(struct cpu *cpu, const struct insn *in) { return shift_double(cpu, in, in->imm, true); }
static enum flow shld_cl(struct cpu *cpu, const struct insn *in) { return shift_double(cpu, in, cpu->core.rcx, true); }
static enum flow shrd_i(struct cpu *cpu, const struct insn *in) { return shift_double(cpu, in, in->imm, false); }
static enum flow shrd_cl(struct cpu *cpu, const struct insn *in) { return shift_double(cpu, in, cpu->core.rcx, false); }
FAMILY_ONE(shld_I, shld_i)
FAMILY_ONE(shld_CL, shld_cl)
FAMILY_ONE(shrd_I, shrd_i)
FAMILY_ONE(shrd_CL, shrd_cl)
