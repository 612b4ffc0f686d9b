/* Hardware task switches: by JMP, CALL, IRET and a task gate in the IDT, 32- and 16-bit, with their checks and faults. */
#include "tests/cpu/transfer.h"

enum { NEW_EIP = 0x7000, NEW_ESP = 0xc000, RIP = 0x100 };

/* A runnable 32-bit task at ring 0 in TSS_B. */
static void start_tasks(void)
{
    start_protected();
    put(TSS_B + 0x20, NEW_EIP, 4);
    put(TSS_B + 0x24, FL_R1 | FL_CF, 4);
    for (unsigned n = 0; n < 8; n++)
        put(TSS_B + 0x28 + 4 * n, n == REG_RSP ? NEW_ESP : 0xb0b0 + n, 4);
    put(TSS_B + 0x48, DATA3, 4), put(TSS_B + 0x4c, CODE0, 4), put(TSS_B + 0x50, DATA0, 4), put(TSS_B + 0x54, DATA0, 4);
    cpu->core.rbx = 0x12345678;
    cpu_set_rflags(cpu, FL_ZF);
}

static enum flow jump(u16 selector) { return run(h_jmp_far_direct, (struct insn){.selector = selector, .osz = OSZ_32, .length = 7}); }
static enum flow call(u16 selector) { return run(h_call_far_direct, (struct insn){.selector = selector, .osz = OSZ_32, .length = 7}); }
static bool is_busy(u16 selector) { return at64(GDT + selector) >> 41 & 1; }

START_TEST(jump_switches)
{
    start_tasks();
    cpu->sys.dr7 |= 0x3;
    ck_assert_int_eq(jump(TSS_B_SEL), FLOW_END);
    ck_assert_uint_eq(cpu->core.rip, NEW_EIP);
    ck_assert_uint_eq(cpu->core.rsp, NEW_ESP);
    ck_assert_uint_eq(cpu->core.rbx, 0xb0b3);
    ck_assert_uint_eq(cpu_rflags(cpu), FL_R1 | FL_CF);
    ck_assert_uint_eq(cpu->seg.s[SEG_ES].selector, DATA3);
    ck_assert(cpu->seg.s[SEG_FS].access & AR_UNUSABLE);
    ck_assert_uint_eq(cpu->seg.s[SEG_TR].selector, TSS_B_SEL);
    ck_assert_uint_eq(cpu->seg.s[SEG_TR].access & 0xf, 11);
    ck_assert(cpu->sys.cr0 & CR0_TS);
    ck_assert_uint_eq(cpu->sys.dr7 & 3, 2); /* local breakpoints go, global ones stay */
    ck_assert(is_busy(TSS_B_SEL) && !is_busy(TSS_SEL));
    ck_assert_uint_eq(at32(TSS + 0x20), RIP + 7);
    ck_assert_uint_eq(at32(TSS + 0x24), FL_R1 | FL_ZF);
    ck_assert_uint_eq(at32(TSS + 0x34), 0x12345678);
    ck_assert_uint_eq(at32(TSS + 0x4c), CODE0);
}
END_TEST

START_TEST(call_nests_and_iret_returns)
{
    start_tasks();
    ck_assert_int_eq(call(TSS_B_SEL), FLOW_END);
    ck_assert_uint_eq(at16(TSS_B), TSS_SEL);
    ck_assert(cpu->core.rflags_rest & FL_NT);
    ck_assert(is_busy(TSS_B_SEL) && is_busy(TSS_SEL));
    put(TSS + 0x48, DATA0, 4);
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_32, .length = 1}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rip, RIP + 7);
    ck_assert_uint_eq(cpu->core.rbx, 0x12345678);
    ck_assert(!is_busy(TSS_B_SEL) && is_busy(TSS_SEL));
    ck_assert_uint_eq(at32(TSS_B + 0x20), NEW_EIP + 1);
    ck_assert(!(at32(TSS_B + 0x24) & FL_NT));
    ck_assert(!(cpu->core.rflags_rest & FL_NT));
}
END_TEST

START_TEST(iret_needs_a_busy_task)
{
    start_tasks();
    cpu->core.rflags_rest |= FL_NT;
    put(TSS, TSS_B_SEL, 2);
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_32, .length = 1}), FLOW_EVENT);
    ASSERT_EVENT(EXC_TS, TSS_B_SEL);
}
END_TEST

START_TEST(task_gate_in_the_idt_gets_the_error_code)
{
    start_tasks();
    idt32(EXC_GP, gate(TSS_B_SEL, 0, 0x85, 0));
    cpu_raise_gp(cpu, 0x4440);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, NEW_EIP);
    ck_assert_uint_eq(cpu->core.rsp, NEW_ESP - 4);
    ck_assert_uint_eq(at32(NEW_ESP - 4), 0x4440);
    ck_assert_uint_eq(at32(TSS + 0x20), RIP);
    ck_assert(at32(TSS + 0x24) & FL_RF);
    ck_assert(cpu->core.rflags_rest & FL_NT);
}
END_TEST

START_TEST(task_gate_checks)
{
    start_tasks();
    gdt(TASK_GATE_SEL, gate(TSS_B_SEL, 0, 0xe5, 0));
    ring(CODE3, DATA3, STACK3);
    ck_assert_int_eq(jump(TSS_B_SEL), FLOW_EVENT); /* the TSS itself is of ring 0 … */
    ASSERT_EVENT(EXC_GP, TSS_B_SEL);
    forget();
    ck_assert_int_eq(jump(TASK_GATE_SEL | 3), FLOW_END); /* … the gate is for all */
    ck_assert_uint_eq(cpu->mode.cpl, 0);
    start_tasks();
    gdt(TASK_GATE_SEL, gate(TSS_B_SEL | SELECTOR_TI, 0, 0xe5, 0));
    ck_assert_int_eq(jump(TASK_GATE_SEL), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, TSS_B_SEL | SELECTOR_TI);
    gdt(TASK_GATE_SEL, gate(TSS_B_SEL, 0, 0x65, 0));
    ck_assert_int_eq(jump(TASK_GATE_SEL), FLOW_EVENT);
    ASSERT_EVENT(EXC_NP, TASK_GATE_SEL);
}
END_TEST

START_TEST(tss_checks)
{
    start_tasks();
    gdt(TSS_B_SEL, descriptor(TSS_B, 0x66, 0x89, 0));
    ck_assert_int_eq(jump(TSS_B_SEL), FLOW_EVENT);
    ASSERT_EVENT(EXC_TS, TSS_B_SEL);
    gdt(TSS_B_SEL, descriptor(TSS_B, 0x67, 0x09, 0));
    ck_assert_int_eq(jump(TSS_B_SEL), FLOW_EVENT);
    ASSERT_EVENT(EXC_NP, TSS_B_SEL);
    gdt(TSS_B_SEL, descriptor(TSS_B, 0x67, 0x8b, 0));
    ck_assert_int_eq(jump(TSS_B_SEL), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, TSS_B_SEL);
    ck_assert_uint_eq(at32(TSS + 0x20), 0); /* nothing was saved */
    ck_assert_uint_eq(cpu->seg.s[SEG_TR].selector, TSS_SEL);
}
END_TEST

/* Behind the point of no return a fault belongs to the new task. */
START_TEST(faults_in_the_new_task)
{
    static const struct { u32 offset, value; unsigned vector; u32 error; } cases[] = {
        {0x4c, DATA0, EXC_TS, DATA0}, {0x50, DATA3, EXC_TS, DATA3 & ~3}, {0x54, 0x200, EXC_TS, 0x200}, {0x60, DATA0, EXC_TS, DATA0},
        {0x48, FREE, EXC_NP, FREE},   {0x50, FREE, EXC_SS, FREE},        {0x4c, 0, EXC_TS, 0},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start_tasks();
        gdt(FREE, descriptor(0, 0xfffff, 0x13, 0xc));
        put(TSS_B + cases[n].offset, cases[n].value, 4);
        ck_assert_int_eq(jump(TSS_B_SEL), FLOW_EVENT);
        ASSERT_EVENT(cases[n].vector, cases[n].error);
        ck_assert_uint_eq(cpu->core.rip, NEW_EIP);
        ck_assert_uint_eq(cpu->seg.s[SEG_TR].selector, TSS_B_SEL);
        ck_assert(is_busy(TSS_B_SEL) && !is_busy(TSS_SEL));
    }
}
END_TEST

START_TEST(debug_trap_flag)
{
    start_tasks();
    put(TSS_B + 0x64, 1, 2);
    idt32(EXC_DB, gate(CODE0, 0x5555, 0x8e, 0));
    ck_assert_int_eq(jump(TSS_B_SEL), FLOW_END);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, 0x5555);
    ck_assert(cpu->sys.dr6 & DR6_BT);
    ck_assert_uint_eq(at32(NEW_ESP - 12), NEW_EIP);
}
END_TEST

START_TEST(to_virtual_8086_mode)
{
    start_tasks();
    put(TSS_B + 0x24, FL_VM | FL_IOPL, 4);
    put(TSS_B + 0x4c, 0x1234, 4), put(TSS_B + 0x50, 0x2000, 4);
    ck_assert_int_eq(jump(TSS_B_SEL), FLOW_END);
    ck_assert(cpu->mode.v8086);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].base, 0x12340);
    ck_assert_uint_eq(cpu->mode.cpl, 3);
}
END_TEST

START_TEST(sixteen_bit_task)
{
    start_tasks();
    gdt(TSS_B_SEL, descriptor(TSS_B, 0x2b, 0x81, 0));
    memset(bus_.ram + TSS_B, 0, 0x68);
    put(TSS_B + 0x0e, NEW_EIP, 2), put(TSS_B + 0x10, FL_R1 | FL_IF, 2);
    put(TSS_B + 0x1a, NEW_ESP, 2);
    put(TSS_B + 0x24, CODE0, 2), put(TSS_B + 0x26, DATA0, 2), put(TSS_B + 0x28, DATA0, 2);
    ck_assert_int_eq(call(TSS_B_SEL), FLOW_END);
    ck_assert_uint_eq(cpu->core.rip, NEW_EIP);
    ck_assert_uint_eq(cpu->core.rsp, NEW_ESP);
    ck_assert_uint_eq(cpu->seg.s[SEG_TR].access & 0xf, 3);
    ck_assert(is_busy(TSS_B_SEL));
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_32, .length = 1}), FLOW_END);
    ck_assert_uint_eq(at16(TSS_B + 0x0e), NEW_EIP + 1);
    ck_assert_uint_eq(at16(TSS_B + 0x10), FL_R1 | FL_IF);
    ck_assert_uint_eq(cpu->core.rip, RIP + 7);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        jump_switches, call_nests_and_iret_returns, iret_needs_a_busy_task, task_gate_in_the_idt_gets_the_error_code,
        task_gate_checks, tss_checks, faults_in_the_new_task, debug_trap_flag, to_virtual_8086_mode, sixteen_bit_task,
    };
    return suite_run_tests("task", tests, ARRAY_SIZE(tests), NULL, NULL, CK_NOFORK);
}
