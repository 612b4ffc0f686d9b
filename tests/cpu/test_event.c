/* Delivery of events in every mode, nested faults, priorities between instructions, shadows, single steps, activity states. */
#include "tests/cpu/transfer.h"

enum { HANDLER = 0x5678, RIP = 0x100 };

/* ---- real mode ---------------------------------------------------------------------------------------------------- */

START_TEST(real_mode_interrupt)
{
    start_real();
    put(0x21 * 4, 0x20001234, 4);
    cpu_set_rflags(cpu, FL_IF | FL_TF | FL_CF | FL_AC);
    cpu_raise_software(cpu, 0x21, EVT_SOFTWARE_INT, 2);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, 0x1234);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, 0x2000);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].base, 0x20000);
    ck_assert_uint_eq(cpu->core.rsp, 0x7ffa);
    ck_assert_uint_eq(at16(0x7ffa), 0x102);
    ck_assert_uint_eq(at16(0x7ffc), 0x1000);
    ck_assert_uint_eq(at16(0x7ffe), FL_IF | FL_TF | FL_CF | FL_R1);
    ck_assert_uint_eq(cpu_rflags(cpu), FL_CF | FL_R1);
}
END_TEST

START_TEST(real_mode_stack_wraps)
{
    start_real();
    put(0x21 * 4, 0x20001234, 4);
    cpu->core.rsp = 0xabcd0002;
    cpu_raise_software(cpu, 0x21, EVT_SOFTWARE_INT, 2);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rsp, 0xabcdfffc);
    ck_assert_uint_eq(at16(0), FL_R1);
    ck_assert_uint_eq(at16(0xfffe), 0x1000);
    ck_assert_uint_eq(at16(0xfffc), 0x102);
}
END_TEST

START_TEST(real_mode_beyond_table_is_a_fault)
{
    start_real();
    put(EXC_GP * 4, 0x20001234, 4);
    cpu->seg.idtr.limit = 0x21 * 4 + 2;
    cpu_raise_software(cpu, 0x21, EVT_SOFTWARE_INT, 2);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, 0x1234);
    ck_assert_uint_eq(at16(0x7ffa), 0x100); /* a fault: no error code, the instruction itself */
}
END_TEST

/* ---- protected mode ----------------------------------------------------------------------------------------------- */

START_TEST(same_level_fault)
{
    start_protected();
    idt32(EXC_GP, gate(CODE0, HANDLER, 0x8e, 0));
    cpu_set_rflags(cpu, FL_IF | FL_NT);
    cpu_raise_gp(cpu, 0x1234);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert_uint_eq(cpu->core.rsp, STACK0 - 16);
    ck_assert_uint_eq(at32(STACK0 - 16), 0x1234);
    ck_assert_uint_eq(at32(STACK0 - 12), RIP);
    ck_assert_uint_eq(at32(STACK0 - 8), CODE0);
    ck_assert_uint_eq(at32(STACK0 - 4), FL_IF | FL_NT | FL_R1 | FL_RF);
    ck_assert_uint_eq(cpu_rflags(cpu), FL_R1);
}
END_TEST

START_TEST(trap_gate_keeps_interrupts)
{
    start_protected();
    idt32(0x80, gate(CODE0, HANDLER, 0x8f, 0));
    cpu_set_rflags(cpu, FL_IF);
    cpu_raise_software(cpu, 0x80, EVT_SOFTWARE_INT, 2);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu_rflags(cpu), FL_IF | FL_R1);
    ck_assert_uint_eq(at32(STACK0 - 12), RIP + 2);
    ck_assert_uint_eq(at32(STACK0 - 4), FL_IF | FL_R1); /* no RF for a software interrupt */
}
END_TEST

START_TEST(inner_level_switches_stacks)
{
    start_protected();
    idt32(EXC_UD, gate(CODE0, HANDLER, 0x8e, 0));
    ring(CODE3, DATA3, STACK3 - 4);
    cpu_raise_ud(cpu);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->mode.cpl, 0);
    ck_assert_uint_eq(cpu->seg.s[SEG_SS].selector, DATA0);
    ck_assert_uint_eq(cpu->core.rsp, STACK0 - 20);
    ck_assert_uint_eq(at32(STACK0 - 4), DATA3);
    ck_assert_uint_eq(at32(STACK0 - 8), STACK3 - 4);
    ck_assert_uint_eq(at32(STACK0 - 16), CODE3);
    ck_assert_uint_eq(cpu->seg.s[SEG_DS].selector, DATA3);
}
END_TEST

START_TEST(sixteen_bit_gate)
{
    start_protected();
    idt32(0x30, gate(CODE0, 0xabc0000 | HANDLER, 0x86, 0));
    cpu_raise_software(cpu, 0x30, EVT_SOFTWARE_INT, 2);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert_uint_eq(cpu->core.rsp, STACK0 - 6);
    ck_assert_uint_eq(at16(STACK0 - 6), RIP + 2);
}
END_TEST

START_TEST(conforming_handler_keeps_the_level)
{
    start_protected();
    idt32(EXC_UD, gate(CONFORMING, HANDLER, 0x8e, 0));
    ring(CODE3, DATA3, STACK3);
    cpu_raise_ud(cpu);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->mode.cpl, 3);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, CONFORMING | 3);
    ck_assert_uint_eq(cpu->core.rsp, STACK3 - 12);
    ck_assert(at64(GDT + CONFORMING) & BIT(40)); /* accessed */
}
END_TEST

/* Error codes of what goes wrong: the gate, the code segment, the stack; with EXT for what the program did not ask for. */
START_TEST(error_codes)
{
    static const struct { u64 gate; unsigned vector; u32 error; } cases[] = {
        {0, EXC_GP, 0x82},                                      /* no gate type */
        {(u64)0x0e << 40 | (u64)CODE0 << 16, EXC_NP, 0x82},     /* gate not present */
        {(u64)0x8e << 40, EXC_GP, 0},                           /* null code selector */
        {(u64)0x8e << 40 | (u64)0x200 << 16, EXC_GP, 0x200},    /* beyond the GDT */
        {(u64)0x8e << 40 | (u64)DATA0 << 16, EXC_GP, DATA0},    /* not code */
        {(u64)0x8e << 40 | (u64)FREE << 16, EXC_NP, FREE},      /* code not present */
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        for (unsigned external = 0; external < 2; external++) {
            start_protected();
            gdt(FREE, descriptor(0, 0xfffff, 0x1b, 0xc));
            idt32(EXC_GP, gate(CODE0, HANDLER, 0x8e, 0));
            idt32(EXC_NP, gate(CODE0, HANDLER + 1, 0x8e, 0));
            idt32(0x10, cases[n].gate);
            if (external) {
                cpu_raise(cpu, 0x10);
                cpu->event.type = EVT_EXTERNAL;
            } else {
                cpu_raise_software(cpu, 0x10, EVT_SOFTWARE_INT, 2);
            }
            cpu_service_events(cpu);
            ck_assert_uint_eq(cpu->core.rip, cases[n].vector == EXC_GP ? HANDLER : HANDLER + 1);
            ck_assert_uint_eq(at32(STACK0 - 16), cases[n].error | external);
            ck_assert_uint_eq(at32(STACK0 - 12), RIP);
        }
    }
}
END_TEST

START_TEST(software_interrupt_needs_the_gate_s_level)
{
    start_protected();
    idt32(EXC_GP, gate(CODE0, HANDLER, 0x8e, 0));
    idt32(0x80, gate(CODE0, 0x9999, 0x8e, 0));
    idt32(EXC_DB, gate(CODE0, 0x7777, 0x8e, 0));
    ring(CODE3, DATA3, STACK3);
    cpu_raise_software(cpu, 0x80, EVT_SOFTWARE_INT, 2);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert_uint_eq(at32(STACK0 - 24), 0x80 * 8 + 2);
    ring(CODE3, DATA3, STACK3);
    cpu_raise_software(cpu, EXC_DB, EVT_PRIV_SOFTWARE, 1); /* INT1 does not */
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, 0x7777);
}
END_TEST

START_TEST(inner_stack_is_checked)
{
    static const struct { u32 ss; unsigned vector; u32 error; } cases[] = {
        {0, EXC_TS, 0}, {0x200, EXC_TS, 0x200}, {DATA3, EXC_TS, DATA3 & ~3}, {CODE0, EXC_TS, CODE0}, {FREE, EXC_SS, FREE}, {DATA16, EXC_SS, DATA16},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start_protected();
        gdt(FREE, descriptor(0, 0xfffff, 0x13, 0xc));
        gdt(DATA16, descriptor(0, 0x10, 0x93, 0));
        idt32(EXC_UD, gate(CODE0, HANDLER, 0x8e, 0));
        idt32(EXC_TS, gate(CONFORMING, HANDLER + 1, 0x8e, 0));
        idt32(EXC_SS, gate(CONFORMING, HANDLER + 2, 0x8e, 0));
        put(TSS + 8, cases[n].ss, 4);
        ring(CODE3, DATA3, STACK3);
        cpu_raise_ud(cpu);
        cpu_service_events(cpu);
        ck_assert_uint_eq(cpu->core.rip, cases[n].vector == EXC_TS ? HANDLER + 1 : HANDLER + 2);
        ck_assert_uint_eq(at32(STACK3 - 16), cases[n].error | 1);
        ck_assert_uint_eq(cpu->mode.cpl, 3);
    }
}
END_TEST

START_TEST(tss_too_short)
{
    start_protected();
    idt32(EXC_UD, gate(CODE0, HANDLER, 0x8e, 0));
    idt32(EXC_TS, gate(CONFORMING, HANDLER + 1, 0x8e, 0));
    cpu->seg.s[SEG_TR].limit = 10;
    ring(CODE3, DATA3, STACK3);
    cpu_raise_ud(cpu);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
    ck_assert_uint_eq(at32(STACK3 - 16), TSS_SEL | 1);
}
END_TEST

/* ---- virtual-8086 mode -------------------------------------------------------------------------------------------- */

static void start_v8086(unsigned iopl)
{
    static const u8 order[] = {SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
    start_protected();
    for (unsigned n = 0; n < 6; n++)
        segment_load_v8086(&cpu->seg.s[order[n]], (u16)(0x600 + n));
    cpu_set_rflags(cpu, FL_VM | FL_IF | (u64)iopl << 12);
    cpu->core.rsp = 0x1000;
    cpu->core.rip = RIP;
    cpu_mode_update(cpu);
}

START_TEST(v8086_to_ring_0)
{
    start_v8086(0);
    idt32(EXC_UD, gate(CODE0, HANDLER, 0x8e, 0));
    cpu_raise_ud(cpu);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert(cpu->mode.protected_mode);
    ck_assert_uint_eq(cpu->mode.cpl, 0);
    static const u32 frame[] = {RIP, 0x601, FL_VM | FL_IF | FL_R1 | FL_RF, 0x1000, 0x602, 0x600, 0x603, 0x604, 0x605};
    for (unsigned n = 0; n < 9; n++)
        ck_assert_uint_eq(at32(STACK0 - 36 + 4 * n), frame[n]);
    ck_assert_uint_eq(cpu->seg.s[SEG_DS].selector, 0);
    ck_assert(cpu->seg.s[SEG_GS].access & AR_UNUSABLE);

    /* … and IRET goes back. */
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_32}), FLOW_END);
    ck_assert(cpu->mode.v8086);
    ck_assert_uint_eq(cpu->core.rip, RIP);
    ck_assert_uint_eq(cpu->core.rsp, 0x1000);
    ck_assert_uint_eq(cpu->seg.s[SEG_FS].selector, 0x604);
    ck_assert_uint_eq(cpu->seg.s[SEG_FS].base, 0x6040);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, 0x601);
    ck_assert_uint_eq(cpu->mode.cpl, 3);
}
END_TEST

START_TEST(v8086_handler_must_be_ring_0)
{
    start_v8086(0);
    idt32(EXC_UD, gate(CONFORMING, HANDLER, 0x8e, 0));
    idt32(EXC_GP, gate(CODE0, HANDLER + 1, 0x8e, 0));
    cpu_raise_ud(cpu);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 1);
    ck_assert_uint_eq(at32(STACK0 - 40), CONFORMING | 1);
}
END_TEST

START_TEST(v8086_int_n_and_iopl)
{
    start_v8086(0);
    ck_assert_int_eq(run(h_int_n, (struct insn){.imm = 0x21}), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
    start_v8086(3);
    idt32(0x21, gate(CODE0, HANDLER, 0xee, 0));
    ck_assert_int_eq(run(h_int_n, (struct insn){.imm = 0x21}), FLOW_EVENT);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert(cpu->mode.protected_mode);
}
END_TEST

START_TEST(vme_redirects_and_virtualises_if)
{
    start_v8086(0);
    cpu->sys.cr4 |= CR4_VME;
    put(TSS + 0x66, 0x68 + 32, 2); /* the bitmap lies at 0x68; all zero redirects everything */
    put(0x21 * 4, 0x30004444, 4);
    cpu->core.rflags_rest |= FL_VIF;
    ck_assert_int_eq(run(h_int_n, (struct insn){.imm = 0x21}), FLOW_EVENT);
    cpu_service_events(cpu);
    ck_assert(cpu->mode.v8086);
    ck_assert_uint_eq(cpu->core.rip, 0x4444);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, 0x3000);
    ck_assert_uint_eq(at16(0x6020 + 0xffe), FL_IOPL | FL_IF | FL_R1);
    ck_assert(!(cpu->core.rflags_rest & FL_VIF));
    ck_assert(cpu->core.rflags_rest & FL_IF);
    /* IRET brings VIF back. */
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_16}), FLOW_END);
    ck_assert(cpu->core.rflags_rest & FL_VIF);
    ck_assert_uint_eq(cpu->core.rip, RIP + 2);
    /* A set bit in the bitmap sends it to the monitor as #GP(0). */
    put(TSS + 0x68 + 0x21 / 8, 1 << (0x21 & 7), 1);
    ck_assert_int_eq(run(h_int_n, (struct insn){.imm = 0x21}), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
}
END_TEST

/* ---- IA-32e mode -------------------------------------------------------------------------------------------------- */

START_TEST(long_mode_aligns_the_stack)
{
    start_long();
    idt64(EXC_GP, CODE64, 0x1234567855ull, 0x8e, 0);
    cpu->core.rsp = STACK0 - 8;
    cpu_raise_gp(cpu, 0x42);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, 0x1234567855ull);
    ck_assert_uint_eq(cpu->core.rsp, STACK0 - 16 - 48);
    static const u64 frame[] = {0x42, RIP, CODE64, FL_R1 | FL_RF, STACK0 - 8, DATA0};
    for (unsigned n = 0; n < 6; n++)
        ck_assert_uint_eq(at64(STACK0 - 64 + 8 * n), frame[n]);
    ck_assert_uint_eq(cpu->seg.s[SEG_SS].selector, DATA0);
}
END_TEST

START_TEST(long_mode_ring_change_nulls_ss)
{
    start_long();
    idt64(0x80, CODE64, HANDLER, 0xee, 0);
    ring3_long();
    cpu_raise_software(cpu, 0x80, EVT_SOFTWARE_INT, 2);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->mode.cpl, 0);
    ck_assert_uint_eq(cpu->seg.s[SEG_SS].selector, 0);
    ck_assert(cpu->seg.s[SEG_SS].access & AR_UNUSABLE);
    ck_assert_uint_eq(cpu->core.rsp, STACK0 - 40);
    ck_assert_uint_eq(at64(STACK0 - 16), STACK3);
    ck_assert_uint_eq(at64(STACK0 - 8), DATA3);
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_64}), FLOW_END);
    ck_assert_uint_eq(cpu->mode.cpl, 3);
    ck_assert_uint_eq(cpu->core.rsp, STACK3);
    ck_assert_uint_eq(cpu->core.rip, RIP + 2);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, CODE64_3);
}
END_TEST

START_TEST(interrupt_stack_table)
{
    start_long();
    idt64(EXC_UD, CODE64, HANDLER, 0x8e, 1);
    cpu_raise_ud(cpu);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rsp, STACK_IST - 40);
    ck_assert_uint_eq(at64(STACK_IST - 16), STACK0);
    ck_assert_uint_eq(cpu->seg.s[SEG_SS].selector, DATA0); /* no change of level: SS stays */
}
END_TEST

START_TEST(long_mode_gate_checks)
{
    start_long();
    idt64(EXC_GP, CODE64, HANDLER, 0x8e, 0);
    idt64(0x50, CODE0, 0x1111, 0x8e, 0); /* not 64-bit code */
    cpu_raise_software(cpu, 0x50, EVT_SOFTWARE_INT, 2);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert_uint_eq(at64(cpu->core.rsp), CODE0);
    cpu->core.rip = RIP;
    idt64(0x51, CODE64, 0x1111, 0x85, 0); /* no task gates */
    cpu_raise_software(cpu, 0x51, EVT_SOFTWARE_INT, 2);
    cpu_service_events(cpu);
    ck_assert_uint_eq(at64(cpu->core.rsp), 0x51 * 8 + 2);
    cpu->seg.idtr.limit = 0x50 * 16 + 14;
    cpu_raise_software(cpu, 0x50, EVT_SOFTWARE_INT, 2);
    cpu_service_events(cpu);
    ck_assert_uint_eq(at64(cpu->core.rsp), 0x50 * 8 + 2);
}
END_TEST

START_TEST(page_fault_sets_cr2_unless_injected)
{
    start_long();
    idt64(EXC_PF, CODE64, HANDLER, 0x8e, 0);
    cpu_raise_pf(cpu, 0xdead000, 2);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->sys.cr2, 0xdead000);
    ck_assert_uint_eq(at64(cpu->core.rsp), 2);
    cpu_raise_pf(cpu, 0xbeef000, 6);
    cpu->event.injected = 1;
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->sys.cr2, 0xdead000);
    ck_assert_uint_eq(at64(cpu->core.rsp), 6);
    ck_assert_uint_eq(at64(cpu->core.rsp + 24) & FL_RF, 0);
}
END_TEST

/* ---- nested faults -------------------------------------------------------------------------------------------------- */

START_TEST(page_fault_while_delivering_a_page_fault_is_a_double_fault)
{
    start_long();
    idt64(EXC_PF, CODE64, HANDLER, 0x8e, 0);
    idt64(EXC_DF, CODE64, HANDLER + 8, 0x8e, 1);
    unmap(STACK0 - 0x1000);
    cpu_raise_pf(cpu, 0xdead000, 0);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 8);
    ck_assert_uint_eq(at64(STACK_IST - 48), 0);
    ck_assert_uint_eq(at64(STACK_IST - 40), RIP);
    ck_assert_uint_eq(cpu->sys.cr2 & ~0xfffull, STACK0 - 0x1000);
    ck_assert_uint_eq(cpu->event.delivering, 0);
}
END_TEST

START_TEST(page_fault_after_contributory_is_serial)
{
    start_long();
    idt64(EXC_GP, CODE64, HANDLER, 0x8e, 0);
    idt64(EXC_PF, CODE64, HANDLER + 8, 0x8e, 1);
    unmap(STACK0 - 0x1000);
    cpu_raise_gp(cpu, 0);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, HANDLER + 8);
}
END_TEST

START_TEST(contributory_pair_is_a_double_fault)
{
    start_protected();
    idt32(EXC_DF, gate(CODE0, HANDLER, 0x8e, 0));
    idt32(EXC_NP, gate(CODE0, HANDLER, 0x0e, 0));
    cpu_raise_gp(cpu, 0); /* no gate: #GP again */
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert_uint_eq(at32(cpu->core.rsp), 0);
}
END_TEST

START_TEST(benign_first_event_is_serial)
{
    start_protected();
    idt32(EXC_GP, gate(CODE0, HANDLER, 0x8e, 0));
    cpu_raise(cpu, 0x55);
    cpu->event.type = EVT_EXTERNAL;
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert_uint_eq(at32(cpu->core.rsp), 0x55 * 8 + 3);
}
END_TEST

START_TEST(triple_fault_shuts_down)
{
    start_protected();
    cpu->seg.idtr.limit = 0;
    cpu_raise_ud(cpu);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_END);
    ck_assert_uint_eq(cpu->event.activity, ACTIVITY_SHUTDOWN);
    ck_assert_int_eq(board_shutdowns, 1);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_END);
}
END_TEST

/* ---- between instructions -------------------------------------------------------------------------------------------- */

/* Flat ring 0 with a gate for every vector: handler of vector v at v * 16. */
static void start_busy(void)
{
    start_protected();
    for (unsigned v = 0; v < 256; v++)
        idt32(v, gate(CODE0, v * 16, 0x8e, 0));
    cpu->core.rip = 0x10000;
}

/* The run loop's part behind an instruction that ran alone. */
static const struct insn plain = {.length = 1};
static void after(enum flow flow) { cpu_after_step(cpu, flow, &plain); }

static void interrupt(int vector)
{
    board_vector = vector;
    cpu_signal(cpu, ATT_INTR, 0, true);
}

START_TEST(masked_interrupt_waits)
{
    start_busy();
    interrupt(0x40);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, 0x10000);
    ck_assert(cpu->event.attention & ATT_INTR);
    cpu->core.rflags_rest |= FL_IF;
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, 0x400);
    ck_assert_uint_eq(cpu->event.attention, 0);
}
END_TEST

START_TEST(sti_shadow_lasts_one_instruction)
{
    start_busy();
    interrupt(0x40);
    ck_assert_int_eq(run(h_sti, (struct insn){.length = 1}), FLOW_END);
    ck_assert(cpu->event.attention & ATT_SHADOW);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, 0x10001); /* the instruction behind STI runs first */
    cpu->core.rip += 1;
    after(FLOW_NEXT);
    ck_assert(!(cpu->event.attention & ATT_SHADOW));
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, 0x400);
}
END_TEST

START_TEST(sti_hlt_wakes)
{
    start_busy();
    run(h_sti, (struct insn){.length = 1});
    cpu_service_events(cpu);
    cpu->event.activity = ACTIVITY_HLT;
    cpu->event.attention |= ATT_ACTIVITY;
    cpu->core.rip += 1;
    after(FLOW_END);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_END);
    interrupt(0x40);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, 0x400);
    ck_assert_uint_eq(cpu->event.activity, ACTIVITY_ACTIVE);
    ck_assert_uint_eq(at32(cpu->core.rsp), 0x10002);
}
END_TEST

START_TEST(load_of_ss_holds_everything_back)
{
    start_busy();
    cpu->core.rflags_rest |= FL_IF | FL_TF;
    cpu_mode_update(cpu);
    interrupt(0x40);
    cpu_signal(cpu, ATT_NMI, 0, true);
    cpu->event.blocking = 0;
    cpu->event.attention &= ~(u32)(ATT_INTR | ATT_NMI);
    cpu_service_events(cpu);
    cpu->core.rax = DATA0;
    ck_assert_int_eq(run(h_mov_to_segment, (struct insn){.modrm = 0xd0, .osz = OSZ_16}), FLOW_END);
    after(FLOW_END);
    cpu->event.attention |= ATT_INTR | ATT_NMI;
    ck_assert(cpu->event.pending_debug & DR6_BS);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, 0x10002);
    cpu->core.rip += 1;
    after(FLOW_NEXT);
    /* The trap comes first, the NMI on top of it; the interrupt waits for IF. */
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, EXC_NMI * 16);
    ck_assert_uint_eq(at32(cpu->core.rsp), EXC_DB * 16);
    ck_assert(cpu->sys.dr6 & DR6_BS);
    ck_assert(cpu->event.attention & ATT_INTR);
}
END_TEST

START_TEST(single_step_traps_after_the_instruction)
{
    start_busy();
    cpu->core.rflags_rest |= FL_TF;
    cpu_mode_update(cpu);
    ck_assert(cpu->event.attention & ATT_STEP);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    cpu->core.rip += 3;
    after(FLOW_NEXT);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, EXC_DB * 16);
    ck_assert_uint_eq(at32(cpu->core.rsp), 0x10003);
    ck_assert(at32(cpu->core.rsp + 8) & FL_TF);
    ck_assert(!(cpu->event.attention & ATT_STEP));
}
END_TEST

START_TEST(branch_trap_flag)
{
    start_busy();
    cpu->core.rflags_rest |= FL_TF;
    cpu->sys.debugctl = 2;
    cpu_mode_update(cpu);
    cpu_service_events(cpu);
    cpu->block_rip = cpu->core.rip++;
    after(FLOW_NEXT);
    ck_assert_uint_eq(cpu->event.pending_debug, 0);
    cpu_service_events(cpu);
    cpu->block_rip = cpu->core.rip;
    cpu->core.rip = 0x20000;
    after(FLOW_END);
    ck_assert_uint_eq(cpu->event.pending_debug, DR6_BS);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, EXC_DB * 16);
    ck_assert_uint_eq(cpu->sys.debugctl, 0);
}
END_TEST

/* A string instruction with iterations to go keeps RF, so that its own breakpoint lets it go on. */
START_TEST(repeated_string_keeps_rf)
{
    static const struct insn repeated = {.length = 2, .flags = INSN_REP};
    start_busy();
    cpu->sys.dr[0] = 0x10000;
    cpu->sys.dr7 |= 2;
    cpu->core.rflags_rest |= FL_RF;
    cpu_mode_update(cpu);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    cpu->block_rip = cpu->core.rip;
    cpu_after_step(cpu, FLOW_END, &repeated);
    ck_assert(cpu->core.rflags_rest & FL_RF);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    cpu->core.rip += 2;
    cpu_after_step(cpu, FLOW_NEXT, &repeated);
    ck_assert(!(cpu->core.rflags_rest & FL_RF));
}
END_TEST

/* Debug exceptions held back by a load of SS: kept by a software interrupt, lost to a fault; of VM entry's injections only software ones keep them. */
START_TEST(pending_debug_and_other_events)
{
    static const struct { u8 type, vector, injected, blocked; bool kept; } cases[] = {
        {EVT_SOFTWARE_INT, 0x40, 0, 1, true}, {EVT_HARDWARE, EXC_UD, 0, 1, false},       {EVT_HARDWARE, EXC_UD, 1, 1, false},
        {EVT_EXTERNAL, 0x40, 1, 0, false},    {EVT_SOFTWARE_INT, 0x40, 1, 1, true},      {EVT_SOFTWARE_INT, 0x40, 1, 0, false},
        {EVT_PRIV_SOFTWARE, EXC_DB, 1, 1, false},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start_busy();
        cpu_pend_debug(cpu, DR6_BS);
        cpu->event.blocking = cases[n].blocked ? BLOCK_MOV_SS : 0;
        cpu_raise(cpu, cases[n].vector);
        cpu->event.type = cases[n].type;
        cpu->event.injected = cases[n].injected;
        cpu_service_events(cpu);
        ck_assert_uint_eq(cpu->core.rip, cases[n].kept ? EXC_DB * 16 : cases[n].vector * 16);
    }
}
END_TEST

START_TEST(no_trap_behind_a_software_interrupt)
{
    start_busy();
    cpu->core.rflags_rest |= FL_TF;
    cpu_mode_update(cpu);
    cpu_service_events(cpu);
    after(run(h_int3, (struct insn){.length = 1}));
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, EXC_BP * 16);
    ck_assert_uint_eq(at32(cpu->core.rsp), 0x10001);
}
END_TEST

START_TEST(code_breakpoint_and_rf)
{
    start_busy();
    cpu->sys.dr[1] = 0x10000;
    cpu->sys.dr7 |= 2 << 2;
    cpu_mode_update(cpu);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, EXC_DB * 16);
    ck_assert_uint_eq(cpu->sys.dr6 & 0xf, 2);
    ck_assert_uint_eq(at32(cpu->core.rsp), 0x10000);
    ck_assert(!(at32(cpu->core.rsp + 8) & FL_RF)); /* the handler must set it */
    put(cpu->core.rsp + 8, at32(cpu->core.rsp + 8) | FL_RF, 4);
    cpu_service_events(cpu);
    run(h_iret, (struct insn){.osz = OSZ_32});
    after(FLOW_END);
    ck_assert(cpu->core.rflags_rest & FL_RF);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, 0x10000);
    cpu->core.rip += 1;
    after(FLOW_NEXT);
    ck_assert(!(cpu->core.rflags_rest & FL_RF));
}
END_TEST

START_TEST(breakpoint_on_its_own_handler_cannot_hang)
{
    start_long();
    idt64(EXC_DB, CODE64, 0x200, 0x8e, 1);
    cpu->sys.dr[0] = 0x200;
    cpu->sys.dr7 |= 2;
    cpu->core.rip = 0x200;
    cpu_mode_update(cpu);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_EVENT);
    ck_assert_uint_eq(cpu->core.rsp, STACK_IST - 40);
}
END_TEST

START_TEST(nmi_is_blocked_until_iret)
{
    start_busy();
    cpu_signal(cpu, ATT_NMI, 0, true);
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, EXC_NMI * 16);
    ck_assert(cpu->event.blocking & BLOCK_NMI);
    cpu_signal(cpu, ATT_NMI, 0, true);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, EXC_NMI * 16);
    run(h_iret, (struct insn){.osz = OSZ_32});
    ck_assert(!(cpu->event.blocking & BLOCK_NMI));
    cpu_service_events(cpu);
    ck_assert_uint_eq(cpu->core.rip, EXC_NMI * 16);
    ck_assert_uint_eq(at32(cpu->core.rsp), 0x10000);
}
END_TEST

START_TEST(init_then_sipi)
{
    start_busy();
    cpu->sys.apic_base &= ~BIT(8);
    cpu_signal(cpu, ATT_INIT, 0, true);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_END);
    ck_assert_uint_eq(cpu->event.activity, ACTIVITY_WAIT_SIPI);
    ck_assert(cpu->mode.real);
    cpu_signal(cpu, ATT_NMI, 0, true);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_END);
    cpu_signal(cpu, ATT_NMI, 0, false);
    cpu_signal(cpu, ATT_SIPI, 0x9a, true);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, 0x9a00);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].base, 0x9a000);
    ck_assert_uint_eq(cpu->core.rip, 0);
    cpu_signal(cpu, ATT_SIPI, 0x11, true); /* a second one is lost */
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, 0x9a00);
}
END_TEST

START_TEST(init_of_the_bootstrap_processor_restarts_it)
{
    start_busy();
    cpu_signal(cpu, ATT_INIT, 0, true);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, 0xfff0);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].base, 0xffff0000);
}
END_TEST

START_TEST(nmi_leaves_shutdown)
{
    start_busy();
    cpu->event.activity = ACTIVITY_SHUTDOWN;
    cpu->event.attention |= ATT_ACTIVITY;
    interrupt(0x40);
    cpu->core.rflags_rest |= FL_IF;
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_END);
    cpu_signal(cpu, ATT_NMI, 0, true);
    ck_assert_int_eq(cpu_service_events(cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rip, EXC_NMI * 16);
}
END_TEST

START_TEST(general_detect_pushes_rf_and_clears_gd)
{
    start_busy();
    cpu->sys.dr7 |= DR7_GD;
    cpu_raise_db(cpu, DR6_BD);
    cpu_service_events(cpu);
    ck_assert(!(cpu->sys.dr7 & DR7_GD));
    ck_assert(cpu->sys.dr6 & DR6_BD);
    ck_assert(at32(cpu->core.rsp + 8) & FL_RF);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("event");
    TCase *t = suite_case(suite, "delivery");
    tcase_add_test(t, real_mode_interrupt);
    tcase_add_test(t, real_mode_stack_wraps);
    tcase_add_test(t, real_mode_beyond_table_is_a_fault);
    tcase_add_test(t, same_level_fault);
    tcase_add_test(t, trap_gate_keeps_interrupts);
    tcase_add_test(t, inner_level_switches_stacks);
    tcase_add_test(t, sixteen_bit_gate);
    tcase_add_test(t, conforming_handler_keeps_the_level);
    tcase_add_test(t, error_codes);
    tcase_add_test(t, software_interrupt_needs_the_gate_s_level);
    tcase_add_test(t, inner_stack_is_checked);
    tcase_add_test(t, tss_too_short);
    tcase_add_test(t, v8086_to_ring_0);
    tcase_add_test(t, v8086_handler_must_be_ring_0);
    tcase_add_test(t, v8086_int_n_and_iopl);
    tcase_add_test(t, vme_redirects_and_virtualises_if);
    tcase_add_test(t, long_mode_aligns_the_stack);
    tcase_add_test(t, long_mode_ring_change_nulls_ss);
    tcase_add_test(t, interrupt_stack_table);
    tcase_add_test(t, long_mode_gate_checks);
    tcase_add_test(t, page_fault_sets_cr2_unless_injected);
    t = suite_case(suite, "nested");
    tcase_add_test(t, page_fault_while_delivering_a_page_fault_is_a_double_fault);
    tcase_add_test(t, page_fault_after_contributory_is_serial);
    tcase_add_test(t, contributory_pair_is_a_double_fault);
    tcase_add_test(t, benign_first_event_is_serial);
    tcase_add_test(t, triple_fault_shuts_down);
    t = suite_case(suite, "between");
    tcase_add_test(t, masked_interrupt_waits);
    tcase_add_test(t, sti_shadow_lasts_one_instruction);
    tcase_add_test(t, sti_hlt_wakes);
    tcase_add_test(t, load_of_ss_holds_everything_back);
    tcase_add_test(t, single_step_traps_after_the_instruction);
    tcase_add_test(t, branch_trap_flag);
    tcase_add_test(t, repeated_string_keeps_rf);
    tcase_add_test(t, pending_debug_and_other_events);
    tcase_add_test(t, no_trap_behind_a_software_interrupt);
    tcase_add_test(t, code_breakpoint_and_rf);
    tcase_add_test(t, breakpoint_on_its_own_handler_cannot_hang);
    tcase_add_test(t, nmi_is_blocked_until_iret);
    tcase_add_test(t, init_then_sipi);
    tcase_add_test(t, init_of_the_bootstrap_processor_restarts_it);
    tcase_add_test(t, nmi_leaves_shutdown);
    tcase_add_test(t, general_detect_pushes_rf_and_clears_gd);
    return suite_run(suite, CK_NOFORK);
}
