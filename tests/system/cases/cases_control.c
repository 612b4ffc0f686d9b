/*
 * Control registers: each bit of CR0, CR3, CR4, EFER, XCR0, DR6, DR7 changed alone, and the combinations that are refused.
 * [SDM3 "Control Registers", "Extended Feature Enable Register", "Debug Registers"], [SDM2 "MOV—Move to/from Control Registers",
 * "MOV—Move to/from Debug Registers", "LMSW", "XSETBV"].
 */
#include "harness.h"

#define GP0 "GP(0)"

/* MOV CR0, eAX with `value`; protected mode without paging, or 64-bit mode. */
static void cr0(enum mode mode, u64 value, const char *name, const char *expect)
{
    begin(mode, 0);
    L.gpr[AX] = value;
    code("0f 22 c0");
    m.show = SHOW_CR0;
    run(name, expect);
}

static void each_cr0(void)
{
    begin(PM32, 0);
    u32 before = L.cr0;
    for (unsigned bit = 0; bit < 32; bit++) {
        u32 value = before ^ 1u << bit, after = value;
        if (bit == 0 || bit == 31)     /* to real mode; paging with no tables */
            continue;
        after = (after | CR0_ET) & 0xe005003fu;
        cr0(PM32, value, text("control/cr0-%d/pm32", bit), bit == 29 ? text("%s cr0=%x", GP0, (u64)before) : text("ok cr0=%x", (u64)after));
    }
    before |= CR0_PG;
    for (unsigned bit = 0; bit < 64; bit++) {
        u64 value = before ^ 1ull << bit, after = (value | CR0_ET) & 0xe005003fu;
        bool refused = bit == 0 || bit == 29 || bit == 31 || bit >= 32;
        cr0(LONG, value, text("control/cr0-%d/long", bit), refused ? text("%s cr0=%x", GP0, (u64)before) : text("ok cr0=%x", after));
    }
    u64 cached = before | CR0_CD;
    cr0(LONG, cached | CR0_NW, "control/cr0-cd-nw/long", text("ok cr0=%x", cached | CR0_NW));
    cr0(PM32, CR0_PG | CR0_ET, "control/cr0-pg-without-pe/pm32", text("%s cr0=%x", GP0, (u64)(before & ~CR0_PG)));
    cr0(REAL, CR0_PG | CR0_ET, "control/cr0-pg-without-pe/real", text("GP cr0=%x", (u64)(before & ~CR0_PG & ~CR0_PE)));

    begin(PM32, 0);                    /* LMSW sets PE, MP, EM, TS and clears the last three */
    L.cr0 |= CR0_MP | CR0_EM | CR0_TS;
    code("0f 01 f0");
    m.show = SHOW_CR0;
    run("control/lmsw-clear/pm32", text("ok cr0=%x", (u64)(before & ~CR0_PG)));
    begin(PM32, 0);
    L.gpr[AX] = 0xfffe;
    code("0f 01 f0");
    m.show = SHOW_CR0;
    run("control/lmsw-set/pm32", text("ok cr0=%x", (u64)((before & ~CR0_PG) | CR0_MP | CR0_EM | CR0_TS)));
    begin(PM32, 0);                    /* mod of ModRM is not looked at, no operand is fetched */
    code("0f 20 00");
    m.show = SHOW_AX;
    run("control/mov-cr0-mod0/pm32", text("ok ax=%x", (u64)L.cr0));
    begin(LONG, 0);
    L.gpr[AX] = 0x1234567800000000;
    code("66 0f 20 d8");
    m.show = SHOW_AX;
    run("control/mov-cr3-66/long", text("ok ax=%x", (u64)L.cr3));
    begin(LONG, 0);                    /* with PCIDE, PG and so long mode stay */
    need(HAS_PCID);
    L.cr4 |= CR4_PCIDE;
    L.gpr[AX] = L.cr0 & ~CR0_PG;
    code("0f 22 c0");
    run("control/cr0-pg-with-pcide/long", GP0);
    begin(LONG, 0);
    need(HAS_CET_SS || HAS_CET_IBT);
    L.cr4 |= CR4_CET;
    L.gpr[AX] = L.cr0 & ~CR0_WP;
    code("0f 22 c0");
    run("control/cr0-wp-with-cet/long", GP0);
    begin(LONG, 0);
    need(HAS_CET_SS || HAS_CET_IBT);
    L.cr0 &= ~CR0_WP;
    L.gpr[AX] = L.cr4 | CR4_CET;
    code("0f 22 e0");
    run("control/cr4-cet-without-wp/long", GP0);
}

static u64 cr4_supported(void)
{
    u64 bits = 0x7ff & ~0x3u;
    if (HAS_VME)
        bits |= CR4_VME | CR4_PVI;
    if (HAS_UMIP)
        bits |= CR4_UMIP;
    if (HAS_LA57)
        bits |= CR4_LA57;
    if (HAS_VMX)
        bits |= CR4_VMXE;
    if (cpu.l1c >> 6 & 1)
        bits |= 1u << 14;
    if (HAS_FSGSBASE)
        bits |= CR4_FSGSBASE;
    if (HAS_PCID)
        bits |= CR4_PCIDE;
    if (HAS_XSAVE)
        bits |= CR4_OSXSAVE;
    if (HAS_SMEP)
        bits |= CR4_SMEP;
    if (HAS_SMAP)
        bits |= CR4_SMAP;
    if (HAS_PKU)
        bits |= CR4_PKE;
    if (HAS_CET_SS || HAS_CET_IBT)
        bits |= CR4_CET;
    if (HAS_PKS)
        bits |= CR4_PKS;
    if (HAS_UINTR)
        bits |= CR4_UINTR;
    if (cpu.l7_1a >> 26 & 1)
        bits |= 1u << 28;              /* LAM_SUP */
    return bits;
}

static void each_cr4(void)
{
    u64 supported = cr4_supported();
    static const enum mode modes[] = {PM32, LONG};
    for (unsigned i = 0; i < 2; i++)
        for (unsigned bit = 0; bit < 64; bit++) {
            begin(modes[i], 0);
            u64 before = L.cr4, value = before ^ 1ull << bit;
            bool refused = !(supported >> bit & 1);
            if (modes[i] == PM32 && bit >= 32)
                continue;
            if (modes[i] == PM32 && bit == 17) /* PCIDE: long mode only */
                refused = true;
            if (modes[i] == LONG && (bit == 5 || bit == 12)) /* PAE, LA57: not while in it */
                refused = true;
            L.gpr[AX] = value;
            code("0f 22 e0");
            m.show = SHOW_CR4;
            run(text("control/cr4-%d/%s", bit, modes[i] == LONG ? "long" : "pm32"),
                refused ? text("%s cr4=%x", GP0, before) : text("ok cr4=%x", value));
        }
    begin(LONG, 0);
    need(HAS_PCID);
    L.cr3 |= 0x18;
    L.gpr[AX] = L.cr4 | CR4_PCIDE;
    code("0f 22 e0");
    run("control/cr4-pcide-cr3-flags/long", GP0);
}

static void each_cr3(void)
{
    bool lam = cpu.l7_1a >> 26 & 1;
    for (unsigned pcide = 0; pcide < 2; pcide++)
        for (unsigned bit = 0; bit < 64; bit++) {
            if ((bit >= 12 && bit < cpu.pa_bits) || (lam && bit >= 61 && bit < 63))
                continue;
            begin(LONG, 0);
            need(!pcide || HAS_PCID);
            L.cr4 |= pcide ? CR4_PCIDE : 0;
            L.gpr[AX] = L.cr3 | 1ull << bit;
            code("0f 22 d8");
            bool refused = bit >= 12 && !(pcide && bit == 63);
            run(text("control/cr3-%d/long-pcide%d", bit, pcide), refused ? GP0 : "ok");
        }
    /* PAE: the four entries are loaded and checked with CR3 [SDM3 "PDPTE Registers"] */
    for (unsigned bit = 1; bit < 64; bit++)
        for (unsigned present = 0; present < 2; present++) {
            begin(PM32, 0);
            paging(PAE);
            u64 entry = (1ull << bit) | (bit < 12 ? TEST_PD : 0) | present;
            bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= cpu.pa_bits;
            for (unsigned i = 0; i < 4; i++)
                poke64(DATA + 0x20 + 8 * i, peek64(PDPT + 8 * i));
            poke64(DATA + 0x20 + 16, entry);
            L.gpr[AX] = DATA + 0x20;
            code("0f 22 d8");
            run(text("control/pdpte-%d-p%d/pm32", bit, present), present && reserved ? GP0 : "ok");
        }
    /* … and by MOV CR0 that turns paging on, MOV CR4 that changes PAE, PGE, PSE or SMEP */
    begin(PM32, 0);
    paging(PAE);
    code("0f 20 c0 25 ff ff ff 7f 0f 22 c0 c7 05");
    code_long(PDPT + 16);
    code_long(TEST_PD | 3);
    code("0f 20 c1 81 c9 00 00 00 80 0f 22 c1");
    run("control/pdpte-cr0-pg/pm32", "GP(0)@+30");
    begin(PM32, 0);
    paging(PAE);
    code("c7 05");
    code_long(PDPT + 16);
    code_long(TEST_PD | 3);
    code("0f 20 e0 34 80 0f 22 e0");
    run("control/pdpte-cr4-pge/pm32", "GP(0)@+15");
    begin(PM32, 0);
    paging(PAE);
    code("c7 05");
    code_long(PDPT + 16);
    code_long(TEST_PD | 3);
    code("0f 20 e0 34 04 0f 22 e0");
    run("control/pdpte-cr4-tsd/pm32", "ok");
}

static void each_efer(void)
{
    for (unsigned mode = 0; mode < 2; mode++)
        for (unsigned bit = 0; bit < 64; bit++) {
            if (bit == 10)
                continue;
            begin(mode ? LONG : PM32, 0);
            u64 before = L.efer | (mode ? EFER_LMA : 0), value = before ^ 1ull << bit;
            bool legal = (bit == 0 && HAS_SYSCALL) || (bit == 8 && !mode) || (bit == 11 && HAS_NX);
            L.gpr[AX] = value & 0xffffffff;
            L.gpr[DX] = value >> 32;
            L.gpr[CX] = 0xc0000080;
            code("0f 30");
            m.show = SHOW_EFER;
            run(text("control/efer-%d/%s", bit, mode ? "long" : "pm32"), legal ? text("ok efer=%x", value) : text("GP(0) efer=%x", before));
        }
    begin(PM32, 0);                    /* long mode is entered only with PAE */
    L.efer = EFER_LME;
    L.gpr[AX] = L.cr0 | CR0_PG;
    code("0f 22 c0");
    run("control/cr0-pg-lme-without-pae/pm32", GP0);
    begin(PM32, 0);                    /* … and not from 64-bit code segments */
    paging(L4);
    L.cr0 &= ~CR0_PG;
    L.efer = EFER_LME;
    segment(GDT, X(0), 0, 0xfffff, A_CODE, F_G | F_D | F_L);
    L.cs = X(0);
    L.gpr[AX] = L.cr0 | CR0_PG;
    code("0f 22 c0");
    run("control/cr0-pg-lme-cs-l/pm32", GP0);
    begin(PM32, 0);                    /* … nor with a 16-bit TSS */
    paging(L4);
    L.cr0 &= ~CR0_PG;
    L.efer = EFER_LME;
    segment(GDT, SEL_TSS, TSS, 0x67, A_TSS16, 0);
    L.gpr[AX] = L.cr0 | CR0_PG;
    code("0f 22 c0");
    run("control/cr0-pg-lme-tss16/pm32", GP0);
}

/* XCR0: x87 always; AVX needs SSE; the three AVX-512 parts together, with AVX; MPX's both. [SDM2 "XSETBV"] */
static bool xcr0_legal(u32 v)
{
    if (v & ~cpu.xcr0 || !(v & 1))
        return false;
    if (v & 4 && !(v & 2))
        return false;
    if ((v >> 3 & 3) == 1 || (v >> 3 & 3) == 2)
        return false;
    u32 zmm = v >> 5 & 7;
    if (zmm && (zmm != 7 || !(v & 4)))
        return false;
    u32 tiles = v >> 17 & 3;
    return tiles == 0 || tiles == 3;
}

static void each_xcr0(void)
{
    for (u32 v = 0; v < 0x100; v++) {
        begin(LONG, 0);
        need(HAS_XSAVE);
        L.cr4 |= CR4_OSXSAVE;
        L.gpr[AX] = v;
        code("0f 01 d1");
        run(text("control/xcr0-%x/long", (u64)v), xcr0_legal(v) ? "ok" : GP0);
    }
    for (unsigned bit = 8; bit < 64; bit++) {
        begin(LONG, 0);
        need(HAS_XSAVE);
        L.cr4 |= CR4_OSXSAVE;
        L.gpr[AX] = 1 | (bit < 32 ? 1u << bit : 0);
        L.gpr[DX] = bit >= 32 ? 1u << (bit - 32) : 0;
        code("0f 01 d1");
        run(text("control/xcr0-bit%d/long", bit), bit < 32 && xcr0_legal(1 | 1u << bit) ? "ok" : GP0);
    }
    for (unsigned xcr = 1; xcr < 32; xcr++) {
        begin(LONG, 0);
        need(HAS_XSAVE);
        L.cr4 |= CR4_OSXSAVE;
        L.gpr[AX] = 1;
        L.gpr[CX] = 1u << xcr;
        code("0f 01 d1");
        run(text("control/xsetbv-ecx-%d/long", xcr), GP0);
    }
}

static void each_debug_register(void)
{
    u64 ones = HAS_BUS_LOCK_DETECT ? 0xffff07f0 : 0xffff0ff0;
    for (unsigned bit = 0; bit < 64; bit++) {
        if (bit == 13)                 /* GD: cases_debug.c */
            continue;
        begin(LONG, 0);                /* MOV DR7, RAX; MOV RCX, DR7; MOV DR7, RDX */
        L.gpr[AX] = 1ull << bit;
        L.gpr[DX] = 0x400;
        L.dr[0] = L.dr[1] = L.dr[2] = L.dr[3] = 0x800;
        code("0f 23 f8 0f 21 f9 0f 23 fa");
        m.show = SHOW_CX;
        bool fixed = bit == 11 || bit == 12 || bit == 14 || bit == 15;
        run(text("control/dr7-%d/long", bit), bit >= 32 ? text("%s cx=0", GP0) : text("ok cx=%x", 0x400 | (fixed ? 0 : 1ull << bit)));
        begin(LONG, 0);
        L.gpr[AX] = 1ull << bit;
        code("0f 23 f0 0f 21 f1");
        m.show = SHOW_CX;
        bool kept = bit < 4 || (bit >= 13 && bit <= 15) || (bit == 11 && HAS_BUS_LOCK_DETECT);
        run(text("control/dr6-%d/long", bit), bit >= 32 ? text("%s cx=0", GP0) : text("ok cx=%x", ones | (kept ? 1ull << bit : 0)));
        begin(LONG, 0);
        L.gpr[AX] = 1ull << bit;
        code("0f 23 d0 0f 21 d1");
        m.show = SHOW_CX;
        run(text("control/dr2-%d/long", bit), text("ok cx=%x", 1ull << bit));
    }
}

void cases_control(void)
{
    each_cr0();
    each_cr4();
    each_cr3();
    each_efer();
    each_xcr0();
    each_debug_register();
}
