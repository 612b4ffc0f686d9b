/* System instructions outside VMX: who may run them, what they check, what they do. */
#include "tests/cpu/bench_cpu.h"

START_TEST(control_registers_move)
{
    bench_long_mode(0);
    cpu.core.rbx = cpu.sys.cr4 | CR4_PGE;
    RETIRES(h_mov_to_cr, bench_registers(OSZ_64, 4, REG_RBX));
    RETIRES(h_mov_from_cr, bench_registers(OSZ_64, 4, REG_RCX));
    ck_assert_uint_eq(cpu.core.rcx, cpu.core.rbx);
    cpu.core.rbx = 0xdeadbeefcafe0000;
    RETIRES(h_mov_to_cr, bench_registers(OSZ_64, 2, REG_RBX));
    ck_assert_uint_eq(cpu.sys.cr2, 0xdeadbeefcafe0000);
    RETIRES(h_mov_from_cr, bench_registers(OSZ_64, 3, REG_R15));
    ck_assert_uint_eq(cpu.core.r15, BENCH_TABLES);
    static const unsigned absent[] = {1, 5, 6, 7, 9, 12, 15};
    for (size_t n = 0; n < ARRAY_SIZE(absent); n++) {
        RAISES(EXC_UD, h_mov_to_cr, bench_registers(OSZ_64, absent[n], REG_RBX));
        RAISES(EXC_UD, h_mov_from_cr, bench_registers(OSZ_64, absent[n], REG_RBX));
    }
    cpu.core.rbx = 0x9;
    RETIRES(h_mov_to_cr, bench_registers(OSZ_64, 8, REG_RBX));
    ck_assert_uint_eq(board.tpr, 0x90);
    board.tpr = 0x5f;
    RETIRES(h_mov_from_cr, bench_registers(OSZ_64, 8, REG_RCX));
    ck_assert_uint_eq(cpu.core.rcx, 5);
    cpu.core.rbx = 0x10;
    RAISES(EXC_GP, h_mov_to_cr, bench_registers(OSZ_64, 8, REG_RBX));
    cpu.core.rbx = CR0_PG;
    RAISES(EXC_GP, h_mov_to_cr, bench_registers(OSZ_64, 0, REG_RBX));
    bench_protected_mode(0);
    RAISES(EXC_UD, h_mov_from_cr, bench_registers(OSZ_32, 8, REG_RBX));
}
END_TEST

START_TEST(privilege_is_checked)
{
    bench_long_mode(3);
    RAISES(EXC_GP, h_mov_from_cr, bench_registers(OSZ_64, 0, 0));
    RAISES(EXC_GP, h_mov_to_cr, bench_registers(OSZ_64, 0, 0));
    RAISES(EXC_UD, h_mov_to_cr, bench_registers(OSZ_64, 1, 0));
    RAISES(EXC_GP, h_mov_from_dr, bench_registers(OSZ_64, 0, 0));
    RAISES(EXC_GP, h_clts, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_lmsw, bench_registers(OSZ_16, 0, 0));
    RAISES(EXC_GP, h_lgdt, bench_memory(OSZ_64, 0, 0x2000));
    RAISES(EXC_GP, h_lidt, bench_memory(OSZ_64, 0, 0x2000));
    RAISES(EXC_GP, h_invlpg, bench_memory(OSZ_8, 0, 0x2000));
    RAISES(EXC_GP, h_invpcid, bench_memory(OSZ_64, 0, 0x2000));
    RAISES(EXC_GP, h_invd, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_wbinvd, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_rdmsr, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_wrmsr, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_swapgs, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_hlt, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_rdpmc, bench_insn(OSZ_32));
    RAISES(EXC_UD, h_clac, bench_insn(OSZ_32));
    RAISES(EXC_UD, h_stac, bench_insn(OSZ_32));
    RAISES(EXC_UD, h_monitor, bench_insn(OSZ_32));
    /* These may run at any level … */
    RETIRES(h_rdtsc, bench_insn(OSZ_32));
    RETIRES(h_cpuid, bench_insn(OSZ_32));
    RETIRES(h_smsw, bench_registers(OSZ_64, 0, REG_RAX));
    RETIRES(h_sgdt, bench_memory(OSZ_64, 0, 0x2000));
    /* … until CR4 forbids them. */
    cpu.sys.cr4 |= CR4_UMIP | CR4_TSD;
    RAISES(EXC_GP, h_rdtsc, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_rdtscp, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_smsw, bench_registers(OSZ_64, 0, REG_RAX));
    RAISES(EXC_GP, h_sgdt, bench_memory(OSZ_64, 0, 0x2000));
    RAISES(EXC_GP, h_sidt, bench_memory(OSZ_64, 0, 0x2000));
}
END_TEST

START_TEST(lmsw_and_clts)
{
    bench_protected_mode(0);
    cpu.core.rax = 0xfff0 | CR0_TS | CR0_EM;
    RETIRES(h_lmsw, bench_registers(OSZ_16, 0, REG_RAX));
    ck_assert_uint_eq(cpu.sys.cr0, CR0_PE | CR0_TS | CR0_EM | CR0_ET | CR0_NE);    /* PE is not cleared */
    RETIRES(h_clts, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.sys.cr0 & CR0_TS, 0);
    RETIRES(h_smsw, bench_registers(OSZ_32, 0, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, cpu.sys.cr0);
    cpu.core.rbx = ~0ull;
    RETIRES(h_smsw, bench_registers(OSZ_16, 0, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, 0xffffffffffff0000 | (u16)cpu.sys.cr0);
    bench_poke64(0x2000, CR0_PE | CR0_MP);
    RETIRES(h_lmsw, bench_memory(OSZ_32, 0, 0x2000));
    ck_assert_uint_eq(cpu.sys.cr0 & 0xf, CR0_PE | CR0_MP);
}
END_TEST

START_TEST(debug_registers)
{
    bench_long_mode(0);
    cpu.core.rax = 0x123456789abc;
    RETIRES(h_mov_to_dr, bench_registers(OSZ_64, 3, REG_RAX));
    RETIRES(h_mov_from_dr, bench_registers(OSZ_64, 3, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, 0x123456789abc);
    cpu.core.rax = 0xffffffff;
    RETIRES(h_mov_to_dr, bench_registers(OSZ_64, 4, REG_RAX));                     /* DR6 under its other name */
    ck_assert_uint_eq(cpu.sys.dr6, 0xffffefff);
    cpu.core.rax = 0;
    RETIRES(h_mov_to_dr, bench_registers(OSZ_64, 6, REG_RAX));
    ck_assert_uint_eq(cpu.sys.dr6, 0xffff0ff0);
    cpu.core.rax = 1ull << 32;
    RAISES(EXC_GP, h_mov_to_dr, bench_registers(OSZ_64, 7, REG_RAX));
    RAISES(EXC_GP, h_mov_to_dr, bench_registers(OSZ_64, 6, REG_RAX));
    RAISES(EXC_UD, h_mov_to_dr, bench_registers(OSZ_64, 8, REG_RAX));
    cpu.sys.cr4 |= CR4_DE;
    RAISES(EXC_UD, h_mov_to_dr, bench_registers(OSZ_64, 4, REG_RAX));
    RAISES(EXC_UD, h_mov_from_dr, bench_registers(OSZ_64, 5, REG_RAX));
    cpu.core.rax = 0xffff27ff;                                                     /* everything with GD */
    RETIRES(h_mov_to_dr, bench_registers(OSZ_64, 7, REG_RAX));
    ck_assert_uint_eq(cpu.sys.dr7, 0xffff27ff & ~0x800ull);
    ck_assert_int_eq(bench_run_insn(h_mov_from_dr, bench_registers(OSZ_64, 0, REG_RAX)), FLOW_EVENT);
    ck_assert_int_eq(bench_exception(), EXC_DB);
    ck_assert_uint_eq(cpu.event.payload, 1 << 13);
}
END_TEST

START_TEST(descriptor_tables)
{
    bench_long_mode(0);
    store16(bus.ram + 0x2000, 0x7f);
    store64(bus.ram + 0x2002, 0xffff800000001000);
    RETIRES(h_lgdt, bench_memory(OSZ_64, 0, 0x2000));
    ck_assert_uint_eq(cpu.seg.gdtr.base, 0xffff800000001000);
    ck_assert_uint_eq(cpu.seg.gdtr.limit, 0x7f);
    RETIRES(h_sgdt, bench_memory(OSZ_64, 0, 0x3000));
    ck_assert_mem_eq(bus.ram + 0x3000, bus.ram + 0x2000, 10);
    store64(bus.ram + 0x2002, 0x0001800000001000);
    RAISES(EXC_GP, h_lidt, bench_memory(OSZ_64, 0, 0x2000));
    RAISES(EXC_PF, h_lidt, bench_memory(OSZ_64, 0, 0x40000000));
    bench_protected_mode(0);
    store64(bus.ram + 0x2002, 0xffffffffff123456);
    RETIRES(h_lidt, bench_memory(OSZ_32, 0, 0x2000));
    ck_assert_uint_eq(cpu.seg.idtr.base, 0xff123456);
    RETIRES(h_lidt, bench_memory(OSZ_16, 0, 0x2000));
    ck_assert_uint_eq(cpu.seg.idtr.base, 0x123456);
    memset(bus.ram + 0x3000, 0xcc, 16);
    RETIRES(h_sidt, bench_memory(OSZ_32, 0, 0x3000));
    ck_assert_uint_eq(load64(bus.ram + 0x3000), 0xcccc00123456007f);
}
END_TEST

START_TEST(invpcid_checks)
{
    bench_long_mode(0);
    cpu.core.rax = 4;
    bench_poke64(0x2000, 0);
    bench_poke64(0x2008, 0);
    RAISES(EXC_GP, h_invpcid, bench_memory(OSZ_64, REG_RAX, 0x2000));              /* type */
    for (u64 type = 0; type < 4; type++) {
        cpu.core.rax = type;
        RETIRES(h_invpcid, bench_memory(OSZ_64, REG_RAX, 0x2000));
    }
    bench_poke64(0x2000, 5);
    cpu.core.rax = 1;
    RAISES(EXC_GP, h_invpcid, bench_memory(OSZ_64, REG_RAX, 0x2000));              /* PCID without CR4.PCIDE */
    cpu.sys.cr4 |= CR4_PCIDE;
    cpu_mode_update(&cpu);
    RETIRES(h_invpcid, bench_memory(OSZ_64, REG_RAX, 0x2000));
    bench_poke64(0x2000, 0x1000);
    RAISES(EXC_GP, h_invpcid, bench_memory(OSZ_64, REG_RAX, 0x2000));              /* reserved */
    bench_poke64(0x2000, 5);
    bench_poke64(0x2008, 0x0001000000000000);
    RETIRES(h_invpcid, bench_memory(OSZ_64, REG_RAX, 0x2000));                     /* the address does not matter … */
    cpu.core.rax = 0;
    RAISES(EXC_GP, h_invpcid, bench_memory(OSZ_64, REG_RAX, 0x2000));              /* … but to type 0 */
}
END_TEST

START_TEST(invlpg_drops_one_page)
{
    u32 value = 0;
    bench_long_mode(0);
    store32(bus.ram + 0x1000, 1);
    store32(bus.ram + 0x201000, 2);
    ck_assert(mem_read32(&cpu, 0x1000, &value) && value == 1);
    bench_poke64(BENCH_TABLES + 0x2000, 0x200087);
    RETIRES(h_invlpg, bench_memory(OSZ_8, 0, 0x1234));
    ck_assert(mem_read32(&cpu, 0x1000, &value) && value == 2);
}
END_TEST

START_TEST(msr_instructions)
{
    bench_long_mode(0);
    cpu.core.rcx = 0xdead0000c0000082;                                             /* only ECX counts */
    cpu.core.rax = 0x1111111180001000;
    cpu.core.rdx = 0x22222222ffffffff;
    RETIRES(h_wrmsr, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.sys.lstar, 0xffffffff80001000);
    RETIRES(h_rdmsr, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rax, 0x80001000);
    ck_assert_uint_eq(cpu.core.rdx, 0xffffffff);
    cpu.core.rdx = 0x8000;
    RAISES(EXC_GP, h_wrmsr, bench_insn(OSZ_32));
    cpu.core.rcx = 0x12345;
    RAISES(EXC_GP, h_rdmsr, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_wrmsr, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rdx, 0x8000);
}
END_TEST

START_TEST(microcode_signature)
{
    bench_long_mode(0);
    cpu.core.rcx = MSR_IA32_BIOS_SIGN_ID;
    cpu.core.rax = cpu.core.rdx = 0;
    RETIRES(h_wrmsr, bench_insn(OSZ_32));
    cpu.core.rax = 1;
    RETIRES(h_cpuid, bench_insn(OSZ_32));
    READS(MSR_IA32_BIOS_SIGN_ID, 1ull << 32);
}
END_TEST

START_TEST(time_stamps)
{
    bench_long_mode(3);
    board.tsc = 0x123456789a;
    cpu.sys.tsc_offset = 0x100;
    cpu.sys.tsc_aux = 0x7001;
    cpu.core.rax = cpu.core.rdx = cpu.core.rcx = ~0ull;
    RETIRES(h_rdtsc, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rax, 0x3456799a);
    ck_assert_uint_eq(cpu.core.rdx, 0x12);
    RETIRES(h_rdtscp, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rcx, 0x7001);
    RETIRES(h_rdpid, bench_registers(OSZ_64, 0, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, 0x7001);
}
END_TEST

START_TEST(random_numbers_set_carry_alone)
{
    bench_long_mode(3);
    board.random = 0x1122334455667788;
    cpu_set_rflags(&cpu, FL_OF | FL_SF | FL_ZF | FL_AF | FL_PF | FL_IF);
    cpu.core.rbx = ~0ull;
    struct insn narrow = bench_registers(OSZ_32, 0, REG_RBX);
    narrow.flags |= INSN_OPSIZE;
    RETIRES(h_rdrand, narrow);
    ck_assert_uint_eq(cpu.core.rbx, 0xffffffffffff7788);
    ck_assert_uint_eq(cpu_rflags(&cpu), FL_CF | FL_R1 | FL_IF);
    RETIRES(h_rdseed, bench_registers(OSZ_32, 0, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, 0x55667788);
    RETIRES(h_rdrand, bench_registers(OSZ_64, 0, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, board.random);
}
END_TEST

START_TEST(fs_and_gs_bases)
{
    bench_long_mode(3);
    cpu.core.rax = 0x00007fff12345678;
    RAISES(EXC_UD, h_wrfsbase, bench_registers(OSZ_64, 0, REG_RAX));
    cpu.sys.cr4 |= CR4_FSGSBASE;
    RETIRES(h_wrfsbase, bench_registers(OSZ_64, 0, REG_RAX));
    ck_assert_uint_eq(cpu.seg.s[SEG_FS].base, 0x00007fff12345678);
    RETIRES(h_wrgsbase, bench_registers(OSZ_32, 0, REG_RAX));
    ck_assert_uint_eq(cpu.seg.s[SEG_GS].base, 0x12345678);
    RETIRES(h_rdfsbase, bench_registers(OSZ_32, 0, REG_RBX));
    ck_assert_uint_eq(cpu.core.rbx, 0x12345678);
    cpu.core.rax = 0x0000800000000000;
    RAISES(EXC_GP, h_wrgsbase, bench_registers(OSZ_64, 0, REG_RAX));
    bench_long_mode(0);
    cpu.seg.s[SEG_GS].base = 0x1000;
    cpu.sys.kernel_gs_base = 0x2000;
    RETIRES(h_swapgs, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.seg.s[SEG_GS].base, 0x2000);
    ck_assert_uint_eq(cpu.sys.kernel_gs_base, 0x1000);
}
END_TEST

START_TEST(smap_override)
{
    u32 value;
    bench_long_mode(0);
    cpu.sys.cr4 |= CR4_SMAP;
    cpu_mode_update(&cpu);
    ck_assert(!mem_read32(&cpu, 0x5000, &value));
    RETIRES(h_stac, bench_insn(OSZ_32));
    ck_assert(mem_read32(&cpu, 0x5000, &value));
    RETIRES(h_clac, bench_insn(OSZ_32));
    ck_assert(!mem_read32(&cpu, 0x5000, &value));
}
END_TEST

START_TEST(protection_keys)
{
    u32 value;
    bench_long_mode(3);
    cpu.core.rcx = cpu.core.rdx = 0;
    RAISES(EXC_UD, h_rdpkru, bench_insn(OSZ_32));
    RAISES(EXC_UD, h_wrpkru, bench_insn(OSZ_32));
    cpu.sys.cr4 |= CR4_PKE;
    cpu_mode_update(&cpu);
    ck_assert(mem_read32(&cpu, 0x5000, &value) && mem_write32(&cpu, 0x5000, 1));
    cpu.core.rax = 2;                                                              /* key 0: no writes */
    RETIRES(h_wrpkru, bench_insn(OSZ_32));
    ck_assert(mem_read32(&cpu, 0x5000, &value) && !mem_write32(&cpu, 0x5000, 1));
    cpu.core.rax = 1;
    RETIRES(h_wrpkru, bench_insn(OSZ_32));
    ck_assert(!mem_read32(&cpu, 0x5000, &value));
    RETIRES(h_rdpkru, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rax, 1);
    cpu.core.rcx = 1;
    RAISES(EXC_GP, h_rdpkru, bench_insn(OSZ_32));
    RAISES(EXC_GP, h_wrpkru, bench_insn(OSZ_32));
    cpu.core.rcx = 0;
    cpu.core.rdx = 1;
    RAISES(EXC_GP, h_wrpkru, bench_insn(OSZ_32));
}
END_TEST

START_TEST(hlt_stops_the_cpu)
{
    bench_long_mode(0);
    ck_assert_int_eq(bench_run_insn(h_hlt, bench_insn(OSZ_32)), FLOW_END);
    ck_assert_uint_eq(cpu.core.rip, 0x1003);
    ck_assert_uint_eq(cpu.event.activity, ACTIVITY_HLT);
    ck_assert(cpu.event.attention & ATT_ACTIVITY);
}
END_TEST

START_TEST(monitor_and_mwait)
{
    bench_model("base,+monitor");
    cpu_reset(&cpu, false);
    bench_long_mode(0);
    cpu.core.rax = 0x5010;
    cpu.core.rcx = 1;
    RAISES(EXC_GP, h_monitor, bench_insn(OSZ_32));
    cpu.core.rcx = 0;
    RETIRES(h_monitor, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.event.monitor_hpa, 0x5000);
    ck_assert(cpu.event.monitor_armed);
    cpu.core.rcx = 2;
    RAISES(EXC_GP, h_mwait, bench_insn(OSZ_32));
    cpu.core.rcx = 1;
    RETIRES(h_mwait, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.event.monitor_armed, MONITOR_WAITING | MONITOR_MASKED);
    cpu.core.rax = 0x40000000;
    cpu.core.rcx = 0;
    RAISES(EXC_PF, h_monitor, bench_insn(OSZ_32));
    cpu.sys.misc_enable &= ~(u64)MISC_ENABLE_MONITOR;
    RAISES(EXC_UD, h_mwait, bench_insn(OSZ_32));
}
END_TEST

START_TEST(cache_lines_fault_like_byte_loads)
{
    bench_long_mode(3);
    RETIRES(h_clflush, bench_memory(OSZ_8, 0, 0x5fff));
    RAISES(EXC_PF, h_clflush, bench_memory(OSZ_8, 0, 0x40000000));
    ck_assert_uint_eq(cpu.event.error, 4);
    RETIRES(h_hint, bench_memory(OSZ_32, 0, 0x40000000));
}
END_TEST

/* Outside VMX no control closes them [SDM2 "RDMSRLIST", "WRMSRLIST"]; in it: test_intercept.c. */
START_TEST(msr_lists)
{
    struct insn in;
    bench_long_mode(0);
    in = bench_insn(OSZ_32);
    cpu.core.rsi = 0x20000;
    cpu.core.rdi = 0x21000;
    bench_poke64(0x20000 + 8 * 5, 0x277);
    bench_poke64(0x21000 + 8 * 5, 0x0004040404040404ull);
    cpu.core.rcx = BIT(5);
    RETIRES(h_wrmsrlist, in);
    ck_assert_uint_eq(cpu.core.rcx, 0);
    ck_assert_uint_eq(cpu.sys.pat, 0x0004040404040404ull);
    bench_poke64(0x21000 + 8 * 5, 0);
    cpu.core.rcx = BIT(5);
    RETIRES(h_rdmsrlist, in);
    ck_assert_uint_eq(bench_peek64(0x21000 + 8 * 5), 0x0004040404040404ull);
    ck_assert_uint_eq(cpu.core.rcx, 0);
    cpu.core.rcx = BIT(5);
    cpu.core.rdi |= 4;
    RAISES(EXC_GP, h_rdmsrlist, in);
    bench_long_mode(3);
    cpu.core.rdi = 0x21000;
    RAISES(EXC_GP, h_wrmsrlist, in);
    ck_assert_uint_eq(cpu.core.rcx, BIT(5));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {control_registers_move,
                                  privilege_is_checked,
                                  lmsw_and_clts,
                                  debug_registers,
                                  descriptor_tables,
                                  invpcid_checks,
                                  invlpg_drops_one_page,
                                  msr_instructions,
                                  microcode_signature,
                                  time_stamps,
                                  random_numbers_set_carry_alone,
                                  fs_and_gs_bases,
                                  smap_override,
                                  protection_keys,
                                  hlt_stops_the_cpu,
                                  monitor_and_mwait,
                                  cache_lines_fault_like_byte_loads,
                                  msr_lists};
    return bench_run("system", tests, ARRAY_SIZE(tests));
}
