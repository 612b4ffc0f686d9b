/* A CPU on a bench: RAM, a board that keeps notes, and ways to put it into a mode without running a boot. For the
 * suites of system registers and instructions.
 */
#ifndef NESTOR_TESTS_BENCH_CPU_H
#define NESTOR_TESTS_BENCH_CPU_H

#include "cpu/flags.h"
#include "cpu/insn.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/msr.h"
#include "mmu/access.h"
#include "mmu/bus.h"
#include "mmu/tlb.h"
/* A suite that replaces functions of vmx/ cannot have the table, which needs them all: it defines BENCH_WITHOUT_TABLE. */
#ifdef BENCH_WITHOUT_TABLE
#define rows_note_family(family) ((void)(family))
#else
#include "tests/rows.h"
#endif
#include "tests/suite.h"
#include "vmx/vmx.h"

#include <stdio.h>

#define BENCH_RAM (4u << 20)
#define BENCH_TABLES 0x100000u             /* page tables: identity map of the first GiB */
#define BENCH_TSS 0x8000u

static struct cpu cpu;
static struct bus bus;

/* The board */
static struct {
    u64 tsc, deadline, apic_base, random;
    u32 apic_msr;
    u8 tpr;
    bool refuse;
} board;

static inline u64 board_tsc(void *arg, struct cpu *c) { (void)arg, (void)c; return board.tsc; }
static inline u8 board_tpr_get(void *arg, struct cpu *c) { (void)arg, (void)c; return board.tpr; }
static inline void board_tpr_set(void *arg, struct cpu *c, u8 tpr) { (void)arg, (void)c; board.tpr = tpr; }
static inline bool board_apic_read(void *arg, struct cpu *c, u32 msr, u64 *value)
{
    (void)arg, (void)c;
    board.apic_msr = msr;
    *value = msr == MSR_IA32_TSC_DEADLINE ? board.deadline : 0x1234;
    return !board.refuse;
}
static inline bool board_apic_write(void *arg, struct cpu *c, u32 msr, u64 value)
{
    (void)arg, (void)c;
    board.apic_msr = msr;
    if (msr == MSR_IA32_TSC_DEADLINE)
        board.deadline = value;
    return !board.refuse;
}
static inline bool board_apic_base(void *arg, struct cpu *c, u64 value)
{
    (void)arg, (void)c;
    board.apic_base = value;
    return !board.refuse;
}
static inline u64 board_random(void *arg, struct cpu *c) { (void)arg, (void)c; return board.random; }

static const struct cpu_board bench_board = {
    .tsc = board_tsc, .tpr_get = board_tpr_get, .tpr_set = board_tpr_set, .apic_msr_read = board_apic_read,
    .apic_msr_write = board_apic_write, .apic_base_write = board_apic_base, .random = board_random,
};

static inline void bench_model(const char *text)
{
    char message[200];
    ck_assert_msg(cpu_model_set(&cpu, text, message, sizeof message), "%s", message);
}

static inline void bench_teardown(void)
{
    tlb_free(&cpu);
    bus_free(&bus);
}

/* Just out of reset; a test may call it again, for a bench like new. */
static inline void bench_setup(void)
{
    bench_teardown();
    memset(&cpu, 0, sizeof cpu);
    memset(&board, 0, sizeof board);
    ck_assert(bus_init(&bus, BENCH_RAM, BENCH_RAM));
    cpu.bus = &bus;
    cpu.board = &bench_board;
    bench_model("base");
    ck_assert(tlb_init(&cpu));
    cpu_reset(&cpu, false);
}

static inline void bench_poke64(u64 hpa, u64 value) { bus_write(&bus, 0, hpa, 8, value); }
static inline u64 bench_peek64(u64 hpa) { return bus_read(&bus, 0, hpa, 8); }

static inline void bench_flat_segments(bool long_mode, unsigned cpl)
{
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        cpu.seg.s[n] = (struct segment){.limit = 0xffffffff, .selector = (u16)(0x10 | cpl),
                                        .access = AR_P | AR_S | AR_G | AR_DB | cpl << 5 | AR_WRITABLE | AR_ACCESSED};
    cpu.seg.s[SEG_CS].access =
        AR_P | AR_S | AR_G | cpl << 5 | AR_CODE | AR_READABLE | AR_ACCESSED | (long_mode ? AR_L : AR_DB);
    cpu.seg.s[SEG_TR] =
        (struct segment){.base = BENCH_TSS, .limit = 0x67 + 0x2000, .selector = 0x40, .access = AR_P | 11};
}

/* 64-bit code at a privilege level, the first GiB mapped to itself for user and supervisor. */
static inline void bench_long_mode(unsigned cpl)
{
    bench_poke64(BENCH_TABLES, (BENCH_TABLES + 0x1000) | 7);
    bench_poke64(BENCH_TABLES + 0x1000, (BENCH_TABLES + 0x2000) | 7);
    for (u64 n = 0; n < 512; n++)
        bench_poke64(BENCH_TABLES + 0x2000 + 8 * n, n << 21 | 0x87);
    cpu.sys.cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP;
    cpu.sys.cr3 = BENCH_TABLES;
    cpu.sys.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    cpu.sys.efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    bench_flat_segments(true, cpl);
    cpu.core.rip = 0x1000;
    cpu_mode_update(&cpu);
}

/* 32-bit protected mode without paging. */
static inline void bench_protected_mode(unsigned cpl)
{
    cpu.sys.cr0 = CR0_PE | CR0_ET | CR0_NE;
    bench_flat_segments(false, cpl);
    cpu.core.rip = 0x1000;
    cpu_mode_update(&cpu);
}

/* ---- instructions without a decoder ---------------------------------------------------------------------------- */

/* The fields of an instruction in the running mode, `length` bytes long; registers and operands are added by the
 * caller. */
static inline struct insn bench_insn(unsigned osz)
{
    static const u8 address_size[] = {[BITS_16] = 1, [BITS_32] = 2, [BITS_64] = 3};
    u32 flags = cpu.mode.code_bits == BITS_64 ? INSN_64 | INSN_FLAT : cpu.mode.code_bits == BITS_16 ? INSN_16 : 0;
    return (struct insn){.length = 3, .osz = (u8)osz, .asz = address_size[cpu.mode.code_bits], .flags = flags,
                         .base = REG_ZERO, .index = REG_ZERO, .seg = SEG_NONE, .arch_seg = SEG_DS};
}
/* With registers in ModRM.reg and ModRM.rm. */
static inline struct insn bench_registers(unsigned osz, unsigned reg, unsigned rm)
{
    struct insn in = bench_insn(osz);
    in.reg = (u8)reg;
    in.rm = (u8)rm;
    return in;
}
/* With a memory operand [disp32] and a register in ModRM.reg. */
static inline struct insn bench_memory(unsigned osz, unsigned reg, i32 address)
{
    struct insn in = bench_registers(osz, reg, 0);
    in.flags |= INSN_MEM;
    in.seg = cpu.mode.code_bits == BITS_64 ? SEG_NONE : SEG_DS;
    in.disp = address;
    return in;
}
static inline enum flow bench_run_insn(const insn_family family, struct insn in)
{
    cpu.event.valid = 0;
    rows_note_family(family);
    return family[(in.flags & INSN_MEM ? 4 : 0) + in.osz](&cpu, &in);
}

/* The instruction retires, or raises this exception with rip unmoved. */
#define RETIRES(family, ...)                                                                                           \
    do {                                                                                                               \
        enum flow flow_ = bench_run_insn(family, __VA_ARGS__);                                                         \
        ck_assert_msg(flow_ == FLOW_NEXT || flow_ == FLOW_END, "flow %d, exception %d", flow_, cpu.event.vector);      \
        cpu.core.rip = 0x1000;                                                                                         \
    } while (0)
#define RAISES(vector_, family, ...)                                                                                   \
    do {                                                                                                               \
        ck_assert_int_eq(bench_run_insn(family, __VA_ARGS__), FLOW_EVENT);                                             \
        ck_assert_int_eq(bench_exception(), vector_);                                                                  \
        ck_assert_uint_eq(cpu.core.rip, 0x1000);                                                                       \
        bench_clear();                                                                                                 \
    } while (0)

/* The exception that the last step raised (vector), or -1. */
static inline int bench_exception(void) { return cpu.event.valid ? cpu.event.vector : -1; }
static inline void bench_clear(void)
{
    cpu.event.valid = 0;
    cpu.event.attention = 0;
}

/* A read or write of an MSR works, or is #GP(0). */
#define READS(msr, expected)                                                                                           \
    do {                                                                                                               \
        u64 value_ = 0;                                                                                                \
        ck_assert_msg(cpu_msr_read(&cpu, msr, &value_), "RDMSR %#x refused", msr);                                     \
        ck_assert_uint_eq(value_, expected);                                                                           \
    } while (0)
#define READ_REFUSED(msr)                                                                                              \
    do {                                                                                                               \
        u64 value_ = 0;                                                                                                \
        ck_assert_msg(!cpu_msr_read(&cpu, msr, &value_), "RDMSR %#x works", msr);                                      \
    } while (0)
#define WRITES(msr, value) ck_assert_msg(cpu_msr_write(&cpu, msr, value), "WRMSR %#x refused", msr)
#define WRITE_REFUSED(msr, value) ck_assert_msg(!cpu_msr_write(&cpu, msr, value), "WRMSR %#x works", msr)

/* main() of a suite out of a list of tests, with a set-up of its own or the plain one. */
static inline int bench_run_with(const char *name, const TTest *const *tests, size_t count, void (*setup)(void))
{
    return suite_run_tests(name, tests, count, setup, bench_teardown, CK_FORK_GETENV);
}
static inline int bench_run(const char *name, const TTest *const *tests, size_t count)
{
    return bench_run_with(name, tests, count, bench_setup);
}

#endif
