/* IN, OUT, INS, OUTS: permission, sizes, repetition, breakpoints. */
#include "tests/cpu/bench_cpu.h"

/* A device on ports 0x40-0x47 that keeps the last access and counts. */
static struct {
    u64 off, value;
    unsigned size, reads, writes;
    u32 attention_at;          /* raises ATT_INTR at this access */
} device;

static u64 device_read(void *dev, unsigned c, u64 off, unsigned size)
{
    (void)dev, (void)c;
    device.off = off;
    device.size = size;
    if (++device.reads == device.attention_at)
        cpu.event.attention |= ATT_INTR;
    return 0x8877665544332211 + device.reads - 1;
}

static void device_write(void *dev, unsigned c, u64 off, unsigned size, u64 value)
{
    (void)dev, (void)c;
    device.off = off;
    device.size = size;
    device.value = value;
    device.writes++;
}

static const struct bus_ops device_ops = {device_read, device_write};

static void setup(void)
{
    bench_setup();
    memset(&device, 0, sizeof device);
    ck_assert(bus_map_ports(&bus, 0x40, 8, &device_ops, NULL));
}

START_TEST(sizes_and_registers)
{
    bench_long_mode(0);
    cpu.core.rax = ~0ull;
    cpu.core.rdx = 0xabcd0042;
    RETIRES(h_in_dx, bench_insn(OSZ_8));
    ck_assert_uint_eq(cpu.core.rax, 0xffffffffffffff11);
    ck_assert_uint_eq(device.off, 2);
    RETIRES(h_in_dx, bench_insn(OSZ_16));
    ck_assert_uint_eq(cpu.core.rax, 0xffffffffffff2212);
    RETIRES(h_in_dx, bench_insn(OSZ_64));                              /* REX.W changes nothing */
    ck_assert_uint_eq(cpu.core.rax, 0x44332213);
    ck_assert_uint_eq(device.size, 4);
    cpu.core.rax = 0x1122334455667788;
    struct insn out = bench_insn(OSZ_8);
    out.imm = 0x47;
    RETIRES(h_out_imm, out);
    ck_assert_uint_eq(device.value, 0x88);
    ck_assert_uint_eq(device.off, 7);
    RETIRES(h_out_dx, bench_insn(OSZ_32));
    ck_assert_uint_eq(device.value, 0x55667788);
    cpu.core.rdx = 0x9999;                                             /* nobody there */
    RETIRES(h_in_dx, bench_insn(OSZ_16));
    ck_assert_uint_eq(cpu.core.rax, 0x112233445566ffff);
}
END_TEST

START_TEST(bitmap_decides_beyond_iopl)
{
    bench_long_mode(3);
    cpu.core.rdx = 0x40;
    store16(bus.ram + BENCH_TSS + 102, 104);
    u8 *bitmap = bus.ram + BENCH_TSS + 104;
    RETIRES(h_in_dx, bench_insn(OSZ_32));                              /* all clear: allowed */
    bitmap[8] = 0x08;                                                  /* port 0x43 */
    RETIRES(h_in_dx, bench_insn(OSZ_16));
    RAISES(EXC_GP, h_in_dx, bench_insn(OSZ_32));
    cpu.core.rdx = 0x43;
    RAISES(EXC_GP, h_out_dx, bench_insn(OSZ_8));
    cpu.core.rdx = 0x47;
    bitmap[9] = 0x01;                                                  /* 0x48: in the second byte */
    RAISES(EXC_GP, h_in_dx, bench_insn(OSZ_16));
    RETIRES(h_in_dx, bench_insn(OSZ_8));
    cpu_set_rflags(&cpu, FL_IOPL);
    cpu.core.rdx = 0x43;
    RETIRES(h_out_dx, bench_insn(OSZ_8));
    cpu_set_rflags(&cpu, 0);
    cpu.core.rdx = 0x40;
    cpu.seg.s[SEG_TR].limit = 104 + 8;                                 /* the second byte lies beyond */
    RAISES(EXC_GP, h_in_dx, bench_insn(OSZ_8));
    cpu.seg.s[SEG_TR].limit = 104 + 9;
    RETIRES(h_in_dx, bench_insn(OSZ_8));
    cpu.seg.s[SEG_TR].limit = 102;
    RAISES(EXC_GP, h_in_dx, bench_insn(OSZ_8));
    cpu.seg.s[SEG_TR].limit = 0x2067;
    cpu.seg.s[SEG_TR].access = AR_P | 3;                               /* a 16-bit TSS has no bitmap */
    RAISES(EXC_GP, h_in_dx, bench_insn(OSZ_8));
    bench_long_mode(0);
    RETIRES(h_in_dx, bench_insn(OSZ_8));
    ck_assert_uint_eq(device.writes, 1);
}
END_TEST

static struct insn string_insn(unsigned osz, bool repeated)
{
    struct insn in = bench_insn(osz);
    in.flags |= repeated ? INSN_REP : 0;
    in.seg = SEG_NONE;
    return in;
}

START_TEST(strings_repeat)
{
    bench_long_mode(0);
    cpu.core.rdx = 0x40;
    cpu.core.rdi = 0x5000;
    cpu.core.rcx = 4;
    ck_assert_int_eq(bench_run_insn(h_ins, string_insn(OSZ_16, true)), FLOW_END);
    ck_assert_uint_eq(cpu.core.rip, 0x1003);
    ck_assert_uint_eq(load64(bus.ram + 0x5000), 0x2214221322122211);
    ck_assert_uint_eq(cpu.core.rcx, 0);
    ck_assert_uint_eq(cpu.core.rdi, 0x5008);
    cpu_set_rflags(&cpu, FL_DF);
    cpu.core.rip = 0x1000;
    cpu.core.rsi = 0x5006;
    cpu.core.rcx = 3;
    RETIRES(h_outs, string_insn(OSZ_16, true));
    ck_assert_uint_eq(cpu.core.rsi, 0x5000);
    ck_assert_uint_eq(device.value, 0x2212);
    ck_assert_uint_eq(device.writes, 3);
    cpu.core.rcx = 0;
    RETIRES(h_outs, string_insn(OSZ_8, true));                         /* nothing to do */
    ck_assert_uint_eq(device.writes, 3);
    RETIRES(h_outs, string_insn(OSZ_8, false));                        /* once, whatever rCX */
    ck_assert_uint_eq(device.writes, 4);
    ck_assert_uint_eq(cpu.core.rcx, 0);
}
END_TEST

START_TEST(strings_give_way)
{
    bench_long_mode(0);
    cpu.core.rdx = 0x40;
    cpu.core.rdi = 0x5000;
    cpu.core.rcx = 10;
    device.attention_at = 3;
    ck_assert_int_eq(bench_run_insn(h_ins, string_insn(OSZ_8, true)), FLOW_END);
    ck_assert_uint_eq(cpu.core.rip, 0x1000);                           /* it goes on after the interrupt */
    ck_assert_uint_eq(cpu.core.rcx, 7);
    ck_assert_uint_eq(cpu.core.rdi, 0x5003);
    cpu.event.attention = ATT_STEP;
    ck_assert_int_eq(bench_run_insn(h_ins, string_insn(OSZ_8, true)), FLOW_END);
    ck_assert_uint_eq(cpu.core.rcx, 6);
    cpu.event.attention = 0;
    cpu.core.rcx = 5000;
    cpu.core.rdi = 0x10000;
    ck_assert_int_eq(bench_run_insn(h_ins, string_insn(OSZ_8, true)), FLOW_END);
    ck_assert_uint_eq(cpu.core.rcx, 5000 - 4096);
    ck_assert_uint_eq(cpu.core.rip, 0x1000);
}
END_TEST

/* The port is not read when its value could not be stored; what was done before the fault stays done. */
START_TEST(faults_come_before_the_port)
{
    bench_long_mode(0);
    bench_poke64(BENCH_TABLES + 0x2008, 0);                            /* 2 MiB and up is absent */
    cpu.core.rdx = 0x40;
    cpu.core.rdi = 0x1ffffc;
    cpu.core.rcx = 3;
    RAISES(EXC_PF, h_ins, string_insn(OSZ_16, true));
    ck_assert_uint_eq(device.reads, 2);
    ck_assert_uint_eq(cpu.core.rcx, 1);
    ck_assert_uint_eq(cpu.core.rdi, 0x200000);
}
END_TEST

START_TEST(io_breakpoints_trap)
{
    bench_long_mode(0);
    cpu.core.rdx = 0x42;
    cpu.sys.dr[1] = 0x40;
    cpu.sys.dr7 = 0x400 | 4 | 0xeu << 20;                              /* L1, R/W = 2, four bytes */
    RETIRES(h_in_dx, bench_insn(OSZ_8));
    ck_assert_uint_eq(cpu.event.pending_debug, 0);                     /* not without CR4.DE */
    cpu.sys.cr4 |= CR4_DE;
    RETIRES(h_in_dx, bench_insn(OSZ_8));
    ck_assert_uint_eq(cpu.event.pending_debug & 0xf, 2);
    ck_assert(cpu.event.attention & ATT_PENDING_DB);
    cpu.event.pending_debug = 0;
    cpu.core.rdx = 0x44;
    RETIRES(h_in_dx, bench_insn(OSZ_8));
    ck_assert_uint_eq(cpu.event.pending_debug, 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {sizes_and_registers, bitmap_decides_beyond_iopl, strings_repeat, strings_give_way,
                                  faults_come_before_the_port, io_breakpoints_trap};
    return bench_run_with("io", tests, ARRAY_SIZE(tests), setup);
}
