/*
 * Where a segment ends: stacks of 16 bits that wrap around, expand-down segments, accesses that reach over the last byte.
 * [SDM3 "Limit Checking", "Stack-Fault Exception (#SS)"], [SDM1 "Address-Size Attributes for Stack Accesses"], [SDM2 "PUSH", "POP", "ENTER", "CALL"].
 */
#include "harness.h"

static const struct { enum mode mode; unsigned ring; const char *name; } modes16[] = {
    {REAL, 0, "real"}, {V86, 3, "v86"}, {PM16, 0, "pm16-0"}, {PM16, 3, "pm16-3"},
};

/* A stack segment of 64 KiB at DATA - F000h: offsets F000h to FFFFh are the first page of data. At ring 0 exceptions come by task gates. */
static void stacks16(void)
{
    static const struct { const char *name, *bytes; u32 sp, after; bool fault; } rows[] = {
        {"push", "50", 2, 0, false}, {"push-wrap", "50", 0, 0xfffe, false}, {"push-over", "50", 1, 0xffff, true},
        {"push32-wrap", "66 50", 0, 0xfffc, false}, {"push32-over", "66 50", 2, 0xfffe, true}, {"pop-wrap", "58", 0xfffe, 0, false},
        {"pop-over", "58", 0xffff, 1, true}, {"pop32-over", "66 58", 0xfffe, 2, true}, {"pusha-wrap", "60", 0, 0xfff0, false},
        {"popa-wrap", "61", 0xfff0, 0, false}, {"pushf-wrap", "66 6a 01", 0, 0xfffc, false}, {"call-wrap", "e8 00 00", 0, 0xfffe, false},
        {"call-over", "e8 00 00", 1, 0xffff, true}, {"enter-wrap", "c8 00 00 00", 0, 0xfffe, false},
    };
    for (unsigned w = 2; w < 4; w++)
        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            unsigned ring = modes16[w].ring;
            begin(modes16[w].mode, ring);
            segment(GDT, X(0), DATA - 0xf000, 0xffff, A_DATA | DPL(ring), 0);
            L.ss = X(0) | ring;
            L.rsp = 0x8000;            /* IRET would not load the upper half of ESP on every processor */
            L.gpr[CX] = rows[i].sp;
            code("66 89 cc");
            if (!ring) {
                catch_apart(6);
                catch_apart(12);
            }
            code(rows[i].bytes);
            m.show = SHOW_SP;
            u64 sp = rows[i].fault ? rows[i].sp : rows[i].after;
            run(text("limit/%s/%s", rows[i].name, modes16[w].name),
                rows[i].fault ? text("SS(0)%s@+3 sp=%x", ring ? "" : "task", sp) : text("ok sp=%x", sp));
        }
    for (unsigned i = 0; i < 2; i++) { /* the upper half of ESP stays what it was */
        begin(PM16, 3);
        L.gpr[AX] = 0x12340000;
        L.gpr[CX] = 0x15000 - BASE16;
        code("66 09 c1 66 89 cc");
        code(i ? "58" : "50");
        code("66 89 e1");
        m.show = SHOW_CX;
        run(text("limit/%s-keeps-esp/pm16-3", i ? "pop" : "push"), text("ok cx=%x", (u64)(0x12345000 + (i ? 2 : -2))));
    }
    begin(PM32, 3);                    /* a 16-bit stack under 32-bit code: SP alone addresses */
    L.ss = DS16_3;
    L.rsp = 0x5000;
    L.gpr[CX] = 0xabcd5000;
    code("89 cc 50 89 e1");
    m.show = SHOW_CX;
    run("limit/push-b0/pm32-3", "ok cx=abcd4ffc");
}

/* Data segments of bytes, expand-up and expand-down, with and without B: the first and last bytes that can be reached. */
static void segments(void)
{
    static const struct { const char *name; u32 limit, access, flags, offset; unsigned size; bool fault; } rows[] = {
        {"up-last", 0xfff, A_DATA, F_D, 0xfff, 1, false}, {"up-beyond", 0xfff, A_DATA, F_D, 0x1000, 1, true},
        {"up-word-over", 0xfff, A_DATA, F_D, 0xfff, 2, true}, {"up-word-last", 0xfff, A_DATA, F_D, 0xffe, 2, false},
        {"up-dword-over", 0xfff, A_DATA, F_D, 0xffd, 4, true}, {"up-wrap", 0xfff, A_DATA, F_D, 0xffffffff, 2, true},
        {"up-qword-over", 0xfff, A_DATA, F_D, 0xff9, 8, true}, {"up-qword-last", 0xfff, A_DATA, F_D, 0xff8, 8, false},
        {"pages-last", 0, A_DATA, F_D | F_G, 0xfff, 1, false}, {"pages-beyond", 0, A_DATA, F_D | F_G, 0x1000, 1, true},
        {"down-limit", 0xfff, A_DATA | 4, F_D, 0xfff, 1, true}, {"down-first", 0xfff, A_DATA | 4, F_D, 0x1000, 1, false},
        {"down-word-first", 0xfff, A_DATA | 4, F_D, 0x1000, 2, false}, {"down-word-limit", 0xfff, A_DATA | 4, F_D, 0xfff, 2, true},
        {"down-top", 0xfff, A_DATA | 4, F_D, 0xffffffff, 2, true}, {"down16-top", 0xfff, A_DATA | 4, 0, 0xffff, 1, false},
        {"down16-over", 0xfff, A_DATA | 4, 0, 0x10000, 1, true}, {"down16-word-over", 0xfff, A_DATA | 4, 0, 0xffff, 2, true},
        {"down-all", 0xfffff, A_DATA | 4, F_D | F_G, 0xffffffff, 1, true}, {"down16-ffff", 0xffff, A_DATA | 4, 0, 0xffff, 1, true},
        {"down-pages", 0, A_DATA | 4, F_D | F_G, 0xfff, 1, true}, {"down-pages-first", 0, A_DATA | 4, F_D | F_G, 0x1000, 1, false},
    };
    for (unsigned ring = 0; ring <= 3; ring += 3)
        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
            for (unsigned stack = 0; stack < 2; stack++) {
                /* ES, and the same through a stack segment with an SS prefix: #SS */
                begin(PM32, ring);
                segment(GDT, X(0), 0x11000, rows[i].limit, rows[i].access | DPL(ring), rows[i].flags);
                L.gpr[DI] = rows[i].offset;
                L.gpr[DX] = X(0) | ring;
                if (stack)
                    code("8e d2 36");
                else
                    code("8e c2 26");
                if (stack)
                    catch_apart(6), catch_apart(12), catch_apart(13);
                code(rows[i].size == 1 ? "8a 07" : rows[i].size == 2 ? "66 8b 07" : rows[i].size == 4 ? "8b 07" : "0f c7 0f");
                const char *task = stack ? "task" : "";
                run(text("limit/%s-%s/pm32-%d", rows[i].name, stack ? "ss" : "es", ring),
                    rows[i].fault ? text("%s(0)%s@+2", stack ? "SS" : "GP", task) : "ok");
            }
    /* Real and virtual-8086 mode: words at FFFFh, and addresses of 32 bits beyond the limit. */
    for (unsigned w = 0; w < 4; w++) {
        static const struct { const char *name, *bytes; u32 bx; bool fault; } rows16[] = {
            {"word-over", "8b 07", 0xffff, true}, {"byte-last", "8a 07", 0xffff, false}, {"dword-over", "66 8b 07", 0xfffd, true},
            {"dword-last", "66 8b 07", 0xfffc, false}, {"address32", "67 8a 03", 0x10000, true},
        };
        for (unsigned i = 0; i < sizeof(rows16) / sizeof(rows16[0]); i++) {
            begin(modes16[w].mode, modes16[w].ring);
            L.gpr[BX] = rows16[i].bx;
            code(rows16[i].bytes);
            run(text("limit/%s/%s", rows16[i].name, modes16[w].name), rows16[i].fault ? w ? "GP(0)" : "GP" : "ok");
        }
    }
    /* Code that runs over its limit. */
    begin(PM32, 0);
    segment(GDT, X(0), 0, START + 3, A_CODE, F_D);
    L.cs = X(0);
    code("90 90 eb 00 90");
    run("limit/code-branch/pm32-0", "GP(0)@+2"); /* at the branch */
    begin(PM32, 0);
    segment(GDT, X(0), 0, START + 3, A_CODE, F_D);
    L.cs = X(0);
    code("90 90 90 eb 00 90");
    run("limit/code-within/pm32-0", "GP(0)@+3");
    begin(PM32, 0);
    segment(GDT, X(0), 0, START + 3, A_CODE, F_D);
    L.cs = X(0);
    code("90 90 90 90 90");
    run("limit/code-next/pm32-0", "GP(0)@+4");
}

void cases_limit(void)
{
    stacks16();
    segments();
}
