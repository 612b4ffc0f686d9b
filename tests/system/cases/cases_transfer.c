/*
 * Returns: RETF, IRETD, IRETQ to every type of code segment and stack, to outer rings, the same ring, V8086 mode; what becomes of data
 * segments and flags on the way. [SDM2 "RET", "IRET/IRETD/IRETQ"], [SDM3 "Returning from a Called Procedure"]
 */
#include "harness.h"

enum form { RETF32, IRET32, RETF64, IRET64 };
static const struct { const char *name, *bytes; enum mode mode; } forms[] = {
    {"retf/pm32", "cb", PM32}, {"iret/pm32", "cf", PM32}, {"retf/long", "48 cb", LONG}, {"iret/long", "48 cf", LONG},
};

static unsigned width(enum form f) { return f >= RETF64 ? 8 : 4; }

/* Puts a frame on the case's stack: rip, cs, [flags,] rsp, ss. */
static void frame(enum form f, u64 ip, u32 cs, u64 flags, u64 sp, u32 ss)
{
    L.rsp -= 0x80;
    u64 at = L.rsp, values[5];
    unsigned n = 0;
    values[n++] = ip;
    values[n++] = cs;
    if (f == IRET32 || f == IRET64)
        values[n++] = flags;
    values[n++] = sp;
    values[n++] = ss;
    for (unsigned i = 0; i < n; i++)
        if (width(f) == 8)
            poke64(at + 8 * i, values[i]);
        else
            poke32(at + 4 * i, (u32)values[i]);
}

static void code_types(enum form f)
{
    enum mode mode = forms[f].mode;
    for (unsigned i = 0; i < 512; i++) {
        unsigned type = i & 31, present = i >> 5 & 1, dpl = i >> 6 & 1 ? 3 : 0, rpl = i >> 7 & 1 ? 3 : 0, cpl = i >> 8 & 1 ? 3 : 0;
        begin(mode, cpl);
        /* the landing is a user page, and ring 0 may run it: neither SMEP nor SMAP */
        if (mode == LONG)
            user_pages();
        segment(GDT, X(0), 0, 0xfffff, type | dpl << 5 | present << 7, F_G | (mode == LONG ? F_L : F_D));
        if (type < 0x10)
            poke64(GDT + X(0) + 8, 0);
        u32 selector = X(0) | rpl;
        frame(f, LANDING(6), selector, 2, rpl ? USER_STACK - 0x40 : STACK0 - 0x40, rpl ? DS32_3 : DS32);
        bool is_code = type >= 0x18, conforming = type & 4;
        const char *expect;
        if (!is_code || rpl < cpl || (conforming ? dpl > rpl : dpl != rpl))
            expect = text("GP(%x)", (u64)X(0));
        else if (!present)
            expect = text("NP(%x)", (u64)X(0));
        else
            expect = text("L6 cs=%x", (u64)selector);
        m.show = expect[0] == 'L' ? SHOW_CS : 0;
        code(forms[f].bytes);
        run(text("transfer/%s-to-%x-p%d-dpl%d-rpl%d-%d", forms[f].name, (u64)type, present, dpl, rpl, cpl), expect);
    }
}

static void stack_types(enum form f)
{
    enum mode mode = forms[f].mode;
    for (unsigned i = 0; i < 256; i++) {
        unsigned type = i & 31, present = i >> 5 & 1, dpl = i >> 6 & 1 ? 3 : 0, rpl = i >> 7 & 1 ? 3 : 0;
        begin(mode, 0);
        if (mode == LONG)
            user_pages();
        segment(GDT, X(0), 0, (type & 0x1c) == 0x14 ? 0 : 0xfffff, type | dpl << 5 | present << 7, F_G | F_D);
        if (type < 0x10)
            poke64(GDT + X(0) + 8, 0);
        u32 selector = X(0) | rpl;
        frame(f, LANDING(6), mode == LONG ? CS64_3 : CS32_3, 2, USER_STACK - 0x40, selector);
        bool writable = type >= 0x10 && type < 0x18 && type & 2;
        const char *expect;
        if (rpl != 3 || dpl != 3 || !writable)
            expect = text("GP(%x)", (u64)X(0));
        else if (!present)
            expect = text("SS(%x)", (u64)X(0));
        else
            expect = text("L6 ss=%x sp=%x", (u64)selector, (u64)USER_STACK - 0x40);
        m.show = expect[0] == 'L' ? SHOW_SS | SHOW_SP : 0;
        code(forms[f].bytes);
        run(text("transfer/%s-ss-%x-p%d-dpl%d-rpl%d", forms[f].name, (u64)type, present, dpl, rpl), expect);
    }
    static const struct { const char *name; u32 cs, ss; u64 ip; const char *legacy, *wide; } odd[] = {
        {"cs-null", 0, DS32_3, LANDING(6), "GP(0)", "GP(0)"},
        {"cs-null3", 3, DS32_3, LANDING(6), "GP(0)", "GP(0)"},
        {"cs-beyond", 0x3003, DS32_3, LANDING(6), "GP(3000)", "GP(3000)"},
        {"ss-null", 0, 0, LANDING(6), "GP(0)", "GP(0)"},
        {"ss-null3", 0, 3, LANDING(6), "GP(0)", "GP(0)"},
        {"ss-beyond", 0, 0x3003, LANDING(6), "GP(3000)", "GP(3000)"},
        {"ip-beyond", X(1) | 3, DS32_3, LANDING(6), "GP(0)", "L6"},
        {"ip-not-canonical", 0, DS32_3, 0x800000000000, "-", "GP(0)"},
    };
    for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        const char *expect = mode == LONG ? odd[i].wide : odd[i].legacy;
        if (*expect == '-')
            continue;
        begin(mode, 0);
        if (mode == LONG)
            user_pages();
        segment(GDT, X(1), 0, 0xfff, A_CODE | DPL(3), mode == LONG ? F_L : F_D);
        u32 cs = odd[i].cs || i < 2 ? odd[i].cs : mode == LONG ? CS64_3 : CS32_3;
        frame(f, odd[i].ip, cs, 2, USER_STACK - 0x40, odd[i].ss);
        code(forms[f].bytes);
        run(text("transfer/%s-%s", forms[f].name, odd[i].name), expect);
    }
}

static void details(void)
{
    /* Going out, data segments of inner rings become null; conforming code does not. */
    for (unsigned i = 0; i < 2; i++) {
        begin(PM32, 0);
        segment(GDT, X(0), 0, 0xfffff, 0x9f, F_G | F_D);
        segment(GDT, X(1), 0, 0xfffff, 0xf3, F_G | F_D);
        L.seg[DS] = DS32;
        L.seg[ES] = X(0);
        L.seg[FS] = X(1);
        L.seg[GS] = X(1) | 3;
        frame(i ? IRET32 : RETF32, LANDING(6), CS32_3, 2, USER_STACK - 0x40, DS32_3);
        code(i ? "cf" : "cb");
        m.show = SHOW_DS;
        run(text("transfer/%s-data-segments/pm32", i ? "iret" : "retf"),
            text("L6 ds=0 es=%x fs=%x gs=%x", (u64)X(0), (u64)X(1), (u64)X(1) | 3));
    }
    /* RETF n: both stacks */
    begin(PM32, 0);
    frame(RETF32, LANDING(6), CS32_3, 0, 0, 0);
    poke32(L.rsp + 8 + 0x10, USER_STACK - 0x80);
    poke32(L.rsp + 12 + 0x10, DS32_3);
    code("ca 10 00");
    m.show = SHOW_SP;
    run("transfer/retf-n-outer/pm32", text("L6 sp=%x", (u64)USER_STACK - 0x70));
    begin(PM32, 3);
    frame(RETF32, LANDING(6), CS32_3, 0, 0, 0);
    code("ca 10 00");
    m.show = SHOW_SP;
    run("transfer/retf-n-same/pm32", text("L6 sp=%x", (u64)USER_STACK - 0x80 + 8 + 0x10));
    /* Flags by ring and IOPL [SDM2 "IRET", "POPF"]: IOPL only at ring 0, IF where CPL <= IOPL */
    static const struct { unsigned cpl, iopl; u32 from, to, after; } flags[] = {
        {0, 0, 0x2, 0x3202, 0x3202}, {0, 3, 0x3202, 0x2, 0x2}, {3, 0, 0x202, 0x3002, 0x202}, {3, 0, 0x2, 0x3202, 0x2},
        {3, 3, 0x3202, 0x2, 0x3002}, {3, 3, 0x3002, 0x202, 0x3202}, {3, 3, 0x3002, 0x244202, 0x247202}, {0, 0, 0x2, 0x1c4002, 0x1c4002},
        {3, 0, 0x2, 0x1c0002, 0x40002}, {0, 0, 0x2, 0x244002, 0x244002},
    };
    for (unsigned form = 0; form < 4; form++)
        for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
            bool iret = form & 1, wide = form & 2;
            begin(wide ? LONG : PM32, flags[i].cpl);
            L.rflags = flags[i].from;
            u32 cs = wide ? flags[i].cpl ? CS64_3 : CS64 : flags[i].cpl ? CS32_3 : CS32;
            u32 to = flags[i].to, after = flags[i].after;
            if (iret) {
                if (wide || flags[i].cpl)
                    frame(wide ? IRET64 : IRET32, LANDING(6), cs, to, L.rsp - 0x40, flags[i].cpl ? DS32_3 : DS32);
                else
                    frame(IRET32, LANDING(6), cs, to, 0, 0);
            } else {
                /* POPF leaves VIF and VIP clear, IRET at ring 0 loads them */
                after &= ~(FL_VIF | FL_VIP);
                L.rsp -= 8;
                poke64(L.rsp, to);
            }
            code(iret ? wide ? "48 cf" : "cf" : "9d");
            m.show = SHOW_FL;
            run(text("transfer/%s-flags-%x-to-%x/%s-%d", iret ? "iret" : "popf", (u64)flags[i].from, (u64)to, wide ? "long" : "pm32", flags[i].cpl),
                text("%s fl=%x", iret ? "L6" : "ok", (u64)after | FL_RF) /* UD2 is a fault: its image has RF */);
        }
    /* NT: IRET goes to the linked task, or is refused in long mode */
    begin(LONG, 0);
    L.rflags |= 0;
    code("9c 80 4c 24 01 40 9d 48 cf");
    run("transfer/iret-nt/long-0", "GP(0)@+7");
    begin(COMPAT, 0);
    code("9c 80 4c 24 01 40 9d cf");
    run("transfer/iret-nt/compat-0", "GP(0)@+7");
    begin(PM32, 0);
    task32(TSS_A, 7);
    segment(GDT, X(0), TSS_A, 0x67, 0x8b, 0);
    poke16(TSS, X(0));
    code("9c 80 4c 24 01 40 9d cf");
    m.show = SHOW_TR;
    run("transfer/iret-nt/pm32-0", text("L7 tr=%x", (u64)X(0)));
    begin(PM32, 0);                    /* the link leads to a task that is not busy */
    task32(TSS_A, 7);
    segment(GDT, X(0), TSS_A, 0x67, 0x89, 0);
    poke16(TSS, X(0));
    code("9c 80 4c 24 01 40 9d cf");
    run("transfer/iret-nt-not-busy/pm32-0", text("TS(%x)@+7", (u64)X(0)));
    /* to V8086 mode, only from ring 0 */
    for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
        begin(PM32, cpl);
        L.rsp -= 0x80;
        static const u32 values[9] = {0x800 + 16 * 8, BASE16 >> 4, FL_VM | 2, 0x5000, 0x1000, 0x1001, 0x1002, 0x1003, 0x1004};
        for (unsigned i = 0; i < 9; i++)
            poke32(L.rsp + 4 * i, i == 1 && cpl ? CS32_3 : i == 0 && cpl ? LANDING(8) : values[i]);
        code("cf");
        m.show = SHOW_CS | SHOW_FL | SHOW_DS | SHOW_SP;
        run(text("transfer/iret-to-v86/pm32-%d", cpl),
            cpl ? text("L8 cs=33 sp=%x fl=10002 ds=3b es=3b fs=3b gs=3b", (u64)USER_STACK - 0x80 + 12)
                : "L8 cs=1000 sp=5000 fl=30002 ds=1002 es=1001 fs=1003 gs=1004");
    }
    begin(PM32, 0);                    /* IP beyond FFFFh */
    L.rsp -= 0x80;
    static const u32 beyond[9] = {0x10880, BASE16 >> 4, FL_VM | 2, 0x5000, 0x1000, 0x1000, 0x1000, 0x1000, 0x1000};
    for (unsigned i = 0; i < 9; i++)
        poke32(L.rsp + 4 * i, beyond[i]);
    code("cf");
    m.show = SHOW_CS;
    run("transfer/iret-to-v86-ip/pm32-0", "GP(0) cs=8");
    /* IRETQ pops RSP and SS at the same ring too, and a null SS is good for ring 0; IRETD in 64-bit mode */
    begin(LONG, 0);
    frame(IRET64, LANDING(6), CS64, 2, STACK1, 0);
    code("48 cf");
    m.show = SHOW_SS | SHOW_SP;
    run("transfer/iretq-null-ss/long-0", text("L6 ss=0 sp=%x", (u64)STACK1));
    begin(LONG, 0);
    frame(IRET32, LANDING(6), CS64, 2, STACK1, DS32);
    code("cf");
    m.show = SHOW_SS | SHOW_SP;
    run("transfer/iretd/long-0", text("L6 ss=10 sp=%x", (u64)STACK1));
    begin(LONG, 0);                    /* to compatibility mode */
    user_pages();
    frame(IRET64, LANDING(6), CS32_3, 2, USER_STACK, DS32_3);
    code("48 cf");
    m.show = SHOW_CS | SHOW_SS | SHOW_SP;
    run("transfer/iretq-to-compat/long-0", text("L6 cs=33 ss=3b sp=%x", (u64)USER_STACK));
    begin(LONG, 0);
    segment(GDT, X(0), 0, 0xfffff, A_CODE, F_G | F_D | F_L);
    frame(IRET64, LANDING(6), X(0), 2, STACK1, DS32);
    code("48 cf");
    run("transfer/iretq-l-and-d/long-0", text("GP(%x)", (u64)X(0)));
    /* far jumps and calls: offsets beyond the limit, addresses that are not canonical */
    begin(PM32, 0);
    segment(GDT, X(0), 0, 0xfff, A_CODE, F_D);
    code("ea");
    code_long(LANDING(3));
    code_word(X(0));
    run("transfer/jmp-beyond/pm32-0", "GP(0)");
    begin(PM32, 0);
    segment(GDT, X(0), 0, 0xfff, A_CODE, F_D);
    code("9a");
    code_long(LANDING(3));
    code_word(X(0));
    m.show = SHOW_SP;
    run("transfer/call-beyond/pm32-0", text("GP(0) sp=%x", (u64)STACK0));
    static const struct { const char *name, *bytes; } near[] = {{"jmp", "ff e0"}, {"call", "ff d0"}, {"ret", "50 c3"}};
    for (unsigned i = 0; i < 3; i++) {
        begin(LONG, 3);
        L.gpr[AX] = 0x800000000000;
        code(near[i].bytes);
        run(text("transfer/%s-not-canonical/long-3", near[i].name), i == 2 ? "GP(0)@+1" : "GP(0)");
        begin(PM16, 3);                /* 16-bit: the limit */
        segment(GDT, CS16_3, BASE16, 0x7ff, A_CODE | DPL(3), 0);
        L.gpr[AX] = 0x840;
        code(near[i].bytes);
        run(text("transfer/%s-beyond/pm16-3", near[i].name), i == 2 ? "GP(0)@+1" : "GP(0)");
    }
}

void cases_transfer(void)
{
    for (enum form f = RETF32; f <= IRET64; f++) {
        code_types(f);
        stack_types(f);
    }
    details();
}
