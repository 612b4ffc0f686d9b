/* RDMSR and WRMSR below VMX: what is stored, what is checked, what does not exist. */
#include "tests/cpu/bench_cpu.h"

START_TEST(unknown_numbers_are_gp)
{
    static const u32 absent[] = {0x2,        0x9b,       0xc9,       0x18e,      0x199,     0x28a, 0x2a0,
                                 0x344,      0x393,      0x428,      0x570,      0x6a1,     0x900, 0xd90,
                                 0x40000000, 0xc0000085, 0xc0000104, 0xc0010015, 0xffffffff};
    for (size_t n = 0; n < ARRAY_SIZE(absent); n++) {
        READ_REFUSED(absent[n]);
        WRITE_REFUSED(absent[n], 0);
        ck_assert_ptr_null(cpu_msr_name(absent[n]));
    }
    ck_assert_str_eq(cpu_msr_name(0xc0000082), "IA32_LSTAR");
    ck_assert_str_eq(cpu_msr_name(0x277), "IA32_PAT");
}
END_TEST

START_TEST(constants_are_read_only)
{
    READS(0x17a, 0);
    READS(0xfe, 0xd0a);
    READS(0x179, 0x50a);
    READS(0x34, 0);
    WRITE_REFUSED(0xfe, 0xd0a);
    WRITE_REFUSED(0x10a, 0);
    WRITE_REFUSED(0x34, 0);
    u64 capabilities = 0;
    ck_assert(cpu_msr_read(&cpu, 0x10a, &capabilities));
    ck_assert(capabilities & 1);                           /* RDCL_NO */
    ck_assert(!(capabilities & 2));                        /* IBRS_ALL comes with spec-ctrl */
    bench_model("base,+spec-ctrl");
    ck_assert(cpu_msr_read(&cpu, 0x10a, &capabilities));
    ck_assert(capabilities & 2);
    bench_model("base,-arch-capabilities");
    READ_REFUSED(0x10a);
}
END_TEST

START_TEST(addresses_must_be_canonical)
{
    static const u32 addresses[] = {0x175, 0x176, 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102};
    for (size_t n = 0; n < ARRAY_SIZE(addresses); n++) {
        WRITES(addresses[n], 0xffff800000000000);
        READS(addresses[n], 0xffff800000000000);
        WRITE_REFUSED(addresses[n], 0x0000800000000000);
        READS(addresses[n], 0xffff800000000000);
    }
    /* The width is the model's, not CR4.LA57's. */
    bench_model("base,+la57");
    WRITES(0xc0000082, 0xff00000000000000);
    WRITE_REFUSED(0xc0000082, 0x0100000000000000);
}
END_TEST

START_TEST(segment_bases_are_the_segments)
{
    WRITES(0xc0000100, 0x1111);
    WRITES(0xc0000101, 0x2222);
    ck_assert_uint_eq(cpu.seg.s[SEG_FS].base, 0x1111);
    ck_assert_uint_eq(cpu.seg.s[SEG_GS].base, 0x2222);
}
END_TEST

START_TEST(pat_takes_memory_types_only)
{
    READS(0x277, 0x0007040600070406);
    WRITES(0x277, 0x0007050600070106);
    for (unsigned n = 0; n < 8; n++)
        for (u64 type = 0; type < 256; type++) {
            bool valid = type <= 1 || (type >= 4 && type <= 7);
            ck_assert_int_eq(cpu_msr_write(&cpu, 0x277, type << (8 * n)), valid);
        }
}
END_TEST

START_TEST(mtrrs_check_types_and_addresses)
{
    WRITES(0x200, 0xc0000006);
    WRITES(0x201, 0x3fffc0000800);
    READS(0x200, 0xc0000006);
    READS(0x201, 0x3fffc0000800);
    WRITE_REFUSED(0x200, 0xc0000002);                      /* type */
    WRITE_REFUSED(0x200, 0xc0000100);                      /* reserved */
    WRITE_REFUSED(0x200, 0x400000000000);                  /* beyond 46 bits */
    WRITE_REFUSED(0x201, 0x3fffc0000801);
    WRITE_REFUSED(0x201, 0x400000000800);
    WRITES(0x213, 0x800);
    READ_REFUSED(0x214);
    static const u32 fixed[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
    for (size_t n = 0; n < ARRAY_SIZE(fixed); n++)
        WRITES(fixed[n], 0x0606060606060600 | n % 2);
    for (size_t n = 0; n < ARRAY_SIZE(fixed); n++)
        READS(fixed[n], 0x0606060606060600 | n % 2);       /* all apart */
    WRITE_REFUSED(0x250, 0x0606060706060606);
    READ_REFUSED(0x251);
    READ_REFUSED(0x267);
    READ_REFUSED(0x270);
    WRITES(0x2ff, 0xc06);
    WRITE_REFUSED(0x2ff, 0x1c06);
    WRITE_REFUSED(0x2ff, 0xc02);
}
END_TEST

START_TEST(tsc_and_adjust_move_together)
{
    board.tsc = 1000;
    READS(0x10, 1000);
    WRITES(0x10, 5000);
    READS(0x10, 5000);
    READS(0x3b, 4000);
    board.tsc = 1500;
    READS(0x10, 5500);
    WRITES(0x3b, 0);
    READS(0x10, 1500);
    WRITES(0x3b, (u64)-500);
    READS(0x10, 1000);
    /* A deadline stands in ticks of the moved TSC, so it is armed anew. */
    board.deadline = 7777;
    board.apic_msr = 0;
    WRITES(0x3b, 5);
    ck_assert_uint_eq(board.apic_msr, MSR_IA32_TSC_DEADLINE);
    ck_assert_uint_eq(board.deadline, 7777);
}
END_TEST

START_TEST(apic_base_has_its_transitions)
{
    u64 base = 0xfee00100;
    READS(0x1b, base | 0x800);
    WRITE_REFUSED(0x1b, base | 0x400);                     /* x2APIC without enable */
    WRITE_REFUSED(0x1b, base | 0x801);
    WRITE_REFUSED(0x1b, base | 0xa00);
    WRITE_REFUSED(0x1b, base | 0x800 | 1ull << 46);
    READ_REFUSED(0x802);                                   /* not in x2APIC mode yet */
    WRITES(0x1b, base | 0xc00);
    ck_assert_uint_eq(board.apic_base, base | 0xc00);
    READS(0x802, 0x1234);
    ck_assert_uint_eq(board.apic_msr, 0x802);
    WRITE_REFUSED(0x1b, base | 0x800);                     /* back to xAPIC only through disabled */
    WRITES(0x1b, base);
    READ_REFUSED(0x802);
    WRITE_REFUSED(0x1b, base | 0xc00);                     /* disabled to x2APIC */
    WRITES(0x1b, base | 0x800);
    board.refuse = true;
    WRITE_REFUSED(0x1b, base);
    READS(0x1b, base | 0x800);
    board.refuse = false;
    bench_model("base,-x2apic");
    WRITE_REFUSED(0x1b, base | 0xc00);
}
END_TEST

START_TEST(efer_rules)
{
    WRITE_REFUSED(0xc0000080, 1 << 12);
    WRITES(0xc0000080, EFER_LME | EFER_NXE | EFER_SCE);
    WRITES(0xc0000080, EFER_LMA);                          /* LMA is ignored */
    READS(0xc0000080, 0);
    bench_long_mode(0);
    WRITE_REFUSED(0xc0000080, EFER_LMA);                   /* LME while paging */
    WRITES(0xc0000080, EFER_LME);
    READS(0xc0000080, EFER_LME | EFER_LMA);
    bench_model("base,-nx");
    WRITE_REFUSED(0xc0000080, EFER_LME | EFER_NXE);
}
END_TEST

START_TEST(machine_check_banks)
{
    WRITES(0x400, ~0ull);
    READS(0x400, ~0ull);
    WRITES(0x401, 0);
    WRITE_REFUSED(0x401, 1);
    WRITE_REFUSED(0x402, 1);
    WRITES(0x427, 0);
    READ_REFUSED(0x428);
    WRITES(0x280, 0x40007fff);
    READS(0x280, 0x40007fff);
    WRITE_REFUSED(0x280, 0x8000);
    WRITES(0x289, 0);
    READ_REFUSED(0x28a);
    WRITES(0x17b, 0);
    WRITE_REFUSED(0x17b, 1);
    READS(0x17b, 0);
}
END_TEST

START_TEST(misc_enable)
{
    u64 value = 0;
    ck_assert(cpu_msr_read(&cpu, 0x1a0, &value));
    ck_assert_uint_eq(value, 0x1801);
    WRITES(0x1a0, value | 1 << 22 | 1ull << 34);
    ck_assert_uint_eq(cpu_efer_allowed(&cpu) & EFER_NXE, 0);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0, 0).eax, 2);
    WRITES(0x1a0, 1);                                      /* read-only bits are kept */
    READS(0x1a0, 0x1801);
    WRITE_REFUSED(0x1a0, 0x1801 | 1 << 18);                /* no MONITOR on this model */
    WRITE_REFUSED(0x1a0, 0x1801 | 1 << 16);
}
END_TEST

START_TEST(flags_bring_their_msrs)
{
    READ_REFUSED(0x48);
    WRITE_REFUSED(0x49, 1);
    bench_model("base,+spec-ctrl");
    WRITES(0x48, 1);
    WRITE_REFUSED(0x48, 8);
    WRITES(0x49, 1);
    READ_REFUSED(0x49);                                    /* write-only */
    WRITES(0xc0000103, 0x80000001);
    WRITE_REFUSED(0xc0000103, 1ull << 32);
    bench_model("base,-rdtscp,-rdpid");
    READ_REFUSED(0xc0000103);
    WRITES(0xda0, 0);
    WRITE_REFUSED(0xda0, 1);
    WRITE_REFUSED(0xda0, 1 << 8);
    bench_model("base,-xsaves");
    READ_REFUSED(0xda0);
    bench_model("base,-tsc-deadline");
    READ_REFUSED(0x6e0);
}
END_TEST

START_TEST(syscall_msrs)
{
    WRITES(0xc0000081, ~0ull);
    READS(0xc0000081, ~0ull);
    WRITES(0xc0000084, 0xffffffff);
    WRITE_REFUSED(0xc0000084, 1ull << 32);
    WRITES(0x174, 0xffffffff);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {unknown_numbers_are_gp,
                                  constants_are_read_only,
                                  addresses_must_be_canonical,
                                  segment_bases_are_the_segments,
                                  pat_takes_memory_types_only,
                                  mtrrs_check_types_and_addresses,
                                  tsc_and_adjust_move_together,
                                  apic_base_has_its_transitions,
                                  efer_rules,
                                  machine_check_banks,
                                  misc_enable,
                                  flags_bring_their_msrs,
                                  syscall_msrs};
    return bench_run("msr", tests, ARRAY_SIZE(tests));
}
