/* HLT, MONITOR and MWAIT, UMONITOR, UMWAIT and TPAUSE: what they check, what ends the wait; direct stores; instructions that are absent. */
#include "cpu/block.h"
#include "tests/cpu/program.h"

enum { LINE = 0x30040 };
static u64 tsc;                /* the machine's, beside the instructions run */

static u64 wait_tsc(void *arg, struct cpu *c)
{
    (void)arg;
    return tsc + cpu_exact_now(c);
}
static const struct cpu_board wait_board = {.interrupt_acknowledge = board_acknowledge, .shutdown = board_shutdown, .tsc = wait_tsc};

static void start(const char *features, const char *bytes)
{
    program_start(features);
    cpu->board = &wait_board;
    cpu->sys.misc_enable |= MISC_ENABLE_MONITOR;
    cpu->core.rax = cpu->core.rbx = LINE;
    cpu->core.rcx = cpu->core.rdx = 0;
    tsc = 0;
    code(CODE, bytes);
}

#define MONITOR_MWAIT "0f 01 c8 0f 01 c9 90"

START_TEST(a_store_to_the_line_ends_mwait)
{
    static const struct { u64 at; bool wakes; } stores[] = {{LINE, true}, {LINE + 63, true}, {LINE - 1, false}, {LINE + 64, false}, {LINE - 8, false}};
    for (unsigned n = 0; n < ARRAY_SIZE(stores); n++) {
        start("base,+monitor", MONITOR_MWAIT);
        step(10);
        ck_assert_uint_eq(cpu->core.rip, CODE + 6);
        ck_assert_uint_eq(cpu->event.activity, ACTIVITY_MWAIT);
        u8 byte = 1;
        ck_assert(bus_copy_to(&bus_, stores[n].at, &byte, 1));
        ck_assert_uint_eq(cpu->event.activity, stores[n].wakes ? ACTIVITY_ACTIVE : ACTIVITY_MWAIT);
        step(1);
        ck_assert_uint_eq(cpu->core.rip, stores[n].wakes ? CODE + 7 : CODE + 6);
        /* With the last line gone nothing is watched. */
        ck_assert_uint_eq(bus_.page_flags[LINE >> 12] & PAGE_WATCHED, stores[n].wakes ? 0 : PAGE_WATCHED);
    }
}
END_TEST

START_TEST(a_store_before_mwait_keeps_it_from_waiting)
{
    /* mov [rbx], eax: an entry for it is in the TLB; monitor; the store again; mwait */
    start("base,+monitor", "89 03 0f 01 c8 89 03 0f 01 c9 90");
    step(5);
    ck_assert_uint_eq(cpu->core.rip, CODE + 11);
    start("base,+monitor", "89 03 0f 01 c8 89 43 40 0f 01 c9 90");
    step(6);
    ck_assert_uint_eq(cpu->core.rip, CODE + 11);
    ck_assert_uint_eq(cpu->event.activity, ACTIVITY_MWAIT);
    start("base,+monitor", "0f 01 c9 90");     /* nothing is monitored */
    step(2);
    ck_assert_uint_eq(cpu->core.rip, CODE + 4);
}
END_TEST

START_TEST(interrupts_and_mwait)
{
    static const struct { bool enabled, extension, wakes, delivered; } cases[] = {
        {true, false, true, true}, {false, false, false, false}, {false, true, true, false}, {true, true, true, true},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start("base,+monitor", MONITOR_MWAIT);
        idt64(0x20, CODE64, CODE + 0x100, 0x8e, 0);
        code(CODE + 0x100, "90 90");
        step(1);
        cpu->core.rcx = cases[n].extension;
        step(10);
        ck_assert_uint_eq(cpu->event.activity, ACTIVITY_MWAIT);
        if (cases[n].enabled)
            cpu->core.rflags_rest |= FL_IF;
        board_vector = 0x20;
        cpu_signal(cpu, ATT_INTR, 0, true);
        step(1);
        ck_assert_uint_eq(cpu->core.rip, cases[n].delivered ? CODE + 0x101 : cases[n].wakes ? CODE + 7 : CODE + 6);
    }
}
END_TEST

START_TEST(monitor_and_mwait_check)
{
    start("base,+monitor", MONITOR_MWAIT);
    cpu->core.rcx = 1;
    ASSERT_RAISES(EXC_GP);
    cpu->core.rip = CODE + 3;
    cpu->core.rcx = 2;
    ASSERT_RAISES(EXC_GP);
    cpu->core.rip = CODE;
    cpu->sys.misc_enable &= ~(u64)MISC_ENABLE_MONITOR;
    ASSERT_RAISES(EXC_UD);
    start("base,+monitor", MONITOR_MWAIT);
    ring3_long();
    ASSERT_RAISES(EXC_UD);
    start("base,+monitor", MONITOR_MWAIT);
    cpu->core.rax = BIT(60);
    ASSERT_RAISES(EXC_GP);
    struct cpuid_result r = cpu_cpuid(cpu, 5, 0);
    ck_assert_uint_eq(r.eax, 64);
    ck_assert_uint_eq(r.ecx & 3, 3);
}
END_TEST

#define UMONITOR_UMWAIT "f3 0f ae f3 f2 0f ae f1 90"    /* umonitor rbx; umwait ecx */

START_TEST(umwait_ends_by_store_deadline_and_limit)
{
    for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
        start("base,+waitpkg", UMONITOR_UMWAIT);
        if (cpl)
            ring3_long();
        cpu->core.rax = 5000;
        flags_set_status(cpu, FL_STATUS);
        step(10);
        ck_assert_uint_eq(cpu->event.activity, ACTIVITY_MWAIT);
        u8 byte = 1;
        ck_assert(bus_copy_to(&bus_, LINE + 5, &byte, 1));
        step(1);
        ck_assert_uint_eq(cpu->core.rip, CODE + 9);
        ck_assert_uint_eq(flags_status(cpu), 0);

        /* Its own deadline: CF stays clear; the operating system's: it is set. */
        for (unsigned limited = 0; limited < 2; limited++) {
            start("base,+waitpkg", UMONITOR_UMWAIT);
            if (cpl)
                ring3_long();
            cpu->core.rax = 5000;
            cpu->sys.umwait_control = limited ? 400 : 8000;
            step(10);
            ck_assert_uint_eq(cpu->event.wait_deadline, limited ? 401 : 5000);
            tsc = limited ? 401 - cpu->time.now - 1 : 5000 - cpu->time.now - 1;
            step(1);
            ck_assert_uint_eq(cpu->event.activity, ACTIVITY_MWAIT);
            tsc++;
            step(1);
            ck_assert_uint_eq(cpu->core.rip, CODE + 9);
            ck_assert_uint_eq(flags_status(cpu), limited ? FL_CF : 0);
        }
    }
}
END_TEST

START_TEST(tpause_waits_for_its_deadline)
{
    start("base,+waitpkg", "66 0f ae f1 90");
    cpu->core.rax = 100;
    cpu->core.rdx = 1;
    step(10);
    ck_assert_uint_eq(cpu->event.activity, ACTIVITY_MWAIT);
    ck_assert_uint_eq(cpu->event.wait_deadline, 0x100000000);     /* no longer than 2^32 ticks at once */
    /* A masked interrupt ends it, too. */
    board_vector = 0x20;
    cpu_signal(cpu, ATT_INTR, 0, true);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 5);
    cpu_signal(cpu, ATT_INTR, 0, false);
    /* It is past already. */
    start("base,+waitpkg", "66 0f ae f1 90");
    cpu->core.rax = 100;
    tsc = 100;
    step(2);
    ck_assert_uint_eq(cpu->core.rip, CODE + 5);
}
END_TEST

START_TEST(waitpkg_checks)
{
    start("base,+waitpkg", "66 0f ae f1");
    cpu->core.rcx = 2;
    ASSERT_RAISES(EXC_GP);
    ring3_long();
    cpu->core.rcx = 1;
    cpu->sys.cr4 |= CR4_TSD;
    ASSERT_RAISES(EXC_GP);
    start("base,+waitpkg", "f3 0f ae f3");
    cpu->core.rbx = BIT(60);
    ASSERT_RAISES(EXC_GP);
    cpu->core.rbx = 0x10000000;
    ASSERT_RAISES(EXC_PF);
    ck_assert(cpu_msr_write(cpu, 0xe1, 0xfffffffd));
    ck_assert(!cpu_msr_write(cpu, 0xe1, 2));
    ck_assert(!cpu_msr_write(cpu, 0xe1, BIT(32)));
}
END_TEST

START_TEST(direct_stores)
{
    start("base,+movdiri,+movdir64b", "48 0f 38 f9 03 0f 38 f9 43 08 66 0f 38 f8 0b");   /* movdiri [rbx]; [rbx+8]; movdir64b rcx, [rbx] */
    cpu->core.rax = 0x1122334455667788;
    put(LINE + 12, 0xffffffff, 4);
    step(2);
    ck_assert_uint_eq(at64(LINE), 0x1122334455667788);
    ck_assert_uint_eq(at64(LINE + 8), 0xffffffff55667788);
    put(LINE + 56, 0x99, 8);
    cpu->core.rcx = 0x31008;
    ASSERT_RAISES(EXC_GP);
    cpu->core.rcx = 0x31000;
    step(1);
    ck_assert_uint_eq(at64(0x31000), 0x1122334455667788);
    ck_assert_uint_eq(at64(0x31038), 0x99);
}
END_TEST

START_TEST(what_no_model_has_is_undefined)
{
    static const char *const absent[] = {
        "c7 f8 00 00 00 00", "c6 f8 00", "0f 01 d5", "0f 01 d6",          /* XBEGIN, XABORT, XEND, XTEST */
        "f2 0f 38 f8 03", "f3 0f 38 f8 03",                               /* ENQCMD, ENQCMDS */
        "f3 0f 01 ec", "f3 0f 01 ed", "f3 0f 01 ee", "f3 0f 01 ef", "f3 0f c7 f0",    /* UIRET, TESTUI, CLUI, STUI, SENDUIPI */
        "f3 0f ae e0", "f3 0f 3a f0 c0 00",                               /* PTWRITE, HRESET */
        "0f 01 fd", "0f 38 fc 03",                                        /* RDPRU, AADD */
        "f3 0f 38 dc c1", "f3 0f 38 fa c1", "f3 0f 38 d8 03",             /* LOADIWKEY, ENCODEKEY128, AESENCWIDE128KL */
        "c4 e2 71 e0 03",                                                 /* CMPOXADD */
        "f3 0f 01 ca", "f2 0f 01 ca", "f2 0f 00 f0",                      /* ERETU, ERETS, LKGS */
        "c4 e7 7b f6 c0 10 00 00 00", "c4 e7 7a f6 c0 10 00 00 00",       /* RDMSR, WRMSRNS with an immediate */
    };
    for (unsigned n = 0; n < ARRAY_SIZE(absent); n++) {
        start("max", absent[n]);
        ASSERT_RAISES(EXC_UD);
    }
    /* HLE's prefixes and the others' encodings are hints to processors without. */
    static const char *const hints[] = {"f2 f0 01 03", "f3 f0 01 03", "f3 89 03", "0f 1c 03", "0f 0d 13", "f3 0f 1e c8", "f3 0f 1e fa", "f3 0f 09"};
    for (unsigned n = 0; n < ARRAY_SIZE(hints); n++) {
        start("base", hints[n]);
        step(1);
        ck_assert(!cpu->event.valid);
        ck_assert_uint_gt(cpu->core.rip, CODE);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_store_to_the_line_ends_mwait, a_store_before_mwait_keeps_it_from_waiting, interrupts_and_mwait,
        monitor_and_mwait_check, umwait_ends_by_store_deadline_and_limit, tpause_waits_for_its_deadline,
        waitpkg_checks, direct_stores, what_no_model_has_is_undefined,
    };
    return suite_run_tests("wait", tests, ARRAY_SIZE(tests), NULL, NULL, CK_NOFORK);
}
