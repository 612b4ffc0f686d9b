/*
 * Exceptions during exceptions: which pairs make a double fault, and what shuts the processor down.
 * [SDM3 "Interrupt 8—Double Fault Exception (#DF)"]
 *
 * The first exception's gate is made bad, so that its delivery raises the second: not present (#NP), a task gate's TSS (#TS), a stack that is
 * not there (#SS), a wrong type (#GP), a page that is absent (#PF).
 */
#include "harness.h"

enum second { NP, TS, GP, SECONDS };
static const char *const second_names[] = {"np", "ts", "gp"};

/* First exceptions: benign ones, contributory ones, page faults. */
static const struct first { const char *name, *bytes; unsigned vector; unsigned class; } firsts[] = {
    {"de", "f6 f1", 0, 1}, {"ud", "0f 0b 90", 6, 0}, {"bp", "cc", 3, 0}, {"nm", "db e3", 7, 0}, {"gp", "f4", 13, 1},
    {"np", "8e d9", 11, 1}, {"ss", "8e d1", 12, 1}, {"pf", "8b 1f", 14, 2}, {"ac", "8b 5f 01", 17, 0}, {"int", "cd 40", 0x40, 0},
};

static const char *error_of(enum second second, unsigned vector, bool ext)
{
    u64 idt_error = vector * 8 + 2 + ext;
    return second == NP ? text("NP(%x)", idt_error) : second == TS ? text("TS(%x)", (u64)X(0) + ext) : text("GP(%x)", idt_error);
}

static void pairs(enum mode mode, const char *mode_name)
{
    bool wide = mode != PM32;
    for (unsigned f = 0; f < sizeof(firsts) / sizeof(firsts[0]); f++)
        for (enum second second = NP; second < SECONDS; second++) {
            const struct first *first = &firsts[f];
            if (second == TS && wide)
                continue;
            begin(mode, 3);
            if (mode == PM32)
                paging(P32);
            if (first->vector == 7)
                L.cr0 |= CR0_TS;
            if (first->vector == 17) {
                L.cr0 |= CR0_AM;
                L.rflags |= FL_AC;
            }
            segment(GDT, X(1), 0, 0xfffff, 0x73, F_G | F_D); /* not present */
            L.gpr[CX] = first->vector == 0 ? 0 : X(1) | 3;
            if (first->vector == 14)
                set_pte(DATA, 0);
            unsigned stride = wide ? 16 : 8;
            u64 at = IDT + stride * first->vector;
            if (second == NP)
                poke8(at + 5, 0x6e);
            else if (second == GP)
                poke8(at + 5, 0xe0);
            else {
                segment(GDT, X(0), TSS_A, 0x20, A_TSS32, 0);
                gate(at, X(0), 0, A_TASK | DPL(3), 0, false);
            }
            code(first->bytes);
            /* A contributory exception after one, or after a page fault; or the second one's own gate is the bad one. */
            bool soft = first->vector == 0x40 || first->vector == 3;
            bool twice = first->class || (second == NP && first->vector == 11) || (second == GP && first->vector == 13);
            const char *expect = twice ? wide ? "DF(0)" : "DF(0)task" : error_of(second, first->vector, !soft);
            run(text("double/%s-then-%s/%s-3", first->name, second_names[second], mode_name), expect);
        }
}

/* A page fault while delivering: the stack of the handler is absent. */
static void absent_stacks(enum mode mode, const char *mode_name)
{
    for (unsigned f = 0; f < sizeof(firsts) / sizeof(firsts[0]); f++) {
        const struct first *first = &firsts[f];
        begin(mode, 3);
        if (mode == PM32)
            paging(PAE);
        if (first->vector == 7)
            L.cr0 |= CR0_TS;
        if (first->vector == 17) {
            L.cr0 |= CR0_AM;
            L.rflags |= FL_AC;
        }
        segment(GDT, X(1), 0, 0xfffff, 0x73, F_G | F_D);
        L.gpr[CX] = first->vector == 0 ? 0 : X(1) | 3;
        if (first->vector == 14)
            set_pte(DATA, 0);
        set_pte(STACK0 - 0x1000, 0);
        catch_apart(14);
        if (first->vector == 14) {     /* a page fault cannot be caught apart and have the absent stack */
            idt_gate(14, mode == PM32 ? CS32 : CS64, A_INT32, 0);
        }
        code(first->bytes);
        bool wide = mode != PM32;
        m.target = STACK0 - (wide ? 8 : 4);
        /* a page fault during a contributory exception is no double fault; during a page fault it is */
        const char *expect = first->class == 2 ? wide ? "DF(0)" : "DF(0)task" : wide ? "PF(2)" : "PF(2)task";
        run(text("double/%s-then-pf/%s-3", first->name, mode_name), expect);
    }
}

static void shutdowns(void)
{
    begin(LONG, 0);                    /* no IDT */
    L.idtr.limit = 0;
    code("0f 0b");
    m.shutdown = true;
    run("double/shutdown-no-idt/long-0", "shutdown");
    begin(PM32, 0);
    L.idtr.limit = 0;
    code("0f 0b");
    m.shutdown = true;
    run("double/shutdown-no-idt/pm32-0", "shutdown");
    begin(PM32, 3);                    /* no stack, and #DF through an ordinary gate */
    poke32(TSS + 8, 0);
    idt_gate(8, CS32, A_INT32, 0);
    code("cd 40");
    m.shutdown = true;
    run("double/shutdown-no-stack/pm32-3", "shutdown");
    begin(REAL, 0);
    L.idtr.limit = 4 * 6 - 1;
    code("0f 0b");
    m.shutdown = true;
    run("double/shutdown-ivt-limit/real", "shutdown");
    begin(LONG, 0);                    /* a bad RSP at ring 0, #DF without IST */
    idt_gate(8, CS64, A_INT32, 0);
    L.gpr[AX] = 0x800000000000;
    code("48 89 c4 0f 0b");
    m.shutdown = true;
    run("double/shutdown-rsp/long-0", "shutdown");
    begin(LONG, 0);                    /* … with IST */
    L.gpr[AX] = 0x800000000000;
    code("48 89 c4 90 0f 0b 90");
    m.show = SHOW_SP;
    catch_apart(12);
    run("double/rsp-ss/long-0", "SS(1)@+4 sp=800000000000");
    begin(LONG, 0);
    L.gpr[AX] = 0x800000000000;
    code("48 89 c4 90 0f 0b 90");
    m.show = SHOW_SP;
    run("double/rsp-df/long-0", "DF(0)@+4 sp=800000000000");
    begin(REAL, 0);                    /* real mode: INT n beyond the IVT's limit raises #GP, whose entry is in reach */
    L.idtr.limit = 4 * 14 - 1;
    code("cd 40");
    run("double/ivt-limit/real", "GP");
    begin(REAL, 0);
    L.idtr.limit = 4 * 9 - 1;
    code("cd 40");
    run("double/ivt-limit-df/real", "DF");
}

void cases_double(void)
{
    pairs(PM32, "pm32");
    pairs(LONG, "long");
    absent_stacks(PM32, "pm32");
    absent_stacks(LONG, "long");
    shutdowns();
}
