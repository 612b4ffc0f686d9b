/*
 * Control-flow enforcement: #CP with each error code, supervisor tokens, the rules of shadow-stack pages.
 * [SDM1 "Control-flow Enforcement Technology (CET)"], [SDM3 "Shadow-Stack Accesses", "Control Protection Exception (#CP)"], [SDM2 "RET",
 * "IRET/IRETD/IRETQ", "JMP", "CALL", "RSTORSSP", "SAVEPREVSSP", "SETSSBSY", "CLRSSBSY", "WRSSD/WRSSQ", "WRUSSD/WRUSSQ", "INCSSPD/INCSSPQ"].
 */
#include "harness.h"

/* The stack of ring 3 is the second page of data; the supervisor's are the pages of stacks that 64-bit cases do not use. */
#define SHADOW3 (DATA + 0x1000)
#define SSP3 (SHADOW3 + 0x800)
#define SHADOW0 0x17000u
/* A token and the three words below it lie in one aligned block of 32 bytes. */
#define SSP0 (SHADOW0 + 0x7f8)
#define SHADOW_IST 0x18000u
#define SSP_IST (SHADOW_IST + 0x7f8)
#define SSP_TABLE (DATA + 0x800)

#define U_CET 0x6a0u
#define S_CET 0x6a2u
#define PL0_SSP 0x6a4u
#define PL3_SSP 0x6a7u
#define INTERRUPT_SSP_TABLE 0x6a8u
#define SH_STK_EN 1u
#define WR_SHSTK_EN 2u
#define ENDBR_EN 4u
#define LEG_IW_EN 8u
#define NO_TRACK_EN 0x10u
#define TRACKER 0x800u

#define PAGE_SHADOW (PTE_P | PTE_A | PTE_D)

static void user(u32 control)
{
    begin(LONG, 3);
    need(HAS_CET_SS && HAS_CET_IBT);
    L.cr4 |= CR4_CET;
    set_pte(SHADOW3, SHADOW3 | PAGE_SHADOW | PTE_U);
    set_msr(U_CET, control);
    set_msr(PL3_SSP, SSP3);
}

/* What CALL left there. */
static void shadow_words(u64 a, u64 b, u64 c)
{
    poke64(SSP3, a);
    poke64(SSP3 + 8, b);
    poke64(SSP3 + 16, c);
}

static void near_returns(void)
{
    static const struct { const char *name; u64 word; const char *expect; } rows[] = {
        {"same", LANDING(1), "L1"}, {"other", LANDING(2), "CP(1)@+5"}, {"upper-half", LANDING(1) | 1ull << 40, "CP(1)@+5"},
    };
    for (unsigned i = 0; i < 3; i++) {
        user(SH_STK_EN);
        shadow_words(rows[i].word, 0, 0);
        code_push(LANDING(1));
        code("c3");
        run(text("cet/ret-%s/long-3", rows[i].name), rows[i].expect);
    }
    user(SH_STK_EN);                   /* CALL of what follows pushes nothing onto the shadow stack; RET then differs */
    code("e8 00 00 00 00 58 f3 48 0f 1e c8");
    m.show = SHOW_AX;
    run("cet/call-next/long-3", text("ok ax=%x", (u64)SSP3));
    user(SH_STK_EN);
    bytes_at(LANDING(1), "f3 48 0f 1e c8 0f 0b");
    code("e8");
    code_long(LANDING(1) - (START + 5));
    m.show = SHOW_AX | SHOW_MEM;
    m.watch = SSP3 - 8;
    run("cet/call/long-3", text("UD@%x ax=%x mem=%x", (u64)LANDING(1) + 5, (u64)SSP3 - 8, (u64)START + 5));
    begin(LONG, 3);                    /* CET is not on: RDSSP is a NOP */
    L.gpr[AX] = 0x1234;
    code("f3 48 0f 1e c8");
    m.show = SHOW_AX;
    run("cet/rdssp-off/long-3", "ok ax=1234");
}

static void far_returns(void)
{
    static const struct { const char *name; u64 back, lip, cs; u32 ssp; const char *expect; } rows[] = {
        {"same", SSP3 + 0x100, LANDING(1), CS64_3, SSP3, "L1"}, {"lip", SSP3 + 0x100, LANDING(2), CS64_3, SSP3, "CP(2)"},
        {"cs", SSP3 + 0x100, LANDING(1), CS32_3, SSP3, "CP(2)"}, {"ssp-not-aligned", SSP3 + 0x100, LANDING(1), CS64_3, SSP3 + 4, "CP(2)"},
        {"back-not-aligned", SSP3 + 0x102, LANDING(1), CS64_3, SSP3, "CP(2)"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (unsigned iret = 0; iret < 2; iret++) {
            user(SH_STK_EN);
            set_msr(PL3_SSP, rows[i].ssp);
            shadow_words(rows[i].back, rows[i].lip, rows[i].cs);
            if (iret) {
                code_push(DS32_3);
                code_push(USER_STACK);
                code("6a 02");
            }
            code_push(CS64_3);
            code_push(LANDING(1));
            code(iret ? "48 cf" : "48 cb");
            run(text("cet/%s-%s/long-3", iret ? "iret" : "retf", rows[i].name),
                rows[i].expect[0] == 'L' ? rows[i].expect : text("%s@+%d", rows[i].expect, iret ? 22 : 10));
        }
}

static void endbranch(void)
{
    static const struct { const char *name; u32 control; const char *bytes, *target; bool tracked, lands; } rows[] = {
        {"jmp-reg", ENDBR_EN, "ff e0", "0f 0b", true, false}, {"call-reg", ENDBR_EN, "ff d0", "0f 0b", true, false},
        {"jmp-reg-endbr64", ENDBR_EN, "ff e0", "f3 0f 1e fa 0f 0b", true, true},
        {"jmp-reg-endbr32", ENDBR_EN, "ff e0", "f3 0f 1e fb 0f 0b", true, false},
        {"jmp-mem", ENDBR_EN, "ff 27", "0f 0b", true, false}, {"jmp-notrack", ENDBR_EN | NO_TRACK_EN, "3e ff e0", "0f 0b", false, false},
        {"jmp-notrack-off", ENDBR_EN, "3e ff e0", "0f 0b", true, false}, {"ret", ENDBR_EN, "50 c3", "0f 0b", false, false},
        {"off", SH_STK_EN, "ff e0", "0f 0b", false, false},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        user(rows[i].control);
        bytes_at(LANDING(1), rows[i].target);
        L.gpr[AX] = LANDING(1);
        poke64(DATA, LANDING(1));
        code(rows[i].bytes);
        run(text("cet/endbranch-%s/long-3", rows[i].name),
            rows[i].lands ? text("UD@%x", (u64)LANDING(1) + 4) : rows[i].tracked ? "CP(3)@L1" : "L1");
    }
    user(ENDBR_EN | TRACKER);          /* the tracker waits from the start */
    code("90");
    run("cet/endbranch-waiting-nop/long-3", "CP(3)");
    user(ENDBR_EN | TRACKER);
    code("f3 0f 1e fa");
    run("cet/endbranch-waiting-endbr64/long-3", "ok");
    user(ENDBR_EN | TRACKER);          /* a debugger's breakpoint goes before */
    code("cc");
    run("cet/endbranch-waiting-int3/long-3", "BP@+1");
    for (unsigned bit = 0; bit < 2; bit++) { /* old code, by the bitmap */
        user(ENDBR_EN | LEG_IW_EN);
        set_msr(U_CET, ENDBR_EN | LEG_IW_EN | DATA);
        poke8(DATA + (CODE >> 12) / 8, bit << ((CODE >> 12) & 7));
        L.gpr[AX] = LANDING(1);
        code("ff e0");
        run(text("cet/endbranch-bitmap%d/long-3", bit), bit ? "L1" : "CP(3)@L1");
    }
}

/* The page that a CALL (write) and a RET (read) find under SSP. */
static void pages(void)
{
    static const struct { const char *name; u64 pte; u32 cause; } rows[] = {
        {"absent", 0, 0}, {"writable", PTE_P | PTE_A | PTE_D | PTE_W | PTE_U, 1}, {"not-dirty", PTE_P | PTE_A | PTE_U, 1},
        {"supervisor", PAGE_SHADOW, 1},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (unsigned write = 0; write < 2; write++) {
            user(SH_STK_EN);
            set_pte(SHADOW3, rows[i].pte ? SHADOW3 | rows[i].pte : 0);
            m.target = write ? SSP3 - 8 : SSP3;
            code(write ? "e8 01 00 00 00 90" : "50 c3");
            run(text("cet/page-%s-%s/long-3", rows[i].name, write ? "call" : "ret"),
                text("PF(%x)%s", (u64)(0x44 | rows[i].cause | (write ? 2 : 0)), write ? "" : "@+1"));
        }
    user(SH_STK_EN);
    shadow_words(LANDING(1), 0, 0);
    code_push(LANDING(1));
    code("c3");
    set_pte(SHADOW3, SHADOW3 | PTE_P | PTE_D | PTE_U);
    run("cet/page-shadow-ret/long-3", "L1");
    user(SH_STK_EN);                   /* other instructions read the page, and do not write it */
    L.gpr[DI] = SSP3;
    m.target = SSP3;
    code("8a 07 88 07");
    run("cet/page-mov/long-3", "PF(7)@+2");
    begin(LONG, 0);                    /* … nor does the supervisor with CR0.WP */
    need(HAS_CET_SS);
    L.cr4 |= CR4_CET;
    set_pte(SHADOW3, SHADOW3 | PAGE_SHADOW);
    L.gpr[DI] = m.target = SSP3;
    code("8a 07 88 07");
    run("cet/page-mov/long-0", "PF(3)@+2");
}

static void instructions(void)
{
    static const struct { const char *name; u64 token; u32 at; const char *expect; } restore[] = {
        {"good", (SSP3 - 0x100 + 8) | 1, SSP3 - 0x100, "ok"}, {"mode", SSP3 - 0x100 + 8, SSP3 - 0x100, "CP(4)"},
        {"value", (SSP3 - 0x100 + 16) | 1, SSP3 - 0x100, "CP(4)"}, {"previous", (SSP3 - 0x100 + 8) | 3, SSP3 - 0x100, "CP(4)"},
        {"zero", 0, SSP3 - 0x100, "CP(4)"}, {"not-aligned", 0, SSP3 - 0x104, "GP(0)"},
    };
    for (unsigned i = 0; i < sizeof(restore) / sizeof(restore[0]); i++) {
        user(SH_STK_EN);
        poke64(SSP3 - 0x100, restore[i].token);
        L.gpr[DI] = restore[i].at;
        code("f3 0f 01 2f");
        run(text("cet/rstorssp-%s/long-3", restore[i].name), restore[i].expect);
    }
    user(SH_STK_EN);
    L.gpr[DI] = m.target = DATA;       /* no shadow stack */
    code("f3 0f 01 2f");
    run("cet/rstorssp-data/long-3", "PF(47)");
    user(SH_STK_EN);
    poke64(SSP3 - 0x100, (SSP3 - 0x100 + 8) | 1);
    L.gpr[DI] = SSP3 - 0x100;
    code("f3 0f 01 2f f3 0f 01 ea");   /* and SAVEPREVSSP, which leaves a token on the old one */
    m.show = SHOW_MEM;
    m.watch = SSP3 - 8;
    run("cet/saveprevssp/long-3", text("ok mem=%x", (u64)SSP3 | 1));
    user(SH_STK_EN);
    code("f3 0f 01 ea");
    run("cet/saveprevssp-none/long-3", "GP(0)");
    user(SH_STK_EN);
    L.gpr[AX] = 0x102;                 /* 2 of 8 bytes: bits 7:0 count */
    code("f3 48 0f ae e8 f3 48 0f 1e c8");
    m.show = SHOW_AX;
    run("cet/incsspq/long-3", text("ok ax=%x", (u64)SSP3 + 16));
    static const struct { const char *name; u32 control; const char *bytes, *expect; unsigned ring; } write[] = {
        {"wrss", SH_STK_EN | WR_SHSTK_EN, "0f 38 f6 07", "ok", 3}, {"wrss-off", SH_STK_EN, "0f 38 f6 07", "UD", 3},
        {"wruss", SH_STK_EN, "66 0f 38 f5 07", "GP(0)", 3},
        /* IA32_S_CET is what counts */
        {"setssbsy-off", SH_STK_EN, "f3 0f 01 e8", "UD", 3}, {"clrssbsy-off", SH_STK_EN, "f3 0f ae 37", "UD", 3},
    };
    for (unsigned i = 0; i < sizeof(write) / sizeof(write[0]); i++) {
        user(write[i].control);
        L.gpr[DI] = m.target = SSP3 - 0x40;
        code(write[i].bytes);
        run(text("cet/%s/long-3", write[i].name), write[i].expect);
    }
    user(SH_STK_EN | WR_SHSTK_EN);
    m.target = DATA;
    code("0f 38 f6 07");
    run("cet/wrss-data/long-3", "PF(47)");
    for (unsigned shadow = 0; shadow < 2; shadow++) { /* WRUSS: a user access */
        begin(LONG, 0);
        need(HAS_CET_SS);
        L.cr4 |= CR4_CET;
        set_pte(SHADOW3, SHADOW3 | (shadow ? PAGE_SHADOW | PTE_U : PAGE_SHADOW));
        L.gpr[DI] = m.target = SSP3;
        code("66 0f 38 f5 07");
        run(text("cet/wruss-user%d/long-0", shadow), shadow ? "ok" : "PF(47)");
    }
}

/* Ring 0 with a supervisor shadow stack: the code turns it on itself. Exceptions come by IST 1, which has one of its own. Returns the
 * offset of what follows. */
static unsigned supervisor(u64 token)
{
    static const u8 vectors[] = {1, 3, 6, 8, 13, 14, 21};
    begin(LONG, 0);
    need(HAS_CET_SS);
    L.cr4 |= CR4_CET;
    set_pte(SHADOW0, SHADOW0 | PAGE_SHADOW);
    set_pte(SHADOW_IST, SHADOW_IST | PAGE_SHADOW);
    for (unsigned i = 0; i < sizeof(vectors); i++)
        idt_gate(vectors[i], CS64, A_INT32, 1);
    poke64(SSP_TABLE + 8, SSP_IST);
    poke64(SSP_IST, SSP_IST);
    poke64(SSP0, token);
    set_msr(INTERRUPT_SSP_TABLE, SSP_TABLE);
    set_msr(PL0_SSP, SSP0);
    set_msr(S_CET, 0);
    code("b9 a2 06 00 00 b8 01 00 00 00 31 d2 0f 30");
    m.target = SSP0;
    return 14;
}

static void supervisor_tokens(void)
{
    unsigned at = supervisor(SSP0);
    code("f3 0f 01 e8 f3 48 0f 1e c8");
    m.show = SHOW_AX | SHOW_MEM;
    m.watch = SSP0;
    run("cet/setssbsy/long-0", text("ok ax=%x mem=%x", (u64)SSP0, (u64)SSP0 | 1));
    static const struct { const char *name; u64 token; const char *expect; } rows[] = {
        {"busy", SSP0 | 1, "CP(5)"}, {"other", SSP0 + 8, "CP(5)"}, {"zero", 0, "CP(5)"},
    };
    for (unsigned i = 0; i < 3; i++) {
        at = supervisor(rows[i].token);
        code("f3 0f 01 e8");
        run(text("cet/setssbsy-%s/long-0", rows[i].name), text("%s@+%d", rows[i].expect, at));
    }
    at = supervisor(SSP0);
    set_msr(PL0_SSP, SSP0 + 4);
    code("f3 0f 01 e8");
    run("cet/setssbsy-not-aligned/long-0", text("GP(0)@+%d", at));
    at = supervisor(SSP0);             /* a page of the user's is none */
    set_pte(SHADOW0, SHADOW0 | PAGE_SHADOW | PTE_U);
    code("f3 0f 01 e8");
    run("cet/setssbsy-user-page/long-0", text("PF(43)@+%d", at));
    begin(LONG, 0);                    /* not enabled */
    need(HAS_CET_SS);
    L.cr4 |= CR4_CET;
    code("f3 0f 01 e8");
    run("cet/setssbsy-off/long-0", "UD");
    static const struct { const char *name; u64 token; unsigned cf; } clear[] = {{"busy", SSP0 | 1, 0}, {"free", SSP0, 1}};
    for (unsigned i = 0; i < 2; i++) {
        supervisor(clear[i].token);
        L.gpr[DI] = SSP0;
        code("f3 0f ae 37");
        m.show = SHOW_CF | SHOW_MEM;
        m.watch = SSP0;
        run(text("cet/clrssbsy-%s/long-0", clear[i].name), text("ok cf=%d mem=%x", clear[i].cf, (u64)SSP0));
    }
    at = supervisor(SSP0);             /* one that does not end its block */
    poke64(SSP_TABLE + 8 * 2, SSP_IST + 8 - 0x100);
    poke64(SSP_IST + 8 - 0x100, SSP_IST + 8 - 0x100);
    poke64(TSS + 44, STACK_TASK);
    idt_gate(6, CS64, A_INT32, 2);
    code("f3 0f 01 e8");
    run("cet/ist-block/long-0", text("GP(1)@+%d", at + 4));
    /* An interrupt stack's token that is in use: #GP(0) in the delivery, with EXT; its own stack is free. */
    at = supervisor(SSP0);
    idt_gate(6, CS64, A_INT32, 2);
    poke64(TSS + 44, STACK_TASK);
    poke64(SSP_TABLE + 16, SSP_IST - 0x100);
    poke64(SSP_IST - 0x100, (SSP_IST - 0x100) | 1);
    code("f3 0f 01 e8");
    run("cet/ist-busy/long-0", text("GP(1)@+%d", at + 4));
    /* To ring 3 and back: IRET gives the token back, the exception takes it. */
    for (unsigned busy = 0; busy < 2; busy++) {
        at = supervisor(SSP0);
        user_pages();
        idt_gate(6, CS64, A_INT32, 0);
        poke64(SSP0 - 0x200, (SSP0 - 0x200) | 1);
        code("f3 0f 01 e8");
        if (busy) {                    /* PL0_SSP now names a stack that is in use */
            code("b9 a4 06 00 00 b8");
            code_long(SSP0 - 0x200);
            code("0f 30");
        }
        code_iretq_3(LANDING(1));
        m.show = SHOW_MEM;
        m.watch = SSP0;
        run(text("cet/user-and-back%d/long-0", busy), text("%s mem=%x", busy ? "GP(1)@L1" : "L1", (u64)SSP0 | !busy));
    }
}

void cases_cet(void)
{
    near_returns();
    far_returns();
    endbranch();
    pages();
    instructions();
    supervisor_tokens();
}
