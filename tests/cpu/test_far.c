/* Far JMP, CALL, RET and IRET, fast system calls, and the instructions on RFLAGS. */
#include "tests/cpu/transfer.h"

enum { TARGET = 0x4321, RIP = 0x100 };

static struct insn far(u16 selector, u64 offset)
{
    return (struct insn){.selector = selector, .imm = offset, .osz = OSZ_32, .length = 7};
}

START_TEST(direct_jump_loads_cs)
{
    start_protected();
    ck_assert_int_eq(run(h_jmp_far_direct, far(CODE16, TARGET)), FLOW_END);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, CODE16);
    ck_assert_uint_eq(cpu->core.rip, TARGET);
    ck_assert_uint_eq(cpu->mode.code_bits, BITS_16);
}
END_TEST

START_TEST(direct_jump_checks)
{
    static const struct { u16 selector; u64 offset; unsigned vector; u32 error; } cases[] = {
        {0, TARGET, EXC_GP, 0}, {3, TARGET, EXC_GP, 0}, {0x200, TARGET, EXC_GP, 0x200}, {0x0c, TARGET, EXC_GP, 0x0c}, {DATA0, TARGET, EXC_GP, DATA0},
        {CODE3, TARGET, EXC_GP, CODE3 & ~3}, {CODE0 | 1, TARGET, EXC_GP, CODE0}, {FREE, TARGET, EXC_NP, FREE}, {CODE16, 0x10000, EXC_GP, 0},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start_protected();
        gdt(FREE, descriptor(0, 0xfffff, 0x1b, 0xc));
        ck_assert_int_eq(run(h_jmp_far_direct, far(cases[n].selector, cases[n].offset)), FLOW_EVENT);
        ASSERT_EVENT(cases[n].vector, cases[n].error);
        ck_assert_uint_eq(cpu->core.rip, RIP);
        ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, CODE0);
    }
}
END_TEST

START_TEST(conforming_jump_keeps_the_level)
{
    start_protected();
    ring(CODE3, DATA3, STACK3);
    ck_assert_int_eq(run(h_jmp_far_direct, far(CONFORMING, TARGET)), FLOW_END);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, CONFORMING | 3);
    ck_assert_uint_eq(cpu->mode.cpl, 3);
}
END_TEST

START_TEST(call_and_return_at_the_same_level)
{
    start_protected();
    ck_assert_int_eq(run(h_call_far_direct, far(CODE0, TARGET)), FLOW_END);
    ck_assert_uint_eq(cpu->core.rsp, STACK0 - 8);
    ck_assert_uint_eq(at32(STACK0 - 8), RIP + 7);
    ck_assert_uint_eq(at32(STACK0 - 4), CODE0);
    ck_assert_int_eq(run(h_ret_far_imm, (struct insn){.osz = OSZ_32, .imm = 0x10}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rip, RIP + 7);
    ck_assert_uint_eq(cpu->core.rsp, STACK0 + 0x10);
}
END_TEST

START_TEST(call_faults_before_it_changes_anything)
{
    start_protected();
    cpu->seg.s[SEG_SS].limit = STACK0 - 5;
    ck_assert_int_eq(run(h_call_far_direct, far(CODE0, TARGET)), FLOW_EVENT);
    ASSERT_EVENT(EXC_SS, 0);
    ck_assert_uint_eq(cpu->core.rsp, STACK0);
    ck_assert_uint_eq(at32(STACK0 - 8), 0);
}
END_TEST

START_TEST(call_gate_copies_parameters)
{
    start_protected();
    gdt(GATE, gate(CODE0, TARGET, 0xec, 3));
    ring(CODE3, DATA3, STACK3 - 12);
    put(STACK3 - 12, 0x111, 4), put(STACK3 - 8, 0x222, 4), put(STACK3 - 4, 0x333, 4);
    ck_assert_int_eq(run(h_call_far_direct, far(GATE | 3, 0xffffffff)), FLOW_END);
    ck_assert_uint_eq(cpu->mode.cpl, 0);
    ck_assert_uint_eq(cpu->core.rip, TARGET);
    static const u32 frame[] = {RIP + 7, CODE3, 0x111, 0x222, 0x333, STACK3 - 12, DATA3};
    ck_assert_uint_eq(cpu->core.rsp, STACK0 - 28);
    for (unsigned n = 0; n < ARRAY_SIZE(frame); n++)
        ck_assert_uint_eq(at32(STACK0 - 28 + 4 * n), frame[n]);
    /* RETF 12 drops them on both stacks, and segments of the inner level. */
    load(SEG_DS, DATA0);
    load(SEG_FS, CONFORMING);
    ck_assert_int_eq(run(h_ret_far_imm, (struct insn){.osz = OSZ_32, .imm = 12}), FLOW_END);
    ck_assert_uint_eq(cpu->mode.cpl, 3);
    ck_assert_uint_eq(cpu->core.rsp, STACK3);
    ck_assert_uint_eq(cpu->core.rip, RIP + 7);
    ck_assert_uint_eq(cpu->seg.s[SEG_DS].selector, 0);
    ck_assert(cpu->seg.s[SEG_DS].access & AR_UNUSABLE);
    ck_assert_uint_eq(cpu->seg.s[SEG_ES].selector, DATA3);
    ck_assert_uint_eq(cpu->seg.s[SEG_FS].selector, CONFORMING);
}
END_TEST

START_TEST(call_gate_checks)
{
    start_protected();
    gdt(GATE, gate(CODE0, TARGET, 0x8c, 0));
    ring(CODE3, DATA3, STACK3);
    run(h_call_far_direct, far(GATE | 3, 0));
    ASSERT_EVENT(EXC_GP, GATE); /* the gate's DPL */
    gdt(GATE, gate(CODE0, TARGET, 0x6c, 0));
    run(h_call_far_direct, far(GATE | 3, 0));
    ASSERT_EVENT(EXC_NP, GATE);
    gdt(GATE, gate(0, TARGET, 0xec, 0));
    run(h_call_far_direct, far(GATE | 3, 0));
    ASSERT_EVENT(EXC_GP, 0);
    gdt(GATE, gate(DATA0, TARGET, 0xec, 0));
    run(h_call_far_direct, far(GATE | 3, 0));
    ASSERT_EVENT(EXC_GP, DATA0);
    gdt(GATE, gate(CODE0, TARGET, 0xec, 0));
    run(h_jmp_far_direct, far(GATE | 3, 0));
    ASSERT_EVENT(EXC_GP, CODE0); /* JMP does not change the level */
    put(TSS + 8, DATA3, 4);
    run(h_call_far_direct, far(GATE | 3, 0));
    ASSERT_EVENT(EXC_TS, DATA3 & ~3);
    ck_assert_uint_eq(cpu->mode.cpl, 3);
    ck_assert_uint_eq(cpu->core.rsp, STACK3);
}
END_TEST

START_TEST(long_mode_call_gate)
{
    start_long();
    gdt(GATE, gate(CODE64, TARGET, 0xec, 0));
    gdt(GATE + 8, 0x12);
    ring3_long();
    put(0x700, 0, 4);
    put(0x704, GATE | 3, 2);
    ck_assert_int_eq(run(h_call_far_indirect, (struct insn){.flags = INSN_MEM | INSN_FLAT, .seg = SEG_NONE, .disp = 0x700, .osz = OSZ_32}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rip, 0x1200004321ull);
    ck_assert_uint_eq(cpu->core.rsp, STACK0 - 32);
    ck_assert_uint_eq(at64(STACK0 - 8), DATA3);
    ck_assert_uint_eq(at64(STACK0 - 16), STACK3);
    ck_assert_uint_eq(at64(STACK0 - 24), CODE64_3);
    ck_assert_uint_eq(cpu->seg.s[SEG_SS].selector, 0);
    /* A type in the upper half is refused. */
    ring3_long();
    gdt(GATE + 8, 0x12 | BIT(40));
    cpu->core.rip = RIP;
    run(h_call_far_indirect, (struct insn){.flags = INSN_MEM | INSN_FLAT, .seg = SEG_NONE, .disp = 0x700, .osz = OSZ_32});
    ASSERT_EVENT(EXC_GP, GATE);
}
END_TEST

START_TEST(long_mode_far_return_to_compatibility_mode)
{
    start_long();
    cpu->core.rsp = STACK0 - 16;
    put(STACK0 - 16, TARGET, 8);
    put(STACK0 - 8, CODE0, 8);
    ck_assert_int_eq(run(h_ret_far, (struct insn){.osz = OSZ_64}), FLOW_END);
    ck_assert_uint_eq(cpu->mode.code_bits, BITS_32);
    ck_assert_uint_eq(cpu->core.rip, TARGET);
    start_long();
    cpu->core.rsp = STACK0 - 16;
    put(STACK0 - 16, BIT(32), 8); /* beyond the limit of 32-bit code */
    put(STACK0 - 8, CODE0, 8);
    ck_assert_int_eq(run(h_ret_far, (struct insn){.osz = OSZ_64}), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
}
END_TEST

START_TEST(real_mode_far_call)
{
    start_real();
    struct insn in = far(0x3000, TARGET);
    in.osz = OSZ_16;
    in.length = 5;
    ck_assert_int_eq(run(h_call_far_direct, in), FLOW_END);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].base, 0x30000);
    ck_assert_uint_eq(at16(0x7ffc), RIP + 5);
    ck_assert_uint_eq(at16(0x7ffe), 0x1000);
    ck_assert_int_eq(run(h_ret_far, (struct insn){.osz = OSZ_16}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rip, RIP + 5);
    in.osz = OSZ_32;
    in.imm = 0x10000;
    ck_assert_int_eq(run(h_jmp_far_direct, in), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
}
END_TEST

/* ---- IRET ---------------------------------------------------------------------------------------------------------- */

static void frame64(u64 rip, u16 cs, u64 rflags, u64 rsp, u16 ss)
{
    cpu->core.rsp = STACK0 - 40;
    put(STACK0 - 40, rip, 8), put(STACK0 - 32, cs, 8), put(STACK0 - 24, rflags, 8), put(STACK0 - 16, rsp, 8), put(STACK0 - 8, ss, 8);
}

START_TEST(iretq_checks)
{
    static const struct { u64 rip; u16 cs; u16 ss; unsigned vector; u32 error; } cases[] = {
        {TARGET, 0, 0, EXC_GP, 0},
        {TARGET, DATA0, 0, EXC_GP, DATA0},
        {TARGET, CODE64 | 3, DATA3, EXC_GP, CODE64},           /* DPL is not RPL */
        {0x8000000000000000ull, CODE64, DATA0, EXC_GP, 0},     /* not canonical */
        {TARGET, CODE64_3, 0, EXC_GP, 0},                      /* null SS for ring 3 */
        {TARGET, CODE64_3, DATA0, EXC_GP, DATA0},
        {TARGET, CODE64_3, CODE64_3, EXC_GP, CODE64_3 & ~3},
        {TARGET, CODE64_3, FREE | 3, EXC_SS, FREE},
        {TARGET, CODE0, 0, EXC_GP, 0},                         /* null SS for compatibility mode */
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start_long();
        gdt(FREE, descriptor(0, 0xfffff, 0x73, 0xc));
        frame64(cases[n].rip, cases[n].cs, FL_R1, STACK3, cases[n].ss);
        ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_64}), FLOW_EVENT);
        ASSERT_EVENT(cases[n].vector, cases[n].error);
        ck_assert_uint_eq(cpu->core.rsp, STACK0 - 40);
        ck_assert_uint_eq(cpu->core.rip, RIP);
    }
}
END_TEST

START_TEST(iretq_at_the_same_level_pops_the_stack_too)
{
    start_long();
    frame64(TARGET, CODE64, FL_R1 | FL_IF | FL_AC | FL_RF, 0x7777, 0);
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_64}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rsp, 0x7777);
    ck_assert_uint_eq(cpu->seg.s[SEG_SS].selector, 0);
    ck_assert_uint_eq(cpu_rflags(cpu), FL_R1 | FL_IF | FL_AC | FL_RF);
}
END_TEST

START_TEST(iret_keeps_fs_base_of_a_null_selector)
{
    start_long();
    segment_make_null(&cpu->seg.s[SEG_FS], 0, 0);
    cpu->seg.s[SEG_FS].base = 0x123456;
    frame64(TARGET, CODE64_3, FL_R1, STACK3, DATA3);
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_64}), FLOW_END);
    ck_assert_uint_eq(cpu->seg.s[SEG_FS].base, 0x123456);
    ck_assert_uint_eq(cpu->seg.s[SEG_DS].selector, 0); /* was a ring-0 segment */
}
END_TEST

START_TEST(iret_to_a_16_bit_stack_keeps_the_upper_bits)
{
    start_long();
    gdt(FREE, descriptor(0, 0xffff, 0xf3, 0));
    frame64(TARGET, CODE3, FL_R1, 0x12345678, FREE | 3);
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_64}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rsp, ((STACK0 - 40) & ~0xffffu) | 0x5678);
    ck_assert_uint_eq(cpu->mode.stack_bits, BITS_16);
}
END_TEST

START_TEST(iret_flags_by_level)
{
    u32 all = FL_STATUS | FL_R1 | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_RF | FL_AC | FL_VIF | FL_VIP | FL_ID;
    start_protected();
    cpu->core.rsp = STACK0 - 12;
    put(STACK0 - 12, TARGET, 4), put(STACK0 - 8, CODE0, 4), put(STACK0 - 4, all, 4);
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_32}), FLOW_END);
    ck_assert_uint_eq(cpu_rflags(cpu), all);
    start_protected();
    ring(CODE3, DATA3, STACK3 - 12);
    put(STACK3 - 12, TARGET, 4), put(STACK3 - 8, CODE3, 4), put(STACK3 - 4, all, 4);
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_32}), FLOW_END);
    ck_assert_uint_eq(cpu_rflags(cpu), all & ~(u32)(FL_IF | FL_IOPL | FL_VIF | FL_VIP));
    start_protected();
    cpu->core.rsp = STACK0 - 6;
    put(STACK0 - 6, TARGET, 2), put(STACK0 - 4, CODE0, 2), put(STACK0 - 2, 0xffff, 2);
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_16}), FLOW_END);
    ck_assert_uint_eq(cpu_rflags(cpu), FL_STATUS | FL_R1 | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT);
}
END_TEST

START_TEST(nested_task_flag_is_a_fault_in_long_mode)
{
    start_long();
    cpu->core.rflags_rest |= FL_NT;
    frame64(TARGET, CODE64, FL_R1, STACK0, 0);
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_64}), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
}
END_TEST

/* An IRET that faults has unblocked NMIs all the same, and a VM exit on its fault says so. */
START_TEST(faulting_iret_unblocks_nmi)
{
    start_long();
    cpu->event.blocking |= BLOCK_NMI;
    frame64(TARGET, 0, FL_R1, STACK0, 0);
    ck_assert_int_eq(run(h_iret, (struct insn){.osz = OSZ_64}), FLOW_EVENT);
    ck_assert(!(cpu->event.blocking & BLOCK_NMI));
    ck_assert_uint_eq(cpu->event.nmi_unblocking_iret, 1);
}
END_TEST

/* ---- fast system calls --------------------------------------------------------------------------------------------- */

START_TEST(syscall_and_sysret)
{
    start_long();
    cpu->sys.star = (u64)0x1b << 48 | (u64)0x28 << 32;
    cpu->sys.lstar = 0xffffffff80001000ull;
    cpu->sys.fmask = FL_IF | FL_TF | FL_DF;
    ring3_long();
    cpu_set_rflags(cpu, FL_IF | FL_TF | FL_CF);
    ck_assert_int_eq(run(h_syscall, (struct insn){.length = 2}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rip, 0xffffffff80001000ull);
    ck_assert_uint_eq(cpu->core.rcx, RIP + 2);
    ck_assert_uint_eq(cpu->core.r11, FL_IF | FL_TF | FL_CF | FL_R1);
    ck_assert_uint_eq(cpu_rflags(cpu), FL_CF | FL_R1);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, 0x28);
    ck_assert_uint_eq(cpu->seg.s[SEG_SS].selector, 0x30);
    ck_assert_uint_eq(cpu->mode.cpl, 0);
    ck_assert_uint_eq(cpu->mode.code_bits, BITS_64);
    ck_assert_uint_eq(cpu->core.rsp, STACK3);
    ck_assert_uint_eq(cpu->event.pending_debug, 0);

    ck_assert_int_eq(run(h_sysret, (struct insn){.flags = INSN_REX_W, .osz = OSZ_64}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rip, RIP + 2);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, 0x2b);
    ck_assert_uint_eq(cpu->seg.s[SEG_SS].selector, 0x23);
    ck_assert_uint_eq(cpu->mode.cpl, 3);
    ck_assert_uint_eq(cpu_rflags(cpu), FL_IF | FL_TF | FL_CF | FL_R1);
    ck_assert_uint_eq(cpu->event.pending_debug, DR6_BS); /* the TF it loads traps at once */

    start_long();
    cpu->sys.star = (u64)0x1b << 48;
    cpu->core.rcx = 0xffffffff00001234ull;
    ck_assert_int_eq(run(h_sysret, (struct insn){.osz = OSZ_32}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rip, 0x1234);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, 0x1b);
    ck_assert_uint_eq(cpu->mode.code_bits, BITS_32);
}
END_TEST

START_TEST(syscall_faults)
{
    start_long();
    cpu->sys.efer &= ~(u64)EFER_SCE;
    ck_assert_int_eq(run(h_syscall, (struct insn){.length = 2}), FLOW_EVENT);
    ck_assert_uint_eq(cpu->event.vector, EXC_UD);
    start_long();
    cpu->core.rcx = BIT(63);
    ck_assert_int_eq(run(h_sysret, (struct insn){.flags = INSN_REX_W, .osz = OSZ_64}), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
    ring3_long();
    cpu->core.rcx = 0;
    ck_assert_int_eq(run(h_sysret, (struct insn){.flags = INSN_REX_W, .osz = OSZ_64}), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
}
END_TEST

START_TEST(sysenter_and_sysexit)
{
    start_protected();
    ring(CODE3, DATA3, STACK3);
    ck_assert_int_eq(run(h_sysenter, (struct insn){.length = 2}), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
    forget();
    cpu->sys.sysenter_cs = CODE0;
    cpu->sys.sysenter_esp = 0x6000;
    cpu->sys.sysenter_eip = TARGET;
    cpu->core.rflags_rest |= FL_IF;
    ck_assert_int_eq(run(h_sysenter, (struct insn){.length = 2}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rip, TARGET);
    ck_assert_uint_eq(cpu->core.rsp, 0x6000);
    ck_assert_uint_eq(cpu->mode.cpl, 0);
    ck_assert(!(cpu->core.rflags_rest & FL_IF));
    ck_assert_uint_eq(cpu->seg.s[SEG_SS].selector, DATA0);
    cpu->core.rcx = STACK3;
    cpu->core.rdx = 0x9999;
    ck_assert_int_eq(run(h_sysexit, (struct insn){.osz = OSZ_32}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rip, 0x9999);
    ck_assert_uint_eq(cpu->core.rsp, STACK3);
    ck_assert_uint_eq(cpu->seg.s[SEG_CS].selector, CODE3);
    ck_assert_uint_eq(cpu->seg.s[SEG_SS].selector, DATA3);
    ck_assert_uint_eq(cpu->mode.cpl, 3);
}
END_TEST

/* ---- RFLAGS ---------------------------------------------------------------------------------------------------------- */

START_TEST(popf_by_level)
{
    u32 all = FL_STATUS | FL_R1 | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | FL_VIP | FL_ID;
    u32 plain = FL_STATUS | FL_R1 | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID;
    start_protected();
    cpu->core.rflags_rest |= FL_RF;
    put(STACK0, all, 4);
    ck_assert_int_eq(run(h_popf, (struct insn){.osz = OSZ_32}), FLOW_END);
    ck_assert_uint_eq(cpu_rflags(cpu), plain | FL_IF | FL_IOPL);
    ck_assert(cpu->event.attention & ATT_STEP);
    start_protected();
    ring(CODE3, DATA3, STACK3);
    put(STACK3, all, 4);
    run(h_popf, (struct insn){.osz = OSZ_32});
    ck_assert_uint_eq(cpu_rflags(cpu), plain);
    start_protected();
    ring(CODE3, DATA3, STACK3);
    cpu->core.rflags_rest |= FL_IOPL | FL_IF;
    put(STACK3, FL_R1, 4);
    run(h_popf, (struct insn){.osz = OSZ_32});
    ck_assert_uint_eq(cpu_rflags(cpu), FL_R1 | FL_IOPL);
}
END_TEST

START_TEST(pushf_hides_rf_and_vm)
{
    start_protected();
    cpu_set_rflags(cpu, FL_RF | FL_CF | FL_AC);
    ck_assert_int_eq(run(h_pushf, (struct insn){.osz = OSZ_32}), FLOW_NEXT);
    ck_assert_uint_eq(at32(STACK0 - 4), FL_R1 | FL_CF | FL_AC);
}
END_TEST

START_TEST(protected_mode_virtual_interrupts)
{
    start_protected();
    ring(CODE3, DATA3, STACK3);
    ck_assert_int_eq(run(h_cli, (struct insn){.length = 1}), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
    forget();
    cpu->sys.cr4 |= CR4_PVI;
    cpu->core.rflags_rest |= FL_IF;
    ck_assert_int_eq(run(h_sti, (struct insn){.length = 1}), FLOW_END);
    ck_assert(cpu->core.rflags_rest & FL_VIF);
    ck_assert(!(cpu->event.blocking & BLOCK_STI));
    ck_assert_int_eq(run(h_cli, (struct insn){.length = 1}), FLOW_NEXT);
    ck_assert(!(cpu->core.rflags_rest & FL_VIF));
    ck_assert(cpu->core.rflags_rest & FL_IF);
    cpu->core.rflags_rest |= FL_VIP;
    ck_assert_int_eq(run(h_sti, (struct insn){.length = 1}), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
}
END_TEST

START_TEST(bound_compares_signed)
{
    start_protected();
    put(0x700, (u32)-5, 4), put(0x704, 7, 4);
    struct insn in = {.flags = INSN_MEM, .disp = 0x700, .osz = OSZ_32, .reg = REG_RAX, .arch_seg = SEG_DS};
    static const struct { u32 index; bool inside; } cases[] = {{0, true}, {7, true}, {8, false}, {(u32)-5, true}, {(u32)-6, false}};
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        cpu->core.rax = cases[n].index;
        ck_assert_int_eq(run(h_bound, in), cases[n].inside ? FLOW_NEXT : FLOW_EVENT);
        if (!cases[n].inside)
            ck_assert_uint_eq(cpu->event.vector, EXC_BR);
        forget();
    }
}
END_TEST

START_TEST(into_follows_of)
{
    start_protected();
    ck_assert_int_eq(run(h_into, (struct insn){.length = 1}), FLOW_NEXT);
    flags_set_status(cpu, FL_OF);
    ck_assert_int_eq(run(h_into, (struct insn){.length = 1}), FLOW_EVENT);
    ck_assert_uint_eq(cpu->event.type, EVT_SOFTWARE);
    ck_assert_uint_eq(cpu->event.insn_length, 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        direct_jump_loads_cs, direct_jump_checks, conforming_jump_keeps_the_level, call_and_return_at_the_same_level,
        call_faults_before_it_changes_anything, call_gate_copies_parameters, call_gate_checks, long_mode_call_gate,
        long_mode_far_return_to_compatibility_mode, real_mode_far_call, iretq_checks,
        iretq_at_the_same_level_pops_the_stack_too, iret_keeps_fs_base_of_a_null_selector,
        iret_to_a_16_bit_stack_keeps_the_upper_bits, iret_flags_by_level, nested_task_flag_is_a_fault_in_long_mode,
        faulting_iret_unblocks_nmi, syscall_and_sysret, syscall_faults, sysenter_and_sysexit, popf_by_level,
        pushf_hides_rf_and_vm, protected_mode_virtual_interrupts, bound_compares_signed, into_follows_of,
    };
    return suite_run_tests("far", tests, ARRAY_SIZE(tests), NULL, NULL, CK_NOFORK);
}
