/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS: the state they leave, and what they refuse. [SDM2]
 */
#include "harness.h"

#define STAR 0xc0000081u
#define LSTAR 0xc0000082u
#define FMASK 0xc0000084u

void cases_syscall(void)
{
    write_msr(STAR, (u64)(CS32_3 - 3) << 48 | (u64)CS32 << 32);
    write_msr(LSTAR, LANDING(2));
    write_msr(0xc0000083, LANDING(3));
    write_msr(FMASK, 0x40700);
    for (unsigned ring = 0; ring <= 3; ring += 3) {
        begin(LONG, ring);
        L.efer |= EFER_SCE;
        L.rflags |= FL_IF | FL_AC | FL_CF;
        code("0f 05");
        m.show = SHOW_CS | SHOW_SS | SHOW_FL | SHOW_CX | SHOW_R11 | SHOW_SP;
        run(text("syscall/syscall/long-%d", ring), text("L2 cs=8 ss=10 sp=%x fl=10002 cx=%x r11=40203", (u64)(ring ? USER_STACK : STACK0), (u64)START + 2));
    }
    for (unsigned wide = 0; wide < 2; wide++) {
        begin(LONG, 0);
        user_pages();
        L.efer |= EFER_SCE;
        L.gpr[CX] = LANDING(5);
        L.gpr[R11] = 0x47fd5 | FL_RF | FL_VM;
        L.rsp = USER_STACK;
        code(wide ? "48 0f 07" : "0f 07");
        m.show = SHOW_CS | SHOW_SS | SHOW_FL;
        /* RF and VM are cleared by SYSRET, RF is set again by the fault that ends the case; TF steps first */
        L.gpr[R11] &= ~(u64)(FL_TF | FL_NT);
        run(text("syscall/sysret%s/long-0", wide ? "q" : ""), text("L5 cs=%x ss=3b fl=53602", (u64)(wide ? CS64_3 : CS32_3)));
    }
    begin(LONG, 0);                    /* a target that is not canonical is refused at ring 0 */
    L.efer |= EFER_SCE;
    L.gpr[CX] = 0x800000000000;
    code("48 0f 07");
    run("syscall/sysretq-not-canonical/long-0", "GP(0)");
    begin(LONG, 3);
    L.efer |= EFER_SCE;
    code("48 0f 07");
    run("syscall/sysretq/long-3", "GP(0)");

    write_msr(0x174, CS32);
    write_msr(0x175, STACK1);
    write_msr(0x176, LANDING(6));
    static const struct { enum mode mode; const char *name; } modes[] = {{PM16, "pm16"}, {PM32, "pm32"}, {COMPAT, "compat"}, {LONG, "long"}};
    for (unsigned i = 0; i < 4; i++)
        for (unsigned ring = 0; ring <= 3; ring += 3) {
            begin(modes[i].mode, ring);
            L.rflags |= FL_IF;
            code("0f 34");
            m.show = SHOW_CS | SHOW_SS | SHOW_FL | SHOW_SP;
            run(text("syscall/sysenter/%s-%d", modes[i].name, ring), text("L6 cs=8 ss=10 sp=%x fl=10002", (u64)STACK1));
        }
    /* SYSEXIT: CS + 16 and + 24, or + 32 and + 40 with REX.W */
    write_msr(0x174, 0x20);
    begin(PM32, 0);
    L.gpr[DX] = LANDING(7);
    L.gpr[CX] = USER_STACK;
    code("0f 35");
    m.show = SHOW_CS | SHOW_SS | SHOW_SP;
    run("syscall/sysexit/pm32-0", text("L7 cs=33 ss=3b sp=%x", (u64)USER_STACK));
    begin(LONG, 0);
    user_pages();
    L.gpr[DX] = LANDING(7);
    L.gpr[CX] = USER_STACK;
    code("48 0f 35");
    m.show = SHOW_CS | SHOW_SS | SHOW_SP;
    run("syscall/sysexitq/long-0", text("L7 cs=43 ss=4b sp=%x", (u64)USER_STACK));
    begin(LONG, 0);
    L.gpr[DX] = 0x800000000000;
    code("48 0f 35");
    run("syscall/sysexitq-rdx/long-0", "GP(0)");
    begin(LONG, 0);
    L.gpr[CX] = 0x800000000000;
    code("48 0f 35");
    run("syscall/sysexitq-rcx/long-0", "GP(0)");
    write_msr(0x174, 0);

    begin(LONG, 0);
    L.bases[0] = 0x1111;
    L.bases[1] = 0x2222;
    L.bases[2] = 0xffff800000003333;
    code("0f 01 f8");
    m.show = SHOW_BASES;
    run("syscall/swapgs/long-0", "ok fsb=1111 gsb=ffff800000003333 kgsb=2222");
    /* Canonical by the processor's width, 48 or 57 bits, whatever the paging mode. */
    static const struct { const char *name; u32 msr; u64 value; const char *expect; } msrs[] = {
        {"lstar", LSTAR, 0x100000000000000, "GP(0)"}, {"lstar-high", LSTAR, 0xffff800000000000, "ok"}, {"fs-base", 0xc0000100, 0x100000000000000, "GP(0)"},
        {"gs-base", 0xc0000101, 0x7fffffffffff, "ok"}, {"kernel-gs", 0xc0000102, 0xfe00000000000000, "GP(0)"}, {"sysenter-eip", 0x176, 0x100000000000000, "GP(0)"},
        {"sysenter-esp", 0x175, 0x100000000000000, "GP(0)"}, {"fmask-high", FMASK, 0x100000000, "GP(0)"}, {"pat-2", 0x277, 2, "GP(0)"}, {"pat-8", 0x277, 8, "GP(0)"},
        {"pat", 0x277, 0x0007040600070406, "ok"}, {"mtrr-def-type-2", 0x2ff, 2, "GP(0)"}, {"mtrr-cap", 0xfe, 0, "GP(0)"}, {"apic-base-reserved", 0x1b, 1, "GP(0)"},
    };
    for (unsigned i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++) {
        u64 before = msrs[i].msr == 0xfe ? 0 : read_msr(msrs[i].msr);
        begin(LONG, 0);
        L.gpr[CX] = msrs[i].msr;
        L.gpr[AX] = msrs[i].value & 0xffffffff;
        L.gpr[DX] = msrs[i].value >> 32;
        code("0f 30");
        run(text("syscall/wrmsr-%s/long-0", msrs[i].name), msrs[i].expect);
        if (msrs[i].msr != 0xfe)
            write_msr(msrs[i].msr, before);
    }
}
