/*
 * Pointers with data in them, and supervisor states: linear-address masking, XSAVES, XRSTORS and IA32_XSS.
 * [SDM3 "Linear-Address Masking"], [SDM1 "Linear Address Masking", "Managing State Using the XSAVE Feature Set"],
 * [SDM2 "XSAVES", "XRSTORS"].
 */
#include "harness.h"

#define IA32_XSS 0xda0u

/* CR3 is written by the case itself: the launcher's is 32 bits wide. */
static void masked_user_pointers(void)
{
    static const struct { const char *name; u32 lam; u64 bits; bool ok; } rows[] = {
        {"off", 0, 1ull << 62, false}, {"u57-62", 1, 1ull << 62, true}, {"u57-57", 1, 1ull << 57, true}, {"u57-56", 1, 1ull << 56, false},
        {"u57-all", 1, 0x3full << 57, true}, {"u48-62", 2, 1ull << 62, true}, {"u48-48", 2, 1ull << 48, true},
        {"u48-all", 2, 0x7fffull << 48, true}, {"u48-47", 2, 1ull << 47, false}, {"both-48", 3, 1ull << 48, false},
        {"both-57", 3, 1ull << 57, true},
        {"u57-63", 1, 1ull << 63, false},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (unsigned ring = 0; ring <= 3; ring += 3)
            for (unsigned how = 0; how < 3; how++) {
                begin(LONG, 0);
                need(HAS_LAM);
                L.gpr[AX] = L.cr3 | (u64)(rows[i].lam & 1) << 61 | (u64)(rows[i].lam >> 1) << 62;
                L.gpr[DI] = DATA | rows[i].bits;
                code("0f 22 d8");
                if (ring) {
                    user_pages();
                    code_iretq_3(m.code_end + IRETQ_3_BYTES);
                }
                unsigned at = m.code_end - START;
                /* data accesses are masked, jumps and INVLPG's operand are not (INVLPG takes any address) */
                code(how == 0 ? "8a 07" : how == 1 ? "88 07" : "ff e7");
                static const char *const names[] = {"read", "write", "jump"};
                run(text("state/lam-%s-%s/long-%d", rows[i].name, names[how], ring),
                    rows[i].ok && how < 2 ? "ok" : text("GP(0)@+%d", at));
            }
}

static void masked_supervisor_pointers(void)
{
    static const struct { const char *name; u64 cleared; bool on, ok; } rows[] = {
        {"on-62", 1ull << 62, true, true}, {"on-48", 1ull << 48, true, true}, {"on-all", 0x7fffull << 48, true, true},
        {"on-47", 1ull << 47, true, false},
        {"off-62", 1ull << 62, false, false}, {"on-63", 1ull << 63, true, false},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(LONG, 0);
        need(HAS_LAM);
        if (rows[i].on)
            L.cr4 |= CR4_LAM_SUP;
        poke64(PML4 + 8 * 511, PDPT | PTE_P | PTE_W);
        L.gpr[DI] = (0xffffff8000000000 + DATA) & ~rows[i].cleared;
        code("8a 07 88 07");
        run(text("state/lam-supervisor-%s/long-0", rows[i].name), rows[i].ok ? "ok" : "GP(0)");
    }
}

/* The header of a compacted area at DATA + 200h. */
static void area(u64 xstate, u64 xcomp, u64 rest)
{
    for (unsigned i = 0; i < 0x1000; i += 8)
        poke64(DATA + i, 0);
    poke32(DATA + 24, 0x1f80);
    poke64(DATA + 0x200, xstate);
    poke64(DATA + 0x208, xcomp);
    poke64(DATA + 0x210, rest);
}

static void supervisor_states(void)
{
    static const struct { const char *name; u64 xstate, xcomp, rest; u32 offset; bool ok; } rows[] = {
        {"init", 0, 1ull << 63, 0, 0, true}, {"x87", 1, 1ull << 63 | 1, 0, 0, true},
        {"not-enabled", 2, 1ull << 63 | 3, 0, 0, false}, {"standard", 3, 0, 0, 0, false},
        {"beyond-xcomp", 2, 1ull << 63 | 1, 0, 0, false}, {"unknown", 0, 1ull << 63 | 1ull << 62, 0, 0, false},
        {"reserved", 0, 1ull << 63, 1, 0, false}, {"not-aligned", 0, 1ull << 63, 0, 32, false},
        {"cet", 1 << 11, 1ull << 63 | 1 << 11, 0, 0, false},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(LONG, 0);
        need(HAS_XSAVES);
        L.cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
        area(rows[i].xstate, rows[i].xcomp, rows[i].rest);
        L.gpr[DI] = DATA + rows[i].offset;
        L.gpr[AX] = 0xffffffff;
        L.gpr[DX] = 0xffffffff;
        code("0f c7 1f");
        run(text("state/xrstors-%s/long-0", rows[i].name), rows[i].ok ? "ok" : "GP(0)");
    }
    begin(LONG, 0);                    /* XSAVES writes the header: compacted, and all that was asked for and is enabled */
    need(HAS_XSAVES);
    L.cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
    area(0, 0, 0);
    L.gpr[AX] = 1;
    code("0f c7 2f");
    m.show = SHOW_MEM;
    m.watch = DATA + 0x20c;
    run("state/xsaves-compacted/long-0", "ok mem=80000000");
    begin(LONG, 0);
    need(HAS_XSAVES);
    L.cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
    L.gpr[DI] = DATA + 32;
    L.gpr[AX] = 1;
    code("0f c7 2f");
    run("state/xsaves-not-aligned/long-0", "GP(0)");
    for (unsigned ts = 0; ts < 2; ts++) {
        begin(LONG, 0);
        need(HAS_XSAVES);
        L.cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
        L.cr0 |= CR0_TS;
        area(0, 1ull << 63, 0);
        code(ts ? "0f c7 2f" : "0f c7 1f");
        run(text("state/%s-ts/long-0", ts ? "xsaves" : "xrstors"), "NM");
    }
    /* IA32_XSS takes the supervisor states that CPUID.(0Dh,1) names in ECX and EDX. */
    u32 a, b, low, high;
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(low), "=d"(high) : "a"(13), "c"(1));
    u64 allowed = HAS_XSAVES ? (u64)high << 32 | low : 0;
    for (unsigned bit = 0; bit < 64; bit++) {
        begin(LONG, 0);
        need(HAS_XSAVES);
        L.gpr[CX] = IA32_XSS;
        L.gpr[AX] = bit < 32 ? 1u << bit : 0;
        L.gpr[DX] = bit < 32 ? 0 : 1u << (bit - 32);
        code("0f 30 31 c0 31 d2 0f 30");
        run(text("state/xss-%d/long-0", bit), allowed >> bit & 1 ? "ok" : "GP(0)");
    }
    /* CET states by XRSTORS: what their MSRs refuse is refused. */
    for (unsigned bad = 0; bad < 2; bad++) {
        begin(LONG, 0);
        need(HAS_XSAVES && HAS_CET_SS && allowed >> 11 & 1);
        L.cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
        set_msr(IA32_XSS, 1 << 11);
        set_msr(0x6a0, 0);
        set_msr(0x6a7, 0);
        area(1 << 11, 1ull << 63 | 1 << 11, 0);
        poke64(DATA + 576, bad ? 1 << 6 : 1);          /* IA32_U_CET; then IA32_PL3_SSP */
        poke64(DATA + 584, 0x5000);
        L.gpr[AX] = 1 << 11;
        code("0f c7 1f b9 a7 06 00 00 0f 32");
        m.show = SHOW_AX;
        run(text("state/xrstors-cet-bad%d/long-0", bad), bad ? "GP(0) ax=800" : "ok ax=5000");
    }
}

void cases_state(void)
{
    masked_user_pointers();
    masked_supervisor_pointers();
    supervisor_states();
}
