/* System instructions in VMX non-root operation: what they ask the frames, in which order with their other checks,
 * and what they do when no frame wants them. */
#define BENCH_WITHOUT_TABLE
#include "tests/cpu/bench_cpu.h"
#include "tests/cpu/mock_vmx.h"

static void setup(void)
{
    bench_setup();
    memset(&hypervisor, 0, sizeof hypervisor);
    cpu.vmx.depth = 1;
    cpu.vmx.frame[0].vmcs.primary_controls = 1ull << 31;
    cpu.vmx.frame[0].vmcs.secondary_controls = 1 << 3 | 1 << 12 | 1 << 20;
    hypervisor.exit = true;
    bench_long_mode(0);
}

/* The instruction exits with this reason and qualification, having changed nothing. */
#define EXITS(reason_, qualification_, family, ...)                                                                    \
    do {                                                                                                               \
        struct cpu_core core_ = cpu.core;                                                                              \
        struct cpu_sys sys_ = cpu.sys;                                                                                 \
        hypervisor.asked = 0;                                                                                          \
        ck_assert_int_eq(bench_run_insn(family, __VA_ARGS__), FLOW_EXIT);                                              \
        ck_assert_uint_eq(hypervisor.asked, 1);                                                                        \
        ck_assert_uint_eq(hypervisor.ask.reason, reason_);                                                             \
        ck_assert_uint_eq(hypervisor.ask.qualification, qualification_);                                               \
        ck_assert_mem_eq(&core_, &cpu.core, sizeof core_);                                                             \
        ck_assert_mem_eq(&sys_, &cpu.sys, sizeof sys_);                                                                \
    } while (0)

START_TEST(control_register_qualifications)
{
    cpu.core.r9 = 0x1234;
    EXITS(EXIT_CR_ACCESS, 3 | 9 << 8, h_mov_to_cr, bench_registers(OSZ_64, 3, REG_R9));
    ck_assert_uint_eq(hypervisor.ask.value, 0x1234);
    EXITS(EXIT_CR_ACCESS, 0 | 9 << 8, h_mov_to_cr, bench_registers(OSZ_64, 0, REG_R9));
    EXITS(EXIT_CR_ACCESS, 4 | 9 << 8, h_mov_to_cr, bench_registers(OSZ_64, 4, REG_R9));
    EXITS(EXIT_CR_ACCESS, 8 | 9 << 8, h_mov_to_cr, bench_registers(OSZ_64, 8, REG_R9));
    EXITS(EXIT_CR_ACCESS, 3 | 1 << 4 | 2 << 8, h_mov_from_cr, bench_registers(OSZ_64, 3, REG_RDX));
    EXITS(EXIT_CR_ACCESS, 8 | 1 << 4 | 2 << 8, h_mov_from_cr, bench_registers(OSZ_64, 8, REG_RDX));
    EXITS(EXIT_CR_ACCESS, 2 << 4, h_clts, bench_insn(OSZ_32));
    cpu.core.r9 = 0xf00b;
    EXITS(EXIT_CR_ACCESS, 3 << 4 | 0xf00bull << 16, h_lmsw, bench_registers(OSZ_32, 0, REG_R9));
    bench_poke64(0x2000, 0xabcd);
    EXITS(EXIT_CR_ACCESS, 3 << 4 | 1 << 6 | 0xabcdull << 16, h_lmsw, bench_memory(OSZ_32, 0, 0x2000));
    ck_assert_uint_eq(hypervisor.ask.la, 0x2000);
    /* CR2, and reads of CR0 and CR4, never exit. */
    hypervisor.asked = 0;
    hypervisor.cr0 = 0x777;
    hypervisor.cr4 = 0x888;
    RETIRES(h_mov_to_cr, bench_registers(OSZ_64, 2, REG_R9));
    RETIRES(h_mov_from_cr, bench_registers(OSZ_64, 0, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, 0x777);
    RETIRES(h_mov_from_cr, bench_registers(OSZ_64, 4, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, 0x888);
    RETIRES(h_smsw, bench_registers(OSZ_32, 0, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, 0x777);
    ck_assert_uint_eq(hypervisor.asked, 0);
}
END_TEST

START_TEST(debug_register_qualifications)
{
    EXITS(EXIT_MOV_DR, 7 | 3 << 8, h_mov_to_dr, bench_registers(OSZ_64, 7, REG_RBX));
    EXITS(EXIT_MOV_DR, 4 | 1 << 4 | 3 << 8, h_mov_from_dr, bench_registers(OSZ_64, 4, REG_RBX));
    /* The exit comes before CPL, CR4.DE and DR7.GD. */
    bench_long_mode(3);
    cpu.sys.cr4 |= CR4_DE;
    cpu.sys.dr7 |= 1 << 13;
    EXITS(EXIT_MOV_DR, 5 | 1 << 4 | 3 << 8, h_mov_from_dr, bench_registers(OSZ_64, 5, REG_RBX));
    hypervisor.exit = false;
    RAISES(EXC_UD, h_mov_from_dr, bench_registers(OSZ_64, 5, REG_RBX));
    RAISES(EXC_GP, h_mov_from_dr, bench_registers(OSZ_64, 6, REG_RBX));
}
END_TEST

START_TEST(table_and_address_qualifications)
{
    struct insn in = bench_memory(OSZ_64, 0, -0x20);
    in.base = REG_RBX;
    EXITS(EXIT_GDTR_IDTR_ACCESS, (u64)-0x20, h_lgdt, in);
    EXITS(EXIT_GDTR_IDTR_ACCESS, (u64)-0x20, h_sidt, in);
    in.base = REG_RIP;
    in.disp = 0x107;
    EXITS(EXIT_GDTR_IDTR_ACCESS, 0x1107, h_sgdt, in);
    cpu.core.rbx = 0xffff800000001000;
    in = bench_memory(OSZ_8, 0, 0x234);
    in.base = REG_RBX;
    EXITS(EXIT_INVLPG, 0xffff800000001234, h_invlpg, in);
    EXITS(EXIT_INVPCID, 0x3000, h_invpcid, bench_memory(OSZ_64, 0, 0x3000));
}
END_TEST

START_TEST(plain_exits)
{
    static const struct { const insn_family *family; u32 reason; } plain[] = {
        {&h_cpuid, EXIT_CPUID},   {&h_hlt, EXIT_HLT},       {&h_invd, EXIT_INVD},   {&h_wbinvd, EXIT_WBINVD},
        {&h_rdtsc, EXIT_RDTSC},   {&h_rdtscp, EXIT_RDTSCP}, {&h_rdpmc, EXIT_RDPMC}, {&h_pause, EXIT_PAUSE},
        {&h_rdrand, EXIT_RDRAND}, {&h_rdseed, EXIT_RDSEED}, {&h_rdmsr, EXIT_RDMSR}, {&h_wrmsr, EXIT_WRMSR},
    };
    cpu.core.rcx = 0x99999999;
    cpu.core.rax = 5;
    cpu.core.rdx = 7;
    for (size_t n = 0; n < ARRAY_SIZE(plain); n++)
        EXITS(plain[n].reason, 0, *plain[n].family, bench_insn(OSZ_32));
    ck_assert_uint_eq(hypervisor.ask.number, 0x99999999);
    ck_assert_uint_eq(hypervisor.ask.value, 0x700000005);
    cpu.sys.cr4 |= CR4_OSXSAVE;
    EXITS(EXIT_XSETBV, 0, h_xsetbv, bench_insn(OSZ_32));
    EXITS(EXIT_XSAVES, 0x3000, h_xsaves, bench_memory(OSZ_32, 0, 0x3000));
    EXITS(EXIT_XRSTORS, 0x3000, h_xrstors, bench_memory(OSZ_32, 0, 0x3000));
    bench_model("base,+monitor");
    cpu.sys.misc_enable |= MISC_ENABLE_MONITOR;
    EXITS(EXIT_MONITOR, 0, h_monitor, bench_insn(OSZ_32));
    EXITS(EXIT_MWAIT, 0, h_mwait, bench_insn(OSZ_32));
    cpu.event.monitor_armed = 1;
    EXITS(EXIT_MWAIT, 1, h_mwait, bench_insn(OSZ_32));
}
END_TEST

START_TEST(io_qualifications)
{
    struct insn in = bench_insn(OSZ_8);
    in.imm = 0x70;
    EXITS(EXIT_IO_INSTRUCTION, 0 | 1 << 6 | 0x70ull << 16, h_out_imm, in);
    EXITS(EXIT_IO_INSTRUCTION, 0 | 1 << 3 | 1 << 6 | 0x70ull << 16, h_in_imm, in);
    cpu.core.rdx = 0xcf8;
    EXITS(EXIT_IO_INSTRUCTION, 3 | 1 << 3 | 0xcf8ull << 16, h_in_dx, bench_insn(OSZ_32));
    ck_assert_uint_eq(hypervisor.ask.number, 0xcf8);
    ck_assert_uint_eq(hypervisor.ask.size, 4);
    in = bench_insn(OSZ_16);
    in.flags |= INSN_REP;
    cpu.core.rcx = 2;
    cpu.core.rdi = 0x40000000;                             /* not mapped: the exit comes first */
    EXITS(EXIT_IO_INSTRUCTION, 1 | 1 << 3 | 1 << 4 | 1 << 5 | 0xcf8ull << 16, h_ins, in);
    ck_assert_uint_eq(hypervisor.ask.la, 0x40000000);
    cpu.core.rsi = 0x5000;
    EXITS(EXIT_IO_INSTRUCTION, 1 | 1 << 4 | 1 << 5 | 0xcf8ull << 16, h_outs, in);
    cpu.core.rcx = 0;
    hypervisor.asked = 0;
    RETIRES(h_outs, in);                                   /* nothing to do: no exit */
    ck_assert_uint_eq(hypervisor.asked, 0);
    /* The bitmap in the TSS decides before the hypervisor does. */
    bench_long_mode(3);
    store16(bus.ram + BENCH_TSS + 102, 104);
    memset(bus.ram + BENCH_TSS + 104, 0xff, 0x400);
    RAISES(EXC_GP, h_in_dx, bench_insn(OSZ_32));
    ck_assert_uint_eq(hypervisor.asked, 0);
}
END_TEST

/* Privilege comes before the exit, and so do the conditions that make an instruction undefined. */
START_TEST(what_comes_before_the_exit)
{
    cpu.vmx.frame[0].vmcs.secondary_controls = 0;
    cpu.sys.cr4 |= CR4_OSXSAVE;
    RAISES(EXC_UD, h_rdtscp, bench_insn(OSZ_32));
    RAISES(EXC_UD, h_rdpid, bench_registers(OSZ_64, 0, 0));
    RAISES(EXC_UD, h_invpcid, bench_memory(OSZ_64, 0, 0x3000));
    RAISES(EXC_UD, h_xsaves, bench_memory(OSZ_64, 0, 0x3000));
    RAISES(EXC_UD, h_xrstors, bench_memory(OSZ_64, 0, 0x3000));
    cpu.vmx.frame[0].vmcs.secondary_controls = ~0u;
    cpu.vmx.frame[0].vmcs.primary_controls = 0;            /* not activated */
    RAISES(EXC_UD, h_rdtscp, bench_insn(OSZ_32));
    cpu.vmx.frame[0].vmcs.primary_controls = 1ull << 31;
    cpu.sys.cr4 &= ~(u64)CR4_OSXSAVE;
    RAISES(EXC_UD, h_xsetbv, bench_insn(OSZ_32));
    RAISES(EXC_UD, h_mov_to_cr, bench_registers(OSZ_64, 1, 0));
    bench_long_mode(3);
    RAISES(EXC_GP, h_mov_to_cr, bench_registers(OSZ_64, 0, 0));
    RAISES(EXC_GP, h_hlt, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_rdmsr, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_invlpg, bench_memory(OSZ_8, 0, 0x3000));
    RAISES(EXC_GP, h_lgdt, bench_memory(OSZ_64, 0, 0x3000));
    cpu.sys.cr4 |= CR4_TSD;
    RAISES(EXC_GP, h_rdtsc, bench_insn(OSZ_32));
    ck_assert_uint_eq(hypervisor.asked, 0);
}
END_TEST

START_TEST(owned_bits_stay)
{
    hypervisor.exit = false;
    hypervisor.cr0_owned = CR0_NE | CR0_CD;
    cpu.core.rax = cpu.sys.cr0 & ~(u64)CR0_NE;
    cpu.core.rax |= CR0_MP | CR0_CD;
    RETIRES(h_mov_to_cr, bench_registers(OSZ_64, 0, REG_RAX));
    ck_assert_uint_eq(cpu.sys.cr0 & (CR0_NE | CR0_MP | CR0_CD), CR0_NE | CR0_MP);
    hypervisor.cr0_owned = 0;
    hypervisor.cr0_fixed = CR0_NE;
    RAISES(EXC_GP, h_mov_to_cr, bench_registers(OSZ_64, 0, REG_RAX));
    hypervisor.cr4_fixed = CR4_VMXE;
    cpu.core.rax = cpu.sys.cr4;
    RAISES(EXC_GP, h_mov_to_cr, bench_registers(OSZ_64, 4, REG_RAX));
    /* vmx/ hears what software meant to write to CR4, once it is done. */
    ck_assert_uint_eq(hypervisor.cr4_noted, 0);
    hypervisor.cr4_fixed = 0;
    hypervisor.cr4_owned = CR4_PGE;
    cpu.core.rax |= CR4_PGE;
    RETIRES(h_mov_to_cr, bench_registers(OSZ_64, 4, REG_RAX));
    ck_assert_uint_eq(hypervisor.cr4_noted, cpu.core.rax);
    ck_assert_uint_eq(cpu.sys.cr4, cpu.core.rax & ~(u64)CR4_PGE);
    /* CLTS where the hypervisor owns TS does nothing. */
    cpu.sys.cr0 |= CR0_TS;
    hypervisor.cr0 = cpu.sys.cr0;
    hypervisor.cr0_owned = CR0_TS;
    RETIRES(h_clts, bench_insn(OSZ_32));
    ck_assert(cpu.sys.cr0 & CR0_TS);
    hypervisor.cr0_owned = 0;
    RETIRES(h_clts, bench_insn(OSZ_32));
    ck_assert(!(cpu.sys.cr0 & CR0_TS));
}
END_TEST

/* RDMSRLIST and WRMSRLIST: each pair that is done leaves RCX; the frame's control; alignment; exits name the MSR. */
START_TEST(msr_lists)
{
    struct insn in;
    hypervisor.exit = false;
    cpu.vmx.frame[0].vmcs.primary_controls = 0;
    in = bench_insn(OSZ_32);
    RAISES(EXC_UD, h_rdmsrlist, in);
    cpu.vmx.frame[0].vmcs.primary_controls = 1u << 17;
    cpu.vmx.frame[0].vmcs.tertiary_controls = 1u << 6;
    cpu.core.rsi = 0x20000;
    cpu.core.rdi = 0x21000;
    bench_poke64(0x20000 + 8 * 3, 0x277);
    bench_poke64(0x20000 + 8 * 63, 0xc0000082);
    cpu.sys.pat = 0x0606060606060606ull;
    cpu.sys.lstar = 0x1234;
    cpu.core.rcx = BIT(3) | BIT(63);
    hypervisor.asked = 0;
    RETIRES(h_rdmsrlist, in);
    ck_assert_uint_eq(cpu.core.rcx, 0);
    ck_assert_uint_eq(hypervisor.asked, 2);
    ck_assert_uint_eq(hypervisor.ask.number, 0xc0000082);
    ck_assert_uint_eq(bench_peek64(0x21000 + 8 * 3), 0x0606060606060606ull);
    ck_assert_uint_eq(bench_peek64(0x21000 + 8 * 63), 0x1234);
    /* The second value is refused: the first is written, and RCX says where it stands. */
    bench_poke64(0x20000 + 8 * 4, 0x277);
    bench_poke64(0x21000 + 8 * 3, 0x0404040404040404ull);
    bench_poke64(0x21000 + 8 * 4, 2);
    cpu.core.rcx = BIT(3) | BIT(4);
    RAISES(EXC_GP, h_wrmsrlist, in);
    ck_assert_uint_eq(cpu.core.rcx, BIT(4));
    ck_assert_uint_eq(cpu.sys.pat, 0x0404040404040404ull);
    bench_poke64(0x20000 + 8 * 4, 1ull << 32 | 0x277);
    RAISES(EXC_GP, h_rdmsrlist, in);
    cpu.core.rsi |= 4;
    RAISES(EXC_GP, h_rdmsrlist, in);
    cpu.core.rsi &= ~7ull;
    hypervisor.exit = true;
    cpu.core.rcx = BIT(63);
    ck_assert_int_eq(bench_run_insn(h_wrmsrlist, in), FLOW_EXIT);
    ck_assert_uint_eq(hypervisor.ask.reason, EXIT_WRMSRLIST);
    ck_assert_uint_eq(hypervisor.ask.qualification, 0xc0000082);
    ck_assert_uint_eq(cpu.core.rcx, BIT(63));
}
END_TEST

START_TEST(virtual_tpr)
{
    hypervisor.exit = false;
    hypervisor.tpr_shadow = true;
    board.tpr = 0x30;
    cpu.core.rax = 7;
    RETIRES(h_mov_to_cr, bench_registers(OSZ_64, 8, REG_RAX));
    ck_assert_uint_eq(hypervisor.tpr, 0x70);
    ck_assert_uint_eq(board.tpr, 0x30);
    RETIRES(h_mov_from_cr, bench_registers(OSZ_64, 8, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, 7);
    hypervisor.tpr_shadow = false;
    RETIRES(h_mov_from_cr, bench_registers(OSZ_64, 8, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, 3);
}
END_TEST

START_TEST(guests_see_their_own_time)
{
    hypervisor.exit = false;
    hypervisor.tsc_added = 500;
    board.tsc = 1000;
    RETIRES(h_rdtsc, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rax, 1500);
    cpu.core.rcx = MSR_IA32_TIME_STAMP_COUNTER;
    RETIRES(h_rdmsr, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rax, 1500);
    cpu.vmx.depth = 0;
    RETIRES(h_rdtsc, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rax, 1000);
}
END_TEST

START_TEST(vmx_comes_first_for_its_msrs)
{
    hypervisor.exit = false;
    hypervisor.msr = 0x277;
    hypervisor.msr_value = 0x123400005678;
    cpu.core.rcx = 0x277;
    RETIRES(h_rdmsr, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rax, 0x5678);
    ck_assert_uint_eq(cpu.core.rdx, 0x1234);
    cpu.core.rax = 0x99;
    RETIRES(h_wrmsr, bench_insn(OSZ_32));
    ck_assert_uint_eq(hypervisor.msr_value, 0x123400000099);
    READS(0x277, 0x0007040600070406);
    cpu.core.rax = 0x2bad;
    RETIRES(h_cpuid, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rcx, 0xf117e4ed);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {control_register_qualifications,
                                  debug_register_qualifications,
                                  table_and_address_qualifications,
                                  plain_exits,
                                  io_qualifications,
                                  what_comes_before_the_exit,
                                  owned_bits_stay,
                                  virtual_tpr, msr_lists,
                                  guests_see_their_own_time,
                                  vmx_comes_first_for_its_msrs};
    return bench_run_with("intercept", tests, ARRAY_SIZE(tests), setup);
}
