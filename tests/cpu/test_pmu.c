/* Performance counters: exact counts in running code, their MSRs, overflow. */
#include "cpu/interp.h"
#include "cpu/pmu.h"
#include "tests/cpu/bench_cpu.h"

enum { PMC0 = 0xc1, EVTSEL0 = 0x186, FIXED0 = 0x309, PERF_CAP = 0x345, FIXED_CTRL = 0x38d, STATUS, GLOBAL_CTRL, RESET, SET,
       IN_USE, A_PMC0 = 0x4c1, DEBUGCTL = 0x1d9 };
enum { ALL = PMU_SELECT_EN | PMU_SELECT_OS | PMU_SELECT_USR, INSTRUCTIONS = 0xc0, CYCLES = 0x3c, REFERENCE = 0x13c,
       BRANCHES = 0xc4, CACHE_MISSES = 0x412e };

static u64 interrupts, interrupt_rip;

static void perf_interrupt(void *arg, struct cpu *c)
{
    (void)arg;
    interrupts++;
    interrupt_rip = c->core.rip;
}

static u64 rdmsr(u32 msr)
{
    u64 value = 0;
    ck_assert_msg(cpu_msr_read(&cpu, msr, &value), "RDMSR %#x refused", msr);
    return value;
}

/* 64-bit code at 0x1000, run to its HLT or shutdown. */
static void run(const void *code, size_t bytes, unsigned cpl)
{
    static struct cpu_board with_interrupt;
    with_interrupt = bench_board;
    with_interrupt.perf_interrupt = perf_interrupt;
    cpu.board = &with_interrupt;
    bench_long_mode(cpl);
    cpu.seg.idtr.limit = 0;
    for (size_t n = 0; n < bytes; n++)
        bus_write(&bus, 0, 0x1000 + n, 1, ((const u8 *)code)[n]);
    cpu.core.rsp = 0x9000;
    cpu.event.activity = ACTIVITY_ACTIVE;
    cpu.event.attention &= ~(u32)ATT_ACTIVITY;
    interrupts = 0;
    if (!cpu.interp)
        cpu.interp = interp_new(&bus);
    for (unsigned step = 0; step < 1000 && cpu.event.activity == ACTIVITY_ACTIVE; step++) {
        cpu.stop_at = cpu.time.now + 100;
        cpu_run(&cpu);
    }
    ck_assert_int_ne(cpu.event.activity, ACTIVITY_ACTIVE);
}
#define RUN(code, cpl) run(code, sizeof(code) - 1, cpl)

static void setup(void)
{
    interp_free(cpu.interp);
    bench_setup();
    bench_model("base,+pmu,+pdcm");
    cpu_reset(&cpu, false);
}

static void select_events(u32 a, u32 b, u32 c)
{
    WRITES(EVTSEL0, a);
    WRITES(EVTSEL0 + 1, b);
    WRITES(EVTSEL0 + 2, c);
}

/* mov ecx,5; 1: nop; nop; dec ecx; jnz 1b; hlt: 22 instructions, 5 branches, of which 4 are taken. */
static const char loop_code[] = "\xb9\x05\x00\x00\x00\x90\x90\xff\xc9\x75\xfa\xf4";

START_TEST(exact_counts)
{
    select_events(ALL | INSTRUCTIONS, ALL | BRANCHES, ALL | CYCLES);
    WRITES(EVTSEL0 + 3, ALL | REFERENCE);
    WRITES(EVTSEL0 + 4, ALL | CACHE_MISSES);
    WRITES(EVTSEL0 + 5, (ALL | INSTRUCTIONS) & ~PMU_SELECT_EN);
    WRITES(FIXED_CTRL, 0x333);
    WRITES(GLOBAL_CTRL, 0x7000000ff);
    RUN(loop_code, 0);
    ck_assert_uint_eq(rdmsr(PMC0), 22);
    ck_assert_uint_eq(rdmsr(PMC0 + 1), 5);
    ck_assert_uint_eq(rdmsr(PMC0 + 2), 22);
    ck_assert_uint_eq(rdmsr(PMC0 + 3), 22);
    ck_assert_uint_eq(rdmsr(PMC0 + 4), 0);
    ck_assert_uint_eq(rdmsr(PMC0 + 5), 0);
    ck_assert_uint_eq(rdmsr(FIXED0), 22);
    ck_assert_uint_eq(rdmsr(FIXED0 + 1), 22);
    ck_assert_uint_eq(rdmsr(FIXED0 + 2), 22);
    ck_assert_uint_eq(interrupts, 0);
    ck_assert_uint_eq(rdmsr(STATUS), 0);
    /* Nothing runs any more once all is disabled. */
    WRITES(GLOBAL_CTRL, 0);
    ck_assert(!(cpu.event.attention & ATT_PMU));
    RUN(loop_code, 0);
    ck_assert_uint_eq(rdmsr(PMC0), 22);
}
END_TEST

START_TEST(privilege_levels)
{
    select_events(PMU_SELECT_EN | PMU_SELECT_USR | INSTRUCTIONS, PMU_SELECT_EN | PMU_SELECT_OS | INSTRUCTIONS, 0);
    WRITES(FIXED_CTRL, 0x12);
    WRITES(GLOBAL_CTRL, 0x300000003);
    RUN(loop_code, 0);
    ck_assert_uint_eq(rdmsr(PMC0), 0);
    ck_assert_uint_eq(rdmsr(PMC0 + 1), 22);
    /* In ring 3 HLT is #GP, without an IDT in the end a shutdown: it does not retire, and has a cycle all the same. */
    RUN(loop_code, 3);
    ck_assert_uint_eq(rdmsr(PMC0), 21);
    ck_assert_uint_eq(rdmsr(PMC0 + 1), 22);
    ck_assert_uint_eq(rdmsr(FIXED0), 21);
    ck_assert_uint_eq(rdmsr(FIXED0 + 1), 22);
}
END_TEST

/* RDPMC sees what retired before it; the WRMSR that enables is not counted, the one that disables is. */
START_TEST(reads_and_switches_within_a_block)
{
    static const char code[] =
        "\x90\x90"                                         /* nop; nop: not counted */
        "\xb9\x8f\x03\x00\x00\xb8\x01\x00\x00\x00\x31\xd2" /* mov ecx,38Fh; mov eax,1; xor edx,edx */
        "\x0f\x30"                                         /* wrmsr: PMC0 on */
        "\x90\x90\x90\x31\xc9"                             /* three nops; xor ecx,ecx */
        "\x0f\x33\x89\xc3"                                 /* rdpmc: 4; mov ebx,eax */
        "\xb9\xc1\x00\x00\x00\x0f\x32\x89\xc6"             /* mov ecx,C1h; rdmsr: 7; mov esi,eax */
        "\xb9\x8f\x03\x00\x00\x31\xc0\x31\xd2"             /* mov ecx,38Fh; xor eax,eax; xor edx,edx */
        "\x0f\x30\x90\x90\xf4";                            /* wrmsr: off; nop; nop; hlt */
    WRITES(GLOBAL_CTRL, 0);
    select_events(ALL | INSTRUCTIONS, 0, 0);
    RUN(code, 0);
    ck_assert_uint_eq(cpu.core.rbx, 4);
    ck_assert_uint_eq(cpu.core.rsi, 7);
    ck_assert_uint_eq(rdmsr(PMC0), 13);
    ck_assert(!(cpu.event.attention & ATT_PMU));
}
END_TEST

START_TEST(a_written_counter_goes_on_from_there)
{
    static const char code[] = "\x90\xb9\xc1\x00\x00\x00\xb8\x64\x00\x00\x00\x31\xd2\x0f\x30\x90\xf4";
    select_events(ALL | INSTRUCTIONS, 0, 0);
    RUN(code, 0);                          /* wrmsr of 100, nop, hlt */
    ck_assert_uint_eq(rdmsr(PMC0), 102);
}
END_TEST

/* A string instruction is one, however many iterations it has. */
START_TEST(repeated_strings)
{
    static const char code[] = "\xb9\x40\x0d\x03\x00\xbf\x00\x00\x01\x00\x31\xc0\xf3\xaa\xf4";    /* rep stosb, 200,000 */
    select_events(ALL | INSTRUCTIONS, 0, 0);
    RUN(code, 0);
    ck_assert_uint_eq(rdmsr(PMC0), 5);
}
END_TEST

START_TEST(overflow_interrupts_at_the_instruction)
{
    for (unsigned k = 1; k <= 21; k++) {
        setup();
        WRITES(A_PMC0, BIT(48) - k);
        select_events(ALL | PMU_SELECT_INT | INSTRUCTIONS, ALL | INSTRUCTIONS, 0);
        RUN(loop_code, 0);
        ck_assert_uint_eq(interrupts, 1);
        ck_assert_uint_eq(rdmsr(STATUS), 1);
        ck_assert_uint_eq(rdmsr(PMC0), 22 - k);
        static const u16 rips[] = {0x1005, 0x1006, 0x1007, 0x1009};
        ck_assert_uint_eq(interrupt_rip, k == 21 ? 0x100b : rips[(k - 1) % 4]);
        WRITES(RESET, 1);
        ck_assert_uint_eq(rdmsr(STATUS), 0);
    }
}
END_TEST

START_TEST(freezing)
{
    WRITES(DEBUGCTL, BIT(12));
    WRITES(A_PMC0, BIT(48) - 10);
    select_events(ALL | PMU_SELECT_INT | INSTRUCTIONS, ALL | INSTRUCTIONS, 0);
    RUN(loop_code, 0);
    ck_assert_uint_eq(rdmsr(PMC0 + 1), 10);                /* version 5: CTR_FRZ, until it is cleared */
    ck_assert_uint_eq(rdmsr(STATUS), BIT(59) | 1);
    ck_assert(!(cpu.event.attention & ATT_PMU));
    WRITES(RESET, BIT(59));
    ck_assert(cpu.event.attention & ATT_PMU);

    bench_model("haswell");
    cpu_reset(&cpu, false);
    WRITES(DEBUGCTL, BIT(12));
    WRITES(A_PMC0, BIT(48) - 10);
    select_events(ALL | PMU_SELECT_INT | INSTRUCTIONS, ALL | INSTRUCTIONS, 0);
    RUN(loop_code, 0);
    ck_assert_uint_eq(rdmsr(PMC0 + 1), 10);                /* version 3: the enable bits go */
    ck_assert_uint_eq(rdmsr(STATUS), 1);
    ck_assert_uint_eq(rdmsr(GLOBAL_CTRL), 0);
}
END_TEST

/* At most one event a cycle: a threshold of 1 changes nothing, one of 2 is never reached. */
START_TEST(thresholds_and_edges)
{
    select_events(ALL | INSTRUCTIONS | 1u << 24, ALL | INSTRUCTIONS | 2u << 24, ALL | BRANCHES | 1u << 24 | PMU_SELECT_INV);
    WRITES(EVTSEL0 + 3, ALL | INSTRUCTIONS | 2u << 24 | PMU_SELECT_INV);
    WRITES(EVTSEL0 + 4, ALL | BRANCHES | PMU_SELECT_EDGE);
    WRITES(EVTSEL0 + 5, ALL | CYCLES | PMU_SELECT_EDGE);
    RUN(loop_code, 0);
    ck_assert_uint_eq(rdmsr(PMC0), 22);
    ck_assert_uint_eq(rdmsr(PMC0 + 1), 0);
    ck_assert_uint_eq(rdmsr(PMC0 + 2), 17);
    ck_assert_uint_eq(rdmsr(PMC0 + 3), 22);
    ck_assert_uint_eq(rdmsr(PMC0 + 4), 5);
    ck_assert_uint_eq(rdmsr(PMC0 + 5), 1);
}
END_TEST

START_TEST(reserved_bits)
{
    READS(GLOBAL_CTRL, 0xff);
    READS(PERF_CAP, BIT(13));
    WRITE_REFUSED(PERF_CAP, 0);
    WRITE_REFUSED(GLOBAL_CTRL, 0x100);
    WRITE_REFUSED(GLOBAL_CTRL, BIT(35));
    WRITE_REFUSED(EVTSEL0, BIT(32));
    WRITE_REFUSED(EVTSEL0, PMU_SELECT_ANY_THREAD);         /* version 5 has taken it back */
    WRITE_REFUSED(FIXED_CTRL, 0x4);
    WRITE_REFUSED(FIXED_CTRL, 0x1000);
    WRITE_REFUSED(A_PMC0, BIT(48));
    WRITE_REFUSED(FIXED0, BIT(48));
    WRITE_REFUSED(STATUS, 0);
    WRITE_REFUSED(IN_USE, 0);
    READ_REFUSED(FIXED0 + 3);
    WRITES(PMC0, 0xffffffff80000000ull);                   /* 32 bits, sign-extended */
    READS(PMC0, 0xffff80000000);
    READS(A_PMC0, 0xffff80000000);
    WRITES(SET, 0x700000001);
    READS(STATUS, 0x700000001);
    READS(SET, 0);
    WRITES(RESET, 0x100000001);
    READS(STATUS, 0x600000000);
    WRITE_REFUSED(SET, BIT(63));
    WRITES(EVTSEL0, INSTRUCTIONS | PMU_SELECT_INT);
    READS(IN_USE, BIT(63) | 1);
    /* Other versions. */
    bench_model("nehalem,+pmu,+pdcm");
    cpu_reset(&cpu, false);
    WRITES(EVTSEL0, PMU_SELECT_ANY_THREAD);
    WRITES(FIXED_CTRL, 0xfff);
    READS(GLOBAL_CTRL, 0xf);
    READ_REFUSED(PMC0 + 4);
    READ_REFUSED(A_PMC0);
    READ_REFUSED(IN_USE);
    READ_REFUSED(SET);
    bench_model("base,-pmu");
    READ_REFUSED(PMC0);
    READ_REFUSED(GLOBAL_CTRL);
    WRITE_REFUSED(DEBUGCTL, BIT(12));
}
END_TEST

START_TEST(rdpmc_indexes)
{
    u64 value = 0;
    cpu.sys.perf_pmc[7] = 77;
    cpu.sys.perf_fixed[2] = 22;
    ck_assert(pmu_rdpmc(&cpu, 7, &value));
    ck_assert_uint_eq(value, 77);
    ck_assert(pmu_rdpmc(&cpu, 0x40000002, &value));
    ck_assert_uint_eq(value, 22);
    ck_assert(!pmu_rdpmc(&cpu, 8, &value));
    ck_assert(!pmu_rdpmc(&cpu, 0x40000003, &value));
    ck_assert(!pmu_rdpmc(&cpu, 0x80000000, &value));
    ck_assert(!pmu_rdpmc(&cpu, 0xffffffff, &value));
    bench_long_mode(3);
    RAISES(EXC_GP, h_rdpmc, bench_insn(OSZ_32));
    cpu.sys.cr4 |= CR4_PCE;
    cpu.core.rcx = 7;
    RETIRES(h_rdpmc, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rax, 77);
    cpu.core.rcx = 8;
    RAISES(EXC_GP, h_rdpmc, bench_insn(OSZ_32));
}
END_TEST

START_TEST(leaf)
{
    struct cpuid_result r = cpu_cpuid(&cpu, 0xa, 0);
    ck_assert_uint_eq(r.eax, 0x07300805);
    ck_assert_uint_eq(r.ebx, 0x58);                        /* no caches, no mispredicted branches */
    ck_assert_uint_eq(r.ecx, 7);
    ck_assert_uint_eq(r.edx, 0x8603);
    bench_model("nehalem,+pmu");
    r = cpu_cpuid(&cpu, 0xa, 0);
    ck_assert_uint_eq(r.eax, 0x07300403);
    ck_assert_uint_eq(r.edx, 0x0603);
    bench_model("base");
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0xa, 0).eax, 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {exact_counts, privilege_levels, reads_and_switches_within_a_block,
                                  a_written_counter_goes_on_from_there, repeated_strings,
                                  overflow_interrupts_at_the_instruction, freezing, thresholds_and_edges, reserved_bits,
                                  rdpmc_indexes, leaf};
    return bench_run_with("performance counters", tests, ARRAY_SIZE(tests), setup);
}
