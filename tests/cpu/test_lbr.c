/* Last-branch records: what is recorded, filters, the call stack, exceptions, and that programs do not notice. */
#include "tests/cpu/program.h"

enum { HANDLER = 0x28000, M_SELECT = 0x1c8, M_TOS = 0x1c9, M_DEBUGCTL = 0x1d9, M_LER_FROM = 0x1dd, M_LER_TO = 0x1de, M_FROM = 0x680,
       M_TO = 0x6c0 };

static u64 msr(u32 number)
{
    u64 value = 0;
    ck_assert(cpu_msr_read(cpu, number, &value));
    return value;
}

static void start(const char *features, const char *bytes)
{
    program_start(features);
    cpu->core.rax = CODE + 0x100;
    code(CODE, bytes);
    code(CODE + 0x100, "c3");
}

/* call +0xfb; ret; call rax; ret; jmp +0; jz (not taken); jnz; loop */
#define BRANCHES "e8 fb 00 00 00 ff d0 eb 00 74 10 75 00 90"

static void check(unsigned n, u64 from, u64 to)
{
    ck_assert_msg(msr(M_FROM + n) == CODE + from && msr(M_TO + n) == CODE + to, "record %u: %llx to %llx", n, (unsigned long long)msr(M_FROM + n),
                  (unsigned long long)msr(M_TO + n));
}

START_TEST(taken_branches_are_recorded)
{
    start("haswell", BRANCHES);
    cpu->core.fl_zero = 1;                     /* not zero */
    ck_assert(cpu_msr_write(cpu, M_DEBUGCTL, DEBUGCTL_LBR));
    step(8);
    ck_assert_uint_eq(cpu->core.rip, CODE + 14);
    ck_assert_uint_eq(msr(M_TOS), 6);
    check(1, 0, 0x100);
    check(2, 0x100, 5);
    check(3, 5, 0x100);
    check(4, 0x100, 7);
    check(5, 7, 9);
    check(6, 11, 13);
    /* The ring goes round. */
    code(CODE + 0x200, "eb fe");
    cpu->core.rip = CODE + 0x200;
    step(12);
    ck_assert_uint_eq(msr(M_TOS), 2);
    check(2, 0x200, 0x200);
    /* Off again: nothing is added, and code runs by blocks. */
    ck_assert(cpu_msr_write(cpu, M_DEBUGCTL, 0));
    ck_assert(!(cpu->event.attention & ATT_ALONE));
    step(5);
    ck_assert_uint_eq(msr(M_TOS), 2);
}
END_TEST

START_TEST(filters)
{
    static const struct { u64 select; unsigned records; } cases[] = {
        {0, 6}, {1, 0}, {2, 6}, {4, 5}, {8, 5}, {0x10, 5}, {0x20, 4}, {0x40, 6}, {0x80, 5}, {0x1fc, 0},
        {0x3c4, 0},                            /* a call stack: each return takes its call away */
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start("skylake", BRANCHES);
        cpu->core.fl_zero = 1;
        ck_assert(cpu_msr_write(cpu, M_SELECT, cases[n].select));
        ck_assert(cpu_msr_write(cpu, M_DEBUGCTL, DEBUGCTL_LBR));
        step(8);
        ck_assert_msg(msr(M_TOS) == cases[n].records, "case %u: %llu", n, (unsigned long long)msr(M_TOS));
    }
    start("skylake", BRANCHES);
    ck_assert(cpu_msr_write(cpu, M_SELECT, 0x3c4));
    ck_assert(cpu_msr_write(cpu, M_DEBUGCTL, DEBUGCTL_LBR));
    step(1);
    ck_assert_uint_eq(msr(M_TOS), 1);
    step(1);
    ck_assert_uint_eq(msr(M_TOS), 0);
}
END_TEST

START_TEST(exceptions_are_far_branches)
{
    start("haswell", "e8 fb 00 00 00 0f 0b");
    idt64(EXC_UD, CODE64, HANDLER, 0x8e, 0);
    code(HANDLER, "90");
    ck_assert(cpu_msr_write(cpu, M_DEBUGCTL, DEBUGCTL_LBR));
    step(4);
    ck_assert_uint_eq(msr(M_TOS), 3);
    ck_assert_uint_eq(msr(M_FROM + 3), CODE + 5);
    ck_assert_uint_eq(msr(M_TO + 3), HANDLER);
    ck_assert_uint_eq(msr(M_LER_FROM), CODE + 0x100);
    ck_assert_uint_eq(msr(M_LER_TO), CODE + 5);
    /* A debug exception turns recording off. */
    idt64(EXC_DB, CODE64, HANDLER, 0x8e, 0);
    code(CODE + 0x300, "f1");
    cpu->core.rip = CODE + 0x300;
    step(1);
    (void)cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert_uint_eq(msr(M_DEBUGCTL), 0);
    ck_assert_uint_eq(msr(M_TOS), 3);
}
END_TEST

START_TEST(registers)
{
    u64 value;
    start("haswell", "90");
    ck_assert(cpu_msr_write(cpu, M_FROM + 15, 1));
    ck_assert(!cpu_msr_write(cpu, M_FROM + 16, 1));
    ck_assert(!cpu_msr_read(cpu, M_TO + 16, &value));
    ck_assert(!cpu_msr_write(cpu, M_TOS, 16));
    ck_assert(!cpu_msr_write(cpu, M_SELECT, 0x400));
    ck_assert(!cpu_msr_write(cpu, M_LER_FROM, 0));
    start("base", "90");
    ck_assert(!cpu_msr_write(cpu, M_DEBUGCTL, DEBUGCTL_LBR));
    ck_assert(!cpu_msr_read(cpu, M_TOS, &value));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        taken_branches_are_recorded, filters, exceptions_are_far_branches, registers,
    };
    return suite_run_tests("lbr", tests, ARRAY_SIZE(tests), NULL, NULL, CK_NOFORK);
}
