/* FXSAVE, FXRSTOR and the XSAVE family: images, headers, checks. */
#include "tests/cpu/bench_cpu.h"

#define AREA 0x6000

static u8 *area(void) { return bus.ram + AREA; }
static struct insn memory(void) { return bench_memory(OSZ_32, 0, AREA); }

/* A state in which every byte of x87 and SSE differs from its initial one. */
static void fill_state(void)
{
    cpu.fpu.fcw = 0x27f;
    cpu.fpu.fsw = 5 << 11 | 0x4100;
    cpu.fpu.fop = 0x123;
    cpu.fpu.fip = 0x1122334455667788;
    cpu.fpu.fdp = 0x99aabbccddeeff00;
    cpu.fpu.fcs = 0x10;
    cpu.fpu.fds = 0x18;
    cpu.fpu.mxcsr = 0x1fa5;
    static const u16 exponents[8] = {0x3fff, 0, 0x7fff, 0xc000, 0, 0x3fff, 0x4001, 0x1};
    static const u64 mantissas[8] = {1ull << 63, 0, 1ull << 63, 3ull << 62, 5, 7ull << 61, 9ull << 60, 1ull << 63};
    for (unsigned n = 0; n < 8; n++) {
        cpu.fpu.st[n].exponent = exponents[n];
        cpu.fpu.st[n].mantissa = mantissas[n];
    }
    /* R0 valid, R1 zero, R2 special, R3 valid, R4 special (denormal), R5 valid, R6 empty, R7 empty */
    cpu.fpu.ftw_full = (u16)(0 | 1 << 2 | 2 << 4 | 0 << 6 | 2 << 8 | 0 << 10 | 3 << 12 | 3 << 14);
    for (unsigned n = 0; n < 16; n++) {
        cpu.fpu.v[n][0] = 0x0101010101010101 * (n + 1);
        cpu.fpu.v[n][1] = ~cpu.fpu.v[n][0];
    }
}

static void wipe_state(void)
{
    memset(&cpu.fpu, 0x55, sizeof cpu.fpu);
    cpu.fpu.mxcsr = 0x1f80;
}

static void enable_xsave(u64 xcr0)
{
    bench_long_mode(0);
    cpu.sys.cr4 |= CR4_OSXSAVE | CR4_PKE;
    cpu.sys.xcr0 = xcr0;
    cpu_mode_update(&cpu);
    cpu.core.rax = ~0u;
    cpu.core.rdx = ~0u;
}

static u64 header(unsigned word) { return load64(area() + 512 + 8 * word); }

START_TEST(fxsave_image)
{
    bench_long_mode(3);
    fill_state();
    memset(area(), 0xee, 1024);
    RETIRES(h_fxsave, memory());
    ck_assert_uint_eq(load16(area()), 0x27f);
    ck_assert_uint_eq(load16(area() + 2), 5 << 11 | 0x4100);
    ck_assert_uint_eq(area()[4], 0x3f);                                /* not empty: R0-R5 */
    ck_assert_uint_eq(load16(area() + 6), 0x123);
    ck_assert_uint_eq(load64(area() + 8), 0x1055667788);               /* FCS:FIP */
    ck_assert_uint_eq(load64(area() + 16), 0x18ddeeff00);
    ck_assert_uint_eq(load32(area() + 24), 0x1fa5);
    ck_assert_uint_eq(load32(area() + 28), 0xffff);
    ck_assert_uint_eq(load64(area() + 32), cpu.fpu.st[5].mantissa);    /* ST0 is R5 */
    ck_assert_uint_eq(load16(area() + 40), cpu.fpu.st[5].exponent);
    ck_assert_uint_eq(load64(area() + 32 + 48), cpu.fpu.st[0].mantissa);
    ck_assert_uint_eq(load64(area() + 160), cpu.fpu.v[0][0]);
    ck_assert_uint_eq(load64(area() + 160 + 15 * 16 + 8), cpu.fpu.v[15][1]);
    ck_assert_uint_eq(area()[464], 0xee);                              /* software's */
    ck_assert_uint_eq(area()[512], 0xee);
}
END_TEST

START_TEST(fxsave_and_fxrstor_are_inverse)
{
    bench_long_mode(3);
    fill_state();
    struct cpu_fpu before = cpu.fpu;
    RETIRES(h_fxsave, memory());
    wipe_state();
    RETIRES(h_fxrstor, memory());
    before.fip = (u32)before.fip;
    before.fdp = (u32)before.fdp;
    for (unsigned n = 0; n < 32; n++)
        for (unsigned w = 0; w < 8; w++)
            if (n >= 16 || w >= 2)
                before.v[n][w] = 0x5555555555555555;                   /* FXRSTOR leaves the upper halves */
    memset(before.k, 0x55, sizeof before.k);
    for (unsigned n = 0; n < 8; n++)
        memset(before.st[n].pad, 0x55, sizeof before.st[n].pad);
    ck_assert_mem_eq(&before, &cpu.fpu, sizeof before);
    struct insn wide = memory();
    wide.flags |= INSN_REX_W;
    fill_state();
    RETIRES(h_fxsave, wide);
    wipe_state();
    RETIRES(h_fxrstor, wide);
    ck_assert_uint_eq(cpu.fpu.fip, 0x1122334455667788);
    ck_assert_uint_eq(cpu.fpu.fdp, 0x99aabbccddeeff00);
    ck_assert_uint_eq(cpu.fpu.fcs, 0);
}
END_TEST

START_TEST(fxsave_checks)
{
    bench_long_mode(3);
    RAISES(EXC_GP, h_fxsave, bench_memory(OSZ_32, 0, AREA + 8));
    RAISES(EXC_GP, h_fxrstor, bench_memory(OSZ_32, 0, AREA + 8));
    RAISES(EXC_PF, h_fxsave, bench_memory(OSZ_32, 0, 0x40000000));
    cpu.sys.cr0 |= CR0_TS;
    RAISES(EXC_NM, h_fxsave, memory());
    cpu.sys.cr0 |= CR0_EM;
    RAISES(EXC_UD, h_fxrstor, memory());
    cpu.sys.cr0 &= ~(u64)(CR0_TS | CR0_EM);
    memset(area(), 0, 512);
    store32(area() + 24, 0x10000);
    fill_state();
    struct cpu_fpu before = cpu.fpu;
    RAISES(EXC_GP, h_fxrstor, memory());                               /* reserved MXCSR bits */
    ck_assert_mem_eq(&before, &cpu.fpu, sizeof before);
}
END_TEST

START_TEST(eight_registers_outside_64bit_code)
{
    bench_protected_mode(0);
    cpu.sys.cr4 |= CR4_OSFXSR;
    fill_state();
    memset(area(), 0xee, 512);
    RETIRES(h_fxsave, memory());
    ck_assert_uint_eq(load64(area() + 160 + 7 * 16), cpu.fpu.v[7][0]);
    ck_assert_uint_eq(load64(area() + 160 + 8 * 16), 0xeeeeeeeeeeeeeeee);
    wipe_state();
    RETIRES(h_fxrstor, memory());
    ck_assert_uint_eq(cpu.fpu.v[7][0], 0x0808080808080808);
    ck_assert_uint_eq(cpu.fpu.v[8][0], 0x5555555555555555);
}
END_TEST

START_TEST(xsave_merges_its_header)
{
    enable_xsave(0x203);
    fill_state();
    cpu.sys.pkru = 0x55555554;
    memset(area(), 0, 2696);
    store64(area() + 512, 0x204);                                      /* what was there before */
    cpu.core.rax = 3;
    cpu.core.rdx = 0;
    RETIRES(h_xsave, memory());
    ck_assert_uint_eq(header(0), 0x207);                               /* only requested bits change */
    ck_assert_uint_eq(header(1), 0);
    ck_assert_uint_eq(load32(area() + 2688), 0);
    cpu.core.rax = 0x200;
    RETIRES(h_xsave, memory());
    ck_assert_uint_eq(load32(area() + 2688), 0x55555554);
    cpu.sys.pkru = 0;
    cpu.core.rax = ~0u;
    RETIRES(h_xsaveopt, memory());
    ck_assert_uint_eq(header(0), 0x7);                                 /* PKRU is in its initial state … */
    ck_assert_uint_eq(load32(area() + 2688), 0x55555554);              /* … so its image is not written */
    RETIRES(h_xsave, memory());
    ck_assert_uint_eq(load32(area() + 2688), 0);                       /* XSAVE writes it all the same */
}
END_TEST

START_TEST(xrstor_loads_and_initialises)
{
    enable_xsave(0x203);
    fill_state();
    cpu.sys.pkru = 0x14;
    memset(area(), 0, 2696);
    RETIRES(h_xsave, memory());
    struct cpu_fpu saved = cpu.fpu;
    wipe_state();
    cpu.sys.pkru = 0x28;
    RETIRES(h_xrstor, memory());
    ck_assert_uint_eq(cpu.sys.pkru, 0x14);
    ck_assert_mem_eq(cpu.fpu.v[9], saved.v[9], 16);
    ck_assert_uint_eq(cpu.fpu.ftw_full, saved.ftw_full);
    store64(area() + 512, 0);                                          /* all in initial state */
    RETIRES(h_xrstor, memory());
    ck_assert_uint_eq(cpu.fpu.fcw, 0x37f);
    ck_assert_uint_eq(cpu.fpu.ftw_full, 0xffff);
    ck_assert_uint_eq(cpu.fpu.v[9][0] | cpu.fpu.v[9][1], 0);
    ck_assert_uint_eq(cpu.sys.pkru, 0);
    ck_assert_uint_eq(cpu.fpu.mxcsr, 0x1fa5);                          /* the standard form loads it always */
    fill_state();
    cpu.core.rax = 1;
    cpu.core.rdx = 0;
    RETIRES(h_xrstor, memory());
    ck_assert_uint_eq(cpu.fpu.fcw, 0x37f);
    ck_assert_uint_eq(cpu.fpu.v[0][0], 0x0101010101010101);            /* not asked for */
}
END_TEST

START_TEST(compacted_images)
{
    enable_xsave(0x203);
    fill_state();
    cpu.sys.pkru = 0x74;
    memset(area(), 0xee, 2696);
    memset(area() + 528, 0, 48);
    RETIRES(h_xsavec, memory());
    ck_assert_uint_eq(header(0), 0x203);
    ck_assert_uint_eq(header(1), 1ull << 63 | 0x203);
    ck_assert_uint_eq(load64(area() + 576), 0x74);                     /* PKRU follows the header at once */
    ck_assert_uint_eq(area()[584], 0xee);
    cpu.sys.pkru = 0;
    cpu.fpu.mxcsr = 0x1f80;
    memset(cpu.fpu.v, 0, sizeof cpu.fpu.v);
    RETIRES(h_xsavec, memory());
    ck_assert_uint_eq(header(0), 1);
    cpu.fpu.mxcsr = 0x1fa0;
    RETIRES(h_xsavec, memory());
    ck_assert_uint_eq(header(0), 3);                                   /* MXCSR counts as SSE's */
    cpu.sys.pkru = 0x98;
    RETIRES(h_xsaves, memory());
    wipe_state();
    cpu.sys.pkru = 0;
    RETIRES(h_xrstors, memory());
    ck_assert_uint_eq(cpu.sys.pkru, 0x98);
    ck_assert_uint_eq(cpu.fpu.mxcsr, 0x1fa0);
    ck_assert_uint_eq(cpu.fpu.fcw, 0x27f);
    store64(area() + 512, 1);                                          /* SSE initial: MXCSR too, in this form */
    RETIRES(h_xrstor, memory());
    ck_assert_uint_eq(cpu.fpu.mxcsr, 0x1f80);
}
END_TEST

START_TEST(headers_are_checked)
{
    static const struct { u64 xstate_bv, xcomp_bv; unsigned reserved; bool xrstor_ok, xrstors_ok; } images[] = {
        {0x3, 0, 0, true, false},
        {0x203, 0, 0, true, false},
        {0x7, 0, 0, false, false},                                     /* not in XCR0 */
        {0x3, 0, 2, false, false},                                     /* bytes 23:16 */
        {0x3, 0, 3, true, false},                                      /* beyond that the standard form does not look */
        {0x3, 1, 0, false, false},                                     /* XCOMP_BV without its bit 63 */
        {0x3, 1ull << 63 | 3, 0, true, true},
        {0x3, 1ull << 63 | 1, 0, false, false},                        /* not in the area */
        {0x3, 1ull << 63 | 7, 0, false, false},
        {0x3, 1ull << 63 | 3, 7, false, false},
        {1ull << 63, 1ull << 63 | 3, 0, false, false},
    };
    enable_xsave(0x203);
    for (size_t n = 0; n < ARRAY_SIZE(images); n++) {
        memset(area(), 0, 2696);
        store32(area() + 24, 0x1f80);
        store64(area() + 512, images[n].xstate_bv);
        store64(area() + 520, images[n].xcomp_bv);
        if (images[n].reserved)
            area()[512 + 8 * images[n].reserved] = 1;
        bool ok = bench_run_insn(h_xrstor, memory()) != FLOW_EVENT;
        ck_assert_msg(ok == images[n].xrstor_ok, "XRSTOR of image %zu", n);
        cpu.core.rip = 0x1000;
        ok = bench_run_insn(h_xrstors, memory()) != FLOW_EVENT;
        ck_assert_msg(ok == images[n].xrstors_ok, "XRSTORS of image %zu", n);
        cpu.core.rip = 0x1000;
    }
    memset(area(), 0, 2696);
    store32(area() + 24, 0x10000);
    store64(area() + 512, 1);
    RAISES(EXC_GP, h_xrstor, memory());                                /* MXCSR, though XSTATE_BV[1] is 0 */
    cpu.core.rax = 1;
    cpu.core.rdx = 0;
    RETIRES(h_xrstor, memory());                                       /* not asked for */
}
END_TEST

START_TEST(xsave_conditions)
{
    bench_long_mode(0);
    RAISES(EXC_UD, h_xsave, memory());
    RAISES(EXC_UD, h_xgetbv, bench_insn(OSZ_32));
    RAISES(EXC_UD, h_xsetbv, bench_insn(OSZ_32));
    enable_xsave(3);
    cpu.sys.cr0 |= CR0_TS;
    RAISES(EXC_NM, h_xsave, memory());
    RAISES(EXC_NM, h_xrstors, memory());
    cpu.sys.cr0 &= ~(u64)CR0_TS;
    RAISES(EXC_GP, h_xsave, bench_memory(OSZ_32, 0, AREA + 16));
    RAISES(EXC_GP, h_xrstor, bench_memory(OSZ_32, 0, AREA + 16));
    bench_long_mode(3);
    cpu.sys.cr4 |= CR4_OSXSAVE;
    RAISES(EXC_GP, h_xsaves, memory());
    RAISES(EXC_GP, h_xrstors, memory());
    cpu.core.rcx = 0;
    RAISES(EXC_GP, h_xsetbv, bench_insn(OSZ_32));
    RETIRES(h_xsave, memory());
}
END_TEST

/* A write that faults in its middle has written nothing. */
START_TEST(areas_are_probed_first)
{
    enable_xsave(0x203);
    fill_state();
    cpu.sys.pkru = 4;
    bench_poke64(BENCH_TABLES + 0x2008, 0);                            /* 2 MiB and up is absent */
    i32 edge = 0x200000 - 0x240;
    memset(bus.ram + edge, 0xee, 0x240);
    RAISES(EXC_PF, h_xsavec, bench_memory(OSZ_32, 0, edge));
    for (unsigned n = 0; n < 0x240; n++)
        ck_assert_uint_eq(bus.ram[(unsigned)edge + n], 0xee);
}
END_TEST

START_TEST(xcr0_values)
{
    static const struct { u64 value; bool ok;
    } values[] = {
        {1, true},  {3, true},  {0x201, true}, {0x203, true},           {0, false},
        {2, false}, {7, false}, {0xe7, false}, {1ull << 63 | 1, false},
    };
    enable_xsave(1);
    cpu.core.rcx = 0;
    for (size_t n = 0; n < ARRAY_SIZE(values); n++) {
        cpu.core.rax = (u32)values[n].value;
        cpu.core.rdx = values[n].value >> 32;
        bool ok = bench_run_insn(h_xsetbv, bench_insn(OSZ_32)) == FLOW_END;
        cpu.core.rip = 0x1000;
        ck_assert_msg(ok == values[n].ok, "XCR0 = %#llx", (unsigned long long)values[n].value);
    }
    RETIRES(h_xgetbv, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rax, 0x203);
    cpu.core.rcx = 1;
    RAISES(EXC_GP, h_xsetbv, bench_insn(OSZ_32));
    memset(cpu.fpu.v, 0, sizeof cpu.fpu.v);
    RETIRES(h_xgetbv, bench_insn(OSZ_32));
    ck_assert_uint_eq(cpu.core.rax & 0x202, 0);                        /* not in use */
    cpu.core.rcx = 2;
    RAISES(EXC_GP, h_xgetbv, bench_insn(OSZ_32));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {fxsave_image,
                                  fxsave_and_fxrstor_are_inverse,
                                  fxsave_checks,
                                  eight_registers_outside_64bit_code,
                                  xsave_merges_its_header,
                                  xrstor_loads_and_initialises,
                                  compacted_images,
                                  headers_are_checked,
                                  xsave_conditions,
                                  areas_are_probed_first,
                                  xcr0_values};
    return bench_run("xsave", tests, ARRAY_SIZE(tests));
}
