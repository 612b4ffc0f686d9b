/* What surrounds the arithmetic: availability by CR0 and CR4, pending x87 exceptions, alignment, pointers,
 * environments and saved states in memory, MXCSR, byte-masked stores. Environments and tags also against the host
 * CPU. */
#include "native.h"

static struct run state;

static void setup(void)
{
    emulator_start();
    memset(&state, 0, sizeof state);
    state.fx.fcw = 0x37f;
    state.fx.mxcsr = 0x1f80;
    state.flags = 2;
}
static void teardown(void) { emulator_stop(); }

/* Runs the bytes; returns the vector of the exception they raised, or -1. */
#define RUN(...) run((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))
static int run(const u8 *code, unsigned length)
{
    enum flow flow = emulate(&state, code, length);
    return flow == FLOW_EVENT ? cpu->event.vector : -1;
}

static const u8 fld1[] = {0xd9, 0xe8}, paddb_mmx[] = {0x0f, 0xfc, 0xc1}, paddb_xmm[] = {0x66, 0x0f, 0xfc, 0xc1},
                addps[] = {0x0f, 0x58, 0xc1}, fwait[] = {0x9b}, emms[] = {0x0f, 0x77}, fninit[] = {0xdb, 0xe3};
#define RUN_ARRAY(a) run(a, sizeof(a))

START_TEST(availability)
{
    u64 cr0 = cpu->sys.cr0, cr4 = cpu->sys.cr4;
    ck_assert_int_eq(RUN_ARRAY(fld1), -1);
    cpu->sys.cr0 = cr0 | CR0_TS;
    ck_assert_int_eq(RUN_ARRAY(fld1), EXC_NM);
    ck_assert_int_eq(RUN_ARRAY(fninit), EXC_NM);
    ck_assert_int_eq(RUN_ARRAY(paddb_mmx), EXC_NM);
    ck_assert_int_eq(RUN_ARRAY(paddb_xmm), EXC_NM);
    ck_assert_int_eq(RUN_ARRAY(fwait), EXC_NM);
    cpu->sys.cr0 = (cr0 & ~(u64)CR0_MP) | CR0_TS;
    ck_assert_int_eq(RUN_ARRAY(fwait), -1);
    cpu->sys.cr0 = cr0 | CR0_EM;
    ck_assert_int_eq(RUN_ARRAY(fld1), EXC_NM);
    ck_assert_int_eq(RUN_ARRAY(fwait), -1);
    ck_assert_int_eq(RUN_ARRAY(paddb_mmx), EXC_UD);
    ck_assert_int_eq(RUN_ARRAY(paddb_xmm), EXC_UD);
    cpu->sys.cr0 = cr0 | CR0_EM | CR0_TS;
    ck_assert_int_eq(RUN_ARRAY(emms), EXC_UD);
    cpu->sys.cr0 = cr0;
    cpu->sys.cr4 = cr4 & ~(u64)CR4_OSFXSR;
    ck_assert_int_eq(RUN_ARRAY(paddb_xmm), EXC_UD);
    ck_assert_int_eq(RUN_ARRAY(paddb_mmx), -1);
    cpu->sys.cr4 = cr4;
}
END_TEST

static unsigned ferr_calls;
static void ferr(void *arg, struct cpu *c) { (void)arg, (void)c, ferr_calls++; }

START_TEST(pending_exception)
{
    static const struct cpu_board board = {.ferr = ferr};
    state.fx.fcw = 0x37b;      /* zero-divide unmasked */
    state.fx.ftw = 0xff;
    state.fx.st[0].mantissa = BIT(63);
    state.fx.st[0].exponent = 0x3fff;
    ck_assert_int_eq(RUN(0xd8, 0xf1), -1);                       /* FDIV ST, ST(1): the exception waits */
    ck_assert_uint_eq(state.fx.fsw, FSW_ZE | FSW_ES | FSW_B);
    ck_assert_uint_eq(state.fx.st[0].exponent, 0x3fff);
    ck_assert_int_eq(RUN_ARRAY(fld1), EXC_MF);
    ck_assert_int_eq(RUN_ARRAY(fwait), EXC_MF);
    ck_assert_int_eq(RUN_ARRAY(paddb_mmx), EXC_MF);
    ck_assert_int_eq(RUN_ARRAY(emms), EXC_MF);
    ck_assert_int_eq(RUN_ARRAY(addps), -1);
    ck_assert_int_eq(RUN(0xdf, 0xe0), -1);                       /* FNSTSW AX */
    ck_assert_uint_eq(state.rax & 0xffff, FSW_ZE | FSW_ES | FSW_B);
    ck_assert_int_eq(RUN(0xd9, 0x3f), -1);                       /* FNSTCW */
    ck_assert_int_eq(RUN(0xd9, 0x2f), EXC_MF);                   /* FLDCW waits */
    /* Without CR0.NE the board is told, and the instruction is tried again. */
    cpu->sys.cr0 &= ~(u64)CR0_NE;
    cpu->board = &board;
    cpu->core.rip = 0x1234;
    ferr_calls = 0;
    ck_assert_int_eq(emulate(&state, fld1, sizeof fld1), FLOW_END);
    ck_assert_uint_eq(ferr_calls, 1);
    ck_assert_uint_eq(cpu->core.rip, 0x1234);
    /* Port 0xf0 asserts IGNNE#: instructions run until the error is cleared. */
    cpu->event.ignne = 1;
    ck_assert_int_ne(emulate(&state, fwait, sizeof fwait), FLOW_END);
    ck_assert_int_ne(emulate(&state, (const u8[]){0xd9, 0xd0}, 2), FLOW_END);    /* FNOP */
    ck_assert_uint_eq(ferr_calls, 1);
    cpu->board = NULL;
    cpu->sys.cr0 |= CR0_NE;
    ck_assert_int_eq(RUN(0xdb, 0xe2), -1);                       /* FNCLEX */
    ck_assert_uint_eq(cpu->event.ignne, 0);
    ck_assert_uint_eq(state.fx.fsw, 0);
    /* Unmasking a set flag makes it pending; masking it again takes it back. */
    state.fx.fsw = FSW_PE;
    state.memory[0] = 0x5f, state.memory[1] = 3;
    state.fx.fcw = 0x37f;
    ck_assert_int_eq(RUN(0xd9, 0x2f), -1);
    ck_assert_uint_eq(state.fx.fsw, FSW_PE | FSW_ES | FSW_B);
    ck_assert_int_eq(RUN_ARRAY(fwait), EXC_MF);
}
END_TEST

START_TEST(alignment)
{
    /* [RDI + 8] */
    ck_assert_int_eq(RUN(0x0f, 0x28, 0x47, 0x08), EXC_GP);       /* MOVAPS */
    ck_assert_int_eq(cpu->event.error, 0);
    ck_assert_int_eq(RUN(0x0f, 0x29, 0x47, 0x08), EXC_GP);
    ck_assert_int_eq(RUN(0x66, 0x0f, 0x6f, 0x47, 0x08), EXC_GP); /* MOVDQA */
    ck_assert_int_eq(RUN(0x66, 0x0f, 0xef, 0x47, 0x08), EXC_GP); /* PXOR */
    ck_assert_int_eq(RUN(0x0f, 0x58, 0x47, 0x08), EXC_GP);       /* ADDPS */
    ck_assert_int_eq(RUN(0x0f, 0x2b, 0x47, 0x08), EXC_GP);       /* MOVNTPS */
    ck_assert_int_eq(RUN(0x0f, 0x10, 0x47, 0x08), -1);           /* MOVUPS */
    ck_assert_int_eq(RUN(0xf3, 0x0f, 0x7f, 0x47, 0x09), -1);     /* MOVDQU */
    ck_assert_int_eq(RUN(0xf2, 0x0f, 0xf0, 0x47, 0x09), -1);     /* LDDQU */
    ck_assert_int_eq(RUN(0xf2, 0x0f, 0x58, 0x47, 0x09), -1);     /* ADDSD */
    ck_assert_int_eq(RUN(0x66, 0x0f, 0x38, 0x20, 0x47, 0x09), -1);        /* PMOVSXBW */
    ck_assert_int_eq(RUN(0x66, 0x0f, 0x3a, 0x63, 0x47, 0x09, 0x00), -1);  /* PCMPISTRI */
    ck_assert_int_eq(RUN(0x0f, 0xfc, 0x47, 0x01), -1);           /* PADDB mm */
}
END_TEST

/* #AC: images lie on boundaries of 4 bytes, with 16-bit operands of 2 [SDM3 "Alignment Requirements by Data Type"]. */
START_TEST(alignment_of_images)
{
    static const struct { u8 opcode, reg; } images[] = {{0xd9, 4}, {0xd9, 6}, {0xdd, 4}, {0xdd, 6}};
    cpu->sys.cr0 |= CR0_AM;
    cpu->mode.cpl = 3;
    for (unsigned i = 0; i < ARRAY_SIZE(images); i++)
        for (u8 at = 0; at < 8; at++) {
            u8 modrm = (u8)(0x47 | images[i].reg << 3);          /* [RDI + disp8] */
            state.flags = 2 | FL_AC;
            memset(state.memory, 0, sizeof state.memory);
            ck_assert_int_eq(RUN(images[i].opcode, modrm, at), at & 3 ? EXC_AC : -1);
            state.flags = 2 | FL_AC;
            ck_assert_int_eq(RUN(0x66, images[i].opcode, modrm, at), at & 1 ? EXC_AC : -1);
            state.flags = 2;
            ck_assert_int_eq(RUN(images[i].opcode, modrm, at), -1);
        }
}
END_TEST

START_TEST(simd_exception)
{
    state.fx.mxcsr = 0x1f80 & ~(1u << 9);                        /* zero-divide unmasked */
    state.fx.xmm[0][0] = 0x3f800000;
    ck_assert_int_eq(RUN(0xf3, 0x0f, 0x5e, 0xc1), EXC_XM);       /* DIVSS xmm0, xmm1 */
    ck_assert_uint_eq(state.fx.mxcsr & 0x3f, 4);
    ck_assert_uint_eq(state.fx.xmm[0][0], 0x3f800000);
    cpu->sys.cr4 &= ~(u64)CR4_OSXMMEXCPT;
    ck_assert_int_eq(RUN(0xf3, 0x0f, 0x5e, 0xc1), EXC_UD);
    cpu->sys.cr4 |= CR4_OSXMMEXCPT;
    /* LDMXCSR and STMXCSR */
    store32(state.memory, 0x00010000);
    ck_assert_int_eq(RUN(0x0f, 0xae, 0x17), EXC_GP);
    store32(state.memory, 0xffff);
    ck_assert_int_eq(RUN(0x0f, 0xae, 0x17), -1);
    ck_assert_uint_eq(state.fx.mxcsr, 0xffff);
    state.fx.mxcsr = 0x1fa0;
    ck_assert_int_eq(RUN(0x0f, 0xae, 0x1f), -1);
    ck_assert_uint_eq(load32(state.memory), 0x1fa0);
}
END_TEST

START_TEST(masked_store)
{
    memset(state.memory, 0xee, sizeof state.memory);
    state.fx.xmm[0][0] = 0x0807060504030201ull;
    state.fx.xmm[0][1] = 0x100f0e0d0c0b0a09ull;
    state.fx.xmm[1][0] = 0x0000800000ff7f00ull;
    state.fx.xmm[1][1] = 0x8000000000000000ull;
    ck_assert_int_eq(RUN(0x66, 0x0f, 0xf7, 0xc1), -1);           /* MASKMOVDQU xmm0, xmm1 */
    static const u8 expected[17] = {0xee, 0xee, 3,    0xee, 0xee, 6,    0xee, 0xee, 0xee,
                                    0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 16,   0xee};
    ck_assert_mem_eq(state.memory, expected, 17);
    state.fx.st[0].mantissa = 0x1122334455667788ull;
    state.fx.st[1].mantissa = 0x8000000000000080ull;
    ck_assert_int_eq(RUN(0x0f, 0xf7, 0xc1), -1);                 /* MASKMOVQ mm0, mm1 */
    ck_assert_uint_eq(state.memory[0], 0x88);
    ck_assert_uint_eq(state.memory[7], 0x11);
    ck_assert_uint_eq(state.memory[1], 0xee);
    ck_assert_uint_eq(state.fx.ftw, 0xff);
}
END_TEST

START_TEST(pointers)
{
    cpu->seg.s[SEG_CS].selector = 0x10;
    cpu->seg.s[SEG_DS].selector = 0x18;
    cpu->feature[FEATURE_ZERO_FCS_FDS / 32] &= ~(1u << FEATURE_ZERO_FCS_FDS % 32);
    cpu->feature[FEATURE_FDP_EXCPTN_ONLY / 32] &= ~(1u << FEATURE_FDP_EXCPTN_ONLY % 32);
    cpu->core.rip = 0x12345678;
    ck_assert_int_eq(RUN(0xdd, 0x47, 0x10), -1);                 /* FLD qword [RDI + 16] */
    ck_assert_uint_eq(cpu->fpu.fop, 0x547);
    ck_assert_uint_eq(cpu->fpu.fip, 0x12345678);
    ck_assert_uint_eq(cpu->fpu.fcs, 0x10);
    ck_assert_uint_eq(cpu->fpu.fdp, ARENA + 16);
    ck_assert_uint_eq(cpu->fpu.fds, 0x18);
    cpu->core.rip = 0x5555;
    ck_assert_int_eq(RUN(0xd9, 0x3f), -1);                       /* FNSTCW is no such instruction */
    ck_assert_uint_eq(cpu->fpu.fip, 0x12345678);
    ck_assert_int_eq(RUN(0xd9, 0xc9), -1);                       /* FXCH has no memory operand */
    ck_assert_uint_eq(cpu->fpu.fip, 0x5555);
    ck_assert_uint_eq(cpu->fpu.fop, 0x1c9);
    ck_assert_uint_eq(cpu->fpu.fdp, ARENA + 16);
    ck_assert_int_eq(RUN(0xd9, 0x37), -1);                       /* FNSTENV */
    ck_assert_uint_eq(load32(state.memory + 12), 0x5555);
    ck_assert_uint_eq(load32(state.memory + 16), 0x01c90010);
    ck_assert_uint_eq(load32(state.memory + 20), ARENA + 16);
    ck_assert_uint_eq(load32(state.memory + 24), 0xffff0018);
    ck_assert_int_eq(RUN(0xdb, 0xe3), -1);                       /* FNINIT */
    ck_assert_uint_eq(cpu->fpu.fip | cpu->fpu.fdp | cpu->fpu.fop | cpu->fpu.fcs | cpu->fpu.fds, 0);
    ck_assert_int_eq(RUN(0xd9, 0x27), -1);                       /* FLDENV */
    ck_assert_uint_eq(cpu->fpu.fip, 0x5555);
    ck_assert_uint_eq(cpu->fpu.fop, 0x1c9);
    ck_assert_uint_eq(cpu->fpu.fcs, 0x10);
    ck_assert_uint_eq(cpu->fpu.fds, 0x18);
    /* Only exceptions set the operand pointer; selectors are kept zero. */
    cpu->feature[FEATURE_ZERO_FCS_FDS / 32] |= 1u << FEATURE_ZERO_FCS_FDS % 32;
    cpu->feature[FEATURE_FDP_EXCPTN_ONLY / 32] |= 1u << FEATURE_FDP_EXCPTN_ONLY % 32;
    cpu->fpu.fdp = 1;
    ck_assert_int_eq(RUN(0xd9, 0x47, 0x10), -1);
    ck_assert_uint_eq(cpu->fpu.fdp, 1);
    ck_assert_uint_eq(cpu->fpu.fcs, 0);
    state.fx.fcw = 0x37e;
    state.fx.fsw = state.fx.ftw = 0;
    store32(state.memory + 16, 0x7fa00000);                      /* a signalling NaN */
    ck_assert_int_eq(RUN(0xd9, 0x47, 0x10), -1);
    ck_assert_uint_eq(cpu->fpu.fdp, ARENA + 16);
}
END_TEST

START_TEST(environment_in_real_mode)
{
    cpu->mode.protected_mode = 0;
    cpu->fpu.fip = 0x12345;
    cpu->fpu.fdp = 0xabcde;
    cpu->fpu.fop = 0x2aa;
    cpu->fpu.fcs = cpu->fpu.fds = 0x100;
    ck_assert_int_eq(RUN(0x66, 0xd9, 0x37), -1);
    static const u16 expected[7] = {0x37f, 0, 0xffff, 0x3345, 0x12aa, 0xccde, 0xa000};
    for (unsigned n = 0; n < 7; n++)
        ck_assert_uint_eq(load16(state.memory + 2 * n), expected[n]);
    ck_assert_int_eq(RUN(0x66, 0xd9, 0x27), -1);
    ck_assert_uint_eq(cpu->fpu.fip, 0x13345);
    ck_assert_uint_eq(cpu->fpu.fop, 0x2aa);
}
END_TEST

#if NATIVE
/* Control, status and tag words as FNSTENV and FNSAVE store them, and what FRSTOR and FLDENV make of random images. */
START_TEST(images_as_the_host)
{
    static const u8 op[4][2] = {{0xd9, 0x37}, {0xd9, 0x27}, {0xdd, 0x37}, {0xdd, 0x27}};
    static const u16 exponents[] = {0, 0x8000, 0x7fff, 0xffff, 0x3fff, 0x1234, 0x7ffe};
    native_start();
    for (unsigned round = 0; round < 8000; round++) {
        struct run before, ours, host;
        const u8 *code = op[round & 1];        /* the environments: a saved state is longer than the test's memory */
        memset(&before, 0, sizeof before);
        before.fx.fcw = (u16)((random64() & 0xf3f) | 0x40);
        before.fx.fsw = (u16)((random64() & 0x7f40) | (random64() & before.fx.fcw & 0x3f));
        before.fx.ftw = (u8)random64();
        before.fx.mxcsr = 0x1f80;
        before.flags = 0x202;
        for (unsigned n = 0; n < 8; n++) {
            before.fx.st[n].mantissa = random_below(4) ? random64() : random_below(2) ? BIT(63) : 0;
            before.fx.st[n].exponent = exponents[random_below(ARRAY_SIZE(exponents))];
        }
        if (round & 1) {
            for (unsigned n = 0; n < 7; n++)
                store32(before.memory + 4 * n, (u32)random64());
            store16(before.memory, (u16)((random64() & 0x1f3f) | 0x40 | 0x3f));
        }
        ours = host = before;
        native_run(&host, code, 2);
        emulate(&ours, code, 2);
        if (!(round & 1)) {
            /* Which pointers the host keeps is its own affair. */
            memset(ours.memory + 12, 0, 16);
            memset(host.memory + 12, 0, 16);
        }
        if (!same_state(&ours, &host, (struct tolerance){0})) {
            show_state("before", &before);
            show_state("nestor", &ours);
            show_state("host", &host);
            ck_abort_msg("%02x %02x differs", code[0], code[1]);
        }
    }
}
END_TEST
#endif

START_TEST(save_and_restore)
{
    u8 image[108];
    for (unsigned n = 0; n < 8; n++) {
        state.fx.st[n].mantissa = BIT(63) | n << 4;
        state.fx.st[n].exponent = (u16)(0x3fff + n);
    }
    state.fx.ftw = 0x3c;
    state.fx.fsw = 3 << 11 | FSW_C3;
    state.fx.fcw = 0xc7f;
    ck_assert_int_eq(RUN(0xdd, 0x37), -1);                       /* FNSAVE */
    memcpy(image, bus.ram + ARENA, sizeof image);
    ck_assert_uint_eq(load32(image), 0xffff0c7f);
    ck_assert_uint_eq(load32(image + 4), 0xffff0000u | 3 << 11 | FSW_C3);
    ck_assert_uint_eq(load32(image + 8), 0xfffff00f);
    for (unsigned n = 0; n < 8; n++) {
        ck_assert_uint_eq(load64(image + 28 + 10 * n), BIT(63) | n << 4);
        ck_assert_uint_eq(load16(image + 28 + 10 * n + 8), 0x3fff + n);
    }
    ck_assert_uint_eq(cpu->fpu.fcw, 0x37f);
    ck_assert_uint_eq(cpu->fpu.fsw, 0);
    ck_assert_uint_eq(cpu->fpu.ftw_full, 0xffff);
    memset(&state.fx.st, 0, sizeof state.fx.st);
    ck_assert_int_eq(RUN(0xdd, 0x27), -1);                       /* FRSTOR */
    ck_assert_uint_eq(state.fx.fcw, 0xc7f);
    ck_assert_uint_eq(state.fx.fsw, 3 << 11 | FSW_C3);
    ck_assert_uint_eq(state.fx.ftw, 0x3c);
    for (unsigned n = 0; n < 3; n++)
        ck_assert_uint_eq(state.fx.st[n].mantissa, BIT(63) | n << 4);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {availability, pending_exception, alignment, alignment_of_images, simd_exception, masked_store, pointers,
                                  environment_in_real_mode, save_and_restore,
#if NATIVE
                                  images_as_the_host,
#endif
    };
    return native_run_suite("x87_state", tests, ARRAY_SIZE(tests), setup, teardown);
}
