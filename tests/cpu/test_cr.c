/* Reset, control registers, EFER and the mode that follows from them. */
#include "tests/cpu/bench_cpu.h"

/* A write is taken, or raises #GP(0) and changes nothing. */
#define TAKES(call) ck_assert_int_eq(call, FLOW_NEXT)
#define GP(call)                                                                                                       \
    do {                                                                                                               \
        struct cpu_sys before_ = cpu.sys;                                                                              \
        bench_clear();                                                                                                 \
        ck_assert_int_eq(call, FLOW_EVENT);                                                                            \
        ck_assert_int_eq(bench_exception(), EXC_GP);                                                                   \
        ck_assert_uint_eq(cpu.event.error, 0);                                                                         \
        ck_assert_mem_eq(&before_, &cpu.sys, sizeof before_);                                                          \
        bench_clear();                                                                                                 \
    } while (0)

START_TEST(reset_state)
{
    ck_assert_uint_eq(cpu.core.rip, 0xfff0);
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].base, 0xffff0000);
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].selector, 0xf000);
    ck_assert_uint_eq(cpu_rflags(&cpu), 2);
    ck_assert_uint_eq(cpu.sys.cr0, 0x60000010);
    ck_assert_uint_eq(cpu.sys.dr6, 0xffff0ff0);
    ck_assert_uint_eq(cpu.sys.dr7, 0x400);
    ck_assert_uint_eq(cpu.sys.xcr0, 1);
    ck_assert_uint_eq(cpu.fpu.mxcsr, 0x1f80);
    ck_assert_uint_eq(cpu.mode.code_bits, BITS_16);
    ck_assert_uint_eq(cpu.mode.paging, PAGING_NONE);
    ck_assert(cpu.mode.real);
    ck_assert_uint_eq(cpu.mode.pa_bits, 46);
    ck_assert_uint_eq(cpu.event.activity, ACTIVITY_ACTIVE);
    ck_assert_uint_eq(cpu.vmx.frame[0].vmcs_ptr, VMX_NO_VMCS);
    cpu.index = 1;
    cpu_reset(&cpu, false);
    ck_assert_uint_eq(cpu.event.activity, ACTIVITY_WAIT_SIPI);
    ck_assert(cpu.event.attention & ATT_ACTIVITY);
}
END_TEST

START_TEST(init_keeps_what_it_must)
{
    bench_long_mode(0);
    cpu.sys.pat = 0x0606060606060606;
    cpu.sys.xcr0 = 3;
    cpu.fpu.mxcsr = 0x1fa0;
    cpu.fpu.v[3][0] = 42;
    cpu.sys.tsc_offset = 7;
    cpu.event.attention = ATT_INTR | ATT_EVENT;
    cpu_reset(&cpu, true);
    ck_assert_uint_eq(cpu.sys.cr0, 0x10);                              /* CD and NW unchanged */
    ck_assert_uint_eq(cpu.sys.efer | cpu.sys.cr4 | cpu.sys.cr3, 0);
    ck_assert_uint_eq(cpu.sys.pat, 0x0606060606060606);
    ck_assert_uint_eq(cpu.sys.xcr0, 3);
    ck_assert_uint_eq(cpu.fpu.mxcsr, 0x1fa0);
    ck_assert_uint_eq(cpu.fpu.v[3][0], 42);
    ck_assert_uint_eq(cpu.sys.tsc_offset, 7);
    ck_assert_uint_eq(cpu.event.attention, ATT_INTR);
    ck_assert(cpu.mode.real);
}
END_TEST

START_TEST(cr0_combinations)
{
    GP(cpu_write_cr0(&cpu, CR0_PG));
    GP(cpu_write_cr0(&cpu, CR0_NW));
    GP(cpu_write_cr0(&cpu, 1ull << 32));
    TAKES(cpu_write_cr0(&cpu, CR0_NW | CR0_CD));
    TAKES(cpu_write_cr0(&cpu, CR0_PE | 1 << 6 | 1 << 17));             /* other reserved bits are ignored */
    ck_assert_uint_eq(cpu.sys.cr0, CR0_PE | CR0_ET);
    ck_assert(cpu.mode.protected_mode);
    TAKES(cpu_write_cr0(&cpu, 0));
    ck_assert_uint_eq(cpu.sys.cr0, CR0_ET);
    ck_assert(cpu.mode.real);
}
END_TEST

START_TEST(long_mode_comes_and_goes)
{
    bench_protected_mode(0);
    cpu.sys.efer = EFER_LME;
    GP(cpu_write_cr0(&cpu, CR0_PE | CR0_PG));                          /* without PAE */
    TAKES(cpu_write_cr4(&cpu, CR4_PAE));
    cpu.seg.s[SEG_CS].access |= AR_L;
    GP(cpu_write_cr0(&cpu, CR0_PE | CR0_PG));                          /* CS.L set */
    cpu.seg.s[SEG_CS].access &= ~(u32)AR_L;
    cpu.seg.s[SEG_TR].access = AR_P | 3;
    GP(cpu_write_cr0(&cpu, CR0_PE | CR0_PG));                          /* 16-bit TSS */
    cpu.seg.s[SEG_TR].access = AR_P | 11;
    TAKES(cpu_write_cr0(&cpu, CR0_PE | CR0_PG));
    ck_assert_uint_eq(cpu.sys.efer, EFER_LME | EFER_LMA);
    ck_assert_uint_eq(cpu.mode.paging, PAGING_4LEVEL);
    ck_assert_uint_eq(cpu.mode.code_bits, BITS_32);
    GP(cpu_write_cr4(&cpu, 0));                                        /* PAE must stay */
    cpu.seg.s[SEG_CS].access = (cpu.seg.s[SEG_CS].access | AR_L) & ~(u32)AR_DB;
    cpu_mode_update(&cpu);
    ck_assert_uint_eq(cpu.mode.code_bits, BITS_64);
    ck_assert_uint_eq(cpu.mode.stack_bits, BITS_64);
    GP(cpu_write_cr0(&cpu, CR0_PE));                                   /* not out of 64-bit code */
    cpu.seg.s[SEG_CS].access &= ~(u32)AR_L;
    cpu_mode_update(&cpu);
    TAKES(cpu_write_cr4(&cpu, CR4_PAE | CR4_PCIDE));
    GP(cpu_write_cr0(&cpu, CR0_PE));                                   /* nor with PCIDs */
    TAKES(cpu_write_cr4(&cpu, CR4_PAE));
    TAKES(cpu_write_cr0(&cpu, CR0_PE));
    ck_assert_uint_eq(cpu.sys.efer, EFER_LME);
    ck_assert_uint_eq(cpu.mode.paging, PAGING_NONE);
}
END_TEST

START_TEST(pdptes_are_loaded_and_checked)
{
    bench_protected_mode(0);
    bench_poke64(0x3000, 0x5001);
    bench_poke64(0x3008, 0x0);
    bench_poke64(0x3010, 0x6001);
    bench_poke64(0x3018, 0x7001);
    cpu.sys.cr3 = 0x3000;
    TAKES(cpu_write_cr4(&cpu, CR4_PAE));
    TAKES(cpu_write_cr0(&cpu, CR0_PE | CR0_PG));
    ck_assert_uint_eq(cpu.mode.paging, PAGING_PAE);
    ck_assert_uint_eq(cpu.sys.pdpte[0], 0x5001);
    ck_assert_uint_eq(cpu.sys.pdpte[3], 0x7001);
    bench_poke64(0x4000, 0x5007);                                      /* R/W and U/S are reserved */
    GP(cpu_write_cr3(&cpu, 0x4000));
    bench_poke64(0x4000, 0x8001);
    TAKES(cpu_write_cr3(&cpu, 0x4000));
    ck_assert_uint_eq(cpu.sys.pdpte[0], 0x8001);
    bench_poke64(0x4000, 0x9001);
    TAKES(cpu_write_cr4(&cpu, CR4_PAE | CR4_PGE));                     /* PGE reloads them */
    ck_assert_uint_eq(cpu.sys.pdpte[0], 0x9001);
}
END_TEST

START_TEST(cr3_and_pcid)
{
    bench_long_mode(0);
    GP(cpu_write_cr3(&cpu, 1ull << 46));
    GP(cpu_write_cr3(&cpu, 1ull << 63 | BENCH_TABLES));                /* no-flush without PCIDs */
    TAKES(cpu_write_cr3(&cpu, BENCH_TABLES | 0x18));
    ck_assert_uint_eq(cpu.sys.cr3, BENCH_TABLES | 0x18);
    GP(cpu_write_cr4(&cpu, cpu.sys.cr4 | CR4_PCIDE));                  /* CR3's low bits are not 0 */
    TAKES(cpu_write_cr3(&cpu, BENCH_TABLES));
    TAKES(cpu_write_cr4(&cpu, cpu.sys.cr4 | CR4_PCIDE));
    TAKES(cpu_write_cr3(&cpu, 1ull << 63 | BENCH_TABLES | 5));
    ck_assert_uint_eq(cpu.sys.cr3, BENCH_TABLES | 5);
    bench_protected_mode(0);
    cpu.sys.efer = 0;
    cpu.sys.cr4 = 0;
    cpu_mode_update(&cpu);
    GP(cpu_write_cr4(&cpu, CR4_PCIDE));                                /* only in IA-32e mode */
}
END_TEST

/* What a page-table change means to the TLB: stale entries stay until the write that flushes them. */
START_TEST(writes_flush_translations)
{
    u32 value = 0;
    bench_long_mode(0);
    cpu.sys.cr4 |= CR4_PGE;
    cpu_mode_update(&cpu);
    bench_poke64(0x3ff000, 1);
    bench_poke64(0x1ff000, 2);
    u64 pde = BENCH_TABLES + 0x2000;
    ck_assert(mem_read32(&cpu, 0x1ff000, &value) && value == 2);
    bench_poke64(pde, 0x200087);                                       /* la 0 now maps to 2 MiB */
    ck_assert(cpu_write_cr3(&cpu, BENCH_TABLES) == FLOW_NEXT);
    ck_assert(mem_read32(&cpu, 0x1ff000, &value) && value == 1);
    bench_poke64(pde, 0x187);                                          /* global, back to 0 */
    ck_assert(cpu_write_cr3(&cpu, BENCH_TABLES) == FLOW_NEXT);
    ck_assert(mem_read32(&cpu, 0x1ff000, &value) && value == 2);
    bench_poke64(pde, 0x200087);
    ck_assert(cpu_write_cr4(&cpu, cpu.sys.cr4 & ~(u64)CR4_PGE) == FLOW_NEXT);
    ck_assert(mem_read32(&cpu, 0x1ff000, &value) && value == 1);
}
END_TEST

START_TEST(write_protection_follows_cr0)
{
    bench_long_mode(0);
    bench_poke64(BENCH_TABLES + 0x2000, 0x85);                         /* read-only */
    ck_assert(!mem_write32(&cpu, 0x5000, 1));
    ck_assert_uint_eq(cpu.fault.kind, FAULT_PAGE);
    TAKES(cpu_write_cr0(&cpu, cpu.sys.cr0 & ~(u64)CR0_WP));
    ck_assert(mem_write32(&cpu, 0x5000, 1));
    TAKES(cpu_write_cr0(&cpu, cpu.sys.cr0 | CR0_WP));
    ck_assert(!mem_write32(&cpu, 0x5000, 1));
}
END_TEST

START_TEST(cr4_takes_what_the_model_has)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        u64 value = 1ull << bit;
        if (value == CR4_PCIDE)
            continue;
        if (value & cpu_cr4_allowed(&cpu))
            TAKES(cpu_write_cr4(&cpu, value));
        else
            GP(cpu_write_cr4(&cpu, value));
    }
    ck_assert_uint_eq(cpu_cr4_allowed(&cpu) & (CR4_SMXE | CR4_CET | CR4_LA57), 0);
    bench_model("base,-umip,-smep,-vmx");
    ck_assert_uint_eq(cpu_cr4_allowed(&cpu) & (CR4_UMIP | CR4_SMEP | CR4_VMXE), 0);
    bench_model("base,+la57");
    bench_long_mode(0);
    GP(cpu_write_cr4(&cpu, cpu.sys.cr4 | CR4_LA57));                   /* not while in IA-32e mode */
}
END_TEST

START_TEST(mode_follows_state)
{
    bench_protected_mode(3);
    ck_assert_uint_eq(cpu.mode.cpl, 3);
    ck_assert_uint_eq(cpu.mode.code_key, BITS_32 | 4);
    cpu_set_rflags(&cpu, FL_VM);
    cpu_mode_update(&cpu);
    ck_assert(cpu.mode.v8086 && !cpu.mode.protected_mode);
    ck_assert_uint_eq(cpu.mode.cpl, 3);
    bench_long_mode(3);
    cpu_set_rflags(&cpu, FL_TF);
    cpu_mode_update(&cpu);
    ck_assert(cpu.event.attention & ATT_STEP);
    cpu_set_rflags(&cpu, FL_AC);
    cpu_mode_update_cpl(&cpu);
    ck_assert(!(cpu.event.attention & ATT_STEP));
    ck_assert(!cpu.tlb_slow);
    cpu.sys.cr0 |= CR0_AM;
    cpu_mode_update(&cpu);
    ck_assert(cpu.tlb_slow);
    cpu_set_rflags(&cpu, 0);
    cpu.sys.dr7 = 0x400 | 1;                                           /* code breakpoint */
    cpu_mode_update(&cpu);
    ck_assert(cpu.event.attention & ATT_STEP && !cpu.tlb_slow);
    cpu.sys.dr7 = 0x400 | 1 | 3 << 16;                                 /* data breakpoint */
    cpu_mode_update(&cpu);
    ck_assert(!(cpu.event.attention & ATT_STEP) && cpu.tlb_slow);
    cpu.sys.dr7 = 0x400 | 1 | 2 << 16;                                 /* I/O breakpoint */
    cpu_mode_update(&cpu);
    ck_assert(!(cpu.event.attention & ATT_STEP) && !cpu.tlb_slow);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {reset_state, init_keeps_what_it_must, cr0_combinations, long_mode_comes_and_goes,
                                  pdptes_are_loaded_and_checked, cr3_and_pcid, writes_flush_translations,
                                  write_protection_follows_cr0, cr4_takes_what_the_model_has, mode_follows_state};
    return bench_run("cr", tests, ARRAY_SIZE(tests));
}
