/*
 * Virtual-8086 mode and its extensions: sensitive instructions by IOPL, VME's virtual interrupt flag and redirection of INT n, PVI; and the
 * I/O permission map in all protected modes. [SDM3 "8086 Emulation", "Protected-Mode Virtual Interrupts"], [SDM1 "I/O Permission Bit Map"]
 */
#include "harness.h"

/* Rows by IOPL and VME: 0-2 without VME, 3 without, 0-2 with, 3 with. */
static const struct { const char *name, *bytes, *low, *high, *vme_low, *vme_high; } sensitive[] = {
    {"cli", "fa", "GP(0)", "ok", "ok", "ok"},
    {"sti", "fb", "GP(0)", "ok", "ok", "ok"},
    {"pushf", "9c", "GP(0)", "ok", "ok", "ok"},
    {"pushfd", "66 9c", "GP(0)", "ok", "GP(0)", "ok"},
    {"popf", "6a 02 9d", "GP(0)@+2", "ok", "ok", "ok"},
    {"popfd", "66 6a 02 66 9d", "GP(0)@+3", "ok", "GP(0)@+3", "ok"},
    {"popf-tf", "68 02 01 9d 90", "GP(0)@+3", "DB@+5[BS]", "GP(0)@+3", "DB@+5[BS]"},
    {"iret", "9c 0e e8 00 00 58 83 c0 05 50 cf", "-", "-", "-", "-"},
    {"iretd", "66 cf", "GP(0)", "-", "GP(0)", "-"},
    {"int3", "cc", "BP@+1", "BP@+1", "BP@+1", "BP@+1"},
    {"int-43", "cd 43", "GP(0)", "int43@+2", "-", "-"},
    {"hlt", "f4", "GP(0)", "GP(0)", "GP(0)", "GP(0)"},
    {"in", "e4 80", "GP(0)", "GP(0)", "GP(0)", "GP(0)"},
    {"out-dx", "ee", "GP(0)", "GP(0)", "GP(0)", "GP(0)"},
};

static void by_iopl(void)
{
    for (unsigned i = 0; i < sizeof(sensitive) / sizeof(sensitive[0]); i++)
        for (unsigned iopl = 0; iopl < 4; iopl++)
            for (unsigned vme = 0; vme < 2; vme++) {
                const char *expect = vme ? iopl == 3 ? sensitive[i].vme_high : sensitive[i].vme_low : iopl == 3 ? sensitive[i].high : sensitive[i].low;
                if (*expect == '-')
                    continue;
                begin(V86, 3);
                need(!vme || HAS_VME);
                L.cr4 |= vme ? CR4_VME : 0;
                L.rflags |= FL_IOPL(iopl);
                L.gpr[DX] = 0x80;
                code(sensitive[i].bytes);
                run(text("v86/%s-iopl%d%s", sensitive[i].name, iopl, vme ? "-vme" : ""), expect);
            }
}

/* CLI and STI act on VIF; STI with VIP pending, POPF and IRET that would set VIF then: #GP. PUSHF shows VIF as IF, IOPL as 3. */
static void virtual_flag(void)
{
    for (unsigned pvi = 0; pvi < 2; pvi++)
        for (unsigned vip = 0; vip < 2; vip++)
            for (unsigned vif = 0; vif < 2; vif++)
                for (unsigned iopl = 0; iopl < 4; iopl += 3)
                    for (unsigned op = 0; op < 4; op++) {
                        static const char *const names[] = {"cli", "sti", "popf-if", "popf"}, *const bytes[] = {"fa", "fb", "68 02 02 9d", "6a 02 9d"};
                        begin(pvi ? PM32 : V86, 3);
                        need(HAS_VME);
                        if ((pvi && op >= 2) || (vip && vif)) /* with both set from the start nothing is said */
                            continue;
                        L.cr4 |= pvi ? CR4_PVI : CR4_VME;
                        L.rflags |= FL_IOPL(iopl) | (vip ? FL_VIP : 0) | (vif ? FL_VIF : 0);
                        u32 flags = (u32)L.rflags;
                        code(bytes[op]);
                        bool set = op == 1 || op == 2;
                        const char *expect;
                        if (iopl == 3)
                            expect = text("ok fl=%x", (u64)((set ? flags | FL_IF : flags & ~FL_IF) | FL_RF));
                        else if (set && vip)
                            expect = text("GP(0)%s fl=%x", op == 2 ? "@+3" : "", (u64)(flags | FL_RF));
                        else
                            expect = text("ok fl=%x", (u64)((set ? flags | FL_VIF : flags & ~FL_VIF) | FL_RF));
                        m.show = SHOW_FL;
                        run(text("v86/%s-%s-iopl%d-vip%d-vif%d", pvi ? "pvi" : "vme", names[op], iopl, vip, vif), expect);
                    }
    for (unsigned vif = 0; vif < 2; vif++) {
        begin(V86, 3);
        need(HAS_VME);
        L.cr4 |= CR4_VME;
        L.rflags |= vif ? FL_VIF : 0;
        code("9c 58");
        m.show = SHOW_AX;
        run(text("v86/vme-pushf-vif%d", vif), text("ok ax=%x", (u64)(0x3002 | (vif ? FL_IF : 0))));
    }
}

/* INT n in the six ways of [SDM3 "Software Interrupt Handling Methods While in Virtual-8086 Mode"]. */
static void redirection(void)
{
    for (unsigned vme = 0; vme < 2; vme++)
        for (unsigned iopl = 0; iopl < 4; iopl += 3)
            for (unsigned redirect = 0; redirect < 2; redirect++)
                for (unsigned vif = 0; vif < 2; vif++) {
                    begin(V86, 3);
                    need(!vme || HAS_VME);
                    io_map();
                    L.cr4 |= vme ? CR4_VME : 0;
                    L.rflags |= FL_IOPL(iopl) | FL_IF | (vif ? FL_VIF : 0);
                    if (redirect)
                        poke8(REDIRECTION_MAP + 0x43 / 8, 0xff & ~(1 << 3));
                    poke16(4 * 0x43, (u16)(LANDING(9) - BASE16));
                    poke16(4 * 0x43 + 2, BASE16 >> 4);
                    code("cd 43");
                    m.watch = off(USER_STACK) + BASE16 - 4;
                    m.show = SHOW_MEM | SHOW_FL | SHOW_SP;
                    u32 flags = (u32)L.rflags;
                    const char *expect;
                    if (vme && redirect) {
                        /* the flags pushed: IF, or VIF with IOPL 3 shown; IF or VIF cleared */
                        u32 image = iopl == 3 ? flags & 0xffff : ((flags & 0xffff & ~FL_IF) | FL_IOPL(3) | (vif ? FL_IF : 0));
                        expect = text("L9 sp=4ffa fl=%x mem=%x", (u64)((iopl == 3 ? flags & ~FL_IF : flags & ~FL_VIF) | FL_RF), (u64)(image << 16 | BASE16 >> 4));
                    } else {
                        expect = iopl < 3 ? text("GP(0) sp=5000 fl=%x mem=0", (u64)(flags | FL_RF)) : text("int43@+2 sp=5000 fl=%x mem=0", (u64)flags);
                    }
                    run(text("v86/int-iopl%d%s%s-vif%d", iopl, vme ? "-vme" : "", redirect ? "-redirected" : "", vif), expect);
                    poke32(4 * 0x43, 0);
                }
    begin(V86, 3);                     /* INT3 and INTO are not redirected */
    need(HAS_VME);
    L.cr4 |= CR4_VME;
    io_map();
    poke32(REDIRECTION_MAP, 0);
    code("cc");
    run("v86/int3-redirected", "BP@+1");
    begin(V86, 3);                     /* a gate to ring 3 is refused; DPL 0 is, too */
    L.rflags |= FL_IOPL(3);
    idt_gate(0x43, CS32, A_INT32, 0);
    code("cd 43");
    run("v86/int-dpl0", "GP(21a)");
    begin(V86, 3);
    L.rflags |= FL_IOPL(3);
    idt_gate(0x43, CS32_3, A_INT32 | DPL(3), 0);
    code("cd 43");
    run("v86/int-to-ring3", "GP(30)");
    begin(V86, 3);
    L.rflags |= FL_IOPL(3);
    segment(GDT, X(0), 0, 0xfffff, 0x9f, F_G | F_D);
    idt_gate(0x43, X(0), A_INT32 | DPL(3), 0);
    code("cd 43");
    run("v86/int-to-conforming", text("GP(%x)", (u64)X(0)));
}

/* The map: by port, size, alignment; the byte behind it; the map's offset. */
static void io_permission(void)
{
    static const struct { const char *name; enum mode mode; unsigned ring; } who[] = {{"v86", V86, 3}, {"pm16-3", PM16, 3}, {"pm32-3", PM32, 3}, {"compat-3", COMPAT, 3}, {"long-3", LONG, 3}};
    for (unsigned w = 0; w < 5; w++)
        for (unsigned size = 1; size <= 4; size *= 2)
            for (unsigned denied = 0x7e; denied <= 0x84; denied++)
                for (unsigned out = 0; out < 2; out++) {
                    begin(who[w].mode, who[w].ring);
                    io_map();
                    poke32(IO_MAP + 0x7c / 8, 0);
                    poke8(IO_MAP + denied / 8, (u8)(1 << denied % 8));
                    L.gpr[DX] = 0x80;
                    bool wide = who[w].mode == PM32 || who[w].mode == COMPAT || who[w].mode == LONG;
                    if ((size == 2 && wide) || (size == 4 && !wide))
                        code("66");
                    code(size == 1 ? out ? "ee" : "ec" : out ? "ef" : "ed");
                    run(text("io/%s%d-denied-%x/%s", out ? "out" : "in", size, (u64)denied, who[w].name),
                        denied >= 0x80 && denied < 0x80 + size ? "GP(0)" : "ok");
                }
    static const struct { const char *name; u32 limit, offset; const char *expect; } maps[] = {
        {"two-bytes", 0x88 + 0x11, 0x88, "ok"}, {"one-byte", 0x88 + 0x10, 0x88, "GP(0)"}, {"offset-beyond", 0x100, 0xffff, "GP(0)"},
        {"offset-zero", 0x200, 0, "ok"},
    };
    for (unsigned w = 2; w < 5; w += 2)
        for (unsigned i = 0; i < 4; i++) {
            begin(who[w].mode, 3);
            io_map();
            poke32(IO_MAP + 0x10, 0);
            segment(GDT, SEL_TSS, TSS, maps[i].limit, A_TSS32, 0);
            poke16(TSS + 0x66, (u16)maps[i].offset);
            poke32(TSS + 0x10, 0);
            L.gpr[DX] = 0x80;
            code("ec");
            run(text("io/map-%s/%s", maps[i].name, who[w].name), maps[i].expect);
        }
    begin(PM32, 3);                    /* a 16-bit TSS has none */
    segment(GDT, SEL_TSS, TSS, 0xfff, A_TSS16, 0);
    poke16(TSS + 2, (u16)0x7000);
    poke16(TSS + 4, DS16);
    poke16(TSS + 0x66, 0x68);
    L.gpr[DX] = 0x80;
    code("ec");
    m.target = 0;
    run("io/tss16/pm32-3", "GP(0)");
    for (unsigned iopl = 0; iopl < 4; iopl++) {
        begin(PM32, 3);
        L.rflags |= FL_IOPL(iopl);
        code("e4 80 fa fb");
        run(text("io/iopl%d/pm32-3", iopl), iopl == 3 ? "ok" : "GP(0)");
    }
    begin(LONG, 3);                    /* REP INS: the permission first, then the page */
    L.gpr[DX] = 0x80;
    L.gpr[CX] = 1;
    set_pte(DATA, 0);
    code("f3 6c");
    run("io/ins-absent-page-denied/long-3", "GP(0)");
    begin(LONG, 3);
    L.rflags |= FL_IOPL(3);
    L.gpr[DX] = 0x80;
    L.gpr[CX] = 1;
    set_pte(DATA, 0);
    code("f3 6c");
    run("io/ins-absent-page/long-3", "PF(6)");
}

void cases_v86(void)
{
    by_iopl();
    virtual_flag();
    redirection();
}

void cases_io(void) { io_permission(); }
