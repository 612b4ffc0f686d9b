/*
 * User interrupts: the instructions on UIF, UIRET, SENDUIPI's checks, delivery, notifications through the local APIC. [SDM3 "User Interrupts"],
 * [SDM2 "CLUI", "STUI", "TESTUI", "UIRET", "SENDUIPI"]
 */
#include "harness.h"

#define UPID DATA
#define UITT (DATA + 0x40)
#define OTHER_STACK (DATA + 0x1800)

enum { MSR_RR = 0x985, MSR_HANDLER, MSR_STACKADJUST, MSR_MISC, MSR_PD, MSR_TT };

#define CLUI "f3 0f 01 ee "
#define STUI "f3 0f 01 ef "
#define TESTUI "f3 0f 01 ed "
#define UIRET "f3 0f 01 ec "
#define SENDUIPI "f3 0f c7 f0 "

/* UIF is no MSR: the harness clears what the case before left. */
static void clear_uif(void)
{
    u64 cr4;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4; .byte 0xf3, 0x0f, 0x01, 0xee; mov %1, %%cr4" : : "r"(cr4 | CR4_UINTR), "r"(cr4) : "memory");
}

/* Everything is set up, and UIF is 0. */
static void prepare(enum mode mode, unsigned ring)
{
    begin(mode, ring);
    need(HAS_UINTR);
    if (HAS_UINTR)
        clear_uif();
    L.cr4 |= CR4_UINTR;
    set_msr(MSR_RR, 0);
    set_msr(MSR_HANDLER, LANDING(1));
    set_msr(MSR_STACKADJUST, 128);
    set_msr(MSR_MISC, 0x50ull << 32 | 1);
    set_msr(MSR_PD, UPID);
    set_msr(MSR_TT, UITT | 1);
}

static void absent(void)
{
    static const struct { const char *name, *bytes; } rows[] = {
        {"uiret", UIRET}, {"testui", TESTUI}, {"clui", CLUI}, {"stui", STUI}, {"senduipi", SENDUIPI},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        prepare(LONG, 3);
        L.cr4 &= ~CR4_UINTR;
        code(rows[i].bytes);
        run(text("uintr/off-%s/long-3", rows[i].name), "UD");
        prepare(COMPAT, 3);
        code(rows[i].bytes);
        run(text("uintr/%s/compat-3", rows[i].name), "UD");
        prepare(LONG, 3);
        code_byte(0xf0);
        code(rows[i].bytes);
        run(text("uintr/lock-%s/long-3", rows[i].name), "UD");
    }
    prepare(LONG, 3);
    set_msr(MSR_TT, UITT);
    code(SENDUIPI);
    run("uintr/senduipi-disabled/long-3", "UD");
}

static void flag(void)
{
    for (unsigned ring = 0; ring <= 3; ring += 3) {
        prepare(LONG, ring);
        m.show = SHOW_CF;
        code(STUI TESTUI);
        run(text("uintr/stui-testui/long-%d", ring), "ok cf=1");
        prepare(LONG, ring);
        m.show = SHOW_CF;
        code("f9 " CLUI TESTUI);
        run(text("uintr/clui-testui/long-%d", ring), "ok cf=0");
    }
}

static void returns(void)
{
    for (unsigned ring = 0; ring <= 3; ring += 3) {
        prepare(LONG, ring);
        L.rsp = DATA + 0x100;
        poke64(DATA + 0x100, LANDING(2));
        poke64(DATA + 0x108, ~0ull & ~(u64)FL_TF);
        poke64(DATA + 0x110, USER_STACK - 0x40);
        bytes_at(LANDING(2), TESTUI "0f 0b");
        m.show = SHOW_SP | SHOW_FL | SHOW_CF;
        code(UIRET);
        /* RF is gone behind TESTUI, and pushed again with the exception; not IF, IOPL, VIF, VIP. */
        run(text("uintr/uiret/long-%d", ring), text("UD@%x sp=%x fl=%x cf=1", (u64)LANDING(2) + 4, (u64)USER_STACK - 0x40, (u64)0x254402));
    }
    prepare(LONG, 3);
    L.rsp = DATA + 0x100;
    poke64(DATA + 0x100, 1ull << 60);
    code(UIRET);
    run("uintr/uiret-rip/long-3", "GP(0)");
    prepare(LONG, 3);
    L.rsp = 1ull << 60;
    code(UIRET);
    run("uintr/uiret-rsp/long-3", "SS(0)");
    prepare(LONG, 3);
    L.rsp = DATA + 0xff0;
    set_pte(DATA + 0x1000, 0);
    m.target = DATA + 0x1000;
    poke64(DATA + 0xff0, LANDING(2));
    code(UIRET);
    run("uintr/uiret-page/long-3", "PF(4)");
}

/* What a delivery leaves; word 0 is the vector, 1 RIP, 2 RFLAGS, 3 RSP. */
static void frame(const char *name, u64 adjust, u64 top, unsigned word, u64 expected)
{
    prepare(LONG, 3);
    set_msr(MSR_STACKADJUST, adjust);
    set_msr(MSR_RR, 1ull << 37 | 1 << 9);
    L.rsp = USER_STACK - 8;
    m.show = SHOW_SP | SHOW_MEM;
    m.watch = top - 32 + 8 * word;
    code(STUI "90");
    run(text("uintr/%s-%d/long-3", name, word), text("L1 sp=%x mem=%x", top - 32, expected));
}

static void delivery(void)
{
    static const u64 words[4] = {37, START + 4, 2, USER_STACK - 8};
    for (unsigned i = 0; i < 4; i++) {
        frame("delivery", 128, USER_STACK - 0x90, i, words[i]);
        frame("delivery-stack", OTHER_STACK | 1, OTHER_STACK, i, words[i]);
    }
    prepare(LONG, 3);                  /* the next one waits for UIF: the handler sees the first alone */
    set_msr(MSR_RR, 3);
    bytes_at(LANDING(1), "58 " TESTUI "0f 0b");
    m.show = SHOW_AX | SHOW_CF;
    code(STUI "90");
    run("uintr/handler/long-3", text("UD@%x cf=0 ax=1", (u64)LANDING(1) + 5));
    prepare(LONG, 3);                  /* … and comes as soon as UIRET sets it */
    set_msr(MSR_RR, 3);
    bytes_at(LANDING(1), "5b ff c1 83 f9 02 74 04 " UIRET "0f 0b");    /* pop rbx; inc ecx; the second time: UD2 */
    L.gpr[CX] = 0;
    m.show = SHOW_BX | SHOW_CX;
    code(STUI "90");
    run("uintr/handler-again/long-3", text("UD@%x cx=2 bx=0", (u64)LANDING(1) + 12));
    prepare(LONG, 0);
    set_msr(MSR_RR, 1);
    code(STUI "90");
    run("uintr/supervisor/long-0", "ok");
    prepare(LONG, 3);
    set_msr(MSR_RR, 1);
    code("90");
    run("uintr/masked/long-3", "ok");
    prepare(LONG, 3);
    set_msr(MSR_RR, 1);
    set_msr(MSR_STACKADJUST, OTHER_STACK | 1);
    set_pte(DATA + 0x1000, 0);
    m.target = OTHER_STACK - 8;
    code(STUI "90");
    run("uintr/stack-page/long-3", "PF(6)@+4");
    prepare(LONG, 3);
    need(HAS_LA57);
    set_msr(MSR_RR, 1);
    set_msr(MSR_HANDLER, 1ull << 50);
    code(STUI "90");
    run("uintr/handler-address/long-3", "GP(0)@+4");
    prepare(LONG, 3);
    need(HAS_LA57);
    set_msr(MSR_RR, 1);
    set_msr(MSR_STACKADJUST, 1ull << 50 | 1);
    code(STUI "90");
    run("uintr/stack-address/long-3", "SS(0)@+4");
}

/* Vector 50h waits in the local APIC. */
static void notifications(void)
{
    for (unsigned other = 0; other < 2; other++) {
        prepare(LONG, 0);
        set_msr(MSR_MISC, (u64)(0x50 + other) << 32);
        m.interrupt = 0x4050 | 1 << 18;
        poke64(UPID, 3);
        poke64(UPID + 8, 0x80);
        m.show = SHOW_AX | SHOW_MEM;
        m.watch = UPID;
        L.gpr[AX] = 0;
        L.gpr[CX] = MSR_RR;
        code("fb 90 90 0f 32");
        run(text("uintr/notification-%s/long-0", other ? "other" : "uinv"), other ? "int50@+2 ax=0 mem=3" : "ok ax=80 mem=2");
    }
    prepare(LONG, 3);
    m.interrupt = 0x4050 | 1 << 18;
    L.rflags |= FL_IOPL(3);
    poke64(UPID, 1);
    poke64(UPID + 8, 0x80);
    bytes_at(LANDING(1), "58 0f 0b");
    m.show = SHOW_AX | SHOW_MEM;
    m.watch = UPID + 8;
    code("fb 90 " STUI "90");
    run("uintr/notification/long-3", text("UD@%x ax=7 mem=0", (u64)LANDING(1) + 1));
    prepare(LONG, 3);
    m.interrupt = 0x4050 | 1 << 18;
    L.rflags |= FL_IOPL(3);
    set_msr(MSR_PD, OTHER_STACK);
    set_pte(DATA + 0x1000, 0);
    m.target = OTHER_STACK;
    code("fb 90 90");
    run("uintr/notification-page/long-3", "PF(2)@+2");
}

static void sending(void)
{
    static const struct { const char *name; u64 index, entry, upid, control; bool ok; } rows[] = {
        {"sent", 0, 0x0501, UPID, 2, true}, {"index", 2, 0x0501, UPID, 2, false}, {"index-high", 1ull << 32, 0x0501, UPID, 2, false},
        {"not-valid", 0, 0x0500, UPID, 2, false}, {"bit-1", 0, 0x0503, UPID, 2, false}, {"vector-64", 0, 0x4001, UPID, 2, false},
        {"bit-16", 0, 0x10501, UPID, 2, false}, {"alignment", 0, 0x0501, UPID + 0x20, 2, false},
        {"upid-bit-2", 0, 0x0501, UPID, 6, false}, {"upid-bit-15", 0, 0x0501, UPID, 0x8002, false},
        {"upid-bit-24", 0, 0x0501, UPID, 0x1000002, false}, {"upid-address", 0, 0x0501, 1ull << 60, 2, false},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        prepare(LONG, 3);
        poke64(UITT, rows[i].entry);
        poke64(UITT + 8, rows[i].upid);
        poke64(UPID, rows[i].control);
        poke64(UPID + 8, 0);
        L.gpr[AX] = rows[i].index;
        m.show = SHOW_MEM;
        m.watch = UPID + 8;
        code(SENDUIPI);
        run(text("uintr/senduipi-%s/long-3", rows[i].name), rows[i].ok ? "ok mem=20" : "GP(0) mem=0");
    }
    prepare(LONG, 3);                  /* the operating system's pages */
    set_pte(DATA, DATA | PTE_P | PTE_W);
    poke64(UITT, 0x0501);
    poke64(UITT + 8, UPID);
    poke64(UPID, 2);
    poke64(UPID + 8, 0);
    L.gpr[AX] = 0;
    m.show = SHOW_MEM;
    m.watch = UPID + 8;
    code(SENDUIPI);
    run("uintr/senduipi-supervisor/long-3", "ok mem=20");
    prepare(LONG, 3);
    L.cr0 |= CR0_WP;
    set_pte(DATA, DATA | PTE_P | PTE_U);
    poke64(UITT, 0x0501);
    poke64(UITT + 8, UPID);
    poke64(UPID, 2);
    L.gpr[AX] = 0;
    m.target = UPID;
    code(SENDUIPI);
    run("uintr/senduipi-read-only/long-3", "PF(3)");
    prepare(LONG, 3);                  /* to oneself, all the way */
    poke64(UITT, 0x2301);
    poke64(UITT + 8, UPID);
    poke64(UPID, 0x500000);
    poke64(UPID + 8, 0);
    L.gpr[AX] = 0;
    L.rflags |= FL_IF;
    bytes_at(LANDING(1), "58 0f 0b");
    m.show = SHOW_AX | SHOW_MEM;
    m.watch = UPID;
    code(STUI SENDUIPI "90 90");
    run("uintr/senduipi-self/long-3", text("UD@%x ax=23 mem=500000", (u64)LANDING(1) + 1));
}

void cases_uintr(void)
{
    absent();
    flag();
    returns();
    delivery();
    notifications();
    sending();
}
