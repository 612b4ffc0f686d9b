/* ADD OR ADC SBB AND SUB XOR CMP TEST INC DEC NEG NOT, CMPXCHG, XADD, ADCX/ADOX [SDM2]. One host thread runs all vCPUs in turn, so that
 * LOCK needs nothing more.
 */
#include "cpu/alu.h"
#include "cpu/operand.h"

/* The forms of a two-operand instruction that writes its first operand. */
#define DEFINE_FORMS(op, bits)                                                                                         \
    static enum flow op##_rg##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        reg##bits##_set(cpu, in->rm, alu_##op##bits(cpu, reg##bits(cpu, in->rm), reg##bits(cpu, in->reg)));            \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_mg##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        u##bits a;                                                                                                     \
        u64 la;                                                                                                        \
        TRY(rm_read_rmw##bits(cpu, in, &a, &la));                                                                      \
        TRY(mem_write##bits(cpu, la, alu_##op##bits(cpu, a, reg##bits(cpu, in->reg))));                                \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_gm##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        u##bits b;                                                                                                     \
        TRY(rm_read##bits(cpu, in, &b));                                                                               \
        reg##bits##_set(cpu, in->reg, alu_##op##bits(cpu, reg##bits(cpu, in->reg), b));                                \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_gr##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        reg##bits##_set(cpu, in->reg, alu_##op##bits(cpu, reg##bits(cpu, in->reg), reg##bits(cpu, in->rm)));           \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_ri##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        reg##bits##_set(cpu, in->rm, alu_##op##bits(cpu, reg##bits(cpu, in->rm), (u##bits)in->imm));                   \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_mi##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        u##bits a;                                                                                                     \
        u64 la;                                                                                                        \
        TRY(rm_read_rmw##bits(cpu, in, &a, &la));                                                                      \
        TRY(mem_write##bits(cpu, la, alu_##op##bits(cpu, a, (u##bits)in->imm)));                                       \
        return FLOW_NEXT;                                                                                              \
    }

/* … and of one that only sets flags. */
#define DEFINE_FORMS_RO(op, bits)                                                                                      \
    static enum flow op##_rg##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        alu_##op##bits(cpu, reg##bits(cpu, in->rm), reg##bits(cpu, in->reg));                                          \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_mg##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        u##bits a;                                                                                                     \
        TRY(rm_read##bits(cpu, in, &a));                                                                               \
        alu_##op##bits(cpu, a, reg##bits(cpu, in->reg));                                                               \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_gm##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        u##bits b;                                                                                                     \
        TRY(rm_read##bits(cpu, in, &b));                                                                               \
        alu_##op##bits(cpu, reg##bits(cpu, in->reg), b);                                                               \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_gr##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        alu_##op##bits(cpu, reg##bits(cpu, in->reg), reg##bits(cpu, in->rm));                                          \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_ri##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        alu_##op##bits(cpu, reg##bits(cpu, in->rm), (u##bits)in->imm);                                                 \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_mi##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        u##bits a;                                                                                                     \
        TRY(rm_read##bits(cpu, in, &a));                                                                               \
        alu_##op##bits(cpu, a, (u##bits)in->imm);                                                                      \
        return FLOW_NEXT;                                                                                              \
    }

#define DEFINE_OP(op, FORMS)                                                                                           \
    FORMS(op, 8) FORMS(op, 16) FORMS(op, 32) FORMS(op, 64)                                                             \
    FAMILY_ALL(op##_E_G, op##_rg8, op##_rg16, op##_rg32, op##_rg64, op##_mg8, op##_mg16, op##_mg32, op##_mg64)         \
    FAMILY_ALL(op##_G_E, op##_gr8, op##_gr16, op##_gr32, op##_gr64, op##_gm8, op##_gm16, op##_gm32, op##_gm64)         \
    FAMILY_ALL(op##_E_I, op##_ri8, op##_ri16, op##_ri32, op##_ri64, op##_mi8, op##_mi16, op##_mi32, op##_mi64)
DEFINE_OP(add, DEFINE_FORMS)
DEFINE_OP(or, DEFINE_FORMS)
DEFINE_OP(adc, DEFINE_FORMS)
DEFINE_OP(sbb, DEFINE_FORMS)
DEFINE_OP(and, DEFINE_FORMS)
DEFINE_OP(sub, DEFINE_FORMS)
DEFINE_OP(xor, DEFINE_FORMS)
DEFINE_OP(cmp, DEFINE_FORMS_RO)

/* TEST has no G,E form. */
#define DEFINE_TEST(bits)                                                                                              \
    static enum flow test_rg##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        alu_test##bits(cpu, reg##bits(cpu, in->rm), reg##bits(cpu, in->reg));                                          \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow test_mg##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        u##bits a;                                                                                                     \
        TRY(rm_read##bits(cpu, in, &a));                                                                               \
        alu_test##bits(cpu, a, reg##bits(cpu, in->reg));                                                               \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow test_ri##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        alu_test##bits(cpu, reg##bits(cpu, in->rm), (u##bits)in->imm);                                                 \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow test_mi##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        u##bits a;                                                                                                     \
        TRY(rm_read##bits(cpu, in, &a));                                                                               \
        alu_test##bits(cpu, a, (u##bits)in->imm);                                                                      \
        return FLOW_NEXT;                                                                                              \
    }
DEFINE_TEST(8)
DEFINE_TEST(16)
DEFINE_TEST(32)
DEFINE_TEST(64)
FAMILY_ALL(test_E_G, test_rg8, test_rg16, test_rg32, test_rg64, test_mg8, test_mg16, test_mg32, test_mg64)
FAMILY_ALL(test_E_I, test_ri8, test_ri16, test_ri32, test_ri64, test_mi8, test_mi16, test_mi32, test_mi64)

/* One operand. */
#define ALU_NEG(bits) HOT_INLINE u##bits alu_neg##bits(struct cpu *cpu, u##bits a) { return alu_sub##bits(cpu, 0, a); }
#define ALU_NOT(bits) HOT_INLINE u##bits alu_not##bits(struct cpu *cpu, u##bits a) { (void)cpu; return (u##bits)~a; }
ALU_NEG(8) ALU_NEG(16) ALU_NEG(32) ALU_NEG(64)
ALU_NOT(8) ALU_NOT(16) ALU_NOT(32) ALU_NOT(64)

#define DEFINE_UNARY(op, bits)                                                                                         \
    static enum flow op##_r##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        reg##bits##_set(cpu, in->rm, alu_##op##bits(cpu, reg##bits(cpu, in->rm)));                                     \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow op##_m##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        u##bits a;                                                                                                     \
        u64 la;                                                                                                        \
        TRY(rm_read_rmw##bits(cpu, in, &a, &la));                                                                      \
        TRY(mem_write##bits(cpu, la, alu_##op##bits(cpu, a)));                                                         \
        return FLOW_NEXT;                                                                                              \
    }
#define DEFINE_UNARY_OP(op)                                                                                            \
    DEFINE_UNARY(op, 8) DEFINE_UNARY(op, 16) DEFINE_UNARY(op, 32) DEFINE_UNARY(op, 64)                                 \
    FAMILY_ALL(op##_E, op##_r8, op##_r16, op##_r32, op##_r64, op##_m8, op##_m16, op##_m32, op##_m64)
DEFINE_UNARY_OP(inc)
DEFINE_UNARY_OP(dec)
DEFINE_UNARY_OP(neg)
DEFINE_UNARY_OP(not)

/* CMPXCHG: the destination is always written (with its own value when unequal), so it must be writable. */
#define DEFINE_CMPXCHG(bits)                                                                                           \
    static enum flow cmpxchg_r##bits(struct cpu *cpu, const struct insn *in)                                           \
    {                                                                                                                  \
        u##bits a = reg##bits(cpu, in->rm);                                                                            \
        if (alu_cmp##bits(cpu, reg##bits(cpu, REG_RAX), a) == 0)                                                       \
            reg##bits##_set(cpu, in->rm, reg##bits(cpu, in->reg));                                                     \
        else                                                                                                           \
            reg##bits##_set(cpu, REG_RAX, a);                                                                          \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow cmpxchg_m##bits(struct cpu *cpu, const struct insn *in)                                           \
    {                                                                                                                  \
        u##bits a;                                                                                                     \
        u64 la;                                                                                                        \
        TRY(rm_read_rmw##bits(cpu, in, &a, &la));                                                                      \
        bool equal = reg##bits(cpu, REG_RAX) == a;                                                                     \
        TRY(mem_write##bits(cpu, la, equal ? reg##bits(cpu, in->reg) : a));                                            \
        alu_cmp##bits(cpu, reg##bits(cpu, REG_RAX), a);                                                                \
        if (!equal)                                                                                                    \
            reg##bits##_set(cpu, REG_RAX, a);                                                                          \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow xadd_r##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        u##bits a = reg##bits(cpu, in->rm), sum = alu_add##bits(cpu, a, reg##bits(cpu, in->reg));                      \
        reg##bits##_set(cpu, in->reg, a);                                                                              \
        reg##bits##_set(cpu, in->rm, sum);                                                                             \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow xadd_m##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        u##bits a;                                                                                                     \
        u64 la;                                                                                                        \
        TRY(rm_read_rmw##bits(cpu, in, &a, &la));                                                                      \
        TRY(mem_write##bits(cpu, la, alu_add##bits(cpu, a, reg##bits(cpu, in->reg))));                                 \
        reg##bits##_set(cpu, in->reg, a);                                                                              \
        return FLOW_NEXT;                                                                                              \
    }
DEFINE_CMPXCHG(8)
DEFINE_CMPXCHG(16)
DEFINE_CMPXCHG(32)
DEFINE_CMPXCHG(64)
FAMILY_ALL(cmpxchg, cmpxchg_r8, cmpxchg_r16, cmpxchg_r32, cmpxchg_r64, cmpxchg_m8, cmpxchg_m16, cmpxchg_m32, cmpxchg_m64)
FAMILY_ALL(xadd, xadd_r8, xadd_r16, xadd_r32, xadd_r64, xadd_m8, xadd_m16, xadd_m32, xadd_m64)

static void set_zf(struct cpu *cpu, bool zf)
{
    flags_set_status(cpu, (flags_status(cpu) & ~(u32)FL_ZF) | (zf ? FL_ZF : 0));
}

static enum flow cmpxchg8b(struct cpu *cpu, const struct insn *in)
{
    u64 old, la, want = (cpu->core.rdx << 32) | (u32)cpu->core.rax;
    TRY(rm_read_rmw64(cpu, in, &old, &la));
    bool equal = old == want;
    TRY(mem_write64(cpu, la, equal ? (cpu->core.rcx << 32) | (u32)cpu->core.rbx : old));
    set_zf(cpu, equal);
    if (!equal) {
        cpu->core.rax = (u32)old;
        cpu->core.rdx = old >> 32;
    }
    return FLOW_NEXT;
}
FAMILY_ONE(cmpxchg8b, cmpxchg8b)

static enum flow cmpxchg16b(struct cpu *cpu, const struct insn *in)
{
    u64 la, old[2];
    TRY(ea_la(cpu, in, 16, ACCESS_WRITE, &la));
    if (la & 15)
        return cpu_raise_gp(cpu, 0);
    TRY(mem_read_slow(cpu, la, old, 16, ACCESS_WRITE));
    bool equal = old[0] == cpu->core.rax && old[1] == cpu->core.rdx;
    u64 new[2] = {equal ? cpu->core.rbx : old[0], equal ? cpu->core.rcx : old[1]};
    TRY(mem_write(cpu, la, new, 16));
    set_zf(cpu, equal);
    if (!equal) {
        cpu->core.rax = old[0];
        cpu->core.rdx = old[1];
    }
    return FLOW_NEXT;
}
FAMILY_ONE(cmpxchg16b, cmpxchg16b)

/* ADCX and ADOX: one flag is both carry-in and carry-out, the others stay. */
static enum flow add_with_flag(struct cpu *cpu, const struct insn *in, u32 flag)
{
    u64 b, a = reg_get(cpu, in->reg, in->osz);
    TRY(rm_get(cpu, in, in->osz, &b));
    u32 status = flags_status(cpu);
    u128 sum = (u128)a + b + !!(status & flag);
    bool carry = sum >> osz_bits(in->osz) & 1;
    reg_set(cpu, in->reg, in->osz, (u64)sum & osz_mask(in->osz));
    flags_set_status(cpu, (status & ~flag) | (carry ? flag : 0));
    return FLOW_NEXT;
}
static enum flow adcx(struct cpu *cpu, const struct insn *in) { return add_with_flag(cpu, in, FL_CF); }
static enum flow adox(struct cpu *cpu, const struct insn *in) { return add_with_flag(cpu, in, FL_OF); }
FAMILY_ONE(adcx, adcx)
FAMILY_ONE(adox, adox)
