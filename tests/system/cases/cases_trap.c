/*
 * Traps and what holds them back: NMIs, single steps on branches, debug exceptions behind MOV SS, bus locks.
 * [SDM3 "Nonmaskable Interrupt (NMI)", "Handling Multiple NMIs", "Single-Stepping on Branches",
 * "Masking Exceptions and Interrupts When Switching Stacks", "Bus-Lock Detection"]
 */
#include "harness.h"

#define DEBUGCTL 0x1d9u
#define BTF 2u
#define BUS_LOCK_DETECT 4u
#define HANDLER (CODE + 0x400)
/* mov dword [eax], 4400h: the local APIC sends an NMI to APIC ID 0, the processor's own. */
#define SEND_NMI "c7 00 00 44 00 00"

static void nmi(enum mode mode, u64 handler)
{
    begin(mode, 0);
    L.gpr[AX] = 0xfee00300;
    if (handler)
        gate(IDT + (mode == LONG ? 16 : 8) * 2, mode == LONG ? CS64 : CS32, handler, A_INT32, 0, mode == LONG);
}

static void nmis(void)
{
    static const struct { enum mode mode; const char *name; } where[] = {{PM32, "pm32-0"}, {LONG, "long-0"}};
    for (unsigned w = 0; w < 2; w++) {
        enum mode mode = where[w].mode;
        const char *name = where[w].name;
        nmi(mode, 0);
        code(SEND_NMI " 90 90");
        run(text("trap/nmi/%s", name), "NMI@+6");
        nmi(mode, 0);                  /* whatever IF */
        L.rflags |= FL_IF;
        code(SEND_NMI " 90 90");
        run(text("trap/nmi-if/%s", name), "NMI@+6");
        nmi(mode, 0);                  /* the shadow of MOV SS lasts for one instruction, which sends it */
        L.gpr[DX] = L.ss;
        code("8e d2 " SEND_NMI " 90 90");
        run(text("trap/nmi-mov-ss/%s", name), "NMI@+8");
        nmi(mode, HANDLER);            /* the handler is not interrupted by the next */
        bytes_at(HANDLER, SEND_NMI " 90 90 0f 0b");
        code(SEND_NMI " 90 90");
        run(text("trap/nmi-blocked/%s", name), text("UD@%x", (u64)HANDLER + 8));
        nmi(mode, HANDLER);            /* … which comes when it returns; the gate leads elsewhere by then */
        bytes_at(HANDLER, SEND_NMI " 89 0a 89 5a 04");
        if (mode == LONG)
            bytes_at(HANDLER + 11, "48 cf");
        else
            bytes_at(HANDLER + 11, "cf");
        L.gpr[DX] = IDT + (mode == LONG ? 16 : 8) * 2;
        L.gpr[CX] = (u32)((stub(2) & 0xffff) | (mode == LONG ? CS64 : CS32) << 16);
        L.gpr[BX] = (u32)((stub(2) & 0xffff0000) | A_INT32 << 8);
        code(SEND_NMI " 90 90");
        run(text("trap/nmi-after-iret/%s", name), "NMI@+6");
        nmi(mode, 0);                  /* the handler of an interrupt is */
        gate(IDT + (mode == LONG ? 16 : 8) * 0x30, mode == LONG ? CS64 : CS32, HANDLER, A_INT32, 0, mode == LONG);
        bytes_at(HANDLER, SEND_NMI " 90 0f 0b");
        code("cd 30");
        run(text("trap/nmi-in-int/%s", name), text("NMI@%x", (u64)HANDLER + 6));
    }
    nmi(LONG, 0);
    idt_gate(2, CS64, A_INT32, 1);
    code(SEND_NMI " 90");
    m.show = SHOW_HANDLER;
    run("trap/nmi-ist/long-0", text("NMI@+6 h:cs=%x ss=%x sp=%x fl=2", (u64)CS64, (u64)DS32, (u64)STACK_IST - 40));
    nmi(PM32, 0);
    catch_apart(2);
    code(SEND_NMI " 90");
    run("trap/nmi-task/pm32-0", "NMItask@+6");
}

static void branch_steps(void)
{
    static const struct { const char *name, *bytes, *expect; } rows[] = {
        {"none", "90 90", "ok"}, {"jmp", "90 eb 02 90 90 90", "DB@+5[BS]"}, {"jmp-next", "90 eb 00 90", "DB@+3[BS]"},
        {"jz-not-taken", "83 c8 01 74 02 90", "ok"}, {"jz-taken", "31 c0 74 02 90 90 90", "DB@+6[BS]"},
        {"call", "90 e8 01 00 00 00 90 90", "DB@+7[BS]"},
        {"loop", "31 c9 ff c1 ff c1 e2 fe 90", "DB@+6[BS]"}, {"loop-end", "31 c9 ff c1 e2 00 90", "ok"}, {"int", "cd 30", "int30@+2"},
    };
    bool has = msr_takes(DEBUGCTL, BTF);
    for (unsigned ring = 0; ring <= 3; ring += 3)
        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
            for (unsigned w = 0; w < 2; w++) {
                begin(w ? LONG : PM32, ring);
                need(has);
                L.rflags |= FL_TF;
                set_msr(DEBUGCTL, BTF);
                code(rows[i].bytes);
                m.soft = i == 8;
                run(text("trap/branch-step-%s/%s-%d", rows[i].name, w ? "long" : "pm32", ring), rows[i].expect);
            }
    begin(LONG, 0);                    /* #DB clears BTF: what follows is stepped one by one */
    need(has);
    set_msr(DEBUGCTL, BTF);
    gate(IDT + 16, CS64, HANDLER, A_INT32, 0, true);
    bytes_at(HANDLER, "b9 d9 01 00 00 0f 32 0f 0b");
    L.rflags |= FL_TF;
    code("eb 00 90");
    m.show = SHOW_AX;
    run("trap/branch-step-cleared/long-0", text("UD@%x ax=0", (u64)HANDLER + 7));
}

/* A data breakpoint that MOV SS meets, and what comes behind it. */
static void behind_mov_ss(void)
{
    static const struct { const char *name, *bytes, *expect; bool soft; } rows[] = {
        {"nop", "90 90", "DB@+3[B1]", false},
        {"fault", "f6 f1 90", "DE@+2", false},     /* lost */
        {"int", "cd 30", "DB@L3[B1]", false},      /* in front of the handler's first instruction */
        {"int3", "cc", "DB@L4[B1]", false},
        {"mov-ss", "8e d2 90 90", "DB@+4[B1]", false},
        {"sti", "fb 90 90", "DB@+3[B1]", false},
        {"far-jump", "", "DB@L5[B1]", false},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(PM32, 0);
        poke16(DATA, DS32);
        L.gpr[DX] = DS32;
        L.dr[1] = DATA;
        L.dr[5] = 0x408 | 3 << 20;
        gate(IDT + 8 * 0x30, CS32, LANDING(3), A_INT32 | DPL(3), 0, false);
        gate(IDT + 8 * 3, CS32, LANDING(4), A_INT32 | DPL(3), 0, false);
        code("8e 17");
        code(rows[i].bytes);
        if (!rows[i].bytes[0]) {
            code("ea");
            code_long(LANDING(5));
            code_word(CS32);
        }
        run(text("trap/behind-mov-ss-%s/pm32-0", rows[i].name), rows[i].expect);
    }
    begin(LONG, 0);                    /* STI holds no debug exception back */
    L.rflags |= FL_TF;
    code("fb 90");
    run("trap/sti-step/long-0", "DB@+1[BS]");
    begin(LONG, 3);                    /* SYSCALL behind it: the trap comes in the handler */
    poke16(DATA, DS32_3);
    L.dr[1] = DATA;
    L.dr[5] = 0x408 | 3 << 20;
    L.efer |= EFER_SCE;
    set_msr(0xc0000081, (u64)CS64 << 32);
    set_msr(0xc0000082, LANDING(6));
    code("8e 17 0f 05");
    idt_gate(1, CS64, A_INT32, 1);
    run("trap/behind-mov-ss-syscall/long-3", "DB@L6[B1]");
}

static void bus_locks(void)
{
    static const struct { const char *name, *bytes; u32 at; bool lock; unsigned length; } rows[] = {
        {"add-split", "f0 01 07", 61, true, 3}, {"add-within", "f0 01 07", 60, false, 3}, {"add-plain", "01 07", 61, false, 2},
        {"xchg-split", "87 07", 63, true, 2}, {"cmpxchg8b-split", "f0 0f c7 0f", 58, true, 4},
        {"xadd16-split", "66 f0 0f c1 07", 63, true, 5},
    };
    for (unsigned ring = 0; ring <= 3; ring += 3)
        for (unsigned w = 0; w < 2; w++)
            for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                begin(w ? LONG : PM32, ring);
                need(HAS_BUS_LOCK_DETECT);
                set_msr(DEBUGCTL, BUS_LOCK_DETECT);
                L.gpr[DI] = DATA + rows[i].at;
                code(rows[i].bytes);
                code("90");
                m.show = SHOW_BLD;
                run(text("trap/bus-lock-%s/%s-%d", rows[i].name, w ? "long" : "pm32", ring),
                    rows[i].lock && ring ? text("DB@+%d[BLD]", rows[i].length) : "ok");
            }
    begin(LONG, 3);                    /* memory that is not cached (PAT 3) */
    need(HAS_BUS_LOCK_DETECT);
    set_msr(DEBUGCTL, BUS_LOCK_DETECT);
    set_pte(DATA, pte(DATA) | 0x18);
    code("f0 01 07 90");
    m.show = SHOW_BLD;
    run("trap/bus-lock-uncached/long-3", "DB@+3[BLD]");
    begin(LONG, 3);                    /* with a single step: one exception */
    need(HAS_BUS_LOCK_DETECT);
    set_msr(DEBUGCTL, BUS_LOCK_DETECT);
    L.rflags |= FL_TF;
    L.gpr[DI] = DATA + 61;
    code("f0 01 07 90");
    m.show = SHOW_BLD;
    run("trap/bus-lock-and-step/long-3", "DB@+3[BLDBS]");
    bool faults = cpu.l7d >> 30 & 1 && msr_takes(0x33, 1u << 29);
    for (unsigned ring = 0; ring <= 3; ring += 3)
        for (unsigned split = 0; split < 2; split++) {
            begin(LONG, ring);
            need(faults);
            set_msr(0x33, 1u << 29);
            L.gpr[DI] = DATA + 60 + split;
            code("90 87 07");
            run(text("trap/split-lock-%d/long-%d", split, ring), split ? "AC(0)@+1" : "ok");
        }
}

void cases_trap(void)
{
    nmis();
    branch_steps();
    behind_mov_ss();
    bus_locks();
}
