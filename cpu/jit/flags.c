/* Deferred status flags, computed: see flags.h. Each kind repeats what the handlers of its instructions do (cpu/int_*.c).
 */
#include "cpu/jit/flags.h"

#include "cpu/alu.h"
#include "cpu/insn.h"

#define BY_SIZE(osz, name, ...)                                                                                        \
    do {                                                                                                               \
        switch (osz) {                                                                                                 \
        case OSZ_8: name##8(__VA_ARGS__); break;                                                                       \
        case OSZ_16: name##16(__VA_ARGS__); break;                                                                     \
        case OSZ_32: name##32(__VA_ARGS__); break;                                                                     \
        default: name##64(__VA_ARGS__); break;                                                                         \
        }                                                                                                              \
    } while (0)

#define DEFINE_TRUNCATED(bits)                                                                                         \
    static void add##bits(struct cpu *cpu, u64 a, u64 b) { alu_add##bits(cpu, (u##bits)a, (u##bits)b); }               \
    static void sub##bits(struct cpu *cpu, u64 a, u64 b) { alu_sub##bits(cpu, (u##bits)a, (u##bits)b); }               \
    static void adc##bits(struct cpu *cpu, u64 a, u64 b, u64 r)                                                        \
    { alu_add_flags##bits(cpu, (u##bits)a, (u##bits)b, (u##bits)r); }                                                  \
    static void sbb##bits(struct cpu *cpu, u64 a, u64 b, u64 r)                                                        \
    { alu_sub_flags##bits(cpu, (u##bits)a, (u##bits)b, (u##bits)r); }                                                  \
    static void logic##bits(struct cpu *cpu, u64 r) { alu_logic##bits(cpu, (u##bits)r); }                              \
    static void result##bits(struct cpu *cpu, u64 r) { alu_result##bits(cpu, (u##bits)r); }
DEFINE_TRUNCATED(8)
DEFINE_TRUNCATED(16)
DEFINE_TRUNCATED(32)
DEFINE_TRUNCATED(64)

/* Shifts by n > 0, as cpu/int_shift.c. */
static void shifted(struct cpu *cpu, unsigned kind, unsigned osz, u64 a, unsigned n)
{
    unsigned bits = 8u << osz, cf, of;
    u64 mask = mask_low(bits), r;
    a &= mask;
    if (kind == CC_SHL) {
        r = n < bits ? a << n & mask : 0;
        cf = n <= bits ? (unsigned)(a >> (bits - n)) & 1 : 0;
        of = cf ^ (unsigned)(r >> (bits - 1));
    } else if (kind == CC_SHR) {
        r = n < bits ? a >> n : 0;
        cf = n <= bits ? (unsigned)(a >> (n - 1)) & 1 : 0;
        of = n == 1 ? (unsigned)(a >> (bits - 1)) : 0;
    } else {
        i64 s = (i64)(a << (64 - bits)) >> (64 - bits);
        r = (u64)(s >> n) & mask;
        cf = (unsigned)((u64)(s >> (n - 1)) & 1);
        of = 0;
    }
    BY_SIZE(osz, result, cpu, r);
    alu_set_cf_of(cpu, cf, of);
}

static void of_set(struct cpu *cpu, bool of)
{
    u64 cf = cpu->core.fl_carry & BIT(63);
    cpu->core.fl_carry = (cpu->core.fl_carry & 8) | cf | (cf ^ (u64)of << 63) >> 1;
}

/* cc_a and cc_b from the registers that they still stand in. */
static void fetch_operands(struct cpu *cpu, u32 op)
{
    struct cpu_jit *j = &cpu->jit;
    u64 a = cpu->core.r[op >> CC_A_SHIFT & 15], b = cpu->core.r[op >> CC_B_SHIFT & 15];
    if (op & CC_IMMEDIATE)
        b = (u64)(i64)(i8)(op >> CC_IMMEDIATE_SHIFT);
    switch (op & CC_KIND_MASK) {
    case CC_LOGIC: a = op & CC_RESULT ? a : a & b; break;
    case CC_ADD: a = op & CC_RESULT ? a - b : a; break;
    default: a = op & CC_RESULT ? a + b : a; break;
    }
    j->cc_a = a;
    j->cc_b = b;
}

void jit_flags_settle(struct cpu *cpu)
{
    struct cpu_jit *j = &cpu->jit;
    u32 op = j->cc_op;
    if (op == CC_CORE)
        return;
    if (op & CC_REGISTERS)
        fetch_operands(cpu, op);
    unsigned osz = op >> CC_SIZE_SHIFT & 3, kind = op & CC_KIND_MASK;
    switch (kind) {
    case CC_CORE: break;
    case CC_ADD: BY_SIZE(osz, add, cpu, j->cc_a, j->cc_b); break;
    case CC_SUB: BY_SIZE(osz, sub, cpu, j->cc_a, j->cc_b); break;
    case CC_ADC: BY_SIZE(osz, adc, cpu, j->cc_a, j->cc_b, j->cc_r); break;
    case CC_SBB: BY_SIZE(osz, sbb, cpu, j->cc_a, j->cc_b, j->cc_r); break;
    case CC_LOGIC: BY_SIZE(osz, logic, cpu, j->cc_a); break;
    case CC_INC: BY_SIZE(osz, add, cpu, j->cc_a - 1, 1); break;
    case CC_DEC: BY_SIZE(osz, sub, cpu, j->cc_a + 1, 1); break;
    case CC_MUL:
        BY_SIZE(osz, result, cpu, j->cc_a);
        cpu->core.fl_zero = 1;
        alu_set_cf_of(cpu, j->cc_b & 1, j->cc_b & 1);
        break;
    case CC_POPCNT: flags_set_status(cpu, j->cc_a & mask_low(8u << osz) ? 0 : FL_ZF); break;
    case CC_RELATION:
        flags_set_status(cpu, (j->cc_a & 1 ? FL_ZF : 0) | (j->cc_a >> 8 & 1 ? FL_PF : 0) | (j->cc_a >> 16 & 1 ? FL_CF : 0));
        break;
    default: shifted(cpu, kind, osz, j->cc_a, (unsigned)j->cc_b & (osz == OSZ_64 ? 63 : 31)); break;
    }
    if (op & CC_SET_C)
        flags_set_cf(cpu, j->cc_c);
    if (op & CC_SET_Z)
        cpu->core.fl_zero = !j->cc_z;
    if (op & (CC_ROTATED | CC_ROTATED_RIGHT)) {
        unsigned bits = 8u << (op >> CC_ROTATED_SHIFT & 3);
        unsigned top = (unsigned)(j->cc_t >> (bits - 1)) & 1, next = (unsigned)(j->cc_t >> (bits - 2)) & 1;
        of_set(cpu, op & CC_ROTATED_RIGHT ? top ^ next : top ^ (j->cc_t & 1));
    }
    j->cc_op = CC_CORE;
}
