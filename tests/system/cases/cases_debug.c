/*
 * Debug exceptions: single steps over every kind of transfer, breakpoints on code, data and ports, DR7.GD, the shadows of MOV SS and
 * STI, RF, and alignment checks; interrupts and NMIs that wait for a shadow or an IRET.
 * [SDM3 "Debugging, Branch Profiling", "Masking Exceptions and Interrupts When Switching Stacks", "Nonmaskable Interrupt", "Alignment Check"]
 */
#include "harness.h"

static const struct { enum mode mode; unsigned ring; const char *name; } modes[] = {
    {REAL, 0, "real"}, {V86, 3, "v86"}, {PM16, 0, "pm16-0"}, {PM16, 3, "pm16-3"}, {PM32, 0, "pm32-0"}, {PM32, 3, "pm32-3"},
    {COMPAT, 3, "compat-3"}, {LONG, 0, "long-0"}, {LONG, 3, "long-3"},
};

static void single_steps(void)
{
    static const struct { const char *name, *bytes, *expect; unsigned modes; } rows[] = {
        {"nop", "90", "DB@+1[BS]", ALL_MODES},
        {"jmp", "eb 02 90 90", "DB@+4[BS]", ALL_MODES},
        {"pushf-popf", "9c 9d", "DB@+1[BS]", ALL_MODES & ~IN(V86)},
        {"mov-ds", "8c d8 8e d8", "DB@+2[BS]", ALL_MODES},
        {"repeat", "f3 a4", "DB[BS]", ALL_MODES}, /* after each iteration: still at the instruction */
        {"fault", "f6 f1", "DE", ALL_MODES},      /* a fault comes before the trap */
        {"int3", "cc", "BP@+1", ALL_MODES},       /* gates clear TF */
        {"mov-ss", "8e d2 90", "DB@+3[BS]", ALL_MODES}, /* … and the instruction behind it */
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (unsigned w = 0; w < sizeof(modes) / sizeof(modes[0]); w++) {
            if (!(rows[i].modes >> modes[w].mode & 1))
                continue;
            begin(modes[w].mode, modes[w].ring);
            L.rflags |= FL_TF;
            L.gpr[CX] = i == 4 ? 3 : 0;
            L.gpr[DX] = L.ss;
            code(rows[i].bytes);
            run(text("debug/step-%s/%s", rows[i].name, modes[w].name), rows[i].expect);
        }
}

static void breakpoints(void)
{
    for (unsigned w = 0; w < sizeof(modes) / sizeof(modes[0]); w++) {
        enum mode mode = modes[w].mode;
        unsigned ring = modes[w].ring;
        const char *name = modes[w].name;
        static const u32 enables[] = {0, 1, 2};
        for (unsigned e = 0; e < 3; e++) {
            /* execution: a fault, before the instruction; not with RF */
            begin(mode, ring);
            L.dr[0] = START + 1;
            L.dr[5] = 0x400 | enables[e];
            code("90 90 90");
            run(text("debug/execute-%d/%s", e, name), e ? "DB@+1[B0]" : "ok");
        }
        if (mode != REAL) {
            begin(mode, ring);
            L.dr[0] = START;
            L.dr[5] = 0x402;
            L.rflags |= FL_RF;
            code("90 90");
            run(text("debug/execute-rf/%s", name), "ok");
        }
        static const struct { const char *name; u32 kind, length, offset; const char *bytes, *expect; } data[] = {
            {"write-hit", 1, 0, 0, "88 07 90", "DB@+2[B1]"}, {"write-read", 1, 0, 0, "8a 07 90", "ok"}, {"access-read", 3, 0, 0, "8a 07 90", "DB@+2[B1]"},
            {"access-beside", 3, 0, 1, "8a 07 90", "ok"}, {"length4-reached", 3, 3, 0, "8a 47 03 90", "DB@+3[B1]"}, {"length2-reached", 3, 1, 0, "8a 47 01 90", "DB@+3[B1]"},
            {"length2-beyond", 3, 1, 0, "8a 47 02 90", "ok"}, {"length4-unaligned", 3, 3, 1, "8a 07 90", "DB@+2[B1]"},
        };
        for (unsigned i = 0; i < sizeof(data) / sizeof(data[0]); i++) {
            begin(mode, ring);
            L.dr[1] = DATA + data[i].offset;
            L.dr[5] = 0x408 | data[i].kind << 20 | data[i].length << 22;
            code(data[i].bytes);
            run(text("debug/%s/%s", data[i].name, name), data[i].expect);
        }
        begin(mode, ring);             /* ports, with CR4.DE */
        L.cr4 |= CR4_DE;
        L.rflags |= FL_IOPL(3);
        io_map();
        if (mode == COMPAT || mode == LONG)
            segment(GDT, SEL_TSS, TSS, 0x67, A_TSS32, 0);
        poke32(IO_MAP + 0x10, 0);
        L.dr[2] = 0x80;
        L.dr[5] = 0x420 | 2 << 24;
        code("e4 80 90");
        run(text("debug/port/%s", name), "DB@+2[B2]");
        /* BS and a data breakpoint together; DR6 is not cleared */
        begin(mode, ring);
        L.dr[1] = DATA;
        L.dr[5] = 0x408 | 3 << 20;
        L.rflags |= FL_TF;
        code("8a 07 90");
        run(text("debug/step-and-access/%s", name), "DB@+2[B1BS]");
    }
    static const char *const accesses[] = {"0f 21 c0", "0f 23 c0", "0f 21 f0", "0f 21 f8", "0f 23 f8"};
    for (unsigned i = 0; i < 5; i++) { /* GD: any access at ring 0, a fault */
        begin(LONG, 0);
        L.dr[5] = 0x2400;
        code(accesses[i]);
        run(text("debug/gd-%d/long-0", i), "DB[BD]");
    }
}

static void shadows(void)
{
    /* A data breakpoint of MOV SS waits for the instruction behind it; an execution breakpoint there is lost. */
    begin(PM32, 0);
    poke16(DATA, DS32);
    L.dr[1] = DATA;
    L.dr[5] = 0x408 | 3 << 20;
    code("8e 17 90 90");
    run("debug/mov-ss-access/pm32-0", "DB@+3[B1]");
    begin(LONG, 3);
    poke16(DATA, DS32_3);
    L.dr[1] = DATA;
    L.dr[5] = 0x408 | 3 << 20;
    code("8e 17 90 90");
    run("debug/mov-ss-access/long-3", "DB@+3[B1]");
}

/* Vector 50h waits in the local APIC; IF is 0 at first. */
static void interrupts(void)
{
    static const struct { const char *name, *bytes, *expect; } rows[] = {
        {"none", "90 90", "ok"},
        {"sti", "fb 90 90", "int50@+2"},          /* after the instruction behind STI */
        {"sti-sti", "fb fb 90", "int50@+2"},
        {"sti-cli", "fb fa 90 90", "ok"},
        {"sti-hlt", "fb f4 90", "int50@+2"},
        {"sti-mov-ss", "fb 8e d2 90 90", "int50@+4"},
        {"sti-mov-ds", "fb 8e da 90 90", "int50@+3"},
    };
    static const struct { enum mode mode; const char *name; } where[] = {{REAL, "real"}, {PM16, "pm16-0"}, {PM32, "pm32-0"}, {LONG, "long-0"}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (unsigned w = 0; w < 4; w++) {
            begin(where[w].mode, 0);
            L.gpr[DX] = L.ss;
            m.interrupt = 0x4050 | 1 << 18;
            code(rows[i].bytes);
            run(text("debug/interrupt-%s/%s", rows[i].name, where[w].name), rows[i].expect);
        }
    for (unsigned w = 0; w < sizeof(modes) / sizeof(modes[0]); w++) { /* IF set from the start: before the first instruction */
        begin(modes[w].mode, modes[w].ring);
        L.rflags |= FL_IF;
        m.interrupt = 0x4050 | 1 << 18;
        code("90 90");
        run(text("debug/interrupt-at-once/%s", modes[w].name), "int50");
    }
}

static void alignment(void)
{
    for (unsigned w = 0; w < sizeof(modes) / sizeof(modes[0]); w++)
        for (unsigned am = 0; am < 2; am++)
            for (unsigned ac = 0; ac < 2; ac++) {
                if (modes[w].mode == REAL)
                    continue;
                begin(modes[w].mode, modes[w].ring);
                L.cr0 |= am ? CR0_AM : 0;
                L.rflags |= ac ? FL_AC : 0;
                code("8b 47 01");
                run(text("debug/alignment-am%d-ac%d/%s", am, ac, modes[w].name), am && ac && modes[w].ring == 3 ? "AC(0)" : "ok");
            }
}

void cases_debug(void)
{
    single_steps();
    breakpoints();
    shadows();
    interrupts();
    alignment();
}
