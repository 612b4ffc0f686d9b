/* User interrupts: state and MSRs, the instructions, notifications, delivery, their XSAVE component. Code runs through the run loop, interpreted
 * and translated. (Under VMX: tests/vmx/test_user_interrupts.c.)
 */
#include "cpu/cet.h"
#include "cpu/jit/jit.h"
#include "cpu/msr.h"
#include "cpu/uintr.h"
#include "tests/cpu/program.h"

enum { HANDLER = 0x21000, FAULTS = 0x22000, UPID = 0x30000, UITT = 0x31000, TARGET = 0x32040, SHADOW = 0xd000, ALT = 0x9800 };
enum { UINV = 0xe1, OTHER = 0x51 };
enum { RR = 0x985, HANDLER_MSR, ADJUST, MISC, PD, TT };

static struct { unsigned eois, sent; u32 ndst; u8 vector; u64 tsc; bool loops_back; } apic;
static void uintr_eoi(void *arg, struct cpu *c) { (void)arg, (void)c; apic.eois++; }
static void uintr_notify(void *arg, struct cpu *c, u32 ndst, u8 vector)
{
    (void)arg;
    apic.sent++;
    apic.ndst = ndst;
    apic.vector = vector;
    if (apic.loops_back) {
        board_vector = vector;
        cpu_signal(c, ATT_INTR, 0, true);
    }
}
static u64 uintr_tsc(void *arg, struct cpu *c) { (void)arg; return apic.tsc + c->time.now; }
static const struct cpu_board uintr_board = {.interrupt_acknowledge = board_acknowledge, .interrupt_eoi = uintr_eoi,
                                             .interrupt_notify = uintr_notify, .shutdown = board_shutdown, .tsc = uintr_tsc};

static void write_msr(u32 msr, u64 value) { ck_assert_msg(cpu_msr_write(cpu, msr, value), "MSR %x", msr); }

/* Blocks are translated: the second round of a loop test, whose number is _i. */
static bool translated;

/* A program in 64-bit mode at CPL 3, a handler and a descriptor set up, UIF = 1. */
static void start(const char *bytes)
{
    program_start("base,+uintr,+waitpkg,+cet-ss,+cet-ibt");
    if (translated)
        (void)jit_attach(cpu->interp, cpu, 1, false, JIT_SAMPLE_EVERY);      /* a host without a back end interprets twice */
    memset(&apic, 0, sizeof apic);
    cpu->board = &uintr_board;
    ck_assert_int_eq(cpu_write_cr4(cpu, cpu->sys.cr4 | CR4_UINTR), FLOW_NEXT);
    write_msr(HANDLER_MSR, HANDLER);
    write_msr(ADJUST, 128);
    write_msr(MISC, (u64)UINV << 32 | 3);
    write_msr(PD, UPID);
    write_msr(TT, UITT | 1);
    for (unsigned vector = 0; vector < 256; vector++)
        idt64(vector, CODE64, FAULTS + 16 * vector, 0x8e, 0);
    for (unsigned n = 0; n < 256; n++)
        code(FAULTS + 16 * n, "90 90 f4");
    code(HANDLER, "90 90 f3 0f 01 ec");        /* nop; nop; uiret */
    code(CODE, bytes);
    cpu->sys.uif = 1;
    ring3_long();
    cpu->core.rflags_rest |= FL_IF;
    cpu_mode_update(cpu);
}

static void request(u64 rr)
{
    write_msr(RR, rr);
    cpu_recognize_user_interrupt(cpu);
}

static void interrupt(u8 vector)
{
    board_vector = vector;
    cpu_signal(cpu, ATT_INTR, 0, true);
}

#define ASSERT_RAISED(vec, err)                                                                                        \
    do {                                                                                                               \
        u64 rip_ = cpu->core.rip;                                                                                      \
        step(1);                                                                                                       \
        ASSERT_EVENT(vec, err);                                                                                        \
        ck_assert_uint_eq(cpu->core.rip, rip_);                                                                        \
        forget();                                                                                                      \
    } while (0)
#define NOPS "90 90 90 90 90 90 90 90"
#define UIRET "f3 0f 01 ec"
#define TESTUI "f3 0f 01 ed"
#define CLUI "f3 0f 01 ee"
#define STUI "f3 0f 01 ef"
#define SENDUIPI_RAX "f3 0f c7 f0"

/* ---- what there is ----------------------------------------------------------------------------------------------- */

START_TEST(enumeration)
{
    static const struct { const char *model; bool there; } models[] = {
        {"base", false}, {"icelake", false}, {"sapphire-rapids", true}, {"max", true}, {"max,-uintr", false}, {"base,+uintr", true},
    };
    start(NOPS);
    for (unsigned n = 0; n < ARRAY_SIZE(models); n++) {
        bool there = models[n].there;
        u64 value;
        model(models[n].model);
        ck_assert_int_eq(cpu_cpuid(cpu, 7, 0).edx >> 5 & 1, there);
        ck_assert_int_eq((cpu_cr4_allowed(cpu) & CR4_UINTR) != 0, there);
        ck_assert_int_eq(cpu_cpuid(cpu, 0xd, 1).ecx >> 14 & 1, there);
        struct cpuid_result r = cpu_cpuid(cpu, 0xd, 14);
        ck_assert_uint_eq(r.eax, there ? 48 : 0);
        ck_assert_uint_eq(r.ebx, 0);
        ck_assert_uint_eq(r.ecx, there);
        for (u32 msr = RR; msr <= TT; msr++) {
            ck_assert_int_eq(cpu_msr_read(cpu, msr, &value), there);
            ck_assert_int_eq(cpu_msr_write(cpu, msr, 0), there);
        }
    }
}
END_TEST

START_TEST(msrs)
{
    static const struct { u32 msr; u64 value; bool ok; } rows[] = {
        {RR, ~0ull, true}, {HANDLER_MSR, 0x123456789abc, true}, {HANDLER_MSR, 0xffff800000000001, true}, {HANDLER_MSR, BIT(63), false},
        {ADJUST, 0x81, true}, {ADJUST, 0xffff800000000007, true}, {ADJUST, BIT(47), false}, {MISC, 0xffffffffff, true},
        {MISC, BIT(40), false}, {MISC, BIT(63), false}, {PD, 0x7fffffffffc0, true}, {PD, 0x1001, false}, {PD, 0x1020, false},
        {PD, BIT(47), false}, {TT, 0x7fffffffe011, true}, {TT, 0x2, false}, {TT, 0x8, false}, {TT, BIT(50) | 1, false},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
        u64 before, after;
        start(NOPS);
        ck_assert(cpu_msr_read(cpu, rows[n].msr, &before));
        ck_assert_msg(cpu_msr_write(cpu, rows[n].msr, rows[n].value) == rows[n].ok, "row %u", n);
        ck_assert(cpu_msr_read(cpu, rows[n].msr, &after));
        ck_assert_uint_eq(after, rows[n].ok ? rows[n].value : before);
    }
    start(NOPS);
    model("base,+uintr,+la57");                /* the widest addresses of the model count, not the present paging */
    ck_assert(cpu_msr_write(cpu, HANDLER_MSR, BIT(55)));
    ck_assert(!cpu_msr_write(cpu, HANDLER_MSR, BIT(56)));
}
END_TEST

/* ---- instructions ------------------------------------------------------------------------------------------------ */

START_TEST(instructions_that_are_not_there)
{
    static const char *const all[] = {UIRET, TESTUI, CLUI, STUI, SENDUIPI_RAX};
    for (unsigned n = 0; n < ARRAY_SIZE(all); n++) {
        char locked[40];
        start(all[n]);
        cpu->sys.cr4 &= ~(u64)CR4_UINTR;
        cpu_mode_update(cpu);
        ASSERT_RAISES(EXC_UD);
        start(all[n]);
        model("base");
        ASSERT_RAISES(EXC_UD);
        start(all[n]);
        ring(CODE3, DATA3, STACK3);            /* compatibility mode */
        ASSERT_RAISES(EXC_UD);
        snprintf(locked, sizeof locked, "f0 %s", all[n]);
        start(locked);
        ASSERT_RAISES(EXC_UD);
    }
    start(SENDUIPI_RAX);
    write_msr(TT, UITT);                       /* SENDUIPI is not enabled */
    ASSERT_RAISES(EXC_UD);
    /* Other prefixes are other instructions. */
    start("0f 01 ec");
    ASSERT_RAISES(EXC_UD);
}
END_TEST

START_TEST(the_flag)
{
    translated = _i;
    start(TESTUI " " CLUI " " TESTUI " " STUI " " TESTUI);
    cpu_set_rflags(cpu, cpu_rflags(cpu) | FL_STATUS);
    step(1);
    ck_assert_uint_eq(cpu_rflags(cpu) & FL_STATUS, FL_CF);
    step(1);
    ck_assert_uint_eq(cpu->sys.uif, 0);
    step(1);
    ck_assert_uint_eq(cpu_rflags(cpu) & FL_STATUS, 0);
    step(1);
    ck_assert_uint_eq(cpu->sys.uif, 1);
    step(1);
    ck_assert_uint_eq(cpu_rflags(cpu) & FL_STATUS, FL_CF);
    ck_assert_uint_eq(cpu->core.rip, CODE + 20);
}
END_TEST

START_TEST(senduipi_posts_and_notifies)
{
    static const struct { u64 control, expected; bool sent; } rows[] = {
        {0x00000300004d0000, 0x00000300004d0001, true},        /* NDST, NV */
        {0x00000300004d0001, 0x00000300004d0001, false},       /* a notification is outstanding */
        {0x00000300004d0002, 0x00000300004d0002, false},       /* … is suppressed */
        {0x00000300004d0003, 0x00000300004d0003, false},
    };
    translated = _i;
    for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
        start(SENDUIPI_RAX);
        cpu->core.rax = 3;
        put(UITT + 48, 0x2a01, 8);             /* user vector 42 */
        put(UITT + 56, TARGET, 8);
        put(TARGET, rows[n].control, 8);
        put(TARGET + 8, 5, 8);
        step(1);
        ck_assert_uint_eq(cpu->core.rip, CODE + 4);
        ck_assert_uint_eq(at64(TARGET), rows[n].expected);
        ck_assert_uint_eq(at64(TARGET + 8), 5 | BIT(42));
        ck_assert_uint_eq(apic.sent, rows[n].sent);
        if (rows[n].sent) {
            ck_assert_uint_eq(apic.vector, 0x4d);
            ck_assert_uint_eq(apic.ndst, 0x300);
        }
    }
}
END_TEST

START_TEST(senduipi_checks)
{
    static const struct { u64 index, entry, upid, control; bool ok; } rows[] = {
        {0, 1, TARGET, 0, true}, {4, 1, TARGET, 0, false}, {BIT(32), 1, TARGET, 0, false},     /* beyond UITTSZ = 3 */
        {0, 0, TARGET, 0, false}, {0, 3, TARGET, 0, false}, {0, 0x81, TARGET, 0, false}, {0, 0x3f01, TARGET, 0, true},
        {0, 0x4001, TARGET, 0, false}, {0, 0x8001, TARGET, 0, false}, {0, 0x10001, TARGET, 0, false}, {0, BIT(63) | 1, TARGET, 0, false},
        {0, 1, TARGET + 1, 0, false}, {0, 1, TARGET + 32, 0, false}, {0, 1, BIT(62), 0, false},
        {0, 1, TARGET, 4, false}, {0, 1, TARGET, 0x8000, false}, {0, 1, TARGET, 0xff0000, true}, {0, 1, TARGET, BIT(24), false},
        {0, 1, TARGET, BIT(31), false}, {0, 1, TARGET, BIT(32), true}, {0, 1, TARGET, BIT(63), true},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
        start(SENDUIPI_RAX);
        cpu->core.rax = rows[n].index;
        put(UITT, rows[n].entry, 8);
        put(UITT + 8, rows[n].upid, 8);
        put(TARGET, rows[n].control, 8);
        step(1);
        ck_assert_msg(cpu->event.valid == !rows[n].ok, "row %u", n);
        ck_assert_uint_eq(cpu->core.rip, CODE + (rows[n].ok ? 4 : 0));
        ck_assert_uint_eq(at64(TARGET + 8) != 0, rows[n].ok);
        ck_assert_uint_eq(apic.sent, rows[n].ok);
        if (!rows[n].ok)
            ASSERT_EVENT(EXC_GP, 0);
    }
    /* Supervisor accesses: pages that the program may not touch, and a page fault that says so. */
    start(SENDUIPI_RAX);
    cpu->core.rax = 0;
    put(UITT, 1, 8);
    put(UITT + 8, TARGET, 8);
    put(TABLES + 0x3000 + (UITT >> 12) * 8, UITT | 1, 8);              /* read-only, and the supervisor's */
    put(TABLES + 0x3000 + (TARGET >> 12) * 8, (TARGET & ~0xfff) | 3, 8);
    tlb_flush_everything(cpu);
    step(1);
    ck_assert_uint_eq(at64(TARGET + 8), 1);
    cpu->core.rip = CODE;
    put(TABLES + 0x3000 + (TARGET >> 12) * 8, (TARGET & ~0xfff) | 1, 8);
    tlb_flush_everything(cpu);
    ASSERT_RAISED(EXC_PF, 3);                  /* present, write, not a user access */
    unmap(UITT);
    ASSERT_RAISED(EXC_PF, 0);
    ck_assert_uint_eq(cpu->sys.uif, 1);
}
END_TEST

START_TEST(uiret_returns)
{
    translated = _i;
    start(UIRET);
    cpu->sys.uif = 0;
    cpu->core.rsp = STACK3 - 24;
    put(STACK3 - 24, CODE + 0x100, 8);
    put(STACK3 - 16, ~0ull, 8);
    put(STACK3 - 8, 0x7777, 8);
    cpu->event.monitor_armed = MONITOR_ARMED;
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 0x100);
    ck_assert_uint_eq(cpu->core.rsp, 0x7777);
    ck_assert_uint_eq(cpu_rflags(cpu), 0x254dd5 | FL_R1 | FL_IF);      /* not IF, IOPL, VIF, VIP */
    ck_assert_uint_eq(cpu->sys.uif, 1);
    ck_assert_uint_eq(cpu->event.monitor_armed, 0);
    /* At CPL 0 too. */
    start(UIRET);
    ring(CODE64, DATA0, STACK0 - 24);
    put(STACK0 - 24, CODE + 0x100, 8);
    put(STACK0 - 16, FL_R1, 8);
    put(STACK0 - 8, STACK0, 8);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 0x100);
    ck_assert_uint_eq(cpu->mode.cpl, 0);
}
END_TEST

START_TEST(uiret_faults)
{
    start(UIRET);
    cpu->sys.uif = 0;
    cpu->core.rsp = STACK3 - 24;
    put(STACK3 - 24, BIT(47), 8);
    ASSERT_RAISED(EXC_GP, 0);
    cpu->core.rsp = 0x7ffffffffff0;            /* the third value is not canonical */
    ck_assert_uint_eq(cpu->sys.uif, 0);
    cpu->core.rsp = BIT(47);
    ASSERT_RAISED(EXC_SS, 0);
    cpu->core.rsp = 0x6ff0;
    unmap(0x7000);
    ASSERT_RAISED(EXC_PF, 4);
    ck_assert_uint_eq(cpu->core.rsp, 0x6ff0);
}
END_TEST

/* ---- delivery ---------------------------------------------------------------------------------------------------- */

START_TEST(delivery)
{
    static const struct { u64 rsp, adjust, frame; } rows[] = {
        {STACK3, 128, STACK3 - 128}, {STACK3 - 1, 0, STACK3 - 16}, {STACK3, ALT | 1, ALT}, {STACK3, (ALT + 12) | 1, ALT},
        {STACK3, 2, STACK3 - 16},
    };
    translated = _i;
    for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
        start(NOPS);
        cpu->core.rsp = rows[n].rsp;
        write_msr(ADJUST, rows[n].adjust);
        cpu->core.rflags_rest |= FL_AC;
        step(2);
        u64 rflags = cpu_rflags(cpu);
        request(BIT(3) | BIT(40));
        step(1);
        ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
        ck_assert_uint_eq(cpu->core.rsp, rows[n].frame - 32);
        ck_assert_uint_eq(at64(rows[n].frame - 8), rows[n].rsp);
        ck_assert_uint_eq(at64(rows[n].frame - 16), rflags);
        ck_assert_uint_eq(at64(rows[n].frame - 24), CODE + 2);
        ck_assert_uint_eq(at64(rows[n].frame - 32), 40);
        ck_assert_uint_eq(cpu->sys.uintr_rr, BIT(3));
        ck_assert_uint_eq(cpu->sys.uif, 0);
        ck_assert_uint_eq(cpu->mode.cpl, 3);
        /* The handler drops the vector and returns: the next one comes before another instruction. */
        cpu->core.rsp += 8;
        step(2);
        ck_assert_uint_eq(cpu->core.rip, CODE + 2);
        ck_assert_uint_eq(cpu->core.rsp, rows[n].rsp);
        step(1);
        ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
        ck_assert_uint_eq(at64(rows[n].frame - 32), 3);
        ck_assert_uint_eq(at64(rows[n].frame - 24), CODE + 2);
        ck_assert_uint_eq(cpu->sys.uintr_rr, 0);
        cpu->core.rsp += 8;
        step(2 + 3);
        ck_assert_uint_eq(cpu->core.rip, CODE + 5);
    }
}
END_TEST

START_TEST(what_holds_it_back)
{
    translated = _i;
    start(NOPS " " STUI " 90");
    cpu->sys.uif = 0;
    request(1);
    step(8);
    ck_assert_uint_eq(cpu->core.rip, CODE + 8);
    step(2);                                   /* STUI has no shadow */
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
    ck_assert_uint_eq(at64(STACK3 - 128 - 24), CODE + 12);

    start(NOPS);
    ring(CODE64, DATA0, STACK0);               /* CPL 0 */
    request(1);
    step(4);
    ck_assert_uint_eq(cpu->core.rip, CODE + 4);
    ring3_long();
    step(1);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);

    start(NOPS);
    ring(CODE3, DATA3, STACK3);                /* compatibility mode */
    request(1);
    step(4);
    ck_assert_uint_eq(cpu->core.rip, CODE + 4);

    start(NOPS);
    request(1);
    cpu->sys.cr4 &= ~(u64)CR4_UINTR;
    cpu_mode_update(cpu);
    step(4);
    ck_assert_uint_eq(cpu->core.rip, CODE + 4);

    start("8e d1 90 90");                      /* mov ss, ecx */
    cpu->core.rcx = DATA3;
    step(1);
    request(1);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 3);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);

    start("fb 90 90");                         /* sti, at IOPL 3: its shadow does not count */
    cpu->core.rflags_rest = (cpu->core.rflags_rest & ~(u64)FL_IF) | FL_IOPL;
    step(1);
    ck_assert_uint_eq(cpu->event.blocking & BLOCK_STI, BLOCK_STI);
    request(1);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
    ck_assert_uint_eq(cpu->event.blocking & BLOCK_STI, 0);

    start(NOPS);
    cpu->core.rflags_rest &= ~(u64)FL_IF;      /* RFLAGS.IF is no matter */
    request(1);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
}
END_TEST

START_TEST(an_ordinary_interrupt_comes_first)
{
    translated = _i;
    start(NOPS);
    request(1);
    interrupt(OTHER);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, FAULTS + 16 * OTHER + 1);
    ck_assert_uint_eq(cpu->mode.cpl, 0);
    ck_assert_uint_eq(cpu->sys.uintr_rr, 1);
    ck_assert_uint_eq(apic.eois, 0);
    start(NOPS);
    request(1);
    interrupt(OTHER);
    cpu->core.rflags_rest &= ~(u64)FL_IF;      /* … unless it is masked */
    step(1);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
}
END_TEST

START_TEST(tf_and_rf_end_with_delivery)
{
    start(NOPS);
    cpu->core.rflags_rest |= FL_TF | FL_RF;
    cpu_mode_update(cpu);
    request(1);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
    ck_assert_uint_eq(cpu->core.rflags_rest & (FL_TF | FL_RF), 0);
    ck_assert_uint_eq(at64(STACK3 - 128 - 16) & (FL_TF | FL_RF), FL_TF | FL_RF);
    ck_assert_uint_eq(cpu->event.pending_debug, 0);
}
END_TEST

/* The program goes on as it was, and the interrupt stays pending. */
static void ck_fault(u8 vector, u32 error)
{
    u64 rsp = cpu->core.rsp;
    request(1);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, FAULTS + 16 * vector + 1);
    u64 frame = STACK0 - 48;
    ck_assert_uint_eq(at64(frame), error);
    ck_assert_uint_eq(at64(frame + 8), CODE);
    ck_assert_uint_eq(at64(frame + 32), rsp);
    ck_assert_uint_eq(cpu->sys.uintr_rr, 1);
    ck_assert_uint_eq(cpu->sys.uif, 1);
    ck_assert_uint_eq(cpu->event.user_delivery, 0);
}

START_TEST(delivery_faults)
{
    translated = _i;
    start(NOPS);
    cpu->sys.uintr_handler = BIT(47);
    ck_fault(EXC_GP, 0);                       /* EXT is 0 */
    start(NOPS);
    cpu->core.rsp = BIT(47) | 0x1000;
    ck_fault(EXC_SS, 0);
    start(NOPS);
    put(TABLES + 0x3000 + 8 * 8, 0x8000 | 5, 8);                       /* STACK3 ends below 0x9000: read-only */
    tlb_flush_everything(cpu);
    ck_fault(EXC_PF, 7);
    ck_assert_uint_eq(cpu->sys.cr2, STACK3 - 128 - 8);
    /* It comes again when the program goes on. */
    put(TABLES + 0x3000 + 8 * 8, 0x8000 | 7, 8);
    tlb_flush_everything(cpu);
    ring3_long();
    cpu->core.rip = CODE;
    step(1);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
}
END_TEST

START_TEST(shadow_stack_and_tracker)
{
    translated = _i;
    for (unsigned tracking = 0; tracking < 2; tracking++) {
        start(NOPS);
        put(TABLES + 0x3000 + (SHADOW >> 12) * 8, SHADOW | 0x65, 8);
        tlb_flush_everything(cpu);
        ck_assert_int_eq(cpu_write_cr4(cpu, cpu->sys.cr4 | CR4_CET), FLOW_NEXT);
        cpu->sys.u_cet = CET_SH_STK_EN | (tracking ? CET_ENDBR_EN : 0);
        cpu->sys.ssp = SHADOW + 0x800;
        cpu_mode_update(cpu);
        code(HANDLER, "f3 0f 1e fa 48 83 c4 08 f3 0f 01 ec");          /* endbr64; add rsp, 8; uiret */
        request(1);
        step(1);
        ck_assert_uint_eq(cpu->core.rip, HANDLER + 4);
        ck_assert_uint_eq(cpu->sys.ssp, SHADOW + 0x7f8);
        ck_assert_uint_eq(at64(SHADOW + 0x7f8), CODE);
        ck_assert_uint_eq(cpu->sys.u_cet & CET_TRACKER, 0);
        step(1);
        put(SHADOW + 0x7f8, CODE + 1, 8);      /* another return address */
        ASSERT_RAISED(EXC_CP, CP_FAR_RET_IRET);
        ck_assert_uint_eq(cpu->sys.uif, 0);
        put(SHADOW + 0x7f8, CODE, 8);
        step(1);
        ck_assert_uint_eq(cpu->core.rip, CODE);
        ck_assert_uint_eq(cpu->sys.ssp, SHADOW + 0x800);
        code(HANDLER, "90");                   /* a handler without ENDBR64 */
        request(1);
        step(1);
        if (tracking)
            ASSERT_EVENT(EXC_CP, CP_ENDBRANCH);
        ck_assert_uint_eq(cpu->core.rip, HANDLER + !tracking);
        forget();
        /* A shadow stack that cannot be written. */
        if (!tracking) {
            cpu->sys.uif = 1;
            cpu->sys.ssp = UPID;
            cpu->core.rip = CODE;
            ck_fault(EXC_PF, 0x47);
        }
    }
}
END_TEST

/* ---- notifications ----------------------------------------------------------------------------------------------- */

static void post(u64 control, u64 requests)
{
    put(UPID, control, 8);
    put(UPID + 8, requests, 8);
}

START_TEST(a_notification_is_processed)
{
    translated = _i;
    start(NOPS);
    post(0x00000300004d0003, BIT(63) | BIT(5));
    cpu->sys.uintr_rr = BIT(7);
    cpu->sys.uif = 0;
    cpu->sys.cr2 = 0x1234;
    step(2);
    interrupt(UINV);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 3);                        /* no handler ran */
    ck_assert_uint_eq(apic.eois, 1);
    ck_assert_uint_eq(at64(UPID), 0x00000300004d0002);                 /* ON is cleared, SN is not looked at */
    ck_assert_uint_eq(at64(UPID + 8), 0);
    ck_assert_uint_eq(cpu->sys.uintr_rr, BIT(63) | BIT(7) | BIT(5));
    /* With UIF the highest is delivered at the same boundary. */
    start(NOPS);
    post(1, BIT(63) | BIT(5));
    step(2);
    interrupt(UINV);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
    ck_assert_uint_eq(at64(STACK3 - 128 - 32), 63);
    ck_assert_uint_eq(at64(STACK3 - 128 - 24), CODE + 2);
    ck_assert_uint_eq(cpu->sys.uintr_rr, BIT(5));
}
END_TEST

START_TEST(what_is_no_notification)
{
    translated = _i;
    start(NOPS);
    post(1, 1);
    interrupt(OTHER);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, FAULTS + 16 * OTHER + 1);
    ck_assert_uint_eq(at64(UPID + 8), 1);
    start(NOPS);
    post(1, 1);
    cpu->sys.cr4 &= ~(u64)CR4_UINTR;
    cpu_mode_update(cpu);
    interrupt(UINV);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, FAULTS + 16 * UINV + 1);
    ck_assert_uint_eq(apic.eois, 0);
    start(NOPS);
    post(1, 1);
    cpu->core.rflags_rest &= ~(u64)FL_IF;
    interrupt(UINV);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 1);
    ck_assert_uint_eq(at64(UPID), 1);
    start("cd e1");                            /* INT n is none */
    idt64(UINV, CODE64, FAULTS + 16 * UINV, 0xee, 0);
    post(1, 1);
    step(2);
    ck_assert_uint_eq(cpu->core.rip, FAULTS + 16 * UINV + 1);
    ck_assert_uint_eq(at64(UPID), 1);
}
END_TEST

START_TEST(any_privilege_level_processes)
{
    for (unsigned compatibility = 0; compatibility < 2; compatibility++) {
        start(NOPS);
        if (compatibility)
            ring(CODE3, DATA3, STACK3);
        else
            ring(CODE64, DATA0, STACK0);
        put(TABLES + 0x3000 + (UPID >> 12) * 8, UPID | 3, 8);          /* the supervisor's */
        tlb_flush_everything(cpu);
        post(1, BIT(9));
        interrupt(UINV);
        step(2);
        ck_assert_uint_eq(cpu->core.rip, CODE + 2);
        ck_assert_uint_eq(cpu->sys.uintr_rr, BIT(9));
        ck_assert_uint_eq(at64(UPID), 0);
    }
}
END_TEST

START_TEST(halted_processors)
{
    start("f4 90");
    ring(CODE64, DATA0, STACK0);
    post(1, 2);
    step(3);
    ck_assert_uint_eq(cpu->event.activity, ACTIVITY_HLT);
    interrupt(UINV);
    step(3);
    ck_assert_uint_eq(cpu->sys.uintr_rr, 2);
    ck_assert_uint_eq(cpu->event.activity, ACTIVITY_HLT);              /* it goes back to sleep */
    ck_assert_uint_eq(cpu->core.rip, CODE + 1);
    interrupt(OTHER);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, FAULTS + 16 * OTHER + 1);
    ck_assert_uint_eq(at64(STACK0 - 40), CODE + 1);

    start("66 0f ae f1 90");                   /* tpause ecx */
    cpu->core.rcx = 0;
    cpu->core.rax = 1 << 30;
    cpu->core.rdx = 0;
    post(1, 2);
    step(3);
    ck_assert_uint_eq(cpu->event.activity, ACTIVITY_MWAIT);
    interrupt(UINV);
    step(1);
    ck_assert_uint_eq(cpu->event.activity, ACTIVITY_ACTIVE);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
    ck_assert_uint_eq(at64(STACK3 - 128 - 24), CODE + 4);

    start("66 0f ae f1 90");                   /* one that becomes pending in the wait */
    cpu->core.rcx = 0;
    cpu->core.rax = 1 << 30;
    cpu->core.rdx = 0;
    step(3);
    ck_assert_uint_eq(cpu->event.activity, ACTIVITY_MWAIT);
    request(1);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
    ck_assert_uint_eq(cpu->event.activity, ACTIVITY_ACTIVE);
}
END_TEST

START_TEST(notification_faults)
{
    start(NOPS);
    cpu->sys.uintr_pd = BIT(47);               /* canonical only for wider addresses */
    interrupt(UINV);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, FAULTS + 16 * EXC_GP + 1);
    ck_assert_uint_eq(at64(STACK0 - 48), 1);   /* EXT */
    ck_assert_uint_eq(apic.eois, 1);           /* the interrupt is gone */
    start(NOPS);
    post(1, 1);
    put(TABLES + 0x3000 + (UPID >> 12) * 8, UPID | 5, 8);
    tlb_flush_everything(cpu);
    interrupt(UINV);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, FAULTS + 16 * EXC_PF + 1);
    ck_assert_uint_eq(at64(STACK0 - 48), 3);
    ck_assert_uint_eq(cpu->sys.cr2, UPID);
    ck_assert_uint_eq(cpu->sys.uintr_rr, 0);
    ck_assert_uint_eq(at64(UPID + 8), 1);
}
END_TEST

START_TEST(a_program_interrupts_itself)
{
    translated = _i;
    start(SENDUIPI_RAX " " NOPS);
    cpu->core.rax = 0;
    apic.loops_back = true;
    put(UITT, 0x1701, 8);                      /* vector 23 to its own descriptor */
    put(UITT + 8, UPID, 8);
    post((u64)UINV << 16, 0);
    step(2);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
    ck_assert_uint_eq(at64(STACK3 - 128 - 32), 23);
    ck_assert_uint_eq(at64(STACK3 - 128 - 24), CODE + 4);
    ck_assert_uint_eq(at64(UPID), (u64)UINV << 16);
    ck_assert_uint_eq(apic.eois, 1);
}
END_TEST

/* A loop that posts to itself for ever: both engines are in the same state wherever they are stopped. */
START_TEST(engines_agree)
{
    enum { POINTS = 40 };
    struct { u64 rip, rsp, rbx, rr, uif, flags; } seen[POINTS];
    for (unsigned engine = 0; engine < 2; engine++) {
        translated = engine;
        start("48 ff c3 f3 0f c7 f0 48 ff c3 48 01 d9 eb f1");         /* inc rbx; senduipi rax; inc rbx; add rcx, rbx; jmp */
        code(HANDLER, "48 83 c4 08 48 ff c3 48 ff c3 f3 0f 01 ec");    /* add rsp, 8; inc rbx; inc rbx; uiret */
        cpu->core.rax = cpu->core.rbx = cpu->core.rcx = 0;
        apic.loops_back = true;
        put(UITT, 0x0101, 8);
        put(UITT + 8, UPID, 8);
        post((u64)UINV << 16, 0);
        for (unsigned n = 0; n < POINTS; n++) {
            step(n < 20 ? n + 1 : 997 + n);
            u64 now[] = {cpu->core.rip, cpu->core.rsp, cpu->core.rbx, cpu->sys.uintr_rr, cpu->sys.uif, cpu_rflags(cpu)};
            if (!engine)
                memcpy(&seen[n], now, sizeof now);
            else
                ck_assert_msg(memcmp(&seen[n], now, sizeof now) == 0, "point %u: rip %llx and %llx", n,
                              (unsigned long long)seen[n].rip, (unsigned long long)now[0]);
        }
        ck_assert_uint_gt(cpu->core.rbx, 1000);
    }
}
END_TEST

/* ---- XSAVES and XRSTORS ------------------------------------------------------------------------------------------ */

enum { AREA = 0x40000, PART = AREA + 576 };
#define XSAVES "0f c7 2b"
#define XRSTORS "0f c7 1b"

static void start_xsave(const char *bytes)
{
    start(bytes);
    ring(CODE64, DATA0, STACK0);
    ck_assert_int_eq(cpu_write_cr4(cpu, cpu->sys.cr4 | CR4_OSXSAVE), FLOW_NEXT);
    write_msr(0xda0, BIT(14));
    cpu->core.rax = BIT(14);
    cpu->core.rdx = 0;
    cpu->core.rbx = AREA;
    memset(bus_.ram + AREA, 0, 1024);
}

static void image(u64 handler, u64 adjust, u64 misc, u64 pd, u64 rr, u64 tt)
{
    const u64 words[] = {handler, adjust, misc, pd, rr, tt};
    for (unsigned n = 0; n < ARRAY_SIZE(words); n++)
        put(PART + 8 * n, words[n], 8);
    put(AREA + 512, BIT(14), 8);
    put(AREA + 520, BIT(14) | BIT(63), 8);
}

START_TEST(xsaves_clears_uinv)
{
    start_xsave(XSAVES);
    cpu->sys.uintr_rr = 0x8001;
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 3);
    ck_assert_uint_eq(at64(AREA + 512), BIT(14));
    ck_assert_uint_eq(at64(PART), HANDLER);
    ck_assert_uint_eq(at64(PART + 8), 128);
    ck_assert_uint_eq(at64(PART + 16), BIT(63) | (u64)UINV << 32 | 3);         /* UIF in bit 63 */
    ck_assert_uint_eq(at64(PART + 24), UPID);
    ck_assert_uint_eq(at64(PART + 32), 0x8001);
    ck_assert_uint_eq(at64(PART + 40), UITT | 1);
    ck_assert_uint_eq(cpu->sys.uintr_misc, 3);
    ck_assert_uint_eq(cpu->sys.uintr_rr, 0x8001);
    /* The initial state is not saved. */
    start_xsave(XSAVES);
    cpu->sys.uintr_rr = cpu->sys.uintr_handler = cpu->sys.uintr_stackadjust = cpu->sys.uintr_misc = cpu->sys.uintr_pd = cpu->sys.uintr_tt =
        cpu->sys.uif = 0;
    step(1);
    ck_assert_uint_eq(at64(AREA + 512), 0);
    /* What is not asked for stays. */
    start_xsave(XSAVES);
    cpu->core.rax = 3;
    step(1);
    ck_assert_uint_eq(cpu->sys.uintr_misc, (u64)UINV << 32 | 3);
    start_xsave(XSAVES);
    unmap(AREA);
    ASSERT_RAISED(EXC_PF, 2);
    ck_assert_uint_eq(cpu->sys.uintr_misc, (u64)UINV << 32 | 3);
}
END_TEST

START_TEST(xrstors_checks)
{
    static const struct { u64 handler, adjust, misc, pd, rr, tt; bool ok; } rows[] = {
        {0x1000, 0x81, BIT(63) | 0xe2ull << 32 | 7, 0x4040, 0x55, 0x5001, true}, {0, 0, 0, 0, 0, 0, true},
        {BIT(47), 0, 0, 0, 0, 0, false}, {0, BIT(63), 0, 0, 0, 0, false}, {0, 0, BIT(40), 0, 0, 0, false}, {0, 0, BIT(62), 0, 0, 0, false},
        {0, 0, 0, 0x20, 0, 0, false}, {0, 0, 0, BIT(48), 0, 0, false}, {0, 0, 0, 0, 0, 2, false}, {0, 0, 0, 0, 0, BIT(60), false},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
        start_xsave(XRSTORS);
        cpu->sys.uintr_misc = 3;
        image(rows[n].handler, rows[n].adjust, rows[n].misc, rows[n].pd, rows[n].rr, rows[n].tt);
        step(1);
        ck_assert_msg(cpu->event.valid == !rows[n].ok, "row %u", n);
        if (!rows[n].ok) {
            ASSERT_EVENT(EXC_GP, 0);
            ck_assert_uint_eq(cpu->sys.uintr_handler, HANDLER);
            ck_assert_uint_eq(cpu->sys.uintr_misc, 3);
            continue;
        }
        ck_assert_uint_eq(cpu->sys.uintr_handler, rows[n].handler);
        ck_assert_uint_eq(cpu->sys.uintr_stackadjust, rows[n].adjust);
        ck_assert_uint_eq(cpu->sys.uintr_misc, rows[n].misc & ~BIT(63));
        ck_assert_uint_eq(cpu->sys.uif, rows[n].misc >> 63);
        ck_assert_uint_eq(cpu->sys.uintr_pd, rows[n].pd);
        ck_assert_uint_eq(cpu->sys.uintr_rr, rows[n].rr);
        ck_assert_uint_eq(cpu->sys.uintr_tt, rows[n].tt);
    }
    /* UINV has to be 0 before, for an initialisation as well. */
    for (unsigned initialise = 0; initialise < 2; initialise++) {
        start_xsave(XRSTORS);
        image(0, 0, 0, 0, 0, 0);
        put(AREA + 512, initialise ? 0 : BIT(14), 8);
        ASSERT_RAISED(EXC_GP, 0);
        cpu->sys.uintr_misc = 3;
        step(1);
        ck_assert_uint_eq(cpu->core.rip, CODE + 3);
        ck_assert_uint_eq(cpu->sys.uintr_handler, 0);
        ck_assert_uint_eq(cpu->sys.uif, 0);
    }
    /* A restore of other components asks nothing. */
    start_xsave(XRSTORS);
    cpu->core.rax = 1;
    put(AREA + 520, BIT(63), 8);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 3);
    /* What is restored is recognised. */
    start_xsave(XRSTORS);
    cpu->sys.uintr_misc = 0;
    image(HANDLER, 128, BIT(63), UPID, BIT(6), 0);
    step(1);
    ring3_long();
    cpu->core.rip = CODE + 0x40;
    step(1);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
    ck_assert_uint_eq(at64(STACK3 - 128 - 32), 6);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cpu/uintr");
    TCase *once = suite_case(s, "uintr"), *twice = suite_case(s, "engines");
    const TTest *const single[] = {enumeration, msrs, instructions_that_are_not_there, senduipi_checks, uiret_faults,
                                   tf_and_rf_end_with_delivery, any_privilege_level_processes, halted_processors, notification_faults,
                                   engines_agree, xsaves_clears_uinv, xrstors_checks};
    const TTest *const both[] = {the_flag, senduipi_posts_and_notifies, uiret_returns, delivery, what_holds_it_back,
                                 an_ordinary_interrupt_comes_first, delivery_faults, shadow_stack_and_tracker,
                                 a_notification_is_processed, what_is_no_notification, a_program_interrupts_itself};
    for (unsigned n = 0; n < ARRAY_SIZE(single); n++)
        tcase_add_test(once, single[n]);
    for (unsigned n = 0; n < ARRAY_SIZE(both); n++)
        tcase_add_loop_test(twice, both[n], 0, 2);
    return suite_run(s, CK_NOFORK);
}
