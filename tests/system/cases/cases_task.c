/*
 * Task switches: by JMP, CALL, INT and IRET, to 32- and 16-bit tasks; busy, link and NT; the T flag; what a new task's segments and stack may be.
 * [SDM3 "Task Management", "Task Switching"]
 */
#include "harness.h"

static void far_pointer(u32 selector)
{
    poke32(DATA, 0x12345678);
    poke16(DATA + 4, (u16)selector);
}

/* The other task: at TSS_A, selector X(0), with what is common to all cases. */
static void other(bool wide, u32 access)
{
    if (wide) {
        task32(TSS_A, 9);
        segment(GDT, X(0), TSS_A, 0x67, access | 8, 0);
    } else {
        task16(TSS_A, 9);
        segment(GDT, X(0), TSS_A, 0x2b, access, 0);
    }
    far_pointer(X(0));
}

static void ways(void)
{
    static const struct { const char *name, *bytes; bool nested; } rows[] = {{"jmp", "ff 2f", false}, {"call", "ff 1f", true}, {"int", "cd 44", true}};
    for (unsigned wide = 0; wide < 2; wide++)
        for (unsigned i = 0; i < 3; i++)
            for (unsigned through_gate = 0; through_gate < 2; through_gate++) {
                if (i == 2 && through_gate)
                    continue;
                begin(PM32, 0);
                other(wide, A_TSS16);
                if (through_gate) {
                    gate(GDT + X(2), X(0), 0, A_TASK, 0, false);
                    far_pointer(X(2));
                }
                gate(IDT + 8 * 0x44, X(0), 0, A_TASK, 0, false);
                code(rows[i].bytes);
                m.watch = GDT + SEL_TSS + 4; /* the old task: busy, if nested */
                m.show = SHOW_TR | SHOW_FL | SHOW_CS | SHOW_SS | SHOW_MEM;
                u32 cs = wide ? CS32 : CS16, ss = wide ? DS32 : DS16;
                run(text("task/%s%s-%d/pm32-0", rows[i].name, through_gate ? "-gate" : "", wide ? 32 : 16),
                    text("L9 cs=%x ss=%x fl=%x tr=%x mem=%x", (u64)cs, (u64)ss, (u64)(2 | FL_RF | (rows[i].nested ? FL_NT : 0)), (u64)X(0),
                         (u64)(rows[i].nested ? 0x8b02 : 0x8902)));
                begin(PM32, 0);        /* the link */
                other(wide, A_TSS16);
                if (through_gate) {
                    gate(GDT + X(2), X(0), 0, A_TASK, 0, false);
                    far_pointer(X(2));
                }
                gate(IDT + 8 * 0x44, X(0), 0, A_TASK, 0, false);
                poke16(TSS_A, 0x7777);
                code(rows[i].bytes);
                m.watch = TSS_A;
                m.show = SHOW_MEM;
                u64 upper = wide ? 0 : 0x70000000;
                run(text("task/%s%s-%d-link/pm32-0", rows[i].name, through_gate ? "-gate" : "", wide ? 32 : 16),
                    text("L9 mem=%x", upper | (rows[i].nested ? SEL_TSS : 0x7777)));
            }
}

static void refused(void)
{
    static const struct { const char *name; u32 access, limit, selector; const char *expect; } rows[] = {
        {"busy", 0x8b, 0x67, 0, "GP"}, {"absent", 0x09, 0x67, 0, "NP"}, {"limit", 0x89, 0x66, 0, "TS"}, {"busy16", 0x83, 0x2b, 0, "GP"},
        {"limit16", 0x81, 0x2a, 0, "TS"},
    };
    for (unsigned i = 0; i < 5; i++)
        for (unsigned call = 0; call < 2; call++) {
            begin(PM32, 0);
            other(i < 3, A_TSS16);
            segment(GDT, X(0), TSS_A, rows[i].limit, rows[i].access, 0);
            code(call ? "ff 1f" : "ff 2f");
            run(text("task/%s-%s/pm32-0", call ? "call" : "jmp", rows[i].name), text("%s(%x)", rows[i].expect, (u64)X(0)));
        }
    begin(PM32, 3);                    /* the DPL of the TSS, and that of a task gate */
    other(true, A_TSS16);
    code("ff 2f");
    run("task/jmp-dpl/pm32-3", text("GP(%x)", (u64)X(0)));
    begin(PM32, 3);
    other(true, A_TSS16);
    gate(GDT + X(2), X(0), 0, A_TASK | DPL(3), 0, false);
    far_pointer(X(2) | 3);
    code("ff 2f");
    run("task/jmp-gate-dpl3/pm32-3", "L9");
    begin(PM32, 0);                    /* a TSS in the LDT, a gate to no TSS */
    gate(GDT + X(2), DS32, 0, A_TASK, 0, false);
    far_pointer(X(2));
    code("ff 2f");
    run("task/jmp-gate-to-data/pm32-0", text("GP(%x)", (u64)DS32));
    begin(PM32, 0);
    gate(GDT + X(2), 0x0c, 0, A_TASK, 0, false);
    far_pointer(X(2));
    code("ff 2f");
    run("task/jmp-gate-ti/pm32-0", "GP(c)");
    begin(COMPAT, 0);                  /* no task switches in IA-32e mode */
    segment(GDT, X(0), TSS_A, 0x67, A_TSS32, 0);
    far_pointer(X(0));
    code("ff 2f");
    run("task/jmp/compat-0", text("GP(%x)", (u64)X(0)));
}

/* Faults in the new task's context: the task has been entered, its TSS is the current one. */
static void new_context(void)
{
    static const struct { const char *name; u32 offset, value; const char *expect; } rows[] = {
        {"cs-null", 0x4c, 0, "TS(0)"}, {"cs-data", 0x4c, DS32, "TS(10)"}, {"cs-rpl3", 0x4c, CS32_3 & ~3u, "TS(30)"}, {"ss-null", 0x50, 0, "TS(0)"},
        {"ss-code", 0x50, CS32, "TS(8)"}, {"ss-rpl3", 0x50, DS32_3, "TS(38)"}, {"ds-system", 0x54, SEL_LDT, "TS(78)"}, {"es-beyond", 0x48, 0x3000, "TS(3000)"},
        {"ldt-code", 0x60, CS32, "TS(8)"}, {"ldt-ti", 0x60, 0x0c, "TS(c)"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(PM32, 0);
        other(true, A_TSS16);
        catch_apart(10);
        poke32(TSS_A + rows[i].offset, rows[i].value);
        code("ff 2f");
        run(text("task/new-%s/pm32-0", rows[i].name), text("%stask@L9", rows[i].expect));
    }
    begin(PM32, 0);                    /* EIP beyond the limit: #GP in the new task */
    other(true, A_TSS16);
    segment(GDT, X(2), 0, 0xfff, A_CODE, F_D);
    poke32(TSS_A + 0x4c, X(2));
    code("ff 2f");
    run("task/new-eip/pm32-0", "GP(0)@L9");
    begin(PM32, 0);                    /* T: a trap before the first instruction */
    other(true, A_TSS16);
    poke16(TSS_A + 0x64, 1);
    code("ff 2f");
    run("task/t-flag/pm32-0", "DB@L9[BT]");
    begin(PM32, 0);                    /* CR0.TS is set */
    other(true, A_TSS16);
    code("ff 2f");
    m.show = SHOW_CR0;
    run("task/ts/pm32-0", "L9 cr0=10039");
    begin(PM32, 0);                    /* to V8086 mode */
    other(true, A_TSS16);
    poke32(TSS_A + 0x20, LANDING(9) - BASE16);
    poke32(TSS_A + 0x24, FL_VM | 2);
    for (unsigned at = 0x48; at <= 0x5c; at += 4)
        poke32(TSS_A + at, BASE16 >> 4);
    poke32(TSS_A + 0x38, 0x5000);
    code("ff 2f");
    m.show = SHOW_CS | SHOW_FL;
    run("task/to-v86/pm32-0", "L9 cs=1000 fl=30002");
    begin(V86, 3);                     /* INT through a task gate out of V8086 mode */
    other(true, A_TSS16);
    L.rflags |= FL_IOPL(3);
    gate(IDT + 8 * 0x44, X(0), 0, A_TASK | DPL(3), 0, false);
    code("cd 44");
    m.show = SHOW_CS | SHOW_TR;
    run("task/int-from-v86", text("L9 cs=8 tr=%x", (u64)X(0)));
}

void cases_task(void)
{
    ways();
    refused();
    new_context();
}
