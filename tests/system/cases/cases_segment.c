/*
 * Every type of descriptor, present or not, at both privilege levels, with both RPLs: LAR, LSL, VERR, VERW, loads of DS and SS, LLDT, LTR,
 * far JMP and far CALL. The rules below are those of [SDM2]'s operation sections and [SDM3 "Privilege Levels", "Code Segment Type
 * Checking", "Descriptor Validation"], one function an instruction.
 */
#include "harness.h"

#define GP0 "GP(0)"

/* The case's descriptor: its selector, type (bit 4: S), DPL; who asks. */
struct subject { enum mode mode; unsigned type, present, dpl, rpl, cpl; u32 selector; };

static bool is_code(const struct subject *s) { return s->type >= 0x18; }
static bool conforming(const struct subject *s) { return is_code(s) && s->type & 4; }
static bool readable(const struct subject *s) { return s->type >= 0x10 && (!is_code(s) || s->type & 2); }
static bool writable(const struct subject *s) { return s->type >= 0x10 && !is_code(s) && s->type & 2; }
static bool expand_down(const struct subject *s) { return (s->type & 0x1c) == 0x14; }
static bool visible(const struct subject *s) { return conforming(s) || (s->cpl <= s->dpl && s->rpl <= s->dpl); }
static bool long_mode(const struct subject *s) { return s->mode == LONG || s->mode == COMPAT; }
static const char *gp(const struct subject *s) { return text("GP(%x)", (u64)(s->selector & ~3u)); }
static const char *np(const struct subject *s) { return text("NP(%x)", (u64)(s->selector & ~3u)); }
static u32 high(const struct subject *s) { return s->type << 8 | s->dpl << 13 | s->present << 15; }

#define IN_SET(set, type) ((set) >> (type) & 1)

static const char *expect_lar(const struct subject *s)
{
    u32 systems = long_mode(s) ? 0x1a04 : 0x1a3e; /* 2 9 b c; 1 2 3 4 5 9 b c */
    bool valid = (s->type >= 0x10 || IN_SET(systems, s->type)) && visible(s);
    return valid ? text("ok zf=1 ax=%x", (u64)(high(s) | 0xc00000)) : "ok zf=0 ax=55555555";
}

static const char *expect_lsl(const struct subject *s)
{
    u32 systems = long_mode(s) ? 0x0a04 : 0x0a0e; /* 2 9 b; 1 2 3 9 b */
    bool valid = (s->type >= 0x10 || IN_SET(systems, s->type)) && visible(s);
    return valid ? expand_down(s) ? "ok zf=1 ax=fff" : "ok zf=1 ax=fffffff" : "ok zf=0 ax=55555555";
}

static const char *expect_verr(const struct subject *s) { return readable(s) && visible(s) ? "ok zf=1" : "ok zf=0"; }
static const char *expect_verw(const struct subject *s) { return writable(s) && visible(s) ? "ok zf=1" : "ok zf=0"; }
static const char *expect_ds(const struct subject *s)
{
    return !readable(s) || !visible(s) ? gp(s) : !s->present ? np(s) : "ok";
}

static const char *expect_ss(const struct subject *s)
{
    return s->rpl != s->cpl || !writable(s) || s->dpl != s->cpl ? gp(s) : !s->present ? text("SS(%x)", (u64)(s->selector & ~3u)) : "ok";
}

static const char *expect_lldt(const struct subject *s) { return s->cpl ? GP0 : s->type != 2 ? gp(s) : !s->present ? np(s) : "ok"; }
static const char *expect_ltr(const struct subject *s)
{
    return s->cpl ? GP0 : s->type != 9 && (s->type != 1 || long_mode(s)) ? gp(s) : !s->present ? np(s) : "ok";
}

/* A code segment of 32 bits. System descriptors that lead further (gates, TSSs) are cases of their own and not asked for here. */
static const char *expect_jmp(const struct subject *s)
{
    if (!is_code(s) || (conforming(s) ? s->dpl > s->cpl : s->rpl > s->cpl || s->dpl != s->cpl))
        return gp(s);
    return s->present ? text("L3 cs=%x", (u64)((s->selector & ~3u) | s->cpl)) : np(s);
}

static const struct {
    const char *name, *bytes;
    const char *(*expect)(const struct subject *);
    u32 show;
} tests[] = {
    {"lar", "0f 02 c1", expect_lar, SHOW_ZF | SHOW_AX},
    {"lsl", "0f 03 c1", expect_lsl, SHOW_ZF | SHOW_AX},
    {"verr", "0f 00 e1", expect_verr, SHOW_ZF},
    {"verw", "0f 00 e9", expect_verw, SHOW_ZF},
    {"mov-ds", "8e d9", expect_ds, 0},
    {"mov-ss", "8e d1", expect_ss, 0},
    {"lldt", "0f 00 d1", expect_lldt, 0},
    {"ltr", "0f 00 d9", expect_ltr, 0},
    {"jmp", "ff 2f", expect_jmp, SHOW_CS},
    {"call", "ff 1f", expect_jmp, SHOW_CS},
};

static void each_type(enum mode mode, const char *mode_name)
{
    for (unsigned t = 0; t < sizeof(tests) / sizeof(tests[0]); t++)
        for (unsigned i = 0; i < 512; i++) {
            struct subject s = {mode, i & 31, i >> 5 & 1, i >> 6 & 1 ? 3 : 0, i >> 7 & 1 ? 3 : 0, i >> 8 & 1 ? 3 : 0, 0};
            bool jump = tests[t].expect == expect_jmp;
            if ((jump && s.type < 0x10 && IN_SET(0x1a3a, s.type)) || (mode == COMPAT && !s.present))
                continue;
            begin(mode, s.cpl);
            s.selector = X(0) | s.rpl;
            /* LAR leaves bits 19:16 undefined. An expand-down stack begins above its limit. */
            segment(GDT, X(0), 0, expand_down(&s) ? 0 : 0xffff, high(&s) >> 8, F_G | F_D);
            if (s.type < 0x10)
                poke64(GDT + X(0) + 8, 0);
            L.gpr[AX] = 0x55555555;
            L.gpr[CX] = s.selector;
            if (jump) {
                poke32(DATA, LANDING(3));
                poke16(DATA + 4, (u16)s.selector);
            }
            code(tests[t].bytes);
            m.show = tests[t].show;
            const char *expect = tests[t].expect(&s);
            if (jump && expect[0] != 'L')
                m.show = 0;
            run(text("segment/%s-%x-p%d-dpl%d-rpl%d/%s-%d", tests[t].name, (u64)s.type, s.present, s.dpl, s.rpl, mode_name, s.cpl), expect);
        }
}

/* Null, beyond the limit, in the LDT, straddling the limit. */
static void odd_selectors(enum mode mode, const char *mode_name)
{
    static const struct { const char *name; u32 selector; } selectors[] = {
        {"null0", 0}, {"null3", 3}, {"beyond", GDT_BYTES | 0}, {"ffff", 0xffff}, {"ldt-beyond", 0x104}, {"ldt-empty", 0x0c},
    };
    for (unsigned t = 0; t < sizeof(tests) / sizeof(tests[0]); t++)
        for (unsigned i = 0; i < 6; i++)
            for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
                u32 selector = selectors[i].selector;
                bool null = selector < 4;
                begin(mode, cpl);
                L.gpr[AX] = 0x55555555;
                L.gpr[CX] = selector;
                poke32(DATA, LANDING(3));
                poke16(DATA + 4, (u16)selector);
                code(tests[t].bytes);
                const char *expect = text("GP(%x)", (u64)(selector & 0xfffc));
                if (t < 4) {
                    m.show = SHOW_ZF;
                    expect = "ok zf=0";
                } else if (null && t == 4) {
                    expect = "ok";
                } else if (null && t == 5 && mode == LONG && !cpl && selector == 0) {
                    expect = "ok";
                } else if (t == 6 || t == 7) {
                    expect = cpl ? GP0 : null && t == 6 ? "ok" : expect;
                }
                run(text("segment/%s-%s/%s-%d", tests[t].name, selectors[i].name, mode_name, cpl), expect);
            }
}

static void details(void)
{
    /* Loads set the accessed bit; checks do not. */
    static const struct { const char *name, *bytes; u32 after; } accessed[] = {
        {"mov-ds", "8e d9", 0xcf9300}, {"mov-ss", "8e d1", 0xcf9300}, {"lar", "0f 02 c1", 0xcf9200}, {"verw", "0f 00 e9", 0xcf9200},
    };
    for (unsigned i = 0; i < 4; i++) {
        begin(PM32, 0);
        segment(GDT, X(0), 0, 0xfffff, 0x92, F_G | F_D);
        L.gpr[CX] = X(0);
        m.watch = GDT + X(0) + 4;
        m.show = SHOW_MEM;
        code(accessed[i].bytes);
        run(text("segment/accessed-%s/pm32-0", accessed[i].name), text("ok mem=%x", (u64)accessed[i].after));
    }
    static const enum mode modes[] = {PM32, LONG};
    for (unsigned i = 0; i < 2; i++) { /* LTR marks the TSS busy */
        begin(modes[i], 0);
        segment(GDT, X(0), TSS, 0x67, A_TSS32, 0);
        L.gpr[CX] = X(0);
        m.watch = GDT + X(0) + 4;
        m.show = SHOW_MEM | SHOW_TR;
        code("0f 00 d9");
        run(text("segment/ltr-busy/%s", i ? "long" : "pm32"), text("ok tr=%x mem=8b02", (u64)X(0)));
    }
    begin(LONG, 0);                    /* 16-byte descriptors: the upper type bits are 0, the base is canonical, the limit reaches it */
    segment(GDT, X(0), TSS, 0x67, A_TSS32, 0);
    poke32(GDT + X(0) + 12, 0x100);
    L.gpr[CX] = X(0);
    code("0f 00 d9");
    run("segment/ltr-upper-type/long", text("GP(%x)", (u64)X(0)));
    begin(LONG, 0);
    segment(GDT, X(0), TSS, 0x67, A_TSS32, 0);
    poke32(GDT + X(0) + 8, 0x800000);
    L.gpr[CX] = X(0);
    code("0f 00 d9");
    run("segment/ltr-base/long", text("GP(%x)", (u64)X(0)));
    begin(LONG, 0);
    segment(GDT, X(0), LDT, 0xff, A_LDT, 0);
    poke32(GDT + X(0) + 8, 0x800000);
    L.gpr[CX] = X(0);
    code("0f 00 d1");
    run("segment/lldt-base/long", text("GP(%x)", (u64)X(0)));
    begin(LONG, 0);
    segment(GDT, GDT_BYTES - 8, TSS, 0x67, A_TSS32, 0);
    L.gpr[CX] = GDT_BYTES - 8;
    code("0f 00 d9");
    run("segment/ltr-last-8-bytes/long", text("GP(%x)", (u64)GDT_BYTES - 8));
    for (unsigned i = 0; i < 2; i++) { /* LLDT with TI, LTR with TI */
        begin(PM32, 0);
        L.gpr[CX] = 0x0c;
        code(i ? "0f 00 d9" : "0f 00 d1");
        run(text("segment/%s-ti/pm32", i ? "ltr" : "lldt"), "GP(c)");
    }
    begin(PM32, 0);                    /* a selector of an LDT that is not there */
    L.ldt = 0;
    L.gpr[CX] = 0x0c;
    code("8e d9");
    run("segment/no-ldt/pm32", "GP(c)");
    begin(PM32, 3);                    /* a null DS: faults when used; null SS cannot be */
    code("31 c9 8e d9 8b 07");
    run("segment/null-ds-used/pm32", "GP(0)@+4");
    begin(LONG, 3);
    code("31 c9 8e d9 8b 07");
    run("segment/null-ds-used/long", "ok");
    begin(COMPAT, 3);
    code("31 c9 8e d9 8b 07");
    run("segment/null-ds-used/compat", "GP(0)@+4");
    /* ARPL [SDM2]: RPL raised to that of the second operand, ZF tells */
    for (unsigned i = 0; i < 16; i++) {
        begin(PM32, 3);
        L.gpr[AX] = 0x100 | (i & 3);
        L.gpr[CX] = 0x200 | i >> 2;
        code("63 c8");
        m.show = SHOW_AX | SHOW_ZF;
        unsigned result = (i & 3) < i >> 2 ? i >> 2 : i & 3;
        run(text("segment/arpl-%d-%d/pm32", i & 3, i >> 2), text("ok zf=%d ax=%x", (i & 3) < i >> 2, (u64)(0x100 | result)));
    }
    /* LSL counts in pages and bytes; LAR masks */
    begin(PM32, 0);
    segment(GDT, X(0), 0x12345678, 0xabcde, 0x93, F_D);
    L.gpr[CX] = X(0);
    code("0f 03 c1");
    m.show = SHOW_AX;
    run("segment/lsl-bytes/pm32", "ok ax=abcde");
    begin(PM32, 0);
    segment(GDT, X(0), 0x12345678, 0xabcde, 0x93, F_D);
    L.gpr[AX] = 0x77777777;
    L.gpr[CX] = X(0);
    code("66 0f 03 c1");
    m.show = SHOW_AX;
    run("segment/lsl-16/pm32", "ok ax=7777bcde");
    begin(PM32, 0);
    segment(GDT, X(0), 0x12345678, 0xabcde, 0x93, F_D);
    L.gpr[AX] = 0x77777777;
    L.gpr[CX] = X(0);
    code("66 0f 02 c1");
    m.show = SHOW_AX;
    run("segment/lar-16/pm32", "ok ax=77779300");
}

void cases_segment(void)
{
    static const struct { enum mode mode; const char *name; } modes[] = {{PM16, "pm16"}, {PM32, "pm32"}, {COMPAT, "compat"}, {LONG, "long"}};
    for (unsigned i = 0; i < 4; i++) {
        if (modes[i].mode != PM16)
            each_type(modes[i].mode, modes[i].name);
        if (modes[i].mode != PM16)
            odd_selectors(modes[i].mode, modes[i].name);
    }
    details();
}
