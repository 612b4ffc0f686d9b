/* MOVS and STOS with REP against a model that moves one element after the other: every mode, address and operand size, both directions,
 * overlapping ends, segments with bases, indexes that wrap. Pages that are done in one go must not differ from single steps.
 */
#include "bench_cpu.h"

#define AREA 0x10000u                  /* what is compared: [0, AREA) behind BASE */
#define BASE 0x200000u
#define ROUNDS 1000

static u64 state;
static u64 next_random(void)
{
    u64 z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
static unsigned below(unsigned n) { return (unsigned)(next_random() % n); }

/* Runs it as the loop does, in a block that nothing has cut. */
static struct insn repeated(unsigned osz)
{
    static const struct insn behind;
    struct insn in = bench_insn(osz);
    in.flags |= INSN_REP;
    in.seg = cpu.mode.code_bits == BITS_64 ? SEG_NONE : SEG_DS;
    cpu.run_end = &behind;
    return in;
}

/* Segments that begin in the middle of a page, in legacy modes. */
static void set_bases(void)
{
    for (unsigned n = SEG_ES; n <= SEG_DS; n++)
        if (n != SEG_CS && n != SEG_SS)
            cpu.seg.s[n].base = BASE;
}

struct model {
    u8 bytes[AREA];
    u64 rsi, rdi, rcx;
};

static void model_run(struct model *m, bool moves, unsigned osz, u64 mask, u64 base, bool down, u64 value)
{
    unsigned n = 1u << osz;
    while (m->rcx & mask) {
        u8 element[8];
        memcpy(element, &value, 8);
        if (moves)
            memcpy(element, m->bytes + (m->rsi & mask) - base, n);
        memcpy(m->bytes + (m->rdi & mask) - base, element, n);
        m->rdi = (m->rdi & ~mask) | ((m->rdi + (down ? -(u64)n : n)) & mask);
        if (moves)
            m->rsi = (m->rsi & ~mask) | ((m->rsi + (down ? -(u64)n : n)) & mask);
        m->rcx = (m->rcx & ~mask) | ((m->rcx - 1) & mask);
    }
}

/* `base`: offset of the area in the segment. */
static void check_rounds(u64 base, unsigned widest)
{
    static struct model m;
    u64 mask = mask_low(8u << bench_insn(OSZ_32).asz);
    for (unsigned round = 0; round < ROUNDS; round++) {
        bool moves = below(2), down = below(4) == 0;
        unsigned osz = below(widest + 1), n = 1u << osz, count = below(4) ? below(40) : below(3000);
        u64 length = (u64)count * n, room = AREA - 64 - length;
        u64 from = below((unsigned)room), to = below(2) ? (from + below(40)) % room : below((unsigned)room);
        u64 start = down ? length : 0, value = next_random();
        for (unsigned i = 0; i < AREA; i += 8) {
            u64 fill = next_random();
            memcpy(m.bytes + i, &fill, 8);
            memcpy(bus.ram + BASE + i, &fill, 8);
        }
        m.rsi = cpu.core.rsi = base + from + start;
        m.rdi = cpu.core.rdi = base + to + start;
        m.rcx = cpu.core.rcx = count;
        cpu.core.rax = value;
        cpu.core.rflags_rest = (cpu.core.rflags_rest & ~(u64)FL_DF) | (down ? FL_DF : 0);
        RETIRES(moves ? h_movs : h_stos, repeated(osz));
        model_run(&m, moves, osz, mask, base, down, value);
        ck_assert_uint_eq(cpu.core.rsi, m.rsi);
        ck_assert_uint_eq(cpu.core.rdi, m.rdi);
        ck_assert_uint_eq(cpu.core.rcx, m.rcx);
        ck_assert_msg(memcmp(m.bytes, bus.ram + BASE, AREA) == 0, "round %u: %s, %u elements of %u bytes, from %#x to %#x%s", round,
                      moves ? "MOVS" : "STOS", count, n, (unsigned)from, (unsigned)to, down ? ", down" : "");
    }
}

START_TEST(string_64_bit)
{
    state = 1;
    bench_long_mode(0);
    check_rounds(BASE, OSZ_64);
}
END_TEST

START_TEST(string_32_bit_flat)
{
    state = 2;
    bench_protected_mode(0);
    check_rounds(BASE, OSZ_32);
}
END_TEST

START_TEST(string_32_bit_with_bases)
{
    state = 3;
    bench_protected_mode(0);
    set_bases();
    check_rounds(0, OSZ_32);
}
END_TEST

static void protected_16(void)
{
    bench_protected_mode(0);
    cpu.seg.s[SEG_CS].access &= ~(u32)AR_DB;
    set_bases();
    cpu_mode_update(&cpu);
}

START_TEST(string_16_bit)
{
    state = 4;
    protected_16();
    check_rounds(0, OSZ_32);
}
END_TEST

/* A 16-bit index goes from 0xffff to 0, within one instruction and in the midst of a page of memory. */
START_TEST(string_16_bit_index_wraps)
{
    protected_16();
    cpu.seg.s[SEG_ES].base = BASE + 0x123;
    for (unsigned warm = 0; warm < 2; warm++) {     /* the second time the TLB has the pages */
        memset(bus.ram + BASE, 0, 0x20000);
        cpu.core.rdi = 0xaaaa0000fff0;
        cpu.core.rcx = 0x20;
        cpu.core.rax = 0x77;
        RETIRES(h_stos, repeated(OSZ_8));
        ck_assert_uint_eq(cpu.core.rdi, 0xaaaa00000010);
        for (unsigned i = 0; i < 0x10; i++) {
            ck_assert_uint_eq(bus.ram[BASE + 0x123 + i], 0x77);
            ck_assert_uint_eq(bus.ram[BASE + 0x123 + 0xfff0 + i], 0x77);
        }
        ck_assert_uint_eq(bus.ram[BASE + 0x123 + 0x10], 0);
        ck_assert_uint_eq(bus.ram[BASE + 0x123 + 0x10000], 0);
    }
}
END_TEST

/* The limit stops the instruction at the element that does not fit; what came before stays done. */
START_TEST(string_stops_at_the_limit)
{
    bench_protected_mode(0);
    set_bases();
    cpu.seg.s[SEG_ES].limit = 0x100a;
    for (unsigned warm = 0; warm < 2; warm++) {
        memset(bus.ram + BASE, 0, 0x2000);
        cpu.core.rdi = 0x800;
        cpu.core.rcx = 0x1000;
        cpu.core.rax = ~0ull;
        RAISES(EXC_GP, h_stos, repeated(OSZ_32));
        ck_assert_uint_eq(cpu.core.rdi, 0x1008);
        ck_assert_uint_eq(cpu.core.rcx, 0x1000 - (0x1008 - 0x800) / 4);
        ck_assert_uint_eq(bus.ram[BASE + 0x1007], 0xff);
        ck_assert_uint_eq(bus.ram[BASE + 0x1008], 0);
    }
    cpu.seg.s[SEG_ES].limit = 0xffffffff;
    cpu.seg.s[SEG_ES].access &= ~(u32)AR_WRITABLE;
    cpu.core.rdi = 0x800;
    cpu.core.rcx = 1;
    RAISES(EXC_GP, h_stos, repeated(OSZ_32));
}
END_TEST

/* Behind a page fault RF is set, and nothing can be due between two elements; with TF, or a breakpoint that is on, it can. */
START_TEST(string_alone)
{
    static const struct { u64 flags, dr7; u32 attention; u64 left; } cases[] = {
        {FL_RF, 0, ATT_STEP, 0}, {FL_TF, 0, ATT_STEP, 99}, {FL_RF | FL_TF, 0, ATT_STEP, 99}, {FL_RF, 2, ATT_STEP, 99}, {0, 0, ATT_VMX, 99},
    };
    bench_long_mode(0);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        cpu.core.rflags_rest = (cpu.core.rflags_rest & ~(u64)(FL_RF | FL_TF | FL_DF)) | cases[i].flags;
        cpu.sys.dr7 = 0x400 | cases[i].dr7;
        cpu.event.attention = cases[i].attention;
        cpu.core.rdi = BASE;
        cpu.core.rcx = 100;
        struct insn in = repeated(OSZ_64);
        ck_assert_int_eq(h_stos[OSZ_64](&cpu, &in), cases[i].left ? FLOW_END : FLOW_NEXT);
        ck_assert_uint_eq(cpu.core.rcx, cases[i].left);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {string_64_bit, string_32_bit_flat, string_32_bit_with_bases,
                                  string_16_bit, string_16_bit_index_wraps, string_stops_at_the_limit, string_alone};
    return bench_run("string", tests, ARRAY_SIZE(tests));
}
